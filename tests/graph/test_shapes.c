/* Shapes and sticky errors. Oracle: shapes computed by hand (numpy and torch conventions); messages are read as text. */
#include "tests/lib/lk_test.h"
#include "graph/graph.h"

static lk_val in(lk_graph *g, lk_shape s) {
    char name[32];
    snprintf(name, sizeof name, "x%d", lk_graph_count(g));
    return lk_input(g, name, LK_F32, s);
}
static lk_val ids(lk_graph *g, lk_shape s) {
    char name[32];
    snprintf(name, sizeof name, "ids%d", lk_graph_count(g));
    return lk_input(g, name, LK_I64, s);
}
static bool is(lk_graph *g, lk_val v, lk_shape want) {
    lk_arena *a = lk_arena_new();
    bool same = lk_ok(v) && lk_shape_eq(lk_shape_of(g, v), want);
    lk_err e = lk_graph_error(g);
    lk_test_check(same, __FILE__, __LINE__, "got %s, want %s; %s", lk_shape_text(a, lk_shape_of(g, v)), lk_shape_text(a, want), lk_err_text(e));
    lk_err_free(e);
    lk_arena_free(a);
    return same;
}

TEST(elementwise_broadcasts_as_numpy) {
    lk_graph *g = lk_graph_new();
    is(g, lk_add(g, in(g, LK_SHAPE(3, 1, 5)), in(g, LK_SHAPE(4, 1))), LK_SHAPE(3, 4, 5));
    is(g, lk_mul(g, in(g, LK_SCALAR), in(g, LK_SHAPE(7))), LK_SHAPE(7));
    is(g, lk_where(g, in(g, LK_SHAPE(2, 1)), in(g, LK_SHAPE(3)), lk_scalar(g, 1)), LK_SHAPE(2, 3));
    is(g, lk_sum_to(g, in(g, LK_SHAPE(3, 4, 5)), LK_SHAPE(4, 1)), LK_SHAPE(4, 1));
    lk_graph_free(g);
}

TEST(movement_and_reductions) {
    lk_graph *g = lk_graph_new();
    lk_val x = in(g, LK_SHAPE(2, 3, 4));
    is(g, lk_reshape(g, x, LK_SHAPE(6, -1)), LK_SHAPE(6, 4));
    is(g, lk_permute(g, x, (int[]){2, 0, 1}), LK_SHAPE(4, 2, 3));
    is(g, lk_transpose(g, x, -1, 0), LK_SHAPE(4, 3, 2));
    is(g, lk_slice(g, x, -2, 1, 3), LK_SHAPE(2, 2, 4));
    is(g, lk_pad(g, x, (lk_window){.lo = {0, 1, 2}, .hi = {3}}), LK_SHAPE(5, 4, 6));
    is(g, lk_concat(g, (lk_val[]){x, x, x}, 3, 1), LK_SHAPE(2, 9, 4));
    is(g, lk_broadcast(g, in(g, LK_SHAPE(3, 1)), LK_SHAPE(2, 3, 4)), LK_SHAPE(2, 3, 4));
    is(g, lk_view(g, in(g, LK_SHAPE(10)), 4, LK_SHAPE(2, 3)), LK_SHAPE(2, 3));
    is(g, lk_gather_rows(g, in(g, LK_SHAPE(9, 5)), ids(g, LK_SHAPE(2, 3))), LK_SHAPE(2, 3, 5));
    is(g, lk_scatter_add_rows(g, x, ids(g, LK_SHAPE(2, 3)), 9), LK_SHAPE(9, 4));
    is(g, lk_reduce_sum(g, x, (lk_axes){.n = 2, .axis = {-1, 0}}), LK_SHAPE(3));
    is(g, lk_reduce_max(g, x, (lk_axes){.n = 1, .axis = {1}, .keep = true}), LK_SHAPE(2, 1, 4));
    is(g, lk_max_mask(g, x, (lk_axes){.n = 1, .axis = {1}}), LK_SHAPE(2, 3, 4));
    is(g, lk_mean_all(g, x), LK_SCALAR);
    is(g, lk_cosine(g, x, x, 1e-8), LK_SHAPE(2, 3));
    CHECK(lk_reshape(g, x, LK_SHAPE(2, 3, 4)).id == x.id);
    CHECK(lk_permute(g, x, (int[]){0, 1, 2}).id == x.id);
    lk_val many[130];
    for (int i = 0; i < 130; i++) many[i] = in(g, LK_SHAPE(2, 1));
    is(g, lk_concat(g, many, 130, 1), LK_SHAPE(2, 130));
    lk_graph_free(g);
}

TEST(contractions_and_pictures) {
    lk_graph *g = lk_graph_new();
    is(g, lk_matmul(g, in(g, LK_SHAPE(5, 1, 3, 4)), in(g, LK_SHAPE(2, 6, 4)), in(g, LK_SHAPE(6)), (lk_mm){.tb = true}), LK_SHAPE(5, 2, 3, 6));
    is(g, lk_matmul(g, in(g, LK_SHAPE(4, 3)), in(g, LK_SHAPE(4, 6)), LK_NONE, (lk_mm){.ta = true}), LK_SHAPE(3, 6));
    lk_val x = in(g, LK_SHAPE(2, 6, 11, 9));
    lk_conv c = {.stride = {2, 1}, .pad = {1, 0, 2, 3}, .dilation = {1, 2}, .groups = 3};
    is(g, lk_conv2d(g, x, in(g, LK_SHAPE(9, 2, 3, 2)), in(g, LK_SHAPE(9)), c), LK_SHAPE(2, 9, 6, 10));    /* (11+3-3)/2+1, (9+3-3)/1+1 */
    is(g, lk_max_pool2d(g, x, (lk_pool2d){.kernel = {3, 2}, .stride = {2, 2}, .pad = {1, 0, 1, 1}}), LK_SHAPE(2, 6, 6, 5));
    is(g, lk_avg_pool2d(g, x, (lk_pool2d){.kernel = {2, 2}}), LK_SHAPE(2, 6, 5, 4));
    is(g, lk_upsample_nearest(g, x, 22, 20), LK_SHAPE(2, 6, 22, 20));
    is(g, lk_affine_warp(g, x, in(g, LK_SHAPE(2, 2, 3)), (lk_warp){.size = {5, 7}}), LK_SHAPE(2, 6, 5, 7));
    is(g, lk_resize_matrix(g, x, in(g, LK_SHAPE(4, 11)), in(g, LK_SHAPE(3, 9))), LK_SHAPE(2, 6, 4, 3));
    lk_val v = in(g, LK_SHAPE(2, 3, 5, 8, 8));
    is(g, lk_conv3d(g, v, in(g, LK_SHAPE(4, 3, 2, 3, 3)), in(g, LK_SHAPE(4)), (int[]){2, 2, 2}, (int[]){1, 1, 1}), LK_SHAPE(2, 4, 3, 4, 4));
    is(g, lk_conv3d(g, v, in(g, LK_SHAPE(4, 3, 3, 1, 1)), LK_NONE, (int[]){1, 1, 1}, (int[]){1, 0, 0}), LK_SHAPE(2, 4, 5, 8, 8));
    lk_graph_free(g);
}

TEST(fused_and_services) {
    lk_graph *g = lk_graph_new();
    lk_val x = in(g, LK_SHAPE(2, 5, 12)), y = in(g, LK_SHAPE(2, 7, 12));
    is(g, lk_sdpa(g, x, y, y, in(g, LK_SHAPE(1, 5, 7)), (lk_sdpa_attr){.heads = 3}), LK_SHAPE(2, 5, 12));
    is(g, lk_rope(g, x, in(g, LK_SHAPE(5, 3)), in(g, LK_SHAPE(5, 3)), 2), LK_SHAPE(2, 5, 12));
    is(g, lk_geglu(g, x), LK_SHAPE(2, 5, 6));
    is(g, lk_swiglu(g, x), LK_SHAPE(2, 5, 6));
    is(g, lk_modulate(g, x, in(g, LK_SHAPE(2, 12)), in(g, LK_SHAPE(2, 12))), LK_SHAPE(2, 5, 12));
    is(g, lk_group_norm(g, x, in(g, LK_SHAPE(5)), in(g, LK_SHAPE(5)), (lk_norm){.groups = 5, .eps = 1e-5}), LK_SHAPE(2, 5, 12));
    is(g, lk_timestep_embed(g, in(g, LK_SHAPE(3)), (lk_tembed){.dim = 32}), LK_SHAPE(3, 32));
    is(g, lk_rope_table(g, in(g, LK_SHAPE(6, 3)), (lk_rtable){3, {4, 6, 6}, 10000}), LK_SHAPE(2, 6, 8));
    is(g, lk_randn(g, ids(g, LK_SCALAR), ids(g, LK_SCALAR), ids(g, LK_SHAPE(4)), "noise", LK_SHAPE(4, 2, 3)), LK_SHAPE(4, 2, 3));
    lk_graph_free(g);
}

/* ---- errors: one row a mistake; every part must stand in the message ---------------------------------- */
static void bad_add(lk_graph *g)     { lk_add(g, lk_label(g, lk_neg(g, in(g, LK_SHAPE(2, 3))), "left hand"), in(g, LK_SHAPE(4))); }
static void bad_none(lk_graph *g)    { lk_add(g, in(g, LK_SHAPE(2)), LK_NONE); }
static void bad_reshape(lk_graph *g) { lk_reshape(g, in(g, LK_SHAPE(2, 3)), LK_SHAPE(4, -1)); }
static void bad_matmul(lk_graph *g)  { lk_linear(g, in(g, LK_SHAPE(2, 3)), lk_param(g, "to_q.weight", LK_SHAPE(8, 4), LK_MEM_WEIGHT), LK_NONE); }
static void bad_conv(lk_graph *g)    { lk_conv2d(g, in(g, LK_SHAPE(1, 3, 8, 8)), lk_param(g, "conv_in.weight", LK_SHAPE(8, 4, 3, 3), LK_MEM_WEIGHT), LK_NONE, (lk_conv){0}); }
static void bad_kernel(lk_graph *g)  { lk_conv2d(g, in(g, LK_SHAPE(1, 4, 2, 2)), in(g, LK_SHAPE(8, 4, 3, 3)), LK_NONE, (lk_conv){0}); }
static void bad_bias(lk_graph *g)    { lk_linear(g, in(g, LK_SHAPE(2, 3)), in(g, LK_SHAPE(8, 3)), in(g, LK_SHAPE(7))); }
static void bad_dtype(lk_graph *g)   { lk_add(g, ids(g, LK_SHAPE(2)), in(g, LK_SHAPE(2))); }
static void bad_ids(lk_graph *g)     { lk_gather_rows(g, in(g, LK_SHAPE(9, 4)), in(g, LK_SHAPE(2))); }
static void bad_heads(lk_graph *g)   { lk_val x = in(g, LK_SHAPE(1, 4, 10)); lk_sdpa(g, x, x, x, LK_NONE, (lk_sdpa_attr){.heads = 3}); }
static void bad_groups(lk_graph *g)  { lk_group_norm(g, in(g, LK_SHAPE(1, 6, 4)), LK_NONE, LK_NONE, (lk_norm){.groups = 4}); }
static void bad_axes(lk_graph *g)    { lk_reduce_sum(g, in(g, LK_SHAPE(2, 3)), (lk_axes){.n = 2, .axis = {1, -1}}); }
static void bad_size(lk_graph *g)    { lk_input(g, "empty", LK_F32, LK_SHAPE(4, 0)); }
static void bad_huge(lk_graph *g)    { lk_broadcast(g, in(g, LK_SCALAR), LK_SHAPE(INT64_C(1) << 40, INT64_C(1) << 40)); }
static void bad_overflow(lk_graph *g) { lk_add(g, in(g, LK_SHAPE(INT64_C(1) << 30, 1)), in(g, LK_SHAPE(INT64_C(1) << 30))); }
static void bad_name(lk_graph *g)    { lk_param(g, "w", LK_SHAPE(2), LK_MEM_WEIGHT), lk_param(g, "w", LK_SHAPE(3), LK_MEM_WEIGHT); }
static void bad_twice(lk_graph *g)   { lk_input(g, "x", LK_F32, LK_SHAPE(2)), lk_input(g, "x", LK_F32, LK_SHAPE(2)); }
static void bad_state(lk_graph *g)   { lk_assign(g, in(g, LK_SHAPE(2)), in(g, LK_SHAPE(2))); }
static void bad_slice(lk_graph *g)   { lk_slice(g, in(g, LK_SHAPE(4)), 0, 2, 5); }
static void bad_view(lk_graph *g)    { lk_view(g, in(g, LK_SHAPE(4)), 2, LK_SHAPE(3)); }
static void bad_noise(lk_graph *g)   { lk_randn(g, ids(g, LK_SCALAR), ids(g, LK_SCALAR), ids(g, LK_SHAPE(4)), "noise", LK_SHAPE(3, 2)); }

static const struct { void (*build)(lk_graph *); const char *part[3]; } mistakes[] = {
    {bad_add, {"add(left hand [2, 3], x", "[4])", "do not broadcast"}},
    {bad_none, {"add(", "none", "input 1 is missing"}},
    {bad_reshape, {"[2, 3])", "6 elements", "[4, -1]"}},
    {bad_matmul, {"[2, 3], to_q.weight [8, 4])", "3 and 4", "b transposed"}},
    {bad_conv, {"[1, 3, 8, 8], conv_in.weight [8, 4, 3, 3])", "3 channels", "takes 4"}},
    {bad_kernel, {"conv2d", "larger than the padded picture", ""}},
    {bad_bias, {"matmul", "input 2 is [7]", "[8] expected"}},
    {bad_dtype, {"[2] i64", "I64", "F32"}},
    {bad_ids, {"gather_rows", "I64 expected", ""}},
    {bad_heads, {"sdpa", "10 does not split into 3 heads", ""}},
    {bad_groups, {"group_norm", "6 channels", "4 groups"}},
    {bad_axes, {"reduce_sum", "axes", "repeated"}},
    {bad_size, {"input empty", "[4, 0]", "below 1"}},
    {bad_huge, {"broadcast", "does not broadcast", ""}},
    {bad_overflow, {"add", "too many elements", ""}},
    {bad_name, {"param w [3]", "taken by the param", "w [2]"}},
    {bad_twice, {"input x", "taken", ""}},
    {bad_state, {"assign", "must be a param", ""}},
    {bad_slice, {"slice", "[2, 5)", "axis 0"}},
    {bad_view, {"view", "[3]", "past the end"}},
    {bad_noise, {"randn", "[3, 2]", "number of sample ids"}},
};

TEST(messages_name_operation_inputs_and_reason) {
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        lk_graph *g = lk_graph_new();
        mistakes[i].build(g);
        lk_err e = lk_graph_error(g);
        for (int k = 0; k < 3; k++)
            CHECK_MSG(e && strstr(lk_err_text(e), mistakes[i].part[k]), "row %zu: wanted \"%s\" in \"%s\"", i, mistakes[i].part[k], lk_err_text(e));
        CHECK(lk_err_code(e) == LK_ESHAPE);
        lk_err_free(e);
        lk_graph_free(g);
    }
}

TEST(the_first_error_sticks_and_later_calls_are_quiet) {
    lk_graph *g = lk_graph_new();
    lk_val bad = lk_add(g, in(g, LK_SHAPE(2)), in(g, LK_SHAPE(3)));
    CHECK(!lk_ok(bad));
    int count = lk_graph_count(g);
    lk_val later = lk_softmax(g, lk_linear(g, lk_mul(g, bad, bad), bad, LK_NONE));
    CHECK(!lk_ok(later) && lk_graph_count(g) == count);
    lk_val out = bad;
    lk_vjp(g, later, LK_NONE, &bad, 1, &out);
    CHECK(!lk_ok(out));
    lk_reshape(g, in(g, LK_SHAPE(2)), LK_SHAPE(3));
    CHECK_FAILS(lk_graph_error(g), "add(");
    lk_plan *p;
    CHECK_FAILS(lk_plan_new(g, &out, 1, (lk_plan_opts){4}, &p), "add(");
    lk_graph_free(g);
}

TEST(every_builder_survives_an_invalid_input) {
    lk_graph *g = lk_graph_new();
    lk_val v = LK_NONE;
    lk_prelu(g, v, v), lk_mean(g, v, (lk_axes){.n = 1}), lk_mse(g, v, v), lk_huber(g, v, v, 1), lk_cosine(g, v, v, 1), lk_normalize(g, v, 1);
    lk_cross_entropy(g, v, v), lk_global_norm(g, &v, 1), lk_swiglu(g, v), lk_modulate(g, v, v, v), lk_conv3d(g, v, v, v, (int[3]){1, 1, 1}, (int[3]){0});
    lk_sdpa(g, v, v, v, v, (lk_sdpa_attr){.heads = 2}), lk_slice(g, v, 0, 0, 1), lk_transpose(g, v, 0, 1), lk_concat(g, &v, 1, 0), lk_sum_all(g, v);
    lk_mean_all(g, v), lk_sum_to(g, v, LK_SCALAR), lk_geglu(g, v), lk_resize_matrix(g, v, v, v), lk_layer_norm(g, v, v, v, 1), lk_label(g, v, "x");
    lk_assign(g, v, v), lk_permute(g, v, (int[6]){0}), lk_max_pool2d_dx(g, v, v, (lk_pool2d){0}), lk_log_softmax(g, v);
    CHECK(lk_graph_count(g) < 16);           /* scalars only */
    CHECK_FAILS(lk_graph_error(g), "missing");
    lk_graph_free(g);
}
