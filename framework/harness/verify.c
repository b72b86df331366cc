/* verify: a finished run is executed once more in a clean temporary directory and its digest compared. publish: the digests
 * of a finished sweep, in a file that is committed; verify published=1 finds each row's point by its config_id, which
 * holds across edits of the code, and executes it with today's sources. */
#include "harness/internal.h"
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *published_path(const grid *g) {
    const char *root = getenv("LK_PUBLISHED");
    return lk_fmt(g->arena, "%s/%s-%s.json", root && *root ? root : "results/published", g->exp->name, profile_names[g->profile]);
}
/* Executes a point in dir (a child process, so that a crash is a result too) and loads what it made. */
static lk_err execute_again(const grid *g, const grid_point *p, const char *dir, lk_run **run) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) return lk_error(LK_EIO, "fork: %s", strerror(errno));
    if (!pid) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        lk_ctx *c;
        lk_err e = context_new(g, p, dir, worker_threads(1), &c);
        if (!e) e = context_execute(c);
        if (e) fprintf(stderr, "%s: %s\n", p->label, lk_err_text(e));
        fflush(NULL);
        _exit(e ? 1 : 0);
    }
    int status;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    if (!WIFEXITED(status) || WEXITSTATUS(status)) return lk_error(LK_ESTATE, "%s: the second execution failed", p->label);
    return lk_run_load(lk_fmt(g->arena, "%s/run.h5", dir), run);
}
static lk_err temporary(const grid *g, const char **dir) {
    const char *root = getenv("TMPDIR");
    char *template = lk_fmt(g->arena, "%s/lk-verify-XXXXXX", root && *root ? root : "/tmp");
    if (!mkdtemp(template)) return lk_error(LK_EIO, "%s: %s", template, strerror(errno));
    *dir = template;
    return LK_OK;
}
/* One digest against the second execution; *same, and *why (malloc) where not. first: the earlier run file where there is one. */
static lk_err check(const grid *g, const grid_point *p, const char *digest, const char *first_dir, const json_t *inexact, bool *same, char **why) {
    const char *dir = NULL, *key; const json_t *pair;
    lk_run *second = NULL, *first = NULL;
    LK_TRY(temporary(g, &dir));
    lk_err e = execute_again(g, p, dir, &second);
    const char *got = e ? NULL : lk_run_get_attr(second, "result_digest");
    *why = NULL;
    if (!e && (!got || strcmp(got, digest))) {
        lk_err none = first_dir ? lk_run_load(lk_fmt(g->arena, "%s/run.h5", first_dir), &first) : lk_error(LK_EINPUT, "no");
        if (!none) *why = difference_of(first, lk_fmt(g->arena, "%s/adapter.safetensors", first_dir), second, lk_fmt(g->arena, "%s/adapter.safetensors", dir));
        if (!*why) *why = lk_xfmt("digest %.16s, expected %.16s%s", got ? got : "none", digest, none ? "; the earlier run file is not here, so the place cannot be named" : "");
        lk_err_free(none);
    }
    if (!e && inexact) json_object_foreach((json_t *)inexact, key, pair) {
        double want = json_number_value(json_array_get(pair, 0)), tolerance = json_number_value(json_array_get(pair, 1)), x = NAN, t;
        bool there = lk_run_get_inexact(second, key, &x, &t);
        if (!*why && !(there && fabs(x - want) <= tolerance)) *why = lk_xfmt("inexact/%s: %.17g, expected %.17g within %g", key, x, want, tolerance);
    }
    *same = !e && !*why;
    lk_run_free(first);
    lk_run_free(second);
    if (*same || e) { lk_err_free(rundir_remove(dir)); return e; }
    char *kept = lk_xfmt("%s (what it made is kept in %s)", *why, dir);
    free(*why);
    *why = kept;
    return LK_OK;
}
static int how_many(const command_opts *o, int available) {
    int v = !o->n ? 3 : !strcmp(o->n, "all") ? available : atoi(o->n);
    return v < available ? v : available;
}
static int spread(int i, int n, int available) { return n == 1 ? 0 : (int)((int64_t)i * (available - 1) / (n - 1)); }
static lk_err say(const grid_point *p, bool same, char *why, int *status) {
    printf("%-10s  %s%s%s\n", same ? "identical" : "DIFFERENT", p->label, same ? "" : ": ", same ? "" : why);
    fflush(stdout);
    free(why);
    if (!same) *status = 1;
    return LK_OK;
}

static lk_err verify_stored(const grid *g, const command_opts *o, int *status) {
    int *done = lk_alloc(g->arena, sizeof *done * (size_t)(g->n + 1)), available = 0, n;
    for (int i = 0; i < g->n; i++) if (rundir_state(rundir_of(g->arena, g->results, g->points[i].run_id)) == RUN_DONE) done[available++] = i;
    if (!available) return lk_error(LK_EINPUT, "%s: no run of these sources is done; make exp=%s run first", g->name, g->exp->name);
    n = how_many(o, available);
    for (int i = 0; i < n && !*status; i++) {
        const grid_point *p = &g->points[done[spread(i, n, available)]];
        const char *dir = rundir_of(g->arena, g->results, p->run_id);
        const char *adapter = lk_fmt(g->arena, "%s/adapter.safetensors", dir);
        char digest[65], *why = NULL;
        lk_run *r; bool same = false;
        lk_err damaged = lk_run_load(lk_fmt(g->arena, "%s/run.h5", dir), &r);
        if (damaged) {                                          /* a difference like any other; run and report set it aside */
            why = lk_xfmt("its run file cannot be read: %s", lk_err_text(damaged));
            lk_err_free(damaged);
            LK_TRY(say(p, false, why, status));
            break;
        }
        char *stored = lk_xstrdup(lk_run_get_attr(r, "result_digest") ? lk_run_get_attr(r, "result_digest") : "none");
        lk_err e = lk_run_digest(r, access(adapter, F_OK) ? NULL : adapter, digest);
        if (!e && strcmp(digest, stored)) why = lk_xfmt("the stored files no longer have the stored digest %.16s: they were changed after the run", stored);
        else if (!e) e = check(g, p, stored, dir, NULL, &same, &why);
        lk_run_free(r);
        free(stored);
        if (e) return e;
        LK_TRY(say(p, same, why, status));
    }
    if (!*status) printf("%d of %d finished runs executed again: every digest identical\n", n, available);
    return LK_OK;
}
static const grid_point *point_of_config(const grid *g, const char *config_id) {
    for (int i = 0; i < g->n; i++) if (!strcmp(g->points[i].config_id, config_id)) return &g->points[i];
    return NULL;
}
/* Digests made under other rules say nothing of today's: the number that differs is named. */
static lk_err published_readable(const grid *g, const json_t *file) {
    const char *schema = json_string_value(json_object_get(file, "schema"));
    json_t *settings = json_object_get(file, "settings_schema"), *numerics = json_object_get(file, "numerics");
    if (!schema || strcmp(schema, PUBLISHED_SCHEMA)) return lk_error(LK_EINPUT, "%s: schema \"%s\", but this program reads \"%s\"", published_path(g), schema ? schema : "(none)", PUBLISHED_SCHEMA);
    if (json_integer_value(numerics) != LK_NUMERICS_VERSION)
        return lk_error(LK_EINPUT, "%s: made under numerics version %lld, this program computes by version %d (docs/numerics.md)", published_path(g), (long long)json_integer_value(numerics), LK_NUMERICS_VERSION);
    return schema_is(g->exp, settings ? json_integer_value(settings) : 1, published_path(g));
}
static lk_err verify_published(const grid *g, const command_opts *o, int *status) {
    json_t *file;
    int n;
    LK_TRY(lk_json_load(published_path(g), &file));
    json_t *rows = json_object_get(file, "runs");
    int available = (int)json_array_size(rows);
    lk_err e = published_readable(g, file);
    if (!e && !available) e = lk_error(LK_EINPUT, "%s: has no runs", published_path(g));
    n = how_many(o, available);
    for (int i = 0; !e && i < n && !*status; i++) {
        json_t *row = json_array_get(rows, (size_t)spread(i, n, available));
        const char *config = json_string_value(json_object_get(row, "config_id")), *digest = json_string_value(json_object_get(row, "result_digest"));
        const char *run_id = json_string_value(json_object_get(row, "run_id")), *label = json_string_value(json_object_get(row, "point"));
        if (!config || !digest || !run_id) { e = lk_error(LK_EINPUT, "%s: run %d lacks config_id, run_id or result_digest", published_path(g), i); break; }
        const grid_point *p = point_of_config(g, config);
        if (!p) { printf("DIFFERENT   %s: today's %s has no point with config_id %.16s: its settings, inputs or numerics version changed\n", label ? label : "?", g->exp->name, config); *status = 1; break; }
        const char *dir = rundir_of(g->arena, g->results, run_id);
        bool same; char *why;
        e = check(g, p, digest, rundir_state(dir) == RUN_DONE ? dir : NULL, json_object_get(row, "inexact"), &same, &why);
        if (!e) e = say(p, same, why, status);
    }
    if (!e && !*status) printf("%d of %d published runs executed with today's sources: every digest identical\n", n, available);
    json_decref(file);
    return e;
}
lk_err command_verify(const lk_experiment *x, const command_opts *o, int *status) {
    grid *g;
    LK_TRY(command_grid(x, o, true, &g));
    lk_err e = resources_backend(g);
    if (!e && o->mem) e = resources_memory(g, 1, 1, NULL);
    if (e) { grid_free(g); return e; }
    provenance_collect(g);
    e = o->published ? verify_published(g, o, status) : verify_stored(g, o, status);
    grid_free(g);
    return e;
}

/* ---- publish ------------------------------------------------------------------------------------------------------------- */
static json_t *published_row(const grid_point *p, lk_run *r) {
    json_t *inexact = json_object();
    const char *const *names;
    for (int i = 0, n = lk_run_names(r, "inexact", &names); i < n; i++) {
        double x, t;
        if (lk_run_get_inexact(r, names[i], &x, &t) && isfinite(x)) json_object_set_new(inexact, names[i], json_pack("[f, f]", x, t));
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o}", "point", p->label, "config_id", p->config_id, "run_id", p->run_id, "source_id", lk_run_get_attr(r, "source_id"), "result_digest",
                     lk_run_get_attr(r, "result_digest"), "inexact", inexact);
}
/* Tables and figures go beside the digests, in a directory of the sweep's name. */
static lk_err copy_outputs(const grid *g, const char *to) {
    struct dirent **names;
    int n = scandir(g->dir, &names, NULL, alphasort);
    lk_err e = n < 0 ? lk_error(LK_EIO, "%s: %s", g->dir, strerror(errno)) : lk_mkdirs(to);
    for (int i = 0; i < n; i++) {
        const char *name = names[i]->d_name, *const suffixes[] = {".txt", ".md", ".svg", ".png", ".dat"};
        bool wanted = false;
        for (size_t k = 0; k < sizeof suffixes / sizeof suffixes[0]; k++) wanted |= lk_ends(name, suffixes[k]);
        if (!e && wanted) {
            char *bytes = NULL; size_t size;
            e = lk_read_file(lk_fmt(g->arena, "%s/%s", g->dir, name), &bytes, &size);
            if (!e) e = lk_write_file_atomic(lk_fmt(g->arena, "%s/%s", to, name), bytes, size);
            free(bytes);
        }
        free(names[i]);
    }
    if (n >= 0) free(names);
    return e;
}
lk_err command_publish(const lk_experiment *x, const command_opts *o, int *status) {
    grid *g;
    lk_sweep *s = NULL;
    (void)status;
    if (*o->set) return lk_error(LK_EINPUT, "publish takes a whole profile; leave set= away");
    LK_TRY(command_grid(x, o, true, &g));
    lk_err e = sweep_load(g, &s);
    if (!e && s->n < g->n) e = lk_error(LK_EINPUT, "%s: %d of %d runs are done; make exp=%s profile=%s run first", g->name, s->n, g->n, x->name, profile_names[g->profile]);
    if (!e) e = sweep_summarise(s);
    if (!e) {
        json_t *rows = json_array();
        for (int i = 0; i < s->n; i++) json_array_append_new(rows, published_row(&g->points[s->point[i]], s->runs[i]));
        json_t *file = json_pack("{s:s, s:s, s:s, s:i, s:i, s:s, s:o}", "schema", PUBLISHED_SCHEMA, "experiment", x->name, "profile", profile_names[g->profile], "settings_schema",
                                 grid_schema(x), "numerics", LK_NUMERICS_VERSION, "tier", HARNESS_TIER, "runs", rows);
        const char *path = published_path(g);
        char *folder = lk_strdup(g->arena, path);
        *strrchr(folder, '/') = 0;
        e = lk_mkdirs(folder);
        if (!e) e = lk_json_save(file, path);
        if (!e) e = copy_outputs(g, lk_fmt(g->arena, "%s/%s-%s", folder, x->name, profile_names[g->profile]));
        if (!e) printf("%s: %d runs\n", path, s->n);
        json_decref(file);
    }
    sweep_free(s);
    grid_free(g);
    return e;
}
