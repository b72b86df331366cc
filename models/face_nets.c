/* Layer tables of the five face networks (models/faces/README.md). Builders only; no element is touched here. */
#include "models/face_nets.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct { const char *name; int size, dim; } recognisers[LK_RECOGNISERS] = {
    [LK_MOBILEFACENET] = {"mobilefacenet", 112, 192}, [LK_MOBILEFACE] = {"mobileface", 112, 256}, [LK_DLIB] = {"dlib_resnet34", 150, 128}};
const char *lk_recogniser_name(lk_recogniser r) { return recognisers[r].name; }
int lk_recogniser_size(lk_recogniser r) { return recognisers[r].size; }
int lk_recogniser_dim(lk_recogniser r) { return recognisers[r].dim; }

/* (pixel - mean[c]) * factor or / divisor, one rounding each, as the networks were trained. */
static lk_val normalise(const lk_net *n, lk_val x, const double mean[3], double divisor) {
    float m[3] = {(float)mean[0], (float)mean[1], (float)mean[2]};
    lk_val centred = lk_sub(n->g, x, lk_const(n->g, LK_F32, LK_SHAPE(1, 3, 1, 1), m));
    return lk_div(n->g, centred, lk_scalar(n->g, divisor));
}

/* TensorFlow SAME for an odd kernel and stride 2 on an even size: zeros at the bottom and right only. */
typedef enum { VALID, PAD1, SAME2 } padding;
typedef struct { int in, out, kernel, stride, groups; padding pad; bool bias; } layer;
static lk_val conv(const lk_net *n, const char *name, lk_val x, layer l) {
    lk_conv a = {.stride = {l.stride, l.stride}, .dilation = {1, 1}, .groups = l.groups};
    if (l.pad == PAD1) a.pad[0] = a.pad[1] = a.pad[2] = a.pad[3] = 1;
    if (l.pad == SAME2) a.pad[2] = a.pad[3] = 1;
    lk_net sub = lk_net_sub(n, "%s", name);
    lk_val w = lk_nn_param(&sub, "weight", LK_SHAPE(l.out, l.in / l.groups, l.kernel, l.kernel));
    lk_val b = l.bias ? lk_nn_param(&sub, "bias", LK_SHAPE(l.out)) : LK_NONE;
    return lk_conv2d(n->g, x, w, b, a);
}
static lk_val prelu(const lk_net *n, const char *name, lk_val x, int c) {
    lk_net sub = lk_net_sub(n, "%s.prelu", name);
    return lk_prelu(n->g, x, lk_nn_param(&sub, "alpha", LK_SHAPE(c)));
}
static lk_val conv_prelu(const lk_net *n, const char *name, lk_val x, layer l) { return prelu(n, name, conv(n, name, x, l), l.out); }
static lk_val flatten(lk_graph *g, lk_val x) { return lk_reshape(g, x, LK_SHAPE(lk_dim(g, x, 0), -1)); }

/* ---- mobilefacenet ----------------------------------------------------------------------------- */
static lk_val mobilefacenet(const lk_net *n, lk_val x) {
    static const struct { int in, expand, out, stride; } blocks[15] = {
        {64, 128, 64, 2}, {64, 128, 64, 1}, {64, 128, 64, 1}, {64, 128, 64, 1}, {64, 128, 64, 1}, {64, 256, 128, 2},
        {128, 256, 128, 1}, {128, 256, 128, 1}, {128, 256, 128, 1}, {128, 256, 128, 1}, {128, 256, 128, 1}, {128, 256, 128, 1},
        {128, 512, 128, 2}, {128, 256, 128, 1}, {128, 256, 128, 1}};
    lk_graph *g = n->g;
    x = normalise(n, x, (double[]){127.5, 127.5, 127.5}, 128);
    x = conv_prelu(n, "conv0", x, (layer){3, 64, 3, 2, 1, SAME2, true});
    x = conv_prelu(n, "dw0", x, (layer){64, 64, 3, 1, 64, PAD1, true});
    x = conv(n, "proj0", x, (layer){64, 64, 1, 1, 1, VALID, true});
    for (int i = 0; i < 15; i++) {
        int in = blocks[i].in, e = blocks[i].expand, stride = blocks[i].stride;
        lk_net b = lk_net_sub(n, "block%02d", i + 1);
        lk_val h = conv_prelu(&b, "expand", x, (layer){in, e, 1, 1, 1, VALID, true});
        h = conv_prelu(&b, "dw", h, (layer){e, e, 3, stride, e, stride == 1 ? PAD1 : SAME2, true});
        h = conv(&b, "project", h, (layer){e, blocks[i].out, 1, 1, 1, VALID, true});
        x = stride == 1 ? lk_add(g, x, h) : h;
    }
    x = conv_prelu(n, "head.conv", x, (layer){128, 512, 1, 1, 1, VALID, true});
    x = conv(n, "head.gdc", x, (layer){512, 512, 7, 1, 512, VALID, true});
    x = conv(n, "head.fc", x, (layer){512, 512, 1, 1, 1, VALID, true});
    x = flatten(g, conv(n, "head.embed", x, (layer){512, 192, 1, 1, 1, VALID, true}));
    lk_val squares = lk_reduce_sum(g, lk_square(g, x), (lk_axes){1, {-1}, true});
    return lk_mul(g, x, lk_rsqrt(g, lk_max(g, squares, lk_scalar(g, 1e-10))));
}

/* ---- mobileface --------------------------------------------------------------------------------- */
static lk_val mobileface(const lk_net *n, lk_val x) {
    static const int widths[5] = {32, 32, 32, 64, 128};
    lk_graph *g = n->g;
    x = normalise(n, x, (double[]){127.5, 127.5, 127.5}, 128);
    x = conv_prelu(n, "conv0", x, (layer){3, 32, 3, 2, 1, PAD1, false});
    for (int i = 1; i <= 4; i++) {
        int c = widths[i];
        lk_net s = lk_net_sub(n, "stage%d", i);
        x = conv(&s, "pw", x, (layer){widths[i - 1], c, 1, 1, 1, VALID, false});
        lk_val a = conv_prelu(&s, "down", x, (layer){c, c, 3, 2, c, PAD1, false});
        lk_val r = conv_prelu(&s, "res1", a, (layer){c, c, 3, 1, c, PAD1, false});
        x = lk_add(g, a, conv_prelu(&s, "res2", r, (layer){c, c, 3, 1, c, PAD1, false}));
    }
    x = lk_linear(g, flatten(g, x), lk_nn_param(n, "fc.weight", LK_SHAPE(256, 2048)), LK_NONE);
    return lk_add(g, lk_mul(g, x, lk_nn_param(n, "bn.scale", LK_SHAPE(256))), lk_nn_param(n, "bn.bias", LK_SHAPE(256)));
}

/* ---- dlib ----------------------------------------------------------------------------------------- */
static lk_val conv_affine(const lk_net *n, const char *name, lk_val x, layer l) {
    lk_graph *g = n->g;
    x = conv(n, name, x, l);
    lk_net a = lk_net_sub(n, "%s.affine", name);
    lk_val gamma = lk_reshape(g, lk_nn_param(&a, "gamma", LK_SHAPE(l.out)), LK_SHAPE(l.out, 1, 1));
    lk_val beta = lk_reshape(g, lk_nn_param(&a, "beta", LK_SHAPE(l.out)), LK_SHAPE(l.out, 1, 1));
    return lk_add(g, lk_mul(g, gamma, x), beta);
}
static lk_val pad_to(lk_graph *g, lk_val x, int64_t c, int64_t h, int64_t w) {      /* zeros appended: channels, bottom, right */
    lk_window p = {.hi = {0, c - lk_dim(g, x, 1), h - lk_dim(g, x, 2), w - lk_dim(g, x, 3)}};
    return p.hi[1] || p.hi[2] || p.hi[3] ? lk_pad(g, x, p) : x;
}
static lk_val dlib_residual(const lk_net *n, const char *name, lk_val x, int c) {
    lk_graph *g = n->g;
    lk_net s = lk_net_sub(n, "%s", name);
    lk_val y = lk_relu(g, conv_affine(&s, "conv1", x, (layer){c, c, 3, 1, 1, PAD1, true}));
    return lk_relu(g, lk_add(g, x, conv_affine(&s, "conv2", y, (layer){c, c, 3, 1, 1, PAD1, true})));
}
static lk_val dlib_down(const lk_net *n, const char *name, lk_val x, int in, int out) {
    lk_graph *g = n->g;
    lk_net s = lk_net_sub(n, "%s", name);
    lk_val y = lk_relu(g, conv_affine(&s, "conv1", x, (layer){in, out, 3, 2, 1, VALID, true}));
    y = conv_affine(&s, "conv2", y, (layer){out, out, 3, 1, 1, PAD1, true});
    lk_val shortcut = lk_avg_pool2d(g, x, (lk_pool2d){.kernel = {2, 2}, .stride = {2, 2}});
    shortcut = pad_to(g, shortcut, out, lk_dim(g, shortcut, 2), lk_dim(g, shortcut, 3));
    y = pad_to(g, y, out, lk_dim(g, shortcut, 2), lk_dim(g, shortcut, 3));
    return lk_relu(g, lk_add(g, shortcut, y));
}
static lk_val dlib(const lk_net *n, lk_val x) {
    static const struct { const char *name; int in, out; } blocks[] = {                 /* in = 0: residual */
        {"conv32_1", 0, 32}, {"conv32_2", 0, 32}, {"conv32_3", 0, 32}, {"conv64_down", 32, 64}, {"conv64_1", 0, 64}, {"conv64_2", 0, 64}, {"conv64_3", 0, 64},
        {"conv128_down", 64, 128}, {"conv128_1", 0, 128}, {"conv128_2", 0, 128}, {"conv256_down", 128, 256}, {"conv256_1", 0, 256}, {"conv256_2", 0, 256},
        {"conv256_down_out", 256, 256}};
    lk_graph *g = n->g;
    x = normalise(n, x, (double[]){122.782, 117.001, 104.298}, 256);
    x = lk_relu(g, conv_affine(n, "conv32_down", x, (layer){3, 32, 7, 2, 1, VALID, true}));
    x = lk_max_pool2d(g, x, (lk_pool2d){.kernel = {3, 3}, .stride = {2, 2}});
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        x = blocks[i].in ? dlib_down(n, blocks[i].name, x, blocks[i].in, blocks[i].out) : dlib_residual(n, blocks[i].name, x, blocks[i].out);
    x = lk_mean(g, x, (lk_axes){2, {2, 3}, false});
    return lk_linear(g, x, lk_nn_param(n, "fc.weight", LK_SHAPE(128, 256)), LK_NONE);
}

lk_val lk_recogniser_embed(const lk_net *n, lk_recogniser r, lk_val pixels) {
    int64_t s = recognisers[r].size;
    if (lk_ok(pixels) && (lk_dim(n->g, pixels, 1) != 3 || lk_dim(n->g, pixels, 2) != s || lk_dim(n->g, pixels, 3) != s)) {
        lk_graph_fail(n->g, LK_ESHAPE, "%s takes [N, 3, %d, %d], got %s", recognisers[r].name, (int)s, (int)s,
                      lk_shape_text(lk_graph_arena(n->g), lk_shape_of(n->g, pixels)));
        return LK_NONE;
    }
    return r == LK_MOBILEFACENET ? mobilefacenet(n, pixels) : r == LK_MOBILEFACE ? mobileface(n, pixels) : dlib(n, pixels);
}

/* ---- landmarks, detector ---------------------------------------------------------------------------- */
/* Depthwise 3x3 without bias, then 1x1 with the module's bias. */
static lk_val separable(const lk_net *n, const char *name, lk_val x, int in, int out, int stride) {
    lk_net s = lk_net_sub(n, "%s", name);
    lk_val h = conv(&s, "dw", x, (layer){in, in, 3, stride, in, stride == 1 ? PAD1 : SAME2, false});
    lk_conv one = {.stride = {1, 1}, .dilation = {1, 1}, .groups = 1};
    return lk_conv2d(n->g, h, lk_nn_param(&s, "pw.weight", LK_SHAPE(out, in, 1, 1)), lk_nn_param(&s, "bias", LK_SHAPE(out)), one);
}
lk_val lk_face_landmarks(const lk_net *n, lk_val x) {
    static const int widths[5] = {3, 32, 64, 128, 256};
    lk_graph *g = n->g;
    x = normalise(n, x, (double[]){122.782, 117.001, 104.298}, 255);
    for (int i = 0; i < 4; i++) {
        int in = widths[i], out = widths[i + 1];
        lk_net d = lk_net_sub(n, "dense%d", i);
        lk_val a = i ? separable(&d, "conv0", x, in, out, 2) : conv(&d, "conv0", x, (layer){in, out, 3, 2, 1, SAME2, true});
        a = lk_relu(g, a);
        lk_val b = separable(&d, "conv1", a, out, out, 1), ab = lk_add(g, a, b);
        lk_val c = separable(&d, "conv2", lk_relu(g, ab), out, out, 1), abc = lk_add(g, ab, c);
        x = lk_relu(g, lk_add(g, abc, separable(&d, "conv3", lk_relu(g, abc), out, out, 1)));
    }
    x = lk_mean(g, x, (lk_axes){2, {2, 3}, false});
    return lk_linear(g, x, lk_nn_param(n, "fc.weight", LK_SHAPE(136, 256)), lk_nn_param(n, "fc.bias", LK_SHAPE(136)));
}
/* Max pool 2; `ceil`: a half-empty last window counts, written as -inf padding at the bottom and right. */
static lk_val pool2(lk_graph *g, lk_val x, int stride) {
    lk_pool2d p = {.kernel = {2, 2}, .stride = {stride, stride}};
    p.pad[2] = stride == 1 ? 1 : (int)(lk_dim(g, x, 2) & 1);
    p.pad[3] = stride == 1 ? 1 : (int)(lk_dim(g, x, 3) & 1);
    return lk_max_pool2d(g, x, p);
}
lk_val lk_face_detector(const lk_net *n, lk_val x) {
    static const int widths[6] = {16, 32, 64, 128, 256, 512};
    lk_graph *g = n->g;
    x = normalise(n, x, (double[]){117.001, 114.697, 97.404}, 256);
    x = pool2(g, lk_leaky_relu(g, conv(n, "conv0", x, (layer){3, 16, 3, 1, 1, VALID, true}), 0.1), 2);
    for (int i = 1; i <= 5; i++) {
        char name[16];
        snprintf(name, sizeof name, "conv%d", i);
        x = pool2(g, lk_leaky_relu(g, separable(n, name, x, widths[i - 1], widths[i], 1), 0.1), i < 5 ? 2 : 1);
    }
    return conv(n, "out", x, (layer){512, 25, 1, 1, 1, VALID, true});
}

/* ---- weights ------------------------------------------------------------------------------------------- */
static lk_err dequantised(const lk_st *st, const lk_tensor *t, float *out) {
    if (t->dtype != LK_ST_U8) return lk_st_f32(t, out);
    char name[256];
    float scale, min;
    const lk_tensor *s;
    snprintf(name, sizeof name, "%s.scale", t->name);
    LK_TRY(lk_st_get(st, name, &s));
    LK_TRY(lk_st_f32(s, &scale));
    snprintf(name, sizeof name, "%s.min", t->name);
    LK_TRY(lk_st_get(st, name, &s));
    LK_TRY(lk_st_f32(s, &min));
    const uint8_t *q = t->data;
    for (int64_t i = 0; i < t->numel; i++) { float scaled = (float)q[i] * scale; out[i] = scaled + min; }
    return LK_OK;
}
lk_err lk_face_weights(lk_exec *x, const lk_st *st, const char *param_prefix) {
    lk_graph *g = lk_exec_graph(x);
    for (int i = 0; i < lk_graph_count(g); i++) {
        const lk_node *node = lk_graph_node(g, (lk_val){i});
        if (node->op != LK_OP_param || !lk_starts(node->name, param_prefix)) continue;
        const char *name = node->name + strlen(param_prefix);
        const lk_tensor *t;
        LK_TRY(lk_st_get(st, name, &t));
        bool fits = t->rank == node->shape.rank;
        for (int d = 0; fits && d < t->rank; d++) fits = t->d[d] == node->shape.d[d];
        if (!fits) return lk_error(LK_EINPUT, "%s: %s: expected shape %s", lk_st_path(st), name, lk_shape_text(lk_graph_arena(g), node->shape));
        float *values = lk_xmalloc(sizeof(float) * (size_t)t->numel);
        lk_err e = dequantised(st, t, values);
        if (!e) e = lk_exec_set(x, (lk_val){i}, values, t->numel);
        free(values);
        LK_TRY(e);
    }
    return LK_OK;
}
