/* SSIM's 7x7 uniform window on bytes. The five window sums are integers below 2^22: columns are running sums down the rows, seven columns
 * (of one channel: c apart in the interleaved row) make a window, so a pixel costs the same for any window and nothing is rounded
 * before the division by 49. A row's values add over eight lanes, rows in order: the same bits for any number of threads. */
#include "metrics/linalg.h"
#include "metrics/ssim_internal.h"
#include <stdlib.h>
#include <string.h>

enum { TAPS = 7, MAPS = 5, LANES = 16 };
typedef int32_t ints __attribute__((vector_size(64)));
typedef int32_t ints_at __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t half __attribute__((vector_size(32)));
typedef uint8_t bytes_at __attribute__((vector_size(16), aligned(1), may_alias));
#define INTS(p) (*(ints_at *)(p))
#define BYTES(p) __builtin_convertvector(*(const bytes_at *)(p), ints)

/* Columns gain a row of a and b (sign 1) or lose one (-1). n: a multiple of 16, readable. */
LK_CLONES static void add_row(int32_t *column, int64_t n, const uint8_t *a, const uint8_t *b, int32_t sign) {
    for (int64_t x = 0; x < n; x += LANES) {
        ints u = BYTES(a + x), v = BYTES(b + x);
        INTS(column + x) += u * sign;
        INTS(column + n + x) += v * sign;
        INTS(column + 2 * n + x) += u * u * sign;
        INTS(column + 3 * n + x) += v * v * sign;
        INTS(column + 4 * n + x) += u * v * sign;
    }
}
typedef struct { double c1, c2, covariance; } terms;
static inline __attribute__((always_inline)) void similarity(const lk_vec *m, const terms *t, lk_vec *to) {
    lk_vec aa = m[0] * m[0], bb = m[1] * m[1], ab = m[0] * m[1];
    lk_vec va = (m[2] - aa) * t->covariance, vb = (m[3] - bb) * t->covariance, vab = (m[4] - ab) * t->covariance;
    *to = (2.0 * ab + t->c1) * (2.0 * vab + t->c2) / ((aa + bb + t->c1) * (va + vb + t->c2));
}
/* Sums of both halves' lanes of one row of windows; `live` values of it count. */
LK_CLONES static void windows(const int32_t *column, int64_t n, int64_t c, int64_t live, const terms *t, double lane[8]) {
    lk_vec sum = { 0 };
    for (int64_t x = 0; x < live; x += LANES) {
        lk_vec low[MAPS], high[MAPS];
        for (int j = 0; j < MAPS; j++) {
            const int32_t *at = column + j * n + x;
            ints s = INTS(at);
            for (int k = 1; k < TAPS; k++) s += INTS(at + k * c);
            half parts[2];
            memcpy(parts, &s, sizeof parts);
            low[j] = __builtin_convertvector(parts[0], lk_vec) * (1.0 / 49);
            high[j] = __builtin_convertvector(parts[1], lk_vec) * (1.0 / 49);
        }
        lk_vec v[2];
        similarity(low, t, v);
        similarity(high, t, v + 1);
        if (x + LANES > live) {
            double all[LANES];
            memcpy(all, v, sizeof all);
            for (int64_t i = live - x; i < LANES; i++) all[i] = 0;
            memcpy(v, all, sizeof all);
        }
        sum += v[0];
        sum += v[1];
    }
    memcpy(lane, &sum, sizeof sum);
}
typedef struct { const uint8_t *a, *b; int64_t w, c, n; terms t; double *row; } job;
/* A row's bytes with room to read whole vectors beyond its end. */
static const uint8_t *row_of(const job *j, const uint8_t *px, int64_t y, uint8_t *room) { return memcpy(room, px + y * j->w * j->c, (size_t)(j->w * j->c)); }
static void rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const job *j = ctx;
    (void)thread;
    int32_t *column = lk_xcalloc((size_t)(MAPS * j->n + TAPS * j->c + LANES), sizeof *column);
    uint8_t *room = lk_xcalloc((size_t)(2 * j->n), 1);
    for (int64_t y = begin; y < end + TAPS - 1; y++) {
        double lane[8];
        add_row(column, j->n, row_of(j, j->a, y, room), row_of(j, j->b, y, room + j->n), 1);
        int64_t out = y - (TAPS - 1);
        if (out < begin) continue;
        windows(column, j->n, j->c, (j->w - TAPS + 1) * j->c, &j->t, lane);
        j->row[out] = lk_sum(lane, 8);
        add_row(column, j->n, row_of(j, j->a, out, room), row_of(j, j->b, out, room + j->n), -1);
    }
    free(column);
    free(room);
}
double lk_ssim_bytes7(const lk_image *a, const lk_image *b, double covariance, lk_pool *pool) {
    int64_t oh = a->h - TAPS + 1, ow = a->w - TAPS + 1;
    job j = { a->px, b->px, a->w, a->c, ((int64_t)a->w * a->c + LANES - 1) / LANES * LANES, { (.01 * 255) * (.01 * 255), (.03 * 255) * (.03 * 255), covariance }, lk_xmalloc((size_t)oh * sizeof(double)) };
    lk_parallel(pool, oh, 32, rows, &j);
    double mean = lk_sum(j.row, oh) / ((double)oh * (double)ow * a->c);
    free(j.row);
    return mean;
}
