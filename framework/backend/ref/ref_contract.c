/* Products: matmul, the convolution triple, attention and its gradient. The three convolutions walk
 * the same list of (output, tap, input) triples; only what is multiplied into what differs. */
#include "backend/ref/ref.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* out = bias + sum of products, a and b being inputs `first` and the next. */
static void products(const lk_kernel_call *c, int first, const double *bias, double *out) {
    const double *a = c->in[first], *b = c->in[first + 1];
    lk_shape sa = c->in_shape[first], sb = c->in_shape[first + 1], so = c->node->shape;
    bool ta = c->node->attr.matmul.ta, tb = c->node->attr.matmul.tb;
    int64_t m = so.d[so.rank - 2], n = so.d[so.rank - 1], k = sa.d[sa.rank - (ta ? 2 : 1)];
    lk_shape outer = so, outer_a = sa, outer_b = sb;
    outer.rank -= 2; outer_a.rank -= 2; outer_b.rank -= 2;
    for (int64_t o = 0, count = lk_numel(outer); o < count; o++) {
        int64_t at[LK_MAX_RANK];
        ref_where(outer, o, at);
        const double *pa = a + ref_broadcast_index(outer, at, outer_a) * m * k, *pb = b + ref_broadcast_index(outer, at, outer_b) * k * n;
        for (int64_t i = 0; i < m; i++) for (int64_t j = 0; j < n; j++) {
            double sum = bias ? bias[j] : 0;
            for (int64_t l = 0; l < k; l++) sum += (ta ? pa[l * m + i] : pa[i * k + l]) * (tb ? pb[j * k + l] : pb[l * n + j]);
            out[(o * m + i) * n + j] = sum;
        }
    }
}
static void matmul(const lk_kernel_call *c) { products(c, 0, ref_in(c, 2), c->out); }
static void matmul_add(const lk_kernel_call *c) {
    const double *base = c->in[0];
    int64_t all = lk_numel(c->node->shape);
    double *out = c->out, *product = lk_xmalloc(sizeof *product * (size_t)(all + 1));      /* out may be base */
    products(c, 1, NULL, product);
    for (int64_t i = 0; i < all; i++) out[i] = base[i] + c->node->attr.matmul.alpha * product[i];
    free(product);
}

/* ---- convolution ------------------------------------------------------------------------------ */
typedef struct { double *x, *w, *y; } conv_values;
typedef void (*conv_term)(conv_values, int64_t x, int64_t w, int64_t y);
static int one_if_zero(int v) { return v ? v : 1; }
static int64_t at4(const lk_shape *s, int64_t a, int64_t b, int64_t c, int64_t d) { return ((a * s->d[1] + b) * s->d[2] + c) * s->d[3] + d; }

/* Calls term for every product x[ix] * w[iw] that y[iy] is made of. */
static void conv_walk(const lk_conv *a, lk_shape x, lk_shape w, lk_shape y, conv_values v, conv_term term) {
    int64_t groups = one_if_zero(a->groups), o_per = w.d[0] / groups, c_per = w.d[1];
    for (int64_t n = 0; n < y.d[0]; n++) for (int64_t o = 0; o < y.d[1]; o++) for (int64_t oh = 0; oh < y.d[2]; oh++) for (int64_t ow = 0; ow < y.d[3]; ow++)
        for (int64_t k = 0; k < c_per; k++) for (int64_t kh = 0; kh < w.d[2]; kh++) for (int64_t kw = 0; kw < w.d[3]; kw++) {
            int64_t ih = oh * one_if_zero(a->stride[0]) + kh * one_if_zero(a->dilation[0]) - a->pad[0];
            int64_t iw = ow * one_if_zero(a->stride[1]) + kw * one_if_zero(a->dilation[1]) - a->pad[1];
            if (ih < 0 || ih >= x.d[2] || iw < 0 || iw >= x.d[3]) continue;
            int64_t ch = o / o_per * c_per + k;
            term(v, at4(&x, n, ch, ih, iw), at4(&w, o, k, kh, kw), at4(&y, n, o, oh, ow));
        }
}
static void into_y(conv_values v, int64_t x, int64_t w, int64_t y) { v.y[y] += v.x[x] * v.w[w]; }
static void into_x(conv_values v, int64_t x, int64_t w, int64_t y) { v.x[x] += v.y[y] * v.w[w]; }
static void into_w(conv_values v, int64_t x, int64_t w, int64_t y) { v.w[w] += v.x[x] * v.y[y]; }
static void zero(const lk_kernel_call *c) { memset(c->out, 0, (size_t)lk_numel(c->node->shape) * sizeof(double)); }

static void conv2d(const lk_kernel_call *c) {
    const double *bias = ref_in(c, 2);
    double *out = c->out;
    lk_shape y = c->node->shape;
    int64_t picture = y.d[2] * y.d[3];
    zero(c);
    if (bias) for (int64_t i = 0, n = lk_numel(y); i < n; i++) out[i] = bias[i / picture % y.d[1]];
    conv_walk(&c->node->attr.conv, c->in_shape[0], c->in_shape[1], y, (conv_values){c->in[0], c->in[1], out}, into_y);
}
static void conv2d_dx(const lk_kernel_call *c) {
    zero(c);
    conv_walk(&c->node->attr.conv, c->node->shape, c->in_shape[1], c->in_shape[0], (conv_values){c->out, c->in[1], c->in[0]}, into_x);
}
static void conv2d_dw(const lk_kernel_call *c) {
    zero(c);
    conv_walk(&c->node->attr.conv, c->in_shape[0], c->node->shape, c->in_shape[1], (conv_values){c->in[0], c->out, c->in[1]}, into_w);
}

/* ---- attention -------------------------------------------------------------------------------- */
typedef struct {
    int64_t batch, heads, tq, tk, d, dv;
    double scale; bool causal;
    const double *q, *k, *v, *bias;
    lk_shape bias_shape;
} attention;

static attention attention_of(const lk_kernel_call *c, int bias_input) {
    const lk_sdpa_attr *a = &c->node->attr.sdpa;
    attention t = {.batch = c->in_shape[0].d[0], .heads = a->heads, .tq = c->in_shape[0].d[1], .tk = c->in_shape[1].d[1], .causal = a->causal,
                   .d = c->in_shape[0].d[2] / a->heads, .dv = c->in_shape[2].d[2] / a->heads, .q = c->in[0], .k = c->in[1], .v = c->in[2],
                   .bias = ref_in(c, bias_input)};
    t.scale = a->scale != 0 ? a->scale : 1 / sqrt((double)t.d);
    if (t.bias) t.bias_shape = c->in_shape[bias_input];
    return t;
}
/* Element d of token i of a head in a [B, T, heads * width] value. */
static int64_t token(const attention *t, int64_t b, int64_t h, int64_t tokens, int64_t i, int64_t width, int64_t d) {
    return ((b * tokens + i) * t->heads + h) * width + d;
}
/* The probabilities of query i over all keys. */
static void probabilities(const attention *t, int64_t b, int64_t h, int64_t i, double *p) {
    lk_shape full = {4, {t->batch, t->heads, t->tq, t->tk}};
    double most = -INFINITY, sum = 0;
    for (int64_t j = 0; j < t->tk; j++) {
        double s = 0;
        for (int64_t d = 0; d < t->d; d++) s += t->q[token(t, b, h, t->tq, i, t->d, d)] * t->k[token(t, b, h, t->tk, j, t->d, d)];
        s *= t->scale;
        if (t->bias) s += t->bias[ref_broadcast_index(full, (int64_t[]){b, h, i, j}, t->bias_shape)];
        if (t->causal && j > i + t->tk - t->tq) s = -INFINITY;
        p[j] = s;
        if (s > most) most = s;
    }
    for (int64_t j = 0; j < t->tk; j++) sum += p[j] = exp(p[j] - most);
    for (int64_t j = 0; j < t->tk; j++) p[j] /= sum;
}

static void sdpa(const lk_kernel_call *c) {
    attention t = attention_of(c, 3);
    double *p = lk_xmalloc(sizeof(double) * (size_t)t.tk), *out = c->out;
    zero(c);
    for (int64_t b = 0; b < t.batch; b++) for (int64_t h = 0; h < t.heads; h++) for (int64_t i = 0; i < t.tq; i++) {
        probabilities(&t, b, h, i, p);
        for (int64_t j = 0; j < t.tk; j++) for (int64_t d = 0; d < t.dv; d++)
            out[token(&t, b, h, t.tq, i, t.dv, d)] += p[j] * t.v[token(&t, b, h, t.tk, j, t.dv, d)];
    }
    free(p);
}

static void sdpa_grad(const lk_kernel_call *c) {
    attention t = attention_of(c, 4);
    const double *dy = c->in[3];
    double *dq = c->out, *dk = dq + lk_numel(c->in_shape[0]), *dv = dk + lk_numel(c->in_shape[1]);
    double *p = lk_xmalloc(sizeof(double) * (size_t)t.tk), *dp = lk_xmalloc(sizeof(double) * (size_t)t.tk);
    zero(c);
    for (int64_t b = 0; b < t.batch; b++) for (int64_t h = 0; h < t.heads; h++) for (int64_t i = 0; i < t.tq; i++) {
        double mean = 0;                                             /* expectation of dp under p */
        probabilities(&t, b, h, i, p);
        for (int64_t j = 0; j < t.tk; j++) {
            dp[j] = 0;
            for (int64_t d = 0; d < t.dv; d++) {
                double g = dy[token(&t, b, h, t.tq, i, t.dv, d)];
                dp[j] += g * t.v[token(&t, b, h, t.tk, j, t.dv, d)];
                dv[token(&t, b, h, t.tk, j, t.dv, d)] += g * p[j];
            }
            mean += p[j] * dp[j];
        }
        for (int64_t j = 0; j < t.tk; j++) {
            double ds = p[j] * (dp[j] - mean) * t.scale;
            for (int64_t d = 0; d < t.d; d++) {
                int64_t iq = token(&t, b, h, t.tq, i, t.d, d), ik = token(&t, b, h, t.tk, j, t.d, d);
                dq[iq] += ds * t.k[ik];
                dk[ik] += ds * t.q[iq];
            }
        }
    }
    free(p); free(dp);
}

void ref_contract(lk_kernel *table) {
    table[LK_OP_matmul] = matmul;
    table[LK_OP_matmul_add] = matmul_add;
    table[LK_OP_conv2d] = conv2d;
    table[LK_OP_conv2d_dx] = conv2d_dx;
    table[LK_OP_conv2d_dw] = conv2d_dw;
    table[LK_OP_sdpa] = sdpa;
    table[LK_OP_sdpa_grad] = sdpa_grad;
}
