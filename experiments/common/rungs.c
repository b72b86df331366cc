/* Sampling and scoring at one step count. */
#include "experiments/common/rungs.h"
#include "experiments/common/trial.h"
#include "metrics/metrics.h"
#include "models/sheet.h"
#include <stdlib.h>
#include <string.h>

static const lk_rung_score scores[] = {
    {"fd", "FD", "Frechet distance to the photos in the zoo's CLIP, 64-d, whole picture", "min", 3, true},
    {"fd_crop", "FD crop", "the same of the central 32x32 pixels, enlarged twice", "min", 3, true},
    {"kid", "KID", "kernel distance to the photos in dlib's 128-d space", "min", 4, true},
    {"clip_t", "CLIP-T", "cosine of picture and prompt by the zoo's CLIP", "max", 3, false},
    {"id", "likeness", "to the named person's photos by dlib: 1 another photo of the person, 0 a stranger", "max", 2, false},
    {"detected", "detected", "share of pictures with a face", "max", 2, false},
    {"diversity", "diversity", "mean dlib distance between pictures of one group", "max", 3, false},
    {"detail", "detail", "root mean square of the Laplacian of the crop's grey values, 0..255", "", 2, false},
};
enum { SCORES = sizeof scores / sizeof *scores };
int lk_rung_scores(const lk_rung_score **rows) { *rows = scores; return SCORES; }

struct lk_rungs {
    lk_ctx *c; lk_studio studio;
    int groups, prompts; const char *who[LK_MAX_GROUPS], *noun[LK_MAX_GROUPS];
    lk_face_set photos; int *of;                 /* photo i's group */
    float *dlib;                                 /* [photos.n][128] */
    double *whole, *crop, *kernel;               /* features of the photos: CLIP, CLIP of the crop, dlib */
};
enum { PIXELS = LK_FRAME * LK_FRAME };

/* ---- features --------------------------------------------------------------------------------------------------- */
static void cropped(const float *frame, float *out) {
    for (int k = 0; k < LK_FRAME_SIZE; k++) {
        int c = k / PIXELS, y = k / LK_FRAME % LK_FRAME, x = k % LK_FRAME;
        out[k] = frame[c * PIXELS + (LK_CROP_AT + y / 2) * LK_FRAME + LK_CROP_AT + x / 2];
    }
}
typedef struct { float *dlib, *clip; double *whole, *crop, *kernel; } features;       /* dlib [n][128], clip [n][64], and in binary64 */
static void features_free(features *f) { free(f->dlib); free(f->clip); free(f->whole); free(f->crop); free(f->kernel); *f = (features){0}; }
static double *widened(const float *x, size_t n) {
    double *d = lk_xmalloc(sizeof *d * n);
    for (size_t i = 0; i < n; i++) d[i] = x[i];
    return d;
}
static lk_err features_of(lk_rungs *r, const float *frames, int n, features *f) {
    int dim = (int)r->studio.zoo.text.projection, wide = lk_recogniser_dim(LK_DLIB);
    float *crops = lk_xmalloc(sizeof(float) * (size_t)n * LK_FRAME_SIZE), *clip_crop = lk_xmalloc(sizeof(float) * (size_t)(n * dim));
    *f = (features){lk_xmalloc(sizeof(float) * (size_t)(n * wide)), lk_xmalloc(sizeof(float) * (size_t)(n * dim)), NULL, NULL, NULL};
    for (int i = 0; i < n; i++) cropped(frames + (size_t)i * LK_FRAME_SIZE, crops + (size_t)i * LK_FRAME_SIZE);
    lk_err e = lk_zoo_embed_frames(&r->studio.zoo, r->studio.pool, frames, n, f->clip);
    if (!e) e = lk_zoo_embed_frames(&r->studio.zoo, r->studio.pool, crops, n, clip_crop);
    if (!e) e = lk_faces_embed_frames(r->studio.faces, LK_DLIB, frames, n, f->dlib);
    f->whole = widened(f->clip, (size_t)(n * dim));
    f->crop = widened(clip_crop, (size_t)(n * dim));
    f->kernel = widened(f->dlib, (size_t)(n * wide));
    free(crops); free(clip_crop);
    return e;
}

/* ---- opening ------------------------------------------------------------------------------------------------------ */
static lk_err open_people(lk_rungs *r) {
    const char *const *names;
    int all = lk_dataset_subjects(r->studio.data, "base", &names), n = 0, *chosen = lk_xcalloc((size_t)lk_dataset_count(r->studio.data), sizeof *chosen);
    r->of = lk_xcalloc((size_t)lk_dataset_count(r->studio.data), sizeof *r->of);
    if (r->groups > all) r->groups = all;
    for (int g = 0; g < r->groups; g++) {
        int k;
        const int *of = lk_dataset_photos(r->studio.data, names[g], NULL, &k);
        r->who[g] = names[g];
        r->noun[g] = strcmp(lk_photo_label(lk_dataset_at(r->studio.data, of[0]), "person"), "woman") ? "man" : "woman";
        for (int i = 0; i < k; i++) { r->of[n] = g; chosen[n++] = of[i]; }
    }
    lk_err e = lk_face_set_new(r->studio.faces, r->studio.data, chosen, n, &r->photos);
    free(chosen);
    return e;
}
lk_err lk_rungs_open(lk_ctx *c, lk_rungs **out) {
    lk_rungs *r = lk_xcalloc(1, sizeof *r);
    *r = (lk_rungs){.c = c, .groups = (int)lk_ctx_int(c, "groups"), .prompts = (int)lk_ctx_int(c, "prompts")};
    features f = {0};
    lk_err e = lk_studio_open("datasets/orl", lk_ctx_pool(c), &r->studio);
    if (!e) e = open_people(r);
    if (!e) e = features_of(r, r->photos.frame, r->photos.n, &f);
    if (e) { features_free(&f); lk_rungs_close(r); return e; }
    r->dlib = f.dlib; r->whole = f.whole; r->crop = f.crop; r->kernel = f.kernel;
    free(f.clip);
    *out = r;
    return LK_OK;
}
void lk_rungs_close(lk_rungs *r) {
    if (!r) return;
    if (r->photos.frame) lk_face_set_free(&r->photos);
    free(r->of); free(r->dlib); free(r->whole); free(r->crop); free(r->kernel);
    lk_studio_close(&r->studio);
    free(r);
}
lk_studio *lk_rungs_studio(lk_rungs *r) { return &r->studio; }
lk_ctx *lk_rungs_ctx(lk_rungs *r) { return r->c; }

/* ---- one picture, one group -------------------------------------------------------------------------------------------- */
static double likeness(const lk_rungs *r, const float *e, int group, int skip) {
    int dim = lk_recogniser_dim(LK_DLIB), n = 0;
    double sum = 0;
    for (int i = 0; i < r->photos.n; i++) if (r->of[i] == group && i != skip) { sum += lk_embedding_distance(e, r->dlib + i * dim, dim); n++; }
    return lk_judge_scale(sum / n);
}
/* Integer grey values of the crop: 4-neighbour Laplacian, an exact sum. */
static double detail(const float *frame) {
    int64_t sum = 0;
    int n = 0;
    enum { END = LK_CROP_AT + LK_CROP };
    for (int y = LK_CROP_AT; y < END; y++) for (int x = LK_CROP_AT; x < END; x++, n++) {
        int at = y * LK_FRAME + x, l = 0;
        for (int c = 0; c < 3; c++) {
            const float *p = frame + c * PIXELS + at;
            l += 4 * (int)p[0] - (int)p[-1] - (int)p[1] - (int)p[-LK_FRAME] - (int)p[LK_FRAME];
        }
        sum += (int64_t)l * l;
    }
    return __builtin_sqrt((double)sum / (9.0 * n));
}
static lk_err detected(lk_rungs *r, const float *frame, double *found) {
    lk_image im = lk_image_from_frame(frame, LK_FRAME, LK_FRAME);
    lk_face face;
    int n = 0;
    lk_err e = lk_faces_count(r->studio.faces, &im, 96, 0.3, 1, &face, &n);
    lk_image_free(&im);
    *found = n > 0;
    return e;
}
static double spread(const features *f, const int *group, int n, int g) {
    int dim = lk_recogniser_dim(LK_DLIB), pairs = 0;
    double sum = 0;
    for (int i = 0; i < n; i++) for (int j = 0; j < i && group[i] == g; j++)
        if (group[j] == g) { sum += lk_embedding_distance(f->dlib + i * dim, f->dlib + j * dim, dim); pairs++; }
    return pairs ? sum / pairs : 0;
}

/* ---- distances between distributions, whole and with one group left out on both sides ------------------------------------ */
typedef struct { double v[3]; } distances;       /* fd, fd_crop, kid: the first three scores */
static int keep(const double *x, const int *group, int n, int dim, int without, double *out) {
    int k = 0;
    for (int i = 0; i < n; i++) if (group[i] != without) memcpy(out + (size_t)(k++) * (size_t)dim, x + (size_t)i * (size_t)dim, sizeof(double) * (size_t)dim);
    return k;
}
static lk_err distances_of(const lk_rungs *r, const features *f, const int *group, int n, int without, distances *out) {
    int narrow = (int)r->studio.zoo.text.projection, wide = lk_recogniser_dim(LK_DLIB);
    const double *real[3] = {r->whole, r->crop, r->kernel}, *fake[3] = {f->whole, f->crop, f->kernel};
    double *a = lk_xmalloc(sizeof *a * (size_t)(n * wide)), *b = lk_xmalloc(sizeof *b * (size_t)(r->photos.n * wide));
    lk_err e = LK_OK;
    for (int k = 0; k < 3 && !e; k++) {
        int dim = k == 2 ? wide : narrow, na = keep(fake[k], group, n, dim, without, a), nb = keep(real[k], r->of, r->photos.n, dim, without, b);
        lk_frechet fd = {0};
        lk_mmd kid = {0};
        if (na < 2 || nb < 2) { out->v[k] = 0; continue; }
        if (k < 2) e = lk_frechet_features(a, na, b, nb, dim, 0, &fd);
        else e = lk_kid_full(a, na, b, nb, dim, NULL, &kid);
        out->v[k] = k < 2 ? fd.value : kid.value;
    }
    free(a); free(b);
    return e;
}
static lk_err final_distances(lk_rungs *r, const char *stem, const features *f, const int *group, int n) {
    distances d;
    lk_arena *m = lk_ctx_arena(r->c);
    lk_run *run = lk_ctx_run(r->c);
    LK_TRY(distances_of(r, f, group, n, -1, &d));
    for (int k = 0; k < 3; k++) lk_run_final(run, lk_fmt(m, "%s.%s", stem, scores[k].key), d.v[k]);
    for (int g = 0; g < r->groups && r->groups > 2; g++) {
        LK_TRY(distances_of(r, f, group, n, g, &d));
        for (int k = 0; k < 3; k++) lk_run_final(run, lk_fmt(m, "%s.%s.without.%s", stem, scores[k].key, r->who[g]), d.v[k]);
    }
    return LK_OK;
}

/* ---- scoring frames ------------------------------------------------------------------------------------------------------- */
static lk_err write_strip(const char *path, const float *frames, int n) {        /* without gaps: read back bit for bit */
    lk_image strip = lk_image_new(LK_FRAME * n, LK_FRAME, 3);
    for (int i = 0; i < n; i++) for (int y = 0; y < LK_FRAME; y++) for (int x = 0; x < LK_FRAME; x++) for (int c = 0; c < 3; c++)
        strip.px[(y * strip.w + i * LK_FRAME + x) * 3 + c] = (uint8_t)frames[(size_t)i * LK_FRAME_SIZE + (size_t)(c * PIXELS + y * LK_FRAME + x)];
    lk_err e = lk_image_write_png(path, &strip);
    lk_image_free(&strip);
    return e;
}
/* real: frame i is photo i and is not compared with itself. */
static lk_err score(lk_rungs *r, const char *stem, const float *frames, int n, const int *group, const char *const *captions, bool real) {
    int dim = (int)r->studio.zoo.text.projection, wide = lk_recogniser_dim(LK_DLIB);
    lk_arena *m = lk_ctx_arena(r->c);
    lk_run *run = lk_ctx_run(r->c);
    features f;
    float *texts = lk_xmalloc(sizeof(float) * (size_t)(n * dim));
    double sum[LK_MAX_GROUPS][SCORES] = {{0}};
    int count[LK_MAX_GROUPS] = {0};
    lk_err e = features_of(r, frames, n, &f);
    if (!e) e = lk_zoo_embed_texts(&r->studio.zoo, r->studio.pool, captions, n, texts);
    for (int i = 0; i < n && !e; i++) {
        const float *frame = frames + (size_t)i * LK_FRAME_SIZE;
        double found;
        e = detected(r, frame, &found);
        if (e) break;
        double v[] = {group[i], lk_embedding_cosine(f.clip + i * dim, texts + i * dim, dim), likeness(r, f.dlib + i * wide, group[i], real ? i : -1), found, detail(frame)};
        lk_run_sample(run, 5, (const char *const[]){"group", "clip_t", "id", "detected", "detail"}, v, 3, (const char *const[]){"stem", "person", "prompt"},
                      (const char *const[]){stem, r->who[group[i]], captions[i]});
        sum[group[i]][3] += v[1]; sum[group[i]][4] += v[2]; sum[group[i]][5] += v[3]; sum[group[i]][7] += v[4];
        count[group[i]]++;
    }
    for (int g = 0; g < r->groups && !e; g++) for (int k = 3; k < SCORES; k++)
        if (count[g]) lk_run_final(run, lk_fmt(m, "%s.%s.of.%s", stem, scores[k].key, r->who[g]), k == 6 ? spread(&f, group, n, g) : sum[g][k] / count[g]);
    if (!e) e = final_distances(r, stem, &f, group, n);
    free(texts);
    features_free(&f);
    return e ? e : write_strip(lk_ctx_path(r->c, lk_fmt(m, "%s.png", stem)), frames, n);
}
static void round_to_bytes(float *v, size_t n) { for (size_t i = 0; i < n; i++) v[i] = v[i] <= 0 ? 0 : v[i] >= 255 ? 255 : (float)(uint8_t)(v[i] + 0.5f); }
/* One channel of side x side bytes to 64 x 64: each pixel the mean of what it covers, in integers. */
static void by_areas(const float *from, int side, float *to) {
    for (int y = 0; y < LK_FRAME; y++) for (int x = 0; x < LK_FRAME; x++) {
        int64_t sum = 0, area = (int64_t)side * side;                /* in units of 1/64 of a pixel each way */
        for (int v = y * side / LK_FRAME; v * LK_FRAME < (y + 1) * side; v++) for (int u = x * side / LK_FRAME; u * LK_FRAME < (x + 1) * side; u++) {
            int bottom = (v + 1) * LK_FRAME < (y + 1) * side ? (v + 1) * LK_FRAME : (y + 1) * side, top = v * LK_FRAME > y * side ? v * LK_FRAME : y * side;
            int right = (u + 1) * LK_FRAME < (x + 1) * side ? (u + 1) * LK_FRAME : (x + 1) * side, left = u * LK_FRAME > x * side ? u * LK_FRAME : x * side;
            sum += (int64_t)(bottom - top) * (right - left) * (int64_t)from[v * side + u];
        }
        to[y * LK_FRAME + x] = (float)((2 * sum + area) / (2 * area));
    }
}
static lk_err frames_of(lk_rungs *r, const float *latents, int n, int side, float *frames) {
    if (side == LK_ZOO_GRID) {
        LK_TRY(lk_zoo_decode(&r->studio.zoo, r->studio.pool, latents, n, frames));
        round_to_bytes(frames, (size_t)n * LK_FRAME_SIZE);
        return LK_OK;
    }
    int wide = side * LK_FRAME / LK_ZOO_GRID;
    size_t each = (size_t)(wide * wide);
    float *large = lk_xmalloc(sizeof *large * 3 * each * (size_t)n);
    lk_err e = lk_zoo_decode_sized(&r->studio.zoo, r->studio.pool, latents, n, side, side, large);
    if (!e) round_to_bytes(large, 3 * each * (size_t)n);
    for (int i = 0; i < 3 * n && !e; i++) by_areas(large + (size_t)i * each, wide, frames + (size_t)i * PIXELS);
    free(large);
    return e;
}
lk_err lk_rungs_score(lk_rungs *r, const char *stem, lk_sampler *sampler, lk_sampling how) { return lk_rungs_score_sized(r, stem, sampler, how, LK_ZOO_GRID); }
lk_err lk_rungs_score_sized(lk_rungs *r, const char *stem, lk_sampler *sampler, lk_sampling how, int side) {
    int n = r->groups * r->prompts;
    lk_arena *m = lk_ctx_arena(r->c);
    const char **with = lk_alloc(m, sizeof *with * (size_t)n), **without = lk_alloc(m, sizeof *without * (size_t)n);
    int *group = lk_alloc(m, sizeof *group * (size_t)n);
    for (int i = 0; i < n; i++) {
        int g = group[i] = i / r->prompts;
        without[i] = lk_fmt(m, "a photo of a %s%s", r->noun[g], lk_trial_prompts[i % r->prompts]);
        char *token = lk_zoo_person_token(r->who[g]), *named = lk_zoo_caption_with_token(without[i], token);
        with[i] = lk_strdup(m, named);
        free(token); free(named);
    }
    float *latents = lk_xmalloc(sizeof(float) * (size_t)(n * LK_ZOO_LATENT * side * side)), *frames = lk_xmalloc(sizeof(float) * (size_t)n * LK_FRAME_SIZE);
    double began = lk_wall_s();
    lk_err e = lk_sample(sampler, with, n, lk_ctx_seed(r->c), 0, how, latents);
    lk_run_inexact(lk_ctx_run(r->c), lk_fmt(m, "%s.ms", stem), 1e3 * (lk_wall_s() - began) / n, 1e12);       /* a time: any value agrees */
    if (!e) e = frames_of(r, latents, n, side, frames);
    if (!e) e = score(r, stem, frames, n, group, without, false);
    free(latents); free(frames);
    return e;
}
lk_err lk_rungs_score_photos(lk_rungs *r) {
    int n = r->photos.n;
    size_t size = (size_t)n * LK_FRAME_SIZE;
    const char **captions = lk_alloc(lk_ctx_arena(r->c), sizeof *captions * (size_t)n);
    for (int i = 0; i < n; i++) captions[i] = lk_dataset_at(r->studio.data, r->photos.photo[i])->text;
    float *frames = lk_xmalloc(sizeof(float) * size), *latents = lk_xmalloc(sizeof(float) * (size_t)n * LK_ZOO_LATENT_SIZE);
    memcpy(frames, r->photos.frame, sizeof(float) * size);
    round_to_bytes(frames, size);
    lk_err e = score(r, "photo", frames, n, r->of, captions, true);
    if (!e) e = lk_zoo_encode(&r->studio.zoo, r->studio.pool, r->photos.frame, n, latents);
    if (!e) e = lk_zoo_decode(&r->studio.zoo, r->studio.pool, latents, n, frames);
    if (!e) round_to_bytes(frames, size);
    if (!e) e = score(r, "ceiling", frames, n, r->of, captions, true);
    free(frames); free(latents);
    return e;
}
