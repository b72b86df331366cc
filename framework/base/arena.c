/* Arenas: blocks of growing size, freed together; memory comes zeroed and 64-byte aligned. */
#include "base/base.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct block { struct block *next; size_t used, size; char pad[40]; } block;   /* 64 bytes: data follows aligned */
struct lk_arena { block *first; size_t next_size; };

lk_arena *lk_arena_new(void) { lk_arena *a = lk_xcalloc(1, sizeof *a); a->next_size = 1 << 14; return a; }
void lk_arena_free(lk_arena *a) {
    if (!a) return;
    for (block *b = a->first, *next; b; b = next) { next = b->next; free(b); }
    free(a);
}
void *lk_alloc(lk_arena *a, size_t n) {
    n = (n + 63) & ~(size_t)63;
    block *b = a->first;
    if (!b || b->size - b->used < n) {
        size_t size = n > a->next_size ? n : a->next_size;
        if (a->next_size < (size_t)1 << 22) a->next_size *= 2;
        b = lk_xaligned(sizeof *b + size);
        *b = (block){.next = a->first, .size = size};
        a->first = b;
    }
    void *p = (char *)(b + 1) + b->used;
    b->used += n;
    return memset(p, 0, n);
}
char *lk_strdup(lk_arena *a, const char *s) { size_t n = strlen(s) + 1; return memcpy(lk_alloc(a, n), s, n); }
char *lk_vfmt(lk_arena *a, const char *fmt, va_list ap) {
    va_list again; va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    char *s = lk_alloc(a, (size_t)n + 1);
    vsnprintf(s, (size_t)n + 1, fmt, again);
    va_end(again);
    return s;
}
char *lk_fmt(lk_arena *a, const char *fmt, ...) { va_list ap; va_start(ap, fmt); char *s = lk_vfmt(a, fmt, ap); va_end(ap); return s; }
