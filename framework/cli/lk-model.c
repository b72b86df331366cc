/* lk-model plan CONFIG [size=512] [batch=1] [tokens=77] [rank=16] [backend=cpu|cuda|cuda-bf16] [activations=fp32|bf16] [mem=24G]
 *                      [steps=K vae=CONFIG]
 * lk-model random CONFIG FILE [store=fp32|fp16|bf16]
 *
 * What a model asks for, before a byte of it is loaded: parameters by module, and memory of inference, of training a LoRA and of training
 * everything, from the same graphs and the same plan the executor would use, each as it comes, with everything recomputed that recomputing
 * makes smaller, and, where mem= is given, with what fits in that. size is the picture's side in pixels; a VAE of factor 8 before it is assumed.
 *
 * steps=K plans a step of training through the sampler instead: the last 1 to K denoising steps of a UNet chained by Euler's rule, the VAE's
 * decoder, a face recogniser's embedding of the picture, its cosine to a reference as loss; the encoders stand outside.
 *
 * backend=cpu counts the packed copies of frozen weights, beside them only what is read unpacked, and workspaces of two threads; cuda and cuda-bf16 leave cuBLASLt's workspace out.
 * random writes a checkpoint of drawn values under the model's names: matrices uniform by fan-in, norms 1 and 0. Such a file loads, trains and
 * costs what the published one does.
 *
 * activations=bf16 halves what the arena holds: no backend computes so, trainers elsewhere do. */
#include "backend/memory.h"
#include "models/face_nets.h"
#include "models/models.h"
#include "losses/identity.h"
#include "train/train.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 2, MOST_STEPS = 8 };
typedef enum { CPU, CUDA, CUDA_BF16, BACKENDS } where;
static const char *const where_names[BACKENDS] = { "cpu", "cuda", "cuda-bf16" };
typedef struct { const char *config, *vae; int64_t size, batch, tokens, rank, mem, steps; where backend; bool half_activations; } question;
typedef enum { INFERENCE, LORA, FULL, USES } use;
static const char *const use_names[] = { "inference", "LoRA training", "full training" };

/* ---- classes: the model's output for the question's inputs -------------------------------------------------------------- */

static lk_val in(lk_graph *g, const char *name, lk_shape s) { return lk_input(g, name, LK_F32, s); }

/* A UNet's inputs beside the sample. */
typedef struct { lk_unet_config c; lk_val context, timestep; lk_unet_extra extra; } unet_inputs;
static lk_err unet_open(lk_graph *g, const question *q, unet_inputs *u) {
    LK_TRY(lk_unet_config_load(q->config, &u->c));
    u->extra = LK_UNET_PLAIN;
    if (u->c.text_time) {
        int64_t ids = u->c.add_in_dim > 2560 ? 6 : 5;                    /* the refiner has five numbers beside its pooled text */
        u->extra.text_embeds = in(g, "text_embeds", LK_SHAPE(q->batch, u->c.add_in_dim - ids * u->c.add_time_dim));
        u->extra.time_ids = in(g, "time_ids", LK_SHAPE(q->batch, ids));
    }
    if (u->c.time_cond_dim) u->extra.timestep_cond = in(g, "timestep_cond", LK_SHAPE(q->batch, u->c.time_cond_dim));
    u->timestep = in(g, "timestep", LK_SHAPE(q->batch));
    u->context = in(g, "context", LK_SHAPE(q->batch, q->tokens, u->c.context[0]));
    return LK_OK;
}
static lk_val unet_sample(lk_graph *g, const question *q, const unet_inputs *u) { return in(g, "sample", LK_SHAPE(q->batch, u->c.in_channels, q->size / 8, q->size / 8)); }
static lk_err unet(const lk_net *net, const question *q, lk_val *y) {
    unet_inputs u;
    LK_TRY(unet_open(net->g, q, &u));
    *y = lk_unet2d(net, &u.c, unet_sample(net->g, q, &u), u.timestep, u.context, u.extra);
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

typedef struct { lk_graph *g; lk_adapter *adapter; lk_val y; } built;

static void built_free(built *b) {
    lk_adapter_free(b->adapter);
    lk_graph_free(b->g);
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

/* Clipped AdamW on what is trained: a training step. */
static lk_val add_training(lk_graph *g, lk_adapter *adapter, lk_val loss) {
    lk_val *all = NULL;
    const lk_val *params;
    int n = adapter ? lk_adapter_params(adapter, g, &params) : weights_of(g, &all);
    lk_optimiser *o = lk_optimiser_new(g, adapter ? params : all, n, (lk_optimiser_config){ .clip = 1 });
    lk_optimiser_add_loss(o, loss);
    lk_optimiser_finish(o);
    free(all);
    return lk_optimiser_loss(o);
}

/* The adapter takes the attention projections, as the training scripts do by default. */
static lk_net start(const question *q, bool adapter, built *b) {
    static const char *const targets[] = { "to_q", "to_k", "to_v", "to_out.0", "q_proj", "k_proj", "v_proj", "out_proj", NULL };
    *b = (built){ .g = lk_graph_new() };
    lk_net net = lk_net_root(b->g);
    if (!adapter) return net;
    b->adapter = lk_adapter_new((lk_lora_config){ .r = (int)q->rank, .alpha = (double)q->rank, .targets = targets }, "");
    net.adapters = &b->adapter;
    net.n_adapters = 1;
    return net;
}
static lk_err build_use(const question *q, lk_err (*build)(const lk_net *, const question *, lk_val *), use u, built *b) {
    lk_net net = start(q, u == LORA, b);
    LK_TRY(build(&net, q, &b->y));
    LK_TRY(lk_graph_error(b->g));
    if (u != INFERENCE) b->y = add_training(b->g, b->adapter, lk_mean_all(b->g, lk_square(b->g, lk_sub(b->g, b->y, in(b->g, "target", lk_shape_of(b->g, b->y))))));
    return lk_graph_error(b->g);
}

/* The last k of a sampler's steps: x += (sigma' - sigma) eps(x / sqrt(sigma^2 + 1)), sigmas of SDXL from 14.6 to 0 in four (or k) parts. */
static lk_err build_steps(const question *q, int k, built *b) {
    lk_net net = start(q, true, b), frozen = lk_net_root(b->g), face = frozen;
    lk_graph *g = b->g;
    unet_inputs u;
    lk_vae_config vae;
    frozen.param_prefix = "vae/";
    face.param_prefix = "face/";
    LK_TRY(unet_open(g, q, &u));
    LK_TRY(lk_vae_config_load(q->vae, &vae));
    lk_val x = unet_sample(g, q, &u);
    int parts = k > 4 ? k : 4;
    for (int i = k; i > 0; i--) {
        double sigma = 14.6 * i / parts, next = 14.6 * (i - 1) / parts;
        lk_val eps = lk_unet2d(&net, &u.c, lk_scale(g, x, 1 / __builtin_sqrt(sigma * sigma + 1)), u.timestep, u.context, u.extra);
        x = lk_add(g, x, lk_scale(g, eps, next - sigma));
    }
    lk_val picture = lk_vae_decode(&frozen, &vae, lk_scale(g, x, 1 / vae.scaling_factor));
    int64_t side = lk_recogniser_size(LK_MOBILEFACENET);
    lk_val pixels = lk_shift(g, lk_scale(g, picture, 127.5), 127.5), warp = in(g, "warp", LK_SHAPE(q->batch, 2, 3));
    lk_val chip = lk_affine_warp(g, pixels, warp, (lk_warp){ .size = { (int)side, (int)side }, .clamp = true });
    lk_val likeness = lk_recogniser_embed(&face, LK_MOBILEFACENET, chip);
    b->y = add_training(g, b->adapter, lk_identity_loss(g, likeness, in(g, "reference", LK_SHAPE(1, lk_recogniser_dim(LK_MOBILEFACENET))), LK_NONE));
    return lk_graph_error(g);
}

static lk_err options_of(const question *q, lk_plan_opts *o) {
    *o = (lk_plan_opts){ .element_bytes = 4, .threads = THREADS };
    const lk_backend *cpu;
    if (q->backend == CUDA_BF16) o->keeps_bf16 = lk_takes_bf16;
    if (q->backend != CPU) return LK_OK;
    LK_TRY(lk_backend_cpu(LK_ISA_AUTO, &cpu));
    o->workspace = cpu->workspace;
    o->pack_form = cpu->pack_form;
    o->pack_other = cpu->pack_other;
    return LK_OK;
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

/* Attention scores an implementation that stores them would keep for its gradients, one fp32 matrix an attention. */
static int64_t attention_scores(const lk_graph *g) {
    int64_t sum = 0;
    for (int i = 0; i < lk_graph_count(g); i++) {
        const lk_node *n = lk_graph_node(g, (lk_val){ i });
        if (n->op != LK_OP_sdpa) continue;
        lk_shape query = n->shape, key = lk_shape_of(g, n->in[1]);
        sum += 4 * query.d[0] * n->attr.sdpa.heads * query.d[1] * key.d[1];
    }
    return sum;
}

enum { COLUMNS = 11 };
static const char *const columns[COLUMNS] = { "use", "weights unpacked", "packed", "adapter", "optimiser", "activations, gradients", "of it alive", "inputs", "workspace", "all", "TFLOP a step" };
/* ACTIVATION and GRADIENT share the arena; a row's sum is what an executor allocates, and of a mapped fp32 file what stays read. A file in fp16 or bf16 takes
 * the same: what is read unpacked is widened. */
static int64_t fixed_bytes(const lk_plan *p) {
    int64_t sum = p->packed_bytes + p->unpacked_bytes - p->by_class[LK_MEM_WEIGHT] - p->arena_bytes;
    for (int c = 0; c < LK_MEM_CLASSES; c++) sum += p->by_class[c];
    return sum;
}
static lk_err add_row(const question *q, lk_arena *arena, lk_table *table, const built *b, const char *name, int64_t budget, int64_t *plain) {
    lk_plan *p, *half = NULL;
    lk_plan_opts o;
    LK_TRY(options_of(q, &o));
    o.arena_budget = budget;
    LK_TRY(lk_plan_new(b->g, &b->y, 1, o, &p));
    o.element_bytes = 2;
    if (q->half_activations) LK_TRY(lk_plan_new(b->g, &b->y, 1, o, &half));
    int64_t at = half ? half->arena_bytes : p->arena_bytes, alive = half ? half->alive_bytes : p->alive_bytes, fixed = fixed_bytes(p);
    int64_t leaves = p->by_class[LK_MEM_INPUT] + p->by_class[LK_MEM_CONSTANT];
    char *flops = p->recomputed_flops ? lk_fmt(arena, "%.3g (%.0f %% again)", (double)p->flops / 1e12, 100 * (double)p->recomputed_flops / (double)(p->flops - p->recomputed_flops))
                                      : lk_fmt(arena, "%.3g", (double)p->flops / 1e12);
    lk_table_row(table, (const char *[]){ name, gib(arena, p->unpacked_bytes), gib(arena, p->packed_bytes), gib(arena, p->by_class[LK_MEM_ADAPTER]), gib(arena, p->by_class[LK_MEM_OPTIMISER]),
                                          gib(arena, at), gib(arena, alive), gib(arena, leaves), gib(arena, p->by_class[LK_MEM_WORKSPACE]), gib(arena, fixed + at), flops });
    if (plain) *plain = fixed;
    lk_plan_free(p);
    lk_plan_free(half);
    return LK_OK;
}
static lk_err add_rows(const question *q, lk_arena *arena, lk_table *table, const built *b, const char *name, bool trains) {
    int64_t fixed;
    LK_TRY(add_row(q, arena, table, b, name, 0, &fixed));
    if (trains) LK_TRY(add_row(q, arena, table, b, "  recomputed", 1, NULL));
    if (trains && q->mem) LK_TRY(add_row(q, arena, table, b, "  within mem=", q->mem > fixed ? q->mem - fixed : 1, NULL));
    return LK_OK;
}
static void print_table(const question *q, lk_arena *arena, lk_table *table) {
    lk_table_note(table, lk_fmt(arena, "backend %s, %s activations; %lld x %lld pixels, batch %lld, %lld text tokens, LoRA of rank %lld on the attention projections",
                                where_names[q->backend], q->half_activations ? "bf16" : "fp32", (long long)q->size, (long long)q->size, (long long)q->batch, (long long)q->tokens, (long long)q->rank));
    char *out = lk_table_text(table);
    printf("%s", out);
    free(out);
}

static lk_err plan_all(const question *q, lk_arena *arena, lk_err (*build)(const lk_net *, const question *, lk_val *)) {
    lk_table *table = lk_table_new("memory in GiB", COLUMNS, columns);
    lk_err err = LK_OK;
    int64_t scores = 0;
    for (use u = INFERENCE; u < USES && !err; u++) {
        built b;
        err = build_use(q, build, u, &b);
        if (!err && u == INFERENCE) { print_parameters(arena, b.g); scores = attention_scores(b.g); }
        if (!err) err = add_rows(q, arena, table, &b, use_names[u], u != INFERENCE);
        built_free(&b);
        err = lk_err_wrap(err, "%s of %s", use_names[u], q->config);
    }
    lk_table_note(table, lk_fmt(arena, "attention scores are never in memory; stored for the gradients in fp32 they would take %s", gib(arena, scores)));
    if (!err) print_table(q, arena, table);
    lk_table_free(table);
    return err;
}
static lk_err plan_steps(const question *q, lk_arena *arena) {
    lk_table *table = lk_table_new("memory in GiB", COLUMNS, columns);
    lk_err err = LK_OK;
    for (int k = 1; k <= q->steps && !err; k++) {
        built b;
        err = build_steps(q, k, &b);
        if (!err) err = add_rows(q, arena, table, &b, lk_fmt(arena, "last %d step%s", k, k == 1 ? "" : "s"), true);
        built_free(&b);
    }
    err = lk_err_wrap(err, "the last %lld denoising steps of %s", (long long)q->steps, q->config);
    if (!err) print_table(q, arena, table);
    lk_table_free(table);
    return err;
}

/* ---- random ---------------------------------------------------------------------------------------------------------------------------- */

static float draw(uint64_t *state, float size) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return ((float)(uint32_t)(*state >> 40) * 0x1p-23f - 1) * size;
}
static uint16_t bf16_of(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
static void *drawn_values(lk_arena *arena, const lk_node *node, uint64_t seed, lk_st_dtype dtype) {
    int64_t n = lk_numel(node->shape), fan = node->shape.rank > 1 ? n / node->shape.d[0] : 0;
    float size = fan ? 1 / __builtin_sqrtf((float)fan) : 0, constant = lk_ends(node->name, ".weight");
    float *f32 = lk_alloc(arena, (size_t)n * (dtype == LK_ST_F32 ? 4 : 2) + 64);
    for (int64_t i = 0; i < n; i++) {
        float x = fan ? draw(&seed, size) : constant;
        _Float16 half = (_Float16)x;
        uint16_t brain = bf16_of(x);
        if (dtype == LK_ST_F32) f32[i] = x;
        else memcpy((uint16_t *)(void *)f32 + i, dtype == LK_ST_F16 ? (const void *)&half : &brain, 2);
    }
    return f32;
}
static lk_err write_random(const question *q, lk_err (*build)(const lk_net *, const question *, lk_val *), const char *path, lk_st_dtype dtype) {
    built b;
    lk_err err = build_use(q, build, INFERENCE, &b);
    lk_arena *arena = lk_arena_new();
    lk_val *weights = NULL;
    int n = err ? 0 : weights_of(b.g, &weights);
    lk_st_item *items = lk_xcalloc((size_t)n + 1, sizeof *items);
    for (int i = 0; i < n; i++) {
        const lk_node *node = lk_graph_node(b.g, weights[i]);
        items[i] = (lk_st_item){ .name = node->name, .dtype = dtype, .rank = node->shape.rank, .data = drawn_values(arena, node, (uint64_t)i + 1, dtype) };
        memcpy(items[i].d, node->shape.d, sizeof node->shape.d);
    }
    if (!err) err = lk_st_write(path, items, n, NULL);
    free(items);
    free(weights);
    lk_arena_free(arena);
    built_free(&b);
    return err;
}

/* ---- main ---------------------------------------------------------------------------------------------------------------------------- */

static lk_err word(question *q, const char *key, const char *value, bool *known) {
    *known = true;
    if (!strcmp(key, "vae")) { q->vae = value; return LK_OK; }
    if (!strcmp(key, "mem")) return lk_memory_parse(value, &q->mem);
    if (!strcmp(key, "activations")) {
        q->half_activations = !strcmp(value, "bf16");
        return q->half_activations || !strcmp(value, "fp32") ? LK_OK : lk_error(LK_EINPUT, "activations=%s: it is fp32 or bf16", value);
    }
    *known = !strcmp(key, "backend");
    for (int i = 0; *known && i < BACKENDS; i++) if (!strcmp(value, where_names[i])) { q->backend = (where)i; return LK_OK; }
    return *known ? lk_error(LK_EINPUT, "backend=%s: plans are made for cpu, cuda and cuda-bf16", value) : LK_OK;
}
static lk_err option(question *q, const char *arg) {
    const struct { const char *name; int64_t *to, least; } options[] = { { "size", &q->size, 16 }, { "batch", &q->batch, 1 }, { "tokens", &q->tokens, 1 }, { "rank", &q->rank, 1 }, { "steps", &q->steps, 1 } };
    const char *eq = strchr(arg, '=');
    char key[32] = "";
    bool known = false;
    if (eq && eq - arg < (int)sizeof key) { memcpy(key, arg, (size_t)(eq - arg)); LK_TRY(word(q, key, eq + 1, &known)); }
    if (known) return LK_OK;
    for (size_t i = 0; eq && i < sizeof options / sizeof *options; i++) {
        if (strcmp(options[i].name, key)) continue;
        char *end;
        long long x = strtoll(eq + 1, &end, 10);
        if (!eq[1] || *end || x < options[i].least || x > 1 << 20) return lk_error(LK_EINPUT, "%s: expected a whole number from %lld", arg, (long long)options[i].least);
        *options[i].to = x;
        return LK_OK;
    }
    return lk_error(LK_EINPUT, "%s: no such option; known are size=, batch=, tokens=, rank=, backend=, activations=, mem=, steps=, vae=", arg);
}

static lk_err stored(const char *arg, lk_st_dtype *dtype) {
    const char *const words[] = { "store=fp32", "store=fp16", "store=bf16" };
    const lk_st_dtype types[] = { LK_ST_F32, LK_ST_F16, LK_ST_BF16 };
    for (int i = 0; i < 3; i++) if (!strcmp(arg, words[i])) { *dtype = types[i]; return LK_OK; }
    return lk_error(LK_EINPUT, "%s: it is store=fp32, store=fp16 or store=bf16", arg);
}
static lk_err run(int argc, char **argv, lk_arena *arena) {
    question q = { .size = 512, .batch = 1, .tokens = 77, .rank = 16 };
    const char *class, *path = NULL;
    lk_st_dtype dtype = LK_ST_F32;
    bool random = argc > 3 && !strcmp(argv[1], "random");
    if (argc < 3 || (strcmp(argv[1], "plan") && !random))
        return lk_error(LK_EINPUT, "usage: lk-model plan CONFIG [size=512] [batch=1] [tokens=77] [rank=16] [backend=cpu|cuda|cuda-bf16] [activations=fp32|bf16] [mem=24G] [steps=K vae=CONFIG]\n"
                                     "       lk-model random CONFIG FILE [store=fp32|fp16|bf16]");
    q.config = argv[2];
    if (random) { path = argv[3]; if (argc > 4) LK_TRY(stored(argv[4], &dtype)); }
    for (int i = 3; i < argc && !random; i++) LK_TRY(option(&q, argv[i]));
    if (q.size % 16) return lk_error(LK_EINPUT, "size=%lld: expected a multiple of 16", (long long)q.size);
    if (q.steps > MOST_STEPS) return lk_error(LK_EINPUT, "steps=%lld: expected 1 to %d", (long long)q.steps, MOST_STEPS);
    LK_TRY(lk_model_class(q.config, &class));
    if (q.steps) {
        if (strcmp(class, "UNet2DConditionModel")) return lk_error(LK_EINPUT, "steps=%lld: %s is a %s; steps are planned of a UNet2DConditionModel", (long long)q.steps, q.config, class);
        if (!q.vae) return lk_error(LK_EINPUT, "steps=%lld: vae=CONFIG is missing, the config of the VAE that decodes", (long long)q.steps);
        return plan_steps(&q, arena);
    }
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) if (!strcmp(classes[i].class, class)) return random ? write_random(&q, classes[i].build, path, dtype) : plan_all(&q, arena, classes[i].build);
    return lk_error(LK_EINPUT, "%s: class %s: plans are made of UNets, SD3, FLUX and Qwen-Image transformers, AutoencoderKL and CLIP's text models", q.config, class);
}

int main(int argc, char **argv) {
    lk_arena *arena = lk_arena_new();
    lk_err err = run(argc, argv, arena);
    lk_arena_free(arena);
    return err ? lk_err_report(err) : 0;
}
