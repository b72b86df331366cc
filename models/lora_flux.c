/* Kohya's FLUX adapters carry the original code's block names, where query, key and value (and in single blocks the MLP's first layer) are
 * one fused matrix. Each is split into diffusers' modules here: A is common to them, B is cut by rows, so nothing is rounded. */
#include "models/lora_internal.h"
#include <stdio.h>
#include <string.h>

/* The fused rows go to `to` in order: equal parts of `in` rows each (the stream's width), the last takes what is left. */
static const struct { const char *block, *fused, *ours, *to[5]; } rows[] = {
    { "double_blocks", "img_attn_qkv", "transformer_blocks", { "attn.to_q", "attn.to_k", "attn.to_v" } },
    { "double_blocks", "txt_attn_qkv", "transformer_blocks", { "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj" } },
    { "double_blocks", "img_attn_proj", "transformer_blocks", { "attn.to_out.0" } },
    { "double_blocks", "txt_attn_proj", "transformer_blocks", { "attn.to_add_out" } },
    { "double_blocks", "img_mlp_0", "transformer_blocks", { "ff.net.0.proj" } },
    { "double_blocks", "img_mlp_2", "transformer_blocks", { "ff.net.2" } },
    { "double_blocks", "txt_mlp_0", "transformer_blocks", { "ff_context.net.0.proj" } },
    { "double_blocks", "txt_mlp_2", "transformer_blocks", { "ff_context.net.2" } },
    { "double_blocks", "img_mod_lin", "transformer_blocks", { "norm1.linear" } },
    { "double_blocks", "txt_mod_lin", "transformer_blocks", { "norm1_context.linear" } },
    { "single_blocks", "linear1", "single_transformer_blocks", { "attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp" } },
    { "single_blocks", "linear2", "single_transformer_blocks", { "proj_out" } },
    { "single_blocks", "modulation_lin", "single_transformer_blocks", { "norm.linear" } } };

/* The table's row for "lora_unet_double_blocks_7_img_attn_qkv", and 7; -1 for any other name. */
static int row_of(const char *name, int *block) {
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char form[96];
        int n = 0;
        snprintf(form, sizeof form, "lora_unet_%s_%%d_%s%%n", rows[i].block, rows[i].fused);
        if (sscanf(name, form, block, &n) == 1 && n && !name[n]) return (int)i;
    }
    return -1;
}

int lk_lora_flux_parts(const char *name) {
    int block, row = row_of(name, &block), n = 0;
    if (row < 0) return 1;
    while (n < 5 && rows[row].to[n]) n++;
    return n;
}

static lk_lora_part cut(const lk_lora_part *whole, const char *name, int64_t first, int64_t n) {
    lk_lora_part p = { .name = name, .r = whole->r, .alpha = whole->alpha };
    p.t[LK_SLOT_A] = whole->t[LK_SLOT_A];
    p.t[LK_SLOT_B] = (lk_lora_array){ LK_SHAPE(n, whole->r), whole->t[LK_SLOT_B].x + first * whole->r };
    if (whole->t[LK_SLOT_MAGNITUDE].x) p.t[LK_SLOT_MAGNITUDE] = (lk_lora_array){ LK_SHAPE(n), whole->t[LK_SLOT_MAGNITUDE].x + first };
    return p;
}

lk_err lk_lora_flux_split(lk_lora_file *f, const lk_lora_part *whole, lk_lora_part *out) {
    int block, row = row_of(whole->name, &block), n = lk_lora_flux_parts(whole->name);
    if (row < 0) { *out = *whole; return LK_OK; }
    f->component = "transformer";
    if (!whole->t[LK_SLOT_B].x) return lk_error(LK_EINPUT, "%s: '%s': LoHa and LoKr of fused matrices cannot be split", f->path, whole->name);
    int64_t all = whole->t[LK_SLOT_B].s.d[0], width = n == 1 ? all : whole->t[LK_SLOT_A].s.d[1], last = all - (n - 1) * width;
    if (last < 1 || (n == 3 && last != width))
        return lk_error(LK_ESHAPE, "%s: '%s' has %lld rows over %lld columns; %d matrices of that width are fused in it", f->path, whole->name, (long long)all, (long long)width, n);
    for (int i = 0; i < n; i++)
        out[i] = cut(whole, lk_fmt(f->arena, "%s.%d.%s", rows[row].ours, block, rows[row].to[i]), i * width, i < n - 1 ? width : last);
    return LK_OK;
}
