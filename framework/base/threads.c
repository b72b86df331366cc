/* A pool of threads that splits a range of outputs. The split depends on the number of threads, the results
 * never do: no function here adds anything. Workers spin for a moment between jobs (a training step is
 * thousands of small ones), then sleep. */
#include "base/base.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

typedef struct { lk_pool *pool; int index; pthread_t thread; } worker;
struct lk_pool {
    int n;                                /* threads, the caller included */
    worker *workers;                      /* n - 1 */
    pthread_mutex_t lock; pthread_cond_t wake;
    atomic_uint job;                      /* counts jobs; a change wakes the workers */
    atomic_int  left;                     /* workers still busy with this job */
    atomic_bool stop;
    atomic_int  sleepers;
    lk_pool_fn fn; void *ctx; int64_t items; int parts;
};
enum { SPINS = 4000 };

static void do_part(lk_pool *p, int part) {
    int64_t lo = p->items * part / p->parts, hi = p->items * (part + 1) / p->parts;
    if (lo < hi) p->fn(p->ctx, lo, hi, part);
}
static void *work(void *arg) {
    worker *w = arg;
    lk_pool *p = w->pool;
    unsigned seen = 0;
    for (;;) {
        for (int i = 0; i < SPINS && atomic_load_explicit(&p->job, memory_order_acquire) == seen; i++) {
#if defined(__x86_64__)
            __builtin_ia32_pause();
#endif
        }
        if (atomic_load(&p->job) == seen) {
            pthread_mutex_lock(&p->lock);
            atomic_fetch_add(&p->sleepers, 1);
            while (atomic_load(&p->job) == seen) pthread_cond_wait(&p->wake, &p->lock);
            atomic_fetch_sub(&p->sleepers, 1);
            pthread_mutex_unlock(&p->lock);
        }
        seen = atomic_load(&p->job);
        if (atomic_load(&p->stop)) return NULL;
        if (w->index < p->parts) do_part(p, w->index);
        atomic_fetch_sub_explicit(&p->left, 1, memory_order_release);
    }
}
static void publish(lk_pool *p) {
    atomic_fetch_add(&p->job, 1);
    if (atomic_load(&p->sleepers)) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->lock);
    }
}
lk_pool *lk_pool_new(int threads) {
    lk_pool *p = lk_xcalloc(1, sizeof *p);
    p->n = threads < 1 ? 1 : threads;
    p->workers = lk_xcalloc((size_t)p->n, sizeof *p->workers);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    for (int i = 1; i < p->n; i++) {
        p->workers[i - 1] = (worker){p, i, 0};
        if (pthread_create(&p->workers[i - 1].thread, NULL, work, &p->workers[i - 1])) { p->n = i; break; }   /* fewer threads, same bits */
    }
    return p;
}
void lk_pool_free(lk_pool *p) {
    if (!p) return;
    atomic_store(&p->stop, true);
    publish(p);
    for (int i = 1; i < p->n; i++) pthread_join(p->workers[i - 1].thread, NULL);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->wake);
    free(p->workers);
    free(p);
}
int lk_pool_threads(const lk_pool *p) { return p ? p->n : 1; }
void lk_parallel(lk_pool *p, int64_t n, int64_t grain, lk_pool_fn fn, void *ctx) {
    if (n <= 0) return;
    int64_t most = grain > 0 ? (n + grain - 1) / grain : n;
    int parts = p ? (most < p->n ? (int)most : p->n) : 1;
    if (parts <= 1) { fn(ctx, 0, n, 0); return; }
    p->fn = fn; p->ctx = ctx; p->items = n; p->parts = parts;
    atomic_store(&p->left, p->n - 1);
    publish(p);
    do_part(p, 0);
    for (int spins = 0; atomic_load_explicit(&p->left, memory_order_acquire) > 0; spins++) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
        if (spins > 20 * SPINS) sched_yield();
    }
}
enum { LARGE_PAGE = 2 << 20 };
static void touch_pages(void *at, int64_t begin, int64_t end, int thread) {
    (void)thread;
#ifdef MADV_POPULATE_WRITE
    madvise((char *)at + begin * LARGE_PAGE, (size_t)(end - begin) * LARGE_PAGE, MADV_POPULATE_WRITE);     /* a hint: without it whoever writes first pays */
#else
    (void)at; (void)begin; (void)end;
#endif
}
void lk_parallel_touch(lk_pool *p, void *memory, size_t n) {
    char *first = (char *)(((uintptr_t)memory + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE);
    const size_t skip = (size_t)(first - (char *)memory);
    if (lk_pool_threads(p) > 1 && n > skip + 2 * LARGE_PAGE) lk_parallel(p, (int64_t)((n - skip) / LARGE_PAGE), 1, touch_pages, first);
}
int lk_default_threads(void) {
    const char *s = getenv("LK_THREADS");
    int n = s ? atoi(s) : 0;
    if (n > 0) return n;
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}
