/* One run of a personalisation experiment. */
#include "experiments/common/trial.h"
#include "base/exact_math.h"
#include "metrics/metrics.h"
#include "models/sheet.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const lk_trial_prompts[LK_TRIAL_PROMPTS] = {
    "", ", smiling", ", turned left", ", turned right", ", wearing glasses", ", looking up", ", mouth open", ", smiling, turned right",
    ", eyes closed", ", smiling, turned left", ", wearing glasses, smiling", ", looking down", ", wearing glasses, turned left", ", head tilted", ", mouth open, turned right", ", laughing"};
static const char *const targets[] = {"to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "conv1", "conv2", NULL};

lk_err lk_trial_open(lk_ctx *c, const char *dataset, lk_trial *t) {
    *t = (lk_trial){.c = c};
    lk_err e = lk_studio_open(dataset, lk_ctx_pool(c), &t->studio);
    if (!e) e = lk_person_open(&t->studio, lk_ctx_text(c, "subject"), &t->person);
    if (e) lk_trial_close(t);
    return e;
}
/* Which kernels did the work: contractions run so far in this process by each instruction set. Provenance, so no part of a digest. */
static void note_kernels(lk_ctx *c) {
    static const struct { lk_isa isa; const char *key; } sets[] = {{LK_ISA_SCALAR, "contractions_scalar"}, {LK_ISA_AVX2, "contractions_avx2"}, {LK_ISA_AVX512, "contractions_avx512"}};
    for (int i = 0; i < 3; i++) {
        const lk_backend *b;
        lk_err e = lk_backend_cpu(sets[i].isa, &b);
        if (!e) lk_run_provenance(lk_ctx_run(c), sets[i].key, lk_fmt(lk_ctx_arena(c), "%llu", (unsigned long long)lk_kernel_count(b)));
        lk_err_free(e);
    }
}
void lk_trial_close(lk_trial *t) {
    if (t->c) note_kernels(t->c);
    lk_sampler_free(t->sampler);
    free(t->latents);
    if (t->sampling_adapter) lk_adapter_free(t->sampling_adapter);
    lk_person_close(&t->person);
    lk_studio_close(&t->studio);
    *t = (lk_trial){0};
}
lk_lora_config lk_trial_lora(int rank) { return (lk_lora_config){.kind = LK_LORA, .r = rank, .alpha = rank, .targets = targets}; }
lk_personalise_opts lk_trial_training(lk_ctx *c) {
    int steps = (int)lk_ctx_int(c, "steps");
    return (lk_personalise_opts){.steps = steps, .batch = (int)lk_ctx_int(c, "batch"), .lr = lk_ctx_real(c, "lr"), .warmup = steps < 40 ? 1 : 20, .caption_dropout = 0.1, .weight_decay = 0.01, .clip = 1};
}
lk_sampling lk_trial_sampling(lk_ctx *c) { return (lk_sampling){(int)lk_ctx_int(c, "sample_steps"), lk_ctx_real(c, "guidance"), 0}; }

/* ---- training ------------------------------------------------------------------------------------------ */
static lk_err save_state(void *exec, int64_t step, const char *path) { return lk_checkpoint_save(exec, step, path); }
static lk_err train(lk_trial *t, lk_personaliser *p) {
    lk_ctx *c = t->c;
    int64_t step = 0, steps = lk_ctx_int(c, "steps");
    if (lk_ctx_resume(c, &step)) LK_TRY(lk_checkpoint_load(lk_personaliser_exec(p), lk_ctx_checkpoint_path(c), &step));
    while (step < steps) {
        double values[2];
        LK_TRY(lk_personaliser_step(p, step, &values[0], &values[1]));
        step++;
        lk_ctx_row(c, "train", step, 2, (const char *const[]){"loss", "grad_norm"}, values);
        lk_ctx_progress(c, step, steps, values[0]);
        if (lk_ctx_checkpoint_due(c, step)) LK_TRY(lk_ctx_checkpoint(c, step, save_state, lk_personaliser_exec(p)));
    }
    double ratio;
    LK_TRY(lk_personaliser_update_norm(p, &ratio));
    lk_run_final(lk_ctx_run(c), "update_ratio", ratio);
    lk_run_final(lk_ctx_run(c), "untrained", ratio < 1e-3);
    LK_TRY(lk_adapter_save(lk_personaliser_adapter(p), lk_personaliser_exec(p), lk_ctx_path(c, "adapter.safetensors")));
    return lk_adapter_save_config(lk_personaliser_adapter(p), lk_ctx_path(c, "adapter_config.json"));
}
lk_err lk_trial_adapter(lk_trial *t, int rank) {
    int batch = (int)lk_ctx_int(t->c, "prompts") < 8 ? (int)lk_ctx_int(t->c, "prompts") : 8;
    lk_run_column(lk_ctx_run(t->c), "train", "loss", "", "diffusion loss", "min");
    lk_run_column(lk_ctx_run(t->c), "train", "grad_norm", "", "gradient norm before clipping", "");
    if (rank > 0) t->sampling_adapter = lk_adapter_new(lk_trial_lora(rank), "");
    LK_TRY(lk_sampler_new(&t->studio.zoo, t->sampling_adapter, batch, t->studio.pool, &t->sampler));
    if (rank == 0) return LK_OK;
    lk_references refs = {2 * t->person.n_ref, t->person.ref_latents, t->person.ref_captions};
    lk_personaliser *p;
    LK_TRY(lk_personaliser_new(&t->studio.zoo, lk_trial_lora(rank), lk_trial_training(t->c), refs, lk_ctx_seed(t->c), t->studio.pool, &p));
    lk_err e = train(t, p);
    if (!e) e = lk_adapter_copy(t->sampling_adapter, lk_sampler_exec(t->sampler), lk_personaliser_adapter(p), lk_personaliser_exec(p));
    lk_personaliser_free(p);
    return e;
}

/* ---- scores ----------------------------------------------------------------------------------------------- */
static const struct { const char *name, *units, *about, *goal; } columns[] = {
    {"id_judge", "", "likeness to the test photos by dlib: 1 another photo of the person, 0 a stranger", "max"}, {"id_ref", "", "likeness to the reference photos by dlib", ""},
    {"witness", "", "cosine to the test photos by mobileface", "max"}, {"loss_net", "", "cosine to the test photos by mobilefacenet", ""},
    {"copy_paste", "", "copy-paste index: positive where nearer to the references than to the tests", "min"}, {"detected", "", "a face is found", "max"},
    {"id_aligned", "", "id_judge aligned anew by its own landmarks; 0 without a face", "max"}, {"clip_t", "", "cosine of picture and prompt by the zoo's CLIP", "max"},
    {"clip_i", "", "mean cosine to the test photos by the zoo's CLIP", ""}};
enum { COLUMNS = sizeof columns / sizeof *columns };

static void round_to_bytes(float *v, size_t n) { for (size_t i = 0; i < n; i++) v[i] = v[i] <= 0 ? 0 : v[i] >= 255 ? 255 : (float)(uint8_t)(v[i] + 0.5f); }
static double mean_cosine(const float *a, const float *b, int n, int dim, int skip) {
    double sum = 0;
    int count = 0;
    for (int i = 0; i < n; i++) if (i != skip) { sum += lk_embedding_cosine(a, b + i * dim, dim); count++; }
    return sum / count;
}
/* The pictures side by side without gaps: they are read back from this file bit for bit. */
static lk_err write_strip(const char *path, const float *frames, int n) {
    lk_image strip = lk_image_new(LK_FRAME * n, LK_FRAME, 3);
    for (int i = 0; i < n; i++) {
        lk_image im = lk_image_from_frame(frames + (size_t)i * LK_FRAME_SIZE, LK_FRAME, LK_FRAME);
        for (int y = 0; y < LK_FRAME; y++) memcpy(strip.px + (y * strip.w + i * LK_FRAME) * 3, im.px + y * LK_FRAME * 3, LK_FRAME * 3);
        lk_image_free(&im);
    }
    lk_err e = lk_image_write_png(path, &strip);
    lk_image_free(&strip);
    return e;
}
static lk_err diversity(lk_trial *t, const float *frames, int n) {
    if (n < 2) return LK_OK;
    lk_run *run = lk_ctx_run(t->c);
    lk_image *images = lk_xcalloc((size_t)n, sizeof *images);
    for (int i = 0; i < n; i++) images[i] = lk_image_from_frame(frames + (size_t)i * LK_FRAME_SIZE, LK_FRAME, LK_FRAME);
    lk_diversity d;
    lk_err e = lk_diversity_images(images, n, &d);
    for (int i = 0; i < n; i++) lk_image_free(&images[i]);
    free(images);
    int dim = lk_recogniser_dim(LK_DLIB), pairs = 0;
    float *embeddings = lk_xmalloc(sizeof(float) * (size_t)(n * dim));
    if (!e) e = lk_faces_embed_frames(t->studio.faces, LK_DLIB, frames, n, embeddings);
    double distance = 0;
    for (int i = 0; i < n && !e; i++) for (int j = 0; j < i; j++, pairs++) distance += lk_embedding_distance(embeddings + i * dim, embeddings + j * dim, dim);
    free(embeddings);
    if (e) return e;
    lk_run_final(run, "pairwise_l1", d.mean_l1);
    lk_run_final(run, "legacy_collapsed", d.legacy_collapsed);
    lk_run_final(run, "feature_distance", distance / pairs);
    return LK_OK;
}
lk_err lk_trial_score(lk_trial *t, const float *frames, int n, const char *const *captions, bool leave_out) {
    lk_run *run = lk_ctx_run(t->c);
    int dim = (int)t->studio.zoo.text.projection;
    lk_likeness_score *s = lk_xcalloc((size_t)n, sizeof *s);
    float *images = lk_xmalloc(sizeof(float) * (size_t)(n * dim)), *texts = lk_xmalloc(sizeof(float) * (size_t)(n * dim)), *tests = lk_xmalloc(sizeof(float) * (size_t)(t->person.n_test * dim));
    lk_err e = lk_likeness_of(t->person.likeness, frames, n, leave_out, s);
    if (!e) e = lk_zoo_embed_frames(&t->studio.zoo, t->studio.pool, frames, n, images);
    if (!e) e = lk_zoo_embed_frames(&t->studio.zoo, t->studio.pool, t->person.test.frame, t->person.n_test, tests);
    if (!e) e = lk_zoo_embed_texts(&t->studio.zoo, t->studio.pool, captions, n, texts);
    const char *names[COLUMNS + 1] = {"picture"};
    double mean[COLUMNS] = {0};
    for (int k = 0; k < COLUMNS; k++) names[k + 1] = columns[k].name;
    for (int i = 0; i < n && !e; i++) {
        double v[COLUMNS + 1] = {i, s[i].id_judge, s[i].id_ref, s[i].witness, s[i].loss_net, s[i].copy_paste, s[i].detected, s[i].id_aligned,
                                 lk_embedding_cosine(images + i * dim, texts + i * dim, dim), mean_cosine(images + i * dim, tests, t->person.n_test, dim, leave_out ? i : -1)};
        lk_run_sample(run, COLUMNS + 1, names, v, 2, (const char *const[]){"subject", "prompt"}, (const char *const[]){t->person.subject, captions[i]});
        for (int k = 0; k < COLUMNS; k++) mean[k] += v[k + 1] / n;
    }
    for (int k = 0; k < COLUMNS && !e; k++) lk_run_final(run, columns[k].name, mean[k]);
    free(s); free(images); free(texts); free(tests);
    if (!e) e = diversity(t, frames, n);
    return e ? e : write_strip(lk_ctx_path(t->c, "samples.png"), frames, n);
}
/* Test photos noised half way and denoised: fidelity to a photo never trained on. PSNR within the photo, SSIM (Wang 2004) of the frame. */
static lk_err reconstruction(lk_trial *t) {
    const lk_person *p = &t->person;
    int n = p->n_test;
    float *latents = lk_xmalloc(sizeof(float) * (size_t)n * LK_ZOO_LATENT_SIZE), *back = lk_xmalloc(sizeof(float) * (size_t)n * LK_FRAME_SIZE);
    const char **captions = lk_xcalloc((size_t)n, sizeof *captions);
    for (int i = 0; i < n; i++) captions[i] = t->tokenless ? lk_dataset_at(t->studio.data, p->test.photo[i])->text : p->test_captions[i];
    double psnr = 0, ssim = 0, *a = lk_xmalloc(sizeof(double) * LK_FRAME_SIZE), *b = lk_xmalloc(sizeof(double) * LK_FRAME_SIZE);
    lk_err e = lk_zoo_encode(&t->studio.zoo, t->studio.pool, p->test.frame, n, latents);
    if (!e) e = lk_sample_from(t->sampler, captions, n, lk_ctx_seed(t->c), 1000, lk_trial_sampling(t->c), 0.5, latents, latents);
    if (!e) e = lk_zoo_decode(&t->studio.zoo, t->studio.pool, latents, n, back);
    if (!e) round_to_bytes(back, (size_t)n * LK_FRAME_SIZE);
    for (int i = 0; i < n && !e; i++) {
        double sum = 0, weight = 0, one;
        enum { PIXELS = LK_FRAME * LK_FRAME };
        for (int k = 0; k < LK_FRAME_SIZE; k++) {
            size_t at = (size_t)i * LK_FRAME_SIZE + (size_t)k, hwc = (size_t)(k % PIXELS * 3 + k / PIXELS);
            double in = p->test.inside[i * PIXELS + k % PIXELS], d = (double)back[at] - p->test.frame[at];
            sum += in * d * d;
            weight += in;
            a[hwc] = back[at];
            b[hwc] = p->test.frame[at];
        }
        psnr += 10 * lk_log_d(255 * 255 * weight / sum) / 2.302585092994046 / n;
        e = lk_ssim(lk_ssim_find("wang04"), a, b, LK_FRAME, LK_FRAME, 3, 255, t->studio.pool, &one);
        ssim += one / n;
    }
    free(latents); free(back); free(a); free(b); free(captions);
    if (e) return e;
    lk_run_final(lk_ctx_run(t->c), "recon_psnr", psnr);
    lk_run_final(lk_ctx_run(t->c), "recon_ssim_wang04", ssim);
    return LK_OK;
}
lk_err lk_trial_generated(lk_trial *t) {
    int n = (int)lk_ctx_int(t->c, "prompts");
    const char *with[LK_TRIAL_PROMPTS], *without[LK_TRIAL_PROMPTS];
    for (int i = 0; i < n; i++) {
        with[i] = lk_person_prompt(&t->person, lk_trial_prompts[i], !t->tokenless);
        without[i] = lk_person_prompt(&t->person, lk_trial_prompts[i], false);
    }
    float *latents = lk_xmalloc(sizeof(float) * (size_t)n * LK_ZOO_LATENT_SIZE), *frames = lk_xmalloc(sizeof(float) * (size_t)n * LK_FRAME_SIZE);
    lk_err e = lk_sample(t->sampler, with, n, lk_ctx_seed(t->c), 0, lk_trial_sampling(t->c), latents);
    if (!e) e = lk_zoo_decode(&t->studio.zoo, t->studio.pool, latents, n, frames);
    if (!e) round_to_bytes(frames, (size_t)n * LK_FRAME_SIZE);
    if (!e) e = lk_trial_score(t, frames, n, without, false);
    if (!e) e = reconstruction(t);
    t->latents = latents;
    free(frames);
    return e;
}

/* ---- controls ---------------------------------------------------------------------------------------------- */
lk_err lk_trial_strangers(const lk_trial *t, int n, float *frames) {
    const char *const *names;
    int people = lk_dataset_subjects(t->studio.data, "personal", &names), me = 0;
    while (me < people && strcmp(names[me], t->person.subject)) me++;
    for (int i = 0; i < n; i++) {
        int k;
        const int *photos = lk_dataset_photos(t->studio.data, names[(me + 1 + i) % people], "test", &k);
        lk_face_set one;
        LK_TRY(lk_face_set_new(t->studio.faces, t->studio.data, photos, 1, &one));
        memcpy(frames + (size_t)i * LK_FRAME_SIZE, one.frame, sizeof(float) * LK_FRAME_SIZE);
        lk_face_set_free(&one);
    }
    return LK_OK;
}
lk_err lk_trial_control(lk_trial *t, const char *control) {
    const lk_person *p = &t->person;
    bool copy = !strcmp(control, "copy"), ceiling = !strcmp(control, "ceiling"), impostor = !strcmp(control, "impostor");
    int n = copy ? p->n_ref : p->n_test;
    const lk_face_set *own = copy ? &p->ref : &p->test;
    float *frames = lk_xmalloc(sizeof(float) * (size_t)n * LK_FRAME_SIZE);
    const char **captions = lk_xcalloc((size_t)n, sizeof *captions);
    for (int i = 0; i < n; i++) captions[i] = lk_dataset_at(t->studio.data, own->photo[i])->text;
    memcpy(frames, own->frame, sizeof(float) * (size_t)n * LK_FRAME_SIZE);
    lk_err e = LK_OK;
    if (impostor) e = lk_trial_strangers(t, n, frames);
    if (ceiling) {
        float *latents = lk_xmalloc(sizeof(float) * (size_t)n * LK_ZOO_LATENT_SIZE);
        e = lk_zoo_encode(&t->studio.zoo, t->studio.pool, frames, n, latents);
        if (!e) e = lk_zoo_decode(&t->studio.zoo, t->studio.pool, latents, n, frames);
        free(latents);
    }
    round_to_bytes(frames, (size_t)n * LK_FRAME_SIZE);
    if (!e) e = lk_trial_score(t, frames, n, captions, !copy && !impostor);
    free(frames); free(captions);
    return e;
}
lk_err lk_trial_memory(lk_ctx *c, int rank) {
    if (rank == 0) return LK_OK;
    lk_zoo zoo;
    LK_TRY(lk_zoo_open("models/zoo", "vae clip unet", &zoo));
    lk_personaliser *p = NULL;
    lk_err e = lk_personaliser_new(&zoo, lk_trial_lora(rank), lk_trial_training(c), (lk_references){0}, 0, NULL, &p);
    const lk_val *outputs;
    if (!e) { lk_graph *g = lk_personaliser_graph(p, &outputs); e = lk_ctx_plan(c, "training step", g, outputs, 2); }
    lk_personaliser_free(p);
    lk_zoo_close(&zoo);
    return e;
}
