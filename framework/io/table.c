/* Tables as people read them: aligned text, Markdown, LaTeX, and .dat for gnuplot. A cell is UTF-8; a cell
 * written **x** is the best of its kind and set bold (an asterisk after it in text). Columns whose cells
 * all begin as numbers are set to the right. What each format needs is in one row of `formats` below. */
#include "io/io.h"
#include <stdlib.h>
#include <string.h>

struct lk_table { char *caption; int columns, rows, notes; char **head, ***cell, **note; bool *numeric; };

lk_table *lk_table_new(const char *caption, int n_columns, const char *const *columns) {
    lk_table *t = lk_xcalloc(1, sizeof *t);
    t->caption = lk_xstrdup(caption);
    t->columns = n_columns;
    t->head = lk_xmalloc(sizeof *t->head * (size_t)(n_columns + 1));
    t->numeric = lk_xmalloc(sizeof *t->numeric * (size_t)(n_columns + 1));
    for (int c = 0; c < n_columns; c++) { t->head[c] = lk_xstrdup(columns[c]); t->numeric[c] = true; }
    return t;
}
void lk_table_free(lk_table *t) {
    if (!t) return;
    for (int c = 0; c < t->columns; c++) {
        free(t->head[c]);
        for (int r = 0; r < t->rows; r++) free(t->cell[r][c]);
    }
    for (int r = 0; r < t->rows; r++) free(t->cell[r]);
    for (int i = 0; i < t->notes; i++) free(t->note[i]);
    free(t->head); free(t->cell); free(t->note); free(t->numeric); free(t->caption); free(t);
}
static bool is_bold(const char *s) { return strlen(s) > 4 && lk_starts(s, "**") && lk_ends(s, "**"); }
static bool looks_numeric(const char *s) {
    if (is_bold(s)) s += 2;
    if (lk_starts(s, "\xe2\x88\x92")) s += 3;                     /* a typographic minus */
    s += *s == '-' || *s == '+' || *s == '<';
    return (*s >= '0' && *s <= '9') || *s == '.' || !*s || !strcmp(s, "nan") || !strcmp(s, "\xe2\x80\x93");     /* a lone dash or nothing: missing */
}
void lk_table_row(lk_table *t, const char *const *cells) {
    t->cell = lk_xrealloc(t->cell, sizeof *t->cell * (size_t)(t->rows + 1));
    char **row = t->cell[t->rows++] = lk_xmalloc(sizeof *row * (size_t)(t->columns + 1));
    for (int c = 0; c < t->columns; c++) {
        row[c] = lk_xstrdup(cells[c] ? cells[c] : "");
        t->numeric[c] &= looks_numeric(row[c]);
    }
}
void lk_table_note(lk_table *t, const char *line) {
    t->note = lk_xrealloc(t->note, sizeof *t->note * (size_t)(t->notes + 1));
    t->note[t->notes++] = lk_xstrdup(line);
}

/* ---- cells ------------------------------------------------------------------------------------------- */
typedef struct { const char *from, *to; } escape;                 /* `from` may be several bytes of UTF-8 */
static const escape no_escapes[] = {{0}};
static const escape markdown_escapes[] = {{"|", "\\|"}, {"\\", "\\\\"}, {"\n", " "}, {"<", "&lt;"}, {0}};
static const escape latex_escapes[] = {
    {"\\", "\\textbackslash{}"}, {"&", "\\&"}, {"%", "\\%"}, {"$", "\\$"}, {"#", "\\#"}, {"_", "\\_"}, {"{", "\\{"}, {"}", "\\}"},
    {"~", "\\textasciitilde{}"}, {"^", "\\textasciicircum{}"}, {"<", "\\textless{}"}, {">", "\\textgreater{}"}, {"\n", " "},
    {"\xc2\xb1", "$\\pm$"}, {"\xe2\x88\x92", "$-$"}, {"\xe2\x89\xa4", "$\\leq$"}, {"\xe2\x89\xa5", "$\\geq$"}, {"\xc3\x97", "$\\times$"},
    {"\xe2\x86\x91", "$\\uparrow$"}, {"\xe2\x86\x93", "$\\downarrow$"}, {"\xce\x94", "$\\Delta$"}, {"\xce\xb1", "$\\alpha$"}, {"\xc2\xb2", "\\textsuperscript{2}"}, {0},
};
static const escape dat_escapes[] = {{"\"", "'"}, {"\n", " "}, {"\\", "/"}, {0}};       /* gnuplot knows no quote inside quotes */

static char *escaped(const char *s, size_t n, const escape *with) {
    lk_buf b = {0};
    lk_buf_add(&b, "", 0);
    for (size_t i = 0; i < n;) {
        const escape *e = with;
        while (e->from && strncmp(s + i, e->from, strlen(e->from))) e++;
        if (e->from) { lk_buf_fmt(&b, "%s", e->to); i += strlen(e->from); }
        else lk_buf_add(&b, s + i++, 1);
    }
    return b.s;
}
/* A cell ready to print: escaped, bold as `open`...`close`. */
static char *dressed(const char *s, const escape *with, const char *open, const char *close) {
    bool bold = is_bold(s);
    char *inner = escaped(bold ? s + 2 : s, strlen(s) - (bold ? 4 : 0), with);
    if (!bold) return inner;
    char *out = lk_xfmt("%s%s%s", open, inner, close);
    free(inner);
    return out;
}
/* Columns on a terminal: characters, without combining marks (U+0300..036F). Wide scripts count 1. */
static int width(const char *s) {
    int n = 0;
    for (; *s; s++) {
        const unsigned char *u = (const unsigned char *)s;
        bool combining = (u[0] == 0xcc && u[1] >= 0x80) || (u[0] == 0xcd && u[1] >= 0x80 && u[1] <= 0xaf);
        n += (u[0] & 0xc0) != 0x80 && !combining;
    }
    return n;
}
static void add_padded(lk_buf *b, const char *s, int to, bool right) {
    int gap = to - width(s);
    lk_buf_fmt(b, "%*s%s%*s", right && gap > 0 ? gap : 0, "", s, right || gap < 0 ? 0 : gap, "");
}

/* ---- formats -------------------------------------------------------------------------------------------- */
typedef struct { const escape *escapes; const char *open, *close, *before, *between, *after; bool align; } format;
static const format text_format = {no_escapes, "", "*", "", "  ", "\n", true};
static const format markdown_format = {markdown_escapes, "**", "**", "| ", " | ", " |\n", true};
static const format latex_format = {latex_escapes, "\\textbf{", "}", "", " & ", " \\\\\n", true};

static char *cell_of(const lk_table *t, const format *f, int row, int column) {      /* row -1: the head */
    return dressed(row < 0 ? t->head[column] : t->cell[row][column], f->escapes, f->open, f->close);
}
static int *column_widths(const lk_table *t, const format *f) {
    int *w = lk_xcalloc((size_t)t->columns + 1, sizeof *w);
    for (int c = 0; c < t->columns; c++)
        for (int r = -1; r < t->rows; r++) {
            char *s = cell_of(t, f, r, c);
            if (width(s) > w[c]) w[c] = width(s);
            free(s);
        }
    return w;
}
static void add_row(lk_buf *b, const lk_table *t, const format *f, const int *w, int row) {
    lk_buf_fmt(b, "%s", f->before);
    for (int c = 0; c < t->columns; c++) {
        char *s = cell_of(t, f, row, c);
        if (c) lk_buf_fmt(b, "%s", f->between);
        add_padded(b, s, w[c], t->numeric[c] && t->rows);
        free(s);
    }
    while (b->n && b->s[b->n - 1] == ' ' && *f->after == '\n') b->s[--b->n] = 0;
    lk_buf_fmt(b, "%s", f->after);
}
char *lk_table_text(const lk_table *t) {
    const format *f = &text_format;
    int *w = column_widths(t, f), total = 2 * (t->columns - 1);
    for (int c = 0; c < t->columns; c++) total += w[c];
    lk_buf b = {0};
    lk_buf_fmt(&b, "%s\n\n", t->caption);
    add_row(&b, t, f, w, -1);
    for (int i = 0; i < total; i++) lk_buf_fmt(&b, "\xe2\x94\x80");
    lk_buf_fmt(&b, "\n");
    for (int r = 0; r < t->rows; r++) add_row(&b, t, f, w, r);
    for (int i = 0; i < t->notes; i++) lk_buf_fmt(&b, "%s%s\n", i ? "" : "\n", t->note[i]);
    free(w);
    return b.s;
}
char *lk_table_markdown(const lk_table *t) {
    const format *f = &markdown_format;
    int *w = column_widths(t, f);
    lk_buf b = {0};
    lk_buf_fmt(&b, "%s\n\n", t->caption);
    add_row(&b, t, f, w, -1);
    for (int c = 0; c < t->columns; c++) lk_buf_fmt(&b, "%s---%s", c ? " | " : "| ", t->numeric[c] && t->rows ? ":" : "");
    lk_buf_fmt(&b, " |\n");
    for (int r = 0; r < t->rows; r++) add_row(&b, t, f, w, r);
    for (int i = 0; i < t->notes; i++) {
        char *s = escaped(t->note[i], strlen(t->note[i]), markdown_escapes);
        lk_buf_fmt(&b, "%s%s  \n", i ? "" : "\n", s);
        free(s);
    }
    free(w);
    return b.s;
}
/* A float with booktabs rules: \input it. */
char *lk_table_latex(const lk_table *t) {
    const format *f = &latex_format;
    int *w = column_widths(t, f);
    lk_buf b = {0};
    char *caption = escaped(t->caption, strlen(t->caption), latex_escapes);
    lk_buf_fmt(&b, "\\begin{table}\n\\centering\n\\caption{%s}\n\\begin{tabular}{", caption);
    free(caption);
    for (int c = 0; c < t->columns; c++) lk_buf_fmt(&b, "%c", t->numeric[c] && t->rows ? 'r' : 'l');
    lk_buf_fmt(&b, "}\n\\toprule\n");
    add_row(&b, t, f, w, -1);
    lk_buf_fmt(&b, "\\midrule\n");
    for (int r = 0; r < t->rows; r++) add_row(&b, t, f, w, r);
    lk_buf_fmt(&b, "\\bottomrule\n\\end{tabular}\n");
    for (int i = 0; i < t->notes; i++) {
        char *s = escaped(t->note[i], strlen(t->note[i]), latex_escapes);
        lk_buf_fmt(&b, "%s\\footnotesize %s\n", i ? "\\\\ " : "\\\\[2pt] ", s);
        free(s);
    }
    lk_buf_fmt(&b, "\\end{table}\n");
    free(w);
    return b.s;
}
/* One row a line, tabs between, text in quotes, missing = NaN; the heads are in a comment. */
char *lk_table_dat(const lk_table *t) {
    lk_buf b = {0};
    char *caption = escaped(t->caption, strlen(t->caption), dat_escapes);
    lk_buf_fmt(&b, "# %s\n#", caption);
    free(caption);
    for (int c = 0; c < t->columns; c++) lk_buf_fmt(&b, "%s%d:%s", c ? "\t" : " ", c + 1, t->head[c]);
    lk_buf_fmt(&b, "\n");
    for (int r = 0; r < t->rows; r++)
        for (int c = 0; c < t->columns; c++) {
            char *s = dressed(t->cell[r][c], dat_escapes, "", ""), *end;
            bool missing = !*s || !strcmp(s, "-") || !strcmp(s, "\xe2\x80\x93") || !strcmp(s, "nan");
            strtod(s, &end);
            lk_buf_fmt(&b, missing ? "%sNaN" : *end ? "%s\"%s\"" : "%s%s", c ? "\t" : "", s);
            lk_buf_fmt(&b, "%s", c + 1 == t->columns ? "\n" : "");
            free(s);
        }
    for (int i = 0; i < t->notes; i++) {
        char *s = escaped(t->note[i], strlen(t->note[i]), dat_escapes);
        lk_buf_fmt(&b, "# %s\n", s);
        free(s);
    }
    return b.s;
}
