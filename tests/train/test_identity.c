/* The identity branch's gradient with respect to the adapter: through sampler, decoder, warp and recogniser, by central differences in
 * binary64 under the reference backend. UNet and decoder are small random ones, the recogniser is mobilefacenet itself. */
#include "tests/lib/lk_test.h"
#include "models/face_set.h"
#include "tests/lib/opcheck.h"
#include "models/sampler.h"
#include "train/distil.h"
#include "train/identity.h"
#include "train/person.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char unet_json[] = "{\"_class_name\": \"UNet2DConditionModel\", \"sample_size\": 16, \"in_channels\": 8, \"out_channels\": 8, \"block_out_channels\": [4, 8],"
    "\"down_block_types\": [\"DownBlock2D\", \"CrossAttnDownBlock2D\"], \"up_block_types\": [\"CrossAttnUpBlock2D\", \"UpBlock2D\"], \"layers_per_block\": 1,"
    "\"attention_head_dim\": 2, \"cross_attention_dim\": 6, \"norm_num_groups\": 2, \"act_fn\": \"silu\", \"norm_eps\": 1e-5}";
static const char vae_json[] = "{\"_class_name\": \"AutoencoderKL\", \"in_channels\": 3, \"out_channels\": 3, \"latent_channels\": 8, \"block_out_channels\": [4, 4, 4],"
    "\"down_block_types\": [\"DownEncoderBlock2D\", \"DownEncoderBlock2D\", \"DownEncoderBlock2D\"], \"up_block_types\": [\"UpDecoderBlock2D\", \"UpDecoderBlock2D\", \"UpDecoderBlock2D\"],"
    "\"layers_per_block\": 1, \"norm_num_groups\": 2, \"sample_size\": 64}";
static lk_err config_file(const char *name, const char *text, char path[400]) {
    snprintf(path, 400, "%s/%s", lk_test_dir(), name);
    return lk_write_file_atomic(path, text, strlen(text));
}
typedef struct { lk_zoo zoo; lk_id_branch *b; lk_graph *g; lk_adapter *adapter; lk_diffusion_step *d; lk_val loss; const lk_val *param; int n; lk_val grad[200]; lk_optimiser *o; } rig;
static lk_val predict(void *ctx, lk_graph *g, int micro, lk_val noisy, lk_val t) {
    rig *r = ctx;
    (void)micro;
    lk_net net = lk_net_root(g);
    net.adapters = &r->adapter;
    net.n_adapters = 1;
    lk_val out = lk_unet2d(&net, &r->zoo.unet, noisy, t, lk_input(g, "context", LK_F32, LK_SHAPE(1, LK_ZOO_TOKENS, r->zoo.text.hidden)), LK_UNET_PLAIN);
    int n = lk_adapter_params(r->adapter, g, &r->param);
    lk_optimiser_params(r->o, r->param, n);
    return out;
}
/* The branch is made by hand: no weights file holds such small models. */
static bool rig_new(rig *r, lk_id_opts o) {
    static const char *const targets[] = {"to_q", "to_k", "conv1", NULL};
    char path[400];
    float reference[512];
    op_rng rng = {3};
    *r = (rig){.g = lk_graph_new()};
    CHECK_OK(config_file("unet.json", unet_json, path)); CHECK_OK(lk_unet_config_load(path, &r->zoo.unet));
    CHECK_OK(config_file("vae.json", vae_json, path)); CHECK_OK(lk_vae_config_load(path, &r->zoo.vae));
    r->zoo.text.hidden = 6;
    for (int i = 0; i < lk_recogniser_dim(LK_MOBILEFACENET); i++) reference[i] = (float)op_normal(&rng);
    lk_err e = lk_id_branch_graph_only(&r->zoo, o, reference, &r->b);
    if (!CHECK_MSG(!e, "%s", lk_err_text(e))) return false;
    r->adapter = lk_adapter_new((lk_lora_config){.kind = LK_LORA, .r = 2, .alpha = 2, .targets = targets}, "");
    r->o = lk_optimiser_new(r->g, NULL, 0, (lk_optimiser_config){.micro_batches = 1});
    r->d = lk_diffusion_step_new(r->g, (lk_diffusion_config){.prediction = LK_PREDICT_V, .latent = LK_SHAPE(1, LK_ZOO_LATENT, LK_ZOO_GRID, LK_ZOO_GRID), .noise_given = true}, predict, r, NULL, r->o);
    const lk_extra_loss *extra = lk_id_branch_loss(r->b);
    r->loss = extra->build(extra->ctx, r->g, r->adapter, &r->d->micro[0]);
    r->n = lk_adapter_params(r->adapter, r->g, &r->param);
    lk_vjp(r->g, r->loss, LK_NONE, r->param, r->n, r->grad);
    e = lk_graph_error(r->g);
    return CHECK_MSG(!e, "%s", lk_err_text(e)) && CHECK(r->n > 6 && r->n < 200);
}
static void rig_free(rig *r) { lk_id_branch_free(r->b); lk_graph_free(r->g); lk_adapter_free(r->adapter); }
static void fill(lk_exec *x, lk_val v, double scale, uint64_t seed) {
    int64_t n = lk_numel(lk_shape_of(lk_exec_graph(x), v));
    double *values = lk_xmalloc(sizeof *values * (size_t)n);
    op_rng r = {seed};
    for (int64_t i = 0; i < n; i++) values[i] = scale * op_normal(&r);
    CHECK_OK(lk_exec_set_f64(x, v, values, n));
    free(values);
}
static lk_exec *start(rig *r, const lk_val *outputs, int n) {
    static const double one = 0.8, six = 0.6, t = 400;
    lk_exec *x;
    lk_st *st;
    CHECK_OK(lk_exec_new(r->g, outputs, n, (lk_exec_opts){.backend = lk_backend_ref()}, &x));
    if (!x) return NULL;
    static const char *const prefixes[] = {"", "student/", "vae/"};
    for (int i = 0; i < 3; i++) CHECK_OK(lk_weights_init(x, prefixes[i], 7, NULL));
    CHECK_OK(lk_st_open("models/faces/mobilefacenet.safetensors", &st));
    CHECK_OK(lk_face_weights(x, st, "id/"));
    lk_st_close(st);
    for (int i = 0; i < lk_graph_count(r->g); i++) {
        const lk_node *node = lk_graph_node(r->g, (lk_val){i});
        if (node->op == LK_OP_input && node->dtype == LK_F32) fill(x, (lk_val){i}, 1, 100 + (uint64_t)i);
    }
    for (int i = 0; i < r->n; i++) fill(x, r->param[i], 0.3, 500 + (uint64_t)i);
    CHECK_OK(lk_exec_set_f64(x, r->d->micro[0].alpha, &one, 1)); CHECK_OK(lk_exec_set_f64(x, r->d->micro[0].sigma, &six, 1)); CHECK_OK(lk_exec_set_f64(x, r->d->micro[0].timestep, &t, 1));
    return x;
}
/* Along one direction through all the adapter's values at once: dL = <gradient, direction>. Step 2^-23: none of the recogniser's kinks (PReLU) is
 * crossed (at 2^-18 they showed: 4e-4), and rounding (1e-16 / 2^-23 = 1e-9) stays far below the slope. */
static void check_direction(lk_id_opts o, const char *name) {
    rig r;
    if (!rig_new(&r, o)) { rig_free(&r); return; }
    lk_val outputs[201] = {r.loss};
    int n = 1, reached = 0;
    for (int i = 0; i < r.n; i++) if (lk_ok(r.grad[i])) { outputs[n++] = r.grad[i]; reached++; }
    CHECK_MSG(o.cut ? reached == 0 : reached == r.n, "%s: %d of %d adapter params have a gradient", name, reached, r.n);
    lk_exec *x = start(&r, outputs, n);
    if (o.cut || !x) { lk_exec_free(x); rig_free(&r); return; }
    CHECK_OK(lk_exec_run(x));
    double slope = 0, size = 0, f[2], value;
    CHECK_OK(lk_exec_get_f64(x, r.loss, &value, 1));
    double *base[200], *way[200];
    int64_t count[200];
    for (int i = 0; i < r.n; i++) {
        count[i] = lk_numel(lk_shape_of(r.g, r.param[i]));
        base[i] = lk_xmalloc(sizeof(double) * (size_t)count[i]); way[i] = lk_xmalloc(sizeof(double) * (size_t)count[i]);
        op_rng rng = {900 + (uint64_t)i};
        CHECK_OK(lk_exec_get_f64(x, r.grad[i], base[i], count[i]));
        for (int64_t k = 0; k < count[i]; k++) { way[i][k] = op_normal(&rng) / 8; slope += base[i][k] * way[i][k]; size += base[i][k] * base[i][k]; }
        CHECK_OK(lk_exec_get_f64(x, r.param[i], base[i], count[i]));
    }
    lk_exec_free(x);
    x = start(&r, outputs, 1);                                    /* the value alone: a third of the work */
    if (!x) return;
    const double h = 0x1p-23;
    for (int s = 0; s < 2; s++) {
        for (int i = 0; i < r.n; i++) {
            double *moved = lk_xmalloc(sizeof(double) * (size_t)count[i]);
            for (int64_t k = 0; k < count[i]; k++) moved[k] = base[i][k] + (s ? h : -h) * way[i][k];
            CHECK_OK(lk_exec_set_f64(x, r.param[i], moved, count[i]));
            free(moved);
        }
        CHECK_OK(lk_exec_run(x));
        CHECK_OK(lk_exec_get_f64(x, r.loss, &f[s], 1));
    }
    double want = (f[1] - f[0]) / (2 * h);
    CHECK_MSG(size > 0 && fabs(want) > 0, "%s: a zero gradient", name);
    CHECK_MSG(fabs(slope - want) <= 2e-5 * fabs(want) + 1e-12, "%s: %.9g, by differences %.9g", name, slope, want);
    CHECK_MSG(!(fabs(1.01 * slope - want) <= 2e-5 * fabs(want)), "%s: a planted 1 %% was not seen", name);
    for (int i = 0; i < r.n; i++) { free(base[i]); free(way[i]); }
    lk_exec_free(x);
    rig_free(&r);
}
static const lk_id_opts accurate = {.form = LK_ID_ACCURATE, .weight = 0.7, .batch = 1, .steps = 2, .through = 1, .semantic = 0.6, .layout = 0.1, .total_variation = 0.1, .features = 0.5};
TEST(through_both_steps) { lk_id_opts o = accurate; o.through = 2; o.features = 0; check_direction(o, "K = 2"); }
/* The first of two steps held: another gradient, and less memory, than through both. (Differences would move the held step too.) */
TEST(a_held_step_costs_no_memory) {
    int64_t bytes[2];
    for (int k = 1; k <= 2; k++) {
        lk_id_opts o = accurate;
        o.through = k;
        rig r;
        if (!rig_new(&r, o)) { rig_free(&r); return; }
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
TEST(naive_form) { check_direction((lk_id_opts){.form = LK_ID_NAIVE, .weight = 0.5, .gate = 600}, "naive"); }
/* A decoder path that is cut leaves no gradient at all. */
TEST(nothing_remains_when_the_decoder_path_is_cut) {
    check_direction((lk_id_opts){.form = LK_ID_ACCURATE, .weight = 1, .batch = 1, .steps = 2, .through = 2, .cut = true}, "cut");
    check_direction((lk_id_opts){.form = LK_ID_NAIVE, .weight = 1, .cut = true}, "cut, naive");
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
