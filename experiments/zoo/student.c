/* The zoo's 4-step student: a LoRA of the base that draws in 4 DDIM steps without guidance what the base draws in 32 with guidance 2.
 *   build/bin/zoo-student [out=DIR] [until=N] [compare=models/student/trace.json]
 * Progressive distillation (Salimans & Ho 2022) with the stages of SDXL-Lightning up to 4 steps: 32 to 8 with guidance baked in, then 8 to 4,
 * the first timestep starting from noise alone. Trained on the 28 base people's photos and captions. Stored as F16. */
#include "models/student.h"
#include "train/cohort.h"
#include "train/distil.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SEED = 4, LOG_EVERY = 20, SAVE_EVERY = 100 };
static const lk_distil_plan plan = {.rank = LK_STUDENT_RANK, .batch = 8, .lr = 1e-3, .n = 2, .stage = {
    {.kind = LK_DISTIL_MSE, .from = 32, .to = 8, .iterations = 500, .guidance_lo = 2, .guidance_hi = 2, .base_teacher = true, .pure_noise = true},
    {.kind = LK_DISTIL_MSE, .from = 8, .to = 4, .iterations = 900, .guidance_lo = 1, .guidance_hi = 1, .pure_noise = true}}};

typedef struct { const char *out, *compare; int64_t until; } options;
static lk_err parse(int argc, char **argv, options *o) {
    static const char *const known[] = {"out", "until", "compare"};
    *o = (options){.out = "build/zoo/student"};
    for (int i = 1; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        if (!value) return lk_error(LK_EINPUT, "'%s': expected key=value, keys out, until, compare", argv[i]);
        *value++ = 0;
        if (!strcmp(argv[i], "out")) o->out = value;
        else if (!strcmp(argv[i], "compare")) o->compare = value;
        else if (!strcmp(argv[i], "until")) o->until = strtoll(value, NULL, 10);
        else return lk_error(LK_EINPUT, "unknown key '%s'; nearest: '%s'", argv[i], known[lk_nearest(argv[i], known, 3)]);
    }
    return LK_OK;
}
/* SHA-256 over the adapter's values, in its params' order. */
static lk_err digest(const lk_distiller *d, char hex[65]) {
    const lk_val *params;
    lk_exec *x = lk_distiller_exec(d);
    int n = lk_adapter_params(lk_distiller_adapter(d), lk_exec_graph(x), &params);
    lk_sha256 sum;
    lk_sha256_init(&sum);
    for (int i = 0; i < n; i++) {
        int64_t size = lk_numel(lk_shape_of(lk_exec_graph(x), params[i]));
        float *v = lk_xmalloc(sizeof(float) * (size_t)size);
        lk_err e = lk_exec_get(x, params[i], v, size);
        if (!e) lk_sha256_add(&sum, v, sizeof(float) * (size_t)size);
        free(v);
        if (e) return e;
    }
    lk_sha256_hex(&sum, hex);
    return LK_OK;
}
static lk_err trace(const lk_distiller *d, int64_t step, json_t *into, const json_t *wanted) {
    char hex[65], key[32];
    LK_TRY(digest(d, hex));
    snprintf(key, sizeof key, "%lld", (long long)step);
    json_object_set_new(into, key, json_string(hex));
    const char *want = wanted ? json_string_value(json_object_get(wanted, key)) : NULL;
    return want && strcmp(want, hex) ? lk_error(LK_ENUM, "student: step %s: weights digest to %.16s..., the trace says %.16s...", key, hex, want) : LK_OK;
}
static bool traced(int64_t step) { return step == 1 || step == 2 || step == 5 || step == 10 || step == 20 || step == 50 || step % 100 == 0; }
typedef struct { lk_distiller *d; options o; FILE *log; json_t *trace, *wanted; char *checkpoint, *trace_file; } training;
static lk_err resume(training *t, int64_t *step) {
    if (t->o.until || access(t->checkpoint, F_OK)) return LK_OK;
    LK_TRY(lk_distiller_load(t->d, t->checkpoint, step));
    json_t *earlier;
    LK_TRY(lk_json_load(t->trace_file, &earlier));
    json_object_update(t->trace, earlier);
    json_decref(earlier);
    return LK_OK;
}
static lk_err train(training *t) {
    int64_t step = 0, steps = lk_distil_steps(&plan), last = t->o.until > 0 && t->o.until < steps ? t->o.until : steps, first;
    LK_TRY(resume(t, &step));
    first = step;
    double began = lk_wall_s(), sum = 0;
    while (step < last) {
        double losses[2];
        LK_TRY(lk_distiller_step(t->d, step, losses));
        step++;
        sum += losses[0];
        if (traced(step)) LK_TRY(trace(t->d, step, t->trace, t->wanted));
        if (step % LOG_EVERY == 0) {
            fprintf(t->log, "step %lld of %lld: loss %.5f, %.3f s a step\n", (long long)step, (long long)steps, sum / LOG_EVERY, (lk_wall_s() - began) / (double)(step - first));
            fflush(t->log);
            sum = 0;
        }
        if (t->o.until || (step % SAVE_EVERY && step < steps)) continue;
        LK_TRY(lk_json_save(t->trace, t->trace_file));
        if (step < steps) LK_TRY(lk_distiller_save(t->d, step, t->checkpoint)); else unlink(t->checkpoint);
    }
    if (t->o.until) printf("student: %lld steps replayed%s\n", (long long)last, t->wanted ? ", digests as published" : "");
    else {
        char *path = lk_xfmt("%s/adapter.safetensors", t->o.out);
        lk_err e = lk_student_save(lk_distiller_adapter(t->d), lk_distiller_exec(t->d), path);
        free(path);
        return e;
    }
    return LK_OK;
}
static lk_err run(int argc, char **argv) {
    training t = {0};
    LK_TRY(parse(argc, argv, &t.o));
    LK_TRY(lk_mkdirs(t.o.out));
    lk_pool *pool = lk_pool_new(lk_default_threads());
    lk_studio studio;
    lk_cohort cohort;
    LK_TRY(lk_studio_open("datasets/orl", pool, &studio));
    LK_TRY(lk_cohort_open(&studio, 0, 0, &cohort));
    t.checkpoint = lk_xfmt("%s/checkpoint.safetensors", t.o.out);
    t.trace_file = lk_xfmt("%s/trace.json", t.o.out);
    t.trace = json_object();
    char *log = lk_xfmt("%s/student.log", t.o.out);
    if (!(t.log = fopen(log, access(t.checkpoint, F_OK) ? "w" : "a"))) return lk_error(LK_EIO, "%s: cannot be written", log);
    if (t.o.compare) LK_TRY(lk_json_load(t.o.compare, &t.wanted));
    lk_err e = lk_distiller_new(&studio.zoo, plan, cohort.refs, SEED, pool, &t.d);
    if (!e) e = train(&t);
    fclose(t.log);
    free(log); free(t.checkpoint); free(t.trace_file);
    json_decref(t.trace);
    json_decref(t.wanted);
    lk_distiller_free(t.d);
    lk_cohort_close(&cohort);
    lk_studio_close(&studio);
    lk_pool_free(pool);
    return e;
}
int main(int argc, char **argv) { return lk_err_report(run(argc, argv)); }
