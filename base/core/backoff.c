/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Retry delays. Invariant: a delay lies within the jitter around the current step and never above
 * max_ms; only a connection that lived long enough makes the next delay short again. Pure.
 */
#include "core/backoff.h"

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint32_t pg_backoff_next_ms(struct pg_backoff *b, struct pg_rng *rng)
{
    uint64_t max = b->max_ms != 0 ? b->max_ms : 1;
    uint64_t current = b->current_ms != 0 ? b->current_ms : b->first_ms;
    current = smaller(current != 0 ? current : 1, max);
    uint64_t jitter = smaller(b->jitter_pct, 100);
    uint64_t low = current * (100 - jitter) / 100;
    /* At the maximum only the lower half of the range is left: still spread, never longer. */
    uint64_t high = smaller(current * (100 + jitter) / 100, max);
    uint64_t factor = b->factor_pct > 100 ? b->factor_pct : 100;
    b->current_ms = (uint32_t)smaller(current * factor / 100, max);
    return (uint32_t)(low + pg_rng_below(rng, high - low + 1));
}

void pg_backoff_ended(struct pg_backoff *b, uint64_t lived_ms)
{
    if (lived_ms >= b->stable_ms) {
        pg_backoff_reset(b);
    }
}

void pg_backoff_reset(struct pg_backoff *b)
{
    b->current_ms = 0;
}
