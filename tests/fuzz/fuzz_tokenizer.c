/* CLIP's tokeniser: a vocabulary, merges and a text in one input, parted by lines of "----". What loads must tokenise any UTF-8 into exactly
 * the length asked for, with ids of the vocabulary. */
#include "tests/fuzz/fuzz.h"
#include "models/clip_tokenizer.h"

const char fuzz_name[] = "x.tokenizer";
void fuzz_seeds(fuzz_add add, const char *dir) {
    (void)dir;
    static const char *const seeds[] = {
        "{\"a\": 0, \"b\": 1, \"ab\": 2, \"ab</w>\": 3, \"b</w>\": 4, \"<|startoftext|>\": 5, \"<|endoftext|>\": 6}\n----\n#version: 0.2\na b\na b</w>\n----\nab ABBA <|endoftext|> e\xcc\x81 \xf0\x9f\xa4\xa6",
        "{\"<|startoftext|>\": 0, \"<|endoftext|>\": 1, \"\xc3\xa9\": 2, \"\xc4\xa0\": 3}\n----\n----\n\xea\xb0\x81\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab'll 12 \xe0\xa5\x98" };
    for (size_t i = 0; i < sizeof seeds / sizeof seeds[0]; i++) add(seeds[i], strlen(seeds[i]));
}
void fuzz_mend(unsigned char *s, size_t n) { (void)s; (void)n; }
static const unsigned char *part(const unsigned char *s, const unsigned char *end) {      /* where the next line of "----" begins */
    for (; end - s >= 6; s++) if (!memcmp(s, "\n----\n", 6)) return s;
    return end;
}
bool fuzz_one(const char *path, const unsigned char *bytes, size_t n) {
    const unsigned char *end = bytes + n, *a = part(bytes, end), *b = a < end ? a + 6 : end, *c = part(b, end), *text = c < end ? c + 6 : end;
    char *vocab = lk_xfmt("%s.json", path), *merges = lk_xfmt("%s.txt", path);
    lk_err_free(lk_write_file_atomic(vocab, bytes, (size_t)(a - bytes)));
    lk_err_free(lk_write_file_atomic(merges, b, (size_t)(c - b)));
    lk_clip_tokenizer *t;
    bool refused = fuzz_refused(lk_clip_tokenizer_load(vocab, merges, NULL, &t), fuzz_name);
    free(vocab); free(merges);
    if (refused) return false;
    int64_t ids[16];
    int used = 0;
    lk_err e = lk_clip_tokenize(t, (const char *)text, (size_t)(end - text), 16, ids, &used);
    if (!e) {
        PROMISE(used >= 2 && used <= 16 && ids[0] == lk_clip_tokenizer_id(t, "<|startoftext|>") && ids[used - 1] == lk_clip_tokenizer_id(t, "<|endoftext|>"));
        for (int i = 0; i < 16; i++) PROMISE(ids[i] >= 0);
    } else PROMISE(strstr(lk_err_text(e), "UTF-8"));
    lk_err_free(e);
    lk_clip_tokenizer_free(t);
    return true;
}
