/* The zoo's training loop. Interrupting and starting again gives the same weights: batches are a function of the step. */
#include "train/loop.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool traced(int64_t step) {
    static const int64_t early[] = {1, 2, 5, 10, 20, 50};
    for (size_t i = 0; i < sizeof early / sizeof *early; i++) if (step == early[i]) return true;
    return step % 100 == 0;
}
static char *path_of(const lk_loop *l, lk_loop_opts o, const char *suffix) { return lk_xfmt("%s/%s.%s", o.out, l->name, suffix); }
static lk_err load_trace(const char *path, const char *name, json_t **trace) {
    json_t *all;
    LK_TRY(lk_json_load(path, &all));
    json_t *t = json_object_get(all, name);
    lk_err e = json_is_object(t) ? LK_OK : lk_error(LK_EINPUT, "%s: no trace of '%s'", path, name);
    *trace = json_incref(t);
    json_decref(all);
    return e;
}
static lk_err take_trace(const lk_loop *l, const lk_full *f, lk_exec *x, int64_t step, json_t *trace, const json_t *wanted) {
    char hex[65], key[32];
    LK_TRY(lk_full_digest(f, x, hex));
    snprintf(key, sizeof key, "%lld", (long long)step);
    json_object_set_new(trace, key, json_string(hex));
    const char *want = wanted ? json_string_value(json_object_get(wanted, key)) : NULL;
    if (want && strcmp(want, hex)) return lk_error(LK_ENUM, "%s: step %s: weights digest to %.16s..., the trace says %.16s...", l->name, key, hex, want);
    return LK_OK;
}
/* trace.json of the output directory holds the traces of all its models. */
static lk_err save_trace(const lk_loop *l, lk_loop_opts o, const json_t *trace) {
    char *file = lk_xfmt("%s/trace.json", o.out);
    json_t *all = NULL;
    lk_err e = access(file, F_OK) ? LK_OK : lk_json_load(file, &all);
    if (!all) all = json_object();
    json_object_set(all, l->name, (json_t *)trace);
    if (!e) e = lk_json_save(all, file);
    json_decref(all);
    free(file);
    return e;
}
static lk_err save(const lk_loop *l, lk_exec *x, lk_loop_opts o, int64_t step, const json_t *trace) {
    char *checkpoint = path_of(l, o, "checkpoint.safetensors");
    lk_err e = save_trace(l, o, trace);
    if (!e && step < l->steps) e = lk_checkpoint_save(x, step, checkpoint);
    if (!e && step == l->steps) unlink(checkpoint);
    free(checkpoint);
    return e;
}
lk_err lk_loop_run(const lk_loop *l, lk_full *f, lk_exec *x, lk_loop_opts o) {
    enum { SAVE_EVERY = 500, LOG_EVERY = 50 };
    int64_t last = o.until > 0 && o.until < l->steps ? o.until : l->steps, step = 0;
    json_t *trace = json_object(), *wanted = NULL, *earlier = NULL;
    char *checkpoint = path_of(l, o, "checkpoint.safetensors"), *trace_file = lk_xfmt("%s/trace.json", o.out), *log_file = path_of(l, o, "log");
    FILE *log = NULL;
    lk_err e = lk_mkdirs(o.out);
    if (!e && o.compare) e = load_trace(o.compare, l->name, &wanted);
    if (!e && !o.until && !access(checkpoint, F_OK)) e = lk_checkpoint_load(x, checkpoint, &step);
    if (!e && step) e = load_trace(trace_file, l->name, &earlier);
    if (earlier) { json_object_update(trace, earlier); json_decref(earlier); }
    if (!e && !(log = fopen(log_file, step ? "a" : "w"))) e = lk_error(LK_EIO, "%s: cannot be written", log_file);
    double began = lk_wall_s(), sum = 0;
    int64_t counted = 0, first = step;
    while (!e && step < last) {
        step++;
        double loss, norm, rate;
        lk_lr schedule = {.name = "cosine", .base = l->peak_lr, .warmup = l->warmup, .total = l->steps};
        e = lk_lr_at(&schedule, step, &rate);
        if (!e) e = l->batch(l->ctx, x, step);
        if (!e) e = lk_full_run(f, x, step - 1, rate, l->average_decay, &loss, &norm);
        if (e) break;
        sum += loss; counted++;
        if (traced(step)) e = take_trace(l, f, x, step, trace, wanted);
        if (!e && (step % LOG_EVERY == 0 || step == last)) {
            double each = (lk_wall_s() - began) / (double)(step - first);
            fprintf(log, "step %lld of %lld: loss %.5f, gradient norm %.4f, %.3f s a step\n", (long long)step, (long long)l->steps, sum / (double)counted, norm, each);
            fflush(log);
            sum = 0; counted = 0;
        }
        if (!e && (step % SAVE_EVERY == 0 || step == last) && !o.until) e = save(l, x, o, step, trace);
    }
    if (!e && o.until) printf("%s: %lld steps replayed%s\n", l->name, (long long)last, wanted ? ", digests as published" : "");
    if (log) fclose(log);
    json_decref(trace);
    if (wanted) json_decref(wanted);
    free(checkpoint); free(trace_file); free(log_file);
    return lk_err_wrap(e, "%s", l->name);
}
lk_err lk_loop_args(int argc, char **argv, lk_loop_opts *o) {
    static const char *const known[] = {"out", "until", "compare"};
    *o = (lk_loop_opts){.out = "build/zoo"};
    for (int i = 1; i < argc; i++) {
        char *value = strchr(argv[i], '='), *end = NULL;
        if (!value) return lk_error(LK_EINPUT, "'%s': expected key=value, keys out, until, compare", argv[i]);
        *value++ = 0;
        if (!strcmp(argv[i], "out")) o->out = value;
        else if (!strcmp(argv[i], "compare")) o->compare = value;
        else if (!strcmp(argv[i], "until")) {
            o->until = strtoll(value, &end, 10);
            if (*end || o->until < 0) return lk_error(LK_EINPUT, "until=%s: expected a number of steps", value);
        } else return lk_error(LK_EINPUT, "unknown key '%s'; nearest: '%s'", argv[i], known[lk_nearest(argv[i], known, 3)]);
    }
    return LK_OK;
}
