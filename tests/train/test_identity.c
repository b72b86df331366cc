/* The identity branch's gradient with respect to the adapter: through sampler, decoder, warp and recogniser, by central differences in
 * binary64 under the reference backend. UNet and decoder are small random ones, the recogniser is mobilefacenet itself. */
#include "tests/train/identity_rig.h"
#include "models/sampler.h"
#include "train/distil.h"
#include "train/person.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const lk_id_opts accurate = {.form = LK_ID_ACCURATE, .weight = 0.7, .batch = 1, .steps = 2, .through = 1, .semantic = 0.6, .layout = 0.1, .total_variation = 0.1, .features = 0.5};
TEST(through_both_steps) { lk_id_opts o = accurate; o.through = 2; o.features = 0; check_direction(&o, NULL, 0, "K = 2"); }
/* The first of two steps held: another gradient, and less memory, than through both. (Differences would move the held step too.) */
TEST(a_held_step_costs_no_memory) {
    int64_t bytes[2];
    for (int k = 1; k <= 2; k++) {
        lk_id_opts o = accurate;
        o.through = k;
        rig r;
        if (!rig_new(&r, &o, NULL)) { rig_free(&r); return; }
        lk_val outputs[201] = {r.loss};
        int n = 1;
        for (int i = 0; i < r.n; i++) if (lk_ok(r.grad[i])) outputs[n++] = r.grad[i];
        lk_plan *p;
        CHECK_OK(lk_plan_new(r.g, outputs, n, (lk_plan_opts){.element_bytes = 4, .threads = 1}, &p));
        bytes[k - 1] = p->arena_bytes;
        lk_plan_free(p);
        rig_free(&r);
    }
    CHECK_MSG(bytes[0] < bytes[1], "one step takes %lld bytes, two %lld", (long long)bytes[0], (long long)bytes[1]);
}
TEST(naive_form) { check_direction(&(lk_id_opts){.form = LK_ID_NAIVE, .weight = 0.5, .gate = 600}, NULL, 0, "naive"); }
/* A decoder path that is cut leaves no gradient at all. */
TEST(nothing_remains_when_the_decoder_path_is_cut) {
    check_direction(&(lk_id_opts){.form = LK_ID_ACCURATE, .weight = 1, .batch = 1, .steps = 2, .through = 2, .cut = true}, NULL, 0, "cut");
    check_direction(&(lk_id_opts){.form = LK_ID_NAIVE, .weight = 1, .cut = true}, NULL, 0, "cut, naive");
}
/* Which steps the alignment covers: of a chain of two, the last for K = 1, the mean over both for K = 2, found again here by a chain of this test's own with
 * taps of its own. Detaching changes no value, so the difference to the branch without alignment is the alignment. */
static double value_of(const lk_id_opts *o) {
    rig r;
    double v = NAN;
    if (!rig_new(&r, o, NULL)) { rig_free(&r); return v; }
    lk_exec *x = start(&r, &r.loss, 1, lk_backend_ref());
    fill(x, lk_find(r.g, "id.noise"), 1, 71); fill(x, lk_find(r.g, "id.context"), 1, 72); fill(x, lk_find(r.g, "id.reference"), 1, 73);
    CHECK_OK(lk_exec_run(x));
    CHECK_OK(lk_exec_get_f64(x, r.loss, &v, 1));
    lk_exec_free(x);
    rig_free(&r);
    return v;
}
static void by_own_chain(double step[2]) {
    rig r;
    lk_scheduler *s;
    CHECK_OK(lk_scheduler_parse("DDIMScheduler", lk_zoo_scheduler, &s));
    CHECK_OK(lk_scheduler_set_timesteps(s, 2, (lk_timestep_opts){0}));
    const double *t = lk_scheduler_timesteps(s);
    lk_id_opts o = {.form = LK_ID_NAIVE, .weight = 1};
    if (!rig_new(&r, &o, NULL)) { rig_free(&r); return; }
    lk_graph *g = r.g;
    lk_val noise = lk_input(g, "id.noise", LK_F32, LK_SHAPE(1, LK_ZOO_LATENT, LK_ZOO_GRID, LK_ZOO_GRID)), text = lk_input(g, "id.context", LK_F32, LK_SHAPE(1, LK_ZOO_TOKENS, r.zoo.text.hidden));
    lk_val x[2] = {noise, noise}, out[2];
    for (int i = 0; i < 2; i++) {
        lk_attention_tap tap[2] = {{0}, {0}};
        double a0, s0, a1, s1;
        lk_cross_attention pair[2][LK_TAPPED];
        CHECK_OK(lk_scheduler_marginal(s, t[i], &a0, &s0));
        CHECK_OK(lk_scheduler_marginal(s, i ? 0 : t[1], &a1, &s1));
        for (int k = 0; k < 2; k++) {                            /* with the adapter, without */
            lk_net net = lk_net_root(g);
            net.param_prefix = "student/";
            net.tap = &tap[k];
            net.adapters = &r.adapter;
            net.n_adapters = !k;
            lk_val v = lk_unet2d(&net, &r.zoo.unet, x[k], lk_const(g, LK_F32, LK_SHAPE(1), &(float){(float)t[i]}), text, LK_UNET_PLAIN);
            lk_val x0 = lk_sub(g, lk_scale(g, x[k], a0), lk_scale(g, v, s0)), eps = lk_add(g, lk_scale(g, x[k], s0), lk_scale(g, v, a0));
            x[k] = lk_add(g, lk_scale(g, x0, a1), lk_scale(g, eps, s1));
            for (int j = 0; j < tap[k].n; j++) pair[k][j] = (lk_cross_attention){tap[k].layer[j].q, tap[k].layer[j].k, tap[k].layer[j].heads};
        }
        CHECK(tap[0].n == tap[1].n && tap[0].n > 2);
        out[i] = lk_alignment_loss(g, pair[0], pair[1], tap[0].n, 0.6, 0.1);
    }
    lk_exec *e = start(&r, out, 2, lk_backend_ref());
    fill(e, noise, 1, 71); fill(e, text, 1, 72);
    CHECK_OK(lk_exec_run(e));
    for (int i = 0; i < 2; i++) CHECK_OK(lk_exec_get_f64(e, out[i], &step[i], 1));
    lk_exec_free(e);
    rig_free(&r);
    lk_scheduler_free(s);
}
TEST(alignment_covers_the_steps_that_learn) {
    double step[2] = {NAN, NAN}, with[2];
    lk_id_opts o = {.form = LK_ID_ACCURATE, .weight = 0.7, .batch = 1, .steps = 2, .through = 1};
    double without = value_of(&o);
    o.semantic = 0.6; o.layout = 0.1;
    for (int k = 1; k <= 2; k++) { o.through = k; with[k - 1] = value_of(&o) - without; }
    by_own_chain(step);
    CHECK_MSG(fabs(step[0] - step[1]) > 1e-3 * fabs(step[0]), "the two steps cannot be told apart: %.6g, %.6g", step[0], step[1]);
    CHECK_CLOSE(with[0], step[1], 1e-6 * step[1]);               /* the chain's factors are binary32 constants */
    CHECK_CLOSE(with[1], (step[0] + step[1]) / 2, 1e-6 * step[1]);
}
/* The branch draws what the sampler draws with the student: another executor, the scheduler's own DDIM steps, the adapter beside the weights
 * instead of merged into them. An adapter of B = 0 changes nothing. Bound: binary32 rounding through four passes, in grey levels of 255. */
static double apart_from_sampler(lk_studio *s, int sampler_steps, bool with_student) {
    enum { N = 2 };
    static const char *const prompts[N] = {"a photo of a man", "a photo of a woman, smiling"};
    static float latents[N * LK_ZOO_LATENT_SIZE], want[N * LK_FRAME_SIZE], got[N * LK_FRAME_SIZE], noise[N * LK_ZOO_LATENT_SIZE], reference[512];
    lk_adapter *student = NULL, *person = lk_adapter_new(lk_distil_lora(1), "");
    lk_sampler *sampler;
    if (with_student) CHECK_OK(lk_student_adapter(LK_STUDENT_PATH, "", &student));
    CHECK_OK(lk_sampler_new(&s->zoo, student, N, s->pool, &sampler));
    if (with_student) CHECK_OK(lk_student_load(student, lk_sampler_exec(sampler), LK_STUDENT_PATH));
    CHECK_OK(lk_sample(sampler, prompts, N, 9, 0, (lk_sampling){.steps = sampler_steps, .guidance = 1}, latents));
    CHECK_OK(lk_zoo_decode(&s->zoo, s->pool, latents, N, want));
    lk_id_opts o = {.form = LK_ID_ACCURATE, .weight = 1, .batch = N, .steps = LK_STUDENT_STEPS, .through = 1};
    lk_id_branch *b;
    lk_exec *x;
    lk_graph *g = lk_graph_new();
    float *context = lk_xmalloc(sizeof *context * (size_t)(N * LK_ZOO_TOKENS * s->zoo.text.hidden));
    CHECK_OK(lk_zoo_hidden_texts(&s->zoo, s->pool, prompts, N, context));
    CHECK_OK(lk_id_branch_new(&s->zoo, o, prompts, N, reference, 0, s->pool, &b));
    const lk_extra_loss *extra = lk_id_branch_loss(b);
    lk_val loss = extra->build(extra->ctx, g, person, NULL), frames = lk_id_branch_frames(b);
    CHECK_OK(lk_exec_new(g, (lk_val[]){loss, frames}, 2, (lk_exec_opts){.pool = s->pool}, &x));
    CHECK_OK(extra->bind(extra->ctx, x));
    CHECK_OK(lk_adapter_init(person, x, 1));
    for (int i = 0; i < N * LK_ZOO_LATENT_SIZE; i++)
        noise[i] = lk_philox_normal(lk_stream_key(9, "sample.noise"), 0, (uint32_t)(i / LK_ZOO_LATENT_SIZE), (uint64_t)(i % LK_ZOO_LATENT_SIZE));
    CHECK_OK(lk_exec_set(x, lk_find(g, "id.noise"), noise, N * LK_ZOO_LATENT_SIZE));
    CHECK_OK(lk_exec_set(x, lk_find(g, "id.context"), context, N * LK_ZOO_TOKENS * s->zoo.text.hidden));
    CHECK_OK(lk_exec_run(x));
    CHECK_OK(lk_exec_get(x, frames, got, N * LK_FRAME_SIZE));
    double worst = 0;
    for (int i = 0; i < N * LK_FRAME_SIZE; i++) {                  /* lk_zoo_decode clamps */
        double v = got[i] < 0 ? 0 : got[i] > 255 ? 255 : got[i], d = fabs(v - want[i]);
        worst = d <= worst ? worst : d;                             /* NaN wins */
    }
    free(context);
    lk_exec_free(x); lk_graph_free(g); lk_id_branch_free(b); lk_sampler_free(sampler); lk_adapter_free(person);
    if (student) lk_adapter_free(student);
    return worst;
}
TEST(draws_what_the_sampler_draws) {
    lk_pool *pool = lk_pool_new(1);
    lk_studio s;
    CHECK_OK(lk_studio_open("datasets/orl", pool, &s));
    double same = apart_from_sampler(&s, LK_STUDENT_STEPS, true), steps = apart_from_sampler(&s, LK_STUDENT_STEPS + 1, true), base = apart_from_sampler(&s, LK_STUDENT_STEPS, false);
    printf("  apart: %.2e grey levels; with 5 steps %.1f, without the student %.1f\n", same, steps, base);
    CHECK_MSG(same < 0.005, "%.3g grey levels from the sampler's pictures", same);
    CHECK_MSG(steps > 1 && base > 1, "another chain (%.3g) or another model (%.3g) was not told apart", steps, base);
    lk_studio_close(&s);
    lk_pool_free(pool);
}
TEST(refusals) {
    lk_id_opts o = accurate;
    o.through = 5; o.steps = 4;
    CHECK_FAILS(lk_id_check(&o), "back through 5 steps of a chain of 4: 1 to 4");
    o.through = 2; o.weight = 0;
    CHECK_FAILS(lk_id_check(&o), "above 0");
    o.weight = 1; o.student = "/nowhere/adapter.safetensors";
    CHECK_FAILS(lk_id_check(&o), "no few-step student");
    o = (lk_id_opts){.form = LK_ID_NAIVE, .weight = 1, .layout = 0.1};
    CHECK_FAILS(lk_id_check(&o), "take the accurate form");
}
TEST(one_person_is_told_from_two) {
    lk_pool *pool = lk_pool_new(1);
    lk_dataset *d;
    lk_faces *f;
    CHECK_OK(lk_dataset_load("datasets/orl", &d)); CHECK_OK(lk_faces_new("models/faces", pool, &f));
    int k, photos[3];
    memcpy(photos, lk_dataset_photos(d, "s10", "reference", &k), sizeof(int) * 2);
    photos[2] = lk_dataset_photos(d, "s28", "reference", &k)[0];
    lk_face_set set;
    CHECK_OK(lk_face_set_new(f, d, photos, 3, &set));
    CHECK_OK(lk_id_one_person(f, set.frame, 2));
    CHECK_FAILS(lk_id_one_person(f, set.frame, 3), "two people");
    lk_face_set_free(&set);
    lk_faces_free(f); lk_dataset_free(d); lk_pool_free(pool);
}
