/* What can be computed from adapters without a model: the delta of a module, merging, the best approximation of lower rank, sums and
 * interpolations, the difference of two checkpoints. binary64 on the host, sums in index order, rounded once; only the SVD is LAPACK's. */
#include "base/lapack.h"        /* dgesdd, dgeqrf, dorgqr */
#include "models/lora_internal.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

double lk_lora_scale(const lk_lora_config *c, int r, double alpha) { return lk_lora_is_rs(c->kind) ? alpha / __builtin_sqrt((double)r) : alpha / r; }
double lk_lora_file_scale(const lk_lora_file *f, const lk_lora_part *p) { return lk_lora_scale(&(lk_lora_config){ .kind = f->kind }, p->r, p->alpha); }

int lk_lora_part_groups(const lk_lora_part *p) { return p->t[LK_SLOT_B].x ? (int)(p->r / p->t[LK_SLOT_B].s.d[1]) : 1; }

/* ---- one module's delta ------------------------------------------------------------------------------------------------- */

void lk_lora_part_size(const lk_lora_part *p, int64_t *rows, int64_t *columns) {
    if (!p->t[LK_SLOT_B].x) { lk_lycoris_size(p->t[LK_SLOT_DIFF].x ? LK_FULL : p->t[LK_SLOT_H1A].x ? LK_LOHA : LK_LOKR, p, rows, columns); return; }
    *rows = p->t[LK_SLOT_B].s.d[0];
    *columns = lk_numel(p->t[LK_SLOT_A].s) / p->r * (p->t[LK_SLOT_MID].x ? p->t[LK_SLOT_MID].s.d[2] * p->t[LK_SLOT_MID].s.d[3] : 1);
}

/* out += a [rows, r] b [r, columns] times s. */
static void add_product(double *out, const float *a, const float *b, int64_t rows, int64_t r, int64_t columns, double s) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t k = 0; k < r; k++) {
            double f = s * a[i * r + k];
            for (int64_t j = 0; j < columns; j++) out[i * columns + j] += f * b[k * columns + j];
        }
}

void lk_lora_part_delta(const lk_lora_file *f, const lk_lora_part *p, double *out) {
    int64_t rows, columns;
    lk_lora_part_size(p, &rows, &columns);
    if (f->kind >= LK_LOHA) { lk_lycoris_delta(f->kind, p, lk_lora_file_scale(f, p), out); return; }
    if (p->t[LK_SLOT_MID].x) { lk_lora_delta_around(p, lk_lora_file_scale(f, p), out); return; }
    memset(out, 0, (size_t)(rows * columns) * sizeof *out);
    int64_t groups = lk_lora_part_groups(p), r = p->r / groups, n = rows / groups;
    for (int64_t i = 0; i < groups; i++)
        add_product(out + i * n * columns, p->t[LK_SLOT_B].x + i * n * r, p->t[LK_SLOT_A].x + i * r * columns, n, r, columns, lk_lora_file_scale(f, p));
}

static lk_err one_group(const lk_lora_file *f, const lk_lora_part *p, const char *what) {
    int groups = lk_lora_part_groups(p);
    return groups == 1 ? LK_OK : lk_error(LK_EINPUT, "%s: '%s' is LoRA on a convolution in %d groups, whose delta reaches across them: it cannot be %s", f->path, p->name, groups, what);
}

lk_err lk_lora_part_merge(const lk_lora_file *f, const lk_lora_part *p, double weight, float *w) {
    int64_t rows, columns;
    LK_TRY(one_group(f, p, "merged"));
    lk_lora_part_size(p, &rows, &columns);
    double *d = lk_xaligned((size_t)(rows * columns) * sizeof *d);
    lk_lora_part_delta(f, p, d);
    for (int64_t i = 0; i < rows; i++) {
        double square = 0, factor = 1;
        for (int64_t j = 0; j < columns; j++) {
            d[i * columns + j] = w[i * columns + j] + (f->decompose ? 1 : weight) * d[i * columns + j];
            square += d[i * columns + j] * d[i * columns + j];
        }
        if (p->t[LK_SLOT_MAGNITUDE].x && !f->decompose) factor = p->t[LK_SLOT_MAGNITUDE].x[i] / sqrt(square);
        for (int64_t j = 0; j < columns; j++) d[i * columns + j] *= factor;
    }
    if (f->decompose) lk_lora_decompose_around(f->decompose, p, weight, rows, columns, d);
    for (int64_t i = 0; i < rows * columns; i++) w[i] = (float)d[i];
    free(d);
    return LK_OK;
}

void lk_lora_part_merge_bias(const lk_lora_file *f, const lk_lora_part *p, double weight, float *bias) {
    const lk_lora_array *b = &p->t[LK_SLOT_BIAS];
    for (int64_t i = 0; i < lk_numel(b->s); i++) bias[i] = (float)(bias[i] + weight * lk_lora_file_scale(f, p) * b->x[i]);
}

/* ---- rank r ------------------------------------------------------------------------------------------------------------------ */

static void set_pair(lk_lora_file *f, lk_lora_part *p, lk_shape w, int r) {
    p->r = r;
    p->alpha = r;
    p->t[LK_SLOT_A].s = w.rank == 4 ? LK_SHAPE(r, w.d[1], w.d[2], w.d[3]) : LK_SHAPE(r, w.d[1]);
    p->t[LK_SLOT_B].s = w.rank == 4 ? LK_SHAPE(w.d[0], r, 1, 1) : LK_SHAPE(w.d[0], r);
    p->t[LK_SLOT_A].x = lk_alloc(f->arena, (size_t)lk_numel(p->t[LK_SLOT_A].s) * sizeof(float));
    p->t[LK_SLOT_B].x = lk_alloc(f->arena, (size_t)lk_numel(p->t[LK_SLOT_B].s) * sizeof(float));
}

/* U's k-th column's largest entry is made positive: LAPACK leaves the sign open. */
static double sign_of_column(const double *u, int64_t rows, int64_t stride, int64_t k) {
    double largest = 0;
    for (int64_t i = 0; i < rows; i++) if (fabs(u[i * stride + k]) > fabs(largest)) largest = u[i * stride + k];
    return largest < 0 ? -1 : 1;
}

static double kept_part(const double *s, int64_t n, int64_t r) {
    double all = 0, kept = 0;
    for (int64_t i = n; i-- > 0; ) { all += s[i] * s[i]; if (i < r) kept += s[i] * s[i]; }
    return all > 0 ? kept / all : 1;
}

/* B = U sqrt(S), A = sqrt(S) V of the first r. u is [rows, n], vt [n, columns]. */
static void split_roots(lk_lora_part *p, const double *u, const double *s, const double *vt, int64_t rows, int64_t n, int64_t columns) {
    for (int64_t k = 0; k < p->r; k++) {
        double sign = sign_of_column(u, rows, n, k), root = sqrt(s[k]);
        for (int64_t i = 0; i < rows; i++) p->t[LK_SLOT_B].x[i * p->r + k] = (float)(sign * root * u[i * n + k]);
        for (int64_t j = 0; j < columns; j++) p->t[LK_SLOT_A].x[k * columns + j] = (float)(sign * root * vt[k * columns + j]);
    }
}

static lk_err svd(double *x, int64_t rows, int64_t columns, double *s, double *u, double *vt) {
    int64_t n = rows < columns ? rows : columns;
    LK_TRY(lk_lapack_load());
    int info = lk_la()->dgesdd(LAPACK_ROW_MAJOR, 'S', (lapack_int)rows, (lapack_int)columns, x, (lapack_int)columns, s, u, (lapack_int)n, vt, (lapack_int)columns);
    return info ? lk_error(LK_ENUM, "singular value decomposition of %lld x %lld: LAPACK's dgesdd returned %d (NaN in the values?)", (long long)rows, (long long)columns, info) : LK_OK;
}

lk_err lk_lora_svd(lk_lora_file *f, lk_lora_part *p, const double *delta, lk_shape w, int r, double *kept) {
    int64_t rows = w.d[0], columns = lk_numel(w) / rows, n = rows < columns ? rows : columns;
    double *x = lk_xaligned((size_t)(rows * columns) * sizeof *x), *s = lk_xaligned((size_t)n * sizeof *s);
    double *u = lk_xaligned((size_t)(rows * n) * sizeof *u), *vt = lk_xaligned((size_t)(n * columns) * sizeof *vt);
    memcpy(x, delta, (size_t)(rows * columns) * sizeof *x);
    lk_err err = svd(x, rows, columns, s, u, vt);
    if (!err) {
        set_pair(f, p, w, r < n ? r : (int)n);
        split_roots(p, u, s, vt, rows, n, columns);
        *kept = kept_part(s, n, p->r);
    }
    free(x); free(s); free(u); free(vt);
    return lk_err_wrap(err, "module '%s'", p->name);
}

static lk_shape weight_shape(const lk_lora_part *p) {
    lk_shape a = p->t[LK_SLOT_A].s;
    a.d[0] = p->t[LK_SLOT_B].s.d[0];
    if (p->t[LK_SLOT_MID].x) { a.d[2] = p->t[LK_SLOT_MID].s.d[2]; a.d[3] = p->t[LK_SLOT_MID].s.d[3]; a.rank = 4; }
    return a;
}

static lk_lora_file *new_like(const lk_lora_file *f, int n) {
    lk_arena *arena = lk_arena_new();
    lk_lora_file *out = lk_alloc(arena, sizeof *out);
    *out = *f;
    out->arena = arena;
    out->kind = LK_LORA;
    out->built = NULL;
    out->path = lk_strdup(arena, f->path);
    out->component = lk_strdup(arena, f->component);
    out->part = lk_alloc(arena, (size_t)(n + 1) * sizeof *out->part);
    out->n = 0;
    out->saved = NULL;
    out->n_saved = 0;
    out->biases = LK_BIASES_NONE;
    out->decompose = LK_DECOMPOSE_NONE;
    return out;
}

static void keep_saved(const lk_lora_file *f, lk_lora_file *out) {
    out->biases = f->biases;
    out->saved = lk_alloc(out->arena, (size_t)f->n_saved * sizeof *out->saved + 1);
    for (int i = 0; i < f->n_saved; i++) {
        const lk_lora_saved *s = &f->saved[i];
        out->saved[out->n_saved++] = (lk_lora_saved){ lk_strdup(out->arena, s->name), { s->v.s, memcpy(lk_alloc(out->arena, (size_t)lk_numel(s->v.s) * sizeof(float) + 1), s->v.x, (size_t)lk_numel(s->v.s) * sizeof(float)) }, s->bias };
    }
}

/* A bias of zeros for a part whose B has one. */
static void set_bias(lk_lora_file *f, lk_lora_part *p) {
    p->t[LK_SLOT_BIAS] = (lk_lora_array){ LK_SHAPE(p->t[LK_SLOT_B].s.d[0]), lk_alloc(f->arena, (size_t)p->t[LK_SLOT_B].s.d[0] * sizeof(float) + 1) };
}
static bool has_bias(const lk_lora_file *f) { return f->n && f->part[0].t[LK_SLOT_BIAS].x; }

/* B = Qb Rb and A' = Qa Ra: the SVD of the small Rb Ra' gives that of BA. x is [rows, r]; q replaces it, upper is [r, r]. */
static lk_err thin_qr(double *x, int64_t rows, int64_t r, double *upper) {
    LK_TRY(lk_lapack_load());
    double *tau = lk_xcalloc((size_t)r, sizeof *tau);
    int info = lk_la()->dgeqrf(LAPACK_ROW_MAJOR, (lapack_int)rows, (lapack_int)r, x, (lapack_int)r, tau);
    for (int64_t i = 0; i < r; i++) for (int64_t j = 0; j < r; j++) upper[i * r + j] = j >= i ? x[i * r + j] : 0;
    if (!info) info = lk_la()->dorgqr(LAPACK_ROW_MAJOR, (lapack_int)rows, (lapack_int)r, (lapack_int)r, x, (lapack_int)r, tau);
    free(tau);
    return info ? lk_error(LK_ENUM, "QR of %lld x %lld: LAPACK returned %d (NaN in the values?)", (long long)rows, (long long)r, info) : LK_OK;
}

static lk_err small_svd(const lk_lora_file *f, const lk_lora_part *from, lk_lora_part *to, int64_t rows, int64_t columns, double *kept) {
    int64_t r = from->r;
    double *qb = lk_xaligned((size_t)(rows * r) * sizeof *qb), *qa = lk_xaligned((size_t)(columns * r) * sizeof *qa), *core = lk_xcalloc((size_t)(r * r), sizeof *core);
    double *rb = lk_xcalloc((size_t)(r * r), sizeof *rb), *ra = lk_xcalloc((size_t)(r * r), sizeof *ra), *s = lk_xcalloc((size_t)r, sizeof *s);
    double *u = lk_xcalloc((size_t)(r * r), sizeof *u), *vt = lk_xcalloc((size_t)(r * r), sizeof *vt);
    double *left = lk_xcalloc((size_t)(rows * r), sizeof *left), *right = lk_xcalloc((size_t)(r * columns), sizeof *right), scale = lk_lora_file_scale(f, from);
    for (int64_t i = 0; i < rows * r; i++) qb[i] = from->t[LK_SLOT_B].x[i];
    for (int64_t k = 0; k < r; k++) for (int64_t j = 0; j < columns; j++) qa[j * r + k] = from->t[LK_SLOT_A].x[k * columns + j];
    lk_err err = thin_qr(qb, rows, r, rb);
    if (!err) err = thin_qr(qa, columns, r, ra);
    for (int64_t i = 0; i < r; i++) for (int64_t j = 0; j < r; j++) for (int64_t k = 0; k < r; k++) core[i * r + j] += scale * rb[i * r + k] * ra[j * r + k];
    if (!err) err = svd(core, r, r, s, u, vt);
    if (!err) {
        for (int64_t i = 0; i < rows; i++) for (int64_t k = 0; k < r; k++) for (int64_t j = 0; j < r; j++) left[i * r + j] += qb[i * r + k] * u[k * r + j];
        for (int64_t j = 0; j < columns; j++) for (int64_t k = 0; k < r; k++) for (int64_t i = 0; i < r; i++) right[i * columns + j] += vt[i * r + k] * qa[j * r + k];
        split_roots(to, left, s, right, rows, r, columns);
        *kept = kept_part(s, r, to->r);
    }
    free(qb); free(qa); free(core); free(rb); free(ra); free(s); free(u); free(vt); free(left); free(right);
    return err;
}

static void keep_bias(const lk_lora_file *f, const lk_lora_part *from, lk_lora_file *out, lk_lora_part *to) {
    if (!from->t[LK_SLOT_BIAS].x) return;
    set_bias(out, to);
    lk_lora_part_merge_bias(f, from, 1, to->t[LK_SLOT_BIAS].x);
}

static lk_err resize_part(const lk_lora_file *f, const lk_lora_part *from, int r, lk_lora_file *out, double *kept) {
    if (f->kind >= LK_LOHA) return lk_error(LK_EINPUT, "%s: LoHa and LoKr are resized by merging them and extracting", f->path);
    LK_TRY(one_group(f, from, "resized"));
    int64_t rows, columns;
    lk_lora_part_size(from, &rows, &columns);
    lk_lora_part *to = &out->part[out->n++];
    int64_t most = rows < columns ? rows : columns;
    if (from->t[LK_SLOT_MAGNITUDE].x) return lk_error(LK_EINPUT, "%s: DoRA has no exact form of lower rank: merge it and extract instead", f->path);
    to->name = lk_strdup(out->arena, from->name);
    to->component = from->component ? lk_strdup(out->arena, from->component) : NULL;
    if (from->r <= most && !from->t[LK_SLOT_MID].x) {
        set_pair(out, to, weight_shape(from), r < from->r ? r : from->r);
        keep_bias(f, from, out, to);
        return lk_err_wrap(small_svd(f, from, to, rows, columns, kept), "%s: module '%s'", f->path, from->name);
    }
    double *delta = lk_xaligned((size_t)(rows * columns) * sizeof *delta);
    lk_lora_part_delta(f, from, delta);
    lk_err err = lk_lora_svd(out, to, delta, weight_shape(from), r, kept);
    if (!err) keep_bias(f, from, out, to);
    free(delta);
    return err;
}

lk_err lk_lora_file_resize(const lk_lora_file *f, int r, lk_lora_file **result, double *kept) {
    *result = NULL;
    *kept = 1;
    if (r < 1) return lk_error(LK_EINPUT, "rank %d: expected at least 1", r);
    lk_lora_file *out = new_like(f, f->n);
    lk_err err = LK_OK;
    for (int i = 0; i < f->n && !err; i++) {
        double one = 1;
        err = resize_part(f, &f->part[i], r, out, &one);
        if (one < *kept) *kept = one;
    }
    if (!err) keep_saved(f, out);
    if (err) lk_lora_file_free(out);
    else *result = out;
    return err;
}

/* ---- sums ------------------------------------------------------------------------------------------------------------------------- */

/* The part of the same module of the same component. */
static const lk_lora_part *part_like(const lk_lora_file *f, const lk_lora_file *other, const lk_lora_part *p) {
    for (int i = 0; i < f->n; i++) if (!strcmp(f->part[i].name, p->name) && !strcmp(lk_lora_part_component(f, &f->part[i]), lk_lora_part_component(other, p))) return &f->part[i];
    return NULL;
}

static lk_err check_plain(const lk_lora_file *f, const char *what) {
    LK_TRY(lk_lora_no_saved(f, lk_fmt(f->arena, "%s cannot treat", what)));
    for (int i = 0; i < f->n; i++) {
        LK_TRY(one_group(f, &f->part[i], "mixed or interpolated"));
        if (f->part[i].t[LK_SLOT_MID].x) return lk_error(LK_EINPUT, "%s: '%s' is in Tucker's form (lora_mid), which %s cannot treat: resize it first", f->path, f->part[i].name, what);
    }
    return f->kind == LK_LORA || f->kind == LK_RSLORA ? LK_OK : lk_error(LK_EINPUT, "%s: %s is of LoRA and rsLoRA only; this file is of another kind", f->path, what);
}

/* The module's halves of every file that has it, ranks side by side; weight and scale go into B. */
static lk_err mix_part(lk_lora_file *out, const lk_lora_file *of, const lk_lora_part *like, const lk_lora_file *const *f, const double *weights, int n) {
    const lk_lora_part *first = NULL;
    int r = 0, at = 0;
    lk_lora_part *to = &out->part[out->n++];
    for (int i = 0; i < n; i++) {
        const lk_lora_part *p = part_like(f[i], of, like);
        if (!p) continue;
        if (!first) first = p;
        if (!lk_shape_eq(weight_shape(first), weight_shape(p))) return lk_error(LK_ESHAPE, "%s: module '%s' has another shape than in the file before", f[i]->path, like->name);
        r += p->r;
    }
    to->name = lk_strdup(out->arena, like->name);
    to->component = lk_strdup(out->arena, lk_lora_part_component(of, like));
    set_pair(out, to, weight_shape(first), r);
    for (int i = 0; i < n; i++) if (has_bias(f[i]) && !to->t[LK_SLOT_BIAS].x) set_bias(out, to);
    int64_t rows, columns;
    lk_lora_part_size(to, &rows, &columns);
    for (int i = 0; i < n; i++) {
        const lk_lora_part *p = part_like(f[i], of, like);
        if (!p) continue;
        double s = weights[i] * lk_lora_file_scale(f[i], p);
        memcpy(to->t[LK_SLOT_A].x + at * columns, p->t[LK_SLOT_A].x, (size_t)(p->r * columns) * sizeof(float));
        for (int64_t row = 0; row < rows; row++) for (int k = 0; k < p->r; k++) to->t[LK_SLOT_B].x[row * r + at + k] = (float)(s * p->t[LK_SLOT_B].x[row * p->r + k]);
        if (p->t[LK_SLOT_BIAS].x) lk_lora_part_merge_bias(f[i], p, weights[i], to->t[LK_SLOT_BIAS].x);
        at += p->r;
    }
    return LK_OK;
}

lk_err lk_lora_file_mix(const lk_lora_file *const *f, const double *weights, int n, lk_lora_file **result) {
    int most = 0;
    *result = NULL;
    for (int i = 0; i < n; i++) { LK_TRY(check_plain(f[i], "mixing")); most += f[i]->n; }
    lk_lora_file *out = new_like(f[0], most);
    lk_err err = LK_OK;
    for (int i = 0; i < n && !err; i++)
        for (int k = 0; k < f[i]->n && !err; k++)
            if (!part_like(out, f[i], &f[i]->part[k])) err = mix_part(out, f[i], &f[i]->part[k], f, weights, n);
    if (err) lk_lora_file_free(out);
    else *result = out;
    return err;
}

static void between(const lk_lora_array *a, const lk_lora_array *b, double f, float *out) {
    for (int64_t i = 0; i < lk_numel(a->s); i++) out[i] = (float)((1 - f) * a->x[i] + f * b->x[i]);
}

static lk_err halves_part(lk_lora_file *out, const lk_lora_file *fa, const lk_lora_part *a, const lk_lora_file *fb, double f) {
    const lk_lora_part *b = part_like(fb, fa, a);
    if (!b) return lk_error(LK_EINPUT, "%s: no module '%s', which %s has", fb->path, a->name, fa->path);
    if (b->r != a->r || b->alpha != a->alpha || !a->t[LK_SLOT_BIAS].x != !b->t[LK_SLOT_BIAS].x || !lk_shape_eq(weight_shape(a), weight_shape(b)))
        return lk_error(LK_ESHAPE, "%s: module '%s' has rank %d and alpha %g, in %s %d and %g; halves are interpolated at equal shape, rank and alpha, with a bias in both or none", fb->path, a->name, b->r, b->alpha, fa->path, a->r, a->alpha);
    lk_lora_part *to = &out->part[out->n++];
    to->name = lk_strdup(out->arena, a->name);
    to->component = a->component ? lk_strdup(out->arena, a->component) : NULL;
    set_pair(out, to, weight_shape(a), a->r);
    to->alpha = a->alpha;
    between(&a->t[LK_SLOT_A], &b->t[LK_SLOT_A], f, to->t[LK_SLOT_A].x);
    between(&a->t[LK_SLOT_B], &b->t[LK_SLOT_B], f, to->t[LK_SLOT_B].x);
    if (!a->t[LK_SLOT_BIAS].x) return LK_OK;
    set_bias(out, to);
    between(&a->t[LK_SLOT_BIAS], &b->t[LK_SLOT_BIAS], f, to->t[LK_SLOT_BIAS].x);
    return LK_OK;
}

lk_err lk_lora_file_halves(const lk_lora_file *a, const lk_lora_file *b, double f, lk_lora_file **result) {
    *result = NULL;
    LK_TRY(check_plain(a, "interpolation"));
    LK_TRY(check_plain(b, "interpolation"));
    if (a->kind != b->kind || a->n != b->n) return lk_error(LK_EINPUT, "%s has %d modules, %s %d; they must be the same, of one kind", a->path, a->n, b->path, b->n);
    lk_lora_file *out = new_like(a, a->n);
    lk_err err = LK_OK;
    out->kind = a->kind;
    for (int i = 0; i < a->n && !err; i++) err = halves_part(out, a, &a->part[i], b, f);
    if (err) lk_lora_file_free(out);
    else *result = out;
    return err;
}

/* ---- the difference of two checkpoints ------------------------------------------------------------------------------------------------ */

static lk_err values_of(const lk_tensor *t, const char *path, float **x) {
    *x = lk_xaligned((size_t)(t->numel ? t->numel : 1) * sizeof **x);
    return lk_err_wrap(lk_st_f32(t, *x), "%s", path);
}

static lk_err extract_tensor(const lk_st *from, const lk_tensor *a, const lk_tensor *b, int r, lk_lora_file *out, double *kept) {
    float *x = NULL, *y = NULL;
    lk_err err = values_of(a, lk_st_path(from), &x);
    if (!err) err = values_of(b, out->path, &y);
    if (!err && memcmp(x, y, (size_t)a->numel * sizeof *x)) {
        size_t n = strlen(a->name);
        if (!lk_ends(a->name, ".weight") || (a->rank != 2 && a->rank != 4)) err = lk_error(LK_EINPUT, "%s: '%s' differs too, and is no weight of a linear layer or convolution: an adapter cannot carry it", out->path, a->name);
        else {
            double *d = lk_xaligned((size_t)a->numel * sizeof *d), one;
            lk_shape s = { .rank = a->rank };
            memcpy(s.d, a->d, (size_t)a->rank * sizeof *a->d);
            for (int64_t i = 0; i < a->numel; i++) d[i] = (double)y[i] - x[i];
            lk_lora_part *p = &out->part[out->n++];
            p->name = lk_fmt(out->arena, "%.*s", (int)(n - strlen(".weight")), a->name);
            err = lk_lora_svd(out, p, d, s, r, &one);
            if (!err && one < *kept) *kept = one;
            free(d);
        }
    }
    free(x);
    free(y);
    return err;
}

static lk_err same_layout(const lk_st *from, const lk_st *to, int i, const lk_tensor **b) {
    const lk_tensor *a = lk_st_at(from, i);
    LK_TRY(lk_st_get(to, a->name, b));
    if (a->rank != (*b)->rank || memcmp(a->d, (*b)->d, (size_t)a->rank * sizeof *a->d)) return lk_error(LK_ESHAPE, "'%s' has one shape in %s and another in %s", a->name, lk_st_path(from), lk_st_path(to));
    return LK_OK;
}

lk_err lk_lora_extract(const lk_st *from, const lk_st *to, int r, lk_lora_file **result, double *kept) {
    lk_err err = LK_OK;
    *result = NULL;
    *kept = 1;
    if (r < 1) return lk_error(LK_EINPUT, "rank %d: expected at least 1", r);
    if (lk_st_count(from) != lk_st_count(to)) return lk_error(LK_EINPUT, "%s has %d tensors, %s %d: no two checkpoints of one model", lk_st_path(from), lk_st_count(from), lk_st_path(to), lk_st_count(to));
    lk_lora_file *out = new_like(&(lk_lora_file){ .path = lk_st_path(to), .component = "unet" }, lk_st_count(from));
    for (int i = 0; i < lk_st_count(from) && !err; i++) {
        const lk_tensor *b;
        err = same_layout(from, to, i, &b);
        if (!err) err = extract_tensor(from, lk_st_at(from, i), b, r, out, kept);
    }
    if (!err && !out->n) err = lk_error(LK_EINPUT, "%s and %s hold the same values: nothing to extract", lk_st_path(from), lk_st_path(to));
    if (err) lk_lora_file_free(out);
    else *result = out;
    return err;
}
