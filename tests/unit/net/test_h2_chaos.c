/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/2 over a transport that splits, stalls and cuts. Tunnels must carry every byte in order or fail on
 * both ends; a connection cut at any byte never looks like an end. Seeds are printed on failure. Virtual
 * time.
 */
#include "h2_pair.h"

#include "core/rng.h"
#include "net/loop_sim.h"
#include "transport_suite.h"

#include <string.h>

enum { TUNNELS = 3, UP = 30000, DOWN = 21000 };

static struct pg_loop *loop;
static struct pair p;

static void start(const struct pg_chaos_options *co, const struct pg_chaos_options *so, size_t cap)
{
    struct pg_transport *a;
    struct pg_transport *b;
    memset(&p, 0, sizeof(p));
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&loop), 0);
    CU_ASSERT_EQUAL_FATAL(pg_mem_pair(loop, cap, &a, &b), 0);
    if (co != NULL) {
        CU_ASSERT_EQUAL_FATAL(pg_chaos_new(loop, a, co, &a), 0);
    }
    if (so != NULL) {
        CU_ASSERT_EQUAL_FATAL(pg_chaos_new(loop, b, so, &b), 0);
    }
    CU_ASSERT_EQUAL_FATAL(pair_start(&p, loop, a, b, NULL, NULL), 0);
    p.auto_respond = true;
}

static void stop(void)
{
    pair_free(&p);
    pg_loop_free(loop);
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), 0);
}

/* Writes what goes; ends when all is written. */
static void feed(struct side *x, uint64_t seed, uint64_t *at, uint64_t total, bool *ended)
{
    if (x->s == NULL || *ended) {
        return;
    }
    int r = side_write(x, seed, at, total);
    if (r == 0) {
        *ended = pg_h2_end(x->s) == 0;
    }
}

/* What one end may claim about the other's bytes. */
static bool honest(const struct side *x, uint64_t seed, uint64_t total)
{
    bool all = x->got == total && x->sum == pattern_sum(seed, total);
    bool ok = x->got <= total && (x->read_end != 1 || all);
    return ok && (!x->closed || x->err < 0 || all);
}

/* Runs the tunnels to whatever end. The number that ended cleanly on both sides. */
static unsigned run(uint64_t seed)
{
    struct side *c[TUNNELS] = {NULL};
    uint64_t up[TUNNELS] = {0};
    uint64_t down[PAIR_STREAMS] = {0};
    bool up_end[TUNNELS] = {false};
    bool down_end[PAIR_STREAMS] = {false};
    unsigned clean = 0;
    for (int i = 0; i < TUNNELS && p.client != NULL; i++) {
        if (pair_request(&p, "CONNECT", false, &c[i]) == 0) {
            c[i]->auto_read = true;
        }
    }
    for (int turn = 0; turn < 20000; turn++) {
        bool open = false;
        for (int i = 0; i < TUNNELS; i++) {
            if (c[i] != NULL) {
                feed(c[i], 100 + i, &up[i], UP, &up_end[i]);
                open = open || !c[i]->closed;
            }
        }
        for (size_t i = 0; i < p.ns; i++) {
            /* streams arrive in the order they were asked for */
            feed(&p.s[i], 200 + i, &down[i], DOWN, &down_end[i]);
            open = open || !p.s[i].closed;
        }
        if (!open) {
            break;
        }
        pg_loop_turn(loop, false);
    }
    pg_loop_sim_advance(loop, 40000); /* whoever was cut off silently finds out */
    for (int i = 0; i < TUNNELS; i++) {
        bool ok = c[i] == NULL || honest(c[i], 200 + i, DOWN);
        ok = ok && ((size_t)i >= p.ns || honest(&p.s[i], 100 + i, UP));
        ok = ok && (c[i] == NULL || c[i]->closed) && ((size_t)i >= p.ns || p.s[i].closed);
        if (!ok) {
            fprintf(stderr, "tunnel %d lied with seed %llu\n", i, (unsigned long long)seed);
        }
        CU_ASSERT_TRUE(ok);
        clean += c[i] != NULL && (size_t)i < p.ns && c[i]->closed && c[i]->err == 0 && p.s[i].err == 0;
    }
    return clean;
}

static void test_splits(void)
{
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct pg_chaos_options o = {.seed = seed,
                                     .split_pct = 60,
                                     .again_pct = 40,
                                     .max_piece = 1u << seed % 15,
                                     .reset_at_read = UINT64_MAX,
                                     .reset_at_write = UINT64_MAX};
        struct pg_chaos_options q = o;
        q.seed = seed * 1000;
        start(&o, seed % 3 == 0 ? NULL : &q, 500 + seed * 1000);
        CU_ASSERT_EQUAL(run(seed), TUNNELS);
        stop();
    }
}

static void test_byte_by_byte(void)
{
    struct pg_chaos_options o = {.seed = 5,
                                 .split_pct = 100,
                                 .max_piece = 1,
                                 .reset_at_read = UINT64_MAX,
                                 .reset_at_write = UINT64_MAX};
    start(&o, &o, 100000);
    CU_ASSERT_EQUAL(run(5), TUNNELS);
    stop();
}

/* Cut at every byte of the start, then at strides through the rest, in either direction, on either end. */
static void test_cut(void)
{
    unsigned cut = 0;
    for (uint64_t at = 0; at < 170000; at += at < 200 ? 7 : 4001) {
        for (int where = 0; where < 4; where++) {
            struct pg_chaos_options o = {.seed = at,
                                         .split_pct = 20,
                                         .max_piece = 5000,
                                         .reset_at_read = where % 2 == 0 ? at : UINT64_MAX,
                                         .reset_at_write = where % 2 == 1 ? at : UINT64_MAX};
            start(where < 2 ? &o : NULL, where < 2 ? NULL : &o, 50000);
            unsigned clean = run(at);
            CU_ASSERT_TRUE(clean <= TUNNELS);
            cut += clean < TUNNELS;
            stop();
        }
    }
    CU_ASSERT_TRUE(cut > 80);
}

/* One side is freed at a random moment, or drained: nothing lies, nothing leaks. */
static void test_leave(void)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct pg_rng rng;
        struct side *c[TUNNELS] = {NULL};
        uint64_t at[TUNNELS] = {0};
        pg_rng_seed(&rng, seed);
        start(NULL, NULL, 20000);
        for (int i = 0; i < TUNNELS; i++) {
            CU_ASSERT_EQUAL(pair_request(&p, "CONNECT", false, &c[i]), 0);
            c[i]->auto_read = true;
        }
        unsigned when = (unsigned)pg_rng_below(&rng, 25);
        for (unsigned turn = 0; turn < 60; turn++) {
            for (int i = 0; i < TUNNELS; i++) {
                (void)side_write(c[i], 100 + i, &at[i], 1u << 20);
            }
            pg_loop_turn(loop, false);
            if (turn == when) {
                switch (seed % 4) {
                case 0:
                    pg_h2_free(p.server);
                    p.server = NULL;
                    break;
                case 1:
                    pg_h2_free(p.client);
                    p.client = NULL;
                    break;
                case 2:
                    side_close(&p.s[0], PG_H2_CANCEL);
                    break;
                default:
                    pg_h2_drain(p.server);
                    break;
                }
            }
        }
        pg_loop_sim_advance(loop, 40000);
        for (size_t i = 0; i < p.ns; i++) {
            CU_ASSERT_NOT_EQUAL(p.s[i].read_end, 1);
        }
        stop();
    }
}

TEST_MAIN("h2 over chaos", {"splits", test_splits}, {"byte by byte", test_byte_by_byte}, {"cut", test_cut},
          {"leaving", test_leave})
