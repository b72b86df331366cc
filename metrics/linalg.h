/* Small dense algebra in fixed order for metrics: dot products over eight lanes, one-sided Jacobi singular values, cyclic
 * Jacobi eigenvalues, Householder triangles. Binary64, no libm: the same bits everywhere. Private to metrics/. */
#ifndef LK_METRICS_LINALG_H
#define LK_METRICS_LINALG_H
#include "base/base.h"      /* lk_pool */

/* Compiled for wide vectors too and chosen at start: no fused multiply-add is formed, so each clone gives the same bits. */
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define LK_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define LK_CLONES
#endif

/* Eight doubles; the compiler splits it where the machine is narrower. LK_AT reads or writes at any address. */
typedef double lk_vec __attribute__((vector_size(64)));
typedef double lk_vec_at __attribute__((vector_size(64), aligned(8), may_alias));
#define LK_AT(p) (*(lk_vec_at *)(p))

double lk_dot(const double *a, const double *b, int64_t n);           /* lanes i mod 8, folded by halves */
double lk_sum(const double *a, int64_t n);                            /* the same order */
double lk_squared_distance(const double *a, const double *b, int64_t n);
/* Singular values (unsorted) of the `rows` vectors of length n in a[rows][n], which is destroyed (its rows end orthogonal). */
void lk_jacobi_singular(double *a, int64_t rows, int64_t n, double *values);
/* Eigenvalues (unsorted) of symmetric a[n][n], destroyed; eigenvectors as rows of v[n][n] (NULL: none). */
void lk_jacobi_symmetric(double *a, int64_t n, double *values, double *v);
/* R[d][d] of x[n][d] = QR, n >= d (the upper triangle; zeros below). */
void lk_householder_r(const double *x, int64_t n, int64_t d, double *r);
/* out[n][m] = x y^T of rows, each entry lk_dot's bits (gram.c). */
void lk_gram(const double *x, int64_t n, const double *y, int64_t m, int64_t d, lk_pool *, double *out);
/* The same in tiles [LK_TILE][LK_TILE], each handed to fn: rows i .. i + rows - 1 of x with j .. of y. A block of LK_TILE rows is one thread's,
 * j ascending. half: only tiles with j >= i (x with itself: products commute, so the mirror has the same bits). f32: values are taken as
 * binary32, products are added in sixteen binary32 lanes, lanes in binary64: half the time, an entry off by some 1e-7 of sum |x| |y|. */
enum { LK_TILE = 32 };
typedef struct { int64_t i, rows, j, columns; double *v; } lk_tile;    /* v is fn's to overwrite */
typedef void (*lk_tile_fn)(void *ctx, const lk_tile *);
typedef struct { bool half, f32; } lk_gram_way;
void lk_gram_tiles(const double *x, int64_t n, const double *y, int64_t m, int64_t d, lk_gram_way, lk_pool *, lk_tile_fn, void *ctx);
#endif
