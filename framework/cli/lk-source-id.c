/* Build step: the source id of a program, written into it.
 *     lk-source-id PROGRAM LINKED DEPENDENCIES...
 * LINKED is what the linker said it read (--trace); DEPENDENCIES are the compiler's .d files of every object that could
 * have been. Of the objects that were linked, each source and each header of ours counts, by path and tokens. */
#include "harness/internal.h"
#include <stdlib.h>
#include <string.h>

typedef struct { int n, room; char **at; } paths;
static void add(paths *p, char *path) {
    if (p->n == p->room) { p->room = p->room ? 2 * p->room : 256; p->at = lk_xrealloc(p->at, sizeof *p->at * (size_t)p->room); }
    p->at[p->n++] = path;
}
static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Was X.o linked, as a file or as a member "(X.o)" of an archive? */
static bool linked(const char *trace, const char *d_file) {
    const char *base = strrchr(d_file, '/') ? strrchr(d_file, '/') + 1 : d_file;
    char *object = lk_xfmt("%.*s.o", (int)strlen(base) - 2, base);
    bool found = false;
    size_t n = strlen(object);
    for (const char *s = trace; !found && (s = strstr(s, object)); s++)
        found = (s == trace || strchr("(/\n)", s[-1])) && (!s[n] || strchr(")\n", s[n]));
    free(object);
    return found;
}
/* First rule of a .d file: "target: a b \<newline> c". Paths outside the project (absolute) are the compiler's and the packages'. */
static lk_err read_dependencies(const char *d_file, paths *p) {
    char *text; size_t n;
    LK_TRY(lk_read_file(d_file, &text, &n));
    char *s = strchr(text, ':');
    for (s = s ? s + 1 : text + n; *s && *s != '\n';) {
        if (*s == ' ' || *s == '\t') { s++; continue; }
        if (*s == '\\') { s += s[1] == '\n' ? 2 : 1; continue; }
        size_t k = strcspn(s, " \t\n\\");
        if (*s != '/') add(p, lk_xfmt("%.*s", (int)k, s));
        s += k;
    }
    free(text);
    return LK_OK;
}
static lk_err hash_sources(paths *p, char hex[65]) {
    lk_sha256 all;
    lk_sha256_init(&all);
    qsort(p->at, (size_t)p->n, sizeof *p->at, by_text);
    for (int i = 0; i < p->n; i++) {
        if (i && !strcmp(p->at[i], p->at[i - 1])) continue;
        char *text; size_t n;
        LK_TRY(lk_read_file(p->at[i], &text, &n));
        lk_sha256_add(&all, p->at[i], strlen(p->at[i]) + 1);
        source_tokens(text, n, &all);
        free(text);
    }
    lk_sha256_hex(&all, hex);
    return LK_OK;
}
int main(int argc, char **argv) {
    if (argc < 4) return lk_err_report(lk_error(LK_EINPUT, "usage: lk-source-id PROGRAM LINKED DEPENDENCIES..."));
    char *trace = NULL, hex[65]; size_t n;
    paths p = {0};
    lk_err e = lk_read_file(argv[2], &trace, &n);
    for (int i = 3; i < argc && !e; i++) if (linked(trace, argv[i])) e = read_dependencies(argv[i], &p);
    if (!e && !p.n) e = lk_error(LK_ESTATE, "%s: names none of the objects", argv[2]);
    if (!e) e = hash_sources(&p, hex);
    if (!e) e = source_patch(argv[1], hex);
    for (int i = 0; i < p.n; i++) free(p.at[i]);
    free(p.at);
    free(trace);
    return lk_err_report(e);
}
