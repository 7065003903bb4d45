/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The objects of a manifest as typed structs, one per (kind, namespace, name), and their index. Immutable
 * once read; strings live in the arena of the file version they came from. Control thread.
 */
#ifndef ISTHMUS_PEERING_MANIFEST_OBJECTS_H
#define ISTHMUS_PEERING_MANIFEST_OBJECTS_H

#include "manifest.h"
#include "manifest_read.h"

#define OBJECT_PORTS_MAX 1024u /* ports of one object */
#define OBJECT_IPS_MAX 16u     /* addresses of one Pod or Service */

enum obj_kind {
    OBJ_NONE,
    OBJ_NAMESPACE,
    OBJ_NODE,
    OBJ_SERVICE_ACCOUNT,
    OBJ_SERVICE,
    OBJ_POD,
    OBJ_ENDPOINT_SLICE,
    OBJ_GATEWAY,
    OBJ_SEGMENT,
    OBJ_AUTHORIZATION_POLICY,
    OBJ_PEER_AUTHENTICATION,
    OBJ_SERVICE_ENTRY,
    OBJ_WORKLOAD_ENTRY,
    OBJ_KINDS,
};
/* Labels and annotations with a meaning here. */
#define LABEL_SCOPE "solo.io/service-scope"
#define LABEL_TAKEOVER "solo.io/service-takeover"
#define LABEL_SEGMENT "admin.solo.io/segment"
#define LABEL_NETWORK "topology.istio.io/network"
#define LABEL_CLUSTER "topology.istio.io/cluster"
#define LABEL_REGION "topology.kubernetes.io/region"
#define LABEL_ZONE "topology.kubernetes.io/zone"
#define LABEL_SUBZONE "topology.istio.io/subzone"
#define LABEL_DATAPLANE "istio.io/dataplane-mode"
#define ANN_DISTRIBUTION "networking.istio.io/traffic-distribution"
#define ANN_REDIRECTION "ambient.istio.io/redirection"

struct obj_ips {
    struct pg_ip *ip;
    size_t n;
};
enum obj_distribution { /* words of traffic distribution */
                        OBJ_DIST_NONE,
                        OBJ_DIST_CLOSE, /* PreferClose, PreferSameZone */
                        OBJ_DIST_NODE,  /* PreferSameNode */
                        OBJ_DIST_NETWORK,
                        OBJ_DIST_REGION,
                        OBJ_DIST_ANY,
};
struct obj_namespace {
    bool has_scope;
    enum xds_fed_scope scope;
    enum obj_distribution distribution;
};
struct obj_service_port {
    struct pg_str name, target_name; /* target_name: named target port, else empty */
    uint16_t port, target;           /* target 0 when named */
    uint8_t app_protocol;            /* enum xds_app_protocol */
    bool udp;
};
struct obj_service {
    struct obj_kvs selector;
    struct obj_service_port *ports;
    size_t n_ports;
    struct obj_ips ips;
    uint8_t n_families; /* spec.ipFamilies */
    bool first_family_is_v6;
    bool external_name, node_local, publish_not_ready;
    enum obj_distribution distribution; /* of spec, else of the annotation */
    bool has_scope;
    enum xds_fed_scope scope;
};
struct obj_container_port {
    struct pg_str name;
    uint16_t port;
};
struct obj_pod {
    struct pg_str node, service_account, owner_kind, owner_name;
    struct obj_ips ips;
    struct obj_container_port *ports; /* named TCP ones */
    size_t n_ports;
    bool host_network, finished, ready, deleting;
};
struct obj_workload_entry { /* also an endpoint inside a ServiceEntry; its labels are those of the object */
    struct pg_str address;  /* as written, maybe empty */
    struct pg_ip ip;        /* len 0: `address` is a name or empty */
    struct pg_str network;  /* empty: the cluster's */
    struct pg_str service_account;
    struct pg_str region, zone, subzone;
    struct obj_container_port *ports; /* by the name of a port of the service */
    size_t n_ports;
    uint32_t weight; /* 0: not said */
};
enum obj_resolution { OBJ_RESOLUTION_NONE, OBJ_RESOLUTION_STATIC, OBJ_RESOLUTION_DNS };
struct obj_service_entry {
    struct obj_service as_service; /* selector and ports, for what it has in common with a Service */
    struct pg_str *hosts;
    size_t n_hosts;
    struct pg_prefix *addresses;
    size_t n_addresses;
    struct pg_str *sans;
    size_t n_sans;
    struct obj_workload_entry *endpoints;
    size_t n_endpoints;
    enum obj_resolution resolution;
    bool no_auto_address; /* label networking.istio.io/enable-autoallocate-ip: "false" */
};
struct obj_slice_port {
    struct pg_str name;
    uint16_t port;
};
struct obj_slice_endpoint {
    struct pg_str pod; /* targetRef of kind Pod, else empty */
    struct obj_ips ips;
    bool ready;
};
struct obj_slice {
    struct pg_str service; /* label kubernetes.io/service-name */
    bool fqdn;
    struct obj_slice_port *ports; /* TCP, with a name or the only one */
    size_t n_ports;
    struct obj_slice_endpoint *endpoints;
    size_t n_endpoints;
};
struct obj_listener {
    struct pg_str name, protocol;
    uint16_t port;
};
struct obj_gateway {
    struct pg_str gateway_class;
    struct pg_str addresses[PEER_ADDRESSES_MAX];
    size_t n_addresses;
    struct obj_listener *listeners;
    size_t n_listeners;
    uint64_t stale_deadline_s; /* 0: never */
};
struct obj_segment {
    struct pg_str domain;
};
struct obj_authorization {
    struct obj_kvs selector;
    bool has_selector;
    bool not_for_l4;          /* targetRefs, CUSTOM, AUDIT */
    struct xds_policy policy; /* name, ns, action, dry_run, rules; the scope is decided later */
};
enum obj_mtls { OBJ_MTLS_UNSET, OBJ_MTLS_DISABLE, OBJ_MTLS_PERMISSIVE, OBJ_MTLS_STRICT };
struct obj_port_mtls {
    uint16_t port;
    enum obj_mtls mode;
};
struct obj_peer_auth {
    struct obj_kvs selector;
    enum obj_mtls mode;
    struct obj_port_mtls *ports;
    size_t n_ports;
};

struct object {
    enum obj_kind kind;
    struct pg_str ns, name; /* ns is empty for cluster-wide kinds */
    struct obj_kvs labels, annotations;
    struct pg_str created; /* RFC 3339 or empty */
    const char *file;      /* name inside the directory; lives with the file version */
    unsigned line;
    struct object *next; /* in its file */
    union {
        struct obj_namespace namespace_;
        struct obj_service service;
        struct obj_pod pod;
        struct obj_slice slice;
        struct obj_gateway gateway;
        struct obj_segment segment;
        struct obj_authorization authorization;
        struct obj_peer_auth peer_auth;
        struct obj_service_entry service_entry;
        struct obj_workload_entry workload_entry;
    } u;
};

/* Text of a kind, "Service". */
const char *object_kind_name(enum obj_kind kind);
/* One document: appends what it holds (several for a List; nothing for kinds without a meaning here, counted
 * in *ignored) to the list ending at *tail. The reader says where and why on failure. */
int objects_read(struct reader *r, const struct yaml_node *doc, const char *file, struct object ***tail,
                 size_t *n, size_t *ignored) PG_MUST_CHECK;
/* Readers of one kind's spec; `doc` is the whole object, `o` has its metadata already. */
void object_read_service(struct reader *r, const struct yaml_node *doc, struct object *o);
void object_read_pod(struct reader *r, const struct yaml_node *doc, struct object *o);
void object_read_slice(struct reader *r, const struct yaml_node *doc, struct object *o);
void object_read_gateway(struct reader *r, const struct yaml_node *doc, struct object *o);
void object_read_segment(struct reader *r, const struct yaml_node *doc, struct object *o);
void object_read_authorization(struct reader *r, const struct yaml_node *doc, struct object *o);
void object_read_peer_auth(struct reader *r, const struct yaml_node *doc, struct object *o);
void object_read_service_entry(struct reader *r, const struct yaml_node *doc, struct object *o);
void object_read_workload_entry(struct reader *r, const struct yaml_node *doc, struct object *o);
/* enum xds_app_protocol from a word such as "http" or "kubernetes.io/h2c". */
uint8_t object_app_protocol(struct pg_str word);
/* List of addresses without repetition; elements are scalars, or maps whose `key` is the address. */
void object_read_ips(struct reader *r, const struct yaml_node *seq, const char *key, const char *in,
                     struct obj_ips *out);

/* The index of a manifest: objects now in force sorted by (kind, ns, name). */
struct object_index {
    const struct object *const *objects;
    size_t n;
};
const struct object_index *manifest_index(const struct manifest *m);
/* Puts one file of that text in the place of all there were, without touching the directory. For tests. */
int manifest_set_text(struct manifest *m, const char *name, struct pg_str text,
                      struct pg_errtext *err) PG_MUST_CHECK;
int object_key_cmp(enum obj_kind kind, struct pg_str ns, struct pg_str name, const struct object *o);
const struct object *index_find(const struct object_index *x, enum obj_kind kind, struct pg_str ns,
                                struct pg_str name);
/* Objects of a kind: *from and the count; with `ns` not NULL only those of that namespace. */
size_t index_range(const struct object_index *x, enum obj_kind kind, const struct pg_str *ns, size_t *from);

#endif
