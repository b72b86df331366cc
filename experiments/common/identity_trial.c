/* Training in two stages, background damage, canvases, the pixel control. */
#include "experiments/common/identity_trial.h"
#include "experiments/common/two_faces.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static lk_id_opts options(lk_ctx *c, const lk_id_arm *a) {
    return (lk_id_opts){.form = a->form, .weight = a->weight, .batch = (int)lk_ctx_int(c, "id_batch"), .steps = LK_STUDENT_STEPS, .through = a->through,
                        .semantic = a->aligned ? 0.6 : 0, .layout = a->aligned ? 0.1 : 0, .gate = a->form == LK_ID_NAIVE ? lk_ctx_real(c, "gate") : 0};
}
static lk_err branch_of(lk_trial *t, const lk_id_arm *a, lk_id_branch **b) {
    float reference[512];
    int n = (int)lk_ctx_int(t->c, "id_prompts");
    const char *prompts[LK_TRIAL_PROMPTS];
    for (int i = 0; i < n; i++) prompts[i] = lk_person_prompt(&t->person, lk_trial_prompts[i], true);
    LK_TRY(lk_id_reference(t->studio.faces, t->person.ref.frame, t->person.n_ref, reference));
    return lk_id_branch_new(&t->studio.zoo, options(t->c, a), prompts, n, reference, lk_ctx_seed(t->c), t->studio.pool, b);
}

static const char *const everywhere[] = {"conv_in", "conv_out", "linear_1", "linear_2", "time_emb_proj", "conv1", "conv2", "conv_shortcut", "conv", "proj_in", "proj_out",
                                         "to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", NULL};
static lk_lora_config adapter_of(const lk_id_arm *a, int rank) {
    lk_lora_config c = lk_trial_lora(rank);
    if (a->kind == LK_KIND_DORA) c.kind = LK_DORA;
    if (a->kind == LK_KIND_FULL) c = (lk_lora_config){.kind = LK_FULL, .r = 1, .alpha = 1, .targets = everywhere};
    return c;
}
static lk_personalise_opts training_of(lk_ctx *c, const lk_id_arm *a) {
    lk_personalise_opts o = lk_trial_training(c);
    if (a->kind == LK_KIND_FULL) o.lr = lk_ctx_real(c, "full_lr");
    return o;
}

/* ---- the other terms ------------------------------------------------------------------------------------------------------ */
enum { PRIOR = 8, CELLS = LK_ZOO_GRID * LK_ZOO_GRID };
static lk_terms_opts terms_of(lk_ctx *c, const lk_id_arm *a, const char *class_prompt) {
    lk_terms_opts o = {.gate = lk_ctx_real(c, "gate"), .vgg = lk_ctx_text(c, "vgg"), .clip = lk_ctx_text(c, "clip"), .prior = PRIOR, .prior_prompt = class_prompt};
    memcpy(o.weight, a->term, sizeof o.weight);
    return o;
}
static lk_err terms_open(lk_trial *t, const lk_id_arm *a, lk_terms **out) {
    int n = t->person.n_ref;
    float *masks = lk_xmalloc(sizeof *masks * 2 * (size_t)n * CELLS);
    for (int i = 0; i < n; i++) {
        lk_face_mask(&t->person.ref.face[i], LK_ZOO_GRID, masks + i * CELLS);
        for (int k = 0; k < CELLS; k++) masks[(n + i) * CELLS + k] = masks[i * CELLS + k / LK_ZOO_GRID * LK_ZOO_GRID + LK_ZOO_GRID - 1 - k % LK_ZOO_GRID];
    }
    lk_err e = lk_terms_new(&t->studio.zoo, terms_of(t->c, a, lk_person_prompt(&t->person, "", false)), (int)lk_ctx_int(t->c, "batch"), 2 * n, masks, lk_ctx_seed(t->c), t->studio.pool, out);
    free(masks);
    return e;
}

/* ---- two stages, one optimiser: the second takes the first's adapter and moments --------------------------------------------- */
typedef struct { lk_trial *t; int rank; lk_id_arm arm; lk_id_branch *branch; lk_terms *terms; lk_extra_pair pair; lk_personaliser *p; bool second; } stages;
static lk_err open_stage(stages *s, bool second) {
    lk_personalise_opts o = training_of(s->t->c, &s->arm);
    lk_references refs = {2 * s->t->person.n_ref, s->t->person.ref_latents, s->t->person.ref_captions};
    lk_personaliser *before = s->p;
    s->second = second;
    if (second && !s->arm.none && !s->branch) LK_TRY(branch_of(s->t, &s->arm, &s->branch));
    if (second && lk_id_arm_terms(&s->arm) && !s->terms) LK_TRY(terms_open(s->t, &s->arm, &s->terms));
    if (second) o.extra = lk_extra_both(&s->pair, s->branch ? lk_id_branch_loss(s->branch) : NULL, s->terms ? lk_terms_loss(s->terms) : NULL);
    s->p = NULL;
    lk_err e = lk_personaliser_new(&s->t->studio.zoo, adapter_of(&s->arm, s->rank), o, refs, lk_ctx_seed(s->t->c), s->t->studio.pool, &s->p);
    if (!e && before) {
        const char *path = lk_ctx_path(s->t->c, "stage.safetensors");
        int64_t step;
        e = lk_checkpoint_save(lk_personaliser_exec(before), 0, path);
        if (!e) e = lk_checkpoint_load(lk_personaliser_exec(s->p), path, &step);
        remove(path);
    }
    lk_personaliser_free(before);
    return e;
}
static lk_err save_state(void *ctx, int64_t step, const char *path) { return lk_checkpoint_save(lk_personaliser_exec(((stages *)ctx)->p), step, path); }
static void note_cost(stages *s, int64_t steps, double seconds) {
    lk_run *run = lk_ctx_run(s->t->c);
    const double any = 1e12;                                    /* costs are the machine's: recorded, never compared */
    lk_run_inexact(run, "planned_mb", (double)lk_exec_plan(lk_personaliser_exec(s->p))->arena_bytes / 1e6, any);
    lk_run_inexact(run, "allocated_mb", (double)lk_exec_bytes(lk_personaliser_exec(s->p)) / 1e6, any);
    if (steps > 0) lk_run_inexact(run, "step_s", seconds / (double)steps, any);
}
static lk_err train(stages *s) {
    lk_ctx *c = s->t->c;
    int64_t step = 0, steps = lk_ctx_int(c, "steps"), first = lk_id_arm_plain(&s->arm) ? steps : lk_ctx_int(c, "first"), timed = 0;
    bool staged = !lk_id_arm_plain(&s->arm);
    bool resumed = lk_ctx_resume(c, &step);
    LK_TRY(open_stage(s, step >= first && staged));
    if (resumed) LK_TRY(lk_checkpoint_load(lk_personaliser_exec(s->p), lk_ctx_checkpoint_path(c), &step));
    double began = 0, whole = lk_wall_s();
    while (step < steps) {
        double v[3];
        if (step == first && !s->second) LK_TRY(open_stage(s, true));
        if (timed == 1) began = lk_wall_s();
        LK_TRY(lk_personaliser_step(s->p, step, &v[0], &v[1]));
        v[2] = lk_personaliser_extra(s->p);
        step++;
        timed += s->second == staged;
        lk_ctx_row(c, "train", step, 3, (const char *const[]){"loss", "grad_norm", "id_loss"}, v);
        lk_ctx_progress(c, step, steps, v[0]);
        if (lk_ctx_checkpoint_due(c, step)) LK_TRY(lk_ctx_checkpoint(c, step, save_state, s));
    }
    note_cost(s, timed - 1, lk_wall_s() - began);
    lk_run_inexact(lk_ctx_run(c), "train_s", lk_wall_s() - whole, 1e12);
    return LK_OK;
}
static void note_size(lk_trial *t, double values, const char *path) {
    struct stat st;
    lk_run_inexact(lk_ctx_run(t->c), "trained_values", values, 0);
    if (!stat(path, &st)) lk_run_inexact(lk_ctx_run(t->c), "adapter_bytes", (double)st.st_size, 1e12);
}
static double values_in(const lk_personaliser *p) {
    const lk_val *params;
    int n = lk_adapter_params(lk_personaliser_adapter(p), lk_exec_graph(lk_personaliser_exec(p)), &params);
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)lk_numel(lk_shape_of(lk_exec_graph(lk_personaliser_exec(p)), params[i]));
    return sum;
}
static lk_err finish(stages *s) {
    lk_ctx *c = s->t->c;
    const char *file = lk_ctx_path(c, "adapter.safetensors");
    double ratio;
    LK_TRY(lk_personaliser_update_norm(s->p, &ratio));
    lk_run_final(lk_ctx_run(c), "update_ratio", ratio);
    lk_run_final(lk_ctx_run(c), "untrained", ratio < 1e-3);
    LK_TRY(lk_adapter_save(lk_personaliser_adapter(s->p), lk_personaliser_exec(s->p), file));
    LK_TRY(lk_adapter_save_config(lk_personaliser_adapter(s->p), lk_ctx_path(c, "adapter_config.json")));
    note_size(s->t, values_in(s->p), file);
    return lk_adapter_copy(s->t->sampling_adapter, lk_sampler_exec(s->t->sampler), lk_personaliser_adapter(s->p), lk_personaliser_exec(s->p));
}
static int sampling_batch(lk_ctx *c) { return lk_ctx_int(c, "prompts") < 8 ? (int)lk_ctx_int(c, "prompts") : 8; }

/* ---- the ID adapter: nothing is trained ---------------------------------------------------------------------------------------- */
static lk_err id_sampler(lk_trial *t, int across, int batch, lk_sampler **out) {
    float reference[512];
    LK_TRY(lk_id_reference(t->studio.faces, t->person.ref.frame, t->person.n_ref, reference));
    LK_TRY(lk_sampler_new_id(&t->studio.zoo, reference, batch, LK_ZOO_GRID, across * LK_ZOO_GRID, t->studio.pool, out));
    return lk_id_adapter_load(lk_sampler_exec(*out), &t->studio.zoo, LK_ID_ADAPTER_PATH);
}
static lk_err id_adapter(lk_trial *t) {
    lk_st *st;
    double values = 0;
    LK_TRY(lk_st_open(LK_ID_ADAPTER_PATH, &st));
    for (int i = 0; i < lk_st_count(st); i++) values += (double)lk_st_at(st, i)->numel;
    lk_st_close(st);
    t->tokenless = true;
    note_size(t, values, LK_ID_ADAPTER_PATH);
    lk_run_inexact(lk_ctx_run(t->c), "train_s", 0, 1e12);
    return id_sampler(t, 1, sampling_batch(t->c), &t->sampler);
}
lk_err lk_identity_adapter(lk_trial *t, int rank, const char *word) {
    stages s = {.t = t, .rank = rank};
    LK_TRY(lk_id_arm_parse(word, &s.arm));
    if (!s.arm.none) { lk_id_opts o = options(t->c, &s.arm); LK_TRY(lk_id_check(&o)); }
    LK_TRY(lk_err_wrap(lk_id_one_person(t->studio.faces, t->person.ref.frame, t->person.n_ref), "%s", t->person.subject));
    if (s.arm.kind == LK_KIND_ID) return id_adapter(t);
    lk_run *run = lk_ctx_run(t->c);
    lk_run_column(run, "train", "loss", "", "diffusion loss", "min");
    lk_run_column(run, "train", "grad_norm", "", "gradient norm before clipping", "");
    lk_run_column(run, "train", "id_loss", "", "the identity branch's term and the others, weights included; missing in the first stage", "min");
    t->sampling_adapter = lk_adapter_new(adapter_of(&s.arm, rank), "");
    LK_TRY(lk_sampler_new(&t->studio.zoo, t->sampling_adapter, sampling_batch(t->c), t->studio.pool, &t->sampler));
    lk_err e = train(&s);
    if (!e) e = finish(&s);
    lk_personaliser_free(s.p);
    lk_id_branch_free(s.branch);
    lk_terms_free(s.terms);
    return e;
}
lk_err lk_identity_canvases(lk_trial *t) {
    int n = (int)lk_ctx_int(t->c, "canvases");
    if (!n) return LK_OK;
    lk_sampler *wide = NULL;
    lk_adapter *copy = t->sampling_adapter ? lk_adapter_new(*lk_adapter_config(t->sampling_adapter), "") : NULL;
    lk_err e = t->tokenless ? id_sampler(t, 2, n, &wide) : lk_sampler_new_sized(&t->studio.zoo, true, &copy, copy ? 1 : 0, n, LK_ZOO_GRID, 2 * LK_ZOO_GRID, t->studio.pool, &wide);
    if (!e && copy) e = lk_adapter_copy(copy, lk_sampler_exec(wide), t->sampling_adapter, lk_sampler_exec(t->sampler));
    if (!e) e = lk_two_faces(t, wide);
    lk_sampler_free(wide);
    if (copy) lk_adapter_free(copy);
    return e;
}

/* ---- what the adapter does outside the face ------------------------------------------------------------------------------------- */
/* The face of an aligned frame: eyes at y 27, mouth at y 47 of the template, chin and brow within this ellipse. */
static bool in_face(int x, int y) { double dx = (x - 31.5) / 20, dy = (y - 36) / 27; return dx * dx + dy * dy <= 1; }
lk_err lk_identity_background(lk_trial *t) {
    int n = (int)lk_ctx_int(t->c, "prompts") < 4 ? (int)lk_ctx_int(t->c, "prompts") : 4;
    const char *prompts[LK_TRIAL_PROMPTS];
    for (int i = 0; i < n; i++) prompts[i] = lk_person_prompt(&t->person, lk_trial_prompts[i], !t->tokenless);
    size_t latents = (size_t)n * LK_ZOO_LATENT_SIZE, frames = (size_t)n * LK_FRAME_SIZE;
    float *z = lk_xmalloc(sizeof *z * latents), *f[2] = {lk_xmalloc(sizeof(float) * frames), lk_xmalloc(sizeof(float) * frames)};
    lk_sampler *plain = NULL;
    lk_err e = lk_sampler_new(&t->studio.zoo, NULL, n, t->studio.pool, &plain);
    if (!e) e = lk_zoo_decode(&t->studio.zoo, t->studio.pool, t->latents, n, f[0]);
    if (!e) e = lk_sample(plain, prompts, n, lk_ctx_seed(t->c), 0, lk_trial_sampling(t->c), z);
    if (!e) e = lk_zoo_decode(&t->studio.zoo, t->studio.pool, z, n, f[1]);
    double sum = 0, count = 0;
    for (size_t i = 0; i < frames && !e; i++) {
        int x = (int)(i % LK_FRAME), y = (int)(i / LK_FRAME % LK_FRAME);
        if (in_face(x, y)) continue;
        sum += fabs((double)f[0][i] - f[1][i]) / 255;
        count++;
    }
    if (!e) lk_run_final(lk_ctx_run(t->c), "background", sum / count);
    lk_sampler_free(plain);
    free(z); free(f[0]); free(f[1]);
    return e;
}

/* ---- the same loss on pixels -------------------------------------------------------------------------------------------------------- */
lk_err lk_identity_pixels(lk_trial *t) {
    int n = t->person.n_test, dim = lk_recogniser_dim(LK_MOBILEFACENET), steps = (int)lk_ctx_int(t->c, "pixel_steps");
    float *frames = lk_xmalloc(sizeof(float) * (size_t)n * LK_FRAME_SIZE), reference[512];
    const char **captions = lk_xcalloc((size_t)n, sizeof *captions);
    for (int i = 0; i < n; i++) captions[i] = lk_dataset_at(t->studio.data, t->person.test.photo[i])->text;
    lk_graph *g = lk_graph_new();
    lk_net net = lk_net_root(g);
    net.param_prefix = "id/";
    lk_val pixels = lk_param(g, "pixels", LK_SHAPE(n, 3, LK_FRAME, LK_FRAME), LK_MEM_ADAPTER), e = lk_input(g, "reference", LK_F32, LK_SHAPE(1, dim));
    lk_val loss = lk_scale(g, lk_identity_loss(g, lk_face_embed_frames(&net, LK_MOBILEFACENET, pixels), e, LK_NONE), n);
    lk_optimiser *o = lk_optimiser_new(g, &pixels, 1, (lk_optimiser_config){.adamw = {0.9, 0.99, 1e-8, 0}});
    lk_optimiser_add_loss(o, loss);
    lk_optimiser_finish(o);
    lk_exec *x = NULL;
    lk_st *st = NULL;
    lk_err err = lk_graph_error(g);
    if (!err) err = lk_trial_strangers(t, n, frames);
    if (!err) err = lk_id_reference(t->studio.faces, t->person.ref.frame, t->person.n_ref, reference);
    if (!err) err = lk_exec_new(g, &loss, 1, (lk_exec_opts){.pool = t->studio.pool}, &x);
    if (!err) err = lk_st_open("models/faces/mobilefacenet.safetensors", &st);
    if (!err) err = lk_face_weights(x, st, "id/");
    if (!err) err = lk_exec_set(x, pixels, frames, (int64_t)n * LK_FRAME_SIZE);
    if (!err) err = lk_exec_set(x, e, reference, dim);
    for (int s = 0; s < steps && !err; s++) {
        err = lk_optimiser_set(o, x, s, lk_ctx_real(t->c, "pixel_rate"));
        if (!err) err = lk_exec_run(x);
    }
    if (!err) err = lk_exec_get(x, pixels, frames, (int64_t)n * LK_FRAME_SIZE);
    for (size_t i = 0; i < (size_t)n * LK_FRAME_SIZE; i++) frames[i] = frames[i] <= 0 ? 0 : frames[i] >= 255 ? 255 : (float)(uint8_t)(frames[i] + 0.5f);
    if (!err) err = lk_trial_score(t, frames, n, captions, false);
    if (st) lk_st_close(st);
    lk_exec_free(x);
    lk_graph_free(g);
    free(frames); free(captions);
    return err;
}

static lk_err id_adapter_check(void) {
    lk_zoo zoo;
    lk_st *st;
    if (access(LK_ID_ADAPTER_PATH, R_OK)) return lk_error(LK_EINPUT, "%s: no ID adapter there; build/bin/zoo-id_adapter trains one into build/zoo/id_adapter", LK_ID_ADAPTER_PATH);
    LK_TRY(lk_zoo_open("models/zoo", "unet", &zoo));
    lk_err e = lk_st_open(LK_ID_ADAPTER_PATH, &st);
    if (!e) { e = lk_base_check(st, zoo.unet_weights); lk_st_close(st); }
    lk_zoo_close(&zoo);
    return e;
}
lk_err lk_identity_check(lk_ctx *c, const char *word) {
    lk_id_arm a;
    LK_TRY(lk_id_arm_parse(word, &a));
    if (lk_ctx_int(c, "first") > lk_ctx_int(c, "steps")) return lk_error(LK_EINPUT, "first=%lld of steps=%lld: the first stage is at most all of them", (long long)lk_ctx_int(c, "first"), (long long)lk_ctx_int(c, "steps"));
    lk_id_opts o = options(c, &a);
    lk_terms_opts terms = terms_of(c, &a, "");
    if (!a.none) LK_TRY(lk_id_check(&o));
    LK_TRY(lk_terms_check(&terms));
    return a.kind == LK_KIND_ID ? id_adapter_check() : LK_OK;
}
lk_err lk_identity_memory(lk_ctx *c, int rank, const char *word) {
    lk_id_arm a;
    LK_TRY(lk_id_arm_parse(word, &a));
    if (a.kind == LK_KIND_ID) return LK_OK;                     /* sampling alone */
    lk_zoo zoo;
    LK_TRY(lk_zoo_open("models/zoo", "vae clip unet", &zoo));
    lk_personalise_opts o = training_of(c, &a);
    float reference[512] = {0};
    lk_id_branch *b = NULL;
    lk_terms *terms = NULL;
    lk_extra_pair pair;
    lk_personaliser *p = NULL;
    lk_id_opts id = options(c, &a);
    lk_err e = a.none ? LK_OK : lk_id_check(&id);
    if (!e && !a.none) e = lk_id_branch_graph_only(&zoo, id, reference, &b);
    if (!e && lk_id_arm_terms(&a)) e = lk_terms_graph_only(&zoo, terms_of(c, &a, ""), o.batch, &terms);
    if (!e) o.extra = lk_extra_both(&pair, b ? lk_id_branch_loss(b) : NULL, terms ? lk_terms_loss(terms) : NULL);
    if (!e) e = lk_personaliser_new(&zoo, adapter_of(&a, rank), o, (lk_references){0}, 0, NULL, &p);
    const lk_val *outputs;
    if (!e) { lk_graph *g = lk_personaliser_graph(p, &outputs); e = lk_ctx_plan(c, lk_id_arm_plain(&a) ? "training step" : "training step with identity branch or other terms", g, outputs, lk_id_arm_plain(&a) ? 2 : 3); }
    lk_personaliser_free(p);
    lk_id_branch_free(b);
    lk_terms_free(terms);
    lk_zoo_close(&zoo);
    return e;
}
