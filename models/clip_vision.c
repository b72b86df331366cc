/* CLIPVisionModel and CLIPVisionModelWithProjection. The patch convolution has no bias; "pre_layrnorm" is the key's real name;
 * post_layernorm acts on the pooled class token alone. */
#include "models/blocks.h"
#include "models/clip.h"
#include <string.h>

static lk_err read_config(const json_t *j, const char *path, bool project, lk_clip_vision_config *c) {
    lk_clip_tower t;
    LK_TRY(lk_clip_tower_read(j, path, (lk_clip_tower){ .hidden = 768, .intermediate = 3072, .layers = 12, .heads = 12 }, &t));
    *c = (lk_clip_vision_config){ .hidden = t.hidden, .intermediate = t.intermediate, .layers = t.layers, .heads = t.heads, .eps = t.eps, .act = t.act, .project = project };
    LK_TRY(lk_config_count(j, "num_channels", path, 3, 1, 1 << 12, &c->channels));
    LK_TRY(lk_config_count(j, "image_size", path, 224, 1, 1 << 14, &c->image));
    LK_TRY(lk_config_count(j, "patch_size", path, 32, 1, 1 << 14, &c->patch));
    return lk_config_count(j, "projection_dim", path, 512, 1, 1 << 16, &c->projection);
}

lk_err lk_clip_vision_config_load(const char *path, lk_clip_vision_config *c) {
    json_t *j;
    const char *cls;
    LK_TRY(lk_config_open(path, (const char *[]){ "CLIPVisionModelWithProjection", "CLIPVisionModel", "CLIPModel", NULL }, NULL, &j));
    const json_t *vision = json_object_get(j, "vision_config");
    lk_err err = lk_model_class(path, &cls);
    if (!err) err = read_config(json_is_object(vision) ? vision : j, path, strcmp(cls, "CLIPVisionModel") != 0, c);
    if (!err && json_is_object(vision)) err = lk_config_count(j, "projection_dim", path, c->projection, 1, 1 << 16, &c->projection);
    json_decref(j);
    return err;
}

static lk_val embed(const lk_net *net, const lk_clip_vision_config *c, lk_val pixels) {
    lk_graph *g = net->g;
    int64_t side = c->image / c->patch, batch = lk_dim(g, pixels, 0), d = c->hidden;
    lk_val patches = lk_tokens_of(g, lk_nn_conv2d(net, "patch_embedding", pixels, c->channels, d, (int)c->patch, (int)c->patch, 0, false));
    lk_val cls = lk_broadcast(g, lk_nn_param(net, "class_embedding", LK_SHAPE(d)), LK_SHAPE(batch, 1, d));
    lk_val table = lk_nn_param(net, "position_embedding.weight", LK_SHAPE(side * side + 1, d));
    return lk_add(g, lk_concat(g, (lk_val[]){ cls, patches }, 2, 1), table);
}

lk_encoder_out lk_clip_vision(const lk_net *root, const lk_clip_vision_config *c, lk_val pixels) {
    lk_graph *g = root->g;
    lk_net net = lk_net_sub(root, "vision_model"), embeddings = lk_net_sub(&net, "embeddings"), encoder = lk_net_sub(&net, "encoder");
    lk_clip_tower tower = { c->hidden, c->intermediate, c->layers, c->heads, c->eps, c->act, false };
    lk_encoder_out out = { .embeds = LK_NONE, .n_hidden = (int)c->layers + 1 };
    int64_t batch = lk_dim(g, pixels, 0);
    if (lk_dim(g, pixels, 2) != c->image || lk_dim(g, pixels, 3) != c->image)
        lk_graph_fail(g, LK_ESHAPE, "CLIP vision: pixels of %lld x %lld; the config's image_size is %lld", (long long)lk_dim(g, pixels, 2), (long long)lk_dim(g, pixels, 3), (long long)c->image);
    lk_val x = lk_nn_layer_norm(&net, "pre_layrnorm", embed(&embeddings, c, pixels), c->hidden, c->eps, true);
    out.last_hidden_state = lk_clip_encoder(&encoder, &tower, x, &out.hidden);
    lk_val cls = lk_reshape(g, lk_slice(g, out.last_hidden_state, 1, 0, 1), LK_SHAPE(batch, c->hidden));
    out.pooled = lk_nn_layer_norm(&net, "post_layernorm", cls, c->hidden, c->eps, true);
    if (c->project) out.embeds = lk_nn_linear(root, "visual_projection", out.pooled, c->hidden, c->projection, false);
    return out;
}
