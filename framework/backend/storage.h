/* Memory of leaves, counted by reference: an executor's own, the caller's, or part of a block on a device. */
#ifndef LK_BACKEND_STORAGE_H
#define LK_BACKEND_STORAGE_H
#include "backend/backend.h"

enum { LK_DEVICE_ALIGN = 256 };
static inline int64_t lk_device_aligned(int64_t bytes) { return (bytes + LK_DEVICE_ALIGN - 1) / LK_DEVICE_ALIGN * LK_DEVICE_ALIGN; }

/* One allocation; what lies in it keeps it alive. On the host (device NULL) it is zeros and never fails. */
typedef struct { const lk_device *device; char *data; int64_t bytes; int refs; void *base; } lk_block;
lk_err lk_block_new(const lk_device *, int64_t bytes, lk_block **);
void   lk_block_release(lk_block *);                /* NULL is allowed */

typedef struct { int form; void *data; lk_block *block; } lk_pack;
typedef struct lk_storage {
    void *data; int64_t bytes; int refs;            /* as the backend reads it; NULL: halves that nothing reads unpacked */
    bool borrowed;                                  /* the caller's memory, or a copy of it on a device: never written */
    lk_stored stored; bool widened;                 /* what was bound on the host; data is its halves as floats, in block */
    int n_packs; lk_pack packs[LK_MAX_FORMS];
    lk_block *block;                                /* holds data; NULL: memory of its own, or borrowed */
    const void *source; struct lk_storage *next;    /* of a device's copies: what it was copied from */
} lk_storage;
lk_storage *lk_storage_new(int64_t bytes);                                     /* zeros on the host */
lk_storage *lk_storage_borrowed(lk_stored, int64_t bytes);                     /* bytes: of its floats */
void        lk_storage_widen(lk_storage *, lk_block *, int64_t offset, lk_pool *);   /* data: its halves as floats */
int         lk_storage_copies(const lk_storage *);                             /* of what was bound, in floats; halves will have one */
uint16_t    lk_storage_bf16(float);                                            /* the upper half of a binary32, rounded to nearest even */
void        lk_storage_unread(const lk_storage *);                             /* nothing reads what was bound until it is packed anew: pages of a file go back */
lk_storage *lk_storage_in(lk_block *, int64_t offset, int64_t bytes);          /* part of a block */
lk_storage *lk_storage_copy_of(const lk_device *, const void *source, int64_t bytes);   /* one more reference to a copy that is there; NULL: none is */
void        lk_storage_is_copy(lk_storage *, const void *source);
lk_pack    *lk_storage_pack(lk_storage *, int form);                           /* NULL: not packed so */
void        lk_storage_release(lk_storage *);       /* NULL is allowed */
#endif
