/* What the machine and the cgroups of this process leave us: MemAvailable of /proc/meminfo, and the
 * limits of every cgroup (v1 or v2) from our own up to the root, since any of them may be the tight one. */
#include "backend/memory.h"
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t mem_available(void) {
    FILE *f = fopen("/proc/meminfo", "r");
    if (!f) return INT64_MAX;
    char line[256]; long long kib = -1;
    while (fgets(line, sizeof line, f)) if (sscanf(line, "MemAvailable: %lld kB", &kib) == 1) break;
    fclose(f);
    return kib < 0 ? INT64_MAX : kib * 1024;
}

/* A limit file holds a number or "max". */
static int64_t read_limit(const char *path) {
    FILE *f = fopen(path, "r");
    if (!f) return INT64_MAX;
    long long v; int64_t limit = fscanf(f, "%lld", &v) == 1 && v > 0 ? v : INT64_MAX;
    fclose(f);
    return limit;
}

static int64_t limit_upwards(const char *root, const char *file, char *group) {
    int64_t least = INT64_MAX;
    for (;;) {
        char path[PATH_MAX + 128];
        snprintf(path, sizeof path, "%s%s/%s", root, group, file);
        int64_t here = read_limit(path);
        if (here < least) least = here;
        char *slash = strrchr(group, '/');
        if (!slash) return least;
        *slash = 0;
    }
}

static int64_t cgroup_limit(void) {
    FILE *f = fopen("/proc/self/cgroup", "r");
    if (!f) return INT64_MAX;
    int64_t least = INT64_MAX;
    char line[PATH_MAX], controllers[256], group[PATH_MAX]; int id;
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        controllers[0] = 0;
        bool v2 = sscanf(line, "%d::%4095[^\n]", &id, group) == 2;
        if (!v2 && sscanf(line, "%d:%255[^:]:%4095[^\n]", &id, controllers, group) != 3) continue;
        int64_t here = v2 ? limit_upwards("/sys/fs/cgroup", "memory.max", group)
                     : strstr(controllers, "memory") ? limit_upwards("/sys/fs/cgroup/memory", "memory.limit_in_bytes", group) : INT64_MAX;
        if (here < least) least = here;
    }
    fclose(f);
    return least;
}

int64_t lk_memory_available(const char **who) {
    int64_t machine = mem_available(), group = cgroup_limit();
    *who = group < machine ? "the cgroup" : "the machine";
    return group < machine ? group : machine;
}

lk_err lk_memory_parse(const char *text, int64_t *bytes) {
    char *end;
    double x = strtod(text, &end), unit = *end == 'G' ? 0x1p30 : *end == 'M' ? 0x1p20 : 1;
    if (unit > 1) end++;
    if (end == text || *end || !(x * unit >= 1) || x * unit > 0x1p50) return lk_error(LK_EINPUT, "mem=%s: a size as 2G, 800M or a number of bytes", text);
    *bytes = (int64_t)(x * unit);
    return LK_OK;
}

static int64_t limit_all, limit_one, held;
void lk_memory_limit(int64_t bytes, int64_t one) { limit_all = bytes; limit_one = one; }
int64_t lk_memory_limit_is(void) { return limit_all; }
int64_t lk_memory_limit_left(void) { return limit_all <= 0 ? INT64_MAX : limit_all > held ? limit_all - held : 1; }
int64_t lk_memory_limit_one(void) { return limit_all > 0 && limit_one > 0 ? limit_one : INT64_MAX; }
void lk_memory_hold(int64_t bytes) { __atomic_add_fetch(&held, bytes, __ATOMIC_RELAXED); }
