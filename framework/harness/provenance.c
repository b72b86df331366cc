/* Where a result came from: recorded in every run file, never part of its identity. Environment variables are taken from
 * a list of names known to matter; nothing else of the environment is read, so no secret can be stored. What asks other
 * programs (git) is collected once a command, before the runs start. */
#include "harness/internal.h"
#ifdef LK_NO_GSL
static const char *const gsl_version = "not linked";
#else
#include <gsl/gsl_version.h>
#endif
#include <hdf5.h>
#include <jansson.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#ifndef LK_FLAGS
#define LK_FLAGS "not recorded"
#endif
static const char *const environment[] = {"LK_ISA", "LK_THREADS", "LK_RESULTS", "LK_CHECKPOINT_S", "LK_CHECKPOINT_STEPS", "LK_NO_LOCKS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS",
                                          "CUDA_VISIBLE_DEVICES", "LANG", "LC_ALL", "TZ", "SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK"};

static void put(grid *g, const char *key, const char *value) {
    if (g->n_provenance == MOST_PROVENANCE) return;
    g->provenance[g->n_provenance][0] = lk_strdup(g->arena, key);
    g->provenance[g->n_provenance++][1] = lk_strdup(g->arena, value);
}
/* Output of a command without a shell's surprises; "" if it fails. At most `most` bytes. */
static char *output_of(const char *command, size_t most) {
    FILE *f = popen(command, "r");
    lk_buf b = {0};
    lk_buf_add(&b, "", 0);
    char piece[4096];
    for (size_t n; f && (n = fread(piece, 1, sizeof piece, f)) > 0;) if (b.n < most) lk_buf_add(&b, piece, b.n + n > most ? most - b.n : n);
    if (f) pclose(f);
    while (b.n && b.s[b.n - 1] == '\n') b.s[--b.n] = 0;
    return b.s;
}
/* What a checkout has beyond its commit: changes, staged or not, and files git does not know yet, each as a diff from nothing.
 * `git apply` of it on the commit gives the sources that were there. No user's diff program or colour has a say. */
static void git(grid *g) {
    enum { MOST = 1 << 20 };
    static const char sources[] = "'*.c' '*.h' '*.def' '*.cu' '*.cuh' '*.sh' Makefile";
    char *commit = output_of("git rev-parse HEAD 2>/dev/null", 100);
    put(g, "git_commit", *commit ? commit : "not a git checkout");
    if (*commit) {
        const char *command = lk_fmt(g->arena, "{ git diff --no-ext-diff --no-textconv --no-color HEAD -- %s; git ls-files -z --others --exclude-standard -- %s | "
                                               "xargs -0 -r -n 1 git diff --no-ext-diff --no-textconv --no-color --no-index -- /dev/null; } 2>/dev/null", sources, sources);
        char *diff = output_of(command, MOST), *untracked = output_of(lk_fmt(g->arena, "git ls-files --others --exclude-standard -- %s 2>/dev/null", sources), 20000);
        put(g, "git_dirty_diff", strlen(diff) < MOST ? diff : lk_fmt(g->arena, "%s\n(cut here at %d bytes)", diff, MOST));
        put(g, "git_untracked", untracked);
        free(diff); free(untracked);
    }
    free(commit);
}
static void cpu(grid *g) {
    char *model = output_of("sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1", 200);
    put(g, "cpu", *model ? model : "unknown");
    free(model);
    const lk_backend *backend;
    lk_err e = lk_backend_cpu(LK_ISA_AUTO, &backend);
    put(g, "backend", lk_backend_chosen());
    if (g->device) put(g, "device", g->device);
    put(g, "isa", e ? lk_err_text(e) : lk_isa_name(backend));
    lk_err_free(e);
}
static void command_line(grid *g) {
    char *text; size_t n;
    lk_err e = lk_read_file("/proc/self/cmdline", &text, &n);
    if (!e) {
        for (size_t i = 0; i + 1 < n; i++) if (!text[i]) text[i] = ' ';
        put(g, "argv", text);
        free(text);
    }
    lk_err_free(e);
}
static void libraries(grid *g) {
    unsigned major, minor, release;
    H5get_libversion(&major, &minor, &release);
    char *text = lk_xfmt("hdf5 %u.%u.%u, jansson %s, libpng %s, gsl %s", major, minor, release, jansson_version_str(), png_get_libpng_ver(NULL), gsl_version);
    put(g, "libraries", text);
    free(text);
}
void provenance_collect(grid *g) {
    struct utsname u;
    char number[32];
    snprintf(number, sizeof number, "%d", LK_NUMERICS_VERSION);
    put(g, "numerics", number);
    put(g, "source_id", g->source_id);
    put(g, "compiler", __VERSION__);
    put(g, "flags", LK_FLAGS);
    if (!uname(&u)) { put(g, "host", u.nodename); put(g, "system", lk_fmt(g->arena, "%s %s %s", u.sysname, u.release, u.machine)); }
    libraries(g); cpu(g); command_line(g); git(g);
    for (size_t i = 0; i < sizeof environment / sizeof environment[0]; i++) {
        const char *value = getenv(environment[i]);
        if (value) put(g, lk_fmt(g->arena, "env_%s", environment[i]), value);
    }
    for (int i = 0; i < g->n_inputs; i++) put(g, lk_fmt(g->arena, "input_%s", g->inputs[i].name), g->inputs[i].hash);
}
void provenance_record(lk_run *r, const grid *g, int threads) {
    char number[32];
    snprintf(number, sizeof number, "%d", threads);
    lk_run_provenance(r, "threads", number);
    for (int i = 0; i < g->n_provenance; i++) lk_run_provenance(r, g->provenance[i][0], g->provenance[i][1]);
}
