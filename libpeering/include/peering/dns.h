/* SPDX-License-Identifier: Apache-2.0 */
/** @file Names the mesh answers itself (ztunnel's DNS algorithm). Pure; packets are the caller's business. */
#ifndef PEERING_DNS_H
#define PEERING_DNS_H

#include <peering/table.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PEERING_DNS_ANSWERS_MAX 256
#define PEERING_DNS_SEARCH_MAX 16
typedef struct peering_dns_query {
    const peering_workload *client;
    peering_str network;
    peering_str cluster_domain;      /**< "cluster.local" */
    peering_str preferred_namespace; /**< PREFERED_SERVICE_NAMESPACE, or empty */
    const peering_str
        *search; /**< search domains; none: computed from the client's namespace and cluster_domain */
    size_t n_search;
    peering_str name; /**< as asked, any case, without the final dot */
    bool want_v6;     /**< AAAA instead of A */
    bool ipv6_enabled;
    uint64_t random; /**< order of the answers */
} peering_dns_query;
enum peering_dns_result {
    PEERING_DNS_FORWARD, /**< not ours: ask the upstream */
    PEERING_DNS_ANSWER,  /**< authoritative; n may be 0 (NOERROR, empty): also an unknown name under
                            mesh.internal, then service is NULL */
};
typedef struct peering_dns_answer {
    enum peering_dns_result result;
    bool cname; /**< a search domain was stripped: first a CNAME asked -> `target`, then the addresses under
                   `target` */
    char target[256];
    size_t n;
    peering_ip ips[PEERING_DNS_ANSWERS_MAX];
    const peering_service *service;
} peering_dns_answer;
PEERING_API void peering_dns_lookup(const peering_snapshot *s, const peering_dns_query *q,
                                    peering_dns_answer *out);

#ifdef __cplusplus
}
#endif
#endif
