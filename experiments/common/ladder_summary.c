/* Arms, their scores, the result table and the contrasts. */
#include "experiments/common/ladder_summary.h"
#include "experiments/common/transfer.h"
#include "metrics/metrics.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- arms ---------------------------------------------------------------------------------------------------------- */
static bool run_is(const lk_ladder *l, int run, const char *schedule, bool control) {
    const char *c = lk_sweep_value(l->sweep, run, "control"), *s = lk_sweep_value(l->sweep, run, "schedule");
    bool grid = !c || !strcmp(c, "none");
    return control ? !grid && !strcmp(c, schedule) : grid && s && !strcmp(s, schedule);
}
static bool has_final(const lk_ladder *l, int run, const char *key) { double v; return lk_run_get_final(lk_sweep_run(l->sweep, run), key, &v); }
static void add_arm(lk_ladder *l, const char *schedule, bool control, const char *stem, int steps) {
    const char *key = lk_fmt(lk_sweep_arena(l->sweep), "%s.fd", stem);
    for (int run = 0; run < lk_sweep_count(l->sweep); run++)
        if (run_is(l, run, schedule, control) && has_final(l, run, key) && l->n < LK_LADDER_ARMS) { l->arm[l->n++] = (lk_ladder_arm){schedule, control, stem, steps}; return; }
}
static void add_rungs(lk_ladder *l, const char *schedule, bool control) {
    for (int i = 0; i < LK_RUNGS; i++) add_arm(l, schedule, control, lk_fmt(lk_sweep_arena(l->sweep), "s%d", lk_rung_steps[i]), lk_rung_steps[i]);
}
static void find_groups(lk_ladder *l) {              /* the people who have a mean score in any run */
    for (int run = 0; run < lk_sweep_count(l->sweep); run++) {
        const char *const *names;
        int n = lk_run_names(lk_sweep_run(l->sweep, run), "final", &names);
        for (int i = 0; i < n; i++) {
            const char *of = strstr(names[i], ".id.of.");
            if (!of || lk_starts(names[i], "transfer.")) continue;
            int k = 0;
            while (k < l->groups && strcmp(l->who[k], of + 7)) k++;
            if (k == l->groups && l->groups < LK_MAX_GROUPS) l->who[l->groups++] = lk_strdup(lk_sweep_arena(l->sweep), of + 7);
        }
    }
}
lk_err lk_ladder_of(lk_sweep *s, lk_ladder *l) {
    *l = (lk_ladder){.sweep = s};
    add_arm(l, "photos", true, "photo", 0);
    add_arm(l, "photos", true, "ceiling", 0);
    add_arm(l, "teacher", true, "teacher", lk_sweep_int(s, "teacher_steps"));
    add_rungs(l, "teacher", true);
    const char *const *schedules;
    int n = lk_sweep_values(s, "schedule", &schedules);
    for (int i = 0; i < n; i++) add_rungs(l, schedules[i], false);
    find_groups(l);
    return LK_OK;
}
int lk_ladder_find(const lk_ladder *l, const char *schedule, const char *stem) {
    for (int i = 0; i < l->n; i++) if (!strcmp(l->arm[i].schedule, schedule) && !strcmp(l->arm[i].stem, stem)) return i;
    return -1;
}
/* Mean over seeds of a final; NaN where no run has it. */
static double mean_final(const lk_ladder *l, const lk_ladder_arm *a, const char *key) {
    double sum = 0;
    int n = 0;
    for (int run = 0; run < lk_sweep_count(l->sweep); run++) {
        double v = run_is(l, run, a->schedule, a->control) ? lk_sweep_final(l->sweep, run, key) : NAN;
        if (v == v) { sum += v; n++; }
    }
    return n ? sum / n : NAN;
}
static lk_ladder_value value_of(const lk_ladder *l, const lk_ladder_arm *a, const char *key, bool pooled) {
    lk_arena *m = lk_sweep_arena(l->sweep);
    lk_ladder_value v = {0};
    double sum = 0, whole = pooled ? mean_final(l, a, lk_fmt(m, "%s.%s", a->stem, key)) : NAN;
    for (int g = 0; g < l->groups; g++) {
        double x = mean_final(l, a, lk_fmt(m, "%s.%s.%s.%s", a->stem, key, pooled ? "without" : "of", l->who[g]));
        if (x != x) continue;
        v.value[v.n++] = x;
        sum += x;
    }
    v.centre = pooled ? whole : v.n ? sum / v.n : NAN;
    for (int g = 0; g < v.n && pooled; g++) v.value[g] = v.n * whole - (v.n - 1) * v.value[g];
    v.there = v.centre == v.centre;
    return v;
}
lk_err lk_ladder_value_of(const lk_ladder *l, int arm, const char *key, lk_ladder_value *out) {
    const lk_rung_score *s;
    int n = lk_rung_scores(&s);
    *out = (lk_ladder_value){.centre = NAN};
    if (arm < 0) return LK_OK;
    if (!strcmp(key, "to_teacher")) return lk_ladder_to_teacher(l, arm, out);
    if (!strcmp(key, "ms")) {
        out->centre = mean_final(l, &l->arm[arm], lk_fmt(lk_sweep_arena(l->sweep), "%s.ms", l->arm[arm].stem));
        out->there = out->centre == out->centre;
        return LK_OK;
    }
    for (int k = 0; k < n; k++) if (!strcmp(s[k].key, key)) { *out = value_of(l, &l->arm[arm], key, s[k].pooled); return LK_OK; }
    return lk_error(LK_ESTATE, "no score '%s'", key);
}
/* 95 % of t around the centre, by the spread of the groups' values. False: too few. */
static bool interval(const lk_ladder_value *v, double *lo, double *hi, double *p) {
    lk_interval t;
    if (v->n < 3) return false;
    lk_err e = lk_mean_t(v->value, v->n, 0.95, &t);
    if (e) { lk_err_free(e); return false; }
    double half = t.hi - t.mean;
    *lo = v->centre - half;
    *hi = v->centre + half;
    if (p) *p = t.se > 0 ? 2 * lk_t_upper(fabs(v->centre) / t.se, t.df) : 1;
    return true;
}
static const char *cell(lk_arena *m, const lk_ladder_value *v, int digits) {
    double lo, hi;
    if (!v->there) return "–";
    return interval(v, &lo, &hi, NULL) ? lk_fmt(m, "%.*f [%.*f, %.*f]", digits, v->centre, digits, lo, digits, hi) : lk_fmt(m, "%.*f", digits, v->centre);
}
/* Paired over groups: a minus b. */
static lk_err difference(const lk_ladder *l, int a, int b, const char *key, lk_ladder_value *d) {
    lk_ladder_value x, y;
    *d = (lk_ladder_value){0};
    LK_TRY(lk_ladder_value_of(l, a, key, &x));
    LK_TRY(lk_ladder_value_of(l, b, key, &y));
    if (!x.there || !y.there || x.n != y.n) return LK_OK;
    *d = (lk_ladder_value){.there = true, .n = x.n, .centre = x.centre - y.centre};
    for (int g = 0; g < x.n; g++) d->value[g] = x.value[g] - y.value[g];
    return LK_OK;
}
/* A final of an arm under one seed, mean over groups where the score is a mean; NaN where no run has it. */
static double under_seed(const lk_ladder *l, const lk_ladder_arm *a, const char *key, bool pooled, const char *seed) {
    lk_arena *m = lk_sweep_arena(l->sweep);
    for (int run = 0; run < lk_sweep_count(l->sweep); run++) {
        const char *its = lk_sweep_value(l->sweep, run, "seed");
        double sum = 0;
        if (!its || strcmp(its, seed) || !run_is(l, run, a->schedule, a->control)) continue;
        if (pooled) return lk_sweep_final(l->sweep, run, lk_fmt(m, "%s.%s", a->stem, key));
        for (int g = 0; g < l->groups; g++) sum += lk_sweep_final(l->sweep, run, lk_fmt(m, "%s.%s.of.%s", a->stem, key, l->who[g]));
        return sum / l->groups;
    }
    return NAN;
}
/* What another training would have given: the spread of the paired difference over seeds, which the groups' interval leaves out. */
static const char *over_seeds(const lk_ladder *l, int a, int b, const char *key) {
    lk_arena *m = lk_sweep_arena(l->sweep);
    const lk_rung_score *s;
    const char *const *seeds;
    double d[LK_MAX_GROUPS];
    bool pooled = false;
    int n = 0, k = lk_rung_scores(&s), many = lk_sweep_values(l->sweep, "seed", &seeds);
    for (int i = 0; i < k; i++) if (!strcmp(s[i].key, key)) pooled = s[i].pooled;
    for (int i = 0; i < many && n < LK_MAX_GROUPS; i++) {
        double x = under_seed(l, &l->arm[a], key, pooled, seeds[i]) - under_seed(l, &l->arm[b], key, pooled, seeds[i]);
        if (x == x) d[n++] = x;
    }
    lk_interval t;
    if (n < 3) return lk_fmt(m, "– (n = %d)", n);
    lk_err e = lk_mean_t(d, n, 0.95, &t);
    if (e) { lk_err_free(e); return "–"; }
    return lk_fmt(m, "%.3f [%.3f, %.3f] (n = %d)", t.mean, t.lo, t.hi, n);
}

/* ---- the table ------------------------------------------------------------------------------------------------------ */
enum { MOST_COLUMNS = 16 };
/* What a row's adapter was trained for, where that is another number of steps. */
static const char *steps_label(lk_arena *m, const lk_ladder_arm *a) {
    const lk_schedule *s;
    if (!a->steps) return "–";
    if (a->control) return lk_fmt(m, "%d", a->steps);
    lk_err e = lk_schedule_find(a->schedule, &s);
    if (e) { lk_err_free(e); return lk_fmt(m, "%d", a->steps); }
    const lk_distil_stage *last = &s->row[s->n - 1].stage;
    if (!s->every || last->kind == LK_DISTIL_CONSISTENCY || last->to == a->steps) return lk_fmt(m, "%d", a->steps);
    return lk_fmt(m, "%d (trained for %d)", a->steps, last->to);
}
static const char *arm_label(lk_arena *m, const lk_ladder_arm *a) {
    if (!strcmp(a->schedule, "photos")) return !strcmp(a->stem, "photo") ? "photos" : "photos through the autoencoder";
    return a->control ? lk_fmt(m, "base with guidance") : a->schedule;
}
static lk_err table_row(const lk_ladder *l, int arm, lk_table *t) {
    lk_arena *m = lk_sweep_arena(l->sweep);
    const lk_rung_score *s;
    const char *cells[MOST_COLUMNS];
    lk_ladder_value v;
    int n = lk_rung_scores(&s), at = 2;
    cells[0] = arm_label(m, &l->arm[arm]);
    cells[1] = steps_label(m, &l->arm[arm]);
    for (int k = 0; k < n; k++) {
        LK_TRY(lk_ladder_value_of(l, arm, s[k].key, &v));
        cells[at++] = cell(m, &v, s[k].digits);
    }
    LK_TRY(lk_ladder_value_of(l, arm, "to_teacher", &v));
    cells[at++] = cell(m, &v, 3);
    LK_TRY(lk_ladder_value_of(l, arm, "ms", &v));
    cells[at++] = v.there ? lk_fmt(m, "%.0f", v.centre) : "–";
    lk_table_row(t, cells);
    return LK_OK;
}
static lk_err primary(const lk_ladder *l, const char *a, const char *b, int steps, const char **sentence) {
    lk_arena *m = lk_sweep_arena(l->sweep);
    const char *stem = lk_fmt(m, "s%d", steps);
    lk_ladder_value d;
    double lo, hi, p;
    LK_TRY(difference(l, lk_ladder_find(l, a, stem), lk_ladder_find(l, b, stem), "fd", &d));
    if (!d.there || d.n < 6 || !interval(&d, &lo, &hi, &p)) {
        *sentence = lk_fmt(m, "Primary contrast not tested: it needs %s and %s at %d steps and 6 groups; of %d groups this sweep has both.", a, b, steps, d.n);
        return LK_OK;
    }
    *sentence = lk_fmt(m, "Primary: FD (whole) of %s minus %s at %d steps: %.3f [%.3f, %.3f], n = %d groups, p = %.4f; over seeds %s: %s.", a, b, steps, d.centre, lo, hi, d.n, p,
                       over_seeds(l, lk_ladder_find(l, a, stem), lk_ladder_find(l, b, stem), "fd"), p >= 0.05 ? "no difference that this sweep can see" : d.centre < 0 ? lk_fmt(m, "%s is nearer to the photos", a) : lk_fmt(m, "%s is nearer to the photos", b));
    lk_run_inexact(lk_sweep_summary(l->sweep), "primary.difference", d.centre, 1e-9);
    lk_run_inexact(lk_sweep_summary(l->sweep), "primary.p", p, 1e-9);
    return LK_OK;
}
lk_err lk_ladder_table(const lk_ladder *l, const char *a, const char *b, int steps) {
    lk_arena *m = lk_sweep_arena(l->sweep);
    const lk_rung_score *s;
    const lk_schedule *rows;
    const char *heads[MOST_COLUMNS] = {"schedule", "steps"}, *sentence;
    int n = lk_rung_scores(&s), at = 2, n_rows = lk_schedules(&rows);
    for (int k = 0; k < n; k++) heads[at++] = s[k].head;
    heads[at++] = "to teacher";
    heads[at++] = "ms a picture";
    LK_TRY(primary(l, a, b, steps, &sentence));
    lk_table *t = lk_table_new("schedule", at, heads);
    lk_err e = LK_OK;
    for (int i = 0; i < l->n && !e; i++) e = table_row(l, i, t);
    for (int i = 0; i < n_rows && !e; i++) {
        bool there = false;
        for (int k = 0; k < l->n; k++) there |= !strcmp(l->arm[k].schedule, rows[i].name);
        const char *cells[MOST_COLUMNS];
        for (int k = 0; k < at; k++) cells[k] = "–";
        cells[0] = rows[i].name;
        cells[1] = "not run";
        if (!there) lk_table_row(t, cells);
    }
    lk_table_note(t, lk_fmt(m, "[95 %% interval] over %d prompt groups, one a base person; of distances by the delete-one-group jackknife. Seeds are averaged within a group.", l->groups));
    for (int k = 0; k < n; k++) lk_table_note(t, lk_fmt(m, "%s: %s.", s[k].head, s[k].about));
    lk_table_note(t, "to teacher: mean absolute pixel difference (0..1) to the teacher's picture of the same prompt and noise. ms a picture: one run's threads, other work beside it; inexact.");
    lk_table_note(t, "The row 'photos through the autoencoder' is compared with the photos it was made from. Every schedule had the same budget of network evaluations.");
    lk_table_note(t, sentence);
    if (!e) e = lk_sweep_table(l->sweep, "table", t);
    lk_table_free(t);
    return e;
}

/* ---- contrasts -------------------------------------------------------------------------------------------------------- */
static const struct { const char *claim, *a, *stem_a, *b, *stem_b, *key; } contrasts[] = {
    {"guidance in the first stage alone", "progressive_mse-guidance_each", "s4", "progressive_mse", "s4", "fd"}, {"", "progressive_mse-guidance_each", "s4", "progressive_mse", "s4", "clip_t"},
    {"", "progressive_mse-guidance_each", "s4", "progressive_mse", "s4", "id"}, {"", "progressive_mse-guidance_last", "s4", "progressive_mse", "s4", "fd"},
    {"skip-level teacher at 2 and 1", "progressive_mse-skip_teacher", "s2", "progressive_mse", "s2", "fd"}, {"", "progressive_mse-skip_teacher", "s1", "progressive_mse", "s1", "fd"},
    {"", "lightning-no_skip", "s2", "lightning-v", "s2", "fd"}, {"", "lightning-no_skip", "s1", "lightning-v", "s1", "fd"},
    {"8 and 4 steps against 32: patch", "progressive_mse", "s8", "teacher", "teacher", "fd_crop"}, {"", "progressive_mse", "s4", "teacher", "teacher", "fd_crop"},
    {"", "lightning", "s8", "teacher", "teacher", "fd_crop"}, {"", "lightning", "s4", "teacher", "teacher", "fd_crop"},
    {"", "lightning-mse_first", "s8", "teacher", "teacher", "fd_crop"}, {"", "lightning-mse_first", "s4", "teacher", "teacher", "fd_crop"},
    {"8 and 4 steps against 32: whole", "progressive_mse", "s8", "teacher", "teacher", "fd"}, {"", "progressive_mse", "s4", "teacher", "teacher", "fd"},
    {"", "lightning", "s8", "teacher", "teacher", "fd"}, {"", "lightning", "s4", "teacher", "teacher", "fd"},
    {"", "lightning-mse_first", "s8", "teacher", "teacher", "fd"}, {"", "lightning-mse_first", "s4", "teacher", "teacher", "fd"},
    {"MSE is blurred at few steps", "progressive_mse", "s4", "teacher", "teacher", "detail"}, {"", "progressive_mse", "s1", "teacher", "teacher", "detail"},
    {"", "lightning", "s4", "progressive_mse", "s4", "detail"}, {"", "lightning", "s1", "progressive_mse", "s1", "detail"},
    {"pure noise at the first timestep", "progressive_mse-no_pure_noise", "s4", "progressive_mse", "s4", "fd"}, {"", "progressive_mse-no_pure_noise", "s1", "progressive_mse", "s1", "fd"},
    {"", "progressive_mse-no_pure_noise", "s1", "progressive_mse", "s1", "id"}, {"", "lightning-no_pure_noise", "s4", "lightning-v", "s4", "fd"}, {"", "lightning-no_pure_noise", "s1", "lightning-v", "s1", "fd"},
    {"every weight after the merge", "lightning", "s4", "lightning-lora", "s4", "fd"}, {"", "lightning", "s1", "lightning-lora", "s1", "fd"},
    {"x0 at 1 step", "lightning-lora", "s1", "lightning-v", "s1", "fd"}, {"", "lightning-lora", "s1", "lightning-v", "s1", "detail"},
    {"both critics", "lightning-conditional", "s4", "lightning-v", "s4", "fd"}, {"", "lightning-unconditional", "s4", "lightning-v", "s4", "fd"},
    {"landings noised again", "lightning-no_renoise", "s4", "lightning-v", "s4", "fd"}, {"MSE first", "lightning-mse_first", "s4", "lightning-v", "s4", "fd"},
    {"options of the others", "lcm_lora-16", "s4", "lcm_lora", "s4", "fd"}, {"", "dmd-regression", "s4", "dmd", "s4", "fd"}, {"", "add-no_score", "s4", "add", "s4", "fd"},
    {"schedules at 4 steps", "direct", "s4", "progressive_mse", "s4", "fd"}, {"", "lcm_lora", "s4", "progressive_mse", "s4", "fd"}, {"", "dmd", "s4", "progressive_mse", "s4", "fd"}, {"", "add", "s4", "progressive_mse", "s4", "fd"},
    {"", "progressive_mse", "s4", "teacher", "s4", "fd"}, {"", "progressive_mse", "s4", "teacher", "teacher", "id"}, {"", "progressive_mse", "s4", "teacher", "teacher", "diversity"},
};
lk_err lk_ladder_contrasts(const lk_ladder *l) {
    enum { N = sizeof contrasts / sizeof *contrasts };
    lk_arena *m = lk_sweep_arena(l->sweep);
    const char *heads[] = {"claim", "contrast", "score", "groups", "difference", "over seeds", "p (t)", "p (Holm)"}, *cells[N][8], *claim = "";
    double p[N], adjusted[N];
    int kept = 0;
    for (int i = 0; i < N; i++) {
        lk_ladder_value d;
        double lo, hi;
        if (contrasts[i].claim[0]) claim = contrasts[i].claim;
        int a = lk_ladder_find(l, contrasts[i].a, contrasts[i].stem_a), b = lk_ladder_find(l, contrasts[i].b, contrasts[i].stem_b);
        LK_TRY(difference(l, a, b, contrasts[i].key, &d));
        if (!d.there || !interval(&d, &lo, &hi, &p[kept])) continue;
        cells[kept][0] = claim;
        cells[kept][1] = lk_fmt(m, "%s %s - %s %s", contrasts[i].a, contrasts[i].stem_a, contrasts[i].b, contrasts[i].stem_b);
        cells[kept][2] = contrasts[i].key;
        cells[kept][3] = lk_fmt(m, "%d", d.n);
        cells[kept][4] = lk_fmt(m, "%.3f [%.3f, %.3f]", d.centre, lo, hi);
        cells[kept][5] = over_seeds(l, a, b, contrasts[i].key);
        cells[kept][6] = lk_fmt(m, "%.4f", p[kept]);
        kept++;
    }
    if (!kept) return LK_OK;
    lk_holm(p, kept, adjusted);
    lk_table *t = lk_table_new("secondary", 8, heads);
    for (int i = 0; i < kept; i++) {
        cells[i][7] = lk_fmt(m, adjusted[i] < 0.05 ? "**%.4f**" : "%.4f", adjusted[i]);
        lk_table_row(t, cells[i]);
    }
    lk_table_note(t, "Secondary contrasts, paired over prompt groups (t; distances by jackknife pseudo-values), two-sided, Holm over this table: what other prompts would have given. s4: 4 steps; teacher: 32.");
    lk_table_note(t, "Over seeds: the same difference paired over trainings that share adapter start, batches and noise, 95 % t; from 3 seeds on.");
    lk_err e = lk_sweep_table(l->sweep, "secondary", t);
    lk_table_free(t);
    return e;
}

/* ---- transfer ----------------------------------------------------------------------------------------------------------- */
enum { MOST_PEOPLE = 16 };
static int people_values(const lk_ladder *l, const char *how, const char *key, double values[MOST_PEOPLE]) {
    lk_arena *m = lk_sweep_arena(l->sweep);
    const lk_ladder_arm transfer = {"transfer", true, "", 0};
    const char *prefix = lk_fmt(m, "transfer.%s.%s.of.", how, key);
    int n = 0;
    for (int run = 0; run < lk_sweep_count(l->sweep); run++) {
        const char *const *names;
        int k = run_is(l, run, "transfer", true) ? lk_run_names(lk_sweep_run(l->sweep, run), "final", &names) : 0;
        for (int i = 0; i < k && n < MOST_PEOPLE; i++) if (lk_starts(names[i], prefix)) values[n++] = mean_final(l, &transfer, names[i]);
        if (k) break;                                /* names from one run, means over all seeds */
    }
    return n;
}
static lk_err transfer_people_table(const lk_ladder *l) {
    static const char *const keys[3] = {"id", "detected", "clip_t"}, *const about[LK_TRANSFER_HOW] = {"person's adapter, guided, 32 steps", "person's adapter, guided, 4 steps",
                                                                                                      "person's and student's adapter, 4 steps", "student's adapter alone, 4 steps"};
    lk_arena *m = lk_sweep_arena(l->sweep);
    const char *heads[] = {"pictures from", "people", "id_judge", "detected", "CLIP-T", "id_judge minus 32 steps", "p (sign-flip)"};
    double many[MOST_PEOPLE];
    int people = people_values(l, "many", "id", many);
    if (!people) return LK_OK;
    lk_table *t = lk_table_new("transfer", 7, heads);
    lk_err e = LK_OK;
    for (int how = 0; how < LK_TRANSFER_HOW && !e; how++) {
        const char *cells[7] = {about[how], lk_fmt(m, "%d", people), NULL, NULL, NULL, "–", "–"};
        double v[MOST_PEOPLE], d[MOST_PEOPLE];
        for (int k = 0; k < 3; k++) {
            lk_ladder_value x = {.there = true, .n = people_values(l, lk_transfer_how[how], keys[k], v)};
            for (int i = 0; i < x.n; i++) { x.value[i] = v[i]; x.centre += v[i] / x.n; }
            cells[2 + k] = cell(m, &x, 2);
            for (int i = 0; i < x.n && k == 0; i++) d[i] = v[i] - many[i];
        }
        lk_interval i;
        lk_sign_flips f;
        if (how && people > 2) {
            e = lk_mean_t(d, people, 0.95, &i);
            if (!e) e = lk_sign_flip(d, people, &f);
            if (!e) { cells[5] = lk_fmt(m, "%.3f [%.3f, %.3f]", i.mean, i.lo, i.hi); cells[6] = lk_fmt(m, "%.4f", f.two_sided); }
        }
        lk_table_row(t, cells);
    }
    lk_table_note(t, "People of the split 'personal', a rank-4 adapter each, trained on 5 references; id_judge by dlib to unseen photos: 1 the person, 0 a stranger. The student never saw them.");
    if (!e) e = lk_sweep_table(l->sweep, "transfer", t);
    lk_table_free(t);
    return e;
}
static lk_err samplers_table(const lk_ladder *l) {
    static const struct { const char *schedule, *stem, *name; } how[] = {
        {"transfer", "ddim4", "progressive_mse: DDIM, eta 0 (trained for)"}, {"transfer", "euler4", "progressive_mse: Euler"}, {"transfer", "dpm4", "progressive_mse: DPM++ 2M"}, {"transfer", "lcm4", "progressive_mse: LCM (stochastic)"},
        {"lcm_lora", "s4", "lcm_lora: LCM (made for)"}, {"lcm_lora", "ddim4", "lcm_lora: DDIM"}, {"lcm_lora-16", "s4", "lcm_lora-16: LCM"}, {"lcm_lora-16", "ddim4", "lcm_lora-16: DDIM"},
        {"transfer", "ddim4_48", "progressive_mse: DDIM, 48x48"}, {"transfer", "base4_48", "base with guidance, 4 steps, 48x48"},
        {"transfer", "ddim4_96", "progressive_mse: DDIM, 96x96"}, {"transfer", "base4_96", "base with guidance, 4 steps, 96x96"}};
    lk_arena *m = lk_sweep_arena(l->sweep);
    const lk_rung_score *s;
    const char *heads[MOST_COLUMNS] = {"student: sampler, size"}, *cells[MOST_COLUMNS];
    int n = lk_rung_scores(&s), rows = 0;
    for (int k = 0; k < n; k++) heads[k + 1] = s[k].head;
    lk_table *t = lk_table_new("samplers", n + 1, heads);
    for (size_t i = 0; i < sizeof how / sizeof *how; i++) {
        const lk_ladder_arm a = {how[i].schedule, !strcmp(how[i].schedule, "transfer"), how[i].stem, 4};
        bool there = false;
        cells[0] = how[i].name;
        for (int k = 0; k < n; k++) {
            lk_ladder_value v = value_of(l, &a, s[k].key, s[k].pooled);
            there |= v.there;
            cells[k + 1] = cell(m, &v, s[k].digits);
        }
        if (there) { lk_table_row(t, cells); rows++; }
    }
    lk_table_note(t, "4 steps. Students by samplers and at sizes they were not trained for; all trailing but LCM, whose chain is its own; 64x64 where no size is given, other sizes brought to 64x64 by areas. Scores as in the result table.");
    lk_err e = rows ? lk_sweep_table(l->sweep, "samplers", t) : LK_OK;
    lk_table_free(t);
    return e;
}
lk_err lk_ladder_transfer_table(const lk_ladder *l) {
    LK_TRY(transfer_people_table(l));
    return samplers_table(l);
}
