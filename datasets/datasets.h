/* datasets: captioned pictures. An image folder is a directory with metadata.jsonl (one JSON object a line: file_name, text,
 * subject and any labels) beside PNG or JPEG files, and optionally splits.json. The embedded one is datasets/orl:
 * 400 photographs of 40 people, credit "AT&T Laboratories Cambridge". */
#ifndef LK_DATASETS_H
#define LK_DATASETS_H
#include "io/io.h"

typedef struct { const char *file, *text, *subject; const json_t *labels; /* the whole line */ } lk_photo;
typedef struct lk_dataset lk_dataset;
/* Every line and file name is checked at once; a bad one is named with file and line. Pictures are read when asked for. */
lk_err lk_dataset_load(const char *directory, lk_dataset **);
void   lk_dataset_free(lk_dataset *);
const char *lk_dataset_directory(const lk_dataset *);
int    lk_dataset_count(const lk_dataset *);
const lk_photo *lk_dataset_at(const lk_dataset *, int i);
int    lk_dataset_find(const lk_dataset *, const char *file);           /* -1 if absent */
lk_err lk_dataset_image(const lk_dataset *, int i, lk_image *);         /* caller frees */
const char *lk_photo_label(const lk_photo *, const char *key);          /* "" if absent or not text */
/* People in order of first appearance; with splits.json, those of one split ("base", "personal"). NULL split: all. */
int    lk_dataset_subjects(const lk_dataset *, const char *split, const char *const **names);
/* Indices of one person's photos; part "reference" or "test" where the split names them, NULL: all. *n = 0 if there are none. */
const int *lk_dataset_photos(const lk_dataset *, const char *subject, const char *part, int *n);
/* SHA-256 over metadata, splits and every picture's decoded pixels: part of a run's identity. */
lk_err lk_dataset_hash(const lk_dataset *, char hex[65]);

/* ---- augmentation: each kind draws from its own random stream, keyed by (seed, step, sample) ------------------ */
typedef struct {
    bool   flip;           /* half of the samples; the caption's left and right are swapped with it */
    int    shift;          /* up to this many pixels each way, edges clamped */
    double zoom;           /* crop: scale uniform in [1, 1 + zoom] around a random centre, bilinear */
    double brightness;     /* adds uniform [-b, b], pixel units 0..255 */
    double blur;           /* chance of a 1 2 1 / 4 blur */
    double noise;          /* standard deviation, pixel units */
} lk_augment;
/* frame [channels][h][w] of 0..255, changed in place; mask [h][w] may be NULL and moves with it. Returns whether it was flipped. */
bool lk_augment_frame(const lk_augment *, uint64_t seed, uint64_t step, uint32_t sample, float *frame, float *mask, int channels, int h, int w);
char *lk_flip_caption(const char *text);               /* swaps the words left and right; free() */
#endif
