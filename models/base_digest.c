/* Which base an adapter belongs to: shapes alone do not tell two trainings of one architecture apart. */
#include "models/nn.h"
#include <stdlib.h>
#include <string.h>

lk_err lk_base_digest(const lk_st *base, char hex[65]) {
    lk_sha256 sum;
    lk_sha256_init(&sum);
    for (int i = 0; i < lk_st_count(base); i++) {
        const lk_tensor *t = lk_st_at(base, i);
        float *v = lk_xaligned((size_t)(t->numel ? t->numel : 1) * sizeof *v);
        lk_err e = lk_st_f32(t, v);
        if (!e) {
            lk_sha256_add(&sum, t->name, strlen(t->name) + 1);
            lk_sha256_add(&sum, t->d, (size_t)t->rank * sizeof *t->d);
            lk_sha256_add(&sum, v, (size_t)t->numel * sizeof *v);
        }
        free(v);
        if (e) return e;
    }
    lk_sha256_hex(&sum, hex);
    return LK_OK;
}
lk_err lk_base_check(const lk_st *adapter, const lk_st *base) {
    const char *said = lk_st_meta(adapter, LK_BASE_KEY);
    char hex[65];
    if (!said) return LK_OK;
    LK_TRY(lk_base_digest(base, hex));
    if (!strcmp(said, hex)) return LK_OK;
    return lk_error(LK_EINPUT, "%s: trained on another base, whose weights digest to %.16s...; those of %s to %.16s...", lk_st_path(adapter), said, lk_st_path(base), hex);
}
