/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The outbound decision: ztunnel's tree, in its order. An address that a control plane merely allocated is
 * never dialled, whichever branch it comes out of: `finish` is the one place every dialling route passes.
 * Pure; any thread.
 */
#include "resolve_ref.h"

#include "core/rng.h"

#include <stdio.h>

struct deciding {
    const peering_snapshot *s;
    const peering_route_query *q;
    peering_route *out;
    const peering_service *service; /* addressed, or NULL */
};

#define TRACE(d, ...) trace_line((d)->q->trace, (d)->q->trace_arg, __VA_ARGS__)

static void refuse(peering_route *out, const char *fmt, ...) PG_PRINTF(2, 3);
static void refuse(peering_route *out, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(out->error, sizeof(out->error), fmt, ap);
    va_end(ap);
    if (n < 0) {
        out->error[0] = '\0';
    }
    out->kind = PEERING_ROUTE_NONE;
}

static const char *target_text(const struct deciding *d, char out[PG_ADDR_TEXT])
{
    return fmt_ip_port(&d->q->dst_ip, d->q->dst_port, out);
}

/* The identities a hop may have: the service's and the workload's own. */
static int set_outer_sans(peering_route *out, const peering_service *v, const peering_workload *w)
{
    size_t n = v != NULL ? v->rec->s.n_sans : 0;
    n = n < PEERING_SANS_MAX ? n : PEERING_SANS_MAX - 1;
    peering_str own = peering_workload_identity(w);
    for (size_t i = 0; i < n; i++) {
        if (pg_str_eq(str_in(v->rec->sans[i]), str_in(own))) {
            out->outer_sans = v->rec->sans;
            out->n_outer_sans = n;
            return 0;
        }
    }
    peering_str *all = out->san_store;
    if (n + 1 > PG_ARRAY_LEN(out->san_store)) {
        all = pg_calloc(n + 1, sizeof(*all));
        if (all == NULL) {
            return PG_E_NOMEM;
        }
        out->san_heap = all;
    }
    if (n != 0) {
        memcpy(all, v->rec->sans, n * sizeof(*all));
    }
    all[n] = own;
    out->outer_sans = all;
    out->n_outer_sans = n + 1;
    return 0;
}

static void trace_sans(const struct deciding *d, const char *where, const peering_str *sans, size_t n)
{
    for (size_t i = 0; d->q->trace != NULL && i < n; i++) {
        TRACE(d, "identity accepted at %s: %.*s", where, PG_STR_ARG(str_in(sans[i])));
    }
}

/* Where to connect. Refuses an address nobody can answer at. */
static void finish(struct deciding *d, enum peering_route_kind kind, const peering_ip *ip, struct pg_str host,
                   uint16_t port)
{
    peering_route *out = d->out;
    char text[PG_ADDR_TEXT];
    if (ip->len != 0 && ip_is_auto_allocated(ip)) {
        refuse(out, "no service for target address: %s is auto-allocated and never dialled",
               fmt_ip_port(ip, port, text));
        return;
    }
    out->kind = kind;
    out->hop_ip = *ip;
    out->hop_host = ip->len == 0 ? str_out(host) : (peering_str){NULL, 0};
    out->hop_port = port;
    static const char *const names[] = {"plain TCP, not in the mesh", "plain TCP", "HBONE", "double HBONE"};
    TRACE(d, "%s to %.*s%s%s%s", names[kind], ip->len == 0 ? (int)host.len : 0, host.p != NULL ? host.p : "",
          ip->len == 0 ? "" : fmt_ip_port(ip, port, text), out->authority[0] != '\0' ? ", authority " : "",
          out->authority);
    trace_sans(d, kind == PEERING_ROUTE_DOUBLE_HBONE ? "the gateway" : "the hop", out->outer_sans,
               out->n_outer_sans);
    trace_sans(d, "the destination through the gateway", out->inner_sans, out->n_inner_sans);
}

static struct upstream_query query_of(const struct deciding *d, enum choose_rule rule, bool with_avoid)
{
    return (struct upstream_query){.snapshot = d->s,
                                   .source = d->q->source,
                                   .target = d->q->dst_ip,
                                   .rule = rule,
                                   .random = d->q->random,
                                   .avoid = with_avoid ? d->q->avoid : NULL,
                                   .avoid_arg = d->q->avoid_arg,
                                   .trace = d->q->trace,
                                   .trace_arg = d->q->trace_arg};
}

static void note_choice(struct deciding *d, const struct upstream *u)
{
    d->out->workload = u->workload;
    d->out->target_port = u->port;
    d->out->candidates = u->candidates;
    d->out->remaining = u->remaining;
}

/* Another network: outer tunnel to the gateway, inner tunnel to the service behind it. */
static int through_gateway(struct deciding *d, const struct upstream *u)
{
    peering_route *out = d->out;
    const struct xds_gateway *ref = &wl_shared(u->workload)->network_gateway;
    note_choice(d, u);
    out->target_port = 0;
    TRACE(d, "network %.*s is not ours: through its gateway %.*s",
          PG_STR_ARG(wl_shared(u->workload)->network), PG_STR_ARG(u->workload->shared->gateway_text));
    if (ref->kind == XDS_GATEWAY_NONE) {
        refuse(out, "no valid routing destination for workload: %.*s", PG_STR_ARG(u->workload->name));
        return 0;
    }
    struct upstream gw;
    struct upstream_query q = query_of(d, CHOOSE_STANDARD, false);
    if (!upstream_by_ref(&q, ref, "unknown network gateway: ", &gw, out->error, sizeof(out->error))) {
        out->kind = PEERING_ROUTE_NONE;
        return 0;
    }
    if (u->service == NULL || u->service->rec->s.n_sans == 0) {
        struct pg_str key = u->service != NULL ? u->service->rec->head.key : u->workload->head.key;
        refuse(out, "service %.*s has no subject alternative names", PG_STR_ARG(key));
        return 0;
    }
    if (gw.ip.len == 0 && gw.workload->hostname.len == 0) {
        refuse(out, "no valid routing destination for workload: %.*s", PG_STR_ARG(gw.workload->name));
        return 0;
    }
    int r = set_outer_sans(out, gw.service, gw.workload);
    if (r < 0) {
        return r;
    }
    int n = snprintf(out->authority, sizeof(out->authority), "%.*s:%u",
                     PG_STR_ARG(d->service->rec->s.hostname), d->q->dst_port);
    if (n < 0 || (size_t)n >= sizeof(out->authority)) {
        refuse(out, "hostname of service %.*s is too long", PG_STR_ARG(d->service->rec->head.key));
        return 0;
    }
    out->inner_sans = u->service->rec->sans;
    out->n_inner_sans = u->service->rec->s.n_sans;
    out->hop_workload = gw.workload;
    finish(d, PEERING_ROUTE_DOUBLE_HBONE, &gw.ip, gw.workload->hostname, gw.port);
    return 0;
}

/* Through a waypoint: it is the endpoint of the tunnel, the authority stays the original destination. */
static int through_waypoint(struct deciding *d, const struct xds_gateway *ref, bool may_be_remote)
{
    peering_route *out = d->out;
    struct upstream wp;
    struct upstream_query q = query_of(d, CHOOSE_WAYPOINT, true);
    if (!upstream_by_ref(&q, ref, "unknown waypoint: waypoint ", &wp, out->error, sizeof(out->error))) {
        out->kind = PEERING_ROUTE_NONE;
        return 0;
    }
    if (may_be_remote && !pg_str_eq(wl_shared(wp.workload)->network, wl_shared(d->q->source)->network)) {
        return through_gateway(d, &wp);
    }
    note_choice(d, &wp);
    if (wp.ip.len == 0 && wp.workload->hostname.len == 0) {
        refuse(out, "no valid routing destination for workload: %.*s", PG_STR_ARG(wp.workload->name));
        return 0;
    }
    int r = set_outer_sans(out, wp.service, wp.workload);
    if (r < 0) {
        return r;
    }
    char text[PG_ADDR_TEXT];
    snprintf(out->authority, sizeof(out->authority), "%s", target_text(d, text));
    out->hop_workload = wp.workload;
    TRACE(d, "through the waypoint %.*s", PG_STR_ARG(wp.workload->head.key));
    finish(d, PEERING_ROUTE_HBONE, &wp.ip, wp.workload->hostname, wp.port);
    return 0;
}

/* The waypoint of this connection: one of the weighted ones, else the single one; NULL when there is none. */
static const struct xds_gateway *service_waypoint(const peering_service *v, uint64_t random)
{
    const struct xds_service *s = &v->rec->s;
    uint64_t total = 0;
    for (size_t i = 0; i < s->n_weighted_waypoints; i++) {
        total += s->weighted_waypoints[i].weight;
    }
    if (total == 0) {
        return s->waypoint.kind != XDS_GATEWAY_NONE ? &s->waypoint : NULL;
    }
    /* Its own stream of numbers: the endpoint of the waypoint is drawn from the same seed. */
    struct pg_rng rng;
    pg_rng_seed(&rng, ~random);
    uint64_t at = pg_rng_below(&rng, total);
    size_t i = 0;
    while (at >= s->weighted_waypoints[i].weight) {
        at -= s->weighted_waypoints[i].weight;
        i++;
    }
    return &s->weighted_waypoints[i].destination;
}

struct waypoint_client {
    const peering_route_query *q;
};

static bool is_client(void *arg, const peering_workload *w)
{
    const struct waypoint_client *c = arg;
    return pg_str_eq(w->shared->identity, c->q->source->shared->identity) && wl_has_ip(w, &c->q->client_ip);
}

/* Straight to an endpoint of our own network. */
static int to_endpoint(struct deciding *d, const struct upstream *u)
{
    peering_route *out = d->out;
    const peering_workload *w = u->workload;
    note_choice(d, u);
    if (u->ip.len == 0 && w->hostname.len == 0) {
        refuse(out, "no valid routing destination for workload: %.*s", PG_STR_ARG(w->name));
        return 0;
    }
    if (wl_shared(w)->tunnel != XDS_TUNNEL_HBONE) {
        finish(d, PEERING_ROUTE_TCP, &u->ip, w->hostname, u->port);
        return 0;
    }
    int r = set_outer_sans(out, u->service, w);
    if (r < 0) {
        return r;
    }
    char text[PG_ADDR_TEXT];
    if (u->ip.len != 0) {
        snprintf(out->authority, sizeof(out->authority), "%s", fmt_ip_port(&u->ip, u->port, text));
    } else {
        int n = snprintf(out->authority, sizeof(out->authority), "%.*s:%u", PG_STR_ARG(w->hostname), u->port);
        if (n < 0 || (size_t)n >= sizeof(out->authority)) {
            refuse(out, "hostname of workload %.*s is too long", PG_STR_ARG(w->head.key));
            return 0;
        }
    }
    finish(d, PEERING_ROUTE_HBONE, &u->ip, w->hostname, PEERING_HBONE_PORT);
    return 0;
}

static void trace_address(const struct deciding *d, const peering_workload *w)
{
    if (d->q->trace == NULL) {
        return;
    }
    char text[PG_ADDR_TEXT];
    struct pg_str ns = wl_shared(d->q->source)->ns;
    if (w != NULL) {
        TRACE(d, "%s is workload %.*s", target_text(d, text), PG_STR_ARG(w->head.key));
    } else if (d->service != NULL) {
        const char *rule = pg_str_eq(d->service->rec->s.ns, ns) ? "own namespace"
                           : d->service->rec->s.canonical       ? "canonical"
                                                                : "first with this address";
        TRACE(d, "%s is service %.*s (%s)", target_text(d, text), PG_STR_ARG(d->service->rec->head.key),
              rule);
    } else {
        TRACE(d, "%s is not in the mesh", target_text(d, text));
    }
}

static int no_upstream(struct deciding *d)
{
    char text[PG_ADDR_TEXT];
    if (d->service != NULL && !peering_service_is_passthrough(d->service)) {
        refuse(d->out, "no healthy upstream: %s", target_text(d, text));
        return 0;
    }
    finish(d, PEERING_ROUTE_PASSTHROUGH, &d->q->dst_ip, PG_STR_NONE, d->q->dst_port);
    return 0;
}

static int decide(struct deciding *d)
{
    const peering_route_query *q = d->q;
    const struct xds_workload *source = wl_shared(q->source);
    const peering_workload *w = peering_find_workload_by_ip(d->s, q->network, &q->dst_ip);
    if (w == NULL) {
        d->service = peering_find_service_by_vip(d->s, q->network, &q->dst_ip, str_out(source->ns));
        d->out->service = d->service;
    }
    trace_address(d, w);
    const struct xds_gateway *waypoint = d->service != NULL ? service_waypoint(d->service, q->random) : NULL;
    if (waypoint != NULL) {
        return through_waypoint(d, waypoint, true);
    }
    struct upstream u;
    struct upstream_query uq = query_of(d, CHOOSE_STANDARD, true);
    if (!upstream_by_ip(&uq, source->network, &q->dst_ip, q->dst_port, &u)) {
        return no_upstream(d);
    }
    const struct xds_workload *dest = wl_shared(u.workload);
    if (!pg_str_eq(dest->network, source->network)) {
        char text[PG_ADDR_TEXT];
        if (d->service == NULL) {
            refuse(d->out, "no service for target address: %s", target_text(d, text));
            return 0;
        }
        return through_gateway(d, &u);
    }
    struct waypoint_client client = {.q = q};
    if (d->service == NULL && dest->waypoint.kind != XDS_GATEWAY_NONE &&
        !ref_matches(d->s, &dest->waypoint, source->ns, is_client, &client)) {
        return through_waypoint(d, &dest->waypoint, false);
    }
    return to_endpoint(d, &u);
}

int peering_route_decide(const peering_snapshot *s, const peering_route_query *q, peering_route *out)
{
    *out = (peering_route){.kind = PEERING_ROUTE_NONE};
    if (q->source == NULL) {
        refuse(out, "failed to fetch information about local workload");
        return 0;
    }
    if (q->dst_ip.len != 4 && q->dst_ip.len != 16) {
        refuse(out, "no destination address");
        return 0;
    }
    struct deciding d = {.s = s, .q = q, .out = out};
    int r = decide(&d);
    if (r < 0) {
        peering_route_fini(out);
        *out = (peering_route){.kind = PEERING_ROUTE_NONE};
        refuse(out, "out of memory");
    }
    if (out->kind == PEERING_ROUTE_NONE) {
        trace_line(q->trace, q->trace_arg, "refused: %s", out->error);
    }
    return r;
}

void peering_route_fini(peering_route *r)
{
    pg_free(r->san_heap);
    r->san_heap = NULL;
    r->outer_sans = NULL;
    r->n_outer_sans = 0;
}
