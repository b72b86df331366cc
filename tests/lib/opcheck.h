/* Checks of one operation (docs/design.md, tests that can fail). A case is an operation, its attribute and
 * descriptions of its inputs; op_check
 *   compares the cpu result and the cpu gradients with the binary64 reference,
 *   compares the vjp, and the vjp of the vjp, with central differences in binary64 under random cotangents,
 *   compares bits: fused with decomposed, every instruction set, 1, 2 and 3 threads,
 *   and before all this plants an error of 1 % in the result and in the gradient, which must be refused.
 * Tables of cases, one a family, live in tests/lib/cases_*.c; tests/ops/ runs them and asks that no row of
 * ops.def is without one. */
#ifndef LK_OPCHECK_H
#define LK_OPCHECK_H
#include "graph/graph.h"
#include "backend/backend.h"

enum { OP_MAX_IN = 8 };
typedef enum {
    IN_ABSENT,      /* LK_NONE */
    IN_NORMAL,      /* about N(0, 1) */
    IN_POSITIVE,    /* [0.4, 2.2] */
    IN_NONZERO,     /* 0.3 <= |x| <= 2 */
    IN_EVEN,        /* all different, multiples of 0.1: no two closer than that */
    IN_ODD,         /* all different, 0.05 away from any IN_EVEN value */
    IN_TIED,        /* few different values: ties. Value and bits only */
    IN_SWITCH,      /* 0 or 1 */
    IN_TIMES,       /* [0, 1000) */
    IN_WARP,        /* [N, 2, 3]: rotation and scale about a shifted centre */
    IN_IDS,         /* I64 below `below` */
    IN_COUNT        /* I64, `below` itself: seeds and steps */
} in_kind;
typedef struct { in_kind kind; lk_shape shape; int64_t below; bool fixed; /* not differentiated */ } op_input;
typedef struct {
    lk_op op; const char *what;
    op_input in[OP_MAX_IN];
    lk_attr attr;          /* as the builders fill it: no field left to a default */
    bool big;              /* large enough for threads to share: value and bits, no differences */
    double tol;            /* of the cpu value; 0: 1e-5 */
} op_case;
typedef struct { const char *family; const op_case *cases; int n; } op_table;
extern const op_table op_elementwise, op_movement, op_contract, op_norm, op_picture, op_service;

/* Shapes as initialisers of static tables. */
#define DIMS(...)     {(int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), {__VA_ARGS__}}
#define NORMAL(...)   {.kind = IN_NORMAL, .shape = DIMS(__VA_ARGS__)}
#define POSITIVE(...) {.kind = IN_POSITIVE, .shape = DIMS(__VA_ARGS__)}
#define NONZERO(...)  {.kind = IN_NONZERO, .shape = DIMS(__VA_ARGS__)}
#define EVEN(...)     {.kind = IN_EVEN, .shape = DIMS(__VA_ARGS__)}
#define ODD(...)      {.kind = IN_ODD, .shape = DIMS(__VA_ARGS__)}
#define TIED(...)     {.kind = IN_TIED, .shape = DIMS(__VA_ARGS__)}
#define SWITCH(...)   {.kind = IN_SWITCH, .shape = DIMS(__VA_ARGS__), .fixed = true}
#define TIMES(...)    {.kind = IN_TIMES, .shape = DIMS(__VA_ARGS__)}
#define WARP(...)     {.kind = IN_WARP, .shape = DIMS(__VA_ARGS__), .fixed = true}
#define FIXED(...)    {.kind = IN_NORMAL, .shape = DIMS(__VA_ARGS__), .fixed = true}
#define IDS(n, ...)   {.kind = IN_IDS, .shape = DIMS(__VA_ARGS__), .below = (n), .fixed = true}
#define WHOLE(v)      {.kind = IN_COUNT, .below = (v), .fixed = true}
#define NORMAL_SCALAR {.kind = IN_NORMAL}
#define ABSENT        {.kind = IN_ABSENT}

void op_check(const op_case *);
void op_check_row(const op_table *, lk_op);        /* every case of one operation */
void op_check_all_ran(const op_table *);           /* last: no case of the table was forgotten */
/* Whether a backend gives the bits of cpu (scalar) for a case: value, decomposition, gradients and their gradients. */
bool op_same_bits(const op_case *, const lk_backend *, const char *what);
/* The largest distance of a value from cpu's, over outputs each relative to its largest magnitude; NaN: it could not run. */
double op_distance(const op_case *, const lk_backend *other);

/* ---- parts, for tests of whole graphs ---- */
enum { OP_MAX_VARIANTS = 8 };
typedef struct { lk_isa isa; int threads; char name[24]; } op_variant;
/* Every instruction set of this machine with one thread, then two and three threads. The first is scalar. */
int op_variants(op_variant *);
/* Deterministic numbers: [0, 1) and about N(0, 1), rounded to binary32. */
typedef struct { uint64_t s; } op_rng;
double op_uniform(op_rng *), op_normal(op_rng *);
/* Largest |got - want| / max(|want|, rms of want, tiny); infinity if any is NaN. */
double op_error(const double *got, const double *want, int64_t n);
/* As op_error(got, want) <= tol, but refuses to answer true unless it also refuses `got` with its largest element 1 % off. */
bool op_close(const double *got, const double *want, int64_t n, double tol, double *error);
#endif
