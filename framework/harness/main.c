/* lk_experiment_main: a command and options key=value, each row of a table; then the commands run and plan. The others are
 * in files of their names. A command line that is refused has written nothing. */
#include "harness/internal.h"
#include "backend/memory.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef lk_err (*command_fn)(const lk_experiment *, const command_opts *, int *status);
static const struct { const char *name; command_fn run; const char *about; } commands[] = {
    {"run", command_run, "does what is not done, then tables and figures"},
    {"plan", command_plan, "runs, memory; nothing is started"},
    {"status", command_status, "states of the planned runs [watch=1]"},
    {"report", command_report, "tables, figures and report.html from what is done"},
    {"verify", command_verify, "re-executes runs and compares digests [n=3|all] [published=1]"},
    {"publish", command_publish, "digests of the finished sweep to results/published/"},
    {"clean-runs", command_clean, "deletes this sweep's runs"}};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };
static const char *const option_names[] = {"profile", "set", "j", "engine", "dry", "retry", "watch", "n", "published", "mem", "backend", "worker"};
enum { N_OPTIONS = sizeof option_names / sizeof option_names[0] };

static lk_err flag(const char *key, const char *value, bool *to) {
    if (strcmp(value, "0") && strcmp(value, "1")) return lk_error(LK_EINPUT, "%s=%s: it is 0 or 1", key, value);
    *to = *value == '1';
    return LK_OK;
}
static lk_err parse_option(const char *arg, command_opts *o) {
    const char *equals = strchr(arg, '=');
    if (!equals) return lk_error(LK_EINPUT, "\"%s\" is not key=value", arg);
    char key[100];
    const char *value = equals + 1;
    snprintf(key, sizeof key, "%.*s", (int)(equals - arg), arg);
    const struct { const char *key; const char **to; } texts[] = {{"profile", &o->profile}, {"set", &o->set}, {"engine", &o->engine}, {"n", &o->n}, {"mem", &o->mem},
                                                                  {"backend", &o->backend}};
    const struct { const char *key; bool *to; } flags[] = {{"dry", &o->dry}, {"retry", &o->retry}, {"watch", &o->watch}, {"published", &o->published}, {"worker", &o->worker}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) if (!strcmp(key, texts[i].key)) { *texts[i].to = value; return LK_OK; }
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) if (!strcmp(key, flags[i].key)) return flag(key, value, flags[i].to);
    if (strcmp(key, "j")) return not_allowed("option", key, option_names, N_OPTIONS);
    char *end;
    long j = strtol(value, &end, 10);
    if (!*value || *end || j < 1 || j > 1024) return lk_error(LK_EINPUT, "j=%s is out of range: 1 to 1024 workers", value);
    o->j = (int)j;
    return LK_OK;
}
static lk_err parse(int argc, char **argv, command_fn *command, command_opts *o) {
    const char *names[N_COMMANDS];
    for (int i = 0; i < N_COMMANDS; i++) names[i] = commands[i].name;
    *o = (command_opts){.profile = "default", .set = "", .j = 1};
    if (argc < 2) return lk_error(LK_EINPUT, "no command; there are: run, plan, status, report, verify, publish, clean-runs");
    for (int i = 0; i < N_COMMANDS; i++) if (!strcmp(argv[1], names[i])) *command = commands[i].run;
    if (!*command) return not_allowed("command", argv[1], names, N_COMMANDS);
    for (int i = 2; i < argc; i++) LK_TRY(parse_option(argv[i], o));
    if (o->backend) LK_TRY(lk_backend_choose(o->backend));
    int64_t mem = 0;
    if (o->mem) LK_TRY(lk_memory_parse(o->mem, &mem));
    lk_memory_limit(mem, 0);
    if (o->n && strcmp(o->n, "all") && (!*o->n || strspn(o->n, "0123456789") != strlen(o->n) || atoi(o->n) < 1)) return lk_error(LK_EINPUT, "n=%s: a number of runs, or all", o->n);
    if (o->engine && strcmp(o->engine, "local") && strcmp(o->engine, "slurm") && strcmp(o->engine, "mpi"))
        return not_allowed("engine", o->engine, (const char *const[]){"local", "slurm", "mpi"}, 3);
    return LK_OK;
}
int lk_experiment_main(const lk_experiment *x, int argc, char **argv) {
    command_fn command = NULL;
    command_opts o;
    int status = 0;
    lk_err e = parse(argc, argv, &command, &o);
    if (!e) e = command(x, &o, &status);
    return e ? lk_err_report(e) : status;
}

lk_err command_grid(const lk_experiment *x, const command_opts *o, bool identify, grid **g) {
    int profile = -1;
    for (int i = 0; i < LK_PROFILES; i++) if (!strcmp(o->profile, profile_names[i])) profile = i;
    if (profile < 0) return not_allowed("profile", o->profile, profile_names, LK_PROFILES);
    LK_TRY(grid_new(x, (lk_profile)profile, o->set, g));
    if (!identify) return LK_OK;
    char source[65];
    lk_err e = source_of_program(source);
    if (!e) e = grid_identify(*g, source);
    if (e) { grid_free(*g); *g = NULL; }
    return e;
}

/* ---- run --------------------------------------------------------------------------------------------------------------- */
typedef struct { int by_state[RUN_STATES], fresh; } counts;
static counts count_states(const grid *g) {
    counts c = {0};
    for (int i = 0; i < g->n; i++) {
        run_state s = rundir_state(rundir_of(g->arena, g->results, g->points[i].run_id));
        if (s == RUN_NONE) c.fresh++; else c.by_state[s]++;
    }
    return c;
}
static int to_do(const counts *c, bool retry) {
    return c->fresh + c->by_state[RUN_PLANNED] + c->by_state[RUN_LEASED] + c->by_state[RUN_RUNNING] + c->by_state[RUN_INTERRUPTED] + (retry ? c->by_state[RUN_FAILED] : 0);
}
/* Seconds of all that is to do, one after another; 0: no run of the kind has been done yet. */
static double seconds_to_do(const grid *g, bool retry, bool *earlier) {
    estimate e = {0};
    double sum = 0;
    for (int i = 0; i < g->n; i++) estimate_learn(&e, g->results, g->points[i].run_id, g->points[i].label);
    estimate_earlier(&e, g);
    *earlier = e.earlier;
    for (int i = 0; i < g->n; i++) {
        run_state s = rundir_state(rundir_of(g->arena, g->results, g->points[i].run_id));
        if (s != RUN_DONE && (s != RUN_FAILED || retry)) sum += estimate_of(&e, g->points[i].label);
    }
    return sum;
}
static void say_plan(const grid *g, const counts *c, const command_opts *o) {
    char bytes[32], time[32];
    int todo = to_do(c, o->retry);
    printf("%s: %s\n", g->name, g->exp->question);
    printf("%d runs: %d done, %d to do%s", g->n, c->by_state[RUN_DONE], todo, c->by_state[RUN_INTERRUPTED] ? " (some go on from a checkpoint)" : "");
    if (c->by_state[RUN_FAILED]) printf(", %d failed%s", c->by_state[RUN_FAILED], o->retry ? " and tried again" : " (retry=1 tries them again)");
    printf("; about %s on disk", bytes_text((g->exp->disk_per_run ? g->exp->disk_per_run : 1 << 20) * (int64_t)todo, bytes));
    bool earlier;
    double left = todo ? seconds_to_do(g, o->retry, &earlier) / (o->j < todo ? o->j : todo) : 0;
    if (left > 0) printf(", about %s%s", seconds_text(left, time), earlier ? " as earlier runs of this profile went" : " left");
    else if (todo) printf(", how long is not known before one is done");
    printf("\n");
    fflush(stdout);
}
static void print_file(const char *path) {
    char *text; size_t n;
    lk_err e = lk_read_file(path, &text, &n);
    if (!e) { fwrite(text, 1, n, stdout); free(text); }
    lk_err_free(e);
}
static lk_err summarise(const grid *g, const worker_tally *t, int *status) {
    lk_sweep *s;
    LK_TRY(sweep_load(g, &s));
    lk_err e = t->failed || s->n < g->n ? LK_OK : sweep_summarise(s);
    if (s->n < g->n) *status = 1;                             /* a run file was damaged, where nothing failed */
    if (s->n < g->n) printf("%d of %d runs are done: tables wait for the rest (make exp=%s report makes them from what there is)\n", s->n, g->n, g->exp->name);
    else if (!e) { print_file(lk_sweep_path(s, "table.txt")); printf("%s/\n", g->dir); }
    sweep_free(s);
    return e;
}
static lk_err run_sweep(grid *g, const command_opts *o, const counts *c, int *status) {
    worker_tally t;
    plan_fate fate;
    int left = to_do(c, o->retry), workers = o->j < left ? o->j : left;
    LK_TRY(sweep_freeze(g, &fate));
    if (fate == PLAN_CHANGED) printf("the plan has changed since it was made (sources or inputs): the earlier one is kept beside it, its runs too\n");
    if (fate == PLAN_DAMAGED) printf("the plan that was there was cut short or damaged; it is set aside and made anew, its runs are kept\n");
    if (workers && o->engine && !strcmp(o->engine, "slurm")) return engine_slurm(g, o, workers);
    if (workers && o->engine && !strcmp(o->engine, "mpi")) LK_TRY(engine_mpi(g, o, workers, c->by_state[RUN_DONE], &t));
    else {
        provenance_collect(g);
        LK_TRY(workers_run(g, (worker_opts){.j = o->j, .threads = worker_threads(o->j), .retry = o->retry}, &t));
    }
    printf("%d done, %d reused, %d failed, %d interrupted\n", t.done, t.reused, t.failed, t.interrupted);
    *status = t.stopped ? 130 : t.failed || t.interrupted ? 1 : 0;
    lk_err e = t.stopped ? LK_OK : summarise(g, &t, status);
    free(t.first_failure);
    return e;
}
lk_err command_run(const lk_experiment *x, const command_opts *o, int *status) {
    grid *g;
    LK_TRY(command_grid(x, o, true, &g));
    if (o->worker) { lk_err e = engine_worker(g, o); grid_free(g); return e; }
    counts c = count_states(g);
    lk_err e = resources_check(g);
    if (e) { grid_free(g); return e; }
    bool elsewhere = o->engine && strcmp(o->engine, "local");        /* a worker looks at its own node's memory */
    say_plan(g, &c, o);
    if (!o->dry && to_do(&c, o->retry)) { if (!elsewhere) e = resources_backend(g); if (!e && !elsewhere) e = resources_memory(g, o->j, worker_threads(o->j), NULL); if (!e) e = resources_disk(g, to_do(&c, o->retry)); }
    if (!e && !o->dry) e = run_sweep(g, o, &c, status);
    grid_free(g);
    return e;
}
lk_err command_plan(const lk_experiment *x, const command_opts *o, int *status) {
    grid *g;
    (void)status;
    LK_TRY(command_grid(x, o, true, &g));
    lk_err e = resources_check(g);
    if (e) { grid_free(g); return e; }
    counts c = count_states(g);
    say_plan(g, &c, o);
    for (int i = 0; i < g->n_axes; i++) {
        printf("  %-12s", g->axes[i]->name);
        for (int k = 0; k < g->axes[i]->n && k < 24; k++) printf(" %s", g->axes[i]->values[k]);
        printf("%s   %s\n", g->axes[i]->n > 24 ? " ..." : "", g->axes[i]->about);
    }
    for (int i = 0; i < g->n_controls; i++) printf("  control      %s\n", g->controls[i]);
    for (int i = 0; i < g->n_keys; i++) if (!g->keys[i].is_axis && g->keys[i].n == 1) printf("  %-12s %s %s   %s\n", g->keys[i].name, g->keys[i].values[0], g->keys[i].unit, g->keys[i].about);
    printf("source %.16s\n", g->source_id);
    e = resources_backend(g);                                /* shapes need no device */
    if (e) printf("%s\n", lk_err_text(e));
    lk_err_free(e);
    e = resources_memory(g, o->j, worker_threads(o->j), stdout);
    grid_free(g);
    return e;
}
