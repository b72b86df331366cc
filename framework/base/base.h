/* base: what every other folder stands on. Errors, arenas, strings, digests, counter-based
 * random numbers, threads. Depends on nothing of ours. The project's elementary functions are
 * in base/exact_math.h, which nvcc reads too.
 *
 * Errors. A function that can fail returns lk_err: NULL is success, anything else owns a
 * message that says what was wrong, where, what was expected and what to do. The caller passes
 * it up (LK_TRY), adds context (lk_err_wrap), or consumes it (lk_err_free). Nothing in the
 * library exits, aborts or prints. */
#ifndef LK_BASE_H
#define LK_BASE_H
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- errors (err.c) ---------------------------------------------------------------------- */
typedef enum {
    LK_EINPUT = 2,   /* the user's input: a key, a value, a file. A main exits with 2. */
    LK_ESHAPE = 3,   /* shapes or dtypes that do not fit (graph building) */
    LK_ENOMEM = 4,   /* memory: said before the run where it can be */
    LK_EIO    = 5,   /* the operating system refused (disk full, permission) */
    LK_ESTATE = 6,   /* a call in the wrong order, a damaged internal state */
    LK_ENUM   = 7,   /* arithmetic: NaN loss, singular matrix */
    LK_EINTR  = 8    /* asked to stop; the state was saved */
} lk_code;
typedef struct lk_error *lk_err;
#define LK_OK ((lk_err)0)
lk_err lk_error(lk_code code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* "<context>: <old message>"; takes e, returns it; NULL stays NULL. */
lk_err lk_err_wrap(lk_err e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
const char *lk_err_text(lk_err e);   /* "" for NULL; lives as long as e */
lk_code     lk_err_code(lk_err e);   /* 0 for NULL */
void        lk_err_free(lk_err e);
#define LK_TRY(call) do { lk_err lk_try_ = (call); if (lk_try_) return lk_try_; } while (0)
/* As LK_TRY, but jumps to `label` with the error in `err` (for functions with clean-up). */
#define LK_TRY_GOTO(err, label, call) do { if (((err) = (call))) goto label; } while (0)
/* For mains: prints "lk: <message>" to stderr, frees e, returns the exit status. */
int lk_err_report(lk_err e);

/* ---- arenas (arena.c): zeroed memory freed together ---------------------------------------- */
typedef struct lk_arena lk_arena;
lk_arena *lk_arena_new(void);
void      lk_arena_free(lk_arena *);
void     *lk_alloc(lk_arena *, size_t bytes);           /* zeroed, 64-byte aligned; never NULL: out of memory ends the process in one line */
char     *lk_strdup(lk_arena *, const char *);
char     *lk_fmt(lk_arena *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
char     *lk_vfmt(lk_arena *, const char *fmt, va_list);
/* malloc family with the same promise (never NULL), for what is freed one by one. */
void *lk_xmalloc(size_t), *lk_xcalloc(size_t n, size_t size), *lk_xrealloc(void *, size_t);
char *lk_xstrdup(const char *);
char *lk_xfmt(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* 64-byte aligned; free with free(). */
void *lk_xaligned(size_t bytes);
/* As aligned, and zero; free *base. Large ones are the kernel's zeros: a page is paid for by who touches it first, on whichever thread. */
void *lk_xzeros(size_t bytes, void **base);

/* ---- strings (str.c) ------------------------------------------------------------------------ */
/* Growing text: zero-initialise; free(b.s). */
typedef struct { char *s; size_t n, cap; } lk_buf;
void lk_buf_add(lk_buf *, const char *bytes, size_t n);
void lk_buf_fmt(lk_buf *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool lk_starts(const char *s, const char *prefix), lk_ends(const char *s, const char *suffix);
/* Index of the candidate nearest to `word` by edit distance (-1 if n = 0): "did you mean". */
int  lk_nearest(const char *word, const char *const *candidates, int n);
lk_err lk_read_file(const char *path, char **bytes /* malloc, NUL added */, size_t *n);
/* path.tmp, fsync, rename, fsync of the directory: the old file or the new one, never a part. */
lk_err lk_write_file_atomic(const char *path, const void *bytes, size_t n);
typedef struct { const void *at; size_t n; } lk_piece;
lk_err lk_write_pieces_atomic(const char *path, const lk_piece *, size_t n_pieces);   /* the same, gathered */
lk_err lk_mkdirs(const char *path);
double lk_wall_s(void);              /* monotonic seconds, for logs and time-outs only */

/* ---- SHA-256 (sha256.c; FIPS 180-4) --------------------------------------------------------- */
typedef struct { uint32_t h[8]; uint64_t bytes; unsigned char block[64]; bool plain; /* in C alone, for tests */ } lk_sha256;
void lk_sha256_init(lk_sha256 *);
void lk_sha256_add(lk_sha256 *, const void *, size_t);
void lk_sha256_hex(lk_sha256 *, char hex[65]);           /* ends the digest */
void lk_sha256_of(const void *, size_t, char hex[65]);
lk_err lk_sha256_file(const char *path, char hex[65]);

/* ---- Philox4x32-10 (philox.h, Salmon et al. SC'11; numerics.md rule 7) ----------------------- */
/* key = (seed, stream name), counter = (step, sample, element): no generator state exists. */
uint64_t lk_stream_key(uint64_t seed, const char *stream);    /* FNV-1a 64 of the name, mixed with the seed */
uint32_t lk_philox_u32(uint64_t key, uint64_t step, uint32_t sample, uint64_t element);
float    lk_philox_uniform(uint64_t key, uint64_t step, uint32_t sample, uint64_t element); /* [0,1), 24 bits */
float    lk_philox_normal(uint64_t key, uint64_t step, uint32_t sample, uint64_t element);
uint32_t lk_philox_below(uint64_t key, uint64_t step, uint32_t sample, uint64_t element, uint32_t n); /* floor(u32*n/2^32) */

/* ---- threads (threads.c) --------------------------------------------------------------------- */
/* A pool splits outputs, never sums: no result depends on the number of threads. */
typedef struct lk_pool lk_pool;
lk_pool *lk_pool_new(int threads);            /* threads >= 1, the caller counts as one */
void     lk_pool_free(lk_pool *);
int      lk_pool_threads(const lk_pool *);    /* 1 for NULL */
/* Calls fn(ctx, begin, end, thread) over [0, n) in pieces of at least `grain`; returns when all are done. */
typedef void (*lk_pool_fn)(void *ctx, int64_t begin, int64_t end, int thread);
void     lk_parallel(lk_pool *, int64_t n, int64_t grain, lk_pool_fn fn, void *ctx);
void     lk_parallel_touch(lk_pool *, void *memory, size_t bytes);   /* its large pages are made now, by every thread, and not one by one under the first writers */
int      lk_default_threads(void);            /* LK_THREADS, else the cores this process may use */


#define LK_NUMERICS_VERSION 1                /* docs/numerics.md; part of every run_id */
#endif
