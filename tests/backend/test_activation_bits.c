/* Every elementwise operation that decomposes, and geglu, equals its decomposition bit for bit on each instruction
 * set: backend/activation.h and graph/decompose_activation.c say the same arithmetic. */
#include "backend/backend.h"
#include "graph/internal.h"
#include "tests/backend/isa_tables.h"

enum { ROWS = 37, WIDTH = 106, N = ROWS * WIDTH };
static float x[N], dy[N], fused[N], parts[N];

static void compare(lk_op op, lk_isa isa) {
    const lk_backend *backend;
    lk_err e = lk_backend_cpu(isa, &backend);
    if (e) { lk_err_free(e); return; }
    lk_graph *g = lk_graph_new();
    const lk_op_row *row = lk_op_at(op);
    lk_val in = lk_input(g, "x", LK_F32, LK_SHAPE(ROWS, WIDTH)), cot = lk_input(g, "dy", LK_F32, LK_SHAPE(ROWS, op == LK_OP_geglu_dx ? WIDTH / 2 : WIDTH));
    lk_val y = row->hi == 1 ? LK_EMIT(g, op, NULL, in) : LK_EMIT(g, op, NULL, in, cot), same = lk_decompose(g, y), out[2] = {y, same};
    CHECK_OK(lk_graph_error(g));
    int64_t n = lk_numel(lk_shape_of(g, y));
    lk_exec *exec;
    CHECK(y.id != same.id && n == lk_numel(lk_shape_of(g, same)));
    CHECK_OK(lk_exec_new(g, out, 2, (lk_exec_opts){.backend = backend}, &exec));
    CHECK_OK(lk_exec_set(exec, in, x, N));
    CHECK_OK(lk_exec_set(exec, cot, dy, lk_numel(lk_shape_of(g, cot))));
    CHECK_OK(lk_exec_run(exec));
    CHECK_OK(lk_exec_get(exec, y, fused, n));
    CHECK_OK(lk_exec_get(exec, same, parts, n));
    int64_t at = bits_differ(fused, parts, n);
    CHECK_MSG(at < 0, "%s on %s, element %ld: fused %a, decomposed %a", row->name, lk_isa_name(backend), (long)at, at_or_nan(fused, at), at_or_nan(parts, at));
    parts[n / 3] = fused[n / 3] == 0 ? 0x1p-149f : -fused[n / 3];
    CHECK_MSG(fused[n / 3] != fused[n / 3] || bits_differ(fused, parts, n) == n / 3, "%s: a planted sign was not seen", row->name);
    lk_exec_free(exec);
    lk_graph_free(g);
}
TEST(fused_equals_decomposed) {
    fill_hard(x, N, 21); fill_hard(dy, N, 22);
    int found = 0;
    for (int op = 0; op < LK_OP_COUNT; op++) {
        const lk_op_row *row = lk_op_at((lk_op)op);
        if (!row->decompose || !((row->traits & T_EW) || op == LK_OP_geglu || op == LK_OP_geglu_dx)) continue;
        found++;
        for (lk_isa isa = LK_ISA_SCALAR; isa <= LK_ISA_AVX512; isa++) compare((lk_op)op, isa);
    }
    CHECK_MSG(found >= 12, "%d operations decompose, at least 12 do", found);
}
