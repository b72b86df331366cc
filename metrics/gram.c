/* Gram matrices (linalg.h) in tiles of 32 x 32 rows, whose rows stay in the second cache. A vector's lanes are lk_dot's lanes, so the bits are
 * lk_dot's on every instruction set and for any number of threads. */
#include "metrics/linalg.h"
#include "base/base.h"      /* lk_xaligned, lk_parallel */
#include <stdlib.h>         /* free */
#include <string.h>         /* memcpy */

enum { TILE = LK_TILE, ROWS = 4, NEAR = 256 };
typedef float floats __attribute__((vector_size(64)));
typedef float eight_floats __attribute__((vector_size(32)));
#define INLINE static inline __attribute__((always_inline))

/* ---- lanes to sums, eight vectors at once: lane i + lane i + 4, then + 2, then + 1, lk_dot's order --------------------------------- */
#define PICK __builtin_shufflevector
INLINE void fold(const lk_vec *v, double *out) {
    lk_vec p[4], q[2];
    for (int i = 0; i < 4; i++) p[i] = PICK(v[2 * i], v[2 * i + 1], 0, 1, 2, 3, 8, 9, 10, 11) + PICK(v[2 * i], v[2 * i + 1], 4, 5, 6, 7, 12, 13, 14, 15);
    for (int i = 0; i < 2; i++) q[i] = PICK(p[2 * i], p[2 * i + 1], 0, 1, 4, 5, 8, 9, 12, 13) + PICK(p[2 * i], p[2 * i + 1], 2, 3, 6, 7, 10, 11, 14, 15);
    LK_AT(out) = PICK(q[0], q[1], 0, 2, 4, 6, 8, 10, 12, 14) + PICK(q[0], q[1], 1, 3, 5, 7, 9, 11, 13, 15);
}
INLINE void widen(const lk_vec *from, lk_vec *to) { *to = *from; }
INLINE void widen_f32(const floats *from, lk_vec *to) {
    eight_floats half[2];
    memcpy(half, from, sizeof half);
    *to = __builtin_convertvector(half[0], lk_vec) + __builtin_convertvector(half[1], lk_vec);
}

/* ---- four rows of x against m (a multiple of 8, at most TILE) of y: sixteen sums in registers ---------------------------------------- */
#define GRAM_ROWS(name, element, vec, widened)                                                                              \
    LK_CLONES static void name(const element *x0, int64_t ld, const element *y, int64_t m, double *out) {                   \
        const element *x1 = x0 + ld, *x2 = x1 + ld, *x3 = x2 + ld;                                                          \
        lk_vec wide[ROWS][8];                                                                                               \
        for (int64_t j = 0; j < m; j += 4) {                                                                                \
            const element *y0 = y + j * ld, *y1 = y0 + ld, *y2 = y1 + ld, *y3 = y2 + ld;                                    \
            vec s[ROWS][4] = { { { 0 } } };                                                                                 \
            for (int64_t k = 0; k < ld; k += (int64_t)(sizeof(vec) / sizeof(element))) {                                    \
                vec a0 = *(const vec *)(x0 + k), a1 = *(const vec *)(x1 + k), a2 = *(const vec *)(x2 + k), a3 = *(const vec *)(x3 + k), b = *(const vec *)(y0 + k); \
                s[0][0] += a0 * b; s[1][0] += a1 * b; s[2][0] += a2 * b; s[3][0] += a3 * b;                                 \
                b = *(const vec *)(y1 + k);                                                                                 \
                s[0][1] += a0 * b; s[1][1] += a1 * b; s[2][1] += a2 * b; s[3][1] += a3 * b;                                 \
                b = *(const vec *)(y2 + k);                                                                                 \
                s[0][2] += a0 * b; s[1][2] += a1 * b; s[2][2] += a2 * b; s[3][2] += a3 * b;                                 \
                b = *(const vec *)(y3 + k);                                                                                 \
                s[0][3] += a0 * b; s[1][3] += a1 * b; s[2][3] += a2 * b; s[3][3] += a3 * b;                                 \
            }                                                                                                               \
            for (int i = 0; i < ROWS; i++) for (int c = 0; c < 4; c++) widened(&s[i][c], &wide[i][(j & 4) + c]);            \
            for (int i = 0; (j & 4) && i < ROWS; i++) fold(wide[i], out + i * TILE + j - 4);                                \
        }                                                                                                                   \
    }
GRAM_ROWS(gram_rows, double, lk_vec, widen)
GRAM_ROWS(gram_rows_f32, float, floats, widen_f32)

/* ---- tiles ---------------------------------------------------------------------------------------------------------------------- */
/* Rows padded with zeros to an odd number of vectors (a power of two apart they would share a few sets of the cache), their number to TILE. */
static void *padded(const double *x, int64_t n, int64_t d, int64_t ld, bool f32) {
    int64_t rows = (n + TILE - 1) / TILE * TILE;
    size_t each = f32 ? sizeof(float) : sizeof(double);
    char *p = lk_xaligned((size_t)(rows * ld) * each);
    memset(p, 0, (size_t)(rows * ld) * each);
    for (int64_t i = 0; i < n; i++) {
        float *to = (float *)(void *)(p + (size_t)(i * ld) * each);
        if (f32) for (int64_t k = 0; k < d; k++) to[k] = (float)x[i * d + k];
        else memcpy(to, x + i * d, (size_t)d * sizeof *x);
    }
    return p;
}
typedef struct { const void *x, *y; int64_t n, m, ld, blocks; lk_gram_way way; lk_tile_fn fn; void *ctx; } gram_job;
/* Rows i .. of x with rows begin .. end - 1 of y. */
static void gram_block(const gram_job *g, int64_t i, int64_t begin, int64_t end) {
    double tile[TILE * TILE];
    for (int64_t j = g->way.half && i > begin ? i : begin; j < end; j += TILE) {
        int64_t rows = g->n - i < TILE ? g->n - i : TILE, columns = g->m - j < TILE ? g->m - j : TILE, m = (columns + 7) / 8 * 8;
        for (int64_t r = 0; r < rows; r += ROWS) {
            if (g->way.f32) gram_rows_f32((const float *)g->x + (i + r) * g->ld, g->ld, (const float *)g->y + j * g->ld, m, tile + r * TILE);
            else gram_rows((const double *)g->x + (i + r) * g->ld, g->ld, (const double *)g->y + j * g->ld, m, tile + r * TILE);
        }
        g->fn(g->ctx, &(lk_tile){ i, rows, j, columns, tile });
    }
}
/* NEAR rows of y at a time, which all rows of x meet while the last cache holds them. Of a triangle a long row of tiles and a short one
 * together, so that threads get equal shares. */
static void gram_part(void *ctx, int64_t begin, int64_t end, int thread) {
    const gram_job *g = ctx;
    (void)thread;
    for (int64_t j = 0; j < g->m; j += NEAR) for (int64_t b = begin; b < end; b++) {
        int64_t stop = j + NEAR < g->m ? j + NEAR : g->m, mirror = g->blocks - 1 - b;
        gram_block(g, b * TILE, j, stop);
        if (g->way.half && mirror > b) gram_block(g, mirror * TILE, j, stop);
    }
}
void lk_gram_tiles(const double *x, int64_t n, const double *y, int64_t m, int64_t d, lk_gram_way way, lk_pool *pool, lk_tile_fn fn, void *ctx) {
    int64_t lanes = way.f32 ? 16 : 8, ld = ((d + lanes - 1) / lanes | 1) * lanes, blocks = (n + TILE - 1) / TILE;
    void *a = padded(x, n, d, ld, way.f32), *b = x == y && n == m ? a : padded(y, m, d, ld, way.f32);
    gram_job g = { a, b, n, m, ld, blocks, way, fn, ctx };
    lk_parallel(pool, way.half ? (blocks + 1) / 2 : blocks, 1, gram_part, &g);
    if (b != a) free(b);
    free(a);
}
typedef struct { double *out; int64_t m; bool half; } gram_out;
static void gram_store(void *ctx, const lk_tile *t) {
    const gram_out *o = ctx;
    for (int64_t r = 0; r < t->rows; r++) memcpy(o->out + (t->i + r) * o->m + t->j, t->v + r * TILE, (size_t)t->columns * sizeof *t->v);
    for (int64_t c = 0; o->half && t->j > t->i && c < t->columns; c++) for (int64_t r = 0; r < t->rows; r++) o->out[(t->j + c) * o->m + t->i + r] = t->v[r * TILE + c];
}
void lk_gram(const double *x, int64_t n, const double *y, int64_t m, int64_t d, lk_pool *pool, double *out) {
    gram_out o = { out, m, x == y && n == m };
    lk_gram_tiles(x, n, y, m, d, (lk_gram_way){ .half = o.half }, pool, gram_store, &o);
}
