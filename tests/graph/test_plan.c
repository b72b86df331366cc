/* Plans. Oracle: random graphs are executed symbolically, byte ranges and readers recomputed from the graph alone: a node
 * must find every input's bytes last written by that input. The same check must see planted overlaps. */
#include "tests/lib/lk_test.h"
#include "graph/graph.h"

static uint64_t key;
static uint64_t draws;
static int below(int n) { return (int)lk_philox_below(key, 0, 0, draws++, (uint32_t)n); }
static lk_err plan(lk_graph *g, const lk_val *out, int n, lk_plan **p) { return lk_plan_new(g, out, n, (lk_plan_opts){.element_bytes = 4}, p); }
static int root_of(lk_graph *g, int id) {
    while (lk_op_traits(lk_graph_node(g, (lk_val){id})->op) & (T_VIEW | T_EFFECT)) id = lk_graph_node(g, (lk_val){id})->in[0].id;
    return id;
}

/* Every 4 bytes of the arena remember who wrote them. Returns the first id that reads what is not its input's, or -1. */
static int first_wrong_read(lk_graph *g, const lk_plan *p, const lk_val *out, int n_out) {
    int *writer = malloc((size_t)p->arena_bytes + 4), wrong = -1;
    for (int64_t i = 0; i < p->arena_bytes / 4; i++) writer[i] = -1;
    for (int id = 0; id < p->n_nodes + n_out && wrong < 0; id++) {
        const lk_node *n = id < p->n_nodes ? lk_graph_node(g, (lk_val){id}) : NULL;
        if (n && (!p->live[id] || lk_op_traits(n->op) & (T_LEAF | T_VIEW))) continue;
        for (int i = 0; i < (n ? n->n_in : 1); i++) {
            int source = n ? n->in[i].id : out[id - p->n_nodes].id, root = root_of(g, source);
            lk_slot s = p->slot[source];
            if (!s.bytes != !!(lk_op_traits(lk_graph_node(g, (lk_val){root})->op) & T_LEAF)) wrong = id;
            for (int64_t b = s.offset / 4; b < (s.offset + s.bytes) / 4; b++)
                if (b >= p->arena_bytes / 4 || writer[b] != root) wrong = id;
        }
        if (!n || lk_op_traits(n->op) & T_EFFECT) continue;
        lk_slot s = p->slot[id];
        if (s.offset % 64 || s.offset + s.bytes > p->arena_bytes || s.bytes != 4 * lk_numel(n->shape)) wrong = id;
        else for (int64_t b = s.offset / 4; b < (s.offset + s.bytes) / 4; b++) writer[b] = id;
    }
    free(writer);
    return wrong;
}

/* Rows of width 8, some tall, some short, so that views, broadcasts and unequal sizes occur. */
static lk_graph *random_graph(int n_nodes, lk_val *out, int n_out) {
    lk_graph *g = lk_graph_new();
    lk_val v[256];
    int n = 0;
    v[n++] = lk_input(g, "x", LK_F32, LK_SHAPE(6, 8));
    v[n++] = lk_param(g, "w", LK_SHAPE(8, 8), LK_MEM_WEIGHT);
    lk_val state = lk_param(g, "state", LK_SHAPE(6, 8), LK_MEM_ADAPTER);
    v[n++] = state;
    v[n++] = lk_neg(g, v[0]);
    while (n < n_nodes) {
        lk_val a = v[below(n)], b = v[n - 1 - below(n < 6 ? n : 6)], c = LK_NONE;
        lk_shape s = lk_shape_of(g, a), t = lk_shape_of(g, b);
        switch (below(9)) {
        case 0: c = lk_exp(g, a); break;
        case 1: c = lk_shape_eq(s, t) || s.d[0] == 1 || t.d[0] == 1 ? lk_add(g, a, b) : lk_mul(g, a, a); break;
        case 2: c = lk_reshape(g, lk_reshape(g, a, LK_SHAPE(-1)), LK_SHAPE(-1, 8)); break;
        case 3: c = lk_matmul(g, a, v[1], LK_NONE, (lk_mm){0}); break;
        case 4: c = lk_reduce_sum(g, a, (lk_axes){.n = 1, .axis = {0}, .keep = true}); break;
        case 5: c = lk_view(g, lk_reshape(g, a, LK_SHAPE(-1)), 8 * below((int)s.d[0]), LK_SHAPE(1, 8)); break;
        case 6: c = s.d[0] + t.d[0] < 40 ? lk_concat(g, (lk_val[]){a, b}, 2, 0) : lk_slice(g, a, 0, 1, 5 < s.d[0] ? 5 : s.d[0]); break;
        case 7: c = lk_softmax(g, a); break;
        default: if (lk_shape_eq(s, LK_SHAPE(6, 8))) lk_assign(g, state, a); c = lk_sub(g, a, a); break;
        }
        if (!lk_ok(c)) break;
        v[n++] = c;
    }
    for (int i = 0; i < n_out; i++) out[i] = v[n - 1 - below(n < 12 ? n : 12)];
    return g;
}

TEST(no_live_value_is_overwritten_in_random_graphs) {
    int shared = 0;
    for (int seed = 0; seed < 300; seed++) {
        key = lk_stream_key((uint64_t)seed, "plan"), draws = 0;
        lk_val out[3];
        lk_graph *g = random_graph(20 + seed % 150, out, 3);
        lk_plan *p = NULL;
        CHECK_OK(lk_graph_error(g));
        CHECK_OK(plan(g, out, 3, &p));
        int wrong = p ? first_wrong_read(g, p, out, 3) : 0;
        CHECK_MSG(wrong < 0, "seed %d: node %d finds another value's bytes", seed, wrong);
        int64_t separate = 0;
        for (int i = 0; p && i < p->n_nodes; i++)
            if (root_of(g, i) == i) separate += p->slot[i].bytes;
        shared += p && p->arena_bytes < separate;
        lk_plan_free(p);
        lk_graph_free(g);
    }
    CHECK(shared > 200);                     /* memory is in fact reused */
}

TEST(the_check_sees_a_planted_overlap) {
    int seen = 0, planted = 0;
    for (int seed = 0; seed < 40; seed++) {
        key = lk_stream_key((uint64_t)seed, "plan"), draws = 0;
        lk_val out[3];
        lk_graph *g = random_graph(60, out, 3);
        lk_plan *p = NULL;
        CHECK_OK(plan(g, out, 3, &p));
        for (int a = 0; a < p->n_nodes; a++) {          /* b is put over the whole of a, which is still to be read, be it in part */
            for (int b = a + 1; b < p->n_nodes; b++) {
                bool own = root_of(g, a) == a && root_of(g, b) == b && p->slot[a].bytes && p->slot[b].bytes >= p->slot[a].bytes;
                if (!own || p->slot[a].last <= b || p->slot[a].offset == p->slot[b].offset) continue;
                int64_t kept = p->slot[b].offset;
                p->slot[b].offset = p->slot[a].offset;
                planted++;
                seen += first_wrong_read(g, p, out, 3) >= 0;
                p->slot[b].offset = kept;
                b = p->n_nodes;
            }
        }
        lk_plan_free(p);
        lk_graph_free(g);
    }
    CHECK_MSG(planted > 100 && seen == planted, "%d planted, %d seen", planted, seen);
}

TEST(an_elementwise_chain_lives_in_one_buffer) {
    lk_graph *g = lk_graph_new();
    lk_val x = lk_input(g, "x", LK_F32, LK_SHAPE(1000)), h = lk_neg(g, x);
    for (int i = 0; i < 10; i++) h = lk_silu(g, lk_add(g, lk_mul(g, h, h), x));
    lk_plan *p;
    CHECK_OK(plan(g, &h, 1, &p));
    CHECK(p->arena_bytes == 4032);           /* 4000 up to the next 64 */
    lk_plan_free(p);
    lk_val first = {x.id + 1};               /* an output is never overwritten */
    CHECK_OK(plan(g, (lk_val[]){h, first}, 2, &p));
    CHECK(p->arena_bytes == 2 * 4032);
    CHECK(p->slot[first.id].offset != p->slot[h.id].offset);
    lk_plan_free(p);
    lk_graph_free(g);
}

TEST(a_broadcast_alias_forbids_overwriting) {
    lk_graph *g = lk_graph_new();
    lk_val h = lk_neg(g, lk_input(g, "x", LK_F32, LK_SHAPE(4, 4)));
    lk_val row = lk_view(g, lk_reshape(g, h, LK_SHAPE(16)), 4, LK_SHAPE(1, 4)), y = lk_add(g, h, row);   /* reads row 1 while rows are written */
    lk_plan *p;
    CHECK_OK(plan(g, &y, 1, &p));
    CHECK(p->slot[y.id].offset != p->slot[h.id].offset);
    CHECK(p->slot[row.id].offset == p->slot[h.id].offset + 16);
    lk_plan_free(p);
    lk_graph_free(g);
}

static int64_t some_workspace(const lk_graph *g, const lk_node *n, int threads) {
    (void)g;
    return n->op == LK_OP_matmul ? 100 * threads : n->op == LK_OP_softmax ? 70 : 0;
}

TEST(totals_are_counted_by_class) {
    lk_graph *g = lk_graph_new();
    lk_val x = lk_input(g, "x", LK_F32, LK_SHAPE(6, 8)), w = lk_param(g, "w", LK_SHAPE(16, 8), LK_MEM_WEIGHT), a = lk_param(g, "a", LK_SHAPE(16), LK_MEM_ADAPTER);
    lk_param(g, "unused", LK_SHAPE(999), LK_MEM_WEIGHT);
    lk_val dead = lk_exp(g, x), y = lk_softmax(g, lk_linear(g, x, w, a)), loss = lk_mean_all(g, lk_mul(g, y, y)), d;
    lk_vjp(g, loss, LK_NONE, &a, 1, &d);
    lk_plan *p;
    CHECK_OK(lk_plan_new(g, (lk_val[]){loss, d}, 2, (lk_plan_opts){.element_bytes = 8, .workspace = some_workspace, .threads = 3}, &p));
    CHECK(!p->live[dead.id] && p->slot[dead.id].bytes == 0);
    CHECK(p->by_class[LK_MEM_INPUT] == 6 * 8 * 8);
    CHECK(p->by_class[LK_MEM_WEIGHT] == 16 * 8 * 8);
    CHECK(p->by_class[LK_MEM_ADAPTER] == 16 * 8);
    CHECK(p->by_class[LK_MEM_WORKSPACE] == 300);
    CHECK(p->by_class[LK_MEM_ACTIVATION] + p->by_class[LK_MEM_GRADIENT] == p->arena_bytes);
    CHECK(p->by_class[LK_MEM_GRADIENT] > 0);
    CHECK(p->flops == 2 * 6 * 16 * 8);       /* neither dx nor dw of the frozen weight */
    lk_arena *arena = lk_arena_new();
    const char *text = lk_plan_text(arena, g, p, 3);
    CHECK(strstr(text, "adapters") && strstr(text, "workspace") && strstr(text, "matmul#") && strstr(text, "[6, 16]"));
    lk_arena_free(arena);
    lk_plan_free(p);
    CHECK_FAILS(plan(g, &(lk_val){-1}, 1, &p), "output 0 of 1");
    lk_graph_free(g);
}

TEST(a_deep_training_graph_needs_no_more_than_its_peak) {
    lk_graph *g = lk_graph_new();
    lk_val h = lk_input(g, "x", LK_F32, LK_SHAPE(64, 32)), w[40], d[40];
    for (int i = 0; i < 40; i++) {
        char name[16];
        snprintf(name, sizeof name, "w%d", i);
        w[i] = lk_param(g, name, LK_SHAPE(32, 32), LK_MEM_WEIGHT);
        h = lk_silu(g, lk_linear(g, h, w[i], LK_NONE));
    }
    lk_vjp(g, lk_mean_all(g, lk_mul(g, h, h)), LK_NONE, w, 40, d);
    lk_plan *p;
    CHECK_OK(plan(g, d, 40, &p));
    int64_t peak = 0;                        /* the most that is alive at once, in-place pairs counted once */
    for (int t = 0; t < p->n_nodes; t++) {
        int64_t held = 0;
        for (int i = 0; i <= t; i++)
            if (root_of(g, i) == i && p->slot[i].bytes && p->slot[i].last > t) held += (p->slot[i].bytes + 63) / 64 * 64;
        if (held > peak) peak = held;
    }
    CHECK_MSG(p->arena_bytes <= peak + peak / 4, "arena %lld, peak %lld", (long long)p->arena_bytes, (long long)peak);
    lk_plan_free(p);
    lk_graph_free(g);
}
