/* Where the face is in its common frame, by its landmarks. */
#include "models/face_set.h"
#include <stdlib.h>
#include <string.h>

enum { POINTS = 68, FINE = 4 * LK_FRAME };
typedef struct { double x, y; } point;

static double turn(point a, point b, point c) { return (b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x); }
static int by_x(const void *p, const void *q) {
    const point *a = p, *b = q;
    return a->x != b->x ? (a->x < b->x ? -1 : 1) : a->y < b->y ? -1 : a->y > b->y;
}
/* Monotone chain; the hull's corners in order of positive turns. */
static int hull_of(point *p, int n, point *hull) {
    int k = 0;
    qsort(p, (size_t)n, sizeof *p, by_x);
    for (int i = 0; i < n; i++) { while (k >= 2 && turn(hull[k - 2], hull[k - 1], p[i]) <= 0) k--; hull[k++] = p[i]; }
    for (int i = n - 2, lower = k + 1; i >= 0; i--) { while (k >= lower && turn(hull[k - 2], hull[k - 1], p[i]) <= 0) k--; hull[k++] = p[i]; }
    return k - 1;
}
static bool within(const point *hull, int n, point p) {
    for (int i = 0; i < n; i++) if (turn(hull[i], hull[(i + 1) % n], p) < 0) return false;
    return n > 2;
}
void lk_face_mask(const lk_face *f, int grid, float *mask) {
    double m[6];
    point p[POINTS], hull[2 * POINTS];
    int *inside = lk_xcalloc((size_t)(grid * grid), sizeof *inside), cell = FINE / grid;
    lk_face_to_arcface(f, m);
    for (int i = 0; i < POINTS; i++) {
        double x = f->point[i][0], y = f->point[i][1];
        p[i] = (point){(m[0] * x + m[1] * y + m[2] + 7.5) / 2, (m[3] * x + m[4] * y + m[5] + 1.5) / 2};
    }
    int corners = hull_of(p, POINTS, hull);
    for (int y = 0; y < FINE; y++)
        for (int x = 0; x < FINE; x++)
            inside[y / cell * grid + x / cell] += within(hull, corners, (point){(x + 0.5) / 4 - 0.5, (y + 0.5) / 4 - 0.5});
    for (int i = 0; i < grid * grid; i++) mask[i] = (float)inside[i] / (float)(cell * cell);
    free(inside);
}
