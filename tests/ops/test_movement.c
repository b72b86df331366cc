/* Every case of tests/lib/cases_movement.c; `test_movement NAME` runs the operations whose names contain NAME. */
#include "tests/lib/lk_test.h"
#include "tests/lib/opcheck.h"
#define OP_TEST(name) TEST(check_##name) { op_check_row(&op_movement, LK_OP_##name); }
OP_TEST(reshape) OP_TEST(detach) OP_TEST(view) OP_TEST(permute) OP_TEST(slice) OP_TEST(pad) OP_TEST(concat) OP_TEST(broadcast) OP_TEST(gather_rows)
OP_TEST(scatter_add_rows) OP_TEST(reduce_sum) OP_TEST(reduce_max) OP_TEST(max_mask)
TEST(every_case_ran) { op_check_all_ran(&op_movement); }
