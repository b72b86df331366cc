/* lk-golden PATH... [backend=ref|cpu|cuda] [threads=N]: runs the peers' vectors found below PATH.
 * Per tensor the error and its tolerance, then "N passed, N failed"; exit 1 if any failed or none ran. */
#include "cli/golden/golden.h"     /* the runner */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    lk_golden g = { 0 };
    lk_err e = LK_OK;
    const char *backend = "cpu";
    int paths = 0, threads = 1;                       /* the vectors are tiny: waking threads costs more than they do */
    for (int i = 1; i < argc; i++) {
        if (lk_starts(argv[i], "backend=")) backend = argv[i] + 8;
        else if (lk_starts(argv[i], "threads=")) threads = atoi(argv[i] + 8);
        else paths++;
    }
    if (!strcmp(backend, "ref")) g.backend = lk_backend_ref();
    else if (!strcmp(backend, "cpu")) e = lk_backend_cpu(LK_ISA_AUTO, &g.backend);
    else { e = lk_backend_choose(backend); if (!e) e = lk_backend_default(&g.backend); }
    if (!e && !paths) e = lk_error(LK_EINPUT, "usage: lk-golden PATH... [backend=ref|cpu|cuda] [threads=N]: a case or a tree of cases");
    if (e) return lk_err_report(e);
    g.pool = lk_pool_new(threads < 1 ? 1 : threads);
    for (int i = 1; i < argc; i++) if (!strchr(argv[i], '=')) lk_golden_failed(&g, argv[i], lk_golden_walk(&g, argv[i]));
    printf("%d passed, %d failed\n", g.passed, g.failed);
    for (int i = 0; i < g.n_claimed; i++) free(g.claimed[i]);
    free(g.claimed);
    lk_pool_free(g.pool);
    return g.failed || !g.passed;
}
