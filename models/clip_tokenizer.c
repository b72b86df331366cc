/* CLIP's tokeniser: files, hash tables, splitting, merging. See clip_tokenizer.h.
 *
 * A piece is merged pair by pair: always the pair of lowest rank, the leftmost of equals, taken from a heap; a pair that has changed since it
 * was put there is dropped when it comes up. So the result does not depend on how the heap breaks ties. */
#include "models/clip_tokenizer.h"
#include "models/unicode.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char start_text[] = "<|startoftext|>", end_text[] = "<|endoftext|>";

typedef struct { const char *text; size_t n; int64_t id; } entry;
typedef struct { uint64_t pair; int rank; int64_t id; } merge;            /* pair: left id << 32 | right id, plus one, so that 0 is empty */
struct lk_clip_tokenizer {
    lk_arena *memory;
    entry *words; size_t word_slots; int count;
    merge *merges; size_t merge_slots;
    int64_t start, end, pad;
    int64_t byte[256], byte_end[256];                                     /* ids of the characters that stand for single bytes; with </w> */
};

/* ---- tables: open addressing, at most half full ------------------------------------------------------------------ */
static uint64_t hash_bytes(const char *s, size_t n) {
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 1099511628211u;
    return h ^ h >> 29;
}
static entry *word_slot(const lk_clip_tokenizer *t, const char *s, size_t n) {
    size_t at = hash_bytes(s, n) & (t->word_slots - 1);
    while (t->words[at].text && (t->words[at].n != n || memcmp(t->words[at].text, s, n))) at = (at + 1) & (t->word_slots - 1);
    return &t->words[at];
}
static int64_t word_id(const lk_clip_tokenizer *t, const char *s, size_t n) {
    const entry *e = word_slot(t, s, n);
    return e->text ? e->id : -1;
}
static merge *merge_slot(const lk_clip_tokenizer *t, int64_t left, int64_t right) {
    uint64_t pair = ((uint64_t)left << 32 | (uint64_t)right) + 1, h = pair * 0x9E3779B97F4A7C15u;
    size_t at = (h ^ h >> 32) & (t->merge_slots - 1);
    while (t->merges[at].pair && t->merges[at].pair != pair) at = (at + 1) & (t->merge_slots - 1);
    return &t->merges[at];
}
static size_t slots_for(size_t n) { size_t s = 64; while (s < 2 * n + 2) s *= 2; return s; }

/* ---- files ----------------------------------------------------------------------------------------------------------- */
static lk_err read_vocab(lk_clip_tokenizer *t, const char *path) {
    json_t *j, *value;
    const char *key;
    LK_TRY(lk_json_load(path, &j));
    lk_err e = json_is_object(j) && json_object_size(j) ? LK_OK : lk_error(LK_EINPUT, "%s: expected an object of tokens and their ids", path);
    size_t n = json_object_size(j);
    t->word_slots = slots_for(n);
    t->words = lk_alloc(t->memory, t->word_slots * sizeof *t->words);
    bool *used = lk_xcalloc(n + 1, sizeof *used);
    json_object_foreach(j, key, value) {
        json_int_t id = json_integer_value(value);
        if (e) break;
        if (!json_is_integer(value) || id < 0 || id >= 1 << 28) e = lk_error(LK_EINPUT, "%s: token '%s': an id from 0 to 2^28 is expected", path, key);
        else if ((size_t)id < n && used[id]) e = lk_error(LK_EINPUT, "%s: token '%s': id %lld is another token's, too", path, key, (long long)id);
        if (e) break;
        if ((size_t)id < n) used[id] = true;
        size_t len = strlen(key);
        *word_slot(t, key, len) = (entry){ lk_strdup(t->memory, key), len, id };
        t->count++;
    }
    free(used);
    json_decref(j);
    return e;
}
/* The character that stands for a byte: itself where printable in Latin-1, else U+0100 and up in the order of the bytes. */
static uint32_t byte_rune(int b, int *next) {
    bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    return printable ? (uint32_t)b : 256u + (uint32_t)(*next)++;
}
static void fill_bytes(lk_clip_tokenizer *t) {
    int next = 0;
    for (int b = 0; b < 256; b++) {
        lk_buf s = { 0 };
        lk_utf8_add(&s, byte_rune(b, &next));
        t->byte[b] = word_id(t, s.s, s.n);
        lk_buf_add(&s, "</w>", 4);
        t->byte_end[b] = word_id(t, s.s, s.n);
        free(s.s);
        if (t->byte[b] < 0) t->byte[b] = t->end;                          /* the unknown token is the end token */
        if (t->byte_end[b] < 0) t->byte_end[b] = t->end;
    }
}
static lk_err one_merge(lk_clip_tokenizer *t, const char *path, int line, const char *s, size_t n, int rank) {
    const char *blank = memchr(s, ' ', n);
    size_t left = blank ? (size_t)(blank - s) : 0, right = n - left - 1;
    if (!blank || !left || !right || memchr(blank + 1, ' ', right)) return lk_error(LK_EINPUT, "%s:%d: '%.*s': a merge is two tokens with one blank between", path, line, (int)(n < 80 ? n : 80), s);
    int64_t a = word_id(t, s, left), b = word_id(t, blank + 1, right);
    char *both = lk_xmalloc(n);
    memcpy(both, s, left);
    memcpy(both + left, blank + 1, right);
    int64_t id = word_id(t, both, n - 1);
    free(both);
    if (a < 0 || b < 0 || id < 0)
        return lk_error(LK_EINPUT, "%s:%d: merge '%.*s': the vocabulary lacks %s", path, line, (int)(n < 80 ? n : 80), s, a < 0 ? "the first token" : b < 0 ? "the second token" : "the result");
    merge *m = merge_slot(t, a, b);
    *m = (merge){ m->pair ? m->pair : ((uint64_t)a << 32 | (uint64_t)b) + 1, rank, id };      /* a pair listed twice keeps the later rank */
    return LK_OK;
}
static lk_err read_merges(lk_clip_tokenizer *t, const char *path) {
    char *text;
    size_t n, lines = 1;
    LK_TRY(lk_read_file(path, &text, &n));
    for (size_t i = 0; i < n; i++) lines += text[i] == '\n';
    t->merge_slots = slots_for(lines);
    t->merges = lk_alloc(t->memory, t->merge_slots * sizeof *t->merges);
    lk_err e = LK_OK;
    int line = 0, rank = 0;
    for (size_t at = 0; at < n && !e;) {
        size_t len = 0;
        while (at + len < n && text[at + len] != '\n') len++;
        size_t used = len && text[at + len - 1] == '\r' ? len - 1 : len;
        line++;
        bool header = used >= 8 && !memcmp(text + at, "#version", 8);
        if (used && !header) e = one_merge(t, path, line, text + at, used, rank++);
        at += len + 1;
    }
    free(text);
    return e;
}
lk_err lk_clip_tokenizer_load(const char *vocab, const char *merges, const char *pad, lk_clip_tokenizer **out) {
    lk_arena *a = lk_arena_new();
    lk_clip_tokenizer *t = lk_alloc(a, sizeof *t);
    *out = NULL;
    t->memory = a;
    lk_err e = read_vocab(t, vocab);
    if (!e) {
        t->start = lk_clip_tokenizer_id(t, start_text);
        t->end = lk_clip_tokenizer_id(t, end_text);
        t->pad = pad ? lk_clip_tokenizer_id(t, pad) : t->end;
        if (t->start < 0 || t->end < 0) e = lk_error(LK_EINPUT, "%s: no token '%s': not the vocabulary of a CLIP tokeniser", vocab, t->start < 0 ? start_text : end_text);
        else if (t->pad < 0) e = lk_error(LK_EINPUT, "%s: no padding token '%s'", vocab, pad);
    }
    if (!e) e = read_merges(t, merges);
    if (e) { lk_arena_free(a); return e; }
    fill_bytes(t);
    *out = t;
    return LK_OK;
}
lk_err lk_clip_tokenizer_open(const char *dir, lk_clip_tokenizer **out) {
    lk_arena *a = lk_arena_new();
    json_t *map = NULL;
    const char *path = lk_fmt(a, "%s/special_tokens_map.json", dir), *pad = NULL;
    lk_err e = access(path, F_OK) ? LK_OK : lk_json_load(path, &map);     /* a missing one is usual, a damaged one is refused */
    if (map) {
        const json_t *p = json_object_get(map, "pad_token");
        pad = json_is_object(p) ? json_string_value(json_object_get(p, "content")) : json_string_value(p);
    }
    if (!e) e = lk_clip_tokenizer_load(lk_fmt(a, "%s/vocab.json", dir), lk_fmt(a, "%s/merges.txt", dir), pad, out);
    json_decref(map);
    lk_arena_free(a);
    return e;
}
void lk_clip_tokenizer_free(lk_clip_tokenizer *t) { if (t) lk_arena_free(t->memory); }
int lk_clip_tokenizer_count(const lk_clip_tokenizer *t) { return t->count; }
int64_t lk_clip_tokenizer_id(const lk_clip_tokenizer *t, const char *token) { return word_id(t, token, strlen(token)); }

/* ---- merging one piece ----------------------------------------------------------------------------------------------- */
typedef struct { int64_t id; int prev, next; bool gone; } symbol;
typedef struct { int rank, at; int64_t left, right; } candidate;
typedef struct { symbol *s; int n; candidate *heap; int heap_n; int64_t *out; size_t out_n, out_cap; } work;

static bool earlier(candidate a, candidate b) { return a.rank != b.rank ? a.rank < b.rank : a.at < b.at; }
static void push(work *w, candidate c) {
    int i = w->heap_n++;
    for (; i && earlier(c, w->heap[(i - 1) / 2]); i = (i - 1) / 2) w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = c;
}
static candidate pop(work *w) {
    candidate top = w->heap[0], c = w->heap[--w->heap_n];
    int i = 0;
    for (int k; (k = 2 * i + 1) < w->heap_n; i = k) {
        if (k + 1 < w->heap_n && earlier(w->heap[k + 1], w->heap[k])) k++;
        if (!earlier(w->heap[k], c)) break;
        w->heap[i] = w->heap[k];
    }
    w->heap[i] = c;
    return top;
}
static void consider(const lk_clip_tokenizer *t, work *w, int at) {
    if (at < 0 || w->s[at].next < 0) return;
    int64_t left = w->s[at].id, right = w->s[w->s[at].next].id;
    const merge *m = merge_slot(t, left, right);
    if (m->pair) push(w, (candidate){ m->rank, at, left, right });
}
static void emit(work *w, int64_t id) {
    if (w->out_n == w->out_cap) w->out = lk_xrealloc(w->out, (w->out_cap = w->out_cap ? 2 * w->out_cap : 128) * sizeof *w->out);
    w->out[w->out_n++] = id;
}
static void merge_piece(const lk_clip_tokenizer *t, work *w, const char *bytes, size_t n) {
    w->n = (int)n;
    w->s = lk_xrealloc(w->s, n * sizeof *w->s);
    w->heap = lk_xrealloc(w->heap, 3 * n * sizeof *w->heap);              /* n - 1 at first, two for each of at most n - 1 merges */
    w->heap_n = 0;
    for (int i = 0; i < w->n; i++) {
        unsigned char b = (unsigned char)bytes[i];
        w->s[i] = (symbol){ i == w->n - 1 ? t->byte_end[b] : t->byte[b], i - 1, i == w->n - 1 ? -1 : i + 1, false };
    }
    for (int i = 0; i < w->n; i++) consider(t, w, i);
    while (w->heap_n) {
        candidate c = pop(w);
        symbol *a = &w->s[c.at];
        if (a->gone || a->next < 0 || a->id != c.left || w->s[a->next].id != c.right) continue;
        symbol *b = &w->s[a->next];
        a->id = merge_slot(t, c.left, c.right)->id;
        b->gone = true;
        a->next = b->next;
        if (a->next >= 0) w->s[a->next].prev = c.at;
        consider(t, w, a->prev);
        consider(t, w, c.at);
    }
    for (int i = 0; i >= 0; i = w->s[i].next) emit(w, w->s[i].id);
}

/* ---- splitting ---------------------------------------------------------------------------------------------------------- */
static bool at_text(const lk_runes *r, size_t i, const char *s) {
    size_t n = strlen(s);
    if (i + n > r->n) return false;
    for (size_t k = 0; k < n; k++) if (r->c[i + k] != (unsigned char)s[k]) return false;
    return true;
}
static size_t contraction(const lk_runes *r, size_t i) {
    static const char *const all[] = { "'s", "'t", "'re", "'ve", "'m", "'ll", "'d" };
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) if (at_text(r, i, all[k])) return strlen(all[k]);
    return 0;
}
static void piece(const lk_clip_tokenizer *t, work *w, const lk_runes *r, size_t from, size_t to) {
    lk_buf b = { 0 };
    for (size_t i = from; i < to; i++) lk_utf8_add(&b, r->c[i]);
    merge_piece(t, w, b.s, b.n);
    free(b.s);
}
/* Pieces of composed, lower-case text within [i, end): contractions, runs of letters, single numbers, runs of the rest. A special token that
 * only lower case made (its own spelling is cut out before) is still a piece of the first pattern; the byte level's pattern then parts it. */
static void split(const lk_clip_tokenizer *t, work *w, const lk_runes *r, size_t i, size_t end) {
    while (i < end) {
        lk_rune_kind kind = lk_unicode_kind(r->c[i]);
        size_t to = i + 1;
        if (kind == LK_RUNE_SPACE) { i++; continue; }
        size_t special = at_text(r, i, start_text) ? sizeof start_text - 1 : at_text(r, i, end_text) ? sizeof end_text - 1 : 0;
        if (special) {
            piece(t, w, r, i, i + 2);
            piece(t, w, r, i + 2, i + special - 2);
            piece(t, w, r, i + special - 2, i + special);
            i += special;
            continue;
        }
        size_t c = contraction(r, i);
        if (c) to = i + c;
        else if (kind != LK_RUNE_NUMBER) while (to < end && lk_unicode_kind(r->c[to]) == kind) to++;
        piece(t, w, r, i, to);
        i = to;
    }
}
static void plain_text(const lk_clip_tokenizer *t, work *w, const uint32_t *c, size_t n) {
    lk_runes r = { 0 }, low = { 0 };
    for (size_t i = 0; i < n; i++) lk_runes_add(&r, c[i]);
    lk_unicode_nfc(&r);
    for (size_t i = 0; i < r.n; i++) {
        uint32_t to[2];
        int k = lk_unicode_lowercase(r.c[i], to);
        for (int j = 0; j < k; j++) lk_runes_add(&low, to[j]);
    }
    split(t, w, &low, 0, low.n);
    free(r.c);
    free(low.c);
}
static void whole_text(const lk_clip_tokenizer *t, work *w, const lk_runes *r) {       /* the two special tokens stand for themselves */
    size_t from = 0;
    for (size_t i = 0; i <= r->n; i++) {
        bool start = i < r->n && at_text(r, i, start_text), end = i < r->n && at_text(r, i, end_text);
        if (i < r->n && !start && !end) continue;
        if (i > from) plain_text(t, w, r->c + from, i - from);
        if (i == r->n) break;
        emit(w, start ? t->start : t->end);
        i += (start ? sizeof start_text : sizeof end_text) - 2;
        from = i + 1;
    }
}

lk_err lk_clip_tokenize(const lk_clip_tokenizer *t, const char *text, size_t n, int length, int64_t *ids, int *used) {
    if (length < 2) return lk_error(LK_EINPUT, "a CLIP text of %d ids: at least 2 are needed, for the start and the end", length);
    if (n > 1 << 24) return lk_error(LK_EINPUT, "a CLIP text of %zu bytes: at most 16 MB", n);
    lk_runes r = { 0 };
    lk_err e = lk_utf8_decode(text, n, &r);
    work w = { 0 };
    if (!e) {
        whole_text(t, &w, &r);
        int kept = w.out_n < (size_t)length - 2 ? (int)w.out_n : length - 2;
        ids[0] = t->start;
        for (int i = 0; i < kept; i++) ids[i + 1] = w.out[i];
        ids[kept + 1] = t->end;
        for (int i = kept + 2; i < length; i++) ids[i] = t->pad;
        if (used) *used = kept + 2;
    }
    free(r.c); free(w.s); free(w.heap); free(w.out);
    return e;
}
