/* plan_text: a plan as a table for people: bytes by class, then the largest values by name and shape. */
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

char *lk_plan_text(lk_arena *a, const lk_graph *g, const lk_plan *p, int largest) {
    lk_buf text = {0};
    int64_t sum = 0;
    lk_buf_fmt(&text, "memory\n");
    for (int c = 0; c < LK_MEM_CLASSES; c++) {
        if (p->by_class[c]) line(&text, class_names[c], p->by_class[c]);
        sum += p->by_class[c];
    }
    line(&text, "total", sum);
    lk_buf_fmt(&text, "contractions %.3f GFLOP\n", (double)p->flops * 1e-9);
    if (largest > 0) {
        int *top = lk_xmalloc(sizeof *top * (size_t)(largest + 1)), n = largest_values(g, p, top, largest);
        if (n) lk_buf_fmt(&text, "largest values\n");
        for (int i = 0; i < n; i++) {
            lk_slot s = p->slot[top[i]];
            lk_buf_fmt(&text, "  %10.2f MiB  nodes %d to %d  %s\n", (double)s.bytes / 0x1p20, top[i], s.last, lk_val_text(g, a, (lk_val){top[i]}));
        }
        free(top);
    }
    char *result = lk_strdup(a, text.s);
    free(text.s);
    return result;
}
