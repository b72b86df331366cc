/* Distillation schedules: what a plan may say, and which stage a step belongs to. */
#include "train/distil_internal.h"

static const char *const kinds[] = {"mse", "adversarial", "consistency", "matching", "pixels"};

bool lk_distil_own(const lk_distil_plan *p, int stage) {
    for (int i = 0; i <= stage; i++) if (p->stage[i].full || p->stage[i].x0) return true;
    return false;
}
bool lk_distil_x0_teacher(const lk_distil_plan *p, int stage) {
    while (stage > 0 && p->stage[stage].keep_teacher) stage--;
    return stage > 0 && !p->stage[stage].base_teacher && p->stage[stage - 1].x0;
}
static lk_err check_x0(const lk_distil_plan *p, int i, lk_predict base) {
    const lk_distil_stage *s = &p->stage[i];
    bool before = i > 0 && p->stage[i - 1].x0;
    const char *kind = kinds[s->kind];
    if (!s->x0) return before ? lk_error(LK_EINPUT, "stage %d (%s): follows a stage whose student predicts x0: x0 here too", i + 1, kind) : LK_OK;
    if (base == LK_PREDICT_FLOW) return lk_error(LK_EINPUT, "stage %d (%s): x0 as target with a flow model, whose velocity has no pole at the last timestep: leave x0 off", i + 1, kind);
    if (base != LK_PREDICT_V) return lk_error(LK_EINPUT, "stage %d (%s): x0 as target is reached from v alone here", i + 1, kind);
    if (s->kind != LK_DISTIL_MSE && s->kind != LK_DISTIL_ADVERSARIAL) return lk_error(LK_EINPUT, "stage %d (%s): x0 as target; for mse and adversarial stages", i + 1, kind);
    if (!before && s->kind != LK_DISTIL_MSE) return lk_error(LK_EINPUT, "stage %d (%s): x0 as target without the stage by mse that turns the student into it", i + 1, kind);
    return LK_OK;
}
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
static lk_err check_weights(const lk_distil_plan *p, int i) {
    const lk_distil_stage *s = &p->stage[i];
    if (lk_distil_own(p, i) && (s->kind == LK_DISTIL_MATCHING || s->kind == LK_DISTIL_PIXELS))
        return lk_error(LK_EINPUT, "stage %d (%s): judged by the base, which a full or x0 stage would have replaced: a LoRA stage before any such", i + 1, kinds[s->kind]);
    if (s->full && !(p->full_lr > 0)) return lk_error(LK_EINPUT, "stage %d (%s): every weight at a rate of %g; above 0", i + 1, kinds[s->kind], p->full_lr);
    if (s->keep_teacher && (i == 0 || p->stage[i - 1].base_teacher)) return lk_error(LK_EINPUT, "stage %d (%s): keeps the teacher of the stage before, whose teacher was no student: let the base teach", i + 1, kinds[s->kind]);
    return LK_OK;
}
lk_err lk_distil_check(const lk_distil_plan *p, lk_predict base) {
    if (p->n < 1 || p->n > LK_DISTIL_MAX_STAGES) return lk_error(LK_EINPUT, "a distillation of %d stages; 1 to %d", p->n, LK_DISTIL_MAX_STAGES);
    if (p->rank < 1) for (int i = 0; i < p->n; i++) if (!p->stage[i].full) return lk_error(LK_EINPUT, "stage %d: a student LoRA of rank %d has no targets to train; at least 1", i + 1, p->rank);
    if (p->batch < 1) return lk_error(LK_EINPUT, "batch %d; at least 1", p->batch);
    for (int i = 0, before = 0; i < p->n; before = p->stage[i++].to) {
        LK_TRY(check_stage(&p->stage[i], i, before));
        LK_TRY(check_x0(p, i, base));
        LK_TRY(check_weights(p, i));
    }
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
