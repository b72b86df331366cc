/* The run file as HDF5, written: an image built in memory (core driver, no backing file), then path.tmp,
 * fsync, rename. A kill at any moment leaves the old file or the new one.
 *
 * Layout: docs/design.md, Files. Groups keep the order in which members were made (netCDF wants it, people
 * like it). Columns are 1-D, unlimited, chunks of 1024, fill value NaN; `step` is the dimension scale of
 * its split and /samples/sample that of the samples, so xarray and ncdump see one dimension a group.
 * Object times are off: the same record gives the same bytes. */
#include "io/run.h"
#include <hdf5.h>
#include <hdf5_hl.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- HDF5 is one thread's at a time ----------------------------------------------------------------- */
static pthread_mutex_t hdf5_lock = PTHREAD_MUTEX_INITIALIZER;     /* the library is built without thread safety */
static H5E_auto2_t old_print; static void *old_data;              /* guarded by it */
void run_hdf5_enter(void) {
    pthread_mutex_lock(&hdf5_lock);
    H5Eget_auto2(H5E_DEFAULT, &old_print, &old_data);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}
void run_hdf5_leave(void) {
    H5Eset_auto2(H5E_DEFAULT, old_print, old_data);
    pthread_mutex_unlock(&hdf5_lock);
}
typedef struct { char *to; size_t n; } reason;
static herr_t keep_first(unsigned n, const H5E_error2_t *e, void *data) {
    const reason *r = data;
    if (n == 0) snprintf(r->to, r->n, "%s", e->desc ? e->desc : "no description");
    return 0;
}
void run_hdf5_reason(char *to, size_t n) {
    snprintf(to, n, "no description");
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, &(reason){to, n});
}

/* ---- the writer: the first failure is kept, later steps do nothing -------------------------------------- */
typedef struct { hid_t file, text /* UTF-8, variable length */, group_list, column_list; bool failed; char what[128], why[256]; } writer;

static bool step(writer *w, bool ok, const char *what) {
    if (ok || w->failed) return ok;
    w->failed = true;
    snprintf(w->what, sizeof w->what, "%s", what);
    run_hdf5_reason(w->why, sizeof w->why);
    return false;
}
static void attribute(writer *w, hid_t at, const char *name, hid_t stored, hid_t in_memory, const void *value) {
    if (w->failed) return;
    hid_t one = H5Screate(H5S_SCALAR), a = H5Acreate2(at, name, stored, one, H5P_DEFAULT, H5P_DEFAULT);
    step(w, a >= 0 && H5Awrite(a, in_memory, value) >= 0, name);
    if (a >= 0) H5Aclose(a);
    H5Sclose(one);
}
static void text_attribute(writer *w, hid_t at, const char *name, const char *text) { attribute(w, at, name, w->text, w->text, &text); }
static hid_t group(writer *w, hid_t at, const char *name) {
    if (w->failed) return -1;
    hid_t g = H5Gcreate2(at, name, H5P_DEFAULT, w->group_list, H5P_DEFAULT);
    step(w, g >= 0, name);
    return g;
}
static void leave(hid_t g) { if (g >= 0) H5Gclose(g); }
static void scalar(writer *w, hid_t at, const char *name, double value, const double *tolerance) {
    if (w->failed) return;
    hid_t list = H5Pcreate(H5P_DATASET_CREATE), one = H5Screate(H5S_SCALAR);
    H5Pset_obj_track_times(list, false);
    hid_t d = H5Dcreate2(at, name, H5T_IEEE_F64LE, one, H5P_DEFAULT, list, H5P_DEFAULT);
    step(w, d >= 0 && H5Dwrite(d, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, &value) >= 0, name);
    if (tolerance) attribute(w, d, "tolerance", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, tolerance);
    if (d >= 0) H5Dclose(d);
    H5Sclose(one); H5Pclose(list);
}
/* One unlimited column; the open dataset, for attributes and scales. */
static hid_t column(writer *w, hid_t at, const char *name, hid_t stored, hid_t in_memory, int64_t rows, const void *values) {
    if (w->failed) return -1;
    hsize_t now = (hsize_t)rows, most = H5S_UNLIMITED;
    hid_t space = H5Screate_simple(1, &now, &most);
    double missing = NAN;
    hid_t list = H5Pcopy(w->column_list);
    if (stored == H5T_IEEE_F64LE) H5Pset_fill_value(list, H5T_NATIVE_DOUBLE, &missing);
    hid_t d = H5Dcreate2(at, name, stored, space, H5P_DEFAULT, list, H5P_DEFAULT);
    step(w, d >= 0 && (!rows || H5Dwrite(d, in_memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0), name);
    H5Sclose(space); H5Pclose(list);
    return d;
}
static hid_t any_column(writer *w, hid_t at, const char *name, const run_column *c, int64_t rows) {
    return c->text ? column(w, at, name, w->text, w->text, rows, c->text) : column(w, at, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, rows, c->v);
}

/* ---- the layout ------------------------------------------------------------------------------------------ */
static void write_config(writer *w, const lk_run *r) {
    hid_t g = group(w, w->file, "config");
    for (int i = 0; i < r->config.n; i++) {
        const char *text = r->config.at[i].text;
        int64_t whole; double real;
        switch (run_type_of(text, &whole, &real)) {
        case RUN_INTEGER: attribute(w, g, r->config.names[i], H5T_STD_I64LE, H5T_NATIVE_INT64, &whole); break;
        case RUN_REAL:    attribute(w, g, r->config.names[i], H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &real); break;
        case RUN_TEXT:    text_attribute(w, g, r->config.names[i], text); break;
        }
    }
    if (!lk_run_get_config(r, "resolved")) {
        lk_buf all = {0};
        lk_buf_add(&all, "", 0);
        for (int i = 0; i < r->config.n; i++) lk_buf_fmt(&all, "%s = %s\n", r->config.names[i], r->config.at[i].text);
        text_attribute(w, g, "resolved", all.s);
        free(all.s);
    }
    leave(g);
}
static void write_split(writer *w, hid_t metrics, const char *name, const run_group *s) {
    hid_t g = group(w, metrics, name), scale = -1;
    for (int pass = 0; pass < 2; pass++)                /* the scale first: others are attached to it */
        for (int i = 0; i < s->n && !w->failed; i++) {
            const run_column *c = &s->at[i];
            bool is_step = !strcmp(s->names[i], "step");
            if (is_step != (pass == 0)) continue;
            hid_t d = any_column(w, g, s->names[i], c, s->rows);
            text_attribute(w, d, "units", c->units);
            text_attribute(w, d, "long_name", c->long_name);
            text_attribute(w, d, "goal", c->goal);
            if (is_step) { step(w, H5DSset_scale(d, "step") >= 0, "dimension scale step"); scale = d; continue; }
            if (scale >= 0 && !w->failed) step(w, H5DSattach_scale(d, scale, 0) >= 0, s->names[i]);
            if (d >= 0) H5Dclose(d);
        }
    if (scale >= 0) H5Dclose(scale);
    leave(g);
}
static void write_samples(writer *w, const lk_run *r) {
    const run_group *s = &r->samples;
    hid_t g = group(w, w->file, "samples");
    int64_t *index = lk_xmalloc(sizeof *index * (size_t)(s->rows + 1));
    for (int64_t i = 0; i < s->rows; i++) index[i] = i;
    hid_t scale = column(w, g, "sample", H5T_STD_I64LE, H5T_NATIVE_INT64, s->rows, index);
    if (!w->failed) step(w, H5DSset_scale(scale, "sample") >= 0, "dimension scale sample");
    for (int i = 0; i < s->n && !w->failed; i++) {
        hid_t d = any_column(w, g, s->names[i], &s->at[i], s->rows);
        if (!w->failed) step(w, H5DSattach_scale(d, scale, 0) >= 0, s->names[i]);
        if (d >= 0) H5Dclose(d);
    }
    if (scale >= 0) H5Dclose(scale);
    free(index);
    leave(g);
}
static void write_lines(writer *w, const char *name, const run_lines *l) {
    hid_t d = column(w, w->file, name, w->text, w->text, l->n, l->at);
    if (d >= 0) H5Dclose(d);
}
static void write_all(writer *w, const lk_run *r) {
    for (int i = 0; i < r->attrs.n; i++) text_attribute(w, w->file, r->attrs.names[i], r->attrs.at[i].text);
    write_config(w, r);
    hid_t g = group(w, w->file, "metrics");
    for (int i = 0; i < r->n_splits; i++) write_split(w, g, r->split_names[i], &r->splits[i]);
    leave(g);
    write_samples(w, r);
    g = group(w, w->file, "inexact");
    for (int i = 0; i < r->inexact.n; i++) scalar(w, g, r->inexact.names[i], r->inexact.at[i].value, &r->inexact.at[i].tolerance);
    leave(g);
    g = group(w, w->file, "final");
    for (int i = 0; i < r->final.n; i++) scalar(w, g, r->final.names[i], r->final.at[i].value, NULL);
    leave(g);
    g = group(w, w->file, "provenance");
    for (int i = 0; i < r->provenance.n; i++) text_attribute(w, g, r->provenance.names[i], r->provenance.at[i].text);
    leave(g);
    write_lines(w, "events", &r->events);
    write_lines(w, "log", &r->log);
}

/* ---- the image --------------------------------------------------------------------------------------------- */
static size_t rough_bytes(const lk_run *r) {
    int64_t cells = r->samples.rows * r->samples.n + r->log.n * 16;
    for (int i = 0; i < r->n_splits; i++) cells += (r->splits[i].rows + RUN_CHUNK) * r->splits[i].n;
    return (size_t)cells * 8 + (1 << 16);
}
static void open_image(writer *w, const lk_run *r) {
    size_t grow = rough_bytes(r);                       /* one allocation serves most files */
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), create = H5Pcreate(H5P_FILE_CREATE);
    H5Pset_fapl_core(access, grow, false);
    H5Pset_libver_bounds(access, H5F_LIBVER_EARLIEST, H5F_LIBVER_V18);
    H5Pset_link_creation_order(create, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED);
    H5Pset_attr_creation_order(create, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED);
    H5Pset_obj_track_times(create, false);
    w->file = H5Fcreate("run.h5 in memory", H5F_ACC_TRUNC, create, access);
    step(w, w->file >= 0, "creating the image");
    H5Pclose(access); H5Pclose(create);
    w->text = H5Tcopy(H5T_C_S1);
    H5Tset_size(w->text, H5T_VARIABLE); H5Tset_cset(w->text, H5T_CSET_UTF8);
    w->group_list = H5Pcreate(H5P_GROUP_CREATE);
    H5Pset_link_creation_order(w->group_list, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED);
    H5Pset_attr_creation_order(w->group_list, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED);
    H5Pset_obj_track_times(w->group_list, false);
    w->column_list = H5Pcreate(H5P_DATASET_CREATE);
    hsize_t chunk = RUN_CHUNK;
    H5Pset_chunk(w->column_list, 1, &chunk);
    H5Pset_obj_track_times(w->column_list, false);
}
static lk_err take_image(writer *w, const char *path, char **image, size_t *n) {
    if (!w->failed) {
        step(w, H5Fflush(w->file, H5F_SCOPE_GLOBAL) >= 0, "flushing the image");
        ssize_t size = w->failed ? -1 : H5Fget_file_image(w->file, NULL, 0);
        if (step(w, size > 0, "measuring the image")) {
            *image = lk_xmalloc((size_t)size);
            *n = (size_t)size;
            step(w, H5Fget_file_image(w->file, *image, *n) == size, "copying the image");
        }
    }
    if (w->file >= 0) H5Fclose(w->file);
    H5Tclose(w->text); H5Pclose(w->group_list); H5Pclose(w->column_list);
    return w->failed ? lk_error(LK_ESTATE, "%s: HDF5 refused \"%s\": %s", path, w->what, w->why) : LK_OK;
}
lk_err lk_run_save(lk_run *r, const char *path) {
    if (r->misuse) return lk_error(LK_ESTATE, "%s: not saved: %s", path, r->misuse);
    char *image = NULL; size_t n = 0;
    writer w = {.file = -1};
    run_hdf5_enter();
    open_image(&w, r);
    if (!w.failed) write_all(&w, r);
    lk_err e = take_image(&w, path, &image, &n);
    run_hdf5_leave();
    if (!e) e = lk_write_file_atomic(path, image, n);
    free(image);
    return e;
}
