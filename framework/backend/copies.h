/* Copies of bound weights: packed forms, and floats of halves that something reads as they lie. First all are given room, then their values. */
#ifndef LK_BACKEND_COPIES_H
#define LK_BACKEND_COPIES_H
#include "backend/storage.h"

typedef struct {                       /* one executor's */
    lk_graph *graph; const lk_plan *plan; const lk_backend *backend; lk_pool *pool;
    int64_t limit, taken;              /* bytes it may have; has so far, room of copies included */
    bool counted; int64_t held;        /* against the process's limit; how much of that the copies take */
    lk_block *block; int64_t at;       /* where they go */
} lk_copies;
/* Bytes of the block for those copies of the weight at this turn that are wanted and not there, where memory allows. Halves have one copy in any case, which
 * `taken` holds already; where they want more and it would not fit, they are only widened. */
int64_t lk_copies_add(lk_copies *, int turn, lk_storage *);
/* Then their values. What is read no more of the memory the weight was bound to goes back. */
void    lk_copies_fill(lk_copies *, int turn, lk_storage *);
#endif
