/* The layers of FID's Inception-v3 as tables of branches. */
#include "models/inception.h"
#include <stdlib.h>
#include <string.h>

/* ---- modules ----------------------------------------------------------------------------------------------------------------- */
/* A branch is a chain of convolutions. `from` >= 0: it begins at the end of that earlier branch; -1: at the block's input;
 * -2, -3: at the input's average or max pool. A branch that others continue is not part of the output. */
enum { INPUT = -1, AVERAGE = -2, MAXIMUM = -3 };
typedef struct { const char *name; int out, kh, kw, stride; bool same; } step;     /* same: padded to keep the size */
typedef struct { int from; bool hidden; step steps[5]; } branch;
typedef struct { const char *name; branch branches[9]; bool halve; } block;       /* halve: ends with the input's 3x3 stride-2 max pool */

#define S(name, out, kh, kw) { name, out, kh, kw, 1, true }
#define DOWN(name, out) { name, out, 3, 3, 2, false }
#define ONE(...) { INPUT, false, { __VA_ARGS__ } }
#define A_BLOCK(name, pool) { name, { ONE(S("branch1x1", 64, 1, 1)), ONE(S("branch5x5_1", 48, 1, 1), S("branch5x5_2", 64, 5, 5)), \
    ONE(S("branch3x3dbl_1", 64, 1, 1), S("branch3x3dbl_2", 96, 3, 3), S("branch3x3dbl_3", 96, 3, 3)), { AVERAGE, false, { S("branch_pool", pool, 1, 1) } } }, false }
#define C_BLOCK(name, c) { name, { ONE(S("branch1x1", 192, 1, 1)), ONE(S("branch7x7_1", c, 1, 1), S("branch7x7_2", c, 1, 7), S("branch7x7_3", 192, 7, 1)), \
    ONE(S("branch7x7dbl_1", c, 1, 1), S("branch7x7dbl_2", c, 7, 1), S("branch7x7dbl_3", c, 1, 7), S("branch7x7dbl_4", c, 7, 1), S("branch7x7dbl_5", 192, 1, 7)), \
    { AVERAGE, false, { S("branch_pool", 192, 1, 1) } } }, false }
#define E_BLOCK(name, pool) { name, { ONE(S("branch1x1", 320, 1, 1)), { INPUT, true, { S("branch3x3_1", 384, 1, 1) } }, \
    { 1, false, { S("branch3x3_2a", 384, 1, 3) } }, { 1, false, { S("branch3x3_2b", 384, 3, 1) } }, \
    { INPUT, true, { S("branch3x3dbl_1", 448, 1, 1), S("branch3x3dbl_2", 384, 3, 3) } }, { 4, false, { S("branch3x3dbl_3a", 384, 1, 3) } }, \
    { 4, false, { S("branch3x3dbl_3b", 384, 3, 1) } }, { pool, false, { S("branch_pool", 192, 1, 1) } } }, false }
static const block blocks[] = {
    A_BLOCK("Mixed_5b", 32), A_BLOCK("Mixed_5c", 64), A_BLOCK("Mixed_5d", 64),
    { "Mixed_6a", { ONE(DOWN("branch3x3", 384)), ONE(S("branch3x3dbl_1", 64, 1, 1), S("branch3x3dbl_2", 96, 3, 3), DOWN("branch3x3dbl_3", 96)) }, true },
    C_BLOCK("Mixed_6b", 128), C_BLOCK("Mixed_6c", 160), C_BLOCK("Mixed_6d", 160), C_BLOCK("Mixed_6e", 192),
    { "Mixed_7a", { ONE(S("branch3x3_1", 192, 1, 1), DOWN("branch3x3_2", 320)),
                    ONE(S("branch7x7x3_1", 192, 1, 1), S("branch7x7x3_2", 192, 1, 7), S("branch7x7x3_3", 192, 7, 1), DOWN("branch7x7x3_4", 192)) }, true },
    E_BLOCK("Mixed_7b", AVERAGE), E_BLOCK("Mixed_7c", MAXIMUM),
};
static const step stem[] = { { "Conv2d_1a_3x3", 32, 3, 3, 2, false }, { "Conv2d_2a_3x3", 32, 3, 3, 1, false }, { "Conv2d_2b_3x3", 64, 3, 3, 1, true }, { "MaxPool_1" },
                             { "Conv2d_3b_1x1", 80, 1, 1, 1, false }, { "Conv2d_4a_3x3", 192, 3, 3, 1, false }, { "MaxPool_2" } };
enum { STEM = sizeof stem / sizeof *stem, BLOCKS = sizeof blocks / sizeof *blocks };
_Static_assert(STEM + BLOCKS + 1 == LK_INCEPTION_STAGES, "stages");
const char *lk_inception_stage_name(int i) { return i < STEM ? stem[i].name : i < STEM + BLOCKS ? blocks[i - STEM].name : "AvgPool"; }

/* Convolution, batch norm by its running statistics, ReLU. */
static lk_val unit(const lk_net *net, const step *s, lk_val x) {
    lk_graph *g = net->g;
    lk_net sub = lk_net_sub(net, "%s", s->name);
    lk_conv a = { .stride = { s->stride, s->stride } };
    if (s->same) { a.pad[0] = a.pad[2] = s->kh / 2; a.pad[1] = a.pad[3] = s->kw / 2; }
    lk_shape per = LK_SHAPE(s->out), across = LK_SHAPE(1, s->out, 1, 1);
    x = lk_nn_conv2d_attr(&sub, "conv", x, lk_dim(g, x, 1), s->out, s->kh, s->kw, false, a);
    lk_val factor = lk_div(g, lk_nn_param(&sub, "bn.weight", per), lk_sqrt(g, lk_shift(g, lk_nn_param(&sub, "bn.running_var", per), 1e-3)));
    x = lk_mul(g, lk_sub(g, x, lk_reshape(g, lk_nn_param(&sub, "bn.running_mean", per), across)), lk_reshape(g, factor, across));
    return lk_relu(g, lk_add(g, x, lk_reshape(g, lk_nn_param(&sub, "bn.bias", per), across)));
}
static lk_val halved(lk_graph *g, lk_val x) { return lk_max_pool2d(g, x, (lk_pool2d){ .kernel = { 3, 3 }, .stride = { 2, 2 } }); }
static lk_val start_of(lk_graph *g, int from, lk_val x, const lk_val *ends) {
    lk_pool2d p = { .kernel = { 3, 3 }, .stride = { 1, 1 }, .pad = { 1, 1, 1, 1 } };
    return from >= 0 ? ends[from] : from == AVERAGE ? lk_avg_pool2d(g, x, p) : from == MAXIMUM ? lk_max_pool2d(g, x, p) : x;
}
static lk_val mixed(const lk_net *net, const block *b, lk_val x) {
    lk_net sub = lk_net_sub(net, "%s", b->name);
    lk_val ends[9], parts[9];
    int n = 0;
    for (int i = 0; i < 9 && b->branches[i].steps[0].name; i++) {
        const branch *br = &b->branches[i];
        ends[i] = start_of(net->g, br->from, x, ends);
        for (int k = 0; k < 5 && br->steps[k].name; k++) ends[i] = unit(&sub, &br->steps[k], ends[i]);
        if (!br->hidden) parts[n++] = ends[i];
    }
    if (b->halve) parts[n++] = halved(net->g, x);
    return lk_concat(net->g, parts, n, 1);
}
static lk_val over_space(lk_graph *g, lk_val x) { return lk_mean(g, x, (lk_axes){ .n = 2, .axis = { 2, 3 } }); }
lk_inception_out lk_inception(const lk_net *net, lk_val x) {
    lk_inception_out o;
    lk_graph *g = net->g;
    for (int i = 0; i < STEM; i++) o.stage[i] = x = stem[i].out ? unit(net, &stem[i], x) : halved(g, x);
    for (int i = 0; i < BLOCKS; i++) o.stage[STEM + i] = x = mixed(net, &blocks[i], x);
    o.features64 = over_space(g, o.stage[3]);
    o.features192 = over_space(g, o.stage[6]);
    o.features768 = over_space(g, o.stage[STEM + 7]);
    o.features2048 = over_space(g, x);
    o.stage[LK_INCEPTION_STAGES - 1] = lk_reshape(g, o.features2048, LK_SHAPE(lk_dim(g, x, 0), lk_dim(g, x, 1), 1, 1));
    lk_val bias = lk_nn_param(net, "fc.bias", LK_SHAPE(1008));
    o.logits_unbiased = lk_linear(g, o.features2048, lk_nn_param(net, "fc.weight", LK_SHAPE(1008, 2048)), LK_NONE);
    o.logits = lk_add(g, o.logits_unbiased, bias);
    return o;
}
