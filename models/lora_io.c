/* Adapter files: PEFT, diffusers and kohya are read, PEFT is written. See lora.h.
 *
 * Which of the three a file is, each key tells for itself (diffusers' own scripts mix two spellings in one file). Nothing is skipped:
 * a key no table row knows, a module without its other half, a half of the wrong shape, a module the model does not adapt: each is refused
 * with file and key.
 *
 * alpha: kohya stores one tensor a module; diffusers a JSON in the header, else alpha is the rank; PEFT adapter_config.json
 * beside the file, and our files carry the same JSON in the header (lora_options.c). */
#include "models/lora_internal.h"
#include <stdlib.h>
#include <string.h>

/* The end of a key says what it holds; `kohya`: alpha is in tensors. */
static const struct { const char *end; int slot; bool kohya; } endings[] = {
    { ".lora_A.weight", LK_SLOT_A }, { ".lora_B.weight", LK_SLOT_B }, { ".lora_B.bias", LK_SLOT_BIAS }, { ".lora.down.weight", LK_SLOT_A }, { ".lora.up.weight", LK_SLOT_B },
    { ".lora_down.weight", LK_SLOT_A, true }, { ".lora_up.weight", LK_SLOT_B, true }, { ".lora_mid.weight", LK_SLOT_MID, true }, { ".alpha", LK_SLOT_ALPHA, true },
    { ".lora_magnitude_vector", LK_SLOT_MAGNITUDE }, { ".lora_magnitude_vector.weight", LK_SLOT_MAGNITUDE }, { ".dora_scale", LK_SLOT_MAGNITUDE, true },
    { "_lora.down.weight", LK_SLOT_A }, { "_lora.up.weight", LK_SLOT_B },
    { ".hada_w1_a", LK_SLOT_H1A }, { ".hada_w1_b", LK_SLOT_H1B }, { ".hada_w2_a", LK_SLOT_H2A }, { ".hada_w2_b", LK_SLOT_H2B }, { ".hada_t1", LK_SLOT_H1T }, { ".hada_t2", LK_SLOT_H2T }, { ".lokr_w1", LK_SLOT_K1 }, { ".lokr_w1_a", LK_SLOT_K1A },
    { ".lokr_w1_b", LK_SLOT_K1B }, { ".lokr_w2", LK_SLOT_K2 }, { ".lokr_w2_a", LK_SLOT_K2A }, { ".lokr_w2_b", LK_SLOT_K2B }, { ".lokr_t2", LK_SLOT_K2T }, { ".diff", LK_SLOT_DIFF } };
static const char *const slot_names[LK_ENTRY_SLOTS] = { [LK_SLOT_A] = "lora_A (down)", [LK_SLOT_B] = "lora_B (up)", [LK_SLOT_ALPHA] = "alpha", [LK_SLOT_MAGNITUDE] = "magnitude", [LK_SLOT_BIAS] = "bias", [LK_SLOT_MID] = "core" };
static const char peft_prefix[] = "base_model.model.";

/* ---- keys to entries --------------------------------------------------------------------------------------------------- */

static char *old_processor_name(lk_arena *arena, const char *name) {           /* attn1.processor.to_q -> attn1.to_q; to_out -> to_out.0 */
    const char *at = strstr(name, ".processor.");
    if (!at) return lk_strdup(arena, name);
    const char *rest = at + strlen(".processor.");
    return lk_fmt(arena, "%.*s.%s%s", (int)(at - name), name, rest, !strcmp(rest, "to_out") ? ".0" : "");
}

static const char *without_prefix(lk_lora_entries *f, const char *name, const char **component) {
    const char *rest;
    *component = "";
    if (lk_starts(name, peft_prefix)) { f->peft = true; return name + strlen(peft_prefix); }
    *component = lk_lora_component_of(name, &rest);
    return rest;
}

static lk_lora_entry *entry_named(lk_lora_entries *f, const char *name, const char *component) {
    for (int i = f->n - 1; i >= 0; i--) if (!strcmp(f->e[i].name, name) && !strcmp(f->e[i].component, component)) return &f->e[i];
    f->e[f->n].name = name;
    f->e[f->n].component = component;
    return &f->e[f->n++];
}

static lk_err unknown_key(const lk_lora_entries *f, const char *key) {
    return lk_error(LK_EINPUT, "%s: key '%s' is no part of a LoRA this library reads; expected a name ending in .lora_A.weight, .lora_B.weight, .lora.down.weight, "
                    ".lora.up.weight, .lora_down.weight, .lora_up.weight, .alpha, .lora_magnitude_vector, .hada_w1_a (LoHa), .lokr_w1 (LoKr) or .diff (full)", f->path, key);
}

/* LyCORIS' dora_scale: [out, 1, ..], or [1, in, ..] where norms are of columns; of one value it may be either. */
static lk_err place_axis(lk_lora_entries *f, const lk_tensor *t) {
    lk_lora_decompose by = t->rank > 1 && t->d[0] == 1 ? LK_DECOMPOSE_COLUMNS : LK_DECOMPOSE_ROWS;
    if (f->decompose && f->decompose != by && t->numel != 1) return lk_error(LK_EINPUT, "%s: '%s' is of %s, other magnitudes of the file are not", f->path, t->name, by == LK_DECOMPOSE_ROWS ? "rows" : "columns");
    if (t->numel != 1) f->decompose = by;
    return LK_OK;
}

static lk_err place_key(lk_lora_entries *f, const lk_tensor *t) {
    const char *component;
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        if (!lk_ends(t->name, endings[i].end)) continue;
        const char *inner = without_prefix(f, t->name, &component);
        size_t n = strlen(inner), m = strlen(endings[i].end);
        if (n <= m) return unknown_key(f, t->name);
        char *name = old_processor_name(f->arena, lk_fmt(f->arena, "%.*s", (int)(n - m), inner));
        lk_lora_entry *e = entry_named(f, name, component);
        if (e->t[endings[i].slot]) return lk_error(LK_EINPUT, "%s: '%s' and '%s' both give the %s of %s", f->path, e->t[endings[i].slot]->name, t->name, slot_names[endings[i].slot], name);
        e->t[endings[i].slot] = t;
        f->kohya |= endings[i].kohya;
        return LK_OK;
    }
    f->saved[f->n_saved].name = without_prefix(f, t->name, &f->saved[f->n_saved].component);
    f->saved[f->n_saved++].t = t;
    return LK_OK;
}

/* What kind of file the modules make. */
static lk_err note_kind(lk_lora_entries *f) {
    for (int i = 0; i < f->n; i++) {
        const lk_tensor *const *t = f->e[i].t, *m = t[LK_SLOT_MAGNITUDE];
        for (int k = LK_SLOT_H1A; k < LK_SLOT_COUNT; k++) if (t[k]) f->kind = k == LK_SLOT_DIFF ? LK_FULL : k < LK_SLOT_K1 ? LK_LOHA : LK_LOKR;
        f->dora |= m != NULL;
        f->bias |= t[LK_SLOT_BIAS] != NULL;
        if (m && lk_ends(m->name, ".dora_scale")) LK_TRY(place_axis(f, m));
    }
    return LK_OK;
}

static lk_err check_pair(const lk_lora_entries *f, lk_lora_entry *e) {
    if (f->kind >= LK_LOHA) return lk_lycoris_check(f, e);
    const lk_tensor *a = e->t[LK_SLOT_A], *b = e->t[LK_SLOT_B];
    if (!a || !b) {
        const lk_tensor *have = a ? a : b ? b : e->t[LK_SLOT_ALPHA] ? e->t[LK_SLOT_ALPHA] : e->t[LK_SLOT_BIAS] ? e->t[LK_SLOT_BIAS] : e->t[LK_SLOT_MID] ? e->t[LK_SLOT_MID] : e->t[LK_SLOT_MAGNITUDE];
        return lk_error(LK_EINPUT, "%s: %s of module '%s' is missing; the file has '%s'", f->path, slot_names[a ? LK_SLOT_B : LK_SLOT_A], e->name, have->name);
    }
    bool grouped = a->rank == 4 && b->rank == 4 && b->d[1] > 0 && a->d[0] % b->d[1] == 0;     /* of a convolution in groups: [out, rank / groups, 1, 1] */
    if (a->rank < 2 || b->rank < 2 || a->d[0] < 1 || (a->d[0] != b->d[1] && !grouped))
        return lk_error(LK_ESHAPE, "%s: '%s' has rank %lld in its first axis and '%s' %lld in its second; they must agree", f->path, a->name,
                        (long long)(a->rank ? a->d[0] : 0), b->name, (long long)(b->rank > 1 ? b->d[1] : 0));
    if (a->d[0] > 1 << 20) return lk_error(LK_ESHAPE, "%s: '%s' has rank %lld; at most 1048576 is allowed", f->path, a->name, (long long)a->d[0]);
    const lk_tensor *core = e->t[LK_SLOT_MID];
    if (core && (core->rank != 4 || !core->numel || core->d[0] != a->d[0] || core->d[1] != a->d[0] || b->d[1] != a->d[0] || a->numel != a->d[0] * a->d[1]))
        return lk_error(LK_ESHAPE, "%s: '%s' must be a core [r, r, kh, kw] between halves of 1x1 kernels and rank r", f->path, core->name);
    e->r = (int)a->d[0];
    if (f->dora && !e->t[LK_SLOT_MAGNITUDE]) return lk_error(LK_EINPUT, "%s: module '%s' has no magnitude vector, others of the file do (DoRA)", f->path, e->name);
    if (f->bias && !e->t[LK_SLOT_BIAS]) return lk_error(LK_EINPUT, "%s: module '%s' has no lora_B.bias, others of the file do (lora_bias)", f->path, e->name);
    return LK_OK;
}

/* ---- a whole file ------------------------------------------------------------------------------------------------------------ */

void lk_lora_entries_close(lk_lora_entries *f) {
    json_decref(f->config);
    lk_st_close(f->st);
    lk_arena_free(f->arena);
}

static lk_err read_entries(lk_lora_entries *f, const char *component) {
    int n = lk_st_count(f->st);
    if (!n) return lk_error(LK_EINPUT, "%s: no tensors", f->path);
    f->e = lk_alloc(f->arena, (size_t)n * sizeof *f->e);
    f->saved = lk_alloc(f->arena, (size_t)n * sizeof *f->saved);
    for (int i = 0; i < n; i++) LK_TRY(place_key(f, lk_st_at(f->st, i)));
    if (component) LK_TRY(lk_lora_keep_component(f, component));
    LK_TRY(note_kind(f));
    LK_TRY(lk_lora_config_read(f));
    LK_TRY(lk_lora_place_saved(f, lk_lora_config_value(f, "modules_to_save"), unknown_key));
    if (!f->n) return lk_error(LK_EINPUT, "%s: no module has a low-rank part", f->path);
    for (int i = 0; i < f->n; i++) {
        LK_TRY(check_pair(f, &f->e[i]));
        LK_TRY(lk_lora_find_scale(f, &f->e[i]));
    }
    return lk_lora_flux_split(f);
}

lk_err lk_lora_entries_open(const char *path, const char *component, lk_lora_entries *f) {
    *f = (lk_lora_entries){ .path = path, .config_of = "" };
    LK_TRY(lk_st_open(path, &f->st));
    f->arena = lk_arena_new();
    lk_err err = read_entries(f, component);
    if (err) lk_lora_entries_close(f);
    return err;
}

static lk_err find_factor(const char *path, lk_lora_config *c) {
    lk_lora_file *file;
    LK_TRY(c->component ? lk_lora_file_read_component(path, c->component, &file) : lk_lora_file_read(path, &file));
    lk_lycoris_factor(file, &c->factor, &c->both);
    lk_lora_file_free(file);
    return LK_OK;
}

lk_err lk_adapter_inspect(const char *path, lk_arena *arena, lk_lora_config *c) { return lk_adapter_inspect_component(path, NULL, arena, c); }

lk_err lk_adapter_inspect_component(const char *path, const char *component, lk_arena *arena, lk_lora_config *c) {
    lk_lora_entries f;
    LK_TRY(lk_lora_entries_open(path, component, &f));
    lk_err err = lk_lora_one_component(&f);
    if (err) { lk_lora_entries_close(&f); return err; }
    size_t n = (size_t)f.n + 1;
    const char **targets = lk_alloc(arena, n * sizeof *targets);
    int *ranks = lk_alloc(arena, n * sizeof *ranks);
    double *alphas = lk_alloc(arena, n * sizeof *alphas);
    bool tucker = false;
    for (int i = 0; i < f.n; i++) {
        targets[i] = lk_strdup(arena, f.e[i].name);
        ranks[i] = f.e[i].r;
        alphas[i] = f.e[i].alpha;
        tucker |= f.e[i].t[LK_SLOT_H1T] || f.e[i].t[LK_SLOT_K2T] || f.e[i].t[LK_SLOT_MID];
    }
    *c = (lk_lora_config){ .kind = f.kind, .r = ranks[0], .alpha = alphas[0], .targets = targets, .tucker = tucker, .lora_bias = f.bias, .biases = f.biases, .decompose = f.decompose, .component = component ? lk_strdup(arena, component) : NULL,
                           .rank_names = targets, .rank_values = ranks, .alpha_names = targets, .alpha_values = alphas };
    lk_lora_saved *saved = lk_alloc(arena, (size_t)f.n_saved * sizeof *saved + 1);
    for (int i = 0; i < f.n_saved; i++) saved[i] = (lk_lora_saved){ .name = f.saved[i].name, .bias = f.saved[i].bias };
    c->modules_to_save = lk_lora_saved_modules(arena, saved, f.n_saved);
    lk_lora_entries_close(&f);
    return c->kind == LK_LOKR ? find_factor(path, c) : LK_OK;
}

/* ---- into a built adapter ---------------------------------------------------------------------------------------------------- */

static int first_slot(const lk_lora_entry *e) {
    int i = LK_SLOT_B;                                  /* of LoRA the up half, as ever */
    for (int k = 0; !e->t[i]; k++) i = k;
    return i;
}

static lk_err homeless(const lk_lora_entries *f, const lk_adapter *a, const lk_lora_entry *e) {
    int near = lk_nearest(e->name, a->seen, a->n_seen);
    bool exists = false;
    for (int i = 0; i < a->n_seen; i++) exists |= lk_lora_spells(e->name, a->seen[i], a->layers, true);
    return lk_error(LK_EINPUT, "%s: '%s' belongs to %s; the nearest module is '%s'", f->path, e->t[first_slot(e)]->name,
                    exists ? "a module this adapter was not built on" : "no module of the model", near >= 0 ? a->seen[near] : "(none was built)");
}

static bool has_shape(const lk_tensor *t, lk_shape s) {
    if (t->rank != s.rank) return false;
    for (int i = 0; i < s.rank; i++) if (t->d[i] != s.d[i]) return false;
    return true;
}

static lk_err set_part(lk_exec *exec, const lk_tensor *t, lk_val v) {
    float *x = lk_xaligned((size_t)(t->numel ? t->numel : 1) * sizeof *x);
    lk_err err = lk_st_f32(t, x);
    if (!err) err = lk_exec_set(exec, v, x, t->numel);
    free(x);
    return err;
}

/* A magnitude a row is a vector however it is written: [out], [out, 1] (LyCORIS), [1, out, 1, 1] (PEFT). [1, in] is another thing, a norm a column. */
static bool same_magnitudes(const lk_tensor *t, lk_shape want) {
    if (t->numel != lk_numel(want) || !t->rank) return false;
    return t->d[0] == t->numel || (t->rank > 1 && (t->rank == 4 || t->rank == want.rank) && t->d[1] == t->numel);
}

/* Halves of a convolution with a 1x1 kernel are found as matrices and as 4-d tensors; anything else must agree axis by axis. */
static lk_err check_shape(const lk_lora_entries *f, const lk_tensor *t, int slot, lk_shape want) {
    int64_t first = t->rank ? t->d[0] : 1, second = t->rank > 1 ? t->d[1] : 1;
    bool flattened = t->numel == lk_numel(want) && want.rank >= 2 && first == want.d[0] && second == want.d[1];
    if (slot == LK_SLOT_MAGNITUDE ? same_magnitudes(t, want) : has_shape(t, want) || flattened) return LK_OK;
    lk_shape found = { .rank = t->rank < LK_MAX_RANK ? t->rank : LK_MAX_RANK };
    memcpy(found.d, t->d, sizeof found.d);
    return lk_error(LK_ESHAPE, "%s: '%s' has shape %s; the model expects %s", f->path, t->name, lk_shape_text(f->arena, found), lk_shape_text(f->arena, want));
}

static lk_err load_module(lk_exec *exec, const lk_lora_entries *f, const lk_lora_module *m, const lk_lora_entry *e) {
    for (int p = 0; p < LK_SLOT_COUNT; p++) {
        if (e->t[p] && !lk_ok(m->t[p])) return lk_error(LK_EINPUT, "%s: '%s' has no place in the adapter, which was built as another kind or with another factorisation", f->path, e->t[p]->name);
        if (p == LK_SLOT_MAGNITUDE && lk_ok(m->t[p]) && !e->t[p]) return lk_error(LK_EINPUT, "%s: module '%s' has no magnitude vector; the adapter was built as DoRA", f->path, e->name);
        if (lk_ok(m->t[p]) && !e->t[p]) return lk_error(LK_EINPUT, "%s: module '%s' has no %s, which the adapter was built with", f->path, e->name, lk_lora_leaves[p].peft);
        if (e->t[p]) LK_TRY(check_shape(f, e->t[p], p, lk_shape_of(lk_exec_graph(exec), m->t[p])));
    }
    if (m->alpha != e->alpha)
        return lk_error(LK_EINPUT, "%s: alpha of module '%s' is %g; the adapter was built with %g", f->path, e->name, e->alpha, m->alpha);
    for (int p = 0; p < LK_SLOT_COUNT; p++) if (e->t[p]) LK_TRY(set_part(exec, e->t[p], m->t[p]));
    return LK_OK;
}

static const char *const axes[] = { [LK_DECOMPOSE_NONE] = "none", [LK_DECOMPOSE_ROWS] = "rows", [LK_DECOMPOSE_COLUMNS] = "columns" };
static lk_err load_entries(lk_adapter *a, lk_exec *exec, const lk_lora_entries *f) {
    const lk_graph *g = lk_exec_graph(exec);
    bool *used = lk_alloc(f->arena, (size_t)f->n * sizeof *used + 1);
    if (f->rslora != lk_lora_is_rs(a->config.kind))
        return lk_error(LK_EINPUT, "%s: %s rsLoRA; the adapter was built %s", f->path, f->rslora ? "is" : "is not", f->rslora ? "without" : "with it");
    if (f->decompose != a->config.decompose && (f->kind >= LK_LOHA || f->decompose == LK_DECOMPOSE_COLUMNS || a->config.decompose == LK_DECOMPOSE_COLUMNS))
        return lk_error(LK_EINPUT, "%s: its magnitudes (dora_scale) are of %s; the adapter was built for %s", f->path, axes[f->decompose], axes[a->config.decompose]);
    for (int k = 0; k < a->n; k++) {
        const lk_lora_module *m = &a->module[k];
        int at = 0;
        if (m->g != g) continue;
        while (at < f->n && !lk_lora_spells(f->e[at].name, m->name, a->layers, true)) at++;
        if (at == f->n) return lk_error(LK_EINPUT, "%s: nothing for module '%s', which the adapter was built on", f->path, m->name);
        used[at] = true;
        LK_TRY(load_module(exec, f, m, &f->e[at]));
    }
    for (int i = 0; i < f->n; i++) if (!used[i]) return homeless(f, a, &f->e[i]);
    return lk_lora_copies_load(a, exec, f);
}

lk_err lk_adapter_load(lk_adapter *a, lk_exec *exec, const char *path) {
    lk_lora_entries f;
    LK_TRY(lk_lora_entries_open(path, a->config.component, &f));
    lk_err err = lk_lora_one_component(&f);
    if (!err) err = a->base ? lk_base_check(f.st, a->base) : LK_OK;
    if (!err) err = load_entries(a, exec, &f);
    lk_lora_entries_close(&f);
    return err;
}
