/* Resizing as each library does it, because an FID moves by whole units with the resizer (Parmar et al. 2022). Pictures are
 * [h][w][c]. Bits are those of the named implementation on the CPU, but for torch's floating-point kernels, whose order of sums
 * depends on the machine: those agree to rounding. */
#ifndef LK_METRICS_RESIZE_H
#define LK_METRICS_RESIZE_H
#include "base/base.h"

typedef enum { LK_BILINEAR, LK_BICUBIC /* a = -0.5 */, LK_LANCZOS /* 3 lobes */ } lk_filter;
/* Pillow's Image.resize: support grows with the scale (antialiased). 8-bit: 22-bit weights, a rounded 8-bit picture between the
 * two passes. Mode F: binary64 sums, a binary32 picture between. */
void lk_pillow_u8(lk_filter, const uint8_t *src, int h, int w, int c, uint8_t *dst, int oh, int ow);
void lk_pillow_f32(lk_filter, const float *src, int h, int w, int c, float *dst, int oh, int ow);
/* clean-fid: mode F bicubic clipped to [0, 255], not rounded. */
void lk_cleanfid_f32(const float *src, int h, int w, int c, float *dst, int oh, int ow);
/* TensorFlow 1: corner-aligned origin without half pixels, binary32 (torch-fidelity's FID). */
void lk_tf1_bilinear(const float *src, int h, int w, int c, float *dst, int oh, int ow);
/* torch.nn.functional.interpolate(align_corners=False): plain bilinear, and antialiased. */
void lk_torch_bilinear(const double *src, int h, int w, int c, double *dst, int oh, int ow);
void lk_torch_bilinear_f32(const float *src, int h, int w, int c, float *dst, int oh, int ow);   /* positions and weights in binary32 */
void lk_torch_antialias(lk_filter, const double *src, int h, int w, int c, double *dst, int oh, int ow);
/* The same on uint8: 16-bit fixed-point weights, not Pillow's. */
void lk_torch_antialias_u8(lk_filter, const uint8_t *src, int h, int w, int c, uint8_t *dst, int oh, int ow);
#endif
