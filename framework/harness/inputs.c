/* What an experiment reads: the SHA-256 of contents by relative path, part of every identity, and the guard that contents
 * stay what they were. A sweep lasts hours; an input edited meanwhile would give runs that are not what their run_id says.
 * So sizes and times of all files are noted when they are hashed, looked at before each run starts and before it is called
 * done (a millisecond), and only where they moved are the contents hashed again: a mere copy or touch is no edit. */
#include "harness/internal.h"
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Prose about an input is no part of it: a README may be corrected without making every result another. */
static int visible(const struct dirent *d) { return d->d_name[0] != '.' && strncmp(d->d_name, "README", 6) && strncmp(d->d_name, "LICENSE", 7); }
static int bytewise(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }
static lk_err hash_tree(const char *path, const char *relative, lk_sha256 *s) {
    struct stat st;
    if (stat(path, &st)) return lk_error(LK_EINPUT, "%s: %s", path, strerror(errno));
    if (!S_ISDIR(st.st_mode)) {
        char hex[65];
        LK_TRY(lk_sha256_file(path, hex));
        lk_sha256_add(s, relative, strlen(relative) + 1);
        lk_sha256_add(s, hex, 64);
        return LK_OK;
    }
    struct dirent **names;
    int n = scandir(path, &names, visible, bytewise);
    if (n < 0) return lk_error(LK_EIO, "%s: %s", path, strerror(errno));
    lk_err e = LK_OK;
    for (int i = 0; i < n; i++) {
        char *below = lk_xfmt("%s/%s", path, names[i]->d_name), *rel = lk_xfmt("%s%s%s", relative, *relative ? "/" : "", names[i]->d_name);
        if (!e) e = hash_tree(below, rel, s);
        free(below); free(rel); free(names[i]);
    }
    free(names);
    return e;
}
/* Names, sizes and times of modification, in the order of hash_tree. */
static void stamp_tree(const char *path, lk_sha256 *s) {
    struct stat st;
    struct dirent **names;
    if (stat(path, &st)) { lk_sha256_add(s, "gone", 5); return; }
    if (!S_ISDIR(st.st_mode)) {
        int64_t at[] = {st.st_size, st.st_mtim.tv_sec, st.st_mtim.tv_nsec};
        lk_sha256_add(s, path, strlen(path) + 1);
        lk_sha256_add(s, at, sizeof at);
        return;
    }
    int n = scandir(path, &names, visible, bytewise);
    for (int i = 0; i < n; i++) {
        char *below = lk_xfmt("%s/%s", path, names[i]->d_name);
        stamp_tree(below, s);
        free(below); free(names[i]);
    }
    if (n >= 0) free(names);
}
static void stamp(const char *path, char hex[65]) {
    lk_sha256 s;
    lk_sha256_init(&s);
    stamp_tree(path, &s);
    lk_sha256_hex(&s, hex);
}
static lk_err contents(const char *path, char hex[65]) {
    lk_sha256 s;
    lk_sha256_init(&s);
    LK_TRY(hash_tree(path, "", &s));
    lk_sha256_hex(&s, hex);
    return LK_OK;
}
static const char *path_of(const grid *g, const lk_hashed *h) {
    if (*h->path != '$') return h->path;
    for (int i = 0; i < g->n_keys; i++) if (!strcmp(g->keys[i].name, h->path + 1)) return g->keys[i].values[0];
    return h->path;
}
lk_err inputs_hash(grid *g) {
    int n = 0;
    for (const lk_hashed *h = g->exp->inputs; h && h->name; h++) n++;
    g->inputs = lk_alloc(g->arena, sizeof *g->inputs * (size_t)(n + 1));
    for (const lk_hashed *h = g->exp->inputs; h && h->name; h++) {
        grid_input *in = &g->inputs[g->n_inputs];
        *in = (grid_input){.name = h->name, .path = path_of(g, h)};
        if (!*in->path) continue;
        stamp(in->path, in->stamp);                /* first: an edit while it is hashed is seen later */
        LK_TRY(lk_err_wrap(contents(in->path, in->hash), "input %s of %s", h->name, g->exp->name));
        g->n_inputs++;
    }
    return LK_OK;
}
lk_err inputs_unchanged(const grid *g) {
    char now[65];
    for (int i = 0; i < g->n_inputs; i++) {
        const grid_input *in = &g->inputs[i];
        stamp(in->path, now);
        if (!strcmp(now, in->stamp)) continue;
        LK_TRY(lk_err_wrap(contents(in->path, now), "input %s of %s", in->name, g->exp->name));
        if (strcmp(now, in->hash))
            return lk_error(LK_ESTATE, "input %s (%s) was edited after this sweep began, so its runs would not be what their run_id says: put it back, or let it be and run again for new identities; "
                                       "what is finished is kept", in->name, in->path);
    }
    return LK_OK;
}
