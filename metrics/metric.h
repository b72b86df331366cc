/* metric: one interface to every metric. A metric is a row of a table: name, variant, what it needs, how its state streams. A state
 * takes samples, is saved, loaded, merged, and gives a result that says how sure it is and what it was made with.
 *
 * Exactness. A sample has an absolute index within its side. Sums over scores run over chunks of 256 samples by absolute index, each
 * chunk in order, chunks folded in the dyadic tree of their indices (as metrics.h says of moments); sets keep their samples in the order
 * of indices. So a result is the same bits for any number of threads, and for processes that split at multiples of 256 and merge.
 *
 * Variants are never mixed: states of another metric, variant, option, weights, resize or decoder refuse to merge, and
 * lk_result_comparable refuses to compare them, naming both. */
#ifndef LK_METRIC_H
#define LK_METRIC_H
#include "metrics/metrics.h"

enum { LK_METRIC_CHUNK = 256, LK_METRIC_SIDES = 3, LK_METRIC_EXTRAS = 24, LK_METRIC_WARNINGS = 8 };

/* ---- what goes in ------------------------------------------------------------------------------------------------------------ */
/* A picture: 8-bit (range 255), or real values [h][w][c] in [0, range]. One of the two pointers is set; nothing is owned. */
typedef struct { const lk_image *u8; const double *real; int h, w, c; double range; } lk_picture;
lk_picture lk_picture_of(const lk_image *);
/* NaN, infinity or a value outside [0, range] of a real picture is an error that says where. */
lk_err lk_picture_check(const lk_picture *);

typedef enum {
    LK_PAIRS,             /* sample i is a pair: one score each (PSNR, LPIPS) */
    LK_SETS,              /* two sets of any sizes (Frechet, precision) */
    LK_ONE_SET,           /* side 0 alone (diversity, Inception Score) */
    LK_THREE_SETS         /* generated, compared with, references (copy-paste) */
} lk_sides;
/* Choices that are part of a number's name. Zero-initialise; 0 stands for the row's own value. */
typedef struct {
    int groups;           /* jackknife groups of statistics over sets: 0 = 20 where there are enough samples, -1 = none */
    int64_t subsets, subset_size;        /* KID: 0 = the full U-statistic */
    int neighbours;       /* precision, recall, density, coverage: k, row's default 5 (prdc) or 3 (torch-fidelity) */
    int splits;           /* Inception Score, 10 */
    double order;         /* Vendi, 1 */
    double level;         /* of intervals, .95 */
    uint64_t seed;        /* of drawn subsets */
} lk_metric_options;
/* Where vectors come from, as the caller knows it; copied into results. Empty strings: does not apply. */
typedef struct { char features[160], weights[256], sha256[65], resize[96], decoder[96]; } lk_provenance;

/* ---- what comes out ------------------------------------------------------------------------------------------------------------ */
typedef struct {
    const char *metric, *variant, *unit;
    int goal;                            /* 1: higher is better, -1: lower, 0: neither */
    double value, debiased, se, lo, hi;  /* NaN where none exists; interval at `level` */
    double level;
    const char *interval;                /* its method: "t over pictures", "jackknife, 20 groups", ...; "" without one */
    int64_t n[LK_METRIC_SIDES], units;   /* samples a side; what the standard error counts */
    const char *unit_name;               /* "pairs", "pictures", "groups", "subsets" */
    int extras;
    struct { char name[40]; double value; } extra[LK_METRIC_EXTRAS];     /* terms, ranks, baselines, rates */
    int warnings;
    char warning[LK_METRIC_WARNINGS][240];
    char options[160];                   /* "k = 5", "100 subsets of 1000, seed 0" */
    bool exact;                          /* the same bits everywhere; else through LAPACK or GSL */
    lk_provenance from;
} lk_metric_result;
void lk_result_warn(lk_metric_result *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void lk_result_extra(lk_metric_result *, const char *name, double value);
/* Error, naming both, unless two results may stand in one column. */
lk_err lk_result_comparable(const lk_metric_result *, const lk_metric_result *);
json_t *lk_result_json(const lk_metric_result *);
/* Reads what lk_result_json wrote; strings live as long as the json. */
lk_err lk_result_from_json(const json_t *, const char *where, lk_metric_result *);

/* ---- the table (metric_rows.c) --------------------------------------------------------------------------------------------------- */
typedef struct lk_metric lk_metric;
typedef struct {
    const char *name, *variant;
    const char *peer;                    /* whose number it is, as its call reads */
    const char *unit;
    int goal;
    lk_sides sides;
    const char *features;                /* an extractor's name (metrics/extract.h); "": the caller's choice; NULL: pictures as they are */
    int what;                            /* the row's own argument */
    lk_err (*score)(int what, const lk_picture *a, const lk_picture *b, lk_pool *, double out[3]);  /* PAIRS of pictures: score, and two sums for pooling */
    lk_err (*pair)(int what, const double *a, const double *b, int64_t d, double *out);            /* PAIRS of vectors */
    lk_err (*result)(const lk_metric *, lk_pool *, lk_metric_result *);  /* everything else, and how pairs pool; NULL: mean of scores, t interval */
    bool moments;                        /* sides are kept as moments once they have more than LK_METRIC_KEEP samples */
} lk_metric_row;
enum { LK_METRIC_KEEP = 8192 };
int lk_metric_count(void);
const lk_metric_row *lk_metric_at(int i);
/* "ssim/skimage"; without a variant where there is but one. Unknown names are errors with the nearest, an open variant lists them all. */
lk_err lk_metric_find(const char *name, const lk_metric_row **);

/* ---- a state (metric.c) ------------------------------------------------------------------------------------------------------------- */
/* d: length of a vector (0 for pictures). first[side]: absolute index of the first sample, a multiple of 256. */
lk_err lk_metric_new(const lk_metric_row *, int64_t d, const lk_metric_options *, const lk_provenance *, const int64_t first[LK_METRIC_SIDES] /* NULL: 0 */, lk_metric **);
void   lk_metric_free(lk_metric *);
/* The next sample(s). name: for scores by name, may be NULL. Errors leave the state as it was. */
lk_err lk_metric_update_pair(lk_metric *, const lk_picture *a, const lk_picture *b, const char *name, lk_pool *);
lk_err lk_metric_update_vectors(lk_metric *, const double *a, const double *b, const char *name);                /* a pair */
lk_err lk_metric_update_set(lk_metric *, int side, const double *x /* [n][d] */, int64_t n, const char *const *names /* or NULL */);
/* `later` begins where `into` ends on every side, at a multiple of 256. */
lk_err lk_metric_merge(lk_metric *into, const lk_metric *later);
lk_err lk_metric_save(const lk_metric *, const char *path), lk_metric_load(const char *path, lk_metric **);      /* safetensors */
lk_err lk_metric_result_of(const lk_metric *, lk_pool *, lk_metric_result *);
/* Scores of pairs, or of side 0's samples where the metric has one for each, after lk_metric_result_of; NULL: it has none. */
const double *lk_metric_scores(const lk_metric *, int64_t *n);
const char *lk_metric_sample_name(const lk_metric *, int64_t i);
const lk_metric_row *lk_metric_row_of(const lk_metric *);

/* ---- for rows ------------------------------------------------------------------------------------------------------------------------- */
/* The samples of a side in order of index; x NULL where only moments are left. */
typedef struct { const double *x; int64_t n; const lk_moments *moments; } lk_metric_side;
lk_metric_side lk_metric_side_of(const lk_metric *, int side);
/* Pairs: the two sums beside each score, [n][2]. */
const double *lk_metric_pooling(const lk_metric *, int64_t *n);
int64_t lk_metric_dim(const lk_metric *);
const lk_metric_options *lk_metric_options_of(const lk_metric *);
const lk_provenance *lk_metric_from(const lk_metric *);
double *lk_metric_room(const lk_metric *);                               /* [n of side 0]: a score for each, which lk_metric_scores then shows */
/* Value, standard error and t interval of a mean; NaN where n < 2 or a score is infinite (with a warning). */
void lk_result_mean(lk_metric_result *, const double *x, int64_t n, const char *unit_name);
/* Sets error, t interval about the value, and what the error counts. */
void lk_result_interval(lk_metric_result *, double se, int64_t units, const char *unit_name, const char *method);
/* Error and interval of r's value from the statistic without each of 20 groups (option `groups`; none: -1), i mod G of each side. Up to `most` samples
 * in all unless asked for; fewer than 40 a side and too many are warnings. */
typedef lk_err (*lk_metric_statistic)(const lk_metric *, lk_pool *, const lk_metric_side *a, const lk_metric_side *b, double *value);
lk_err lk_result_jackknife(const lk_metric *, lk_pool *, lk_metric_statistic, bool two_sets, int64_t most, lk_metric_result *);
double lk_chunked_sum(const double *x, int64_t n);                       /* chunks of 256 by index, dyadic tree */
extern const lk_metric_row lk_pair_rows[], lk_set_rows[], lk_likeness_rows[];      /* end with name NULL */
#endif
