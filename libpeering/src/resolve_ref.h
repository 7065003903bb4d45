/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an address or a gateway reference stands for, as route, inbound checks and the gateway need it. Pure;
 * any thread.
 */
#ifndef ISTHMUS_PEERING_RESOLVE_REF_H
#define ISTHMUS_PEERING_RESOLVE_REF_H

#include "choose.h"

/* A workload to connect to, and how. */
struct upstream {
    const peering_workload *workload; /* NULL: none */
    const peering_service *service;   /* it was chosen for, or NULL */
    peering_ip ip;                    /* len 0: by host name, or only through its gateway */
    uint16_t port;                    /* at the workload */
    size_t candidates, remaining;
};
struct upstream_query {
    const peering_snapshot *snapshot;
    const peering_workload *source;
    peering_ip target; /* original destination: its address or at least its family is preferred */
    enum choose_rule rule;
    uint64_t random;
    peering_avoid avoid;
    void *avoid_arg;
    peering_trace trace;
    void *trace_arg;
};
/* Service first, then workload. A service of mode PASSTHROUGH gives none. False when there is none. */
bool upstream_by_ip(const struct upstream_query *q, struct pg_str network, const peering_ip *ip,
                    uint16_t port, struct upstream *out);
/* A waypoint or network gateway. False with the reason in `error`, which starts with `what`, e.g.
 * "unknown network gateway: ". */
bool upstream_by_ref(const struct upstream_query *q, const struct xds_gateway *ref, const char *what,
                     struct upstream *out, char *error, size_t cap);

/* Does `test` hold for the workload, or for an endpoint of the service, that `ref` stands for (workload
 * first)? */
bool ref_matches(const peering_snapshot *s, const struct xds_gateway *ref, struct pg_str client_ns,
                 bool (*test)(void *arg, const peering_workload *w), void *arg);

/* "1.2.3.4:80" or "[::1]:80"; returns out. */
const char *fmt_ip_port(const peering_ip *ip, uint16_t port, char out[PG_ADDR_TEXT]);

#endif
