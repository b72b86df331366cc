/* The teacher: one prediction for samples at timesteps of their own. */
#include "train/distil_internal.h"
#include <stdlib.h>
#include <string.h>

lk_err lk_distil_teacher_new(const lk_zoo *z, int rank, int batch, bool guided, lk_pool *pool, lk_distil_teacher *t) {
    lk_graph *g = lk_graph_new();
    *t = (lk_distil_teacher){.g = g, .batch = batch, .guided = guided, .guidance = LK_NONE};
    lk_net net = lk_net_root(g);
    if (rank) {
        t->adapter = lk_adapter_new(lk_distil_lora(rank), "teacher/");
        net.adapters = &t->adapter;
        net.n_adapters = 1;
    }
    int64_t n = guided ? 2 * batch : batch;
    t->sample = lk_input(g, "sample", LK_F32, LK_SHAPE(batch, LK_ZOO_LATENT, LK_ZOO_GRID, LK_ZOO_GRID));
    t->timestep = lk_input(g, "timestep", LK_F32, LK_SHAPE(batch));
    t->context = lk_input(g, "context", LK_F32, LK_SHAPE(n, LK_ZOO_TOKENS, z->text.hidden));
    t->out = lk_unet2d(&net, &z->unet, t->sample, t->timestep, t->context, LK_UNET_PLAIN);
    if (guided) {
        t->guidance = lk_input(g, "guidance", LK_F32, LK_SCALAR);
        t->out = lk_lerp(g, lk_slice(g, t->out, 0, 0, batch), lk_slice(g, t->out, 0, batch, n), t->guidance);
    }
    LK_TRY(lk_graph_error(g));
    LK_TRY(lk_exec_new(g, &t->out, 1, (lk_exec_opts){.pool = pool}, &t->x));
    return lk_weights_bind(t->x, z->unet_weights, "", NULL);
}
void lk_distil_teacher_free(lk_distil_teacher *t) {
    lk_exec_free(t->x);
    lk_graph_free(t->g);
    lk_adapter_free(t->adapter);
    *t = (lk_distil_teacher){0};
}
lk_err lk_distil_teacher_context(lk_distil_teacher *t, const float *context, const float *empty, double guidance) {
    int64_t each = lk_dim(t->g, t->context, 1) * lk_dim(t->g, t->context, 2);
    if (!t->guided) return lk_exec_set(t->x, t->context, context, t->batch * each);
    float *both = lk_xmalloc(sizeof(float) * (size_t)(2 * t->batch * each));
    for (int b = 0; b < t->batch; b++) memcpy(both + b * each, empty, sizeof(float) * (size_t)each);
    memcpy(both + t->batch * each, context, sizeof(float) * (size_t)(t->batch * each));
    lk_err e = lk_exec_set(t->x, t->context, both, 2 * t->batch * each);
    free(both);
    return e ? e : lk_exec_set_scalar(t->x, t->guidance, guidance);
}
lk_err lk_distil_teacher_predict(lk_distil_teacher *t, const float *x, const float *at, float *out) {
    int64_t size = (int64_t)t->batch * LK_ZOO_LATENT_SIZE;
    lk_err e = lk_exec_set(t->x, t->timestep, at, t->batch);
    if (!e) e = lk_exec_set(t->x, t->sample, x, size);
    if (!e) e = lk_exec_run(t->x);
    return e ? e : lk_exec_get(t->x, t->out, out, size);
}
