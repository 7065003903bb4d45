/* SPDX-License-Identifier: Apache-2.0 */
/* The rotation machine over days of virtual time. */
#include "testlib.h"

#include "certs/rotate.h"

#define T0 1700000000LL
#define DAY 86400LL

struct world { /* an owner who does what the machine says, and a CA that is up or away */
    struct cert_rotate r;
    struct pg_rng rng;
    int64_t now;
    int64_t ca_down_from, ca_down_to;
    int64_t ttl;
    bool held;
    int64_t held_until;
    unsigned fetches, failures, drops;
    bool used_expired; /* a certificate was held at or after its end */
    bool early_drop;   /* or dropped before it */
};

static void world_init(struct world *w, uint64_t seed)
{
    *w = (struct world){.now = T0, .ttl = DAY};
    pg_rng_seed(&w->rng, seed);
    cert_rotate_init(&w->r);
}

static void world_act(struct world *w)
{
    for (int i = 0; i < 10; i++) {
        switch (cert_rotate_step(&w->r, w->now)) {
        case CERT_ROTATE_NOTHING:
            return;
        case CERT_ROTATE_DROP:
            w->drops++;
            w->early_drop |= w->now < w->held_until;
            w->held = false;
            break;
        case CERT_ROTATE_FETCH:
            w->fetches++;
            if (w->now >= w->ca_down_from && w->now < w->ca_down_to) {
                w->failures++;
                cert_rotate_failed(&w->r, w->now, &w->rng);
            } else {
                cert_rotate_fetched(&w->r, w->now - 120, w->now + w->ttl, w->now, &w->rng);
                w->held = true;
                w->held_until = w->now + w->ttl;
            }
            break;
        }
    }
    CU_FAIL("the machine never says nothing");
}

static void world_run(struct world *w, int64_t until)
{
    world_act(w);
    while (w->now < until) {
        int64_t wait = cert_rotate_wait_s(&w->r, w->now);
        CU_ASSERT_TRUE(wait > 0);
        if (wait <= 0) {
            return;
        }
        w->now += wait < until - w->now ? wait : until - w->now;
        world_act(w);
        w->used_expired |= w->held && w->now >= w->held_until;
    }
}

static void test_days(void)
{
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct world w;
        world_init(&w, seed);
        world_run(&w, T0 + 30 * DAY);
        CU_ASSERT_EQUAL(w.drops, 0);
        CU_ASSERT_FALSE(w.used_expired);
        CU_ASSERT_TRUE(w.held);
        CU_ASSERT_TRUE(w.fetches >= 60 && w.fetches <= 68); /* half a day, up to a tenth of it earlier */
    }
}

static void test_half_and_jitter(void)
{
    int64_t low = INT64_MAX;
    int64_t high = 0;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct cert_rotate r;
        struct pg_rng rng;
        pg_rng_seed(&rng, seed);
        cert_rotate_init(&r);
        CU_ASSERT_EQUAL(cert_rotate_step(&r, T0), CERT_ROTATE_FETCH);
        CU_ASSERT_EQUAL(cert_rotate_step(&r, T0), CERT_ROTATE_NOTHING);
        CU_ASSERT_EQUAL(cert_rotate_wait_s(&r, T0), -1);
        cert_rotate_fetched(&r, T0, T0 + 20000, T0, &rng);
        int64_t wait = cert_rotate_wait_s(&r, T0);
        low = wait < low ? wait : low;
        high = wait > high ? wait : high;
    }
    CU_ASSERT_TRUE(low >= 9000 && low < 9100);
    CU_ASSERT_TRUE(high <= 10000 && high > 9900);
}

/* The CA leaves at half-life and stays away past expiry: used to the very end, dropped then, back when the CA
 * is. */
static void test_ca_away(void)
{
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct world w;
        world_init(&w, seed);
        world_run(&w, T0);
        w.ca_down_from = T0 + 1;
        w.ca_down_to = T0 + 3 * DAY;
        world_run(&w, T0 + DAY - 1);
        CU_ASSERT_EQUAL(w.drops, 0);
        CU_ASSERT_EQUAL(w.r.state, CERT_ROTATE_VALID);
        CU_ASSERT_TRUE(w.failures > 100); /* some 12 h at 150 s */
        world_run(&w, T0 + DAY);
        CU_ASSERT_EQUAL(w.now, T0 + DAY); /* exactly at the end */
        CU_ASSERT_EQUAL(w.drops, 1);
        CU_ASSERT_EQUAL(w.r.state, CERT_ROTATE_UNAVAILABLE);
        CU_ASSERT_FALSE(w.early_drop || w.used_expired);
        world_run(&w, T0 + 3 * DAY + 200);
        CU_ASSERT_EQUAL(w.r.state, CERT_ROTATE_VALID); /* within the longest backoff */
        CU_ASSERT_EQUAL(w.r.failures, 0);
    }
}

static void test_backoff(void)
{
    struct cert_rotate r;
    struct pg_rng rng;
    int64_t now = T0;
    pg_rng_seed(&rng, 7);
    cert_rotate_init(&r);
    int64_t last = 0;
    for (int i = 0; i < 20; i++) {
        CU_ASSERT_EQUAL(cert_rotate_step(&r, now), CERT_ROTATE_FETCH);
        cert_rotate_failed(&r, now, &rng);
        CU_ASSERT_EQUAL(r.state, CERT_ROTATE_UNAVAILABLE);
        last = cert_rotate_wait_s(&r, now);
        CU_ASSERT_TRUE(last >= 1 && last <= 180);
        if (i == 0) {
            CU_ASSERT_TRUE(last <= 2);
        }
        CU_ASSERT_EQUAL(cert_rotate_step(&r, now + last - 1), CERT_ROTATE_NOTHING);
        now += last;
    }
    CU_ASSERT_TRUE(last >= 120);
    CU_ASSERT_EQUAL(r.failures, 20);
}

/* A fetch that never comes back must not keep an expired certificate alive. */
static void test_hanging_fetch(void)
{
    struct cert_rotate r;
    struct pg_rng rng;
    pg_rng_seed(&rng, 7);
    cert_rotate_init(&r);
    CU_ASSERT_EQUAL(cert_rotate_step(&r, T0), CERT_ROTATE_FETCH);
    cert_rotate_fetched(&r, T0, T0 + 1000, T0, &rng);
    CU_ASSERT_EQUAL(cert_rotate_step(&r, T0 + 500), CERT_ROTATE_FETCH);
    CU_ASSERT_EQUAL(cert_rotate_wait_s(&r, T0 + 500), 500);
    CU_ASSERT_EQUAL(cert_rotate_step(&r, T0 + 999), CERT_ROTATE_NOTHING);
    CU_ASSERT_EQUAL(cert_rotate_step(&r, T0 + 1000), CERT_ROTATE_DROP);
    CU_ASSERT_EQUAL(cert_rotate_step(&r, T0 + 1000), CERT_ROTATE_NOTHING);
    CU_ASSERT_EQUAL(cert_rotate_wait_s(&r, T0 + 1000), -1);
    cert_rotate_fetched(&r, T0 + 1000, T0 + 2000, T0 + 1001, &rng);
    CU_ASSERT_EQUAL(r.state, CERT_ROTATE_VALID);
}

/* Nonsense from a CA is a failure with backoff, never a tight loop. */
static void test_bad_validity(void)
{
    static const int64_t bad[][2] = {{T0 + 10, T0 + 10}, {T0 + 10, T0 + 5},      {T0 - 10, T0 - 5},
                                     {T0 - 10, T0},      {INT64_MAX, INT64_MIN}, {INT64_MIN, INT64_MIN}};
    for (size_t i = 0; i < PG_ARRAY_LEN(bad); i++) {
        struct cert_rotate r;
        struct pg_rng rng;
        pg_rng_seed(&rng, 7);
        cert_rotate_init(&r);
        CU_ASSERT_EQUAL(cert_rotate_step(&r, T0), CERT_ROTATE_FETCH);
        cert_rotate_fetched(&r, bad[i][0], bad[i][1], T0, &rng);
        CU_ASSERT_EQUAL(r.state, CERT_ROTATE_UNAVAILABLE);
        CU_ASSERT_TRUE(cert_rotate_wait_s(&r, T0) >= 1);
    }
    struct cert_rotate r;
    struct pg_rng rng;
    pg_rng_seed(&rng, 7);
    cert_rotate_init(&r);
    cert_rotate_fetched(&r, INT64_MIN, INT64_MAX, T0, &rng);
    CU_ASSERT_EQUAL(r.state, CERT_ROTATE_VALID);
    CU_ASSERT_TRUE(cert_rotate_wait_s(&r, T0) > 0);
    /* nearly dead on arrival: asked again at half of what is left */
    cert_rotate_fetched(&r, T0 - 10000, T0 + 100, T0, &rng);
    CU_ASSERT_EQUAL(cert_rotate_wait_s(&r, T0), 50);
    cert_rotate_fetched(&r, T0 - 10000, T0 + 1, T0, &rng);
    CU_ASSERT_EQUAL(cert_rotate_wait_s(&r, T0), 1);
}

/* A refresh that fails keeps the old certificate and tries once more when it ends. */
static void test_retry_at_expiry(void)
{
    struct cert_rotate r;
    struct pg_rng rng;
    pg_rng_seed(&rng, 3);
    cert_rotate_init(&r);
    cert_rotate_fetched(&r, T0, T0 + 1000, T0, &rng);
    for (int i = 0; i < 10; i++) {
        cert_rotate_failed(&r, T0 + 990, &rng);
    }
    CU_ASSERT_EQUAL(r.state, CERT_ROTATE_VALID);
    CU_ASSERT_EQUAL(cert_rotate_wait_s(&r, T0 + 990), 10);
    CU_ASSERT_EQUAL(cert_rotate_step(&r, T0 + 1000), CERT_ROTATE_DROP);
    CU_ASSERT_EQUAL(cert_rotate_step(&r, T0 + 1000), CERT_ROTATE_FETCH);
}

TEST_MAIN("rotate", {"thirty days", test_days}, {"half-life and jitter", test_half_and_jitter},
          {"CA away past expiry", test_ca_away}, {"backoff", test_backoff},
          {"hanging fetch", test_hanging_fetch}, {"bad validity", test_bad_validity},
          {"retry at expiry", test_retry_at_expiry})
