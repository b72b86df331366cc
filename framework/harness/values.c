/* Values as people write them: "1,2,4", "0..5", "s29..s40", "1e-3". One syntax for experiments and for set=.
 * Every refusal says the nearest allowed word and the whole set. */
#include "harness/internal.h"
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const profile_names[LK_PROFILES] = {"tiny", "smoke", "default", "paper"};
enum { MOST_VALUES = 100000 };

typedef struct { lk_arena *arena; const char *where; int n, room; const char **at; } list;
static lk_err add(list *l, const char *value) {
    if (l->n == MOST_VALUES) return lk_error(LK_EINPUT, "%s: more than %d values", l->where, MOST_VALUES);
    if (l->n == l->room) {
        const char **more = lk_alloc(l->arena, sizeof *more * (size_t)(l->room ? 2 * l->room : 16));
        if (l->n) memcpy(more, l->at, sizeof *more * (size_t)l->n);
        l->at = more; l->room = l->room ? 2 * l->room : 16;
    }
    l->at[l->n++] = value;
    return LK_OK;
}
/* "s29" -> prefix length 1 and 29; false where it does not end in digits. */
static bool numbered(const char *s, int *prefix, long *number, int *width) {
    size_t n = strlen(s), at = n;
    while (at && isdigit((unsigned char)s[at - 1])) at--;
    if (at == n || n - at > 9) return false;
    *prefix = (int)at; *number = strtol(s + at, NULL, 10); *width = (int)(n - at);
    return true;
}
static lk_err add_range(list *l, const char *from, const char *to) {
    int p0, p1, w0, w1; long a, b;
    if (!numbered(from, &p0, &a, &w0) || !numbered(to, &p1, &b, &w1) || (p1 && (p0 != p1 || strncmp(from, to, (size_t)p0))))
        return lk_error(LK_EINPUT, "%s: \"%s..%s\" is not a range; write 0..5 or s29..s40", l->where, from, to);
    if (b < a) return lk_error(LK_EINPUT, "%s: the range %s..%s runs backwards", l->where, from, to);
    for (long i = a; i <= b; i++) LK_TRY(add(l, lk_fmt(l->arena, "%.*s%0*ld", p0, from, from[p0] == '0' ? w0 : 1, i)));
    return LK_OK;
}
static int compare_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }
static lk_err refuse_doubles(const list *l) {
    const char **sorted = lk_xmalloc(sizeof *sorted * (size_t)l->n);
    memcpy(sorted, l->at, sizeof *sorted * (size_t)l->n);
    qsort(sorted, (size_t)l->n, sizeof *sorted, compare_text);
    lk_err e = LK_OK;
    for (int i = 1; i < l->n && !e; i++) if (!strcmp(sorted[i - 1], sorted[i])) e = lk_error(LK_EINPUT, "%s: %s is given twice", l->where, sorted[i]);
    free(sorted);
    return e;
}
lk_err values_parse(lk_arena *arena, const char *text, const char *where, int *n, const char ***values) {
    list l = {arena, where};
    for (const char *s = text;; ) {
        size_t k = strcspn(s, ",");
        char *item = lk_fmt(arena, "%.*s", (int)k, s), *dots = strstr(item, "..");
        if (!k) return lk_error(LK_EINPUT, "%s: \"%s\" has an empty value; write values with commas (1,2,4) or a range (0..5)", where, text);
        if (dots) { *dots = 0; LK_TRY(add_range(&l, item, dots + 2)); } else LK_TRY(add(&l, item));
        if (!s[k]) break;
        s += k + 1;
    }
    LK_TRY(refuse_doubles(&l));
    *n = l.n; *values = l.at;
    return LK_OK;
}

static bool whole(const char *s) {
    char *end; errno = 0;
    strtoll(s, &end, 10);
    return *s && !isspace((unsigned char)*s) && !*end && !errno;
}
static bool number(const char *s) {
    char *end;
    double x = strtod(s, &end);
    return *s && !isspace((unsigned char)*s) && !*end && isfinite(x);
}
lk_kind values_kind(int n, const char *const *values) {
    lk_kind kind = LK_INT;
    for (int i = 0; i < n; i++) {
        if (kind == LK_INT && !whole(values[i])) kind = LK_REAL;
        if (kind == LK_REAL && !number(values[i])) return LK_TEXT;
    }
    return kind;
}
lk_err value_canonical(lk_arena *arena, lk_kind kind, const char *text, const char *where, const char **out) {
    *out = text;
    if (kind == LK_INT) {
        if (!whole(text)) return lk_error(LK_EINPUT, "%s: \"%s\" is not a whole number", where, text);
        *out = lk_fmt(arena, "%lld", strtoll(text, NULL, 10));
    } else if (kind == LK_REAL) {
        if (!number(text)) return lk_error(LK_EINPUT, "%s: \"%s\" is not a number", where, text);
        char s[40];
        double x = strtod(text, NULL);
        for (int digits = 1; digits <= 17; digits++) { snprintf(s, sizeof s, "%.*g", digits, x); if (strtod(s, NULL) == x) break; }
        *out = lk_strdup(arena, s);
    } else for (const char *s = text; *s; s++) if ((unsigned char)*s < 32 || *s == '=') return lk_error(LK_EINPUT, "%s: \"%s\" has a character a value cannot have", where, text);
    return LK_OK;
}
char *value_exact(lk_arena *arena, lk_kind kind, const char *text) { return kind == LK_REAL ? lk_fmt(arena, "%a", strtod(text, NULL)) : lk_strdup(arena, text); }

lk_err not_allowed(const char *what, const char *word, const char *const *allowed, int n) {
    lk_buf b = {0};
    for (int i = 0; i < n && i < 60; i++) lk_buf_fmt(&b, "%s%s", i ? ", " : "", allowed[i]);
    if (n > 60) lk_buf_fmt(&b, ", ... (%d)", n);
    lk_err e = n ? lk_error(LK_EINPUT, "%s \"%s\" is not known; nearest is \"%s\"; there are: %s", what, word, allowed[lk_nearest(word, allowed, n)], b.s)
                 : lk_error(LK_EINPUT, "%s \"%s\" is not known; there are none", what, word);
    free(b.s);
    return e;
}
