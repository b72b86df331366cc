/* safetensors, writing. The same tensors and metadata give the same bytes, whatever order they came in:
 * tensors by element size (large first: each is then aligned without holes, which the format forbids) and
 * name, metadata by key, no space in the header but the padding at its end. NaN is stored as it is given. */
#include "io/io.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct { const lk_st_item *item; size_t bytes; } placed;

static int by_size_then_name(const void *a, const void *b) {
    const lk_st_item *x = ((const placed *)a)->item, *y = ((const placed *)b)->item;
    size_t p = lk_st_dtype_bytes(x->dtype), q = lk_st_dtype_bytes(y->dtype);
    return p != q ? (p > q ? -1 : 1) : strcmp(x->name, y->name);
}
static int by_name(const void *a, const void *b) { return strcmp(((const placed *)a)->item->name, ((const placed *)b)->item->name); }
static int by_key(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

static lk_err measure(const char *path, const lk_st_item *t, size_t *bytes) {
    if (t->rank < 0 || t->rank > 8) return lk_error(LK_ESHAPE, "%s: tensor \"%s\": rank %d; 0 to 8 are supported", path, t->name, t->rank);
    size_t n = lk_st_dtype_bytes(t->dtype);
    for (int i = 0; i < t->rank; i++)
        if (t->d[i] < 0 || __builtin_mul_overflow(n, (size_t)t->d[i], &n))
            return lk_error(LK_ESHAPE, "%s: tensor \"%s\": size %" PRId64 " of axis %d is impossible", path, t->name, t->d[i], i);
    *bytes = n;
    return LK_OK;
}
/* Text as JSON, quotes included; an error where it is not UTF-8. */
static lk_err add_text(lk_buf *b, const char *path, const char *text) {
    json_t *s = json_string(text);
    char *quoted = s ? json_dumps(s, JSON_ENCODE_ANY) : NULL;
    json_decref(s);
    if (!quoted) return lk_error(LK_EINPUT, "%s: the name or metadata \"%s\" is not UTF-8", path, text);
    lk_buf_add(b, quoted, strlen(quoted));
    free(quoted);
    return LK_OK;
}
static lk_err add_metadata(lk_buf *b, const char *path, const char *const *meta) {
    size_t n = 0;
    while (meta && meta[2 * n]) n++;
    if (!n) return LK_OK;
    const char *(*pairs)[2] = lk_xmalloc(n * sizeof *pairs);
    memcpy(pairs, meta, n * sizeof *pairs);
    qsort(pairs, n, sizeof *pairs, by_key);
    lk_err e = LK_OK;
    lk_buf_fmt(b, "\"__metadata__\":{");
    for (size_t i = 0; i < n && !e; i++) {
        if (i) lk_buf_add(b, ",", 1);
        if (i && !strcmp(pairs[i - 1][0], pairs[i][0])) e = lk_error(LK_EINPUT, "%s: metadata key \"%s\" given twice", path, pairs[i][0]);
        if (!e) e = add_text(b, path, pairs[i][0]);
        lk_buf_add(b, ":", 1);
        if (!e) e = add_text(b, path, pairs[i][1]);
    }
    lk_buf_add(b, "}", 1);
    free(pairs);
    return e;
}
static lk_err add_tensor(lk_buf *b, const char *path, const lk_st_item *t, size_t begin, size_t end) {
    if (b->n > 1) lk_buf_add(b, ",", 1);
    LK_TRY(add_text(b, path, t->name));
    lk_buf_fmt(b, ":{\"dtype\":\"%s\",\"shape\":[", lk_st_dtype_name(t->dtype));
    for (int i = 0; i < t->rank; i++) lk_buf_fmt(b, "%s%" PRId64, i ? "," : "", t->d[i]);
    lk_buf_fmt(b, "],\"data_offsets\":[%zu,%zu]}", begin, end);
    return LK_OK;
}
static lk_err check_names(const char *path, placed *order, int n) {
    if (n) qsort(order, (size_t)n, sizeof *order, by_name);
    for (int i = 0; i < n; i++) {
        if (!strcmp(order[i].item->name, "__metadata__")) return lk_error(LK_EINPUT, "%s: a tensor may not be called __metadata__", path);
        if (i && !strcmp(order[i - 1].item->name, order[i].item->name)) return lk_error(LK_EINPUT, "%s: tensor \"%s\" given twice", path, order[i].item->name);
    }
    return LK_OK;
}
static lk_err build_header(lk_buf *b, const char *path, placed *order, int n, const char *const *meta) {
    LK_TRY(check_names(path, order, n));
    if (n) qsort(order, (size_t)n, sizeof *order, by_size_then_name);
    lk_buf_add(b, "{", 1);
    LK_TRY(add_metadata(b, path, meta));
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        LK_TRY(measure(path, order[i].item, &order[i].bytes));
        LK_TRY(add_tensor(b, path, order[i].item, at, at + order[i].bytes));
        at += order[i].bytes;
    }
    lk_buf_add(b, "}", 1);
    while (b->n % 8) lk_buf_add(b, " ", 1);
    return LK_OK;
}
lk_err lk_st_write(const char *path, const lk_st_item *items, int n, const char *const *meta) {
    placed *order = lk_xmalloc(sizeof *order * (size_t)(n + 1));
    lk_piece *pieces = lk_xmalloc(sizeof *pieces * (size_t)(n + 2));
    for (int i = 0; i < n; i++) order[i] = (placed){&items[i], 0};
    lk_buf header = {0};
    lk_err e = build_header(&header, path, order, n, meta);
    if (!e) {
        unsigned char length[8];
        for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)header.n >> 8 * i);
        pieces[0] = (lk_piece){length, 8};
        pieces[1] = (lk_piece){header.s, header.n};
        for (int i = 0; i < n; i++) pieces[i + 2] = (lk_piece){order[i].item->data, order[i].bytes};
        e = lk_write_pieces_atomic(path, pieces, (size_t)n + 2);
    }
    free(header.s); free(order); free(pieces);
    return e;
}
