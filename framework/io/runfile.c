/* A run's record in memory: filling it, asking it, its digest. HDF5 is in runfile_write.c and
 * runfile_read.c; what is stored is docs/design.md, Files.
 *
 * Invariants: every column of a group has `rows` entries; NaN is canonical (rule 6) from the moment it
 * enters; text is UTF-8; a change of what the digest covers removes result_digest. The filling functions
 * return nothing, so that a training loop stays readable: a call that cannot be carried out (a row
 * without step, a name with '/') is remembered and refused by lk_run_save. */
#include "io/run.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "digests cover little-endian bytes");

/* ---- pieces -------------------------------------------------------------------------------------- */
static void misuse(lk_run *r, const char *fmt, const char *name) {
    if (!r->misuse) r->misuse = lk_xfmt(fmt, name);
}
/* Length of the UTF-8 character at s, 0 if it is none (Unicode table 3-7). */
static int utf8_length(const unsigned char *s) {
    if (s[0] < 0x80) return 1;
    int n = s[0] >= 0xc2 && s[0] <= 0xdf ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4 : 0;
    for (int i = 1; i < n; i++) if ((s[i] & 0xc0) != 0x80) return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)) return 0;
    return n;
}
char *run_text(const char *text) {
    char *copy = lk_xstrdup(text ? text : "");
    for (char *s = copy; *s;) {
        int n = utf8_length((unsigned char *)s);
        if (n) s += n; else *s++ = '?';
    }
    return copy;
}
static bool good_name(const char *name) {
    if (!*name || !strcmp(name, ".") || strchr(name, '/')) return false;
    for (const unsigned char *s = (const unsigned char *)name; *s;) {
        int n = utf8_length(s);
        if (!n || *s < 32) return false;
        s += n;
    }
    return true;
}
static double canonical(double x) { return x == x ? x : (double)NAN; }
static int find(const char *const *names, int n, const char *name) {
    for (int i = 0; i < n; i++) if (!strcmp(names[i], name)) return i;
    return -1;
}
run_value *run_map_set(lk_run *r, run_map *m, const char *name) {
    int i = find(m->names, m->n, name);
    if (i >= 0) return &m->at[i];
    if (!good_name(name)) { misuse(r, "\"%s\" cannot name a value: it is empty or has a '/', a control character or bytes that are not UTF-8", name); return NULL; }
    if (m->n == m->cap) {
        m->cap = m->cap ? 2 * m->cap : 16;
        m->names = lk_xrealloc(m->names, sizeof *m->names * (size_t)m->cap);
        m->at = lk_xrealloc(m->at, sizeof *m->at * (size_t)m->cap);
    }
    m->names[m->n] = lk_xstrdup(name);
    m->at[m->n] = (run_value){0};
    return &m->at[m->n++];
}
static void map_set_text(lk_run *r, run_map *m, const char *key, const char *text) {
    run_value *v = run_map_set(r, m, key);
    if (!v) return;
    free(v->text);
    v->text = run_text(text);
}
static const char *map_text(const run_map *m, const char *key) {
    int i = find(m->names, m->n, key);
    return i < 0 ? NULL : m->at[i].text;
}
static void map_remove(run_map *m, const char *key) {
    int i = find(m->names, m->n, key);
    if (i < 0) return;
    free((char *)m->names[i]); free(m->at[i].text);
    m->n--;
    memmove(m->names + i, m->names + i + 1, sizeof *m->names * (size_t)(m->n - i));
    memmove(m->at + i, m->at + i + 1, sizeof *m->at * (size_t)(m->n - i));
}
static void map_free(run_map *m) {
    for (int i = 0; i < m->n; i++) { free((char *)m->names[i]); free(m->at[i].text); }
    free(m->names); free(m->at);
}
static void changed(lk_run *r) { map_remove(&r->attrs, "result_digest"); }

/* ---- groups of columns ------------------------------------------------------------------------------ */
static void column_room(run_column *c, int64_t room, bool text) {
    if (text) c->text = lk_xrealloc(c->text, sizeof *c->text * (size_t)room);
    else c->v = lk_xrealloc(c->v, sizeof *c->v * (size_t)room);
}
static void column_missing(run_column *c, int64_t from, int64_t to) {
    for (int64_t i = from; i < to; i++) { if (c->text) c->text[i] = lk_xstrdup(""); else c->v[i] = canonical(NAN); }
}
run_column *run_group_column(lk_run *r, run_group *g, const char *name, bool text) {
    int i = find(g->names, g->n, name);
    if (i >= 0) {
        if (text == (g->at[i].text != NULL)) return &g->at[i];
        misuse(r, "column \"%s\" is text in one row and a number in another", name);
        return NULL;
    }
    if (!good_name(name)) { misuse(r, "\"%s\" cannot name a column: it is empty or has a '/', a control character or bytes that are not UTF-8", name); return NULL; }
    if (g->n == g->cap) {
        g->cap = g->cap ? 2 * g->cap : 16;
        g->names = lk_xrealloc(g->names, sizeof *g->names * (size_t)g->cap);
        g->at = lk_xrealloc(g->at, sizeof *g->at * (size_t)g->cap);
    }
    if (!g->room) g->room = 64;
    run_column *c = &g->at[g->n];
    const char *units = !strcmp(name, "step") ? "1" : !strcmp(name, "wall_s") ? "s" : "";
    *c = (run_column){.units = lk_xstrdup(units), .long_name = lk_xstrdup(""), .goal = lk_xstrdup("")};
    column_room(c, g->room, text);
    column_missing(c, 0, g->rows);
    g->names[g->n++] = lk_xstrdup(name);
    return c;
}
void run_group_rows(run_group *g, int64_t rows) {
    if (rows > g->room) {
        g->room = 2 * g->room > rows ? 2 * g->room : rows;
        for (int i = 0; i < g->n; i++) column_room(&g->at[i], g->room, g->at[i].text != NULL);
    }
    for (int i = 0; i < g->n; i++) column_missing(&g->at[i], g->rows, rows);
    if (rows > g->rows) g->rows = rows;
}
static void group_free(run_group *g) {
    for (int i = 0; i < g->n; i++) {
        run_column *c = &g->at[i];
        for (int64_t k = 0; c->text && k < g->rows; k++) free(c->text[k]);
        free(c->text); free(c->v); free(c->units); free(c->long_name); free(c->goal);
        free((char *)g->names[i]);
    }
    free(g->names); free(g->at);
}
static const run_column *group_column(const run_group *g, const char *name) {
    int i = g ? find(g->names, g->n, name) : -1;
    return i < 0 ? NULL : &g->at[i];
}
run_group *run_split(lk_run *r, const char *name, bool add) {
    int i = find(r->split_names, r->n_splits, name);
    if (i >= 0) return &r->splits[i];
    if (!add) return NULL;
    if (!good_name(name)) { misuse(r, "\"%s\" cannot name a split", name); return NULL; }
    size_t n = (size_t)r->n_splits + 1;
    r->split_names = lk_xrealloc(r->split_names, sizeof *r->split_names * n);
    r->splits = lk_xrealloc(r->splits, sizeof *r->splits * n);
    r->split_names[r->n_splits] = lk_xstrdup(name);
    r->splits[r->n_splits] = (run_group){0};
    return &r->splits[r->n_splits++];
}
void run_line(run_lines *l, const char *text) {
    if (l->n == l->cap) { l->cap = l->cap ? 2 * l->cap : 64; l->at = lk_xrealloc(l->at, sizeof *l->at * (size_t)l->cap); }
    l->at[l->n++] = run_text(text);
}
static void lines_free(run_lines *l) { for (int64_t i = 0; i < l->n; i++) free(l->at[i]); free(l->at); }

/* ---- life and filling -------------------------------------------------------------------------------- */
lk_run *run_empty(void) { return lk_xcalloc(1, sizeof(lk_run)); }
lk_run *lk_run_new(const char *exp, const char *run_id) {
    char now[32];
    time_t t = time(NULL);
    struct tm utc;
    strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &utc));
    const char *const first[][2] = {{"schema", RUN_SCHEMA}, {"run_id", run_id}, {"exp", exp}, {"status", "running"},
                                    {"started", now}, {"heartbeat", now}, {"tier", "exact"}};
    lk_run *r = run_empty();
    for (size_t i = 0; i < sizeof first / sizeof first[0]; i++) lk_run_attr(r, first[i][0], first[i][1]);
    return r;
}
void lk_run_free(lk_run *r) {
    if (!r) return;
    run_map *maps[] = {&r->attrs, &r->config, &r->provenance, &r->final, &r->inexact};
    for (int i = 0; i < 5; i++) map_free(maps[i]);
    for (int i = 0; i < r->n_splits; i++) { group_free(&r->splits[i]); free((char *)r->split_names[i]); }
    group_free(&r->samples);
    lines_free(&r->events); lines_free(&r->log);
    free(r->splits); free(r->split_names); free(r->misuse); free(r);
}
char *run_real_text(double x) {
    char s[40];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(s, sizeof s, "%.*g", digits, x);
        if (strtod(s, NULL) == x) break;
    }
    return lk_xfmt("%s%s", s, strpbrk(s, ".en") ? "" : ".0");      /* n: nan, inf */
}
run_type run_type_of(const char *text, int64_t *i, double *x) {
    char *end, plain[32];
    *i = strtoll(text, &end, 10);
    snprintf(plain, sizeof plain, "%" PRId64, *i);
    if (!strcmp(plain, text)) return RUN_INTEGER;
    *x = strtod(text, &end);
    bool real = *text && strchr("-.0123456789", *text) && strpbrk(text, ".eE") && !*end && isfinite(*x);     /* "007" is a name */
    return real ? RUN_REAL : RUN_TEXT;
}
void lk_run_attr(lk_run *r, const char *key, const char *value) { map_set_text(r, &r->attrs, key, value); }
void lk_run_config(lk_run *r, const char *key, const char *value) {
    int64_t i; double x;
    if (run_type_of(value, &i, &x) != RUN_REAL) { map_set_text(r, &r->config, key, value); return; }
    char *text = run_real_text(x);           /* as it will read after a save */
    map_set_text(r, &r->config, key, text);
    free(text);
}
static void set_text(char **to, const char *text) { free(*to); *to = run_text(text); }
void lk_run_column(lk_run *r, const char *split, const char *column, const char *units, const char *long_name, const char *goal) {
    run_group *g = run_split(r, split, true);
    run_column *c = g ? run_group_column(r, g, column, false) : NULL;
    if (!c) return;
    changed(r);
    set_text(&c->units, units); set_text(&c->long_name, long_name); set_text(&c->goal, goal);
    if (*c->goal && strcmp(c->goal, "min") && strcmp(c->goal, "max")) misuse(r, "goal \"%s\" of a column is neither min, max nor empty", c->goal);
}
static void fill_row(lk_run *r, run_group *g, int n, const char *const *columns, const double *values, int m, const char *const *text_columns, const char *const *texts) {
    for (int i = 0; i < n; i++) run_group_column(r, g, columns[i], false);       /* added before the row, so that it has them */
    for (int i = 0; i < m; i++) run_group_column(r, g, text_columns[i], true);
    if (!g->n) return;
    int64_t row = g->rows;
    run_group_rows(g, row + 1);
    for (int i = 0; i < n; i++) { run_column *c = run_group_column(r, g, columns[i], false); if (c) c->v[row] = canonical(values[i]); }
    for (int i = 0; i < m; i++) { run_column *c = run_group_column(r, g, text_columns[i], true); if (c) set_text(&c->text[row], texts[i]); }
    changed(r);
}
void lk_run_row(lk_run *r, const char *split, int n, const char *const *columns, const double *values) {
    run_group *g = run_split(r, split, true);
    if (!g) return;
    int step = find(columns, n, "step");
    if (step < 0 || !(values[step] == values[step])) { misuse(r, "a row of metrics/%s has no step", split); return; }
    fill_row(r, g, n, columns, values, 0, NULL, NULL);
}
void lk_run_sample(lk_run *r, int n, const char *const *columns, const double *values, int m, const char *const *text_columns, const char *const *texts) {
    if (find(columns, n, "sample") >= 0 || find(text_columns, m, "sample") >= 0) { misuse(r, "a sample column may not be called \"%s\": that is the dimension", "sample"); return; }
    fill_row(r, &r->samples, n, columns, values, m, text_columns, texts);
}
void lk_run_truncate(lk_run *r, int64_t step) {
    for (int s = 0; s < r->n_splits; s++) {
        run_group *g = &r->splits[s];
        const run_column *steps = group_column(g, "step");
        int64_t kept = 0;
        for (int64_t i = 0; steps && i < g->rows; i++) {
            if (steps->v[i] > (double)step) continue;
            for (int c = 0; c < g->n && kept != i; c++) g->at[c].v[kept] = g->at[c].v[i];
            kept++;
        }
        if (kept != g->rows) changed(r);
        g->rows = kept;
    }
}
void lk_run_truncate_samples(lk_run *r, int64_t rows) {
    run_group *g = &r->samples;
    if (rows < 0 || rows >= g->rows) return;
    for (int c = 0; c < g->n; c++) for (int64_t i = rows; g->at[c].text && i < g->rows; i++) free(g->at[c].text[i]);
    g->rows = rows;
    changed(r);
}
void lk_run_final(lk_run *r, const char *key, double value) {
    run_value *v = run_map_set(r, &r->final, key);
    if (v) { v->value = canonical(value); changed(r); }
}
void lk_run_inexact(lk_run *r, const char *key, double value, double tolerance) {
    run_value *v = run_map_set(r, &r->inexact, key);
    if (v) { v->value = canonical(value); v->tolerance = canonical(tolerance); }
}
void lk_run_provenance(lk_run *r, const char *key, const char *value) { map_set_text(r, &r->provenance, key, value); }
void lk_run_event(lk_run *r, const char *text) { run_line(&r->events, text); }
void lk_run_log(lk_run *r, const char *line) { run_line(&r->log, line); }

/* ---- asking -------------------------------------------------------------------------------------------- */
static const run_group *split_of(const lk_run *r, const char *split) { return run_split((lk_run *)r, split, false); }
const char *lk_run_get_attr(const lk_run *r, const char *key) { return map_text(&r->attrs, key); }
int64_t lk_run_rows(const lk_run *r, const char *split) { const run_group *g = split_of(r, split); return g ? g->rows : 0; }
const double *lk_run_get_column(const lk_run *r, const char *split, const char *column) {
    const run_column *c = group_column(split_of(r, split), column);
    return c ? c->v : NULL;
}
int64_t lk_run_samples(const lk_run *r) { return r->samples.rows; }
const double *lk_run_get_sample_column(const lk_run *r, const char *column) {
    const run_column *c = group_column(&r->samples, column);
    return c ? c->v : NULL;
}
const char *lk_run_get_sample_text(const lk_run *r, const char *column, int64_t i) {
    const run_column *c = group_column(&r->samples, column);
    return c && c->text && i >= 0 && i < r->samples.rows ? c->text[i] : NULL;
}
static const run_value *number(const run_map *m, const char *key) { int i = find(m->names, m->n, key); return i < 0 ? NULL : &m->at[i]; }
bool lk_run_get_final(const lk_run *r, const char *key, double *out) {
    const run_value *v = number(&r->final, key);
    if (v) *out = v->value;
    return v != NULL;
}
bool lk_run_get_inexact(const lk_run *r, const char *key, double *value, double *tolerance) {
    const run_value *v = number(&r->inexact, key);
    if (v) { *value = v->value; *tolerance = v->tolerance; }
    return v != NULL;
}
const char *lk_run_get_config(const lk_run *r, const char *key) { return map_text(&r->config, key); }
const char *lk_run_get_provenance(const lk_run *r, const char *key) { return map_text(&r->provenance, key); }
int lk_run_names(const lk_run *r, const char *group, const char *const **names) {
    const struct { const char *name; int n; const char *const *names; } groups[] = {
        {"config", r->config.n, r->config.names}, {"provenance", r->provenance.n, r->provenance.names}, {"final", r->final.n, r->final.names},
        {"inexact", r->inexact.n, r->inexact.names}, {"samples", r->samples.n, r->samples.names}, {"metrics", r->n_splits, r->split_names},
        {"attrs", r->attrs.n, r->attrs.names},
    };
    *names = NULL;
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) if (!strcmp(groups[i].name, group)) { *names = groups[i].names; return groups[i].n; }
    const run_group *g = lk_starts(group, "metrics/") ? split_of(r, group + 8) : NULL;
    if (g) *names = g->names;
    return g ? g->n : 0;
}
