/* Spellings of module names: dotted (diffusers, PEFT) and underscored (kohya), the latter also in the block numbering of the original
 * SDXL code (SGM), where L layers a block make input_blocks_{1 + i(L+1) + j} of down_blocks.i and output_blocks_{i(L+1) + j} of up_blocks.i. */
#include "models/lora_internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const kohya_prefixes[] = { "lora_unet_", "lora_te1_", "lora_te2_", "lora_te3_", "lora_te_", "lora_transformer_" };

/* Inner names of a residual block, a resampler and the stem: diffusers, SGM. */
static const struct { const char *ours, *sgm; } resnet_parts[] = {
    { "conv1", "in_layers_2" }, { "conv2", "out_layers_3" }, { "time_emb_proj", "emb_layers_1" }, { "conv_shortcut", "skip_connection" } };
static const struct { const char *ours, *sgm; } stem[] = {
    { "conv_in", "input_blocks_0_0" }, { "conv_out", "out_2" }, { "time_embedding.linear_1", "time_embed_0" }, { "time_embedding.linear_2", "time_embed_2" },
    { "add_embedding.linear_1", "label_emb_0_0" }, { "add_embedding.linear_2", "label_emb_0_2" } };

/* The underscored name behind kohya's prefix, or NULL. */
static const char *underscored_part(const char *spelling) {
    for (size_t i = 0; i < sizeof kohya_prefixes / sizeof *kohya_prefixes; i++)
        if (lk_starts(spelling, kohya_prefixes[i])) return spelling + strlen(kohya_prefixes[i]);
    return NULL;
}

/* Equal when every '.' of `dotted` counts as '_'. */
static bool same_underscored(const char *underscored, const char *dotted) {
    for (; *underscored && *dotted; underscored++, dotted++)
        if (*underscored != (*dotted == '.' ? '_' : *dotted)) return false;
    return *underscored == *dotted;
}

static const char *resnet_part(const char *part) {
    for (size_t i = 0; i < sizeof resnet_parts / sizeof *resnet_parts; i++) if (!strcmp(resnet_parts[i].ours, part)) return resnet_parts[i].sgm;
    return part;
}

/* SGM's name of a UNet module, dots allowed; "" if it has none. */
static void sgm_name(const char *module, int layers, char *out, size_t size) {
    long long i, j, step = layers + 1;               /* of five digits at most: longer ones are no block's */
    int n = 0;
    out[0] = 0;
    for (size_t k = 0; k < sizeof stem / sizeof *stem; k++) if (!strcmp(stem[k].ours, module)) { snprintf(out, size, "%s", stem[k].sgm); return; }
    if (sscanf(module, "down_blocks.%5lld.attentions.%5lld.%n", &i, &j, &n) == 2 && n) snprintf(out, size, "input_blocks_%lld_1_%s", 1 + i * step + j, module + n);
    else if (sscanf(module, "down_blocks.%5lld.resnets.%5lld.%n", &i, &j, &n) == 2 && n) snprintf(out, size, "input_blocks_%lld_0_%s", 1 + i * step + j, resnet_part(module + n));
    else if (sscanf(module, "down_blocks.%5lld.downsamplers.0.%n", &i, &n) == 1 && n) snprintf(out, size, "input_blocks_%lld_0_op", (i + 1) * step);
    else if (sscanf(module, "up_blocks.%5lld.attentions.%5lld.%n", &i, &j, &n) == 2 && n) snprintf(out, size, "output_blocks_%lld_1_%s", i * step + j, module + n);
    else if (sscanf(module, "up_blocks.%5lld.resnets.%5lld.%n", &i, &j, &n) == 2 && n) snprintf(out, size, "output_blocks_%lld_0_%s", i * step + j, resnet_part(module + n));
    else if (lk_starts(module, "mid_block.attentions.0.")) snprintf(out, size, "middle_block_1_%s", module + strlen("mid_block.attentions.0."));
    else if (sscanf(module, "mid_block.resnets.%5lld.%n", &i, &n) == 1 && n) snprintf(out, size, "middle_block_%lld_%s", 2 * i, resnet_part(module + n));
}

/* Upsamplers stand behind the attention where a block has one: output_blocks_N_1_conv or _2_conv. */
static bool spells_upsampler(const char *underscored, const char *module, int layers) {
    int i, n = 0, at, slot, m = 0;
    if (sscanf(module, "up_blocks.%5d.upsamplers.0.conv%n", &i, &n) != 1 || !n || module[n]) return false;
    if (sscanf(underscored, "output_blocks_%5d_%5d_conv%n", &at, &slot, &m) != 2 || !m || underscored[m]) return false;
    return at == (long long)i * (layers + 1) + layers && (slot == 1 || slot == 2);
}

/* Behind the block's numbers both spellings of an attention module end alike: a cheap way to say no before names are composed. */
static bool same_tail(const char *underscored, const char *module) {
    const char *numbers = strstr(module, "attentions."), *inner = numbers ? strchr(numbers + strlen("attentions."), '.') : NULL;
    if (!inner) return true;
    size_t n = strlen(underscored), m = strlen(inner);
    return n >= m && same_underscored(underscored + n - m, inner);
}

bool lk_lora_spells(const char *spelling, const char *module, int layers, bool whole_name) {
    if (!strcmp(spelling, module)) return true;
    const char *under = underscored_part(spelling);
    if (under) {
        char sgm[512];
        if (same_underscored(under, module)) return true;
        if (layers <= 0 || !same_tail(under, module)) return false;
        if (spells_upsampler(under, module, layers)) return true;
        sgm_name(module, layers, sgm, sizeof sgm);
        return sgm[0] && same_underscored(under, sgm);
    }
    if (whole_name) return false;
    size_t n = strlen(spelling), m = strlen(module);
    return n < m && module[m - n - 1] == '.' && !strcmp(module + m - n, spelling);
}

int lk_lora_layers_after(int layers, const char *module) {
    int j, n = 0;
    return sscanf(module, "down_blocks.0.resnets.%5d.%n", &j, &n) == 1 && n && j >= layers && j < 1 << 15 ? j + 1 : layers;
}

static bool upsampler_name(const char *module, int layers, uint64_t attended, char *out, size_t size) {
    int i, n = 0;
    if (sscanf(module, "up_blocks.%5d.upsamplers.0.conv%n", &i, &n) != 1 || !n || module[n] || i < 0 || i > 63) return false;
    snprintf(out, size, "output_blocks_%d_%d_conv", i * (layers + 1) + layers, attended >> i & 1 ? 2 : 1);
    return true;
}

void lk_lora_underscored(const char *module, int layers, uint64_t attended, bool sgm, char *out, size_t size) {
    if (!sgm) snprintf(out, size, "%s", module);
    else if (!upsampler_name(module, layers, attended, out, size)) sgm_name(module, layers, out, size);
    for (char *p = out; *p; p++) if (*p == '.') *p = '_';
}

const char *lk_lora_kohya_rest(const char *spelling) { return underscored_part(spelling); }
const char *lk_lora_kohya_component(const char *spelling) {
    static const char *const named[] = { "unet", "text_encoder", "text_encoder_2", "text_encoder_3", "text_encoder", "transformer" };
    for (size_t i = 0; i < sizeof kohya_prefixes / sizeof *kohya_prefixes; i++) if (lk_starts(spelling, kohya_prefixes[i])) return named[i];
    return NULL;
}
