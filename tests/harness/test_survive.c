/* What a machine and its people do to a sweep: a disk that fills up, a directory that cannot be written, a clock set back, a host that
 * died, Ctrl-C twice, an input edited meanwhile, secrets in the environment. Oracle: the digests of an undisturbed sweep; for secrets,
 * the bytes of every file that was left. */
#include "tests/harness/harness_tools.h"
#include <sched.h>
#include <sys/mount.h>
#include <time.h>

static lk_arena *a;
__attribute__((constructor)) static void make_arena(void) { a = lk_arena_new(); }
static place new_place(void) { return (place){.results = fresh_results(a)}; }
static const char slow[] = "FIXTURE_STEP_US=30000";
static const char small[] = "set=subject=s01..s02 control=none";
static const char *undisturbed(void) {
    static char *digests;
    place p = new_place();
    if (!digests) { RUN_FIXTURE(a, &p, NULL, "run", "profile=tiny", small); digests = runs_of(&p).digests.s; }
    return digests;
}
static bool await(const place *p, run_state s, int n) {
    for (int i = 0; i < 1500; i++) {
        picture_of_runs v = runs_of(p);
        free(v.digests.s);
        if (v.states[s] >= n) return true;
        usleep(10000);
    }
    return false;
}

/* ---- disk full ---------------------------------------------------------------------------------------------------------- */
/* A tmpfs on dir that only this test and its children see; it goes with the test. */
static bool small_disk(const char *dir, const char *options) {
    return !unshare(CLONE_NEWNS) && !mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) && !mkdir(dir, 0755) && !mount("none", dir, "tmpfs", 0, options);
}
static void fill(const char *path) {
    char block[4096] = {1};
    int fd = open(path, O_CREAT | O_WRONLY, 0666);
    while (write(fd, block, sizeof block) > 0) {}
    close(fd);
}
TEST(a_full_disk_is_said_and_what_is_done_is_kept) {
    undisturbed();                                            /* made before the disk is small */
    place p = new_place();
    if (geteuid() || !small_disk(p.results, "size=2m")) SKIP("mounting a small tmpfs needs root and mount namespaces");
    const char *said = "", *filler = lk_fmt(a, "%s/filler", p.results), *out = lk_fmt(a, "%s/full", lk_test_dir()), *args[] = {"run", "profile=tiny", small, NULL};
    p.env[0] = slow; p.env[1] = "LK_CHECKPOINT_STEPS=1";
    pid_t pid = start_fixture(&p, out, args);
    CHECK(await(&p, RUN_DONE, 1) && await(&p, RUN_RUNNING, 1));
    fill(filler);
    CHECK(wait_for(pid) != 0);
    char *text; size_t n;
    CHECK_OK(lk_read_file(out, &text, &n));
    CHECK_MSG(strstr(text, "No space left"), "%s", text);
    free(text);
    picture_of_runs v = runs_of(&p);
    CHECK_MSG(v.states[RUN_DONE] >= 1 && v.unreadable == 0 && v.none == 0, "%d done, %d unreadable, %d without a state", v.states[RUN_DONE], v.unreadable, v.none);
    CHECK_MSG(RUN_FIXTURE(a, &p, &said, "run", "profile=tiny", small, "retry=1") == LK_EIO && strstr(said, "free some"), "%s", said);      /* refused before it starts */
    CHECK(!unlink(filler));
    p.env[0] = NULL;
    CHECK_MSG(RUN_FIXTURE(a, &p, &said, "run", "profile=tiny", small, "retry=1") == 0, "%s", said);
    v = runs_of(&p);
    CHECK(!strcmp(v.digests.s, undisturbed()));
    CHECK(!umount2(p.results, MNT_DETACH));
}

/* Root may write through any permission, not through a read-only mount. */
TEST(a_directory_that_cannot_be_written_is_said) {
    undisturbed();
    place p = new_place(), new = new_place();
    const char *said = "";
    if (geteuid() || !small_disk(p.results, "size=4m")) SKIP("a read-only mount needs root and mount namespaces");
    CHECK(RUN_FIXTURE(a, &p, NULL, "run", "profile=tiny", "set=subject=s01 control=none") == 0);
    CHECK(!mount("none", p.results, NULL, MS_REMOUNT | MS_RDONLY, NULL));
    CHECK_MSG(RUN_FIXTURE(a, &p, &said, "run", "profile=tiny", small) == LK_EIO && strstr(said, p.results) && strstr(said, "Read-only"), "%s", said);
    CHECK(RUN_FIXTURE(a, &p, &said, "status", "profile=tiny", "set=subject=s01 control=none") == 0 && strstr(said, "2 done"));       /* what only reads goes on */
    CHECK(RUN_FIXTURE(a, &p, &said, "verify", "profile=tiny", "set=subject=s01 control=none") == 0);
    new.results = lk_fmt(a, "%s/below", p.results);
    CHECK_MSG(RUN_FIXTURE(a, &new, &said, "run", "profile=tiny", small) == LK_EIO && strstr(said, new.results), "%s", said);
    CHECK(!mount("none", p.results, NULL, MS_REMOUNT, NULL));
    CHECK(RUN_FIXTURE(a, &p, NULL, "run", "profile=tiny", small) == 0);
    picture_of_runs v = runs_of(&p);
    CHECK(!strcmp(v.digests.s, undisturbed()));
    CHECK(!umount2(p.results, MNT_DETACH));
}

/* ---- a clock set back: everything left is from the future ------------------------------------------------------------------ */
static void from_tomorrow(const char *dir, void *count) {
    char *path = lk_xfmt("%s/state.%s", dir, state_names[rundir_state(dir)]);
    struct timespec t[2] = {{time(NULL) + 86400, 0}, {time(NULL) + 86400, 0}};
    *(int *)count += !utimensat(AT_FDCWD, path, t, 0);
    free(path);
}
TEST(a_clock_set_back_neither_stops_a_sweep_nor_steals_from_the_living) {
    const char *const locks[] = {"LK_LEASE_S=1", "LK_NO_LOCKS=1"}, *args[] = {"run", "profile=tiny", small, NULL}, *said = "";
    for (int i = 0; i < 2; i++) {
        place p = new_place();
        int changed = 0;
        p.env[0] = slow; p.env[1] = "LK_CHECKPOINT_STEPS=2"; p.env[2] = "LK_LEASE_S=1"; p.env[3] = locks[i];
        pid_t pid = start_fixture(&p, lk_fmt(a, "%s/killed", lk_test_dir()), args);
        CHECK(await(&p, RUN_RUNNING, 1));
        kill(pid, SIGKILL);
        wait_for(pid);
        each_run(&p, from_tomorrow, &changed);
        CHECK(changed > 0);
        CHECK(RUN_FIXTURE(a, &p, &said, "status", "profile=tiny", small) == 0 && !strstr(said, "heard -"));
        p.env[0] = "FIXTURE_STEP_US=0";
        CHECK_MSG(RUN_FIXTURE(a, &p, &said, "run", "profile=tiny", small) == 0, "%s", said);
        picture_of_runs v = runs_of(&p);
        CHECK_MSG(!strcmp(v.digests.s, undisturbed()), "%s", locks[i]);
    }
    /* an owner that goes on renewing is left alone, whatever its clock says */
    char *dir = rundir_of(a, fresh_results(a), "ab00"), *state = lk_fmt(a, "%s/state.running", dir);
    run_lease l; bool claimed = true;
    CHECK_OK(lk_mkdirs(dir));
    CHECK_OK(lk_write_file_atomic(state, "", 0));
    setenv("LK_NO_LOCKS", "1", 1); setenv("LK_LEASE_S", "1", 1);
    fflush(NULL);
    pid_t owner = fork();
    if (!owner) for (;;) { int n; from_tomorrow(dir, &n); usleep(100000); utimensat(AT_FDCWD, state, (struct timespec[2]){{time(NULL) + 90000, 0}, {time(NULL) + 90000, 0}}, 0); usleep(100000); }
    usleep(300000);
    CHECK_OK(rundir_claim(dir, &claimed, &l));
    CHECK(!claimed);
    kill(owner, SIGKILL);
    wait_for(owner);
    CHECK_OK(rundir_claim(dir, &claimed, &l));
    CHECK(claimed && l.state == RUN_INTERRUPTED);
    if (claimed) lease_free(&l);
    unsetenv("LK_NO_LOCKS"); unsetenv("LK_LEASE_S");
}

/* ---- a host that died, holding leases ---------------------------------------------------------------------------------------------- */
static void held_by_a_dead_host(const char *dir, void *count) {
    char *from = lk_xfmt("%s/state.done", dir), *to = lk_xfmt("%s/state.running", dir), *run = lk_xfmt("%s/run.h5", dir);
    struct timespec t[2] = {{time(NULL) - 3600, 0}, {time(NULL) - 3600, 0}};
    *(int *)count += !rename(from, to) && !unlink(run) && !lk_write_file_atomic(to, "node17 4242\n3 12 4.7 1.5\n\n", 26) && !utimensat(AT_FDCWD, to, t, 0);
    free(from); free(to); free(run);
}
TEST(leases_of_a_dead_host_are_taken_over) {
    const char *said = "";
    for (int locks = 0; locks < 2; locks++) {
        place p = new_place();
        int held = 0;
        CHECK(RUN_FIXTURE(a, &p, NULL, "run", "profile=tiny", small) == 0);
        each_run(&p, held_by_a_dead_host, &held);
        CHECK(held == 4);
        CHECK_MSG(RUN_FIXTURE(a, &p, &said, "status", "profile=tiny", small) == 0 && strstr(said, "on node17 (process 4242") && strstr(said, "nobody at work"), "%s", said);
        p.env[0] = locks ? NULL : "LK_NO_LOCKS=1";
        CHECK_MSG(RUN_FIXTURE(a, &p, &said, "run", "profile=tiny", small) == 0 && strstr(said, "4 done, 0 reused"), "%s", said);
        picture_of_runs v = runs_of(&p);
        CHECK(!strcmp(v.digests.s, undisturbed()));
    }
}

/* ---- people --------------------------------------------------------------------------------------------------------------------------- */
static pid_t child_of(pid_t parent) {
    long child = 0;
    FILE *f = fopen(lk_fmt(a, "/proc/%d/task/%d/children", parent, parent), "r");
    if (f) { if (fscanf(f, "%ld", &child) != 1) child = 0; fclose(f); }
    return (pid_t)child;
}
/* Gone, or a zombie that nobody collects (its parent is gone, and not every container's first process does). */
static bool ended(pid_t pid) {
    char state = 0;
    FILE *f = fopen(lk_fmt(a, "/proc/%d/stat", pid), "r");
    if (!f) return true;
    if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1) state = 0;
    fclose(f);
    return state == 'Z';
}
/* A step of ten seconds: the first Ctrl-C waits for its end, the second does not, so nothing was saved; and a killed parent takes its run along. */
TEST(a_second_interrupt_quits_at_once_and_no_child_outlives_its_worker) {
    const int signals[2][2] = {{SIGINT, SIGINT}, {SIGKILL, 0}};
    for (int i = 0; i < 2; i++) {
        place p = new_place();
        const char *args[] = {"run", "profile=tiny", small, NULL};
        p.env[0] = "FIXTURE_STEP_US=10000000"; p.env[1] = "LK_CHECKPOINT_S=1000";
        pid_t pid = start_fixture(&p, lk_fmt(a, "%s/stopped", lk_test_dir()), args);
        CHECK(await(&p, RUN_RUNNING, 1));
        usleep(100000);
        pid_t child = child_of(pid);
        kill(pid, signals[i][0]);
        usleep(300000);
        if (signals[i][1]) { CHECK(!waitpid(pid, NULL, WNOHANG)); kill(pid, signals[i][1]); }
        CHECK(wait_for(pid) == (i ? 128 + SIGKILL : 130));
        for (int t = 0; t < 200 && !ended(child); t++) usleep(10000);
        CHECK(child > 0 && ended(child));
        picture_of_runs v = runs_of(&p);
        CHECK_MSG(v.states[RUN_RUNNING] == 1 && !v.states[RUN_INTERRUPTED], "%d running, %d interrupted", v.states[RUN_RUNNING], v.states[RUN_INTERRUPTED]);
        p.env[0] = NULL;
        CHECK(RUN_FIXTURE(a, &p, NULL, "run", "profile=tiny", small) == 0);
        v = runs_of(&p);
        CHECK(!strcmp(v.digests.s, undisturbed()));
    }
}
TEST(an_input_edited_in_mid_sweep_stops_it) {
    place p = new_place();
    const char *data = lk_fmt(a, "%s/data.txt", lk_test_dir()), *said = "", *set = lk_fmt(a, "set=subject=s01..s02 control=none data=%s", data), *args[] = {"run", "profile=tiny", set, NULL};
    const char *out = lk_fmt(a, "%s/edited", lk_test_dir());
    CHECK_OK(lk_write_file_atomic(data, "as it was", 9));
    p.env[0] = slow;
    pid_t pid = start_fixture(&p, out, args);
    CHECK(await(&p, RUN_DONE, 1) && await(&p, RUN_RUNNING, 1));
    CHECK_OK(lk_write_file_atomic(data, "something", 9));
    CHECK(wait_for(pid) == LK_ESTATE);
    char *text; size_t n;
    CHECK_OK(lk_read_file(out, &text, &n));
    CHECK_MSG(strstr(text, "was edited after this sweep began") && strstr(text, data), "%s", text);
    free(text);
    picture_of_runs v = runs_of(&p);                          /* the run under way is not called done either; what was done is kept */
    CHECK_MSG(v.states[RUN_DONE] >= 1 && v.states[RUN_FAILED] == 1 && v.states[RUN_DONE] < 4, "%d done, %d failed", v.states[RUN_DONE], v.states[RUN_FAILED]);
    p.env[0] = NULL;
    CHECK_MSG(RUN_FIXTURE(a, &p, &said, "run", "profile=tiny", set) == 0 && strstr(said, "the plan has changed") && strstr(said, "4 done, 0 reused"), "%s", said);
    CHECK_OK(lk_write_file_atomic(data, "as it was", 9));     /* put back: another time, the same contents */
    CHECK_MSG(RUN_FIXTURE(a, &p, &said, "run", "profile=tiny", set, "retry=1") == 0, "%s", said);
    v = runs_of(&p);
    CHECK(v.states[RUN_DONE] == 8);
}

/* ---- secrets --------------------------------------------------------------------------------------------------------------------- */
/* The values are made here: a literal would be found in this very file's diff, which a run from a changed checkout stores. */
TEST(only_listed_variables_of_the_environment_are_stored) {
    place p = new_place();
    const char *secret = lk_fmt(a, "planted%ld", (long)getpid()), *zone = lk_fmt(a, "zone%ld", (long)getpid());
    const char *names[] = {"AWS_SECRET_ACCESS_KEY", "LK_API_TOKEN", "HF_TOKEN", "SLURM_JWT", "OMPI_PASSWORD", "PATH_TO_KEY"};
    for (int i = 0; i < 6; i++) p.env[i] = lk_fmt(a, "%s=%s", names[i], secret);
    p.env[6] = lk_fmt(a, "TZ=%s", zone);
    CHECK(RUN_FIXTURE(a, &p, NULL, "run", "profile=tiny", small) == 0 && RUN_FIXTURE(a, &p, NULL, "report", "profile=tiny", small) == 0);
    CHECK(!system(lk_fmt(a, "grep -rqa %s %s", zone, p.results)));                        /* this search finds what is stored */
    CHECK(WEXITSTATUS(system(lk_fmt(a, "grep -rqa %s %s", secret, p.results))) == 1);     /* looked everywhere, found nothing */
}

/* ---- sources that git does not have -------------------------------------------------------------------------------------------- */
static void first_diff(const char *dir, void *arg) {
    char **found = arg, *path = lk_xfmt("%s/run.h5", dir);
    lk_run *r = NULL;
    lk_err e = *found ? LK_OK : lk_run_load(path, &r);
    if (r) *found = lk_xfmt("%s\n", lk_run_get_provenance(r, "git_dirty_diff"));
    lk_err_free(e); lk_run_free(r); free(path);
}
TEST(changed_staged_and_new_sources_are_stored_and_give_the_tree_back) {
    if (system("command -v git >/dev/null 2>&1")) SKIP("git is not installed");
    place p = new_place();
    char top[4096];
    const char *tree = lk_fmt(a, "%s/tree", lk_test_dir()), *git = "git -c user.name=n -c user.email=e -c core.autocrlf=false";
    CHECK(!system(lk_fmt(a, "mkdir %s && cd %s && git init -q . && echo 'int a;' >changed.c && echo 'int b;' >staged.c && %s add . && %s commit -qm 1 && "
                            "echo 'int a2;' >changed.c && echo 'int b2;' >staged.c && git add staged.c && echo 'int c;' >'new one.c' && echo planted-secret-75 >notes.txt", tree, tree, git, git)));
    CHECK(!system(lk_fmt(a, "fixture=%s/" FIXTURE "; cd %s && LK_RESULTS=%s/r LK_THREADS=1 FIXTURE_NO_FIGURE=1 $fixture run profile=tiny '%s' >/dev/null", getcwd(top, sizeof top), tree, tree, small)));
    p.results = lk_fmt(a, "%s/r", tree);
    char *found = NULL;
    each_run(&p, first_diff, &found);
    if (!CHECK(found != NULL)) return;
    CHECK_OK(lk_write_file_atomic(lk_fmt(a, "%s/diff", tree), found, strlen(found)));
    CHECK_MSG(!strstr(found, "planted-secret"), "%s", found);
    CHECK_MSG(!system(lk_fmt(a, "cd %s && git stash -q --include-untracked -- changed.c staged.c 'new one.c' && git apply diff && grep -qx 'int a2;' changed.c && grep -qx 'int b2;' staged.c && "
                                "grep -qx 'int c;' 'new one.c'", tree)), "%s", found);
    free(found);
}
