/* SPDX-License-Identifier: Apache-2.0 */
/*
 * WDS: istio.workload.Address, Workload and Service. Invariants: what ztunnel would refuse is refused, for
 * the same reasons, and in addition ports that do not fit; an encoder never emits what the decoder refuses;
 * equal structs, equal bytes. Any thread.
 */
#include "core/map.h"
#include "xds/codec_mem.h"
#include "xds/wire.h"

#include "workload.pb-c.h"

#include <stdlib.h>

/* Where things go and who hears of failure; handed down instead of two arguments everywhere. */
struct copier {
    struct pg_arena *arena;
    struct pg_errtext *err;
};

/* PG_E_PARSE unless 0 <= v <= max. */
static int known_enum(const struct copier *c, int v, int max, const char *what)
{
    if (v < 0 || v > max) {
        pg_err_set(c->err, "unknown %s %d", what, v);
        return PG_E_PARSE;
    }
    return 0;
}

static int copy_net_addr(const struct copier *c, const Istio__Workload__NetworkAddress *in,
                         struct xds_net_addr *out)
{
    struct xds_net_addr a = {0};
    bool has_length = in->prefix_case == ISTIO__WORKLOAD__NETWORK_ADDRESS__PREFIX_LENGTH;
    int r = xds_copy_str(c->arena, &in->network, "network", &a.network, c->err);
    if (r == 0) {
        r = xds_copy_ip(&in->address, has_length, has_length ? in->length : 0, &a.ip, &a.bits, c->err);
    }
    if (r == 0) {
        *out = a;
    }
    return r;
}

static int copy_gateway(const struct copier *c, const Istio__Workload__GatewayAddress *in, const char *what,
                        struct xds_gateway *out)
{
    if (in == NULL) {
        return 0;
    }
    int r = xds_copy_port(in->hbone_mtls_port, "gateway port", &out->hbone_port, c->err);
    if (r < 0) {
        return r;
    }
    switch (in->destination_case) {
    case ISTIO__WORKLOAD__GATEWAY_ADDRESS__DESTINATION_HOSTNAME:
        out->kind = XDS_GATEWAY_HOSTNAME;
        r = xds_copy_str(c->arena, &in->hostname->namespace_, "gateway namespace", &out->ns, c->err);
        return r < 0 ? r
                     : xds_copy_str(c->arena, &in->hostname->hostname, "gateway hostname", &out->hostname,
                                    c->err);
    case ISTIO__WORKLOAD__GATEWAY_ADDRESS__DESTINATION_ADDRESS:
        out->kind = XDS_GATEWAY_ADDRESS;
        return copy_net_addr(c, in->address, &out->address);
    default:
        pg_err_set(c->err, "%s without destination", what);
        return PG_E_PARSE;
    }
}

static int copy_ports(const struct copier *c, Istio__Workload__Port *const *in, size_t n,
                      struct xds_port **out, size_t *n_out)
{
    if (n == 0) {
        return 0;
    }
    struct xds_port *all = xds_copy_array(c->arena, n, sizeof(*all), c->err);
    if (all == NULL) {
        return PG_E_NOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        int r = xds_copy_port(in[i]->service_port, "service port", &all[i].service_port, c->err);
        if (r == 0) {
            r = xds_copy_port(in[i]->target_port, "target port", &all[i].target_port, c->err);
        }
        if (r < 0) {
            return r;
        }
        /* A hint only: one we do not know reads as no hint. */
        int app = (int)in[i]->app_protocol;
        all[i].app_protocol = app > 0 && app <= XDS_APP_TLS ? (uint8_t)app : XDS_APP_UNKNOWN;
    }
    *out = all;
    *n_out = n;
    return 0;
}

static int by_key(const void *a, const void *b)
{
    const struct xds_workload_service *x = a;
    const struct xds_workload_service *y = b;
    return pg_str_cmp(x->key, y->key);
}

/* The map of services: sorted by key; of entries with one key the last on the wire counts. */
static int copy_services(const struct copier *c, const Istio__Workload__Workload *in,
                         struct xds_workload *out)
{
    size_t n = in->n_services;
    if (n == 0) {
        return 0;
    }
    struct xds_workload_service *all = xds_copy_array(c->arena, n, sizeof(*all), c->err);
    struct pg_map seen;
    int r = all != NULL ? 0 : PG_E_NOMEM;
    size_t kept = 0;
    pg_map_init(&seen, n);
    for (size_t i = 0; r == 0 && i < n; i++) {
        struct xds_workload_service s = {0};
        const Istio__Workload__Workload__ServicesEntry *e = in->services[i];
        r = xds_copy_str(c->arena, &e->key, "service key", &s.key, c->err);
        if (r == 0 && pg_str_chr(s.key, '/') < 0) {
            pg_err_set(c->err, "service key \"%.*s\" without '/'", PG_STR_ARG(s.key));
            r = PG_E_PARSE;
        }
        if (r == 0 && e->value != NULL) {
            r = copy_ports(c, e->value->ports, e->value->n_ports, &s.ports, &s.n_ports);
        }
        if (r == 0) {
            struct xds_workload_service *at = pg_map_get(&seen, s.key);
            if (at != NULL) {
                at->ports = s.ports;
                at->n_ports = s.n_ports;
            } else {
                all[kept] = s;
                r = pg_map_set(&seen, all[kept].key, &all[kept], NULL);
                kept++;
            }
        }
    }
    pg_map_fini(&seen);
    if (r == 0) {
        qsort(all, kept, sizeof(*all), by_key);
        out->services = all;
        out->n_services = kept;
    }
    return r;
}

static int copy_ips(const struct copier *c, const Istio__Workload__Workload *in, struct xds_workload *out)
{
    if (in->n_addresses == 0) {
        return 0;
    }
    out->ips = xds_copy_array(c->arena, in->n_addresses, sizeof(*out->ips), c->err);
    if (out->ips == NULL) {
        return PG_E_NOMEM;
    }
    out->n_ips = in->n_addresses;
    for (size_t i = 0; i < in->n_addresses; i++) {
        int r = xds_copy_ip(&in->addresses[i], false, 0, &out->ips[i], NULL, c->err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int copy_workload_enums(const struct copier *c, const Istio__Workload__Workload *in,
                               struct xds_workload *out)
{
    int tunnel = (int)in->tunnel_protocol;
    if (tunnel < 0 || tunnel > (int)XDS_TUNNEL_HBONE) {
        pg_err_set(c->err, "unsupported tunnel protocol %d", tunnel);
        return PG_E_PARSE;
    }
    int r = known_enum(c, (int)in->status, XDS_UNHEALTHY, "workload status");
    if (r == 0) {
        r = known_enum(c, (int)in->network_mode, XDS_NETWORK_HOST, "network mode");
    }
    if (r < 0) {
        return r;
    }
    int type = (int)in->workload_type;
    out->tunnel = (enum xds_tunnel)tunnel;
    out->health = (enum xds_health)in->status;
    out->network_mode = (enum xds_network_mode)in->network_mode;
    out->type = type >= 0 && type <= (int)XDS_JOB ? (enum xds_workload_type)type : XDS_DEPLOYMENT;
    out->native_tunnel = in->native_tunnel != 0;
    return 0;
}

static int copy_app_tunnel(const struct copier *c, const Istio__Workload__ApplicationTunnel *in,
                           struct xds_workload *out)
{
    if (in == NULL) {
        return 0;
    }
    int r = known_enum(c, (int)in->protocol, 1, "application tunnel protocol");
    if (r == 0) {
        out->app_tunnel_protocol = (uint8_t)in->protocol;
        r = xds_copy_port(in->port, "application tunnel port", &out->app_tunnel_port, c->err);
    }
    return r;
}

#define WORKLOAD_STRING(pb, ours, text)                                                                      \
    {                                                                                                        \
        offsetof(Istio__Workload__Workload, pb), offsetof(struct xds_workload, ours), text                   \
    }
static const struct xds_string_field workload_strings[] = {
    WORKLOAD_STRING(uid, uid, "uid"),
    WORKLOAD_STRING(name, name, "name"),
    WORKLOAD_STRING(namespace_, ns, "namespace"),
    WORKLOAD_STRING(network, network, "network"),
    WORKLOAD_STRING(trust_domain, trust_domain, "trust domain"),
    WORKLOAD_STRING(service_account, service_account, "service account"),
    WORKLOAD_STRING(node, node, "node"),
    WORKLOAD_STRING(hostname, hostname, "hostname"),
    WORKLOAD_STRING(canonical_name, canonical_name, "canonical name"),
    WORKLOAD_STRING(canonical_revision, canonical_revision, "canonical revision"),
    WORKLOAD_STRING(workload_name, workload_name, "workload name"),
    WORKLOAD_STRING(cluster_id, cluster_id, "cluster id"),
};
#define LOCALITY_STRING(f)                                                                                   \
    {                                                                                                        \
        offsetof(Istio__Workload__Locality, f), offsetof(struct xds_locality, f), "locality " #f             \
    }
static const struct xds_string_field locality_strings[] = {
    LOCALITY_STRING(region),
    LOCALITY_STRING(zone),
    LOCALITY_STRING(subzone),
};

static void workload_defaults(struct xds_workload *w)
{
    if (w->trust_domain.len == 0) {
        w->trust_domain = PG_STR("cluster.local");
    }
    if (w->service_account.len == 0) {
        w->service_account = PG_STR("default");
    }
    if (w->cluster_id.len == 0) {
        w->cluster_id = PG_STR("Kubernetes");
    }
}

static int copy_workload(const struct copier *c, const Istio__Workload__Workload *in,
                         struct xds_workload *out)
{
    struct xds_workload w = {0};
    int r = xds_copy_table(c->arena, workload_strings, PG_ARRAY_LEN(workload_strings), in, &w, c->err);
    if (r == 0) {
        r = copy_workload_enums(c, in, &w);
    }
    if (r == 0) {
        r = copy_ips(c, in, &w);
    }
    if (r == 0) {
        r = copy_gateway(c, in->waypoint, "waypoint", &w.waypoint);
    }
    if (r == 0) {
        r = copy_gateway(c, in->network_gateway, "network gateway", &w.network_gateway);
    }
    if (r == 0) {
        r = xds_copy_strs(c->arena, in->authorization_policies, in->n_authorization_policies, "policy name",
                          &w.policies, &w.n_policies, c->err);
    }
    if (r == 0) {
        r = copy_services(c, in, &w);
    }
    if (r == 0) {
        r = copy_app_tunnel(c, in->application_tunnel, &w);
    }
    if (r == 0 && in->locality != NULL) {
        r = xds_copy_table(c->arena, locality_strings, PG_ARRAY_LEN(locality_strings), in->locality,
                           &w.locality, c->err);
    }
    if (r < 0) {
        return r;
    }
    w.has_capacity = in->capacity != NULL;
    w.capacity = in->capacity != NULL ? in->capacity->value : 1;
    workload_defaults(&w);
    *out = w;
    return 0;
}

static int copy_lb(const struct copier *c, const Istio__Workload__LoadBalancing *in, struct xds_service *out)
{
    if (in == NULL) {
        return 0;
    }
    if (in->n_routing_preference > PG_ARRAY_LEN(out->lb_scopes)) {
        pg_err_set(c->err, "%zu routing preferences, more than %zu", in->n_routing_preference,
                   PG_ARRAY_LEN(out->lb_scopes));
        return PG_E_LIMIT;
    }
    int r = known_enum(c, (int)in->mode, XDS_LB_PASSTHROUGH, "load balancing mode");
    if (r == 0) {
        r = known_enum(c, (int)in->health_policy, XDS_ALLOW_ALL, "health policy");
    }
    for (size_t i = 0; r == 0 && i < in->n_routing_preference; i++) {
        int scope = (int)in->routing_preference[i];
        if (scope == 0) {
            pg_err_set(c->err, "unspecified routing preference");
            return PG_E_PARSE;
        }
        r = known_enum(c, scope, XDS_SCOPE_NETWORK, "routing preference");
        out->lb_scopes[i] = (uint8_t)scope;
    }
    if (r == 0) {
        out->has_lb = true;
        out->n_lb_scopes = in->n_routing_preference;
        out->lb_mode = (enum xds_lb_mode)in->mode;
        out->health_policy = (enum xds_health_policy)in->health_policy;
    }
    return r;
}

static int copy_addresses(const struct copier *c, const Istio__Workload__Service *in, struct xds_service *out)
{
    if (in->n_addresses == 0) {
        return 0;
    }
    out->addresses = xds_copy_array(c->arena, in->n_addresses, sizeof(*out->addresses), c->err);
    if (out->addresses == NULL) {
        return PG_E_NOMEM;
    }
    out->n_addresses = in->n_addresses;
    for (size_t i = 0; i < in->n_addresses; i++) {
        int r = copy_net_addr(c, in->addresses[i], &out->addresses[i]);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

#define SERVICE_STRING(pb, ours, text)                                                                       \
    {                                                                                                        \
        offsetof(Istio__Workload__Service, pb), offsetof(struct xds_service, ours), text                     \
    }
static const struct xds_string_field service_strings[] = {
    SERVICE_STRING(name, name, "name"),
    SERVICE_STRING(namespace_, ns, "namespace"),
    SERVICE_STRING(hostname, hostname, "hostname"),
};

static int copy_weighted(const struct copier *c, const Istio__Workload__Service *in, struct xds_service *out)
{
    size_t n = in->n_weighted_waypoints;
    if (n == 0) {
        return 0;
    }
    struct xds_weighted_waypoint *all = xds_copy_array(c->arena, n, sizeof(*all), c->err);
    int r = all != NULL ? 0 : PG_E_NOMEM;
    for (size_t i = 0; r == 0 && i < n; i++) {
        if (in->weighted_waypoints[i]->destination == NULL) {
            pg_err_set(c->err, "weighted waypoint without destination");
            return PG_E_PARSE;
        }
        all[i].weight = in->weighted_waypoints[i]->weight;
        r = copy_gateway(c, in->weighted_waypoints[i]->destination, "weighted waypoint", &all[i].destination);
    }
    if (r == 0) {
        out->weighted_waypoints = all;
        out->n_weighted_waypoints = n;
    }
    return r;
}

static int copy_service(const struct copier *c, const Istio__Workload__Service *in, struct xds_service *out)
{
    struct xds_service s = {0};
    int r = xds_copy_table(c->arena, service_strings, PG_ARRAY_LEN(service_strings), in, &s, c->err);
    if (r == 0) {
        r = copy_addresses(c, in, &s);
    }
    if (r == 0) {
        r = copy_ports(c, in->ports, in->n_ports, &s.ports, &s.n_ports);
    }
    if (r == 0) {
        r = xds_copy_strs(c->arena, in->subject_alt_names, in->n_subject_alt_names, "subject alt name",
                          &s.sans, &s.n_sans, c->err);
    }
    if (r == 0) {
        r = copy_gateway(c, in->waypoint, "waypoint", &s.waypoint);
    }
    if (r == 0) {
        r = copy_weighted(c, in, &s);
    }
    if (r == 0) {
        r = copy_lb(c, in->load_balancing, &s);
    }
    if (r == 0) {
        r = known_enum(c, (int)in->ip_families, XDS_IP_DUAL, "IP families");
    }
    if (r < 0) {
        return r;
    }
    s.ip_families = (enum xds_ip_families)in->ip_families;
    s.canonical = in->canonical != 0;
    s.visibility =
        (int)in->visibility == XDS_VISIBILITY_NAMESPACE ? XDS_VISIBILITY_NAMESPACE : XDS_VISIBILITY_PUBLIC;
    *out = s;
    return 0;
}

int xds_workload_decode(struct pg_str bytes, struct pg_arena *arena, struct xds_workload *out,
                        struct pg_errtext *err)
{
    struct xds_scratch scratch;
    const struct copier c = {arena, err};
    int r = 0;
    const Istio__Workload__Workload *m =
        xds_scratch_unpack(&scratch, &istio__workload__workload__descriptor, bytes, &r, err);
    if (m != NULL) {
        r = copy_workload(&c, m, out);
    }
    xds_scratch_fini(&scratch);
    return r;
}

int xds_address_decode(struct pg_str bytes, struct pg_arena *arena, struct xds_address *out,
                       struct pg_errtext *err)
{
    struct xds_scratch scratch;
    const struct copier c = {arena, err};
    int r = 0;
    struct xds_address a = {0};
    const Istio__Workload__Address *m =
        xds_scratch_unpack(&scratch, &istio__workload__address__descriptor, bytes, &r, err);
    if (m != NULL && m->type_case == ISTIO__WORKLOAD__ADDRESS__TYPE_WORKLOAD) {
        a.kind = XDS_ADDRESS_WORKLOAD;
        r = copy_workload(&c, m->workload, &a.u.workload);
    } else if (m != NULL && m->type_case == ISTIO__WORKLOAD__ADDRESS__TYPE_SERVICE) {
        a.kind = XDS_ADDRESS_SERVICE;
        r = copy_service(&c, m->service, &a.u.service);
    } else if (m != NULL) {
        pg_err_set(err, "address with neither workload nor service");
        r = PG_E_PARSE;
    }
    if (r == 0) {
        *out = a;
    }
    xds_scratch_fini(&scratch);
    return r;
}

/* --- encoding
 * ------------------------------------------------------------------------------------------------- */

static struct pg_str ip_bytes(const struct pg_ip *ip)
{
    return pg_str_n((const char *)ip->b, ip->len);
}

static void put_net_addr(struct pg_sb *out, uint32_t number, const struct xds_net_addr *a)
{
    size_t at = xds_put_open(out, number);
    xds_put_bytes(out, 1, a->network);
    xds_put_bytes(out, 2, ip_bytes(&a->ip));
    if (a->bits != a->ip.len * 8) {
        xds_put_entry_uint(out, 3, a->bits); /* zero bits is a prefix too */
    }
    xds_put_close(out, at);
}

static void put_gateway(struct pg_sb *out, uint32_t number, const struct xds_gateway *g)
{
    if (g->kind == XDS_GATEWAY_NONE) {
        return;
    }
    size_t at = xds_put_open(out, number);
    if (g->kind == XDS_GATEWAY_HOSTNAME) {
        size_t host = xds_put_open(out, 1);
        xds_put_bytes(out, 1, g->ns);
        xds_put_bytes(out, 2, g->hostname);
        xds_put_close(out, host);
    } else {
        put_net_addr(out, 2, &g->address);
    }
    xds_put_uint(out, 3, g->hbone_port);
    xds_put_close(out, at);
}

static void put_ports(struct pg_sb *out, uint32_t number, const struct xds_port *ports, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t at = xds_put_open(out, number);
        xds_put_uint(out, 1, ports[i].service_port);
        xds_put_uint(out, 2, ports[i].target_port);
        xds_put_uint(out, 3, ports[i].app_protocol);
        xds_put_close(out, at);
    }
}

static void put_strs(struct pg_sb *out, uint32_t number, const struct pg_str *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        xds_put_entry(out, number, s[i]);
    }
}

static int by_key_ref(const void *a, const void *b)
{
    return by_key(*(const struct xds_workload_service *const *)a,
                  *(const struct xds_workload_service *const *)b);
}

/* In key order whatever the order of the array is. */
static void put_services(struct pg_sb *out, const struct xds_workload *w)
{
    if (w->n_services == 0) {
        return;
    }
    const struct xds_workload_service **order = pg_calloc(w->n_services, sizeof(*order));
    if (order == NULL) {
        out->err = out->err != 0 ? out->err : PG_E_NOMEM;
        return;
    }
    for (size_t i = 0; i < w->n_services; i++) {
        order[i] = &w->services[i];
    }
    qsort(order, w->n_services, sizeof(*order), by_key_ref);
    for (size_t i = 0; i < w->n_services; i++) {
        size_t at = xds_put_open(out, 22);
        xds_put_bytes(out, 1, order[i]->key);
        size_t list = xds_put_open(out, 2);
        put_ports(out, 1, order[i]->ports, order[i]->n_ports);
        xds_put_close(out, list);
        xds_put_close(out, at);
    }
    pg_free(order);
}

static void put_app_tunnel(struct pg_sb *out, const struct xds_workload *w)
{
    if (w->app_tunnel_protocol == 0 && w->app_tunnel_port == 0) {
        return;
    }
    size_t at = xds_put_open(out, 23);
    xds_put_uint(out, 1, w->app_tunnel_protocol);
    xds_put_uint(out, 2, w->app_tunnel_port);
    xds_put_close(out, at);
}

static void put_locality(struct pg_sb *out, const struct xds_locality *l)
{
    if (l->region.len == 0 && l->zone.len == 0 && l->subzone.len == 0) {
        return;
    }
    size_t at = xds_put_open(out, 24);
    xds_put_bytes(out, 1, l->region);
    xds_put_bytes(out, 2, l->zone);
    xds_put_bytes(out, 3, l->subzone);
    xds_put_close(out, at);
}

static void put_workload(struct pg_sb *out, const struct xds_workload *w)
{
    xds_put_bytes(out, 1, w->name);
    xds_put_bytes(out, 2, w->ns);
    for (size_t i = 0; i < w->n_ips; i++) {
        xds_put_entry(out, 3, ip_bytes(&w->ips[i]));
    }
    xds_put_bytes(out, 4, w->network);
    xds_put_uint(out, 5, w->tunnel);
    xds_put_bytes(out, 6, w->trust_domain);
    xds_put_bytes(out, 7, w->service_account);
    put_gateway(out, 8, &w->waypoint);
    xds_put_bytes(out, 9, w->node);
    xds_put_bytes(out, 10, w->canonical_name);
    xds_put_bytes(out, 11, w->canonical_revision);
    xds_put_uint(out, 12, w->type);
    xds_put_bytes(out, 13, w->workload_name);
    xds_put_uint(out, 14, w->native_tunnel);
    put_strs(out, 16, w->policies, w->n_policies);
    xds_put_uint(out, 17, w->health);
    xds_put_bytes(out, 18, w->cluster_id);
    put_gateway(out, 19, &w->network_gateway);
    xds_put_bytes(out, 20, w->uid);
    xds_put_bytes(out, 21, w->hostname);
    put_services(out, w);
    put_app_tunnel(out, w);
    put_locality(out, &w->locality);
    xds_put_uint(out, 25, w->network_mode);
    if (w->has_capacity) {
        size_t at = xds_put_open(out, 27);
        xds_put_uint(out, 1, w->capacity);
        xds_put_close(out, at);
    }
}

int xds_workload_encode(const struct xds_workload *w, struct pg_sb *out)
{
    put_workload(out, w);
    return out->err;
}

static void put_service(struct pg_sb *out, const struct xds_service *s)
{
    xds_put_bytes(out, 1, s->name);
    xds_put_bytes(out, 2, s->ns);
    xds_put_bytes(out, 3, s->hostname);
    for (size_t i = 0; i < s->n_addresses; i++) {
        put_net_addr(out, 4, &s->addresses[i]);
    }
    put_ports(out, 5, s->ports, s->n_ports);
    put_strs(out, 6, s->sans, s->n_sans);
    put_gateway(out, 7, &s->waypoint);
    if (s->has_lb) {
        size_t at = xds_put_open(out, 8);
        if (s->n_lb_scopes != 0) {
            size_t packed = xds_put_open(out, 1);
            for (size_t i = 0; i < s->n_lb_scopes; i++) {
                xds_put_varint(out, s->lb_scopes[i]);
            }
            xds_put_close(out, packed);
        }
        xds_put_uint(out, 2, s->lb_mode);
        xds_put_uint(out, 3, s->health_policy);
        xds_put_close(out, at);
    }
    xds_put_uint(out, 9, s->ip_families);
    xds_put_uint(out, 11, s->canonical);
    for (size_t i = 0; i < s->n_weighted_waypoints; i++) {
        size_t at = xds_put_open(out, 13);
        put_gateway(out, 1, &s->weighted_waypoints[i].destination);
        xds_put_uint(out, 2, s->weighted_waypoints[i].weight);
        xds_put_close(out, at);
    }
    xds_put_uint(out, 14, s->visibility);
}

int xds_address_encode(const struct xds_address *a, struct pg_sb *out)
{
    bool is_workload = a->kind == XDS_ADDRESS_WORKLOAD;
    size_t at = xds_put_open(out, is_workload ? 1 : 2);
    if (is_workload) {
        put_workload(out, &a->u.workload);
    } else {
        put_service(out, &a->u.service);
    }
    xds_put_close(out, at);
    return out->err;
}
