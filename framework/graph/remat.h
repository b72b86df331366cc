/* Rematerialisation: a program whose gradient part reads recomputed forward values instead of kept ones (Chen et al.
 * 2016, arXiv:1604.06174). Private to graph/.
 *
 * A program is the graph's nodes in the order they run; inputs are places in the program. A node may stand in it more
 * than once: every standing is a value of its own. Recomputing gives the same bits: an operation is a function of its
 * inputs alone, and a value is recomputed only where no effect has run since it was first computed. */
#ifndef LK_REMAT_H
#define LK_REMAT_H
#include "graph/internal.h"

typedef struct { int n; lk_node *node; int *of; /* by place: id in the graph */ } lk_program;
lk_program lk_program_plain(lk_arena *, const lk_graph *);

/* How much is recomputed. segments 0: only what costs no contraction and holds more memory than it needs to come back.
 * Else the forward part is cut into so many segments where least memory crosses, and the first `dropped` of them keep
 * only what crosses. */
typedef struct { int segments, dropped; } lk_remat;
enum { LK_MAX_SEGMENTS = 48 };
lk_program lk_program_remat(lk_arena *, const lk_graph *, const bool *live, const lk_val *outputs, int n_outputs, int element_bytes, lk_remat);
#endif
