/* Cases of embeddings, tables and random numbers. Leaves and effects have tests of their own (tests/ops/test_effects.c). */
#include "tests/lib/opcheck.h"

#define EMBED(d, flip, shift, s, period) {.tembed = {d, flip, shift, s, period}}

static const op_case cases[] = {
    {LK_OP_timestep_embed, "sin, cos", {TIMES(5)}, EMBED(8, false, 1, 1, 10000)}, {LK_OP_timestep_embed, "cos, sin", {TIMES(3)}, EMBED(32, true, 0, 1, 10000)},
    {LK_OP_timestep_embed, "odd, scaled", {TIMES(3)}, EMBED(7, true, 0, 2.5, 1000)}, {LK_OP_timestep_embed, "large", {TIMES(70)}, EMBED(320, true, 0, 1, 10000), .big = true},
    {LK_OP_rope_table, "one axis", {TIMES(5, 1)}, {.rtable = {1, {8}, 10000}}}, {LK_OP_rope_table, "three axes", {TIMES(7, 3)}, {.rtable = {3, {4, 6, 2}, 10000}}},
    {LK_OP_randn, "pictures", {WHOLE(7), WHOLE(3), IDS(100, 3)}, {.random = {"noise", DIMS(3, 2, 5, 3)}}}, {LK_OP_randn, "large", {WHOLE(1), WHOLE(70000), IDS(100, 2)}, {.random = {"noise", DIMS(2, 20011)}}, .big = true},
    {LK_OP_randu, "vector", {WHOLE(7), WHOLE(3), IDS(100, 5)}, {.random = {"augment", DIMS(5)}}}, {LK_OP_randu, "large", {WHOLE(1), WHOLE(5), IDS(100, 2)}, {.random = {"augment", DIMS(2, 20011)}}, .big = true},
};
const op_table op_service = {"service", cases, sizeof cases / sizeof *cases};
