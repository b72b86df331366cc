/* Training a schedule and scoring its students. */
#include "experiments/common/ladder.h"
#include "experiments/common/transfer.h"
#include <string.h>

const int lk_rung_steps[LK_RUNGS] = {8, 4, 2, 1}, lk_transfer_sides[LK_TRANSFER_SIZES] = {12, 24};

lk_err lk_ladder_plan(lk_ctx *c, const char *name, lk_distil_plan *plan) {
    const lk_schedule *s;
    LK_TRY(lk_schedule_find(name, &s));
    const lk_schedule_opts o = {.budget = lk_ctx_real(c, "budget"), .rank = (int)lk_ctx_int(c, "rank"), .batch = (int)lk_ctx_int(c, "batch"), .lr = lk_ctx_real(c, "lr"), .full_lr = lk_ctx_real(c, "full_lr"),
                                .adversarial_lr = lk_ctx_real(c, "adversarial_lr"), .critic_lr = lk_ctx_real(c, "critic_lr"), .discriminator_lr = lk_ctx_real(c, "discriminator_lr"),
                                .r1 = lk_ctx_real(c, "r1"), .guidance = lk_ctx_real(c, "guidance")};
    LK_TRY(lk_schedule_plan(s, o, plan));
    while (plan->n > 1 && plan->stage[plan->n - 1].to < lk_ctx_int(c, "last_steps")) plan->n--;
    return LK_OK;
}
static bool wanted(lk_ctx *c, int steps) {
    int most = (int)lk_ctx_int(c, "most_steps");
    for (int i = 0; i < LK_RUNGS; i++) if (lk_rung_steps[i] == steps) return steps <= most;
    return false;
}
/* A sampler of the student as it is now, drawing latents of side x side. */
static lk_err student_sampler(lk_rungs *r, const lk_distiller *d, const lk_distil_plan *plan, int stage, int side, lk_adapter **adapter, lk_sampler **sampler) {
    lk_studio *s = lk_rungs_studio(r);
    const lk_adapter *trained = lk_distiller_adapter(d);
    *adapter = trained ? lk_adapter_new(lk_distil_lora(plan->rank), "") : NULL;
    LK_TRY(lk_sampler_new_sized(&s->zoo, false, adapter, trained != NULL, 8, side, side, s->pool, sampler));
    if (lk_distil_own(plan, stage)) LK_TRY(lk_sampler_take_unet(*sampler, lk_distiller_exec(d)));
    return trained ? lk_adapter_copy(*adapter, lk_sampler_exec(*sampler), trained, lk_distiller_exec(d)) : LK_OK;
}
/* A student of latent consistency by the sampler it was made for, and at 4 steps by DDIM too. */
static lk_err score_student(lk_rungs *r, lk_ctx *c, const lk_distiller *d, const lk_distil_plan *plan, int stage, int from, int to) {
    const lk_distil_stage *st = &plan->stage[stage];
    lk_adapter *adapter = NULL;
    lk_sampler *sampler = NULL;
    bool lcm = st->kind == LK_DISTIL_CONSISTENCY;
    lk_err e = student_sampler(r, d, plan, stage, LK_ZOO_GRID, &adapter, &sampler);
    for (int i = 0; i < LK_RUNGS && !e; i++) {
        int steps = lk_rung_steps[i];
        if (steps <= from && steps >= to && wanted(c, steps))
            e = lk_rungs_score(r, lk_fmt(lk_ctx_arena(c), "s%d", steps), sampler, (lk_sampling){steps, 1, 0, lcm ? "LCMScheduler" : NULL, st->x0 ? "sample" : NULL});
    }
    if (!e && lcm && wanted(c, 4)) e = lk_rungs_score(r, "ddim4", sampler, (lk_sampling){4, 1, 0, NULL});
    lk_sampler_free(sampler);
    lk_adapter_free(adapter);
    return e;
}
/* unet.safetensors, F32: what was scored, bit for bit; adapter.safetensors: a LoRA of the base, or of that UNet where both are there. */
static lk_err save_student(lk_ctx *c, const lk_distiller *d, const lk_distil_plan *plan, int stage) {
    if (lk_distil_own(plan, stage)) LK_TRY(lk_weights_save(lk_distiller_exec(d), "", lk_ctx_path(c, "unet.safetensors"), NULL));
    if (!lk_distiller_adapter(d)) return LK_OK;
    LK_TRY(lk_adapter_save(lk_distiller_adapter(d), lk_distiller_exec(d), lk_ctx_path(c, "adapter.safetensors")));
    return lk_adapter_save_config(lk_distiller_adapter(d), lk_ctx_path(c, "adapter_config.json"));
}
/* Called when a student is ready: the last iteration of the last stage with its number of steps is behind. */
typedef lk_err (*ready_fn)(lk_rungs *, lk_ctx *, const lk_distiller *, const lk_distil_plan *, int stage, void *arg);
static lk_err train(lk_rungs *r, lk_ctx *c, const lk_distil_plan *plan, lk_distiller *d, ready_fn ready, void *arg) {
    int64_t step = 0, steps = lk_distil_steps(plan), good = 0;
    if (lk_ctx_resume(c, &step)) LK_TRY(lk_distiller_load(d, lk_ctx_checkpoint_path(c), &step));
    good = step;
    while (step < steps) {
        double losses[2];
        int stage = lk_distiller_stage_at(d, step);
        lk_err e = lk_distiller_step(d, step, losses);
        if (e) return good ? lk_err_wrap(e, "last good checkpoint: step %lld, %s", (long long)good, lk_ctx_checkpoint_path(c)) : lk_err_wrap(e, "no checkpoint before it");
        step++;
        lk_ctx_row(c, "train", step, 3, (const char *const[]){"stage", "loss", "critic"}, (double[]){stage + 1, losses[0], losses[1]});
        lk_ctx_progress(c, step, steps, losses[0]);
        bool ends = step == steps || lk_distiller_stage_at(d, step) != stage, done = ends && (stage + 1 == plan->n || plan->stage[stage + 1].to != plan->stage[stage].to);
        if (done) LK_TRY(ready(r, c, d, plan, stage, arg));
        if (step == steps || !(done || lk_ctx_checkpoint_due(c, step))) continue;
        LK_TRY(lk_ctx_checkpoint(c, step, lk_distiller_save, d));
        good = step;
    }
    return LK_OK;
}
static lk_err distil(lk_rungs *r, lk_ctx *c, const lk_distil_plan *plan, ready_fn ready, void *arg) {
    lk_studio *s = lk_rungs_studio(r);
    lk_cohort cohort;
    lk_run *run = lk_ctx_run(c);
    lk_run_column(run, "train", "stage", "", "stage of the schedule, from 1", "");
    lk_run_column(run, "train", "loss", "", "the student's loss, of the stage's kind", "min");
    lk_run_column(run, "train", "critic", "", "loss of the critic or of the fake score", "");
    LK_TRY(lk_cohort_open(s, (int)lk_ctx_int(c, "people"), (int)lk_ctx_int(c, "photos"), &cohort));
    lk_distiller *d = NULL;
    lk_err e = lk_distiller_new(&s->zoo, *plan, cohort.refs, lk_ctx_seed(c), s->pool, &d);
    if (!e) e = train(r, c, plan, d, ready, arg);
    lk_distiller_free(d);
    lk_cohort_close(&cohort);
    return e;
}

/* ---- a schedule ------------------------------------------------------------------------------------------------------ */
static lk_err student_ready(lk_rungs *r, lk_ctx *c, const lk_distiller *d, const lk_distil_plan *plan, int stage, void *arg) {
    const lk_schedule *s = arg;
    bool last = stage + 1 == plan->n;
    int to = plan->stage[stage].to;
    if (s->every && !last) return LK_OK;
    bool four = false;
    for (int i = 0; i < plan->n; i++) four |= plan->stage[i].to == 4;
    if (four ? to == 4 : last) LK_TRY(save_student(c, d, plan, stage));
    return score_student(r, c, d, plan, stage, s->every ? 8 : to, s->every ? 1 : to);
}
lk_err lk_ladder_schedule(lk_rungs *r, const char *name) {
    lk_ctx *c = lk_rungs_ctx(r);
    const lk_schedule *s;
    lk_distil_plan plan;
    LK_TRY(lk_schedule_find(name, &s));
    LK_TRY(lk_ladder_plan(c, name, &plan));
    for (int i = 0; i < plan.n; i++) {
        lk_ctx_log(c, "stage %d: %d to %d steps, %d iterations%s%s", i + 1, plan.stage[i].from, plan.stage[i].to, plan.stage[i].iterations, plan.stage[i].full ? ", every weight" : "", plan.stage[i].x0 ? ", x0" : "");
        lk_run_final(lk_ctx_run(c), lk_fmt(lk_ctx_arena(c), "iterations.%02d", i + 1), plan.stage[i].iterations);
    }
    double began = lk_wall_s();
    LK_TRY(distil(r, c, &plan, student_ready, (void *)s));
    lk_run_inexact(lk_ctx_run(c), "train_and_score_s", lk_wall_s() - began, 1e12);
    return LK_OK;
}

/* ---- the base -------------------------------------------------------------------------------------------------------- */
lk_err lk_ladder_teacher(lk_rungs *r) {
    lk_ctx *c = lk_rungs_ctx(r);
    lk_studio *s = lk_rungs_studio(r);
    lk_sampler *sampler;
    double guidance = lk_ctx_real(c, "guidance");
    LK_TRY(lk_sampler_new(&s->zoo, NULL, 8, s->pool, &sampler));
    lk_err e = lk_rungs_score(r, "teacher", sampler, (lk_sampling){(int)lk_ctx_int(c, "teacher_steps"), guidance, 0, NULL});
    for (int i = 0; i < LK_RUNGS && !e; i++)
        if (wanted(c, lk_rung_steps[i])) e = lk_rungs_score(r, lk_fmt(lk_ctx_arena(c), "s%d", lk_rung_steps[i]), sampler, (lk_sampling){lk_rung_steps[i], guidance, 0, NULL});
    lk_sampler_free(sampler);
    return e;
}

/* ---- transfer: the first stages of progressive_mse, down to 4 steps ----------------------------------------------------- */
/* At another size, beside the guided base at as many steps. */
static lk_err score_at(lk_rungs *r, lk_ctx *c, const lk_distiller *d, const lk_distil_plan *plan, int stage, int side) {
    lk_studio *s = lk_rungs_studio(r);
    lk_arena *m = lk_ctx_arena(c);
    int pixels = side * LK_FRAME / LK_ZOO_GRID;
    lk_adapter *adapter = NULL;
    lk_sampler *student = NULL, *base = NULL;
    lk_err e = student_sampler(r, d, plan, stage, side, &adapter, &student);
    if (!e) e = lk_rungs_score_sized(r, lk_fmt(m, "ddim4_%d", pixels), student, (lk_sampling){LK_TRANSFER_STEPS, 1, 0, NULL}, side);
    if (!e) e = lk_sampler_new_sized(&s->zoo, true, NULL, 0, 8, side, side, s->pool, &base);
    if (!e) e = lk_rungs_score_sized(r, lk_fmt(m, "base4_%d", pixels), base, (lk_sampling){LK_TRANSFER_STEPS, lk_ctx_real(c, "guidance"), 0, NULL}, side);
    lk_sampler_free(base);
    lk_sampler_free(student);
    lk_adapter_free(adapter);
    return e;
}
static lk_err transfer_ready(lk_rungs *r, lk_ctx *c, const lk_distiller *d, const lk_distil_plan *plan, int stage, void *arg) {
    (void)arg;
    if (stage + 1 < plan->n) return LK_OK;
    static const struct { const char *stem, *class; } samplers[] = {{"ddim4", NULL}, {"euler4", "EulerDiscreteScheduler"}, {"dpm4", "DPMSolverMultistepScheduler"}, {"lcm4", "LCMScheduler"}};
    lk_adapter *adapter = NULL;
    lk_sampler *sampler = NULL;
    lk_err e = student_sampler(r, d, plan, stage, LK_ZOO_GRID, &adapter, &sampler);
    for (size_t i = 0; i < sizeof samplers / sizeof *samplers && !e; i++) e = lk_rungs_score(r, samplers[i].stem, sampler, (lk_sampling){LK_TRANSFER_STEPS, 1, 0, samplers[i].class});
    lk_sampler_free(sampler);
    lk_adapter_free(adapter);
    for (int i = 0; i < LK_TRANSFER_SIZES && !e; i++) e = score_at(r, c, d, plan, stage, lk_transfer_sides[i]);
    if (!e) e = save_student(c, d, plan, stage);
    return e ? e : lk_transfer_people(lk_rungs_studio(r), c, lk_distiller_adapter(d), lk_distiller_exec(d));
}
lk_err lk_ladder_transfer(lk_rungs *r) {
    lk_ctx *c = lk_rungs_ctx(r);
    lk_distil_plan plan;
    LK_TRY(lk_ladder_plan(c, "progressive_mse", &plan));
    while (plan.n > 1 && plan.stage[plan.n - 1].to < LK_TRANSFER_STEPS) plan.n--;
    return distil(r, c, &plan, transfer_ready, NULL);
}

lk_err lk_ladder_memory(lk_ctx *c, const char *name) {
    lk_distil_plan plan;
    lk_zoo zoo;
    LK_TRY(lk_ladder_plan(c, name, &plan));
    LK_TRY(lk_zoo_open("models/zoo", "vae clip unet", &zoo));
    lk_distiller *d = NULL;
    lk_err e = lk_distiller_new(&zoo, plan, (lk_references){0}, 0, NULL, &d);
    int worst = plan.n - 1;                          /* one stage lives at a time: the last, which is never the smallest kind */
    lk_graph *g;
    const lk_val *outputs;
    int n;
    if (!e) e = lk_distiller_graph(d, worst, &g, &outputs, &n);
    if (!e) e = lk_ctx_plan(c, "training step", g, outputs, n);
    lk_distiller_free(d);
    lk_zoo_close(&zoo);
    return e;
}
