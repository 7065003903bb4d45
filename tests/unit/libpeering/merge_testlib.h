/* SPDX-License-Identifier: Apache-2.0 */
/* Clusters made by hand for the merge tests: local services and pods, what they export, and what they see of
 * each other. */
#ifndef ISTHMUS_MERGE_TESTLIB_H
#define ISTHMUS_MERGE_TESTLIB_H

#include "core/map.h"
#include "libpeering/src/merge.h"
#include "testlib.h"

#define T_SERVICES 16
#define T_PODS 64

struct cluster {
    char name[16], network[16], trust_domain[32];
    bool flat;
    struct contrib_local local;
    struct contrib_service services[T_SERVICES];
    struct contrib_workload pods[T_PODS];
    struct vip_pool *vips;
    struct xds_view *node, *exported;
    struct merge_result result;
    size_t problems;
    /* What peers take from it, as received. */
    struct pg_arena wire;
    struct pg_map wire_services, wire_workloads;
    struct peer_config config; /* how the others describe it */
};

static inline struct pg_str t_str(struct cluster *c, const char *z)
{
    const char *p = pg_arena_strndup(&c->local.arena, z, strlen(z));
    return pg_str_n(p, strlen(z));
}

static inline void t_cluster(struct cluster *c, const char *name, const char *network)
{
    *c = (struct cluster){.flat = true};
    (void)snprintf(c->name, sizeof(c->name), "%s", name);
    (void)snprintf(c->network, sizeof(c->network), "%s", network);
    (void)snprintf(c->trust_domain, sizeof(c->trust_domain), "td-%s", name);
    pg_arena_init(&c->local.arena, SIZE_MAX);
    pg_arena_init(&c->wire, SIZE_MAX);
    pg_map_init(&c->wire_services, 1000000);
    pg_map_init(&c->wire_workloads, 1000000);
    c->local.services = c->services;
    c->local.workloads = c->pods;
    CU_ASSERT_EQUAL_FATAL(vip_pool_new(&c->vips), 0);
    CU_ASSERT_EQUAL_FATAL(xds_view_new(1000000, &c->node), 0);
    CU_ASSERT_EQUAL_FATAL(xds_view_new(1000000, &c->exported), 0);
    static char gw_ns[] = "istio-eastwest", gw_name[] = "istio-remote", gw_sa[] = "istio-eastwest",
                region[] = "r1", zone[] = "z1", address[] = "192.0.2.1";
    c->config = (struct peer_config){.ns = gw_ns,
                                     .name = gw_name,
                                     .cluster = c->name,
                                     .network = c->network,
                                     .trust_domain = c->trust_domain,
                                     .service_account = gw_sa,
                                     .region = region,
                                     .zone = zone,
                                     .addresses = {address},
                                     .n_addresses = 1,
                                     .xds_port = 15012,
                                     .hbone_port = 15008,
                                     .accepted = true};
}

static inline void t_drop_local(struct cluster *c)
{
    c->local.n_services = 0;
    c->local.n_workloads = 0;
}

static inline void t_fini(struct cluster *c)
{
    merge_result_fini(&c->result);
    pg_map_fini(&c->wire_services);
    pg_map_fini(&c->wire_workloads);
    pg_arena_fini(&c->wire);
    pg_arena_fini(&c->local.arena);
    vip_pool_free(c->vips);
    xds_view_free(c->node);
    xds_view_free(c->exported);
}

static inline struct contrib_service *t_service(struct cluster *c, const char *ns, const char *name,
                                                enum xds_fed_scope scope)
{
    char host[128];
    CU_ASSERT_FATAL(c->local.n_services < T_SERVICES);
    struct contrib_service *s = &c->services[c->local.n_services++];
    (void)snprintf(host, sizeof(host), "%s.%s.svc.cluster.local", name, ns);
    *s = (struct contrib_service){.scope = scope};
    s->svc.name = t_str(c, name);
    s->svc.ns = t_str(c, ns);
    s->svc.hostname = t_str(c, host);
    s->svc.canonical = true;
    s->svc.ports = pg_arena_calloc(&c->local.arena, 1, sizeof(struct xds_port));
    s->svc.ports[0] = (struct xds_port){5000, 8080, XDS_APP_HTTP11};
    s->svc.n_ports = 1;
    return s;
}

/* A healthy pod of one service; its service account is its name. */
static inline struct xds_workload *t_pod(struct cluster *c, const struct contrib_service *s, const char *name)
{
    char text[256];
    CU_ASSERT_FATAL(c->local.n_workloads < T_PODS);
    struct xds_workload *w = &c->pods[c->local.n_workloads++].w;
    *w = (struct xds_workload){.ns = s->svc.ns, .type = XDS_POD, .tunnel = XDS_TUNNEL_HBONE};
    (void)snprintf(text, sizeof(text), "%s//Pod/%.*s/%s", c->name, PG_STR_ARG(s->svc.ns), name);
    w->uid = t_str(c, text);
    w->name = t_str(c, name);
    w->service_account = w->name;
    w->network = pg_str_c(c->network);
    w->trust_domain = pg_str_c(c->trust_domain);
    w->cluster_id = pg_str_c(c->name);
    w->ips = pg_arena_calloc(&c->local.arena, 1, sizeof(struct pg_ip));
    w->ips[0] = (struct pg_ip){.len = 4, .b = {10, (uint8_t)c->name[0], 0, (uint8_t)c->local.n_workloads}};
    w->n_ips = 1;
    w->services = pg_arena_calloc(&c->local.arena, 2, sizeof(struct xds_workload_service));
    (void)snprintf(text, sizeof(text), "%.*s/%.*s", PG_STR_ARG(s->svc.ns), PG_STR_ARG(s->svc.hostname));
    w->services[0].key = t_str(c, text);
    w->services[0].ports = pg_arena_calloc(&c->local.arena, 1, sizeof(struct xds_port));
    w->services[0].ports[0] = (struct xds_port){5000, 8080, 0};
    w->services[0].n_ports = 1;
    w->n_services = 1;
    return w;
}

static inline void t_remember(struct pg_map *map, struct pg_arena *a, struct pg_str name, struct pg_str bytes)
{
    struct contrib_blob *b = pg_arena_alloc(a, sizeof(*b));
    b->name = pg_str_n(pg_arena_strndup(a, name.p, name.len), name.len);
    b->bytes = pg_str_n(pg_arena_strndup(a, bytes.p, bytes.len), bytes.len);
    CU_ASSERT_EQUAL(pg_map_set(map, b->name, b, NULL), 0);
}
static inline void t_take_service(void *arg, struct pg_str name, struct pg_str version, struct pg_str bytes)
{
    struct cluster *c = arg;
    (void)version;
    t_remember(&c->wire_services, &c->wire, name, bytes);
}
static inline void t_take_workload(void *arg, struct pg_str name, struct pg_str version, struct pg_str bytes)
{
    struct cluster *c = arg;
    (void)version;
    t_remember(&c->wire_workloads, &c->wire, name, bytes);
}

static inline struct merge_self t_self(const struct cluster *c)
{
    return (struct merge_self){.cluster = pg_str_c(c->name),
                               .network = pg_str_c(c->network),
                               .trust_domain = pg_str_c(c->trust_domain),
                               .domain = PG_STR("cluster.local"),
                               .system_ns = PG_STR("istio-system"),
                               .region = PG_STR("r0"),
                               .zone = PG_STR("z0"),
                               .flat_enabled = c->flat};
}

static inline int t_try_merge(struct cluster *c, const struct contrib_peer *peers, size_t n)
{
    struct merge_self self = t_self(c);
    struct merge_result r = {0};
    struct pg_errtext err;
    int code = merge_run(&self, &c->local, peers, n, c->vips, c->node, c->exported, &r, &c->problems, &err);
    if (code == 0) {
        merge_result_fini(&c->result);
        c->result = r;
    }
    return code;
}
static inline void t_merge(struct cluster *c, const struct contrib_peer *peers, size_t n)
{
    CU_ASSERT_EQUAL_FATAL(t_try_merge(c, peers, n), 0);
}

/* Merges alone and hands what it exports to its peers. */
static inline void t_publish(struct cluster *c)
{
    t_merge(c, NULL, 0);
    pg_map_fini(&c->wire_services);
    pg_map_fini(&c->wire_workloads);
    pg_arena_fini(&c->wire);
    pg_map_init(&c->wire_services, 1000000);
    pg_map_init(&c->wire_workloads, 1000000);
    CU_ASSERT_EQUAL(xds_view_each(c->exported, XDS_TYPE_FEDERATED_SERVICE, t_take_service, c), 0);
    CU_ASSERT_EQUAL(xds_view_each(c->exported, XDS_TYPE_ADDRESS, t_take_workload, c), 0);
}

static inline struct contrib_peer t_peer(struct cluster *c, enum peer_data data)
{
    return (struct contrib_peer){.config = &c->config,
                                 .generation = 1,
                                 .data = data,
                                 .services = &c->wire_services,
                                 .workloads = &c->wire_workloads};
}

/* One resource of the node view, decoded; NULL when it is not there. */
struct t_find {
    struct pg_str name;
    struct pg_arena *arena;
    struct xds_address *found;
};
static inline void t_find_one(void *arg, struct pg_str name, struct pg_str version, struct pg_str bytes)
{
    struct t_find *f = arg;
    struct pg_errtext err;
    (void)version;
    if (pg_str_eq(name, f->name)) {
        f->found = pg_arena_calloc(f->arena, 1, sizeof(*f->found));
        CU_ASSERT_EQUAL(xds_address_decode(bytes, f->arena, f->found, &err), 0);
    }
}
static inline struct xds_address *t_find(struct cluster *c, const struct xds_view *v, const char *name)
{
    struct t_find f = {.name = pg_str_c(name), .arena = &c->wire};
    CU_ASSERT_EQUAL(xds_view_each(v, XDS_TYPE_ADDRESS, t_find_one, &f), 0);
    return f.found;
}
static inline const struct xds_workload_service *t_key(const struct xds_address *a, const char *key)
{
    for (size_t i = 0; a != NULL && i < a->u.workload.n_services; i++) {
        if (pg_str_eq_c(a->u.workload.services[i].key, key)) {
            return &a->u.workload.services[i];
        }
    }
    return NULL;
}
static inline bool t_has_san(const struct xds_address *a, const char *san)
{
    for (size_t i = 0; a != NULL && i < a->u.service.n_sans; i++) {
        if (pg_str_eq_c(a->u.service.sans[i], san)) {
            return true;
        }
    }
    return false;
}

#endif
