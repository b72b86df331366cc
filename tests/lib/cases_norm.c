/* Cases of softmax, the norms, rope and geglu. */
#include "tests/lib/opcheck.h"

#define EPS {.norm = {.eps = 1e-5}}
#define GROUPS(g, s) {.norm = {.groups = (g), .eps = 1e-5, .silu = (s)}}

static const op_case cases[] = {
    {LK_OP_softmax, "rows", {NORMAL(3, 7)}}, {LK_OP_softmax, "rank 3", {NORMAL(2, 3, 5)}}, {LK_OP_softmax, "one element", {NORMAL(3, 1)}},
    {LK_OP_softmax, "large", {NORMAL(70, 333)}, .big = true}, {LK_OP_softmax, "two chunks", {NORMAL(3, 4700)}, .big = true},
    {LK_OP_softmax_dx, "rows", {POSITIVE(3, 7), NORMAL(3, 7)}}, {LK_OP_softmax_dx, "large", {POSITIVE(70, 333), NORMAL(70, 333)}, .big = true},
    {LK_OP_layer_norm, "affine", {NORMAL(3, 7), NORMAL(7), NORMAL(7)}, EPS}, {LK_OP_layer_norm, "bare", {NORMAL(2, 2, 5)}, EPS},
    {LK_OP_layer_norm, "large", {NORMAL(70, 333), NORMAL(333), NORMAL(333)}, EPS, .big = true},
    {LK_OP_layer_norm_dx, "affine", {NORMAL(3, 7), NORMAL(3, 7), NORMAL(7)}, EPS}, {LK_OP_layer_norm_dx, "bare", {NORMAL(2, 2, 5), NORMAL(2, 2, 5)}, EPS},
    {LK_OP_layer_norm_dx, "large", {NORMAL(70, 333), NORMAL(70, 333), NORMAL(333)}, EPS, .big = true},
    {LK_OP_rms_norm, "scaled", {NORMAL(3, 7), NORMAL(7)}, EPS}, {LK_OP_rms_norm, "bare", {NORMAL(2, 2, 5)}, EPS},
    {LK_OP_rms_norm, "large", {NORMAL(70, 333), NORMAL(333)}, EPS, .big = true},
    {LK_OP_rms_norm_dx, "scaled", {NORMAL(3, 7), NORMAL(3, 7), NORMAL(7)}, EPS}, {LK_OP_rms_norm_dx, "bare", {NORMAL(2, 2, 5), NORMAL(2, 2, 5)}, EPS},
    {LK_OP_rms_norm_dx, "large", {NORMAL(70, 333), NORMAL(70, 333), NORMAL(333)}, EPS, .big = true},
    {LK_OP_group_norm, "affine", {NORMAL(2, 6, 3, 2), NORMAL(6), NORMAL(6)}, GROUPS(3, false)}, {LK_OP_group_norm, "silu", {NORMAL(2, 4, 2, 3), NORMAL(4), NORMAL(4)}, GROUPS(2, true)},
    {LK_OP_group_norm, "bare", {NORMAL(2, 4, 5)}, GROUPS(2, false)}, {LK_OP_group_norm, "bare, silu, one group", {NORMAL(2, 3, 2, 2)}, GROUPS(1, true)},
    {LK_OP_group_norm, "large", {NORMAL(2, 12, 33, 31), NORMAL(12), NORMAL(12)}, GROUPS(4, true), .big = true},
    {LK_OP_group_norm, "two chunks", {NORMAL(1, 8, 40, 37), NORMAL(8), NORMAL(8)}, GROUPS(2, false), .big = true},
    {LK_OP_group_norm_dx, "affine", {NORMAL(2, 6, 3, 2), NORMAL(2, 6, 3, 2), NORMAL(6), NORMAL(6)}, GROUPS(3, false)},
    {LK_OP_group_norm_dx, "silu", {NORMAL(2, 4, 2, 3), NORMAL(2, 4, 2, 3), NORMAL(4), NORMAL(4)}, GROUPS(2, true)},
    {LK_OP_group_norm_dx, "bare", {NORMAL(2, 4, 5), NORMAL(2, 4, 5)}, GROUPS(2, false)}, {LK_OP_group_norm_dx, "bare, silu", {NORMAL(2, 2, 5), NORMAL(2, 2, 5)}, GROUPS(1, true)},
    {LK_OP_group_norm_dx, "large", {NORMAL(2, 12, 33, 31), NORMAL(2, 12, 33, 31), NORMAL(12), NORMAL(12)}, GROUPS(4, true), .big = true},
    {LK_OP_rope, "one head", {NORMAL(2, 3, 4), FIXED(3, 2), FIXED(3, 2)}, {.sdpa = {.heads = 1}}},
    {LK_OP_rope, "three heads", {NORMAL(2, 4, 18), FIXED(4, 3), FIXED(4, 3)}, {.sdpa = {.heads = 3}}},
    {LK_OP_rope, "large", {NORMAL(3, 65, 160), FIXED(65, 20), FIXED(65, 20)}, {.sdpa = {.heads = 4}}, .big = true},
    {LK_OP_geglu, "rows", {NORMAL(3, 10)}}, {LK_OP_geglu, "rank 3", {NORMAL(2, 3, 6)}}, {LK_OP_geglu, "large", {NORMAL(60, 602)}, .big = true},
    {LK_OP_geglu_dx, "rows", {NORMAL(3, 10), NORMAL(3, 5)}}, {LK_OP_geglu_dx, "rank 3", {NORMAL(2, 3, 6), NORMAL(2, 3, 3)}},
    {LK_OP_geglu_dx, "large", {NORMAL(60, 602), NORMAL(60, 301)}, .big = true},
};
const op_table op_norm = {"norm", cases, sizeof cases / sizeof *cases};
