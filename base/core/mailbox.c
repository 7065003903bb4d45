/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages and snapshots between threads. Invariants: order of sending is order of taking; one wake-up
 * per batch, never lost; a snapshot is destroyed exactly once. Any thread may send and put; one thread
 * takes.
 */
#include "core/mailbox.h"

int pg_mailbox_init(struct pg_mailbox *m, void (*wake)(void *arg), void *arg)
{
    int r = pthread_mutex_init(&m->lock, NULL);
    if (r != 0) {
        return pg_err_from_errno(r);
    }
    pg_list_init(&m->queue);
    m->wake = wake;
    m->arg = arg;
    return 0;
}

void pg_mailbox_fini(struct pg_mailbox *m)
{
    /* Waits for a sender that is still inside its wake-up. */
    (void)pthread_mutex_lock(&m->lock);
    PG_BUG_ON(!pg_list_is_empty(&m->queue));
    (void)pthread_mutex_unlock(&m->lock);
    (void)pthread_mutex_destroy(&m->lock);
}

void pg_mailbox_send(struct pg_mailbox *m, struct pg_list *node)
{
    (void)pthread_mutex_lock(&m->lock);
    bool first = pg_list_is_empty(&m->queue);
    pg_list_push_back(&m->queue, node);
    /* Under the lock: once the reader has the node it may destroy the mailbox. */
    if (first && m->wake != NULL) {
        m->wake(m->arg);
    }
    (void)pthread_mutex_unlock(&m->lock);
}

void pg_mailbox_take(struct pg_mailbox *m, struct pg_list *out)
{
    (void)pthread_mutex_lock(&m->lock);
    if (!pg_list_is_empty(&m->queue)) {
        struct pg_list *first = m->queue.next;
        struct pg_list *last = m->queue.prev;
        first->prev = out->prev;
        out->prev->next = first;
        last->next = out;
        out->prev = last;
        pg_list_init(&m->queue);
    }
    (void)pthread_mutex_unlock(&m->lock);
}

void pg_snap_init(struct pg_snap *s, void (*destroy)(struct pg_snap *s))
{
    atomic_init(&s->refs, 1);
    s->destroy = destroy;
}

struct pg_snap *pg_snap_ref(struct pg_snap *s)
{
    if (s != NULL) {
        unsigned before = atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
        PG_BUG_ON(before == 0);
    }
    return s;
}

void pg_snap_unref(struct pg_snap *s)
{
    if (s == NULL) {
        return;
    }
    unsigned before = atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel);
    PG_BUG_ON(before == 0);
    if (before == 1) {
        s->destroy(s);
    }
}

void pg_slot_put(struct pg_slot *slot, struct pg_snap *s)
{
    struct pg_snap *old = atomic_exchange_explicit(&slot->ptr, pg_snap_ref(s), memory_order_acq_rel);
    pg_snap_unref(old);
}

struct pg_snap *pg_slot_take(struct pg_slot *slot)
{
    /* The load spares the exchange, and its cache line, on every turn without news. */
    if (atomic_load_explicit(&slot->ptr, memory_order_relaxed) == NULL) {
        return NULL;
    }
    return atomic_exchange_explicit(&slot->ptr, NULL, memory_order_acq_rel);
}
