/* The context a run callback works in, and what surrounds the callback: resuming, checkpoints, finishing.
 *
 * Invariant: at every moment the directory holds a pair from which the run continues to the same digest. run.h5 is
 * written first and may be one checkpoint ahead; the checkpoint's own step decides, and rows and samples that came after
 * it are dropped on resume. The attribute ckpt_marks of run.h5 remembers how many samples each of the last two
 * checkpoints had. A run is finished when run.h5 says status = done; the rename of the state only tells the others. */
#include "base/lapack.h"
#include "harness/internal.h"
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double env_number(const char *name, double otherwise) { const char *s = getenv(name); return s && *s ? atof(s) : otherwise; }
lk_err context_new(const grid *g, const grid_point *p, const char *dir, int threads, lk_ctx **out) {
    lk_arena *arena = lk_arena_new();
    lk_ctx *c = *out = lk_alloc(arena, sizeof *c);
    static run_progress nowhere;
    static volatile sig_atomic_t never;
    *c = (lk_ctx){.grid = g, .point = p, .arena = arena, .dir = dir, .progress = &nowhere, .stop = &never, .started = lk_wall_s(), .checkpointed = lk_wall_s(),
                  .checkpoint_step = -1, .every_steps = (int64_t)env_number("LK_CHECKPOINT_STEPS", 0), .every_s = env_number("LK_CHECKPOINT_S", 20)};
    if (!dir) return LK_OK;
    c->pool = lk_pool_new(threads);
    c->log = fopen(lk_ctx_path(c, "log.txt"), "a");
    if (c->log) return LK_OK;
    lk_err e = lk_error(LK_EIO, "%s: %s", lk_ctx_path(c, "log.txt"), strerror(errno));
    context_free(c);
    *out = NULL;
    return e;
}
void context_free(lk_ctx *c) {
    if (!c) return;
    lk_run_free(c->run);
    lk_pool_free(c->pool);
    if (c->log) fclose(c->log);
    lk_err_free(c->error);
    lk_arena_free(c->arena);
}

/* ---- values ---------------------------------------------------------------------------------------------------------- */
static const char *value(lk_ctx *c, const char *key, lk_kind most) {
    const grid_entry *e = point_entry(c->point, key);
    if (e && e->key->kind <= most) return e->text;
    if (!c->error) c->error = e ? lk_error(LK_ESTATE, "%s: key %s is read as a %s but its values are %s", c->grid->exp->name, key, most == LK_INT ? "whole number" : "number",
                                           e->key->kind == LK_TEXT ? "text" : "real numbers")
                                : lk_error(LK_ESTATE, "%s: the point %s has no key %s", c->grid->exp->name, c->point->label, key);
    return "0";
}
int64_t     lk_ctx_int(lk_ctx *c, const char *key) { return strtoll(value(c, key, LK_INT), NULL, 10); }
double      lk_ctx_real(lk_ctx *c, const char *key) { return strtod(value(c, key, LK_REAL), NULL); }
const char *lk_ctx_text(lk_ctx *c, const char *key) { return value(c, key, LK_TEXT); }
bool        lk_ctx_has(const lk_ctx *c, const char *key) { return point_entry(c->point, key) != NULL; }
bool        lk_ctx_is(const lk_ctx *c, const char *control) { return c->point->control && !strcmp(c->point->control, control); }
const char *lk_ctx_control(const lk_ctx *c) { return c->point->control; }
const char *lk_ctx_label(const lk_ctx *c) { return c->point->label; }
uint64_t    lk_ctx_seed(const lk_ctx *c) { return c->point->seed; }
lk_pool    *lk_ctx_pool(lk_ctx *c) { return c->pool; }
lk_arena   *lk_ctx_arena(lk_ctx *c) { return c->arena; }
lk_run     *lk_ctx_run(lk_ctx *c) { return c->run; }
const char *lk_ctx_path(lk_ctx *c, const char *file) { return lk_fmt(c->arena, "%s/%s", c->dir, file); }
bool        lk_ctx_stop_requested(const lk_ctx *c) { return *c->stop != 0; }

/* ---- telling ------------------------------------------------------------------------------------------------------------ */
void lk_ctx_log(lk_ctx *c, const char *fmt, ...) {
    va_list ap; va_start(ap, fmt);
    char *line = lk_vfmt(c->arena, fmt, ap);
    va_end(ap);
    if (c->run) lk_run_log(c->run, line);
    if (c->log) { fprintf(c->log, "%s\n", line); fflush(c->log); }
}
/* Seconds of all attempts so far, for people: what the checklist calls compute. */
static double seconds_of(const lk_ctx *c) { return c->earlier + lk_wall_s() - c->started; }
void lk_ctx_progress(lk_ctx *c, int64_t done, int64_t total, double loss) {
    c->progress->done = done; c->progress->total = total; c->progress->loss = loss;
    c->progress->seconds = seconds_of(c);
}
void lk_ctx_row(lk_ctx *c, const char *split, int64_t step, int n, const char *const *columns, const double *values) {
    const char *names[64]; double v[64], began = lk_wall_s();
    if (n > 62) { if (!c->error) c->error = lk_error(LK_ESTATE, "a row of metrics/%s has %d columns; at most 62", split, n); return; }
    names[0] = "step"; v[0] = (double)step;
    names[1] = "wall_s"; v[1] = began - c->started;
    memcpy(names + 2, columns, sizeof *names * (size_t)n); memcpy(v + 2, values, sizeof *v * (size_t)n);
    lk_run_row(c->run, split, n + 2, names, v);
    c->harness += lk_wall_s() - began;
}
lk_err lk_ctx_check(lk_ctx *c) {
    if (c->error) { lk_err e = c->error; c->error = NULL; return e; }
    return *c->stop ? lk_error(LK_EINTR, "asked to stop; run again to go on") : LK_OK;
}

/* ---- checkpoints ----------------------------------------------------------------------------------------------------------- */
const char *lk_ctx_checkpoint_path(lk_ctx *c) { return lk_ctx_path(c, "ckpt.safetensors"); }
bool lk_ctx_checkpoint_due(lk_ctx *c, int64_t step) {
    if (*c->stop) return true;
    if (c->every_steps) return step % c->every_steps == 0;
    return lk_wall_s() - c->checkpointed >= c->every_s;
}
static void touch(lk_run *r) {
    char now[32];
    time_t t = time(NULL);
    struct tm utc;
    strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &utc));
    lk_run_attr(r, "heartbeat", now);
}
/* "step:samples" of this checkpoint, then of the one before. */
static void mark(lk_ctx *c, int64_t step) {
    const char *old = lk_run_get_attr(c->run, "ckpt_marks");
    char *text = lk_xfmt("%" PRId64 ":%" PRId64 " %.*s", step, lk_run_samples(c->run), old ? (int)strcspn(old, " ") : 0, old ? old : "");
    lk_run_attr(c->run, "ckpt_marks", text);
    free(text);
}
/* Root attributes: seconds, of all attempts; harness_seconds, the part of them that went into rows, run.h5 and the rest of what is here. */
static void account(lk_ctx *c) {
    char text[32];
    snprintf(text, sizeof text, "%.3f", seconds_of(c));
    lk_run_attr(c->run, "seconds", text);
    snprintf(text, sizeof text, "%.6f", c->harness_earlier + c->harness);
    lk_run_attr(c->run, "harness_seconds", text);
}
lk_err lk_ctx_checkpoint(lk_ctx *c, int64_t step, lk_ctx_save_fn save, void *arg) {
    double began = lk_wall_s();
    touch(c->run);
    mark(c, step);
    account(c);
    LK_TRY(lk_run_save(c->run, lk_ctx_path(c, "run.h5")));
    c->harness += lk_wall_s() - began;
    LK_TRY(lk_err_wrap(save(arg, step, lk_ctx_checkpoint_path(c)), "checkpoint at step %" PRId64, step));
    c->checkpointed = lk_wall_s();
    c->checkpoint_step = step;
    return lk_ctx_check(c);
}
bool lk_ctx_resume(lk_ctx *c, int64_t *step) {
    if (c->checkpoint_step < 0) return false;
    *step = c->checkpoint_step;
    return true;
}
static lk_err step_of_checkpoint(const char *path, int64_t *step) {
    lk_st *st;
    LK_TRY(lk_st_open(path, &st));
    const char *text = lk_st_meta(st, "step");
    lk_err e = text ? LK_OK : lk_error(LK_EINPUT, "%s: has no step in its metadata", path);
    if (text) *step = strtoll(text, NULL, 10);
    lk_st_close(st);
    return e;
}
/* Drops what came after the checkpoint; refuses a pair that does not belong together. */
static lk_err rewind_to(lk_run *r, int64_t step) {
    const char *marks = lk_run_get_attr(r, "ckpt_marks");
    for (const char *s = marks; s && *s; s += strcspn(s, " "), s += *s == ' ') {
        int64_t at, samples;
        if (sscanf(s, "%" SCNd64 ":%" SCNd64, &at, &samples) != 2 || at != step) continue;
        lk_run_truncate(r, step);
        lk_run_truncate_samples(r, samples);
        return LK_OK;
    }
    return lk_error(LK_EINPUT, "run.h5 knows no checkpoint at step %" PRId64 " (it has: %s)", step, marks ? marks : "none");
}
static lk_err load_pair(lk_ctx *c) {
    const char *run_path = lk_ctx_path(c, "run.h5"), *ckpt = lk_ctx_checkpoint_path(c);
    bool has_run = !access(run_path, F_OK), has_ckpt = !access(ckpt, F_OK);
    if (!has_run) return has_ckpt ? lk_error(LK_EINPUT, "ckpt.safetensors is there without run.h5") : LK_OK;
    LK_TRY(lk_run_load(run_path, &c->run));
    const char *id = lk_run_get_attr(c->run, "run_id"), *status = lk_run_get_attr(c->run, "status");
    if (!id || strcmp(id, c->point->run_id)) return lk_error(LK_EINPUT, "run.h5 is of another run");
    if (status && !strcmp(status, "done")) return LK_OK;
    if (!has_ckpt) { lk_run_free(c->run); c->run = NULL; return LK_OK; }     /* killed before its first checkpoint was whole */
    int64_t step = 0;
    LK_TRY(step_of_checkpoint(ckpt, &step));
    LK_TRY(rewind_to(c->run, step));
    c->checkpoint_step = step;
    return LK_OK;
}
static lk_err begin(lk_ctx *c) {
    lk_err damaged = load_pair(c);
    if (damaged) {
        lk_run_free(c->run); c->run = NULL; c->checkpoint_step = -1;
        lk_ctx_log(c, "what an earlier attempt left is set aside, starting from the beginning: %s", lk_err_text(damaged));
        lk_err_free(damaged);
        LK_TRY(rundir_set_aside(lk_ctx_path(c, "run.h5"), "bad"));
        LK_TRY(rundir_set_aside(lk_ctx_checkpoint_path(c), "bad"));
    }
    bool resumed = c->run != NULL;
    const char *seconds = resumed ? lk_run_get_attr(c->run, "seconds") : NULL, *harness = resumed ? lk_run_get_attr(c->run, "harness_seconds") : NULL;
    c->earlier = seconds ? atof(seconds) : 0;
    c->harness_earlier = harness ? atof(harness) : 0;
    if (!c->run) c->run = lk_run_new(c->grid->exp->name, c->point->run_id);
    for (int i = 0; i < c->point->n; i++) lk_run_config(c->run, c->point->at[i].key->name, c->point->at[i].text);
    lk_run_config(c->run, "control", c->point->control ? c->point->control : "none");
    lk_run_config(c->run, "resolved", c->point->resolved);
    lk_run_attr(c->run, "config_id", c->point->config_id);
    lk_run_attr(c->run, "source_id", c->grid->source_id);
    char *schema = lk_fmt(c->arena, "%d", grid_schema(c->grid->exp));
    lk_run_attr(c->run, "settings_schema", schema);
    if (resumed && lk_run_get_attr(c->run, "result_digest")) return LK_OK;
    lk_run_attr(c->run, "status", "running");
    char *event = resumed ? lk_fmt(c->arena, "resumed at step %" PRId64, c->checkpoint_step) : lk_strdup(c->arena, "started");
    lk_run_event(c->run, event);
    lk_ctx_log(c, "%s: %s", c->point->label, event);
    provenance_record(c->run, c->grid, lk_pool_threads(c->pool));
    return LK_OK;
}
static lk_err finish(lk_ctx *c) {
    const char *adapter = lk_ctx_path(c, "adapter.safetensors");
    char hex[65];
    double began = lk_wall_s();
    LK_TRY(inputs_unchanged(c->grid));
    if (lk_la()) lk_run_provenance(c->run, "lapack", lk_la()->version);      /* only where something has needed it */
    LK_TRY(lk_run_digest(c->run, access(adapter, F_OK) ? NULL : adapter, hex));
    lk_run_attr(c->run, "status", "done");
    touch(c->run);
    lk_run_event(c->run, "done");
    c->harness += lk_wall_s() - began;                       /* the last save is not in it: it stores this number */
    c->progress->seconds = seconds_of(c);
    account(c);
    return lk_run_save(c->run, lk_ctx_path(c, "run.h5"));
}
lk_err context_execute(lk_ctx *c) {
    double began = lk_wall_s();
    LK_TRY(begin(c));
    c->harness += lk_wall_s() - began;
    if (!strcmp(lk_run_get_attr(c->run, "status"), "done")) return LK_OK;
    lk_err e = c->grid->exp->run(c);
    if (!e && c->error) { e = c->error; c->error = NULL; }
    if (!e) e = finish(c);
    if (!e) { unlink(lk_ctx_checkpoint_path(c)); lk_ctx_log(c, "done"); return LK_OK; }
    lk_ctx_log(c, "%s", lk_err_text(e));
    return e;
}
