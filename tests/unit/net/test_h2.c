/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/2 sessions as an application uses them: requests, tunnels, trailers, half-close, back-pressure,
 * GOAWAY, capacity, pings, ends. Over the memory pair and virtual time.
 */
#include "h2_pair.h"

#include "net/loop_sim.h"
#include "transport_suite.h"

#include <string.h>

static struct pg_loop *loop;
static struct pair p;

static void open_pair(size_t cap)
{
    memset(&p, 0, sizeof(p));
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&loop), 0);
    CU_ASSERT_EQUAL_FATAL(pair_mem(&p, loop, cap), 0);
    pair_settle(&p);
}

static void close_pair(void)
{
    pair_free(&p);
    pg_loop_free(loop);
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), 0);
}

static void test_request_response(void)
{
    struct side *c = NULL;
    uint64_t at = 0;
    open_pair(1 << 20);
    CU_ASSERT_EQUAL(p.settings, 2);
    CU_ASSERT_EQUAL_FATAL(pair_request(&p, "GET", true, &c), 0);
    pair_settle(&p);
    CU_ASSERT_EQUAL_FATAL(p.ns, 1);
    struct side *s = &p.s[0];
    CU_ASSERT_TRUE(s->head_end);
    CU_ASSERT_STRING_EQUAL(s->method, "GET");
    CU_ASSERT_STRING_EQUAL(s->authority, "10.1.2.3:80");
    side_read(s);
    CU_ASSERT_EQUAL(s->read_end, 1);
    CU_ASSERT_EQUAL(side_respond(s, "200", false), 0);
    CU_ASSERT_EQUAL(side_write(s, 7, &at, 100000), 0);
    CU_ASSERT_EQUAL(pg_h2_end(s->s), 0);
    CU_ASSERT_EQUAL(pg_h2_end(s->s), 0);
    pair_settle(&p);
    CU_ASSERT_STRING_EQUAL(c->status, "200");
    CU_ASSERT_FALSE(c->head_end);
    CU_ASSERT_TRUE(c->closed);
    CU_ASSERT_EQUAL(c->err, 0);
    CU_ASSERT_EQUAL(c->readable, 1);
    side_read(c);
    CU_ASSERT_EQUAL(c->got, 100000);
    CU_ASSERT_EQUAL(c->sum, pattern_sum(7, 100000));
    CU_ASSERT_EQUAL(c->read_end, 1);
    CU_ASSERT_TRUE(s->closed);
    CU_ASSERT_EQUAL(pg_h2_active(p.client), 0);
    CU_ASSERT_EQUAL(pg_h2_active(p.server), 0);
    close_pair();
}

/* A tunnel that is up: *c and its counterpart. */
static struct side *open_tunnel(struct side **c)
{
    size_t n = p.ns;
    CU_ASSERT_EQUAL_FATAL(pair_request(&p, "CONNECT", false, c), 0);
    pair_settle(&p);
    CU_ASSERT_EQUAL_FATAL(p.ns, n + 1);
    struct side *s = &p.s[n];
    if (!p.auto_respond) {
        CU_ASSERT_EQUAL(side_respond(s, "200", false), 0);
    }
    pair_settle(&p);
    CU_ASSERT_STRING_EQUAL((*c)->status, "200");
    return s;
}

static void test_trailers(void)
{
    struct side *c = NULL;
    uint64_t at = 0;
    open_pair(1 << 20);
    CU_ASSERT_EQUAL_FATAL(pair_request(&p, "POST", false, &c), 0);
    CU_ASSERT_EQUAL(side_write(c, 1, &at, 5), 0);
    pair_settle(&p);
    struct side *s = &p.s[0];
    CU_ASSERT_EQUAL(side_respond(s, "200", false), 0);
    at = 0;
    CU_ASSERT_EQUAL(side_write(s, 2, &at, 30000), 0);
    CU_ASSERT_EQUAL(side_trailers(s, "0"), 0);
    CU_ASSERT_EQUAL(pg_h2_writev(s->s, NULL, 0), PG_E_CLOSED);
    pair_settle(&p);
    CU_ASSERT_TRUE(c->trailers);
    CU_ASSERT_STRING_EQUAL(c->trailer, "0");
    CU_ASSERT_FALSE(c->closed); /* our half is still open */
    side_read(c);
    CU_ASSERT_EQUAL(c->got, 30000);
    CU_ASSERT_EQUAL(c->read_end, 1);
    /* The server is done and says so with a reset that is no error. */
    side_close(s, PG_H2_NO_ERROR);
    pair_settle(&p);
    CU_ASSERT_TRUE(c->closed);
    CU_ASSERT_EQUAL(c->err, 0);
    CU_ASSERT_EQUAL(c->code, PG_H2_NO_ERROR);
    CU_ASSERT_EQUAL(pg_h2_active(p.server), 0);
    close_pair();
}

static void test_trailers_only(void)
{
    struct side *c = NULL;
    open_pair(1 << 20);
    CU_ASSERT_EQUAL_FATAL(pair_request(&p, "POST", true, &c), 0);
    pair_settle(&p);
    CU_ASSERT_EQUAL(side_respond(&p.s[0], "200", true), 0);
    CU_ASSERT_EQUAL(side_respond(&p.s[0], "200", true), PG_E_CLOSED);
    pair_settle(&p);
    CU_ASSERT_TRUE(c->head_end);
    CU_ASSERT_STRING_EQUAL(c->trailer, "head");
    CU_ASSERT_FALSE(c->trailers);
    side_read(c);
    CU_ASSERT_EQUAL(c->read_end, 1);
    CU_ASSERT_TRUE(c->closed);
    CU_ASSERT_EQUAL(c->err, 0);

    /* Trailers with no data before them. */
    CU_ASSERT_EQUAL_FATAL(pair_request(&p, "POST", true, &c), 0);
    pair_settle(&p);
    CU_ASSERT_EQUAL(side_respond(&p.s[1], "200", false), 0);
    pair_settle(&p);
    CU_ASSERT_EQUAL(side_trailers(&p.s[1], "13"), 0);
    pair_settle(&p);
    CU_ASSERT_STRING_EQUAL(c->trailer, "13");
    CU_ASSERT_TRUE(c->trailers);
    CU_ASSERT_TRUE(c->closed);
    CU_ASSERT_EQUAL(c->err, 0);
    close_pair();
}

/* A response told in full, the request not: the client gets all of it, then no error. */
static void test_answer_and_leave(void)
{
    struct side *c = NULL;
    uint64_t at = 0;
    open_pair(5000);
    CU_ASSERT_EQUAL_FATAL(pair_request(&p, "POST", false, &c), 0);
    pair_settle(&p);
    struct side *s = &p.s[0];
    CU_ASSERT_EQUAL(side_respond(s, "200", false), 0);
    CU_ASSERT_EQUAL(side_write(s, 3, &at, 100000), 0);
    CU_ASSERT_EQUAL(pg_h2_end(s->s), 0);
    side_close(s, PG_H2_NO_ERROR);
    pair_settle(&p);
    side_read(c);
    CU_ASSERT_EQUAL(c->got, 100000);
    CU_ASSERT_EQUAL(c->sum, pattern_sum(3, 100000));
    CU_ASSERT_EQUAL(c->read_end, 1);
    CU_ASSERT_TRUE(c->closed);
    CU_ASSERT_EQUAL(c->err, 0);
    CU_ASSERT_EQUAL(pg_h2_active(p.client), 0);
    CU_ASSERT_EQUAL(pg_h2_active(p.server), 0);
    close_pair();
}

/* The same, but the client never reads: what its owner left behind is not kept for ever. */
static void test_leave_stuck(void)
{
    struct side *c = NULL;
    uint64_t at = 0;
    open_pair(1 << 20);
    for (int i = 0; i < 2; i++) {
        CU_ASSERT_EQUAL_FATAL(pair_request(&p, "POST", i == 0, &c), 0);
        pair_settle(&p);
        struct side *s = &p.s[i];
        CU_ASSERT_EQUAL(side_respond(s, "200", false), 0);
        at = 0;
        for (int k = 0; k < 300; k++) { /* window and send buffer full */
            (void)side_write(s, 3, &at, 1u << 30);
            pg_loop_turn(loop, false);
        }
        CU_ASSERT_EQUAL(pg_h2_end(s->s), 0);
        side_close(s, PG_H2_NO_ERROR);
        pair_settle(&p);
        CU_ASSERT_EQUAL(pg_h2_active(p.server), 1);
        pg_loop_sim_advance(loop, 50000);
        CU_ASSERT_EQUAL(pg_h2_active(p.server), 1);
        /* one that moves is left alone */
        char some[3 << 20];
        if (i == 0) {
            ssize_t n = pg_h2_read(c->s, some, sizeof(some));
            CU_ASSERT_TRUE(n > 2 << 20);
            pg_h2_consumed(c->s, (size_t)n);
            pair_settle(&p);
        }
        pg_loop_sim_advance(loop, 20000);
        CU_ASSERT_EQUAL(pg_h2_active(p.server), 0);
        CU_ASSERT_TRUE(c->closed);
        CU_ASSERT_EQUAL(c->err, i == 0 ? 0 : PG_E_RESET);
        side_read(c);
        CU_ASSERT_EQUAL(c->read_end, i == 0 ? 1 : PG_E_RESET);
    }
    close_pair();
}

/* Random sizes both ways on several tunnels at once, over a pipe that splits. */
static void test_tunnels(void)
{
    enum { N = 8, TOTAL = 150000 };
    struct side *c[N];
    struct side *s[N];
    uint64_t up[N] = {0};
    uint64_t down[N] = {0};
    bool busy = true;
    open_pair(9000);
    for (int i = 0; i < N; i++) {
        s[i] = open_tunnel(&c[i]);
        c[i]->auto_read = true;
        s[i]->auto_read = true;
    }
    for (int round = 0; round < 10000 && busy; round++) {
        busy = false;
        for (int i = 0; i < N; i++) {
            uint64_t some = up[i] + 1 + (uint64_t)(round * 37 + i * 1001) % 20000;
            int r = side_write(c[i], 100 + i, &up[i], some < TOTAL ? some : TOTAL);
            CU_ASSERT_TRUE(r == 0 || r == PG_E_AGAIN);
            r = side_write(s[i], 200 + i, &down[i], TOTAL);
            CU_ASSERT_TRUE(r == 0 || r == PG_E_AGAIN);
            busy = busy || up[i] < TOTAL || down[i] < TOTAL;
        }
        pg_loop_turn(loop, false);
    }
    for (int i = 0; i < N; i++) { /* both orders of half-close */
        CU_ASSERT_EQUAL(pg_h2_end(i % 2 == 0 ? c[i]->s : s[i]->s), 0);
    }
    pair_settle(&p);
    for (int i = 0; i < N; i++) {
        struct side *first = i % 2 == 0 ? c[i] : s[i];
        struct side *second = i % 2 == 0 ? s[i] : c[i];
        CU_ASSERT_EQUAL(second->read_end, 1);
        CU_ASSERT_EQUAL(first->read_end, 0);
        CU_ASSERT_FALSE(first->closed || second->closed);
        uint64_t at = TOTAL;
        CU_ASSERT_EQUAL(side_write(second, i % 2 == 0 ? 200 + i : 100 + i, &at, TOTAL + 5000), 0);
        CU_ASSERT_EQUAL(pg_h2_end(second->s), 0);
    }
    pair_settle(&p);
    for (int i = 0; i < N; i++) {
        uint64_t to_server = TOTAL + (i % 2 == 0 ? 0 : 5000);
        uint64_t to_client = TOTAL + (i % 2 == 0 ? 5000 : 0);
        CU_ASSERT_EQUAL(s[i]->got, to_server);
        CU_ASSERT_EQUAL(c[i]->got, to_client);
        CU_ASSERT_EQUAL(s[i]->sum, pattern_sum(100 + i, to_server));
        CU_ASSERT_EQUAL(c[i]->sum, pattern_sum(200 + i, to_client));
        CU_ASSERT_TRUE(c[i]->closed && s[i]->closed);
        CU_ASSERT_EQUAL(c[i]->err, 0);
        CU_ASSERT_EQUAL(s[i]->err, 0);
        CU_ASSERT_EQUAL(c[i]->read_end, 1);
    }
    close_pair();
}

/* Data sent before our answer waits, and goes on after it. */
static void test_early_data(void)
{
    struct side *c = NULL;
    uint64_t at = 0;
    open_pair(1 << 20);
    CU_ASSERT_EQUAL_FATAL(pair_request(&p, "CONNECT", false, &c), 0);
    CU_ASSERT_EQUAL(side_write(c, 9, &at, 1000), 0);
    pair_settle(&p);
    CU_ASSERT_EQUAL(p.s[0].readable, 1);
    CU_ASSERT_EQUAL(side_respond(&p.s[0], "200", false), 0);
    side_read(&p.s[0]);
    CU_ASSERT_EQUAL(p.s[0].got, 1000);
    /* and is thrown away on refusal */
    CU_ASSERT_EQUAL_FATAL(pair_request(&p, "CONNECT", false, &c), 0);
    at = 0;
    CU_ASSERT_EQUAL(side_write(c, 9, &at, 1000), 0);
    pair_settle(&p);
    CU_ASSERT_EQUAL(side_respond(&p.s[1], "401", true), 0);
    side_close(&p.s[1], PG_H2_NO_ERROR);
    pair_settle(&p);
    CU_ASSERT_STRING_EQUAL(c->status, "401");
    CU_ASSERT_TRUE(c->closed);
    CU_ASSERT_EQUAL(c->err, 0);
    close_pair();
}

/* A stream nobody reads stops its sender at the window; others go on; closing it frees the connection's
 * credit. */
static void test_stalled_reader(void)
{
    struct side *stuck = NULL;
    struct side *live = NULL;
    uint64_t at = 0;
    uint64_t live_at = 0;
    open_pair(1 << 20);
    struct side *stuck_s = open_tunnel(&stuck);
    struct side *live_s = open_tunnel(&live);
    live_s->auto_read = true;
    for (int i = 0; i < 2000; i++) {
        (void)side_write(stuck, 1, &at, 1u << 30);
        pg_loop_turn(loop, false);
    }
    CU_ASSERT_EQUAL(at, (4u << 20) + (256u << 10)); /* window and send buffer */
    unsigned writable = stuck->writable;
    for (int i = 0; i < 3000 && live_at < (24u << 20); i++) { /* more than the connection window */
        int r = side_write(live, 2, &live_at, 24u << 20);
        CU_ASSERT_TRUE(r == 0 || r == PG_E_AGAIN);
        pg_loop_turn(loop, false);
    }
    pair_settle(&p);
    CU_ASSERT_EQUAL(live_s->got, 24u << 20);
    CU_ASSERT_EQUAL(stuck->writable, writable);
    CU_ASSERT_EQUAL(stuck_s->readable, 1);
    /* four dead streams' worth of window come back when their reader leaves */
    for (int k = 0; k < 8; k++) {
        side_close(stuck_s, PG_H2_CANCEL);
        pair_settle(&p);
        CU_ASSERT_TRUE(stuck->closed);
        CU_ASSERT_EQUAL(stuck->err, PG_E_RESET);
        side_close(stuck, PG_H2_CANCEL);
        stuck_s = open_tunnel(&stuck);
        at = 0;
        for (int i = 0; i < 200; i++) {
            (void)side_write(stuck, 1, &at, 1u << 30);
            pg_loop_turn(loop, false);
        }
        CU_ASSERT_EQUAL(at, (4u << 20) + (256u << 10));
    }
    /* it was only waiting */
    stuck_s->auto_read = true;
    side_read(stuck_s);
    pair_settle(&p);
    CU_ASSERT_EQUAL(stuck_s->got, at);
    CU_ASSERT_TRUE(stuck->writable > 0);
    close_pair();
}

/* Tunnels cut at every moment of a full pipe, also while a frame of theirs has been promised to the library.
 */
static void test_cut_when_full(void)
{
    for (int turns = 0; turns < 12; turns++) {
        struct side *up[16];
        struct side *down[16];
        open_pair(20000);
        for (size_t i = 0; i < PG_ARRAY_LEN(up); i++) {
            uint64_t at = 0;
            down[i] = open_tunnel(&up[i]);
            CU_ASSERT_EQUAL(side_write(up[i], 1, &at, 1u << 20), PG_E_AGAIN);
        }
        for (int k = 0; k < turns; k++) {
            pg_loop_turn(loop, false);
        }
        for (size_t i = 1; i < PG_ARRAY_LEN(up); i++) {
            side_close(up[i], PG_H2_CONNECT_ERROR);
        }
        pair_settle(&p);
        for (size_t i = 1; i < PG_ARRAY_LEN(down); i++) {
            side_read(down[i]);
            CU_ASSERT_EQUAL(down[i]->read_end, PG_E_RESET);
            CU_ASSERT_EQUAL(down[i]->code, PG_H2_CONNECT_ERROR);
        }
        CU_ASSERT_FALSE(p.client_closed || p.server_closed);
        side_read(down[0]);
        CU_ASSERT_EQUAL(down[0]->sum, pattern_sum(1, down[0]->got));
        CU_ASSERT_EQUAL(pg_h2_active(p.client), 1);
        close_pair();
    }
}

/* Bulk does not starve a small writer, in either direction. */
static void test_fair(void)
{
    struct side *bulk = NULL;
    struct side *small = NULL;
    uint64_t up = 0;
    uint64_t down = 0;
    open_pair(40000);
    struct side *bulk_s = open_tunnel(&bulk);
    struct side *small_s = open_tunnel(&small);
    bulk->auto_read = bulk_s->auto_read = small->auto_read = small_s->auto_read = true;
    for (int i = 0; i < 50; i++) {
        (void)side_write(bulk, 1, &up, 1u << 30);
        (void)side_write(bulk_s, 2, &down, 1u << 30);
        pg_loop_turn(loop, false);
    }
    uint64_t up0 = bulk_s->got;
    uint64_t down0 = bulk->got;
    uint64_t a = 0;
    uint64_t b = 0;
    CU_ASSERT_EQUAL(side_write(small, 3, &a, 100), 0);
    CU_ASSERT_EQUAL(side_write(small_s, 4, &b, 100), 0);
    for (int i = 0; i < 1000 && (small_s->got < 100 || small->got < 100); i++) {
        (void)side_write(bulk, 1, &up, 1u << 30);
        (void)side_write(bulk_s, 2, &down, 1u << 30);
        pg_loop_turn(loop, false);
    }
    CU_ASSERT_EQUAL(small_s->got, 100);
    CU_ASSERT_EQUAL(small->got, 100);
    CU_ASSERT_TRUE(bulk_s->got - up0 < 512 * 1024);
    CU_ASSERT_TRUE(bulk->got - down0 < 512 * 1024);
    close_pair();
}

static void test_server_drain(void)
{
    struct side *c = NULL;
    struct side *late = NULL;
    uint64_t at = 0;
    open_pair(1 << 20);
    struct side *s = open_tunnel(&c);
    pg_h2_drain(p.server);
    CU_ASSERT_EQUAL_FATAL(pair_request(&p, "CONNECT", false, &late), 0); /* crosses the GOAWAY: is served */
    pair_settle(&p);
    CU_ASSERT_EQUAL(p.client_goaways, 1);
    CU_ASSERT_EQUAL(p.ns, 2);
    CU_ASSERT_EQUAL(pg_h2_capacity(p.client), 0);
    CU_ASSERT_EQUAL(pair_request(&p, "CONNECT", false, &late), PG_E_CLOSED);
    CU_ASSERT_EQUAL(side_respond(&p.s[1], "200", true), 0);
    CU_ASSERT_EQUAL(side_write(c, 1, &at, 1000), 0);
    CU_ASSERT_EQUAL(pg_h2_end(c->s), 0);
    pair_settle(&p);
    side_read(s);
    CU_ASSERT_EQUAL(s->got, 1000);
    CU_ASSERT_FALSE(p.server_closed);
    CU_ASSERT_EQUAL(pg_h2_end(s->s), 0);
    CU_ASSERT_EQUAL(pg_h2_end(p.c[1].s), 0);
    pair_settle(&p);
    CU_ASSERT_TRUE(c->closed && s->closed);
    CU_ASSERT_EQUAL(c->err, 0);
    pg_loop_sim_advance(loop, 3000);
    CU_ASSERT_TRUE(p.server_closed);
    CU_ASSERT_TRUE(p.client_closed);
    CU_ASSERT_EQUAL(p.server_err, 0);
    CU_ASSERT_EQUAL(p.client_err, 0);
    close_pair();
}

static void test_client_drain(void)
{
    struct side *c = NULL;
    open_pair(1 << 20);
    struct side *s = open_tunnel(&c);
    pg_h2_drain(p.client);
    CU_ASSERT_EQUAL(pg_h2_capacity(p.client), 0);
    pair_settle(&p);
    CU_ASSERT_FALSE(p.client_closed);
    CU_ASSERT_EQUAL(pg_h2_end(s->s), 0);
    CU_ASSERT_EQUAL(pg_h2_end(c->s), 0);
    pg_loop_sim_advance(loop, 3000);
    CU_ASSERT_TRUE(c->closed && s->closed);
    CU_ASSERT_TRUE(p.client_closed && p.server_closed);
    CU_ASSERT_EQUAL(p.client_err, 0);
    CU_ASSERT_EQUAL(p.server_err, 0);
    close_pair();
}

static void test_capacity(void)
{
    struct pg_transport *a;
    struct pg_transport *b;
    struct pg_h2_options so;
    struct side *c[4] = {NULL};
    memset(&p, 0, sizeof(p));
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&loop), 0);
    CU_ASSERT_EQUAL_FATAL(pg_mem_pair(loop, 1 << 20, &a, &b), 0);
    pg_h2_options_hbone(&so, true);
    so.max_concurrent_streams = 3;
    CU_ASSERT_EQUAL_FATAL(pair_start(&p, loop, a, b, NULL, &so), 0);
    CU_ASSERT_EQUAL(pg_h2_capacity(p.server), 0);
    pair_settle(&p);
    CU_ASSERT_EQUAL(pg_h2_capacity(p.client), 3);
    for (int i = 0; i < 3; i++) {
        CU_ASSERT_EQUAL(pair_request(&p, "CONNECT", false, &c[i]), 0);
    }
    CU_ASSERT_EQUAL(pg_h2_capacity(p.client), 0);
    CU_ASSERT_EQUAL(pair_request(&p, "CONNECT", false, &c[3]), PG_E_AGAIN);
    pair_settle(&p);
    CU_ASSERT_EQUAL(p.ns, 3);
    side_close(c[1], PG_H2_CANCEL);
    pair_settle(&p);
    CU_ASSERT_TRUE(p.s[1].closed);
    CU_ASSERT_EQUAL(p.s[1].err, PG_E_RESET);
    CU_ASSERT_EQUAL(p.s[1].code, PG_H2_CANCEL);
    CU_ASSERT_EQUAL(pg_h2_capacity(p.client), 1);
    CU_ASSERT_EQUAL(pair_request(&p, "CONNECT", false, &c[3]), 0);
    pair_settle(&p);
    CU_ASSERT_EQUAL(p.ns, 4);
    close_pair();
}

static int ping_err;
static unsigned pings;
static void on_ping(int err, uint64_t rtt_us, void *arg)
{
    (void)rtt_us;
    (void)arg;
    ping_err = err;
    pings++;
}

static void test_ping(void)
{
    open_pair(1 << 20);
    pings = 0;
    ping_err = 1;
    CU_ASSERT_EQUAL(pg_h2_ping(p.client, on_ping, NULL), 0);
    CU_ASSERT_EQUAL(pings, 0);
    pair_settle(&p);
    CU_ASSERT_EQUAL(pings, 1);
    CU_ASSERT_EQUAL(ping_err, 0);
    int r = 0;
    unsigned asked = 0;
    while ((r = pg_h2_ping(p.client, on_ping, NULL)) == 0 && asked < 100) {
        asked++;
    }
    CU_ASSERT_EQUAL(r, PG_E_LIMIT);
    pair_settle(&p);
    CU_ASSERT_EQUAL(pings, 1 + asked);
    /* the other side answers keepalives for hours */
    pg_loop_sim_advance(loop, 3600 * 1000);
    CU_ASSERT_FALSE(p.client_closed || p.server_closed);
    CU_ASSERT_EQUAL(pg_h2_ping(p.client, on_ping, NULL), 0);
    pg_h2_free(p.server);
    p.server = NULL;
    pair_settle(&p);
    pg_loop_sim_advance(loop, 3000);
    CU_ASSERT_EQUAL(pings, 2 + asked);
    CU_ASSERT_TRUE(ping_err < 0);
    close_pair();
}

/* Whatever cuts a stream before END_STREAM, it does not read as an end. */
static void test_no_false_end(void)
{
    static const uint32_t codes[] = {PG_H2_NO_ERROR, PG_H2_CANCEL, PG_H2_INTERNAL_ERROR, PG_H2_CONNECT_ERROR};
    struct side *c = NULL;
    open_pair(1 << 20);
    for (size_t i = 0; i < PG_ARRAY_LEN(codes); i++) {
        uint64_t at = 0;
        struct side *s = open_tunnel(&c);
        CU_ASSERT_EQUAL(side_write(s, 1, &at, 100), 0);
        pair_settle(&p);
        side_close(s, codes[i]);
        pair_settle(&p);
        side_read(c);
        CU_ASSERT_EQUAL(c->read_end, PG_E_RESET);
        CU_ASSERT_TRUE(c->closed);
        CU_ASSERT_EQUAL(c->code, codes[i]);
        CU_ASSERT_EQUAL(c->err, PG_E_RESET);
        CU_ASSERT_EQUAL(pg_h2_writev(c->s, &(struct iovec){&at, 1}, 1), PG_E_RESET);
    }
    /* the connection goes */
    struct side *s = open_tunnel(&c);
    struct side *done = NULL;
    struct side *done_s = open_tunnel(&done);
    uint64_t at = 0;
    CU_ASSERT_EQUAL(side_write(done_s, 1, &at, 100), 0);
    CU_ASSERT_EQUAL(pg_h2_end(done_s->s), 0);
    pair_settle(&p);
    pg_h2_free(p.server);
    p.server = NULL;
    pair_settle(&p);
    CU_ASSERT_TRUE(c->closed);
    CU_ASSERT_TRUE(c->err < 0);
    side_read(c);
    CU_ASSERT_TRUE(c->read_end < 0);
    side_read(done); /* had its end before */
    CU_ASSERT_EQUAL(done->read_end, 1);
    CU_ASSERT_EQUAL(done->got, 100);
    CU_ASSERT_TRUE(p.client_closed);
    CU_ASSERT_TRUE(p.client_err < 0);
    /* orphans are inert */
    CU_ASSERT_PTR_NULL(pg_h2_stream_session(s->s));
    CU_ASSERT_TRUE(pg_h2_read(s->s, &at, 1) < 0);
    CU_ASSERT_TRUE(pg_h2_end(s->s) < 0);
    close_pair();
}

static void test_free_in_callback(void)
{
    struct side *c = NULL;
    open_pair(1 << 20);
    p.free_in_request = true;
    CU_ASSERT_EQUAL_FATAL(pair_request(&p, "CONNECT", false, &c), 0);
    CU_ASSERT_EQUAL_FATAL(pair_request(&p, "CONNECT", false, &c), 0);
    pair_settle(&p);
    CU_ASSERT_PTR_NULL(p.server);
    CU_ASSERT_TRUE(c->closed);
    CU_ASSERT_TRUE(c->err < 0);
    close_pair();

    open_pair(1 << 20);
    struct side *s = open_tunnel(&c);
    c->close_on_closed = s->close_on_closed = true;
    CU_ASSERT_EQUAL(pg_h2_end(c->s), 0);
    CU_ASSERT_EQUAL(pg_h2_end(s->s), 0);
    pair_settle(&p);
    CU_ASSERT_PTR_NULL(c->s);
    CU_ASSERT_PTR_NULL(s->s);
    CU_ASSERT_EQUAL(pg_h2_active(p.client), 0);
    close_pair();
}

/* What must not go on the wire is refused, and nothing is left behind. */
static void test_bad_heads(void)
{
    static char long_value[61000];
    static const struct {
        struct pg_str name, value;
        int err;
    } bad[] = {
        {PG_STR("X-Upper"), PG_STR("v"), PG_E_PARSE}, {PG_STR("x-a"), PG_STR("a\r\nb: c"), PG_E_PARSE},
        {PG_STR("x-a"), PG_STR("a\0b"), PG_E_PARSE},  {PG_STR("x a"), PG_STR("v"), PG_E_PARSE},
        {PG_STR(""), PG_STR("v"), PG_E_PARSE},        {PG_STR("x-a"), {long_value, 61000}, PG_E_LIMIT},
    };
    struct pg_h2_field many[130];
    struct pg_h2_stream *out = NULL;
    struct side *c = NULL;
    memset(long_value, 'v', sizeof(long_value));
    open_pair(1 << 20);
    for (size_t i = 0; i < PG_ARRAY_LEN(bad); i++) {
        const struct pg_h2_field f[] = {{PG_STR(":method"), PG_STR("CONNECT"), false},
                                        {bad[i].name, bad[i].value, false}};
        const struct pg_h2_head head = {f, 2};
        CU_ASSERT_EQUAL(pg_h2_request(p.client, &head, false, NULL, NULL, &out), bad[i].err);
    }
    for (size_t i = 0; i < PG_ARRAY_LEN(many); i++) {
        many[i] = (struct pg_h2_field){PG_STR("x-a"), PG_STR("b"), false};
    }
    CU_ASSERT_EQUAL(pg_h2_request(p.client, &(struct pg_h2_head){many, 130}, false, NULL, NULL, &out),
                    PG_E_LIMIT);
    CU_ASSERT_PTR_NULL(out);
    CU_ASSERT_EQUAL(pg_h2_active(p.client), 0);
    struct side *s = open_tunnel(&c);
    CU_ASSERT_EQUAL(pg_h2_trailers(s->s, &(struct pg_h2_head){many, 130}), PG_E_LIMIT);
    CU_ASSERT_EQUAL(side_trailers(s, "bad\n"), PG_E_PARSE);
    CU_ASSERT_EQUAL(side_trailers(s, " 0 \t"), 0); /* the stream is none the worse; blanks do not count */
    pair_settle(&p);
    CU_ASSERT_STRING_EQUAL(c->trailer, "0");
    close_pair();
}

/* Scorecard row 8: an honest client aborts 500 requests a second for a minute. */
static void test_honest_resets(void)
{
    open_pair(1 << 20);
    p.auto_respond = true;
    for (int tick = 0; tick < 600; tick++) {
        for (int i = 0; i < 50; i++) {
            struct side *c = NULL;
            p.nc = 0;
            CU_ASSERT_EQUAL_FATAL(pair_request(&p, "CONNECT", false, &c), 0);
            if (i % 2 == 0) {
                pair_settle(&p);
            }
            side_close(c, PG_H2_CANCEL);
            pair_settle(&p);
            while (p.ns > 0) {
                side_close(&p.s[--p.ns], PG_H2_CANCEL);
            }
        }
        pg_loop_sim_advance(loop, 100);
        if (p.server_closed) {
            break;
        }
    }
    CU_ASSERT_FALSE(p.server_closed);
    CU_ASSERT_FALSE(p.client_closed);
    struct pg_h2_stats st;
    pg_h2_get_stats(p.client, &st);
    CU_ASSERT_EQUAL(st.streams_opened, 30000);
    CU_ASSERT_EQUAL(pg_h2_active(p.client), 0);
    CU_ASSERT_EQUAL(pg_h2_active(p.server), 0);
    close_pair();
}

/* A server that refuses every request, each with an answer and a reset, as fast as they come: the session and
 * the other tunnels in it live on. */
static void test_many_refusals(void)
{
    open_pair(1 << 20);
    for (int i = 0; i < 12000 && !p.client_closed; i++) {
        struct side *c = NULL;
        p.nc = p.ns = 0;
        CU_ASSERT_EQUAL_FATAL(pair_request(&p, "CONNECT", false, &c), 0);
        pair_settle(&p);
        CU_ASSERT_EQUAL(side_respond(&p.s[0], "503", true), 0);
        side_close(&p.s[0], PG_H2_NO_ERROR);
        pair_settle(&p);
        side_close(c, PG_H2_CANCEL);
        pair_settle(&p);
    }
    CU_ASSERT_FALSE(p.client_closed);
    CU_ASSERT_FALSE(p.server_closed);
    close_pair();
}

/* Everything above in small, for the sweep. */
static int scenario(void *arg)
{
    struct side *c = NULL;
    struct side *d = NULL;
    uint64_t at = 0;
    int r;
    (void)arg;
    memset(&p, 0, sizeof(p));
    p.auto_respond = true;
    r = pg_loop_new(&loop);
    if (r < 0) {
        return r;
    }
    r = pair_mem(&p, loop, 20000);
    if (r == 0) {
        pair_settle(&p);
        r = p.client != NULL ? pair_request(&p, "CONNECT", false, &c) : PG_E_NOMEM;
    }
    if (r == 0) {
        c->auto_read = true;
        r = pair_request(&p, "POST", false, &d);
    }
    if (r == 0) {
        d->auto_read = true;
        pair_settle(&p);
        r = c->headed && d->headed ? side_write(c, 1, &at, 40000) : PG_E_NOMEM;
    }
    if (r == 0) {
        r = side_trailers(d, "0");
    }
    if (r == 0) {
        r = pg_h2_end(c->s);
        pair_settle(&p);
        for (size_t i = 0; i < p.ns && r == 0; i++) {
            r = p.s[i].read_end != 1 ? PG_E_NOMEM : side_trailers(&p.s[i], "1");
        }
    }
    if (r == 0) {
        pair_settle(&p);
        r = c->closed && d->closed && c->err == 0 && d->err == 0 && p.s[0].got == 40000 ? 0 : PG_E_NOMEM;
    }
    if (r == 0) {
        pg_h2_drain(p.server);
        pg_loop_sim_advance(loop, 2000);
        r = p.server_closed && p.server_err == 0 ? 0 : PG_E_NOMEM;
    }
    /* a tunnel that read an end must have got everything */
    for (size_t i = 0; i < p.ns; i++) {
        if (p.s[i].read_end == 1 && strcmp(p.s[i].method, "CONNECT") == 0) {
            CU_ASSERT_EQUAL(p.s[i].got, at);
            CU_ASSERT_EQUAL(p.s[i].sum, pattern_sum(1, at));
        }
    }
    pair_free(&p);
    pg_loop_free(loop);
    return r;
}

static void test_no_memory(void)
{
    CU_ASSERT_TRUE(test_alloc_sweep(scenario, NULL) > 50);
}

TEST_MAIN("h2", {"request and response", test_request_response}, {"trailers", test_trailers},
          {"trailers only", test_trailers_only}, {"answer and leave", test_answer_and_leave},
          {"leave a stuck reader", test_leave_stuck}, {"tunnels", test_tunnels},
          {"early data", test_early_data}, {"stalled reader", test_stalled_reader},
          {"cut when full", test_cut_when_full}, {"fairness", test_fair}, {"server drain", test_server_drain},
          {"client drain", test_client_drain}, {"capacity", test_capacity}, {"ping", test_ping},
          {"no false end", test_no_false_end}, {"free in callbacks", test_free_in_callback},
          {"bad heads", test_bad_heads}, {"500 honest resets a second", test_honest_resets},
          {"many refusals", test_many_refusals}, {"allocation failures", test_no_memory})
