/* SPDX-License-Identifier: Apache-2.0 */
/* What only the loop with virtual time can do. For tests. */
#ifndef ISTHMUS_NET_LOOP_SIM_H
#define ISTHMUS_NET_LOOP_SIM_H

#include "net/loop.h"

/*
 * How loop_sim.c reads loop.h: a turn runs sent asyncs, due timers and deferred calls. pg_loop_turn(wait)
 * with nothing to do jumps to the next timer first; without one it returns at once. pg_loop_run also returns
 * when nothing is left that could ever happen. Descriptors are never ready, signals never come. Time starts
 * at 1,000,000 ms.
 */

/* Lets `ms` of virtual time pass, stopping at every timer on the way. At each stop turns are run until
 * nothing is queued, at most 1000 (an owner that keeps wanting what keeps being ready is never quiet). */
void pg_loop_sim_advance(struct pg_loop *l, uint64_t ms);
/* Turns without letting time pass, until nothing is queued or `max` were run. True when it went quiet. */
bool pg_loop_sim_settle(struct pg_loop *l, unsigned max);

#endif
