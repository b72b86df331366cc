/* modules_to_save: whole modules an adapter carries beside its low-rank branches, as PEFT does. Where such a module is built its params are
 * the adapter's own copies ("conv_in.modules_to_save.weight" for "conv_in.weight"), which start as the base's, are trained, and replace the
 * base's. In files they have the model's own names behind PEFT's prefix. The base's biases under PEFT's bias = all or lora_only are such copies too
 * ("conv_in.base_layer.bias", whether conv_in is adapted or not; in files only of an adapted module, else "conv_in.bias"). */
#include "models/lora_internal.h"
#include <stdlib.h>
#include <string.h>

/* ---- names ---------------------------------------------------------------------------------------------------------------- */

/* "mid_block.norm.weight" -> 14, the length of its module's name; 0: a param of the model itself. */
static size_t owner_length(const char *name) {
    const char *dot = strrchr(name, '.');
    return dot ? (size_t)(dot - name) : 0;
}

/* Whether a name means the module of n bytes or one it lies in: the names end alike, `dotted`: at a '.'. */
static bool means(const char *name, const char *module, size_t n, bool dotted) {
    size_t k = strlen(name);
    for (size_t end = 1; end <= n; end++) {
        if (end < n && module[end] != '.') continue;
        if (k && end >= k && !memcmp(module + end - k, name, k) && (!dotted || end == k || module[end - k - 1] == '.')) return true;
    }
    return false;
}

const char *const lk_lora_biases_names[] = { [LK_BIASES_NONE] = "none", [LK_BIASES_ALL] = "all", [LK_BIASES_ADAPTED] = "lora_only" };
lk_err lk_lora_biases_named(const char *name, lk_lora_biases *out) {
    for (int i = 0; i <= LK_BIASES_ADAPTED; i++) if (!strcmp(lk_lora_biases_names[i], name)) { *out = (lk_lora_biases)i; return LK_OK; }
    return lk_error(LK_EINPUT, "bias = '%s': expected none, all or lora_only", name);
}
static const char *leaf_of(const char *name) { return owner_length(name) ? name + owner_length(name) + 1 : name; }
static const char *origin(bool bias) { return bias ? "bias" : "modules_to_save"; }

bool lk_lora_saves(const lk_adapter *a, const char *module) {
    for (const char *const *name = a->config.modules_to_save; name && *name; name++) if (means(*name, module, strlen(module), true)) return true;
    return false;
}

/* The modules of params, none twice and none inside another. NULL-ended. */
const char *const *lk_lora_saved_modules(lk_arena *arena, const lk_lora_saved *saved, int n) {
    const char **list = lk_alloc(arena, (size_t)(n + 1) * sizeof *list);
    int count = 0;
    for (int i = 0; i < n; i++) {
        const char *name = saved[i].name;
        size_t length = owner_length(name);
        bool inner = !length || saved[i].bias;
        for (int k = 0; k < n && !inner; k++) {
            size_t other = owner_length(saved[k].name);
            if (saved[k].bias) continue;
            inner = (other && other < length && !strncmp(saved[k].name, name, other) && name[other] == '.') || (k < i && other == length && !strncmp(saved[k].name, name, length));
        }
        if (!inner) list[count++] = lk_fmt(arena, "%.*s", (int)length, name);
    }
    return list;
}

/* PEFT's layer around an adapted module shows in the name of its bias. */
const char *lk_lora_saved_key(const lk_lora_file *f, lk_arena *arena, const lk_lora_saved *s) {
    int length = (int)owner_length(s->name);
    bool adapted = false;
    for (int i = 0; i < f->n && s->bias && !adapted; i++) adapted = length && !strncmp(f->part[i].name, s->name, (size_t)length) && !f->part[i].name[length];
    return adapted ? lk_fmt(arena, "%.*s.base_layer.bias", length, s->name) : s->name;
}

/* ---- building ----------------------------------------------------------------------------------------------------------------- */

static lk_lora_copy *known_copy(lk_adapter *a, const lk_graph *g, const char *name) {
    for (int i = 0; i < a->n_copies; i++) if (a->copies[i].g == g && !strcmp(a->copies[i].name, name)) return &a->copies[i];
    return NULL;
}

static lk_val own_copy(lk_adapter *a, lk_graph *g, const char *name, bool bias, lk_val base) {
    const lk_lora_copy *known = known_copy(a, g, name);
    if (known) return known->v;
    char *full = lk_xfmt("%s%.*s.%s.%s", a->prefix, (int)owner_length(name), name, bias ? "base_layer" : "modules_to_save", leaf_of(name));
    lk_val v = lk_param(g, full, lk_shape_of(g, base), LK_MEM_ADAPTER);
    free(full);
    if (a->n_copies == a->cap_copies) {
        a->cap_copies = a->cap_copies ? 2 * a->cap_copies : 16;
        a->copies = lk_xrealloc(a->copies, (size_t)a->cap_copies * sizeof *a->copies);
    }
    a->copies[a->n_copies++] = (lk_lora_copy){ .g = g, .name = lk_strdup(a->arena, name), .v = v, .base = base, .bias = bias };
    return v;
}

static bool trains_bias(const lk_adapter *a, const char *module, const char *name) {
    if (!a->config.biases || strcmp(leaf_of(name), "bias")) return false;
    return a->config.biases == LK_BIASES_ALL || lk_lora_adapts(a, module);
}
lk_val lk_adapter_param(const lk_net *net, const char *name, lk_val base) {
    char *module = lk_xfmt("%.*s", (int)owner_length(name), name);
    lk_val v = base;
    for (int i = 0; i < net->n_adapters; i++) {
        bool bias = !lk_lora_saves(net->adapters[i], module);
        if (bias && !trains_bias(net->adapters[i], module, name)) continue;
        if (v.id == base.id) v = own_copy(net->adapters[i], net->g, name, bias, base);
        else lk_graph_fail(net->g, LK_EINPUT, "%s: two adapters have it in modules_to_save or train its bias; only one can replace it", name);
    }
    free(module);
    return v;
}

/* A target that is a norm's name is no module that could be adapted, though its bias was met. */
static lk_err check_biases(const lk_adapter *a, const lk_graph *g) {
    for (int i = 0; i < a->n_copies && a->config.biases == LK_BIASES_ADAPTED; i++) {
        const lk_lora_copy *c = &a->copies[i];
        size_t length = owner_length(c->name);
        bool met = c->g != g || !c->bias;
        for (int k = 0; k < a->n && !met; k++) met = a->module[k].g == g && !strncmp(a->module[k].name, c->name, length) && !a->module[k].name[length];
        if (!met) return lk_error(LK_EINPUT, "bias = lora_only: a target names the module of '%s', which is no linear layer or convolution", c->name);
    }
    return LK_OK;
}

/* A name without a module is a mistake: nothing would be trained or loaded for it. */
static lk_err check_names(const lk_adapter *a, const lk_graph *g) {
    LK_TRY(check_biases(a, g));
    for (const char *const *name = a->config.modules_to_save; name && *name; name++) {
        bool met = false;
        for (int i = 0; i < a->n_copies && !met; i++) met = a->copies[i].g == g && !a->copies[i].bias && means(*name, a->copies[i].name, owner_length(a->copies[i].name), true);
        if (met) continue;
        lk_arena *arena = lk_arena_new();
        const char **modules = lk_alloc(arena, (size_t)(lk_graph_count(g) + 1) * sizeof *modules);
        int n = 0;
        for (int i = 0; i < lk_graph_count(g); i++) {
            const lk_node *node = lk_graph_node(g, (lk_val){ i });
            if (node->op == LK_OP_param && node->mem == LK_MEM_WEIGHT) modules[n++] = lk_fmt(arena, "%.*s", (int)owner_length(node->name), node->name);
        }
        int near = lk_nearest(*name, modules, n);
        lk_err err = lk_error(LK_EINPUT, "modules_to_save: no module of the model is called '%s'; the nearest is '%s'", *name, near >= 0 ? modules[near] : "(none was built)");
        lk_arena_free(arena);
        return err;
    }
    return LK_OK;
}

static lk_err copy_value(lk_exec *from, lk_val source, lk_exec *to, lk_val v) {
    int64_t n = lk_numel(lk_shape_of(lk_exec_graph(to), v));
    float *x = lk_xaligned((size_t)(n ? n : 1) * sizeof *x);
    lk_err err = lk_exec_get(from, source, x, n);
    if (!err) err = lk_exec_set(to, v, x, n);
    free(x);
    return err;
}

lk_err lk_lora_copies_init(lk_adapter *a, lk_exec *exec) {
    const lk_graph *g = lk_exec_graph(exec);
    LK_TRY(check_names(a, g));
    for (int i = 0; i < a->n_copies; i++)
        if (a->copies[i].g == g) LK_TRY(lk_err_wrap(copy_value(exec, a->copies[i].base, exec, a->copies[i].v), "%s: %s starts as the base's, which must be bound first", origin(a->copies[i].bias), a->copies[i].name));
    return LK_OK;
}

lk_err lk_lora_copies_merge(const lk_adapter *a, lk_exec *from, double weight, lk_exec *to) {
    const lk_graph *target = lk_exec_graph(to);
    for (int i = 0; i < a->n_copies; i++) {
        const lk_lora_copy *c = &a->copies[i];
        if (c->g != lk_exec_graph(from)) continue;
        if (weight != 1) return lk_error(LK_EINPUT, "merging %s: what replaces the base's (%s) has no weight but 1; found %g", c->name, origin(c->bias), weight);
        lk_val w = lk_find(target, lk_graph_node(c->g, c->base)->name);
        if (!lk_ok(w)) return lk_error(LK_EINPUT, "merging: the other graph has no param %s", lk_graph_node(c->g, c->base)->name);
        if (!lk_shape_eq(lk_shape_of(target, w), lk_shape_of(c->g, c->base))) return lk_error(LK_ESHAPE, "merging: %s has another shape in the other graph", c->name);
        LK_TRY(lk_err_wrap(copy_value(from, c->v, to, w), "merging %s", c->name));
    }
    return LK_OK;
}

/* ---- files -------------------------------------------------------------------------------------------------------------------- */

/* The names of the config's list; anything but strings is refused. */
static lk_err listed(const lk_lora_entries *f, const json_t *list, const char *const **names) {
    size_t n = json_array_size(list);
    const char **out = lk_alloc(f->arena, (n + 1) * sizeof *out);
    if (list && !json_is_array(list)) return lk_error(LK_EINPUT, "%s: modules_to_save in its config is not a list of names", f->path);
    for (size_t i = 0; i < n; i++) {
        out[i] = json_string_value(json_array_get(list, i));
        if (!out[i] || !*out[i]) return lk_error(LK_EINPUT, "%s: modules_to_save in its config is not a list of names", f->path);
    }
    *names = out;
    return LK_OK;
}

/* Of a whole module PEFT writes under bias = all its bias again behind ".modules_to_save", and the base's own, which changes nothing, behind
 * ".original_module": both go where the bias itself is there, and says the same. */
static lk_err drop_repeated(lk_lora_entries *f) {
    int n = 0;
    for (int i = 0; i < f->n_saved; i++) {
        const char *name = f->saved[i].name, *copy = ".modules_to_save.bias", *own = ".original_module.bias";
        bool again = lk_ends(name, copy);
        if (again || lk_ends(name, own)) {
            char *whole = lk_fmt(f->arena, "%.*s.bias", (int)(strlen(name) - strlen(again ? copy : own)), name);
            const lk_tensor *t = f->saved[i].t, *twin = NULL;
            for (int k = 0; k < f->n_saved; k++) if (!strcmp(f->saved[k].name, whole)) twin = f->saved[k].t;
            if (!twin || (again && (t->bytes != twin->bytes || memcmp(t->data, twin->data, t->bytes)))) return lk_error(LK_EINPUT, "%s: '%s' should repeat '%s', which %s", f->path, t->name, whole, twin ? "differs" : "is missing");
        } else f->saved[n++] = f->saved[i];
    }
    f->n_saved = n;
    return LK_OK;
}

/* Whether it is a bias that f->biases speaks of; then under the model's own name. */
static bool is_bias(const lk_lora_entries *f, const char **name) {
    size_t length = owner_length(*name), outer = lk_ends(*name, ".base_layer.bias") ? strlen(*name) - strlen(".base_layer.bias") : 0;
    bool adapted = false;
    if (!f->biases || strcmp(leaf_of(*name), "bias")) return false;
    if (outer) length = outer;
    for (int i = 0; i < f->n && !adapted; i++) adapted = length && !strncmp(f->e[i].name, *name, length) && !f->e[i].name[length];
    if (!adapted && (outer || f->biases == LK_BIASES_ADAPTED)) return false;
    if (outer) *name = lk_fmt(f->arena, "%.*s.bias", (int)outer, *name);
    return true;
}

lk_err lk_lora_place_saved(lk_lora_entries *f, const json_t *list, lk_lora_refuse unknown) {
    const char *const *names = NULL;
    LK_TRY(listed(f, list, &names));
    if (f->biases == LK_BIASES_ALL) LK_TRY(drop_repeated(f));
    for (int i = 0; i < f->n_saved; i++) {                       /* PEFT's own rule: names end alike, '.' or not */
        bool met = false;
        for (int k = 0; k < f->n; k++) if (strcmp(f->saved[i].component, f->e[k].component)) return unknown(f, f->saved[i].t->name);      /* of files of one component */
        for (const char *const *name = names; *name && !met; name++) met = means(*name, f->saved[i].name, owner_length(f->saved[i].name), false);
        if (!met) met = f->saved[i].bias = is_bias(f, &f->saved[i].name);
        if (!met) return unknown(f, f->saved[i].t->name);
        for (int k = 0; k < i; k++) if (!strcmp(f->saved[k].name, f->saved[i].name)) return lk_error(LK_EINPUT, "%s: '%s' and '%s' both give '%s'", f->path, f->saved[k].t->name, f->saved[i].t->name, f->saved[i].name);
    }
    for (const char *const *name = names; *name; name++) {
        bool met = false;
        for (int i = 0; i < f->n_saved && !met; i++) met = !f->saved[i].bias && means(*name, f->saved[i].name, owner_length(f->saved[i].name), false);
        if (!met) return lk_error(LK_EINPUT, "%s: its config has '%s' in modules_to_save; the file holds no such module", f->path, *name);
    }
    return LK_OK;
}

static lk_err set_copy(const lk_lora_entries *f, lk_exec *exec, const lk_lora_copy *c, const lk_tensor *t) {
    lk_shape want = lk_shape_of(c->g, c->v), found = { .rank = t->rank < LK_MAX_RANK ? t->rank : LK_MAX_RANK };
    memcpy(found.d, t->d, sizeof found.d);
    if (t->rank != want.rank || !lk_shape_eq(found, want))
        return lk_error(LK_ESHAPE, "%s: '%s' has shape %s; the model expects %s", f->path, t->name, lk_shape_text(f->arena, found), lk_shape_text(f->arena, want));
    float *x = lk_xaligned((size_t)(t->numel ? t->numel : 1) * sizeof *x);
    lk_err err = lk_st_f32(t, x);
    if (!err) err = lk_exec_set(exec, c->v, x, t->numel);
    free(x);
    return lk_err_wrap(err, "%s", f->path);
}

lk_err lk_lora_copies_load(lk_adapter *a, lk_exec *exec, const lk_lora_entries *f) {
    const lk_graph *g = lk_exec_graph(exec);
    bool *used = lk_alloc(f->arena, (size_t)f->n_saved * sizeof *used + 1);
    LK_TRY(check_names(a, g));
    for (int i = 0; i < a->n_copies; i++) {
        const lk_lora_copy *c = &a->copies[i];
        int at = 0;
        if (c->g != g) continue;
        while (at < f->n_saved && strcmp(f->saved[at].name, c->name)) at++;
        if (at == f->n_saved) return lk_error(LK_EINPUT, "%s: nothing for '%s', which the adapter %s", f->path, c->name, c->bias ? "trains (bias)" : "has in modules_to_save");
        used[at] = true;
        LK_TRY(set_copy(f, exec, c, f->saved[at].t));
    }
    for (int i = 0; i < f->n_saved; i++)
        if (!used[i]) return lk_error(LK_EINPUT, "%s: '%s' (%s) belongs to no module this adapter was built to replace", f->path, f->saved[i].t->name, origin(f->saved[i].bias));
    return LK_OK;
}

lk_err lk_lora_saved_resolve(const lk_lora_file *f, const char *const *modules, int n) {
    for (int i = 0; i < f->n_saved; i++) {
        size_t length = owner_length(f->saved[i].name);
        bool met = false;
        for (int k = 0; k < n && !met; k++) met = !strncmp(modules[k], f->saved[i].name, length) && (!modules[k][length] || modules[k][length] == '.');
        int near = met ? -1 : lk_nearest(f->saved[i].name, modules, n);
        if (!met) return lk_error(LK_EINPUT, "%s: '%s' (%s) belongs to none of the model's %d modules; the nearest is '%s'", f->path, f->saved[i].name, origin(f->saved[i].bias), n, near >= 0 ? modules[near] : "(none)");
    }
    return LK_OK;
}

lk_err lk_lora_no_saved(const lk_lora_file *f, const char *what) {
    return f->n_saved ? lk_error(LK_EINPUT, "%s: '%s' %s, which %s", f->path, f->saved[0].name, f->saved[0].bias ? "is the base's, trained (bias)" : "is a whole module's (modules_to_save)", what) : LK_OK;
}
