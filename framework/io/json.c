/* JSON, by jansson, with our errors: file, line and column for text, `where.key` for a member of the
 * wrong type. Duplicate keys are refused, since the later one silently wins elsewhere. jansson itself
 * limits nesting (2048) and refuses text that is not UTF-8 and the NUL character in strings. */
#include "io/io.h"
#include <math.h>
#include <string.h>

enum { READ_FLAGS = JSON_REJECT_DUPLICATES };

lk_err lk_json_parse(const char *text, size_t n, const char *where, json_t **out) {
    json_error_t at;
    *out = json_loadb(text, n, READ_FLAGS, &at);
    if (*out) return LK_OK;
    return lk_error(LK_EINPUT, "%s:%d:%d: not valid JSON (byte %d of %zu): %s", where, at.line, at.column, at.position, n, at.text);
}
lk_err lk_json_load(const char *path, json_t **out) {
    *out = NULL;
    char *text; size_t n;
    LK_TRY(lk_read_file(path, &text, &n));
    lk_err e = lk_json_parse(text, n, path, out);
    free(text);
    return e;
}

static const char *const type_names[] = {
    [JSON_OBJECT] = "an object", [JSON_ARRAY] = "a list", [JSON_STRING] = "text", [JSON_INTEGER] = "an integer",
    [JSON_REAL] = "a real number", [JSON_TRUE] = "true", [JSON_FALSE] = "false", [JSON_NULL] = "null",
};
static lk_err wrong_type(const char *where, const char *key, const char *wanted, const json_t *found) {
    char *text = lk_json_text(found);
    lk_err e = lk_error(LK_EINPUT, "%s.%s: expected %s, found %s: %.60s%s", where, key, wanted, type_names[json_typeof(found)], text,
                        strlen(text) > 60 ? "..." : "");
    free(text);
    return e;
}
/* The member, or NULL when absent or null; `obj` itself must be an object. */
static lk_err member(const json_t *obj, const char *key, const char *where, const json_t **out) {
    if (!json_is_object(obj))
        return lk_error(LK_EINPUT, "%s: expected an object with a key \"%s\", found %s", where, key, obj ? type_names[json_typeof(obj)] : "nothing");
    const json_t *v = json_object_get(obj, key);
    *out = json_is_null(v) ? NULL : v;
    return LK_OK;
}
/* An integer, also when written as a real without a fraction (8.0), as some exporters do. */
static bool whole(const json_t *v, int64_t *out) {
    if (json_is_integer(v)) { *out = json_integer_value(v); return true; }
    if (!json_is_real(v)) return false;
    double x = json_real_value(v);
    if (!(fabs(x) <= 9007199254740992.0) || x != (double)(int64_t)x) return false;
    *out = (int64_t)x;
    return true;
}
lk_err lk_json_int(const json_t *obj, const char *key, const char *where, int64_t dflt, int64_t *out) {
    const json_t *v;
    *out = dflt;
    LK_TRY(member(obj, key, where, &v));
    return !v || whole(v, out) ? LK_OK : wrong_type(where, key, "an integer", v);
}
lk_err lk_json_real(const json_t *obj, const char *key, const char *where, double dflt, double *out) {
    const json_t *v;
    *out = dflt;
    LK_TRY(member(obj, key, where, &v));
    if (!v) return LK_OK;
    if (!json_is_number(v)) return wrong_type(where, key, "a number", v);
    *out = json_number_value(v);
    return LK_OK;
}
lk_err lk_json_bool(const json_t *obj, const char *key, const char *where, bool dflt, bool *out) {
    const json_t *v;
    *out = dflt;
    LK_TRY(member(obj, key, where, &v));
    if (!v) return LK_OK;
    if (!json_is_boolean(v)) return wrong_type(where, key, "true or false", v);
    *out = json_is_true(v);
    return LK_OK;
}
lk_err lk_json_str(const json_t *obj, const char *key, const char *where, const char *dflt, const char **out) {
    const json_t *v;
    *out = dflt;
    LK_TRY(member(obj, key, where, &v));
    if (!v) return LK_OK;
    if (!json_is_string(v)) return wrong_type(where, key, "text", v);
    *out = json_string_value(v);
    return LK_OK;
}
lk_err lk_json_ints(const json_t *obj, const char *key, const char *where, int64_t dflt, int n, int64_t *out) {
    const json_t *v;
    for (int i = 0; i < n; i++) out[i] = dflt;
    LK_TRY(member(obj, key, where, &v));
    if (!v) return LK_OK;
    int64_t one;
    if (whole(v, &one)) {
        for (int i = 0; i < n; i++) out[i] = one;
        return LK_OK;
    }
    if (!json_is_array(v)) return wrong_type(where, key, "an integer or a list of integers", v);
    if (json_array_size(v) != (size_t)n)
        return lk_error(LK_EINPUT, "%s.%s: expected %d entries, found %zu", where, key, n, json_array_size(v));
    for (int i = 0; i < n; i++)
        if (!whole(json_array_get(v, (size_t)i), &out[i])) return wrong_type(where, key, "a list of integers", v);
    return LK_OK;
}

char *lk_json_text(const json_t *v) {
    char *s = json_dumps(v, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    return s ? s : lk_xstrdup("(cannot be written as JSON)");
}
lk_err lk_json_save(const json_t *v, const char *path) {
    char *s = json_dumps(v, JSON_INDENT(2) | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
    if (!s) return lk_error(LK_ESTATE, "%s: a value cannot be written as JSON", path);
    lk_buf b = {0};
    lk_buf_fmt(&b, "%s\n", s);
    free(s);
    lk_err e = lk_write_file_atomic(path, b.s, b.n);
    free(b.s);
    return e;
}
