/* golden: runs the peers' vectors (`make golden dir=PATH`). A case or a tree of cases is walked in name order; every file is
 * offered to the rows of the registry (registry.c), which match by content (a case.json's class or keys) or by file name,
 * never by a case's directory or size. Each comparison prints its error and tolerance and counts as passed or failed.
 * A file or a tensor no handler knows counts as failed. A new kind is one row in registry.c and one handler. */
#ifndef LK_GOLDEN_H
#define LK_GOLDEN_H
#include "backend/backend.h"
#include "io/io.h"
#include "models/lora.h"
#include "models/models.h"

typedef struct {
    int passed, failed;
    const lk_backend *backend;
    lk_pool *pool;
    char **claimed; int n_claimed;         /* canonical paths some handler has read */
} lk_golden;

/* ---- reporting (report.c) ------------------------------------------------------------------------------------ */
typedef struct { double max_abs, rel_l2; } lk_golden_tol;
void lk_golden_check(lk_golden *, bool ok, const char *fmt, ...) __attribute__((format(printf, 3, 4)));   /* one line, one count */
void lk_golden_failed(lk_golden *, const char *what, lk_err);            /* counts and frees an error; NULL: does nothing */
/* Both bounds must hold: max |got - want| and |got - want|_2 / |want|_2. NaN fails. A want of zeros is held to max_abs alone. */
bool lk_golden_tensor(lk_golden *, const char *name, const double *got, const double *want, int64_t n, lk_golden_tol);
bool lk_golden_number(lk_golden *, const char *name, double got, double want, double tol);
/* obj[name] = {"max_abs", "rel_l2"}; false (and a failure) if absent. */
bool lk_golden_tolerance(lk_golden *, const json_t *obj, const char *name, lk_golden_tol *);

/* ---- files (files.c) -------------------------------------------------------------------------------------------- */
void lk_golden_claim(lk_golden *, const char *path);
char *lk_golden_path(lk_arena *, const char *dir, const char *relative);
typedef struct { lk_st *st; bool *known; } lk_golden_file;
lk_err lk_golden_open(lk_golden *, const char *path, lk_golden_file *);  /* claims it */
const lk_tensor *lk_golden_get(lk_golden_file *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));   /* NULL if absent; it is known from now on */
void lk_golden_know(lk_golden_file *, const char *prefix);               /* every tensor whose name starts so */
void lk_golden_close(lk_golden *, lk_golden_file *);                     /* each tensor still unknown counts as failed */
double *lk_golden_f64(const lk_tensor *);                                /* malloc; NULL for NULL */
int64_t *lk_golden_i64(const lk_tensor *);
lk_err lk_golden_json(lk_golden *, const char *path, json_t **out);      /* claims it */
/* Walks path, runs handlers, then counts what nobody claimed. */
lk_err lk_golden_walk(lk_golden *, const char *path);

/* ---- models (model_case.c, model_classes.c) ------------------------------------------------------------------------- */
enum { LK_GOLDEN_LEAVES = 64 };
typedef struct {
    lk_golden *run;
    lk_arena *memory;
    lk_net net;                            /* graph, adapters */
    const char *dir;                       /* the model's: config.json, model.safetensors */
    lk_golden_file *io;                    /* in.*, out.*, ... of this run */
    const json_t *hints;                   /* the case.json's io entry, or NULL: call arguments that are no tensors */
    struct { const char *name; lk_val v; double *f64; int64_t *i64; int64_t n; bool bound; } in[LK_GOLDEN_LEAVES]; int n_in;
    struct { const char *name; lk_val v; } out[LK_GOLDEN_LEAVES]; int n_out;
    struct { const char *prefix, *path; lk_st *st; } weights[4]; int n_weights;
    bool writable;                         /* weights are copied, not bound: the case will change them */
} lk_golden_model;
/* What class builders use. Input "in.<name>" of the io file; integers become F32 in _input, stay I64 in _ids. */
bool   lk_golden_has(lk_golden_model *, const char *name);
lk_val lk_golden_input(lk_golden_model *, const char *name);
lk_val lk_golden_ids(lk_golden_model *, const char *name);
const int64_t *lk_golden_ids_values(lk_golden_model *, const char *name);
lk_val lk_golden_given_ids(lk_golden_model *, const char *name, lk_shape, const int64_t *values);  /* computed by the host */
void   lk_golden_bind(lk_golden_model *, const char *name, lk_val);        /* use this value where the class asks for input <name> */
void   lk_golden_output(lk_golden_model *, const char *name, lk_val);
void   lk_golden_weights(lk_golden_model *, const char *param_prefix, const char *path);
/* What cases use. */
typedef struct { const char *cls; lk_err (*build)(lk_golden_model *); } lk_golden_class;
extern const lk_golden_class lk_golden_classes[];                          /* ends with cls NULL */
void   lk_golden_encoder_outputs(lk_golden_model *, lk_encoder_out, const char *embeds);
lk_err lk_golden_controlnet(lk_golden_model *), lk_golden_sd3(lk_golden_model *), lk_golden_flux(lk_golden_model *),
       lk_golden_qwenimage(lk_golden_model *), lk_golden_dinov2(lk_golden_model *), lk_golden_vit(lk_golden_model *), lk_golden_unet_svd(lk_golden_model *);   /* model_classes_more.c */
lk_golden_model lk_golden_model_new(lk_golden *, lk_arena *, lk_graph *, const char *dir, lk_golden_file *io);
/* Reads the class from dir/config.json (or uses cls) and adds the model's nodes. */
lk_err lk_golden_build(lk_golden_model *, const char *cls);
lk_val lk_golden_out(const lk_golden_model *, const char *name);           /* LK_NONE if the class has no such output */
lk_err lk_golden_exec(lk_golden_model *, const lk_val *outputs, int n, lk_exec **);   /* plans, binds weights, sets inputs */
void   lk_golden_model_free(lk_golden_model *);                            /* closes weight files; the graph and arena are the caller's */
double *lk_golden_read(lk_exec *, lk_val, int64_t *n);                     /* malloc; NULL on error */

/* ---- registry (registry.c) -------------------------------------------------------------------------------------------- */
typedef lk_err (*lk_golden_fn)(lk_golden *, const char *path, const char *dir, json_t *json /* the parsed .json, else NULL */);
typedef struct {
    const char *file;                      /* base name that is offered: "case.json", "schedulers.json" */
    const char *key;                       /* and a key its JSON must hold; NULL: any */
    lk_golden_fn run;
} lk_golden_handler;
extern const lk_golden_handler lk_golden_handlers[];                       /* first match wins; ends with file NULL */
lk_err lk_golden_model_case(lk_golden *, const char *path, const char *dir, json_t *);
lk_err lk_golden_schedulers(lk_golden *, const char *path, const char *dir, json_t *);
lk_err lk_golden_lora_train(lk_golden *, const char *path, const char *dir, json_t *);
lk_err lk_golden_lora_formats(lk_golden *, const char *path, const char *dir, json_t *);
lk_err lk_golden_lora_mix(lk_golden *, const char *path, const char *dir, json_t *);
lk_err lk_golden_lora_files(lk_golden *, const char *path, const char *dir, json_t *);
lk_err lk_golden_images(lk_golden *, const char *path, const char *dir, json_t *), lk_golden_psnr_ssim(lk_golden *, const char *path, const char *dir, json_t *);
lk_err lk_golden_stats(lk_golden *, const char *path, const char *dir, json_t *), lk_golden_frechet(lk_golden *, const char *path, const char *dir, json_t *);
lk_err lk_golden_kid(lk_golden *, const char *path, const char *dir, json_t *), lk_golden_manifold(lk_golden *, const char *path, const char *dir, json_t *);
lk_err lk_golden_diversity(lk_golden *, const char *path, const char *dir, json_t *);
lk_err lk_golden_resize(lk_golden *, const char *path, const char *dir, json_t *), lk_golden_align(lk_golden *, const char *path, const char *dir, json_t *);
lk_err lk_golden_trunk_params(lk_golden *, const char *path, const char *dir, json_t *), lk_golden_lpips(lk_golden *, const char *path, const char *dir, json_t *);
lk_err lk_golden_unit_channels(lk_golden *, const char *path, const char *dir, json_t *);
lk_err lk_golden_inception_params(lk_golden *, const char *path, const char *dir, json_t *), lk_golden_inception(lk_golden *, const char *path, const char *dir, json_t *);
lk_err lk_golden_recognisers(lk_golden *, const char *path, const char *dir, json_t *);
#endif
