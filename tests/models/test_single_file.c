/* Single-file checkpoints: names of the public files and what diffusers calls them (read off SD 1.5, SD 2.1 and SDXL), fused and transposed
 * tensors, refusals. Whole models beside diffusers' own converter: tests/peers/single_file.py. */
#include "tests/lib/lk_test.h"
#include "models/single_file.h"

#define U "model.diffusion_model."
#define V "first_stage_model."
static const struct { const char *theirs, *component, *ours; } sd15[] = {
    { U "input_blocks.0.0.weight", "unet", "conv_in.weight" }, { U "time_embed.2.bias", "unet", "time_embedding.linear_2.bias" },
    { U "input_blocks.1.0.in_layers.0.weight", "unet", "down_blocks.0.resnets.0.norm1.weight" }, { U "input_blocks.2.1.proj_in.weight", "unet", "down_blocks.0.attentions.1.proj_in.weight" },
    { U "input_blocks.3.0.op.weight", "unet", "down_blocks.0.downsamplers.0.conv.weight" }, { U "input_blocks.4.0.skip_connection.weight", "unet", "down_blocks.1.resnets.0.conv_shortcut.weight" },
    { U "input_blocks.11.0.emb_layers.1.weight", "unet", "down_blocks.3.resnets.1.time_emb_proj.weight" }, { U "middle_block.1.transformer_blocks.0.attn2.to_k.weight", "unet", "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight" },
    { U "middle_block.2.out_layers.3.weight", "unet", "mid_block.resnets.1.conv2.weight" }, { U "output_blocks.2.1.conv.weight", "unet", "up_blocks.0.upsamplers.0.conv.weight" },
    { U "output_blocks.5.2.conv.weight", "unet", "up_blocks.1.upsamplers.0.conv.weight" }, { U "output_blocks.5.1.norm.weight", "unet", "up_blocks.1.attentions.2.norm.weight" },
    { U "output_blocks.11.0.in_layers.2.weight", "unet", "up_blocks.3.resnets.2.conv1.weight" }, { U "out.2.weight", "unet", "conv_out.weight" },
    { V "encoder.down.1.block.0.nin_shortcut.weight", "vae", "encoder.down_blocks.1.resnets.0.conv_shortcut.weight" }, { V "encoder.down.0.downsample.conv.bias", "vae", "encoder.down_blocks.0.downsamplers.0.conv.bias" },
    { V "decoder.up.3.block.2.conv1.weight", "vae", "decoder.up_blocks.0.resnets.2.conv1.weight" }, { V "decoder.up.1.upsample.conv.weight", "vae", "decoder.up_blocks.2.upsamplers.0.conv.weight" },
    { V "encoder.mid.attn_1.proj_out.weight", "vae", "encoder.mid_block.attentions.0.to_out.0.weight" }, { V "decoder.mid.block_2.norm2.bias", "vae", "decoder.mid_block.resnets.1.norm2.bias" },
    { V "decoder.norm_out.weight", "vae", "decoder.conv_norm_out.weight" }, { V "post_quant_conv.weight", "vae", "post_quant_conv.weight" },
    { "cond_stage_model.transformer.text_model.final_layer_norm.bias", "text_encoder", "text_model.final_layer_norm.bias" },
    { "model_ema.decay", NULL, NULL }, { "sqrt_alphas_cumprod", NULL, NULL }, { "cond_stage_model.transformer.text_model.embeddings.position_ids", NULL, NULL } };
static const struct { const char *theirs, *component, *ours; } sdxl[] = {
    { U "label_emb.0.2.weight", "unet", "add_embedding.linear_2.weight" }, { U "input_blocks.3.0.op.weight", "unet", "down_blocks.0.downsamplers.0.conv.weight" },
    { U "input_blocks.7.1.transformer_blocks.9.ff.net.0.proj.weight", "unet", "down_blocks.2.attentions.0.transformer_blocks.9.ff.net.0.proj.weight" },
    { "conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight", "text_encoder", "text_model.embeddings.token_embedding.weight" },
    { "conditioner.embedders.1.model.positional_embedding", "text_encoder_2", "text_model.embeddings.position_embedding.weight" },
    { "conditioner.embedders.1.model.transformer.resblocks.31.mlp.c_proj.weight", "text_encoder_2", "text_model.encoder.layers.31.mlp.fc2.weight" },
    { "conditioner.embedders.1.model.logit_scale", NULL, NULL } };

static const lk_st_item *find(const lk_single_file *f, const char *component, const char *name) {
    for (int i = 0; i < f->n; i++)
        for (int k = 0; k < f->part[i].n; k++) if (!strcmp(f->part[i].name, component) && !strcmp(f->part[i].items[k].name, name)) return &f->part[i].items[k];
    return NULL;
}
static lk_st *file_of(lk_st_item *items, int n) {
    char *path = lk_xfmt("%s/x.safetensors", lk_test_dir());
    lk_st *st = NULL;
    CHECK_OK(lk_st_write(path, items, n, NULL));
    CHECK_OK(lk_st_open(path, &st));
    free(path);
    return st;
}
TEST(public_names) {
    enum { A = sizeof sd15 / sizeof *sd15, B = sizeof sdxl / sizeof *sdxl };
    for (int which = 0; which < 2; which++) {
        int n = which ? B : A, left = 0;
        float value[64];
        lk_st_item items[64] = { 0 };
        for (int i = 0; i < n; i++) {
            value[i] = (float)i;
            items[i] = (lk_st_item){ .name = which ? sdxl[i].theirs : sd15[i].theirs, .dtype = LK_ST_F32, .rank = 4, .d = { 1, 1, 1, 1 }, .data = &value[i] };
        }
        lk_st *st = file_of(items, n);
        lk_arena *a = lk_arena_new();
        lk_single_file f;
        CHECK_OK(lk_single_file_read(st, a, &f));
        for (int i = 0; i < n; i++) {
            const char *component = which ? sdxl[i].component : sd15[i].component, *ours = which ? sdxl[i].ours : sd15[i].ours;
            if (!component) { left++; continue; }
            const lk_st_item *got = find(&f, component, ours);
            CHECK_MSG(got && *(const float *)got->data == (float)i, "%s: no %s in %s, or another tensor's values", items[i].name, ours, component);
            if (got) CHECK(got->rank == (strstr(ours, "to_out.0") && which == 0 ? 2 : 4));
        }
        CHECK(f.left_out == left);
        lk_arena_free(a);
        lk_st_close(st);
    }
}
TEST(fused_and_transposed) {
    float w[24], b[6], p[6] = { 0, 1, 2, 3, 4, 5 }, one = 1;
    for (int i = 0; i < 24; i++) w[i] = (float)i;
    for (int i = 0; i < 6; i++) b[i] = (float)(100 + i);
#define O "conditioner.embedders.1.model."
    lk_st_item items[] = { { U "out.0.bias", LK_ST_F32, 1, { 1 }, &one }, { U "input_blocks.2.0.op.weight", LK_ST_F32, 1, { 1 }, &one }, { O "transformer.resblocks.0.attn.in_proj_weight", LK_ST_F32, 2, { 6, 4 }, w },
                           { O "transformer.resblocks.0.attn.in_proj_bias", LK_ST_F32, 1, { 6 }, b }, { O "text_projection", LK_ST_F32, 2, { 2, 3 }, p } };
    lk_st *st = file_of(items, 5);
    lk_arena *a = lk_arena_new();
    lk_single_file f;
    CHECK_OK(lk_single_file_read(st, a, &f));
    const lk_st_item *k = find(&f, "text_encoder_2", "text_model.encoder.layers.0.self_attn.k_proj.weight"), *v = find(&f, "text_encoder_2", "text_model.encoder.layers.0.self_attn.v_proj.bias"),
                     *t = find(&f, "text_encoder_2", "text_projection.weight");
    CHECK(k && k->d[0] == 2 && k->d[1] == 4 && !memcmp(k->data, w + 8, 8 * sizeof *w));
    CHECK(v && v->d[0] == 2 && !memcmp(v->data, b + 4, 2 * sizeof *b));
    CHECK(t && t->d[0] == 3 && t->d[1] == 2 && !memcmp(t->data, (float[]){ 0, 3, 1, 4, 2, 5 }, sizeof p));
    char *dir = lk_xfmt("%s/out", lk_test_dir()), *path = lk_xfmt("%s/text_encoder_2/model.safetensors", dir);
    CHECK_OK(lk_single_file_write(&f, dir));
    lk_st *back = NULL;
    CHECK_OK(lk_st_open(path, &back));
    CHECK(back && lk_st_count(back) == 7);
    lk_st_close(back);
    free(dir); free(path);
    lk_arena_free(a);
    lk_st_close(st);
}
static void refused(lk_st_item *items, int n, const char *part) {
    lk_st *st = file_of(items, n);
    lk_arena *a = lk_arena_new();
    lk_single_file f;
    CHECK_FAILS(lk_single_file_read(st, a, &f), part);
    lk_arena_free(a);
    lk_st_close(st);
}
TEST(refusals) {
    float x[4] = { 0 };
    lk_st_item good = { U "input_blocks.3.0.op.weight", LK_ST_F32, 1, { 1 }, x };
    refused((lk_st_item[]){ { "conv_in.weight", LK_ST_F32, 1, { 1 }, x } }, 1, "not a single-file checkpoint");
    refused((lk_st_item[]){ good, { "first_stage_model.decoder.up.2147483647.block.0.conv1.weight", LK_ST_F32, 1, { 1 }, x } }, 2, "has a number that no block of a model has");
    refused((lk_st_item[]){ good, { "first_stage_model.decoder.up.-5.block.0.conv1.weight", LK_ST_F32, 1, { 1 }, x } }, 2, "has a number that no block of a model has");
    refused((lk_st_item[]){ good, { U "input_blocks.1.0.in_layers.1.weight", LK_ST_F32, 1, { 1 }, x } }, 2, "'" U "input_blocks.1.0.in_layers.1.weight' has no home");
    refused((lk_st_item[]){ good, { "first_stage_modle.encoder.conv_in.weight", LK_ST_F32, 1, { 1 }, x } }, 2, "beginning as 'first_stage_model.'");
    refused((lk_st_item[]){ good, { O "transformer.resblocks.0.attn.in_proj_weight", LK_ST_F32, 1, { 4 }, x } }, 2, "three times as many rows");
    refused((lk_st_item[]){ good, { O "text_projection", LK_ST_F32, 1, { 4 }, x } }, 2, "a matrix was expected");
    refused((lk_st_item[]){ { U "input_blocks.1.0.op.weight", LK_ST_F32, 1, { 1 }, x } }, 1, "without layers");
    refused((lk_st_item[]){ { U "input_blocks.0.0.op.weight", LK_ST_F32, 1, { 1 }, x } }, 1, "without layers");
}
