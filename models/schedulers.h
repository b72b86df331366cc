/* schedulers: noise schedules and samplers under diffusers' class and config names, so that a pipeline's
 * scheduler_config.json is read as it is. A key or class we do not know is refused by name.
 *
 * Tables (alphas_cumprod, timesteps, sigmas) are binary64. A step is affine in the sample x, the model's output m,
 * the drawn noise z and, for second order, the previous x0: its coefficients are computed in binary64, rounded once,
 * and applied in binary32, left to right, so a step gives the same bits everywhere.
 *
 *   DDPMScheduler                    Ho et al. 2020 (arXiv:2006.11239), equations 6, 7
 *   DDIMScheduler, DDIMInverseScheduler  Song et al. 2021 (arXiv:2010.02502), equation 12
 *   EulerDiscreteScheduler, EulerAncestralDiscreteScheduler  Karras et al. 2022 (arXiv:2206.00364), algorithm 1 without churn
 *   DPMSolverMultistepScheduler      Lu et al. 2022 (arXiv:2211.01095), 2M and SDE-2M
 *   LCMScheduler                     Luo et al. 2023 (arXiv:2310.04378)
 *   FlowMatchEulerDiscreteScheduler  Esser et al. 2024 (arXiv:2403.03206)
 *   EDMEulerScheduler, EDMDPMSolverMultistepScheduler  Karras et al. 2022, table 1: what is said of lk_edm below is done by scale_model_input and step;
 *                                    timesteps are c_noise = log(sigma) / 4. v_prediction turns the sign of c_out, as the peers do */
#ifndef LK_SCHEDULERS_H
#define LK_SCHEDULERS_H
#include "io/io.h"

typedef struct lk_scheduler lk_scheduler;

/* cls NULL: the config's _class_name. config is borrowed during the call only; NULL: all defaults. */
lk_err lk_scheduler_new(const char *cls, const json_t *config, lk_scheduler **out);
/* The same from JSON text: lk_scheduler_parse("DDIMScheduler", "{\"steps_offset\": 1}", &s). */
lk_err lk_scheduler_parse(const char *cls, const char *json, lk_scheduler **out);
void   lk_scheduler_free(lk_scheduler *);

/* ---- the sampling chain ------------------------------------------------------------------------------- */
typedef struct {
    const double *sigmas;             /* flow only: n values, before shifting; NULL: evenly spaced */
    const double *mu;                 /* flow with use_dynamic_shifting: required */
    int original_inference_steps;     /* LCM; 0: the config's */
} lk_timestep_opts;
/* Lays out n steps and forgets the multistep history. Until it is called the chain is the training one. */
lk_err lk_scheduler_set_timesteps(lk_scheduler *, int n, lk_timestep_opts);
int           lk_scheduler_steps(const lk_scheduler *);
const double *lk_scheduler_timesteps(const lk_scheduler *);    /* n, what the model receives */
const double *lk_scheduler_sigmas(const lk_scheduler *);       /* n + 1; NULL for classes without (DDPM, DDIM, LCM) */
double        lk_scheduler_init_noise_sigma(const lk_scheduler *);  /* x = this * standard normal noise */
double        lk_scheduler_flow_mu(const lk_scheduler *, int64_t image_tokens);   /* base_shift .. max_shift over base .. max_image_seq_len */

void   lk_scheduler_scale_model_input(const lk_scheduler *, int i, const float *x, int64_t n, float *out);  /* out may be x */
bool   lk_scheduler_needs_noise(const lk_scheduler *, int i, double eta);     /* will step i read `noise`? */
/* One step at index i of the chain: out (may be x) is the sample at the next timestep; x0 (may be NULL) the predicted
 * clean sample, after clipping (LCM: after the boundary condition). noise: n standard normals, or NULL where not needed.
 * eta: DDIM only. Multistep solvers remember their last x0; begin at any i, then go up by one. */
lk_err lk_scheduler_step(lk_scheduler *, int i, const float *model_out, const float *x, int64_t n, const float *noise, double eta, float *out, float *x0);

/* ---- training ----------------------------------------------------------------------------------------- */
int           lk_scheduler_train_steps(const lk_scheduler *);
const double *lk_scheduler_alphas_cumprod(const lk_scheduler *);   /* train_steps values; NULL for flow matching and EDM */
const char   *lk_scheduler_prediction_type(const lk_scheduler *);  /* epsilon, v_prediction, sample, flow_prediction */
/* x_t = alpha x0 + sigma noise. Diffusion classes take an integer timestep; Euler, DPM, flow and EDM one of lk_scheduler_timesteps. */
lk_err lk_scheduler_marginal(const lk_scheduler *, double timestep, double *alpha, double *sigma);
/* samples x per values; timestep[i] is sample i's. */
lk_err lk_scheduler_add_noise(const lk_scheduler *, const float *x0, const float *noise, const double *timestep, int64_t samples, int64_t per, float *out);
lk_err lk_scheduler_velocity(const lk_scheduler *, const float *x0, const float *noise, const double *timestep, int64_t samples, int64_t per, float *out); /* alpha noise - sigma x0 */
double lk_scheduler_snr(const lk_scheduler *, int timestep);       /* alpha^2 / sigma^2 */
/* Min-SNR-gamma (Hang et al. 2023, arXiv:2303.09556): epsilon min(snr, gamma)/snr, v min(snr, gamma)/(snr + 1), x0 min(snr, gamma). */
lk_err lk_scheduler_min_snr_weight(const lk_scheduler *, int timestep, double gamma, double *weight);

/* ---- EDM (Karras et al. 2022, table 1): x = x0 + sigma noise --------------------------------------------- */
/* The denoiser is D(x; sigma) = c_skip x + c_out F(c_in x; c_noise) of a network F; weight: of |D - x0|^2 in its loss (lambda of equation 8). */
typedef struct { double c_skip, c_out, c_in, c_noise, weight; } lk_edm;
lk_edm lk_edm_precondition(double sigma, double sigma_data);       /* sigma > 0 */
/* n noise levels from sigma_max to sigma_min, evenly spaced in sigma^(1/rho) (equation 5), then 0: n + 1 values. */
void   lk_edm_sigmas(double sigma_min, double sigma_max, double rho, int n, double *sigmas);
#endif
