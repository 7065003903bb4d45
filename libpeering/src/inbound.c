/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inbound: is the CONNECT's authority for the workload the connection came to, and which port is meant. The
 * address dialled is always the one the connection came to, never the authority's. Pure; any thread.
 */
#include "resolve_ref.h"

#include <stdio.h>

struct sandwich {
    const peering_workload *local;
    const peering_ip *conn_ip;
};

static bool is_local(void *arg, const peering_workload *w)
{
    const struct sandwich *x = arg;
    return pg_str_eq(w->head.key, x->local->head.key) || wl_has_ip(w, x->conn_ip);
}

/* A waypoint may get connections for others: those whose waypoint it is, or one of whose waypoints. */
static bool is_waypoint_of(const peering_snapshot *s, const peering_inbound_query *q)
{
    struct pg_str ns = wl_shared(q->local)->ns;
    struct sandwich x = {.local = q->local, .conn_ip = &q->conn_ip};
    const peering_workload *w = peering_find_workload_by_ip(s, q->network, &q->authority_ip);
    if (w != NULL) {
        return ref_matches(s, &wl_shared(w)->waypoint, ns, is_local, &x);
    }
    const peering_service *v = peering_find_service_by_vip(s, q->network, &q->authority_ip, str_out(ns));
    if (v == NULL) {
        return false;
    }
    for (size_t i = 0; i < v->rec->s.n_weighted_waypoints; i++) {
        if (ref_matches(s, &v->rec->s.weighted_waypoints[i].destination, ns, is_local, &x)) {
            return true;
        }
    }
    return ref_matches(s, &v->rec->s.waypoint, ns, is_local, &x);
}

static bool is_for_us(const peering_snapshot *s, const peering_inbound_query *q)
{
    bool proxy;
    uint16_t port;
    return q->authority_ip.len == 0 || ip_eq(&q->authority_ip, &q->conn_ip) ||
           peering_workload_app_tunnel(q->local, &proxy, &port) || is_waypoint_of(s, q);
}

/* A virtual address of the service for the PROXY header: our network first, then IPv4. */
static peering_ip header_vip(const peering_service *v, peering_str network)
{
    const peering_vip *best = NULL;
    unsigned best_score = 0;
    for (size_t i = 0; i < v->rec->s.n_addresses; i++) {
        const peering_vip *x = &v->rec->vips[i];
        bool own = pg_str_eq(str_in(x->network), str_in(network));
        unsigned score = (own ? 2u : 0u) + (x->ip.len == 4 ? 1u : 0u);
        if (best == NULL || score > best_score) {
            best = x;
            best_score = score;
        }
    }
    return best != NULL ? best->ip : (peering_ip){.len = 0};
}

static uint16_t port_of(const peering_service *v, const peering_workload *local, uint16_t port)
{
    uint16_t target = peering_workload_target_port(local, peering_service_key(v), port);
    if (target == 0 && !svc_port(v, port, &target)) {
        target = 0;
    }
    return target;
}

/* Port and service of a hostname authority; false with the answer made. */
static bool by_hostname(const peering_snapshot *s, const peering_inbound_query *q, peering_inbound *out)
{
    struct pg_str host = str_in(q->authority_host);
    out->service = peering_find_service_by_host(s, q->authority_host, peering_workload_namespace(q->local));
    if (out->service == NULL) {
        out->status = 503;
        snprintf(out->error, sizeof(out->error), "no service or workload for hostname: %.*s",
                 PG_STR_ARG(host));
        return false;
    }
    out->port = port_of(out->service, q->local, q->authority_port);
    if (out->port == 0) {
        out->status = 503;
        snprintf(out->error, sizeof(out->error), "requested service %.*s:%u found, but cannot resolve port",
                 PG_STR_ARG(host), q->authority_port);
    }
    return out->port != 0;
}

static bool application_tunnel(const peering_inbound_query *q, peering_inbound *out)
{
    uint16_t port;
    if (!peering_workload_app_tunnel(q->local, &out->proxy_header, &port)) {
        return true;
    }
    out->port = port != 0 ? port : out->port;
    if (!out->proxy_header) {
        return true;
    }
    out->proxy_port = q->authority_port;
    out->proxy_ip = q->authority_ip.len != 0 ? q->authority_ip : header_vip(out->service, q->network);
    if (out->proxy_ip.len == 0) {
        out->status = 503;
        snprintf(out->error, sizeof(out->error), "requested service %.*s found, but has no IP addresses",
                 PG_STR_ARG(str_in(q->authority_host)));
        return false;
    }
    return true;
}

void peering_inbound_decide(const peering_snapshot *s, const peering_inbound_query *q, peering_inbound *out)
{
    *out = (peering_inbound){.status = 400, .port = q->authority_port};
    if (!is_for_us(s, q)) {
        char conn[PG_IP_TEXT];
        char asked[PG_IP_TEXT];
        struct pg_ip conn_ip = ip_in(&q->conn_ip);
        struct pg_ip asked_ip = ip_in(&q->authority_ip);
        snprintf(out->error, sizeof(out->error), "ip mismatch: %s != %s", pg_ip_fmt(&conn_ip, conn),
                 pg_ip_fmt(&asked_ip, asked));
        return;
    }
    if (q->authority_ip.len == 0) {
        if (!by_hostname(s, q, out)) {
            return;
        }
    } else {
        out->service = peering_inbound_service(s, q->local, (peering_str){NULL, 0}, q->authority_port);
    }
    if (application_tunnel(q, out)) {
        out->status = 200;
    }
}

/* Does a connection to `port` of this endpoint belong to this service? */
static bool serves(const peering_service *v, const struct xds_workload_service *own, uint16_t port)
{
    for (size_t i = 0; i < v->rec->s.n_ports; i++) {
        if (v->rec->ports[i].target_port == port) {
            return true;
        }
    }
    for (size_t i = 0; i < own->n_ports; i++) {
        if (own->ports[i].target_port == port) {
            return true;
        }
    }
    return false;
}

const peering_service *peering_inbound_service(const peering_snapshot *s, const peering_workload *local,
                                               peering_str host, uint16_t port)
{
    const peering_service *by_port = NULL;
    for (size_t i = 0; i < wl_shared(local)->n_services; i++) {
        const struct xds_workload_service *own = &wl_shared(local)->services[i];
        ptrdiff_t slash = pg_str_chr(own->key, '/');
        if (slash < 0) {
            continue;
        }
        peering_str ns = {own->key.p, (size_t)slash};
        const peering_service *v =
            peering_find_service(s, ns, str_out(pg_str_sub(own->key, (size_t)slash + 1)));
        if (v == NULL) {
            continue;
        }
        if (host.len != 0 && pg_str_eq(v->rec->s.hostname, str_in(host))) {
            return v;
        }
        if (by_port == NULL && port != 0 && serves(v, own, port)) {
            by_port = v;
        }
    }
    return by_port;
}
