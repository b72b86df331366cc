/* Writing adapters: PEFT's layout (its config both in the file's header and, on request, as adapter_config.json beside it), diffusers'
 * (the config in the header under "<component>."), kohya's (underscored names, an alpha tensor a module). */
#include "models/lora_internal.h"
#include <stdlib.h>
#include <string.h>

static const struct { lk_lora_format format; const char *name; } formats[] = {
    { LK_FORMAT_PEFT, "peft" }, { LK_FORMAT_DIFFUSERS, "diffusers" }, { LK_FORMAT_KOHYA, "kohya" }, { LK_FORMAT_KOHYA_SGM, "kohya-sgm" },
    { LK_FORMAT_KOHYA_FLUX, "kohya-flux" } };
const lk_lora_leaf lk_lora_leaves[LK_SLOT_COUNT] = {
    [LK_SLOT_A] = { "lora_A.weight", "lora_down.weight" }, [LK_SLOT_B] = { "lora_B.weight", "lora_up.weight" }, [LK_SLOT_MAGNITUDE] = { "lora_magnitude_vector", "dora_scale" }, [LK_SLOT_BIAS] = { "lora_B.bias" }, [LK_SLOT_MID] = { "lora_mid.weight", "lora_mid.weight" },
    [LK_SLOT_H1A] = { "hada_w1_a", "hada_w1_a" }, [LK_SLOT_H1B] = { "hada_w1_b", "hada_w1_b" }, [LK_SLOT_H2A] = { "hada_w2_a", "hada_w2_a" }, [LK_SLOT_H2B] = { "hada_w2_b", "hada_w2_b" },
    [LK_SLOT_H1T] = { "hada_t1", "hada_t1" }, [LK_SLOT_H2T] = { "hada_t2", "hada_t2" }, [LK_SLOT_K2T] = { "lokr_t2", "lokr_t2" },
    [LK_SLOT_K1] = { "lokr_w1", "lokr_w1" }, [LK_SLOT_K1A] = { "lokr_w1_a", "lokr_w1_a" }, [LK_SLOT_K1B] = { "lokr_w1_b", "lokr_w1_b" },
    [LK_SLOT_K2] = { "lokr_w2", "lokr_w2" }, [LK_SLOT_K2A] = { "lokr_w2_a", "lokr_w2_a" }, [LK_SLOT_K2B] = { "lokr_w2_b", "lokr_w2_b" },
    [LK_SLOT_DIFF] = { "diff", "diff" } };
static const struct { const char *component, *prefix; } kohya_prefixes[] = {
    { "unet", "lora_unet_" }, { "transformer", "lora_transformer_" }, { "text_encoder", "lora_te_" }, { "text_encoder_2", "lora_te2_" }, { "text_encoder_3", "lora_te3_" } };

lk_err lk_lora_format_named(const char *name, lk_lora_format *out) {
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) if (!strcmp(formats[i].name, name)) { *out = formats[i].format; return LK_OK; }
    return lk_error(LK_EINPUT, "format '%s': expected peft, diffusers, kohya, kohya-sgm or kohya-flux", name);
}

/* ---- the config as PEFT writes it ------------------------------------------------------------------------------------------ */

static json_t *number(double x) { return x == (double)(int64_t)x && x > -9e15 && x < 9e15 ? json_integer((json_int_t)x) : json_real(x); }

static json_t *saved_modules(const lk_lora_file *f) {
    if (!f->n_saved) return json_null();
    lk_arena *arena = lk_arena_new();
    json_t *list = json_array();
    for (const char *const *name = lk_lora_saved_modules(arena, f->saved, f->n_saved); *name; name++) json_array_append_new(list, json_string(*name));
    lk_arena_free(arena);
    return list;
}

static json_t *lycoris_config(const lk_lora_file *f, json_t *targets, json_t *ranks, json_t *alphas) {
    bool tucker = f->built && f->built->tucker;
    for (int i = 0; i < f->n; i++) tucker |= f->part[i].t[LK_SLOT_H1T].x || f->part[i].t[LK_SLOT_K2T].x;
    json_t *config = json_pack("{s:s, s:i, s:o, s:f, s:f, s:b, s:b, s:b, s:n, s:n, s:o, s:o, s:o, s:o}", "peft_type", f->kind == LK_LOHA ? "LOHA" : f->kind == LK_FULL ? "FULL" : "LOKR", "r", f->part[0].r, "alpha",
                               number(f->part[0].alpha), "rank_dropout", 0.0, "module_dropout", 0.0, "use_effective_conv2d", tucker, "inference_mode", 1, "init_weights", 1, "task_type",
                               "base_model_name_or_path", "modules_to_save", saved_modules(f), "target_modules", targets, "rank_pattern", ranks, "alpha_pattern", alphas);
    int factor;
    bool both;
    if (f->kind != LK_LOKR || !config) return config;
    lk_lycoris_factor(f, &factor, &both);
    json_object_set_new(config, "decompose_factor", json_integer(factor));
    json_object_set_new(config, "decompose_both", json_boolean(both));
    return config;
}

/* Exactly the adapted modules are named, so that PEFT attaches to these and no others; ranks and alphas unlike the first module's are named too. */
json_t *lk_lora_config_json(const lk_lora_file *f, double dropout) {
    json_t *targets = json_array(), *ranks = json_object(), *alphas = json_object();
    for (int i = 0; i < f->n; i++) {
        const lk_lora_part *p = &f->part[i];
        json_array_append_new(targets, json_string(p->name));
        if (p->r != f->part[0].r) json_object_set_new(ranks, p->name, json_integer(p->r));
        if (p->alpha != f->part[0].alpha) json_object_set_new(alphas, p->name, number(p->alpha));
    }
    if (f->kind >= LK_LOHA) return lycoris_config(f, targets, ranks, alphas);
    bool bias = f->built && f->built->lora_bias;
    for (int i = 0; i < f->n; i++) bias |= f->part[i].t[LK_SLOT_BIAS].x != NULL;
    json_t *config = json_pack("{s:s, s:i, s:o, s:f, s:b, s:b, s:s, s:b, s:b, s:b, s:n, s:n, s:o, s:o, s:o, s:o}", "peft_type", "LORA", "r", f->part[0].r, "lora_alpha", number(f->part[0].alpha),
                     "lora_dropout", dropout, "use_rslora", lk_lora_is_rs(f->kind), "use_dora", lk_lora_is_dora(f->kind), "bias", lk_lora_biases_names[f->biases], "fan_in_fan_out", 0,
                     "inference_mode", 1, "init_lora_weights", 1, "task_type", "base_model_name_or_path", "modules_to_save", saved_modules(f),
                               "target_modules", targets, "rank_pattern", ranks, "alpha_pattern", alphas);
    if (bias) json_object_set_new(config, "lora_bias", json_true());
    return config;
}

/* The file's parts of one component alone. */
static lk_lora_file only(const lk_lora_file *f, const char *component, lk_arena *arena) {
    lk_lora_file one = *f;
    one.n = 0;
    one.part = lk_alloc(arena, (size_t)(f->n + 1) * sizeof *one.part);
    for (int i = 0; i < f->n; i++) if (!strcmp(lk_lora_part_component(f, &f->part[i]), component)) one.part[one.n++] = f->part[i];
    return one;
}

/* Of each component a config, its keys behind the component's name; PEFT's, of one model, as they are. */
static lk_err config_text(const lk_lora_file *f, double dropout, bool named_by_component, lk_arena *arena, char **text) {
    lk_lora_component list[LK_LORA_COMPONENTS];
    json_t *named = json_object(), *value;
    const char *key;
    bool whole = true;
    for (int i = 0, n = lk_lora_file_components(f, list); i < n; i++) {
        lk_lora_file one = only(f, list[i].name, arena);
        json_t *config = lk_lora_config_json(&one, dropout);
        whole &= config != NULL;
        json_object_foreach(config, key, value) json_object_set(named, named_by_component ? lk_fmt(arena, "%s.%s", list[i].name, key) : key, value);
        json_decref(config);
    }
    *text = whole ? lk_json_text(named) : NULL;
    json_decref(named);
    return *text ? LK_OK : lk_error(LK_ENOMEM, "could not compose the adapter's config");
}

/* ---- tensors ------------------------------------------------------------------------------------------------------------------ */

typedef struct { const lk_lora_file *f; lk_lora_format format; lk_arena *arena; lk_st_item *items; int n; } writing;

static void add(writing *w, const char *name, lk_shape s, const float *x) {
    lk_st_item *item = &w->items[w->n++];
    *item = (lk_st_item){ .name = name, .dtype = LK_ST_F32, .rank = s.rank, .data = x };
    memcpy(item->d, s.d, sizeof s.d);
}

static lk_err add_dotted(writing *w, const lk_lora_part *p, const char *lead) {
    if (w->f->decompose) return lk_error(LK_EINPUT, "module '%s': LyCORIS' weight decomposition (dora_scale of LoHa and LoKr, or of columns), for which PEFT and diffusers have no form; write kohya", p->name);
    if (p->t[LK_SLOT_MID].x) return lk_error(LK_EINPUT, "module '%s': LoRA in Tucker's form (lora_mid), for which PEFT and diffusers have no form; write kohya", p->name);
    for (int i = 0; i < LK_SLOT_COUNT; i++) if (p->t[i].x) add(w, lk_fmt(w->arena, "%s%s.%s", lead, p->name, lk_lora_leaves[i].peft), p->t[i].s, p->t[i].x);
    return LK_OK;
}

/* A magnitude a row is a column there, of as many axes as the weight has. */
static lk_shape kohya_shape(const lk_lora_file *f, const lk_lora_part *p, int slot) {
    lk_shape s = p->t[slot].s;
    if (slot != LK_SLOT_MAGNITUDE || f->decompose) return s;
    return p->t[LK_SLOT_A].s.rank == 4 ? LK_SHAPE(lk_numel(s), 1, 1, 1) : LK_SHAPE(lk_numel(s), 1);
}

/* Kohya knows one scale, alpha / r. */
static lk_err add_underscored(writing *w, const lk_lora_part *p, const char *lead) {
    char under[512];
    bool sgm = w->format == LK_FORMAT_KOHYA_SGM && !lk_lora_encodes_text(lk_lora_part_component(w->f, p));
    const char *as_it_is = lk_lora_kohya_rest(p->name);                    /* a text encoder's, whose base was not given: kohya knows one name */
    lk_lora_underscored(as_it_is ? as_it_is : p->name, w->f->layers, w->f->attended, sgm, under, sizeof under);
    if (!*under) return lk_error(LK_EINPUT, "module '%s' has no name in SGM's numbering; write format kohya instead", p->name);
    if (p->t[LK_SLOT_BIAS].x) return lk_error(LK_EINPUT, "module '%s': B has a bias (lora_bias), for which kohya's files have no form; write peft or diffusers", p->name);
    if (lk_lora_part_groups(p) > 1) return lk_error(LK_EINPUT, "module '%s' is LoRA on a convolution in %d groups, for which kohya's files have no form; write peft or diffusers", p->name, lk_lora_part_groups(p));
    for (int i = 0; i < LK_SLOT_COUNT; i++) if (p->t[i].x) add(w, lk_fmt(w->arena, "%s%s.%s", lead, under, lk_lora_leaves[i].kohya), kohya_shape(w->f, p, i), p->t[i].x);
    if (p->t[LK_SLOT_K1].x && p->t[LK_SLOT_K2].x && p->alpha != p->r)
        return lk_error(LK_EINPUT, "module '%s': LyCORIS' scale is 1 where both of LoKr's factors are whole; here it is %g", p->name, p->alpha / p->r);
    float *alpha = lk_alloc(w->arena, sizeof *alpha);
    *alpha = (float)(lk_lora_file_scale(w->f, p) * p->r);
    add(w, lk_fmt(w->arena, "%s%s.alpha", lead, under), LK_SCALAR, alpha);
    return LK_OK;
}

/* Beside a second text encoder (and in FLUX) the first is te1. */
static const char *kohya_lead(const writing *w, const char *component) {
    lk_lora_component list[LK_LORA_COMPONENTS];
    bool first = w->format == LK_FORMAT_KOHYA_FLUX;
    for (int i = 0, n = lk_lora_file_components(w->f, list); i < n; i++) first |= !strcmp(list[i].name, "text_encoder_2") || !strcmp(list[i].name, "text_encoder_3");
    if (first && !strcmp(component, "text_encoder")) return "lora_te1_";
    if (w->format == LK_FORMAT_KOHYA_FLUX && !lk_lora_encodes_text(component)) return "lora_unet_";
    for (size_t i = 0; i < sizeof kohya_prefixes / sizeof *kohya_prefixes; i++) if (!strcmp(kohya_prefixes[i].component, component)) return kohya_prefixes[i].prefix;
    return NULL;
}

static lk_err check_names(const writing *w) {
    for (int i = 0; i < w->f->n; i++)
        if (lk_lora_kohya_component(w->f->part[i].name) && (w->format < LK_FORMAT_KOHYA || !lk_lora_encodes_text(lk_lora_part_component(w->f, &w->f->part[i]))))
            return lk_error(LK_EINPUT, "'%s' is kohya's underscored name, whose dots are lost: the base checkpoint is needed to find the module", w->f->part[i].name);
    if (w->format == LK_FORMAT_KOHYA_SGM && w->f->layers < 1) return lk_error(LK_EINPUT, "SGM's numbering needs the base model's module names (a UNet's)");
    return LK_OK;
}

static lk_err collect(writing *w) {
    if (w->format == LK_FORMAT_DIFFUSERS && w->f->kind >= LK_LOHA) return lk_error(LK_EINPUT, "diffusers' format has no LoHa, LoKr and full differences; write peft or kohya (LyCORIS' keys)");
    bool kohya = w->format >= LK_FORMAT_KOHYA;
    if (w->format != LK_FORMAT_PEFT) LK_TRY(lk_lora_no_saved(w->f, "only format peft can hold"));
    else LK_TRY(lk_lora_same_component(w->f, "PEFT's file is of one: name the component"));
    LK_TRY(check_names(w));
    w->items = lk_alloc(w->arena, ((size_t)w->f->n * (LK_SLOT_COUNT + 1) + (size_t)w->f->n_saved) * sizeof *w->items);
    for (int i = 0; i < w->f->n; i++) {
        const char *component = lk_lora_part_component(w->f, &w->f->part[i]);
        const char *lead = w->format == LK_FORMAT_PEFT ? "base_model.model." : kohya ? kohya_lead(w, component) : lk_fmt(w->arena, "%s.", component);
        if (!lead) return lk_error(LK_EINPUT, "component '%s': kohya's files know unet, transformer, text_encoder, text_encoder_2 and text_encoder_3", component);
        if (kohya) LK_TRY(add_underscored(w, &w->f->part[i], lead));
        else LK_TRY(add_dotted(w, &w->f->part[i], lead));
    }
    for (int i = 0; i < w->f->n_saved; i++) add(w, lk_fmt(w->arena, "base_model.model.%s", lk_lora_saved_key(w->f, w->arena, &w->f->saved[i])), w->f->saved[i].v.s, w->f->saved[i].v.x);
    return LK_OK;
}

static lk_err write_items(const writing *w, const char *path, double dropout, const char *base) {
    static const char *const keys[] = { [LK_FORMAT_PEFT] = "adapter_config", [LK_FORMAT_DIFFUSERS] = "lora_adapter_metadata" };
    if (w->format != LK_FORMAT_PEFT && w->format != LK_FORMAT_DIFFUSERS)
        return lk_st_write(path, w->items, w->n, (const char *[]){ "ss_network_alpha", lk_fmt(w->arena, "%g", w->f->part[0].alpha), "ss_network_dim", lk_fmt(w->arena, "%d", w->f->part[0].r),
                                                                   "ss_network_module", "networks.lora", base ? LK_BASE_KEY : NULL, base, NULL });
    char *text = NULL;
    lk_err err = config_text(w->f, dropout, w->format == LK_FORMAT_DIFFUSERS, w->arena, &text);
    if (!err) err = lk_st_write(path, w->items, w->n, (const char *[]){ keys[w->format], text, "format", "pt", base ? LK_BASE_KEY : NULL, base, NULL });
    free(text);
    return err;
}

static lk_err save(const lk_lora_file *f, const char *path, lk_lora_format format, double dropout, const char *base) {
    writing w = { .f = f, .format = format, .arena = lk_arena_new() };
    lk_lora_file joined;
    lk_err err = LK_OK;
    if (f->n && format == LK_FORMAT_KOHYA_FLUX) { err = lk_lora_flux_join(f, w.arena, &joined); w.f = &joined; }
    if (!err) err = f->n ? collect(&w) : lk_error(LK_ESTATE, "the adapter joined no module (build the model with it first; do its targets match?)");
    if (!err) err = write_items(&w, path, dropout, base);
    lk_arena_free(w.arena);
    return lk_err_wrap(err, "%s: not written", path);
}

static lk_err save_config(const lk_lora_file *f, const char *path, double dropout) {
    json_t *config = lk_lora_config_json(f, dropout);
    lk_err err = config ? lk_json_save(config, path) : lk_error(LK_ENOMEM, "%s: could not compose the adapter's config", path);
    json_decref(config);
    return err;
}

lk_err lk_lora_file_save(const lk_lora_file *f, const char *path, lk_lora_format format, bool config_too) {
    LK_TRY(save(f, path, format, 0, f->base));
    if (format != LK_FORMAT_PEFT || !config_too) return LK_OK;
    const char *slash = strrchr(path, '/');
    char *beside = lk_xfmt("%.*sadapter_config.json", slash ? (int)(slash - path + 1) : 0, path);
    lk_err err = save_config(f, beside, 0);
    free(beside);
    return err;
}

/* ---- a built adapter ------------------------------------------------------------------------------------------------------------ */

lk_err lk_adapter_save_as(lk_adapter *a, lk_exec *exec, const char *path, lk_lora_format format, const char *component) {
    lk_lora_file *f;
    LK_TRY(lk_lora_file_of(a, exec, &f));
    f->component = lk_strdup(f->arena, component);
    char base[65];
    lk_err err = a->base ? lk_base_digest(a->base, base) : LK_OK;
    if (!err) err = save(f, path, format, a->config.dropout, a->base ? base : NULL);
    lk_lora_file_free(f);
    return err;
}

lk_err lk_adapter_save(lk_adapter *a, lk_exec *exec, const char *path) { return lk_adapter_save_as(a, exec, path, LK_FORMAT_PEFT, "unet"); }

/* The graph of the modules joined last: no executor is named. */
lk_err lk_adapter_save_config(lk_adapter *a, const char *path) {
    if (!a->n) return lk_error(LK_ESTATE, "%s: not written: the adapter joined no module (build the model with it first; do its targets match?)", path);
    lk_lora_file f = { .kind = a->config.kind, .built = &a->config, .biases = a->config.biases, .part = lk_xcalloc((size_t)a->n, sizeof *f.part), .saved = lk_xcalloc((size_t)a->n_copies + 1, sizeof *f.saved) };
    for (int i = 0; i < a->n; i++)
        if (a->module[i].g == a->module[a->n - 1].g) f.part[f.n++] = (lk_lora_part){ .name = a->module[i].name, .r = a->module[i].r, .alpha = a->module[i].alpha };
    for (int i = 0; i < a->n_copies; i++) if (a->copies[i].g == a->module[a->n - 1].g) f.saved[f.n_saved++] = (lk_lora_saved){ .name = a->copies[i].name, .bias = a->copies[i].bias };
    lk_err err = save_config(&f, path, a->config.dropout);
    free(f.part);
    free(f.saved);
    return err;
}
