/* matmul: a [..., M, K] (ta: [..., K, M]) times b [..., K, N] (tb: [..., N, K]) + bias [N]; leading axes
 * broadcast. A 2-D b against an a without ta is one product over all rows. Where N leaves most lanes empty
 * (LoRA's down projection has N = rank) the sides change places and the product is turned back at the end. */
#include "backend/cpu/kernels/gemm.h"

typedef struct {
    int64_t batches, m, n, k;
    int64_t ld_a, ld_b;
    bool ta, tb, swap;
    lk_split split;
    lk_shape lead; int64_t stride_a[LK_MAX_RANK], stride_b[LK_MAX_RANK];   /* batch axes; strides 0 where broadcast */
} mm_shape;

static mm_shape shape_of(const lk_node *node, const lk_shape *in, int threads) {
    const lk_shape a = in[0], b = in[1], out = node->shape;
    const lk_mm mm = node->attr.matmul;
    mm_shape s = {.batches = 1, .ta = mm.ta, .tb = mm.tb};
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
    s.split = s.swap ? lk_split_make(s.batches, s.n, s.m, threads) : lk_split_make(s.batches, s.m, s.n, threads);
    return s;
}
/* Per thread: the core's scratch, and for swapped sides one piece of the turned product. */
static int64_t scratch_floats(const mm_shape *s) { return LK_SCRATCH + (s->swap ? (s->split.mc * s->split.nc + 15) / 16 * 16 : 0); }
int64_t LK_KNAME(lk_matmul_workspace)(const lk_node *node, const lk_shape *in, int threads) {
    mm_shape s = shape_of(node, in, threads);
    return scratch_floats(&s) * threads * (int64_t)sizeof(float);
}

typedef struct { const lk_kernel_call *call; mm_shape s; } mm_job;
static void pieces(void *ctx, int64_t begin, int64_t end, int thread) {
    const mm_job *job = ctx;
    const mm_shape *s = &job->s;
    float *scratch = (float *)job->call->work + thread * scratch_floats(s), *turned = scratch + LK_SCRATCH;
    const float *packed = job->call->packed ? job->call->packed[1] : NULL;
    for (int64_t item = begin; item < end; item++) {
        int64_t part_n = item % s->split.nt, part_m = item / s->split.nt % s->split.mt, batch = item / (s->split.nt * s->split.mt);
        int64_t at_a = 0, at_b = 0;
        for (int64_t i = s->lead.rank - 1, rest = batch; i >= 0; rest /= s->lead.d[i], i--) {
            at_a += rest % s->lead.d[i] * s->stride_a[i];
            at_b += rest % s->lead.d[i] * s->stride_b[i];
        }
        lk_operand a = {.layout = s->ta ? LK_BY_LANE : LK_BY_ROW, .p = (const float *)job->call->in[0] + at_a, .stride = s->ld_a};
        lk_operand b = {.layout = s->tb ? LK_BY_ROW : LK_BY_LANE, .p = (const float *)job->call->in[1] + at_b, .stride = s->ld_b};
        if (s->tb && packed) b = (lk_operand){.layout = LK_BY_LANE, .p = packed, .stride = s->n};
        const float *bias = job->call->node->n_in > 2 ? job->call->in[2] : NULL;
        float *c = (float *)job->call->out + batch * s->m * s->n;
        int64_t m0 = part_m * s->split.mc, n0 = part_n * s->split.nc;
        if (!s->swap) {
            lk_product p = {.a = a, .b = b, .k = s->k, .c = c, .ldc = s->n, .bias_col = bias};
            lk_gemm(&p, m0, lk_k_min(s->m, m0 + s->split.mc), n0, lk_k_min(s->n, n0 + s->split.nc), scratch);
            continue;
        }
        int64_t m1 = lk_k_min(s->n, m0 + s->split.mc), n1 = lk_k_min(s->m, n0 + s->split.nc), ld = s->split.nc;
        lk_product p = {.a = b, .b = a, .k = s->k, .c = turned - m0 * ld - n0, .ldc = ld, .bias_row = bias};
        lk_gemm(&p, m0, m1, n0, n1, scratch);
        lk_transpose(turned, ld, m1 - m0, n1 - n0, c + n0 * s->n + m0, s->n);
    }
}
static void matmul(const lk_kernel_call *call) {
    mm_job job = {call, shape_of(call->node, call->in_shape, lk_pool_threads(call->pool))};
    lk_contract_counted();
    lk_parallel(call->pool, job.s.batches * job.s.split.mt * job.s.split.nt, 1, pieces, &job);
}
void LK_KNAME(lk_kernels_matmul)(lk_kernel *table) { table[LK_OP_matmul] = matmul; }
