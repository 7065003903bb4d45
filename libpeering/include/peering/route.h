/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Where a connection goes: pure functions of a snapshot, used by the proxy for every connection and by
 * `explain`, so that what is explained is what happens. Rules: ztunnel's outbound decision tree and endpoint
 * choice, inbound destination rules, and the east-west gateway's.
 */
#ifndef PEERING_ROUTE_H
#define PEERING_ROUTE_H

#include <peering/table.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PEERING_HBONE_PORT 15008

/** One line of reasoning, e.g. "endpoint cluster1//Pod/demo/a: left out, unhealthy". `line` lives for the
 * call. */
typedef void (*peering_trace)(void *arg, const char *line);

/** What was tried before on behalf of this connection or is ejected now; such endpoints are not chosen while
 * another one of the same or a lower rank remains. Return true to avoid `w` (for a gateway route, the remote
 * entry). */
typedef bool (*peering_avoid)(void *arg, const peering_workload *w);

typedef struct peering_route_query {
    const peering_workload *source; /**< the captured workload */
    peering_str network;            /**< network of this proxy */
    peering_ip client_ip;           /**< address the connection comes from */
    peering_ip dst_ip;              /**< original destination */
    uint16_t dst_port;
    uint64_t random;     /**< picks among equals by weight; any value */
    peering_avoid avoid; /**< may be NULL */
    void *avoid_arg;
    peering_trace trace; /**< may be NULL */
    void *trace_arg;
} peering_route_query;

enum peering_route_kind {
    PEERING_ROUTE_PASSTHROUGH,  /**< plain TCP to the original destination, unknown to the mesh */
    PEERING_ROUTE_TCP,          /**< plain TCP to `hop` (mesh endpoint without tunnel) */
    PEERING_ROUTE_HBONE,        /**< one CONNECT through `hop` */
    PEERING_ROUTE_DOUBLE_HBONE, /**< outer CONNECT to the gateway `hop`, inner CONNECT end to end */
    PEERING_ROUTE_NONE,         /**< refused; see `error` */
};
#define PEERING_AUTHORITY_MAX 300
#define PEERING_SANS_MAX 4096
/** Holds pointers into itself: do not copy. */
typedef struct peering_route {
    enum peering_route_kind kind;
    peering_ip hop_ip;    /**< connect here; len 0 with hop_host set: resolve that name first */
    peering_str hop_host; /**< with one HBONE hop to an endpoint the authority names it too: put the address
                             found in its place */
    uint16_t hop_port;
    char authority[PEERING_AUTHORITY_MAX]; /**< of the CONNECT (both, when double); NUL-terminated */
    /** Identities accepted at the far end: `outer_sans` at the hop (HBONE: destination or waypoint; double:
     * the gateway), `inner_sans` at the destination through the gateway. Slices live with the snapshot;
     * arrays are inside the route. At most PEERING_SANS_MAX kept. */
    const peering_str *outer_sans;
    size_t n_outer_sans;
    const peering_str *inner_sans;
    size_t n_inner_sans;
    const peering_service *service;       /**< service addressed, or NULL */
    const peering_workload *workload;     /**< endpoint chosen (double: the remote entry), or NULL */
    const peering_workload *hop_workload; /**< gateway or waypoint workload, or NULL */
    uint16_t target_port;                 /**< port at the endpoint, when known */
    size_t candidates;                    /**< endpoints usable for this connection, avoided ones included */
    size_t remaining;         /**< of these, not avoided and not chosen: a retry has somewhere to go */
    char error[256];          /**< ztunnel's words: "no healthy upstream: 1.2.3.4:80", ... */
    peering_str san_store[2]; /**< storage of single-element san arrays */
    peering_str *san_heap;    /**< owned; freed by peering_route_fini */
} peering_route;

/** Decides. Always fills `out` (kind NONE and `error` when refused). Returns 0 or PEERING_ERR_NOMEM. Call
 * peering_route_fini after. */
PEERING_API int peering_route_decide(const peering_snapshot *s, const peering_route_query *q,
                                     peering_route *out);
PEERING_API void peering_route_fini(peering_route *r);

/** Inbound (15008): checks a CONNECT authority against the connection's own address and finds the port to
 * dial. */
typedef struct peering_inbound_query {
    const peering_workload *local; /**< the captured workload */
    peering_str network;
    peering_ip conn_ip;         /**< address the connection was made to */
    peering_str authority_host; /**< IP text or hostname */
    peering_ip authority_ip;    /**< len 0 for a hostname */
    uint16_t authority_port;
} peering_inbound_query;
typedef struct peering_inbound {
    int status;                     /**< 200 go on, 400 or 503 refuse */
    uint16_t port;                  /**< on conn_ip */
    const peering_service *service; /**< for telemetry, or NULL */
    char error[256];
    bool proxy_header; /**< write a PROXY protocol header first, naming this destination: */
    peering_ip proxy_ip;
    uint16_t proxy_port;
} peering_inbound;
PEERING_API void peering_inbound_decide(const peering_snapshot *s, const peering_inbound_query *q,
                                        peering_inbound *out);
/** The service of `local` that a connection to `port` belongs to; `host` (from forwarded) wins when it is one
 * of them. NULL: unknown. */
PEERING_API const peering_service *peering_inbound_service(const peering_snapshot *s,
                                                           const peering_workload *local, peering_str host,
                                                           uint16_t port);

/** East-west gateway: outer CONNECT authority to an endpoint of the gateway's own network, nothing else (no
 * third network). */
typedef struct peering_gateway_query {
    peering_str network;
    peering_str gateway_ns; /**< namespace for hostname preference */
    peering_str authority_host;
    uint16_t authority_port;
    uint64_t random;
    peering_avoid avoid;
    void *avoid_arg;
} peering_gateway_query;
typedef struct peering_gateway_route {
    int status; /**< 200, 404 unknown service, 503 no healthy local endpoint */
    const peering_service *service;
    const peering_workload *workload;
    peering_ip ip;
    uint16_t port; /**< the endpoint's HBONE port */
    size_t remaining;
    char error[256];
} peering_gateway_route;
PEERING_API void peering_gateway_decide(const peering_snapshot *s, const peering_gateway_query *q,
                                        peering_gateway_route *out);

/** Value of the `baggage` header for a workload; returns the length, 0 when it does not fit in `cap`. */
PEERING_API size_t peering_baggage(const peering_workload *w, char *out, size_t cap);

#ifdef __cplusplus
}
#endif
#endif
