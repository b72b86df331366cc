/* LoRA and its family. W' x = W x + scale * B (A x), scale = alpha / r (rsLoRA: alpha / sqrt r).
 * Hu et al. 2021 (arXiv:2106.09685). Names as PEFT writes them. */
#ifndef LK_LORA_H
#define LK_LORA_H
#include "models/nn.h"

/* DoRA: Liu et al. 2024, norm detached (rsDoRA: with rsLoRA's scale; LyCORIS' way: decompose); LoHa, LoKr: lora_file.h. Full: the targets' weights themselves are trained, kept as the difference to the base
 * (LyCORIS' "full"), so that full fine-tuning joins and leaves a model as the others do. */
typedef enum { LK_LORA, LK_RSLORA, LK_DORA, LK_RSDORA, LK_LOHA, LK_LOKR, LK_FULL } lk_lora_kind;
/* Biases of the base that are trained and kept with the adapter (PEFT's bias = none, all, lora_only): every one, or those of the adapted modules. LoRA to rsDoRA. */
typedef enum { LK_BIASES_NONE, LK_BIASES_ALL, LK_BIASES_ADAPTED } lk_lora_biases;
/* LyCORIS' weight decomposition (weight_decompose) of LoHa and LoKr, and of LoRA by columns (kind DoRA): W' (m / (||W'|| + eps)), W' = W + s delta, the norm of each row
 * (wd_on_out) or column (input channel, all rows and kernel positions) and not detached, eps = 2^-23; a weight u of the adapter makes it W' (1 + u (m / (||W'|| + eps) - 1)). */
typedef enum { LK_DECOMPOSE_NONE, LK_DECOMPOSE_ROWS, LK_DECOMPOSE_COLUMNS } lk_lora_decompose;
lk_err lk_lora_biases_named(const char *name, lk_lora_biases *);      /* PEFT's names */
typedef struct {
    lk_lora_kind kind;
    int r; double alpha;
    /* In training only, drawn anew for every sample and step from streams named after the module; the first three keep the mean. */
    double dropout;                   /* of each value of the input (PEFT's lora_dropout): stream "<module>.dropout" */
    double neuron_dropout;            /* of each value behind A (kohya's dropout): "<module>.neuron_dropout"; LoRA, rsLoRA, DoRA */
    double rank_dropout;              /* of each of the r ranks (kohya's): "<module>.rank_dropout"; LoRA, rsLoRA, DoRA */
    double module_dropout;            /* of the whole branch, without rescaling, so at most 1 (kohya's): "<module>.module_dropout" */
    bool gaussian;                    /* lk_adapter_init draws A from N(0, 1/r^2), PEFT's "gaussian", not uniformly */
    const char *const *targets;       /* NULL-ended; "to_q" matches a module whose name equals it or ends in ".to_q" */
    /* per-module overrides, NULL-ended names matched like targets */
    const char *const *rank_names; const int *rank_values;
    const char *const *alpha_names; const double *alpha_values;
    bool lora_bias;                   /* LoRA, rsLoRA: B has a bias, scaled as the branch (PEFT's lora_bias) */
    int factor; bool both;            /* LoKr: LyCORIS' factor (0: any) and decompose_both */
    lk_lora_decompose decompose;      /* a magnitude of LoHa and LoKr; DoRA: rows as LyCORIS has them, or columns */
    bool tucker;                      /* of convolutions with kernels beyond 1x1 the products have a core (LyCORIS' use_tucker; PEFT's use_effective_conv2d, of LoHa and LoKr) */
    /* Whole modules trained and kept beside the low-rank branches, NULL-ended (PEFT's): "conv_in" means the module of that name or ending, and
     * all below it. The adapter has copies of their params, which replace the base's, whatever its weight; no target inside them is adapted. */
    const char *const *modules_to_save;
    const char *component;            /* "unet", ...: which model's modules this is of a file that has several (a denoiser and its text encoders); NULL: the file has one */
    lk_lora_biases biases;            /* copies that replace the base's, as those of modules_to_save do */
} lk_lora_config;

/* An adapter collects the modules it attached to while a model is built with it in net.adapters. */
lk_adapter *lk_adapter_new(lk_lora_config, const char *param_prefix /* "" or a name that keeps several adapters apart */);
void        lk_adapter_free(lk_adapter *);
void        lk_adapter_training(lk_adapter *, bool on, lk_val seed, lk_val step, lk_val samples);  /* dropout's keys */
void        lk_adapter_weight(lk_adapter *, lk_val weight);   /* multiplies the branch: F32 []; LK_NONE: 1 */
/* The base's checkpoint, borrowed until the last save or load: saving writes its digest (nn.h), loading refuses a file of another base. NULL: not known. */
void        lk_adapter_set_base(lk_adapter *, const lk_st *base);
int         lk_adapter_modules(const lk_adapter *);           /* after building: 0 means no target matched (an error to train) */
const lk_lora_config *lk_adapter_config(const lk_adapter *);
/* Trainable params of the built adapter in a fixed order (module order of building; A, B[, magnitude][, B's bias]; then those of modules_to_save and the base's biases). */
int         lk_adapter_params(const lk_adapter *, const lk_graph *, const lk_val **);
/* Called by lk_nn_linear / lk_nn_conv2d: y = base output; returns y with every adapter's branch added. */
lk_val lk_adapter_linear(const lk_net *, const char *module, lk_val x, lk_val w, lk_val bias, lk_val y);
lk_val lk_adapter_conv2d(const lk_net *, const char *module, lk_val x, lk_val w, lk_val bias, lk_val y, lk_conv);
/* As lk_nn made the param `name` ("conv_in.weight"): base, or the copy of the adapter that has its module in modules_to_save. */
lk_val lk_adapter_param(const lk_net *, const char *name, lk_val base);
/* Kaiming-uniform A (a = sqrt 5, as PEFT), zero B; DoRA magnitude = norm of W; modules_to_save and biases as the base's, which must be bound. Stream =
 * param name. A name of modules_to_save that met no module is refused. */
lk_err lk_adapter_init(lk_adapter *, lk_exec *, uint64_t seed);
/* PEFT's layout: "base_model.model.<module>.lora_A.weight" plus adapter_config in the header's metadata. */
lk_err lk_adapter_save(lk_adapter *, lk_exec *, const char *path);
/* The same adapter as other programs name it: diffusers' pytorch_lora_weights.safetensors ("unet.<module>.lora_A.weight", the config in the
 * header), kohya's (underscored names, an alpha tensor a module; rsLoRA's scale goes into alpha), kohya's for SDXL with SGM's block numbers, kohya's
 * for FLUX with query, key and value (and a single block's MLP) in one matrix.
 * component: "unet", "transformer", "text_encoder", "text_encoder_2" or "text_encoder_3". */
typedef enum { LK_FORMAT_PEFT, LK_FORMAT_DIFFUSERS, LK_FORMAT_KOHYA, LK_FORMAT_KOHYA_SGM, LK_FORMAT_KOHYA_FLUX } lk_lora_format;
lk_err lk_adapter_save_as(lk_adapter *, lk_exec *, const char *path, lk_lora_format, const char *component);
/* adapter_config.json as PEFT reads it, beside a file written by lk_adapter_save. */
lk_err lk_adapter_save_config(lk_adapter *, const char *path);
/* PEFT, diffusers or kohya file (by its keys); kohya's fused FLUX matrices come apart into diffusers' modules. Every key must find its module, every module its pair; shapes, rank and
 * alpha must agree with what was built (lk_adapter_inspect makes the config that does). */
lk_err lk_adapter_load(lk_adapter *, lk_exec *, const char *path);
/* Rank, alpha and targets of a file, to make the config before building. Lists live in the arena. Kohya's targets keep their
 * underscored names ("lora_unet_mid_block_..."), which match modules too, in diffusers' or SGM's block naming; those of its FLUX files are diffusers' names. */
lk_err lk_adapter_inspect(const char *path, lk_arena *, lk_lora_config *);
/* The same of one component of a file that may have several; lk_adapter_load takes that one too (config.component). What it leaves, lk_adapter_components tells. */
lk_err lk_adapter_inspect_component(const char *path, const char *component, lk_arena *, lk_lora_config *);
/* A file's components and how many modules are of each; "" where it does not say (PEFT). */
enum { LK_LORA_COMPONENTS = 8 };
typedef struct { const char *name; int modules; } lk_lora_component;
lk_err lk_adapter_components(const char *path, lk_lora_component list[LK_LORA_COMPONENTS], int *n);
/* Adds weight * scale * B A to the base weights in `to`, B's bias likewise to their biases (params of the same names, copied by lk_weights_set, not bound);
 * `from` holds the adapter's values. DoRA rows are scaled to their magnitudes; modules_to_save and biases replace the base's (weight 1 only). */
lk_err lk_adapter_merge(const lk_adapter *, lk_exec *from, double weight, lk_exec *to);
#endif
