/* Contrasts, costs and figures of the identity loss. */
#include "experiments/common/identity_summary.h"
#include "experiments/common/identity_trial.h"
#include "experiments/common/pooled.h"
#include "metrics/metrics.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Paired differences over people of one key: how many, their mean and interval, exact p. */
typedef struct { int n; lk_interval t; double p; bool known; } contrast;
static contrast contrast_of(const lk_arms *a, int to, int from, const char *key) {
    double x[LK_MAX_PEOPLE], y[LK_MAX_PEOPLE], d[LK_MAX_PEOPLE];
    contrast c = {.p = NAN};
    lk_arm_values(a, to, key, x);
    lk_arm_values(a, from, key, y);
    for (int p = 0; p < a->n_people; p++) if (x[p] == x[p] && y[p] == y[p]) d[c.n++] = x[p] - y[p];
    if (c.n < 2) return c;
    lk_sign_flips f;
    lk_err e = lk_mean_t(d, c.n, 0.95, &c.t);
    if (!e) e = lk_sign_flip(d, c.n, &f);
    c.known = !e;
    if (!e) c.p = f.two_sided;
    lk_err_free(e);
    return c;
}
static const char *shown(lk_arena *m, contrast c, int digits) {
    return c.known ? lk_fmt(m, "%+.*f [%.*f, %.*f]", digits, c.t.mean, digits, c.t.lo, digits, c.t.hi) : "–";
}
/* Does the witness share a gain? Its mean must rise, and where the judge names the right person in most pictures, so must the witness. */
static bool shared(const lk_arms *a, int to, contrast witness) {
    const lk_pooled *p = a->pooled ? &a->pooled[to] : NULL;
    if (p && p->n && p->rank1_judge > 0.5 && p->rank1_witness <= 0.5) return false;
    return witness.known && witness.t.lo > 0;
}
lk_err lk_identity_primary(const lk_arms *a, const char *from, const char *to, char **sentence) {
    lk_arena *m = lk_sweep_arena(a->sweep);
    int i = lk_arm_find(a, to), j = lk_arm_find(a, from);
    contrast c = {0};
    if (i >= 0 && j >= 0) c = contrast_of(a, i, j, "id_judge");
    if (c.n < 6) {
        *sentence = lk_fmt(m, "Primary contrast (%s - %s) not tested: it needs both arms and 6 people, this sweep has %d.", to, from, c.n);
        return LK_OK;
    }
    contrast w = contrast_of(a, i, j, "witness");
    *sentence = lk_fmt(m, "Primary: id_judge of %s minus %s: %+.4f [%.4f, %.4f], n = %d people, exact sign-flip p = %.4f; witness %+.4f [%.4f, %.4f]: the identity loss %s.", to, from, c.t.mean, c.t.lo,
                       c.t.hi, c.n, c.p, w.t.mean, w.t.lo, w.t.hi, c.p >= 0.05 ? "made no difference that this sweep can see" : c.t.mean < 0 ? "hurt" : shared(a, i, w) ? "helped" : "helped the judge alone: suspect");
    lk_run_inexact(lk_sweep_summary(a->sweep), "primary.difference", c.t.mean, 1e-9);
    lk_run_inexact(lk_sweep_summary(a->sweep), "primary.p", c.p, 0);
    return LK_OK;
}

/* ---- gains ---------------------------------------------------------------------------------------------------------- */
enum { MAX_PAIRS = 96 };
static void pair(const lk_arms *a, const char *to, const char *from, int (*pairs)[2], int *n) {
    int i = lk_arm_find(a, to), j = lk_arm_find(a, from);
    if (i >= 0 && j >= 0 && i != j && *n < MAX_PAIRS) { pairs[*n][0] = i; pairs[(*n)++][1] = j; }
}
static int pairs_of(const lk_arms *a, int (*pairs)[2]) {
    lk_arena *m = lk_sweep_arena(a->sweep);
    int n = 0;
    for (int i = 0; i < a->n_grid; i++) pair(a, a->arm[i].value, "none", pairs, &n);
    for (int i = 0; i < a->n_grid; i++) {
        lk_id_arm arm;
        lk_err e = lk_id_arm_parse(a->arm[i].value, &arm);
        if (!e && arm.kind == LK_KIND_ID) pair(a, a->arm[i].value, "base", pairs, &n);
        if (!e && arm.kind != LK_KIND_LORA && !lk_id_arm_plain(&arm)) pair(a, a->arm[i].value, lk_fmt(m, "%s:none", lk_adapter_kind_word(arm.kind)), pairs, &n);
        if (e || arm.kind != LK_KIND_LORA || lk_id_arm_terms(&arm)) { lk_err_free(e); continue; }
        if (!e && arm.aligned) pair(a, a->arm[i].value, lk_fmt(m, "acc%g", arm.weight), pairs, &n);
        if (!e && !arm.none && arm.form == LK_ID_NAIVE) pair(a, lk_fmt(m, "acc%g", arm.weight), a->arm[i].value, pairs, &n);
        lk_err_free(e);
    }
    pair(a, "pixels", "impostor", pairs, &n);
    return n;
}
lk_err lk_identity_gains(const lk_arms *a, const char *note) {
    lk_arena *m = lk_sweep_arena(a->sweep);
    int pairs[MAX_PAIRS][2], n = pairs_of(a, pairs), kept = 0;
    const char *heads[] = {"contrast", "people", "id_judge", "p", "p (Holm)", "witness", "CLIP-T", "feature dist.", "background", "copy-paste", "rank-1", "verdict"};
    lk_table *t = lk_table_new("gains", 12, heads);
    const char *cells[MAX_PAIRS][12];
    double p[MAX_PAIRS], adjusted[MAX_PAIRS];
    for (int i = 0; i < n; i++) {
        contrast c = contrast_of(a, pairs[i][0], pairs[i][1], "id_judge"), w = contrast_of(a, pairs[i][0], pairs[i][1], "witness");
        if (!c.known) continue;
        p[kept] = c.p;
        const char **row = cells[kept++];
        row[0] = lk_fmt(m, "%s - %s", a->arm[pairs[i][0]].value, a->arm[pairs[i][1]].value);
        row[1] = lk_fmt(m, "%d", c.n);
        row[2] = shown(m, c, 3);
        row[3] = lk_fmt(m, c.n < 6 ? "%.4f (n < 6)" : "%.4f", c.p);
        row[5] = shown(m, w, 3);
        row[6] = shown(m, contrast_of(a, pairs[i][0], pairs[i][1], "clip_t"), 3);
        row[7] = shown(m, contrast_of(a, pairs[i][0], pairs[i][1], "feature_distance"), 3);
        row[8] = shown(m, contrast_of(a, pairs[i][0], pairs[i][1], "background"), 4);
        row[9] = shown(m, contrast_of(a, pairs[i][0], pairs[i][1], "copy_paste"), 3);
        const lk_pooled *pooled = a->pooled ? &a->pooled[pairs[i][0]] : NULL;
        row[10] = pooled && pooled->n ? lk_fmt(m, "%.2f / %.2f", pooled->rank1_judge, pooled->rank1_witness) : "–";
        row[11] = c.t.lo > 0 && !shared(a, pairs[i][0], w) ? "suspect: the witness does not share it" : c.t.lo > 0 ? "gain, witness agrees" : c.t.hi < 0 ? "loss" : "no difference seen";
    }
    lk_holm(p, kept, adjusted);
    for (int i = 0; i < kept; i++) {
        cells[i][4] = lk_fmt(m, adjusted[i] < 0.05 ? "**%.4f**" : "%.4f", adjusted[i]);
        lk_table_row(t, cells[i]);
    }
    lk_table_note(t, "Differences paired over people [95 % t interval], exact sign-flip p of id_judge, Holm over this table. The loss is mobilefacenet's; judge dlib and witness mobileface never served as one.");
    lk_table_note(t, "verdict: gain where the judge's interval is above 0; suspect where the witness's is not, or where the judge names the right person among 40 in most pictures and the witness does not (rank-1, judge / witness).");
    lk_table_note(t, "background: mean absolute difference to the base's picture from the same noise, outside the face.");
    lk_table_note(t, note);
    lk_err e = kept ? lk_sweep_table(a->sweep, "gains", t) : LK_OK;
    lk_table_free(t);
    return e;
}

/* ---- cost against K -------------------------------------------------------------------------------------------------- */
/* Means over the runs of acc1 (K = 1) and acc1kK. False: no run. */
static bool cost_at(const lk_arms *a, int k, double *megabytes, double *seconds) {
    double mb[LK_MAX_PEOPLE], s[LK_MAX_PEOPLE];
    int arm = lk_arm_find(a, k == 1 ? "acc1" : lk_fmt(lk_sweep_arena(a->sweep), "acc1k%d", k)), n = 0;
    if (arm < 0) return false;
    lk_arm_values(a, arm, "planned_mb", mb);
    lk_arm_values(a, arm, "step_s", s);
    *megabytes = *seconds = 0;
    for (int p = 0; p < a->n_people; p++) if (mb[p] == mb[p] && s[p] == s[p]) { *megabytes += mb[p]; *seconds += s[p]; n++; }
    if (n) { *megabytes /= n; *seconds /= n; }
    return n > 0;
}
lk_err lk_identity_cost(const lk_arms *a, char **sentence) {
    lk_arena *m = lk_sweep_arena(a->sweep);
    double mb[5], s[5], first_mb = 0, first_s = 0;
    *sentence = lk_fmt(m, "Cost against K (planned memory, time of a step): ");
    int found = 0;
    for (int k = 1; k <= 4; k++) {
        if (!cost_at(a, k, &mb[k], &s[k])) continue;
        if (k == 1) { first_mb = mb[1]; first_s = s[1]; }
        if (!first_mb) continue;
        *sentence = lk_fmt(m, "%s%sK=%d %.1f MB (x%.2f), %.3f s (x%.2f)", *sentence, found++ ? "; " : "", k, mb[k], mb[k] / first_mb, s[k], s[k] / first_s);
    }
    if (found < 2) *sentence = lk_fmt(m, "Cost against K: not in this sweep (set=\"id=none,acc1,acc1k2,acc1k3,acc1k4\").");
    return LK_OK;
}

/* ---- adapter kinds, canvases --------------------------------------------------------------------------------------------- */
typedef struct { const char *key, *head; int digits; } column;
static const char *cell(const lk_arms *a, int arm, column c) {
    double v[LK_MAX_PEOPLE];
    int n = 0;
    lk_arena *m = lk_sweep_arena(a->sweep);
    lk_arm_values(a, arm, c.key, v);
    for (int p = 0; p < a->n_people; p++) if (v[p] == v[p]) v[n++] = v[p];
    if (!n) return "–";
    lk_interval t = {.mean = v[0], .lo = v[0], .hi = v[0]};
    if (n > 1) lk_err_free(lk_mean_t(v, n, 0.95, &t));
    if (t.lo == t.hi) return lk_fmt(m, "%.*f", c.digits, t.mean);
    return lk_fmt(m, "%.*f [%.*f, %.*f]", c.digits, t.mean, c.digits, t.lo, c.digits, t.hi);
}
static lk_err table_of(const lk_arms *a, const char *stem, const int *arms, int n, const column *columns, int k, const char *note) {
    const char *heads[16] = {"arm"}, *cells[16];
    if (!n) return LK_OK;
    for (int j = 0; j < k; j++) heads[j + 1] = columns[j].head;
    lk_table *t = lk_table_new(stem, k + 1, heads);
    for (int i = 0; i < n; i++) {
        cells[0] = a->arm[arms[i]].value;
        for (int j = 0; j < k; j++) cells[j + 1] = cell(a, arms[i], columns[j]);
        lk_table_row(t, cells);
    }
    lk_table_note(t, "Mean over people [95 % t interval].");
    lk_table_note(t, note);
    lk_err e = lk_sweep_table(a->sweep, stem, t);
    lk_table_free(t);
    return e;
}
lk_err lk_identity_kinds(const lk_arms *a) {
    static const column columns[] = {{"trained_values", "trained values", 0}, {"adapter_bytes", "file, bytes", 0}, {"train_s", "training, s", 1}, {"planned_mb", "step, MB", 1}, {"id_judge", "id_judge", 2},
                                     {"witness", "witness", 3}, {"clip_t", "CLIP-T", 3}, {"feature_distance", "feature dist.", 3}, {"background", "background", 4}, {"update_ratio", "update / weights", 3}};
    int arms[LK_MAX_ARMS], n = 0, others = 0;
    for (int i = 0; i < a->n_grid; i++) {
        lk_id_arm arm;
        lk_err e = lk_id_arm_parse(a->arm[i].value, &arm);
        if (!e && lk_id_arm_plain(&arm)) { arms[n++] = i; others += arm.kind != LK_KIND_LORA; }
        lk_err_free(e);
    }
    return table_of(a, "kinds", arms, others ? n : 0, columns, sizeof columns / sizeof *columns,
                    "By the diffusion loss alone. Seconds are this machine's as busy as it was. The ID adapter is trained once, on other people, before the sweep (models/id_adapter/README.md); its file is F16, others F32.");
}
lk_err lk_identity_canvas_table(const lk_arms *a) {
    static const column columns[] = {{"faces_edited", "faces, edited", 2}, {"duplicates_edited", "more than 2", 2}, {"lost_edited", "fewer than 2", 2}, {"leak", "stranger's half, id_judge", 2},
                                     {"faces_drawn", "faces, drawn", 2}, {"duplicates_drawn", "more than 1", 2}};
    int arms[LK_MAX_ARMS], n = 0;
    for (int i = 0; i < a->n_arms; i++) if (strcmp(cell(a, i, columns[0]), "–")) arms[n++] = i;
    return table_of(a, "canvases", arms, n, columns, sizeof columns / sizeof *columns,
                    "Wide canvases, faces counted by the detector. Edited: a photo of the person beside a stranger's, half noised, denoised under the person's prompt (row real: as composed). Drawn: the prompt, which names one person, from noise.");
}

/* ---- figures ---------------------------------------------------------------------------------------------------------- */
static bool mean_of(const lk_arms *a, int arm, const char *key, double *y, double *lo, double *hi) {
    double v[LK_MAX_PEOPLE];
    int n = 0;
    lk_arm_values(a, arm, key, v);
    for (int p = 0; p < a->n_people; p++) if (v[p] == v[p]) v[n++] = v[p];
    if (!n) return false;
    lk_interval t = {.mean = v[0], .lo = v[0], .hi = v[0]};
    if (n > 1) lk_err_free(lk_mean_t(v, n, 0.95, &t));
    *y = t.mean; *lo = t.lo; *hi = t.hi;
    return true;
}
enum { FORMS = 3 };
static const char *const form_names[FORMS] = {"accurate", "accurate, aligned", "naive"};
static int form_of(const char *word, double *weight) {        /* -1: no line's */
    lk_id_arm arm;
    lk_err e = lk_id_arm_parse(word, &arm);
    bool bad = e != NULL;
    lk_err_free(e);
    if (bad || arm.kind != LK_KIND_LORA || lk_id_arm_terms(&arm) || (!arm.none && arm.through != 1)) return -1;
    *weight = arm.none ? 0 : arm.weight;
    return arm.none ? FORMS : arm.form == LK_ID_NAIVE ? 2 : arm.aligned ? 1 : 0;
}
static lk_err over_weight(const lk_arms *a, const char *key, const char *stem, const char *title, const char *y_label, double zero) {
    static double x[FORMS][LK_MAX_ARMS], y[FORMS][LK_MAX_ARMS], lo[FORMS][LK_MAX_ARMS], hi[FORMS][LK_MAX_ARMS];
    lk_series s[FORMS];
    int used = 0;
    for (int f = 0; f < FORMS; f++) {
        int n = 0, own = 0;
        for (int i = 0; i < a->n_grid; i++) {
            double w;
            int form = form_of(a->arm[i].value, &w);
            if ((form != f && form != FORMS) || !mean_of(a, i, key, &y[f][n], &lo[f][n], &hi[f][n])) continue;
            x[f][n++] = w + 0.01 * f;                            /* so that intervals stand side by side */
            own += form == f;
        }
        for (int i = 1; i < n; i++) for (int j = i; j > 0 && x[f][j] < x[f][j - 1]; j--) {
            double *v[4] = {x[f], y[f], lo[f], hi[f]};
            for (int k = 0; k < 4; k++) { double kept = v[k][j]; v[k][j] = v[k][j - 1]; v[k][j - 1] = kept; }
        }
        if (own) s[used++] = (lk_series){form_names[f], n, x[f], y[f], lo[f], hi[f], 0, NULL, NULL, true};
    }
    if (!used) return LK_OK;
    return lk_sweep_figure(a->sweep, &(lk_figure){stem, title, "weight of the identity loss", y_label, false, NULL, used, s, zero});
}
static lk_err pareto(const lk_arms *a) {
    lk_arena *m = lk_sweep_arena(a->sweep);
    lk_series *s = lk_alloc(m, sizeof *s * LK_MAX_ARMS);
    int n = 0;
    for (int i = 0; i < a->n_grid; i++) {
        double *v = lk_alloc(m, sizeof(double) * 6);
        if (!mean_of(a, i, "clip_t", v, v + 4, v + 5) || !mean_of(a, i, "id_judge", v + 1, v + 2, v + 3)) continue;
        s[n++] = (lk_series){a->arm[i].value, 1, v, v + 1, v + 2, v + 3, 0, NULL, NULL, false};
    }
    return n ? lk_sweep_figure(a->sweep, &(lk_figure){"pareto", "Likeness against prompt following", "CLIP-T (prompt following)", "id_judge [95 %]", false, NULL, n, s, NAN}) : LK_OK;
}
static lk_err cost(const lk_arms *a) {
    static const double published[2][4] = {{41, 49, 56, 63}, {30.70, 39.01, 47.30, 55.62}};
    static double k[4][4], v[4][4];
    int n = 0;
    for (int i = 1; i <= 4; i++) {
        double mb, s;
        if (!cost_at(a, i, &mb, &s)) continue;
        k[0][n] = i; v[0][n] = mb;
        k[1][n] = i; v[1][n++] = s;
    }
    if (n < 2 || k[0][0] != 1) return LK_OK;
    for (int j = 0; j < 2; j++) for (int i = n - 1; i >= 0; i--) v[j][i] /= v[j][0];
    for (int j = 0; j < 2; j++) for (int i = 0; i < 4; i++) { k[j + 2][i] = i + 1; v[j + 2][i] = published[j][i] / published[j][0]; }
    lk_series s[4] = {{"memory here", n, k[0], v[0], NULL, NULL, 0, NULL, NULL, true}, {"time here", n, k[1], v[1], NULL, NULL, 0, NULL, NULL, true},
                      {"SDXL, 41 to 63 GB", 4, k[2], v[2], NULL, NULL, 0, NULL, NULL, true}, {"SDXL, 30.70 to 55.62 GB", 4, k[3], v[3], NULL, NULL, 0, NULL, NULL, true}};
    return lk_sweep_figure(a->sweep, &(lk_figure){"cost", "Back through the last K steps", "K", "ratio to K = 1", false, "1", 4, s, 1});
}
lk_err lk_identity_figures(const lk_arms *a) {
    LK_TRY(over_weight(a, "id_judge", "id_judge", "Likeness to unseen photos of the person", "id_judge (1 same person, 0 stranger)", 0));
    LK_TRY(over_weight(a, "witness", "witness", "Likeness by the witness", "cosine by mobileface", NAN));
    LK_TRY(over_weight(a, "clip_t", "clip_t", "Prompt following", "CLIP-T", NAN));
    LK_TRY(over_weight(a, "feature_distance", "diversity", "Diversity of the pictures of one person", "mean pairwise dlib distance", NAN));
    LK_TRY(pareto(a));
    return cost(a);
}
