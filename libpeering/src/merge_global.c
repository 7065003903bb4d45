/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One global service: the host <name>.<ns>.mesh.internal, its endpoints near and far, and what they do to a
 * local service that spans clusters itself. A stale peer's endpoints step aside while a fresh peer reached
 * the same way has healthy ones; proxies cannot rank by age, so leaving them out is how "behind fresh ones"
 * is said on the wire. Control thread.
 */
#include "merge_int.h"

#include "certs/ca.h"
#include "certs/spiffe.h"

#include <stdio.h>

struct global { /* one under construction */
    struct merge *m;
    struct merge_global *g;
    const struct merge_part *parts;
    size_t n_parts;
    const struct merge_part *local;    /* the local part, or NULL */
    const struct contrib_service *own; /* local Service whose own host spans clusters too, or NULL */
    struct pg_str union_key, own_key;
    struct pg_str suffix; /* 12 hex digits of autogenflat names */
    struct xds_service svc;
    bool fresh[2]; /* by enum peer_path: a fresh peer has healthy capacity */
    size_t cap_endpoints;
};

static void warn(struct global *x, const char *fmt, struct pg_str cluster)
{
    if (x->g->warning.len == 0) {
        char text[200];
        (void)snprintf(text, sizeof(text), fmt, (int)(cluster.len > 80 ? 80 : cluster.len),
                       cluster.p ? cluster.p : "");
        x->g->warning = merge_text(x->m, &x->m->result.arena, "%s", text);
    }
}

/* --- capacity and age --- */

static const struct xds_fed_capacity *capacity_row(const struct merge_part *p)
{
    for (size_t i = 0; i < p->fed->n_capacity; i++) {
        if (pg_str_eq(p->fed->capacity[i].network, p->peer->network)) {
            return &p->fed->capacity[i];
        }
    }
    return NULL;
}

static bool is_up(const struct merge_part *p)
{
    return p->peer->p->data != PEER_DATA_UNHEALTHY;
}

/* Healthy capacity as our proxies would see it. */
static uint64_t healthy_capacity(const struct merge_part *p)
{
    uint64_t sum = 0;
    if (!is_up(p)) {
        return 0;
    }
    if (p->peer->path == PATH_GATEWAY) {
        const struct xds_fed_capacity *row = capacity_row(p);
        return row != NULL ? row->healthy : 0;
    }
    for (const struct merge_pod *pod = p->pods; pod != NULL; pod = pod->next) {
        sum += pod->w->health == XDS_HEALTHY ? merge_capacity(pod->w) : 0;
    }
    return sum;
}

static void find_fresh(struct global *x)
{
    for (size_t i = 0; i < x->n_parts; i++) {
        const struct merge_part *p = &x->parts[i];
        if (p->peer != NULL && p->peer->path != PATH_NONE && p->peer->p->data == PEER_DATA_FRESH &&
            healthy_capacity(p) > 0) {
            x->fresh[p->peer->path] = true;
        }
    }
}

static bool steps_aside(const struct global *x, const struct merge_part *p)
{
    return p->peer->p->data == PEER_DATA_STALE && x->fresh[p->peer->path];
}

/* --- the service --- */

static bool has_port(const struct xds_port *ports, size_t n, uint16_t port)
{
    for (size_t i = 0; i < n; i++) {
        if (ports[i].service_port == port) {
            return true;
        }
    }
    return false;
}

static void ports_of(const struct merge_part *p, const struct xds_port **ports, size_t *n)
{
    *ports = p->local != NULL ? p->local->svc.ports : p->fed->ports;
    *n = p->local != NULL ? p->local->svc.n_ports : p->fed->n_ports;
}

/* The first part's ports first, then what the others add. */
static void merge_ports(struct global *x)
{
    size_t max = 0;
    for (size_t i = 0; i < x->n_parts; i++) {
        const struct xds_port *ports;
        size_t n;
        ports_of(&x->parts[i], &ports, &n);
        max += n;
    }
    max = max > MERGE_PORTS_MAX ? MERGE_PORTS_MAX : max;
    struct xds_port *out = merge_scratch(x->m, max, sizeof(*out));
    size_t count = 0, first = 0;
    for (size_t i = 0; i < x->n_parts && out != NULL; i++) {
        const struct xds_port *ports;
        size_t n, known = 0;
        ports_of(&x->parts[i], &ports, &n);
        for (size_t k = 0; k < n; k++) {
            known += has_port(out, i == 0 ? 0 : first, ports[k].service_port) ? 1 : 0;
            if (count < max && ports[k].service_port != 0 && !has_port(out, count, ports[k].service_port)) {
                out[count] = ports[k];
                if (x->parts[i].peer != NULL) {
                    out[count].target_port = ports[k].service_port; /* how it is called at the gateway */
                }
                count++;
            }
        }
        first = i == 0 ? count : first;
        if (i > 0 && (known != first || n != first)) {
            warn(x, "ports differ: cluster %.*s", x->parts[i].peer->cluster);
        }
    }
    x->svc.ports = out;
    x->svc.n_ports = count;
}

/* A peer speaks for the identities of its own trust domain only. */
static bool is_vouched(const struct merge_part *p, struct pg_str san)
{
    struct cert_spiffe id;
    return cert_spiffe_parse(san, &id, NULL) == 0 && pg_str_eq(id.trust_domain, p->peer->trust_domain);
}

static void merge_sans(struct global *x)
{
    const struct merge *m = x->m;
    size_t max = 0, n = 0;
    for (size_t i = 0; i < x->n_parts; i++) {
        const struct merge_part *p = &x->parts[i];
        max += p->fed != NULL ? p->fed->n_sans
                              : m->endpoint_from[p->local_index + 1] - m->endpoint_from[p->local_index];
    }
    struct pg_str *sans = merge_scratch(x->m, max, sizeof(*sans));
    for (size_t i = 0; i < x->n_parts && sans != NULL; i++) {
        const struct merge_part *p = &x->parts[i];
        for (size_t k = 0; p->fed != NULL && k < p->fed->n_sans; k++) {
            if (is_vouched(p, p->fed->sans[k])) {
                sans[n++] = p->fed->sans[k];
            } else {
                warn(x, "identities outside its trust domain left out: cluster %.*s", p->peer->cluster);
            }
        }
        for (size_t k = p->fed == NULL ? m->endpoint_from[p->local_index] : SIZE_MAX;
             p->fed == NULL && k < m->endpoint_from[p->local_index + 1]; k++) {
            sans[n++] = m->identities[m->endpoint_ids[k]];
        }
    }
    if (merge_sort_sans(sans, &n)) {
        warn(x, "too many identities%.*s", PG_STR_NONE);
    }
    x->svc.sans = sans;
    x->svc.n_sans = n;
}

static void set_distribution(struct xds_service *s, enum xds_fed_distribution d)
{
    static const uint8_t scopes[] = {XDS_SCOPE_NETWORK, XDS_SCOPE_REGION, XDS_SCOPE_ZONE};
    size_t n = d == XDS_DIST_CLOSE ? 3 : d == XDS_DIST_REGION ? 2 : d == XDS_DIST_NETWORK ? 1 : 0;
    s->has_lb = n > 0;
    s->lb_mode = n > 0 ? XDS_LB_FAILOVER : XDS_LB_UNSPECIFIED;
    s->n_lb_scopes = n;
    memcpy(s->lb_scopes, scopes, n);
}

static void settle_words(struct global *x)
{
    static const uint8_t strength[] = {
        [XDS_FED_CLUSTER] = 0, [XDS_FED_SEGMENT] = 1, [XDS_FED_GLOBAL] = 2, [XDS_FED_GLOBAL_ONLY] = 3};
    bool settled = false;
    for (size_t i = 0; i < x->n_parts; i++) {
        const struct merge_part *p = &x->parts[i];
        enum xds_fed_scope scope = p->local != NULL ? p->local->scope : p->fed->scope;
        if (strength[scope] > strength[x->g->scope]) {
            x->g->scope = scope;
        }
        if (!settled && (p->fed != NULL || p->local->has_distribution)) {
            x->g->distribution = p->fed != NULL ? p->fed->distribution : p->local->distribution;
            settled = true;
        }
    }
}

static void allocate(struct global *x)
{
    struct merge *m = x->m;
    struct merge_global *g = x->g;
    struct xds_net_addr *a = merge_scratch(m, 2, sizeof(*a));
    if (a == NULL) {
        return;
    }
    int r = vip_pool_get(m->vips, g->hostname, &g->vip4, &g->vip6);
    if (r == PG_E_LIMIT) {
        warn(x, "no virtual address is left%.*s", PG_STR_NONE);
        return;
    }
    if (r < 0) {
        merge_fail(m, r);
        return;
    }
    a[0] = (struct xds_net_addr){m->self->network, g->vip4, 32};
    a[1] = (struct xds_net_addr){m->self->network, g->vip6, 128};
    x->svc.addresses = a;
    x->svc.n_addresses = 2;
}

/* --- endpoints --- */

static void count_endpoints(struct global *x)
{
    size_t n = 0;
    for (size_t i = 0; i < x->n_parts; i++) {
        const struct merge_part *p = &x->parts[i];
        if (p->local != NULL) {
            n += x->m->endpoint_from[p->local_index + 1] - x->m->endpoint_from[p->local_index];
        } else if (p->peer->path == PATH_GATEWAY) {
            n++;
        }
        for (const struct merge_pod *pod = p->pods; pod != NULL; pod = pod->next) {
            n++;
        }
    }
    x->g->endpoints = merge_keep(x->m, n, sizeof(*x->g->endpoints));
    x->cap_endpoints = x->g->endpoints != NULL ? n : 0;
}

static struct pg_str keep(struct global *x, struct pg_str s)
{
    return s.len > 0 ? merge_text(x->m, &x->m->result.arena, "%.*s", PG_STR_ARG(s)) : PG_STR_NONE;
}

static void note_endpoint(struct global *x, const struct merge_endpoint *e)
{
    if (x->m->code != 0 || x->g->n_endpoints == x->cap_endpoints) {
        return;
    }
    struct merge_endpoint *out = &x->g->endpoints[x->g->n_endpoints++];
    *out = *e;
    out->object = keep(x, e->object);
    out->cluster = keep(x, e->cluster);
    out->network = keep(x, e->network);
    out->address = keep(x, e->address);
}

static void note_local(struct global *x, const struct merge_part *p)
{
    const struct merge *m = x->m;
    for (size_t i = m->endpoint_from[p->local_index]; i < m->endpoint_from[p->local_index + 1]; i++) {
        const struct xds_workload *w = &m->local->workloads[m->endpoint_ids[i]].w;
        char text[PG_IP_TEXT] = "";
        struct merge_endpoint e = {.object = w->uid, .cluster = m->self->cluster, .network = w->network};
        e.address = w->n_ips > 0 ? pg_str_c(pg_ip_fmt(&w->ips[0], text)) : w->hostname;
        e.capacity = merge_capacity(w);
        e.healthy = w->health == XDS_HEALTHY;
        note_endpoint(x, &e);
    }
}

/* The port lists of an imported endpoint: under the union host, and under the own host of a service that
 * spans clusters. */
static void entry_services(struct global *x, struct xds_port *ports, size_t n, struct xds_workload *w)
{
    w->services = merge_scratch(x->m, 2, sizeof(*w->services));
    if (w->services == NULL) {
        return;
    }
    w->services[w->n_services++] = (struct xds_workload_service){x->union_key, ports, n};
    if (x->own != NULL) {
        w->services[w->n_services++] = (struct xds_workload_service){x->own_key, ports, n};
    }
}

static void entry_uid(struct global *x, const struct merge_part *p, struct pg_str object,
                      struct xds_workload *w)
{
    w->name = object;
    w->uid = merge_text(x->m, &x->m->scratch, "%.*s/networking.istio.io/WorkloadEntry/%.*s/%.*s",
                        PG_STR_ARG(p->peer->cluster), PG_STR_ARG(x->m->self->system_ns), PG_STR_ARG(object));
    w->cluster_id = p->peer->cluster;
    w->network = p->peer->network;
}

static void set_gateway(struct merge_peer *p, struct xds_workload *w)
{
    const struct peer_config *c = p->p->config;
    struct xds_gateway *g = &w->network_gateway;
    if (c->n_addresses == 0) {
        return;
    }
    if (pg_ip_parse(pg_str_c(c->addresses[0]), &g->address.ip) == 0) {
        g->kind = XDS_GATEWAY_ADDRESS;
        g->address.network = p->network;
        g->address.bits = g->address.ip.len == 4 ? 32 : 128;
    } else {
        g->kind = XDS_GATEWAY_HOSTNAME;
        g->ns = pg_str_c(c->ns);
        g->hostname = pg_str_c(c->addresses[0]);
    }
    g->hbone_port = c->hbone_port;
}

static void service_ports(struct merge *m, const struct xds_fed_service *s, struct xds_port **out, size_t *n)
{
    struct xds_port *ports = merge_scratch(m, s->n_ports, sizeof(*ports));
    size_t count = 0;
    for (size_t i = 0; ports != NULL && i < s->n_ports && count < MERGE_PORTS_MAX; i++) {
        uint16_t port = s->ports[i].service_port;
        if (port != 0 && !has_port(ports, count, port)) {
            ports[count++] = (struct xds_port){.service_port = port, .target_port = port};
        }
    }
    *out = ports;
    *n = count;
}

static void add_gateway_entry(struct global *x, const struct merge_part *p)
{
    struct merge *m = x->m;
    const struct xds_fed_capacity *row = capacity_row(p);
    if (row == NULL && p->fed->n_capacity > 0) {
        warn(x, "no capacity announced in its network: cluster %.*s", p->peer->cluster);
    }
    struct xds_workload w = {.type = XDS_POD, .tunnel = XDS_TUNNEL_HBONE, .has_capacity = true};
    entry_uid(x, p,
              merge_text(m, &m->scratch, "autogen.%.*s.%.*s.%.*s", PG_STR_ARG(p->peer->cluster),
                         PG_STR_ARG(p->ns), PG_STR_ARG(p->name)),
              &w);
    w.ns = p->ns;
    w.workload_name = w.name;
    w.canonical_name = p->name;
    w.canonical_revision = PG_STR("latest");
    w.trust_domain = p->peer->trust_domain;
    w.locality.region = pg_str_c(p->peer->p->config->region);
    w.locality.zone = pg_str_c(p->peer->p->config->zone);
    w.capacity = row != NULL ? row->healthy : 0;
    w.health = w.capacity > 0 && is_up(p) ? XDS_HEALTHY : XDS_UNHEALTHY;
    set_gateway(p->peer, &w);
    struct xds_port *ports;
    size_t n;
    service_ports(m, p->fed, &ports, &n);
    entry_services(x, ports, n, &w);
    note_endpoint(x, &(struct merge_endpoint){.object = w.name,
                                              .cluster = p->peer->cluster,
                                              .network = p->peer->network,
                                              .capacity = w.capacity,
                                              .healthy = w.health == XDS_HEALTHY,
                                              .stale = p->peer->p->data == PEER_DATA_STALE});
    if (!steps_aside(x, p)) {
        writer_workload(m, &m->node, &w);
    }
}

static void add_flat_entry(struct global *x, const struct merge_part *p, const struct merge_pod *pod)
{
    struct merge *m = x->m;
    struct xds_workload w = *pod->w;
    struct pg_str object =
        merge_text(m, &m->scratch, "autogenflat.%.*s.%.*s.%.*s.%.*s", PG_STR_ARG(p->peer->cluster),
                   PG_STR_ARG(pod->w->ns), PG_STR_ARG(pod->w->name), PG_STR_ARG(x->suffix));
    entry_uid(x, p, object, &w);
    /* Policies and gateways of another cluster mean nothing here. */
    w.policies = NULL;
    w.n_policies = 0;
    w.network_gateway = (struct xds_gateway){0};
    w.waypoint = (struct xds_gateway){0};
    w.n_services = 0;
    w.health = pod->w->health == XDS_HEALTHY && is_up(p) ? XDS_HEALTHY : XDS_UNHEALTHY;
    if (w.locality.region.len == 0) {
        w.locality = (struct xds_locality){pg_str_c(p->peer->p->config->region),
                                           pg_str_c(p->peer->p->config->zone), PG_STR_NONE};
    }
    entry_services(x, pod->service->ports, pod->service->n_ports, &w);
    char text[PG_IP_TEXT];
    note_endpoint(x, &(struct merge_endpoint){.object = object,
                                              .cluster = p->peer->cluster,
                                              .network = p->peer->network,
                                              .address = pg_str_c(pg_ip_fmt(&w.ips[0], text)),
                                              .capacity = merge_capacity(&w),
                                              .healthy = w.health == XDS_HEALTHY,
                                              .stale = p->peer->p->data == PEER_DATA_STALE});
    if (!steps_aside(x, p)) {
        writer_workload(m, &m->node, &w);
    }
}

static void add_remote(struct global *x, const struct merge_part *p)
{
    switch (p->peer->path) {
    case PATH_GATEWAY:
        add_gateway_entry(x, p);
        break;
    case PATH_FLAT:
        for (const struct merge_pod *pod = p->pods; pod != NULL && x->m->code == 0; pod = pod->next) {
            add_flat_entry(x, p, pod);
        }
        break;
    case PATH_NONE:
        warn(x, "has our network, but flat networks are off: cluster %.*s", p->peer->cluster);
        break;
    }
}

/* --- putting it together --- */

static void list_clusters(struct global *x)
{
    x->g->clusters = merge_keep(x->m, x->n_parts, sizeof(*x->g->clusters));
    for (size_t i = 0; i < x->n_parts && x->g->clusters != NULL; i++) {
        struct pg_str c = x->parts[i].peer != NULL ? x->parts[i].peer->cluster : x->m->self->cluster;
        /* The local part comes first and has to find its place by name. */
        size_t at = x->g->n_clusters++;
        while (at > 0 && pg_str_cmp(x->g->clusters[at - 1], c) > 0) {
            x->g->clusters[at] = x->g->clusters[at - 1];
            at--;
        }
        x->g->clusters[at] = keep(x, c);
    }
}

/* The local Service of this name whose own host is to reach remote endpoints too. */
static void find_own(struct global *x)
{
    struct merge *m = x->m;
    struct pg_str host = merge_text(m, &m->scratch, "%.*s.%.*s.svc.%.*s", PG_STR_ARG(x->g->name),
                                    PG_STR_ARG(x->g->ns), PG_STR_ARG(m->self->domain));
    struct pg_str key = merge_key(m, x->g->ns, host);
    const struct contrib_service *s = m->code == 0 ? pg_map_get(&m->local_keys, key) : NULL;
    if (s != NULL && (s->takeover || s->scope == XDS_FED_GLOBAL_ONLY)) {
        x->own = s;
        x->own_key = key;
    }
}

static void leave_word(struct global *x)
{
    struct merge *m = x->m;
    if (x->local != NULL) {
        m->own[x->local->local_index].union_key = x->union_key;
    }
    if (x->own != NULL) {
        struct merge_own *o = &m->own[x->own - m->local->services];
        o->is_extended = true;
        o->sans = x->svc.sans;
        o->n_sans = x->svc.n_sans;
        o->distribution = x->g->distribution;
    }
}

void merge_global(struct merge *m, size_t from, size_t to, struct merge_global *g)
{
    struct global x = {.m = m, .g = g, .parts = &m->parts[from], .n_parts = to - from};
    char digest[65];
    x.local = x.parts[0].local != NULL ? &x.parts[0] : NULL;
    x.union_key = merge_key(m, g->ns, g->hostname);
    struct pg_str plain = merge_key(m, g->ns, g->name);
    if (m->code != 0) {
        return;
    }
    cert_sha256_hex(plain.p, plain.len, digest);
    x.suffix = pg_str_n(digest, 12);
    x.svc = (struct xds_service){.name = g->name, .ns = g->ns, .hostname = g->hostname, .canonical = true};
    find_own(&x);
    find_fresh(&x);
    settle_words(&x);
    list_clusters(&x);
    merge_ports(&x);
    merge_sans(&x);
    allocate(&x);
    set_distribution(&x.svc, g->distribution);
    count_endpoints(&x);
    for (size_t i = 0; i < x.n_parts && m->code == 0; i++) {
        if (x.parts[i].local != NULL) {
            note_local(&x, &x.parts[i]);
        } else {
            add_remote(&x, &x.parts[i]);
        }
    }
    writer_service(m, &m->node, &x.svc);
    leave_word(&x);
}
