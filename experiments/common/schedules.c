/* The table of schedules and what an iteration of each kind of stage costs. */
#include "experiments/common/schedules.h"
#include <string.h>

/* Guidance is baked in by the first stage (GUIDED); later teachers are students that have it. */
#define GUIDED .base_teacher = true, .guidance_lo = 2, .guidance_hi = 2
#define PLAIN .guidance_lo = 1, .guidance_hi = 1
#define MSE(f, t, ...) {.kind = LK_DISTIL_MSE, .from = f, .to = t, __VA_ARGS__}
#define ADV_AS_IT_IS(f, t, ...) {.kind = LK_DISTIL_ADVERSARIAL, .from = f, .to = t, PLAIN, __VA_ARGS__}
#define ADV(f, t, ...) ADV_AS_IT_IS(f, t, .renoise = 4, __VA_ARGS__)
#define NOISE .pure_noise = true
#define COND .conditional = true
#define KEEP .keep_teacher = true
#define FULL .full = true
#define X0 .x0 = true

static const lk_schedule table[] = {
    {"direct", "one stage of MSE from the guided 32-step chain to 4 steps", NULL, true, 1, {{1, MSE(32, 4, GUIDED, NOISE)}}},
    {"progressive_mse", "MSE 128-32-8-4-2-1, guidance baked in by the first stage", NULL, false, 5,
     {{1, MSE(128, 32, GUIDED, NOISE)}, {1, MSE(32, 8, PLAIN, NOISE)}, {1, MSE(8, 4, PLAIN, NOISE)}, {1, MSE(4, 2, PLAIN, NOISE)}, {1, MSE(2, 1, PLAIN, NOISE)}}},
    {"progressive_mse-no_pure_noise", "the first timestep starts from noised latents, as the teacher's training did", "progressive_mse", false, 5,
     {{1, MSE(128, 32, GUIDED)}, {1, MSE(32, 8, PLAIN)}, {1, MSE(8, 4, PLAIN)}, {1, MSE(4, 2, PLAIN)}, {1, MSE(2, 1, PLAIN)}}},
    {"progressive_mse-guidance_last", "no guidance until 8 steps; the stage to 4 guides the student that teaches", "progressive_mse", false, 5,
     {{1, MSE(128, 32, .base_teacher = true, PLAIN, NOISE)}, {1, MSE(32, 8, PLAIN, NOISE)}, {1, MSE(8, 4, .guided_student = true, .guidance_lo = 2, .guidance_hi = 2, NOISE)},
      {1, MSE(4, 2, PLAIN, NOISE)}, {1, MSE(2, 1, PLAIN, NOISE)}}},
    {"progressive_mse-guidance_each", "every stage guides its teacher, which has guidance in it already", "progressive_mse", false, 5,
     {{1, MSE(128, 32, GUIDED, NOISE)}, {1, MSE(32, 8, .guided_student = true, .guidance_lo = 2, .guidance_hi = 2, NOISE)}, {1, MSE(8, 4, .guided_student = true, .guidance_lo = 2, .guidance_hi = 2, NOISE)},
      {1, MSE(4, 2, .guided_student = true, .guidance_lo = 2, .guidance_hi = 2, NOISE)}, {1, MSE(2, 1, .guided_student = true, .guidance_lo = 2, .guidance_hi = 2, NOISE)}}},
    {"progressive_mse-skip_teacher", "the 8-step student teaches 2 and 1 as well as 4", "progressive_mse", false, 5,
     {{1, MSE(128, 32, GUIDED, NOISE)}, {1, MSE(32, 8, PLAIN, NOISE)}, {1, MSE(8, 4, PLAIN, NOISE)}, {1, MSE(8, 2, PLAIN, NOISE, .keep_teacher = true)},
      {1, MSE(8, 1, PLAIN, NOISE, .keep_teacher = true)}}},
    {"lightning", "MSE 128-32, then adversarial 32-8-4-2-1: LoRA with the conditional, then the unconditional critic, merged, every weight; the 8-step student teaches 2 and 1; x0 at 1", NULL, false, 14,
     {{3, MSE(128, 32, GUIDED, NOISE)},
      {2, ADV(32, 8, NOISE, COND)}, {1, ADV(32, 8, NOISE, KEEP)}, {1, ADV(32, 8, NOISE, KEEP, FULL)},
      {2, ADV(8, 4, NOISE, COND)}, {1, ADV(8, 4, NOISE, KEEP)}, {1, ADV(8, 4, NOISE, KEEP, FULL)},
      {2, ADV(8, 2, NOISE, COND, KEEP)}, {1, ADV(8, 2, NOISE, KEEP)}, {1, ADV(8, 2, NOISE, KEEP, FULL)},
      {1, MSE(8, 1, PLAIN, NOISE, KEEP, X0)}, {2, ADV(8, 1, NOISE, COND, KEEP, X0)}, {1, ADV(8, 1, NOISE, KEEP, X0)}, {1, ADV(8, 1, NOISE, KEEP, X0, FULL)}}},
    {"lightning-lora", "LoRA stages alone", "lightning", false, 10,
     {{3, MSE(128, 32, GUIDED, NOISE)}, {2, ADV(32, 8, NOISE, COND)}, {1, ADV(32, 8, NOISE, KEEP)}, {2, ADV(8, 4, NOISE, COND)}, {1, ADV(8, 4, NOISE, KEEP)},
      {2, ADV(8, 2, NOISE, COND, KEEP)}, {1, ADV(8, 2, NOISE, KEEP)}, {1, MSE(8, 1, PLAIN, NOISE, KEEP, X0)}, {2, ADV(8, 1, NOISE, COND, KEEP, X0)}, {1, ADV(8, 1, NOISE, KEEP, X0)}}},
    {"lightning-v", "LoRA stages; v at 1 step too", "lightning-lora", false, 9,
     {{3, MSE(128, 32, GUIDED, NOISE)}, {2, ADV(32, 8, NOISE, COND)}, {1, ADV(32, 8, NOISE, KEEP)}, {2, ADV(8, 4, NOISE, COND)}, {1, ADV(8, 4, NOISE, KEEP)},
      {2, ADV(8, 2, NOISE, COND, KEEP)}, {1, ADV(8, 2, NOISE, KEEP)}, {2, ADV(8, 1, NOISE, COND, KEEP)}, {1, ADV(8, 1, NOISE, KEEP)}}},
    {"lightning-mse_first", "LoRA stages; v; each adversarial stage begins where MSE to the same steps left off", "lightning-v", false, 9,
     {{3, MSE(128, 32, GUIDED, NOISE)}, {2, MSE(32, 8, PLAIN, NOISE)}, {1, ADV(32, 8, NOISE, COND, KEEP)},
      {2, MSE(8, 4, PLAIN, NOISE)}, {1, ADV(8, 4, NOISE, COND, KEEP)}, {2, MSE(8, 2, PLAIN, NOISE, KEEP)}, {1, ADV(8, 2, NOISE, COND, KEEP)},
      {2, MSE(8, 1, PLAIN, NOISE, KEEP)}, {1, ADV(8, 1, NOISE, COND, KEEP)}}},
    {"lightning-no_skip", "LoRA stages; v; each student teaches the next: 4 teaches 2, 2 teaches 1", "lightning-v", false, 9,
     {{3, MSE(128, 32, GUIDED, NOISE)}, {2, ADV(32, 8, NOISE, COND)}, {1, ADV(32, 8, NOISE, KEEP)}, {2, ADV(8, 4, NOISE, COND)}, {1, ADV(8, 4, NOISE, KEEP)},
      {2, ADV(4, 2, NOISE, COND)}, {1, ADV(4, 2, NOISE, KEEP)}, {2, ADV(2, 1, NOISE, COND)}, {1, ADV(2, 1, NOISE, KEEP)}}},
    {"lightning-no_pure_noise", "LoRA stages; v; the first timestep starts from noised latents", "lightning-v", false, 9,
     {{3, MSE(128, 32, GUIDED)}, {2, ADV(32, 8, COND)}, {1, ADV(32, 8, KEEP)}, {2, ADV(8, 4, COND)}, {1, ADV(8, 4, KEEP)},
      {2, ADV(8, 2, COND, KEEP)}, {1, ADV(8, 2, KEEP)}, {2, ADV(8, 1, COND, KEEP)}, {1, ADV(8, 1, KEEP)}}},
    {"lightning-no_renoise", "LoRA stages; v; landings at the chain's end are judged as they are", "lightning-v", false, 9,
     {{3, MSE(128, 32, GUIDED, NOISE)}, {2, ADV_AS_IT_IS(32, 8, NOISE, COND)}, {1, ADV_AS_IT_IS(32, 8, NOISE, KEEP)}, {2, ADV_AS_IT_IS(8, 4, NOISE, COND)}, {1, ADV_AS_IT_IS(8, 4, NOISE, KEEP)},
      {2, ADV_AS_IT_IS(8, 2, NOISE, COND, KEEP)}, {1, ADV_AS_IT_IS(8, 2, NOISE, KEEP)}, {2, ADV_AS_IT_IS(8, 1, NOISE, COND, KEEP)}, {1, ADV_AS_IT_IS(8, 1, NOISE, KEEP)}}},
    {"lightning-conditional", "LoRA stages; v; the conditional critic alone", "lightning-v", false, 5,
     {{3, MSE(128, 32, GUIDED, NOISE)}, {3, ADV(32, 8, NOISE, COND)}, {3, ADV(8, 4, NOISE, COND)}, {3, ADV(8, 2, NOISE, COND, KEEP)}, {3, ADV(8, 1, NOISE, COND, KEEP)}}},
    {"lightning-unconditional", "LoRA stages; v; the unconditional critic alone", "lightning-v", false, 5,
     {{3, MSE(128, 32, GUIDED, NOISE)}, {3, ADV(32, 8, NOISE)}, {3, ADV(8, 4, NOISE)}, {3, ADV(8, 2, NOISE, KEEP)}, {3, ADV(8, 1, NOISE, KEEP)}}},
    {"lcm_lora", "latent consistency along the 32-step chain, guidance drawn from 1 to 3 (the mean is the others' 2)", NULL, true, 1,
     {{1, {.kind = LK_DISTIL_CONSISTENCY, .from = 32, .to = 1, .base_teacher = true, .guidance_lo = 1, .guidance_hi = 3, .pure_noise = true}}}},
    {"lcm_lora-16", "along the 16-step chain: longer solver steps", "lcm_lora", true, 1,
     {{1, {.kind = LK_DISTIL_CONSISTENCY, .from = 16, .to = 1, .base_teacher = true, .guidance_lo = 1, .guidance_hi = 3, .pure_noise = true}}}},
    {"dmd", "MSE 128-32-8-4, then distribution matching at 4 steps against the guided base", NULL, true, 4,
     {{1, MSE(128, 32, GUIDED, NOISE)}, {1, MSE(32, 8, PLAIN, NOISE)}, {1, MSE(8, 4, PLAIN, NOISE)},
      {2, {.kind = LK_DISTIL_MATCHING, .from = 4, .to = 4, GUIDED, NOISE}}}},
    {"add", "MSE 128-32-8-4, then a critic on features of the frozen vision tower at x0 against photos, and score distillation; at a quarter of the common rate, at which it loses the face", NULL, true, 4,
     {{1, MSE(128, 32, GUIDED, NOISE)}, {1, MSE(32, 8, PLAIN, NOISE)}, {1, MSE(8, 4, PLAIN, NOISE)},
      {2, {.kind = LK_DISTIL_PIXELS, .from = 4, .to = 4, GUIDED, NOISE, .score_weight = 2.5}}}, .rate = 0.25},
    {"add-no_score", "without score distillation", "add", true, 4,
     {{1, MSE(128, 32, GUIDED, NOISE)}, {1, MSE(32, 8, PLAIN, NOISE)}, {1, MSE(8, 4, PLAIN, NOISE)},
      {2, {.kind = LK_DISTIL_PIXELS, .from = 4, .to = 4, GUIDED, NOISE}}}, .rate = 0.25},
    {"dmd-regression", "with the MSE to the guided base's chain kept beside it", "dmd", true, 4,
     {{1, MSE(128, 32, GUIDED, NOISE)}, {1, MSE(32, 8, PLAIN, NOISE)}, {1, MSE(8, 4, PLAIN, NOISE)},
      {2, {.kind = LK_DISTIL_MATCHING, .from = 16, .to = 4, GUIDED, NOISE, .mse_weight = 0.25}}}},
};
int lk_schedules(const lk_schedule **rows) {
    *rows = table;
    return (int)(sizeof table / sizeof *table);
}
lk_err lk_schedule_find(const char *name, const lk_schedule **out) {
    enum { N = sizeof table / sizeof *table };
    const char *names[N];
    for (int i = 0; i < N; i++) {
        names[i] = table[i].name;
        if (!strcmp(name, names[i])) { *out = &table[i]; return LK_OK; }
    }
    return lk_error(LK_EINPUT, "no schedule '%s'; nearest: '%s'", name, names[lk_nearest(name, names, N)]);
}
double lk_schedule_cost(const lk_distil_stage *s, double r1) {
    bool consistency = s->kind == LK_DISTIL_CONSISTENCY, matching = s->kind == LK_DISTIL_MATCHING || s->kind == LK_DISTIL_PIXELS;
    int k = consistency ? 1 : matching && s->mse_weight <= 0 ? 0 : s->from / s->to;
    double teacher = k * (s->base_teacher || s->guided_student ? 2 : 1), student = 3;
    switch (s->kind) {
    case LK_DISTIL_CONSISTENCY: return teacher + student + 1;        /* its own prediction at the near timestep */
    case LK_DISTIL_MATCHING:    return teacher + student + 2 + 3;    /* the guided score of the base, the fake score with its gradient */
    case LK_DISTIL_PIXELS:      return teacher + student + 2 + 4;    /* the guided score, two pictures decoded and one gradient through the decoder */
    case LK_DISTIL_ADVERSARIAL: return teacher + student + (s->conditional ? 1.5 : 1) * (3 + 0.5) + (r1 > 0 ? 1 : 0);
    default:                    return teacher + student;
    }
}
lk_err lk_schedule_plan(const lk_schedule *s, lk_schedule_opts o, lk_distil_plan *p) {
    *p = (lk_distil_plan){.rank = o.rank, .batch = o.batch, .lr = o.lr * (s->rate > 0 ? s->rate : 1), .full_lr = o.full_lr, .adversarial_lr = o.adversarial_lr, .critic_lr = o.critic_lr,
                          .discriminator_lr = o.discriminator_lr, .r1 = o.r1, .fake_every = 1, .n = s->n};
    int shares = 0;
    for (int i = 0; i < s->n; i++) shares += s->row[i].share;
    for (int i = 0; i < s->n; i++) {
        lk_distil_stage *t = &p->stage[i];
        *t = s->row[i].stage;
        bool range = t->guidance_hi > t->guidance_lo;
        if (t->guidance_hi > 1) { t->guidance_lo = range ? 1 : o.guidance; t->guidance_hi = range ? 2 * o.guidance - 1 : o.guidance; }
        t->iterations = (int)(o.budget * s->row[i].share / shares / (o.batch * lk_schedule_cost(t, o.r1)));
        if (t->iterations < 1) t->iterations = 1;
    }
    return lk_distil_check(p, LK_PREDICT_V);
}
