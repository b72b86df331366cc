/* An adapter as a file holds it, apart from any graph: modules with their matrices in F32. What tools convert, merge, extract and
 * resize; lk_adapter_save goes through it too. Module names are the model's own, dotted, once resolved.
 *
 * LoRA       delta = s B A                    A [r, in(, kh, kw)], B [out, r(, 1, 1)], s = alpha / r (rsLoRA: alpha / sqrt r); DoRA adds a magnitude a row, lora_bias
 *            s times a bias [out] to the output
 *            of a convolution in groups: B [out, r / groups, 1, 1], each group's rows over its own r / groups rows of A, which see all channels
 *            of a convolution in Tucker's form (LyCORIS' LoCon): A [r, in, 1, 1], B [out, r, 1, 1] around a core M [r, r, kh, kw] (lora_mid)
 * LoHa       delta = s (W1a W1b) o (W2a W2b)  [out, r] [r, in kh kw] twice          (Hyeon-Woo et al. 2022, FedPara; LyCORIS' names)
 * LoKr       delta = s kron(W1, W2)           each whole or a product of rank r     (Edalati et al. 2022, KronA; LyCORIS' names)
 *            both of a convolution in Tucker's form (FedPara, proposition 3): Wa [r, out], Wb [r, in] around a core T [r, r, kh, kw],
 *            W[o, i, y, x] = sum_jk T[j, k, y, x] Wa[j, o] Wb[k, i]; of LoKr its W2, where that is no whole matrix
 *            with a magnitude m a row or column (LyCORIS' dora_scale [out, 1, ..] or [1, in, ..]): lk_lora_decompose; such a DoRA by columns too
 * Full       delta = D                        the weight's shape; rank and alpha are 1 (LyCORIS' "diff") */
#ifndef LK_LORA_FILE_H
#define LK_LORA_FILE_H
#include "models/lora.h"

typedef enum { LK_SLOT_A, LK_SLOT_B, LK_SLOT_MAGNITUDE, LK_SLOT_BIAS, LK_SLOT_MID, LK_SLOT_H1A, LK_SLOT_H1B, LK_SLOT_H2A, LK_SLOT_H2B, LK_SLOT_H1T, LK_SLOT_H2T,
               LK_SLOT_K1, LK_SLOT_K1A, LK_SLOT_K1B, LK_SLOT_K2, LK_SLOT_K2A, LK_SLOT_K2B, LK_SLOT_K2T, LK_SLOT_DIFF, LK_SLOT_COUNT } lk_lora_slot;
typedef struct { lk_shape s; float *x; } lk_lora_array;              /* x NULL: absent */
typedef struct { const char *name, *component; int r; double alpha; lk_lora_array t[LK_SLOT_COUNT]; } lk_lora_part;      /* component NULL: the file's */
typedef struct { const char *name; lk_lora_array v; bool bias; } lk_lora_saved;  /* a param of a module in modules_to_save, or (bias) one of the base's biases, under the model's name: "conv_in.weight" */
typedef struct {
    lk_arena *arena;                  /* owns everything */
    const char *path;                 /* where it was read, for messages */
    lk_lora_kind kind;
    int n; lk_lora_part *part;
    int n_saved; lk_lora_saved *saved;
    lk_lora_decompose decompose;      /* LyCORIS' magnitudes */
    lk_lora_biases biases;            /* which of the base's biases are among `saved` */
    const char *base;                 /* digest of the base it was trained on, as its header says; NULL: not known */
    const char *component;            /* "unet", "transformer", "text_encoder", ...: diffusers' leading part; of parts that name none */
    const lk_lora_config *built;      /* of a built adapter: its config; NULL: read from a file */
    int layers; uint64_t attended;    /* after resolving: layers a block, and the up blocks that have attention (SGM's numbering needs both) */
} lk_lora_file;

/* Any format lk_adapter_load reads. */
lk_err lk_lora_file_read(const char *path, lk_lora_file **);
/* The modules of one component alone. */
lk_err lk_lora_file_read_component(const char *path, const char *component, lk_lora_file **);
/* Components and how many modules are of each; the list's length. */
int    lk_lora_file_components(const lk_lora_file *, lk_lora_component list[LK_LORA_COMPONENTS]);
const char *lk_lora_part_component(const lk_lora_file *, const lk_lora_part *);
const char *lk_lora_components_text(lk_arena *, const lk_lora_component *, int n);      /* "192 modules of unet, 72 modules of text_encoder" */
lk_err lk_lora_component_named(const char *name, const char **out);      /* refused with the nearest; out is static */
void   lk_lora_file_free(lk_lora_file *);
/* The values of a built adapter. */
lk_err lk_lora_file_of(lk_adapter *, lk_exec *, lk_lora_file **);
/* Every part is given the name of the module it means among the model's; a part without a module is refused with the nearest. */
lk_err lk_lora_file_resolve(lk_lora_file *, const char *const *modules, int n);
lk_err lk_lora_file_resolve_component(lk_lora_file *, const char *component, const char *const *modules, int n);      /* parts of that component alone */
/* Modules of a checkpoint: its names that end in ".weight", without that. */
lk_err lk_lora_modules_of(const lk_st *, lk_arena *, const char *const **modules, int *n);

lk_err lk_lora_format_named(const char *name, lk_lora_format *);     /* "peft", "diffusers", "kohya", "kohya-sgm" */
/* PEFT's file also gets its config beside it when `config_too`. */
lk_err lk_lora_file_save(const lk_lora_file *, const char *path, lk_lora_format, bool config_too);

/* ---- algebra (lora_algebra.c): binary64 on the host; the SVD is LAPACK's, so its last bits are the machine's ------------------ */
double lk_lora_file_scale(const lk_lora_file *, const lk_lora_part *);
int    lk_lora_part_groups(const lk_lora_part *);            /* of a convolution, by LoRA's B; 1 for any other part */
void   lk_lora_part_size(const lk_lora_part *, int64_t *rows, int64_t *columns);     /* of the delta as a matrix */
void   lk_lora_part_delta(const lk_lora_file *, const lk_lora_part *, double *out);  /* [rows, columns], times the scale; without DoRA's magnitude */
/* W, as a matrix, with `weight` times the delta added (DoRA: its rows brought to their magnitudes). Refused of a convolution in groups, whose weight has no
 * place for the delta. */
lk_err lk_lora_part_merge(const lk_lora_file *, const lk_lora_part *, double weight, float *w);
/* `weight` times the scaled bias of B added to the layer's own. */
void   lk_lora_part_merge_bias(const lk_lora_file *, const lk_lora_part *, double weight, float *bias);
/* Best rank-r approximation of a delta whose weight has shape `w`: A and B share the singular values' roots, alpha = r.
 * kept: its part of the squared norm. */
lk_err lk_lora_svd(lk_lora_file *, lk_lora_part *, const double *delta, lk_shape w, int r, double *kept);
/* A new file of rank r (a part's own where that is less), kind LoRA. kept: the least part of a module's squared norm that stays. */
lk_err lk_lora_file_resize(const lk_lora_file *, int r, lk_lora_file **, double *kept);
/* sum_i weight_i delta_i, exactly: ranks are put side by side. */
lk_err lk_lora_file_mix(const lk_lora_file *const *, const double *weights, int n, lk_lora_file **);
/* A and B interpolated each for itself, as DiffMorpher does: not the interpolation of the deltas. Same modules, ranks and alphas. */
lk_err lk_lora_file_halves(const lk_lora_file *, const lk_lora_file *, double f, lk_lora_file **);
/* Every module whose weight differs between two checkpoints (to - from), linear and convolutions, at rank r. Other tensors that differ
 * are refused: an adapter could not carry them. */
lk_err lk_lora_extract(const lk_st *from, const lk_st *to, int r, lk_lora_file **, double *kept);
#endif
