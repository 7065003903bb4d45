/* SPDX-License-Identifier: Apache-2.0 */
/* The relay in virtual time: app a <-> relay <-> app b over memory pairs and chaos. */
#include "testlib.h"
#include "transport_suite.h"

#include "core/rng.h"
#include "net/loop_sim.h"
#include "net/sock.h"

#include <string.h>

struct app {
    struct pg_transport *t;
    uint64_t to_send;
    uint64_t sent;
    uint64_t got;
    uint64_t wrong;
    uint64_t seed;
    uint64_t peer_seed;
    bool reads;
    bool half_close; /* shutdown after the last byte */
    bool answer;     /* send only after the other side's end came */
    bool shut;
    bool eof;
    int err;
};
struct rig {
    struct pg_loop *l;
    struct app app[2];
    struct pg_relay *relay;
    struct pg_relay_result res;
    char text[64];
    int done;
};

static void app_read(struct app *a)
{
    unsigned char buf[7000];
    while (a->reads && !a->eof && a->err == 0) {
        ssize_t n = pg_transport_read(a->t, buf, sizeof(buf));
        if (n == PG_E_AGAIN) {
            return;
        }
        a->eof = n == 0;
        a->err = n < 0 ? (int)n : 0;
        for (ssize_t i = 0; i < n; i++) {
            a->wrong += buf[i] != suite_byte(a->peer_seed, a->got + (uint64_t)i);
        }
        a->got += n > 0 ? (uint64_t)n : 0;
    }
}

static void app_write(struct app *a)
{
    unsigned char buf[7000];
    while (a->sent < a->to_send && a->err == 0) {
        size_t n = a->to_send - a->sent < sizeof(buf) ? (size_t)(a->to_send - a->sent) : sizeof(buf);
        for (size_t i = 0; i < n; i++) {
            buf[i] = suite_byte(a->seed, a->sent + i);
        }
        ssize_t w = pg_transport_write(a->t, buf, n);
        if (w == PG_E_AGAIN) {
            return;
        }
        a->err = w < 0 ? (int)w : 0;
        a->sent += w > 0 ? (uint64_t)w : 0;
    }
    if (a->half_close && !a->shut && a->err == 0) {
        a->shut = true;
        CU_ASSERT_EQUAL(pg_transport_shutdown(a->t), 0);
    }
}

static void app_step(struct app *a)
{
    app_read(a);
    bool may = !a->answer || a->eof;
    if (may) {
        app_write(a);
    }
    unsigned rw = a->reads && !a->eof ? PG_READ : 0;
    rw |= may && a->sent < a->to_send ? PG_WRITE : 0;
    pg_transport_want(a->t, a->err != 0 ? 0 : rw);
}

static void on_app(struct pg_transport *t, unsigned rw, void *arg)
{
    (void)t;
    (void)rw;
    app_step(arg);
}

static void on_done(const struct pg_relay_result *r, void *arg)
{
    struct rig *g = arg;
    g->done++;
    g->res = *r;
    (void)snprintf(g->text, sizeof(g->text), "%s", r->text);
}

/* Pair `i`: the app's end and the relay's end, the latter through chaos when asked. */
static int rig_side(struct rig *g, int i, size_t cap, const struct pg_chaos_options *o,
                    struct pg_transport **relay)
{
    int r = pg_mem_pair(g->l, cap, &g->app[i].t, relay);
    if (r < 0 || o == NULL) {
        return r;
    }
    struct pg_transport *rough = NULL;
    r = pg_chaos_new(g->l, *relay, o, &rough);
    if (r < 0) {
        pg_transport_close(*relay);
        pg_transport_close(g->app[i].t);
        g->app[i].t = NULL;
        *relay = NULL;
        return r;
    }
    *relay = rough;
    return 0;
}

static int rig_init(struct rig *g, struct pg_loop *l, size_t cap, const struct pg_chaos_options *o)
{
    struct pg_transport *side[2] = {NULL, NULL};
    memset(g, 0, sizeof(*g));
    g->l = l;
    int r = rig_side(g, 0, cap, o, &side[0]);
    r = r < 0 ? r : rig_side(g, 1, cap, o, &side[1]);
    r = r < 0 ? r : pg_relay_start(l, side[0], side[1], on_done, g, &g->relay);
    if (r < 0) {
        pg_transport_close(side[0]);
        pg_transport_close(side[1]);
        return r;
    }
    for (int i = 0; i < 2; i++) {
        g->app[i].seed = 100 + (uint64_t)i;
        g->app[i].peer_seed = 101 - (uint64_t)i;
        g->app[i].reads = true;
        g->app[i].half_close = true;
        pg_transport_set_owner(g->app[i].t, on_app, &g->app[i]);
    }
    return 0;
}

static void rig_go(struct rig *g)
{
    app_step(&g->app[0]);
    app_step(&g->app[1]);
}

static void rig_fini(struct rig *g)
{
    for (int i = 0; i < 2; i++) {
        pg_transport_close(g->app[i].t);
        g->app[i].t = NULL;
    }
    (void)pg_loop_sim_settle(g->l, 100000);
    CU_ASSERT_TRUE(g->relay == NULL || g->done == 1);
}

static void no_op(void *arg)
{
    (void)arg;
}

static struct pg_loop *sim(void)
{
    struct pg_loop *l = NULL;
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&l), 0);
    struct pg_timer *t = NULL;
    CU_ASSERT_EQUAL_FATAL(pg_timer_new(l, no_op, NULL, &t), 0); /* room for one timer */
    pg_timer_free(t);
    return l;
}

static void check_all(const struct rig *g, uint64_t a, uint64_t b)
{
    CU_ASSERT_EQUAL(g->done, 1);
    CU_ASSERT_EQUAL(g->res.err, 0);
    CU_ASSERT_EQUAL(g->res.a_to_b, a);
    CU_ASSERT_EQUAL(g->res.b_to_a, b);
    CU_ASSERT_STRING_EQUAL(g->text, "");
    CU_ASSERT_EQUAL(g->app[1].got, a);
    CU_ASSERT_EQUAL(g->app[0].got, b);
    CU_ASSERT_EQUAL(g->app[0].wrong + g->app[1].wrong, 0);
    CU_ASSERT_TRUE(g->app[0].eof && g->app[1].eof);
    CU_ASSERT_EQUAL(g->app[0].err, 0);
    CU_ASSERT_EQUAL(g->app[1].err, 0);
}

static void both_ways(void)
{
    struct pg_loop *l = sim();
    size_t caps[] = {64, 5000, 200000};
    for (size_t i = 0; i < PG_ARRAY_LEN(caps); i++) {
        struct rig g;
        CU_ASSERT_EQUAL_FATAL(rig_init(&g, l, caps[i], NULL), 0);
        g.app[0].to_send = 200000;
        g.app[1].to_send = 70001;
        rig_go(&g);
        CU_ASSERT_TRUE(pg_loop_sim_settle(l, 1000000));
        check_all(&g, 200000, 70001);
        rig_fini(&g);
    }
    pg_loop_free(l);
}

static void over_chaos(void)
{
    struct pg_loop *l = sim();
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct pg_chaos_options o = {.seed = seed,
                                     .split_pct = 50,
                                     .again_pct = 20,
                                     .max_piece = 3000,
                                     .reset_at_read = UINT64_MAX,
                                     .reset_at_write = UINT64_MAX};
        struct rig g;
        CU_ASSERT_EQUAL_FATAL(rig_init(&g, l, 9000, &o), 0);
        g.app[0].to_send = 60000;
        g.app[1].to_send = 60000;
        rig_go(&g);
        CU_ASSERT_TRUE(pg_loop_sim_settle(l, 1000000));
        check_all(&g, 60000, 60000);
        rig_fini(&g);
    }
    pg_loop_free(l);
}

/* A request ended by half-close, then the whole answer; in both directions. */
static void half_close(void)
{
    struct pg_loop *l = sim();
    for (int first = 0; first < 2; first++) {
        struct rig g;
        CU_ASSERT_EQUAL_FATAL(rig_init(&g, l, 1000, NULL), 0);
        g.app[first].to_send = 10;
        g.app[!first].to_send = 100000;
        g.app[!first].answer = true;
        rig_go(&g);
        CU_ASSERT_TRUE(pg_loop_sim_settle(l, 1000000));
        check_all(&g, first == 0 ? 10 : 100000, first == 0 ? 100000 : 10);
        rig_fini(&g);
    }
    pg_loop_free(l);
}

/* A receiver that does not read stops the sender; the relay holds one bounded buffer; then all goes through.
 */
static void stalled_reader(void)
{
    struct pg_loop *l = sim();
    struct rig g;
    uint64_t to_b;
    uint64_t to_a;
    CU_ASSERT_EQUAL_FATAL(rig_init(&g, l, 100000, NULL), 0);
    size_t idle = pg_mem_live_blocks();
    g.app[0].to_send = 10000000;
    g.app[1].reads = false;
    g.app[1].half_close = false;
    rig_go(&g);
    (void)pg_loop_sim_settle(l, 1000);
    /* two pipes and one relay buffer, nothing else */
    CU_ASSERT_TRUE(g.app[0].sent <= 2 * 100000 + PG_RELAY_BUFFER);
    pg_relay_counts(g.relay, &to_b, &to_a);
    CU_ASSERT_EQUAL(to_b, 100000);
    CU_ASSERT_EQUAL(to_a, 0);
    g.app[1].reads = true;
    g.app[1].half_close = true;
    app_step(&g.app[1]);
    (void)pg_loop_sim_settle(l, 1000000);
    check_all(&g, 10000000, 0);
    rig_fini(&g);
    CU_ASSERT_TRUE(pg_mem_live_blocks() < idle);
    pg_loop_free(l);
}

/* Between bytes a relay holds no buffer. */
static void idle_holds_nothing(void)
{
    struct pg_loop *l = sim();
    struct rig g;
    CU_ASSERT_EQUAL_FATAL(rig_init(&g, l, 100000, NULL), 0);
    g.app[0].half_close = g.app[1].half_close = false;
    rig_go(&g);
    CU_ASSERT_TRUE(pg_loop_sim_settle(l, 100));
    size_t before = pg_mem_live_blocks();
    g.app[0].to_send = 50000;
    app_step(&g.app[0]);
    CU_ASSERT_TRUE(pg_loop_sim_settle(l, 1000));
    CU_ASSERT_EQUAL(g.app[1].got, 50000);
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), before);
    pg_relay_abort(g.relay, PG_E_CANCELLED, "drained");
    (void)pg_loop_sim_settle(l, 100);
    CU_ASSERT_EQUAL(g.done, 1);
    CU_ASSERT_EQUAL(g.res.err, PG_E_CANCELLED);
    CU_ASSERT_STRING_EQUAL(g.text, "drained");
    CU_ASSERT_EQUAL(g.app[0].err, PG_E_RESET);
    CU_ASSERT_EQUAL(g.app[1].err, PG_E_RESET);
    rig_fini(&g);
    pg_loop_free(l);
}

/* An abort of one app reaches the other as an abort, never as an end. */
static void reset_is_passed_on(void)
{
    struct pg_loop *l = sim();
    for (int who = 0; who < 2; who++) {
        struct rig g;
        CU_ASSERT_EQUAL_FATAL(rig_init(&g, l, 1000, NULL), 0);
        g.app[0].half_close = g.app[1].half_close = false;
        g.app[who].to_send = 300;
        rig_go(&g);
        CU_ASSERT_TRUE(pg_loop_sim_settle(l, 100));
        pg_transport_abort(g.app[who].t);
        g.app[who].t = NULL;
        CU_ASSERT_TRUE(pg_loop_sim_settle(l, 100));
        CU_ASSERT_EQUAL(g.done, 1);
        CU_ASSERT_EQUAL(g.res.err, PG_E_RESET);
        CU_ASSERT_EQUAL(g.res.err_on_b, who == 1);
        CU_ASSERT_FALSE(g.res.err_on_write);
        CU_ASSERT_EQUAL(g.app[!who].err, PG_E_RESET);
        CU_ASSERT_FALSE(g.app[!who].eof);
        CU_ASSERT_EQUAL(g.app[!who].got, 300);
        rig_fini(&g);
    }
    pg_loop_free(l);
}

/* A reset at any byte, reading or writing: done exactly once, with the error, and nobody sees a clean end. */
static void reset_anywhere(void)
{
    struct pg_loop *l = sim();
    size_t before = pg_mem_live_blocks();
    for (uint64_t at = 0; at < 64; at++) {
        struct pg_chaos_options o = {.seed = at,
                                     .split_pct = 50,
                                     .max_piece = 9,
                                     .reset_at_read = UINT64_MAX,
                                     .reset_at_write = UINT64_MAX};
        *((at & 1) ? &o.reset_at_read : &o.reset_at_write) = at;
        struct rig g;
        CU_ASSERT_EQUAL_FATAL(rig_init(&g, l, 50, &o), 0);
        g.app[0].to_send = 100;
        g.app[1].to_send = 100;
        rig_go(&g);
        CU_ASSERT_TRUE(pg_loop_sim_settle(l, 10000));
        CU_ASSERT_EQUAL(g.done, 1);
        CU_ASSERT_EQUAL(g.res.err, PG_E_RESET);
        CU_ASSERT_EQUAL(g.res.err_on_write, (at & 1) == 0);
        CU_ASSERT_STRING_EQUAL(g.text, "injected reset");
        CU_ASSERT_FALSE(g.app[0].eof || g.app[1].eof);
        rig_fini(&g);
        CU_ASSERT_EQUAL(pg_mem_live_blocks(), before);
    }
    pg_loop_free(l);
}

static int relay_scenario(void *arg)
{
    struct rig g;
    int r = rig_init(&g, arg, 700, NULL);
    if (r == 0) {
        g.app[0].to_send = 5000;
        rig_go(&g);
        (void)pg_loop_sim_settle(arg, 10000);
        r = g.done == 1 ? g.res.err : PG_E_BUG;
        if (r == 0) {
            CU_ASSERT_EQUAL(g.app[1].got, 5000);
        }
        if (g.done == 0) { /* the app's own write failed: it hangs up */
            r = g.app[0].err != 0 ? g.app[0].err : g.app[1].err;
            CU_ASSERT_TRUE(r < 0);
        }
    }
    rig_fini(&g);
    return r;
}

static void no_memory(void)
{
    struct pg_loop *l = sim();
    CU_ASSERT_TRUE(test_alloc_sweep(relay_scenario, l) >= 6);
    pg_loop_free(l);
}

/* A layer that keeps what it accepted: the relay must not close before it is out. */
struct slow {
    struct pg_transport t;
    struct pg_transport *lower;
    size_t held;
    size_t held_at_close;
    int status;
};

static ssize_t slow_read(struct pg_transport *t, void *buf, size_t cap)
{
    return pg_transport_read(PG_CONTAINER_OF(t, struct slow, t)->lower, buf, cap);
}

static ssize_t slow_writev(struct pg_transport *t, const struct iovec *iov, int n)
{
    struct slow *s = PG_CONTAINER_OF(t, struct slow, t);
    ssize_t w = pg_transport_writev(s->lower, iov, n);
    s->held += w > 0 ? (size_t)w : 0;
    return w;
}

static int slow_shutdown(struct pg_transport *t)
{
    return pg_transport_shutdown(PG_CONTAINER_OF(t, struct slow, t)->lower);
}

static void slow_ready(struct pg_transport *lower, unsigned rw, void *arg)
{
    struct slow *s = arg;
    (void)lower;
    s->t.on_ready(&s->t, rw, s->t.arg);
}

static void slow_want(struct pg_transport *t, unsigned rw)
{
    pg_transport_want(PG_CONTAINER_OF(t, struct slow, t)->lower, rw);
}

static void slow_close(struct pg_transport *t, bool abrupt)
{
    struct slow *s = PG_CONTAINER_OF(t, struct slow, t);
    s->held_at_close = s->held;
    s->lower->ops->close(s->lower, abrupt);
}

static int slow_status(struct pg_transport *t)
{
    return PG_CONTAINER_OF(t, struct slow, t)->status;
}

static size_t slow_pending(struct pg_transport *t)
{
    return PG_CONTAINER_OF(t, struct slow, t)->held;
}

static const struct pg_transport_ops slow_ops = {.name = "slow",
                                                 .read = slow_read,
                                                 .writev = slow_writev,
                                                 .shutdown = slow_shutdown,
                                                 .want = slow_want,
                                                 .close = slow_close,
                                                 .status = slow_status,
                                                 .pending = slow_pending};

/* outcome 0: gets out after a while; 1: never; 2: fails meanwhile; 3: part by part, and then no more */
static void linger_one(struct pg_loop *l, int outcome)
{
    struct rig g;
    struct slow s = {.t.ops = &slow_ops, .status = 1};
    struct pg_transport *side[2];
    memset(&g, 0, sizeof(g));
    g.l = l;
    CU_ASSERT_EQUAL_FATAL(rig_side(&g, 0, 1000, NULL, &side[0]), 0);
    CU_ASSERT_EQUAL_FATAL(rig_side(&g, 1, 1000, NULL, &side[1]), 0);
    s.lower = side[1];
    pg_transport_set_owner(side[1], slow_ready, &s);
    CU_ASSERT_EQUAL_FATAL(pg_relay_start(l, side[0], &s.t, on_done, &g, &g.relay), 0);
    for (int i = 0; i < 2; i++) {
        g.app[i].reads = g.app[i].half_close = true;
        g.app[i].seed = g.app[i].peer_seed = 5;
        pg_transport_set_owner(g.app[i].t, on_app, &g.app[i]);
    }
    g.app[0].to_send = 500;
    rig_go(&g);
    pg_loop_sim_advance(l, 1000);
    CU_ASSERT_EQUAL(g.done, 0);
    if (outcome == 0) {
        s.held = 0;
    } else if (outcome == 2) {
        s.status = PG_E_TLS;
    }
    for (; outcome == 3 && s.held > 100; s.held -= 100) {
        pg_loop_sim_advance(l, 20000);
        CU_ASSERT_EQUAL(g.done, 0);
    }
    pg_loop_sim_advance(l, outcome % 2 == 1 ? 30010 : 10);
    CU_ASSERT_EQUAL(g.done, 1);
    CU_ASSERT_EQUAL(g.res.err, outcome == 0 ? 0 : outcome % 2 == 1 ? PG_E_TIMEDOUT : PG_E_TLS);
    CU_ASSERT_EQUAL(g.res.err_on_b, outcome != 0);
    CU_ASSERT_EQUAL(s.held_at_close, outcome == 0 ? 0 : outcome == 3 ? 100 : 500);
    rig_fini(&g);
}

static void waits_for_pending_bytes(void)
{
    struct pg_loop *l = sim();
    for (int outcome = 0; outcome < 3; outcome++) {
        linger_one(l, outcome);
    }
    pg_loop_free(l);
}

/* Slow, but it goes on: the time counts from the last progress. */
static void slow_is_not_dead(void)
{
    struct pg_loop *l = sim();
    linger_one(l, 3);
    pg_loop_free(l);
}

/* One side resets while nothing is wanted of it: the other is stalled (0), or it had ended before (1). */
static void reset_of_a_blind_side(void)
{
    struct pg_loop *l = sim();
    for (int ended = 0; ended < 2; ended++) {
        struct rig g;
        CU_ASSERT_EQUAL_FATAL(rig_init(&g, l, 1000, NULL), 0);
        g.app[0].to_send = ended ? 100 : 10000000;
        g.app[1].reads = ended;
        g.app[1].half_close = false;
        rig_go(&g);
        pg_loop_sim_advance(l, 60000);
        CU_ASSERT_EQUAL(g.done, 0);
        pg_transport_abort(g.app[0].t);
        g.app[0].t = NULL;
        pg_loop_sim_advance(l, 5001);
        CU_ASSERT_EQUAL(g.done, 1);
        CU_ASSERT_EQUAL(g.res.err, PG_E_RESET);
        CU_ASSERT_FALSE(g.res.err_on_b);
        g.app[1].reads = true;
        app_read(&g.app[1]);
        CU_ASSERT_EQUAL(g.app[1].err, ended ? 0 : PG_E_RESET);
        CU_ASSERT_EQUAL(g.app[1].eof, ended != 0);
        rig_fini(&g);
    }
    pg_loop_free(l);
}

TEST_MAIN("relay", {"both ways", both_ways}, {"over chaos", over_chaos}, {"half-close", half_close},
          {"stalled reader", stalled_reader}, {"idle holds nothing", idle_holds_nothing},
          {"reset is passed on", reset_is_passed_on}, {"reset anywhere", reset_anywhere},
          {"no memory", no_memory}, {"waits for pending bytes", waits_for_pending_bytes},
          {"slow is not dead", slow_is_not_dead}, {"reset of a blind side", reset_of_a_blind_side})
