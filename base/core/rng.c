/* SPDX-License-Identifier: Apache-2.0 */
/*
 * xoroshiro128+ for choices, getrandom(2) for secrets. Invariant: the same seed gives the same sequence
 * in every release, so a failing test can be replayed. A generator belongs to one thread.
 */
#include "core/rng.h"

#include <errno.h>
#include <sys/random.h>

static uint64_t rotl(uint64_t x, int n)
{
    return (x << n) | (x >> (64 - n));
}

/* splitmix64: spreads a poor seed over the state and never leaves it all zero. */
static uint64_t spread(uint64_t *x)
{
    *x += 0x9E3779B97F4A7C15u;
    uint64_t z = *x;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

void pg_rng_seed(struct pg_rng *r, uint64_t seed)
{
    r->s[0] = spread(&seed);
    r->s[1] = spread(&seed);
}

void pg_rng_seed_random(struct pg_rng *r)
{
    uint64_t seed;
    pg_random_bytes(&seed, sizeof(seed));
    pg_rng_seed(r, seed);
}

uint64_t pg_rng_next(struct pg_rng *r)
{
    uint64_t s0 = r->s[0];
    uint64_t s1 = r->s[1];
    uint64_t result = s0 + s1;
    s1 ^= s0;
    r->s[0] = rotl(s0, 24) ^ s1 ^ s1 << 16;
    r->s[1] = rotl(s1, 37);
    return result;
}

uint64_t pg_rng_below(struct pg_rng *r, uint64_t bound)
{
    PG_BUG_ON(bound == 0);
    /* Values under 2^64 mod bound would make small results likelier. */
    uint64_t floor = (0 - bound) % bound;
    uint64_t x;
    do {
        x = pg_rng_next(r);
    } while (x < floor);
    return x % bound;
}

void pg_random_bytes(void *out, size_t len)
{
    unsigned char *at = out;
    while (len != 0) {
        ssize_t n = getrandom(at, len, 0);
        if (n < 0) {
            PG_BUG_ON(errno != EINTR);
            continue;
        }
        at += n;
        len -= (size_t)n;
    }
}
