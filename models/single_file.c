/* Single-file checkpoints. See single_file.h.
 *
 * In the original UNet a level's blocks are numbered through: input_blocks.{1 + i(L+1) + j} is down_blocks.i, layer j of L, and
 * output_blocks.{i(L+1) + j} is up_blocks.i. L is read off the first downsampler (".0.op"). */
#include "models/single_file.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { const char *theirs, *ours; } renaming;                     /* of the beginning of a name; ends with a NULL row */
static const renaming unet_stem[] = {
    { "time_embed.0.", "time_embedding.linear_1." }, { "time_embed.2.", "time_embedding.linear_2." }, { "input_blocks.0.0.", "conv_in." }, { "out.0.", "conv_norm_out." },
    { "out.2.", "conv_out." }, { "label_emb.weight", "class_embedding.weight" }, { "middle_block.1.", "mid_block.attentions.0." }, { NULL, NULL } };
static const renaming resnet_parts[] = {
    { "in_layers.0.", "norm1." }, { "in_layers.2.", "conv1." }, { "emb_layers.1.", "time_emb_proj." }, { "out_layers.0.", "norm2." }, { "out_layers.3.", "conv2." },
    { "skip_connection.", "conv_shortcut." }, { NULL, NULL } };
static const renaming vae_stem[] = {
    { "quant_conv.", "quant_conv." }, { "post_quant_conv.", "post_quant_conv." }, { "encoder.conv_in.", "encoder.conv_in." }, { "decoder.conv_in.", "decoder.conv_in." },
    { "encoder.conv_out.", "encoder.conv_out." }, { "decoder.conv_out.", "decoder.conv_out." }, { "encoder.norm_out.", "encoder.conv_norm_out." },
    { "decoder.norm_out.", "decoder.conv_norm_out." }, { NULL, NULL } };
static const renaming vae_attention[] = {
    { "norm.", "group_norm." }, { "q.", "to_q." }, { "k.", "to_k." }, { "v.", "to_v." }, { "proj_out.", "to_out.0." }, { NULL, NULL } };
static const renaming vae_resnet[] = { { "nin_shortcut.", "conv_shortcut." }, { "norm", "norm" }, { "conv", "conv" }, { NULL, NULL } };
static const renaming open_clip_stem[] = {
    { "positional_embedding", "text_model.embeddings.position_embedding.weight" }, { "token_embedding.", "text_model.embeddings.token_embedding." },
    { "ln_final.", "text_model.final_layer_norm." }, { NULL, NULL } };
static const renaming open_clip_layer[] = {
    { "ln_1.", "layer_norm1." }, { "ln_2.", "layer_norm2." }, { "attn.out_proj.", "self_attn.out_proj." }, { "mlp.c_fc.", "mlp.fc1." }, { "mlp.c_proj.", "mlp.fc2." }, { NULL, NULL } };

/* Which component a key belongs to and how its inner name is spelt. An earlier row wins. */
typedef enum { UNET, VAE, CLIP, OPEN_CLIP, OPEN_CLIP_SHORT } spelling;      /* SHORT: without the last layer and the projection (SD 2) */
static const struct { const char *prefix; const char *component; spelling spelling; } homes[] = {
    { "model.diffusion_model.", "unet", UNET }, { "first_stage_model.", "vae", VAE }, { "cond_stage_model.transformer.", "text_encoder", CLIP },
    { "cond_stage_model.model.", "text_encoder", OPEN_CLIP_SHORT }, { "conditioner.embedders.0.transformer.", "text_encoder", CLIP },
    { "conditioner.embedders.1.model.", "text_encoder_2", OPEN_CLIP }, { "conditioner.embedders.0.model.", "text_encoder_2", OPEN_CLIP } };
enum { HOMES = sizeof homes / sizeof *homes };
/* Beginnings and ends of what only training or sampling needed. */
static const char *const leftovers[] = { "model_ema.", "first_stage_model.loss.", "betas", "alphas_cumprod", "sqrt_", "log_one_minus_", "posterior_", "denoiser.", "logvar", "scale_factor", NULL };
static const char *const leftover_ends[] = { ".position_ids", ".logit_scale", ".attn_mask", NULL };

typedef struct { const lk_st *st; lk_arena *arena; lk_single_file *out; int step, vae_levels, last_layer; bool sdxl; } reading;

/* ---- names ---------------------------------------------------------------------------------------------------------------- */
static const char *renamed(lk_arena *arena, const renaming *rows, const char *lead, const char *name) {      /* NULL: no row */
    for (; rows->theirs; rows++) if (lk_starts(name, rows->theirs)) return lk_fmt(arena, "%s%s%s", lead, rows->ours, name + strlen(rows->theirs));
    return NULL;
}
static const char *unet_name(const reading *r, const char *name) {
    lk_arena *a = r->arena;
    int i, slot, n = 0, step = r->step;
    const char *stem = renamed(a, unet_stem, "", name);
    if (stem) return stem;
    if (sscanf(name, "label_emb.0.%d.%n", &i, &n) == 1 && n && (i == 0 || i == 2)) return lk_fmt(a, "%s_embedding.linear_%d.%s", r->sdxl ? "add" : "class", i / 2 + 1, name + n);
    if (sscanf(name, "middle_block.%d.%n", &i, &n) == 1 && n && (i == 0 || i == 2)) return renamed(a, resnet_parts, lk_fmt(a, "mid_block.resnets.%d.", i / 2), name + n);
    if (sscanf(name, "input_blocks.%d.%d.%n", &i, &slot, &n) == 2 && n && i > 0) {
        const char *rest = name + n;
        if (slot == 0 && lk_starts(rest, "op.")) return lk_fmt(a, "down_blocks.%d.downsamplers.0.conv.%s", i / step - 1, rest + 3);
        if (slot == 0) return renamed(a, resnet_parts, lk_fmt(a, "down_blocks.%d.resnets.%d.", (i - 1) / step, (i - 1) % step), rest);
        return slot == 1 ? lk_fmt(a, "down_blocks.%d.attentions.%d.%s", (i - 1) / step, (i - 1) % step, rest) : NULL;
    }
    if (sscanf(name, "output_blocks.%d.%d.%n", &i, &slot, &n) == 2 && n && i >= 0) {
        const char *rest = name + n;
        if (slot > 0 && lk_starts(rest, "conv.")) return lk_fmt(a, "up_blocks.%d.upsamplers.0.%s", i / step, rest);
        if (slot == 0) return renamed(a, resnet_parts, lk_fmt(a, "up_blocks.%d.resnets.%d.", i / step, i % step), rest);
        return slot == 1 ? lk_fmt(a, "up_blocks.%d.attentions.%d.%s", i / step, i % step, rest) : NULL;
    }
    return NULL;
}
static const char *vae_name(const reading *r, const char *name) {
    lk_arena *a = r->arena;
    char half[8];
    int i, j, n = 0;
    const char *stem = renamed(a, vae_stem, "", name);
    if (stem) return stem;
    if (sscanf(name, "%7[a-z].mid.block_%d.%n", half, &i, &n) == 2 && n) return renamed(a, vae_resnet, lk_fmt(a, "%s.mid_block.resnets.%d.", half, i - 1), name + n);
    if (sscanf(name, "%7[a-z].mid.attn_1.%n", half, &n) == 1 && n) return renamed(a, vae_attention, lk_fmt(a, "%s.mid_block.attentions.0.", half), name + n);
    if (sscanf(name, "encoder.down.%d.block.%d.%n", &i, &j, &n) == 2 && n) return renamed(a, vae_resnet, lk_fmt(a, "encoder.down_blocks.%d.resnets.%d.", i, j), name + n);
    if (sscanf(name, "encoder.down.%d.downsample.conv.%n", &i, &n) == 1 && n) return lk_fmt(a, "encoder.down_blocks.%d.downsamplers.0.conv.%s", i, name + n);
    if (sscanf(name, "decoder.up.%d.block.%d.%n", &i, &j, &n) == 2 && n) return renamed(a, vae_resnet, lk_fmt(a, "decoder.up_blocks.%d.resnets.%d.", r->vae_levels - 1 - i, j), name + n);
    if (sscanf(name, "decoder.up.%d.upsample.conv.%n", &i, &n) == 1 && n) return lk_fmt(a, "decoder.up_blocks.%d.upsamplers.0.conv.%s", r->vae_levels - 1 - i, name + n);
    return NULL;
}

/* ---- tensors --------------------------------------------------------------------------------------------------------------- */
static lk_component *component(lk_single_file *f, const char *name) {
    for (int i = 0; i < f->n; i++) if (!strcmp(f->part[i].name, name)) return &f->part[i];
    f->part[f->n].name = name;
    return &f->part[f->n++];
}
static lk_st_item *add(reading *r, lk_component *c, const char *name, const lk_tensor *t) {
    if (!c->items) c->items = lk_alloc(r->arena, (size_t)lk_st_count(r->st) * 3 * sizeof *c->items);
    lk_st_item *item = &c->items[c->n++];
    *item = (lk_st_item){ .name = name, .dtype = t->dtype, .rank = t->rank, .data = t->data };
    memcpy(item->d, t->d, sizeof item->d);
    return item;
}
/* The autoencoder's attention as 1x1 convolutions: the same numbers as linear layers'. */
static void flatten(lk_st_item *item) {
    while (item->rank > 2 && item->d[item->rank - 1] == 1) item->rank--;
}
static void transpose(reading *r, lk_st_item *item) {
    size_t size = lk_st_dtype_bytes(item->dtype), rows = (size_t)item->d[0], columns = (size_t)item->d[1];
    char *to = lk_alloc(r->arena, rows * columns * size + 1);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++) memcpy(to + (j * rows + i) * size, (const char *)item->data + (i * columns + j) * size, size);
    item->data = to;
    item->d[0] = (int64_t)columns;
    item->d[1] = (int64_t)rows;
}
static lk_err add_fused(reading *r, lk_component *c, int layer, const lk_tensor *t, const char *leaf) {
    static const char *const parts[] = { "q_proj", "k_proj", "v_proj" };
    if (t->rank < 1 || t->d[0] % 3 || t->numel == 0) return lk_error(LK_ESHAPE, "%s: '%s' must hold query, key and value, three times as many rows as its width", lk_st_path(r->st), t->name);
    for (int i = 0; i < 3; i++) {
        lk_st_item *item = add(r, c, lk_fmt(r->arena, "text_model.encoder.layers.%d.self_attn.%s.%s", layer, parts[i], leaf), t);
        item->d[0] /= 3;
        item->data = (const char *)t->data + (size_t)i * (t->bytes / 3);
    }
    return LK_OK;
}
static lk_err homeless(const reading *r, const lk_tensor *t) {
    const char *prefixes[HOMES];
    for (int i = 0; i < HOMES; i++) prefixes[i] = homes[i].prefix;
    return lk_error(LK_EINPUT, "%s: '%s' has no home in diffusers' models; expected a name of Stable Diffusion's original code, beginning as '%s'", lk_st_path(r->st), t->name,
                    prefixes[lk_nearest(t->name, prefixes, HOMES)]);
}
static lk_err open_clip(reading *r, lk_component *c, const lk_tensor *t, const char *name, bool whole) {
    int layer, n = 0;
    const char *stem = renamed(r->arena, open_clip_stem, "", name);
    if (stem) { add(r, c, stem, t); return LK_OK; }
    if (!strcmp(name, "text_projection")) {
        if (!whole) { r->out->left_out++; return LK_OK; }
        if (t->rank != 2) return lk_error(LK_ESHAPE, "%s: '%s' has %d axes; a matrix was expected", lk_st_path(r->st), t->name, t->rank);
        transpose(r, add(r, c, "text_projection.weight", t));
        return LK_OK;
    }
    if (sscanf(name, "transformer.resblocks.%d.%n", &layer, &n) != 1 || !n) return homeless(r, t);
    if (!whole && layer == r->last_layer) { r->out->left_out++; return LK_OK; }
    const char *rest = name + n;
    if (!strcmp(rest, "attn.in_proj_weight")) return add_fused(r, c, layer, t, "weight");
    if (!strcmp(rest, "attn.in_proj_bias")) return add_fused(r, c, layer, t, "bias");
    const char *ours = renamed(r->arena, open_clip_layer, lk_fmt(r->arena, "text_model.encoder.layers.%d.", layer), rest);
    if (!ours) return homeless(r, t);
    add(r, c, ours, t);
    return LK_OK;
}
static bool is_leftover(const char *name) {
    for (int i = 0; leftovers[i]; i++) if (lk_starts(name, leftovers[i])) return true;
    for (int i = 0; leftover_ends[i]; i++) if (lk_ends(name, leftover_ends[i])) return true;
    return false;
}
static lk_err place(reading *r, const lk_tensor *t) {
    if (is_leftover(t->name)) { r->out->left_out++; return LK_OK; }
    for (int i = 0; i < HOMES; i++) {
        if (!lk_starts(t->name, homes[i].prefix)) continue;
        const char *inner = t->name + strlen(homes[i].prefix), *ours = NULL;
        lk_component *c = component(r->out, homes[i].component);
        if (homes[i].spelling >= OPEN_CLIP) return open_clip(r, c, t, inner, homes[i].spelling == OPEN_CLIP);
        if (homes[i].spelling == UNET) ours = unet_name(r, inner);
        if (homes[i].spelling == VAE) ours = vae_name(r, inner);
        if (homes[i].spelling == CLIP) ours = lk_starts(inner, "text_model.") ? inner : lk_fmt(r->arena, "text_model.%s", inner);
        if (!ours) return homeless(r, t);
        lk_st_item *item = add(r, c, ours, t);
        if (homes[i].spelling == VAE && strstr(ours, ".attentions.0.")) flatten(item);
        return LK_OK;
    }
    return homeless(r, t);
}

/* Block numbers are small: a run of six digits or a sign would overflow what is computed with them. */
static bool odd_number(const char *name) {
    for (const char *p = name; *p; p++) {
        size_t n = strspn(p, "0123456789");
        if (n > 5 || (*p == '-' && strspn(p + 1, "0123456789"))) return true;
        if (n) p += n - 1;
    }
    return false;
}
/* What the names alone tell: layers a level, levels of the autoencoder, layers of OpenCLIP's text tower, SDXL or not. */
static lk_err survey(reading *r) {
    int blocks = 0, found = 0;
    for (int k = 0; k < lk_st_count(r->st); k++) {
        const char *name = lk_st_at(r->st, k)->name;
        int i, n = 0;
        if (is_leftover(name)) continue;
        if (odd_number(name)) return lk_error(LK_EINPUT, "%s: '%s' has a number that no block of a model has", lk_st_path(r->st), name);
        found += lk_starts(name, homes[UNET].prefix);
        r->sdxl |= lk_starts(name, "conditioner.embedders.");
        if (sscanf(name, "model.diffusion_model.input_blocks.%d.0.op.weight%n", &i, &n) == 1 && n && (!r->step || i < r->step)) r->step = i > 0 ? i : 1;
        if (sscanf(name, "model.diffusion_model.input_blocks.%d.", &i) == 1 && i > blocks) blocks = i;
        if (sscanf(name, "first_stage_model.decoder.up.%d.", &i) == 1 && i >= r->vae_levels) r->vae_levels = i + 1;
        if (sscanf(name, "cond_stage_model.model.transformer.resblocks.%d.", &i) == 1 && i > r->last_layer) r->last_layer = i;
    }
    if (!r->step) r->step = blocks + 1;                                     /* one level: it has no downsampler */
    if (!found) return lk_error(LK_EINPUT, "%s: no tensor begins with '%s': not a single-file checkpoint of Stable Diffusion", lk_st_path(r->st), homes[UNET].prefix);
    return r->step > 1 ? LK_OK : lk_error(LK_EINPUT, "%s: '%sinput_blocks.1.0.op.weight' leaves a level without layers", lk_st_path(r->st), homes[UNET].prefix);
}
lk_err lk_single_file_read(const lk_st *st, lk_arena *arena, lk_single_file *out) {
    *out = (lk_single_file){ .n = 0 };
    reading r = { .st = st, .arena = arena, .out = out, .last_layer = -1 };
    LK_TRY(survey(&r));
    for (int i = 0; i < lk_st_count(st); i++) LK_TRY(place(&r, lk_st_at(st, i)));
    return LK_OK;
}
lk_err lk_single_file_write(const lk_single_file *f, const char *directory) {
    lk_arena *a = lk_arena_new();
    lk_err e = LK_OK;
    for (int i = 0; i < f->n && !e; i++) {
        const char *dir = lk_fmt(a, "%s/%s", directory, f->part[i].name);
        e = lk_mkdirs(dir);
        if (!e) e = lk_st_write(lk_fmt(a, "%s/%s.safetensors", dir, lk_starts(f->part[i].name, "text") ? "model" : "diffusion_pytorch_model"), f->part[i].items, f->part[i].n,
                                (const char *[]){ "format", "pt", NULL });
    }
    lk_arena_free(a);
    return e;
}
