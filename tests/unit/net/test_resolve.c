/* SPDX-License-Identifier: Apache-2.0 */
/* The resolver against a DNS server in the test, over UDP on loopback. */
#include "testlib.h"
#include "transport_suite.h"

#include "net/resolve.h"
#include "net/sock.h"

#include <string.h>

enum { TYPE_A = 1, TYPE_AAAA = 28 };

struct world {
    struct pg_loop *l;
    struct pg_udp *dns;
    struct pg_resolver *r;
    int queries;
    /* of the last answer */
    int calls;
    int err;
    struct pg_ip ips[PG_RESOLVE_MAX];
    size_t n;
    char text[100];
    bool free_inside;
};

struct reply {
    unsigned char p[1500];
    size_t len;
};

static void put(struct reply *r, const void *p, size_t len)
{
    if (r->len + len <= sizeof(r->p)) {
        memcpy(r->p + r->len, p, len);
        r->len += len;
    }
}

static void put_record(struct reply *r, int type, unsigned last)
{
    unsigned char head[12] = {0xc0, 0x0c, 0, (unsigned char)type, 0, 1, 0, 0, 0, 60, 0, 0};
    unsigned char a[4] = {10, 1, 2, (unsigned char)last};
    unsigned char aaaa[16] = {0x20, 0x01, 0x0d, 0xb8, [15] = (unsigned char)last};
    head[11] = type == TYPE_A ? 4 : 16;
    put(r, head, sizeof(head));
    if (type == TYPE_A) {
        put(r, a, 4);
    } else {
        put(r, aaaa, 16);
    }
}

/* First label decides: two (2 A, 1 AAAA), many (28 A, what fits into 512 bytes), four (A only), gone
 * (NXDOMAIN), fail (SERVFAIL), mute.
 */
static void on_query(const void *p, size_t len, const struct pg_addr *from, void *arg)
{
    struct world *w = arg;
    const unsigned char *q = p;
    struct reply r = {.len = 0};
    w->queries++;
    size_t end = 12;
    while (end < len && q[end] != 0) {
        end += q[end] + 1u;
    }
    end += 5;
    if (end > len || memcmp(q + 13, "mute", 4) == 0) {
        return;
    }
    int type = q[end - 3];
    unsigned char head[12] = {q[0], q[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0};
    unsigned n = 0;
    if (memcmp(q + 13, "two", 3) == 0) {
        n = type == TYPE_A ? 2 : 1;
    } else if (memcmp(q + 13, "many", 4) == 0) {
        n = type == TYPE_A ? 28 : 0;
    } else if (memcmp(q + 13, "four", 4) == 0) {
        n = type == TYPE_A ? 1 : 0;
    } else {
        head[3] = memcmp(q + 13, "gone", 4) == 0 ? 0x83 : 0x82;
    }
    head[7] = (unsigned char)n;
    put(&r, head, sizeof(head));
    put(&r, q + 12, end - 12);
    for (unsigned i = 0; i < n; i++) {
        put_record(&r, type, i + 1);
    }
    CU_ASSERT_EQUAL(pg_udp_send(w->dns, r.p, r.len, from), 0);
}

static void on_answer(int err, const struct pg_ip *ips, size_t n, const char *text, void *arg)
{
    struct world *w = arg;
    w->calls++;
    w->err = err;
    w->n = n;
    memcpy(w->ips, ips, n * sizeof(*ips));
    (void)snprintf(w->text, sizeof(w->text), "%s", text);
    if (w->free_inside) {
        pg_resolver_free(w->r);
        w->r = NULL;
    }
}

static int world_init(struct world *w)
{
    struct pg_addr at = {.port = 0};
    char text[PG_ADDR_TEXT];
    memset(w, 0, sizeof(*w));
    int r = pg_ip_parse(PG_STR("127.0.0.1"), &at.ip);
    r = r < 0 ? r : pg_loop_new(&w->l);
    r = r < 0 ? r : pg_udp_open(w->l, &at, NULL, on_query, w, &w->dns, NULL);
    if (r < 0) {
        return r;
    }
    struct pg_addr real = pg_udp_addr(w->dns);
    return pg_resolver_new(w->l, pg_addr_fmt(&real, text), &w->r, NULL);
}

static void world_fini(struct world *w)
{
    pg_resolver_free(w->r);
    if (w->l != NULL) {
        pg_udp_free(w->dns);
        pg_loop_free(w->l);
    }
}

static bool answered(void *arg)
{
    return ((struct world *)arg)->calls > 0;
}

static void ask(struct world *w, const char *name)
{
    struct pg_resolve_query *q = NULL;
    w->calls = 0;
    CU_ASSERT_EQUAL(pg_resolve(w->r, pg_str_c(name), on_answer, w, &q), 0);
    CU_ASSERT_EQUAL(w->calls, 0); /* never from inside the call */
    CU_ASSERT_TRUE(suite_turns(w->l, answered, w));
    suite_idle(w->l, 3);
    CU_ASSERT_EQUAL(w->calls, 1);
}

static void answers(void)
{
    struct world w;
    char text[PG_IP_TEXT];
    size_t before = pg_mem_live_blocks();
    CU_ASSERT_EQUAL_FATAL(world_init(&w), 0);
    ask(&w, "two.example.test.");
    CU_ASSERT_EQUAL(w.err, 0);
    CU_ASSERT_EQUAL_FATAL(w.n, 3);
    CU_ASSERT_EQUAL(w.ips[0].len, 4); /* IPv4 first */
    CU_ASSERT_EQUAL(w.ips[1].len, 4);
    CU_ASSERT_STRING_EQUAL(pg_ip_fmt(&w.ips[2], text), "2001:db8::1");
    CU_ASSERT_EQUAL(w.queries, 2);
    ask(&w, "four.example.test.");
    CU_ASSERT_EQUAL(w.n, 1);
    CU_ASSERT_STRING_EQUAL(pg_ip_fmt(&w.ips[0], text), "10.1.2.1");
    ask(&w, "many.example.test.");
    CU_ASSERT_EQUAL(w.err, 0);
    CU_ASSERT_EQUAL(w.n, PG_RESOLVE_MAX);
    ask(&w, "gone.example.test.");
    CU_ASSERT_EQUAL(w.err, PG_E_NOTFOUND);
    CU_ASSERT_EQUAL(w.n, 0);
    CU_ASSERT_TRUE(strlen(w.text) > 0);
    ask(&w, "fail.example.test.");
    CU_ASSERT_TRUE(w.err < 0);
    CU_ASSERT_NOT_EQUAL(w.err, PG_E_NOTFOUND);
    int queries = w.queries;
    ask(&w, "192.0.2.7");
    CU_ASSERT_EQUAL(w.n, 1);
    CU_ASSERT_STRING_EQUAL(pg_ip_fmt(&w.ips[0], text), "192.0.2.7");
    ask(&w, "2001:db8::5");
    CU_ASSERT_STRING_EQUAL(pg_ip_fmt(&w.ips[0], text), "2001:db8::5");
    CU_ASSERT_EQUAL(w.queries, queries);
    struct pg_resolve_query *q = NULL;
    char far[300];
    memset(far, 'a', sizeof(far));
    CU_ASSERT_EQUAL(pg_resolve(w.r, pg_str_n(far, sizeof(far)), on_answer, &w, &q), PG_E_PARSE);
    CU_ASSERT_EQUAL(pg_resolve(w.r, PG_STR(""), on_answer, &w, &q), PG_E_PARSE);
    CU_ASSERT_EQUAL(pg_resolve(w.r, PG_STR("a\0b"), on_answer, &w, &q), PG_E_PARSE);
    world_fini(&w);
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), before);
}

static bool asked(void *arg)
{
    return ((struct world *)arg)->queries >= 2;
}

/* Cancelled queries are silent, whether under way or just answered; so are those of a freed resolver. */
static void cancelling(void)
{
    struct world w;
    struct pg_resolve_query *q[3];
    size_t before = pg_mem_live_blocks();
    CU_ASSERT_EQUAL_FATAL(world_init(&w), 0);
    CU_ASSERT_EQUAL(pg_resolve(w.r, PG_STR("two.example.test."), on_answer, &w, &q[0]), 0);
    pg_resolve_cancel(q[0]);
    pg_resolve_cancel(NULL);
    CU_ASSERT_EQUAL(pg_resolve(w.r, PG_STR("127.0.0.1"), on_answer, &w, &q[1]), 0);
    pg_resolve_cancel(q[1]);
    CU_ASSERT_TRUE(suite_turns(w.l, asked, &w));
    suite_idle(w.l, 5);
    CU_ASSERT_EQUAL(w.calls, 0);
    CU_ASSERT_EQUAL(pg_resolve(w.r, PG_STR("mute.example.test."), on_answer, &w, &q[2]), 0);
    CU_ASSERT_EQUAL(pg_resolve(w.r, PG_STR("127.0.0.2"), on_answer, &w, &q[2]), 0);
    pg_resolver_free(w.r);
    w.r = NULL;
    suite_idle(w.l, 5);
    CU_ASSERT_EQUAL(w.calls, 0);
    world_fini(&w);
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), before);
}

static void free_inside_the_answer(void)
{
    struct world w;
    struct pg_resolve_query *q = NULL;
    size_t before = pg_mem_live_blocks();
    CU_ASSERT_EQUAL_FATAL(world_init(&w), 0);
    w.free_inside = true;
    CU_ASSERT_EQUAL(pg_resolve(w.r, PG_STR("mute.example.test."), on_answer, &w, &q), 0);
    CU_ASSERT_EQUAL(pg_resolve(w.r, PG_STR("two.example.test."), on_answer, &w, &q), 0);
    CU_ASSERT_TRUE(suite_turns(w.l, answered, &w));
    suite_idle(w.l, 5);
    CU_ASSERT_EQUAL(w.calls, 1);
    world_fini(&w);
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), before);
}

static void bad_servers(void)
{
    struct pg_loop *l = NULL;
    struct pg_resolver *r = NULL;
    struct pg_errtext err = {.text = ""};
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&l), 0);
    CU_ASSERT_EQUAL(pg_resolver_new(l, "not an address", &r, &err), PG_E_CONFIG);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "not an address"));
    pg_loop_free(l);
}

/* A name from the hosts file needs no server, and no network wait bounds the sweep. */
static int scenario(void *arg)
{
    struct world w;
    struct pg_resolve_query *q = NULL;
    (void)arg;
    int r = world_init(&w);
    if (r == 0) {
        r = pg_resolve(w.r, PG_STR("127.0.0.9"), on_answer, &w, &q);
    }
    if (r == 0) {
        CU_ASSERT_TRUE(suite_turns(w.l, answered, &w) || w.calls == 0);
        r = w.calls == 1 ? w.err : PG_E_NOMEM;
    }
    world_fini(&w);
    return r;
}

static void no_memory(void)
{
    CU_ASSERT_TRUE(test_alloc_sweep(scenario, NULL) >= 10);
}

/* Failing each allocation inside c-ares while a query runs: an answer or an error, no leak, no crash. */
static void no_memory_in_a_query(void)
{
    struct pg_fault f = {.armed = false};
    size_t before = pg_mem_live_blocks();
    size_t seen = 1;
    for (size_t i = 0; i <= seen; i++) {
        struct world w;
        struct pg_resolve_query *q = NULL;
        CU_ASSERT_EQUAL_FATAL(world_init(&w), 0);
        f = (struct pg_fault){.armed = i > 0, .countdown = i - 1, .repeat = 0};
        pg_mem_set_fault(&f);
        if (pg_resolve(w.r, PG_STR("two.example.test."), on_answer, &w, &q) == 0) {
            suite_idle(w.l, 12);
        }
        pg_mem_set_fault(NULL);
        if (i == 0) {
            CU_ASSERT_EQUAL(w.n, 3);
            seen = f.seen;
        }
        world_fini(&w);
        CU_ASSERT_EQUAL(pg_mem_live_blocks(), before);
    }
    CU_ASSERT_TRUE(seen > 5);
}

TEST_MAIN("resolve", {"answers", answers}, {"cancelling", cancelling},
          {"free inside the answer", free_inside_the_answer}, {"bad servers", bad_servers},
          {"no memory", no_memory}, {"no memory in a query", no_memory_in_a_query})
