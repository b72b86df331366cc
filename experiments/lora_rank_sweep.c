/* LoRA rank against likeness, fidelity and diversity.
 *   make exp=lora_rank_sweep run                     about 12 min on 2 cores (profile default)
 * Question: how large a rank does a person need? "Rank 32 or more" is common advice; is it seen here?
 * Model: the zoo's base (models/zoo), trained on 28 people; personalised to 12 others by a LoRA on attention, feed-forward and
 *   resnet convolutions, alpha = rank, trained on 5 reference photos and their mirror images with the diffusion loss and an instance token.
 * Measured on pictures sampled from a fixed list of prompts, noise shared by all ranks: likeness to 5 test photos never trained on, by
 *   dlib (judge) and mobileface (witness), neither of which served as a loss; prompt following and image similarity by the zoo's CLIP;
 *   copying; diversity; fidelity by half-way reconstruction.
 * Controls: rank 0 (the frozen base), a copied reference, a real test photo, other people (impostor), the autoencoder's ceiling.
 * Unit: the person. Primary contrast, named here before any run: the slope of id_judge on log2(rank) over ranks >= 1, exact sign-flip
 *   test over people. Everything else is secondary, under Holm.
 * Expect: the judge's score rises from base to rank 1, then flattens; diversity falls. */
#include "experiments/common/summary.h"
#include "experiments/common/trial.h"
#include "metrics/metrics.h"
#include <math.h>
#include <stdlib.h>

static const lk_axis axes[] = {
    {"rank", "0,1,2,4,8,16,32", .in = {[LK_TINY] = "0,4", [LK_SMOKE] = "0,4", [LK_DEFAULT] = "0,1,4,16"}, .open = true, .about = "rank of the adapter; 0 = the frozen base, a control"},
    {"subject", "s01,s04,s05,s10,s13,s17,s20,s24,s26,s28,s32,s40", .in = {[LK_TINY] = "s10", [LK_SMOKE] = "s10,s28"}, .about = "person of the split 'personal'"},
    {"seed", "0..5", .in = {"0", "0", "0", "0..5"}, .open = true, .about = "of adapter, batches and sampling noise; shared by all ranks"},
    {0}};
static const lk_setting settings[] = {
    {"steps", LK_INT, "steps", {"3", "40", "240", "240"}, 1, 100000, .about = "training steps; where the loss on one base person had flattened"},
    {"batch", LK_INT, "latents", {"2", "4", "4", "4"}, 1, 64, .about = "latents a step; small, since there are ten"},
    {"lr", LK_REAL, "", {[LK_DEFAULT] = "0.004"}, 0, 1, .about = "peak learning rate, warm-up 20 steps, then cosine; from the zoo's trial on one person"},
    {"prompts", LK_INT, "pictures", {"2", "4", "8", "16"}, 1, 16, .about = "first so many of the prompt list, one picture each"},
    {"sample_steps", LK_INT, "steps", {"2", "10", "20", "25"}, 1, 1000, .about = "DDIM steps, trailing"},
    {"guidance", LK_REAL, "", {[LK_DEFAULT] = "2"}, 0, 20, .about = "classifier-free guidance scale"},
    {0}};
static const lk_control_row controls[] = {
    {"copy", "subject", "the reference photos themselves: likeness without generation"},
    {"real", "subject", "each test photo against the other tests: what a perfect generator would score"},
    {"impostor", "subject", "test photos of five other people"},
    {"ceiling", "subject", "test photos through the autoencoder: the most the latents can carry"},
    {0}};
static const lk_hashed inputs[] = {{"photos", "datasets/orl"}, {"zoo", "models/zoo"}, {"faces", "models/faces"}, {0}};

static lk_err run(lk_ctx *c) {
    lk_trial t;
    LK_TRY(lk_trial_open(c, "datasets/orl", &t));
    const char *control = lk_ctx_control(c);
    lk_err e = control ? lk_trial_control(&t, control) : lk_trial_adapter(&t, (int)lk_ctx_int(c, "rank"));
    if (!e && !control) e = lk_trial_generated(&t);
    lk_trial_close(&t);
    return e;
}
static lk_err memory(lk_ctx *c) { return lk_ctx_control(c) ? LK_OK : lk_trial_memory(c, (int)lk_ctx_int(c, "rank")); }

/* Least-squares slope of id_judge on log2(rank), one person at a time, then the sign-flip test over people. */
static lk_err primary(const lk_arms *a, char **sentence) {
    double slope[LK_MAX_PEOPLE], value[LK_MAX_ARMS][LK_MAX_PEOPLE], x[LK_MAX_ARMS];
    int arms = 0, n = 0;
    for (int i = 0; i < a->n_grid; i++) {
        int rank = atoi(a->arm[i].value);
        if (rank < 1) continue;
        x[arms] = log2(rank);
        lk_arm_values(a, i, "id_judge", value[arms++]);
    }
    for (int p = 0; p < a->n_people; p++) {
        double mx = 0, my = 0, xy = 0, xx = 0;
        for (int i = 0; i < arms; i++) { mx += x[i] / arms; my += value[i][p] / arms; }
        for (int i = 0; i < arms; i++) { xy += (x[i] - mx) * (value[i][p] - my); xx += (x[i] - mx) * (x[i] - mx); }
        if (xx > 0 && my == my) slope[n++] = xy / xx;
    }
    lk_arena *m = lk_sweep_arena(a->sweep);
    if (arms < 2 || n < 6) {
        *sentence = lk_fmt(m, "Primary contrast not tested: it needs 2 ranks >= 1 and 6 people, this sweep has %d and %d.", arms, n);
        return LK_OK;
    }
    lk_sign_flips f;
    lk_interval t;
    LK_TRY(lk_sign_flip(slope, n, &f));
    LK_TRY(lk_mean_t(slope, n, 0.95, &t));
    *sentence = lk_fmt(m, "Primary: slope of id_judge on log2(rank), ranks >= 1: %.4f per doubling [%.4f, %.4f], n = %d people, exact sign-flip p = %.4f: rank %s.", t.mean, t.lo, t.hi, n,
                       f.two_sided, f.two_sided >= 0.05 ? "made no difference that this sweep can see" : t.mean > 0 ? "helped" : "hurt");
    lk_run *summary = lk_sweep_summary(a->sweep);
    lk_run_inexact(summary, "primary.slope", t.mean, 1e-9);
    lk_run_inexact(summary, "primary.p", f.two_sided, 0);
    return LK_OK;
}
/* Each rank against the base and against its neighbour. */
static lk_err secondary(const lk_arms *a) {
    int pairs[2 * LK_MAX_ARMS][2], n = 0;
    for (int i = 1; i < a->n_grid; i++) {
        pairs[n][0] = i; pairs[n++][1] = 0;
        if (i > 1) { pairs[n][0] = i; pairs[n++][1] = i - 1; }
    }
    return lk_summary_pairs(a, pairs, n);
}
static lk_err summarise(lk_sweep *s) {
    lk_arms a;
    char *sentence;
    LK_TRY(lk_arms_of(s, "rank", &a));
    LK_TRY(primary(&a, &sentence));
    LK_TRY(lk_summary_table(&a, "datasets/orl", (const char *const[]){sentence}, 1));
    LK_TRY(secondary(&a));
    LK_TRY(lk_summary_figures(&a, "rank", true));
    return lk_summary_sheet(&a, "datasets/orl");
}

static const lk_experiment lora_rank_sweep = {
    .name = "lora_rank_sweep", .question = "How does LoRA rank change likeness, fidelity and diversity?",
    .axes = axes, .settings = settings, .controls = controls, .controls_in = {[LK_TINY] = "copy"}, .inputs = inputs,
    .run = run, .summarise = summarise, .memory = memory, .disk_per_run = 1 << 20,
    .primary = "per-person slope of id_judge on log2(rank) over ranks >= 1, exact sign-flip over people",
    .uncertainty = "95 % t intervals over people; seeds are averaged within a person first",
};
int main(int argc, char **argv) { return lk_experiment_main(&lora_rank_sweep, argc, argv); }
