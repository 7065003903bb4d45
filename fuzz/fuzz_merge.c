/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resources of two peers, composed or raw, merged: the result does not depend on the order of the peers, and
 * all that proxies would be sent is taken by a proxy's table. One thread.
 */
#include "fuzz.h"

#include "core/map.h"
#include "merge.h"
#include "xds/codec.h"

#include <peering/table.h>

#define PEERS 2u

struct peer {
    struct peer_config config;
    struct pg_map services, workloads;
};
struct world {
    struct peer p[PEERS];
    struct pg_arena arena; /* owns the blobs */
};

static char *const clusters[PEERS] = {(char[]){"c2"}, (char[]){"c3"}};
static char *const nets[PEERS] = {(char[]){"n2"}, (char[]){"n1"}}; /* the second is flat with us */
static const char *const names[] = {"x", "y", "autogen.z", "x-y", "A", "", "w", "q.r"};

static struct pg_str name_of(uint8_t b)
{
    return pg_str_c(names[b % 8]);
}

static void start(struct world *w)
{
    static char ns[] = "istio-eastwest", gw[] = "istio-remote-peer", sa[] = "eastwest", td[] = "td",
                none[] = "", address[] = "192.0.2.1";
    pg_arena_init(&w->arena, 1u << 26);
    for (size_t i = 0; i < PEERS; i++) {
        w->p[i].config = (struct peer_config){.ns = ns,
                                              .name = gw,
                                              .cluster = clusters[i],
                                              .network = nets[i],
                                              .trust_domain = td,
                                              .service_account = sa,
                                              .region = none,
                                              .zone = none,
                                              .addresses = {address},
                                              .n_addresses = 1,
                                              .xds_port = 15012,
                                              .hbone_port = 15008,
                                              .accepted = true};
        pg_map_init(&w->p[i].services, 1000);
        pg_map_init(&w->p[i].workloads, 1000);
    }
}

static void add(struct world *w, struct pg_map *to, struct pg_str name, struct pg_str bytes)
{
    struct contrib_blob *b = pg_arena_calloc(&w->arena, 1, sizeof(*b));
    char *n = pg_arena_strndup(&w->arena, name.p ? name.p : "", name.len);
    char *v = pg_arena_memdup(&w->arena, bytes.p ? bytes.p : "", bytes.len + (bytes.p == NULL));
    PG_BUG_ON(b == NULL || n == NULL || v == NULL);
    *b = (struct contrib_blob){{n, name.len}, {v, bytes.len}};
    PG_BUG_ON(pg_map_set(to, b->name, b, NULL) < 0);
}

static void add_service(struct world *w, struct peer *p, struct pg_str *in)
{
    uint8_t b = fuzz_u8(in), c = fuzz_u8(in);
    struct xds_port ports[2] = {{80, 8080, 0}, {(uint16_t)(1 + c), 0, 1}};
    struct pg_str sans[2] = {PG_STR("spiffe://td/ns/a/sa/x"), PG_STR("spiffe://other/ns/a/sa/x")};
    struct xds_fed_capacity cap[2] = {{pg_str_c(p->config.network), c & 7, c & 15},
                                      {PG_STR("n9"), 1, c >> 4}};
    const struct xds_fed_service s = {.name = name_of(b),
                                      .ns = name_of(b >> 3),
                                      .hostname = PG_STR("x.y.svc.cluster.local"),
                                      .scope = (enum xds_fed_scope)(1 + b % 3),
                                      .segment = c & 1 ? PG_STR("blue") : PG_STR_NONE,
                                      .distribution = (enum xds_fed_distribution)(b >> 6),
                                      .ports = ports,
                                      .n_ports = c >> 6 & 1 ? 2 : 1,
                                      .sans = sans,
                                      .n_sans = c >> 4 & 3 ? 2 : 0,
                                      .capacity = cap,
                                      .n_capacity = c >> 7 ? 2 : 1};
    struct pg_sb sb, name;
    pg_sb_init(&sb, 1u << 16);
    pg_sb_init(&name, 256);
    pg_sb_fmt(&name, "%.*s/%.*s", PG_STR_ARG(s.ns), PG_STR_ARG(s.name));
    PG_BUG_ON(xds_fed_service_encode(&s, &sb) < 0);
    add(w, &p->services, pg_sb_view(&name), pg_sb_view(&sb));
    pg_sb_fini(&sb);
    pg_sb_fini(&name);
}

static void add_workload(struct world *w, struct peer *p, struct pg_str *in)
{
    uint8_t b = fuzz_u8(in), c = fuzz_u8(in);
    struct pg_ip ip = {.len = 4, .b = {10, 0, 0, c}};
    struct xds_port ports[1] = {{80, 8080, 0}};
    struct xds_workload_service services[1] = {
        {c & 1 ? PG_STR("x/x.y.svc.cluster.local") : PG_STR("x/x"), ports, 1}};
    struct xds_address a = {.kind = XDS_ADDRESS_WORKLOAD};
    struct pg_sb sb, uid;
    pg_sb_init(&sb, 1u << 16);
    pg_sb_init(&uid, 256);
    pg_sb_fmt(&uid, "%s//Pod/x/%u", c & 2 ? p->config.cluster : "c9", b & 15u);
    a.u.workload = (struct xds_workload){.uid = pg_sb_view(&uid),
                                         .name = name_of(b >> 4),
                                         .ns = name_of(c >> 5),
                                         .network = c & 4 ? PG_STR("n1") : PG_STR("n2"),
                                         .trust_domain = c & 8 ? PG_STR("td") : PG_STR("else"),
                                         .tunnel = XDS_TUNNEL_HBONE,
                                         .health = c & 16 ? XDS_UNHEALTHY : XDS_HEALTHY,
                                         .ips = &ip,
                                         .n_ips = b >> 7 ? 0 : 1,
                                         .services = services,
                                         .n_services = 1};
    PG_BUG_ON(xds_address_encode(&a, &sb) < 0);
    add(w, &p->workloads, pg_sb_view(&uid), pg_sb_view(&sb));
    pg_sb_fini(&sb);
    pg_sb_fini(&uid);
}

static void put_address(void *arg, struct pg_str name, struct pg_str version, struct pg_str bytes)
{
    peering_text why = {{0}};
    (void)version;
    PG_BUG_ON(peering_table_put(arg, PEERING_KIND_ADDRESS, (peering_str){name.p, name.len}, bytes.p,
                                bytes.len, &why) < 0);
}

static void check_node(const struct xds_view *node)
{
    peering_table *t;
    peering_snapshot *s;
    PG_BUG_ON(peering_table_new(&t) < 0);
    PG_BUG_ON(xds_view_each(node, XDS_TYPE_ADDRESS, put_address, t) < 0);
    PG_BUG_ON(peering_table_snapshot(t, &s) < 0);
    peering_snapshot_unref(s);
    peering_table_free(t);
}

/* The digest of the node view with the peers in the order first, second. */
static uint64_t merge(const struct world *w, const enum peer_data *data, size_t first, bool check)
{
    static const struct merge_self self = {.cluster = {"c1", 2},
                                           .network = {"n1", 2},
                                           .trust_domain = {"cluster.local", 13},
                                           .domain = {"cluster.local", 13},
                                           .system_ns = {"istio-system", 12},
                                           .flat_enabled = true};
    struct contrib_local local = {.segment = PG_STR("blue")};
    struct contrib_peer peers[PEERS];
    struct vip_pool *vips;
    struct xds_view *node, *exported;
    struct merge_result result = {.n_globals = 0};
    struct pg_errtext err = {{0}};
    size_t problems = 0;
    for (size_t i = 0; i < PEERS; i++) {
        size_t k = (first + i) % PEERS;
        peers[i] = (struct contrib_peer){.config = &w->p[k].config, .generation = k + 1, .data = data[k]};
        peers[i].services = (struct pg_map *)(uintptr_t)&w->p[k].services;
        peers[i].workloads = (struct pg_map *)(uintptr_t)&w->p[k].workloads;
    }
    pg_arena_init(&local.arena, 1u << 20);
    PG_BUG_ON(vip_pool_new(&vips) < 0 || xds_view_new(10000, &node) < 0 ||
              xds_view_new(10000, &exported) < 0);
    PG_BUG_ON(merge_run(&self, &local, peers, PEERS, vips, node, exported, &result, &problems, &err) < 0);
    uint64_t digest = xds_view_digest(node) * 31 + xds_view_digest(exported);
    for (size_t i = 0; i < result.n_globals; i++) {
        PG_BUG_ON(result.globals[i].n_clusters == 0 || result.globals[i].hostname.len == 0);
    }
    if (check) {
        check_node(node);
    }
    merge_result_fini(&result);
    vip_pool_free(vips);
    xds_view_free(node);
    xds_view_free(exported);
    pg_arena_fini(&local.arena);
    return digest;
}

static void one(struct pg_str in)
{
    static struct world world;
    struct world *w = &world;
    uint8_t states = fuzz_u8(&in);
    const enum peer_data data[PEERS] = {(enum peer_data)(states & 3), (enum peer_data)(states >> 2 & 3)};
    start(w);
    while (in.len > 0) {
        uint8_t op = fuzz_u8(&in);
        struct peer *p = &w->p[op & 1];
        if (op % 8 < 4) {
            add_service(w, p, &in);
        } else if (op % 8 < 6) {
            add_workload(w, p, &in);
        } else {
            struct pg_str name = fuzz_take(&in, op >> 5);
            add(w, op & 8 ? &p->services : &p->workloads, name, fuzz_text(&in));
        }
    }
    uint64_t a = merge(w, data, 0, true), b = merge(w, data, 1, false);
    PG_BUG_ON(a != b);
    for (size_t i = 0; i < PEERS; i++) {
        pg_map_fini(&w->p[i].services);
        pg_map_fini(&w->p[i].workloads);
    }
    pg_arena_fini(&w->arena);
}
FUZZ_TARGET(one, fuzz_no_init)
