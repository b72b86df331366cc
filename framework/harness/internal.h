/* What the files of harness/ share: values and points of a sweep, run directories and their leases, the
 * context of a run, the commands. Nobody outside includes this. */
#ifndef LK_HARNESS_INTERNAL_H
#define LK_HARNESS_INTERNAL_H
#include "harness/experiment.h"
#include <signal.h>
#include <stdio.h>
#include <sys/types.h>

#define HARNESS_SCHEMA "likeness run 1"      /* first line of every identity */
#define HARNESS_TIER   lk_backend_tier(lk_backend_chosen())     /* "exact" on cpu and cuda alike */
#define PLAN_SCHEMA      "likeness plan 1"
#define PUBLISHED_SCHEMA "likeness published 1"
extern const char *const profile_names[LK_PROFILES];

/* ---- values.c: lists and ranges as the user writes them --------------------------------------------------------- */
lk_err  values_parse(lk_arena *, const char *list, const char *where, int *n, const char ***values);   /* expanded; refuses empties, doubles, more than 100,000 */
lk_kind values_kind(int n, const char *const *values);                       /* the narrowest that fits all */
lk_err  value_canonical(lk_arena *, lk_kind, const char *text, const char *where, const char **out);   /* "1e-03" -> "0.001" */
char   *value_exact(lk_arena *, lk_kind, const char *text);                  /* as the identity has it: reals in hex */
lk_err  not_allowed(const char *what, const char *word, const char *const *allowed, int n);            /* nearest name and the whole set */

/* ---- grid.c: keys, points, identities ------------------------------------------------------------------------------ */
typedef struct {
    const char *name; lk_kind kind; bool is_axis;
    const char *unit, *about;
    int n; const char **values;              /* of this sweep */
    int n_allowed; const char **allowed;     /* axes and choices; 0: anything in range */
    bool open; double lo, hi;
} grid_key;
typedef struct { const grid_key *key; const char *text; } grid_entry;
typedef struct {
    const char *control;                     /* NULL: a point of the grid */
    int n; grid_entry *at;                   /* sorted by key; axes it has and every param */
    const char *label;                       /* "control=copy subject=s29": what varies */
    const char *resolved;                    /* config lines of the identity */
    uint64_t seed;
    char config_id[65], run_id[65];
} grid_point;
typedef struct { const char *name, *path; char hash[65], stamp[65]; } grid_input;   /* SHA-256 of contents; of sizes and times */
enum { MOST_PROVENANCE = 96 };
typedef struct {
    const lk_experiment *exp;
    lk_profile profile;
    const char *set;                         /* as given; "" */
    lk_arena *arena;
    int n_keys; grid_key *keys;              /* params and axes, sorted by name */
    int n_axes; const grid_key **axes;       /* in the experiment's order; params given several values follow */
    int n_controls; const char **controls;   /* of this sweep; "none" never among them */
    bool with_grid;                          /* false: set="control=copy" */
    int n_inputs; grid_input *inputs;
    const char *source_id;
    int n; grid_point *points;               /* controls first */
    const char *device; int64_t device_room; /* by resources_backend; NULL: cpu, or a device that is not here */
    int n_provenance; const char *provenance[MOST_PROVENANCE][2];   /* by provenance_collect */
    const char *results;                     /* LK_RESULTS, else "results" */
    const char *name, *dir;                  /* <exp>-<profile>[-8 hex], results/sweeps/<name> */
} grid;
lk_err grid_new(const lk_experiment *, lk_profile, const char *set, grid **);   /* keys, points and directory names; no identity yet */
lk_err grid_identify(grid *, const char *source_id);                            /* hashes inputs; fills config_id and run_id */
void   grid_free(grid *);
int    grid_schema(const lk_experiment *);                                      /* 1 where it names none */
lk_err schema_is(const lk_experiment *, int64_t written, const char *where);    /* refuses values written for another schema of the settings */
const char *point_value(const grid_point *, const char *key);                   /* NULL if it lacks it; "control" too */
const grid_entry *point_entry(const grid_point *, const char *key);
bool   point_matches(const grid_point *, const char *text, lk_err *);           /* "rank=4 subject=s29" */

/* ---- inputs.c ------------------------------------------------------------------------------------------------------------ */
lk_err inputs_hash(grid *);                                                     /* fills inputs, by grid_identify */
lk_err inputs_unchanged(const grid *);                                          /* LK_ESTATE naming the one that was edited since */

/* ---- source_id.c -------------------------------------------------------------------------------------------------------- */
void   source_tokens(const char *text, size_t n, lk_sha256 *);                  /* preprocessing tokens, each followed by one space */
lk_err source_patch(const char *binary, const char *hex);                       /* writes the id into the linked program */
lk_err source_of_program(char hex[65]);                                         /* the id in this program; of its bytes where none was written */

/* ---- rundir.c: a directory a run, its state by rename, its lease by lock -------------------------------------------------- */
typedef enum { RUN_NONE = -1, RUN_PLANNED, RUN_LEASED, RUN_RUNNING, RUN_DONE, RUN_FAILED, RUN_INTERRUPTED, RUN_STATES } run_state;
extern const char *const state_names[RUN_STATES];
typedef struct { int fd; run_state state; char *dir; bool locked; } run_lease;
typedef struct { volatile int64_t done, total; volatile double loss, seconds; } run_progress;   /* of one run, over all attempts; shared with the parent */
typedef struct { char host[64]; long pid; int64_t done, total; double loss, seconds, age_s; char reason[1024]; } run_note;   /* what a state file says */
char     *rundir_of(lk_arena *, const char *results, const char *run_id);       /* results/runs/ab/<run_id> */
lk_err    rundir_plan(const char *dir);                                         /* there afterwards, planned if it was not */
run_state rundir_state(const char *dir);
void      rundir_note(const char *dir, run_state, run_note *);
lk_err    rundir_claim(const char *dir, bool *claimed, run_lease *);            /* not claimed: another lives and holds it */
lk_err    lease_move(run_lease *, run_state);
void      lease_note(run_lease *, const run_progress *, const char *reason);    /* also the heartbeat */
void      lease_free(run_lease *);
lk_err    rundir_remove(const char *dir);                                       /* renamed away first; the whole directory goes */
lk_err    rundir_set_aside(const char *path, const char *why_suffix);           /* path -> path.<suffix> */

/* ---- context.c, resources.c ------------------------------------------------------------------------------------------------ */
typedef struct { const char *name; int64_t by_class[LK_MEM_CLASSES]; int64_t flops, recomputed; const char *text; /* the plan in words, if asked for */ } plan_row;
struct lk_ctx {
    const grid *grid; const grid_point *point;
    lk_arena *arena; const char *dir;
    lk_run *run; lk_pool *pool;
    run_progress *progress;
    volatile sig_atomic_t *stop;
    lk_err error;                            /* the first misuse */
    FILE *log;
    double started, checkpointed;            /* lk_wall_s */
    double earlier, harness, harness_earlier;   /* seconds of earlier attempts; spent in the harness by this one, by those */
    int64_t checkpoint_step;                 /* of the last one; -1 */
    int64_t every_steps; double every_s;
    int n_plans; plan_row *plans;            /* memory callback */
    bool explain;                            /* memory callback: keep each plan's text */
    int64_t most;                            /* memory callback: a graph that takes more is recomputed down to it; 0: none */
};
lk_err context_new(const grid *, const grid_point *, const char *dir, int threads, lk_ctx **);   /* dir NULL: for the memory callback */
void   context_free(lk_ctx *);
/* Runs the callback and leaves run.h5 done, or an error. What an earlier attempt finished is left as it is. */
lk_err context_execute(lk_ctx *);
void   provenance_collect(grid *);                                              /* before the runs start */
void   provenance_record(lk_run *, const grid *, int threads);

/* ---- worker.c ---------------------------------------------------------------------------------------------------------------------- */
typedef struct {
    int j, threads; bool retry, quiet;
    bool leave;                              /* when nothing is left to claim, instead of waiting for runs of others */
    int first;                               /* point at which the first search begins */
} worker_opts;
typedef struct { int done, reused, failed, interrupted, total; bool stopped; char *first_failure; } worker_tally;
lk_err workers_run(const grid *, worker_opts, worker_tally *);
int    worker_threads(int j);

/* ---- engine.c: workers started by mpirun or Slurm ---------------------------------------------------------------------------------- */
typedef struct command_opts command_opts;
lk_err engine_worker(grid *, const command_opts *);                             /* run worker=1 */
lk_err engine_mpi(const grid *, const command_opts *, int workers, int done_before, worker_tally *);
lk_err engine_slurm(const grid *, const command_opts *, int workers);           /* returns when they are submitted */

/* ---- estimate.c: seconds of a run from notes of others, by kind (each control, the grid) ----------------------------------- */
typedef struct { char name[64]; int tried, n; double sum; } estimate_kind;
typedef struct { int n; estimate_kind kind[65]; bool earlier; /* learnt from earlier plans of this profile */ } estimate;
void   estimate_learn(estimate *, const char *results, const char *run_id, const char *label);   /* looks at a run; few of each kind */
void   estimate_earlier(estimate *, const grid *);                              /* from plans set aside and other sets of this profile, where nothing is learnt */
double estimate_of(const estimate *, const char *label);                        /* of its kind, else of all; 0: not known */

/* ---- progress.c ------------------------------------------------------------------------------------------------------------------------ */
typedef struct progress progress;
progress *progress_new(int total, bool quiet);
void      progress_line(progress *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));   /* one line a run; above the bar */
void      progress_show(progress *, int finished, int reused, double part /* of runs under way */);
void      progress_free(progress *);
char     *seconds_text(double s, char buffer[32]);                              /* "2 h 05 min", "48 s" */
char     *bytes_text(int64_t n, char buffer[32]);                               /* "1.4 GB" */

/* ---- sweep.c ------------------------------------------------------------------------------------------------------------------------------ */
struct lk_sweep {
    const grid *grid; lk_arena *arena; lk_pool *pool;
    int n; int *point; lk_run **runs;        /* finished ones, by point */
    lk_run *summary;
};
typedef enum { PLAN_NEW, PLAN_SAME, PLAN_CHANGED, PLAN_DAMAGED } plan_fate;        /* of the plan.json that was there */
lk_err sweep_freeze(grid *, plan_fate *);
lk_err plan_readable(const json_t *plan, const lk_experiment *, const char *path);   /* refuses other schemas, of the file and of the settings */
lk_err sweep_is_frozen(grid *);                                                 /* else an error: plan.json names other runs */
lk_err sweep_load(const grid *, lk_sweep **);                                   /* sets damaged run files aside */
void   sweep_free(lk_sweep *);
lk_err sweep_summarise(lk_sweep *);

/* ---- difference.c: where two runs part; NULL where they do not. malloc -------------------------------------------------------------------- */
char *difference_of(const lk_run *a, const char *adapter_a, const lk_run *b, const char *adapter_b);
char *difference_ulp(double a, double b);

/* ---- resources.c: before anything starts ------------------------------------------------------------------------------------------------------ */
lk_err resources_check(const grid *);                                            /* the experiment's own check of every point */
lk_err resources_memory(const grid *, int j, int threads, FILE *table);         /* prints the table where asked; refuses what does not fit */
lk_err resources_disk(const grid *, int runs);
lk_err resources_backend(grid *);                                               /* asks a device whether it is there; cpu: nothing to ask */

/* ---- commands: main.c calls these by table --------------------------------------------------------------------------------------------------------- */
struct command_opts { const char *profile, *set, *engine, *n, *backend, *mem; int j; bool dry, retry, watch, published, worker; };
lk_err command_run(const lk_experiment *, const command_opts *, int *status);
lk_err command_plan(const lk_experiment *, const command_opts *, int *status);
lk_err command_status(const lk_experiment *, const command_opts *, int *status);
lk_err command_report(const lk_experiment *, const command_opts *, int *status);
lk_err command_verify(const lk_experiment *, const command_opts *, int *status);
lk_err command_publish(const lk_experiment *, const command_opts *, int *status);
lk_err command_clean(const lk_experiment *, const command_opts *, int *status);
lk_err command_grid(const lk_experiment *, const command_opts *, bool identify, grid **);   /* profile and set read */
#endif
