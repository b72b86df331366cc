/* lk-convert CHECKPOINT DIR: a single-file checkpoint of Stable Diffusion (original names) as diffusers' components in DIR. The config.json of
 * each component is the public one (models/configs, or the user's): shapes alone do not tell heads. */
#include "models/single_file.h"
#include <stdio.h>

int main(int argc, char **argv) {
    if (argc != 3) { fprintf(stderr, "usage: %s CHECKPOINT.safetensors DIR\n", argv[0]); return 2; }
    lk_st *st;
    lk_single_file f;
    lk_err e = lk_st_open(argv[1], &st);
    if (e) return lk_err_report(e);
    lk_arena *a = lk_arena_new();
    e = lk_single_file_read(st, a, &f);
    if (!e) e = lk_single_file_write(&f, argv[2]);
    for (int i = 0; i < f.n && !e; i++) printf("%s/%s: %d tensors\n", argv[2], f.part[i].name, f.part[i].n);
    if (!e) printf("%d tensors that only training needs were left out\n", f.left_out);
    lk_arena_free(a);
    lk_st_close(st);
    return e ? lk_err_report(e) : 0;
}
