/* Errors and memory that cannot fail. An lk_err owns its message; NULL is success. */
#include "base/base.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct lk_error { lk_code code; char *text; };

void *lk_xmalloc(size_t n) {
    void *p = malloc(n ? n : 1);
    if (!p) { fprintf(stderr, "lk: out of memory: %zu bytes asked for\n", n); exit(LK_ENOMEM); }
    return p;
}
void *lk_xcalloc(size_t n, size_t size) {
    void *p = calloc(n ? n : 1, size ? size : 1);
    if (!p) { fprintf(stderr, "lk: out of memory: %zu x %zu bytes asked for\n", n, size); exit(LK_ENOMEM); }
    return p;
}
void *lk_xrealloc(void *p, size_t n) {
    p = realloc(p, n ? n : 1);
    if (!p) { fprintf(stderr, "lk: out of memory: %zu bytes asked for\n", n); exit(LK_ENOMEM); }
    return p;
}
enum { LARGE_PAGE = 2 << 20 };                            /* walks over big arrays then miss few translations, and first touches are few */
static void large_pages(void *p, size_t n) {
    (void)p; (void)n;
#ifdef MADV_HUGEPAGE
    if (n >= 2 * LARGE_PAGE) madvise(p, n, MADV_HUGEPAGE);
#endif
}
void *lk_xaligned(size_t n) {
    n = (n + 63) & ~(size_t)63;
    void *p;                                              /* not aligned_alloc: n need be no multiple of the large alignment */
    if (posix_memalign(&p, n >= 2 * LARGE_PAGE ? LARGE_PAGE : 64, n ? n : 64)) { fprintf(stderr, "lk: out of memory: %zu bytes asked for\n", n); exit(LK_ENOMEM); }
    large_pages(p, n);
    return p;
}
void *lk_xzeros(size_t n, void **base) {
    const size_t align = n >= 2 * LARGE_PAGE ? LARGE_PAGE : 64;
    *base = lk_xcalloc(1, n + align);
    char *p = (char *)*base + (align - (uintptr_t)*base % align) % align;
    large_pages(p, n);
    return p;
}
char *lk_xstrdup(const char *s) { size_t n = strlen(s) + 1; return memcpy(lk_xmalloc(n), s, n); }

static char *format(const char *fmt, va_list ap) {
    va_list again; va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    char *s = lk_xmalloc((size_t)n + 1);
    vsnprintf(s, (size_t)n + 1, fmt, again);
    va_end(again);
    return s;
}
char *lk_xfmt(const char *fmt, ...) { va_list ap; va_start(ap, fmt); char *s = format(fmt, ap); va_end(ap); return s; }

lk_err lk_error(lk_code code, const char *fmt, ...) {
    lk_err e = lk_xmalloc(sizeof *e);
    va_list ap; va_start(ap, fmt);
    *e = (struct lk_error){code, format(fmt, ap)};
    va_end(ap);
    return e;
}
lk_err lk_err_wrap(lk_err e, const char *fmt, ...) {
    if (!e) return NULL;
    va_list ap; va_start(ap, fmt); char *context = format(fmt, ap); va_end(ap);
    char *text = lk_xfmt("%s: %s", context, e->text);
    free(context); free(e->text);
    e->text = text;
    return e;
}
const char *lk_err_text(lk_err e) { return e ? e->text : ""; }
lk_code lk_err_code(lk_err e) { return e ? e->code : 0; }
void lk_err_free(lk_err e) { if (e) { free(e->text); free(e); } }
int lk_err_report(lk_err e) {
    if (!e) return 0;
    int status = e->code == LK_EINPUT || e->code == LK_ESHAPE ? 2 : (int)e->code;
    fprintf(stderr, "lk: %s\n", e->text);
    lk_err_free(e);
    return status;
}
