/* Table of schedulers: chains of a fixed toy model, noising, noise tables and learning-rate schedules. The toy model is
 * the table's own: m_i = 0.3 * scale_model_input(x_i) + 0.1 * c. A table without "forward" has chains alone. */
#include "cli/golden/golden.h"
#include "train/train.h"
#include <stdlib.h>
#include <string.h>

typedef struct { lk_golden *run; lk_golden_file f; lk_arena *memory; } table;

static float *f32_of(const lk_tensor *t) {
    if (!t) return NULL;
    float *v = lk_xmalloc((size_t)(t->numel + 1) * sizeof *v);
    lk_err e = lk_st_f32(t, v);
    if (!e) return v;
    lk_err_free(e); free(v);
    return NULL;
}
static double *widened(const float *x, int64_t n) {
    double *v = lk_xmalloc((size_t)(n + 1) * sizeof *v);
    for (int64_t i = 0; i < n; i++) v[i] = x[i];
    return v;
}
static void compare(table *t, const char *name, const json_t *tol, const char *tol_name, const double *got, const lk_tensor *want, int64_t n) {
    lk_golden_tol bound;
    if (!want || want->numel != n) { lk_golden_check(t->run, false, "%s: %lld values computed, the file has %lld", name, (long long)n, want ? (long long)want->numel : -1LL); return; }
    double *w = lk_golden_f64(want);
    if (lk_golden_tolerance(t->run, tol, tol_name, &bound)) lk_golden_tensor(t->run, name, got, w, n, bound);
    free(w);
}
static void compare_f32(table *t, const char *name, const json_t *tol, const char *tol_name, const float *got, const lk_tensor *want, int64_t n) {
    double *g = widened(got, n);
    compare(t, name, tol, tol_name, g, want, n);
    free(g);
}
static void compare_list(table *t, const char *name, const json_t *tol, const char *tol_name, const double *got, const json_t *want, int64_t n) {
    lk_golden_tol bound;
    if ((int64_t)json_array_size(want) != n) { lk_golden_check(t->run, false, "%s: %lld values, the row has %zu", name, (long long)n, json_array_size(want)); return; }
    double *w = lk_xmalloc((size_t)(n + 1) * sizeof *w);
    for (int64_t i = 0; i < n; i++) w[i] = json_number_value(json_array_get(want, (size_t)i));
    if (lk_golden_tolerance(t->run, tol, tol_name, &bound)) lk_golden_tensor(t->run, name, got, w, n, bound);
    free(w);
}

/* ---- chains ------------------------------------------------------------------------------------------------------ */
static lk_err set_timesteps(lk_scheduler *s, const json_t *row, int n) {
    const json_t *args = json_object_get(row, "set_timesteps"), *mu = json_object_get(args, "mu");
    double m = json_number_value(mu), *sigmas = NULL;
    lk_timestep_opts o = { .mu = mu ? &m : NULL, .original_inference_steps = (int)json_integer_value(json_object_get(args, "original_inference_steps")) };
    if (json_is_true(json_object_get(args, "sigmas"))) {              /* the pipelines' linspace(1, 1/n, n) */
        sigmas = lk_xmalloc((size_t)n * sizeof *sigmas);
        for (int i = 0; i < n; i++) sigmas[i] = n > 1 ? 1 + i * ((1. / n - 1) / (n - 1)) : 1;
        o.sigmas = sigmas;
    }
    lk_err e = lk_scheduler_set_timesteps(s, n, o);
    free(sigmas);
    return e;
}
/* Runs the chain of n steps over `per` values; rows of traj, model_out and x0 as the file has them. */
static lk_err run_chain(lk_scheduler *s, const json_t *row, const float *c, const float *noise, int64_t draws, int64_t per, float *traj, float *model, float *x0) {
    double eta = json_number_value(json_object_get(json_object_get(row, "step"), "eta"));
    float *scaled = lk_xmalloc((size_t)per * sizeof *scaled);
    lk_err e = LK_OK;
    int64_t drawn = 0;
    for (int i = 0; i < lk_scheduler_steps(s) && !e; i++) {
        float *x = traj + i * per, *m = model + i * per;
        const float *z = NULL;
        if (lk_scheduler_needs_noise(s, i, eta)) {
            if (drawn == draws) e = lk_error(LK_EINPUT, "step %d draws noise, the table has only %lld draws", i, (long long)draws);
            else z = noise + per * drawn++;
        }
        lk_scheduler_scale_model_input(s, i, x, per, scaled);
        for (int64_t k = 0; k < per; k++) m[k] = .3f * scaled[k] + .1f * c[k];
        if (!e) e = lk_scheduler_step(s, i, m, x, per, z, eta, x + per, x0 + i * per);
    }
    if (!e && drawn != draws) e = lk_error(LK_EINPUT, "%lld draws used, the table has %lld", (long long)drawn, (long long)draws);
    free(scaled);
    return e;
}
static lk_err run_row(table *t, const char *id, const json_t *row) {
    const json_t *tol = json_object_get(row, "tol");
    int n = (int)json_integer_value(json_object_get(row, "num_inference_steps"));
    lk_scheduler *s;
    LK_TRY(lk_scheduler_new(json_string_value(json_object_get(row, "cls")), json_object_get(row, "config"), &s));
    lk_err e = set_timesteps(s, row, n);
    if (e) { lk_scheduler_free(s); return e; }
    const lk_tensor *unit = lk_golden_get(&t->f, "x_init_unit"), *c = lk_golden_get(&t->f, "c"), *z = lk_golden_get(&t->f, "%s.noise", id);
    int64_t per = unit->numel, steps = lk_scheduler_steps(s);
    double sigma0 = lk_scheduler_init_noise_sigma(s);
    lk_golden_number(t->run, lk_fmt(t->memory, "%s.init_noise_sigma", id), sigma0, json_number_value(json_object_get(row, "init_noise_sigma")), 1e-9 * (1 + sigma0));
    compare(t, lk_fmt(t->memory, "%s.timesteps", id), tol, "timesteps", lk_scheduler_timesteps(s), lk_golden_get(&t->f, "%s.timesteps", id), steps);
    compare_list(t, lk_fmt(t->memory, "%s.timesteps (row)", id), tol, "timesteps", lk_scheduler_timesteps(s), json_object_get(row, "timesteps"), steps);
    const lk_tensor *sigmas = lk_golden_get(&t->f, "%s.sigmas", id);
    if (sigmas && lk_scheduler_sigmas(s)) {
        compare(t, lk_fmt(t->memory, "%s.sigmas", id), tol, "sigmas", lk_scheduler_sigmas(s), sigmas, steps + 1);
        compare_list(t, lk_fmt(t->memory, "%s.sigmas (row)", id), tol, "sigmas", lk_scheduler_sigmas(s), json_object_get(row, "sigmas"), steps + 1);
    } else if (sigmas) lk_golden_check(t->run, false, "%s: the scheduler has no sigmas", id);
    float *x = f32_of(unit), *cv = f32_of(c), *noise = f32_of(z), *buffer = lk_xcalloc((size_t)(per * (3 * steps + 1)), sizeof *buffer);
    float *traj = buffer, *model = traj + per * (steps + 1), *x0 = model + per * steps;
    for (int64_t k = 0; k < per; k++) traj[k] = (float)sigma0 * x[k];
    e = run_chain(s, row, cv, noise, z ? z->numel / per : 0, per, traj, model, x0);
    const struct { const char *name; const float *v; int64_t rows; } parts[] = { { "traj", traj, steps + 1 }, { "model_out", model, steps }, { "x0", x0, steps } };
    for (int k = 0; k < 3 && !e; k++) {
        const lk_tensor *want = lk_golden_get(&t->f, "%s.%s", id, parts[k].name);
        if (want || k < 2) compare_f32(t, lk_fmt(t->memory, "%s.%s", id, parts[k].name), tol, parts[k].name, parts[k].v, want, per * parts[k].rows);
    }
    free(x); free(cv); free(noise); free(buffer);
    lk_scheduler_free(s);
    return e;
}

/* ---- noise tables and noising ---------------------------------------------------------------------------------------- */
#define SD "\"beta_start\": 0.00085, \"beta_end\": 0.012, \"beta_schedule\": \"scaled_linear\""
static void tables(table *t, const json_t *tol) {
    static const struct { const char *name, *cls, *config; int what; } rows[] = {       /* what: 0 alphas_cumprod, 1 sigmas, 2 timesteps */
        { "ddpm.alphas_cumprod", "DDPMScheduler", "{" SD "}", 0 }, { "ddpm_linear.alphas_cumprod", "DDPMScheduler", "{}", 0 },
        { "ddpm_cosine.alphas_cumprod", "DDPMScheduler", "{\"beta_schedule\": \"squaredcos_cap_v2\"}", 0 },
        { "ddpm_zsnr.alphas_cumprod", "DDPMScheduler", "{" SD ", \"rescale_betas_zero_snr\": true}", 0 },
        { "euler_train_sigmas", "EulerDiscreteScheduler", "{" SD "}", 1 },
        { "flow_train_sigmas_shift3", "FlowMatchEulerDiscreteScheduler", "{\"shift\": 3.0}", 1 },
        { "flow_train_timesteps_shift3", "FlowMatchEulerDiscreteScheduler", "{\"shift\": 3.0}", 2 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lk_scheduler *s;
        lk_err e = lk_scheduler_parse(rows[i].cls, rows[i].config, &s);
        if (e) { lk_golden_failed(t->run, rows[i].name, e); continue; }
        const lk_tensor *want = lk_golden_get(&t->f, "fwd.%s", rows[i].name);
        const double *got = rows[i].what == 0 ? lk_scheduler_alphas_cumprod(s) : rows[i].what == 1 ? lk_scheduler_sigmas(s) : lk_scheduler_timesteps(s);
        compare(t, rows[i].name, tol, rows[i].name, got, want, want ? want->numel : 0);
        lk_scheduler_free(s);
    }
}
static void noising(table *t, const json_t *tol) {
    typedef lk_err (*mixer)(const lk_scheduler *, const float *, const float *, const double *, int64_t, int64_t, float *);
    static const struct { const char *name, *cls, *config, *t; mixer mix; } rows[] = {
        { "add_noise", "DDPMScheduler", "{" SD "}", "t", lk_scheduler_add_noise }, { "velocity", "DDPMScheduler", "{" SD "}", "t", lk_scheduler_velocity },
        { "add_noise_zsnr", "DDPMScheduler", "{" SD ", \"rescale_betas_zero_snr\": true}", "t", lk_scheduler_add_noise },
        { "velocity_zsnr", "DDPMScheduler", "{" SD ", \"rescale_betas_zero_snr\": true}", "t", lk_scheduler_velocity },
        { "flow_scale_noise", "FlowMatchEulerDiscreteScheduler", "{\"shift\": 3.0}", "flow_t", lk_scheduler_add_noise },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const lk_tensor *x0 = lk_golden_get(&t->f, "fwd.x0"), *noise = lk_golden_get(&t->f, "fwd.noise"), *at = lk_golden_get(&t->f, "fwd.%s", rows[i].t);
        lk_scheduler *s = NULL;
        lk_err e = x0 && noise && at ? lk_scheduler_parse(rows[i].cls, rows[i].config, &s) : lk_error(LK_EINPUT, "fwd.x0, fwd.noise or fwd.%s is absent", rows[i].t);
        if (e) { lk_golden_failed(t->run, rows[i].name, e); continue; }
        float *x = f32_of(x0), *z = f32_of(noise), *out = lk_xcalloc((size_t)x0->numel, sizeof *out);
        double *times = lk_golden_f64(at);
        e = rows[i].mix(s, x, z, times, at->numel, x0->numel / at->numel, out);
        if (!e) compare_f32(t, rows[i].name, tol, rows[i].name, out, lk_golden_get(&t->f, "fwd.%s", rows[i].name), x0->numel);
        lk_golden_failed(t->run, rows[i].name, e);
        free(x); free(z); free(out); free(times);
        lk_scheduler_free(s);
    }
}
static void flow_timesteps(table *t, const json_t *tol) {             /* fwd.flow_t: picked from the training timesteps */
    lk_scheduler *s = NULL;
    const lk_tensor *at = lk_golden_get(&t->f, "fwd.flow_t");
    lk_err e = at ? lk_scheduler_parse("FlowMatchEulerDiscreteScheduler", "{\"shift\": 3.0}", &s) : lk_error(LK_EINPUT, "fwd.flow_t is absent");
    if (e) { lk_golden_failed(t->run, "flow_t", e); return; }
    double *times = lk_golden_f64(at), *got = lk_xcalloc((size_t)at->numel + 1, sizeof *got);
    for (int64_t k = 0; k < at->numel; k++)
        for (int i = 0; i < lk_scheduler_steps(s); i++) {
            double d = lk_scheduler_timesteps(s)[i] - times[k], b = got[k] - times[k];
            if (i == 0 || d * d < b * b) got[k] = lk_scheduler_timesteps(s)[i];
        }
    compare(t, "flow_t", tol, "flow_t", got, at, at->numel);
    free(times); free(got);
    lk_scheduler_free(s);
}
static void snr_weights(table *t, const json_t *tol) {
    static const struct { const char *name, *prediction; double gamma; } rows[] = {
        { "snr", "epsilon", 0 }, { "minsnr_eps_g1", "epsilon", 1 }, { "minsnr_v_g1", "v_prediction", 1 }, { "minsnr_eps_g5", "epsilon", 5 }, { "minsnr_v_g5", "v_prediction", 5 } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lk_scheduler *s;
        char *config = lk_fmt(t->memory, "{" SD ", \"prediction_type\": \"%s\"}", rows[i].prediction);
        lk_err e = lk_scheduler_parse("DDPMScheduler", config, &s);
        if (e) { lk_golden_failed(t->run, rows[i].name, e); continue; }
        int T = lk_scheduler_train_steps(s);
        double *got = lk_xcalloc((size_t)T, sizeof *got);
        for (int k = 0; k < T && !e; k++) {
            if (rows[i].gamma > 0) e = lk_scheduler_min_snr_weight(s, k, rows[i].gamma, &got[k]);
            else got[k] = lk_scheduler_snr(s, k);
        }
        if (!e) compare(t, rows[i].name, tol, rows[i].name, got, lk_golden_get(&t->f, "fwd.%s", rows[i].name), T);
        lk_golden_failed(t->run, rows[i].name, e);
        free(got);
        lk_scheduler_free(s);
    }
}

/* ---- learning rates: binary64 against binary64 ------------------------------------------------------------------------- */
static void learning_rates(table *t, const json_t *rows) {
    const char *name; json_t *row;
    json_object_foreach((json_t *)rows, name, row) {
        lk_lr l = { .name = name, .base = json_number_value(json_object_get(row, "base")), .warmup = json_integer_value(json_object_get(row, "num_warmup_steps")),
                    .total = json_integer_value(json_object_get(row, "num_training_steps")), .cycles = json_number_value(json_object_get(row, "num_cycles")),
                    .power = json_number_value(json_object_get(row, "power")) };
        const json_t *want = json_object_get(row, "lr_at_step");
        double worst = 0;
        lk_err e = json_array_size(want) ? LK_OK : lk_error(LK_EINPUT, "no lr_at_step");
        for (size_t i = 0; i < json_array_size(want) && !e; i++) {
            double got = 0;
            e = lk_lr_at(&l, (int64_t)i, &got);
            double d = got - json_number_value(json_array_get(want, i));
            if (!(d * d <= worst * worst)) worst = d;
        }
        if (!e) lk_golden_number(t->run, lk_fmt(t->memory, "lr.%s, worst of %zu", name, json_array_size(want)), worst, 0, 1e-15);
        lk_golden_failed(t->run, name, e);
    }
}
lk_err lk_golden_schedulers(lk_golden *run, const char *path, const char *dir, json_t *json) {
    table t = { .run = run, .memory = lk_arena_new() };
    lk_err e = lk_golden_open(run, lk_golden_path(t.memory, dir, "schedulers.safetensors"), &t.f);
    if (!e && !(lk_golden_get(&t.f, "x_init_unit") && lk_golden_get(&t.f, "c"))) e = lk_error(LK_EINPUT, "x_init_unit or c is absent");
    if (!e) {
        const char *id; json_t *row;
        json_object_foreach(json_object_get(json, "cases"), id, row) lk_golden_failed(run, id, run_row(&t, id, row));
        const json_t *forward = json_object_get(json, "forward"), *tol = json_object_get(forward, "tol");
        if (forward) {
            tables(&t, tol);
            noising(&t, tol);
            flow_timesteps(&t, tol);
            snr_weights(&t, tol);
            learning_rates(&t, json_object_get(json, "lr"));
        }
        lk_golden_close(run, &t.f);
    }
    lk_arena_free(t.memory);
    return lk_err_wrap(e, "%s", path);
}
