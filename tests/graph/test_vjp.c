/* Gradients as structure: what is emitted, what is not, in which order. The numbers are tested against finite differences
 * elsewhere (tests/ref). Every operation is built once here; its first and second gradients must have the inputs' shapes. */
#include "tests/lib/lk_test.h"
#include "graph/graph.h"

static int count_op(lk_graph *g, lk_op op) {
    int n = 0;
    for (int i = 0; i < lk_graph_count(g); i++) n += lk_graph_node(g, (lk_val){i})->op == op;
    return n;
}
static lk_val p(lk_graph *g, const char *name, lk_shape s) { return lk_param(g, name, s, LK_MEM_ADAPTER); }
static lk_val emit_loss(lk_graph *g, lk_val v) { return lk_sum_all(g, lk_mul(g, v, v)); }

TEST(a_frozen_weight_gets_no_gradient) {
    lk_graph *g = lk_graph_new();
    lk_val x = lk_input(g, "x", LK_F32, LK_SHAPE(1, 4, 8, 8)), w1 = p(g, "w1", LK_SHAPE(4, 4, 3, 3)), w2 = p(g, "w2", LK_SHAPE(4, 4, 3, 3)), w3 = p(g, "w3", LK_SHAPE(4, 4, 3, 3));
    lk_conv c = {.pad = {1, 1, 1, 1}};
    lk_val h = lk_conv2d(g, lk_conv2d(g, lk_conv2d(g, x, w1, LK_NONE, c), w2, LK_NONE, c), w3, LK_NONE, c), dw2;
    lk_vjp(g, emit_loss(g, h), LK_NONE, &w2, 1, &dw2);
    CHECK(lk_ok(dw2));
    CHECK(count_op(g, LK_OP_conv2d_dw) == 1);    /* w2 alone */
    CHECK(count_op(g, LK_OP_conv2d_dx) == 1);    /* through the third layer; the input of the second needs none */
    CHECK(lk_graph_node(g, dw2)->mem == LK_MEM_GRADIENT && lk_graph_node(g, h)->mem == LK_MEM_ACTIVATION);
    lk_graph_free(g);
}

TEST(what_is_not_reached_is_none) {
    lk_graph *g = lk_graph_new();
    lk_val a = p(g, "a", LK_SHAPE(3)), b = p(g, "b", LK_SHAPE(3)), y = emit_loss(g, lk_add(g, a, lk_detach(g, b))), out[3];
    lk_vjp(g, y, LK_NONE, (lk_val[]){a, b, y}, 3, out);
    CHECK(lk_ok(out[0]) && !lk_ok(out[1]));
    CHECK(out[2].id == lk_scalar(g, 1).id);
    lk_err e = lk_graph_error(g);
    CHECK(!e);
    lk_vjp(g, y, LK_NONE, (lk_val[]){lk_scalar(g, 5)}, 1, out);
    CHECK(!lk_ok(out[0]));
    lk_graph_free(g);
}

TEST(cotangents_add_in_decreasing_id_then_increasing_input) {
    lk_graph *g = lk_graph_new();
    lk_val x = p(g, "x", LK_SHAPE(3)), k = p(g, "k", LK_SHAPE(3));
    lk_val first = lk_mul(g, x, k), second = lk_sub(g, k, x), third = lk_div(g, x, x);
    lk_val sum = lk_add(g, lk_add(g, first, second), third), dx;
    lk_val c = p(g, "c", LK_SHAPE(3));
    lk_vjp(g, sum, c, &x, 1, &dx);
    lk_node last = *lk_graph_node(g, dx);                        /* ((third/0 + third/1) + second) + first */
    CHECK(last.op == LK_OP_add);
    CHECK(lk_graph_node(g, last.in[1])->op == LK_OP_mul);        /* first: c * k */
    lk_node middle = *lk_graph_node(g, last.in[0]);
    CHECK(middle.op == LK_OP_add && lk_graph_node(g, middle.in[1])->op == LK_OP_neg);
    lk_node inner = *lk_graph_node(g, middle.in[0]);
    CHECK(inner.op == LK_OP_add && lk_graph_node(g, inner.in[0])->op == LK_OP_div && lk_graph_node(g, inner.in[1])->op == LK_OP_neg);
    lk_graph_free(g);
}

TEST(an_intermediate_value_may_be_differentiated_and_passed_through) {
    lk_graph *g = lk_graph_new();
    lk_val x = p(g, "x", LK_SHAPE(3)), h = lk_exp(g, x), y = emit_loss(g, h), out[2], alone;
    lk_vjp(g, y, LK_NONE, (lk_val[]){x, h}, 2, out);
    CHECK(lk_ok(out[0]) && lk_ok(out[1]));
    lk_vjp(g, y, LK_NONE, &x, 1, &alone);
    CHECK(alone.id == out[0].id);                                /* h being asked for changes nothing for x */
    lk_graph_free(g);
}

TEST(a_decomposed_gradient_counts_dependent_inputs_once) {
    lk_graph *g = lk_graph_new();
    lk_val x = p(g, "x", LK_SHAPE(2, 3)), y = lk_softmax(g, x), dx, ddx;
    lk_vjp(g, emit_loss(g, y), LK_NONE, &x, 1, &dx);             /* softmax_dx(y, 2y): both inputs depend on x through y */
    CHECK(lk_graph_node(g, dx)->op == LK_OP_softmax_dx);
    lk_vjp(g, emit_loss(g, dx), LK_NONE, &x, 1, &ddx);
    CHECK(lk_graph_node(g, ddx)->op == LK_OP_softmax_dx);        /* one arrival at y, hence one way back to x */
    CHECK(count_op(g, LK_OP_softmax_dx) == 2);
    lk_graph_free(g);
}

TEST(errors_say_what_is_wrong) {
    lk_graph *g = lk_graph_new();
    lk_val x = p(g, "x", LK_SHAPE(3)), out;
    lk_vjp(g, lk_neg(g, x), LK_NONE, &x, 1, &out);
    CHECK_FAILS(lk_graph_error(g), "must be []");
    lk_graph_free(g);
    g = lk_graph_new();
    x = p(g, "x", LK_SHAPE(3));
    lk_vjp(g, lk_neg(g, x), lk_ones(g, LK_SHAPE(4)), &x, 1, &out);
    CHECK_FAILS(lk_graph_error(g), "another shape");
    lk_graph_free(g);
    g = lk_graph_new();
    lk_val m = p(g, "m", LK_SHAPE(1, 2, 3));
    lk_vjp(g, emit_loss(g, lk_affine_warp(g, lk_ones(g, LK_SHAPE(1, 1, 4, 4)), m, (lk_warp){.size = {2, 2}})), LK_NONE, &m, 1, &out);
    CHECK_FAILS(lk_graph_error(g), "not differentiated");
    CHECK(!lk_ok(out));
    lk_graph_free(g);
}

/* ---- every operation -------------------------------------------------------------------------------------- */
typedef struct { lk_val v[8]; int n; } inputs;       /* those that are differentiated */
static lk_val f32(lk_graph *g, inputs *in, lk_shape s) {
    char name[32];
    snprintf(name, sizeof name, "in%d", lk_graph_count(g));
    return in->v[in->n++] = p(g, name, s);
}
static lk_val i64(lk_graph *g, lk_shape s) {
    char name[32];
    snprintf(name, sizeof name, "ids%d", lk_graph_count(g));
    return lk_input(g, name, LK_I64, s);
}
static lk_val still(lk_graph *g, lk_shape s) { inputs none = {.n = 0}; return f32(g, &none, s); }

#define SHORT LK_SHAPE(3)
#define PICTURE LK_SHAPE(2, 4, 6, 5)
#define TOKENS LK_SHAPE(2, 5, 8)
#define UNARY(name)  static lk_val op_##name(lk_graph *g, inputs *in) { return lk_##name(g, f32(g, in, LK_SHAPE(2, 3))); }
#define BINARY(name) static lk_val op_##name(lk_graph *g, inputs *in) { lk_val a = f32(g, in, LK_SHAPE(2, 1)); return lk_##name(g, a, f32(g, in, SHORT)); }
UNARY(neg) UNARY(abs) UNARY(sign) UNARY(exp) UNARY(log) UNARY(sqrt) UNARY(rsqrt) UNARY(recip) UNARY(sin) UNARY(cos) UNARY(tanh) UNARY(erf) UNARY(sigmoid)
UNARY(silu) UNARY(gelu) UNARY(gelu_tanh) UNARY(quick_gelu) UNARY(detach) UNARY(softmax)
BINARY(add) BINARY(sub) BINARY(mul) BINARY(div) BINARY(min) BINARY(max) BINARY(less) BINARY(pow)
#define OPERATION(name) static lk_val op_##name(lk_graph *g, inputs *in)
OPERATION(where) { lk_val c = f32(g, in, SHORT), a = f32(g, in, LK_SHAPE(2, 1)); return lk_where(g, c, a, f32(g, in, LK_SCALAR)); }
OPERATION(reshape) { return lk_reshape(g, f32(g, in, PICTURE), LK_SHAPE(8, -1)); }
OPERATION(view) { return lk_view(g, f32(g, in, LK_SHAPE(10)), 3, LK_SHAPE(2, 3)); }
OPERATION(permute) { return lk_permute(g, f32(g, in, LK_SHAPE(2, 3, 4)), (int[]){1, 2, 0}); }
OPERATION(slice) { return lk_slice(g, f32(g, in, PICTURE), 2, 1, 4); }
OPERATION(pad) { return lk_pad(g, f32(g, in, PICTURE), (lk_window){.lo = {0, 1}, .hi = {2, 0, 1}}); }
OPERATION(concat) { lk_val a = f32(g, in, TOKENS); return lk_concat(g, (lk_val[]){a, f32(g, in, LK_SHAPE(2, 3, 8)), a}, 3, 1); }
OPERATION(broadcast) { return lk_broadcast(g, f32(g, in, LK_SHAPE(3, 1)), LK_SHAPE(2, 3, 4)); }
OPERATION(gather_rows) { return lk_gather_rows(g, f32(g, in, LK_SHAPE(9, 4)), i64(g, LK_SHAPE(2, 3))); }
OPERATION(scatter_add_rows) { return lk_scatter_add_rows(g, f32(g, in, LK_SHAPE(2, 3, 4)), i64(g, LK_SHAPE(2, 3)), 9); }
OPERATION(reduce_sum) { return lk_reduce_sum(g, f32(g, in, PICTURE), (lk_axes){.n = 2, .axis = {0, 2}}); }
OPERATION(reduce_max) { return lk_reduce_max(g, f32(g, in, PICTURE), (lk_axes){.n = 2, .axis = {1, -1}, .keep = true}); }
OPERATION(max_mask) { return lk_max_mask(g, f32(g, in, PICTURE), (lk_axes){.n = 1, .axis = {1}}); }
OPERATION(matmul) { lk_val a = f32(g, in, LK_SHAPE(2, 1, 3, 4)), b = f32(g, in, LK_SHAPE(5, 6, 3)); return lk_matmul(g, a, b, f32(g, in, LK_SHAPE(6)), (lk_mm){true, true}); }
static const lk_conv conv = {.stride = {2, 1}, .pad = {1, 0, 2, 1}, .dilation = {1, 2}, .groups = 2, .size = {6, 5}};
OPERATION(conv2d) { lk_val x = f32(g, in, PICTURE), w = f32(g, in, LK_SHAPE(6, 2, 3, 2)); return lk_conv2d(g, x, w, f32(g, in, LK_SHAPE(6)), conv); }
OPERATION(conv2d_dx) { lk_val dy = f32(g, in, LK_SHAPE(2, 6, 4, 4)); return lk_conv2d_dx(g, dy, f32(g, in, LK_SHAPE(6, 2, 3, 2)), conv); }
OPERATION(conv2d_dw) { lk_conv c = conv; c.size[0] = 3, c.size[1] = 2; lk_val x = f32(g, in, PICTURE); return lk_conv2d_dw(g, x, f32(g, in, LK_SHAPE(2, 6, 4, 4)), c); }
static const lk_pool2d pool = {.kernel = {3, 2}, .stride = {2, 1}, .pad = {1, 0, 1, 1}, .size = {6, 5}};
OPERATION(max_pool2d) { return lk_max_pool2d(g, f32(g, in, PICTURE), pool); }
OPERATION(max_pool2d_dx) { lk_val x = f32(g, in, PICTURE); return lk_max_pool2d_dx(g, x, f32(g, in, LK_SHAPE(2, 4, 3, 5)), pool); }
OPERATION(max_pool2d_at) { lk_val x = f32(g, in, PICTURE); return lk_max_pool2d_at(g, x, f32(g, in, PICTURE), pool); }
OPERATION(avg_pool2d) { return lk_avg_pool2d(g, f32(g, in, PICTURE), pool); }
OPERATION(avg_pool2d_dx) { return lk_avg_pool2d_dx(g, f32(g, in, LK_SHAPE(2, 4, 3, 5)), pool); }
OPERATION(upsample_nearest) { return lk_upsample_nearest(g, f32(g, in, PICTURE), 7, 10); }
OPERATION(upsample_nearest_dx) { return lk_upsample_nearest_dx(g, f32(g, in, PICTURE), 3, 5); }
OPERATION(affine_warp) { return lk_affine_warp(g, f32(g, in, PICTURE), still(g, LK_SHAPE(2, 2, 3)), (lk_warp){{3, 4}, true}); }
OPERATION(affine_warp_dx) { return lk_affine_warp_dx(g, f32(g, in, PICTURE), still(g, LK_SHAPE(2, 2, 3)), (lk_warp){{3, 4}, false}); }
OPERATION(layer_norm) { lk_val x = f32(g, in, TOKENS), w = f32(g, in, LK_SHAPE(8)); return lk_layer_norm(g, x, w, f32(g, in, LK_SHAPE(8)), 1e-5); }
OPERATION(rms_norm) { lk_val x = f32(g, in, TOKENS); return lk_rms_norm(g, x, f32(g, in, LK_SHAPE(8)), 1e-5); }
OPERATION(group_norm) { lk_val x = f32(g, in, PICTURE), w = f32(g, in, LK_SHAPE(4)); return lk_group_norm(g, x, w, f32(g, in, LK_SHAPE(4)), (lk_norm){2, 1e-5, true}); }
OPERATION(sdpa) { lk_val q = f32(g, in, TOKENS), k = f32(g, in, LK_SHAPE(2, 6, 8)); return lk_sdpa(g, q, k, f32(g, in, LK_SHAPE(2, 6, 8)), still(g, LK_SHAPE(5, 6)), (lk_sdpa_attr){.heads = 2, .causal = true}); }
OPERATION(sdpa_bias) { lk_val q = f32(g, in, TOKENS); return lk_sdpa(g, q, q, q, f32(g, in, LK_SHAPE(2, 5, 5)), (lk_sdpa_attr){.heads = 2}); }
OPERATION(rope) { return lk_rope(g, f32(g, in, TOKENS), still(g, LK_SHAPE(5, 2)), still(g, LK_SHAPE(5, 2)), 2); }
OPERATION(geglu) { return lk_geglu(g, f32(g, in, TOKENS)); }
OPERATION(timestep_embed) { return lk_timestep_embed(g, f32(g, in, LK_SHAPE(2)), (lk_tembed){.dim = 8}); }
OPERATION(rope_table) { return lk_rope_table(g, f32(g, in, LK_SHAPE(4, 2)), (lk_rtable){2, {4, 4}, 10000}); }
OPERATION(randn) { (void)in; return lk_randn(g, i64(g, LK_SCALAR), i64(g, LK_SCALAR), i64(g, LK_SHAPE(2)), "a", LK_SHAPE(2, 3)); }
OPERATION(randu) { (void)in; return lk_randu(g, i64(g, LK_SCALAR), i64(g, LK_SCALAR), i64(g, LK_SHAPE(2)), "a", LK_SHAPE(2, 3)); }
OPERATION(effects) {
    (void)in;
    lk_val a = still(g, SHORT), m = still(g, SHORT), v = still(g, SHORT), s = lk_scalar(g, 0.5);
    lk_assign(g, a, lk_neg(g, m)), lk_ema(g, a, m, s), lk_adamw(g, a, m, v, lk_neg(g, a), s, s, s, (lk_adamw_attr){.9, .999, 1e-8, 0});
    return s;
}
static lk_val (*const operations[])(lk_graph *, inputs *) = {
    op_neg, op_abs, op_sign, op_exp, op_log, op_sqrt, op_rsqrt, op_recip, op_sin, op_cos, op_tanh, op_erf, op_sigmoid, op_silu, op_gelu, op_gelu_tanh,
    op_quick_gelu, op_detach, op_softmax, op_add, op_sub, op_mul, op_div, op_min, op_max, op_less, op_pow, op_where, op_reshape, op_view, op_permute, op_slice,
    op_pad, op_concat, op_broadcast, op_gather_rows, op_scatter_add_rows, op_reduce_sum, op_reduce_max, op_max_mask, op_matmul, op_conv2d, op_conv2d_dx,
    op_conv2d_dw, op_max_pool2d, op_max_pool2d_dx, op_max_pool2d_at, op_avg_pool2d, op_avg_pool2d_dx, op_upsample_nearest, op_upsample_nearest_dx,
    op_affine_warp, op_affine_warp_dx, op_layer_norm, op_rms_norm, op_group_norm, op_sdpa, op_sdpa_bias, op_rope, op_geglu, op_timestep_embed, op_rope_table,
    op_randn, op_randu, op_effects,
};

/* vjp with a cotangent that is differentiated too; LK_NONE results are skipped. Returns the sum of the results' squares. */
static lk_val gradient_energy(lk_graph *g, lk_val y, lk_val cotangent, const inputs *in) {
    lk_val d[8], sum = LK_NONE;
    lk_vjp(g, y, cotangent, in->v, in->n, d);
    for (int i = 0; i < in->n; i++) {
        if (!lk_ok(d[i])) continue;
        CHECK(lk_shape_eq(lk_shape_of(g, d[i]), lk_shape_of(g, in->v[i])));
        sum = lk_ok(sum) ? lk_add(g, sum, emit_loss(g, d[i])) : emit_loss(g, d[i]);
    }
    return sum;
}

TEST(every_operation_three_times_differentiated) {
    bool seen[LK_OP_COUNT] = {false};
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        lk_graph *g = lk_graph_new();
        inputs in = {.n = 0};
        lk_val y = operations[i](g, &in);
        lk_op op = lk_ok(y) ? lk_graph_node(g, y)->op : LK_OP_COUNT;
        lk_val c = f32(g, &in, lk_shape_of(g, y));
        inputs primal = in;
        primal.n--;
        lk_val e = primal.n ? gradient_energy(g, y, c, &primal) : LK_NONE;
        for (int order = 2; order <= 3 && lk_ok(e); order++) e = gradient_energy(g, e, LK_NONE, &in);
        lk_err err = lk_graph_error(g);
        CHECK_MSG(!err, "%s: %s", lk_op_name(op), lk_err_text(err));
        lk_err_free(err);
        for (int k = 0; k < lk_graph_count(g); k++) seen[lk_graph_node(g, (lk_val){k})->op] = true;
        lk_graph_free(g);
    }
    for (int op = 0; op < LK_OP_COUNT; op++) CHECK_MSG(seen[op], "no test builds %s", lk_op_name(op));
}

TEST(a_decomposition_has_the_shape_and_not_the_operation) {
    int decomposed = 0;
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        lk_graph *g = lk_graph_new();
        inputs in = {.n = 0};
        lk_val y = operations[i](g, &in), dx[8];
        if (in.n) lk_vjp(g, y, f32(g, &(inputs){.n = 0}, lk_shape_of(g, y)), in.v, in.n, dx);
        for (int k = 0, n = lk_graph_count(g); k < n; k++) {
            lk_val v = {k}, d = lk_decompose(g, v);
            if (!lk_ok(d)) continue;
            decomposed++;
            CHECK(d.id != k && lk_shape_eq(lk_shape_of(g, d), lk_shape_of(g, v)));
        }
        lk_err err = lk_graph_error(g);
        CHECK_MSG(!err, "%s", lk_err_text(err));
        lk_err_free(err);
        lk_graph_free(g);
    }
    CHECK(decomposed > 20);
}
