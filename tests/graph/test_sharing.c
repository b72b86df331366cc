/* Equal nodes are one node, unless an effect was built between them. Leaves by name. */
#include "tests/lib/lk_test.h"
#include "backend/backend.h"

TEST(equal_calls_give_the_same_node) {
    lk_graph *g = lk_graph_new();
    lk_val x = lk_input(g, "x", LK_F32, LK_SHAPE(2, 4, 8, 8)), w = lk_param(g, "w", LK_SHAPE(8, 4, 3, 3), LK_MEM_WEIGHT);
    lk_conv c = {.pad = {1, 1, 1, 1}}, spelt = {.stride = {1, 1}, .pad = {1, 1, 1, 1}, .dilation = {1, 1}, .groups = 1, .size = {9, 9}};
    CHECK(lk_conv2d(g, x, w, LK_NONE, c).id == lk_conv2d(g, x, w, LK_NONE, spelt).id);
    CHECK(lk_add(g, x, x).id == lk_add(g, x, x).id);
    CHECK(lk_add(g, x, lk_scalar(g, 1)).id != lk_add(g, x, lk_scalar(g, 2)).id);
    CHECK(lk_scalar(g, 0.1).id == lk_scalar(g, 0.1).id);
    CHECK(lk_scalar(g, 0.0).id != lk_scalar(g, -0.0).id);
    CHECK(lk_mul(g, x, x).id != lk_add(g, x, x).id);
    CHECK(lk_reduce_sum(g, x, (lk_axes){.n = 2, .axis = {3, 1}}).id == lk_reduce_sum(g, x, (lk_axes){.n = 2, .axis = {-3, -1}}).id);
    CHECK(lk_reduce_sum(g, x, (lk_axes){.n = 1, .axis = {1}}).id != lk_reduce_sum(g, x, (lk_axes){.n = 1, .axis = {1}, .keep = true}).id);
    lk_graph_free(g);
}

TEST(garbage_in_unused_attribute_fields_does_not_part_nodes) {
    lk_graph *g = lk_graph_new();
    lk_val x = lk_input(g, "x", LK_F32, LK_SHAPE(2, 4, 8, 8));
    lk_shape clean = LK_SHAPE(8, 64), dirty;
    memset(&dirty, 0x5a, sizeof dirty);
    dirty.rank = 2, dirty.d[0] = 8, dirty.d[1] = 64;
    CHECK(lk_reshape(g, x, clean).id == lk_reshape(g, x, dirty).id);
    lk_norm a, b;
    memset(&a, 0x5a, sizeof a), memset(&b, 0xa5, sizeof b);
    a.groups = b.groups = 2, a.eps = b.eps = 1e-5, a.silu = b.silu = true;
    CHECK(lk_group_norm(g, x, LK_NONE, LK_NONE, a).id == lk_group_norm(g, x, LK_NONE, LK_NONE, b).id);
    lk_graph_free(g);
}

TEST(an_effect_parts_reads_of_a_param) {
    lk_graph *g = lk_graph_new();
    lk_val p = lk_param(g, "p", LK_SHAPE(4), LK_MEM_ADAPTER);
    lk_val before = lk_neg(g, p), again = lk_neg(g, p), scalar = lk_scalar(g, 3);
    lk_assign(g, p, before);
    lk_val after = lk_neg(g, p);
    CHECK(before.id == again.id);
    CHECK(after.id != before.id);
    CHECK(lk_neg(g, p).id == after.id);
    CHECK(lk_scalar(g, 3).id == scalar.id);
    int count = lk_graph_count(g);
    lk_assign(g, p, before);
    CHECK(lk_graph_count(g) == count + 1);       /* an effect is never shared */
    lk_graph_free(g);
}

TEST(leaves_are_found_by_name) {
    lk_graph *g = lk_graph_new();
    char name[32];
    for (int i = 0; i < 3000; i++) {
        snprintf(name, sizeof name, "block.%d.weight", i);
        lk_param(g, name, LK_SHAPE(i + 1), LK_MEM_WEIGHT);
    }
    bool right = true;
    for (int i = 0; i < 3000; i++) {
        snprintf(name, sizeof name, "block.%d.weight", i);
        right = right && lk_dim(g, lk_find(g, name), 0) == i + 1 && lk_param(g, name, LK_SHAPE(i + 1), LK_MEM_WEIGHT).id == lk_find(g, name).id;
    }
    CHECK(right);
    CHECK(!lk_ok(lk_find(g, "block.3000.weight")));
    CHECK(lk_graph_count(g) == 3000);
    lk_graph_free(g);
}

TEST(a_long_chain_is_built_in_linear_time_and_stays_shared) {
    lk_graph *g = lk_graph_new();
    lk_val x = lk_input(g, "x", LK_F32, LK_SHAPE(4)), first = lk_neg(g, x), v = x;
    for (int i = 0; i < 20000; i++) v = lk_add(g, v, x);
    CHECK(lk_neg(g, x).id == first.id);
    lk_val w = x;
    for (int i = 0; i < 20000; i++) w = lk_add(g, w, x);
    CHECK(w.id == v.id);
    CHECK(lk_graph_count(g) == 20002);
    lk_graph_free(g);
}

/* A small net of every fused family, its gradient and the step's bits with and without fusing. */
static lk_val net_of(lk_graph *g, lk_val *grad) {
    lk_val x = lk_input(g, "x", LK_F32, LK_SHAPE(2, 8, 6, 4)), w = lk_param(g, "w", LK_SHAPE(16, 8), LK_MEM_WEIGHT), gamma = lk_param(g, "gamma", LK_SHAPE(8), LK_MEM_WEIGHT), beta = lk_param(g, "beta", LK_SHAPE(8), LK_MEM_WEIGHT);
    lk_val y = lk_group_norm(g, x, gamma, beta, (lk_norm){.groups = 2, .eps = 1e-5, .silu = true});
    y = lk_reshape(g, lk_permute(g, y, (int[]){0, 2, 3, 1}), LK_SHAPE(2, 24, 8));
    y = lk_sdpa(g, y, y, lk_layer_norm(g, y, gamma, beta, 1e-5), LK_NONE, (lk_sdpa_attr){.heads = 2});
    y = lk_gelu(g, lk_geglu(g, lk_linear(g, y, w, LK_NONE)));
    lk_val loss = lk_mean_all(g, lk_square(g, y)), wrt[] = {x, w, gamma};
    lk_vjp(g, loss, LK_NONE, wrt, 3, grad);
    return loss;
}
static int run_net(const lk_op *apart, int n, float *out) {
    lk_graph *g = lk_graph_new();
    lk_graph_unfuse(g, apart, n);
    lk_val v[4];
    v[0] = net_of(g, v + 1);
    lk_exec *e = NULL;
    CHECK_OK(lk_graph_error(g));
    CHECK_OK(lk_exec_new(g, v, 4, (lk_exec_opts){0}, &e));
    float values[384];
    for (int i = 0; i < 384; i++) values[i] = (float)((i * 7919) % 2003 - 1001) * 0x1p-9f;
    CHECK_OK(lk_exec_set(e, lk_find(g, "x"), values, 384));
    CHECK_OK(lk_exec_set(e, lk_find(g, "w"), values, 128));
    CHECK_OK(lk_exec_set(e, lk_find(g, "gamma"), values + 3, 8));
    CHECK_OK(lk_exec_set(e, lk_find(g, "beta"), values + 7, 8));
    CHECK_OK(lk_exec_run(e));
    for (int i = 0; i < 4; i++) { int64_t k = lk_numel(lk_shape_of(g, v[i])); CHECK_OK(lk_exec_get(e, v[i], out, k)); out += k; }
    int live = 0;
    for (int i = 0; i < lk_graph_count(g); i++) live += lk_exec_plan(e)->live[i];
    lk_exec_free(e); lk_graph_free(g);
    return live;
}
TEST(unfused_is_the_same_bits) {
    static float fused[1024], apart[1024];
    const lk_op families[][2] = {{LK_OP_group_norm, LK_OP_group_norm_dx}, {LK_OP_geglu, LK_OP_geglu_dx}, {LK_OP_gelu, LK_OP_gelu_dx}, {LK_OP_sdpa, LK_OP_sdpa_grad}, {LK_OP_layer_norm, LK_OP_layer_norm_dx}};
    lk_op all[10];
    const int plain = run_net(NULL, 0, fused);
    for (int i = 0; i < 5; i++) {
        const int more = run_net(families[i], 2, apart);
        CHECK_MSG(!memcmp(fused, apart, sizeof fused), "%s", lk_op_name(families[i][0]));
        CHECK_MSG(more > plain + 4, "%s: %d nodes, %d fused", lk_op_name(families[i][0]), more, plain);
        all[2 * i] = families[i][0]; all[2 * i + 1] = families[i][1];
    }
    CHECK(run_net(all, 10, apart) > plain + 60 && !memcmp(fused, apart, sizeof fused));
}
