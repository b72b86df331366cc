/* What a fuzz target (tests/fuzz/fuzz_X.c) defines; tests/fuzz/mutate.c is its main. */
#ifndef LK_FUZZ_H
#define LK_FUZZ_H
#include "base/base.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void (*fuzz_add)(const void *bytes, size_t n);
extern const char fuzz_name[];                                /* the file's ending matters to some readers */
void fuzz_seeds(fuzz_add add, const char *dir);               /* a few valid inputs; dir may be written */
void fuzz_mend(unsigned char *bytes, size_t n);               /* make lengths and checksums fit again, so that mutations get deeper; may do nothing */
bool fuzz_one(const char *path, const unsigned char *bytes, size_t n);   /* path holds the bytes; true = accepted (becomes a seed); aborts on a broken promise */
#define PROMISE(cond) do { if (!(cond)) { fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #cond); abort(); } } while (0)
/* A refusal must carry a message that names the input. */
static inline bool fuzz_refused(lk_err e, const char *name) {
    if (!e) return false;
    PROMISE(strstr(lk_err_text(e), name));
    lk_err_free(e);
    return true;
}
#endif
