/* discriminator: a UNet's encoder and mid block with a small head, as SDXL-Lightning's (Lin et al. 2024, arXiv:2402.13929, section 3.2).
 * The trunk starts as a copy of the UNet's own weights and is trained with the head. */
#ifndef LK_DISCRIMINATOR_H
#define LK_DISCRIMINATOR_H
#include "models/models.h"

/* Logits [B, 1, h, w] and the head's input [B, C or 2C, h', w'] (for R1 on the head). The trunk's params have the UNet's names under the net's
 * param prefix; the head's are "head.0" (4x4 convolution of stride 2), "head.1" (group norm, then SiLU), "head.2" (1x1, to one logit a
 * position). */
typedef struct { lk_val logits, head_in; } lk_discriminator_out;
/* Judges x at timestep t [B]; conditional form: also sees where the step began, x_from at t_from, through the same trunk. x_from LK_NONE:
 * the unconditional form. */
lk_discriminator_out lk_discriminator(const lk_net *, const lk_unet_config *, lk_val x, lk_val t, lk_val x_from, lk_val t_from, lk_val context);
/* Trunk from the UNet's checkpoint, head as torch's defaults drawn from seed. `prefix`: the net's param prefix. */
lk_err lk_discriminator_start(lk_exec *, const lk_st *unet, const char *prefix, uint64_t seed);
#endif
