/* Memory and disk, said in bytes before a run starts. Memory comes from shapes alone: the experiment builds the graphs of
 * a point without data; of each axis the last value is taken as the largest. */
#include "harness/internal.h"
#include "backend/memory.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

lk_err lk_ctx_plan(lk_ctx *c, const char *name, lk_graph *g, const lk_val *outputs, int n) {
    lk_plan_opts opts;
    lk_plan *plan;
    LK_TRY(lk_graph_error(g));
    LK_TRY(lk_backend_plan_opts(&opts));
    LK_TRY(lk_err_wrap(lk_plan_new(g, outputs, n, opts, &plan), "plan of %s", name));
    plan_row *rows = lk_alloc(c->arena, sizeof *rows * (size_t)(c->n_plans + 1));
    if (c->n_plans) memcpy(rows, c->plans, sizeof *rows * (size_t)c->n_plans);
    rows[c->n_plans] = (plan_row){.name = lk_strdup(c->arena, name), .flops = plan->flops, .text = c->explain ? lk_plan_text(c->arena, g, plan, 6) : NULL};
    memcpy(rows[c->n_plans++].by_class, plan->by_class, sizeof plan->by_class);
    c->plans = rows;
    lk_plan_free(plan);
    return LK_OK;
}
static const char *const class_names[LK_MEM_CLASSES] = {"inputs", "weights", "adapters", "optimiser", "constants", "gradients", "activations", "workspace"};
static int64_t print_table(const lk_ctx *c, FILE *out) {
    char b[32];
    int64_t all = 0;
    if (out) { fprintf(out, "%-24s", c->point->label); for (int k = 0; k < LK_MEM_CLASSES; k++) fprintf(out, " %12s", class_names[k]); fprintf(out, " %12s %10s\n", "sum", "GFLOP"); }
    for (int i = 0; i < c->n_plans; i++) {
        int64_t sum = 0;
        if (out) fprintf(out, "  %-22s", c->plans[i].name);
        for (int k = 0; k < LK_MEM_CLASSES; k++) { sum += c->plans[i].by_class[k]; if (out) fprintf(out, " %12s", bytes_text(c->plans[i].by_class[k], b)); }
        if (out) fprintf(out, " %12s %10.2f\n", bytes_text(sum, b), (double)c->plans[i].flops / 1e9);
        all += sum;
    }
    return all;
}
lk_err resources_check(const grid *g) {
    lk_err e = LK_OK;
    for (int i = 0; i < g->n && g->exp->check && !e; i++) {
        lk_ctx *c;
        LK_TRY(context_new(g, &g->points[i], NULL, 1, &c));
        e = g->exp->check(c);
        if (!e && c->error) { e = c->error; c->error = NULL; }
        e = lk_err_wrap(e, "%s", g->points[i].label);
        context_free(c);
    }
    return e;
}
static const grid_point *largest_point(const grid *g) { return &g->points[g->n - 1]; }
lk_err resources_memory(const grid *g, int j, int threads, FILE *out) {
    if (!g->exp->memory) { if (out) fprintf(out, "memory: the experiment does not say\n"); return LK_OK; }
    lk_ctx *c;
    LK_TRY(context_new(g, largest_point(g), NULL, threads, &c));
    c->explain = out != NULL;
    lk_err e = g->exp->memory(c);
    if (!e && c->error) { e = c->error; c->error = NULL; }
    if (!e) {
        char need[32], have[32];
        const char *who;
        int64_t bytes = print_table(c, out) * j, free_bytes = lk_memory_available(&who);
        if (strcmp(lk_backend_chosen(), "cpu")) { who = g->device ? "the device" : "the device, which is not here,"; free_bytes = g->device ? g->device_room : INT64_MAX; }
        bytes_text(bytes, need); bytes_text(free_bytes, have);
        for (int i = 0; out && i < c->n_plans; i++) fprintf(out, "%s: %s", c->plans[i].name, c->plans[i].text);
        if (out) fprintf(out, "%s for %d worker%s; %s has %s\n", need, j, j == 1 ? "" : "s", who, free_bytes == INT64_MAX ? "an unknown amount" : have);
        if (bytes > free_bytes) e = lk_error(LK_ENOMEM, "%s needs %s (%lld bytes) for %d worker%s and %s has %s (%lld bytes): take a smaller j, rank or batch", g->exp->name, need,
                                             (long long)bytes, j, j == 1 ? "" : "s", who, have, (long long)free_bytes);
    }
    context_free(c);
    return e;
}
lk_err resources_backend(grid *g) {
    char *text;
    if (!strcmp(lk_backend_chosen(), "cpu")) return LK_OK;
    LK_TRY(lk_backend_probe(&text, &g->device_room));
    g->device = lk_strdup(g->arena, text);
    free(text);
    return LK_OK;
}
lk_err resources_disk(const grid *g, int runs) {
    struct statvfs v;
    lk_err e = lk_mkdirs(g->results);
    if (e) return e;
    if (statvfs(g->results, &v)) return lk_error(LK_EIO, "%s: %s", g->results, strerror(errno));
    int64_t need = (g->exp->disk_per_run ? g->exp->disk_per_run : (int64_t)1 << 20) * runs, have = (int64_t)v.f_bavail * (int64_t)v.f_frsize;
    if (need <= have) return LK_OK;
    char a[32], b[32];
    return lk_error(LK_EIO, "%s: %d runs need about %s (%lld bytes) and the disk has %s (%lld bytes) free: free some, or set LK_RESULTS to another disk", g->results, runs,
                    bytes_text(need, a), (long long)need, bytes_text(have, b), (long long)have);
}
