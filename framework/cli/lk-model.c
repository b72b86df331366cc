/* lk-model plan CONFIG [size=512] [batch=1] [tokens=77] [rank=16]
 *
 * What a model asks for, before a byte of it is loaded: parameters by module, and memory of inference, of training a LoRA and of training
 * everything, from the same graphs and the same plan the executor would use. size is the picture's side in pixels; a VAE of factor 8 before
 * it is assumed. F32 throughout; the backend's workspaces are left out (they depend on the instruction set). */
#include "models/models.h"
#include "train/train.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { const char *config; int64_t size, batch, tokens, rank; } question;
typedef enum { INFERENCE, LORA, FULL, USES } use;
static const char *const use_names[] = { "inference", "LoRA training", "full training" };

/* ---- classes: the model's output for the question's inputs -------------------------------------------------------------- */

static lk_val in(lk_graph *g, const char *name, lk_shape s) { return lk_input(g, name, LK_F32, s); }

static lk_err unet(const lk_net *net, const question *q, lk_val *y) {
    lk_unet_config c;
    lk_graph *g = net->g;
    lk_unet_extra extra = LK_UNET_PLAIN;
    LK_TRY(lk_unet_config_load(q->config, &c));
    if (c.text_time) {
        int64_t ids = c.add_in_dim > 2560 ? 6 : 5;                       /* the refiner has five numbers beside its pooled text */
        extra.text_embeds = in(g, "text_embeds", LK_SHAPE(q->batch, c.add_in_dim - ids * c.add_time_dim));
        extra.time_ids = in(g, "time_ids", LK_SHAPE(q->batch, ids));
    }
    if (c.time_cond_dim) extra.timestep_cond = in(g, "timestep_cond", LK_SHAPE(q->batch, c.time_cond_dim));
    *y = lk_unet2d(net, &c, in(g, "sample", LK_SHAPE(q->batch, c.in_channels, q->size / 8, q->size / 8)), in(g, "timestep", LK_SHAPE(q->batch)),
                   in(g, "context", LK_SHAPE(q->batch, q->tokens, c.context[0])), extra);
    return LK_OK;
}
static lk_err sd3(const lk_net *net, const question *q, lk_val *y) {
    lk_dit_config c;
    lk_graph *g = net->g;
    LK_TRY(lk_sd3_config_load(q->config, &c));
    *y = lk_sd3_transformer(net, &c, in(g, "latent", LK_SHAPE(q->batch, c.in_channels, q->size / 8, q->size / 8)), in(g, "context", LK_SHAPE(q->batch, q->tokens, c.joint_dim)),
                            in(g, "pooled", LK_SHAPE(q->batch, c.pooled_dim)), in(g, "timestep", LK_SHAPE(q->batch)));
    return LK_OK;
}
static lk_err flux(const lk_net *net, const question *q, lk_val *y) {
    lk_dit_config c;
    lk_graph *g = net->g;
    int64_t tokens = (q->size / 16) * (q->size / 16);
    LK_TRY(lk_flux_config_load(q->config, &c));
    *y = lk_flux_transformer(net, &c, in(g, "latent", LK_SHAPE(q->batch, tokens, c.in_channels)), in(g, "context", LK_SHAPE(q->batch, q->tokens, c.joint_dim)),
                             in(g, "pooled", LK_SHAPE(q->batch, c.pooled_dim)), in(g, "timestep", LK_SHAPE(q->batch)), in(g, "img_ids", LK_SHAPE(tokens, 3)),
                             in(g, "txt_ids", LK_SHAPE(q->tokens, 3)), c.guidance ? in(g, "guidance", LK_SHAPE(q->batch)) : LK_NONE);
    return LK_OK;
}
static lk_err qwen(const lk_net *net, const question *q, lk_val *y) {
    lk_dit_config c;
    lk_graph *g = net->g;
    int64_t side = q->size / 16;
    LK_TRY(lk_qwenimage_config_load(q->config, &c));
    *y = lk_qwenimage_transformer(net, &c, in(g, "latent", LK_SHAPE(q->batch, side * side, c.in_channels)), in(g, "context", LK_SHAPE(q->batch, q->tokens, c.joint_dim)), LK_NONE,
                                  in(g, "timestep", LK_SHAPE(q->batch)), (int64_t[][3]){ { 1, side, side } }, 1);
    return LK_OK;
}
static lk_err vae(const lk_net *net, const question *q, lk_val *y) {
    lk_vae_config c;
    lk_graph *g = net->g;
    LK_TRY(lk_vae_config_load(q->config, &c));
    lk_val moments = lk_vae_encode(net, &c, in(g, "image", LK_SHAPE(q->batch, c.in_channels, q->size, q->size)));
    *y = lk_vae_decode(net, &c, lk_vae_mean(g, moments));
    return LK_OK;
}
static lk_err text(const lk_net *net, const question *q, lk_val *y) {
    lk_clip_text_config c;
    LK_TRY(lk_clip_text_config_load(q->config, &c));
    lk_encoder_out out = lk_clip_text(net, &c, lk_input(net->g, "ids", LK_I64, LK_SHAPE(q->batch, q->tokens)), lk_input(net->g, "pool", LK_I64, LK_SHAPE(q->batch)));
    *y = lk_ok(out.embeds) ? out.embeds : out.last_hidden_state;
    return LK_OK;
}

static const struct { const char *class; lk_err (*build)(const lk_net *, const question *, lk_val *); } classes[] = {
    { "UNet2DConditionModel", unet }, { "SD3Transformer2DModel", sd3 }, { "FluxTransformer2DModel", flux }, { "QwenImageTransformer2DModel", qwen },
    { "AutoencoderKL", vae }, { "CLIPTextModel", text }, { "CLIPTextModelWithProjection", text } };

/* ---- plans ------------------------------------------------------------------------------------------------------------------ */

typedef struct { lk_graph *g; lk_adapter *adapter; lk_plan *plan; } planned;

static void planned_free(planned *p) {
    lk_plan_free(p->plan);
    lk_adapter_free(p->adapter);
    lk_graph_free(p->g);
}

static int weights_of(lk_graph *g, lk_val **out) {
    int n = 0;
    *out = lk_xcalloc((size_t)lk_graph_count(g), sizeof **out);
    for (int i = 0; i < lk_graph_count(g); i++) {
        const lk_node *node = lk_graph_node(g, (lk_val){ i });
        if (node->op == LK_OP_param && node->mem == LK_MEM_WEIGHT) (*out)[n++] = (lk_val){ i };
    }
    return n;
}

/* Squared error against a target, AdamW on what is trained: a training step. */
static lk_val add_training(lk_graph *g, lk_adapter *adapter, lk_val y) {
    lk_val target = in(g, "target", lk_shape_of(g, y)), *all = NULL;
    const lk_val *params;
    int n = adapter ? lk_adapter_params(adapter, g, &params) : weights_of(g, &all);
    lk_optimiser *o = lk_optimiser_new(g, adapter ? params : all, n, (lk_optimiser_config){ .clip = 1 });
    lk_optimiser_add_loss(o, lk_mean_all(g, lk_square(g, lk_sub(g, y, target))));
    lk_optimiser_finish(o);
    free(all);
    return lk_optimiser_loss(o);
}

/* The adapter takes the attention projections, as the training scripts do by default. */
static lk_err plan_use(const question *q, lk_err (*build)(const lk_net *, const question *, lk_val *), use u, planned *p) {
    static const char *const targets[] = { "to_q", "to_k", "to_v", "to_out.0", "q_proj", "k_proj", "v_proj", "out_proj", NULL };
    *p = (planned){ .g = lk_graph_new() };
    lk_net net = lk_net_root(p->g);
    lk_val y = LK_NONE;
    if (u == LORA) {
        p->adapter = lk_adapter_new((lk_lora_config){ .r = (int)q->rank, .alpha = (double)q->rank, .targets = targets }, "");
        net.adapters = &p->adapter;
        net.n_adapters = 1;
    }
    LK_TRY(build(&net, q, &y));
    LK_TRY(lk_graph_error(p->g));
    if (u != INFERENCE) y = add_training(p->g, p->adapter, y);
    LK_TRY(lk_graph_error(p->g));
    return lk_plan_new(p->g, &y, 1, (lk_plan_opts){ .element_bytes = 4, .threads = 1 }, &p->plan);
}

/* ---- tables --------------------------------------------------------------------------------------------------------------------- */

/* A module is the first part of a name, with its number where it has one: down_blocks.0, transformer_blocks (all of them), mid_block. */
static void module_of(const char *name, char *out, size_t size) {
    const char *dot = strchr(name, '.'), *second = dot ? strchr(dot + 1, '.') : NULL;
    bool numbered = lk_starts(name, "down_blocks.") || lk_starts(name, "up_blocks.");
    const char *end = numbered && second ? second : dot ? dot : name + strlen(name);
    snprintf(out, size, "%.*s", (int)(end - name), name);
}

static char *grouped(lk_arena *arena, int64_t n) {
    char *digits = lk_fmt(arena, "%lld", (long long)n), *out = lk_alloc(arena, strlen(digits) * 2 + 1), *p = out;
    for (size_t i = 0, len = strlen(digits); i < len; i++) {
        if (i && (len - i) % 3 == 0) *p++ = ',';
        *p++ = digits[i];
    }
    return out;
}

static void print_parameters(lk_arena *arena, const lk_graph *g) {
    struct { char name[96]; int64_t n; } *rows = lk_alloc(arena, (size_t)(lk_graph_count(g) + 1) * sizeof *rows);
    int n = 0;
    int64_t total = 0;
    for (int i = 0; i < lk_graph_count(g); i++) {
        const lk_node *node = lk_graph_node(g, (lk_val){ i });
        char module[96];
        int k = 0;
        if (node->op != LK_OP_param || node->mem != LK_MEM_WEIGHT) continue;
        module_of(node->name, module, sizeof module);
        while (k < n && strcmp(rows[k].name, module)) k++;
        if (k == n) strcpy(rows[n++].name, module);
        rows[k].n += lk_numel(node->shape);
        total += lk_numel(node->shape);
    }
    lk_table *table = lk_table_new("parameters", 2, (const char *[]){ "module", "parameters" });
    for (int k = 0; k < n; k++) lk_table_row(table, (const char *[]){ rows[k].name, grouped(arena, rows[k].n) });
    lk_table_row(table, (const char *[]){ "all", grouped(arena, total) });
    char *out = lk_table_text(table);
    printf("%s\n", out);
    free(out);
    lk_table_free(table);
}

static char *gib(lk_arena *arena, int64_t bytes) { return lk_fmt(arena, "%.3f", (double)bytes / (1 << 30)); }

/* ACTIVATION and GRADIENT share the arena; a row's sum is what an executor allocates but for workspaces and packed copies. */
static void add_use(lk_arena *arena, lk_table *table, use u, const lk_plan *p) {
    int64_t w = p->by_class[LK_MEM_WEIGHT], a = p->by_class[LK_MEM_ADAPTER], o = p->by_class[LK_MEM_OPTIMISER], rest = p->by_class[LK_MEM_INPUT] + p->by_class[LK_MEM_CONSTANT];
    lk_table_row(table, (const char *[]){ use_names[u], gib(arena, w), gib(arena, a), gib(arena, o), gib(arena, p->arena_bytes), gib(arena, rest), gib(arena, w + a + o + p->arena_bytes + rest),
                                          lk_fmt(arena, "%.3g", (double)p->flops / 1e12) });
}

static lk_err plan_all(const question *q, lk_arena *arena, lk_err (*build)(const lk_net *, const question *, lk_val *)) {
    lk_table *table = lk_table_new("memory in GiB", 8, (const char *[]){ "use", "weights", "adapter", "optimiser", "activations, gradients", "inputs", "all", "TFLOP a step" });
    lk_err err = LK_OK;
    for (use u = INFERENCE; u < USES && !err; u++) {
        planned p;
        err = plan_use(q, build, u, &p);
        if (!err && u == INFERENCE) print_parameters(arena, p.g);
        if (!err) add_use(arena, table, u, p.plan);
        planned_free(&p);
        err = lk_err_wrap(err, "%s of %s", use_names[u], q->config);
    }
    lk_table_note(table, lk_fmt(arena, "F32; %lld x %lld pixels, batch %lld, %lld text tokens, LoRA of rank %lld on the attention projections; nothing is recomputed", (long long)q->size,
                                (long long)q->size, (long long)q->batch, (long long)q->tokens, (long long)q->rank));
    char *out = err ? NULL : lk_table_text(table);
    if (out) printf("%s", out);
    free(out);
    lk_table_free(table);
    return err;
}

/* ---- main ---------------------------------------------------------------------------------------------------------------------------- */

static lk_err option(question *q, const char *arg) {
    const struct { const char *name; int64_t *to, least; } options[] = { { "size", &q->size, 16 }, { "batch", &q->batch, 1 }, { "tokens", &q->tokens, 1 }, { "rank", &q->rank, 1 } };
    const char *eq = strchr(arg, '=');
    for (size_t i = 0; eq && i < sizeof options / sizeof *options; i++) {
        if (strlen(options[i].name) != (size_t)(eq - arg) || strncmp(options[i].name, arg, (size_t)(eq - arg))) continue;
        char *end;
        long long x = strtoll(eq + 1, &end, 10);
        if (!eq[1] || *end || x < options[i].least || x > 1 << 20) return lk_error(LK_EINPUT, "%s: expected a whole number from %lld", arg, (long long)options[i].least);
        *options[i].to = x;
        return LK_OK;
    }
    return lk_error(LK_EINPUT, "%s: no such option; known are size=, batch=, tokens=, rank=", arg);
}

static lk_err run(int argc, char **argv, lk_arena *arena) {
    question q = { .size = 512, .batch = 1, .tokens = 77, .rank = 16 };
    const char *class;
    if (argc < 3 || strcmp(argv[1], "plan")) return lk_error(LK_EINPUT, "usage: lk-model plan CONFIG [size=512] [batch=1] [tokens=77] [rank=16]");
    q.config = argv[2];
    for (int i = 3; i < argc; i++) LK_TRY(option(&q, argv[i]));
    if (q.size % 16) return lk_error(LK_EINPUT, "size=%lld: expected a multiple of 16", (long long)q.size);
    LK_TRY(lk_model_class(q.config, &class));
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) if (!strcmp(classes[i].class, class)) return plan_all(&q, arena, classes[i].build);
    return lk_error(LK_EINPUT, "%s: class %s: plans are made of UNets, SD3, FLUX and Qwen-Image transformers, AutoencoderKL and CLIP's text models", q.config, class);
}

int main(int argc, char **argv) {
    lk_arena *arena = lk_arena_new();
    lk_err err = run(argc, argv, arena);
    lk_arena_free(arena);
    return err ? lk_err_report(err) : 0;
}
