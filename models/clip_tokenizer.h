/* CLIP's byte-pair tokeniser (Radford et al. 2021; BPE: Sennrich et al. 2016, arXiv:1508.07909) from the user's own vocab.json and
 * merges.txt. Ids equal those of transformers' CLIPTokenizer: composition (NFC), white space to one blank, lower case, pieces by CLIP's
 * pattern, bytes as printable characters, merges by rank, "</w>" at a piece's end. */
#ifndef LK_CLIP_TOKENIZER_H
#define LK_CLIP_TOKENIZER_H
#include "io/io.h"

typedef struct lk_clip_tokenizer lk_clip_tokenizer;
/* pad: the padding token's text; NULL: <|endoftext|>, as SD 1.5 (SDXL's second tokeniser pads with "!"). Both files are read whole. Refused:
 * ids that are no integers, negative or used twice, a merge that is not two tokens or whose result the vocabulary lacks, missing end tokens. */
lk_err lk_clip_tokenizer_load(const char *vocab_json, const char *merges_txt, const char *pad, lk_clip_tokenizer **);
/* vocab.json and merges.txt of a directory, the padding token from its special_tokens_map.json where there is one. */
lk_err lk_clip_tokenizer_open(const char *directory, lk_clip_tokenizer **);
void   lk_clip_tokenizer_free(lk_clip_tokenizer *);
int    lk_clip_tokenizer_count(const lk_clip_tokenizer *);
int64_t lk_clip_tokenizer_id(const lk_clip_tokenizer *, const char *token);        /* -1 if unknown */
/* <|startoftext|> pieces <|endoftext|> padding: exactly `length` (>= 2) ids. What is too long is cut before the end token. The text must be
 * UTF-8; n bytes, may hold any control character. used: how many ids are not padding (may be NULL). */
lk_err lk_clip_tokenize(const lk_clip_tokenizer *, const char *text, size_t n, int length, int64_t *ids, int *used);
#endif
