/* A sweep: the frozen plan, the finished runs as the summary sees them, and its own files.
 *
 * plan.json names every run before the first starts; it is written whole and replaced only when the runs it names
 * change (other sources, other inputs, another numerics version), the old one being kept under its own digest. */
#include "harness/internal.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* ---- plan.json -------------------------------------------------------------------------------------------------------- */
static json_t *texts(int n, const char *const *at) {
    json_t *a = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(a, json_string(at[i]));
    return a;
}
static json_t *plan_json(const grid *g) {
    json_t *keys = json_object(), *runs = json_array(), *inputs = json_object();
    for (int i = 0; i < g->n_keys; i++) json_object_set_new(keys, g->keys[i].name, texts(g->keys[i].n, g->keys[i].values));
    for (int i = 0; i < g->n_inputs; i++) json_object_set_new(inputs, g->inputs[i].name, json_string(g->inputs[i].hash));
    for (int i = 0; i < g->n; i++)
        json_array_append_new(runs, json_pack("{s:s, s:s, s:s}", "run_id", g->points[i].run_id, "config_id", g->points[i].config_id, "point", g->points[i].label));
    return json_pack("{s:s, s:s, s:i, s:s, s:s, s:i, s:s, s:o, s:o, s:o}", "schema", PLAN_SCHEMA, "experiment", g->exp->name, "settings_schema", grid_schema(g->exp), "profile", profile_names[g->profile], "set", g->set,
                     "numerics", LK_NUMERICS_VERSION, "source_id", g->source_id, "inputs", inputs, "keys", keys, "runs", runs);
}
/* Two commands on one sweep take turns at its files; the lock goes with the process. Where there are no locks they may
 * both write the same bytes. */
static int sweep_turn(const grid *g) {
    int fd = open(g->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) while (flock(fd, LOCK_EX) && errno == EINTR) {}
    return fd;
}
static void sweep_turn_end(int fd) { if (fd >= 0) close(fd); }
/* A plan of another schema is neither set aside nor trusted: the version that wrote it may still be at work on it. */
lk_err plan_readable(const json_t *plan, const lk_experiment *x, const char *path) {
    const char *schema = json_string_value(json_object_get(plan, "schema"));
    json_t *settings = json_object_get(plan, "settings_schema");
    if (!schema || strcmp(schema, PLAN_SCHEMA))
        return lk_error(LK_EINPUT, "%s: schema \"%s\", but this program reads \"%s\": use the version that wrote it, or move it away and run again", path, schema ? schema : "(none)", PLAN_SCHEMA);
    if (!json_is_array(json_object_get(plan, "runs"))) return lk_error(LK_EINPUT, "%s: has no list of runs; move it away and run again", path);
    return x ? schema_is(x, settings ? json_integer_value(settings) : 1, path) : LK_OK;
}
static lk_err set_aside(const grid *g, const char *path, const char *text) {
    char hex[65];
    lk_sha256_of(text, strlen(text), hex);
    return rename(path, lk_fmt(g->arena, "%s/plan.%.8s.json", g->dir, hex)) ? lk_error(LK_EIO, "%s: cannot be set aside: %s", path, strerror(errno)) : LK_OK;
}
static lk_err freeze(grid *g, plan_fate *fate) {
    const char *path = lk_fmt(g->arena, "%s/plan.json", g->dir);
    json_t *now = plan_json(g), *before = NULL;
    lk_err e = LK_OK;
    *fate = PLAN_NEW;
    if (!access(path, F_OK)) {
        lk_err damaged = lk_json_load(path, &before);           /* cut short by a full disk: set aside, not trusted */
        bool other_schema = !damaged && json_is_string(json_object_get(before, "schema")) && strcmp(json_string_value(json_object_get(before, "schema")), PLAN_SCHEMA);
        *fate = damaged ? PLAN_DAMAGED : json_equal(json_object_get(before, "runs"), json_object_get(now, "runs")) ? PLAN_SAME : PLAN_CHANGED;
        if (other_schema) e = plan_readable(before, NULL, path);
        else if (*fate != PLAN_SAME) {
            char *text = damaged ? lk_xstrdup("damaged") : lk_json_text(before);
            e = set_aside(g, path, text);
            free(text);
        }
        lk_err_free(damaged);
    }
    if (!e && *fate != PLAN_SAME) e = lk_json_save(now, path);
    json_decref(now); json_decref(before);
    return e;
}
lk_err sweep_freeze(grid *g, plan_fate *fate) {
    LK_TRY(lk_mkdirs(g->dir));
    int turn = sweep_turn(g);
    lk_err e = freeze(g, fate);
    sweep_turn_end(turn);
    return e;
}
lk_err sweep_is_frozen(grid *g) {
    const char *path = lk_fmt(g->arena, "%s/plan.json", g->dir);
    json_t *now = plan_json(g), *before = NULL;
    lk_err e = lk_json_load(path, &before);
    if (!e) e = plan_readable(before, g->exp, path);
    if (!e && !json_equal(json_object_get(before, "runs"), json_object_get(now, "runs")))
        e = lk_error(LK_ESTATE, "%s: the plan names other runs than this worker's: sources or inputs changed after it was made; make exp=%s run again", g->dir, g->exp->name);
    json_decref(now); json_decref(before);
    return e;
}

/* ---- finished runs ------------------------------------------------------------------------------------------------------ */
static lk_err load_run(const grid *g, int point, lk_run **run) {
    const char *dir = rundir_of(g->arena, g->results, g->points[point].run_id), *path = lk_fmt(g->arena, "%s/run.h5", dir);
    *run = NULL;
    if (rundir_state(dir) != RUN_DONE) return LK_OK;
    lk_err e = lk_run_load(path, run);
    if (!e) return LK_OK;
    run_lease l; bool claimed;                                  /* damaged on disk: kept beside, done again only on request */
    LK_TRY(rundir_claim(dir, &claimed, &l));
    if (claimed) {
        char *why = lk_xfmt("its run file is damaged and set aside as run.h5.damaged: %s", lk_err_text(e));
        fprintf(stderr, "%s: %s\n", g->points[point].label, why);
        lease_note(&l, &(run_progress){.loss = NAN}, why);
        lk_err_free(rundir_set_aside(path, "damaged"));
        lk_err_free(lease_move(&l, RUN_FAILED));
        lease_free(&l);
        free(why);
    }
    lk_err_free(e);
    return LK_OK;
}
static void add_summary_row(lk_sweep *s, const grid_point *p, lk_run *r) {
    const char *names[256], *text_names[64], *words[64], *const *finals;
    double v[256]; int n = 0, m = 0;
    text_names[m] = "control"; words[m++] = p->control ? p->control : "none";
    text_names[m] = "run_id"; words[m++] = p->run_id;
    text_names[m] = "result_digest"; words[m++] = lk_run_get_attr(r, "result_digest") ? lk_run_get_attr(r, "result_digest") : "";
    for (int i = 0; i < s->grid->n_axes && m < 64 && n < 256; i++) {
        const grid_key *k = s->grid->axes[i];
        const char *value = point_value(p, k->name);
        if (k->kind == LK_TEXT) { text_names[m] = k->name; words[m++] = value ? value : ""; }
        else { names[n] = k->name; v[n++] = value ? strtod(value, NULL) : NAN; }
    }
    for (int i = 0, all = lk_run_names(r, "final", &finals); i < all && n < 256; i++) {
        bool axis = false;
        for (int k = 0; k < n; k++) axis |= !strcmp(names[k], finals[i]);
        names[n] = finals[i];
        if (!axis && lk_run_get_final(r, finals[i], &v[n])) n++;
    }
    lk_run_sample(s->summary, n, names, v, m, text_names, words);
}
lk_err sweep_load(const grid *g, lk_sweep **out) {
    lk_arena *arena = lk_arena_new();
    lk_sweep *s = *out = lk_alloc(arena, sizeof *s);
    *s = (lk_sweep){.grid = g, .arena = arena, .point = lk_alloc(arena, sizeof(int) * (size_t)(g->n + 1)), .runs = lk_alloc(arena, sizeof(lk_run *) * (size_t)(g->n + 1)),
                    .pool = lk_pool_new(lk_default_threads()), .summary = lk_run_new(g->exp->name, g->name)};
    for (int i = 0; i < g->n; i++) {
        lk_run *r;
        lk_err e = load_run(g, i, &r);
        if (e) { sweep_free(s); *out = NULL; return e; }
        if (!r) continue;
        s->point[s->n] = i; s->runs[s->n++] = r;
        add_summary_row(s, &g->points[i], r);
    }
    return LK_OK;
}
void sweep_free(lk_sweep *s) {
    if (!s) return;
    for (int i = 0; i < s->n; i++) lk_run_free(s->runs[i]);
    lk_run_free(s->summary);
    lk_pool_free(s->pool);
    lk_arena_free(s->arena);
}

/* ---- asking ----------------------------------------------------------------------------------------------------------------- */
int         lk_sweep_count(const lk_sweep *s) { return s->n; }
lk_run     *lk_sweep_run(const lk_sweep *s, int i) { return i >= 0 && i < s->n ? s->runs[i] : NULL; }
lk_pool    *lk_sweep_pool(lk_sweep *s) { return s->pool; }
lk_arena   *lk_sweep_arena(lk_sweep *s) { return s->arena; }
lk_run     *lk_sweep_summary(lk_sweep *s) { return s->summary; }
lk_profile  lk_sweep_profile(const lk_sweep *s) { return s->grid->profile; }
const char *lk_sweep_path(lk_sweep *s, const char *file) { return lk_fmt(s->arena, "%s/%s", s->grid->dir, file); }
const char *lk_sweep_value(const lk_sweep *s, int i, const char *key) { return i >= 0 && i < s->n ? point_value(&s->grid->points[s->point[i]], key) : NULL; }
double lk_sweep_number(const lk_sweep *s, int i, const char *key) {
    const char *v = lk_sweep_value(s, i, key);
    return v ? strtod(v, NULL) : NAN;
}
double lk_sweep_final(const lk_sweep *s, int i, const char *key) {
    double x, tolerance;
    if (i < 0 || i >= s->n) return NAN;
    return lk_run_get_final(s->runs[i], key, &x) || lk_run_get_inexact(s->runs[i], key, &x, &tolerance) ? x : NAN;
}
const char *lk_sweep_run_path(lk_sweep *s, int i, const char *file) {
    return i >= 0 && i < s->n ? lk_fmt(s->arena, "%s/%s", rundir_of(s->arena, s->grid->results, s->grid->points[s->point[i]].run_id), file) : NULL;
}
int lk_sweep_find(const lk_sweep *s, const char *fmt, ...) {
    char text[1024];
    va_list ap; va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (int i = 0; i < s->n; i++) if (point_matches(&s->grid->points[s->point[i]], text, NULL)) return i;
    return -1;
}
int lk_sweep_values(const lk_sweep *s, const char *key, const char *const **values) {
    const grid *g = s->grid;
    if (!strcmp(key, "control")) { *values = g->controls; return g->n_controls; }
    for (int i = 0; i < g->n_keys; i++) if (!strcmp(g->keys[i].name, key)) { *values = g->keys[i].values; return g->keys[i].n; }
    *values = NULL;
    return 0;
}
int lk_sweep_int(const lk_sweep *s, const char *setting) {
    const char *const *values;
    return lk_sweep_values(s, setting, &values) ? atoi(values[0]) : 0;
}

/* ---- writing ----------------------------------------------------------------------------------------------------------------- */
lk_err lk_sweep_table(lk_sweep *s, const char *stem, const lk_table *t) {
    const struct { const char *suffix; char *(*text)(const lk_table *); } forms[] = {{"txt", lk_table_text}, {"md", lk_table_markdown}, {"tex", lk_table_latex}, {"dat", lk_table_dat}};
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        char *text = forms[i].text(t);
        lk_err e = lk_write_file_atomic(lk_fmt(s->arena, "%s/%s.%s", s->grid->dir, stem, forms[i].suffix), text, strlen(text));
        free(text);
        if (e) return e;
    }
    return LK_OK;
}
/* Where an experiment has no summary of its own: every final of every run. */
static lk_err table_of_finals(lk_sweep *s) {
    const char *columns[64] = {"run"}, *const *names; int n = 1;
    for (int i = 0; i < s->n; i++) for (int k = 0, all = lk_run_names(s->runs[i], "final", &names); k < all && n < 64; k++) {
        bool known = false;
        for (int c = 1; c < n; c++) known |= !strcmp(columns[c], names[k]);
        if (!known) columns[n++] = names[k];
    }
    lk_table *t = lk_table_new(s->grid->exp->question, n, columns);
    for (int i = 0; i < s->n; i++) {
        const char *cells[64] = {s->grid->points[s->point[i]].label};
        for (int c = 1; c < n; c++) { double x = lk_sweep_final(s, i, columns[c]); cells[c] = x == x ? lk_fmt(s->arena, "%.4g", x) : ""; }
        lk_table_row(t, cells);
    }
    lk_err e = lk_sweep_table(s, "table", t);
    lk_table_free(t);
    return e;
}
static lk_err summarise(lk_sweep *s) {
    lk_err e = s->grid->exp->summarise ? s->grid->exp->summarise(s) : table_of_finals(s);
    if (e) return lk_err_wrap(e, "summary of %s", s->grid->name);
    lk_run_attr(s->summary, "status", "done");
    lk_run_attr(s->summary, "source_id", s->grid->source_id);
    return lk_run_save(s->summary, lk_sweep_path(s, "summary.h5"));
}
lk_err sweep_summarise(lk_sweep *s) {
    if (!s->n) return LK_OK;
    LK_TRY(lk_mkdirs(s->grid->dir));
    int turn = sweep_turn(s->grid);
    lk_err e = summarise(s);
    sweep_turn_end(turn);
    return e;
}
