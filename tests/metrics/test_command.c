/* build/bin/lk-metrics as a user meets it: folders, stacks, parts that merge, and what it says of files that do not fit. */
#include "io/io.h"
#include "tests/lib/lk_test.h"
#include <hdf5.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { SIDE = 24, N = 6 };
static char said[1 << 16];
/* Runs the tool with words (%s: the test's directory); its exit status, both outputs in `said`. */
static int run(const char *words) {
    char command[2048];
    int n = snprintf(command, sizeof command, "%s/lk-metrics ", BUILD_BIN);
    for (const char *w = words; *w && n < (int)sizeof command - 512; w++) {
        if (*w == '%') n += snprintf(command + n, sizeof command - (size_t)n, "%s", lk_test_dir());
        else command[n++] = *w;
    }
    snprintf(command + n, sizeof command - (size_t)n, " 2>&1");
    FILE *f = popen(command, "r");
    size_t got = f ? fread(said, 1, sizeof said - 1, f) : 0;
    said[got] = 0;
    int status = f ? pclose(f) : -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
#define SAYS(words, part) do { int s_ = run(words); CHECK_MSG(s_ == 0 && strstr(said, part), "%s: status %d, %s", words, s_, said); } while (0)
#define REFUSES(words, part) do { int s_ = run(words); CHECK_MSG(s_ != 0 && strstr(said, part), "%s: status %d, %s", words, s_, said); } while (0)

static lk_image picture(uint32_t salt, int side, int c) {
    lk_image im = lk_image_new(side, side, c);
    for (int64_t i = 0; i < (int64_t)side * side * c; i++) im.px[i] = (uint8_t)lk_philox_below(lk_stream_key(4, "command"), salt, 0, (uint64_t)i, 256);
    return im;
}
static void write_picture(const char *folder, const char *name, const lk_image *im) {
    char path[700];
    snprintf(path, sizeof path, "%s/%s", lk_test_dir(), folder);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/%s/%s", lk_test_dir(), folder, name);
    CHECK_OK(lk_image_write_png(path, im));
}
static void folders(void) {
    for (uint32_t i = 0; i < N; i++) {
        char name[16];
        snprintf(name, sizeof name, "p%u.png", i);
        lk_image a = picture(i, SIDE, 3), b = picture(100 + i, SIDE, 3);
        write_picture("a", name, &a);
        write_picture("b", name, &b);
        lk_image_free(&a);
        lk_image_free(&b);
    }
}
/* The pictures of folder a as a stack of bytes, and as real values on [0, 1] whose picture 2 has a NaN. */
static void stacks(void) {
    char path[700];
    hsize_t d[4] = { N, SIDE, SIDE, 3 };
    static uint8_t bytes[N][SIDE * SIDE * 3];
    static double real[N][SIDE * SIDE * 3];
    for (uint32_t i = 0; i < N; i++) {
        lk_image a = picture(i, SIDE, 3);
        memcpy(bytes[i], a.px, sizeof bytes[i]);
        for (int k = 0; k < SIDE * SIDE * 3; k++) real[i][k] = a.px[k] / 255.0;
        lk_image_free(&a);
    }
    real[2][SIDE * 3 * 4 + 3 * 7] = NAN;
    snprintf(path, sizeof path, "%s/stack.h5", lk_test_dir());
    hid_t f = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), s = H5Screate_simple(4, d, NULL);
    hid_t a = H5Dcreate2(f, "bytes", H5T_STD_U8LE, s, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), b = H5Dcreate2(f, "real", H5T_IEEE_F64LE, s, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    CHECK(H5Dwrite(a, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes) >= 0 && H5Dwrite(b, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, real) >= 0);
    H5Dclose(a);
    H5Dclose(b);
    H5Sclose(s);
    H5Fclose(f);
}
static double value_said(void) {
    const char *at = strstr(said, "\"value\":");
    return at ? atof(at + 8) : NAN;
}

TEST(folders_stacks_and_files_give_the_same_number) {
    folders();
    stacks();
    SAYS("psnr/mean %/a %/b --json", "\"each\"");
    double folder = value_said();
    SAYS("psnr/mean %/stack.h5:/bytes %/b --json", "HDF5 bytes | libpng");
    CHECK(value_said() == folder && folder > 5 && folder < 12);
    SAYS("ssim/skimage %/a/p0.png %/b/p3.png", "n = 1");
    SAYS("ssim/skimage %/a %/b --csv", "\"p5.png\",");
    SAYS("vendi %/a --features pixels", "features pixels");
    SAYS("frechet %/a %/b --features pixels", "covariances of rank 5 and 5");
    REFUSES("frechet %/a %/b --features pixels --crop 12", "no --crop");
    SAYS("--list", "skimage structural_similarity");
    REFUSES("clip-i %/a %/b --model models/zoo/clip", "image_size is 64");
}
TEST(parts_that_were_saved_merge_and_results_compare) {
    SAYS("kid/features %/a %/b --features pixels --save %/all.state --json > %/all.json; true", "");
    SAYS("merge %/all.state --json > %/merged.json; true", "");
    SAYS("compare %/all.json %/merged.json", "difference 0");
    SAYS("kid/features %/a %/b --features pixels --subsets 3x4 --json > %/subsets.json; true", "");
    REFUSES("compare %/all.json %/subsets.json", "the option is \"full U-statistic\" in one");
    SAYS("ssim/wang04 %/a %/b --json > %/wang.json; true", "");
    REFUSES("compare %/all.json %/wang.json", "the metric");
    REFUSES("merge %/all.state %/all.state", "begins at 0");
    REFUSES("merge %/a/p0.png", "p0.png");
    REFUSES("psnr/mean %/a %/b --first 100", "multiple of 256");
}
TEST(what_does_not_fit_is_said_with_the_file) {
    char path[700];
    lk_image wide = picture(9, SIDE + 1, 3), grey = picture(9, SIDE, 1);
    lk_image a = picture(0, SIDE, 3);
    write_picture("sizes", "p0.png", &a);
    write_picture("sizes", "p1.png", &wide);
    write_picture("grey", "p0.png", &grey);
    write_picture("one", "p0.png", &a);
    write_picture("broken", "p0.png", &a);
    snprintf(path, sizeof path, "%s/broken/p1.png", lk_test_dir());
    char *bytes;
    size_t n;
    snprintf(path, sizeof path, "%s/one/p0.png", lk_test_dir());
    CHECK_OK(lk_read_file(path, &bytes, &n));
    snprintf(path, sizeof path, "%s/broken/p1.png", lk_test_dir());
    CHECK_OK(lk_write_file_atomic(path, bytes, n / 2));
    free(bytes);
    REFUSES("diversity/pixels_l1 %/broken", "broken/p1.png: damaged PNG");
    REFUSES("diversity/pixels_l1 %/sizes", "sizes/p1.png is 25 x 25");
    REFUSES("psnr/mean %/sizes/p0.png %/sizes/p1.png", "24 x 24");
    REFUSES("psnr/mean %/one %/grey", "grey and colour are not compared");
    REFUSES("psnr/mean %/a %/one", "a/p1.png has no partner");
    REFUSES("diversity/pixels_l1 %/one", "at least 2");
    REFUSES("frechet %/one %/a --features pixels", "at least 2 samples");
    REFUSES("psnr/mean %/stack.h5:/real %/b", "--range");
    REFUSES("psnr/mean %/stack.h5:/real %/stack.h5:/real --range 1", "stack.h5:/real[2]: pixel at x 7, y 4, channel 0 is nan");
    REFUSES("psnr/mean %/stack.h5 %/b", "say which data set");
    REFUSES("psnr/mean %/nowhere %/b", "nowhere: no such folder");
    REFUSES("fid/clean %/a %/b", "--weights");
    REFUSES("fid/clean %/a %/b --weights models/faces/mobileface.safetensors --sha256 00", "other weights give other numbers");
    REFUSES("fid/clean %/a %/b --weights models/faces/mobileface.safetensors", "Conv2d_1a_3x3");
    REFUSES("patch-fid/clean %/a %/b --weights x", "--crop");
    REFUSES("kid/features %/a %/b", "--features");
    REFUSES("psnr/mean %/a %/b --features pixels", "compares pixels");
    REFUSES("ssim %/a %/b", "say which");
    REFUSES("kid/features %/a %/b --features pixels --subsets 3x400", "at most all of them");
    REFUSES("psnr/mean %/a %/b --wrong 3", "not understood");
    lk_image_free(&wide);
    lk_image_free(&grey);
    lk_image_free(&a);
}
