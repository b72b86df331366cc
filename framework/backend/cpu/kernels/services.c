/* Services around the network: sinusoids and rotary tables, rotary embedding, random tensors, and the effects
 * that write a param's storage (assign, EMA, AdamW). Angles are computed in binary64 and rounded once. */
#include "backend/activation.h"
#include "backend/cpu/kernels/kernels.h"
#include "base/philox.h"
#include <string.h>

/* ---- sinusoids: angle_k = (t * scale) * exp((-ln(max_period) * k) / (half - freq_shift)), [sin | cos] or,
 * flipped, [cos | sin]; an odd dim ends in a zero ---------------------------------------------------- */
static void timestep_embed(const lk_kernel_call *c) {
    lk_tembed a = c->node->attr.tembed;
    int64_t n = lk_k_numel(c->in_shape[0]), half = a.dim / 2;
    double scale = a.scale != 0 ? a.scale : 1.0, period = a.max_period != 0 ? a.max_period : 10000.0;
    const float *t = c->in[0];
    float *out = c->out;
    for (int64_t k = 0; k < half; k++) {
        double freq = lk_exp_d(-lk_log_d(period) * (double)k / ((double)half - a.freq_shift));
        int64_t cos_at = a.flip_sin_to_cos ? k : half + k, sin_at = a.flip_sin_to_cos ? half + k : k;
        for (int64_t b = 0; b < n; b++) {
            double angle = (double)t[b] * scale * freq;
            out[b * a.dim + cos_at] = (float)lk_cos_d(angle);
            out[b * a.dim + sin_at] = (float)lk_sin_d(angle);
        }
    }
    for (int64_t b = 0; b < n && (a.dim & 1); b++) out[b * a.dim + a.dim - 1] = 0;
}

/* ---- rotary tables: ids [T, axes] -> [2, T, sum(dims)/2]; axis a of width d has frequencies theta^(-2k/d) */
static void rope_table(const lk_kernel_call *c) {
    lk_rtable a = c->node->attr.rtable;
    int64_t tokens = c->node->shape.d[1], width = c->node->shape.d[2], at = 0;
    const float *ids = c->in[0];
    float *cosine = c->out, *sine = cosine + tokens * width;
    for (int axis = 0; axis < a.n; axis++) {
        for (int k = 0; k < a.dims[axis] / 2; k++, at++) {
            double freq = lk_pow_d(a.theta, -2.0 * k / a.dims[axis]);
            for (int64_t t = 0; t < tokens; t++) {
                double angle = (double)ids[t * a.n + axis] * freq;
                cosine[t * width + at] = (float)lk_cos_d(angle);
                sine[t * width + at] = (float)lk_sin_d(angle);
            }
        }
    }
}

/* ---- rotary embedding: pairs (x0 c - x1 s, x0 s + x1 c), each product rounded ----------------------- */
typedef struct { const float *x, *cosine, *sine; float *out; int64_t tokens, heads, pairs; } rope_job;
static void rope_tokens(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const rope_job *j = ctx;
    for (int64_t r = begin; r < end; r++) {
        const float *cosine = j->cosine + r % j->tokens * j->pairs, *sine = j->sine + r % j->tokens * j->pairs;
        for (int64_t h = 0; h < j->heads; h++) {
            const float *x = j->x + (r * j->heads + h) * 2 * j->pairs;
            float *o = j->out + (r * j->heads + h) * 2 * j->pairs;
            LK_IVDEP for (int64_t i = 0; i < j->pairs; i++) {
                float x0 = x[2 * i], x1 = x[2 * i + 1];
                o[2 * i] = x0 * cosine[i] - x1 * sine[i];
                o[2 * i + 1] = x0 * sine[i] + x1 * cosine[i];
            }
        }
    }
}
static void rope(const lk_kernel_call *c) {
    lk_shape s = c->in_shape[0];
    int64_t heads = lk_k_max(1, c->node->attr.sdpa.heads), d = s.d[2] / heads;
    rope_job j = {c->in[0], c->in[1], c->in[2], c->out, s.d[1], heads, d / 2};
    lk_parallel(c->pool, s.d[0] * s.d[1], lk_k_max(1, LK_GRAIN / s.d[2]), rope_tokens, &j);
}

/* ---- random tensors: (seed, step, sample ids [B]) -> [B, ...]; a sample's elements are counted from 0 -- */
enum { BLOCKS = 64 };                      /* Philox blocks made at a time: columns, so that loops over them vectorise */
typedef struct { uint64_t key, step; const int64_t *samples; int64_t each, blocks; float *out; bool normal; } random_job;
static void fill_blocks(const random_job *j, uint32_t sample, uint64_t first, float v[4][BLOCKS]) {
    uint32_t w[4][BLOCKS];
    LK_IVDEP for (int i = 0; i < BLOCKS; i++) {
        uint32_t one[4];
        lk_philox_words(j->key, j->step, sample, first + (uint64_t)i, one);
        w[0][i] = one[0]; w[1][i] = one[1]; w[2][i] = one[2]; w[3][i] = one[3];
    }
    if (j->normal) {
        for (int p = 0; p < 4; p += 2) LK_IVDEP for (int i = 0; i < BLOCKS; i++) {
            v[p][i] = lk_normal_even(w[p][i], w[p + 1][i]);
            v[p + 1][i] = lk_normal_odd(w[p][i], w[p + 1][i]);
        }
    } else {
        for (int p = 0; p < 4; p++) LK_IVDEP for (int i = 0; i < BLOCKS; i++) v[p][i] = lk_word_uniform(w[p][i]);
    }
}
/* A piece is a run of Philox blocks of one sample; pieces are counted over all samples. */
static void random_pieces(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const random_job *j = ctx;
    int64_t pieces = (j->blocks + BLOCKS - 1) / BLOCKS;
    for (int64_t p = begin; p < end; p++) {
        int64_t b = p / pieces, first = p % pieces * BLOCKS, n = lk_k_min(4 * BLOCKS, j->each - 4 * first);
        float v[4][BLOCKS], *o = j->out + b * j->each + 4 * first;
        fill_blocks(j, (uint32_t)j->samples[b], (uint64_t)first, v);
        for (int64_t i = 0; i < n; i++) o[i] = v[i & 3][i >> 2];
    }
}
static void random_any(const lk_kernel_call *c, bool normal) {
    int64_t samples = lk_k_numel(c->in_shape[2]);
    if (!samples) return;
    int64_t each = lk_k_numel(c->node->shape) / samples, blocks = (each + 3) / 4;
    random_job j = {lk_stream_key((uint64_t)*(const int64_t *)c->in[0], c->node->attr.random.stream), (uint64_t)*(const int64_t *)c->in[1],
                    c->in[2], each, blocks, c->out, normal};
    lk_parallel(c->pool, samples * ((blocks + BLOCKS - 1) / BLOCKS), LK_GRAIN / (16 * BLOCKS), random_pieces, &j);
}
static void randn(const lk_kernel_call *c) { random_any(c, true); }
static void randu(const lk_kernel_call *c) { random_any(c, false); }

/* ---- effects: write the storage of in[0] (AdamW: of in[0], in[1], in[2]) ------------------------------ */
static void assign(const lk_kernel_call *c) {
    if (c->in[0] != c->in[1]) memmove(c->in[0], c->in[1], (size_t)lk_k_numel(c->in_shape[0]) * (c->node->dtype == LK_I64 ? 8 : 4));
}

typedef struct { float *average; const float *value; float rest; } ema_job;
static void ema_run(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const ema_job *j = ctx;
    float *a = j->average, rest = j->rest;
    const float *v = j->value;
    LK_IVDEP for (int64_t i = begin; i < end; i++) a[i] = a[i] + rest * (v[i] - a[i]);
}
static void ema(const lk_kernel_call *c) {
    ema_job j = {c->in[0], c->in[1], 1.0f - *(const float *)c->in[2]};
    lk_parallel(c->pool, lk_k_numel(c->in_shape[0]), LK_GRAIN, ema_run, &j);
}

/* docs/numerics.md rule 10 */
typedef struct { float *p, *m, *v; const float *g; float lr, bc1, bc2, b1, rest1, b2, rest2, eps, keep; } adamw_job;
static void adamw_run(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const adamw_job j = *(const adamw_job *)ctx;
    LK_IVDEP for (int64_t i = begin; i < end; i++) {
        float g = j.g[i], m = j.b1 * j.m[i] + j.rest1 * g, v = j.b2 * j.v[i] + j.rest2 * (g * g);
        j.m[i] = m;
        j.v[i] = v;
        j.p[i] = j.p[i] * j.keep - j.lr * ((m / j.bc1) / (lk_sqrtf(v / j.bc2) + j.eps));
    }
}
static void adamw(const lk_kernel_call *c) {
    lk_adamw_attr a = c->node->attr.adamw;
    float lr = *(const float *)c->in[4];
    adamw_job j = {.p = c->in[0], .m = c->in[1], .v = c->in[2], .g = c->in[3], .lr = lr,
                   .bc1 = *(const float *)c->in[5], .bc2 = *(const float *)c->in[6],
                   .b1 = (float)a.beta1, .rest1 = (float)(1.0 - a.beta1), .b2 = (float)a.beta2, .rest2 = (float)(1.0 - a.beta2),
                   .eps = (float)a.eps, .keep = 1.0f - lr * (float)a.weight_decay};
    lk_parallel(c->pool, lk_k_numel(c->in_shape[0]), LK_GRAIN, adamw_run, &j);
}

void LK_KNAME(lk_kernels_services)(lk_kernel *table) {
    table[LK_OP_timestep_embed] = timestep_embed;
    table[LK_OP_rope_table] = rope_table;
    table[LK_OP_rope] = rope;
    table[LK_OP_randn] = randn;
    table[LK_OP_randu] = randu;
    table[LK_OP_assign] = assign;
    table[LK_OP_ema] = ema;
    table[LK_OP_adamw] = adamw;
}
