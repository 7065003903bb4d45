/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of a data path under any sequence of resources, and every question it answers: look-ups, routes,
 * inbound checks, gateway routes, policy, names, JSON. Resources come as raw bytes or are composed from a few
 * names and addresses, so that they meet. Answers are whole and point into the snapshot. One thread.
 */
#include "fuzz.h"
#include "json_check.h"

#include "xds/codec.h"

#include <peering/dns.h>
#include <peering/policy.h>
#include <peering/route.h>

static const char *const networks[] = {"", "n1", "n2", "n3"};
static const char *const spaces[] = {"a", "b", "istio-system", "c"};
static const char *const words[] = {"x", "y", "z", "gw"};
static const char *const hosts[] = {"x.a.svc.cluster.local", "y.b.mesh.internal", "gw.a",
                                    "z.c.svc.cluster.local"};

static struct pg_str pick(const char *const *from, unsigned n)
{
    return pg_str_c(from[n % 4]);
}
static struct pg_ip ip_of(uint8_t b)
{
    return b & 128 ? (struct pg_ip){.len = 16, .b = {0xfd, [15] = b & 15}}
                   : (struct pg_ip){.len = 4, .b = {10, 0, b >> 6 & 1, b & 15}};
}
static peering_ip pub_ip(struct pg_ip ip)
{
    peering_ip out = {.len = ip.len};
    memcpy(out.bytes, ip.b, sizeof(out.bytes));
    return out;
}
static peering_str pub(struct pg_str s)
{
    return (peering_str){s.p, s.len};
}

static struct xds_gateway gateway(struct pg_str *in)
{
    uint8_t b = fuzz_u8(in), c = fuzz_u8(in);
    struct xds_gateway g = {.kind = (enum xds_gateway_kind)(b % 3), .hbone_port = b & 64 ? 15008 : c};
    g.ns = pick(spaces, b >> 2);
    g.hostname = pick(hosts, b >> 4);
    g.address = (struct xds_net_addr){.network = pick(networks, b >> 4), .ip = ip_of(c)};
    g.address.bits = (uint8_t)(g.address.ip.len * 8);
    return g;
}

static void put(peering_table *t, enum peering_kind kind, struct pg_str name, struct pg_str bytes)
{
    peering_text why = {{0}};
    int r = peering_table_put(t, kind, pub(name), bytes.p, bytes.len, &why);
    PG_BUG_ON(r < 0 && why.text[0] == '\0');
}

static void workload(peering_table *t, struct pg_str *in, struct pg_sb *sb)
{
    struct pg_ip ips[3];
    struct pg_str policies[2];
    struct xds_port ports[2] = {{80, 8080, 0}, {81, 0, 0}};
    struct xds_workload_service services[2];
    struct xds_address a = {.kind = XDS_ADDRESS_WORKLOAD};
    struct xds_workload *w = &a.u.workload;
    uint8_t b = fuzz_u8(in), c = fuzz_u8(in), d = fuzz_u8(in), e = fuzz_u8(in);
    char uid[2] = {(char)('A' + b % 12), 0};
    w->uid = pg_str_c(uid);
    w->name = pick(words, b >> 4);
    w->ns = pick(spaces, b >> 6);
    w->service_account = pick(words, c);
    w->network = pick(networks, c >> 2);
    w->hostname = c & 16 ? PG_STR("out.example.com") : PG_STR_NONE;
    w->tunnel = c & 32 ? XDS_TUNNEL_HBONE : XDS_TUNNEL_NONE;
    w->health = c & 64 ? XDS_UNHEALTHY : XDS_HEALTHY;
    w->network_mode = c & 128 ? XDS_NETWORK_HOST : XDS_NETWORK_STANDARD;
    w->node = pick(words, d);
    w->locality = (struct xds_locality){pick(words, d >> 2), pick(words, d >> 4), pick(words, d >> 6)};
    w->native_tunnel = e & 1;
    w->app_tunnel_protocol = e >> 1 & 1;
    w->app_tunnel_port = e & 2 ? 15088 : 0;
    w->has_capacity = e & 4;
    w->capacity = e >> 5;
    w->cluster_id = pick(networks, e >> 3);
    w->n_ips = e >> 6;
    w->ips = ips;
    for (size_t i = 0; i < w->n_ips; i++) {
        ips[i] = ip_of(fuzz_u8(in));
    }
    w->policies = policies;
    w->n_policies = d & 1 ? 1 : 0;
    policies[0] = d & 2 ? PG_STR("a/p") : PG_STR("b/q");
    w->services = services;
    w->n_services = c % 3;
    for (size_t i = 0; i < w->n_services; i++) {
        static const char *const keys[] = {"a/x.a.svc.cluster.local", "b/y.b.mesh.internal", "a/gw.a",
                                           "b/gw.a"};
        services[i] = (struct xds_workload_service){pick(keys, fuzz_u8(in)), ports, 2};
    }
    w->waypoint = d & 64 ? gateway(in) : (struct xds_gateway){0};
    w->network_gateway = d & 128 ? gateway(in) : (struct xds_gateway){0};
    if (xds_address_encode(&a, sb) == 0) {
        put(t, PEERING_KIND_ADDRESS, w->uid, pg_sb_view(sb));
    }
}

static void service(peering_table *t, struct pg_str *in, struct pg_sb *sb)
{
    struct xds_net_addr vips[3];
    struct xds_port ports[2] = {{80, 8080, 0}, {81, 0, 0}};
    struct pg_str sans[1] = {PG_STR("spiffe://cluster.local/ns/a/sa/x")};
    struct xds_weighted_waypoint weighted[2];
    struct xds_address a = {.kind = XDS_ADDRESS_SERVICE};
    struct xds_service *s = &a.u.service;
    char key[128];
    uint8_t b = fuzz_u8(in), c = fuzz_u8(in), d = fuzz_u8(in);
    s->name = pick(words, b);
    s->ns = pick(spaces, b >> 2);
    s->hostname = pick(hosts, b >> 4);
    s->canonical = b & 64;
    s->visibility = b & 128 ? XDS_VISIBILITY_NAMESPACE : XDS_VISIBILITY_PUBLIC;
    s->addresses = vips;
    s->n_addresses = c & 3;
    for (size_t i = 0; i < s->n_addresses; i++) {
        uint8_t v = fuzz_u8(in);
        vips[i] = (struct xds_net_addr){.network = pick(networks, v >> 4), .ip = ip_of(v)};
        vips[i].bits = v & 8 ? 8 : (uint8_t)(vips[i].ip.len * 8);
        memset(vips[i].ip.b + 1, 0, v & 8 ? 15 : 0);
    }
    s->ports = ports;
    s->n_ports = c >> 2 & 1 ? 2 : 1;
    s->sans = sans;
    s->n_sans = c >> 3 & 1;
    s->has_lb = c & 16;
    s->n_lb_scopes = s->has_lb ? c >> 6 : 0;
    for (size_t i = 0; i < s->n_lb_scopes; i++) {
        s->lb_scopes[i] = (uint8_t)(1 + (d + i) % 6);
    }
    s->lb_mode = (enum xds_lb_mode)(s->has_lb ? d % 4 : 0);
    s->health_policy = s->has_lb && d & 4 ? XDS_ALLOW_ALL : XDS_ONLY_HEALTHY;
    s->ip_families = (enum xds_ip_families)(d >> 3 & 3);
    s->waypoint = d & 64 ? gateway(in) : (struct xds_gateway){0};
    s->weighted_waypoints = weighted;
    s->n_weighted_waypoints = d & 128 ? 2 : 0;
    for (size_t i = 0; i < s->n_weighted_waypoints; i++) {
        weighted[i].destination = gateway(in);
        weighted[i].weight = fuzz_u8(in);
    }
    struct pg_sb name;
    pg_sb_init(&name, sizeof(key));
    pg_sb_fmt(&name, "%.*s/%.*s", PG_STR_ARG(s->ns), PG_STR_ARG(s->hostname));
    if (xds_address_encode(&a, sb) == 0) {
        put(t, PEERING_KIND_ADDRESS, pg_sb_view(&name), pg_sb_view(sb));
    }
    pg_sb_fini(&name);
}

static void policy(peering_table *t, struct pg_str *in, struct pg_sb *sb)
{
    uint8_t b = fuzz_u8(in), c = fuzz_u8(in);
    struct xds_string_match names[1] = {{(enum xds_match_kind)(b >> 4 & 3), pick(spaces, b >> 6)}};
    struct pg_prefix prefix[1];
    uint16_t ports[1] = {80};
    struct xds_match match = {.n_ports = {0}};
    struct xds_clause clause = {&match, 1};
    struct xds_rule rule = {&clause, c & 64 ? 0 : 1};
    struct xds_policy p = {
        .name = b & 1 ? PG_STR("p") : PG_STR("q"), .rules = &rule, .n_rules = c & 128 ? 0 : 1};
    struct pg_ip ip = ip_of(c);
    PG_BUG_ON(pg_prefix_make(&ip, 8, &prefix[0]) < 0);
    p.ns = b & 2 ? PG_STR("a") : PG_STR("b");
    p.scope = (enum xds_policy_scope)(b >> 2 & 3 ? (b >> 2 & 3) - 1 : 0);
    p.action = c & 1 ? XDS_POLICY_DENY : XDS_POLICY_ALLOW;
    p.dry_run = (c & 6) == 6;
    match.namespaces[c >> 3 & 1] = names;
    match.n_namespaces[c >> 3 & 1] = c & 2 ? 1 : 0;
    match.source_ips[0] = prefix;
    match.n_source_ips[0] = c >> 4 & 1;
    match.ports[1] = ports;
    match.n_ports[1] = c >> 5 & 1;
    struct pg_sb name;
    pg_sb_init(&name, 64);
    pg_sb_fmt(&name, "%.*s/%.*s", PG_STR_ARG(p.ns), PG_STR_ARG(p.name));
    if (xds_policy_encode(&p, sb) == 0) {
        put(t, PEERING_KIND_AUTHORIZATION, pg_sb_view(&name), pg_sb_view(sb));
    }
    pg_sb_fini(&name);
}

static int add(void *arg, const char *p, size_t len)
{
    struct pg_sb *sb = arg;
    pg_sb_add(sb, p, len);
    return sb->err;
}
static void check_json(struct pg_sb *sb, int r)
{
    PG_BUG_ON(r < 0 || !jc_document(pg_sb_view(sb)));
    pg_sb_reset(sb);
}

static void dump(const peering_snapshot *s)
{
    struct pg_sb sb;
    size_t it = 0;
    const peering_workload *w;
    const peering_service *v;
    const peering_policy *p;
    pg_sb_init(&sb, 1u << 22);
    while ((w = peering_next_workload(s, &it)) != NULL) {
        char baggage[512];
        const peering_ip *ips;
        PG_BUG_ON(peering_find_workload(s, peering_workload_uid(w)) != w);
        PG_BUG_ON(peering_workload_ips(w, &ips) > 1000 ||
                  peering_baggage(w, baggage, sizeof(baggage)) >= 512);
        check_json(&sb, peering_workload_json(w, add, &sb));
    }
    for (it = 0; (v = peering_next_service(s, &it)) != NULL;) {
        const peering_workload *const *ends;
        size_t n = peering_service_endpoints(v, &ends);
        PG_BUG_ON(peering_find_service(s, peering_service_namespace(v), peering_service_hostname(v)) != v);
        for (size_t i = 0; i < n; i++) {
            PG_BUG_ON(peering_find_workload(s, peering_workload_uid(ends[i])) != ends[i]);
        }
        check_json(&sb, peering_service_json(v, add, &sb));
    }
    for (it = 0; (p = peering_next_policy(s, &it)) != NULL;) {
        PG_BUG_ON(peering_find_policy(s, peering_policy_key(p)) != p);
        check_json(&sb, peering_policy_json(p, add, &sb));
    }
    pg_sb_fini(&sb);
}

static bool avoid_odd(void *arg, const peering_workload *w)
{
    (void)arg;
    return peering_workload_uid(w).ptr[0] & 1;
}
static void trace(void *arg, const char *line)
{
    *(size_t *)arg += strlen(line);
}

static void route(const peering_snapshot *s, const peering_workload *w, struct pg_str *in)
{
    uint8_t b = fuzz_u8(in), c = fuzz_u8(in);
    size_t traced = 0;
    peering_route r;
    const peering_route_query q = {.source = w,
                                   .network = pub(pick(networks, b)),
                                   .client_ip = pub_ip(ip_of(b)),
                                   .dst_ip = pub_ip(ip_of(c)),
                                   .dst_port = b & 4 ? 80 : (b & 8 ? 81 : 9),
                                   .random = b * 0x0101010101010101u,
                                   .avoid = b & 16 ? avoid_odd : NULL,
                                   .trace = b & 32 ? trace : NULL,
                                   .trace_arg = &traced};
    PG_BUG_ON(peering_route_decide(s, &q, &r) != 0);
    PG_BUG_ON(memchr(r.authority, '\0', sizeof(r.authority)) == NULL ||
              memchr(r.error, '\0', sizeof(r.error)) == NULL);
    PG_BUG_ON((r.kind == PEERING_ROUTE_NONE) != (r.error[0] != '\0'));
    bool tunnel = r.kind == PEERING_ROUTE_HBONE || r.kind == PEERING_ROUTE_DOUBLE_HBONE;
    PG_BUG_ON(tunnel && (r.authority[0] == '\0' || r.n_outer_sans == 0));
    PG_BUG_ON(r.kind == PEERING_ROUTE_DOUBLE_HBONE && r.n_inner_sans == 0);
    PG_BUG_ON(r.kind != PEERING_ROUTE_NONE && r.hop_ip.len == 0 && r.hop_host.len == 0);
    PG_BUG_ON(r.remaining > r.candidates);
    peering_route_fini(&r);
}

static void inbound(const peering_snapshot *s, const peering_workload *w, struct pg_str *in)
{
    uint8_t b = fuzz_u8(in), c = fuzz_u8(in);
    peering_inbound i;
    peering_text why = {{0}};
    const peering_inbound_query q = {.local = w,
                                     .network = pub(pick(networks, b)),
                                     .conn_ip = pub_ip(ip_of(c)),
                                     .authority_host = pub(pick(hosts, b >> 2)),
                                     .authority_ip = b & 16 ? pub_ip(ip_of(b)) : (peering_ip){0},
                                     .authority_port = b & 32 ? 80 : 8080};
    peering_inbound_decide(s, &q, &i);
    PG_BUG_ON(i.status != 200 && i.status != 400 && i.status != 503);
    PG_BUG_ON((i.status == 200) != (i.error[0] == '\0'));
    (void)peering_inbound_service(s, w, q.authority_host, 80);
    const peering_connection conn = {.identity = b & 64 ? pub(PG_STR("spiffe://cluster.local/ns/a/sa/x"))
                                                        : (peering_str){0},
                                     .src_ip = pub_ip(ip_of(b)),
                                     .dst_ip = q.conn_ip,
                                     .dst_port = q.authority_port};
    enum peering_verdict v = peering_policy_check(s, w, &conn, b & 128, &why);
    PG_BUG_ON(v == PEERING_DENY && why.text[0] == '\0');
}

static void gateway_route(const peering_snapshot *s, struct pg_str *in)
{
    uint8_t b = fuzz_u8(in);
    peering_gateway_route g;
    const peering_gateway_query q = {.network = pub(pick(networks, b)),
                                     .gateway_ns = pub(pick(spaces, b >> 2)),
                                     .authority_host = pub(pick(hosts, b >> 4)),
                                     .authority_port = b & 128 ? 80 : 81,
                                     .random = b * 0x0101010101010101u,
                                     .avoid = b & 64 ? avoid_odd : NULL};
    peering_gateway_decide(s, &q, &g);
    PG_BUG_ON(g.status != 200 && g.status != 404 && g.status != 503);
    PG_BUG_ON((g.status == 200) != (g.error[0] == '\0') || (g.status == 200 && g.ip.len == 0));
}

static void names(const peering_snapshot *s, const peering_workload *w, struct pg_str *in)
{
    static peering_dns_answer a;
    uint8_t b = fuzz_u8(in);
    struct pg_str raw = b & 64 ? fuzz_take(in, b & 31) : pick(hosts, b);
    const peering_dns_query q = {.client = w,
                                 .network = pub(pick(networks, b >> 2)),
                                 .cluster_domain = pub(PG_STR("cluster.local")),
                                 .name = pub(raw),
                                 .want_v6 = b & 16,
                                 .ipv6_enabled = b & 32,
                                 .random = b};
    peering_dns_lookup(s, &q, &a);
    PG_BUG_ON(a.n > PEERING_DNS_ANSWERS_MAX || memchr(a.target, '\0', sizeof(a.target)) == NULL);
    for (size_t i = 0; i < a.n; i++) {
        PG_BUG_ON(a.ips[i].len != (q.want_v6 ? 16 : 4));
    }
}

static void ask(peering_table *t, struct pg_str *in)
{
    peering_snapshot *s;
    size_t it = 0;
    const peering_workload *w;
    PG_BUG_ON(peering_table_snapshot(t, &s) < 0);
    uint8_t what = fuzz_u8(in);
    while ((w = peering_next_workload(s, &it)) != NULL) {
        route(s, w, in);
        inbound(s, w, in);
        if (what & 1) {
            names(s, w, in);
        }
    }
    gateway_route(s, in);
    if (what & 2) {
        dump(s);
    }
    peering_snapshot_unref(s);
}

static void one(struct pg_str in)
{
    peering_table *t;
    struct pg_sb sb;
    pg_sb_init(&sb, 1u << 20);
    PG_BUG_ON(peering_table_new(&t) < 0);
    for (unsigned steps = 0; in.len > 0 && steps < 200; steps++) {
        uint8_t op = fuzz_u8(&in);
        pg_sb_reset(&sb);
        switch (op % 8) {
        case 0:
            put(t, op & 8 ? PEERING_KIND_ADDRESS : PEERING_KIND_AUTHORIZATION, PG_STR_NONE, fuzz_text(&in));
            break;
        case 1:
        case 2:
            workload(t, &in, &sb);
            break;
        case 3:
            service(t, &in, &sb);
            break;
        case 4:
            policy(t, &in, &sb);
            break;
        case 5: {
            char uid[2] = {(char)('A' + (op >> 3) % 12), 0};
            (void)!peering_table_remove(t, PEERING_KIND_ADDRESS, (peering_str){uid, 1});
            break;
        }
        case 6:
            (void)!peering_table_remove(t, PEERING_KIND_ADDRESS, pub(PG_STR("a/x.a.svc.cluster.local")));
            (void)!peering_table_remove(t, PEERING_KIND_AUTHORIZATION,
                                        pub(op & 8 ? PG_STR("a/p") : PG_STR("b/q")));
            break;
        default:
            ask(t, &in);
        }
    }
    in = PG_STR_NONE;
    ask(t, &in);
    peering_table_free(t);
    pg_sb_fini(&sb);
}
FUZZ_TARGET(one, fuzz_no_init)
