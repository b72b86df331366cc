/* Shared parts of the diffusion transformers (Peebles & Xie 2022, arXiv:2212.09748; MMDiT: Esser et al. 2024, arXiv:2403.03206). See dit.h. */
#include "models/blocks.h"
#include "models/dit.h"

static const double eps = 1e-6;
const lk_dit_names lk_dit_image_names = { "to_q", "to_k", "to_v", "norm_q", "norm_k" };
const lk_dit_names lk_dit_text_names = { "add_q_proj", "add_k_proj", "add_v_proj", "norm_added_q", "norm_added_k" };

lk_val lk_dit_time(const lk_net *net, const char *name, lk_val t, double scale, int64_t dim) {
    lk_net sub = lk_net_sub(net, "%s", name);
    lk_val sinusoid = lk_timestep_embed(net->g, t, (lk_tembed){ .dim = LK_DIT_SINUSOID, .flip_sin_to_cos = true, .scale = scale });
    return lk_block_time_embedding(&sub, sinusoid, LK_DIT_SINUSOID, dim);
}

lk_val lk_dit_text(const lk_net *net, const char *name, lk_val pooled, int64_t in, int64_t dim) {
    lk_net sub = lk_net_sub(net, "%s", name);
    return lk_block_time_embedding(&sub, pooled, in, dim);
}

void lk_dit_chunks(const lk_net *net, const char *name, lk_val temb, int64_t dim, int n, lk_val *out) {
    lk_val all = lk_nn_linear(net, name, lk_silu(net->g, temb), dim, n * dim, true);
    for (int i = 0; i < n; i++) out[i] = lk_slice(net->g, all, 1, i * dim, (i + 1) * dim);
}

lk_val lk_dit_norm(lk_graph *g, lk_val x, lk_val shift, lk_val scale) { return lk_modulate(g, lk_layer_norm(g, x, LK_NONE, LK_NONE, eps), shift, scale); }

lk_val lk_dit_gate(lk_graph *g, lk_val x, lk_val gate, lk_val branch) {
    return lk_add(g, x, lk_mul(g, lk_reshape(g, gate, LK_SHAPE(lk_dim(g, gate, 0), 1, lk_dim(g, gate, 1))), branch));
}

lk_val lk_dit_norm_out(const lk_net *net, const char *name, lk_val x, lk_val temb, int64_t dim) {
    lk_val part[2];
    lk_dit_chunks(net, name, temb, dim, 2, part);
    return lk_dit_norm(net->g, x, part[1], part[0]);
}

lk_val lk_dit_mlp(const lk_net *net, lk_val x, int64_t dim) {
    return lk_nn_linear(net, "net.2", lk_gelu_tanh(net->g, lk_nn_linear(net, "net.0.proj", x, dim, 4 * dim, true)), 4 * dim, dim, true);
}

static lk_val head_norm(const lk_net *net, const char *name, lk_val x, int64_t heads, int64_t width) {
    lk_graph *g = net->g;
    lk_shape s = lk_shape_of(g, x);
    lk_val gamma = lk_nn_param(net, lk_fmt(lk_graph_arena(g), "%s.weight", name), LK_SHAPE(width));
    if (s.rank != 3) return LK_NONE;
    return lk_reshape(g, lk_rms_norm(g, lk_reshape(g, x, LK_SHAPE(s.d[0], s.d[1], heads, width)), gamma, eps), s);
}

lk_qkv lk_dit_qkv(const lk_net *net, const lk_dit_names *names, lk_val x, int64_t in, int64_t heads, int64_t width, bool rms) {
    int64_t dim = heads * width;
    lk_qkv r = { lk_nn_linear(net, names->q, x, in, dim, true), lk_nn_linear(net, names->k, x, in, dim, true), lk_nn_linear(net, names->v, x, in, dim, true) };
    if (!rms) return r;
    r.q = head_norm(net, names->norm_q, r.q, heads, width);
    r.k = head_norm(net, names->norm_k, r.k, heads, width);
    return r;
}

lk_qkv lk_dit_join(lk_graph *g, lk_qkv a, lk_qkv b) {
    return (lk_qkv){ lk_concat(g, (lk_val[]){ a.q, b.q }, 2, 1), lk_concat(g, (lk_val[]){ a.k, b.k }, 2, 1), lk_concat(g, (lk_val[]){ a.v, b.v }, 2, 1) };
}
