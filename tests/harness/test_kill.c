/* SIGKILL at random moments, of the parent or of a run's process: every run file opens at every moment, no finished run is
 * lost or done twice, and the digests at the end are those of an undisturbed sweep. 30 kills here; LK_KILLS=300 is the
 * long form (make soak). A histogram of the phase each kill met is printed. */
#include "tests/harness/harness_tools.h"
#include <time.h>

enum { PHASE_START, PHASE_BEFORE_CHECKPOINT, PHASE_BETWEEN_CHECKPOINTS, PHASE_ALL_DONE, PHASES };
static const char *const phase_names[PHASES] = {"no run under way", "run before its first checkpoint", "run between two checkpoints", "after the last run"};
static const char work[] = "set=subject=s01..s02 steps=200 control=copy,none";

/* Running, and with a checkpoint, since this start: a killed attempt leaves the same files behind. */
typedef struct { int running, checkpointed; struct timespec since; } under_way;
static bool written_since(const char *dir, const char *file, struct timespec since) {
    struct stat st;
    char *path = lk_xfmt("%s/%s", dir, file);
    bool is = !stat(path, &st) && (st.st_mtim.tv_sec > since.tv_sec || (st.st_mtim.tv_sec == since.tv_sec && st.st_mtim.tv_nsec >= since.tv_nsec));
    free(path);
    return is;
}
static void see(const char *dir, void *arg) {
    under_way *u = arg;
    if (rundir_state(dir) != RUN_RUNNING || !written_since(dir, "log.txt", u->since)) return;
    u->running++;
    u->checkpointed += written_since(dir, "ckpt.safetensors", u->since);
}
/* Waits until the sweep has come to a phase (how long that takes is the machine's business), then a random moment more. */
static under_way wait_for_phase(const place *p, pid_t pid, struct timespec since, int phase, useconds_t more) {
    under_way u = {.since = since};
    for (int i = 0; i < 1000; i++) {
        siginfo_t info = {0};
        u = (under_way){.since = since};
        each_run(p, see, &u);
        bool ended = !waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) && info.si_pid == pid;
        if (ended || phase == PHASE_START || (phase == PHASE_BEFORE_CHECKPOINT ? u.running : u.checkpointed)) break;
        usleep(3000);
    }
    usleep(more);
    u = (under_way){.since = since};
    each_run(p, see, &u);
    return u;
}
static pid_t child_of(pid_t parent) {
    char path[100]; long child = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", parent, parent);
    FILE *f = fopen(path, "r");
    if (f) { if (fscanf(f, "%ld", &child) != 1) child = 0; fclose(f); }
    return (pid_t)child;
}
/* True while every run finished so far is still there with the digest it had. */
static bool kept(const char *before, const char *now) {
    char *copy = lk_xstrdup(before), *save = NULL;
    bool ok = true;
    for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) ok &= strstr(now, line) != NULL;
    free(copy);
    return ok;
}
TEST(after_any_kill_the_digests_are_the_same) {
    const char *asked = getenv("LK_KILLS");
    int kills = asked ? atoi(asked) : 30, of_children = 0, sweeps = 0, phases[PHASES] = {0};
    lk_arena *a = lk_arena_new();
    place calm = {.results = fresh_results(a)};
    CHECK(RUN_FIXTURE(a, &calm, NULL, "run", "profile=tiny", work) == 0);
    char *want = runs_of(&calm).digests.s;
    const char *args[] = {"run", "profile=tiny", work, "j=2", NULL}, *out = lk_fmt(a, "%s/killed", lk_test_dir());
    uint64_t key = lk_stream_key(asked ? (uint64_t)time(NULL) : 5, "kills");
    place p = {.results = NULL, .env = {"FIXTURE_STEP_US=2500", "LK_CHECKPOINT_STEPS=7"}};
    char *before = lk_xstrdup("");
    for (int k = 0; k < kills; k++) {
        if (!p.results) { p.results = fresh_results(a); sweeps++; free(before); before = lk_xstrdup(""); }
        struct timespec since;
        clock_gettime(CLOCK_REALTIME_COARSE, &since);          /* the clock of file times */
        pid_t pid = start_fixture(&p, out, args);
        under_way u = wait_for_phase(&p, pid, since, k % 4 == 0 ? PHASE_START : k % 4 == 1 ? PHASE_BEFORE_CHECKPOINT : PHASE_BETWEEN_CHECKPOINTS,
                                     (useconds_t)lk_philox_below(key, (uint64_t)k, 0, 0, 60000));
        pid_t child = k % 3 == 0 ? child_of(pid) : 0;
        bool ended = waitpid(pid, NULL, WNOHANG) == pid;
        if (!ended) kill(child ? child : pid, SIGKILL);
        of_children += !ended && child;
        if (!ended && child) { usleep(20000); kill(pid, SIGKILL); }
        if (!ended) waitpid(pid, NULL, 0);
        phases[ended ? PHASE_ALL_DONE : u.checkpointed ? PHASE_BETWEEN_CHECKPOINTS : u.running ? PHASE_BEFORE_CHECKPOINT : PHASE_START]++;
        picture_of_runs v = runs_of(&p);
        CHECK_MSG(v.unreadable == 0 && v.none == 0, "kill %d: %d run files unreadable, %d directories without a state", k, v.unreadable, v.none);
        CHECK_MSG(kept(before, v.digests.s), "kill %d: a finished run was lost or changed", k);
        free(before);
        before = v.digests.s;
        if (v.states[RUN_DONE] < 6 && k + 1 < kills) continue;
        p.env[0] = NULL;
        CHECK(RUN_FIXTURE(a, &p, NULL, "run", "profile=tiny", work, "j=2") == 0);
        p.env[0] = "FIXTURE_STEP_US=2500";
        v = runs_of(&p);
        CHECK_MSG(!strcmp(v.digests.s, want), "kill %d: digests differ:\n%s-- wanted --\n%s", k, v.digests.s, want);
        free(v.digests.s);
        p.results = NULL;
    }
    printf("  %d kills in %d sweeps, %d of a run's own process\n", kills, sweeps, of_children);
    for (int i = 0; i < PHASES; i++) printf("  %4d  %s\n", phases[i], phase_names[i]);
    CHECK_MSG(phases[PHASE_BETWEEN_CHECKPOINTS] * 5 >= kills, "too few kills met a run between checkpoints");
    lk_arena_free(a);
}
