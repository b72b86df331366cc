/* conv2d, conv2d_dx, conv2d_dw as products of the one core, their operands packed straight from the pictures
 * (no column matrix exists in memory):
 *   conv2d     per picture and group: w [O/g, K] x taps [K, pixels],  k = (kh, kw, c)
 *   conv2d_dx  per picture, group and residue class mod stride: w' [C/g, K] x taps of dy [K, pixels of the class],
 *              k = (kh, kw, o) over the taps on the class's lattice
 *   conv2d_dw  per group: shifted x [(c, kh, kw), K] x dy' [K, O/g], k = (n, oh, ow); turned into dw at the end
 * A tap in the padding is a +0 that takes part in the fma, as numerics.md rule 2 says. */
#include "backend/cpu/kernels/conv.h"
#include "backend/cpu/kernels/vec.h"
#include <string.h>

/* ---- taps as lanes: element (k = tap * channels + c, pixel) --------------------------------------------- */
/* A grid of pixels (ph, pw) that reads a picture at (ph * sy + y[tap], pw * sx + x[tap]), +0 outside. */
typedef struct {
    const float *picture; int64_t channels, h, w;         /* [items, groups, channels, h, w] */
    int64_t groups, sy, sx, grid_w, n_taps;
    const int32_t *y, *x;                                 /* per tap */
    int64_t each;                                         /* pixels a picture, where lanes run on through the batch; 0: lanes are of one picture */
} taps;

static const float *picture_of(const lk_operand *o) {
    const taps *t = o->ctx;
    return t->picture + (o->item * t->groups + o->group) * t->channels * t->h * t->w;
}
/* One vector of pixels at one tap: where its lanes lie. Runs of pixels of one row are loaded by mask; with
 * sx = 2 a run lies in two vectors of neighbours, of which the even elements are taken. */
typedef struct { int n; int64_t at[VW + 1]; vmask mask[VW + 1], second[VW + 1]; } runs;
static void find_runs(const taps *t, int64_t r, int nr, int64_t tap, runs *out) {
    const int64_t picture = t->each ? r / t->each * t->groups * t->channels * t->h * t->w : 0, y0 = t->y[tap], x0 = t->x[tap];
    if (t->each) r %= t->each;
    int64_t ph = r / t->grid_w, pw = r % t->grid_w;
    out->n = 0;
    for (int lane = 0; lane < nr; ph++, pw = 0) {
        int len = (int)lk_k_min(nr - lane, t->grid_w - pw);
        int64_t y = ph * t->sy + y0, x = pw * t->sx + x0;
        int64_t lo = x < 0 ? (-x + t->sx - 1) / t->sx : 0, hi = lk_k_min(len, (t->w - x + t->sx - 1) / t->sx);
        if (y >= 0 && y < t->h && x < t->w && lo < hi) {
            const int from = lane + (int)lo, to = lane + (int)hi;
            out->at[out->n] = picture + y * t->w + x - lane * t->sx;
            out->mask[out->n] = t->sx == 1 ? v_mask(from, to) : v_mask_even(from, to, 0);
            out->second[out->n++] = v_mask_even(from, to, 1);
        }
        lane += len;
    }
}
static void copy_runs(const runs *r, bool even, const float *from, int64_t channel, int64_t n, float *to, int64_t ld) {
    if (r->n == 0) for (int64_t c = 0; c < n; c++, to += ld) v_store(to, v_zero());
    else if (even)
        for (int64_t c = 0; c < n; c++, from += channel, to += ld) {
            vec v = v_load_mask(from + r->at[0], r->mask[0]), w = v_load_mask(from + r->at[0] + VW, r->second[0]);
            for (int i = 1; i < r->n; i++) { v = v_load_over(v, from + r->at[i], r->mask[i]); w = v_load_over(w, from + r->at[i] + VW, r->second[i]); }
            v_store(to, v_even(v, w));
        }
    else if (r->n == 1) {
        const float *p = from + r->at[0]; const vmask m = r->mask[0];
        for (int64_t c = 0; c < n; c++, p += channel, to += ld) v_store(to, v_load_mask(p, m));
    } else if (r->n == 2) {
        const float *p = from + r->at[0], *q = from + r->at[1]; const vmask m = r->mask[0], l = r->mask[1];
        for (int64_t c = 0; c < n; c++, p += channel, q += channel, to += ld) v_store(to, v_load_over(v_load_mask(p, m), q, l));
    } else
        for (int64_t c = 0; c < n; c++, from += channel, to += ld) {
            vec v = v_load_mask(from + r->at[0], r->mask[0]);
            for (int i = 1; i < r->n; i++) v = v_load_over(v, from + r->at[i], r->mask[i]);
            v_store(to, v);
        }
}
/* Pixels more than two apart: lane by lane. */
static void copy_strided(const taps *t, const float *from, int64_t r, int nr, int64_t y0, int64_t x0, int64_t n, float *to, int64_t ld) {
    int32_t at[VW]; bool in[VW];
    for (int l = 0; l < VW; l++) {
        int64_t y = (r + l) / t->grid_w * t->sy + y0, x = (r + l) % t->grid_w * t->sx + x0;
        in[l] = l < nr && y >= 0 && y < t->h && x >= 0 && x < t->w;
        at[l] = in[l] ? (int32_t)(y * t->w + x) : 0;
    }
    for (int64_t c = 0; c < n; c++, from += t->h * t->w, to += ld)
        for (int l = 0; l < VW; l++) { float v = from[at[l]]; to[l] = in[l] ? v : 0.0f; }
}
/* Channels go by eights under all taps: planes often lie a multiple of 4 KiB apart, where more than eight
 * lines push each other out of the nearest cache before the next tap reads them again. */
enum { TAPS_AT_ONCE = 16, CHANNELS_AT_ONCE = 8 };
typedef struct { int64_t tap, c0, c1; float *to; runs where[NV]; } tap_piece;
static void copy_taps(const lk_operand *o, int64_t r, int nr, int64_t k, int nk, float *to, int64_t ld) {
    const taps *t = o->ctx;
    const float *picture = picture_of(o);
    const int64_t channel = t->h * t->w;
    const bool far = t->sx > 2, even = t->sx == 2;
    tap_piece piece[TAPS_AT_ONCE];
    while (nk > 0) {
        int n = 0;
        for (; n < TAPS_AT_ONCE && nk > 0; n++) {
            tap_piece *p = piece + n;
            p->tap = k / t->channels; p->c0 = k % t->channels; p->c1 = lk_k_min(t->channels, p->c0 + nk); p->to = to;
            for (int v = 0; v * VW < ld && !far; v++) find_runs(t, r + v * VW, nr - v * VW < VW ? nr - v * VW : VW, p->tap, p->where + v);
            to += (p->c1 - p->c0) * ld; k += p->c1 - p->c0; nk -= (int)(p->c1 - p->c0);
        }
        for (int64_t c = 0; c < t->channels; c += CHANNELS_AT_ONCE)
            for (int i = 0; i < n; i++) {
                const tap_piece *p = piece + i;
                const int64_t lo = lk_k_max(c, p->c0), count = lk_k_min(c + CHANNELS_AT_ONCE, p->c1) - lo;
                if (count <= 0) continue;
                float *at = p->to + (lo - p->c0) * ld;
                for (int v = 0; v * VW < ld; v++) {
                    if (far) copy_strided(t, picture + lo * channel, r + v * VW, nr - v * VW < VW ? nr - v * VW : VW, t->y[p->tap], t->x[p->tap], count, at + v * VW, ld);
                    else copy_runs(p->where + v, even, picture + lo * channel, channel, count, at + v * VW, ld);
                }
            }
    }
}

/* ---- weights --------------------------------------------------------------------------------------------- */
typedef struct { const lk_kernel_call *call; lk_conv_geometry g; float *packed; } pack_job;
static void pack_channels(void *ctx, int64_t begin, int64_t end, int thread) {
    const pack_job *j = ctx; (void)thread;
    for (int64_t c = begin; c < end; c++) {
        const lk_turn t = lk_conv_channel_turn(&j->g, c);
        lk_transpose((const float *)j->call->in[1] + t.from, t.ld_from, t.rows, t.columns, j->packed + t.to, t.ld_to);
    }
}
static int64_t weight_floats(const lk_conv_geometry *g) { return (g->groups * g->cg * g->og * g->kh * g->kw + 15) / 16 * 16; }
/* [g, kh, kw, C/g, O/g]: packed once if frozen, else now into `to`. A 1 x 1 kernel's stay [O, C/g]. */
static const float *weights_of(const lk_kernel_call *call, const lk_conv_geometry *g, float *to) {
    if (!lk_conv_packs(g)) return call->in[1];
    if (call->packed && call->packed[1]) return call->packed[1];
    pack_job j = {call, *g, to};
    lk_parallel(call->pool, g->groups * g->cg, lk_k_max(1, LK_GRAIN / (g->og * g->kh * g->kw)), pack_channels, &j);
    return to;
}

/* ---- taps in a band ------------------------------------------------------------------------------------------ */
/* Pixels that lie side by side in rows of whole vectors need no packing: the rows a piece reads are copied once
 * with their padding, and the product reads each tap from there. Channels lie an odd number of cache lines apart. */
enum { BAND_FLOATS = 524288 };                            /* 2 MiB: above it, panels are packed */
typedef struct { int64_t rows, width, plane, floats; } bands;   /* floats 0: not used */
static bands bands_of(int64_t grid_w, int64_t grid_h, int64_t piece, int64_t channels, int64_t reach_y, int64_t reach_x) {
    bands b = {.width = grid_w + reach_x};
    b.rows = lk_k_min(grid_h, (piece + grid_w - 1) / grid_w + (piece % grid_w != 0)) + reach_y;
    b.plane = ((b.rows * b.width + 15) / 16 | 1) * 16;
    b.floats = b.plane * channels + 2 * 16;
    if (VW == 1 || grid_w % VW || reach_y + reach_x == 0 || b.floats > BAND_FLOATS) b.floats = 0;
    return b;
}
static void band_offsets(const bands *b, const taps *t, int64_t min_y, int64_t min_x, int32_t *offset) {
    for (int64_t tap = 0; tap < t->n_taps; tap++)
        for (int64_t c = 0; c < t->channels; c++) *offset++ = (int32_t)(c * b->plane + (t->y[tap] - min_y) * b->width + t->x[tap] - min_x);
}
/* The operand of the piece from pixel n0, copied into `to`. */
static lk_operand band_operand(const bands *b, const taps *t, int64_t item, int64_t group, int64_t min_y, int64_t min_x, int64_t n0, const int32_t *offset, float *to) {
    const int64_t first = n0 / t->grid_w;
    const float *picture = t->picture + (item * t->groups + group) * t->channels * t->h * t->w;
    for (int64_t c = 0; c < t->channels; c++) {
        lk_band band = {first + min_y, min_x, b->rows, 1, b->width, to + c * b->plane};
        lk_band_fill(&band, picture + c * t->h * t->w, t->h, t->w);
    }
    return (lk_operand){.layout = LK_BY_LANE, .p = to - first * b->width, .offset = offset, .grid_w = t->grid_w, .band_w = b->width};
}

/* ---- conv2d ------------------------------------------------------------------------------------------------ */
static void tap_offsets(const lk_conv_geometry *g, int32_t *y, int32_t *x) {
    for (int64_t i = 0; i < g->kh; i++)
        for (int64_t j = 0; j < g->kw; j++) { *y++ = (int32_t)(i * g->dh - g->top); *x++ = (int32_t)(j * g->dw - g->left); }
}
/* Small pictures leave a product few lanes, and each would read all weights again: theirs run on through the batch. */
enum { SMALL_PICTURE = 64 };
static bool joins(const lk_conv_geometry *g, int64_t pixels, int64_t step) { return g->n > 1 && pixels <= SMALL_PICTURE && pixels % VW == 0 && pixels % 4 == 0 && step <= 2; }
static lk_split conv_split(const lk_conv_geometry *g, int64_t channels, int64_t pixels, bool join, int threads) {
    return join ? lk_split_make(g->groups, channels, pixels * g->n, threads) : lk_split_make(g->n * g->groups, channels, pixels, threads);
}
typedef struct {
    const lk_kernel_call *call; lk_conv_geometry g; lk_split split;
    const float *weights; float *scratch; int64_t per_thread;
    taps t; bands band; const int32_t *offset;
    bool plain;                                           /* 1 x 1, stride 1, no padding: x is the matrix itself */
} forward_job;
static void forward_pieces(void *ctx, int64_t begin, int64_t end, int thread) {
    const forward_job *j = ctx;
    const lk_conv_geometry *g = &j->g;
    const int64_t k = g->kh * g->kw * g->cg, pixels = g->oh * g->ow;
    const float *bias = j->call->node->n_in > 2 ? j->call->in[2] : NULL;
    for (int64_t i = begin; i < end; i++) {
        int64_t pn = i % j->split.nt, pm = i / j->split.nt % j->split.mt, group = i / (j->split.nt * j->split.mt) % g->groups, item = i / (j->split.nt * j->split.mt * g->groups);
        lk_product p = {.k = k, .c = (float *)j->call->out + (item * g->groups + group) * g->og * pixels, .ldc = pixels, .bias_row = bias ? bias + group * g->og : NULL};
        p.a = (lk_operand){.layout = LK_BY_LANE, .p = j->weights + group * g->og * k, .stride = g->og};
        if (!lk_conv_packs(g)) p.a.layout = LK_BY_ROW, p.a.stride = k;
        p.b = (lk_operand){.layout = LK_BY_LANE, .copy = copy_taps, .ctx = &j->t, .item = item, .group = group};
        if (j->plain) p.b = (lk_operand){.layout = LK_BY_LANE, .p = j->t.picture + (item * g->groups + group) * g->cg * pixels, .stride = pixels};
        if (j->t.each) p.c_lanes = pixels, p.c_panel = g->groups * g->og * pixels;
        int64_t m0 = pm * j->split.mc, n0 = pn * j->split.nc;
        float *scratch = j->scratch + thread * j->per_thread;
        if (j->band.floats) p.b = band_operand(&j->band, &j->t, item, group, -g->top, -g->left, n0, j->offset, scratch + LK_SCRATCH);
        lk_gemm(&p, m0, lk_k_min(g->og, m0 + j->split.mc), n0, lk_k_min(j->t.each ? pixels * g->n : pixels, n0 + j->split.nc), scratch);
    }
}
static bool forward_joins(const lk_conv_geometry *g) { return joins(g, g->oh * g->ow, g->sw); }
static lk_split forward_split(const lk_conv_geometry *g, int threads) { return conv_split(g, g->og, g->oh * g->ow, forward_joins(g), threads); }
static bands forward_bands(const lk_conv_geometry *g, lk_split s) {
    bands none = {0};
    return !forward_joins(g) && g->sh == 1 && g->sw == 1 ? bands_of(g->ow, g->oh, s.nc, g->cg, (g->kh - 1) * g->dh, (g->kw - 1) * g->dw) : none;
}
/* Tables of taps and of places in the band, over `channels` a tap. */
static int64_t table_floats(const lk_conv_geometry *g, int64_t channels) { return (g->kh * g->kw * (channels + 3) + 2 * (g->kh + g->kw) + 31) / 16 * 16; }
static void conv2d(const lk_kernel_call *call) {
    lk_contract_counted();
    forward_job j = {.call = call, .g = lk_conv_geometry_of(call->node, call->in_shape)};
    const lk_conv_geometry *g = &j.g;
    if (lk_conv_depthwise(g)) { lk_depthwise(call); return; }
    float *work = call->work;
    j.weights = weights_of(call, g, work);
    int64_t taps_n = g->kh * g->kw;
    int32_t *y = (int32_t *)(work + weight_floats(g)), *x = y + taps_n, *offset = x + taps_n;
    j.scratch = work + weight_floats(g) + table_floats(g, g->cg);
    tap_offsets(g, y, x);
    j.t = (taps){call->in[0], g->cg, g->h, g->w, g->groups, g->sh, g->sw, g->ow, taps_n, y, x, forward_joins(g) ? g->oh * g->ow : 0};
    j.split = forward_split(g, lk_pool_threads(call->pool));
    j.band = forward_bands(g, j.split);
    j.per_thread = LK_SCRATCH + (j.band.floats + 15) / 16 * 16;
    j.offset = offset;
    if (j.band.floats) band_offsets(&j.band, &j.t, -g->top, -g->left, offset);
    j.plain = !j.t.each && taps_n == 1 && g->sh == 1 && g->sw == 1 && !g->top && !g->left && g->h == g->oh && g->w == g->ow;
    lk_parallel(call->pool, (j.t.each ? 1 : g->n) * g->groups * j.split.mt * j.split.nt, 1, forward_pieces, &j);
}

/* ---- conv2d_dx ------------------------------------------------------------------------------------------------ */
/* Input rows of one residue class: ih = first + stride * i. Tap kh is on its lattice when first + pad - kh * dil
 * is divisible; it then reads dy row i + (first + pad - kh * dil) / stride. */
typedef struct { int64_t first, count; int n; int32_t *tap, *offset; } axis_class;
static void classify(int64_t first, int64_t size, int64_t stride, int64_t pad, int64_t dil, int64_t kernel, axis_class *c) {
    c->first = first; c->n = 0;
    c->count = first < size ? (size - first + stride - 1) / stride : 0;
    for (int64_t k = 0; k < kernel; k++) {
        int64_t at = first + pad - k * dil;
        if (at % stride) continue;
        c->tap[c->n] = (int32_t)k; c->offset[c->n++] = (int32_t)(at / stride);
    }
}
typedef struct {
    const lk_kernel_call *call; lk_conv_geometry g; lk_split split;
    const float *weights; float *scratch; int64_t per_thread;
    axis_class rows, cols;                                /* this class */
    int32_t *tap;                                         /* tap number (kh * kw_size + kw) by position in k */
    taps t; bands band; const int32_t *offset;
} dx_job;
/* Row c of the weights by k = (tap of the class, o). */
static void copy_dx_weights(const lk_operand *o, int64_t r, int nr, int64_t k, int nk, float *to, int64_t ld) {
    const dx_job *j = o->ctx;
    const int64_t og = j->g.og;
    for (int done = 0; done < nk; ) {
        int64_t at = (k + done) / og, c = (k + done) % og, n = lk_k_min(nk - done, og - c);
        const float *from = o->p + (j->tap[at] * j->g.cg + r) * og + c;
        for (int i = 0; i < nr; i++) memcpy(to + i * ld + done, from + i * og, (size_t)n * sizeof *to);
        done += (int)n;
    }
}
static void dx_pieces(void *ctx, int64_t begin, int64_t end, int thread) {
    const dx_job *j = ctx;
    const lk_conv_geometry *g = &j->g;
    const int64_t pixels = j->rows.count * j->cols.count, plane = g->h * g->w;
    const bool whole = g->sh == 1 && g->sw == 1;
    float *scratch = j->scratch + thread * j->per_thread, *piece = scratch + LK_SCRATCH;
    for (int64_t i = begin; i < end; i++) {
        int64_t pn = i % j->split.nt, pm = i / j->split.nt % j->split.mt, group = i / (j->split.nt * j->split.mt) % g->groups, item = i / (j->split.nt * j->split.mt * g->groups);
        float *dx = (float *)j->call->out + (item * g->groups + group) * g->cg * plane;
        int64_t m0 = pm * j->split.mc, n0 = pn * j->split.nc, m1 = lk_k_min(g->cg, m0 + j->split.mc), n1 = lk_k_min(j->t.each ? pixels * g->n : pixels, n0 + j->split.nc);
        lk_product p = {.k = j->t.n_taps * g->og, .c = dx, .ldc = plane};
        const float *w = j->weights + group * g->og * g->cg * g->kh * g->kw;
        p.a = (lk_operand){.layout = LK_BY_ROW, .p = w, .copy = copy_dx_weights, .ctx = j};
        if (!lk_conv_packs(g)) p.a = (lk_operand){.layout = LK_BY_LANE, .p = w, .stride = g->cg};
        p.b = (lk_operand){.layout = LK_BY_LANE, .copy = copy_taps, .ctx = &j->t, .item = item, .group = group};
        if (j->band.floats) p.b = band_operand(&j->band, &j->t, item, group, g->top - (g->kh - 1) * g->dh, g->left - (g->kw - 1) * g->dw, n0, j->offset, piece);
        if (j->t.each) p.c_lanes = plane, p.c_panel = g->groups * g->cg * plane;
        if (whole) { lk_gemm(&p, m0, m1, n0, n1, scratch); continue; }
        p.c = piece - m0 * j->split.nc - n0; p.ldc = j->split.nc;
        lk_gemm(&p, m0, m1, n0, n1, scratch);
        for (int64_t c = m0; c < m1; c++)
            for (int64_t q = n0; q < n1; q++) {
                int64_t y = j->rows.first + q / j->cols.count * g->sh, x = j->cols.first + q % j->cols.count * g->sw;
                dx[c * plane + y * g->w + x] = piece[(c - m0) * j->split.nc + q - n0];
            }
    }
}
static bool dx_joins(const lk_conv_geometry *g) { return g->sh == 1 && g->sw == 1 && joins(g, g->h * g->w, 1); }
static lk_split dx_split(const lk_conv_geometry *g, int threads) {
    return conv_split(g, g->cg, (g->h + g->sh - 1) / g->sh * ((g->w + g->sw - 1) / g->sw), dx_joins(g), threads);
}
static bands dx_bands(const lk_conv_geometry *g, lk_split s) {
    bands none = {0};
    return !dx_joins(g) && g->sh == 1 && g->sw == 1 ? bands_of(g->w, g->h, s.nc, g->og, (g->kh - 1) * g->dh, (g->kw - 1) * g->dw) : none;
}
/* Past the core's scratch: the band, or the piece of a strided class before it is spread out. */
static int64_t dx_per_thread(const lk_conv_geometry *g, lk_split s) {
    int64_t more = g->sh == 1 && g->sw == 1 ? dx_bands(g, s).floats : s.mc * s.nc;
    return LK_SCRATCH + (more + 15) / 16 * 16;
}
static void conv2d_dx(const lk_kernel_call *call) {
    lk_contract_counted();
    dx_job j = {.call = call, .g = lk_conv_geometry_of(call->node, call->in_shape)};
    const lk_conv_geometry *g = &j.g;
    if (lk_conv_depthwise(g)) { lk_depthwise_dx(call); return; }
    j.split = dx_split(g, lk_pool_threads(call->pool));
    j.per_thread = dx_per_thread(g, j.split);
    float *work = call->work;
    j.weights = weights_of(call, g, work);
    int64_t taps_n = g->kh * g->kw;
    int32_t *table = (int32_t *)(work + weight_floats(g)), *y = table, *x = y + taps_n;
    j.tap = x + taps_n;
    j.rows.tap = j.tap + taps_n; j.rows.offset = j.rows.tap + g->kh;
    j.cols.tap = j.rows.offset + g->kh; j.cols.offset = j.cols.tap + g->kw;
    int32_t *offset = j.cols.offset + g->kw;
    j.scratch = work + weight_floats(g) + table_floats(g, g->og);
    j.band = dx_bands(g, j.split);
    j.offset = offset;
    for (int64_t ry = 0; ry < g->sh; ry++)
        for (int64_t rx = 0; rx < g->sw; rx++) {
            classify(ry, g->h, g->sh, g->top, g->dh, g->kh, &j.rows);
            classify(rx, g->w, g->sw, g->left, g->dw, g->kw, &j.cols);
            if (!j.rows.count || !j.cols.count) continue;
            int n = 0;
            for (int a = 0; a < j.rows.n; a++)
                for (int b = 0; b < j.cols.n; b++, n++) {
                    j.tap[n] = j.rows.tap[a] * (int32_t)g->kw + j.cols.tap[b];
                    y[n] = j.rows.offset[a]; x[n] = j.cols.offset[b];
                }
            j.t = (taps){call->in[0], g->og, g->oh, g->ow, g->groups, 1, 1, j.cols.count, n, y, x, dx_joins(g) ? g->h * g->w : 0};
            if (j.band.floats) band_offsets(&j.band, &j.t, g->top - (g->kh - 1) * g->dh, g->left - (g->kw - 1) * g->dw, offset);
            lk_parallel(call->pool, (j.t.each ? 1 : g->n) * g->groups * j.split.mt * j.split.nt, 1, dx_pieces, &j);
        }
}

/* ---- conv2d_dw -------------------------------------------------------------------------------------------------- */
typedef struct {
    const lk_kernel_call *call; lk_conv_geometry g; lk_split split;
    float *turned, *scratch; bool swap;                   /* swap: rows are o, the result is dw itself */
} dw_job;
/* Row (c, kh, kw) of shifted x by k = (n, oh, ow). */
enum { SHORT_ROW = 64 };                                  /* rows of y up to this long keep their masks */
static void copy_shifted(const lk_operand *o, int64_t r, int nr, int64_t k, int nk, float *to, int64_t ld) {
    const lk_conv_geometry *g = o->ctx;
    const int64_t taps_n = g->kh * g->kw, item0 = k / (g->oh * g->ow), oh0 = k / g->ow % g->oh, ow0 = k % g->ow, plane = g->h * g->w;
    for (int i = 0; i < nr; i++, to += ld) {
        const int64_t tap = (r + i) % taps_n, y0 = tap / g->kw * g->dh - g->top, x0 = tap % g->kw * g->dw - g->left;
        const float *x = o->p + ((item0 * g->groups + o->group) * g->cg + (r + i) / taps_n) * plane;
        const bool short_row = g->sw == 1 && g->ow <= SHORT_ROW;
        vmask mask[SHORT_ROW / VW]; memset(mask, 0, sizeof mask);
        for (int64_t j = 0; short_row && j < g->ow; j += VW) {
            int from = v_clamp(-x0 - j), end = v_clamp(lk_k_min(g->ow, g->w - x0) - j);
            mask[j / VW] = v_mask(from, end < from ? from : end);
        }
        int64_t oh = oh0, ow = ow0;
        for (int done = 0; done < nk; ) {
            const int64_t n = lk_k_min(nk - done, g->ow - ow), y = oh * g->sh + y0;
            const float *row = y < 0 || y >= g->h ? NULL : x + y * g->w;
            if (row && short_row && n == g->ow) for (int64_t j = 0; j < n; j += VW) v_store(to + done + j, v_load_mask(row + x0 + j, mask[j / VW]));
            else lk_copy_tap_row(row, g->w, x0 + ow * g->sw, g->sw, n, to + done);
            done += (int)n; ow = 0;
            if (++oh == g->oh) { oh = 0; x += g->groups * g->cg * plane; }
        }
    }
}
static void dw_pieces(void *ctx, int64_t begin, int64_t end, int thread) {
    const dw_job *j = ctx;
    const lk_conv_geometry *g = &j->g;
    const int64_t rows = g->cg * g->kh * g->kw, m = j->swap ? g->og : rows, n = j->swap ? rows : g->og, pixels = g->oh * g->ow;
    for (int64_t i = begin; i < end; i++) {
        int64_t pn = i % j->split.nt, pm = i / j->split.nt % j->split.mt, group = i / (j->split.nt * j->split.mt);
        lk_operand x = {.layout = LK_BY_ROW, .p = j->call->in[0], .copy = copy_shifted, .ctx = g, .group = group};
        lk_operand dy = {.layout = LK_BY_ROW, .p = (const float *)j->call->in[1] + group * g->og * pixels, .stride = pixels, .period = pixels, .jump = g->groups * g->og * pixels};
        lk_product p = {.a = j->swap ? dy : x, .b = j->swap ? x : dy, .k = g->n * g->oh * g->ow, .ldc = n};
        p.c = (j->swap ? (float *)j->call->out : j->turned) + group * m * n;
        int64_t m0 = pm * j->split.mc, n0 = pn * j->split.nc;
        lk_gemm(&p, m0, lk_k_min(m, m0 + j->split.mc), n0, lk_k_min(n, n0 + j->split.nc), j->scratch + thread * LK_SCRATCH);
    }
}
static void dw_turn(void *ctx, int64_t begin, int64_t end, int thread) {
    const dw_job *j = ctx; (void)thread;
    const int64_t rows = j->g.cg * j->g.kh * j->g.kw, og = j->g.og;
    for (int64_t i = begin; i < end; i++) {             /* 64 outputs of a group */
        int64_t per = (og + 63) / 64, group = i / per, o = i % per * 64;
        lk_transpose(j->turned + group * rows * og + o, og, rows, lk_k_min(64, og - o), (float *)j->call->out + (group * og + o) * rows, rows);
    }
}
static void conv2d_dw(const lk_kernel_call *call) {
    lk_contract_counted();
    dw_job j = {.call = call, .g = lk_conv_geometry_of(call->node, call->in_shape), .turned = call->work};
    const lk_conv_geometry *g = &j.g;
    const int64_t rows = g->cg * g->kh * g->kw;
    j.scratch = j.turned + weight_floats(g);
    j.swap = lk_swap_pays(rows, g->og);
    j.split = j.swap ? lk_split_make(g->groups, g->og, rows, lk_pool_threads(call->pool)) : lk_split_make(g->groups, rows, g->og, lk_pool_threads(call->pool));
    lk_parallel(call->pool, g->groups * j.split.mt * j.split.nt, 1, dw_pieces, &j);
    if (!j.swap) lk_parallel(call->pool, g->groups * ((g->og + 63) / 64), 1, dw_turn, &j);
}

int64_t LK_KNAME(lk_conv_workspace)(const lk_node *node, const lk_shape *in, int threads) {
    lk_conv_geometry g = lk_conv_geometry_of(node, in);
    if (lk_conv_depthwise(&g) && node->op != LK_OP_conv2d_dw) return lk_depthwise_floats(node, in) * threads * (int64_t)sizeof(float);
    int64_t each = LK_SCRATCH, channels = 0;
    if (node->op == LK_OP_conv2d) {
        channels = g.cg;
        each += (forward_bands(&g, forward_split(&g, threads)).floats + 15) / 16 * 16;
    } else if (node->op == LK_OP_conv2d_dx) {
        channels = g.og;
        each = dx_per_thread(&g, dx_split(&g, threads));
    }
    return (weight_floats(&g) + table_floats(&g, channels) + each * threads) * (int64_t)sizeof(float);
}
void LK_KNAME(lk_kernels_conv)(lk_kernel *table) {
    table[LK_OP_conv2d] = conv2d; table[LK_OP_conv2d_dx] = conv2d_dx; table[LK_OP_conv2d_dw] = conv2d_dw;
}
