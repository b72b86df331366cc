/* safetensors: an accepted file is read completely, written again and then holds the same. */
#include "tests/fuzz/fuzz.h"
#include "io/io.h"

const char fuzz_name[] = "x.safetensors";
void fuzz_seeds(fuzz_add add, const char *dir) {
    float f[6] = {1, 2, 3, 4, 5, 6};
    const lk_st_item items[] = {{"a.weight", LK_ST_F32, 2, {2, 3}, f}, {"b", LK_ST_I64, 1, {2}, f}, {"h", LK_ST_F16, 1, {4}, f}, {"m", LK_ST_BOOL, 1, {3}, f}, {"e", LK_ST_U8, 2, {0, 3}, f}};
    char *p = lk_xfmt("%s/seed.safetensors", dir), *s;
    size_t n;
    for (int k = 0; k <= 5; k++) {
        PROMISE(!lk_st_write(p, items, k, k & 1 ? (const char *const[]){"format", "pt", NULL} : NULL) && !lk_read_file(p, &s, &n));
        add(s, n);
        free(s);
    }
    free(p);
}
/* The header ends after the last '}' that closes it. */
void fuzz_mend(unsigned char *s, size_t n) {
    int depth = 0;
    for (size_t i = 8; i < n; i++) {
        depth += s[i] == '{'; depth -= s[i] == '}';
        if (depth) continue;
        uint64_t header = i + 1 - 8;
        memcpy(s, &header, 8);
        return;
    }
}
static void *values(const lk_tensor *t, bool as_double, bool *ok) {
    void *v = lk_xmalloc((size_t)t->numel * 8 + 8);
    lk_err e = as_double ? lk_st_f64(t, v) : lk_st_f32(t, v);
    *ok = !e;
    lk_err_free(e);
    return v;
}
static lk_st_item item_of(const lk_tensor *t) {
    lk_st_item it = {t->name, t->dtype, t->rank, {0}, t->data};
    memcpy(it.d, t->d, sizeof it.d);
    return it;
}
bool fuzz_one(const char *path, const unsigned char *bytes, size_t n) {
    (void)bytes; (void)n;
    lk_st *st, *again;
    if (fuzz_refused(lk_st_open(path, &st), fuzz_name)) { PROMISE(!st); return false; }
    int count = lk_st_count(st);
    lk_st_item *items = lk_xmalloc(sizeof *items * (size_t)(count + 1));
    for (int i = 0; i < count; i++) {
        const lk_tensor *t = lk_st_at(st, i);
        bool ok;
        PROMISE(lk_st_find(st, t->name) == t && t->bytes == (size_t)t->numel * lk_st_dtype_bytes(t->dtype));
        free(values(t, false, &ok)); free(values(t, true, &ok));
        items[i] = item_of(t);
    }
    const lk_tensor *none;
    fuzz_refused(lk_st_get(st, "no such name", &none), fuzz_name);
    char *p = lk_xfmt("%s.again.safetensors", path);
    PROMISE(!lk_st_write(p, items, count, NULL) && !lk_st_open(p, &again) && lk_st_count(again) == count);
    for (int i = 0; i < count; i++) {
        const lk_tensor *a = lk_st_at(st, i), *b = lk_st_at(again, i);
        PROMISE(!strcmp(a->name, b->name) && a->dtype == b->dtype && a->rank == b->rank && !memcmp(a->d, b->d, sizeof a->d) && a->bytes == b->bytes && !memcmp(a->data, b->data, a->bytes));
    }
    lk_st_close(again); lk_st_close(st); free(items); free(p);
    return true;
}
