/* The experiment's profile tiny, as a user would run it: the same digests with every instruction set, with one and two workers, and after
 * a kill; a changed seed gives others; bad input is refused with status 2 before anything is written. */
#define PROGRAM "lora_rank_sweep"
#include "tests/experiments/program.h"

/* The forced set ran every contraction of every run, the others none. */
static void did_the_work(const char *results, const char *isa) {
    static const char *const all[] = {"scalar", "avx2", "avx512"};
    char cmd[700], line[1024], key[64];
    snprintf(cmd, sizeof cmd, "find %s/runs -name run.h5", results);
    FILE *p = popen(cmd, "r");
    while (p && fgets(line, sizeof line, p)) {
        line[strcspn(line, "\n")] = 0;
        lk_run *r = NULL;
        CHECK_OK(lk_run_load(line, &r));
        for (int i = 0; i < 3 && r; i++) {
            snprintf(key, sizeof key, "contractions_%s", all[i]);
            const char *count = lk_run_get_provenance(r, key);
            bool forced = !strcmp(all[i], isa);
            CHECK_MSG(forced ? count && atoll(count) > 100 : !count || atoll(count) == 0, "%s: LK_ISA=%s but %s = %s", line, isa, key, count ? count : "absent");
        }
        lk_run_free(r);
    }
    if (p) pclose(p);
}
static const char *tiny[] = {"run", "profile=tiny", NULL};
static char first[65];
static int first_n;
static void same_digest(const char *name, const char *isa, const char *const *args) {
    char dir[300], hex[65];
    int n;
    finished(name, isa, args, &n, hex);
    snprintf(dir, sizeof dir, "%s/%s", lk_test_dir(), name);
    if (isa) did_the_work(dir, isa);
    if (!first[0]) { memcpy(first, hex, sizeof first); first_n = n; CHECK(n == 3); return; }
    CHECK_MSG(n == first_n && !strcmp(hex, first), "%s: %d runs %.16s..., first %d runs %.16s...", name, n, hex, first_n, first);
}
TEST(one_worker) { same_digest("one", NULL, tiny); }
TEST(two_workers) { same_digest("two", NULL, (const char *const[]){"run", "profile=tiny", "j=2", NULL}); }
/* A batch of 16 wants 158 MiB for its training step, 60 at the least, and the run's recognisers and sampler hold 73: within 150 it recomputes. */
TEST(within_a_limit) {
    char hex[2][65];
    int n[2];
    finished("batch", NULL, (const char *const[]){"run", "profile=tiny", "set=batch=16 rank=4 control=none", NULL}, &n[0], hex[0]);
    finished("mem", NULL, (const char *const[]){"run", "profile=tiny", "set=batch=16 rank=4 control=none", "mem=150M", NULL}, &n[1], hex[1]);
    CHECK_MSG(n[0] == 1 && n[1] == 1 && !strcmp(hex[0], hex[1]), "%d runs %.16s..., within mem= %d runs %.16s...", n[0], hex[0], n[1], hex[1]);
}
TEST(the_plan_says_what_fits_a_limit) {
    static const struct { const char *arg; int status; const char *part; } asked[] = {{"mem=42M", 0, "of it recomputed"}, {"mem=2G", 0, "a memory limit"}, {"mem=20M", 4, "largest values"}, {"mem=2X", 2, "2G, 800M"}};
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        char dir[300], out[320], *text;
        size_t size;
        snprintf(dir, sizeof dir, "%s/plan%zu", lk_test_dir(), i);
        snprintf(out, sizeof out, "%s.out", dir);
        int status = run(dir, NULL, (const char *const[]){"plan", "profile=tiny", asked[i].arg, NULL}, 0, out);
        CHECK_OK(lk_read_file(out, &text, &size));
        CHECK_MSG(status == asked[i].status && strstr(text, asked[i].part), "%s: status %d, said: %s", asked[i].arg, status, text);
        free(text);
    }
}
TEST(avx2) {
    if (!__builtin_cpu_supports("avx2")) SKIP("this machine has no AVX2");
    same_digest("avx2", "avx2", tiny);
}
TEST(avx512) {
    if (!__builtin_cpu_supports("avx512f")) SKIP("this machine has no AVX-512");
    same_digest("avx512", "avx512", tiny);
}
TEST(scalar) { same_digest("scalar", "scalar", tiny); }
TEST(after_kills) {
    char dir[300], out[320];
    snprintf(dir, sizeof dir, "%s/killed", lk_test_dir());
    snprintf(out, sizeof out, "%s.out", dir);
    for (int i = 0; i < 4; i++) run(dir, NULL, tiny, 0.4 + 0.5 * i, out);
    same_digest("killed", NULL, tiny);
}
TEST(another_seed_is_another_result) {
    char dir[300], out[320], hex[65];
    int n;
    snprintf(dir, sizeof dir, "%s/seed", lk_test_dir());
    snprintf(out, sizeof out, "%s.out", dir);
    CHECK(run(dir, NULL, (const char *const[]){"run", "profile=tiny", "set=seed=1", NULL}, 0, out) == 0);
    digest_of(dir, &n, hex);
    CHECK(n == first_n && strcmp(hex, first));
}
TEST(bad_input_is_refused_before_anything_is_written) {
    static const struct { const char *arg, *part; } bad[] = {{"set=rnak=2", "rank"}, {"profile=tinny", "tiny"}, {"set=rank=two", "rank"}, {"set=steps=0", "steps"}, {"prfile=tiny", "profile"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) refused((const char *const[]){"run", bad[i].arg, NULL}, bad[i].part);
}
