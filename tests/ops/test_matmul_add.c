/* A product added to a value: three LoRA layers on one input and all their gradients have the bits of matmul, mul and add, with every instruction
 * set and any threads, in place of what they are added to; a value that is read again, or that a factor is a view of, is not overwritten.
 * Tolerance: none. A scale one ulp off is planted and seen. */
#include "tests/lib/lk_test.h"
#include "tests/lib/opcheck.h"

enum { ROWS = 70, IN = 45, OUT = 67, R = 6, LAYERS = 3, WRT = 2 * LAYERS + 1 };
typedef struct { lk_graph *g; lk_val x, value[1 + WRT]; int fused; } layers;

/* y = sum over layers of W_i x + b_i + scale B_i (A_i x), times y; gradients to every A, B and to x. */
static layers build(bool apart, double scale) {
    layers l = {.g = lk_graph_new()};
    lk_graph *g = l.g;
    if (apart) lk_graph_unfuse(g, (lk_op[]){LK_OP_matmul_add}, 1);
    lk_val wrt[WRT], sum = LK_NONE;
    l.x = lk_input(g, "x", LK_F32, LK_SHAPE(2, ROWS / 2, IN));
    lk_val x = lk_silu(g, l.x);
    for (int i = 0; i < LAYERS; i++) {
        char name[3][16];
        for (int k = 0; k < 3; k++) snprintf(name[k], sizeof name[k], "%c%d", "wab"[k], i);
        lk_val w = lk_param(g, name[0], LK_SHAPE(OUT, IN), LK_MEM_WEIGHT), a = lk_param(g, name[1], LK_SHAPE(R, IN), LK_MEM_ADAPTER), b = lk_param(g, name[2], LK_SHAPE(OUT, R), LK_MEM_ADAPTER);
        lk_val y = lk_matmul_add(g, lk_linear(g, x, w, LK_NONE), lk_linear(g, x, a, LK_NONE), b, scale, (lk_mm){.tb = true});
        sum = i ? lk_mul(g, sum, y) : y;
        wrt[2 * i] = a; wrt[2 * i + 1] = b;
    }
    wrt[2 * LAYERS] = l.x;
    l.value[0] = sum;
    lk_vjp(g, lk_mean_all(g, lk_square(g, sum)), LK_NONE, wrt, WRT, l.value + 1);
    for (int i = 0; i < lk_graph_count(g); i++) l.fused += lk_graph_node(g, (lk_val){i})->op == LK_OP_matmul_add;
    return l;
}
/* All values one after another. */
static float *run(const layers *l, const op_variant *v, int64_t *n, int64_t *arena) {
    const lk_backend *cpu;
    lk_pool *pool = v->threads > 1 ? lk_pool_new(v->threads) : NULL;
    lk_exec *x = NULL;
    CHECK_OK(lk_backend_cpu(v->isa, &cpu));
    CHECK_OK(lk_exec_new(l->g, l->value, 1 + WRT, (lk_exec_opts){.backend = cpu, .pool = pool}, &x));
    op_rng r = {5};
    for (int i = 0; i < lk_graph_count(l->g); i++) {
        const lk_node *node = lk_graph_node(l->g, (lk_val){i});
        int64_t count = lk_numel(node->shape);
        if (node->op != LK_OP_input && node->op != LK_OP_param) continue;
        float *to = lk_xmalloc((size_t)count * sizeof *to);
        for (int64_t k = 0; k < count; k++) to[k] = (float)op_normal(&r);
        CHECK_OK(lk_exec_set(x, (lk_val){i}, to, count));
        free(to);
    }
    CHECK_OK(lk_exec_run(x));
    *arena = lk_exec_plan(x)->arena_bytes;
    *n = 0;
    for (int i = 0; i <= WRT; i++) *n += lk_numel(lk_shape_of(l->g, l->value[i]));
    float *all = lk_xmalloc((size_t)*n * sizeof *all), *to = all;
    for (int i = 0; i <= WRT; i++) {
        int64_t count = lk_numel(lk_shape_of(l->g, l->value[i]));
        CHECK_OK(lk_exec_get(x, l->value[i], to, count));
        to += count;
    }
    lk_exec_free(x);
    lk_pool_free(pool);
    return all;
}
/* Same bits, without NaN. */
static bool same(const float *a, const float *b, int64_t n) {
    for (int64_t i = 0; i < n; i++) if (memcmp(a + i, b + i, sizeof *a) || a[i] != a[i]) return false;
    return true;
}

TEST(lora_and_its_gradients_have_the_bits_of_primitives) {
    op_variant v[OP_MAX_VARIANTS];
    int variants = op_variants(v);
    layers fused = build(false, 0.7), apart = build(true, 0.7), planted = build(false, (double)nextafterf(0.7f, 1));
    int64_t n, m, arena, arena_apart;
    float *want = run(&apart, &v[0], &n, &arena_apart);
    CHECK_MSG(fused.fused == LAYERS + 2 * LAYERS - 1, "%d products are added on the way", fused.fused);      /* branches; to x all but the first */
    for (int i = 0; i < variants; i++) {
        float *got = run(&fused, &v[i], &m, &arena);
        CHECK_MSG(m == n && same(got, want, n), "%s: other bits than from primitives", v[i].name);
        CHECK_MSG(arena <= arena_apart, "%lld bytes, %lld from primitives", (long long)arena, (long long)arena_apart);
        free(got);
    }
    float *off = run(&planted, &v[0], &m, &arena);
    CHECK(!same(off, want, n));
    free(off); free(want);
    lk_graph_free(fused.g); lk_graph_free(apart.g); lk_graph_free(planted.g);
}

TEST(it_lies_where_it_was_added_unless_that_is_read_again) {
    lk_graph *g = lk_graph_new();
    lk_val c = lk_neg(g, lk_input(g, "c", LK_F32, LK_SHAPE(8, 8))), a = lk_input(g, "a", LK_F32, LK_SHAPE(8, 3)), b = lk_input(g, "b", LK_F32, LK_SHAPE(3, 8));
    lk_val y = lk_matmul_add(g, c, a, b, 2, (lk_mm){0}), part = lk_view(g, lk_reshape(g, c, LK_SHAPE(64)), 8, LK_SHAPE(8, 3)), z = lk_matmul_add(g, c, part, b, 2, (lk_mm){0});
    lk_val outs[][2] = {{y, y}, {y, c}, {z, z}};
    for (int i = 0; i < 3; i++) {
        lk_plan *p;
        CHECK_OK(lk_plan_new(g, outs[i], 2, (lk_plan_opts){.element_bytes = 4}, &p));
        CHECK((p->slot[outs[i][0].id].offset == p->slot[c.id].offset) == (i == 0));
        lk_plan_free(p);
    }
    CHECK(lk_node_flops(g, lk_graph_node(g, y)) == 2 * 8 * 8 * 3);
    lk_matmul_add(g, lk_transpose(g, a, 0, 1), a, b, 1, (lk_mm){0});
    CHECK_FAILS(lk_graph_error(g), "matmul_add");
    lk_graph_free(g);
}
