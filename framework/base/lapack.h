/* LAPACK and BLAS, loaded when first asked for: OpenBLAS starts its threads, and lets them spin, when it is loaded, and most programs that could
 * need it do not. Results are inexact (docs/numerics.md rule 9). Row- and column-major constants are LAPACKE's and cblas's own. */
#ifndef LK_BASE_LAPACK_H
#define LK_BASE_LAPACK_H
#include "base/base.h"
#include <cblas.h>
#include <lapacke.h>

#define LK_LAPACK_FUNCTIONS LK_LAPACK_FUNCTION(LAPACKE_, dgeqrf) LK_LAPACK_FUNCTION(LAPACKE_, dorgqr) LK_LAPACK_FUNCTION(LAPACKE_, dpotrf) \
    LK_LAPACK_FUNCTION(LAPACKE_, dsyevd) LK_LAPACK_FUNCTION(LAPACKE_, dgesdd) \
    LK_LAPACK_FUNCTION(cblas_, dgemm) LK_LAPACK_FUNCTION(cblas_, dsyrk) LK_LAPACK_FUNCTION(cblas_, dtrmm)
typedef struct {
#define LK_LAPACK_FUNCTION(prefix, name) __typeof__(&prefix##name) name;
    LK_LAPACK_FUNCTIONS
#undef LK_LAPACK_FUNCTION
    const char *version;                 /* "OpenBLAS 0.3.21 ..." */
} lk_lapack;

/* The functions of two shared libraries by file name. LK_ESTATE names what is missing and the package that has it. */
lk_err lk_lapack_open(const char *openblas, const char *lapacke, lk_lapack *out);
/* Before the first use in a process; then lk_la gives the functions. Any thread, any number of times. */
lk_err lk_lapack_load(void);
const lk_lapack *lk_la(void);            /* NULL: not loaded */
#endif
