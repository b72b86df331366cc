/* io: files. safetensors (memory-mapped), JSON (jansson), pictures (PNG, JPEG), the run file (HDF5),
 * tables (text, Markdown, LaTeX, .dat). Every error names file, line or offset, what was found and
 * what was expected. Nothing is half-written: files appear by rename. */
#ifndef LK_IO_H
#define LK_IO_H
#include "base/base.h"
#include <jansson.h>

/* ---- JSON (json.c): jansson with our errors ------------------------------------------------------ */
lk_err lk_json_load(const char *path, json_t **out);                 /* duplicates rejected; depth limited; file:line:column in the message */
lk_err lk_json_parse(const char *text, size_t n, const char *where, json_t **out);
/* Typed members with a default: an absent or null key gives the default, a wrong type is an error naming where.key. */
lk_err lk_json_int(const json_t *obj, const char *key, const char *where, int64_t dflt, int64_t *out);
lk_err lk_json_real(const json_t *obj, const char *key, const char *where, double dflt, double *out);
lk_err lk_json_bool(const json_t *obj, const char *key, const char *where, bool dflt, bool *out);
lk_err lk_json_str(const json_t *obj, const char *key, const char *where, const char *dflt, const char **out);
/* An int or a list of ints repeated to n (attention_head_dim: 8 or [5, 10, 20]). */
lk_err lk_json_ints(const json_t *obj, const char *key, const char *where, int64_t dflt, int n, int64_t *out);
char *lk_json_text(const json_t *);                                  /* compact, keys sorted; free() */
lk_err lk_json_save(const json_t *, const char *path);               /* atomic, indented */

/* ---- safetensors (safetensors.c) -------------------------------------------------------------------- */
typedef enum { LK_ST_F32, LK_ST_F16, LK_ST_BF16, LK_ST_F64, LK_ST_I64, LK_ST_I32, LK_ST_U8, LK_ST_BOOL, LK_ST_I8, LK_ST_I16, LK_ST_U16 } lk_st_dtype;
typedef struct {
    const char *name; lk_st_dtype dtype; int rank; int64_t d[8]; int64_t numel;
    const void *data; size_t bytes;           /* into the mapping; alignment is the file's: read through lk_st_f32 etc. when unsure */
} lk_tensor;
typedef struct lk_st lk_st;
/* One file, or a sharded index (*.safetensors.index.json). Refuses: header past the end, bad JSON, duplicate keys,
 * overlapping or outside offsets, wrong byte counts, non-UTF-8 names. */
lk_err lk_st_open(const char *path, lk_st **);
void   lk_st_close(lk_st *);
const char *lk_st_path(const lk_st *);
int    lk_st_count(const lk_st *);
const lk_tensor *lk_st_at(const lk_st *, int i);              /* in name order */
const lk_tensor *lk_st_find(const lk_st *, const char *name); /* NULL if absent */
const char *lk_st_meta(const lk_st *, const char *key);       /* __metadata__, NULL if absent */
int    lk_st_meta_count(const lk_st *); void lk_st_meta_at(const lk_st *, int i, const char **key, const char **value);
lk_err lk_st_get(const lk_st *, const char *name, const lk_tensor **);   /* absent: error with the nearest name */
lk_err lk_st_f32(const lk_tensor *, float *out);              /* numel floats, converted exactly from F16/BF16/F32, rounded from F64, integers exact or error */
lk_err lk_st_f64(const lk_tensor *, double *out);
uint16_t lk_half_of(float);                                   /* binary16 bits, rounded to nearest even; overflow to infinity */
lk_err lk_st_i64(const lk_tensor *, int64_t *out);
size_t lk_st_dtype_bytes(lk_st_dtype); const char *lk_st_dtype_name(lk_st_dtype);
/* Writing: tensors in the order of element size (large first, so that each is aligned) and name, header padded to 8 bytes,
 * atomic rename; metadata by key. Same input, same bytes. Refuses a name given twice, rank over 8, a name that is not UTF-8. */
typedef struct { const char *name; lk_st_dtype dtype; int rank; int64_t d[8]; const void *data; } lk_st_item;
lk_err lk_st_write(const char *path, const lk_st_item *, int n, const char *const *meta /* key, value, ..., NULL; or NULL */);

/* ---- pictures (image.c): 8-bit, interleaved HWC ---------------------------------------------------------- */
typedef struct { int w, h, c; uint8_t *px; } lk_image;        /* px: malloc, row-major h*w*c */
lk_err lk_image_read(const char *path, lk_image *);           /* PNG or JPEG by content; c = 1 or 3; alpha, 16 bit, palette, CMYK: converted, or refused naming the file */
lk_err lk_image_write_png(const char *path, const lk_image *);/* atomic; fixed compression settings */
lk_image lk_image_new(int w, int h, int c);
void   lk_image_free(lk_image *);
void   lk_image_hash(const lk_image *, char hex[65]);         /* of sizes and decoded pixels */
lk_image lk_image_gray(const lk_image *), lk_image_rgb(const lk_image *);  /* grey = (19595 r + 38470 g + 7471 b + 32768) >> 16 (Pillow's L) */

const char *lk_image_decoder(void);                           /* libraries and settings that made the pixels: part of a metric's provenance */

/* ---- stacks of pictures in HDF5 (stack.c) --------------------------------------------------------------------- */
typedef struct lk_stack lk_stack;
lk_err  lk_stack_open(const char *path, const char *dataset /* NULL: the only one of the root */, lk_stack **);
void    lk_stack_close(lk_stack *);
int64_t lk_stack_shape(const lk_stack *, int *h, int *w, int *c, bool *real);   /* the number of pictures */
lk_err  lk_stack_read(lk_stack *, int64_t i, void *out);      /* [h][w][c]: bytes, or double where real */

/* ---- run file (runfile.c): HDF5 kept in memory, written whole ------------------------------------------------ */
/* The layout (docs/design.md, Files): /config, /metrics/<split>/<column>, /samples/<column>, /inexact, /final, /provenance, /events, /log.
 * An object holds everything in memory; save writes path.tmp, fsync, rename, fsync of the directory. */
typedef struct lk_run lk_run;
lk_run *lk_run_new(const char *exp, const char *run_id);
void    lk_run_free(lk_run *);
lk_err  lk_run_load(const char *path, lk_run **);             /* to resume, report and verify */
void    lk_run_attr(lk_run *, const char *key, const char *value);           /* root attribute: status, tier, started, heartbeat, ... */
void    lk_run_config(lk_run *, const char *key, const char *value);         /* typed by content: integer, real, text; plus 'resolved' */
/* A metric column is declared once (units, goal: min, max or ""), then rows are appended by name; a missing column in a row is NaN. */
void    lk_run_column(lk_run *, const char *split, const char *column, const char *units, const char *long_name, const char *goal);
void    lk_run_row(lk_run *, const char *split, int n, const char *const *columns, const double *values);   /* one row; "step" must be among them */
void    lk_run_truncate(lk_run *, int64_t step);              /* drop metric rows with step > this (resume) */
void    lk_run_truncate_samples(lk_run *, int64_t rows);      /* keep the first rows of /samples (resume) */
void    lk_run_sample(lk_run *, int n, const char *const *columns, const double *values, int m, const char *const *text_columns, const char *const *texts);
void    lk_run_final(lk_run *, const char *key, double value);
void    lk_run_inexact(lk_run *, const char *key, double value, double tolerance);
void    lk_run_provenance(lk_run *, const char *key, const char *value);
void    lk_run_event(lk_run *, const char *text);
void    lk_run_log(lk_run *, const char *line);
lk_err  lk_run_save(lk_run *, const char *path);
/* SHA-256 over names, shapes and bytes of /metrics without wall_s, /samples, /final and the adapter's tensors (may be NULL); NaN canonical.
 * Also stored as the root attribute result_digest by lk_run_save once set. */
lk_err  lk_run_digest(lk_run *, const char *adapter_path, char hex[65]);
/* Reading back. Rows in order of appending; NULL / false when absent. */
const char *lk_run_get_attr(const lk_run *, const char *key);
int64_t lk_run_rows(const lk_run *, const char *split);
const double *lk_run_get_column(const lk_run *, const char *split, const char *column);
int64_t lk_run_samples(const lk_run *);
const double *lk_run_get_sample_column(const lk_run *, const char *column);
const char *lk_run_get_sample_text(const lk_run *, const char *column, int64_t i);
bool    lk_run_get_final(const lk_run *, const char *key, double *out);
bool    lk_run_get_inexact(const lk_run *, const char *key, double *value, double *tolerance);
const char *lk_run_get_config(const lk_run *, const char *key);
const char *lk_run_get_provenance(const lk_run *, const char *key);
/* Walk: names of a group's members, in order ("metrics/train", "samples", "final", "config", "inexact", "provenance"). */
int     lk_run_names(const lk_run *, const char *group, const char *const **names);

/* ---- tables (table.c) ----------------------------------------------------------------------------------------- */
typedef struct lk_table lk_table;
lk_table *lk_table_new(const char *caption, int n_columns, const char *const *columns);
void lk_table_free(lk_table *);
void lk_table_row(lk_table *, const char *const *cells);      /* UTF-8; **x** marks bold */
void lk_table_note(lk_table *, const char *line);             /* below the table: n, interval, test */
char *lk_table_text(const lk_table *), *lk_table_markdown(const lk_table *), *lk_table_latex(const lk_table *), *lk_table_dat(const lk_table *); /* free() */
#endif
