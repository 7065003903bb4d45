/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of a snapshot: sorted arrays of records and chained indexes over them. Immutable after
 * snapshot_build returns; read by any thread. Only snapshot.c and lookup.c look at the members; everything
 * else goes through look-ups and accessors, so that a more compact form can take their place.
 */
#ifndef ISTHMUS_PEERING_SNAPSHOT_H
#define ISTHMUS_PEERING_SNAPSHOT_H

#include "records.h"

/* Hash chains: building is linear whatever the keys are, so that no set of names can make it slow. An entry
 * refers to element `ref` of the array the index is over; chains keep the order of that array. */
struct snap_index {
    uint32_t *heads; /* mask + 1; 1 + entry, 0 none */
    struct snap_entry *entries;
    uint32_t mask;
    uint32_t n;
};
struct snap_entry {
    uint32_t hash;
    uint32_t ref;
    uint32_t next;
};

struct peering_snapshot {
    atomic_uint refs;
    uint64_t generation;
    peering_workload **workloads; /* uid order; one reference each */
    size_t n_workloads;
    peering_service *services; /* key order; one reference to each record */
    size_t n_services;
    peering_policy **policies; /* key order; one reference each */
    size_t n_policies;
    const peering_policy **globals; /* of scope GLOBAL */
    size_t n_globals;
    const peering_workload **endpoints; /* what the services point into */
    struct snap_index by_ip;            /* workloads, not host-network */
    struct snap_index by_name;          /* workloads: namespace, name, service account */
    struct snap_index by_host;          /* services */
    struct snap_index by_vip;           /* services */
    uint8_t lens4[33], lens6[129];      /* prefix lengths in use, longest first */
    size_t n_lens4, n_lens6;
};

/* Arrays of records in key order, by enum rec_kind; the snapshot takes its own references. PG_E_NOMEM,
 * PG_E_LIMIT. Table's thread only (it writes the scratch of rec_shared). */
struct snapshot_input {
    void **records[3];
    size_t n[3];
};
int snapshot_build(const struct snapshot_input *in, uint64_t generation,
                   peering_snapshot **out) PG_MUST_CHECK;

/* First entry of the chain of `hash` and the next of the same hash; 0 at the end, else 1 + entry. */
static inline uint32_t snap_index_scan(const struct snap_index *x, uint32_t at, uint32_t hash)
{
    while (at != 0 && x->entries[at - 1].hash != hash) {
        at = x->entries[at - 1].next;
    }
    return at;
}
static inline uint32_t snap_index_first(const struct snap_index *x, uint32_t hash)
{
    return x->n == 0 ? 0 : snap_index_scan(x, x->heads[hash & x->mask], hash);
}
static inline uint32_t snap_index_next(const struct snap_index *x, uint32_t at, uint32_t hash)
{
    return snap_index_scan(x, x->entries[at - 1].next, hash);
}
#define SNAP_INDEX_FOREACH(x, hash, at)                                                                      \
    for (uint32_t at = snap_index_first((x), (hash)); at != 0; at = snap_index_next((x), at, (hash)))

/* Policies of one namespace: [*from, *to). */
void snapshot_policy_range(const peering_snapshot *s, struct pg_str ns, size_t *from, size_t *to);

#endif
