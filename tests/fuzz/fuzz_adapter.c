/* Adapter files and single-file checkpoints: what is read has deltas of its size and can be written in every format or is refused by name. */
#include "tests/fuzz/fuzz.h"
#include "models/lora_file.h"
#include "models/single_file.h"

const char fuzz_name[] = "x.safetensors";
static float x[64];
static void seed(fuzz_add add, const char *path, const lk_st_item *items, int n, const char *const *meta) {
    char *s;
    size_t size;
    PROMISE(!lk_st_write(path, items, n, meta) && !lk_read_file(path, &s, &size));
    add(s, size);
    free(s);
}
void fuzz_seeds(fuzz_add add, const char *dir) {
    char *p = lk_xfmt("%s/seed.safetensors", dir);
    for (int i = 0; i < 64; i++) x[i] = (float)(i % 7) - 3;
#define F LK_ST_F32
    seed(add, p, (lk_st_item[]){ { "base_model.model.a.to_q.lora_A.weight", F, 2, { 2, 4 }, x }, { "base_model.model.a.to_q.lora_B.weight", F, 2, { 3, 2 }, x } }, 2,
         (const char *[]){ "adapter_config", "{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 4, \"alpha_pattern\": {\"to_q\": 3}}", NULL });
    seed(add, p, (lk_st_item[]){ { "base_model.model.a.q.lora_A.weight", F, 2, { 1, 2 }, x }, { "base_model.model.a.q.lora_B.weight", F, 2, { 2, 1 }, x }, { "base_model.model.a.conv_in.weight", F, 2, { 2, 2 }, x },
                                 { "base_model.model.mid.norm.bias", F, 1, { 2 }, x } }, 4,
         (const char *[]){ "adapter_config", "{\"peft_type\": \"LORA\", \"r\": 1, \"lora_alpha\": 4, \"modules_to_save\": [\"conv_in\", \"mid\"]}", NULL });
    seed(add, p, (lk_st_item[]){ { "base_model.model.a.q.lora_A.weight", F, 2, { 1, 2 }, x }, { "base_model.model.a.q.lora_B.weight", F, 2, { 2, 1 }, x }, { "base_model.model.a.q.base_layer.bias", F, 1, { 2 }, x },
                                 { "base_model.model.m.bias", F, 1, { 2 }, x }, { "base_model.model.m.modules_to_save.bias", F, 1, { 2 }, x } }, 5,
         (const char *[]){ "adapter_config", "{\"peft_type\": \"LORA\", \"r\": 1, \"lora_alpha\": 4, \"bias\": \"all\", \"modules_to_save\": [\"m\"]}", NULL });
    seed(add, p, (lk_st_item[]){ { "unet.a.conv1.lora.down.weight", F, 4, { 2, 2, 3, 3 }, x }, { "unet.a.conv1.lora.up.weight", F, 4, { 4, 2, 1, 1 }, x }, { "unet.b.lora_A.weight", F, 2, { 1, 2 }, x },
                                 { "unet.b.lora_B.weight", F, 2, { 2, 1 }, x } }, 4, (const char *[]){ "lora_adapter_metadata", "{\"unet.r\": 2, \"unet.lora_alpha\": 1.5}", NULL });
    seed(add, p, (lk_st_item[]){ { "unet.b.lora_A.weight", F, 2, { 1, 2 }, x }, { "unet.b.lora_B.weight", F, 2, { 2, 1 }, x }, { "text_encoder.b.lora_A.weight", F, 2, { 1, 3 }, x }, { "text_encoder.b.lora_B.weight", F, 2, { 2, 1 }, x },
                                 { "text_encoder_2.b.lora_A.weight", F, 2, { 1, 3 }, x }, { "text_encoder_2.b.lora_B.weight", F, 2, { 2, 1 }, x } }, 6,
         (const char *[]){ "lora_adapter_metadata", "{\"unet.r\": 2, \"unet.lora_alpha\": 1.5, \"text_encoder.lora_alpha\": 3}", NULL });
    seed(add, p, (lk_st_item[]){ { "lora_unet_double_blocks_1_img_attn_qkv.lora_down.weight", F, 2, { 2, 4 }, x }, { "lora_unet_double_blocks_1_img_attn_qkv.lora_up.weight", F, 2, { 12, 2 }, x },
                                 { "lora_unet_double_blocks_1_img_attn_qkv.alpha", F, 0, { 0 }, x }, { "lora_unet_double_blocks_1_img_attn_qkv.dora_scale", F, 2, { 12, 1 }, x } }, 4, NULL);
    seed(add, p, (lk_st_item[]){ { "lora_te_a.hada_w1_a", F, 2, { 4, 2 }, x }, { "lora_te_a.hada_w1_b", F, 2, { 2, 3 }, x }, { "lora_te_a.hada_w2_a", F, 2, { 4, 2 }, x }, { "lora_te_a.hada_w2_b", F, 2, { 2, 3 }, x },
                                 { "lora_te_a.alpha", F, 0, { 0 }, x } }, 5, NULL);
    seed(add, p, (lk_st_item[]){ { "lora_unet_a.lokr_w1", F, 2, { 2, 2 }, x }, { "lora_unet_a.lokr_w2_a", F, 2, { 3, 1 }, x }, { "lora_unet_a.lokr_w2_b", F, 2, { 1, 4 }, x }, { "lora_unet_a.alpha", F, 0, { 0 }, x } }, 4, NULL);
    seed(add, p, (lk_st_item[]){ { "lora_unet_a.hada_w1_a", F, 2, { 2, 3 }, x }, { "lora_unet_a.hada_w1_b", F, 2, { 2, 2 }, x }, { "lora_unet_a.hada_t1", F, 4, { 2, 2, 1, 2 }, x }, { "lora_unet_a.hada_w2_a", F, 2, { 3, 2 }, x },
                                 { "lora_unet_a.hada_w2_b", F, 2, { 2, 4 }, x }, { "lora_unet_a.alpha", F, 0, { 0 }, x } }, 6, NULL);
    seed(add, p, (lk_st_item[]){ { "lora_unet_a.lokr_w1_a", F, 2, { 2, 2 }, x }, { "lora_unet_a.lokr_w1_b", F, 2, { 2, 3 }, x }, { "lora_unet_a.lokr_w2_a", F, 2, { 2, 3 }, x }, { "lora_unet_a.lokr_w2_b", F, 2, { 2, 2 }, x },
                                 { "lora_unet_a.lokr_t2", F, 4, { 2, 2, 1, 2 }, x } }, 5, NULL);
    seed(add, p, (lk_st_item[]){ { "lora_unet_a.lokr_w1", F, 2, { 2, 2 }, x }, { "lora_unet_a.lokr_w2", F, 2, { 2, 3 }, x }, { "lora_unet_a.dora_scale", F, 2, { 1, 6 }, x } }, 3, NULL);
    seed(add, p, (lk_st_item[]){ { "lora_unet_a.lora_down.weight", F, 4, { 2, 3, 1, 1 }, x }, { "lora_unet_a.lora_up.weight", F, 4, { 4, 2, 1, 1 }, x }, { "lora_unet_a.dora_scale", F, 4, { 4, 1, 1, 1 }, x } }, 3, NULL);
    seed(add, p, (lk_st_item[]){ { "lora_unet_a.lora_down.weight", F, 4, { 2, 3, 1, 1 }, x }, { "lora_unet_a.lora_mid.weight", F, 4, { 2, 2, 1, 3 }, x }, { "lora_unet_a.lora_up.weight", F, 4, { 4, 2, 1, 1 }, x } }, 3, NULL);
    seed(add, p, (lk_st_item[]){ { "lora_unet_single_blocks_0_linear1.hada_w1_a", F, 2, { 14, 1 }, x }, { "lora_unet_single_blocks_0_linear1.hada_w1_b", F, 2, { 1, 2 }, x },
                                 { "lora_unet_single_blocks_0_linear1.hada_w2_a", F, 2, { 14, 1 }, x }, { "lora_unet_single_blocks_0_linear1.hada_w2_b", F, 2, { 1, 2 }, x } }, 4, NULL);
    seed(add, p, (lk_st_item[]){ { "base_model.model.a.g.lora_A.weight", F, 4, { 4, 2, 1, 2 }, x }, { "base_model.model.a.g.lora_B.weight", F, 4, { 6, 2, 1, 1 }, x }, { "base_model.model.a.g.lora_B.bias", F, 1, { 6 }, x } }, 3,
         (const char *[]){ "adapter_config", "{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 4, \"lora_bias\": true, \"alpha_pattern\": {\"(?:a|b)\\\\.[\\\\d.g]+?\": 3}}", NULL });
    seed(add, p, (lk_st_item[]){ { "model.diffusion_model.input_blocks.2.0.op.weight", F, 1, { 1 }, x }, { "first_stage_model.decoder.up.1.block.0.conv1.weight", F, 1, { 1 }, x },
                                 { "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight", F, 2, { 6, 2 }, x }, { "conditioner.embedders.1.model.text_projection", F, 2, { 2, 3 }, x } }, 4, NULL);
    free(p);
}
/* The header ends after the last '}' that closes it. */
void fuzz_mend(unsigned char *s, size_t n) {
    int depth = 0;
    for (size_t i = 8; i < n; i++) {
        depth += s[i] == '{'; depth -= s[i] == '}';
        if (depth) continue;
        uint64_t header = i + 1 - 8;
        memcpy(s, &header, 8);
        return;
    }
}
static bool single_file(const char *path) {
    lk_st *st;
    lk_single_file f;
    if (fuzz_refused(lk_st_open(path, &st), fuzz_name)) return false;
    lk_arena *a = lk_arena_new();
    bool refused = fuzz_refused(lk_single_file_read(st, a, &f), fuzz_name);
    char *out = lk_xfmt("%s.out", path);
    if (!refused) lk_err_free(lk_single_file_write(&f, out));        /* two keys of one name are refused there */
    free(out);
    lk_arena_free(a);
    lk_st_close(st);
    return !refused;
}
bool fuzz_one(const char *path, const unsigned char *bytes, size_t n) {
    (void)bytes; (void)n;
    bool accepted = single_file(path);
    lk_lora_file *f;
    if (fuzz_refused(lk_lora_file_read(path, &f), fuzz_name)) { PROMISE(!f); return accepted; }
    for (int i = 0; i < f->n; i++) {
        int64_t rows, columns;
        lk_lora_part_size(&f->part[i], &rows, &columns);
        PROMISE(rows >= 0 && columns >= 0);
        if (rows > 2000 || columns > 2000) continue;
        double *d = lk_xcalloc((size_t)(rows * columns) + 1, sizeof *d);
        lk_lora_part_delta(f, &f->part[i], d);
        float *w = lk_xcalloc((size_t)(rows * columns) + 1, sizeof *w);
        fuzz_refused(lk_lora_part_merge(f, &f->part[i], .5, w), fuzz_name);
        free(w);
        free(d);
    }
    static const lk_lora_format formats[] = { LK_FORMAT_PEFT, LK_FORMAT_DIFFUSERS, LK_FORMAT_KOHYA, LK_FORMAT_KOHYA_FLUX };
    char *out = lk_xfmt("%s.again.safetensors", path);
    for (size_t k = 0; k < sizeof formats / sizeof *formats; k++) fuzz_refused(lk_lora_file_save(f, out, formats[k], false), fuzz_name);
    free(out);
    lk_lora_file_free(f);
    return true;
}
