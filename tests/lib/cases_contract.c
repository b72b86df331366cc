/* Cases of the contractions. A k above 256 crosses the blocks of numerics.md rule 2. */
#include "tests/lib/opcheck.h"

#define MM(a, b) {.matmul = {a, b}}
#define ONTO(a, b, alpha) {.matmul = {a, b, alpha}}
#define CONV(sh, sw, top, left, bottom, right, dh, dw, g, h, w) {.conv = {{sh, sw}, {top, left, bottom, right}, {dh, dw}, g, {h, w}}}
#define SDPA(h, s, c) {.sdpa = {h, s, c}}

static const op_case cases[] = {
    {LK_OP_matmul, "plain", {NORMAL(3, 5), NORMAL(5, 4)}, MM(0, 0)}, {LK_OP_matmul, "a transposed", {NORMAL(5, 3), NORMAL(5, 4)}, MM(1, 0)},
    {LK_OP_matmul, "b transposed, bias", {NORMAL(3, 5), NORMAL(4, 5), NORMAL(4)}, MM(0, 1)}, {LK_OP_matmul, "both", {NORMAL(5, 3), NORMAL(4, 5)}, MM(1, 1)},
    {LK_OP_matmul, "batches", {NORMAL(2, 3, 5), NORMAL(2, 5, 2)}, MM(0, 0)}, {LK_OP_matmul, "b shared, bias", {NORMAL(2, 3, 5), NORMAL(5, 4), NORMAL(4)}, MM(0, 0)},
    {LK_OP_matmul, "a broadcast", {NORMAL(1, 3, 4), NORMAL(2, 2, 4, 3)}, MM(0, 0)}, {LK_OP_matmul, "b broadcast, transposed", {NORMAL(2, 3, 4, 2), NORMAL(3, 5, 4)}, MM(1, 1)},
    {LK_OP_matmul, "one row", {NORMAL(1, 7), NORMAL(7, 9)}, MM(0, 0)}, {LK_OP_matmul, "one column", {NORMAL(6, 7), NORMAL(7, 1)}, MM(0, 0)}, {LK_OP_matmul, "outer product", {NORMAL(6, 1), NORMAL(1, 5)}, MM(0, 0)},
    {LK_OP_matmul, "three blocks of k", {NORMAL(37, 601), NORMAL(601, 67), NORMAL(67)}, MM(0, 0), .big = true},
    {LK_OP_matmul, "three blocks of k, both", {NORMAL(513, 70), NORMAL(131, 513)}, MM(1, 1), .big = true},
    {LK_OP_matmul, "linear", {NORMAL(2, 129, 300), NORMAL(97, 300), NORMAL(97)}, MM(0, 1), .big = true},

    {LK_OP_matmul_add, "plain", {NORMAL(3, 4), NORMAL(3, 5), NORMAL(5, 4)}, ONTO(0, 0, 1)}, {LK_OP_matmul_add, "a transposed", {NORMAL(3, 4), NORMAL(5, 3), NORMAL(5, 4)}, ONTO(1, 0, 0.7)},
    {LK_OP_matmul_add, "both", {NORMAL(3, 4), NORMAL(5, 3), NORMAL(4, 5)}, ONTO(1, 1, -2.25)}, {LK_OP_matmul_add, "batches", {NORMAL(2, 3, 2), NORMAL(2, 3, 5), NORMAL(2, 5, 2)}, ONTO(0, 0, 0.3)},
    {LK_OP_matmul_add, "LoRA's up projection", {NORMAL(2, 3, 6), NORMAL(2, 3, 4), NORMAL(6, 4)}, ONTO(0, 1, 2)},
    {LK_OP_matmul_add, "a broadcast", {NORMAL(2, 2, 3, 3), NORMAL(1, 3, 4), NORMAL(2, 2, 4, 3)}, ONTO(0, 0, 1)},
    {LK_OP_matmul_add, "rank 8", {NORMAL(2, 129, 97), NORMAL(2, 129, 8), NORMAL(97, 8)}, ONTO(0, 1, 0.6), .big = true},
    {LK_OP_matmul_add, "a whole block of k", {NORMAL(67, 530), NORMAL(67, 256), NORMAL(256, 530)}, ONTO(0, 0, 1), .big = true},
    {LK_OP_matmul_add, "three blocks of k", {NORMAL(300, 270), NORMAL(300, 601), NORMAL(601, 270)}, ONTO(0, 0, 0.6), .big = true},
    {LK_OP_matmul_add, "few columns", {NORMAL(2, 601, 5), NORMAL(2, 601, 70), NORMAL(2, 70, 5)}, ONTO(0, 0, 0.6), .big = true},

    {LK_OP_conv2d, "3x3 pad 1", {NORMAL(2, 3, 5, 4), NORMAL(4, 3, 3, 3), NORMAL(4)}, CONV(1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0)},
    {LK_OP_conv2d, "1x1", {NORMAL(2, 3, 3, 2), NORMAL(5, 3, 1, 1)}, CONV(1, 1, 0, 0, 0, 0, 1, 1, 1, 0, 0)},
    {LK_OP_conv2d, "stride 2, one-sided pad", {NORMAL(1, 2, 6, 5), NORMAL(3, 2, 3, 3), NORMAL(3)}, CONV(2, 2, 0, 0, 1, 1, 1, 1, 1, 0, 0)},
    {LK_OP_conv2d, "groups, dilation, mixed strides", {NORMAL(2, 4, 7, 6), NORMAL(6, 2, 2, 3)}, CONV(1, 2, 2, 1, 0, 2, 2, 1, 2, 0, 0)},
    {LK_OP_conv2d, "depthwise", {NORMAL(2, 3, 5, 5), NORMAL(3, 1, 3, 3), NORMAL(3)}, CONV(2, 1, 1, 1, 1, 1, 1, 1, 3, 0, 0)},
    {LK_OP_conv2d, "rows left unread", {NORMAL(1, 2, 6, 7), NORMAL(2, 2, 2, 2)}, CONV(3, 3, 0, 0, 0, 0, 1, 1, 1, 0, 0)},
    {LK_OP_conv2d, "two blocks of k", {NORMAL(2, 33, 9, 7), NORMAL(37, 33, 3, 3), NORMAL(37)}, CONV(1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0), .big = true},
    {LK_OP_conv2d, "1x1, two blocks of k", {NORMAL(1, 300, 7, 9), NORMAL(30, 300, 1, 1)}, CONV(1, 1, 0, 0, 0, 0, 1, 1, 1, 0, 0), .big = true},
    {LK_OP_conv2d, "large, stride 2", {NORMAL(2, 20, 15, 12), NORMAL(30, 20, 3, 3)}, CONV(2, 2, 1, 1, 1, 1, 1, 1, 1, 0, 0), .big = true},
    {LK_OP_conv2d_dx, "3x3 pad 1", {NORMAL(2, 4, 5, 4), NORMAL(4, 3, 3, 3)}, CONV(1, 1, 1, 1, 1, 1, 1, 1, 1, 5, 4)},
    {LK_OP_conv2d_dx, "stride 2, one-sided pad", {NORMAL(1, 3, 3, 2), NORMAL(3, 2, 3, 3)}, CONV(2, 2, 0, 0, 1, 1, 1, 1, 1, 6, 5)},
    {LK_OP_conv2d_dx, "groups, dilation, mixed strides", {NORMAL(2, 6, 7, 4), NORMAL(6, 2, 2, 3)}, CONV(1, 2, 2, 1, 0, 2, 2, 1, 2, 7, 6)},
    {LK_OP_conv2d_dx, "depthwise", {NORMAL(1, 3, 3, 5), NORMAL(3, 1, 3, 3)}, CONV(2, 1, 1, 1, 1, 1, 1, 1, 3, 5, 5)},
    {LK_OP_conv2d_dx, "rows nothing reaches", {NORMAL(1, 2, 2, 2), NORMAL(2, 2, 2, 2)}, CONV(3, 3, 0, 0, 0, 0, 1, 1, 1, 6, 7)},
    {LK_OP_conv2d_dx, "two blocks of k", {NORMAL(2, 37, 9, 7), NORMAL(37, 33, 3, 3)}, CONV(1, 1, 1, 1, 1, 1, 1, 1, 1, 9, 7), .big = true},
    {LK_OP_conv2d_dx, "large, stride 2", {NORMAL(2, 30, 8, 6), NORMAL(30, 20, 3, 3)}, CONV(2, 2, 1, 1, 1, 1, 1, 1, 1, 15, 12), .big = true},
    {LK_OP_conv2d_dw, "3x3 pad 1", {NORMAL(2, 3, 5, 4), NORMAL(2, 4, 5, 4)}, CONV(1, 1, 1, 1, 1, 1, 1, 1, 1, 3, 3)},
    {LK_OP_conv2d_dw, "stride 2, one-sided pad", {NORMAL(1, 2, 6, 5), NORMAL(1, 3, 3, 2)}, CONV(2, 2, 0, 0, 1, 1, 1, 1, 1, 3, 3)},
    {LK_OP_conv2d_dw, "groups, dilation, mixed strides", {NORMAL(2, 4, 7, 6), NORMAL(2, 6, 7, 4)}, CONV(1, 2, 2, 1, 0, 2, 2, 1, 2, 2, 3)},
    {LK_OP_conv2d_dw, "depthwise", {NORMAL(1, 3, 5, 5), NORMAL(1, 3, 3, 5)}, CONV(2, 1, 1, 1, 1, 1, 1, 1, 3, 3, 3)},
    {LK_OP_conv2d_dw, "three blocks of k", {NORMAL(2, 9, 19, 17), NORMAL(2, 7, 19, 17)}, CONV(1, 1, 1, 1, 1, 1, 1, 1, 1, 3, 3), .big = true},
    {LK_OP_conv2d_dw, "large, stride 2", {NORMAL(3, 20, 21, 18), NORMAL(3, 13, 11, 9)}, CONV(2, 2, 1, 1, 1, 1, 1, 1, 1, 3, 3), .big = true},

    {LK_OP_sdpa, "two heads", {NORMAL(2, 3, 4), NORMAL(2, 5, 4), NORMAL(2, 5, 4)}, SDPA(2, 0.7071067811865476, false)},
    {LK_OP_sdpa, "causal", {NORMAL(1, 4, 3), NORMAL(1, 4, 3), NORMAL(1, 4, 3)}, SDPA(1, 0.5, true)},
    {LK_OP_sdpa, "causal, more keys", {NORMAL(2, 3, 6), NORMAL(2, 5, 6), NORMAL(2, 5, 6)}, SDPA(3, 0.7, true)},
    {LK_OP_sdpa, "bias", {NORMAL(2, 3, 4), NORMAL(2, 5, 4), NORMAL(2, 5, 4), NORMAL(2, 2, 3, 5)}, SDPA(2, 0.7, false)},
    {LK_OP_sdpa, "bias broadcast", {NORMAL(2, 3, 4), NORMAL(2, 4, 4), NORMAL(2, 4, 4), NORMAL(1, 2, 1, 4)}, SDPA(2, 0.7, false)},
    {LK_OP_sdpa, "large", {NORMAL(2, 65, 96), NORMAL(2, 77, 96), NORMAL(2, 77, 96)}, SDPA(4, 0.2, false), .big = true},
    {LK_OP_sdpa, "300 keys", {NORMAL(1, 33, 40), NORMAL(1, 300, 40), NORMAL(1, 300, 40)}, SDPA(1, 0.2, true), .big = true},
    {LK_OP_sdpa_grad, "two heads", {NORMAL(2, 3, 4), NORMAL(2, 5, 4), NORMAL(2, 5, 4), NORMAL(2, 3, 4)}, SDPA(2, 0.7071067811865476, false)},
    {LK_OP_sdpa_grad, "causal", {NORMAL(1, 4, 3), NORMAL(1, 4, 3), NORMAL(1, 4, 3), NORMAL(1, 4, 3)}, SDPA(1, 0.5, true)},
    {LK_OP_sdpa_grad, "bias", {NORMAL(2, 3, 4), NORMAL(2, 5, 4), NORMAL(2, 5, 4), NORMAL(2, 3, 4), FIXED(2, 2, 3, 5)}, SDPA(2, 0.7, false)},
    {LK_OP_sdpa_grad, "large", {NORMAL(2, 65, 96), NORMAL(2, 77, 96), NORMAL(2, 77, 96), NORMAL(2, 65, 96)}, SDPA(4, 0.2, false), .big = true},
};
const op_table op_contract = {"contract", cases, sizeof cases / sizeof *cases};
