/* From checkpoint tensors to a graph's params and back. See nn.h.
 *
 * Invariant: after a successful bind or set every WEIGHT param under the prefix has exactly one tensor and every tensor of the file
 * exactly one param or a reason to be ignored. Old checkpoints spell a few modules differently; `spellings` lists them. */
#include "models/nn.h"
#include <stdlib.h>
#include <string.h>

/* Present name of a part, the older one found in published files. A whole leading part is written with a leading '^'. */
static const struct { const char *ours, *theirs; } spellings[] = {
    { ".attentions.0.to_q.", ".attentions.0.query." }, { ".attentions.0.to_k.", ".attentions.0.key." },     /* AutoencoderKL before diffusers 0.13 */
    { ".attentions.0.to_v.", ".attentions.0.value." }, { ".attentions.0.to_out.0.", ".attentions.0.proj_attn." },
    { "^text_model.", "^" }, { "^vision_model.", "^" },                                                         /* as transformers 5 saves a lone tower */
};
enum { SPELLINGS = sizeof spellings / sizeof *spellings };

static const lk_tensor *find_respelt(const lk_st *st, const char *name) {
    for (int i = 0; i < SPELLINGS; i++) {
        const char *ours = spellings[i].ours, *theirs = spellings[i].theirs;
        bool leading = ours[0] == '^';
        const char *at = leading ? (lk_starts(name, ours + 1) ? name : NULL) : strstr(name, ours);
        if (!at) continue;
        char *other = lk_xfmt("%.*s%s%s", (int)(at - name), name, theirs + leading, at + strlen(ours) - leading);
        const lk_tensor *t = lk_st_find(st, other);
        free(other);
        if (t) return t;
    }
    return NULL;
}

static const lk_tensor *find_tensor(const lk_st *st, const char *name) {
    const lk_tensor *t = lk_st_find(st, name);
    return t ? t : find_respelt(st, name);
}

static bool is_ignored(const char *name, const char *const *ignore) {
    for (; ignore && *ignore; ignore++)
        if (lk_ends(*ignore, ".") ? lk_starts(name, *ignore) : lk_ends(name, *ignore)) return true;
    return false;
}

/* The checkpoint's name of a param of this prefix, else NULL. A '/' left in it belongs to another model's prefix ("teacher/"): the
 * prefix "" so means the params without one. */
static const char *param_name(const lk_node *node, const char *prefix) {
    if (node->op != LK_OP_param || node->mem != LK_MEM_WEIGHT || !lk_starts(node->name, prefix)) return NULL;
    const char *name = node->name + strlen(prefix);
    return strchr(name, '/') ? NULL : name;
}

static bool same_shape(const lk_tensor *t, lk_shape s) {
    if (t->rank != s.rank) return false;
    for (int i = 0; i < s.rank; i++) if (t->d[i] != s.d[i]) return false;
    return true;
}

/* A 1x1 convolution and a linear layer hold the same numbers; older autoencoders store the one for the other. */
static bool same_but_for_ones(const lk_tensor *t, lk_shape s) {
    int i = 0, j = 0;
    for (;;) {
        while (i < t->rank && t->d[i] == 1) i++;
        while (j < s.rank && s.d[j] == 1) j++;
        if (i == t->rank || j == s.rank) return i == t->rank && j == s.rank;
        if (t->d[i++] != s.d[j++]) return false;
    }
}

static char *tensor_shape_text(lk_arena *arena, const lk_tensor *t) {
    lk_buf b = { 0 };
    lk_buf_fmt(&b, "[");
    for (int i = 0; i < t->rank; i++) lk_buf_fmt(&b, "%s%lld", i ? ", " : "", (long long)t->d[i]);
    lk_buf_fmt(&b, "]");
    char *text = lk_strdup(arena, b.s);
    free(b.s);
    return text;
}

static lk_err missing_tensor(const lk_st *st, const char *name, lk_shape want) {
    int n = lk_st_count(st);
    const char **names = lk_xcalloc((size_t)n + 1, sizeof *names);
    for (int i = 0; i < n; i++) names[i] = lk_st_at(st, i)->name;
    int near = lk_nearest(name, names, n);
    lk_arena *arena = lk_arena_new();
    lk_err err = lk_error(LK_EINPUT, "%s: no tensor '%s' of shape %s; the nearest key is '%s'", lk_st_path(st), name, lk_shape_text(arena, want),
                          near >= 0 ? names[near] : "(the file is empty)");
    lk_arena_free(arena);
    free(names);
    return err;
}

static lk_err wrong_shape(const lk_st *st, const lk_tensor *t, lk_shape want) {
    lk_arena *arena = lk_arena_new();
    lk_err err = lk_error(LK_ESHAPE, "%s: '%s' has shape %s; the model expects %s", lk_st_path(st), t->name, tensor_shape_text(arena, t), lk_shape_text(arena, want));
    lk_arena_free(arena);
    return err;
}

static lk_err homeless_tensor(const lk_graph *g, const lk_st *st, const char *prefix, const char *name) {
    int n = 0, count = lk_graph_count(g);
    const char **names = lk_xcalloc((size_t)count + 1, sizeof *names);
    for (int i = 0; i < count; i++) {
        const char *p = param_name(lk_graph_node(g, (lk_val){ i }), prefix);
        if (p) names[n++] = p;
    }
    int near = lk_nearest(name, names, n);
    lk_err err = lk_error(LK_EINPUT, "%s: tensor '%s' belongs to no parameter of the model; the nearest is '%s'", lk_st_path(st), name, near >= 0 ? names[near] : "(none)");
    free(names);
    return err;
}

static int by_pointer(const void *a, const void *b) {
    const lk_tensor *x = *(const lk_tensor *const *)a, *y = *(const lk_tensor *const *)b;
    return (x > y) - (x < y);
}

static lk_err check_used(const lk_graph *g, const lk_st *st, const char *prefix, const char *const *ignore, const lk_tensor **used, int n) {
    qsort(used, (size_t)n, sizeof *used, by_pointer);
    for (int i = 0; i < lk_st_count(st); i++) {
        const lk_tensor *t = lk_st_at(st, i);
        if (is_ignored(t->name, ignore) || (n && bsearch(&t, used, (size_t)n, sizeof *used, by_pointer))) continue;
        return homeless_tensor(g, st, prefix, t->name);
    }
    return LK_OK;
}

/* The tensor as the mapping has it, where an executor can take it so. */
static bool direct(const lk_tensor *t, lk_stored *out) {
    *out = (lk_stored){ .data = t->data, .as = t->dtype == LK_ST_F16 ? LK_AS_F16 : t->dtype == LK_ST_BF16 ? LK_AS_BF16 : LK_AS_F32, .mapped = true };
    return (t->dtype == LK_ST_F32 || out->as != LK_AS_F32) && (uintptr_t)t->data % lk_st_dtype_bytes(t->dtype) == 0;
}

static lk_err fill_param(lk_exec *exec, lk_val v, const lk_tensor *t, bool bind) {
    lk_stored w;
    bool as_it_is = direct(t, &w);
    if (as_it_is && bind) return lk_exec_bind_stored(exec, v, w, t->numel);
    if (as_it_is && w.as == LK_AS_F32) return lk_exec_set(exec, v, w.data, t->numel);
    float *converted = lk_xaligned((size_t)(t->numel ? t->numel : 1) * sizeof *converted);
    lk_err err = lk_st_f32(t, converted);
    if (!err) err = lk_exec_set(exec, v, converted, t->numel);
    free(converted);
    return err;
}

static lk_err load_weights(lk_exec *exec, const lk_st *st, const char *prefix, const char *const *ignore, bool bind) {
    lk_graph *g = lk_exec_graph(exec);
    int count = lk_graph_count(g), n = 0;
    const lk_tensor **used = lk_xcalloc((size_t)count + 1, sizeof *used);
    lk_err err = LK_OK;
    for (int i = 0; i < count && !err; i++) {
        const lk_node *node = lk_graph_node(g, (lk_val){ i });
        const char *name = param_name(node, prefix);
        if (!name) continue;
        const lk_tensor *exact = lk_st_find(st, name), *t = exact ? exact : find_tensor(st, name);
        if (!t) err = missing_tensor(st, name, node->shape);
        else if (!same_shape(t, node->shape) && (exact || !same_but_for_ones(t, node->shape))) err = wrong_shape(st, t, node->shape);
        else { used[n++] = t; err = lk_err_wrap(fill_param(exec, (lk_val){ i }, t, bind), "%s: '%s'", lk_st_path(st), t->name); }
    }
    if (!err) err = check_used(g, st, prefix, ignore, used, n);
    free(used);
    return err;
}

lk_err lk_weights_bind(lk_exec *exec, const lk_st *st, const char *prefix, const char *const *ignore) { return load_weights(exec, st, prefix, ignore, true); }
lk_err lk_weights_set(lk_exec *exec, const lk_st *st, const char *prefix, const char *const *ignore) { return load_weights(exec, st, prefix, ignore, false); }

lk_err lk_weights_save(lk_exec *exec, const char *prefix, const char *path, const char *const *meta) {
    lk_graph *g = lk_exec_graph(exec);
    int count = lk_graph_count(g), n = 0;
    lk_arena *arena = lk_arena_new();
    lk_st_item *items = lk_xcalloc((size_t)count + 1, sizeof *items);
    lk_err err = LK_OK;
    for (int i = 0; i < count && !err; i++) {
        const lk_node *node = lk_graph_node(g, (lk_val){ i });
        const char *name = param_name(node, prefix);
        if (!name) continue;
        int64_t numel = lk_numel(node->shape);
        float *values = lk_alloc(arena, (size_t)(numel ? numel : 1) * sizeof *values);
        items[n] = (lk_st_item){ .name = name, .dtype = LK_ST_F32, .rank = node->shape.rank, .data = values };
        memcpy(items[n++].d, node->shape.d, sizeof node->shape.d);
        err = lk_exec_get(exec, (lk_val){ i }, values, numel);
    }
    if (!err) err = lk_st_write(path, items, n, meta);
    free(items);
    lk_arena_free(arena);
    return err;
}

/* ---- initial values --------------------------------------------------------------------------------------------- */

/* What an entry starts as. */
typedef enum { FROM_UNIFORM, FROM_NORMAL, FROM_ZERO, FROM_ONE } start_kind;
typedef struct { start_kind kind; float bound; } start;

static float fan_in_bound(lk_shape weight) {
    int64_t fan_in = 1;
    for (int i = 1; i < weight.rank; i++) fan_in *= weight.d[i];
    return (float)(1.0 / __builtin_sqrt((double)(fan_in > 0 ? fan_in : 1)));
}

static start start_of(const lk_graph *g, const lk_node *node, const char *name, const char *const *zero) {
    for (; zero && *zero; zero++) if (lk_ends(name, *zero)) return (start){ FROM_ZERO, 0 };
    if (lk_ends(name, "embedding.weight") || lk_ends(name, "class_embedding")) return (start){ FROM_NORMAL, 0 };
    if (node->shape.rank >= 2) return (start){ FROM_UNIFORM, fan_in_bound(node->shape) };
    if (lk_ends(name, ".weight")) return (start){ FROM_ONE, 0 };
    if (lk_ends(name, ".bias")) {               /* a linear or convolution's, or a norm's? Its weight tells */
        char *sibling = lk_xfmt("%.*sweight", (int)(strlen(node->name) - 4), node->name);
        lk_shape weight = lk_shape_of(g, lk_find(g, sibling));
        free(sibling);
        if (weight.rank >= 2) return (start){ FROM_UNIFORM, fan_in_bound(weight) };
    }
    return (start){ FROM_ZERO, 0 };
}

static void draw(start from, uint64_t key, float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        switch (from.kind) {
        case FROM_UNIFORM: x[i] = from.bound * (2.0f * lk_philox_uniform(key, 0, 0, (uint64_t)i) - 1.0f); break;
        case FROM_NORMAL:  x[i] = lk_philox_normal(key, 0, 0, (uint64_t)i); break;
        case FROM_ZERO:    x[i] = 0.0f; break;
        case FROM_ONE:     x[i] = 1.0f; break;
        }
}

lk_err lk_weights_init(lk_exec *exec, const char *prefix, uint64_t seed, const char *const *zero) {
    lk_graph *g = lk_exec_graph(exec);
    for (int i = 0; i < lk_graph_count(g); i++) {
        const lk_node *node = lk_graph_node(g, (lk_val){ i });
        const char *name = param_name(node, prefix);
        if (!name) continue;
        int64_t numel = lk_numel(node->shape);
        float *values = lk_xaligned((size_t)(numel ? numel : 1) * sizeof *values);
        draw(start_of(g, node, name, zero), lk_stream_key(seed, name), values, numel);
        lk_err err = lk_exec_set(exec, (lk_val){ i }, values, numel);
        free(values);
        if (err) return err;
    }
    return LK_OK;
}
