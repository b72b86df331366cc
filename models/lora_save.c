/* Writing an adapter: PEFT's layout, its config both in the file's header and, on request, as adapter_config.json beside it. */
#include "models/lora_internal.h"
#include <stdlib.h>
#include <string.h>

static json_t *number(double x) { return x == (double)(int64_t)x && x > -9e15 && x < 9e15 ? json_integer((json_int_t)x) : json_real(x); }

/* Exactly the adapted modules are named, so that PEFT attaches to these and no others. */
static json_t *config_json(const lk_adapter *a, const lk_graph *g) {
    const lk_lora_config *c = &a->config;
    json_t *targets = json_array(), *ranks = json_object(), *alphas = json_object();
    for (int i = 0; i < a->n; i++) {
        const lk_lora_module *m = &a->module[i];
        if (m->g != g) continue;
        json_array_append_new(targets, json_string(m->name));
        if (m->r != c->r) json_object_set_new(ranks, m->name, json_integer(m->r));
        if (m->alpha != c->alpha) json_object_set_new(alphas, m->name, number(m->alpha));
    }
    return json_pack("{s:s, s:i, s:o, s:f, s:b, s:b, s:s, s:b, s:b, s:b, s:n, s:n, s:n, s:o, s:o, s:o}", "peft_type", "LORA", "r", c->r, "lora_alpha", number(c->alpha),
                     "lora_dropout", c->dropout, "use_rslora", c->kind == LK_RSLORA, "use_dora", c->kind == LK_DORA, "bias", "none", "fan_in_fan_out", 0,
                     "inference_mode", 1, "init_lora_weights", 1, "task_type", "base_model_name_or_path", "modules_to_save",
                     "target_modules", targets, "rank_pattern", ranks, "alpha_pattern", alphas);
}

/* The graph of the modules joined last: the one a config is written of when no executor is named. */
static const lk_graph *latest_graph(const lk_adapter *a) { return a->n ? a->module[a->n - 1].g : NULL; }

static lk_err nothing_adapted(const char *path) { return lk_error(LK_ESTATE, "%s: not written: the adapter joined no module (build the model with it first; do its targets match?)", path); }

lk_err lk_adapter_save_config(lk_adapter *a, const char *path) {
    if (!a->n) return nothing_adapted(path);
    json_t *config = config_json(a, latest_graph(a));
    lk_err err = config ? lk_json_save(config, path) : lk_error(LK_ENOMEM, "%s: could not compose the adapter's config", path);
    json_decref(config);
    return err;
}

static lk_err read_item(lk_exec *exec, lk_arena *arena, const char *module, const char *leaf, lk_val v, lk_st_item *item) {
    lk_shape s = lk_shape_of(lk_exec_graph(exec), v);
    int64_t n = lk_numel(s);
    float *x = lk_alloc(arena, (size_t)n * sizeof *x);
    *item = (lk_st_item){ .name = lk_fmt(arena, "base_model.model.%s.%s", module, leaf), .dtype = LK_ST_F32, .rank = s.rank, .data = x };
    memcpy(item->d, s.d, sizeof s.d);
    return lk_exec_get(exec, v, x, n);
}

static lk_err collect(const lk_adapter *a, lk_exec *exec, lk_arena *arena, lk_st_item *items, int *n) {
    const lk_graph *g = lk_exec_graph(exec);
    *n = 0;
    for (int i = 0; i < a->n; i++) {
        const lk_lora_module *m = &a->module[i];
        if (m->g != g) continue;
        LK_TRY(read_item(exec, arena, m->name, "lora_A.weight", m->a, &items[(*n)++]));
        LK_TRY(read_item(exec, arena, m->name, "lora_B.weight", m->b, &items[(*n)++]));
        if (lk_ok(m->magnitude)) LK_TRY(read_item(exec, arena, m->name, "lora_magnitude_vector", m->magnitude, &items[(*n)++]));
    }
    return LK_OK;
}

lk_err lk_adapter_save(lk_adapter *a, lk_exec *exec, const char *path) {
    lk_arena *arena = lk_arena_new();
    lk_st_item *items = lk_alloc(arena, (size_t)(3 * a->n + 1) * sizeof *items);
    int n;
    lk_err err = collect(a, exec, arena, items, &n);
    if (!err && !n) err = nothing_adapted(path);
    if (!err) {
        json_t *config = config_json(a, lk_exec_graph(exec));
        char *text = config ? lk_json_text(config) : NULL;
        err = text ? lk_st_write(path, items, n, (const char *[]){ "adapter_config", text, "format", "pt", NULL }) : lk_error(LK_ENOMEM, "%s: could not compose the adapter's config", path);
        free(text);
        json_decref(config);
    }
    lk_arena_free(arena);
    return err;
}
