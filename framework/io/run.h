/* The run file in memory, shared by runfile.c (filling, asking, digest), runfile_write.c and
 * runfile_read.c (HDF5). Nobody else includes this. */
#ifndef LK_IO_RUN_H
#define LK_IO_RUN_H
#include "io/io.h"

#define RUN_SCHEMA "likeness-run-1"
enum { RUN_CHUNK = 1024 };                       /* rows a chunk of every column */

/* Named things in order of arrival. `names[i]` is what lk_run_names hands out. */
typedef struct { char *text; double value, tolerance; } run_value;       /* text NULL where it is a number */
typedef struct { int n, cap; const char **names; run_value *at; } run_map;
typedef struct { char *units, *long_name, *goal; double *v; char **text; } run_column;   /* v or text, `rows` of them */
typedef struct { int n, cap; const char **names; run_column *at; int64_t rows, room; } run_group;
typedef struct { int64_t n, cap; char **at; } run_lines;

struct lk_run {
    run_map attrs, config, provenance, final, inexact;
    int n_splits; const char **split_names; run_group *splits;           /* /metrics */
    run_group samples;
    run_lines events, log;
    char *misuse;                                /* the first call that could not be carried out; lk_run_save tells */
};

lk_run     *run_empty(void);
run_value  *run_map_set(lk_run *, run_map *, const char *name);          /* found or added; NULL for a bad name */
run_group  *run_split(lk_run *, const char *name, bool add);
run_column *run_group_column(lk_run *, run_group *, const char *name, bool text);   /* found or added, earlier rows missing */
void        run_group_rows(run_group *, int64_t rows);                   /* more rows, missing (NaN, "") */
void        run_line(run_lines *, const char *text);
char       *run_text(const char *);                                      /* a copy in valid UTF-8 */

/* What a config value is, by its text. */
typedef enum { RUN_TEXT, RUN_INTEGER, RUN_REAL } run_type;
run_type run_type_of(const char *text, int64_t *i, double *x);
char    *run_real_text(double);                  /* shortest that reads back as the same number; never looks like an integer */

/* HDF5 is not entered by two threads at once, and its own printing of errors is off inside. */
void run_hdf5_enter(void), run_hdf5_leave(void);
void run_hdf5_reason(char *to, size_t n);        /* innermost message of HDF5's error stack */
#endif
