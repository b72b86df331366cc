/* What the runner knows: which file starts which kind of case. Cases by their case.json's keys, tables by file name.
 * Metrics add their rows and handlers here. */
#include "cli/golden/golden.h"

const lk_golden_handler lk_golden_handlers[] = {
    { "case.json", "hyper", lk_golden_lora_train },         /* training of a LoRA on a base */
    { "case.json", "corrupt", lk_golden_lora_formats },     /* one LoRA in every file format, and damaged files */
    { "case.json", "lora_a", lk_golden_lora_mix },          /* several LoRAs weighed and interpolated */
    { "case.json", "cls", lk_golden_model_case },
    { "case.json", "base", lk_golden_lora_files },          /* files of LoRAs on a base */
    { "schedulers.json", NULL, lk_golden_schedulers },
    { "images.json", NULL, lk_golden_images },              /* metric tables */
    { "psnr_ssim.json", NULL, lk_golden_psnr_ssim },
    { "stats.json", NULL, lk_golden_stats },
    { "frechet.json", NULL, lk_golden_frechet },
    { "kid_cmmd.json", NULL, lk_golden_kid },
    { "prdc_vendi_is.json", NULL, lk_golden_manifold },
    { "diversity.json", NULL, lk_golden_diversity },
    { "resize.json", NULL, lk_golden_resize },
    { "align.json", NULL, lk_golden_align },
    { "trunk_params.json", NULL, lk_golden_trunk_params },
    { "lpips.json", NULL, lk_golden_lpips },
    { "lpips_normalize.safetensors", NULL, lk_golden_unit_channels },
    { "inception_params.json", NULL, lk_golden_inception_params },
    { "inception.json", NULL, lk_golden_inception },
    { "recognisers.safetensors", NULL, lk_golden_recognisers },
    { 0 },
};
