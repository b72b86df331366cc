/* The student's adapter beside a person's. */
#include "experiments/common/transfer.h"
#include "experiments/common/trial.h"
#include "train/distil.h"
#include <stdlib.h>
#include <string.h>

const char *const lk_transfer_how[LK_TRANSFER_HOW] = {"many", "few", "both", "student"};
enum { MANY, FEW, BOTH, STUDENT, STEPS = 4 };

typedef struct {
    lk_studio *studio; lk_ctx *c; lk_person person;
    const lk_adapter *student; lk_exec *student_exec;
    lk_personaliser *personaliser;
} transfer;

static lk_err personalise(transfer *t) {
    lk_ctx *c = t->c;
    int steps = (int)lk_ctx_int(c, "transfer_steps");
    lk_personalise_opts o = {.steps = steps, .batch = 4, .lr = 0.004, .warmup = steps < 40 ? 1 : 20, .caption_dropout = 0.1, .weight_decay = 0.01, .clip = 1};
    lk_references refs = {2 * t->person.n_ref, t->person.ref_latents, t->person.ref_captions};
    LK_TRY(lk_personaliser_new(&t->studio->zoo, lk_trial_lora((int)lk_ctx_int(c, "rank_person")), o, refs, lk_ctx_seed(c), t->studio->pool, &t->personaliser));
    for (int step = 0; step < steps; step++) {
        double loss, norm;
        LK_TRY(lk_personaliser_step(t->personaliser, step, &loss, &norm));
        if (step % 20 == 0) LK_TRY(lk_ctx_check(c));
    }
    return LK_OK;
}
static lk_err sample(transfer *t, int how, int n, const char *const *prompts, float *latents) {
    lk_ctx *c = t->c;
    lk_adapter *own = how == STUDENT ? NULL : lk_adapter_new(lk_trial_lora((int)lk_ctx_int(c, "rank_person")), "");
    lk_adapter *distilled = how < BOTH ? NULL : lk_adapter_new(lk_distil_lora((int)lk_ctx_int(c, "rank")), "student/");
    lk_adapter *several[2];
    int count = 0;
    if (own) several[count++] = own;
    if (distilled) several[count++] = distilled;
    lk_sampler *s = NULL;
    lk_err e = how < BOTH ? lk_sampler_new(&t->studio->zoo, own, n < 8 ? n : 8, t->studio->pool, &s) : lk_sampler_new_plain(&t->studio->zoo, several, count, n < 8 ? n : 8, t->studio->pool, &s);
    if (!e && own) e = lk_adapter_copy(own, lk_sampler_exec(s), lk_personaliser_adapter(t->personaliser), lk_personaliser_exec(t->personaliser));
    if (!e && distilled) e = lk_adapter_copy(distilled, lk_sampler_exec(s), t->student, t->student_exec);
    int steps = how == MANY ? (int)lk_ctx_int(c, "teacher_steps") : STEPS;
    if (!e) e = lk_sample(s, prompts, n, lk_ctx_seed(c), 0, (lk_sampling){steps, how < BOTH ? lk_ctx_real(c, "guidance") : 1, 0, NULL}, latents);
    lk_sampler_free(s);
    lk_adapter_free(own);
    lk_adapter_free(distilled);
    return e;
}
static lk_err score(transfer *t, int how) {
    int n = (int)lk_ctx_int(t->c, "transfer_prompts"), dim = (int)t->studio->zoo.text.projection;
    lk_arena *m = lk_ctx_arena(t->c);
    lk_run *run = lk_ctx_run(t->c);
    const char *with[LK_TRIAL_PROMPTS], *without[LK_TRIAL_PROMPTS];
    for (int i = 0; i < n; i++) { with[i] = lk_person_prompt(&t->person, lk_trial_prompts[i], true); without[i] = lk_person_prompt(&t->person, lk_trial_prompts[i], false); }
    float *latents = lk_xmalloc(sizeof(float) * (size_t)n * LK_ZOO_LATENT_SIZE), *frames = lk_xmalloc(sizeof(float) * (size_t)n * LK_FRAME_SIZE);
    float *images = lk_xmalloc(sizeof(float) * (size_t)(n * dim)), *texts = lk_xmalloc(sizeof(float) * (size_t)(n * dim));
    lk_likeness_score *s = lk_xcalloc((size_t)n, sizeof *s);
    lk_err e = sample(t, how, n, with, latents);
    if (!e) e = lk_zoo_decode(&t->studio->zoo, t->studio->pool, latents, n, frames);
    if (!e) e = lk_likeness_of(t->person.likeness, frames, n, false, s);
    if (!e) e = lk_zoo_embed_frames(&t->studio->zoo, t->studio->pool, frames, n, images);
    if (!e) e = lk_zoo_embed_texts(&t->studio->zoo, t->studio->pool, without, n, texts);
    double sum[3] = {0};
    for (int i = 0; i < n && !e; i++) {
        double v[] = {-1, lk_embedding_cosine(images + i * dim, texts + i * dim, dim), s[i].id_judge, s[i].detected, 0};
        lk_run_sample(run, 5, (const char *const[]){"group", "clip_t", "id", "detected", "detail"}, v, 3, (const char *const[]){"stem", "person", "prompt"},
                      (const char *const[]){lk_transfer_how[how], t->person.subject, without[i]});
        sum[0] += v[2]; sum[1] += v[3]; sum[2] += v[1];
    }
    static const char *const keys[3] = {"id", "detected", "clip_t"};
    for (int k = 0; k < 3 && !e; k++) lk_run_final(run, lk_fmt(m, "transfer.%s.%s.of.%s", lk_transfer_how[how], keys[k], t->person.subject), sum[k] / n);
    free(latents); free(frames); free(images); free(texts); free(s);
    return e;
}
lk_err lk_transfer_people(lk_studio *studio, lk_ctx *c, const lk_adapter *student, lk_exec *student_exec) {
    const char *const *names;
    int all = lk_dataset_subjects(studio->data, "personal", &names), people = (int)lk_ctx_int(c, "transfer_people");
    lk_err e = LK_OK;
    for (int p = 0; p < people && p < all && !e; p++) {
        transfer t = {.studio = studio, .c = c, .student = student, .student_exec = student_exec};
        e = lk_person_open(studio, names[p], &t.person);
        if (!e) e = personalise(&t);
        for (int how = 0; how < LK_TRANSFER_HOW && !e; how++) e = score(&t, how);
        lk_personaliser_free(t.personaliser);
        lk_person_close(&t.person);
    }
    return e;
}
