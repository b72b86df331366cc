/* Residual, attention and resampling blocks shared by the UNets and autoencoders. See blocks.h.
 * Epsilons: the ResNets' is the caller's; a spatial transformer's GroupNorm has 1e-6, its LayerNorms 1e-5. */
#include "models/blocks.h"

lk_val lk_block_time_embedding(const lk_net *net, lk_val x, int64_t in, int64_t dim) {
    return lk_nn_linear(net, "linear_2", lk_silu(net->g, lk_nn_linear(net, "linear_1", x, in, dim, true)), dim, dim, true);
}

lk_val lk_add_channels(lk_graph *g, lk_val image, lk_val v) {
    return lk_add(g, image, lk_reshape(g, v, LK_SHAPE(lk_dim(g, v, 0), lk_dim(g, v, 1), 1, 1)));
}

lk_val lk_block_resnet(const lk_net *net, lk_val x, lk_val temb, int64_t time_dim, int64_t in, int64_t out, int groups, double eps) {
    lk_graph *g = net->g;
    lk_val h = lk_nn_conv2d(net, "conv1", lk_nn_group_norm(net, "norm1", x, in, groups, eps, true), in, out, 3, 1, 1, true);
    if (lk_ok(temb)) h = lk_add_channels(g, h, lk_nn_linear(net, "time_emb_proj", lk_silu(g, temb), time_dim, out, true));
    h = lk_nn_conv2d(net, "conv2", lk_nn_group_norm(net, "norm2", h, out, groups, eps, true), out, out, 3, 1, 1, true);
    if (in != out) x = lk_nn_conv2d(net, "conv_shortcut", x, in, out, 1, 1, 0, true);
    return lk_add(g, x, h);
}

lk_val lk_block_downsample(const lk_net *net, lk_val x, int64_t channels) { return lk_nn_conv2d(net, "conv", x, channels, channels, 3, 2, 1, true); }

lk_val lk_block_downsample_bottom_right(const lk_net *net, lk_val x, int64_t channels) {
    return lk_nn_conv2d_attr(net, "conv", x, channels, channels, 3, 3, true, (lk_conv){ .stride = { 2, 2 }, .pad = { 0, 0, 1, 1 } });
}

lk_val lk_block_upsample(const lk_net *net, lk_val x, int64_t channels, int64_t h, int64_t w) {
    return lk_nn_conv2d(net, "conv", lk_upsample_nearest(net->g, x, (int)h, (int)w), channels, channels, 3, 1, 1, true);
}

lk_val lk_block_attention(const lk_net *net, lk_val x, lk_val context, int64_t dim, int64_t context_dim, int64_t heads, bool qkv_bias) {
    lk_val q = lk_nn_linear(net, "to_q", x, dim, dim, qkv_bias);
    lk_val k = lk_nn_linear(net, "to_k", context, context_dim, dim, qkv_bias);
    lk_val v = lk_nn_linear(net, "to_v", context, context_dim, dim, qkv_bias);
    q = lk_rows_for(net->g, q, k);
    lk_attention_tap *tap = net->tap;
    if (tap && context.id != x.id && tap->n < LK_TAPPED) {
        tap->layer[tap->n].q = q; tap->layer[tap->n].k = k;
        tap->layer[tap->n++].heads = (int)heads;
    }
    lk_val y = lk_sdpa(net->g, q, k, v, LK_NONE, (lk_sdpa_attr){ .heads = (int)heads });
    if (net->guest && context.id != x.id) y = lk_add(net->g, y, net->guest->attend(net->guest->ctx, net, q, dim, (int)heads));
    return lk_nn_linear(net, "to_out.0", y, dim, dim, true);
}

lk_val lk_rows_for(lk_graph *g, lk_val v, lk_val other) {
    enum { MOST = 8 };
    int64_t have = lk_dim(g, v, 0), want = lk_dim(g, other, 0);
    lk_val copies[MOST];
    if (have < 1 || have >= want || want % have || want / have > MOST) return v;
    for (int i = 0; i < want / have; i++) copies[i] = v;
    return lk_concat(g, copies, (int)(want / have), 0);
}

lk_val lk_block_geglu(const lk_net *net, lk_val x, int64_t in, int64_t out) {
    lk_val h = lk_geglu(net->g, lk_nn_linear(net, "net.0.proj", x, in, 8 * in, true));
    return lk_nn_linear(net, "net.2", h, 4 * in, out, true);
}

lk_val lk_block_transformer(const lk_net *net, lk_val x, lk_val context, int64_t dim, int64_t context_dim, int64_t heads, bool only_cross) {
    lk_graph *g = net->g;
    lk_net attn1 = lk_net_sub(net, "attn1"), attn2 = lk_net_sub(net, "attn2"), ff = lk_net_sub(net, "ff");
    lk_val h = lk_nn_layer_norm(net, "norm1", x, dim, 1e-5, true);
    h = lk_block_attention(&attn1, h, only_cross ? context : h, dim, only_cross ? context_dim : dim, heads, false);
    x = lk_add(g, h, lk_rows_for(g, x, h));
    h = lk_block_attention(&attn2, lk_nn_layer_norm(net, "norm2", x, dim, 1e-5, true), context, dim, context_dim, heads, false);
    x = lk_add(g, h, lk_rows_for(g, x, h));
    return lk_add(g, lk_block_geglu(&ff, lk_nn_layer_norm(net, "norm3", x, dim, 1e-5, true), dim, dim), x);
}

lk_val lk_tokens_of(lk_graph *g, lk_val image) {
    lk_shape s = lk_shape_of(g, image);
    if (s.rank != 4) return LK_NONE;
    return lk_reshape(g, lk_permute(g, image, (int[]){ 0, 2, 3, 1 }), LK_SHAPE(s.d[0], s.d[2] * s.d[3], s.d[1]));
}

lk_val lk_image_of(lk_graph *g, lk_val tokens, int64_t h, int64_t w) {
    lk_shape s = lk_shape_of(g, tokens);
    if (s.rank != 3) return LK_NONE;
    return lk_permute(g, lk_reshape(g, tokens, LK_SHAPE(s.d[0], h, w, s.d[2])), (int[]){ 0, 3, 1, 2 });
}

lk_val lk_block_transformer2d(const lk_net *net, lk_val x, lk_val context, int64_t channels, int64_t context_dim, int64_t heads, int64_t depth, int groups, bool linear_proj, bool only_cross) {
    lk_graph *g = net->g;
    int64_t h = lk_dim(g, x, 2), w = lk_dim(g, x, 3);
    lk_val y = lk_nn_group_norm(net, "norm", x, channels, groups, 1e-6, false);
    if (!linear_proj) y = lk_nn_conv2d(net, "proj_in", y, channels, channels, 1, 1, 0, true);
    y = lk_tokens_of(g, y);
    if (linear_proj) y = lk_nn_linear(net, "proj_in", y, channels, channels, true);
    for (int64_t i = 0; i < depth; i++) {
        lk_net block = lk_net_sub(net, "transformer_blocks.%lld", (long long)i);
        y = lk_block_transformer(&block, y, context, channels, context_dim, heads, only_cross);
    }
    if (linear_proj) y = lk_nn_linear(net, "proj_out", y, channels, channels, true);
    y = lk_image_of(g, y, h, w);
    if (!linear_proj) y = lk_nn_conv2d(net, "proj_out", y, channels, channels, 1, 1, 0, true);
    return lk_add(g, y, lk_rows_for(g, x, y));
}
