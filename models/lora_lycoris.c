/* LoHa, LoKr and full differences: shapes of their factors, their deltas as nodes and on the host, what their files must hold. See lora_file.h.
 * A convolution's delta is that of the flattened weight [out, in kh kw]; only a whole W2 of LoKr keeps the kernel's axes. */
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

static void loha_shapes(int64_t rows, int64_t columns, int64_t r, lk_shape t[LK_SLOT_COUNT]) {
    t[LK_SLOT_H1A] = t[LK_SLOT_H2A] = LK_SHAPE(rows, r);
    t[LK_SLOT_H1B] = t[LK_SLOT_H2B] = LK_SHAPE(r, columns);
}

static void lokr_shapes(const lk_lora_config *c, lk_shape w, int64_t r, lk_shape t[LK_SLOT_COUNT]) {
    int64_t a, b, cc, d, kernel = w.rank == 4 ? w.d[2] * w.d[3] : 1;
    split(w.d[0], c->factor ? c->factor : -1, &a, &b);
    split(w.d[1], c->factor ? c->factor : -1, &cc, &d);
    if (c->both && 2 * r < (a > cc ? a : cc)) { t[LK_SLOT_K1A] = LK_SHAPE(a, r); t[LK_SLOT_K1B] = LK_SHAPE(r, cc); }
    else t[LK_SLOT_K1] = LK_SHAPE(a, cc);
    if (2 * r < (b > d ? b : d)) { t[LK_SLOT_K2A] = LK_SHAPE(b, r); t[LK_SLOT_K2B] = LK_SHAPE(r, d * kernel); }
    else t[LK_SLOT_K2] = w.rank == 4 ? LK_SHAPE(b, d, w.d[2], w.d[3]) : LK_SHAPE(b, d);
}

void lk_lora_shapes(const lk_lora_config *c, lk_shape w, int groups, int r, lk_shape t[LK_SLOT_COUNT]) {
    memset(t, 0, LK_SLOT_COUNT * sizeof *t);
    if (c->kind == LK_LOHA) loha_shapes(w.d[0], lk_numel(w) / w.d[0], r, t);
    else if (c->kind == LK_LOKR) lokr_shapes(c, w, r, t);
    else if (c->kind == LK_FULL) t[LK_SLOT_DIFF] = w;
    else {
        t[LK_SLOT_A] = w.rank == 4 ? LK_SHAPE(r, w.d[1] * groups, w.d[2], w.d[3]) : LK_SHAPE(r, w.d[1]);
        t[LK_SLOT_B] = w.rank == 4 ? LK_SHAPE(w.d[0], r / groups, 1, 1) : LK_SHAPE(w.d[0], r);
        if (c->kind == LK_DORA) t[LK_SLOT_MAGNITUDE] = w.rank == 4 ? LK_SHAPE(1, w.d[0], 1, 1) : LK_SHAPE(w.d[0]);
    }
}

/* ---- as nodes ------------------------------------------------------------------------------------------------------------ */

static lk_val as_matrix(lk_graph *g, lk_val v) {
    lk_shape s = lk_shape_of(g, v);
    return lk_reshape(g, v, LK_SHAPE(s.d[0], lk_numel(s) / s.d[0]));
}
static lk_val product(lk_graph *g, lk_val a, lk_val b) { return lk_matmul(g, as_matrix(g, a), as_matrix(g, b), LK_NONE, (lk_mm){ 0 }); }
static lk_val whole_or_product(lk_graph *g, lk_val whole, lk_val a, lk_val b) { return lk_ok(whole) ? as_matrix(g, whole) : product(g, a, b); }

static lk_val kron(lk_graph *g, lk_val x, lk_val y) {
    lk_shape s = lk_shape_of(g, x), t = lk_shape_of(g, y);
    lk_val all = lk_mul(g, lk_reshape(g, x, LK_SHAPE(s.d[0], 1, s.d[1], 1)), lk_reshape(g, y, LK_SHAPE(1, t.d[0], 1, t.d[1])));
    return lk_reshape(g, all, LK_SHAPE(s.d[0] * t.d[0], s.d[1] * t.d[1]));
}

lk_val lk_lora_delta_node(lk_graph *g, lk_lora_kind kind, const lk_val t[LK_SLOT_COUNT]) {
    if (kind == LK_LOHA) return lk_mul(g, product(g, t[LK_SLOT_H1A], t[LK_SLOT_H1B]), product(g, t[LK_SLOT_H2A], t[LK_SLOT_H2B]));
    if (kind == LK_LOKR) return kron(g, whole_or_product(g, t[LK_SLOT_K1], t[LK_SLOT_K1A], t[LK_SLOT_K1B]), whole_or_product(g, t[LK_SLOT_K2], t[LK_SLOT_K2A], t[LK_SLOT_K2B]));
    if (kind == LK_FULL) return as_matrix(g, t[LK_SLOT_DIFF]);
    return product(g, t[LK_SLOT_B], t[LK_SLOT_A]);
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
static matrix whole_of(const lk_lora_array *whole, const lk_lora_array *a, const lk_lora_array *b) {
    if (!whole->x) return product_of(a, b);
    matrix m = { whole->s.d[0], lk_numel(whole->s) / whole->s.d[0], lk_xcalloc((size_t)lk_numel(whole->s), sizeof *m.x) };
    for (int64_t i = 0; i < lk_numel(whole->s); i++) m.x[i] = whole->x[i];
    return m;
}

void lk_lycoris_delta(lk_lora_kind kind, const lk_lora_part *p, double scale, double *out) {
    const lk_lora_array *t = p->t;
    if (kind == LK_FULL) { for (int64_t i = 0; i < lk_numel(t[LK_SLOT_DIFF].s); i++) out[i] = scale * t[LK_SLOT_DIFF].x[i]; return; }
    matrix x = kind == LK_LOHA ? product_of(&t[LK_SLOT_H1A], &t[LK_SLOT_H1B]) : whole_of(&t[LK_SLOT_K1], &t[LK_SLOT_K1A], &t[LK_SLOT_K1B]);
    matrix y = kind == LK_LOHA ? product_of(&t[LK_SLOT_H2A], &t[LK_SLOT_H2B]) : whole_of(&t[LK_SLOT_K2], &t[LK_SLOT_K2A], &t[LK_SLOT_K2B]);
    if (kind == LK_LOHA) for (int64_t i = 0; i < x.rows * x.columns; i++) out[i] = scale * x.x[i] * y.x[i];
    else
        for (int64_t a = 0; a < x.rows; a++)
            for (int64_t b = 0; b < y.rows; b++)
                for (int64_t c = 0; c < x.columns; c++)
                    for (int64_t d = 0; d < y.columns; d++) out[((a * y.rows + b) * x.columns + c) * y.columns + d] = scale * x.x[a * x.columns + c] * y.x[b * y.columns + d];
    free(x.x);
    free(y.x);
}

static void size_of_pair(const lk_lora_part *p, int whole, int a, int b, int64_t *rows, int64_t *columns) {
    const lk_lora_array *t = p->t;
    *rows = t[whole].x ? t[whole].s.d[0] : t[a].s.d[0];
    *columns = t[whole].x ? lk_numel(t[whole].s) / *rows : lk_numel(t[b].s) / t[b].s.d[0];
}
void lk_lycoris_size(lk_lora_kind kind, const lk_lora_part *p, int64_t *rows, int64_t *columns) {
    int64_t r2, c2;
    if (kind == LK_FULL) { *rows = p->t[LK_SLOT_DIFF].s.d[0]; *columns = lk_numel(p->t[LK_SLOT_DIFF].s) / *rows; return; }
    if (kind == LK_LOHA) { *rows = p->t[LK_SLOT_H1A].s.d[0]; *columns = p->t[LK_SLOT_H1B].s.d[1]; return; }
    size_of_pair(p, LK_SLOT_K1, LK_SLOT_K1A, LK_SLOT_K1B, rows, columns);
    size_of_pair(p, LK_SLOT_K2, LK_SLOT_K2A, LK_SLOT_K2B, &r2, &c2);
    *rows *= r2;
    *columns *= c2;
}

/* ---- files -------------------------------------------------------------------------------------------------------------------- */

static lk_err check_product(const lk_lora_entries *f, lk_lora_entry *e, int a, int b) {
    const lk_tensor *x = e->t[a], *y = e->t[b];
    if (!x || !y) return lk_error(LK_EINPUT, "%s: %s of module '%s' is missing", f->path, lk_lora_leaves[y ? a : b].kohya, e->name);
    if (x->rank != 2 || y->rank != 2 || x->d[1] < 1 || x->d[1] != y->d[0] || x->d[1] > 1 << 20 || (e->r && e->r != x->d[1]))
        return lk_error(LK_ESHAPE, "%s: '%s' and '%s' must be matrices [.., r] and [r, ..] of one rank a module", f->path, x->name, y->name);
    e->r = (int)x->d[1];
    return LK_OK;
}

static lk_err check_whole_or_product(const lk_lora_entries *f, lk_lora_entry *e, int whole, int a, int b) {
    const lk_tensor *w = e->t[whole];
    if (!w) return check_product(f, e, a, b);
    if (e->t[a] || e->t[b]) return lk_error(LK_EINPUT, "%s: module '%s' has %s both whole and as a product", f->path, e->name, lk_lora_leaves[whole].kohya);
    if ((w->rank != 2 && w->rank != 4) || !w->numel) return lk_error(LK_ESHAPE, "%s: '%s' has %d axes; expected 2, or 4 of a convolution", f->path, w->name, w->rank);
    return LK_OK;
}

lk_err lk_lycoris_check(const lk_lora_entries *f, lk_lora_entry *e) {
    if (e->t[LK_SLOT_A] || e->t[LK_SLOT_B] || e->t[LK_SLOT_MAGNITUDE]) return lk_error(LK_EINPUT, "%s: module '%s' has LoRA's halves, others of the file another kind's", f->path, e->name);
    for (int i = 0; i < LK_SLOT_COUNT; i++) {
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
        LK_TRY(check_product(f, e, LK_SLOT_H1A, LK_SLOT_H1B));
        LK_TRY(check_product(f, e, LK_SLOT_H2A, LK_SLOT_H2B));
        const lk_tensor *a1 = e->t[LK_SLOT_H1A], *b1 = e->t[LK_SLOT_H1B], *a2 = e->t[LK_SLOT_H2A], *b2 = e->t[LK_SLOT_H2B];
        if (a1->d[0] == a2->d[0] && b1->d[1] == b2->d[1]) return LK_OK;
        return lk_error(LK_ESHAPE, "%s: module '%s': hada_w1 gives a matrix of %lld x %lld, hada_w2 one of %lld x %lld; they are multiplied element by element", f->path, e->name,
                        (long long)a1->d[0], (long long)b1->d[1], (long long)a2->d[0], (long long)b2->d[1]);
    }
    LK_TRY(check_whole_or_product(f, e, LK_SLOT_K1, LK_SLOT_K1A, LK_SLOT_K1B));
    return check_whole_or_product(f, e, LK_SLOT_K2, LK_SLOT_K2A, LK_SLOT_K2B);
}

/* The split that explains every module's factors. Kernels of 1, 3 and 5 a side are tried: a product does not tell its kernel. */
static bool explains(const lk_lora_part *p, int factor) {
    int64_t a, b, c, d, m, n;
    size_of_pair(p, LK_SLOT_K1, LK_SLOT_K1A, LK_SLOT_K1B, &a, &c);
    size_of_pair(p, LK_SLOT_K2, LK_SLOT_K2A, LK_SLOT_K2B, &b, &d);
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
    *factor = -1;
    *both = false;
    for (int i = 0; i < f->n; i++) *both |= f->part[i].t[LK_SLOT_K1A].x != NULL;
    for (int candidate = 0; candidate <= 1024; candidate++) {
        int i = 0, tried = candidate < 2 ? -1 : candidate;
        while (i < f->n && explains(&f->part[i], tried)) i++;
        if (i == f->n) { *factor = tried; return; }
    }
}
