/* Modules of a few lines each: they name parameters, infer their shapes, and let adapters join in. See nn.h.
 *
 * A module's full name is net.prefix + its name; params carry net.param_prefix before that. */
#include "models/nn.h"
#include "models/lora.h"
#include <stdlib.h>
#include <string.h>

lk_net lk_net_root(lk_graph *g) { return (lk_net){ .g = g, .prefix = "", .param_prefix = "" }; }

lk_net lk_net_sub(const lk_net *net, const char *fmt, ...) {
    lk_arena *arena = lk_graph_arena(net->g);
    va_list ap;
    va_start(ap, fmt);
    char *name = lk_vfmt(arena, fmt, ap);
    va_end(ap);
    lk_net sub = *net;
    sub.prefix = lk_fmt(arena, "%s%s.", net->prefix, name);
    return sub;
}

static lk_val param_of(const lk_net *net, const char *module, const char *leaf, lk_shape shape) {
    char *full = lk_xfmt("%s%s%s%s%s", net->param_prefix ? net->param_prefix : "", net->prefix, module, module[0] && leaf[0] ? "." : "", leaf);
    lk_val v = lk_param(net->g, full, shape, LK_MEM_WEIGHT);
    if (net->n_adapters) v = lk_adapter_param(net, full + (net->param_prefix ? strlen(net->param_prefix) : 0), v);
    free(full);
    return v;
}

lk_val lk_nn_param(const lk_net *net, const char *name, lk_shape shape) { return param_of(net, name, "", shape); }

/* Weights are asked for even where x is invalid: the first error stays the one reported. */
lk_val lk_nn_linear(const lk_net *net, const char *name, lk_val x, int64_t in, int64_t out, bool bias) {
    lk_val w = param_of(net, name, "weight", LK_SHAPE(out, in));
    lk_val b = bias ? param_of(net, name, "bias", LK_SHAPE(out)) : LK_NONE;
    lk_val y = lk_linear(net->g, x, w, b);
    return net->n_adapters ? lk_adapter_linear(net, name, x, w, b, y) : y;
}

lk_val lk_nn_conv2d_attr(const lk_net *net, const char *name, lk_val x, int64_t in, int64_t out, int kh, int kw, bool bias, lk_conv conv) {
    int groups = conv.groups ? conv.groups : 1;
    lk_val w = param_of(net, name, "weight", LK_SHAPE(out, in / groups, kh, kw));
    lk_val b = bias ? param_of(net, name, "bias", LK_SHAPE(out)) : LK_NONE;
    lk_val y = lk_conv2d(net->g, x, w, b, conv);
    return net->n_adapters ? lk_adapter_conv2d(net, name, x, w, b, y, conv) : y;
}

lk_val lk_nn_conv2d(const lk_net *net, const char *name, lk_val x, int64_t in, int64_t out, int kernel, int stride, int pad, bool bias) {
    return lk_nn_conv2d_attr(net, name, x, in, out, kernel, kernel, bias, (lk_conv){ .stride = { stride, stride }, .pad = { pad, pad, pad, pad } });
}

lk_val lk_nn_layer_norm(const lk_net *net, const char *name, lk_val x, int64_t dim, double eps, bool affine) {
    if (!affine) return lk_layer_norm(net->g, x, LK_NONE, LK_NONE, eps);
    lk_val gamma = param_of(net, name, "weight", LK_SHAPE(dim)), beta = param_of(net, name, "bias", LK_SHAPE(dim));
    return lk_layer_norm(net->g, x, gamma, beta, eps);
}

lk_val lk_nn_group_norm(const lk_net *net, const char *name, lk_val x, int64_t channels, int groups, double eps, bool silu) {
    lk_val gamma = param_of(net, name, "weight", LK_SHAPE(channels)), beta = param_of(net, name, "bias", LK_SHAPE(channels));
    return lk_group_norm(net->g, x, gamma, beta, (lk_norm){ .groups = groups, .eps = eps, .silu = silu });
}

lk_val lk_nn_embedding(const lk_net *net, const char *name, lk_val ids, int64_t count, int64_t dim) {
    return lk_gather_rows(net->g, param_of(net, name, "weight", LK_SHAPE(count, dim)), ids);
}
