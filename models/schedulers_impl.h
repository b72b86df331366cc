/* Shared by schedulers.c (config, tables, timesteps) and schedulers_step.c (steps, noising); nobody else's. */
#ifndef LK_SCHEDULERS_IMPL_H
#define LK_SCHEDULERS_IMPL_H
#include "models/schedulers.h"

typedef enum { DDPM, DDIM, DDIM_INVERSE, EULER, EULER_A, DPM, LCM, FLOW, EDM_EULER, EDM_DPM, LK_SCHEDULER_CLASSES } lk_scheduler_class;
typedef enum { EPSILON, V_PREDICTION, SAMPLE, FLOW_PREDICTION } lk_prediction;
typedef enum { LINSPACE, LEADING, TRAILING } lk_spacing;

struct lk_scheduler {
    lk_scheduler_class cls;
    int T;                                /* training timesteps */
    lk_prediction prediction;
    lk_spacing spacing;
    int64_t steps_offset;
    bool set_alpha_to_one, clip_sample, zero_snr;
    double clip_sample_range;
    bool fixed_large;                     /* DDPM's variance_type */
    bool karras, exponential, final_sigma_min, continuous;
    double sigma_min, sigma_max;          /* Karras ends; 0: from the table */
    double sigma_data, rho;               /* EDM */
    bool sde, heun, lower_order_final, euler_at_final; int64_t solver_order; double lambda_min_clipped;   /* both DPM classes */
    bool flow_sigmas; double flow_shift;
    int64_t original_steps; double timestep_scaling;                                                     /* LCM */
    bool dynamic, linear_shift, stochastic; double shift, shift_terminal, base_shift, max_shift; int64_t base_len, max_len;   /* flow */

    double *acp;                          /* alphas_cumprod[T]; NULL for flow and EDM */
    int n; double *t, *sigma;             /* the chain: timesteps[n], sigmas[n + 1] (NULL for classes without) */
    float *history; int64_t history_n; int history_step;   /* DPM: x0 of step history_step; -1: none */
};
static inline bool lk_scheduler_edm(const lk_scheduler *s) { return s->cls == EDM_EULER || s->cls == EDM_DPM; }
static inline bool lk_scheduler_multistep(const lk_scheduler *s) { return s->cls == DPM || s->cls == EDM_DPM; }
#endif
