/* LoHa, LoKr, their weight decomposition and full differences: shapes of their factors, their deltas as nodes and on the host, what their files must hold. See lora_file.h.
 * A convolution's delta is that of the flattened weight [out, in kh kw]; only a whole W2 of LoKr and Tucker's cores keep the kernel's axes. */
#include "models/lora_internal.h"
#include <stdlib.h>
#include <string.h>

/* LyCORIS' split of a width into m n = width, m <= n as near as can be with m at most `factor` (-1: any), or exactly factor where it divides. */
static void split(int64_t width, int64_t factor, int64_t *m, int64_t *n) {
    *m = 1;
    *n = width;
    if (factor > 0 && width % factor == 0) { *m = factor; *n = width / factor; return; }
    for (int64_t i = 2; i * i <= width && (factor < 1 || i <= factor); i++) if (width % i == 0) { *m = i; *n = width / i; }
}

/* A factor of a delta: a whole matrix, a product a b, or a and b around a core. Slots; NONE: this kind has none. */
enum { NONE = -1 };
typedef struct { int whole, core, a, b; } factor;
static const factor h1 = { NONE, LK_SLOT_H1T, LK_SLOT_H1A, LK_SLOT_H1B }, h2 = { NONE, LK_SLOT_H2T, LK_SLOT_H2A, LK_SLOT_H2B };
static const factor k1 = { LK_SLOT_K1, NONE, LK_SLOT_K1A, LK_SLOT_K1B }, k2 = { LK_SLOT_K2, LK_SLOT_K2T, LK_SLOT_K2A, LK_SLOT_K2B };

/* Of a weight [rows, columns, kh, kw] as a product of rank r. */
static void product_shapes(const lk_lora_config *c, factor f, lk_shape w, int64_t rows, int64_t columns, int64_t r, lk_shape t[LK_SLOT_COUNT]) {
    int64_t kernel = w.rank == 4 ? w.d[2] * w.d[3] : 1;
    bool core = c->tucker && f.core != NONE && kernel > 1;
    t[f.a] = core ? LK_SHAPE(r, rows) : LK_SHAPE(rows, r);
    t[f.b] = core ? LK_SHAPE(r, columns) : LK_SHAPE(r, columns * kernel);
    if (core) t[f.core] = LK_SHAPE(r, r, w.d[2], w.d[3]);
}

static void lokr_shapes(const lk_lora_config *c, lk_shape w, int64_t r, lk_shape t[LK_SLOT_COUNT]) {
    int64_t a, b, cc, d;
    split(w.d[0], c->factor ? c->factor : -1, &a, &b);
    split(w.d[1], c->factor ? c->factor : -1, &cc, &d);
    if (c->both && 2 * r < (a > cc ? a : cc)) { t[LK_SLOT_K1A] = LK_SHAPE(a, r); t[LK_SLOT_K1B] = LK_SHAPE(r, cc); }
    else t[LK_SLOT_K1] = LK_SHAPE(a, cc);
    if (2 * r < (b > d ? b : d)) product_shapes(c, k2, w, b, d, r, t);
    else t[LK_SLOT_K2] = w.rank == 4 ? LK_SHAPE(b, d, w.d[2], w.d[3]) : LK_SHAPE(b, d);
}

/* As LyCORIS has it: of as many axes as the weight. */
static lk_shape magnitude_shape(const lk_lora_config *c, lk_shape w) {
    lk_shape s = { .rank = w.rank, .d = { 1, 1, 1, 1 } };
    s.d[c->decompose == LK_DECOMPOSE_COLUMNS] = w.d[c->decompose == LK_DECOMPOSE_COLUMNS];
    return s;
}

void lk_lora_shapes(const lk_lora_config *c, lk_shape w, int groups, int r, lk_shape t[LK_SLOT_COUNT]) {
    memset(t, 0, LK_SLOT_COUNT * sizeof *t);
    if (c->decompose) t[LK_SLOT_MAGNITUDE] = magnitude_shape(c, w);
    if (c->kind == LK_LOHA) { product_shapes(c, h1, w, w.d[0], w.d[1], r, t); product_shapes(c, h2, w, w.d[0], w.d[1], r, t); }
    else if (c->kind == LK_LOKR) lokr_shapes(c, w, r, t);
    else if (c->kind == LK_FULL) t[LK_SLOT_DIFF] = w;
    else {
        t[LK_SLOT_A] = w.rank == 4 ? LK_SHAPE(r, w.d[1] * groups, w.d[2], w.d[3]) : LK_SHAPE(r, w.d[1]);
        t[LK_SLOT_B] = w.rank == 4 ? LK_SHAPE(w.d[0], r / groups, 1, 1) : LK_SHAPE(w.d[0], r);
        if (c->tucker && w.rank == 4 && w.d[2] * w.d[3] > 1) { t[LK_SLOT_A] = LK_SHAPE(r, w.d[1], 1, 1); t[LK_SLOT_MID] = LK_SHAPE(r, r, w.d[2], w.d[3]); }
        if (c->lora_bias) t[LK_SLOT_BIAS] = LK_SHAPE(w.d[0]);
        if (lk_lora_is_dora(c->kind) && !c->decompose) t[LK_SLOT_MAGNITUDE] = w.rank == 4 ? LK_SHAPE(1, w.d[0], 1, 1) : LK_SHAPE(w.d[0]);
    }
}

/* ---- as nodes ------------------------------------------------------------------------------------------------------------ */

static lk_val as_matrix(lk_graph *g, lk_val v) {
    lk_shape s = lk_shape_of(g, v);
    return lk_reshape(g, v, LK_SHAPE(s.d[0], lk_numel(s) / s.d[0]));
}
static lk_val product(lk_graph *g, lk_val a, lk_val b) { return lk_matmul(g, as_matrix(g, a), as_matrix(g, b), LK_NONE, (lk_mm){ 0 }); }
/* core [r, q, kh, kw], a [r, rows] (across: [rows, r]), b [q, columns] -> [rows, columns kh kw]: a' core first, then b' for each row. */
static lk_val around(lk_graph *g, lk_val core, lk_val a, bool across, lk_val b) {
    lk_shape s = lk_shape_of(g, core);
    int64_t rows = lk_dim(g, a, !across), kernel = s.d[2] * s.d[3];
    lk_val half = lk_reshape(g, lk_matmul(g, as_matrix(g, a), as_matrix(g, core), LK_NONE, (lk_mm){ .ta = !across }), LK_SHAPE(rows, s.d[1], kernel));
    return lk_reshape(g, lk_matmul(g, as_matrix(g, b), half, LK_NONE, (lk_mm){ .ta = true }), LK_SHAPE(rows, lk_dim(g, b, 1) * kernel));
}
static lk_val factor_node(lk_graph *g, factor f, const lk_val t[LK_SLOT_COUNT]) {
    if (f.whole != NONE && lk_ok(t[f.whole])) return as_matrix(g, t[f.whole]);
    return f.core != NONE && lk_ok(t[f.core]) ? around(g, t[f.core], t[f.a], false, t[f.b]) : product(g, t[f.a], t[f.b]);
}

static lk_val kron(lk_graph *g, lk_val x, lk_val y) {
    lk_shape s = lk_shape_of(g, x), t = lk_shape_of(g, y);
    lk_val all = lk_mul(g, lk_reshape(g, x, LK_SHAPE(s.d[0], 1, s.d[1], 1)), lk_reshape(g, y, LK_SHAPE(1, t.d[0], 1, t.d[1])));
    return lk_reshape(g, all, LK_SHAPE(s.d[0] * t.d[0], s.d[1] * t.d[1]));
}

lk_val lk_lora_delta_node(lk_graph *g, lk_lora_kind kind, const lk_val t[LK_SLOT_COUNT]) {
    if (kind == LK_LOHA) return lk_mul(g, factor_node(g, h1, t), factor_node(g, h2, t));
    if (kind == LK_LOKR) return kron(g, factor_node(g, k1, t), factor_node(g, k2, t));
    if (kind == LK_FULL) return as_matrix(g, t[LK_SLOT_DIFF]);
    return lk_ok(t[LK_SLOT_MID]) ? around(g, t[LK_SLOT_MID], t[LK_SLOT_B], true, t[LK_SLOT_A]) : product(g, t[LK_SLOT_B], t[LK_SLOT_A]);
}

/* w as [out, in, kernel]: the axes that are summed. */
static lk_val as_channels(lk_graph *g, lk_val w) {
    lk_shape s = lk_shape_of(g, w);
    return lk_reshape(g, w, LK_SHAPE(s.d[0], s.d[1], s.rank == 4 ? s.d[2] * s.d[3] : 1));
}
static const double norm_eps = 0x1p-23;                              /* LyCORIS': torch.finfo(float32).eps */
lk_val lk_lora_norms(lk_graph *g, lk_lora_decompose by, lk_val w) {
    lk_val sum = lk_reduce_sum(g, lk_square(g, as_channels(g, w)), (lk_axes){ .n = 2, .axis = { by == LK_DECOMPOSE_ROWS, 2 }, .keep = true });
    return lk_shift(g, lk_sqrt(g, sum), norm_eps);
}
lk_val lk_lora_decomposed(lk_graph *g, lk_lora_decompose by, lk_val w, lk_val delta, lk_val m, lk_val weight) {
    lk_shape s = lk_shape_of(g, w);
    lk_val whole = lk_add(g, w, lk_reshape(g, delta, s)), norms = lk_lora_norms(g, by, whole);
    lk_val factor = lk_div(g, lk_reshape(g, m, lk_shape_of(g, norms)), norms);
    if (lk_ok(weight)) factor = lk_shift(g, lk_mul(g, lk_shift(g, factor, -1), weight), 1);
    return lk_reshape(g, lk_mul(g, as_channels(g, whole), factor), s);
}

/* ---- on the host ------------------------------------------------------------------------------------------------------------ */

typedef struct { int64_t rows, columns; double *x; } matrix;

static matrix product_of(const lk_lora_array *a, const lk_lora_array *b) {
    int64_t r = a->s.d[1];
    matrix m = { a->s.d[0], lk_numel(b->s) / r, NULL };
    m.x = lk_xcalloc((size_t)(m.rows * m.columns), sizeof *m.x);
    for (int64_t i = 0; i < m.rows; i++)
        for (int64_t k = 0; k < r; k++) for (int64_t j = 0; j < m.columns; j++) m.x[i * m.columns + j] += (double)a->x[i * r + k] * b->x[k * m.columns + j];
    return m;
}
static matrix whole_of(const lk_lora_array *whole) {
    matrix m = { whole->s.d[0], lk_numel(whole->s) / whole->s.d[0], lk_xcalloc((size_t)lk_numel(whole->s), sizeof *m.x) };
    for (int64_t i = 0; i < lk_numel(whole->s); i++) m.x[i] = whole->x[i];
    return m;
}
static matrix around_of(const lk_lora_array *core, const lk_lora_array *a, bool across, const lk_lora_array *b) {
    int64_t r = core->s.d[0], q = core->s.d[1], kernel = core->s.d[2] * core->s.d[3], columns = b->s.d[1];
    matrix m = { a->s.d[!across], columns * kernel, NULL };
    double *half = lk_xcalloc((size_t)(q * kernel), sizeof *half);
    m.x = lk_xcalloc((size_t)(m.rows * m.columns), sizeof *m.x);
    for (int64_t i = 0; i < m.rows; i++) {
        memset(half, 0, (size_t)(q * kernel) * sizeof *half);
        for (int64_t k = 0; k < r; k++) for (int64_t j = 0; j < q * kernel; j++) half[j] += (double)a->x[across ? i * r + k : k * m.rows + i] * core->x[k * q * kernel + j];
        for (int64_t k = 0; k < q; k++)
            for (int64_t c = 0; c < columns; c++) for (int64_t y = 0; y < kernel; y++) m.x[(i * columns + c) * kernel + y] += b->x[k * columns + c] * half[k * kernel + y];
    }
    free(half);
    return m;
}
static bool has(const lk_lora_array *t, int slot) { return slot != NONE && t[slot].x; }
static matrix factor_of(const lk_lora_array *t, factor f) {
    return has(t, f.whole) ? whole_of(&t[f.whole]) : has(t, f.core) ? around_of(&t[f.core], &t[f.a], false, &t[f.b]) : product_of(&t[f.a], &t[f.b]);
}

void lk_lora_delta_around(const lk_lora_part *p, double scale, double *out) {
    matrix m = around_of(&p->t[LK_SLOT_MID], &p->t[LK_SLOT_B], true, &p->t[LK_SLOT_A]);
    for (int64_t i = 0; i < m.rows * m.columns; i++) out[i] = scale * m.x[i];
    free(m.x);
}

void lk_lora_decompose_around(lk_lora_decompose by, const lk_lora_part *p, double weight, int64_t rows, int64_t columns, double *w) {
    const lk_lora_array *m = &p->t[LK_SLOT_MAGNITUDE];
    int64_t n = lk_numel(m->s), kernel = by == LK_DECOMPOSE_ROWS ? columns : columns / n;      /* values in a row that have one norm */
    double *factor = lk_xcalloc((size_t)n, sizeof *factor);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) factor[by == LK_DECOMPOSE_ROWS ? i : j / kernel] += w[i * columns + j] * w[i * columns + j];
    for (int64_t k = 0; k < n; k++) factor[k] = 1 + weight * (m->x[k] / (__builtin_sqrt(factor[k]) + norm_eps) - 1);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) w[i * columns + j] *= factor[by == LK_DECOMPOSE_ROWS ? i : j / kernel];
    free(factor);
}

void lk_lycoris_delta(lk_lora_kind kind, const lk_lora_part *p, double scale, double *out) {
    const lk_lora_array *t = p->t;
    if (kind == LK_FULL) { for (int64_t i = 0; i < lk_numel(t[LK_SLOT_DIFF].s); i++) out[i] = scale * t[LK_SLOT_DIFF].x[i]; return; }
    matrix x = factor_of(t, kind == LK_LOHA ? h1 : k1), y = factor_of(t, kind == LK_LOHA ? h2 : k2);
    if (kind == LK_LOHA) for (int64_t i = 0; i < x.rows * x.columns; i++) out[i] = scale * x.x[i] * y.x[i];
    else
        for (int64_t a = 0; a < x.rows; a++)
            for (int64_t b = 0; b < y.rows; b++)
                for (int64_t c = 0; c < x.columns; c++)
                    for (int64_t d = 0; d < y.columns; d++) out[((a * y.rows + b) * x.columns + c) * y.columns + d] = scale * x.x[a * x.columns + c] * y.x[b * y.columns + d];
    free(x.x);
    free(y.x);
}

static void size_of(const lk_lora_array *t, factor f, int64_t *rows, int64_t *columns) {
    bool core = has(t, f.core);
    *rows = has(t, f.whole) ? t[f.whole].s.d[0] : t[f.a].s.d[core];
    *columns = has(t, f.whole) ? lk_numel(t[f.whole].s) / *rows : lk_numel(t[f.b].s) / t[f.b].s.d[0] * (core ? t[f.core].s.d[2] * t[f.core].s.d[3] : 1);
}
void lk_lycoris_size(lk_lora_kind kind, const lk_lora_part *p, int64_t *rows, int64_t *columns) {
    int64_t r2, c2;
    if (kind == LK_FULL) { *rows = p->t[LK_SLOT_DIFF].s.d[0]; *columns = lk_numel(p->t[LK_SLOT_DIFF].s) / *rows; return; }
    size_of(p->t, kind == LK_LOHA ? h1 : k1, rows, columns);
    if (kind == LK_LOHA) return;
    size_of(p->t, k2, &r2, &c2);
    *rows *= r2;
    *columns *= c2;
}

/* ---- files -------------------------------------------------------------------------------------------------------------------- */

static lk_err check_core(const lk_lora_entries *f, lk_lora_entry *e, const lk_tensor *core, const lk_tensor *x, const lk_tensor *y) {
    if (core->rank != 4 || !core->numel || core->d[0] > 1 << 20 || core->d[0] != core->d[1] || x->rank != 2 || y->rank != 2 || x->d[0] != core->d[0] || y->d[0] != core->d[0] || (e->r && e->r != core->d[0]))
        return lk_error(LK_ESHAPE, "%s: '%s', '%s' and '%s' must be a core [r, r, kh, kw] and matrices [r, ..] of one rank a module", f->path, core->name, x->name, y->name);
    e->r = (int)core->d[0];
    return LK_OK;
}

static lk_err check_product(const lk_lora_entries *f, lk_lora_entry *e, factor s) {
    const lk_tensor *x = e->t[s.a], *y = e->t[s.b];
    if (!x || !y) return lk_error(LK_EINPUT, "%s: %s of module '%s' is missing", f->path, lk_lora_leaves[y ? s.a : s.b].kohya, e->name);
    if (s.core != NONE && e->t[s.core]) return check_core(f, e, e->t[s.core], x, y);
    if (x->rank != 2 || y->rank != 2 || x->d[1] < 1 || x->d[1] != y->d[0] || x->d[1] > 1 << 20 || (e->r && e->r != x->d[1]))
        return lk_error(LK_ESHAPE, "%s: '%s' and '%s' must be matrices [.., r] and [r, ..] of one rank a module", f->path, x->name, y->name);
    e->r = (int)x->d[1];
    return LK_OK;
}

static lk_err check_factor(const lk_lora_entries *f, lk_lora_entry *e, factor s) {
    const lk_tensor *w = s.whole == NONE ? NULL : e->t[s.whole];
    if (!w) return check_product(f, e, s);
    if (e->t[s.a] || e->t[s.b] || (s.core != NONE && e->t[s.core])) return lk_error(LK_EINPUT, "%s: module '%s' has %s both whole and as a product", f->path, e->name, lk_lora_leaves[s.whole].kohya);
    if ((w->rank != 2 && w->rank != 4) || !w->numel) return lk_error(LK_ESHAPE, "%s: '%s' has %d axes; expected 2, or 4 of a convolution", f->path, w->name, w->rank);
    return LK_OK;
}

static void size_of_entry(const lk_lora_entry *e, factor s, int64_t *rows, int64_t *columns) {
    const lk_tensor *core = e->t[s.core];
    *rows = e->t[s.a]->d[core != NULL];
    *columns = e->t[s.b]->d[1] * (core ? core->d[2] * core->d[3] : 1);
}

lk_err lk_lycoris_check(const lk_lora_entries *f, lk_lora_entry *e) {
    if (f->decompose && !e->t[LK_SLOT_MAGNITUDE]) return lk_error(LK_EINPUT, "%s: module '%s' has no dora_scale, others of the file do", f->path, e->name);
    if (e->t[LK_SLOT_A] || e->t[LK_SLOT_B] || (e->t[LK_SLOT_MAGNITUDE] && (!f->decompose || f->kind == LK_FULL)) || e->t[LK_SLOT_BIAS] || e->t[LK_SLOT_MID]) return lk_error(LK_EINPUT, "%s: module '%s' has LoRA's halves, others of the file another kind's", f->path, e->name);
    for (int i = LK_SLOT_H1A; i < LK_SLOT_COUNT; i++) {
        lk_lora_kind kind = i == LK_SLOT_DIFF ? LK_FULL : i < LK_SLOT_K1 ? LK_LOHA : LK_LOKR;
        if (e->t[i] && kind != f->kind) return lk_error(LK_EINPUT, "%s: '%s': LoHa, LoKr and full differences are mixed in one file", f->path, e->t[i]->name);
    }
    if (f->kind == LK_FULL) {
        const lk_tensor *d = e->t[LK_SLOT_DIFF];
        if (!d) return lk_error(LK_EINPUT, "%s: diff of module '%s' is missing", f->path, e->name);
        e->r = 1;
        return d->rank >= 2 && d->numel ? LK_OK : lk_error(LK_ESHAPE, "%s: '%s' has %d axes; expected a weight's", f->path, d->name, d->rank);
    }
    if (f->kind == LK_LOHA) {
        int64_t rows[2], columns[2];
        LK_TRY(check_factor(f, e, h1));
        LK_TRY(check_factor(f, e, h2));
        size_of_entry(e, h1, &rows[0], &columns[0]);
        size_of_entry(e, h2, &rows[1], &columns[1]);
        if (rows[0] == rows[1] && columns[0] == columns[1]) return LK_OK;
        return lk_error(LK_ESHAPE, "%s: module '%s': hada_w1 gives a matrix of %lld x %lld, hada_w2 one of %lld x %lld; they are multiplied element by element", f->path, e->name,
                        (long long)rows[0], (long long)columns[0], (long long)rows[1], (long long)columns[1]);
    }
    LK_TRY(check_factor(f, e, k1));
    return check_factor(f, e, k2);
}

/* The split that explains every module's factors. Kernels of 1, 3 and 5 a side are tried: a product does not tell its kernel. */
static bool explains(const lk_lora_part *p, int factor) {
    int64_t a, b, c, d, m, n;
    size_of(p->t, k1, &a, &c);
    size_of(p->t, k2, &b, &d);
    split(a * b, factor, &m, &n);
    if (m != a) return false;
    for (int side = 1; side <= 5; side += 2) {
        if (d % (side * side)) continue;
        split(c * (d / (side * side)), factor, &m, &n);
        if (m == c) return true;
    }
    return false;
}

void lk_lycoris_factor(const lk_lora_file *f, int *factor, bool *both) {
    *factor = f->built && f->built->factor ? f->built->factor : -1;
    *both = f->built && f->built->both;
    if (f->built) return;
    for (int i = 0; i < f->n; i++) *both |= f->part[i].t[LK_SLOT_K1A].x != NULL;
    for (int candidate = 0; candidate <= 1024; candidate++) {
        int i = 0, tried = candidate < 2 ? -1 : candidate;
        while (i < f->n && explains(&f->part[i], tried)) i++;
        if (i == f->n) { *factor = tried; return; }
    }
}
