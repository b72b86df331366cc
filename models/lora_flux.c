/* Kohya's FLUX adapters carry the original code's block names, where query, key and value (and in single blocks the MLP's first layer) are
 * one fused matrix. Reading splits each into diffusers' modules: A is common to them, B (of LoHa Wa, of a full difference all) is cut by rows. Writing joins them again: a common A stays
 * one, different As are stacked and B becomes block-diagonal (its rank the sum), a part that is not adapted gets rows of zeros. */
#include "models/lora_internal.h"
#include <stdio.h>
#include <stdlib.h>
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

/* ---- splitting --------------------------------------------------------------------------------------------------------------- */

static int parts_of(int row) {
    int n = 0;
    while (n < 5 && rows[row].to[n]) n++;
    return n;
}

/* n rows of a tensor of the file, from `first`; nothing is copied. */
static const lk_tensor *rows_from(lk_arena *arena, const lk_tensor *t, int64_t first, int64_t n) {
    lk_tensor *cut = lk_alloc(arena, sizeof *cut);
    size_t row = t->bytes / (size_t)t->d[0];
    *cut = *t;
    cut->d[0] = n;
    cut->numel = t->numel / t->d[0] * n;
    cut->data = (const char *)t->data + (size_t)first * row;
    cut->bytes = (size_t)n * row;
    return cut;
}

/* The slots whose first axis is the fused matrix's rows. */
static bool has_rows(int slot) { return slot == LK_SLOT_B || slot == LK_SLOT_MAGNITUDE || slot == LK_SLOT_BIAS || slot == LK_SLOT_H1A || slot == LK_SLOT_H2A || slot == LK_SLOT_DIFF; }

static lk_err split(const lk_lora_entries *f, const lk_lora_entry *whole, int row, int block, lk_lora_entry *out) {
    const lk_tensor *up = whole->t[f->kind == LK_FULL ? LK_SLOT_DIFF : f->kind == LK_LOHA ? LK_SLOT_H1A : LK_SLOT_B];
    const lk_tensor *down = whole->t[f->kind == LK_FULL ? LK_SLOT_DIFF : f->kind == LK_LOHA ? LK_SLOT_H1B : LK_SLOT_A];
    if (f->kind == LK_LOKR || whole->t[LK_SLOT_H1T]) return lk_error(LK_EINPUT, "%s: '%s': LoKr and Tucker forms of fused matrices cannot be split", f->path, whole->name);
    int n = parts_of(row);
    int64_t all = up->d[0], width = n == 1 ? all : down->d[1], last = all - (n - 1) * width;
    if (last < 1 || (n == 3 && last != width))
        return lk_error(LK_ESHAPE, "%s: '%s' has %lld rows over %lld columns; %d matrices of that width are fused in it", f->path, whole->name, (long long)all, (long long)width, n);
    for (int k = 0; k < LK_SLOT_COUNT; k++)
        if (has_rows(k) && whole->t[k] && (whole->t[k]->rank < 1 || whole->t[k]->d[0] != all))
            return lk_error(LK_ESHAPE, "%s: '%s' has not the %lld rows of its fused matrix", f->path, whole->t[k]->name, (long long)all);
    for (int i = 0; i < n; i++) {
        out[i] = *whole;
        out[i].name = lk_fmt(f->arena, "%s.%d.%s", rows[row].ours, block, rows[row].to[i]);
        for (int k = 0; k < LK_SLOT_COUNT; k++) if (has_rows(k) && whole->t[k]) out[i].t[k] = rows_from(f->arena, whole->t[k], i * width, i < n - 1 ? width : last);
    }
    return LK_OK;
}

lk_err lk_lora_flux_split(lk_lora_entries *f) {
    int n = 0, block, row;
    bool flux = false;
    for (int i = 0; i < f->n; i++) n += (row = row_of(f->e[i].name, &block)) < 0 ? 1 : parts_of(row);
    lk_lora_entry *e = lk_alloc(f->arena, (size_t)n * sizeof *e + 1);
    n = 0;
    for (int i = 0; i < f->n; i++) {
        row = row_of(f->e[i].name, &block);
        if (row < 0) { e[n++] = f->e[i]; continue; }
        LK_TRY(split(f, &f->e[i], row, block, e + n));
        n += parts_of(row);
        flux = true;
    }
    for (int i = 0; i < n && flux; i++) if (!strcmp(e[i].component, "unet")) e[i].component = "transformer";
    f->e = e;
    f->n = n;
    return LK_OK;
}

/* ---- joining ---------------------------------------------------------------------------------------------------------------- */
typedef struct { int row, block, slot; } place;                          /* slot: which of the row's modules */
static bool place_of(const char *module, place *at) {
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int k = 0; k < 5 && rows[i].to[k]; k++) {
            char form[96];
            int n = 0;
            snprintf(form, sizeof form, "%s.%%d.%s%%n", rows[i].ours, rows[i].to[k]);
            if (sscanf(module, form, &at->block, &n) == 1 && n && !module[n]) { at->row = (int)i; at->slot = k; return true; }
        }
    return false;
}
/* Rows of an absent module of a fused matrix over `width` columns: attention's are square, FLUX's MLP is four times as wide. */
static int64_t rows_of(const lk_lora_part *p, int row, int slot, int64_t width) {
    if (p) return p->t[LK_SLOT_B].s.d[0];
    return strcmp(rows[row].to[slot], "proj_mlp") ? width : 4 * width;
}
static bool same_down(const lk_lora_part *a, const lk_lora_part *b) {
    const lk_lora_array *x = &a->t[LK_SLOT_A], *y = &b->t[LK_SLOT_A];
    return a->r == b->r && a->alpha == b->alpha && x->s.d[1] == y->s.d[1] && !memcmp(x->x, y->x, (size_t)lk_numel(x->s) * sizeof(float));
}
/* parts: by slot, NULL where the module is not adapted. */
static lk_err join(const lk_lora_file *f, lk_arena *arena, place at, const lk_lora_part *const *parts, int n, lk_lora_part *out) {
    const lk_lora_part *first = NULL;
    bool shared = true;
    int64_t width = 0, all = 0;
    int present = 0, r = 0, done = 0;
    for (int i = 0; i < n; i++) {
        if (!parts[i]) continue;
        if (!first) { first = parts[i]; width = first->t[LK_SLOT_A].s.d[1]; }
        if (parts[i]->t[LK_SLOT_BIAS].x) return lk_error(LK_EINPUT, "'%s': B has a bias (lora_bias), for which kohya's files have no form", parts[i]->name);
        if (parts[i]->t[LK_SLOT_A].s.rank != 2 || parts[i]->t[LK_SLOT_A].s.d[1] != width)
            return lk_error(LK_ESHAPE, "'%s' and '%s' have inputs of different widths: not query, key and value of one stream", first->name, parts[i]->name);
        shared = shared && same_down(first, parts[i]);
        r += parts[i]->r;
        present++;
    }
    if (lk_lora_is_dora(f->kind) && present < n) return lk_error(LK_EINPUT, "DoRA of '%s' alone has no place in a fused matrix: its other modules' magnitudes are the base's", first->name);
    if (shared) r = first->r;
    for (int i = 0; i < n; i++) all += rows_of(parts[i], at.row, i, width);
    float *down = lk_alloc(arena, (size_t)(r * width) * sizeof *down), *up = lk_alloc(arena, (size_t)(all * r) * sizeof *up), *magnitude = lk_alloc(arena, (size_t)all * sizeof *magnitude);
    *out = (lk_lora_part){ .name = lk_fmt(arena, "%s.%d.%s", rows[at.row].block, at.block, rows[at.row].fused), .component = first->component, .r = r, .alpha = shared ? first->alpha : r };
    if (!shared && lk_lora_is_rs(f->kind)) out->alpha = __builtin_sqrt((double)r);                       /* alpha / sqrt r = 1, the scales go into B */
    int64_t row = 0;
    for (int i = 0; i < n; i++) {
        const lk_lora_part *p = parts[i];
        int64_t here = rows_of(p, at.row, i, width);
        if (p) {
            const float scale = shared ? 1 : (float)lk_lora_file_scale(f, p);
            memcpy(down + (shared ? 0 : done) * width, p->t[LK_SLOT_A].x, (size_t)(p->r * width) * sizeof *down);
            for (int64_t j = 0; j < here; j++)
                for (int k = 0; k < p->r; k++) up[(row + j) * r + (shared ? 0 : done) + k] = scale * p->t[LK_SLOT_B].x[j * p->r + k];
            if (p->t[LK_SLOT_MAGNITUDE].x) memcpy(magnitude + row, p->t[LK_SLOT_MAGNITUDE].x, (size_t)here * sizeof *magnitude);
            done += p->r;
        }
        row += here;
    }
    out->t[LK_SLOT_A] = (lk_lora_array){ LK_SHAPE(r, width), down };
    out->t[LK_SLOT_B] = (lk_lora_array){ LK_SHAPE(all, r), up };
    if (lk_lora_is_dora(f->kind)) out->t[LK_SLOT_MAGNITUDE] = (lk_lora_array){ LK_SHAPE(all), magnitude };
    return LK_OK;
}
lk_err lk_lora_flux_join(const lk_lora_file *f, lk_arena *arena, lk_lora_file *out) {
    *out = *f;
    out->n = 0;
    out->part = lk_alloc(arena, (size_t)f->n * sizeof *out->part);
    place *at = lk_alloc(arena, (size_t)f->n * sizeof *at);
    if (f->kind >= LK_LOHA || f->decompose) return lk_error(LK_EINPUT, "LoHa, LoKr and magnitudes of columns cannot be joined into FLUX's fused matrices; write peft or kohya");
    for (int i = 0; i < f->n; i++) {
        if (lk_lora_encodes_text(lk_lora_part_component(f, &f->part[i]))) { at[i].row = -1; out->part[out->n++] = f->part[i]; continue; }      /* as it is */
        if (!place_of(f->part[i].name, &at[i])) return lk_error(LK_EINPUT, "module '%s' has no name in kohya's FLUX files; expected one of transformer_blocks or single_transformer_blocks", f->part[i].name);
    }
    for (int i = 0; i < f->n; i++) {
        const lk_lora_part *parts[5] = { NULL };
        bool earlier = at[i].row < 0;
        for (int k = 0; k < f->n && at[i].row >= 0; k++) {
            if (at[k].row != at[i].row || at[k].block != at[i].block) continue;
            earlier |= k < i;
            parts[at[k].slot] = &f->part[k];
        }
        if (earlier) continue;                                             /* its matrix was joined when the first of them came, or it is none */
        LK_TRY(join(f, arena, at[i], parts, parts_of(at[i].row), &out->part[out->n++]));
    }
    return LK_OK;
}
