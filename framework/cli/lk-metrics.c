/* lk-metrics METRIC[/VARIANT] A [B]: metrics over folders of pictures, single pictures or HDF5 stacks (usage below, --list for the metrics).
 * Every number comes with its variant, n, error where one exists, and what it was made with. What does not fit is said with the file's
 * name; nothing is resized, dropped or converted silently. A picture at a time is read, so memory does not grow with a folder. */
#include "metrics/extract.h"     /* networks */
#include "metrics/metric.h"      /* the table of metrics, states, results */
#include "metrics/pictures.h"    /* folders and stacks */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>              /* isatty */

enum { BATCH = 8, MOST_WORDS = 64 };
typedef struct {
    const char *word[MOST_WORDS]; int words;
    const char *others, *features, *save, *each;
    double range;
    int64_t first, count;        /* samples [first, first + count) of every side; count 0: all */
    lk_metric_options metric;
    lk_extract_options extract;
    void (*print)(const lk_metric_result *, const lk_metric *);
} request;

/* ---- output ----------------------------------------------------------------------------------------------------------------------- */
static void progress(const char *what, int64_t done, int64_t all) {
    enum { WIDTH = 40 };
    static const char bar[] = "########################################", rest[] = "........................................";
    if (!isatty(2)) return;
    int full = (int)(all ? done * WIDTH / all : WIDTH);
    fprintf(stderr, "\r%-12s [%.*s%.*s] %lld of %lld%s", what, full, bar, WIDTH - full, rest, (long long)done, (long long)all, done == all ? "\n" : "");
}
static void print_json(const lk_metric_result *r, const lk_metric *m) {
    int64_t n;
    const double *scores = lk_metric_scores(m, &n);
    json_t *j = lk_result_json(r), *each = json_array();
    for (int64_t i = 0; scores && i < n; i++)
        json_array_append_new(each, json_pack("[s, o]", lk_metric_sample_name(m, i), isfinite(scores[i]) ? json_real(scores[i]) : json_string(isnan(scores[i]) ? "nan" : scores[i] > 0 ? "inf" : "-inf")));
    json_object_set_new(j, "each", each);
    char *text = lk_json_text(j);
    puts(text);
    free(text);
    json_decref(j);
}
static void scores_csv(FILE *f, const lk_metric_result *r, const lk_metric *m) {
    int64_t n;
    const double *scores = lk_metric_scores(m, &n);
    fprintf(f, "name,%s/%s\n", r->metric, r->variant);
    for (int64_t i = 0; scores && i < n; i++) fprintf(f, "\"%s\",%.17g\n", lk_metric_sample_name(m, i), scores[i]);
}
static void print_csv(const lk_metric_result *r, const lk_metric *m) {
    scores_csv(stdout, r, m);
    printf("all,%.17g\n", r->value);
    for (int i = 0; i < r->extras; i++) printf("%s,%.17g\n", r->extra[i].name, r->extra[i].value);
}
static void print_text(const lk_metric_result *r, const lk_metric *m) {
    (void)m;
    printf("%s/%s  %.8g%s%s  n = %lld", r->metric, r->variant, r->value, *r->unit ? " " : "", r->unit, (long long)r->n[0]);
    for (int i = 1; i < LK_METRIC_SIDES && r->n[i]; i++) printf(i == 1 && r->n[1] == r->n[0] && !strcmp(r->unit_name, "pairs") ? "" : ", %lld", (long long)r->n[i]);
    if (*r->options) printf("  (%s)", r->options);
    printf("\n");
    if (!isnan(r->debiased) && r->debiased != r->value) printf("  de-biased %.8g\n", r->debiased);
    if (!isnan(r->se)) printf("  standard error %.4g", r->se);
    if (*r->interval) printf("  %g %% [%.6g, %.6g]: %s (%lld %s)", 100 * r->level, r->lo, r->hi, r->interval, (long long)r->units, r->unit_name);
    if (!isnan(r->se)) printf("\n");
    for (int i = 0; i < r->extras; i++) printf("%s%s %.6g%s", i % 4 ? "   " : "  ", r->extra[i].name, r->extra[i].value, i % 4 == 3 || i + 1 == r->extras ? "\n" : "");
    if (*r->from.features) printf("  features %s; resize %s\n", r->from.features, *r->from.resize ? r->from.resize : "none");
    if (*r->from.weights) printf("  weights %s, SHA-256 %s\n", r->from.weights, r->from.sha256);
    printf("  decoder %s; %s\n", r->from.decoder, r->exact ? "same bits on every machine" : "through LAPACK: last digits vary with the library");
    for (int i = 0; i < r->warnings; i++) printf("  note: %s\n", r->warning[i]);
}
static const char usage[] =
    "usage: lk-metrics METRIC[/VARIANT] A [B] [options]      --list shows the metrics\n"
    "       lk-metrics merge STATE STATE... [--save STATE]   joins states that were saved of consecutive parts\n"
    "       lk-metrics compare RESULT.json RESULT.json       the difference, or why there is none to speak of\n\n"
    "A (generated) and B (real, or compared with): a folder of pictures (.png .jpg), a picture, FILE.h5 or FILE.h5:/DATASET; of clip-t and\n"
    "clipscore B is a metadata.jsonl with \"file_name\" and \"text\". Pairs of folders go by file name.\n\n"
    "  --features F         of metrics that leave the choice: pixels, inception/WAY[:LAYER], vgg16, lpips/NET, clip, dinov2, dino, faces/NET\n"
    "  --weights FILE       safetensors of the Inception or trunk (docs/metrics.md)      --sha256 HEX   refuse other weights\n"
    "  --model DIR          config.json, model.safetensors, preprocessor_config.json     --others C     id: impostors; copy-paste: references\n"
    "  --range R            of an HDF5 stack of real values                              --crop S[:STRIDE]  each picture becomes its crops\n"
    "  --subsets SxM        KID over S subsets of M    --seed N     --groups G|none      jackknife of statistics over sets (20)\n"
    "  --k K                precision and its kin      --splits S   Inception Score      --order Q      Vendi      --level .95\n"
    "  --face best|largest|centre   which of several   --flip       average with the mirrored face   --detect SIZE --threshold T\n"
    "  --json | --csv       instead of text            --each FILE.csv   a score a line  --save STATE   keep the state\n"
    "  --first I --count N  samples I..I+N-1 alone (I a multiple of 256): parts of one folder, for merge\n";
static void list(void) {
    const lk_metric_row *r;
    printf("%s\n", usage);
    for (int i = 0; (r = lk_metric_at(i)); i++) printf("%s/%-*s %s%s%s\n", r->name, (int)(30 - strlen(r->name)), r->variant, r->peer, r->features && *r->features ? "; features " : "", r->features && *r->features ? r->features : "");
}

/* ---- sources ------------------------------------------------------------------------------------------------------------------------ */
static void range_of(const request *q, int64_t n, int64_t *begin, int64_t *end) {
    *begin = q->first < n ? q->first : n;
    *end = q->count && *begin + q->count < n ? *begin + q->count : n;
}
/* The text of each picture of A, from lines of metadata. */
static lk_err read_texts(const char *path, const lk_pictures *a, const char ***out, json_t ***lines, int64_t *n_lines) {
    char *bytes = NULL, *file = lk_ends(path, ".jsonl") ? lk_xstrdup(path) : lk_xfmt("%s/metadata.jsonl", path);
    size_t n;
    lk_err e = lk_read_file(file, &bytes, &n);
    *n_lines = 0;
    *lines = NULL;
    *out = lk_xcalloc((size_t)lk_pictures_count(a), sizeof **out);
    for (char *at = e ? NULL : bytes, *next; at && *at && !e; at = next) {
        next = strchr(at, '\n');
        size_t length = next ? (size_t)(next - at) : strlen(at);
        next = next ? next + 1 : at + length;
        if (length < 2) continue;
        char where[512];
        snprintf(where, sizeof where, "%s, line %lld", file, (long long)*n_lines + 1);
        *lines = lk_xrealloc(*lines, (size_t)(*n_lines + 1) * sizeof **lines);
        e = lk_json_parse(at, length, where, &(*lines)[*n_lines]);
        if (!e) ++*n_lines;
    }
    for (int64_t k = 0; k < *n_lines && !e; k++) {
        const char *name = json_string_value(json_object_get((*lines)[k], "file_name")), *text = json_string_value(json_object_get((*lines)[k], "text"));
        for (int64_t i = 0; name && text && i < lk_pictures_count(a); i++) if (!strcmp(name, lk_pictures_name(a, i))) (*out)[i] = text;
    }
    for (int64_t i = 0; i < lk_pictures_count(a) && !e; i++) if (!(*out)[i]) e = lk_error(LK_EINPUT, "%s has no \"text\" for %s", file, lk_pictures_name(a, i));
    free(bytes);
    free(file);
    return e;
}
/* Vectors of pictures [from, to) of a source; names (or NULL): of each vector, grown as needed. */
static lk_err vectors(lk_extractor *x, lk_pictures *s, int64_t from, int64_t to, double **out, int64_t *n, const char ***names) {
    lk_picture p[BATCH] = { 0 };
    const char *paths[BATCH];
    lk_err e = LK_OK;
    int k = 0;
    *n = 0;
    for (int64_t i = from; i < to && !e; i++, k++) {
        paths[k] = lk_pictures_path(s, i);
        e = lk_pictures_read(s, i, p + k);
        int64_t each = e ? 0 : lk_extractor_each(x, p + k);
        if (names) *names = lk_xrealloc(*names, (size_t)(*n + each + 1) * sizeof **names);
        for (int64_t c = 0; names && c < each; c++) (*names)[*n + c] = lk_pictures_name(s, i);
        *n += each;
    }
    if (!e) e = lk_extractor_run(x, p, paths, k, out, n);
    for (int i = 0; i < k; i++) lk_pictures_drop(p + i);
    return e;
}

/* ---- measuring --------------------------------------------------------------------------------------------------------------------------- */
typedef struct { const request *q; const lk_metric_row *row; lk_pool *pool; lk_pictures *side[LK_METRIC_SIDES]; lk_extractor *x; lk_metric *m; lk_provenance from; } job;

static lk_err state_for(job *j, int64_t d) {
    int64_t first[LK_METRIC_SIDES] = { j->q->first, j->q->first, j->q->first };
    if (j->m) return LK_OK;
    if (j->x) {
        char decoder[96];
        memcpy(decoder, j->from.decoder, sizeof decoder);
        j->from = *lk_extractor_from(j->x);
        size_t n = strlen(decoder);
        if (*j->from.decoder && n + 2 < sizeof decoder) snprintf(decoder + n, sizeof decoder - n, "; %.*s", (int)(sizeof decoder - n - 3), j->from.decoder);
        memcpy(j->from.decoder, decoder, sizeof decoder);
    }
    return lk_metric_new(j->row, d, &j->q->metric, &j->from, first, &j->m);
}
static lk_err picture_pairs(job *j) {
    int64_t begin, end;
    range_of(j->q, lk_pictures_count(j->side[0]), &begin, &end);
    LK_TRY(state_for(j, 0));
    lk_err e = LK_OK;
    for (int64_t i = begin; i < end && !e; i++) {
        lk_picture a = { 0 }, b = { 0 };
        e = lk_pictures_read(j->side[0], i, &a);
        if (!e) e = lk_pictures_read(j->side[1], i, &b);
        if (!e) e = lk_err_wrap(lk_metric_update_pair(j->m, &a, &b, lk_pictures_name(j->side[0], i), j->pool), "%s, %s", lk_pictures_path(j->side[0], i), lk_pictures_path(j->side[1], i));
        lk_pictures_drop(&a);
        lk_pictures_drop(&b);
        progress("pairs", i + 1 - begin, end - begin);
    }
    return e;
}
static lk_err vector_pairs(job *j, const double *texts, int64_t d) {
    int64_t begin, end, n, m;
    range_of(j->q, lk_pictures_count(j->side[0]), &begin, &end);
    lk_err e = LK_OK;
    for (int64_t i = begin; i < end && !e; i += BATCH) {
        int64_t to = i + BATCH < end ? i + BATCH : end;
        double *a = NULL, *b = NULL;
        e = vectors(j->x, j->side[0], i, to, &a, &n, NULL);
        if (!e && !texts) e = vectors(j->x, j->side[1], i, to, &b, &m, NULL);
        if (!e && texts && d != lk_extractor_dim(j->x)) e = lk_error(LK_EINPUT, "the model embeds pictures in %lld dimensions and texts in %lld", (long long)lk_extractor_dim(j->x), (long long)d);
        if (!e) e = state_for(j, d = lk_extractor_dim(j->x));
        for (int64_t k = 0; k < to - i && !e; k++)
            e = lk_err_wrap(lk_metric_update_vectors(j->m, a + k * d, texts ? texts + (i + k) * d : b + k * d, lk_pictures_name(j->side[0], i + k)), "%s", lk_pictures_path(j->side[0], i + k));
        free(a);
        free(b);
        progress("pairs", to - begin, end - begin);
    }
    return e;
}
static lk_err text_pairs(job *j, const char *path) {
    const char **texts = NULL;
    json_t **lines = NULL;
    double *embedded = NULL;
    int64_t n_lines, d = 0, n = lk_pictures_count(j->side[0]);
    lk_err e = read_texts(path, j->side[0], &texts, &lines, &n_lines);
    if (!e) e = lk_clip_texts(j->q->extract.model, texts, (int)n, j->pool, &embedded, &d);
    if (!e) e = vector_pairs(j, embedded, d);
    free(embedded);
    for (int64_t i = 0; i < n_lines; i++) json_decref(lines[i]);
    free(lines);
    free(texts);
    return e;
}
static lk_err whole_sets(job *j, int sides) {
    static const char *const labels[] = { "generated", "compared", "others" };
    lk_err e = LK_OK;
    for (int s = 0; s < sides && !e; s++) {
        int64_t begin, end, n;
        if (!j->side[s]) continue;
        range_of(j->q, lk_pictures_count(j->side[s]), &begin, &end);
        for (int64_t i = begin; i < end && !e; i += BATCH) {
            int64_t to = i + BATCH < end ? i + BATCH : end;
            const char **names = NULL;
            double *x = NULL;
            e = vectors(j->x, j->side[s], i, to, &x, &n, &names);
            if (!e) e = state_for(j, lk_extractor_dim(j->x));
            if (!e) e = lk_metric_update_set(j->m, s, x, n, names);
            free(names);
            free(x);
            progress(labels[s], to - begin, end - begin);
        }
    }
    return e;
}
static lk_err open_sides(job *j, bool texts) {
    const request *q = j->q;
    int sides = j->row->sides == LK_ONE_SET ? 1 : 2;
    if (q->words != sides + 1) return lk_error(LK_EINPUT, "%s/%s takes %s", j->row->name, j->row->variant, sides == 1 ? "one folder or stack" : texts ? "a folder and a metadata.jsonl" : "two folders, pictures or stacks");
    LK_TRY(lk_pictures_open(q->word[1], q->range, &j->side[0]));
    if (sides == 2 && !texts) LK_TRY(lk_pictures_open(q->word[2], q->range, &j->side[1]));
    if (q->others) {
        if (j->row->sides != LK_THREE_SETS) return lk_error(LK_EINPUT, "%s/%s has no use for --others", j->row->name, j->row->variant);
        LK_TRY(lk_pictures_open(q->others, q->range, &j->side[2]));
    }
    if (j->row->sides == LK_PAIRS && !texts) LK_TRY(lk_pictures_paired(j->side[0], j->side[1]));
    if (j->side[1] && strcmp(lk_pictures_decoder(j->side[0]), lk_pictures_decoder(j->side[1])))
        snprintf(j->from.decoder, sizeof j->from.decoder, "%.45s | %.45s", lk_pictures_decoder(j->side[0]), lk_pictures_decoder(j->side[1]));
    else snprintf(j->from.decoder, sizeof j->from.decoder, "%s", lk_pictures_decoder(j->side[0]));
    return LK_OK;
}
static lk_err measure(job *j) {
    const request *q = j->q;
    bool texts = !strcmp(j->row->name, "clip-t") || !strcmp(j->row->name, "clipscore");
    const char *features = j->row->features;
    if (features && !*features) {
        if (!q->features) return lk_error(LK_EINPUT, "%s/%s: say of which features, --features pixels, inception/WAY, clip, ... (--list)", j->row->name, j->row->variant);
        features = q->features;
    } else if (q->features) return lk_error(LK_EINPUT, "%s/%s %s; --features is for metrics that leave the choice", j->row->name, j->row->variant, features ? "has its own features" : "compares pixels");
    if (!strcmp(j->row->name, "patch-fid") && !q->extract.crop) return lk_error(LK_EINPUT, "patch-fid: say the crop, --crop SIZE or --crop SIZE:STRIDE");
    LK_TRY(open_sides(j, texts));
    if (features) LK_TRY(lk_extractor_new(features, &q->extract, j->pool, &j->x));
    if (!features) return picture_pairs(j);
    if (texts) return text_pairs(j, q->word[2]);
    return j->row->sides == LK_PAIRS ? vector_pairs(j, NULL, 0) : whole_sets(j, LK_METRIC_SIDES);
}

/* ---- commands ---------------------------------------------------------------------------------------------------------------------------------- */
static lk_err finish(const request *q, const lk_metric *m, lk_pool *pool) {
    lk_metric_result r;
    if (q->save) LK_TRY(lk_metric_save(m, q->save));
    LK_TRY(lk_metric_result_of(m, pool, &r));
    if (q->each) {
        FILE *f = fopen(q->each, "w");
        if (!f) return lk_error(LK_EIO, "%s: cannot be written", q->each);
        scores_csv(f, &r, m);
        if (fclose(f)) return lk_error(LK_EIO, "%s: cannot be written", q->each);
    }
    q->print(&r, m);
    return LK_OK;
}
static lk_err measure_command(const request *q, lk_pool *pool) {
    job j = { .q = q, .pool = pool };
    LK_TRY(lk_metric_find(q->word[0], &j.row));
    lk_err e = measure(&j);
    if (!e) e = finish(q, j.m, pool);
    for (int i = 0; i < LK_METRIC_SIDES; i++) lk_pictures_close(j.side[i]);
    lk_extractor_free(j.x);
    lk_metric_free(j.m);
    return e;
}
static lk_err merge_command(const request *q, lk_pool *pool) {
    lk_metric *all = NULL, *next;
    if (q->words < 2) return lk_error(LK_EINPUT, "merge: which states?");
    lk_err e = lk_metric_load(q->word[1], &all);
    for (int i = 2; i < q->words && !e; i++) {
        if ((e = lk_metric_load(q->word[i], &next))) break;
        e = lk_err_wrap(lk_metric_merge(all, next), "%s", q->word[i]);
        lk_metric_free(next);
    }
    if (!e) e = finish(q, all, pool);
    lk_metric_free(all);
    return e;
}
static lk_err compare_command(const request *q) {
    json_t *j[2] = { NULL, NULL };
    lk_metric_result r[2];
    if (q->words != 3) return lk_error(LK_EINPUT, "compare takes two results of --json");
    lk_err e = LK_OK;
    for (int i = 0; i < 2 && !e; i++) {
        e = lk_json_load(q->word[i + 1], &j[i]);
        if (!e) e = lk_result_from_json(j[i], q->word[i + 1], &r[i]);
    }
    if (!e) e = lk_err_wrap(lk_result_comparable(&r[0], &r[1]), "%s, %s", q->word[1], q->word[2]);
    if (!e) {
        double se = sqrt(r[0].se * r[0].se + r[1].se * r[1].se), d = r[1].value - r[0].value;
        printf("%s/%s  %.8g, %.8g  difference %.6g", r[0].metric, r[0].variant, r[0].value, r[1].value, d);
        printf(isnan(se) ? "  (no standard error)\n" : "  standard error %.4g if the two are independent\n", se);
    }
    for (int i = 0; i < 2; i++) json_decref(j[i]);
    return e;
}

/* ---- the command line ---------------------------------------------------------------------------------------------------------------------------- */
static lk_err whole(const char *option, const char *text, int64_t least, int64_t *out) {
    char *end;
    *out = strtoll(text, &end, 10);
    return *text && !*end && *out >= least ? LK_OK : lk_error(LK_EINPUT, "%s %s: a whole number of at least %lld", option, text, (long long)least);
}
static lk_err real(const char *option, const char *text, double above, double *out) {
    char *end;
    *out = !strcmp(text, "inf") ? INFINITY : strtod(text, &end);
    return isinf(*out) || (*text && !*end && *out > above) ? LK_OK : lk_error(LK_EINPUT, "%s %s: a number above %g", option, text, above);
}
/* A pair "AxB" or "A:B"; the second may be missing. */
static lk_err two(const char *option, const char *text, char between, int64_t *a, int64_t *b) {
    char *copy = lk_xstrdup(text), *at = strchr(copy, between);
    if (at) *at = 0;
    lk_err e = whole(option, copy, 1, a);
    if (!e && at) e = whole(option, at + 1, 1, b);
    free(copy);
    return e;
}
static lk_err one_of(const char *option, const char *text, const char *const *words, int n, int *out) {
    for (*out = 0; *out < n; ++*out) if (!strcmp(text, words[*out])) return LK_OK;
    return lk_error(LK_EINPUT, "%s %s; did you mean %s?", option, text, words[lk_nearest(text, words, n)]);
}
static lk_err with_value(request *q, const char *o, const char *v) {
    static const char *const rules[] = { "best", "largest", "centre" };
    int64_t n = 0, m = 0;
    int rule;
    const struct { const char *name; const char **to; } texts[] = { { "--others", &q->others }, { "--features", &q->features }, { "--save", &q->save }, { "--each", &q->each },
        { "--weights", &q->extract.weights }, { "--model", &q->extract.model }, { "--sha256", &q->extract.sha256 } };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) if (!strcmp(o, texts[i].name)) { *texts[i].to = v; return LK_OK; }
    if (!strcmp(o, "--range")) return real(o, v, 0, &q->range);
    if (!strcmp(o, "--order")) return real(o, v, 0, &q->metric.order);
    if (!strcmp(o, "--level")) { LK_TRY(real(o, v, 0, &q->metric.level)); return q->metric.level < 1 ? LK_OK : lk_error(LK_EINPUT, "--level %s: below 1", v); }
    if (!strcmp(o, "--threshold")) return real(o, v, 0, &q->extract.threshold);
    if (!strcmp(o, "--face")) { LK_TRY(one_of(o, v, rules, 3, &rule)); q->extract.rule = (lk_face_rule)rule; return LK_OK; }
    if (!strcmp(o, "--groups") && !strcmp(v, "none")) { q->metric.groups = -1; return LK_OK; }
    if (!strcmp(o, "--subsets")) {
        LK_TRY(two(o, v, 'x', &n, &m));
        q->metric.subsets = n;
        q->metric.subset_size = m;
        return m ? LK_OK : lk_error(LK_EINPUT, "--subsets %s: as 100x1000, subsets and their size", v);
    }
    if (!strcmp(o, "--crop")) { LK_TRY(two(o, v, ':', &n, &m)); q->extract.crop = (int)n; q->extract.stride = (int)m; return LK_OK; }
    if (!strcmp(o, "--first")) return whole(o, v, 0, &q->first);
    if (!strcmp(o, "--count")) return whole(o, v, 1, &q->count);
    if (!strcmp(o, "--seed")) { LK_TRY(whole(o, v, 0, &n)); q->metric.seed = (uint64_t)n; return LK_OK; }
    const struct { const char *name; int *to; } numbers[] = { { "--k", &q->metric.neighbours }, { "--splits", &q->metric.splits }, { "--groups", &q->metric.groups }, { "--detect", &q->extract.detect } };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!strcmp(o, numbers[i].name)) { LK_TRY(whole(o, v, 1, &n)); *numbers[i].to = n > 1 << 30 ? 1 << 30 : (int)n; return LK_OK; }
    return lk_error(LK_EINPUT, "\"%s\" is not understood; --list shows the usage", o);
}
static lk_err parse(int argc, char **argv, request *q) {
    *q = (request){ .print = print_text };
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--json")) q->print = print_json;
        else if (!strcmp(argv[i], "--csv")) q->print = print_csv;
        else if (!strcmp(argv[i], "--flip")) q->extract.flip = true;
        else if (lk_starts(argv[i], "--") && i + 1 < argc) { LK_TRY(with_value(q, argv[i], argv[i + 1])); i++; }
        else if (argv[i][0] == '-' || q->words == MOST_WORDS) return lk_error(LK_EINPUT, "\"%s\" is not understood; --list shows the usage", argv[i]);
        else q->word[q->words++] = argv[i];
    }
    return LK_OK;
}
int main(int argc, char **argv) {
    request q;
    for (int i = 1; i < argc; i++) if (!strcmp(argv[i], "--list") || !strcmp(argv[i], "--help")) { list(); return 0; }
    if (argc < 2) { list(); return 2; }
    lk_err e = parse(argc, argv, &q);
    if (!e && !q.words) e = lk_error(LK_EINPUT, "which metric? --list shows all");
    if (e) return lk_err_report(e);
    lk_pool *pool = lk_pool_new(lk_default_threads());
    e = !strcmp(q.word[0], "merge") ? merge_command(&q, pool) : !strcmp(q.word[0], "compare") ? compare_command(&q) : measure_command(&q, pool);
    lk_pool_free(pool);
    return lk_err_report(e);
}
