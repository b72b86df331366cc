/* What a person sees while runs go on: a bar with the time left on a terminal, one line a run anywhere. */
#include "harness/internal.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct progress { int total; bool terminal, quiet, drawn; double started, shown; };

progress *progress_new(int total, bool quiet) {
    progress *p = lk_xcalloc(1, sizeof *p);
    *p = (progress){.total = total, .terminal = isatty(1), .quiet = quiet, .started = lk_wall_s()};
    return p;
}
static void wipe(progress *p) { if (p->drawn) fputs("\r\033[K", stdout); p->drawn = false; }
void progress_line(progress *p, const char *fmt, ...) {
    if (p->quiet) return;
    wipe(p);
    va_list ap; va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
    fflush(stdout);
    p->shown = 0;
}
void progress_show(progress *p, int finished, int reused, double part) {
    double now = lk_wall_s(), fraction = p->total ? (finished + part) / p->total : 1;
    if (p->quiet || !p->terminal || now - p->shown < 0.2) return;
    p->shown = now;
    char left[32] = "?";
    double worked = finished - reused + part, rest = p->total - finished - part;
    if (worked > 0.02) seconds_text((now - p->started) / worked * rest, left);
    int full = (int)(fraction * 30);
    printf("\r\033[K[%.*s%.*s] %d of %d runs, %s left", full, "##############################", 30 - full, "..............................", finished, p->total, left);
    fflush(stdout);
    p->drawn = true;
}
void progress_free(progress *p) { wipe(p); fflush(stdout); free(p); }

char *seconds_text(double s, char b[32]) {
    long n = s > 0 ? (long)(s + 0.5) : 0;
    if (s < 10) snprintf(b, 32, "%.1f s", s > 0 ? s : 0);
    else if (n < 60) snprintf(b, 32, "%ld s", n);
    else if (n < 3600) snprintf(b, 32, "%ld min %02ld s", n / 60, n % 60);
    else snprintf(b, 32, "%ld h %02ld min", n / 3600, n / 60 % 60);
    return b;
}
char *bytes_text(int64_t n, char b[32]) {
    static const char *const units[] = {"B", "KB", "MB", "GB", "TB"};
    double x = (double)n; int u = 0;
    while (x >= 1000 && u < 4) { x /= 1000; u++; }
    snprintf(b, 32, u ? "%.1f %s" : "%.0f %s", x, units[u]);
    return b;
}
