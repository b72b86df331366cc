/* Every case of tests/lib/cases_picture.c; `test_picture NAME` runs the operations whose names contain NAME. */
#include "tests/lib/lk_test.h"
#include "tests/lib/opcheck.h"
#define OP_TEST(name) TEST(check_##name) { op_check_row(&op_picture, LK_OP_##name); }
OP_TEST(max_pool2d) OP_TEST(max_pool2d_dx) OP_TEST(max_pool2d_at) OP_TEST(avg_pool2d) OP_TEST(avg_pool2d_dx) OP_TEST(upsample_nearest)
OP_TEST(upsample_nearest_dx) OP_TEST(affine_warp) OP_TEST(affine_warp_dx)
TEST(every_case_ran) { op_check_all_ran(&op_picture); }
