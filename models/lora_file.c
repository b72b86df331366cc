/* Adapters as files hold them: reading into arrays, names resolved against a model's, values taken from a built adapter. See lora_file.h. */
#include "models/lora_internal.h"
#include <stdlib.h>
#include <string.h>

static lk_lora_file *new_file(const char *path, lk_lora_kind kind, int n, const char *component) {
    lk_arena *arena = lk_arena_new();
    lk_lora_file *f = lk_alloc(arena, sizeof *f);
    *f = (lk_lora_file){ .arena = arena, .path = lk_strdup(arena, path), .kind = kind, .part = lk_alloc(arena, (size_t)(n + 1) * sizeof *f->part), .component = lk_strdup(arena, component) };
    return f;
}

void lk_lora_file_free(lk_lora_file *f) { if (f) lk_arena_free(f->arena); }

/* ---- from a file ------------------------------------------------------------------------------------------------------- */

static lk_err read_array(lk_arena *arena, const lk_tensor *t, lk_lora_array *out) {
    if (t->rank > LK_MAX_RANK) return lk_error(LK_ESHAPE, "'%s' has %d axes; at most %d are allowed", t->name, t->rank, LK_MAX_RANK);
    out->s.rank = t->rank;
    memcpy(out->s.d, t->d, (size_t)t->rank * sizeof *t->d);
    out->x = lk_alloc(arena, (size_t)t->numel * sizeof *out->x + 1);
    return lk_st_f32(t, out->x);
}

/* What the algebra and the writers count on. */
static lk_err check_shapes(const lk_lora_file *f, const lk_lora_part *p) {
    const lk_lora_array *b = &p->t[LK_SLOT_B], *m = &p->t[LK_SLOT_MAGNITUDE];
    if (b->x && lk_numel(b->s) != b->s.d[0] * b->s.d[1])
        return lk_error(LK_ESHAPE, "%s: lora_B of '%s' has %lld values for %lld rows of rank %d: it must be a matrix or a 1x1 convolution", f->path, p->name, (long long)lk_numel(b->s), (long long)b->s.d[0], p->r);
    if (b->x && b->s.d[0] % lk_lora_part_groups(p))
        return lk_error(LK_ESHAPE, "%s: lora_B of '%s' has %lld rows, which do not split into the %d groups that its rank of %d tells", f->path, p->name, (long long)b->s.d[0], lk_lora_part_groups(p), p->r);
    if (b->x && p->t[LK_SLOT_BIAS].x && lk_numel(p->t[LK_SLOT_BIAS].s) != b->s.d[0])
        return lk_error(LK_ESHAPE, "%s: the bias of '%s' has %lld values; its lora_B has %lld rows", f->path, p->name, (long long)lk_numel(p->t[LK_SLOT_BIAS].s), (long long)b->s.d[0]);
    int64_t rows, columns, n = lk_numel(m->s);
    if (m->x && f->decompose) {
        lk_lora_part_size(p, &rows, &columns);
        if (n < 1 || (f->decompose == LK_DECOMPOSE_ROWS ? n != rows : columns % n || m->s.d[0] != 1))
            return lk_error(LK_ESHAPE, "%s: dora_scale of '%s' has %lld values; its delta has %lld rows and %lld columns", f->path, p->name, (long long)n, (long long)rows, (long long)columns);
    } else if (b->x && m->x && lk_numel(m->s) != b->s.d[0])
        return lk_error(LK_ESHAPE, "%s: the magnitude of '%s' has %lld values; its lora_B has %lld rows", f->path, p->name, (long long)lk_numel(m->s), (long long)b->s.d[0]);
    return LK_OK;
}

static lk_err read_part(lk_lora_file *f, const lk_lora_entry *e) {
    lk_lora_part *p = &f->part[f->n++];
    lk_lora_array *m = &p->t[LK_SLOT_MAGNITUDE];
    *p = (lk_lora_part){ .name = lk_strdup(f->arena, e->name), .component = e->component[0] ? e->component : NULL, .r = e->r, .alpha = e->alpha };
    for (int i = 0; i < LK_SLOT_COUNT; i++) if (e->t[i]) LK_TRY(lk_err_wrap(read_array(f->arena, e->t[i], &p->t[i]), "%s", f->path));
    LK_TRY(check_shapes(f, p));
    if (m->x && !f->decompose) m->s = p->t[LK_SLOT_A].s.rank == 4 ? LK_SHAPE(1, lk_numel(m->s), 1, 1) : LK_SHAPE(lk_numel(m->s));      /* kohya's is a column */
    return LK_OK;
}

lk_err lk_lora_file_read(const char *path, lk_lora_file **out) { return lk_lora_file_read_component(path, NULL, out); }

lk_err lk_lora_file_read_component(const char *path, const char *component, lk_lora_file **out) {
    lk_lora_entries e;
    *out = NULL;
    LK_TRY(lk_lora_entries_open(path, component, &e));
    lk_lora_file *f = new_file(path, e.kind, e.n, e.n && e.e[0].component[0] ? e.e[0].component : "unet");
    lk_err err = LK_OK;
    f->biases = e.biases;
    f->decompose = e.decompose;
    f->base = lk_st_meta(e.st, LK_BASE_KEY) ? lk_strdup(f->arena, lk_st_meta(e.st, LK_BASE_KEY)) : NULL;
    for (int i = 0; i < e.n && !err; i++) err = read_part(f, &e.e[i]);
    f->saved = lk_alloc(f->arena, (size_t)e.n_saved * sizeof *f->saved + 1);
    for (int i = 0; i < e.n_saved && !err; i++) {
        f->saved[f->n_saved].name = lk_strdup(f->arena, e.saved[i].name);
        f->saved[f->n_saved].bias = e.saved[i].bias;
        err = lk_err_wrap(read_array(f->arena, e.saved[i].t, &f->saved[f->n_saved++].v), "%s", path);
    }
    lk_lora_entries_close(&e);
    if (err) lk_lora_file_free(f);
    else *out = f;
    return err;
}

/* ---- names ---------------------------------------------------------------------------------------------------------------- */

static uint64_t attended_blocks(const char *const *modules, int n) {
    uint64_t mask = 0;
    for (int k = 0; k < n; k++) {
        int i, end = 0;
        if (sscanf(modules[k], "up_blocks.%d.attentions.%n", &i, &end) == 1 && end && i >= 0 && i < 64) mask |= (uint64_t)1 << i;
    }
    return mask;
}

static lk_err resolve_part(lk_lora_file *f, lk_lora_part *p, const char *const *modules, int n) {
    for (int k = 0; k < n; k++)
        if (lk_lora_spells(p->name, modules[k], f->layers, true)) { p->name = lk_strdup(f->arena, modules[k]); return LK_OK; }
    int near = lk_nearest(p->name, modules, n);
    return lk_error(LK_EINPUT, "%s: module '%s' is none of the model's %d; the nearest is '%s'", f->path, p->name, n, near >= 0 ? modules[near] : "(none)");
}

static bool is_of(const lk_lora_file *f, const lk_lora_part *p, const char *component) { return !component || !strcmp(lk_lora_part_component(f, p), component); }

lk_err lk_lora_file_resolve(lk_lora_file *f, const char *const *modules, int n) {
    LK_TRY(lk_lora_same_component(f, "say which of them the base is (base.unet=, base.text_encoder=), or take one (component=)"));
    return lk_lora_file_resolve_component(f, NULL, modules, n);
}

lk_err lk_lora_file_resolve_component(lk_lora_file *f, const char *component, const char *const *modules, int n) {
    int layers = 0;
    for (int k = 0; k < n; k++) layers = lk_lora_layers_after(layers, modules[k]);
    if (layers || !component) { f->layers = layers; f->attended = attended_blocks(modules, n); }      /* a UNet's: its text encoders have none */
    for (int i = 0; i < f->n; i++) if (is_of(f, &f->part[i], component)) LK_TRY(resolve_part(f, &f->part[i], modules, n));
    for (int i = 0; i < f->n; i++)
        for (int j = 0; j < i; j++)
            if (!strcmp(f->part[i].name, f->part[j].name) && is_of(f, &f->part[i], lk_lora_part_component(f, &f->part[j]))) return lk_error(LK_EINPUT, "%s: module '%s' is spelled in two ways in this file", f->path, f->part[i].name);
    return lk_lora_saved_resolve(f, modules, n);
}

lk_err lk_lora_modules_of(const lk_st *st, lk_arena *arena, const char *const **modules, int *n) {
    const char **names = lk_alloc(arena, (size_t)(lk_st_count(st) + 1) * sizeof *names);
    *n = 0;
    for (int i = 0; i < lk_st_count(st); i++) {
        const char *name = lk_st_at(st, i)->name;
        if (lk_ends(name, ".weight")) names[(*n)++] = lk_fmt(arena, "%.*s", (int)(strlen(name) - strlen(".weight")), name);
    }
    *modules = names;
    return *n ? LK_OK : lk_error(LK_EINPUT, "%s: no tensor's name ends in .weight: this is no checkpoint of a model", lk_st_path(st));
}

/* ---- from a built adapter ----------------------------------------------------------------------------------------------------- */

static lk_err take(lk_lora_file *f, lk_exec *exec, lk_val v, lk_lora_array *out) {
    if (!lk_ok(v)) return LK_OK;
    out->s = lk_shape_of(lk_exec_graph(exec), v);
    int64_t n = lk_numel(out->s);
    out->x = lk_alloc(f->arena, (size_t)n * sizeof *out->x);
    return lk_exec_get(exec, v, out->x, n);
}

static lk_err take_module(lk_lora_file *f, lk_exec *exec, const lk_lora_module *m) {
    lk_lora_part *p = &f->part[f->n++];
    *p = (lk_lora_part){ .name = lk_strdup(f->arena, m->name), .r = m->r, .alpha = m->alpha };
    for (int i = 0; i < LK_SLOT_COUNT; i++) LK_TRY(take(f, exec, m->t[i], &p->t[i]));
    return LK_OK;
}

lk_err lk_lora_file_of(lk_adapter *a, lk_exec *exec, lk_lora_file **out) {
    lk_lora_file *f = new_file("(the adapter in memory)", a->config.kind, a->n, "unet");
    lk_err err = LK_OK;
    for (int i = 0; i < a->n && !err; i++) if (a->module[i].g == lk_exec_graph(exec)) err = take_module(f, exec, &a->module[i]);
    f->saved = lk_alloc(f->arena, (size_t)a->n_copies * sizeof *f->saved + 1);
    for (int i = 0; i < a->n_copies && !err; i++) {
        if (a->copies[i].g != lk_exec_graph(exec)) continue;
        f->saved[f->n_saved].name = lk_strdup(f->arena, a->copies[i].name);
        f->saved[f->n_saved].bias = a->copies[i].bias;
        err = take(f, exec, a->copies[i].v, &f->saved[f->n_saved++].v);
    }
    f->biases = a->config.biases;
    f->decompose = a->config.decompose;
    f->built = memcpy(lk_alloc(f->arena, sizeof *f->built), &a->config, sizeof *f->built);
    f->layers = a->layers;
    f->attended = attended_blocks(a->seen, a->n_seen);
    if (err) lk_lora_file_free(f);
    *out = err ? NULL : f;
    return err;
}
