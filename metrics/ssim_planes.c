/* Where SSIM's values come from: channels of 8-bit pictures split into planes, doubles read where they lie, and means of blocks of either. A picture
 * halved again and again stays integers, sums of 4, 16, 64 and 256 bytes: exact, and a quarter of the memory that doubles take. */
#include "metrics/linalg.h"
#include "metrics/ssim_internal.h"
#include <stdlib.h>
#include <string.h>

void lk_planes_free(lk_planes *p) { free(p->own); }
lk_planes lk_planes_of_values(const double *a, const double *b, int h, int w, int c) {
    lk_planes p = { .c = c, .one = 1 };
    for (int i = 0; i < 2; i++) for (int k = 0; k < c; k++) p.plane[i][k] = (lk_plane){ .real = (i ? b : a) + k, .step = c, .h = h, .w = w };
    return p;
}

/* ---- channels of bytes --------------------------------------------------------------------------------------------------------- */
typedef uint8_t b16 __attribute__((vector_size(16)));
typedef uint8_t b16_at __attribute__((vector_size(16), aligned(1), may_alias));
/* Of the 32 bytes of two vectors, and then of a third, those of channel k: byte 3 p + k for p = 0 .. 15. */
#define FIRST(k, p) (3 * (p) + (k) < 32 ? 3 * (p) + (k) : 0)
#define THEN(k, p) (3 * (p) + (k) < 32 ? (p) : 3 * (p) + (k) - 16)
#define EACH(f, k) { f(k, 0), f(k, 1), f(k, 2), f(k, 3), f(k, 4), f(k, 5), f(k, 6), f(k, 7), f(k, 8), f(k, 9), f(k, 10), f(k, 11), f(k, 12), f(k, 13), f(k, 14), f(k, 15) }
#define CHANNEL(k) __builtin_shuffle(__builtin_shuffle(u, v, (b16)EACH(FIRST, k)), w, (b16)EACH(THEN, k))
LK_CLONES static void split3(const uint8_t *from, int64_t n, uint8_t *red, uint8_t *green, uint8_t *blue) {
    int64_t p = 0;
    for (; p + 16 <= n; p += 16) {
        b16 u = *(const b16_at *)(from + 3 * p), v = *(const b16_at *)(from + 3 * p + 16), w = *(const b16_at *)(from + 3 * p + 32);
        *(b16_at *)(red + p) = CHANNEL(0);
        *(b16_at *)(green + p) = CHANNEL(1);
        *(b16_at *)(blue + p) = CHANNEL(2);
    }
    for (; p < n; p++) {
        red[p] = from[3 * p];
        green[p] = from[3 * p + 1];
        blue[p] = from[3 * p + 2];
    }
}
typedef struct { const lk_image *im[2]; uint8_t *to; } split_job;       /* to: [picture][c][h][w] */
static void split_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const split_job *j = ctx;
    int64_t w = j->im[0]->w, plane = j->im[0]->h * w, c = j->im[0]->c, n = (end - begin) * w;
    (void)thread;
    for (int i = 0; i < 2; i++) {
        const uint8_t *from = j->im[i]->px + begin * w * c;
        uint8_t *to = j->to + i * c * plane + begin * w;
        if (c == 3) split3(from, n, to, to + plane, to + 2 * plane);
        else for (int64_t k = 0; k < c; k++) for (int64_t p = 0; p < n; p++) to[k * plane + p] = from[c * p + k];
    }
}
lk_planes lk_planes_of_images(const lk_image *a, const lk_image *b, lk_pool *pool) {
    int64_t plane = (int64_t)a->h * a->w;
    split_job j = { { a, b }, lk_xmalloc((size_t)(2 * a->c * plane + LK_SSIM_SLACK)) };
    lk_planes p = { .c = a->c, .one = 1, .own = j.to };
    lk_parallel(pool, a->h, 16, split_rows, &j);
    for (int i = 0; i < 2; i++) for (int k = 0; k < a->c; k++)
        p.plane[i][k] = (lk_plane){ .bytes = j.to + (i * a->c + k) * plane, .step = 1, .h = a->h, .w = a->w };
    return p;
}

/* ---- smaller pictures ---------------------------------------------------------------------------------------------------------- */
typedef struct { const lk_planes *from; lk_blocks b; int64_t h, w; double *real; uint16_t *sums; void *zeros /* a row */; } shrink_job;
static const lk_plane *plane_of(const lk_planes *p, int64_t i) { return &p->plane[i / p->c][i % p->c]; }

/* to[x] = the four values 2 x and 2 x + 1 of two rows, added: neighbours are the halves of a number twice as wide. */
typedef uint16_t pairs_of_bytes __attribute__((vector_size(32), aligned(1), may_alias));
typedef uint32_t pairs_of_sums __attribute__((vector_size(32), aligned(2), may_alias));
typedef uint16_t eight_sums __attribute__((vector_size(16)));
typedef uint16_t eight_sums_at __attribute__((vector_size(16), aligned(2), may_alias));
LK_CLONES static void fours_of_bytes(const uint8_t *up, const uint8_t *low, int64_t n, uint16_t *to) {
    int64_t x = 0;
    for (; x + 16 <= n; x += 16) {
        pairs_of_bytes u = *(const pairs_of_bytes *)(up + 2 * x), v = *(const pairs_of_bytes *)(low + 2 * x);
        *(pairs_of_bytes *)(to + x) = (u & 255) + (u >> 8) + (v & 255) + (v >> 8);
    }
    for (; x < n; x++) to[x] = (uint16_t)(up[2 * x] + up[2 * x + 1] + low[2 * x] + low[2 * x + 1]);
}
LK_CLONES static void fours_of_sums(const uint16_t *up, const uint16_t *low, int64_t n, uint16_t *to) {
    int64_t x = 0;
    for (; x + 8 <= n; x += 8) {
        pairs_of_sums u = *(const pairs_of_sums *)(up + 2 * x), v = *(const pairs_of_sums *)(low + 2 * x);
        *(eight_sums_at *)(to + x) = __builtin_convertvector((u & 65535) + (u >> 16) + (v & 65535) + (v >> 16), eight_sums);
    }
    for (; x < n; x++) to[x] = (uint16_t)(up[2 * x] + up[2 * x + 1] + low[2 * x] + low[2 * x + 1]);
}
static void sum_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const shrink_job *j = ctx;
    const int left = j->b.left, times = j->b.repeat ? 2 : 1;
    (void)thread;
    for (int64_t r = begin; r < end; r++) {
        const lk_plane *p = plane_of(j->from, r / j->h);
        uint16_t *to = j->sums + r * j->w;
        int64_t y = 2 * (r % j->h) - j->b.top, above = y < 0 && j->b.repeat ? 0 : y;
        if (p->bytes) {
            const uint8_t *up = above < 0 ? j->zeros : p->bytes + above * p->w, *low = p->bytes + (y + 1) * p->w;
            if (left) to[0] = (uint16_t)(times * (up[0] + low[0]));
            fours_of_bytes(up + left, low + left, j->w - left, to + left);
        } else {
            const uint16_t *up = above < 0 ? j->zeros : p->sums + above * p->w, *low = p->sums + (y + 1) * p->w;
            if (left) to[0] = (uint16_t)(times * (up[0] + low[0]));
            fours_of_sums(up + left, low + left, j->w - left, to + left);
        }
    }
}
/* Row y, n values, with what is put in front. */
static void padded_row(const lk_plane *p, const lk_blocks *b, int64_t y, int64_t n, double *to) {
    const int64_t row = y < b->top ? 0 : y - b->top, at = row * p->w;
    if (p->bytes) for (int64_t x = b->left; x < n; x++) to[x] = p->bytes[at + x - b->left];
    else for (int64_t x = b->left; x < n; x++) to[x] = p->real[(at + x - b->left) * p->step];
    for (int x = 0; x < b->left; x++) to[x] = b->repeat ? to[b->left] : 0;
    if (!b->repeat && y < b->top) memset(to, 0, (size_t)n * sizeof *to);
}
static void real_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const shrink_job *j = ctx;
    const int64_t f = j->b.f;
    double *line = lk_xmalloc((size_t)(j->w * f) * sizeof *line);
    (void)thread;
    for (int64_t r = begin; r < end; r++) {
        double *to = j->real + r * j->w;
        memset(to, 0, (size_t)j->w * sizeof *to);
        for (int64_t u = 0; u < f; u++) {
            padded_row(plane_of(j->from, r / j->h), &j->b, r % j->h * f + u, j->w * f, line);
            for (int64_t x = 0; x < j->w; x++) for (int64_t v = 0; v < f; v++) to[x] += line[x * f + v];
        }
        for (int64_t x = 0; x < j->w; x++) to[x] /= (double)(f * f);
    }
    free(line);
}
lk_planes lk_planes_shrunk(const lk_planes *from, lk_blocks b, lk_pool *pool) {
    const lk_plane *p = &from->plane[0][0];
    shrink_job j = { from, b, (p->h + b.top) / b.f, (p->w + b.left) / b.f, NULL, NULL, NULL };
    bool integers = b.f == 2 && !p->real;
    int64_t plane = j.h * j.w, all = 2 * from->c * plane;
    lk_planes out = { .c = from->c, .one = integers ? 4 * from->one : from->one };
    if (integers) {
        out.own = j.sums = lk_xmalloc((size_t)all * sizeof *j.sums + LK_SSIM_SLACK);
        j.zeros = lk_xcalloc((size_t)p->w, sizeof *j.sums);
    } else out.own = j.real = lk_xmalloc((size_t)all * sizeof *j.real);
    lk_parallel(pool, 2 * from->c * j.h, 16, integers ? sum_rows : real_rows, &j);
    free(j.zeros);
    for (int i = 0; i < 2 * from->c; i++)
        out.plane[i / from->c][i % from->c] = (lk_plane){ .sums = integers ? j.sums + i * plane : NULL, .real = integers ? NULL : j.real + i * plane, .step = 1, .h = j.h, .w = j.w };
    return out;
}
