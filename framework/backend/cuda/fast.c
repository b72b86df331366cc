/* The fast tier: the launches of a lowering pass through here, and those of the four contraction kernels become calls of
 * cuBLASLt. All else, a product whose result does not lie in rows (conv_dx with a stride), and one onto a value that is kept, runs as in the exact tier.
 *
 * cuBLASLt wants plain matrices: each operand has stride 1 along one of its two axes. One that has and is of the right type is
 * read where it lies; any other is packed into the workspace first (body_fast.h): rounded to bf16, or a convolution's pixels
 * under its taps, a tile at a time so that the workspace stays bounded. A result in rows is a matrix in the library's
 * order of columns read as its transpose, so its A is our b and its B our a.
 *
 * Own bits repeat on one device and toolkit: the algorithm is the first the library names for problem, alignment and
 * workspace, all of which the graph fixes, and no scheme is allowed that adds partial sums afterwards. */
#include "backend/cuda/device.h"
#include <cublasLt.h>
#include <stdio.h>
#include <string.h>

enum { LIBRARY_BYTES = 32 << 20, PACK_BYTES = 128 << 20, ALIGN = 256 };
typedef struct {
    lk_cuda_precision precision;
    const lk_kernel_call *call;
    char *library, *packed;             /* workspace: the library's, ours */
    bool measuring; int64_t need;       /* only asks how much of `packed` is used */
} fast;
static cublasLtHandle_t library;

void lk_cuda_fast_version(char *text, size_t room) {
    size_t v = cublasLtGetVersion();
    snprintf(text, room, "cuBLASLt %zu", v);
}
lk_err lk_cuda_fast_open(void) {
    if (library) return LK_OK;
    cublasStatus_t s = cublasLtCreate(&library);
    return s == CUBLAS_STATUS_SUCCESS ? LK_OK : lk_error(LK_ESTATE, "backend=cuda: cuBLASLt cannot be opened (status %d); backend=cuda without it is the exact tier", (int)s);
}
void lk_cuda_fast_close(void) {
    if (library) cublasLtDestroy(library);
    library = NULL;
}

/* ---- one call of the library ------------------------------------------------------------------------------------------ */
/* Element (row, k) at row * ld + k where by_k, else at k * ld + row. */
typedef struct { const void *data; bool bf16, by_k; int64_t ld, step; } matrix;
typedef struct { int64_t m, n, k, batches, ldc, step; float *c; float alpha, beta; const float *bias; /* by column of c, or NULL */ } problem;

static uint32_t alignment_of(const void *p, int64_t ld, int64_t step, int bytes) {
    uint64_t bits = (uint64_t)(uintptr_t)p | (uint64_t)(ld * bytes) | (uint64_t)(step * bytes) | ALIGN;
    return (uint32_t)(bits & -bits);
}
static bool layout(cublasLtMatrixLayout_t *l, bool bf16, int64_t rows, int64_t columns, int64_t ld, int64_t batches, int64_t step) {
    int32_t count = (int32_t)batches;
    return cublasLtMatrixLayoutCreate(l, bf16 ? CUDA_R_16BF : CUDA_R_32F, (uint64_t)rows, (uint64_t)columns, ld) == CUBLAS_STATUS_SUCCESS
        && cublasLtMatrixLayoutSetAttribute(*l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count) == CUBLAS_STATUS_SUCCESS
        && cublasLtMatrixLayoutSetAttribute(*l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &step, sizeof step) == CUBLAS_STATUS_SUCCESS;
}
static bool describe(cublasLtMatmulDesc_t *d, lk_cuda_precision p, bool trans_a, bool trans_b, const float *bias) {
    const int32_t ops[] = {trans_a ? CUBLAS_OP_T : CUBLAS_OP_N, trans_b ? CUBLAS_OP_T : CUBLAS_OP_N};
    const cublasLtEpilogue_t epilogue = bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    return cublasLtMatmulDescCreate(d, p == LK_CUDA_TF32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS
        && cublasLtMatmulDescSetAttribute(*d, CUBLASLT_MATMUL_DESC_TRANSA, &ops[0], sizeof ops[0]) == CUBLAS_STATUS_SUCCESS
        && cublasLtMatmulDescSetAttribute(*d, CUBLASLT_MATMUL_DESC_TRANSB, &ops[1], sizeof ops[1]) == CUBLAS_STATUS_SUCCESS
        && cublasLtMatmulDescSetAttribute(*d, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue) == CUBLAS_STATUS_SUCCESS
        && (!bias || cublasLtMatmulDescSetAttribute(*d, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias) == CUBLAS_STATUS_SUCCESS);
}
static bool prefer(cublasLtMatmulPreference_t *f, const uint32_t align[4]) {
    const size_t bytes = LIBRARY_BYTES;
    const uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_NONE;
    static const cublasLtMatmulPreferenceAttributes_t names[] = {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                                                                 CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    bool ok = cublasLtMatmulPreferenceCreate(f) == CUBLAS_STATUS_SUCCESS
           && cublasLtMatmulPreferenceSetAttribute(*f, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes) == CUBLAS_STATUS_SUCCESS
           && cublasLtMatmulPreferenceSetAttribute(*f, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof schemes) == CUBLAS_STATUS_SUCCESS;
    for (int i = 0; i < 4; i++) ok = ok && cublasLtMatmulPreferenceSetAttribute(*f, names[i], &align[i], sizeof align[i]) == CUBLAS_STATUS_SUCCESS;
    return ok;
}
/* c = alpha a b + beta c (+ bias). */
static void multiply(const fast *f, const matrix *a, const matrix *b, const problem *p) {
    cublasLtMatmulDesc_t d = NULL;
    cublasLtMatrixLayout_t la = NULL, lb = NULL, lc = NULL;
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t found;
    int n = 0;
    const uint32_t align_c = alignment_of(p->c, p->ldc, p->step, 4);
    const uint32_t align[] = {alignment_of(b->data, b->ld, b->step, b->bf16 ? 2 : 4), alignment_of(a->data, a->ld, a->step, a->bf16 ? 2 : 4), align_c, align_c};
    bool ok = describe(&d, f->precision, b->by_k, !a->by_k, p->bias) && prefer(&preference, align)
           && layout(&la, b->bf16, b->by_k ? p->k : p->n, b->by_k ? p->n : p->k, b->ld, p->batches, b->step)
           && layout(&lb, a->bf16, a->by_k ? p->k : p->m, a->by_k ? p->m : p->k, a->ld, p->batches, a->step)
           && layout(&lc, false, p->n, p->m, p->ldc, p->batches, p->step);
    cublasStatus_t s = ok ? cublasLtMatmulAlgoGetHeuristic(library, d, la, lb, lc, lc, preference, 1, &found, &n) : CUBLAS_STATUS_ALLOC_FAILED;
    if (s == CUBLAS_STATUS_SUCCESS && n < 1) s = CUBLAS_STATUS_NOT_SUPPORTED;
    if (s == CUBLAS_STATUS_SUCCESS)
        s = cublasLtMatmul(library, d, &p->alpha, b->data, la, a->data, lb, &p->beta, p->c, lc, p->c, lc, &found.algo, f->library, LIBRARY_BYTES, lk_cuda_now.stream);
    if (s != CUBLAS_STATUS_SUCCESS)
        lk_cuda_failed("cuBLASLt: product %lld x %lld x %lld, %lld times: status %d; backend=cuda without it is the exact tier", (long long)p->m, (long long)p->n, (long long)p->k, (long long)p->batches, (int)s);
    if (preference) cublasLtMatmulPreferenceDestroy(preference);
    if (la) cublasLtMatrixLayoutDestroy(la);
    if (lb) cublasLtMatrixLayoutDestroy(lb);
    if (lc) cublasLtMatrixLayoutDestroy(lc);
    if (d) cublasLtMatmulDescDestroy(d);
}

/* ---- operands ----------------------------------------------------------------------------------------------------------- */
typedef struct {
    int side; lk_access access; bool by_tap, kept_bf16;
    bool direct, by_k;                  /* read where it lies; else packed */
    int64_t ld, bytes;                  /* of a packed element */
} operand;
static bool kept_in_bf16(const fast *f, const void *p) {
    for (int i = 0; f->call->half && i < f->call->node->n_in; i++) if (f->call->half[i] && f->call->in[i] == p) return true;
    return false;
}
/* Row and k by one stride each, one of them 1. */
static bool plain(int64_t row, int64_t k, int64_t period, int64_t rows, int64_t depth, operand *o) {
    if (period < depth) return false;
    if (k == 1 && (row >= depth || rows == 1)) { o->by_k = true; o->ld = row >= depth ? row : depth; return true; }
    if (row == 1 && (k >= rows || depth == 1)) { o->by_k = false; o->ld = k >= rows ? k : rows; return true; }
    return false;
}
static operand look_at(const fast *f, const lk_product_args *p, lk_cuda_kernel kernel, int side) {
    operand o = {.side = side, .access = LK_STRIDED, .bytes = f->precision == LK_CUDA_BF16 ? 2 : 4, .kept_bf16 = kept_in_bf16(f, side ? p->b : p->a)};
    if (side && kernel == LK_CUDA_conv) o.access = LK_TAPS;
    if (side && kernel == LK_CUDA_conv_dx) o.access = LK_DX_TAPS;
    if (side && kernel == LK_CUDA_conv_dw) o.access = LK_DW_TAPS;
    if (!side && kernel == LK_CUDA_conv_dx) o.access = LK_DX_WEIGHT;
    o.by_tap = kernel == LK_CUDA_conv;
    o.by_k = side ? o.access == LK_DW_TAPS || (o.access == LK_STRIDED && p->b_k == 1) : o.access == LK_STRIDED && p->a_k == 1;
    const bool right_type = f->precision != LK_CUDA_BF16 || o.kept_bf16;
    const lk_taps_args *t = &p->taps;
    if (!side && kernel == LK_CUDA_conv) { o.by_k = true; o.ld = p->k; o.direct = right_type; }       /* weights as they lie: (o; c, kh, kw) */
    else if (o.access == LK_STRIDED) o.direct = right_type && (side ? plain(p->b_n, p->b_k, p->b_period, p->n, p->k, &o) : plain(p->a_m, p->a_k, p->a_period, p->m, p->k, &o));
    else if (o.access == LK_TAPS && t->kh * t->kw == 1 && t->sh == 1 && t->sw == 1 && !t->top && !t->left && t->oh == t->h && t->ow == t->w) {
        o.by_k = false; o.ld = t->h * t->w; o.direct = right_type;                                        /* 1 x 1: the picture itself */
    }
    return o;
}
/* Rows [row0, row0 + rows) of an operand: where they lie, or packed at `to`. step: between batch elements of the source. */
static matrix rows_of(const lk_product_args *p, const operand *o, const void *base, int64_t step, int64_t batches, int64_t row0, int64_t rows, void *to) {
    if (o->direct) {
        int64_t skip = row0 * (o->by_k ? o->ld : 1);
        return (matrix){(const char *)base + skip * (o->kept_bf16 ? 2 : 4), o->kept_bf16, o->by_k, o->ld, step};
    }
    const int64_t ld = ((o->by_k ? p->k : rows) + 7) / 8 * 8, each = ld * (o->by_k ? rows : p->k);
    lk_pack_args a = {.p = *p, .access = o->access, .from = base, .to = to, .side = o->side, .from_bf16 = o->kept_bf16, .to_bf16 = o->bytes == 2, .by_k = o->by_k, .by_tap = o->by_tap,
                      .row0 = row0, .rows = rows, .ld = ld, .batches = batches, .step = step};
    lk_cuda_enqueue(NULL, LK_CUDA_pack, (batches * rows * p->k + LK_FLAT_BLOCK - 1) / LK_FLAT_BLOCK, &a);
    return (matrix){to, o->bytes == 2, o->by_k, ld, each};
}
static int64_t packed_bytes(const operand *o, int64_t rows, int64_t k, int64_t batches) {
    if (o->direct) return 0;
    int64_t inner = o->by_k ? k : rows, outer = o->by_k ? rows : k;
    return ((inner + 7) / 8 * 8 * outer * batches * o->bytes + ALIGN - 1) / ALIGN * ALIGN;
}
/* Rows a tile may have so that its packing fits. */
static int64_t rows_that_fit(const operand *o, int64_t rows, int64_t k) {
    if (packed_bytes(o, rows, k, 1) <= PACK_BYTES) return rows;
    int64_t fit = PACK_BYTES / ((k + 8) * o->bytes) / 64 * 64;
    return fit < 64 ? 0 : fit;
}

/* ---- a product ----------------------------------------------------------------------------------------------------------- */
typedef struct { int64_t count, a, b, c; } axis;
/* Batch axes longer than 1, neighbours that are one axis joined. */
static int axes_of(const lk_product_args *p, axis *out) {
    int n = 0;
    for (int i = 0; i < p->rank; i++) {
        axis x = {p->lead[i], p->a_lead[i], p->b_lead[i], p->c_lead[i]};
        if (x.count == 1) continue;
        axis *last = n ? &out[n - 1] : NULL;
        if (last && last->a == x.a * x.count && last->b == x.b * x.count && last->c == x.c * x.count) { x.count *= last->count; *last = x; }
        else out[n++] = x;
    }
    return n;
}
static void batch(fast *f, const lk_product_args *p, const operand *oa, const operand *ob, const axis *x, bool bias) {
    const int64_t rows_a = x->count > 1 ? p->m : rows_that_fit(oa, p->m, p->k), rows_b = x->count > 1 ? p->n : rows_that_fit(ob, p->n, p->k);
    const int64_t bytes_a = packed_bytes(oa, rows_a, p->k, x->count), bytes_b = packed_bytes(ob, rows_b, p->k, x->count);
    if (bytes_a + bytes_b > f->need) f->need = bytes_a + bytes_b;
    if (f->measuring) return;
    const float scale = p->scaled ? p->scale : 1;
    for (int64_t m = 0; m < p->m; m += rows_a) {
        const int64_t height = p->m - m < rows_a ? p->m - m : rows_a;
        matrix a = rows_of(p, oa, p->a, x->a, x->count, m, height, f->packed);
        for (int64_t n = 0; n < p->n; n += rows_b) {
            const int64_t width = p->n - n < rows_b ? p->n - n : rows_b;
            matrix b = rows_of(p, ob, p->b, x->b, x->count, n, width, f->packed + bytes_a);
            problem q = {height, width, p->k, x->count, p->c_m, x->c, p->c + m * p->c_m + n, scale, p->onto ? 1 : p->add ? scale : 0, bias ? p->bias + n : NULL};
            multiply(f, &a, &b, &q);
        }
    }
}
static const void *ahead(const void *p, int64_t elements, bool bf16) { return (const char *)p + elements * (bf16 ? 2 : 4); }
/* Over the outer axes; the innermost is the library's batch where its packing fits, else one more loop. */
static void each_batch(fast *f, lk_product_args p, const operand *oa, const operand *ob, const axis *axes, int n, bool bias) {
    static const axis one = {1, 0, 0, 0};
    if (n == 0) { batch(f, &p, oa, ob, &one, bias); return; }
    if (n == 1 && axes->count <= 65535 && packed_bytes(oa, p.m, p.k, axes->count) <= PACK_BYTES && packed_bytes(ob, p.n, p.k, axes->count) <= PACK_BYTES) { batch(f, &p, oa, ob, axes, bias); return; }
    for (int64_t i = 0; i < (f->measuring ? 1 : axes->count); i++) {
        each_batch(f, p, oa, ob, axes + 1, n - 1, bias);
        p.a = ahead(p.a, axes->a, oa->kept_bf16); p.b = ahead(p.b, axes->b, ob->kept_bf16); p.c += axes->c;
    }
}
/* False: the exact kernel does it. */
static bool product(fast *f, lk_cuda_kernel kernel, const lk_product_args *p) {
    axis axes[LK_LEAD];
    const operand a = look_at(f, p, kernel, 0), b = look_at(f, p, kernel, 1);
    const bool in_rows = p->c_n == 1 && (p->c_period >= p->n || p->c_n_far == p->c_period) && (p->c_m >= p->n || p->m == 1);
    const bool in_place = !p->onto || p->onto == p->c || f->measuring;       /* the library adds to what lies in c */
    if (!in_rows || !in_place || p->k == 0 || !rows_that_fit(&a, p->m, p->k) || !rows_that_fit(&b, p->n, p->k)) return false;
    const int n = axes_of(p, axes);
    bool by_column = p->bias && p->bias_m == 0 && p->bias_n == 1 && !p->causal;                    /* the library adds it */
    for (int i = 0; i < p->rank; i++) by_column = by_column && p->bias_lead[i] == 0;
    lk_product_args q = *p;
    if (q.m == 1 && q.c_m < q.n) q.c_m = q.n;
    each_batch(f, q, &a, &b, axes, n, by_column);
    if (f->measuring || by_column || (!p->bias && !p->causal)) return true;
    int64_t all = p->m * p->n;
    for (int i = 0; i < p->rank; i++) all *= p->lead[i];
    q.scaled = 0;
    lk_cuda_enqueue(NULL, LK_CUDA_finish, (all + LK_FLAT_BLOCK - 1) / LK_FLAT_BLOCK, &q);
    return true;
}

/* ---- nodes ----------------------------------------------------------------------------------------------------------------- */
static void launch(void *ctx, lk_cuda_kernel kernel, int64_t blocks, const void *args) {
    fast *f = ctx;
    const bool contraction = kernel == LK_CUDA_product || kernel == LK_CUDA_conv || kernel == LK_CUDA_conv_dx || kernel == LK_CUDA_conv_dw;
    if (contraction && product(f, kernel, args)) return;
    if (!f->measuring) lk_cuda_enqueue(NULL, kernel, blocks, args);
}
static int64_t aligned(int64_t bytes) { return (bytes + ALIGN - 1) / ALIGN * ALIGN; }
static int64_t scores_of(const lk_node *n, const lk_shape *in) { return aligned(lk_cuda_scores(n, in)); }
void lk_cuda_fast_node(const lk_kernel_call *c, lk_cuda_precision p) {
    fast f = {.precision = p, .call = c};
    if (lk_op_traits(c->node->op) & T_CONTRACT) { f.library = (char *)c->work + scores_of(c->node, c->in_shape); f.packed = f.library + LIBRARY_BYTES; }
    lk_cuda_lower[c->node->op](c, launch, &f);
}
/* Lowers with addresses that are never read. */
int64_t lk_cuda_fast_workspace(const lk_graph *g, const lk_node *n, lk_cuda_precision p) {
    enum { MOST = 16 };
    lk_shape shape[MOST];
    void *in[MOST];
    if (!(lk_op_traits(n->op) & T_CONTRACT) || n->n_in > MOST) return 0;
    char *nowhere = (char *)(uintptr_t)((uint64_t)1 << 40);
    for (int i = 0; i < n->n_in; i++) {
        shape[i] = lk_ok(n->in[i]) ? lk_shape_of(g, n->in[i]) : LK_SCALAR;
        in[i] = lk_ok(n->in[i]) ? nowhere + ((int64_t)i << 36) : NULL;
    }
    lk_kernel_call c = {.node = n, .in = in, .in_shape = shape, .out = nowhere, .work = nowhere};
    fast f = {.precision = p, .call = &c, .measuring = true};
    lk_cuda_lower[n->op](&c, launch, &f);
    return scores_of(n, shape) + LIBRARY_BYTES + f.need;
}
