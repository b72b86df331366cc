/* Figures and the sample sheet of a personalisation sweep. */
#include "experiments/common/pooled.h"
#include "metrics/metrics.h"
#include "models/face_set.h"
#include "models/sheet.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One key over the grid arms: mean, interval, and every person as a point. Rank 0 is drawn at .5 on a log axis. */
typedef struct { double x[LK_MAX_ARMS], y[LK_MAX_ARMS], lo[LK_MAX_ARMS], hi[LK_MAX_ARMS]; int n; double *raw_x, *raw_y; int n_raw; } curve;
static void curve_of(const lk_arms *a, const char *key, bool log2_x, curve *c) {
    lk_arena *m = lk_sweep_arena(a->sweep);
    *c = (curve){.raw_x = lk_alloc(m, sizeof(double) * LK_MAX_ARMS * LK_MAX_PEOPLE), .raw_y = lk_alloc(m, sizeof(double) * LK_MAX_ARMS * LK_MAX_PEOPLE)};
    for (int i = 0; i < a->n_grid; i++) {
        double v[LK_MAX_PEOPLE], kept[LK_MAX_PEOPLE], x = atof(a->arm[i].value);
        int n = 0;
        if (log2_x && x == 0) x = 0.5;
        lk_arm_values(a, i, key, v);
        for (int p = 0; p < a->n_people; p++)
            if (v[p] == v[p]) { kept[n++] = v[p]; c->raw_x[c->n_raw] = x * (log2_x ? 1 + 0.01 * (p - a->n_people / 2.0) : 1); c->raw_y[c->n_raw++] = v[p]; }
        if (!n) continue;
        lk_interval t = {.mean = kept[0], .lo = kept[0], .hi = kept[0]};
        if (n > 1) lk_err_free(lk_mean_t(kept, n, 0.95, &t));
        c->x[c->n] = x; c->y[c->n] = t.mean; c->lo[c->n] = t.lo; c->hi[c->n++] = t.hi;
    }
}
static lk_err one_figure(const lk_arms *a, const char *key, const char *stem, const char *title, const char *x_label, const char *y_label, bool log2_x, double zero) {
    curve c;
    curve_of(a, key, log2_x, &c);
    lk_arena *m = lk_sweep_arena(a->sweep);
    char *ticks = lk_fmt(m, "(");
    for (int i = 0; i < a->n_grid; i++) {
        double x = atof(a->arm[i].value);
        bool base = log2_x && x == 0;
        ticks = lk_fmt(m, "%s%s\"%s\" %g", ticks, i ? ", " : "", base ? "base" : a->arm[i].value, base ? 0.5 : x);
    }
    ticks = lk_fmt(m, "%s)", ticks);
    lk_series s = {NULL, c.n, c.x, c.y, c.lo, c.hi, c.n_raw, c.raw_x, c.raw_y, true};
    lk_figure f = {stem, title, x_label, y_label, log2_x, ticks, 1, &s, zero};
    return lk_sweep_figure(a->sweep, &f);
}
static lk_err scatter(const lk_arms *a) {            /* judge against witness: a gain the witness does not share is suspect */
    lk_arena *m = lk_sweep_arena(a->sweep);
    lk_series *s = lk_alloc(m, sizeof *s * LK_MAX_ARMS);
    for (int i = 0; i < a->n_arms; i++) {
        double *x = lk_alloc(m, sizeof(double) * LK_MAX_PEOPLE), *y = lk_alloc(m, sizeof(double) * LK_MAX_PEOPLE), *mean = lk_alloc(m, sizeof(double) * 2);
        lk_arm_values(a, i, "witness", x);
        lk_arm_values(a, i, "id_judge", y);
        int n = 0;
        for (int p = 0; p < a->n_people; p++) if (x[p] == x[p] && y[p] == y[p]) { x[n] = x[p]; y[n++] = y[p]; }
        for (int p = 0; p < n; p++) { mean[0] += x[p] / n; mean[1] += y[p] / n; }
        s[i] = (lk_series){a->arm[i].label, n ? 1 : 0, mean, mean + 1, NULL, NULL, n, x, y, false};
    }
    lk_figure f = {"judge_witness", "Judge and witness", "witness: cosine by mobileface", "id_judge by dlib", false, NULL, a->n_arms, s, 0};
    return lk_sweep_figure(a->sweep, &f);
}
lk_err lk_summary_figures(const lk_arms *a, const char *x_label, bool log2_x) {
    LK_TRY(one_figure(a, "id_judge", "id_judge", "Likeness to unseen photos of the person", x_label, "id_judge (1 same person, 0 stranger)", log2_x, 0));
    LK_TRY(one_figure(a, "witness", "witness", "Likeness by the witness", x_label, "cosine by mobileface", log2_x, NAN));
    LK_TRY(one_figure(a, "clip_t", "clip_t", "Prompt following", x_label, "CLIP-T", log2_x, NAN));
    LK_TRY(one_figure(a, "feature_distance", "diversity", "Diversity of the pictures of one person", x_label, "mean pairwise dlib distance", log2_x, NAN));
    LK_TRY(one_figure(a, "recon_psnr", "reconstruction", "Half-way reconstruction of unseen photos", x_label, "PSNR, dB", log2_x, NAN));
    return scatter(a);
}

/* ---- sample sheet: first row the real person, then a row an arm; a column a person ------------------------------- */
lk_err lk_summary_sheet(const lk_arms *a, const char *dataset) {
    int rows = a->n_grid + 1, columns = a->n_people;
    lk_arena *m = lk_sweep_arena(a->sweep);
    lk_image *cells = lk_alloc(m, sizeof *cells * (size_t)(rows * columns));
    const char **row_labels = lk_alloc(m, sizeof(char *) * (size_t)rows);
    lk_dataset *d = NULL;
    lk_faces *f = NULL;
    lk_err e = lk_dataset_load(dataset, &d);
    if (!e) e = lk_faces_new("models/faces", lk_sweep_pool(a->sweep), &f);
    row_labels[0] = "photo";
    for (int p = 0; p < columns && !e; p++) {
        int k;
        const int *photos = lk_dataset_photos(d, a->people[p], "test", &k);
        lk_face_set one;
        e = lk_face_set_new(f, d, photos, 1, &one);
        if (e) break;
        cells[p] = lk_image_from_frame(one.frame, LK_FRAME, LK_FRAME);
        lk_face_set_free(&one);
    }
    for (int i = 0; i < a->n_grid && !e; i++) {
        row_labels[i + 1] = a->arm[i].label;
        for (int p = 0; p < columns && !e; p++) {
            int run = lk_sweep_find(a->sweep, "%s=%s subject=%s", a->axis, a->arm[i].value, a->people[p]), n;
            float *frames;
            if (run < 0) continue;
            e = lk_strip_read(lk_sweep_run_path(a->sweep, run, "samples.png"), &frames, &n);
            if (e) break;
            cells[(i + 1) * columns + p] = lk_image_from_frame(frames, LK_FRAME, LK_FRAME);
            free(frames);
        }
    }
    if (!e) {
        lk_image sheet = lk_sheet(rows, columns, cells, row_labels, a->people, 2);
        e = lk_image_write_png(lk_sweep_path(a->sweep, "samples.png"), &sheet);
        lk_image_free(&sheet);
    }
    for (int i = 0; i < rows * columns; i++) if (cells[i].px) lk_image_free(&cells[i]);
    lk_faces_free(f);
    lk_dataset_free(d);
    return e;
}
