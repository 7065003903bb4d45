/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The outbound decision: every branch of the tree, double HBONE, addresses that must not be dialled, what
 * explain says, and allocation failures.
 */
#include "kit.h"

#include <peering/route.h>

struct world {
    peering_table *t;
    peering_snapshot *s;
    peering_route r;
};

static void open_world(struct world *w)
{
    *w = (struct world){.t = kit_table()};
    WL(w->t, .name = "client", .ips = "10.0.0.1,2001:db8::1", .network = "n1");
}

/* A world of one mesh on networks n1 (ours) and n2. */
static void fill(struct world *w)
{
    peering_table *t = w->t;
    open_world(w);
    t = w->t;
    WL(t, .name = "hbone", .sa = "h", .ips = "10.0.0.2,2001:db8::2", .network = "n1",
       .services = "ns1/s.example=80:8080");
    WL(t, .name = "tcp", .ips = "10.0.0.3", .network = "n1", .plain = true);
    WL(t, .name = "far", .ips = "10.0.0.4", .network = "n2");
    WL(t, .name = "waypoint", .sa = "wp", .ips = "10.0.0.5", .network = "n1",
       .services = "ns1/wp.example=15008:15008");
    WL(t, .name = "behind", .ips = "10.0.0.6", .network = "n1", .waypoint = "n1/10.0.0.5:15008");
    WL(t, .name = "lost", .ips = "10.0.0.7", .network = "n1", .waypoint = "n1/10.9.9.9:15008");
    WL(t, .name = "gw", .ns = "istio-system", .sa = "gw", .ips = "1.2.3.4", .network = "n2",
       .services = "istio-system/gw.example=15008:15008");
    WL(t, .name = "remote", .sa = "r", .network = "n2", .gateway = "n2/1.2.3.4:15008",
       .services = "ns1/far.example=80:8080;ns1/nosan.example=80:8080");
    WL(t, .name = "wpfar", .network = "n2", .gateway = "istio-system/gw.example:15008",
       .services = "ns1/wpfar.example=15008:15008");
    WL(t, .name = "named", .network = "n1", .hostname = "db.example",
       .services = "ns1/named.example=80:8080");
    SV(t, .name = "s", .hostname = "s.example", .vips = "n1/10.1.0.1,n1/2001:db8:1::1",
       .ports = "80:8080,81:0", .sans = "spiffe://x/ns/a/sa/b");
    SV(t, .name = "empty", .hostname = "empty.example", .vips = "n1/10.1.0.2", .ports = "80:80");
    SV(t, .name = "pass", .hostname = "pass.example", .vips = "n1/10.1.0.3", .ports = "80:80",
       .mode = XDS_LB_PASSTHROUGH);
    SV(t, .name = "far", .hostname = "far.example", .vips = "n1/10.1.0.4", .ports = "80:8080",
       .sans = "spiffe://x/ns/far/sa/one,spiffe://x/ns/far/sa/two");
    SV(t, .name = "nosan", .hostname = "nosan.example", .vips = "n1/10.1.0.5", .ports = "80:8080");
    SV(t, .name = "wp", .hostname = "wp.example", .vips = "n1/10.1.0.6", .ports = "15008:15008",
       .sans = "spiffe://x/ns/wp/sa/svc");
    SV(t, .name = "viawp", .hostname = "viawp.example", .vips = "n1/10.1.0.7", .ports = "80:80",
       .waypoint = "ns1/wp.example:15008");
    SV(t, .name = "viavip", .hostname = "viavip.example", .vips = "n1/10.1.0.8", .ports = "80:80",
       .waypoint = "n1/10.1.0.6:15008");
    SV(t, .name = "nowp", .hostname = "nowp.example", .vips = "n1/10.1.0.9", .ports = "80:80",
       .waypoint = "ns1/none.example:15008");
    SV(t, .name = "wpfar", .hostname = "wpfar.example", .vips = "n1/10.1.0.10", .ports = "15008:15008",
       .sans = "spiffe://x/ns/wpfar/sa/w");
    SV(t, .name = "viafar", .hostname = "viafar.example", .vips = "n1/10.1.0.11", .ports = "80:80",
       .waypoint = "ns1/wpfar.example:15008");
    SV(t, .name = "gw", .ns = "istio-system", .hostname = "gw.example", .ports = "15008:15008",
       .sans = "spiffe://x/ns/istio-system/sa/gwsvc");
    SV(t, .name = "named", .hostname = "named.example", .vips = "n1/10.1.0.12", .ports = "80:8080");
    SV(t, .name = "passwp", .hostname = "passwp.example", .vips = "n1/10.1.0.13", .ports = "80:80",
       .mode = XDS_LB_PASSTHROUGH, .waypoint = "ns1/wp.example:15008");
    w->s = kit_snapshot(t);
}

static void close_world(struct world *w)
{
    peering_route_fini(&w->r);
    peering_snapshot_unref(w->s);
    peering_table_free(w->t);
}

static const peering_route *decide_as(struct world *w, const char *source, const char *client_ip,
                                      const char *ip, uint16_t port)
{
    peering_route_query q = {.source = peering_find_workload(w->s, ps(source)),
                             .network = ps("n1"),
                             .client_ip = kit_ip(client_ip),
                             .dst_ip = kit_ip(ip),
                             .dst_port = port};
    peering_route_fini(&w->r);
    CU_ASSERT_EQUAL_FATAL(peering_route_decide(w->s, &q, &w->r), 0);
    return &w->r;
}
static const peering_route *decide(struct world *w, const char *ip, uint16_t port)
{
    return decide_as(w, "c1//Pod/ns1/client", "10.0.0.1", ip, port);
}
static const char *hop(const peering_route *r)
{
    static char out[300];
    struct pg_addr a = {.ip.len = r->hop_ip.len, .port = r->hop_port};
    char text[PG_ADDR_TEXT];
    memcpy(a.ip.b, r->hop_ip.bytes, sizeof(a.ip.b));
    if (r->hop_ip.len != 0) {
        snprintf(out, sizeof(out), "%s", pg_addr_fmt(&a, text));
    } else {
        snprintf(out, sizeof(out), "%.*s:%u", (int)r->hop_host.len,
                 r->hop_host.ptr != NULL ? r->hop_host.ptr : "", r->hop_port);
    }
    return out;
}
static bool has_san(const peering_str *sans, size_t n, const char *want)
{
    for (size_t i = 0; i < n; i++) {
        if (ps_is(sans[i], want)) {
            return true;
        }
    }
    return false;
}

static void test_rows(void)
{
    static const struct {
        const char *ip;
        uint16_t port;
        enum peering_route_kind kind;
        const char *hop, *authority, *error;
        uint16_t target;
    } rows[] = {
        /* unknown, and on a network that is not ours */
        {"192.0.2.1", 80, PEERING_ROUTE_PASSTHROUGH, "192.0.2.1:80", "", NULL, 0},
        {"10.0.0.4", 80, PEERING_ROUTE_PASSTHROUGH, "10.0.0.4:80", "", NULL, 0},
        /* workloads */
        {"10.0.0.3", 80, PEERING_ROUTE_TCP, "10.0.0.3:80", "", NULL, 80},
        {"10.0.0.2", 80, PEERING_ROUTE_HBONE, "10.0.0.2:15008", "10.0.0.2:80", NULL, 80},
        {"2001:db8::2", 80, PEERING_ROUTE_HBONE, "[2001:db8::2]:15008", "[2001:db8::2]:80", NULL, 80},
        {"10.0.0.6", 80, PEERING_ROUTE_HBONE, "10.0.0.5:15008", "10.0.0.6:80", NULL, 15008},
        {"10.0.0.7", 80, PEERING_ROUTE_NONE, NULL, "", "unknown waypoint: waypoint n1/10.9.9.9 not found", 0},
        /* services */
        {"10.1.0.1", 80, PEERING_ROUTE_HBONE, "10.0.0.2:15008", "10.0.0.2:8080", NULL, 8080},
        {"2001:db8:1::1", 80, PEERING_ROUTE_HBONE, "[2001:db8::2]:15008", "[2001:db8::2]:8080", NULL, 8080},
        {"10.1.0.1", 81, PEERING_ROUTE_NONE, NULL, "", "no healthy upstream: 10.1.0.1:81", 0},
        {"10.1.0.1", 82, PEERING_ROUTE_NONE, NULL, "", "no healthy upstream: 10.1.0.1:82", 0},
        {"10.1.0.2", 80, PEERING_ROUTE_NONE, NULL, "", "no healthy upstream: 10.1.0.2:80", 0},
        {"10.1.0.3", 80, PEERING_ROUTE_PASSTHROUGH, "10.1.0.3:80", "", NULL, 0},
        /* another network */
        {"10.1.0.4", 80, PEERING_ROUTE_DOUBLE_HBONE, "1.2.3.4:15008", "far.example:80", NULL, 0},
        {"10.1.0.5", 80, PEERING_ROUTE_NONE, NULL, "",
         "service ns1/nosan.example has no subject alternative names", 0},
        /* service waypoints: by name, by VIP, unknown, remote, of a passthrough service */
        {"10.1.0.7", 80, PEERING_ROUTE_HBONE, "10.0.0.5:15008", "10.1.0.7:80", NULL, 15008},
        {"10.1.0.8", 80, PEERING_ROUTE_HBONE, "10.0.0.5:15008", "10.1.0.8:80", NULL, 15008},
        {"10.1.0.9", 80, PEERING_ROUTE_NONE, NULL, "", "unknown waypoint: waypoint none.example not found",
         0},
        {"10.1.0.11", 80, PEERING_ROUTE_DOUBLE_HBONE, "1.2.3.4:15008", "viafar.example:80", NULL, 0},
        {"10.1.0.13", 80, PEERING_ROUTE_HBONE, "10.0.0.5:15008", "10.1.0.13:80", NULL, 15008},
        /* an endpoint by name */
        {"10.1.0.12", 80, PEERING_ROUTE_HBONE, "db.example:15008", "db.example:8080", NULL, 8080},
    };
    struct world w;
    fill(&w);
    for (size_t i = 0; i < PG_ARRAY_LEN(rows); i++) {
        const peering_route *r = decide(&w, rows[i].ip, rows[i].port);
        CU_ASSERT_EQUAL(r->kind, rows[i].kind);
        CU_ASSERT_STRING_EQUAL(r->error, rows[i].error != NULL ? rows[i].error : "");
        if (rows[i].hop != NULL) {
            CU_ASSERT_STRING_EQUAL(hop(r), rows[i].hop);
        }
        CU_ASSERT_STRING_EQUAL(r->authority, rows[i].authority);
        CU_ASSERT_EQUAL(r->kind == PEERING_ROUTE_NONE ? 0 : r->target_port, rows[i].target);
    }
    close_world(&w);
}

static void test_identities(void)
{
    struct world w;
    fill(&w);
    const peering_route *r = decide(&w, "10.0.0.2", 80);
    CU_ASSERT_EQUAL(r->n_outer_sans, 1);
    CU_ASSERT(has_san(r->outer_sans, r->n_outer_sans, "spiffe://cluster.local/ns/ns1/sa/h"));
    r = decide(&w, "10.1.0.1", 80);
    CU_ASSERT_EQUAL(r->n_outer_sans, 2);
    CU_ASSERT(has_san(r->outer_sans, r->n_outer_sans, "spiffe://cluster.local/ns/ns1/sa/h"));
    CU_ASSERT(has_san(r->outer_sans, r->n_outer_sans, "spiffe://x/ns/a/sa/b"));
    CU_ASSERT_EQUAL(r->n_inner_sans, 0);
    r = decide(&w, "10.1.0.7", 80);
    CU_ASSERT_EQUAL(r->n_outer_sans, 2);
    CU_ASSERT(has_san(r->outer_sans, r->n_outer_sans, "spiffe://cluster.local/ns/ns1/sa/wp"));
    CU_ASSERT(has_san(r->outer_sans, r->n_outer_sans, "spiffe://x/ns/wp/sa/svc"));
    CU_ASSERT(ps_is(peering_workload_name(r->hop_workload), "waypoint"));
    r = decide(&w, "10.1.0.4", 80);
    CU_ASSERT_EQUAL(r->n_outer_sans, 1);
    CU_ASSERT(has_san(r->outer_sans, r->n_outer_sans, "spiffe://cluster.local/ns/istio-system/sa/gw"));
    CU_ASSERT_EQUAL(r->n_inner_sans, 2);
    CU_ASSERT(has_san(r->inner_sans, r->n_inner_sans, "spiffe://x/ns/far/sa/two"));
    CU_ASSERT(ps_is(peering_workload_name(r->hop_workload), "gw"));
    CU_ASSERT(ps_is(peering_workload_name(r->workload), "remote"));
    CU_ASSERT(ps_is(peering_service_hostname(r->service), "far.example"));
    /* a gateway by name: its service's names count too; behind a remote waypoint its service's names */
    r = decide(&w, "10.1.0.11", 80);
    CU_ASSERT_EQUAL(r->n_outer_sans, 2);
    CU_ASSERT(has_san(r->outer_sans, r->n_outer_sans, "spiffe://x/ns/istio-system/sa/gwsvc"));
    CU_ASSERT_EQUAL(r->n_inner_sans, 1);
    CU_ASSERT(has_san(r->inner_sans, r->n_inner_sans, "spiffe://x/ns/wpfar/sa/w"));
    close_world(&w);
}

/* A waypoint talking to what it stands in front of goes straight; anybody else through it. */
static void test_from_waypoint(void)
{
    struct world w;
    fill(&w);
    const peering_route *r = decide_as(&w, "c1//Pod/ns1/waypoint", "10.0.0.5", "10.0.0.6", 80);
    CU_ASSERT_STRING_EQUAL(hop(r), "10.0.0.6:15008");
    r = decide_as(&w, "c1//Pod/ns1/waypoint", "10.0.0.99", "10.0.0.6", 80);
    CU_ASSERT_STRING_EQUAL(hop(r), "10.0.0.5:15008");
    r = decide_as(&w, "c1//Pod/ns1/client", "10.0.0.5", "10.0.0.6", 80);
    CU_ASSERT_STRING_EQUAL(hop(r), "10.0.0.5:15008");
    /* the source's own waypoint does not matter */
    r = decide_as(&w, "c1//Pod/ns1/behind", "10.0.0.6", "10.0.0.2", 80);
    CU_ASSERT_STRING_EQUAL(hop(r), "10.0.0.2:15008");
    close_world(&w);
}

/* Drawn by weight; weight 0 never; nothing to draw from: the single one. */
static void test_weighted_waypoints(void)
{
    static const struct {
        const char *weighted;
        size_t low[3], high[3]; /* of 4000: first, second, the single one */
    } rows[] = {
        {"n1/10.0.0.2:15008=0,n1/10.0.0.3:15008=100", {0, 4000, 0}, {0, 4000, 0}},
        {"n1/10.0.0.2:15008=100,n1/10.0.0.3:15008=0", {4000, 0, 0}, {4000, 0, 0}},
        {"n1/10.0.0.2:15008=0,n1/10.0.0.3:15008=0", {0, 0, 4000}, {0, 0, 4000}},
        {"", {0, 0, 4000}, {0, 0, 4000}},
        {"n1/10.0.0.2:15008=75,n1/10.0.0.3:15008=25", {2880, 880, 0}, {3120, 1120, 0}},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(rows); i++) {
        struct world w;
        size_t count[3] = {0};
        open_world(&w);
        WL(w.t, .name = "a", .ips = "10.0.0.2", .network = "n1");
        WL(w.t, .name = "b", .ips = "10.0.0.3", .network = "n1");
        WL(w.t, .name = "c", .ips = "10.0.0.4", .network = "n1");
        SV(w.t, .name = "s", .hostname = "s.example", .vips = "n1/10.1.0.1", .ports = "80:80",
           .waypoint = "n1/10.0.0.4:15008", .weighted = rows[i].weighted);
        w.s = kit_snapshot(w.t);
        for (uint64_t k = 0; k < 4000; k++) {
            peering_route_query q = {.source = peering_find_workload(w.s, ps("c1//Pod/ns1/client")),
                                     .network = ps("n1"),
                                     .client_ip = kit_ip("10.0.0.1"),
                                     .dst_ip = kit_ip("10.1.0.1"),
                                     .dst_port = 80,
                                     .random = k};
            peering_route_fini(&w.r);
            CU_ASSERT_EQUAL_FATAL(peering_route_decide(w.s, &q, &w.r), 0);
            CU_ASSERT_EQUAL_FATAL(w.r.kind, PEERING_ROUTE_HBONE);
            count[w.r.hop_ip.bytes[3] - 2]++;
        }
        for (size_t k = 0; k < 3; k++) {
            CU_ASSERT(count[k] >= rows[i].low[k] && count[k] <= rows[i].high[k]);
        }
        close_world(&w);
    }
}

static void test_families(void)
{
    static const struct {
        enum xds_ip_families families;
        const char *vip, *hop;
    } rows[] = {
        {XDS_IP_AUTOMATIC, "10.1.0.1", "10.0.0.2:15008"},
        {XDS_IP_AUTOMATIC, "2001:db8:1::1", "[2001:db8::2]:15008"},
        {XDS_IP_DUAL, "10.1.0.1", "10.0.0.2:15008"},
        {XDS_IP_DUAL, "2001:db8:1::1", "[2001:db8::2]:15008"},
        {XDS_IP_V4_ONLY, "10.1.0.1", "10.0.0.2:15008"},
        {XDS_IP_V4_ONLY, "2001:db8:1::1", "10.0.0.2:15008"},
        {XDS_IP_V6_ONLY, "10.1.0.1", "[2001:db8::2]:15008"},
        {XDS_IP_V6_ONLY, "2001:db8:1::1", "[2001:db8::2]:15008"},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(rows); i++) {
        struct world w;
        open_world(&w);
        WL(w.t, .name = "a", .ips = "2001:db8::2,10.0.0.2", .network = "n1",
           .services = "ns1/s.example=80:8080");
        SV(w.t, .name = "s", .hostname = "s.example", .vips = "n1/10.1.0.1,n1/2001:db8:1::1",
           .ports = "80:8080", .families = rows[i].families);
        w.s = kit_snapshot(w.t);
        CU_ASSERT_STRING_EQUAL(hop(decide(&w, rows[i].vip, 80)), rows[i].hop);
        close_world(&w);
    }
}

static void test_cross_network(void)
{
    struct world w;
    open_world(&w);
    WL(w.t, .name = "unknowngw", .network = "n2", .gateway = "n2/9.9.9.9:15008",
       .services = "ns1/a.example=80:80");
    WL(w.t, .name = "nogw", .ips = "10.3.0.1", .network = "n2", .services = "ns1/b.example=80:80");
    WL(w.t, .name = "gwhost", .network = "n2", .gateway = "x/none.example:15008",
       .services = "ns1/c.example=80:80");
    WL(w.t, .name = "gwauto", .ips = "240.240.1.1", .network = "n2");
    WL(w.t, .name = "viaauto", .network = "n2", .gateway = "n2/240.240.1.1:15008",
       .services = "ns1/d.example=80:80");
    SV(w.t, .name = "a", .hostname = "a.example", .vips = "n1/10.1.0.1", .ports = "80:80",
       .sans = "spiffe://x/ns/a/sa/a");
    SV(w.t, .name = "b", .hostname = "b.example", .vips = "n1/10.1.0.2", .ports = "80:80",
       .sans = "spiffe://x/ns/a/sa/a");
    SV(w.t, .name = "c", .hostname = "c.example", .vips = "n1/10.1.0.3", .ports = "80:80",
       .sans = "spiffe://x/ns/a/sa/a");
    SV(w.t, .name = "d", .hostname = "d.example", .vips = "n1/10.1.0.4", .ports = "80:80",
       .sans = "spiffe://x/ns/a/sa/a");
    w.s = kit_snapshot(w.t);
    static const struct {
        const char *ip, *error;
    } rows[] = {
        {"10.1.0.1", "unknown network gateway: n2/9.9.9.9 not found"},
        {"10.1.0.2", "no valid routing destination for workload: nogw"},
        {"10.1.0.3", "unknown network gateway: none.example not found"},
        {"10.1.0.4", "no service for target address: 240.240.1.1:15008 is auto-allocated and never dialled"}};
    for (size_t i = 0; i < PG_ARRAY_LEN(rows); i++) {
        const peering_route *r = decide(&w, rows[i].ip, 80);
        CU_ASSERT_EQUAL(r->kind, PEERING_ROUTE_NONE);
        CU_ASSERT_STRING_EQUAL(r->error, rows[i].error);
    }
    close_world(&w);
}

/* A source in another network than this proxy asks about: without a service there is no way across. */
static void test_no_service(void)
{
    struct world w;
    open_world(&w);
    WL(w.t, .name = "odd", .ips = "10.0.0.8", .network = "n2");
    WL(w.t, .name = "far", .ips = "10.0.0.9", .network = "n3", .services = "ns1/x.example=80:80");
    SV(w.t, .name = "x", .hostname = "x.example", .vips = "n2/10.1.0.1", .ports = "80:80");
    w.s = kit_snapshot(w.t);
    const peering_route *r = decide_as(&w, "c1//Pod/ns1/odd", "10.0.0.8", "10.1.0.1", 80);
    CU_ASSERT_EQUAL(r->kind, PEERING_ROUTE_NONE);
    CU_ASSERT_STRING_EQUAL(r->error, "no service for target address: 10.1.0.1:80");
    close_world(&w);
}

static void test_auto_allocated(void)
{
    static const char *const ips[] = {"240.240.0.1", "240.240.255.255", "2001:2::5", "2001:2:0:ffff::1"};
    static const char *const others[] = {"240.241.0.1", "240.239.255.255", "2001:2:1::5"};
    struct world w;
    open_world(&w);
    SV(w.t, .name = "p", .hostname = "p.example", .vips = "n1/240.240.0.7", .ports = "80:80",
       .mode = XDS_LB_PASSTHROUGH);
    WL(w.t, .name = "auto", .ips = "240.240.0.8", .network = "n1");
    w.s = kit_snapshot(w.t);
    for (size_t i = 0; i < PG_ARRAY_LEN(ips); i++) {
        const peering_route *r = decide(&w, ips[i], 80);
        CU_ASSERT_EQUAL(r->kind, PEERING_ROUTE_NONE);
        CU_ASSERT_PTR_NOT_NULL(strstr(r->error, "is auto-allocated and never dialled"));
    }
    CU_ASSERT_EQUAL(decide(&w, "240.240.0.7", 80)->kind, PEERING_ROUTE_NONE);
    CU_ASSERT_EQUAL(decide(&w, "240.240.0.8", 80)->kind, PEERING_ROUTE_NONE);
    for (size_t i = 0; i < PG_ARRAY_LEN(others); i++) {
        CU_ASSERT_EQUAL(decide(&w, others[i], 80)->kind, PEERING_ROUTE_PASSTHROUGH);
    }
    close_world(&w);
}

static void test_host_network(void)
{
    struct world w;
    open_world(&w);
    WL(w.t, .name = "node", .ips = "10.0.0.2", .network = "n1", .plain = true, .host_network = true,
       .services = "ns1/s.example=80:8080");
    SV(w.t, .name = "s", .hostname = "s.example", .vips = "n1/10.1.0.1", .ports = "80:8080");
    w.s = kit_snapshot(w.t);
    /* not found by address, but an endpoint all the same */
    CU_ASSERT_EQUAL(decide(&w, "10.0.0.2", 80)->kind, PEERING_ROUTE_PASSTHROUGH);
    const peering_route *r = decide(&w, "10.1.0.1", 80);
    CU_ASSERT_EQUAL(r->kind, PEERING_ROUTE_TCP);
    CU_ASSERT_STRING_EQUAL(hop(r), "10.0.0.2:8080");
    close_world(&w);
}

static bool avoid_by_name(void *arg, const peering_workload *w)
{
    return strchr(arg, peering_workload_name(w).ptr[0]) != NULL;
}

/* Local endpoints first; when these failed, through the gateway; when all did, one of all. */
static void test_failover(void)
{
    static const struct {
        const char *avoid;
        const char *workload;
        enum peering_route_kind kind;
        size_t remaining;
    } rows[] = {{"", "a", PEERING_ROUTE_HBONE, 1},
                {"a", "r", PEERING_ROUTE_DOUBLE_HBONE, 0},
                {"r", "a", PEERING_ROUTE_HBONE, 0},
                {"ar", "a", PEERING_ROUTE_HBONE, 0}};
    struct world w;
    open_world(&w);
    WL(w.t, .name = "a", .ips = "10.0.0.2", .network = "n1", .services = "ns1/s.example=80:8080");
    WL(w.t, .name = "r", .network = "n2", .gateway = "n2/1.2.3.4:15008", .services = "ns1/s.example=80:8080");
    WL(w.t, .name = "gw", .ips = "1.2.3.4", .network = "n2");
    SV(w.t, .name = "s", .hostname = "s.example", .vips = "n1/10.1.0.1", .ports = "80:8080",
       .sans = "spiffe://x/ns/a/sa/a", .scopes = "NETWORK", .mode = XDS_LB_FAILOVER);
    w.s = kit_snapshot(w.t);
    for (size_t i = 0; i < PG_ARRAY_LEN(rows); i++) {
        char avoid[8];
        snprintf(avoid, sizeof(avoid), "%s", rows[i].avoid);
        peering_route_query q = {.source = peering_find_workload(w.s, ps("c1//Pod/ns1/client")),
                                 .network = ps("n1"),
                                 .client_ip = kit_ip("10.0.0.1"),
                                 .dst_ip = kit_ip("10.1.0.1"),
                                 .dst_port = 80,
                                 .avoid = avoid_by_name,
                                 .avoid_arg = avoid};
        peering_route_fini(&w.r);
        CU_ASSERT_EQUAL_FATAL(peering_route_decide(w.s, &q, &w.r), 0);
        CU_ASSERT_EQUAL(w.r.kind, rows[i].kind);
        CU_ASSERT(ps_is(peering_workload_name(w.r.workload), rows[i].workload));
        CU_ASSERT_EQUAL(w.r.candidates, 2);
        CU_ASSERT_EQUAL(w.r.remaining, rows[i].remaining);
    }
    close_world(&w);
}

static void collect(void *arg, const char *line)
{
    struct pg_sb *sb = arg;
    pg_sb_c(sb, line);
    pg_sb_ch(sb, '\n');
}

static void test_explain(void)
{
    struct world w;
    struct pg_sb sb;
    fill(&w);
    pg_sb_init(&sb, 65536);
    peering_route_query q = {.source = peering_find_workload(w.s, ps("c1//Pod/ns1/client")),
                             .network = ps("n1"),
                             .client_ip = kit_ip("10.0.0.1"),
                             .dst_ip = kit_ip("10.1.0.4"),
                             .dst_port = 80,
                             .trace = collect,
                             .trace_arg = &sb};
    CU_ASSERT_EQUAL_FATAL(peering_route_decide(w.s, &q, &w.r), 0);
    CU_ASSERT_STRING_EQUAL(
        pg_sb_view(&sb).p,
        "10.1.0.4:80 is service ns1/far.example (own namespace)\n"
        "service ns1/far.example port 80: 1 endpoints, load balancing none\n"
        "endpoint c1//Pod/ns1/remote: rank 0, port 8080, weight 1\n"
        "chosen: c1//Pod/ns1/remote\n"
        "network n2 is not ours: through its gateway n2/1.2.3.4:15008\n"
        "double HBONE to 1.2.3.4:15008, authority far.example:80\n"
        "identity accepted at the gateway: spiffe://cluster.local/ns/istio-system/sa/gw\n"
        "identity accepted at the destination through the gateway: spiffe://x/ns/far/sa/one\n"
        "identity accepted at the destination through the gateway: spiffe://x/ns/far/sa/two\n");
    pg_sb_reset(&sb);
    peering_route_fini(&w.r);
    q.dst_ip = kit_ip("10.1.0.2");
    CU_ASSERT_EQUAL_FATAL(peering_route_decide(w.s, &q, &w.r), 0);
    CU_ASSERT_STRING_EQUAL(pg_sb_view(&sb).p,
                           "10.1.0.2:80 is service ns1/empty.example (own namespace)\n"
                           "service ns1/empty.example port 80: 0 endpoints, load balancing none\n"
                           "refused: no healthy upstream: 10.1.0.2:80\n");
    pg_sb_fini(&sb);
    close_world(&w);
}

static void test_odd_queries(void)
{
    struct world w;
    fill(&w);
    peering_route_query q = {.network = ps("n1"), .dst_ip = kit_ip("10.0.0.2"), .dst_port = 80};
    CU_ASSERT_EQUAL(peering_route_decide(w.s, &q, &w.r), 0);
    CU_ASSERT_EQUAL(w.r.kind, PEERING_ROUTE_NONE);
    q.source = peering_find_workload(w.s, ps("c1//Pod/ns1/client"));
    q.dst_ip.len = 0;
    CU_ASSERT_EQUAL(peering_route_decide(w.s, &q, &w.r), 0);
    CU_ASSERT_EQUAL(w.r.kind, PEERING_ROUTE_NONE);
    close_world(&w);
}

struct sweep {
    struct world w;
    peering_route_query q;
};

static int decide_once(void *arg)
{
    struct sweep *x = arg;
    peering_route r;
    int err = peering_route_decide(x->w.s, &x->q, &r);
    CU_ASSERT(err == 0 || r.kind == PEERING_ROUTE_NONE);
    peering_route_fini(&r);
    return err;
}

static void test_alloc(void)
{
    struct sweep x;
    open_world(&x.w);
    WL(x.w.t, .name = "a", .ips = "10.0.0.2", .network = "n1", .services = "ns1/s.example=80:8080");
    SV(x.w.t, .name = "s", .hostname = "s.example", .vips = "n1/10.1.0.1", .ports = "80:8080",
       .sans = "spiffe://x/ns/a/sa/1,spiffe://x/ns/a/sa/2,spiffe://x/ns/a/sa/3");
    x.w.s = kit_snapshot(x.w.t);
    x.q = (peering_route_query){.source = peering_find_workload(x.w.s, ps("c1//Pod/ns1/client")),
                                .network = ps("n1"),
                                .client_ip = kit_ip("10.0.0.1"),
                                .dst_ip = kit_ip("10.1.0.1"),
                                .dst_port = 80};
    CU_ASSERT_EQUAL(test_alloc_sweep(decide_once, &x), 1);
    close_world(&x.w);
}

static void test_baggage(void)
{
    peering_table *t = kit_table();
    char out[256];
    WL(t, .name = "a", .ns = "shop", .cluster = "Kubernetes", .workload_name = "cart",
       .canonical_name = "cart", .revision = "v2");
    WL(t, .name = "b", .ns = "shop", .cluster = "k", .workload_name = "x,y=z", .region = "r", .zone = "z 1",
       .type = XDS_CRONJOB);
    peering_snapshot *s = kit_snapshot(t);
    const peering_workload *a = peering_find_workload(s, ps("Kubernetes//Pod/shop/a"));
    const peering_workload *b = peering_find_workload(s, ps("k//Pod/shop/b"));
    static const char want[] = "k8s.cluster.name=Kubernetes,k8s.namespace.name=shop,k8s.deployment.name=cart,"
                               "service.name=cart,service.version=v2";
    size_t n = peering_baggage(a, out, sizeof(out));
    CU_ASSERT(n == sizeof(want) - 1 && memcmp(out, want, n) == 0);
    CU_ASSERT_EQUAL(peering_baggage(a, out, sizeof(want) - 1), sizeof(want) - 1);
    for (size_t cap = 0; cap < sizeof(want) - 1; cap++) {
        CU_ASSERT_EQUAL(peering_baggage(a, out, cap), 0);
    }
    static const char coded[] = "k8s.cluster.name=k,k8s.namespace.name=shop,k8s.cronjob.name=x%2Cy%3Dz,"
                                "cloud.region=r,cloud.availability_zone=z%201";
    n = peering_baggage(b, out, sizeof(out));
    CU_ASSERT(n == sizeof(coded) - 1 && memcmp(out, coded, n) == 0);
    peering_snapshot_unref(s);
    peering_table_free(t);
}

TEST_MAIN("route", {"decision table", test_rows}, {"identities", test_identities},
          {"from a waypoint", test_from_waypoint}, {"weighted waypoints", test_weighted_waypoints},
          {"address families", test_families}, {"across networks", test_cross_network},
          {"no service", test_no_service}, {"auto-allocated addresses", test_auto_allocated},
          {"host network", test_host_network}, {"failover", test_failover}, {"explain", test_explain},
          {"odd queries", test_odd_queries}, {"allocation failures", test_alloc}, {"baggage", test_baggage})
