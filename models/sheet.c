/* Composing sheets. Rounding is half up after clamping: exact in binary32. */
#include "models/sheet.h"
#include <string.h>

static uint8_t byte_of(float v) { return v <= 0 ? 0 : v >= 255 ? 255 : (uint8_t)(v + 0.5f); }
lk_image lk_image_from_frame(const float *f, int h, int w) {
    lk_image im = lk_image_new(w, h, 3);
    for (int i = 0; i < h * w; i++)
        for (int c = 0; c < 3; c++) im.px[i * 3 + c] = byte_of(f[c * h * w + i]);
    return im;
}
lk_image lk_frames_sheet(const float *const *cells, int rows, int columns, int h, int w, int zoom) {
    enum { GAP = 2 };
    int ch = h * zoom + GAP, cw = w * zoom + GAP;
    lk_image sheet = lk_image_new(columns * cw + GAP, rows * ch + GAP, 3);
    memset(sheet.px, 255, (size_t)sheet.w * (size_t)sheet.h * 3);
    for (int i = 0; i < rows * columns; i++) {
        if (!cells[i]) continue;
        int left = i % columns * cw + GAP, top = i / columns * ch + GAP;
        for (int y = 0; y < h * zoom; y++)
            for (int x = 0; x < w * zoom; x++)
                for (int c = 0; c < 3; c++) sheet.px[((top + y) * sheet.w + left + x) * 3 + c] = byte_of(cells[i][(c * h + y / zoom) * w + x / zoom]);
    }
    return sheet;
}
