/* SPDX-License-Identifier: Apache-2.0 */
/* Which connection takes the next stream: a table, and a simulation that must never overfill or dial without
 * need. One thread. */
#include "core/rng.h"
#include "hbone/pool_policy.h"
#include "testlib.h"

static void test_table(void)
{
    static const struct hb_pool_conn_view full[] = {{100, 0}, {100, 0}};
    static const struct hb_pool_conn_view one[] = {{5, 95}};
    static const struct hb_pool_conn_view two[] = {{50, 50}, {3, 97}};
    struct hb_pool_rule plain = {.max_conns = 2, .streams_per_conn = 100, .may_dial = true};
    struct hb_pool_rule spread = {.max_conns = 4, .streams_per_conn = 100, .spread = 4, .may_dial = true};
    struct hb_pool_rule cooling = {.max_conns = 4, .streams_per_conn = 100, .spread = 4};
    size_t i = 99;
    CU_ASSERT_EQUAL(hb_pool_choose(NULL, 0, 0, 1, &plain, 0, &i), HB_POOL_DIAL);
    CU_ASSERT_EQUAL(hb_pool_choose(NULL, 0, 1, 1, &plain, 0, &i), HB_POOL_WAIT);
    CU_ASSERT_EQUAL(hb_pool_choose(NULL, 0, 1, 100, &plain, 0, &i), HB_POOL_WAIT);
    CU_ASSERT_EQUAL(hb_pool_choose(NULL, 0, 1, 101, &plain, 0, &i), HB_POOL_DIAL);
    CU_ASSERT_EQUAL(hb_pool_choose(full, 2, 0, 1, &plain, 0, &i), HB_POOL_WAIT);
    CU_ASSERT_EQUAL(hb_pool_choose(full, 1, 0, 1, &plain, 0, &i), HB_POOL_DIAL);
    for (uint64_t random = 0; random < 4; random++) {
        CU_ASSERT_EQUAL(hb_pool_choose(two, 2, 0, 1, &plain, random, &i), HB_POOL_USE);
        CU_ASSERT_EQUAL(i, 1);
    }
    CU_ASSERT_EQUAL(hb_pool_choose(one, 1, 0, 1, &spread, 0, &i), HB_POOL_DIAL);
    CU_ASSERT_EQUAL(hb_pool_choose(one, 1, 1, 1, &spread, 0, &i), HB_POOL_WAIT);
    CU_ASSERT_EQUAL(hb_pool_choose(one, 1, 0, 1, &cooling, 0, &i), HB_POOL_USE);
    spread.spread = 2;
    CU_ASSERT_EQUAL(hb_pool_choose(two, 2, 0, 1, &spread, 0, &i), HB_POOL_USE);
    /* spread and full: more are made as for any other key */
    CU_ASSERT_EQUAL(hb_pool_choose(full, 2, 0, 1, &spread, 0, &i), HB_POOL_DIAL);
    CU_ASSERT_EQUAL(hb_pool_choose(full, 2, 1, 1, &spread, 0, &i), HB_POOL_WAIT);
    spread.max_conns = 2;
    spread.spread = 4;
    CU_ASSERT_EQUAL(hb_pool_choose(two, 2, 0, 1, &spread, 0, &i), HB_POOL_USE);
}

/* Random arrivals, departures and dials against the rule: no connection ever gets more than it takes, nobody
 * waits while there is room. */
static void test_simulation(void)
{
    struct pg_rng rng;
    pg_rng_seed(&rng, 42);
    for (int round = 0; round < 200; round++) {
        struct hb_pool_conn_view v[8] = {{0, 0}};
        size_t n = 0;
        size_t dialing = 0;
        size_t waiting = 0;
        struct hb_pool_rule rule = {.max_conns = 1 + pg_rng_below(&rng, 8),
                                    .streams_per_conn = 10,
                                    .may_dial = true,
                                    .spread = pg_rng_below(&rng, 9)};
        for (int step = 0; step < 300; step++) {
            uint64_t what = pg_rng_below(&rng, 3);
            if (what == 0) {
                waiting++;
            } else if (what == 1 && dialing > 0) {
                dialing--;
                v[n++] = (struct hb_pool_conn_view){0, 10};
            } else if (what == 2 && n > 0) {
                size_t k = pg_rng_below(&rng, n);
                if (v[k].streams > 0) {
                    v[k].streams--;
                    v[k].room++;
                }
            }
            while (waiting > 0) {
                size_t i = SIZE_MAX;
                enum hb_pool_choice c = hb_pool_choose(v, n, dialing, waiting, &rule, pg_rng_next(&rng), &i);
                if (c == HB_POOL_WAIT) {
                    break;
                }
                if (c == HB_POOL_DIAL) {
                    dialing++;
                    CU_ASSERT_TRUE(n + dialing <= rule.max_conns);
                    continue;
                }
                CU_ASSERT_TRUE_FATAL(i < n);
                CU_ASSERT_TRUE(v[i].room > 0);
                v[i].room--;
                v[i].streams++;
                waiting--;
            }
            bool room = false;
            for (size_t k = 0; k < n; k++) {
                room = room || v[k].room > 0;
            }
            /* Waiting is only right when nothing has room, or a new one is on its way. */
            CU_ASSERT_TRUE(waiting == 0 || !room || dialing > 0);
            CU_ASSERT_TRUE(waiting == 0 || dialing > 0 || n == rule.max_conns);
        }
    }
}

TEST_MAIN("pool policy", {"table", test_table}, {"simulation", test_simulation})
