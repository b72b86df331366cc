/* safetensors, reading: the file is mapped, its header checked completely before anything is handed out.
 *
 * The format: u64 little-endian N; N bytes of JSON {"__metadata__": {text: text}, NAME: {"dtype", "shape",
 * "data_offsets": [begin, end)}, ...}, padded with spaces; then the data, which the tensors tile without
 * hole or overlap. A large checkpoint is split over files named by an index
 * {"weight_map": {NAME: FILE}} (*.safetensors.index.json), FILE beside the index.
 *
 * Invariant: an open lk_st holds tensors whose bytes lie inside a mapping, whose byte count is that of
 * shape and dtype, and whose names are unique; they are sorted by name. Values are read by st_values.c. */
#include "io/io.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_HEADER = 100000000 };          /* the format's own limit: a header is read into memory */
typedef struct { unsigned char *at; size_t bytes; } mapping;
struct lk_st {
    lk_arena *arena;                       /* names, metadata */
    char *path;
    mapping *maps; int n_maps;
    lk_tensor *tensors; int n, cap;        /* by name once open */
    const char **names;                    /* the same order, for lk_nearest */
    const char **meta; int n_meta;         /* key, value, key, value, ... of the first file */
};

static const struct { const char *name; size_t bytes; } dtypes[] = {
    [LK_ST_F32] = {"F32", 4}, [LK_ST_F16] = {"F16", 2}, [LK_ST_BF16] = {"BF16", 2}, [LK_ST_F64] = {"F64", 8},
    [LK_ST_I64] = {"I64", 8}, [LK_ST_I32] = {"I32", 4}, [LK_ST_U8] = {"U8", 1}, [LK_ST_BOOL] = {"BOOL", 1},
    [LK_ST_I8] = {"I8", 1}, [LK_ST_I16] = {"I16", 2}, [LK_ST_U16] = {"U16", 2},
};
enum { N_DTYPES = sizeof dtypes / sizeof dtypes[0] };
size_t lk_st_dtype_bytes(lk_st_dtype t) { return dtypes[t].bytes; }
const char *lk_st_dtype_name(lk_st_dtype t) { return dtypes[t].name; }

static lk_err open_file(lk_st *st, const char *path);
static lk_err open_sharded(lk_st *st, const char *path);
static lk_err sort_by_name(lk_st *st);

lk_err lk_st_open(const char *path, lk_st **out) {
    lk_st *st = lk_xcalloc(1, sizeof *st);
    st->arena = lk_arena_new();
    st->path = lk_strdup(st->arena, path);
    lk_err e = lk_ends(path, ".json") ? open_sharded(st, path) : open_file(st, path);
    if (!e) e = sort_by_name(st);
    if (e) { lk_st_close(st); st = NULL; }
    *out = st;
    return e;
}
void lk_st_close(lk_st *st) {
    if (!st) return;
    for (int i = 0; i < st->n_maps; i++) munmap(st->maps[i].at, st->maps[i].bytes);
    free(st->maps); free(st->tensors); free(st->names); free(st->meta);
    lk_arena_free(st->arena);
    free(st);
}
const char *lk_st_path(const lk_st *st) { return st->path; }
int lk_st_count(const lk_st *st) { return st->n; }
const lk_tensor *lk_st_at(const lk_st *st, int i) { return i >= 0 && i < st->n ? &st->tensors[i] : NULL; }
static int by_name(const void *a, const void *b) { return strcmp(((const lk_tensor *)a)->name, ((const lk_tensor *)b)->name); }
const lk_tensor *lk_st_find(const lk_st *st, const char *name) {
    if (!st->n) return NULL;
    return bsearch(&(lk_tensor){.name = name}, st->tensors, (size_t)st->n, sizeof *st->tensors, by_name);
}
lk_err lk_st_get(const lk_st *st, const char *name, const lk_tensor **out) {
    *out = lk_st_find(st, name);
    if (*out) return LK_OK;
    int i = lk_nearest(name, st->names, st->n);
    if (i < 0) return lk_error(LK_EINPUT, "%s: no tensor \"%s\": the file holds none at all", st->path, name);
    return lk_error(LK_EINPUT, "%s: no tensor \"%s\" among %d; the nearest name is \"%s\"", st->path, name, st->n, st->names[i]);
}
int lk_st_meta_count(const lk_st *st) { return st->n_meta; }
void lk_st_meta_at(const lk_st *st, int i, const char **key, const char **value) { *key = st->meta[2 * i]; *value = st->meta[2 * i + 1]; }
const char *lk_st_meta(const lk_st *st, const char *key) {
    for (int i = 0; i < st->n_meta; i++) if (!strcmp(st->meta[2 * i], key)) return st->meta[2 * i + 1];
    return NULL;
}
static lk_err sort_by_name(lk_st *st) {
    if (st->n) qsort(st->tensors, (size_t)st->n, sizeof *st->tensors, by_name);
    st->names = lk_xmalloc(sizeof *st->names * (size_t)(st->n + 1));
    for (int i = 0; i < st->n; i++) {
        st->names[i] = st->tensors[i].name;
        if (i && !strcmp(st->names[i - 1], st->names[i]))
            return lk_error(LK_EINPUT, "%s: tensor \"%s\" appears in two of its files", st->path, st->names[i]);
    }
    return LK_OK;
}

/* ---- one file ------------------------------------------------------------------------------------- */
static lk_err map_file(lk_st *st, const char *path, mapping *out) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return lk_error(errno == ENOENT ? LK_EINPUT : LK_EIO, "%s: %s", path, strerror(errno));
    struct stat s;
    lk_err e = LK_OK;
    if (fstat(fd, &s)) e = lk_error(LK_EIO, "%s: %s", path, strerror(errno));
    else if (!S_ISREG(s.st_mode)) e = lk_error(LK_EINPUT, "%s: not a regular file; a safetensors file is needed", path);
    else if (s.st_size < 8) e = lk_error(LK_EINPUT, "%s: %lld bytes, but a safetensors file begins with 8 bytes of header length", path, (long long)s.st_size);
    if (!e) {
        *out = (mapping){.bytes = (size_t)s.st_size};
        void *p = mmap(NULL, out->bytes, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) e = lk_error(LK_ENOMEM, "%s: mapping %zu bytes: %s", path, out->bytes, strerror(errno));
        else {
            out->at = p;
            st->maps = lk_xrealloc(st->maps, sizeof *st->maps * (size_t)(st->n_maps + 1));
            st->maps[st->n_maps++] = *out;
        }
    }
    close(fd);
    return e;
}
static uint64_t u64_le(const unsigned char *p) {
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--) v = v << 8 | p[i];
    return v;
}
static lk_err read_metadata(lk_st *st, const char *path, json_t *meta) {
    if (!json_is_object(meta)) return lk_error(LK_EINPUT, "%s: __metadata__ is not an object of text", path);
    const char *key; json_t *v;
    bool keep = st->n_maps == 1;
    json_object_foreach(meta, key, v) {
        if (!json_is_string(v)) return lk_error(LK_EINPUT, "%s: __metadata__.%s is not text", path, key);
        if (!keep) continue;
        st->meta = lk_xrealloc(st->meta, sizeof *st->meta * 2 * (size_t)(st->n_meta + 1));
        st->meta[2 * st->n_meta] = lk_strdup(st->arena, key);
        st->meta[2 * st->n_meta++ + 1] = lk_strdup(st->arena, json_string_value(v));
    }
    return LK_OK;
}
static lk_err read_dtype(const char *path, const char *name, const json_t *v, lk_st_dtype *out) {
    const char *s = json_string_value(v);
    if (!s) return lk_error(LK_EINPUT, "%s: tensor \"%s\": no dtype", path, name);
    for (int i = 0; i < N_DTYPES; i++) if (!strcmp(dtypes[i].name, s)) { *out = (lk_st_dtype)i; return LK_OK; }
    lk_buf known = {0};
    for (int i = 0; i < N_DTYPES; i++) lk_buf_fmt(&known, " %s", dtypes[i].name);
    lk_err e = lk_error(LK_EINPUT, "%s: tensor \"%s\": dtype \"%s\" is not one of%s", path, name, s, known.s);
    free(known.s);
    return e;
}
static lk_err read_shape(const char *path, lk_tensor *t, const json_t *v) {
    if (!json_is_array(v)) return lk_error(LK_EINPUT, "%s: tensor \"%s\": no shape", path, t->name);
    if (json_array_size(v) > 8) return lk_error(LK_EINPUT, "%s: tensor \"%s\": %zu axes, at most 8 are supported", path, t->name, json_array_size(v));
    t->rank = (int)json_array_size(v);
    t->numel = 1;
    for (int i = 0; i < t->rank; i++) {
        const json_t *d = json_array_get(v, (size_t)i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return lk_error(LK_EINPUT, "%s: tensor \"%s\": axis %d of its shape is not a size", path, t->name, i);
        t->d[i] = json_integer_value(d);
        if (__builtin_mul_overflow(t->numel, t->d[i], &t->numel) || t->numel > INT64_MAX / 8)
            return lk_error(LK_EINPUT, "%s: tensor \"%s\": its shape has more than 2^60 elements", path, t->name);
    }
    return LK_OK;
}
static lk_err read_tensor(lk_st *st, const char *path, const char *name, const json_t *entry, const unsigned char *data, size_t data_bytes) {
    lk_tensor t = {.name = lk_strdup(st->arena, name)};
    if (!json_is_object(entry)) return lk_error(LK_EINPUT, "%s: tensor \"%s\": its header entry is not an object", path, name);
    LK_TRY(read_dtype(path, name, json_object_get(entry, "dtype"), &t.dtype));
    LK_TRY(read_shape(path, &t, json_object_get(entry, "shape")));
    const json_t *offsets = json_object_get(entry, "data_offsets"), *b = json_array_get(offsets, 0), *f = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(b) || !json_is_integer(f))
        return lk_error(LK_EINPUT, "%s: tensor \"%s\": data_offsets is not a pair of integers", path, name);
    int64_t begin = json_integer_value(b), end = json_integer_value(f);
    if (begin < 0 || end < begin || (uint64_t)end > data_bytes)
        return lk_error(LK_EINPUT, "%s: tensor \"%s\": data_offsets [%" PRId64 ", %" PRId64 ") lie outside the file's %zu bytes of data; the file is cut off or damaged",
                        path, name, begin, end, data_bytes);
    uint64_t wanted = (uint64_t)t.numel * dtypes[t.dtype].bytes;
    if ((uint64_t)(end - begin) != wanted)
        return lk_error(LK_EINPUT, "%s: tensor \"%s\": data_offsets [%" PRId64 ", %" PRId64 ") hold %" PRId64 " bytes, but %" PRId64 " elements of %s need %" PRIu64,
                        path, name, begin, end, end - begin, t.numel, dtypes[t.dtype].name, wanted);
    t.data = data + begin; t.bytes = (size_t)wanted;
    if (st->n == st->cap) { st->cap = st->cap ? 2 * st->cap : 64; st->tensors = lk_xrealloc(st->tensors, sizeof *st->tensors * (size_t)st->cap); }
    st->tensors[st->n++] = t;
    return LK_OK;
}
static int by_place(const void *a, const void *b) {
    const lk_tensor *x = a, *y = b;
    if (x->data != y->data) return (const char *)x->data < (const char *)y->data ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}
/* The tensors of one file must tile its data: a hole hides bytes, an overlap is two names for one weight. */
static lk_err check_tiling(const char *path, lk_tensor *t, int n, const unsigned char *data, size_t data_bytes) {
    if (n) qsort(t, (size_t)n, sizeof *t, by_place);
    size_t end = 0;
    for (int i = 0; i < n; i++) {
        size_t begin = (size_t)((const unsigned char *)t[i].data - data);
        if (begin < end) return lk_error(LK_EINPUT, "%s: tensor \"%s\" begins at data byte %zu, inside \"%s\", which ends at %zu", path, t[i].name, begin, t[i - 1].name, end);
        if (begin > end) return lk_error(LK_EINPUT, "%s: tensor \"%s\" begins at data byte %zu, but %zu was expected: a hole belongs to no tensor", path, t[i].name, begin, end);
        end += t[i].bytes;
    }
    if (end != data_bytes) return lk_error(LK_EINPUT, "%s: the tensors end at data byte %zu, but the file has %zu", path, end, data_bytes);
    return LK_OK;
}
static lk_err open_file(lk_st *st, const char *path) {
    mapping m;
    LK_TRY(map_file(st, path, &m));
    uint64_t header = u64_le(m.at);
    if (header > m.bytes - 8)
        return lk_error(LK_EINPUT, "%s: header length %" PRIu64 " goes past the end of the file (%zu bytes); not a safetensors file, or cut off", path, header, m.bytes);
    if (header > MAX_HEADER) return lk_error(LK_EINPUT, "%s: header length %" PRIu64 " is over the format's limit of %d", path, header, MAX_HEADER);
    if (!header || m.at[8] != '{') return lk_error(LK_EINPUT, "%s: the header at byte 8 does not begin with '{'; not a safetensors file", path);
    const unsigned char *data = m.at + 8 + header;
    size_t data_bytes = m.bytes - 8 - (size_t)header;
    json_t *root;
    char *where = lk_xfmt("%s: header", path);
    lk_err e = lk_json_parse((const char *)m.at + 8, (size_t)header, where, &root);
    free(where);
    if (e) return e;
    int first = st->n;
    const char *name; json_t *v;
    json_object_foreach(root, name, v) {
        e = strcmp(name, "__metadata__") ? read_tensor(st, path, name, v, data, data_bytes) : read_metadata(st, path, v);
        if (e) break;
    }
    json_decref(root);
    return e ? e : check_tiling(path, st->tensors + first, st->n - first, data, data_bytes);
}

/* ---- an index over several files ------------------------------------------------------------------- */
static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }
/* Every tensor found must be promised to be in this file, and every promised one found. */
static bool holds(const lk_st *st, int first, const char *name) {
    for (int i = first; i < st->n; i++) if (!strcmp(st->tensors[i].name, name)) return true;
    return false;
}
static lk_err check_against_map(const lk_st *st, json_t *map, const char *shard, int first) {
    for (int i = first; i < st->n; i++) {
        const char *want = json_string_value(json_object_get(map, st->tensors[i].name));
        if (!want || strcmp(want, shard))
            return lk_error(LK_EINPUT, "%s: tensor \"%s\" is in %s, but weight_map says %s", st->path, st->tensors[i].name, shard, want ? want : "nothing of it");
    }
    int promised = 0;
    const char *name; json_t *file;
    json_object_foreach(map, name, file) promised += !strcmp(json_string_value(file), shard);
    if (promised == st->n - first) return LK_OK;      /* names are unique on both sides */
    json_object_foreach(map, name, file)
        if (!strcmp(json_string_value(file), shard) && !holds(st, first, name)) break;
    return lk_error(LK_EINPUT, "%s: weight_map promises tensor \"%s\" in %s, which does not hold it", st->path, name, shard);
}
static lk_err open_shards(lk_st *st, const char *path, json_t *map) {
    const char *slash = strrchr(path, '/');
    int dir = slash ? (int)(slash - path) + 1 : 0;
    size_t n = json_object_size(map), k = 0;
    const char **files = lk_xmalloc(sizeof *files * (n + 1)), *name;
    json_t *v;
    lk_err e = LK_OK;
    json_object_foreach(map, name, v) {
        const char *file = json_string_value(v);
        if (!file || !*file || strchr(file, '/') || lk_starts(file, ".")) {
            e = lk_error(LK_EINPUT, "%s: weight_map of \"%s\" is %s%s%s; a file name beside the index is expected", path, name,
                         file ? "\"" : "", file ? file : "not text", file ? "\"" : "");
            break;
        }
        files[k++] = file;
    }
    if (!e && k) qsort(files, k, sizeof *files, by_text);
    for (size_t i = 0; i < k && !e; i++) {
        if (i && !strcmp(files[i - 1], files[i])) continue;
        int first = st->n;
        char *shard = lk_xfmt("%.*s%s", dir, path, files[i]);
        e = lk_err_wrap(open_file(st, shard), "%s", path);
        if (!e) e = check_against_map(st, map, files[i], first);
        free(shard);
    }
    free(files);
    return e;
}
static lk_err open_sharded(lk_st *st, const char *path) {
    json_t *root;
    LK_TRY(lk_json_load(path, &root));
    json_t *map = json_object_get(root, "weight_map");
    lk_err e = json_is_object(map) ? open_shards(st, path, map)
             : lk_error(LK_EINPUT, "%s: no object \"weight_map\"; an index of safetensors files is expected", path);
    json_decref(root);
    return e;
}
