/* From a many-step model to one of 8, 4, 2 or 1 steps: which schedule loses least?
 *   make exp=distillation_schedule_sweep run         about 12 min on 2 cores (profile default)
 * Question: at the same cost of training, which distillation keeps fidelity, prompt following, likeness and diversity of the zoo's base, and
 *   which parts of SDXL-Lightning's recipe (Lin et al. 2024, arXiv:2402.13929) matter at this size?
 * Model: the zoo's base (models/zoo), v-prediction on 8x16x16 latents, trained on 28 people; students are LoRAs on every linear and convolution
 *   but the first, the last and the timestep embedding, in some stages all weights, trained on latents of base people.
 * A run trains one row of experiments/common/schedules.c, every row for the same number of network evaluations, and scores the student
 *   of each step count where its stages end: DDIM, trailing, eta 0, guidance 1 (baked in), the same noise and prompts for all; latent consistency by its own sampler.
 * Measured, with the base people's photos as the real side: Frechet distance in the zoo's CLIP (64-d), whole and on the central 32x32 pixels;
 *   kernel distance in dlib's space; CLIP-T; likeness to the named person; diversity; detection; detail (sharpness); time a picture.
 * Controls: the teacher at 32 steps with guidance and at the same few steps; photos and their way through the autoencoder; the 4-step
 *   student beside other people's adapters, under other samplers and at other sizes.
 * Unit: the prompt group, one a base person. Primary contrast, named here before any run: Frechet distance (whole) of lightning minus progressive_mse
 *   at 4 steps, delete-one-group jackknife, paired. Everything else is secondary.
 * Expect: MSE falls apart below 4 steps and is smooth there; an adversarial loss keeps detail; the plain sampler is unusable at 1 and 2. */
#include "experiments/common/ladder.h"
#include "experiments/common/ladder_summary.h"

static const lk_axis axes[] = {
    {"schedule", "direct,progressive_mse,progressive_mse-guidance_last,progressive_mse-guidance_each,progressive_mse-no_pure_noise,progressive_mse-skip_teacher,lightning,lightning-lora,lightning-v,"
                 "lightning-mse_first,lightning-no_skip,lightning-no_pure_noise,lightning-no_renoise,lightning-conditional,lightning-unconditional,lcm_lora,lcm_lora-16,dmd,dmd-regression,add,add-no_score",
     .in = {[LK_TINY] = "lightning-unconditional", [LK_SMOKE] = "direct,lightning-unconditional",
            [LK_DEFAULT] = "direct,progressive_mse,lightning,progressive_mse-guidance_last,progressive_mse-guidance_each,progressive_mse-no_pure_noise,progressive_mse-skip_teacher,lcm_lora,dmd,add"},
     .about = "a row of experiments/common/schedules.c; after the dash: the one option in which an ablation differs"},
    {"seed", "0..5", .in = {"0", "0", "0", "0..5"}, .open = true, .about = "of adapter, batches and sampling noise; shared by all schedules"},
    {0}};
static const lk_setting settings[] = {
    {"budget", LK_REAL, "evaluations", {"1", "1500", "6000", "400000"}, 1, 1e9, .about = "of the network for one latent, a gradient counted as two: what a schedule may spend on training"},
    {"batch", LK_INT, "latents", {"1", "4", "4", "16"}, 1, 64, .about = "latents a step"},
    {"rank", LK_INT, "", {"2", "16", "16", "16"}, 1, 256, .about = "of the student's LoRA, alpha = rank: 64 for SDXL scaled to this width"},
    {"lr", LK_REAL, "", {[LK_DEFAULT] = "0.002"}, 0, 1e12, .about = "peak of stages that train a LoRA"},
    {"adversarial_lr", LK_REAL, "", {[LK_DEFAULT] = "0.0005"}, 0, 1e12, .about = "the same of adversarial stages: at lr a LoRA leaves the teacher faster than a critic can say so"},
    {"full_lr", LK_REAL, "", {[LK_DEFAULT] = "0.000025"}, 1e-12, 1, .about = "the same of stages that train every weight"},
    {"critic_lr", LK_REAL, "", {[LK_DEFAULT] = "0.001"}, 0, 1, .about = "of the fake score (dmd), of the head on the vision tower (add)"},
    {"discriminator_lr", LK_REAL, "", {[LK_DEFAULT] = "0.0001"}, 0, 1, .about = "of all weights of the discriminator; at 1e-3 its logits are a constant after five iterations"},
    {"r1", LK_REAL, "", {[LK_DEFAULT] = "0"}, 0, 1000, .about = "weight of R1 on the head's input; the recipe has none"},
    {"guidance", LK_REAL, "", {[LK_DEFAULT] = "2"}, 1, 20, .about = "classifier-free guidance of the teacher, as in lora_rank_sweep"},
    {"teacher_steps", LK_INT, "steps", {"2", "32", "32", "32"}, 1, 1000, .about = "of the control that students are held against"},
    {"most_steps", LK_INT, "steps", {[LK_DEFAULT] = "8"}, 1, 8, .about = "students of 8, 4, 2 and 1 steps up to this are scored"},
    {"last_steps", LK_INT, "steps", {"8", "1", "1", "1"}, 1, 8, .about = "stages to fewer steps are left out"},
    {"people", LK_INT, "people", {"1", "4", "12", "28"}, 1, 28, .about = "base people whose latents students are trained on"},
    {"photos", LK_INT, "photos", {"2", "5", "10", "10"}, 1, 10, .about = "of each"},
    {"groups", LK_INT, "people", {"1", "4", "12", "28"}, 1, 28, .about = "base people who are drawn: prompt groups, the unit"},
    {"prompts", LK_INT, "pictures", {"2", "4", "6", "16"}, 1, 16, .about = "a group: the first of the prompt list"},
    {"transfer_people", LK_INT, "people", {"1", "1", "6", "12"}, 1, 12, .about = "of the split 'personal', whose adapters the student is put beside"},
    {"transfer_steps", LK_INT, "steps", {"2", "40", "120", "240"}, 1, 100000, .about = "of training a person's adapter; lora_rank_sweep has 240"},
    {"transfer_prompts", LK_INT, "pictures", {"2", "4", "6", "16"}, 1, 16, .about = "a person"},
    {"rank_person", LK_INT, "", {"2", "4", "4", "4"}, 1, 256, .about = "of a person's adapter"},
    {0}};
static const lk_control_row controls[] = {
    {"transfer", "seed", "the 4-step student of progressive_mse under other samplers, at other sizes and beside other people's adapters"},
    {"teacher", "seed", "the base, guided, at teacher_steps and at the same few steps"},
    {"photos", "", "the photos themselves, and through the autoencoder"},
    {0}};
static const lk_hashed inputs[] = {{"photos", "datasets/orl"}, {"zoo", "models/zoo"}, {"faces", "models/faces"}, {0}};

static lk_err run(lk_ctx *c) {
    lk_rungs *r;
    LK_TRY(lk_rungs_open(c, &r));
    lk_err e = lk_ctx_is(c, "transfer") ? lk_ladder_transfer(r)
             : lk_ctx_is(c, "teacher")  ? lk_ladder_teacher(r)
             : lk_ctx_is(c, "photos")   ? lk_rungs_score_photos(r)
                                        : lk_ladder_schedule(r, lk_ctx_text(c, "schedule"));
    lk_rungs_close(r);
    return e;
}
static lk_err check(lk_ctx *c) {
    lk_distil_plan plan;
    return lk_ctx_control(c) ? LK_OK : lk_ladder_plan(c, lk_ctx_text(c, "schedule"), &plan);
}
static lk_err memory(lk_ctx *c) { return lk_ctx_control(c) ? LK_OK : lk_ladder_memory(c, lk_ctx_text(c, "schedule")); }

static lk_err summarise(lk_sweep *s) {
    lk_ladder l;
    LK_TRY(lk_ladder_of(s, &l));
    LK_TRY(lk_ladder_table(&l, "lightning", "progressive_mse", 4));
    LK_TRY(lk_ladder_contrasts(&l));
    LK_TRY(lk_ladder_transfer_table(&l));
    LK_TRY(lk_ladder_figures(&l));
    return lk_ladder_sheet(&l);
}

static const lk_experiment distillation_schedule_sweep = {
    .name = "distillation_schedule_sweep", .schema = 2, .question = "Which distillation schedule makes a few-step student at the least loss?",
    .axes = axes, .settings = settings, .controls = controls, .controls_in = {[LK_TINY] = "photos"}, .inputs = inputs,
    .run = run, .summarise = summarise, .memory = memory, .check = check, .disk_per_run = 16 << 20,
    .primary = "FD (whole) of lightning minus progressive_mse at 4 steps, paired delete-one-group jackknife",
    .uncertainty = "95 % t intervals over prompt groups; distances between distributions by the delete-one-group jackknife",
};
int main(int argc, char **argv) { return lk_experiment_main(&distillation_schedule_sweep, argc, argv); }
