/* SIGKILL at random moments, of the parent or of a run's process. At every moment a plain HDF5 reader, a process of its own,
 * opens every run file; no finished run is lost or done twice; the digests at the end are those of an undisturbed sweep.
 * 30 kills here; LK_KILLS=300 is the long form (make soak). A histogram of the phase each kill met is printed. */
#include "tests/harness/harness_tools.h"
#include <hdf5.h>
#include <sys/mman.h>
#include <time.h>

enum { PHASE_START, PHASE_BEFORE_CHECKPOINT, PHASE_BETWEEN_CHECKPOINTS, PHASE_ALL_DONE, PHASES };
static const char *const phase_names[PHASES] = {"no run under way", "run before its first checkpoint", "run between two checkpoints", "after the last run"};
/* A write cut short leaves its .tmp: what the kill met in the middle, beside the phase. */
enum { CUT_RUN_FILE, CUT_CHECKPOINT, CUT_ADAPTER, CUTS };
static const char *const cut_files[CUTS] = {"run.h5.tmp", "ckpt.safetensors.tmp", "adapter.safetensors.tmp"};
static const char work[] = "set=subject=s01..s02 steps=200 control=copy,none";

/* ---- the plain reader ------------------------------------------------------------------------------------------------------ */
typedef struct { volatile int64_t looks, opened, failed; char results[600], why[600]; } watch;
static void open_plainly(const char *dir, void *arg) {
    watch *w = arg;
    char *path = lk_xfmt("%s/run.h5", dir), *status = NULL;
    if (!access(path, F_OK)) {
        hid_t f = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT), a = f < 0 ? -1 : H5Aopen(f, "status", H5P_DEFAULT), t = a < 0 ? -1 : H5Aget_type(a);
        if (t >= 0 && H5Aread(a, t, &status) >= 0 && status && (!strcmp(status, "running") || !strcmp(status, "done"))) w->opened++;
        else if (!w->failed++) snprintf(w->why, sizeof w->why, "%s: status %s", path, status ? status : "none");
        if (status) H5free_memory(status);
        if (t >= 0) H5Tclose(t);
        if (a >= 0) H5Aclose(a);
        if (f >= 0) H5Fclose(f);
    }
    free(path);
}
/* Until it is killed: all run files, again and again. */
static pid_t start_reader(watch *w) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid) return pid;
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    for (;; w->looks++, usleep(1000)) { place p = {.results = (const char *)w->results}; if (*w->results) each_run(&p, open_plainly, w); }
}

/* ---- phases ------------------------------------------------------------------------------------------------------------------ */
/* Running, and with a checkpoint, since this start: a killed attempt leaves the same files behind. */
typedef struct { int running, checkpointed, cut[CUTS]; struct timespec since; } under_way;
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
    for (int i = 0; i < CUTS; i++) u->cut[i] += written_since(dir, cut_files[i], u->since);
}
static under_way look_now(const place *p, struct timespec since) {
    under_way u = {.since = since};
    each_run(p, see, &u);
    return u;
}
/* Waits until the sweep has come to a phase (how long that takes is the machine's business), then a random moment more. */
static under_way wait_for_phase(const place *p, pid_t pid, struct timespec since, int phase, useconds_t more) {
    for (int i = 0; i < 1000; i++) {
        siginfo_t info = {0};
        under_way u = look_now(p, since);
        bool ended = !waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) && info.si_pid == pid;
        if (ended || phase == PHASE_START || (phase == PHASE_BEFORE_CHECKPOINT ? u.running : u.checkpointed)) break;
        usleep(3000);
    }
    usleep(more);
    return look_now(p, since);
}
static pid_t child_of(pid_t parent) {
    char path[100]; long child = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", parent, parent);
    FILE *f = fopen(path, "r");
    if (f) { if (fscanf(f, "%ld", &child) != 1) child = 0; fclose(f); }
    return (pid_t)child;
}

/* ---- finished runs stay as they were -------------------------------------------------------------------------------------------- */
/* A finished run's file, by inode and time of writing: one that was done again has others. */
static void note_finished(const char *dir, void *arg) {
    struct stat st;
    char *path = lk_xfmt("%s/run.h5", dir);
    if (rundir_state(dir) == RUN_DONE && !stat(path, &st))
        lk_buf_fmt(arg, "%s %llu %lld.%09ld\n", path, (unsigned long long)st.st_ino, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    free(path);
}
static char *finished(const place *p) {
    lk_buf b = {0};
    lk_buf_add(&b, "", 0);
    each_run(p, note_finished, &b);
    return b.s;
}
/* True while every line of before is in now. */
static bool kept(const char *before, const char *now) {
    char *copy = lk_xstrdup(before), *save = NULL;
    bool ok = true;
    for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) ok &= strstr(now, line) != NULL;
    free(copy);
    return ok;
}
/* log.txt is only ever added to: a run that came to its end twice says so twice. */
static void count_ends(const char *dir, void *arg) {
    char *path = lk_xfmt("%s/log.txt", dir), *text; size_t n;
    lk_err e = lk_read_file(path, &text, &n);
    int ends = 0;
    for (char *s = e ? NULL : text; s && (s = strstr(s, "\ndone\n")); s++) ends++;
    if (ends > *(int *)arg) *(int *)arg = ends;
    if (!e) free(text);
    lk_err_free(e);
    free(path);
}

TEST(after_any_kill_the_digests_are_the_same) {
    const char *asked = getenv("LK_KILLS");
    int kills = asked ? atoi(asked) : 30, of_children = 0, sweeps = 0, phases[PHASES] = {0}, cut[CUTS] = {0};
    lk_arena *a = lk_arena_new();
    place calm = {.results = fresh_results(a)};
    CHECK(RUN_FIXTURE(a, &calm, NULL, "run", "profile=tiny", work) == 0);
    char *want = runs_of(&calm).digests.s;
    const char *args[] = {"run", "profile=tiny", work, "j=2", NULL}, *out = lk_fmt(a, "%s/killed", lk_test_dir());
    uint64_t key = lk_stream_key(asked ? (uint64_t)time(NULL) : 5, "kills");
    place p = {.results = NULL, .env = {"FIXTURE_STEP_US=2500", "LK_CHECKPOINT_STEPS=7"}};
    char *before = lk_xstrdup("");
    watch *reader = mmap(NULL, sizeof *reader, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!CHECK(reader != MAP_FAILED)) return;
    *reader = (watch){0};
    pid_t reading = start_reader(reader);
    for (int k = 0; k < kills; k++) {
        if (!p.results) {
            p.results = fresh_results(a); sweeps++;
            snprintf(reader->results, sizeof reader->results, "%s", p.results);
            free(before); before = lk_xstrdup("");
        }
        struct timespec since;
        clock_gettime(CLOCK_REALTIME_COARSE, &since);          /* the clock of file times */
        pid_t pid = start_fixture(&p, out, args);
        uint32_t spread = k % 4 == 3 ? 600000 : 60000;         /* us: one in four anywhere in a run, to its end and past it */
        under_way u = wait_for_phase(&p, pid, since, k % 4 == 0 ? PHASE_START : k % 4 == 1 ? PHASE_BEFORE_CHECKPOINT : PHASE_BETWEEN_CHECKPOINTS,
                                     (useconds_t)lk_philox_below(key, (uint64_t)k, 0, 0, spread));
        pid_t child = k % 3 == 0 ? child_of(pid) : 0;
        bool ended = waitpid(pid, NULL, WNOHANG) == pid;
        if (!ended) kill(child ? child : pid, SIGKILL);
        of_children += !ended && child;
        under_way after = look_now(&p, since);
        for (int i = 0; i < CUTS; i++) cut[i] += !ended && !child && after.cut[i];
        if (!ended && child) { usleep(20000); kill(pid, SIGKILL); }
        if (!ended) waitpid(pid, NULL, 0);
        phases[ended ? PHASE_ALL_DONE : u.checkpointed ? PHASE_BETWEEN_CHECKPOINTS : u.running ? PHASE_BEFORE_CHECKPOINT : PHASE_START]++;
        picture_of_runs v = runs_of(&p);
        char *now = finished(&p);
        CHECK_MSG(v.unreadable == 0 && v.none == 0, "kill %d: %d run files unreadable, %d directories without a state", k, v.unreadable, v.none);
        CHECK_MSG(kept(before, now), "kill %d: a finished run was lost or done again:\n%s-- before --\n%s", k, now, before);
        free(before); free(v.digests.s);
        before = now;
        if (v.states[RUN_DONE] < 6 && k + 1 < kills) continue;
        p.env[0] = NULL;
        CHECK(RUN_FIXTURE(a, &p, NULL, "run", "profile=tiny", work, "j=2") == 0);
        p.env[0] = "FIXTURE_STEP_US=2500";
        int ends = 0;
        v = runs_of(&p); now = finished(&p);
        each_run(&p, count_ends, &ends);
        CHECK_MSG(!strcmp(v.digests.s, want), "kill %d: digests differ:\n%s-- wanted --\n%s", k, v.digests.s, want);
        CHECK_MSG(kept(before, now) && ends == 1, "kill %d: a finished run was done again (%d ends in one log)", k, ends);
        free(v.digests.s); free(now);
        p.results = NULL;
    }
    kill(reading, SIGKILL);
    waitpid(reading, NULL, 0);
    CHECK_MSG(reader->failed == 0 && reader->opened > 0, "%lld of %lld openings failed, first %s", (long long)reader->failed, (long long)(reader->opened + reader->failed), reader->why);
    printf("  %d kills in %d sweeps, %d of a run's own process\n", kills, sweeps, of_children);
    for (int i = 0; i < PHASES; i++) printf("  %4d  %s\n", phases[i], phase_names[i]);
    for (int i = 0; i < CUTS; i++) printf("  %4d  of the parent's left a half-written %s\n", cut[i], cut_files[i]);
    printf("  %lld looks by a plain reader beside it, %lld run files opened, %lld could not be\n", (long long)reader->looks, (long long)reader->opened, (long long)reader->failed);
    CHECK_MSG(phases[PHASE_BETWEEN_CHECKPOINTS] * 3 >= kills, "too few kills met a run between checkpoints");
    munmap(reader, sizeof *reader);
    free(before); free(want);
    lk_arena_free(a);
}
