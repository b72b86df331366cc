/* Every contraction kernel against plain loops that follow docs/numerics.md rule 2 word by word (chains of
 * fmaf in blocks of 256), bit for bit: odd shapes, strides, padding, dilation, groups, 1 to 3 threads, every
 * instruction set of this machine, weights packed and not. The kernels are called directly: no graph, no plan.
 * Tolerance: none. */
#include "tests/lib/lk_test.h"
#include "backend/backend.h"
#include "base/exact_math.h"

static int BLOCK = 256;                      /* a test plants an error here */
#define ISAS ISA(scalar) ISA(avx2) ISA(avx512)
#define ISA(i) void lk_kernels_contract_##i(lk_kernel *); int64_t lk_contract_workspace_##i(const lk_node *, const lk_shape *, int); uint64_t lk_contract_calls_##i(void); \
    int lk_contract_pack_form_##i(const lk_node *, const lk_shape *, int), lk_contract_pack_other_##i(const lk_node *, const lk_shape *, int); \
    void lk_contract_pack_##i(const lk_node *, const lk_shape *, int, const lk_stored *, float *, lk_pool *);
ISAS
#undef ISA
static const struct {
    const char *name; void (*fill)(lk_kernel *); int64_t (*workspace)(const lk_node *, const lk_shape *, int); uint64_t (*calls)(void);
    int (*form)(const lk_node *, const lk_shape *, int), (*other)(const lk_node *, const lk_shape *, int); void (*pack)(const lk_node *, const lk_shape *, int, const lk_stored *, float *, lk_pool *);
} sets[] = {
#define ISA(i) {#i, lk_kernels_contract_##i, lk_contract_workspace_##i, lk_contract_calls_##i, lk_contract_pack_form_##i, lk_contract_pack_other_##i, lk_contract_pack_##i},
ISAS
};
static bool machine_has(int i) {
    __builtin_cpu_init();
    return i == 0 ? __builtin_cpu_supports("fma") : i == 1 ? __builtin_cpu_supports("avx2") : __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl");
}

/* ---- inputs: many exponents, both signs, exact zeros -------------------------------------------------- */
static uint64_t state = 1;
static float draw(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    uint32_t r = (uint32_t)(state >> 33);
    if (r % 37 == 0) return r & 64 ? 0.0f : -0.0f;
    return (float)((int)(r % 20011) - 10005) * 0x1p-13f * (1 + (float)(r >> 24) * 0x1p-3f);
}
static float *values(int64_t n) { float *p = lk_xaligned((size_t)(n + 16) * sizeof *p); for (int64_t i = 0; i < n; i++) p[i] = draw(); return p; }
static int64_t numel(lk_shape s) { int64_t n = 1; for (int i = 0; i < s.rank; i++) n *= s.d[i]; return n; }

/* ---- rule 2, written out ---------------------------------------------------------------------------------- */
typedef struct { float sum, acc; int64_t k; } chain;
static void chain_add(chain *c, float a, float b) {
    if (c->k && c->k % BLOCK == 0) { c->sum = c->k == BLOCK ? c->acc : c->sum + c->acc; c->acc = 0; }
    c->acc = fmaf(a, b, c->acc);
    c->k++;
}
static float chain_end(const chain *c) { return c->k <= BLOCK ? c->acc : c->sum + c->acc; }

typedef struct { lk_node node; lk_shape in_shape[5]; void *in[5]; } problem;

static void plain_matmul(const problem *p, float *out) {
    lk_shape a = p->in_shape[0], b = p->in_shape[1], o = p->node.shape;
    lk_mm mm = p->node.attr.matmul;
    int64_t m = o.d[o.rank - 2], n = o.d[o.rank - 1], k = mm.ta ? a.d[a.rank - 2] : a.d[a.rank - 1], batches = numel(o) / (m * n);
    for (int64_t t = 0; t < batches; t++) {
        int64_t ia = 0, ib = 0, rest = t, sa = m * k, sb = n * k;
        for (int i = o.rank - 3; i >= 0; i--) {
            int64_t at = rest % o.d[i]; rest /= o.d[i];
            int xa = i - (o.rank - a.rank), xb = i - (o.rank - b.rank);
            int64_t da = xa >= 0 ? a.d[xa] : 1, db = xb >= 0 ? b.d[xb] : 1;
            if (da > 1) ia += at * sa;
            if (db > 1) ib += at * sb;
            sa *= da; sb *= db;
        }
        const float *pa = (const float *)p->in[0] + ia, *pb = (const float *)p->in[1] + ib;
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++) {
                chain c = {0};
                for (int64_t l = 0; l < k; l++) chain_add(&c, mm.ta ? pa[l * m + i] : pa[i * k + l], mm.tb ? pb[j * k + l] : pb[l * n + j]);
                float v = chain_end(&c);
                if (p->node.n_in > 2) v += ((const float *)p->in[2])[j];
                out[(t * m + i) * n + j] = v;
            }
    }
}
typedef struct { int64_t N, C, H, W, O, OH, OW, kh, kw, g, sh, sw, dh, dw, top, left; } conv;
static float at4(const float *p, int64_t C, int64_t H, int64_t W, int64_t n, int64_t c, int64_t y, int64_t x) {
    return y < 0 || y >= H || x < 0 || x >= W ? 0.0f : p[((n * C + c) * H + y) * W + x];
}
static void plain_conv(const conv *v, const float *x, const float *w, const float *bias, float *y) {
    int64_t cg = v->C / v->g, og = v->O / v->g;
    for (int64_t n = 0; n < v->N; n++) for (int64_t o = 0; o < v->O; o++) for (int64_t i = 0; i < v->OH; i++) for (int64_t j = 0; j < v->OW; j++) {
        chain s = {0};
        for (int64_t a = 0; a < v->kh; a++) for (int64_t b = 0; b < v->kw; b++) for (int64_t c = 0; c < cg; c++)
            chain_add(&s, at4(x, v->C, v->H, v->W, n, o / og * cg + c, i * v->sh + a * v->dh - v->top, j * v->sw + b * v->dw - v->left), w[((o * cg + c) * v->kh + a) * v->kw + b]);
        *y++ = bias ? chain_end(&s) + bias[o] : chain_end(&s);
    }
}
static void plain_dx(const conv *v, const float *dy, const float *w, float *dx) {
    int64_t cg = v->C / v->g, og = v->O / v->g;
    for (int64_t n = 0; n < v->N; n++) for (int64_t c = 0; c < v->C; c++) for (int64_t i = 0; i < v->H; i++) for (int64_t j = 0; j < v->W; j++) {
        chain s = {0};
        for (int64_t a = 0; a < v->kh; a++) for (int64_t b = 0; b < v->kw; b++) {
            int64_t y = i + v->top - a * v->dh, x = j + v->left - b * v->dw;
            if (y % v->sh || x % v->sw) continue;
            for (int64_t o = 0; o < og; o++) {
                int64_t oo = c / cg * og + o;
                chain_add(&s, at4(dy, v->O, v->OH, v->OW, n, oo, y / v->sh, x / v->sw), w[((oo * cg + c % cg) * v->kh + a) * v->kw + b]);
            }
        }
        *dx++ = chain_end(&s);
    }
}
static void plain_dw(const conv *v, const float *x, const float *dy, float *dw) {
    int64_t cg = v->C / v->g, og = v->O / v->g;
    for (int64_t o = 0; o < v->O; o++) for (int64_t c = 0; c < cg; c++) for (int64_t a = 0; a < v->kh; a++) for (int64_t b = 0; b < v->kw; b++) {
        chain s = {0};
        for (int64_t n = 0; n < v->N; n++) for (int64_t i = 0; i < v->OH; i++) for (int64_t j = 0; j < v->OW; j++)
            chain_add(&s, at4(x, v->C, v->H, v->W, n, o / og * cg + c, i * v->sh + a * v->dh - v->top, j * v->sw + b * v->dw - v->left), dy[((n * v->O + o) * v->OH + i) * v->OW + j]);
        *dw++ = chain_end(&s);
    }
}
/* Rule 3, written out. */
static float plain_sum(const float *x, int64_t n) {
    float level[64]; int64_t count = 0;
    for (int64_t at = 0; at < n || !count; at += 4096) {
        float lane[32] = {0};
        for (int64_t i = at; i < n && i < at + 4096; i++) lane[(i - at) % 32] += x[i];
        for (int h = 16; h; h /= 2) for (int l = 0; l < h; l++) lane[l] += lane[l + h];
        level[count++] = lane[0];
    }
    while (count > 1) { int64_t m = 0; for (int64_t i = 0; i < count; i += 2) level[m++] = i + 1 < count ? level[i] + level[i + 1] : level[i]; count = m; }
    return level[0];
}
typedef struct { int64_t B, H, Tq, Tk, D; bool causal; float scale; const float *q, *k, *v, *dy, *bias; lk_shape bias_shape; } attn;
static float bias_at(const attn *a, int64_t b, int64_t h, int64_t i, int64_t j) {
    int64_t at[4] = {b, h, i, j}, off = 0;
    for (int x = 0; x < a->bias_shape.rank; x++) { int64_t d = a->bias_shape.d[x]; off = off * d + (d == 1 ? 0 : at[4 - a->bias_shape.rank + x]); }
    return a->bias[off];
}
static void plain_attention(const attn *a, float *y, float *grad) {
    int64_t W = a->H * a->D;
    float *p = lk_xcalloc((size_t)(a->Tq * a->Tk), 4), *ds = lk_xcalloc((size_t)(a->Tq * a->Tk), 4), *tmp = lk_xcalloc((size_t)a->Tk, 4);
    for (int64_t b = 0; b < a->B; b++) for (int64_t h = 0; h < a->H; h++) {
        const float *q = a->q + b * a->Tq * W + h * a->D, *k = a->k + b * a->Tk * W + h * a->D, *v = a->v + b * a->Tk * W + h * a->D, *dy = a->dy ? a->dy + b * a->Tq * W + h * a->D : NULL;
        for (int64_t i = 0; i < a->Tq; i++) {
            float *row = p + i * a->Tk, m;
            for (int64_t j = 0; j < a->Tk; j++) {
                chain c = {0};
                for (int64_t d = 0; d < a->D; d++) chain_add(&c, q[i * W + d], k[j * W + d]);
                row[j] = chain_end(&c) * a->scale;
                if (a->bias) row[j] += bias_at(a, b, h, i, j);
                if (a->causal) row[j] += j > i + a->Tk - a->Tq ? -INFINITY : 0.0f;
            }
            m = row[0];
            for (int64_t j = 1; j < a->Tk; j++) if (row[j] > m) m = row[j];
            for (int64_t j = 0; j < a->Tk; j++) row[j] = lk_expf(row[j] - m);
            float sum = plain_sum(row, a->Tk);
            for (int64_t j = 0; j < a->Tk; j++) row[j] = row[j] / sum;
            if (!dy) continue;
            float *dr = ds + i * a->Tk;
            for (int64_t j = 0; j < a->Tk; j++) { chain c = {0}; for (int64_t d = 0; d < a->D; d++) chain_add(&c, dy[i * W + d], v[j * W + d]); dr[j] = chain_end(&c); tmp[j] = row[j] * dr[j]; }
            sum = plain_sum(tmp, a->Tk);
            for (int64_t j = 0; j < a->Tk; j++) dr[j] = row[j] * (dr[j] - sum);
        }
        for (int64_t d = 0; d < a->D; d++) {
            for (int64_t i = 0; i < a->Tq; i++) {
                chain c = {0}, e = {0};
                for (int64_t j = 0; j < a->Tk; j++) { chain_add(&c, p[i * a->Tk + j], v[j * W + d]); if (dy) chain_add(&e, ds[i * a->Tk + j], k[j * W + d]); }
                if (!dy) y[(b * a->Tq + i) * W + h * a->D + d] = chain_end(&c);
                else grad[(b * a->Tq + i) * W + h * a->D + d] = chain_end(&e) * a->scale;
            }
            for (int64_t j = 0; dy && j < a->Tk; j++) {
                chain c = {0}, e = {0};
                for (int64_t i = 0; i < a->Tq; i++) { chain_add(&c, ds[i * a->Tk + j], q[i * W + d]); chain_add(&e, p[i * a->Tk + j], dy[i * W + d]); }
                grad[a->B * a->Tq * W + (b * a->Tk + j) * W + h * a->D + d] = chain_end(&c) * a->scale;
                grad[a->B * (a->Tq + a->Tk) * W + (b * a->Tk + j) * W + h * a->D + d] = chain_end(&e);
            }
        }
    }
    free(p); free(ds); free(tmp);
}

/* ---- packing from halves ----------------------------------------------------------------------------------------------- */
/* Weights stored in halves are packed as their floats are, whatever the halves are: NaN, infinities and subnormals too. The floats are the compiler's own
 * conversion (binary16) or a shift (bfloat16). */
static void check_halves(int set, const problem *p, int side, lk_pool *pool, bool quiet) {
    const int64_t n = numel(p->in_shape[side]);
    uint16_t *half = lk_xmalloc((size_t)n * 2 + 2);
    float *wide = values(n), *want = values(n), *got = values(n);
    for (int as = LK_AS_F16; as <= LK_AS_BF16 && !quiet; as++) {
        for (int64_t i = 0; i < n; i++) {
            half[i] = (uint16_t)(i * 40503 + 77 * as);
            _Float16 h; memcpy(&h, half + i, 2);
            uint32_t bits = (uint32_t)half[i] << 16;
            if (as == LK_AS_F16 && h != h) bits = (half[i] & 0x8000u) << 16 | 0x7f800000u | (half[i] & 0x3ffu) << 13;      /* a NaN keeps its payload */
            if (as == LK_AS_F16 && h == h) wide[i] = (float)h; else memcpy(wide + i, &bits, 4);
        }
        sets[set].pack(&p->node, p->in_shape, side, &(lk_stored){.data = wide}, want, pool);
        sets[set].pack(&p->node, p->in_shape, side, &(lk_stored){.data = half, .as = (lk_float_as)as}, got, pool);
        CHECK_MSG(!memcmp(want, got, (size_t)n * 4), "%s: packed from %s, other bits", sets[set].name, as == LK_AS_F16 ? "fp16" : "bf16");
        half[n / 2] ^= 1;                              /* planted: the last place of one weight */
        sets[set].pack(&p->node, p->in_shape, side, &(lk_stored){.data = half, .as = (lk_float_as)as}, got, pool);
        CHECK(!n || memcmp(want, got, (size_t)n * 4));
    }
    free(half); free(wide); free(want); free(got);
}

/* ---- running a kernel ----------------------------------------------------------------------------------------- */
enum { GUARD = 64 };
static const uint32_t CANARY = 0x7fc0beefu;
/* Runs everywhere; false at the first difference. `quiet`: the caller expects one. */
static bool agrees(problem *p, const float *want, const char *what, bool quiet) {
    const int side = p->node.op == LK_OP_matmul_add ? 2 : 1;                 /* the input that may be packed */
    int64_t n = numel(p->node.shape);
    bool all = true;
    for (int i = 0; i < 3 && all; i++) {
        if (!machine_has(i)) continue;
        lk_kernel table[LK_OP_COUNT] = {0};
        sets[i].fill(table);
        for (int variant = 0; variant < 4 && all; variant++) {
            int threads = variant < 3 ? variant + 1 : 2;
            bool packs = variant == 3 && (sets[i].form(&p->node, p->in_shape, side) || sets[i].other(&p->node, p->in_shape, side));
            if (variant == 3 && !packs) continue;
            lk_pool *pool = threads > 1 ? lk_pool_new(threads) : NULL;
            int64_t work = sets[i].workspace(&p->node, p->in_shape, threads);
            uint32_t *w = lk_xaligned((size_t)work + GUARD * 4), *out = lk_xaligned((size_t)(n + GUARD) * 4);
            for (int64_t k = 0; k < work / 4 + GUARD; k++) w[k] = CANARY;
            for (int64_t k = 0; k < n + GUARD; k++) out[k] = CANARY;
            float *packed = packs ? values(numel(p->in_shape[side])) : NULL;
            if (packs) { sets[i].pack(&p->node, p->in_shape, side, &(lk_stored){.data = p->in[side]}, packed, pool); check_halves(i, p, side, pool, quiet); }
            const void *packed_list[5] = {NULL, packed, packed};
            lk_kernel_call call = {.node = &p->node, .out = out, .in = p->in, .in_shape = p->in_shape, .work = w, .packed = packs ? packed_list : NULL, .pool = pool};
            uint64_t before = sets[i].calls();
            table[p->node.op](&call);
            bool ok = sets[i].calls() == before + 1;
            for (int64_t k = 0; k < n && ok; k++)
                if (memcmp(out + k, want + k, 4)) {
                    float got; memcpy(&got, out + k, 4); ok = false;
                    if (!quiet) CHECK_MSG(false, "%s, %s, %d threads%s: element %lld of %lld is %a, want %a", what, sets[i].name, threads, packs ? ", packed" : "", (long long)k, (long long)n, got, want[k]);
                }
            for (int k = 0; k < GUARD; k++)
                if (out[n + k] != CANARY || w[work / 4 + k] != CANARY) { ok = false; CHECK_MSG(false, "%s, %s: wrote past the %s", what, sets[i].name, out[n + k] != CANARY ? "output" : "workspace"); break; }
            if (ok) CHECK(ok);
            all = ok;
            free(w); free(out); free(packed); lk_pool_free(pool);
        }
    }
    return all;
}
static void drop(problem *p) { for (int i = 0; i < 5; i++) { free(p->in[i]); p->in[i] = NULL; } }

static bool try_matmul(lk_shape a, lk_shape b, lk_shape out, lk_mm mm, bool bias, bool quiet) {
    problem p = {.node = {.op = LK_OP_matmul, .shape = out, .attr.matmul = mm, .n_in = 2 + bias}, .in_shape = {a, b, LK_SHAPE(out.d[out.rank - 1])}};
    p.in[0] = values(numel(a)); p.in[1] = values(numel(b));
    if (bias) p.in[2] = values(out.d[out.rank - 1]);
    float *want = values(numel(out));
    plain_matmul(&p, want);
    char what[128]; snprintf(what, sizeof what, "matmul %lldx%lld..%lld ta=%d tb=%d bias=%d", (long long)out.d[out.rank - 2], (long long)out.d[out.rank - 1], (long long)(numel(a) / out.d[out.rank - 2]), mm.ta, mm.tb, bias);
    bool ok = agrees(&p, want, what, quiet);
    drop(&p); free(want);
    return ok;
}
/* c + alpha (a b): the product as above, then one multiplication and one addition. */
static void try_matmul_add(lk_shape a, lk_shape b, lk_shape out, lk_mm mm) {
    problem p = {.node = {.op = LK_OP_matmul, .shape = out, .attr.matmul = mm, .n_in = 2}, .in_shape = {a, b}}, q;
    p.in[0] = values(numel(a)); p.in[1] = values(numel(b));
    float *want = values(numel(out)), *c = values(numel(out));
    plain_matmul(&p, want);
    for (int64_t i = 0; i < numel(out); i++) want[i] = c[i] + (float)mm.alpha * want[i];
    q = (problem){.node = {.op = LK_OP_matmul_add, .shape = out, .attr.matmul = mm, .n_in = 3}, .in_shape = {out, a, b}, .in = {c, p.in[0], p.in[1]}};
    char what[128]; snprintf(what, sizeof what, "matmul_add %lldx%lld..%lld ta=%d tb=%d", (long long)out.d[out.rank - 2], (long long)out.d[out.rank - 1], (long long)(numel(a) / out.d[out.rank - 2]), mm.ta, mm.tb);
    agrees(&q, want, what, false);
    drop(&q); free(want);
}
static void matmul_sizes(int64_t m, int64_t n, int64_t k) {
    for (int t = 0; t < 4; t++) {
        lk_mm mm = {t & 1, t >> 1, t == 3 ? 1 : 0.7};
        try_matmul_add(mm.ta ? LK_SHAPE(k, m) : LK_SHAPE(m, k), mm.tb ? LK_SHAPE(n, k) : LK_SHAPE(k, n), LK_SHAPE(m, n), mm);
        mm.alpha = 0;
        try_matmul(mm.ta ? LK_SHAPE(k, m) : LK_SHAPE(m, k), mm.tb ? LK_SHAPE(n, k) : LK_SHAPE(k, n), LK_SHAPE(m, n), mm, t == 2 || t == 0, false);
    }
}
TEST(matmul_bits) {
    static const int64_t sizes[][3] = {{1, 1, 1}, {1, 33, 5}, {7, 1, 300}, {13, 31, 64}, {14, 32, 256}, {15, 33, 257}, {29, 65, 511}, {64, 4, 64}, {100, 3, 600},
        {3, 100, 513}, {40, 16, 1}, {17, 48, 1030}, {2, 8, 769}, {130, 9, 20}, {33, 530, 40}, {1, 600, 31}, {600, 1, 7}, {16, 64, 255},
        {270, 540, 30}, {260, 70, 300}, {505, 20, 280}};     /* more rows than are laid out at a time */
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) matmul_sizes(sizes[i][0], sizes[i][1], sizes[i][2]);
}
TEST(matmul_batches_and_broadcast) {
    try_matmul(LK_SHAPE(3, 5, 11, 20), LK_SHAPE(3, 5, 20, 9), LK_SHAPE(3, 5, 11, 9), (lk_mm){0}, true, false);
    try_matmul(LK_SHAPE(3, 1, 11, 20), LK_SHAPE(5, 9, 20), LK_SHAPE(3, 5, 11, 9), (lk_mm){.tb = true}, false, false);
    try_matmul(LK_SHAPE(20, 11), LK_SHAPE(4, 20, 33), LK_SHAPE(4, 11, 33), (lk_mm){.ta = true}, true, false);
    try_matmul(LK_SHAPE(4, 6, 300), LK_SHAPE(17, 300), LK_SHAPE(4, 6, 17), (lk_mm){.tb = true}, true, false);      /* rows of all batches */
    try_matmul(LK_SHAPE(4, 30, 6), LK_SHAPE(30, 40), LK_SHAPE(4, 6, 40), (lk_mm){.ta = true}, false, false);
    try_matmul_add(LK_SHAPE(3, 1, 11, 20), LK_SHAPE(5, 9, 20), LK_SHAPE(3, 5, 11, 9), (lk_mm){.tb = true, .alpha = 3.1});
    try_matmul_add(LK_SHAPE(4, 6, 8), LK_SHAPE(170, 8), LK_SHAPE(4, 6, 170), (lk_mm){.tb = true, .alpha = 0.3});
    try_matmul(LK_SHAPE(2, 70, 300), LK_SHAPE(2, 300, 2), LK_SHAPE(2, 70, 2), (lk_mm){0}, true, false);
}
TEST(a_block_of_128_is_seen) {
    BLOCK = 128;
    CHECK(!try_matmul(LK_SHAPE(20, 400), LK_SHAPE(400, 40), LK_SHAPE(20, 40), (lk_mm){0}, false, true));
    BLOCK = 256;
    CHECK(try_matmul(LK_SHAPE(20, 400), LK_SHAPE(400, 40), LK_SHAPE(20, 40), (lk_mm){0}, false, true));
}

static void try_conv(conv v, int64_t bottom, int64_t right) {
    v.OH = (v.H + v.top + bottom - (v.kh - 1) * v.dh - 1) / v.sh + 1; v.OW = (v.W + v.left + right - (v.kw - 1) * v.dw - 1) / v.sw + 1;
    lk_shape x = LK_SHAPE(v.N, v.C, v.H, v.W), w = LK_SHAPE(v.O, v.C / v.g, v.kh, v.kw), y = LK_SHAPE(v.N, v.O, v.OH, v.OW);
    lk_conv attr = {{(int)v.sh, (int)v.sw}, {(int)v.top, (int)v.left, (int)bottom, (int)right}, {(int)v.dh, (int)v.dw}, (int)v.g, {0, 0}};
    float *px = values(numel(x)), *pw = values(numel(w)), *py = values(numel(y)), *bias = values(v.O);
    float *want = values(numel(x) + numel(w) + numel(y));
    char what[160];
    const char *kinds[] = {"conv2d", "conv2d with bias", "conv2d_dx", "conv2d_dw"};
    for (int kind = 0; kind < 4; kind++) {
        problem p = {.node = {.op = kind < 2 ? LK_OP_conv2d : kind == 2 ? LK_OP_conv2d_dx : LK_OP_conv2d_dw, .attr.conv = attr, .n_in = kind == 1 ? 3 : 2}};
        if (kind < 2) {
            p.node.shape = y; p.in_shape[0] = x; p.in_shape[1] = w; p.in_shape[2] = LK_SHAPE(v.O); p.in[0] = px; p.in[1] = pw; p.in[2] = bias;
            plain_conv(&v, px, pw, kind ? bias : NULL, want);
        } else if (kind == 2) {
            p.node.shape = x; p.in_shape[0] = y; p.in_shape[1] = w; p.in[0] = py; p.in[1] = pw;
            p.node.attr.conv.size[0] = (int)v.H; p.node.attr.conv.size[1] = (int)v.W;
            plain_dx(&v, py, pw, want);
        } else {
            p.node.shape = w; p.in_shape[0] = x; p.in_shape[1] = y; p.in[0] = px; p.in[1] = py;
            p.node.attr.conv.size[0] = (int)v.kh; p.node.attr.conv.size[1] = (int)v.kw;
            plain_dw(&v, px, py, want);
        }
        snprintf(what, sizeof what, "%s N%lld C%lld %lldx%lld O%lld k%lldx%lld s%lld,%lld p%lld,%lld d%lld,%lld g%lld", kinds[kind], (long long)v.N, (long long)v.C, (long long)v.H, (long long)v.W,
                 (long long)v.O, (long long)v.kh, (long long)v.kw, (long long)v.sh, (long long)v.sw, (long long)v.top, (long long)v.left, (long long)v.dh, (long long)v.dw, (long long)v.g);
        agrees(&p, want, what, false);
    }
    free(px); free(pw); free(py); free(bias); free(want);
}
TEST(conv_bits) {   /*       N  C  H  W  O  -  -  kh kw g  sh sw dh dw top left, bottom right */
    try_conv((conv){2, 5, 7, 9, 6, 0, 0, 3, 3, 1, 1, 1, 1, 1, 1, 1}, 1, 1);
    try_conv((conv){1, 40, 8, 8, 33, 0, 0, 3, 3, 1, 1, 1, 1, 1, 1, 1}, 1, 1);
    try_conv((conv){2, 3, 20, 37, 17, 0, 0, 3, 3, 1, 1, 1, 1, 1, 1, 1}, 1, 1);
    try_conv((conv){1, 30, 8, 16, 260, 0, 0, 3, 3, 1, 1, 1, 1, 1, 1, 1}, 1, 1);
    try_conv((conv){1, 31, 4, 5, 70, 0, 0, 3, 3, 1, 1, 1, 1, 1, 1, 1}, 1, 1);
    try_conv((conv){3, 9, 16, 16, 14, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0}, 0, 0);
    try_conv((conv){2, 7, 9, 8, 5, 0, 0, 1, 1, 1, 2, 2, 1, 1, 0, 0}, 0, 0);
    try_conv((conv){2, 6, 5, 6, 7, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0}, 0, 1);
    try_conv((conv){2, 6, 9, 11, 8, 0, 0, 3, 3, 1, 2, 2, 1, 1, 0, 0}, 1, 1);     /* the autoencoder's uneven padding */
    try_conv((conv){1, 33, 10, 7, 9, 0, 0, 3, 2, 1, 2, 3, 1, 1, 2, 0}, 0, 1);
    try_conv((conv){2, 4, 13, 12, 3, 0, 0, 3, 3, 1, 1, 1, 2, 3, 2, 3}, 2, 3);
    try_conv((conv){1, 4, 15, 14, 5, 0, 0, 3, 2, 1, 3, 2, 2, 3, 1, 2}, 0, 3);
    try_conv((conv){1, 3, 9, 9, 4, 0, 0, 2, 2, 1, 4, 4, 1, 1, 0, 0}, 0, 0);      /* positions no tap reaches */
    try_conv((conv){1, 2, 6, 6, 3, 0, 0, 7, 7, 1, 1, 1, 1, 1, 3, 3}, 3, 3);
    try_conv((conv){2, 9, 16, 16, 20, 0, 0, 3, 3, 1, 1, 1, 1, 1, 1, 1}, 1, 1);   /* rows of whole vectors: read from a band */
    try_conv((conv){1, 5, 21, 32, 15, 0, 0, 3, 5, 1, 1, 1, 1, 1, 0, 2}, 1, 2);
    try_conv((conv){1, 3, 40, 48, 6, 0, 0, 3, 3, 1, 1, 1, 2, 2, 2, 2}, 2, 2);
    try_conv((conv){2, 6, 9, 16, 8, 0, 0, 2, 3, 2, 1, 1, 1, 1, 0, 0}, 1, 2);
    try_conv((conv){1, 3, 16, 16, 20, 0, 0, 4, 4, 1, 4, 4, 1, 1, 0, 0}, 0, 0);   /* patches */
}
TEST(small_pictures_bits) {   /* a batch's pixels in one row of lanes */
    try_conv((conv){3, 37, 4, 4, 30, 0, 0, 3, 3, 1, 1, 1, 1, 1, 1, 1}, 1, 1);
    try_conv((conv){5, 6, 8, 8, 15, 0, 0, 3, 3, 1, 2, 2, 1, 1, 1, 1}, 0, 0);
    try_conv((conv){2, 9, 8, 8, 20, 0, 0, 3, 3, 1, 1, 1, 2, 1, 2, 1}, 2, 1);
    try_conv((conv){3, 8, 2, 8, 6, 0, 0, 3, 3, 2, 1, 1, 1, 1, 1, 1}, 1, 1);
    try_conv((conv){9, 12, 4, 4, 14, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0}, 0, 0);
    try_conv((conv){33, 3, 2, 2, 5, 0, 0, 3, 3, 1, 1, 1, 1, 1, 1, 1}, 1, 1);
    try_conv((conv){4, 5, 12, 12, 3, 0, 0, 3, 3, 1, 3, 3, 1, 1, 0, 0}, 0, 0);    /* taps more than two apart stay by picture */
}
TEST(grouped_and_depthwise_bits) {
    try_conv((conv){2, 6, 7, 9, 8, 0, 0, 3, 3, 2, 1, 1, 1, 1, 1, 1}, 1, 1);
    try_conv((conv){1, 12, 6, 6, 9, 0, 0, 3, 3, 3, 2, 2, 1, 1, 1, 1}, 1, 1);
    try_conv((conv){2, 8, 5, 5, 4, 0, 0, 1, 1, 4, 1, 1, 1, 1, 0, 0}, 0, 0);
    try_conv((conv){2, 4, 6, 7, 8, 0, 0, 3, 3, 4, 1, 1, 1, 1, 1, 1}, 1, 1);      /* two outputs a channel */
    try_conv((conv){2, 5, 9, 19, 5, 0, 0, 3, 3, 5, 1, 1, 1, 1, 1, 1}, 1, 1);
    try_conv((conv){2, 5, 10, 37, 5, 0, 0, 3, 3, 5, 2, 2, 1, 1, 1, 1}, 1, 1);
    try_conv((conv){1, 3, 20, 20, 3, 0, 0, 17, 17, 3, 1, 1, 1, 1, 8, 8}, 8, 8);  /* 289 taps: two blocks */
    try_conv((conv){1, 3, 8, 9, 3, 0, 0, 3, 5, 3, 3, 2, 2, 1, 0, 2}, 3, 1);
    try_conv((conv){1, 4, 6, 6, 4, 0, 0, 6, 6, 4, 1, 1, 1, 1, 0, 0}, 0, 0);
}
static void try_attention(int64_t B, int64_t H, int64_t Tq, int64_t Tk, int64_t D, bool causal, lk_shape bias) {
    lk_shape q = LK_SHAPE(B, Tq, H * D), k = LK_SHAPE(B, Tk, H * D);
    const double scale = Tq % 2 ? 0.002 : 0.3;                                   /* scores close together, and so far apart that their exponentials vanish */
    for (int grad = 0; grad < 2; grad++) {
        problem p = {.node = {.op = grad ? LK_OP_sdpa_grad : LK_OP_sdpa, .shape = grad ? LK_SHAPE(numel(q) + 2 * numel(k)) : q, .n_in = 3 + grad + (bias.rank > 0), .attr.sdpa = {(int)H, scale, causal}},
                     .in_shape = {q, k, k}};
        for (int i = 0; i < 3; i++) p.in[i] = values(numel(p.in_shape[i]));
        if (grad) { p.in_shape[3] = q; p.in[3] = values(numel(q)); }
        if (bias.rank) { p.in_shape[3 + grad] = bias; p.in[3 + grad] = values(numel(bias)); }
        attn a = {B, H, Tq, Tk, D, causal, (float)scale, p.in[0], p.in[1], p.in[2], grad ? p.in[3] : NULL, bias.rank ? p.in[3 + grad] : NULL, bias};
        float *want = values(numel(p.node.shape));
        plain_attention(&a, want, want);
        char what[128]; snprintf(what, sizeof what, "%s B%lld H%lld Tq%lld Tk%lld D%lld causal=%d", grad ? "sdpa_grad" : "sdpa", (long long)B, (long long)H, (long long)Tq, (long long)Tk, (long long)D, causal);
        agrees(&p, want, what, false);
        drop(&p); free(want);
    }
}
TEST(attention_bits) {
    try_attention(2, 3, 5, 7, 4, false, LK_SCALAR);
    try_attention(1, 2, 64, 64, 16, false, LK_SCALAR);
    try_attention(2, 1, 33, 70, 40, false, LK_SHAPE(2, 1, 1, 70));
    try_attention(1, 2, 40, 40, 8, true, LK_SCALAR);
    try_attention(1, 2, 20, 33, 9, true, LK_SHAPE(2, 20, 33));
    try_attention(2, 2, 9, 6, 5, false, LK_SHAPE(9, 1));
    try_attention(1, 1, 530, 19, 6, false, LK_SCALAR);       /* three blocks of queries */
    try_attention(1, 1, 4, 600, 7, false, LK_SCALAR);        /* three blocks of keys */
    try_attention(1, 1, 3, 5, 300, false, LK_SCALAR);
    try_attention(1, 1, 35, 21, 256, false, LK_SCALAR);      /* d is just one block */
    try_attention(2, 2, 48, 15, 3, false, LK_SCALAR);        /* a panel of 16 queries; keys in blocks of 8, 4, 2 and 1 */
    try_attention(1, 1, 10, 4097, 2, false, LK_SCALAR);      /* a key behind a whole chunk */
    try_attention(1, 1, 19, 8300, 3, false, LK_SCALAR);      /* three chunks of a row sum, the last of 108 */
    try_attention(1, 1, 34, 4096, 2, false, LK_SCALAR);
    try_attention(1, 2, 300, 40, 6, true, LK_SHAPE(300, 40));
    try_attention(2, 3, 100, 33, 5, false, LK_SCALAR);       /* heads laid side by side: more than two panels of queries */
    try_attention(1, 2, 600, 70, 20, false, LK_SCALAR);
}
