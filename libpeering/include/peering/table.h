/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * The workload table a data path reads, and its snapshots. Semantics are ztunnel's (join of workloads and
 * services, address conflict ranks, staged endpoints, visibility), without its known faults: unhealthy
 * endpoints are kept and filtered at choice, CIDR addresses are replaced not appended, equal addresses in one
 * namespace do not delete each other.
 */
#ifndef PEERING_TABLE_H
#define PEERING_TABLE_H

#include <peering/peering.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct peering_table peering_table;
typedef struct peering_snapshot peering_snapshot;
/** Records inside a snapshot; live with it. */
typedef struct peering_workload peering_workload;
typedef struct peering_service peering_service;
typedef struct peering_policy peering_policy;

/** Resource kinds a table takes. */
enum peering_kind {
    PEERING_KIND_ADDRESS,       /**< istio.workload.Address: a workload or a service */
    PEERING_KIND_AUTHORIZATION, /**< istio.security.Authorization */
};
enum peering_protocol { PEERING_PROTOCOL_TCP = 0, PEERING_PROTOCOL_HBONE = 1 };

/** Creates an empty table. PEERING_ERR_NOMEM. */
PEERING_API int peering_table_new(peering_table **out);
/** Frees the table; snapshots taken from it stay valid. NULL is fine. */
PEERING_API void peering_table_free(peering_table *t);
/** Adds or replaces one resource from its wire bytes (copied). PEERING_ERR_PARSE with the reason in `why`
 * (may be NULL): the old value, if any, stays; an unparsable policy is kept as one that denies.
 * PEERING_ERR_NOMEM, PEERING_ERR_LIMIT. */
PEERING_API int peering_table_put(peering_table *t, enum peering_kind kind, peering_str name,
                                  const void *bytes, size_t len, peering_text *why);
/** Removes by resource name (workload uid, "ns/hostname", "ns/policy"). PEERING_ERR_NOTFOUND when unknown. */
PEERING_API int peering_table_remove(peering_table *t, enum peering_kind kind, peering_str name);
/** A snapshot of the table now, with one reference for the caller; the previous one when nothing changed.
 * PEERING_ERR_NOMEM. */
PEERING_API int peering_table_snapshot(peering_table *t, peering_snapshot **out);

/** Adds a reference; any thread. @return `s` */
PEERING_API peering_snapshot *peering_snapshot_ref(peering_snapshot *s);
/** Drops a reference; any thread; the last one frees. NULL is fine. */
PEERING_API void peering_snapshot_unref(peering_snapshot *s);
/** Counts up with each snapshot that differs. */
PEERING_API uint64_t peering_snapshot_generation(const peering_snapshot *s);

/* Look-ups: NULL when there is none. */
PEERING_API const peering_workload *peering_find_workload(const peering_snapshot *s, peering_str uid);
/** By (network, address); host-network workloads are not found by address. Conflicts: highest rank wins. */
PEERING_API const peering_workload *peering_find_workload_by_ip(const peering_snapshot *s,
                                                                peering_str network, const peering_ip *ip);
/** A local workload by name, namespace and service account; `node` non-empty: only workloads on that node. */
PEERING_API const peering_workload *peering_find_workload_by_name(const peering_snapshot *s, peering_str ns,
                                                                  peering_str name,
                                                                  peering_str service_account,
                                                                  peering_str node);
PEERING_API const peering_service *peering_find_service(const peering_snapshot *s, peering_str ns,
                                                        peering_str hostname);
/** By hostname as seen from namespace `client_ns`: own namespace, then canonical, then first; visibility
 * applies. */
PEERING_API const peering_service *peering_find_service_by_host(const peering_snapshot *s,
                                                                peering_str hostname, peering_str client_ns);
/** By virtual address as seen from `client_ns`: exact first, then prefixes (same namespace, longest,
 * canonical). */
PEERING_API const peering_service *peering_find_service_by_vip(const peering_snapshot *s, peering_str network,
                                                               const peering_ip *ip, peering_str client_ns);
PEERING_API const peering_policy *peering_find_policy(const peering_snapshot *s, peering_str key);
/** Iteration in name order; `*it` starts at 0. NULL at the end. */
PEERING_API const peering_workload *peering_next_workload(const peering_snapshot *s, size_t *it);
PEERING_API const peering_service *peering_next_service(const peering_snapshot *s, size_t *it);
PEERING_API const peering_policy *peering_next_policy(const peering_snapshot *s, size_t *it);

/* Workload accessors. */
PEERING_API peering_str peering_workload_uid(const peering_workload *w);
PEERING_API peering_str peering_workload_name(const peering_workload *w);
PEERING_API peering_str peering_workload_namespace(const peering_workload *w);
PEERING_API peering_str peering_workload_service_account(const peering_workload *w);
PEERING_API peering_str peering_workload_trust_domain(const peering_workload *w);
/** "spiffe://<td>/ns/<ns>/sa/<sa>" */
PEERING_API peering_str peering_workload_identity(const peering_workload *w);
PEERING_API peering_str peering_workload_network(const peering_workload *w);
PEERING_API peering_str peering_workload_node(const peering_workload *w);
PEERING_API peering_str peering_workload_cluster(const peering_workload *w);
PEERING_API peering_str peering_workload_hostname(const peering_workload *w);
PEERING_API peering_str peering_workload_canonical_name(const peering_workload *w);
PEERING_API peering_str peering_workload_canonical_revision(const peering_workload *w);
PEERING_API peering_str peering_workload_workload_name(const peering_workload *w);
/** "deployment", "cronjob", "pod" or "job" */
PEERING_API peering_str peering_workload_type(const peering_workload *w);
PEERING_API peering_str peering_workload_region(const peering_workload *w);
PEERING_API peering_str peering_workload_zone(const peering_workload *w);
PEERING_API peering_str peering_workload_subzone(const peering_workload *w);
PEERING_API enum peering_protocol peering_workload_protocol(const peering_workload *w);
PEERING_API bool peering_workload_is_healthy(const peering_workload *w);
PEERING_API bool peering_workload_is_host_network(const peering_workload *w);
/** Takes HBONE itself (no proxy in between). */
PEERING_API bool peering_workload_is_native_tunnel(const peering_workload *w);
/** The application terminates tunnels itself: `*proxy` with a PROXY protocol header, `*port` 0 when it stays
 * as asked. False: none. */
PEERING_API bool peering_workload_app_tunnel(const peering_workload *w, bool *proxy, uint16_t *port);
PEERING_API uint32_t peering_workload_capacity(const peering_workload *w);
PEERING_API size_t peering_workload_ips(const peering_workload *w, const peering_ip **out);
/** Network gateway text "net/ip:port" or "ns/host:port", empty when none. */
PEERING_API peering_str peering_workload_gateway(const peering_workload *w);
PEERING_API peering_str peering_workload_waypoint(const peering_workload *w);
/** Names of selector policies it references. */
PEERING_API size_t peering_workload_policies(const peering_workload *w, const peering_str **out);
/** Services ("ns/hostname") it is an endpoint of. */
PEERING_API size_t peering_workload_services(const peering_workload *w, const peering_str **out);
/** Port on this workload behind (service, service_port); 0 when it has no mapping. */
PEERING_API uint16_t peering_workload_target_port(const peering_workload *w, peering_str service_key,
                                                  uint16_t service_port);

/* Service accessors. */
typedef struct peering_vip {
    peering_str network;
    peering_ip ip;
    uint8_t bits;
} peering_vip;
typedef struct peering_port {
    uint16_t service_port;
    uint16_t target_port; /**< 0: named, resolved per endpoint */
    uint8_t app_protocol;
} peering_port;
PEERING_API peering_str peering_service_key(const peering_service *v); /**< "ns/hostname" */
PEERING_API peering_str peering_service_name(const peering_service *v);
PEERING_API peering_str peering_service_namespace(const peering_service *v);
PEERING_API peering_str peering_service_hostname(const peering_service *v);
PEERING_API size_t peering_service_vips(const peering_service *v, const peering_vip **out);
PEERING_API size_t peering_service_ports(const peering_service *v, const peering_port **out);
PEERING_API size_t peering_service_sans(const peering_service *v, const peering_str **out);
/** Endpoints in uid order, whatever their health. */
PEERING_API size_t peering_service_endpoints(const peering_service *v, const peering_workload *const **out);
PEERING_API bool peering_service_is_canonical(const peering_service *v);
PEERING_API bool peering_service_is_passthrough(const peering_service *v);
/** Text of the load balancing, e.g. "NETWORK FAILOVER", "" for none. */
PEERING_API peering_str peering_service_load_balancing(const peering_service *v);

/** Writes the JSON objects of ztunnel's config_dump (keys as in its local file format) for one record,
 * through `write`; a non-zero return of `write` stops. Used by /config_dump. */
typedef int (*peering_write)(void *arg, const char *p, size_t len);
PEERING_API int peering_workload_json(const peering_workload *w, peering_write write, void *arg);
PEERING_API int peering_service_json(const peering_service *v, peering_write write, void *arg);
PEERING_API int peering_policy_json(const peering_policy *p, peering_write write, void *arg);
PEERING_API peering_str peering_policy_key(const peering_policy *p); /**< "ns/name" */

#ifdef __cplusplus
}
#endif
#endif
