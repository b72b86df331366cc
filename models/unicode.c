/* Unicode for tokenisers. See unicode.h. Tables are sorted by their first member and searched by halving. */
#include "models/unicode.h"
#include <stdlib.h>

/* ---- UTF-8 -------------------------------------------------------------------------------------------------- */
void lk_runes_add(lk_runes *r, uint32_t c) {
    if (r->n == r->cap) r->c = lk_xrealloc(r->c, (r->cap = r->cap ? 2 * r->cap : 64) * sizeof *r->c);
    r->c[r->n++] = c;
}
lk_err lk_utf8_decode(const char *text, size_t n, lk_runes *out) {
    const unsigned char *s = (const unsigned char *)text;
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    for (size_t i = 0; i < n;) {
        int len = s[i] < 0x80 ? 1 : s[i] >= 0xC2 && s[i] < 0xE0 ? 2 : s[i] >= 0xE0 && s[i] < 0xF0 ? 3 : s[i] >= 0xF0 && s[i] < 0xF5 ? 4 : 0;
        uint32_t c = len < 2 ? s[i] : s[i] & (0x7Fu >> len);
        bool good = len > 0 && i + (size_t)len <= n;
        for (int k = 1; good && k < len; k++) {
            good = (s[i + (size_t)k] & 0xC0) == 0x80;
            c = c << 6 | (s[i + (size_t)k] & 0x3F);
        }
        if (!good || c < least[len] || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF))
            return lk_error(LK_EINPUT, "text is not UTF-8 at byte %zu (0x%02x)", i, s[i]);
        lk_runes_add(out, c);
        i += (size_t)len;
    }
    return LK_OK;
}
void lk_utf8_add(lk_buf *b, uint32_t c) {
    char s[4];
    if (c < 0x80) { s[0] = (char)c; lk_buf_add(b, s, 1); return; }
    int n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = { 0, 0, 0xC0, 0xE0, 0xF0 };
    for (int k = n - 1; k > 0; k--, c >>= 6) s[k] = (char)(0x80 | (c & 0x3F));
    s[0] = (char)(lead[n] | c);
    lk_buf_add(b, s, (size_t)n);
}

/* ---- tables --------------------------------------------------------------------------------------------------- */
static uint32_t in_ranges(const lk_unicode_range *t, int n, uint32_t c) {
    int lo = 0, hi = n;
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (t[mid].last < c) lo = mid + 1; else hi = mid;
    }
    return lo < n && t[lo].first <= c ? t[lo].value : 0;
}
static bool is_space(uint32_t c) {
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}
lk_rune_kind lk_unicode_kind(uint32_t c) {
    if (is_space(c)) return LK_RUNE_SPACE;
    return (lk_rune_kind)in_ranges(lk_unicode_kinds, lk_unicode_n_kinds, c);         /* the table holds the enumeration's own numbers */
}
int lk_unicode_lowercase(uint32_t c, uint32_t out[2]) {
    int lo = 0, hi = lk_unicode_n_lower;
    out[0] = c;
    if (c == 0x130) { out[0] = 'i'; out[1] = 0x307; return 2; }
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (lk_unicode_lower[mid].last < c) lo = mid + 1; else hi = mid;
    }
    const lk_unicode_case *t = &lk_unicode_lower[lo];
    if (lo < lk_unicode_n_lower && t->first <= c && (c - t->first) % (uint32_t)t->step == 0) out[0] = (uint32_t)((int32_t)c + t->delta);
    return 1;
}

/* ---- composition (UAX #15) ---------------------------------------------------------------------------------------- */
enum { S = 0xAC00, L = 0x1100, V = 0x1161, T = 0x11A7, VN = 21, TN = 28, LN = 19, SN = LN * VN * TN };   /* Hangul syllables by arithmetic */
static int combining(uint32_t c) { return (int)in_ranges(lk_unicode_classes, lk_unicode_n_classes, c); }

static const lk_unicode_pair *pair_of(uint32_t c) {
    int lo = 0, hi = lk_unicode_n_pairs;
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (lk_unicode_pairs[mid].composed < c) lo = mid + 1; else hi = mid;
    }
    return lo < lk_unicode_n_pairs && lk_unicode_pairs[lo].composed == c ? &lk_unicode_pairs[lo] : NULL;
}
static void decompose(uint32_t c, lk_runes *out) {
    if (c >= S && c < S + SN) {
        uint32_t i = c - S, t = i % TN;
        lk_runes_add(out, L + i / (VN * TN));
        lk_runes_add(out, V + i % (VN * TN) / TN);
        if (t) lk_runes_add(out, T + t);
        return;
    }
    const lk_unicode_pair *p = c < 0xC0 ? NULL : pair_of(c);
    if (!p) { lk_runes_add(out, c); return; }
    decompose(p->first, out);
    if (p->second) decompose(p->second, out);
}
static int by_pair(const void *a, const void *b) {
    const lk_unicode_pair *x = *(const lk_unicode_pair *const *)a, *y = *(const lk_unicode_pair *const *)b;
    if (x->first != y->first) return x->first < y->first ? -1 : 1;
    return x->second < y->second ? -1 : x->second > y->second;
}
static uint32_t compose(const lk_unicode_pair *const *index, int n, uint32_t a, uint32_t b) {      /* 0: the two do not compose */
    if (a >= L && a < L + LN && b >= V && b < V + VN) return S + ((a - L) * VN + (b - V)) * TN;
    if (a >= S && a < S + SN && (a - S) % TN == 0 && b > T && b < T + TN) return a + (b - T);
    lk_unicode_pair key = { .first = a, .second = b };
    const lk_unicode_pair *k = &key, *const *hit = bsearch(&k, index, (size_t)n, sizeof *index, by_pair);
    return hit ? (*hit)->composed : 0;
}
void lk_unicode_nfc(lk_runes *r) {
    bool plain = true;
    for (size_t i = 0; i < r->n && plain; i++) plain = r->c[i] < 0x300;       /* below the first combining mark everything is composed */
    if (plain) return;
    lk_runes d = { 0 };
    for (size_t i = 0; i < r->n; i++) decompose(r->c[i], &d);
    for (size_t i = 1; i < d.n; i++) {                                          /* canonical order: stable by combining class between starters */
        uint32_t c = d.c[i];
        int cc = combining(c);
        size_t k = i;
        for (; cc && k > 0 && combining(d.c[k - 1]) > cc; k--) d.c[k] = d.c[k - 1];
        d.c[k] = c;
    }
    const lk_unicode_pair **index = lk_xmalloc((size_t)lk_unicode_n_pairs * sizeof *index);
    int n = 0;
    for (int i = 0; i < lk_unicode_n_pairs; i++) if (lk_unicode_pairs[i].composes) index[n++] = &lk_unicode_pairs[i];
    qsort(index, (size_t)n, sizeof *index, by_pair);
    size_t out = 0, starter = 0;
    bool have = false;
    int last = 0;                                                               /* class of the last character kept after the starter */
    for (size_t i = 0; i < d.n; i++) {
        int cc = combining(d.c[i]);
        uint32_t both = have && (out == starter + 1 || last < cc) ? compose(index, n, d.c[starter], d.c[i]) : 0;
        if (both) { d.c[starter] = both; continue; }
        if (cc == 0) { starter = out; have = true; }
        last = cc;
        d.c[out++] = d.c[i];
    }
    free(index);
    free(r->c);
    d.n = out;
    *r = d;
}
