/* cuBLASLt's entry points over host memory. It sums in an order of its own (eight lanes, folded), as a library does, so agreement
 * with the exact kernels is by tolerance only. Checked: leading dimensions, that shapes fit each other, that every operand lies
 * whole in device memory as far as its layout reaches, alignment against what the algorithm was chosen for, that an algorithm is
 * used for the problem it was chosen for, and the workspace, which is filled with NaN: whoever overlaps it sees that. */
#include "tests/emulation/emulation.h"
#include <cublasLt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct cublasLtContext { int unused; };
typedef struct { cublasComputeType_t compute; int32_t trans[2]; cublasLtEpilogue_t epilogue; const float *bias; } desc;      /* kept in the opaque structs */
typedef struct { int32_t type, batches; uint64_t rows, columns; int64_t ld, step; } shape;
typedef struct { size_t workspace; uint32_t schemes, align[4]; } preference;
typedef struct { uint64_t problem; uint32_t align[4]; } algorithm;
enum { WORKSPACE = 1 << 20 };

size_t cublasLtGetVersion(void) { return 130000; }
cublasStatus_t cublasLtCreate(cublasLtHandle_t *h) { *h = lk_xcalloc(1, sizeof **h); emu_descriptors++; return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasLtDestroy(cublasLtHandle_t h) { free(h); emu_descriptors--; return CUBLAS_STATUS_SUCCESS; }
static void *described(size_t bytes) { emu_descriptors++; return lk_xcalloc(1, bytes); }
static cublasStatus_t gone(void *p) { free(p); emu_descriptors--; return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *d, cublasComputeType_t compute, cudaDataType scale) {
    if (scale != CUDA_R_32F) return CUBLAS_STATUS_INVALID_VALUE;
    *d = described(sizeof **d);
    *(desc *)*d = (desc){.compute = compute, .epilogue = CUBLASLT_EPILOGUE_DEFAULT};
    return CUBLAS_STATUS_SUCCESS;
}
static cublasStatus_t put(void *to, size_t room, const void *from, size_t bytes) {
    if (bytes != room) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, from, bytes);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t o, cublasLtMatmulDescAttributes_t a, const void *v, size_t n) {
    desc *d = (desc *)o;
    if (a == CUBLASLT_MATMUL_DESC_TRANSA) return put(&d->trans[0], sizeof d->trans[0], v, n);
    if (a == CUBLASLT_MATMUL_DESC_TRANSB) return put(&d->trans[1], sizeof d->trans[1], v, n);
    if (a == CUBLASLT_MATMUL_DESC_EPILOGUE) return put(&d->epilogue, sizeof d->epilogue, v, n);
    return a == CUBLASLT_MATMUL_DESC_BIAS_POINTER ? put(&d->bias, sizeof d->bias, v, n) : CUBLAS_STATUS_INVALID_VALUE;
}
cublasStatus_t cublasLtMatmulDescDestroy(const cublasLtMatmulDesc_t d) { return gone(d); }
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *l, cudaDataType type, uint64_t rows, uint64_t columns, int64_t ld) {
    if (ld < (int64_t)rows || !rows || !columns) return CUBLAS_STATUS_INVALID_VALUE;
    *l = described(sizeof **l);
    *(shape *)*l = (shape){(int32_t)type, 1, rows, columns, ld, 0};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t o, cublasLtMatrixLayoutAttribute_t a, const void *v, size_t n) {
    shape *s = (shape *)o;
    return a == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT ? put(&s->batches, sizeof s->batches, v, n) : put(&s->step, sizeof s->step, v, n);
}
cublasStatus_t cublasLtMatrixLayoutDestroy(const cublasLtMatrixLayout_t l) { return gone(l); }
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *p) {
    *p = described(sizeof **p);
    *(preference *)*p = (preference){.schemes = ~0u, .align = {256, 256, 256, 256}};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t o, cublasLtMatmulPreferenceAttributes_t a, const void *v, size_t n) {
    preference *p = (preference *)o;
    if (a == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) return put(&p->workspace, sizeof p->workspace, v, n);
    if (a == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK) return put(&p->schemes, sizeof p->schemes, v, n);
    return put(&p->align[a - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], sizeof *p->align, v, n);
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(const cublasLtMatmulPreference_t p) { return gone(p); }

/* What an algorithm is chosen for, as one number. */
static uint64_t problem_of(const desc *d, const shape *a, const shape *b, const shape *c) {
    const uint64_t parts[] = {d->compute, (uint64_t)d->trans[0], (uint64_t)d->trans[1], d->epilogue, (uint64_t)a->type, a->rows, a->columns, (uint64_t)a->ld, (uint64_t)b->type, b->rows, b->columns,
                              (uint64_t)b->ld, c->rows, c->columns, (uint64_t)c->ld, (uint64_t)c->batches};
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) h = (h ^ parts[i]) * 0x100000001b3u;
    return h;
}
static bool fits(const desc *d, const shape *a, const shape *b, const shape *c) {
    uint64_t m = d->trans[0] ? a->columns : a->rows, ka = d->trans[0] ? a->rows : a->columns, kb = d->trans[1] ? b->columns : b->rows, n = d->trans[1] ? b->rows : b->columns;
    return m == c->rows && n == c->columns && ka == kb && a->type == b->type && c->type == CUDA_R_32F && a->batches == c->batches && b->batches == c->batches
        && (d->compute != CUBLAS_COMPUTE_32F_FAST_TF32 || a->type == CUDA_R_32F) && (d->epilogue != CUBLASLT_EPILOGUE_BIAS || d->bias);
}
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t h, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t e,
                                              cublasLtMatmulPreference_t p, int wanted, cublasLtMatmulHeuristicResult_t out[], int *n) {
    const preference *f = (const preference *)p;
    *n = 0;
    if (!h) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (emu_now.broken_library || f->workspace < WORKSPACE) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (wanted < 1 || c != e || f->schemes != CUBLASLT_REDUCTION_SCHEME_NONE || !fits((const desc *)d, (const shape *)a, (const shape *)b, (const shape *)c)) return CUBLAS_STATUS_INVALID_VALUE;
    memset(out, 0, sizeof *out);
    algorithm *x = (algorithm *)&out->algo;
    x->problem = problem_of((const desc *)d, (const shape *)a, (const shape *)b, (const shape *)c);
    memcpy(x->align, f->align, sizeof x->align);
    out->workspaceSize = WORKSPACE;
    *n = 1;
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- the product ----------------------------------------------------------------------------------------------------- */
typedef struct { desc d; shape a, b, c; const void *pa, *pb; float *pc, *workspace; float alpha, beta; int64_t k; } call;
static float tf32(float x) {
    uint32_t u = lk_bitsf(x);
    return x != x ? x : lk_from_bitsf((u + 0xfff + (u >> 13 & 1)) & ~0x1fffu);
}
static float element(const call *c, const void *p, const shape *s, int64_t batch, int64_t row, int64_t column) {
    int64_t at = batch * s->step + column * s->ld + row;
    if (s->type == CUDA_R_16BF) return lk_of_bf16(((const uint16_t *)p)[at]);
    float x = ((const float *)p)[at];
    return c->d.compute == CUBLAS_COMPUTE_32F_FAST_TF32 ? tf32(x) : x;
}
static void do_product(void *arg) {
    const call *c = arg;
    float *row_a = lk_xmalloc(sizeof *row_a * (size_t)c->k * c->c.rows), *column_b = lk_xmalloc(sizeof *column_b * (size_t)c->k);
    memset(c->workspace, 0xff, WORKSPACE);
    for (int64_t batch = 0; batch < c->c.batches; batch++) {
        for (int64_t i = 0; i < (int64_t)c->c.rows; i++) for (int64_t k = 0; k < c->k; k++)
            row_a[i * c->k + k] = c->d.trans[0] ? element(c, c->pa, &c->a, batch, k, i) : element(c, c->pa, &c->a, batch, i, k);
        for (int64_t j = 0; j < (int64_t)c->c.columns; j++) {
            for (int64_t k = 0; k < c->k; k++) column_b[k] = c->d.trans[1] ? element(c, c->pb, &c->b, batch, j, k) : element(c, c->pb, &c->b, batch, k, j);
            for (int64_t i = 0; i < (int64_t)c->c.rows; i++) {
                float lane[8] = {0}, *out = c->pc + batch * c->c.step + j * c->c.ld + i;
                for (int64_t k = 0; k < c->k; k++) lane[k % 8] += row_a[i * c->k + k] * column_b[k];
                float sum = ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
                *out = c->alpha * sum + (c->beta != 0 ? c->beta * *out : 0) + (c->d.bias ? c->d.bias[i] : 0);
            }
        }
    }
    free(row_a); free(column_b);
}
static bool whole(const void *p, const shape *s) {
    int64_t last = (s->batches - 1) * s->step + ((int64_t)s->columns - 1) * s->ld + (int64_t)s->rows, bytes = s->type == CUDA_R_16BF ? 2 : 4;
    return emu_on_device(p, last * bytes);
}
cublasStatus_t cublasLtMatmul(cublasLtHandle_t h, cublasLtMatmulDesc_t d, const void *alpha, const void *a, cublasLtMatrixLayout_t la, const void *b, cublasLtMatrixLayout_t lb, const void *beta,
                              const void *c, cublasLtMatrixLayout_t lc, void *e, cublasLtMatrixLayout_t le, const cublasLtMatmulAlgo_t *algo, void *workspace, size_t bytes, cudaStream_t s) {
    call x = {.d = *(const desc *)d, .a = *(const shape *)la, .b = *(const shape *)lb, .c = *(const shape *)lc, .pa = a, .pb = b, .pc = e, .workspace = workspace,
              .alpha = *(const float *)alpha, .beta = *(const float *)beta};
    const algorithm *chosen = (const algorithm *)algo;
    const void *pointers[] = {a, b, c, e};
    x.k = (int64_t)(x.d.trans[0] ? x.a.rows : x.a.columns);
    if (!h || c != e || lc != le || !fits(&x.d, &x.a, &x.b, &x.c) || chosen->problem != problem_of(&x.d, &x.a, &x.b, &x.c)) return CUBLAS_STATUS_INVALID_VALUE;
    for (int i = 0; i < 4; i++) if ((uintptr_t)pointers[i] % chosen->align[i]) return CUBLAS_STATUS_INVALID_VALUE;
    if (bytes < WORKSPACE || (uintptr_t)workspace % 256 || !emu_on_device(workspace, WORKSPACE)) return CUBLAS_STATUS_INVALID_VALUE;
    if (!whole(a, &x.a) || !whole(b, &x.b) || !whole(e, &x.c) || (x.d.epilogue == CUBLASLT_EPILOGUE_BIAS && !emu_on_device(x.d.bias, (int64_t)x.c.rows * 4))) return CUBLAS_STATUS_INVALID_VALUE;
    if (x.d.epilogue != CUBLASLT_EPILOGUE_BIAS) x.d.bias = NULL;
    emu_count.library_calls++;
    return emu_enqueue(s, do_product, &x, sizeof x) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}
