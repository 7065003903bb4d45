/* SPDX-License-Identifier: Apache-2.0 */
/* The relay between TCP sockets on the real loop, where bulk is spliced: content, ends, resets, bounds,
 * descriptors. */
#include "testlib.h"
#include "transport_suite.h"

#include "net/sock.h"

#include <dirent.h>
#include <string.h>

#define BULK 6000000u

struct app {
    struct pg_transport *t;
    uint64_t to_send;
    uint64_t sent;
    uint64_t got;
    uint64_t wrong;
    uint64_t seed;
    uint64_t peer_seed;
    bool reads;
    bool half_close;
    bool shut;
    bool eof;
    int err;
};
struct rig {
    struct pg_loop *l;
    struct app app[2];
    struct pg_relay *relay;
    struct pg_relay_result res;
    size_t fds; /* before */
    int done;
};

static size_t open_fds(void)
{
    size_t n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d != NULL && readdir(d) != NULL) {
        n++;
    }
    if (d != NULL) {
        closedir(d);
    }
    return n;
}

static void app_read(struct app *a)
{
    unsigned char buf[30000];
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
    unsigned char buf[30000];
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
    app_write(a);
    unsigned rw = a->reads && !a->eof ? PG_READ : 0;
    rw |= a->sent < a->to_send ? PG_WRITE : 0;
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
}

static void on_accept(struct pg_transport *t, const struct pg_addr *from, void *arg)
{
    (void)from;
    *(struct pg_transport **)arg = t;
}

static bool accepted(void *arg)
{
    return *(struct pg_transport **)arg != NULL;
}

static void tcp_pair(struct pg_loop *l, struct pg_transport **a, struct pg_transport **b)
{
    struct pg_addr at = {.port = 0};
    struct pg_listener *lis = NULL;
    *b = NULL;
    CU_ASSERT_EQUAL_FATAL(pg_ip_parse(PG_STR("127.0.0.1"), &at.ip), 0);
    CU_ASSERT_EQUAL_FATAL(pg_tcp_listen(l, &at, NULL, on_accept, b, &lis, NULL), 0);
    at = pg_listener_addr(lis);
    CU_ASSERT_EQUAL_FATAL(pg_tcp_connect(l, &at, NULL, a, NULL), 0);
    CU_ASSERT_TRUE_FATAL(suite_turns(l, accepted, b));
    CU_ASSERT_EQUAL(pg_transport_status(*a), 1);
    pg_listener_free(lis);
    suite_idle(l, 2);
}

static void rig_init(struct rig *g)
{
    struct pg_transport *side[2];
    memset(g, 0, sizeof(*g));
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&g->l), 0);
    tcp_pair(g->l, &g->app[0].t, &side[0]);
    tcp_pair(g->l, &side[1], &g->app[1].t);
    g->fds = open_fds();
    CU_ASSERT_EQUAL_FATAL(pg_relay_start(g->l, side[0], side[1], on_done, g, &g->relay), 0);
    for (int i = 0; i < 2; i++) {
        g->app[i].seed = 100 + (uint64_t)i;
        g->app[i].peer_seed = 101 - (uint64_t)i;
        g->app[i].reads = true;
        g->app[i].half_close = true;
        pg_transport_set_owner(g->app[i].t, on_app, &g->app[i]);
    }
}

static void rig_fini(struct rig *g)
{
    for (int i = 0; i < 2; i++) {
        pg_transport_close(g->app[i].t);
    }
    suite_idle(g->l, 5);
    CU_ASSERT_EQUAL(g->done, 1);
    pg_loop_free(g->l);
}

static bool all_over(void *arg)
{
    struct rig *g = arg;
    return g->done > 0 && (g->app[0].eof || g->app[0].err < 0) && (g->app[1].eof || g->app[1].err < 0);
}

static void check_all(const struct rig *g)
{
    CU_ASSERT_EQUAL(g->res.err, 0);
    CU_ASSERT_EQUAL(g->res.a_to_b, g->app[0].to_send);
    CU_ASSERT_EQUAL(g->res.b_to_a, g->app[1].to_send);
    CU_ASSERT_EQUAL(g->app[1].got, g->app[0].to_send);
    CU_ASSERT_EQUAL(g->app[0].got, g->app[1].to_send);
    CU_ASSERT_EQUAL(g->app[0].wrong + g->app[1].wrong, 0);
    CU_ASSERT_TRUE(g->app[0].eof && g->app[1].eof);
}

static void bulk_both_ways(void)
{
    struct rig g;
    rig_init(&g);
    g.app[0].to_send = BULK;
    g.app[1].to_send = BULK / 2 + 1;
    app_step(&g.app[0]);
    app_step(&g.app[1]);
    CU_ASSERT_TRUE(suite_turns(g.l, all_over, &g));
    check_all(&g);
    suite_idle(g.l, 3);
    CU_ASSERT_EQUAL(open_fds(), g.fds - 2); /* the relay's two sockets are gone, and no pipe is left */
    rig_fini(&g);
}

static struct rig *watched;
static uint64_t last_sent;
static int quiet;

static bool stalled(void *arg)
{
    (void)arg;
    quiet = watched->app[0].sent == last_sent ? quiet + 1 : 0;
    last_sent = watched->app[0].sent;
    return quiet > 20;
}

/* Feeds until nothing moves any more. */
static void stall(struct rig *g)
{
    watched = g;
    quiet = 0;
    g->app[0].to_send = 100u << 20;
    g->app[1].reads = false;
    g->app[1].half_close = false;
    app_step(&g->app[0]);
    while (!stalled(NULL)) {
        app_step(&g->app[0]);
        suite_idle(g->l, 3);
    }
    CU_ASSERT_TRUE(g->app[0].sent < 50u << 20);
}

static void stalled_reader(void)
{
    struct rig g;
    uint64_t to_b;
    uint64_t to_a;
    rig_init(&g);
    size_t blocks = pg_mem_live_blocks();
    stall(&g);
    CU_ASSERT_EQUAL(open_fds(), g.fds + 2);             /* one pipe: bulk is spliced */
    CU_ASSERT_TRUE(pg_mem_live_blocks() <= blocks + 1); /* and nothing is buffered here */
    pg_relay_counts(g.relay, &to_b, &to_a);
    CU_ASSERT_TRUE(to_b > 0 && to_b <= g.app[0].sent);
    g.app[0].to_send = g.app[0].sent + 100; /* a short rest, then the end */
    g.app[1].reads = g.app[1].half_close = true;
    app_step(&g.app[0]);
    app_step(&g.app[1]);
    CU_ASSERT_TRUE(suite_turns(g.l, all_over, &g));
    check_all(&g);
    rig_fini(&g);
}

/* The sender, or the reader, resets while bytes wait in the pipe: nobody sees a clean end, nothing is left
 * open. */
static void reset_with_a_full_pipe(void)
{
    for (int who = 0; who < 2; who++) {
        struct rig g;
        rig_init(&g);
        stall(&g);
        pg_transport_abort(g.app[who].t);
        g.app[who].t = NULL;
        g.app[who].eof = true; /* over, as far as all_over is concerned */
        g.app[!who].reads = true;
        if (who == 1) {
            app_step(&g.app[0]);
        } else {
            g.app[1].reads = true;
            app_step(&g.app[1]);
        }
        CU_ASSERT_TRUE(suite_turns(g.l, all_over, &g));
        CU_ASSERT_EQUAL(g.res.err, PG_E_RESET);
        CU_ASSERT_EQUAL(g.res.err_on_b, who == 1);
        CU_ASSERT_TRUE(g.app[!who].err < 0);
        CU_ASSERT_FALSE(g.app[!who].eof);
        CU_ASSERT_EQUAL(g.app[!who].wrong, 0);
        suite_idle(g.l, 3);
        CU_ASSERT_EQUAL(open_fds(), g.fds - 3);
        rig_fini(&g);
    }
}

static bool small_arrived(void *arg)
{
    struct rig *g = arg;
    return g->app[1].got == g->app[0].to_send;
}

/* When bulk turns into small talk the pipe is given back. */
static void back_to_copying(void)
{
    struct rig g;
    rig_init(&g);
    g.app[0].half_close = g.app[1].half_close = false;
    g.app[0].to_send = BULK;
    app_step(&g.app[0]);
    app_step(&g.app[1]);
    CU_ASSERT_TRUE(suite_turns(g.l, small_arrived, &g));
    for (int i = 0; i < 3; i++) {
        g.app[0].to_send += 10;
        app_step(&g.app[0]);
        CU_ASSERT_TRUE(suite_turns(g.l, small_arrived, &g));
        suite_idle(g.l, 2);
    }
    CU_ASSERT_EQUAL(open_fds(), g.fds);
    g.app[0].half_close = g.app[1].half_close = true;
    app_step(&g.app[0]);
    app_step(&g.app[1]);
    CU_ASSERT_TRUE(suite_turns(g.l, all_over, &g));
    check_all(&g);
    rig_fini(&g);
}

TEST_MAIN("relay over TCP", {"bulk both ways", bulk_both_ways}, {"stalled reader", stalled_reader},
          {"reset with a full pipe", reset_with_a_full_pipe}, {"back to copying", back_to_copying})
