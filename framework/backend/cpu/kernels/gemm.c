/* The product core (gemm.h): a register tile of MR x NR outputs, instantiated for every height and width so
 * that an edge costs what it holds, over b panels packed [k][NR] and a panels either [row][k] or [k][row]. */
#include "backend/cpu/kernels/gemm.h"
#include "backend/cpu/kernels/vec.h"
#include <string.h>

/* ---- the tile ------------------------------------------------------------------------------------- */
typedef struct {
    const float *a; int64_t a_k;       /* distance in k of a [k][row] panel; a [row][k] panel has LK_ROW_LD between rows */
    const float *b; int64_t b_k;
    const int32_t *offset; int64_t apart[NV]; /* b in a band: where each k lies, and each vector from the first */
    int kc;
    float *c; int64_t ldc, c_v;        /* c_v: from one vector of a row to the next */
    const float *bias_row, *bias_col;  /* set in the last block only */
    const float *onto; float alpha;    /* laid out as c */
    bool first;                        /* this block's chain is the value; else it is added */
    int tail;                          /* lanes of the last vector that exist */
} tile_call;
typedef void (*tile_fn)(const tile_call *);

/* mr, nv, by_k and band are constants where this is inlined. */
static inline __attribute__((always_inline)) void tile(const tile_call *t, const int mr, const int nv, const bool by_k, const bool band) {
    const int64_t row = by_k ? 1 : LK_ROW_LD, ak = by_k ? t->a_k : 1, bk = t->b_k;
    const float *a = t->a, *b = t->b;
    vec acc[MR][NV];
#pragma GCC unroll 16
    for (int i = 0; i < mr; i++)
#pragma GCC unroll 4
        for (int j = 0; j < nv; j++) acc[i][j] = v_zero();
#pragma GCC unroll 2
    for (int k = 0; k < t->kc; k++, a += ak, b += band ? 0 : bk) {
        const float *at = band ? b + t->offset[k] : b;
        vec bv[NV];
#pragma GCC unroll 4
        for (int j = 0; j < nv; j++) bv[j] = v_load(band ? at + t->apart[j] : at + j * VW);
#pragma GCC unroll 16
        for (int i = 0; i < mr; i++) {
            vec av = v_set(a[i * row]);
#pragma GCC unroll 4
            for (int j = 0; j < nv; j++) acc[i][j] = v_fma(av, bv[j], acc[i][j]);
        }
    }
    const bool first = t->first, whole = t->tail == VW;
    const vmask tail = v_mask(0, t->tail);
    const float *bias_row = t->bias_row, *bias_col = t->bias_col, *onto = t->onto;
    float *c = t->c; const int64_t ldc = t->ldc, c_v = t->c_v;
#pragma GCC unroll 16
    for (int i = 0; i < mr; i++) {
#pragma GCC unroll 4
        for (int j = 0; j < nv; j++) {
            float *at = c + i * ldc + j * c_v;
            const bool cut = j == nv - 1 && !whole;
            vec v = acc[i][j];
            if (!first) v = v_add(cut ? v_load_mask(at, tail) : v_load(at), v);
            if (bias_row) v = v_add(v, v_set(bias_row[i]));
            if (bias_col) v = v_add(v, cut ? v_load_mask(bias_col + j * VW, tail) : v_load(bias_col + j * VW));
            if (onto) {
                const float *from = onto + i * ldc + j * c_v;
                v = v_add(cut ? v_load_mask(from, tail) : v_load(from), v_mul(v_set(t->alpha), v));
            }
            if (cut) v_store_mask(at, tail, v); else v_store(at, v);
        }
    }
}
#if defined(__AVX512F__)
#define HEIGHTS(W) X(1, W) X(2, W) X(3, W) X(4, W) X(5, W) X(6, W) X(7, W) X(8, W) X(9, W) X(10, W) X(11, W) X(12, W) X(13, W) X(14, W)
#define SIZES HEIGHTS(1) HEIGHTS(2)
#elif defined(__AVX2__)
#define HEIGHTS(W) X(1, W) X(2, W) X(3, W) X(4, W) X(5, W) X(6, W)
#define SIZES HEIGHTS(1) HEIGHTS(2)
#else
#define HEIGHTS(W) X(1, W) X(2, W)
#define SIZES HEIGHTS(1) HEIGHTS(2) HEIGHTS(3) HEIGHTS(4)
#endif
#define X(m, n) static void tile_row_##m##x##n(const tile_call *t) { tile(t, m, n, false, false); } \
                static void tile_k_##m##x##n(const tile_call *t) { tile(t, m, n, true, false); } \
                static void band_row_##m##x##n(const tile_call *t) { tile(t, m, n, false, true); } \
                static void band_k_##m##x##n(const tile_call *t) { tile(t, m, n, true, true); }
SIZES
#undef X
#define X(m, n) [0][0][m][n] = tile_row_##m##x##n, [0][1][m][n] = tile_k_##m##x##n, [1][0][m][n] = band_row_##m##x##n, [1][1][m][n] = band_k_##m##x##n,
static const tile_fn tiles[2][2][MR + 1][NV + 1] = { SIZES };
#undef X

/* ---- transposition ---------------------------------------------------------------------------------- */
/* A VW x VW square: rows of `from` become columns of `to`; nr rows and nc columns exist, missing rows read as +0. */
#if defined(__AVX512F__)
static void square(const float *from, int64_t ld, int nr, int nc, float *to, int64_t ld_to) {
    __m512 r[16], t[16];
    vmask m = v_mask(0, nc);
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) r[i] = i < nr ? v_load_mask(from + i * ld, m) : v_zero();
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) { t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]); t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]); }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4)
#pragma GCC unroll 2
        for (int j = 0; j < 2; j++) {
            __m512d p = _mm512_castps_pd(t[i + j]), q = _mm512_castps_pd(t[i + j + 2]);
            r[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(p, q)); r[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(p, q));
        }
    /* r[4g + c]: rows 4g..4g+3 of columns c, c+4, c+8, c+12, one a 128-bit lane */
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        __m512 lo = _mm512_shuffle_f32x4(r[c], r[4 + c], 0x44), hi = _mm512_shuffle_f32x4(r[c], r[4 + c], 0xee);
        __m512 lo2 = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0x44), hi2 = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0xee);
        t[c] = _mm512_shuffle_f32x4(lo, lo2, 0x88); t[4 + c] = _mm512_shuffle_f32x4(lo, lo2, 0xdd);
        t[8 + c] = _mm512_shuffle_f32x4(hi, hi2, 0x88); t[12 + c] = _mm512_shuffle_f32x4(hi, hi2, 0xdd);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) if (i < nc) v_store(to + i * ld_to, t[i]);
}
#elif defined(__AVX2__)
static void square(const float *from, int64_t ld, int nr, int nc, float *to, int64_t ld_to) {
    __m256 r[8], t[8];
    vmask m = v_mask(0, nc);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) r[i] = i < nr ? v_load_mask(from + i * ld, m) : v_zero();
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) { t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]); t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]); }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4)
#pragma GCC unroll 2
        for (int j = 0; j < 2; j++) {
            __m256d p = _mm256_castps_pd(t[i + j]), q = _mm256_castps_pd(t[i + j + 2]);
            r[i + 2 * j] = _mm256_castpd_ps(_mm256_unpacklo_pd(p, q)); r[i + 2 * j + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(p, q));
        }
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) { t[c] = _mm256_permute2f128_ps(r[c], r[4 + c], 0x20); t[4 + c] = _mm256_permute2f128_ps(r[c], r[4 + c], 0x31); }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) if (i < nc) v_store(to + i * ld_to, t[i]);
}
#else
static void square(const float *from, int64_t ld, int nr, int nc, float *to, int64_t ld_to) {
    (void)ld; (void)nc; (void)ld_to;
    *to = nr ? *from : 0.0f;
}
#endif
/* rows [0, nr) x nk of `from` into a panel [k][width], missing rows +0. */
static void rows_to_panel(const float *from, int64_t ld, int nr, int nk, float *to, int width) {
    for (int i = 0; i < width; i += VW)
        for (int k = 0; k < nk; k += VW) {
            int have = nr - i < 0 ? 0 : nr - i < VW ? nr - i : VW;
            square(from + i * ld + k, ld, have, nk - k < VW ? nk - k : VW, to + (int64_t)k * width + i, width);
        }
}
void lk_transpose(const float *from, int64_t ld_from, int64_t rows, int64_t cols, float *to, int64_t ld_to) {
    float edge[VW * VW];
    for (int64_t i = 0; i < rows; i += VW)
        for (int64_t j = 0; j < cols; j += VW) {
            int nr = (int)lk_k_min(VW, rows - i), nc = (int)lk_k_min(VW, cols - j);
            const float *p = from + i * ld_from + j;
            float *q = to + j * ld_to + i;
            if (nr == VW) { square(p, ld_from, nr, nc, q, ld_to); continue; }
            square(p, ld_from, nr, nc, edge, VW);
            for (int c = 0; c < nc; c++) v_store_mask(q + c * ld_to, v_mask(0, nr), v_load(edge + c * VW));
        }
}

enum { W = (MR + VW - 1) / VW * VW,                    /* row of a [k][row] panel of a */
       MR_ROOM = W > MR ? W : MR };                     /* rows of LK_ROW_LD an a panel of either layout fits in */

/* ---- packing ------------------------------------------------------------------------------------------ */
/* Element (r, k) of a plain matrix by rows, and how many of the nk from there lie side by side. */
static const float *row_piece(const lk_operand *o, int64_t r, int64_t k, int nk, int *piece) {
    *piece = nk;
    if (!o->period) return o->p + r * o->stride + k;
    *piece = (int)lk_k_min(nk, o->period - k % o->period);
    return o->p + r * o->stride + k / o->period * o->jump + k % o->period;
}
/* A panel [k][width] of columns [j, j + n) of b, width a multiple of VW, +0 past n. */
static void pack_b(const lk_operand *b, int64_t j, int n, int64_t k, int kc, float *to, int width, float *rows) {
    if (b->layout == LK_BY_ROW) {
        if (b->copy) { b->copy(b, j, n, k, kc, rows, LK_ROW_LD); rows_to_panel(rows, LK_ROW_LD, n, kc, to, width); return; }
        for (int done = 0, piece = 0; done < kc; done += piece) {
            const float *from = row_piece(b, j, k + done, kc - done, &piece);
            rows_to_panel(from, b->stride, n, piece, to + (int64_t)done * width, width);
        }
        return;
    }
    if (b->copy) { b->copy(b, j, n, k, kc, to, width); return; }
    const float *from = b->p + k * b->stride + j;
    const int last = width / VW - 1;
    const vmask tail = v_mask(0, n - last * VW);
    for (int i = 0; i < kc; i++, from += b->stride, to += width) {
        for (int v = 0; v < last; v++) v_store(to + v * VW, v_load(from + v * VW));
        v_store(to + last * VW, v_load_mask(from + last * VW, tail));
    }
}
static void copy_rows(const float *from, int64_t stride, int m, int n, float *to) {
    const int last = (n - 1) / VW * VW;
    const vmask tail = v_mask(0, n - last);
    for (int r = 0; r < m; r++, from += stride, to += LK_ROW_LD) {
        for (int i = 0; i < last; i += VW) v_store(to + i, v_load(from + i));
        v_store_mask(to + last, tail, v_load_mask(from + last, tail));
    }
}
/* The panel of rows [i, i + m) of a: [row][k] for BY_ROW, [k][row] for BY_LANE (read in place where few tiles would use a copy). */
static const float *pack_a(const lk_operand *a, int64_t i, int m, int64_t k, int kc, float *to, bool in_place, int64_t *a_k) {
    if (a->layout == LK_BY_ROW) {
        *a_k = 1;
        if (a->copy) { a->copy(a, i, m, k, kc, to, LK_ROW_LD); return to; }
        for (int done = 0, piece = 0; done < kc; done += piece) {
            const float *from = row_piece(a, i, k + done, kc - done, &piece);
            copy_rows(from, a->stride, m, piece, to + done);
        }
        return to;
    }
    *a_k = W;
    if (a->copy) { a->copy(a, i, m, k, kc, to, W); return to; }
    const float *from = a->p + k * a->stride + i;
    if (in_place) { *a_k = a->stride; return from; }
    const int last = (m - 1) / VW;
    const vmask tail = v_mask(0, m - last * VW);
    float *q = to;
    for (int j = 0; j < kc; j++, from += a->stride, q += W) {
        for (int v = 0; v < last; v++) v_store(q + v * VW, v_load(from + v * VW));
        v_store_mask(q + last * VW, tail, v_load_mask(from + last * VW, tail));
    }
    return to;
}

/* ---- the loops ----------------------------------------------------------------------------------------- */
static int panels(int64_t n, int size) { return (int)((n + size - 1) / size); }
/* Heights as equal as they come: 64 rows are 13+13+13+13+12, not 14+14+14+14+8. */
static int64_t cut(int64_t n, int parts, int part) { return n * part / parts; }

static int64_t panel_at(int64_t lanes, int64_t panel, int64_t r) { return lanes ? r / lanes * panel + r % lanes : r; }
static void empty_sum(const lk_product *p, int64_t m0, int64_t m1, int64_t n0, int64_t n1) {
    for (int64_t i = m0; i < m1; i++)
        for (int64_t j = n0; j < n1; j++) {
            float v = 0.0f;
            if (p->bias_row) v += p->bias_row[i];
            if (p->bias_col) v += p->bias_col[j];
            p->c[i * p->ldc + panel_at(p->c_lanes, p->c_panel, j)] = v;
        }
}
static int64_t band_at(const lk_operand *b, int64_t r) { return r / b->grid_w * b->band_w + r % b->grid_w; }
/* One block of k for at most LK_MC rows: a is laid out once, then each panel of b is packed and used at once, while it is in the nearest cache. */
_Static_assert((LK_MC + MR - 1) / MR * MR_ROOM <= 352 && NR <= 32, "LK_SCRATCH");
static void block(const lk_product *p, int64_t m0, int64_t m1, int64_t n0, int64_t n1, int64_t k, int kc, float *scratch) {
    float *b_panel = scratch, *rows = b_panel + NR * LK_KC, *a_panels = scratch + 32 * (LK_KC + LK_ROW_LD);
    const int mp = panels(m1 - m0, MR), np = panels(n1 - n0, NR);
    const bool in_place_b = !p->b.copy && p->b.layout == LK_BY_LANE && mp <= 2, last = k + kc == p->k;
    const float *a[LK_MC / MR + 1]; int64_t a_k = 1, top[LK_MC / MR + 2] = {m0};
    for (int i = 0; i < mp; i++) {
        top[i + 1] = m0 + cut(m1 - m0, mp, i + 1);
        a[i] = pack_a(&p->a, top[i], (int)(top[i + 1] - top[i]), k, kc, a_panels + (int64_t)i * MR_ROOM * LK_ROW_LD, np <= 2, &a_k);
    }
    const tile_fn (*fit)[NV + 1] = tiles[p->b.offset != NULL][p->a.layout == LK_BY_LANE];
    for (int j = 0; j < np; j++) {
        const int64_t at = n0 + (int64_t)j * NR;
        const int n = (int)lk_k_min(NR, n1 - at), nv = (n + VW - 1) / VW;
        const int64_t c_at = panel_at(p->c_lanes, p->c_panel, at);
        tile_call t = {.kc = kc, .ldc = p->ldc, .a_k = a_k, .b = b_panel, .b_k = nv * VW, .c_v = panel_at(p->c_lanes, p->c_panel, at + VW) - c_at, .first = k == 0 && !p->add, .tail = n - (nv - 1) * VW, .alpha = p->alpha};
        t.bias_col = last && p->bias_col ? p->bias_col + at : NULL;
        if (p->b.offset) {
            t.b = p->b.p + band_at(&p->b, at); t.offset = p->b.offset + k;
            for (int v = 1; v < nv; v++) t.apart[v] = band_at(&p->b, at + v * VW) - band_at(&p->b, at);
        } else if (p->b.panel) { t.b = p->b.p + panel_at(LK_PANEL, p->b.panel, at) + k * p->b.stride; t.b_k = p->b.stride; }
        else if (in_place_b && n == NR) { t.b = p->b.p + k * p->b.stride + at; t.b_k = p->b.stride; }
        else pack_b(&p->b, at, n, k, kc, b_panel, nv * VW, rows);
        for (int i = 0; i < mp; i++) {
            t.a = a[i];
            t.c = p->c + top[i] * p->ldc + c_at;
            t.onto = p->onto ? p->onto + top[i] * p->ldc + c_at : NULL;
            t.bias_row = last && p->bias_row ? p->bias_row + top[i] : NULL;
            fit[top[i + 1] - top[i]][nv](&t);
        }
    }
}
void lk_gemm(const lk_product *p, int64_t m0, int64_t m1, int64_t n0, int64_t n1, float *scratch) {
    if (m0 >= m1 || n0 >= n1) return;
    if (p->k <= 0) { empty_sum(p, m0, m1, n0, n1); return; }
    const int parts = panels(m1 - m0, LK_MC);
    for (int i = 0; i < parts; i++)
        for (int64_t k = 0; k < p->k; k += LK_KC)
            block(p, m0 + cut(m1 - m0, parts, i), m0 + cut(m1 - m0, parts, i + 1), n0, n1, k, (int)lk_k_min(LK_KC, p->k - k), scratch);
}

/* ---- cutting for threads --------------------------------------------------------------------------------- */
lk_split lk_split_make(int64_t batches, int64_t m, int64_t n, int threads) {
    lk_split s = {.mc = lk_k_max(m, 1), .nc = lk_k_max(1, lk_k_min(n, LK_NC)), .mt = 1, .nt = 1};
    for (;;) {
        s.mt = lk_k_max(1, (m + s.mc - 1) / s.mc); s.nt = lk_k_max(1, (n + s.nc - 1) / s.nc);
        int64_t pieces = batches * s.mt * s.nt;
        if (threads <= 1 || pieces >= 4 * threads || (pieces >= threads && pieces % threads == 0)) return s;
        if (s.nc > NR && s.nc >= s.mc) s.nc = (s.nc / 2 + NR - 1) / NR * NR;
        else if (s.mc > MR) s.mc = (s.mc + 1) / 2;
        else if (s.nc > NR) s.nc = (s.nc / 2 + NR - 1) / NR * NR;
        else return s;
    }
}
bool lk_swap_pays(int64_t m, int64_t n) {
    int64_t as_is = m * ((n + VW - 1) / VW * VW), swapped = n * ((m + VW - 1) / VW * VW);
    return swapped + swapped / 2 < as_is;
}
