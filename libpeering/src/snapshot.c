/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Building, sharing and freeing snapshots. One pass over the records each for the arrays, the join of
 * endpoints to services and the indexes; nothing compares names except the look-up of a replica set's
 * services, done once per set and build. Built on the table's thread, freed on any.
 */
#include "snapshot.h"

#define JOINS_MAX UINT32_MAX

/* --- indexes ------------------------------------------------------------------------------------------ */

static int index_init(struct snap_index *x, size_t n)
{
    if (n == 0) {
        return 0;
    }
    if (n >= UINT32_MAX / 2) {
        return PG_E_LIMIT;
    }
    size_t cap = 16;
    while (cap < n) {
        cap *= 2;
    }
    x->heads = pg_calloc(cap, sizeof(*x->heads));
    x->entries = pg_calloc(n, sizeof(*x->entries));
    x->mask = (uint32_t)(cap - 1);
    return x->heads != NULL && x->entries != NULL ? 0 : PG_E_NOMEM;
}

/* Adds in front of the chain; add in descending order to read in ascending order. */
static void index_add(struct snap_index *x, uint32_t hash, size_t ref)
{
    uint32_t *head = &x->heads[hash & x->mask];
    x->entries[x->n] = (struct snap_entry){.hash = hash, .ref = (uint32_t)ref, .next = *head};
    x->n++;
    *head = x->n;
}

static void index_fini(struct snap_index *x)
{
    pg_free(x->heads);
    pg_free(x->entries);
}

static int index_workloads(peering_snapshot *s)
{
    size_t ips = 0;
    for (size_t i = 0; i < s->n_workloads; i++) {
        ips += wl_shared(s->workloads[i])->network_mode == XDS_NETWORK_HOST ? 0 : s->workloads[i]->n_ips;
    }
    int r = index_init(&s->by_ip, ips);
    if (r == 0) {
        r = index_init(&s->by_name, s->n_workloads);
    }
    for (size_t i = s->n_workloads; r == 0 && i > 0; i--) {
        const peering_workload *w = s->workloads[i - 1];
        index_add(&s->by_name, w->name_hash, i - 1);
        if (wl_shared(w)->network_mode != XDS_NETWORK_HOST) {
            for (size_t k = 0; k < w->n_ips; k++) {
                index_add(&s->by_ip, w->ip_hashes[k], i - 1);
            }
        }
    }
    return r;
}

static void note_length(const peering_vip *v, bool *seen4, bool *seen6)
{
    if (v->ip.len == 4 && v->bits <= 32) {
        seen4[v->bits] = true;
    } else if (v->ip.len == 16 && v->bits <= 128) {
        seen6[v->bits] = true;
    }
}

static size_t collect_lengths(const bool *seen, unsigned longest, uint8_t *out)
{
    size_t n = 0;
    for (unsigned bits = longest + 1; bits-- > 0;) {
        if (seen[bits]) {
            out[n++] = (uint8_t)bits;
        }
    }
    return n;
}

static int index_services(peering_snapshot *s)
{
    size_t vips = 0;
    for (size_t i = 0; i < s->n_services; i++) {
        vips += s->services[i].rec->s.n_addresses;
    }
    int r = index_init(&s->by_host, s->n_services);
    if (r == 0) {
        r = index_init(&s->by_vip, vips);
    }
    bool seen4[33] = {false};
    bool seen6[129] = {false};
    for (size_t i = s->n_services; r == 0 && i > 0; i--) {
        const struct rec_service *v = s->services[i - 1].rec;
        index_add(&s->by_host, v->host_hash, i - 1);
        for (size_t k = 0; k < v->s.n_addresses; k++) {
            index_add(&s->by_vip, v->vip_hashes[k], i - 1);
            note_length(&v->vips[k], seen4, seen6);
        }
    }
    s->n_lens4 = collect_lengths(seen4, 32, s->lens4);
    s->n_lens6 = collect_lengths(seen6, 128, s->lens6);
    return r;
}

/* --- endpoints ---------------------------------------------------------------------------------------- */

/* Looks the services of a replica set up, once per build. */
static const uint32_t *join_refs(const peering_snapshot *s, struct rec_shared *shared)
{
    if (shared->build_mark == s->generation) {
        return shared->build_refs;
    }
    for (size_t i = 0; i < shared->w.n_services; i++) {
        struct pg_str key = shared->w.services[i].key;
        ptrdiff_t slash = pg_str_chr(key, '/');
        struct pg_str ns = pg_str_n(key.p, slash < 0 ? 0 : (size_t)slash);
        struct pg_str host = slash < 0 ? key : pg_str_sub(key, (size_t)slash + 1);
        const peering_service *v = peering_find_service(s, str_out(ns), str_out(host));
        shared->build_refs[i] = v == NULL ? 0 : (uint32_t)(v - s->services) + 1;
    }
    shared->build_mark = s->generation;
    return shared->build_refs;
}

/* Counts, then places: endpoints come out in uid order because workloads are walked in it. */
static int join_endpoints(peering_snapshot *s)
{
    uint64_t total = 0;
    for (size_t i = 0; i < s->n_workloads; i++) {
        struct rec_shared *shared = s->workloads[i]->shared;
        const uint32_t *refs = join_refs(s, shared);
        for (size_t k = 0; k < shared->w.n_services; k++) {
            if (refs[k] != 0) {
                s->services[refs[k] - 1].n_endpoints++;
                total++;
            }
        }
    }
    if (total == 0) {
        return 0;
    }
    if (total > JOINS_MAX) {
        return PG_E_LIMIT;
    }
    s->endpoints = pg_calloc(total, sizeof(const peering_workload *));
    if (s->endpoints == NULL) {
        return PG_E_NOMEM;
    }
    size_t at = 0;
    for (size_t i = 0; i < s->n_services; i++) {
        s->services[i].endpoints = s->endpoints + at;
        at += s->services[i].n_endpoints;
        s->services[i].n_endpoints = 0;
    }
    for (size_t i = 0; i < s->n_workloads; i++) {
        const struct rec_shared *shared = s->workloads[i]->shared;
        for (size_t k = 0; k < shared->w.n_services; k++) {
            if (shared->build_refs[k] != 0) {
                peering_service *v = &s->services[shared->build_refs[k] - 1];
                s->endpoints[(size_t)(v->endpoints - s->endpoints) + v->n_endpoints] = s->workloads[i];
                v->n_endpoints++;
            }
        }
    }
    return 0;
}

/* --- life --------------------------------------------------------------------------------------------- */

static void snapshot_free(peering_snapshot *s)
{
    for (size_t i = 0; i < s->n_workloads; i++) {
        rec_unref(s->workloads[i]);
    }
    for (size_t i = 0; i < s->n_services; i++) {
        /* The record is const to readers; the reference is ours to drop. */
        rec_unref((void *)(uintptr_t)s->services[i].rec);
    }
    for (size_t i = 0; i < s->n_policies; i++) {
        rec_unref(s->policies[i]);
    }
    pg_free(s->workloads);
    pg_free(s->services);
    pg_free(s->policies);
    pg_free(s->globals);
    pg_free(s->endpoints);
    index_fini(&s->by_ip);
    index_fini(&s->by_name);
    index_fini(&s->by_host);
    index_fini(&s->by_vip);
    pg_free(s);
}

static int allocate(peering_snapshot *s, const size_t n[3])
{
    s->workloads = pg_calloc(n[REC_WORKLOAD] + 1, sizeof(peering_workload *));
    s->services = pg_calloc(n[REC_SERVICE] + 1, sizeof(peering_service));
    s->policies = pg_calloc(n[REC_POLICY] + 1, sizeof(peering_policy *));
    s->globals = pg_calloc(n[REC_POLICY] + 1, sizeof(const peering_policy *));
    return s->workloads != NULL && s->services != NULL && s->policies != NULL && s->globals != NULL
               ? 0
               : PG_E_NOMEM;
}

static void take_records(peering_snapshot *s, const struct snapshot_input *in)
{
    for (; s->n_workloads < in->n[REC_WORKLOAD]; s->n_workloads++) {
        s->workloads[s->n_workloads] = rec_ref(in->records[REC_WORKLOAD][s->n_workloads]);
    }
    for (; s->n_services < in->n[REC_SERVICE]; s->n_services++) {
        const struct rec_service *rec = rec_ref(in->records[REC_SERVICE][s->n_services]);
        s->services[s->n_services] = (peering_service){.rec = rec};
    }
    for (; s->n_policies < in->n[REC_POLICY]; s->n_policies++) {
        peering_policy *p = rec_ref(in->records[REC_POLICY][s->n_policies]);
        s->policies[s->n_policies] = p;
        if (p->p.scope == XDS_POLICY_GLOBAL) {
            s->globals[s->n_globals++] = p;
        }
    }
}

int snapshot_build(const struct snapshot_input *in, uint64_t generation, peering_snapshot **out)
{
    peering_snapshot *s = pg_calloc(1, sizeof(*s));
    if (s == NULL) {
        return PG_E_NOMEM;
    }
    atomic_init(&s->refs, 1);
    s->generation = generation;
    int r = allocate(s, in->n);
    if (r < 0) {
        goto done;
    }
    take_records(s, in);
    r = join_endpoints(s);
    if (r == 0) {
        r = index_workloads(s);
    }
    if (r == 0) {
        r = index_services(s);
    }
done:
    if (r < 0) {
        snapshot_free(s);
    } else {
        *out = s;
    }
    return r;
}

peering_snapshot *peering_snapshot_ref(peering_snapshot *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void peering_snapshot_unref(peering_snapshot *s)
{
    if (s != NULL && atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1) {
        snapshot_free(s);
    }
}

uint64_t peering_snapshot_generation(const peering_snapshot *s)
{
    return s->generation;
}
