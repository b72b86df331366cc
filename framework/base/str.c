/* Strings, whole files, the clock. Files appear by rename or not at all. */
#include "base/base.h"
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

void lk_buf_add(lk_buf *b, const char *bytes, size_t n) {
    if (b->n + n + 1 > b->cap) { b->cap = (b->n + n + 1) * 2; b->s = lk_xrealloc(b->s, b->cap); }
    if (n) memcpy(b->s + b->n, bytes, n);
    b->n += n;
    b->s[b->n] = 0;
}
void lk_buf_fmt(lk_buf *b, const char *fmt, ...) {
    va_list ap; va_start(ap, fmt); int n = vsnprintf(NULL, 0, fmt, ap); va_end(ap);
    if (b->n + (size_t)n + 1 > b->cap) { b->cap = (b->n + (size_t)n + 1) * 2; b->s = lk_xrealloc(b->s, b->cap); }
    va_start(ap, fmt); vsnprintf(b->s + b->n, (size_t)n + 1, fmt, ap); va_end(ap);
    b->n += (size_t)n;
}
bool lk_starts(const char *s, const char *prefix) { return strncmp(s, prefix, strlen(prefix)) == 0; }
bool lk_ends(const char *s, const char *suffix) {
    size_t n = strlen(s), m = strlen(suffix);
    return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

static int edit_distance(const char *a, const char *b) {
    int n = (int)strlen(a), m = (int)strlen(b);
    int *row = lk_xmalloc(sizeof(int) * (size_t)(m + 1));
    for (int j = 0; j <= m; j++) row[j] = j;
    for (int i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            int up = row[j], best = diagonal + (a[i - 1] != b[j - 1]);
            if (up + 1 < best) best = up + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = up;
            row[j] = best;
        }
    }
    int d = row[m];
    free(row);
    return d;
}
int lk_nearest(const char *word, const char *const *candidates, int n) {
    int best = -1, best_d = 0;
    for (int i = 0; i < n; i++) {
        int d = edit_distance(word, candidates[i]);
        if (best < 0 || d < best_d) { best = i; best_d = d; }
    }
    return best;
}

lk_err lk_read_file(const char *path, char **bytes, size_t *n) {
    *bytes = NULL; *n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return lk_error(errno == ENOENT ? LK_EINPUT : LK_EIO, "%s: %s", path, strerror(errno));
    struct stat st;
    if (fstat(fd, &st) || S_ISDIR(st.st_mode)) { close(fd); return lk_error(LK_EINPUT, "%s: not a regular file", path); }
    size_t cap = st.st_size > 0 ? (size_t)st.st_size + 1 : 4096, got = 0;
    char *s = lk_xmalloc(cap + 1);
    for (;;) {
        if (got == cap) { cap *= 2; s = lk_xrealloc(s, cap + 1); }
        ssize_t k = read(fd, s + got, cap - got);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) { lk_err e = lk_error(LK_EIO, "%s: at byte %zu: %s", path, got, strerror(errno)); close(fd); free(s); return e; }
        if (k == 0) break;
        got += (size_t)k;
    }
    close(fd);
    s[got] = 0;
    *bytes = s; *n = got;
    return LK_OK;
}
static lk_err sync_directory_of(const char *path) {
    char *copy = lk_xstrdup(path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(copy);
    if (fd < 0) return lk_error(LK_EIO, "%s: its directory: %s", path, strerror(errno));
    int rc = fsync(fd);
    close(fd);
    return rc && errno != EINVAL ? lk_error(LK_EIO, "%s: fsync of its directory: %s", path, strerror(errno)) : LK_OK;
}
lk_err lk_write_file_atomic(const char *path, const void *bytes, size_t n) {
    return lk_write_pieces_atomic(path, &(lk_piece){bytes, n}, 1);
}
static lk_err write_pieces(int fd, const char *path, const lk_piece *pieces, size_t n_pieces) {
    size_t total = 0, done = 0;
    for (size_t i = 0; i < n_pieces; i++) total += pieces[i].n;
    for (size_t i = 0; i < n_pieces; i++)
        for (size_t at = 0; at < pieces[i].n;) {
            ssize_t k = write(fd, (const char *)pieces[i].at + at, pieces[i].n - at);
            if (k < 0 && errno == EINTR) continue;
            if (k <= 0) return lk_error(LK_EIO, "%s: wrote %zu of %zu bytes: %s", path, done, total, strerror(errno));
            at += (size_t)k; done += (size_t)k;
        }
    return LK_OK;
}
lk_err lk_write_pieces_atomic(const char *path, const lk_piece *pieces, size_t n_pieces) {
    char *tmp = lk_xfmt("%s.tmp", path);
    lk_err e = LK_OK;
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) { e = lk_error(LK_EIO, "%s: %s", tmp, strerror(errno)); free(tmp); return e; }
    e = write_pieces(fd, path, pieces, n_pieces);
    if (!e && fsync(fd)) e = lk_error(LK_EIO, "%s: fsync: %s", path, strerror(errno));
    if (close(fd) && !e) e = lk_error(LK_EIO, "%s: close: %s", path, strerror(errno));
    if (!e && rename(tmp, path)) e = lk_error(LK_EIO, "%s: rename from %s: %s", path, tmp, strerror(errno));
    if (e) unlink(tmp);
    else e = sync_directory_of(path);
    free(tmp);
    return e;
}
lk_err lk_mkdirs(const char *path) {
    char *p = lk_xstrdup(path);
    for (char *s = p + 1;; s++) {
        if (*s && *s != '/') continue;
        char keep = *s;
        *s = 0;
        if (mkdir(p, 0777) && errno != EEXIST) { lk_err e = lk_error(LK_EIO, "%s: mkdir: %s", p, strerror(errno)); free(p); return e; }
        *s = keep;
        if (!keep) break;
    }
    free(p);
    return LK_OK;
}
double lk_wall_s(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec; }
