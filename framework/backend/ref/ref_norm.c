/* Softmax, the norms, rope and geglu. A norm is seen as xhat = (x - shift) / s over sets of elements;
 * its gradient is derived from ds/dx here, for all three norms by one formula. */
#include "backend/ref/ref.h"
#include <math.h>
#include <stdlib.h>

static void softmax(const lk_kernel_call *c) {
    const double *x = c->in[0]; double *out = c->out;
    int64_t width = ref_last(c->node->shape);
    for (int64_t r = 0, rows = width ? lk_numel(c->node->shape) / width : 0; r < rows; r++, x += width, out += width) {
        double most = -INFINITY, sum = 0;
        for (int64_t i = 0; i < width; i++) most = fmax(most, x[i]);
        for (int64_t i = 0; i < width; i++) sum += exp(x[i] - most);
        for (int64_t i = 0; i < width; i++) out[i] = exp(x[i] - most) / sum;
    }
}

/* dx_i = sum_j dy_j dy_j/dx_i, with dy_j/dx_i = y_j ([i = j] - y_i). */
static void softmax_dx(const lk_kernel_call *c) {
    const double *y = c->in[0], *dy = c->in[1]; double *out = c->out;
    int64_t width = ref_last(c->node->shape);
    for (int64_t r = 0, rows = width ? lk_numel(c->node->shape) / width : 0; r < rows; r++, y += width, dy += width, out += width)
        for (int64_t i = 0; i < width; i++) {
            double sum = 0;
            for (int64_t j = 0; j < width; j++) sum += dy[j] * y[j] * ((i == j) - y[i]);
            out[i] = sum;
        }
}

/* ---- norms -------------------------------------------------------------------------------------- */
/* A normalised set is `n` consecutive elements; element i of set s has its gamma and beta at channel(s, i). */
typedef struct {
    int64_t sets, n;
    bool centred, silu;
    double eps;
    int64_t spatial, channels, per_set;      /* channel = s * per_set % channels + i / spatial */
    const double *gamma, *beta;
} norm;

static norm row_norm(const lk_kernel_call *c, bool centred, int gamma, int beta) {
    int64_t n = ref_last(c->node->shape);
    return (norm){.sets = n ? lk_numel(c->node->shape) / n : 0, .n = n, .centred = centred, .eps = c->node->attr.norm.eps, .spatial = 1, .channels = n,
                  .gamma = ref_in(c, gamma), .beta = beta ? ref_in(c, beta) : NULL};
}
static norm groups_norm(const lk_kernel_call *c, int gamma, int beta) {
    lk_shape s = c->node->shape;
    int64_t spatial = 1, groups = c->node->attr.norm.groups, per = s.d[1] / groups;
    for (int k = 2; k < s.rank; k++) spatial *= s.d[k];
    return (norm){.sets = s.d[0] * groups, .n = per * spatial, .centred = true, .silu = c->node->attr.norm.silu, .eps = c->node->attr.norm.eps,
                  .spatial = spatial, .channels = s.d[1], .per_set = per, .gamma = ref_in(c, gamma), .beta = ref_in(c, beta)};
}
static double gamma_at(const norm *m, int64_t s, int64_t i) { return m->gamma ? m->gamma[s * m->per_set % m->channels + i / m->spatial] : 1; }
static double beta_at(const norm *m, int64_t s, int64_t i)  { return m->beta ? m->beta[s * m->per_set % m->channels + i / m->spatial] : 0; }
static void moments(const norm *m, const double *x, double *shift, double *deviation) {
    double mean = 0, square = 0;
    for (int64_t i = 0; i < m->n && m->centred; i++) mean += x[i] / (double)m->n;
    for (int64_t i = 0; i < m->n; i++) square += (x[i] - mean) * (x[i] - mean) / (double)m->n;
    *shift = mean; *deviation = sqrt(square + m->eps);
}
static double sigma(double x) { return 1 / (1 + exp(-x)); }

static void norm_forward(norm m, const double *x, double *out) {
    for (int64_t s = 0; s < m.sets; s++, x += m.n, out += m.n) {
        double shift, deviation;
        moments(&m, x, &shift, &deviation);
        for (int64_t i = 0; i < m.n; i++) {
            double y = (x[i] - shift) / deviation * gamma_at(&m, s, i) + beta_at(&m, s, i);
            out[i] = m.silu ? y * sigma(y) : y;
        }
    }
}

/* With d = x - shift, y_i = gamma_i d_i / dev and d dev / dx_j = d_j / (n dev):
 *   dx_j = g_j / dev - [centred] sum_i g_i / (n dev) - d_j sum_i g_i d_i / (n dev^3),   g_i = dy_i gamma_i. */
static void norm_backward(norm m, const double *x, const double *dy, double *out) {
    double *g = lk_xmalloc(sizeof(double) * (size_t)(m.n + 1));
    for (int64_t s = 0; s < m.sets; s++, x += m.n, dy += m.n, out += m.n) {
        double shift, deviation, sum = 0, moment = 0, n = (double)m.n;
        moments(&m, x, &shift, &deviation);
        for (int64_t i = 0; i < m.n; i++) {
            double y = (x[i] - shift) / deviation * gamma_at(&m, s, i) + beta_at(&m, s, i);
            double slope = m.silu ? sigma(y) + y * sigma(y) * sigma(-y) : 1;
            g[i] = dy[i] * slope * gamma_at(&m, s, i);
            sum += g[i];
            moment += g[i] * (x[i] - shift);
        }
        for (int64_t j = 0; j < m.n; j++)
            out[j] = g[j] / deviation - (m.centred ? sum / (n * deviation) : 0) - (x[j] - shift) * moment / (n * pow(deviation, 3));
    }
    free(g);
}

static void layer_norm(const lk_kernel_call *c)    { norm_forward(row_norm(c, true, 1, 2), c->in[0], c->out); }
static void layer_norm_dx(const lk_kernel_call *c) { norm_backward(row_norm(c, true, 2, 0), c->in[0], c->in[1], c->out); }
static void rms_norm(const lk_kernel_call *c)      { norm_forward(row_norm(c, false, 1, 0), c->in[0], c->out); }
static void rms_norm_dx(const lk_kernel_call *c)   { norm_backward(row_norm(c, false, 2, 0), c->in[0], c->in[1], c->out); }
static void group_norm(const lk_kernel_call *c)    { norm_forward(groups_norm(c, 1, 2), c->in[0], c->out); }
static void group_norm_dx(const lk_kernel_call *c) { norm_backward(groups_norm(c, 2, 3), c->in[0], c->in[1], c->out); }

/* ---- rope, geglu ---------------------------------------------------------------------------------- */
/* A pair (even, odd) is a complex number, turned by the angle of its token. */
static void rope(const lk_kernel_call *c) {
    const double *x = c->in[0], *cosine = c->in[1], *sine = c->in[2]; double *out = c->out;
    int64_t tokens = c->node->shape.d[1], half = c->in_shape[1].d[1], pairs = lk_numel(c->node->shape) / 2, row = c->node->attr.sdpa.heads * half;
    for (int64_t i = 0; i < pairs; i++) {
        int64_t angle = i / row % tokens * half + i % half;
        double re = x[2 * i], im = x[2 * i + 1];
        out[2 * i] = re * cosine[angle] - im * sine[angle];
        out[2 * i + 1] = re * sine[angle] + im * cosine[angle];
    }
}

static double normal_cdf(double x) { return 0.5 * erfc(-x * 0.70710678118654752440); }
static double normal_pdf(double x) { return 0.39894228040143267794 * exp(-x * x / 2); }
static void geglu(const lk_kernel_call *c) {
    const double *x = c->in[0]; double *out = c->out;
    int64_t half = ref_last(c->node->shape);
    for (int64_t i = 0, n = lk_numel(c->node->shape); i < n; i++) {
        int64_t value = i / half * 2 * half + i % half, gate = value + half;
        out[i] = x[value] * x[gate] * normal_cdf(x[gate]);
    }
}
static void geglu_dx(const lk_kernel_call *c) {
    const double *x = c->in[0], *dy = c->in[1]; double *out = c->out;
    int64_t half = ref_last(c->in_shape[1]);
    for (int64_t i = 0, n = lk_numel(c->in_shape[1]); i < n; i++) {
        int64_t value = i / half * 2 * half + i % half, gate = value + half;
        out[value] = dy[i] * x[gate] * normal_cdf(x[gate]);
        out[gate] = dy[i] * x[value] * (normal_cdf(x[gate]) + x[gate] * normal_pdf(x[gate]));
    }
}

void ref_norm(lk_kernel *table) {
    table[LK_OP_softmax] = softmax;
    table[LK_OP_softmax_dx] = softmax_dx;
    table[LK_OP_layer_norm] = layer_norm;
    table[LK_OP_layer_norm_dx] = layer_norm_dx;
    table[LK_OP_rms_norm] = rms_norm;
    table[LK_OP_rms_norm_dx] = rms_norm_dx;
    table[LK_OP_group_norm] = group_norm;
    table[LK_OP_group_norm_dx] = group_norm_dx;
    table[LK_OP_rope] = rope;
    table[LK_OP_geglu] = geglu;
    table[LK_OP_geglu_dx] = geglu_dx;
}
