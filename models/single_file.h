/* Single-file checkpoints of Stable Diffusion (the original code's names: model.diffusion_model., first_stage_model., cond_stage_model. or
 * conditioner.embedders.) taken apart into diffusers' components under diffusers' names. SD 1.x, SD 2.x, SDXL, its refiner.
 * Nothing is rounded: tensors keep their type and bytes; a fused in_proj is cut by rows, OpenCLIP's text_projection is transposed. */
#ifndef LK_SINGLE_FILE_H
#define LK_SINGLE_FILE_H
#include "io/io.h"

typedef struct { const char *name; int n; lk_st_item *items; } lk_component;     /* "unet", "vae", "text_encoder", "text_encoder_2"; data in the file's mapping */
enum { LK_COMPONENTS = 4 };
typedef struct { lk_component part[LK_COMPONENTS]; int n, left_out; } lk_single_file;
/* Everything lives in the arena and points into the open file. Training leftovers (EMA copies, noise tables, position ids, logit scales, SD 2's
 * last text layer, which diffusers' model lacks, too) are counted in left_out; any other key without a home is refused with the nearest. */
lk_err lk_single_file_read(const lk_st *, lk_arena *, lk_single_file *);
/* DIR/unet/diffusion_pytorch_model.safetensors and so on, as diffusers lays a pipeline out; directories are made. */
lk_err lk_single_file_write(const lk_single_file *, const char *directory);
#endif
