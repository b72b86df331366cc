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
    int64_t sum = 0;
    for (int k = 0; k < LK_MEM_CLASSES; k++) sum += plan->by_class[k];
    if (c->most && sum > c->most) {                          /* as the executor will plan it */
        opts.arena_budget = c->most > sum - plan->arena_bytes ? c->most - (sum - plan->arena_bytes) : 1;
        lk_plan_free(plan);
        LK_TRY(lk_err_wrap(lk_plan_new(g, outputs, n, opts, &plan), "plan of %s", name));
    }
    plan_row *rows = lk_alloc(c->arena, sizeof *rows * (size_t)(c->n_plans + 1));
    if (c->n_plans) memcpy(rows, c->plans, sizeof *rows * (size_t)c->n_plans);
    rows[c->n_plans] = (plan_row){.name = lk_strdup(c->arena, name), .flops = plan->flops, .recomputed = plan->recomputed_flops, .text = c->explain ? lk_plan_text(c->arena, g, plan, 6) : NULL};
    memcpy(rows[c->n_plans++].by_class, plan->by_class, sizeof plan->by_class);
    c->plans = rows;
    lk_plan_free(plan);
    return LK_OK;
}
static const char *const class_names[LK_MEM_CLASSES] = {"inputs", "weights", "adapters", "optimiser", "constants", "gradients", "activations", "workspace"};
static int64_t row_sum(const plan_row *r) { int64_t sum = 0; for (int k = 0; k < LK_MEM_CLASSES; k++) sum += r->by_class[k]; return sum; }
static int64_t total(const lk_ctx *c) { int64_t sum = 0; for (int i = 0; i < c->n_plans; i++) sum += row_sum(&c->plans[i]); return sum; }
static void print_table(const lk_ctx *c, FILE *out) {
    char b[32];
    fprintf(out, "%-24s", c->point->label);
    for (int k = 0; k < LK_MEM_CLASSES; k++) fprintf(out, " %12s", class_names[k]);
    fprintf(out, " %12s %10s\n", "sum", "GFLOP");
    for (int i = 0; i < c->n_plans; i++) {
        const plan_row *r = &c->plans[i];
        fprintf(out, "  %-22s", r->name);
        for (int k = 0; k < LK_MEM_CLASSES; k++) fprintf(out, " %12s", bytes_text(r->by_class[k], b));
        fprintf(out, " %12s %10.2f%s\n", bytes_text(row_sum(r), b), (double)r->flops / 1e9, r->recomputed ? lk_fmt(c->arena, ", %.2f of it recomputed", (double)r->recomputed / 1e9) : "");
    }
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
static lk_err ask(const grid *g, int threads, int64_t most, bool explain, lk_ctx **out) {
    lk_ctx *c;
    LK_TRY(context_new(g, largest_point(g), NULL, threads, &c));
    c->explain = explain; c->most = most;
    lk_err e = g->exp->memory(c);
    if (!e && c->error) { e = c->error; c->error = NULL; }
    if (e) context_free(c); else *out = c;
    return e;
}
/* The plans of a worker within mem=: where they are too much together, the largest keeps to what the others leave it. */
static lk_err ask_within(const grid *g, int threads, bool explain, lk_ctx **c) {
    int64_t limit = lk_memory_limit_is(), largest = 0;
    LK_TRY(ask(g, threads, 0, explain, c));
    if (!limit || total(*c) <= limit) return LK_OK;
    for (int i = 0; i < (*c)->n_plans; i++) if (row_sum(&(*c)->plans[i]) > largest) largest = row_sum(&(*c)->plans[i]);
    int64_t others = total(*c) - largest, one = limit > others ? limit - others : 1;
    lk_memory_limit(limit, one);
    context_free(*c);
    return ask(g, threads, one, explain, c);
}
static lk_err too_big(const grid *g, const lk_ctx *c, int64_t limit) {
    char need[32], have[32];
    const plan_row *largest = c->plans;
    for (int i = 1; i < c->n_plans; i++) if (row_sum(&c->plans[i]) > row_sum(largest)) largest = &c->plans[i];
    return lk_error(LK_ENOMEM, "%s needs %s (%lld bytes) a worker though its gradients recompute what they can, and mem= allows %s (%lld bytes): take a smaller batch or rank; the largest is\n%s: %s", g->exp->name,
                    bytes_text(total(c), need), (long long)total(c), bytes_text(limit, have), (long long)limit, largest->name, largest->text ? largest->text : "");
}
lk_err resources_memory(const grid *g, int j, int threads, FILE *out) {
    if (!g->exp->memory) { if (out) fprintf(out, "memory: the experiment does not say\n"); return LK_OK; }
    lk_ctx *c;
    int64_t limit = lk_memory_limit_is();
    LK_TRY(ask_within(g, threads, out != NULL || limit, &c));
    char need[32], have[32];
    const char *who;
    int64_t bytes = total(c) * j, free_bytes = lk_memory_available(&who);
    if (!lk_starts(lk_backend_chosen(), "cpu")) { who = g->device ? "the device" : "the device, which is not here,"; free_bytes = g->device ? g->device_room : INT64_MAX; }
    bytes_text(bytes, need); bytes_text(free_bytes, have);
    if (out) print_table(c, out);
    for (int i = 0; out && i < c->n_plans; i++) fprintf(out, "%s: %s", c->plans[i].name, c->plans[i].text);
    if (out) fprintf(out, "%s for %d worker%s; %s has %s\n", need, j, j == 1 ? "" : "s", who, free_bytes == INT64_MAX ? "an unknown amount" : have);
    lk_err e = LK_OK;
    if (limit && total(c) > limit) e = too_big(g, c, limit);
    else if (bytes > free_bytes) e = lk_error(LK_ENOMEM, "%s needs %s (%lld bytes) for %d worker%s and %s has %s (%lld bytes): take a smaller j, rank or batch, or mem= to recompute", g->exp->name, need,
                                              (long long)bytes, j, j == 1 ? "" : "s", who, have, (long long)free_bytes);
    context_free(c);
    return e;
}
lk_err resources_backend(grid *g) {
    char *text;
    if (lk_starts(lk_backend_chosen(), "cpu")) return LK_OK;
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
