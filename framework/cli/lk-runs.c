/* What concerns runs of all experiments:
 *     lk-runs list                experiments and sweeps
 *     lk-runs new exp=NAME        experiments/NAME.c, ready to run, to be changed
 *     lk-runs compare A=RUN B=RUN only what differs; RUN is the beginning of a run_id, or a run's directory
 *     lk-runs gc                  runs that no plan names; asks before it deletes */
#include "harness/internal.h"
#include <ctype.h>
#include <dirent.h>
#include "metrics/metrics.h"        /* lk_mean_t */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static lk_arena *memory;
static const char *results(void) { const char *s = getenv("LK_RESULTS"); return s && *s ? s : "results"; }
static int visible(const struct dirent *d) { return d->d_name[0] != '.'; }
typedef lk_err (*visitor)(const char *path, const char *name, void *arg);
static lk_err each_in(const char *dir, visitor fn, void *arg) {
    struct dirent **names;
    int n = scandir(dir, &names, visible, alphasort);
    lk_err e = LK_OK;
    for (int i = 0; i < n; i++) { if (!e) e = fn(lk_fmt(memory, "%s/%s", dir, names[i]->d_name), names[i]->d_name, arg); free(names[i]); }
    if (n >= 0) free(names);
    return e;
}

/* ---- list ----------------------------------------------------------------------------------------------------- */
static lk_err list_experiment(const char *path, const char *name, void *arg) {
    char *text; size_t n;
    (void)arg;
    if (!lk_ends(name, ".c")) return LK_OK;
    LK_TRY(lk_read_file(path, &text, &n));
    const char *s = text + strspn(text, "/* \n");
    printf("  %-24.*s %.*s\n", (int)strlen(name) - 2, name, (int)strcspn(s, "\n"), s);
    free(text);
    return LK_OK;
}
static lk_err list_sweep(const char *path, const char *name, void *arg) {
    const char *plan_path = lk_fmt(memory, "%s/plan.json", path);
    json_t *plan, *row; size_t i;
    int by_state[RUN_STATES] = {0};
    (void)arg;
    if (access(plan_path, F_OK)) return LK_OK;
    lk_err e = lk_json_load(plan_path, &plan);
    if (e) { printf("  %-32s %s\n", name, lk_err_text(e)); lk_err_free(e); return LK_OK; }
    json_t *runs = json_object_get(plan, "runs");
    json_array_foreach(runs, i, row) {
        const char *id = json_string_value(json_object_get(row, "run_id"));
        run_state s = id ? rundir_state(rundir_of(memory, results(), id)) : RUN_NONE;
        by_state[s == RUN_NONE ? RUN_PLANNED : s]++;
    }
    printf("  %-32s %zu runs", name, json_array_size(runs));
    for (int s = 0; s < RUN_STATES; s++) if (by_state[s]) printf(", %d %s", by_state[s], state_names[s]);
    printf("\n");
    json_decref(plan);
    return LK_OK;
}
static lk_err command_list(char **value) {
    (void)value;
    printf("experiments (make exp=NAME run)\n");
    LK_TRY(each_in("experiments", list_experiment, NULL));
    printf("sweeps in %s/sweeps\n", results());
    return each_in(lk_fmt(memory, "%s/sweeps", results()), list_sweep, NULL);
}

/* ---- new -------------------------------------------------------------------------------------------------------- */
static const char template_head[] =
    "/* What is asked, in one line.\n"
    " *   make exp=%s run                     about 1 s\n"
    " * Expect: what should come out, and what would surprise. */\n"
    "#include \"harness/experiment.h\"\n\n"
    "static const lk_axis axes[] = {\n"
    "    {\"level\", \"1,2,4\", .in = {[LK_TINY] = \"1\"}, .about = \"what is varied\"},\n"
    "    {\"seed\", \"0..5\", .in = {\"0\", \"0\", \"0\", \"0..5\"}, .open = true},\n"
    "    {0}};\n"
    "static const lk_setting settings[] = {\n"
    "    {\"steps\", LK_INT, \"steps\", {\"3\", \"10\", \"100\", \"1000\"}, 1, 1e6, .about = \"how many; how that was chosen\"},\n"
    "    {0}};\n\n"
    "/* One point of the grid: a random walk whose step grows with level. */\n"
    "static lk_err run(lk_ctx *c) {\n"
    "    uint64_t key = lk_stream_key(lk_ctx_seed(c), \"walk\");\n"
    "    int64_t steps = lk_ctx_int(c, \"steps\");\n"
    "    double at = 0;\n"
    "    for (int64_t step = 1; step <= steps; step++) {\n"
    "        at += lk_ctx_real(c, \"level\") * (double)lk_philox_normal(key, (uint64_t)step, 0, 0);\n"
    "        lk_ctx_row(c, \"walk\", step, 1, (const char *const[]){\"at\"}, &at);\n"
    "        lk_ctx_progress(c, step, steps, at);\n"
    "    }\n"
    "    lk_run_final(lk_ctx_run(c), \"end\", at);\n"
    "    return lk_ctx_check(c);\n"
    "}\n";
static const char template_tail[] =
    "static const lk_experiment experiment = {\n"
    "    .name = \"%s\", .question = \"What is asked, in one line?\", .axes = axes, .settings = settings, .run = run,\n"
    "    .primary = \"the one contrast, named before the run\", .uncertainty = \"how intervals are made\"};\n"
    "int main(int argc, char **argv) { return lk_experiment_main(&experiment, argc, argv); }\n";
static lk_err command_new(char **value) {
    const char *name = value[0];
    if (!name || !*name || strlen(name) > 60 || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != strlen(name) || isdigit((unsigned char)*name))
        return lk_error(LK_EINPUT, "make new exp=NAME: NAME of small letters, digits and _, not beginning with a digit");
    const char *path = lk_fmt(memory, "experiments/%s.c", name);
    if (!access(path, F_OK)) return lk_error(LK_EINPUT, "%s is there already", path);
    lk_buf b = {0};
    lk_buf_fmt(&b, template_head, name);
    lk_buf_fmt(&b, template_tail, name);
    lk_err e = lk_write_file_atomic(path, b.s, b.n);
    free(b.s);
    if (!e) printf("%s: now make exp=%s run\n", path, name);
    return e;
}

/* ---- compare ------------------------------------------------------------------------------------------------------ */
typedef struct { const char *prefix, *dir; int n; } search;
static lk_err match_run(const char *path, const char *name, void *arg) {
    search *s = arg;
    if (strlen(name) == 64 && lk_starts(name, s->prefix)) { s->dir = path; s->n++; }
    return LK_OK;
}
static lk_err match_shelf(const char *path, const char *name, void *arg) { (void)name; return each_in(path, match_run, arg); }
static lk_err find_run(const char *prefix, const char *what, const char **dir, lk_run **r) {
    search s = {.prefix = prefix};
    if (!prefix || !*prefix) return lk_error(LK_EINPUT, "make compare A=RUN B=RUN: %s= is missing; a RUN is the beginning of a run_id (make exp=NAME report lists them) or a run's directory", what);
    if (strchr(prefix, '/')) s = (search){.dir = prefix, .n = 1};
    else LK_TRY(each_in(lk_fmt(memory, "%s/runs", results()), match_shelf, &s));
    if (s.n != 1) return lk_error(LK_EINPUT, "%s=%s: %s in %s/runs", what, prefix, s.n ? "several runs begin so; write more of it" : "no run begins so", results());
    *dir = s.dir;
    return lk_run_load(lk_fmt(memory, "%s/run.h5", s.dir), r);
}
static bool differ(const char *a, const char *b) { return !a || !b || strcmp(a, b); }
/* One group of texts: members that differ, of both. */
static void compare_texts(const char *group, const lk_run *a, const lk_run *b, const char *(*get)(const lk_run *, const char *)) {
    const char *const *names;
    for (int side = 0; side < 2; side++) for (int i = 0, n = lk_run_names(side ? b : a, group, &names); i < n; i++) {
        const char *x = get(a, names[i]), *y = get(b, names[i]);
        if ((side && x) || !differ(x, y) || !strcmp(names[i], "resolved") || (x && y && strlen(x) + strlen(y) > 400)) continue;
        printf("  %s/%s: %s | %s\n", group, names[i], x ? x : "-", y ? y : "-");
    }
}
static bool same_number(double x, double y) { return x == y || (x != x && y != y); }
static void compare_finals(const lk_run *a, const lk_run *b) {
    const char *const *names;
    for (int side = 0; side < 2; side++) for (int i = 0, n = lk_run_names(side ? b : a, "final", &names); i < n; i++) {
        double x = NAN, y = NAN;
        bool in_a = lk_run_get_final(a, names[i], &x), in_b = lk_run_get_final(b, names[i], &y);
        if (in_a && in_b) { if (!side && !same_number(x, y)) printf("  final/%s: %.6g | %.6g  (B - A = %+.4g)\n", names[i], x, y, y - x); }
        else if (in_a) printf("  final/%s: %.6g | -\n", names[i], x);
        else printf("  final/%s: - | %.6g\n", names[i], y);
    }
}
/* The first text column in which the samples part: two prompts are no pair. NULL: none. */
static const char *not_the_same_samples(const lk_run *a, const lk_run *b) {
    const char *const *names;
    for (int i = 0, n = lk_run_names(a, "samples", &names); i < n; i++)
        for (int64_t k = 0; k < lk_run_samples(a); k++) {
            const char *x = lk_run_get_sample_text(a, names[i], k), *y = lk_run_get_sample_text(b, names[i], k);
            if (x && differ(x, y)) return names[i];
        }
    return NULL;
}
/* Samples are paired by their place: mean difference with a 95 % t interval. */
static void compare_samples(const lk_run *a, const lk_run *b) {
    const char *const *names, *other = NULL;
    int64_t rows = lk_run_samples(a);
    if (rows == lk_run_samples(b)) other = not_the_same_samples(a, b);
    else printf("  samples: %lld | %lld, not paired\n", (long long)rows, (long long)lk_run_samples(b));
    if (other) printf("  samples: of another %s, not paired\n", other);
    if (other || rows != lk_run_samples(b)) return;
    for (int i = 0, n = lk_run_names(a, "samples", &names); i < n; i++) {
        const double *x = lk_run_get_sample_column(a, names[i]), *y = lk_run_get_sample_column(b, names[i]);
        double *d = lk_xmalloc(sizeof *d * (size_t)(rows + 1));
        int64_t m = 0, parted = 0;
        for (int64_t k = 0; x && y && k < rows; k++) { parted += !same_number(x[k], y[k]); if (isfinite(y[k] - x[k])) d[m++] = y[k] - x[k]; }
        lk_interval v;
        lk_err few = parted ? lk_mean_t(d, m, 0.95, &v) : LK_OK;
        if (parted && few) printf("  samples/%s: %lld of %lld differ, too few pairs for an interval\n", names[i], (long long)parted, (long long)rows);
        else if (parted) printf("  samples/%s: B - A = %+.4g, 95 %% interval %+.4g to %+.4g over %lld pairs\n", names[i], v.mean, v.lo, v.hi, (long long)m);
        lk_err_free(few);
        free(d);
    }
}
static lk_err command_compare(char **value) {
    lk_run *a, *b = NULL;
    const char *dir_a, *dir_b;
    LK_TRY(find_run(value[1], "A", &dir_a, &a));
    lk_err e = find_run(value[2], "B", &dir_b, &b);
    if (!e) {
        char *first = difference_of(a, lk_fmt(memory, "%s/adapter.safetensors", dir_a), b, lk_fmt(memory, "%s/adapter.safetensors", dir_b));
        printf("A %.16s  B %.16s\n", lk_run_get_attr(a, "run_id"), lk_run_get_attr(b, "run_id"));
        compare_texts("config", a, b, lk_run_get_config);
        compare_texts("provenance", a, b, lk_run_get_provenance);
        compare_finals(a, b);
        compare_samples(a, b);
        printf(first ? "  first difference: %s\n" : "  results are identical, bit for bit\n", first);
        free(first);
    }
    lk_run_free(a); lk_run_free(b);
    return e;
}

/* ---- gc --------------------------------------------------------------------------------------------------------------- */
typedef struct { lk_buf named; int n; int64_t bytes; bool remove; } sweeping;
static lk_err name_runs(const char *path, const char *name, void *arg) {
    sweeping *g = arg;
    const char *plan_path = lk_fmt(memory, "%s/plan.json", path);
    json_t *plan, *row; size_t i;
    (void)name;
    if (access(plan_path, F_OK)) return LK_OK;
    lk_err e = lk_json_load(plan_path, &plan);                /* an unreadable plan may name any run */
    if (!e) e = plan_readable(plan, NULL, plan_path);
    if (e) return lk_err_wrap(e, "nothing is deleted");
    json_array_foreach(json_object_get(plan, "runs"), i, row) lk_buf_fmt(&g->named, "%s\n", json_string_value(json_object_get(row, "run_id")));
    json_decref(plan);
    return LK_OK;
}
static lk_err add_size(const char *path, const char *name, void *arg) {
    struct stat st;
    (void)name;
    if (!stat(path, &st)) *(int64_t *)arg += st.st_size;
    return LK_OK;
}
static lk_err consider(const char *path, const char *name, void *arg) {
    sweeping *g = arg;
    run_lease l; bool claimed;
    if (strlen(name) == 64 && (strstr(g->named.s, name) || rundir_state(path) == RUN_NONE)) return LK_OK;
    if (strlen(name) != 64) return LK_OK;
    if (!g->remove) { g->n++; return each_in(path, add_size, &g->bytes); }
    LK_TRY(rundir_claim(path, &claimed, &l));
    if (!claimed) return LK_OK;
    lk_err e = rundir_remove(path);
    lease_free(&l);
    return e;
}
static lk_err consider_shelf(const char *path, const char *name, void *arg) { (void)name; return each_in(path, consider, arg); }
static lk_err command_gc(char **value) {
    sweeping g = {0};
    char size[32], answer[16] = "";
    const char *shelves = lk_fmt(memory, "%s/runs", results());
    (void)value;
    lk_buf_add(&g.named, "", 0);
    lk_err e = each_in(lk_fmt(memory, "%s/sweeps", results()), name_runs, &g);
    if (!e) e = each_in(shelves, consider_shelf, &g);
    if (!e && !g.n) printf("every run is named by a plan; nothing to delete\n");
    if (!e && g.n) {
        printf("%d runs (%s) are named by no plan in %s/sweeps. Delete them? [y/N] ", g.n, bytes_text(g.bytes, size), results());
        fflush(stdout);
        g.remove = fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y');
        if (g.remove) e = each_in(shelves, consider_shelf, &g);
        if (!e) printf("%s\n", g.remove ? "deleted" : "kept");
    }
    free(g.named.s);
    return e;
}

static const struct { const char *name; lk_err (*run)(char **value); } commands[] = {{"list", command_list}, {"new", command_new}, {"compare", command_compare}, {"gc", command_gc}};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };
int main(int argc, char **argv) {
    static const char *const keys[] = {"exp", "A", "B"};
    const char *names[N_COMMANDS];
    char *value[3] = {0};
    int command = -1;
    lk_err e = LK_OK;
    memory = lk_arena_new();
    for (int i = 0; i < N_COMMANDS; i++) { names[i] = commands[i].name; if (argc > 1 && !strcmp(argv[1], names[i])) command = i; }
    if (command < 0) e = not_allowed("command", argc > 1 ? argv[1] : "", names, N_COMMANDS);
    for (int i = 2; i < argc && !e; i++) {
        size_t k = strcspn(argv[i], "=");
        int which = -1;
        for (int j = 0; j < 3; j++) if (strlen(keys[j]) == k && !strncmp(argv[i], keys[j], k) && argv[i][k]) which = j;
        if (which < 0) e = not_allowed("option", argv[i], keys, 3); else value[which] = argv[i] + k + 1;
    }
    if (!e) e = commands[command].run(value);
    lk_arena_free(memory);
    return lk_err_report(e);
}
