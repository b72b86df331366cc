/* What the config in a PEFT file's header says: options read or refused, names' patterns against Python's re (tests/golden/models/lora_kinds/patterns.json),
 * the base's trained biases placed or refused. */
#include "models/lora_internal.h"
#include "tests/lib/lk_test.h"

/* A file of one module with a config in its header: `more` beside rank and alpha. */
static lk_err read_with(const char *more, lk_lora_file **f) {
    char path[512], config[512];
    float x[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
    snprintf(path, sizeof path, "%s/config.safetensors", lk_test_dir());
    snprintf(config, sizeof config, "{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 3, %s}", more);
    CHECK_OK(lk_st_write(path, (lk_st_item[]){ { "base_model.model.a.to_q.lora_A.weight", LK_ST_F32, 2, { 2, 4 }, x }, { "base_model.model.a.to_q.lora_B.weight", LK_ST_F32, 2, { 3, 2 }, x } }, 2,
                         (const char *[]){ "adapter_config", config, NULL }));
    return lk_lora_file_read(path, f);
}
TEST(options_that_change_nothing_are_read) {
    static const char *const options[] = {
        "\"target_modules\": \".*to_q\", \"exclude_modules\": \"b\", \"layers_to_transform\": [0, 1], \"layers_pattern\": \"blocks\"", "\"fan_in_fan_out\": true", "\"init_lora_weights\": \"eva\", \"eva_config\": {\"rho\": 2.0}",
        "\"init_lora_weights\": \"orthogonal\"", "\"init_lora_weights\": \"mica\"", "\"init_lora_weights\": false", "\"use_bdlora\": null, \"layer_replication\": null, \"use_qalora\": false, \"target_parameters\": []",
        "\"loftq_config\": {}", "\"velora_config\": {\"num_groups\": 4}", "\"bias\": \"none\"", "\"megatron_core\": \"megatron.core\"" };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        lk_lora_file *f;
        CHECK_OK(read_with(options[i], &f));
        CHECK(f && f->n == 1 && f->part[0].alpha == 3);
        lk_lora_file_free(f);
    }
}
TEST(options_that_mean_another_adapter_are_refused) {
    static const struct { const char *option, *says; } rows[] = {
        { "\"use_qalora\": true", "use_qalora (A takes averages" }, { "\"use_bdlora\": {\"nblocks\": 2}", "use_bdlora (its factors are block-diagonal)" }, { "\"kasa_config\": {\"beta\": 1}", "kasa_config" },
        { "\"monteclora_config\": {\"a\": 1}", "monteclora_config" }, { "\"arrow_config\": {\"top_k\": 1}", "arrow_config" }, { "\"alora_invocation_tokens\": [1]", "alora_invocation_tokens" },
        { "\"trainable_token_indices\": [3]", "rows of an embedding" }, { "\"target_parameters\": [\"w\"]", "target_parameters" }, { "\"layer_replication\": [[0, 4], [2, 5]]", "it repeats layers of the base" },
        { "\"init_lora_weights\": \"pissa_niter_16\"", "the base lost its largest singular values" }, { "\"init_lora_weights\": \"olora\"", "path_initial_model_for_weight_conversion" },
        { "\"init_lora_weights\": \"corda\"", "init_lora_weights = corda" }, { "\"init_lora_weights\": \"lora_ga\"", "init_lora_weights = lora_ga" }, { "\"init_lora_weights\": \"loftq\"", "quantised by LoftQ" },
        { "\"bias\": \"some\"", "bias = 'some': expected none, all or lora_only" }, { "\"use_dora\": true", "contradict each other" }, { "\"alpha_pattern\": {\"to_q\": \"7\"}", "alpha_pattern of 'to_q' in its config is no number" },
        { "\"alpha_pattern\": {\"(?!a)to_q\": 7}", "alpha_pattern: the pattern '(?!a)to_q' is not understood" } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lk_lora_file *f;
        CHECK_FAILS(read_with(rows[i].option, &f), rows[i].says);
    }
}
TEST(patterns_match_as_pefts_do) {
    json_t *rows, *row;
    size_t i, matched = 0;
    CHECK_OK(lk_json_load("tests/golden/models/lora_kinds/patterns.json", &rows));
    json_array_foreach(rows, i, row) {
        bool met;
        const char *key = json_string_value(json_array_get(row, 0)), *module = json_string_value(json_array_get(row, 1));
        CHECK_OK(lk_lora_pattern_match(key, module, &met));
        CHECK_MSG(met == json_is_true(json_array_get(row, 2)), "'%s' and '%s': %s", key, module, met ? "match" : "do not match");
        matched += met;
    }
    CHECK(i > 100 && matched > 30 && matched < i);
    json_decref(rows);
    static const char *const no[] = { "a{2}", "(?=a)", "(?P<x>a)", "\\1", "\\bq", "[[:alpha:]]", "a*+", "(", "[a", "a\\" };
    for (i = 0; i < sizeof no / sizeof *no; i++) {
        bool met;
        CHECK_FAILS(lk_lora_pattern_match(no[i], "a", &met), "is not understood");
    }
}

/* What PEFT's bias = all or lora_only leaves in a file beside one adapted module "a.to_q" and `more`. */
static lk_err read_bias(const char *bias, const char *saved, const char *const *names, int n, lk_lora_file **f) {
    char path[512], config[512];
    float x[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
    lk_st_item items[8] = { { "base_model.model.a.to_q.lora_A.weight", LK_ST_F32, 2, { 2, 4 }, x }, { "base_model.model.a.to_q.lora_B.weight", LK_ST_F32, 2, { 3, 2 }, x } };
    for (int i = 0; i < n; i++) items[2 + i] = (lk_st_item){ names[i], LK_ST_F32, 1, { 3 }, lk_ends(names[i], ".modules_to_save.bias") && strstr(names[i], "other") ? x + 1 : x };
    snprintf(path, sizeof path, "%s/bias.safetensors", lk_test_dir());
    snprintf(config, sizeof config, "{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 3, \"bias\": \"%s\", \"modules_to_save\": %s}", bias, saved);
    CHECK_OK(lk_st_write(path, items, 2 + n, (const char *[]){ "adapter_config", config, NULL }));
    return lk_lora_file_read(path, f);
}
#define P "base_model.model."
TEST(biases_are_placed_or_refused) {
    lk_lora_file *f;
    CHECK_OK(read_bias("all", "null", (const char *[]){ P "a.to_q.base_layer.bias", P "norm.bias" }, 2, &f));
    CHECK(f->n_saved == 2 && f->saved[0].bias && f->saved[1].bias && f->biases == LK_BIASES_ALL);
    for (int i = 0; i < f->n_saved; i++) CHECK(!strcmp(f->saved[i].name, "a.to_q.bias") || !strcmp(f->saved[i].name, "norm.bias"));
    CHECK_FAILS(lk_lora_file_resolve(f, (const char *[]){ "a.to_q", "norn" }, 2), "'norm.bias' (bias) belongs to none of the model's 2 modules; the nearest is 'norn'");
    CHECK_FAILS(lk_lora_file_save(f, "never", LK_FORMAT_DIFFUSERS, false), "is the base's, trained (bias), which only format peft can hold");
    lk_lora_file_free(f);
    CHECK_OK(read_bias("all", "[\"m\"]", (const char *[]){ P "m.bias", P "m.modules_to_save.bias", P "m.original_module.bias" }, 3, &f));      /* as PEFT writes both at once */
    CHECK(f->n_saved == 1 && !f->saved[0].bias && !strcmp(f->saved[0].name, "m.bias"));
    lk_lora_file_free(f);
    CHECK_FAILS(read_bias("all", "[\"other\"]", (const char *[]){ P "other.bias", P "other.modules_to_save.bias" }, 2, &f), "other.modules_to_save.bias' should repeat 'other.bias', which differs");
    CHECK_FAILS(read_bias("all", "[\"m\"]", (const char *[]){ P "m.original_module.bias" }, 1, &f), "should repeat 'm.bias', which is missing");
    CHECK_FAILS(read_bias("lora_only", "null", (const char *[]){ P "norm.bias" }, 1, &f), "norm.bias' is no part of a LoRA");
    CHECK_FAILS(read_bias("none", "null", (const char *[]){ P "a.to_q.base_layer.bias" }, 1, &f), "a.to_q.base_layer.bias' is no part of a LoRA");
    CHECK_FAILS(read_bias("all", "null", (const char *[]){ P "norm.base_layer.bias" }, 1, &f), "norm.base_layer.bias' is no part of a LoRA");
    CHECK_FAILS(read_bias("all", "null", (const char *[]){ P "a.to_q.base_layer.bias", P "a.to_q.bias" }, 2, &f), "both give 'a.to_q.bias'");
}
