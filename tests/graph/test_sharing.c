/* Equal nodes are one node, unless an effect was built between them. Leaves by name. */
#include "tests/lib/lk_test.h"
#include "graph/graph.h"

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
