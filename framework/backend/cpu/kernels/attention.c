/* sdpa and sdpa_grad: softmax((q k^T) * scale + bias + causal mask) v, heads read by stride from [B, T, H*D].
 *
 * A query keeps its whole score row (numerics.md rule 4), so the bits are those of the decomposition into matmuls and
 * softmax; the score matrix of all queries never exists. Scores lie turned, in panels [keys][32 queries]: a query is a
 * lane, so softmax runs down the columns without a fold across lanes (softmax_panel.h), and heads of 4 or 8 features
 * fill whole vectors. Heads of one block of rule 2 go panel by panel, from keys that no panel layout copies (score_panel.h);
 * masked or wider ones a tile of panels at a time through the product core. The gradient's tiles are the blocks of 256
 * queries of rule 2: dk and dv add one finished chain a tile. Every panel of a head reads all its keys and values, which
 * lie a whole token apart: they are laid side by side once a head. */
#include "backend/cpu/kernels/score_panel.h"

enum { TILE_FLOATS = 131072 };                            /* scores a tile holds, about: 512 KiB */

typedef struct {
    int64_t b, h, tq, tk, d, w;                           /* w = h * d, the distance of tokens */
    int64_t close;                                        /* floats of a head's keys or values side by side; 0: they are read where they lie */
    int64_t kw;                                           /* distance of keys, and of values, as the products read them */
    int64_t rows, tiles;                                  /* query rows of a tile, tiles a head */
    int64_t panel;                                        /* floats of a panel of scores */
    int64_t scores, turned, sums;                         /* floats of a tile's scores, of its turned output, of the turned dk or dv */
    int64_t per_thread;                                   /* floats */
    bool direct, plain;                                   /* scores straight from the keys, panel by panel: d is one block of rule 2; and neither bias nor mask */
    float scale; bool causal, grad, swap;                 /* swap: dk and dv are made [d][keys], since d leaves most lanes empty */
    const float *q, *k, *v, *dy, *bias;
    int64_t bias_stride[4];                               /* [B, H, Tq, Tk], 0 where broadcast */
    float *out, *work;
} attention;

static int64_t whole(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }
static attention shape_of(const lk_node *node, const lk_shape *in, int threads) {
    const lk_sdpa_attr *a = &node->attr.sdpa;
    attention s = {.b = in[0].d[0], .h = a->heads, .tq = in[0].d[1], .tk = in[1].d[1], .w = in[0].d[2], .causal = a->causal, .grad = node->op == LK_OP_sdpa_grad};
    s.d = s.w / s.h;
    s.scale = (float)(a->scale != 0 ? a->scale : 1 / __builtin_sqrt((double)s.d));
    if (s.grad) s.rows = LK_KC;
    else {
        s.rows = lk_k_max(LK_PANEL, lk_k_min(256, TILE_FLOATS / lk_k_max(1, s.tk) / LK_PANEL * LK_PANEL));
        while (threads > 1 && s.rows > LK_PANEL && s.b * s.h * ((s.tq + s.rows - 1) / s.rows) < 2 * threads) s.rows = whole(s.rows / 2, LK_PANEL);
    }
    s.rows = lk_k_min(s.rows, s.tq);
    s.tiles = (s.tq + s.rows - 1) / lk_k_max(1, s.rows);
    s.panel = s.tk * LK_PANEL;
    s.direct = s.d <= LK_KC;
    s.plain = s.direct && !s.causal && node->n_in == 3 + s.grad;
    s.swap = lk_swap_pays(s.tk, s.d);
    s.close = s.h > 1 && s.tq > 2 * LK_PANEL ? whole(s.tk * s.d, 16) : 0;
    s.kw = s.close ? s.d : s.w;
    s.scores = s.plain && !s.grad ? s.panel : whole(s.rows, LK_PANEL) * s.tk;
    s.turned = (s.plain || s.grad ? LK_PANEL : whole(s.rows, LK_PANEL)) * s.d; s.sums = s.grad && s.swap ? whole(s.d * s.tk, 16) : 0;
    s.per_thread = LK_SCRATCH + LK_PANEL * LK_PANEL + s.d * LK_PANEL + s.scores * (s.grad ? 2 : 1) + s.turned + 2 * (s.sums + s.close);
    return s;
}
static void bias_of(attention *s, const float *bias, lk_shape shape) {
    s->bias = bias;
    int64_t stride = 1;
    for (int i = 3; i >= 0; i--) {
        int at = i - (4 - shape.rank);
        int64_t d = at >= 0 ? shape.d[at] : 1;
        s->bias_stride[i] = d == 1 ? 0 : stride;
        stride *= d;
    }
}
/* Where a thread's workspace holds what. */
typedef struct { float *scratch, *square, *queries, *p, *ds, *turned, *dk, *dv, *k, *v; } room;
static room room_of(const attention *s, int thread) {
    room r = {.scratch = s->work + thread * s->per_thread};
    r.square = r.scratch + LK_SCRATCH; r.queries = r.square + LK_PANEL * LK_PANEL; r.p = r.queries + s->d * LK_PANEL;
    r.ds = r.p + s->scores; r.turned = r.p + s->scores * (s->grad ? 2 : 1);
    r.dk = r.turned + s->turned; r.dv = r.dk + s->sums;
    r.k = r.dv + s->sums; r.v = r.k + s->close;
    return r;
}
/* One head's keys and values, kw apart. */
typedef struct { const float *k, *v; } pair;
static pair pair_of(const attention *s, int64_t b, int64_t h, const room *r) {
    pair at = {s->k + b * s->tk * s->w + h * s->d, s->v + b * s->tk * s->w + h * s->d};
    if (!s->close) return at;
    for (int64_t j = 0; j < s->tk; j++)
        for (int64_t i = 0; i < s->d; i++) { r->k[j * s->d + i] = at.k[j * s->w + i]; r->v[j * s->d + i] = at.v[j * s->w + i]; }
    return (pair){r->k, r->v};
}
/* A head's rows [from, ..) of [B, T, H*D]: rows by features, or features by rows. */
static lk_operand by_row(const float *p, int64_t stride) { return (lk_operand){.layout = LK_BY_ROW, .p = p, .stride = stride}; }
static lk_operand by_lane(const float *p, int64_t stride) { return (lk_operand){.layout = LK_BY_LANE, .p = p, .stride = stride}; }
/* A tile's scores as the b of a product over keys. */
static lk_operand scores_by_key(const attention *s, const float *p) { return (lk_operand){.layout = LK_BY_LANE, .p = p, .stride = LK_PANEL, .panel = s->panel}; }
/* The same with rows of keys, k running over queries. */
static lk_operand scores_by_query(const attention *s, const float *p) { return (lk_operand){.layout = LK_BY_ROW, .p = p, .stride = LK_PANEL, .period = LK_PANEL, .jump = s->panel}; }

/* a b^T of `rows` query rows, turned: keys down, queries in lanes; lanes past the last query are 0. */
static void turned_scores(const attention *s, const float *keys, const float *queries, int64_t rows, float *p, float *scratch) {
    if (rows % LK_PANEL) memset(p + rows / LK_PANEL * s->panel, 0, (size_t)s->panel * sizeof *p);
    lk_product c = {.a = by_row(keys, s->kw), .b = by_row(queries, s->w), .k = s->d, .c = p, .ldc = LK_PANEL, .c_lanes = LK_PANEL, .c_panel = s->panel};
    lk_gemm(&c, 0, s->tk, 0, rows, scratch);
}
/* s * scale + bias + mask of a panel that begins at query i0, in place. */
static void mask_panel(const attention *s, int64_t b, int64_t h, int64_t i0, int n, float *p, float *square) {
    const float scale = s->scale, *bias = s->bias ? s->bias + b * s->bias_stride[0] + h * s->bias_stride[1] + i0 * s->bias_stride[2] : NULL;
    for (int64_t j0 = 0; j0 < s->tk; j0 += LK_PANEL) {
        const int64_t m = lk_k_min(LK_PANEL, s->tk - j0);
        if (bias && s->bias_stride[2] && s->bias_stride[3]) lk_transpose(bias + j0, s->bias_stride[2], n, m, square, LK_PANEL);
        for (int64_t j = 0; j < m; j++) {
            float *row = p + (j0 + j) * LK_PANEL;
            const float *own = square + j * LK_PANEL, one = bias && !s->bias_stride[2] ? bias[(j0 + j) * s->bias_stride[3]] : 0.0f;
            if (!bias) for (int i = 0; i < n; i++) row[i] = row[i] * scale;
            else if (!s->bias_stride[2]) for (int i = 0; i < n; i++) row[i] = row[i] * scale + one;
            else if (s->bias_stride[3]) for (int i = 0; i < n; i++) row[i] = row[i] * scale + own[i];
            else for (int i = 0; i < n; i++) row[i] = row[i] * scale + bias[i * s->bias_stride[2]];
            /* query i sees keys up to i + Tk - Tq */
            if (s->causal) for (int64_t i = 0; i < lk_k_min(n, j0 + j - (s->tk - s->tq) - i0); i++) row[i] += -__builtin_inff();
        }
    }
}
/* n rows of [T, H*D] as [d][32], the lanes past them 0: a right side for a head's keys (or values). */
static lk_scores scores_of(const attention *s, const float *keys, const float *rows, int n, float *turned) {
    if (n < LK_PANEL) memset(turned, 0, (size_t)(s->d * LK_PANEL) * sizeof *turned);
    lk_transpose(rows, s->w, n, s->d, turned, LK_PANEL);
    return (lk_scores){keys, s->kw, s->tk, turned, s->d};
}
/* Probabilities of the n query rows from i0 on, a panel. */
static void plain_panel(const attention *s, const float *k, int64_t b, int64_t h, int64_t i0, int n, float *p, const room *r) {
    const lk_scores scores = scores_of(s, k, s->q + (b * s->tq + i0) * s->w + h * s->d, n, r->queries);
    lk_softmax_scores(&scores, n, p, s->scale);
}
/* Probabilities of query rows [i0, i0 + rows) of one head, where scores are masked or d has several blocks. */
static void probabilities(const attention *s, const float *k, int64_t b, int64_t h, int64_t i0, int64_t rows, const room *r) {
    turned_scores(s, k, s->q + (b * s->tq + i0) * s->w + h * s->d, rows, r->p, r->scratch);
    const bool masked = s->bias || s->causal;
    for (int64_t i = 0; i < rows; i += LK_PANEL) {
        const int n = (int)lk_k_min(LK_PANEL, rows - i);
        float *p = r->p + i / LK_PANEL * s->panel;
        if (masked) mask_panel(s, b, h, i0 + i, n, p, r->square);
        lk_softmax_panel(p, s->tk, n, masked ? 1.0f : s->scale);
    }
}
/* A turned output [d][32 queries] a panel, to rows of queries, times a scale if there is one. */
static void turn_back(const attention *s, float *turned, int64_t rows, float *out, bool scaled) {
    for (int64_t i = 0; i < rows; i += LK_PANEL) {
        float *from = turned + i * s->d;
        const float scale = s->scale;
        if (scaled) { LK_IVDEP for (int64_t j = 0; j < s->d * LK_PANEL; j++) from[j] *= scale; }
        lk_transpose(from, LK_PANEL, s->d, lk_k_min(LK_PANEL, rows - i), out + i * s->w, s->w);
    }
}
/* Sum over keys of scores and the keys' (or values') features: rows of the output from i0 on. */
static void over_keys(const attention *s, const float *features, const float *p, int64_t rows, float *out, bool scaled, const room *r) {
    lk_product y = {.a = by_lane(features, s->kw), .b = scores_by_key(s, p), .k = s->tk, .c = r->turned, .ldc = LK_PANEL, .c_lanes = LK_PANEL, .c_panel = s->d * LK_PANEL};
    lk_gemm(&y, 0, s->d, 0, rows, r->scratch);
    turn_back(s, r->turned, rows, out, scaled);
}
/* Sum over a tile's queries of scores and the queries' features, added to the tiles before: [keys][d] in place, or turned. */
static void over_queries(const attention *s, const float *features, const float *p, int64_t rows, bool first, float *out, float *turned, float *scratch) {
    lk_product c = {.k = rows, .add = !first};
    if (s->swap) {
        c.a = by_lane(features, s->w); c.b = scores_by_query(s, p); c.c = turned; c.ldc = s->tk;
        lk_gemm(&c, 0, s->d, 0, s->tk, scratch);
    } else {
        c.a = scores_by_query(s, p); c.b = by_lane(features, s->w); c.c = out; c.ldc = s->w;
        lk_gemm(&c, 0, s->tk, 0, s->d, scratch);
    }
}
static void forward_tiles(void *ctx, int64_t begin, int64_t end, int thread) {
    const attention *s = ctx;
    const room r = room_of(s, thread);
    pair head = {0};
    for (int64_t item = begin; item < end; item++) {
        int64_t i0 = item % s->tiles * s->rows, h = item / s->tiles % s->h, b = item / (s->tiles * s->h), rows = lk_k_min(s->rows, s->tq - i0);
        if (item == begin || !i0) head = pair_of(s, b, h, &r);
        float *out = s->out + (b * s->tq + i0) * s->w + h * s->d;
        if (!s->plain) { probabilities(s, head.k, b, h, i0, rows, &r); over_keys(s, head.v, r.p, rows, out, false, &r); continue; }
        for (int64_t i = 0; i < rows; i += LK_PANEL) {
            const int n = (int)lk_k_min(LK_PANEL, rows - i);
            plain_panel(s, head.k, b, h, i0 + i, n, r.p, &r);
            over_keys(s, head.v, r.p, n, out + i * s->w, false, &r);
        }
    }
}
static void scale_rows(float *c, int64_t rows, int64_t n, int64_t ld, float scale) {
    for (int64_t i = 0; i < rows; i++) { LK_IVDEP for (int64_t j = 0; j < n; j++) c[i * ld + j] *= scale; }
}
static void gradient_heads(void *ctx, int64_t begin, int64_t end, int thread) {
    const attention *s = ctx;
    const room r = room_of(s, thread);
    for (int64_t item = begin; item < end; item++) {
        const int64_t h = item % s->h, b = item / s->h, to_q = b * s->tq * s->w + h * s->d, to_k = b * s->tk * s->w + h * s->d;
        const pair head = pair_of(s, b, h, &r);
        float *dq = s->out + to_q, *dk = s->out + s->b * s->tq * s->w + to_k, *dv = dk + s->b * s->tk * s->w;
        for (int64_t i0 = 0; i0 < s->tq; i0 += s->rows) {
            const int64_t rows = lk_k_min(s->rows, s->tq - i0), at = to_q + i0 * s->w;
            if (!s->plain) probabilities(s, head.k, b, h, i0, rows, &r);
            if (!s->direct) turned_scores(s, head.v, s->dy + at, rows, r.ds, r.scratch);
            for (int64_t i = 0; i < rows; i += LK_PANEL) {
                const int n = (int)lk_k_min(LK_PANEL, rows - i);
                float *p = r.p + i / LK_PANEL * s->panel, *ds = r.ds + i / LK_PANEL * s->panel;
                if (s->plain) plain_panel(s, head.k, b, h, i0 + i, n, p, &r);
                if (s->direct) {
                    const lk_scores dp = scores_of(s, head.v, s->dy + at + i * s->w, n, r.queries);
                    lk_softmax_dx_scores(&dp, n, p, ds);
                } else lk_softmax_dx_panel(p, ds, s->tk, n);
                over_keys(s, head.k, ds, n, dq + (i0 + i) * s->w, true, &r);
            }
            over_queries(s, s->q + at, r.ds, rows, i0 == 0, dk, r.dk, r.scratch);
            over_queries(s, s->dy + at, r.p, rows, i0 == 0, dv, r.dv, r.scratch);
        }
        if (s->swap) {
            lk_transpose(r.dk, s->tk, s->d, s->tk, dk, s->w);
            lk_transpose(r.dv, s->tk, s->d, s->tk, dv, s->w);
        }
        scale_rows(dk, s->tk, s->d, s->w, s->scale);
    }
}
static void run(const lk_kernel_call *call) {
    lk_contract_counted();
    attention s = shape_of(call->node, call->in_shape, lk_pool_threads(call->pool));
    s.q = call->in[0]; s.k = call->in[1]; s.v = call->in[2]; s.dy = s.grad ? call->in[3] : NULL;
    s.out = call->out; s.work = call->work;
    const int bias = 3 + s.grad;
    if (call->node->n_in > bias && call->in[bias]) bias_of(&s, call->in[bias], call->in_shape[bias]);
    if (s.grad) lk_parallel(call->pool, s.b * s.h, 1, gradient_heads, &s);
    else lk_parallel(call->pool, s.b * s.h * s.tiles, 1, forward_tiles, &s);
}
int64_t LK_KNAME(lk_attention_workspace)(const lk_node *node, const lk_shape *in, int threads) {
    return shape_of(node, in, threads).per_thread * threads * (int64_t)sizeof(float);
}
void LK_KNAME(lk_kernels_attention)(lk_kernel *table) { table[LK_OP_sdpa] = run; table[LK_OP_sdpa_grad] = run; }
