/* shape_rules_heavy: shapes of contractions, pictures and fused operations. */
#include "graph/shape_rules.h"

/* ---- contractions ------------------------------------------------------------------------------------ */
static lk_shape leading(lk_shape s) { return s.rank -= 2, s; }

/* The shape of a b, a and b being inputs `first` and the next. */
static bool product_shape(lk_graph *g, lk_node *n, int first) {
    if (!lk_want_f32(g, n) || !lk_want_rank(g, n, first, 2, LK_MAX_RANK) || !lk_want_rank(g, n, first + 1, 2, LK_MAX_RANK)) return false;
    lk_shape a = lk_in_shape(g, n, first), b = lk_in_shape(g, n, first + 1);
    lk_mm mm = n->attr.matmul;
    int64_t m = a.d[a.rank - (mm.ta ? 1 : 2)], ka = a.d[a.rank - (mm.ta ? 2 : 1)];
    int64_t kb = b.d[b.rank - (mm.tb ? 1 : 2)], width = b.d[b.rank - (mm.tb ? 2 : 1)];
    if (ka != kb)
        return lk_node_fail(g, n, "the contracted sizes differ: %lld and %lld%s%s", (long long)ka, (long long)kb, mm.ta ? ", a transposed" : "",
                            mm.tb ? ", b transposed" : "");
    if (!lk_shapes_broadcast(leading(a), leading(b), &n->shape)) return lk_node_fail(g, n, "the leading axes do not broadcast");
    n->shape.d[n->shape.rank++] = m;
    n->shape.d[n->shape.rank++] = width;
    return true;
}

bool lk_rule_matmul(lk_graph *g, lk_node *n) {
    return product_shape(g, n, 0) && (n->n_in < 3 || lk_want_shape(g, n, 2, LK_SHAPE(n->shape.d[n->shape.rank - 1])));
}

bool lk_rule_matmul_add(lk_graph *g, lk_node *n) { return product_shape(g, n, 1) && lk_want_shape(g, n, 0, n->shape); }

/* Output size of a window sliding over a padded axis; 0 if it does not fit. */
static int64_t slid(int64_t size, int before, int after, int64_t kernel, int dilation, int stride) {
    int64_t room = size + before + after - ((kernel - 1) * dilation + 1);
    return room < 0 ? 0 : room / stride + 1;
}

static bool conv_attr_good(lk_graph *g, const lk_node *n) {
    const lk_conv *c = &n->attr.conv;
    for (int i = 0; i < 2; i++)
        if (c->stride[i] < 1 || c->dilation[i] < 1) return lk_node_fail(g, n, "stride and dilation are at least 1");
    for (int i = 0; i < 4; i++)
        if (c->pad[i] < 0) return lk_node_fail(g, n, "negative padding");
    return c->groups >= 1 || lk_node_fail(g, n, "groups is %d, at least 1 expected", c->groups);
}

/* The shape of y for x and w, or a failure that says what does not fit. */
static bool conv_out(lk_graph *g, const lk_node *n, lk_shape x, lk_shape w, lk_shape *y) {
    const lk_conv *c = &n->attr.conv;
    if (x.d[1] != w.d[1] * c->groups)
        return lk_node_fail(g, n, "x has %lld channels, the weight takes %lld in each of %d groups", (long long)x.d[1], (long long)w.d[1], c->groups);
    if (w.d[0] % c->groups) return lk_node_fail(g, n, "%lld output channels do not split into %d groups", (long long)w.d[0], c->groups);
    *y = LK_SHAPE(x.d[0], w.d[0], slid(x.d[2], c->pad[0], c->pad[2], w.d[2], c->dilation[0], c->stride[0]),
                  slid(x.d[3], c->pad[1], c->pad[3], w.d[3], c->dilation[1], c->stride[1]));
    return (y->d[2] > 0 && y->d[3] > 0) || lk_node_fail(g, n, "the kernel is larger than the padded picture");
}

static bool conv_inputs(lk_graph *g, const lk_node *n) {
    return lk_want_f32(g, n) && lk_want_rank(g, n, 0, 4, 4) && lk_want_rank(g, n, 1, 4, 4) && conv_attr_good(g, n);
}

bool lk_rule_conv2d(lk_graph *g, lk_node *n) {
    if (!conv_inputs(g, n)) return false;
    lk_shape w = lk_in_shape(g, n, 1);
    return conv_out(g, n, lk_in_shape(g, n, 0), w, &n->shape) && (n->n_in < 3 || lk_want_shape(g, n, 2, LK_SHAPE(w.d[0])));
}

bool lk_rule_conv2d_dx(lk_graph *g, lk_node *n) {
    if (!conv_inputs(g, n)) return false;
    const lk_conv *c = &n->attr.conv;
    lk_shape dy = lk_in_shape(g, n, 0), w = lk_in_shape(g, n, 1), y;
    n->shape = LK_SHAPE(dy.d[0], w.d[1] * c->groups, c->size[0], c->size[1]);
    return conv_out(g, n, n->shape, w, &y) && lk_want_shape(g, n, 0, y);
}

bool lk_rule_conv2d_dw(lk_graph *g, lk_node *n) {
    if (!conv_inputs(g, n)) return false;
    const lk_conv *c = &n->attr.conv;
    lk_shape x = lk_in_shape(g, n, 0), dy = lk_in_shape(g, n, 1), y;
    if (x.d[1] % c->groups) return lk_node_fail(g, n, "%lld channels do not split into %d groups", (long long)x.d[1], c->groups);
    n->shape = LK_SHAPE(dy.d[1], x.d[1] / c->groups, c->size[0], c->size[1]);
    return conv_out(g, n, x, n->shape, &y) && lk_want_shape(g, n, 1, y);
}

/* ---- pictures ------------------------------------------------------------------------------------------ */
static bool pool_out(lk_graph *g, const lk_node *n, lk_shape x, lk_shape *y) {
    const lk_pool2d *p = &n->attr.pool;
    for (int i = 0; i < 2; i++) {
        if (p->kernel[i] < 1 || p->stride[i] < 1) return lk_node_fail(g, n, "kernel and stride are at least 1");
        if (p->pad[i] < 0 || p->pad[i + 2] < 0 || p->pad[i] >= p->kernel[i]) return lk_node_fail(g, n, "padding is 0 to kernel - 1");
    }
    *y = LK_SHAPE(x.d[0], x.d[1], slid(x.d[2], p->pad[0], p->pad[2], p->kernel[0], 1, p->stride[0]),
                  slid(x.d[3], p->pad[1], p->pad[3], p->kernel[1], 1, p->stride[1]));
    if (y->d[2] < 1 || y->d[3] < 1) return lk_node_fail(g, n, "the window is larger than the padded picture");
    for (int i = 0; i < 2; i++)
        if ((y->d[2 + i] - 1) * p->stride[i] - p->pad[i] >= x.d[2 + i]) return lk_node_fail(g, n, "the last window lies wholly in the padding");
    return true;
}

bool lk_rule_pool(lk_graph *g, lk_node *n) {
    return lk_want_f32(g, n) && lk_want_rank(g, n, 0, 4, 4) && pool_out(g, n, lk_in_shape(g, n, 0), &n->shape);
}

bool lk_rule_max_pool2d_dx(lk_graph *g, lk_node *n) {
    if (!lk_want_f32(g, n) || !lk_want_rank(g, n, 0, 4, 4)) return false;
    lk_shape y;
    n->shape = lk_in_shape(g, n, 0);
    return pool_out(g, n, n->shape, &y) && lk_want_shape(g, n, 1, y);
}

bool lk_rule_max_pool2d_at(lk_graph *g, lk_node *n) {
    return lk_rule_pool(g, n) && lk_want_shape(g, n, 1, lk_in_shape(g, n, 0));
}

bool lk_rule_avg_pool2d_dx(lk_graph *g, lk_node *n) {
    if (!lk_want_f32(g, n) || !lk_want_rank(g, n, 0, 4, 4)) return false;
    lk_shape dy = lk_in_shape(g, n, 0), y;
    n->shape = LK_SHAPE(dy.d[0], dy.d[1], n->attr.pool.size[0], n->attr.pool.size[1]);
    return pool_out(g, n, n->shape, &y) && lk_want_shape(g, n, 0, y);
}

static bool picture_of_size(lk_graph *g, lk_node *n, const int size[2]) {
    if (!lk_want_f32(g, n) || !lk_want_rank(g, n, 0, 4, 4)) return false;
    lk_shape x = lk_in_shape(g, n, 0);
    n->shape = LK_SHAPE(x.d[0], x.d[1], size[0], size[1]);
    return (size[0] > 0 && size[1] > 0) || lk_node_fail(g, n, "the size %d x %d is below 1", size[0], size[1]);
}

bool lk_rule_resized(lk_graph *g, lk_node *n) { return picture_of_size(g, n, n->attr.size); }

bool lk_rule_warp(lk_graph *g, lk_node *n) {
    return picture_of_size(g, n, n->attr.warp.size) && lk_want_shape(g, n, 1, LK_SHAPE(n->shape.d[0], 2, 3));
}

/* ---- fused ----------------------------------------------------------------------------------------------- */
bool lk_rule_rows(lk_graph *g, lk_node *n) {
    n->shape = lk_in_shape(g, n, 0);
    return lk_want_f32(g, n) && lk_want_rank(g, n, 0, 1, LK_MAX_RANK);
}

bool lk_rule_rows_dx(lk_graph *g, lk_node *n) { return lk_rule_rows(g, n) && lk_want_shape(g, n, 1, n->shape); }

static bool scales_from(lk_graph *g, const lk_node *n, int first, int64_t size) {   /* gamma, beta: [size] */
    for (int i = first; i < n->n_in; i++)
        if (!lk_want_shape(g, n, i, LK_SHAPE(size))) return false;
    return n->attr.norm.eps >= 0 || lk_node_fail(g, n, "eps is negative");
}

bool lk_rule_norm(lk_graph *g, lk_node *n) {
    return lk_rule_rows(g, n) && scales_from(g, n, 1, n->shape.d[n->shape.rank - 1]);
}

bool lk_rule_norm_dx(lk_graph *g, lk_node *n) {
    return lk_rule_rows_dx(g, n) && scales_from(g, n, 2, n->shape.d[n->shape.rank - 1]);
}

bool lk_rule_group_norm(lk_graph *g, lk_node *n) {
    bool dx = n->op == LK_OP_group_norm_dx;
    if (!lk_want_f32(g, n) || !lk_want_rank(g, n, 0, 2, LK_MAX_RANK)) return false;
    n->shape = lk_in_shape(g, n, 0);
    int groups = n->attr.norm.groups;
    if (groups < 1 || n->shape.d[1] % groups) return lk_node_fail(g, n, "%lld channels do not split into %d groups", (long long)n->shape.d[1], groups);
    if (n->n_in == 2 + dx) return lk_node_fail(g, n, "gamma and beta are given together or not at all");
    return (!dx || lk_want_shape(g, n, 1, n->shape)) && scales_from(g, n, 1 + dx, n->shape.d[1]);
}

bool lk_rule_sdpa(lk_graph *g, lk_node *n) {
    bool grad = n->op == LK_OP_sdpa_grad;
    if (!lk_want_f32(g, n)) return false;
    for (int i = 0; i < 3; i++)
        if (!lk_want_rank(g, n, i, 3, 3)) return false;
    lk_shape q = lk_in_shape(g, n, 0), k = lk_in_shape(g, n, 1);
    int heads = n->attr.sdpa.heads;
    if (heads < 1 || q.d[2] % heads) return lk_node_fail(g, n, "the width %lld does not split into %d heads", (long long)q.d[2], heads);
    if (!lk_want_shape(g, n, 1, LK_SHAPE(q.d[0], k.d[1], q.d[2])) || !lk_want_shape(g, n, 2, k)) return false;
    if (grad && !lk_want_shape(g, n, 3, q)) return false;
    if (n->attr.sdpa.causal && k.d[1] < q.d[1]) return lk_node_fail(g, n, "causal attention needs at least as many keys as queries");
    int bias = 3 + grad;
    lk_shape scores = LK_SHAPE(q.d[0], heads, q.d[1], k.d[1]);
    if (n->n_in > bias && !lk_shape_reaches(lk_in_shape(g, n, bias), scores))
        return lk_node_fail(g, n, "the bias does not broadcast to the scores %s", lk_shape_text(g->arena, scores));
    n->shape = grad ? LK_SHAPE(lk_numel(q) + 2 * lk_numel(k)) : q;
    return true;
}

bool lk_rule_rope(lk_graph *g, lk_node *n) {
    if (!lk_want_f32(g, n) || !lk_want_rank(g, n, 0, 3, 3)) return false;
    n->shape = lk_in_shape(g, n, 0);
    int heads = n->attr.sdpa.heads;
    if (heads < 1 || n->shape.d[2] % heads || n->shape.d[2] / heads % 2)
        return lk_node_fail(g, n, "the width %lld does not split into %d heads of even width", (long long)n->shape.d[2], heads);
    lk_shape angles = LK_SHAPE(n->shape.d[1], n->shape.d[2] / heads / 2);
    return lk_want_shape(g, n, 1, angles) && lk_want_shape(g, n, 2, angles);
}

bool lk_rule_geglu(lk_graph *g, lk_node *n) {
    if (!lk_want_f32(g, n) || !lk_want_rank(g, n, 0, 1, LK_MAX_RANK)) return false;
    lk_shape x = lk_in_shape(g, n, 0), half = x;
    if (x.d[x.rank - 1] % 2) return lk_node_fail(g, n, "the last axis has odd size %lld", (long long)x.d[x.rank - 1]);
    half.d[x.rank - 1] /= 2;
    n->shape = n->op == LK_OP_geglu ? half : x;
    return n->op == LK_OP_geglu || lk_want_shape(g, n, 1, half);
}
