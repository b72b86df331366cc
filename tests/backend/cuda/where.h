/* Tests that run over the emulation in make check and, compiled with LK_ON_DEVICE, on a GPU in make gpu-check. There is one order of
 * threads on a device, and what only the emulation can count is not asked. */
#ifndef LK_TEST_WHERE_H
#define LK_TEST_WHERE_H
#include "backend/cuda/device.h"
#ifdef LK_ON_DEVICE
enum { ORDERS = 1, SHOWS_MOST = 0, EMULATED = 0 };
#define WHERE "on the device"
static inline const char *order_name(int o) { (void)o; return "as the device has it"; }
static inline void take_order(int o) { (void)o; }
static inline int64_t library_calls(void) { return 0; }
static inline int64_t most_allocated(void) { return 0; }
static inline int64_t graph_launches(void) { return 0; }
static inline int64_t blocks_of(lk_cuda_kernel k) { (void)k; return 0; }
static inline char *leaks(void) { return lk_xstrdup(""); }
#else
#include "tests/emulation/emulation.h"
enum { ORDERS = EMU_ORDERS, SHOWS_MOST = EMU_SHUFFLED, EMULATED = 1 };
#define WHERE "emulated"
static inline const char *order_name(int o) { return emu_order_name[o]; }
static inline void take_order(int o) { emu_now.order = (emu_order)o; }
static inline int64_t library_calls(void) { return emu_count.library_calls; }
static inline int64_t most_allocated(void) { return emu_count.most; }
static inline int64_t graph_launches(void) { return emu_count.graph_launches; }
static inline int64_t blocks_of(lk_cuda_kernel k) { return emu_blocks(k); }
static inline char *leaks(void) { return emu_leaks(); }
#endif
#endif
