/* What the peers' table (tests/golden/models/schedulers) cannot show: refusals by name, and that a chain begun in the middle, or of
 * one step, behaves. Oracle for the identity tests: a model that predicts the true noise brings every sampler back to x0. */
#include "models/schedulers.h"
#include "tests/lib/lk_test.h"

static void refuses(const char *cls, const char *config, const char *part) {
    lk_scheduler *s;
    CHECK_FAILS(lk_scheduler_parse(cls, config, &s), part);
}
TEST(unknown_things_are_refused_by_name) {
    refuses("DDIMSchedular", "{}", "nearest is DDIMScheduler");
    refuses(NULL, "{}", "_class_name");
    refuses("DDIMScheduler", "{\"set_alpha_to_two\": true}", "set_alpha_to_one");
    refuses("DDIMScheduler", "{\"solver_order\": 2}", "solver_order");                  /* another class's key */
    refuses("DDIMScheduler", "{\"timestep_spacing\": \"trailling\"}", "linspace, leading, trailing");
    refuses("DDIMScheduler", "{\"thresholding\": true}", "not implemented");
    refuses("DDIMScheduler", "{\"beta_start\": \"small\"}", "beta_start");
    refuses("DDIMScheduler", "{\"num_train_timesteps\": 0}", "num_train_timesteps");
    refuses("DPMSolverMultistepScheduler", "{\"solver_order\": 3}", "solver_order");
    refuses("DPMSolverMultistepScheduler", "{\"algorithm_type\": \"dpmsolver\"}", "dpmsolver++");
    refuses("EulerDiscreteScheduler", "{\"use_beta_sigmas\": true}", "use_beta_sigmas");
    refuses("EDMEulerScheduler", "{\"prediction_type\": \"sample\"}", "epsilon or v_prediction");
    refuses("EDMEulerScheduler", "{\"sigma_schedule\": \"linear\"}", "karras, exponential");
    refuses("EDMEulerScheduler", "{\"solver_order\": 2}", "no key \"solver_order\"");     /* the other EDM class's key */
    refuses("EDMEulerScheduler", "{\"sigma_min\": 90}", "0 < sigma_min < sigma_max");
    refuses("EDMDPMSolverMultistepScheduler", "{\"sigma_data\": 0}", "sigma_data > 0");
    refuses("EDMDPMSolverMultistepScheduler", "{\"algorithm_type\": \"deis\"}", "dpmsolver++");
    refuses("DDIMScheduler", "{\"trained_betas\": [0.1, 0.2]}", "trained_betas");
}
TEST(a_pipelines_own_config_is_read) {
    lk_scheduler *s;
    CHECK_OK(lk_scheduler_parse(NULL, "{\"_class_name\": \"DDIMScheduler\", \"_diffusers_version\": \"0.6.0\", \"beta_end\": 0.012, \"beta_schedule\": \"scaled_linear\","
        "\"beta_start\": 0.00085, \"clip_sample\": false, \"num_train_timesteps\": 1000, \"set_alpha_to_one\": false, \"skip_prk_steps\": true, \"steps_offset\": 1, \"trained_betas\": null}", &s));
    CHECK(!strcmp(lk_scheduler_prediction_type(s), "epsilon"));
    lk_scheduler_free(s);
}
/* x_T = alpha x0 + sigma eps; the model always answers the true eps, so the predicted x0 is x0 at every step. */
static void comes_home(const char *cls, const char *config) {
    enum { n = 12 };
    lk_scheduler *s;
    float x0[n], eps[n], x[n], clean[n];
    CHECK_OK(lk_scheduler_parse(cls, config, &s));
    CHECK_OK(lk_scheduler_set_timesteps(s, 9, (lk_timestep_opts){ 0 }));
    for (int k = 0; k < n; k++) { x0[k] = lk_philox_normal(1, 0, 0, (uint64_t)k); eps[k] = lk_philox_normal(2, 0, 0, (uint64_t)k); }
    double t0 = lk_scheduler_timesteps(s)[0];
    CHECK_OK(lk_scheduler_add_noise(s, x0, eps, &t0, 1, n, x));
    for (int i = 0; i < 9; i++) CHECK_OK(lk_scheduler_step(s, i, eps, x, n, NULL, 0, x, clean));
    for (int k = 0; k < n; k++) CHECK_MSG(fabsf(clean[k] - x0[k]) < 2e-5, "%s: x0[%d] = %g, want %g", cls, k, clean[k], x0[k]);   /* abar near .005: 15-fold growth of binary32 rounding */
    lk_scheduler_free(s);
}
TEST(a_perfect_model_brings_the_sample_home) {
    comes_home("DDIMScheduler", "{\"clip_sample\": false, \"beta_start\": 0.00085, \"beta_end\": 0.012, \"beta_schedule\": \"scaled_linear\"}");
    comes_home("EulerDiscreteScheduler", "{\"beta_start\": 0.00085, \"beta_end\": 0.012, \"beta_schedule\": \"scaled_linear\"}");
    comes_home("DPMSolverMultistepScheduler", "{\"beta_start\": 0.00085, \"beta_end\": 0.012, \"beta_schedule\": \"scaled_linear\", \"use_karras_sigmas\": true}");
}
TEST(calls_that_cannot_be_met_are_errors) {
    lk_scheduler *s; float v[4] = { 0 }; double a, b;
    CHECK_OK(lk_scheduler_parse("EulerAncestralDiscreteScheduler", "{}", &s));
    CHECK_FAILS(lk_scheduler_set_timesteps(s, 0, (lk_timestep_opts){ 0 }), "sampling steps");
    CHECK_OK(lk_scheduler_set_timesteps(s, 4, (lk_timestep_opts){ 0 }));
    CHECK_FAILS(lk_scheduler_step(s, 0, v, v, 4, NULL, 0, v, NULL), "draws noise");
    CHECK_FAILS(lk_scheduler_step(s, 4, v, v, 4, v, 0, v, NULL), "step 4 of 4");
    CHECK_FAILS(lk_scheduler_step(s, 0, v, v, 4, v, .5, v, NULL), "eta");
    CHECK_FAILS(lk_scheduler_marginal(s, 3.5, &a, &b), "nearest");
    lk_scheduler_free(s);
    CHECK_OK(lk_scheduler_parse("DDIMScheduler", "{\"rescale_betas_zero_snr\": true, \"timestep_spacing\": \"trailing\"}", &s));
    CHECK_OK(lk_scheduler_set_timesteps(s, 4, (lk_timestep_opts){ 0 }));
    CHECK_FAILS(lk_scheduler_step(s, 0, v, v, 4, NULL, 0, v, NULL), "predict v or x0");
    CHECK_FAILS(lk_scheduler_min_snr_weight(s, 999, 5, &a), "predict v");
    CHECK_FAILS(lk_scheduler_marginal(s, 1000, &a, &b), "0 .. 999");
    lk_scheduler_free(s);
    CHECK_OK(lk_scheduler_parse("FlowMatchEulerDiscreteScheduler", "{\"use_dynamic_shifting\": true}", &s));
    CHECK_FAILS(lk_scheduler_set_timesteps(s, 4, (lk_timestep_opts){ 0 }), "needs mu");
    CHECK_CLOSE(lk_scheduler_flow_mu(s, 256), .5, 1e-12);
    CHECK_CLOSE(lk_scheduler_flow_mu(s, 4096), 1.15, 1e-12);
    lk_scheduler_free(s);
}

TEST(edm_preconditioning) {
    static const struct { double data, sigma, skip, out, in, noise; } rows[] = {          /* tests/peers/edm.py: diffusers' EDMEulerScheduler in binary64 */
        { 0.5, 0.002, 0.99998400025599588, 0.0019999840001919972, 1.9999840001919975, -1.5536520246055479 }, { 0.5, 0.37, 0.64616179891444814, 0.29742150270514733, 1.6076837984062018, -0.24856306833596672 },
        { 0.5, 1.0, 0.20000000000000001, 0.44721359549995793, 0.89442719099991586, 0 }, { 0.5, 80.0, 3.9060974180696068e-05, 0.49999023466109294, 0.012499755866527323, 1.0955066586684703 },
        { 1.0, 0.37, 0.87958483595742809, 0.3470088817920543, 0.93786184268122785, -0.24856306833596672 }, { 1.0, 80.0, 0.0001562255897516013, 0.99992188415408156, 0.01249902355192602, 1.0955066586684703 } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lk_edm e = lk_edm_precondition(rows[i].sigma, rows[i].data);
        CHECK_CLOSE(e.c_skip, rows[i].skip, 1e-15);                                       /* some rounding of binary64 */
        CHECK_CLOSE(e.c_out, rows[i].out, 1e-15);
        CHECK_CLOSE(e.c_in, rows[i].in, 1e-15);
        CHECK_CLOSE(e.c_noise, rows[i].noise, 1e-15);
        CHECK_CLOSE(e.weight * e.c_out * e.c_out, 1, 1e-14);                              /* so the network's own loss has weight 1 (equation 8) */
    }
    static const double levels[] = { 80.0, 17.52783203125, 2.51521897315979, 0.16975276172161102, 0.0020000000949949026, 0.0 };
    double sigmas[6];
    lk_edm_sigmas(.002, 80, 7, 5, sigmas);
    for (int i = 0; i < 6; i++) CHECK_CLOSE(sigmas[i], levels[i], 1e-6 * (levels[i] + 1e-3));   /* the peer keeps binary32 */
    CHECK(fabs(lk_edm_precondition(.37, .5).c_skip - rows[4].skip) > .1);                 /* another sigma_data is seen */
}
