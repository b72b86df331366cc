/* Stacks of pictures in an HDF5 file: one data set [n][h][w] or [n][h][w][c] of bytes, or of real values. A picture at a time is read,
 * so a stack of any length takes the memory of one. */
#include "io/run.h"
#include <hdf5.h>
#include <stdlib.h>
#include <string.h>

struct lk_stack { char *path, *name; hid_t file, set; int64_t n; int h, w, c; bool real; };

static lk_err broken(const char *path, const char *what) {
    char why[256];
    run_hdf5_reason(why, sizeof why);
    return lk_error(LK_EINPUT, "%s: %s (HDF5: %s)", path, what, why);
}
/* The only data set of the root group, where none is named. */
static herr_t only_one(hid_t group, const char *name, const H5L_info_t *info, void *ctx) {
    char **found = ctx;
    (void)info;
    H5O_info_t o;
    if (H5Oget_info_by_name(group, name, &o, H5P_DEFAULT) < 0 || o.type != H5O_TYPE_DATASET) return 0;
    if (*found) { free(*found); *found = NULL; return 1; }
    *found = lk_xstrdup(name);
    return 0;
}
static lk_err shape_of(lk_stack *s) {
    hsize_t d[4] = { 0, 0, 0, 1 };
    hid_t space = H5Dget_space(s->set), type = H5Dget_type(s->set);
    int rank = H5Sget_simple_extent_ndims(space);
    if (rank == 3 || rank == 4) H5Sget_simple_extent_dims(space, d, NULL);
    H5T_class_t kind = H5Tget_class(type);
    size_t size = H5Tget_size(type);
    bool bytes = kind == H5T_INTEGER && size == 1 && H5Tget_sign(type) == H5T_SGN_NONE;
    s->real = kind == H5T_FLOAT;
    H5Sclose(space);
    H5Tclose(type);
    if ((rank != 3 && rank != 4) || d[0] < 1 || d[1] < 1 || d[2] < 1 || d[1] > 32768 || d[2] > 32768 || (d[3] != 1 && d[3] != 3))
        return lk_error(LK_EINPUT, "%s:%s is no stack of pictures: [n][h][w] or [n][h][w][c] with c of 1 or 3, sides up to 32768", s->path, s->name);
    if (!bytes && !s->real) return lk_error(LK_EINPUT, "%s:%s has integers of %zu bytes; pictures are unsigned bytes, or real values with a stated range", s->path, s->name, size);
    s->n = (int64_t)d[0];
    s->h = (int)d[1];
    s->w = (int)d[2];
    s->c = (int)d[3];
    return LK_OK;
}
static lk_err open_set(lk_stack *s, const char *dataset) {
    if ((s->file = H5Fopen(s->path, H5F_ACC_RDONLY, H5P_DEFAULT)) < 0) return broken(s->path, "cannot be opened");
    if (dataset) s->name = lk_xstrdup(dataset);
    else {
        hsize_t at = 0;
        H5Literate(s->file, H5_INDEX_NAME, H5_ITER_INC, &at, only_one, &s->name);
        if (!s->name) return lk_error(LK_EINPUT, "%s: say which data set holds the pictures, FILE.h5:/NAME (the root has none, or several)", s->path);
    }
    if ((s->set = H5Dopen(s->file, s->name, H5P_DEFAULT)) < 0) return lk_error(LK_EINPUT, "%s: no data set %s", s->path, s->name);
    return shape_of(s);
}
lk_err lk_stack_open(const char *path, const char *dataset, lk_stack **out) {
    lk_stack *s = lk_xcalloc(1, sizeof *s);
    s->path = lk_xstrdup(path);
    s->file = s->set = -1;
    run_hdf5_enter();
    lk_err e = open_set(s, dataset);
    run_hdf5_leave();
    if (e) lk_stack_close(s);
    else *out = s;
    return e;
}
void lk_stack_close(lk_stack *s) {
    if (!s) return;
    run_hdf5_enter();
    if (s->set >= 0) H5Dclose(s->set);
    if (s->file >= 0) H5Fclose(s->file);
    run_hdf5_leave();
    free(s->path);
    free(s->name);
    free(s);
}
int64_t lk_stack_shape(const lk_stack *s, int *h, int *w, int *c, bool *real) {
    *h = s->h;
    *w = s->w;
    *c = s->c;
    *real = s->real;
    return s->n;
}
lk_err lk_stack_read(lk_stack *s, int64_t i, void *out) {
    hsize_t from[4] = { (hsize_t)i }, size[4] = { 1, (hsize_t)s->h, (hsize_t)s->w, (hsize_t)s->c }, n = (hsize_t)s->h * (hsize_t)s->w * (hsize_t)s->c;
    if (i < 0 || i >= s->n) return lk_error(LK_EINPUT, "%s:%s has %lld pictures, no number %lld", s->path, s->name, (long long)s->n, (long long)i);
    run_hdf5_enter();
    hid_t space = H5Dget_space(s->set), memory = H5Screate_simple(1, &n, NULL);
    bool ok = H5Sselect_hyperslab(space, H5S_SELECT_SET, from, NULL, size, NULL) >= 0
           && H5Dread(s->set, s->real ? H5T_NATIVE_DOUBLE : H5T_NATIVE_UINT8, memory, space, H5P_DEFAULT, out) >= 0;
    lk_err e = ok ? LK_OK : broken(s->path, "a picture cannot be read");
    H5Sclose(space);
    H5Sclose(memory);
    run_hdf5_leave();
    return e;
}
