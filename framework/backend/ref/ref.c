/* The table of the reference backend: every operation of ops.def that computes something. */
#include "backend/ref/ref.h"
#include <pthread.h>

static lk_backend ref = {.name = "ref", .element_bytes = 8};

static void fill(void) {
    ref_elementwise(ref.kernel);
    ref_movement(ref.kernel);
    ref_contract(ref.kernel);
    ref_norm(ref.kernel);
    ref_picture(ref.kernel);
    ref_service(ref.kernel);
}

const lk_backend *lk_backend_ref(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, fill);
    return &ref;
}
