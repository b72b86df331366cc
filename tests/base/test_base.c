/* Errors, arenas, strings, SHA-256, files, threads. Oracles: FIPS 180-4 examples, counting. */
#include "tests/lib/lk_test.h"
#include <sys/mman.h>
#include <sys/resource.h>
#include <signal.h>
#include <unistd.h>

TEST(errors_carry_their_context) {
    lk_err e = lk_err_wrap(lk_error(LK_EINPUT, "key '%s' is missing", "rank"), "config.json");
    CHECK(strcmp(lk_err_text(e), "config.json: key 'rank' is missing") == 0);
    CHECK(lk_err_code(e) == LK_EINPUT);
    lk_err_free(e);
    CHECK(lk_err_wrap(LK_OK, "x") == LK_OK);
}
TEST(arena_memory_is_zeroed_and_aligned) {
    lk_arena *a = lk_arena_new();
    for (size_t n = 1; n < 200000; n = n * 3 + 1) {
        char *p = lk_alloc(a, n);
        CHECK((uintptr_t)p % 64 == 0 && p[0] == 0 && p[n - 1] == 0);
        memset(p, 0xff, n);
    }
    CHECK(strcmp(lk_fmt(a, "%d-%s", 7, "x"), "7-x") == 0);
    lk_arena_free(a);
}
TEST(sha256_gives_the_standards_examples) {
    char hex[65];
    lk_sha256_of("abc", 3, hex);
    CHECK(strcmp(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad") == 0);
    lk_sha256_of("", 0, hex);
    CHECK(strcmp(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855") == 0);
    lk_sha256 c; lk_sha256_init(&c);
    char block[997]; memset(block, 'a', sizeof block);
    for (size_t left = 1000000; left;) { size_t k = left < sizeof block ? left : sizeof block; lk_sha256_add(&c, block, k); left -= k; }
    lk_sha256_hex(&c, hex);
    CHECK(strcmp(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0") == 0);
    for (size_t n = 50; n < 70; n++) {          /* around the padding's edge: pieces = whole */
        char whole[65]; lk_sha256_of(block, n, whole);
        lk_sha256_init(&c); for (size_t i = 0; i < n; i++) lk_sha256_add(&c, block + i, 1);
        lk_sha256_hex(&c, hex);
        CHECK(strcmp(hex, whole) == 0);
    }
}
/* Both ways through the same examples: messages of every length around a block's edges, and FIPS 180-4's million letters. */
TEST(sha256_is_the_same_with_and_without_the_processors_instructions) {
    unsigned char text[5000];
    char hex[2][65];
    for (int i = 0; i < 5000; i++) text[i] = (unsigned char)(i * 31 + (i >> 5));
    for (size_t n = 0; n < 5000; n += n < 300 ? 1 : 257) {
        for (int plain = 0; plain < 2; plain++) {
            lk_sha256 c;
            lk_sha256_init(&c);
            c.plain = plain;
            lk_sha256_add(&c, text, n / 3);
            lk_sha256_add(&c, text + n / 3, n - n / 3);
            lk_sha256_hex(&c, hex[plain]);
        }
        CHECK(strcmp(hex[0], hex[1]) == 0);
    }
    lk_sha256 c;
    lk_sha256_init(&c);
    c.plain = true;
    memset(text, 'a', sizeof text);
    for (int i = 0; i < 200; i++) lk_sha256_add(&c, text, 5000);
    lk_sha256_hex(&c, hex[0]);
    CHECK(strcmp(hex[0], "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0") == 0);
}
/* Oracle: the kernel's own account of which pages are there. */
TEST(touched_memory_is_there_unchanged_and_no_other) {
    enum { MIB = 1 << 20, ALL = 32 * MIB };
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *p = mmap(NULL, ALL, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *there = lk_xmalloc(ALL / page);
    CHECK(p != MAP_FAILED);
    madvise(p, ALL, MADV_NOHUGEPAGE);
    memset(p + 9 * MIB, 7, 3 * MIB);
    lk_pool *pool = lk_pool_new(3);
    lk_parallel_touch(NULL, p, ALL);                       /* one thread: left to who writes */
    lk_parallel_touch(pool, p + 5 * MIB + 100, 15 * MIB);
    CHECK(!mincore(p, ALL, there));
    size_t outside = 0, missing = 0;
    for (size_t i = 0; i < ALL / page; i++) {
        if (i * page < 5 * MIB || i * page >= 20 * MIB + 100) outside += there[i] & 1;
        if (i * page >= 7 * MIB + 100 && i * page < 18 * MIB) missing += !(there[i] & 1);
    }
    CHECK(!outside);
#ifdef MADV_POPULATE_WRITE
    if (!madvise(p, page, MADV_POPULATE_WRITE)) CHECK(!missing);           /* since Linux 5.14 */
#endif
    for (size_t i = 0; i < ALL; i += 61) if (p[i] != (i >= 9 * MIB && i < 12 * MIB ? 7 : 0)) outside++;
    CHECK(!outside);
    lk_pool_free(pool);
    free(there);
    munmap(p, ALL);
}
TEST(nearest_name_is_found) {
    const char *names[] = {"rank", "subject", "seed"};
    CHECK(lk_nearest("rnak", names, 3) == 0);
    CHECK(lk_nearest("sed", names, 3) == 2);
    CHECK(lk_nearest("x", names, 0) == -1);
}
TEST(a_file_is_the_old_one_or_the_new_one) {
    char path[300]; snprintf(path, sizeof path, "%s/f", lk_test_dir());
    CHECK_OK(lk_write_file_atomic(path, "old", 3));
    struct rlimit old, small = {1000, RLIM_INFINITY};
    getrlimit(RLIMIT_FSIZE, &old); small.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN); setrlimit(RLIMIT_FSIZE, &small);
    char big[5000] = {0};
    CHECK_FAILS(lk_write_file_atomic(path, big, sizeof big), "wrote 1000 of 5000 bytes");
    setrlimit(RLIMIT_FSIZE, &old);
    char *s; size_t n;
    CHECK_OK(lk_read_file(path, &s, &n));
    CHECK(n == 3 && strcmp(s, "old") == 0);
    free(s);
    strcat(path, ".tmp");
    CHECK(access(path, F_OK) != 0);
    CHECK_FAILS(lk_read_file("/nonexistent/x", &s, &n), "/nonexistent/x");
}
static void count(void *ctx, int64_t lo, int64_t hi, int thread) { (void)thread; for (int64_t i = lo; i < hi; i++) ((int *)ctx)[i]++; }
TEST(every_item_is_done_once_by_any_number_of_threads) {
    for (int threads = 1; threads <= 4; threads++) {
        lk_pool *p = lk_pool_new(threads);
        int done[1000];
        for (int rep = 0; rep < 200; rep++) {
            memset(done, 0, sizeof done);
            lk_parallel(p, 1000, 1 + rep * 10, count, done);
            int bad = 0;
            for (int i = 0; i < 1000; i++) bad += done[i] != 1;
            CHECK(bad == 0);
        }
        lk_pool_free(p);
    }
}
