/* Layer tables of the three trunks. Row order is torchvision's; a convolution takes two of its indices (its ReLU has one), a pool
 * or a fire module one. SqueezeNet's pools round their output size up: written as padding at the bottom and right. */
#include "models/trunks.h"

typedef enum { END, CONV, POOL, FIRE } kind;
typedef struct { kind kind; int out, kernel, stride, pad; bool tap; } layer;    /* FIRE: out = width of the squeeze, kernel = of each expansion */

#define C3(out) { CONV, out, 3, 1, 1, false }
#define C3_TAP(out) { CONV, out, 3, 1, 1, true }
#define HALVE { POOL, 0, 2, 2, 0, false }
#define POOL3 { POOL, 0, 3, 2, 0, false }
static const layer vgg16[] = {
    C3(64), C3_TAP(64), HALVE, C3(128), C3_TAP(128), HALVE, C3(256), C3(256), C3_TAP(256), HALVE,
    C3(512), C3(512), C3_TAP(512), HALVE, C3(512), C3(512), C3_TAP(512), { 0 } };
static const layer alexnet[] = {
    { CONV, 64, 11, 4, 2, true }, POOL3, { CONV, 192, 5, 1, 2, true }, POOL3, C3_TAP(384), C3_TAP(256), C3_TAP(256), { 0 } };
static const layer squeezenet[] = {
    { CONV, 64, 3, 2, 0, true }, POOL3, { FIRE, 16, 64, 0, 0, false }, { FIRE, 16, 64, 0, 0, true }, POOL3, { FIRE, 32, 128, 0, 0, false },
    { FIRE, 32, 128, 0, 0, true }, POOL3, { FIRE, 48, 192, 0, 0, true }, { FIRE, 48, 192, 0, 0, true }, { FIRE, 64, 256, 0, 0, true },
    { FIRE, 64, 256, 0, 0, true }, { 0 } };
static const struct { const char *name; const layer *layers; int taps; bool ceil; } trunks[LK_TRUNKS] = {
    [LK_VGG16] = { "vgg16", vgg16, 5, false }, [LK_ALEXNET] = { "alexnet", alexnet, 5, false }, [LK_SQUEEZENET1_1] = { "squeezenet1_1", squeezenet, 7, true } };
const char *lk_trunk_name(lk_trunk t) { return trunks[t].name; }
int lk_trunk_taps(lk_trunk t) { return trunks[t].taps; }

static lk_val conv_relu(const lk_net *net, const char *name, lk_val x, int out, int kernel, int stride, int pad) {
    return lk_relu(net->g, lk_nn_conv2d(net, name, x, lk_dim(net->g, x, 1), out, kernel, stride, pad, true));
}
static lk_val fire(const lk_net *net, lk_val x, int squeeze, int expand) {
    lk_val s = conv_relu(net, "squeeze", x, squeeze, 1, 1, 0);
    lk_val both[2] = { conv_relu(net, "expand1x1", s, expand, 1, 1, 0), conv_relu(net, "expand3x3", s, expand, 3, 1, 1) };
    return lk_concat(net->g, both, 2, 1);
}
/* What a window row past the edge needs so that the floor of the padded size is the ceiling of the plain one. */
static int missing(int64_t size, int kernel, int stride) { return size < kernel ? 0 : (int)((stride - (size - kernel) % stride) % stride); }
static lk_val pool(lk_graph *g, lk_val x, const layer *l, bool ceil) {
    lk_pool2d p = { .kernel = { l->kernel, l->kernel }, .stride = { l->stride, l->stride } };
    if (ceil) for (int i = 0; i < 2; i++) p.pad[2 + i] = missing(lk_dim(g, x, 2 + i), l->kernel, l->stride);
    return lk_max_pool2d(g, x, p);
}
void lk_trunk_features(const lk_net *net, lk_trunk t, lk_val x, lk_val tap[LK_TRUNK_TAPS]) {
    lk_net features = lk_net_sub(net, "features");
    int index = 0, taps = 0;
    for (const layer *l = trunks[t].layers; l->kind != END; index += l->kind == CONV ? 2 : 1, l++) {
        if (l->kind == POOL) x = pool(net->g, x, l, trunks[t].ceil);
        if (l->kind == CONV) x = conv_relu(&features, lk_fmt(lk_graph_arena(net->g), "%d", index), x, l->out, l->kernel, l->stride, l->pad);
        if (l->kind == FIRE) {
            lk_net sub = lk_net_sub(&features, "%d", index);
            x = fire(&sub, x, l->out, l->kernel);
        }
        if (l->tap) tap[taps++] = x;
    }
    while (taps < LK_TRUNK_TAPS) tap[taps++] = LK_NONE;
}
lk_val lk_imagenet_normalise(lk_graph *g, lk_val x) {
    static const float mean[3] = { 0.485f, 0.456f, 0.406f }, std[3] = { 0.229f, 0.224f, 0.225f };
    return lk_div(g, lk_sub(g, x, lk_const(g, LK_F32, LK_SHAPE(1, 3, 1, 1), mean)), lk_const(g, LK_F32, LK_SHAPE(1, 3, 1, 1), std));
}
