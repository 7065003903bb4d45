/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What sources bring: each source owns one contribution keyed (source, generation), replaced as a whole or by
 * its owner only, so one peer's end can never wipe or leak another's data. Control thread.
 */
#ifndef ISTHMUS_PEERING_CONTRIB_H
#define ISTHMUS_PEERING_CONTRIB_H

#include "xds/model.h"

#define CONTRIB_PEERS_MAX 256u
#define CONTRIB_SERVICES_MAX 100000u
#define CONTRIB_WORKLOADS_MAX 200000u
#define CONTRIB_ARENA_MAX (1024u * 1024 * 1024)

/* --- local state --- */
struct contrib_service {
    struct xds_service svc;   /* own name: <name>.<ns>.svc.<domain> */
    enum xds_fed_scope scope; /* label solo.io/service-scope on the Service, else on its Namespace */
    bool takeover; /* label solo.io/service-takeover=true: the own host spans clusters as with global-only */
    enum xds_fed_distribution distribution;
    bool has_distribution; /* networking.istio.io/traffic-distribution or spec.trafficDistribution said so */
    bool auto_vip;         /* host of a ServiceEntry without addresses: merge gives it a virtual one */
};
struct contrib_workload {
    struct xds_workload w; /* .services keyed by the own names of local services */
};
struct contrib_local {
    struct pg_arena arena; /* owns everything below */
    struct contrib_service *services;
    size_t n_services;
    struct contrib_workload *workloads;
    size_t n_workloads;
    struct xds_policy *policies;
    size_t n_policies;
    struct pg_str network; /* label topology.istio.io/network of the system namespace, or empty */
    struct pg_str segment; /* label admin.solo.io/segment of the system namespace, or empty */
    struct xds_segment *segments;
    size_t n_segments;
};
void contrib_local_fini(struct contrib_local *l);

/* --- gateways of class istio-eastwest (own) and istio-remote (peers) --- */
#define PEER_ADDRESSES_MAX 8u
struct peer_config {       /* strings are heap copies; see peer_config_fini */
    char *ns, *name;       /* of the Gateway object */
    char *cluster;         /* label topology.istio.io/cluster, else network label, else name suffix after
                              "istio-remote-peer-" */
    char *network;         /* label topology.istio.io/network */
    char *trust_domain;    /* annotation gateway.istio.io/trust-domain, else own */
    char *service_account; /* annotation gateway.istio.io/service-account, else the object's name */
    char *region, *zone;   /* labels topology.kubernetes.io/..., "" when absent */
    char *addresses[PEER_ADDRESSES_MAX]; /* spec.addresses[].value, IPs or hostnames */
    size_t n_addresses;
    uint16_t xds_port;   /* listener xds-tls (or protocol TLS), default 15012 */
    uint16_t hbone_port; /* listener of protocol HBONE, default 15008 */
    uint64_t
        stale_deadline_s; /* annotation isthmus.dev/stale-deadline: duration or "never" (0); default 3600 */
    bool accepted;        /* understood and complete */
    char reason[200];     /* why not, e.g. "AddressNotAssigned: spec.addresses is empty" */
    char file[256];       /* where it stands, with the line: "peers.yaml:12" */
};
void peer_config_fini(struct peer_config *c);
bool peer_config_eq(const struct peer_config *a, const struct peer_config *b);
struct eastwest_config { /* own gateway object of class istio-eastwest */
    char *ns, *name, *network, *region, *zone;
    char *addresses[PEER_ADDRESSES_MAX];
    size_t n_addresses;
    uint16_t xds_port, hbone_port;
    char file[256];
};
void eastwest_config_fini(struct eastwest_config *c);

/* --- what a peer sent --- */
enum peer_data {                  /* see peer_state.h */
                 PEER_DATA_NONE,  /* never synced, or withdrawn at the deadline */
                 PEER_DATA_FRESH, /* stream up and synced */
                 PEER_DATA_STALE, /* stream lost, data path proven alive by the probe: kept, behind fresh ones
                                   */
                 PEER_DATA_UNHEALTHY, /* stream lost and the probe fails: kept, marked unhealthy */
};
struct contrib_peer {
    const struct peer_config *config; /* borrowed */
    uint64_t generation;
    enum peer_data data;
    /* Encoded resources as received, by name; the peer session owns them. Iterate with the callbacks of
     * merge. */
    struct pg_map *services; /* name -> struct contrib_blob * (FederatedService) */
    struct pg_map
        *workloads; /* uid -> struct contrib_blob * (Address), only used when the networks are equal */
};
struct contrib_blob {
    struct pg_str name;
    struct pg_str bytes;
};

#endif
