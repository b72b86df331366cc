/* Checkpoints in fp16 and bf16: a training step of a LoRA and a sample from the zoo's models have the digests that the same values stored in fp32 give, with
 * any instruction set and number of threads, in as many bytes as planned. The zoo's UNet, autoencoder and CLIP are rounded, and written twice. */
#include "models/sampler.h"
#include "tests/lib/lk_test.h"
#include "train/personalise.h"

enum { PICTURES = 2, REFERENCES = 3, STEPS = 2 };
static uint16_t half_of(float x, lk_st_dtype type) { return type == LK_ST_F16 ? lk_half_of(x) : (uint16_t)(lk_bits_of(x) >> 16); }
/* The tensors of `from` rounded to 16 bits, stored so or as floats. wrong: one place of one of them is another. */
static lk_st *rewritten(const lk_st *from, const char *name, lk_st_dtype rounded, bool as_floats, bool wrong) {
    lk_arena *a = lk_arena_new();
    const int n = lk_st_count(from);
    lk_st_item *items = lk_alloc(a, sizeof *items * (size_t)n);
    for (int i = 0; i < n; i++) {
        const lk_tensor *t = lk_st_at(from, i);
        float *x = lk_alloc(a, sizeof *x * (size_t)(t->numel + 1));
        uint16_t *h = lk_alloc(a, sizeof *h * (size_t)(t->numel + 1));
        CHECK_OK(lk_st_f32(t, x));
        for (int64_t k = 0; k < t->numel; k++) h[k] = half_of(x[k], rounded);
        if (wrong && !strcmp(t->name, "mid_block.resnets.0.conv1.weight")) h[11] ^= 1;
        lk_widen_halves(x, h, t->numel, rounded == LK_ST_F16 ? LK_AS_F16 : LK_AS_BF16);
        items[i] = (lk_st_item){.name = t->name, .dtype = as_floats ? LK_ST_F32 : rounded, .rank = t->rank, .data = as_floats ? (const void *)x : h};
        memcpy(items[i].d, t->d, sizeof items[i].d);
    }
    char *path = lk_xfmt("%s/%s.safetensors", lk_test_dir(), name);
    lk_st *st = NULL;
    CHECK_OK(lk_st_write(path, items, n, NULL));
    CHECK_OK(lk_st_open(path, &st));
    free(path);
    lk_arena_free(a);
    return st;
}
static bool open_stored(lk_zoo *z, lk_st_dtype rounded, bool as_floats, bool wrong) {
    lk_err e = lk_zoo_open("models/zoo", "vae clip unet", z);
    if (!CHECK_MSG(!e, "%s", lk_err_text(e))) return false;
    lk_st **parts[] = {&z->unet_weights, &z->vae_weights, &z->clip_weights};
    for (int i = 0; i < 3; i++) {
        char name[64];
        snprintf(name, sizeof name, "part%d_%d%d%d", i, (int)rounded, as_floats, wrong);
        lk_st *st = rewritten(*parts[i], name, rounded, as_floats, wrong);
        lk_st_close(*parts[i]);
        *parts[i] = st;
    }
    return z->unet_weights && z->vae_weights && z->clip_weights;
}
/* Halves are nobody's but the executor's; of floats only the copies it packs are. */
static void check_bytes(const lk_exec *x, bool as_floats, const char *what) {
    const lk_plan *p = lk_exec_plan(x);
    int64_t planned = p->packed_bytes - p->by_class[LK_MEM_WEIGHT] + (as_floats ? 0 : p->unpacked_bytes);
    for (int c = 0; c < LK_MEM_CLASSES; c++) planned += p->by_class[c];
    CHECK_MSG(lk_exec_bytes(x) == planned, "%s: planned %lld, counted %lld", what, (long long)planned, (long long)lk_exec_bytes(x));
}
static void add_floats(lk_sha256 *sha, const float *x, int64_t n) { lk_sha256_add(sha, x, (size_t)n * sizeof *x); }
static void sample(const lk_zoo *z, lk_pool *pool, bool as_floats, lk_sha256 *sha) {
    static const char *const prompts[PICTURES] = {"a photo of a man", "a photo of a <s02> man, smiling"};
    static float latents[PICTURES * LK_ZOO_LATENT_SIZE], frames[PICTURES * 3 * 64 * 64];
    lk_sampler *s;
    CHECK_OK(lk_sampler_new(z, NULL, PICTURES, pool, &s));
    if (!s) return;
    CHECK_OK(lk_sample(s, prompts, PICTURES, 7, 0, (lk_sampling){2, 2, 0, NULL}, latents));
    CHECK_OK(lk_zoo_decode(z, pool, latents, PICTURES, frames));
    check_bytes(lk_sampler_exec(s), as_floats, "sampling");
    add_floats(sha, latents, PICTURES * LK_ZOO_LATENT_SIZE);
    add_floats(sha, frames, PICTURES * 3 * 64 * 64);
    lk_sampler_free(s);
}
static void train(const lk_zoo *z, lk_pool *pool, bool as_floats, lk_sha256 *sha) {
    static const char *const targets[] = {"to_q", "to_v", "to_out.0", "conv1", NULL}, *const captions[REFERENCES] = {"a photo of a <p1> man", "a photo of a <p1> man, smiling", "a photo of a <p1> man"};
    static float latents[REFERENCES * LK_ZOO_LATENT_SIZE];
    for (int64_t i = 0; i < REFERENCES * LK_ZOO_LATENT_SIZE; i++) latents[i] = lk_philox_normal(5, 0, 0, (uint64_t)i);
    lk_personaliser *p;
    CHECK_OK(lk_personaliser_new(z, (lk_lora_config){.r = 2, .alpha = 2, .targets = targets}, (lk_personalise_opts){.steps = STEPS, .batch = 2, .lr = 1e-3, .clip = 1},
                                 (lk_references){REFERENCES, latents, captions}, 3, pool, &p));
    if (!p) return;
    for (int i = 0; i < STEPS; i++) {
        double got[2];
        CHECK_OK(lk_personaliser_step(p, i, &got[0], &got[1]));
        CHECK(got[0] > 0 && got[1] > 0);
        lk_sha256_add(sha, got, sizeof got);
    }
    check_bytes(lk_personaliser_exec(p), as_floats, "training");
    const lk_val *params;
    lk_exec *x = lk_personaliser_exec(p);
    for (int i = 0, n = lk_adapter_params(lk_personaliser_adapter(p), lk_exec_graph(x), &params); i < n; i++) {
        int64_t size = lk_numel(lk_shape_of(lk_exec_graph(x), params[i]));
        float *v = lk_xmalloc(sizeof *v * (size_t)size);
        CHECK_OK(lk_exec_get(x, params[i], v, size));
        add_floats(sha, v, size);
        free(v);
    }
    lk_personaliser_free(p);
}
static void digest(const lk_zoo *z, int threads, bool as_floats, char hex[65]) {
    lk_pool *pool = lk_pool_new(threads);
    lk_sha256 sha;
    lk_sha256_init(&sha);
    sample(z, pool, as_floats, &sha);
    train(z, pool, as_floats, &sha);
    lk_sha256_hex(&sha, hex);
    lk_pool_free(pool);
}
static void same_bits(lk_st_dtype type, const char *name) {
    lk_zoo floats, halves, wrong;
    char want[65], got[65];
    if (!open_stored(&floats, type, true, false) || !open_stored(&halves, type, false, false)) return;
    digest(&floats, 1, true, want);
    digest(&halves, 2, false, got);
    CHECK_MSG(!strcmp(want, got), "%s: other digests than the same values in fp32", name);
    if (type == LK_ST_F16 && open_stored(&wrong, type, false, true)) {                                   /* planted: the last place of one weight */
        digest(&wrong, 2, false, got);
        CHECK(strcmp(want, got));
        lk_zoo_close(&wrong);
    }
    lk_zoo_close(&floats); lk_zoo_close(&halves);
}
TEST(fp16_gives_the_bits_of_its_floats) { same_bits(LK_ST_F16, "fp16"); }
TEST(bf16_gives_the_bits_of_its_floats) { same_bits(LK_ST_BF16, "bf16"); }
