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
TEST(vae_sdxl) { count_vae("models/configs/sdxl_vae.json", 4, 83653863); }
TEST(vae_sd3)  { count_vae("models/configs/sd3_vae.json", 16, 83819683); }
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

static void count_vision(const char *path, int64_t want) {
    lk_clip_vision_config c;
    CHECK_OK(lk_clip_vision_config_load(path, &c));
    lk_graph *g = lk_graph_new();
    lk_net net = lk_net_root(g);
    lk_clip_vision(&net, &c, input(g, "pixels", LK_SHAPE(1, 3, 224, 224)));
    CHECK_OK(lk_graph_error(g));
    CHECK_MSG(parameters(g) == want, "%s: %lld parameters, want %lld", path, (long long)parameters(g), (long long)want);
    lk_graph_free(g);
}
TEST(clip_h_vision) { count_vision("models/configs/clip_vit_h14_vision.json", 632076800); }
TEST(clip_l_vision) { count_vision("models/configs/clip_vit_l14_vision.json", 303966208); }

static void count_dinov2(const char *path, int64_t want) {
    lk_dinov2_config c;
    CHECK_OK(lk_dinov2_config_load(path, &c));
    lk_graph *g = lk_graph_new();
    lk_net net = lk_net_root(g);
    lk_dinov2(&net, &c, input(g, "pixels", LK_SHAPE(1, 3, 224, 224)));
    CHECK_OK(lk_graph_error(g));
    CHECK_MSG(parameters(g) == want, "%s: %lld parameters, want %lld", path, (long long)parameters(g), (long long)want);
    lk_graph_free(g);
}
TEST(dinov2_base)  { count_dinov2("models/configs/dinov2_base.json", 86580480); }
TEST(dinov2_large) { count_dinov2("models/configs/dinov2_large.json", 304368640); }

static void check_count(const char *path, lk_graph *g, int64_t want) {
    CHECK_OK(lk_graph_error(g));
    CHECK_MSG(parameters(g) == want, "%s: %lld parameters, want %lld", path, (long long)parameters(g), (long long)want);
    lk_graph_free(g);
}

TEST(flux1_dev) {
    const char *path = "models/configs/flux1_dev.json";
    lk_dit_config c;
    CHECK_OK(lk_flux_config_load(path, &c));
    lk_graph *g = lk_graph_new();
    lk_net net = lk_net_root(g);
    lk_flux_transformer(&net, &c, input(g, "x", LK_SHAPE(1, 64, 64)), input(g, "ctx", LK_SHAPE(1, 16, 4096)), input(g, "p", LK_SHAPE(1, 768)), input(g, "t", LK_SHAPE(1)),
                        input(g, "ii", LK_SHAPE(64, 3)), input(g, "ti", LK_SHAPE(16, 3)), input(g, "guidance", LK_SHAPE(1)));
    check_count(path, g, 11901408320);
}
TEST(qwen_image) {
    const char *path = "models/configs/qwen_image.json";
    lk_dit_config c;
    CHECK_OK(lk_qwenimage_config_load(path, &c));
    lk_graph *g = lk_graph_new();
    lk_net net = lk_net_root(g);
    lk_qwenimage_transformer(&net, &c, input(g, "x", LK_SHAPE(1, 64, 64)), input(g, "ctx", LK_SHAPE(1, 16, 3584)), LK_NONE, input(g, "t", LK_SHAPE(1)), (int64_t[][3]){ { 1, 8, 8 } }, 1);
    check_count(path, g, 20430401088);
}
/* The stored position table counts here; the published numbers leave it out. */
static void count_sd3(const char *path, int64_t published, int64_t table) {
    lk_dit_config c;
    CHECK_OK(lk_sd3_config_load(path, &c));
    lk_graph *g = lk_graph_new();
    lk_net net = lk_net_root(g);
    lk_sd3_transformer(&net, &c, input(g, "x", LK_SHAPE(1, 16, 32, 48)), input(g, "ctx", LK_SHAPE(1, 16, 4096)), input(g, "p", LK_SHAPE(1, 2048)), input(g, "t", LK_SHAPE(1)));
    check_count(path, g, published + table);
}
TEST(sd3_medium)  { count_sd3("models/configs/sd3_medium.json", 2028328000, 192 * 192 * 1536); }
TEST(sd35_medium) { count_sd3("models/configs/sd35_medium.json", 2243171520, 384 * 384 * 1536); }
TEST(sd35_large)  { count_sd3("models/configs/sd35_large.json", 8056627520, 192 * 192 * 2432); }

TEST(sd15_controlnet) {
    const char *path = "models/configs/sd15_controlnet.json";
    lk_unet_config c;
    CHECK_OK(lk_controlnet_config_load(path, &c));
    lk_graph *g = lk_graph_new();
    lk_net net = lk_net_root(g);
    lk_control out = lk_controlnet(&net, &c, input(g, "x", LK_SHAPE(1, 4, 32, 40)), input(g, "t", LK_SHAPE(1)), input(g, "ctx", LK_SHAPE(1, 77, 768)),
                                   input(g, "image", LK_SHAPE(1, 3, 256, 320)), 1, false, LK_UNET_PLAIN);
    CHECK(out.n == 12);
    check_count(path, g, 361279120);
}
TEST(svd_unet) {
    const char *path = "models/configs/svd_unet.json";
    lk_svd_config c;
    CHECK_OK(lk_svd_config_load(path, &c));
    lk_graph *g = lk_graph_new();
    lk_net net = lk_net_root(g);
    lk_unet_svd(&net, &c, input(g, "x", LK_SHAPE(1, 5, 8, 32, 40)), input(g, "t", LK_SHAPE(1)), input(g, "ctx", LK_SHAPE(1, 1, 1024)), input(g, "ids", LK_SHAPE(1, 3)));
    check_count(path, g, 1524623082);
}

/* ---- what a config may not say -------------------------------------------------------------------------------------- */

/* The text with `from` replaced, written to a file of its own. */
static const char *edited(const char *path, const char *from, const char *to) {
    static char out[512];
    char *text;
    size_t n;
    CHECK_OK(lk_read_file(path, &text, &n));
    char *at = strstr(text, from);
    CHECK_MSG(at != NULL, "%s holds no %s", path, from);
    lk_buf b = { 0 };
    if (at) { lk_buf_add(&b, text, (size_t)(at - text)); lk_buf_fmt(&b, "%s%s", to, at + strlen(from)); }
    snprintf(out, sizeof out, "%s/config.json", lk_test_dir());
    CHECK_OK(lk_write_file_atomic(out, b.s, b.n));
    free(b.s);
    free(text);
    return out;
}

TEST(unsupported_values_are_refused_by_name) {
    const char *sdxl = "models/configs/sdxl_unet.json";
    lk_unet_config c;
    const char *name;
    CHECK_FAILS(lk_unet_config_load(edited(sdxl, "\"DownBlock2D\"", "\"KDownBlock2D\""), &c), "'KDownBlock2D' is not implemented; the nearest known one is 'DownBlock2D'");
    CHECK_FAILS(lk_unet_config_load(edited(sdxl, "\"text_time\"", "\"image\""), &c), "addition_embed_type");
    CHECK_FAILS(lk_unet_config_load(edited(sdxl, "\"resnet_time_scale_shift\": \"default\"", "\"resnet_time_scale_shift\": \"scale_shift\""), &c), "scale_shift");
    CHECK_FAILS(lk_unet_config_load(edited(sdxl, "\"num_attention_heads\": null", "\"num_attention_heads\": 8"), &c), "num_attention_heads");
    CHECK_FAILS(lk_unet_config_load(edited(sdxl, "\"sample_size\"", "\"sampel_size\""), &c), "the nearest known one is 'sample_size'");
    CHECK_FAILS(lk_unet_config_load(edited(sdxl, "[5, 10, 20]", "[5, 10, 21]"), &c), "not divisible");
    CHECK_FAILS(lk_unet_config_load(edited(sdxl, "[320, 640, 1280]", "[320, 640]"), &c), "down_block_types");
    CHECK_FAILS(lk_unet_config_load("models/configs/sd15_vae.json", &c), "a config of class 'AutoencoderKL'; expected 'UNet2DConditionModel'");
    CHECK_FAILS(lk_model_class(edited(sdxl, "UNet2DConditionModel", "UNet2DConditonModel"), &name), "the nearest known one is 'UNet2DConditionModel'");
    CHECK_OK(lk_unet_config_load(edited(sdxl, "\"center_input_sample\": false", "\"center_input_sample\": true, \"a_new_switch\": null"), &c));
    CHECK(c.center_input);
}

TEST(pooled_positions_of_clip) {
    const int64_t ids[] = { 7, 3, 9, 9, 1,   9, 5, 5, 2, 2 };
    int64_t at[2];
    lk_clip_text_config c = { .eos_token_id = 2 };           /* 2: the position of the largest id, first of equals */
    lk_clip_pool_index(&c, ids, 2, 5, at);
    CHECK(at[0] == 2 && at[1] == 5);
    c.eos_token_id = 5;                                      /* else the first of that id; 0 where absent */
    lk_clip_pool_index(&c, ids, 2, 5, at);
    CHECK(at[0] == 0 && at[1] == 6);
}
