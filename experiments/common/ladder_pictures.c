/* Pictures against the teacher's from the same noise, figures and the sample sheet. */
#include "experiments/common/ladder_summary.h"
#include "metrics/metrics.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int run_of(const lk_ladder *l, const lk_ladder_arm *a, int nth) {      /* the nth run (seed) of an arm; -1: no more */
    for (int run = 0; run < lk_sweep_count(l->sweep); run++) {
        const char *c = lk_sweep_value(l->sweep, run, "control"), *s = lk_sweep_value(l->sweep, run, "schedule");
        bool grid = !c || !strcmp(c, "none");
        if (a->control ? !grid && !strcmp(c, a->schedule) : grid && s && !strcmp(s, a->schedule)) if (nth-- == 0) return run;
    }
    return -1;
}
static lk_err strip_of(const lk_ladder *l, int run, const char *stem, lk_image *im) {
    return lk_image_read(lk_sweep_run_path(l->sweep, run, lk_fmt(lk_sweep_arena(l->sweep), "%s.png", stem)), im);
}
/* Integer sums: exact. The teacher's run of the same place in the list of seeds. */
static lk_err add_differences(const lk_ladder *l, int run, const char *stem, int teacher_run, double sum[LK_MAX_GROUPS]) {
    lk_image a = {0}, b = {0};
    lk_err e = strip_of(l, run, stem, &a);
    if (!e) e = strip_of(l, teacher_run, "teacher", &b);
    if (!e && (a.w != b.w || a.h != b.h || a.c != b.c)) e = lk_error(LK_ESTATE, "%s.png is %dx%d, teacher.png %dx%d: other prompts", stem, a.w, a.h, b.w, b.h);
    int per = e || !l->groups ? 0 : a.w / l->groups;
    for (int g = 0; g < l->groups && !e; g++) {
        int64_t total = 0;
        for (int y = 0; y < a.h; y++) for (int x = g * per * a.c; x < (g + 1) * per * a.c; x++) total += llabs((long long)a.px[y * a.w * a.c + x] - b.px[y * a.w * a.c + x]);
        sum[g] += (double)total / ((double)a.h * per * a.c) / 255;
    }
    lk_image_free(&a);
    lk_image_free(&b);
    return e;
}
lk_err lk_ladder_to_teacher(const lk_ladder *l, int arm, lk_ladder_value *v) {
    const lk_ladder_arm *a = &l->arm[arm], teacher = {"teacher", true, "teacher", 0};
    *v = (lk_ladder_value){.centre = NAN};
    if (!strcmp(a->schedule, "photos") || !strcmp(a->stem, "teacher")) return LK_OK;
    double sum[LK_MAX_GROUPS] = {0};
    int n = 0;
    for (int run; (run = run_of(l, a, n)) >= 0; n++) {
        int other = run_of(l, &teacher, n);
        if (other < 0) break;
        LK_TRY(add_differences(l, run, a->stem, other, sum));
    }
    if (!n || !l->groups) return LK_OK;
    *v = (lk_ladder_value){.there = true, .n = l->groups};
    for (int g = 0; g < l->groups; g++) { v->value[g] = sum[g] / n; v->centre += v->value[g] / l->groups; }
    return LK_OK;
}

/* ---- figures: one line a schedule ------------------------------------------------------------------------------------- */
enum { MOST_LINES = 24 };
static lk_err line_of(const lk_ladder *l, const char *schedule, const char *key, lk_series *s) {
    lk_arena *m = lk_sweep_arena(l->sweep);
    double *x = lk_alloc(m, sizeof *x * LK_RUNGS), *y = lk_alloc(m, sizeof *y * LK_RUNGS);
    *s = (lk_series){.name = !strcmp(schedule, "teacher") ? "base with guidance" : schedule, .x = x, .y = y, .line = true};
    for (int i = LK_RUNGS; i-- > 0;) {
        lk_ladder_value v;
        LK_TRY(lk_ladder_value_of(l, lk_ladder_find(l, schedule, lk_fmt(m, "s%d", lk_rung_steps[i])), key, &v));
        if (!v.there) continue;
        x[s->n] = lk_rung_steps[i];
        y[s->n++] = v.centre;
    }
    return LK_OK;
}
/* family: schedules whose names begin so; NULL: those that are no ablation. */
static bool belongs(const char *schedule, const char *family) {
    const lk_schedule *s;
    if (family) return lk_starts(schedule, family);
    lk_err e = lk_schedule_find(schedule, &s);
    if (e) { lk_err_free(e); return true; }
    return !s->of;
}
static lk_err figure(const lk_ladder *l, const char *key, const char *family, const char *title, const char *y_label) {
    lk_series lines[MOST_LINES];
    const char *const *schedules;
    int n = 0, count = lk_sweep_values(l->sweep, "schedule", &schedules);
    lk_ladder_value teacher;
    LK_TRY(line_of(l, "teacher", key, &lines[n]));
    if (lines[n].n) n++;
    for (int i = 0; i < count && n < MOST_LINES; i++) {
        if (!belongs(schedules[i], family)) continue;
        LK_TRY(line_of(l, schedules[i], key, &lines[n]));
        if (lines[n].n) n++;
    }
    LK_TRY(lk_ladder_value_of(l, lk_ladder_find(l, "teacher", "teacher"), key, &teacher));
    if (!n) return LK_OK;
    lk_figure f = {family ? lk_fmt(lk_sweep_arena(l->sweep), "%s_%s", key, family) : key, title, "sampling steps; grey: the base at 32 with guidance", y_label, true, "(\"1\" 1, \"2\" 2, \"4\" 4, \"8\" 8)", n, lines, teacher.centre};
    return lk_sweep_figure(l->sweep, &f);
}
lk_err lk_ladder_figures(const lk_ladder *l) {
    LK_TRY(figure(l, "fd", NULL, "Distance to the photos, whole picture", "Frechet distance, CLIP 64-d"));
    LK_TRY(figure(l, "fd_crop", NULL, "Distance to the photos, central crop", "Frechet distance, CLIP 64-d"));
    LK_TRY(figure(l, "kid", NULL, "Kernel distance to the photos", "KID, dlib 128-d"));
    LK_TRY(figure(l, "clip_t", NULL, "Prompt following", "CLIP-T"));
    LK_TRY(figure(l, "id", NULL, "Likeness to the named person", "1 same person, 0 stranger"));
    LK_TRY(figure(l, "diversity", NULL, "Diversity within a group", "mean pairwise dlib distance"));
    LK_TRY(figure(l, "detail", NULL, "Detail of the crop", "RMS Laplacian, 0..255"));
    LK_TRY(figure(l, "fd", "progressive_mse", "Distance to the photos, whole picture: MSE and its ablations", "Frechet distance, CLIP 64-d"));
    LK_TRY(figure(l, "fd", "lightning", "Distance to the photos, whole picture: lightning and its ablations", "Frechet distance, CLIP 64-d"));
    return figure(l, "to_teacher", NULL, "Difference to the teacher's picture from the same noise", "mean absolute difference");
}

/* ---- sheet ------------------------------------------------------------------------------------------------------------ */
enum { SHOWN = 3, SIDE = 64 };
/* Pictures of three groups, side by side: another prompt of each. */
static lk_err shown(const lk_ladder *l, const lk_ladder_arm *a, lk_image *cell) {
    int run = run_of(l, a, 0), groups = l->groups > 0 ? l->groups : 1;
    lk_image strip = {0};
    if (run < 0) return LK_OK;
    LK_TRY(strip_of(l, run, a->stem, &strip));
    int n = strip.w / SIDE, per = n / groups > 0 ? n / groups : 1;
    *cell = lk_image_new(SHOWN * SIDE, SIDE, 3);
    for (int k = 0; k < SHOWN; k++) {
        int at = (k * groups / SHOWN * per + (per > 1 ? k % per : 0)) % n;
        for (int y = 0; y < SIDE; y++) for (int x = 0; x < SIDE; x++) for (int c = 0; c < 3; c++)
            cell->px[(y * cell->w + k * SIDE + x) * 3 + c] = strip.px[(y * strip.w + at * SIDE + x) * strip.c + (strip.c == 3 ? c : 0)];
    }
    lk_image_free(&strip);
    return LK_OK;
}
lk_err lk_ladder_sheet(const lk_ladder *l) {
    static const char *const columns[LK_RUNGS] = {"8 steps", "4 steps", "2 steps", "1 step"};
    lk_arena *m = lk_sweep_arena(l->sweep);
    const char *const *schedules;
    int count = lk_sweep_values(l->sweep, "schedule", &schedules), rows = 0;
    lk_image *cells = lk_alloc(m, sizeof *cells * (size_t)((count + 2) * LK_RUNGS));
    const char **labels = lk_alloc(m, sizeof *labels * (size_t)(count + 2));
    lk_err e = LK_OK;
    int teacher = lk_ladder_find(l, "teacher", "teacher");
    if (teacher >= 0) { labels[rows] = "base, 32 steps"; e = shown(l, &l->arm[teacher], &cells[rows++ * LK_RUNGS]); }
    for (int i = -1; i < count && !e; i++) {
        const char *name = i < 0 ? "teacher" : schedules[i];
        bool any = false;
        for (int k = 0; k < LK_RUNGS && !e; k++) {
            int arm = lk_ladder_find(l, name, lk_fmt(m, "s%d", lk_rung_steps[k]));
            if (arm < 0) continue;
            any = true;
            e = shown(l, &l->arm[arm], &cells[rows * LK_RUNGS + k]);
        }
        if (any) labels[rows++] = i < 0 ? "base" : name;
    }
    if (!e && rows) {
        lk_image sheet = lk_sheet(rows, LK_RUNGS, cells, labels, columns, 1);
        e = lk_image_write_png(lk_sweep_path(l->sweep, "samples.png"), &sheet);
        lk_image_free(&sheet);
    }
    for (int i = 0; i < rows * LK_RUNGS; i++) if (cells[i].px) lk_image_free(&cells[i]);
    return e;
}
