/* Running a distillation: what each step draws, the teacher's chain, stages opening one after the other. */
#include "train/distil_internal.h"
#include "models/discriminator.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct lk_distiller {
    const lk_zoo *zoo; lk_distil_plan plan; lk_references refs; uint64_t seed; lk_pool *pool;
    lk_scheduler *scheduler;                     /* the zoo's */
    double final_alpha, final_sigma;             /* where a chain ends: the schedule's first level, as the zoo's config says */
    float *context; int64_t width;               /* hidden states of each caption, and at [refs.n] of the empty one: width floats each */
    int open;                                    /* the stage at work; -1 before the first */
    lk_distil_step step;
    lk_distil_teacher plain, guided;             /* made when a stage first needs them */
};

/* ---- opening -------------------------------------------------------------------------------------------------- */
static lk_err encode_captions(lk_distiller *d) {
    d->width = (int64_t)LK_ZOO_TOKENS * d->zoo->text.hidden;
    d->context = lk_xmalloc(sizeof(float) * (size_t)((d->refs.n + 1) * d->width));
    LK_TRY(lk_zoo_hidden_texts(d->zoo, d->pool, d->refs.captions, d->refs.n, d->context));
    return lk_zoo_hidden_texts(d->zoo, d->pool, (const char *const[]){""}, 1, d->context + d->refs.n * d->width);
}
lk_err lk_distiller_new(const lk_zoo *z, lk_distil_plan plan, lk_references refs, uint64_t seed, lk_pool *pool, lk_distiller **out) {
    LK_TRY(lk_distil_check(&plan, LK_PREDICT_V));                   /* as the zoo's schedule says */
    lk_distiller *d = lk_xcalloc(1, sizeof *d);
    *d = (lk_distiller){.zoo = z, .plan = plan, .refs = refs, .seed = seed, .pool = pool, .open = -1};
    lk_err e = lk_scheduler_parse("DDIMScheduler", lk_zoo_scheduler, &d->scheduler);
    if (!e) e = lk_scheduler_marginal(d->scheduler, 0, &d->final_alpha, &d->final_sigma);
    if (!e && refs.n) e = encode_captions(d);
    if (e) { lk_distiller_free(d); return e; }
    *out = d;
    return LK_OK;
}
void lk_distiller_free(lk_distiller *d) {
    if (!d) return;
    lk_distil_teacher_free(&d->plain);
    lk_distil_teacher_free(&d->guided);
    lk_distil_step_free(&d->step);
    lk_scheduler_free(d->scheduler);
    free(d->context);
    free(d);
}
lk_adapter *lk_distiller_adapter(const lk_distiller *d) { return d->step.student; }
lk_exec *lk_distiller_exec(const lk_distiller *d) { return d->step.x; }
int lk_distiller_stage_at(const lk_distiller *d, int64_t step) {
    int i = 0;
    for (int64_t end = d->plan.stage[0].iterations; i + 1 < d->plan.n && step >= end; end += d->plan.stage[++i].iterations) {}
    return i;
}
static int64_t stage_start(const lk_distiller *d, int stage) {
    int64_t n = 0;
    for (int i = 0; i < stage; i++) n += d->plan.stage[i].iterations;
    return n;
}
lk_err lk_distiller_graph(lk_distiller *d, int stage, lk_graph **g, const lk_val **outputs, int *n) {
    lk_distil_step_free(&d->step);
    d->open = -1;
    LK_TRY(lk_distil_step_build(d->zoo, &d->plan, stage, &d->step));
    *g = d->step.g;
    *outputs = d->step.outputs;
    *n = d->step.n_outputs;
    return LK_OK;
}

/* ---- a stage begins ----------------------------------------------------------------------------------------------- */
static lk_err copy_values(lk_exec *to, lk_val dst, lk_exec *from, lk_val src) {
    int64_t n = lk_numel(lk_shape_of(lk_exec_graph(from), src));
    float *v = lk_xmalloc(sizeof(float) * (size_t)n);
    lk_err e = lk_exec_get(from, src, v, n);
    if (!e) e = lk_exec_set(to, dst, v, n);
    free(v);
    return e;
}
static lk_err open_pixels(lk_distiller *d, int stage) {            /* frozen decoder and vision tower, a new head */
    static const char *const only_vision[] = {"text_model.", "text_projection.", "visual_projection.", "logit_scale", NULL};
    LK_TRY(lk_weights_init(d->step.x, "critic/", d->seed + (uint64_t)stage, NULL));
    LK_TRY(lk_weights_bind(d->step.x, d->zoo->vae_weights, "vae/", lk_vae_without_encoder));
    return lk_weights_bind(d->step.x, d->zoo->clip_weights, "clip/", only_vision);
}
static lk_err allocate(lk_distiller *d, int stage) {
    const lk_distil_stage *st = &d->plan.stage[stage];
    lk_distil_step *s = &d->step;
    bool own = lk_distil_own(&d->plan, stage);
    LK_TRY(lk_distil_step_build(d->zoo, &d->plan, stage, s));
    LK_TRY(lk_exec_new(s->g, s->outputs, s->n_outputs, (lk_exec_opts){.pool = d->pool}, &s->x));
    LK_TRY(own ? lk_weights_set(s->x, d->zoo->unet_weights, "", NULL) : lk_weights_bind(s->x, d->zoo->unet_weights, "", NULL));
    if (s->student) LK_TRY(lk_adapter_init(s->student, s->x, d->seed));
    if (s->fake) LK_TRY(lk_adapter_init(s->fake, s->x, d->seed));
    if (st->kind == LK_DISTIL_ADVERSARIAL) LK_TRY(lk_discriminator_start(s->x, d->zoo->unet_weights, "critic/", d->seed + (uint64_t)stage));   /* anew at every stage */
    if (st->kind == LK_DISTIL_PIXELS) LK_TRY(open_pixels(d, stage));
    lk_distil_teacher *t = st->base_teacher ? &d->guided : &d->plain;
    if (!t->g) LK_TRY(lk_distil_teacher_new(d->zoo, st->base_teacher || own ? 0 : d->plan.rank, d->plan.batch, st->base_teacher || st->guided_student, d->pool, t));
    if (st->base_teacher) return LK_OK;
    const lk_val *params = NULL;
    int n = own ? s->n_teacher : lk_adapter_params(d->plain.adapter, d->plain.g, &params);
    for (int i = 0; i < n && i < s->n_teacher; i++)
        LK_TRY(lk_exec_share(d->plain.x, own ? lk_find(d->plain.g, lk_graph_node(s->g, s->weights[i])->name) : params[i], s->x, s->teacher[i]));
    return LK_OK;
}
/* A UNet's weights, and an adapter merged into them. */
static lk_err absorb(const lk_distil_step *s, lk_exec *to, lk_exec *from, const lk_adapter *adapter) {
    for (int i = 0; i < s->n_weights; i++) {
        const char *name = lk_graph_node(s->g, s->weights[i])->name;
        LK_TRY(copy_values(to, lk_find(lk_exec_graph(to), name), from, lk_find(lk_exec_graph(from), name)));
    }
    return adapter ? lk_adapter_merge(adapter, from, 1, to) : LK_OK;
}
/* Into a stage whose student has its own weights. A full stage takes in the LoRA; a LoRA goes on, or starts anew after a full stage. */
static lk_err inherit_weights(lk_distiller *d, const lk_distil_stage *st, const lk_distil_step *before, const lk_distil_teacher *taught) {
    lk_distil_step *s = &d->step;
    LK_TRY(absorb(s, s->x, before->x, st->full ? before->student : NULL));
    if (!st->full && before->student) LK_TRY(lk_adapter_copy(s->student, s->x, before->student, before->x));
    if (st->base_teacher) return LK_OK;
    return st->keep_teacher ? absorb(s, d->plain.x, taught->x, taught->adapter) : absorb(s, d->plain.x, before->x, before->student);
}
static lk_err inherit_adapter(lk_distiller *d, const lk_distil_stage *st, const lk_distil_step *before) {
    const lk_val *was = NULL;
    LK_TRY(lk_adapter_copy(d->step.student, d->step.x, before->student, before->x));
    lk_adapter_params(before->student, before->g, &was);
    for (int i = 0; i < d->step.n_teacher; i++) LK_TRY(copy_values(d->step.x, d->step.teacher[i], before->x, st->keep_teacher ? before->teacher[i] : was[i]));
    return LK_OK;
}
/* The student begins to answer with x0. */
static lk_err turn_sign(lk_distil_step *s) {
    static const char *const names[] = {"conv_out.weight", "conv_out.bias"};
    for (int i = 0; i < 2; i++) {
        lk_val w = lk_find(s->g, names[i]);
        int64_t n = lk_numel(lk_shape_of(s->g, w));
        float *v = lk_xmalloc(sizeof *v * (size_t)n);
        lk_err e = lk_exec_get(s->x, w, v, n);
        for (int64_t k = 0; k < n; k++) v[k] = -v[k];
        if (!e) e = lk_exec_set(s->x, w, v, n);
        free(v);
        if (e) return e;
    }
    return LK_OK;
}
/* The student goes on from where it was; the teacher becomes what the student was, unless the last one is kept. Moments start at zero. */
static lk_err open_stage(lk_distiller *d, int stage) {
    const lk_distil_stage *st = &d->plan.stage[stage];
    lk_distil_step before = d->step;
    lk_distil_teacher taught = d->plain;                            /* shares the last stage's storage */
    bool first = d->open < 0;
    d->step = (lk_distil_step){0};
    d->plain = (lk_distil_teacher){0};
    lk_err e = allocate(d, stage);
    if (!e && !first) e = lk_distil_own(&d->plan, stage) ? inherit_weights(d, st, &before, &taught) : inherit_adapter(d, st, &before);
    if (!e && st->x0 && (stage == 0 || !d->plan.stage[stage - 1].x0)) e = turn_sign(&d->step);
    lk_distil_teacher_free(&taught);
    lk_distil_step_free(&before);
    d->open = stage;
    return e;
}

/* ---- what a step sees ------------------------------------------------------------------------------------------------ */
enum { B = 64 };                                                  /* the largest batch */
typedef struct {
    int k[B]; double t[B], next[B];                               /* place in the student's chain; its timestep and the next; -1: the chain's end */
    float *x, *landing, *context; int caption[B], reference[B];
} drawn;
static lk_err level(const lk_distiller *d, double t, double *alpha, double *sigma) {
    if (t < 0) { *alpha = d->final_alpha; *sigma = d->final_sigma; return LK_OK; }
    return lk_scheduler_marginal(d->scheduler, t, alpha, sigma);
}
static lk_err chain(lk_distiller *d, int steps, double *t) {
    LK_TRY(lk_scheduler_set_timesteps(d->scheduler, steps, (lk_timestep_opts){0}));
    memcpy(t, lk_scheduler_timesteps(d->scheduler), sizeof *t * (size_t)steps);
    t[steps] = -1;
    return LK_OK;
}
static uint64_t key(const lk_distiller *d, const char *stream) { return lk_stream_key(d->seed, stream); }
static void noise(uint64_t stream, int64_t step, int sample, float *out) {
    for (int j = 0; j < LK_ZOO_LATENT_SIZE; j++) out[j] = lk_philox_normal(stream, (uint64_t)step, (uint32_t)sample, (uint64_t)j);
}
static lk_err draw(lk_distiller *d, const lk_distil_stage *st, int64_t step, const double *student, int places, drawn *w) {
    uint64_t pick = key(d, "distil.pick"), where = key(d, "distil.timestep"), drop = key(d, "distil.caption"), noises = key(d, "distil.noise");
    for (int b = 0; b < d->plan.batch; b++) {
        int r = (int)lk_philox_below(pick, (uint64_t)step, (uint32_t)b, 0, (uint32_t)d->refs.n);
        w->k[b] = (int)lk_philox_below(where, (uint64_t)step, (uint32_t)b, 0, (uint32_t)places);
        w->t[b] = student[w->k[b]];
        w->next[b] = student[w->k[b] + 1];
        w->reference[b] = r;
        w->caption[b] = lk_philox_uniform(drop, (uint64_t)step, (uint32_t)b, 0) < 0.1f ? d->refs.n : r;
        memcpy(w->context + b * d->width, d->context + w->caption[b] * d->width, sizeof(float) * (size_t)d->width);
        float *x = w->x + (size_t)b * LK_ZOO_LATENT_SIZE;
        const float *clean = d->refs.latents + (size_t)r * LK_ZOO_LATENT_SIZE;
        double alpha, sigma;
        LK_TRY(level(d, w->t[b], &alpha, &sigma));
        noise(noises, step, b, x);
        if (st->pure_noise && w->k[b] == 0) continue;
        for (int j = 0; j < LK_ZOO_LATENT_SIZE; j++) x[j] = (float)alpha * clean[j] + (float)sigma * x[j];
    }
    return LK_OK;
}
/* Every sample from `from` to `to` by one prediction at `from`. */
static lk_err jump_all(const lk_distiller *d, lk_predict what, const double *from, const double *to, const float *m, float *x) {
    for (int b = 0; b < d->plan.batch; b++) {
        double a, s, a2, s2;
        LK_TRY(level(d, from[b], &a, &s));
        LK_TRY(level(d, to[b], &a2, &s2));
        lk_jump j = lk_jump_between(what, a, s, a2, s2);
        const float on_x = (float)j.on_x, on_m = (float)j.on_prediction;
        for (size_t i = (size_t)b * LK_ZOO_LATENT_SIZE; i < (size_t)(b + 1) * LK_ZOO_LATENT_SIZE; i++) x[i] = on_x * x[i] + on_m * m[i];
    }
    return LK_OK;
}
static double guidance_of(const lk_distiller *d, const lk_distil_stage *st, int64_t step) {
    return st->guidance_lo + (st->guidance_hi - st->guidance_lo) * (double)lk_philox_uniform(key(d, "distil.guidance"), (uint64_t)step, 0, 0);
}
/* The teacher's k steps; landing holds x_t on entry. from[j][b]: its timesteps. */
static lk_err teach(lk_distiller *d, const lk_distil_stage *st, int64_t step, const double *teacher, int k, drawn *w) {
    lk_distil_teacher *t = st->base_teacher ? &d->guided : &d->plain;
    float at[B], *m = lk_xmalloc(sizeof(float) * (size_t)d->plan.batch * LK_ZOO_LATENT_SIZE);
    double from[B], to[B];
    lk_err e = lk_distil_teacher_context(t, w->context, d->context + d->refs.n * d->width, guidance_of(d, st, step));
    for (int j = 0; j < k && !e; j++) {
        for (int b = 0; b < d->plan.batch; b++) {
            from[b] = teacher[w->k[b] * k + j];
            to[b] = teacher[w->k[b] * k + j + 1];
            at[b] = (float)from[b];
        }
        e = lk_distil_teacher_predict(t, w->landing, at, m);
        if (!e) e = jump_all(d, lk_distil_x0_teacher(&d->plan, d->open) ? LK_PREDICT_X0 : LK_PREDICT_V, from, to, m, w->landing);
    }
    free(m);
    return e;
}

/* ---- inputs of the step's graph ------------------------------------------------------------------------------------------ */
/* To the timesteps `to`; NULL: to x0. */
static lk_err set_jump(lk_distiller *d, const drawn *w, const double *to, lk_val on_x, lk_val on_m, lk_val weight) {
    double x[B], m[B], weights[B];
    for (int b = 0; b < d->plan.batch; b++) {
        double a, s, a2 = 1, s2 = 0;
        LK_TRY(level(d, w->t[b], &a, &s));
        if (to) LK_TRY(level(d, to[b], &a2, &s2));
        lk_jump j = lk_jump_between(d->plan.stage[d->open].x0 ? LK_PREDICT_X0 : LK_PREDICT_V, a, s, a2, s2);
        x[b] = j.on_x; m[b] = j.on_prediction; weights[b] = 1 / (j.on_prediction * j.on_prediction);
    }
    LK_TRY(lk_exec_set_f64(d->step.x, on_x, x, d->plan.batch));
    LK_TRY(lk_exec_set_f64(d->step.x, on_m, m, d->plan.batch));
    return lk_ok(weight) ? lk_exec_set_f64(d->step.x, weight, weights, d->plan.batch) : LK_OK;
}
/* Where the critic or the two scores look: the landing's own timestep, or a drawn one. A landing at alpha2 x0 + sigma2 n is noised further
 * to a later timestep by the share that is missing, so that both sides lie where the schedule has them. */
static lk_err set_judged(lk_distiller *d, const lk_distil_stage *st, int64_t step, const drawn *w) {
    lk_distil_step *s = &d->step;
    bool anywhere = st->kind == LK_DISTIL_MATCHING || st->kind == LK_DISTIL_PIXELS;
    double t[B], alpha[B], sigma[B];
    float *n = lk_xmalloc(sizeof(float) * (size_t)d->plan.batch * LK_ZOO_LATENT_SIZE);
    lk_err e = LK_OK;
    for (int b = 0; b < d->plan.batch && !e; b++) {
        double at, as, a = 1, sg = 0, here = w->next[b] < 0 ? 0 : w->next[b];
        t[b] = here; alpha[b] = 1; sigma[b] = 0;
        noise(key(d, "distil.judge_noise"), step, b, n + (size_t)b * LK_ZOO_LATENT_SIZE);
        if (anywhere) {
            t[b] = 20 + (double)lk_philox_below(key(d, "distil.judge"), (uint64_t)step, (uint32_t)b, 0, 960);
            e = level(d, t[b], &alpha[b], &sigma[b]);
        } else if (st->renoise && w->next[b] < 0) {                  /* spread over the chain: 1000 i / renoise - 1, the landing itself included */
            int i = (int)lk_philox_below(key(d, "distil.judge"), (uint64_t)step, (uint32_t)b, 0, (uint32_t)st->renoise);
            t[b] = floor(1000.0 * i / st->renoise);
            e = level(d, here, &a, &sg);
            if (!e) e = level(d, t[b], &at, &as);
            if (!e) { alpha[b] = at / a; sigma[b] = sqrt(fmax(0, as * as - alpha[b] * alpha[b] * sg * sg)); }
        }
    }
    if (!e) e = lk_exec_set_f64(s->x, s->judge_t, t, d->plan.batch);
    if (!e && lk_ok(s->judge_alpha)) e = lk_exec_set_f64(s->x, s->judge_alpha, alpha, d->plan.batch);
    if (!e && lk_ok(s->judge_sigma)) e = lk_exec_set_f64(s->x, s->judge_sigma, sigma, d->plan.batch);
    if (!e && lk_ok(s->judge_noise)) e = lk_exec_set(s->x, s->judge_noise, n, (int64_t)d->plan.batch * LK_ZOO_LATENT_SIZE);
    free(n);
    return e;
}
static lk_err set_consistency(lk_distiller *d, const drawn *w) {
    lk_distil_step *s = &d->step;
    int n = d->plan.batch;
    double near[B], c[4][B];
    float *x = w->landing;
    for (int b = 0; b < n; b++) {
        near[b] = w->next[b] < 0 ? 0 : w->next[b];
        lk_boundary here = lk_consistency_boundary(w->t[b], 0.5, 10), there = lk_consistency_boundary(near[b], 0.5, 10);
        c[0][b] = here.skip; c[1][b] = here.out; c[2][b] = there.skip; c[3][b] = there.out;
    }
    drawn moved = *w;
    memcpy(moved.t, near, sizeof near);
    LK_TRY(set_jump(d, w, NULL, s->x0_on_x, s->x0_on_m, LK_NONE));
    LK_TRY(set_jump(d, &moved, NULL, s->near_on_x, s->near_on_m, LK_NONE));
    const lk_val leaf[4] = {s->skip, s->out, s->near_skip, s->near_out};
    for (int i = 0; i < 4; i++) LK_TRY(lk_exec_set_f64(s->x, leaf[i], c[i], n));
    LK_TRY(lk_exec_set_f64(s->x, s->t_near, near, n));
    return lk_exec_set(s->x, s->x_near, x, (int64_t)n * LK_ZOO_LATENT_SIZE);
}
static lk_err set_inputs(lk_distiller *d, const lk_distil_stage *st, int64_t step, drawn *w) {
    lk_distil_step *s = &d->step;
    int64_t n = d->plan.batch, size = n * LK_ZOO_LATENT_SIZE;
    LK_TRY(lk_exec_set(s->x, s->x_t, w->x, size));
    LK_TRY(lk_exec_set_f64(s->x, s->t, w->t, n));
    LK_TRY(lk_exec_set(s->x, s->context, w->context, n * d->width));
    if (st->kind == LK_DISTIL_CONSISTENCY) return set_consistency(d, w);
    if (st->kind != LK_DISTIL_PIXELS) LK_TRY(set_jump(d, w, w->next, s->on_x, s->on_m, s->weight));
    if (lk_ok(s->landing)) LK_TRY(lk_exec_set(s->x, s->landing, w->landing, size));
    if (lk_ok(s->judge_t)) LK_TRY(set_judged(d, st, step, w));
    for (int64_t b = 0; b < n && lk_ok(s->clean); b++) memcpy(w->landing + b * LK_ZOO_LATENT_SIZE, d->refs.latents + (size_t)w->reference[b] * LK_ZOO_LATENT_SIZE, sizeof(float) * LK_ZOO_LATENT_SIZE);
    if (lk_ok(s->clean)) LK_TRY(lk_exec_set(s->x, s->clean, w->landing, size));
    if (!lk_ok(s->empty)) return LK_OK;
    LK_TRY(set_jump(d, w, NULL, s->x0_on_x, s->x0_on_m, LK_NONE));
    float *empty = lk_xmalloc(sizeof(float) * (size_t)(n * d->width));
    for (int64_t b = 0; b < n; b++) memcpy(empty + b * d->width, d->context + d->refs.n * d->width, sizeof(float) * (size_t)d->width);
    lk_err e = lk_exec_set(s->x, s->empty, empty, n * d->width);
    free(empty);
    return e ? e : lk_exec_set_scalar(s->x, s->guidance, guidance_of(d, st, step));
}
static lk_err prepare(lk_distiller *d, const lk_distil_stage *st, int64_t step) {
    double student[1001], teacher[1001];
    bool consistency = st->kind == LK_DISTIL_CONSISTENCY, taught = (st->kind != LK_DISTIL_MATCHING && st->kind != LK_DISTIL_PIXELS) || st->mse_weight > 0;
    int64_t size = (int64_t)d->plan.batch * LK_ZOO_LATENT_SIZE;
    drawn w = {.x = lk_xmalloc(sizeof(float) * (size_t)size), .landing = lk_xmalloc(sizeof(float) * (size_t)size), .context = lk_xmalloc(sizeof(float) * (size_t)(d->plan.batch * d->width))};
    int places = consistency ? st->from : st->to;                    /* consistency is learnt along the solver's whole chain */
    lk_err e = chain(d, places, student);
    if (!e) e = chain(d, st->from, teacher);
    if (!e) e = draw(d, st, step, student, places, &w);
    memcpy(w.landing, w.x, sizeof(float) * (size_t)size);
    if (!e && taught) e = teach(d, st, step, teacher, st->from / places, &w);
    if (!e) e = set_inputs(d, st, step, &w);
    free(w.x); free(w.landing); free(w.context);
    return e;
}
lk_err lk_distiller_step(lk_distiller *d, int64_t step, double losses[2]) {
    int stage = lk_distiller_stage_at(d, step);
    const lk_distil_stage *st = &d->plan.stage[stage];
    if (!d->refs.n) return lk_error(LK_ESTATE, "a distiller without references only plans");
    if (d->plan.batch > B) return lk_error(LK_EINPUT, "batch %d: at most %d", d->plan.batch, B);
    if (stage != d->open) LK_TRY(open_stage(d, stage));
    lk_distil_step *s = &d->step;
    int64_t within = step - stage_start(d, stage);
    const lk_distil_plan *p = &d->plan;
    bool adversarial = st->kind == LK_DISTIL_ADVERSARIAL;
    double peak = st->full ? p->full_lr : adversarial && p->adversarial_lr > 0 ? p->adversarial_lr : p->lr;
    lk_lr schedule = {.name = "cosine", .base = 0.9 * peak, .warmup = st->iterations / 10, .total = st->iterations};
    double rate;
    float v[4] = {0, 0, NAN, NAN};
    LK_TRY(lk_lr_at(&schedule, within, &rate));
    LK_TRY(prepare(d, st, step));
    bool waits = st->kind == LK_DISTIL_MATCHING && d->plan.fake_every > 1 && (within + 1) % d->plan.fake_every;
    LK_TRY(lk_optimiser_set(s->optimiser, s->x, within, waits ? 0 : rate + 0.1 * peak));
    if (s->critic) LK_TRY(lk_optimiser_set(s->critic, s->x, within, adversarial && p->discriminator_lr > 0 ? p->discriminator_lr : p->critic_lr));
    LK_TRY(lk_exec_run(s->x));
    for (int i = 0; i < s->n_outputs; i++) LK_TRY(lk_exec_get(s->x, s->outputs[i], &v[i], 1));
    losses[0] = v[0]; losses[1] = v[2];
    for (int i = 0; i < s->n_outputs; i++)
        if (!isfinite(v[i])) return lk_error(LK_ENUM, "distillation step %lld (stage %d, %d to %d steps): loss %g, gradient norm %g%s%g, %g", (long long)step, stage + 1, st->from, st->to, (double)v[0],
                                             (double)v[1], s->critic ? "; critic " : "; no critic ", (double)v[2], (double)v[3]);
    return LK_OK;
}
lk_err lk_distiller_save(void *distiller, int64_t step, const char *path) { return lk_checkpoint_save(((lk_distiller *)distiller)->step.x, step, path); }
lk_err lk_distiller_load(lk_distiller *d, const char *path, int64_t *step) {
    lk_st *f;
    LK_TRY(lk_st_open(path, &f));
    const char *text = lk_st_meta(f, "step");
    int64_t at = text ? strtoll(text, NULL, 10) : 0;
    lk_st_close(f);
    if (at < 1 || at > lk_distil_steps(&d->plan)) return lk_error(LK_EINPUT, "checkpoint %s: step %lld of a distillation of %lld", path, (long long)at, (long long)lk_distil_steps(&d->plan));
    int stage = lk_distiller_stage_at(d, at - 1);                    /* the stage that was at work when it was written */
    d->open = -1;
    lk_distil_step_free(&d->step);
    LK_TRY(open_stage(d, stage));
    return lk_checkpoint_load(d->step.x, path, step);
}
