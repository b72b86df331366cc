/* Every case of tests/lib/cases_contract.c; `test_contract NAME` runs the operations whose names contain NAME. */
#include "tests/lib/lk_test.h"
#include "tests/lib/opcheck.h"
#define OP_TEST(name) TEST(check_##name) { op_check_row(&op_contract, LK_OP_##name); }
OP_TEST(matmul) OP_TEST(matmul_add) OP_TEST(conv2d) OP_TEST(conv2d_dx) OP_TEST(conv2d_dw) OP_TEST(sdpa) OP_TEST(sdpa_grad)
TEST(every_case_ran) { op_check_all_ran(&op_contract); }
