/* SPDX-License-Identifier: Apache-2.0 */
/*
 * East-west gateway: from the outer authority to an endpoint of our own network. Never to another gateway:
 * that would let two gateways send a connection in circles. Pure; any thread.
 */
#include "choose.h"

#include <stdio.h>

void peering_gateway_decide(const peering_snapshot *s, const peering_gateway_query *q,
                            peering_gateway_route *out)
{
    *out = (peering_gateway_route){.status = 404};
    out->service = peering_find_service_by_host(s, q->authority_host, q->gateway_ns);
    if (out->service == NULL) {
        snprintf(out->error, sizeof(out->error), "no service for hostname: %.*s",
                 PG_STR_ARG(str_in(q->authority_host)));
        return;
    }
    const struct choose_query c = {.service = out->service,
                                   .port = q->authority_port,
                                   .rule = CHOOSE_GATEWAY,
                                   .network = str_in(q->network),
                                   .random = q->random,
                                   .avoid = q->avoid,
                                   .avoid_arg = q->avoid_arg};
    struct choose_result r;
    choose_endpoint(&c, &r);
    out->remaining = r.remaining;
    if (r.workload == NULL || ip_is_auto_allocated(&r.workload->ips[0])) {
        out->status = 503;
        snprintf(out->error, sizeof(out->error),
                 "no healthy upstream: %.*s:%u has no endpoint in this network",
                 PG_STR_ARG(str_in(q->authority_host)), q->authority_port);
        return;
    }
    out->status = 200;
    out->workload = r.workload;
    out->ip = r.workload->ips[0];
    out->port = PEERING_HBONE_PORT;
}
