/* The public models on paper: graphs built from their configs, nothing allocated. The oracle is the number of parameters of the
 * published checkpoints; one wrong width, layer or bias changes it. */
#include "tests/lib/lk_test.h"
#include "models/models.h"

static int64_t parameters(const lk_graph *g) {
    int64_t n = 0;
    for (int i = 0; i < lk_graph_count(g); i++) {
        const lk_node *node = lk_graph_node(g, (lk_val){ i });
        if (node->op == LK_OP_param) n += lk_numel(node->shape);
    }
    return n;
}
static lk_val input(lk_graph *g, const char *name, lk_shape s) { return lk_input(g, name, LK_F32, s); }

static void count_unet(const char *path, int64_t want) {
    lk_unet_config c;
    CHECK_OK(lk_unet_config_load(path, &c));
    lk_graph *g = lk_graph_new();
    lk_net net = lk_net_root(g);
    lk_unet_extra extra = LK_UNET_PLAIN;
    if (c.text_time) {
        extra.text_embeds = input(g, "text_embeds", LK_SHAPE(1, 1280));
        extra.time_ids = input(g, "time_ids", LK_SHAPE(1, (c.add_in_dim - 1280) / c.add_time_dim));
    }
    lk_val y = lk_unet2d(&net, &c, input(g, "x", LK_SHAPE(1, c.in_channels, 64, 72)), input(g, "t", LK_SHAPE(1)), input(g, "ctx", LK_SHAPE(1, 77, c.context[0])), extra);
    CHECK_OK(lk_graph_error(g));
    CHECK(lk_shape_eq(lk_shape_of(g, y), LK_SHAPE(1, 4, 64, 72)));
    CHECK_MSG(parameters(g) == want, "%s: %lld parameters, want %lld", path, (long long)parameters(g), (long long)want);
    lk_graph_free(g);
}
TEST(unet_sd15)    { count_unet("models/configs/sd15_unet.json", 859520964); }
TEST(unet_sd21)    { count_unet("models/configs/sd21_unet.json", 865910724); }
TEST(unet_sdxl)    { count_unet("models/configs/sdxl_unet.json", 2567463684); }
TEST(unet_refiner) { count_unet("models/configs/sdxl_refiner_unet.json", 2259526660); }

static void count_vae(const char *path, int64_t latents, int64_t want) {
    lk_vae_config c;
    CHECK_OK(lk_vae_config_load(path, &c));
    lk_graph *g = lk_graph_new();
    lk_net net = lk_net_root(g);
    lk_val m = lk_vae_encode(&net, &c, input(g, "image", LK_SHAPE(1, 3, 64, 96)));
    lk_val y = lk_vae_decode(&net, &c, lk_vae_sample(g, m, input(g, "noise", LK_SHAPE(1, latents, 8, 12))));
    CHECK_OK(lk_graph_error(g));
    CHECK(lk_shape_eq(lk_shape_of(g, m), LK_SHAPE(1, 2 * latents, 8, 12)) && lk_shape_eq(lk_shape_of(g, y), LK_SHAPE(1, 3, 64, 96)));
    CHECK_MSG(parameters(g) == want, "%s: %lld parameters, want %lld", path, (long long)parameters(g), (long long)want);
    lk_graph_free(g);
}
TEST(vae_sd15) { count_vae("models/configs/sd15_vae.json", 4, 83653863); }
TEST(vae_flux) { count_vae("models/configs/flux_vae.json", 16, 83819683); }

static void count_text(const char *path, int64_t want) {
    lk_clip_text_config c;
    CHECK_OK(lk_clip_text_config_load(path, &c));
    lk_graph *g = lk_graph_new();
    lk_net net = lk_net_root(g);
    lk_clip_text(&net, &c, lk_input(g, "ids", LK_I64, LK_SHAPE(2, 77)), lk_input(g, "pool", LK_I64, LK_SHAPE(2)));
    CHECK_OK(lk_graph_error(g));
    CHECK_MSG(parameters(g) == want, "%s: %lld parameters, want %lld", path, (long long)parameters(g), (long long)want);
    lk_graph_free(g);
}
TEST(clip_l_text)    { count_text("models/configs/clip_vit_l14_text.json", 123060480); }
TEST(clip_bigg_text) { count_text("models/configs/clip_bigg_text.json", 694659840); }

TEST(clip_h_vision) {
    lk_clip_vision_config c;
    CHECK_OK(lk_clip_vision_config_load("models/configs/clip_vit_h14_vision.json", &c));
    lk_graph *g = lk_graph_new();
    lk_net net = lk_net_root(g);
    lk_clip_vision(&net, &c, input(g, "pixels", LK_SHAPE(1, 3, 224, 224)));
    CHECK_OK(lk_graph_error(g));
    CHECK_MSG(parameters(g) == 632076800, "%lld parameters", (long long)parameters(g));
    lk_graph_free(g);
}
