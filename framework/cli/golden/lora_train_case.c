/* LoRA training cases: some steps of AdamW on a base model, from given adapters, batches and noise. Compared: learning
 * rate, loss of each micro-batch and gradient norm of every step, gradients of the first step, adapters after some steps.
 * Differences of trained values are measured against how far they moved from their start. */
#include "cli/golden/golden.h"
#include "train/train.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How a class of model takes a batch: the batches file's prefix, and its input names for the noisy latent and the text. */
static const struct { const char *cls, *prefix, *noisy, *text; } kinds[] = {
    { "UNet2DConditionModel", "", "sample", "encoder_hidden_states" },
    { "QwenImageTransformer2DModel", "qwen.", "hidden_states", "encoder_hidden_states" },
};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

typedef struct {
    lk_golden *run; lk_arena *memory; lk_graph *g;
    const json_t *hyper, *steps, *gaps, *tol;
    int kind, accum, n_steps;
    const char *cls;
    lk_golden_file batches, own, init_file, *init;   /* init: own or init_file */
    lk_golden_model m;
    lk_adapter *adapter;
    lk_optimiser *optimiser;
    lk_diffusion_step *step;
    lk_scheduler *scheduler;                          /* NULL: flow matching */
    lk_lr lr;
    lk_val text[64];
    lk_exec *x;
    const lk_val *params; int n; int64_t total;       /* adapter params; values in all */
    double *start;                                    /* their initial values, concatenated */
    lk_err failed;                                    /* of the build callback */
} training;

static double number(const json_t *o, const char *key) { return json_number_value(json_object_get(o, key)); }
static const char *word(const json_t *o, const char *key) { return json_string_value(json_object_get(o, key)); }
static const char *param_name(const training *t, int i) { return lk_graph_node(t->g, t->params[i])->name; }
static const lk_tensor *batch(training *t, const char *what, int index) { return lk_golden_get(&t->batches, "%s%s.%d", kinds[t->kind].prefix, what, index); }

/* ---- building ---------------------------------------------------------------------------------------------------------- */
static const char *const *list(training *t, const char *key) {
    const json_t *names = json_object_get(t->hyper, key);
    size_t n = json_array_size(names);
    const char **out = lk_alloc(t->memory, (n + 1) * sizeof *out);
    for (size_t i = 0; i < n; i++) out[i] = json_string_value(json_array_get(names, i));
    return out;
}
/* {name: number}, of PEFT's rank_pattern and alpha_pattern. */
static const char *const *pattern(training *t, const char *key, double **values) {
    json_t *o = json_object_get(t->hyper, key), *v;
    const char **names = lk_alloc(t->memory, (json_object_size(o) + 1) * sizeof *names), *name;
    int n = 0;
    *values = lk_alloc(t->memory, json_object_size(o) * sizeof **values + 1);
    json_object_foreach(o, name, v) { (*values)[n] = json_number_value(v); names[n++] = name; }
    return names;
}
static lk_err make_adapter(training *t) {
    const char *type = word(t->hyper, "peft_type");
    double *ranks, *alphas;
    bool rs = json_is_true(json_object_get(t->hyper, "use_rslora"));
    lk_lora_config c = { .kind = type && !strcmp(type, "LOHA") ? LK_LOHA : type && !strcmp(type, "LOKR") ? LK_LOKR : json_is_true(json_object_get(t->hyper, "use_dora")) ? rs ? LK_RSDORA : LK_DORA : rs ? LK_RSLORA : LK_LORA,
                         .r = (int)number(t->hyper, "r"), .alpha = number(t->hyper, "lora_alpha"), .targets = list(t, "targets"), .modules_to_save = list(t, "modules_to_save"),
                         .factor = (int)number(t->hyper, "decompose_factor"), .both = json_is_true(json_object_get(t->hyper, "decompose_both")),
                         .tucker = json_is_true(json_object_get(t->hyper, "use_effective_conv2d")), .lora_bias = json_is_true(json_object_get(t->hyper, "lora_bias")) };
    if (word(t->hyper, "bias")) LK_TRY(lk_lora_biases_named(word(t->hyper, "bias"), &c.biases));
    c.rank_names = pattern(t, "rank_pattern", &ranks);
    c.alpha_names = pattern(t, "alpha_pattern", &alphas);
    c.alpha_values = alphas;
    int *whole = lk_alloc(t->memory, json_object_size(json_object_get(t->hyper, "rank_pattern")) * sizeof *whole + 1);
    for (int i = 0; c.rank_names[i]; i++) whole[i] = (int)ranks[i];
    c.rank_values = whole;
    t->adapter = lk_adapter_new(c, "");
    t->m.net.adapters = &t->adapter;
    t->m.net.n_adapters = 1;
    return LK_OK;
}
static lk_val predict(void *ctx, lk_graph *g, int micro, lk_val noisy, lk_val timestep) {
    training *t = ctx;
    const lk_tensor *text = batch(t, "text", micro);
    lk_shape s = { .rank = text ? text->rank : 0 };
    for (int k = 0; k < s.rank; k++) s.d[k] = text->d[k];
    t->text[micro] = lk_input(g, lk_fmt(t->memory, "text.%d", micro), LK_F32, s);
    t->m.n_in = 0;
    lk_golden_bind(&t->m, kinds[t->kind].noisy, noisy);
    lk_golden_bind(&t->m, "timestep", timestep);
    lk_golden_bind(&t->m, kinds[t->kind].text, t->text[micro]);
    if (!t->failed) t->failed = lk_golden_build(&t->m, t->cls);
    if (micro == 0) lk_optimiser_params(t->optimiser, t->params, t->n = lk_adapter_params(t->adapter, g, &t->params));
    return lk_golden_out(&t->m, "sample");
}
static lk_err build(training *t) {
    const json_t *opt = json_object_get(t->hyper, "optimizer"), *betas = json_object_get(opt, "betas");
    const lk_tensor *x0 = batch(t, "x0", 0);
    if (!x0) return lk_error(LK_EINPUT, "the batches hold no %sx0.0", kinds[t->kind].prefix);
    if (!word(opt, "name") || strcmp(word(opt, "name"), "AdamW")) return lk_error(LK_EINPUT, "optimizer %s: only AdamW is known", word(opt, "name"));
    lk_diffusion_config c = { .micro_batches = t->accum, .snr_gamma = number(t->hyper, "snr_gamma"), .noise_offset = number(t->hyper, "noise_offset"), .noise_given = true,
                              .latent.rank = x0->rank };
    for (int k = 0; k < x0->rank; k++) c.latent.d[k] = x0->d[k];
    LK_TRY(lk_predict_parse(word(t->hyper, "prediction_type"), &c.prediction));
    lk_optimiser_config oc = { .clip = number(t->hyper, "grad_clip_norm"), .micro_batches = t->accum,
        .adamw = { json_number_value(json_array_get(betas, 0)), json_number_value(json_array_get(betas, 1)), number(opt, "eps"), number(opt, "weight_decay") } };
    t->lr = (lk_lr){ .name = word(t->hyper, "lr_schedule"), .base = number(opt, "lr"), .warmup = (int64_t)number(t->hyper, "warmup_steps"), .total = t->n_steps };
    LK_TRY(make_adapter(t));
    t->optimiser = lk_optimiser_new(t->g, NULL, 0, oc);
    t->step = lk_diffusion_step_new(t->g, c, predict, t, NULL, t->optimiser);
    lk_optimiser_finish(t->optimiser);
    if (t->failed) { lk_err e = t->failed; t->failed = LK_OK; return e; }
    LK_TRY(lk_graph_error(t->g));
    t->n = lk_adapter_params(t->adapter, t->g, &t->params);
    lk_val *outputs = lk_alloc(t->memory, (size_t)(t->n + t->accum + 2) * sizeof *outputs);
    int n = 0;
    outputs[n++] = lk_optimiser_loss(t->optimiser);
    outputs[n++] = lk_optimiser_grad_norm(t->optimiser);
    for (int i = 0; i < t->accum; i++) outputs[n++] = t->step->micro[i].loss;
    for (int i = 0; i < t->n; i++) if (lk_ok(lk_optimiser_grad(t->optimiser, i))) outputs[n++] = lk_optimiser_grad(t->optimiser, i);
    t->m.n_in = 0;                                    /* everything bound: nothing of the io file to set */
    return lk_golden_exec(&t->m, outputs, n, &t->x);
}
static lk_err load_start(training *t) {
    for (int i = 0; i < t->n; i++) t->total += lk_numel(lk_shape_of(t->g, t->params[i]));
    t->start = lk_alloc(t->memory, (size_t)t->total * sizeof(double));
    int64_t at = 0;
    for (int i = 0; i < t->n; i++) {
        const lk_tensor *w = lk_golden_get(t->init, "init.%s", param_name(t, i));
        int64_t n = lk_numel(lk_shape_of(t->g, t->params[i]));
        if (!w || w->numel != n) return lk_error(LK_EINPUT, "no init.%s of %lld values", param_name(t, i), (long long)n);
        double *v = lk_golden_f64(w);
        memcpy(t->start + at, v, (size_t)n * sizeof(double));
        lk_err e = lk_exec_set_f64(t->x, t->params[i], v, n);
        free(v);
        if (e) return e;
        at += n;
    }
    return LK_OK;
}

/* ---- steps --------------------------------------------------------------------------------------------------------------- */
static lk_err set_leaf(training *t, lk_val leaf, const char *what, int index) {
    const lk_tensor *w = batch(t, what, index);
    if (!lk_ok(leaf)) return LK_OK;
    if (!w) return lk_error(LK_EINPUT, "the batches hold no %s%s.%d", kinds[t->kind].prefix, what, index);
    double *v = lk_golden_f64(w);
    lk_err e = lk_exec_set_f64(t->x, leaf, v, w->numel);
    free(v);
    return e;
}
static lk_err set_micro(training *t, int micro, int index) {
    const lk_micro *m = &t->step->micro[micro];
    LK_TRY(set_leaf(t, m->x0, "x0", index));
    LK_TRY(set_leaf(t, m->noise, "noise", index));
    LK_TRY(set_leaf(t, m->offset_draw, "offset_draw", index));
    LK_TRY(set_leaf(t, t->text[micro], "text", index));
    const lk_tensor *at = batch(t, t->scheduler ? "t" : "sigma", index);
    if (!at) return lk_error(LK_EINPUT, "the batches hold no timesteps %d", index);
    double *v = lk_golden_f64(at);
    lk_err e = t->scheduler ? lk_diffusion_set_timesteps(t->step, t->x, micro, t->scheduler, v, NULL) : lk_diffusion_set_sigmas(t->step, t->x, micro, v, 1);
    free(v);
    return e;
}
static double read_scalar(training *t, lk_val v) {
    double d = NAN;
    lk_err_free(lk_exec_get_f64(t->x, v, &d, 1));
    return d;
}
/* All params (or gradients) against tensors <tag>.NAME: the error over everything. moved: relative to the change since the start. */
static void compare_all(training *t, const char *tag, bool gradients, double max_abs, double rel, bool moved) {
    double *got = lk_xcalloc((size_t)t->total + 1, sizeof *got), *want = lk_xcalloc((size_t)t->total + 1, sizeof *want);
    int64_t at = 0; bool complete = true;
    for (int i = 0; i < t->n; i++) {
        int64_t n = lk_numel(lk_shape_of(t->g, t->params[i])), have = 0;
        const lk_tensor *w = lk_golden_get(&t->own, "%s.%s", tag, param_name(t, i));
        lk_val v = gradients ? lk_optimiser_grad(t->optimiser, i) : t->params[i];
        double *a = lk_ok(v) ? lk_golden_read(t->x, v, &have) : lk_xcalloc((size_t)n + 1, sizeof *a), *b = lk_golden_f64(w);
        if (!a || !b || w->numel != n) { lk_golden_check(t->run, false, "%s.%s is absent or of another size", tag, param_name(t, i)); complete = false; }
        else { memcpy(got + at, a, (size_t)n * sizeof *a); memcpy(want + at, b, (size_t)n * sizeof *b); }
        free(a); free(b);
        at += n;
    }
    if (moved) for (int64_t k = 0; k < t->total; k++) { got[k] -= t->start[k]; want[k] -= t->start[k]; }
    if (complete) lk_golden_tensor(t->run, moved ? lk_fmt(t->memory, "%s - init", tag) : tag, got, want, t->total, (lk_golden_tol){ max_abs, rel });
    free(got); free(want);
}
static void compare_unmoved(training *t) {
    int64_t at = 0, differ = 0;
    for (int i = 0; i < t->n; i++) {
        int64_t n;
        double *v = lk_golden_read(t->x, t->params[i], &n);
        for (int64_t k = 0; v && k < n; k++) differ += v[k] != t->start[at + k];
        at += n;
        free(v);
    }
    lk_golden_check(t->run, differ == 0, "after1: %lld of %lld values moved at learning rate 0, want none", (long long)differ, (long long)t->total);
}
static bool file_has(training *t, const char *tag) {
    for (int i = 0; i < lk_st_count(t->own.st); i++) if (lk_starts(lk_st_at(t->own.st, i)->name, tag)) return true;
    return false;
}
/* Tolerances of what the case gives only gaps for: eight gaps, as the stated ones, over a floor of binary32's own rounding. */
static void compare_after(training *t, int step) {
    char tag[32], prefix[40];
    snprintf(tag, sizeof tag, "after%d", step);
    snprintf(prefix, sizeof prefix, "%s.", tag);
    const json_t *gap = json_object_get(t->gaps, tag);
    if (!file_has(t, prefix)) { if (json_is_string(gap)) compare_unmoved(t); return; }
    const json_t *stated_max = json_object_get(t->tol, lk_fmt(t->memory, "%s_max_abs", tag)), *stated_rel = json_object_get(t->tol, lk_fmt(t->memory, "%s_rel_l2_of_change", tag));
    compare_all(t, tag, false, stated_max ? json_number_value(stated_max) : fmax(8 * number(gap, "max_abs"), 1e-6),
                stated_rel ? json_number_value(stated_rel) : fmax(8 * number(gap, "rel_l2_of_change"), 1e-6), true);
}
static lk_err one_step(training *t, int i) {
    const json_t *row = json_array_get(t->steps, (size_t)i), *micro = json_object_get(row, "micro_losses");
    double lr, loss_tol = number(t->tol, "loss_abs"), want_norm = number(row, "grad_norm");
    LK_TRY(lk_lr_at(&t->lr, i, &lr));
    LK_TRY(lk_optimiser_set(t->optimiser, t->x, i, lr));
    for (int k = 0; k < t->accum; k++) LK_TRY(set_micro(t, k, i * t->accum + k));
    LK_TRY(lk_exec_run(t->x));
    lk_golden_number(t->run, lk_fmt(t->memory, "step %d lr", i + 1), lr, number(row, "lr"), 1e-15);
    lk_golden_number(t->run, lk_fmt(t->memory, "step %d loss", i + 1), read_scalar(t, lk_optimiser_loss(t->optimiser)), number(row, "loss"), loss_tol);
    for (int k = 0; k < t->accum; k++)
        lk_golden_number(t->run, lk_fmt(t->memory, "step %d micro loss %d", i + 1, k), read_scalar(t, t->step->micro[k].loss), json_number_value(json_array_get(micro, (size_t)k)), loss_tol * t->accum);
    lk_golden_number(t->run, lk_fmt(t->memory, "step %d gradient norm", i + 1), read_scalar(t, lk_optimiser_grad_norm(t->optimiser)), want_norm, want_norm * number(t->tol, "grad_norm_rel"));
    if (i == 0 && file_has(t, "grad1.")) {
        const json_t *gap = json_object_get(t->gaps, "grad1");
        compare_all(t, "grad1", true, fmax(8 * number(gap, "max_abs"), 1e-6), fmax(8 * number(gap, "rel_l2"), 1e-6), false);
    }
    compare_after(t, i + 1);
    return LK_OK;
}

/* ---- the case ---------------------------------------------------------------------------------------------------------------- */
static lk_err open_files(training *t, const char *dir) {
    const char *base = word(t->hyper, "base"), *batches = word(t->hyper, "batches"), *init = word(t->hyper, "init");
    if (!base || !batches || !init) return lk_error(LK_EINPUT, "hyper must name base, batches and init");
    LK_TRY(lk_golden_open(t->run, lk_golden_path(t->memory, dir, batches), &t->batches));
    LK_TRY(lk_golden_open(t->run, lk_golden_path(t->memory, dir, "lora.safetensors"), &t->own));
    t->init = &t->own;
    if (strcmp(init, "lora.safetensors")) { LK_TRY(lk_golden_open(t->run, lk_golden_path(t->memory, dir, init), &t->init_file)); t->init = &t->init_file; }
    const char *base_dir = lk_golden_path(t->memory, dir, base);
    t->m = lk_golden_model_new(t->run, t->memory, t->g, base_dir, &t->batches);
    LK_TRY(lk_model_class(lk_golden_path(t->memory, base_dir, "config.json"), &t->cls));
    for (t->kind = 0; t->kind < N_KINDS && strcmp(kinds[t->kind].cls, t->cls); t->kind++) {}
    if (t->kind == N_KINDS) return lk_error(LK_EINPUT, "no training of class %s is known", t->cls);
    /* the batches are shared by all cases: known are the fields, whichever this case reads */
    static const char *const fields[] = { "x0.", "noise.", "t.", "text.", "offset_draw.", "qwen.x0.", "qwen.noise.", "qwen.sigma.", "qwen.text." };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) lk_golden_know(&t->batches, fields[i]);
    return LK_OK;
}
static lk_err make_scheduler(training *t) {
    const json_t *config = json_object_get(t->hyper, "scheduler");
    if (!config || json_is_null(config)) return LK_OK;
    json_t *full = json_copy((json_t *)config);
    json_object_set_new(full, "prediction_type", json_string(word(t->hyper, "prediction_type")));
    lk_err e = lk_scheduler_new("DDPMScheduler", full, &t->scheduler);
    json_decref(full);
    return e;
}
lk_err lk_golden_lora_train(lk_golden *run, const char *path, const char *dir, json_t *c) {
    training t = { .run = run, .memory = lk_arena_new(), .g = lk_graph_new(), .hyper = json_object_get(c, "hyper"), .steps = json_object_get(c, "steps"),
                   .gaps = json_object_get(c, "gaps"), .tol = json_object_get(c, "tol") };
    t.accum = (int)number(t.hyper, "grad_accum") > 1 ? (int)number(t.hyper, "grad_accum") : 1;
    t.n_steps = (int)number(t.hyper, "steps");
    lk_err e = t.accum <= (int)(sizeof t.text / sizeof *t.text) && t.n_steps == (int)json_array_size(t.steps) ? LK_OK : lk_error(LK_EINPUT, "%s: steps or grad_accum out of range", path);
    if (!e) e = open_files(&t, dir);
    if (!e) e = make_scheduler(&t);
    if (!e) e = build(&t);
    if (!e) e = load_start(&t);
    for (int i = 0; i < t.n_steps && !e; i++) e = one_step(&t, i);
    if (e) { if (t.own.st) lk_golden_know(&t.own, ""); if (t.init_file.st) lk_golden_know(&t.init_file, ""); }
    lk_golden_close(run, &t.own);
    lk_golden_close(run, &t.init_file);
    lk_golden_close(run, &t.batches);
    lk_exec_free(t.x);
    lk_golden_model_free(&t.m);
    lk_adapter_free(t.adapter);
    lk_scheduler_free(t.scheduler);
    lk_graph_free(t.g);
    lk_arena_free(t.memory);
    return e;
}
