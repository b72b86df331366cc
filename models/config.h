/* config: reading a checkpoint's config.json strictly. Private to models/.
 *
 * Each class has a table of rules, one row a key. A row without `allowed` is read by the loader or cannot change the
 * result; a row with it names the only values the builder implements, as JSON texts separated by '|'. A key in no row is
 * refused with the nearest known key unless it is null or begins with '_'. */
#ifndef LK_MODELS_CONFIG_H
#define LK_MODELS_CONFIG_H
#include "models/models.h"

typedef struct { const char *key, *allowed; } lk_config_rule;   /* a table ends with a NULL key */
/* Loads, checks the class (absent class names pass) and the rules (NULL: none). `classes`: NULL-ended. */
lk_err lk_config_open(const char *path, const char *const *classes, const lk_config_rule *, json_t **out);
lk_err lk_config_allow(const json_t *, const char *path, const lk_config_rule *);   /* only the rows with `allowed`; unknown keys pass */
lk_err lk_config_count(const json_t *, const char *key, const char *path, int64_t dflt, int64_t lo, int64_t hi, int64_t *out);
/* Length of the list `key`, 1..max. */
lk_err lk_config_length(const json_t *, const char *key, const char *path, int max, int *out);
/* A list of exactly n words, each from the NULL-ended table; out: their rows. */
lk_err lk_config_words(const json_t *, const char *key, const char *path, const char *const *table, int n, int *out);
/* A list or a number repeated to n, every value within lo..hi. */
lk_err lk_config_counts(const json_t *, const char *key, const char *path, int64_t dflt, int n, int64_t lo, int64_t hi, int64_t *out);
lk_err lk_config_act(const json_t *, const char *key, const char *path, const char *dflt, lk_act *out);
lk_err lk_config_divides(const char *path, const char *what, int64_t whole, const char *by, int64_t part);
#endif
