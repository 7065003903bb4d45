/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole tunnels over real sockets, TLS and HTTP/2 on one loop: client application -> outbound -> inbound ->
 * echo application, and through an east-west gateway. Every byte is checked; half-close, many connections at
 * once, refusals, back-pressure, retries, drain, renewal of certificates. One thread.
 */
#include "mesh.h"

#include "hbone/pool.h"

#define HOST "echo.demo.svc.cluster.local"
#define PARALLEL 500u
#define STALL_BYTES (64u * 1024 * 1024)

static struct mesh_node client;
static struct mesh_node server;
static struct mesh_echo *echo;

static bool one_done(void *arg)
{
    return mesh_client_done(arg);
}

static void set_destination(struct mesh_node *n, unsigned vip, uint16_t port)
{
    n->cfg.test.original_dst =
        (struct pg_addr){.ip = {.len = 4, .b = {10, 9, 9, (uint8_t)vip}}, .port = port};
}

/* client 127.0.0.2, server 127.0.0.3, both in network n1, service with VIP 10.9.9.1:80. */
static void start_pair(void)
{
    echo = mesh_echo_start(3, 0);
    uint16_t target = mesh_echo_port(echo);
    mesh_node_start(&server, "dedicated", "demo/server/server", "n1", 3, 0);
    mesh_node_start(&client, "dedicated", "demo/client/client", "n1", 2, 0);
    client.cfg.test.hbone_port = mesh_inbound_port(&server);
    struct mesh_node *both[] = {&client, &server};
    for (size_t i = 0; i < 2; i++) {
        const struct mesh_workload c = {
            .ns = "demo", .name = "client", .sa = "client", .network = "n1", .last = 2, .hbone = true};
        const struct mesh_workload s = {.ns = "demo",
                                        .name = "server",
                                        .sa = "server",
                                        .network = "n1",
                                        .last = 3,
                                        .hbone = true,
                                        .service = "demo/" HOST,
                                        .port = 80,
                                        .target = target};
        mesh_put_service(both[i], HOST, "n1", 1, 80, target, false);
        mesh_put_workload(both[i], &c);
        mesh_put_workload(both[i], &s);
    }
    mesh_node_cert(&client, "demo", "client");
    mesh_node_cert(&server, "demo", "server");
    set_destination(&client, 1, 80);
}

static void stop_pair(void)
{
    mesh_node_stop(&client);
    mesh_node_stop(&server);
    mesh_echo_stop(echo);
}

static bool no_conns(void *arg)
{
    const struct mesh_node *n = arg;
    return n->worker->n_conns[0] + n->worker->n_conns[1] == 0;
}

static uint64_t total_of(const struct mesh_node *n, int what)
{
    struct hb_totals t;
    struct hb_gauges g;
    uint64_t sum = 0;
    hb_worker_gauges(n->worker, &g);
    hb_totals_init(&t);
    hb_totals_add(&t, &n->worker->metrics, &g);
    size_t it = 0;
    void *v;
    while (pg_map_next(&t.map, &it, NULL, &v)) {
        sum += ((struct hb_series *)v)->v[what];
    }
    hb_totals_fini(&t);
    return sum;
}

static void test_bytes(void)
{
    struct mesh_client c;
    struct pg_addr to;
    start_pair();
    to = mesh_outbound(&client);
    static const uint64_t sizes[] = {0, 1, 17, 16384, 65536, 3000001};
    uint64_t sum = 0;
    for (size_t i = 0; i < PG_ARRAY_LEN(sizes); i++) {
        mesh_client_start(&c, &to, sizes[i], (uint32_t)i, false);
        CU_ASSERT_TRUE(mesh_run_until(one_done, &c, 20000));
        CU_ASSERT_EQUAL(c.err, 0);
        CU_ASSERT_EQUAL(c.got, sizes[i]);
        CU_ASSERT_FALSE(c.wrong);
        CU_ASSERT_TRUE(c.eof);
        mesh_client_stop(&c);
        sum += sizes[i];
    }
    CU_ASSERT_TRUE(mesh_run_until(no_conns, &client, 5000));
    CU_ASSERT_TRUE(mesh_run_until(no_conns, &server, 5000));
    /* One pooled session carried them all; what was counted is what was sent. */
    uint64_t outer;
    uint64_t inner;
    hb_pool_counts(client.worker->pool, &outer, &inner);
    CU_ASSERT_EQUAL(outer, 1);
    CU_ASSERT_EQUAL(server.worker->n_inbound, 1);
    struct mesh_node *both[] = {&client, &server};
    for (size_t i = 0; i < 2; i++) {
        CU_ASSERT_EQUAL(total_of(both[i], HB_M_OPENED), PG_ARRAY_LEN(sizes));
        CU_ASSERT_EQUAL(total_of(both[i], HB_M_CLOSED), PG_ARRAY_LEN(sizes));
        CU_ASSERT_EQUAL(total_of(both[i], HB_M_FAILED), 0);
        CU_ASSERT_EQUAL(total_of(both[i], HB_M_RECEIVED), sum);
        CU_ASSERT_EQUAL(total_of(both[i], HB_M_SENT), sum);
    }
    stop_pair();
}

/* The application ends first and the client goes on sending, and the other way round. */
static void test_half_close(void)
{
    struct mesh_client c;
    struct pg_addr to;
    start_pair();
    to = mesh_outbound(&client);
    mesh_client_start(&c, &to, 1000, 7, true);
    CU_ASSERT_TRUE(mesh_run_until(one_done, &c, 10000));
    CU_ASSERT_FALSE(c.eof);
    /* The client's end travels to the application, whose end travels back after the last bytes. */
    mesh_client_more(&c, 200000, false);
    CU_ASSERT_TRUE(mesh_run_until(one_done, &c, 10000));
    CU_ASSERT_EQUAL(c.got, 201000);
    CU_ASSERT_TRUE(c.eof);
    CU_ASSERT_FALSE(c.wrong);
    mesh_client_stop(&c);
    CU_ASSERT_TRUE(mesh_run_until(no_conns, &client, 5000));
    CU_ASSERT_TRUE(mesh_run_until(no_conns, &server, 5000));
    stop_pair();
}

struct many {
    struct mesh_client c[PARALLEL];
};

static bool all_done(void *arg)
{
    const struct many *m = arg;
    for (size_t i = 0; i < PARALLEL; i++) {
        if (!mesh_client_done(&m->c[i])) {
            return false;
        }
    }
    return true;
}

static void test_parallel(void)
{
    static struct many m;
    struct pg_addr to;
    start_pair();
    to = mesh_outbound(&client);
    for (size_t i = 0; i < PARALLEL; i++) {
        mesh_client_start(&m.c[i], &to, 1000 + i * 37, (uint32_t)i, false);
    }
    CU_ASSERT_TRUE(mesh_run_until(all_done, &m, 50000));
    size_t bad = 0;
    for (size_t i = 0; i < PARALLEL; i++) {
        const struct mesh_client *c = &m.c[i];
        bad += c->err != 0 || c->wrong || c->got != c->total || !c->eof ? 1 : 0;
        mesh_client_stop(&m.c[i]);
    }
    CU_ASSERT_EQUAL(bad, 0);
    CU_ASSERT_EQUAL(mesh_echo_accepted(echo), PARALLEL);
    uint64_t outer;
    uint64_t inner;
    hb_pool_counts(client.worker->pool, &outer, &inner);
    CU_ASSERT_TRUE(outer >= 1 && outer <= 10); /* 100 streams each */
    stop_pair();
}

static void test_deny(void)
{
    struct mesh_client c;
    struct pg_addr to;
    start_pair();
    to = mesh_outbound(&client);
    mesh_put_deny(&server, mesh_echo_port(echo));
    mesh_node_publish(&server);
    mesh_client_start(&c, &to, 100, 1, false);
    CU_ASSERT_TRUE(mesh_run_until(one_done, &c, 10000));
    CU_ASSERT_EQUAL(c.got, 0);
    CU_ASSERT_TRUE(c.err < 0); /* a reset, not a clean end */
    CU_ASSERT_EQUAL(mesh_echo_accepted(echo), 0);
    CU_ASSERT_EQUAL(total_of(&server, HB_M_FAILED), 1);
    CU_ASSERT_EQUAL(client.worker->metrics.n.retries, 0); /* a refusal on purpose is not retried */
    mesh_client_stop(&c);
    stop_pair();
}

/* A policy that arrives while a connection is open cuts it, within the batch. */
static void test_policy_change(void)
{
    struct mesh_client c;
    struct pg_addr to;
    start_pair();
    to = mesh_outbound(&client);
    mesh_client_start(&c, &to, 100, 1, true);
    CU_ASSERT_TRUE(mesh_run_until(one_done, &c, 10000));
    mesh_node_publish(&server); /* a world that changes nothing leaves it alone */
    mesh_client_more(&c, 100, true);
    CU_ASSERT_TRUE(mesh_run_until(one_done, &c, 10000));
    CU_ASSERT_EQUAL(c.err, 0);
    mesh_put_deny(&server, mesh_echo_port(echo));
    mesh_node_publish(&server);
    mesh_client_more(&c, 1, true);
    CU_ASSERT_TRUE(mesh_run_until(one_done, &c, 10000));
    CU_ASSERT_TRUE(c.err < 0);
    CU_ASSERT_EQUAL(server.worker->metrics.n.policy_cuts, 1);
    mesh_client_stop(&c);
    stop_pair();
}

/* A selector policy that is referenced but has not come holds the connection; when it comes without denying,
 * bytes flow. */
static void test_missing_policy(void)
{
    struct mesh_client c;
    struct pg_addr to;
    start_pair();
    to = mesh_outbound(&client);
    uint16_t target = mesh_echo_port(echo);
    const struct mesh_workload s = {.ns = "demo",
                                    .name = "server",
                                    .sa = "server",
                                    .network = "n1",
                                    .last = 3,
                                    .hbone = true,
                                    .service = "demo/" HOST,
                                    .port = 80,
                                    .target = target,
                                    .policy = "demo/deny"};
    mesh_put_workload(&server, &s);
    mesh_node_publish(&server);
    mesh_client_start(&c, &to, 100, 1, false);
    CU_ASSERT_FALSE(mesh_run_until(one_done, &c, 300));
    CU_ASSERT_EQUAL(server.worker->metrics.n.policy_holds, 1);
    mesh_put_deny(&server, 1); /* denies another port */
    mesh_node_publish(&server);
    CU_ASSERT_TRUE(mesh_run_until(one_done, &c, 10000));
    CU_ASSERT_EQUAL(c.got, 100);
    mesh_client_stop(&c);
    stop_pair();
}

static void test_missing_policy_denies(void)
{
    struct mesh_client c;
    struct pg_addr to;
    start_pair();
    to = mesh_outbound(&client);
    const struct mesh_workload s = {.ns = "demo",
                                    .name = "server",
                                    .sa = "server",
                                    .network = "n1",
                                    .last = 3,
                                    .hbone = true,
                                    .service = "demo/" HOST,
                                    .port = 80,
                                    .target = mesh_echo_port(echo),
                                    .policy = "demo/absent"};
    mesh_put_workload(&server, &s);
    mesh_node_publish(&server);
    mesh_client_start(&c, &to, 100, 1, false);
    CU_ASSERT_TRUE(mesh_run_until(one_done, &c, 5000));
    CU_ASSERT_TRUE(c.err < 0);
    CU_ASSERT_EQUAL(mesh_echo_accepted(echo), 0);
    mesh_client_stop(&c);
    stop_pair();
}

static bool no_progress_left(void *arg)
{
    (void)arg;
    return false;
}

/* A reader that stops: the sender is paused by windows and socket buffers, not fed into our memory. */
static void test_stalled_reader(void)
{
    struct mesh_client c;
    struct pg_addr to;
    start_pair();
    to = mesh_outbound(&client);
    mesh_client_start(&c, &to, 1, 3, true);
    CU_ASSERT_TRUE(mesh_run_until(one_done, &c, 10000));
    mesh_echo_stall(echo, true);
    mesh_client_more(&c, STALL_BYTES, false);
    (void)mesh_run_until(no_progress_left, NULL, 1500);
    uint64_t paused = c.sent;
    (void)mesh_run_until(no_progress_left, NULL, 500);
    (void)printf(" [stalled reader: %llu bytes left the client, socket buffers included] ",
                 (unsigned long long)c.sent);
    CU_ASSERT_EQUAL(c.sent, paused);
    CU_ASSERT_TRUE(c.sent < STALL_BYTES / 2);
    mesh_echo_stall(echo, false);
    CU_ASSERT_TRUE(mesh_run_until(one_done, &c, 50000));
    CU_ASSERT_EQUAL(c.got, STALL_BYTES + 1);
    CU_ASSERT_FALSE(c.wrong);
    mesh_client_stop(&c);
    stop_pair();
}

/* Two endpoints, one dead: no connection fails, and the dead one is left alone after the first failures. */
static void test_retry(void)
{
    struct mesh_client c;
    struct pg_addr to;
    start_pair();
    to = mesh_outbound(&client);
    const struct mesh_workload dead = {.ns = "demo",
                                       .name = "dead",
                                       .sa = "server",
                                       .network = "n1",
                                       .last = 77,
                                       .hbone = true,
                                       .service = "demo/" HOST,
                                       .port = 80,
                                       .target = mesh_echo_port(echo)};
    mesh_put_workload(&client, &dead);
    mesh_node_publish(&client);
    for (uint32_t i = 0; i < 40; i++) {
        mesh_client_start(&c, &to, 500, i, false);
        CU_ASSERT_TRUE(mesh_run_until(one_done, &c, 10000));
        CU_ASSERT_EQUAL(c.got, 500);
        CU_ASSERT_EQUAL(c.err, 0);
        mesh_client_stop(&c);
    }
    CU_ASSERT_TRUE(client.worker->metrics.n.retries >= 1);
    CU_ASSERT_TRUE(client.worker->metrics.n.retries <= 3);
    CU_ASSERT_TRUE(client.worker->metrics.n.ejections >= 1);
    stop_pair();
}

/* The wrong server behind the address: nothing gets through, nothing is sent to it. */
static void test_wrong_identity(void)
{
    struct mesh_client c;
    struct pg_addr to;
    start_pair();
    to = mesh_outbound(&client);
    mesh_node_cert(&server, "demo", "impostor");
    mesh_client_start(&c, &to, 100, 1, false);
    CU_ASSERT_TRUE(mesh_run_until(one_done, &c, 15000));
    CU_ASSERT_TRUE(c.err < 0);
    CU_ASSERT_EQUAL(mesh_echo_accepted(echo), 0);
    mesh_client_stop(&c);
    stop_pair();
}

static bool note_idle_seen;
static void note_idle(struct hb_worker *w, void *arg)
{
    (void)w;
    (void)arg;
    note_idle_seen = true;
}
static bool idle_seen(void *arg)
{
    (void)arg;
    return note_idle_seen;
}

static void test_drain(void)
{
    struct mesh_client c;
    struct mesh_client late;
    struct pg_addr to;
    start_pair();
    to = mesh_outbound(&client);
    mesh_client_start(&c, &to, 1000, 1, true);
    CU_ASSERT_TRUE(mesh_run_until(one_done, &c, 10000));
    note_idle_seen = false;
    hb_worker_drain(server.worker, note_idle, NULL);
    (void)mesh_run_until(idle_seen, NULL, 200);
    CU_ASSERT_FALSE(note_idle_seen);
    /* What is open goes on; what is new finds nobody. */
    mesh_client_more(&c, 50000, true);
    CU_ASSERT_TRUE(mesh_run_until(one_done, &c, 10000));
    CU_ASSERT_EQUAL(c.got, 51000);
    mesh_client_start(&late, &to, 10, 2, false);
    CU_ASSERT_TRUE(mesh_run_until(one_done, &late, 15000));
    CU_ASSERT_TRUE(late.err < 0);
    mesh_client_stop(&late);
    mesh_client_more(&c, 1, false);
    CU_ASSERT_TRUE(mesh_run_until(one_done, &c, 10000));
    CU_ASSERT_TRUE(c.eof);
    mesh_client_stop(&c);
    CU_ASSERT_TRUE(mesh_run_until(idle_seen, NULL, 10000));
    stop_pair();
}

static void test_forced_drain(void)
{
    struct mesh_client c;
    struct pg_addr to;
    start_pair();
    to = mesh_outbound(&client);
    mesh_client_start(&c, &to, 1000, 1, true);
    CU_ASSERT_TRUE(mesh_run_until(one_done, &c, 10000));
    note_idle_seen = false;
    hb_worker_drain(server.worker, note_idle, NULL);
    hb_worker_cut_all(server.worker, "connection closed due to connection drain");
    CU_ASSERT_TRUE(mesh_run_until(idle_seen, NULL, 5000));
    mesh_client_more(&c, 1, true);
    CU_ASSERT_TRUE(mesh_run_until(one_done, &c, 5000));
    CU_ASSERT_TRUE(c.err < 0); /* cut, never a clean end */
    mesh_client_stop(&c);
    stop_pair();
}

/* New certificates on both sides: the open connection lives, the next one uses a new session. */
static void test_rotation(void)
{
    struct mesh_client c;
    struct mesh_client next;
    struct pg_addr to;
    start_pair();
    to = mesh_outbound(&client);
    mesh_client_start(&c, &to, 1000, 1, true);
    CU_ASSERT_TRUE(mesh_run_until(one_done, &c, 10000));
    uint64_t dials = client.worker->metrics.n.pool_dials;
    mesh_node_cert(&client, "demo", "client");
    mesh_node_cert(&server, "demo", "server");
    mesh_client_start(&next, &to, 1000, 2, false);
    CU_ASSERT_TRUE(mesh_run_until(one_done, &next, 10000));
    CU_ASSERT_EQUAL(next.got, 1000);
    CU_ASSERT_EQUAL(client.worker->metrics.n.pool_dials, dials + 1);
    mesh_client_stop(&next);
    mesh_client_more(&c, 100000, false);
    CU_ASSERT_TRUE(mesh_run_until(one_done, &c, 10000));
    CU_ASSERT_EQUAL(c.got, 101000);
    CU_ASSERT_EQUAL(c.err, 0);
    mesh_client_stop(&c);
    stop_pair();
}

/* Nothing in the table about the destination: bytes pass unchanged, without a tunnel. */
static void test_passthrough(void)
{
    struct mesh_client c;
    struct pg_addr to;
    start_pair();
    to = mesh_outbound(&client);
    struct mesh_echo *other = mesh_echo_start(9, 0);
    client.cfg.test.original_dst =
        (struct pg_addr){.ip = {.len = 4, .b = {127, 0, 0, 9}}, .port = mesh_echo_port(other)};
    mesh_client_start(&c, &to, 300000, 5, false);
    CU_ASSERT_TRUE(mesh_run_until(one_done, &c, 10000));
    CU_ASSERT_EQUAL(c.got, 300000);
    CU_ASSERT_FALSE(c.wrong);
    CU_ASSERT_EQUAL(client.worker->metrics.n.pool_dials, 0);
    mesh_client_stop(&c);
    mesh_echo_stop(other);
    stop_pair();
}

/* A VIP of the mesh that no service owns is refused, never dialled. */
static void test_unowned_vip(void)
{
    struct mesh_client c;
    struct pg_addr to;
    start_pair();
    to = mesh_outbound(&client);
    client.cfg.test.original_dst = (struct pg_addr){.ip = {.len = 4, .b = {240, 240, 1, 1}}, .port = 80};
    mesh_client_start(&c, &to, 10, 5, false);
    CU_ASSERT_TRUE(mesh_run_until(one_done, &c, 2000));
    CU_ASSERT_TRUE(c.err < 0);
    mesh_client_stop(&c);
    stop_pair();
}

static bool waits_then_flows(void *arg)
{
    return mesh_client_done(arg);
}

/* A connection that comes before the local workload and its certificate are known waits for them. */
static void test_waits_for_workload(void)
{
    struct mesh_client c;
    struct pg_addr to;
    start_pair();
    mesh_node_stop(&client);
    mesh_node_start(&client, "dedicated", "demo/client/client", "n1", 2, 0);
    client.cfg.test.hbone_port = mesh_inbound_port(&server);
    set_destination(&client, 1, 80);
    to = mesh_outbound(&client);
    mesh_client_start(&c, &to, 100, 1, false);
    CU_ASSERT_FALSE(mesh_run_until(waits_then_flows, &c, 100));
    const struct mesh_workload me = {
        .ns = "demo", .name = "client", .sa = "client", .network = "n1", .last = 2, .hbone = true};
    const struct mesh_workload s = {.ns = "demo",
                                    .name = "server",
                                    .sa = "server",
                                    .network = "n1",
                                    .last = 3,
                                    .hbone = true,
                                    .service = "demo/" HOST,
                                    .port = 80,
                                    .target = mesh_echo_port(echo)};
    mesh_put_service(&client, HOST, "n1", 1, 80, mesh_echo_port(echo), false);
    mesh_put_workload(&client, &s);
    mesh_node_publish(&client);
    CU_ASSERT_FALSE(mesh_run_until(waits_then_flows, &c, 50));
    mesh_put_workload(&client, &me);
    mesh_node_publish(&client);
    CU_ASSERT_FALSE(mesh_run_until(waits_then_flows, &c, 50));
    mesh_node_cert(&client, "demo", "client");
    CU_ASSERT_TRUE(mesh_run_until(waits_then_flows, &c, 10000));
    CU_ASSERT_EQUAL(c.got, 100);
    mesh_client_stop(&c);
    stop_pair();
}

/* ---- through a gateway
 * --------------------------------------------------------------------------------------------------- */

/* client in n1; gateway 127.0.0.4 and server 127.0.0.3 in n2. */
static void test_double_hbone(void)
{
    static struct mesh_node gateway;
    struct mesh_client c;
    struct mesh_client many[8];
    struct pg_addr to;
    echo = mesh_echo_start(3, 0);
    uint16_t target = mesh_echo_port(echo);
    mesh_node_start(&server, "dedicated", "demo/server/server", "n2", 3, 0);
    uint16_t port = mesh_inbound_port(&server);
    mesh_node_start(&gateway, "gateway", "demo/gateway/gateway", "n2", 4, port);
    mesh_node_start(&client, "dedicated", "demo/client/client", "n1", 2, 0);
    client.cfg.test.hbone_port = port;
    gateway.cfg.test.hbone_port = port;
    set_destination(&client, 1, 80);
    to = mesh_outbound(&client);
    const struct mesh_workload me = {
        .ns = "demo", .name = "client", .sa = "client", .network = "n1", .last = 2, .hbone = true};
    const struct mesh_workload gw = {
        .ns = "demo", .name = "gateway", .sa = "gateway", .network = "n2", .last = 4, .hbone = true};
    const struct mesh_workload s = {.ns = "demo",
                                    .name = "server",
                                    .sa = "server",
                                    .network = "n2",
                                    .last = 3,
                                    .hbone = true,
                                    .service = "demo/" HOST,
                                    .port = 80,
                                    .target = target};
    const struct mesh_workload remote = {.ns = "demo",
                                         .name = "remote",
                                         .sa = "server",
                                         .network = "n2",
                                         .hbone = true,
                                         .gateway = 4,
                                         .service = "demo/" HOST,
                                         .port = 80,
                                         .target = target};
    mesh_put_service(&client, HOST, "n1", 1, 80, target, true);
    mesh_put_workload(&client, &me);
    mesh_put_workload(&client, &gw);
    mesh_put_workload(&client, &remote);
    struct mesh_node *far[] = {&gateway, &server};
    for (size_t i = 0; i < 2; i++) {
        mesh_put_service(far[i], HOST, "n2", 1, 80, target, true);
        mesh_put_workload(far[i], &s);
        mesh_put_workload(far[i], &gw);
    }
    mesh_node_cert(&client, "demo", "client");
    mesh_node_cert(&gateway, "demo", "gateway");
    mesh_node_cert(&server, "demo", "server");

    static const uint64_t sizes[] = {0, 1, 100000, 2000000};
    for (size_t i = 0; i < PG_ARRAY_LEN(sizes); i++) {
        mesh_client_start(&c, &to, sizes[i], (uint32_t)i, false);
        CU_ASSERT_TRUE(mesh_run_until(one_done, &c, 20000));
        CU_ASSERT_EQUAL(c.err, 0);
        CU_ASSERT_EQUAL(c.got, sizes[i]);
        CU_ASSERT_FALSE(c.wrong);
        mesh_client_stop(&c);
    }
    for (size_t i = 0; i < PG_ARRAY_LEN(many); i++) {
        mesh_client_start(&many[i], &to, 50000, (uint32_t)(100 + i), false);
    }
    for (size_t i = 0; i < PG_ARRAY_LEN(many); i++) {
        CU_ASSERT_TRUE(mesh_run_until(one_done, &many[i], 20000));
        CU_ASSERT_EQUAL(many[i].got, 50000);
        CU_ASSERT_FALSE(many[i].wrong);
        mesh_client_stop(&many[i]);
    }
    uint64_t outer;
    uint64_t inner;
    hb_pool_counts(client.worker->pool, &outer, &inner);
    CU_ASSERT_EQUAL(outer, 1);
    CU_ASSERT_TRUE(inner >= 1 && inner <= 4);
    CU_ASSERT_EQUAL(mesh_echo_accepted(echo), PG_ARRAY_LEN(sizes) + PG_ARRAY_LEN(many));
    /* The gateway saw tunnels, not applications. */
    CU_ASSERT_TRUE(total_of(&gateway, HB_M_OPENED) <= 4);

    /* Renewal of the client's certificate: the next connection makes new tunnels. */
    mesh_node_cert(&client, "demo", "client");
    mesh_client_start(&c, &to, 1000, 9, false);
    CU_ASSERT_TRUE(mesh_run_until(one_done, &c, 20000));
    CU_ASSERT_EQUAL(c.got, 1000);
    mesh_client_stop(&c);

    /* The far end's service goes away: refused, not hung. */
    mesh_remove_workload(&gateway, "server");
    mesh_node_publish(&gateway);
    mesh_node_cert(&client, "demo", "client");
    mesh_client_start(&c, &to, 1000, 9, false);
    CU_ASSERT_TRUE(mesh_run_until(one_done, &c, 12000));
    CU_ASSERT_TRUE(c.err < 0);
    mesh_client_stop(&c);
    mesh_node_stop(&client);
    mesh_node_stop(&gateway);
    mesh_node_stop(&server);
    mesh_echo_stop(echo);
}

static bool ended_somehow(void *arg)
{
    const struct mesh_client *c = arg;
    return c->eof || mesh_client_done(c);
}

static bool quiet(void *arg)
{
    (void)arg;
    return no_conns(&client) && no_conns(&server);
}

/* The n-th allocation fails while a connection is made and carried, sessions and all: the connection works or
 * is reset, nothing hangs, leaks or gets a byte wrong, and the next one works. */
static void test_allocations(void)
{
    struct mesh_client c;
    struct pg_addr to;
    size_t worked = 0;
    size_t n = 0;
    start_pair();
    to = mesh_outbound(&client);
    for (;; n++) {
        struct pg_fault f = {.armed = true, .countdown = n};
        mesh_node_cert(&client, "demo", "client"); /* so that a new session is made, too */
        memset(client.worker->ejected, 0, sizeof(client.worker->ejected));
        mesh_client_start(&c, &to, 40000, (uint32_t)n, false);
        unsigned before = mesh_echo_accepted(echo);
        bool ended = mesh_run_until_failing(ended_somehow, &c, 12000, &f);
        if (!ended) {
            (void)printf(" [hangs when allocation %zu fails: got %llu] ", n, (unsigned long long)c.got);
        }
        CU_ASSERT_TRUE_FATAL(ended);
        CU_ASSERT_FALSE(c.wrong);
        if (c.err == 0 && c.got != 40000 && mesh_echo_accepted(echo) != before) {
            (void)printf(" [clean end after %llu of 40000 bytes when allocation %zu fails] ",
                         (unsigned long long)c.got, n);
        }
        /* An application that could not take its connection closes it cleanly: that end is passed on as it
         * is. */
        CU_ASSERT_TRUE(c.err < 0 || c.got == 40000 || mesh_echo_accepted(echo) == before);
        worked += c.err == 0 && c.got == 40000 ? 1 : 0;
        mesh_client_stop(&c);
        CU_ASSERT_TRUE(mesh_run_until(quiet, NULL, 5000));
        if (f.injected == 0) {
            CU_ASSERT_EQUAL(c.err, 0);
            break;
        }
    }
    (void)printf(" [%zu allocations, %zu survived] ", n, worked);
    CU_ASSERT_TRUE(n > 50);
    stop_pair();
}

int main(void)
{
    static const struct test_case cases[] = {
        {"bytes, one session, counters", test_bytes},
        {"half close", test_half_close},
        {"500 at once", test_parallel},
        {"policy refuses", test_deny},
        {"policy change cuts", test_policy_change},
        {"missing policy holds", test_missing_policy},
        {"missing policy denies after a second", test_missing_policy_denies},
        {"stalled reader", test_stalled_reader},
        {"retry and ejection", test_retry},
        {"wrong identity", test_wrong_identity},
        {"drain", test_drain},
        {"forced drain", test_forced_drain},
        {"renewed certificates", test_rotation},
        {"passthrough", test_passthrough},
        {"unowned mesh address", test_unowned_vip},
        {"waits for workload and certificate", test_waits_for_workload},
        {"double HBONE", test_double_hbone},
        {"failing allocations", test_allocations},
    };
    if (mesh_setup() < 0) {
        return 2;
    }
    int r = test_main("hbone tunnels", cases, PG_ARRAY_LEN(cases));
    mesh_teardown();
    return r;
}
