/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inbound: the table of destination checks (a server with and without a waypoint, by pod address and by VIP,
 * with and without an application tunnel), ports by hostname, and the service a connection belongs to.
 */
#include "kit.h"

#include <peering/route.h>

#define S "10.0.0.1"
#define W "10.0.0.2"
#define C "10.0.0.3"
#define V "10.1.0.1"
#define X "10.1.0.2"

struct world {
    peering_table *t;
    peering_snapshot *s;
};

/* Server pod S behind VIP V (80 to 8080), waypoint pod W behind VIP X, client C. */
static void open_world(struct world *w, const char *on_workload, const char *on_service, bool tunnel)
{
    w->t = kit_table();
    WL(w->t, .name = "server", .ips = S, .waypoint = on_workload,
       .services = "ns1/server.ns1.svc.cluster.local=80:8080");
    WL(w->t, .name = "waypoint", .ips = W, .services = "ns1/waypoint.ns1.svc.cluster.local=15008:15008",
       .tunnel_protocol = tunnel, .tunnel_port = tunnel ? 15088 : 0);
    WL(w->t, .name = "client", .ips = C);
    SV(w->t, .name = "server", .vips = "/" V, .ports = "80:8080", .waypoint = on_service);
    SV(w->t, .name = "waypoint", .vips = "/" X, .ports = "15008:15008");
    w->s = kit_snapshot(w->t);
}
static void close_world(struct world *w)
{
    peering_snapshot_unref(w->s);
    peering_table_free(w->t);
}
static peering_inbound decide(const struct world *w, const char *conn, const char *host, uint16_t port)
{
    peering_inbound out;
    peering_inbound_query q = {
        .network = ps(""), .conn_ip = kit_ip(conn), .authority_host = ps(host), .authority_port = port};
    struct pg_ip ip;
    if (pg_ip_parse(pg_str_c(host), &ip) == 0) {
        q.authority_ip = kit_ip(host);
    }
    q.local = peering_find_workload_by_ip(w->s, ps(""), &q.conn_ip);
    PG_BUG_ON(q.local == NULL);
    peering_inbound_decide(w->s, &q, &out);
    return out;
}

static void test_table(void)
{
    static const struct {
        const char *on_workload, *on_service;
        bool tunnel;
        const char *conn, *authority;
        uint16_t port;
        int status;
        uint16_t to;
        const char *header;
        uint16_t header_port;
    } rows[] = {
        {NULL, NULL, false, S, S, 8080, 200, 8080, NULL, 0},
        {NULL, NULL, false, S, "server.ns1.svc.cluster.local", 80, 200, 8080, NULL, 0},
        {"/" W ":15008", NULL, false, W, S, 8080, 200, 8080, NULL, 0},
        {"/" X ":15008", NULL, false, W, S, 8080, 200, 8080, NULL, 0},
        {"/" X ":15008", NULL, true, W, S, 8080, 200, 15088, S, 8080},
        {NULL, "/" W ":15008", false, W, V, 8080, 200, 8080, NULL, 0},
        {NULL, "/" X ":15008", false, W, V, 8080, 200, 8080, NULL, 0},
        {NULL, "/" X ":15008", true, W, V, 8080, 200, 15088, V, 8080},
        {NULL, NULL, false, S, C, 8080, 400, 0, NULL, 0},
        {NULL, NULL, false, W, C, 8080, 400, 0, NULL, 0},
        {NULL, "/" W ":15008", false, W, S, 8080, 400, 0, NULL, 0},
        {"/" W ":15008", NULL, false, W, V, 8080, 400, 0, NULL, 0},
        /* beyond the table: by name, and to a waypoint that is somebody else's */
        {"ns1/waypoint.ns1.svc.cluster.local:15008", NULL, false, W, S, 8080, 200, 8080, NULL, 0},
        {NULL, "ns1/waypoint.ns1.svc.cluster.local:15008", false, W, V, 8080, 200, 8080, NULL, 0},
        {NULL, "ns1/none:15008", false, W, V, 8080, 400, 0, NULL, 0},
        {"/" C ":15008", NULL, false, W, S, 8080, 400, 0, NULL, 0},
        {NULL, NULL, false, S, "10.9.9.9", 8080, 400, 0, NULL, 0},
        {NULL, NULL, true, W, "server.ns1.svc.cluster.local", 80, 200, 15088, V, 80},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(rows); i++) {
        struct world w;
        open_world(&w, rows[i].on_workload, rows[i].on_service, rows[i].tunnel);
        peering_inbound r = decide(&w, rows[i].conn, rows[i].authority, rows[i].port);
        CU_ASSERT_EQUAL(r.status, rows[i].status);
        if (r.status != 200) {
            char want[100];
            snprintf(want, sizeof(want), "ip mismatch: %s != %s", rows[i].conn, rows[i].authority);
            CU_ASSERT_STRING_EQUAL(r.error, want);
        } else {
            CU_ASSERT_EQUAL(r.port, rows[i].to);
            CU_ASSERT_EQUAL(r.proxy_header, rows[i].header != NULL);
        }
        if (rows[i].header != NULL) {
            peering_ip want = kit_ip(rows[i].header);
            CU_ASSERT(r.proxy_ip.len == want.len && memcmp(r.proxy_ip.bytes, want.bytes, want.len) == 0);
            CU_ASSERT_EQUAL(r.proxy_port, rows[i].header_port);
        }
        close_world(&w);
    }
}

/* Any of several waypoints is one. */
static void test_weighted(void)
{
    static const struct {
        const char *weighted;
        int status;
    } rows[] = {{"/" W ":15008=1,/" C ":15008=1", 200},
                {"/" C ":15008=1,/" X ":15008=1", 200},
                {"/" C ":15008=1", 400},
                {"", 400}};
    for (size_t i = 0; i < PG_ARRAY_LEN(rows); i++) {
        struct world w = {.t = kit_table()};
        WL(w.t, .name = "waypoint", .ips = W, .services = "ns1/waypoint.ns1.svc.cluster.local=15008:15008");
        WL(w.t, .name = "client", .ips = C);
        SV(w.t, .name = "waypoint", .vips = "/" X, .ports = "15008:15008");
        SV(w.t, .name = "server", .vips = "/" V, .ports = "80:8080", .weighted = rows[i].weighted);
        w.s = kit_snapshot(w.t);
        CU_ASSERT_EQUAL(decide(&w, W, V, 8080).status, rows[i].status);
        close_world(&w);
    }
}

static void test_hostnames(void)
{
    struct world w = {.t = kit_table()};
    WL(w.t, .name = "a", .ips = S,
       .services = "ns1/a.example=80:0,81:9000;ns1/b.example=80:7000;ns2/hidden.example=80:1",
       .tunnel_port = 0);
    SV(w.t, .name = "a", .hostname = "a.example", .ports = "80:8080,81:0,82:0");
    SV(w.t, .name = "b", .hostname = "b.example", .ports = "80:0");
    SV(w.t, .name = "h", .ns = "ns2", .hostname = "hidden.example", .ports = "80:1", .private_ns = true);
    SV(w.t, .name = "a", .ns = "ns2", .hostname = "b.example", .ports = "80:1", .canonical = true);
    w.s = kit_snapshot(w.t);
    static const struct {
        const char *host;
        uint16_t port;
        int status;
        uint16_t to;
        const char *error;
    } rows[] = {
        {"a.example", 80, 200, 8080, ""},
        {"a.example", 81, 200, 9000, ""},
        {"a.example", 82, 503, 0, "requested service a.example:82 found, but cannot resolve port"},
        {"a.example", 83, 503, 0, "requested service a.example:83 found, but cannot resolve port"},
        {"b.example", 80, 200, 7000, ""},
        {"hidden.example", 80, 503, 0, "no service or workload for hostname: hidden.example"},
        {"c.example", 80, 503, 0, "no service or workload for hostname: c.example"},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(rows); i++) {
        peering_inbound r = decide(&w, S, rows[i].host, rows[i].port);
        CU_ASSERT_EQUAL(r.status, rows[i].status);
        CU_ASSERT_STRING_EQUAL(r.error, rows[i].error);
        CU_ASSERT_EQUAL(r.status == 200 ? r.port : 0, rows[i].to);
    }
    close_world(&w);
}

static void test_header_address(void)
{
    struct world w = {.t = kit_table()};
    WL(w.t, .name = "a", .ips = S, .tunnel_protocol = 1,
       .services = "ns1/a.example=80:80;ns1/b.example=80:80");
    SV(w.t, .name = "a", .hostname = "a.example", .ports = "80:80",
       .vips = "n2/10.2.0.1,/2001:db8::1,/10.1.0.1,n2/10.2.0.2");
    SV(w.t, .name = "b", .hostname = "b.example", .ports = "80:80");
    SV(w.t, .name = "c", .hostname = "c.example", .ports = "80:80", .vips = "n2/2001:db8::1,n2/10.2.0.1");
    w.s = kit_snapshot(w.t);
    peering_inbound r = decide(&w, S, "a.example", 80);
    peering_ip want = kit_ip("10.1.0.1");
    CU_ASSERT(r.status == 200 && r.proxy_header && memcmp(r.proxy_ip.bytes, want.bytes, 4) == 0);
    CU_ASSERT_EQUAL(r.port, 80); /* no port of its own: unchanged */
    r = decide(&w, S, "c.example", 80);
    want = kit_ip("10.2.0.1");
    CU_ASSERT(r.status == 200 && memcmp(r.proxy_ip.bytes, want.bytes, 4) == 0);
    r = decide(&w, S, "b.example", 80);
    CU_ASSERT_EQUAL(r.status, 503);
    CU_ASSERT_STRING_EQUAL(r.error, "requested service b.example found, but has no IP addresses");
    close_world(&w);
}

static void test_service(void)
{
    struct world w = {.t = kit_table()};
    WL(w.t, .name = "a", .ips = S,
       .services = "ns1/a.example=80:0,81:9000;ns1/b.example=80:7000;ns1/gone=80:5");
    SV(w.t, .name = "a", .hostname = "a.example", .ports = "80:8080,81:0");
    SV(w.t, .name = "b", .hostname = "b.example", .ports = "80:8080");
    w.s = kit_snapshot(w.t);
    const peering_workload *local = peering_find_workload(w.s, ps("c1//Pod/ns1/a"));
    static const struct {
        const char *host;
        uint16_t port;
        const char *want;
    } rows[] = {{"", 8080, "a.example"},
                {"", 9000, "a.example"},
                {"", 7000, "b.example"},
                {"", 1, NULL},
                {"b.example", 8080, "b.example"},
                {"b.example", 1, "b.example"},
                {"", 0, NULL},
                {"other.example", 7000, "b.example"}};
    for (size_t i = 0; i < PG_ARRAY_LEN(rows); i++) {
        const peering_service *v = peering_inbound_service(w.s, local, ps(rows[i].host), rows[i].port);
        CU_ASSERT_EQUAL(v == NULL, rows[i].want == NULL);
        CU_ASSERT(v == NULL || ps_is(peering_service_hostname(v), rows[i].want));
    }
    close_world(&w);
}

TEST_MAIN("inbound", {"destination table", test_table}, {"weighted waypoints", test_weighted},
          {"hostnames", test_hostnames}, {"address of the PROXY header", test_header_address},
          {"service of a connection", test_service})
