/* Every row of ops.def has a case, or a test of its own where a case does not fit; and the checker itself can refuse. */
#include "tests/lib/lk_test.h"
#include "tests/lib/opcheck.h"
#include "graph/internal.h"      /* lk_shape_rule_of */

static const op_table *const tables[] = {&op_elementwise, &op_movement, &op_contract, &op_norm, &op_picture, &op_service};
static const lk_op elsewhere[] = {LK_OP_input, LK_OP_param, LK_OP_constant, LK_OP_assign, LK_OP_ema, LK_OP_adamw};   /* tests/ops/test_effects.c */

static int cases_of(lk_op op) {
    int n = 0;
    for (size_t i = 0; i < sizeof elsewhere / sizeof *elsewhere; i++) n += elsewhere[i] == op;
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++) for (int i = 0; i < tables[t]->n; i++) n += tables[t]->cases[i].op == op;
    return n;
}

TEST(every_row_of_ops_def_has_a_case) {
    for (lk_op op = 0; op < LK_OP_COUNT; op++) CHECK_MSG(cases_of(op) > 0, "operation %s has no case in tests/lib/cases_*.c", lk_op_name(op));
}

TEST(every_row_has_a_shape_rule) {
    for (lk_op op = 0; op < LK_OP_COUNT; op++) CHECK_MSG(lk_shape_rule_of(op), "operation %s has no row in the table of graph/shape_rules.c", lk_op_name(op));
}

TEST(every_operation_has_kernels) {
    op_variant v[OP_MAX_VARIANTS];
    int n = op_variants(v);
    for (lk_op op = 0; op < LK_OP_COUNT; op++) {
        if (lk_op_traits(op) & (T_LEAF | T_VIEW)) continue;
        CHECK_MSG(lk_backend_ref()->kernel[op], "ref has no kernel for %s", lk_op_name(op));
        for (int i = 0; i < n; i++) {
            const lk_backend *b;
            CHECK_OK(lk_backend_cpu(v[i].isa, &b));
            CHECK_MSG(b->kernel[op], "cpu (%s) has no kernel for %s", lk_isa_name(b), lk_op_name(op));
        }
    }
}

TEST(the_checker_refuses_errors_and_nan) {
    double want[] = {1, -2, 0.5, 0}, got[] = {1, -2, 0.5, 0}, error;
    CHECK(op_close(got, want, 4, 1e-6, &error));
    got[1] = -2.02; CHECK(!op_close(got, want, 4, 1e-5, &error));
    got[1] = -2; got[3] = 0.01; CHECK(!op_close(got, want, 4, 1e-5, &error));
    got[3] = NAN; CHECK(!op_close(got, want, 4, 1e-5, &error)); CHECK(!op_close(got, want, 4, 1e30, &error));
    CHECK_MSG(!op_close(want, want, 4, 0.02, &error), "a bound that lets 1 %% through must be refused");
}
