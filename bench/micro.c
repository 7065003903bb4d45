/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Figures of the library without a network: encoding, tables, snapshots, look-ups, route decisions, and the
 * merge of a control plane. Everything goes through the functions the programs use; sizes are those of the
 * heap. One thread.
 */
#include "core/clock.h"
#include "core/map.h"
#include "core/rng.h"
#include "libpeering/src/merge.h"
#include "xds/codec.h"

#include <peering/route.h>

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#define REPLICAS 3u
#define SERVICES_PER_NS 50u
#define LOOPS 200000u
#define NAMES 256

static _Noreturn void die(const char *what)
{
    (void)fprintf(stderr, "micro: %s failed\n", what);
    exit(1);
}

static void must(int r, const char *what)
{
    if (r < 0) {
        die(what);
    }
}

static double heap_bytes(void)
{
    struct mallinfo2 m = mallinfo2();
    return (double)m.uordblks + (double)m.hblkhd;
}

static double since_ns(uint64_t start)
{
    return (double)(pg_clock_mono_ns() - start);
}

static struct pg_str text(char *buf, const char *fmt, ...) PG_PRINTF(2, 3);
static struct pg_str text(char *buf, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(buf, NAMES, fmt, ap);
    va_end(ap);
    return pg_str_n(buf, (size_t)n);
}

static peering_str as_peering(struct pg_str s)
{
    return (peering_str){s.p, s.len};
}

static struct pg_ip ip_of(uint8_t net, uint32_t i)
{
    return (struct pg_ip){.len = 4, .b = {net, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i}};
}

/* ---- one pod, one service, as a control plane would send them ---- */

struct names {
    char uid[NAMES], name[NAMES], ns[NAMES], owner[NAMES], key[NAMES], host[NAMES], node[NAMES];
    struct pg_ip ip;
    struct xds_port port;
    struct xds_workload_service service;
};

static void describe_pod(uint32_t i, struct names *n, struct xds_workload *w)
{
    uint32_t s = i / REPLICAS;
    *w = (struct xds_workload){.tunnel = XDS_TUNNEL_HBONE, .n_ips = 1, .n_services = 1};
    n->ip = ip_of(10, i);
    n->port = (struct xds_port){.service_port = 80, .target_port = 8080};
    w->ns = text(n->ns, "team-%u", s / SERVICES_PER_NS);
    w->workload_name = text(n->owner, "app-%u", s);
    w->name = text(n->name, "app-%u-7d4b9c6f5d-%05x", s, i);
    w->uid = text(n->uid, "cluster1//Pod/%s/%s", n->ns, n->name);
    w->service_account = w->canonical_name = w->workload_name;
    w->canonical_revision = PG_STR("v1");
    w->trust_domain = PG_STR("cluster.local");
    w->cluster_id = PG_STR("cluster1");
    w->network = PG_STR("network1");
    w->node = text(n->node, "node-%u", i / 30);
    w->locality = (struct xds_locality){PG_STR("region1"), PG_STR("zone1"), PG_STR_NONE};
    w->ips = &n->ip;
    n->service =
        (struct xds_workload_service){.key = text(n->key, "%s/app-%u.%s.svc.cluster.local", n->ns, s, n->ns),
                                      .ports = &n->port,
                                      .n_ports = 1};
    w->services = &n->service;
}

static void describe_service(uint32_t s, struct names *n, struct xds_net_addr *vip, struct xds_service *v)
{
    n->ip = ip_of(240, s);
    n->port = (struct xds_port){.service_port = 80, .target_port = 8080};
    *vip = (struct xds_net_addr){.network = PG_STR("network1"), .ip = n->ip, .bits = 32};
    *v = (struct xds_service){
        .addresses = vip, .n_addresses = 1, .ports = &n->port, .n_ports = 1, .canonical = true};
    v->ns = text(n->ns, "team-%u", s / SERVICES_PER_NS);
    v->name = text(n->name, "app-%u", s);
    v->hostname = text(n->host, "app-%u.%s.svc.cluster.local", s, n->ns);
    (void)text(n->key, "%s/%s", n->ns, n->host);
}

static void put(peering_table *t, const char *name, const struct xds_address *a, struct pg_sb *sb)
{
    peering_text why;
    pg_sb_reset(sb);
    must(xds_address_encode(a, sb), "encode");
    struct pg_str bytes = pg_sb_view(sb);
    must(peering_table_put(t, PEERING_KIND_ADDRESS, as_peering(pg_str_c(name)), bytes.p, bytes.len, &why),
         "put");
}

static void put_pod(peering_table *t, uint32_t i, bool healthy, struct pg_sb *sb)
{
    struct names n;
    struct xds_address a = {.kind = XDS_ADDRESS_WORKLOAD};
    describe_pod(i, &n, &a.u.workload);
    a.u.workload.health = healthy ? XDS_HEALTHY : XDS_UNHEALTHY;
    put(t, n.uid, &a, sb);
}

static void put_service(peering_table *t, uint32_t s, struct pg_sb *sb)
{
    struct names n;
    struct xds_net_addr vip;
    struct xds_address a = {.kind = XDS_ADDRESS_SERVICE};
    describe_service(s, &n, &vip, &a.u.service);
    put(t, n.key, &a, sb);
}

/* ---- measurements ---- */

static void measure_encode(void)
{
    struct names n;
    struct xds_address a = {.kind = XDS_ADDRESS_WORKLOAD};
    struct xds_address back;
    struct pg_errtext err;
    struct pg_arena arena;
    struct pg_sb sb;
    pg_sb_init(&sb, XDS_RESOURCE_MAX);
    describe_pod(1234, &n, &a.u.workload);
    uint64_t start = pg_clock_mono_ns();
    for (uint32_t i = 0; i < LOOPS; i++) {
        pg_sb_reset(&sb);
        must(xds_address_encode(&a, &sb), "encode");
    }
    printf("  %-58s %10.0f ns (%zu bytes)\n", "encode one workload", since_ns(start) / LOOPS, sb.len);
    start = pg_clock_mono_ns();
    for (uint32_t i = 0; i < LOOPS; i++) {
        pg_arena_init(&arena, XDS_RESOURCE_BUDGET);
        must(xds_address_decode(pg_sb_view(&sb), &arena, &back, &err), "decode");
        pg_arena_fini(&arena);
    }
    printf("  %-58s %10.0f ns\n", "decode it", since_ns(start) / LOOPS);
    pg_sb_fini(&sb);
}

static const char *kind_text(enum peering_route_kind k)
{
    static const char *const names[] = {"passthrough", "tcp", "hbone", "double hbone", "none"};
    return names[k];
}

static void measure_routes(const peering_snapshot *s, uint32_t pods)
{
    struct pg_rng rng;
    peering_route route;
    struct names n;
    struct xds_workload w;
    uint32_t found = 0;
    enum peering_route_kind kind = PEERING_ROUTE_NONE;
    pg_rng_seed(&rng, 7);
    describe_pod(0, &n, &w);
    peering_route_query q = {.source = peering_find_workload(s, as_peering(w.uid)),
                             .network = as_peering(w.network),
                             .client_ip = {.len = 4, .bytes = {10, 0, 0, 0}},
                             .dst_port = 80};
    uint64_t start = pg_clock_mono_ns();
    for (uint32_t i = 0; i < LOOPS; i++) {
        struct pg_ip ip = ip_of(10, (uint32_t)pg_rng_below(&rng, pods));
        peering_ip to = {.len = 4};
        memcpy(to.bytes, ip.b, 4);
        found += peering_find_workload_by_ip(s, q.network, &to) != NULL ? 1 : 0;
    }
    printf("  %-58s %10.0f ns\n", "  look up a random workload by address", since_ns(start) / LOOPS);
    start = pg_clock_mono_ns();
    for (uint32_t i = 0; i < LOOPS; i++) {
        struct pg_ip ip = ip_of(240, (uint32_t)pg_rng_below(&rng, pods / REPLICAS));
        q.dst_ip.len = 4;
        memcpy(q.dst_ip.bytes, ip.b, 4);
        q.random = pg_rng_next(&rng);
        must(peering_route_decide(s, &q, &route), "route");
        kind = route.kind;
        found += route.kind == PEERING_ROUTE_HBONE ? 1 : 0;
        peering_route_fini(&route);
    }
    printf("  %-58s %10.0f ns\n", "  decide the route to a random service (3 endpoints)",
           since_ns(start) / LOOPS);
    if (found != 2 * LOOPS) {
        die(kind_text(kind));
    }
}

static void measure_table(uint32_t pods)
{
    peering_table *t = NULL;
    peering_snapshot *s = NULL;
    struct pg_sb sb;
    pg_sb_init(&sb, XDS_RESOURCE_MAX);
    must(peering_table_new(&t), "table");
    double heap = heap_bytes();
    for (uint32_t i = 0; i < pods / REPLICAS; i++) {
        put_service(t, i, &sb);
    }
    uint64_t start = pg_clock_mono_ns();
    for (uint32_t i = 0; i < pods; i++) {
        put_pod(t, i, true, &sb);
    }
    printf("  %u workloads behind %u services\n", pods, pods / REPLICAS);
    printf("  %-58s %10.0f ns\n", "  encode and take one", since_ns(start) / pods);
    start = pg_clock_mono_ns();
    must(peering_table_snapshot(t, &s), "snapshot");
    printf("  %-58s %10.2f ms\n", "  first snapshot", since_ns(start) / 1e6);
    printf("  %-58s %10.0f\n", "  bytes per workload, table and snapshot, services included",
           (heap_bytes() - heap) / pods);
    measure_routes(s, pods);
    peering_snapshot_unref(s);
    start = pg_clock_mono_ns();
    for (uint32_t i = 0; i < 10; i++) {
        put_pod(t, i * 7, (i & 1) != 0, &sb);
        must(peering_table_snapshot(t, &s), "snapshot");
        peering_snapshot_unref(s);
    }
    printf("  %-58s %10.2f ms\n", "  one workload changes: new snapshot", since_ns(start) / 1e7);
    peering_table_free(t);
    pg_sb_fini(&sb);
}

/* ---- merge ---- */

struct cluster {
    struct pg_str name;
    struct contrib_local local;
    struct vip_pool *vips;
    struct xds_view *node, *exported;
    struct pg_arena wire;
    struct pg_map services;
};

static struct pg_str keep(struct pg_arena *a, struct pg_str s)
{
    char *p = pg_arena_strndup(a, s.p, s.len);
    if (p == NULL) {
        die("memory");
    }
    return pg_str_n(p, s.len);
}

static void fill_cluster(struct cluster *c, const char *name, uint32_t services)
{
    struct names n;
    struct xds_net_addr vip;
    struct pg_arena *a = &c->local.arena;
    *c = (struct cluster){.name = pg_str_c(name)};
    pg_arena_init(a, CONTRIB_ARENA_MAX);
    pg_arena_init(&c->wire, CONTRIB_ARENA_MAX);
    pg_map_init(&c->services, CONTRIB_SERVICES_MAX);
    must(vip_pool_new(&c->vips), "memory");
    must(xds_view_new(1000000, &c->node), "memory");
    must(xds_view_new(1000000, &c->exported), "memory");
    c->local.services = pg_arena_calloc(a, services, sizeof(*c->local.services));
    c->local.workloads = pg_arena_calloc(a, services, sizeof(*c->local.workloads));
    for (uint32_t i = 0; i < services; i++) {
        struct xds_service *v = &c->local.services[c->local.n_services].svc;
        struct xds_workload *w = &c->local.workloads[c->local.n_workloads].w;
        c->local.services[c->local.n_services++].scope = XDS_FED_GLOBAL;
        c->local.n_workloads++;
        describe_service(i, &n, &vip, v);
        v->ns = keep(a, v->ns);
        v->name = keep(a, v->name);
        v->hostname = keep(a, v->hostname);
        v->addresses = pg_arena_memdup(a, &vip, sizeof(vip));
        v->ports = pg_arena_memdup(a, &n.port, sizeof(n.port));
        describe_pod(i * REPLICAS, &n, w);
        w->ns = v->ns;
        w->name = keep(a, w->name);
        w->uid = keep(a, text(n.uid, "%s//Pod/%s/%s", name, n.ns, n.name));
        w->service_account = w->workload_name = w->canonical_name = v->name;
        w->cluster_id = w->network = c->name;
        w->node = keep(a, w->node);
        w->ips = pg_arena_memdup(a, &n.ip, sizeof(n.ip));
        w->services = pg_arena_memdup(a, &n.service, sizeof(n.service));
        w->services->key = keep(a, n.service.key);
        w->services->ports = v->ports;
    }
}

static void on_export(void *arg, struct pg_str name, struct pg_str version, struct pg_str bytes)
{
    struct cluster *c = arg;
    struct contrib_blob *b = pg_arena_alloc(&c->wire, sizeof(*b));
    (void)version;
    if (b == NULL) {
        die("memory");
    }
    *b = (struct contrib_blob){keep(&c->wire, name), keep(&c->wire, bytes)};
    must(pg_map_set(&c->services, b->name, b, NULL), "memory");
}

static double merge_ms(struct cluster *c, const struct contrib_peer *peers, size_t n_peers)
{
    struct merge_self self = {.cluster = c->name,
                              .network = c->name,
                              .trust_domain = PG_STR("cluster.local"),
                              .domain = PG_STR("cluster.local"),
                              .system_ns = PG_STR("istio-system")};
    struct merge_result result = {0};
    struct pg_errtext err;
    size_t problems = 0;
    uint64_t start = pg_clock_mono_ns();
    must(merge_run(&self, &c->local, peers, n_peers, c->vips, c->node, c->exported, &result, &problems, &err),
         "merge");
    double ms = since_ns(start) / 1e6;
    if (problems > 0) {
        die("merge of every resource");
    }
    merge_result_fini(&result);
    return ms;
}

static void empty_cluster(struct cluster *c)
{
    pg_map_fini(&c->services);
    pg_arena_fini(&c->wire);
    pg_arena_fini(&c->local.arena);
    vip_pool_free(c->vips);
    xds_view_free(c->node);
    xds_view_free(c->exported);
}

static void measure_merge(uint32_t services)
{
    static char ns[] = "istio-eastwest", name[] = "istio-remote", cluster[] = "west", td[] = "cluster.local",
                where[] = "r1", address[] = "192.0.2.1";
    struct peer_config config = {.ns = ns,
                                 .name = name,
                                 .cluster = cluster,
                                 .network = cluster,
                                 .trust_domain = td,
                                 .service_account = ns,
                                 .region = where,
                                 .zone = where,
                                 .addresses = {address},
                                 .n_addresses = 1,
                                 .xds_port = 15012,
                                 .hbone_port = 15008,
                                 .accepted = true};
    struct cluster west, east;
    fill_cluster(&west, cluster, services);
    fill_cluster(&east, "east", services);
    (void)merge_ms(&west, NULL, 0);
    must(xds_view_each(west.exported, XDS_TYPE_FEDERATED_SERVICE, on_export, &west), "export");
    struct contrib_peer peer = {
        .config = &config, .generation = 1, .data = PEER_DATA_FRESH, .services = &west.services};
    printf("  merge of %u global services with a peer's %zu\n", services, west.services.len);
    double heap = heap_bytes();
    printf("  %-58s %10.1f ms\n", "  first", merge_ms(&east, &peer, 1));
    printf("  %-58s %10.0f\n", "  bytes per service, both views", (heap_bytes() - heap) / services);
    printf("  %-58s %10.1f ms\n", "  again, nothing new", merge_ms(&east, &peer, 1));
    east.local.workloads[services / 2].w.health = XDS_UNHEALTHY;
    printf("  %-58s %10.1f ms\n", "  again, one pod became unhealthy", merge_ms(&east, &peer, 1));
    printf("  %-58s %10zu\n", "  resources for proxies", xds_view_count(east.node, XDS_TYPE_ADDRESS));
    empty_cluster(&west);
    empty_cluster(&east);
}

int main(void)
{
    measure_encode();
    measure_table(10000);
    measure_table(100000);
    measure_merge(10000);
    return 0;
}
