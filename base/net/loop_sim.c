/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop with virtual time, for tests: everything that depends on time or order is exact and takes no
 * real time. Same phases as loop_ev.c: asyncs -> timers -> deferred. Loop thread, except pg_async_send.
 */
#include "net/loop_sim.h"

#include "core/mem.h"
#include "net/timers.h"

#include <signal.h>
#include <stdatomic.h>

#define SETTLE_MAX 1000u

struct pg_loop {
    uint64_t now;
    struct pg_timers heap;
    struct pg_list deferred;
    struct pg_list asyncs;
    bool in_turn;
    bool stop;
};
struct pg_io {
    struct pg_loop *loop;
    struct pg_defer dead;
};
struct pg_async {
    struct pg_list node;
    struct pg_loop *loop;
    atomic_bool sent;
    void (*cb)(void *arg);
    void *arg;
    struct pg_defer dead;
};
struct pg_signal {
    struct pg_loop *loop;
    struct pg_defer dead;
};

struct pg_timers *pg_loop_timers(struct pg_loop *l)
{
    return &l->heap;
}

uint64_t pg_loop_timer_base(struct pg_loop *l)
{
    return l->now;
}

int pg_loop_new(struct pg_loop **out)
{
    struct pg_loop *l = pg_calloc(1, sizeof(*l));
    if (l == NULL) {
        return PG_E_NOMEM;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    l->now = 1000000;
    pg_timers_init(&l->heap);
    pg_list_init(&l->deferred);
    pg_list_init(&l->asyncs);
    *out = l;
    return 0;
}

static void run_deferred(struct pg_loop *l)
{
    struct pg_list todo;
    if (pg_list_is_empty(&l->deferred)) {
        return;
    }
    todo = l->deferred;
    todo.next->prev = &todo;
    todo.prev->next = &todo;
    pg_list_init(&l->deferred);
    for (struct pg_list *n = pg_list_pop(&todo); n != NULL; n = pg_list_pop(&todo)) {
        struct pg_defer *d = PG_CONTAINER_OF(n, struct pg_defer, node);
        d->cb(d);
    }
}

void pg_loop_free(struct pg_loop *l)
{
    if (l == NULL) {
        return;
    }
    while (!pg_list_is_empty(&l->deferred)) {
        run_deferred(l);
    }
    PG_BUG_ON(!pg_list_is_empty(&l->asyncs));
    pg_timers_fini(&l->heap);
    pg_free(l);
}

static bool async_sent(const struct pg_loop *l)
{
    PG_LIST_FOREACH(&l->asyncs, n)
    {
        if (atomic_load(&PG_CONTAINER_OF(n, struct pg_async, node)->sent)) {
            return true;
        }
    }
    return false;
}

/* A callback may free any async, so the walk starts over after each call; `sent` is cleared before it. */
static void run_asyncs(struct pg_loop *l)
{
    size_t budget = 0;
    PG_LIST_FOREACH(&l->asyncs, counted)
    {
        budget++;
        (void)counted;
    }
    while (budget-- > 0) {
        struct pg_async *due = NULL;
        PG_LIST_FOREACH(&l->asyncs, n)
        {
            struct pg_async *a = PG_CONTAINER_OF(n, struct pg_async, node);
            if (due == NULL && atomic_exchange(&a->sent, false)) {
                due = a;
            }
        }
        if (due == NULL) {
            return;
        }
        due->cb(due->arg);
    }
}

static bool queued(const struct pg_loop *l)
{
    return !pg_list_is_empty(&l->deferred) || async_sent(l);
}

void pg_loop_turn(struct pg_loop *l, bool wait)
{
    uint64_t next = pg_timers_next(&l->heap);
    PG_BUG_ON(l->in_turn);
    if (wait && next != UINT64_MAX && next > l->now && !queued(l)) {
        l->now = next;
    }
    l->in_turn = true;
    run_asyncs(l);
    pg_timers_run(&l->heap, l->now);
    run_deferred(l);
    l->in_turn = false;
}

void pg_loop_run(struct pg_loop *l)
{
    while (!l->stop && (queued(l) || pg_timers_next(&l->heap) != UINT64_MAX)) {
        pg_loop_turn(l, true);
    }
    l->stop = false;
}

void pg_loop_stop(struct pg_loop *l)
{
    l->stop = true;
}

bool pg_loop_sim_settle(struct pg_loop *l, unsigned max)
{
    for (unsigned i = 0; i < max; i++) {
        if (!queued(l) && pg_timers_next(&l->heap) > l->now) {
            return true;
        }
        pg_loop_turn(l, false);
    }
    return !queued(l);
}

void pg_loop_sim_advance(struct pg_loop *l, uint64_t ms)
{
    uint64_t end = l->now + ms;
    (void)pg_loop_sim_settle(l, SETTLE_MAX);
    for (uint64_t next = pg_timers_next(&l->heap); next <= end; next = pg_timers_next(&l->heap)) {
        if (next > l->now) {
            l->now = next;
        }
        (void)pg_loop_sim_settle(l, SETTLE_MAX);
        if (pg_timers_next(&l->heap) <= l->now) { /* a timer that starts itself with no delay */
            if (l->now >= end) {
                break;
            }
            l->now++;
        }
    }
    l->now = end;
}

uint64_t pg_loop_now_ms(const struct pg_loop *l)
{
    return l->now;
}

int pg_loop_fd(struct pg_loop *l)
{
    (void)l;
    return PG_E_UNSUPPORTED;
}

static void io_release(struct pg_defer *d)
{
    pg_free(PG_CONTAINER_OF(d, struct pg_io, dead));
}

int pg_io_new(struct pg_loop *l, int fd, void (*cb)(void *arg, unsigned rw), void *arg, struct pg_io **out)
{
    struct pg_io *io = pg_calloc(1, sizeof(*io));
    (void)fd;
    (void)cb;
    (void)arg;
    if (io == NULL) {
        return PG_E_NOMEM;
    }
    io->loop = l;
    io->dead.cb = io_release;
    *out = io;
    return 0;
}

void pg_io_want(struct pg_io *io, unsigned rw)
{
    (void)io;
    (void)rw;
}

void pg_io_free(struct pg_io *io)
{
    if (io != NULL) {
        pg_loop_defer(io->loop, &io->dead);
    }
}

static void async_release(struct pg_defer *d)
{
    pg_free(PG_CONTAINER_OF(d, struct pg_async, dead));
}

int pg_async_new(struct pg_loop *l, void (*cb)(void *arg), void *arg, struct pg_async **out)
{
    struct pg_async *a = pg_calloc(1, sizeof(*a));
    if (a == NULL) {
        return PG_E_NOMEM;
    }
    a->loop = l;
    a->cb = cb;
    a->arg = arg;
    a->dead.cb = async_release;
    pg_list_push_back(&l->asyncs, &a->node);
    *out = a;
    return 0;
}

void pg_async_send(struct pg_async *a)
{
    atomic_store(&a->sent, true);
}

void pg_async_free(struct pg_async *a)
{
    if (a != NULL) {
        pg_list_remove(&a->node);
        pg_loop_defer(a->loop, &a->dead);
    }
}

static void signal_release(struct pg_defer *d)
{
    pg_free(PG_CONTAINER_OF(d, struct pg_signal, dead));
}

int pg_signal_new(struct pg_loop *l, int signo, void (*cb)(void *arg), void *arg, struct pg_signal **out)
{
    struct pg_signal *s = pg_calloc(1, sizeof(*s));
    (void)signo;
    (void)cb;
    (void)arg;
    if (s == NULL) {
        return PG_E_NOMEM;
    }
    s->loop = l;
    s->dead.cb = signal_release;
    *out = s;
    return 0;
}

void pg_signal_free(struct pg_signal *s)
{
    if (s != NULL) {
        pg_loop_defer(s->loop, &s->dead);
    }
}

void pg_loop_defer(struct pg_loop *l, struct pg_defer *d)
{
    if (!pg_list_is_linked(&d->node)) {
        pg_list_push_back(&l->deferred, &d->node);
    }
}

void pg_defer_cancel(struct pg_defer *d)
{
    pg_list_remove(&d->node);
}
