/* The commands beside run and verify, as a person or a script types them: dry, status, watch, report, compare, list, new, gc; and
 * what they refuse by number. Oracle: what the fixture is known to have done. */
#include "tests/harness/harness_tools.h"

static lk_arena *a;
__attribute__((constructor)) static void make_arena(void) { a = lk_arena_new(); }
static place new_place(void) { return (place){.results = fresh_results(a)}; }
static const char small[] = "set=subject=s01 control=none";
static const char *text_of_file(const char *path) {
    char *text = NULL; size_t n;
    lk_err e = lk_read_file(path, &text, &n);
    const char *kept = e ? "" : lk_strdup(a, text);
    lk_err_free(e); free(text);
    return kept;
}
/* lk-runs in a directory of its own; its status. */
static int runs_tool(const place *p, const char **said, const char *words) {
    char top[4096];
    const char *out = lk_fmt(a, "%s/tool", lk_test_dir());
    int status = system(lk_fmt(a, "LK_RESULTS=%s %s/" BUILD_BIN "/lk-runs %s >%s 2>&1", p->results, getcwd(top, sizeof top), words, out));
    *said = text_of_file(out);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
static void edit(const char *path, const char *from, const char *to) {
    const char *text = text_of_file(path), *at = strstr(text, from);
    if (!CHECK_MSG(at != NULL, "%s has no %s", path, from)) return;
    const char *changed = lk_fmt(a, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    CHECK_OK(lk_write_file_atomic(path, changed, strlen(changed)));
}
typedef struct { const char *id[16]; int n; } ids;
static void note_id(const char *dir, void *arg) { ids *v = arg; if (v->n < 16) v->id[v->n++] = lk_strdup(a, strrchr(dir, '/') + 1); }
static ids ids_of(const place *p) { ids v = {0}; each_run(p, note_id, &v); return v; }

TEST(dry_says_what_there_is_to_do_and_how_long_and_does_nothing) {
    place p = new_place();
    const char *said = "";
    CHECK(RUN_FIXTURE(a, &p, &said, "run", "profile=tiny", small, "dry=1") == 0 && strstr(said, "2 runs: 0 done, 2 to do; about 400.0 KB on disk, how long is not known before one is done"));
    CHECK(access(p.results, F_OK));
    p.env[0] = "FIXTURE_STEP_US=10000";
    CHECK(RUN_FIXTURE(a, &p, NULL, "run", "profile=tiny", small) == 0);
    CHECK_MSG(RUN_FIXTURE(a, &p, &said, "run", "profile=tiny", "set=subject=s01..s03 control=none", "dry=1") == 0 && strstr(said, "6 runs: 2 done, 4 to do") && strstr(said, ", about ") && strstr(said, " s left"), "%s", said);
    CHECK(ids_of(&p).n == 2);
}
/* Nothing to estimate from in this sweep, but the same profile was done with other values. */
TEST(dry_learns_from_earlier_plans) {
    place p = new_place();
    const char *said = "";
    p.env[0] = "FIXTURE_STEP_US=10000";
    CHECK(RUN_FIXTURE(a, &p, NULL, "run", "profile=tiny", small) == 0);
    CHECK_MSG(RUN_FIXTURE(a, &p, &said, "run", "profile=tiny", "set=lr=0.5 control=none", "dry=1") == 0 && strstr(said, "as earlier runs of this profile went"), "%s", said);
}
TEST(status_shows_progress_loss_and_time_left_and_watch_ends_with_the_sweep) {
    place p = new_place();
    const char *said = "", *args[] = {"run", "profile=tiny", "set=subject=s01..s02 control=none", NULL}, *watch[] = {"status", "profile=tiny", "set=subject=s01..s02 control=none", "watch=1", NULL};
    CHECK(RUN_FIXTURE(a, &p, &said, "status", "profile=tiny") == 2 && strstr(said, "nothing is planned yet"));
    /* s01 runs through, s02 waits until it has been looked at, however slow the machine is */
    const char *hold = lk_fmt(a, "%s/hold", lk_test_dir());
    FILE *f = fopen(hold, "w");
    if (f) fclose(f);
    p.env[0] = lk_fmt(a, "FIXTURE_HOLD=%s", hold); p.env[1] = "LK_CHECKPOINT_STEPS=1"; p.env[2] = "FIXTURE_STEP_US=10000";
    pid_t pid = start_fixture(&p, lk_fmt(a, "%s/out", lk_test_dir()), args), watching = 0;
    bool loss = false, left = false, work = false, seen = false;
    for (int i = 0; i < 2000 && !(loss && left && work && seen); i++) {
        usleep(20000);
        if (RUN_FIXTURE(a, &p, &said, "status", "profile=tiny", args[2]) != 0) continue;
        if (!watching) watching = start_fixture(&p, lk_fmt(a, "%s/watch", lk_test_dir()), watch);
        seen |= strstr(text_of_file(lk_fmt(a, "%s/watch", lk_test_dir())), "running") != NULL;
        loss |= strstr(said, "▁") && strstr(said, "               loss ");
        left |= strstr(said, " left with 1 at work") != NULL;
        work |= strstr(said, "running") && strstr(said, " of 12  loss ");
    }
    CHECK(!unlink(hold));
    CHECK_MSG(loss && left && work && seen, "%d %d %d %d: %s", loss, left, work, seen, said);
    CHECK(wait_for(pid) == 0 && watching && wait_for(watching) == 0);
    said = text_of_file(lk_fmt(a, "%s/watch", lk_test_dir()));
    CHECK_MSG(strstr(said, "running") && strstr(said, "4 done  (100 %)") && !strstr(said, "\033["), "%s", said);
}
TEST(the_report_fills_its_checklist_from_the_run_files) {
    place p = new_place();
    p.env[0] = "FIXTURE_STEP_US=2000";
    CHECK(RUN_FIXTURE(a, &p, NULL, "run", "profile=tiny", small) == 0 && RUN_FIXTURE(a, &p, NULL, "report", "profile=tiny", small) == 0);
    ids v = ids_of(&p);
    lk_run *r;
    CHECK_OK(lk_run_load(lk_fmt(a, "%s/runs/%.2s/%s/run.h5", p.results, v.id[0], v.id[0]), &r));
    if (!r) return;
    CHECK(atof(lk_run_get_attr(r, "seconds")) > 0 && atof(lk_run_get_attr(r, "harness_seconds")) > 0 && atof(lk_run_get_attr(r, "harness_seconds")) < atof(lk_run_get_attr(r, "seconds")));
    CHECK(!strcmp(lk_run_get_attr(r, "settings_schema"), "1") && strstr(lk_run_get_provenance(r, "libraries"), "gsl ") && !lk_run_get_provenance(r, "lapack"));
    const char *sweep = NULL, *sweeps = lk_fmt(a, "%s/sweeps", p.results);
    DIR *d = opendir(sweeps);
    for (struct dirent *f; d && (f = readdir(d));) if (*f->d_name != '.') sweep = lk_fmt(a, "%s/%s", sweeps, f->d_name);
    if (d) closedir(d);
    const char *html = text_of_file(lk_fmt(a, "%s/report.html", sweep));
    const char *parts[] = {"Error bars and their method</th><td>range over subjects", "2 of 2 planned (2 of the grid, 0 of 0 controls); 0 failed", "of run time, ", lk_run_get_provenance(r, "cpu"), "chosen by nobody",
                           "make exp=fixture verify profile=tiny set=&quot;subject=s01 control=none&quot; n=all", lk_run_get_attr(r, "result_digest")};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) CHECK_MSG(strstr(html, lk_fmt(a, "%.60s", i == 6 ? lk_fmt(a, "%.16s", parts[i]) : parts[i])), "the report lacks %s", parts[i]);
    lk_run_free(r);
}
TEST(compare_says_what_differs_and_pairs_samples) {
    place p = new_place();
    const char *said = "";
    CHECK(RUN_FIXTURE(a, &p, NULL, "run", "profile=tiny", small) == 0);
    ids v = ids_of(&p);
    if (!CHECK(v.n == 2)) return;
    CHECK(runs_tool(&p, &said, lk_fmt(a, "compare A=%.10s B=%s", v.id[0], v.id[1])) == 0);
    CHECK_MSG(strstr(said, "config/rank: ") && !strstr(said, "config/subject") && !strstr(said, "provenance/cpu"), "%s", said);
    CHECK_MSG(strstr(said, "final/loss: ") && strstr(said, "(B - A = ") && strstr(said, "samples/score: B - A = ") && strstr(said, "over 2 pairs"), "%s", said);
    CHECK_MSG(strstr(said, "first difference: step 1, metrics/train/loss: ") && strstr(said, " ulp of binary32 apart"), "%s", said);
    CHECK(runs_tool(&p, &said, lk_fmt(a, "compare A=%s/runs/%.2s/%s B=%s", p.results, v.id[0], v.id[0], v.id[0])) == 0 && strstr(said, "identical, bit for bit"));
    CHECK(runs_tool(&p, &said, "compare A=zz B=zz") == 2 && strstr(said, "no run begins so"));
    CHECK(runs_tool(&p, &said, "compare A=ab") == 2);
    CHECK(runs_tool(&p, &said, "compare A= C=1") == 2 && strstr(said, "nearest"));
    CHECK(runs_tool(&p, &said, "compair") == 2 && strstr(said, "nearest is \"compare\""));
}
TEST(gc_asks_and_deletes_only_what_no_plan_names) {
    place p = new_place();
    const char *said = "";
    CHECK(RUN_FIXTURE(a, &p, NULL, "run", "profile=tiny") == 0 && RUN_FIXTURE(a, &p, NULL, "run", "profile=tiny", "set=lr=0.5 control=none") == 0);
    CHECK(runs_tool(&p, &said, "gc </dev/null") == 0 && strstr(said, "nothing to delete"));
    CHECK(runs_tool(&p, &said, "list") == 0 && strstr(said, "6 runs, 6 done") && strstr(said, "4 runs, 4 done") && strstr(said, "lora_rank_sweep"));
    CHECK(!system(lk_fmt(a, "rm -r %s/sweeps/fixture-tiny-*", p.results)));
    CHECK(runs_tool(&p, &said, "gc </dev/null") == 0 && strstr(said, "4 runs (") && strstr(said, "kept") && ids_of(&p).n == 10);
    CHECK(!system(lk_fmt(a, "echo n >%s/no; echo y >%s/yes", lk_test_dir(), lk_test_dir())));
    CHECK(runs_tool(&p, &said, lk_fmt(a, "gc <%s/no", lk_test_dir())) == 0 && ids_of(&p).n == 10);
    edit(lk_fmt(a, "%s/sweeps/fixture-tiny/plan.json", p.results), "likeness plan 1", "likeness plan 2");
    CHECK(runs_tool(&p, &said, lk_fmt(a, "gc <%s/yes", lk_test_dir())) == 2 && strstr(said, "nothing is deleted") && ids_of(&p).n == 10);
    edit(lk_fmt(a, "%s/sweeps/fixture-tiny/plan.json", p.results), "likeness plan 2", "likeness plan 1");
    CHECK(runs_tool(&p, &said, lk_fmt(a, "gc <%s/yes", lk_test_dir())) == 0 && strstr(said, "deleted") && ids_of(&p).n == 6);
}
TEST(new_writes_an_experiment_once) {
    place p = new_place();
    const char *said = "", *dir = lk_fmt(a, "%s/tree", lk_test_dir());
    char top[4096];
    CHECK_OK(lk_mkdirs(lk_fmt(a, "%s/experiments", dir)));
    const char *words = lk_fmt(a, "cd %s && LK_RESULTS=%s %s/" BUILD_BIN "/lk-runs new exp=my_first >said 2>&1", dir, p.results, getcwd(top, sizeof top));
    CHECK(!system(words));
    said = text_of_file(lk_fmt(a, "%s/experiments/my_first.c", dir));
    CHECK(strstr(said, "make exp=my_first run") && strstr(said, ".name = \"my_first\""));
    CHECK(WEXITSTATUS(system(words)) == 2 && strstr(text_of_file(lk_fmt(a, "%s/said", dir)), "is there already"));
    CHECK(!system(lk_fmt(a, "cc -std=c17 -fsyntax-only -Wall -Werror -Wno-missing-field-initializers -Iframework -I. %s/experiments/my_first.c", dir)));
    CHECK(runs_tool(&p, &said, "new exp=My-first") == 2 && strstr(said, "small letters"));
}

/* ---- what changes its meaning is refused by number ------------------------------------------------------------------------------- */
TEST(other_schemas_are_refused_by_number) {
    place p = new_place();
    const char *said = "", *plan = lk_fmt(a, "%s/sweeps/fixture-tiny/plan.json", p.results), *published = lk_fmt(a, "%s/fixture-tiny.json", p.results);
    CHECK(RUN_FIXTURE(a, &p, &said, "run", "profile=tiny", "set=schema=2") == 2 && strstr(said, "settings of schema 2, but fixture has schema 1"));
    CHECK(RUN_FIXTURE(a, &p, &said, "run", "profile=tiny", "set=schema=x") == 2 && RUN_FIXTURE(a, &p, &said, "plan", "profile=tiny", "set=schema=1") == 0);
    CHECK(RUN_FIXTURE(a, &p, NULL, "run", "profile=tiny") == 0 && RUN_FIXTURE(a, &p, NULL, "publish", "profile=tiny") == 0);
    edit(plan, "\"settings_schema\": 1", "\"settings_schema\": 3");
    CHECK(RUN_FIXTURE(a, &p, &said, "status", "profile=tiny") == 2 && strstr(said, "settings of schema 3"));
    edit(plan, "likeness plan 1", "likeness plan 7");
    CHECK(RUN_FIXTURE(a, &p, &said, "run", "profile=tiny") == 2 && strstr(said, "\"likeness plan 7\"") && !access(plan, F_OK));      /* left alone */
    edit(published, "\"settings_schema\": 1", "\"settings_schema\": 2");
    CHECK(RUN_FIXTURE(a, &p, &said, "verify", "profile=tiny", "published=1") == 2 && strstr(said, "settings of schema 2"));
    edit(published, "\"settings_schema\": 2", "\"settings_schema\": 1");
    edit(published, "\"numerics\": 1", "\"numerics\": 9");
    CHECK(RUN_FIXTURE(a, &p, &said, "verify", "profile=tiny", "published=1") == 2 && strstr(said, "numerics version 9"));
}
