/* OpenBLAS holds BLAS and LAPACK, LAPACKE calls it: the first is opened for all to see, so that the second finds it whatever liblapack the
 * system prefers. */
#include "base/lapack.h"
#include <dlfcn.h>
#include <pthread.h>

static lk_err open_library(const char *name, const char *package, int flags, void **out) {
    *out = dlopen(name, RTLD_LAZY | flags);
    return *out ? LK_OK : lk_error(LK_ESTATE, "%s cannot be loaded (%s); install %s", name, dlerror(), package);
}
lk_err lk_lapack_open(const char *openblas, const char *lapacke, lk_lapack *out) {
    void *cblas_, *LAPACKE_;             /* named as the prefixes of what they hold */
    char *(*config)(void);
    const char *missing = NULL;
    LK_TRY(open_library(openblas, "libopenblas0", RTLD_GLOBAL, &cblas_));
    LK_TRY(open_library(lapacke, "liblapacke", RTLD_LOCAL, &LAPACKE_));
#define LK_LAPACK_FUNCTION(prefix, name) if (!(*(void **)&out->name = dlsym(prefix, #prefix #name))) missing = #prefix #name;
    LK_LAPACK_FUNCTIONS
#undef LK_LAPACK_FUNCTION
    if (missing) return lk_error(LK_ESTATE, "%s and %s have no %s", openblas, lapacke, missing);
    *(void **)&config = dlsym(cblas_, "openblas_get_config");
    out->version = config ? config() : "not OpenBLAS";
    return LK_OK;
}

static lk_lapack functions;
static bool loaded;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
lk_err lk_lapack_load(void) {
    lk_err e = LK_OK;
    pthread_mutex_lock(&lock);
    if (!loaded) e = lk_lapack_open("libopenblas.so.0", "liblapacke.so.3", &functions);
    __atomic_store_n(&loaded, !e, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&lock);
    return e;
}
const lk_lapack *lk_la(void) { return __atomic_load_n(&loaded, __ATOMIC_ACQUIRE) ? &functions : NULL; }
