/* backend/cuda over the emulated runtime: every case of tests/lib/cases_*.c has the bits of backend/cpu, value and
 * gradients, with the threads of each phase forward, reversed and shuffled. In make check not a run on a device. */
#include "tests/backend/cuda/where.h"
#include "tests/lib/lk_test.h"
#include "tests/lib/opcheck.h"

static void check_table(const op_table *t, bool big) {
    const lk_backend *cuda;
    CHECK_OK(lk_backend_cuda(LK_CUDA_EXACT, &cuda));
    for (int i = 0; i < t->n; i++) {
        if (t->cases[i].big != big) continue;
        for (int o = 0; o < ORDERS; o++) {
            char what[64]; snprintf(what, sizeof what, "cuda " WHERE ", %s", order_name(o));
            if (big && o != SHOWS_MOST) continue;              /* big ones: the order that shows most */
            take_order(o);
            if (!op_same_bits(&t->cases[i], cuda, what)) break;
        }
    }
}
TEST(elementwise) { check_table(&op_elementwise, false); }
TEST(movement)    { check_table(&op_movement, false); }
TEST(contract)    { check_table(&op_contract, false); }
TEST(norm)        { check_table(&op_norm, false); }
TEST(picture)     { check_table(&op_picture, false); }
TEST(service)     { check_table(&op_service, false); }
TEST(large_elementwise) { check_table(&op_elementwise, true); }
TEST(large_movement)    { check_table(&op_movement, true); }
TEST(large_contract)    { check_table(&op_contract, true); }
TEST(large_norm)        { check_table(&op_norm, true); }
TEST(large_picture)     { check_table(&op_picture, true); }
TEST(large_service)     { check_table(&op_service, true); }

TEST(nothing_is_left_on_the_device) {
    lk_cuda_close();
    char *left = leaks();
    CHECK_MSG(!*left, "%s", left);
    free(left);
}
/* Every operation that computes is lowered, and every kernel of the list has run by now. */
TEST(no_operation_and_no_kernel_is_left_out) {
    for (int op = 0; op < LK_OP_COUNT; op++)
        CHECK_MSG(lk_cuda_lower[op] || (lk_op_traits((lk_op)op) & (T_LEAF | T_VIEW)), "%s has no CUDA kernel", lk_op_name((lk_op)op));
    static const char *const names[] = {
#define KERNEL(name, args, threads) #name,
        LK_CUDA_KERNELS
#undef KERNEL
    };
    for (int k = 0; k < LK_CUDA_COUNT; k++) {
        bool elsewhere = k == LK_CUDA_ema || k == LK_CUDA_adamw || k == LK_CUDA_pack || k == LK_CUDA_finish;    /* test_step.c, test_fast.c */
        CHECK_MSG(elsewhere || !EMULATED || blocks_of((lk_cuda_kernel)k) > 0, "kernel %s was never run", names[k]);
    }
}
