/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The timers of one loop, shared by its two implementations: a binary heap ordered by (due time, start
 * order). Time is an argument. Room for every existing timer is reserved when it is made, so starting one
 * cannot fail. Loop thread.
 */
#ifndef ISTHMUS_NET_TIMERS_H
#define ISTHMUS_NET_TIMERS_H

#include "net/loop.h"

struct pg_timers {
    struct pg_timer **heap;
    size_t n;
    size_t cap;
    size_t total; /* timers in existence */
    uint64_t seq; /* start order */
};
void pg_timers_init(struct pg_timers *t);
void pg_timers_fini(struct pg_timers *t);
/* Due time of the first one, or UINT64_MAX. */
uint64_t pg_timers_next(const struct pg_timers *t);
/* Calls what is due at `now`; a timer started meanwhile waits for the next call, even with a zero delay. */
void pg_timers_run(struct pg_timers *t, uint64_t now);

/* Given by the loop: its timers, and the time a timer started now counts from. */
struct pg_timers *pg_loop_timers(struct pg_loop *l);
uint64_t pg_loop_timer_base(struct pg_loop *l);

#endif
