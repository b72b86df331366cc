/* Elementwise operations with numpy broadcasting: one row function an operation, one driver for all.
 *
 * The driver walks the output row by row (kernels.h), cuts rows into pieces and hands each piece to the
 * operation's row function as plain arrays; an input that is one value along the row is spread over a small
 * buffer first. So there is one loop an operation and the compiler vectorises it.
 * The output may be exactly one of the same-shape inputs: element i is read before it is written. */
#include "backend/activation.h"
#include "backend/cpu/kernels/kernels.h"

typedef void (*row_fn)(float *o, const float *a, const float *b, const float *c, int64_t n);
enum { PIECE = 1024 };

/* EW(name, expression of x, y, z: the elements of the inputs) */
#define EW1 \
    EW(neg, -x) EW(abs, lk_absf(x)) EW(sign, x > 0 ? 1.0f : x < 0 ? -1.0f : x) EW(exp, lk_expf(x)) EW(log, lk_logf(x)) \
    EW(sqrt, lk_sqrtf(x)) EW(rsqrt, 1.0f / lk_sqrtf(x)) EW(recip, 1.0f / x) EW(sin, lk_sinf(x)) EW(cos, lk_cosf(x)) \
    EW(tanh, lk_tanhf(x)) EW(erf, lk_erff(x)) EW(sigmoid, lk_sigmoidf(x)) EW(silu, lk_siluf(x)) EW(gelu, lk_geluf(x)) \
    EW(gelu_tanh, lk_gelu_tanhf(x)) EW(quick_gelu, lk_quick_geluf(x))
#define EW2 \
    EW(silu_dx, lk_silu_dxf(x, y)) EW(gelu_dx, lk_gelu_dxf(x, y)) EW(gelu_tanh_dx, lk_gelu_tanh_dxf(x, y)) \
    EW(quick_gelu_dx, lk_quick_gelu_dxf(x, y)) EW(add, x + y) EW(sub, x - y) EW(mul, x * y) EW(div, x / y) \
    EW(min, y < x ? y : x) EW(max, y > x ? y : x) EW(less, x < y ? 1.0f : 0.0f) EW(pow, lk_powf(x, y))
#define EW3 EW(where, x != 0 ? y : z)

#define ROW(name, load, expr) \
    static void row_##name(float *o, const float *a, const float *b, const float *c, int64_t n) { \
        (void)b; (void)c; \
        LK_IVDEP for (int64_t i = 0; i < n; i++) { load o[i] = (expr); } \
    }
#define EW(name, expr) ROW(name, float x = a[i];, expr)
EW1
#undef EW
#define EW(name, expr) ROW(name, float x = a[i]; float y = b[i];, expr)
EW2
#undef EW
#define EW(name, expr) ROW(name, float x = a[i]; float y = b[i]; float z = c[i];, expr)
EW3
#undef EW
static const row_fn rows[LK_OP_COUNT] = {
#define EW(name, expr) [LK_OP_##name] = row_##name,
    EW1 EW2 EW3
#undef EW
};

typedef struct { row_fn row; lk_bcast b; float *out; const float *in[LK_MAX_EW_IN]; } job;

/* Elements [from, from + n) of one row whose inputs begin at w->off. */
static void part_of_row(const job *j, const lk_bwalk *w, float *out, int64_t from, int64_t n) {
    float spread[LK_MAX_EW_IN][PIECE] __attribute__((aligned(64)));
    const float *in[LK_MAX_EW_IN] = {j->in[0], j->in[0], j->in[0]};      /* an input the operation lacks is never read */
    int64_t step[LK_MAX_EW_IN] = {0}, piece = n;
    for (int k = 0; k < j->b.n_in; k++) {
        in[k] = j->in[k] + w->off[k];
        if ((step[k] = j->b.stride[k][j->b.rank - 1])) { in[k] += from; continue; }
        piece = lk_k_min(n, PIECE);
        float value = *in[k];
        for (int64_t i = 0; i < piece; i++) spread[k][i] = value;
        in[k] = spread[k];
    }
    for (int64_t i = 0; i < n; i += piece) {
        j->row(out + i, in[0] + i * step[0], in[1] + i * step[1], in[2] + i * step[2], lk_k_min(piece, n - i));
    }
}
static void work(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const job *j = ctx;
    int64_t row = j->b.d[j->b.rank - 1], from = begin % row;
    lk_bwalk w = lk_bwalk_at(&j->b, begin / row);
    for (int64_t at = begin; at < end; from = 0) {
        int64_t n = lk_k_min(row - from, end - at);
        part_of_row(j, &w, j->out + at, from, n);
        at += n;
        lk_bwalk_next(&j->b, &w);
    }
}
static void elementwise(const lk_kernel_call *c) {
    job j = {.row = rows[c->node->op], .b = lk_bcast_make(c->node->shape, c->in_shape, c->node->n_in), .out = c->out};
    for (int k = 0; k < c->node->n_in; k++) j.in[k] = c->in[k];
    lk_parallel(c->pool, j.b.n, LK_GRAIN, work, &j);
}

/* ---- geglu: the last axis is [value | gate] --------------------------------------------------------- */
typedef struct { const float *x, *dy; float *out; int64_t d; } geglu_job;
static void geglu_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const geglu_job *j = ctx;
    for (int64_t r = begin; r < end; r++) {
        const float *value = j->x + 2 * r * j->d, *gate = value + j->d;
        float *o = j->out + r * j->d;
        LK_IVDEP for (int64_t i = 0; i < j->d; i++) o[i] = value[i] * lk_geluf(gate[i]);
    }
}
static void geglu_dx_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const geglu_job *j = ctx;
    for (int64_t r = begin; r < end; r++) {
        const float *value = j->x + 2 * r * j->d, *gate = value + j->d, *dy = j->dy + r * j->d;
        float *o = j->out + 2 * r * j->d, *o_gate = o + j->d;
        LK_IVDEP for (int64_t i = 0; i < j->d; i++) {
            float v = value[i], t = gate[i], g = dy[i];
            o[i] = g * lk_geluf(t);
            o_gate[i] = lk_gelu_dxf(t, g * v);
        }
    }
}
static void geglu_any(const lk_kernel_call *c, const float *dy, lk_pool_fn rows_fn) {
    geglu_job j = {c->in[0], dy, c->out, lk_k_last(c->in_shape[0]) / 2};
    if (j.d > 0) lk_parallel(c->pool, lk_k_numel(c->in_shape[0]) / (2 * j.d), lk_k_max(1, LK_GRAIN / 4 / j.d), rows_fn, &j);
}
static void geglu(const lk_kernel_call *c) { geglu_any(c, NULL, geglu_rows); }
static void geglu_dx(const lk_kernel_call *c) { geglu_any(c, c->in[1], geglu_dx_rows); }

void LK_KNAME(lk_kernels_elementwise)(lk_kernel *table) {
    for (int op = 0; op < LK_OP_COUNT; op++) if (rows[op]) table[op] = elementwise;
    table[LK_OP_geglu] = geglu;
    table[LK_OP_geglu_dx] = geglu_dx;
}
