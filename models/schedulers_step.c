/* Schedulers: one sampling step, and noising for training.
 *
 * A class's rule fills a `plan`, the coefficients of the step in binary64; `apply` is the only loop over elements:
 *     x0   = clip(cx x + cm m)
 *     x0'  = bx x + b0 x0                  (LCM's boundary condition; else x0)
 *     eps  = ex x + em m
 *     next = px x + p0 x0' + pe eps + ph previous-x0 + pz z
 * each product and sum rounded to binary32 in this order. */
#include "models/schedulers_impl.h"
#include "base/exact_math.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct { double cx, cm, bx, b0, ex, em, px, p0, pe, ph, pz; } plan;

/* x0 and eps from the model's output where x = alpha x0 + sigma eps. */
static plan predicted(lk_prediction p, double alpha, double sigma) {
    switch (p) {
    case EPSILON:      return (plan){ .cx = 1 / alpha, .cm = -sigma / alpha, .b0 = 1, .em = 1 };
    case V_PREDICTION: return (plan){ .cx = alpha, .cm = -sigma, .b0 = 1, .ex = sigma, .em = alpha };
    case SAMPLE:       return (plan){ .cm = 1, .b0 = 1, .ex = 1 / sigma, .em = -alpha / sigma };
    default:           return (plan){ .cx = 1, .cm = -sigma, .b0 = 1, .ex = 1, .em = 1 - sigma };   /* flow: alpha = 1 - sigma */
    }
}
static double abar(const lk_scheduler *s, double t, double before) { return t < 0 ? before : s->acp[(int)t]; }

static plan ddpm_rule(const lk_scheduler *s, int i, double eta) {
    (void)eta;
    double a = s->acp[(int)s->t[i]], ap = i + 1 < s->n ? s->acp[(int)s->t[i + 1]] : 1, step = a / ap, beta = 1 - step;
    plan p = predicted(s->prediction, __builtin_sqrt(a), __builtin_sqrt(1 - a));
    double variance = (1 - ap) / (1 - a) * beta;
    if (variance < 1e-20) variance = 1e-20;
    if (s->fixed_large) variance = beta;
    p.p0 = __builtin_sqrt(ap) * beta / (1 - a);
    p.px = __builtin_sqrt(step) * (1 - ap) / (1 - a);
    p.pz = s->t[i] > 0 ? __builtin_sqrt(variance) : 0;
    return p;
}
static plan ddim_between(const lk_scheduler *s, double a, double ap, double eta) {
    plan p = predicted(s->prediction, __builtin_sqrt(a), __builtin_sqrt(1 - a));
    double variance = (1 - ap) / (1 - a) * (1 - a / ap), std = eta > 0 ? eta * __builtin_sqrt(variance) : 0;
    p.p0 = __builtin_sqrt(ap);
    p.pe = __builtin_sqrt(1 - ap - std * std);
    p.pz = std;
    return p;
}
static plan ddim_rule(const lk_scheduler *s, int i, double eta) {
    double final = s->set_alpha_to_one ? 1 : s->acp[0];
    return ddim_between(s, abar(s, s->t[i], final), abar(s, s->t[i] - s->T / s->n, final), eta);
}
static plan ddim_inverse_rule(const lk_scheduler *s, int i, double eta) {
    (void)eta;
    double from = s->t[i] - s->T / s->n;
    if (from > s->T - 1) from = s->T - 1;
    return ddim_between(s, abar(s, from, s->set_alpha_to_one ? 1 : s->acp[0]), s->acp[(int)s->t[i]], 0);
}
/* Samplers in sigma: x = x0 + sigma eps, the model sees x / sqrt(sigma^2 + 1), or EDM's c_in x. */
static plan predicted_from_sigma(const lk_scheduler *s, double sigma) {
    if (lk_scheduler_edm(s)) {
        const lk_edm e = lk_edm_precondition(sigma, s->sigma_data);
        return (plan){ .cx = e.c_skip, .cm = s->prediction == V_PREDICTION ? -e.c_out : e.c_out, .b0 = 1 };
    }
    double r = sigma * sigma + 1;
    if (s->prediction == V_PREDICTION) return (plan){ .cx = 1 / r, .cm = -sigma / __builtin_sqrt(r), .b0 = 1 };
    return predicted(s->prediction, 1, sigma);
}
static plan euler_rule(const lk_scheduler *s, int i, double eta) {
    (void)eta;
    double from = s->sigma[i], to = s->sigma[i + 1];
    plan p = predicted_from_sigma(s, from);
    p.px = to / from;
    p.p0 = (from - to) / from;
    return p;
}
static plan euler_a_rule(const lk_scheduler *s, int i, double eta) {
    (void)eta;
    double from = s->sigma[i], to = s->sigma[i + 1];
    double up = __builtin_sqrt(to * to * (from * from - to * to) / (from * from)), down = __builtin_sqrt(to * to - up * up);
    plan p = predicted_from_sigma(s, from);
    p.px = down / from;
    p.p0 = (from - down) / from;
    p.pz = up;
    return p;
}
static void dpm_alpha_sigma(const lk_scheduler *s, double sigma, double *alpha, double *sig) {
    *alpha = s->flow_sigmas ? 1 - sigma : s->cls == EDM_DPM ? 1 : 1 / __builtin_sqrt(sigma * sigma + 1);
    *sig = s->flow_sigmas ? sigma : sigma * *alpha;
}
static bool dpm_first_order(const lk_scheduler *s, int i) {
    bool final = i == s->n - 1 && (s->euler_at_final || (s->lower_order_final && s->n < 15) || !s->final_sigma_min);
    return s->solver_order == 1 || final || s->history_step < 0 || s->history_step != i - 1;
}
static plan dpm_rule(const lk_scheduler *s, int i, double eta) {
    (void)eta;
    double a0, s0, at, st, a1, s1;
    dpm_alpha_sigma(s, s->sigma[i], &a0, &s0);
    dpm_alpha_sigma(s, s->sigma[i + 1], &at, &st);
    plan p = s->cls == EDM_DPM ? predicted_from_sigma(s, s->sigma[i]) : predicted(s->prediction, a0, s0);
    double decay = (a0 * st) / (s0 * at), gain = 1 - decay;      /* exp(-h), h = lambda_t - lambda_s */
    if (s->sde) gain = 1 - decay * decay;
    p.px = s->sde ? st / s0 * decay : st / s0;
    p.p0 = at * gain;
    p.pz = s->sde ? st * __builtin_sqrt(1 - decay * decay) : 0;
    if (dpm_first_order(s, i)) return p;
    dpm_alpha_sigma(s, s->sigma[i - 1], &a1, &s1);
    double h = -lk_log_d(decay), h0 = lk_log_d(a0 / s0) - lk_log_d(a1 / s1);
    /* x0 + (x0 - previous) / r enters as D1; heun weighs it by phi_2 instead of phi_1 / 2 */
    double weight = .5 * at * gain;
    if (s->heun) weight = s->sde ? at * (gain / (-2 * h) + 1) : at * (1 - gain / h);
    double d1 = weight * (h / h0);
    p.p0 += d1;
    p.ph = -d1;
    return p;
}
static plan lcm_rule(const lk_scheduler *s, int i, double eta) {
    (void)eta;
    bool last = i == s->n - 1;
    double a = s->acp[(int)s->t[i]], ap = last ? 1 : s->acp[(int)s->t[i + 1]], u = s->t[i] * s->timestep_scaling, d = u * u + .25;
    plan p = predicted(s->prediction, __builtin_sqrt(a), __builtin_sqrt(1 - a));
    p.bx = .25 / d;                                              /* sigma_data = 1/2 */
    p.b0 = u / __builtin_sqrt(d);
    p.p0 = __builtin_sqrt(ap);
    p.pz = last ? 0 : __builtin_sqrt(1 - ap);
    return p;
}
static plan flow_rule(const lk_scheduler *s, int i, double eta) {
    (void)eta;
    double from = s->sigma[i], to = s->sigma[i + 1];
    plan p = { .cx = 1, .cm = -from, .b0 = 1, .em = 1 };
    if (s->stochastic) { p.p0 = 1 - to; p.pz = to; }
    else { p.px = 1; p.pe = to - from; }
    return p;
}
static plan (*const rules[LK_SCHEDULER_CLASSES])(const lk_scheduler *, int, double) = {
    [DDPM] = ddpm_rule, [DDIM] = ddim_rule, [DDIM_INVERSE] = ddim_inverse_rule, [EULER] = euler_rule, [EULER_A] = euler_a_rule, [DPM] = dpm_rule,
    [LCM] = lcm_rule, [FLOW] = flow_rule, [EDM_EULER] = euler_rule, [EDM_DPM] = dpm_rule,
};

static void apply(const lk_scheduler *s, const plan *q, const float *m, const float *x, const float *z, const float *before, int64_t n, float *out, float *x0, float *keep) {
    const float cx = (float)q->cx, cm = (float)q->cm, bx = (float)q->bx, b0 = (float)q->b0, ex = (float)q->ex, em = (float)q->em;
    const float px = (float)q->px, p0 = (float)q->p0, pe = (float)q->pe, ph = (float)q->ph, pz = (float)q->pz, range = (float)s->clip_sample_range;
    for (int64_t k = 0; k < n; k++) {
        float clean = cx * x[k] + cm * m[k];
        if (s->clip_sample) clean = clean < -range ? -range : clean > range ? range : clean;
        clean = bx * x[k] + b0 * clean;
        float eps = ex * x[k] + em * m[k];
        float next = px * x[k] + p0 * clean + pe * eps;
        if (ph != 0) next += ph * before[k];
        if (pz != 0) next += pz * z[k];
        if (x0) x0[k] = clean;
        if (keep) keep[k] = clean;
        out[k] = next;
    }
}
bool lk_scheduler_needs_noise(const lk_scheduler *s, int i, double eta) {
    switch (s->cls) {
    case DDPM:    return s->t[i] > 0;
    case DDIM:    return eta > 0;
    case EULER_A: return true;
    case DPM: case EDM_DPM: return s->sde;
    case LCM:     return i < s->n - 1;
    case FLOW:    return s->stochastic;
    default:      return false;
    }
}
lk_err lk_scheduler_step(lk_scheduler *s, int i, const float *m, const float *x, int64_t n, const float *noise, double eta, float *out, float *x0) {
    if (i < 0 || i >= s->n) return lk_error(LK_ESTATE, "scheduler step %d of %d", i, s->n);
    if (eta != 0 && s->cls != DDIM) return lk_error(LK_EINPUT, "eta is DDIMScheduler's; this scheduler has none");
    if (!noise && lk_scheduler_needs_noise(s, i, eta)) return lk_error(LK_ESTATE, "scheduler step %d draws noise: pass %lld standard normals", i, (long long)n);
    plan p = rules[s->cls](s, i, eta);
    const double sum = p.cx + p.cm + p.ex + p.em + p.px + p.p0 + p.pe + p.ph + p.pz;
    if (!(sum - sum == 0)) return lk_error(LK_ENUM, "scheduler step %d at timestep %g divides by zero: with zero terminal SNR the model must predict v or x0, not epsilon", i, s->t[i]);
    if (lk_scheduler_multistep(s) && s->history_n != n) {
        if (s->history_step >= 0) return lk_error(LK_ESTATE, "scheduler step %d has %lld values, the step before had %lld", i, (long long)n, (long long)s->history_n);
        s->history = lk_xrealloc(s->history, (size_t)n * sizeof(float));
        s->history_n = n;
    }
    apply(s, &p, m, x, noise, s->history, n, out, x0, lk_scheduler_multistep(s) ? s->history : NULL);
    if (lk_scheduler_multistep(s)) s->history_step = i;
    return LK_OK;
}
void lk_scheduler_scale_model_input(const lk_scheduler *s, int i, const float *x, int64_t n, float *out) {
    bool scaled = s->cls == EULER || s->cls == EULER_A || lk_scheduler_edm(s);
    const double data = lk_scheduler_edm(s) ? s->sigma_data : 1;
    const float k = scaled ? (float)(1 / __builtin_sqrt(s->sigma[i] * s->sigma[i] + data * data)) : 1;
    for (int64_t j = 0; j < n; j++) out[j] = x[j] * k;
}

/* ---- training ------------------------------------------------------------------------------------------------ */
static lk_err train_index(const lk_scheduler *s, double t, int *out) {
    if (!(t >= 0 && t < s->T) || t != (int)t) return lk_error(LK_EINPUT, "timestep %g: an integer in 0 .. %d is needed", t, s->T - 1);
    *out = (int)t;
    return LK_OK;
}
lk_err lk_scheduler_marginal(const lk_scheduler *s, double t, double *alpha, double *sigma) {
    if (!s->sigma) {
        int k = 0;
        LK_TRY(train_index(s, t, &k));
        *alpha = __builtin_sqrt(s->acp[k]);
        *sigma = __builtin_sqrt(1 - s->acp[k]);
        return LK_OK;
    }
    int at = 0;
    for (int i = 1; i < s->n; i++) if (fabs(s->t[i] - t) < fabs(s->t[at] - t)) at = i;
    if (!(fabs(s->t[at] - t) <= (lk_scheduler_edm(s) ? 1e-6 : 1e-6 * s->T))) return lk_error(LK_EINPUT, "timestep %g is not on the schedule; the nearest is %g", t, s->t[at]);
    if (s->cls == DPM) dpm_alpha_sigma(s, s->sigma[at], alpha, sigma);
    else { *alpha = s->cls == FLOW ? 1 - s->sigma[at] : 1; *sigma = s->sigma[at]; }
    return LK_OK;
}
/* out = a x + b y, sample by sample. */
static void mix(double a, const float *x, double b, const float *y, int64_t n, float *out) {
    const float fa = (float)a, fb = (float)b;
    for (int64_t k = 0; k < n; k++) out[k] = fa * x[k] + fb * y[k];
}
lk_err lk_scheduler_add_noise(const lk_scheduler *s, const float *x0, const float *noise, const double *t, int64_t samples, int64_t per, float *out) {
    for (int64_t i = 0; i < samples; i++) {
        double alpha, sigma;
        LK_TRY(lk_scheduler_marginal(s, t[i], &alpha, &sigma));
        mix(alpha, x0 + i * per, sigma, noise + i * per, per, out + i * per);
    }
    return LK_OK;
}
lk_err lk_scheduler_velocity(const lk_scheduler *s, const float *x0, const float *noise, const double *t, int64_t samples, int64_t per, float *out) {
    if (s->sigma) return lk_error(LK_EINPUT, "velocity is defined for DDPM, DDIM and LCM schedulers");
    for (int64_t i = 0; i < samples; i++) {
        double alpha, sigma;
        LK_TRY(lk_scheduler_marginal(s, t[i], &alpha, &sigma));
        mix(alpha, noise + i * per, -sigma, x0 + i * per, per, out + i * per);
    }
    return LK_OK;
}
double lk_scheduler_snr(const lk_scheduler *s, int t) { return s->acp[t] / (1 - s->acp[t]); }
lk_err lk_scheduler_min_snr_weight(const lk_scheduler *s, int t, double gamma, double *weight) {
    int k = 0;
    if (!s->acp || s->prediction == FLOW_PREDICTION) return lk_error(LK_EINPUT, "min-SNR weights are defined for diffusion, not for flow matching");
    LK_TRY(train_index(s, t, &k));
    double snr = lk_scheduler_snr(s, k), least = snr < gamma ? snr : gamma;
    if (s->prediction == EPSILON && !(snr > 0)) return lk_error(LK_EINPUT, "min-SNR for epsilon divides by an SNR of 0 at timestep %d: predict v", t);
    *weight = s->prediction == EPSILON ? least / snr : s->prediction == V_PREDICTION ? least / (snr + 1) : least;
    return LK_OK;
}

/* ---- EDM ------------------------------------------------------------------------------------------------------- */
lk_edm lk_edm_precondition(double sigma, double data) {
    double s2 = sigma * sigma, d2 = data * data, root = __builtin_sqrt(s2 + d2);
    return (lk_edm){ .c_skip = d2 / (s2 + d2), .c_out = sigma * data / root, .c_in = 1 / root, .c_noise = .25 * lk_log_d(sigma), .weight = (s2 + d2) / (s2 * d2) };
}
void lk_edm_sigmas(double least, double most, double rho, int n, double *sigmas) {
    double a = lk_pow_d(most, 1 / rho), b = lk_pow_d(least, 1 / rho);
    for (int i = 0; i < n; i++) sigmas[i] = lk_pow_d(n > 1 ? a + (b - a) * i / (n - 1) : a, rho);
    sigmas[n] = 0;
}
