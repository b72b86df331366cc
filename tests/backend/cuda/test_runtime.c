/* What surrounds the kernels, over the emulated runtime: opening and why it is refused, memory, copies, captured steps; and
 * that the emulation punishes what a device would. Not a run on a device. */
#include "backend/cuda/device.h"
#include "tests/emulation/emulation.h"
#include "tests/lib/lk_test.h"
#include <sys/wait.h>
#include <unistd.h>

static const lk_backend *cuda(void) {
    const lk_backend *b;
    CHECK_OK(lk_backend_cuda(LK_CUDA_EXACT, &b));
    return b;
}
static void expect_nothing_left(void) {
    lk_cuda_close();
    char *left = emu_leaks();
    CHECK_MSG(!*left, "%s", left);
    free(left);
}

/* ---- opening --------------------------------------------------------------------------------------------------- */
static void refused(emu_device d, const char *part, const char *advice) {
    const emu_device was = emu_now;
    const lk_backend *b;
    emu_now = d;
    lk_err e = lk_backend_cuda(LK_CUDA_EXACT, &b);
    CHECK_MSG(e && !b && strstr(lk_err_text(e), part) && strstr(lk_err_text(e), advice) && !strchr(lk_err_text(e), '\n'), "wanted \"%s\" and \"%s\", got \"%s\"", part, advice, lk_err_text(e));
    lk_err_free(e);
    expect_nothing_left();
    emu_now = was;
}
TEST(what_cannot_be_opened_is_refused_in_one_line) {
    emu_device d = emu_now;
    d.driver = 0;                       refused(d, "no NVIDIA driver", "install one");
    d.driver = 11080;                   refused(d, "driver is for CUDA 11.8 and this program is built with toolkit 13.0", "update the driver");
    d = emu_now; d.count = 0;           refused(d, "finds no GPU", "backend=cpu");
    setenv("CUDA_VISIBLE_DEVICES", "7", 1);
    refused(d, "CUDA_VISIBLE_DEVICES is \"7\"", "unset it");
    unsetenv("CUDA_VISIBLE_DEVICES");
    d = emu_now; d.major = 7; d.minor = 5; refused(d, "compute capability 7.5", "newer GPU");
    d = emu_now; d.no_image = true;     refused(d, "no code for", "make cuda CUDA_ARCHS=\"90\"");
    d = emu_now; d.memory = 1 << 20;    /* opens; the plan refuses later */
    CHECK(cuda() != NULL && strstr(lk_cuda_description(), "compute capability 9.0") && strstr(lk_cuda_description(), "threads of a block 256: ") && strstr(lk_cuda_description(), "product") && strstr(lk_cuda_description(), "norm_dx"));
    expect_nothing_left();
}
/* Exit status of a child in which the backend is opened. */
static int opened_in_child(void) {
    int status;
    pid_t pid = fork();
    if (!pid) {
        const lk_backend *b;
        lk_err e = lk_backend_cuda(LK_CUDA_EXACT, &b);
        _exit(!e ? 0 : strstr(lk_err_text(e), "before this process was forked") ? 1 : 2);
    }
    waitpid(pid, &status, 0);
    return WEXITSTATUS(status);
}
TEST(a_device_belongs_to_the_process_that_opened_it) {
    char *text; int64_t room;
    CHECK_FAILS(lk_backend_choose("metal"), "cuda-bf16");
    CHECK_OK(lk_backend_choose("cuda"));
    CHECK_OK(lk_backend_probe(&text, &room));                       /* in a process of its own */
    CHECK(strstr(text, "emulated device") && room == emu_now.memory);
    free(text);
    CHECK(opened_in_child() == 0);                                  /* so a child may still open it */
    emu_now.count = 0;
    CHECK_FAILS(lk_backend_probe(&text, &room), "finds no GPU");
    emu_now.count = 1;
    cuda();
    CHECK(opened_in_child() == 1);
    CHECK_OK(lk_backend_choose("cpu"));
    expect_nothing_left();
}

/* ---- memory ------------------------------------------------------------------------------------------------------- */
enum { ROWS = 64, WIDTH = 128 };
typedef struct { lk_graph *g; lk_val x, w, y; lk_exec *e; } linear;
static lk_err linear_new(linear *l, const lk_backend *b, int64_t limit) {
    *l = (linear){.g = lk_graph_new()};
    l->x = lk_input(l->g, "x", LK_F32, LK_SHAPE(ROWS, WIDTH));
    l->w = lk_param(l->g, "w", LK_SHAPE(WIDTH, WIDTH), LK_MEM_WEIGHT);
    l->y = lk_shift(l->g, lk_linear(l->g, l->x, l->w, LK_NONE), 1);
    return lk_exec_new(l->g, &l->y, 1, (lk_exec_opts){.backend = b, .memory_limit = limit}, &l->e);
}
static void linear_free(linear *l) { lk_exec_free(l->e); lk_graph_free(l->g); }
static float x[ROWS * WIDTH], w[WIDTH * WIDTH], want[ROWS * WIDTH], got[ROWS * WIDTH];
static void fill(void) {
    for (int i = 0; i < ROWS * WIDTH; i++) x[i] = lk_philox_normal(1, 0, 0, (uint64_t)i);
    for (int i = 0; i < WIDTH * WIDTH; i++) w[i] = lk_philox_normal(2, 0, 0, (uint64_t)i);
}
static void forward(linear *l, float *out) {
    CHECK_OK(lk_exec_set(l->e, l->x, x, ROWS * WIDTH));
    CHECK_OK(lk_exec_run(l->e));
    CHECK_OK(lk_exec_get(l->e, l->y, out, ROWS * WIDTH));
}
static void on_cpu(float *out) {
    linear l;
    CHECK_OK(linear_new(&l, NULL, 0));
    CHECK_OK(lk_exec_set(l.e, l.w, w, WIDTH * WIDTH));
    forward(&l, out);
    linear_free(&l);
}
TEST(too_little_memory_is_answered_by_the_plan) {
    const emu_device was = emu_now;
    const lk_backend *b = cuda();
    linear l;
    emu_now.memory = 100000;
    CHECK_FAILS(linear_new(&l, b, 0), "but the device allows 100000");
    lk_graph_free(l.g);
    CHECK_FAILS(linear_new(&l, b, (int64_t)1 << 40), "but the device allows 100000");
    lk_graph_free(l.g);
    void *p;
    CHECK_FAILS(b->device->alloc((int64_t)1 << 40, &p), "1099511627776 bytes (1024.00 GiB) could not be had, the device has 0.00 GiB free: out of memory");
    CHECK(emu_count.allocated == 0);
    emu_now = was;
    CHECK_OK(linear_new(&l, b, 0));                                                 /* an allocation that failed breaks nothing */
    linear_free(&l);
    expect_nothing_left();
}
TEST(a_weight_goes_up_once_for_all_who_bind_it) {
    const lk_backend *b = cuda();
    linear first, second;
    fill(); on_cpu(want);
    CHECK_OK(linear_new(&first, b, 0)); CHECK_OK(linear_new(&second, b, 0));
    int64_t before = emu_count.allocated;
    CHECK_OK(lk_exec_bind(first.e, first.w, w, WIDTH * WIDTH));
    int64_t with_weight = emu_count.allocated;
    CHECK(with_weight - before == WIDTH * WIDTH * 4);
    CHECK_OK(lk_exec_bind(second.e, second.w, w, WIDTH * WIDTH));
    CHECK(emu_count.allocated == with_weight && lk_exec_bytes(first.e) + lk_exec_bytes(second.e) == with_weight);
    CHECK_FAILS(lk_exec_set(second.e, second.w, w, WIDTH * WIDTH), "cannot be written");
    linear_free(&first);
    forward(&second, got);
    CHECK(!memcmp(want, got, sizeof got));
    linear_free(&second);
    CHECK(emu_count.allocated == 0);
    expect_nothing_left();
}
TEST(runs_see_what_was_written_before_them) {
    const lk_backend *b = cuda();
    linear l, other;
    fill();
    CHECK_OK(linear_new(&l, b, 0)); CHECK_OK(linear_new(&other, b, 0));
    CHECK_OK(lk_exec_set(l.e, l.w, w, WIDTH * WIDTH));
    CHECK_OK(lk_exec_share(other.e, other.w, l.e, l.w));
    for (int k = 0; k < 4; k++) {                                   /* one by one, captured, replayed */
        for (int i = 0; i < 7; i++) x[i] = (float)(k + i);
        on_cpu(want);
        forward(&l, got);
        CHECK_MSG(!memcmp(want, got, sizeof got), "run %d", k);
        forward(&other, got);
        CHECK_MSG(!memcmp(want, got, sizeof got), "run %d of the executor that borrows", k);
    }
    CHECK_OK(lk_exec_bind(l.e, l.w, w, WIDTH * WIDTH));              /* new addresses: the captured step is forgotten */
    forward(&l, got);
    CHECK(!memcmp(want, got, sizeof got));
    linear_free(&l); linear_free(&other);
    expect_nothing_left();
}
TEST(copies_larger_than_the_pinned_memory_arrive_whole) {
    const lk_backend *b = cuda();
    const int64_t n = 50 << 20;
    unsigned char *up = lk_xmalloc((size_t)n), *down = lk_xmalloc((size_t)n);
    void *there;
    CHECK_OK(b->device->alloc(n, &there));
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t i = 0; i < n; i++) up[i] = (unsigned char)(i * 31 + i / 4096 + pass);
        CHECK_OK(b->device->write(there, up, n));
        for (int i = 0; i < 300; i++) CHECK_OK(b->device->write((char *)there + i * 8, up + i * 8, 8));
        CHECK_OK(b->device->read(down, there, n));
        CHECK(!memcmp(up, down, (size_t)n));
    }
    b->device->release(there);
    free(up); free(down);
    expect_nothing_left();
}

/* ---- what a device punishes ------------------------------------------------------------------------------------------ */
/* One copy of n floats by the kernel box, from and to as given. */
static void copy_by_kernel(void *to, const void *from, int64_t n) {
    lk_box_args a = {.out = to, .in = from, .n = n, .rank = 1, .d = {n}, .from = {1}, .to = {1}};
    lk_cuda_enqueue(NULL, LK_CUDA_box, (n + LK_FLAT_BLOCK - 1) / LK_FLAT_BLOCK, &a);
}
static lk_err error_of_run(void) { lk_err e = lk_cuda_now.error; lk_cuda_now.error = LK_OK; return e; }
TEST(a_kernel_outside_its_memory_is_caught) {
    for (int planted = 0; planted < 4; planted++) {
        const lk_backend *b = cuda();
        void *from, *to;
        float host[64] = {0};
        CHECK_OK(b->device->alloc(1024, &from)); CHECK_OK(b->device->alloc(1024, &to));
        copy_by_kernel(to, from, 256);                                                  /* exactly all of it */
        CHECK_OK(b->device->read(host, to, 256));
        CHECK(host[0] != host[0]);                                                      /* unwritten memory is NaN */
        if (planted == 0) copy_by_kernel(to, from, 257 + 64);                           /* a read, and a write, past the end */
        if (planted == 1) copy_by_kernel((float *)to - 2000, from, 1);                  /* a write before the beginning */
        if (planted == 2) copy_by_kernel(to, host, 16);                                 /* memory of the host */
        if (planted == 3) { b->device->release(from); from = NULL; copy_by_kernel(to, (char *)to + (1 << 24), 16); }
        CHECK_FAILS(b->device->read(host, to, 256), "illegal memory access");
        CHECK_FAILS(b->device->write(to, host, 16), "illegal memory access");           /* and the device stays lost */
        lk_err_free(error_of_run());
        b->device->release(from); b->device->release(to);
        expect_nothing_left();
    }
}
static lk_node add_node(lk_val *in) { return (lk_node){.op = LK_OP_add, .shape = LK_SHAPE(4, 64), .n_in = 2, .in = in, .name = "h"}; }
TEST(an_error_names_operation_and_shapes) {
    lk_val in[] = {{0}, {1}};
    lk_node node = add_node(in);
    const lk_shape shapes[] = {LK_SHAPE(4, 64), LK_SHAPE(64)};
    void *data[] = {x, x}, *replay = NULL;                                              /* host memory: a fault */
    lk_kernel_call call = {.node = &node, .in = data, .in_shape = shapes, .out = got};
    const lk_kernel_call *calls[] = {&call};
    setenv("LK_CUDA_SYNC", "1", 1);
    const lk_backend *b = cuda();
    CHECK_FAILS(b->device->run(&b->kernel[LK_OP_add], calls, 1, &replay), "operation add h, [4, 64] [64] -> [4, 64]: an illegal memory access");
    b->device->forget(replay);
    unsetenv("LK_CUDA_SYNC");
    expect_nothing_left();
    cuda();
    lk_cuda_now.call = &call;
    lk_cuda_enqueue(NULL, LK_CUDA_box, (int64_t)1 << 31, &(lk_box_args){0});
    CHECK_FAILS(error_of_run(), "[4, 64] [64] -> [4, 64]: kernel box would need 2147483648 blocks");
    expect_nothing_left();
}
static void waits(const lk_kernel_call *c)     { (void)c; cudaStreamSynchronize(lk_cuda_now.stream); }
static void allocates(const lk_kernel_call *c) { void *p = NULL; (void)c; if (cudaMalloc(&p, 64) == cudaSuccess) cudaFree(p); }
TEST(what_may_not_be_captured_breaks_the_capture) {
    lk_val in[] = {{0}, {1}};
    lk_node node = add_node(in);
    lk_kernel_call call = {.node = &node};
    const lk_kernel_call *calls[] = {&call};
    const lk_kernel planted[] = {waits, allocates};
    for (int i = 0; i < 2; i++) {
        const lk_backend *b = cuda();
        void *replay = NULL;
        CHECK_OK(b->device->run(&planted[i], calls, 1, &replay));                       /* the first run captures nothing */
        CHECK_FAILS(b->device->run(&planted[i], calls, 1, &replay), "previous error during capture");
        b->device->forget(replay);
        expect_nothing_left();
    }
}
TEST(pinned_memory_written_before_its_copy_shows) {
    const lk_backend *b = cuda();
    void *there, *pinned;
    float back[4];
    CHECK_OK(b->device->alloc(256, &there));
    CHECK(cudaMallocHost(&pinned, 256) == cudaSuccess);
    for (int i = 0; i < 4; i++) ((float *)pinned)[i] = 1;
    CHECK(cudaMemcpyAsync(there, pinned, 16, cudaMemcpyHostToDevice, lk_cuda_now.stream) == cudaSuccess);
    for (int i = 0; i < 4; i++) ((float *)pinned)[i] = 2;                               /* too early */
    CHECK_OK(b->device->read(back, there, 16));
    CHECK(back[0] == 2);
    char *left = emu_leaks();
    CHECK(strstr(left, "256 bytes pinned") && strstr(left, "256 bytes on the device") && strstr(left, "1 streams"));
    free(left);
    cudaFreeHost(pinned);
    b->device->release(there);
    expect_nothing_left();
}
TEST(host_code_that_touches_device_memory_is_stopped) {
    const lk_backend *b = cuda();
    void *there;
    int status;
    CHECK_OK(b->device->alloc(256, &there));
    pid_t pid = fork();
    if (!pid) { volatile float *p = there; _exit(p[0] != 0 ? 42 : 43); }
    waitpid(pid, &status, 0);
    CHECK(WIFSIGNALED(status) || WEXITSTATUS(status) < 42);                              /* a sanitizer turns the signal into its own exit */
    b->device->release(there);
    expect_nothing_left();
}
