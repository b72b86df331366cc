/* Engines: who starts the workers. engine=local forks them (worker.c); here mpirun or Slurm starts the same program with
 * worker=1, once a rank or array task. Such a worker knows of no other: leases share the plan out, a rank only
 * says where its first search begins, and each run is a child process as everywhere.
 *
 * What is started is a copy of this program beside the plan, so a build in mid-sweep changes nothing, and a worker that
 * finds another plan than its own (an input was edited) stops before it claims anything. A worker ends with status 0
 * whatever became of its runs: mpirun would take another status as the end of all. Their states say what became of them.
 *
 * LK_MPIRUN: the launcher's words instead of the default ("mpirun --hostfile nodes"). LK_SBATCH: more words for sbatch, the last
 * ones win ("--partition=long --time=240 --signal=B:USR1@300"). */
#include "harness/internal.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
enum { MOST_WORDS = 256 };
typedef struct { lk_arena *arena; int n; const char *at[MOST_WORDS]; } words;
static void word(words *w, const char *text) { if (w->n < MOST_WORDS - 1) w->at[w->n++] = text; w->at[w->n] = NULL; }
static void split(words *w, const char *text) {
    char *copy = lk_strdup(w->arena, text), *save = NULL;
    for (char *s = strtok_r(copy, " \t", &save); s; s = strtok_r(NULL, " \t", &save)) word(w, s);
}
static int env_int(const char *const *names, int otherwise) {
    for (; *names; names++) { const char *s = getenv(*names); if (s && *s) return atoi(s); }
    return otherwise;
}

/* ---- in a worker -------------------------------------------------------------------------------------------------------- */
static int rank_of_worker(void) { return env_int((const char *const[]){"LK_WORKER_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", NULL}, 0); }
static int workers_on_this_node(void) { return env_int((const char *const[]){"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", NULL}, 1); }
lk_err engine_worker(grid *g, const command_opts *o) {
    worker_tally t;
    int here = workers_on_this_node(), threads = worker_threads(here > 0 ? here : 1), rank = rank_of_worker();
    prctl(PR_SET_PDEATHSIG, SIGTERM);                         /* the launcher died: save and stop */
    LK_TRY(sweep_is_frozen(g));
    LK_TRY(resources_backend(g));
    LK_TRY(resources_memory(g, here > 0 ? here : 1, threads, NULL));
    provenance_collect(g);
    LK_TRY(workers_run(g, (worker_opts){.j = 1, .threads = threads, .retry = o->retry, .leave = true, .first = rank > 0 ? rank % g->n : 0}, &t));
    free(t.first_failure);
    return LK_OK;
}

/* ---- what is started ------------------------------------------------------------------------------------------------------ */
static lk_err keep_program(const grid *g, const char **path) {
    char *bytes, hex[65], *top = realpath(g->dir, NULL); size_t n;
    if (!top) return lk_error(LK_EIO, "%s: %s", g->dir, strerror(errno));
    lk_err e = lk_read_file("/proc/self/exe", &bytes, &n);
    if (!e) {
        lk_sha256_of(bytes, n, hex);
        *path = lk_fmt(g->arena, "%s/program-%.8s", top, hex);
        if (access(*path, X_OK)) e = lk_write_file_atomic(*path, bytes, n);
        if (!e && access(*path, X_OK) && chmod(*path, 0755)) e = lk_error(LK_EIO, "%s: %s", *path, strerror(errno));
        free(bytes);
    }
    free(top);
    return e;
}
static lk_err worker_words(const grid *g, const command_opts *o, words *w) {
    const char *program = "";
    LK_TRY(keep_program(g, &program));
    word(w, program); word(w, "run"); word(w, "worker=1");
    word(w, lk_fmt(g->arena, "profile=%s", o->profile));
    if (*o->set) word(w, lk_fmt(g->arena, "set=%s", o->set));
    if (o->retry) word(w, "retry=1");
    if (o->backend) word(w, lk_fmt(g->arena, "backend=%s", o->backend));
    if (o->mem) word(w, lk_fmt(g->arena, "mem=%s", o->mem));
    return LK_OK;
}
static lk_err not_there(const words *w, const char *what) {
    return lk_error(LK_EINPUT, "%s cannot be started: is %s installed and in PATH? engine=local needs neither", w->at[0], what);
}

/* ---- mpirun: waits for its workers ------------------------------------------------------------------------------------------- */
static volatile sig_atomic_t asked; static volatile pid_t launched;
/* First time: mpirun passes SIGUSR1 on, runs save and stop. Then it ends them. */
static void pass_on(int signal) { (void)signal; if (launched > 0) kill(launched, asked ? SIGTERM : SIGUSR1); asked++; }
static lk_err launch(const words *w, int *status) {
    const int signals[] = {SIGINT, SIGTERM, SIGUSR1};
    int told[2], failed = 0;
    if (pipe2(told, O_CLOEXEC)) return lk_error(LK_EIO, "pipe: %s", strerror(errno));
    fflush(NULL);
    pid_t parent = getpid(), pid = fork();
    if (pid < 0) return lk_error(LK_EIO, "fork: %s", strerror(errno));
    if (!pid) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        setpgid(0, 0);                                        /* Ctrl-C comes through pass_on alone */
        if (getppid() != parent || !freopen("/dev/null", "r", stdin)) _exit(127);
        execvp(w->at[0], (char *const *)w->at);
        failed = errno;
        if (write(told[1], &failed, sizeof failed) < 0) _exit(126);
        _exit(127);
    }
    launched = pid;
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) sigaction(signals[i], &(struct sigaction){.sa_handler = pass_on}, NULL);
    close(told[1]);
    while (read(told[0], &failed, sizeof failed) < 0 && errno == EINTR) {}
    close(told[0]);
    for (int ticks = 0; waitpid(pid, status, WNOHANG) == 0; ticks++) {       /* asked again each second: mpirun drops a signal while it starts */
        if (asked == 1 && ticks % 20 == 19) kill(pid, SIGUSR1);
        usleep(50000);
    }
    launched = 0;
    return failed ? lk_error(LK_EINPUT, "%s", strerror(failed)) : LK_OK;
}
/* What came of the points, told from their states. */
static void count_after(const grid *g, int done_before, worker_tally *t) {
    for (int i = 0; i < g->n; i++) {
        const char *dir = rundir_of(g->arena, g->results, g->points[i].run_id);
        run_state s = rundir_state(dir);
        run_note note;
        t->done += s == RUN_DONE;
        t->failed += s == RUN_FAILED;
        t->interrupted += s == RUN_INTERRUPTED || s == RUN_LEASED || s == RUN_RUNNING;
        if (s != RUN_FAILED || t->first_failure) continue;
        rundir_note(dir, s, &note);
        t->first_failure = lk_xfmt("%s: %s", g->points[i].label, note.reason);
    }
    t->reused = done_before;
    t->done -= done_before;
    t->total = g->n;
    t->stopped = asked;
}
lk_err engine_mpi(const grid *g, const command_opts *o, int workers, int done_before, worker_tally *t) {
    static const char *const defaults = "mpirun --quiet --oversubscribe --bind-to none --mca odls_base_sigkill_timeout 30";
    const char *own = getenv("LK_MPIRUN");
    words w = {.arena = g->arena};
    int status = 0;
    *t = (worker_tally){0};
    split(&w, own && *own ? own : defaults);
    if (!(own && *own)) {
        if (!geteuid()) word(&w, "--allow-run-as-root");
        for (char **v = environ; *v; v++) if (lk_starts(*v, "LK_")) { word(&w, "-x"); word(&w, lk_fmt(g->arena, "%.*s", (int)strcspn(*v, "="), *v)); }
    }
    word(&w, "-n"); word(&w, lk_fmt(g->arena, "%d", workers));
    LK_TRY(worker_words(g, o, &w));
    lk_err e = launch(&w, &status);
    if (e) { lk_err_free(e); return not_there(&w, "Open MPI"); }
    count_after(g, done_before, t);
    if (!asked && status && t->done + t->reused + t->failed < t->total) {
        free(t->first_failure);
        return lk_error(LK_EIO, "%s ended with status %d before all runs were done; what it said is above, what is finished is kept", w.at[0], WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    }
    return LK_OK;
}

/* ---- Slurm: an array of workers, submitted ------------------------------------------------------------------------------------- */
static void quote(lk_buf *b, const char *text) {
    lk_buf_fmt(b, " '");
    for (; *text; text++) if (*text == '\'') lk_buf_fmt(b, "'\\''"); else lk_buf_add(b, text, 1);
    lk_buf_fmt(b, "'");
}
/* Standard output of a command (its words); status as from waitpid. */
static lk_err output_of(const words *w, lk_buf *out, int *status) {
    lk_buf line = {0};
    for (int i = 0; i < w->n; i++) quote(&line, w->at[i]);
    FILE *f = popen(line.s, "r");
    free(line.s);
    if (!f) return lk_error(LK_EIO, "%s: %s", w->at[0], strerror(errno));
    lk_buf_add(out, "", 0);
    char piece[4096];
    for (size_t n; (n = fread(piece, 1, sizeof piece, f)) > 0;) lk_buf_add(out, piece, n);
    *status = pclose(f);
    return LK_OK;
}
static int max_array_size(lk_arena *a) {
    words w = {.arena = a};
    lk_buf out = {0};
    int status = 0, n = 1001;                                 /* Slurm's own default */
    split(&w, "scontrol show config");
    lk_err e = output_of(&w, &out, &status);
    const char *at = e || status ? NULL : strstr(out.s, "MaxArraySize");
    if (at) sscanf(at, "MaxArraySize = %d", &n);
    lk_err_free(e);
    free(out.s);
    return n > 0 ? n : 1001;
}
/* The batch shell gets SIGUSR1 before the time limit, hands it on, waits till the run is saved and asks to be queued again. */
static lk_err write_script(const grid *g, const command_opts *o, const char **path) {
    words w = {.arena = g->arena};
    lk_buf b = {0};
    LK_TRY(worker_words(g, o, &w));
    lk_buf_fmt(&b, "#!/bin/bash\n# One worker of %s; $1 is added to the task's number where the array was split.\n"
                   "export LK_WORKER_RANK=$((${1:-0} + ${SLURM_ARRAY_TASK_ID:-0}))\nexport LK_THREADS=${LK_THREADS:-${SLURM_CPUS_PER_TASK:-1}}\n"
                   "stopping=\ntrap 'stopping=1; kill -USR1 $worker 2>/dev/null' USR1\n", g->name);
    for (int i = 0; i < w.n; i++) quote(&b, w.at[i]);
    lk_buf_fmt(&b, " &\nworker=$!\nwhile :; do wait $worker; status=$?; kill -0 $worker 2>/dev/null || break; done\n"
                   "[ -n \"$stopping\" ] && exec scontrol requeue \"$SLURM_JOB_ID\"\nexit $status\n");
    *path = lk_fmt(g->arena, "%s/slurm.sh", g->dir);
    lk_err e = lk_write_file_atomic(*path, b.s, b.n);
    free(b.s);
    return e;
}
static lk_err submit(const grid *g, const char *script, int first, int n) {
    const char *more = getenv("LK_SBATCH");
    words w = {.arena = g->arena};
    lk_buf out = {0};
    int status = 0;
    split(&w, "sbatch --parsable --requeue --signal=B:USR1@120 --open-mode=append");
    word(&w, lk_fmt(g->arena, "--job-name=%s", g->name));
    word(&w, lk_fmt(g->arena, "--array=0-%d", n - 1));
    word(&w, lk_fmt(g->arena, "--output=%s/slurm-%%A_%%a.log", g->dir));
    split(&w, more ? more : "");
    word(&w, script);
    word(&w, lk_fmt(g->arena, "%d", first));
    LK_TRY(output_of(&w, &out, &status));
    lk_err e = !status ? LK_OK : WIFEXITED(status) && WEXITSTATUS(status) == 127 ? not_there(&w, "Slurm")
             : lk_error(LK_EIO, "sbatch refused the array of %d workers (status %d); what it said is above", n, WIFEXITED(status) ? WEXITSTATUS(status) : status);
    if (!e) printf("job %.*s: %d worker%s\n", (int)strcspn(out.s, ";\n"), out.s, n, n == 1 ? "" : "s");
    free(out.s);
    return e;
}
lk_err engine_slurm(const grid *g, const command_opts *o, int workers) {
    const char *script;
    int most = max_array_size(g->arena);
    LK_TRY(write_script(g, o, &script));
    for (int first = 0; first < workers; first += most) LK_TRY(submit(g, script, first, workers - first < most ? workers - first : most));
    printf("make exp=%s profile=%s%s%s%s status watch=1 follows them; report makes the tables when they are done\n", g->exp->name, profile_names[g->profile], *g->set ? " set=\"" : "", g->set,
           *g->set ? "\"" : "");
    return LK_OK;
}
