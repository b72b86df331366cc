/* lk-lora: adapter files without a model in memory.
 *   lk-lora inspect FILE [base=CHECKPOINT] [component=unet]
 *   lk-lora convert FILE OUT format=peft|diffusers|kohya|kohya-sgm|kohya-flux [base=CHECKPOINT] [component=unet]
 *   lk-lora resize  FILE OUT rank=R [format=] [base=]
 *   lk-lora mix     OUT FILE=WEIGHT... [rank=R] [format=] [base=]       sum of weighted deltas, exact unless a rank is given
 *   lk-lora halves  A B OUT at=F [format=]                             A and B interpolated each for itself (DiffMorpher)
 *   lk-lora merge   BASE OUT FILE=WEIGHT... [component=unet]           a checkpoint with the deltas in it
 *   lk-lora extract BASE TUNED OUT rank=R [format=]
 *   lk-lora diff    A B [base=CHECKPOINT]                              relative distance of each module's delta
 * base= gives the model's module names: needed where kohya's underscored names must be understood or SGM's written.
 * A file may be of several models (a denoiser and its text encoders): inspect lists each, convert, resize and mix carry each over, base.unet=, base.text_encoder=, ...
 * give their names, component= takes one of them and says how many modules stay behind. Of a file that has one, component= says which it is. */
#include "models/lora_file.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILES = 32 };
typedef struct {
    const char *positional[4]; int n;                              /* FILE, OUT, ... in order */
    const char *weighted[MAX_FILES]; double weight[MAX_FILES]; int n_weighted;
    const char *format, *component;
    struct { const char *component, *path; } base[LK_LORA_COMPONENTS]; int n_bases;      /* component NULL: plain base= */
    int rank; double at; bool has_at;
} arguments;

/* ---- arguments ------------------------------------------------------------------------------------------------------------ */

static lk_err real(const char *text, const char *what, double *out) {
    char *end;
    *out = strtod(text, &end);
    return *text && !*end && isfinite(*out) ? LK_OK : lk_error(LK_EINPUT, "%s=%s: expected a finite number", what, text);
}

static lk_err base_option(arguments *a, const char *key, const char *path) {
    const char *component = NULL;
    if (key[4]) LK_TRY(lk_lora_component_named(key + 5, &component));
    if (a->n_bases == LK_LORA_COMPONENTS) return lk_error(LK_EINPUT, "%s=: more than %d bases", key, LK_LORA_COMPONENTS);
    a->base[a->n_bases].component = component;
    a->base[a->n_bases++].path = path;
    return LK_OK;
}

static lk_err option(arguments *a, lk_arena *arena, const char *arg) {
    const char *eq = strrchr(arg, '=');
    double x;
    char *key = lk_fmt(arena, "%.*s", (int)(eq - arg), arg);
    if (!strcmp(key, "format")) { a->format = eq + 1; return LK_OK; }
    if (!strcmp(key, "base") || (lk_starts(key, "base.") && !lk_ends(key, ".safetensors"))) return base_option(a, key, eq + 1);
    if (!strcmp(key, "component")) return lk_lora_component_named(eq + 1, &a->component);
    static const char *const known[] = { "format", "base", "component", "rank", "at" };
    bool number = !strcmp(key, "rank") || !strcmp(key, "at") || lk_ends(key, ".safetensors");
    if (!number) return lk_error(LK_EINPUT, "%s: no such option; the nearest is %s= (or a FILE.safetensors=WEIGHT)", arg, known[lk_nearest(key, known, 5)]);
    LK_TRY(real(eq + 1, key, &x));
    if (!strcmp(key, "at")) { a->at = x; a->has_at = true; return LK_OK; }
    if (!strcmp(key, "rank")) {
        if (x < 1 || x > 1 << 20 || x != (int)x) return lk_error(LK_EINPUT, "rank=%s: expected a whole number from 1", eq + 1);
        a->rank = (int)x;
        return LK_OK;
    }
    if (a->n_weighted == MAX_FILES) return lk_error(LK_EINPUT, "more than %d weighted files", MAX_FILES);
    a->weighted[a->n_weighted] = key;
    a->weight[a->n_weighted++] = x;
    return LK_OK;
}

static lk_err parse(arguments *a, lk_arena *arena, int argc, char **argv) {
    for (int i = 0; i < argc; i++) {
        if (strchr(argv[i], '=')) LK_TRY(option(a, arena, argv[i]));
        else if (a->n == 4) return lk_error(LK_EINPUT, "%s: one argument too many", argv[i]);
        else a->positional[a->n++] = argv[i];
    }
    return LK_OK;
}

/* ---- files ------------------------------------------------------------------------------------------------------------------- */

typedef struct { const char *component; lk_st *st; const char *const *modules; int n; } model;
typedef struct { const arguments *a; lk_arena *arena; model base[LK_LORA_COMPONENTS + 1]; int n_bases; } context;      /* merge's and extract's base is the first */

static lk_err open_base(context *c, const char *component, const char *path) {
    model *m = &c->base[c->n_bases++];
    m->component = component;
    LK_TRY(lk_st_open(path, &m->st));
    return lk_lora_modules_of(m->st, c->arena, &m->modules, &m->n);
}

/* component= of a file that has several: what stays behind is said. */
static lk_err read_component(context *c, const char *path, lk_lora_file **f) {
    lk_lora_component list[LK_LORA_COMPONENTS], left[LK_LORA_COMPONENTS];
    int n, n_left = 0;
    if (!c->a->component) return lk_lora_file_read(path, f);
    LK_TRY(lk_adapter_components(path, list, &n));
    if (n < 2) return lk_lora_file_read(path, f);
    LK_TRY(lk_lora_file_read_component(path, c->a->component, f));
    for (int i = 0; i < n; i++) if (strcmp(list[i].name, (*f)->component)) left[n_left++] = list[i];
    printf("%s: of %s; left out: %s\n", path, (*f)->component, lk_lora_components_text(c->arena, left, n_left));
    return LK_OK;
}

static lk_err resolve(context *c, lk_lora_file *f) {
    lk_lora_component list[LK_LORA_COMPONENTS];
    int n = lk_lora_file_components(f, list);
    for (int k = 0; k < c->n_bases; k++) {
        const model *m = &c->base[k];
        if (!m->component) LK_TRY(lk_lora_file_resolve(f, m->modules, m->n));
        for (int i = 0; i < n && m->component; i++) if (!strcmp(list[i].name, m->component)) LK_TRY(lk_lora_file_resolve_component(f, m->component, m->modules, m->n));
    }
    return LK_OK;
}

static lk_err read_adapter(context *c, const char *path, lk_lora_file **f) {
    LK_TRY(read_component(c, path, f));
    lk_lora_component list[LK_LORA_COMPONENTS];
    if (c->a->component && lk_lora_file_components(*f, list) == 1) {                /* renamed, where the file says another or none */
        for (int i = 0; i < (*f)->n; i++) (*f)->part[i].component = c->a->component;
        (*f)->component = c->a->component;
    }
    lk_err err = resolve(c, *f);
    if (err) { lk_lora_file_free(*f); *f = NULL; }
    return err;
}

static lk_err write_adapter(const context *c, lk_lora_file *f, const char *path) {
    lk_lora_format format;
    LK_TRY(lk_lora_format_named(c->a->format ? c->a->format : "peft", &format));
    LK_TRY(lk_lora_file_save(f, path, format, true));
    lk_lora_component list[LK_LORA_COMPONENTS];
    int n = lk_lora_file_components(f, list);
    if (n > 1) printf("%s: %s\n", path, lk_lora_components_text(c->arena, list, n));
    else printf("%s: %d modules\n", path, f->n);
    return LK_OK;
}

/* ---- commands ------------------------------------------------------------------------------------------------------------------ */

static const char *const kinds[] = { [LK_LORA] = "LoRA", [LK_RSLORA] = "rsLoRA", [LK_DORA] = "DoRA", [LK_RSDORA] = "rsDoRA", [LK_LOHA] = "LoHa", [LK_LOKR] = "LoKr", [LK_FULL] = "full" };

static double norm_of_delta(const lk_lora_file *f, const lk_lora_part *p) {
    int64_t rows, columns;
    double sum = 0;
    lk_lora_part_size(p, &rows, &columns);
    double *d = lk_xaligned((size_t)(rows * columns) * sizeof *d);
    lk_lora_part_delta(f, p, d);
    for (int64_t i = 0; i < rows * columns; i++) sum += d[i] * d[i];
    free(d);
    return sqrt(sum);
}

static void inspect_component(context *c, const lk_lora_file *f, lk_lora_component of) {
    int64_t parameters = 0;
    lk_table *table = lk_table_new("", 6, (const char *[]){ "module", "out", "in", "rank", "alpha", "norm of delta" });
    for (int i = 0; i < f->n; i++) {
        const lk_lora_part *p = &f->part[i];
        int64_t rows, columns;
        if (strcmp(lk_lora_part_component(f, p), of.name)) continue;
        lk_lora_part_size(p, &rows, &columns);
        for (int k = 0; k < LK_SLOT_COUNT; k++) if (p->t[k].x) parameters += lk_numel(p->t[k].s);
        lk_table_row(table, (const char *[]){ p->name, lk_fmt(c->arena, "%lld", (long long)rows), lk_fmt(c->arena, "%lld", (long long)columns), lk_fmt(c->arena, "%d", p->r),
                                              lk_fmt(c->arena, "%g", p->alpha), lk_fmt(c->arena, "%.4g", norm_of_delta(f, p)) });
    }
    for (int i = 0; i < f->n_saved; i++) parameters += lk_numel(f->saved[i].v.s);      /* only files of one component have any */
    char *text = lk_table_text(table);
    printf("%s: %s of %s, %d modules, %lld parameters\n%s", f->path, kinds[f->kind], of.name, of.modules, (long long)parameters, text);
    free(text);
    lk_table_free(table);
}

static lk_err inspect(context *c) {
    lk_lora_file *f;
    LK_TRY(read_adapter(c, c->a->positional[0], &f));
    lk_lora_component list[LK_LORA_COMPONENTS];
    int n = lk_lora_file_components(f, list);
    for (int i = 0; i < n; i++) inspect_component(c, f, list[i]);
    for (int i = 0; i < f->n_saved; i++) printf("%s %s %s\n", f->saved[i].name, lk_shape_text(c->arena, f->saved[i].v.s), f->saved[i].bias ? "trained (bias)" : "whole (modules_to_save)");
    lk_lora_file_free(f);
    return LK_OK;
}

static lk_err convert(context *c) {
    lk_lora_file *f;
    if (!c->a->format) return lk_error(LK_EINPUT, "convert: format= is missing: peft, diffusers, kohya, kohya-sgm or kohya-flux");
    LK_TRY(read_adapter(c, c->a->positional[0], &f));
    lk_err err = write_adapter(c, f, c->a->positional[1]);
    lk_lora_file_free(f);
    return err;
}

static lk_err write_resized(context *c, const lk_lora_file *f, const char *path) {
    lk_lora_file *out;
    double kept;
    LK_TRY(lk_lora_file_resize(f, c->a->rank, &out, &kept));
    lk_err err = write_adapter(c, out, path);
    if (!err) printf("at rank %d every module keeps at least %.4g of its squared norm\n", c->a->rank, kept);
    lk_lora_file_free(out);
    return err;
}

static lk_err resize(context *c) {
    lk_lora_file *f;
    if (!c->a->rank) return lk_error(LK_EINPUT, "resize: rank= is missing");
    LK_TRY(read_adapter(c, c->a->positional[0], &f));
    lk_err err = write_resized(c, f, c->a->positional[1]);
    lk_lora_file_free(f);
    return err;
}

static lk_err read_weighted(context *c, lk_lora_file *f[MAX_FILES]) {
    if (!c->a->n_weighted) return lk_error(LK_EINPUT, "no adapter: give at least one FILE.safetensors=WEIGHT");
    for (int i = 0; i < c->a->n_weighted; i++) LK_TRY(read_adapter(c, c->a->weighted[i], &f[i]));
    return LK_OK;
}

static lk_err mix(context *c) {
    lk_lora_file *f[MAX_FILES] = { 0 }, *sum = NULL;
    lk_err err = read_weighted(c, f);
    if (!err) err = lk_lora_file_mix((const lk_lora_file *const *)f, c->a->weight, c->a->n_weighted, &sum);
    if (!err) err = c->a->rank ? write_resized(c, sum, c->a->positional[0]) : write_adapter(c, sum, c->a->positional[0]);
    lk_lora_file_free(sum);
    for (int i = 0; i < MAX_FILES; i++) lk_lora_file_free(f[i]);
    return err;
}

static lk_err halves(context *c) {
    lk_lora_file *a = NULL, *b = NULL, *out = NULL;
    if (!c->a->has_at) return lk_error(LK_EINPUT, "halves: at= is missing: 0 is the first file, 1 the second");
    lk_err err = read_adapter(c, c->a->positional[0], &a);
    if (!err) err = read_adapter(c, c->a->positional[1], &b);
    if (!err) err = lk_lora_file_halves(a, b, c->a->at, &out);
    if (!err) err = write_adapter(c, out, c->a->positional[2]);
    lk_lora_file_free(a);
    lk_lora_file_free(b);
    lk_lora_file_free(out);
    return err;
}

/* The tensor's values in F32, to be changed. */
static lk_err writable(context *c, const lk_tensor *t, lk_st_item *items, bool *changed, float **values) {
    int i = 0;
    while (lk_st_at(c->base->st, i) != t) i++;
    if (!changed[i]) {
        float *w = lk_alloc(c->arena, (size_t)t->numel * sizeof *w);
        LK_TRY(lk_st_f32(t, w));
        items[i].data = w;
        items[i].dtype = LK_ST_F32;
        changed[i] = true;
    }
    *values = (float *)items[i].data;
    return LK_OK;
}

static lk_err merge_bias(context *c, const lk_lora_file *f, const lk_lora_part *p, double weight, lk_st_item *items, bool *changed) {
    const lk_lora_array *b = &p->t[LK_SLOT_BIAS];
    const char *name = lk_fmt(c->arena, "%s.bias", p->name);
    const lk_tensor *t = lk_st_find(c->base->st, name);
    float *bias;
    if (!b->x) return LK_OK;
    if (!t || t->numel != lk_numel(b->s)) return lk_error(LK_EINPUT, "%s: B of module '%s' has a bias (lora_bias); %s has no '%s' of its size", f->path, p->name, lk_st_path(c->base->st), name);
    LK_TRY(writable(c, t, items, changed, &bias));
    lk_lora_part_merge_bias(f, p, weight, bias);
    return LK_OK;
}

/* The delta must be of the weight's size: a 3x3 kernel on a linear weight has another. */
static lk_err merge_part(context *c, const lk_lora_file *f, const lk_lora_part *p, double weight, lk_st_item *items, bool *changed) {
    int64_t rows, columns;
    char *name = lk_fmt(c->arena, "%s.weight", p->name);
    const lk_tensor *t;
    float *w;
    LK_TRY(lk_st_get(c->base->st, name, &t));
    lk_lora_part_size(p, &rows, &columns);
    if (lk_lora_part_groups(p) == 1 && (t->rank < 2 || t->d[0] != rows || t->numel != rows * columns))
        return lk_error(LK_ESHAPE, "%s: module '%s' is a delta of %lld x %lld; '%s' in %s has %lld rows, %lld values", f->path, p->name, (long long)rows, (long long)columns, name,
                        lk_st_path(c->base->st), (long long)(t->rank ? t->d[0] : 0), (long long)t->numel);
    if (f->decompose == LK_DECOMPOSE_COLUMNS && lk_numel(p->t[LK_SLOT_MAGNITUDE].s) != t->d[1])
        return lk_error(LK_ESHAPE, "%s: dora_scale of '%s' has %lld columns; '%s' in %s has %lld", f->path, p->name, (long long)lk_numel(p->t[LK_SLOT_MAGNITUDE].s), name, lk_st_path(c->base->st), (long long)t->d[1]);
    LK_TRY(writable(c, t, items, changed, &w));
    LK_TRY(lk_lora_part_merge(f, p, weight, w));
    return merge_bias(c, f, p, weight, items, changed);
}

/* A whole module or a trained bias takes the place of the base's. */
static lk_err replace(context *c, const lk_lora_file *f, const lk_lora_saved *s, double weight, lk_st_item *items, bool *changed) {
    const lk_tensor *t;
    LK_TRY(lk_st_get(c->base->st, s->name, &t));
    if (weight != 1) return lk_error(LK_EINPUT, "%s: '%s' replaces the base's (%s) and has no weight but 1; found %g", f->path, s->name, s->bias ? "bias" : "modules_to_save", weight);
    if (t->rank != s->v.s.rank || memcmp(t->d, s->v.s.d, (size_t)t->rank * sizeof *t->d))
        return lk_error(LK_ESHAPE, "%s: '%s' has shape %s; in %s it has another", f->path, s->name, lk_shape_text(c->arena, s->v.s), lk_st_path(c->base->st));
    for (int i = 0; i < lk_st_count(c->base->st); i++) {
        if (lk_st_at(c->base->st, i) != t) continue;
        if (changed[i]) return lk_error(LK_EINPUT, "%s: '%s' (%s) would undo what another adapter did to it", f->path, s->name, s->bias ? "bias" : "modules_to_save");
        items[i].data = memcpy(lk_alloc(c->arena, (size_t)t->numel * sizeof(float) + 1), s->v.x, (size_t)t->numel * sizeof(float));
        items[i].dtype = LK_ST_F32;
        changed[i] = true;
    }
    return LK_OK;
}

static lk_err merge_file(context *c, const char *path, double weight, lk_st_item *items, bool *changed) {
    lk_lora_file *f;
    LK_TRY(read_adapter(c, path, &f));
    lk_err err = LK_OK;
    for (int i = 0; i < f->n_saved && !err; i++) if (f->saved[i].bias) err = replace(c, f, &f->saved[i], weight, items, changed);     /* first: a bias of B is added to it */
    for (int i = 0; i < f->n && !err; i++) err = merge_part(c, f, &f->part[i], weight, items, changed);
    for (int i = 0; i < f->n_saved && !err; i++) if (!f->saved[i].bias) err = replace(c, f, &f->saved[i], weight, items, changed);
    lk_lora_file_free(f);
    return err;
}

/* Changed weights are written in F32, whatever they were stored in: nothing is rounded twice. The rest stays as it is. */
static lk_err merge(context *c) {
    if (!c->a->n_weighted) return lk_error(LK_EINPUT, "merge: no adapter: give at least one FILE.safetensors=WEIGHT");
    LK_TRY(open_base(c, NULL, c->a->positional[0]));
    int n = lk_st_count(c->base->st), count = 0;
    lk_st_item *items = lk_alloc(c->arena, (size_t)n * sizeof *items);
    bool *changed = lk_alloc(c->arena, (size_t)n * sizeof *changed);
    for (int i = 0; i < n; i++) {
        const lk_tensor *t = lk_st_at(c->base->st, i);
        items[i] = (lk_st_item){ .name = t->name, .dtype = t->dtype, .rank = t->rank, .data = t->data };
        memcpy(items[i].d, t->d, sizeof t->d);
    }
    for (int i = 0; i < c->a->n_weighted; i++) LK_TRY(merge_file(c, c->a->weighted[i], c->a->weight[i], items, changed));
    for (int i = 0; i < n; i++) count += changed[i];
    LK_TRY(lk_st_write(c->a->positional[1], items, n, (const char *[]){ "format", "pt", NULL }));
    printf("%s: %d of %d tensors changed\n", c->a->positional[1], count, n);
    return LK_OK;
}

static lk_err extract(context *c) {
    lk_st *tuned = NULL;
    lk_lora_file *f = NULL;
    double kept;
    if (!c->a->rank) return lk_error(LK_EINPUT, "extract: rank= is missing");
    LK_TRY(open_base(c, NULL, c->a->positional[0]));
    lk_err err = lk_st_open(c->a->positional[1], &tuned);
    if (!err) err = lk_lora_extract(c->base->st, tuned, c->a->rank, &f, &kept);
    if (!err) err = lk_lora_file_resolve(f, c->base->modules, c->base->n);
    if (!err && c->a->component) f->component = c->a->component;
    if (!err) err = write_adapter(c, f, c->a->positional[2]);
    if (!err) printf("at rank %d every module keeps at least %.4g of its squared norm\n", c->a->rank, kept);
    lk_lora_file_free(f);
    lk_st_close(tuned);
    return err;
}

/* Relative distance of two deltas; a module of one file only counts as 1. */
static double distance(const lk_lora_file *fa, const lk_lora_part *a, const lk_lora_file *fb, const lk_lora_part *b) {
    int64_t rows, columns, r2, c2;
    double d = 0, s = 0;
    lk_lora_part_size(a, &rows, &columns);
    if (!b) return 1;
    lk_lora_part_size(b, &r2, &c2);
    if (rows != r2 || columns != c2) return INFINITY;
    double *x = lk_xaligned((size_t)(rows * columns) * sizeof *x), *y = lk_xaligned((size_t)(rows * columns) * sizeof *y);
    lk_lora_part_delta(fa, a, x);
    lk_lora_part_delta(fb, b, y);
    for (int64_t i = 0; i < rows * columns; i++) { d += (x[i] - y[i]) * (x[i] - y[i]); s += x[i] * x[i]; }
    free(x);
    free(y);
    return d == 0 ? 0 : sqrt(d / s);
}

static double distance_of_saved(const lk_lora_saved *a, const lk_lora_saved *b) {
    double d = 0, s = 0;
    if (!lk_shape_eq(a->v.s, b->v.s)) return INFINITY;
    for (int64_t i = 0; i < lk_numel(a->v.s); i++) { d += pow((double)a->v.x[i] - b->v.x[i], 2); s += pow(a->v.x[i], 2); }
    return d == 0 ? 0 : sqrt(d / s);
}

static const lk_lora_part *like(const lk_lora_file *f, const lk_lora_file *other, const lk_lora_part *p) {
    for (int i = 0; i < f->n; i++) if (!strcmp(f->part[i].name, p->name) && !strcmp(lk_lora_part_component(f, &f->part[i]), lk_lora_part_component(other, p))) return &f->part[i];
    return NULL;
}

static void print_differences(const lk_lora_file *a, const lk_lora_file *b) {
    double worst = 0;
    int alone = 0;
    for (int i = 0; i < a->n; i++) {
        const lk_lora_part *p = &a->part[i], *q = like(b, a, p);
        double d = distance(a, p, b, q);
        worst = d > worst || isnan(d) ? d : worst;
        if (d > 0 || isnan(d)) printf("%-90s %s%.4g\n", p->name, q ? "" : "only in the first: ", d);
    }
    for (int i = 0; i < b->n; i++) if (!like(a, b, &b->part[i])) { alone++; printf("%-90s only in the second\n", b->part[i].name); }
    for (int i = 0; i < a->n_saved; i++) {
        const lk_lora_saved *p = &a->saved[i], *q = NULL;
        for (int k = 0; k < b->n_saved; k++) if (!strcmp(b->saved[k].name, p->name)) q = &b->saved[k];
        double d = q ? distance_of_saved(p, q) : 1;
        worst = d > worst || isnan(d) ? d : worst;
        if (d > 0 || isnan(d)) printf("%-90s %s%.4g\n", p->name, q ? "" : "only in the first: ", d);
    }
    for (int i = 0; i < b->n_saved; i++) {
        bool met = false;
        for (int k = 0; k < a->n_saved; k++) met |= !strcmp(a->saved[k].name, b->saved[i].name);
        if (!met) { alone++; printf("%-90s only in the second\n", b->saved[i].name); }
    }
    printf("%d and %d modules, %d only in the second; largest relative distance %.4g\n", a->n, b->n, alone, worst);
}

static lk_err diff(context *c) {
    lk_lora_file *a = NULL, *b = NULL;
    lk_err err = read_adapter(c, c->a->positional[0], &a);
    if (!err) err = read_adapter(c, c->a->positional[1], &b);
    if (!err) print_differences(a, b);
    lk_lora_file_free(a);
    lk_lora_file_free(b);
    return err;
}

/* ---- main ------------------------------------------------------------------------------------------------------------------------ */

static const struct { const char *name; lk_err (*run)(context *); int n; const char *usage; } commands[] = {
    { "inspect", inspect, 1, "FILE [base=CHECKPOINT] [component=NAME]" }, { "convert", convert, 2, "FILE OUT format=peft|diffusers|kohya|kohya-sgm|kohya-flux [base=CHECKPOINT | base.NAME=CHECKPOINT ...] [component=NAME]" },
    { "resize", resize, 2, "FILE OUT rank=R [format=F] [base=CHECKPOINT]" }, { "mix", mix, 1, "OUT FILE.safetensors=WEIGHT... [rank=R] [format=F] [base=CHECKPOINT]" },
    { "halves", halves, 3, "A B OUT at=F [format=F] [base=CHECKPOINT]" }, { "merge", merge, 2, "BASE OUT FILE.safetensors=WEIGHT... [component=NAME]" },
    { "extract", extract, 3, "BASE TUNED OUT rank=R [format=F]" }, { "diff", diff, 2, "A B [base=CHECKPOINT]" } };

static lk_err run(int argc, char **argv, context *c, arguments *a) {
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (argc < 2 || strcmp(commands[i].name, argv[1])) continue;
        LK_TRY(parse(a, c->arena, argc - 2, argv + 2));
        if (a->n != commands[i].n) return lk_error(LK_EINPUT, "usage: lk-lora %s %s", argv[1], commands[i].usage);
        if (a->n_bases && (commands[i].run == merge || commands[i].run == extract)) return lk_error(LK_EINPUT, "%s: its base is the first argument, base= has no meaning", argv[1]);
        for (int k = 0; k < a->n_bases; k++) LK_TRY(open_base(c, a->base[k].component, a->base[k].path));
        return commands[i].run(c);
    }
    return lk_error(LK_EINPUT, "usage: lk-lora inspect|convert|resize|mix|halves|merge|extract|diff ...%s%s", argc > 1 ? "; no such command: " : "", argc > 1 ? argv[1] : "");
}

int main(int argc, char **argv) {
    arguments a = { 0 };
    context c = { .a = &a, .arena = lk_arena_new() };
    lk_err err = run(argc, argv, &c, &a);
    for (int i = 0; i < c.n_bases; i++) lk_st_close(c.base[i].st);
    lk_arena_free(c.arena);
    return err ? lk_err_report(err) : 0;
}
