/* LoRA cases without training: one adapter in every file format (and damaged files, which must be refused), several adapters
 * weighed and interpolated, kohya files of a larger base. Each output is one forward pass of the base with some adapters. */
#include "cli/golden/golden.h"
#include "models/interpolate.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct {
    lk_golden *run; lk_arena *memory;
    const char *dir, *base;               /* the case's; the base model's */
    lk_golden_file io;
    const json_t *json, *tol;
} lora_case;
/* An adapter of a forward pass: from a file, or from tensors by a filler. */
typedef struct applied {
    lk_adapter *adapter;
    const char *file;
    double weight;
    lk_err (*fill)(lora_case *, const struct applied *, lk_exec *);
    const char *a, *b; double f;          /* for fillers: tensor prefixes and fraction */
} applied;

static lk_err open_case(lora_case *c, lk_golden *run, const char *dir, const json_t *json) {
    *c = (lora_case){ .run = run, .memory = lk_arena_new(), .dir = dir, .json = json, .tol = json_object_get(json, "tol") };
    const char *base = json_string_value(json_object_get(json, "base"));
    if (!base) return lk_error(LK_EINPUT, "no base");
    c->base = lk_golden_path(c->memory, dir, base);
    return lk_golden_open(run, lk_golden_path(c->memory, dir, "io.safetensors"), &c->io);
}
static void close_case(lora_case *c) {
    lk_golden_close(c->run, &c->io);
    lk_arena_free(c->memory);
}
static void compare(lora_case *c, const char *what, const char *out, const double *got, int64_t n) {
    const lk_tensor *want = lk_golden_get(&c->io, "%s", out);
    lk_golden_tol tol;
    if (!want || want->numel != n) { lk_golden_check(c->run, false, "%s: %s is absent or of another size", what, out); return; }
    double *w = lk_golden_f64(want);
    if (lk_golden_tolerance(c->run, c->tol, out, &tol)) lk_golden_tensor(c->run, lk_fmt(c->memory, "%s %s", out, what), got, w, n, tol);
    free(w);
}

/* ---- a forward pass ------------------------------------------------------------------------------------------------- */
typedef struct { lk_graph *g; lk_golden_model m; lk_exec *x; lk_val out; } pass;
static lk_err begin(lora_case *c, applied *list, int n, bool writable, pass *p) {
    *p = (pass){ .g = lk_graph_new() };
    lk_adapter **adapters = lk_alloc(c->memory, (size_t)(n + 1) * sizeof *adapters);
    p->m = lk_golden_model_new(c->run, c->memory, p->g, c->base, &c->io);
    for (int i = 0; i < n; i++) {
        adapters[i] = list[i].adapter;
        lk_adapter_weight(adapters[i], list[i].weight == 1 ? LK_NONE : lk_scalar(p->g, list[i].weight));
    }
    p->m.writable = writable;
    p->m.net.adapters = adapters;
    p->m.net.n_adapters = n;
    LK_TRY(lk_golden_build(&p->m, NULL));
    p->out = lk_golden_out(&p->m, "sample");
    LK_TRY(lk_golden_exec(&p->m, &p->out, 1, &p->x));
    for (int i = 0; i < n; i++) LK_TRY(list[i].file ? lk_adapter_load(list[i].adapter, p->x, list[i].file) : list[i].fill(c, &list[i], p->x));
    return LK_OK;
}
static void end(pass *p) {
    lk_exec_free(p->x);
    lk_golden_model_free(&p->m);
    lk_graph_free(p->g);
}
static lk_err forward(lora_case *c, applied *list, int n, const float *sample, double **out, int64_t *count) {
    pass p;
    *out = NULL;
    lk_err e = begin(c, list, n, false, &p);
    if (!e && sample) e = lk_exec_set(p.x, lk_golden_input(&p.m, "sample"), sample, lk_numel(lk_shape_of(p.g, lk_golden_input(&p.m, "sample"))));
    if (!e) e = lk_exec_run(p.x);
    if (!e) *out = lk_golden_read(p.x, p.out, count);
    end(&p);
    return e;
}
static void check_forward(lora_case *c, const char *what, const char *out, applied *list, int n, const float *sample) {
    double *got; int64_t count;
    lk_err e = forward(c, list, n, sample, &got, &count);
    if (!e) compare(c, what, out, got, count);
    lk_golden_failed(c->run, what, e);
    free(got);
}
/* An adapter with rank, alpha and targets as its file says. Claims PEFT's adapter_config.json beside it. */
static lk_err from_file(lora_case *c, const char *file, applied *a) {
    lk_lora_config config;
    struct stat st;
    *a = (applied){ .file = lk_golden_path(c->memory, c->dir, file), .weight = 1 };
    lk_golden_claim(c->run, a->file);
    char *beside = lk_strdup(c->memory, a->file), *slash = strrchr(beside, '/');
    beside = lk_fmt(c->memory, "%.*s/adapter_config.json", (int)(slash - beside), beside);
    if (!stat(beside, &st)) lk_golden_claim(c->run, beside);
    LK_TRY(lk_adapter_inspect(a->file, c->memory, &config));
    a->adapter = lk_adapter_new(config, "");
    return LK_OK;
}
static void check_file(lora_case *c, const char *file, const char *out) {
    applied a;
    lk_err e = from_file(c, file, &a);
    if (e) { lk_golden_failed(c->run, file, e); return; }
    check_forward(c, file, out, &a, 1, NULL);
    lk_adapter_free(a.adapter);
}

/* ---- file formats ------------------------------------------------------------------------------------------------------ */
static lk_err merged_pass(lora_case *c, applied *a, double weight, const char *tag) {
    pass from, to;
    lk_err e = begin(c, a, 1, false, &from);
    if (e) { end(&from); return e; }
    e = begin(c, NULL, 0, true, &to);
    if (!e) e = lk_adapter_merge(a->adapter, from.x, weight, to.x);
    if (!e) e = lk_exec_run(to.x);
    if (!e) {
        int64_t n;
        double *got = lk_golden_read(to.x, to.out, &n);
        compare(c, "merged", lk_fmt(c->memory, "out.fused_%s", tag), got, n);
        free(got);
        char *prefix = lk_fmt(c->memory, "merged_%s.", tag);
        for (int i = 0; i < lk_st_count(c->io.st); i++) {
            const lk_tensor *t = lk_st_at(c->io.st, i);
            if (!lk_starts(t->name, prefix)) continue;
            lk_golden_get(&c->io, "%s", t->name);
            lk_val w = lk_find(to.g, t->name + strlen(prefix));
            double *have = lk_ok(w) ? lk_golden_read(to.x, w, &n) : NULL, *want = lk_golden_f64(t), top = 0;
            for (int64_t k = 0; k < t->numel; k++) if (want[k] * want[k] > top * top) top = want[k] < 0 ? -want[k] : want[k];
            /* W + s BA with r products: a few roundings of the largest element */
            if (have && n == t->numel) lk_golden_tensor(c->run, t->name, have, want, n, (lk_golden_tol){ 4e-7 * top, 4e-7 });
            else lk_golden_check(c->run, false, "%s: no such weight", t->name);
            free(have); free(want);
        }
    }
    end(&from); end(&to);
    return e;
}
static void check_corrupt(lora_case *c, const char *name, const json_t *row) {
    const char *file = json_string_value(json_object_get(row, "file")), *flaw = json_string_value(json_object_get(row, "flaw"));
    if (!file || !flaw) { lk_golden_check(c->run, false, "%s: no file or flaw", name); return; }
    if (lk_starts(flaw, "none")) { check_file(c, file, "out.mid_only"); return; }
    applied a = { 0 };
    double *got = NULL; int64_t n;
    lk_err e = from_file(c, file, &a);
    if (!e) e = forward(c, &a, 1, NULL, &got, &n);
    lk_golden_check(c->run, e != NULL, "%s: %s", name, e ? lk_err_text(e) : "was accepted, must be refused");
    lk_err_free(e);
    free(got);
    if (a.adapter) lk_adapter_free(a.adapter);
}
lk_err lk_golden_lora_formats(lk_golden *run, const char *path, const char *dir, json_t *json) {
    static const struct { const char *file, *out; } files[] = {
        { "peft/adapter_model.safetensors", "out.lora" }, { "diffusers/pytorch_lora_weights.safetensors", "out.lora" }, { "kohya/lora.safetensors", "out.lora" },
        { "diffusers_mixed/pytorch_lora_weights.safetensors", "out.lora" }, { "diffusers_no_metadata/pytorch_lora_weights.safetensors", "out.alpha_equals_rank" } };
    lora_case c;
    lk_err e = open_case(&c, run, dir, json);
    if (!e) {
        check_forward(&c, "no adapter", "out.base", NULL, 0, NULL);
        for (size_t i = 0; i < sizeof files / sizeof *files; i++) check_file(&c, files[i].file, files[i].out);
        static const struct { double weight; const char *tag; } merges[] = { { 1, "1.0" }, { .5, "0.5" } };
        for (int i = 0; i < 2; i++) {
            applied a;
            lk_err m = from_file(&c, files[0].file, &a);
            if (!m) { m = merged_pass(&c, &a, merges[i].weight, merges[i].tag); lk_adapter_free(a.adapter); }
            lk_golden_failed(run, merges[i].tag, m);
        }
        const char *name; json_t *row;
        json_object_foreach(json_object_get(json, "corrupt"), name, row) check_corrupt(&c, name, row);
    }
    close_case(&c);
    return lk_err_wrap(e, "%s", path);
}

/* ---- kohya files: out.<stem of the file> ----------------------------------------------------------------------------------- */
lk_err lk_golden_lora_files(lk_golden *run, const char *path, const char *dir, json_t *json) {
    lora_case c;
    lk_err e = open_case(&c, run, dir, json);
    for (int i = 0; !e && i < lk_st_count(c.io.st); i++) {
        const char *out = lk_st_at(c.io.st, i)->name;
        if (!lk_starts(out, "out.")) continue;
        if (!strcmp(out, "out.base")) check_forward(&c, "no adapter", out, NULL, 0, NULL);
        else check_file(&c, lk_fmt(c.memory, "%s.safetensors", out + 4), out);
    }
    close_case(&c);
    return lk_err_wrap(e, "%s", path);
}

/* ---- mixtures -------------------------------------------------------------------------------------------------------------- */
static lk_adapter *adapter_like(lora_case *c, const char *which, const char *prefix) {
    const json_t *o = json_object_get(c->json, which), *names = json_object_get(o, "targets");
    size_t n = json_array_size(names);
    const char **targets = lk_alloc(c->memory, (n + 1) * sizeof *targets);
    for (size_t i = 0; i < n; i++) targets[i] = json_string_value(json_array_get(names, i));
    return lk_adapter_new((lk_lora_config){ .kind = LK_LORA, .r = (int)json_integer_value(json_object_get(o, "r")), .alpha = json_number_value(json_object_get(o, "alpha")), .targets = targets }, prefix);
}
/* (1 - f) of a's tensors and f of b's, A and B separately. */
static lk_err fill_tensors(lora_case *c, const applied *l, lk_exec *x) {
    const lk_graph *g = lk_exec_graph(x);
    const lk_val *params;
    int n = lk_adapter_params(l->adapter, g, &params);
    if (n == 0) return lk_error(LK_EINPUT, "%s joined no module", l->a);
    for (int i = 0; i < n; i++) {
        const char *name = strchr(lk_graph_node(g, params[i])->name, '/') + 1;      /* after the adapter's prefix */
        const lk_tensor *ta = lk_golden_get(&c->io, "%s.%s", l->a, name), *tb = l->b ? lk_golden_get(&c->io, "%s.%s", l->b, name) : NULL;
        if (!ta || (l->b && !tb)) return lk_error(LK_EINPUT, "no tensor %s.%s", ta ? l->b : l->a, name);
        double *a = lk_golden_f64(ta), *b = lk_golden_f64(tb);
        for (int64_t k = 0; b && k < ta->numel; k++) a[k] = (1 - l->f) * a[k] + l->f * b[k];
        lk_err e = lk_exec_set_f64(x, params[i], a, ta->numel);
        free(a); free(b);
        if (e) return e;
    }
    return LK_OK;
}
static applied of_tensors(lora_case *c, const char *which, const char *with, double f, double weight) {
    return (applied){ .adapter = adapter_like(c, which, lk_fmt(c->memory, "%s/", which)), .fill = fill_tensors, .weight = weight, .a = which, .b = with, .f = f };
}
static float *sample_of(lora_case *c, const char *name, int64_t *n) {
    const lk_tensor *t = lk_golden_get(&c->io, "%s", name);
    if (!t) return NULL;
    float *v = lk_xmalloc((size_t)(t->numel + 1) * sizeof *v);
    *n = t->numel;
    lk_err_free(lk_st_f32(t, v));
    return v;
}
/* slerp_<f>, slerp_adain_<f>: of in.sample and in.sample2. malloc. */
static float *between(lora_case *c, double f, bool adain, int64_t *n) {
    float *a = sample_of(c, "in.sample", n), *b = sample_of(c, "in.sample2", n), *out = NULL;
    if (a && b) {
        const lk_tensor *t = lk_golden_get(&c->io, "in.sample");
        int64_t planes = t->d[0] * t->d[1];
        out = lk_xmalloc((size_t)(*n + 1) * sizeof *out);
        lk_slerp(a, b, f, *n, out);
        if (adain) lk_adain_between(out, a, b, f, planes, *n / planes, out);
    }
    free(a); free(b);
    return out;
}
static void latent_output(lora_case *c, const char *out, double f, bool adain) {
    int64_t n = 0;
    float *x = between(c, f, adain, &n);
    double *wide = lk_xmalloc((size_t)(n + 1) * sizeof *wide);
    for (int64_t k = 0; x && k < n; k++) wide[k] = x[k];
    compare(c, "", out, x ? wide : NULL, n);
    free(x); free(wide);
}
/* "a.7_c.4": a letter and a weight, joined by '_'. */
static int parse_mix(lora_case *c, const char *s, applied *list, int most) {
    int n = 0;
    while (*s && n < most) {
        char *rest, *which = lk_fmt(c->memory, "lora_%c", *s);
        double weight = strtod(s + 1, &rest);
        if (rest == s + 1 || !json_object_get(c->json, which)) return 0;
        list[n++] = of_tensors(c, which, NULL, 0, weight);
        s = *rest == '_' ? rest + 1 : rest;
        if (*rest && *rest != '_') return 0;
    }
    return n;
}
static void mix_output(lora_case *c, const char *out) {
    const char *name = out + 4, *number = strrchr(name, '_');
    double f = number ? strtod(number + 1, NULL) : 0;
    applied list[4]; int n = 0; float *sample = NULL; int64_t count;
    if (lk_starts(name, "slerp_adain_")) { latent_output(c, out, f, true); return; }
    if (lk_starts(name, "slerp_")) { latent_output(c, out, f, false); return; }
    if (lk_starts(name, "mix_")) n = parse_mix(c, name + 4, list, 4);
    else if (!strcmp(name, "a_only_of_two")) { list[n++] = of_tensors(c, "lora_a", NULL, 0, 1); list[n++] = of_tensors(c, "lora_b", NULL, 0, 0); }
    else if (lk_starts(name, "interp_factors_")) list[n++] = of_tensors(c, "lora_a", "lora_b", f, 1);
    else if (lk_starts(name, "interp_deltas_")) { list[n++] = of_tensors(c, "lora_a", NULL, 0, 1 - f); list[n++] = of_tensors(c, "lora_b", NULL, 0, f); }
    else if (lk_starts(name, "diffmorpher_")) { list[n++] = of_tensors(c, "lora_a", "lora_b", f, 1); sample = between(c, f, true, &count); }
    if (n) check_forward(c, "", out, list, n, sample);
    else lk_golden_check(c->run, false, "%s: no way to compute it is known", out);
    for (int i = 0; i < n; i++) lk_adapter_free(list[i].adapter);
    free(sample);
}
lk_err lk_golden_lora_mix(lk_golden *run, const char *path, const char *dir, json_t *json) {
    lora_case c;
    lk_err e = open_case(&c, run, dir, json);
    for (int i = 0; !e && i < lk_st_count(c.io.st); i++)
        if (lk_starts(lk_st_at(c.io.st, i)->name, "out.")) mix_output(&c, lk_st_at(c.io.st, i)->name);
    close_case(&c);
    return lk_err_wrap(e, "%s", path);
}
