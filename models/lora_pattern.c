/* PEFT's patterns (the keys of rank_pattern and alpha_pattern): regular expressions in Python's spelling, matched against the end of a module's
 * name, from its start or a '.' on. They are put into POSIX' extended spelling; what has no equal there is refused, never guessed. */
#include "models/lora_internal.h"
#include <ctype.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST = 1024 };

/* A key without operators: only '.' means more than itself, any one character. */
static bool plain(const char *key) {
    for (; *key; key++) if (!isalnum((unsigned char)*key) && !strchr("._-", *key)) return false;
    return true;
}
static bool plain_match(const char *key, const char *module) {
    size_t n = strlen(key), m = strlen(module);
    if (n > m || (n < m && module[m - n - 1] != '.')) return false;
    for (module += m - n; *key; key++, module++) if (*key != '.' && *key != *module) return false;
    return true;
}

/* A backslash and c, in a bracket or outside; NULL: not understood. */
static const char *escaped(char c, bool bracket, char out[3]) {
    if (c == 'd') return bracket ? "0-9" : "[0-9]";
    if (c == 'w') return bracket ? "a-zA-Z0-9_" : "[a-zA-Z0-9_]";
    if (c == 'D' && !bracket) return "[^0-9]";
    if (c == 'W' && !bracket) return "[^a-zA-Z0-9_]";
    if (c == 's' && !bracket) return "[[:space:]]";
    if (c == 'S' && !bracket) return "[^[:space:]]";
    if (!ispunct((unsigned char)c) || (bracket && strchr("]^-\\", c))) return NULL;
    out[0] = bracket ? c : '\\';
    out[1] = bracket ? 0 : c;
    out[2] = 0;
    return out;
}

/* The inside of a bracket, from behind its '['; the place behind its ']', NULL: not understood. */
static const char *bracket(const char *p, lk_buf *b) {
    char two[3];
    lk_buf_add(b, "[", 1);
    if (*p == '^') lk_buf_add(b, p++, 1);
    for (const char *first = p; *p != ']' || p == first; p++) {
        const char *text = *p == '\\' ? escaped(*++p, true, two) : NULL;
        if (!*p || *p == '[' || (p[-1] == '\\' && !text)) return NULL;
        if (text) lk_buf_add(b, text, strlen(text));
        else lk_buf_add(b, p, 1);
    }
    lk_buf_add(b, "]", 1);
    return p + 1;
}

/* Python's spelling to POSIX'. What a lazy operator matches in the whole is what its greedy one does. */
static bool translate(const char *key, lk_buf *b) {
    char two[3];
    for (const char *p = key; *p; ) {
        if (*p == '\\') {
            const char *text = escaped(p[1], false, two);
            if (!text) return false;
            lk_buf_add(b, text, strlen(text));
            p += 2;
        } else if (*p == '[') {
            p = bracket(p + 1, b);
            if (!p) return false;
        } else if (!strncmp(p, "(?:", 3)) {
            lk_buf_add(b, "(", 1);
            p += 3;
        } else if (!strncmp(p, "(?", 2) || *p == '{' || *p == '}') return false;
        else if (strchr("*+?", *p)) {
            lk_buf_add(b, p++, 1);
            if (*p == '?') p++;
            else if (*p && strchr("*+{", *p)) return false;
        } else lk_buf_add(b, p++, 1);
    }
    return true;
}

lk_err lk_lora_pattern_match(const char *key, const char *module, bool *met) {
    *met = false;
    if (plain(key)) { *met = plain_match(key, module); return LK_OK; }
    lk_buf b = { 0 };
    regex_t regex;
    lk_buf_fmt(&b, "^(.*\\.)?(");
    bool good = strlen(key) <= LONGEST && translate(key, &b);
    lk_buf_fmt(&b, ")$");
    good = good && !regcomp(&regex, b.s, REG_EXTENDED | REG_NOSUB);
    if (good) { *met = !regexec(&regex, module, 0, NULL, 0); regfree(&regex); }
    free(b.s);
    return good ? LK_OK : lk_error(LK_EINPUT, "the pattern '%s' is not understood: expected a module's name or a regular expression without look-around, back-references and repetition counts", key);
}
