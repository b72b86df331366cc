/* Identity loss against likeness, prompt following and diversity.
 *   make exp=id_loss_weight_sweep run                about 15 min on 2 cores (profile default)
 * Question: does an identity loss make personalised pictures more like the person, at what price in prompt following and diversity, and does the
 *   accurate form, through a few-step sampler, beat the naive one-step guess? PuLID's idea (Guo et al. 2024, arXiv:2404.16022), with a judge
 *   that the loss never saw.
 * Model: the zoo's base with a LoRA, trained on 5 reference photos and their mirror images. Two stages as published: the diffusion loss alone, then with
 *   the identity branch: pure noise, 4 steps of the zoo's student carrying the same adapter, decoder, face warp, mobilefacenet, 1 - cosine to the
 *   references' mean, back through the last K steps. Alignment losses (.6, .1) hold the cross-attention to that of the path without adapter.
 * Arms (axis id): none; accN, N the weight; accN+al with alignment; accNkK through K steps (else 1); naiveN from one noised latent, timesteps under `gate`;
 *   +mask1, +prior1, +perc.5 and so on: other terms (train/terms.h). Before a colon another adapter kind: dora, full (every linear layer and convolution), id
 *   (the ID adapter of models/id_adapter: cross-attention to tokens of an embedding, trained once on the 28 base people and nothing here).
 * Measured as in lora_rank_sweep: judge dlib, witness mobileface, neither of which is the loss's mobilefacenet; besides, what changes outside the face, and
 *   faces on wide canvases of two people (duplicates).
 * Controls: the frozen base, a copied reference, real test photos, other people, the autoencoder's ceiling, and the same loss spent on pixels of other people's photos.
 * Unit: the person. Primary contrast, named here before any run: id_judge of weight 1 (accurate, without alignment) minus none, exact sign-flip
 *   over people. Everything else is secondary, under Holm. A gain that the witness does not share is marked as suspect.
 * Expect: likeness rises with the weight, CLIP-T falls, alignment wins some of it back. */
#include "experiments/common/identity_summary.h"
#include "experiments/common/identity_trial.h"
#include "experiments/common/two_faces.h"

static const lk_axis axes[] = {
    {"id", "none,acc0.1,acc0.25,acc0.5,acc1,acc2,acc0.1+al,acc0.25+al,acc0.5+al,acc1+al,acc2+al,naive0.1,naive0.25,naive0.5,naive1,naive2,acc1k2,acc1k3,acc1k4,"
           "dora:none,full:none,id:none,dora:acc1,full:acc1",
     .in = {[LK_TINY] = "none,acc1+al", [LK_SMOKE] = "none,acc1", [LK_DEFAULT] = "none,acc0.25,acc1,acc1+al"}, .open = true,
     .about = "adapter kind (LoRA, if none is said) and identity loss: form, weight, alignment, other terms, steps the gradient goes through"},
    {"subject", "s01,s04,s05,s10,s13,s17,s20,s24,s26,s28,s32,s40", .in = {[LK_TINY] = "s10", [LK_SMOKE] = "s10,s28"}, .about = "person of the split 'personal'"},
    {"seed", "0..5", .in = {"0", "0", "0", "0..5"}, .open = true, .about = "of adapter, batches and sampling noise; shared by all arms"},
    {0}};
static const lk_setting settings[] = {
    {"rank", LK_INT, "", {[LK_TINY] = "2", [LK_DEFAULT] = "4"}, 1, 64, .about = "of the LoRA; 4: the middle of lora_rank_sweep"},
    {"steps", LK_INT, "steps", {"3", "40", "160", "240"}, 1, 100000, .about = "training steps in all"},
    {"first", LK_INT, "steps", {"1", "20", "90", "140"}, 0, 100000, .about = "of these, by the diffusion loss alone; sized to the profile's minutes"},
    {"batch", LK_INT, "latents", {"2", "4", "4", "4"}, 1, 64, .about = "latents a step of the diffusion branch"},
    {"id_batch", LK_INT, "pictures", {"1", "1", "1", "2"}, 1, 16, .about = "pictures a step of the identity branch"},
    {"id_prompts", LK_INT, "prompts", {"2", "8", "8", "8"}, 1, 16, .about = "first so many of the prompt list, which the identity branch draws"},
    {"gate", LK_INT, "timestep", {[LK_DEFAULT] = "400"}, 1, 1000, .about = "naive form: latents noised beyond it give no identity loss"},
    {"lr", LK_REAL, "", {[LK_DEFAULT] = "0.004"}, 0, 1, .about = "peak learning rate, warm-up 20 steps, then cosine; as in lora_rank_sweep"},
    {"prompts", LK_INT, "pictures", {"2", "4", "8", "16"}, 1, 16, .about = "first so many of the prompt list, one picture each"},
    {"sample_steps", LK_INT, "steps", {"2", "10", "20", "25"}, 1, 1000, .about = "DDIM steps of the base, trailing"},
    {"guidance", LK_REAL, "", {[LK_DEFAULT] = "2"}, 0, 20, .about = "classifier-free guidance scale"},
    {"full_lr", LK_REAL, "", {[LK_DEFAULT] = "0.0003"}, 0, 1, .about = "peak learning rate of full fine-tuning; the largest of three tried on s10 that kept the prompts"},
    {"canvases", LK_INT, "pictures", {"1", "2", "2", "8"}, 0, 11, .about = "wide canvases of two people: edited, and as many drawn"},
    {"vgg", LK_TEXT, "", {[LK_DEFAULT] = ""}, .about = "VGG16's weights for the terms vgg and lpips: yours"},
    {"clip", LK_TEXT, "", {[LK_DEFAULT] = ""}, .about = "a CLIP's directory for the term clip: yours"},
    {"pixel_steps", LK_INT, "steps", {[LK_TINY] = "2", [LK_DEFAULT] = "40"}, 1, 10000, .about = "control 'pixels': AdamW steps"},
    {"pixel_rate", LK_REAL, "grey levels", {[LK_DEFAULT] = "2"}, 0, 255, .about = "control 'pixels': learning rate"},
    {0}};
static const lk_control_row controls[] = {
    {"base", "subject", "the frozen base under the same prompts, without any adapter"},
    {"copy", "subject", "the reference photos themselves: likeness without generation"},
    {"real", "subject", "each test photo against the other tests: what a perfect generator would score"},
    {"impostor", "subject", "test photos of five other people"},
    {"ceiling", "subject", "test photos through the autoencoder: the most the latents can carry"},
    {"pixels", "subject", "photos of five other people after the identity loss was spent on their pixels: what fooling a recogniser looks like"},
    {0}};
static const lk_hashed inputs[] = {{"photos", "datasets/orl"}, {"zoo", "models/zoo"}, {"faces", "models/faces"}, {"student", "models/student"}, {"id_adapter", "models/id_adapter"}, {"vgg", "$vgg"}, {"clip", "$clip"}, {0}};

static lk_err run(lk_ctx *c) {
    lk_trial t;
    LK_TRY(lk_trial_open(c, "datasets/orl", &t));
    const char *control = lk_ctx_control(c);
    bool base = lk_ctx_is(c, "base"), draws = !control || base;
    lk_err e = base ? lk_trial_adapter(&t, 0) : lk_ctx_is(c, "pixels") ? lk_identity_pixels(&t) : control ? lk_trial_control(&t, control)
                    : lk_identity_adapter(&t, (int)lk_ctx_int(c, "rank"), lk_ctx_text(c, "id"));
    if (!e && draws) e = lk_trial_generated(&t);
    if (!e && !control) e = lk_identity_background(&t);
    if (!e && draws) e = lk_identity_canvases(&t);
    if (!e && lk_ctx_is(c, "real")) e = lk_two_faces_composed(&t);
    lk_trial_close(&t);
    return e;
}
static lk_err check(lk_ctx *c) { return lk_ctx_control(c) ? LK_OK : lk_identity_check(c, lk_ctx_text(c, "id")); }
static lk_err memory(lk_ctx *c) { return lk_ctx_control(c) ? LK_OK : lk_identity_memory(c, (int)lk_ctx_int(c, "rank"), lk_ctx_text(c, "id")); }
static lk_err summarise(lk_sweep *s) {
    lk_arms a;
    char *sentence, *cost;
    LK_TRY(lk_arms_of(s, "id", &a));
    LK_TRY(lk_identity_cost(&a, &cost));
    LK_TRY(lk_summary_table(&a, "datasets/orl", (const char *const[]){cost}, 1));
    LK_TRY(lk_identity_primary(&a, "none", "acc1", &sentence));
    LK_TRY(lk_identity_gains(&a, sentence));
    LK_TRY(lk_identity_kinds(&a));
    LK_TRY(lk_identity_canvas_table(&a));
    LK_TRY(lk_identity_figures(&a));
    return lk_summary_sheet(&a, "datasets/orl");
}

static const lk_experiment id_loss_weight_sweep = {
    .name = "id_loss_weight_sweep", .question = "Does an identity loss raise likeness, and at what price?",
    .axes = axes, .settings = settings, .controls = controls, .controls_in = {[LK_TINY] = "pixels"}, .inputs = inputs,
    .run = run, .check = check, .summarise = summarise, .memory = memory, .disk_per_run = 1 << 20,
    .primary = "id_judge of weight 1 (accurate form, no alignment) minus no identity loss, exact sign-flip over people",
    .uncertainty = "95 % t intervals over people; seeds are averaged within a person first",
};
int main(int argc, char **argv) { return lk_experiment_main(&id_loss_weight_sweep, argc, argv); }
