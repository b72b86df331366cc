/* Distillation schedules: what a plan may say, and which stage a step belongs to. */
#include "train/distil.h"

static const char *const kinds[] = {"mse", "adversarial", "consistency", "matching", "pixels"};

static lk_err check_stage(const lk_distil_stage *s, int i, int before) {
    const char *kind = s->kind <= LK_DISTIL_PIXELS ? kinds[s->kind] : "?";
    if (s->to < 1) return lk_error(LK_EINPUT, "stage %d (%s): a student of %d steps; at least 1", i + 1, kind, s->to);
    if (s->from < s->to) return lk_error(LK_EINPUT, "stage %d (%s): a teacher of %d steps cannot teach a student of %d: give it at least as many", i + 1, kind, s->from, s->to);
    if (s->from % s->to) return lk_error(LK_EINPUT, "stage %d (%s): %d teacher steps do not divide into %d student steps: %d or %d would", i + 1, kind, s->from, s->to, s->from / s->to * s->to, (s->from / s->to + 1) * s->to);
    if (s->from > 1000) return lk_error(LK_EINPUT, "stage %d (%s): a chain of %d steps; the schedule has 1000", i + 1, kind, s->from);
    if (s->iterations < 1) return lk_error(LK_EINPUT, "stage %d (%s): %d iterations; at least 1", i + 1, kind, s->iterations);
    if (s->guidance_lo < 1 || s->guidance_hi < s->guidance_lo) return lk_error(LK_EINPUT, "stage %d (%s): guidance %g to %g; from 1 (none) upwards", i + 1, kind, s->guidance_lo, s->guidance_hi);
    if (s->guidance_hi > 1 && !s->base_teacher && !s->guided_student) return lk_error(LK_EINPUT, "stage %d (%s): guidance %g on a distilled teacher, which has guidance in it already: 1, let the base teach, or set guided_student", i + 1, kind, s->guidance_hi);
    if (s->guided_student && s->base_teacher) return lk_error(LK_EINPUT, "stage %d (%s): both the base and a guided student teach: one of them", i + 1, kind);
    if (!s->base_teacher && i == 0) return lk_error(LK_EINPUT, "stage 1 (%s): no student came before it to teach: let the base teach", kind);
    if (!s->base_teacher && !s->keep_teacher && s->from != before && s->kind == LK_DISTIL_MSE)
        return lk_error(LK_EINPUT, "stage %d (%s): its teacher is the student of %d steps that stage %d left, not of %d", i + 1, kind, before, i, s->from);
    if (s->score_weight < 0 || (s->score_weight > 0 && s->kind != LK_DISTIL_PIXELS)) return lk_error(LK_EINPUT, "stage %d (%s): weight %g of score distillation; from 0 on, and for the kind pixels alone", i + 1, kind, s->score_weight);
    if (s->renoise < 0 || s->renoise > 1000) return lk_error(LK_EINPUT, "stage %d (%s): landings noised to one of %d timesteps; 0 to 1000", i + 1, kind, s->renoise);
    return LK_OK;
}
lk_err lk_distil_check(const lk_distil_plan *p) {
    if (p->n < 1 || p->n > LK_DISTIL_MAX_STAGES) return lk_error(LK_EINPUT, "a distillation of %d stages; 1 to %d", p->n, LK_DISTIL_MAX_STAGES);
    if (p->rank < 1) return lk_error(LK_EINPUT, "a student LoRA of rank %d has no targets to train; at least 1", p->rank);
    if (p->batch < 1) return lk_error(LK_EINPUT, "batch %d; at least 1", p->batch);
    for (int i = 0, before = 0; i < p->n; before = p->stage[i++].to) LK_TRY(check_stage(&p->stage[i], i, before));
    return LK_OK;
}
int64_t lk_distil_steps(const lk_distil_plan *p) {
    int64_t n = 0;
    for (int i = 0; i < p->n; i++) n += p->stage[i].iterations;
    return n;
}
lk_lora_config lk_distil_lora(int rank) {
    static const char *const targets[] = {"to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "conv1", "conv2", "conv_shortcut", "conv", "time_emb_proj", NULL};
    return (lk_lora_config){.kind = LK_LORA, .r = rank, .alpha = rank, .targets = targets};
}
