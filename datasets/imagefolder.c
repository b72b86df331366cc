/* Image folders: metadata.jsonl, splits.json, pictures. Reading is strict: what is wrong is named with file and line. */
#include "datasets/datasets.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct { const char *subject, *part; int n; int *photo; } part;
struct lk_dataset {
    char *directory;
    lk_arena *memory;
    int n; lk_photo *photo; json_t **line;
    json_t *splits;
    int n_parts; part *parts;                      /* (subject, NULL) and, with splits, (subject, "reference") ... */
    int n_lists; struct { const char *split; int n; const char **names; } *lists;   /* people of a split; split NULL: all */
};

static lk_err text_member(const json_t *o, const char *key, const char *where, const char **out) {
    LK_TRY(lk_json_str(o, key, where, NULL, out));
    return *out && **out ? LK_OK : lk_error(LK_EINPUT, "%s: '%s' is missing or empty", where, key);
}
static lk_err read_line(lk_dataset *d, const char *where, const char *text, size_t n) {
    json_t *o;
    LK_TRY(lk_json_parse(text, n, where, &o));
    if (!json_is_object(o)) { json_decref(o); return lk_error(LK_EINPUT, "%s: expected a JSON object", where); }
    d->line[d->n] = o;
    lk_photo *p = &d->photo[d->n];
    d->n++;                                        /* owned from here on */
    p->labels = o;
    LK_TRY(text_member(o, "file_name", where, &p->file));
    LK_TRY(text_member(o, "text", where, &p->text));
    LK_TRY(lk_json_str(o, "subject", where, "", &p->subject));
    if (p->file[0] == '/' || strstr(p->file, "..")) return lk_error(LK_EINPUT, "%s: file_name '%s' leaves the folder", where, p->file);
    for (int i = 0; i < d->n - 1; i++)
        if (!strcmp(d->photo[i].file, p->file)) return lk_error(LK_EINPUT, "%s: file_name '%s' stands already on an earlier line", where, p->file);
    char *path = lk_xfmt("%s/%s", d->directory, p->file);
    bool there = access(path, R_OK) == 0;
    lk_err e = there ? LK_OK : lk_error(LK_EINPUT, "%s: picture %s cannot be read", where, path);
    free(path);
    return e;
}
static lk_err read_metadata(lk_dataset *d) {
    char *path = lk_fmt(d->memory, "%s/metadata.jsonl", d->directory), *text;
    size_t size;
    LK_TRY(lk_read_file(path, &text, &size));
    int lines = 1;
    for (size_t i = 0; i < size; i++) lines += text[i] == '\n';
    d->photo = lk_alloc(d->memory, sizeof *d->photo * (size_t)lines);
    d->line = lk_alloc(d->memory, sizeof *d->line * (size_t)lines);
    lk_err e = LK_OK;
    int number = 1;
    for (char *s = text; s < text + size && !e; number++) {
        char *end = memchr(s, '\n', (size_t)(text + size - s));
        size_t n = end ? (size_t)(end - s) : (size_t)(text + size - s);
        char *where = lk_fmt(d->memory, "%s:%d", path, number);
        if (n && strspn(s, " \t\r") < n) e = read_line(d, where, s, n);
        s += n + 1;
    }
    free(text);
    if (!e && !d->n) e = lk_error(LK_EINPUT, "%s: no picture is listed", path);
    return e;
}
static part *add_part(lk_dataset *d, const char *subject, const char *name) {
    part *p = &d->parts[d->n_parts++];
    *p = (part){subject, name, 0, lk_alloc(d->memory, sizeof(int) * (size_t)d->n)};
    return p;
}
static void add_list(lk_dataset *d, const char *split) {
    d->lists[d->n_lists].split = split;
    d->lists[d->n_lists].names = lk_alloc(d->memory, sizeof(char *) * (size_t)d->n);
    d->n_lists++;
}
static const part *find_part(const lk_dataset *d, const char *subject, const char *name) {
    for (int i = 0; i < d->n_parts; i++)
        if (!strcmp(d->parts[i].subject, subject) && (name ? d->parts[i].part && !strcmp(d->parts[i].part, name) : !d->parts[i].part)) return &d->parts[i];
    return NULL;
}
static lk_err read_splits(lk_dataset *d) {
    char *path = lk_fmt(d->memory, "%s/splits.json", d->directory);
    if (access(path, F_OK)) return LK_OK;
    LK_TRY(lk_json_load(path, &d->splits));
    if (!json_is_object(d->splits)) return lk_error(LK_EINPUT, "%s: expected an object of splits", path);
    const char *split;
    json_t *members;
    json_object_foreach(d->splits, split, members) {               /* a list of people, or an object person -> {part: [files]} */
        add_list(d, split);
        int at = d->n_lists - 1;
        size_t i;
        json_t *v;
        if (json_is_array(members)) {
            json_array_foreach(members, i, v) {
                const char *s = json_string_value(v);
                if (!s || !find_part(d, s, NULL)) return lk_error(LK_EINPUT, "%s: %s: '%s' has no photo in metadata.jsonl", path, split, s ? s : "?");
                d->lists[at].names[d->lists[at].n++] = s;
            }
            continue;
        }
        const char *subject, *name;
        json_t *parts, *files;
        json_object_foreach(members, subject, parts) {
            if (!find_part(d, subject, NULL)) return lk_error(LK_EINPUT, "%s: %s: '%s' has no photo in metadata.jsonl", path, split, subject);
            d->lists[at].names[d->lists[at].n++] = subject;
            json_object_foreach(parts, name, files) {
                part *p = add_part(d, subject, name);
                json_array_foreach(files, i, v) {
                    int k = json_is_string(v) ? lk_dataset_find(d, json_string_value(v)) : -1;
                    if (k < 0 || strcmp(d->photo[k].subject, subject))
                        return lk_error(LK_EINPUT, "%s: %s.%s.%s: '%s' is not a photo of %s", path, split, subject, name, json_is_string(v) ? json_string_value(v) : "?", subject);
                    p->photo[p->n++] = k;
                }
            }
        }
    }
    return LK_OK;
}
static int count_parts(const lk_dataset *d) { return d->n * 4 + 16; }

lk_err lk_dataset_load(const char *directory, lk_dataset **out) {
    *out = NULL;
    lk_dataset *d = lk_xcalloc(1, sizeof *d);
    d->memory = lk_arena_new();
    d->directory = lk_strdup(d->memory, directory);
    lk_err e = read_metadata(d);
    if (!e) {
        d->parts = lk_alloc(d->memory, sizeof *d->parts * (size_t)count_parts(d));
        d->lists = lk_alloc(d->memory, sizeof *d->lists * 64);
        add_list(d, NULL);
        for (int i = 0; i < d->n; i++) {
            part *p = (part *)find_part(d, d->photo[i].subject, NULL);
            if (!p) {
                p = add_part(d, d->photo[i].subject, NULL);
                d->lists[0].names[d->lists[0].n++] = d->photo[i].subject;
            }
            p->photo[p->n++] = i;
        }
        e = read_splits(d);
    }
    if (e) { lk_dataset_free(d); return e; }
    *out = d;
    return LK_OK;
}
void lk_dataset_free(lk_dataset *d) {
    if (!d) return;
    for (int i = 0; i < d->n; i++) json_decref(d->line[i]);
    if (d->splits) json_decref(d->splits);
    lk_arena_free(d->memory);
    free(d);
}
const char *lk_dataset_directory(const lk_dataset *d) { return d->directory; }
int lk_dataset_count(const lk_dataset *d) { return d->n; }
const lk_photo *lk_dataset_at(const lk_dataset *d, int i) { return i >= 0 && i < d->n ? &d->photo[i] : NULL; }
int lk_dataset_find(const lk_dataset *d, const char *file) {
    for (int i = 0; i < d->n; i++) if (!strcmp(d->photo[i].file, file)) return i;
    return -1;
}
lk_err lk_dataset_image(const lk_dataset *d, int i, lk_image *im) {
    char *path = lk_xfmt("%s/%s", d->directory, d->photo[i].file);
    lk_err e = lk_image_read(path, im);
    free(path);
    return e;
}
const char *lk_photo_label(const lk_photo *p, const char *key) {
    const char *s = json_string_value(json_object_get(p->labels, key));
    return s ? s : "";
}
int lk_dataset_subjects(const lk_dataset *d, const char *split, const char *const **names) {
    for (int i = 0; i < d->n_lists; i++)
        if (split ? d->lists[i].split && !strcmp(d->lists[i].split, split) : !d->lists[i].split) { *names = d->lists[i].names; return d->lists[i].n; }
    *names = NULL;
    return 0;
}
const int *lk_dataset_photos(const lk_dataset *d, const char *subject, const char *name, int *n) {
    const part *p = find_part(d, subject, name);
    *n = p ? p->n : 0;
    return p ? p->photo : NULL;
}
lk_err lk_dataset_hash(const lk_dataset *d, char hex[65]) {
    lk_sha256 sum;
    lk_sha256_init(&sum);
    for (int i = 0; i < d->n; i++) {
        char pixels[65], *line = lk_json_text(d->line[i]);
        lk_sha256_add(&sum, line, strlen(line));
        free(line);
        lk_image im;
        LK_TRY(lk_dataset_image(d, i, &im));
        lk_image_hash(&im, pixels);
        lk_image_free(&im);
        lk_sha256_add(&sum, pixels, 64);
    }
    if (d->splits) {
        char *text = lk_json_text(d->splits);
        lk_sha256_add(&sum, text, strlen(text));
        free(text);
    }
    lk_sha256_hex(&sum, hex);
    return LK_OK;
}
