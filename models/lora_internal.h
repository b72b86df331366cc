/* What lora.c (building) and lora_io.c, lora_names.c (files, spellings) share. Private to models/. */
#ifndef LK_LORA_INTERNAL_H
#define LK_LORA_INTERNAL_H
#include "models/lora_file.h"

typedef struct {                      /* one adapted module in one graph */
    const lk_graph *g;
    const char *name;                 /* the module's full name, without param prefixes */
    int r, groups; double alpha;      /* groups: of the convolution, 1 for any other module */
    bool conv;
    lk_val t[LK_SLOT_COUNT], w;       /* the kind's factors, LK_NONE where it has none; w: the base weight */
} lk_lora_module;

typedef struct {                      /* one param of a module in modules_to_save, or a trained bias, in one graph */
    const lk_graph *g;
    const char *name;                 /* the model's: "conv_in.weight" */
    lk_val v, base;                   /* the adapter's copy; what it replaces */
    bool bias;                        /* one of the base's biases, not of modules_to_save */
} lk_lora_copy;

struct lk_adapter {
    lk_lora_config config;            /* lists copied into the arena */
    const char *prefix;
    const lk_st *base;                /* NULL: not known */
    lk_arena *arena;
    lk_lora_module *module; int n, cap;
    lk_lora_copy *copies; int n_copies, cap_copies;
    const char **seen; int n_seen, cap_seen;      /* every module met while building, for messages */
    int layers;                       /* layers per block of a UNet, from the names met so far (down_blocks.0.resnets.N); 0: none yet */
    bool training; lk_val seed, step, samples, weight;
    lk_val *params;                   /* what lk_adapter_params returned last */
};

/* A file's keys gathered by module (lora_io.c). `slot`: as in lora_file.h, alpha after the others. */
enum { LK_SLOT_ALPHA = LK_SLOT_COUNT, LK_ENTRY_SLOTS };
typedef struct {
    const char *name;                         /* the module as the file spells it, diffusers' or PEFT's leading part removed */
    const char *component;                    /* "unet", ...; "": not told */
    const lk_tensor *t[LK_ENTRY_SLOTS];
    int r; double alpha;
} lk_lora_entry;
typedef struct {
    lk_st *st; const char *path; lk_arena *arena;
    lk_lora_entry *e; int n;
    struct { const char *name, *component; const lk_tensor *t; bool bias; } *saved; int n_saved;      /* keys that are no part of a LoRA: modules_to_save's and biases, once placed */
    lk_lora_biases biases;
    lk_lora_kind kind;
    lk_lora_decompose decompose;
    bool peft, kohya, rslora, dora, bias;
    json_t *config;                           /* PEFT's adapter_config or diffusers' metadata; NULL: none */
    bool by_component;                        /* its keys begin with a component (diffusers) */
    const char *config_of;                    /* the one that lk_lora_config_value asks for */
} lk_lora_entries;
lk_err lk_lora_entries_open(const char *path, const char *component, lk_lora_entries *);      /* component NULL: all */
void   lk_lora_entries_close(lk_lora_entries *);
/* lora_options.c. The config is found and its options checked; then alpha (and the rank, where the shapes do not tell) of each entry. */
lk_err lk_lora_config_read(lk_lora_entries *);
const json_t *lk_lora_config_value(const lk_lora_entries *, const char *key);     /* NULL: absent or null */
lk_err lk_lora_find_scale(lk_lora_entries *, lk_lora_entry *);
/* lora_components.c. The component of a key ("": none) and what follows diffusers' leading part. */
const char *lk_lora_component_of(const char *key, const char **rest);
bool   lk_lora_encodes_text(const char *component);
lk_err lk_lora_keep_component(lk_lora_entries *, const char *asked);      /* the others go */
lk_err lk_lora_one_component(const lk_lora_entries *);                    /* refuses several */
lk_err lk_lora_same_component(const lk_lora_file *, const char *what);    /* likewise; what: what to do */
/* Whether a key of rank_pattern or alpha_pattern means the module (lora_pattern.c). */
lk_err lk_lora_pattern_match(const char *key, const char *module, bool *met);
/* How a slot's tensor is called behind the module's name; kohya NULL: no such thing there. */
typedef struct { const char *peft, *kohya; } lk_lora_leaf;
extern const lk_lora_leaf lk_lora_leaves[LK_SLOT_COUNT];
/* lora_saved.c: modules_to_save and the base's trained biases. */
bool   lk_lora_saves(const lk_adapter *, const char *module);
bool   lk_lora_adapts(const lk_adapter *, const char *module);        /* whether a target names it, and it is none of modules_to_save (lora.c) */
extern const char *const lk_lora_biases_names[];                      /* PEFT's, by lk_lora_biases */
const char *const *lk_lora_saved_modules(lk_arena *, const lk_lora_saved *, int n);
lk_err lk_lora_copies_init(lk_adapter *, lk_exec *);
lk_err lk_lora_copies_load(lk_adapter *, lk_exec *, const lk_lora_entries *);
lk_err lk_lora_copies_merge(const lk_adapter *, lk_exec *from, double weight, lk_exec *to);
/* Every key in `saved` must be of a module the config's list names or a bias that f->biases speaks of, else it is unknown; every name of the list must have a key. */
typedef lk_err (*lk_lora_refuse)(const lk_lora_entries *, const char *key);
lk_err lk_lora_place_saved(lk_lora_entries *, const json_t *list, lk_lora_refuse unknown);
lk_err lk_lora_saved_resolve(const lk_lora_file *, const char *const *modules, int n);
lk_err lk_lora_no_saved(const lk_lora_file *, const char *what);      /* refuses a file that has any; what: "diffusers' format cannot hold" */
const char *lk_lora_saved_key(const lk_lora_file *, lk_arena *, const lk_lora_saved *);      /* as PEFT writes it, without its prefix */
/* lora_lycoris.c. Shapes of a module's factors (rank 0: absent), w the weight's, of a convolution in so many groups; the unscaled delta [rows, columns] of any kind but DoRA's magnitude as a node. */
void   lk_lora_shapes(const lk_lora_config *, lk_shape w, int groups, int r, lk_shape t[LK_SLOT_COUNT]);
lk_val lk_lora_delta_node(lk_graph *, lk_lora_kind, const lk_val t[LK_SLOT_COUNT]);
/* w decomposed by rows or columns (lk_lora_decompose): [out, in, ..] -> the same; delta is scaled, m the magnitude, weight LK_NONE: 1. Norms, with eps, of w [out, in, ..]. */
lk_val lk_lora_decomposed(lk_graph *, lk_lora_decompose, lk_val w, lk_val delta, lk_val m, lk_val weight);
lk_val lk_lora_norms(lk_graph *, lk_lora_decompose, lk_val w);
void   lk_lora_decompose_around(lk_lora_decompose, const lk_lora_part *, double weight, int64_t rows, int64_t columns, double *w);      /* on the host: w holds W' */
void   lk_lora_delta_around(const lk_lora_part *, double scale, double *out);      /* of LoRA with a core (lora_mid) */
void   lk_lycoris_delta(lk_lora_kind, const lk_lora_part *, double scale, double *out);
void   lk_lycoris_size(lk_lora_kind, const lk_lora_part *, int64_t *rows, int64_t *columns);
lk_err lk_lycoris_check(const lk_lora_entries *, lk_lora_entry *);
void   lk_lycoris_factor(const lk_lora_file *, int *factor, bool *both);
/* lora_flux.c. Every checked entry under one of kohya's FLUX names becomes those of the modules fused in it, under their own names. */
lk_err lk_lora_flux_split(lk_lora_entries *);
/* The other way: parts under the fused names ("double_blocks.7.img_attn_qkv"), in `arena`. */
lk_err lk_lora_flux_join(const lk_lora_file *, lk_arena *, lk_lora_file *out);
/* PEFT's config of a file (lora_save.c). */
json_t *lk_lora_config_json(const lk_lora_file *, double dropout);

double lk_lora_scale(const lk_lora_config *, int r, double alpha);
static inline bool lk_lora_is_rs(lk_lora_kind k) { return k == LK_RSLORA || k == LK_RSDORA; }
static inline bool lk_lora_is_dora(lk_lora_kind k) { return k == LK_DORA || k == LK_RSDORA; }
int    lk_lora_layers_after(int layers, const char *module);     /* adapter.layers once this module was met */
/* Whether a target's or file's spelling means the module: the dotted name itself (whole_name) or a suffix of it after a '.', or kohya's
 * underscored name, in diffusers' or SGM's numbering (layers > 0). */
bool   lk_lora_spells(const char *spelling, const char *module, int layers, bool whole_name);
/* Kohya's underscored name without its leading part; in SGM's numbering (layers > 0) "" where a module has none. */
void   lk_lora_underscored(const char *module, int layers, uint64_t attended, bool sgm, char *out, size_t size);
const char *lk_lora_kohya_rest(const char *spelling);            /* what follows that part, NULL without one */
const char *lk_lora_kohya_component(const char *spelling);       /* "unet" of "lora_unet_...", NULL without such a leading part */
#endif
