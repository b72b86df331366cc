/* The identity-loss experiment's words and its program: arms parse or are refused with what would be valid, before anything is written;
 * tiny runs have the same digests with another instruction set and after a kill. */
#define PROGRAM "id_loss_weight_sweep"
#include "experiments/common/identity_trial.h"
#include "tests/experiments/program.h"

TEST(arms) {
    lk_id_arm a;
    CHECK_OK(lk_id_arm_parse("none", &a)); CHECK(a.none);
    CHECK_OK(lk_id_arm_parse("acc0.25", &a)); CHECK(!a.none && a.form == LK_ID_ACCURATE && a.weight == 0.25 && !a.aligned && a.through == 1);
    CHECK_OK(lk_id_arm_parse("acc1+alk3", &a)); CHECK(a.aligned && a.through == 3);
    CHECK_OK(lk_id_arm_parse("naive2", &a)); CHECK(a.form == LK_ID_NAIVE && a.weight == 2);
    CHECK_OK(lk_id_arm_parse("none+mask1+tv0.5", &a)); CHECK(a.none && a.term[LK_TERM_MASKED] == 1 && a.term[LK_TERM_VARIATION] == 0.5 && !lk_id_arm_plain(&a));
    CHECK_OK(lk_id_arm_parse("dora:acc1+al+prior2k2", &a)); CHECK(a.kind == LK_KIND_DORA && a.aligned && a.through == 2 && a.term[LK_TERM_PRIOR] == 2 && a.weight == 1);
    CHECK_OK(lk_id_arm_parse("full:none", &a)); CHECK(a.kind == LK_KIND_FULL && lk_id_arm_plain(&a));
    CHECK_OK(lk_id_arm_parse("id:none", &a)); CHECK(a.kind == LK_KIND_ID);
    static const char *const bad[] = {"", "acc", "acc0", "acc-1", "accnan", "naive1+al", "naive1k2", "acc1k", "acc1x", "noone", "none+al", "none+mask", "none+mask1+mask2", "none+nothing1",
                                      "lokr:none", ":none", "dora:", "id:acc1", "id:none+mask1", "nonek2"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) CHECK_FAILS(lk_id_arm_parse(bad[i], &a), "expected none, or acc or naive");
    CHECK_FAILS(lk_id_arm_parse("bogus", &a), "acc1+al");
}
TEST(tiny_has_the_same_digests) {
    static const char *const args[] = {"run", "profile=tiny", "set=id=acc1+alk2 control=none", NULL};
    char dir[300], out[320], a[65], b[65];
    int n, m;
    setenv("LK_CHECKPOINT_STEPS", "1", 1);
    finished("whole", NULL, args, &n, a);
    snprintf(dir, sizeof dir, "%s/killed", lk_test_dir());
    snprintf(out, sizeof out, "%s.out", dir);
    run(dir, NULL, args, 1.0, out);
    finished("killed", __builtin_cpu_supports("avx2") ? "avx2" : NULL, args, &m, b);
    CHECK_MSG(n == 1 && m == 1 && !strcmp(a, b), "%d and %d runs, %.16s... and %.16s...", n, m, a, b);
}
TEST(what_does_not_go_together_is_refused_before_anything_is_written) {
    static const struct { const char *arg, *part; } bad[] = {{"set=id=acc1k7", "1 to 4"}, {"set=id=bogus", "acc1+al"}, {"set=first=9 id=acc1", "at most all"}, {"set=id=naive1+al", "accurate only"}, {"set=id=none+lpips1", "vgg=FILE"},
                                                              {"set=id=none+clip1", "clip=DIRECTORY"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) refused((const char *const[]){"run", "profile=tiny", bad[i].arg, NULL}, bad[i].part);
}
