/* Every case of tests/lib/cases_service.c; `test_service NAME` runs the operations whose names contain NAME. */
#include "tests/lib/lk_test.h"
#include "tests/lib/opcheck.h"
#define OP_TEST(name) TEST(check_##name) { op_check_row(&op_service, LK_OP_##name); }
OP_TEST(timestep_embed) OP_TEST(rope_table) OP_TEST(randn) OP_TEST(randu)
TEST(every_case_ran) { op_check_all_ran(&op_service); }
