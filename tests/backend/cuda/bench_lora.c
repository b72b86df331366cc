/* A LoRA training step of a public UNet's shape with random weights on the device: planned and measured memory, time, share of
 * the device's peak. A row of make gpu-check's report; over the emulation it only shows that it works.
 *   bench_lora CONFIG [size=512] [batch=1] [rank=16] [tier=cuda-bf16] [steps=10] */
#include "backend/cuda/cuda.h"
#include "models/models.h"
#include "train/train.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { const char *config, *tier; int64_t size, batch, rank, steps; } question;
/* Dense peak in TFLOP/s by the makers' data sheets: fp32 without tensor cores, tf32, bf16. 0: not in the table. */
static double peak_of(const char *device, const char *tier) {
    static const struct { const char *name; double fp32, tf32, bf16; } table[] = {{"H200", 67, 495, 989}, {"H100", 67, 495, 989}, {"A100", 19.5, 156, 312}, {"B200", 75, 1100, 2250}, {"L40S", 91.6, 183, 362}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strstr(device, table[i].name)) return strstr(tier, "bf16") ? table[i].bf16 : strstr(tier, "tf32") ? table[i].tf32 : table[i].fp32;
    return 0;
}
typedef struct { lk_graph *g; lk_adapter *adapter; lk_optimiser *optimiser; lk_val loss; int n; lk_val inputs[8]; } step_graph;
static lk_val input(step_graph *s, const char *name, lk_shape shape) { return s->inputs[s->n++] = lk_input(s->g, name, LK_F32, shape); }
static lk_err build(const question *q, step_graph *s) {
    static const char *const targets[] = {"to_q", "to_k", "to_v", "to_out.0", NULL};
    lk_unet_config c;
    const lk_val *params;
    *s = (step_graph){.g = lk_graph_new()};
    LK_TRY(lk_unet_config_load(q->config, &c));
    lk_net net = lk_net_root(s->g);
    lk_unet_extra extra = LK_UNET_PLAIN;
    s->adapter = lk_adapter_new((lk_lora_config){.r = (int)q->rank, .alpha = (double)q->rank, .targets = targets}, "");
    net.adapters = &s->adapter; net.n_adapters = 1;
    if (c.text_time) { extra.text_embeds = input(s, "text_embeds", LK_SHAPE(q->batch, c.add_in_dim - 6 * c.add_time_dim)); extra.time_ids = input(s, "time_ids", LK_SHAPE(q->batch, 6)); }
    lk_val x = input(s, "sample", LK_SHAPE(q->batch, c.in_channels, q->size / 8, q->size / 8)), t = input(s, "timestep", LK_SHAPE(q->batch));
    lk_val y = lk_unet2d(&net, &c, x, t, input(s, "context", LK_SHAPE(q->batch, 77, c.context[0])), extra), target = input(s, "target", lk_shape_of(s->g, y));
    int n = lk_adapter_params(s->adapter, s->g, &params);
    s->optimiser = lk_optimiser_new(s->g, params, n, (lk_optimiser_config){.clip = 1});
    lk_optimiser_add_loss(s->optimiser, lk_mse(s->g, y, target));
    lk_optimiser_finish(s->optimiser);
    s->loss = lk_optimiser_loss(s->optimiser);
    return lk_graph_error(s->g);
}
static lk_err fill(const step_graph *s, lk_exec *e) {
    for (int k = 0; k < s->n; k++) {
        int64_t n = lk_numel(lk_shape_of(s->g, s->inputs[k]));
        float *x = lk_xmalloc(sizeof *x * (size_t)(n + 1));
        for (int64_t i = 0; i < n; i++) x[i] = lk_philox_normal(7, 0, (uint32_t)k, (uint64_t)i);
        lk_err err = lk_exec_set(e, s->inputs[k], x, n);
        free(x);
        LK_TRY(err);
    }
    return LK_OK;
}
static int by_value(const void *a, const void *b) { double x = *(const double *)a, y = *(const double *)b; return (x > y) - (x < y); }
static lk_err measure(const question *q) {
    const lk_backend *b;
    step_graph s;
    lk_exec *e;
    int64_t before, after;
    const char *who;
    float loss;
    double *seconds = lk_xcalloc((size_t)q->steps, sizeof *seconds);
    LK_TRY(lk_backend_choose(q->tier));
    LK_TRY(lk_backend_default(&b));
    if (!b->device) return lk_error(LK_EINPUT, "tier=%s: a tier of a device: cuda, cuda-fp32, cuda-tf32 or cuda-bf16", q->tier);
    LK_TRY(build(q, &s));
    LK_TRY(b->device->room(&before, &who));
    LK_TRY(lk_exec_new(s.g, &s.loss, 1, (lk_exec_opts){.backend = b}, &e));
    int64_t planned = lk_exec_bytes(e);
    LK_TRY(lk_weights_init(e, "", 1, NULL));
    LK_TRY(lk_adapter_init(s.adapter, e, 1));
    LK_TRY(fill(&s, e));
    for (int64_t k = -3; k < q->steps; k++) {                 /* one by one, captured, replayed; then measured */
        double start = lk_wall_s();
        LK_TRY(lk_optimiser_set(s.optimiser, e, k + 3, 1e-4));
        LK_TRY(lk_exec_run(e));
        LK_TRY(lk_exec_get(e, s.loss, &loss, 1));
        if (k >= 0) seconds[k] = lk_wall_s() - start;
    }
    LK_TRY(b->device->room(&after, &who));
    qsort(seconds, (size_t)q->steps, sizeof *seconds, by_value);
    double median = seconds[q->steps / 2], rate = (double)lk_exec_plan(e)->flops / median / 1e12, peak = peak_of(lk_cuda_description(), q->tier);
    printf("%-34s size %lld batch %lld rank %lld  %-10s planned %9.1f MiB  measured %9.1f MiB  %9.2f ms a step  %8.2f TFLOP/s", q->config, (long long)q->size, (long long)q->batch, (long long)q->rank, q->tier,
           (double)planned / 0x1p20, (double)(before - after) / 0x1p20, 1e3 * median, rate);
    if (peak > 0) printf("  %5.1f %% of %g", 100 * rate / peak, peak);
    printf("  loss %.9g\n", (double)loss);
    lk_exec_free(e); lk_adapter_free(s.adapter); lk_graph_free(s.g);
    free(seconds);
    lk_cuda_close();
    return LK_OK;
}
int main(int argc, char **argv) {
    question q = {.size = 512, .batch = 1, .rank = 16, .steps = 10, .tier = "cuda-bf16"};
    const struct { const char *key; int64_t *to; } numbers[] = {{"size=", &q.size}, {"batch=", &q.batch}, {"rank=", &q.rank}, {"steps=", &q.steps}};
    for (int i = 1; i < argc; i++) {
        bool known = false;
        for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++) if (lk_starts(argv[i], numbers[k].key)) { *numbers[k].to = atoll(argv[i] + strlen(numbers[k].key)); known = *numbers[k].to > 0; }
        if (lk_starts(argv[i], "tier=")) { q.tier = argv[i] + 5; known = true; }
        if (!strchr(argv[i], '=')) { q.config = argv[i]; known = true; }
        if (!known) return lk_err_report(lk_error(LK_EINPUT, "%s: known are size=, batch=, rank=, steps=, tier=", argv[i]));
    }
    if (!q.config) return lk_err_report(lk_error(LK_EINPUT, "usage: bench_lora CONFIG [size=512] [batch=1] [rank=16] [tier=cuda-bf16] [steps=10]"));
    return lk_err_report(measure(&q));
}
