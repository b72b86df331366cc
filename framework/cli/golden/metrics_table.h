/* golden, metric tables: rows of {id, value, peer, call, inputs, tol_abs, tol_rel}, the procedural numbers and pictures they
 * name, and the loop that runs them. A handler is a list of rules; a rule recognises a row by what its call says (and which
 * quantity its id ends in), never by the case's name. A row with a tolerance that no rule recognises counts as failed. */
#ifndef LK_GOLDEN_METRICS_H
#define LK_GOLDEN_METRICS_H
#include "cli/golden/golden.h"

/* ---- procedural numbers (metrics_procedural.c): integer mixing, exact in binary64 --------------------------------------- */
uint64_t lk_proc_key(const char *salt, const char *fmt, ...) __attribute__((format(printf, 2, 3)));   /* FNV-1a 64 of salt + name */
uint64_t lk_proc_bits(uint64_t key, int64_t i);        /* output i of splitmix64 seeded with key */
uint8_t  lk_proc_byte(uint64_t key, int64_t i);
double   lk_proc_u(uint64_t key, int64_t i);           /* [-1, 1) */
double   lk_proc_g(uint64_t key, int64_t i);           /* near normal: 12 uniforms minus 6 */
double  *lk_proc_features(const char *salt, const char *name, int64_t n, int64_t d, double shift);    /* malloc [n][d] */
lk_image lk_proc_scene(const char *salt, const char *name, int h, int w, int c);
/* The distorted partner of a scene; false for a kind that is unknown. `constant` changes a as well. */
bool     lk_proc_pair(const char *salt, const char *name, const char *kind, lk_image *a, lk_image *b);
uint32_t lk_proc_crc32(const void *bytes, size_t n);   /* zlib's */
/* Weights from names: matrices and kernels uniform with the gain over the fan-in, batch norms near the identity. */
typedef struct { char salt[64], prefix[64]; double conv_gain, fc_gain; } lk_proc_recipe;
lk_err lk_proc_recipe_read(const json_t *, lk_proc_recipe *);                  /* salt, prefix, conv_gain, fc_gain (absent: 1) */
void   lk_proc_weight(const lk_proc_recipe *, const char *name, lk_shape, float *out);
lk_err lk_proc_weights(const lk_proc_recipe *, lk_exec *);                     /* every WEIGHT param whose name has no '/' */
/* Every tensor of a list {name, shape, crc32}: its bits, and that the graph has a param of that name and shape, and no other. */
void   lk_proc_check(lk_golden *, const lk_proc_recipe *, const json_t *tensors, lk_graph *);

/* ---- tables (metrics_table.c) --------------------------------------------------------------------------------------------- */
typedef struct {
    lk_golden *run;
    const char *dir, *path;
    char salt[64];                                     /* of images.json beside the table, else the table's own, else "" */
    lk_golden_file tensors;                            /* the .safetensors of the same name, where there is one */
    const json_t *root;
    lk_arena *memory;
    char pair_id[128]; lk_image pair[2];               /* the pair of pictures read last (metrics_pictures.c) */
} lk_metric_table;
enum { LK_ROW_VALUES = 4096 };
typedef struct {
    lk_metric_table *table;
    const json_t *json;
    const char *id, *call, *peer, *last;               /* last: the id's last component */
    int n; double got[LK_ROW_VALUES];                  /* what the rule computed */
} lk_metric_row;
/* Fills n and got. *mine is set to false where the rule does not recognise the row. */
typedef lk_err (*lk_metric_rule)(lk_metric_row *, bool *mine);
lk_err lk_metric_table_open(lk_golden *, const char *path, const char *dir, const json_t *, lk_metric_table *);
void   lk_metric_table_close(lk_metric_table *);
/* Runs every row of `rows` through the rules, in order, first that recognises it; compares and counts. */
void   lk_metric_rows(lk_metric_table *, const json_t *rows, const lk_metric_rule *rules);
const char *lk_row_text(const lk_metric_row *, const char *key);               /* a string member of the row, "" if absent */
const json_t *lk_row_input(const lk_metric_row *, const char *key);            /* inputs.key, NULL if absent */
/* A 2-d array by inputs.key: the stored tensor, else its formula [name, n, d, shift]. malloc. */
lk_err lk_row_array(lk_metric_row *, const char *key, double **x, int64_t *n, int64_t *d);
lk_err lk_row_named(lk_metric_row *, const char *tensor, double **x, int64_t *n, int64_t *d);   /* by tensor name */
double lk_json_number(const json_t *);                 /* a number, or "inf", "-inf", "nan" */
#endif
