/* decompose_contract: the product that is added to a value, from primitives. Three roundings an element: the product's last, times alpha, plus c. */
#include "graph/internal.h"

lk_val lk_decompose_matmul_add(lk_graph *g, const lk_node *n) {
    lk_mm mm = n->attr.matmul;
    return lk_add(g, n->in[0], lk_scale(g, lk_matmul(g, n->in[1], n->in[2], LK_NONE, mm), mm.alpha));
}
