/* The mutation loop: a random seed of the corpus, one to eight random changes, sometimes mended, given to
 * the target. What the target accepts joins the corpus. Each input is on disk before it is tried, so a
 * crash leaves it; a run is repeated by its seed.
 *     fuzz_X DIR SECONDS SEED         the last line: "N inputs, N accepted" */
#include "tests/fuzz/fuzz.h"
#include <unistd.h>

enum { CORPUS = 512, LONGEST = 1 << 16 };
static struct { unsigned char *s; size_t n; } corpus[CORPUS];
static int n_corpus;
static uint64_t key, draws;
static uint32_t below(uint32_t n) { return n ? lk_philox_below(key, 0, 0, draws++, n) : 0; }

static void add(const void *bytes, size_t n) {
    if (n > LONGEST) return;
    int at = n_corpus < CORPUS ? n_corpus++ : (int)below(CORPUS);
    free(corpus[at].s);
    corpus[at].s = memcpy(lk_xmalloc(n + 1), bytes, n);
    corpus[at].n = n;
}
/* ---- mutations: each changes s[0..n) in place (room for 2 * LONGEST) and returns the new length ------------- */
typedef size_t (*mutation)(unsigned char *s, size_t n);
static size_t flip(unsigned char *s, size_t n) { if (n) s[below((uint32_t)n)] ^= (unsigned char)(1 << below(8)); return n; }
static size_t poke(unsigned char *s, size_t n) {
    static const unsigned char bytes[] = {0, 1, 0x7f, 0x80, 0xff, '"', '\\', '{', '}', '[', ']', ',', '-', '0', '9', ' '};
    if (n) s[below((uint32_t)n)] = bytes[below(sizeof bytes)];
    return n;
}
static size_t cut(unsigned char *s, size_t n) { (void)s; return below((uint32_t)n + 1); }
static size_t erase(unsigned char *s, size_t n) {
    if (!n) return n;
    size_t at = below((uint32_t)n), k = 1 + below(16);
    if (k > n - at) k = n - at;
    memmove(s + at, s + at + k, n - at - k);
    return n - k;
}
static size_t repeat(unsigned char *s, size_t n) {
    if (!n || n >= LONGEST) return n;
    size_t at = below((uint32_t)n), k = 1 + below(64);
    if (k > n - at) k = n - at;
    memmove(s + at + k, s + at, n - at);
    return n + k;
}
static size_t splice(unsigned char *s, size_t n) {
    int other = (int)below((uint32_t)n_corpus);
    size_t at = below((uint32_t)n + 1), from = below((uint32_t)corpus[other].n + 1), k = corpus[other].n - from;
    if (at + k > LONGEST) return n;
    memcpy(s + at, corpus[other].s + from, k);
    return at + k;
}
static size_t number(unsigned char *s, size_t n) {                  /* a decimal number becomes an awkward one */
    static const char *const awkward[] = {"0", "-1", "1", "4", "255", "65536", "2147483647", "4294967296", "9223372036854775807", "18446744073709551616", "1e308", "1e999", "0.5"};
    size_t at = below((uint32_t)n + 1);
    while (at < n && (s[at] < '0' || s[at] > '9')) at++;
    size_t end = at;
    while (end < n && s[end] >= '0' && s[end] <= '9') end++;
    const char *w = awkward[below(sizeof awkward / sizeof awkward[0])];
    size_t k = strlen(w);
    if (at == n || n + k > LONGEST) return n;
    memmove(s + at + k, s + end, n - end);
    memcpy(s + at, w, k);
    return n - (end - at) + k;
}
static size_t nest(unsigned char *s, size_t n) {                    /* depth */
    size_t at = below((uint32_t)n + 1), k = 1 + below(below(20) ? 20 : 12000);
    if (n + k > LONGEST) return n;
    memmove(s + at + k, s + at, n - at);
    memset(s + at, below(2) ? '[' : '{', k);
    return n + k;
}
static const mutation mutations[] = {flip, flip, poke, poke, cut, erase, repeat, splice, number, number, nest};

int main(int argc, char **argv) {
    if (argc != 4) { fprintf(stderr, "usage: %s DIR SECONDS SEED\n", argv[0]); return 2; }
    key = lk_stream_key(strtoull(argv[3], NULL, 10), fuzz_name);
    char *path = lk_xfmt("%s/%s", argv[1], fuzz_name);
    fuzz_seeds(add, argv[1]);
    unsigned char *s = lk_xmalloc(2 * LONGEST + 128);
    double end = lk_wall_s() + atof(argv[2]);
    long inputs = 0, accepted = 0, seeds = n_corpus;
    for (; lk_wall_s() < end; inputs++) {
        int from = inputs < seeds ? (int)inputs : (int)below((uint32_t)n_corpus);       /* the seeds themselves first */
        size_t n = corpus[from].n;
        memcpy(s, corpus[from].s, n);
        if (inputs >= seeds) for (uint32_t k = 1 + below(8); k; k--) n = mutations[below(sizeof mutations / sizeof mutations[0])](s, n);
        if (below(4)) fuzz_mend(s, n);
        FILE *f = fopen(path, "wb");
        if (!f || fwrite(s, 1, n, f) != n || fclose(f)) { perror(path); return 1; }
        alarm(20);                                                   /* a hang is a finding too */
        if (fuzz_one(path, s, n)) { accepted++; if (inputs >= seeds) add(s, n); }
    }
    printf("%s: %ld inputs, %ld accepted\n", fuzz_name, inputs, accepted);
    for (int i = 0; i < n_corpus; i++) free(corpus[i].s);
    free(s); free(path);
    return accepted == 0;                                            /* a fuzzer whose every input is refused tests nothing */
}
