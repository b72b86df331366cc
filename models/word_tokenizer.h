/* A word tokeniser for a closed caption vocabulary, with reserved tokens for people. It stands beside the zoo's text model as
 * tokenizer.json and tokenizer_config.json, which transformers' PreTrainedTokenizerFast loads. A comma is a word of its own. */
#ifndef LK_WORD_TOKENIZER_H
#define LK_WORD_TOKENIZER_H
#include "io/io.h"

typedef struct lk_word_tokenizer lk_word_tokenizer;
enum { LK_TOKEN_PAD = 0, LK_TOKEN_BOS = 1, LK_TOKEN_EOS = 3 };      /* 2 stays unused: transformers gives the end id 2 another meaning */
/* Ids: <pad> <bos> <unused> <eos>, then the words sorted, then the reserved tokens in the order given. */
lk_word_tokenizer *lk_word_tokenizer_new(const char *const *texts, int n, const char *const *reserved, int n_reserved);
lk_err lk_word_tokenizer_load(const char *directory, lk_word_tokenizer **);
lk_err lk_word_tokenizer_save(const lk_word_tokenizer *, const char *directory, int length);
void   lk_word_tokenizer_free(lk_word_tokenizer *);
int    lk_word_tokenizer_count(const lk_word_tokenizer *);
int    lk_word_tokenizer_id(const lk_word_tokenizer *, const char *word);     /* -1 if unknown */
/* <bos> words <eos> <pad>... to `length` ids. An unknown word is refused with the nearest; so is a text that is too long. */
lk_err lk_word_tokenizer_encode(const lk_word_tokenizer *, const char *text, int length, int64_t *ids);
#endif
