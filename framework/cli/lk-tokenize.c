/* lk-tokenize DIR [length=77]: CLIP token ids of texts. DIR holds vocab.json and merges.txt. Standard input: one text a line, or, where the line
 * begins with a quotation mark, one JSON string (so that a text may hold line ends). Output: a line of ids for each. */
#include "models/clip_tokenizer.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static lk_err one_line(const lk_clip_tokenizer *t, const char *line, size_t n, int at, int length, int64_t *ids) {
    json_t *j = NULL;
    if (n && line[0] == '"') {
        json_error_t bad;
        j = json_loadb(line, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &bad);
        if (!j) return lk_error(LK_EINPUT, "standard input, line %d: not a JSON string: %s", at, bad.text);
    }
    lk_err e = lk_clip_tokenize(t, j ? json_string_value(j) : line, j ? json_string_length(j) : n, length, ids, NULL);
    json_decref(j);
    if (e) return lk_err_wrap(e, "standard input, line %d", at);
    for (int i = 0; i < length; i++) printf("%s%lld", i ? " " : "", (long long)ids[i]);
    putchar('\n');
    return LK_OK;
}
int main(int argc, char **argv) {
    int length = argc > 2 ? atoi(strchr(argv[2], '=') ? strchr(argv[2], '=') + 1 : argv[2]) : 77, at = 0;
    if (argc < 2 || argc > 3 || length < 2 || length > 1 << 20) { fprintf(stderr, "usage: %s DIR [length=77] < texts\n", argv[0]); return 2; }
    lk_clip_tokenizer *t;
    lk_err e = lk_clip_tokenizer_open(argv[1], &t);
    if (e) return lk_err_report(e);
    int64_t *ids = lk_xcalloc((size_t)length, sizeof *ids);
    char *line = NULL;
    size_t room = 0;
    for (ssize_t n; !e && (n = getline(&line, &room, stdin)) >= 0;) {
        if (n && line[n - 1] == '\n') n--;
        e = one_line(t, line, (size_t)n, ++at, length, ids);
    }
    free(line);
    free(ids);
    lk_clip_tokenizer_free(t);
    return e ? lk_err_report(e) : 0;
}
