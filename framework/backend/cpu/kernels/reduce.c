/* reduce_sum, reduce_max, max_mask, softmax and softmax_dx (docs/numerics.md rules 3, 4, 6).
 *
 * A reduction's axes are joined into alternating kept and reduced groups. Two shapes remain: the innermost
 * group is reduced (an output is a stream of contiguous runs, its 32 lanes are vector lanes), or it is kept
 * (up to TILE neighbouring outputs go together, vectorised over outputs, each with its own 32 lanes). Both
 * add the same numbers in the same order. */
#include "backend/cpu/kernels/rows.h"

enum { TILE = 64 };

typedef struct {
    int n_kept, n_red;                              /* n_red >= 1 */
    int64_t kept[LK_MAX_RANK], kept_stride[LK_MAX_RANK], red[LK_MAX_RANK], red_stride[LK_MAX_RANK];
    int64_t outputs, count;                         /* outputs; elements in each */
    bool red_inside;                                /* the innermost group is reduced */
} reduction;

static void add_group(int *n, int64_t *d, int64_t *stride, bool join, int64_t len, int64_t s) {
    if (join) d[*n - 1] *= len; else { d[*n] = len; ++*n; }
    stride[*n - 1] = s;
}
static reduction reduction_of(lk_shape in, const lk_axes *axes) {
    bool reduced[LK_MAX_RANK] = {false};
    int64_t stride[LK_MAX_RANK];
    for (int i = 0; i < axes->n; i++) reduced[axes->axis[i] < 0 ? axes->axis[i] + in.rank : axes->axis[i]] = true;
    lk_k_strides(in, stride);
    reduction r = {.outputs = 1, .count = 1, .red_inside = true};
    int last = -1;                                  /* kind of the group before */
    for (int i = 0; i < in.rank; i++) {
        if (in.d[i] == 1) continue;
        if (reduced[i]) { add_group(&r.n_red, r.red, r.red_stride, last == 1, in.d[i], stride[i]); r.count *= in.d[i]; }
        else { add_group(&r.n_kept, r.kept, r.kept_stride, last == 0, in.d[i], stride[i]); r.outputs *= in.d[i]; }
        last = reduced[i];
    }
    if (!r.n_red) { r.n_red = 1; r.red[0] = 1; r.red_stride[0] = 0; }
    r.red_inside = last != 0;
    return r;
}
static int64_t offset_of(int n, const int64_t *d, const int64_t *stride, int64_t index) {
    int64_t off = 0;
    for (int i = n - 1; i > 0; i--) { off += index % d[i] * stride[i]; index /= d[i]; }
    return n ? off + index * stride[0] : 0;
}
/* The outer reduced axes, one step. */
typedef struct { int64_t at[LK_MAX_RANK], off; } walk;
static void walk_next(const reduction *r, walk *w) {
    for (int i = r->n_red - 2; i >= 0; i--) {
        w->off += r->red_stride[i];
        if (++w->at[i] < r->red[i]) return;
        w->at[i] = 0; w->off -= r->red[i] * r->red_stride[i];
    }
}

typedef struct { reduction r; const float *x; float *out; } job;
static int64_t tiles_of(const reduction *r) { return (r->kept[r->n_kept - 1] + TILE - 1) / TILE; }
/* The output tile of task t: first output, its place in x, how many outputs. */
typedef struct { int64_t out, base; int width; } tile;
static tile tile_of(const reduction *r, int64_t t) {
    int64_t k = r->kept[r->n_kept - 1], tiles = tiles_of(r), row = t / tiles, first = t % tiles * TILE;
    return (tile){row * k + first, offset_of(r->n_kept - 1, r->kept, r->kept_stride, row) + first, (int)lk_k_min(TILE, k - first)};
}
/* Runs fn over outputs, or over tiles of outputs where the innermost group is kept. */
static void each_output(lk_pool *pool, job *j, lk_pool_fn by_output, lk_pool_fn by_tile) {
    const reduction *r = &j->r;
    if (r->red_inside) { lk_parallel(pool, r->outputs, lk_k_max(1, LK_GRAIN / lk_k_max(1, r->count)), by_output, j); return; }
    int64_t tasks = r->outputs / r->kept[r->n_kept - 1] * tiles_of(r);
    lk_parallel(pool, tasks, lk_k_max(1, LK_GRAIN / (lk_k_max(1, r->count) * TILE)), by_tile, j);
}

/* ---- reduce_sum ------------------------------------------------------------------------------- */
static void sum_outputs(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const job *j = ctx; const reduction *r = &j->r;
    int64_t run = r->red[r->n_red - 1], runs = run ? r->count / run : 0;
    for (int64_t o = begin; o < end; o++) {
        const float *x = j->x + offset_of(r->n_kept, r->kept, r->kept_stride, o);
        if (runs == 1) { j->out[o] = lk_row_sum(x, run); continue; }
        walk w = {{0}, 0};
        lk_sum s; lk_sum_begin(&s);
        for (int64_t i = 0; i < runs; i++, walk_next(r, &w)) lk_sum_run(&s, run, x + w.off);
        j->out[o] = lk_sum_end(&s);
    }
}
typedef struct { float lane[LK_LANES][TILE] __attribute__((aligned(64))); float level[LK_LEVELS][TILE]; int64_t pos, chunks; int lanes; } tile_sum;   /* lanes: 32, fewer if there are fewer elements in all */

static inline void add_row(float *restrict acc, const float *restrict x, int width) {
    if (width == TILE) for (int k = 0; k < TILE; k++) acc[k] += x[k];
    else for (int k = 0; k < width; k++) acc[k] += x[k];
}
static void tile_fold(tile_sum *s, int width, float *restrict v) {
    for (int half = LK_LANES / 2, n = s->lanes; half; half /= 2) {
        for (int l = half; l < n; l++) add_row(s->lane[l - half], s->lane[l], width);
        n = (int)lk_k_min(n, half);
    }
    memcpy(v, s->lane[0], (size_t)width * sizeof *v);
}
static void tile_close(tile_sum *s, int width) {
    float v[TILE];
    int k = 0;
    tile_fold(s, width, v);
    for (int64_t c = s->chunks++; c & 1; c >>= 1, k++) for (int i = 0; i < width; i++) v[i] = s->level[k][i] + v[i];
    memcpy(s->level[k], v, (size_t)width * sizeof *v);
    memset(s->lane, 0, sizeof s->lane); s->pos = 0;
}
static void tile_end(tile_sum *s, int width, float *out) {
    if (!s->chunks) { tile_fold(s, width, out); return; }
    if (s->pos) tile_close(s, width);
    int k = __builtin_ctzll((unsigned long long)s->chunks);
    memcpy(out, s->level[k], (size_t)width * sizeof *out);
    for (k++; s->chunks >> k; k++) if (s->chunks >> k & 1) for (int i = 0; i < width; i++) out[i] = s->level[k][i] + out[i];
}
static void sum_tiles(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const job *j = ctx; const reduction *r = &j->r;
    int64_t run = r->red[r->n_red - 1], runs = run ? r->count / run : 0, step = r->red_stride[r->n_red - 1];
    for (int64_t t = begin; t < end; t++) {
        tile at = tile_of(r, t);
        tile_sum s;
        walk w = {{0}, 0};
        s.lanes = (int)lk_k_max(1, lk_k_min(LK_LANES, r->count)); s.pos = s.chunks = 0;
        memset(s.lane, 0, (size_t)s.lanes * sizeof *s.lane);
        for (int64_t i = 0; i < runs; i++, walk_next(r, &w)) {
            const float *x = j->x + at.base + w.off;
            for (int64_t q = 0; q < run; q++, x += step) {
                add_row(s.lane[s.pos & (LK_LANES - 1)], x, at.width);
                if (++s.pos == LK_CHUNK) tile_close(&s, at.width);
            }
        }
        tile_end(&s, at.width, j->out + at.out);
    }
}
static void k_reduce_sum(const lk_kernel_call *c) {
    job j = {reduction_of(c->in_shape[0], &c->node->attr.axes), c->in[0], c->out};
    each_output(c->pool, &j, sum_outputs, sum_tiles);
}

/* ---- reduce_max, max_mask: the first of equal ones; nothing is above a NaN that comes first --------- */
static void max_outputs(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const job *j = ctx; const reduction *r = &j->r;
    int64_t run = r->red[r->n_red - 1], runs = run ? r->count / run : 0;
    for (int64_t o = begin; o < end; o++) {
        const float *x = j->x + offset_of(r->n_kept, r->kept, r->kept_stride, o);
        walk w = {{0}, 0};
        float m = runs ? x[0] : -__builtin_inff();
        for (int64_t i = 0; i < runs; i++, walk_next(r, &w)) m = lk_run_max(x + w.off, run, m);
        j->out[o] = m;
    }
}
/* Maxima of a tile, and (index not NULL) where in the reduced order each stands. */
static void tile_max(const reduction *r, const float *x, int width, float *m, int32_t *index) {
    int64_t run = r->red[r->n_red - 1], runs = run ? r->count / run : 0, step = r->red_stride[r->n_red - 1];
    walk w = {{0}, 0};
    int32_t n = 0;
    for (int k = 0; k < width; k++) m[k] = runs ? x[k] : -__builtin_inff();
    for (int64_t i = 0; i < runs; i++, walk_next(r, &w)) {
        const float *row = x + w.off;
        for (int64_t q = 0; q < run; q++, row += step, n++) {
            if (index) for (int k = 0; k < width; k++) index[k] = row[k] > m[k] ? n : index[k];
            for (int k = 0; k < width; k++) m[k] = row[k] > m[k] ? row[k] : m[k];
        }
    }
}
static void max_tiles(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const job *j = ctx;
    for (int64_t t = begin; t < end; t++) {
        tile at = tile_of(&j->r, t);
        tile_max(&j->r, j->x + at.base, at.width, j->out + at.out, NULL);
    }
}
static void k_reduce_max(const lk_kernel_call *c) {
    job j = {reduction_of(c->in_shape[0], &c->node->attr.axes), c->in[0], c->out};
    each_output(c->pool, &j, max_outputs, max_tiles);
}
static void mask_outputs(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const job *j = ctx; const reduction *r = &j->r;
    int64_t run = r->red[r->n_red - 1], runs = run ? r->count / run : 0;
    for (int64_t o = begin; o < end; o++) {
        int64_t base = offset_of(r->n_kept, r->kept, r->kept_stride, o);
        const float *x = j->x + base;
        float *out = j->out + base;
        float m = runs ? x[0] : 0;
        walk w = {{0}, 0};
        for (int64_t i = 0; i < runs; i++, walk_next(r, &w)) m = lk_run_max(x + w.off, run, m);
        bool found = false;
        w = (walk){{0}, 0};
        for (int64_t i = 0; i < runs; i++, walk_next(r, &w)) {
            memset(out + w.off, 0, (size_t)run * sizeof *out);
            for (int64_t q = 0; q < run && !found; q++) if (x[w.off + q] == m || m != m) { out[w.off + q] = 1; found = true; }
        }
    }
}
static void mask_tiles(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const job *j = ctx; const reduction *r = &j->r;
    int64_t run = r->red[r->n_red - 1], runs = run ? r->count / run : 0, step = r->red_stride[r->n_red - 1];
    for (int64_t t = begin; t < end; t++) {
        tile at = tile_of(r, t);
        float m[TILE];
        int32_t index[TILE] = {0}, n = 0;
        walk w = {{0}, 0};
        tile_max(r, j->x + at.base, at.width, m, index);
        for (int64_t i = 0; i < runs; i++, walk_next(r, &w)) {
            float *row = j->out + at.base + w.off;
            for (int64_t q = 0; q < run; q++, row += step, n++)
                for (int k = 0; k < at.width; k++) row[k] = index[k] == n ? 1.0f : 0.0f;
        }
    }
}
static void k_max_mask(const lk_kernel_call *c) {
    job j = {reduction_of(c->in_shape[0], &c->node->attr.axes), c->in[0], c->out};
    each_output(c->pool, &j, mask_outputs, mask_tiles);
}

/* ---- softmax -------------------------------------------------------------------------------------- */
typedef struct { const float *a, *b; float *out; int64_t n; } rows;
static void softmax_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const rows *r = ctx;
    for (int64_t i = begin; i < end; i++) lk_softmax_row(r->a + i * r->n, r->out + i * r->n, r->n);
}
static void softmax_dx_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const rows *r = ctx;
    for (int64_t i = begin; i < end; i++) lk_softmax_dx_row(r->a + i * r->n, r->b + i * r->n, r->out + i * r->n, r->n);
}
static void each_row(const lk_kernel_call *c, const float *b, lk_pool_fn fn) {
    int64_t n = lk_k_last(c->node->shape), all = lk_k_numel(c->node->shape);
    rows r = {c->in[0], b, c->out, n};
    if (all) lk_parallel(c->pool, all / n, lk_k_max(1, LK_GRAIN / 4 / n), fn, &r);
}
static void k_softmax(const lk_kernel_call *c) { each_row(c, NULL, softmax_rows); }
static void k_softmax_dx(const lk_kernel_call *c) { each_row(c, c->in[1], softmax_dx_rows); }

void LK_KNAME(lk_kernels_reduce)(lk_kernel *table);
void LK_KNAME(lk_kernels_reduce)(lk_kernel *table) {
    table[LK_OP_reduce_sum] = k_reduce_sum;
    table[LK_OP_reduce_max] = k_reduce_max;
    table[LK_OP_max_mask] = k_max_mask;
    table[LK_OP_softmax] = k_softmax;
    table[LK_OP_softmax_dx] = k_softmax_dx;
}
