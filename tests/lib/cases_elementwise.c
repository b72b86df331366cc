/* Cases of the elementwise operations: odd sizes, every broadcast pattern, one large enough for threads. */
#include "tests/lib/opcheck.h"

#define UNARY(name, kind) \
    {LK_OP_##name, "vector", {kind(7)}}, {LK_OP_##name, "rank 3", {kind(2, 3, 5)}}, {LK_OP_##name, "scalar", {kind(1)}}, \
    {LK_OP_##name, "large", {kind(3, 17, 801)}, .big = true}
#define BINARY(name, a, b) \
    {LK_OP_##name, "same", {a(3, 7), b(3, 7)}}, {LK_OP_##name, "row", {a(4, 5), b(5)}}, {LK_OP_##name, "column", {a(4, 1), b(4, 3)}}, \
    {LK_OP_##name, "both ways", {a(2, 1, 3), b(5, 1)}}, {LK_OP_##name, "channel", {a(2, 3, 2, 2), b(3, 1, 1)}}, \
    {LK_OP_##name, "one element", {a(2, 19), b(1)}}, {LK_OP_##name, "large", {a(40, 1001), b(40, 1)}, .big = true}

static const op_case cases[] = {
    UNARY(neg, NORMAL), UNARY(abs, NONZERO), UNARY(sign, NONZERO), UNARY(exp, NORMAL), UNARY(log, POSITIVE), UNARY(sqrt, POSITIVE),
    UNARY(rsqrt, POSITIVE), UNARY(recip, NONZERO), UNARY(sin, NORMAL), UNARY(cos, NORMAL), UNARY(tanh, NORMAL), UNARY(erf, NORMAL),
    UNARY(sigmoid, NORMAL), UNARY(silu, NORMAL), UNARY(gelu, NORMAL), UNARY(gelu_tanh, NORMAL), UNARY(quick_gelu, NORMAL),
    BINARY(silu_dx, NORMAL, NORMAL), BINARY(gelu_dx, NORMAL, NORMAL), BINARY(gelu_tanh_dx, NORMAL, NORMAL), BINARY(quick_gelu_dx, NORMAL, NORMAL),
    BINARY(add, NORMAL, NORMAL), BINARY(sub, NORMAL, NORMAL), BINARY(mul, NORMAL, NORMAL), BINARY(div, NORMAL, NONZERO),
    BINARY(min, EVEN, ODD), BINARY(max, EVEN, ODD), BINARY(less, EVEN, ODD), BINARY(pow, POSITIVE, NORMAL),
    {LK_OP_min, "ties", {TIED(5, 7), TIED(7)}}, {LK_OP_max, "ties", {TIED(5, 7), TIED(7)}}, {LK_OP_less, "ties", {TIED(5, 7), TIED(7)}},
    {LK_OP_sign, "ties", {TIED(31)}}, {LK_OP_abs, "ties", {TIED(31)}},
    {LK_OP_where, "same", {SWITCH(3, 7), NORMAL(3, 7), NORMAL(3, 7)}}, {LK_OP_where, "row", {SWITCH(5), NORMAL(4, 5), NORMAL(1)}},
    {LK_OP_where, "column", {SWITCH(4, 1), NORMAL(3), NORMAL(4, 3)}}, {LK_OP_where, "large", {SWITCH(1, 999), NORMAL(41, 1), NORMAL(41, 999)}, .big = true},
};
const op_table op_elementwise = {"elementwise", cases, sizeof cases / sizeof *cases};
