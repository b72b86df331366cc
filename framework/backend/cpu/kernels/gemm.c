/* The product core (gemm.h): a register tile of MR x NR outputs, instantiated for every height and width so
 * that an edge costs what it holds, over b panels packed [k][NR] and a panels either [row][k] or [k][row]. */
#include "backend/cpu/kernels/gemm.h"
#include "backend/cpu/kernels/vec.h"
#include <string.h>

enum { MR_TALL = VW == 8 ? 12 : MR };                    /* rows of a tile one vector wide: enough chains to hide an fma's latency */

/* ---- the tile ------------------------------------------------------------------------------------- */
typedef struct {
    const float *a; int64_t a_k;       /* distance in k of a [k][row] panel; a [row][k] panel has LK_ROW_LD between rows */
    const float *b; int64_t b_k;
    const int32_t *offset; int64_t apart[NV]; /* b in a band: where each k lies, and each vector from the first */
    int kc;
    float *c; int64_t ldc, c_v;        /* c_v: from one vector of a row to the next */
    const float *bias_row, *bias_col;  /* set in the last block only */
    const float *onto; float alpha;    /* laid out as c */
    int nv;                            /* vectors */
    bool first;                        /* this block's chain is the value; else it is added */
    int tail;                          /* lanes of the last vector that exist */
} tile_call;
typedef void (*tile_fn)(const tile_call *);

/* mr, nv, by_k and band are constants where this is inlined. */
static inline __attribute__((always_inline)) void tile(const tile_call *t, const int mr, const int nv, const bool by_k, const bool band) {
    const int64_t row = by_k ? 1 : LK_ROW_LD, ak = by_k ? t->a_k : 1, bk = t->b_k;
    const float *a = t->a, *b = t->b;
    vec acc[MR_TALL][NV];
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
#define SIZES HEIGHTS(1) HEIGHTS(2) X(7, 1) X(8, 1) X(9, 1) X(10, 1) X(11, 1) X(12, 1)
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
static const tile_fn tiles[2][2][MR_TALL + 1][NV + 1] = { SIZES };
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
/* Lanes of 128 bits hold rows i and i + 4, so that no shuffle crosses them. */
static inline __attribute__((always_inline)) void square_half(__m256 a, __m256 b, __m256 c, __m256 d, __m256 *column) {
    const __m256 lo = _mm256_unpacklo_ps(a, b), hi = _mm256_unpackhi_ps(a, b), lo2 = _mm256_unpacklo_ps(c, d), hi2 = _mm256_unpackhi_ps(c, d);
    column[0] = _mm256_shuffle_ps(lo, lo2, 0x44); column[1] = _mm256_shuffle_ps(lo, lo2, 0xee);
    column[2] = _mm256_shuffle_ps(hi, hi2, 0x44); column[3] = _mm256_shuffle_ps(hi, hi2, 0xee);
}
static inline __m256 square_rows(const float *low, const float *high) { return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(low)), _mm_loadu_ps(high), 1); }
static void square(const float *from, int64_t ld, int nr, int nc, float *to, int64_t ld_to) {
    __m256 t[8];
    float whole[64];
    if (nr < 8 || nc < 8) {
        const vmask m = v_mask(0, nc);
        for (int i = 0; i < 8; i++) v_store(whole + i * 8, i < nr ? v_load_mask(from + i * ld, m) : v_zero());
        from = whole; ld = 8;
    }
    for (int half = 0; half < 2; half++) {
        const float *p = from + 4 * half;
        square_half(square_rows(p, p + 4 * ld), square_rows(p + ld, p + 5 * ld), square_rows(p + 2 * ld, p + 6 * ld), square_rows(p + 3 * ld, p + 7 * ld), t + 4 * half);
    }
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

static int64_t panel_at(int64_t lanes, int64_t panel, int64_t r) { return lanes ? r / lanes * panel + r % lanes : r; }
static int64_t band_at(const lk_operand *b, int64_t r) { return r / b->grid_w * b->band_w + r % b->grid_w; }

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
    if (b->offset) {
        for (int v = 0; v < width; v += VW) {
            const float *band = b->p + band_at(b, j + v);
            for (int i = 0; i < kc; i++) v_store(to + (int64_t)i * width + v, v_load(band + b->offset[k + i]));
        }
        return;
    }
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
        v_store(to + last, v_load_mask(from + last, tail));
    }
}
/* The panel of rows [i, i + m) of a: [row][k] for BY_ROW, [k][row], a_k apart, for BY_LANE. */
static void pack_a(const lk_operand *a, int64_t i, int m, int64_t k, int kc, float *to, int64_t a_k) {
    if (a->copy) { a->copy(a, i, m, k, kc, to, LK_ROW_LD); return; }
    if (a->layout == LK_BY_ROW) {
        for (int done = 0, piece = 0; done < kc; done += piece) {
            const float *from = row_piece(a, i, k + done, kc - done, &piece);
            copy_rows(from, a->stride, m, piece, to + done);
        }
        return;
    }
    const float *from = a->p + k * a->stride + i;
    const int last = (m - 1) / VW * VW;
    const vmask tail = v_mask(0, m - last);
    for (int j = 0; j < kc; j++, from += a->stride, to += a_k) {      /* a vector's overhang is the next k's, or room */
        for (int v = 0; v < last; v += VW) v_store(to + v, v_load(from + v));
        v_store(to + last, v_load_mask(from + last, tail));
    }
}

/* ---- the loops ----------------------------------------------------------------------------------------- */
static int panels(int64_t n, int size) { return (int)((n + size - 1) / size); }
/* Heights as equal as they come: 64 rows are 13+13+13+13+12, not 14+14+14+14+8. */
static int64_t cut(int64_t n, int parts, int part) { return n * part / parts; }

static void empty_sum(const lk_product *p, int64_t m0, int64_t m1, int64_t n0, int64_t n1) {
    for (int64_t i = m0; i < m1; i++)
        for (int64_t j = n0; j < n1; j++) {
            float v = 0.0f;
            if (p->bias_row) v += p->bias_row[i];
            if (p->bias_col) v += p->bias_col[j];
            p->c[i * p->ldc + panel_at(p->c_lanes, p->c_panel, j)] = v;
        }
}
/* One block of k: kc of them from k on. */
typedef struct { const lk_product *p; int64_t n0, n1, k; int kc, height; float *a, *b, *rows; } blocks;   /* height: rows of a panel of a at most */

enum { FEW = 2, FEW_TAPS = 8, MANY = FEW_TAPS + 1 };   /* panels; a band is near already, so laying it out pays later */
/* Panel `at` of b: read where it lies if that is in whole vectors and few tiles of rows read it, else laid out in `to` (done: it is there). */
static tile_call panel_of(const blocks *s, int64_t at, int readers, float *to, bool done) {
    const lk_product *p = s->p;
    const lk_operand *b = &p->b;
    const int n = (int)lk_k_min(NR, s->n1 - at), nv = (n + VW - 1) / VW;
    const int64_t c_at = panel_at(p->c_lanes, p->c_panel, at);
    tile_call t = {.kc = s->kc, .ldc = p->ldc, .a_k = s->height, .b = to, .b_k = nv * VW, .nv = nv, .tail = n - (nv - 1) * VW,
                   .c = p->c + c_at, .onto = p->onto ? p->onto + c_at : NULL, .c_v = panel_at(p->c_lanes, p->c_panel, at + VW) - c_at,
                   .first = s->k == 0 && !p->add, .alpha = p->alpha};
    if (s->k + s->kc == p->k) t.bias_row = p->bias_row, t.bias_col = p->bias_col ? p->bias_col + at : NULL;
    if (b->panel) { t.b = b->p + panel_at(LK_PANEL, b->panel, at) + s->k * b->stride; t.b_k = b->stride; }
    else if (readers <= FEW_TAPS && b->offset) {
        t.b = b->p + band_at(b, at); t.offset = b->offset + s->k;
        for (int v = 1; v < nv; v++) t.apart[v] = band_at(b, at + v * VW) - band_at(b, at);
    } else if (readers <= FEW && !b->copy && b->layout == LK_BY_LANE && n == NR) { t.b = b->p + s->k * b->stride + at; t.b_k = b->stride; }
    else if (!done) pack_b(b, at, n, s->k, s->kc, to, nv * VW, s->rows);
    return t;
}
static void run_tile(const lk_product *p, tile_call t, const float *a, int64_t m0, int64_t m1) {
    t.a = a;
    t.c += m0 * p->ldc;
    if (t.onto) t.onto += m0 * p->ldc;
    if (t.bias_row) t.bias_row += m0;
    tiles[t.offset != NULL][p->a.layout == LK_BY_LANE][m1 - m0][t.nv](&t);
}
/* Few panels of b and a by rows: b is laid out first, then each panel of a, and used at once, while it is in the nearest cache. */
static void narrow(const blocks *s, int64_t m0, int64_t m1) {
    const lk_product *p = s->p;
    const int np = panels(s->n1 - s->n0, NR), mp = panels(m1 - m0, s->height);
    tile_call t[FEW];
    for (int j = 0; j < np; j++) t[j] = panel_of(s, s->n0 + (int64_t)j * NR, mp, s->b + (int64_t)j * NR * LK_KC, false);
    for (int i = 0; i < mp; i++) {
        const int64_t at = m0 + cut(m1 - m0, mp, i), end = m0 + cut(m1 - m0, mp, i + 1);
        pack_a(&p->a, at, (int)(end - at), s->k, s->kc, s->a, s->height);
        for (int j = 0; j < np; j++) run_tile(p, t[j], s->a, at, end);
    }
}
/* At most LK_MC rows: a is laid out once (few panels of b read [k][row] where it lies), then each panel of b is laid out and used at once;
 * all of them stay for more rows. */
static void wide(const blocks *s, int64_t m0, int64_t m1, bool stay, bool done) {
    const lk_product *p = s->p;
    const int mp = panels(m1 - m0, s->height), np = panels(s->n1 - s->n0, NR);
    const bool in_place = np <= FEW && p->a.layout == LK_BY_LANE;
    const float *a[LK_MC / MR + 1];
    int64_t top[LK_MC / MR + 2] = {m0};
    for (int i = 0; i < mp; i++) {
        float *to = s->a + (int64_t)i * s->height * LK_ROW_LD;
        top[i + 1] = m0 + cut(m1 - m0, mp, i + 1);
        a[i] = in_place ? p->a.p + s->k * p->a.stride + top[i] : to;
        if (!in_place) pack_a(&p->a, top[i], (int)(top[i + 1] - top[i]), s->k, s->kc, to, s->height);
    }
    for (int j = 0; j < np; j++) {
        tile_call t = panel_of(s, s->n0 + (int64_t)j * NR, stay ? MANY : mp, s->b + (stay ? (int64_t)j * NR * LK_KC : 0), done);
        if (in_place) t.a_k = p->a.stride;
        for (int i = 0; i < mp; i++) run_tile(p, t, a[i], top[i], top[i + 1]);
    }
}
void lk_gemm(const lk_product *p, int64_t m0, int64_t m1, int64_t n0, int64_t n1, float *scratch) {
    if (m0 >= m1 || n0 >= n1) return;
    if (p->k <= 0) { empty_sum(p, m0, m1, n0, n1); return; }
    const int parts = panels(m1 - m0, LK_MC);
    if (parts > 1 && n1 - n0 > LK_NC) { for (int64_t n = n0; n < n1; n += LK_NC) lk_gemm(p, m0, m1, n, lk_k_min(n1, n + LK_NC), scratch); return; }
    _Static_assert(LK_MC % MR == 0 && LK_MC % (int)MR_TALL == 0 && NR <= 32, "LK_SCRATCH");
    blocks s = {p, n0, n1, .height = n1 - n0 <= VW ? MR_TALL : MR, .b = scratch, .rows = scratch + LK_NC * LK_KC, .a = scratch + LK_NC * LK_KC + NR * LK_ROW_LD};
    for (s.k = 0; s.k < p->k; s.k += LK_KC) {
        s.kc = (int)lk_k_min(LK_KC, p->k - s.k);
        if (n1 - n0 <= FEW * NR && p->a.layout == LK_BY_ROW) { narrow(&s, m0, m1); continue; }
        for (int i = 0; i < parts; i++) wide(&s, m0 + cut(m1 - m0, parts, i), m0 + cut(m1 - m0, parts, i + 1), parts > 1, i > 0);
    }
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
