/* A run's directory: results/runs/ab/<run_id>/, its state, its lease.
 *
 * Exactly one file state.<planned|leased|running|done|failed|interrupted> is there; a state changes by rename
 * alone. The lease is an open-file-description lock on that very file: the lock goes with the inode through every
 * rename and dies with its owner, so whoever gets the lock of a running run knows that its owner is dead. A directory
 * is made under another name with its state file inside and renamed into place: it never exists without one.
 *
 * Where the file system has no locks (LK_NO_LOCKS=1 pretends so), the state file's age is the heartbeat: a lease not
 * renewed for LK_LEASE_S seconds (120) is taken over; the rename decides between two takers. A heartbeat further in the future
 * than that means that a clock was set back: its owner lives if it renews the file while one looks (owners do every 2 s). */
#include "harness/internal.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

const char *const state_names[RUN_STATES] = {"planned", "leased", "running", "done", "failed", "interrupted"};

char *rundir_of(lk_arena *a, const char *results, const char *run_id) { return lk_fmt(a, "%s/runs/%.2s/%s", results, run_id, run_id); }
static char *state_path(const char *dir, run_state s) { return lk_xfmt("%s/state.%s", dir, state_names[s]); }

run_state rundir_state(const char *dir) {
    for (int attempt = 0; attempt < 4; attempt++) {           /* a rename may slip between two looks */
        if (access(dir, F_OK)) return RUN_NONE;
        for (int s = RUN_STATES - 1; s >= 0; s--) {
            char *path = state_path(dir, (run_state)s);
            bool there = !access(path, F_OK);
            free(path);
            if (there) return (run_state)s;
        }
    }
    return RUN_NONE;
}
static lk_err refused(const char *path, const char *what) {
    return lk_error(LK_EIO, "%s: %s: %s%s", path, what, strerror(errno),
                    errno == ENOSPC ? "; free some space and run again: what is finished is kept" : errno == EACCES || errno == EROFS ? "; is the directory writable by you?" : "");
}
lk_err rundir_plan(const char *dir) {
    struct stat st;
    if (!stat(dir, &st)) return rundir_state(dir) != RUN_NONE ? LK_OK : lk_error(LK_ESTATE, "%s: has no state file; move it away and run again", dir);
    char *fresh = lk_xfmt("%.*s.%ld.new", (int)strlen(dir), dir, (long)getpid());
    char *state = state_path(fresh, RUN_PLANNED);
    lk_err e = lk_mkdirs(fresh);
    if (!e) {
        int fd = open(state, O_CREAT | O_WRONLY | O_CLOEXEC, 0666);
        if (fd < 0) e = refused(state, "cannot be made"); else close(fd);
    }
    if (!e && rename(fresh, dir) && errno != ENOTEMPTY && errno != EEXIST) e = refused(dir, "cannot be made");
    if (e || !access(state, F_OK)) { unlink(state); rmdir(fresh); }         /* another was faster, or it failed */
    free(fresh); free(state);
    return e;
}

/* ---- lease ------------------------------------------------------------------------------------------------------------ */
static double lease_seconds(void) { const char *s = getenv("LK_LEASE_S"); return s ? atof(s) : 120; }
/* 1: got it; 0: another has it; -1: no locks here. */
static int lock(int fd) {
    if (getenv("LK_NO_LOCKS")) return -1;
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (!fcntl(fd, F_OFD_SETLK, &whole)) return 1;
    return errno == EAGAIN || errno == EACCES ? 0 : -1;
}
static bool same_file(int fd, const char *path) {
    struct stat a, b;
    return !fstat(fd, &a) && !stat(path, &b) && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}
static double age_of(int fd) {
    struct stat st;
    return fstat(fd, &st) ? 0 : difftime(time(NULL), st.st_mtime);
}
static bool renewed_while_looking(int fd) {
    struct stat before, after;
    if (fstat(fd, &before)) return true;
    usleep((useconds_t)(1e6 * fmin(5, lease_seconds())));
    return fstat(fd, &after) || before.st_mtim.tv_sec != after.st_mtim.tv_sec || before.st_mtim.tv_nsec != after.st_mtim.tv_nsec;
}
static bool lives(int fd) {
    double age = age_of(fd);
    return age < lease_seconds() && (age > -lease_seconds() || renewed_while_looking(fd));
}
lk_err rundir_claim(const char *dir, bool *claimed, run_lease *l) {
    *claimed = false;
    for (int attempt = 0; attempt < 8; attempt++) {
        run_state s = rundir_state(dir);
        if (s == RUN_NONE) return LK_OK;                      /* being deleted by another */
        char *path = state_path(dir, s);
        int fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0 && errno != ENOENT) { lk_err e = refused(path, "cannot be opened"); free(path); return e; }
        int got = fd < 0 ? 2 : lock(fd);
        bool owned_elsewhere = got == -1 && (s == RUN_LEASED || s == RUN_RUNNING) && lives(fd);
        bool mine = got == 1 ? same_file(fd, path) : got == -1 && !owned_elsewhere;
        free(path);
        if (mine) {
            *l = (run_lease){fd, s, lk_xstrdup(dir), got == 1};
            *claimed = true;
            if (got == -1 && (s == RUN_LEASED || s == RUN_RUNNING)) {      /* taking over by age: the rename decides */
                lk_err e = lease_move(l, RUN_INTERRUPTED);
                if (e) { lk_err_free(e); lease_free(l); *claimed = false; }
            }
            return LK_OK;
        }
        if (fd >= 0) close(fd);
        if (got == 0 || owned_elsewhere) return LK_OK;
    }
    return LK_OK;
}
lk_err lease_move(run_lease *l, run_state to) {
    if (to == l->state) return LK_OK;
    char *from_path = state_path(l->dir, l->state), *to_path = state_path(l->dir, to);
    lk_err e = rename(from_path, to_path) ? refused(from_path, "cannot be renamed") : LK_OK;
    if (!e) l->state = to;
    free(from_path); free(to_path);
    return e;
}
void lease_note(run_lease *l, const run_progress *p, const char *reason) {
    char host[64] = "", text[1400];
    gethostname(host, sizeof host - 1);
    int n = snprintf(text, sizeof text, "%s %ld\n%lld %lld %.6g %.3f\n%.1000s\n", *host ? host : "-", (long)getpid(), (long long)p->done, (long long)p->total, p->loss, p->seconds,
                     reason ? reason : "");
    if (pwrite(l->fd, text, (size_t)n, 0) == n && ftruncate(l->fd, n)) return;       /* for people: a lost note loses nothing */
}
void rundir_note(const char *dir, run_state s, run_note *note) {
    *note = (run_note){.loss = NAN};
    if (s == RUN_NONE) return;
    char *path = state_path(dir, s), *text = NULL; size_t n;
    struct stat st;
    if (!stat(path, &st)) note->age_s = difftime(time(NULL), st.st_mtime);
    lk_err e = lk_read_file(path, &text, &n);
    char *line[3] = {e ? "" : text, "", ""};                  /* who; how far; why */
    for (int i = 0; i < 2; i++) if (*line[i] && line[i][strcspn(line[i], "\n")]) line[i + 1] = line[i] + strcspn(line[i], "\n") + 1;
    long long done = 0, total = 0;
    if (sscanf(line[0], "%63s %ld", note->host, &note->pid) == 2 && sscanf(line[1], "%lld %lld %lf %lf", &done, &total, &note->loss, &note->seconds) >= 3)
        snprintf(note->reason, sizeof note->reason, "%.*s", (int)strcspn(line[2], "\n"), line[2]);
    note->done = done; note->total = total;
    lk_err_free(e); free(text); free(path);
}
void lease_free(run_lease *l) {
    if (l->fd >= 0) close(l->fd);
    free(l->dir);
    *l = (run_lease){.fd = -1};
}

/* ---- putting away -------------------------------------------------------------------------------------------------------- */
lk_err rundir_set_aside(const char *path, const char *suffix) {
    char *to = lk_xfmt("%s.%s", path, suffix);
    lk_err e = rename(path, to) && errno != ENOENT ? refused(path, "cannot be set aside") : LK_OK;
    free(to);
    return e;
}
lk_err rundir_remove(const char *dir) {
    char *gone = lk_xfmt("%s.%ld.gone", dir, (long)getpid());
    if (rename(dir, gone)) { lk_err e = errno == ENOENT ? LK_OK : refused(dir, "cannot be removed"); free(gone); return e; }
    DIR *d = opendir(gone);
    for (struct dirent *f; d && (f = readdir(d));) {
        if (!strcmp(f->d_name, ".") || !strcmp(f->d_name, "..")) continue;
        char *path = lk_xfmt("%s/%s", gone, f->d_name);
        unlink(path);
        free(path);
    }
    if (d) closedir(d);
    lk_err e = rmdir(gone) ? refused(gone, "is not empty") : LK_OK;
    free(gone);
    return e;
}
