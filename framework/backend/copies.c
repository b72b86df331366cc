/* Which copies a bound weight gets and what is in them (copies.h). A weight's uses are the plan's. */
#include "backend/copies.h"
#include "backend/memory.h"

static bool fits(const lk_copies *c, int64_t more) { return !more || (c->taken + more <= c->limit && !(c->counted && more > lk_memory_limit_left())); }

int64_t lk_copies_add(lk_copies *c, int turn, lk_storage *s) {
    const lk_weight_use *u = &c->plan->use[turn];
    const bool halves = s->stored.as != LK_AS_F32;
    bool all = true;
    int made = 0;
    for (int i = 0; i < u->n; i++) {
        if (lk_storage_pack(s, u->form[i])) continue;
        const bool taken = halves && !s->n_packs && !s->widened;
        if (s->n_packs == LK_MAX_FORMS || !fits(c, taken ? (u->n + u->as_is - 1) * s->bytes : s->bytes)) { all = false; continue; }
        if (!taken) c->taken += s->bytes;
        s->packs[s->n_packs++] = (lk_pack){.form = u->form[i]};
        made++;
    }
    if (halves && !s->widened && (u->as_is || !all)) {
        if (s->n_packs) c->taken += s->bytes;
        s->widened = true;
        made++;
    }
    if (c->counted) { c->held += made * s->bytes; lk_memory_hold(made * s->bytes); }
    return made * lk_device_aligned(s->bytes);
}
void lk_copies_fill(lk_copies *c, int turn, lk_storage *s) {
    const lk_weight_use *u = &c->plan->use[turn];
    bool all = true;
    for (int i = 0; i < u->n; i++) {
        lk_pack *p = lk_storage_pack(s, u->form[i]);
        all &= p != NULL;
        if (!p || p->data) continue;
        *p = (lk_pack){u->form[i], c->block->data + c->at, c->block};
        c->block->refs++;
        c->at += lk_device_aligned(s->bytes);
        const lk_node *reader = lk_graph_node(c->graph, (lk_val){c->plan->node_of[u->turn[i]]});
        c->backend->pack(c->graph, reader, u->input[i], &s->stored, p->data, c->pool);
    }
    if (s->widened && !s->data) {
        lk_storage_widen(s, c->block, c->at, c->pool);
        c->at += lk_device_aligned(s->bytes);
    }
    if (s->stored.as != LK_AS_F32 || (all && !u->as_is)) lk_storage_unread(s);
}
