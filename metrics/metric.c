/* The state of a metric (metric.h): scores of pairs, or the sets themselves, or their moments once they are large. Nothing is
 * folded before the result is asked for but moments, whose tree depends on indices alone: so merging is appending. */
#include "metrics/metric.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int64_t n, room;
    double *x;                 /* [n][d], until moments take over */
    lk_moments *moments;
} side;
struct lk_metric {
    const lk_metric_row *row;
    int64_t d, first[LK_METRIC_SIDES];
    lk_metric_options options;
    lk_provenance from;
    side side[LK_METRIC_SIDES];
    int64_t pairs, pairs_room, names;
    double *score, *pooling;   /* [pairs], [pairs][2] */
    char **name;               /* of pairs or of side 0 */
    double *each;              /* result's scores of side 0 */
};
static bool has_pairs(const lk_metric *m) { return m->row->sides == LK_PAIRS; }

lk_picture lk_picture_of(const lk_image *im) { return (lk_picture){ im, NULL, im->h, im->w, im->c, 255 }; }
lk_err lk_picture_check(const lk_picture *p) {
    if (p->h < 1 || p->w < 1 || p->c < 1) return lk_error(LK_EINPUT, "an empty picture (%d x %d, %d channels)", p->w, p->h, p->c);
    if (p->u8) return LK_OK;
    if (!(p->range > 0) || !isfinite(p->range)) return lk_error(LK_EINPUT, "a picture of real values needs its range (1 or 255), not %g", p->range);
    for (int64_t i = 0; i < (int64_t)p->h * p->w * p->c; i++)
        if (!(p->real[i] >= 0 && p->real[i] <= p->range))
            return lk_error(LK_ENUM, "pixel at x %lld, y %lld, channel %lld is %g; values lie in 0..%g", (long long)(i / p->c % p->w), (long long)(i / p->c / p->w),
                            (long long)(i % p->c), p->real[i], p->range);
    return LK_OK;
}

lk_err lk_metric_new(const lk_metric_row *row, int64_t d, const lk_metric_options *o, const lk_provenance *from, const int64_t first[LK_METRIC_SIDES], lk_metric **out) {
    for (int i = 0; first && i < LK_METRIC_SIDES; i++)
        if (first[i] < 0 || first[i] % LK_METRIC_CHUNK)
            return lk_error(LK_EINPUT, "%s/%s: a state may begin at a multiple of %d, not at sample %lld", row->name, row->variant, LK_METRIC_CHUNK, (long long)first[i]);
    if (row->features && d < 1) return lk_error(LK_EINPUT, "%s/%s works on vectors; their length is %lld", row->name, row->variant, (long long)d);
    lk_metric *m = lk_xcalloc(1, sizeof *m);
    m->row = row;
    m->d = d;
    if (o) m->options = *o;
    if (m->options.level == 0) m->options.level = .95;
    if (from) m->from = *from;
    if (first) memcpy(m->first, first, sizeof m->first);
    *out = m;
    return LK_OK;
}
void lk_metric_free(lk_metric *m) {
    if (!m) return;
    for (int i = 0; i < LK_METRIC_SIDES; i++) {
        free(m->side[i].x);
        lk_moments_free(m->side[i].moments);
    }
    for (int64_t i = 0; i < m->names; i++) free(m->name[i]);
    free(m->name);
    free(m->score);
    free(m->pooling);
    free(m->each);
    free(m);
}
const lk_metric_row *lk_metric_row_of(const lk_metric *m) { return m->row; }
int64_t lk_metric_dim(const lk_metric *m) { return m->d; }
const lk_metric_options *lk_metric_options_of(const lk_metric *m) { return &m->options; }
const lk_provenance *lk_metric_from(const lk_metric *m) { return &m->from; }
lk_metric_side lk_metric_side_of(const lk_metric *m, int i) { return (lk_metric_side){ m->side[i].moments ? NULL : m->side[i].x, m->side[i].n, m->side[i].moments }; }
const double *lk_metric_pooling(const lk_metric *m, int64_t *n) { *n = m->pairs; return m->pooling; }
double *lk_metric_room(const lk_metric *m) {
    lk_metric *w = (lk_metric *)m;                     /* what the result leaves for export is no part of the state */
    return w->each = lk_xrealloc(w->each, (size_t)(m->side[0].n + 1) * sizeof *w->each);
}
const double *lk_metric_scores(const lk_metric *m, int64_t *n) {
    *n = has_pairs(m) ? m->pairs : m->side[0].n;
    return has_pairs(m) ? m->score : m->each;
}
const char *lk_metric_sample_name(const lk_metric *m, int64_t i) { return i >= 0 && i < m->names ? m->name[i] : ""; }

/* ---- samples ------------------------------------------------------------------------------------------------------------------ */
static void add_name(lk_metric *m, const char *name) {
    if (!(m->names & (m->names - 1))) m->name = lk_xrealloc(m->name, (size_t)(m->names ? 2 * m->names : 1) * sizeof *m->name);
    m->name[m->names++] = lk_xstrdup(name ? name : "");
}
static void add_score(lk_metric *m, const double v[3], const char *name) {
    if (m->pairs == m->pairs_room) {
        m->pairs_room = m->pairs_room ? 2 * m->pairs_room : 64;
        m->score = lk_xrealloc(m->score, (size_t)m->pairs_room * sizeof *m->score);
        m->pooling = lk_xrealloc(m->pooling, (size_t)(2 * m->pairs_room) * sizeof *m->pooling);
    }
    m->score[m->pairs] = v[0];
    memcpy(m->pooling + 2 * m->pairs++, v + 1, 2 * sizeof *v);
    add_name(m, name);
}
lk_err lk_metric_update_pair(lk_metric *m, const lk_picture *a, const lk_picture *b, const char *name, lk_pool *pool) {
    double v[3] = { NAN, 0, 0 };
    if (!m->row->score) return lk_error(LK_ESTATE, "%s/%s takes no pairs of pictures", m->row->name, m->row->variant);
    if (a->w != b->w || a->h != b->h || a->c != b->c)
        return lk_error(LK_EINPUT, "pictures of %d x %d with %d channel%s and %d x %d with %d: make them equal first (grey and colour are not compared)",
                        a->w, a->h, a->c, a->c > 1 ? "s" : "", b->w, b->h, b->c);
    if (a->range != b->range) return lk_error(LK_EINPUT, "values in 0..%g beside values in 0..%g", a->range, b->range);
    LK_TRY(lk_picture_check(a));
    LK_TRY(lk_picture_check(b));
    LK_TRY(m->row->score(m->row->what, a, b, pool, v));
    add_score(m, v, name);
    return LK_OK;
}
static lk_err all_finite(const lk_metric *m, int which, const double *x, int64_t n) {
    for (int64_t i = 0; i < n * m->d; i++)
        if (!isfinite(x[i])) return lk_error(LK_ENUM, "%s/%s: sample %lld of side %d has %g at feature %lld", m->row->name, m->row->variant,
                                             (long long)(m->first[which] + m->side[which].n + i / m->d), which + 1, x[i], (long long)(i % m->d));
    return LK_OK;
}
lk_err lk_metric_update_vectors(lk_metric *m, const double *a, const double *b, const char *name) {
    double v[3] = { NAN, 0, 0 };
    if (!m->row->pair) return lk_error(LK_ESTATE, "%s/%s takes no pairs of vectors", m->row->name, m->row->variant);
    LK_TRY(all_finite(m, 0, a, 1));
    LK_TRY(all_finite(m, 1, b, 1));
    LK_TRY(m->row->pair(m->row->what, a, b, m->d, v));
    add_score(m, v, name);
    return LK_OK;
}
/* The samples so far go into moments; from here on they are not kept. */
static lk_err to_moments(lk_metric *m, int which) {
    side *s = m->side + which;
    if (s->moments) return LK_OK;
    s->moments = lk_moments_new(m->d, m->first[which]);
    LK_TRY(lk_moments_add(s->moments, s->x, s->n));
    free(s->x);
    s->x = NULL;
    s->room = 0;
    return LK_OK;
}
static lk_err append(lk_metric *m, int which, const double *x, int64_t n) {
    side *s = m->side + which;
    if (m->row->moments && s->n + n > LK_METRIC_KEEP) LK_TRY(to_moments(m, which));
    if (s->moments) LK_TRY(lk_moments_add(s->moments, x, n));
    else {
        if (s->n + n > s->room) {
            s->room = s->n + n > 2 * s->room ? s->n + n : 2 * s->room;
            s->x = lk_xrealloc(s->x, (size_t)(s->room * m->d) * sizeof *s->x);
        }
        memcpy(s->x + s->n * m->d, x, (size_t)(n * m->d) * sizeof *x);
    }
    s->n += n;
    return LK_OK;
}
lk_err lk_metric_update_set(lk_metric *m, int which, const double *x, int64_t n, const char *const *names) {
    int sides = m->row->sides == LK_ONE_SET ? 1 : m->row->sides == LK_SETS ? 2 : m->row->sides == LK_THREE_SETS ? 3 : 0;
    if (which < 0 || which >= sides) return lk_error(LK_ESTATE, "%s/%s has no side %d", m->row->name, m->row->variant, which + 1);
    LK_TRY(all_finite(m, which, x, n));
    LK_TRY(append(m, which, x, n));
    for (int64_t i = 0; which == 0 && i < n; i++) add_name(m, names ? names[i] : NULL);
    return LK_OK;
}

/* ---- merging -------------------------------------------------------------------------------------------------------------------- */
static lk_err differs(const char *what, const char *a, const char *b) {
    return strcmp(a, b) ? lk_error(LK_EINPUT, "%s differs: \"%s\" and \"%s\"; numbers made differently do not mix", what, a, b) : LK_OK;
}
static lk_err same_making(const lk_metric *a, const lk_metric *b) {
    LK_TRY(differs("metric", a->row->name, b->row->name));
    LK_TRY(differs("variant", a->row->variant, b->row->variant));
    LK_TRY(differs("features", a->from.features, b->from.features));
    LK_TRY(differs("weights (SHA-256)", a->from.sha256, b->from.sha256));
    LK_TRY(differs("resize", a->from.resize, b->from.resize));
    LK_TRY(differs("decoder", a->from.decoder, b->from.decoder));
    const lk_metric_options *p = &a->options, *q = &b->options;
    if (p->groups != q->groups || p->subsets != q->subsets || p->subset_size != q->subset_size || p->neighbours != q->neighbours || p->splits != q->splits
        || p->order != q->order || p->level != q->level || p->seed != q->seed)
        return lk_error(LK_EINPUT, "options differ (groups, subsets, neighbours, splits, order, level or seed); numbers made differently do not mix");
    return a->d == b->d ? LK_OK : lk_error(LK_EINPUT, "vectors of %lld and %lld values", (long long)a->d, (long long)b->d);
}
static lk_err joins(const lk_metric *a, int64_t n, int64_t first, const lk_metric *b, int which) {
    if (first + n == b->first[which] && (first + n) % LK_METRIC_CHUNK == 0) return LK_OK;
    return lk_error(LK_EINPUT, "%s/%s: the first state covers samples %lld to %lld of side %d, the second begins at %lld; states join where the first ends, at a multiple of %d",
                    a->row->name, a->row->variant, (long long)first, (long long)(first + n), which + 1, (long long)b->first[which], LK_METRIC_CHUNK);
}
lk_err lk_metric_merge(lk_metric *into, const lk_metric *later) {
    LK_TRY(same_making(into, later));
    if (has_pairs(into)) {
        LK_TRY(joins(into, into->pairs, into->first[0], later, 0));
        for (int64_t i = 0; i < later->pairs; i++) add_score(into, (double[]){ later->score[i], later->pooling[2 * i], later->pooling[2 * i + 1] }, later->name[i]);
        return LK_OK;
    }
    for (int i = 0; i < LK_METRIC_SIDES; i++)
        if (later->side[i].n) LK_TRY(joins(into, into->side[i].n, into->first[i], later, i));
    for (int i = 0; i < LK_METRIC_SIDES; i++) {
        const side *l = later->side + i;
        side *s = into->side + i;
        if (!l->n) continue;
        if (!l->moments) LK_TRY(append(into, i, l->x, l->n));
        else {
            LK_TRY(to_moments(into, i));
            LK_TRY(lk_moments_merge(s->moments, l->moments));
            s->n += l->n;
        }
    }
    for (int64_t i = 0; i < later->names; i++) add_name(into, later->name[i]);
    return LK_OK;
}

/* ---- files ------------------------------------------------------------------------------------------------------------------------ */
static json_t *description(const lk_metric *m) {
    const lk_metric_options *o = &m->options;
    json_t *j = json_pack("{s:s, s:s, s:s, s:I, s:[III]}", "kind", "likeness metric 1", "metric", m->row->name, "variant", m->row->variant, "d", (json_int_t)m->d,
                          "first", (json_int_t)m->first[0], (json_int_t)m->first[1], (json_int_t)m->first[2]);
    json_object_set_new(j, "options", json_pack("{s:i, s:I, s:I, s:i, s:i, s:f, s:f, s:I}", "groups", o->groups, "subsets", (json_int_t)o->subsets, "subset_size", (json_int_t)o->subset_size,
                                                "neighbours", o->neighbours, "splits", o->splits, "order", isfinite(o->order) ? o->order : -1.0, "level", o->level, "seed", (json_int_t)o->seed));
    json_object_set_new(j, "from", json_pack("{s:s, s:s, s:s, s:s, s:s}", "features", m->from.features, "weights", m->from.weights, "sha256", m->from.sha256, "resize", m->from.resize, "decoder", m->from.decoder));
    json_t *names = json_array();
    for (int64_t i = 0; i < m->names; i++) json_array_append_new(names, json_string(m->name[i]));
    json_object_set_new(j, "names", names);
    return j;
}
lk_err lk_metric_save(const lk_metric *m, const char *path) {
    lk_st_item items[2 + 2 * LK_METRIC_SIDES];
    int64_t *integers[LK_METRIC_SIDES] = { 0 }, ni, nv;
    double *values[LK_METRIC_SIDES] = { 0 };
    static const char *const of[][3] = { { "side0", "side1", "side2" }, { "moments0", "moments1", "moments2" }, { "state0", "state1", "state2" } };
    int n = 0;
    if (m->pairs) {
        items[n++] = (lk_st_item){ "score", LK_ST_F64, 1, { m->pairs }, m->score };
        items[n++] = (lk_st_item){ "pooling", LK_ST_F64, 2, { m->pairs, 2 }, m->pooling };
    }
    for (int i = 0; i < LK_METRIC_SIDES; i++) {
        const side *s = m->side + i;
        if (s->moments) {
            lk_moments_pack(s->moments, &integers[i], &ni, &values[i], &nv);
            items[n++] = (lk_st_item){ of[1][i], LK_ST_F64, 1, { nv }, values[i] };
            items[n++] = (lk_st_item){ of[2][i], LK_ST_I64, 1, { ni }, integers[i] };
        } else if (s->n) items[n++] = (lk_st_item){ of[0][i], LK_ST_F64, 2, { s->n, m->d }, s->x };
    }
    json_t *j = description(m);
    char *text = lk_json_text(j);
    lk_err e = lk_st_write(path, items, n, (const char *const[]){ "likeness", text, NULL });
    free(text);
    json_decref(j);
    for (int i = 0; i < LK_METRIC_SIDES; i++) { free(integers[i]); free(values[i]); }
    return e;
}
static lk_err copy_text(const json_t *j, const char *key, const char *where, char *to, size_t room) {
    const char *s;
    LK_TRY(lk_json_str(j, key, where, "", &s));
    if (strlen(s) >= room) return lk_error(LK_EINPUT, "%s: %s is longer than %zu characters", where, key, room - 1);
    memcpy(to, s, strlen(s) + 1);
    return LK_OK;
}
static lk_err read_options(const json_t *j, const char *where, lk_metric_options *o) {
    int64_t groups, neighbours, splits, seed;
    LK_TRY(lk_json_int(j, "groups", where, 0, &groups));
    LK_TRY(lk_json_int(j, "subsets", where, 0, &o->subsets));
    LK_TRY(lk_json_int(j, "subset_size", where, 0, &o->subset_size));
    LK_TRY(lk_json_int(j, "neighbours", where, 0, &neighbours));
    LK_TRY(lk_json_int(j, "splits", where, 0, &splits));
    LK_TRY(lk_json_real(j, "order", where, 0, &o->order));
    LK_TRY(lk_json_real(j, "level", where, .95, &o->level));
    LK_TRY(lk_json_int(j, "seed", where, 0, &seed));
    if (o->order < 0) o->order = INFINITY;
    o->groups = (int)groups;
    o->neighbours = (int)neighbours;
    o->splits = (int)splits;
    o->seed = (uint64_t)seed;
    return LK_OK;
}
static lk_err read_side(const lk_st *st, const char *path, lk_metric *m, int i) {
    char name[3][16];
    snprintf(name[0], sizeof name[0], "side%d", i);
    snprintf(name[1], sizeof name[1], "moments%d", i);
    snprintf(name[2], sizeof name[2], "state%d", i);
    const lk_tensor *x = lk_st_find(st, name[0]), *v = lk_st_find(st, name[1]), *s = lk_st_find(st, name[2]);
    if (v && s) {
        LK_TRY(lk_moments_unpack(s, v, path, &m->side[i].moments));
        int64_t head[4];
        memcpy(head, s->data, sizeof head);
        m->side[i].n = head[3];
        return head[1] == m->d ? LK_OK : lk_error(LK_EINPUT, "%s: moments of %lld dimensions in a state of %lld", path, (long long)head[1], (long long)m->d);
    }
    if (!x) return LK_OK;
    if (x->rank != 2 || x->d[1] != m->d) return lk_error(LK_EINPUT, "%s: %s is not [n][%lld]", path, name[0], (long long)m->d);
    m->side[i] = (side){ x->d[0], x->d[0], lk_xmalloc((size_t)(x->numel + 1) * sizeof(double)), NULL };
    return lk_st_f64(x, m->side[i].x);
}
static lk_err read_state(const lk_st *st, const char *path, const json_t *j, lk_metric *m) {
    const lk_tensor *score = lk_st_find(st, "score"), *pooling = lk_st_find(st, "pooling");
    size_t i;
    json_t *name;
    json_array_foreach(json_object_get(j, "names"), i, name) add_name(m, json_string_value(name));
    if (score && pooling && score->rank == 1 && pooling->numel == 2 * score->numel) {
        m->pairs = m->pairs_room = score->numel;
        m->score = lk_xmalloc((size_t)(m->pairs + 1) * sizeof(double));
        m->pooling = lk_xmalloc((size_t)(2 * m->pairs + 1) * sizeof(double));
        LK_TRY(lk_st_f64(score, m->score));
        LK_TRY(lk_st_f64(pooling, m->pooling));
    }
    for (int k = 0; k < LK_METRIC_SIDES; k++) LK_TRY(read_side(st, path, m, k));
    int64_t want = has_pairs(m) ? m->pairs : m->side[0].n;
    return m->names == want ? LK_OK : lk_error(LK_EINPUT, "%s: %lld names of %lld samples", path, (long long)m->names, (long long)want);
}
static lk_err read_description(const json_t *j, const char *path, lk_metric **out) {
    const char *kind, *name, *variant;
    int64_t d, first[LK_METRIC_SIDES];
    lk_metric_options o = { 0 };
    lk_provenance from = { 0 };
    const lk_metric_row *row;
    LK_TRY(lk_json_str(j, "kind", path, "", &kind));
    if (strcmp(kind, "likeness metric 1")) return lk_error(LK_EINPUT, "%s: not the state of a metric (kind \"%s\")", path, kind);
    LK_TRY(lk_json_str(j, "metric", path, "", &name));
    LK_TRY(lk_json_str(j, "variant", path, "", &variant));
    LK_TRY(lk_json_int(j, "d", path, 0, &d));
    LK_TRY(lk_json_ints(j, "first", path, 0, LK_METRIC_SIDES, first));
    LK_TRY(read_options(json_object_get(j, "options"), path, &o));
    const json_t *f = json_object_get(j, "from");
    LK_TRY(copy_text(f, "features", path, from.features, sizeof from.features));
    LK_TRY(copy_text(f, "weights", path, from.weights, sizeof from.weights));
    LK_TRY(copy_text(f, "sha256", path, from.sha256, sizeof from.sha256));
    LK_TRY(copy_text(f, "resize", path, from.resize, sizeof from.resize));
    LK_TRY(copy_text(f, "decoder", path, from.decoder, sizeof from.decoder));
    char *both = lk_xfmt("%s/%s", name, variant);
    lk_err e = lk_err_wrap(lk_metric_find(both, &row), "%s", path);
    free(both);
    if (!e) e = lk_metric_new(row, d, &o, &from, first, out);
    return e;
}
lk_err lk_metric_load(const char *path, lk_metric **out) {
    lk_st *st;
    json_t *j = NULL;
    lk_metric *m = NULL;
    LK_TRY(lk_st_open(path, &st));
    const char *text = lk_st_meta(st, "likeness");
    lk_err e = text ? lk_json_parse(text, strlen(text), path, &j) : lk_error(LK_EINPUT, "%s: not the state of a metric", path);
    if (!e) e = read_description(j, path, &m);
    if (!e) e = read_state(st, path, j, m);
    json_decref(j);
    lk_st_close(st);
    if (e) lk_metric_free(m);
    else *out = m;
    return e;
}
