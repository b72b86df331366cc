/* op_table: ops.def made into the table that names, differentiates and decomposes operations. */
#include "graph/internal.h"

#define VJP_OF_VJP(name)  lk_vjp_##name
#define VJP_OF_DEC(name)  NULL
#define VJP_OF_NONE(name) NULL
#define VJP_OF_ZERO(name) NULL
#define RULE_DEC(name)    lk_decompose_##name
#define RULE_NODEC(name)  NULL

static const lk_op_row table[LK_OP_COUNT] = {
#define OP(name, lo, hi, attr, grad, dec, traits) [LK_OP_##name] = {#name, lo, hi, traits, LK_GRAD_##grad, VJP_OF_##grad(name), RULE_##dec(name)},
#include "graph/ops.def"
#undef OP
};

const lk_op_row *lk_op_at(lk_op op) { return op >= 0 && op < LK_OP_COUNT ? &table[op] : NULL; }
const char *lk_op_name(lk_op op) { return op >= 0 && op < LK_OP_COUNT ? table[op].name : "?"; }
int lk_op_traits(lk_op op) { return op >= 0 && op < LK_OP_COUNT ? table[op].traits : 0; }
