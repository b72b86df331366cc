/* The result digest: SHA-256 over what a run found, in an order that no history of the run can change.
 *
 *   "likeness result 1\n"
 *   /metrics but wall_s, /samples, /final by path (bytewise), then the adapter's tensors by name; each
 *   as one line "PATH TYPE SHAPE\n" and its bytes:
 *     numbers   binary64, little-endian, NaN canonical
 *     text      for each entry its length in bytes, a newline, the bytes
 *     tensors   the file's bytes, row-major, NaN canonical in F64, F32, F16, BF16
 * Where the clock enters (wall_s, heartbeat, log) nothing is covered. */
#include "io/run.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { char *path; const run_column *column; int64_t rows; double value; } entry;   /* column NULL: a value of /final */
static int by_path(const void *a, const void *b) { return strcmp(((const entry *)a)->path, ((const entry *)b)->path); }

static void add_entry(lk_sha256 *s, const entry *e) {
    lk_buf head = {0};
    bool text = e->column && e->column->text;
    lk_buf_fmt(&head, "%s %s ", e->path, text ? "text" : "f64");
    if (e->column) lk_buf_fmt(&head, "[%" PRId64 "]\n", e->rows); else lk_buf_fmt(&head, "[]\n");
    lk_sha256_add(s, head.s, head.n);
    free(head.s);
    if (!e->column) lk_sha256_add(s, &e->value, sizeof e->value);
    else if (!text) lk_sha256_add(s, e->column->v, sizeof *e->column->v * (size_t)e->rows);
    else for (int64_t i = 0; i < e->rows; i++) {
        char length[32];
        size_t n = strlen(e->column->text[i]);
        lk_sha256_add(s, length, (size_t)snprintf(length, sizeof length, "%zu\n", n));
        lk_sha256_add(s, e->column->text[i], n);
    }
}
/* Tensor bytes with NaN canonical: word by word, since the file's alignment is anything. */
static void add_tensor_bytes(lk_sha256 *s, const lk_tensor *t) {
    static const struct { lk_st_dtype dtype; uint64_t infinity, canonical; } floats[] = {
        {LK_ST_F64, 0x7ff0000000000000u, 0x7ff8000000000000u}, {LK_ST_F32, 0x7f800000u, 0x7fc00000u}, {LK_ST_F16, 0x7c00u, 0x7e00u}, {LK_ST_BF16, 0x7f80u, 0x7fc0u}};
    const unsigned char *p = t->data;
    size_t size = lk_st_dtype_bytes(t->dtype);
    for (size_t f = 0; f < sizeof floats / sizeof floats[0]; f++) {
        if (floats[f].dtype != t->dtype) continue;
        uint64_t sign = (uint64_t)1 << (8 * size - 1);
        size_t done = 0;
        for (size_t at = 0; at < t->bytes; at += size) {
            uint64_t bits = 0;
            memcpy(&bits, p + at, size);
            if ((bits & ~sign) <= floats[f].infinity) continue;
            lk_sha256_add(s, p + done, at - done);
            lk_sha256_add(s, &floats[f].canonical, size);
            done = at + size;
        }
        lk_sha256_add(s, p + done, t->bytes - done);
        return;
    }
    lk_sha256_add(s, p, t->bytes);
}
static lk_err add_adapter(lk_sha256 *s, const char *path) {
    lk_st *st;
    LK_TRY(lk_st_open(path, &st));
    for (int i = 0; i < lk_st_count(st); i++) {
        const lk_tensor *t = lk_st_at(st, i);
        lk_buf head = {0};
        lk_buf_fmt(&head, "adapter/%s %s [", t->name, lk_st_dtype_name(t->dtype));
        for (int k = 0; k < t->rank; k++) lk_buf_fmt(&head, "%s%" PRId64, k ? ", " : "", t->d[k]);
        lk_buf_fmt(&head, "]\n");
        lk_sha256_add(s, head.s, head.n);
        free(head.s);
        add_tensor_bytes(s, t);
    }
    lk_st_close(st);
    return LK_OK;
}
static int collect(const lk_run *r, entry *e) {
    int n = 0;
    for (int g = 0; g < r->n_splits; g++)
        for (int c = 0; c < r->splits[g].n; c++) {
            if (!strcmp(r->splits[g].names[c], "wall_s")) continue;
            e[n++] = (entry){lk_xfmt("metrics/%s/%s", r->split_names[g], r->splits[g].names[c]), &r->splits[g].at[c], r->splits[g].rows, 0};
        }
    for (int c = 0; c < r->samples.n; c++) e[n++] = (entry){lk_xfmt("samples/%s", r->samples.names[c]), &r->samples.at[c], r->samples.rows, 0};
    for (int i = 0; i < r->final.n; i++) e[n++] = (entry){lk_xfmt("final/%s", r->final.names[i]), NULL, 0, r->final.at[i].value};
    return n;
}
lk_err lk_run_digest(lk_run *r, const char *adapter_path, char hex[65]) {
    static const char head[] = "likeness result 1\n";
    int most = r->samples.n + r->final.n + 1;
    for (int g = 0; g < r->n_splits; g++) most += r->splits[g].n;
    entry *e = lk_xmalloc(sizeof *e * (size_t)most);
    int n = collect(r, e);
    qsort(e, (size_t)n, sizeof *e, by_path);
    lk_sha256 s;
    lk_sha256_init(&s);
    lk_sha256_add(&s, head, sizeof head - 1);
    for (int i = 0; i < n; i++) { add_entry(&s, &e[i]); free(e[i].path); }
    free(e);
    if (adapter_path) LK_TRY(add_adapter(&s, adapter_path));
    lk_sha256_hex(&s, hex);
    lk_run_attr(r, "result_digest", hex);
    return LK_OK;
}
