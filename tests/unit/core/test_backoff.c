/* SPDX-License-Identifier: Apache-2.0 */
/* Retry delays: growth, bounds, jitter, reset only after a stable period. */
#include "core/backoff.h"
#include "testlib.h"

static void growth_without_jitter(void)
{
    static const uint32_t want[] = {1000, 1500, 2250, 3375, 5000, 5000, 5000};
    struct pg_rng rng;
    struct pg_backoff b = {.first_ms = 1000, .max_ms = 5000, .factor_pct = 150, .stable_ms = 60000};
    pg_rng_seed(&rng, 1);
    for (size_t i = 0; i < PG_ARRAY_LEN(want); i++) {
        CU_ASSERT_EQUAL(pg_backoff_next_ms(&b, &rng), want[i]);
    }
    pg_backoff_ended(&b, 59999);
    CU_ASSERT_EQUAL(pg_backoff_next_ms(&b, &rng), 5000);
    pg_backoff_ended(&b, 60000);
    CU_ASSERT_EQUAL(pg_backoff_next_ms(&b, &rng), 1000);
    CU_ASSERT_EQUAL(pg_backoff_next_ms(&b, &rng), 1500);
    pg_backoff_reset(&b);
    CU_ASSERT_EQUAL(pg_backoff_next_ms(&b, &rng), 1000);
}

static void jitter_fills_its_range(void)
{
    struct pg_rng rng;
    pg_rng_seed(&rng, 2);
    uint32_t low = UINT32_MAX;
    uint32_t high = 0;
    for (int i = 0; i < 5000; i++) {
        struct pg_backoff b = {.first_ms = 1000, .max_ms = 30000, .factor_pct = 200, .jitter_pct = 50};
        uint32_t d = pg_backoff_next_ms(&b, &rng);
        low = d < low ? d : low;
        high = d > high ? d : high;
    }
    CU_ASSERT(low >= 500 && low < 520);
    CU_ASSERT(high <= 1500 && high > 1480);
}

static void never_above_max(void)
{
    struct pg_rng rng;
    struct pg_backoff b = {.first_ms = 1000, .max_ms = 30000, .factor_pct = 200, .jitter_pct = 50};
    uint32_t low = UINT32_MAX;
    uint32_t high = 0;
    pg_rng_seed(&rng, 3);
    for (int i = 0; i < 5000; i++) {
        uint32_t d = pg_backoff_next_ms(&b, &rng);
        CU_ASSERT(d <= 30000 && d >= 500);
        if (i >= 10) {
            low = d < low ? d : low;
            high = d > high ? d : high;
        }
    }
    CU_ASSERT(low < 15200 && high > 29800); /* still spread at the maximum */
}

static void odd_settings(void)
{
    struct pg_rng rng;
    pg_rng_seed(&rng, 4);
    struct pg_backoff zero = {0};
    CU_ASSERT(pg_backoff_next_ms(&zero, &rng) <= 1);
    struct pg_backoff above = {.first_ms = 9000, .max_ms = 100, .factor_pct = 200};
    CU_ASSERT_EQUAL(pg_backoff_next_ms(&above, &rng), 100);
    struct pg_backoff shrinking = {.first_ms = 100, .max_ms = 1000, .factor_pct = 50};
    CU_ASSERT_EQUAL(pg_backoff_next_ms(&shrinking, &rng), 100);
    CU_ASSERT_EQUAL(pg_backoff_next_ms(&shrinking, &rng), 100);
    struct pg_backoff big = {
        .first_ms = UINT32_MAX, .max_ms = UINT32_MAX, .factor_pct = UINT32_MAX, .jitter_pct = 500};
    for (int i = 0; i < 100; i++) {
        (void)pg_backoff_next_ms(&big, &rng);
        CU_ASSERT_EQUAL(big.current_ms, UINT32_MAX);
    }
}

TEST_MAIN("backoff", {"growth", growth_without_jitter}, {"jitter", jitter_fills_its_range},
          {"maximum", never_above_max}, {"odd settings", odd_settings})
