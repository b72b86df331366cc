/* How long a run takes, learnt from the notes in state files, of finished runs and of those well under way: no run file is opened, so that
 * 10,000 runs are estimated in milliseconds. Runs of one kind (a control, or the grid) take about the same time; a control
 * that measures a photo says nothing of a training run. */
#include "harness/internal.h"
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ENOUGH = 32, MOST_PLANS = 16 };                        /* runs of a kind that are looked at; earlier plans */
static const double ENOUGH_DONE = 0.2;                        /* part of a run under way that tells of the whole */
static const char grid_kind[] = "the grid";
/* "control=copy subject=s29" is of kind "copy". */
static void kind_of(const char *label, char name[64]) {
    bool control = lk_starts(label, "control=");
    snprintf(name, 64, "%.*s", control ? (int)strcspn(label + 8, " ") : (int)sizeof grid_kind - 1, control ? label + 8 : grid_kind);
}
static estimate_kind *find(estimate *e, const char *label) {
    char name[64];
    kind_of(label, name);
    for (int i = 0; i < e->n; i++) if (!strcmp(e->kind[i].name, name)) return &e->kind[i];
    if (e->n == sizeof e->kind / sizeof e->kind[0]) return NULL;
    memcpy(e->kind[e->n].name, name, sizeof name);
    return &e->kind[e->n++];
}
void estimate_learn(estimate *e, const char *results, const char *run_id, const char *label) {
    estimate_kind *k = find(e, label);
    run_note note;
    if (!k || k->tried >= ENOUGH) return;
    char *dir = lk_xfmt("%s/runs/%.2s/%s", results, run_id, run_id);
    run_state s = rundir_state(dir);
    if (s == RUN_DONE || s == RUN_RUNNING || s == RUN_INTERRUPTED) {
        k->tried++;
        rundir_note(dir, s, &note);
        double part = s == RUN_DONE ? 1 : note.total > 0 ? (double)note.done / (double)note.total : 0;
        if (note.seconds > 0 && isfinite(note.seconds) && part >= ENOUGH_DONE) { k->sum += note.seconds / part; k->n++; }
    }
    free(dir);
}
static int learnt(const estimate *e) { int n = 0; for (int i = 0; i < e->n; i++) n += e->kind[i].n; return n; }
static void learn_from_plan(estimate *e, const grid *g, const char *path) {
    json_t *plan = NULL, *row; size_t i;
    lk_err unreadable = lk_json_load(path, &plan);
    json_array_foreach(json_object_get(plan, "runs"), i, row) {
        const char *id = json_string_value(json_object_get(row, "run_id")), *label = json_string_value(json_object_get(row, "point"));
        if (id && strlen(id) == 64 && label) estimate_learn(e, g->results, id, label);
    }
    json_decref(plan);
    lk_err_free(unreadable);
}
static int is_plan(const struct dirent *d) { return lk_starts(d->d_name, "plan.") && lk_ends(d->d_name, ".json"); }
static int visible(const struct dirent *d) { return d->d_name[0] != '.'; }
void estimate_earlier(estimate *e, const grid *g) {
    struct dirent **sweeps, **plans;
    char *top = lk_xfmt("%s/sweeps", g->results), *prefix = lk_xfmt("%s-%s", g->exp->name, profile_names[g->profile]);
    int n = learnt(e) ? 0 : scandir(top, &sweeps, visible, alphasort), looked = 0;
    for (int i = 0; i < n; i++) {
        char *dir = lk_xfmt("%s/%s", top, sweeps[i]->d_name), after = lk_starts(sweeps[i]->d_name, prefix) ? sweeps[i]->d_name[strlen(prefix)] : '?';
        int m = !after || after == '-' ? scandir(dir, &plans, is_plan, alphasort) : 0;
        for (int k = 0; k < m; k++) {
            char *path = lk_xfmt("%s/%s", dir, plans[k]->d_name);
            if (looked++ < MOST_PLANS) learn_from_plan(e, g, path);
            free(path); free(plans[k]);
        }
        if (m > 0) free(plans);
        free(dir); free(sweeps[i]);
    }
    if (n > 0) free(sweeps);
    e->earlier = n > 0 && learnt(e);
    free(top); free(prefix);
}
double estimate_of(const estimate *e, const char *label) {
    char name[64];
    double sum = 0; int n = 0;
    kind_of(label, name);
    for (int i = 0; i < e->n; i++) {
        if (!strcmp(e->kind[i].name, name) && e->kind[i].n) return e->kind[i].sum / e->kind[i].n;
        sum += e->kind[i].sum; n += e->kind[i].n;
    }
    return n ? sum / n : 0;
}
