/* plan_text: a plan as a table for people: bytes by class, the largest values by name and shape, and what would make it
 * smaller: recomputation (planned here, not guessed), a smaller batch, a smaller rank, each with its bytes. */
#include "graph/internal.h"

static const char *const class_names[LK_MEM_CLASSES] = {
    [LK_MEM_INPUT] = "inputs", [LK_MEM_WEIGHT] = "weights", [LK_MEM_ADAPTER] = "adapters", [LK_MEM_OPTIMISER] = "optimiser",
    [LK_MEM_CONSTANT] = "constants", [LK_MEM_GRADIENT] = "gradients", [LK_MEM_ACTIVATION] = "activations", [LK_MEM_WORKSPACE] = "workspace",
};

static void line(lk_buf *text, const char *name, int64_t bytes) {
    lk_buf_fmt(text, "  %-12s %16lld bytes %10.2f MiB\n", name, (long long)bytes, (double)bytes / 0x1p20);
}

static bool owns_memory(const lk_graph *g, const lk_plan *p, int id) {
    const lk_node *n = &g->node[id];
    return p->live[id] && p->slot[id].bytes > 0 && !(lk_op_traits(n->op) & T_VIEW);
}

/* Ids of the largest values, by insertion into `top`, which is in decreasing size. Returns how many. */
static int largest_values(const lk_graph *g, const lk_plan *p, int *top, int want) {
    int n = 0;
    for (int id = 0; id < p->n_nodes; id++) {
        if (!owns_memory(g, p, id)) continue;
        int at = n;
        while (at > 0 && p->slot[top[at - 1]].bytes < p->slot[id].bytes) at--;
        if (at >= want) continue;
        if (n < want) n++;
        memmove(top + at + 1, top + at, sizeof *top * (size_t)(n - 1 - at));
        top[at] = id;
    }
    return n;
}

/* A value without a name is told by the nearest param it was made with: "matmul#115 [8, 256, 512] of ff.net.0.proj.weight". */
static const char *described(const lk_graph *g, lk_arena *a, int id) {
    const char *text = lk_val_text(g, a, (lk_val){id});
    for (int at = id, deep = 0; !g->node[id].name && deep < 4 && g->node[at].n_in; deep++, at = g->node[at].in[0].id)
        for (int i = 0; i < g->node[at].n_in; i++) {
            const lk_node *in = &g->node[g->node[at].in[i].id];
            if (in->op == LK_OP_param && in->name) return lk_fmt(a, "%s %s %s", text, deep ? "after" : "of", in->name);
        }
    return text;
}

static void advise(lk_buf *text, const lk_graph *g, const lk_plan *p) {
    int64_t sum = 0, arena = 0, flops = 0, trained = p->by_class[LK_MEM_ADAPTER] + p->by_class[LK_MEM_OPTIMISER];
    for (int c = 0; c < LK_MEM_CLASSES; c++) sum += p->by_class[c];
    if (!sum) return;
    lk_buf_fmt(text, "what would help\n");
    if (lk_plan_least(g, p, &arena, &flops) && arena < p->arena_bytes) {
        int64_t least = sum - p->arena_bytes + arena;
        lk_buf_fmt(text, "  a memory limit   down to %.2f MiB in all, forward values recomputed: at most %.0f %% more contractions\n", (double)least / 0x1p20,
                   p->flops ? 100 * (double)(flops - p->flops) / (double)p->flops : 0.0);
    }
    if (p->arena_bytes * 10 > sum) lk_buf_fmt(text, "  half the batch   about %.2f MiB less of activations and inputs\n", (double)(p->arena_bytes + p->by_class[LK_MEM_INPUT]) / 2 / 0x1p20);
    if (trained * 20 > sum) lk_buf_fmt(text, "  half the rank    about %.2f MiB less of adapters and optimiser states\n", (double)trained / 2 / 0x1p20);
    if (p->by_class[LK_MEM_WEIGHT] * 2 > sum) lk_buf_fmt(text, "  a smaller model  the weights are %.0f %% of it\n", 100 * (double)p->by_class[LK_MEM_WEIGHT] / (double)sum);
}

char *lk_plan_text(lk_arena *a, const lk_graph *g, const lk_plan *p, int largest) {
    lk_buf text = {0};
    int64_t sum = 0;
    lk_buf_fmt(&text, "memory\n");
    for (int c = 0; c < LK_MEM_CLASSES; c++) {
        if (p->by_class[c]) line(&text, class_names[c], p->by_class[c]);
        sum += p->by_class[c];
    }
    line(&text, "total", sum);
    if (p->packed_bytes) line(&text, "and packed", p->packed_bytes);
    if (p->unpacked_bytes < p->by_class[LK_MEM_WEIGHT]) line(&text, "mapped only", p->by_class[LK_MEM_WEIGHT] - p->unpacked_bytes);
    if (p->alive_bytes) lk_buf_fmt(&text, "the arena is %.1f %% above the bytes alive at its peak\n", 100 * ((double)p->arena_bytes / (double)p->alive_bytes - 1));
    lk_buf_fmt(&text, "contractions %.3f GFLOP\n", (double)p->flops * 1e-9);
    if (p->recomputed) lk_buf_fmt(&text, "of which recomputed %.3f GFLOP, %d nodes\n", (double)p->recomputed_flops * 1e-9, p->recomputed);
    if (largest > 0) {
        int *top = lk_xmalloc(sizeof *top * (size_t)(largest + 1)), n = largest_values(g, p, top, largest);
        if (n) lk_buf_fmt(&text, "largest values\n");
        for (int i = 0; i < n; i++) {
            lk_slot s = p->slot[top[i]];
            lk_buf_fmt(&text, "  %10.2f MiB  nodes %d to %d  %s\n", (double)s.bytes / 0x1p20, top[i], s.last, described(g, a, top[i]));
        }
        free(top);
        advise(&text, g, p);
    }
    char *result = lk_strdup(a, text.s);
    free(text.s);
    return result;
}
