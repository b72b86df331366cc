/* Pictures: round trips, hand-made files of every PNG kind, JPEG against libjpeg's own encoder, and cut or
 * damaged files. The oracle of decoding is the picture that was encoded (PNG: exact; JPEG at quality 100:
 * within 4 levels, the error of its colour conversion and rounding). */
#include "tests/lib/lk_test.h"
#include "io/io.h"
#include <png.h>
#include <jpeglib.h>
#include <unistd.h>

static const char *path(const char *name) { static char p[4][512]; static int k; k = (k + 1) % 4; snprintf(p[k], sizeof p[k], "%s/%s", lk_test_dir(), name); return p[k]; }
static lk_image picture(int w, int h, int c) {
    lk_image im = lk_image_new(w, h, c);
    for (int i = 0; i < w * h * c; i++) im.px[i] = (uint8_t)(lk_philox_u32(7, 0, 0, (uint64_t)i) >> 25) + (uint8_t)(i / c % w * 2);
    return im;
}
static bool equal(const lk_image *a, const lk_image *b) { return a->w == b->w && a->h == b->h && a->c == b->c && a->px && b->px && !memcmp(a->px, b->px, (size_t)(a->w * a->h * a->c)); }

/* A PNG of any kind, by libpng directly: `px` as the format stores it. */
static const char *png(const char *name, int w, int h, int depth, int type, const uint8_t *px, size_t stride, bool interlaced, int transparent_entries) {
    const char *p = path(name);
    FILE *f = fopen(p, "wb");
    png_structp s = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(s);
    png_init_io(s, f);
    png_set_IHDR(s, info, (png_uint_32)w, (png_uint_32)h, depth, type, interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_color palette[4] = {{1, 2, 3}, {40, 50, 60}, {255, 0, 128}, {9, 9, 9}};
    if (type == PNG_COLOR_TYPE_PALETTE) png_set_PLTE(s, info, palette, 4);
    png_byte alpha[4] = {255, 255, 77, 255};
    if (transparent_entries) png_set_tRNS(s, info, alpha, transparent_entries, NULL);
    png_bytep rows[64];
    for (int y = 0; y < h; y++) rows[y] = (png_bytep)px + stride * (size_t)y;
    png_set_rows(s, info, rows);
    png_write_png(s, info, PNG_TRANSFORM_IDENTITY, NULL);
    png_destroy_write_struct(&s, &info);
    fclose(f);
    return p;
}
static const char *jpeg(const char *name, const lk_image *im, J_COLOR_SPACE space, bool progressive) {
    const char *p = path(name);
    FILE *f = fopen(p, "wb");
    struct jpeg_compress_struct c; struct jpeg_error_mgr err;
    c.err = jpeg_std_error(&err);
    jpeg_create_compress(&c);
    jpeg_stdio_dest(&c, f);
    c.image_width = (JDIMENSION)im->w; c.image_height = (JDIMENSION)im->h; c.input_components = im->c; c.in_color_space = space;
    jpeg_set_defaults(&c);
    jpeg_set_quality(&c, 100, TRUE);
    for (int i = 0; i < c.num_components; i++) c.comp_info[i].h_samp_factor = c.comp_info[i].v_samp_factor = 1;
    if (progressive) jpeg_simple_progression(&c);
    jpeg_start_compress(&c, TRUE);
    for (int y = 0; y < im->h; y++) { JSAMPROW row = im->px + y * im->w * im->c; jpeg_write_scanlines(&c, &row, 1); }
    jpeg_finish_compress(&c); jpeg_destroy_compress(&c);
    fclose(f);
    return p;
}
TEST(a_written_png_comes_back_and_its_bytes_repeat) {
    for (int c = 1; c <= 3; c += 2) {
        lk_image im = picture(37, 23, c), back;
        char one[65], two[65];
        CHECK_OK(lk_image_write_png(path("a.png"), &im)); CHECK_OK(lk_image_write_png(path("b.png"), &im));
        CHECK_OK(lk_sha256_file(path("a.png"), one)); CHECK_OK(lk_sha256_file(path("b.png"), two));
        CHECK(!strcmp(one, two));
        CHECK_OK(lk_image_read(path("a.png"), &back));
        CHECK(equal(&im, &back));
        lk_image_hash(&im, one); lk_image_hash(&back, two); CHECK(!strcmp(one, two));
        back.px[5] ^= 1; lk_image_hash(&back, two); CHECK(strcmp(one, two));
        back.px[5] ^= 1; back.w = 23; back.h = 37; lk_image_hash(&back, two); CHECK_MSG(strcmp(one, two), "the hash ignores the sizes");
        lk_image_free(&im); lk_image_free(&back);
    }
    lk_image bad = {4, 4, 2, NULL};
    CHECK_FAILS(lk_image_write_png(path("c.png"), &bad), "cannot write a picture of 4 x 4 with 2 channels");
    CHECK_FAILS(lk_image_write_png("/nonexistent-directory/x.png", &(lk_image){1, 1, 1, (uint8_t[1]){0}}), "/nonexistent-directory/x.png");
}
TEST(every_kind_of_png_is_exact_or_refused) {
    lk_image im;
    const uint8_t index[4] = {0x1b, 0x1b, 0xe4, 0xe4};                       /* 2 bits: 0 1 2 3 / 0 1 2 3 / 3 2 1 0 / ... */
    CHECK_OK(lk_image_read(png("p.png", 4, 4, 2, PNG_COLOR_TYPE_PALETTE, index, 1, false, 0), &im));
    CHECK(im.c == 3 && im.px[3] == 40 && im.px[6] == 255 && im.px[8] == 128 && im.px[24] == 9);
    lk_image_free(&im);
    CHECK_FAILS(lk_image_read(png("pt.png", 4, 4, 2, PNG_COLOR_TYPE_PALETTE, index, 1, false, 4), &im), "pt.png: transparent (alpha 77 at x 2, y 0)");
    CHECK_OK(lk_image_read(png("po.png", 4, 4, 2, PNG_COLOR_TYPE_PALETTE, index, 1, false, 2), &im));      /* the first two entries are opaque */
    CHECK(im.c == 3 && im.px[3] == 40);
    lk_image_free(&im);
    CHECK_OK(lk_image_read(png("g1.png", 8, 1, 1, PNG_COLOR_TYPE_GRAY, (uint8_t[]){0xa5}, 1, false, 0), &im));
    CHECK(im.c == 1 && im.px[0] == 255 && im.px[1] == 0 && im.px[7] == 255);
    lk_image_free(&im);
    CHECK_OK(lk_image_read(png("g4.png", 2, 1, 4, PNG_COLOR_TYPE_GRAY, (uint8_t[]){0x3f}, 1, false, 0), &im));
    CHECK(im.px[0] == 51 && im.px[1] == 255);
    lk_image_free(&im);
    CHECK_OK(lk_image_read(png("16.png", 2, 1, 16, PNG_COLOR_TYPE_GRAY, (uint8_t[]){7, 7, 200, 200}, 4, false, 0), &im));
    CHECK(im.c == 1 && im.px[0] == 7 && im.px[1] == 200);
    lk_image_free(&im);
    CHECK_FAILS(lk_image_read(png("16b.png", 2, 1, 16, PNG_COLOR_TYPE_GRAY, (uint8_t[]){7, 7, 200, 201}, 4, false, 0), &im), "16-bit samples that 8 bits cannot hold (value 51401 at x 1, y 0)");
    CHECK_OK(lk_image_read(png("o.png", 2, 1, 8, PNG_COLOR_TYPE_RGB_ALPHA, (uint8_t[]){1, 2, 3, 255, 4, 5, 6, 255}, 8, false, 0), &im));
    CHECK(im.c == 3 && !memcmp(im.px, (uint8_t[]){1, 2, 3, 4, 5, 6}, 6));
    lk_image_free(&im);
    CHECK_FAILS(lk_image_read(png("t.png", 1, 2, 8, PNG_COLOR_TYPE_GRAY_ALPHA, (uint8_t[]){1, 255, 2, 0}, 2, false, 0), &im), "transparent (alpha 0 at x 0, y 1)");
    lk_image want = picture(19, 21, 3);
    CHECK_OK(lk_image_read(png("i.png", 19, 21, 8, PNG_COLOR_TYPE_RGB, want.px, 57, true, 0), &im));
    CHECK_MSG(equal(&im, &want), "interlaced");
    lk_image_free(&im); lk_image_free(&want);
}
static int worst(const lk_image *a, const lk_image *b) {
    int d = 0;
    for (int i = 0; i < a->w * a->h * a->c; i++) { int e = abs(a->px[i] - b->px[i]); if (e > d) d = e; }
    return d;
}
TEST(jpeg_is_read_and_cmyk_refused) {
    for (int k = 0; k < 4; k++) {
        int c = k & 1 ? 3 : 1;
        lk_image im = picture(50, 33, c), got;
        CHECK_OK(lk_image_read(jpeg("j.jpg", &im, c == 1 ? JCS_GRAYSCALE : JCS_RGB, k & 2), &got));
        if (CHECK(got.w == 50 && got.h == 33 && got.c == c)) CHECK_MSG(worst(&im, &got) <= 4, "worst %d", worst(&im, &got));
        lk_image_free(&im); lk_image_free(&got);
    }
    lk_image cmyk = picture(16, 16, 4), got;
    CHECK_FAILS(lk_image_read(jpeg("cmyk.jpg", &cmyk, JCS_CMYK, false), &got), "cmyk.jpg: a CMYK JPEG; convert it to RGB");
    CHECK(got.px == NULL);
    lk_image_free(&cmyk);
}
/* Cut anywhere, a file is refused by name; nothing but the last bytes (after the pixels) may be missing. */
static void cut(const char *p, const char *name) {
    char *s; size_t n;
    CHECK_OK(lk_read_file(p, &s, &n));
    for (size_t k = 0; k + 13 < n; k += 1 + n / 211) {
        lk_image im;
        CHECK_OK(lk_write_file_atomic(path(name), s, k));
        lk_err e = lk_image_read(path(name), &im);
        CHECK_MSG(e && strstr(lk_err_text(e), name) && !im.px, "cut at %zu of %zu: %s", k, n, lk_err_text(e));
        lk_err_free(e);
    }
    free(s);
}
TEST(cut_files_are_refused) {
    lk_image im = picture(40, 40, 3);
    CHECK_OK(lk_image_write_png(path("c.png"), &im));
    cut(path("c.png"), "cut.png");
    cut(jpeg("c.jpg", &im, JCS_RGB, false), "cut.jpg");
    cut(jpeg("cp.jpg", &im, JCS_RGB, true), "cutp.jpg");
    lk_image_free(&im);
}
TEST(damaged_files_are_refused) {
    lk_image im = picture(40, 40, 3), got;
    char *s; size_t n;
    CHECK_OK(lk_image_write_png(path("d.png"), &im));
    CHECK_OK(lk_read_file(path("d.png"), &s, &n));
    for (size_t k = 8; k < n; k += 97) {                                   /* every chunk has a checksum: no flip passes */
        s[k] ^= 0x10;
        CHECK_OK(lk_write_file_atomic(path("e.png"), s, n));
        CHECK_FAILS(lk_image_read(path("e.png"), &got), "e.png");
        s[k] ^= 0x10;
    }
    free(s);
    CHECK_OK(lk_write_file_atomic(path("n.png"), "GIF89a..", 8));
    CHECK_FAILS(lk_image_read(path("n.png"), &got), "n.png: neither PNG nor JPEG (8 bytes); convert it to PNG");
    CHECK_FAILS(lk_image_read(path("none.png"), &got), "none.png: No such file");
    CHECK_FAILS(lk_image_read(lk_test_dir(), &got), "not a regular file");
    static const uint8_t huge[] = "\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\x7f\0\0\0\x7f\0\0\0\x08\x02\0\0\0\x06\x77\x4e\xf0\0\0\0\x01IDAT";
    CHECK_OK(lk_write_file_atomic(path("huge.png"), huge, sizeof huge - 1));
    CHECK_FAILS(lk_image_read(path("huge.png"), &got), "huge.png: 2130706432 x 2130706432 pixels; at most 32768 a side");
    lk_image_free(&im);
}
TEST(grey_is_pillows_l) {
    lk_image rgb = {2, 1, 3, (uint8_t[]){255, 255, 255, 10, 200, 30}}, g = lk_image_gray(&rgb), back = lk_image_rgb(&g), same = lk_image_gray(&g);
    CHECK(g.c == 1 && g.px[0] == 255 && g.px[1] == 124);                    /* Image.new("RGB", (1, 1), (10, 200, 30)).convert("L") */
    CHECK(back.c == 3 && back.px[3] == 124 && back.px[5] == 124 && equal(&g, &same));
    lk_image_free(&g); lk_image_free(&back); lk_image_free(&same);
}
