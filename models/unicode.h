/* unicode: the little of Unicode that tokenisers need: code points of UTF-8, composition (NFC, UAX #15), lower case of single
 * characters, classes \p{L} and \p{N}, white space. Tables: unicode_tables.c, generated. */
#ifndef LK_UNICODE_H
#define LK_UNICODE_H
#include "base/base.h"

typedef struct { uint32_t first, last, value; } lk_unicode_range;
typedef struct { uint32_t first, last; int step, delta; } lk_unicode_case;
typedef struct { uint32_t composed, first, second; int composes; } lk_unicode_pair;   /* second 0: a character of one part */
extern const lk_unicode_range lk_unicode_kinds[], lk_unicode_classes[];
extern const lk_unicode_case lk_unicode_lower[];
extern const lk_unicode_pair lk_unicode_pairs[];
extern const int lk_unicode_n_kinds, lk_unicode_n_classes, lk_unicode_n_lower, lk_unicode_n_pairs;

typedef struct { uint32_t *c; size_t n, cap; } lk_runes;             /* zero-initialise; free(r.c) */
void   lk_runes_add(lk_runes *, uint32_t);
/* Appends the code points of n bytes. Refuses what is not UTF-8 (overlong forms, surrogates, above U+10FFFF), naming the byte. */
lk_err lk_utf8_decode(const char *s, size_t n, lk_runes *);
void   lk_utf8_add(lk_buf *, uint32_t);                              /* appends the bytes of one code point */
void   lk_unicode_nfc(lk_runes *);                                   /* in place */
int    lk_unicode_lowercase(uint32_t, uint32_t out[2]);              /* how many: 2 only for U+0130 */
typedef enum { LK_RUNE_OTHER, LK_RUNE_LETTER, LK_RUNE_NUMBER, LK_RUNE_SPACE } lk_rune_kind;
lk_rune_kind lk_unicode_kind(uint32_t);
#endif
