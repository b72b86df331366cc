/* Schedulers: configuration, noise tables and timesteps. Steps are in schedulers_step.c.
 *
 * A class is a row of `classes`: its name, the keys its config may hold and the defaults that differ. Keys are read
 * by the rows of `keys`; what a class does not read must hold its neutral value, or the config is refused. */
#include "models/schedulers_impl.h"
#include "base/exact_math.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- configuration ------------------------------------------------------------------------------------ */
#define BIT(c) (1u << (c))
enum { VP = BIT(DDPM) | BIT(DDIM) | BIT(DDIM_INVERSE) | BIT(LCM), SIGMA = BIT(EULER) | BIT(EULER_A) | BIT(DPM), ALL = (1u << LK_SCHEDULER_CLASSES) - 1,
       DIFFUSION = VP | SIGMA, EDM = BIT(EDM_EULER) | BIT(EDM_DPM), MULTISTEP = BIT(DPM) | BIT(EDM_DPM) };
static const struct { const char *name; double beta_start, beta_end; const char *beta_schedule; lk_spacing spacing; bool clip; } classes[] = {
    [DDPM]         = { "DDPMScheduler",                   .0001, .02, "linear", LEADING, true },
    [DDIM]         = { "DDIMScheduler",                   .0001, .02, "linear", LEADING, true },
    [DDIM_INVERSE] = { "DDIMInverseScheduler",            .0001, .02, "linear", LEADING, true },
    [EULER]        = { "EulerDiscreteScheduler",          .0001, .02, "linear", LINSPACE, false },
    [EULER_A]      = { "EulerAncestralDiscreteScheduler", .0001, .02, "linear", LINSPACE, false },
    [DPM]          = { "DPMSolverMultistepScheduler",     .0001, .02, "linear", LINSPACE, false },
    [LCM]          = { "LCMScheduler",                    .00085, .012, "scaled_linear", LEADING, false },
    [FLOW]         = { "FlowMatchEulerDiscreteScheduler", 0, 0, "linear", LINSPACE, false },
    [EDM_EULER]    = { "EDMEulerScheduler",               0, 0, "linear", LINSPACE, false },
    [EDM_DPM]      = { "EDMDPMSolverMultistepScheduler",  0, 0, "linear", LINSPACE, false },
};
/* Every key a config may hold, the classes that know it, and the only value accepted where it is not implemented
 * (NULL: read below; "": any value, it changes nothing here). */
static const struct { const char *key; unsigned classes; const char *only; } keys[] = {
    { "num_train_timesteps", ALL, NULL }, { "beta_start", DIFFUSION, NULL }, { "beta_end", DIFFUSION, NULL }, { "beta_schedule", DIFFUSION, NULL },
    { "trained_betas", DIFFUSION, NULL }, { "prediction_type", DIFFUSION | EDM, NULL }, { "timestep_spacing", DIFFUSION, NULL }, { "steps_offset", DIFFUSION, NULL },
    { "rescale_betas_zero_snr", DIFFUSION, NULL }, { "clip_sample", VP, NULL }, { "clip_sample_range", VP, NULL },
    { "set_alpha_to_one", VP & ~BIT(DDPM), NULL }, { "variance_type", BIT(DDPM) | BIT(DPM), NULL },
    { "thresholding", DIFFUSION | BIT(EDM_DPM), "false" }, { "dynamic_thresholding_ratio", DIFFUSION | BIT(EDM_DPM), "" }, { "sample_max_value", DIFFUSION | BIT(EDM_DPM), "" },
    { "skip_prk_steps", DIFFUSION, "" },    /* left in many configs by the PNDM scheduler they were converted from */
    { "use_karras_sigmas", SIGMA | BIT(FLOW), NULL }, { "use_exponential_sigmas", SIGMA | BIT(FLOW), NULL }, { "use_beta_sigmas", SIGMA | BIT(FLOW), "false" },
    { "interpolation_type", BIT(EULER), "\"linear\"" }, { "sigma_min", BIT(EULER) | EDM, NULL }, { "sigma_max", BIT(EULER) | EDM, NULL }, { "timestep_type", BIT(EULER), NULL },
    { "final_sigmas_type", BIT(EULER) | MULTISTEP | EDM, NULL },
    { "algorithm_type", MULTISTEP, NULL }, { "solver_order", MULTISTEP, NULL }, { "solver_type", MULTISTEP, NULL }, { "lower_order_final", MULTISTEP, NULL },
    { "sigma_data", EDM, NULL }, { "sigma_schedule", EDM, NULL }, { "rho", EDM, NULL },
    { "euler_at_final", MULTISTEP, NULL }, { "use_lu_lambdas", BIT(DPM), "false" }, { "use_flow_sigmas", BIT(DPM), NULL }, { "flow_shift", BIT(DPM), NULL },
    { "lambda_min_clipped", BIT(DPM), NULL },
    { "original_inference_steps", BIT(LCM), NULL }, { "timestep_scaling", BIT(LCM), NULL },
    { "shift", BIT(FLOW), NULL }, { "use_dynamic_shifting", BIT(FLOW) | BIT(DPM), NULL }, { "time_shift_type", BIT(FLOW) | BIT(DPM), NULL },
    { "base_shift", BIT(FLOW), NULL }, { "max_shift", BIT(FLOW), NULL }, { "base_image_seq_len", BIT(FLOW), NULL }, { "max_image_seq_len", BIT(FLOW), NULL },
    { "shift_terminal", BIT(FLOW), NULL }, { "stochastic_sampling", BIT(FLOW), NULL }, { "invert_sigmas", BIT(FLOW), "false" },
};
enum { N_KEYS = sizeof keys / sizeof *keys };

static lk_err check_keys(lk_scheduler_class cls, const json_t *config) {
    const char *key; json_t *value;
    json_object_foreach((json_t *)config, key, value) {
        if (key[0] == '_') continue;                       /* _class_name, _diffusers_version */
        int at = -1; const char *known[N_KEYS]; int n = 0;
        for (int k = 0; k < N_KEYS; k++) if (keys[k].classes & BIT(cls)) {
            known[n++] = keys[k].key;
            if (!strcmp(keys[k].key, key)) at = k;
        }
        if (at < 0) return lk_error(LK_EINPUT, "%s has no key \"%s\"; the nearest is \"%s\"", classes[cls].name, key, known[lk_nearest(key, known, n)]);
        if (!keys[at].only || !*keys[at].only || json_is_null(value)) continue;
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        bool same = text && !strcmp(text, keys[at].only);
        lk_err e = same ? LK_OK : lk_error(LK_EINPUT, "%s: %s = %s is not implemented, only %s", classes[cls].name, key, text ? text : "?", keys[at].only);
        free(text);
        if (e) return e;
    }
    return LK_OK;
}

typedef struct { const char *name; int value; } choice;
/* A string key with a fixed set of values. */
static lk_err read_choice(const json_t *c, const char *key, const char *where, const choice *set, int dflt, int *out) {
    const char *s = NULL;
    LK_TRY(lk_json_str(c, key, where, NULL, &s));
    *out = dflt;
    if (!s) return LK_OK;
    for (const choice *k = set; k->name; k++) if (!strcmp(k->name, s)) { *out = k->value; return LK_OK; }
    lk_buf b = { 0 };
    for (const choice *k = set; k->name; k++) lk_buf_fmt(&b, "%s%s", b.n ? ", " : "", k->name);
    lk_err e = lk_error(LK_EINPUT, "%s.%s = \"%s\" is not one of %s", where, key, s, b.s);
    free(b.s);
    return e;
}
static const choice spacings[] = { { "linspace", LINSPACE }, { "leading", LEADING }, { "trailing", TRAILING }, { 0 } };
static const choice predictions[] = { { "epsilon", EPSILON }, { "v_prediction", V_PREDICTION }, { "sample", SAMPLE }, { "flow_prediction", FLOW_PREDICTION }, { 0 } };

static lk_err read_edm(lk_scheduler *s, const json_t *c, const char *w) {
    int exponential;
    LK_TRY(lk_json_real(c, "sigma_data", w, .5, &s->sigma_data));
    LK_TRY(lk_json_real(c, "rho", w, 7, &s->rho));
    if (!lk_scheduler_edm(s)) return LK_OK;
    LK_TRY(read_choice(c, "sigma_schedule", w, (choice[]){ { "karras", 0 }, { "exponential", 1 }, { 0 } }, 0, &exponential));
    s->exponential = exponential;
    if (s->prediction != EPSILON && s->prediction != V_PREDICTION) return lk_error(LK_EINPUT, "%s.prediction_type must be epsilon or v_prediction", w);
    if (s->sigma_min > 0 && s->sigma_max > s->sigma_min && s->sigma_data > 0 && s->rho > 0) return LK_OK;
    return lk_error(LK_EINPUT, "%s: 0 < sigma_min < sigma_max, sigma_data > 0 and rho > 0 are needed, found %g, %g, %g, %g", w, s->sigma_min, s->sigma_max, s->sigma_data, s->rho);
}
static lk_err read_config(lk_scheduler *s, const json_t *c) {
    const char *w = classes[s->cls].name;
    int64_t T; int v;
    LK_TRY(lk_json_int(c, "num_train_timesteps", w, 1000, &T));
    if (T < 1 || T > 1000000) return lk_error(LK_EINPUT, "%s.num_train_timesteps = %lld is outside 1 .. 1000000", w, (long long)T);
    s->T = (int)T;
    LK_TRY(read_choice(c, "timestep_spacing", w, spacings, classes[s->cls].spacing, &v)); s->spacing = v;
    if (s->cls == DDIM_INVERSE && s->spacing == LINSPACE) return lk_error(LK_EINPUT, "%s.timestep_spacing must be leading or trailing", w);
    LK_TRY(read_choice(c, "prediction_type", w, predictions, s->cls == FLOW ? FLOW_PREDICTION : EPSILON, &v)); s->prediction = v;
    LK_TRY(lk_json_int(c, "steps_offset", w, 0, &s->steps_offset));
    LK_TRY(lk_json_bool(c, "rescale_betas_zero_snr", w, false, &s->zero_snr));
    LK_TRY(lk_json_bool(c, "clip_sample", w, classes[s->cls].clip, &s->clip_sample));
    LK_TRY(lk_json_real(c, "clip_sample_range", w, 1.0, &s->clip_sample_range));
    LK_TRY(lk_json_bool(c, "set_alpha_to_one", w, true, &s->set_alpha_to_one));
    LK_TRY(read_choice(c, "variance_type", w, (choice[]){ { "fixed_small", 0 }, { "fixed_small_log", 0 }, { "fixed_large", 1 }, { 0 } }, 0, &v)); s->fixed_large = v;
    LK_TRY(lk_json_bool(c, "use_karras_sigmas", w, false, &s->karras));
    LK_TRY(lk_json_bool(c, "use_exponential_sigmas", w, false, &s->exponential));
    LK_TRY(lk_json_real(c, "sigma_min", w, lk_scheduler_edm(s) ? .002 : 0, &s->sigma_min));
    LK_TRY(lk_json_real(c, "sigma_max", w, lk_scheduler_edm(s) ? 80 : 0, &s->sigma_max));
    LK_TRY(read_edm(s, c, w));
    LK_TRY(read_choice(c, "timestep_type", w, (choice[]){ { "discrete", 0 }, { "continuous", 1 }, { 0 } }, 0, &v)); s->continuous = v && s->prediction == V_PREDICTION;
    LK_TRY(read_choice(c, "final_sigmas_type", w, (choice[]){ { "zero", 0 }, { "sigma_min", 1 }, { 0 } }, 0, &v)); s->final_sigma_min = v;
    LK_TRY(read_choice(c, "algorithm_type", w, (choice[]){ { "dpmsolver++", 0 }, { "sde-dpmsolver++", 1 }, { 0 } }, 0, &v)); s->sde = v;
    LK_TRY(read_choice(c, "solver_type", w, (choice[]){ { "midpoint", 0 }, { "heun", 1 }, { 0 } }, 0, &v)); s->heun = v;
    LK_TRY(lk_json_int(c, "solver_order", w, 2, &s->solver_order));
    if (s->solver_order < 1 || s->solver_order > 2) return lk_error(LK_EINPUT, "%s.solver_order = %lld; 1 and 2 are implemented", w, (long long)s->solver_order);
    LK_TRY(lk_json_bool(c, "lower_order_final", w, true, &s->lower_order_final));
    LK_TRY(lk_json_bool(c, "euler_at_final", w, false, &s->euler_at_final));
    LK_TRY(lk_json_bool(c, "use_flow_sigmas", w, false, &s->flow_sigmas));
    LK_TRY(lk_json_real(c, "flow_shift", w, 1.0, &s->flow_shift));
    const json_t *clip = json_object_get(c, "lambda_min_clipped");        /* -inf is written as a string or as -Infinity */
    s->lambda_min_clipped = -INFINITY;
    if (json_is_number(clip)) s->lambda_min_clipped = json_number_value(clip);
    LK_TRY(lk_json_int(c, "original_inference_steps", w, 50, &s->original_steps));
    LK_TRY(lk_json_real(c, "timestep_scaling", w, 10.0, &s->timestep_scaling));
    LK_TRY(lk_json_real(c, "shift", w, 1.0, &s->shift));
    LK_TRY(lk_json_bool(c, "use_dynamic_shifting", w, false, &s->dynamic));
    LK_TRY(read_choice(c, "time_shift_type", w, (choice[]){ { "exponential", 0 }, { "linear", 1 }, { 0 } }, 0, &v)); s->linear_shift = v;
    LK_TRY(lk_json_real(c, "shift_terminal", w, 0, &s->shift_terminal));
    LK_TRY(lk_json_real(c, "base_shift", w, .5, &s->base_shift));
    LK_TRY(lk_json_real(c, "max_shift", w, 1.15, &s->max_shift));
    LK_TRY(lk_json_int(c, "base_image_seq_len", w, 256, &s->base_len));
    LK_TRY(lk_json_int(c, "max_image_seq_len", w, 4096, &s->max_len));
    LK_TRY(lk_json_bool(c, "stochastic_sampling", w, false, &s->stochastic));
    if (s->cls == DPM && s->dynamic) return lk_error(LK_EINPUT, "%s.use_dynamic_shifting is not implemented; set flow_shift", w);
    if (s->cls == FLOW && (s->karras || s->exponential)) return lk_error(LK_EINPUT, "%s: use_karras_sigmas and use_exponential_sigmas are not implemented", w);
    if (s->karras && s->exponential) return lk_error(LK_EINPUT, "%s: use_karras_sigmas and use_exponential_sigmas exclude each other", w);
    if (s->prediction == FLOW_PREDICTION && s->cls != FLOW && !s->flow_sigmas) return lk_error(LK_EINPUT, "%s: flow_prediction needs use_flow_sigmas", w);
    return LK_OK;
}

/* ---- noise tables --------------------------------------------------------------------------------------- */
static double cosine_bar(double u) {           /* Nichol & Dhariwal 2021 (arXiv:2102.09672), equation 17 */
    double c = lk_cos_d((u + .008) / 1.008 * 3.14159265358979323846 / 2);
    return c * c;
}
static lk_err fill_alphas_cumprod(lk_scheduler *s, const json_t *c) {
    const char *w = classes[s->cls].name;
    double b0, b1; int kind;
    LK_TRY(lk_json_real(c, "beta_start", w, classes[s->cls].beta_start, &b0));
    LK_TRY(lk_json_real(c, "beta_end", w, classes[s->cls].beta_end, &b1));
    choice schedules[] = { { "linear", 0 }, { "scaled_linear", 1 }, { "squaredcos_cap_v2", 2 }, { 0 } };
    LK_TRY(read_choice(c, "beta_schedule", w, schedules, !strcmp(classes[s->cls].beta_schedule, "linear") ? 0 : 1, &kind));
    if (kind < 2 && !(b0 > 0 && b0 < 1 && b1 > 0 && b1 < 1)) return lk_error(LK_EINPUT, "%s: beta_start %g and beta_end %g must lie between 0 and 1", w, b0, b1);
    const json_t *trained = json_object_get(c, "trained_betas");
    if (trained && !json_is_null(trained) && json_array_size(trained) != (size_t)s->T)
        return lk_error(LK_EINPUT, "%s.trained_betas holds %zu values, num_train_timesteps is %d", w, json_array_size(trained), s->T);
    s->acp = lk_xcalloc((size_t)s->T, sizeof *s->acp);
    double lo = kind == 1 ? __builtin_sqrt(b0) : b0, hi = kind == 1 ? __builtin_sqrt(b1) : b1, product = 1;
    for (int t = 0; t < s->T; t++) {
        double beta = s->T > 1 ? lo + (hi - lo) * t / (s->T - 1) : lo;
        if (kind == 1) beta = beta * beta;
        if (kind == 2) {
            beta = 1 - cosine_bar((t + 1.) / s->T) / cosine_bar((double)t / s->T);
            if (beta > .999) beta = .999;
        }
        if (trained && !json_is_null(trained)) beta = json_number_value(json_array_get(trained, (size_t)t));
        product *= 1 - beta;
        s->acp[t] = product;
    }
    if (!s->zero_snr) return LK_OK;
    /* Lin et al. 2024 (arXiv:2305.08891), algorithm 1: shift and stretch sqrt(abar) so that the last is 0. */
    double first = __builtin_sqrt(s->acp[0]), last = __builtin_sqrt(s->acp[s->T - 1]);
    for (int t = 0; t < s->T; t++) {
        double r = (__builtin_sqrt(s->acp[t]) - last) * (first / (first - last));
        s->acp[t] = r * r;
    }
    /* Samplers in sigma divide by abar: they keep the smallest positive binary16, as the peers do. */
    s->acp[s->T - 1] = BIT(s->cls) & SIGMA ? 0x1p-24 : 0;
    return LK_OK;
}
static double train_sigma(const lk_scheduler *s, int t) { return __builtin_sqrt((1 - s->acp[t]) / s->acp[t]); }

/* ---- timesteps ------------------------------------------------------------------------------------------ */
static double rint_even(double x) { return __builtin_rint(x); }
static double linspace(double a, double b, int n, int i) { return n == 1 ? a : i == n - 1 ? b : a + i * ((b - a) / (n - 1)); }

/* Timesteps by spacing, largest first. DPM lays out n + 1 points up to `last` (its lambda clip) and drops the lowest. */
static void spaced(const lk_scheduler *s, int n, int last, double *t) {
    int points = s->cls == DPM ? n + 1 : n;
    bool whole = s->cls != EULER && s->cls != EULER_A;                 /* Euler keeps fractional linspace timesteps */
    for (int i = 0; i < n; i++) {
        int up = points - 1 - i;
        double delta = (s->T - (double)s->T / n) - s->T;               /* the increment as numpy's arange rounds it: decides ties */
        switch (s->spacing) {
        case LINSPACE: t[i] = linspace(0, last - 1, points, up); if (whole) t[i] = rint_even(t[i]); break;
        case LEADING:  t[i] = (double)(up * (int64_t)(last / points)) + s->steps_offset; break;
        case TRAILING: t[i] = rint_even(last + i * delta) - 1; break;
        }
    }
}
static double interpolated_sigma(const lk_scheduler *s, double t) {
    if (t <= 0) return train_sigma(s, 0);
    if (t >= s->T - 1) return train_sigma(s, s->T - 1);
    int k = (int)t;
    double a = train_sigma(s, k), b = train_sigma(s, k + 1);
    return (b - a) * (t - k) + a;
}
/* Inverse of the table, linear in log sigma. */
static double sigma_to_t(const lk_scheduler *s, double sigma) {
    double x = lk_log_d(sigma < 1e-10 ? 1e-10 : sigma);
    int low = 0;
    for (int t = 0; t < s->T; t++) if (x >= lk_log_d(train_sigma(s, t))) low = t;
    if (low > s->T - 2) low = s->T - 2;
    if (low < 0) return 0;
    double a = lk_log_d(train_sigma(s, low)), b = lk_log_d(train_sigma(s, low + 1)), w = (a - x) / (a - b);
    w = w < 0 ? 0 : w > 1 ? 1 : w;
    return (1 - w) * low + w * (low + 1);
}
/* Karras et al., equation 5 with rho = 7; or a geometric row. hi, lo: the ends. */
static double spread_sigma(const lk_scheduler *s, double hi, double lo, int n, int i) {
    if (s->sigma_max > 0) hi = s->sigma_max;
    if (s->sigma_min > 0) lo = s->sigma_min;
    if (s->exponential) return lk_exp_d(linspace(lk_log_d(hi), lk_log_d(lo), n, i));
    double a = lk_pow_d(hi, 1. / 7), b = lk_pow_d(lo, 1. / 7), u = a + linspace(0, 1, n, i) * (b - a);
    double u2 = u * u, u4 = u2 * u2;
    return u4 * u2 * u;
}
static double flow_shifted(double shift, double sigma) { return shift * sigma / (1 + (shift - 1) * sigma); }

static void sigma_chain(lk_scheduler *s, int n) {
    int last = s->T;
    if (s->cls == DPM && s->lambda_min_clipped > -INFINITY)
        for (last = 0; last < s->T && -lk_log_d(train_sigma(s, last)) >= s->lambda_min_clipped; last++) {}
    if (s->cls == DPM && s->flow_sigmas)
        for (int i = 0; i < n; i++) {
            s->sigma[i] = flow_shifted(s->flow_shift, 1 - linspace(1, 1. / s->T, n + 1, n - i));
            s->t[i] = __builtin_trunc(s->sigma[i] * s->T);
        }
    else {
        spaced(s, n, last, s->t);
        double hi = s->cls == DPM ? train_sigma(s, s->T - 1) : interpolated_sigma(s, s->t[0]);
        double lo = s->cls == DPM ? train_sigma(s, 0) : interpolated_sigma(s, s->t[n - 1]);
        for (int i = 0; i < n; i++) {
            s->sigma[i] = s->karras || s->exponential ? spread_sigma(s, hi, lo, n, i) : interpolated_sigma(s, s->t[i]);
            if (s->karras || s->exponential) s->t[i] = sigma_to_t(s, s->sigma[i]);
            if (s->karras && s->cls == DPM) s->t[i] = rint_even(s->t[i]);
            if (s->cls == DPM) s->t[i] = __builtin_trunc(s->t[i]);
        }
    }
    s->sigma[n] = s->final_sigma_min ? train_sigma(s, 0) : 0;
    if (s->continuous) for (int i = 0; i < n; i++) s->t[i] = .25 * lk_log_d(s->sigma[i]);
}
static void edm_chain(lk_scheduler *s, int n) {
    lk_edm_sigmas(s->sigma_min, s->sigma_max, s->rho, n, s->sigma);
    for (int i = 0; i < n; i++) {
        if (s->exponential) s->sigma[i] = lk_exp_d(linspace(lk_log_d(s->sigma_min), lk_log_d(s->sigma_max), n, n - 1 - i));
        s->t[i] = .25 * lk_log_d(s->sigma[i]);
    }
    if (s->final_sigma_min) s->sigma[n] = s->cls == EDM_DPM ? s->sigma_min : s->sigma[n - 1];
}
static lk_err flow_chain(lk_scheduler *s, int n, lk_timestep_opts o) {
    if (s->dynamic && !o.mu) return lk_error(LK_EINPUT, "%s with use_dynamic_shifting needs mu (lk_scheduler_flow_mu)", classes[FLOW].name);
    double top = s->dynamic ? 1 : flow_shifted(s->shift, 1), low = s->dynamic ? 1. / s->T : flow_shifted(s->shift, 1. / s->T);
    double e = s->dynamic ? (s->linear_shift ? *o.mu : lk_exp_d(*o.mu)) : 0;
    for (int i = 0; i < n; i++) {
        double x = o.sigmas ? o.sigmas[i] : linspace(top * s->T, low * s->T, n, i) / s->T;
        s->sigma[i] = s->dynamic ? e / (e + (1 / x - 1)) : flow_shifted(s->shift, x);
    }
    if (s->shift_terminal > 0) {
        double scale = (1 - s->sigma[n - 1]) / (1 - s->shift_terminal);
        for (int i = 0; i < n; i++) s->sigma[i] = 1 - (1 - s->sigma[i]) / scale;
    }
    for (int i = 0; i < n; i++) s->t[i] = s->sigma[i] * s->T;
    s->sigma[n] = 0;
    return LK_OK;
}
static lk_err lcm_chain(lk_scheduler *s, int n, int64_t original) {
    if (original < 1 || original > s->T || n > original)
        return lk_error(LK_EINPUT, "%s: %d steps of original_inference_steps %lld of %d training timesteps: each must be at most the next", classes[LCM].name, n, (long long)original, s->T);
    int64_t k = s->T / original;
    for (int i = 0; i < n; i++) s->t[i] = (double)((original - (int64_t)(i * ((double)original / n))) * k - 1);
    return LK_OK;
}
static void new_chain(lk_scheduler *s, int n) {
    free(s->t); free(s->sigma);
    s->n = n; s->history_step = -1;
    s->t = lk_xcalloc((size_t)n, sizeof(double));
    s->sigma = BIT(s->cls) & (SIGMA | EDM | BIT(FLOW)) ? lk_xcalloc((size_t)n + 1, sizeof(double)) : NULL;
}
lk_err lk_scheduler_set_timesteps(lk_scheduler *s, int n, lk_timestep_opts o) {
    if (n < 1 || n > s->T) return lk_error(LK_EINPUT, "%s: %d sampling steps; 1 .. %d are possible", classes[s->cls].name, n, s->T);
    if (s->cls != FLOW && (o.sigmas || o.mu)) return lk_error(LK_EINPUT, "%s takes neither sigmas nor mu", classes[s->cls].name);
    new_chain(s, n);
    if (s->cls == FLOW) return flow_chain(s, n, o);
    if (s->cls == LCM) return lcm_chain(s, n, o.original_inference_steps ? o.original_inference_steps : s->original_steps);
    if (BIT(s->cls) & SIGMA) { sigma_chain(s, n); return LK_OK; }
    if (BIT(s->cls) & EDM) { edm_chain(s, n); return LK_OK; }
    spaced(s, n, s->T, s->t);
    if (s->cls == DDIM_INVERSE)                                       /* from clean to noisy */
        for (int i = 0; i < n / 2; i++) { double x = s->t[i]; s->t[i] = s->t[n - 1 - i]; s->t[n - 1 - i] = x; }
    return LK_OK;
}
/* The chain before set_timesteps: every training timestep, noisiest first. */
static void training_chain(lk_scheduler *s) {
    new_chain(s, s->cls == EDM_EULER ? s->T + 1 : s->T);
    if (BIT(s->cls) & EDM) { edm_chain(s, s->n); return; }
    for (int i = 0; i < s->T; i++) {
        int t = s->T - 1 - i;
        s->t[i] = t;
        if (s->cls == FLOW) {
            double x = (t + 1.) / s->T;
            s->sigma[i] = s->dynamic ? x : flow_shifted(s->shift, x);
            s->t[i] = s->sigma[i] * s->T;
        } else if (s->sigma) s->sigma[i] = train_sigma(s, t);
    }
}

/* ---- life ------------------------------------------------------------------------------------------------- */
lk_err lk_scheduler_new(const char *cls, const json_t *config, lk_scheduler **out) {
    *out = NULL;
    if (config && !json_is_object(config)) return lk_error(LK_EINPUT, "a scheduler's config must be a JSON object");
    if (!cls) LK_TRY(lk_json_str(config, "_class_name", "scheduler config", NULL, &cls));
    if (!cls) return lk_error(LK_EINPUT, "the scheduler config has no _class_name");
    const char *names[LK_SCHEDULER_CLASSES]; int at = -1;
    for (int k = 0; k < LK_SCHEDULER_CLASSES; k++) { names[k] = classes[k].name; if (!strcmp(names[k], cls)) at = k; }
    if (at < 0) return lk_error(LK_EINPUT, "unknown scheduler class \"%s\"; the nearest is %s", cls, names[lk_nearest(cls, names, LK_SCHEDULER_CLASSES)]);
    json_t *empty = config ? NULL : json_object();
    const json_t *c = config ? config : empty;
    lk_scheduler *s = lk_xcalloc(1, sizeof *s);
    s->cls = (lk_scheduler_class)at;
    lk_err e = check_keys(s->cls, c);
    if (!e) e = read_config(s, c);
    if (!e && BIT(s->cls) & DIFFUSION) e = fill_alphas_cumprod(s, c);
    json_decref(empty);
    if (e) { lk_scheduler_free(s); return e; }
    training_chain(s);
    *out = s;
    return LK_OK;
}
lk_err lk_scheduler_parse(const char *cls, const char *text, lk_scheduler **out) {
    json_t *config = NULL;
    *out = NULL;
    LK_TRY(lk_json_parse(text, strlen(text), "scheduler config", &config));
    lk_err e = lk_scheduler_new(cls, config, out);
    json_decref(config);
    return e;
}
void lk_scheduler_free(lk_scheduler *s) {
    if (!s) return;
    free(s->acp); free(s->t); free(s->sigma); free(s->history); free(s);
}
int           lk_scheduler_steps(const lk_scheduler *s) { return s->n; }
const double *lk_scheduler_timesteps(const lk_scheduler *s) { return s->t; }
const double *lk_scheduler_sigmas(const lk_scheduler *s) { return s->sigma; }
int           lk_scheduler_train_steps(const lk_scheduler *s) { return s->T; }
const double *lk_scheduler_alphas_cumprod(const lk_scheduler *s) { return s->acp; }
const char   *lk_scheduler_prediction_type(const lk_scheduler *s) { return predictions[s->prediction].name; }
double lk_scheduler_init_noise_sigma(const lk_scheduler *s) {
    if (BIT(s->cls) & EDM) return __builtin_sqrt(s->sigma_max * s->sigma_max + 1);
    if (s->cls != EULER && s->cls != EULER_A) return 1;
    double top = 0;
    for (int i = 0; i < s->n; i++) if (s->sigma[i] > top) top = s->sigma[i];
    return s->spacing == LEADING ? __builtin_sqrt(top * top + 1) : top;
}
double lk_scheduler_flow_mu(const lk_scheduler *s, int64_t tokens) {
    double slope = (s->max_shift - s->base_shift) / (double)(s->max_len - s->base_len);
    return (double)tokens * slope + (s->base_shift - slope * (double)s->base_len);
}
