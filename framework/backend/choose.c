/* The backend of a process by name. Compiled twice: with LK_CUDA into the programs of `make cuda` (and into tests, over the
 * emulated runtime), without it into all others, where asking for cuda is an error that says what to do. */
#include "backend/backend.h"
#include "backend/memory.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef LK_CUDA
#include "backend/cuda/cuda.h"
#endif

static const struct { const char *name, *tier; int precision; } backends[] = {
    {"cpu", "exact", -1}, {"cuda", "exact", 0}, {"cuda-fp32", "fast fp32", 1}, {"cuda-tf32", "fast tf32", 2}, {"cuda-bf16", "fast bf16", 3}, {"cpu-fast", "fast winograd", -1}};
enum { BACKENDS = sizeof backends / sizeof *backends };
static int chosen;

static int index_of(const char *name) {
    for (int i = 0; i < BACKENDS; i++) if (!strcmp(name, backends[i].name)) return i;
    return -1;
}
static bool on_device(void) { return backends[chosen].precision >= 0; }
static lk_err cpu(const lk_backend **out) { return strcmp(backends[chosen].name, "cpu") ? lk_backend_cpu_fast(LK_ISA_AUTO, out) : lk_backend_cpu(LK_ISA_AUTO, out); }
lk_err lk_backend_choose(const char *name) {
    int i = index_of(name);
    if (i < 0) return lk_error(LK_EINPUT, "backend=%s: it is cpu, cpu-fast, cuda, cuda-fp32, cuda-tf32 or cuda-bf16", name);
#ifndef LK_CUDA
    if (backends[i].precision >= 0) return lk_error(LK_EINPUT, "backend=%s: this program is built without CUDA; `make cuda` builds those that have it (needs the CUDA toolkit 12 or 13), or take backend=cpu", name);
#endif
    chosen = i;
    return LK_OK;
}
const char *lk_backend_chosen(void) { return backends[chosen].name; }
const char *lk_backend_tier(const char *name) { int i = index_of(name); return i < 0 ? "exact" : backends[i].tier; }
lk_err lk_backend_default(const lk_backend **out) {
#ifdef LK_CUDA
    if (on_device()) return lk_backend_cuda((lk_cuda_precision)backends[chosen].precision, out);
#endif
    return cpu(out);
}

lk_err lk_backend_plan_opts(lk_plan_opts *o) {
#ifdef LK_CUDA
    if (on_device()) { *o = (lk_plan_opts){.element_bytes = 4, .threads = 1}; lk_cuda_plan_opts((lk_cuda_precision)backends[chosen].precision, o); return LK_OK; }
#endif
    const lk_backend *b;
    LK_TRY(cpu(&b));
    *o = (lk_plan_opts){.element_bytes = b->element_bytes, .threads = 1, .workspace = b->workspace, .pack_form = b->pack_form, .pack_other = b->pack_other};
    return LK_OK;
}

/* ---- asking, without opening anything here ---------------------------------------------------------------------- */
typedef struct { lk_code code; int64_t room; char text[1000]; } answer;
static void ask(answer *a) {
    const lk_backend *b;
    const char *who;
    lk_err e = lk_backend_default(&b);
    if (!e && b->device) e = b->device->room(&a->room, &who);
    else if (!e) a->room = lk_memory_available(&who);
    if (e) { a->code = lk_err_code(e); snprintf(a->text, sizeof a->text, "%s", lk_err_text(e)); return; }
#ifdef LK_CUDA
    if (b->device) { snprintf(a->text, sizeof a->text, "%s", lk_cuda_description()); return; }
#endif
    snprintf(a->text, sizeof a->text, "%s", lk_isa_name(b));
}
lk_err lk_backend_probe(char **text, int64_t *room) {
    answer a = {0};
    int ends[2], status;
    *text = NULL;
    if (!on_device()) ask(&a);
    else {
        if (pipe(ends)) return lk_error(LK_EIO, "pipe: %s", strerror(errno));
        fflush(NULL);
        pid_t pid = fork();
        if (pid < 0) { close(ends[0]); close(ends[1]); return lk_error(LK_EIO, "fork: %s", strerror(errno)); }
        if (!pid) {
            ask(&a);
            _exit(write(ends[1], &a, sizeof a) != (ssize_t)sizeof a);
        }
        close(ends[1]);
        ssize_t got = read(ends[0], &a, sizeof a);
        close(ends[0]);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
        if (got != (ssize_t)sizeof a) return lk_error(LK_ESTATE, "backend=%s: the process that asked for the device ended with status %d", backends[chosen].name, status);
    }
    if (a.code) return lk_error(a.code, "%s", a.text);
    *text = lk_xstrdup(a.text);
    *room = a.room;
    return LK_OK;
}
