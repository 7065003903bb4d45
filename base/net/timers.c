/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Timer heap of a loop. Invariant: heap[i]->pos == i for every running timer, and cap >= total, so that
 * starting never allocates. Loop thread.
 */
#include "net/timers.h"

#include "core/mem.h"

#define TIMERS_MAX (1u << 24)
#define NOT_RUNNING SIZE_MAX

struct pg_timer {
    struct pg_loop *loop;
    void (*cb)(void *arg);
    void *arg;
    uint64_t due;
    uint64_t seq;
    size_t pos;
};

void pg_timers_init(struct pg_timers *t)
{
    *t = (struct pg_timers){0};
}

void pg_timers_fini(struct pg_timers *t)
{
    PG_BUG_ON(t->total != 0);
    pg_free(t->heap);
    t->heap = NULL;
}

static bool before(const struct pg_timer *a, const struct pg_timer *b)
{
    return a->due != b->due ? a->due < b->due : a->seq < b->seq;
}

static void place(struct pg_timers *h, size_t i, struct pg_timer *t)
{
    h->heap[i] = t;
    t->pos = i;
}

static void sift_up(struct pg_timers *h, size_t i, struct pg_timer *t)
{
    while (i > 0 && before(t, h->heap[(i - 1) / 2])) {
        place(h, i, h->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    place(h, i, t);
}

static void sift_down(struct pg_timers *h, size_t i, struct pg_timer *t)
{
    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= h->n) {
            break;
        }
        if (c + 1 < h->n && before(h->heap[c + 1], h->heap[c])) {
            c++;
        }
        if (!before(h->heap[c], t)) {
            break;
        }
        place(h, i, h->heap[c]);
        i = c;
    }
    place(h, i, t);
}

static void heap_remove(struct pg_timers *h, struct pg_timer *t)
{
    size_t i = t->pos;
    t->pos = NOT_RUNNING;
    struct pg_timer *last = h->heap[--h->n];
    if (last == t) {
        return;
    }
    if (i > 0 && before(last, h->heap[(i - 1) / 2])) {
        sift_up(h, i, last);
    } else {
        sift_down(h, i, last);
    }
}

uint64_t pg_timers_next(const struct pg_timers *t)
{
    return t->n > 0 ? t->heap[0]->due : UINT64_MAX;
}

void pg_timers_run(struct pg_timers *h, uint64_t now)
{
    uint64_t limit = h->seq;
    while (h->n > 0 && h->heap[0]->due <= now && h->heap[0]->seq < limit) {
        struct pg_timer *t = h->heap[0];
        heap_remove(h, t);
        t->cb(t->arg); /* may free t */
    }
}

int pg_timer_new(struct pg_loop *l, void (*cb)(void *arg), void *arg, struct pg_timer **out)
{
    struct pg_timers *h = pg_loop_timers(l);
    int r = pg_vec_grow(&h->heap, &h->cap, h->total + 1, sizeof(*h->heap), TIMERS_MAX);
    if (r < 0) {
        return r;
    }
    struct pg_timer *t = pg_malloc(sizeof(*t));
    if (t == NULL) {
        return PG_E_NOMEM;
    }
    *t = (struct pg_timer){.loop = l, .cb = cb, .arg = arg, .pos = NOT_RUNNING};
    h->total++;
    *out = t;
    return 0;
}

void pg_timer_start(struct pg_timer *t, uint64_t after_ms)
{
    struct pg_timers *h = pg_loop_timers(t->loop);
    uint64_t now = pg_loop_timer_base(t->loop);
    pg_timer_stop(t);
    t->due = after_ms > UINT64_MAX - now ? UINT64_MAX : now + after_ms;
    t->seq = h->seq++;
    h->n++;
    sift_up(h, h->n - 1, t);
}

void pg_timer_stop(struct pg_timer *t)
{
    if (t->pos != NOT_RUNNING) {
        heap_remove(pg_loop_timers(t->loop), t);
    }
}

bool pg_timer_is_active(const struct pg_timer *t)
{
    return t->pos != NOT_RUNNING;
}

void pg_timer_free(struct pg_timer *t)
{
    if (t == NULL) {
        return;
    }
    pg_timer_stop(t);
    pg_loop_timers(t->loop)->total--;
    pg_free(t);
}
