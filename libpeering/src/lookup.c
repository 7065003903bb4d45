/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Look-ups in a snapshot: by name (binary search in the sorted arrays), by address, host and virtual address
 * (hash chains), with the rules of preference and visibility. Pure; any thread.
 */
#include "snapshot.h"

/* --- by key ------------------------------------------------------------------------------------------- */

/* Orders `key` against "ns/name" without joining the two. */
static int cmp_joined(struct pg_str key, struct pg_str ns, struct pg_str name)
{
    struct pg_str head = pg_str_n(key.p, key.len < ns.len ? key.len : ns.len);
    int r = pg_str_cmp(head, ns);
    if (r != 0) {
        return r;
    }
    if (key.len == ns.len) {
        return -1;
    }
    unsigned char c = (unsigned char)key.p[ns.len];
    if (c != '/') {
        return c < '/' ? -1 : 1;
    }
    return pg_str_cmp(pg_str_sub(key, ns.len + 1), name);
}

static struct pg_str workload_key(const peering_snapshot *s, size_t i)
{
    return s->workloads[i]->head.key;
}
static struct pg_str service_key(const peering_snapshot *s, size_t i)
{
    return s->services[i].rec->head.key;
}
static struct pg_str policy_key(const peering_snapshot *s, size_t i)
{
    return s->policies[i]->head.key;
}

/* First index whose key is not below "ns/name", or with ns == NULL not below `name`. */
static size_t lower_bound(const peering_snapshot *s, size_t n,
                          struct pg_str (*key_of)(const peering_snapshot *s, size_t i),
                          const struct pg_str *ns, struct pg_str name)
{
    size_t low = 0;
    size_t high = n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        struct pg_str key = key_of(s, mid);
        int r = ns != NULL ? cmp_joined(key, *ns, name) : pg_str_cmp(key, name);
        if (r < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

const peering_workload *peering_find_workload(const peering_snapshot *s, peering_str uid)
{
    size_t i = lower_bound(s, s->n_workloads, workload_key, NULL, str_in(uid));
    return i < s->n_workloads && pg_str_eq(workload_key(s, i), str_in(uid)) ? s->workloads[i] : NULL;
}

const peering_service *peering_find_service(const peering_snapshot *s, peering_str ns, peering_str hostname)
{
    struct pg_str n = str_in(ns);
    size_t i = lower_bound(s, s->n_services, service_key, &n, str_in(hostname));
    return i < s->n_services && cmp_joined(service_key(s, i), n, str_in(hostname)) == 0 ? &s->services[i]
                                                                                        : NULL;
}

const peering_policy *peering_find_policy(const peering_snapshot *s, peering_str key)
{
    size_t i = lower_bound(s, s->n_policies, policy_key, NULL, str_in(key));
    return i < s->n_policies && pg_str_eq(policy_key(s, i), str_in(key)) ? s->policies[i] : NULL;
}

void snapshot_policy_range(const peering_snapshot *s, struct pg_str ns, size_t *from, size_t *to)
{
    *from = lower_bound(s, s->n_policies, policy_key, &ns, PG_STR_NONE);
    *to = *from;
    while (*to < s->n_policies) {
        struct pg_str key = policy_key(s, *to);
        if (key.len <= ns.len || key.p[ns.len] != '/' || !pg_str_has_prefix(key, ns)) {
            break;
        }
        (*to)++;
    }
}

const peering_workload *peering_next_workload(const peering_snapshot *s, size_t *it)
{
    return *it < s->n_workloads ? s->workloads[(*it)++] : NULL;
}

const peering_service *peering_next_service(const peering_snapshot *s, size_t *it)
{
    return *it < s->n_services ? &s->services[(*it)++] : NULL;
}

const peering_policy *peering_next_policy(const peering_snapshot *s, size_t *it)
{
    return *it < s->n_policies ? s->policies[(*it)++] : NULL;
}

/* --- workloads ---------------------------------------------------------------------------------------- */

const peering_workload *peering_find_workload_by_ip(const peering_snapshot *s, peering_str network,
                                                    const peering_ip *ip)
{
    const peering_workload *best = NULL;
    uint32_t hash = rec_hash_ip(rec_hash_str(str_in(network)), ip, 255);
    SNAP_INDEX_FOREACH(&s->by_ip, hash, at)
    {
        const peering_workload *w = s->workloads[s->by_ip.entries[at - 1].ref];
        if (!wl_has_ip(w, ip) || !pg_str_eq(wl_shared(w)->network, str_in(network))) {
            continue;
        }
        if (best == NULL || w->address_rank > best->address_rank ||
            (w->address_rank == best->address_rank && w->head.seq > best->head.seq)) {
            best = w;
        }
    }
    return best;
}

const peering_workload *peering_find_workload_by_name(const peering_snapshot *s, peering_str ns,
                                                      peering_str name, peering_str service_account,
                                                      peering_str node)
{
    uint32_t hash = rec_hash_name(str_in(ns), str_in(name), str_in(service_account));
    SNAP_INDEX_FOREACH(&s->by_name, hash, at)
    {
        const peering_workload *w = s->workloads[s->by_name.entries[at - 1].ref];
        if (pg_str_eq(w->name, str_in(name)) && pg_str_eq(wl_shared(w)->ns, str_in(ns)) &&
            pg_str_eq(wl_shared(w)->service_account, str_in(service_account)) &&
            (node.len == 0 || pg_str_eq(w->node, str_in(node)))) {
            return w;
        }
    }
    return NULL;
}

/* --- services ----------------------------------------------------------------------------------------- */

static bool is_visible(const peering_service *v, struct pg_str client_ns)
{
    return v->rec->s.visibility != XDS_VISIBILITY_NAMESPACE || pg_str_eq(v->rec->s.ns, client_ns);
}

/* 2 same namespace, 1 canonical, 0 other. */
static unsigned preference(const peering_service *v, struct pg_str client_ns)
{
    return pg_str_eq(v->rec->s.ns, client_ns) ? 2 : v->rec->s.canonical ? 1 : 0;
}

const peering_service *peering_find_service_by_host(const peering_snapshot *s, peering_str hostname,
                                                    peering_str client_ns)
{
    const peering_service *best = NULL;
    uint32_t hash = rec_hash_str(str_in(hostname));
    SNAP_INDEX_FOREACH(&s->by_host, hash, at)
    {
        const peering_service *v = &s->services[s->by_host.entries[at - 1].ref];
        if (!pg_str_eq(v->rec->s.hostname, str_in(hostname)) || !is_visible(v, str_in(client_ns))) {
            continue;
        }
        if (best == NULL || preference(v, str_in(client_ns)) > preference(best, str_in(client_ns))) {
            best = v;
        }
    }
    return best;
}

static bool has_vip(const peering_service *v, struct pg_str network, const struct pg_prefix *p)
{
    for (size_t i = 0; i < v->rec->s.n_addresses; i++) {
        const peering_vip *x = &v->rec->vips[i];
        struct pg_ip ip = ip_in(&x->ip);
        if (x->bits == p->bits && pg_ip_eq(&ip, &p->ip) && pg_str_eq(str_in(x->network), network)) {
            return true;
        }
    }
    return false;
}

/* Best visible service that has exactly this prefix. Of two in one namespace the later put has it; when that
 * one goes, the other has it again. */
static const peering_service *find_vip(const peering_snapshot *s, struct pg_str network,
                                       uint32_t network_hash, const struct pg_prefix *p,
                                       struct pg_str client_ns)
{
    const peering_service *best = NULL;
    peering_ip ip = ip_out(&p->ip);
    uint32_t hash = rec_hash_ip(network_hash, &ip, p->bits);
    SNAP_INDEX_FOREACH(&s->by_vip, hash, at)
    {
        const peering_service *v = &s->services[s->by_vip.entries[at - 1].ref];
        if (v == best || !has_vip(v, network, p) || !is_visible(v, client_ns)) {
            continue;
        }
        unsigned mine = preference(v, client_ns);
        unsigned theirs = best != NULL ? preference(best, client_ns) : 0;
        if (best == NULL || mine > theirs ||
            (mine == theirs && pg_str_eq(v->rec->s.ns, best->rec->s.ns) &&
             v->rec->head.seq > best->rec->head.seq)) {
            best = v;
        }
    }
    return best;
}

const peering_service *peering_find_service_by_vip(const peering_snapshot *s, peering_str network,
                                                   const peering_ip *ip, peering_str client_ns)
{
    if (ip->len != 4 && ip->len != 16) {
        return NULL;
    }
    const uint8_t *lens = ip->len == 4 ? s->lens4 : s->lens6;
    size_t n = ip->len == 4 ? s->n_lens4 : s->n_lens6;
    uint32_t network_hash = rec_hash_str(str_in(network));
    struct pg_ip want = ip_in(ip);
    const peering_service *best = NULL;
    /* Longest first: an exact match ends it; among prefixes the own namespace beats length beats canonical.
     */
    for (size_t i = 0; i < n; i++) {
        struct pg_prefix p;
        if (pg_prefix_make(&want, lens[i], &p) < 0) {
            continue;
        }
        const peering_service *v = find_vip(s, str_in(network), network_hash, &p, str_in(client_ns));
        if (v == NULL) {
            continue;
        }
        if (lens[i] == ip->len * 8u || preference(v, str_in(client_ns)) == 2) {
            return v;
        }
        best = best != NULL ? best : v;
    }
    return best;
}
