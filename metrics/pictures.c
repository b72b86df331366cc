/* Folders, pictures and stacks as one kind of source (pictures.h). */
#include "metrics/pictures.h"
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct lk_pictures { char *root, **path; int64_t n; lk_stack *stack; int h, w, c; bool real; double range; };

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }
static bool is_picture(const char *name) {
    static const char *const ends[] = { ".png", ".jpg", ".jpeg", ".PNG", ".JPG", ".JPEG" };
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) if (lk_ends(name, ends[i])) return true;
    return false;
}
static void add(lk_pictures *p, char *path) {
    if (!(p->n & (p->n - 1))) p->path = lk_xrealloc(p->path, (size_t)(p->n ? 2 * p->n : 1) * sizeof *p->path);
    p->path[p->n++] = path;
}
static lk_err open_folder(lk_pictures *p) {
    DIR *d = opendir(p->root);
    if (!d) return lk_error(LK_EIO, "%s: cannot be opened", p->root);
    for (struct dirent *e; (e = readdir(d));) if (is_picture(e->d_name)) add(p, lk_xfmt("%s/%s", p->root, e->d_name));
    closedir(d);
    if (!p->n) return lk_error(LK_EINPUT, "%s: no pictures (.png, .jpg, .jpeg)", p->root);
    qsort(p->path, (size_t)p->n, sizeof *p->path, by_text);
    return LK_OK;
}
/* FILE.h5 or FILE.h5:/NAME */
static lk_err open_stack(lk_pictures *p) {
    char *file = lk_xstrdup(p->root), *colon = strrchr(file, ':');
    if (colon) *colon = 0;
    lk_err e = lk_stack_open(file, colon ? colon + 1 : NULL, &p->stack);
    if (!e) p->n = lk_stack_shape(p->stack, &p->h, &p->w, &p->c, &p->real);
    if (!e && p->real && !(p->range > 0)) e = lk_error(LK_EINPUT, "%s: real values; say their range, --range 1 or --range 255", p->root);
    for (int64_t i = 0; i < p->n && !e; i++) p->path = lk_xrealloc(p->path, (size_t)(i + 1) * sizeof *p->path), p->path[i] = lk_xfmt("%s[%lld]", p->root, (long long)i);
    if (e) p->n = 0;
    free(file);
    return e;
}
lk_err lk_pictures_open(const char *path, double range, lk_pictures **out) {
    struct stat st;
    lk_pictures *p = lk_xcalloc(1, sizeof *p);
    *p = (lk_pictures){ .root = lk_xstrdup(path), .range = range };
    bool stack = lk_ends(path, ".h5") || lk_ends(path, ".hdf5") || strstr(path, ".h5:") || strstr(path, ".hdf5:");
    lk_err e = LK_OK;
    if (stack) e = open_stack(p);
    else if (stat(path, &st)) e = lk_error(LK_EINPUT, "%s: no such folder or picture", path);
    else if (S_ISDIR(st.st_mode)) e = open_folder(p);
    else add(p, lk_xstrdup(path));
    if (e) lk_pictures_close(p);
    else *out = p;
    return e;
}
void lk_pictures_close(lk_pictures *p) {
    if (!p) return;
    for (int64_t i = 0; i < p->n; i++) free(p->path[i]);
    free(p->path);
    free(p->root);
    lk_stack_close(p->stack);
    free(p);
}
int64_t lk_pictures_count(const lk_pictures *p) { return p->n; }
const char *lk_pictures_path(const lk_pictures *p, int64_t i) { return p->path[i]; }
const char *lk_pictures_name(const lk_pictures *p, int64_t i) {
    const char *slash = strrchr(p->path[i], p->stack ? '[' : '/');
    return slash ? slash + (p->stack ? 0 : 1) : p->path[i];
}
const char *lk_pictures_decoder(const lk_pictures *p) { return p->stack ? p->real ? "HDF5 real values" : "HDF5 bytes" : lk_image_decoder(); }
lk_err lk_pictures_read(lk_pictures *p, int64_t i, lk_picture *out) {
    lk_image *im = lk_xcalloc(1, sizeof *im);
    *out = (lk_picture){ 0 };
    lk_err e;
    if (!p->stack) e = lk_image_read(p->path[i], im);
    else if (p->real) {
        double *v = lk_xmalloc((size_t)p->h * (size_t)p->w * (size_t)p->c * sizeof *v);
        e = lk_stack_read(p->stack, i, v);
        *out = (lk_picture){ NULL, v, p->h, p->w, p->c, p->range };
        free(im);
        if (!e) e = lk_err_wrap(lk_picture_check(out), "%s", p->path[i]);
        if (e) lk_pictures_drop(out);
        return e;
    } else {
        *im = lk_image_new(p->w, p->h, p->c);
        e = lk_stack_read(p->stack, i, im->px);
    }
    if (e) { lk_image_free(im); free(im); }
    else *out = lk_picture_of(im);
    return e;
}
void lk_pictures_drop(lk_picture *p) {
    lk_image *im = (lk_image *)p->u8;
    if (im) lk_image_free(im);
    free(im);
    free((double *)p->real);
    *p = (lk_picture){ 0 };
}
lk_err lk_pictures_paired(const lk_pictures *a, const lk_pictures *b) {
    if (a->n == 1 && b->n == 1) return LK_OK;
    if (a->stack || b->stack)
        return a->n == b->n ? LK_OK : lk_error(LK_EINPUT, "%s has %lld pictures and %s %lld: they pair by index", a->root, (long long)a->n, b->root, (long long)b->n);
    for (int64_t i = 0; i < a->n || i < b->n; i++) {
        int order = i >= a->n ? 1 : i >= b->n ? -1 : strcmp(lk_pictures_name(a, i), lk_pictures_name(b, i));
        if (order) return lk_error(LK_EINPUT, "%s has no partner of that name in the other folder (%lld and %lld pictures)", order < 0 ? a->path[i] : b->path[i], (long long)a->n, (long long)b->n);
    }
    return LK_OK;
}
