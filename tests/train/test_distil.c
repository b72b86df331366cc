/* The distiller on the zoo's own base, a sample a step: what a stage trains and what it leaves alone, resuming, refusals. */
#include "tests/lib/lk_test.h"
#include "train/cohort.h"
#include "train/distil.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static lk_studio studio;
static lk_cohort cohort;
static bool ready(void) {
    if (cohort.refs.n) return true;
    CHECK_OK(lk_studio_open("datasets/orl", lk_pool_new(1), &studio));
    CHECK_OK(lk_cohort_open(&studio, 1, 1, &cohort));
    return cohort.refs.n > 0;
}
static lk_distil_stage mse(int from, int to, int iterations) {
    return (lk_distil_stage){.kind = LK_DISTIL_MSE, .from = from, .to = to, .iterations = iterations, .guidance_lo = 1, .guidance_hi = 1, .base_teacher = true, .pure_noise = true};
}
static lk_distil_plan plan_of(int n, const lk_distil_stage *stages, double lr, double critic_lr) {
    lk_distil_plan p = {.rank = 1, .batch = 1, .lr = lr, .critic_lr = critic_lr, .r1 = 0.1, .n = n};
    memcpy(p.stage, stages, sizeof *stages * (size_t)n);
    return p;
}
/* SHA-256 over every param whose name has a part. */
static void digest(const lk_distiller *d, const char *prefix, bool rest, char hex[65], int *n) {
    lk_exec *x = lk_distiller_exec(d);
    const lk_graph *g = lk_exec_graph(x);
    lk_sha256 sum;
    lk_sha256_init(&sum);
    *n = 0;
    for (int i = 0; i < lk_graph_count(g); i++) {
        const lk_node *node = lk_graph_node(g, (lk_val){i});
        if (node->op != LK_OP_param || (node->mem != LK_MEM_ADAPTER && node->mem != LK_MEM_WEIGHT)) continue;
        if (rest ? strchr(node->name, '/') || node->mem != LK_MEM_ADAPTER : !lk_starts(node->name, prefix)) continue;
        int64_t size = lk_numel(node->shape);
        float *v = lk_xmalloc(sizeof *v * (size_t)size);
        CHECK_OK(lk_exec_get(x, (lk_val){i}, v, size));
        for (int64_t k = 0; k < size; k++) v[k] += 0.0f;            /* AdamW at a rate of zero turns -0 into +0 */
        lk_sha256_add(&sum, v, sizeof *v * (size_t)size);
        free(v);
        ++*n;
    }
    lk_sha256_hex(&sum, hex);
}
static void steps(lk_distiller *d, int64_t from, int64_t to) {
    for (int64_t s = from; s < to; s++) {
        double losses[2] = {NAN, NAN};
        CHECK_OK(lk_distiller_step(d, s, losses));
        CHECK(isfinite(losses[0]));
    }
}
/* With one learning rate at zero only the other side may move: nothing of a loss reaches params that are not its own. */
static void one_side(lk_distil_kind kind, const char *second, int least) {
    lk_distil_stage st = mse(2, 1, 3);
    st.kind = kind; st.conditional = true; st.renoise = 4; st.guidance_hi = 2; st.guidance_lo = 2;
    if (kind == LK_DISTIL_PIXELS) st.score_weight = 2.5;
    for (int side = 0; side < 2; side++) {
        lk_distil_plan p = plan_of(1, &st, side ? 0 : 1e-3, side ? 1e-3 : 0);
        lk_distiller *d;
        char before[3][65], after[3][65];
        int n;
        CHECK_OK(lk_distiller_new(&studio.zoo, p, cohort.refs, 1, studio.pool, &d));
        steps(d, 0, 1);
        digest(d, "", true, before[0], &n); CHECK_MSG(n > 50, "%d student params", n);
        digest(d, second, false, before[1], &n); CHECK_MSG(n >= least, "%d params of %s", n, second);
        digest(d, "teacher/", false, before[2], &n); CHECK_MSG(n > 50, "%d teacher params", n);
        steps(d, 1, 3);
        digest(d, "", true, after[0], &n); digest(d, second, false, after[1], &n); digest(d, "teacher/", false, after[2], &n);
        CHECK_MSG(!strcmp(before[0], after[0]) == (side == 1), "kind %d, side %d: the student %s", kind, side, side ? "moved by the other's loss" : "did not move");
        CHECK_MSG(!strcmp(before[1], after[1]) == (side == 0), "kind %d, side %d: %s %s", kind, side, second, side ? "did not move" : "moved by the student's loss");
        CHECK_MSG(!strcmp(before[2], after[2]), "kind %d: the teacher moved", kind);
        lk_distiller_free(d);
    }
}
TEST(critic_and_student_do_not_leak) { if (ready()) one_side(LK_DISTIL_ADVERSARIAL, "critic/", 50); }
TEST(fake_score_and_student_do_not_leak) { if (ready()) one_side(LK_DISTIL_MATCHING, "fake/", 50); }
TEST(pixel_critic_and_student_do_not_leak) { if (ready()) one_side(LK_DISTIL_PIXELS, "critic/", 4); }
/* With fake_every 2 the student waits at the first step and moves at the second. */
TEST(the_fake_score_has_its_own_rate) {
    if (!ready()) return;
    lk_distil_stage st = mse(2, 1, 4);
    st.kind = LK_DISTIL_MATCHING;
    lk_distil_plan p = plan_of(1, &st, 1e-3, 1e-3);
    p.fake_every = 2;
    lk_distiller *d;
    char student[3][65], fake[3][65];
    int n;
    CHECK_OK(lk_distiller_new(&studio.zoo, p, cohort.refs, 6, studio.pool, &d));
    steps(d, 0, 2);
    for (int i = 0; i < 3; i++) {
        digest(d, "", true, student[i], &n);
        digest(d, "fake/", false, fake[i], &n);
        if (i < 2) steps(d, 2 + i, 3 + i);
    }
    CHECK(!strcmp(student[0], student[1]) && strcmp(student[1], student[2]));
    CHECK(strcmp(fake[0], fake[1]) && strcmp(fake[1], fake[2]));
    lk_distiller_free(d);
}

/* Three stages with a kill in the second: same bits. The second stage's teacher is the first's student, the third's is kept. */
TEST(resumes_with_the_same_bits) {
    if (!ready()) return;
    lk_distil_stage st[3] = {mse(8, 4, 2), mse(4, 2, 3), mse(4, 1, 2)};
    st[1].base_teacher = st[2].base_teacher = false;
    st[2].keep_teacher = true;
    lk_distil_plan p = plan_of(3, st, 1e-3, 0);
    lk_distiller *d;
    char whole[65], again[65], teacher[2][65], path[400];
    int n;
    CHECK_OK(lk_distiller_new(&studio.zoo, p, cohort.refs, 2, studio.pool, &d));
    steps(d, 0, 2); digest(d, "", true, whole, &n);
    steps(d, 2, 3); digest(d, "teacher/", false, teacher[0], &n);
    CHECK_MSG(!strcmp(whole, teacher[0]), "the second stage's teacher is not what the first left");
    snprintf(path, sizeof path, "%s/distil.safetensors", lk_test_dir());
    steps(d, 3, 4);
    CHECK_OK(lk_distiller_save(d, 4, path));
    steps(d, 4, 7);
    digest(d, "teacher/", false, teacher[1], &n);
    CHECK_MSG(!strcmp(teacher[0], teacher[1]), "the third stage's teacher was to be kept");
    digest(d, "", true, whole, &n);
    lk_distiller_free(d);
    int64_t step = 0;
    CHECK_OK(lk_distiller_new(&studio.zoo, p, cohort.refs, 2, studio.pool, &d));
    CHECK_OK(lk_distiller_load(d, path, &step));
    CHECK(step == 4);
    steps(d, step, 7);
    digest(d, "", true, again, &n);
    CHECK_MSG(!strcmp(whole, again), "resumed weights differ");
    lk_distiller_free(d);
}
TEST(consistency_learns_along_the_chain) {
    if (!ready()) return;
    lk_distil_stage st = mse(50, 5, 2);
    st.kind = LK_DISTIL_CONSISTENCY; st.guidance_lo = 1.5; st.guidance_hi = 2.5;
    lk_distiller *d;
    lk_distil_plan p = plan_of(1, &st, 1e-3, 0);
    CHECK_OK(lk_distiller_new(&studio.zoo, p, cohort.refs, 3, studio.pool, &d));
    steps(d, 0, 2);
    lk_distiller_free(d);
}
/* A student that already lands where its teacher does (same steps, base as teacher, B = 0) has no loss but rounding. */
TEST(a_student_equal_to_its_teacher_has_no_loss) {
    if (!ready()) return;
    lk_distil_stage st = mse(4, 4, 1);
    st.guidance_lo = st.guidance_hi = 1;
    lk_distiller *d;
    double losses[2];
    lk_distil_plan p = plan_of(1, &st, 0, 0);
    CHECK_OK(lk_distiller_new(&studio.zoo, p, cohort.refs, 4, studio.pool, &d));
    CHECK_OK(lk_distiller_step(d, 0, losses));
    CHECK_MSG(losses[0] < 1e-9, "loss %g", losses[0]);      /* guidance 1 is a lerp of two predictions: an ulp or two of values near 1 */
    lk_distiller_free(d);
}
/* Guidance from the student's own unconditional branch: at scale 1 the same teaching up to rounding, at scale 3 another. The seed is one whose
 * second step does not drop the caption. */
static double second_loss(bool guided, double scale) {
    lk_distil_stage st[2] = {mse(8, 4, 1), mse(4, 2, 1)};
    st[1].base_teacher = false;
    st[1].guided_student = guided;
    st[1].guidance_lo = st[1].guidance_hi = scale;
    lk_distiller *d;
    double losses[2] = {NAN, NAN};
    lk_distil_plan p = plan_of(2, st, 1e-3, 0);
    CHECK_OK(lk_distiller_new(&studio.zoo, p, cohort.refs, 7, studio.pool, &d));
    for (int64_t s = 0; s < 2; s++) CHECK_OK(lk_distiller_step(d, s, losses));
    lk_distiller_free(d);
    return losses[0];
}
TEST(a_student_may_guide_itself) {
    if (!ready()) return;
    double plain = second_loss(false, 1), once = second_loss(true, 1), thrice = second_loss(true, 3);
    CHECK_CLOSE(once, plain, 1e-5 * plain);
    CHECK_MSG(fabs(thrice - plain) > 1e-2 * plain, "guidance 3: loss %g, none: %g", thrice, plain);
}
TEST(refusals) {
    struct { lk_distil_stage st[2]; int n; const char *part; } bad[] = {
        {{mse(32, 5, 1)}, 1, "do not divide into 5 student steps: 30 or 35 would"}, {{mse(4, 8, 1)}, 1, "cannot teach a student of 8"}, {{mse(4, 0, 1)}, 1, "at least 1"},
        {{mse(8, 4, 0)}, 1, "0 iterations"}, {{mse(8, 4, 1), mse(8, 4, 1)}, 2, "is the student of 4 steps"}, {{mse(8, 4, 1)}, 1, "let the base teach"}, {{mse(8, 4, 1)}, 1, "guidance 0.5"},
        {{mse(8, 4, 1)}, 1, "both the base and a guided student"}, {{mse(8, 4, 1), mse(4, 2, 1)}, 2, "or set guided_student"},
        {{mse(8, 4, 1)}, 1, "for the kind pixels alone"}};
    bad[4].st[1].base_teacher = false;
    bad[5].st[0].base_teacher = false;
    bad[6].st[0].guidance_lo = bad[6].st[0].guidance_hi = 0.5;
    bad[9].st[0].score_weight = 2.5;
    bad[7].st[0].guided_student = true;
    bad[8].st[1].base_teacher = false;
    bad[8].st[1].guidance_lo = bad[8].st[1].guidance_hi = 2;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        lk_distil_plan p = plan_of(bad[i].n, bad[i].st, 1e-3, 0);
        CHECK_FAILS(lk_distil_check(&p), bad[i].part);
    }
    lk_distil_stage good = mse(8, 4, 1);
    lk_distil_plan p = plan_of(1, &good, 1e-3, 0);
    CHECK_OK(lk_distil_check(&p));
    p.rank = 0;
    CHECK_FAILS(lk_distil_check(&p), "no targets to train");
}
