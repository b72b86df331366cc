/* A personaliser's step in the small: random UNet and decoder of a few channels, mobilefacenet itself, an adapter on some modules, the identity branch
 * and other terms as asked; and the derivative of what they add along one direction through all the adapter's values. */
#ifndef LK_IDENTITY_RIG_H
#define LK_IDENTITY_RIG_H
#include "models/face_set.h"
#include "tests/lib/lk_test.h"
#include "tests/lib/opcheck.h"
#include "train/identity.h"
#include "train/terms.h"

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
typedef struct { lk_zoo zoo; lk_id_branch *b; lk_terms *terms; lk_extra_pair pair; lk_graph *g; lk_adapter *adapter; lk_diffusion_step *d; lk_val loss; const lk_val *param; int n; lk_val grad[200]; lk_optimiser *o; } rig;
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
static bool rig_new(rig *r, const lk_id_opts *o, const lk_terms_opts *terms) {
    static const char *const targets[] = {"to_q", "to_k", "conv1", NULL};
    char path[400];
    float reference[512];
    op_rng rng = {3};
    *r = (rig){.g = lk_graph_new()};
    CHECK_OK(config_file("unet.json", unet_json, path)); CHECK_OK(lk_unet_config_load(path, &r->zoo.unet));
    CHECK_OK(config_file("vae.json", vae_json, path)); CHECK_OK(lk_vae_config_load(path, &r->zoo.vae));
    r->zoo.text.hidden = 6;
    for (int i = 0; i < lk_recogniser_dim(LK_MOBILEFACENET); i++) reference[i] = (float)op_normal(&rng);
    lk_err e = o ? lk_id_branch_graph_only(&r->zoo, *o, reference, &r->b) : LK_OK;
    if (!e && terms) e = lk_terms_graph_only(&r->zoo, *terms, 1, &r->terms);
    if (!CHECK_MSG(!e, "%s", lk_err_text(e))) return false;
    r->adapter = lk_adapter_new((lk_lora_config){.kind = LK_LORA, .r = 2, .alpha = 2, .targets = targets}, "");
    r->o = lk_optimiser_new(r->g, NULL, 0, (lk_optimiser_config){.micro_batches = 1});
    r->d = lk_diffusion_step_new(r->g, (lk_diffusion_config){.prediction = LK_PREDICT_V, .latent = LK_SHAPE(1, LK_ZOO_LATENT, LK_ZOO_GRID, LK_ZOO_GRID), .noise_given = true}, predict, r, NULL, r->o);
    const lk_extra_loss *extra = lk_extra_both(&r->pair, o ? lk_id_branch_loss(r->b) : NULL, terms ? lk_terms_loss(r->terms) : NULL);
    r->loss = extra->build(extra->ctx, r->g, r->adapter, &r->d->micro[0]);
    r->n = lk_adapter_params(r->adapter, r->g, &r->param);
    lk_vjp(r->g, r->loss, LK_NONE, r->param, r->n, r->grad);
    e = lk_graph_error(r->g);
    return CHECK_MSG(!e, "%s", lk_err_text(e)) && CHECK(r->n > 6 && r->n < 200);
}
static void rig_free(rig *r) { lk_id_branch_free(r->b); lk_terms_free(r->terms); lk_graph_free(r->g); lk_adapter_free(r->adapter); }
static void fill(lk_exec *x, lk_val v, double scale, uint64_t seed) {
    int64_t n = lk_numel(lk_shape_of(lk_exec_graph(x), v));
    double *values = lk_xmalloc(sizeof *values * (size_t)n);
    op_rng r = {seed};
    for (int64_t i = 0; i < n; i++) values[i] = scale * op_normal(&r);
    CHECK_OK(lk_exec_set_f64(x, v, values, n));
    free(values);
}
static bool looks_at_faces(const rig *r) {
    for (int i = 0; i < lk_graph_count(r->g); i++) { const lk_node *node = lk_graph_node(r->g, (lk_val){i}); if (node->op == LK_OP_param && lk_starts(node->name, "id/")) return true; }
    return false;
}
static void half_mask(lk_exec *x, lk_val v) {
    double values[LK_ZOO_GRID * LK_ZOO_GRID];
    for (int i = 0; i < LK_ZOO_GRID * LK_ZOO_GRID; i++) values[i] = i % 3 / 2.0;
    CHECK_OK(lk_exec_set_f64(x, v, values, LK_ZOO_GRID * LK_ZOO_GRID));
}
static lk_exec *start(rig *r, const lk_val *outputs, int n, const lk_backend *backend) {
    static const double one = 0.8, six = 0.6, t = 400;
    lk_exec *x;
    lk_st *st;
    CHECK_OK(lk_exec_new(r->g, outputs, n, (lk_exec_opts){.backend = backend}, &x));
    if (!x) return NULL;
    static const char *const prefixes[] = {"", "student/", "vae/", "vgg/", "lin/", "clip_image/"};
    for (int i = 0; i < 6; i++) CHECK_OK(lk_weights_init(x, prefixes[i], 7, NULL));
    CHECK_OK(lk_st_open("models/faces/mobilefacenet.safetensors", &st));
    if (lk_ok(lk_find(r->g, "id.reference")) || (r->terms && looks_at_faces(r))) CHECK_OK(lk_face_weights(x, st, "id/"));
    lk_st_close(st);
    for (int i = 0; i < lk_graph_count(r->g); i++) {
        const lk_node *node = lk_graph_node(r->g, (lk_val){i});
        if (node->op == LK_OP_input && node->dtype == LK_F32) fill(x, (lk_val){i}, 1, 100 + (uint64_t)i);
        if (node->op == LK_OP_input && !strcmp(node->name, "terms.mask")) half_mask(x, (lk_val){i});
    }
    for (int i = 0; i < r->n; i++) fill(x, r->param[i], 0.3, 500 + (uint64_t)i);
    CHECK_OK(lk_exec_set_f64(x, r->d->micro[0].alpha, &one, 1)); CHECK_OK(lk_exec_set_f64(x, r->d->micro[0].sigma, &six, 1)); CHECK_OK(lk_exec_set_f64(x, r->d->micro[0].timestep, &t, 1));
    return x;
}
/* Along one direction through all the adapter's values at once: dL = <gradient, direction>. Step 2^-23: none of the recogniser's kinks (PReLU) is
 * crossed (at 2^-18 they showed: 4e-4), and rounding (1e-16 / 2^-23 = 1e-9) stays far below the slope. `quick`: by the cpu in binary32 with this step, for networks
 * too large for plain loops; rounding and curvature then allow 3 %, and 10 % is planted. 0: as said. */
static void check_direction(const lk_id_opts *id, const lk_terms_opts *terms, double quick, const char *name) {
    const lk_backend *backend = quick > 0 ? NULL : lk_backend_ref();
    const double h = quick > 0 ? quick : 0x1p-23, tolerance = quick > 0 ? 0.03 : 2e-5, planted = quick > 0 ? 1.1 : 1.01;
    bool cut = id && id->cut;
    rig r;
    if (!rig_new(&r, id, terms)) { rig_free(&r); return; }
    lk_val outputs[201] = {r.loss};
    int n = 1, reached = 0;
    for (int i = 0; i < r.n; i++) if (lk_ok(r.grad[i])) { outputs[n++] = r.grad[i]; reached++; }
    CHECK_MSG(cut ? reached == 0 : reached == r.n, "%s: %d of %d adapter params have a gradient", name, reached, r.n);
    lk_exec *x = start(&r, outputs, n, backend);
    if (cut || !x) { lk_exec_free(x); rig_free(&r); return; }
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
    x = start(&r, outputs, 1, backend);                                    /* the value alone: a third of the work */
    if (!x) return;
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
    CHECK_MSG(fabs(slope - want) <= tolerance * fabs(want) + 1e-12, "%s: %.9g, by differences %.9g", name, slope, want);
    CHECK_MSG(!(fabs(planted * slope - want) <= tolerance * fabs(want)), "%s: a planted error was not seen", name);
    for (int i = 0; i < r.n; i++) { free(base[i]); free(way[i]); }
    lk_exec_free(x);
    rig_free(&r);
}
#endif
