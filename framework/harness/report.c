/* report: tables and figures from what is done, and report.html: one file that opens from disk without a network, with
 * the table, SVG figures, sample sheets as data, provenance and the reproducibility checklist, filled from the run files. */
#include "harness/internal.h"
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void text(lk_buf *b, const char *s) {
    for (; s && *s; s++) {
        if (*s == '<') lk_buf_fmt(b, "&lt;"); else if (*s == '&') lk_buf_fmt(b, "&amp;"); else if (*s == '"') lk_buf_fmt(b, "&quot;");
        else lk_buf_add(b, s, 1);
    }
}
static void pair(lk_buf *b, const char *key, const char *value) {
    lk_buf_fmt(b, "<tr><th>"); text(b, key); lk_buf_fmt(b, "</th><td>"); text(b, value); lk_buf_fmt(b, "</td></tr>\n");
}
static void base64(lk_buf *b, const unsigned char *p, size_t n) {
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)p[i] << 16 | (i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0) | (i + 2 < n ? p[i + 2] : 0);
        char out[4] = {alphabet[v >> 18], alphabet[v >> 12 & 63], i + 1 < n ? alphabet[v >> 6 & 63] : '=', i + 2 < n ? alphabet[v & 63] : '='};
        lk_buf_add(b, out, 4);
    }
}
/* ---- parts -------------------------------------------------------------------------------------------------------------- */
static void cells(lk_buf *b, const char *line, size_t n, const char *tag) {
    lk_buf_fmt(b, "<tr>");
    for (size_t i = 1; i < n;) {                             /* | a | b | */
        size_t k = 0;
        while (i + k < n && !(line[i + k] == '|' && line[i + k - 1] != '\\')) k++;
        if (i + k >= n) break;
        char *cell = lk_xfmt("%.*s", (int)k, line + i), *s = cell + strspn(cell, " ");
        size_t m = strlen(s);
        while (m && s[m - 1] == ' ') s[--m] = 0;
        bool bold = m > 4 && lk_starts(s, "**") && lk_ends(s, "**");
        if (bold) { s[m - 2] = 0; s += 2; }
        lk_buf_fmt(b, "<%s>%s", tag, bold ? "<b>" : ""); text(b, s); lk_buf_fmt(b, "%s</%s>", bold ? "</b>" : "", tag);
        free(cell);
        i += k + 1;
    }
    lk_buf_fmt(b, "</tr>\n");
}
static void markdown(lk_buf *b, const char *md) {
    bool in_table = false, head = true;
    for (const char *s = md; *s; s += strcspn(s, "\n"), s += *s == '\n') {
        size_t n = strcspn(s, "\n");
        if (*s == '|') {
            if (!in_table) lk_buf_fmt(b, "<table>\n");
            if (strspn(s, "|-: ") < n) { cells(b, s, n, head ? "th" : "td"); head = false; }
            in_table = true;
            continue;
        }
        if (in_table) { lk_buf_fmt(b, "</table>\n"); in_table = false; head = true; }
        if (n) { char *line = lk_xfmt("%.*s", (int)n, s); lk_buf_fmt(b, "<p>"); text(b, line); lk_buf_fmt(b, "</p>\n"); free(line); }
    }
    if (in_table) lk_buf_fmt(b, "</table>\n");
}
static void embed(lk_buf *b, const char *path, const char *name) {
    char *bytes; size_t n;
    lk_err e = lk_read_file(path, &bytes, &n);
    if (e) { lk_err_free(e); return; }
    if (lk_ends(name, ".md")) markdown(b, bytes);
    else if (lk_ends(name, ".svg")) { char *svg = strstr(bytes, "<svg"); if (svg) lk_buf_fmt(b, "<figure>%s</figure>\n", svg); }
    else { lk_buf_fmt(b, "<figure><img alt=\"%s\" src=\"data:image/png;base64,", name); base64(b, (unsigned char *)bytes, n); lk_buf_fmt(b, "\"></figure>\n"); }
    free(bytes);
}
/* Tables first, then figures, then sheets (pictures that are not a figure's PNG). */
static void outputs(lk_buf *b, lk_sweep *s) {
    struct dirent **names;
    int n = scandir(s->grid->dir, &names, NULL, alphasort);
    const char *const kinds[] = {".md", ".svg", ".png"};
    for (int k = 0; k < 3; k++) for (int i = 0; i < n; i++) {
        const char *name = names[i]->d_name;
        if (!lk_ends(name, kinds[k]) || *name == '.') continue;
        char *twin = lk_fmt(s->arena, "%s/%.*s.svg", s->grid->dir, (int)strlen(name) - 4, name);
        if (k == 2 && !access(twin, F_OK)) continue;
        embed(b, lk_sweep_path(s, name), name);
    }
    for (int i = 0; i < n; i++) free(names[i]);
    if (n >= 0) free(names);
}
static double total_of(const lk_sweep *s, const char *attr) {
    double sum = 0;
    for (int i = 0; i < s->n; i++) { const char *t = lk_run_get_attr(s->runs[i], attr); sum += t ? atof(t) : 0; }
    return sum;
}
/* Every different value of one provenance entry, each with the number of runs that have it: "24 of A; 3 of B". */
static const char *values_of(lk_sweep *s, const char *key) {
    enum { MOST = 16 };
    const char *value[MOST]; int count[MOST], n = 0, others = 0;
    for (int i = 0; i < s->n; i++) {
        const char *v = lk_run_get_provenance(s->runs[i], key); int k = 0;
        if (!v) v = "not recorded";
        while (k < n && strcmp(value[k], v)) k++;
        if (k == MOST) { others++; continue; }
        if (k == n) { value[n] = v; count[n++] = 0; }
        count[k]++;
    }
    const char *text = n == 1 ? value[0] : "";
    for (int k = 0; n > 1 && k < n; k++) text = lk_fmt(s->arena, "%s%s%d of %s", text, *text ? "; " : "", count[k], value[k]);
    return others ? lk_fmt(s->arena, "%s; %d of others", text, others) : text;
}
static int in_state(const grid *g, run_state wanted) {
    int n = 0;
    for (int i = 0; i < g->n; i++) n += rundir_state(rundir_of(g->arena, g->results, g->points[i].run_id)) == wanted;
    return n;
}
static void checklist(lk_buf *b, lk_sweep *s) {
    const grid *g = s->grid;
    char took[32], line[512];
    int controls = 0;
    for (int i = 0; i < s->n; i++) controls += g->points[s->point[i]].control != NULL;
    lk_buf_fmt(b, "<h2>Reproducibility checklist</h2>\n<table>\n");
    pair(b, "Question", g->exp->question);
    pair(b, "Primary contrast, named before the run", g->exp->primary ? g->exp->primary : "none was named");
    pair(b, "Error bars and their method", g->exp->uncertainty ? g->exp->uncertainty : "the experiment does not say");
    snprintf(line, sizeof line, "%d of %d planned (%d of the grid, %d of %d controls); %d failed", s->n, g->n, s->n - controls, controls, g->n_controls, in_state(g, RUN_FAILED));
    pair(b, "Number of runs", line);
    double seconds = total_of(s, "seconds");
    snprintf(line, sizeof line, "%s of run time, %.2g %% of it the harness's own", seconds_text(seconds, took), seconds > 0 ? 100 * total_of(s, "harness_seconds") / seconds : 0);
    pair(b, "Compute used", line);
    const struct { const char *label, *key; } machines[] = {{"Processors, by run", "cpu"}, {"Instruction sets, by run", "isa"}, {"Threads a run", "threads"}, {"Hosts, by run", "host"}, {"Compilers, by run", "compiler"}};
    for (size_t i = 0; i < sizeof machines / sizeof machines[0]; i++) pair(b, machines[i].label, values_of(s, machines[i].key));
    for (int i = 0; i < g->n_inputs; i++) { snprintf(line, sizeof line, "Input %s (SHA-256 of contents)", g->inputs[i].name); pair(b, line, g->inputs[i].hash); }
    pair(b, "Source id", g->source_id);
    const char *set = *g->set ? lk_fmt(s->arena, " set=\"%s\"", g->set) : "";
    pair(b, "Command", lk_fmt(s->arena, "make exp=%s run profile=%s%s", g->exp->name, profile_names[g->profile], set));
    pair(b, "To check bit for bit", lk_fmt(s->arena, "make exp=%s verify profile=%s%s n=all", g->exp->name, profile_names[g->profile], set));
    lk_buf_fmt(b, "</table>\n<h3>Hyper-parameters and how they were chosen</h3>\n<table><tr><th>key</th><th>value</th><th>unit</th><th>meaning</th></tr>\n");
    for (int i = 0; i < g->n_keys; i++) {
        const grid_key *k = &g->keys[i];
        lk_buf_fmt(b, "<tr><th>"); text(b, k->name); lk_buf_fmt(b, "</th><td>");
        for (int v = 0; v < k->n; v++) { lk_buf_fmt(b, v ? ", " : ""); text(b, k->values[v]); }
        lk_buf_fmt(b, "</td><td>"); text(b, k->unit); lk_buf_fmt(b, "</td><td>"); text(b, k->about); lk_buf_fmt(b, "</td></tr>\n");
    }
    lk_buf_fmt(b, "</table>\n");
}
static void provenance(lk_buf *b, const lk_sweep *s) {
    const char *const *names;
    if (!s->n) return;
    lk_buf_fmt(b, "<h2>Provenance</h2>\n<p>Of the first run; each run file has its own.</p>\n<table>\n");
    for (int i = 0, n = lk_run_names(s->runs[0], "provenance", &names); i < n; i++) {
        const char *v = lk_run_get_provenance(s->runs[0], names[i]);
        if (v && strlen(v) > 2000) v = lk_fmt(s->arena, "%.2000s\n... (whole in run.h5)", v);
        pair(b, names[i], v);
    }
    lk_buf_fmt(b, "</table>\n<h2>Runs</h2>\n<table><tr><th>point</th><th>run</th><th>result digest</th><th>seconds</th></tr>\n");
    for (int i = 0; i < s->n; i++) {
        const grid_point *p = &s->grid->points[s->point[i]];
        const char *digest = lk_run_get_attr(s->runs[i], "result_digest"), *seconds = lk_run_get_attr(s->runs[i], "seconds");
        lk_buf_fmt(b, "<tr><td>"); text(b, p->label);
        lk_buf_fmt(b, "</td><td><code>%.16s</code></td><td><code>%.16s</code></td><td>%s</td></tr>\n", p->run_id, digest ? digest : "", seconds ? seconds : "");
    }
    lk_buf_fmt(b, "</table>\n");
}
static lk_err write_report(lk_sweep *s) {
    lk_buf b = {0};
    lk_buf_fmt(&b, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>");
    text(&b, s->grid->name);
    lk_buf_fmt(&b, "</title>\n<style>body{font:15px/1.5 sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222}table{border-collapse:collapse;margin:1em 0;font-size:13px}"
                   "th,td{border-bottom:1px solid #ddd;padding:.25em .7em;text-align:left;vertical-align:top;white-space:pre-wrap}figure{margin:1em 0}img,svg{max-width:100%%;height:auto}</style></head><body>\n<h1>");
    text(&b, s->grid->name);
    lk_buf_fmt(&b, "</h1>\n<p>");
    text(&b, s->grid->exp->question);
    lk_buf_fmt(&b, "</p>\n");
    outputs(&b, s);
    checklist(&b, s);
    provenance(&b, s);
    lk_buf_fmt(&b, "</body></html>\n");
    lk_err e = lk_write_file_atomic(lk_sweep_path(s, "report.html"), b.s, b.n);
    free(b.s);
    return e;
}
lk_err command_report(const lk_experiment *x, const command_opts *o, int *status) {
    grid *g;
    lk_sweep *s = NULL;
    (void)status;
    LK_TRY(command_grid(x, o, true, &g));
    lk_err e = sweep_load(g, &s);
    if (!e && !s->n) e = lk_error(LK_EINPUT, "%s: no run of these sources is done; make exp=%s run first", g->name, x->name);
    if (!e) e = sweep_summarise(s);
    if (!e) e = write_report(s);
    if (!e) printf("%s (%d of %d runs)\n", lk_sweep_path(s, "report.html"), s->n, g->n);
    sweep_free(s);
    grid_free(g);
    return e;
}
