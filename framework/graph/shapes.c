/* shapes: arithmetic of shapes alone. A valid shape has rank 0..6, every size at least 1, and so few
 * elements that no byte count made from it overflows. */
#include "graph/internal.h"

enum { LK_MAX_ELEMENTS_LOG2 = 56 };     /* 16 bytes an element still fit in 63 bits */

int64_t lk_numel(lk_shape s) {
    int64_t n = 1;
    for (int i = 0; i < s.rank; i++) n *= s.d[i];
    return n;
}

bool lk_shape_eq(lk_shape a, lk_shape b) {
    if (a.rank != b.rank) return false;
    for (int i = 0; i < a.rank; i++)
        if (a.d[i] != b.d[i]) return false;
    return true;
}

bool lk_shape_valid(lk_shape s) {
    if (s.rank < 0 || s.rank > LK_MAX_RANK) return false;
    int64_t n = 1;
    for (int i = 0; i < s.rank; i++) {
        if (s.d[i] < 1 || __builtin_mul_overflow(n, s.d[i], &n) || n > (int64_t)1 << LK_MAX_ELEMENTS_LOG2) return false;
    }
    return true;
}

char *lk_shape_text(lk_arena *a, lk_shape s) {
    char text[LK_MAX_RANK * 24 + 3] = "[";
    size_t n = 1;
    for (int i = 0; i < s.rank && i < LK_MAX_RANK; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, i ? ", %lld" : "%lld", (long long)s.d[i]);
    snprintf(text + n, sizeof text - n, "]");
    return lk_strdup(a, text);
}

bool lk_axis_resolve(int rank, int *axis) {
    if (*axis < 0) *axis += rank;
    return *axis >= 0 && *axis < rank;
}

bool lk_axes_resolve(int rank, lk_axes *axes) {
    if (axes->n < 1 || axes->n > rank) return false;
    bool hit[LK_MAX_RANK] = {false};
    for (int i = 0; i < axes->n; i++) {
        int a = axes->axis[i];
        if (!lk_axis_resolve(rank, &a) || hit[a]) return false;
        hit[a] = true;
    }
    lk_axes sorted = {.keep = axes->keep};
    for (int a = 0; a < rank; a++)
        if (hit[a]) sorted.axis[sorted.n++] = a;
    memset(axes, 0, sizeof *axes);
    axes->n = sorted.n;
    axes->keep = sorted.keep;
    memcpy(axes->axis, sorted.axis, sizeof sorted.axis);
    return true;
}

bool lk_shapes_broadcast(lk_shape a, lk_shape b, lk_shape *out) {
    lk_shape s = {.rank = a.rank > b.rank ? a.rank : b.rank};
    for (int i = 0; i < s.rank; i++) {
        int ia = i - (s.rank - a.rank), ib = i - (s.rank - b.rank);
        int64_t da = ia < 0 ? 1 : a.d[ia], db = ib < 0 ? 1 : b.d[ib];
        if (da != db && da != 1 && db != 1) return false;
        s.d[i] = da == 1 ? db : da;
    }
    *out = s;
    return true;
}

bool lk_shape_reaches(lk_shape from, lk_shape to) {
    lk_shape both;
    return lk_shapes_broadcast(from, to, &both) && lk_shape_eq(both, to);
}

lk_shape lk_shape_reduced(lk_shape s, lk_axes axes, bool keep) {
    bool gone[LK_MAX_RANK] = {false};
    for (int i = 0; i < axes.n; i++) gone[axes.axis[i]] = true;
    lk_shape r = {0};
    for (int i = 0; i < s.rank; i++) {
        if (!gone[i]) r.d[r.rank++] = s.d[i];
        else if (keep) r.d[r.rank++] = 1;
    }
    return r;
}

lk_shape lk_shape_flat(lk_shape s) { return LK_SHAPE(lk_numel(s)); }
