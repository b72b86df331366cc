/* Figures: the numbers go to <stem>.dat, gnuplot draws SVG and PNG from it. Blocks of the .dat file, two blank lines apart:
 * for each series its means (x y lo hi), then its raw points (x y). */
#include "harness/internal.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Colours that stay apart in print and for most colour-blind eyes (Okabe and Ito 2008). */
static const char *const colours[] = {"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"};
/* Past the last colour they begin again with another mark: filled circles, squares, triangles, diamonds. */
static const int marks[] = {7, 5, 9, 13};
enum { N_COLOURS = sizeof colours / sizeof colours[0], N_MARKS = sizeof marks / sizeof marks[0] };

static lk_err write_data(lk_sweep *s, const lk_figure *f) {
    lk_buf b = {0};
    lk_buf_fmt(&b, "# %s\n", f->title ? f->title : f->stem);
    for (int i = 0; i < f->n; i++) {
        const lk_series *k = &f->series[i];
        lk_buf_fmt(&b, "# %s: x mean low high\n", k->name ? k->name : "");
        for (int p = 0; p < k->n; p++) lk_buf_fmt(&b, "%.17g %.17g %.17g %.17g\n", k->x[p], k->y[p], k->lo ? k->lo[p] : k->y[p], k->hi ? k->hi[p] : k->y[p]);
        if (!k->n) lk_buf_fmt(&b, "NaN NaN NaN NaN\n");
        lk_buf_fmt(&b, "\n\n# raw points: x y\n");
        for (int p = 0; p < k->n_raw; p++) lk_buf_fmt(&b, "%.17g %.17g\n", k->raw_x[p], k->raw_y[p]);
        if (!k->n_raw) lk_buf_fmt(&b, "NaN NaN\n");
        lk_buf_fmt(&b, "\n\n");
    }
    char *name = lk_xfmt("%s.dat", f->stem);
    lk_err e = lk_write_file_atomic(lk_sweep_path(s, name), b.s, b.n);
    free(name); free(b.s);
    return e;
}
/* A label in a gnuplot string: quotes and backslashes would end it. */
static void label(lk_buf *b, const char *what, const char *text) {
    if (!text) return;
    lk_buf_fmt(b, "set %s '", what);
    for (const char *s = text; *s; s++) if (*s == '\'') lk_buf_fmt(b, "''"); else lk_buf_add(b, s, 1);
    lk_buf_fmt(b, "' noenhanced\n");
}
static void script(lk_buf *b, lk_sweep *s, const lk_figure *f) {
    label(b, "title", f->title); label(b, "xlabel", f->x_label); label(b, "ylabel", f->y_label);
    lk_buf_fmt(b, "set border 3\nset tics nomirror out\nset grid ytics lc rgb '#dddddd'\nset offsets graph 0.05, graph 0.05, graph 0.05, graph 0.05\nset datafile missing 'NaN'\n");
    bool named = false;
    for (int i = 0; i < f->n; i++) named |= f->series[i].name != NULL;
    bool many = named && f->n > 6;                        /* a legend stands beside the plot if long, else above: never on a point */
    lk_buf_fmt(b, many ? "set key outside right top reverse Left noenhanced samplen 1\n" : named ? "set key outside top center horizontal noenhanced samplen 2\n" : "unset key\n");
    if (f->log2_x) lk_buf_fmt(b, "set logscale x 2\n");
    if (f->ticks) lk_buf_fmt(b, "set xtics %s\n", f->ticks);
    const struct { const char *suffix, *terminal; } forms[] = {{"svg", many ? "svg size 900,420 font 'DejaVu Sans,12' background '#ffffff'" : "svg size 640,420 font 'DejaVu Sans,12' background '#ffffff'"},
                                                                      {"png", many ? "pngcairo size 1800,840 font 'DejaVu Sans,22' linewidth 2" : "pngcairo size 1280,840 font 'DejaVu Sans,22' linewidth 2"}};
    for (int t = 0; t < 2; t++) {
        lk_buf_fmt(b, "set terminal %s\nset output '%s/%s.%s'\nplot ", forms[t].terminal, s->grid->dir, f->stem, forms[t].suffix);
        if (f->zero_line == f->zero_line) lk_buf_fmt(b, "%.17g with lines lc rgb '#888888' dt 2 notitle, ", f->zero_line);
        for (int i = 0; i < f->n; i++) {
            const lk_series *k = &f->series[i];
            const char *colour = colours[i % N_COLOURS], *data = lk_fmt(s->arena, "'%s/%s.dat'", s->grid->dir, f->stem);
            if (k->n_raw) lk_buf_fmt(b, "%s index %d using 1:2 with points pt 6 ps 0.5 lc rgb '%s' notitle, ", data, 2 * i + 1, colour);
            if (k->line) lk_buf_fmt(b, "%s index %d using 1:2 with lines lc rgb '%s' notitle, ", data, 2 * i, colour);
            lk_buf_fmt(b, "%s index %d using %s pt %d ps 0.9 lc rgb '%s' ", data, 2 * i, k->lo && k->hi ? "1:2:3:4 with yerrorbars" : "1:2 with points",
                       marks[i / N_COLOURS % N_MARKS], colour);
            if (k->name) { lk_buf_fmt(b, "title '"); for (const char *c = k->name; *c; c++) lk_buf_add(b, *c == '\'' ? " " : c, 1); lk_buf_fmt(b, "'"); }
            else lk_buf_fmt(b, "notitle");
            lk_buf_fmt(b, i + 1 < f->n ? ", " : "\n");
        }
        lk_buf_fmt(b, "unset output\n");
    }
}
static lk_err gnuplot(lk_sweep *s, const char *stem, const lk_buf *text) {
    const char *file = lk_fmt(s->arena, "%s/.%s.gnuplot", s->grid->dir, stem), *said = lk_fmt(s->arena, "%s/.%s.said", s->grid->dir, stem);
    LK_TRY(lk_write_file_atomic(file, text->s, text->n));
    char *command = lk_xfmt("gnuplot '%s' >'%s' 2>&1 </dev/null", file, said);
    int status = system(command);
    free(command);
    char *words = NULL; size_t n;
    lk_err unread = lk_read_file(said, &words, &n), e = LK_OK;
    if (status == -1 || !WIFEXITED(status) || WEXITSTATUS(status)) e = lk_error(LK_EIO, "gnuplot failed on %s: %.400s", file, words && *words ? words : "no message; is gnuplot installed?");
    else unlink(file);
    unlink(said);
    lk_err_free(unread);
    free(words);
    return e;
}
/* gnuplot takes an empty picture for an error. */
static bool anything_to_draw(const lk_figure *f) {
    for (int i = 0; i < f->n; i++) {
        const lk_series *k = &f->series[i];
        for (int p = 0; p < k->n; p++) if (isfinite(k->x[p]) && isfinite(k->y[p]) && (!f->log2_x || k->x[p] > 0)) return true;
        for (int p = 0; p < k->n_raw; p++) if (isfinite(k->raw_x[p]) && isfinite(k->raw_y[p]) && (!f->log2_x || k->raw_x[p] > 0)) return true;
    }
    return false;
}
lk_err lk_sweep_figure(lk_sweep *s, const lk_figure *f) {
    lk_buf b = {0};
    if (strchr(s->grid->dir, '\'')) return lk_error(LK_EINPUT, "%s: gnuplot cannot write below a directory with a quote in its name", s->grid->dir);
    LK_TRY(write_data(s, f));
    if (!anything_to_draw(f)) {                               /* and none of an earlier summary is left to be taken for this one's */
        unlink(lk_sweep_path(s, lk_fmt(s->arena, "%s.svg", f->stem)));
        unlink(lk_sweep_path(s, lk_fmt(s->arena, "%s.png", f->stem)));
        printf("figure %s: these runs have nothing to draw in it\n", f->stem);
        return LK_OK;
    }
    script(&b, s, f);
    lk_err e = gnuplot(s, f->stem, &b);
    free(b.s);
    return lk_err_wrap(e, "figure %s", f->stem);
}
