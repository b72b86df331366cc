/* Augmentation of a frame in place. Each kind has its own stream, so switching one off changes no other's draw. */
#include "datasets/datasets.h"
#include <stdlib.h>
#include <string.h>

typedef struct { uint64_t seed, step; uint32_t sample; } draw;
static float uniform(const draw *d, const char *stream, uint64_t element) { return lk_philox_uniform(lk_stream_key(d->seed, stream), d->step, d->sample, element); }
static int clampi(int v, int lo, int hi) { return v < lo ? lo : v > hi ? hi : v; }

static void flip(float *p, int planes, int h, int w) {
    for (int64_t r = 0; r < (int64_t)planes * h; r++)
        for (int x = 0; x < w / 2; x++) { float t = p[r * w + x]; p[r * w + x] = p[r * w + w - 1 - x]; p[r * w + w - 1 - x] = t; }
}
/* Output pixel (x, y) is the input at (sx*x + ox, sy*y + oy), bilinear, edges clamped. */
static void resample(float *p, int planes, int h, int w, float scale, float ox, float oy) {
    float *copy = lk_xmalloc(sizeof(float) * (size_t)h * (size_t)w);
    for (int c = 0; c < planes; c++, p += (int64_t)h * w) {
        memcpy(copy, p, sizeof(float) * (size_t)h * (size_t)w);
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++) {
                float px = scale * (float)x + ox, py = scale * (float)y + oy;
                px = px < 0 ? 0 : px > (float)(w - 1) ? (float)(w - 1) : px;
                py = py < 0 ? 0 : py > (float)(h - 1) ? (float)(h - 1) : py;
                int x0 = (int)px, y0 = (int)py, x1 = clampi(x0 + 1, 0, w - 1), y1 = clampi(y0 + 1, 0, h - 1);
                float fx = px - (float)x0, fy = py - (float)y0;
                float top = copy[y0 * w + x0] * (1 - fx) + copy[y0 * w + x1] * fx, bottom = copy[y1 * w + x0] * (1 - fx) + copy[y1 * w + x1] * fx;
                p[y * w + x] = top * (1 - fy) + bottom * fy;
            }
    }
    free(copy);
}
static void blur_121(float *p, int planes, int h, int w) {
    float *copy = lk_xmalloc(sizeof(float) * (size_t)h * (size_t)w);
    for (int c = 0; c < planes; c++, p += (int64_t)h * w) {
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++)
                copy[y * w + x] = (p[y * w + clampi(x - 1, 0, w - 1)] + 2 * p[y * w + x] + p[y * w + clampi(x + 1, 0, w - 1)]) * 0.25f;
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++)
                p[y * w + x] = (copy[clampi(y - 1, 0, h - 1) * w + x] + 2 * copy[y * w + x] + copy[clampi(y + 1, 0, h - 1) * w + x]) * 0.25f;
    }
    free(copy);
}
bool lk_augment_frame(const lk_augment *a, uint64_t seed, uint64_t step, uint32_t sample, float *frame, float *mask, int channels, int h, int w) {
    draw d = {seed, step, sample};
    bool flipped = a->flip && uniform(&d, "augment.flip", 0) < 0.5f;
    if (flipped) { flip(frame, channels, h, w); if (mask) flip(mask, 1, h, w); }
    if (a->shift > 0 || a->zoom > 0) {
        float scale = 1, ox = 0, oy = 0;
        if (a->zoom > 0) {
            scale = 1 / (1 + (float)a->zoom * uniform(&d, "augment.zoom", 0));
            ox = (1 - scale) * (float)(w - 1) * uniform(&d, "augment.zoom", 1);
            oy = (1 - scale) * (float)(h - 1) * uniform(&d, "augment.zoom", 2);
        }
        if (a->shift > 0) {
            uint64_t key = lk_stream_key(seed, "augment.shift");
            ox += (float)((int)lk_philox_below(key, step, sample, 0, (uint32_t)(2 * a->shift + 1)) - a->shift);
            oy += (float)((int)lk_philox_below(key, step, sample, 1, (uint32_t)(2 * a->shift + 1)) - a->shift);
        }
        resample(frame, channels, h, w, scale, ox, oy);
        if (mask) resample(mask, 1, h, w, scale, ox, oy);
    }
    if (a->blur > 0 && uniform(&d, "augment.blur", 0) < (float)a->blur) blur_121(frame, channels, h, w);
    int64_t plane = (int64_t)h * w;
    float lift = a->brightness > 0 ? (2 * uniform(&d, "augment.brightness", 0) - 1) * (float)a->brightness : 0;
    uint64_t noise = lk_stream_key(seed, "augment.noise");
    for (int64_t i = 0; i < channels * plane; i++) {
        float v = frame[i] + lift;
        if (a->noise > 0) v += (float)a->noise * lk_philox_normal(noise, step, sample, (uint64_t)i);
        frame[i] = v < 0 ? 0 : v > 255 ? 255 : v;
    }
    return flipped;
}
char *lk_flip_caption(const char *text) {
    lk_buf out = {0};
    for (const char *s = text; *s;) {
        size_t n = strcspn(s, " ,");
        bool left = n == 4 && !memcmp(s, "left", 4), right = n == 5 && !memcmp(s, "right", 5);
        if (left) lk_buf_add(&out, "right", 5);
        else if (right) lk_buf_add(&out, "left", 4);
        else lk_buf_add(&out, s, n);
        s += n;
        if (*s) lk_buf_add(&out, s++, 1);
    }
    if (!out.s) lk_buf_add(&out, "", 0);
    return out.s;
}
