/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The contract of net/transport.h as tests, to be run over every kind of transport. `make` returns 0 and two
 * connected ends (established or on their way; whatever lies below is theirs and goes with them), again and
 * again; the suite closes them. Works with both loops. Not checked for "unix" transports: resets, which Unix
 * sockets cannot express.
 */
#ifndef ISTHMUS_TRANSPORT_SUITE_H
#define ISTHMUS_TRANSPORT_SUITE_H

#include "net/transport.h"

void transport_suite_run(struct pg_loop *l,
                         int (*make)(struct pg_loop *, struct pg_transport **a, struct pg_transport **b,
                                     void *),
                         void *arg);

/* Byte `i` of test stream `seed`. */
unsigned char suite_byte(uint64_t seed, uint64_t i);
/* Turns until `done(arg)`; false after 20 s (of the loop's time) without it. */
bool suite_turns(struct pg_loop *l, bool (*done)(void *arg), void *arg);
/* `n` turns which do not wait. */
void suite_idle(struct pg_loop *l, int n);

#endif
