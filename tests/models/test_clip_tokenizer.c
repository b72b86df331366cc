/* CLIP's tokeniser against transformers' CLIPTokenizer (tests/peers/clip_tokenizer.py made the files and the ids), and its refusals. */
#include "tests/lib/lk_test.h"
#include "models/clip_tokenizer.h"
#include "models/unicode.h"

#define DIR "tests/models/clip_tokenizer"

TEST(ids_equal_the_peers) {
    lk_clip_tokenizer *t;
    json_error_t at;
    json_t *j = json_load_file(DIR "/texts.json", JSON_ALLOW_NUL, &at), *row;
    size_t i, differ = 0;
    CHECK_OK(lk_clip_tokenizer_open(DIR, &t));
    int length = (int)json_integer_value(json_object_get(j, "length"));
    const json_t *rows = json_object_get(j, "rows");
    CHECK(json_array_size(rows) > 300 && length == 24);
    int64_t ids[24], one[24];
    json_array_foreach(rows, i, row) {
        const json_t *text = json_object_get(row, "text"), *want = json_object_get(row, "ids");
        lk_err e = lk_clip_tokenize(t, json_string_value(text), json_string_length(text), length, ids, NULL);
        bool same = !e;
        for (int k = 0; k < length; k++) same = same && ids[k] == json_integer_value(json_array_get(want, (size_t)k));
        if (!same) { differ++; CHECK_MSG(same, "row %zu: '%s' %s", i, json_string_value(text), lk_err_text(e)); }
        lk_err_free(e);
    }
    CHECK(differ == 0);
    int used;
    CHECK_OK(lk_clip_tokenize(t, "a", 1, 24, one, &used));
    CHECK(used == 3 && one[0] == lk_clip_tokenizer_id(t, "<|startoftext|>") && one[2] == lk_clip_tokenizer_id(t, "<|endoftext|>") && one[1] == lk_clip_tokenizer_id(t, "a</w>"));
    CHECK_OK(lk_clip_tokenize(t, "A", 1, 24, ids, NULL));
    CHECK(!memcmp(ids, one, sizeof ids));                        /* and a planted difference is seen: */
    CHECK_OK(lk_clip_tokenize(t, "b", 1, 24, ids, NULL));
    CHECK(memcmp(ids, one, sizeof ids));
    CHECK_FAILS(lk_clip_tokenize(t, "a\xff", 2, 24, ids, NULL), "not UTF-8 at byte 1");
    CHECK_FAILS(lk_clip_tokenize(t, "\xed\xa0\x80", 3, 24, ids, NULL), "not UTF-8");
    CHECK_FAILS(lk_clip_tokenize(t, "a", 1, 1, ids, NULL), "at least 2");
    lk_clip_tokenizer_free(t);
    json_decref(j);
}
static void write_text(const char *name, const char *text) {
    char *path = lk_xfmt("%s/%s", lk_test_dir(), name);
    CHECK_OK(lk_write_file_atomic(path, text, strlen(text)));
    free(path);
}
static lk_err load(const char *vocab, const char *merges, const char *pad) {
    write_text("vocab.json", vocab);
    write_text("merges.txt", merges);
    char *v = lk_xfmt("%s/vocab.json", lk_test_dir()), *m = lk_xfmt("%s/merges.txt", lk_test_dir());
    lk_clip_tokenizer *t;
    lk_err e = lk_clip_tokenizer_load(v, m, pad, &t);
    if (!e) lk_clip_tokenizer_free(t);
    free(v); free(m);
    return e;
}
#define ENDS "\"<|startoftext|>\": 7, \"<|endoftext|>\": 8"
TEST(damaged_files_are_refused) {
    CHECK_OK(load("{\"a\": 0, \"b\": 1, \"ab\": 2, " ENDS "}", "#version: 0.2\na b\n", NULL));
    CHECK_OK(load("{\"a\": 0, \"b\": 1, \"ab\": 2, " ENDS "}", "a b\r\n", "a"));
    CHECK_FAILS(load("{\"a\": 0, \"b\": 0, " ENDS "}", "", NULL), "another token's");
    CHECK_FAILS(load("{\"a\": -1, " ENDS "}", "", NULL), "token 'a'");
    CHECK_FAILS(load("{\"a\": \"0\", " ENDS "}", "", NULL), "token 'a'");
    CHECK_FAILS(load("[1]", "", NULL), "expected an object");
    CHECK_FAILS(load("{\"a\": 0}", "", NULL), "no token '<|startoftext|>'");
    CHECK_FAILS(load("{\"a\": 0, " ENDS "}", "", "!"), "no padding token '!'");
    CHECK_FAILS(load("{\"a\": 0, \"b\": 1, " ENDS "}", "#version: 0.2\na b\n", NULL), "merges.txt:2: merge 'a b': the vocabulary lacks the result");
    CHECK_FAILS(load("{\"a\": 0, \"b\": 1, " ENDS "}", "a c\n", NULL), "lacks the second token");
    CHECK_FAILS(load("{\"a\": 0, " ENDS "}", "a\n", NULL), "two tokens");
    CHECK_FAILS(load("{\"a\": 0, " ENDS "}", "a a a\n", NULL), "two tokens");
}
TEST(composition_and_case) {
    static const struct { uint32_t in[4], out[4]; size_t n, m; } rows[] = {            /* UAX #15 and UnicodeData.txt */
        { { 'e', 0x301 }, { 0xE9 }, 2, 1 }, { { 0x212B }, { 0xC5 }, 1, 1 }, { { 0x1112, 0x1161, 0x11AB }, { 0xD55C }, 3, 1 }, { { 0x958 }, { 0x915, 0x93C }, 1, 2 },
        { { 'a', 0x301, 0x327 }, { 'a', 0x327, 0x301 }, 3, 0 }, { { 'q', 0x307, 0x323 }, { 'q', 0x323, 0x307 }, 3, 3 }, { { 0x2126 }, { 0x3A9 }, 1, 1 } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lk_runes r = { 0 };
        for (size_t k = 0; k < rows[i].n; k++) lk_runes_add(&r, rows[i].in[k]);
        lk_unicode_nfc(&r);
        if (rows[i].m) CHECK_MSG(r.n == rows[i].m && !memcmp(r.c, rows[i].out, r.n * sizeof *r.c), "row %zu", i);
        else CHECK(r.n == 2 && r.c[0] == 0xE1 && r.c[1] == 0x327);                      /* a cedilla does not hinder the acute */
        free(r.c);
    }
    uint32_t two[2];
    CHECK(lk_unicode_lowercase(0x130, two) == 2 && two[0] == 'i' && two[1] == 0x307);
    CHECK(lk_unicode_lowercase(0x3A3, two) == 1 && two[0] == 0x3C3);
    CHECK(lk_unicode_lowercase(0x100, two) == 1 && two[0] == 0x101);
    CHECK(lk_unicode_lowercase(0x101, two) == 1 && two[0] == 0x101);
    CHECK(lk_unicode_kind(0x4E00) == LK_RUNE_LETTER && lk_unicode_kind(0x2160) == LK_RUNE_NUMBER && lk_unicode_kind(0x3000) == LK_RUNE_SPACE && lk_unicode_kind('!') == LK_RUNE_OTHER);
}
