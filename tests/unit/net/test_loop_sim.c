/* SPDX-License-Identifier: Apache-2.0 */
/* The loop with virtual time: exact times, exact order, no waiting; the transport contract holds on it as
 * well. */
#include "testlib.h"
#include "transport_suite.h"

#include "core/rng.h"
#include "net/loop_sim.h"

struct shot {
    struct pg_loop *l;
    struct pg_timer *t;
    uint64_t at;
    uint64_t every;
    int calls;
};

static void on_shot(void *arg)
{
    struct shot *s = arg;
    s->calls++;
    s->at = pg_loop_now_ms(s->l);
    if (s->every > 0) {
        pg_timer_start(s->t, s->every);
    }
}

static void jumps_to_the_next_timer(void)
{
    struct shot s = {.every = 0};
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&s.l), 0);
    CU_ASSERT_EQUAL_FATAL(pg_timer_new(s.l, on_shot, &s, &s.t), 0);
    uint64_t start = pg_loop_now_ms(s.l);
    pg_timer_start(s.t, 3600000);
    pg_loop_turn(s.l, false);
    CU_ASSERT_EQUAL(s.calls, 0);
    pg_loop_turn(s.l, true);
    CU_ASSERT_EQUAL(s.calls, 1);
    CU_ASSERT_EQUAL(s.at, start + 3600000);
    pg_loop_turn(s.l, true); /* nothing left: returns */
    pg_loop_run(s.l);
    CU_ASSERT_EQUAL(pg_loop_now_ms(s.l), start + 3600000);
    CU_ASSERT_EQUAL(pg_loop_fd(s.l), PG_E_UNSUPPORTED);
    pg_timer_free(s.t);
    pg_loop_free(s.l);
}

static void advance(void)
{
    struct shot s = {.every = 100};
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&s.l), 0);
    CU_ASSERT_EQUAL_FATAL(pg_timer_new(s.l, on_shot, &s, &s.t), 0);
    uint64_t start = pg_loop_now_ms(s.l);
    pg_timer_start(s.t, 100);
    pg_loop_sim_advance(s.l, 99);
    CU_ASSERT_EQUAL(s.calls, 0);
    pg_loop_sim_advance(s.l, 1);
    CU_ASSERT_EQUAL(s.calls, 1);
    pg_loop_sim_advance(s.l, 950);
    CU_ASSERT_EQUAL(s.calls, 10);
    CU_ASSERT_EQUAL(s.at, start + 1000);
    CU_ASSERT_EQUAL(pg_loop_now_ms(s.l), start + 1050);
    s.every = 0;
    pg_timer_start(s.t, 0);
    pg_loop_sim_advance(s.l, 0);
    CU_ASSERT_EQUAL(s.calls, 11);
    pg_timer_free(s.t);
    pg_loop_free(s.l);
}

#define MANY 300
static struct {
    struct pg_loop *l;
    struct pg_timer *t[MANY];
    uint64_t due[MANY]; /* 0: not running */
    uint64_t last;
    int wrong;
    int fired;
} many;

static void on_many(void *arg)
{
    size_t i = (size_t)((struct pg_timer **)arg - many.t);
    uint64_t now = pg_loop_now_ms(many.l);
    many.wrong += many.due[i] != now || now < many.last;
    many.last = now;
    many.due[i] = 0;
    many.fired++;
}

/* Random starts, moves and stops: every timer fires exactly when it should. */
static void many_timers(void)
{
    struct pg_rng rng;
    int running = 0;
    pg_rng_seed(&rng, 7);
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&many.l), 0);
    for (size_t i = 0; i < MANY; i++) {
        CU_ASSERT_EQUAL_FATAL(pg_timer_new(many.l, on_many, &many.t[i], &many.t[i]), 0);
    }
    for (int round = 0; round < 50; round++) {
        for (int k = 0; k < 200; k++) {
            size_t i = (size_t)pg_rng_below(&rng, MANY);
            if (pg_rng_below(&rng, 4) == 0) {
                pg_timer_stop(many.t[i]);
                many.due[i] = 0;
            } else {
                uint64_t after = 1 + pg_rng_below(&rng, 500);
                pg_timer_start(many.t[i], after);
                many.due[i] = pg_loop_now_ms(many.l) + after;
            }
        }
        pg_loop_sim_advance(many.l, pg_rng_below(&rng, 300));
    }
    pg_loop_sim_advance(many.l, 1000);
    for (size_t i = 0; i < MANY; i++) {
        running += many.due[i] != 0;
        pg_timer_free(many.t[i]);
    }
    CU_ASSERT_EQUAL(running, 0);
    CU_ASSERT_EQUAL(many.wrong, 0);
    CU_ASSERT_TRUE(many.fired > 1000);
    pg_loop_free(many.l);
}

struct wake {
    struct pg_async *a[3];
    int calls;
};

static void on_wake(void *arg)
{
    struct wake *w = arg;
    w->calls++;
    pg_async_free(w->a[2]); /* sent as well, must stay silent */
    w->a[2] = NULL;
}

static void asyncs(void)
{
    struct pg_loop *l = NULL;
    struct wake w = {.calls = 0};
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&l), 0);
    for (int i = 0; i < 3; i++) {
        CU_ASSERT_EQUAL_FATAL(pg_async_new(l, on_wake, &w, &w.a[i]), 0);
    }
    pg_async_send(w.a[0]);
    pg_async_send(w.a[0]);
    pg_async_send(w.a[2]);
    pg_loop_turn(l, true);
    CU_ASSERT_EQUAL(w.calls, 1);
    pg_loop_turn(l, false);
    CU_ASSERT_EQUAL(w.calls, 1);
    pg_async_free(w.a[0]);
    pg_async_free(w.a[1]);
    pg_loop_free(l);
}

static int make_mem(struct pg_loop *l, struct pg_transport **a, struct pg_transport **b, void *arg)
{
    (void)arg;
    return pg_mem_pair(l, 3000, a, b);
}

static void transports(void)
{
    struct pg_loop *l = NULL;
    size_t before = pg_mem_live_blocks();
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&l), 0);
    transport_suite_run(l, make_mem, NULL);
    pg_loop_free(l);
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), before);
}

TEST_MAIN("loop_sim", {"jumps to the next timer", jumps_to_the_next_timer}, {"advance", advance},
          {"many timers", many_timers}, {"asyncs", asyncs}, {"transports", transports})
