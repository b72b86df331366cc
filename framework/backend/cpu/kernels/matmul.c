/* matmul: a [..., M, K] (ta: [..., K, M]) times b [..., K, N] (tb: [..., N, K]) + bias [N]; leading axes
 * broadcast. A 2-D b against an a without ta is one product over all rows. Where N leaves most lanes empty
 * (LoRA's down projection has N = rank) the sides change places and the product is turned back at the end.
 *
 * matmul_add: c + alpha (a b). A product of one block of k (LoRA's up projection, gradients to its input) is added to c as
 * its tiles leave the registers; others are finished in a piece of scratch first. */
#include "backend/cpu/kernels/gemm.h"

enum { PIECE_FLOATS = 65536 };                            /* of a finished product that waits to be added: 256 KiB */

typedef struct {
    int64_t batches, m, n, k;
    int64_t ld_a, ld_b;
    bool ta, tb, swap;
    int first;                                            /* the input that is a */
    bool waits;                                           /* matmul_add by way of scratch */
    lk_split split;
    lk_shape lead; int64_t stride_a[LK_MAX_RANK], stride_b[LK_MAX_RANK];   /* batch axes; strides 0 where broadcast */
} mm_shape;

static mm_shape shape_of(const lk_node *node, const lk_shape *in, int threads) {
    const int first = node->op == LK_OP_matmul_add;
    const lk_shape a = in[first], b = in[first + 1], out = node->shape;
    const lk_mm mm = node->attr.matmul;
    mm_shape s = {.batches = 1, .ta = mm.ta, .tb = mm.tb, .first = first};
    s.ld_a = a.d[a.rank - 1]; s.ld_b = b.d[b.rank - 1];
    s.k = mm.ta ? a.d[a.rank - 2] : s.ld_a;
    s.m = mm.ta ? s.ld_a : a.d[a.rank - 2];
    s.n = mm.tb ? b.d[b.rank - 2] : s.ld_b;
    if (b.rank == 2 && !mm.ta) s.m = lk_k_span(a, 0, a.rank - 1);
    else {
        s.lead.rank = out.rank - 2;
        int64_t at_a = s.m * s.k, at_b = s.k * s.n;
        for (int i = s.lead.rank - 1; i >= 0; i--) {
            s.lead.d[i] = out.d[i]; s.batches *= out.d[i];
            int ia = i - (out.rank - a.rank), ib = i - (out.rank - b.rank);
            int64_t da = ia >= 0 ? a.d[ia] : 1, db = ib >= 0 ? b.d[ib] : 1;
            s.stride_a[i] = da == 1 ? 0 : at_a; s.stride_b[i] = db == 1 ? 0 : at_b;
            at_a *= da; at_b *= db;
        }
    }
    s.swap = lk_swap_pays(s.m, s.n);
    s.waits = first && (s.swap || s.k > LK_KC);
    s.split = s.swap ? lk_split_make(s.batches, s.n, s.m, threads) : lk_split_make(s.batches, s.m, s.n, threads);
    while (s.waits && s.split.mc > 1 && s.split.mc * s.split.nc > PIECE_FLOATS) s.split.mc = (s.split.mc + 1) / 2;
    if (s.waits) s.split.mt = ((s.swap ? s.n : s.m) + s.split.mc - 1) / s.split.mc;
    return s;
}
/* Per thread: the core's scratch, for swapped sides one piece of the turned product, and one of a product that waits. */
static int64_t piece_floats(const mm_shape *s) { return (s->split.mc * s->split.nc + 15) / 16 * 16; }
static int64_t scratch_floats(const mm_shape *s) { return LK_SCRATCH + (s->swap + s->waits) * piece_floats(s); }
int64_t LK_KNAME(lk_matmul_workspace)(const lk_node *node, const lk_shape *in, int threads) {
    mm_shape s = shape_of(node, in, threads);
    return scratch_floats(&s) * threads * (int64_t)sizeof(float);
}

typedef struct { const lk_kernel_call *call; mm_shape s; } mm_job;
/* to = from + alpha * product, rows of n elements ld apart; the product's lie n apart. */
static void add_piece(const float *from, float alpha, const float *product, int64_t m, int64_t n, float *to, int64_t ld) {
    for (int64_t i = 0; i < m; i++, from += ld, to += ld, product += n) { LK_IVDEP for (int64_t j = 0; j < n; j++) to[j] = from[j] + alpha * product[j]; }
}
static void pieces(void *ctx, int64_t begin, int64_t end, int thread) {
    const mm_job *job = ctx;
    const mm_shape *s = &job->s;
    const lk_kernel_call *call = job->call;
    float *scratch = (float *)call->work + thread * scratch_floats(s), *turned = scratch + LK_SCRATCH, *finished = turned + s->swap * piece_floats(s);
    const float *packed = call->packed ? call->packed[s->first + 1] : NULL, alpha = (float)call->node->attr.matmul.alpha;
    for (int64_t item = begin; item < end; item++) {
        int64_t part_n = item % s->split.nt, part_m = item / s->split.nt % s->split.mt, batch = item / (s->split.nt * s->split.mt);
        int64_t at_a = 0, at_b = 0;
        for (int64_t i = s->lead.rank - 1, rest = batch; i >= 0; rest /= s->lead.d[i], i--) {
            at_a += rest % s->lead.d[i] * s->stride_a[i];
            at_b += rest % s->lead.d[i] * s->stride_b[i];
        }
        lk_operand a = {.layout = s->ta ? LK_BY_LANE : LK_BY_ROW, .p = (const float *)call->in[s->first] + at_a, .stride = s->ld_a};
        lk_operand b = {.layout = s->tb ? LK_BY_ROW : LK_BY_LANE, .p = (const float *)call->in[s->first + 1] + at_b, .stride = s->ld_b};
        if (packed) b = (lk_operand){.layout = s->tb ? LK_BY_LANE : LK_BY_ROW, .p = packed, .stride = s->tb ? s->n : s->k};
        const float *bias = !s->first && call->node->n_in > 2 ? call->in[2] : NULL, *onto = s->first ? (const float *)call->in[0] + batch * s->m * s->n : NULL;
        float *c = (float *)call->out + batch * s->m * s->n;
        int64_t m0 = part_m * s->split.mc, n0 = part_n * s->split.nc;
        if (!s->swap) {
            int64_t m1 = lk_k_min(s->m, m0 + s->split.mc), n1 = lk_k_min(s->n, n0 + s->split.nc), width = n1 - n0;
            lk_product p = {.a = a, .b = b, .k = s->k, .c = c, .ldc = s->n, .bias_col = bias, .onto = onto, .alpha = alpha};
            if (s->waits) p.c = finished - m0 * width - n0, p.ldc = width, p.onto = NULL;
            lk_gemm(&p, m0, m1, n0, n1, scratch);
            if (s->waits) add_piece(onto + m0 * s->n + n0, alpha, finished, m1 - m0, width, c + m0 * s->n + n0, s->n);
            continue;
        }
        int64_t m1 = lk_k_min(s->n, m0 + s->split.mc), n1 = lk_k_min(s->m, n0 + s->split.nc), ld = s->split.nc, width = m1 - m0;
        lk_product p = {.a = b, .b = a, .k = s->k, .c = turned - m0 * ld - n0, .ldc = ld, .bias_row = bias};
        lk_gemm(&p, m0, m1, n0, n1, scratch);
        lk_transpose(turned, ld, m1 - m0, n1 - n0, s->waits ? finished : c + n0 * s->n + m0, s->waits ? width : s->n);
        if (s->waits) add_piece(onto + n0 * s->n + m0, alpha, finished, n1 - n0, width, c + n0 * s->n + m0, s->n);
    }
}
static void matmul(const lk_kernel_call *call) {
    mm_job job = {call, shape_of(call->node, call->in_shape, lk_pool_threads(call->pool))};
    lk_contract_counted();
    lk_parallel(call->pool, job.s.batches * job.s.split.mt * job.s.split.nt, 1, pieces, &job);
}
void LK_KNAME(lk_kernels_matmul)(lk_kernel *table) { table[LK_OP_matmul] = table[LK_OP_matmul_add] = matmul; }
