/* safetensors: round trips, every refusal with its message, exact conversions, sharded checkpoints. The
 * independent oracle of reading is torch's file in tests/golden (sums computed there); of binary16,
 * ldexp on the fields. */
#include "tests/lib/lk_test.h"
#include "io/io.h"
#include <inttypes.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

static const char *path(const char *name) { static char p[4][512]; static int k; k = (k + 1) % 4; snprintf(p[k], sizeof p[k], "%s/%s", lk_test_dir(), name); return p[k]; }
/* A file of this header and n bytes of data (0, 1, 2, ...). */
static const char *raw(const char *header, size_t header_bytes, size_t n) {
    lk_buf b = {0};
    unsigned char length[8];
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)header_bytes >> 8 * i);
    lk_buf_add(&b, (char *)length, 8);
    lk_buf_add(&b, header, strlen(header));
    for (size_t i = 0; i < n; i++) { char c = (char)i; lk_buf_add(&b, &c, 1); }
    const char *p = path("raw.safetensors");
    CHECK_OK(lk_write_file_atomic(p, b.s, b.n));
    free(b.s);
    return p;
}
static const char *file(const char *header, size_t n) { return raw(header, strlen(header), n); }
static void refused(const char *p, const char *part) {
    lk_st *st = (lk_st *)1;
    lk_err e = lk_st_open(p, &st);
    CHECK_MSG(e && strstr(lk_err_text(e), part) && strstr(lk_err_text(e), p), "wanted \"%s\" and the path, got \"%s\"", part, lk_err_text(e));
    CHECK(st == NULL && (!e || lk_err_code(e) == LK_EINPUT));
    lk_err_free(e);
    lk_st_close(st);
}
#define T(name, dtype, shape, offsets) "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

TEST(what_is_written_is_read) {
    float a[6] = {1, -2.5f, 3, 0, -0.f, 1e-40f};
    int64_t b[2] = {INT64_MIN, 7};
    uint8_t c[3] = {1, 0, 255};
    const lk_st_item items[] = {{"z.c", LK_ST_U8, 1, {3}, c}, {"b", LK_ST_I64, 2, {2, 1}, b}, {"a.weight", LK_ST_F32, 2, {2, 3}, a},
                                {"scalar", LK_ST_F32, 0, {0}, a}, {"empty", LK_ST_F16, 2, {0, 4}, NULL}};
    CHECK_OK(lk_st_write(path("w.safetensors"), items, 5, (const char *const[]){"note", "é \"x\"", "format", "pt", NULL}));
    const lk_st_item shuffled[] = {items[3], items[0], items[4], items[2], items[1]};
    CHECK_OK(lk_st_write(path("w2.safetensors"), shuffled, 5, (const char *const[]){"format", "pt", "note", "é \"x\"", NULL}));
    char one[65], two[65];
    CHECK_OK(lk_sha256_file(path("w.safetensors"), one)); CHECK_OK(lk_sha256_file(path("w2.safetensors"), two));
    CHECK_MSG(!strcmp(one, two), "order of the arguments changed the bytes");
    lk_st *st;
    CHECK_OK(lk_st_open(path("w.safetensors"), &st));
    if (!st) return;
    CHECK(lk_st_count(st) == 5 && !strcmp(lk_st_at(st, 0)->name, "a.weight") && !strcmp(lk_st_at(st, 4)->name, "z.c") && !lk_st_at(st, 5));
    CHECK(lk_st_meta_count(st) == 2 && !strcmp(lk_st_meta(st, "note"), "é \"x\"") && !lk_st_meta(st, "absent"));
    const lk_tensor *t = lk_st_find(st, "a.weight");
    CHECK(t && t->rank == 2 && t->d[0] == 2 && t->d[1] == 3 && t->numel == 6 && t->bytes == 24 && !memcmp(t->data, a, 24));
    for (int i = 0; i < 5; i++) CHECK((uintptr_t)lk_st_at(st, i)->data % lk_st_dtype_bytes(lk_st_at(st, i)->dtype) == 0);
    int64_t back[2];
    CHECK_OK(lk_st_i64(lk_st_find(st, "b"), back));
    CHECK(back[0] == INT64_MIN && back[1] == 7);
    CHECK_FAILS(lk_st_i64(t, back), "holds F32, but integers are expected");
    CHECK(lk_st_find(st, "scalar")->numel == 1 && lk_st_find(st, "empty")->numel == 0);
    CHECK_FAILS(lk_st_get(st, "a.wieght", &t), "no tensor \"a.wieght\" among 5; the nearest name is \"a.weight\"");
    lk_st_close(st);
    CHECK_FAILS(lk_st_write(path("dup.safetensors"), (lk_st_item[]){items[1], items[1]}, 2, NULL), "tensor \"b\" given twice");
    CHECK_FAILS(lk_st_write(path("dup.safetensors"), (lk_st_item[]){{"x\xff", LK_ST_U8, 1, {3}, c}}, 1, NULL), "is not UTF-8");
    CHECK_FAILS(lk_st_write(path("dup.safetensors"), (lk_st_item[]){{"x", LK_ST_U8, 9, {3}, c}}, 1, NULL), "rank 9");
    CHECK(access(path("dup.safetensors"), F_OK) != 0);
}
TEST(damaged_files_are_refused_with_the_reason) {
    refused(path("absent.safetensors"), "No such file");
    refused(lk_test_dir(), "not a regular file");
    CHECK_OK(lk_write_file_atomic(path("short.safetensors"), "1234", 4));
    refused(path("short.safetensors"), "4 bytes, but a safetensors file begins with 8 bytes of header length");
    refused(raw("{}", 3, 0), "header length 3 goes past the end of the file (10 bytes)");
    refused(raw("{}", (size_t)-1, 0), "goes past the end");
    refused(file("[]", 0), "does not begin with '{'");
    refused(file("", 8), "does not begin with '{'");
    refused(file("{\"a\":", 0), "not valid JSON");
    refused(file("{} x", 0), "not valid JSON");
    refused(file("{\"\xff\":1}", 0), "not valid JSON");
    refused(file("{" T("a", "U8", "[1]", "[0,1]") "," T("a", "U8", "[1]", "[0,1]") "}", 1), "duplicate object key");
    refused(file("{\"a\":3}", 0), "tensor \"a\": its header entry is not an object");
    refused(file("{" T("a", "F8", "[1]", "[0,1]") "}", 1), "dtype \"F8\" is not one of F32 F16 BF16");
    refused(file("{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1), "tensor \"a\": no dtype");
    refused(file("{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1), "tensor \"a\": no shape");
    refused(file("{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1), "data_offsets is not a pair");
    refused(file("{" T("a", "U8", "[-1]", "[0,1]") "}", 1), "axis 0 of its shape is not a size");
    refused(file("{" T("a", "U8", "[1.5]", "[0,1]") "}", 1), "axis 0 of its shape is not a size");
    refused(file("{" T("a", "U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]") "}", 1), "9 axes, at most 8");
    refused(file("{" T("a", "F64", "[4294967296,4294967296,2]", "[0,1]") "}", 1), "more than 2^60 elements");
    refused(file("{" T("a", "U8", "[2]", "[0,2]") "}", 1), "data_offsets [0, 2) lie outside the file's 1 bytes of data");
    refused(file("{" T("a", "U8", "[2]", "[2,0]") "}", 2), "data_offsets [2, 0) lie outside");
    refused(file("{" T("a", "U8", "[2]", "[-1,1]") "}", 2), "data_offsets [-1, 1) lie outside");
    refused(file("{" T("a", "F32", "[2]", "[0,4]") "}", 4), "hold 4 bytes, but 2 elements of F32 need 8");
    refused(file("{" T("a", "U8", "[2]", "[0,2]") "," T("b", "U8", "[2]", "[1,3]") "}", 3), "tensor \"b\" begins at data byte 1, inside \"a\", which ends at 2");
    refused(file("{" T("a", "U8", "[1]", "[0,1]") "," T("b", "U8", "[1]", "[2,3]") "}", 3), "tensor \"b\" begins at data byte 2, but 1 was expected: a hole");
    refused(file("{" T("a", "U8", "[1]", "[0,1]") "}", 3), "the tensors end at data byte 1, but the file has 3");
    refused(file("{\"__metadata__\":{\"a\":1}}", 0), "__metadata__.a is not text");
    refused(file("{\"__metadata__\":[]}", 0), "__metadata__ is not an object");
    lk_buf deep = {0};
    lk_buf_fmt(&deep, "{\"a\":");
    for (int i = 0; i < 10000; i++) lk_buf_add(&deep, "[", 1);
    refused(file(deep.s, 0), "maximum parsing depth");
    free(deep.s);
    lk_st *st;
    CHECK_OK(lk_st_open(file("{" T("b", "U8", "[1]", "[1,2]") "," T("a", "U8", "[1]", "[0,1]") "}   ", 2), &st));     /* the intact control */
    lk_st_close(st);
}
static double half(uint16_t h) {                   /* by the definition of the format */
    int e = h >> 10 & 31, f = h & 1023;
    double v = e == 31 ? (f ? NAN : INFINITY) : e ? ldexp(1024 + f, e - 25) : ldexp(f, -24);
    return h & 0x8000 ? -v : v;
}
TEST(all_65536_halves_and_bfloats_convert_exactly) {
    uint16_t *bits = malloc(2 << 16);
    float *f = malloc(4 << 16);
    double *d = malloc(8 << 16);
    for (int i = 0; i < 65536; i++) bits[i] = (uint16_t)i;
    CHECK_OK(lk_st_write(path("h.safetensors"), (lk_st_item[]){{"h", LK_ST_F16, 1, {65536}, bits}, {"b", LK_ST_BF16, 1, {65536}, bits}}, 2, NULL));
    lk_st *st;
    CHECK_OK(lk_st_open(path("h.safetensors"), &st));
    CHECK_OK(lk_st_f32(lk_st_find(st, "h"), f)); CHECK_OK(lk_st_f64(lk_st_find(st, "h"), d));
    int bad = 0;
    for (int i = 0; i < 65536; i++) {
        double want = half((uint16_t)i);
        bad += isnan(want) ? !(isnan(f[i]) && isnan(d[i])) : !(f[i] == want && d[i] == want && !signbit(f[i]) == !signbit(want));
    }
    CHECK_MSG(bad == 0, "%d halves are wrong", bad);
    CHECK_OK(lk_st_f32(lk_st_find(st, "b"), f)); CHECK_OK(lk_st_f64(lk_st_find(st, "b"), d));
    for (int i = 0; i < 65536; i++) { uint32_t u; memcpy(&u, &f[i], 4); bad += u != (uint32_t)i << 16 || !(d[i] == f[i] || isnan(f[i])); }
    CHECK_MSG(bad == 0, "%d bfloats are wrong", bad);
    lk_st_close(st); free(bits); free(f); free(d);
}
TEST(integers_convert_exactly_or_not_at_all) {
    int64_t good[3] = {1 << 24, -(1 << 24), INT64_MIN}, bad32[1] = {(1 << 24) + 1}, bad64[1] = {INT64_MAX};
    int16_t s[2] = {-32768, 32767}; uint16_t u[1] = {65535}; int8_t c[1] = {-128}; int32_t w[1] = {-7};
    double d[1] = {0.1};
    CHECK_OK(lk_st_write(path("i.safetensors"), (lk_st_item[]){{"good", LK_ST_I64, 1, {3}, good}, {"bad32", LK_ST_I64, 1, {1}, bad32}, {"bad64", LK_ST_I64, 1, {1}, bad64},
        {"s", LK_ST_I16, 1, {2}, s}, {"u", LK_ST_U16, 1, {1}, u}, {"c", LK_ST_I8, 1, {1}, c}, {"w", LK_ST_I32, 1, {1}, w}, {"d", LK_ST_F64, 1, {1}, d}}, 8, NULL));
    lk_st *st; float f[3]; double x[3]; int64_t i[3];
    CHECK_OK(lk_st_open(path("i.safetensors"), &st));
    CHECK_OK(lk_st_f32(lk_st_find(st, "good"), f)); CHECK(f[0] == 16777216.f && f[2] == -0x1p63f);
    CHECK_FAILS(lk_st_f32(lk_st_find(st, "bad32"), f), "tensor \"bad32\" (I64): element 0 = 16777217 is not exactly a binary32");
    CHECK_OK(lk_st_f64(lk_st_find(st, "bad32"), x)); CHECK(x[0] == 16777217);
    CHECK_FAILS(lk_st_f64(lk_st_find(st, "bad64"), x), "not exactly a binary64");
    CHECK_FAILS(lk_st_f32(lk_st_find(st, "bad64"), f), "not exactly a binary32");
    CHECK_OK(lk_st_f32(lk_st_find(st, "s"), f)); CHECK(f[0] == -32768 && f[1] == 32767);
    CHECK_OK(lk_st_i64(lk_st_find(st, "u"), i)); CHECK(i[0] == 65535);
    CHECK_OK(lk_st_i64(lk_st_find(st, "c"), i)); CHECK(i[0] == -128);
    CHECK_OK(lk_st_i64(lk_st_find(st, "w"), i)); CHECK(i[0] == -7);
    CHECK_OK(lk_st_f32(lk_st_find(st, "d"), f)); CHECK(f[0] == 0.1f);
    lk_st_close(st);
}
TEST(unaligned_data_is_read) {
    char header[] = "{" T("a", "U8", "[1]", "[0,1]") "," T("f", "F32", "[1]", "[1,5]") "}";
    lk_st *st; float f = 0; uint32_t want = 0x04030201u, got;
    CHECK_OK(lk_st_open(file(header, 5), &st));
    CHECK_OK(lk_st_f32(lk_st_find(st, "f"), &f));
    memcpy(&got, &f, 4);
    CHECK(got == want);
    lk_st_close(st);
}
static const char *index_of(const char *map) {
    char *text = lk_xfmt("{\"metadata\":{},\"weight_map\":%s}", map);
    const char *p = path("model.safetensors.index.json");
    CHECK_OK(lk_write_file_atomic(p, text, strlen(text)));
    free(text);
    return p;
}
TEST(a_sharded_checkpoint_is_one) {
    float a = 1, b = 2, c = 3;
    CHECK_OK(lk_st_write(path("m-1.safetensors"), (lk_st_item[]){{"c", LK_ST_F32, 0, {0}, &c}, {"a", LK_ST_F32, 0, {0}, &a}}, 2, (const char *const[]){"format", "pt", NULL}));
    CHECK_OK(lk_st_write(path("m-2.safetensors"), (lk_st_item[]){{"b", LK_ST_F32, 0, {0}, &b}}, 1, (const char *const[]){"format", "pt", NULL}));
    lk_st *st;
    CHECK_OK(lk_st_open(index_of("{\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\",\"c\":\"m-1.safetensors\"}"), &st));
    if (!st) return;
    float x = 0;
    CHECK(lk_st_count(st) == 3 && !strcmp(lk_st_at(st, 1)->name, "b") && lk_st_meta_count(st) == 1);
    CHECK_OK(lk_st_f32(lk_st_at(st, 1), &x));
    CHECK(x == 2);
    lk_st_close(st);
    refused(index_of("{\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\"}"), "tensor \"c\" is in m-1.safetensors, but weight_map says nothing of it");
    refused(index_of("{\"a\":\"m-1.safetensors\",\"c\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\",\"d\":\"m-2.safetensors\"}"), "promises tensor \"d\" in m-2.safetensors, which does not hold it");
    refused(index_of("{\"a\":\"m-3.safetensors\"}"), "m-3.safetensors: No such file");
    refused(index_of("{\"a\":\"../m-1.safetensors\"}"), "weight_map of \"a\" is \"../m-1.safetensors\"; a file name beside the index is expected");
    refused(index_of("{\"a\":1}"), "weight_map of \"a\" is not text");
    refused(index_of("[]"), "no object \"weight_map\"");
}
TEST(a_full_disk_keeps_the_old_checkpoint) {
    float *big = calloc(50000, 4);
    const char *p = path("ckpt.safetensors"), *tmp = path("ckpt.safetensors.tmp");
    char before[65], after[65];
    CHECK_OK(lk_st_write(p, &(lk_st_item){"w", LK_ST_F32, 1, {10}, big}, 1, NULL));
    CHECK_OK(lk_sha256_file(p, before));
    struct rlimit old, small;
    getrlimit(RLIMIT_FSIZE, &old);
    small = (struct rlimit){65536, old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    lk_err e = lk_st_write(p, &(lk_st_item){"w", LK_ST_F32, 1, {50000}, big}, 1, NULL);
    setrlimit(RLIMIT_FSIZE, &old);
    CHECK_MSG(e && strstr(lk_err_text(e), "ckpt.safetensors: wrote 65536 of 200072 bytes: "), "%s", lk_err_text(e));
    lk_err_free(e);
    CHECK_OK(lk_sha256_file(p, after));
    CHECK(!strcmp(before, after) && access(tmp, F_OK) != 0);
    free(big);
}
TEST(json_members_are_typed) {
    json_t *j, *bad;
    const char text[] = "{\"i\": 8, \"w\": 4.0, \"r\": 0.5, \"t\": true, \"s\": \"x\", \"l\": [5, 10], \"n\": null}";
    CHECK_OK(lk_json_parse(text, sizeof text - 1, "config.json", &j));
    int64_t i, l[2]; double r; bool b; const char *s;
    CHECK_OK(lk_json_int(j, "i", "config", 1, &i)); CHECK(i == 8);
    CHECK_OK(lk_json_int(j, "w", "config", 1, &i)); CHECK(i == 4);
    CHECK_OK(lk_json_int(j, "n", "config", 3, &i)); CHECK(i == 3);
    CHECK_OK(lk_json_int(j, "absent", "config", 5, &i)); CHECK(i == 5);
    CHECK_OK(lk_json_real(j, "i", "config", 1, &r)); CHECK(r == 8);
    CHECK_OK(lk_json_bool(j, "t", "config", false, &b)); CHECK(b);
    CHECK_OK(lk_json_str(j, "s", "config", NULL, &s)); CHECK(!strcmp(s, "x"));
    CHECK_OK(lk_json_ints(j, "i", "config", 0, 2, l)); CHECK(l[0] == 8 && l[1] == 8);
    CHECK_OK(lk_json_ints(j, "l", "config", 0, 2, l)); CHECK(l[0] == 5 && l[1] == 10);
    CHECK_FAILS(lk_json_ints(j, "l", "config", 0, 3, (int64_t[3]){0}), "config.l: expected 3 entries, found 2");
    CHECK_FAILS(lk_json_int(j, "r", "config", 1, &i), "config.r: expected an integer, found a real number: 0.5");
    CHECK_FAILS(lk_json_bool(j, "i", "config", 1, &b), "config.i: expected true or false, found an integer: 8");
    CHECK_FAILS(lk_json_str(j, "l", "config", "", &s), "config.l: expected text, found a list: [5,10]");
    CHECK_FAILS(lk_json_int(NULL, "x", "config", 1, &i), "config: expected an object with a key \"x\", found nothing");
    CHECK_FAILS(lk_json_parse("{\n \"a\": 1,\n \"a\": 2}", 19, "f.json", &bad), "f.json:3:");
    CHECK_FAILS(lk_json_load(path("none.json"), &bad), "none.json");
    CHECK_OK(lk_json_save(j, path("saved.json")));
    CHECK_OK(lk_json_load(path("saved.json"), &bad));
    CHECK(json_equal(j, bad));
    json_decref(j); json_decref(bad);
}
/* tests/golden/io/torch.safetensors was written by safetensors.torch 0.8.0; torch.json is what torch reads of it. */
TEST(a_file_written_by_torch_is_read_as_torch_reads_it) {
    lk_st *st; json_t *truth;
    CHECK_OK(lk_st_open("tests/golden/io/torch.safetensors", &st));
    CHECK_OK(lk_json_load("tests/golden/io/torch.json", &truth));
    if (!st || !truth) return;
    CHECK(lk_st_count(st) == (int)json_object_size(truth));
    const char *name; json_t *want;
    json_object_foreach(truth, name, want) {
        const lk_tensor *t = lk_st_find(st, name);
        json_t *shape = json_object_get(want, "shape"), *values = json_object_get(want, "values");
        double got[16];
        if (!CHECK_MSG(t && t->rank == (int)json_array_size(shape) && t->numel == (int64_t)json_array_size(values) && t->numel <= 16, "%s", name)) continue;
        for (int i = 0; i < t->rank; i++) CHECK(t->d[i] == json_integer_value(json_array_get(shape, (size_t)i)));
        CHECK_OK(lk_st_f64(t, got));
        for (int64_t i = 0; i < t->numel; i++) CHECK_MSG(got[i] == json_number_value(json_array_get(values, (size_t)i)), "%s[%" PRId64 "] = %g", name, i, got[i]);
    }
    lk_st_close(st); json_decref(truth);
}
