/* Contractions to launches: matmul and attention on the strided product, the convolution triple on its tap readers.
 * Attention keeps whole score rows (docs/numerics.md rule 4): queries go in tiles of a multiple of 256 rows that fit the
 * workspace; in the gradient dk and dv go on adding from tile to tile, one block of rule 2 after the other. */
#include "backend/cuda/kernels.h"
#include <string.h>

static lk_product_args product_new(const float *a, const float *b, float *c, int64_t m, int64_t n, int64_t k) {
    lk_product_args p = {.a = a, .b = b, .c = c, .m = m, .n = n, .k = k, .c_n = 1, .c_m = n};
    p.a_period = p.b_period = k > 0 ? k : 1;
    p.c_period = n > 0 ? n : 1;
    return p;
}
static void launch_product(lk_product_args *p, lk_cuda_kernel kernel, lk_cuda_launch launch, void *ctx) {
    p->tiles_m = (p->m + LK_TILE - 1) / LK_TILE; p->tiles_n = (p->n + LK_TILE - 1) / LK_TILE;
    int64_t blocks = p->tiles_m * p->tiles_n;
    for (int i = 0; i < p->rank; i++) blocks *= p->lead[i];
    if (blocks > 0) launch(ctx, kernel, blocks, p);
}

/* ---- matmul, matmul_add ---------------------------------------------------------------------------------------------------- */
void lk_cuda_lower_matmul(const lk_kernel_call *c, lk_cuda_launch launch, void *ctx) {
    const int first = c->node->op == LK_OP_matmul_add;            /* c, a, b */
    const lk_shape a = c->in_shape[first], b = c->in_shape[first + 1], out = c->node->shape;
    const lk_mm mm = c->node->attr.matmul;
    const int64_t ld_a = a.d[a.rank - 1], ld_b = b.d[b.rank - 1];
    const int64_t k = mm.ta ? a.d[a.rank - 2] : ld_a, n = mm.tb ? b.d[b.rank - 2] : ld_b;
    const bool shared = b.rank == 2 && !mm.ta;                    /* one product over all rows of a */
    const int64_t m = mm.ta ? ld_a : shared ? lk_cuda_span(a, 0, a.rank - 1) : a.d[a.rank - 2];
    lk_product_args p = product_new(c->in[first], c->in[first + 1], c->out, m, n, k);
    p.a_m = mm.ta ? 1 : ld_a; p.a_k = mm.ta ? ld_a : 1;
    p.b_n = mm.tb ? ld_b : 1; p.b_k = mm.tb ? 1 : ld_b;
    p.bias = !first && c->node->n_in > 2 ? c->in[2] : NULL; p.bias_n = 1;
    if (first) { p.onto = c->in[0]; p.scaled = 1; p.scale = (float)mm.alpha; }
    int64_t at_a = m * k, at_b = k * n, at_c = m * n;
    p.rank = shared ? 0 : out.rank - 2;
    for (int i = p.rank - 1; i >= 0; i--) {
        int ia = i - (out.rank - a.rank), ib = i - (out.rank - b.rank);
        int64_t da = ia >= 0 ? a.d[ia] : 1, db = ib >= 0 ? b.d[ib] : 1;
        p.lead[i] = out.d[i]; p.a_lead[i] = da == 1 ? 0 : at_a; p.b_lead[i] = db == 1 ? 0 : at_b; p.c_lead[i] = at_c;
        at_a *= da; at_b *= db; at_c *= out.d[i];
    }
    launch_product(&p, LK_CUDA_product, launch, ctx);
}

/* ---- the convolution triple ----------------------------------------------------------------------------------------- */
typedef struct { int64_t n, groups; lk_taps_args t; } geometry;
static geometry geometry_of(const lk_kernel_call *call) {
    const lk_node *node = call->node;
    const lk_conv *a = &node->attr.conv;
    const lk_shape x = node->op == LK_OP_conv2d_dx ? node->shape : call->in_shape[0];
    const lk_shape w = node->op == LK_OP_conv2d_dw ? node->shape : call->in_shape[1];
    const lk_shape y = node->op == LK_OP_conv2d ? node->shape : call->in_shape[node->op == LK_OP_conv2d_dw];
    geometry g = {.n = x.d[0], .groups = a->groups ? a->groups : 1};
    g.t = (lk_taps_args){.cg = w.d[1], .og = w.d[0] / g.groups, .h = x.d[2], .w = x.d[3], .oh = y.d[2], .ow = y.d[3], .kh = w.d[2], .kw = w.d[3],
                         .sh = a->stride[0] ? a->stride[0] : 1, .sw = a->stride[1] ? a->stride[1] : 1,
                         .dh = a->dilation[0] ? a->dilation[0] : 1, .dw = a->dilation[1] ? a->dilation[1] : 1, .top = a->pad[0], .left = a->pad[1]};
    return g;
}
static void conv2d(const lk_kernel_call *c, const geometry *g, lk_cuda_launch launch, void *ctx) {
    const lk_taps_args *t = &g->t;
    const int64_t taps = t->kh * t->kw, pixels = t->oh * t->ow;
    lk_product_args p = product_new(c->in[1], c->in[0], c->out, t->og, pixels, taps * t->cg);
    p.taps = *t;
    p.a_m = t->cg * taps; p.a_k = taps; p.a_k_far = 1; p.a_period = t->cg;         /* w [o, c, tap] by k = (tap, c) */
    p.bias = c->node->n_in > 2 ? c->in[2] : NULL; p.bias_m = 1;
    p.rank = 2; p.lead[0] = g->n; p.lead[1] = g->groups;
    p.a_lead[1] = t->og * t->cg * taps; p.bias_lead[1] = t->og;
    p.b_lead[1] = t->cg * t->h * t->w; p.b_lead[0] = g->groups * p.b_lead[1];
    p.c_lead[1] = t->og * pixels; p.c_lead[0] = g->groups * p.c_lead[1];
    launch_product(&p, LK_CUDA_conv, launch, ctx);
}
/* Kernel positions k on the lattice of residue class r along one axis: r + pad - k * dilation divisible by stride. */
typedef struct { int64_t first, step, count; } lattice;
static lattice lattice_of(int64_t r, int64_t pad, int64_t stride, int64_t dilation, int64_t kernel) {
    lattice l = {0, 1, 0};
    int64_t found[2] = {0, 0};
    for (int64_t k = 0; k < kernel; k++) if ((r + pad - k * dilation) % stride == 0) { if (l.count < 2) found[l.count] = k; l.count++; }
    l.first = found[0];
    if (l.count > 1) l.step = found[1] - found[0];
    return l;
}
static void conv2d_dx(const lk_kernel_call *c, const geometry *g, lk_cuda_launch launch, void *ctx) {
    const lk_taps_args *t = &g->t;
    const int64_t taps = t->kh * t->kw;
    for (int64_t ry = 0; ry < t->sh && ry < t->h; ry++) for (int64_t rx = 0; rx < t->sw && rx < t->w; rx++) {
        lattice y = lattice_of(ry, t->top, t->sh, t->dh, t->kh), x = lattice_of(rx, t->left, t->sw, t->dw, t->kw);
        const int64_t height = (t->h - ry + t->sh - 1) / t->sh, width = (t->w - rx + t->sw - 1) / t->sw;
        lk_product_args p = product_new(c->in[1], c->in[0], (float *)c->out + ry * t->w + rx, t->cg, height * width, y.count * x.count * t->og);
        p.taps = *t;
        p.taps.ry = ry; p.taps.rx = rx; p.taps.class_w = width;
        p.taps.kh0 = y.first; p.taps.kh_step = y.step; p.taps.kw0 = x.first; p.taps.kw_step = x.step; p.taps.kw_count = x.count;
        p.c_m = t->h * t->w; p.c_n = t->sw; p.c_n_far = t->sh * t->w; p.c_period = width;
        p.rank = 2; p.lead[0] = g->n; p.lead[1] = g->groups;
        p.a_lead[1] = t->og * t->cg * taps;
        p.b_lead[1] = t->og * t->oh * t->ow; p.b_lead[0] = g->groups * p.b_lead[1];
        p.c_lead[1] = t->cg * t->h * t->w; p.c_lead[0] = g->groups * p.c_lead[1];
        launch_product(&p, LK_CUDA_conv_dx, launch, ctx);
    }
}
static void conv2d_dw(const lk_kernel_call *c, const geometry *g, lk_cuda_launch launch, void *ctx) {
    const lk_taps_args *t = &g->t;
    const int64_t taps = t->kh * t->kw, pixels = t->oh * t->ow;
    lk_product_args p = product_new(c->in[1], c->in[0], c->out, t->og, t->cg * taps, g->n * pixels);
    p.taps = *t;
    p.taps.images = g->groups * t->cg * t->h * t->w;
    p.a_m = pixels; p.a_k = 1; p.a_period = pixels > 0 ? pixels : 1; p.a_k_far = g->groups * t->og * pixels;     /* dy by k = (n, pixel) */
    p.rank = 1; p.lead[0] = g->groups;
    p.a_lead[0] = t->og * pixels; p.b_lead[0] = t->cg * t->h * t->w; p.c_lead[0] = t->og * t->cg * taps;
    launch_product(&p, LK_CUDA_conv_dw, launch, ctx);
}
void lk_cuda_lower_conv(const lk_kernel_call *c, lk_cuda_launch launch, void *ctx) {
    geometry g = geometry_of(c);
    if (c->node->op == LK_OP_conv2d) conv2d(c, &g, launch, ctx);
    else if (c->node->op == LK_OP_conv2d_dx) conv2d_dx(c, &g, launch, ctx);
    else conv2d_dw(c, &g, launch, ctx);
}

/* ---- attention ------------------------------------------------------------------------------------------------------------ */
enum { SCORE_FLOATS = 64 << 20 };                          /* 256 MiB of scores at most, unless 256 query rows take more */
typedef struct { int64_t b, h, tq, tk, d, w, rows; float scale; bool causal, grad; } attention;
static attention attention_of(const lk_node *node, lk_shape q, lk_shape k) {
    const lk_sdpa_attr *a = &node->attr.sdpa;
    attention s = {.b = q.d[0], .h = a->heads, .tq = q.d[1], .tk = k.d[1], .w = q.d[2], .d = q.d[2] / a->heads, .causal = a->causal, .grad = node->op == LK_OP_sdpa_grad};
    s.scale = (float)(a->scale != 0 ? a->scale : 1 / __builtin_sqrt((double)s.d));
    int64_t row = s.b * s.h * s.tk * (s.grad ? 2 : 1), fit = row > 0 ? SCORE_FLOATS / row / LK_K_BLOCK * LK_K_BLOCK : s.tq;
    s.rows = fit < LK_K_BLOCK ? LK_K_BLOCK : fit;
    if (s.rows > s.tq) s.rows = s.tq;
    return s;
}
int64_t lk_cuda_scores(const lk_node *n, const lk_shape *in_shape) {
    if (n->op != LK_OP_sdpa && n->op != LK_OP_sdpa_grad) return 0;
    attention s = attention_of(n, in_shape[0], in_shape[1]);
    return s.b * s.h * s.rows * s.tk * (s.grad ? 2 : 1) * (int64_t)sizeof(float);
}
int64_t lk_cuda_workspace(const lk_graph *g, const lk_node *n, int threads) {
    (void)threads;
    if (n->op != LK_OP_sdpa && n->op != LK_OP_sdpa_grad) return 0;
    return lk_cuda_scores(n, (lk_shape[]){lk_shape_of(g, n->in[0]), lk_shape_of(g, n->in[1])});
}
/* A product per batch and head; strides of tokens are w on packed heads, tk on scores. */
static void lead(const attention *s, int64_t *to, bool scores, int64_t tokens, int64_t rows) {
    to[0] = scores ? s->h * rows * s->tk : tokens * s->w;
    to[1] = scores ? rows * s->tk : s->d;
}
static lk_product_args heads(const attention *s, const float *a, const float *b, float *c, int64_t m, int64_t n, int64_t k) {
    lk_product_args p = product_new(a, b, c, m, n, k);
    p.rank = 2; p.lead[0] = s->b; p.lead[1] = s->h;
    return p;
}
/* scores = x y^T of query rows and keys. */
static lk_product_args score_product(const attention *s, const float *x, const float *y, float *scores, int64_t rows) {
    lk_product_args p = heads(s, x, y, scores, rows, s->tk, s->d);
    p.a_m = p.b_n = s->w; p.a_k = p.b_k = 1; p.c_m = s->tk;
    lead(s, p.a_lead, false, s->tq, 0); lead(s, p.b_lead, false, s->tk, 0); lead(s, p.c_lead, true, 0, rows);
    return p;
}
/* out rows = scores y, y [Tk, D]. */
static lk_product_args value_product(const attention *s, const float *scores, const float *y, float *out, int64_t rows) {
    lk_product_args p = heads(s, scores, y, out, rows, s->d, s->tk);
    p.a_m = s->tk; p.a_k = 1; p.b_n = 1; p.b_k = s->w; p.c_m = s->w;
    lead(s, p.a_lead, true, 0, rows); lead(s, p.b_lead, false, s->tk, 0); lead(s, p.c_lead, false, s->tq, 0);
    return p;
}
/* out [Tk, D] (+)= scores^T x, x query rows. */
static lk_product_args key_product(const attention *s, const float *scores, const float *x, float *out, int64_t rows, bool add) {
    lk_product_args p = heads(s, scores, x, out, s->tk, s->d, rows);
    p.a_m = 1; p.a_k = s->tk; p.b_n = 1; p.b_k = s->w; p.c_m = s->w; p.add = add;
    lead(s, p.a_lead, true, 0, rows); lead(s, p.b_lead, false, s->tq, 0); lead(s, p.c_lead, false, s->tk, 0);
    return p;
}
static void bias_of(lk_product_args *p, const float *bias, lk_shape shape, int64_t q0) {
    int64_t stride[4], n = 1;
    for (int i = 3; i >= 0; i--) {
        int at = i - (4 - shape.rank);
        int64_t d = at >= 0 ? shape.d[at] : 1;
        stride[i] = d == 1 ? 0 : n;
        n *= d;
    }
    p->bias = bias + q0 * stride[2];
    p->bias_lead[0] = stride[0]; p->bias_lead[1] = stride[1]; p->bias_m = stride[2]; p->bias_n = stride[3];
}
void lk_cuda_lower_sdpa(const lk_kernel_call *c, lk_cuda_launch launch, void *ctx) {
    const attention s = attention_of(c->node, c->in_shape[0], c->in_shape[1]);
    const float *q = c->in[0], *k = c->in[1], *v = c->in[2];
    const int bias = 3 + s.grad;
    float *prob = c->work, *dscore = prob + s.b * s.h * s.rows * s.tk, *out = c->out, *dk = out + s.b * s.tq * s.w, *dv = dk + s.b * s.tk * s.w;
    for (int64_t q0 = 0; q0 < s.tq; q0 += s.rows) {
        const int64_t rows = s.rows < s.tq - q0 ? s.rows : s.tq - q0, skip = q0 * s.w, all = s.b * s.h * rows;
        lk_product_args p = score_product(&s, q + skip, k, prob, rows);
        p.scaled = 1; p.scale = s.scale; p.causal = s.causal; p.causal_from = q0 + s.tk - s.tq;
        if (c->node->n_in > bias && c->in[bias]) bias_of(&p, c->in[bias], c->in_shape[bias], q0);
        launch_product(&p, LK_CUDA_product, launch, ctx);
        lk_softmax_args soft = {prob, prob, NULL, s.tk};
        if (all > 0 && s.tk > 0) launch(ctx, LK_CUDA_softmax, all, &soft);
        if (!s.grad) { p = value_product(&s, prob, v, out + skip, rows); launch_product(&p, LK_CUDA_product, launch, ctx); continue; }
        const float *dy = (const float *)c->in[3] + skip;
        const bool last = q0 + rows == s.tq;
        p = score_product(&s, dy, v, dscore, rows);
        launch_product(&p, LK_CUDA_product, launch, ctx);
        lk_softmax_args back = {dscore, prob, dscore, s.tk};
        if (all > 0 && s.tk > 0) launch(ctx, LK_CUDA_softmax_dx, all, &back);
        p = value_product(&s, dscore, k, out + skip, rows);
        p.scaled = 1; p.scale = s.scale;
        launch_product(&p, LK_CUDA_product, launch, ctx);
        p = key_product(&s, dscore, q + skip, dk, rows, q0 > 0);
        p.scaled = last; p.scale = s.scale;
        launch_product(&p, LK_CUDA_product, launch, ctx);
        p = key_product(&s, prob, dy, dv, rows, q0 > 0);
        launch_product(&p, LK_CUDA_product, launch, ctx);
    }
}
