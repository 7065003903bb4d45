/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The DNS proxy over real sockets: mesh names, forwarding to a made-up nameserver that forges, truncates or
 * stays silent, UDP and TCP clients, source ports. One thread.
 */
#include "mesh.h"

#include "hbone/dns.h"

#define HOST "echo.demo.svc.cluster.local"
#define PORTS_MAX 64u

static struct mesh_node node;

/* The nameserver. */
static struct {
    struct pg_udp *udp;
    struct pg_listener *tcp;
    enum { NS_ANSWER, NS_FORGE_FIRST, NS_TRUNCATE, NS_SILENT, NS_NXDOMAIN } mode;
    unsigned asked, asked_tcp;
    uint16_t ports[PORTS_MAX];
    struct pg_transport *conn;
    uint8_t in[600];
    size_t have;
} ns;

static size_t ns_reply(const uint8_t *p, size_t len, uint8_t *out, int rcode)
{
    struct hb_dns_question q;
    struct pg_ip ip = {.len = 4, .b = {9, 9, 9, 9}};
    struct hb_dns_reply r = {.rcode = rcode, .ips = &ip, .n = rcode == 0 ? 1 : 0, .ttl = 60, .aa = true};
    CU_ASSERT_EQUAL_FATAL(hb_dns_parse_query(p, len, &q), 0);
    return hb_dns_write_reply(&q, &r, out, 512);
}

static void on_ns_udp(const void *p, size_t len, const struct pg_addr *from, void *arg)
{
    (void)arg;
    uint8_t out[512];
    ns.ports[ns.asked++ % PORTS_MAX] = from->port;
    size_t n = ns_reply(p, len, out, ns.mode == NS_NXDOMAIN ? 3 : 0);
    if (ns.mode == NS_SILENT) {
        return;
    }
    if (ns.mode == NS_FORGE_FIRST) {
        uint8_t forged[512];
        memcpy(forged, out, n);
        forged[n - 1] = 66;
        forged[0] ^= 1; /* wrong id */
        CU_ASSERT_EQUAL(pg_udp_send(ns.udp, forged, n, from), 0);
        forged[0] ^= 1;
        forged[13] ^= 0x20; /* another question */
        CU_ASSERT_EQUAL(pg_udp_send(ns.udp, forged, n, from), 0);
        CU_ASSERT_EQUAL(pg_udp_send(ns.udp, forged, 5, from), 0);
    }
    if (ns.mode == NS_TRUNCATE) {
        out[2] |= 2;
        out[n - 1] = 77; /* what it says must not be used */
    }
    CU_ASSERT_EQUAL(pg_udp_send(ns.udp, out, n, from), 0);
}

static void on_ns_tcp_ready(struct pg_transport *t, unsigned rw, void *arg)
{
    (void)rw;
    (void)arg;
    ssize_t n = pg_transport_read(t, ns.in + ns.have, sizeof(ns.in) - ns.have);
    if (n == PG_E_AGAIN) {
        return;
    }
    if (n <= 0) {
        pg_transport_close(t);
        ns.conn = NULL;
        return;
    }
    ns.have += (size_t)n;
    if (ns.have >= 2 && ns.have == 2u + (size_t)(ns.in[0] << 8 | ns.in[1])) {
        uint8_t out[514];
        size_t len = ns_reply(ns.in + 2, ns.have - 2, out + 2, 0);
        out[0] = (uint8_t)(len >> 8);
        out[1] = (uint8_t)len;
        ns.asked_tcp++;
        CU_ASSERT_EQUAL(pg_transport_write(t, out, len + 2), (ssize_t)(len + 2));
    }
}

static void on_ns_tcp(struct pg_transport *t, const struct pg_addr *from, void *arg)
{
    (void)from;
    (void)arg;
    ns.conn = t;
    ns.have = 0;
    pg_transport_set_owner(t, on_ns_tcp_ready, NULL);
    pg_transport_want(t, PG_READ);
}

/* A client over UDP. */
static struct {
    struct pg_udp *udp;
    uint8_t answer[2048];
    size_t len;
} cl;

static void on_cl(const void *p, size_t len, const struct pg_addr *from, void *arg)
{
    (void)from;
    (void)arg;
    cl.len = len < sizeof(cl.answer) ? len : sizeof(cl.answer);
    memcpy(cl.answer, p, cl.len);
}

static bool cl_answered(void *arg)
{
    (void)arg;
    return cl.len > 0;
}

static void start(void)
{
    struct pg_addr any = {.ip = {.len = 4, .b = {127, 0, 0, 53}}};
    struct pg_listen_options lo = {0};
    struct pg_errtext err = {.text = ""};
    memset(&ns, 0, sizeof(ns));
    memset(&cl, 0, sizeof(cl));
    CU_ASSERT_EQUAL_FATAL(pg_udp_open(mesh_loop, &any, &lo.sock, on_ns_udp, NULL, &ns.udp, &err), 0);
    any.port = pg_udp_addr(ns.udp).port;
    CU_ASSERT_EQUAL_FATAL(pg_tcp_listen(mesh_loop, &any, &lo, on_ns_tcp, NULL, &ns.tcp, &err), 0);
    mesh_node_start(&node, "dedicated", "demo/client/client", "n1", 2, 0);
    node.cfg.n_dns_servers = 1;
    node.cfg.dns_servers[0] = any.ip;
    node.cfg.test.dns_upstream = any.port;
    CU_ASSERT_EQUAL_FATAL(hb_dns_new(node.worker, &node.worker->dns, &err), 0);
    const struct mesh_workload me = {
        .ns = "demo", .name = "client", .sa = "client", .network = "n1", .last = 2, .hbone = true};
    mesh_put_service(&node, HOST, "n1", 7, 80, 8080, false);
    mesh_put_workload(&node, &me);
    mesh_node_publish(&node);
    any = (struct pg_addr){.ip = {.len = 4, .b = {127, 0, 0, 2}}};
    CU_ASSERT_EQUAL_FATAL(pg_udp_open(mesh_loop, &any, &lo.sock, on_cl, NULL, &cl.udp, &err), 0);
}

static void stop(void)
{
    mesh_node_stop(&node);
    pg_udp_free(cl.udp);
    pg_udp_free(ns.udp);
    pg_listener_free(ns.tcp);
    pg_transport_close(ns.conn);
    mesh_settle();
}

static size_t make_query(const char *name, uint16_t type, uint8_t *out)
{
    struct hb_dns_question q = {.rd = true, .type = type};
    struct pg_str rest = pg_str_c(name);
    struct pg_str label;
    size_t at = 0;
    while (pg_str_cut(&rest, '.', &label)) {
        q.section[at++] = (uint8_t)label.len;
        memcpy(q.section + at, label.p, label.len);
        at += label.len;
    }
    q.section[at++] = 0;
    q.section[at++] = (uint8_t)(type >> 8);
    q.section[at++] = (uint8_t)type;
    q.section[at++] = 0;
    q.section[at++] = 1;
    q.section_len = at;
    return hb_dns_write_query(&q, 0x5151, out);
}

/* Asks over UDP; true when an answer with our id came. rcode, number of answers, AA and the last byte (of the
 * last address). */
static bool ask(const char *name, uint16_t type, uint64_t ms)
{
    uint8_t q[512];
    size_t n = make_query(name, type, q);
    struct pg_addr to = hb_dns_udp_addr(node.worker->dns);
    cl.len = 0;
    CU_ASSERT_EQUAL(pg_udp_send(cl.udp, q, n, &to), 0);
    return mesh_run_until(cl_answered, NULL, ms) && cl.answer[0] == 0x51 && cl.answer[1] == 0x51;
}
static int rcode(void)
{
    return cl.answer[3] & 0x0f;
}
static bool is_aa(void)
{
    return (cl.answer[2] & 0x04) != 0;
}
static unsigned answers(void)
{
    return (unsigned)(cl.answer[6] << 8 | cl.answer[7]);
}

static void test_mesh_names(void)
{
    start();
    CU_ASSERT_TRUE(ask(HOST, HB_DNS_A, 2000));
    CU_ASSERT_EQUAL(rcode(), 0);
    CU_ASSERT_TRUE(is_aa());
    CU_ASSERT_EQUAL(answers(), 1);
    CU_ASSERT_EQUAL(memcmp(cl.answer + cl.len - 4, "\x0a\x09\x09\x07", 4), 0);
    CU_ASSERT_TRUE(ask("ECHO.Demo", HB_DNS_A, 2000));
    CU_ASSERT_EQUAL(answers(), 1);
    CU_ASSERT_TRUE(ask("echo", HB_DNS_A, 2000));
    CU_ASSERT_EQUAL(answers(), 1);
    /* IPv6 of an IPv4 service: empty, authoritative, not NXDOMAIN. */
    CU_ASSERT_TRUE(ask(HOST, HB_DNS_AAAA, 2000));
    CU_ASSERT_EQUAL(rcode(), 0);
    CU_ASSERT_TRUE(is_aa());
    CU_ASSERT_EQUAL(answers(), 0);
    CU_ASSERT_EQUAL(ns.asked, 0);
    stop();
}

static void test_forward(void)
{
    start();
    CU_ASSERT_TRUE(ask("www.example.com", HB_DNS_A, 2000));
    CU_ASSERT_EQUAL(answers(), 1);
    CU_ASSERT_FALSE(is_aa());
    CU_ASSERT_EQUAL(cl.answer[cl.len - 1], 9);
    CU_ASSERT_TRUE(ask(HOST, 16, 2000)); /* TXT of a mesh name */
    CU_ASSERT_EQUAL(ns.asked, 2);
    CU_ASSERT_EQUAL(node.worker->metrics.dns[0].requests, 1);
    CU_ASSERT_EQUAL(node.worker->metrics.dns[4].requests, 1);
    ns.mode = NS_NXDOMAIN;
    CU_ASSERT_TRUE(ask("no.example.com", HB_DNS_A, 2000));
    CU_ASSERT_EQUAL(rcode(), 3);
    /* Forged answers are dropped and the right one is used. */
    ns.mode = NS_FORGE_FIRST;
    CU_ASSERT_TRUE(ask("www.example.com", HB_DNS_A, 2000));
    CU_ASSERT_EQUAL(cl.answer[cl.len - 1], 9);
    CU_ASSERT_TRUE(node.worker->metrics.n.dns_dropped >= 3);
    /* A cut answer is asked for again over TCP. */
    ns.mode = NS_TRUNCATE;
    CU_ASSERT_TRUE(ask("www.example.com", HB_DNS_A, 2000));
    CU_ASSERT_EQUAL(cl.answer[cl.len - 1], 9);
    CU_ASSERT_EQUAL(ns.asked_tcp, 1);
    CU_ASSERT_FALSE(hb_dns_is_truncated(cl.answer, cl.len));
    stop();
}

static void test_ports(void)
{
    start();
    for (unsigned i = 0; i < PORTS_MAX; i++) {
        CU_ASSERT_TRUE(ask("www.example.com", HB_DNS_A, 2000));
    }
    unsigned distinct = 0;
    for (unsigned i = 0; i < PORTS_MAX; i++) {
        bool seen = false;
        for (unsigned k = 0; k < i; k++) {
            seen = seen || ns.ports[k] == ns.ports[i];
        }
        distinct += seen ? 0 : 1;
    }
    CU_ASSERT_TRUE(distinct > PORTS_MAX * 3 / 4);
    stop();
}

static void test_silent_upstream(void)
{
    start();
    ns.mode = NS_SILENT;
    CU_ASSERT_TRUE(ask("www.example.com", HB_DNS_A, 10000));
    CU_ASSERT_EQUAL(rcode(), HB_DNS_SERVFAIL);
    CU_ASSERT_EQUAL(ns.asked, HB_DNS_TRIES_MAX);
    CU_ASSERT_EQUAL(node.worker->metrics.dns[0].failures, 1);
    /* Mesh names do not depend on it. */
    CU_ASSERT_TRUE(ask(HOST, HB_DNS_A, 2000));
    CU_ASSERT_EQUAL(answers(), 1);
    stop();
}

/* A nameserver that is not there refuses, and the client hears of it at once. */
static void test_refusing_upstream(void)
{
    start();
    pg_udp_free(ns.udp);
    ns.udp = NULL;
    CU_ASSERT_TRUE(ask("www.example.com", HB_DNS_A, HB_DNS_TRY_MS / 2));
    CU_ASSERT_EQUAL(rcode(), HB_DNS_SERVFAIL);
    stop();
}

static void test_hostile_clients(void)
{
    start();
    struct pg_addr to = hb_dns_udp_addr(node.worker->dns);
    uint8_t q[512];
    size_t n = make_query(HOST, HB_DNS_A, q);
    q[2] |= 0x80; /* an answer: silence, or two proxies would talk for ever */
    cl.len = 0;
    CU_ASSERT_EQUAL(pg_udp_send(cl.udp, q, n, &to), 0);
    CU_ASSERT_FALSE(mesh_run_until(cl_answered, NULL, 100));
    q[2] &= 0x7f;
    q[2] |= 0x28; /* opcode 5 */
    CU_ASSERT_EQUAL(pg_udp_send(cl.udp, q, n, &to), 0);
    CU_ASSERT_TRUE(mesh_run_until(cl_answered, NULL, 2000));
    CU_ASSERT_EQUAL(rcode(), HB_DNS_NOTIMP);
    /* More questions than may be under way: the rest is refused, none is kept for ever. */
    ns.mode = NS_SILENT;
    cl.len = 0;
    q[2] &= 0x07;
    n = make_query("www.example.com", HB_DNS_A, q);
    for (unsigned i = 0; i < HB_DNS_OUTSTANDING_MAX + 100; i++) {
        CU_ASSERT_EQUAL(pg_udp_send(cl.udp, q, n, &to), 0);
        if (i % 16 == 0) {
            pg_loop_turn(mesh_loop, false);
        }
    }
    mesh_settle();
    CU_ASSERT_TRUE(node.worker->metrics.dns[0].upstream <= HB_DNS_OUTSTANDING_MAX);
    /* What is over says so, and mesh names are answered beside it. */
    CU_ASSERT_TRUE(cl.len > 0);
    CU_ASSERT_EQUAL(rcode(), HB_DNS_SERVFAIL);
    CU_ASSERT_TRUE(ask(HOST, HB_DNS_A, 1000));
    CU_ASSERT_EQUAL(rcode(), 0);
    CU_ASSERT_EQUAL(answers(), 1);
    stop();
}

/* Two questions in one write and one byte at a time, over TCP. */
static struct {
    uint8_t in[2048];
    size_t have;
    bool ended;
} tc;

static void on_tc(struct pg_transport *t, unsigned rw, void *arg)
{
    (void)rw;
    (void)arg;
    ssize_t n;
    while ((n = pg_transport_read(t, tc.in + tc.have, sizeof(tc.in) - tc.have)) > 0) {
        tc.have += (size_t)n;
    }
    if (n != PG_E_AGAIN) {
        tc.ended = true;
        pg_transport_want(t, 0);
    }
}

static unsigned tc_messages(void)
{
    unsigned n = 0;
    size_t at = 0;
    while (at + 2 <= tc.have && at + 2u + (size_t)(tc.in[at] << 8 | tc.in[at + 1]) <= tc.have) {
        at += 2u + (size_t)(tc.in[at] << 8 | tc.in[at + 1]);
        n++;
    }
    return n;
}

static bool tc_three(void *arg)
{
    (void)arg;
    return tc_messages() == 3 || tc.ended;
}

static void test_tcp(void)
{
    start();
    struct pg_addr to = hb_dns_tcp_addr(node.worker->dns);
    struct pg_sock_options so = {0};
    struct pg_transport *t;
    uint8_t out[1600];
    size_t at = 0;
    static const char *const names[] = {HOST, "www.example.com", HOST};
    memset(&tc, 0, sizeof(tc));
    for (size_t i = 0; i < 3; i++) {
        size_t n = make_query(names[i], HB_DNS_A, out + at + 2);
        out[at] = (uint8_t)(n >> 8);
        out[at + 1] = (uint8_t)n;
        at += n + 2;
    }
    CU_ASSERT_EQUAL_FATAL(pg_tcp_connect(mesh_loop, &to, &so, &t, NULL), 0);
    pg_transport_set_owner(t, on_tc, NULL);
    pg_transport_want(t, PG_READ);
    while (pg_transport_status(t) == PG_E_AGAIN) {
        pg_loop_turn(mesh_loop, false);
    }
    for (size_t i = 0; i < at;) { /* the first question byte by byte, the rest at once */
        size_t piece = i < 40 ? 1 : at - i;
        ssize_t n = pg_transport_write(t, out + i, piece);
        CU_ASSERT_TRUE_FATAL(n > 0 || n == PG_E_AGAIN);
        i += n > 0 ? (size_t)n : 0;
        pg_loop_turn(mesh_loop, false);
    }
    CU_ASSERT_TRUE(mesh_run_until(tc_three, NULL, 3000));
    CU_ASSERT_EQUAL(tc_messages(), 3);
    pg_transport_close(t);
    stop();
}

int main(void)
{
    static const struct test_case cases[] = {
        {"mesh names", test_mesh_names},
        {"forwarding", test_forward},
        {"source ports", test_ports},
        {"silent upstream", test_silent_upstream},
        {"refusing upstream", test_refusing_upstream},
        {"hostile clients", test_hostile_clients},
        {"TCP", test_tcp},
    };
    if (mesh_setup() < 0) {
        return 2;
    }
    int r = test_main("hbone dns", cases, PG_ARRAY_LEN(cases));
    mesh_teardown();
    return r;
}
