/* Strict reading of config.json: rules, typed lists, class names. See config.h. */
#include "models/config.h"
#include <stdlib.h>
#include <string.h>

static const char *const class_names[] = {
    "UNet2DConditionModel", "ControlNetModel", "AutoencoderKL", "AutoencoderTiny", "SD3Transformer2DModel", "FluxTransformer2DModel",
    "QwenImageTransformer2DModel", "UNetSpatioTemporalConditionModel", "CLIPTextModel", "CLIPTextModelWithProjection", "CLIPModel",
    "CLIPVisionModel", "CLIPVisionModelWithProjection", "Dinov2Model", "ViTModel" };
enum { CLASS_COUNT = sizeof class_names / sizeof *class_names };

static const struct { const char *name; lk_act act; } activations[] = {
    { "silu", LK_ACT_SILU }, { "swish", LK_ACT_SILU }, { "gelu", LK_ACT_GELU }, { "gelu_new", LK_ACT_GELU_TANH },
    { "gelu_pytorch_tanh", LK_ACT_GELU_TANH }, { "quick_gelu", LK_ACT_QUICK_GELU }, { "relu", LK_ACT_RELU } };
enum { ACT_COUNT = sizeof activations / sizeof *activations };

/* `_class_name`, else the first architecture, else NULL. */
static const char *class_of(const json_t *config) {
    const json_t *name = json_object_get(config, "_class_name");
    if (!json_is_string(name)) name = json_array_get(json_object_get(config, "architectures"), 0);
    return json_string_value(name);
}

lk_err lk_model_class(const char *path, const char **name) {
    json_t *config;
    *name = NULL;
    LK_TRY(lk_json_load(path, &config));
    const char *found = class_of(config);
    lk_err err = LK_OK;
    if (!found) err = lk_error(LK_EINPUT, "%s: neither _class_name nor architectures is given: not the config.json of a model", path);
    for (int i = 0; found && i < CLASS_COUNT; i++)
        if (!strcmp(class_names[i], found)) *name = class_names[i];
    if (!err && !*name)
        err = lk_error(LK_EINPUT, "%s: model class '%s' is not implemented; the nearest known one is '%s'", path, found,
                       class_names[lk_nearest(found, class_names, CLASS_COUNT)]);
    json_decref(config);
    return err;
}

static lk_err check_class(const json_t *config, const char *path, const char *const *classes) {
    const char *found = class_of(config);
    if (!found) return LK_OK;
    for (int i = 0; classes[i]; i++) if (!strcmp(classes[i], found)) return LK_OK;
    return lk_error(LK_EINPUT, "%s: a config of class '%s'; expected '%s'", path, found, classes[0]);
}

static bool is_allowed(const char *allowed, const char *text) {
    size_t n = strlen(text);
    for (const char *p = allowed; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL) {
        size_t len = strcspn(p, "|");
        if (len == n && !memcmp(p, text, n)) return true;
    }
    return false;
}

static lk_err check_value(const char *path, const lk_config_rule *rule, const json_t *value) {
    if (!rule->allowed) return LK_OK;
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS);
    lk_err err = text && is_allowed(rule->allowed, text) ? LK_OK
        : lk_error(LK_EINPUT, "%s: %s = %s is not implemented; allowed: %s", path, rule->key, text ? text : "?", rule->allowed);
    free(text);
    return err;
}

static lk_err unknown_key(const char *path, const lk_config_rule *rules, const char *key) {
    const char *names[256];
    int n = 0;
    while (n < 256 && rules[n].key) { names[n] = rules[n].key; n++; }
    int near = lk_nearest(key, names, n);
    return lk_error(LK_EINPUT, "%s: unknown key '%s'; the nearest known one is '%s'. An option this builder does not know could change the result",
                    path, key, near >= 0 ? names[near] : "");
}

static lk_err check_rules(const json_t *config, const char *path, const lk_config_rule *rules, bool all_known) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)config, key, value) {
        if (key[0] == '_') continue;
        int i = 0;
        while (rules[i].key && strcmp(rules[i].key, key)) i++;
        if (rules[i].key) LK_TRY(check_value(path, &rules[i], value));
        else if (all_known && !json_is_null(value)) return unknown_key(path, rules, key);
    }
    return LK_OK;
}

lk_err lk_config_allow(const json_t *config, const char *path, const lk_config_rule *rules) { return check_rules(config, path, rules, false); }

lk_err lk_config_open(const char *path, const char *const *classes, const lk_config_rule *rules, json_t **out) {
    json_t *config;
    *out = NULL;
    LK_TRY(lk_json_load(path, &config));
    lk_err err = json_is_object(config) ? LK_OK : lk_error(LK_EINPUT, "%s: expected a JSON object", path);
    if (!err) err = check_class(config, path, classes);
    if (!err && rules) err = check_rules(config, path, rules, true);
    if (err) { json_decref(config); return err; }
    *out = config;
    return LK_OK;
}

static lk_err in_range(const char *key, const char *path, int64_t value, int64_t lo, int64_t hi) {
    if (value >= lo && value <= hi) return LK_OK;
    return lk_error(LK_EINPUT, "%s: %s = %lld is outside %lld..%lld", path, key, (long long)value, (long long)lo, (long long)hi);
}

lk_err lk_config_count(const json_t *config, const char *key, const char *path, int64_t dflt, int64_t lo, int64_t hi, int64_t *out) {
    LK_TRY(lk_json_int(config, key, path, dflt, out));
    return in_range(key, path, *out, lo, hi);
}

lk_err lk_config_length(const json_t *config, const char *key, const char *path, int max, int *out) {
    const json_t *list = json_object_get(config, key);
    if (!json_is_array(list)) return lk_error(LK_EINPUT, "%s: %s is missing or not a list", path, key);
    size_t n = json_array_size(list);
    if (n < 1 || n > (size_t)max) return lk_error(LK_EINPUT, "%s: %s has %zu entries; expected 1 to %d", path, key, n, max);
    *out = (int)n;
    return LK_OK;
}

lk_err lk_config_words(const json_t *config, const char *key, const char *path, const char *const *table, int n, int *out) {
    const json_t *list = json_object_get(config, key);
    if (!json_is_array(list) || json_array_size(list) != (size_t)n)
        return lk_error(LK_EINPUT, "%s: %s must be a list of %d names", path, key, n);
    int count = 0;
    while (table[count]) count++;
    for (int i = 0; i < n; i++) {
        const char *word = json_string_value(json_array_get(list, (size_t)i));
        int row = 0;
        while (row < count && (!word || strcmp(table[row], word))) row++;
        if (row == count)
            return lk_error(LK_EINPUT, "%s: %s[%d] = '%s' is not implemented; the nearest known one is '%s'", path, key, i, word ? word : "(not a string)",
                            table[lk_nearest(word ? word : "", table, count)]);
        out[i] = row;
    }
    return LK_OK;
}

lk_err lk_config_counts(const json_t *config, const char *key, const char *path, int64_t dflt, int n, int64_t lo, int64_t hi, int64_t *out) {
    LK_TRY(lk_json_ints(config, key, path, dflt, n, out));
    for (int i = 0; i < n; i++) LK_TRY(in_range(key, path, out[i], lo, hi));
    return LK_OK;
}

lk_err lk_config_act(const json_t *config, const char *key, const char *path, const char *dflt, lk_act *out) {
    const char *name, *names[ACT_COUNT];
    LK_TRY(lk_json_str(config, key, path, dflt, &name));
    for (int i = 0; i < ACT_COUNT; i++) {
        names[i] = activations[i].name;
        if (!strcmp(names[i], name)) { *out = activations[i].act; return LK_OK; }
    }
    return lk_error(LK_EINPUT, "%s: %s = '%s' is not implemented; the nearest known one is '%s'", path, key, name, names[lk_nearest(name, names, ACT_COUNT)]);
}

lk_err lk_config_divides(const char *path, const char *what, int64_t whole, const char *by, int64_t part) {
    if (part > 0 && whole % part == 0) return LK_OK;
    return lk_error(LK_EINPUT, "%s: %s %lld is not divisible by %s %lld", path, what, (long long)whole, by, (long long)part);
}

lk_val lk_activate(lk_graph *g, lk_val x, lk_act act) {
    switch (act) {
    case LK_ACT_SILU: return lk_silu(g, x);
    case LK_ACT_GELU: return lk_gelu(g, x);
    case LK_ACT_GELU_TANH: return lk_gelu_tanh(g, x);
    case LK_ACT_QUICK_GELU: return lk_quick_gelu(g, x);
    case LK_ACT_RELU: return lk_relu(g, x);
    }
    return LK_NONE;
}
