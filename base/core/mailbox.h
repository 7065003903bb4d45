/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between threads only messages and snapshots. A mailbox takes intrusive nodes from any thread and gives
 * them to its one reader in order; the wake-up carries no data and coalesces. A slot holds the newest
 * immutable snapshot for one reader: latest wins. See docs/ARCHITECTURE.md, "Threads".
 */
#ifndef ISTHMUS_CORE_MAILBOX_H
#define ISTHMUS_CORE_MAILBOX_H

#include "core/list.h"

#include <pthread.h>
#include <stdatomic.h>

struct pg_mailbox {
    pthread_mutex_t lock;
    struct pg_list queue;
    void (*wake)(void *arg); /* any thread, under the lock: must not call the mailbox; NULL is fine */
    void *arg;
};
int pg_mailbox_init(struct pg_mailbox *m, void (*wake)(void *arg), void *arg) PG_MUST_CHECK;
void pg_mailbox_fini(struct pg_mailbox *m); /* must be empty */
/* Any thread. The node belongs to the mailbox until taken. */
void pg_mailbox_send(struct pg_mailbox *m, struct pg_list *node);
/* Reader: moves everything queued onto `out` (an initialised list). */
void pg_mailbox_take(struct pg_mailbox *m, struct pg_list *out);

/* A snapshot is shared and immutable; the last reference calls `destroy` on whatever thread drops it. */
struct pg_snap {
    atomic_uint refs; /* starts at 1 */
    void (*destroy)(struct pg_snap *s);
};
void pg_snap_init(struct pg_snap *s, void (*destroy)(struct pg_snap *s));
struct pg_snap *pg_snap_ref(struct pg_snap *s);
void pg_snap_unref(struct pg_snap *s); /* NULL is fine */

struct pg_slot {
    _Atomic(struct pg_snap *) ptr;
};
/* Publisher: the slot takes its own reference; an untaken older snapshot is dropped. */
void pg_slot_put(struct pg_slot *slot, struct pg_snap *s);
/* Reader: takes over the slot's reference, or NULL when nothing new came. */
struct pg_snap *pg_slot_take(struct pg_slot *slot);

#endif
