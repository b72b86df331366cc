/* backend=cuda as a person types it: refused in one line where the program has no CUDA or the machine no device; identities
 * and tiers. Over the emulated runtime; not a run on a device. A whole experiment so takes minutes: make gpu-check emulated=1. */
#include "tests/harness/harness_tools.h"

static lk_arena *a;
__attribute__((constructor)) static void make_arena(void) { a = lk_arena_new(); }
/* Runs a program with its own results; *said is what it printed. */
static int program(const char *path, const char *results, const char *environment, const char **said, const char *const *args) {
    const char *out = lk_fmt(a, "%s/said", lk_test_dir()), *argv[12] = {path};
    for (int i = 0; i < 10 && args[i]; i++) argv[i + 1] = args[i];
    fflush(NULL);
    pid_t pid = fork();
    if (!pid) {
        setenv("LK_RESULTS", results, 1); setenv("FIXTURE_NO_FIGURE", "1", 1); setenv("LK_THREADS", "1", 1);
        if (environment) putenv((char *)environment);
        int fd = open(out, O_CREAT | O_TRUNC | O_WRONLY, 0666);
        dup2(fd, 1); dup2(fd, 2);
        execv(path, (char *const *)argv);
        _exit(127);
    }
    int status = wait_for(pid);
    char *text = NULL; size_t n;
    lk_err e = lk_read_file(out, &text, &n);
    *said = lk_strdup(a, e ? "" : text);
    lk_err_free(e);
    free(text);
    return status;
}
#define PROGRAM(path, results, environment, said, ...) program(path, results, environment, said, (const char *const[]){__VA_ARGS__, NULL})

/* Lines that begin with "lk: ": there must be one, and no state may have been written. */
static void refused(const char *path, const char *environment, const char *backend, const char *part) {
    const char *results = fresh_results(a), *said = "";
    int status = PROGRAM(path, results, environment, &said, "run", "profile=tiny", lk_fmt(a, "backend=%s", backend));
    const char *line = strstr(said, "lk: ");
    CHECK_MSG(status && line && strstr(line, part) && line[strcspn(line, "\n")] && !line[strcspn(line, "\n") + 1], "status %d: %s", status, said);
    place p = {.results = results};
    picture_of_runs v = runs_of(&p);
    int any = 0;
    for (int s = 0; s < RUN_STATES; s++) any += v.states[s];
    CHECK(!any);
}
TEST(refusals_are_one_line_and_write_no_run) {
    refused(FIXTURE, NULL, "cuda", "built without CUDA; `make cuda`");
    refused(FIXTURE, NULL, "metal", "it is cpu, cpu-fast, cuda, cuda-fp32, cuda-tf32 or cuda-bf16");
    refused(EMULATED "fixture", "LK_EMULATE=driver=0", "cuda", "no NVIDIA driver");
    refused(EMULATED "fixture", "LK_EMULATE=driver=11080", "cuda", "update the driver");
    refused(EMULATED "fixture", "LK_EMULATE=count=0", "cuda", "finds no GPU");
    refused(EMULATED "fixture", "LK_EMULATE=major=7", "cuda-bf16", "compute capability 7.0");
    refused(EMULATED "lora_rank_sweep", "LK_EMULATE=memory=1000000", "cuda", "the device has 1.0 MB");
}
TEST(a_sweep_runs_and_its_identity_is_that_of_the_exact_tier) {
    const char *said = "", *cpu = fresh_results(a), *cuda = fresh_results(a), *half = fresh_results(a);
    CHECK_MSG(PROGRAM(EMULATED "fixture", cpu, NULL, &said, "run", "profile=tiny") == 0, "%s", said);
    CHECK_MSG(PROGRAM(EMULATED "fixture", cpu, NULL, &said, "run", "profile=tiny", "backend=cuda") == 0 && strstr(said, "0 done, 6 reused"), "%s", said);
    CHECK_MSG(PROGRAM(EMULATED "fixture", cuda, NULL, &said, "run", "profile=tiny", "backend=cuda", "j=2") == 0 && strstr(said, "6 done, 0 reused"), "%s", said);
    place p = {.results = cpu}, q = {.results = cuda};
    picture_of_runs x = runs_of(&p), y = runs_of(&q);
    CHECK(x.states[RUN_DONE] == 6 && y.states[RUN_DONE] == 6 && !strcmp(x.digests.s, y.digests.s));
    CHECK_MSG(PROGRAM(EMULATED "fixture", cpu, NULL, &said, "run", "profile=tiny", "backend=cuda-bf16") == 0 && strstr(said, "6 done, 0 reused"), "%s", said);   /* another tier, other runs */
    CHECK_MSG(PROGRAM(EMULATED "fixture", half, "LK_EMULATE=count=0", &said, "plan", "profile=tiny", "backend=cuda") == 0 && strstr(said, "finds no GPU"), "%s", said);   /* a plan needs no device */
}
/* What make gpu-check measures on a device works, and a whole LoRA step of a UNet by each tier has the exact one's loss within its rounding. */
TEST(a_lora_step_by_each_tier) {
    static const struct { const char *tier; double tolerance; } tiers[] = {{"cuda", 0}, {"cuda-fp32", 1e-6}, {"cuda-tf32", 1e-3}, {"cuda-bf16", 8e-3}};   /* 2^-10, 2^-7 of the loss */
    double exact = 0;
    for (int i = 0; i < 4; i++) {
        const char *said = "";
        int status = PROGRAM(EMULATED_DIR "bench_lora", fresh_results(a), NULL, &said, "tests/golden/models/unet_sd15/config.json", "size=64", "steps=1", lk_fmt(a, "tier=%s", tiers[i].tier));
        const char *loss = strstr(said, "loss "), *planned = strstr(said, "planned"), *measured = strstr(said, "measured");
        if (!CHECK_MSG(status == 0 && loss && planned && measured, "%s", said)) return;
        double x = atof(loss + 5);
        if (!i) exact = x;
        CHECK_MSG(fabs(x - exact) <= tiers[i].tolerance * exact, "%s: loss %.9g, exact %.9g", tiers[i].tier, x, exact);
        CHECK_MSG(i < 2 || x != exact, "%s: rounding cannot be seen", tiers[i].tier);
        CHECK(fabs(atof(planned + 8) - atof(measured + 9)) < 0.06);                     /* MiB, printed with one digit */
    }
}
