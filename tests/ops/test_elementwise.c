/* Every case of tests/lib/cases_elementwise.c; `test_elementwise NAME` runs the operations whose names contain NAME. */
#include "tests/lib/lk_test.h"
#include "tests/lib/opcheck.h"
#define OP_TEST(name) TEST(check_##name) { op_check_row(&op_elementwise, LK_OP_##name); }
OP_TEST(neg) OP_TEST(abs) OP_TEST(sign) OP_TEST(exp) OP_TEST(log) OP_TEST(sqrt) OP_TEST(rsqrt) OP_TEST(recip) OP_TEST(sin) OP_TEST(cos) OP_TEST(tanh)
OP_TEST(erf) OP_TEST(sigmoid) OP_TEST(silu) OP_TEST(gelu) OP_TEST(gelu_tanh) OP_TEST(quick_gelu) OP_TEST(silu_dx) OP_TEST(gelu_dx)
OP_TEST(gelu_tanh_dx) OP_TEST(quick_gelu_dx) OP_TEST(add) OP_TEST(sub) OP_TEST(mul) OP_TEST(div) OP_TEST(min) OP_TEST(max) OP_TEST(less) OP_TEST(pow)
OP_TEST(where)
TEST(every_case_ran) { op_check_all_ran(&op_elementwise); }
