/* SPDX-License-Identifier: Apache-2.0 */
/* WDS codec: every field by its published number, what must be refused, round trips, malformed bytes, failing
 * memory. */
#include "xds/codec.h"

#include "wirebytes.h"

static struct pg_arena arena;
static struct pg_errtext err;

static int decode_workload(const struct wb *w, struct xds_workload *out)
{
    err.text[0] = '\0';
    return xds_workload_decode(wb_view(w), &arena, out, &err);
}

/* The Address wrapped around a message built as workload (1) or service (2). */
static int decode_address(struct wb *inner, uint32_t arm, struct xds_address *out)
{
    struct wb w;
    wb_init(&w);
    wb_msg(&w, arm, inner);
    err.text[0] = '\0';
    int r = xds_address_decode(wb_view(&w), &arena, out, &err);
    wb_fini(&w);
    return r;
}

static void setup(struct wb *w, struct wb *m)
{
    pg_arena_init(&arena, 64u << 20);
    wb_init(w);
    wb_init(m);
}

static void teardown(struct wb *w, struct wb *m)
{
    wb_fini(w);
    wb_fini(m);
    pg_arena_fini(&arena);
}

static void workload_strings(void)
{
    static const struct {
        uint32_t number;
        size_t offset;
    } fields[] = {
        {1, offsetof(struct xds_workload, name)},
        {2, offsetof(struct xds_workload, ns)},
        {4, offsetof(struct xds_workload, network)},
        {6, offsetof(struct xds_workload, trust_domain)},
        {7, offsetof(struct xds_workload, service_account)},
        {9, offsetof(struct xds_workload, node)},
        {10, offsetof(struct xds_workload, canonical_name)},
        {11, offsetof(struct xds_workload, canonical_revision)},
        {13, offsetof(struct xds_workload, workload_name)},
        {18, offsetof(struct xds_workload, cluster_id)},
        {20, offsetof(struct xds_workload, uid)},
        {21, offsetof(struct xds_workload, hostname)},
    };
    struct wb w, m;
    setup(&w, &m);
    for (size_t i = 0; i < PG_ARRAY_LEN(fields); i++) {
        struct xds_workload out;
        pg_sb_reset(&w.sb);
        wb_c(&w, fields[i].number, "value\xc3\xa9");
        CU_ASSERT_EQUAL(decode_workload(&w, &out), 0);
        const struct pg_str *s = (const void *)((const char *)&out + fields[i].offset);
        CU_ASSERT(pg_str_eq_c(*s, "value\xc3\xa9"));

        /* NUL and bad UTF-8 are refused everywhere, never cut. */
        pg_sb_reset(&w.sb);
        wb_bytes(&w, fields[i].number, PG_STR("a\0b"));
        CU_ASSERT_EQUAL(decode_workload(&w, &out), PG_E_PARSE);
        pg_sb_reset(&w.sb);
        wb_bytes(&w, fields[i].number, PG_STR("a\xff"));
        CU_ASSERT_EQUAL(decode_workload(&w, &out), PG_E_PARSE);
        CU_ASSERT(strstr(err.text, "UTF-8") != NULL);
    }
    teardown(&w, &m);
}

static void workload_defaults(void)
{
    struct wb w, m;
    struct xds_workload out;
    setup(&w, &m);
    CU_ASSERT_EQUAL(decode_workload(&w, &out), 0);
    CU_ASSERT(pg_str_eq_c(out.trust_domain, "cluster.local"));
    CU_ASSERT(pg_str_eq_c(out.service_account, "default"));
    CU_ASSERT(pg_str_eq_c(out.cluster_id, "Kubernetes"));
    CU_ASSERT_EQUAL(out.capacity, 1);
    CU_ASSERT_FALSE(out.has_capacity);
    CU_ASSERT_EQUAL(out.waypoint.kind, XDS_GATEWAY_NONE);
    CU_ASSERT_EQUAL(out.tunnel, XDS_TUNNEL_NONE);
    teardown(&w, &m);
}

static void workload_scalars(void)
{
    struct wb w, m;
    struct xds_workload out;
    setup(&w, &m);
    wb_bytes(&w, 3, PG_STR("\x0a\x00\x00\x01"));
    wb_bytes(&w, 3, PG_STR("\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"));
    wb_uint(&w, 5, 1);
    wb_uint(&w, 12, 3);
    wb_uint(&w, 14, 1);
    wb_c(&w, 16, "ns/p1");
    wb_c(&w, 16, "ns/p2");
    wb_uint(&w, 17, 1);
    wb_uint(&m, 1, 1);
    wb_uint(&m, 2, 8080);
    wb_msg(&w, 23, &m);
    wb_c(&m, 1, "r");
    wb_c(&m, 2, "z");
    wb_c(&m, 3, "s");
    wb_msg(&w, 24, &m);
    wb_uint(&w, 25, 1);
    wb_uint(&m, 1, 0); /* present and zero: never chosen */
    wb_msg(&w, 27, &m);
    CU_ASSERT_EQUAL_FATAL(decode_workload(&w, &out), 0);
    CU_ASSERT_EQUAL_FATAL(out.n_ips, 2);
    CU_ASSERT_EQUAL(out.ips[0].len, 4);
    CU_ASSERT_EQUAL(out.ips[1].len, 16);
    CU_ASSERT_EQUAL(out.ips[1].b[15], 1);
    CU_ASSERT_EQUAL(out.tunnel, XDS_TUNNEL_HBONE);
    CU_ASSERT_EQUAL(out.type, XDS_JOB);
    CU_ASSERT(out.native_tunnel);
    CU_ASSERT_EQUAL_FATAL(out.n_policies, 2);
    CU_ASSERT(pg_str_eq_c(out.policies[1], "ns/p2"));
    CU_ASSERT_EQUAL(out.health, XDS_UNHEALTHY);
    CU_ASSERT_EQUAL(out.app_tunnel_protocol, 1);
    CU_ASSERT_EQUAL(out.app_tunnel_port, 8080);
    CU_ASSERT(pg_str_eq_c(out.locality.region, "r") && pg_str_eq_c(out.locality.zone, "z"));
    CU_ASSERT(pg_str_eq_c(out.locality.subzone, "s"));
    CU_ASSERT_EQUAL(out.network_mode, XDS_NETWORK_HOST);
    CU_ASSERT(out.has_capacity);
    CU_ASSERT_EQUAL(out.capacity, 0);
    teardown(&w, &m);
}

static void put_hostname_gateway(struct wb *w, uint32_t number, struct wb *m, uint64_t port)
{
    struct wb g;
    wb_init(&g);
    wb_c(m, 1, "gw-ns");
    wb_c(m, 2, "gw.host");
    wb_msg(&g, 1, m);
    wb_uint(&g, 3, port);
    wb_msg(w, number, &g);
    wb_fini(&g);
}

static void put_address_gateway(struct wb *w, uint32_t number, struct wb *m)
{
    struct wb g;
    wb_init(&g);
    wb_c(m, 1, "net2");
    wb_bytes(m, 2, PG_STR("\x0a\x01\x02\x03"));
    wb_msg(&g, 2, m);
    wb_uint(&g, 3, 15008);
    wb_msg(w, number, &g);
    wb_fini(&g);
}

static void gateways(void)
{
    struct wb w, m;
    struct xds_workload out;
    setup(&w, &m);
    put_hostname_gateway(&w, 8, &m, 15008);
    put_address_gateway(&w, 19, &m);
    CU_ASSERT_EQUAL_FATAL(decode_workload(&w, &out), 0);
    CU_ASSERT_EQUAL(out.waypoint.kind, XDS_GATEWAY_HOSTNAME);
    CU_ASSERT(pg_str_eq_c(out.waypoint.ns, "gw-ns") && pg_str_eq_c(out.waypoint.hostname, "gw.host"));
    CU_ASSERT_EQUAL(out.waypoint.hbone_port, 15008);
    CU_ASSERT_EQUAL(out.network_gateway.kind, XDS_GATEWAY_ADDRESS);
    CU_ASSERT(pg_str_eq_c(out.network_gateway.address.network, "net2"));
    CU_ASSERT_EQUAL(out.network_gateway.address.ip.b[3], 3);
    CU_ASSERT_EQUAL(out.network_gateway.address.bits, 32);

    pg_sb_reset(&w.sb);
    wb_uint(&m, 3, 15008);
    wb_msg(&w, 8, &m);
    CU_ASSERT_EQUAL(decode_workload(&w, &out), PG_E_PARSE);
    CU_ASSERT(strstr(err.text, "waypoint without destination") != NULL);
    pg_sb_reset(&w.sb);
    put_hostname_gateway(&w, 19, &m, 65544);
    CU_ASSERT_EQUAL(decode_workload(&w, &out), PG_E_PARSE);
    teardown(&w, &m);
}

static void put_service_entry(struct wb *w, const char *key, uint64_t port, uint64_t target)
{
    struct wb e, l, p;
    wb_init(&e);
    wb_init(&l);
    wb_init(&p);
    wb_c(&e, 1, key);
    wb_uint(&p, 1, port);
    wb_uint(&p, 2, target);
    wb_uint(&p, 3, 2);
    wb_msg(&l, 1, &p);
    wb_msg(&e, 2, &l);
    wb_msg(w, 22, &e);
    wb_fini(&e);
    wb_fini(&l);
    wb_fini(&p);
}

static void services_map(void)
{
    struct wb w, m;
    struct xds_workload out;
    setup(&w, &m);
    put_service_entry(&w, "b/two", 80, 8080);
    put_service_entry(&w, "a/one", 81, 8081);
    put_service_entry(&w, "b/two", 82, 8082); /* the last entry of a key counts */
    CU_ASSERT_EQUAL_FATAL(decode_workload(&w, &out), 0);
    CU_ASSERT_EQUAL_FATAL(out.n_services, 2);
    CU_ASSERT(pg_str_eq_c(out.services[0].key, "a/one"));
    CU_ASSERT(pg_str_eq_c(out.services[1].key, "b/two"));
    CU_ASSERT_EQUAL_FATAL(out.services[1].n_ports, 1);
    CU_ASSERT_EQUAL(out.services[1].ports[0].service_port, 82);
    CU_ASSERT_EQUAL(out.services[1].ports[0].target_port, 8082);
    CU_ASSERT_EQUAL(out.services[1].ports[0].app_protocol, XDS_APP_HTTP2);

    pg_sb_reset(&w.sb);
    put_service_entry(&w, "noslash", 1, 1);
    CU_ASSERT_EQUAL(decode_workload(&w, &out), PG_E_PARSE);
    pg_sb_reset(&w.sb);
    put_service_entry(&w, "a/b", 65616, 1);
    CU_ASSERT_EQUAL(decode_workload(&w, &out), PG_E_PARSE);
    pg_sb_reset(&w.sb);
    put_service_entry(&w, "a/b", 1, 65616);
    CU_ASSERT_EQUAL(decode_workload(&w, &out), PG_E_PARSE);
    teardown(&w, &m);
}

static void enums(void)
{
    static const struct {
        uint32_t number;
        uint64_t value;
        int want;
    } cases[] = {
        {5, 2, PG_E_PARSE},
        {5, 3, PG_E_PARSE},
        {12, 99, 0},
        {12, 0xffffffffffffffffu, 0},
        {17, 2, PG_E_PARSE},
        {25, 2, PG_E_PARSE},
        {25, 0xffffffffffffffffu, PG_E_PARSE},
        {3000, 1, 0},
    };
    struct wb w, m;
    setup(&w, &m);
    for (size_t i = 0; i < PG_ARRAY_LEN(cases); i++) {
        struct xds_workload out = {.capacity = 77};
        pg_sb_reset(&w.sb);
        wb_uint(&w, cases[i].number, cases[i].value);
        CU_ASSERT_EQUAL(decode_workload(&w, &out), cases[i].want);
        if (cases[i].want == 0) {
            CU_ASSERT_EQUAL(out.type, XDS_DEPLOYMENT);
        } else {
            CU_ASSERT_EQUAL(out.capacity, 77); /* untouched on failure */
        }
    }
    pg_sb_reset(&w.sb);
    wb_uint(&m, 1, 2);
    wb_msg(&w, 23, &m);
    struct xds_workload out;
    CU_ASSERT_EQUAL(decode_workload(&w, &out), PG_E_PARSE);
    teardown(&w, &m);
}

static void put_weighted_waypoint(struct wb *w, struct wb *m, uint64_t weight)
{
    struct wb entry;
    wb_init(&entry);
    put_hostname_gateway(&entry, 1, m, 15008);
    wb_uint(&entry, 2, weight);
    wb_msg(w, 13, &entry);
    wb_fini(&entry);
}

static void service_fields(void)
{
    struct wb w, m;
    struct xds_address out;
    setup(&w, &m);
    wb_c(&w, 1, "web");
    wb_c(&w, 2, "shop");
    wb_c(&w, 3, "web.shop.svc.cluster.local");
    wb_c(&m, 1, "net1");
    wb_bytes(&m, 2, PG_STR("\x0a\x00\x00\x00"));
    wb_uint(&m, 3, 8);
    wb_msg(&w, 4, &m);
    wb_bytes(&m, 2, PG_STR("\0\0\0\0\0\0\0\0\0\0\xff\xff\x01\x02\x03\x04"));
    wb_uint(&m, 3, 120);
    wb_msg(&w, 4, &m);
    wb_uint(&m, 1, 80);
    wb_msg(&w, 5, &m);
    wb_c(&w, 6, "spiffe://td/ns/shop/sa/web");
    put_hostname_gateway(&w, 7, &m, 1);
    wb_bytes(&m, 1, PG_STR("\x06\x01")); /* packed */
    wb_uint(&m, 1, 2);                   /* and not packed */
    wb_uint(&m, 2, 2);
    wb_uint(&m, 3, 1);
    wb_msg(&w, 8, &m);
    wb_uint(&w, 9, 3);
    wb_c(&w, 10, "");
    wb_uint(&w, 11, 1);
    wb_uint(&w, 12, 1);
    put_weighted_waypoint(&w, &m, 7);
    put_weighted_waypoint(&w, &m, 0);
    wb_uint(&w, 14, 1);
    CU_ASSERT_EQUAL_FATAL(decode_address(&w, 2, &out), 0);
    const struct xds_service *s = &out.u.service;
    CU_ASSERT_EQUAL(out.kind, XDS_ADDRESS_SERVICE);
    CU_ASSERT(pg_str_eq_c(s->name, "web") && pg_str_eq_c(s->ns, "shop"));
    CU_ASSERT(pg_str_eq_c(s->hostname, "web.shop.svc.cluster.local"));
    CU_ASSERT_EQUAL_FATAL(s->n_addresses, 2);
    CU_ASSERT_EQUAL(s->addresses[0].bits, 8);
    CU_ASSERT_EQUAL(s->addresses[1].ip.len, 4); /* IPv4-mapped is IPv4, its prefix too */
    CU_ASSERT_EQUAL(s->addresses[1].bits, 24);
    CU_ASSERT_EQUAL(s->n_ports, 1);
    CU_ASSERT_EQUAL(s->n_sans, 1);
    CU_ASSERT_EQUAL(s->waypoint.kind, XDS_GATEWAY_HOSTNAME);
    CU_ASSERT_EQUAL_FATAL(s->n_weighted_waypoints, 2);
    CU_ASSERT_EQUAL(s->weighted_waypoints[0].weight, 7);
    CU_ASSERT_EQUAL(s->weighted_waypoints[0].destination.hbone_port, 15008);
    CU_ASSERT_EQUAL(s->weighted_waypoints[1].weight, 0);
    CU_ASSERT(pg_str_eq_c(s->weighted_waypoints[1].destination.hostname, "gw.host"));
    CU_ASSERT(s->has_lb);
    CU_ASSERT_EQUAL_FATAL(s->n_lb_scopes, 3);
    CU_ASSERT_EQUAL(s->lb_scopes[0], XDS_SCOPE_NETWORK);
    CU_ASSERT_EQUAL(s->lb_scopes[2], XDS_SCOPE_ZONE);
    CU_ASSERT_EQUAL(s->lb_mode, XDS_LB_FAILOVER);
    CU_ASSERT_EQUAL(s->health_policy, XDS_ALLOW_ALL);
    CU_ASSERT_EQUAL(s->ip_families, XDS_IP_DUAL);
    CU_ASSERT(s->canonical);
    CU_ASSERT_EQUAL(s->visibility, XDS_VISIBILITY_NAMESPACE);
    teardown(&w, &m);
}

static void service_refusals(void)
{
    static const struct {
        uint32_t number; /* in LoadBalancing (8), or the service itself when lb is false */
        uint64_t value;
        bool lb;
        int want;
    } cases[] = {
        {1, 0, true, PG_E_PARSE}, {1, 7, true, PG_E_PARSE},  {2, 4, true, PG_E_PARSE},
        {3, 2, true, PG_E_PARSE}, {9, 4, false, PG_E_PARSE}, {14, 9, false, 0},
    };
    struct wb w, m;
    struct xds_address out;
    setup(&w, &m);
    for (size_t i = 0; i < PG_ARRAY_LEN(cases); i++) {
        pg_sb_reset(&w.sb);
        wb_uint(cases[i].lb ? &m : &w, cases[i].number, cases[i].value);
        if (cases[i].lb) {
            wb_msg(&w, 8, &m);
        }
        CU_ASSERT_EQUAL(decode_address(&w, 2, &out), cases[i].want);
    }
    static const struct {
        struct pg_str ip;
        int bits;
    } bad[] = {{{"abc", 3}, -1},
               {{"", 0}, -1},
               {{"abcde", 5}, -1},
               {{"\x0a\0\0\1", 4}, 33},
               {{"\0\0\0\0\0\0\0\0\0\0\xff\xff\x01\x02\x03\x04", 16}, 95},
               {{"1234567890123456", 16}, 129}};
    for (size_t i = 0; i < PG_ARRAY_LEN(bad); i++) {
        pg_sb_reset(&w.sb);
        wb_bytes(&m, 2, bad[i].ip);
        if (bad[i].bits >= 0) {
            wb_uint(&m, 3, (uint64_t)bad[i].bits);
        }
        wb_msg(&w, 4, &m);
        CU_ASSERT_EQUAL(decode_address(&w, 2, &out), PG_E_PARSE);
    }
    for (int i = 0; i < 9; i++) {
        wb_uint(&m, 1, 1);
    }
    pg_sb_reset(&w.sb);
    wb_msg(&w, 8, &m);
    CU_ASSERT_EQUAL(decode_address(&w, 2, &out), PG_E_LIMIT);
    wb_uint(&m, 2, 7);
    wb_msg(&w, 13, &m);
    CU_ASSERT_EQUAL(decode_address(&w, 2, &out), PG_E_PARSE); /* weight without destination */
    CU_ASSERT_EQUAL(xds_address_decode(PG_STR(""), &arena, &out, &err), PG_E_PARSE);
    pg_sb_reset(&w.sb);
    wb_uint(&m, 2, 7);
    wb_msg(&w, 13, &m); /* no destination */
    CU_ASSERT_EQUAL(decode_address(&w, 2, &out), PG_E_PARSE);
    teardown(&w, &m);
}

/* A struct with everything set, for the sweeps. */
static struct xds_address full_workload(void)
{
    static struct pg_ip ips[] = {{4, {10, 1, 2, 3}}, {16, {0x20, 1, 13, 0xb8, [15] = 9}}};
    static struct pg_str policies[] = {{"ns/a", 4}, {"ns/b", 4}};
    static struct xds_port ports[] = {{80, 8080, XDS_APP_HTTP11}, {443, 0, XDS_APP_TLS}};
    static struct xds_workload_service services[] = {{{"ns/h2", 5}, ports, 2}, {{"ns/h1", 5}, ports, 1}};
    return (struct xds_address){
        .kind = XDS_ADDRESS_WORKLOAD,
        .u.workload =
            {
                .uid = PG_STR("c1//Pod/ns/p"),
                .name = PG_STR("p"),
                .ns = PG_STR("ns"),
                .ips = ips,
                .n_ips = 2,
                .network = PG_STR("net1"),
                .trust_domain = PG_STR("td"),
                .service_account = PG_STR("sa"),
                .node = PG_STR("n1"),
                .hostname = PG_STR("h"),
                .canonical_name = PG_STR("cn"),
                .canonical_revision = PG_STR("cr"),
                .workload_name = PG_STR("wn"),
                .cluster_id = PG_STR("c1"),
                .tunnel = XDS_TUNNEL_HBONE,
                .type = XDS_POD,
                .health = XDS_UNHEALTHY,
                .network_mode = XDS_NETWORK_HOST,
                .native_tunnel = true,
                .waypoint = {.kind = XDS_GATEWAY_HOSTNAME,
                             .ns = PG_STR("wns"),
                             .hostname = PG_STR("wh"),
                             .hbone_port = 15008},
                .network_gateway = {.kind = XDS_GATEWAY_ADDRESS,
                                    .address = {PG_STR("net2"), {4, {1, 2, 3, 4}}, 32},
                                    .hbone_port = 15009},
                .policies = policies,
                .n_policies = 2,
                .services = services,
                .n_services = 2,
                .app_tunnel_protocol = 1,
                .app_tunnel_port = 99,
                .locality = {PG_STR("r"), PG_STR("z"), PG_STR("s")},
                .has_capacity = true,
                .capacity = 7,
            },
    };
}

static struct xds_address full_service(void)
{
    static struct xds_weighted_waypoint weighted[] = {
        {{.kind = XDS_GATEWAY_HOSTNAME, .ns = {"n", 1}, .hostname = {"h", 1}, .hbone_port = 15008}, 30},
        {{.kind = XDS_GATEWAY_ADDRESS, .address = {{"n", 1}, {4, {1, 2, 3, 4}}, 32}, .hbone_port = 1}, 0}};
    static struct xds_net_addr addresses[] = {
        {{"net1", 4}, {4, {240, 240, 0, 1}}, 32}, {{"", 0}, {4, {0}}, 0}, {{"n", 1}, {16, {0x20, 1}}, 64}};
    static struct xds_port ports[] = {{80, 8080, XDS_APP_HTTP11}};
    static struct pg_str sans[] = {{"spiffe://a/ns/b/sa/c", 20}};
    return (struct xds_address){
        .kind = XDS_ADDRESS_SERVICE,
        .u.service =
            {
                .name = PG_STR("s"),
                .ns = PG_STR("ns"),
                .hostname = PG_STR("s.ns.svc"),
                .addresses = addresses,
                .n_addresses = 3,
                .ports = ports,
                .n_ports = 1,
                .sans = sans,
                .n_sans = 1,
                .waypoint = {.kind = XDS_GATEWAY_ADDRESS,
                             .address = {PG_STR(""), {4, {9, 9, 9, 9}}, 32},
                             .hbone_port = 1},
                .has_lb = true,
                .lb_scopes = {6, 1},
                .n_lb_scopes = 2,
                .lb_mode = XDS_LB_STRICT,
                .health_policy = XDS_ALLOW_ALL,
                .ip_families = XDS_IP_V6_ONLY,
                .canonical = true,
                .visibility = XDS_VISIBILITY_NAMESPACE,
                .weighted_waypoints = weighted,
                .n_weighted_waypoints = 2,
            },
    };
}

static void encode(const struct xds_address *a, struct pg_sb *out)
{
    pg_sb_init(out, 1u << 20);
    CU_ASSERT_EQUAL_FATAL(xds_address_encode(a, out), 0);
}

static void round_trips(void)
{
    struct xds_address in[] = {full_workload(), full_service()};
    struct wb w, m;
    setup(&w, &m);
    for (size_t i = 0; i < 2; i++) {
        struct pg_sb a, b;
        struct xds_address out;
        encode(&in[i], &a);
        CU_ASSERT_EQUAL_FATAL(xds_address_decode(pg_sb_view(&a), &arena, &out, &err), 0);
        encode(&out, &b);
        CU_ASSERT(pg_str_eq(pg_sb_view(&a), pg_sb_view(&b)));
        pg_sb_fini(&a);
        pg_sb_fini(&b);
    }
    /* The order of the services in memory does not show. */
    struct xds_address swapped = in[0];
    struct xds_workload_service other[] = {in[0].u.workload.services[1], in[0].u.workload.services[0]};
    swapped.u.workload.services = other;
    struct pg_sb a, b;
    encode(&in[0], &a);
    encode(&swapped, &b);
    CU_ASSERT(pg_str_eq(pg_sb_view(&a), pg_sb_view(&b)));
    pg_sb_fini(&a);
    pg_sb_fini(&b);
    struct xds_service *s = &in[1].u.service;
    encode(&in[1], &a);
    struct xds_address out;
    CU_ASSERT_EQUAL_FATAL(xds_address_decode(pg_sb_view(&a), &arena, &out, &err), 0);
    CU_ASSERT_EQUAL(out.u.service.addresses[1].bits, 0);
    CU_ASSERT_EQUAL(out.u.service.addresses[2].bits, 64);
    CU_ASSERT(pg_str_eq(out.u.service.sans[0], s->sans[0]));
    pg_sb_fini(&a);
    teardown(&w, &m);
}

static int decode_any(struct pg_str bytes)
{
    struct pg_arena a;
    struct xds_address out;
    pg_arena_init(&a, 1u << 20);
    int r = xds_address_decode(bytes, &a, &out, &err);
    pg_arena_fini(&a);
    return r;
}

static void malformed(void)
{
    struct xds_address in[] = {full_workload(), full_service()};
    for (size_t i = 0; i < 2; i++) {
        struct pg_sb a;
        encode(&in[i], &a);
        wb_sweep(pg_sb_view(&a), decode_any);
        pg_sb_fini(&a);
    }
}

static void bombs(void)
{
    struct wb w, m;
    struct xds_address out;
    setup(&w, &m);
    /* A million levels of field 1 inside field 1: the schema stops descending after a few. */
    size_t depth = 1000000;
    char *deep = pg_malloc(depth);
    memset(deep, 0x0a, depth);
    CU_ASSERT(xds_address_decode(pg_str_n(deep, depth), &arena, &out, &err) < 0);
    memset(deep, 0x0b, depth); /* start-group all the way down */
    CU_ASSERT(xds_address_decode(pg_str_n(deep, depth), &arena, &out, &err) < 0);
    pg_free(deep);
    /* Two bytes a piece become a whole struct each. */
    while (m.sb.len < 900000) {
        wb_bytes(&m, 4, PG_STR_NONE);
    }
    CU_ASSERT(decode_address(&m, 2, &out) < 0);
    pg_sb_reset(&m.sb);
    while (m.sb.len < (1u << 20) + 1) {
        wb_c(&m, 1, "0123456789abcdef0123456789abcdef");
    }
    CU_ASSERT_EQUAL(decode_address(&m, 1, &out), PG_E_LIMIT);
    teardown(&w, &m);
}

static int alloc_scenario(void *arg)
{
    const struct xds_address *in = arg;
    struct pg_sb sb;
    struct pg_arena a;
    struct xds_address out;
    pg_sb_init(&sb, 1u << 20);
    pg_arena_init(&a, 1u << 20);
    int r = xds_address_encode(in, &sb);
    if (r == 0) {
        r = xds_address_decode(pg_sb_view(&sb), &a, &out, &err);
        CU_ASSERT(r == 0 || r == PG_E_NOMEM);
    }
    pg_sb_fini(&sb);
    pg_arena_fini(&a);
    return r;
}

static void failing_memory(void)
{
    struct xds_address in[] = {full_workload(), full_service()};
    CU_ASSERT(test_alloc_sweep(alloc_scenario, &in[0]) > 3);
    CU_ASSERT(test_alloc_sweep(alloc_scenario, &in[1]) >= 3);
}

TEST_MAIN("codec_wds", {"workload strings", workload_strings}, {"workload defaults", workload_defaults},
          {"workload scalars", workload_scalars}, {"gateways", gateways}, {"services map", services_map},
          {"enums", enums}, {"service fields", service_fields}, {"service refusals", service_refusals},
          {"round trips", round_trips}, {"malformed", malformed}, {"bombs", bombs},
          {"failing memory", failing_memory})
