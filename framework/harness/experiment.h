/* harness: the front door. An experiment is one C main that reads like a method section:
 *
 *     static const lk_axis axes[] = {
 *         {"rank", "0,1,2,4,8,16,32", .in = {[LK_TINY] = "0,4", [LK_DEFAULT] = "0,1,4,16"}, .about = "rank of the adapter; 0 = the frozen base"},
 *         {"subject", "s29..s40", .in = {[LK_TINY] = "s29"}},
 *         {"seed", "0..5", .in = {"0", "0", "0", "0..5"}, .open = true},
 *         {0}};
 *     static const lk_setting settings[] = {
 *         {"steps", LK_INT, "steps", {"3", "40", "300", "800"}, 1, 1e6, .about = "optimiser steps"},
 *         {"lr", LK_REAL, "", {[LK_DEFAULT] = "1e-3"}, 0, 1, .about = "peak learning rate"},
 *         {0}};
 *     static const lk_control_row controls[] = {{"copy", "subject", "a reference, unchanged"}, {0}};
 *     static const lk_experiment exp = {"lora_rank_sweep", "Does rank help likeness?", axes, settings, controls, ..., run, summarise};
 *     int main(int argc, char **argv) { return lk_experiment_main(&exp, argc, argv); }
 *
 * A run is one point: the grid of all axes, and for each control the grid of the axes it names. Its identity is
 * the SHA-256 of what decides its result (docs/harness.md), so a finished run is never done again. Values are written
 * the same way here and in set="rank=2,4 seed=0..5": lists with commas, ranges with two dots (0..5, s29..s40).
 *
 * What a run callback owes: every random number from lk_ctx_seed and a stream name; nothing that depends on time, machine
 * or thread in rows, samples, finals or the adapter (inexact values go to lk_run_inexact); between two checkpoints
 * nothing is kept that a restart would miss. */
#ifndef LK_EXPERIMENT_H
#define LK_EXPERIMENT_H
#include "backend/backend.h"
#include "io/io.h"

typedef enum { LK_TINY, LK_SMOKE, LK_DEFAULT, LK_PAPER, LK_PROFILES } lk_profile;
typedef enum { LK_INT, LK_REAL, LK_TEXT } lk_kind;

/* Lists end with a zeroed row. */
typedef struct {
    const char *name;
    const char *values;               /* all it may take */
    const char *in[LK_PROFILES];      /* what a profile takes; NULL: all of them */
    bool open;                        /* set= may give any whole number >= 0, or any word, beyond `values` */
    const char *about;                /* unit and meaning, for plan and report */
} lk_axis;
typedef struct {
    const char *name;
    lk_kind kind;
    const char *unit;
    const char *value[LK_PROFILES];   /* NULL: as in the default profile. LK_DEFAULT must be there */
    double lo, hi;                    /* numbers: inclusive; both 0: anything */
    const char *choices;              /* text: "a,b,c"; NULL: anything */
    const char *about;                /* meaning, and how the value was chosen: the checklist quotes it */
} lk_setting;
typedef struct { const char *name; const char *axes; /* those it varies over: "subject,seed"; "" for one point */ const char *about; } lk_control_row;
typedef struct { const char *name; const char *path; /* file or directory; "$key": the value of that text param, "" = none */ } lk_hashed;

typedef struct lk_ctx lk_ctx;
typedef struct lk_sweep lk_sweep;
typedef struct {
    const char *name;                 /* file name in experiments/ */
    const char *question;             /* one line */
    const lk_axis    *axes;
    const lk_setting   *settings;
    const lk_control_row *controls;       /* NULL: none */
    const char *controls_in[LK_PROFILES];   /* which a profile takes: "copy,real"; NULL: all; "none" */
    const lk_hashed  *inputs;         /* contents are part of every identity */
    lk_err (*run)(lk_ctx *);
    lk_err (*summarise)(lk_sweep *);  /* NULL: summary.h5 and a table of finals only */
    lk_err (*check)(lk_ctx *);        /* refuses a point whose values do not go together, before anything is written; reads values only. NULL: none */
    lk_err (*memory)(lk_ctx *);       /* builds the graphs of one point without data: lk_ctx_plan for each. NULL: not known */
    int64_t disk_per_run;             /* bytes a run directory takes about; 0: 1 MiB */
    int schema;                       /* of axes and settings: 0 is 1; raise it where a key keeps its name and changes its meaning. Values, plans and
                                         published digests of another are refused by this number */
    const char *primary;              /* the one contrast named beforehand, for the report */
    const char *uncertainty;          /* how the intervals are made, for the checklist */
} lk_experiment;
/* Commands: run plan status report verify publish clean-runs; options key=value (docs/harness.md). Returns the exit status. */
int lk_experiment_main(const lk_experiment *, int argc, char **argv);

/* ---- inside a run (context.c) -------------------------------------------------------------------------------- */
/* Values of this point. A key that it lacks, or of another kind, is remembered and fails the run by name. */
int64_t     lk_ctx_int(lk_ctx *, const char *key);
double      lk_ctx_real(lk_ctx *, const char *key);          /* whole numbers too */
const char *lk_ctx_text(lk_ctx *, const char *key);          /* any kind, as text; lives as long as the context */
bool        lk_ctx_has(const lk_ctx *, const char *key);
bool        lk_ctx_is(const lk_ctx *, const char *control);  /* this point is that control */
const char *lk_ctx_control(const lk_ctx *);                  /* its name; NULL for a point of the grid */
const char *lk_ctx_label(const lk_ctx *);                    /* "rank=4 subject=s29 seed=0" */
uint64_t    lk_ctx_seed(const lk_ctx *);                     /* the axis "seed", 0 without: the same in every arm */
lk_pool    *lk_ctx_pool(lk_ctx *);
lk_arena   *lk_ctx_arena(lk_ctx *);                          /* freed with the run */
lk_run     *lk_ctx_run(lk_ctx *);                            /* rows, samples, finals, inexact values */
const char *lk_ctx_path(lk_ctx *, const char *file);         /* in the run's own directory: "adapter.safetensors", "samples.png" */
/* A metric row with wall_s (seconds of this attempt) added; step counts from 1: rows at step s are kept by a checkpoint of step >= s. */
void        lk_ctx_row(lk_ctx *, const char *split, int64_t step, int n, const char *const *columns, const double *values);
void        lk_ctx_log(lk_ctx *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));   /* one line to log.txt and /log */
void        lk_ctx_progress(lk_ctx *, int64_t done, int64_t total, double loss /* NAN: none */);  /* for the bar and status; cheap, call every step */

/* Checkpoints. At the start:   if (lk_ctx_resume(c, &step)) lk_checkpoint_load(exec, lk_ctx_checkpoint_path(c), &step);
 * In the loop, after step:     if (lk_ctx_checkpoint_due(c, step)) LK_TRY(lk_ctx_checkpoint(c, step, save, arg));
 * True where there is one: *step is its step, and rows and samples logged after it are gone. A truncated one is set aside and false returned. */
bool        lk_ctx_resume(lk_ctx *, int64_t *step);
const char *lk_ctx_checkpoint_path(lk_ctx *);
bool        lk_ctx_checkpoint_due(lk_ctx *, int64_t step);   /* every LK_CHECKPOINT_S seconds (20), and when asked to stop; LK_CHECKPOINT_STEPS=n: every n steps */
/* Writes run.h5, then the checkpoint. save writes a safetensors file at path whose metadata has "step" (lk_checkpoint_save does).
 * Returns LK_EINTR when asked to stop: pass it up, the run is left resumable. */
typedef lk_err (*lk_ctx_save_fn)(void *arg, int64_t step, const char *path);
lk_err      lk_ctx_checkpoint(lk_ctx *, int64_t step, lk_ctx_save_fn save, void *arg);
bool        lk_ctx_stop_requested(const lk_ctx *);
lk_err      lk_ctx_check(lk_ctx *);                          /* outside the loop: LK_EINTR when asked to stop, a remembered error, or NULL */
/* In the memory callback: a graph of this point and its outputs; all graphs added are taken to live together. */
lk_err      lk_ctx_plan(lk_ctx *, const char *name, lk_graph *, const lk_val *outputs, int n);

/* ---- after the runs (sweep.c, figure.c, sheet.c) ------------------------------------------------------------------ */
/* Finished runs, in the plan's order. */
int           lk_sweep_count(const lk_sweep *);
lk_run       *lk_sweep_run(const lk_sweep *, int i);                          /* read only */
const char   *lk_sweep_value(const lk_sweep *, int i, const char *key);       /* axis, param or "control" of run i; NULL if it lacks it ("control" is "none" in the grid) */
double        lk_sweep_number(const lk_sweep *, int i, const char *key);      /* NaN if it lacks it */
double        lk_sweep_final(const lk_sweep *, int i, const char *key);       /* /final, else /inexact, else NaN */
const char   *lk_sweep_run_path(lk_sweep *, int i, const char *file);         /* in that run's directory */
/* The run at "rank=4 subject=s29 seed=0" or "control=copy subject=s29" (keys left out match anything, the first is taken); -1: none.
 * Without control= only points of the grid match. */
int           lk_sweep_find(const lk_sweep *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int           lk_sweep_values(const lk_sweep *, const char *key, const char *const **values);   /* of this sweep, in its order */
int           lk_sweep_int(const lk_sweep *, const char *param);              /* a param's value in this sweep (its first) */
const char   *lk_sweep_path(lk_sweep *, const char *file);                    /* in results/sweeps/<sweep>/ */
lk_pool      *lk_sweep_pool(lk_sweep *);
lk_arena     *lk_sweep_arena(lk_sweep *);
lk_run       *lk_sweep_summary(lk_sweep *);                                   /* summary.h5: /samples has a row a run already; add finals and inexact values */
lk_profile    lk_sweep_profile(const lk_sweep *);
/* <stem>.txt, .md, .tex, .dat; the stem "table" is the one shown at the end of run and in the report. */
lk_err        lk_sweep_table(lk_sweep *, const char *stem, const lk_table *);

typedef struct {
    const char *name;                 /* legend; NULL: none */
    int n; const double *x, *y, *lo, *hi;          /* means and intervals (lo, hi NULL: none) */
    int n_raw; const double *raw_x, *raw_y;        /* points behind them, drawn small */
    bool line;                        /* joins the means */
} lk_series;
typedef struct {
    const char *stem, *title, *x_label, *y_label;
    bool log2_x;
    const char *ticks;                /* gnuplot xtics list: "(\"base\" 0, \"1\" 1)"; NULL: automatic */
    int n; const lk_series *series;
    double zero_line;                 /* a grey horizontal at this y; NAN: none */
} lk_figure;
lk_err        lk_sweep_figure(lk_sweep *, const lk_figure *);                 /* <stem>.dat, .svg, .png by gnuplot; an error says what gnuplot said */
/* A labelled grid: cells[rows * columns] (px NULL: left white; grey or RGB; all drawn at the size of the largest, times `zoom`). */
lk_image      lk_sheet(int rows, int columns, const lk_image *cells, const char *const *row_labels, const char *const *column_labels, int zoom);
#endif
