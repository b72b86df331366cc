/* Where a result came from: recorded in every run file, never part of its identity. Environment variables are taken from
 * a list of names known to matter; nothing else of the environment is read, so no secret can be stored. */
#include "harness/internal.h"
#include <errno.h>
#include <gsl/gsl_version.h>
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
static void git(lk_run *r) {
    char *commit = output_of("git rev-parse HEAD 2>/dev/null", 100);
    lk_run_provenance(r, "git_commit", *commit ? commit : "not a git checkout");
    if (*commit) {
        char *diff = output_of("git diff HEAD -- '*.c' '*.h' '*.def' Makefile 2>/dev/null", 200000);
        char *untracked = output_of("git ls-files --others --exclude-standard -- '*.c' '*.h' '*.def' 2>/dev/null", 20000);
        lk_run_provenance(r, "git_dirty_diff", diff);
        lk_run_provenance(r, "git_untracked", untracked);
        free(diff); free(untracked);
    }
    free(commit);
}
static void cpu(lk_run *r) {
    char *model = output_of("sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1", 200);
    lk_run_provenance(r, "cpu", *model ? model : "unknown");
    free(model);
    const lk_backend *backend;
    lk_err e = lk_backend_cpu(LK_ISA_AUTO, &backend);
    lk_run_provenance(r, "isa", e ? lk_err_text(e) : lk_isa_name(backend));
    lk_err_free(e);
}
static void command_line(lk_run *r) {
    char *text; size_t n;
    lk_err e = lk_read_file("/proc/self/cmdline", &text, &n);
    if (!e) {
        for (size_t i = 0; i + 1 < n; i++) if (!text[i]) text[i] = ' ';
        lk_run_provenance(r, "argv", text);
        free(text);
    }
    lk_err_free(e);
}
static void libraries(lk_run *r) {
    unsigned major, minor, release;
    H5get_libversion(&major, &minor, &release);
    char *text = lk_xfmt("hdf5 %u.%u.%u, jansson %s, libpng %s, gsl headers %s", major, minor, release, jansson_version_str(), png_get_libpng_ver(NULL), GSL_VERSION);
    lk_run_provenance(r, "libraries", text);
    free(text);
}
void provenance_record(lk_run *r, const grid *g, int threads) {
    struct utsname u;
    char number[32];
    snprintf(number, sizeof number, "%d", threads);
    lk_run_provenance(r, "threads", number);
    snprintf(number, sizeof number, "%d", LK_NUMERICS_VERSION);
    lk_run_provenance(r, "numerics", number);
    lk_run_provenance(r, "source_id", g->source_id);
    lk_run_provenance(r, "compiler", __VERSION__);
    lk_run_provenance(r, "flags", LK_FLAGS);
    if (!uname(&u)) { lk_run_provenance(r, "host", u.nodename); char *os = lk_xfmt("%s %s %s", u.sysname, u.release, u.machine); lk_run_provenance(r, "system", os); free(os); }
    libraries(r); cpu(r); command_line(r); git(r);
    for (size_t i = 0; i < sizeof environment / sizeof environment[0]; i++) {
        const char *value = getenv(environment[i]);
        if (!value) continue;
        char *key = lk_xfmt("env_%s", environment[i]);
        lk_run_provenance(r, key, value);
        free(key);
    }
    for (int i = 0; i < g->n_inputs; i++) { char *key = lk_xfmt("input_%s", g->input_names[i]); lk_run_provenance(r, key, g->input_hashes[i]); free(key); }
}
