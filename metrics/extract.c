/* Extractors (extract.h). A kind is a table row: how it opens, how a picture becomes the network's input, which value is read.
 * Pictures run in batches; by docs/numerics.md a batch changes no bit of an output. */
#include "metrics/extract.h"
#include "metrics/fid_input.h"
#include "metrics/lpips.h"
#include "metrics/prepare.h"
#include "models/face.h"
#include "models/models.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 8, MOST_VALUES = 1 << 28 };
typedef struct kind kind;
struct lk_extractor {
    const kind *kind;
    lk_pool *pool;
    lk_extract_options options;
    lk_provenance from;
    int64_t d;
    int what;                            /* trunk, recogniser, way of preparing */
    char layer[24];
    int c, h, w, batch;                  /* the network's input as built */
    lk_graph *g;
    lk_exec *x;
    lk_val in, out;
    lk_st *st, *heads;
    lk_prepare prepare;
    lk_clip_vision_config vision;
    lk_dinov2_config dinov2;
    lk_vit_config vit;
    lk_faces *faces;
};
struct kind {
    const char *name;                    /* "inception/": the rest is for open */
    lk_err (*open)(lk_extractor *, const char *rest);
    lk_err (*input)(lk_extractor *, const lk_image *, float **in, int *h, int *w);       /* [3][h][w], malloc */
    lk_val (*build)(lk_extractor *, const lk_net *, lk_val in);                          /* -> [batch, d] */
    const char *const *ignore;           /* keys of the checkpoint that are not of this half */
    bool unit;                           /* made unit length in binary64 */
};

/* ---- weights ---------------------------------------------------------------------------------------------------------------------- */
static lk_err open_weights(lk_extractor *e, const char *path) {
    if (!path) return lk_error(LK_EINPUT, "%s needs --weights FILE.safetensors (docs/metrics.md says how public files are converted)", e->from.features);
    LK_TRY(lk_st_open(path, &e->st));
    LK_TRY(lk_sha256_file(path, e->from.sha256));
    snprintf(e->from.weights, sizeof e->from.weights, "%s", strrchr(path, '/') ? strrchr(path, '/') + 1 : path);
    if (!e->options.sha256 || !strcmp(e->options.sha256, e->from.sha256)) return LK_OK;
    return lk_error(LK_EINPUT, "%s: its SHA-256 is %s, not %s: other weights give other numbers", path, e->from.sha256, e->options.sha256);
}
static lk_err open_model(lk_extractor *e, lk_err (*config)(lk_extractor *, const char *)) {
    const char *dir = e->options.model;
    if (!dir) return lk_error(LK_EINPUT, "%s needs --model DIRECTORY with config.json, model.safetensors and preprocessor_config.json", e->from.features);
    char *path = lk_xfmt("%s/config.json", dir);
    lk_err err = config(e, path);
    free(path);
    path = lk_xfmt("%s/preprocessor_config.json", dir);
    if (!err) err = lk_prepare_load(path, &e->prepare);
    free(path);
    path = lk_xfmt("%s/model.safetensors", dir);
    if (!err) err = open_weights(e, path);
    free(path);
    if (!err) lk_prepare_describe(&e->prepare, e->from.resize, sizeof e->from.resize);
    return err;
}

/* ---- kinds -------------------------------------------------------------------------------------------------------------------------- */
static lk_err open_inception(lk_extractor *e, const char *rest) {
    static const char *const layers[] = { "64", "192", "768", "2048", "logits", "logits_unbiased" };
    static const int dims[] = { 64, 192, 768, 2048, 1008, 1008 };
    const char *colon = strchr(rest, ':'), *layer = colon ? colon + 1 : "2048";
    size_t n = colon ? (size_t)(colon - rest) : strlen(rest);
    for (e->what = 0; e->what < LK_FID_WAYS; e->what++) {
        const char *way = lk_fid_way_name((lk_fid_way)e->what);
        if (strlen(way) == n && !strncmp(way, rest, n)) break;
    }
    if (e->what == LK_FID_WAYS) return lk_error(LK_EINPUT, "inception/%s: pictures are prepared as pytorch-fid, torch-fidelity, torchmetrics or clean-fid do", rest);
    int i = 0;
    while (i < 6 && strcmp(layer, layers[i])) i++;
    if (i == 6) return lk_error(LK_EINPUT, "inception/%s: layers are 64, 192, 768, 2048, logits, logits_unbiased", rest);
    snprintf(e->layer, sizeof e->layer, "%s", layer);
    e->d = dims[i];
    static const char *const resizes[] = { [LK_FID_PYTORCH] = "torch bilinear 299 x 299", [LK_FID_TORCH_FIDELITY] = "TensorFlow 1 bilinear 299 x 299",
                                           [LK_FID_TORCHMETRICS] = "torch antialiased bilinear 299 x 299", [LK_FID_CLEAN] = "Pillow bicubic (mode F), clipped, 299 x 299" };
    snprintf(e->from.resize, sizeof e->from.resize, "%s", resizes[e->what]);
    return open_weights(e, e->options.weights);
}
static lk_err input_inception(lk_extractor *e, const lk_image *im, float **in, int *h, int *w) {
    *h = *w = LK_INCEPTION_SIDE;
    *in = lk_xmalloc(3 * LK_INCEPTION_SIDE * LK_INCEPTION_SIDE * sizeof **in);
    return lk_fid_preprocess((lk_fid_way)e->what, im, *in);
}
static lk_val build_inception(lk_extractor *e, const lk_net *net, lk_val in) {
    lk_inception_out o = lk_inception(net, in);
    return !strcmp(e->layer, "64") ? o.features64 : !strcmp(e->layer, "192") ? o.features192 : !strcmp(e->layer, "768") ? o.features768
         : !strcmp(e->layer, "2048") ? o.features2048 : !strcmp(e->layer, "logits") ? o.logits : o.logits_unbiased;
}
/* Values v * scale + shift, planes first. */
static float *planes(const lk_image *im, double scale, double shift) {
    int64_t n = (int64_t)im->h * im->w;
    float *v = lk_xmalloc((size_t)(3 * n) * sizeof *v);
    for (int c = 0; c < 3; c++) for (int64_t i = 0; i < n; i++) v[c * n + i] = (float)(im->px[3 * i + c] * scale + shift);
    return v;
}
static lk_err input_own_size(lk_extractor *e, const lk_image *im, float **in, int *h, int *w) {
    bool lpips = e->heads != NULL;
    *h = im->h;
    *w = im->w;
    *in = planes(im, lpips ? 1 / 127.5 : 1 / 255.0, lpips ? -1 : 0);
    return LK_OK;
}
static lk_err open_vgg16(lk_extractor *e, const char *rest) {
    (void)rest;
    e->what = LK_VGG16;
    e->d = 512;
    snprintf(e->from.resize, sizeof e->from.resize, "none");
    return open_weights(e, e->options.weights);
}
static lk_val build_vgg16(lk_extractor *e, const lk_net *net, lk_val in) {
    lk_val tap[LK_TRUNK_TAPS];
    (void)e;
    lk_trunk_features(net, LK_VGG16, lk_imagenet_normalise(net->g, in), tap);
    return lk_mean(net->g, tap[4], (lk_axes){ .n = 2, .axis = { 2, 3 } });
}
static lk_err open_lpips(lk_extractor *e, const char *rest) {
    static const struct { const char *name; lk_trunk trunk; } nets[] = { { "alex", LK_ALEXNET }, { "vgg", LK_VGG16 }, { "squeeze", LK_SQUEEZENET1_1 } };
    int i = 0;
    while (i < 3 && strcmp(rest, nets[i].name)) i++;
    if (i == 3) return lk_error(LK_EINPUT, "lpips/%s: the trunks are alex, vgg and squeeze", rest);
    e->what = (int)nets[i].trunk;
    snprintf(e->from.resize, sizeof e->from.resize, "none");
    LK_TRY(open_weights(e, e->options.weights));
    return lk_st_open(lk_lpips_heads(nets[i].trunk), &e->heads);
}
static lk_val build_lpips(lk_extractor *e, const lk_net *net, lk_val in) { return lk_lpips_vector(net, (lk_lpips_variant){ .trunk = (lk_trunk)e->what }, in); }

static lk_err config_clip(lk_extractor *e, const char *path) {
    lk_err err = lk_clip_vision_config_load(path, &e->vision);
    e->d = e->vision.projection;
    return err;
}
static lk_err config_dinov2(lk_extractor *e, const char *path) {
    lk_err err = lk_dinov2_config_load(path, &e->dinov2);
    e->d = e->dinov2.hidden;
    return err;
}
static lk_err config_vit(lk_extractor *e, const char *path) {
    lk_err err = lk_vit_config_load(path, &e->vit);
    e->d = e->vit.hidden;
    return err;
}
static lk_err open_clip(lk_extractor *e, const char *rest) { (void)rest; return open_model(e, config_clip); }
static lk_err open_dinov2(lk_extractor *e, const char *rest) { (void)rest; return open_model(e, config_dinov2); }
static lk_err open_dino(lk_extractor *e, const char *rest) { (void)rest; return open_model(e, config_vit); }
static lk_err input_prepared(lk_extractor *e, const lk_image *im, float **in, int *h, int *w) { return lk_prepare_run(&e->prepare, im, in, h, w); }
static lk_val build_clip(lk_extractor *e, const lk_net *net, lk_val in) { return lk_clip_vision(net, &e->vision, in).embeds; }
static lk_val build_dinov2(lk_extractor *e, const lk_net *net, lk_val in) { return lk_dinov2(net, &e->dinov2, in).pooled; }
static lk_val build_dino(lk_extractor *e, const lk_net *net, lk_val in) { return lk_vit(net, &e->vit, in).pooled; }

static lk_err open_pixels(lk_extractor *e, const char *rest) {
    (void)rest;
    snprintf(e->from.resize, sizeof e->from.resize, "none");
    return LK_OK;
}
static lk_err open_faces(lk_extractor *e, const char *rest) {
    static const char *const rules[] = { "best score", "largest", "nearest to the centre" };
    const lk_extract_options *o = &e->options;
    char *path;
    for (e->what = 0; e->what < LK_RECOGNISERS; e->what++) if (!strcmp(rest, e->what == LK_DLIB ? "dlib" : lk_recogniser_name((lk_recogniser)e->what))) break;
    if (e->what == LK_RECOGNISERS) return lk_error(LK_EINPUT, "faces/%s: the recognisers are mobilefacenet, mobileface, dlib", rest);
    e->d = lk_recogniser_dim((lk_recogniser)e->what) + 1;
    if (!e->options.detect) e->options.detect = 128;
    if (!(e->options.threshold > 0)) e->options.threshold = .5;
    if (o->detect % 32 || o->detect < 32 || o->detect > 2048) return lk_error(LK_EINPUT, "the detector's input is a multiple of 32 up to 2048, not %d", o->detect);
    const char *dir = o->model ? o->model : "models/faces";
    snprintf(e->from.resize, sizeof e->from.resize, "detector %d, threshold %g, face: %s%s", o->detect, o->threshold, rules[o->rule], o->flip ? ", flip-averaged" : "");
    path = lk_xfmt("%s/%s.safetensors", dir, lk_recogniser_name((lk_recogniser)e->what));
    snprintf(e->from.weights, sizeof e->from.weights, "%s.safetensors", lk_recogniser_name((lk_recogniser)e->what));
    lk_err err = lk_sha256_file(path, e->from.sha256);
    free(path);
    if (!err) err = lk_faces_new(dir, e->pool, &e->faces);
    return err;
}
static const char *const no_fid_extras[] = { "num_batches_tracked", "AuxLogits.", NULL }, *const no_classifier[] = { "classifier.", NULL };
static const char *const no_text[] = { "text_model.", "text_projection.weight", "logit_scale", "position_ids", NULL };
static const char *const no_pooler[] = { "pooler.", NULL };
static const kind kinds[] = {
    { "pixels", open_pixels, NULL, NULL, NULL, false },
    { "inception/", open_inception, input_inception, build_inception, no_fid_extras, false },
    { "vgg16", open_vgg16, input_own_size, build_vgg16, no_classifier, false },
    { "lpips/", open_lpips, input_own_size, build_lpips, no_classifier, false },
    { "clip", open_clip, input_prepared, build_clip, no_text, true },
    { "dinov2", open_dinov2, input_prepared, build_dinov2, NULL, false },
    { "dino", open_dino, input_prepared, build_dino, no_pooler, false },
    { "faces/", open_faces, NULL, NULL, NULL, false },
};
enum { KINDS = sizeof kinds / sizeof *kinds };

/* ---- open, close ------------------------------------------------------------------------------------------------------------------------ */
lk_err lk_extractor_new(const char *name, const lk_extract_options *o, lk_pool *pool, lk_extractor **out) {
    const char *names[KINDS];
    const kind *k = NULL;
    for (int i = 0; i < KINDS; i++) {
        size_t n = strlen(names[i] = kinds[i].name);
        bool more = kinds[i].name[n - 1] == '/';
        if (more ? lk_starts(name, kinds[i].name) : !strcmp(name, kinds[i].name)) k = kinds + i;
    }
    if (!k) return lk_error(LK_EINPUT, "no features \"%s\"; did you mean %s? --list shows all", name, names[lk_nearest(name, names, KINDS)]);
    lk_extractor *e = lk_xcalloc(1, sizeof *e);
    e->kind = k;
    e->pool = pool;
    if (o) e->options = *o;
    snprintf(e->from.features, sizeof e->from.features, "%s", name);
    lk_err err = k->open(e, name + strlen(k->name));
    if (!err && (e->options.crop < 0 || e->options.stride < 0)) err = lk_error(LK_EINPUT, "crops of %d pixels every %d", e->options.crop, e->options.stride);
    if (!err && e->options.crop && !k->input) err = lk_error(LK_EINPUT, "%s: no --crop; crops are for networks that see whole pictures", name);
    if (!err && e->options.crop) {
        if (!e->options.stride) e->options.stride = e->options.crop;
        size_t n = strlen(e->from.resize);
        char rest[96];
        memcpy(rest, e->from.resize, n + 1);
        snprintf(e->from.resize, sizeof e->from.resize, "crops %d every %d, then %.60s", e->options.crop, e->options.stride, rest);
    }
    if (err) lk_extractor_free(e);
    else *out = e;
    return err;
}
static void forget_graph(lk_extractor *e) {
    lk_exec_free(e->x);
    lk_graph_free(e->g);
    e->x = NULL;
    e->g = NULL;
}
void lk_extractor_free(lk_extractor *e) {
    if (!e) return;
    forget_graph(e);
    if (e->st) lk_st_close(e->st);
    if (e->heads) lk_st_close(e->heads);
    lk_faces_free(e->faces);
    free(e);
}
int64_t lk_extractor_dim(const lk_extractor *e) { return e->d; }
const lk_provenance *lk_extractor_from(const lk_extractor *e) { return &e->from; }
static int crops(int side, int crop, int stride) { return side < crop ? 0 : (side - crop) / stride + 1; }
int64_t lk_extractor_each(const lk_extractor *e, const lk_picture *p) {
    const lk_extract_options *o = &e->options;
    return o->crop ? (int64_t)crops(p->h, o->crop, o->stride) * crops(p->w, o->crop, o->stride) : 1;
}

/* ---- running ------------------------------------------------------------------------------------------------------------------------------- */
static lk_err build(lk_extractor *e, int h, int w, int batch) {
    forget_graph(e);
    e->g = lk_graph_new();
    e->h = h;
    e->w = w;
    e->batch = batch;
    lk_net net = lk_net_root(e->g);
    e->in = lk_input(e->g, "in", LK_F32, LK_SHAPE(batch, 3, h, w));
    e->out = e->kind->build(e, &net, e->in);
    LK_TRY(lk_graph_error(e->g));
    e->d = lk_dim(e->g, e->out, 1);
    LK_TRY(lk_exec_new(e->g, &e->out, 1, (lk_exec_opts){ .pool = e->pool }, &e->x));
    LK_TRY(lk_weights_bind(e->x, e->st, "", e->kind->ignore));
    return e->heads ? lk_weights_bind(e->x, e->heads, "lin/", NULL) : LK_OK;
}
/* One batch of prepared inputs [k][3][h][w] -> out [k][d]. */
static lk_err run_batch(lk_extractor *e, float *ins, int k, double *out) {
    int64_t each = 3LL * e->h * e->w;
    memset(ins + k * each, 0, (size_t)((e->batch - k) * each) * sizeof *ins);
    LK_TRY(lk_exec_set(e->x, e->in, ins, e->batch * each));
    LK_TRY(lk_exec_run(e->x));
    double *all = lk_xmalloc((size_t)(e->batch * e->d) * sizeof *all);
    lk_err err = lk_exec_get_f64(e->x, e->out, all, e->batch * e->d);
    for (int i = 0; i < k && e->kind->unit && !err; i++) {
        double s = 0;
        for (int64_t j = 0; j < e->d; j++) s += all[i * e->d + j] * all[i * e->d + j];
        for (int64_t j = 0; j < e->d; j++) all[i * e->d + j] /= sqrt(s);
    }
    if (!err) memcpy(out, all, (size_t)(k * e->d) * sizeof *out);
    free(all);
    return err;
}
static lk_err run_network(lk_extractor *e, const lk_image *im, const char *const *names, int n, double **out) {
    float *ins = NULL, *one = NULL;
    lk_err err = LK_OK;
    int pending = 0, from = 0;
    for (int i = 0; i < n && !err; i++) {
        int h, w;
        if ((err = lk_err_wrap(e->kind->input(e, im + i, &one, &h, &w), "%s", names[i]))) break;
        if (e->g && (h != e->h || w != e->w)) {
            err = lk_error(LK_EINPUT, "%s is %d x %d, pictures before it %d x %d: these features need one size", names[i], w, h, e->w, e->h);
            free(one);
            break;
        }
        if (!e->g || (e->batch < BATCH && n - i > e->batch && pending == 0)) err = build(e, h, w, n - i < BATCH ? n - i : BATCH);
        if (!err && !*out) {
            if (e->d * n > MOST_VALUES * 4LL) err = lk_error(LK_ENOMEM, "%d pictures of %lld values each; use fewer or smaller pictures", n, (long long)e->d);
            else *out = lk_xmalloc((size_t)(e->d * n) * sizeof **out);
        }
        if (!err && !ins) ins = lk_xmalloc((size_t)(BATCH * 3LL * h * w) * sizeof *ins);
        if (!err) memcpy(ins + pending++ * 3LL * h * w, one, (size_t)(3LL * h * w) * sizeof *ins);
        free(one);
        if (err || (pending < e->batch && i + 1 < n)) continue;
        err = run_batch(e, ins, pending, *out + from * e->d);
        from += pending;
        pending = 0;
    }
    free(ins);
    return err;
}

/* ---- faces ------------------------------------------------------------------------------------------------------------------------------------ */
static double preference(lk_face_rule rule, const lk_face *f, const lk_image *im) {
    double x = (f->x0 + f->x1) / 2 - im->w / 2.0, y = (f->y0 + f->y1) / 2 - im->h / 2.0;
    return rule == LK_FACE_BEST ? f->score : rule == LK_FACE_LARGEST ? (f->x1 - f->x0) * (f->y1 - f->y0) : -(x * x + y * y);
}
static lk_err find_face(lk_extractor *e, const lk_image *im, lk_face *face, bool *found) {
    enum { MOST = 64 };
    lk_face all[MOST];
    int n = 0, best = 0;
    LK_TRY(lk_faces_count(e->faces, im, e->options.detect, e->options.threshold, MOST, all, &n));
    *found = n > 0;
    for (int i = 1; i < n; i++) if (preference(e->options.rule, all + i, im) > preference(e->options.rule, all + best, im)) best = i;
    if (!n) return LK_OK;
    *face = all[best];
    return lk_faces_landmarks(e->faces, im, face);
}
static lk_err face_vector(lk_extractor *e, const lk_image *im, double *out) {
    lk_recogniser r = (lk_recogniser)e->what;
    int s = lk_recogniser_size(r), dim = lk_recogniser_dim(r);
    lk_face face;
    bool found;
    double to[6], from[6];
    memset(out, 0, (size_t)(dim + 1) * sizeof *out);
    LK_TRY(find_face(e, im, &face, &found));
    if (!found) return LK_OK;
    (r == LK_DLIB ? lk_face_to_dlib : lk_face_to_arcface)(&face, to);
    lk_affine_invert(to, from);
    int64_t n = 3LL * s * s;
    float *chip = lk_xmalloc((size_t)(2 * n) * sizeof *chip), embedding[2 * 512];
    lk_warp_image(im, from, s, s, chip);
    for (int64_t i = 0; i < n; i++) chip[n + i] = chip[i / s * s + s - 1 - i % s];
    lk_err err = lk_faces_embed(e->faces, r, chip, e->options.flip ? 2 : 1, embedding);
    free(chip);
    for (int k = 0; k < (e->options.flip ? 2 : 1) && !err; k++) {        /* directions are averaged, not lengths; dlib's vectors as they are */
        double length = 0;
        for (int i = 0; i < dim; i++) length += (double)embedding[k * dim + i] * embedding[k * dim + i];
        length = r == LK_DLIB ? 1 : sqrt(length);
        for (int i = 0; i < dim; i++) out[i] += embedding[k * dim + i] / length / (e->options.flip ? 2 : 1);
    }
    out[dim] = 1;
    return err;
}

/* ---- pictures ------------------------------------------------------------------------------------------------------------------------------------ */
/* 8-bit RGB; a grey picture is repeated, which is written down. */
static lk_err as_rgb(lk_extractor *e, const lk_picture *p, const char *name, lk_image *out) {
    if (!p->u8) return lk_error(LK_EINPUT, "%s: real values; %s takes 8-bit pictures (round them first: the network's owner does)", name, e->from.features);
    if (p->c == 1 && !strstr(e->from.decoder, "grey")) {
        size_t n = strlen(e->from.decoder);
        snprintf(e->from.decoder + n, sizeof e->from.decoder - n, "%sgrey repeated to RGB", n ? "; " : "");
    }
    *out = lk_image_rgb(p->u8);
    return LK_OK;
}
/* *im grows by the picture, or by its crops. */
static lk_err add_images(lk_extractor *e, const lk_picture *p, const char *name, lk_image **im, int *n) {
    const lk_extract_options *o = &e->options;
    lk_image whole;
    LK_TRY(as_rgb(e, p, name, &whole));
    int64_t more = lk_extractor_each(e, p);
    *im = lk_xrealloc(*im, (size_t)(*n + more + 1) * sizeof **im);
    if (!o->crop) { (*im)[(*n)++] = whole; return LK_OK; }
    for (int y = 0; y + o->crop <= whole.h; y += o->stride) for (int x = 0; x + o->crop <= whole.w; x += o->stride) {
        lk_image part = lk_image_new(o->crop, o->crop, 3);
        for (int k = 0; k < o->crop; k++) memcpy(part.px + 3LL * k * o->crop, whole.px + 3 * ((int64_t)(y + k) * whole.w + x), (size_t)(3 * o->crop));
        (*im)[(*n)++] = part;
    }
    lk_image_free(&whole);
    return more ? LK_OK : lk_error(LK_EINPUT, "%s is %d x %d: no crop of %d fits", name, p->w, p->h, o->crop);
}
static lk_err run_pixels(lk_extractor *e, const lk_picture *p, const char *const *names, int n, double **out) {
    for (int i = 0; i < n; i++) {
        if (!e->d) { e->h = p->h; e->w = p->w; e->c = p->c; e->d = (int64_t)p->h * p->w * p->c; }
        if (p[i].h != e->h || p[i].w != e->w || p[i].c != e->c)
            return lk_error(LK_EINPUT, "%s is %d x %d with %d channel%s, pictures before it %d x %d with %d: make them equal first (grey and colour are not compared)", names[i],
                            p[i].w, p[i].h, p[i].c, p[i].c > 1 ? "s" : "", e->w, e->h, e->c);
    }
    *out = lk_xmalloc((size_t)(n * e->d) * sizeof **out);
    for (int i = 0; i < n; i++) {
        LK_TRY(lk_err_wrap(lk_picture_check(p + i), "%s", names[i]));
        for (int64_t k = 0; k < e->d; k++) (*out)[i * e->d + k] = p[i].u8 ? p[i].u8->px[k] / 255.0 : p[i].real[k] / p[i].range;
    }
    return LK_OK;
}
static lk_err run_images(lk_extractor *e, const lk_image *im, const char *const *names, int n, double **out) {
    if (!e->faces) return run_network(e, im, names, n, out);
    *out = lk_xmalloc((size_t)(n * e->d) * sizeof **out);
    for (int i = 0; i < n; i++) LK_TRY(lk_err_wrap(face_vector(e, im + i, *out + i * e->d), "%s", names[i]));
    return LK_OK;
}
lk_err lk_extractor_run(lk_extractor *e, const lk_picture *p, const char *const *names, int n, double **out, int64_t *vectors) {
    const char **label = lk_xcalloc((size_t)n + 1, sizeof *label), **each = NULL;
    lk_image *im = NULL;
    int images = 0;
    lk_err err = LK_OK;
    *out = NULL;
    for (int i = 0; i < n; i++) label[i] = names ? names[i] : "picture";
    if (!e->kind->input && !e->faces) err = run_pixels(e, p, label, n, out);
    else {
        for (int i = 0; i < n && !err; i++) {
            int had = images;
            err = add_images(e, p + i, label[i], &im, &images);
            each = lk_xrealloc(each, (size_t)(images + 1) * sizeof *each);
            while (had < images) each[had++] = label[i];
        }
        if (!err) err = run_images(e, im, each, images, out);
    }
    *vectors = e->kind->input || e->faces ? images : n;
    for (int i = 0; i < images; i++) lk_image_free(im + i);
    free(im);
    free(each);
    free(label);
    if (err) { free(*out); *out = NULL; }
    return err;
}
