/* Reading and doing what a preprocessor_config.json says (prepare.h). */
#include "metrics/prepare.h"
#include <stdlib.h>
#include <string.h>

/* "size": 224 (shorter edge, or the square for ViT's processors), {"shortest_edge": 224}, {"height": 224, "width": 224}. */
static lk_err read_size(const json_t *j, const char *key, const char *path, bool square, int *shortest, int *h, int *w) {
    const json_t *v = json_object_get(j, key), *edge = json_object_get(v, "shortest_edge"), *height = json_object_get(v, "height"), *width = json_object_get(v, "width");
    *shortest = *h = *w = 0;
    if (json_is_integer(v) && square) *h = *w = (int)json_integer_value(v);
    else if (json_is_integer(v)) *shortest = (int)json_integer_value(v);
    else if (json_is_integer(edge) && json_object_size(v) == 1) *shortest = (int)json_integer_value(edge);
    else if (json_is_integer(height) && json_is_integer(width)) { *h = (int)json_integer_value(height); *w = (int)json_integer_value(width); }
    if ((*shortest > 0 || (*h > 0 && *w > 0)) && *shortest < 1 << 14 && *h < 1 << 14 && *w < 1 << 14) return LK_OK;
    return lk_error(LK_EINPUT, "%s: %s is no size (a number, {\"shortest_edge\"} or {\"height\", \"width\"})", path, key);
}
static lk_err read_three(const json_t *j, const char *key, const char *path, float *out) {
    const json_t *v = json_object_get(j, key);
    if (!json_is_array(v) || json_array_size(v) != 3) return lk_error(LK_EINPUT, "%s: %s must be a list of three numbers", path, key);
    for (size_t i = 0; i < 3; i++) out[i] = (float)json_number_value(json_array_get(v, i));
    return LK_OK;
}
static lk_err read_all(const json_t *j, const char *path, lk_prepare *p) {
    const char *kind, *older;
    int64_t resample;
    bool rescale;
    double factor;
    LK_TRY(lk_json_str(j, "feature_extractor_type", path, "", &older));
    LK_TRY(lk_json_str(j, "image_processor_type", path, older, &kind));
    bool vit = lk_starts(kind, "ViT"), clip = lk_starts(kind, "CLIP"), bit = lk_starts(kind, "Bit");
    if (!vit && !clip && !bit) return lk_error(LK_EINPUT, "%s: image_processor_type \"%s\" is not known; CLIP, Bit (DINOv2) and ViT processors are", path, kind);
    LK_TRY(lk_json_bool(j, "do_resize", path, true, &p->resize));
    LK_TRY(lk_json_bool(j, "do_center_crop", path, !vit, &p->crop));
    LK_TRY(lk_json_bool(j, "do_normalize", path, true, &p->normalise));
    LK_TRY(lk_json_bool(j, "do_rescale", path, true, &rescale));
    LK_TRY(lk_json_real(j, "rescale_factor", path, 1 / 255.0, &factor));
    LK_TRY(lk_json_int(j, "resample", path, vit ? 2 : 3, &resample));
    p->scale = rescale ? factor : 1;
    if (resample < 1 || resample > 3) return lk_error(LK_EINPUT, "%s: resample %lld; 1 (lanczos), 2 (bilinear) and 3 (bicubic) are known", path, (long long)resample);
    p->filter = resample == 1 ? LK_LANCZOS : resample == 2 ? LK_BILINEAR : LK_BICUBIC;
    int none;
    if (p->resize) LK_TRY(read_size(j, "size", path, vit, &p->shortest, &p->h, &p->w));
    if (p->crop) LK_TRY(read_size(j, "crop_size", path, true, &none, &p->crop_h, &p->crop_w));
    if (!p->normalise) return LK_OK;
    LK_TRY(read_three(j, "image_mean", path, p->mean));
    LK_TRY(read_three(j, "image_std", path, p->std));
    return p->std[0] > 0 && p->std[1] > 0 && p->std[2] > 0 ? LK_OK : lk_error(LK_EINPUT, "%s: image_std must be positive", path);
}
lk_err lk_prepare_load(const char *path, lk_prepare *p) {
    json_t *j;
    *p = (lk_prepare){ 0 };
    LK_TRY(lk_json_load(path, &j));
    lk_err e = read_all(j, path, p);
    json_decref(j);
    return e;
}
lk_err lk_prepare_run(const lk_prepare *p, const lk_image *im, float **out, int *h, int *w) {
    int H = im->h, W = im->w;
    uint8_t *resized = NULL;
    const uint8_t *px = im->px;
    if (im->c != 3) return lk_error(LK_ESHAPE, "a picture of %d channels; the network takes RGB", im->c);
    if (p->resize) {
        H = p->h;
        W = p->w;
        if (p->shortest) {
            int64_t shorter = im->h < im->w ? im->h : im->w;
            H = im->h <= im->w ? p->shortest : (int)((int64_t)p->shortest * im->h / shorter);
            W = im->w <= im->h ? p->shortest : (int)((int64_t)p->shortest * im->w / shorter);
        }
        px = resized = lk_xmalloc((size_t)H * (size_t)W * 3);
        lk_pillow_u8(p->filter, im->px, im->h, im->w, 3, resized, H, W);
    }
    *h = p->crop ? p->crop_h : H;
    *w = p->crop ? p->crop_w : W;
    if (*h > H || *w > W) { free(resized); return lk_error(LK_EINPUT, "a picture of %d x %d is smaller than the centre crop of %d x %d", W, H, *w, *h); }
    int top = (H - *h) / 2, left = (W - *w) / 2;
    *out = lk_xmalloc((size_t)*h * (size_t)*w * 3 * sizeof **out);
    for (int c = 0; c < 3; c++) for (int y = 0; y < *h; y++) for (int x = 0; x < *w; x++) {
        float v = (float)(px[((int64_t)(y + top) * W + x + left) * 3 + c] * p->scale);
        (*out)[((int64_t)c * *h + y) * *w + x] = p->normalise ? (v - p->mean[c]) / p->std[c] : v;
    }
    free(resized);
    return LK_OK;
}
void lk_prepare_describe(const lk_prepare *p, char *to, size_t room) {
    static const char *const names[] = { [LK_BILINEAR] = "bilinear", [LK_BICUBIC] = "bicubic", [LK_LANCZOS] = "lanczos" };
    int n = 0;
    if (!p->resize) n = snprintf(to, room, "none");
    else if (p->shortest) n = snprintf(to, room, "Pillow %s, shorter edge %d", names[p->filter], p->shortest);
    else n = snprintf(to, room, "Pillow %s, %d x %d", names[p->filter], p->w, p->h);
    if (p->crop && n > 0 && (size_t)n < room) snprintf(to + n, room - (size_t)n, ", centre crop %d x %d", p->crop_w, p->crop_h);
}
