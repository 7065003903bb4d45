/* SPDX-License-Identifier: Apache-2.0 */
/* The transport contract over TLS: on memory pairs, through a fault injector, over TLS itself. Virtual time.
 */
#include "corpus_ossl.h"
#include "testlib.h"
#include "transport_suite.h"

#include "certs/tls.h"
#include "net/loop_sim.h"

static struct cert_creds *creds;

static void setup(void)
{
    struct corpus_ca *root = corpus_root("root");
    struct corpus_ca *ca = corpus_intermediate(root, "intermediate", NULL);
    struct corpus_pair own = corpus_issue(ca, &(struct corpus_leaf){.uri = {"spiffe://td/ns/a/sa/b"}});
    struct cert_creds_options o = {
        .chain_pem = own.chain, .key_pem = own.key, .roots_pem = corpus_ca_pem(root)};
    struct pg_errtext err = {.text = ""};
    corpus_clock(CORPUS_NOW);
    CU_ASSERT_EQUAL_FATAL(cert_creds_new(&o, &creds, &err), 0);
}

static void teardown(void)
{
    cert_creds_unref(creds);
    creds = NULL;
    corpus_fini();
}

struct recipe {
    size_t cap;
    const struct pg_chaos_options *chaos;
    bool twice;
    uint64_t seed;
};

static const struct cert_expect mesh = {.kind = CERT_EXPECT_MESH};

static int make_tls(struct pg_loop *l, struct pg_transport **a, struct pg_transport **b, void *arg)
{
    struct recipe *r = arg;
    int e = pg_mem_pair(l, r->cap, a, b);
    if (e == 0 && r->chaos != NULL) {
        struct pg_chaos_options o = *r->chaos;
        o.seed = ++r->seed;
        e = pg_chaos_new(l, *a, &o, a);
        if (e == 0) {
            e = pg_chaos_new(l, *b, &o, b);
        }
    }
    for (int i = 0; e == 0 && i < (r->twice ? 2 : 1); i++) {
        e = cert_tls_client(l, *a, creds, &mesh, a);
        if (e == 0) {
            e = cert_tls_server(l, *b, creds, &mesh, b);
        }
    }
    return e;
}

static void suite(struct recipe r)
{
    struct pg_loop *l = NULL;
    size_t before = pg_mem_live_blocks();
    setup();
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&l), 0);
    transport_suite_run(l, make_tls, &r);
    pg_loop_free(l);
    teardown();
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), before);
}

static void test_mem(void)
{
    suite((struct recipe){.cap = 65536});
}

static void test_mem_small(void)
{
    suite((struct recipe){.cap = 100});
}

static void test_chaos(void)
{
    static const struct pg_chaos_options o = {.split_pct = 50,
                                              .again_pct = 20,
                                              .max_piece = 700,
                                              .reset_at_read = UINT64_MAX,
                                              .reset_at_write = UINT64_MAX};
    suite((struct recipe){.cap = 4096, .chaos = &o});
}

static void test_byte_by_byte(void)
{
    static const struct pg_chaos_options o = {
        .split_pct = 100, .max_piece = 1, .reset_at_read = UINT64_MAX, .reset_at_write = UINT64_MAX};
    suite((struct recipe){.cap = 512, .chaos = &o});
}

static void test_tls_in_tls(void)
{
    suite((struct recipe){.cap = 20000, .twice = true});
}

/* ---- readiness that only this layer knows of ---- */

struct eater { /* reads `bite` bytes a call */
    size_t bite, got;
    unsigned calls, most;
    bool sized; /* every read got all it asked for */
};

static void on_eater(struct pg_transport *t, unsigned rw, void *arg)
{
    struct eater *e = arg;
    char buf[4096];
    (void)rw;
    e->calls++;
    ssize_t n = pg_transport_read(t, buf, e->bite);
    e->sized = e->sized && n == (ssize_t)e->bite;
    e->got += n > 0 ? (size_t)n : 0;
}

static void eater_begin(struct pg_loop **l, struct pg_transport **a, struct pg_transport **b, struct eater *e,
                        size_t bite)
{
    struct recipe r = {.cap = 200000};
    setup();
    *e = (struct eater){.bite = bite, .sized = true};
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(l), 0);
    CU_ASSERT_EQUAL_FATAL(make_tls(*l, a, b, &r), 0);
    CU_ASSERT_TRUE(pg_loop_sim_settle(*l, 100));
    CU_ASSERT_EQUAL(pg_transport_status(*b), 1);
    pg_transport_set_owner(*b, on_eater, e);
}

static void eater_end(struct pg_loop *l, struct pg_transport *a, struct pg_transport *b)
{
    pg_transport_close(a);
    pg_transport_close(b);
    pg_loop_free(l);
    teardown();
}

/* All ciphertext has left the layer below with the first read: the rest must be announced from here, once a
 * turn. */
static void test_small_bites(void)
{
    static char data[60000];
    struct pg_loop *l;
    struct pg_transport *a;
    struct pg_transport *b;
    struct eater e;
    eater_begin(&l, &a, &b, &e, 1000);
    CU_ASSERT_EQUAL(pg_transport_write(a, data, sizeof(data)), (ssize_t)sizeof(data));
    (void)pg_loop_sim_settle(l, 10);
    pg_transport_want(b, PG_READ);
    for (int i = 0; i < 400 && e.got < sizeof(data); i++) {
        unsigned before = e.calls;
        pg_loop_turn(l, false);
        CU_ASSERT_TRUE(e.calls - before <= 1);
    }
    CU_ASSERT_EQUAL(e.got, sizeof(data));
    CU_ASSERT_TRUE(e.sized);
    CU_ASSERT_TRUE(pg_loop_sim_settle(l, 10)); /* and then it is quiet */
    /* the same when every bite is a whole record */
    pg_transport_want(b, 0);
    for (int i = 0; i < 20; i++) {
        CU_ASSERT_EQUAL(pg_transport_write(a, data, 500), 500);
    }
    (void)pg_loop_sim_settle(l, 10);
    e = (struct eater){.bite = 500, .sized = true};
    pg_transport_want(b, PG_READ);
    (void)pg_loop_sim_settle(l, 60);
    CU_ASSERT_EQUAL(e.got, 10000);
    eater_end(l, a, b);
}

/* Buffered bytes are told in the same turn in which new ones arrive below: still one call. */
static void test_once_a_turn(void)
{
    static char data[100];
    struct pg_loop *l;
    struct pg_transport *a;
    struct pg_transport *b;
    struct eater e;
    eater_begin(&l, &a, &b, &e, 40);
    CU_ASSERT_EQUAL(pg_transport_write(a, data, 100), 100);
    (void)pg_loop_sim_settle(l, 10);
    pg_transport_want(b, PG_READ);
    for (int i = 0; i < 10 && e.calls == 0; i++) {
        pg_loop_turn(l, false);
    }
    CU_ASSERT_EQUAL(e.got, 40);
    pg_transport_want(b, 0);
    pg_loop_turn(l, false);
    e.bite = 60;
    pg_transport_want(b, PG_READ);
    CU_ASSERT_EQUAL(pg_transport_write(a, data, 60), 60);
    e.calls = 0;
    pg_loop_turn(l, false);
    CU_ASSERT_EQUAL(e.calls, 1);
    CU_ASSERT_EQUAL(e.got, 100);
    for (int i = 0; i < 4 && e.got < 160; i++) {
        unsigned before = e.calls;
        pg_loop_turn(l, false);
        CU_ASSERT_TRUE(e.calls - before <= 1);
    }
    CU_ASSERT_EQUAL(e.got, 160);
    eater_end(l, a, b);
}

/* A client's first data in one piece with the end of its handshake. */
static void test_early_bird(void)
{
    struct pg_loop *l = NULL;
    struct pg_transport *near = NULL;
    struct pg_transport *s = NULL;
    struct eater e = {.bite = 5, .sized = true};
    struct pg_sb out;
    char buf[8192];
    setup();
    struct corpus_ca *root = corpus_root("second");
    struct corpus_pair own = corpus_issue(root, &(struct corpus_leaf){.uri = {"spiffe://td/ns/a/sa/b"}});
    struct cert_creds_options o = {
        .chain_pem = own.chain, .key_pem = own.key, .roots_pem = corpus_ca_pem(root)};
    cert_creds_unref(creds);
    CU_ASSERT_EQUAL_FATAL(cert_creds_new(&o, &creds, NULL), 0);
    struct corpus_peer *p = corpus_peer_new(false, &own, corpus_ca_pem(root), "\x02h2", 3, 0);
    pg_sb_init(&out, 1u << 20);
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&l), 0);
    CU_ASSERT_EQUAL_FATAL(pg_mem_pair(l, 65536, &near, &s), 0);
    CU_ASSERT_EQUAL_FATAL(cert_tls_server(l, s, creds, &mesh, &s), 0);
    pg_transport_set_owner(s, on_eater, &e);
    CU_ASSERT_EQUAL(corpus_peer_step(p, NULL, 0, &out), 0);
    CU_ASSERT_EQUAL(pg_transport_write(near, out.p, out.len), (ssize_t)out.len);
    pg_sb_reset(&out);
    CU_ASSERT_TRUE(pg_loop_sim_settle(l, 100));
    ssize_t n = pg_transport_read(near, buf, sizeof(buf));
    CU_ASSERT_TRUE(n > 0);
    CU_ASSERT_EQUAL(corpus_peer_step(p, buf, n > 0 ? (size_t)n : 0, &out), 1);
    CU_ASSERT_EQUAL(corpus_peer_write(p, "early", 5, &out), 5);
    CU_ASSERT_EQUAL(pg_transport_write(near, out.p, out.len), (ssize_t)out.len);
    CU_ASSERT_TRUE(pg_loop_sim_settle(l, 100));
    CU_ASSERT_EQUAL(pg_transport_status(s), 1);
    CU_ASSERT_EQUAL(e.calls, 0); /* nothing was wanted yet */
    pg_transport_want(s, PG_READ);
    CU_ASSERT_TRUE(pg_loop_sim_settle(l, 100));
    CU_ASSERT_EQUAL(e.got, 5);
    pg_transport_close(s);
    pg_transport_close(near);
    pg_loop_free(l);
    corpus_peer_free(p);
    pg_sb_fini(&out);
    teardown();
}

/* ---- credit and limits, seen from below ---- */

struct meter { /* passes everything on and counts */
    struct pg_transport t;
    struct pg_transport *lower;
    size_t read, consumed, written, writes, largest_read, shutdowns;
    bool jammed; /* takes no bytes */
};

static struct meter *meter_of(struct pg_transport *t)
{
    return PG_CONTAINER_OF(t, struct meter, t);
}

static ssize_t meter_read(struct pg_transport *t, void *buf, size_t cap)
{
    struct meter *m = meter_of(t);
    ssize_t n = pg_transport_read(m->lower, buf, cap);
    m->read += n > 0 ? (size_t)n : 0;
    m->largest_read = cap > m->largest_read ? cap : m->largest_read;
    return n;
}

static ssize_t meter_writev(struct pg_transport *t, const struct iovec *iov, int n)
{
    struct meter *m = meter_of(t);
    ssize_t w = m->jammed ? PG_E_AGAIN : pg_transport_writev(m->lower, iov, n);
    m->written += w > 0 ? (size_t)w : 0;
    m->writes++;
    return w;
}

static int meter_shutdown(struct pg_transport *t)
{
    meter_of(t)->shutdowns++;
    return pg_transport_shutdown(meter_of(t)->lower);
}

static void meter_want(struct pg_transport *t, unsigned rw)
{
    pg_transport_want(meter_of(t)->lower, rw);
}

static void meter_close(struct pg_transport *t, bool abrupt)
{
    if (abrupt) {
        pg_transport_abort(meter_of(t)->lower);
    } else {
        pg_transport_close(meter_of(t)->lower);
    }
}

static int meter_status(struct pg_transport *t)
{
    return pg_transport_status(meter_of(t)->lower);
}

static void meter_consumed(struct pg_transport *t, size_t n)
{
    meter_of(t)->consumed += n;
}

static const struct pg_transport_ops meter_ops = {
    .name = "meter",
    .read = meter_read,
    .writev = meter_writev,
    .shutdown = meter_shutdown,
    .want = meter_want,
    .close = meter_close,
    .status = meter_status,
    .consumed = meter_consumed,
};

static void on_meter(struct pg_transport *lower, unsigned rw, void *arg)
{
    struct meter *m = arg;
    (void)lower;
    m->t.on_ready(&m->t, rw, m->t.arg);
}

static void test_credit_and_limits(void)
{
    static char data[300000];
    struct pg_loop *l = NULL;
    struct pg_transport *a = NULL;
    struct pg_transport *b = NULL;
    struct meter m = {.t.ops = &meter_ops};
    struct eater e = {.bite = 4096};
    setup();
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&l), 0);
    CU_ASSERT_EQUAL_FATAL(pg_mem_pair(l, 1u << 20, &m.lower, &b), 0);
    pg_transport_set_owner(m.lower, on_meter, &m);
    CU_ASSERT_EQUAL_FATAL(cert_tls_server(l, &m.t, creds, &mesh, &a), 0);
    CU_ASSERT_EQUAL_FATAL(cert_tls_client(l, b, creds, &mesh, &b), 0);
    CU_ASSERT_TRUE(pg_loop_sim_settle(l, 100));
    CU_ASSERT_EQUAL(pg_transport_status(a), 1);
    CU_ASSERT_EQUAL(m.consumed, m.read);
    CU_ASSERT_TRUE(m.read > 0);

    /* nobody reads: nothing is taken from below */
    size_t before = m.read;
    CU_ASSERT_EQUAL(pg_transport_write(b, data, sizeof(data)), (ssize_t)sizeof(data));
    (void)pg_loop_sim_settle(l, 100);
    CU_ASSERT_EQUAL(m.read, before);
    pg_transport_set_owner(a, on_eater, &e);
    pg_transport_want(a, PG_READ);
    for (int i = 0; i < 1000 && e.got < sizeof(data); i++) {
        pg_loop_turn(l, false);
        CU_ASSERT_TRUE(m.read - before <= e.got * 2 + 2 * 65536); /* no more than a piece ahead */
    }
    CU_ASSERT_EQUAL(e.got, sizeof(data));
    CU_ASSERT_EQUAL(m.consumed, m.read);
    CU_ASSERT_TRUE(m.largest_read <= 65536);

    /* the layer below takes nothing: a bounded amount is accepted, then pushed back, then delivered in few
     * writes */
    size_t sent = 0;
    ssize_t n;
    m.jammed = true;
    while ((n = pg_transport_write(a, data, 50000)) > 0) {
        sent += (size_t)n;
        CU_ASSERT_TRUE_FATAL(sent < 1u << 20);
    }
    CU_ASSERT_EQUAL(n, PG_E_AGAIN);
    CU_ASSERT_TRUE(sent > 300000 && sent <= 512u * 1024u);
    CU_ASSERT_TRUE(pg_transport_pending(a) > sent);
    m.jammed = false;
    m.writes = 0;
    e = (struct eater){.bite = 4096};
    pg_transport_want(a, 0);
    pg_transport_set_owner(b, on_eater, &e);
    pg_transport_want(b, PG_READ);
    for (int i = 0; i < 1000 && e.got < sent; i++) {
        pg_loop_turn(l, false);
    }
    CU_ASSERT_EQUAL(e.got, sent);
    CU_ASSERT_EQUAL(pg_transport_pending(a), 0);
    CU_ASSERT_TRUE(m.writes <= 4);

    /* the end goes down after the last byte, once */
    m.jammed = true;
    m.written = 0;
    CU_ASSERT_EQUAL(pg_transport_write(a, data, 10), 10);
    CU_ASSERT_EQUAL(pg_transport_shutdown(a), 0);
    (void)pg_loop_sim_settle(l, 20);
    CU_ASSERT_EQUAL(m.shutdowns, 0);
    m.jammed = false;
    (void)pg_loop_sim_settle(l, 20);
    CU_ASSERT_EQUAL(m.shutdowns, 1);
    CU_ASSERT_TRUE(m.written > 10 + 2); /* a record and close_notify */
    CU_ASSERT_EQUAL(pg_transport_shutdown(a), 0);
    (void)pg_loop_sim_settle(l, 20);
    CU_ASSERT_EQUAL(m.shutdowns, 1);
    eater_end(l, a, b);
}

TEST_MAIN("tls", {"over memory", test_mem}, {"over a narrow memory pair", test_mem_small},
          {"over chaos", test_chaos}, {"byte by byte", test_byte_by_byte}, {"TLS in TLS", test_tls_in_tls},
          {"small bites", test_small_bites}, {"once a turn", test_once_a_turn},
          {"early bird", test_early_bird}, {"credit and limits", test_credit_and_limits})
