/* Pictures: an accepted PNG or JPEG, written as PNG and read again, is the same. */
#include "tests/fuzz/fuzz.h"
#include "io/io.h"
#include <jpeglib.h>
#include <zlib.h>

const char fuzz_name[] = "x.picture";
static void add_png(fuzz_add add, const char *dir, const lk_image *im) {
    char *p = lk_xfmt("%s/seed.png", dir), *s;
    size_t n;
    PROMISE(!lk_image_write_png(p, im) && !lk_read_file(p, &s, &n));
    add(s, n);
    free(s); free(p);
}
static void add_jpeg(fuzz_add add, const lk_image *im, bool progressive) {
    struct jpeg_compress_struct c; struct jpeg_error_mgr err;
    unsigned char *out = NULL; unsigned long n = 0;
    c.err = jpeg_std_error(&err);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &out, &n);
    c.image_width = (JDIMENSION)im->w; c.image_height = (JDIMENSION)im->h; c.input_components = im->c;
    c.in_color_space = im->c == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(&c);
    if (progressive) jpeg_simple_progression(&c);
    jpeg_start_compress(&c, TRUE);
    for (int y = 0; y < im->h; y++) { JSAMPROW row = im->px + y * im->w * im->c; jpeg_write_scanlines(&c, &row, 1); }
    jpeg_finish_compress(&c); jpeg_destroy_compress(&c);
    add(out, n);
    free(out);
}
void fuzz_seeds(fuzz_add add, const char *dir) {
    for (int c = 1; c <= 3; c += 2) {
        lk_image im = lk_image_new(11, 9, c);
        for (int i = 0; i < 99 * c; i++) im.px[i] = (uint8_t)(i * 7);
        add_png(add, dir, &im);
        add_jpeg(add, &im, false); add_jpeg(add, &im, true);
        lk_image_free(&im);
    }
    static const unsigned char palette[] = {                      /* 2-bit palette with transparency entries, mended below */
        0x89, 'P', 'N', 'G', 13, 10, 26, 10, 0, 0, 0, 13, 'I', 'H', 'D', 'R', 0, 0, 0, 4, 0, 0, 0, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6, 'P', 'L', 'T', 'E', 1, 2, 3, 4, 5, 6, 0, 0, 0, 0,
        0, 0, 0, 1, 't', 'R', 'N', 'S', 255, 0, 0, 0, 0, 0, 0, 0, 13, 'I', 'D', 'A', 'T', 0x78, 1, 1, 2, 0, 0xfd, 0xff, 0, 0x11, 0, 0x13, 0, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 'I', 'E', 'N', 'D', 0, 0, 0, 0};
    add(palette, sizeof palette);
}
/* PNG: every chunk's checksum. */
void fuzz_mend(unsigned char *s, size_t n) {
    if (n < 8 || memcmp(s, "\x89PNG", 4)) return;
    for (size_t at = 8; at + 12 <= n;) {
        size_t length = (size_t)s[at] << 24 | (size_t)s[at + 1] << 16 | (size_t)s[at + 2] << 8 | s[at + 3];
        if (length > n - at - 12) return;
        uint32_t crc = (uint32_t)crc32(0, s + at + 4, (uInt)length + 4);
        for (int i = 0; i < 4; i++) s[at + 8 + length + (size_t)i] = (unsigned char)(crc >> (24 - 8 * i));
        at += 12 + length;
    }
}
bool fuzz_one(const char *path, const unsigned char *bytes, size_t n) {
    (void)bytes; (void)n;
    lk_image im, again;
    if (fuzz_refused(lk_image_read(path, &im), fuzz_name)) { PROMISE(!im.px); return false; }
    PROMISE(im.px && im.w > 0 && im.h > 0 && (im.c == 1 || im.c == 3));
    if ((long)im.w * im.h < 100000) {
        char *p = lk_xfmt("%s.png", path), a[65], b[65];
        PROMISE(!lk_image_write_png(p, &im) && !lk_image_read(p, &again));
        lk_image_hash(&im, a); lk_image_hash(&again, b);
        PROMISE(!strcmp(a, b));
        lk_image_free(&again); free(p);
    }
    lk_image_free(&im);
    return true;
}
