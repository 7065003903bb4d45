/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One event loop per thread. Two implementations chosen by the linker: loop_ev.c (libev) and loop_sim.c
 * (virtual time for tests: jumps to the next timer, descriptors are never ready). Everything here belongs to
 * the loop's thread except pg_async_send.
 *
 * Order of a turn: asyncs (mailboxes, snapshots) -> timers -> I/O -> deferred calls. Objects die only in the
 * deferred phase, so a callback may close anything, itself included, and return safely.
 */
#ifndef ISTHMUS_NET_LOOP_H
#define ISTHMUS_NET_LOOP_H

#include "core/err.h"
#include "core/list.h"

#include <stdint.h>

#define PG_READ 1u
#define PG_WRITE 2u

struct pg_loop;
struct pg_timer;
struct pg_io;
struct pg_async;
struct pg_signal;

/* 0 or PG_E_NOMEM. SIGPIPE is ignored process-wide by the first call. */
int pg_loop_new(struct pg_loop **out) PG_MUST_CHECK;
void pg_loop_free(struct pg_loop *l); /* all watchers must be freed before; deferred calls are run */
/* Runs until pg_loop_stop. */
void pg_loop_run(struct pg_loop *l);
/* One turn; waits for an event when `wait`. For tests and embedding. */
void pg_loop_turn(struct pg_loop *l, bool wait);
void pg_loop_stop(struct pg_loop *l);
/* Monotonic time of this turn in milliseconds (loop_sim: virtual). */
uint64_t pg_loop_now_ms(const struct pg_loop *l);
/* Descriptor that turns readable when a turn has work, for embedding in another loop; PG_E_UNSUPPORTED in
 * sim. */
int pg_loop_fd(struct pg_loop *l);

/* Timers are one-shot; starting a running one moves it. */
int pg_timer_new(struct pg_loop *l, void (*cb)(void *arg), void *arg, struct pg_timer **out) PG_MUST_CHECK;
void pg_timer_start(struct pg_timer *t, uint64_t after_ms);
void pg_timer_stop(struct pg_timer *t);
bool pg_timer_is_active(const struct pg_timer *t);
void pg_timer_free(struct pg_timer *t); /* stops it; NULL is fine; allowed inside its own callback */

/* Descriptor readiness, level-triggered. `rw` is a set of PG_READ and PG_WRITE; 0 pauses. The descriptor
 * stays the caller's and must outlive the watcher. */
int pg_io_new(struct pg_loop *l, int fd, void (*cb)(void *arg, unsigned rw), void *arg,
              struct pg_io **out) PG_MUST_CHECK;
void pg_io_want(struct pg_io *io, unsigned rw);
void pg_io_free(struct pg_io *io); /* NULL is fine; allowed inside its own callback */

/* Wake-up from any thread; coalesces and carries no data. */
int pg_async_new(struct pg_loop *l, void (*cb)(void *arg), void *arg, struct pg_async **out) PG_MUST_CHECK;
void pg_async_send(struct pg_async *a); /* any thread */
void pg_async_free(struct pg_async *a); /* no sender may be left */

int pg_signal_new(struct pg_loop *l, int signo, void (*cb)(void *arg), void *arg,
                  struct pg_signal **out) PG_MUST_CHECK;
void pg_signal_free(struct pg_signal *s);

/* Runs `cb` in the deferred phase of this turn (or of the next one, when scheduled from that phase). The node
 * is embedded in the caller's object; scheduling a scheduled node is a no-op. */
struct pg_defer {
    struct pg_list node;
    void (*cb)(struct pg_defer *d);
};
void pg_loop_defer(struct pg_loop *l, struct pg_defer *d);
void pg_defer_cancel(struct pg_defer *d);

#endif
