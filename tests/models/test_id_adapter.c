/* The ID adapter: tokens and attention against the formulas in plain loops, binary64; which layers it joins; where it starts; an adapter of another
 * base, of any kind, is refused by its digest. */
#include "backend/backend.h"
#include "models/id_adapter.h"
#include "models/lora.h"
#include "tests/lib/lk_test.h"
#include "tests/lib/opcheck.h"

enum { B = 2, E = 5, H = 6, S = 3, W = 4, T = 7, D = 8, HEADS = 2 };
static const lk_id_adapter_config small = {E, H, W, S};

static void random_values(lk_exec *x, lk_val v, op_rng *r, double *out) {
    int64_t n = lk_numel(lk_shape_of(lk_exec_graph(x), v));
    for (int64_t i = 0; i < n; i++) out[i] = 0.5 * op_normal(r);
    CHECK_OK(lk_exec_set_f64(x, v, out, n));
}
static double gelu(double v) { return 0.5 * v * (1 + erf(v / sqrt(2))); }
/* out[rows][n] = in[rows][m] w[n][m]^T + bias */
static void linear(const double *in, int rows, int m, const double *w, const double *bias, int n, double *out) {
    for (int i = 0; i < rows; i++) for (int j = 0; j < n; j++) {
        double sum = bias ? bias[j] : 0;
        for (int k = 0; k < m; k++) sum += in[i * m + k] * w[j * m + k];
        out[i * n + j] = sum;
    }
}
static void by_hand(const double *emb, const double *w0, const double *b0, const double *w2, const double *b2, const double *gamma, const double *beta, const double *wk, const double *wv,
                    const double *q, double *tokens, double *y) {
    double h[B * H], k[B * S * D], v[B * S * D];
    linear(emb, B, E, w0, b0, H, h);
    for (int i = 0; i < B * H; i++) h[i] = gelu(h[i]);
    linear(h, B, H, w2, b2, S * W, tokens);
    for (int i = 0; i < B * S; i++) {
        double mean = 0, var = 0, *row = tokens + i * W;
        for (int j = 0; j < W; j++) mean += row[j] / W;
        for (int j = 0; j < W; j++) var += (row[j] - mean) * (row[j] - mean) / W;
        for (int j = 0; j < W; j++) row[j] = (row[j] - mean) / sqrt(var + 1e-5) * gamma[j] + beta[j];
    }
    linear(tokens, B * S, W, wk, NULL, D, k);
    linear(tokens, B * S, W, wv, NULL, D, v);
    enum { P = D / HEADS };
    for (int b = 0; b < B; b++) for (int t = 0; t < T; t++) for (int a = 0; a < HEADS; a++) {
        double p[S], sum = 0;
        for (int s = 0; s < S; s++) {
            double dot = 0;
            for (int j = 0; j < P; j++) dot += q[(b * T + t) * D + a * P + j] * k[(b * S + s) * D + a * P + j];
            sum += p[s] = exp(dot / sqrt(P));
        }
        for (int j = 0; j < P; j++) {
            double one = 0;
            for (int s = 0; s < S; s++) one += p[s] / sum * v[(b * S + s) * D + a * P + j];
            y[(b * T + t) * D + a * P + j] = one;
        }
    }
}
TEST(tokens_and_attention_follow_the_formulas) {
    static const char *const names[] = {"image_proj.proj.0.weight", "image_proj.proj.0.bias", "image_proj.proj.2.weight", "image_proj.proj.2.bias", "image_proj.norm.weight", "image_proj.norm.bias",
                                        "up.attn2.processor.to_k_ip.weight", "up.attn2.processor.to_v_ip.weight"};
    lk_graph *g = lk_graph_new();
    lk_val emb = lk_input(g, "emb", LK_F32, LK_SHAPE(B, E)), q = lk_input(g, "q", LK_F32, LK_SHAPE(B, T, D));
    lk_id_adapter a;
    lk_id_adapter_join(&a, small, g, emb);
    lk_net net = lk_net_root(g), up = lk_net_sub(&net, "up"), layer = lk_net_sub(&up, "attn2");
    layer.param_prefix = "student/";                             /* another copy of the model has the same adapter */
    lk_val y = a.guest.attend(a.guest.ctx, &layer, q, D, HEADS);
    lk_exec *x;
    CHECK_OK(lk_graph_error(g));
    CHECK_OK(lk_exec_new(g, (lk_val[]){a.tokens, y}, 2, (lk_exec_opts){.backend = lk_backend_ref()}, &x));
    double value[10][256], tokens[B * S * W], got_tokens[B * S * W], want[B * T * D], got[B * T * D], error;
    op_rng r = {5};
    random_values(x, emb, &r, value[8]);
    random_values(x, q, &r, value[9]);
    for (int i = 0; i < 8; i++) {
        lk_val v = lk_find(g, lk_fmt(lk_graph_arena(g), LK_ID_ADAPTER_PREFIX "%s", names[i]));
        if (!CHECK_MSG(lk_ok(v), "no param %s", names[i])) return;
        random_values(x, v, &r, value[i]);
    }
    by_hand(value[8], value[0], value[1], value[2], value[3], value[4], value[5], value[6], value[7], value[9], tokens, want);
    CHECK_OK(lk_exec_run(x));
    CHECK_OK(lk_exec_get_f64(x, a.tokens, got_tokens, B * S * W));
    CHECK_OK(lk_exec_get_f64(x, y, got, B * T * D));
    CHECK_MSG(op_close(got_tokens, tokens, B * S * W, 1e-12, &error), "tokens off by %.3g", error);      /* binary64 both; a few dozen roundings */
    CHECK_MSG(op_close(got, want, B * T * D, 1e-12, &error), "attention off by %.3g", error);
    lk_exec_free(x);
    lk_graph_free(g);
}

/* ---- in the zoo's base ---------------------------------------------------------------------------------------------- */
typedef struct { lk_zoo zoo; lk_graph *g; lk_exec *x; lk_val out; } rig;
static bool rig_new(rig *r, bool guest) {
    *r = (rig){.g = lk_graph_new()};
    CHECK_OK(lk_zoo_open("models/zoo", "clip unet", &r->zoo));
    lk_graph *g = r->g;
    lk_net net = lk_net_root(g);
    lk_id_adapter id;
    lk_val person = lk_input(g, "person", LK_F32, LK_SHAPE(1, lk_zoo_id_adapter.embedding));
    if (guest) { lk_id_adapter_join(&id, lk_zoo_id_adapter, g, person); net.guest = &id.guest; }
    r->out = lk_unet2d(&net, &r->zoo.unet, lk_input(g, "x", LK_F32, LK_SHAPE(1, LK_ZOO_LATENT, LK_ZOO_GRID, LK_ZOO_GRID)), lk_input(g, "t", LK_F32, LK_SHAPE(1)),
                       lk_input(g, "context", LK_F32, LK_SHAPE(1, LK_ZOO_TOKENS, r->zoo.text.hidden)), LK_UNET_PLAIN);
    CHECK_OK(lk_graph_error(g));
    CHECK_OK(lk_exec_new(g, &r->out, 1, (lk_exec_opts){0}, &r->x));
    if (!r->x) return false;
    CHECK_OK(lk_weights_bind(r->x, r->zoo.unet_weights, "", NULL));
    static const char *const inputs[] = {"person", "x", "t", "context"};
    op_rng rng = {9};
    for (int i = 0; i < 4; i++) {
        float v[8192];
        lk_val in = lk_find(g, inputs[i]);
        int64_t n = lk_ok(in) ? lk_numel(lk_shape_of(g, in)) : 0;
        for (int64_t k = 0; k < n; k++) v[k] = i == 2 ? 300 : (float)op_normal(&rng);
        if (n) CHECK_OK(lk_exec_set(r->x, in, v, n));
    }
    return true;
}
static void rig_free(rig *r) { lk_exec_free(r->x); lk_graph_free(r->g); lk_zoo_close(&r->zoo); }
static void run(rig *r, float out[LK_ZOO_LATENT_SIZE]) { CHECK_OK(lk_exec_run(r->x)); CHECK_OK(lk_exec_get(r->x, r->out, out, LK_ZOO_LATENT_SIZE)); }
TEST(joins_every_cross_attention_and_starts_from_its_weights) {
    rig with, plain;
    static float a[LK_ZOO_LATENT_SIZE], b[LK_ZOO_LATENT_SIZE], v[40000], w[40000];
    if (!rig_new(&with, true) || !rig_new(&plain, false)) return;
    CHECK_OK(lk_id_adapter_init(with.x, 3));
    int layers = 0;
    int64_t values = 0;
    run(&plain, a);
    run(&with, b);
    CHECK(memcmp(a, b, sizeof a));                               /* it is heard */
    for (int i = 0; i < lk_graph_count(with.g); i++) {
        const lk_node *node = lk_graph_node(with.g, (lk_val){i});
        if (node->op != LK_OP_param || !lk_starts(node->name, LK_ID_ADAPTER_PREFIX)) continue;
        int64_t n = lk_numel(node->shape);
        values += n;
        const char *at = strstr(node->name, ".processor.to_");
        if (!at) continue;
        layers++;
        CHECK(strstr(node->name, "attn2") != NULL);
        lk_val own = lk_find(with.g, lk_fmt(lk_graph_arena(with.g), "%.*s.to_%c.weight", (int)(at - node->name) - (int)strlen(LK_ID_ADAPTER_PREFIX), node->name + strlen(LK_ID_ADAPTER_PREFIX), at[14]));
        CHECK_OK(lk_exec_get(with.x, (lk_val){i}, v, n));
        CHECK_OK(lk_exec_get(with.x, own, w, n));
        CHECK(!memcmp(v, w, sizeof *v * (size_t)n));
        memset(v, 0, sizeof *v * (size_t)n);
        if (at[14] == 'v') CHECK_OK(lk_exec_set(with.x, (lk_val){i}, v, n));
    }
    CHECK(layers == 22);                                         /* 11 layers, a key and a value each */
    CHECK_MSG(values == 332512, "%lld values", (long long)values);
    run(&with, b);
    CHECK(!memcmp(a, b, sizeof a));                              /* values of zero: the base, to the bit */
    CHECK_OK(lk_id_adapter_load(with.x, &with.zoo, LK_ID_ADAPTER_PATH));
    run(&with, b);
    CHECK(memcmp(a, b, sizeof a));
    rig_free(&with);
    rig_free(&plain);
}

/* ---- which base -------------------------------------------------------------------------------------------------------- */
static void write_base(const char *path, float value, bool half) {
    float x[4] = {1, 2, 3, value};
    uint16_t h[4];
    for (int i = 0; i < 4; i++) h[i] = lk_half_of(x[i]);
    lk_st_item item = {.name = "to_q.weight", .dtype = half ? LK_ST_F16 : LK_ST_F32, .rank = 2, .d = {2, 2}, .data = half ? (void *)h : x};
    CHECK_OK(lk_st_write(path, &item, 1, NULL));
}
TEST(an_adapter_of_another_base_is_refused) {
    enum { SAME, HALF, OTHER, BASES };
    char path[BASES][512], file[512], hex[BASES][65];
    lk_st *base[BASES];
    for (int i = 0; i < BASES; i++) {
        snprintf(path[i], sizeof path[i], "%s/base%d.safetensors", lk_test_dir(), i);
        write_base(path[i], i == OTHER ? 5 : 4, i == HALF);
        CHECK_OK(lk_st_open(path[i], &base[i]));
        CHECK_OK(lk_base_digest(base[i], hex[i]));
    }
    CHECK(!strcmp(hex[SAME], hex[HALF]));                        /* values, not how they are stored */
    CHECK(strcmp(hex[SAME], hex[OTHER]));
    for (int named = 0; named < 2; named++) {
        lk_graph *g = lk_graph_new();
        lk_net net = lk_net_root(g);
        lk_adapter *a = lk_adapter_new((lk_lora_config){.r = 1, .alpha = 1, .targets = (const char *[]){"to_q", NULL}}, "");
        net.adapters = &a;
        net.n_adapters = 1;
        lk_val y = lk_nn_linear(&net, "to_q", lk_input(g, "x", LK_F32, LK_SHAPE(1, 2)), 2, 2, false);
        lk_exec *x;
        CHECK_OK(lk_exec_new(g, &y, 1, (lk_exec_opts){0}, &x));
        snprintf(file, sizeof file, "%s/adapter%d.safetensors", lk_test_dir(), named);
        lk_adapter_set_base(a, named ? base[SAME] : NULL);
        CHECK_OK(lk_adapter_save(a, x, file));
        lk_adapter_set_base(a, base[HALF]);
        CHECK_OK(lk_adapter_load(a, x, file));
        lk_adapter_set_base(a, base[OTHER]);
        if (named) CHECK_FAILS(lk_adapter_load(a, x, file), "trained on another base");
        else CHECK_OK(lk_adapter_load(a, x, file));              /* nothing is known of it */
        lk_exec_free(x);
        lk_graph_free(g);
        lk_adapter_free(a);
    }
    rig r;
    float none = 0;
    lk_st_item item = {.name = "x", .dtype = LK_ST_F32, .rank = 1, .d = {1}, .data = &none};
    CHECK_OK(lk_st_write(file, &item, 1, (const char *const[]){LK_BASE_KEY, hex[OTHER], NULL}));
    if (rig_new(&r, true)) CHECK_FAILS(lk_id_adapter_load(r.x, &r.zoo, file), "trained on another base");
    rig_free(&r);
    for (int i = 0; i < BASES; i++) lk_st_close(base[i]);
}
