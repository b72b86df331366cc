/* The source id: SHA-256 over the preprocessing tokens of what is linked into a program, so that a comment or a
 * line break changes nothing and a changed token everything.
 *
 * Tokens are those of C17 6.4, each followed by one space. Two things that look like white space are tokens where the
 * grammar says so, or different programs would read the same: the new-line that ends a directive, and the parenthesis
 * that directly follows a macro's name in #define (6.10.3: it stays glued to the name). */
#include "harness/internal.h"
#include <ctype.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char lk_source_slot[];
static const char slot_head[] = "LIKENESS-SOURCE-ID:";

/* Backslash-newline is gone before anything else sees the text (5.1.1.2 phase 2). */
static char *spliced(const char *text, size_t n, size_t *kept) {
    char *s = lk_xmalloc(n + 2);
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '\r' && i + 1 < n && text[i + 1] == '\n') continue;
        if (text[i] == '\\' && i + 1 < n && text[i + 1] == '\n') { i++; continue; }
        if (text[i] == '\\' && i + 2 < n && text[i + 1] == '\r' && text[i + 2] == '\n') { i += 2; continue; }
        s[k++] = text[i];
    }
    s[k] = s[k + 1] = 0;
    *kept = k;
    return s;
}
static size_t comment(const char *s) {                    /* its length, 0 if none starts here */
    if (s[0] != '/') return 0;
    if (s[1] == '/') return strcspn(s, "\n");
    if (s[1] != '*') return 0;
    const char *end = strstr(s + 2, "*/");
    return end ? (size_t)(end - s) + 2 : strlen(s);
}
static size_t quoted(const char *s, char close) {
    size_t i = 1;
    while (s[i] && s[i] != close && s[i] != '\n') i += s[i] == '\\' && s[i + 1] ? 2 : 1;
    return s[i] == close ? i + 1 : i;
}
static size_t number(const char *s) {
    size_t i = 0;
    while (isalnum((unsigned char)s[i]) || s[i] == '.' || s[i] == '_' || (i && strchr("+-", s[i]) && s[i] && strchr("eEpP", s[i - 1]))) i++;
    return i;
}
static size_t word(const char *s) {
    size_t i = 0;
    while (isalnum((unsigned char)s[i]) || s[i] == '_' || (unsigned char)s[i] >= 128) i++;
    return i;
}
static size_t punctuator(const char *s) {
    static const char *const longest_first[] = {"%:%:", "...", "<<=", ">>=", "->", "++", "--", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "*=", "/=", "%=", "+=",
                                                "-=", "&=", "^=", "|=", "##", "<:", ":>", "<%", "%>", "%:"};
    for (size_t i = 0; i < sizeof longest_first / sizeof longest_first[0]; i++) if (lk_starts(s, longest_first[i])) return strlen(longest_first[i]);
    return 1;
}
static size_t token(const char *s, bool header_name) {
    if (*s == '"' || *s == '\'') return quoted(s, *s);
    if (*s == '<' && header_name) return quoted(s, '>');
    if (strchr("LuU", *s)) {                              /* L"", u8"", U'' are one token */
        size_t p = s[0] == 'u' && s[1] == '8' ? 2 : 1;
        if (s[p] == '"' || s[p] == '\'') return p + quoted(s + p, s[p]);
    }
    if (isdigit((unsigned char)*s) || (*s == '.' && isdigit((unsigned char)s[1]))) return number(s);
    size_t n = word(s);
    return n ? n : punctuator(s);
}
void source_tokens(const char *text, size_t n, lk_sha256 *to) {
    size_t length;
    char *copy = spliced(text, n, &length);
    bool line_empty = true, directive = false, include = false, define = false;
    int in_directive = 0;                                  /* tokens of the directive so far */
    for (const char *s = copy, *end = copy + length; s < end;) {
        size_t k = comment(s);
        if (k) { s += k; continue; }
        if (*s == '\n') {
            if (directive) lk_sha256_add(to, "\n ", 2);
            line_empty = true; directive = include = define = false;
            s++;
            continue;
        }
        if (isspace((unsigned char)*s) || !*s) { s++; continue; }
        if (line_empty && *s == '#') { directive = true; in_directive = 0; }
        line_empty = false;
        k = token(s, include);
        in_directive++;
        if (directive && in_directive == 2) { include = k == 7 && !strncmp(s, "include", 7); define = k == 6 && !strncmp(s, "define", 6); }
        if (define && in_directive == 3 && s[k] == '(') k++;
        lk_sha256_add(to, s, k);
        lk_sha256_add(to, " ", 1);
        s += k;
    }
    free(copy);
}

/* ---- in and out of the program ------------------------------------------------------------------------------- */
lk_err source_patch(const char *binary, const char *hex) {
    char *bytes; size_t n;
    LK_TRY(lk_read_file(binary, &bytes, &n));
    size_t head = sizeof slot_head - 1;
    lk_err e = LK_OK;
    int fd = open(binary, O_WRONLY | O_CLOEXEC), found = 0;
    if (fd < 0) e = lk_error(LK_EIO, "%s: cannot be written", binary);
    for (char *s = bytes; !e && s && (s = memmem(s, n - (size_t)(s - bytes), slot_head, head)); s += head) {
        if ((size_t)(s - bytes) + head + 64 > n || strspn(s + head, "0123456789abcdef") != 64) continue;   /* the head alone, as in this file */
        found++;
        if (pwrite(fd, hex, 64, s - bytes + (off_t)head) != 64) e = lk_error(LK_EIO, "%s: writing the source id failed", binary);
    }
    if (fd >= 0) close(fd);
    free(bytes);
    if (!e && !found) e = lk_error(LK_ESTATE, "%s: has no place for a source id: it is not linked with the harness", binary);
    return e;
}
lk_err source_of_program(char hex[65]) {
    const char *slot = lk_source_slot + sizeof slot_head - 1;
    if (strspn(slot, "0") < 64) { memcpy(hex, slot, 64); hex[64] = 0; return LK_OK; }
    return lk_sha256_file("/proc/self/exe", hex);
}
