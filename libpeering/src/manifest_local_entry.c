/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ServiceEntry and WorkloadEntry by istiod's rules: one service per host, where a Kubernetes Service of the
 * namespace comes first and then the oldest entry; endpoints written inline, one per host for DNS, or
 * selected by label. Control thread.
 */
#include "manifest_local.h"

/* --- services --- */

size_t local_entry_hosts(const struct local_builder *b)
{
    size_t from, n = index_range(b->x, OBJ_SERVICE_ENTRY, NULL, &from), hosts = 0;
    for (size_t i = from; i < from + n; i++) {
        hosts += b->x->objects[i]->u.service_entry.n_hosts;
    }
    return hosts;
}

static bool is_older(const struct object *a, const struct object *b)
{
    int c = pg_str_cmp(a->created, b->created);
    c = c != 0 ? c : pg_str_cmp(a->ns, b->ns);
    return c != 0 ? c < 0 : pg_str_cmp(a->name, b->name) < 0;
}

/* The Kubernetes Service that a host names, of any namespace. */
static bool is_kubernetes_host(const struct local_builder *b, struct pg_str host, struct pg_str *ns)
{
    struct pg_str rest = host, name, svc;
    size_t i;
    return pg_str_cut(&rest, '.', &name) && pg_str_cut(&rest, '.', ns) && pg_str_cut(&rest, '.', &svc) &&
           pg_str_eq_c(svc, "svc") && pg_str_eq(rest, b->c->domain) && local_find_service(b, *ns, name, &i);
}

struct winners {           /* who speaks for a host: in its namespace, and in the mesh */
    struct pg_map by_key;  /* "<ns>/<host>" -> object */
    struct pg_map by_host; /* points into the same keys */
};

static void claim(struct local_builder *b, struct pg_map *map, struct pg_str key, const struct object *o)
{
    const struct object *best = pg_map_get(map, key);
    if (b->code != 0 || (best != NULL && !is_older(o, best))) {
        return;
    }
    /* The map wants a pointer it could write to; nothing does. */
    int r = pg_map_set(map, key, (void *)(uintptr_t)o, NULL);
    if (r < 0) {
        b->code = r;
    }
}

static void find_winners(struct local_builder *b, struct winners *w)
{
    size_t from, n = index_range(b->x, OBJ_SERVICE_ENTRY, NULL, &from);
    for (size_t i = from; i < from + n && b->code == 0; i++) {
        const struct object *o = b->x->objects[i];
        for (size_t k = 0; k < o->u.service_entry.n_hosts && b->code == 0; k++) {
            struct pg_str key =
                local_fmt(b, "%.*s/%.*s", PG_STR_ARG(o->ns), PG_STR_ARG(o->u.service_entry.hosts[k]));
            if (b->code == 0) {
                claim(b, &w->by_key, key, o);
                claim(b, &w->by_host, pg_str_sub(key, o->ns.len + 1), o);
            }
        }
    }
}

static void copy_texts(struct local_builder *b, const struct pg_str *from, size_t n, struct pg_str **out,
                       size_t *n_out)
{
    struct pg_str *list = local_array(b, n, sizeof(*list));
    for (size_t i = 0; list != NULL && i < n; i++) {
        list[i] = local_copy(b, from[i]);
    }
    *out = list;
    *n_out = list != NULL ? n : 0;
}

static void entry_addresses(struct local_builder *b, const struct obj_service_entry *s,
                            struct contrib_service *cs)
{
    struct xds_service *v = &cs->svc;
    v->addresses = local_array(b, s->n_addresses, sizeof(*v->addresses));
    for (size_t i = 0; v->addresses != NULL && i < s->n_addresses; i++) {
        v->addresses[v->n_addresses++] =
            (struct xds_net_addr){b->network, s->addresses[i].ip, s->addresses[i].bits};
    }
    cs->auto_vip = s->n_addresses == 0 && s->resolution != OBJ_RESOLUTION_NONE && !s->no_auto_address &&
                   v->hostname.len > 0 && v->hostname.p[0] != '*';
}

static void add_entry(struct local_builder *b, const struct object *o, struct pg_str host, bool canonical)
{
    const struct obj_service_entry *s = &o->u.service_entry;
    struct contrib_service *cs = &b->out->services[b->out->n_services];
    struct xds_service *v = &cs->svc;
    v->name = local_copy(b, o->name);
    v->ns = local_copy(b, o->ns);
    v->hostname = local_copy(b, host);
    v->canonical = canonical;
    v->ports = local_array(b, s->as_service.n_ports, sizeof(*v->ports));
    for (size_t i = 0; v->ports != NULL && i < s->as_service.n_ports; i++) {
        const struct obj_service_port *p = &s->as_service.ports[i];
        v->ports[v->n_ports++] = (struct xds_port){p->port, p->target, p->app_protocol};
    }
    copy_texts(b, s->sans, s->n_sans, &v->sans, &v->n_sans);
    entry_addresses(b, s, cs);
    if (s->resolution == OBJ_RESOLUTION_NONE) {
        v->has_lb = true;
        v->lb_mode = XDS_LB_PASSTHROUGH;
        v->health_policy = XDS_ALLOW_ALL;
    }
    b->service_objects[b->out->n_services] = o;
    b->keys[b->out->n_services] = local_fmt(b, "%.*s/%.*s", PG_STR_ARG(v->ns), PG_STR_ARG(v->hostname));
    b->out->n_services++;
}

static void add_hosts(struct local_builder *b, const struct winners *w, const struct object *o)
{
    for (size_t k = 0; k < o->u.service_entry.n_hosts && b->code == 0; k++) {
        struct pg_str host = o->u.service_entry.hosts[k], ns = PG_STR_NONE;
        struct pg_str key = local_fmt(b, "%.*s/%.*s", PG_STR_ARG(o->ns), PG_STR_ARG(host));
        bool kubernetes = is_kubernetes_host(b, host, &ns);
        bool repeated = false;
        for (size_t i = 0; i < k; i++) {
            repeated = repeated || pg_str_eq(o->u.service_entry.hosts[i], host);
        }
        if (b->code == 0 && !repeated && pg_map_get(&w->by_key, key) == o &&
            !(kubernetes && pg_str_eq(ns, o->ns))) {
            add_entry(b, o, host, !kubernetes && pg_map_get(&w->by_host, host) == o);
        }
    }
}

void local_entry_services(struct local_builder *b)
{
    size_t from, n = index_range(b->x, OBJ_SERVICE_ENTRY, NULL, &from);
    struct winners w;
    pg_map_init(&w.by_key, CONTRIB_SERVICES_MAX);
    pg_map_init(&w.by_host, CONTRIB_SERVICES_MAX);
    find_winners(b, &w);
    for (size_t i = from; i < from + n && b->code == 0; i++) {
        add_hosts(b, &w, b->x->objects[i]);
    }
    pg_map_fini(&w.by_key);
    pg_map_fini(&w.by_host);
}

/* --- workloads --- */

size_t local_entry_workloads_max(const struct local_builder *b)
{
    size_t from, n = index_range(b->x, OBJ_SERVICE_ENTRY, NULL, &from), total = 0;
    for (size_t i = from; i < from + n; i++) {
        const struct obj_service_entry *s = &b->x->objects[i]->u.service_entry;
        total += s->n_endpoints + s->n_hosts;
    }
    return total + index_range(b->x, OBJ_WORKLOAD_ENTRY, NULL, &from);
}

/* An endpoint of a foreign network is reached through the gateway that a peer object names for it. */
static void entry_gateway(struct local_builder *b, struct xds_workload *w)
{
    size_t from, n = index_range(b->x, OBJ_GATEWAY, NULL, &from);
    for (size_t i = from; i < from + n && !pg_str_eq(w->network, b->network); i++) {
        const struct object *o = b->x->objects[i];
        const struct obj_gateway *g = &o->u.gateway;
        if (!pg_str_eq_c(g->gateway_class, "istio-remote") || g->n_addresses == 0 ||
            !pg_str_eq(kvs_get(&o->labels, LABEL_NETWORK), w->network)) {
            continue;
        }
        struct xds_gateway *out = &w->network_gateway;
        out->hbone_port = 15008;
        for (size_t k = 0; k < g->n_listeners; k++) {
            if (pg_str_eq_c(g->listeners[k].protocol, "HBONE")) {
                out->hbone_port = g->listeners[k].port;
                break;
            }
        }
        if (pg_ip_parse(g->addresses[0], &out->address.ip) == 0) {
            out->kind = XDS_GATEWAY_ADDRESS;
            out->address.network = w->network;
            out->address.bits = out->address.ip.len == 4 ? 32 : 128;
        } else {
            out->kind = XDS_GATEWAY_HOSTNAME;
            out->ns = local_copy(b, o->ns);
            out->hostname = local_copy(b, g->addresses[0]);
        }
        return;
    }
}

static struct xds_workload *add_workload(struct local_builder *b, const struct object *o,
                                         const struct obj_workload_entry *e)
{
    struct xds_workload *w = &b->out->workloads[b->out->n_workloads++].w;
    w->name = local_copy(b, o->name);
    w->ns = local_copy(b, o->ns);
    w->network = e->network.len > 0 ? local_copy(b, e->network) : b->network;
    w->trust_domain = b->trust_domain;
    w->cluster_id = b->cluster;
    w->service_account = e->service_account.len > 0 ? local_copy(b, e->service_account) : PG_STR("default");
    w->locality =
        (struct xds_locality){local_copy(b, e->region), local_copy(b, e->zone), local_copy(b, e->subzone)};
    w->has_capacity = e->weight > 0;
    w->capacity = e->weight;
    if (e->ip.len > 0) {
        local_set_ips(b, &e->ip, 1, w);
    } else {
        w->hostname = local_copy(b, e->address);
    }
    local_names(b, &o->labels, o->name, w);
    local_tunnel(b, o, w);
    entry_gateway(b, w);
    return w;
}

static void add_inline(struct local_builder *b, const struct object *o, const struct obj_workload_entry *e,
                       size_t first, size_t n)
{
    struct xds_workload *w = add_workload(b, o, e);
    w->uid = local_fmt(b, "%.*s/networking.istio.io/ServiceEntry/%.*s/%.*s/%.*s", PG_STR_ARG(b->cluster),
                       PG_STR_ARG(o->ns), PG_STR_ARG(o->name), PG_STR_ARG(e->address));
    w->services = local_array(b, n, sizeof(*w->services));
    for (size_t i = 0; w->services != NULL && i < n; i++) {
        local_entry_service(b, first + i, e, w);
    }
}

/* Endpoints of the services [first, first + n), all made from one ServiceEntry. */
static void add_endpoints(struct local_builder *b, size_t first, size_t n)
{
    const struct object *o = b->service_objects[first];
    const struct obj_service_entry *s = &o->u.service_entry;
    for (size_t i = 0; i < s->n_endpoints && b->code == 0; i++) {
        add_inline(b, o, &s->endpoints[i], first, n);
    }
    if (s->n_endpoints > 0 || s->as_service.selector.n > 0 || s->resolution != OBJ_RESOLUTION_DNS) {
        return;
    }
    for (size_t i = 0; i < n && b->code == 0; i++) {
        struct obj_workload_entry e = {.address = b->out->services[first + i].svc.hostname};
        add_inline(b, o, &e, first + i, 1);
    }
}

void local_entry_workloads(struct local_builder *b)
{
    size_t next;
    for (size_t i = b->n_kubernetes; i < b->out->n_services && b->code == 0; i = next) {
        next = i + 1;
        while (next < b->out->n_services && b->service_objects[next] == b->service_objects[i]) {
            next++;
        }
        add_endpoints(b, i, next - i);
    }
    size_t from, n = index_range(b->x, OBJ_WORKLOAD_ENTRY, NULL, &from);
    for (size_t i = from; i < from + n && b->code == 0; i++) {
        const struct object *o = b->x->objects[i];
        struct xds_workload *w = add_workload(b, o, &o->u.workload_entry);
        w->uid = local_fmt(b, "%.*s/networking.istio.io/WorkloadEntry/%.*s/%.*s", PG_STR_ARG(b->cluster),
                           PG_STR_ARG(o->ns), PG_STR_ARG(o->name));
        local_join_services(b, o, w);
        local_workload_policies(b, o->ns, &o->labels, w);
    }
}
