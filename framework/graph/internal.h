/* internal: what the files of graph/ share and nobody else may include.
 *
 * Every node is made by lk_emit: it checks the inputs, asks the operation's shape rule for shape and dtype, and
 * returns an existing equal node where there is one. A builder therefore only fills inputs and attribute. */
#ifndef LK_GRAPH_INTERNAL_H
#define LK_GRAPH_INTERNAL_H
#include "graph/graph.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct lk_graph {
    lk_arena *arena;                 /* inputs, names, constants */
    lk_node *node; int count, cap;   /* by id, grown by doubling */
    int *epoch;                      /* by id: number of effects emitted before the node */
    int effects;                     /* emitted so far */
    int32_t *same;  int same_cap;    /* open hash table of ids, -1 free: equal nodes */
    int32_t *named; int named_cap;   /* open hash table of ids, -1 free: leaves by name */
    int n_named;
    lk_mem mem;                      /* class of the nodes emitted now: GRADIENT while lk_vjp works */
    bool apart[LK_OP_COUNT];         /* operations built from primitives */
    int *stands_for;                 /* by id: the fused node whose value it is and whose gradient it has, -1: itself; NULL: nothing is apart */
    lk_err error;                    /* the first */
};

/* ---- op_table.c ---- */
typedef enum { LK_GRAD_VJP, LK_GRAD_DEC, LK_GRAD_NONE, LK_GRAD_ZERO } lk_grad;
typedef bool (*lk_shape_rule)(lk_graph *, lk_node *);   /* fills shape, dtype; may make attr canonical; false: failed and said so */
typedef lk_val (*lk_decompose_rule)(lk_graph *, const lk_node *);
/* Writes dx[i] for inputs with need[i]; the rest stays LK_NONE. y is the node's own value, dy its cotangent. */
typedef void (*lk_vjp_rule)(lk_graph *, const lk_node *, lk_val y, lk_val dy, const bool *need, lk_val *dx);
typedef struct {
    const char *name; int lo, hi, traits; lk_grad grad;
    lk_vjp_rule vjp; lk_decompose_rule decompose;
} lk_op_row;
const lk_op_row *lk_op_at(lk_op);
lk_shape_rule lk_shape_rule_of(lk_op);                  /* shape_rules.c */

#define LK_DECLARE_VJP(name)  void lk_vjp_##name(lk_graph *, const lk_node *, lk_val, lk_val, const bool *, lk_val *);
#define LK_DECLARE_DEC(name)  lk_val lk_decompose_##name(lk_graph *, const lk_node *);
#define LK_DECLARE_NONE(name)
#define LK_DECLARE_ZERO(name)
#define LK_DECLARE_NODEC(name)
#define OP(name, lo, hi, attr, grad, dec, traits) LK_DECLARE_OP_##grad(name) LK_DECLARE_##dec(name)
#define LK_DECLARE_OP_VJP(name) LK_DECLARE_VJP(name)
#define LK_DECLARE_OP_DEC(name)
#define LK_DECLARE_OP_NONE(name)
#define LK_DECLARE_OP_ZERO(name)
#include "graph/ops.def"
#undef OP

/* ---- graph.c ---- */
lk_val lk_emit(lk_graph *, lk_op, const lk_val *in, int n_in, const lk_attr *attr);   /* trailing LK_NONE inputs are dropped; attr may be NULL */
#define LK_EMIT(g, op, attr, ...) lk_emit((g), (op), (const lk_val[]){__VA_ARGS__}, (int)(sizeof((lk_val[]){__VA_ARGS__}) / sizeof(lk_val)), (attr))
/* Fails with "<op>(<each input's name and shape>): <message>"; returns false. */
bool lk_node_fail(lk_graph *, const lk_node *, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
char *lk_val_text(const lk_graph *, lk_arena *, lk_val);                              /* "conv_in.weight [8, 4, 3, 3]" */

/* ---- shapes.c ---- */
bool lk_shape_valid(lk_shape);                              /* rank and sizes in range, element count fits */
bool lk_axis_resolve(int rank, int *axis);                  /* negative from the end; false: out of range */
bool lk_axes_resolve(int rank, lk_axes *);                  /* resolved, sorted, unique, unused entries 0; false: bad or empty */
bool lk_shapes_broadcast(lk_shape a, lk_shape b, lk_shape *out);
bool lk_shape_reaches(lk_shape from, lk_shape to);          /* from broadcasts to exactly `to` */
lk_shape lk_shape_reduced(lk_shape, lk_axes, bool keep);
lk_shape lk_shape_flat(lk_shape);                           /* [number of elements] */
static inline lk_shape lk_in_shape(const lk_graph *g, const lk_node *n, int i) { return lk_shape_of(g, n->in[i]); }

/* ---- vjp.c ---- */
/* The cotangents of n's inputs through its decomposition. */
void lk_vjp_through(lk_graph *, const lk_node *, lk_val dy, const bool *need, lk_val *dx);

/* ---- small builders several rules use ---- */
lk_val lk_keep_axes(lk_graph *, lk_val reduced, lk_shape of, lk_axes);   /* the reduced axes put back with size 1 */
lk_val lk_row_sum(lk_graph *, lk_val);                                   /* over the last axis, kept */
lk_val lk_one_minus(lk_graph *, lk_val);
#endif
