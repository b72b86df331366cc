/* Embeddings of timesteps and positions, random numbers, effects. Random numbers are the one thing shared
 * with the other backends: the binary32 values of base/base.h, widened, so that a step can be compared. */
#include "backend/ref/ref.h"
#include <math.h>
#include <string.h>

/* Sinusoids of t at geometric frequencies (Vaswani et al. 2017, section 3.5; for timesteps Ho et al. 2020). */
static void timestep_embed(const lk_kernel_call *c) {
    const lk_tembed *a = &c->node->attr.tembed;
    const double *t = c->in[0]; double *out = c->out;
    int64_t batch = c->in_shape[0].d[0], half = a->dim / 2;
    double scale = a->scale != 0 ? a->scale : 1, period = a->max_period != 0 ? a->max_period : 10000;
    memset(out, 0, (size_t)lk_numel(c->node->shape) * sizeof *out);            /* an odd dim ends with a zero */
    for (int64_t b = 0; b < batch; b++) for (int64_t i = 0; i < half; i++) {
        double angle = scale * t[b] * pow(period, -(double)i / ((double)half - a->freq_shift));
        out[b * a->dim + (a->flip_sin_to_cos ? half : 0) + i] = sin(angle);
        out[b * a->dim + (a->flip_sin_to_cos ? 0 : half) + i] = cos(angle);
    }
}

/* Rotary angles, axis after axis: position * theta^(-2j / dims of the axis). */
static void rope_table(const lk_kernel_call *c) {
    const lk_rtable *a = &c->node->attr.rtable;
    const double *ids = c->in[0]; double *out = c->out;
    int64_t tokens = c->node->shape.d[1], width = c->node->shape.d[2];
    for (int64_t t = 0; t < tokens; t++) {
        int64_t column = 0;
        for (int k = 0; k < a->n; k++) for (int j = 0; j < a->dims[k] / 2; j++, column++) {
            double angle = ids[t * a->n + k] * pow(a->theta, -2.0 * j / a->dims[k]);
            out[t * width + column] = cos(angle);
            out[(tokens + t) * width + column] = sin(angle);
        }
    }
}

static void noise(const lk_kernel_call *c) {
    const int64_t *seed = c->in[0], *step = c->in[1], *sample = c->in[2];
    double *out = c->out;
    int64_t batch = c->in_shape[2].d[0], each = batch ? lk_numel(c->node->shape) / batch : 0;
    uint64_t key = lk_stream_key((uint64_t)*seed, c->node->attr.random.stream);
    float (*draw)(uint64_t, uint64_t, uint32_t, uint64_t) = c->node->op == LK_OP_randn ? lk_philox_normal : lk_philox_uniform;
    for (int64_t b = 0; b < batch; b++) for (int64_t i = 0; i < each; i++)
        out[b * each + i] = draw(key, (uint64_t)*step, (uint32_t)sample[b], (uint64_t)i);
}

/* ---- effects: out is in[0]'s storage ------------------------------------------------------------------ */
static void assign(const lk_kernel_call *c) {
    memmove(c->out, c->in[1], (size_t)lk_numel(c->in_shape[0]) * sizeof(double));
}
static void ema(const lk_kernel_call *c) {
    double *a = c->out; const double *v = c->in[1], decay = *(double *)c->in[2];
    for (int64_t i = 0, n = lk_numel(c->in_shape[0]); i < n; i++) a[i] = decay * a[i] + (1 - decay) * v[i];
}
/* Loshchilov and Hutter 2019, algorithm 2. */
static void adamw(const lk_kernel_call *c) {
    const lk_adamw_attr *a = &c->node->attr.adamw;
    double *p = c->out, *m = c->in[1], *v = c->in[2];
    const double *g = c->in[3], lr = *(double *)c->in[4], bc1 = *(double *)c->in[5], bc2 = *(double *)c->in[6];
    for (int64_t i = 0, n = lk_numel(c->in_shape[0]); i < n; i++) {
        m[i] = a->beta1 * m[i] + (1 - a->beta1) * g[i];
        v[i] = a->beta2 * v[i] + (1 - a->beta2) * g[i] * g[i];
        p[i] -= lr * (m[i] / bc1 / (sqrt(v[i] / bc2) + a->eps) + a->weight_decay * p[i]);
    }
}

void ref_service(lk_kernel *table) {
    table[LK_OP_timestep_embed] = timestep_embed;
    table[LK_OP_rope_table] = rope_table;
    table[LK_OP_randn] = noise;
    table[LK_OP_randu] = noise;
    table[LK_OP_assign] = assign;
    table[LK_OP_ema] = ema;
    table[LK_OP_adamw] = adamw;
}
