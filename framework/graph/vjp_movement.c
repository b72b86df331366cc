/* vjp_movement: movement and reductions. Each movement's adjoint is another movement: slice and pad, broadcast and sum,
 * gather and scatter. */
#include "graph/internal.h"

#define RULE(name) void lk_vjp_##name(lk_graph *g, const lk_node *n, lk_val y, lk_val dy, const bool *need, lk_val *dx)
#define UNUSED ((void)y, (void)need)

RULE(reshape) { UNUSED; dx[0] = lk_reshape(g, dy, lk_shape_of(g, n->in[0])); }

RULE(view) {                                 /* zeros before and after the run of elements */
    UNUSED;
    lk_shape whole = lk_shape_of(g, n->in[0]);
    int64_t length = lk_numel(n->shape), before = n->attr.view.offset;
    lk_window w = {.lo = {before}, .hi = {lk_numel(whole) - before - length}};
    dx[0] = lk_reshape(g, lk_pad(g, lk_reshape(g, dy, LK_SHAPE(length)), w), whole);
}

RULE(permute) {
    UNUSED;
    int inverse[LK_MAX_RANK];
    for (int i = 0; i < n->shape.rank; i++) inverse[n->attr.perm[i]] = i;
    dx[0] = lk_permute(g, dy, inverse);
}

RULE(slice) {
    UNUSED;
    lk_shape x = lk_shape_of(g, n->in[0]);
    lk_window w = n->attr.window;
    for (int i = 0; i < x.rank; i++) w.hi[i] = x.d[i] - w.hi[i];
    dx[0] = lk_pad(g, dy, w);
}

RULE(pad) {
    UNUSED;
    lk_shape x = lk_shape_of(g, n->in[0]);
    lk_window w = n->attr.window;
    for (int i = 0; i < x.rank; i++) w.hi[i] = w.lo[i] + x.d[i];
    dx[0] = lk_slice_nd(g, dy, w);
}

RULE(concat) {
    (void)y;
    int64_t at = 0;
    for (int i = 0; i < n->n_in; i++) {
        int64_t size = lk_dim(g, n->in[i], n->attr.axis);
        if (need[i]) dx[i] = lk_slice(g, dy, n->attr.axis, at, at + size);
        at += size;
    }
}

RULE(broadcast) { UNUSED; dx[0] = lk_sum_to(g, dy, lk_shape_of(g, n->in[0])); }

RULE(gather_rows) {
    (void)y;
    if (need[0]) dx[0] = lk_scatter_add_rows(g, dy, n->in[1], lk_dim(g, n->in[0], 0));
}

RULE(scatter_add_rows) {
    (void)y;
    if (need[0]) dx[0] = lk_gather_rows(g, dy, n->in[1]);
}

RULE(reduce_sum) {
    UNUSED;
    lk_shape x = lk_shape_of(g, n->in[0]);
    dx[0] = lk_broadcast(g, lk_keep_axes(g, dy, x, n->attr.axes), x);
}

RULE(reduce_max) {                           /* to the first maximum alone */
    UNUSED;
    lk_val kept = lk_keep_axes(g, dy, lk_shape_of(g, n->in[0]), n->attr.axes);
    dx[0] = lk_mul(g, lk_max_mask(g, n->in[0], n->attr.axes), kept);
}
