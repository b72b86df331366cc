/* Nodes to launches: everything but contractions (lower_contract.c). A lowering only looks at shapes, attributes and
 * addresses; it never reads an element, for elements live on the device. */
#include "backend/cuda/kernels.h"
#include <string.h>

static int64_t flat_blocks(int64_t n) { return (n + LK_FLAT_BLOCK - 1) / LK_FLAT_BLOCK; }
#define LAUNCH(kernel, blocks, args) do { int64_t n_ = (blocks); if (n_ > 0) launch(ctx, LK_CUDA_##kernel, n_, &(args)); } while (0)
#define LOWER(name) static void name(const lk_kernel_call *c, lk_cuda_launch launch, void *ctx)
static void strides_of(lk_shape s, int64_t *stride) {
    int64_t n = 1;
    for (int i = s.rank - 1; i >= 0; n *= s.d[i], i--) stride[i] = n;
}
/* Strides by the output's axes, 0 where broadcast. */
static void broadcast_strides(lk_shape in, lk_shape out, int64_t *stride) {
    int64_t n = 1;
    for (int i = out.rank - 1; i >= 0; i--) {
        int j = i - (out.rank - in.rank);
        int64_t d = j >= 0 ? in.d[j] : 1;
        stride[i] = d == 1 ? 0 : n;
        n *= d;
    }
}

/* ---- elementwise ------------------------------------------------------------------------------------------------ */
static const lk_cuda_kernel ew_kernel[LK_OP_COUNT] = {
#define EW(name, expr) [LK_OP_##name] = LK_CUDA_##name,
    LK_EW1(EW) LK_EW2(EW) LK_EW3(EW)
#undef EW
};
LOWER(elementwise) {
    lk_ew_args a = {.out = c->out, .n = lk_cuda_numel(c->node->shape), .rank = c->node->shape.rank};
    memcpy(a.d, c->node->shape.d, sizeof a.d);
    for (int k = 0; k < c->node->n_in; k++) { a.in[k] = c->in[k]; broadcast_strides(c->in_shape[k], c->node->shape, a.stride[k]); }
    if (a.n) launch(ctx, ew_kernel[c->node->op], flat_blocks(a.n), &a);
}
LOWER(geglu) {
    lk_shape x = c->in_shape[0];
    lk_geglu_args a = {.out = c->out, .x = c->in[0], .dy = c->node->n_in > 1 ? c->in[1] : NULL, .n = lk_cuda_numel(x) / 2, .d = x.d[x.rank - 1] / 2};
    if (a.dy) LAUNCH(geglu_dx, flat_blocks(a.n), a); else LAUNCH(geglu, flat_blocks(a.n), a);
}

/* ---- movement -------------------------------------------------------------------------------------------------------- */
static lk_box_args box_of(const lk_kernel_call *c, lk_shape d) {
    lk_box_args a = {.out = c->out, .in = c->in[0], .n = lk_cuda_numel(d), .rank = d.rank, .wide = c->node->dtype == LK_I64};
    memcpy(a.d, d.d, sizeof a.d);
    strides_of(c->node->shape, a.to);
    return a;
}
static const void *ahead(const lk_box_args *a, int64_t elements) { return (const char *)a->in + elements * (a->wide ? 8 : 4); }
LOWER(permute) {
    lk_box_args a = box_of(c, c->node->shape);
    int64_t stride[LK_MAX_RANK];
    strides_of(c->in_shape[0], stride);
    for (int i = 0; i < a.rank; i++) a.from[i] = stride[c->node->attr.perm[i]];
    LAUNCH(box, flat_blocks(a.n), a);
}
LOWER(slice) {
    lk_box_args a = box_of(c, c->node->shape);
    strides_of(c->in_shape[0], a.from);
    for (int i = 0; i < a.rank; i++) a.in = ahead(&a, c->node->attr.window.lo[i] * a.from[i]);
    LAUNCH(box, flat_blocks(a.n), a);
}
LOWER(pad) {
    lk_box_args a = box_of(c, c->node->shape);
    a.padded = 1;
    strides_of(c->in_shape[0], a.from);
    memcpy(a.inside, c->in_shape[0].d, sizeof a.inside);
    memcpy(a.before, c->node->attr.window.lo, sizeof a.before);
    LAUNCH(box, flat_blocks(a.n), a);
}
LOWER(broadcast) {
    lk_box_args a = box_of(c, c->node->shape);
    broadcast_strides(c->in_shape[0], c->node->shape, a.from);
    LAUNCH(box, flat_blocks(a.n), a);
}
LOWER(concat) {
    int axis = c->node->attr.axis < 0 ? c->node->attr.axis + c->node->shape.rank : c->node->attr.axis;
    char *at = c->out;
    for (int k = 0; k < c->node->n_in; k++) {
        lk_box_args a = box_of(c, c->in_shape[k]);
        a.out = at; a.in = c->in[k];
        strides_of(c->in_shape[k], a.from);
        LAUNCH(box, flat_blocks(a.n), a);
        at += a.d[axis] * a.to[axis] * (a.wide ? 8 : 4);
    }
}
LOWER(assign) {
    if (c->in[0] == c->in[1]) return;
    lk_box_args a = {.out = c->in[0], .in = c->in[1], .n = lk_cuda_numel(c->in_shape[0]), .rank = 1, .wide = c->node->dtype == LK_I64};
    a.d[0] = a.n; a.to[0] = a.from[0] = 1;
    LAUNCH(box, flat_blocks(a.n), a);
}
static lk_rows_args rows_of(const lk_kernel_call *c, lk_shape table) {
    return (lk_rows_args){c->out, c->in[0], c->in[1], lk_cuda_numel(c->in_shape[1]), lk_cuda_span(table, 1, table.rank), table.d[0], c->node->dtype == LK_I64};
}
LOWER(gather) { lk_rows_args a = rows_of(c, c->in_shape[0]); LAUNCH(gather, flat_blocks(a.n_ids * a.d), a); }
LOWER(scatter) { lk_rows_args a = rows_of(c, c->node->shape); LAUNCH(scatter, flat_blocks(a.count * a.d), a); }

/* ---- reductions, softmax, norms: one block a row ------------------------------------------------------------------------ */
static lk_reduce_args reduction_of(const lk_kernel_call *c) {
    const lk_axes *axes = &c->node->attr.axes;
    lk_shape in = c->in_shape[0];
    lk_reduce_args a = {.out = c->out, .x = c->in[0], .outputs = 1, .count = 1};
    bool reduced[LK_MAX_RANK] = {false};
    int64_t stride[LK_MAX_RANK];
    for (int i = 0; i < axes->n; i++) reduced[axes->axis[i] < 0 ? axes->axis[i] + in.rank : axes->axis[i]] = true;
    strides_of(in, stride);
    for (int i = 0; i < in.rank; i++) {
        if (in.d[i] == 1) continue;
        if (reduced[i]) { a.red[a.n_red] = in.d[i]; a.red_stride[a.n_red++] = stride[i]; a.count *= in.d[i]; }
        else { a.kept[a.n_kept] = in.d[i]; a.kept_stride[a.n_kept++] = stride[i]; a.outputs *= in.d[i]; }
    }
    return a;
}
LOWER(reduce_sum) { lk_reduce_args a = reduction_of(c); LAUNCH(reduce_sum, a.outputs, a); }
LOWER(reduce_max) { lk_reduce_args a = reduction_of(c); LAUNCH(reduce_max, a.outputs, a); }
LOWER(max_mask)   { lk_reduce_args a = reduction_of(c); if (a.count) LAUNCH(max_mask, a.outputs, a); }
LOWER(softmax) {
    lk_shape s = c->node->shape;
    lk_softmax_args a = {c->out, c->in[0], c->node->n_in > 1 ? c->in[1] : NULL, s.rank ? s.d[s.rank - 1] : 1};
    int64_t all = lk_cuda_numel(s);
    if (a.dy && all) LAUNCH(softmax_dx, all / a.n, a);
    else if (all) LAUNCH(softmax, all / a.n, a);
}
static const float *input(const lk_kernel_call *c, int i) { return i < c->node->n_in ? c->in[i] : NULL; }
LOWER(norm) {
    const lk_op op = c->node->op;
    const bool dx = op == LK_OP_layer_norm_dx || op == LK_OP_rms_norm_dx || op == LK_OP_group_norm_dx, grouped = op == LK_OP_group_norm || op == LK_OP_group_norm_dx;
    const lk_norm *attr = &c->node->attr.norm;
    lk_shape s = c->in_shape[0];
    lk_norm_args a = {.out = c->out, .x = c->in[0], .dy = dx ? c->in[1] : NULL, .gamma = input(c, 1 + dx), .beta = input(c, 2 + dx), .span = 1,
                      .n = s.rank ? s.d[s.rank - 1] : 1, .eps = (float)attr->eps, .rms = op == LK_OP_rms_norm || op == LK_OP_rms_norm_dx, .silu = grouped && attr->silu};
    if (grouped) { a.groups = attr->groups; a.channels = s.d[1] / attr->groups; a.span = lk_cuda_span(s, 2, s.rank); a.n = a.channels * a.span; }
    a.count = (float)a.n;
    if (!a.n) return;
    if (dx) LAUNCH(norm_dx, lk_cuda_numel(s) / a.n, a); else LAUNCH(norm, lk_cuda_numel(s) / a.n, a);
}

/* ---- pictures ---------------------------------------------------------------------------------------------------------------- */
static lk_pool_args pool_of(const lk_kernel_call *c, lk_shape big, lk_shape small) {
    const lk_pool2d *p = &c->node->attr.pool;
    lk_pool_args a = {.out = c->out, .planes = lk_cuda_span(big, 0, big.rank - 2), .h = big.d[big.rank - 2], .w = big.d[big.rank - 1],
                      .oh = small.d[small.rank - 2], .ow = small.d[small.rank - 1], .count_pad = p->count_pad};
    for (int i = 0; i < 2; i++) {
        a.kernel[i] = p->kernel[i]; a.stride[i] = p->stride[i] ? p->stride[i] : 1; a.pad[i] = p->pad[i];
        a.padded[i] = (i ? a.w : a.h) + p->pad[i] + p->pad[i + 2];
    }
    return a;
}
LOWER(max_pool) {
    lk_pool_args a = pool_of(c, c->in_shape[0], c->node->shape);
    a.x = c->in[0]; a.dy = input(c, 1);
    LAUNCH(max_pool, flat_blocks(a.planes * a.oh * a.ow), a);
}
LOWER(max_pool_dx) {
    lk_pool_args a = pool_of(c, c->in_shape[0], c->in_shape[1]);
    a.x = c->in[0]; a.dy = c->in[1];
    LAUNCH(max_pool_dx, flat_blocks(a.planes * a.h * a.w), a);
}
LOWER(avg_pool) {
    lk_pool_args a = pool_of(c, c->in_shape[0], c->node->shape);
    a.x = c->in[0];
    LAUNCH(avg_pool, flat_blocks(a.planes * a.oh * a.ow), a);
}
LOWER(avg_pool_dx) {
    lk_pool_args a = pool_of(c, c->node->shape, c->in_shape[0]);
    a.dy = c->in[0];
    LAUNCH(avg_pool_dx, flat_blocks(a.planes * a.h * a.w), a);
}
static lk_nearest_args nearest_of(const lk_kernel_call *c, lk_shape small, lk_shape big) {
    return (lk_nearest_args){c->out, c->in[0], lk_cuda_span(big, 0, big.rank - 2), small.d[small.rank - 2], small.d[small.rank - 1], big.d[big.rank - 2], big.d[big.rank - 1]};
}
LOWER(upsample)    { lk_nearest_args a = nearest_of(c, c->in_shape[0], c->node->shape); LAUNCH(upsample, flat_blocks(a.planes * a.oh * a.ow), a); }
LOWER(upsample_dx) { lk_nearest_args a = nearest_of(c, c->node->shape, c->in_shape[0]); LAUNCH(upsample_dx, flat_blocks(a.planes * a.h * a.w), a); }
static lk_warp_args warp_of(const lk_kernel_call *c, lk_shape source, lk_shape dest) {
    return (lk_warp_args){c->out, c->in[0], c->in[1], source.d[0] * source.d[1], source.d[1], source.d[2], source.d[3], dest.d[2], dest.d[3], c->node->attr.warp.clamp};
}
LOWER(warp)    { lk_warp_args a = warp_of(c, c->in_shape[0], c->node->shape); LAUNCH(warp, flat_blocks(a.planes * a.oh * a.ow), a); }
LOWER(warp_dx) { lk_warp_args a = warp_of(c, c->node->shape, c->in_shape[0]); LAUNCH(warp_dx, flat_blocks(a.planes * a.h), a); }

/* ---- services -------------------------------------------------------------------------------------------------------------------- */
LOWER(timestep_embed) {
    const lk_tembed *e = &c->node->attr.tembed;
    lk_embed_args a = {c->out, c->in[0], lk_cuda_numel(c->in_shape[0]), e->dim, e->flip_sin_to_cos, e->freq_shift, e->scale != 0 ? e->scale : 1.0, e->max_period != 0 ? e->max_period : 10000.0};
    LAUNCH(timestep_embed, flat_blocks(a.n * a.dim), a);
}
LOWER(rope_table) {
    const lk_rtable *r = &c->node->attr.rtable;
    lk_table_args a = {.out = c->out, .ids = c->in[0], .tokens = c->node->shape.d[1], .width = c->node->shape.d[2], .n = r->n, .theta = r->theta};
    for (int i = 0; i < r->n; i++) a.dims[i] = r->dims[i];
    LAUNCH(rope_table, flat_blocks(a.tokens * a.width), a);
}
LOWER(rope) {
    lk_shape s = c->in_shape[0];
    int64_t heads = c->node->attr.sdpa.heads > 1 ? c->node->attr.sdpa.heads : 1;
    lk_rope_args a = {c->out, c->in[0], c->in[1], c->in[2], lk_cuda_numel(s) / 2, s.d[1], heads, s.d[2] / heads / 2};
    LAUNCH(rope, flat_blocks(a.n), a);
}
LOWER(random_numbers) {
    int64_t samples = lk_cuda_numel(c->in_shape[2]), each = samples ? lk_cuda_numel(c->node->shape) / samples : 0;
    lk_random_args a = {c->out, c->in[0], c->in[1], c->in[2], 0xcbf29ce484222325u, samples, each, (each + 3) / 4, c->node->op == LK_OP_randn};
    for (const unsigned char *s = (const unsigned char *)c->node->attr.random.stream; *s; s++) a.name = (a.name ^ *s) * 0x100000001b3u;
    LAUNCH(random, flat_blocks(a.n_samples * a.blocks), a);
}
LOWER(ema) { lk_ema_args a = {c->in[0], c->in[1], c->in[2], lk_cuda_numel(c->in_shape[0])}; LAUNCH(ema, flat_blocks(a.n), a); }
LOWER(adamw) {
    const lk_adamw_attr *w = &c->node->attr.adamw;
    lk_adamw_args a = {c->in[0], c->in[1], c->in[2], c->in[3], c->in[4], c->in[5], c->in[6], lk_cuda_numel(c->in_shape[0]),
                       (float)w->beta1, (float)(1.0 - w->beta1), (float)w->beta2, (float)(1.0 - w->beta2), (float)w->eps, (float)w->weight_decay};
    LAUNCH(adamw, flat_blocks(a.n), a);
}

const lk_cuda_lowering lk_cuda_lower[LK_OP_COUNT] = {
#define EW(name, expr) [LK_OP_##name] = elementwise,
    LK_EW1(EW) LK_EW2(EW) LK_EW3(EW)
#undef EW
    [LK_OP_geglu] = geglu, [LK_OP_geglu_dx] = geglu, [LK_OP_permute] = permute, [LK_OP_slice] = slice, [LK_OP_pad] = pad, [LK_OP_concat] = concat,
    [LK_OP_broadcast] = broadcast, [LK_OP_gather_rows] = gather, [LK_OP_scatter_add_rows] = scatter, [LK_OP_reduce_sum] = reduce_sum,
    [LK_OP_reduce_max] = reduce_max, [LK_OP_max_mask] = max_mask, [LK_OP_softmax] = softmax, [LK_OP_softmax_dx] = softmax,
    [LK_OP_layer_norm] = norm, [LK_OP_layer_norm_dx] = norm, [LK_OP_rms_norm] = norm, [LK_OP_rms_norm_dx] = norm, [LK_OP_group_norm] = norm, [LK_OP_group_norm_dx] = norm,
    [LK_OP_max_pool2d] = max_pool, [LK_OP_max_pool2d_at] = max_pool, [LK_OP_max_pool2d_dx] = max_pool_dx, [LK_OP_avg_pool2d] = avg_pool, [LK_OP_avg_pool2d_dx] = avg_pool_dx,
    [LK_OP_upsample_nearest] = upsample, [LK_OP_upsample_nearest_dx] = upsample_dx, [LK_OP_affine_warp] = warp, [LK_OP_affine_warp_dx] = warp_dx,
    [LK_OP_timestep_embed] = timestep_embed, [LK_OP_rope_table] = rope_table, [LK_OP_rope] = rope, [LK_OP_randn] = random_numbers, [LK_OP_randu] = random_numbers,
    [LK_OP_assign] = assign, [LK_OP_ema] = ema, [LK_OP_adamw] = adamw,
    [LK_OP_matmul] = lk_cuda_lower_matmul, [LK_OP_matmul_add] = lk_cuda_lower_matmul, [LK_OP_conv2d] = lk_cuda_lower_conv, [LK_OP_conv2d_dx] = lk_cuda_lower_conv, [LK_OP_conv2d_dw] = lk_cuda_lower_conv,
    [LK_OP_sdpa] = lk_cuda_lower_sdpa, [LK_OP_sdpa_grad] = lk_cuda_lower_sdpa,
};
