/* SPDX-License-Identifier: Apache-2.0 */
/* Retry delay: exponential with full-range jitter, reset only after a stable period. Pure: time is an
 * argument. */
#ifndef ISTHMUS_CORE_BACKOFF_H
#define ISTHMUS_CORE_BACKOFF_H

#include "core/rng.h"

struct pg_backoff {
    uint32_t first_ms;
    uint32_t max_ms;
    uint32_t factor_pct; /* 150 = times 1.5 */
    uint32_t jitter_pct; /* 50 = +-50 % */
    uint32_t stable_ms;  /* a connection this long resets the delay */
    uint32_t current_ms; /* 0 = fresh */
};
/* The next delay, at most max_ms; grows the state. Never below min(first_ms, max_ms) * (100 - jitter) %. */
uint32_t pg_backoff_next_ms(struct pg_backoff *b, struct pg_rng *rng);
/* Tells how long the attempt that just ended had been up. */
void pg_backoff_ended(struct pg_backoff *b, uint64_t lived_ms);
void pg_backoff_reset(struct pg_backoff *b);

#endif
