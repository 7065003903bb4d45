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

TEST_MAIN("h2", {"request and response", test_request_response})
