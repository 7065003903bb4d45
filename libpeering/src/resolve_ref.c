/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From an address or a reference to the workload to connect to. The two orders of look-up are kept apart on
 * purpose: "what is this address" takes the workload first, "who serves it" the service. Pure; any thread.
 */
#include "resolve_ref.h"

#include <stdio.h>

const char *fmt_ip_port(const peering_ip *ip, uint16_t port, char out[PG_ADDR_TEXT])
{
    const struct pg_addr a = {.ip = ip_in(ip), .port = port};
    return pg_addr_fmt(&a, out);
}

static bool family_allowed(const peering_service *v, const peering_ip *ip)
{
    if (v == NULL) {
        return true;
    }
    return !(v->rec->s.ip_families == XDS_IP_V4_ONLY && ip->len != 4) &&
           !(v->rec->s.ip_families == XDS_IP_V6_ONLY && ip->len != 16);
}

/* The target itself when the workload owns it, else its first address of the target's family, else its first;
 * of those the service allows. */
static peering_ip select_ip(const peering_workload *w, const peering_service *v, const peering_ip *target)
{
    const peering_ip *first = NULL;
    const peering_ip *family = NULL;
    if (wl_has_ip(w, target)) {
        return *target;
    }
    for (size_t i = 0; i < w->n_ips; i++) {
        const peering_ip *ip = &w->ips[i];
        if (!family_allowed(v, ip)) {
            continue;
        }
        first = first != NULL ? first : ip;
        if (family == NULL && ip->len == target->len) {
            family = ip;
        }
    }
    return family != NULL ? *family : first != NULL ? *first : (peering_ip){.len = 0};
}

static bool choose_upstream(const struct upstream_query *q, const peering_service *v, uint16_t port,
                            struct upstream *out)
{
    const struct choose_query c = {.service = v,
                                   .port = port,
                                   .rule = q->rule,
                                   .source = q->source,
                                   .random = q->random,
                                   .avoid = q->avoid,
                                   .avoid_arg = q->avoid_arg,
                                   .trace = q->trace,
                                   .trace_arg = q->trace_arg};
    struct choose_result r;
    choose_endpoint(&c, &r);
    *out = (struct upstream){.workload = r.workload,
                             .service = v,
                             .port = r.port,
                             .candidates = r.candidates,
                             .remaining = r.remaining};
    if (r.workload != NULL) {
        out->ip = select_ip(r.workload, v, &q->target);
    }
    return r.workload != NULL;
}

static void single_upstream(const struct upstream_query *q, const peering_workload *w, uint16_t port,
                            struct upstream *out)
{
    *out =
        (struct upstream){.workload = w, .ip = select_ip(w, NULL, &q->target), .port = port, .candidates = 1};
}

bool upstream_by_ip(const struct upstream_query *q, struct pg_str network, const peering_ip *ip,
                    uint16_t port, struct upstream *out)
{
    *out = (struct upstream){.workload = NULL};
    peering_str ns = peering_workload_namespace(q->source);
    const peering_service *v = peering_find_service_by_vip(q->snapshot, str_out(network), ip, ns);
    if (v != NULL) {
        return !peering_service_is_passthrough(v) && choose_upstream(q, v, port, out);
    }
    const peering_workload *w = peering_find_workload_by_ip(q->snapshot, str_out(network), ip);
    if (w != NULL) {
        single_upstream(q, w, port, out);
    }
    return w != NULL;
}

static const peering_workload *workload_by_hostname(const peering_snapshot *s, struct pg_str ns,
                                                    struct pg_str hostname)
{
    size_t it = 0;
    const peering_workload *w;
    while ((w = peering_next_workload(s, &it)) != NULL) {
        if (pg_str_eq(w->hostname, hostname) && pg_str_eq(wl_shared(w)->ns, ns)) {
            return w;
        }
    }
    return NULL;
}

static bool by_hostname(const struct upstream_query *q, const struct xds_gateway *ref, const char *what,
                        struct upstream *out, char *error, size_t cap)
{
    const peering_service *v = peering_find_service(q->snapshot, str_out(ref->ns), str_out(ref->hostname));
    if (v != NULL) {
        if (choose_upstream(q, v, ref->hbone_port, out)) {
            return true;
        }
        snprintf(error, cap, "%sservice %.*s has no healthy endpoint for port %u", what,
                 PG_STR_ARG(v->rec->head.key), ref->hbone_port);
        return false;
    }
    const peering_workload *w = workload_by_hostname(q->snapshot, ref->ns, ref->hostname);
    if (w == NULL) {
        snprintf(error, cap, "%s%.*s not found", what, PG_STR_ARG(ref->hostname));
        return false;
    }
    single_upstream(q, w, ref->hbone_port, out);
    return true;
}

bool upstream_by_ref(const struct upstream_query *q, const struct xds_gateway *ref, const char *what,
                     struct upstream *out, char *error, size_t cap)
{
    *out = (struct upstream){.workload = NULL};
    if (ref->kind == XDS_GATEWAY_HOSTNAME) {
        return by_hostname(q, ref, what, out, error, cap);
    }
    /* The family follows the reference, not the original target. */
    struct upstream_query own = *q;
    own.target = ip_out(&ref->address.ip);
    if (ref->kind == XDS_GATEWAY_ADDRESS &&
        upstream_by_ip(&own, ref->address.network, &own.target, ref->hbone_port, out)) {
        return true;
    }
    char ip[PG_IP_TEXT];
    snprintf(error, cap, "%s%.*s/%s not found", what, PG_STR_ARG(ref->address.network),
             pg_ip_fmt(&ref->address.ip, ip));
    return false;
}

bool ref_matches(const peering_snapshot *s, const struct xds_gateway *ref, struct pg_str client_ns,
                 bool (*test)(void *arg, const peering_workload *w), void *arg)
{
    const peering_workload *w = NULL;
    const peering_service *v = NULL;
    if (ref->kind == XDS_GATEWAY_ADDRESS) {
        peering_ip ip = ip_out(&ref->address.ip);
        w = peering_find_workload_by_ip(s, str_out(ref->address.network), &ip);
        if (w == NULL) {
            v = peering_find_service_by_vip(s, str_out(ref->address.network), &ip, str_out(client_ns));
        }
    } else if (ref->kind == XDS_GATEWAY_HOSTNAME) {
        v = peering_find_service(s, str_out(ref->ns), str_out(ref->hostname));
        if (v == NULL) {
            w = workload_by_hostname(s, ref->ns, ref->hostname);
        }
    }
    if (w != NULL) {
        return test(arg, w);
    }
    for (size_t i = 0; v != NULL && i < v->n_endpoints; i++) {
        if (test(arg, v->endpoints[i])) {
            return true;
        }
    }
    return false;
}
