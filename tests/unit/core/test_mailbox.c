/* SPDX-License-Identifier: Apache-2.0 */
/* Mailbox and slot between real threads; run under TSan as well. */
#include "core/mailbox.h"
#include "core/mem.h"
#include "testlib.h"

#include <sched.h>
#include <semaphore.h>

enum { SENDERS = 4, PER_SENDER = 5000 };

struct msg {
    struct pg_list link;
    int sender;
    int n;
};

struct box {
    struct pg_mailbox m;
    sem_t woken;
    atomic_int wakes;
};

static void wake(void *arg)
{
    struct box *b = arg;
    atomic_fetch_add(&b->wakes, 1);
    sem_post(&b->woken);
}

static void single_thread(void)
{
    struct box b = {0};
    struct pg_list out;
    struct msg msgs[3] = {{.n = 0}, {.n = 1}, {.n = 2}};
    sem_init(&b.woken, 0, 0);
    CU_ASSERT_EQUAL(pg_mailbox_init(&b.m, wake, &b), 0);
    pg_list_init(&out);
    pg_mailbox_take(&b.m, &out);
    CU_ASSERT(pg_list_is_empty(&out));
    pg_mailbox_send(&b.m, &msgs[0].link);
    pg_mailbox_send(&b.m, &msgs[1].link);
    CU_ASSERT_EQUAL(b.wakes, 1); /* coalesced */
    pg_mailbox_take(&b.m, &out);
    pg_mailbox_send(&b.m, &msgs[2].link);
    CU_ASSERT_EQUAL(b.wakes, 2);
    pg_mailbox_take(&b.m, &out); /* appends */
    for (int i = 0; i < 3; i++) {
        CU_ASSERT_PTR_EQUAL(pg_list_pop(&out), &msgs[i].link);
    }
    CU_ASSERT(pg_list_is_empty(&out));
    pg_mailbox_fini(&b.m);
    sem_destroy(&b.woken);
}

struct sender {
    struct box *box;
    struct msg *msgs;
    int id;
};

static void *send_all(void *arg)
{
    struct sender *s = arg;
    for (int i = 0; i < PER_SENDER; i++) {
        s->msgs[i] = (struct msg){.sender = s->id, .n = i};
        pg_mailbox_send(&s->box->m, &s->msgs[i].link);
    }
    return NULL;
}

static void many_senders(void)
{
    struct box b = {0};
    struct sender senders[SENDERS];
    pthread_t threads[SENDERS];
    int next[SENDERS] = {0};
    int got = 0;
    int batches = 0;
    sem_init(&b.woken, 0, 0);
    CU_ASSERT_EQUAL(pg_mailbox_init(&b.m, wake, &b), 0);
    for (int i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){.box = &b, .msgs = pg_calloc(PER_SENDER, sizeof(struct msg)), .id = i};
        CU_ASSERT_FATAL(senders[i].msgs != NULL);
        CU_ASSERT_FATAL(pthread_create(&threads[i], NULL, send_all, &senders[i]) == 0);
    }
    /* Only a wake-up lets the reader look: a lost one would hang and meet the test's time limit. */
    while (got < SENDERS * PER_SENDER) {
        struct pg_list out;
        struct pg_list *l;
        while (sem_wait(&b.woken) != 0) {
        }
        pg_list_init(&out);
        pg_mailbox_take(&b.m, &out);
        batches++;
        while ((l = pg_list_pop(&out)) != NULL) {
            struct msg *m = PG_CONTAINER_OF(l, struct msg, link);
            CU_ASSERT_EQUAL(m->n, next[m->sender]);
            next[m->sender]++;
            got++;
        }
    }
    for (int i = 0; i < SENDERS; i++) {
        pthread_join(threads[i], NULL);
        pg_free(senders[i].msgs);
    }
    CU_ASSERT_EQUAL(atomic_load(&b.wakes), batches);
    pg_mailbox_fini(&b.m);
    sem_destroy(&b.woken);
}

static atomic_int alive;

struct table {
    struct pg_snap snap;
    int version;
    int twice; /* always 2 * version: shows a torn read */
};

static void table_destroy(struct pg_snap *s)
{
    atomic_fetch_sub(&alive, 1);
    pg_free(PG_CONTAINER_OF(s, struct table, snap));
}

static struct table *table_new(int version)
{
    struct table *t = pg_malloc(sizeof(*t));
    CU_ASSERT_FATAL(t != NULL);
    pg_snap_init(&t->snap, table_destroy);
    t->version = version;
    t->twice = 2 * version;
    atomic_fetch_add(&alive, 1);
    return t;
}

static void slot_latest_wins(void)
{
    struct pg_slot slot = {NULL};
    CU_ASSERT_PTR_NULL(pg_slot_take(&slot));
    struct table *a = table_new(1);
    struct table *b = table_new(2);
    pg_slot_put(&slot, &a->snap);
    pg_snap_unref(&a->snap);
    CU_ASSERT_EQUAL(atomic_load(&alive), 2);
    pg_slot_put(&slot, &b->snap);
    CU_ASSERT_EQUAL(atomic_load(&alive), 1); /* the untaken one is gone */
    struct pg_snap *got = pg_slot_take(&slot);
    CU_ASSERT_PTR_EQUAL(got, &b->snap);
    CU_ASSERT_PTR_NULL(pg_slot_take(&slot));
    pg_snap_unref(&b->snap);
    CU_ASSERT_EQUAL(atomic_load(&alive), 1);
    pg_slot_put(&slot, got);
    pg_slot_put(&slot, NULL); /* empties it */
    CU_ASSERT_PTR_NULL(pg_slot_take(&slot));
    pg_snap_unref(got);
    pg_snap_unref(NULL);
    CU_ASSERT_EQUAL(atomic_load(&alive), 0);
}

enum { READERS = 2, VERSIONS = 5000 };

static void *read_versions(void *arg)
{
    struct pg_slot *slot = arg;
    int last = 0;
    while (last < VERSIONS) {
        struct pg_snap *s = pg_slot_take(slot);
        if (s == NULL) {
            sched_yield();
            continue;
        }
        struct table *t = PG_CONTAINER_OF(s, struct table, snap);
        CU_ASSERT(t->version > last);
        CU_ASSERT_EQUAL(t->twice, 2 * t->version);
        last = t->version;
        pg_snap_unref(s);
    }
    return NULL;
}

static void slots_between_threads(void)
{
    struct pg_slot slots[READERS] = {{NULL}, {NULL}};
    pthread_t readers[READERS];
    for (int i = 0; i < READERS; i++) {
        CU_ASSERT_FATAL(pthread_create(&readers[i], NULL, read_versions, &slots[i]) == 0);
    }
    for (int v = 1; v <= VERSIONS; v++) {
        struct table *t = table_new(v);
        for (int i = 0; i < READERS; i++) {
            pg_slot_put(&slots[i], &t->snap);
        }
        pg_snap_unref(&t->snap);
    }
    for (int i = 0; i < READERS; i++) {
        pthread_join(readers[i], NULL);
    }
    CU_ASSERT_EQUAL(atomic_load(&alive), 0);
}

TEST_MAIN("mailbox", {"single thread", single_thread}, {"many senders", many_senders},
          {"slot: latest wins", slot_latest_wins}, {"slots between threads", slots_between_threads})
