/* Workers: one parent claims runs, each run is a child process. A crash takes one run down, never the sweep.
 *
 * The parent holds the lease (rundir.c) and the child inherits it, so it is free exactly when both are gone; a child
 * dies with its parent. Both stay in make's process group: Ctrl-C reaches all, the children save and leave
 * `interrupted`, a second one kills. Runs that another `make run` holds are waited for, and taken over if it dies. */
#include "harness/internal.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t stop_requested, interrupts;
static pid_t *children_to_kill; static int n_children_to_kill;     /* for the second Ctrl-C */
static void on_stop(int signal) {
    stop_requested = 1;
    if (signal != SIGINT || ++interrupts < 2) return;
    for (int i = 0; i < n_children_to_kill; i++) if (children_to_kill[i] > 0) kill(children_to_kill[i], SIGKILL);
    _exit(130);
}
static void on_child(int signal) { (void)signal; }
static void catch_signals(void) {
    const struct { int signal; void (*handler)(int); } table[] = {{SIGINT, on_stop}, {SIGTERM, on_stop}, {SIGUSR1, on_stop}, {SIGCHLD, on_child}, {SIGPIPE, SIG_IGN}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct sigaction a = {.sa_handler = table[i].handler};
        if (table[i].signal == SIGCHLD) a.sa_flags = SA_NOCLDSTOP;
        sigaction(table[i].signal, &a, NULL);
    }
}

typedef struct { pid_t pid; int point; run_lease lease; double started; } worker;
typedef struct {
    const grid *grid; worker_opts opts; worker_tally *tally; progress *bar;
    worker *workers; run_progress *shared;
    bool *settled;                           /* by point: nothing left to do in this session */
    bool *waiting;                           /* another process has it */
    double heartbeat;
    int first;
} crew;

int worker_threads(int j) {
    int cores = lk_default_threads();
    return getenv("LK_THREADS") ? cores : cores / j > 0 ? cores / j : 1;
}

/* ---- in the child --------------------------------------------------------------------------------------------------- */
enum { CHILD_DONE = 0, CHILD_FAILED = 1, CHILD_INTERRUPTED = 3 };
static int child_outcome(run_lease *l, lk_err e, const run_progress *p) {
    lk_err moved;
    int code = !e ? CHILD_DONE : lk_err_code(e) == LK_EINTR ? CHILD_INTERRUPTED : CHILD_FAILED;
    lease_note(l, p, lk_err_text(e));
    moved = lease_move(l, code == CHILD_DONE ? RUN_DONE : code == CHILD_FAILED ? RUN_FAILED : RUN_INTERRUPTED);
    if (moved) { fprintf(stderr, "%s\n", lk_err_text(moved)); code = CHILD_FAILED; }
    return code;
}
static void child(crew *k, worker *w, run_progress *shared, pid_t parent) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(CHILD_INTERRUPTED);
    const grid_point *p = &k->grid->points[w->point];
    n_children_to_kill = 0;
    char *log = lk_xfmt("%s/log.txt", w->lease.dir);
    int fd = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (fd >= 0) { dup2(fd, 1); dup2(fd, 2); }
    lk_ctx *c = NULL;
    lk_err e = fd < 0 ? lk_error(LK_EIO, "%s: %s", log, strerror(errno)) : lease_move(&w->lease, RUN_RUNNING);
    if (!e) e = context_new(k->grid, p, w->lease.dir, k->opts.threads, &c);
    if (!e) {
        c->progress = shared;
        c->stop = &stop_requested;
        e = context_execute(c);
    }
    int code = child_outcome(&w->lease, e, shared);
    fflush(NULL);
    _exit(code);
}

/* ---- in the parent ---------------------------------------------------------------------------------------------------- */
static const char *label(const crew *k, int point) { return k->grid->points[point].label; }
static void settle(crew *k, int point, int *count) { k->settled[point] = true; (*count)++; }
static void note_failure(crew *k, int point, const char *reason) {
    progress_line(k->bar, "failed       %s: %s", label(k, point), reason);
    if (!k->tally->first_failure) k->tally->first_failure = lk_xfmt("%s: %s", label(k, point), reason);
    settle(k, point, &k->tally->failed);
}
/* True if the claimed run is to be executed now; else it is settled. */
static bool wanted(crew *k, int point, const run_lease *l) {
    run_note note;
    if (l->state == RUN_DONE) { settle(k, point, &k->tally->reused); return false; }
    if (l->state != RUN_FAILED || k->opts.retry) return true;
    rundir_note(l->dir, RUN_FAILED, &note);
    char *reason = lk_xfmt("%s (failed before; retry=1 tries it again)", *note.reason ? note.reason : "no reason was left");
    note_failure(k, point, reason);
    free(reason);
    return false;
}
static lk_err start(crew *k, worker *w, run_progress *shared) {
    *shared = (run_progress){.loss = NAN};
    LK_TRY(inputs_unchanged(k->grid));
    LK_TRY(lease_move(&w->lease, RUN_LEASED));
    lease_note(&w->lease, shared, "");
    fflush(NULL);
    pid_t parent = getpid(), pid = fork();
    if (pid < 0) return lk_error(LK_EIO, "fork: %s", strerror(errno));
    if (!pid) child(k, w, shared, parent);
    w->pid = pid;
    children_to_kill[w - k->workers] = pid;
    w->started = lk_wall_s();
    return LK_OK;
}
/* Gives a free worker the next run that can be had; false if there is none. */
static lk_err employ(crew *k, int slot, bool *employed) {
    worker *w = &k->workers[slot];
    *employed = false;
    for (int at = 0; at < k->grid->n && !*employed; at++) {
        int i = (at + k->first) % k->grid->n;
        bool in_hand = false, claimed;
        for (int s = 0; s < k->opts.j; s++) in_hand |= k->workers[s].pid && k->workers[s].point == i;
        if (k->settled[i] || in_hand) continue;
        char *dir = rundir_of(k->grid->arena, k->grid->results, k->grid->points[i].run_id);
        LK_TRY(rundir_plan(dir));
        LK_TRY(rundir_claim(dir, &claimed, &w->lease));
        k->waiting[i] = !claimed;
        if (!claimed) continue;
        if (!wanted(k, i, &w->lease)) { lease_free(&w->lease); continue; }
        w->point = i;
        LK_TRY(start(k, w, &k->shared[slot]));
        k->first = 0;
        *employed = true;
    }
    return LK_OK;
}
static void report_end(crew *k, worker *w, int status) {
    char took[32];
    const run_progress *p = &k->shared[w - k->workers];
    seconds_text(lk_wall_s() - w->started, took);
    run_state left = rundir_state(w->lease.dir);             /* what counts; an exit status may be anybody's */
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (code == CHILD_DONE && left == RUN_DONE) { settle(k, w->point, &k->tally->done); progress_line(k->bar, "done         %s (%s)", label(k, w->point), took); return; }
    if (code == CHILD_FAILED && left == RUN_FAILED) {
        run_note note;
        rundir_note(w->lease.dir, RUN_FAILED, &note);
        note_failure(k, w->point, *note.reason ? note.reason : "see its log.txt");
        return;
    }
    if (code >= 0 && !(code == CHILD_INTERRUPTED && left != RUN_RUNNING) && left != RUN_DONE) {       /* it left without telling: exit() somewhere, out of memory */
        char *why = lk_xfmt("ended with status %d; the last lines of %s/log.txt say why", code, w->lease.dir);
        w->lease.state = left;
        lease_note(&w->lease, p, why);
        lk_err_free(lease_move(&w->lease, RUN_FAILED));
        note_failure(k, w->point, why);
        free(why);
        return;
    }
    w->lease.state = rundir_state(w->lease.dir);
    if (w->lease.state == RUN_DONE) { settle(k, w->point, &k->tally->done); return; }    /* killed after its last word */
    int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    bool crash = signal == SIGSEGV || signal == SIGBUS || signal == SIGFPE || signal == SIGILL || signal == SIGABRT;
    char *why = signal ? lk_xfmt("%s by signal %d (%s)%s", crash ? "crashed" : "killed", signal, strsignal(signal), signal == SIGKILL ? "; if nobody did, memory ran out" : "") : lk_xstrdup("asked to stop");
    lease_note(&w->lease, p, why);
    lk_err_free(lease_move(&w->lease, crash ? RUN_FAILED : RUN_INTERRUPTED));
    if (crash) note_failure(k, w->point, why);
    else { settle(k, w->point, &k->tally->interrupted); progress_line(k->bar, "interrupted  %s: %s; run again to go on", label(k, w->point), why); }
    free(why);
}
static int reap(crew *k) {
    int status, ended = 0;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) for (int s = 0; s < k->opts.j; s++) {
        if (k->workers[s].pid != pid) continue;
        report_end(k, &k->workers[s], status);
        lease_free(&k->workers[s].lease);
        k->workers[s].pid = children_to_kill[s] = 0;
        ended++;
    }
    return ended;
}
static int busy(const crew *k) { int n = 0; for (int s = 0; s < k->opts.j; s++) n += k->workers[s].pid > 0; return n; }
static void heartbeats(crew *k, bool now) {
    if (!now && lk_wall_s() - k->heartbeat < 2) return;
    k->heartbeat = lk_wall_s();
    for (int s = 0; s < k->opts.j; s++) if (k->workers[s].pid) lease_note(&k->workers[s].lease, &k->shared[s], "");
}
static void show(const crew *k) {
    if (k->opts.leave) return;                             /* many write to one place: a line a run, no bar */
    double part = 0;
    for (int s = 0; s < k->opts.j; s++) if (k->workers[s].pid && k->shared[s].total > 0) part += (double)k->shared[s].done / (double)k->shared[s].total;
    const worker_tally *t = k->tally;
    progress_show(k->bar, t->done + t->reused + t->failed + t->interrupted, t->reused, part);
}
static bool others_have_some(const crew *k) { for (int i = 0; i < k->grid->n; i++) if (!k->settled[i] && k->waiting[i]) return true; return false; }
static lk_err work(crew *k) {
    bool told = false, idle = false, waiting_told = false;
    for (;;) {
        lk_err e = LK_OK;
        for (int s = 0; s < k->opts.j && !stop_requested && !e; s++) {
            bool employed = false;
            if (!k->workers[s].pid && !idle) { e = employ(k, s, &employed); idle = !employed; }
        }
        if (e) stop_requested = 1;
        if (stop_requested && !told) {                    /* a signal to the parent alone reaches the children too */
            for (int s = 0; s < k->opts.j; s++) if (k->workers[s].pid) kill(k->workers[s].pid, SIGUSR1);
            if (busy(k) && !e) progress_line(k->bar, "stopping: runs under way save and stop (again Ctrl-C: at once)");
            told = true;
        }
        if (e) { while (busy(k)) { reap(k); usleep(20000); } return e; }
        if (!busy(k) && (stop_requested || (idle && (k->opts.leave || !others_have_some(k))))) return LK_OK;
        if (!busy(k) && idle && !waiting_told) { progress_line(k->bar, "waiting for runs that another process is doing"); waiting_told = true; }
        heartbeats(k, false);
        show(k);
        nanosleep(&(struct timespec){0, busy(k) ? 50000000 : 200000000}, NULL);
        if (reap(k) || !busy(k)) idle = false;
    }
}
lk_err workers_run(const grid *g, worker_opts opts, worker_tally *tally) {
    if (opts.j > g->n) opts.j = g->n;
    crew k = {.grid = g, .opts = opts, .first = opts.first, .tally = tally, .bar = progress_new(g->n, opts.quiet), .workers = lk_xcalloc((size_t)opts.j, sizeof(worker)),
              .settled = lk_xcalloc((size_t)g->n, 1), .waiting = lk_xcalloc((size_t)g->n, 1)};
    *tally = (worker_tally){.total = g->n};
    k.shared = mmap(NULL, sizeof *k.shared * (size_t)opts.j, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    children_to_kill = lk_xcalloc((size_t)opts.j, sizeof *children_to_kill);
    n_children_to_kill = opts.j;
    catch_signals();
    lk_err e = k.shared == MAP_FAILED ? lk_error(LK_ENOMEM, "mmap: %s", strerror(errno)) : work(&k);
    tally->stopped = stop_requested;
    show(&k);
    progress_free(k.bar);
    if (k.shared != MAP_FAILED) munmap(k.shared, sizeof *k.shared * (size_t)opts.j);
    n_children_to_kill = 0;
    free(children_to_kill); free(k.workers); free(k.settled); free(k.waiting);
    return e;
}
