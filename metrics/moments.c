/* Streaming means and centred second moments. Samples are cut into chunks of 256 by absolute index; a chunk is a leaf with its
 * own mean and centred products, leaves join in the dyadic tree of their indices (Chan, Golub & LeVeque 1979), what is left
 * over at the end folds from the right. The state therefore depends on the samples alone, not on how they were fed, and two
 * states that meet at a chunk boundary join to what one would have been. Memory: one node a level. */
#include "metrics/linalg.h"
#include "metrics/metrics.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 256, NODES = 64, TILE = 8 };
typedef struct { int level; int64_t index /* covers chunks [index << level, (index + 1) << level) */, n; double *mean, *m2; } node;
struct lk_moments {
    int64_t d, first, n;         /* n: samples so far, those in `open` included */
    int nodes; node node[NODES]; /* in order of samples; no two neighbours are siblings */
    double *open; int64_t filled;/* the chunk being filled: [CHUNK][d] */
};

lk_moments *lk_moments_new(int64_t d, int64_t first) {
    lk_moments *m = lk_xcalloc(1, sizeof *m);
    m->d = d;
    m->first = first;
    m->open = lk_xmalloc((size_t)(CHUNK * d) * sizeof *m->open);
    return m;
}
static void node_free(node *k) { free(k->mean); free(k->m2); }
void lk_moments_free(lk_moments *m) {
    if (!m) return;
    for (int i = 0; i < m->nodes; i++) node_free(m->node + i);
    free(m->open);
    free(m);
}
static node node_new(int64_t d, int level, int64_t index, int64_t n) {
    return (node){ level, index, n, lk_xcalloc((size_t)d, sizeof(double)), lk_xcalloc((size_t)(d * d), sizeof(double)) };
}
static node node_copy(const node *k, int64_t d) {
    node c = node_new(d, k->level, k->index, k->n);
    memcpy(c.mean, k->mean, (size_t)d * sizeof(double));
    memcpy(c.m2, k->m2, (size_t)(d * d) * sizeof(double));
    return c;
}

/* out[8 columns] for rows i..i+3: sums over samples in increasing order. panel: [n][8], x: [n][d] centred. */
LK_CLONES static void products(const double *x, int64_t d, int64_t n, int64_t i, const double *panel, double out[4][TILE]) {
    lk_vec s0 = { 0 }, s1 = { 0 }, s2 = { 0 }, s3 = { 0 };
    for (int64_t k = 0; k < n; k++) {
        lk_vec p = LK_AT(panel + k * TILE);
        const double *row = x + k * d + i;
        s0 += p * row[0];
        s1 += p * row[1];
        s2 += p * row[2];
        s3 += p * row[3];
    }
    LK_AT(out[0]) = s0;
    LK_AT(out[1]) = s1;
    LK_AT(out[2]) = s2;
    LK_AT(out[3]) = s3;
}
/* The leaf of n samples x[n][d]. */
static node leaf(const double *samples, int64_t n, int64_t d, int64_t index) {
    node k = node_new(d, 0, index, n);
    int64_t wide = (d + TILE - 1) / TILE * TILE;
    double *x = lk_xcalloc((size_t)(n * wide + n * TILE), sizeof *x), *panel = x + n * wide, out[4][TILE];
    for (int64_t i = 0; i < n; i++) for (int64_t j = 0; j < d; j++) k.mean[j] += samples[i * d + j];
    for (int64_t j = 0; j < d; j++) k.mean[j] /= (double)n;
    for (int64_t i = 0; i < n; i++) for (int64_t j = 0; j < d; j++) x[i * wide + j] = samples[i * d + j] - k.mean[j];
    for (int64_t j = 0; j < wide; j += TILE) {
        for (int64_t i = 0; i < n; i++) memcpy(panel + i * TILE, x + i * wide + j, sizeof out[0]);
        for (int64_t i = 0; i < j + TILE; i += 4) {
            products(x, wide, n, i, panel, out);
            for (int r = 0; r < 4; r++) for (int c = 0; c < TILE; c++)
                if (i + r < d && j + c < d && i + r <= j + c) k.m2[(i + r) * d + j + c] = k.m2[(j + c) * d + i + r] = out[r][c];
        }
    }
    free(x);
    return k;
}
/* a := a and b together. */
static void join(node *a, const node *b, int64_t d) {
    double na = (double)a->n, nb = (double)b->n, n = na + nb, *delta = lk_xmalloc((size_t)d * sizeof *delta);
    for (int64_t j = 0; j < d; j++) delta[j] = b->mean[j] - a->mean[j];
    for (int64_t i = 0; i < d; i++) for (int64_t j = 0; j < d; j++)
        a->m2[i * d + j] = (a->m2[i * d + j] + b->m2[i * d + j]) + delta[i] * delta[j] * (na * nb / n);
    for (int64_t j = 0; j < d; j++) a->mean[j] += delta[j] * (nb / n);
    a->n += b->n;
    free(delta);
}
static void push(lk_moments *m, node k) {
    m->node[m->nodes++] = k;
    while (m->nodes > 1) {
        node *a = m->node + m->nodes - 2, *b = a + 1;
        if (a->level != b->level || (a->index & 1) || b->index != a->index + 1) break;
        join(a, b, m->d);
        node_free(b);
        a->level++;
        a->index /= 2;
        m->nodes--;
    }
}
static int64_t chunk_index(const lk_moments *m) { return (m->first + m->n - m->filled) / CHUNK; }

lk_err lk_moments_add(lk_moments *m, const double *x, int64_t n) {
    if (m->d < 1) return lk_error(LK_EINPUT, "moments: dimension %lld", (long long)m->d);
    for (int64_t i = 0; i < n; i++) for (int64_t j = 0; j < m->d; j++)
        if (!isfinite(x[i * m->d + j]))
            return lk_error(LK_ENUM, "moments: sample %lld has %g at feature %lld", (long long)(m->first + m->n + i), x[i * m->d + j], (long long)j);
    for (int64_t i = 0; i < n; i++) {
        memcpy(m->open + m->filled * m->d, x + i * m->d, (size_t)m->d * sizeof *x);
        m->n++;
        if (++m->filled < CHUNK) continue;
        node k = leaf(m->open, CHUNK, m->d, chunk_index(m));
        m->filled = 0;
        push(m, k);
    }
    return LK_OK;
}
lk_err lk_moments_merge(lk_moments *into, const lk_moments *later) {
    if (into->d != later->d) return lk_error(LK_EINPUT, "moments: dimensions %lld and %lld", (long long)into->d, (long long)later->d);
    if (into->filled || into->first + into->n != later->first)
        return lk_error(LK_EINPUT, "moments: the first state covers samples %lld to %lld, the second begins at %lld; states join where the first ends, "
                        "at a multiple of %d", (long long)into->first, (long long)(into->first + into->n), (long long)later->first, CHUNK);
    for (int i = 0; i < later->nodes; i++) push(into, node_copy(later->node + i, into->d));
    memcpy(into->open, later->open, (size_t)(later->filled * into->d) * sizeof(double));
    into->filled = later->filled;
    into->n += later->n;
    return LK_OK;
}
lk_err lk_moments_get(const lk_moments *m, int64_t *n, double *mean, double *cov) {
    if (m->n < 2) return lk_error(LK_EINPUT, "moments: %lld samples, a covariance needs at least 2", (long long)m->n);
    int64_t d = m->d;
    node sum = { 0 };
    bool have = m->filled > 0;
    if (have) sum = leaf(m->open, m->filled, d, 0);
    for (int i = m->nodes - 1; i >= 0; i--) {
        node k = node_copy(m->node + i, d);
        if (have) {
            join(&k, &sum, d);
            node_free(&sum);
        }
        sum = k;
        have = true;
    }
    *n = sum.n;
    memcpy(mean, sum.mean, (size_t)d * sizeof *mean);
    for (int64_t i = 0; i < d * d; i++) cov[i] = sum.m2[i] / (double)(sum.n - 1);
    node_free(&sum);
    return LK_OK;
}

/* ---- files: one tensor of integers, one of means, products and the open chunk ------------------------------------------------- */
void lk_moments_pack(const lk_moments *m, int64_t **integers, int64_t *n_integers, double **values, int64_t *n_values) {
    int64_t d = m->d, each = d + d * d, *head = lk_xmalloc((6 + 3 * NODES) * sizeof *head);
    double *body = lk_xmalloc((size_t)(m->nodes * each + m->filled * d + 1) * sizeof *body), *at = body;
    memcpy(head, (int64_t[]){ 1, d, m->first, m->n, m->nodes, m->filled }, 6 * sizeof *head);
    for (int i = 0; i < m->nodes; i++) {
        const node *k = m->node + i;
        memcpy(head + 6 + 3 * i, (int64_t[]){ k->level, k->index, k->n }, 3 * sizeof *head);
        memcpy(at, k->mean, (size_t)d * sizeof *at);
        memcpy(at + d, k->m2, (size_t)(d * d) * sizeof *at);
        at += each;
    }
    memcpy(at, m->open, (size_t)(m->filled * d) * sizeof *at);
    *integers = head;
    *n_integers = 6 + 3 * m->nodes;
    *values = body;
    *n_values = m->nodes * each + m->filled * d;
}
lk_err lk_moments_unpack(const lk_tensor *s, const lk_tensor *v, const char *path, lk_moments **out) {
    int64_t head[6 + 3 * NODES] = { 0 };
    if (s->numel < 6 || s->numel > 6 + 3 * NODES) return lk_error(LK_EINPUT, "%s: state of %lld integers", path, (long long)s->numel);
    LK_TRY(lk_st_i64(s, head));
    int64_t d = head[1], each = d + d * d, nodes = head[4], filled = head[5];
    if (head[0] != 1 || d < 1 || d > 1 << 20 || nodes < 0 || s->numel != 6 + 3 * nodes || filled < 0 || filled >= CHUNK || v->numel != nodes * each + filled * d)
        return lk_error(LK_EINPUT, "%s: not a state of moments, or damaged (dimension %lld, %lld nodes, %lld values)", path, (long long)d, (long long)nodes, (long long)v->numel);
    double *body = lk_xmalloc((size_t)(v->numel + 1) * sizeof *body);
    lk_err e = lk_st_f64(v, body);
    lk_moments *m = lk_moments_new(d, head[2]);
    m->n = head[3];
    m->filled = filled;
    for (int i = 0; i < nodes; i++) {
        node k = node_new(d, (int)head[6 + 3 * i], head[7 + 3 * i], head[8 + 3 * i]);
        memcpy(k.mean, body + i * each, (size_t)d * sizeof(double));
        memcpy(k.m2, body + i * each + d, (size_t)(d * d) * sizeof(double));
        m->node[m->nodes++] = k;
    }
    memcpy(m->open, body + nodes * each, (size_t)(filled * d) * sizeof(double));
    free(body);
    if (e) lk_moments_free(m); else *out = m;
    return e;
}
lk_err lk_moments_save(const lk_moments *m, const char *path) {
    int64_t *head, n, k;
    double *body;
    lk_moments_pack(m, &head, &n, &body, &k);
    lk_st_item items[] = { { "state", LK_ST_I64, 1, { n }, head }, { "values", LK_ST_F64, 1, { k }, body } };
    lk_err e = lk_st_write(path, items, 2, (const char *const[]){ "kind", "likeness moments", NULL });
    free(head);
    free(body);
    return e;
}
lk_err lk_moments_load(const char *path, lk_moments **out) {
    lk_st *st;
    const lk_tensor *s, *v;
    LK_TRY(lk_st_open(path, &st));
    lk_err e = lk_st_get(st, "state", &s);
    if (!e) e = lk_st_get(st, "values", &v);
    if (!e) e = lk_moments_unpack(s, v, path, out);
    lk_st_close(st);
    return e;
}
