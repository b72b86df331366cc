/* permute, slice, pad, concat, broadcast, gather_rows and scatter_add_rows: where elements go. No
 * arithmetic but scatter_add_rows' sums (docs/numerics.md rule 3: from +0, in increasing source index),
 * so F32 and I64 values share all the rest as elements of 4 or 8 bytes.
 *
 * permute, slice, concat and broadcast are one thing: a box of elements, written in row-major order of the
 * output, read with any strides. Axes that both sides walk as one are joined; then the innermost axis is
 * a memcpy (stride 1), a fill (stride 0), half of a tiled 2-D transpose (another axis has stride 1) or a
 * strided read. */
#include "backend/cpu/kernels/kernels.h"
#include <string.h>

enum { EDGE = 16 };                                 /* a transpose's tile: EDGE x EDGE */

typedef struct {
    int rank, size;                                 /* size: bytes of an element, 4 or 8 */
    int64_t d[LK_MAX_RANK], to[LK_MAX_RANK], from[LK_MAX_RANK];   /* lengths; strides in elements */
    char *out; const char *in;
    int across;                                     /* axis of stride 1 in the source, for a transpose; else -1 */
} box;

static box box_join(box b) {
    box j = b;
    j.rank = 0; j.across = -1;
    for (int i = 0; i < b.rank; i++) {
        if (b.d[i] == 1) continue;
        int k = j.rank - 1;
        if (k >= 0 && j.to[k] == b.to[i] * b.d[i] && j.from[k] == b.from[i] * b.d[i]) { j.d[k] *= b.d[i]; j.to[k] = b.to[i]; j.from[k] = b.from[i]; continue; }
        j.d[++k] = b.d[i]; j.to[k] = b.to[i]; j.from[k] = b.from[i]; j.rank++;
    }
    if (!j.rank || j.to[j.rank - 1] != 1) { j.d[j.rank] = j.to[j.rank] = j.from[j.rank] = 1; j.rank++; }   /* the last axis is written without gaps */
    int last = j.rank - 1;
    if (j.from[last] > 1) for (int i = 0; i < last; i++) if (j.from[i] == 1) j.across = i;
    return j;
}
static int64_t box_numel(const box *b) { int64_t n = 1; for (int i = 0; i < b->rank; i++) n *= b->d[i]; return n; }
/* Element offsets of row `row` over the axes before the last, without `skip` (-1: none). */
static void row_offsets(const box *b, int64_t row, int skip, int64_t *to, int64_t *from) {
    *to = *from = 0;
    for (int i = b->rank - 2; i >= 0; i--) {
        if (i == skip) continue;
        int64_t at = row % b->d[i]; row /= b->d[i];
        *to += at * b->to[i]; *from += at * b->from[i];
    }
}

/* One row on: at are the coordinates over the axes before the last. */
static inline void next_row(const box *b, int64_t *at, int64_t *to, int64_t *from) {
    for (int i = b->rank - 2; i >= 0; i--) {
        *to += b->to[i]; *from += b->from[i];
        if (++at[i] < b->d[i]) return;
        at[i] = 0; *to -= b->d[i] * b->to[i]; *from -= b->d[i] * b->from[i];
    }
}

#define TYPED(T, suffix) \
static void row_##suffix(T *restrict out, const T *restrict in, int64_t n, int64_t from) { \
    if (from == 0) { T v = *in; for (int64_t i = 0; i < n; i++) out[i] = v; } \
    else for (int64_t i = 0; i < n; i++) out[i] = in[i * from]; \
} \
/* out[r * to + i] = in[r + i * from] for rows r in [0, rows), i in [0, n): reads and writes whole lines of a tile */ \
static void turn_##suffix(T *restrict out, int64_t to, const T *restrict in, int64_t from, int rows, int n) { \
    if (rows == EDGE && n == EDGE) { \
        T t[EDGE][EDGE]; \
        for (int i = 0; i < EDGE; i++) for (int r = 0; r < EDGE; r++) t[i][r] = in[r + i * from]; \
        for (int r = 0; r < EDGE; r++) for (int i = 0; i < EDGE; i++) out[r * to + i] = t[i][r]; \
    } else for (int r = 0; r < rows; r++) for (int i = 0; i < n; i++) out[r * to + i] = in[r + i * from]; \
}
TYPED(uint32_t, 4)
TYPED(uint64_t, 8)

static void flat(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const box *b = ctx;
    memcpy(b->out + begin * b->size, b->in + begin * b->size, (size_t)((end - begin) * b->size));
}
static void box_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const box *b = ctx;
    int64_t n = b->d[b->rank - 1], stride = b->from[b->rank - 1], to, from, at[LK_MAX_RANK];
    row_offsets(b, begin, -1, &to, &from);
    for (int64_t i = b->rank - 2, rest = begin; i >= 0; i--) { at[i] = rest % b->d[i]; rest /= b->d[i]; }
    for (int64_t row = begin; row < end; row++, next_row(b, at, &to, &from)) {
        char *out = b->out + to * b->size; const char *in = b->in + from * b->size;
        if (stride == 1) memcpy(out, in, (size_t)(n * b->size));
        else if (b->size == 4) row_4((uint32_t *)out, (const uint32_t *)in, n, stride);
        else row_8((uint64_t *)out, (const uint64_t *)in, n, stride);
    }
}
/* One task: EDGE positions of the `across` axis, the whole last axis, one place of the others. */
static void box_turned(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const box *b = ctx;
    int64_t n = b->d[b->rank - 1], rows = b->d[b->across], strips = (rows + EDGE - 1) / EDGE, stride = b->from[b->rank - 1], step = b->to[b->across];
    for (int64_t t = begin; t < end; t++) {
        int64_t to, from, first = t % strips * EDGE;
        row_offsets(b, t / strips, b->across, &to, &from);
        char *out = b->out + (to + first * step) * b->size; const char *in = b->in + (from + first) * b->size;
        int height = (int)lk_k_min(EDGE, rows - first);
        for (int64_t i = 0; i < n; i += EDGE) {
            int width = (int)lk_k_min(EDGE, n - i);
            if (b->size == 4) turn_4((uint32_t *)out + i, step, (const uint32_t *)in + i * stride, stride, height, width);
            else turn_8((uint64_t *)out + i, step, (const uint64_t *)in + i * stride, stride, height, width);
        }
    }
}
static void box_copy(lk_pool *pool, box raw) {
    box b = box_join(raw);
    int64_t n = box_numel(&b), last = b.d[b.rank - 1];
    if (!n) return;
    if (b.rank == 1 && b.from[0] == 1) { lk_parallel(pool, n, LK_GRAIN, flat, &b); return; }
    if (b.across < 0) { lk_parallel(pool, n / last, lk_k_max(1, LK_GRAIN / last), box_rows, &b); return; }
    int64_t rows = b.d[b.across], strips = (rows + EDGE - 1) / EDGE;
    lk_parallel(pool, n / last / rows * strips, lk_k_max(1, LK_GRAIN / (EDGE * last)), box_turned, &b);
}
static int size_of(const lk_node *n) { return n->dtype == LK_I64 ? 8 : 4; }
/* The whole output, read from `in` with strides still to be set. */
static box box_of(const lk_kernel_call *c) {
    box b = {.rank = c->node->shape.rank, .size = size_of(c->node), .out = c->out, .in = c->in[0]};
    memcpy(b.d, c->node->shape.d, sizeof b.d);
    lk_k_strides(c->node->shape, b.to);
    return b;
}

static void k_permute(const lk_kernel_call *c) {
    box b = box_of(c);
    int64_t stride[LK_MAX_RANK];
    lk_k_strides(c->in_shape[0], stride);
    for (int i = 0; i < b.rank; i++) b.from[i] = stride[c->node->attr.perm[i]];
    box_copy(c->pool, b);
}
static void k_slice(const lk_kernel_call *c) {
    box b = box_of(c);
    lk_k_strides(c->in_shape[0], b.from);
    for (int i = 0; i < b.rank; i++) b.in += c->node->attr.window.lo[i] * b.from[i] * b.size;
    box_copy(c->pool, b);
}
static void k_broadcast(const lk_kernel_call *c) {
    box b = box_of(c);
    int64_t stride[LK_MAX_RANK];
    lk_shape in = c->in_shape[0];
    lk_k_strides(in, stride);
    for (int i = 0; i < b.rank; i++) {
        int j = i - (b.rank - in.rank);
        b.from[i] = j >= 0 && in.d[j] != 1 ? stride[j] : 0;
    }
    box_copy(c->pool, b);
}
static void k_concat(const lk_kernel_call *c) {
    lk_shape out = c->node->shape;
    int axis = c->node->attr.axis < 0 ? c->node->attr.axis + out.rank : c->node->attr.axis;
    char *at = c->out;
    for (int k = 0; k < c->node->n_in; k++) {
        box b = {.rank = out.rank, .size = size_of(c->node), .out = at, .in = c->in[k]};
        memcpy(b.d, c->in_shape[k].d, sizeof b.d);
        lk_k_strides(out, b.to);
        lk_k_strides(c->in_shape[k], b.from);
        box_copy(c->pool, b);
        at += b.d[axis] * b.to[axis] * b.size;
    }
}

/* ---- pad: row by row, a row being the last padded axis with all behind it -------------------------- */
typedef struct { lk_shape in, out; const lk_window *w; int axis; int64_t unit; const char *x; char *y; } padding;
static void pad_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const padding *p = ctx;
    int64_t body = p->in.d[p->axis] * p->unit, row_bytes = p->out.d[p->axis] * p->unit, before = p->w->lo[p->axis] * p->unit;
    for (int64_t row = begin; row < end; row++) {
        int64_t rest = row, source = 0, span = 1;
        bool inside = true;
        for (int i = p->axis - 1; i >= 0; i--) {
            int64_t at = rest % p->out.d[i] - p->w->lo[i];
            rest /= p->out.d[i];
            inside = inside && at >= 0 && at < p->in.d[i];
            source += at * span; span *= p->in.d[i];
        }
        char *y = p->y + row * row_bytes;
        if (!inside) { memset(y, 0, (size_t)row_bytes); continue; }
        memset(y, 0, (size_t)before);
        memcpy(y + before, p->x + source * body, (size_t)body);
        memset(y + before + body, 0, (size_t)(row_bytes - before - body));
    }
}
static void k_pad(const lk_kernel_call *c) {
    const lk_window *w = &c->node->attr.window;
    padding p = {c->in_shape[0], c->node->shape, w, 0, size_of(c->node), c->in[0], c->out};
    for (int i = 0; i < p.out.rank; i++) if (w->lo[i] || w->hi[i]) p.axis = i;
    if (!p.out.rank) { memcpy(c->out, c->in[0], (size_t)p.unit); return; }
    p.unit *= lk_k_span(p.out, p.axis + 1, p.out.rank);
    int64_t rows = lk_k_span(p.out, 0, p.axis), row_bytes = p.out.d[p.axis] * p.unit;
    if (row_bytes) lk_parallel(c->pool, rows, lk_k_max(1, LK_GRAIN * 4 / row_bytes), pad_rows, &p);
}

/* ---- rows by index. An index outside the table reads NaN (it must be seen, and must not read other
 * memory) and is dropped when written. ------------------------------------------------------------- */
typedef struct { const char *table; const int64_t *id; char *out; int64_t n, d, count; int size; } indexed;
static void gather(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const indexed *g = ctx;
    int64_t bytes = g->d * g->size;
    for (int64_t i = begin; i < end; i++) {
        char *out = g->out + i * bytes;
        if (g->id[i] >= 0 && g->id[i] < g->count) memcpy(out, g->table + g->id[i] * bytes, (size_t)bytes);
        else if (g->size == 8) memset(out, 0xff, (size_t)bytes);
        else for (int64_t k = 0; k < g->d; k++) ((uint32_t *)out)[k] = 0x7fc00000u;
    }
}
static void k_gather_rows(const lk_kernel_call *c) {
    int64_t n = lk_k_numel(c->in_shape[1]), count = c->in_shape[0].d[0];
    indexed g = {c->in[0], c->in[1], c->out, n, lk_k_span(c->in_shape[0], 1, c->in_shape[0].rank), count, size_of(c->node)};
    lk_parallel(c->pool, n, lk_k_max(1, LK_GRAIN / lk_k_max(1, g.d)), gather, &g);
}
/* Threads share the columns: every sum stays in one thread, in source order. */
static void scatter_columns(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const indexed *g = ctx;
    float *out = (float *)g->out;
    const float *rows = (const float *)g->table;
    int64_t width = end - begin;
    for (int64_t v = 0; v < g->count; v++) memset(out + v * g->d + begin, 0, (size_t)width * sizeof *out);
    for (int64_t i = 0; i < g->n; i++) {
        if (g->id[i] < 0 || g->id[i] >= g->count) continue;
        float *restrict to = out + g->id[i] * g->d + begin;
        const float *restrict from = rows + i * g->d + begin;
        for (int64_t k = 0; k < width; k++) to[k] += from[k];
    }
}
static void k_scatter_add_rows(const lk_kernel_call *c) {
    int64_t n = lk_k_numel(c->in_shape[1]), count = c->node->shape.d[0];
    indexed g = {c->in[0], c->in[1], c->out, n, lk_k_span(c->node->shape, 1, c->node->shape.rank), count, 4};
    lk_parallel(c->pool, g.d, lk_k_max(16, LK_GRAIN / lk_k_max(1, n + count)), scatter_columns, &g);
}

void LK_KNAME(lk_kernels_movement)(lk_kernel *table);
void LK_KNAME(lk_kernels_movement)(lk_kernel *table) {
    table[LK_OP_permute] = k_permute;
    table[LK_OP_slice] = k_slice;
    table[LK_OP_pad] = k_pad;
    table[LK_OP_concat] = k_concat;
    table[LK_OP_broadcast] = k_broadcast;
    table[LK_OP_gather_rows] = k_gather_rows;
    table[LK_OP_scatter_add_rows] = k_scatter_add_rows;
}
