/* program: an experiment's program as a user runs it, for the tests of one. Each test file names its own with PROGRAM before including this. */
#ifndef LK_TESTS_PROGRAM_H
#define LK_TESTS_PROGRAM_H
#include "io/io.h"
#include "tests/lib/lk_test.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Runs it with results below `results`; kill_after > 0: SIGKILL after so many seconds. Exit status, or -signal. */
static int run(const char *results, const char *isa, const char *const *args, double kill_after, const char *out) {
    pid_t child = fork();
    if (child == 0) {
        const char *build = getenv("BUILD"), *argv[12] = {NULL};
        char path[512];
        snprintf(path, sizeof path, "%s/bin/exp-" PROGRAM, build ? build : "build");
        argv[0] = path;
        for (int i = 0; args[i]; i++) argv[i + 1] = args[i];
        setenv("LK_RESULTS", results, 1);
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
/* Every run's digest under a results directory, sorted by run id, as one digest; *n counts them. */
static void digest_of(const char *results, int *n, char hex[65]) {
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
        if (CHECK_MSG(d && strlen(d) == 64, "%s: result_digest is %s", line, d ? d : "missing")) { lk_sha256_add(&sum, d, 64); ++*n; }
        lk_run_free(r);
    }
    if (p) pclose(p);
    lk_sha256_hex(&sum, hex);
}
/* In a fresh directory of that name (or one that a kill left): it must succeed. */
static void finished(const char *name, const char *isa, const char *const *args, int *n, char hex[65]) {
    char dir[300], out[320];
    snprintf(dir, sizeof dir, "%s/%s", lk_test_dir(), name);
    snprintf(out, sizeof out, "%s.out", dir);
    int status = run(dir, isa, args, 0, out);
    CHECK_MSG(status == 0, "%s: status %d, see its output below", name, status);
    if (status) { char cmd[400]; snprintf(cmd, sizeof cmd, "tail -5 %s", out); CHECK(system(cmd) == 0); }
    digest_of(dir, n, hex);
}
/* Status 2, a message with `part`, and nothing written. */
static void refused(const char *const *args, const char *part) {
    static int count;
    char dir[300], out[320], *text;
    size_t size;
    struct stat st;
    snprintf(dir, sizeof dir, "%s/bad%d", lk_test_dir(), count++);
    snprintf(out, sizeof out, "%s.out", dir);
    int status = run(dir, NULL, args, 0, out);
    CHECK_OK(lk_read_file(out, &text, &size));
    CHECK_MSG(status == 2 && strstr(text, part), "%s %s: status %d, said: %s", args[1], args[2] ? args[2] : "", status, text);
    free(text);
    CHECK_MSG(stat(dir, &st) != 0, "%s: wrote %s", args[1], dir);
}
#endif
