/* Files of a tree of cases: the walk, what was claimed, and safetensors whose tensors must all be known. */
#include "cli/golden/golden.h"
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- claims --------------------------------------------------------------------------------------------------- */
static char *canonical(const char *path) {
    char *real = realpath(path, NULL);
    return real ? real : lk_xstrdup(path);
}
static bool is_claimed(const lk_golden *g, const char *real) {
    for (int i = 0; i < g->n_claimed; i++) if (!strcmp(g->claimed[i], real)) return true;
    return false;
}
void lk_golden_claim(lk_golden *g, const char *path) {
    char *real = canonical(path);
    if (is_claimed(g, real)) { free(real); return; }
    g->claimed = lk_xrealloc(g->claimed, (size_t)(g->n_claimed + 1) * sizeof *g->claimed);
    g->claimed[g->n_claimed++] = real;
}
char *lk_golden_path(lk_arena *a, const char *dir, const char *relative) { return lk_fmt(a, "%s/%s", dir, relative); }

lk_err lk_golden_json(lk_golden *g, const char *path, json_t **out) {
    LK_TRY(lk_json_load(path, out));
    lk_golden_claim(g, path);
    return LK_OK;
}

/* ---- safetensors ------------------------------------------------------------------------------------------------ */
lk_err lk_golden_open(lk_golden *g, const char *path, lk_golden_file *f) {
    *f = (lk_golden_file){ 0 };
    LK_TRY(lk_st_open(path, &f->st));
    lk_golden_claim(g, path);
    f->known = lk_xcalloc((size_t)lk_st_count(f->st) + 1, sizeof *f->known);
    return LK_OK;
}
const lk_tensor *lk_golden_get(lk_golden_file *f, const char *fmt, ...) {
    char name[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    for (int lo = 0, hi = lk_st_count(f->st) - 1; lo <= hi;) {
        int mid = (lo + hi) / 2, c = strcmp(name, lk_st_at(f->st, mid)->name);
        if (c == 0) { f->known[mid] = true; return lk_st_at(f->st, mid); }
        if (c < 0) hi = mid - 1; else lo = mid + 1;
    }
    return NULL;
}
void lk_golden_know(lk_golden_file *f, const char *prefix) {
    for (int i = 0; i < lk_st_count(f->st); i++) if (lk_starts(lk_st_at(f->st, i)->name, prefix)) f->known[i] = true;
}
void lk_golden_close(lk_golden *g, lk_golden_file *f) {
    if (!f->st) return;
    for (int i = 0; i < lk_st_count(f->st); i++)
        if (!f->known[i]) lk_golden_check(g, false, "%s: tensor %s is not known to any handler", lk_st_path(f->st), lk_st_at(f->st, i)->name);
    free(f->known);
    lk_st_close(f->st);
    *f = (lk_golden_file){ 0 };
}
double *lk_golden_f64(const lk_tensor *t) {
    if (!t) return NULL;
    double *v = lk_xmalloc((size_t)(t->numel + 1) * sizeof *v);
    lk_err e = LK_OK;
    if (t->dtype == LK_ST_I64) {
        int64_t *k = lk_golden_i64(t);
        for (int64_t i = 0; k && i < t->numel; i++) v[i] = (double)k[i];
        free(k);
        return v;
    }
    e = lk_st_f64(t, v);
    if (e) { lk_err_free(e); free(v); return NULL; }
    return v;
}
int64_t *lk_golden_i64(const lk_tensor *t) {
    if (!t) return NULL;
    int64_t *v = lk_xmalloc((size_t)(t->numel + 1) * sizeof *v);
    lk_err e = lk_st_i64(t, v);
    if (e) { lk_err_free(e); free(v); return NULL; }
    return v;
}

/* ---- the walk --------------------------------------------------------------------------------------------------- */
typedef struct { char **path; int n; } listing;
static void add_file(listing *l, const char *path) {
    l->path = lk_xrealloc(l->path, (size_t)(l->n + 1) * sizeof *l->path);
    l->path[l->n++] = lk_xstrdup(path);
}
static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }
static lk_err list_tree(listing *l, const char *path, int depth) {
    struct stat st;
    if (stat(path, &st)) return lk_error(LK_EINPUT, "%s: no such case or tree", path);
    if (!S_ISDIR(st.st_mode)) { add_file(l, path); return LK_OK; }
    if (depth > 16) return lk_error(LK_EINPUT, "%s: more than 16 folders deep", path);
    DIR *d = opendir(path);
    if (!d) return lk_error(LK_EIO, "%s: cannot be listed", path);
    lk_err e = LK_OK;
    for (struct dirent *it; !e && (it = readdir(d));) {
        if (it->d_name[0] == '.') continue;
        char *child = lk_xfmt("%s/%s", path, it->d_name);
        e = list_tree(l, child, depth + 1);
        free(child);
    }
    closedir(d);
    return e;
}
static const char *base_name(const char *path) { const char *s = strrchr(path, '/'); return s ? s + 1 : path; }

static void offer(lk_golden *g, const char *path) {
    bool may = false;
    for (const lk_golden_handler *h = lk_golden_handlers; h->file; h++) may |= !strcmp(h->file, base_name(path));
    if (!may) return;
    json_t *json = NULL;
    if (lk_ends(path, ".json")) {
        lk_err e = lk_golden_json(g, path, &json);
        if (e) { lk_golden_failed(g, path, e); return; }
    } else lk_golden_claim(g, path);
    char *dir = lk_xstrdup(path);
    *(dir + (base_name(path) - path)) = 0;
    size_t n = strlen(dir);
    if (n == 0) { free(dir); dir = lk_xstrdup("."); }
    else if (n > 1) dir[n - 1] = 0;
    const lk_golden_handler *h = lk_golden_handlers;
    while (h->file && (strcmp(h->file, base_name(path)) || (h->key && !json_object_get(json, h->key)))) h++;
    printf("%s\n", path);
    if (h->file) lk_golden_failed(g, path, h->run(g, path, dir, json));
    else lk_golden_check(g, false, "%s: no handler knows this kind of case", path);
    fflush(stdout);
    free(dir);
    json_decref(json);
}
lk_err lk_golden_walk(lk_golden *g, const char *path) {
    listing l = { 0 };
    lk_err e = list_tree(&l, path, 0);
    if (!e) {
        qsort(l.path, (size_t)l.n, sizeof *l.path, by_name);
        for (int i = 0; i < l.n; i++) offer(g, l.path[i]);
        for (int i = 0; i < l.n; i++) {
            char *real = canonical(l.path[i]);
            if (!is_claimed(g, real) && !lk_ends(l.path[i], ".md")) lk_golden_check(g, false, "%s: no handler knows this file", l.path[i]);
            free(real);
        }
    }
    for (int i = 0; i < l.n; i++) free(l.path[i]);
    free(l.path);
    return e;
}
