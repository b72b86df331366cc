/* Learning-rate schedules under diffusers' names, in binary64 (the rate reaches the graph rounded once). */
#include "train/train.h"
#include "base/exact_math.h"
#include <string.h>

static double at_least_1(int64_t n) { return n > 1 ? (double)n : 1; }
static double progress(const lk_lr *l, int64_t step) { return (double)(step - l->warmup) / at_least_1(l->total - l->warmup); }

static double constant(const lk_lr *l, int64_t step) { (void)l; (void)step; return 1; }
static double linear(const lk_lr *l, int64_t step) {
    double left = (double)(l->total - step) / at_least_1(l->total - l->warmup);
    return left > 0 ? left : 0;
}
static double cosine(const lk_lr *l, int64_t step) {
    double cycles = l->cycles > 0 ? l->cycles : .5, f = .5 * (1 + lk_cos_d(3.14159265358979323846 * cycles * 2 * progress(l, step)));
    return f > 0 ? f : 0;
}
static double restarts(const lk_lr *l, int64_t step) {
    double cycles = l->cycles > 0 ? l->cycles : 1, p = progress(l, step), turn = cycles * p;
    if (p >= 1) return 0;
    return .5 * (1 + lk_cos_d(3.14159265358979323846 * (turn - __builtin_floor(turn))));
}
static double polynomial(const lk_lr *l, int64_t step) {
    double end = l->end > 0 ? l->end : 1e-7, power = l->power > 0 ? l->power : 1, left = 1 - progress(l, step);
    if (step > l->total) return end / l->base;
    double fall = left <= 0 ? 0 : power == 1 ? left : lk_pow_d(left, power);
    return ((l->base - end) * fall + end) / l->base;
}
static const struct { const char *name; bool warmup, total; double (*after)(const lk_lr *, int64_t); } schedules[] = {
    { "constant", false, false, constant }, { "constant_with_warmup", true, false, constant }, { "linear", true, true, linear },
    { "cosine", true, true, cosine }, { "cosine_with_restarts", true, true, restarts }, { "polynomial", true, true, polynomial },
};
enum { N_SCHEDULES = sizeof schedules / sizeof *schedules };

lk_err lk_lr_at(const lk_lr *l, int64_t step, double *rate) {
    const char *names[N_SCHEDULES];
    for (int i = 0; i < N_SCHEDULES; i++) {
        names[i] = schedules[i].name;
        if (strcmp(names[i], l->name)) continue;
        if (schedules[i].total && l->total < 1) return lk_error(LK_EINPUT, "learning-rate schedule %s needs the total number of steps", l->name);
        bool warming = schedules[i].warmup && step < l->warmup;
        *rate = l->base * (warming ? (double)step / at_least_1(l->warmup) : schedules[i].after(l, step));
        return LK_OK;
    }
    return lk_error(LK_EINPUT, "unknown learning-rate schedule \"%s\"; the nearest is %s", l->name, names[lk_nearest(l->name, names, N_SCHEDULES)]);
}
