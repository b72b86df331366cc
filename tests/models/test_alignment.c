/* Alignment decides everything: the aligned equal error rates of the three recognisers over all 400 photos must be those that were
 * measured by another implementation of the same pipeline (0.22, 2.67 and 0.43 %), within 0.1 points. Their mean distances are the judge's scale. */
#include "models/face_set.h"
#include "tests/lib/lk_test.h"

static int ascending(const void *a, const void *b) { double x = *(const double *)a, y = *(const double *)b; return (x > y) - (x < y); }
/* Percent at which the share of genuine pairs below a threshold equals that of impostor pairs at or above it. */
static double equal_error_rate(double *genuine, int n, double *impostor, int m) {
    qsort(genuine, (size_t)n, sizeof *genuine, ascending);
    qsort(impostor, (size_t)m, sizeof *impostor, ascending);
    double best = 1, rate = 1;
    for (int i = 0, j = 0; i < n; i++) {                        /* threshold at genuine[i]: i genuine pairs are missed */
        while (j < m && impostor[j] < genuine[i]) j++;
        double miss = (double)i / n, accept = (double)(m - j) / m;
        if (fabs(miss - accept) < best) { best = fabs(miss - accept); rate = (miss + accept) / 2; }
    }
    return 100 * rate;
}
static double rate_of(lk_recogniser r, const lk_dataset *d, const float *e, double *genuine_mean, double *impostor_mean) {
    int n = lk_dataset_count(d), dim = lk_recogniser_dim(r), ng = 0, ni = 0;
    double *genuine = lk_xmalloc(sizeof(double) * 1800), *impostor = lk_xmalloc(sizeof(double) * 78000), gs = 0, is = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++) {
            double s = lk_recogniser_similarity(r, e + (size_t)i * (size_t)dim, e + (size_t)j * (size_t)dim);
            if (!strcmp(lk_dataset_at(d, i)->subject, lk_dataset_at(d, j)->subject)) { genuine[ng++] = s; gs += s; }
            else { impostor[ni++] = s; is += s; }
        }
    CHECK(ng == 1800 && ni == 78000);
    double rate = equal_error_rate(genuine, ng, impostor, ni);
    *genuine_mean = gs / ng;
    *impostor_mean = is / ni;
    free(genuine); free(impostor);
    return rate;
}
TEST(aligned_error_rates_are_those_measured_elsewhere) {
    static const struct { lk_recogniser net; double eer; } want[] = {{LK_MOBILEFACENET, 0.22}, {LK_MOBILEFACE, 2.67}, {LK_DLIB, 0.43}};
    lk_pool *pool = lk_pool_new(lk_default_threads());
    lk_dataset *d;
    lk_faces *f;
    lk_face_set set;
    CHECK_OK(lk_dataset_load("datasets/orl", &d));
    CHECK_OK(lk_faces_new("models/faces", pool, &f));
    CHECK_OK(lk_face_set_new(f, d, NULL, 0, &set));
    for (int k = 0; k < 3; k++) {
        int s = lk_recogniser_size(want[k].net);
        size_t each = 3 * (size_t)s * (size_t)s;
        float *chips = lk_xmalloc(sizeof(float) * each * (size_t)set.n), *e = lk_xmalloc(sizeof(float) * (size_t)lk_recogniser_dim(want[k].net) * (size_t)set.n);
        for (int i = 0; i < set.n; i++) {
            double to[6], from[6];
            lk_image im;
            if (want[k].net == LK_DLIB) lk_face_to_dlib(&set.face[i], to);
            else lk_face_to_arcface(&set.face[i], to);
            lk_affine_invert(to, from);
            CHECK_OK(lk_dataset_image(d, i, &im));
            lk_warp_image(&im, from, s, s, chips + each * (size_t)i);
            lk_image_free(&im);
        }
        CHECK_OK(lk_faces_embed(f, want[k].net, chips, set.n, e));
        double genuine, impostor, rate = rate_of(want[k].net, d, e, &genuine, &impostor);
        printf("    %s: EER %.2f %%, genuine %.3f, impostor %.3f\n", lk_recogniser_name(want[k].net), rate, genuine, impostor);
        CHECK_CLOSE(rate, want[k].eer, 0.1);
        if (want[k].net == LK_DLIB) {                          /* the judge's scale: a tenth of the spread between people (.088, .080) */
            CHECK_CLOSE(genuine, -0.311, 0.008);
            CHECK_CLOSE(impostor, -0.757, 0.008);
        }
        free(chips); free(e);
    }
    lk_face_set_free(&set);
    lk_faces_free(f);
    lk_dataset_free(d);
    lk_pool_free(pool);
}
