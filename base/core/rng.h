/* SPDX-License-Identifier: Apache-2.0 */
/* Random numbers: a fast seeded generator for choices (endpoint picking, jitter) and kernel bytes for
 * secrets. */
#ifndef ISTHMUS_CORE_RNG_H
#define ISTHMUS_CORE_RNG_H

#include "core/err.h"

#include <stdint.h>

struct pg_rng {
    uint64_t s[2]; /* xoroshiro128+ */
};
void pg_rng_seed(struct pg_rng *r, uint64_t seed); /* same seed, same sequence */
void pg_rng_seed_random(struct pg_rng *r);
uint64_t pg_rng_next(struct pg_rng *r);
uint64_t pg_rng_below(struct pg_rng *r, uint64_t bound); /* 0..bound-1; bound > 0 */
/* getrandom(2); aborts only when the kernel has none. */
void pg_random_bytes(void *out, size_t len);

#endif
