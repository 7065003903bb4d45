/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Choice of one endpoint of a service: who is usable, who ranks best by locality, and a random one among
 * these by weight. Pure; any thread.
 */
#ifndef ISTHMUS_PEERING_CHOOSE_H
#define ISTHMUS_PEERING_CHOOSE_H

#include <peering/route.h>

#include "records.h"

enum choose_rule {
    CHOOSE_STANDARD, /* the service declares the port and a target port can be found */
    CHOOSE_WAYPOINT, /* or the workload has an application tunnel */
    CHOOSE_GATEWAY,  /* standard, and: own network, HBONE, with an address; no ranks */
};
struct choose_query {
    const peering_service *service;
    uint16_t port;
    enum choose_rule rule;
    const peering_workload *source; /* ranks by its locality; NULL with CHOOSE_GATEWAY */
    struct pg_str network;          /* CHOOSE_GATEWAY: ours */
    uint64_t random;
    peering_avoid avoid;
    void *avoid_arg;
    peering_trace trace;
    void *trace_arg;
};
struct choose_result {
    const peering_workload *workload; /* NULL: none */
    uint16_t port;                    /* at the workload */
    size_t candidates;                /* usable, avoided ones included */
    size_t remaining;                 /* of these neither avoided nor chosen */
};
void choose_endpoint(const struct choose_query *q, struct choose_result *out);

/* One line to a trace; cut when too long. */
void trace_line(peering_trace trace, void *arg, const char *fmt, ...) PG_PRINTF(3, 4);
/* 240.240.0.0/16 and 2001:2::/48: allocated by a control plane to be recognised, not to be dialled. */
bool ip_is_auto_allocated(const peering_ip *ip);

#endif
