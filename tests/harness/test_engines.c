/* engine=mpi with the real mpirun and engine=slurm with a real Slurm of one node (slurm_cluster.sh); skipped, and said so, where
 * they are not installed or cannot be started. Oracle: the digests of an undisturbed local sweep. */
#include "tests/harness/harness_tools.h"

static lk_arena *a;
__attribute__((constructor)) static void make_arena(void) { a = lk_arena_new(); }
static place new_place(void) { return (place){.results = fresh_results(a)}; }
static const char *undisturbed(void) {
    static char *digests;
    place p = new_place();
    if (!digests) { RUN_FIXTURE(a, &p, NULL, "run", "profile=tiny"); digests = runs_of(&p).digests.s; }
    return digests;
}
static bool found(const char *program) { return !system(lk_fmt(a, "command -v %s >/dev/null 2>&1", program)); }
static int count_of(const char *text, const char *part) { int n = 0; for (const char *s = text; (s = strstr(s, part)); s++) n++; return n; }
static bool same_digests(const place *p) {
    picture_of_runs v = runs_of(p);
    bool same = v.states[RUN_DONE] == 6 && !strcmp(v.digests.s, undisturbed());
    free(v.digests.s);
    return same;
}

TEST(a_worker_refuses_another_plan_than_its_own) {
    place p = new_place();
    const char *said = "", *plan = lk_fmt(a, "%s/sweeps/fixture-tiny/plan.json", p.results);
    CHECK(RUN_FIXTURE(a, &p, &said, "run", "profile=tiny", "worker=1") != 0 && strstr(said, "plan.json"));
    CHECK_OK(lk_mkdirs(lk_fmt(a, "%s/sweeps/fixture-tiny", p.results)));
    static const char other[] = "{\"schema\": \"likeness plan 1\", \"runs\": []}";
    CHECK_OK(lk_write_file_atomic(plan, other, sizeof other - 1));
    CHECK_MSG(RUN_FIXTURE(a, &p, &said, "run", "profile=tiny", "worker=1") == LK_ESTATE && strstr(said, "names other runs"), "%s", said);
    CHECK(access(lk_fmt(a, "%s/runs", p.results), F_OK));
}
TEST(a_launcher_that_is_not_there_is_said) {
    place p = new_place();
    const char *said = "";
    p.env[0] = "LK_MPIRUN=no-such-mpirun";
    CHECK_MSG(RUN_FIXTURE(a, &p, &said, "run", "profile=tiny", "engine=mpi") == 2 && strstr(said, "no-such-mpirun cannot be started"), "%s", said);
    p.env[0] = "PATH=/nonexistent";
    CHECK_MSG(RUN_FIXTURE(a, &p, &said, "run", "profile=tiny", "engine=slurm") == 2 && strstr(said, "sbatch cannot be started"), "%s", said);
}
TEST(mpi_workers_share_a_sweep) {
    if (!found("mpirun")) SKIP("mpirun (openmpi-bin) is not installed");
    place p = new_place();
    const char *said = "";
    p.env[0] = "FIXTURE_STEP_US=3000";
    CHECK_MSG(RUN_FIXTURE(a, &p, &said, "run", "profile=tiny", "engine=mpi", "j=2") == 0 && strstr(said, "6 done, 0 reused, 0 failed"), "%s", said);
    CHECK_MSG(count_of(said, "done         ") == 6 && strstr(said, "rank  "), "%s", said);      /* none twice; the table at the end */
    CHECK(same_digests(&p));
    CHECK(RUN_FIXTURE(a, &p, &said, "run", "profile=tiny", "engine=mpi", "j=2") == 0 && strstr(said, "0 done, 6 reused"));
    place q = new_place();
    q.env[0] = "FIXTURE_FAULT=crash";
    CHECK_MSG(RUN_FIXTURE(a, &q, &said, "run", "profile=tiny", "engine=mpi", "j=2") == 1 && strstr(said, "4 done, 0 reused, 2 failed") && strstr(said, "crashed by signal 11"), "%s", said);
    q.env[0] = NULL;
    CHECK_MSG(RUN_FIXTURE(a, &q, &said, "run", "profile=tiny", "engine=mpi", "retry=1") == 0 && same_digests(&q), "%s", said);
}
/* Until a run is under way. */
static bool await_running(const place *p, int most_ms) {
    for (int t = 0; t < most_ms; t += 20) {
        picture_of_runs v = runs_of(p);
        free(v.digests.s);
        if (v.states[RUN_RUNNING]) return true;
        usleep(20000);
    }
    return false;
}
TEST(stopping_mpirun_saves_and_going_on_ends_with_the_same_digests) {
    if (!found("mpirun")) SKIP("mpirun (openmpi-bin) is not installed");
    place p = new_place();
    const char *args[] = {"run", "profile=tiny", "set=control=none", "engine=mpi", "j=2", NULL}, *out = lk_fmt(a, "%s/stopped", lk_test_dir());
    p.env[0] = "FIXTURE_STEP_US=40000"; p.env[1] = "LK_CHECKPOINT_S=1000";
    pid_t pid = start_fixture(&p, out, args);
    CHECK(await_running(&p, 20000));
    kill(pid, SIGTERM);
    CHECK(wait_for(pid) == 130);
    picture_of_runs v = runs_of(&p);
    CHECK_MSG(v.states[RUN_INTERRUPTED] > 0 && !v.states[RUN_RUNNING] && !v.states[RUN_LEASED], "%d interrupted, %d running", v.states[RUN_INTERRUPTED], v.states[RUN_RUNNING]);
    p.env[0] = NULL;
    CHECK(RUN_FIXTURE(a, &p, NULL, "run", "profile=tiny") == 0 && same_digests(&p));
}

/* ---- Slurm --------------------------------------------------------------------------------------------------------------- */
static const char *cluster_dir(void) { return lk_fmt(a, "%s/cluster", lk_test_dir()); }
static bool start_cluster(void) {
    int status = system(lk_fmt(a, "bash tests/harness/slurm_cluster.sh start %s 4 >%s.said 2>&1", cluster_dir(), cluster_dir()));
    setenv("SLURM_CONF", lk_fmt(a, "%s/slurm.conf", cluster_dir()), 1);
    return !status;
}
static void stop_cluster(void) { if (system(lk_fmt(a, "bash tests/harness/slurm_cluster.sh stop %s", cluster_dir()))) printf("  the cluster did not stop\n"); }
static int run_states(const place *p, run_state s) { picture_of_runs v = runs_of(p); free(v.digests.s); return v.states[s]; }
static bool await_done(const place *p, int n, int most_ms) {
    for (int t = 0; t < most_ms && run_states(p, RUN_DONE) < n; t += 100) usleep(100000);
    return run_states(p, RUN_DONE) == n;
}
static const char *text_of(const char *command) {
    const char *out = lk_fmt(a, "%s/text", lk_test_dir());
    char *text = NULL; size_t n;
    if (system(lk_fmt(a, "%s >%s 2>&1", command, out))) return "";
    lk_err e = lk_read_file(out, &text, &n);
    const char *kept = e ? "" : lk_strdup(a, text);
    lk_err_free(e); free(text);
    return kept;
}
static void array_is_split_and_done(void) {
    place p = new_place();
    const char *said = "";
    CHECK_MSG(RUN_FIXTURE(a, &p, &said, "run", "profile=tiny", "engine=slurm", "j=6") == 0 && strstr(said, ": 4 workers") && strstr(said, ": 2 workers"), "%s", said);
    CHECK_MSG(await_done(&p, 6, 60000), "%s\n%s", text_of("squeue"), text_of(lk_fmt(a, "cat %s/sweeps/fixture-tiny/slurm-*.log", p.results)));
    CHECK(same_digests(&p));
    CHECK(RUN_FIXTURE(a, &p, &said, "run", "profile=tiny", "engine=slurm") == 0 && strstr(said, "0 done, 6 reused"));    /* nothing to submit */
}
/* What Slurm does before a time limit, brought about by hand: SIGUSR1 to the batch shell. */
static void a_warned_worker_saves_and_is_queued_again(void) {
    place p = new_place();
    const char *said = "";
    p.env[0] = "FIXTURE_STEP_US=60000"; p.env[1] = "LK_CHECKPOINT_S=1000";
    CHECK(RUN_FIXTURE(a, &p, &said, "run", "profile=tiny", "set=control=none", "engine=slurm") == 0);
    const char *at = strstr(said, "job ");
    CHECK(await_running(&p, 30000));
    usleep(300000);
    CHECK(at && !system(lk_fmt(a, "scancel --batch --signal=USR1 %d", atoi(at + 4))));
    for (int t = 0; t < 5000 && !run_states(&p, RUN_INTERRUPTED); t += 20) usleep(20000);
    CHECK(run_states(&p, RUN_INTERRUPTED) == 1);
    CHECK_MSG(await_done(&p, 4, 90000), "%s\n%s", text_of("squeue"), text_of(lk_fmt(a, "cat %s/sweeps/fixture-tiny/slurm-*.log", p.results)));
    CHECK(RUN_FIXTURE(a, &p, NULL, "run", "profile=tiny") == 0 && same_digests(&p));      /* the controls too */
    const char *log = text_of(lk_fmt(a, "cat %s/runs/*/*/log.txt", p.results));
    CHECK_MSG(count_of(log, "resumed at step ") == 1, "%s", log);
}
TEST(slurm_array_of_workers) {
    if (!start_cluster()) { printf("  %s", text_of(lk_fmt(a, "cat %s.said", cluster_dir()))); SKIP("no Slurm of one node can be started here"); }
    undisturbed();
    array_is_split_and_done();
    a_warned_worker_saves_and_is_queued_again();
    stop_cluster();
}
