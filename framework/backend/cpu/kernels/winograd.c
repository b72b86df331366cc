/* The cpu's fast tier: 3 x 3 convolutions of stride 1 by Winograd's F(4 x 4, 3 x 3) (Lavin & Gray 2016, arXiv:1509.09308, section 4.1; matrices by
 * interpolation at 0, 1, -1, 2, -2 and infinity). A tile of 4 x 4 outputs reads 6 x 6 inputs; with every tile and filter transformed, the 36 points are 36
 * products over channels: a quarter of the direct form's multiplications. Sums are of another order than rule 2's and the transforms cancel, so about two
 * digits are lost (docs/numerics.md); bits still depend on nothing but the shapes. conv2d_dx is the same with filters turned by 180 degrees.
 * What it does not suit (strides, groups, few channels) is left to the exact kernels. */
#include "backend/cpu/kernels/conv.h"

enum { POINTS = 36, TILE = 4, REACH = 6, LANES = LK_PANEL, LEAST_CHANNELS = 16, LEAST_PIXELS = 512 };   /* fewer do not pay for the filters' transform */
typedef struct {
    int64_t n, in, out, h, w, oh, ow, top, left;          /* of the convolution that is computed: for conv2d_dx x is dy */
    int64_t th, tw, tiles, blocks;                        /* tiles down and across, in all, and in blocks of 32 */
    bool turned;                                          /* conv2d_dx */
    const float *x, *weights, *bias; float *y;
    float *u, *work; int64_t per_thread;                  /* u [36][out][in]; a thread: v [36][in][32], m [36][out][32], the core's */
} winograd;

static bool suits(const lk_conv_geometry *g) {
    return g->kh == 3 && g->kw == 3 && g->sh == 1 && g->sw == 1 && g->dh == 1 && g->dw == 1 && g->groups == 1 && g->cg >= LEAST_CHANNELS && g->og >= LEAST_CHANNELS
        && g->n * g->oh * g->ow >= LEAST_PIXELS && g->top <= 2 && g->left <= 2;
}
static winograd shape_of(const lk_node *node, const lk_conv_geometry *g) {
    winograd s = {.n = g->n, .in = g->cg, .out = g->og, .h = g->h, .w = g->w, .oh = g->oh, .ow = g->ow, .top = g->top, .left = g->left, .turned = node->op == LK_OP_conv2d_dx};
    if (s.turned) { s.in = g->og; s.out = g->cg; s.h = g->oh; s.w = g->ow; s.oh = g->h; s.ow = g->w; s.top = 2 - g->top; s.left = 2 - g->left; }
    s.th = (s.oh + TILE - 1) / TILE; s.tw = (s.ow + TILE - 1) / TILE;
    s.tiles = s.n * s.th * s.tw; s.blocks = (s.tiles + LANES - 1) / LANES;
    s.per_thread = LK_SCRATCH + POINTS * LANES * (s.in + s.out);
    return s;
}
static int64_t filter_floats(const winograd *s) { return (POINTS * s->out * s->in + 15) / 16 * 16; }

typedef float lanes[LANES] __attribute__((aligned(64)));
/* u = G g G^T of every filter, 32 input channels beside each other: three values `step` apart become six. */
static inline void filter_line(const lanes *g, int step, lanes *u, int to) {
    LK_IVDEP for (int l = 0; l < LANES; l++) {
        const float a = g[0][l], b = g[step][l], c = g[2 * step][l], even = a + c, far = a + 4 * c;
        u[0][l] = a * 0.25f;
        u[to][l] = (even + b) * (-1 / 6.0f); u[2 * to][l] = (even - b) * (-1 / 6.0f);
        u[3 * to][l] = (far + 2 * b) * (1 / 24.0f); u[4 * to][l] = (far - 2 * b) * (1 / 24.0f);
        u[5 * to][l] = c;
    }
}
static void filters(void *ctx, int64_t begin, int64_t end, int thread) {
    const winograd *s = ctx; (void)thread;
    lanes g[9], rows[3 * REACH], u[POINTS];
    memset(g, 0, sizeof g);
    for (int64_t o = begin; o < end; o++)
        for (int64_t c = 0; c < s->in; c += LANES) {
            const int64_t n = lk_k_min(LANES, s->in - c);
            for (int64_t l = 0; l < n; l++) {
                const float *from = s->turned ? s->weights + ((c + l) * s->out + o) * 9 : s->weights + (o * s->in + c + l) * 9;
                for (int k = 0; k < 9; k++) g[k][l] = from[s->turned ? 8 - k : k];
            }
            for (int i = 0; i < 3; i++) filter_line(g + 3 * i, 1, rows + REACH * i, 1);
            for (int j = 0; j < REACH; j++) filter_line(rows + j, REACH, u + j, REACH);
            for (int k = 0; k < POINTS; k++) memcpy(s->u + (k * s->out + o) * s->in + c, u[k], sizeof(float) * (size_t)n);
        }
}
/* B^T d along six values, and A^T m: `step` apart, 32 tiles beside each other. */
static inline void input_line(lanes *d, int step) {
    LK_IVDEP for (int l = 0; l < LANES; l++) {
        const float a = d[0][l], b = d[step][l], c = d[2 * step][l], e = d[3 * step][l], f = d[4 * step][l], h = d[5 * step][l];
        const float p = f - 4 * c, q = e - 4 * b, r = f - c, t = 2 * (e - b);
        d[0][l] = 4 * a - 5 * c + f;
        d[step][l] = p + q; d[2 * step][l] = p - q;
        d[3 * step][l] = r + t; d[4 * step][l] = r - t;
        d[5 * step][l] = 4 * b - 5 * e + h;
    }
}
static inline void output_line(lanes *m, int step) {
    LK_IVDEP for (int l = 0; l < LANES; l++) {
        const float a = m[0][l], b = m[step][l] + m[2 * step][l], c = m[step][l] - m[2 * step][l], e = m[3 * step][l] + m[4 * step][l], f = m[3 * step][l] - m[4 * step][l];
        const float h = m[5 * step][l];
        m[0][l] = a + b + e;
        m[step][l] = c + 2 * f;
        m[2 * step][l] = b + 4 * e;
        m[3 * step][l] = c + 8 * f + h;
    }
}
/* Where the tiles of a block lie: first input and output element of channel 0, and what is inside. */
typedef struct { int64_t y, x, from, to; bool inner; } place;
static int places(const winograd *s, int64_t block, place *p) {
    int n = 0;
    for (int64_t i = block * LANES; i < s->tiles && n < LANES; i++, n++) {
        const int64_t item = i / (s->th * s->tw), y = i / s->tw % s->th * TILE, x = i % s->tw * TILE, y0 = y - s->top, x0 = x - s->left;
        p[n] = (place){y, x, item * s->in * s->h * s->w + y0 * s->w + x0, item * s->out * s->oh * s->ow + y * s->ow + x, y0 >= 0 && x0 >= 0 && y0 + REACH <= s->h && x0 + REACH <= s->w};
    }
    return n;
}
static void read_tiles(const winograd *s, const place *p, int n, int64_t c, lanes *d) {
    for (int l = 0; l < n; l++) {
        const float *from = s->x + c * s->h * s->w + p[l].from;
        if (p[l].inner) { for (int i = 0; i < REACH; i++, from += s->w) for (int j = 0; j < REACH; j++) d[i * REACH + j][l] = from[j]; continue; }
        const int64_t y0 = p[l].y - s->top, x0 = p[l].x - s->left;
        for (int i = 0; i < REACH; i++, from += s->w)
            for (int j = 0; j < REACH; j++) d[i * REACH + j][l] = y0 + i >= 0 && y0 + i < s->h && x0 + j >= 0 && x0 + j < s->w ? from[j] : 0.0f;
    }
}
static void blocks(void *ctx, int64_t begin, int64_t end, int thread) {
    const winograd *s = ctx;
    float *scratch = s->work + thread * s->per_thread, *v = scratch + LK_SCRATCH, *m = v + POINTS * LANES * s->in;
    lanes d[POINTS];
    memset(d, 0, sizeof d);
    for (int64_t block = begin; block < end; block++) {
        place p[LANES];
        const int n = places(s, block, p);
        for (int64_t c = 0; c < s->in; c++) {
            read_tiles(s, p, n, c, d);
            for (int j = 0; j < REACH; j++) input_line(d + j, REACH);
            for (int i = 0; i < REACH; i++) input_line(d + i * REACH, 1);
            for (int k = 0; k < POINTS; k++) memcpy(v + (k * s->in + c) * LANES, d[k], sizeof d[k]);
        }
        for (int k = 0; k < POINTS; k++) {
            lk_product q = {.k = s->in, .c = m + k * s->out * LANES, .ldc = LANES};
            q.a = (lk_operand){.layout = LK_BY_ROW, .p = s->u + k * s->out * s->in, .stride = s->in};
            q.b = (lk_operand){.layout = LK_BY_LANE, .p = v + k * s->in * LANES, .stride = LANES, .panel = s->in * LANES};
            lk_gemm(&q, 0, s->out, 0, LANES, scratch);
        }
        for (int64_t o = 0; o < s->out; o++) {
            const float bias = s->bias ? s->bias[o] : 0.0f;
            for (int k = 0; k < POINTS; k++) memcpy(d[k], m + (k * s->out + o) * LANES, sizeof d[k]);
            for (int j = 0; j < REACH; j++) output_line(d + j, REACH);
            for (int i = 0; i < TILE; i++) output_line(d + i * REACH, 1);
            for (int l = 0; l < n; l++) {
                float *to = s->y + o * s->oh * s->ow + p[l].to;
                const int64_t rows = lk_k_min(TILE, s->oh - p[l].y), columns = lk_k_min(TILE, s->ow - p[l].x);
                for (int64_t i = 0; i < rows; i++) for (int64_t j = 0; j < columns; j++) to[i * s->ow + j] = d[i * REACH + j][l] + bias;
            }
        }
    }
}

static lk_kernel direct[LK_OP_COUNT];
static void run(const lk_kernel_call *call) {
    const lk_conv_geometry g = lk_conv_geometry_of(call->node, call->in_shape);
    if (!suits(&g)) { direct[call->node->op](call); return; }
    lk_contract_counted();
    winograd s = shape_of(call->node, &g);
    s.x = call->in[0]; s.weights = call->in[1]; s.bias = call->node->n_in > 2 ? call->in[2] : NULL; s.y = call->out;
    s.u = call->work; s.work = s.u + filter_floats(&s);
    lk_parallel(call->pool, s.out, lk_k_max(1, LK_GRAIN / (s.in * POINTS)), filters, &s);
    lk_parallel(call->pool, s.blocks, 1, blocks, &s);
}
/* Bytes; -1: left to the exact kernel. */
int64_t LK_KNAME(lk_winograd_workspace)(const lk_node *node, const lk_shape *in, int threads);
int64_t LK_KNAME(lk_winograd_workspace)(const lk_node *node, const lk_shape *in, int threads) {
    if (node->op != LK_OP_conv2d && node->op != LK_OP_conv2d_dx) return -1;
    const lk_conv_geometry g = lk_conv_geometry_of(node, in);
    if (!suits(&g)) return -1;
    const winograd s = shape_of(node, &g);
    return (filter_floats(&s) + s.per_thread * threads) * (int64_t)sizeof(float);
}
void LK_KNAME(lk_kernels_winograd)(lk_kernel *table);
void LK_KNAME(lk_kernels_winograd)(lk_kernel *table) {
    const lk_op ops[] = {LK_OP_conv2d, LK_OP_conv2d_dx};
    for (int i = 0; i < 2; i++) { direct[ops[i]] = table[ops[i]]; table[ops[i]] = run; }
}
