/* status: what the frozen plan's runs are doing, read from state files alone, so that it answers at once and disturbs
 * nobody. clean-runs: their directories go, those somebody works on stay. */
#include "harness/internal.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct { const char *run_id, *point; } planned_run;
/* The plan's runs; borrowed from *plan. */
static lk_err read_plan(const grid *g, json_t **plan, int *n, planned_run **runs) {
    const char *path = lk_fmt(g->arena, "%s/plan.json", g->dir);
    if (access(path, F_OK)) return lk_error(LK_EINPUT, "%s: nothing is planned yet; make exp=%s run", g->dir, g->exp->name);
    LK_TRY(lk_json_load(path, plan));
    LK_TRY(plan_readable(*plan, g->exp, path));
    json_t *list = json_object_get(*plan, "runs");
    *n = 0;
    *runs = lk_alloc(g->arena, sizeof **runs * (json_array_size(list) + 1));
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *row = json_array_get(list, i);
        const char *id = json_string_value(json_object_get(row, "run_id")), *point = json_string_value(json_object_get(row, "point"));
        if (!id || strlen(id) != 64 || strspn(id, "0123456789abcdef") != 64) return lk_error(LK_EINPUT, "%s: run %zu has no run_id; move it away and run again", path, i);
        (*runs)[(*n)++] = (planned_run){id, point ? point : "?"};
    }
    return LK_OK;
}

/* ---- status ----------------------------------------------------------------------------------------------------------- */
static void sparkline(const char *dir, lk_arena *a) {
    static const char *const bars[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    lk_run *r = NULL;
    const char *const *splits;
    lk_err e = lk_run_load(lk_fmt(a, "%s/run.h5", dir), &r);
    const double *loss = NULL; int64_t rows = 0;
    for (int i = 0, n = e ? 0 : lk_run_names(r, "metrics", &splits); i < n && !loss; i++) { loss = lk_run_get_column(r, splits[i], "loss"); rows = lk_run_rows(r, splits[i]); }
    double lo = INFINITY, hi = -INFINITY;
    for (int64_t i = 0; loss && i < rows; i++) if (isfinite(loss[i])) { lo = fmin(lo, loss[i]); hi = fmax(hi, loss[i]); }
    if (loss && rows && lo <= hi) {
        printf("               loss ");
        for (int64_t i = 0, columns = rows < 40 ? rows : 40; i < columns; i++) {
            double v = loss[i * rows / columns];
            fputs(isfinite(v) ? bars[hi > lo ? (int)((v - lo) / (hi - lo) * 7.999) : 0] : "?", stdout);
        }
        printf(" %.4g to %.4g\n", loss[0], loss[rows - 1]);
    }
    lk_err_free(e);
    lk_run_free(r);
}
enum { MOST_SHOWN = 50 };
typedef struct { int by_state[RUN_STATES], shown, hidden, workers; double done /* in runs */, left_s; bool unknown; } overview;
static void show_active(const char *dir, const char *point, run_state s, const run_note *note, lk_arena *a) {
    printf("  %-11s  %s", state_names[s], point);
    if (note->total > 0) printf("  %lld of %lld", (long long)note->done, (long long)note->total);
    if (isfinite(note->loss)) printf("  loss %.4g", note->loss);
    if (s == RUN_RUNNING || s == RUN_LEASED) printf("  on %s (process %ld, heard %.0f s ago)", note->host, note->pid, fmax(0, note->age_s));
    if (*note->reason) printf("  %s", note->reason);
    printf("\n");
    if (s == RUN_RUNNING) sparkline(dir, a);
}
static void consider(const grid *g, const planned_run *r, const estimate *known, overview *v) {
    const char *dir = rundir_of(g->arena, g->results, r->run_id);
    run_state s = rundir_state(dir);
    run_note note = {0};
    double part = 0, each = estimate_of(known, r->point);
    v->by_state[s == RUN_NONE ? RUN_PLANNED : s]++;
    if (s == RUN_DONE) { v->done++; return; }
    if (s != RUN_NONE && s != RUN_PLANNED) {
        bool listed = v->shown < MOST_SHOWN;
        if (listed || s != RUN_FAILED) rundir_note(dir, s, &note);
        if (note.total > 0) part = fmin(1, (double)note.done / (double)note.total);
        if (listed) { show_active(dir, r->point, s, &note, g->arena); v->shown++; } else v->hidden++;
        v->workers += (s == RUN_RUNNING || s == RUN_LEASED) && note.age_s < 60;
    }
    if (s == RUN_FAILED) return;                                        /* until somebody asks for it again */
    v->done += part;
    v->left_s += (1 - part) * each;
    v->unknown |= each <= 0;
}
static void say_left(const overview *v) {
    char time[32];
    if (v->left_s <= 0) return;
    if (v->unknown) printf("  at least %s of run time left", seconds_text(v->left_s, time));
    else if (v->workers) printf("  about %s left with %d at work", seconds_text(v->left_s / v->workers, time), v->workers);
    else printf("  about %s of run time left, nobody at work", seconds_text(v->left_s, time));
}
static lk_err show(const grid *g, bool *all_done) {
    json_t *plan = NULL;
    int n = 0;
    planned_run *runs;
    overview v = {0};
    estimate known = {0};
    lk_err e = read_plan(g, &plan, &n, &runs);
    for (int i = 0; !e && i < n; i++) estimate_learn(&known, g->results, runs[i].run_id, runs[i].point);
    for (int i = 0; !e && i < n; i++) consider(g, &runs[i], &known, &v);
    if (!e) {
        if (v.hidden) printf("  ... and %d more that are neither planned nor done\n", v.hidden);
        printf("%s: %d runs", g->name, n);
        for (int s = 0; s < RUN_STATES; s++) if (v.by_state[s]) printf(", %d %s", v.by_state[s], state_names[s]);
        printf("  (%.0f %%)", n ? 100 * v.done / n : 100.0);
        say_left(&v);
        printf("\n");
        *all_done = v.by_state[RUN_DONE] + v.by_state[RUN_FAILED] == n;
    }
    json_decref(plan);
    return e;
}
lk_err command_status(const lk_experiment *x, const command_opts *o, int *status) {
    lk_err e = LK_OK;
    bool all_done = false;
    (void)status;
    do {
        grid *g;
        LK_TRY(command_grid(x, o, false, &g));
        if (o->watch && isatty(1)) fputs("\033[H\033[2J", stdout);
        e = show(g, &all_done);
        fflush(stdout);
        grid_free(g);
        if (o->watch && !e && !all_done) sleep(2);
    } while (o->watch && !e && !all_done);
    return e;
}

/* ---- clean-runs --------------------------------------------------------------------------------------------------------- */
lk_err command_clean(const lk_experiment *x, const command_opts *o, int *status) {
    grid *g;
    json_t *plan = NULL;
    int n = 0, gone = 0, held = 0;
    planned_run *runs;
    (void)status;
    LK_TRY(command_grid(x, o, false, &g));
    lk_err e = read_plan(g, &plan, &n, &runs);
    for (int i = 0; !e && i < n; i++) {
        const char *dir = rundir_of(g->arena, g->results, runs[i].run_id);
        run_lease l; bool claimed;
        if (rundir_state(dir) == RUN_NONE) continue;
        e = rundir_claim(dir, &claimed, &l);
        if (e || !claimed) { held += !e; continue; }
        e = rundir_remove(dir);
        gone += !e;
        lease_free(&l);
    }
    if (!e) printf("%d runs of %s deleted%s\n", gone, g->name, held ? lk_fmt(g->arena, ", %d kept: somebody works on them", held) : "");
    if (!e && !held) e = rundir_remove(g->dir);
    json_decref(plan);
    grid_free(g);
    return e;
}
