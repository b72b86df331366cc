/* sampler: pictures from the zoo's base, with or without an adapter: text to context, a scheduler's chain with classifier-free
 * guidance (Ho & Salimans 2022), latents to frames. */
#ifndef LK_SAMPLER_H
#define LK_SAMPLER_H
#include "models/id_adapter.h"
#include "models/schedulers.h"

typedef struct lk_sampler lk_sampler;
/* adapter: built into the sampler's own graph (NULL: the base alone); set its params through lk_sampler_exec before sampling.
 * batch: pictures at a time; twice as many go through the UNet. */
lk_err   lk_sampler_new(const lk_zoo *, lk_adapter *, int batch, lk_pool *, lk_sampler **);
/* Without the unconditional half, at half the cost: guidance must be 1 (a student has it baked in). several: adapters applied in order. */
lk_err   lk_sampler_new_plain(const lk_zoo *, lk_adapter *const *several, int n, int batch, lk_pool *, lk_sampler **);
/* Pictures of another size: latents of height x width, both multiples of 4 (the UNet halves twice). */
lk_err   lk_sampler_new_sized(const lk_zoo *, bool guided, lk_adapter *const *several, int n, int batch, int height, int width, lk_pool *, lk_sampler **);
/* With an ID adapter, whose params under LK_ID_ADAPTER_PREFIX are the caller's to load. person: embedding of lk_zoo_id_adapter's width, unit length, of
 * whom every picture is to show; the unconditional half sees nobody. */
lk_err   lk_sampler_new_id(const lk_zoo *, const float *person, int batch, int height, int width, lk_pool *, lk_sampler **);
void     lk_sampler_free(lk_sampler *);
lk_exec *lk_sampler_exec(const lk_sampler *);
/* A UNet that was trained in full: shares every weight with an executor that has params of the same names. */
lk_err   lk_sampler_take_unet(lk_sampler *, lk_exec *from);
/* scheduler: class name of one that can read the zoo's schedule (DDIMScheduler, EulerDiscreteScheduler, DPMSolverMultistepScheduler,
 * LCMScheduler); NULL: DDIM. All trailing. prediction: what the UNet answers with; NULL: v_prediction, as the zoo's; "sample": x0. */
typedef struct { int steps; double guidance, eta; const char *scheduler, *prediction; } lk_sampling;
/* n prompts -> latents [n][8][height][width], 16 each unless sized. Picture i starts from noise of stream "sample.noise", key (seed, sample first + i): the same for any
 * batch size, and shared by whoever asks for the same seed and index. */
lk_err lk_sample(lk_sampler *, const char *const *prompts, int n, uint64_t seed, uint32_t first, lk_sampling, float *latents);
/* From given latents instead of noise: noised to `strength` (0..1] of the chain, then denoised (half way: .5). */
lk_err lk_sample_from(lk_sampler *, const char *const *prompts, int n, uint64_t seed, uint32_t first, lk_sampling, double strength, const float *start, float *latents);
#endif
