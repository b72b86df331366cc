/* Pictures: PNG by libpng, JPEG by libjpeg, both from memory, 8 bits, grey or RGB, rows from the top.
 *
 * What is read is exact or refused. PNG: palettes and 1, 2, 4 bits are expanded; 16 bits are taken only
 * if every sample is an 8-bit one written twice (257 k); alpha only if opaque everywhere. Colour profiles
 * and gamma are ignored: pixels are what the file stores. JPEG: slow integer DCT and smooth chroma, so
 * that one library version gives one result (versions may differ: hash pixels, docs/numerics.md rule 8); a file
 * that is cut off or damaged is refused, not filled with grey.
 *
 * Both libraries report errors by longjmp. Each decoder keeps what must be freed in a struct that lives
 * in its caller's frame, so nothing allocated is lost over the jump. */
#include "io/io.h"
#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <jpeglib.h>
#include <jerror.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SIDE = 32768, MAX_PIXELS = 1 << 28 };    /* a header alone must not make us allocate terabytes */

typedef struct {
    const char *path;
    const unsigned char *bytes; size_t n, at;        /* the file */
    jmp_buf jump;
    char reason[256];                                /* set before the jump */
    unsigned char *px; void **rows;                  /* freed by the caller */
    int w, h, c, depth;                              /* c: channels as decoded, alpha counted */
} decoding;

static lk_err read_png(decoding *d, lk_image *out), read_jpeg(decoding *d, lk_image *out);

lk_err lk_image_read(const char *path, lk_image *out) {
    *out = (lk_image){0};
    char *bytes; size_t n;
    LK_TRY(lk_read_file(path, &bytes, &n));
    decoding *d = lk_xcalloc(1, sizeof *d);
    d->path = path; d->bytes = (const unsigned char *)bytes; d->n = n;
    lk_err e;
    if (n >= 8 && !png_sig_cmp((png_const_bytep)bytes, 0, 8)) e = read_png(d, out);
    else if (n >= 3 && !memcmp(bytes, "\xff\xd8\xff", 3)) e = read_jpeg(d, out);
    else e = lk_error(LK_EINPUT, "%s: neither PNG nor JPEG (%zu bytes); convert it to PNG", path, n);
    free(d->px); free(d->rows); free(d); free(bytes);
    return e;
}
static lk_err refuse_size(const decoding *d, unsigned long w, unsigned long h) {
    if (w && h && w <= MAX_SIDE && h <= MAX_SIDE && w * h <= MAX_PIXELS) return LK_OK;
    return lk_error(LK_EINPUT, "%s: %lu x %lu pixels; at most %d a side and %d in all are read", d->path, w, h, MAX_SIDE, MAX_PIXELS);
}

/* ---- PNG ------------------------------------------------------------------------------------------- */
static void png_failed(png_structp png, png_const_charp why) {
    decoding *d = png_get_error_ptr(png);
    snprintf(d->reason, sizeof d->reason, "%s", why);
    longjmp(d->jump, 1);
}
static void png_warned(png_structp png, png_const_charp why) { (void)png; (void)why; }
static void png_take(png_structp png, png_bytep to, size_t n) {
    decoding *d = png_get_io_ptr(png);
    if (n > d->n - d->at) png_error(png, "the file ends early");
    memcpy(to, d->bytes + d->at, n);
    d->at += n;
}
/* Decodes into d->px: d->c channels of d->depth (8 or 16, big-endian) bits. May jump. */
static lk_err png_pixels(decoding *d, png_structp png, png_infop info) {
    png_set_read_fn(png, d, png_take);
    png_set_user_limits(png, 0x7fffffff, 0x7fffffff);     /* ours are stricter and say so */
    png_set_chunk_malloc_max(png, 1 << 24);
    png_set_crc_action(png, PNG_CRC_ERROR_QUIT, PNG_CRC_WARN_DISCARD);
    png_read_info(png, info);
    LK_TRY(refuse_size(d, png_get_image_width(png, info), png_get_image_height(png, info)));
    png_set_expand(png);                                  /* palette -> RGB, 1 2 4 bits -> 8, tRNS -> alpha */
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
    d->w = (int)png_get_image_width(png, info); d->h = (int)png_get_image_height(png, info);
    d->c = png_get_channels(png, info); d->depth = png_get_bit_depth(png, info);
    size_t stride = png_get_rowbytes(png, info);
    d->px = malloc(stride * (size_t)d->h); d->rows = malloc(sizeof *d->rows * (size_t)d->h);
    if (!d->px || !d->rows) return lk_error(LK_ENOMEM, "%s: %zu bytes of pixels do not fit into memory", d->path, stride * (size_t)d->h);
    for (int y = 0; y < d->h; y++) d->rows[y] = d->px + stride * (size_t)y;
    png_read_image(png, (png_bytepp)d->rows);
    png_read_end(png, NULL);
    return LK_OK;
}
/* 16 bits to 8, in place, where nothing is lost. */
static lk_err halve_depth(decoding *d) {
    size_t n = (size_t)d->w * (size_t)d->h * (size_t)d->c;
    for (size_t i = 0; i < n; i++) {
        if (d->px[2 * i] != d->px[2 * i + 1])
            return lk_error(LK_EINPUT, "%s: 16-bit samples that 8 bits cannot hold (value %d at x %zu, y %zu); convert it to 8 bits", d->path,
                            d->px[2 * i] << 8 | d->px[2 * i + 1], i / (size_t)d->c % (size_t)d->w, i / (size_t)d->c / (size_t)d->w);
        d->px[i] = d->px[2 * i];
    }
    d->depth = 8;
    return LK_OK;
}
/* Drops an alpha channel that says nothing. */
static lk_err drop_alpha(decoding *d) {
    int c = d->c - 1;
    size_t n = (size_t)d->w * (size_t)d->h;
    for (size_t i = 0; i < n; i++) {
        const unsigned char *p = d->px + i * (size_t)d->c;
        if (p[c] != 255)
            return lk_error(LK_EINPUT, "%s: transparent (alpha %d at x %zu, y %zu); flatten it onto a background first", d->path, p[c], i % (size_t)d->w, i / (size_t)d->w);
        memmove(d->px + i * (size_t)c, p, (size_t)c);
    }
    d->c = c;
    return LK_OK;
}
static lk_err read_png(decoding *d, lk_image *out) {
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, d, png_failed, png_warned);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    if (!info) { png_destroy_read_struct(&png, NULL, NULL); return lk_error(LK_ENOMEM, "%s: libpng could not start", d->path); }
    lk_err e;
    if (setjmp(d->jump)) e = lk_error(LK_EINPUT, "%s: damaged PNG (at byte %zu of %zu): %s", d->path, d->at, d->n, d->reason);
    else e = png_pixels(d, png, info);
    png_destroy_read_struct(&png, &info, NULL);
    if (!e && d->depth == 16) e = halve_depth(d);
    if (!e && (d->c == 2 || d->c == 4)) e = drop_alpha(d);
    if (e) return e;
    *out = (lk_image){d->w, d->h, d->c, d->px};
    d->px = NULL;
    return LK_OK;
}

typedef struct { jmp_buf jump; char reason[256]; lk_buf bytes; } encoding;
static void png_write_failed(png_structp png, png_const_charp why) {
    encoding *o = png_get_error_ptr(png);
    snprintf(o->reason, sizeof o->reason, "%s", why);
    longjmp(o->jump, 1);
}
static void png_give(png_structp png, png_bytep from, size_t n) {
    encoding *o = png_get_io_ptr(png);
    lk_buf_add(&o->bytes, (const char *)from, n);
}
static void png_flushed(png_structp png) { (void)png; }
/* Everything that changes bytes is set: one zlib version, one file. May jump. */
static void png_encode(encoding *o, png_structp png, png_infop info, const lk_image *im) {
    png_set_write_fn(png, o, png_give, png_flushed);
    png_set_IHDR(png, info, (png_uint_32)im->w, (png_uint_32)im->h, 8, im->c == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_set_filter(png, PNG_FILTER_TYPE_BASE, PNG_FILTER_PAETH);
    png_set_compression_level(png, 6);
    png_set_compression_mem_level(png, 8);
    png_set_compression_strategy(png, 1);                 /* Z_FILTERED */
    png_set_compression_window_bits(png, 15);
    png_set_compression_buffer_size(png, 65536);
    png_write_info(png, info);
    for (int y = 0; y < im->h; y++) png_write_row(png, im->px + (size_t)y * (size_t)im->w * (size_t)im->c);
    png_write_end(png, NULL);
}
lk_err lk_image_write_png(const char *path, const lk_image *im) {
    if (im->w < 1 || im->h < 1 || im->w > MAX_SIDE || im->h > MAX_SIDE || (im->c != 1 && im->c != 3))
        return lk_error(LK_ESHAPE, "%s: cannot write a picture of %d x %d with %d channels", path, im->w, im->h, im->c);
    encoding *o = lk_xcalloc(1, sizeof *o);
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, o, png_write_failed, png_warned);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    lk_err e = LK_OK;
    if (!info) e = lk_error(LK_ENOMEM, "%s: libpng could not start", path);
    else if (setjmp(o->jump)) e = lk_error(LK_EIO, "%s: libpng: %s", path, o->reason);
    else png_encode(o, png, info, im);
    png_destroy_write_struct(&png, &info);
    if (!e) e = lk_write_file_atomic(path, o->bytes.s, o->bytes.n);
    free(o->bytes.s); free(o);
    return e;
}

/* ---- JPEG ------------------------------------------------------------------------------------------- */
static void jpeg_failed(j_common_ptr jpeg) {
    decoding *d = jpeg->client_data;
    jpeg->err->format_message(jpeg, d->reason);
    longjmp(d->jump, 1);
}
/* libjpeg only warns of missing or damaged data and invents pixels: such a warning is an error here. The two let
 * through are about version numbers and change no pixel. */
static void jpeg_message(j_common_ptr jpeg, int level) {
    if (level < 0 && jpeg->err->msg_code != JWRN_JFIF_MAJOR && jpeg->err->msg_code != JWRN_ADOBE_XFORM) jpeg_failed(jpeg);
}
static lk_err jpeg_pixels(decoding *d, struct jpeg_decompress_struct *jpeg) {
    jpeg_mem_src(jpeg, d->bytes, d->n);
    jpeg_read_header(jpeg, TRUE);
    LK_TRY(refuse_size(d, jpeg->image_width, jpeg->image_height));
    if (jpeg->jpeg_color_space == JCS_CMYK || jpeg->jpeg_color_space == JCS_YCCK)
        return lk_error(LK_EINPUT, "%s: a CMYK JPEG; convert it to RGB (for example: convert IN -colorspace sRGB OUT.png)", d->path);
    jpeg->out_color_space = jpeg->jpeg_color_space == JCS_GRAYSCALE ? JCS_GRAYSCALE : JCS_RGB;
    jpeg->dct_method = JDCT_ISLOW;
    jpeg->do_fancy_upsampling = TRUE;
    jpeg->do_block_smoothing = FALSE;
    jpeg_start_decompress(jpeg);
    d->w = (int)jpeg->output_width; d->h = (int)jpeg->output_height; d->c = jpeg->output_components;
    size_t stride = (size_t)d->w * (size_t)d->c;
    if (!(d->px = malloc(stride * (size_t)d->h))) return lk_error(LK_ENOMEM, "%s: %zu bytes of pixels do not fit into memory", d->path, stride * (size_t)d->h);
    while (jpeg->output_scanline < jpeg->output_height) {
        JSAMPROW row = d->px + stride * jpeg->output_scanline;
        jpeg_read_scanlines(jpeg, &row, 1);
    }
    jpeg_finish_decompress(jpeg);
    return LK_OK;
}
static lk_err read_jpeg(decoding *d, lk_image *out) {
    struct jpeg_error_mgr handler;
    struct jpeg_decompress_struct jpeg = {.err = jpeg_std_error(&handler), .client_data = d};
    handler.error_exit = jpeg_failed;
    handler.emit_message = jpeg_message;
    lk_err e;
    if (setjmp(d->jump)) e = lk_error(LK_EINPUT, "%s: damaged JPEG of %zu bytes: %s", d->path, d->n, d->reason);
    else { jpeg_create_decompress(&jpeg); e = jpeg_pixels(d, &jpeg); }
    jpeg_destroy_decompress(&jpeg);
    if (e) return e;
    *out = (lk_image){d->w, d->h, d->c, d->px};
    d->px = NULL;
    return LK_OK;
}

/* ---- pictures in memory ------------------------------------------------------------------------------ */
lk_image lk_image_new(int w, int h, int c) { return (lk_image){w, h, c, lk_xcalloc((size_t)w * (size_t)h, (size_t)c)}; }
void lk_image_free(lk_image *im) { free(im->px); *im = (lk_image){0}; }
void lk_image_hash(const lk_image *im, char hex[65]) {
    lk_sha256 s;
    char head[64];
    lk_sha256_init(&s);
    lk_sha256_add(&s, head, (size_t)snprintf(head, sizeof head, "%d x %d x %d\n", im->h, im->w, im->c));
    lk_sha256_add(&s, im->px, (size_t)im->w * (size_t)im->h * (size_t)im->c);
    lk_sha256_hex(&s, hex);
}
lk_image lk_image_gray(const lk_image *im) {
    lk_image out = lk_image_new(im->w, im->h, 1);
    size_t n = (size_t)im->w * (size_t)im->h;
    if (im->c == 1) { memcpy(out.px, im->px, n); return out; }
    for (size_t i = 0; i < n; i++) {
        const uint8_t *p = im->px + 3 * i;
        out.px[i] = (uint8_t)((19595u * p[0] + 38470u * p[1] + 7471u * p[2] + 32768u) >> 16);
    }
    return out;
}
lk_image lk_image_rgb(const lk_image *im) {
    lk_image out = lk_image_new(im->w, im->h, 3);
    size_t n = (size_t)im->w * (size_t)im->h;
    if (im->c == 3) { memcpy(out.px, im->px, 3 * n); return out; }
    for (size_t i = 0; i < n; i++) memset(out.px + 3 * i, im->px[i], 3);
    return out;
}
const char *lk_image_decoder(void) {
#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
    return "libpng " PNG_LIBPNG_VER_STRING ", libjpeg API " TEXT(JPEG_LIB_VERSION) " (integer DCT, smooth chroma)";
}
