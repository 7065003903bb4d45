/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inbound port as a hostile or merely odd peer sees it: a raw HTTP/2 client over mesh TLS sends each row
 * of the CONNECT table and checks the status; early data, clients without or with a foreign certificate,
 * plaintext with policy. One thread.
 */
#include "mesh.h"

#define HOST "echo.demo.svc.cluster.local"

static struct mesh_node server;
static struct mesh_node peer; /* lends its certificate */
static struct mesh_echo *echo;
static char good[64];

static void start(void)
{
    echo = mesh_echo_start(3, 0);
    mesh_node_start(&server, "dedicated", "demo/server/server", "n1", 3, 0);
    mesh_node_start(&peer, "dedicated", "demo/client/client", "n1", 2, 0);
    const struct mesh_workload s = {.ns = "demo",
                                    .name = "server",
                                    .sa = "server",
                                    .network = "n1",
                                    .last = 3,
                                    .hbone = true,
                                    .service = "demo/" HOST,
                                    .port = 80,
                                    .target = mesh_echo_port(echo)};
    mesh_put_service(&server, HOST, "n1", 1, 80, mesh_echo_port(echo), false);
    mesh_put_workload(&server, &s);
    mesh_node_cert(&server, "demo", "server");
    mesh_node_cert(&peer, "demo", "client");
    (void)snprintf(good, sizeof(good), "127.0.0.3:%u", mesh_echo_port(echo));
}

static void stop(void)
{
    mesh_node_stop(&peer);
    mesh_node_stop(&server);
    mesh_echo_stop(echo);
}

struct probe {
    struct pg_h2 *h2;
    struct pg_h2_stream *s;
    bool settled, dead, answered, ended;
    int status;
    int err;
    char baggage[256];
    size_t got;
};

static void on_settings(struct pg_h2 *h, void *arg)
{
    (void)h;
    ((struct probe *)arg)->settled = true;
}
static void on_session_closed(struct pg_h2 *h, int err, const char *text, void *arg)
{
    (void)text;
    struct probe *p = arg;
    p->dead = true;
    p->err = err;
    pg_h2_free(h);
    p->h2 = NULL;
}
static void on_response(struct pg_h2_stream *s, const struct pg_h2_head *head, bool end, void *arg)
{
    (void)s;
    (void)end;
    struct probe *p = arg;
    uint64_t status = 0;
    CU_ASSERT_EQUAL(pg_str_u64(pg_h2_head_get(head, ":status"), 999, &status), 0);
    (void)snprintf(p->baggage, sizeof(p->baggage), "%.*s", PG_STR_ARG(pg_h2_head_get(head, "baggage")));
    p->status = (int)status;
    p->answered = true;
}
static void on_readable(struct pg_h2_stream *s, void *arg)
{
    struct probe *p = arg;
    char buf[4096];
    ssize_t n;
    while ((n = pg_h2_read(s, buf, sizeof(buf))) > 0) {
        p->got += (size_t)n;
        pg_h2_consumed(s, (size_t)n);
    }
    p->ended = p->ended || n == 0;
}
static void on_stream_closed(struct pg_h2_stream *s, uint32_t code, int err, void *arg)
{
    (void)s;
    (void)code;
    (void)err;
    ((struct probe *)arg)->ended = true;
}
static const struct pg_h2_callbacks session = {.on_settings = on_settings, .on_closed = on_session_closed};
static const struct pg_h2_stream_callbacks stream = {
    .on_response = on_response, .on_readable = on_readable, .on_closed = on_stream_closed};

static bool settled(void *arg)
{
    const struct probe *p = arg;
    return p->settled || p->dead;
}
static bool answered(void *arg)
{
    const struct probe *p = arg;
    return p->answered || p->ended || p->dead;
}
static bool finished(void *arg)
{
    const struct probe *p = arg;
    return p->ended || p->dead;
}

static void open_session(struct probe *p, struct cert_creds *creds)
{
    struct pg_addr to = {.ip = {.len = 4, .b = {127, 0, 0, 3}}, .port = mesh_inbound_port(&server)};
    struct pg_sock_options so = {0};
    struct pg_transport *tcp;
    struct pg_transport *tls;
    struct pg_h2_options o;
    struct pg_str san = PG_STR("spiffe://cluster.local/ns/demo/sa/server");
    struct cert_expect e = {.kind = CERT_EXPECT_SPIFFE, .names = &san, .n_names = 1};
    *p = (struct probe){0};
    CU_ASSERT_EQUAL_FATAL(pg_tcp_connect(mesh_loop, &to, &so, &tcp, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(cert_tls_client(mesh_loop, tcp, creds, &e, &tls), 0);
    pg_h2_options_hbone(&o, false);
    CU_ASSERT_EQUAL_FATAL(pg_h2_client_new(mesh_loop, tls, &o, &session, p, &p->h2), 0);
    CU_ASSERT_TRUE(mesh_run_until(settled, p, 5000));
}

static void close_session(struct probe *p)
{
    pg_h2_stream_close(p->s, PG_H2_CANCEL);
    p->s = NULL;
    pg_h2_free(p->h2);
    p->h2 = NULL;
    mesh_settle();
}

static void request(struct probe *p, const char *method, const char *authority, bool end)
{
    struct pg_h2_field f[4] = {{.name = PG_STR(":method"), .value = pg_str_c(method)},
                               {.name = PG_STR(":authority"), .value = pg_str_c(authority)},
                               {.name = PG_STR(":scheme"), .value = PG_STR("https")},
                               {.name = PG_STR(":path"), .value = PG_STR("/")}};
    struct pg_h2_head head = {f, strcmp(method, "CONNECT") == 0 ? 2 : 4};
    p->answered = p->ended = false;
    p->status = 0;
    p->got = 0;
    CU_ASSERT_EQUAL_FATAL(pg_h2_request(p->h2, &head, end, &stream, p, &p->s), 0);
}

static void test_table(void)
{
    char other_port[64];
    start();
    (void)snprintf(other_port, sizeof(other_port), "127.0.0.3:%u", 1u);
    const struct {
        const char *method, *authority;
        bool end;
        int status;
    } rows[] = {
        {"CONNECT", good, false, 200},
        {"CONNECT", HOST ":80", false, 200},
        {"CONNECT", "127.0.0.9:80", false, 400}, /* not our address */
        {"CONNECT", "127.0.0.3", false, 400},    /* no port */
        {"CONNECT", "127.0.0.3:99999", false, 400},
        {"CONNECT", "127.0.0.3:0", false, 400},
        {"CONNECT", "user@127.0.0.3:80", false, 400},
        {"CONNECT", "127.0.0.3%20:80", false, 400},
        {"CONNECT", "::1:80", false, 400},
        {"CONNECT", "[fe80::1%25eth0]:80", false, 400},
        {"CONNECT", "127.0.0.3:80:80", false, 400},
        {"CONNECT", good, true, 400}, /* no body to carry anything */
        {"GET", good, true, 400},
        {"POST", good, false, 400},
        {"CONNECT", "127.0.0.3:15001", false, 503}, /* would come back to ourselves */
        {"CONNECT", "127.0.0.3:15006", false, 503},
        {"CONNECT", "127.0.0.3:15008", false, 503},
        {"CONNECT", other_port, false, 503}, /* nobody listens */
        {"CONNECT", "unknown.demo.svc.cluster.local:80", false, 503},
        {"CONNECT", HOST ":81", false, 503},
        {"CONNECT", good, false, 200}, /* and the session is still good */
    };
    struct probe p;
    open_session(&p, peer.creds);
    CU_ASSERT_TRUE(p.settled);
    for (size_t i = 0; i < PG_ARRAY_LEN(rows) && p.h2 != NULL; i++) {
        request(&p, rows[i].method, rows[i].authority, rows[i].end);
        CU_ASSERT_TRUE(mesh_run_until(answered, &p, 5000));
        if (p.status != rows[i].status) {
            (void)printf("\n%s %s: %d, expected %d\n", rows[i].method, rows[i].authority, p.status,
                         rows[i].status);
            CU_FAIL("status");
        }
        if (p.status == 200) {
            CU_ASSERT_STRING_EQUAL(
                p.baggage, "k8s.cluster.name=cluster1,k8s.namespace.name=demo,k8s.deployment.name=server,"
                           "service.name=server,service.version=latest");
        } else {
            CU_ASSERT_STRING_EQUAL(p.baggage, "");
        }
        pg_h2_stream_close(p.s, PG_H2_CANCEL);
        p.s = NULL;
    }
    close_session(&p);
    stop();
}

/* Bytes sent before the 200 arrive once, after it; on a refusal they go nowhere. */
static void test_early_data(void)
{
    start();
    struct probe p;
    char data[3000];
    struct iovec iov = {data, sizeof(data)};
    memset(data, 'e', sizeof(data));
    open_session(&p, peer.creds);
    request(&p, "CONNECT", good, false);
    CU_ASSERT_EQUAL(pg_h2_writev(p.s, &iov, 1), (ssize_t)sizeof(data));
    CU_ASSERT_EQUAL(pg_h2_end(p.s), 0);
    CU_ASSERT_TRUE(mesh_run_until(finished, &p, 5000));
    CU_ASSERT_EQUAL(p.status, 200);
    CU_ASSERT_EQUAL(p.got, sizeof(data));
    pg_h2_stream_close(p.s, PG_H2_CANCEL);
    unsigned before = mesh_echo_accepted(echo);
    request(&p, "CONNECT", "127.0.0.9:80", false);
    CU_ASSERT_EQUAL(pg_h2_writev(p.s, &iov, 1), (ssize_t)sizeof(data));
    CU_ASSERT_TRUE(mesh_run_until(answered, &p, 5000));
    CU_ASSERT_EQUAL(p.status, 400);
    CU_ASSERT_EQUAL(mesh_echo_accepted(echo), before);
    close_session(&p);
    stop();
}

static bool no_stream_left(void *arg)
{
    (void)arg;
    return server.worker->n_conns[HB_INBOUND] == 0;
}

/* Streams reset at every moment leave nothing behind. */
static void test_resets(void)
{
    start();
    struct probe p;
    open_session(&p, peer.creds);
    for (int i = 0; i < 60; i++) {
        request(&p, "CONNECT", good, false);
        for (int k = 0; k < i / 3; k++) {
            pg_loop_turn(mesh_loop, false);
        }
        pg_h2_stream_close(p.s, PG_H2_CANCEL);
        p.s = NULL;
    }
    CU_ASSERT_TRUE(mesh_run_until(no_stream_left, NULL, 5000));
    CU_ASSERT_FALSE(p.dead);
    request(&p, "CONNECT", good, false);
    CU_ASSERT_TRUE(mesh_run_until(answered, &p, 5000));
    CU_ASSERT_EQUAL(p.status, 200);
    close_session(&p);
    CU_ASSERT_TRUE(mesh_run_until(no_stream_left, NULL, 5000));
    stop();
}

/* No certificate, no entrance. */
static void test_anonymous(void)
{
    start();
    struct probe p;
    struct cert_creds *anonymous;
    struct pg_str td = PG_STR("cluster.local");
    struct cert_creds_options o = {
        .roots_pem = cert_creds_roots_pem(peer.creds), .trust_domains = &td, .n_trust_domains = 1};
    CU_ASSERT_EQUAL_FATAL(cert_creds_new(&o, &anonymous, NULL), 0);
    open_session(&p, anonymous);
    if (p.settled && !p.dead) { /* TLS 1.3: the client learns of the refusal after its handshake */
        request(&p, "CONNECT", good, false);
        CU_ASSERT_TRUE(mesh_run_until(answered, &p, 5000));
    }
    CU_ASSERT_EQUAL(p.status, 0);
    CU_ASSERT_EQUAL(server.worker->metrics.n.inbound_tls_failures, 1);
    CU_ASSERT_EQUAL(mesh_echo_accepted(echo), 0);
    close_session(&p);
    cert_creds_unref(anonymous);
    stop();
}

static bool session_dead(void *arg)
{
    const struct probe *p = arg;
    return p->dead;
}

/* A new certificate changes nothing for kept connections; other roots mean that clients must show theirs
 * again. */
static void test_roots_change(void)
{
    start();
    struct probe p;
    struct cert_creds *other;
    struct pg_sb roots;
    struct pg_str td = PG_STR("cluster.local");
    open_session(&p, peer.creds);
    mesh_node_cert(&server, "demo", "server");
    mesh_settle();
    request(&p, "CONNECT", good, false);
    CU_ASSERT_TRUE(mesh_run_until(answered, &p, 5000));
    CU_ASSERT_EQUAL(p.status, 200);
    pg_sb_init(&roots, CERT_PEM_MAX);
    for (int i = 0; i < 2; i++) {
        pg_sb_str(&roots, cert_creds_roots_pem(server.creds));
    }
    struct cert_creds_options o = {
        .roots_pem = pg_sb_view(&roots), .trust_domains = &td, .n_trust_domains = 1};
    CU_ASSERT_EQUAL_FATAL(cert_creds_new(&o, &other, NULL), 0);
    pg_sb_fini(&roots);
    cert_creds_unref(server.creds);
    server.creds = other;
    server.creds_gen++;
    mesh_node_publish(&server);
    CU_ASSERT_FALSE(mesh_run_until(session_dead, &p, 100)); /* the tunnel in it goes on */
    CU_ASSERT_EQUAL(pg_h2_capacity(p.h2), 0);
    pg_h2_stream_close(p.s, PG_H2_CANCEL);
    p.s = NULL;
    CU_ASSERT_TRUE(mesh_run_until(session_dead, &p, 5000));
    close_session(&p);
    stop();
}

static bool client_done(void *arg)
{
    return mesh_client_done(arg);
}

/* 15006: plaintext passes until a policy forbids it. */
static void test_plaintext(void)
{
    struct mesh_client c;
    start();
    struct pg_addr to = pg_listener_addr(server.worker->pod.plain);
    server.cfg.test.original_dst =
        (struct pg_addr){.ip = {.len = 4, .b = {127, 0, 0, 3}}, .port = mesh_echo_port(echo)};
    mesh_client_start(&c, &to, 70000, 4, false);
    CU_ASSERT_TRUE(mesh_run_until(client_done, &c, 5000));
    CU_ASSERT_EQUAL(c.got, 70000);
    CU_ASSERT_FALSE(c.wrong);
    mesh_client_stop(&c);
    mesh_put_deny(&server, mesh_echo_port(echo));
    mesh_node_publish(&server);
    mesh_client_start(&c, &to, 10, 4, false);
    CU_ASSERT_TRUE(mesh_run_until(client_done, &c, 5000));
    CU_ASSERT_TRUE(c.err < 0);
    mesh_client_stop(&c);
    server.cfg.test.original_dst.port = 15008;
    mesh_client_start(&c, &to, 10, 4, false);
    CU_ASSERT_TRUE(mesh_run_until(client_done, &c, 5000));
    CU_ASSERT_TRUE(c.err < 0);
    mesh_client_stop(&c);
    CU_ASSERT_EQUAL(mesh_echo_accepted(echo), 1);
    stop();
}

int main(void)
{
    static const struct test_case cases[] = {
        {"CONNECT table", test_table},           {"early data", test_early_data},
        {"resets at every moment", test_resets}, {"no certificate", test_anonymous},
        {"plaintext port", test_plaintext},      {"roots change", test_roots_change},
    };
    if (mesh_setup() < 0) {
        return 2;
    }
    int r = test_main("hbone inbound", cases, PG_ARRAY_LEN(cases));
    mesh_teardown();
    return r;
}
