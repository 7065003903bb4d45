/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a peer's data in virtual time: an hour of faults in microseconds. */
#include "testlib.h"

#include "../../../libpeering/src/peer_state.h"

#include "core/rng.h"

static void fresh_then_stale_then_back(void)
{
    struct peer_state s;
    peer_state_init(&s, 3600);
    CU_ASSERT_EQUAL(s.data, PEER_DATA_NONE);
    CU_ASSERT_EQUAL(peer_state_wait_ms(&s, 0), UINT64_MAX);
    CU_ASSERT_EQUAL(peer_state_step(&s, PEER_EV_STREAM_UP, 10), 0);
    CU_ASSERT_EQUAL(peer_state_step(&s, PEER_EV_SYNCED, 20), PEER_DO_MERGE);
    CU_ASSERT_EQUAL(s.data, PEER_DATA_FRESH);
    /* The stream is lost: kept, and the data path is probed at once. */
    CU_ASSERT_EQUAL(peer_state_step(&s, PEER_EV_STREAM_LOST, 1000), PEER_DO_MERGE | PEER_DO_PROBE);
    CU_ASSERT_EQUAL(s.data, PEER_DATA_STALE);
    CU_ASSERT_FALSE(s.connected);
    CU_ASSERT_EQUAL(peer_state_step(&s, PEER_EV_PROBE_OK, 1100), 0);
    CU_ASSERT_EQUAL(s.data, PEER_DATA_STALE);
    CU_ASSERT_EQUAL(peer_state_wait_ms(&s, 1100), PEER_PROBE_EVERY_MS);
    CU_ASSERT_EQUAL(peer_state_step(&s, PEER_EV_TICK, 1101), 0);
    CU_ASSERT_EQUAL(peer_state_step(&s, PEER_EV_TICK, 3100), PEER_DO_PROBE);
    CU_ASSERT_EQUAL(peer_state_step(&s, PEER_EV_TICK, 9100), 0); /* one probe at a time */
    /* Back while the probe runs: the probe is dropped. */
    CU_ASSERT_EQUAL(peer_state_step(&s, PEER_EV_STREAM_UP, 9200), 0);
    CU_ASSERT_EQUAL(peer_state_step(&s, PEER_EV_SYNCED, 9300), PEER_DO_CANCEL | PEER_DO_MERGE);
    CU_ASSERT_EQUAL(s.data, PEER_DATA_FRESH);
    CU_ASSERT_EQUAL(peer_state_step(&s, PEER_EV_PROBE_FAILED, 9301),
                    0); /* late answer of the dropped probe */
    CU_ASSERT_EQUAL(s.data, PEER_DATA_FRESH);
}

static void dead_path_is_unhealthy_at_once(void)
{
    struct peer_state s;
    peer_state_init(&s, 3600);
    (void)peer_state_step(&s, PEER_EV_SYNCED, 0);
    (void)peer_state_step(&s, PEER_EV_STREAM_LOST, 0);
    CU_ASSERT_EQUAL(peer_state_step(&s, PEER_EV_PROBE_FAILED, 5), PEER_DO_MERGE);
    CU_ASSERT_EQUAL(s.data, PEER_DATA_UNHEALTHY);
    CU_ASSERT_EQUAL(peer_state_step(&s, PEER_EV_TICK, 5 + PEER_PROBE_EVERY_MS), PEER_DO_PROBE);
    /* The gateway answers again although the control stream is still away. */
    CU_ASSERT_EQUAL(peer_state_step(&s, PEER_EV_PROBE_OK, 3000), PEER_DO_MERGE);
    CU_ASSERT_EQUAL(s.data, PEER_DATA_STALE);
}

static void deadline_withdraws_once(void)
{
    struct peer_state s;
    peer_state_init(&s, 60);
    (void)peer_state_step(&s, PEER_EV_SYNCED, 0);
    (void)peer_state_step(&s, PEER_EV_STREAM_LOST, 1000);
    (void)peer_state_step(&s, PEER_EV_PROBE_OK, 1000);
    CU_ASSERT_EQUAL(peer_state_step(&s, PEER_EV_TICK, 60999), PEER_DO_PROBE);
    CU_ASSERT_EQUAL(peer_state_step(&s, PEER_EV_TICK, 61000), PEER_DO_CANCEL | PEER_DO_MERGE | PEER_DO_CLEAR);
    CU_ASSERT_EQUAL(s.data, PEER_DATA_NONE);
    CU_ASSERT_EQUAL(peer_state_step(&s, PEER_EV_TICK, 62000), 0);
    CU_ASSERT_EQUAL(peer_state_wait_ms(&s, 62000), UINT64_MAX);
    CU_ASSERT_EQUAL(peer_state_step(&s, PEER_EV_STREAM_LOST, 63000), 0);
    CU_ASSERT_EQUAL(peer_state_step(&s, PEER_EV_SYNCED, 64000), PEER_DO_MERGE);
    CU_ASSERT_EQUAL(s.data, PEER_DATA_FRESH);
}

static void never_means_never(void)
{
    struct peer_state s;
    peer_state_init(&s, 0);
    (void)peer_state_step(&s, PEER_EV_SYNCED, 0);
    (void)peer_state_step(&s, PEER_EV_STREAM_LOST, 0);
    (void)peer_state_step(&s, PEER_EV_PROBE_OK, 0);
    uint64_t year = 365ull * 24 * 3600 * 1000;
    CU_ASSERT_EQUAL(peer_state_step(&s, PEER_EV_TICK, year), PEER_DO_PROBE);
    CU_ASSERT_EQUAL(s.data, PEER_DATA_STALE);
}

/* Random schedules keep the invariants: a probe only while data is stale or unhealthy, and the wait always
 * leads somewhere. */
static void random_schedules(void)
{
    struct pg_rng rng;
    pg_rng_seed(&rng, 20260101);
    struct peer_state s;
    peer_state_init(&s, 30);
    uint64_t now = 0;
    unsigned seen = 0;
    for (int i = 0; i < 200000; i++) {
        uint64_t wait = peer_state_wait_ms(&s, now);
        enum peer_event ev = (enum peer_event)pg_rng_below(&rng, 6);
        if (ev == PEER_EV_TICK && wait != UINT64_MAX) {
            now += wait;
        } else {
            now += pg_rng_below(&rng, 5000);
        }
        bool was_probing = s.probing;
        unsigned todo = peer_state_step(&s, ev, now);
        seen |= todo;
        if (todo & PEER_DO_PROBE) {
            CU_ASSERT_FALSE(was_probing);
        }
        if (s.probing) {
            CU_ASSERT_TRUE(s.data == PEER_DATA_STALE || s.data == PEER_DATA_UNHEALTHY);
        }
        if (s.lost_at_ms != 0 && s.data != PEER_DATA_FRESH && ev == PEER_EV_TICK) {
            CU_ASSERT_TRUE(now - s.lost_at_ms < 30000);
        }
    }
    CU_ASSERT_EQUAL(seen, PEER_DO_PROBE | PEER_DO_MERGE | PEER_DO_CLEAR | PEER_DO_CANCEL);
}

TEST_MAIN("peer_state", {"fresh, stale, back", fresh_then_stale_then_back},
          {"dead path is unhealthy at once", dead_path_is_unhealthy_at_once},
          {"deadline withdraws once", deadline_withdraws_once}, {"never means never", never_means_never},
          {"random schedules", random_schedules})
