/* LPIPS: scale the pictures as the trunks were trained, tap, make feature vectors unit length, weigh squared differences by the
 * lin heads, mean over space, sum over layers. */
#include "metrics/lpips.h"

static const char *const heads[LK_TRUNKS] = { [LK_VGG16] = "metrics/lpips/lpips_vgg.safetensors", [LK_ALEXNET] = "metrics/lpips/lpips_alex.safetensors",
                                              [LK_SQUEEZENET1_1] = "metrics/lpips/lpips_squeeze.safetensors" };
const char *lk_lpips_heads(lk_trunk t) { return heads[t]; }

/* ImageNet's statistics as the authors rounded them for the range [-1, 1]. */
static lk_val scaled(lk_graph *g, lk_val x) {
    static const float shift[3] = { -.030f, -.088f, -.188f }, scale[3] = { .458f, .448f, .450f };
    return lk_div(g, lk_sub(g, x, lk_const(g, LK_F32, LK_SHAPE(1, 3, 1, 1), shift)), lk_const(g, LK_F32, LK_SHAPE(1, 3, 1, 1), scale));
}
/* The root is taken of 1 where the sum is 0, and the factor is 0 there: neither the value nor a gradient divides by zero. */
static lk_val unit_factor(lk_graph *g, lk_val sum) {
    lk_val any = lk_less(g, lk_scalar(g, 0), sum), safe = lk_where(g, any, sum, lk_scalar(g, 1));
    return lk_where(g, any, lk_recip(g, lk_shift(g, lk_sqrt(g, safe), 1e-10)), lk_scalar(g, 0));
}
lk_val lk_unit_channels(lk_graph *g, lk_val x, lk_unit unit) {
    lk_val sum = lk_reduce_sum(g, lk_square(g, x), (lk_axes){ .n = 1, .axis = { 1 }, .keep = true });
    lk_val factor = unit == LK_UNIT_LPIPS ? unit_factor(g, sum) : lk_recip(g, lk_sqrt(g, lk_shift(g, sum, 1e-8)));
    return lk_mul(g, x, factor);
}
/* The lin weights of a layer [1, C, 1, 1], named "lin/lin0.model.1.weight", ... */
static lk_val head(const lk_net *net, int layer, int64_t channels) {
    lk_net lin = *net;
    lin.prefix = "";
    lin.param_prefix = "lin/";
    lk_net sub = lk_net_sub(&lin, "lin%d", layer);
    return lk_nn_param(&sub, "model.1.weight", LK_SHAPE(1, channels, 1, 1));
}
static lk_val layer_distance(const lk_net *net, lk_lpips_variant v, int layer, lk_val a, lk_val b) {
    lk_graph *g = net->g;
    lk_val d = lk_square(g, lk_sub(g, lk_unit_channels(g, a, v.unit), lk_unit_channels(g, b, v.unit)));
    if (!v.plain) d = lk_mul(g, d, head(net, layer, lk_dim(g, a, 1)));
    return lk_mean(g, lk_reduce_sum(g, d, (lk_axes){ .n = 1, .axis = { 1 } }), (lk_axes){ .n = 2, .axis = { 1, 2 } });
}
lk_val lk_lpips(const lk_net *net, lk_lpips_variant v, lk_val a, lk_val b, lk_val *per_layer) {
    lk_val fa[LK_TRUNK_TAPS], fb[LK_TRUNK_TAPS], sum = LK_NONE;
    lk_trunk_features(net, v.trunk, scaled(net->g, a), fa);
    lk_trunk_features(net, v.trunk, scaled(net->g, b), fb);
    for (int i = 0; i < lk_trunk_taps(v.trunk); i++) {
        lk_val d = layer_distance(net, v, i, fa[i], fb[i]);
        if (per_layer) per_layer[i] = d;
        sum = i ? lk_add(net->g, sum, d) : d;
    }
    return sum;
}
lk_val lk_lpips_vector(const lk_net *net, lk_lpips_variant v, lk_val x) {
    lk_graph *g = net->g;
    lk_val tap[LK_TRUNK_TAPS], part[LK_TRUNK_TAPS];
    int taps = lk_trunk_taps(v.trunk);
    lk_trunk_features(net, v.trunk, scaled(g, x), tap);
    for (int i = 0; i < taps; i++) {
        int64_t c = lk_dim(g, tap[i], 1), area = lk_dim(g, tap[i], 2) * lk_dim(g, tap[i], 3);
        part[i] = lk_scale(g, lk_unit_channels(g, tap[i], v.unit), 1 / __builtin_sqrt((double)area));
        if (!v.plain) part[i] = lk_mul(g, part[i], lk_sqrt(g, head(net, i, c)));
        part[i] = lk_reshape(g, part[i], LK_SHAPE(lk_dim(g, x, 0), c * area));
    }
    return lk_concat(g, part, taps, 1);
}
