/* Detect, landmark, align: every photo of a list. */
#include "models/face_set.h"
#include <stdlib.h>

/* A face that fills a photo passes the anchors' range as the input grows: a small input first, then larger ones for big pictures. */
static const int detector_sizes[] = {128, 224, 320, 512};

lk_err lk_face_set_new(lk_faces *f, const lk_dataset *d, const int *photos, int n, lk_face_set *s) {
    if (!photos) n = lk_dataset_count(d);
    size_t pixels = (size_t)n * LK_FRAME * LK_FRAME;
    *s = (lk_face_set){n, lk_xcalloc((size_t)n, sizeof(int)), lk_xcalloc((size_t)n, sizeof(lk_face)), lk_xmalloc(3 * pixels * sizeof(float)), lk_xmalloc(pixels * sizeof(float))};
    for (int i = 0; i < n; i++) {
        s->photo[i] = photos ? photos[i] : i;
        lk_image im;
        lk_err e = lk_dataset_image(d, s->photo[i], &im);
        if (e) { lk_face_set_free(s); return e; }
        bool found = false;
        for (size_t k = 0; k < sizeof detector_sizes / sizeof *detector_sizes && !found && !e; k++)
            e = lk_faces_find(f, &im, detector_sizes[k], 0.5, &s->face[i], &found);
        if (!e && !found) e = lk_error(LK_EINPUT, "%s/%s: no face found (detector score under 0.5); use a photo that shows one face", lk_dataset_directory(d),
                                       lk_dataset_at(d, s->photo[i])->file);
        if (!e) lk_face_frame(&im, &s->face[i], s->frame + (size_t)i * LK_FRAME_SIZE, s->inside + (size_t)i * LK_FRAME * LK_FRAME);
        lk_image_free(&im);
        if (e) { lk_face_set_free(s); return e; }
    }
    return LK_OK;
}
lk_err lk_face_set_split(lk_faces *f, const lk_dataset *d, const char *split, lk_face_set *s) {
    const char *const *names;
    int people = lk_dataset_subjects(d, split, &names), n = 0;
    if (!people) return lk_error(LK_EINPUT, "%s: splits.json names nobody in '%s'", lk_dataset_directory(d), split);
    int *photos = lk_xcalloc((size_t)lk_dataset_count(d), sizeof *photos);
    for (int p = 0; p < people; p++) {
        int k;
        const int *of = lk_dataset_photos(d, names[p], NULL, &k);
        for (int i = 0; i < k; i++) photos[n++] = of[i];
    }
    lk_err e = lk_face_set_new(f, d, photos, n, s);
    free(photos);
    return e;
}
void lk_face_set_free(lk_face_set *s) {
    free(s->photo); free(s->face); free(s->frame); free(s->inside);
    *s = (lk_face_set){0};
}
