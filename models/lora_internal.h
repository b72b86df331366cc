/* What lora.c (building) and lora_io.c, lora_names.c (files, spellings) share. Private to models/. */
#ifndef LK_LORA_INTERNAL_H
#define LK_LORA_INTERNAL_H
#include "models/lora.h"

typedef struct {                      /* one adapted module in one graph */
    const lk_graph *g;
    const char *name;                 /* the module's full name, without param prefixes */
    int r; double alpha;
    bool conv;
    lk_val a, b, magnitude, w;        /* magnitude LK_NONE but for DoRA; w: the base weight */
} lk_lora_module;

struct lk_adapter {
    lk_lora_config config;            /* lists copied into the arena */
    const char *prefix;
    lk_arena *arena;
    lk_lora_module *module; int n, cap;
    const char **seen; int n_seen, cap_seen;      /* every module met while building, for messages */
    int layers;                       /* layers per block of a UNet, from the names met so far (down_blocks.0.resnets.N); 0: none yet */
    bool training; lk_val seed, step, samples, weight;
    lk_val *params;                   /* what lk_adapter_params returned last */
};

double lk_lora_scale(const lk_lora_config *, int r, double alpha);
int    lk_lora_layers_after(int layers, const char *module);     /* adapter.layers once this module was met */
/* Whether a target's or file's spelling means the module: the dotted name itself (whole_name) or a suffix of it after a '.', or kohya's
 * underscored name, in diffusers' or SGM's numbering (layers > 0). */
bool   lk_lora_spells(const char *spelling, const char *module, int layers, bool whole_name);
#endif
