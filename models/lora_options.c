/* PEFT's config of an adapter file (adapter_config.json, or diffusers' in the header): the scale of each module, and the options that make the tensors
 * mean something else. What is another method, or holds only of a base that the file does not hold, is refused by name; options that only
 * say which modules were adapted (target_modules, exclude_modules, layers_to_transform, layers_pattern) or how training went change nothing: the keys tell. */
#include "models/lora_internal.h"
#include <math.h>
#include <string.h>

const json_t *lk_lora_config_value(const lk_lora_entries *f, const char *key) {
    char name[128];
    if (!f->config || strlen(f->config_of) + 1 + strlen(key) >= sizeof name) return NULL;
    strcpy(name, f->config_of);
    if (*name) strcat(name, ".");
    strcat(name, key);
    const json_t *v = json_object_get(f->config, name);
    return json_is_null(v) ? NULL : v;
}

/* ---- refused ---------------------------------------------------------------------------------------------------------------- */

/* Not understood when given: anything but null, false and nothing in a list or object. */
static const struct { const char *key, *why; } refused[] = {
    { "use_qalora", "A takes averages over groups of a quantised base's inputs" },
    { "use_bdlora", "its factors are block-diagonal" },
    { "kasa_config", "the base's smallest singular values were cut off, and a diagonal stands between A and B" },
    { "monteclora_config", "its factors are drawn from distributions" },
    { "arrow_config", "it chooses among several adapters for each token" },
    { "alora_invocation_tokens", "its branch acts only behind certain tokens" },
    { "trainable_token_indices", "it trains rows of an embedding" },
    { "target_parameters", "it adapts parameters that are no module's weight" },
    { "layer_replication", "it repeats layers of the base, which makes another model" } };
/* First values of A and B that were taken out of the base's weights: the base is another one than its checkpoint. */
static const struct { const char *start, *what; } of_another_base[] = {
    { "pissa", "its largest singular values" }, { "olora", "a part of its QR decomposition" }, { "corda", "singular values chosen by inputs" }, { "lora_ga", "the first values of A and B" } };

static bool given(const json_t *v) { return v && !json_is_false(v) && !(json_is_array(v) && !json_array_size(v)) && !(json_is_object(v) && !json_object_size(v)); }

static lk_err check_init(const lk_lora_entries *f) {
    const char *init = json_string_value(lk_lora_config_value(f, "init_lora_weights"));
    if (!init) return LK_OK;
    for (size_t i = 0; i < sizeof of_another_base / sizeof *of_another_base; i++)
        if (lk_starts(init, of_another_base[i].start))
            return lk_error(LK_EINPUT, "%s: its config says init_lora_weights = %s: before training the base lost %s, so the adapter is not one for the base's checkpoint; PEFT's "
                            "save_pretrained(path_initial_model_for_weight_conversion=...) writes it as one that is", f->path, init, of_another_base[i].what);
    if (!strcmp(init, "loftq")) return lk_error(LK_EINPUT, "%s: its config says init_lora_weights = loftq: it was trained on a base quantised by LoftQ, which the base's checkpoint is not", f->path);
    return LK_OK;
}

static lk_err check_options(lk_lora_entries *f) {
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (given(lk_lora_config_value(f, refused[i].key))) return lk_error(LK_EINPUT, "%s: its config gives %s (%s), which is not implemented", f->path, refused[i].key, refused[i].why);
    const char *type = json_string_value(lk_lora_config_value(f, "peft_type")), *bias = json_string_value(lk_lora_config_value(f, "bias"));
    const char *want = f->kind == LK_LOHA ? "LOHA" : f->kind == LK_LOKR ? "LOKR" : f->kind == LK_FULL ? "FULL" : "LORA";
    if (type && strcmp(type, want)) return lk_error(LK_EINPUT, "%s: its config says peft_type = %s; its keys are of %s", f->path, type, want);
    if (bias) LK_TRY(lk_err_wrap(lk_lora_biases_named(bias, &f->biases), "%s: its config", f->path));
    if (f->biases && f->kind >= LK_LOHA) return lk_error(LK_EINPUT, "%s: its config says bias = %s, which %s does not have", f->path, bias, want);
    if (f->dora && f->bias) return lk_error(LK_EINPUT, "%s: DoRA and a bias of lora_B (lora_bias) together have no meaning in PEFT", f->path);
    return check_init(f);
}

/* ---- reading ---------------------------------------------------------------------------------------------------------------- */

/* Of diffusers' header, which has a config for each component. */
static void set_config_of(lk_lora_entries *f, int entry) { f->config_of = f->by_component && entry < f->n ? f->e[entry].component : ""; }

static lk_err read_flags(lk_lora_entries *f, int entry) {
    set_config_of(f, entry);
    bool rs = json_is_true(lk_lora_config_value(f, "use_rslora"));
    if (entry && rs != f->rslora) return lk_error(LK_EINPUT, "%s: its components do not agree in use_rslora; read them one by one (component=)", f->path);
    f->rslora = rs;
    if (json_is_true(lk_lora_config_value(f, "use_dora")) != f->dora && f->config)
        return lk_error(LK_EINPUT, "%s: use_dora in its config and the magnitude vectors in the file contradict each other", f->path);
    return LK_OK;
}

lk_err lk_lora_config_read(lk_lora_entries *f) {
    const char *ours = lk_st_meta(f->st, "adapter_config"), *theirs = lk_st_meta(f->st, "lora_adapter_metadata");
    if (f->peft && ours) LK_TRY(lk_json_parse(ours, strlen(ours), f->path, &f->config));
    else if (f->peft) {
        const char *slash = strrchr(f->path, '/');
        char *beside = lk_fmt(f->arena, "%.*sadapter_config.json", slash ? (int)(slash - f->path + 1) : 0, f->path);
        LK_TRY(lk_err_wrap(lk_json_load(beside, &f->config), "%s: PEFT keeps alpha in adapter_config.json beside the file", f->path));
    } else if (!f->kohya && theirs) {
        LK_TRY(lk_json_parse(theirs, strlen(theirs), f->path, &f->config));
        f->by_component = true;
    }
    if (f->config && !json_is_object(f->config)) return lk_error(LK_EINPUT, "%s: its adapter config is not a JSON object", f->path);
    for (int i = 0; i < (f->n ? f->n : 1); i++) if (!i || (f->by_component && strcmp(f->e[i].component, f->e[i - 1].component))) LK_TRY(read_flags(f, i));
    if (f->dora && f->kohya && !f->decompose) f->decompose = LK_DECOMPOSE_ROWS;                     /* all of one value */
    if (f->kind < LK_LOHA && f->decompose == LK_DECOMPOSE_ROWS) f->decompose = LK_DECOMPOSE_NONE;      /* as PEFT's DoRA */
    if (f->kind < LK_LOHA) f->kind = f->dora ? f->rslora ? LK_RSDORA : LK_DORA : f->rslora ? LK_RSLORA : LK_LORA;
    for (int i = 0; i < (f->n ? f->n : 1); i++) {
        if (i && (!f->by_component || !strcmp(f->e[i].component, f->e[i - 1].component))) continue;
        set_config_of(f, i);
        LK_TRY(check_options(f));
    }
    return LK_OK;
}

/* ---- scales ----------------------------------------------------------------------------------------------------------------- */

/* The first key that matches decides, as in PEFT. */
static lk_err pattern_value(const lk_lora_entries *f, const char *pattern, const char *module, double *out, bool *met) {
    const char *key;
    json_t *value;
    *met = false;
    json_object_foreach((json_t *)lk_lora_config_value(f, pattern), key, value) {
        if (!json_is_number(value)) return lk_error(LK_EINPUT, "%s: %s of '%s' in its config is no number", f->path, pattern, key);
        LK_TRY(lk_err_wrap(lk_lora_pattern_match(key, module, met), "%s: %s", f->path, pattern));
        if (*met) { *out = json_number_value(value); return LK_OK; }
    }
    return LK_OK;
}

static lk_err find_alpha(const lk_lora_entries *f, lk_lora_entry *e) {
    const json_t *whole = lk_lora_config_value(f, f->kind >= LK_LOHA ? "alpha" : "lora_alpha");
    bool met;
    if (e->t[LK_SLOT_ALPHA]) {
        if (e->t[LK_SLOT_ALPHA]->numel != 1) return lk_error(LK_ESHAPE, "%s: '%s' holds %lld numbers; expected 1", f->path, e->t[LK_SLOT_ALPHA]->name, (long long)e->t[LK_SLOT_ALPHA]->numel);
        LK_TRY(lk_st_f64(e->t[LK_SLOT_ALPHA], &e->alpha));
    } else {
        LK_TRY(pattern_value(f, "alpha_pattern", e->name, &e->alpha, &met));
        if (!met && f->peft && !json_is_number(whole)) return lk_error(LK_EINPUT, "%s: its adapter config has no %s", f->path, f->kind >= LK_LOHA ? "alpha" : "lora_alpha");
        if (!met) e->alpha = json_is_number(whole) ? json_number_value(whole) : e->r;
    }
    return isfinite(e->alpha) ? LK_OK : lk_error(LK_EINPUT, "%s: alpha of module '%s' is not a finite number", f->path, e->name);
}

/* LoKr with both factors whole does not show its rank. PEFT's config tells it; LyCORIS means a scale of 1, whatever alpha says. */
static lk_err rank_of_whole(const lk_lora_entries *f, lk_lora_entry *e) {
    double r = json_number_value(lk_lora_config_value(f, "r"));
    bool met;
    LK_TRY(pattern_value(f, "rank_pattern", e->name, &r, &met));
    if (f->peft && r >= 1 && r <= 1 << 20) { e->r = (int)r; return LK_OK; }
    e->r = 1;
    for (int slot = LK_SLOT_K1; slot <= LK_SLOT_K2; slot += LK_SLOT_K2 - LK_SLOT_K1)
        for (int i = 0; i < 2; i++) if (e->t[slot]->d[i] > e->r) e->r = (int)e->t[slot]->d[i];
    e->alpha = e->r;
    return LK_OK;
}

lk_err lk_lora_find_scale(lk_lora_entries *f, lk_lora_entry *e) {
    f->config_of = f->by_component ? e->component : "";
    LK_TRY(find_alpha(f, e));
    return e->r ? LK_OK : rank_of_whole(f, e);
}
