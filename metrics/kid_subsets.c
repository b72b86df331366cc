/* KID over subsets. Subsets overlap: 100 of 1000 from 5000 samples ask for the same kernel value five times over, so where there are fewer
 * pairs of samples than pairs in subsets, every pair is computed once, tile by tile, and each subset takes its share of the tile. Else
 * subset by subset. Either way a sum has one order: the same bits for any number of threads. Shared pairs of binary32 features are
 * multiplied in binary32, as torch-fidelity, torchmetrics and clean-fid do, but cubed and summed in binary64: an entry is off by a few 1e-7 at
 * random, a mean over a million pairs by less than 1e-9. */
#include "metrics/linalg.h"
#include "metrics/metrics.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static double cubic(double dot, double d) {
    double k = dot / d + 1;
    return k * k * k;
}
/* A subset list sorted, with the place where each block of LK_TILE samples begins. */
typedef struct { int64_t s, m, blocks, *index, *begin; } lists;
static int by_index(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}
static void lists_free(lists *l) { free(l->index); free(l->begin); }
/* false: a subset names a sample twice. */
static bool lists_of(const int64_t *index, int64_t s, int64_t m, int64_t n, lists *l) {
    bool once = true;
    *l = (lists){ s, m, (n + LK_TILE - 1) / LK_TILE, lk_xmalloc((size_t)(s * m) * sizeof(int64_t)), NULL };
    l->begin = lk_xmalloc((size_t)(s * (l->blocks + 1)) * sizeof(int64_t));
    memcpy(l->index, index, (size_t)(s * m) * sizeof *index);
    for (int64_t k = 0; k < s; k++) {
        int64_t *own = l->index + k * m, at = 0;
        qsort(own, (size_t)m, sizeof *own, by_index);
        for (int64_t b = 0; b <= l->blocks; b++) {
            while (at < m && own[at] < b * LK_TILE) at++;
            l->begin[k * (l->blocks + 1) + b] = at;
        }
        for (int64_t i = 1; i < m; i++) once &= own[i] != own[i - 1];
    }
    return once;
}
/* sum[block of rows][s]: kernel sums over each subset's pairs; of a set with itself without the diagonal, both triangles. */
typedef struct { const lists *rows, *columns; double d, *sum; bool half; } share_job;
typedef double tile_row[LK_TILE];
LK_CLONES static void kernel_of(double *v, double d) {
    for (int i = 0; i < LK_TILE * LK_TILE; i++) v[i] = cubic(v[i], d);
}
/* Sum of k over the rows (from `row` on) and columns named: rows are added as they are, then the columns wanted are taken. */
LK_CLONES static double sum_over(const tile_row *k, const int64_t *row, int64_t rows, int64_t i, const int64_t *column, int64_t columns, int64_t j) {
    lk_vec s[LK_TILE / 8] = { { 0 } };
    double each[LK_TILE], sum = 0;
    for (int64_t r = 0; r < rows; r++) for (int v = 0; v < LK_TILE / 8; v++) s[v] += LK_AT(k[row[r] - i] + 8 * v);
    memcpy(each, s, sizeof each);
    for (int64_t c = 0; c < columns; c++) sum += each[column[c] - j];
    return sum;
}
static void share(void *ctx, const lk_tile *t) {
    const share_job *j = ctx;
    int64_t a = t->i / LK_TILE, b = t->j / LK_TILE;
    kernel_of(t->v, j->d);
    for (int64_t r = 0; j->half && a == b && r < LK_TILE; r++) t->v[r * (LK_TILE + 1)] = 0;
    for (int64_t s = 0; s < j->rows->s; s++) {
        const int64_t *rb = j->rows->begin + s * (j->rows->blocks + 1) + a, *cb = j->columns->begin + s * (j->columns->blocks + 1) + b;
        double sum = sum_over((const tile_row *)t->v, j->rows->index + s * j->rows->m + rb[0], rb[1] - rb[0], t->i, j->columns->index + s * j->columns->m + cb[0], cb[1] - cb[0], t->j);
        j->sum[a * j->rows->s + s] += j->half && b > a ? 2 * sum : sum;
    }
}
static void add_shared(const double *x, int64_t n, const lists *lx, const double *y, int64_t m, const lists *ly, int64_t d, lk_gram_way way, lk_pool *pool, double factor, double *values) {
    share_job j = { lx, ly, (double)d, lk_xcalloc((size_t)(lx->blocks * lx->s), sizeof(double)), way.half };
    lk_gram_tiles(x, n, y, m, d, way, pool, share, &j);
    for (int64_t s = 0; s < lx->s; s++) {
        double sum = 0;
        for (int64_t b = 0; b < lx->blocks; b++) sum += j.sum[b * lx->s + s];
        values[s] += factor * sum;
    }
    free(j.sum);
}
/* Features of networks are binary32 numbers: their products may be too. Beyond 1e16 a sum of them could overflow. */
static bool binary32(const double *x, int64_t n) {
    bool all = true;
    for (int64_t i = 0; i < n; i++) all &= (double)(float)x[i] == x[i] && fabs(x[i]) < 1e16;
    return all;
}
static void all_pairs_once(const double *x, int64_t nx, const lists *lx, const double *y, int64_t ny, const lists *ly, int64_t d, lk_pool *pool, double *values) {
    double m = (double)lx->m;
    bool f32 = binary32(x, nx * d) && binary32(y, ny * d);
    memset(values, 0, (size_t)lx->s * sizeof *values);
    add_shared(x, nx, lx, x, nx, lx, d, (lk_gram_way){ true, f32 }, pool, 1 / (m * (m - 1)), values);
    add_shared(y, ny, ly, y, ny, ly, d, (lk_gram_way){ true, f32 }, pool, 1 / (m * (m - 1)), values);
    add_shared(x, nx, lx, y, ny, ly, d, (lk_gram_way){ false, f32 }, pool, -2 / (m * m), values);
}
static double kernel_sum(const double *x, const double *y, int64_t m, int64_t d, lk_pool *pool, double *k) {
    double diagonal = 0;
    lk_gram(x, m, y, m, d, pool, k);
    for (int64_t i = 0; i < m * m; i++) k[i] = cubic(k[i], (double)d);
    for (int64_t i = 0; x == y && i < m; i++) diagonal += k[i * m + i];
    return lk_sum(k, m * m) - diagonal;
}
static void one_by_one(const double *x, const double *y, int64_t d, const int64_t *ix, const int64_t *iy, int64_t s, int64_t m, lk_pool *pool, double *values) {
    double *a = lk_xmalloc((size_t)(2 * m * d + m * m) * sizeof *a), *b = a + m * d, *k = b + m * d, n = (double)m;
    for (int64_t i = 0; i < s; i++) {
        for (int64_t j = 0; j < m; j++) {
            memcpy(a + j * d, x + ix[i * m + j] * d, (size_t)d * sizeof *x);
            memcpy(b + j * d, y + iy[i * m + j] * d, (size_t)d * sizeof *y);
        }
        values[i] = (kernel_sum(a, a, m, d, pool, k) + kernel_sum(b, b, m, d, pool, k)) / (n * (n - 1)) - 2 * kernel_sum(a, b, m, d, pool, k) / (n * n);
    }
    free(a);
}
lk_err lk_kid_subsets(const double *x, int64_t nx, const double *y, int64_t ny, int64_t d, const int64_t *ix, const int64_t *iy, int64_t s, int64_t m, lk_pool *pool,
                      double *values, double *mean, double *sd0) {
    if (d < 1 || nx < 2 || ny < 2) return lk_error(LK_EINPUT, "KID: sets of %lld and %lld samples of %lld features; at least 2 samples each", (long long)nx, (long long)ny, (long long)d);
    if (s < 1 || m < 2) return lk_error(LK_EINPUT, "KID: %lld subsets of %lld samples; at least 1 of 2", (long long)s, (long long)m);
    for (int64_t i = 0; i < s * m; i++)
        if (ix[i] < 0 || ix[i] >= nx || iy[i] < 0 || iy[i] >= ny)
            return lk_error(LK_EINPUT, "KID: subset entry %lld names samples %lld and %lld of %lld and %lld", (long long)i, (long long)ix[i], (long long)iy[i], (long long)nx, (long long)ny);
    double *v = lk_xmalloc((size_t)s * sizeof *v), squares = 0, pairs = (double)nx * (double)nx / 2 + (double)ny * (double)ny / 2 + (double)nx * (double)ny;
    lists lx, ly;
    bool once = lists_of(ix, s, m, nx, &lx);
    once = lists_of(iy, s, m, ny, &ly) && once;
    if (once && pairs < 2 * (double)s * (double)m * (double)m) all_pairs_once(x, nx, &lx, y, ny, &ly, d, pool, v);
    else one_by_one(x, y, d, ix, iy, s, m, pool, v);
    lists_free(&lx);
    lists_free(&ly);
    *mean = lk_sum(v, s) / (double)s;
    for (int64_t i = 0; i < s; i++) squares += (v[i] - *mean) * (v[i] - *mean);
    *sd0 = sqrt(squares / (double)s);
    if (values) memcpy(values, v, (size_t)s * sizeof *v);
    free(v);
    return isfinite(*mean) ? LK_OK : lk_error(LK_ENUM, "KID: the result is %g; a feature is NaN, infinite or too large", *mean);
}
lk_err lk_kid_draw(int64_t n, int64_t s, int64_t m, uint64_t seed, const char *stream, int64_t *out) {
    if (m > n || m < 1 || n > UINT32_MAX) return lk_error(LK_EINPUT, "KID: subsets of %lld from %lld samples; at most all of them", (long long)m, (long long)n);
    uint64_t key = lk_stream_key(seed, stream);
    int64_t *deck = lk_xmalloc((size_t)n * sizeof *deck);
    for (int64_t i = 0; i < s; i++) {
        for (int64_t j = 0; j < n; j++) deck[j] = j;
        for (int64_t j = 0; j < m; j++) {             /* Fisher-Yates, the first m places */
            int64_t k = j + lk_philox_below(key, (uint64_t)i, 0, (uint64_t)j, (uint32_t)(n - j)), t = deck[j];
            out[i * m + j] = deck[k];
            deck[k] = t;
        }
    }
    free(deck);
    return LK_OK;
}
