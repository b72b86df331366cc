/* Means of SSIM's maps under a separable window of 7 or 11 taps.
 *
 * Eight rows of a picture, far apart, lie side by side, a lane each (`band` rows of the map a lane), so both passes and the sums run over neighbouring
 * numbers and the compiler makes vectors of any width of them. A strip of eight columns goes down all rows: its values are dealt to the lanes, products
 * filtered along x, and a ring of such lines, small enough for the nearest cache, along y. Symmetric taps add their two ends first. Several scales need aa + bb only where no
 * variance is clamped, four maps instead of (a, b, aa, bb, ab). A row's sum runs over eight running sums, column mod 8, folded by halves,
 * rows fold in order: the same bits for any number of threads, lanes or strips. Sums of pixels are filtered as the integers they are, the
 * formula's constants scaled by a power of two instead: the bits of scaling the values. */
#include "metrics/linalg.h"
#include "metrics/ssim_internal.h"
#include "base/exact_math.h"     /* lk_exp_d */
#include <stdlib.h>
#include <string.h>

enum { MAPS = 5, TAPS_MOST = 11, LANES = 8, STRIP = 8, WIDE = STRIP * LANES, COLUMNS = STRIP + TAPS_MOST - 1, LINE = COLUMNS * LANES };
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

typedef struct { int taps; double tap[TAPS_MOST], scale; } kernel;      /* scale: applied to the 2-d sum */
static kernel kernel_of(lk_window w) {
    kernel k = { w == LK_UNIFORM7 ? 7 : 11, { 0 }, w == LK_UNIFORM7 ? 1.0 / 49 : 1 };
    double sum = 0;
    double sum32 = 0;                        /* of binary32 taps */
    float tap32[TAPS_MOST];
    for (int i = 0; i < k.taps; i++) {
        int x = i - k.taps / 2;
        k.tap[i] = w == LK_UNIFORM7 ? 1 : lk_exp_d(-(double)(x * x) / 4.5);
        sum += k.tap[i];
        tap32[i] = (float)lk_exp_d((float)-(x * x) / 4.5f);
        sum32 += tap32[i];
    }
    if (w == LK_GAUSS11) for (int i = 0; i < k.taps; i++) k.tap[i] /= sum;
    if (w == LK_GAUSS11_F32) for (int i = 0; i < k.taps; i++) k.tap[i] = tap32[i] / (float)sum32;
    return k;
}
typedef struct { double c1, c2, covariance, scale; int clamp; } terms;     /* no bool: GCC 12 makes no vectors of a loop that reads one */
/* The planes of one mean. A row of output is row r % oh of plane r / oh. */
typedef struct {
    const lk_planes *from;
    int pad;
    bool contrast;                               /* alone */
    int64_t oh, ow, crop;                        /* crop: rows and columns that the mean leaves out */
    kernel k;
    terms t;
    void (*across)(double *restrict line, double *restrict to, const double *restrict tap);
    void (*down)(const double *restrict ring, const int64_t *restrict at, const terms *restrict, double *restrict map, const double *restrict tap);
    double *row;                                 /* [c * oh]: sums of the map */
} job;

/* ---- values of eight rows, a lane each --------------------------------------------------------------------------------------------- */
/* n columns of rows of elements of `size` bytes. A row's word holds eight bytes or four sums; one of them with the exponent of 2^52 in front is
 * 2^52 more than its value. */
INLINE void deal_words(const void *from, const int64_t start[LANES], int size, int n, double *restrict to) {
    const int each = 8 / size, bits = 8 * size;
    UNROLL for (int x = 0; x < n; x += each) {
        uint64_t word[LANES];
        UNROLL for (int l = 0; l < LANES; l++) memcpy(word + l, (const char *)from + (start[l] + x) * size, sizeof *word);
        const int most = n - x < each ? n - x : each;
        UNROLL for (int i = 0; i < most; i++) for (int l = 0; l < LANES; l++) {
            union { uint64_t bits; double value; } u = { (word[l] >> i * bits & ((1 << bits) - 1)) | 0x4330000000000000 };
            to[(x + i) * LANES + l] = u.value - 0x1p52;
        }
    }
}
static int64_t reflected(int64_t i, int64_t n) { return i < 0 ? -i : i < n ? i : 2 * (n - 1) - i; }
/* Columns one by one: beyond the padded plane the last again, which no output that counts sees. */
static void deal_each(const lk_plane *p, const int64_t start[LANES], int64_t x, int pad, int64_t n, double *to) {
    for (int64_t i = 0; i < n; i++) {
        int64_t at = x + i < p->w + 2 * pad ? x + i : p->w + 2 * pad - 1;
        at = reflected(at - pad, p->w);
        for (int l = 0; l < LANES; l++) to[i * LANES + l] = p->bytes ? p->bytes[start[l] + at] : p->sums ? p->sums[start[l] + at] : p->real[(start[l] + at) * p->step];
    }
}
/* A line of one picture's strip: columns from x on of the rows that begin at `start`. */
LK_CLONES static void deal(const lk_plane *p, const int64_t start[LANES], int64_t x, int pad, int64_t n, double *restrict to) {
    if (x < pad || (x - pad + n > p->w && (pad || p->real))) deal_each(p, start, x, pad, n, to);
    else if (p->bytes) deal_words(p->bytes + x - pad, start, 1, COLUMNS, to);
    else if (p->sums) deal_words(p->sums + x - pad, start, 2, COLUMNS, to);
    else for (int64_t i = 0; i < n; i++) for (int l = 0; l < LANES; l++) to[i * LANES + l] = p->real[(start[l] + x - pad + i) * p->step];
}

/* ---- passes -------------------------------------------------------------------------------------------------------------------------- */
/* line[MAPS][LINE] (a, b given) -> to[maps][WIDE]. Four maps: a, b, aa + bb, ab. */
INLINE void across(double *restrict line, double *restrict to, const double *restrict tap, int taps, int maps) {
    const int mid = taps / 2, n = (STRIP + taps - 1) * LANES;
    double *restrict aa = line + 2 * LINE, *restrict bb = line + 3 * LINE, *restrict ab = line + (maps - 1) * LINE;
    for (int i = 0; i < n; i++) {
        const double a = line[i], b = line[LINE + i];
        aa[i] = maps == MAPS ? a * a : a * a + b * b;
        if (maps == MAPS) bb[i] = b * b;
        ab[i] = a * b;
    }
    for (int j = 0; j < maps; j++) for (int i = 0; i < WIDE; i++) {
        const double *at = line + j * LINE + i;
        double s = at[mid * LANES] * tap[mid];
        UNROLL for (int k = mid - 1; k >= 0; k--) s += (at[k * LANES] + at[(taps - 1 - k) * LANES]) * tap[k];
        to[j * WIDE + i] = s;
    }
}
INLINE double window(const double *const *line, int64_t i, const double *restrict tap, int taps) {
    const int mid = taps / 2;
    double s = line[mid][i] * tap[mid];
    UNROLL for (int k = mid - 1; k >= 0; k--) s += (line[k][i] + line[taps - 1 - k][i]) * tap[k];
    return s;
}
/* `taps` lines [maps][WIDE] -> lines of the contrast and of both means. */
INLINE void down(const double *const *line, const terms t, double *restrict map, const double *restrict tap, int taps, int maps) {
    for (int i = 0; i < WIDE; i++) {
        double a = window(line, i, tap, taps) * t.scale, b = window(line, WIDE + i, tap, taps) * t.scale, aa = a * a, bb = b * b, ab = a * b, both;
        if (maps == MAPS) {
            double va = (window(line, 2 * WIDE + i, tap, taps) * t.scale - aa) * t.covariance, vb = (window(line, 3 * WIDE + i, tap, taps) * t.scale - bb) * t.covariance;
            va = t.clamp && !(va > 0) ? 0 : va;
            vb = t.clamp && !(vb > 0) ? 0 : vb;
            both = va + vb;
        } else both = (window(line, 2 * WIDE + i, tap, taps) * t.scale - (aa + bb)) * t.covariance;
        double vab = (window(line, (maps - 1) * WIDE + i, tap, taps) * t.scale - ab) * t.covariance;
        map[i] = (2.0 * vab + t.c2) / (both + t.c2);
        map[WIDE + i] = a;
        map[2 * WIDE + i] = b;
    }
}
/* Contrast and means -> SSIM. */
LK_CLONES static void times_luminance(double *restrict map, double c1) {
    for (int i = 0; i < WIDE; i++) {
        double a = map[WIDE + i], b = map[2 * WIDE + i];
        map[i] = (2.0 * (a * b) + c1) / (a * a + b * b + c1) * map[i];
    }
}
LK_CLONES static void add(double *restrict sum, const double *restrict map, int begin, int end) {
    if (begin == 0 && end == WIDE) for (int i = 0; i < WIDE; i++) sum[i] += map[i];
    else for (int i = begin; i < end; i++) sum[i] += map[i];
}
#define PASSES(name, taps, maps) \
    LK_CLONES static void across##name(double *restrict line, double *restrict to, const double *restrict tap) { across(line, to, tap, taps, maps); } \
    LK_CLONES static void down##name(const double *restrict ring, const int64_t *restrict at, const terms *restrict t, double *restrict map, const double *restrict tap) { \
        const double *line[TAPS_MOST]; \
        for (int i = 0; i < taps; i++) line[i] = ring + at[i]; \
        down(line, *t, map, tap, taps, maps); \
    }
PASSES(11, 11, 5)
PASSES(11x4, 11, 4)
PASSES(7, 7, 5)
/* Columns x .. x + STRIP - 1 of a plane: every line of `band` rows, from rows that begin at start[band + taps - 1][LANES], added to sum[band][WIDE]. */
static void strip(const job *j, int plane, const int64_t *start, int64_t band, int64_t x, double *line /* [MAPS][LINE] */, double *ring /* [taps][MAPS][WIDE] */, double *sum) {
    const int taps = j->k.taps;
    const int64_t from = j->crop - x, to = j->ow - j->crop - x;
    const int begin = from < 0 ? 0 : from < STRIP ? (int)from : STRIP, end = to < STRIP ? to < begin ? begin : (int)to : STRIP;
    int64_t slot[2 * TAPS_MOST];
    double map[3 * WIDE];
    for (int i = 0; i < 2 * taps; i++) slot[i] = i % taps * MAPS * WIDE;
    for (int64_t y = 0, at = 0; y < band + taps - 1; y++, at = at + 1 < taps ? at + 1 : 0) {
        for (int i = 0; i < 2; i++) deal(&j->from->plane[i][plane], start + y * LANES, x, j->pad, STRIP + taps - 1, line + i * LINE);
        j->across(line, ring + slot[at], j->k.tap);
        if (y < taps - 1) continue;
        j->down(ring, slot + at + 1, &j->t, map, j->k.tap);
        if (!j->contrast) times_luminance(map, j->t.c1);
        add(sum + (y - taps + 1) * WIDE, map, begin * LANES, end * LANES);
    }
}
/* Rows begin .. end - 1 of one plane. */
static void plane_rows(const job *j, int plane, int64_t begin, int64_t end) {
    const lk_plane *p = &j->from->plane[0][plane];
    const int64_t band = (end - begin + LANES - 1) / LANES, lines = band + j->k.taps - 1, last = p->h + 2 * j->pad - 1;
    double *line = lk_xaligned((size_t)(MAPS * LINE + j->k.taps * MAPS * WIDE + band * WIDE) * sizeof *line), *ring = line + MAPS * LINE, *sum = ring + j->k.taps * MAPS * WIDE;
    int64_t *start = lk_xmalloc((size_t)(lines * LANES) * sizeof *start);
    for (int64_t y = 0; y < lines; y++) for (int l = 0; l < LANES; l++) {
        int64_t r = begin + l * band + y;
        start[y * LANES + l] = reflected((r < last ? r : last) - j->pad, p->h) * p->w;
    }
    memset(sum, 0, (size_t)(band * WIDE) * sizeof *sum);
    for (int64_t x = 0; x < j->ow; x += STRIP) strip(j, plane, start, band, x, line, ring, sum);
    for (int64_t y = 0; y < band; y++) for (int l = 0; l < LANES && begin + l * band + y < end; l++) {
        double v[STRIP];
        for (int i = 0; i < STRIP; i++) v[i] = sum[y * WIDE + i * LANES + l];
        j->row[plane * j->oh + begin + l * band + y] = lk_sum(v, STRIP);
    }
    free(start);
    free(line);
}
static void rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const job *j = ctx;
    (void)thread;
    while (begin < end) {
        int plane = (int)(begin / j->oh);
        int64_t stop = (plane + 1) * j->oh < end ? (plane + 1) * j->oh : end;
        plane_rows(j, plane, begin - plane * j->oh, stop - plane * j->oh);
        begin = stop;
    }
}
void lk_ssim_means(const lk_ssim_map *m, const lk_planes *from, double range, lk_pool *pool, double *mean) {
    const lk_plane *p = &from->plane[0][0];
    job j = { .from = from, .k = kernel_of(m->window), .contrast = m->contrast };
    int taps = j.k.taps, pad = j.pad = m->whole ? taps / 2 : 0;
    double n = taps * taps, square = from->one * from->one;
    bool joint = m->scale && !m->whole;
    j.across = taps == 7 ? across7 : joint ? across11x4 : across11;
    j.down = taps == 7 ? down7 : joint ? down11x4 : down11;
    j.t = (terms){ (.01 * range) * (.01 * range) * square, (.03 * range) * (.03 * range) * square, m->sample_covariance ? n / (n - 1) : 1, j.k.scale, m->whole };
    j.oh = p->h + 2 * pad - taps + 1;
    j.ow = p->w + 2 * pad - taps + 1;
    j.crop = m->contrast && p->w > 2 * pad && p->h > 2 * pad ? pad : 0;
    j.row = lk_xmalloc((size_t)(from->c * j.oh) * sizeof(double));
    lk_parallel(pool, from->c * j.oh, 32, rows, &j);
    for (int k = 0; k < from->c; k++) mean[k] = lk_sum(j.row + k * j.oh + j.crop, j.oh - 2 * j.crop) / (double)((j.oh - 2 * j.crop) * (j.ow - 2 * j.crop));
    free(j.row);
}
