/* Sweeps of the synthetic experiment as a person starts them: skipped when done, resumed, retried, shared by two commands,
 * checked. Oracle: the digests of an undisturbed sweep. */
#include "tests/harness/harness_tools.h"

static lk_arena *a;
__attribute__((constructor)) static void make_arena(void) { a = lk_arena_new(); }
static place new_place(void) { return (place){.results = fresh_results(a)}; }
static const char small[] = "set=subject=s01 control=none";
/* Digests of the small sweep, done once and left alone. */
static char *undisturbed(void) {
    static char *digests;
    place p = new_place();
    if (!digests) { RUN_FIXTURE(a, &p, NULL, "run", "profile=tiny", small); digests = runs_of(&p).digests.s; }
    return digests;
}

TEST(done_runs_are_skipped_and_j_changes_no_digest) {
    place one = new_place(), two = new_place();
    const char *said = "";
    CHECK(RUN_FIXTURE(a, &one, &said, "run", "profile=tiny") == 0 && strstr(said, "6 done, 0 reused"));
    CHECK(RUN_FIXTURE(a, &one, &said, "run", "profile=tiny") == 0 && strstr(said, "0 done, 6 reused"));
    CHECK(RUN_FIXTURE(a, &two, &said, "run", "profile=tiny", "j=2") == 0 && strstr(said, "6 done, 0 reused"));
    picture_of_runs x = runs_of(&one), y = runs_of(&two);
    CHECK(x.states[RUN_DONE] == 6 && !strcmp(x.digests.s, y.digests.s));
    const char *const files[] = {"plan.json", "summary.h5", "table.txt", "table.md", "table.tex", "table.dat"};
    for (int i = 0; i < 6; i++) CHECK_MSG(!access(lk_fmt(a, "%s/sweeps/fixture-tiny/%s", one.results, files[i]), F_OK), "%s", files[i]);
    CHECK(RUN_FIXTURE(a, &one, &said, "status", "profile=tiny") == 0 && strstr(said, "6 done"));
    CHECK(RUN_FIXTURE(a, &one, &said, "clean-runs", "profile=tiny") == 0 && strstr(said, "6 runs of fixture-tiny deleted"));
    x = runs_of(&one);
    CHECK(x.states[RUN_DONE] == 0);
}
TEST(two_commands_at_once_share_the_work) {
    place p = new_place();
    p.env[0] = "FIXTURE_STEP_US=3000";
    const char *args[] = {"run", "profile=tiny", NULL};
    pid_t x = start_fixture(&p, lk_fmt(a, "%s/x", lk_test_dir()), args), y = start_fixture(&p, lk_fmt(a, "%s/y", lk_test_dir()), args);
    int x_status = wait_for(x), y_status = wait_for(y);
    char *one, *two; size_t n; int done = 0, mine = 0;
    CHECK_OK(lk_read_file(lk_fmt(a, "%s/x", lk_test_dir()), &one, &n)); CHECK_OK(lk_read_file(lk_fmt(a, "%s/y", lk_test_dir()), &two, &n));
    CHECK_MSG(x_status == 0, "%s", one); CHECK_MSG(y_status == 0, "%s", two);
    for (char *s = one; (s = strstr(s, "\ndone  ")); s++) done++;
    for (char *s = two; (s = strstr(s, "\ndone  ")); s++) mine++;
    CHECK_MSG(done + mine == 6, "%d and %d runs done", done, mine);       /* none twice */
    CHECK(strstr(one, "rank  ") && strstr(two, "rank  "));                /* both end with the table */
    free(one); free(two);
    picture_of_runs v = runs_of(&p);
    place q = new_place();
    RUN_FIXTURE(a, &q, NULL, "run", "profile=tiny");
    picture_of_runs w = runs_of(&q);
    CHECK(!strcmp(v.digests.s, w.digests.s));
}
/* Starts a slow sweep, sends a signal to the parent when its run is under way, waits. */
static int stop_midway(const place *p, int signal) {
    const char *args[] = {"run", "profile=tiny", small, NULL};
    pid_t pid = start_fixture(p, lk_fmt(a, "%s/stopped", lk_test_dir()), args);
    for (int i = 0; i < 1000; i++) {
        picture_of_runs v = runs_of(p);
        bool under_way = v.states[RUN_RUNNING] > 0;
        free(v.digests.s);
        if (under_way) break;
        usleep(5000);
    }
    usleep(100000);
    kill(pid, signal);
    return wait_for(pid);
}
TEST(a_stop_signal_saves_and_leaves_interrupted) {
    char *want = undisturbed();
    const int signals[] = {SIGTERM, SIGUSR1, SIGINT};
    for (int i = 0; i < 3; i++) {
        place p = new_place();
        p.env[0] = "FIXTURE_STEP_US=30000"; p.env[1] = "LK_CHECKPOINT_S=1000";
        CHECK(stop_midway(&p, signals[i]) == 130);
        picture_of_runs v = runs_of(&p);
        CHECK_MSG(v.states[RUN_INTERRUPTED] == 1 && v.states[RUN_RUNNING] == 0, "signal %d: %d interrupted, %d running", signals[i], v.states[RUN_INTERRUPTED], v.states[RUN_RUNNING]);
        p.env[0] = NULL;
        CHECK(RUN_FIXTURE(a, &p, NULL, "run", "profile=tiny", small) == 0);
        v = runs_of(&p);
        CHECK(!strcmp(v.digests.s, want));
    }
}
static void cut_checkpoint(const char *dir, void *count) {
    char *path = lk_xfmt("%s/ckpt.safetensors", dir);
    if (!access(path, F_OK) && !truncate(path, 50)) ++*(int *)count;
    free(path);
}
static void cut_run_file(const char *dir, void *count) {
    char *path = lk_xfmt("%s/run.h5", dir);
    if (!*(int *)count && !truncate(path, 3000)) ++*(int *)count;
    free(path);
}
TEST(a_truncated_checkpoint_is_set_aside_and_the_run_begins_anew) {
    char *want = undisturbed();
    place p = new_place();
    int cut = 0;
    p.env[0] = "FIXTURE_STEP_US=30000"; p.env[1] = "LK_CHECKPOINT_STEPS=1";
    stop_midway(&p, SIGTERM);
    each_run(&p, cut_checkpoint, &cut);
    CHECK(cut == 1);
    p.env[0] = NULL;
    CHECK(RUN_FIXTURE(a, &p, NULL, "run", "profile=tiny", small) == 0);
    picture_of_runs v = runs_of(&p);
    CHECK(!strcmp(v.digests.s, want));
}
TEST(a_damaged_run_file_is_set_aside_and_done_again_on_request) {
    char *want = undisturbed();
    place p = new_place();
    const char *said = "";
    int cut = 0;
    RUN_FIXTURE(a, &p, NULL, "run", "profile=tiny", small);
    each_run(&p, cut_run_file, &cut);
    CHECK(RUN_FIXTURE(a, &p, &said, "verify", "profile=tiny", small, "n=all") == 1 && strstr(said, "its run file cannot be read"));
    CHECK(RUN_FIXTURE(a, &p, &said, "run", "profile=tiny", small) == 1 && strstr(said, "1 of 2 runs are done"));
    CHECK(strstr(said, "damaged and set aside"));
    CHECK(RUN_FIXTURE(a, &p, &said, "run", "profile=tiny", small) == 1 && strstr(said, "retry=1"));
    CHECK(RUN_FIXTURE(a, &p, &said, "run", "profile=tiny", small, "retry=1") == 0);
    picture_of_runs v = runs_of(&p);
    CHECK(!strcmp(v.digests.s, want));
}
TEST(a_half_written_plan_is_set_aside) {
    place p = new_place();
    const char *said, *plan = lk_fmt(a, "%s/sweeps/fixture-tiny/plan.json", p.results);
    RUN_FIXTURE(a, &p, NULL, "run", "profile=tiny");
    CHECK(!truncate(plan, 200));
    CHECK(RUN_FIXTURE(a, &p, &said, "status", "profile=tiny") == 2 && strstr(said, "plan.json"));
    CHECK(RUN_FIXTURE(a, &p, &said, "run", "profile=tiny") == 0 && strstr(said, "6 reused") && strstr(said, "cut short or damaged; it is set aside"));
}
TEST(failures_are_kept_with_their_reason_and_need_retry) {
    const struct { const char *fault, *part; } cases[] = {{"FIXTURE_FAULT=fail", "the loss is not a number at step 3"}, {"FIXTURE_FAULT=crash", "crashed by signal 11"}, {"FIXTURE_FAULT=leave9", "ended with status 9"},
        {"FIXTURE_FAULT=leave0", "ended with status 0"}, {"FIXTURE_FAULT=leave1", "ended with status 1"}, {"FIXTURE_FAULT=leave3", "ended with status 3"}};   /* what a run's process says when it told */
    for (int i = 0; i < 6; i++) {
        place p = new_place();
        const char *said = "";
        p.env[0] = cases[i].fault;
        CHECK_MSG(RUN_FIXTURE(a, &p, &said, "run", "profile=tiny", small) == 1 && strstr(said, cases[i].part), "%s: %s", cases[i].fault, said);
        p.env[0] = NULL;
        CHECK(RUN_FIXTURE(a, &p, &said, "run", "profile=tiny", small) == 1 && strstr(said, cases[i].part));
        CHECK(RUN_FIXTURE(a, &p, &said, "run", "profile=tiny", small, "retry=1") == 0);
        char *want = undisturbed();
        picture_of_runs v = runs_of(&p);
        CHECK(!strcmp(v.digests.s, want));
    }
}
TEST(verify_finds_a_planted_difference_and_names_it) {
    place p = new_place();
    const char *said = "";
    RUN_FIXTURE(a, &p, NULL, "run", "profile=tiny");
    CHECK(RUN_FIXTURE(a, &p, &said, "verify", "profile=tiny", "n=all") == 0 && strstr(said, "6 of 6"));
    CHECK(RUN_FIXTURE(a, &p, &said, "publish", "profile=tiny") == 0);
    CHECK(RUN_FIXTURE(a, &p, &said, "verify", "profile=tiny", "published=1") == 0 && strstr(said, "every digest identical"));
    p.env[0] = "FIXTURE_PLANT=1";
    CHECK(RUN_FIXTURE(a, &p, &said, "verify", "profile=tiny", "n=all") == 1);
    CHECK_MSG(strstr(said, "DIFFERENT") && strstr(said, "step 7, metrics/train/loss") && strstr(said, "ulp of binary32"), "%s", said);
    CHECK(RUN_FIXTURE(a, &p, &said, "verify", "profile=tiny", "published=1") == 1 && strstr(said, "step 7"));
    p.env[0] = NULL;
    CHECK(RUN_FIXTURE(a, &p, &said, "report", "profile=tiny") == 0);
    char *html; size_t n;
    CHECK_OK(lk_read_file(lk_fmt(a, "%s/sweeps/fixture-tiny/report.html", p.results), &html, &n));
    CHECK(strstr(html, "Reproducibility checklist") && strstr(html, "range over subjects") && !strstr(html, "http"));
    free(html);
}
TEST(what_is_refused_writes_nothing) {
    const struct { const char *args[4]; const char *part; } cases[] = {
        {{"runn"}, "nearest is \"run\""}, {{"run", "profile=tinny"}, "nearest is \"tiny\""}, {{"run", "set=rank=3"}, "there are: 0, 1, 2, 4, 8"}, {{"run", "sett=x"}, "nearest is \"set\""},
        {{"run", "j=0"}, "1 to 1024"}, {{"run", "dry=yes"}, "0 or 1"}, {{"run", "set=data=/not/there"}, "/not/there"}, {{"verify", "n=x"}, "a number of runs"}, {{"run", "engine=slrm"}, "slurm"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        place p = new_place();
        const char *said = "";
        CHECK_MSG(fixture(a, &p, &said, cases[i].args) == 2 && strstr(said, cases[i].part), "%s: %s", cases[i].args[1], said);
        CHECK_MSG(access(p.results, F_OK), "%s was made", p.results);
    }
    place p = new_place();
    const char *said = "";
    CHECK(RUN_FIXTURE(a, &p, &said, "run", "profile=tiny", "dry=1") == 0 && strstr(said, "6 to do") && access(p.results, F_OK));
    CHECK_OK(lk_write_file_atomic(p.results, "a file", 6));               /* where a directory should be */
    CHECK(RUN_FIXTURE(a, &p, &said, "run", "profile=tiny") == LK_EIO && strstr(said, p.results));
}
TEST(leases_work_where_locks_do_not) {
    place p = new_place();
    const char *said = "";
    p.env[0] = "LK_NO_LOCKS=1"; p.env[1] = "LK_LEASE_S=1"; p.env[2] = "FIXTURE_STEP_US=30000"; p.env[3] = "LK_CHECKPOINT_STEPS=2";
    stop_midway(&p, SIGKILL);                                             /* a dead owner: taken over when its heartbeat is old */
    p.env[2] = NULL;
    CHECK(RUN_FIXTURE(a, &p, &said, "run", "profile=tiny", small) == 0);
    char *want = undisturbed();
    picture_of_runs v = runs_of(&p);
    CHECK(!strcmp(v.digests.s, want));
}
