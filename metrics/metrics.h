/* metrics: how good, how like, how diverse, how sure. Every variant carries the name of the implementation that owns it;
 * nothing has a default data range. Quantities are binary64 with sums in fixed order (the same bits for any thread count)
 * unless marked inexact: those pass through LAPACK or GSL and belong in /inexact of a run file.
 *
 * Pictures are HWC, either 8-bit (lk_image) or binary64 arrays [h][w][c]. Features are row-major [n][d]. */
#ifndef LK_METRICS_H
#define LK_METRICS_H
#include "io/io.h"

/* ---- distributions (stats.c, GSL: inexact) ------------------------------------------------------------------------- */
double lk_t_upper(double x, double df), lk_t_quantile(double p, double df);          /* P(T > x); the p-quantile */
double lk_f_upper(double x, double df1, double df2), lk_f_quantile(double p, double df1, double df2);
double lk_normal_upper(double x), lk_normal_quantile(double p);

/* ---- means and intervals (stats.c: inexact through their quantiles) ------------------------------------------------- */
typedef struct { int64_t n; double mean, sd, se, df, lo, hi; } lk_interval;           /* sd with n-1; se of the mean */
lk_err lk_mean_t(const double *x, int64_t n, double level, lk_interval *);            /* t interval of the mean; n >= 2 */
typedef struct { lk_interval diff; double t, p, d_z, d_av; } lk_paired;               /* p two-sided; d_z = mean/sd of differences,
                                                                                         d_av = mean/sqrt((var x + var y)/2) */
lk_err lk_paired_t(const double *x, const double *y, int64_t n, double level, lk_paired *);
/* Observations in clusters (subject, photo, ...): the mean of cluster means with t on G-1 degrees, or the plain mean with the
 * CR1 sandwich error sqrt(G/(G-1)) * |cluster sums of residuals| / n (Liang & Zeger 1986). cluster[i]: any integer label. */
lk_err lk_cluster_t(const double *x, const int64_t *cluster, int64_t n, double level, lk_interval *);
lk_err lk_cluster_cr1(const double *x, const int64_t *cluster, int64_t n, double level, lk_interval *);
typedef struct { int64_t n; double r, p, lo, hi; } lk_correlation;                    /* lo, hi: Fisher's z at 95 % (Pearson; NaN else) */
lk_err lk_pearson(const double *a, const double *b, int64_t n, lk_correlation *);
lk_err lk_spearman(const double *a, const double *b, int64_t n, lk_correlation *);    /* average ranks, t approximation */
lk_err lk_kendall_tau_b(const double *a, const double *b, int64_t n, double *tau);
/* Intraclass correlation (Shrout & Fleiss 1979) of x[targets][raters]: 0..5 = (1,1) (2,1) (3,1) (1,k) (2,k) (3,k). */
typedef struct { double icc, f, df1, df2, p, lo, hi; } lk_icc_row;
typedef struct { lk_icc_row row[6]; double ms_rows, ms_columns, ms_error, ms_within, satterthwaite_df; } lk_icc_table;
lk_err lk_icc(const double *x, int64_t targets, int64_t raters, double level, lk_icc_table *);
/* Bias-corrected and accelerated bootstrap (Efron 1987) of a statistic; n >= 20. Resamples come from Philox (seed). */
typedef double (*lk_statistic)(const double *x, int64_t n, void *ctx);
lk_err lk_bca(const double *x, int64_t n, lk_statistic, void *ctx, double level, int resamples, uint64_t seed, double *lo, double *hi);

/* ---- exact tests and families (tests.c: no libm, no GSL) -------------------------------------------------------------- */
/* All 2^n sign patterns of differences d, n <= 20 (Fisher). Sums equal within 2^-40 of sum|d| count as ties. `least` = the
 * smallest two-sided p that n allows, 2^(1-n): a claim at alpha < least is refused by lk_sign_flip_reaches. */
typedef struct { int64_t n; uint64_t patterns, at_least, at_least_abs; double greater, two_sided, least; } lk_sign_flips;
lk_err lk_sign_flip(const double *d, int64_t n, lk_sign_flips *);
lk_err lk_sign_flip_reaches(int64_t n, double alpha);                                 /* error: "n units cannot reach p < alpha: at least N are needed" */
typedef struct { double statistic, p; bool exact; } lk_signed_ranks;                  /* min(R+, R-); zeros dropped */
lk_err lk_wilcoxon(const double *x, const double *y, int64_t n, lk_signed_ranks *);   /* exact without ties or zeros and n <= 50; else normal with tie correction */
/* Adjusted p-values, in the order given. */
void lk_holm(const double *p, int n, double *adjusted), lk_hommel(const double *p, int n, double *adjusted);
void lk_benjamini_hochberg(const double *p, int n, double *adjusted), lk_bonferroni(const double *p, int n, double *adjusted);

/* ---- pixels: PSNR (pixel.c), SSIM and MS-SSIM (ssim.c) ------------------------------------------------------------------- */
/* Squared errors of 8-bit pictures add as integers: exact, whatever the order. */
typedef struct { uint64_t sse, values, pictures; double sum_db; } lk_psnr_sum;         /* sum_db: of each picture's PSNR (inf if one is identical) */
lk_err lk_psnr_add(lk_psnr_sum *, const lk_image *a, const lk_image *b, double *this_picture /* or NULL */);
double lk_psnr_pooled(const lk_psnr_sum *), lk_psnr_mean(const lk_psnr_sum *);        /* dB, data range 255 */
double lk_psnr_db(double mse, double range);                                          /* 10 log10(range^2 / mse); inf for 0 */
double lk_psnr_piq_db(double mse, double range);                                      /* -10 log10(mse/range^2 + 1e-8) */
lk_err lk_psnr(const double *a, const double *b, int64_t n, double range, double *db);
typedef struct lk_ssim_variant lk_ssim_variant;
/* Rows by name: ssim "wang04" "skimage" "skimage_gaussian" "torchmetrics" "piq" "piq_nodown" "pytorch_msssim" "pytorch_msssim_f32taps";
 * ms-ssim "pytorch_msssim" "pytorch_msssim_f32taps" "piq" "torchmetrics" "torchmetrics_nonorm". NULL: unknown; lists end with NULL. */
const lk_ssim_variant *lk_ssim_find(const char *name), *lk_ms_ssim_find(const char *name);
const char *lk_ssim_name(int i), *lk_ms_ssim_name(int i);
/* Arrays [h][w][c] of at most 8 channels, data range given; the mean over channels. Sizes a variant cannot take are errors that say the least side. */
lk_err lk_ssim(const lk_ssim_variant *, const double *a, const double *b, int h, int w, int c, double range, lk_pool *, double *out);
lk_err lk_ms_ssim(const lk_ssim_variant *, const double *a, const double *b, int h, int w, int c, double range, lk_pool *, double *out);
lk_err lk_ssim_images(const lk_ssim_variant *, bool multi_scale, const lk_image *a, const lk_image *b, lk_pool *, double *out);   /* range 255 */

/* ---- Frechet distance (moments.c, frechet.c) --------------------------------------------------------------------------- */
/* Streaming means and centred second moments: chunks of 256 samples by absolute index, folded in a dyadic tree, so the
 * state is the same bits however it was fed, and states that split at chunk boundaries merge exactly. Memory: d^2 log2(n/256). */
typedef struct lk_moments lk_moments;
lk_moments *lk_moments_new(int64_t d, int64_t first /* absolute index of the first sample: a multiple of 256 */);
void   lk_moments_free(lk_moments *);
lk_err lk_moments_add(lk_moments *, const double *x /* [n][d] */, int64_t n);          /* refuses NaN and infinities, naming the sample */
lk_err lk_moments_merge(lk_moments *into, const lk_moments *later);                    /* `later` begins where `into` ends; `into` holds whole chunks */
lk_err lk_moments_get(const lk_moments *, int64_t *n, double *mean, double *cov /* [d][d], divided by n-1 */);
lk_err lk_moments_save(const lk_moments *, const char *path), lk_moments_load(const char *path, lk_moments **);   /* safetensors */
/* The same as two arrays (free both), and back; `where` names them in errors. */
void   lk_moments_pack(const lk_moments *, int64_t **integers, int64_t *n_integers, double **values, int64_t *n_values);
lk_err lk_moments_unpack(const lk_tensor *integers, const lk_tensor *values, const char *where, lk_moments **);
typedef struct {
    double value;                          /* |dmu|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2) */
    double mean_term, trace_term, cross_term;
    double debiased, se; int groups;       /* 20-group jackknife; NaN and 0 where it was not asked for */
    int64_t n[2], rank[2], d;
    bool exact;                            /* own Jacobi (d <= 256), else LAPACK */
    bool few;                              /* n - 1 < d in a set: the covariance is singular, the value strongly biased */
    char warning[200];                     /* "" or what a reader must know */
} lk_frechet;
/* From features: singular values of the cross Gram (of the samples, or of QR factors when n > d); never sqrtm. */
lk_err lk_frechet_features(const double *x, int64_t nx, const double *y, int64_t ny, int64_t d, int groups /* 0, or 20 */, lk_frechet *);
lk_err lk_frechet_moments(const double *mean1, const double *cov1, const double *mean2, const double *cov2, int64_t d, lk_frechet *);

/* ---- kernel distances (kid.c, kid_subsets.c) ------------------------------------------------------------------------------------------- */
/* KID: MMD^2 with k = (x.y/d + 1)^3 (Binkowski et al. 2018). Subsets by index lists [s][m], or drawn from Philox. Overlapping subsets share
 * their kernel values; where all features are binary32 numbers (a network's are), those come from binary32 products as the peers' do. */
lk_err lk_kid_subsets(const double *x, int64_t nx, const double *y, int64_t ny, int64_t d, const int64_t *ix, const int64_t *iy, int64_t s, int64_t m, lk_pool *,
                      double *values /* [s] or NULL */, double *mean, double *sd0 /* ddof 0, not a standard error */);
lk_err lk_kid_draw(int64_t n, int64_t s, int64_t m, uint64_t seed, const char *stream, int64_t *indices /* [s][m], without repeats in a subset */);
typedef struct { double value, variance; } lk_mmd;      /* variance NaN where undefined (n < 4 or nx != ny without jackknife) */
/* The full U-statistic; variance by the delete-one jackknife over pairs of sets (both sets, summed). */
lk_err lk_kid_full(const double *x, int64_t nx, const double *y, int64_t ny, int64_t d, lk_pool *, lk_mmd *);
/* Equal n: the closed form of Sutherland et al. 2017 (eq. in opt-mmd), as piq; and the estimate that drops the cross diagonal. */
lk_err lk_kid_sutherland(const double *x, const double *y, int64_t n, int64_t d, lk_pool *, lk_mmd *);
lk_err lk_kid_no_diagonal(const double *x, const double *y, int64_t n, int64_t d, lk_pool *, double *value);
/* CMMD: 1000 MMD^2, Gaussian kernel exp(-|x-y|^2/200), diagonal kept (Jayasumana et al. 2024). x, y as they are: not renormalised. */
lk_err lk_cmmd(const double *x, int64_t nx, const double *y, int64_t ny, int64_t d, lk_pool *, double *value);

/* ---- manifolds and scores (manifold.c) -------------------------------------------------------------------------------------- */
/* Precision, recall (Kynkaanniemi 2019), density, coverage (Naeem 2020). Distances squared, compared strictly (prdc) or <= (torch-fidelity). */
typedef struct { int64_t fake_in_real, real_in_fake, pairs, real_with_fake; double precision, recall, density, coverage, f_score; } lk_prdc;
lk_err lk_prdc_of(const double *real, int64_t nr, const double *fake, int64_t nf, int64_t d, int k, bool strict, lk_pool *, lk_prdc *);
/* Vendi score (Friedman & Dieng 2023) of order q (1 = Shannon, INFINITY = largest) of a kernel matrix with unit diagonal; p: weights or NULL. */
lk_err lk_vendi(const double *kernel, int64_t n, const double *p, double q, double *out);
lk_err lk_vendi_cosine(const double *x, int64_t n, int64_t d, double q, double *out);
/* Inception score of logits [n][classes] in `splits` parts: torch-fidelity cuts at i*n/s (ddof 0), torchmetrics by ceil(n/s) (ddof 1). */
lk_err lk_inception_score(const double *logits, int64_t n, int64_t classes, int splits, bool by_ceil, const int64_t *permutation, double *mean, double *sd);

/* ---- diversity and collapse (collapse.c) ----------------------------------------------------------------------------------- */
typedef struct {
    int64_t n;
    double mean_l1, min_l1, median_l1, mean_rms;       /* over pairs i < j, pixels on [0, 1] */
    double effective_rank, participation;              /* of the centred Gram matrix; 1 when all are identical */
    double vendi;                                      /* q = 1, cosine kernel of the raw pixels */
    bool legacy_collapsed;                             /* mean_l1 < 0.05 */
} lk_diversity;
lk_err lk_diversity_images(const lk_image *, int64_t n, lk_diversity *);               /* equal sizes; L1 from integer sums */
lk_err lk_diversity_values(const double *x, int64_t n, int64_t d, lk_diversity *);     /* [0, 1] pixels or features */
/* Distance of each of n vectors to the nearest of m (L2): copying of the training images. nearest[i] may be NULL. */
lk_err lk_nearest_distance(const double *x, int64_t n, const double *refs, int64_t m, int64_t d, double *distance, int64_t *nearest);
/* Same-seed control: mean distance of paired outputs (same seed, other reference) over mean distance of unpaired ones; near 0 = the condition is ignored. */
lk_err lk_same_seed_ratio(const double *a, const double *b, int64_t n, int64_t d, double *ratio);
#endif
