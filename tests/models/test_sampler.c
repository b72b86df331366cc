/* The sampler's two forms and its schedulers, on the zoo's base: without the unconditional half a picture is what guidance 1 gives; Euler walks DDIM's
 * path; what does not go together is refused. */
#include "models/sampler.h"
#include "losses/distillation.h"
#include "models/models.h"
#include "tests/lib/lk_test.h"
#include <stdlib.h>

enum { N = 2, SIZE = N * LK_ZOO_LATENT_SIZE };
static const char *const prompts[N] = {"a photo of a man", "a photo of a <s02> man, smiling"};
static lk_zoo zoo;
static bool ready(void) {
    if (!zoo.directory) CHECK_OK(lk_zoo_open("models/zoo", "vae clip unet", &zoo));
    return zoo.directory != NULL;
}
static void sample(lk_sampler *s, lk_sampling how, float *out) { CHECK_OK(lk_sample(s, prompts, N, 7, 0, how, out)); }
static double apart(const float *a, const float *b) {          /* root mean square over that of a */
    double d = 0, n = 0;
    for (int i = 0; i < SIZE; i++) { d += ((double)a[i] - b[i]) * ((double)a[i] - b[i]); n += (double)a[i] * a[i]; }
    return sqrt(d / n);
}
TEST(plain_is_guidance_one) {
    if (!ready()) return;
    lk_sampler *guided, *plain;
    static float a[SIZE], b[SIZE], c[SIZE];
    CHECK_OK(lk_sampler_new(&zoo, NULL, 2, NULL, &guided));
    CHECK_OK(lk_sampler_new_plain(&zoo, NULL, 0, 2, NULL, &plain));
    sample(guided, (lk_sampling){2, 1, 0, NULL}, a);
    sample(plain, (lk_sampling){2, 1, 0, NULL}, b);
    sample(guided, (lk_sampling){2, 2, 0, NULL}, c);
    CHECK_MSG(apart(a, b) < 1e-5, "%g apart", apart(a, b));         /* lerp at 1 rounds twice: a few ulp a step */
    CHECK_MSG(apart(a, c) > 1e-2, "guidance 2 is %g apart", apart(a, c));
    CHECK_FAILS(lk_sample(plain, prompts, N, 7, 0, (lk_sampling){2, 2, 0, NULL}, b), "expected 1");
    lk_sampler_free(guided);
    lk_sampler_free(plain);
}
/* DDIM without noise is Euler's method in sigma / alpha (Song et al. 2021, equation 13), so both walk the same path but for where it begins and ends:
 * DDIM's first level has .07 of the signal's scale and its last is the schedule's first, Euler's last is zero. */
TEST(euler_walks_ddims_path) {
    if (!ready()) return;
    lk_sampler *s;
    static float ddim[SIZE], euler[SIZE], named[SIZE];
    CHECK_OK(lk_sampler_new_plain(&zoo, NULL, 0, 2, NULL, &s));
    sample(s, (lk_sampling){4, 1, 0, NULL}, ddim);
    sample(s, (lk_sampling){4, 1, 0, "DDIMScheduler"}, named);
    sample(s, (lk_sampling){4, 1, 0, "EulerDiscreteScheduler"}, euler);
    CHECK(!memcmp(ddim, named, sizeof ddim));
    CHECK_MSG(apart(ddim, euler) < 0.05, "%g apart", apart(ddim, euler));
    sample(s, (lk_sampling){4, 1, 0, "DPMSolverMultistepScheduler"}, euler);
    CHECK(isfinite(euler[0]));
    sample(s, (lk_sampling){4, 1, 0, "LCMScheduler"}, euler);
    CHECK_MSG(apart(ddim, euler) > 0.05, "LCM draws noise, yet is %g apart", apart(ddim, euler));
    CHECK_FAILS(lk_sample(s, prompts, N, 7, 0, (lk_sampling){4, 1, 0, "EulerDiscreteSchedular"}, euler), "EulerDiscreteScheduler");
    lk_sampler_free(s);
}
/* One step read as v gives the UNet's answer m back, x and both levels being known; read as x0 the same m must land where DDIM's equation puts it. */
TEST(an_answer_may_be_x0) {
    if (!ready()) return;
    lk_sampler *s;
    lk_scheduler *levels;
    static float v[SIZE], x0[SIZE];
    double a, sg, a2, s2;
    CHECK_OK(lk_scheduler_parse("DDIMScheduler", lk_zoo_scheduler, &levels));
    CHECK_OK(lk_scheduler_marginal(levels, 999, &a, &sg));
    CHECK_OK(lk_scheduler_marginal(levels, 0, &a2, &s2));
    CHECK_OK(lk_sampler_new_plain(&zoo, NULL, 0, 2, NULL, &s));
    sample(s, (lk_sampling){1, 1, 0, NULL}, v);
    sample(s, (lk_sampling){1, 1, 0, NULL, "sample"}, x0);
    lk_jump as_v = lk_jump_between(LK_PREDICT_V, a, sg, a2, s2);
    for (int i = 0; i < SIZE; i++) {
        double x = lk_philox_normal(lk_stream_key(7, "sample.noise"), 0, (uint32_t)(i / LK_ZOO_LATENT_SIZE), (uint64_t)(i % LK_ZOO_LATENT_SIZE)), m = (v[i] - as_v.on_x * x) / as_v.on_prediction;
        CHECK_CLOSE(x0[i], a2 * m + s2 * (x - a * m) / sg, 1e-4);       /* values of a few units, a dozen roundings in binary32 */
    }
    lk_sampler_free(s);
    lk_scheduler_free(levels);
}
TEST(a_sampler_takes_another_unet) {
    if (!ready()) return;
    lk_sampler *from, *to;
    static float before[SIZE], after[SIZE], want[SIZE], bias[LK_ZOO_LATENT] = {0.1f};
    CHECK_OK(lk_sampler_new_plain(&zoo, NULL, 0, 2, NULL, &from));
    CHECK_OK(lk_sampler_new_sized(&zoo, false, NULL, 0, 2, LK_ZOO_GRID, LK_ZOO_GRID, NULL, &to));
    sample(to, (lk_sampling){1, 1, 0, NULL}, before);
    lk_exec *x = lk_sampler_exec(from);
    CHECK_OK(lk_exec_set(x, lk_find(lk_exec_graph(x), "conv_out.bias"), bias, LK_ZOO_LATENT));
    sample(from, (lk_sampling){1, 1, 0, NULL}, want);
    CHECK_OK(lk_sampler_take_unet(to, x));
    sample(to, (lk_sampling){1, 1, 0, NULL}, after);
    CHECK(!memcmp(want, after, sizeof want));
    CHECK(memcmp(want, before, sizeof want));
    lk_sampler_free(to);
    lk_sampler_free(from);
}
/* The noise is drawn by element, so that a size has its own picture; the decoder takes it. */
TEST(other_sizes) {
    if (!ready()) return;
    lk_sampler *s;
    enum { H = 8, W = 12, EACH = LK_ZOO_LATENT * H * W };
    static float latents[2 * EACH], frames[2 * 3 * 16 * H * W], square[2 * 3 * 64 * 64], again[2 * 3 * 64 * 64], z[SIZE];
    CHECK_FAILS(lk_sampler_new_sized(&zoo, false, NULL, 0, 2, 10, 16, NULL, &s), "multiples of 4");
    CHECK_OK(lk_sampler_new_sized(&zoo, true, NULL, 0, 2, H, W, NULL, &s));
    sample(s, (lk_sampling){2, 2, 0, NULL}, latents);
    CHECK_OK(lk_zoo_decode_sized(&zoo, NULL, latents, 2, H, W, frames));
    double sum = 0, squares = 0;
    for (int i = 0; i < 2 * 3 * 16 * H * W; i++) { sum += frames[i]; squares += (double)frames[i] * frames[i]; }
    double n = 2 * 3 * 16 * H * W, mean = sum / n;
    CHECK_MSG(mean > 20 && mean < 235 && squares / n - mean * mean > 100, "mean %g, variance %g", mean, squares / n - mean * mean);
    lk_sampler_free(s);
    for (int i = 0; i < SIZE; i++) z[i] = 0.1f * (float)(i % 17 - 8);
    CHECK_OK(lk_zoo_decode(&zoo, NULL, z, 2, square));
    CHECK_OK(lk_zoo_decode_sized(&zoo, NULL, z, 2, LK_ZOO_GRID, LK_ZOO_GRID, again));
    CHECK(!memcmp(square, again, sizeof square));
}
/* One picture under two texts: the sample repeated by hand, and left to the builder. */
static int64_t two_texts(bool by_hand, float *out) {
    lk_graph *g = lk_graph_new();
    lk_net net = lk_net_root(g);
    const int64_t w = zoo.text.hidden;
    lk_val x = lk_input(g, "x", LK_F32, LK_SHAPE(1, LK_ZOO_LATENT, LK_ZOO_GRID, LK_ZOO_GRID)), t = lk_input(g, "t", LK_F32, LK_SHAPE(1)), text = lk_input(g, "text", LK_F32, LK_SHAPE(2, LK_ZOO_TOKENS, w));
    lk_val in = by_hand ? lk_concat(g, (lk_val[]){x, x}, 2, 0) : x, at = by_hand ? lk_concat(g, (lk_val[]){t, t}, 2, 0) : t;
    lk_val y = lk_unet2d(&net, &zoo.unet, in, at, text, LK_UNET_PLAIN);
    lk_exec *e = NULL;
    float *values = lk_xmalloc(sizeof(float) * (size_t)(2 * LK_ZOO_TOKENS * w));
    for (int64_t i = 0; i < 2 * LK_ZOO_TOKENS * w; i++) values[i] = (float)((i * 7919) % 2003 - 1001) * 0x1p-10f;
    CHECK_OK(lk_graph_error(g));
    CHECK_OK(lk_exec_new(g, &y, 1, (lk_exec_opts){0}, &e));
    if (!e) { free(values); lk_graph_free(g); return 0; }
    CHECK_OK(lk_weights_bind(e, zoo.unet_weights, "", NULL));
    CHECK_OK(lk_exec_set(e, text, values, 2 * LK_ZOO_TOKENS * w));
    CHECK_OK(lk_exec_set(e, x, values, LK_ZOO_LATENT_SIZE));
    CHECK_OK(lk_exec_set_scalar(e, t, 400));
    CHECK_OK(lk_exec_run(e));
    CHECK_OK(lk_exec_get(e, y, out, 2 * LK_ZOO_LATENT_SIZE));
    int64_t flops = lk_exec_plan(e)->flops;
    lk_exec_free(e); lk_graph_free(g); free(values);
    return flops;
}
TEST(texts_share_what_comes_before_them) {
    if (!ready()) return;
    static float repeated[2 * LK_ZOO_LATENT_SIZE], shared[2 * LK_ZOO_LATENT_SIZE];
    int64_t twice = two_texts(true, repeated), once = two_texts(false, shared);
    CHECK(!memcmp(repeated, shared, sizeof shared));
    CHECK(memcmp(shared, shared + LK_ZOO_LATENT_SIZE, sizeof shared / 2));
    CHECK_MSG(once < twice * 97 / 100, "%lld flops, %lld when repeated", (long long)once, (long long)twice);
}
