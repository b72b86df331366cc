/* Starting the synthetic experiment (fixture/) as a program and looking at what it left. */
#ifndef HARNESS_TOOLS_H
#define HARNESS_TOOLS_H
#include "harness/internal.h"
#include "tests/lib/lk_test.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct { const char *results; const char *env[16]; } place;      /* env: NAME=VALUE, ..., NULL */

/* A fresh results directory under the test's own. */
static inline const char *fresh_results(lk_arena *a) {
    static int n;
    return lk_fmt(a, "%s/r%d", lk_test_dir(), n++);
}
static inline pid_t start_fixture(const place *p, const char *out, const char *const *args) {
    const char *argv[16] = {FIXTURE};
    for (int i = 0; i < 14 && args[i]; i++) argv[i + 1] = args[i];
    fflush(NULL);
    pid_t pid = fork();
    if (pid) return pid;
    setenv("LK_RESULTS", p->results, 1);
    setenv("LK_PUBLISHED", p->results, 1);
    setenv("FIXTURE_NO_FIGURE", "1", 1);
    setenv("LK_THREADS", "1", 1);
    for (int i = 0; p->env[i]; i++) putenv((char *)p->env[i]);
    int fd = open(out, O_CREAT | O_TRUNC | O_WRONLY, 0666);
    dup2(fd, 1); dup2(fd, 2);
    execv(FIXTURE, (char *const *)argv);
    _exit(127);
}
static inline int wait_for(pid_t pid) {
    int status;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
/* Runs to its end; *said (arena) is what it printed. */
static inline int fixture(lk_arena *a, const place *p, const char **said, const char *const *args) {
    const char *out = lk_fmt(a, "%s/said", lk_test_dir());
    int status = wait_for(start_fixture(p, out, args));
    char *text = NULL; size_t n;
    lk_err e = lk_read_file(out, &text, &n);
    if (said) *said = lk_strdup(a, e ? "" : text);
    lk_err_free(e);
    free(text);
    return status;
}
#define RUN_FIXTURE(a, p, said, ...) fixture(a, p, said, (const char *const[]){__VA_ARGS__, NULL})

typedef void (*run_visitor)(const char *dir, void *arg);
static inline int by_name_of(const void *x, const void *y) { return strcmp(*(char *const *)x, *(char *const *)y); }
static inline void each_run(const place *p, run_visitor fn, void *arg) {
    char *dirs[512]; int n = 0;
    char *top = lk_xfmt("%s/runs", p->results);
    DIR *d = opendir(top);
    for (struct dirent *f; d && (f = readdir(d));) {
        if (*f->d_name == '.') continue;
        char *below = lk_xfmt("%s/%s", top, f->d_name);
        DIR *e = opendir(below);
        for (struct dirent *r; e && (r = readdir(e));) if (strlen(r->d_name) == 64 && n < 512) dirs[n++] = lk_xfmt("%s/%s", below, r->d_name);
        if (e) closedir(e);
        free(below);
    }
    if (d) closedir(d);
    free(top);
    qsort(dirs, (size_t)n, sizeof *dirs, by_name_of);
    for (int i = 0; i < n; i++) { fn(dirs[i], arg); free(dirs[i]); }
}
typedef struct { lk_buf digests; int states[RUN_STATES], none, unreadable; } picture_of_runs;
static inline void look(const char *dir, void *arg) {
    picture_of_runs *p = arg;
    run_state s = rundir_state(dir);
    char *path = lk_xfmt("%s/run.h5", dir);
    if (s == RUN_NONE) p->none++; else p->states[s]++;
    if (!access(path, F_OK)) {
        lk_run *r = NULL;
        lk_err e = lk_run_load(path, &r);
        if (e) p->unreadable++;
        else if (s == RUN_DONE) lk_buf_fmt(&p->digests, "%s %s\n", lk_run_get_attr(r, "run_id"), lk_run_get_attr(r, "result_digest"));
        lk_err_free(e);
        lk_run_free(r);
    }
    free(path);
}
/* run_id and result_digest of every finished run, sorted. */
static inline picture_of_runs runs_of(const place *p) {
    picture_of_runs v = {0};
    lk_buf_add(&v.digests, "", 0);
    each_run(p, look, &v);
    return v;
}
#endif
