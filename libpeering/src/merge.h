/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Merge: contributions in, resources out. Pure and deterministic: the result depends on what the
 * contributions hold, never on the order of arrival. Produces the node view (everything a proxy needs) and
 * the export view (what peers may see). Control thread.
 *
 * Truth table for solo.io/service-scope: a cluster contributes endpoints iff its own Service carries the
 * scope; the host <name>.<ns>.mesh.internal exists as soon as one linked cluster contributes. A Service with
 * scope global-only or the takeover label reaches remote endpoints under its own host too. Scope segment
 * counts between clusters of one segment (none is one).
 *
 * Age. WDS cannot rank by it, so a stale peer's entries of a service are left out of the node view while a
 * fresh peer reached the same way (both through gateways, or both flat) has healthy capacity for it; they
 * return when that ends. The result lists them all the same, marked stale. Unhealthy peers' entries stay,
 * marked UNHEALTHY.
 *
 * A peer's resource is left out, counted in `decode_problems` and logged when it cannot be decoded, is not
 * named <ns>/<name>, is a pod without its cluster's uid prefix, outside its network or imported by the peer
 * itself; identities outside the peer's trust domain are left out of SANs with a warning on the service.
 */
#ifndef ISTHMUS_PEERING_MERGE_H
#define ISTHMUS_PEERING_MERGE_H

#include "contrib.h"
#include "xds/server.h"

#define MERGE_DOMAIN "mesh.internal"

/* VIPs: derived from the hostname inside 240.240.0.0/16 and 2001:2::/48, collision-probed, remembered, so
 * that restarts and replicas agree. `text` form: one "<hostname> <v4> <v6>" a line. */
struct vip_pool;
int vip_pool_new(struct vip_pool **out) PG_MUST_CHECK;
void vip_pool_free(struct vip_pool *p);
int vip_pool_get(struct vip_pool *p, struct pg_str hostname, struct pg_ip *v4,
                 struct pg_ip *v6) PG_MUST_CHECK; /* PG_E_LIMIT: full, or no host name */
bool vip_pool_is_dirty(const struct vip_pool *p); /* an allocation since the last load or save */
int vip_pool_save(struct vip_pool *p, struct pg_sb *out) PG_MUST_CHECK; /* clears dirty */
/* Malformed or conflicting lines are skipped and counted. Returns how many were skipped. */
size_t vip_pool_load(struct vip_pool *p, struct pg_str text);
bool vip_is_auto(const struct pg_ip *ip); /* inside one of the two ranges */

struct merge_self {
    struct pg_str cluster, network, trust_domain, domain, system_ns, region, zone;
    bool flat_enabled; /* PEERING_ENABLE_FLAT_NETWORKS: import pods of peers with the same network */
};
/* One union service, for status, `get services`, and the objects other tools know (autogen.* names). */
struct merge_endpoint {
    struct pg_str object; /* "autogen.<cluster>.<ns>.<svc>", "autogenflat.<cluster>.<ns>.<pod>.<12 hex>", or
                             the local workload's uid */
    struct pg_str cluster, network;
    struct pg_str address; /* "" for gateway entries */
    uint32_t capacity;
    bool healthy;
    bool stale;
};
struct merge_global {
    struct pg_str name, ns, hostname;
    enum xds_fed_scope scope; /* strongest among the contributors */
    enum xds_fed_distribution distribution;
    struct pg_ip vip4, vip6;
    struct merge_endpoint *endpoints;
    size_t n_endpoints;
    struct pg_str *clusters; /* contributors, sorted */
    size_t n_clusters;
    struct pg_str warning; /* e.g. ports differ between clusters; or empty */
};
struct merge_result {
    struct pg_arena arena;        /* owns everything below */
    struct merge_global *globals; /* sorted by (ns, name) */
    size_t n_globals;
};
void merge_result_fini(struct merge_result *r);
/* Brings both views to what the contributions say (sets what differs, deletes what is gone, commits once).
 * `peers` in any order. On PG_E_NOMEM or PG_E_LIMIT the views may hold a part of the change, uncommitted;
 * call again. `decode_problems` gets how many resources of peers could not be decoded (they are left out and
 * logged by name). */
int merge_run(const struct merge_self *self, const struct contrib_local *local,
              const struct contrib_peer *peers, size_t n_peers, struct vip_pool *vips, struct xds_view *node,
              struct xds_view *export_view, struct merge_result *out, size_t *decode_problems,
              struct pg_errtext *err) PG_MUST_CHECK;

#endif
