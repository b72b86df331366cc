/* Words to ids and back to files (tokenizer.json of the tokenizers library: WordLevel, split at spaces, commas set apart). */
#include "models/word_tokenizer.h"
#include <stdlib.h>
#include <string.h>

struct lk_word_tokenizer { lk_arena *memory; int n; const char **word; };
enum { SPECIAL = 4 };
static const char *const special[SPECIAL] = {"<pad>", "<bos>", "<unused>", "<eos>"};

static size_t next_word(const char **s) {          /* skips spaces; a comma is a word; returns the length at *s, 0 at the end */
    *s += strspn(*s, " \t\n");
    return **s == ',' ? 1 : strcspn(*s, " \t\n,");
}
static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }
static lk_word_tokenizer *with_capacity(size_t n) {
    lk_arena *memory = lk_arena_new();
    lk_word_tokenizer *t = lk_alloc(memory, sizeof *t);
    *t = (lk_word_tokenizer){memory, 0, lk_alloc(memory, sizeof(char *) * n)};
    return t;
}
lk_word_tokenizer *lk_word_tokenizer_new(const char *const *texts, int n, const char *const *reserved, int n_reserved) {
    size_t most = SPECIAL + (size_t)n_reserved;
    for (int i = 0; i < n; i++) most += strlen(texts[i]) / 2 + 2;
    lk_word_tokenizer *t = with_capacity(most);
    for (int i = 0; i < SPECIAL; i++) t->word[t->n++] = special[i];
    for (int i = 0; i < n; i++)
        for (const char *s = texts[i]; ;) {
            size_t k = next_word(&s);
            if (!k) break;
            char *w = lk_fmt(t->memory, "%.*s", (int)k, s);
            if (lk_word_tokenizer_id(t, w) < 0) t->word[t->n++] = w;
            s += k;
        }
    qsort(t->word + SPECIAL, (size_t)(t->n - SPECIAL), sizeof *t->word, by_text);
    for (int i = 0; i < n_reserved; i++)
        if (lk_word_tokenizer_id(t, reserved[i]) < 0) t->word[t->n++] = lk_strdup(t->memory, reserved[i]);
    return t;
}
void lk_word_tokenizer_free(lk_word_tokenizer *t) { if (t) lk_arena_free(t->memory); }
int lk_word_tokenizer_count(const lk_word_tokenizer *t) { return t->n; }
int lk_word_tokenizer_id(const lk_word_tokenizer *t, const char *word) {
    for (int i = 0; i < t->n; i++) if (!strcmp(t->word[i], word)) return i;
    return -1;
}
lk_err lk_word_tokenizer_encode(const lk_word_tokenizer *t, const char *text, int length, int64_t *ids) {
    int n = 0;
    if (length < 2) return lk_error(LK_EINPUT, "a length of %d tokens has no room for <bos> and <eos>", length);
    ids[n++] = LK_TOKEN_BOS;
    for (const char *s = text;;) {
        size_t k = next_word(&s);
        if (!k) break;
        if (n == length - 1) return lk_error(LK_EINPUT, "\"%s\": more than %d words", text, length - 2);
        char *w = lk_xfmt("%.*s", (int)k, s);
        int id = lk_word_tokenizer_id(t, w);
        lk_err e = LK_OK;
        if (id < SPECIAL) e = lk_error(LK_EINPUT, "\"%s\": the word '%s' is not in the vocabulary; nearest: '%s'", text, w,
                                       t->word[SPECIAL + lk_nearest(w, t->word + SPECIAL, t->n - SPECIAL)]);
        free(w);
        LK_TRY(e);
        ids[n++] = id;
        s += k;
    }
    ids[n++] = LK_TOKEN_EOS;
    while (n < length) ids[n++] = LK_TOKEN_PAD;
    return LK_OK;
}

/* ---- files ------------------------------------------------------------------------------------------- */
static json_t *special_token(int id) {
    return json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", id, "content", special[id], "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1);
}
lk_err lk_word_tokenizer_save(const lk_word_tokenizer *t, const char *directory, int length) {
    json_t *vocab = json_object(), *added = json_array();
    for (int i = 0; i < t->n; i++) json_object_set_new(vocab, t->word[i], json_integer(i));
    for (int i = 0; i < SPECIAL; i++) json_array_append_new(added, special_token(i));
    json_t *file = json_pack(
        "{s:s, s:{s:{s:i}, s:s, s:i, s:i, s:s, s:s}, s:{s:s, s:i, s:s, s:s}, s:o, s:{s:s, s:{s:s}, s:s}, s:{s:s},"
        " s:{s:s, s:[{s:{s:s, s:i}}, {s:{s:s, s:i}}, {s:{s:s, s:i}}], s:[{s:{s:s, s:i}}], s:{s:{s:s, s:[i], s:[s]}, s:{s:s, s:[i], s:[s]}}}, s:n, s:{s:s, s:o, s:s}}",
        "version", "1.0",
        "padding", "strategy", "Fixed", length, "direction", "Right", "pad_id", LK_TOKEN_PAD, "pad_type_id", 0, "pad_token", "<pad>", "pad_to_multiple_of", "",
        "truncation", "direction", "Right", "max_length", length, "strategy", "LongestFirst", "stride", "",
        "added_tokens", added,
        "normalizer", "type", "Replace", "pattern", "String", ",", "content", " , ",
        "pre_tokenizer", "type", "WhitespaceSplit",
        "post_processor", "type", "TemplateProcessing", "single", "SpecialToken", "id", "<bos>", "type_id", 0, "Sequence", "id", "A", "type_id", 0, "SpecialToken", "id", "<eos>", "type_id", 0,
        "pair", "Sequence", "id", "A", "type_id", 0,
        "special_tokens", "<bos>", "id", "<bos>", "ids", LK_TOKEN_BOS, "tokens", "<bos>", "<eos>", "id", "<eos>", "ids", LK_TOKEN_EOS, "tokens", "<eos>",
        "decoder",
        "model", "type", "WordLevel", "vocab", vocab, "unk_token", "<unused>");
    if (!file) return lk_error(LK_ESTATE, "%s/tokenizer.json: could not be composed", directory);
    json_t *padding = json_object_get(file, "padding"), *truncation = json_object_get(file, "truncation");
    json_object_set_new(padding, "pad_to_multiple_of", json_null());
    json_object_set_new(truncation, "stride", json_integer(0));
    json_t *config = json_pack("{s:s, s:s, s:s, s:s, s:s, s:i}", "tokenizer_class", "PreTrainedTokenizerFast", "bos_token", "<bos>", "eos_token", "<eos>",
                               "pad_token", "<pad>", "unk_token", "<unused>", "model_max_length", length);
    char *path = lk_xfmt("%s/tokenizer.json", directory), *path2 = lk_xfmt("%s/tokenizer_config.json", directory);
    lk_err e = lk_json_save(file, path);
    if (!e) e = lk_json_save(config, path2);
    free(path); free(path2);
    json_decref(file); json_decref(config);
    return e;
}
lk_err lk_word_tokenizer_load(const char *directory, lk_word_tokenizer **out) {
    char *path = lk_xfmt("%s/tokenizer.json", directory);
    json_t *file = NULL;
    lk_err e = lk_json_load(path, &file);
    const json_t *vocab = file ? json_object_get(json_object_get(file, "model"), "vocab") : NULL;
    if (!e && (!json_is_object(vocab) || json_object_size(vocab) <= SPECIAL)) e = lk_error(LK_EINPUT, "%s: model.vocab is missing or too small", path);
    if (!e) {
        int n = (int)json_object_size(vocab);
        lk_word_tokenizer *t = with_capacity((size_t)n);
        t->n = n;
        const char *word;
        json_t *id;
        json_object_foreach((json_t *)vocab, word, id) {
            json_int_t i = json_integer_value(id);
            if (!json_is_integer(id) || i < 0 || i >= n || t->word[i]) { e = lk_error(LK_EINPUT, "%s: word '%s' has no id of its own in 0..%d", path, word, n - 1); break; }
            t->word[i] = lk_strdup(t->memory, word);
        }
        for (int i = 0; i < SPECIAL && !e; i++)
            if (strcmp(t->word[i], special[i])) e = lk_error(LK_EINPUT, "%s: id %d is '%s', expected '%s'", path, i, t->word[i], special[i]);
        if (e) lk_word_tokenizer_free(t);
        else *out = t;
    }
    if (file) json_decref(file);
    free(path);
    return e;
}
