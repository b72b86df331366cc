/* The judge's scale measured again over the base people, the arc cosine against libm, and scores whose value is known. */
#include "metrics/likeness.h"
#include "tests/lib/lk_test.h"

TEST(arccos_is_right_to_a_few_ulp) {
    double worst = 0;
    for (int i = -20000; i <= 20000; i++) { double c = i / 20000.0, d = fabs(lk_arccos(c) - acos(c)); if (!(d <= worst)) worst = d; }
    CHECK_MSG(worst < 4e-15, "worst error %g", worst);      /* the half angle near 1 keeps the relative error; pi has an ulp of 4e-16 */
}
TEST(judges_scale_is_that_of_the_base_people) {
    lk_pool *pool = lk_pool_new(lk_default_threads());
    lk_dataset *d;
    lk_faces *f;
    lk_face_set s;
    CHECK_OK(lk_dataset_load("datasets/orl", &d));
    CHECK_OK(lk_faces_new("models/faces", pool, &f));
    CHECK_OK(lk_face_set_split(f, d, "base", &s));
    float *e = lk_xmalloc(sizeof(float) * 128 * (size_t)s.n);
    CHECK_OK(lk_faces_embed_frames(f, LK_DLIB, s.frame, s.n, e));
    double genuine = 0, impostor = 0;
    int n = 0, m = 0;
    for (int i = 0; i < s.n; i++)
        for (int j = 0; j < i; j++) {
            double x = lk_embedding_distance(e + 128 * i, e + 128 * j, 128);
            if (!strcmp(lk_dataset_at(d, s.photo[i])->subject, lk_dataset_at(d, s.photo[j])->subject)) { genuine += x; n++; }
            else { impostor += x; m++; }
        }
    printf("    genuine %.5f over %d pairs, impostor %.5f over %d\n", genuine / n, n, impostor / m, m);
    CHECK(n == 28 * 45 && m == 280 * 279 / 2 - n);
    CHECK_CLOSE(genuine / n, LK_JUDGE_GENUINE, 5e-5);
    CHECK_CLOSE(impostor / m, LK_JUDGE_IMPOSTOR, 5e-5);

    /* A copied reference is nearer to the references than to the tests; a test photo left out of its own comparison scores about 1. */
    lk_likeness *l;
    lk_likeness_score copy[5], real[5];
    CHECK_OK(lk_likeness_new(f, s.frame, 5, s.frame + 5 * LK_FRAME_SIZE, 5, &l));
    CHECK_OK(lk_likeness_of(l, s.frame, 5, false, copy));
    CHECK_OK(lk_likeness_of(l, s.frame + 5 * LK_FRAME_SIZE, 5, true, real));
    double index = 0, id = 0, ref = 0;
    for (int i = 0; i < 5; i++) { index += copy[i].copy_paste / 5; ref += copy[i].id_ref / 5; id += real[i].id_judge / 5; CHECK(copy[i].detected == 0 || copy[i].detected == 1); }
    CHECK_MSG(index > 0.1, "copy-paste index of copies %.3f", index);
    CHECK_MSG(ref > 1 && id > 0.4 && id < 1.8, "id_ref of copies %.3f, real-vs-real %.3f", ref, id);
    CHECK_CLOSE(lk_judge_scale(LK_JUDGE_GENUINE), 1, 1e-15);
    CHECK_CLOSE(lk_judge_scale(LK_JUDGE_IMPOSTOR), 0, 0);
    lk_likeness_free(l);
    free(e);
    lk_face_set_free(&s);
    lk_faces_free(f);
    lk_dataset_free(d);
    lk_pool_free(pool);
}
