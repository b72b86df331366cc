/* What the zoo can do, on the 12 people it has never seen: numbers for models/zoo/README.md and a sheet of samples.
 *   build/bin/zoo-report [dir=models/zoo] [parts="vae clip unet"] [sheet=FILE.png]
 * autoencoder: PSNR within the photo, dlib distance and mobilefacenet cosine between a photo and its reconstruction;
 * CLIP: captions retrieved for 120 held-out photos; base: detection rate of samples. */
#include "models/face_set.h"
#include "models/sampler.h"
#include "models/sheet.h"
#include "base/exact_math.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { lk_pool *pool; lk_dataset *data; lk_faces *faces; lk_face_set set; lk_zoo zoo; } world;

static void round_to_bytes(float *v, size_t n) { for (size_t i = 0; i < n; i++) v[i] = v[i] <= 0 ? 0 : v[i] >= 255 ? 255 : (float)(uint8_t)(v[i] + 0.5f); }
static lk_err autoencoder(world *w, const char *sheet) {
    int n = w->set.n;
    size_t size = (size_t)n * LK_FRAME_SIZE;
    float *latents = lk_xmalloc(sizeof(float) * (size_t)n * LK_ZOO_LATENT_SIZE), *back = lk_xmalloc(sizeof(float) * size);
    LK_TRY(lk_zoo_encode(&w->zoo, w->pool, w->set.frame, n, latents));
    LK_TRY(lk_zoo_decode(&w->zoo, w->pool, latents, n, back));
    round_to_bytes(back, size);
    double psnr = 0;
    for (int i = 0; i < n; i++) {
        double sum = 0, weight = 0;
        for (int k = 0; k < LK_FRAME_SIZE; k++) {
            double in = w->set.inside[(size_t)i * LK_FRAME * LK_FRAME + (size_t)(k % (LK_FRAME * LK_FRAME))], d = (double)back[(size_t)i * LK_FRAME_SIZE + (size_t)k] - w->set.frame[(size_t)i * LK_FRAME_SIZE + (size_t)k];
            sum += in * d * d;
            weight += in;
        }
        psnr += 10 * lk_log_d(255 * 255 * weight / sum) / 2.302585092994046;
    }
    printf("autoencoder: %d photos of people never seen: PSNR within the photo %.2f dB\n", n, psnr / n);
    for (int r = 0; r < LK_RECOGNISERS; r++) {
        int dim = lk_recogniser_dim((lk_recogniser)r);
        float *a = lk_xmalloc(sizeof(float) * (size_t)(n * dim)), *b = lk_xmalloc(sizeof(float) * (size_t)(n * dim));
        LK_TRY(lk_faces_embed_frames(w->faces, (lk_recogniser)r, w->set.frame, n, a));
        LK_TRY(lk_faces_embed_frames(w->faces, (lk_recogniser)r, back, n, b));
        double sum = 0;
        for (int i = 0; i < n; i++) sum += lk_recogniser_similarity((lk_recogniser)r, a + i * dim, b + i * dim);
        printf("autoencoder: photo to its reconstruction by %s: %s %.3f\n", lk_recogniser_name((lk_recogniser)r), r == LK_DLIB ? "distance" : "cosine", r == LK_DLIB ? -sum / n : sum / n);
        free(a); free(b);
    }
    const float *cells[24];
    for (int i = 0; i < 12; i++) { cells[i] = w->set.frame + (size_t)(i * 10) * LK_FRAME_SIZE; cells[12 + i] = back + (size_t)(i * 10) * LK_FRAME_SIZE; }
    lk_err e = LK_OK;
    if (sheet) {
        lk_image im = lk_frames_sheet(cells, 2, 12, LK_FRAME, LK_FRAME, 2);
        char *path = lk_xfmt("%s.autoencoder.png", sheet);
        e = lk_image_write_png(path, &im);
        free(path);
        lk_image_free(&im);
    }
    free(latents); free(back);
    return e;
}
static lk_err clip(world *w) {
    int n = w->set.n, dim = (int)w->zoo.text.projection, captions = 0;
    const char **text = lk_xcalloc((size_t)n, sizeof *text);
    int *own = lk_xcalloc((size_t)n, sizeof *own);
    for (int i = 0; i < n; i++) {
        const char *t = lk_dataset_at(w->data, w->set.photo[i])->text;
        int k = 0;
        while (k < captions && strcmp(text[k], t)) k++;
        if (k == captions) text[captions++] = t;
        own[i] = k;
    }
    float *images = lk_xmalloc(sizeof(float) * (size_t)(n * dim)), *texts = lk_xmalloc(sizeof(float) * (size_t)(captions * dim));
    LK_TRY(lk_zoo_embed_frames(&w->zoo, w->pool, w->set.frame, n, images));
    LK_TRY(lk_zoo_embed_texts(&w->zoo, w->pool, text, captions, texts));
    int top1 = 0, top5 = 0;
    for (int i = 0; i < n; i++) {
        double mine = lk_embedding_cosine(images + i * dim, texts + own[i] * dim, dim);
        int better = 0;
        for (int k = 0; k < captions; k++) better += lk_embedding_cosine(images + i * dim, texts + k * dim, dim) > mine;
        top1 += better < 1;
        top5 += better < 5;
    }
    printf("clip: %d held-out photos, %d distinct captions: right caption first %.1f %%, among five %.1f %% (chance %.1f, %.1f)\n", n, captions, 100.0 * top1 / n, 100.0 * top5 / n,
           100.0 / captions, 500.0 / captions);
    free(text); free(own); free(images); free(texts);
    return LK_OK;
}
static lk_err base(world *w, const char *sheet) {
    enum { ROWS = 6, COLUMNS = 16, N = ROWS * COLUMNS };
    static const char *const prompts[ROWS] = {"a photo of a man with short dark hair", "a photo of a man with short dark hair, wearing glasses", "a photo of a woman with long dark hair, smiling",
                                              "a photo of a <s02> man", "a photo of a <s11> man", "a photo of a <s35> woman"};
    const char *text[N];
    for (int i = 0; i < N; i++) text[i] = prompts[i / COLUMNS];
    lk_sampler *s;
    float *latents = lk_xmalloc(sizeof(float) * N * LK_ZOO_LATENT_SIZE), *frames = lk_xmalloc(sizeof(float) * N * LK_FRAME_SIZE);
    LK_TRY(lk_sampler_new(&w->zoo, NULL, 8, w->pool, &s));
    double began = lk_wall_s();
    LK_TRY(lk_sample(s, text, N, 1, 0, (lk_sampling){25, 2, 0}, latents));
    double took = lk_wall_s() - began;
    LK_TRY(lk_zoo_decode(&w->zoo, w->pool, latents, N, frames));
    int found = 0;
    const float *cells[N];
    for (int i = 0; i < N; i++) {
        lk_face face;
        bool yes;
        lk_image im = lk_image_from_frame(frames + (size_t)i * LK_FRAME_SIZE, LK_FRAME, LK_FRAME);
        LK_TRY(lk_faces_find(w->faces, &im, 96, 0.3, &face, &yes));
        lk_image_free(&im);
        found += yes;
        cells[i] = frames + (size_t)i * LK_FRAME_SIZE;
    }
    printf("base: %d samples (25 DDIM steps, guidance 2): a face is detected in %.1f %%; %.2f s a picture\n", N, 100.0 * found / N, took / N);
    lk_err e = LK_OK;
    if (sheet) {
        lk_image im = lk_frames_sheet(cells, ROWS, COLUMNS, LK_FRAME, LK_FRAME, 1);
        char *path = lk_xfmt("%s.base.png", sheet);
        e = lk_image_write_png(path, &im);
        free(path);
        lk_image_free(&im);
    }
    lk_sampler_free(s);
    free(latents); free(frames);
    return e;
}
static lk_err run(int argc, char **argv) {
    const char *dir = "models/zoo", *parts = "vae clip unet", *sheet = NULL;
    for (int i = 1; i < argc; i++) {
        if (lk_starts(argv[i], "dir=")) dir = argv[i] + 4;
        else if (lk_starts(argv[i], "parts=")) parts = argv[i] + 6;
        else if (lk_starts(argv[i], "sheet=")) sheet = argv[i] + 6;
        else return lk_error(LK_EINPUT, "'%s': expected dir=, parts= or sheet=", argv[i]);
    }
    world w = {.pool = lk_pool_new(lk_default_threads())};
    LK_TRY(lk_dataset_load("datasets/orl", &w.data));
    LK_TRY(lk_faces_new("models/faces", w.pool, &w.faces));
    LK_TRY(lk_face_set_split(w.faces, w.data, "personal", &w.set));
    LK_TRY(lk_zoo_open(dir, parts, &w.zoo));
    if (strstr(parts, "vae")) LK_TRY(autoencoder(&w, sheet));
    if (strstr(parts, "clip")) LK_TRY(clip(&w));
    if (strstr(parts, "unet")) LK_TRY(base(&w, sheet));
    lk_zoo_close(&w.zoo);
    lk_face_set_free(&w.set);
    lk_faces_free(w.faces);
    lk_dataset_free(w.data);
    lk_pool_free(w.pool);
    return LK_OK;
}
int main(int argc, char **argv) { return lk_err_report(run(argc, argv)); }
