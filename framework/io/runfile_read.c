/* The run file, read back: everything runfile_write.c stores returns, in the same order, so that a resumed
 * run saves what an uninterrupted one would have. The file is read whole and opened as an image; what is
 * missing or of the wrong kind is an error naming it. */
#include "io/run.h"
#include <hdf5.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct { const char *path; lk_run *run; hid_t text; size_t bytes; } reader;

static lk_err broken(const reader *d, const char *where, const char *what) {
    char why[256];
    run_hdf5_reason(why, sizeof why);
    return lk_error(LK_EINPUT, "%s: /%s: %s (HDF5: %s); not a run file, or damaged", d->path, where, what, why);
}
/* ---- values ------------------------------------------------------------------------------------------ */
static bool is_text(hid_t type) { return H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) > 0; }
/* One attribute as text, typed numbers printed as lk_run_config had them; malloc, NULL if it cannot be read. */
static char *attribute_text(const reader *d, hid_t a) {
    hid_t type = H5Aget_type(a), space = H5Aget_space(a);
    char *out = NULL, *s = NULL;
    int64_t i; double x;
    if (H5Sget_simple_extent_npoints(space) != 1) { H5Tclose(type); H5Sclose(space); return NULL; }
    if (is_text(type) && H5Aread(a, d->text, &s) >= 0) { out = run_text(s); if (s) H5free_memory(s); }
    else if (H5Tget_class(type) == H5T_INTEGER && H5Aread(a, H5T_NATIVE_INT64, &i) >= 0) out = lk_xfmt("%lld", (long long)i);
    else if (H5Tget_class(type) == H5T_FLOAT && H5Aread(a, H5T_NATIVE_DOUBLE, &x) >= 0) out = run_real_text(x);
    H5Tclose(type); H5Sclose(space);
    return out;
}
static lk_err read_attributes(const reader *d, hid_t at, const char *where, void (*put)(lk_run *, const char *, const char *)) {
    H5O_info_t info;
    if (H5Oget_info(at, &info) < 0) return broken(d, where, "its attributes cannot be counted");
    for (hsize_t i = 0; i < info.num_attrs; i++) {
        char name[512];
        hid_t a = H5Aopen_by_idx(at, ".", H5_INDEX_CRT_ORDER, H5_ITER_INC, i, H5P_DEFAULT, H5P_DEFAULT);
        if (a < 0 || H5Aget_name(a, sizeof name, name) < 0) { if (a >= 0) H5Aclose(a); return broken(d, where, "an attribute cannot be opened"); }
        char *text = attribute_text(d, a);
        H5Aclose(a);
        if (!text) return broken(d, where, name);
        put(d->run, name, text);
        free(text);
    }
    return LK_OK;
}
static char *named_text(const reader *d, hid_t at, const char *name) {
    if (H5Aexists(at, name) <= 0) return lk_xstrdup("");
    hid_t a = H5Aopen(at, name, H5P_DEFAULT);
    char *text = a >= 0 ? attribute_text(d, a) : NULL;
    if (a >= 0) H5Aclose(a);
    return text ? text : lk_xstrdup("");
}
/* Rows of a 1-D dataset; -1 if it is none, or claims more than its file could hold. */
static int64_t rows_of(const reader *d, hid_t set) {
    hid_t space = H5Dget_space(set);
    hsize_t rows = 0;
    bool ok = H5Sget_simple_extent_ndims(space) == 1 && H5Sget_simple_extent_dims(space, &rows, NULL) == 1 && rows <= d->bytes;
    H5Sclose(space);
    return ok ? (int64_t)rows : -1;
}
static bool read_texts(const reader *d, hid_t set, int64_t rows, char **to) {
    if (!rows) return true;
    char **s = lk_xcalloc((size_t)rows, sizeof *s);
    bool ok = H5Dread(set, d->text, H5S_ALL, H5S_ALL, H5P_DEFAULT, s) >= 0;
    for (int64_t i = 0; i < rows; i++) {
        if (ok) { free(to[i]); to[i] = run_text(s[i]); }
        if (s[i]) H5free_memory(s[i]);
    }
    free(s);
    return ok;
}

/* ---- groups -------------------------------------------------------------------------------------------- */
typedef lk_err (*member_fn)(const reader *, hid_t group, const char *name, void *to);
static lk_err each_member(const reader *d, hid_t at, const char *where, member_fn fn, void *to) {
    hid_t g = H5Gopen2(at, where, H5P_DEFAULT);
    H5G_info_t info;
    if (g < 0) return broken(d, where, "missing");
    lk_err e = H5Gget_info(g, &info) < 0 ? broken(d, where, "its members cannot be counted") : LK_OK;
    for (hsize_t i = 0; !e && i < info.nlinks; i++) {
        char name[512];
        ssize_t n = H5Lget_name_by_idx(g, ".", H5_INDEX_CRT_ORDER, H5_ITER_INC, i, name, sizeof name, H5P_DEFAULT);
        e = n < 0 || n >= (ssize_t)sizeof name ? broken(d, where, "a member has no name") : lk_err_wrap(fn(d, g, name, to), "/%s", where);
    }
    H5Gclose(g);
    return e;
}
static lk_err fill_column(const reader *d, hid_t set, const char *name, run_group *g) {
    hid_t type = H5Dget_type(set);
    bool text = is_text(type), number = H5Tget_class(type) == H5T_FLOAT;
    H5Tclose(type);
    int64_t rows = rows_of(d, set);
    if (rows < 0 || (!text && !number)) return broken(d, name, "not a column of numbers or text");
    if (g->n && rows != g->rows) return lk_error(LK_EINPUT, "%s: column %s has %lld rows, its group %lld; damaged", d->path, name, (long long)rows, (long long)g->rows);
    if (!g->n) run_group_rows(g, rows);
    run_column *c = run_group_column(d->run, g, name, text);
    if (!c) return broken(d, name, "not a name");
    bool ok = text ? read_texts(d, set, rows, c->text) : !rows || H5Dread(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, c->v) >= 0;
    for (int64_t i = 0; ok && !text && i < rows; i++) if (c->v[i] != c->v[i]) c->v[i] = (double)NAN;
    return ok ? LK_OK : broken(d, name, "its values cannot be read");
}
static lk_err read_column(const reader *d, hid_t group, const char *name, void *to) {
    if (to == &d->run->samples && !strcmp(name, "sample")) return LK_OK;      /* the dimension: 0, 1, ... */
    hid_t set = H5Dopen2(group, name, H5P_DEFAULT);
    if (set < 0) return broken(d, name, "not a dataset");
    run_group *g = to;
    lk_err e = fill_column(d, set, name, g);
    if (!e) {
        run_column *c = &g->at[g->n - 1];
        free(c->units); free(c->long_name); free(c->goal);
        c->units = named_text(d, set, "units"); c->long_name = named_text(d, set, "long_name"); c->goal = named_text(d, set, "goal");
        if (to != &d->run->samples && c->text) e = broken(d, name, "a metric is text");
    }
    H5Dclose(set);
    return e;
}
static lk_err read_split(const reader *d, hid_t group, const char *name, void *to) {
    (void)to;
    run_group *g = run_split(d->run, name, true);
    return g ? each_member(d, group, name, read_column, g) : broken(d, name, "not a name");
}
static lk_err read_scalar(const reader *d, hid_t group, const char *name, void *to) {
    hid_t set = H5Dopen2(group, name, H5P_DEFAULT);
    if (set < 0) return broken(d, name, "not a dataset");
    hid_t space = H5Dget_space(set);
    run_value *v = run_map_set(d->run, to, name);
    bool ok = v && H5Sget_simple_extent_npoints(space) == 1 && H5Dread(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, &v->value) >= 0;
    if (ok && v->value != v->value) v->value = (double)NAN;
    if (ok && H5Aexists(set, "tolerance") > 0) {
        hid_t a = H5Aopen(set, "tolerance", H5P_DEFAULT), s = a >= 0 ? H5Aget_space(a) : -1;
        ok = s >= 0 && H5Sget_simple_extent_npoints(s) == 1 && H5Aread(a, H5T_NATIVE_DOUBLE, &v->tolerance) >= 0;
        if (s >= 0) H5Sclose(s);
        if (a >= 0) H5Aclose(a);
    }
    H5Sclose(space); H5Dclose(set);
    return ok ? LK_OK : broken(d, name, "not a number");
}
static lk_err read_lines(const reader *d, hid_t file, const char *name, run_lines *to) {
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
    if (set < 0) return broken(d, name, "missing");
    hid_t type = H5Dget_type(set);
    int64_t rows = is_text(type) ? rows_of(d, set) : -1;
    for (int64_t i = 0; i < rows; i++) run_line(to, "");
    bool ok = rows >= 0 && read_texts(d, set, rows, to->at);
    H5Tclose(type); H5Dclose(set);
    return ok ? LK_OK : broken(d, name, "its lines cannot be read");
}
static lk_err read_attribute_group(const reader *d, hid_t file, const char *name, void (*put)(lk_run *, const char *, const char *)) {
    hid_t g = H5Gopen2(file, name, H5P_DEFAULT);
    if (g < 0) return broken(d, name, "missing");
    lk_err e = read_attributes(d, g, name, put);
    H5Gclose(g);
    return e;
}
static lk_err read_all(const reader *d, hid_t file) {
    LK_TRY(read_attributes(d, file, "", lk_run_attr));
    const char *schema = lk_run_get_attr(d->run, "schema");
    if (!schema || strcmp(schema, RUN_SCHEMA))
        return lk_error(LK_EINPUT, "%s: schema \"%s\", but this program reads \"%s\"", d->path, schema ? schema : "(none)", RUN_SCHEMA);
    LK_TRY(read_attribute_group(d, file, "config", lk_run_config));
    LK_TRY(each_member(d, file, "metrics", read_split, NULL));
    LK_TRY(each_member(d, file, "samples", read_column, &d->run->samples));
    LK_TRY(each_member(d, file, "inexact", read_scalar, &d->run->inexact));
    LK_TRY(each_member(d, file, "final", read_scalar, &d->run->final));
    LK_TRY(read_attribute_group(d, file, "provenance", lk_run_provenance));
    LK_TRY(read_lines(d, file, "events", &d->run->events));
    return read_lines(d, file, "log", &d->run->log);
}
lk_err lk_run_load(const char *path, lk_run **out) {
    *out = NULL;
    char *image; size_t n;
    LK_TRY(lk_read_file(path, &image, &n));
    reader d = {.path = path, .run = run_empty(), .bytes = n};
    run_hdf5_enter();
    d.text = H5Tcopy(H5T_C_S1);
    H5Tset_size(d.text, H5T_VARIABLE); H5Tset_cset(d.text, H5T_CSET_UTF8);
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_fapl_core(access, 1 << 16, false);
    hid_t file = n && H5Pset_file_image(access, image, n) >= 0 ? H5Fopen("run.h5 in memory", H5F_ACC_RDONLY, access) : -1;
    lk_err e = file >= 0 ? read_all(&d, file) : broken(&d, "", "cannot be opened as HDF5");
    if (file >= 0) H5Fclose(file);
    H5Pclose(access); H5Tclose(d.text);
    run_hdf5_leave();
    free(image);
    if (e) lk_run_free(d.run);
    else *out = d.run;
    return e;
}
