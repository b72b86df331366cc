/* Arms of a personalisation sweep, their table and their pairwise tests. */
#include "experiments/common/summary.h"
#include "experiments/common/pooled.h"
#include "metrics/metrics.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

lk_err lk_arms_of(lk_sweep *s, const char *axis, lk_arms *a) {
    *a = (lk_arms){.sweep = s, .axis = axis};
    const char *const *values;
    int n = lk_sweep_values(s, axis, &values);
    for (int i = 0; i < n && a->n_arms < LK_MAX_ARMS; i++) {
        const char *label = strcmp(values[i], "0") || strcmp(axis, "rank") ? lk_fmt(lk_sweep_arena(s), "%s %s", axis, values[i]) : "base (rank 0)";
        a->arm[a->n_arms++] = (lk_arm){values[i], false, label};
    }
    a->n_grid = a->n_arms;
    for (int i = 0; i < lk_sweep_count(s) && a->n_arms < LK_MAX_ARMS; i++) {
        const char *control = lk_sweep_value(s, i, "control");
        if (control && strcmp(control, "none") && lk_arm_find(a, control) < 0) a->arm[a->n_arms++] = (lk_arm){control, true, control};
    }
    a->n_people = lk_sweep_values(s, "subject", &a->people);
    if (a->n_people > LK_MAX_PEOPLE) return lk_error(LK_EINPUT, "%d people in one sweep: at most %d", a->n_people, LK_MAX_PEOPLE);
    return LK_OK;
}
int lk_arm_find(const lk_arms *a, const char *value) {
    for (int i = 0; i < a->n_arms; i++) if (!strcmp(a->arm[i].value, value)) return i;
    return -1;
}
bool lk_arm_has(const lk_arms *a, int arm, const char *subject, int run) {
    const char *control = lk_sweep_value(a->sweep, run, "control"), *who = lk_sweep_value(a->sweep, run, "subject"), *value = lk_sweep_value(a->sweep, run, a->axis);
    bool grid = !control || !strcmp(control, "none");
    if (!who || strcmp(who, subject)) return false;
    return a->arm[arm].control ? !grid && !strcmp(control, a->arm[arm].value) : grid && value && !strcmp(value, a->arm[arm].value);
}
void lk_arm_values(const lk_arms *a, int arm, const char *key, double values[LK_MAX_PEOPLE]) {
    for (int p = 0; p < a->n_people; p++) {
        double sum = 0;
        int n = 0;
        for (int i = 0; i < lk_sweep_count(a->sweep); i++) {
            double v = lk_arm_has(a, arm, a->people[p], i) ? lk_sweep_final(a->sweep, i, key) : NAN;
            if (v == v) { sum += v; n++; }
        }
        values[p] = n ? sum / n : NAN;
    }
}
static int compact(double *v, int n) {            /* drops what is missing */
    int k = 0;
    for (int i = 0; i < n; i++) if (v[i] == v[i]) v[k++] = v[i];
    return k;
}

/* ---- the table --------------------------------------------------------------------------------------------- */
static const struct { const char *key, *head; int digits; } shown[] = {
    {"id_judge", "id_judge", 2}, {"id_aligned", "aligned", 2}, {"detected", "detected", 2}, {"witness", "witness", 3}, {"id_ref", "id_ref", 2}, {"copy_paste", "copy-paste", 2},
    {"clip_t", "CLIP-T", 3}, {"clip_i", "CLIP-I", 3}, {"recon_psnr", "recon dB", 2}, {"recon_ssim_wang04", "recon SSIM", 3}, {"pairwise_l1", "pairwise L1", 3}, {"feature_distance", "feature dist.", 3}};
enum { SHOWN = sizeof shown / sizeof *shown };
static const char *cell(lk_arena *m, double *v, int n, int digits) {
    n = compact(v, n);
    if (!n) return "–";
    lk_interval t;
    if (n < 2 || lk_mean_t(v, n, 0.95, &t)) return lk_fmt(m, "%.*f (n=%d)", digits, v[0], n);
    return lk_fmt(m, "%.*f [%.*f, %.*f]", digits, t.mean, digits, t.lo, digits, t.hi);
}
static const char *with_error(lk_arena *m, double value, double error, int digits) {
    return error == error ? lk_fmt(m, "%.*f ± %.*f", digits, value, digits, error) : lk_fmt(m, "%.*f", digits, value);
}
static bool untrained(const lk_arms *a, int arm) {
    double v[LK_MAX_PEOPLE];
    lk_arm_values(a, arm, "untrained", v);
    int n = compact(v, a->n_people);
    for (int i = 0; i < n; i++) if (v[i] > 0) return true;
    return false;
}
lk_err lk_summary_table(lk_arms *a, const char *dataset, const char *const *notes, int n_notes) {
    lk_arena *m = lk_sweep_arena(a->sweep);
    const char *heads[SHOWN + 8] = {"arm", "people"};
    for (int k = 0; k < SHOWN; k++) heads[k + 2] = shown[k].head;
    heads[SHOWN + 2] = "FD(dlib)"; heads[SHOWN + 3] = "KID(dlib)"; heads[SHOWN + 4] = "rank-1 judge"; heads[SHOWN + 5] = "rank-1 witness"; heads[SHOWN + 6] = "attributes"; heads[SHOWN + 7] = "same-seed";
    lk_table *t = lk_table_new(a->axis, SHOWN + 8, heads);
    lk_pooled *pooled = lk_alloc(m, sizeof *pooled * LK_MAX_ARMS);
    bool pool = lk_sweep_profile(a->sweep) != LK_TINY;         /* a gallery of 40 people is too much for a test's few seconds */
    lk_err e = LK_OK;
    memset(pooled, 0, sizeof *pooled * LK_MAX_ARMS);
    if (pool) e = lk_pooled_of(a, dataset, pooled);
    if (pool && !e) a->pooled = pooled;
    for (int i = 0; i < a->n_arms && !e; i++) {
        const char *cells[SHOWN + 8];
        double v[LK_MAX_PEOPLE];
        lk_arm_values(a, i, "id_judge", v);
        int n = compact(v, a->n_people);
        cells[0] = untrained(a, i) ? lk_fmt(m, "%s (untrained)", a->arm[i].label) : a->arm[i].label;
        cells[1] = lk_fmt(m, "%d", n);
        for (int k = 0; k < SHOWN; k++) { lk_arm_values(a, i, shown[k].key, v); cells[k + 2] = cell(m, v, a->n_people, shown[k].digits); }
        const lk_pooled *p = &pooled[i];
        cells[SHOWN + 2] = p->n ? lk_fmt(m, "%s%s", with_error(m, p->frechet, p->frechet_se, 3), p->few ? " (few)" : "") : "–";
        cells[SHOWN + 3] = p->n ? with_error(m, p->kid, p->kid_se, 4) : "–";
        cells[SHOWN + 4] = p->n ? lk_fmt(m, "%.2f", p->rank1_judge) : "–";
        cells[SHOWN + 5] = p->n ? lk_fmt(m, "%.2f", p->rank1_witness) : "–";
        cells[SHOWN + 6] = p->stated ? lk_fmt(m, "%.2f (n=%lld)", (double)p->confirmed / (double)p->stated, (long long)p->stated) : "–";
        cells[SHOWN + 7] = p->n && p->same_seed == p->same_seed ? lk_fmt(m, "%.2f", p->same_seed) : "–";
        lk_table_row(t, cells);
        if (!pool) continue;
        lk_run *summary = lk_sweep_summary(a->sweep);
        lk_run_final(summary, lk_fmt(m, "%s.frechet_dlib", a->arm[i].value), p->frechet);
        lk_run_final(summary, lk_fmt(m, "%s.kid_dlib", a->arm[i].value), p->kid);
        if (p->same_seed == p->same_seed) lk_run_final(summary, lk_fmt(m, "%s.same_seed_ratio", a->arm[i].value), p->same_seed);
        lk_run_final(summary, lk_fmt(m, "%s.rank1_judge", a->arm[i].value), p->rank1_judge);
        if (p->stated) lk_run_final(summary, lk_fmt(m, "%s.attributes", a->arm[i].value), (double)p->confirmed / (double)p->stated);
        lk_run_final(summary, lk_fmt(m, "%s.rank1_witness", a->arm[i].value), p->rank1_witness);
    }
    lk_table_note(t, "Mean over people [95 % t interval]; seeds averaged within a person. id_judge: 1 = another photo of the person, 0 = a stranger (dlib).");
    if (!pool) lk_table_note(t, "FD, KID and rank-1 are not computed in the profile tiny.");
    lk_table_note(t, "FD, KID: Frechet distance and kernel distance in dlib's 128-d feature space against the test photos, pooled over people (not FID);");
    lk_table_note(t, lk_fmt(m, "± standard error, from 40 pictures on; n generated %lld, n real %lld. (few): fewer samples than dimensions, the value is strongly biased.", (long long)pooled[0].n, (long long)pooled[0].n_real));
    lk_table_note(t, "attributes: share of the glasses, expressions and poses stated by the captions that an independent classifier sees; its own error is in the row 'real'.");
    lk_table_note(t, "same-seed: dlib distance between two people's pictures from the same noise and prompt over that from other noise and prompts; near 0: the person is ignored.");
    lk_table_note(t, "rank-1: nearest photo among 40 people is the right person's; chance 0.03.");
    for (int i = 0; i < n_notes; i++) lk_table_note(t, notes[i]);
    if (!e) e = lk_sweep_table(a->sweep, "table", t);
    lk_table_free(t);
    return e;
}

/* ---- pairs of arms ---------------------------------------------------------------------------------------------- */
lk_err lk_summary_pairs(const lk_arms *a, const int (*pairs)[2], int n) {
    lk_arena *m = lk_sweep_arena(a->sweep);
    const char *heads[] = {"contrast", "people", "difference of id_judge", "d_z", "p (sign-flip)", "p (Holm)"};
    lk_table *t = lk_table_new("secondary", 6, heads);
    const char *(*cells)[6] = lk_alloc(m, sizeof *cells * (size_t)n);
    double *p = lk_alloc(m, sizeof *p * (size_t)n), *adjusted = lk_alloc(m, sizeof *p * (size_t)n);
    lk_err e = LK_OK;
    int kept = 0;
    for (int i = 0; i < n && !e; i++) {
        double x[LK_MAX_PEOPLE], y[LK_MAX_PEOPLE], d[LK_MAX_PEOPLE];
        lk_arm_values(a, pairs[i][0], "id_judge", x);
        lk_arm_values(a, pairs[i][1], "id_judge", y);
        int k = 0;
        for (int q = 0; q < a->n_people; q++) if (x[q] == x[q] && y[q] == y[q]) d[k++] = x[q] - y[q];
        lk_sign_flips f;
        lk_interval interval;
        if (k < 2) continue;
        e = lk_sign_flip(d, k, &f);
        if (!e) e = lk_mean_t(d, k, 0.95, &interval);
        if (e) break;
        p[kept] = f.two_sided;
        cells[kept][0] = lk_fmt(m, "%s - %s", a->arm[pairs[i][0]].label, a->arm[pairs[i][1]].label);
        cells[kept][1] = lk_fmt(m, "%d", k);
        cells[kept][2] = lk_fmt(m, "%.3f [%.3f, %.3f]", interval.mean, interval.lo, interval.hi);
        cells[kept][3] = lk_fmt(m, "%.2f", interval.mean / interval.sd);
        cells[kept][4] = k < 6 ? lk_fmt(m, "%.4f (n < 6: cannot reach .05)", f.two_sided) : lk_fmt(m, "%.4f", f.two_sided);
        kept++;
    }
    lk_holm(p, kept, adjusted);
    for (int i = 0; i < kept && !e; i++) {
        cells[i][5] = lk_fmt(m, adjusted[i] < 0.05 ? "**%.4f**" : "%.4f", adjusted[i]);
        lk_table_row(t, cells[i]);
    }
    lk_table_note(t, "Secondary contrasts: paired over people, exact sign-flip, two-sided, Holm over this table.");
    if (!e && kept) e = lk_sweep_table(a->sweep, "secondary", t);
    lk_table_free(t);
    return e;
}
