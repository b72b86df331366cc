/* Storage of leaves. Leaves that change, packed weights and all leaves of a device are parts of few large blocks, which the kernel backs
 * with large pages. On a device a frozen weight bound by several executors is copied once: the copies of a process are listed by the host
 * memory they came from, which lives as long as they do. */
#include "backend/storage.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

lk_err lk_block_new(const lk_device *d, int64_t bytes, lk_block **out) {
    void *data, *base = NULL;
    if (d) LK_TRY(d->alloc(bytes, &data));
    else data = lk_xzeros((size_t)bytes, &base);
    *out = lk_xcalloc(1, sizeof **out);
    **out = (lk_block){d, data, bytes, 1, base};
    return LK_OK;
}
void lk_block_release(lk_block *b) {
    if (!b || --b->refs > 0) return;
    if (b->device) b->device->release(b->data);
    free(b->base);
    free(b);
}

lk_storage *lk_storage_new(int64_t bytes) {
    lk_storage *s = lk_xcalloc(1, sizeof *s);
    *s = (lk_storage){.data = lk_xaligned((size_t)(bytes ? bytes : 1)), .bytes = bytes, .refs = 1};
    memset(s->data, 0, (size_t)(bytes ? bytes : 1));
    return s;
}
lk_storage *lk_storage_borrowed(lk_stored w, int64_t bytes) {
    lk_storage *s = lk_xcalloc(1, sizeof *s);
    *s = (lk_storage){.bytes = bytes, .refs = 1, .borrowed = true, .stored = w};
    if (w.as == LK_AS_F32) s->data = (void *)(uintptr_t)w.data;        /* never written: bind refuses what an effect writes */
    return s;
}

enum { WIDENED_AT_ONCE = 65536 };
static void widen_pieces(void *ctx, int64_t begin, int64_t end, int thread) {
    const lk_storage *s = ctx; (void)thread;
    const int64_t n = s->bytes / 4;
    for (int64_t i = begin * WIDENED_AT_ONCE; i < end * WIDENED_AT_ONCE && i < n; i += WIDENED_AT_ONCE)
        lk_widen_halves((float *)s->data + i, (const uint16_t *)s->stored.data + i, n - i < WIDENED_AT_ONCE ? n - i : WIDENED_AT_ONCE, s->stored.as);
}
void lk_storage_widen(lk_storage *s, lk_block *b, int64_t offset, lk_pool *pool) {
    s->data = b->data + offset;
    s->block = b;
    b->refs++;
    lk_parallel(pool, (s->bytes / 4 + WIDENED_AT_ONCE - 1) / WIDENED_AT_ONCE, 1, widen_pieces, s);
}
void lk_storage_unread(const lk_storage *s) {
    if (!s->stored.mapped) return;
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)s->stored.data, to = from + (uintptr_t)s->bytes / (s->stored.as == LK_AS_F32 ? 1 : 2);
    const uintptr_t first = (from + page - 1) / page * page, last = to / page * page;      /* whole pages: a page's ends may be a neighbour's */
    if (first < last) madvise((void *)first, last - first, MADV_DONTNEED);                 /* a hint: what reads it later gets it from the file again */
}
lk_storage *lk_storage_in(lk_block *b, int64_t offset, int64_t bytes) {
    lk_storage *s = lk_xcalloc(1, sizeof *s);
    *s = (lk_storage){.data = b->data + offset, .bytes = bytes, .refs = 1, .block = b};
    b->refs++;
    return s;
}

int lk_storage_copies(const lk_storage *s) {
    int made = s->n_packs + s->widened;
    return made || s->stored.as == LK_AS_F32 ? made : 1;
}
uint16_t lk_storage_bf16(float x) {
    uint32_t u = lk_bits_of(x);
    return x != x ? 0x7fc0 : (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static lk_storage *copies;
lk_storage *lk_storage_copy_of(const lk_device *d, const void *source, int64_t bytes) {
    for (lk_storage *s = copies; s; s = s->next)
        if (s->source == source && s->bytes == bytes && s->block->device == d) { s->refs++; return s; }
    return NULL;
}
void lk_storage_is_copy(lk_storage *s, const void *source) {
    s->borrowed = true; s->source = source; s->next = copies;
    copies = s;
}
static void unlist(lk_storage *s) {
    lk_storage **at = &copies;
    while (*at != s) at = &(*at)->next;
    *at = s->next;
}
lk_pack *lk_storage_pack(lk_storage *s, int form) {
    for (int i = 0; i < s->n_packs; i++) if (s->packs[i].form == form) return &s->packs[i];
    return NULL;
}
void lk_storage_release(lk_storage *s) {
    if (!s || --s->refs > 0) return;
    if (s->source) unlist(s);
    for (int i = 0; i < s->n_packs; i++) lk_block_release(s->packs[i].block);
    if (s->block) lk_block_release(s->block);
    else if (!s->borrowed) free(s->data);
    free(s);
}

bool lk_takes_bf16(const lk_graph *g, const lk_node *n, int input) {
    const int b = n->op == LK_OP_matmul_add ? 2 : 1;
    if (input != b || !lk_numel(n->shape)) return false;
    const lk_conv *c = &n->attr.conv;
    const bool one_group = c->groups <= 1, unit = c->stride[0] <= 1 && c->stride[1] <= 1;
    if (n->op == LK_OP_matmul || n->op == LK_OP_matmul_add) return lk_shape_of(g, n->in[b]).rank == 2 && !n->attr.matmul.ta;
    return (n->op == LK_OP_conv2d && one_group) || (n->op == LK_OP_conv2d_dx && one_group && unit);
}
