/* The trunk is what unet2d.c and controlnet.c share: time embedding, conv_in, down blocks, mid block. */
#include "models/discriminator.h"
#include "models/blocks.h"
#include <stdlib.h>
#include <string.h>

static lk_val trunk(const lk_net *net, const lk_unet_config *c, lk_val x, lk_val t, lk_val context) {
    lk_unet_down d = { .temb = lk_unet_time(net, c, t, LK_UNET_PLAIN) };
    d.x = lk_nn_conv2d(net, "conv_in", x, c->in_channels, c->channels[0], 3, 1, 1, true);
    lk_unet_run_down(net, c, &d, context);
    return lk_unet_run_mid(net, c, d.x, d.temb, context);
}
lk_discriminator_out lk_discriminator(const lk_net *net, const lk_unet_config *c, lk_val x, lk_val t, lk_val x_from, lk_val t_from, lk_val context) {
    lk_graph *g = net->g;
    int64_t width = c->channels[c->levels - 1];
    lk_val h = trunk(net, c, x, t, context);
    if (lk_ok(x_from)) h = lk_concat(g, (lk_val[]){ h, trunk(net, c, x_from, t_from, context) }, 2, 1);
    lk_val y = lk_nn_conv2d(net, "head.0", h, lk_dim(g, h, 1), width, 4, 2, 1, true);
    y = lk_nn_group_norm(net, "head.1", y, width, c->groups, 1e-5, true);
    return (lk_discriminator_out){ lk_nn_conv2d(net, "head.2", y, width, 1, 1, 1, 0, true), h };
}
lk_err lk_discriminator_start(lk_exec *x, const lk_st *unet, const char *prefix, uint64_t seed) {
    LK_TRY(lk_weights_init(x, prefix, seed, NULL));
    const lk_graph *g = lk_exec_graph(x);
    for (int i = 0; i < lk_graph_count(g); i++) {
        const lk_node *node = lk_graph_node(g, (lk_val){ i });
        if (node->op != LK_OP_param || node->mem != LK_MEM_WEIGHT || !lk_starts(node->name, prefix)) continue;
        const char *name = node->name + strlen(prefix);
        if (lk_starts(name, "head.")) continue;
        const lk_tensor *t;
        LK_TRY(lk_st_get(unet, name, &t));
        float *values = lk_xaligned((size_t)t->numel * sizeof *values);
        lk_err e = lk_st_f32(t, values);
        if (!e) e = lk_exec_set(x, (lk_val){ i }, values, t->numel);
        free(values);
        if (e) return lk_err_wrap(e, "discriminator: '%s'", name);
    }
    return LK_OK;
}
