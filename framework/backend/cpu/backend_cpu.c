/* The cpu backend: binary32 by docs/numerics.md. Every kernel file is compiled three times (scalar, AVX2,
 * AVX-512); this file chooses one set at run time and builds its table. A choice never changes a bit, only
 * speed. A set the machine lacks is refused, never replaced by another. The fast tier is the same three sets with Winograd's
 * 3 x 3 convolutions. */
#include "backend/backend.h"
#include <stdlib.h>
#include <string.h>

/* A kernel folder file named X exports lk_kernels_X_<isa>, which fills its entries of the table. */
#define FAMILIES(isa) FAMILY(elementwise, isa) FAMILY(services, isa) FAMILY(movement, isa) FAMILY(reduce, isa) FAMILY(norm, isa) FAMILY(picture, isa) FAMILY(contract, isa)
#define ISAS ISA(scalar) ISA(avx2) ISA(avx512)

#define FAMILY(family, isa) void lk_kernels_##family##_##isa(lk_kernel *);
#define ISA(isa) FAMILIES(isa) int64_t lk_contract_workspace_##isa(const lk_node *, const lk_shape *in_shape, int threads); uint64_t lk_contract_calls_##isa(void); \
    void lk_kernels_winograd_##isa(lk_kernel *); int64_t lk_winograd_workspace_##isa(const lk_node *, const lk_shape *in_shape, int threads); \
    void lk_contract_pack_##isa(const lk_node *, const lk_shape *in_shape, int input, const lk_stored *, float *, lk_pool *);
ISAS
#undef ISA
#undef FAMILY
int  lk_contract_pack_form_scalar(const lk_node *, const lk_shape *in_shape, int input), lk_contract_pack_other_scalar(const lk_node *, const lk_shape *in_shape, int input);

static void shapes_of(const lk_graph *g, const lk_node *n, lk_shape *out /* [64] */) {
    for (int i = 0; i < n->n_in && i < 64; i++) out[i] = lk_shape_of(g, n->in[i]);
}
/* The packed form is the same for every instruction set. */
static int pack_form(const lk_graph *g, const lk_node *n, int input) {
    if (!(lk_op_traits(n->op) & T_CONTRACT)) return 0;
    lk_shape in[64]; shapes_of(g, n, in);
    return lk_contract_pack_form_scalar(n, in, input);
}
static int pack_other(const lk_graph *g, const lk_node *n, int input) {
    if (!(lk_op_traits(n->op) & T_CONTRACT)) return 0;
    lk_shape in[64]; shapes_of(g, n, in);
    return lk_contract_pack_other_scalar(n, in, input);
}

/* Only contractions need a workspace. The fast tier's kernels are the exact ones but for 3 x 3 convolutions. */
#define ISA(isa) \
    static void fill_##isa(lk_kernel *table) { FAMILIES(isa) } \
    static void fast_fill_##isa(lk_kernel *table) { FAMILIES(isa) lk_kernels_winograd_##isa(table); } \
    static int64_t workspace_##isa(const lk_graph *g, const lk_node *n, int threads) { \
        if (!(lk_op_traits(n->op) & T_CONTRACT)) return 0; \
        lk_shape in[64]; shapes_of(g, n, in); \
        return lk_contract_workspace_##isa(n, in, threads); \
    } \
    static int64_t fast_workspace_##isa(const lk_graph *g, const lk_node *n, int threads) { \
        lk_shape in[64]; shapes_of(g, n, in); \
        const int64_t bytes = lk_winograd_workspace_##isa(n, in, threads); \
        return bytes < 0 ? workspace_##isa(g, n, threads) : bytes; \
    } \
    static int fast_form_##isa(const lk_graph *g, const lk_node *n, int input) { \
        lk_shape in[64]; shapes_of(g, n, in); \
        return lk_winograd_workspace_##isa(n, in, 1) < 0 ? pack_form(g, n, input) : 0; \
    } \
    static void pack_##isa(const lk_graph *g, const lk_node *n, int input, const lk_stored *w, void *packed, lk_pool *pool) { \
        lk_shape in[64]; shapes_of(g, n, in); \
        lk_contract_pack_##isa(n, in, input, w, packed, pool); \
    }
#define FAMILY(family, isa) lk_kernels_##family##_##isa(table);
ISAS
#undef ISA
#undef FAMILY

static struct {
    lk_backend backend; const char *name;
    void (*fill)(lk_kernel *);
    uint64_t (*calls)(void);
} sets[] = {
#define ISA(isa) {{.name = "cpu", .element_bytes = 4, .workspace = workspace_##isa, .pack_form = pack_form, .pack_other = pack_other, .pack = pack_##isa}, #isa, fill_##isa, lk_contract_calls_##isa},
ISAS
#undef ISA
#define ISA(isa) {{.name = "cpu-fast", .element_bytes = 4, .workspace = fast_workspace_##isa, .pack_form = fast_form_##isa, .pack_other = pack_other, .pack = pack_##isa}, #isa, fast_fill_##isa, lk_contract_calls_##isa},
ISAS
#undef ISA
};
enum { ALL = sizeof sets / sizeof *sets, SETS = ALL / 2 };          /* the exact ones, then the fast */

static bool machine_has(lk_isa isa) {
    bool fma = __builtin_cpu_supports("fma") && __builtin_cpu_supports("avx");
    if (isa == LK_ISA_AVX2) return fma && __builtin_cpu_supports("avx2");
    if (isa == LK_ISA_AVX512)
        return fma && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
    return fma;
}
/* Filling a table is code of its set too: the compiler may write it with that set's instructions. */
__attribute__((constructor)) static void fill_tables(void) {
    __builtin_cpu_init();
    for (int i = 0; i < ALL; i++) if (machine_has(LK_ISA_SCALAR + i % SETS)) sets[i].fill(sets[i].backend.kernel);
}
static lk_err allowed(const char *what, const char *value) {
    lk_buf list = {0};
    for (int i = 0; i < SETS; i++) if (machine_has(LK_ISA_SCALAR + i)) lk_buf_fmt(&list, "%s%s", list.n ? ", " : "", sets[i].name);
    lk_err e = lk_error(LK_EINPUT, "%s = %s: this machine allows %s", what, value, list.n ? list.s : "none of scalar, avx2, avx512: it lacks fused multiply-add");
    free(list.s);
    return e;
}
lk_err lk_backend_cpu(lk_isa isa, const lk_backend **out) {
    *out = NULL;
    const char *env = isa == LK_ISA_AUTO ? getenv("LK_ISA") : NULL;
    if (env && *env) {
        for (int i = 0; i < SETS; i++) if (!strcmp(env, sets[i].name)) isa = LK_ISA_SCALAR + i;
        if (isa == LK_ISA_AUTO || !machine_has(isa)) return allowed("LK_ISA", env);
    }
    for (int i = SETS - 1; isa == LK_ISA_AUTO && i >= 0; i--) if (machine_has(LK_ISA_SCALAR + i)) isa = LK_ISA_SCALAR + i;
    int at = (int)isa - LK_ISA_SCALAR;
    if (at < 0 || at >= SETS) return allowed("instruction set", "none");
    if (!machine_has(isa)) return allowed("instruction set", sets[at].name);
    *out = &sets[at].backend;
    return LK_OK;
}
lk_err lk_backend_cpu_fast(lk_isa isa, const lk_backend **out) {
    LK_TRY(lk_backend_cpu(isa, out));
    for (int i = 0; i < SETS; i++) if (*out == &sets[i].backend) { *out = &sets[SETS + i].backend; break; }
    return LK_OK;
}
static int index_of(const lk_backend *b) {
    for (int i = 0; i < ALL; i++) if (b == &sets[i].backend) return i;
    return -1;
}
const char *lk_isa_name(const lk_backend *b) { int i = index_of(b); return i < 0 ? b->name : sets[i].name; }
uint64_t lk_kernel_count(const lk_backend *b) { int i = index_of(b); return i < 0 ? 0 : sets[i].calls(); }
