/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plain structs of the resources that cross the wire: istio.workload (WDS), istio.security (WADS), and our
 * own federation type between control planes. Field numbers are in xds/proto/. Strings are slices; decoding
 * points them into an arena owned by the caller, encoding reads them wherever they live. Any thread.
 */
#ifndef ISTHMUS_XDS_MODEL_H
#define ISTHMUS_XDS_MODEL_H

#include "core/addr.h"
#include "core/str.h"

#define XDS_TYPE_ADDRESS "type.googleapis.com/istio.workload.Address"
#define XDS_TYPE_WORKLOAD "type.googleapis.com/istio.workload.Workload"
#define XDS_TYPE_AUTHORIZATION "type.googleapis.com/istio.security.Authorization"
#define XDS_TYPE_FEDERATED_SERVICE "type.googleapis.com/isthmus.federation.v1.FederatedService"
#define XDS_TYPE_SEGMENT "type.googleapis.com/isthmus.federation.v1.Segment"

enum xds_tunnel { XDS_TUNNEL_NONE = 0, XDS_TUNNEL_HBONE = 1, XDS_TUNNEL_LEGACY = 2 };
enum xds_health { XDS_HEALTHY = 0, XDS_UNHEALTHY = 1 };
enum xds_network_mode { XDS_NETWORK_STANDARD = 0, XDS_NETWORK_HOST = 1 };
enum xds_ip_families { XDS_IP_AUTOMATIC = 0, XDS_IP_V4_ONLY = 1, XDS_IP_V6_ONLY = 2, XDS_IP_DUAL = 3 };
enum xds_lb_scope {
    XDS_SCOPE_REGION = 1,
    XDS_SCOPE_ZONE = 2,
    XDS_SCOPE_SUBZONE = 3,
    XDS_SCOPE_NODE = 4,
    XDS_SCOPE_CLUSTER = 5,
    XDS_SCOPE_NETWORK = 6,
};
enum xds_lb_mode { XDS_LB_UNSPECIFIED = 0, XDS_LB_STRICT = 1, XDS_LB_FAILOVER = 2, XDS_LB_PASSTHROUGH = 3 };
enum xds_health_policy { XDS_ONLY_HEALTHY = 0, XDS_ALLOW_ALL = 1 };
enum xds_workload_type { XDS_DEPLOYMENT = 0, XDS_CRONJOB = 1, XDS_POD = 2, XDS_JOB = 3 };
enum xds_app_protocol {
    XDS_APP_UNKNOWN = 0,
    XDS_APP_HTTP11 = 1,
    XDS_APP_HTTP2 = 2,
    XDS_APP_GRPC = 3,
    XDS_APP_TCP = 4,
    XDS_APP_TLS = 5
};
enum xds_visibility { XDS_VISIBILITY_PUBLIC = 0, XDS_VISIBILITY_NAMESPACE = 1 };

struct xds_net_addr {
    struct pg_str network;
    struct pg_ip ip;
    uint8_t bits; /* full length (32/128) for an exact address */
};
struct xds_port {
    uint16_t service_port;
    uint16_t target_port; /* 0: named, resolved per endpoint */
    uint8_t app_protocol;
};
enum xds_gateway_kind { XDS_GATEWAY_NONE, XDS_GATEWAY_HOSTNAME, XDS_GATEWAY_ADDRESS };
struct xds_gateway { /* GatewayAddress */
    enum xds_gateway_kind kind;
    struct pg_str ns, hostname;
    struct xds_net_addr address;
    uint16_t hbone_port;
};
struct xds_locality {
    struct pg_str region, zone, subzone;
};
struct xds_workload_service { /* entry of Workload.services */
    struct pg_str key;        /* "<ns>/<hostname>" */
    struct xds_port *ports;
    size_t n_ports;
};
struct xds_workload {
    struct pg_str uid, name, ns;
    struct pg_ip *ips;
    size_t n_ips;
    struct pg_str network, trust_domain, service_account, node, hostname;
    struct pg_str canonical_name, canonical_revision, workload_name, cluster_id;
    enum xds_tunnel tunnel;
    enum xds_workload_type type;
    enum xds_health health;
    enum xds_network_mode network_mode;
    bool native_tunnel;
    struct xds_gateway waypoint, network_gateway;
    struct pg_str *policies; /* "ns/name" */
    size_t n_policies;
    struct xds_workload_service *services;
    size_t n_services;
    uint8_t app_tunnel_protocol; /* 0 none, 1 PROXY */
    uint16_t app_tunnel_port;
    struct xds_locality locality;
    bool has_capacity;
    uint32_t capacity; /* weight; absent means 1 */
};
struct xds_weighted_waypoint {
    struct xds_gateway destination;
    uint32_t weight;
};
struct xds_service {
    struct pg_str name, ns, hostname;
    struct xds_net_addr *addresses;
    size_t n_addresses;
    struct xds_port *ports;
    size_t n_ports;
    struct pg_str *sans; /* SPIFFE ids */
    size_t n_sans;
    struct xds_gateway waypoint;
    struct xds_weighted_waypoint
        *weighted_waypoints; /* one is drawn per connection; none or all of weight 0: `waypoint` */
    size_t n_weighted_waypoints;
    bool has_lb;
    uint8_t lb_scopes[8]; /* enum xds_lb_scope */
    size_t n_lb_scopes;
    enum xds_lb_mode lb_mode;
    enum xds_health_policy health_policy;
    enum xds_ip_families ip_families;
    bool canonical;
    enum xds_visibility visibility;
};
enum xds_address_kind { XDS_ADDRESS_WORKLOAD = 1, XDS_ADDRESS_SERVICE = 2 };
struct xds_address {
    enum xds_address_kind kind;
    union {
        struct xds_workload workload;
        struct xds_service service;
    } u;
};

enum xds_policy_scope { XDS_POLICY_GLOBAL = 0, XDS_POLICY_NAMESPACE = 1, XDS_POLICY_SELECTOR = 2 };
enum xds_policy_action { XDS_POLICY_ALLOW = 0, XDS_POLICY_DENY = 1 };
enum xds_match_kind { XDS_MATCH_EXACT, XDS_MATCH_PREFIX, XDS_MATCH_SUFFIX, XDS_MATCH_PRESENCE };
struct xds_string_match {
    enum xds_match_kind kind;
    struct pg_str value;
};
struct xds_sa_match {
    struct pg_str ns, sa;
};
struct xds_match { /* AND over the pairs; [0] positive list, [1] negative list */
    struct xds_string_match *namespaces[2];
    size_t n_namespaces[2];
    struct xds_string_match *principals[2];
    size_t n_principals[2];
    struct pg_prefix *source_ips[2];
    size_t n_source_ips[2];
    struct pg_prefix *destination_ips[2];
    size_t n_destination_ips[2];
    uint16_t *ports[2];
    size_t n_ports[2];
    struct xds_sa_match *service_accounts[2];
    size_t n_service_accounts[2];
};
struct xds_clause { /* matches are ORed */
    struct xds_match *matches;
    size_t n_matches;
};
struct xds_rule { /* clauses are ANDed */
    struct xds_clause *clauses;
    size_t n_clauses;
};
struct xds_policy {
    struct pg_str name, ns;
    enum xds_policy_scope scope;
    enum xds_policy_action action;
    bool dry_run;
    struct xds_rule *rules; /* ORed; none: never matches */
    size_t n_rules;
    /* Something in it was not understood (unknown enum, unparsable match, port over 65535, unknown field
     * of a match). Such a policy denies; the decoder reports why and the resource is NACKed by name. */
    bool unparsable;
};

/* Our federation type: one exported service, from one control plane to another. Resource name "<ns>/<name>".
 */
enum xds_fed_scope { XDS_FED_CLUSTER = 0, XDS_FED_GLOBAL = 1, XDS_FED_GLOBAL_ONLY = 2, XDS_FED_SEGMENT = 3 };
enum xds_fed_distribution { XDS_DIST_NETWORK = 0, XDS_DIST_CLOSE = 1, XDS_DIST_REGION = 2, XDS_DIST_ANY = 3 };
struct xds_fed_capacity {
    struct pg_str network;
    uint32_t healthy; /* sum of capacities of healthy endpoints */
    uint32_t total;
};
struct xds_fed_service {
    struct pg_str name, ns, hostname; /* hostname: the exporter's own svc.<domain> name */
    enum xds_fed_scope scope;
    struct pg_str segment;
    enum xds_fed_distribution distribution;
    struct xds_port *ports;
    size_t n_ports;
    struct pg_str *sans;
    size_t n_sans;
    struct xds_fed_capacity *capacity;
    size_t n_capacity;
};
struct xds_segment { /* resource name = name */
    struct pg_str name, domain;
};

#endif
