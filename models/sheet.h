/* sheet: many small pictures as one, in rows and columns: what a person looks at. */
#ifndef LK_SHEET_H
#define LK_SHEET_H
#include "io/io.h"
/* frames [3][h][w] of 0..255 rounded to a grey or colour picture. */
lk_image lk_image_from_frame(const float *frame, int h, int w);
/* cells[rows * columns]: NULL is left blank; all h x w, 3 channels; a gap of 2 white pixels. Each pixel is drawn `zoom` times as large. */
lk_image lk_frames_sheet(const float *const *cells, int rows, int columns, int h, int w, int zoom);
#endif
