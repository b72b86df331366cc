/* Cases of movement and reductions. Sums longer than 32, 4096 and 8192 cross the lanes, chunks and pairs of numerics.md rule 3. */
#include "tests/lib/opcheck.h"

#define AXES(count, kept, ...) {.axes = {.n = (count), .axis = {__VA_ARGS__}, .keep = (kept)}}
#define WINDOW(...) {.window = {__VA_ARGS__}}

static const op_case cases[] = {
    {LK_OP_reshape, "2 to 3 axes", {NORMAL(4, 6)}, {.shape = DIMS(2, 4, 3)}}, {LK_OP_reshape, "flat", {NORMAL(3, 5)}, {.shape = DIMS(15)}},
    {LK_OP_detach, "vector", {NORMAL(7)}},
    {LK_OP_view, "front", {NORMAL(17)}, {.view = {0, DIMS(2, 3)}}}, {LK_OP_view, "inside", {NORMAL(23)}, {.view = {5, DIMS(3, 1, 4)}}},
    {LK_OP_permute, "transpose", {NORMAL(3, 5)}, {.perm = {1, 0}}}, {LK_OP_permute, "NCHW to NHWC", {NORMAL(2, 3, 4, 5)}, {.perm = {0, 2, 3, 1}}},
    {LK_OP_permute, "six axes", {NORMAL(2, 1, 3, 2, 1, 2)}, {.perm = {5, 3, 1, 0, 4, 2}}}, {LK_OP_permute, "outer axes", {NORMAL(3, 2, 7)}, {.perm = {1, 0, 2}}},
    {LK_OP_permute, "large", {NORMAL(61, 3, 257)}, {.perm = {2, 0, 1}}, .big = true},
    {LK_OP_slice, "middle", {NORMAL(3, 7)}, WINDOW({1, 2}, {3, 6})}, {LK_OP_slice, "channels", {NORMAL(2, 5, 3)}, WINDOW({0, 1, 0}, {2, 4, 3})},
    {LK_OP_slice, "large", {NORMAL(50, 1001)}, WINDOW({1, 7}, {49, 1000}), .big = true},
    {LK_OP_pad, "around", {NORMAL(3, 4)}, WINDOW({1, 2}, {0, 3})}, {LK_OP_pad, "one axis", {NORMAL(2, 3, 2)}, WINDOW({0, 0, 1}, {0, 0, 0})},
    {LK_OP_pad, "large", {NORMAL(50, 901)}, WINDOW({2, 3}, {1, 0}), .big = true},
    {LK_OP_concat, "three, last axis", {NORMAL(3, 2), NORMAL(3, 5), NORMAL(3, 1)}, {.axis = 1}},
    {LK_OP_concat, "two, first axis", {NORMAL(2, 3), NORMAL(1, 3)}, {.axis = 0}}, {LK_OP_concat, "middle axis", {NORMAL(2, 3, 4), NORMAL(2, 2, 4)}, {.axis = 1}},
    {LK_OP_concat, "large", {NORMAL(31, 700), NORMAL(31, 801)}, {.axis = 1}, .big = true},
    {LK_OP_broadcast, "row", {NORMAL(5)}, {.shape = DIMS(3, 5)}}, {LK_OP_broadcast, "column and new axis", {NORMAL(3, 1)}, {.shape = DIMS(2, 3, 4)}},
    {LK_OP_broadcast, "scalar", {NORMAL_SCALAR}, {.shape = DIMS(2, 3)}}, {LK_OP_broadcast, "large", {NORMAL(1, 33, 1)}, {.shape = DIMS(7, 33, 201)}, .big = true},
    {LK_OP_gather_rows, "vector of ids", {NORMAL(5, 3), IDS(5, 7)}}, {LK_OP_gather_rows, "matrix of ids", {NORMAL(4, 2), IDS(4, 2, 3)}},
    {LK_OP_gather_rows, "large", {NORMAL(11, 333), IDS(11, 201)}, .big = true},
    {LK_OP_scatter_add_rows, "repeated ids", {NORMAL(7, 3), IDS(4, 7)}, {.count = 4}}, {LK_OP_scatter_add_rows, "matrix of ids", {NORMAL(2, 3, 2), IDS(6, 2, 3)}, {.count = 6}},
    {LK_OP_scatter_add_rows, "large", {NORMAL(203, 301), IDS(5, 203)}, {.count = 5}, .big = true},

    {LK_OP_reduce_sum, "last", {NORMAL(3, 37)}, AXES(1, false, 1)}, {LK_OP_reduce_sum, "first, kept", {NORMAL(5, 3)}, AXES(1, true, 0)},
    {LK_OP_reduce_sum, "middle", {NORMAL(2, 5, 3)}, AXES(1, false, 1)}, {LK_OP_reduce_sum, "outer and inner", {NORMAL(3, 2, 4)}, AXES(2, true, 0, 2)},
    {LK_OP_reduce_sum, "all", {NORMAL(3, 5)}, AXES(2, false, 0, 1)}, {LK_OP_reduce_sum, "channels' statistics", {NORMAL(2, 3, 2, 3)}, AXES(3, false, 0, 2, 3)},
    {LK_OP_reduce_sum, "three chunks", {NORMAL(9001)}, AXES(1, false, 0), .big = true}, {LK_OP_reduce_sum, "five chunks in rows", {NORMAL(3, 17001)}, AXES(1, false, 1), .big = true},
    {LK_OP_reduce_sum, "long columns", {NORMAL(4100, 13)}, AXES(1, false, 0), .big = true}, {LK_OP_reduce_sum, "scattered", {NORMAL(9, 7, 1300)}, AXES(2, false, 0, 2), .big = true},
    {LK_OP_reduce_max, "last", {EVEN(3, 17)}, AXES(1, false, 1)}, {LK_OP_reduce_max, "first, kept", {EVEN(5, 3)}, AXES(1, true, 0)},
    {LK_OP_reduce_max, "all", {EVEN(3, 5)}, AXES(2, false, 0, 1)}, {LK_OP_reduce_max, "outer and inner", {EVEN(3, 2, 4)}, AXES(2, false, 0, 2)},
    {LK_OP_reduce_max, "ties", {TIED(4, 9)}, AXES(1, false, 1)}, {LK_OP_reduce_max, "large", {EVEN(41, 1003)}, AXES(1, false, 1), .big = true},
    {LK_OP_max_mask, "last", {EVEN(3, 17)}, AXES(1, false, 1)}, {LK_OP_max_mask, "outer and inner", {EVEN(3, 2, 4)}, AXES(2, false, 0, 2)},
    {LK_OP_max_mask, "ties", {TIED(4, 9)}, AXES(1, false, 1)}, {LK_OP_max_mask, "ties, first axis", {TIED(9, 4)}, AXES(1, false, 0)},
};
const op_table op_movement = {"movement", cases, sizeof cases / sizeof *cases};
