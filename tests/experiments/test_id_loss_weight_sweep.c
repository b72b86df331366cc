/* The identity-loss experiment's words and its program: arms parse or are refused with what would be valid, before anything is written;
 * tiny runs have the same digests with another instruction set and after a kill. */
#include "experiments/common/identity_trial.h"
#include "io/io.h"
#include "tests/lib/lk_test.h"
#include <signal.h>
#include <string.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

TEST(arms) {
    lk_id_arm a;
    CHECK_OK(lk_id_arm_parse("none", &a)); CHECK(a.none);
    CHECK_OK(lk_id_arm_parse("acc0.25", &a)); CHECK(!a.none && a.form == LK_ID_ACCURATE && a.weight == 0.25 && !a.aligned && a.through == 1);
    CHECK_OK(lk_id_arm_parse("acc1+alk3", &a)); CHECK(a.aligned && a.through == 3);
    CHECK_OK(lk_id_arm_parse("naive2", &a)); CHECK(a.form == LK_ID_NAIVE && a.weight == 2);
    static const char *const bad[] = {"", "acc", "acc0", "acc-1", "accnan", "naive1+al", "naive1k2", "acc1k", "acc1x", "noone"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        lk_err e = lk_id_arm_parse(bad[i], &a);
        bool refused = e || a.through < 1;                   /* acc1k: 0 steps, which lk_id_check refuses */
        CHECK_MSG(refused, "'%s' was taken", bad[i]);
        lk_err_free(e);
    }
    CHECK_FAILS(lk_id_arm_parse("bogus", &a), "acc1+al");
}
static int run(const char *results, const char *isa, const char *const *args, double kill_after, const char *out) {
    pid_t child = fork();
    if (child == 0) {
        const char *build = getenv("BUILD"), *argv[8] = {NULL};
        char path[512];
        snprintf(path, sizeof path, "%s/bin/exp-id_loss_weight_sweep", build ? build : "build");
        argv[0] = path;
        for (int i = 0; args[i]; i++) argv[i + 1] = args[i];
        setenv("LK_RESULTS", results, 1);
        setenv("LK_CHECKPOINT_STEPS", "1", 1);
        if (isa) setenv("LK_ISA", isa, 1);
        if (!freopen(out, "w", stdout) || dup2(1, 2) < 0) _exit(99);
        execv(path, (char *const *)argv);
        _exit(98);
    }
    if (kill_after > 0) { usleep((useconds_t)(kill_after * 1e6)); kill(child, SIGKILL); }
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}
static void digests(const char *results, char hex[65], int *n) {
    char cmd[700], line[1024];
    snprintf(cmd, sizeof cmd, "find %s/runs -name run.h5 | sort", results);
    FILE *p = popen(cmd, "r");
    lk_sha256 sum;
    lk_sha256_init(&sum);
    *n = 0;
    while (p && fgets(line, sizeof line, p)) {
        line[strcspn(line, "\n")] = 0;
        lk_run *r = NULL;
        CHECK_OK(lk_run_load(line, &r));
        const char *d = r ? lk_run_get_attr(r, "result_digest") : NULL;
        if (CHECK_MSG(d && strlen(d) == 64, "%s has no digest", line)) { lk_sha256_add(&sum, d, 64); ++*n; }
        lk_run_free(r);
    }
    if (p) pclose(p);
    lk_sha256_hex(&sum, hex);
}
TEST(tiny_has_the_same_digests) {
    static const char *const args[] = {"run", "profile=tiny", "set=id=acc1+alk2 control=none", NULL};
    char dir[2][300], out[320], hex[2][65];
    int n[2];
    snprintf(out, sizeof out, "%s/out", lk_test_dir());
    for (int i = 0; i < 2; i++) {
        snprintf(dir[i], sizeof dir[i], "%s/%d", lk_test_dir(), i);
        if (i) run(dir[i], NULL, args, 1.0, out);
        CHECK(run(dir[i], i && __builtin_cpu_supports("avx2") ? "avx2" : NULL, args, 0, out) == 0);
        digests(dir[i], hex[i], &n[i]);
    }
    CHECK_MSG(n[0] == 1 && n[1] == 1 && !strcmp(hex[0], hex[1]), "%d and %d runs, %.16s... and %.16s...", n[0], n[1], hex[0], hex[1]);
}
TEST(what_does_not_go_together_is_refused_before_anything_is_written) {
    static const struct { const char *arg, *part; } bad[] = {{"set=id=acc1k7", "1 to 4"}, {"set=id=bogus", "acc1+al"}, {"set=first=9 id=acc1", "at most all"}, {"set=id=naive1+al", "accurate only"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char dir[300], out[320], *text;
        size_t size;
        struct stat st;
        snprintf(dir, sizeof dir, "%s/bad%zu", lk_test_dir(), i);
        snprintf(out, sizeof out, "%s.out", dir);
        int status = run(dir, NULL, (const char *const[]){"run", "profile=tiny", bad[i].arg, NULL}, 0, out);
        CHECK_OK(lk_read_file(out, &text, &size));
        CHECK_MSG(status == 2 && strstr(text, bad[i].part), "%s: status %d, said: %s", bad[i].arg, status, text);
        free(text);
        CHECK_MSG(stat(dir, &st) != 0, "%s: wrote %s", bad[i].arg, dir);
    }
}
