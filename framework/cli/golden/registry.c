/* What the runner knows: which file starts which kind of case. Cases by their case.json's keys, tables by file name.
 * Metrics add their rows and handlers here. */
#include "cli/golden/golden.h"

const lk_golden_handler lk_golden_handlers[] = {
    { "case.json", "hyper", lk_golden_lora_train },         /* training of a LoRA on a base */
    { "case.json", "cls", lk_golden_model_case },
    { "schedulers.json", NULL, lk_golden_schedulers },
    { 0 },
};
