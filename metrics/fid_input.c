/* The four ways of preparing a picture for FID's Inception. */
#include "metrics/fid_input.h"
#include "metrics/resize.h"
#include <stdlib.h>
#include <string.h>

static const char *const ways[LK_FID_WAYS] = { "pytorch-fid", "torch-fidelity", "torchmetrics", "clean-fid" };
const char *lk_fid_way_name(lk_fid_way w) { return ways[w]; }
lk_err lk_fid_preprocess(lk_fid_way way, const lk_image *im, float *out) {
    enum { S = LK_INCEPTION_SIDE, AREA = S * S };
    if (im->c != 3) return lk_error(LK_ESHAPE, "Inception wants an RGB picture, this one has %d channels", im->c);
    size_t n = (size_t)im->w * (size_t)im->h * 3;
    float *f = lk_xmalloc(n * sizeof *f), *small = lk_xmalloc(3 * AREA * sizeof *small);
    double *d = lk_xmalloc(n * sizeof *d), *wide = lk_xmalloc(3 * AREA * sizeof *wide);
    for (size_t i = 0; i < n; i++) d[i] = f[i] = im->px[i];
    bool doubles = way == LK_FID_PYTORCH || way == LK_FID_TORCHMETRICS;
    if (way == LK_FID_PYTORCH) lk_torch_bilinear(d, im->h, im->w, 3, wide, S, S);
    if (way == LK_FID_TORCHMETRICS) lk_torch_antialias(LK_BILINEAR, d, im->h, im->w, 3, wide, S, S);
    if (way == LK_FID_TORCH_FIDELITY) lk_tf1_bilinear(f, im->h, im->w, 3, small, S, S);
    if (way == LK_FID_CLEAN) lk_cleanfid_f32(f, im->h, im->w, 3, small, S, S);
    for (int c = 0; c < 3; c++) for (int i = 0; i < AREA; i++) {
        double v = doubles ? wide[3 * i + c] : small[3 * i + c];
        out[c * AREA + i] = (float)(way == LK_FID_PYTORCH ? v / 127.5 - 1 : (v - 128) / 128);
    }
    free(f);
    free(small);
    free(d);
    free(wide);
    return LK_OK;
}
