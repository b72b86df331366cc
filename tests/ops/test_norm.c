/* Every case of tests/lib/cases_norm.c; `test_norm NAME` runs the operations whose names contain NAME. */
#include "tests/lib/lk_test.h"
#include "tests/lib/opcheck.h"
#define OP_TEST(name) TEST(check_##name) { op_check_row(&op_norm, LK_OP_##name); }
OP_TEST(softmax) OP_TEST(softmax_dx) OP_TEST(layer_norm) OP_TEST(layer_norm_dx) OP_TEST(rms_norm) OP_TEST(rms_norm_dx) OP_TEST(group_norm)
OP_TEST(group_norm_dx) OP_TEST(rope) OP_TEST(geglu) OP_TEST(geglu_dx)
TEST(every_case_ran) { op_check_all_ran(&op_norm); }
