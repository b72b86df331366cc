/* JSON: what is accepted, written and read again is equal; the typed getters take anything. */
#include "tests/fuzz/fuzz.h"
#include "io/io.h"

const char fuzz_name[] = "x.json";
void fuzz_seeds(fuzz_add add, const char *dir) {
    (void)dir;
    static const char *const seeds[] = {
        "{\"_class_name\": \"UNet2DConditionModel\", \"attention_head_dim\": [5, 10, 20], \"sample_size\": 64, \"norm_eps\": 1e-05, \"dropout\": 0.0, \"act_fn\": \"silu\", \"dual\": null, \"flip\": true}",
        "{\"weight_map\": {\"a\": \"m-1.safetensors\", \"b\": \"m-2.safetensors\"}}", "[1, -2.5, \"\\u00e9\\ud83d\\ude00\", [], {}]",
        "{\"a\": {\"b\": {\"c\": [[[1]]]}}}", "{\"e\": 1E+2, \"n\": -0, \"s\": \"\\n\\t\\\\\\\"\"}"};
    for (size_t i = 0; i < sizeof seeds / sizeof seeds[0]; i++) add(seeds[i], strlen(seeds[i]));
}
void fuzz_mend(unsigned char *s, size_t n) { (void)s; (void)n; }
bool fuzz_one(const char *path, const unsigned char *bytes, size_t n) {
    json_t *j, *again;
    if (fuzz_refused(lk_json_load(path, &j), fuzz_name)) { PROMISE(!j); fuzz_refused(lk_json_parse((const char *)bytes, n, fuzz_name, &j), fuzz_name); return false; }
    static const char *const keys[] = {"attention_head_dim", "sample_size", "norm_eps", "flip", "act_fn", "weight_map", "a"};
    for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) {
        int64_t i[3]; double r; bool b; const char *s;
        fuzz_refused(lk_json_int(j, keys[k], fuzz_name, 0, i), fuzz_name);
        fuzz_refused(lk_json_ints(j, keys[k], fuzz_name, 0, 3, i), fuzz_name);
        fuzz_refused(lk_json_real(j, keys[k], fuzz_name, 0, &r), fuzz_name);
        fuzz_refused(lk_json_bool(j, keys[k], fuzz_name, 0, &b), fuzz_name);
        fuzz_refused(lk_json_str(j, keys[k], fuzz_name, 0, &s), fuzz_name);
    }
    char *text = lk_json_text(j);
    PROMISE(!lk_json_parse(text, strlen(text), "again", &again) && json_equal(j, again));
    free(text);
    json_decref(j); json_decref(again);
    return true;
}
