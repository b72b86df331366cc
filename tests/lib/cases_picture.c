/* Cases of pools, upsampling and warps. */
#include "tests/lib/opcheck.h"

#define POOL(kh, kw, sh, sw, top, left, bottom, right, count, h, w) {.pool = {{kh, kw}, {sh, sw}, {top, left, bottom, right}, count, {h, w}}}
#define SIZE(h, w) {.size = {h, w}}
#define TO(h, w, edge) {.warp = {{h, w}, edge}}

static const op_case cases[] = {
    {LK_OP_max_pool2d, "2x2", {EVEN(2, 2, 4, 6)}, POOL(2, 2, 2, 2, 0, 0, 0, 0, false, 0, 0)}, {LK_OP_max_pool2d, "3x3 overlapping, padded", {EVEN(1, 2, 5, 4)}, POOL(3, 3, 2, 1, 1, 1, 1, 1, false, 0, 0)},
    {LK_OP_max_pool2d, "ties", {TIED(2, 1, 6, 5)}, POOL(3, 2, 1, 2, 0, 1, 1, 0, false, 0, 0)}, {LK_OP_max_pool2d, "large", {EVEN(2, 16, 33, 31)}, POOL(3, 3, 2, 2, 0, 0, 1, 1, false, 0, 0), .big = true},
    {LK_OP_max_pool2d_dx, "2x2", {EVEN(2, 2, 4, 6), NORMAL(2, 2, 2, 3)}, POOL(2, 2, 2, 2, 0, 0, 0, 0, false, 4, 6)},
    {LK_OP_max_pool2d_dx, "3x3 overlapping, padded", {EVEN(1, 2, 5, 4), NORMAL(1, 2, 3, 4)}, POOL(3, 3, 2, 1, 1, 1, 1, 1, false, 5, 4)},
    {LK_OP_max_pool2d_dx, "ties", {TIED(2, 1, 6, 5), NORMAL(2, 1, 5, 3)}, POOL(3, 2, 1, 2, 0, 1, 1, 0, false, 6, 5)},
    {LK_OP_max_pool2d_dx, "large", {EVEN(2, 16, 33, 31), NORMAL(2, 16, 16, 15)}, POOL(3, 3, 2, 2, 0, 0, 0, 0, false, 33, 31), .big = true},
    {LK_OP_max_pool2d_at, "2x2", {EVEN(2, 2, 4, 6), NORMAL(2, 2, 4, 6)}, POOL(2, 2, 2, 2, 0, 0, 0, 0, false, 0, 0)},
    {LK_OP_max_pool2d_at, "3x3 overlapping, padded", {EVEN(1, 2, 5, 4), NORMAL(1, 2, 5, 4)}, POOL(3, 3, 2, 1, 1, 1, 1, 1, false, 0, 0)},
    {LK_OP_avg_pool2d, "2x2", {NORMAL(2, 2, 4, 6)}, POOL(2, 2, 2, 2, 0, 0, 0, 0, false, 0, 0)}, {LK_OP_avg_pool2d, "padding left out", {NORMAL(1, 2, 5, 4)}, POOL(3, 3, 2, 1, 1, 1, 1, 1, false, 0, 0)},
    {LK_OP_avg_pool2d, "padding counts", {NORMAL(1, 2, 5, 4)}, POOL(3, 2, 2, 1, 1, 1, 1, 0, true, 0, 0)}, {LK_OP_avg_pool2d, "large", {NORMAL(2, 16, 33, 31)}, POOL(3, 3, 1, 1, 1, 1, 1, 1, false, 0, 0), .big = true},
    {LK_OP_avg_pool2d_dx, "2x2", {NORMAL(2, 2, 2, 3)}, POOL(2, 2, 2, 2, 0, 0, 0, 0, false, 4, 6)}, {LK_OP_avg_pool2d_dx, "padding left out", {NORMAL(1, 2, 3, 4)}, POOL(3, 3, 2, 1, 1, 1, 1, 1, false, 5, 4)},
    {LK_OP_avg_pool2d_dx, "padding counts", {NORMAL(1, 2, 3, 4)}, POOL(3, 2, 2, 1, 1, 1, 1, 0, true, 5, 4)},
    {LK_OP_avg_pool2d_dx, "large", {NORMAL(2, 16, 33, 31)}, POOL(3, 3, 1, 1, 1, 1, 1, 1, false, 33, 31), .big = true},
    {LK_OP_upsample_nearest, "twice", {NORMAL(2, 2, 3, 2)}, SIZE(6, 4)}, {LK_OP_upsample_nearest, "odd ratio", {NORMAL(1, 2, 3, 4)}, SIZE(7, 5)},
    {LK_OP_upsample_nearest, "smaller", {NORMAL(1, 2, 5, 6)}, SIZE(3, 4)}, {LK_OP_upsample_nearest, "large", {NORMAL(2, 8, 25, 23)}, SIZE(50, 46), .big = true},
    {LK_OP_upsample_nearest_dx, "twice", {NORMAL(2, 2, 6, 4)}, SIZE(3, 2)}, {LK_OP_upsample_nearest_dx, "odd ratio", {NORMAL(1, 2, 7, 5)}, SIZE(3, 4)},
    {LK_OP_upsample_nearest_dx, "large", {NORMAL(2, 8, 50, 46)}, SIZE(25, 23), .big = true},
    {LK_OP_affine_warp, "zero outside", {NORMAL(2, 2, 4, 5), WARP(2, 2, 3)}, TO(5, 3, false)}, {LK_OP_affine_warp, "edge outside", {NORMAL(2, 2, 4, 5), WARP(2, 2, 3)}, TO(5, 6, true)},
    {LK_OP_affine_warp, "large", {NORMAL(2, 5, 19, 17), WARP(2, 2, 3)}, TO(40, 43, true), .big = true, .tol = 1e-4 /* positions in binary32: 17 pixels carry 24 bits */},
    {LK_OP_affine_warp_dx, "zero outside", {NORMAL(2, 2, 5, 3), WARP(2, 2, 3)}, TO(4, 5, false)}, {LK_OP_affine_warp_dx, "edge outside", {NORMAL(2, 2, 5, 6), WARP(2, 2, 3)}, TO(4, 5, true)},
    {LK_OP_affine_warp_dx, "large", {NORMAL(2, 5, 40, 43), WARP(2, 2, 3)}, TO(19, 17, false), .big = true, .tol = 1e-4 /* as above */},
};
const op_table op_picture = {"picture", cases, sizeof cases / sizeof *cases};
