/* The CUDA kernels, emulated on the host: every case of tests/lib/cases_*.c has the bits of backend/cpu, value and
 * gradients, with the threads of each phase forward, reversed and shuffled. Not a run on a device. */
#include "tests/emulation/emulation.h"
#include "tests/lib/lk_test.h"
#include "tests/lib/opcheck.h"

static void check_table(const op_table *t, bool big) {
    for (int i = 0; i < t->n; i++) {
        if (t->cases[i].big != big) continue;
        for (emu_order o = 0; o < EMU_ORDERS; o++) {
            char what[64]; snprintf(what, sizeof what, "emulated cuda, %s", emu_order_name[o]);
            if (big && o != EMU_SHUFFLED) continue;              /* big ones: the order that shows most */
            if (!op_same_bits(&t->cases[i], emu_backend(o), what)) break;
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
        bool effect = k == LK_CUDA_ema || k == LK_CUDA_adamw;    /* tests/backend/cuda/test_step.c */
        CHECK_MSG(effect || emu_blocks((lk_cuda_kernel)k) > 0, "kernel %s was never run", names[k]);
    }
}
