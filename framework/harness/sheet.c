/* Sample sheets: a grid of pictures with labels in a built-in 5 x 7 bitmap alphabet (capitals, digits, a few signs; small
 * letters are drawn as capitals), so that a sheet is the same bytes on every machine. */
#include "harness/experiment.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { GLYPH_W = 5, GLYPH_H = 7, ADVANCE = 6, SCALE = 2, GAP = 4 };
/* Rows from the top; bit 4 is the left pixel. */
static const struct { char c; unsigned char row[GLYPH_H]; } glyphs[] = {
    {'0', {14, 17, 19, 21, 25, 17, 14}}, {'1', {4, 12, 4, 4, 4, 4, 14}},      {'2', {14, 17, 1, 6, 8, 16, 31}},    {'3', {30, 1, 1, 14, 1, 1, 30}},
    {'4', {2, 6, 10, 18, 31, 2, 2}},     {'5', {31, 16, 30, 1, 1, 17, 14}},   {'6', {6, 8, 16, 30, 17, 17, 14}},   {'7', {31, 1, 2, 4, 8, 8, 8}},
    {'8', {14, 17, 17, 14, 17, 17, 14}}, {'9', {14, 17, 17, 15, 1, 2, 12}},   {'A', {14, 17, 17, 31, 17, 17, 17}}, {'B', {30, 17, 17, 30, 17, 17, 30}},
    {'C', {14, 17, 16, 16, 16, 17, 14}}, {'D', {30, 17, 17, 17, 17, 17, 30}}, {'E', {31, 16, 16, 30, 16, 16, 31}}, {'F', {31, 16, 16, 30, 16, 16, 16}},
    {'G', {14, 17, 16, 19, 17, 17, 15}}, {'H', {17, 17, 17, 31, 17, 17, 17}}, {'I', {14, 4, 4, 4, 4, 4, 14}},      {'J', {1, 1, 1, 1, 17, 17, 14}},
    {'K', {17, 18, 20, 24, 20, 18, 17}}, {'L', {16, 16, 16, 16, 16, 16, 31}}, {'M', {17, 27, 21, 21, 17, 17, 17}}, {'N', {17, 25, 21, 19, 17, 17, 17}},
    {'O', {14, 17, 17, 17, 17, 17, 14}}, {'P', {30, 17, 17, 30, 16, 16, 16}}, {'Q', {14, 17, 17, 17, 21, 18, 13}}, {'R', {30, 17, 17, 30, 20, 18, 17}},
    {'S', {15, 16, 16, 14, 1, 1, 30}},   {'T', {31, 4, 4, 4, 4, 4, 4}},       {'U', {17, 17, 17, 17, 17, 17, 14}}, {'V', {17, 17, 17, 17, 17, 10, 4}},
    {'W', {17, 17, 17, 21, 21, 27, 17}}, {'X', {17, 17, 10, 4, 10, 17, 17}},  {'Y', {17, 17, 10, 4, 4, 4, 4}},     {'Z', {31, 1, 2, 4, 8, 16, 31}},
    {'.', {0, 0, 0, 0, 0, 12, 12}},      {',', {0, 0, 0, 0, 12, 4, 8}},       {'-', {0, 0, 0, 31, 0, 0, 0}},       {'_', {0, 0, 0, 0, 0, 0, 31}},
    {'=', {0, 0, 31, 0, 31, 0, 0}},      {'+', {0, 4, 4, 31, 4, 4, 0}},       {'/', {1, 1, 2, 4, 8, 16, 16}},      {':', {0, 12, 12, 0, 12, 12, 0}},
    {'(', {2, 4, 8, 8, 8, 4, 2}},        {')', {8, 4, 2, 2, 2, 4, 8}},        {'%', {25, 26, 2, 4, 8, 11, 19}},    {'<', {1, 2, 4, 8, 4, 2, 1}},
    {'>', {16, 8, 4, 2, 4, 8, 16}},      {'\'', {4, 4, 8, 0, 0, 0, 0}},       {'*', {0, 10, 4, 31, 4, 10, 0}},     {'?', {14, 17, 1, 2, 4, 0, 4}}};

static const unsigned char *glyph(char c) {
    for (size_t i = 0; i < sizeof glyphs / sizeof glyphs[0]; i++) if (glyphs[i].c == toupper((unsigned char)c)) return glyphs[i].row;
    return c == ' ' ? NULL : glyph('?');
}
static void draw_text(lk_image *to, int x0, int y0, int width, const char *text) {
    for (int k = 0; text[k] && (k + 1) * ADVANCE * SCALE <= width + SCALE; k++) {
        const unsigned char *g = glyph(text[k]);
        for (int y = 0; g && y < GLYPH_H * SCALE; y++) for (int x = 0; x < GLYPH_W * SCALE; x++) {
            if (!(g[y / SCALE] >> (GLYPH_W - 1 - x / SCALE) & 1)) continue;
            int px = x0 + k * ADVANCE * SCALE + x, py = y0 + y;
            if (px < to->w && py < to->h) memset(to->px + ((size_t)py * to->w + px) * 3, 0, 3);
        }
    }
}
/* Nearest pixels; grey becomes RGB. */
static void draw_picture(lk_image *to, int x0, int y0, int size_w, int size_h, const lk_image *im) {
    for (int y = 0; y < size_h; y++) for (int x = 0; x < size_w; x++) {
        const uint8_t *from = im->px + ((size_t)(y * im->h / size_h) * im->w + x * im->w / size_w) * im->c;
        uint8_t *at = to->px + ((size_t)(y0 + y) * to->w + x0 + x) * 3;
        for (int c = 0; c < 3; c++) at[c] = from[im->c == 1 ? 0 : c];
    }
}
static int widest(const char *const *labels, int n) {
    size_t most = 0;
    for (int i = 0; labels && i < n; i++) if (labels[i] && strlen(labels[i]) > most) most = strlen(labels[i]);
    return most ? (int)most * ADVANCE * SCALE + 2 * GAP : 0;
}
lk_image lk_sheet(int rows, int columns, const lk_image *cells, const char *const *row_labels, const char *const *column_labels, int zoom) {
    int w = 1, h = 1;
    for (int i = 0; i < rows * columns; i++) if (cells[i].px) { if (cells[i].w > w) w = cells[i].w; if (cells[i].h > h) h = cells[i].h; }
    w *= zoom > 0 ? zoom : 1; h *= zoom > 0 ? zoom : 1;
    int left = widest(row_labels, rows), top = column_labels ? GLYPH_H * SCALE + 2 * GAP : 0;
    lk_image sheet = lk_image_new(left + columns * (w + GAP) + GAP, top + rows * (h + GAP) + GAP, 3);
    memset(sheet.px, 255, (size_t)sheet.w * sheet.h * 3);
    for (int c = 0; column_labels && c < columns; c++) if (column_labels[c]) draw_text(&sheet, left + GAP + c * (w + GAP), GAP, w, column_labels[c]);
    for (int r = 0; r < rows; r++) {
        int y = top + GAP + r * (h + GAP);
        if (row_labels && row_labels[r]) draw_text(&sheet, GAP, y + (h - GLYPH_H * SCALE) / 2, left - GAP, row_labels[r]);
        for (int c = 0; c < columns; c++) if (cells[r * columns + c].px) draw_picture(&sheet, left + GAP + c * (w + GAP), y, w, h, &cells[r * columns + c]);
    }
    return sheet;
}
