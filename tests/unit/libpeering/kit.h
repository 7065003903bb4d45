/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Builds tables in tests from short descriptions. Lists are comma-separated text; everything goes through
 * the wire encoding, as it does in life. One thread.
 */
#ifndef ISTHMUS_TEST_PEERING_KIT_H
#define ISTHMUS_TEST_PEERING_KIT_H

#include <peering/table.h>

#include "xds/codec.h"

#include "testlib.h"

#define KIT_LIST_MAX 64

struct kit_workload {
    const char *uid; /* default "<cluster>//Pod/<ns>/<name>" */
    const char *name, *ns, *sa, *network, *node, *cluster, *region, *zone, *subzone, *hostname;
    const char *ips;
    const char *services;           /* "ns/host=80:8080,81:0;ns/other=80:80" */
    const char *gateway, *waypoint; /* "net/ip:port" or "ns/host:port" */
    const char *policies;
    const char *workload_name, *canonical_name, *revision;
    bool plain; /* default HBONE */
    bool unhealthy, host_network, native;
    bool has_capacity;
    uint32_t capacity;
    uint8_t tunnel_protocol;
    uint16_t tunnel_port;
    enum xds_workload_type type;
};
struct kit_service {
    const char *name, *ns, *hostname; /* hostname default "<name>.<ns>.svc.cluster.local" */
    const char *vips;                 /* "net/ip,net/ip/bits" */
    const char *ports;                /* "80:8080,81:0" */
    const char *sans, *waypoint;
    const char *weighted; /* "net/ip:port=3,ns/host:port=1" */
    const char *scopes;   /* "NETWORK,REGION"; not NULL: has load balancing */
    enum xds_lb_mode mode;
    bool allow_all, canonical, private_ns;
    enum xds_ip_families families;
};

static inline peering_str ps(const char *z)
{
    return (peering_str){z, z != NULL ? strlen(z) : 0};
}
static inline bool ps_is(peering_str s, const char *z)
{
    return s.len == strlen(z) && memcmp(s.ptr != NULL ? s.ptr : "", z, s.len) == 0;
}
static inline struct pg_ip kit_pg_ip(struct pg_str s)
{
    struct pg_ip ip = {0};
    int r = pg_ip_parse(s, &ip);
    PG_BUG_ON(r < 0);
    return ip;
}
static inline peering_ip kit_ip(const char *z)
{
    struct pg_ip ip = kit_pg_ip(pg_str_c(z));
    peering_ip out = {.len = ip.len};
    memcpy(out.bytes, ip.b, sizeof(out.bytes));
    return out;
}
static inline size_t kit_list(const char *z, char sep, struct pg_str *out)
{
    struct pg_str s = pg_str_c(z);
    size_t n = 0;
    while (n < KIT_LIST_MAX && pg_str_cut(&s, sep, &out[n])) {
        n++;
    }
    return n;
}
static inline uint16_t kit_u16(struct pg_str s)
{
    uint64_t v = 0;
    int r = pg_str_u64(s, 65535, &v);
    PG_BUG_ON(r < 0);
    return (uint16_t)v;
}
static inline size_t kit_ports(struct pg_str list, struct xds_port *out)
{
    size_t n = 0;
    struct pg_str item;
    while (n < KIT_LIST_MAX && pg_str_cut(&list, ',', &item)) {
        struct pg_str from;
        (void)pg_str_cut(&item, ':', &from);
        out[n++] = (struct xds_port){.service_port = kit_u16(from), .target_port = kit_u16(item)};
    }
    return n;
}
static inline struct xds_gateway kit_gateway(struct pg_str s)
{
    struct xds_gateway g = {.kind = XDS_GATEWAY_NONE};
    if (s.len == 0) {
        return g;
    }
    ptrdiff_t slash = pg_str_chr(s, '/');
    ptrdiff_t colon = pg_str_rchr(s, ':');
    PG_BUG_ON(slash < 0 || colon < 0);
    struct pg_str head = pg_str_n(s.p, (size_t)slash);
    struct pg_str host = pg_str_n(s.p + slash + 1, (size_t)(colon - slash - 1));
    struct pg_ip ip;
    g.hbone_port = kit_u16(pg_str_sub(s, (size_t)colon + 1));
    if (pg_ip_parse(host, &ip) == 0) {
        g.kind = XDS_GATEWAY_ADDRESS;
        g.address = (struct xds_net_addr){.network = head, .ip = ip, .bits = (uint8_t)(ip.len * 8)};
    } else {
        g.kind = XDS_GATEWAY_HOSTNAME;
        g.ns = head;
        g.hostname = host;
    }
    return g;
}

static inline int kit_put_bytes(peering_table *t, enum peering_kind kind, const char *name,
                                const struct pg_sb *sb)
{
    struct pg_str v = pg_sb_view(sb);
    return sb->err != 0 ? sb->err : peering_table_put(t, kind, ps(name), v.p, v.len, NULL);
}

/* Encodes; the caller frees `out` with pg_sb_fini. `uid` gets the resource name. */
static inline int kit_encode_workload(const struct kit_workload *k, struct pg_sb *out, char *uid, size_t cap)
{
    struct xds_address a = {.kind = XDS_ADDRESS_WORKLOAD};
    struct xds_workload *w = &a.u.workload;
    struct pg_str ip_text[KIT_LIST_MAX], policies[KIT_LIST_MAX], services[KIT_LIST_MAX];
    struct pg_ip ips[KIT_LIST_MAX];
    struct xds_workload_service svc[8];
    static _Thread_local struct xds_port ports[8][KIT_LIST_MAX];
    w->ns = pg_str_c(k->ns != NULL ? k->ns : "ns1");
    w->name = pg_str_c(k->name);
    w->cluster_id = pg_str_c(k->cluster);
    if (k->uid != NULL) {
        snprintf(uid, cap, "%s", k->uid);
    } else {
        snprintf(uid, cap, "%s//Pod/%s/%s", k->cluster != NULL ? k->cluster : "c1",
                 k->ns != NULL ? k->ns : "ns1", k->name);
    }
    w->uid = pg_str_c(uid);
    w->service_account = pg_str_c(k->sa);
    w->network = pg_str_c(k->network);
    w->node = pg_str_c(k->node);
    w->hostname = pg_str_c(k->hostname);
    w->workload_name = pg_str_c(k->workload_name);
    w->canonical_name = pg_str_c(k->canonical_name);
    w->canonical_revision = pg_str_c(k->revision);
    w->locality = (struct xds_locality){pg_str_c(k->region), pg_str_c(k->zone), pg_str_c(k->subzone)};
    w->tunnel = k->plain ? XDS_TUNNEL_NONE : XDS_TUNNEL_HBONE;
    w->health = k->unhealthy ? XDS_UNHEALTHY : XDS_HEALTHY;
    w->network_mode = k->host_network ? XDS_NETWORK_HOST : XDS_NETWORK_STANDARD;
    w->native_tunnel = k->native;
    w->type = k->type;
    w->waypoint = kit_gateway(pg_str_c(k->waypoint));
    w->network_gateway = kit_gateway(pg_str_c(k->gateway));
    w->app_tunnel_protocol = k->tunnel_protocol;
    w->app_tunnel_port = k->tunnel_port;
    w->has_capacity = k->has_capacity;
    w->capacity = k->capacity;
    w->n_ips = kit_list(k->ips, ',', ip_text);
    for (size_t i = 0; i < w->n_ips; i++) {
        ips[i] = kit_pg_ip(ip_text[i]);
    }
    w->ips = ips;
    w->policies = policies;
    w->n_policies = kit_list(k->policies, ',', policies);
    w->n_services = kit_list(k->services, ';', services);
    PG_BUG_ON(w->n_services > PG_ARRAY_LEN(svc));
    for (size_t i = 0; i < w->n_services; i++) {
        struct pg_str key;
        (void)pg_str_cut(&services[i], '=', &key);
        svc[i] = (struct xds_workload_service){.key = key, .ports = ports[i]};
        svc[i].n_ports = kit_ports(services[i], ports[i]);
    }
    w->services = svc;
    return xds_address_encode(&a, out);
}

static inline int kit_workload(peering_table *t, const struct kit_workload *k)
{
    struct pg_sb sb;
    char uid[256];
    pg_sb_init(&sb, XDS_RESOURCE_MAX);
    int r = kit_encode_workload(k, &sb, uid, sizeof(uid));
    r = r < 0 ? r : kit_put_bytes(t, PEERING_KIND_ADDRESS, uid, &sb);
    pg_sb_fini(&sb);
    return r;
}

static inline size_t kit_vips(const char *z, struct xds_net_addr *out)
{
    struct pg_str items[KIT_LIST_MAX];
    size_t n = kit_list(z, ',', items);
    for (size_t i = 0; i < n; i++) {
        struct pg_str network, ip, rest = items[i];
        ptrdiff_t slash = pg_str_chr(rest, '/');
        PG_BUG_ON(slash < 0);
        network = pg_str_n(rest.p, (size_t)slash);
        rest = pg_str_sub(rest, (size_t)slash + 1);
        (void)pg_str_cut(&rest, '/', &ip);
        out[i] = (struct xds_net_addr){.network = network, .ip = kit_pg_ip(ip)};
        out[i].bits = rest.len != 0 ? (uint8_t)kit_u16(rest) : (uint8_t)(out[i].ip.len * 8);
    }
    return n;
}

static inline uint8_t kit_scope(struct pg_str s)
{
    static const char *const names[] = {"?", "REGION", "ZONE", "SUBZONE", "NODE", "CLUSTER", "NETWORK"};
    for (uint8_t i = 1; i < PG_ARRAY_LEN(names); i++) {
        if (pg_str_eq_c(s, names[i])) {
            return i;
        }
    }
    PG_BUG_ON(true);
    return 0;
}

static inline size_t kit_weighted(const char *z, struct xds_weighted_waypoint *out)
{
    struct pg_str items[KIT_LIST_MAX];
    size_t n = kit_list(z, ',', items);
    for (size_t i = 0; i < n; i++) {
        struct pg_str destination;
        (void)pg_str_cut(&items[i], '=', &destination);
        out[i] = (struct xds_weighted_waypoint){kit_gateway(destination), kit_u16(items[i])};
    }
    return n;
}

static inline int kit_encode_service(const struct kit_service *k, struct pg_sb *out, char *key, size_t cap)
{
    struct xds_address a = {.kind = XDS_ADDRESS_SERVICE};
    struct xds_service *s = &a.u.service;
    struct xds_net_addr vips[KIT_LIST_MAX];
    struct xds_port ports[KIT_LIST_MAX];
    struct pg_str sans[KIT_LIST_MAX], scopes[KIT_LIST_MAX];
    struct xds_weighted_waypoint weighted[KIT_LIST_MAX];
    char host[200];
    const char *ns = k->ns != NULL ? k->ns : "ns1";
    snprintf(host, sizeof(host), "%s.%s.svc.cluster.local", k->name, ns);
    s->name = pg_str_c(k->name);
    s->ns = pg_str_c(ns);
    s->hostname = pg_str_c(k->hostname != NULL ? k->hostname : host);
    snprintf(key, cap, "%s/%s", ns, k->hostname != NULL ? k->hostname : host);
    s->addresses = vips;
    s->n_addresses = kit_vips(k->vips, vips);
    s->ports = ports;
    s->n_ports = kit_ports(pg_str_c(k->ports), ports);
    s->sans = sans;
    s->n_sans = kit_list(k->sans, ',', sans);
    s->waypoint = kit_gateway(pg_str_c(k->waypoint));
    s->weighted_waypoints = weighted;
    s->n_weighted_waypoints = kit_weighted(k->weighted, weighted);
    s->has_lb = k->scopes != NULL || k->mode != XDS_LB_UNSPECIFIED || k->allow_all;
    s->n_lb_scopes = kit_list(k->scopes, ',', scopes);
    for (size_t i = 0; i < s->n_lb_scopes; i++) {
        s->lb_scopes[i] = kit_scope(scopes[i]);
    }
    s->lb_mode = k->mode;
    s->health_policy = k->allow_all ? XDS_ALLOW_ALL : XDS_ONLY_HEALTHY;
    s->ip_families = k->families;
    s->canonical = k->canonical;
    s->visibility = k->private_ns ? XDS_VISIBILITY_NAMESPACE : XDS_VISIBILITY_PUBLIC;
    return xds_address_encode(&a, out);
}

static inline int kit_service(peering_table *t, const struct kit_service *k)
{
    struct pg_sb sb;
    char key[256];
    pg_sb_init(&sb, XDS_RESOURCE_MAX);
    int r = kit_encode_service(k, &sb, key, sizeof(key));
    r = r < 0 ? r : kit_put_bytes(t, PEERING_KIND_ADDRESS, key, &sb);
    pg_sb_fini(&sb);
    return r;
}

static inline int kit_policy(peering_table *t, const struct xds_policy *p)
{
    struct pg_sb sb;
    char key[256];
    pg_sb_init(&sb, XDS_RESOURCE_MAX);
    snprintf(key, sizeof(key), "%.*s/%.*s", PG_STR_ARG(p->ns), PG_STR_ARG(p->name));
    int r = xds_policy_encode(p, &sb);
    r = r < 0 ? r : kit_put_bytes(t, PEERING_KIND_AUTHORIZATION, key, &sb);
    pg_sb_fini(&sb);
    return r;
}

#define WL(t, ...) CU_ASSERT_EQUAL_FATAL(kit_workload((t), &(struct kit_workload){__VA_ARGS__}), 0)
#define SV(t, ...) CU_ASSERT_EQUAL_FATAL(kit_service((t), &(struct kit_service){__VA_ARGS__}), 0)

static inline peering_table *kit_table(void)
{
    peering_table *t = NULL;
    int r = peering_table_new(&t);
    PG_BUG_ON(r < 0);
    return t;
}
static inline peering_snapshot *kit_snapshot(peering_table *t)
{
    peering_snapshot *s = NULL;
    int r = peering_table_snapshot(t, &s);
    PG_BUG_ON(r < 0);
    return s;
}

#endif
