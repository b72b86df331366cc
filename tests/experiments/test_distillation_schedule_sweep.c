/* The distillation experiment as a user would run it: the same digests after kills between and within stages and with another instruction
 * set; the schedules' table buys the same cost for every row; what cannot be a schedule is refused before anything is written. */
#define PROGRAM "distillation_schedule_sweep"
#include "experiments/common/schedules.h"
#include "tests/experiments/program.h"
#include <math.h>

/* ---- the table ----------------------------------------------------------------------------------------------------- */
static const lk_schedule_opts usual = {.budget = 100000, .rank = 16, .batch = 4, .lr = 1e-3, .critic_lr = 1e-3, .guidance = 2, .full_lr = 1e-4};
TEST(every_row_is_a_plan_that_the_distiller_takes) {
    const lk_schedule *rows;
    int n = lk_schedules(&rows);
    CHECK(n >= 10);
    for (int i = 0; i < n; i++) {
        lk_distil_plan p;
        CHECK_OK(lk_schedule_plan(&rows[i], usual, &p));
        CHECK(rows[i].about && p.stage[p.n - 1].to >= 1);
        for (int k = i + 1; k < n; k++) CHECK_MSG(strcmp(rows[i].name, rows[k].name), "'%s' twice", rows[i].name);
        const lk_schedule *of;
        if (rows[i].of) CHECK_OK(lk_schedule_find(rows[i].of, &of));
    }
}
/* Rounding down to whole iterations loses at most one of each stage: under 2 % here. */
TEST(every_row_costs_the_budget) {
    const lk_schedule *rows;
    int n = lk_schedules(&rows);
    for (int i = 0; i < n; i++) {
        lk_distil_plan p;
        double cost = 0;
        CHECK_OK(lk_schedule_plan(&rows[i], usual, &p));
        for (int k = 0; k < p.n; k++) cost += p.stage[k].iterations * usual.batch * lk_schedule_cost(&p.stage[k], 0);
        CHECK_MSG(cost <= usual.budget && cost > 0.98 * usual.budget, "%s costs %g of %g", rows[i].name, cost, usual.budget);
    }
}
TEST(guidance_is_the_options_and_its_range_has_the_same_mean) {
    const lk_schedule *s;
    lk_distil_plan p;
    lk_schedule_opts o = usual;
    o.guidance = 3;
    CHECK_OK(lk_schedule_find("progressive_mse", &s));
    CHECK_OK(lk_schedule_plan(s, o, &p));
    CHECK(p.stage[0].guidance_lo == 3 && p.stage[0].guidance_hi == 3 && p.stage[1].guidance_hi == 1);
    CHECK_OK(lk_schedule_find("lcm_lora", &s));
    CHECK_OK(lk_schedule_plan(s, o, &p));
    CHECK((p.stage[0].guidance_lo + p.stage[0].guidance_hi) / 2 == 3 && p.stage[0].guidance_lo >= 1);
}
/* What every weight is trained on has been a LoRA at the same steps with both critics; nothing comes back to v after x0. */
TEST(lightning_merges_where_it_says) {
    const lk_schedule *s;
    lk_distil_plan p;
    int full = 0;
    CHECK_OK(lk_schedule_find("lightning", &s));
    CHECK_OK(lk_schedule_plan(s, usual, &p));
    for (int i = 0; i < p.n; i++) {
        const lk_distil_stage *st = &p.stage[i];
        CHECK(st->x0 == (st->to == 1));
        if (!st->full) continue;
        full++;
        CHECK(i >= 2 && st->kind == LK_DISTIL_ADVERSARIAL && !st->conditional && p.stage[i - 2].conditional && !p.stage[i - 1].conditional && !p.stage[i - 1].full);
        CHECK(p.stage[i - 2].to == st->to && p.stage[i - 1].to == st->to && st->keep_teacher);
    }
    CHECK(full == 4 && p.full_lr == usual.full_lr);
}
TEST(an_unknown_schedule_names_the_nearest) {
    const lk_schedule *s;
    CHECK_FAILS(lk_schedule_find("lightening", &s), "'lightning'");
}

/* ---- the program -------------------------------------------------------------------------------------------------- */
static const char *adversarial[] = {"run", "profile=tiny", "set=control=none", NULL}, *direct[] = {"run", "profile=tiny", "set=schedule=direct control=none", NULL};
TEST(kills_in_the_middle_of_a_schedule_change_nothing) {
    char a[65], b[65], dir[300], out[320];
    int n;
    setenv("LK_CHECKPOINT_STEPS", "1", 1);
    setenv("LK_THREADS", "1", 1);                                   /* two would wait for each other beside the other tests */
    finished("whole", NULL, adversarial, &n, a);
    CHECK(n == 1);
    snprintf(dir, sizeof dir, "%s/killed", lk_test_dir());
    snprintf(out, sizeof out, "%s.out", dir);
    for (int i = 0; i < 3; i++) run(dir, NULL, adversarial, 0.6 + 0.7 * i, out);
    finished("killed", NULL, adversarial, &n, b);
    CHECK_MSG(!strcmp(a, b), "killed %.16s..., whole %.16s...", b, a);
}
TEST(avx2_and_the_best_agree) {
    if (!__builtin_cpu_supports("avx2")) SKIP("this machine has no AVX2");
    char a[65], b[65];
    int n;
    finished("best", NULL, direct, &n, a);
    finished("avx2", "avx2", direct, &n, b);
    CHECK(n == 1);
    CHECK_MSG(!strcmp(a, b), "avx2 %.16s..., best %.16s...", b, a);
}
TEST(a_loss_that_is_no_number_stops_the_run) {
    char dir[300], out[320], *text;
    size_t size;
    snprintf(dir, sizeof dir, "%s/nan", lk_test_dir());
    snprintf(out, sizeof out, "%s.out", dir);
    int status = run(dir, NULL, (const char *const[]){"run", "profile=tiny", "set=control=none lr=1e12", NULL}, 0, out);
    CHECK_OK(lk_read_file(out, &text, &size));
    CHECK_MSG(status == 1, "status %d", status);
    CHECK_MSG(strstr(text, "last good checkpoint: step 1,") && strstr(text, "distillation step 1 (stage 2, 32 to 8 steps): loss") && strstr(text, "critic"), "said: %s", text);
    free(text);
}
TEST(bad_input_is_refused_before_anything_is_written) {
    static const struct { const char *arg, *part; } bad[] = {{"set=schedule=lightening", "lightning"}, {"set=guidance=0.5", "guidance"}, {"set=rank=0", "rank"}, {"set=most_steps=9", "most_steps"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) refused((const char *const[]){"run", bad[i].arg, NULL}, bad[i].part);
}
