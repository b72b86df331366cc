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
/* SHA-256 over every param under a prefix; rest: over the student's LoRA, with the prefix "unet" over the UNet itself. */
static void digest(const lk_distiller *d, const char *prefix, bool rest, char hex[65], int *n) {
    lk_mem mem = !strcmp(prefix, "unet") ? LK_MEM_WEIGHT : LK_MEM_ADAPTER;
    lk_exec *x = lk_distiller_exec(d);
    const lk_graph *g = lk_exec_graph(x);
    lk_sha256 sum;
    lk_sha256_init(&sum);
    *n = 0;
    for (int i = 0; i < lk_graph_count(g); i++) {
        const lk_node *node = lk_graph_node(g, (lk_val){i});
        if (node->op != LK_OP_param || (node->mem != LK_MEM_ADAPTER && node->mem != LK_MEM_WEIGHT)) continue;
        if (rest ? strchr(node->name, '/') || node->mem != mem : !lk_starts(node->name, prefix)) continue;
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
/* ---- weights of its own -------------------------------------------------------------------------------------------- */
static void values(const lk_distiller *d, const char *name, float *v, int64_t n) {
    lk_exec *x = lk_distiller_exec(d);
    lk_val at = lk_find(lk_exec_graph(x), name);
    CHECK_MSG(lk_ok(at), "no param %s", name);
    CHECK_OK(lk_exec_get(x, at, v, n));
}
/* A full stage begins at W + B A, in binary64 from the checkpoint and the LoRA as stage 1 left it; at a rate of nothing it stays there, and so does
 * its teacher. Tolerance: a product of rank 1 and a sum in binary32, values below 1. */
TEST(a_full_stage_begins_at_the_merged_student) {
    if (!ready()) return;
    static const char module[] = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q";
    enum { WIDTH = 128 };
    lk_distil_stage st[2] = {mse(8, 4, 2), mse(4, 2, 1)};
    st[1].base_teacher = false; st[1].full = true;
    lk_distil_plan p = plan_of(2, st, 1e-2, 0);
    p.full_lr = 1e-60;
    lk_distiller *d;
    static float w[WIDTH * WIDTH], merged[WIDTH * WIDTH], a[WIDTH], b[WIDTH];
    char name[200], unet[65], teacher[65];
    const lk_tensor *t;
    int n;
    CHECK_OK(lk_distiller_new(&studio.zoo, p, cohort.refs, 5, studio.pool, &d));
    steps(d, 0, 2);
    snprintf(name, sizeof name, "%s.weight", module);
    CHECK_OK(lk_st_get(studio.zoo.unet_weights, name, &t));
    if (!CHECK(t->numel == WIDTH * WIDTH)) return;
    CHECK_OK(lk_st_f32(t, w));
    const lk_val *params;
    int count = lk_adapter_params(lk_distiller_adapter(d), lk_exec_graph(lk_distiller_exec(d)), &params);
    for (int i = 0; i < count; i++) {
        const lk_node *node = lk_graph_node(lk_exec_graph(lk_distiller_exec(d)), params[i]);
        if (!strstr(node->name, module)) continue;
        CHECK_OK(lk_exec_get(lk_distiller_exec(d), params[i], strstr(node->name, "lora_A") ? a : b, WIDTH));
    }
    steps(d, 2, 3);
    CHECK(!lk_distiller_adapter(d));
    values(d, name, merged, WIDTH * WIDTH);
    double moved = 0;
    for (int i = 0; i < WIDTH; i++) for (int k = 0; k < WIDTH; k++) {
        double want = w[i * WIDTH + k] + (double)b[i] * a[k];
        CHECK_CLOSE(merged[i * WIDTH + k], want, 1e-6);
        moved = fmax(moved, fabs(want - w[i * WIDTH + k]));
    }
    CHECK_MSG(moved > 1e-4, "stage 1 moved the weight by %g: nothing to see", moved);
    digest(d, "unet", true, unet, &n);
    CHECK(n > 100);
    digest(d, "teacher/", false, teacher, &count);
    CHECK_MSG(n == count && !strcmp(unet, teacher), "the teacher (%d weights) is not the student that came before (%d)", count, n);
    lk_distiller_free(d);
}
TEST(critic_and_full_student_do_not_leak) {
    if (!ready()) return;
    lk_distil_stage st = mse(2, 1, 2);
    st.kind = LK_DISTIL_ADVERSARIAL; st.full = true;
    for (int side = 0; side < 2; side++) {
        lk_distil_plan p = plan_of(1, &st, 0, side ? 1e-3 : 0);
        p.full_lr = side ? 1e-60 : 1e-3;
        lk_distiller *d;
        char before[2][65], after[2][65];
        int n;
        CHECK_OK(lk_distiller_new(&studio.zoo, p, cohort.refs, 1, studio.pool, &d));
        steps(d, 0, 1);
        digest(d, "unet", true, before[0], &n); digest(d, "critic/", false, before[1], &n);
        steps(d, 1, 2);
        digest(d, "unet", true, after[0], &n); digest(d, "critic/", false, after[1], &n);
        CHECK_MSG(!strcmp(before[0], after[0]) == (side == 1), "side %d: the student %s", side, side ? "moved by the critic's loss" : "did not move");
        CHECK_MSG(!strcmp(before[1], after[1]) == (side == 0), "side %d: the critic %s", side, side ? "did not move" : "moved by the student's loss");
        lk_distiller_free(d);
    }
}
/* Rates of adversarial stages stand in for the common ones: the same bits as common rates of their values. */
TEST(an_adversarial_stage_takes_its_own_rates) {
    if (!ready()) return;
    lk_distil_stage st = mse(2, 1, 2);
    st.kind = LK_DISTIL_ADVERSARIAL;
    char student[2][65], critic[2][65];
    for (int own = 0; own < 2; own++) {
        lk_distil_plan p = plan_of(1, &st, own ? 0.25 : 1e-3, own ? 0.5 : 2e-3);
        if (own) { p.adversarial_lr = 1e-3; p.discriminator_lr = 2e-3; }
        lk_distiller *d;
        int n;
        CHECK_OK(lk_distiller_new(&studio.zoo, p, cohort.refs, 1, studio.pool, &d));
        steps(d, 0, 2);
        digest(d, "", true, student[own], &n); digest(d, "critic/", false, critic[own], &n);
        CHECK(n > 0);
        lk_distiller_free(d);
    }
    CHECK_MSG(!strcmp(student[0], student[1]), "the student's rate is not adversarial_lr");
    CHECK_MSG(!strcmp(critic[0], critic[1]), "the critic's rate is not discriminator_lr");
}
/* Full, then a LoRA on it, then x0: killed in the second and in the third stage. */
TEST(weights_of_its_own_resume_with_the_same_bits) {
    if (!ready()) return;
    lk_distil_stage st[3] = {mse(4, 2, 1), mse(2, 1, 2), mse(2, 1, 2)};
    st[0].full = true;
    st[1].base_teacher = st[2].base_teacher = false;
    st[2].keep_teacher = st[2].x0 = true;
    lk_distil_plan p = plan_of(3, st, 1e-3, 0);
    p.full_lr = 1e-4;
    char whole[2][65], again[2][65], path[2][400];
    int n;
    lk_distiller *d;
    CHECK_OK(lk_distiller_new(&studio.zoo, p, cohort.refs, 2, studio.pool, &d));
    for (int64_t s = 0; s < 5; s++) {
        steps(d, s, s + 1);
        if (s != 1 && s != 3) continue;
        snprintf(path[s / 2], sizeof path[0], "%s/own%d.safetensors", lk_test_dir(), (int)s);
        CHECK_OK(lk_distiller_save(d, s + 1, path[s / 2]));
    }
    digest(d, "", true, whole[0], &n); digest(d, "unet", true, whole[1], &n);
    lk_distiller_free(d);
    for (int k = 0; k < 2; k++) {
        int64_t step = 0;
        CHECK_OK(lk_distiller_new(&studio.zoo, p, cohort.refs, 2, studio.pool, &d));
        CHECK_OK(lk_distiller_load(d, path[k], &step));
        CHECK(step == 2 + 2 * k);
        steps(d, step, 5);
        digest(d, "", true, again[0], &n); digest(d, "unet", true, again[1], &n);
        CHECK_MSG(!strcmp(whole[0], again[0]) && !strcmp(whole[1], again[1]), "resumed at %lld: weights differ", (long long)step);
        lk_distiller_free(d);
    }
}
/* At pure noise -v misses x0 = alpha x - sigma v by alpha x and (1 - sigma) v: the mean square of the first step is about alpha^2 = .005 with values of
 * unit variance. With the sign left as it was it would be 4 v^2. */
TEST(x0_begins_where_v_left_off) {
    if (!ready()) return;
    lk_distil_stage st[2] = {mse(4, 1, 1), mse(1, 1, 1)};
    st[1].base_teacher = false; st[1].x0 = true;
    lk_distiller *d;
    double losses[2] = {NAN, NAN};
    lk_distil_plan p = plan_of(2, st, 1e-6, 0);
    CHECK_OK(lk_distiller_new(&studio.zoo, p, cohort.refs, 4, studio.pool, &d));
    for (int64_t s = 0; s < 2; s++) CHECK_OK(lk_distiller_step(d, s, losses));
    CHECK_MSG(losses[0] > 1e-3 && losses[0] < 0.02, "loss %g", losses[0]);
    lk_distiller_free(d);
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
        CHECK_FAILS(lk_distil_check(&p, LK_PREDICT_V), bad[i].part);
    }
    struct { lk_distil_stage st[2]; int n; lk_predict base; const char *part; } own[] = {
        {{mse(8, 4, 1)}, 1, LK_PREDICT_FLOW, "x0 as target with a flow model, whose velocity has no pole at the last timestep: leave x0 off"},
        {{mse(8, 4, 1)}, 1, LK_PREDICT_EPSILON, "from v alone"},
        {{mse(8, 4, 1)}, 1, LK_PREDICT_V, "for mse and adversarial stages"},
        {{mse(8, 4, 1)}, 1, LK_PREDICT_V, "without the stage by mse"},
        {{mse(8, 4, 1), mse(4, 2, 1)}, 2, LK_PREDICT_V, "x0 here too"},
        {{mse(8, 4, 1)}, 1, LK_PREDICT_V, "at a rate of 0; above 0"},
        {{mse(8, 4, 1), mse(4, 2, 1)}, 2, LK_PREDICT_V, "a LoRA stage before any such"},
        {{mse(8, 4, 1), mse(8, 2, 1)}, 2, LK_PREDICT_V, "whose teacher was no student: let the base teach"}};
    for (int i = 0; i < 5; i++) own[i].st[0].x0 = true;
    own[2].st[0].kind = LK_DISTIL_CONSISTENCY;
    own[3].st[0].kind = LK_DISTIL_ADVERSARIAL;
    own[5].st[0].full = own[6].st[0].full = true;
    own[6].st[1].kind = LK_DISTIL_MATCHING;
    own[7].st[1].base_teacher = false; own[7].st[1].keep_teacher = true;
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        lk_distil_plan p = plan_of(own[i].n, own[i].st, 1e-3, 0);
        if (i == 6) p.full_lr = 1e-4;
        CHECK_FAILS(lk_distil_check(&p, own[i].base), own[i].part);
    }
    lk_distil_stage good = mse(8, 4, 1);
    lk_distil_plan p = plan_of(1, &good, 1e-3, 0);
    CHECK_OK(lk_distil_check(&p, LK_PREDICT_V));
    p.rank = 0;
    CHECK_FAILS(lk_distil_check(&p, LK_PREDICT_V), "no targets to train");
}
