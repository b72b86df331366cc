/* Procedural numbers and pictures of the metric tables: what the files name by a formula is made here, bit for bit. */
#include "cli/golden/metrics_table.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t lk_proc_key(const char *salt, const char *fmt, ...) {
    char name[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    uint64_t h = 0xcbf29ce484222325u;
    for (const char *part = salt, *end = name; part; part = part == salt && part != end ? end : NULL)
        for (const char *c = part; *c; c++) h = (h ^ (unsigned char)*c) * 0x100000001b3u;
    return h;
}
uint64_t lk_proc_bits(uint64_t key, int64_t i) {
    uint64_t z = key + (uint64_t)(i + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}
uint8_t lk_proc_byte(uint64_t key, int64_t i) { return (uint8_t)(lk_proc_bits(key, i) >> 56); }
double lk_proc_u(uint64_t key, int64_t i) { return (double)(lk_proc_bits(key, i) >> 40) * 0x1p-23 - 1; }
double lk_proc_g(uint64_t key, int64_t i) {
    double s = 0;
    for (int k = 0; k < 12; k++) s += (double)(lk_proc_bits(key, 12 * i + k) >> 40) * 0x1p-24;
    return s - 6;
}
double *lk_proc_features(const char *salt, const char *name, int64_t n, int64_t d, double shift) {
    uint64_t g = lk_proc_key(salt, "%s/g", name), h = lk_proc_key(salt, "%s/h", name);
    double *x = lk_xmalloc((size_t)(n * d + 1) * sizeof *x);
    for (int64_t i = 0; i < n; i++) {
        double common = lk_proc_g(h, i);
        for (int64_t j = 0; j < d; j++)
            x[i * d + j] = lk_proc_g(g, i * d + j) / (double)(1 << j % 4) + common / (double)(2 << j % 3) + shift * (double)(j % 8) / 16;
    }
    return x;
}

/* ---- pictures ------------------------------------------------------------------------------------------------------------ */
typedef struct { int s, w, c; uint8_t *byte; } lattice;
static lattice lattice_new(const char *salt, const char *name, int s, int h, int w, int c) {
    lattice l = { s, w / s + 2, c, NULL };
    int64_t n = (int64_t)(h / s + 2) * l.w * c;
    uint64_t key = lk_proc_key(salt, "%s/o%d", name, s);
    l.byte = lk_xmalloc((size_t)n);
    for (int64_t i = 0; i < n; i++) l.byte[i] = lk_proc_byte(key, i);
    return l;
}
static int lattice_at(const lattice *l, int y, int x, int c) {
    int s = l->s, fy = y % s, fx = x % s;
    const uint8_t *p = l->byte + ((int64_t)(y / s) * l->w + x / s) * l->c + c, *q = p + (int64_t)l->w * l->c;
    return (p[0] * (s - fx) * (s - fy) + p[l->c] * fx * (s - fy) + q[0] * (s - fx) * fy + q[l->c] * fx * fy) / (s * s);
}
lk_image lk_proc_scene(const char *salt, const char *name, int h, int w, int c) {
    lk_image im = lk_image_new(w, h, c);
    lattice far = lattice_new(salt, name, 32, h, w, c), near = lattice_new(salt, name, 8, h, w, c);
    uint64_t key = lk_proc_key(salt, "%s/o1", name);
    for (int y = 0; y < h; y++) for (int x = 0; x < w; x++) for (int k = 0; k < c; k++) {
        int64_t at = ((int64_t)y * w + x) * c + k;
        int v = (4 * lattice_at(&far, y, x, k) + 2 * lattice_at(&near, y, x, k) + lk_proc_byte(key, at)) / 7;
        v = v * 3 / 4 + 48 * (((x >> 4) + (y >> 4)) & 1);
        im.px[at] = (uint8_t)(v > 255 ? 255 : v);
    }
    free(far.byte);
    free(near.byte);
    return im;
}
static int clamp(int v, int lo, int hi) { return v < lo ? lo : v > hi ? hi : v; }
static void blur(const lk_image *a, lk_image *b) {
    static const int tap[5] = { 1, 4, 6, 4, 1 };
    for (int y = 0; y < a->h; y++) for (int x = 0; x < a->w; x++) for (int c = 0; c < a->c; c++) {
        int s = 0;
        for (int i = -2; i <= 2; i++) for (int j = -2; j <= 2; j++)
            s += tap[i + 2] * tap[j + 2] * a->px[((int64_t)clamp(y + i, 0, a->h - 1) * a->w + clamp(x + j, 0, a->w - 1)) * a->c + c];
        b->px[((int64_t)y * a->w + x) * a->c + c] = (uint8_t)((s + 128) >> 8);
    }
}
bool lk_proc_pair(const char *salt, const char *name, const char *kind, lk_image *a, lk_image *b) {
    int64_t n = (int64_t)a->w * a->h * a->c;
    int strength;
    *b = lk_image_new(a->w, a->h, a->c);
    if (!strcmp(kind, "identical")) memcpy(b->px, a->px, (size_t)n);
    else if (!strcmp(kind, "inverted")) for (int64_t i = 0; i < n; i++) b->px[i] = (uint8_t)(255 - a->px[i]);
    else if (!strcmp(kind, "blurred")) blur(a, b);
    else if (!strcmp(kind, "shifted")) {
        for (int64_t i = 0; i < n; i++) {
            int64_t x = i / a->c % a->w;
            b->px[i] = a->px[x ? i - a->c : i];
        }
    } else if (!strcmp(kind, "constant")) {
        for (int64_t i = 0; i < n; i++) {
            a->px[i] = (uint8_t)(100 + 10 * (i % a->c));
            b->px[i] = (uint8_t)(120 + 10 * (i % a->c));
        }
    } else if (sscanf(kind, "noisy%d", &strength) == 1) {
        uint64_t key = lk_proc_key(salt, "%s/noise", name);
        for (int64_t i = 0; i < n; i++) b->px[i] = (uint8_t)clamp(a->px[i] + (((lk_proc_byte(key, i) - 128) * strength) >> 7), 0, 255);
    } else return false;
    return true;
}
uint32_t lk_proc_crc32(const void *bytes, size_t n) {
    const uint8_t *p = bytes;
    uint32_t c = 0xffffffffu, table[256];
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t t = i;
        for (int k = 0; k < 8; k++) t = t & 1 ? 0xedb88320u ^ t >> 1 : t >> 1;
        table[i] = t;
    }
    for (size_t i = 0; i < n; i++) c = table[(c ^ p[i]) & 255] ^ c >> 8;
    return ~c;
}

/* ---- weights ------------------------------------------------------------------------------------------------------------- */
lk_err lk_proc_recipe_read(const json_t *j, lk_proc_recipe *r) {
    const char *salt, *prefix;
    LK_TRY(lk_json_str(j, "salt", "weights", "", &salt));
    LK_TRY(lk_json_str(j, "prefix", "weights", "", &prefix));
    LK_TRY(lk_json_real(j, "conv_gain", "weights", 1, &r->conv_gain));
    LK_TRY(lk_json_real(j, "fc_gain", "weights", 1, &r->fc_gain));
    snprintf(r->salt, sizeof r->salt, "%s", salt);
    snprintf(r->prefix, sizeof r->prefix, "%s", prefix);
    return LK_OK;
}
void lk_proc_weight(const lk_proc_recipe *r, const char *name, lk_shape s, float *out) {
    uint64_t key = lk_proc_key(r->salt, "%s%s", r->prefix, name);
    int64_t n = lk_numel(s), fan_in = s.rank ? n / s.d[0] : 1;
    double bound = (s.rank == 4 ? r->conv_gain : r->fc_gain) * __builtin_sqrt(3.0 / (double)fan_in);
    bool variance = lk_ends(name, "running_var"), scale = lk_ends(name, "weight");
    for (int64_t i = 0; i < n; i++) {
        double u = lk_proc_u(key, i);
        out[i] = (float)(s.rank > 1 ? u * bound : variance ? 1 + .5 * (u < 0 ? -u : u) : scale ? 1 + .1 * u : .1 * u);
    }
}
static bool is_weight(const lk_node *n) { return n->op == LK_OP_param && n->mem == LK_MEM_WEIGHT && n->name && !strchr(n->name, '/'); }
lk_err lk_proc_weights(const lk_proc_recipe *r, lk_exec *x) {
    lk_graph *g = lk_exec_graph(x);
    lk_err e = LK_OK;
    for (int i = 0; i < lk_graph_count(g) && !e; i++) {
        const lk_node *n = lk_graph_node(g, (lk_val){ i });
        if (!is_weight(n)) continue;
        int64_t count = lk_numel(n->shape);
        float *w = lk_xmalloc((size_t)count * sizeof *w);
        lk_proc_weight(r, n->name, n->shape, w);
        e = lk_exec_set(x, (lk_val){ i }, w, count);
        free(w);
    }
    return e;
}
static lk_shape shape_of(const json_t *j) {
    lk_shape s = { .rank = (int)json_array_size(j) };
    if (s.rank > LK_MAX_RANK) s.rank = 0;
    for (int i = 0; i < s.rank; i++) s.d[i] = json_integer_value(json_array_get(j, (size_t)i));
    return s;
}
void lk_proc_check(lk_golden *run, const lk_proc_recipe *r, const json_t *tensors, lk_graph *g) {
    size_t k;
    json_t *t;
    int params = 0;
    for (int i = 0; i < lk_graph_count(g); i++) params += is_weight(lk_graph_node(g, (lk_val){ i }));
    lk_golden_check(run, params == (int)json_array_size(tensors), "%s%d parameters, the list has %d", r->prefix, params, (int)json_array_size(tensors));
    json_array_foreach((json_t *)tensors, k, t) {
        const char *name = json_string_value(json_object_get(t, "name")), *crc = json_string_value(json_object_get(t, "crc32"));
        lk_shape s = shape_of(json_object_get(t, "shape"));
        lk_val p = name ? lk_find(g, name) : LK_NONE;
        bool known = lk_ok(p) && s.rank && lk_shape_eq(lk_shape_of(g, p), s), same = false;
        if (known && crc) {
            int64_t n = lk_numel(s);
            float *w = lk_xmalloc((size_t)n * sizeof *w);
            lk_proc_weight(r, name, s, w);
            same = lk_proc_crc32(w, (size_t)n * sizeof *w) == strtoul(crc, NULL, 16);
            free(w);
        }
        lk_golden_check(run, known && same, "%s%s %s", r->prefix, name ? name : "?", !known ? "is no parameter of that shape here" : same ? "same bits" : "other bits");
    }
}
