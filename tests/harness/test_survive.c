/* What a machine does to a sweep: a disk that fills up, a clock set back, secrets in the environment. Oracle: the digests of an
 * undisturbed sweep; for secrets, the bytes of every file that was left. */
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

/* ---- secrets --------------------------------------------------------------------------------------------------------------------- */
TEST(only_listed_variables_of_the_environment_are_stored) {
    place p = new_place();
    p.env[0] = "AWS_SECRET_ACCESS_KEY=planted-secret-71"; p.env[1] = "LK_API_TOKEN=planted-secret-72"; p.env[2] = "HF_TOKEN=planted-secret-73"; p.env[3] = "TZ=planted-zone-74";
    CHECK(RUN_FIXTURE(a, &p, NULL, "run", "profile=tiny", small) == 0 && RUN_FIXTURE(a, &p, NULL, "report", "profile=tiny", small) == 0);
    CHECK(!system(lk_fmt(a, "grep -rqa planted-zone-74 %s", p.results)));           /* this search finds what is stored */
    CHECK(WEXITSTATUS(system(lk_fmt(a, "grep -rqa planted-secret %s", p.results))) == 1);     /* looked everywhere, found nothing */
}
