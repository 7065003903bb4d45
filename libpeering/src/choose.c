/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Endpoint choice in one pass: each endpoint is judged once, and a weighted reservoir per group (not avoided,
 * avoided) holds the pick of the best rank seen. Nothing allocates. Pure; any thread.
 */
#include "choose.h"

#include "core/rng.h"

#include <stdio.h>

#define TRACE_LINE_MAX 512u

void trace_line(peering_trace trace, void *arg, const char *fmt, ...)
{
    char line[TRACE_LINE_MAX];
    if (trace == NULL) {
        return;
    }
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    if (n >= 0) {
        trace(arg, line);
    }
}

bool ip_is_auto_allocated(const peering_ip *ip)
{
    static const uint8_t six[6] = {0x20, 0x01, 0x00, 0x02, 0x00, 0x00};
    return (ip->len == 4 && ip->bytes[0] == 240 && ip->bytes[1] == 240) ||
           (ip->len == 16 && memcmp(ip->bytes, six, sizeof(six)) == 0);
}

/* --- one endpoint ------------------------------------------------------------------------------------- */

static bool declared(const struct xds_port *ports, size_t n, uint16_t port, uint16_t *target)
{
    for (size_t i = 0; i < n; i++) {
        if (ports[i].service_port == port) {
            *target = ports[i].target_port;
            return true;
        }
    }
    return false;
}

/* Port at the endpoint, or 0 with a reason. */
static uint16_t endpoint_port(const struct choose_query *q, const peering_workload *w, const char **reason)
{
    const struct xds_workload *shared = wl_shared(w);
    const struct xds_workload_service *own = wl_service(w, q->service->rec->head.key);
    uint16_t by_service = 0;
    uint16_t by_endpoint = 0;
    bool on_service = svc_port(q->service, q->port, &by_service);
    bool tunnel = shared->app_tunnel_protocol != 0 || shared->app_tunnel_port != 0;
    if (!on_service && !(q->rule == CHOOSE_WAYPOINT && tunnel)) {
        *reason = "port unknown to the service";
        return 0;
    }
    if (own != NULL && declared(own->ports, own->n_ports, q->port, &by_endpoint) && by_endpoint != 0) {
        return by_endpoint;
    }
    if (by_service != 0) {
        return by_service;
    }
    if (tunnel && shared->app_tunnel_port != 0) {
        return q->port;
    }
    *reason = "named port unknown at the endpoint";
    return 0;
}

static const char *unreachable(const struct choose_query *q, const peering_workload *w)
{
    const struct xds_workload *shared = wl_shared(w);
    if (q->rule == CHOOSE_GATEWAY) {
        if (!pg_str_eq(shared->network, q->network)) {
            return "in another network";
        }
        if (w->n_ips == 0) {
            return "no address";
        }
        return shared->tunnel != XDS_TUNNEL_HBONE ? "does not speak HBONE" : NULL;
    }
    if (w->n_ips != 0 || w->hostname.len != 0) {
        return NULL;
    }
    bool remote = q->source != NULL && !pg_str_eq(shared->network, wl_shared(q->source)->network);
    if (remote && shared->network_gateway.kind != XDS_GATEWAY_NONE) {
        return NULL;
    }
    return remote ? "no address and no gateway" : "no address";
}

/* --- ranks -------------------------------------------------------------------------------------------- */

static struct pg_str scope_value(const peering_workload *w, uint8_t scope)
{
    const struct xds_workload *s = wl_shared(w);
    switch (scope) {
    case XDS_SCOPE_REGION:
        return s->locality.region;
    case XDS_SCOPE_ZONE:
        return s->locality.zone;
    case XDS_SCOPE_SUBZONE:
        return s->locality.subzone;
    case XDS_SCOPE_NODE:
        return w->node;
    case XDS_SCOPE_CLUSTER:
        return s->cluster_id;
    default:
        return s->network;
    }
}

/* Rank by the leading scopes that match; *strict tells whether all of them do. When NETWORK comes first, an
 * endpoint of another network is compared by the scopes that follow, and every one of the own network ranks
 * above all others. */
static unsigned rank_of(const struct xds_service *s, const peering_workload *source,
                        const peering_workload *w, bool *strict)
{
    unsigned rank = 0;
    unsigned bonus = 0;
    *strict = true;
    for (size_t i = 0; i < s->n_lb_scopes; i++) {
        uint8_t scope = s->lb_scopes[i];
        bool same = pg_str_eq(scope_value(source, scope), scope_value(w, scope));
        *strict = *strict && same;
        if (same) {
            rank++;
        }
        if (i == 0 && scope == XDS_SCOPE_NETWORK) {
            bonus = same ? (unsigned)s->n_lb_scopes - 1 : 0;
        } else if (!same) {
            break;
        }
    }
    return rank + bonus;
}

/* --- the pass ----------------------------------------------------------------------------------------- */

struct reservoir {
    const peering_workload *pick;
    uint16_t port;
    unsigned rank;
    uint64_t weight;
};

static void reservoir_add(struct reservoir *r, const peering_workload *w, uint16_t port, unsigned rank,
                          struct pg_rng *rng)
{
    if (r->pick != NULL && rank < r->rank) {
        return;
    }
    if (r->pick == NULL || rank > r->rank) {
        *r = (struct reservoir){.rank = rank};
    }
    r->weight += w->capacity;
    if (r->pick == NULL || pg_rng_below(rng, r->weight) < w->capacity) {
        r->pick = w;
        r->port = port;
    }
}

/* Why this endpoint is out of the question, or NULL with its port and rank. */
static const char *judge(const struct choose_query *q, const peering_workload *w, uint16_t *port,
                         unsigned *rank)
{
    const struct xds_service *s = &q->service->rec->s;
    const char *reason = NULL;
    if (!w->healthy && !(s->has_lb && s->health_policy == XDS_ALLOW_ALL)) {
        return "unhealthy";
    }
    reason = unreachable(q, w);
    if (reason != NULL) {
        return reason;
    }
    *port = endpoint_port(q, w, &reason);
    if (*port == 0) {
        return reason;
    }
    if (w->capacity == 0) {
        return "capacity 0";
    }
    bool strict = true;
    bool by_locality = s->has_lb && s->lb_mode != XDS_LB_UNSPECIFIED && q->source != NULL;
    *rank = by_locality ? rank_of(s, q->source, w, &strict) : 0;
    if (by_locality && s->lb_mode == XDS_LB_STRICT) {
        *rank = 0;
        return strict ? NULL : "outside the required locality";
    }
    return NULL;
}

/* Said in a second pass because the best rank is known only after the first. */
static void explain_ranks(const struct choose_query *q, const struct reservoir *best, bool avoiding)
{
    for (size_t i = 0; i < q->service->n_endpoints; i++) {
        const peering_workload *w = q->service->endpoints[i];
        uint16_t port = 0;
        unsigned rank = 0;
        const char *reason = judge(q, w, &port, &rank);
        bool avoided = reason == NULL && q->avoid != NULL && q->avoid(q->avoid_arg, w);
        if (reason != NULL) {
            trace_line(q->trace, q->trace_arg, "endpoint %.*s: left out, %s", PG_STR_ARG(w->head.key),
                       reason);
        } else if (avoiding && avoided) {
            trace_line(q->trace, q->trace_arg, "endpoint %.*s: rank %u, left out, failed lately",
                       PG_STR_ARG(w->head.key), rank);
        } else if (rank != best->rank) {
            trace_line(q->trace, q->trace_arg, "endpoint %.*s: rank %u, left out, others rank %u",
                       PG_STR_ARG(w->head.key), rank, best->rank);
        } else {
            trace_line(q->trace, q->trace_arg, "endpoint %.*s: rank %u, port %u, weight %u%s",
                       PG_STR_ARG(w->head.key), rank, port, w->capacity, avoided ? ", failed lately" : "");
        }
    }
}

void choose_endpoint(const struct choose_query *q, struct choose_result *out)
{
    struct reservoir open = {.pick = NULL};
    struct reservoir avoided = {.pick = NULL};
    struct pg_rng rng;
    size_t n_open = 0;
    *out = (struct choose_result){.workload = NULL};
    pg_rng_seed(&rng, q->random);
    for (size_t i = 0; i < q->service->n_endpoints; i++) {
        const peering_workload *w = q->service->endpoints[i];
        uint16_t port = 0;
        unsigned rank = 0;
        if (judge(q, w, &port, &rank) != NULL) {
            continue;
        }
        out->candidates++;
        if (q->avoid == NULL || !q->avoid(q->avoid_arg, w)) {
            n_open++;
            reservoir_add(&open, w, port, rank, &rng);
        } else {
            reservoir_add(&avoided, w, port, rank, &rng);
        }
    }
    bool avoiding = open.pick != NULL;
    const struct reservoir *best = avoiding ? &open : &avoided;
    out->workload = best->pick;
    out->port = best->port;
    out->remaining = n_open - (avoiding ? 1 : 0);
    if (q->trace != NULL) {
        peering_str lb = peering_service_load_balancing(q->service);
        trace_line(q->trace, q->trace_arg, "service %.*s port %u: %zu endpoints, load balancing %.*s",
                   PG_STR_ARG(q->service->rec->head.key), q->port, q->service->n_endpoints,
                   lb.len != 0 ? (int)lb.len : 4, lb.len != 0 ? lb.ptr : "none");
        explain_ranks(q, best, avoiding);
        if (out->workload != NULL) {
            trace_line(q->trace, q->trace_arg, "chosen: %.*s", PG_STR_ARG(out->workload->head.key));
        }
    }
}
