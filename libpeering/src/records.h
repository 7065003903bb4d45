/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records: what a table keeps of one resource. Immutable once made and reference-counted, so that the table
 * and any number of snapshots share them; the last reference may be dropped on any thread. What the replicas
 * of one set have in common is interned once in a `struct rec_shared`.
 */
#ifndef ISTHMUS_PEERING_RECORDS_H
#define ISTHMUS_PEERING_RECORDS_H

#include "convert.h"

#include <stdatomic.h>

enum rec_kind { REC_WORKLOAD, REC_SERVICE, REC_POLICY };

/* First member of every record. */
struct rec_head {
    atomic_uint refs;
    enum rec_kind kind;
    uint32_t wire_len; /* of the resource it was made from */
    uint64_t digest;   /* of the same */
    uint64_t seq;      /* counts puts: the later of two rivals has the higher number */
    struct pg_str key; /* workload uid, "ns/hostname", "ns/policy" */
};

/* One allocation. `w` holds the fields that replicas share (uid, name, ips, node, hostname, health and
 * capacity are empty in it); strings and arrays lie behind it. */
struct rec_shared {
    atomic_uint refs;
    struct pg_str key; /* canonical encoding of `w` */
    struct xds_workload w;
    struct pg_str identity;
    struct pg_str gateway_text; /* "net/ip:port" or "ns/host:port", or empty */
    struct pg_str waypoint_text;
    peering_str *policies;     /* w.n_policies */
    peering_str *service_keys; /* w.n_services, in key order, no duplicates */
    uint32_t network_hash;
    /* Scratch of the table's thread while it builds snapshot number `build_mark`. */
    uint64_t build_mark;
    uint32_t *build_refs; /* w.n_services: 1 + index of the service, 0 when unknown */
};

/* One allocation. */
struct peering_workload {
    struct rec_head head; /* key = uid */
    struct rec_shared *shared;
    struct pg_str name, node, hostname;
    peering_ip *ips;
    uint32_t *ip_hashes; /* of (network, ip) */
    uint32_t n_ips;
    uint32_t name_hash; /* of (namespace, name, service account) */
    uint32_t capacity;
    bool healthy;
    uint8_t address_rank; /* who wins a shared address */
};

/* One allocation: the service resource without its endpoints. */
struct rec_service {
    struct rec_head head;
    struct xds_service s; /* addresses, ports and sans are NULL: see the public arrays */
    peering_vip *vips;
    uint32_t *vip_hashes; /* of (network, masked ip, bits) */
    peering_port *ports;
    peering_str *sans;
    struct pg_str lb_text;
    struct pg_str waypoint_text;
    uint32_t host_hash;
};

/* A service in one snapshot. */
struct peering_service {
    const struct rec_service *rec;
    const peering_workload *const *endpoints; /* uid order */
    size_t n_endpoints;
};

struct peering_policy {
    struct rec_head head;
    struct pg_arena arena; /* owns p */
    struct xds_policy p;
};

/* Makers take a decoded resource (slices anywhere) and return a record with one reference. PG_E_NOMEM,
 * PG_E_LIMIT. `shared` gets its own reference. */
int rec_shared_make(const struct xds_workload *w, struct pg_str key, struct rec_shared **out) PG_MUST_CHECK;
/* Encodes what replicas share: equal bytes, equal rec_shared. */
int rec_shared_key(const struct xds_workload *w, struct pg_sb *out) PG_MUST_CHECK;
void rec_shared_unref(struct rec_shared *s);
int rec_workload_make(const struct xds_workload *w, struct rec_shared *shared,
                      peering_workload **out) PG_MUST_CHECK;
int rec_service_make(const struct xds_service *s, struct pg_str key, struct rec_service **out) PG_MUST_CHECK;
/* Takes the arena over (also on failure). */
int rec_policy_make(struct pg_arena *arena, const struct xds_policy *p, struct pg_str key,
                    peering_policy **out) PG_MUST_CHECK;
void *rec_ref(void *rec);
void rec_unref(void *rec); /* any thread; NULL is fine */

/* Hashes of the snapshot's indexes. */
uint32_t rec_hash_ip(uint32_t network_hash, const peering_ip *ip, unsigned bits);
uint32_t rec_hash_str(struct pg_str s);
uint32_t rec_hash_name(struct pg_str ns, struct pg_str name, struct pg_str sa);

/* Helpers on records. */
static inline const struct xds_workload *wl_shared(const peering_workload *w)
{
    return &w->shared->w;
}
const struct xds_workload_service *wl_service(const peering_workload *w, struct pg_str key); /* or NULL */
bool wl_has_ip(const peering_workload *w, const peering_ip *ip);
/* Target port of `port` in the service, 0 named; false when the service does not declare it. */
bool svc_port(const peering_service *v, uint16_t port, uint16_t *target);

#endif
