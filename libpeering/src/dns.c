/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The names the mesh answers, by ztunnel's algorithm: the name as asked, its Kubernetes expansions, then the
 * same with each search domain taken off; for each the exact host, then wildcards. Nothing allocates; names
 * are at most 253 bytes. Pure; any thread.
 */
#include <peering/dns.h>

#include "core/rng.h"
#include "snapshot.h"

#include <stdio.h>

#define NAME_MAX_BYTES 253u
#define NAME_BUF 512u /* an expansion may be longer than a name; such a one is not looked up */

struct looking {
    const peering_snapshot *s;
    const peering_dns_query *q;
    struct pg_str client_ns;
    const peering_service *found;
    bool by_wildcard;
};

/* Without a VIP a service answers only when it is a headless one of this cluster. */
static bool is_candidate(const struct looking *l, const peering_service *v)
{
    const struct xds_service *s = &v->rec->s;
    if (s->visibility == XDS_VISIBILITY_NAMESPACE && !pg_str_eq(s->ns, l->client_ns)) {
        return false;
    }
    if (s->n_addresses != 0) {
        return true;
    }
    struct pg_str d = str_in(l->q->cluster_domain);
    if (!pg_str_has_suffix(s->hostname, d) || s->hostname.len < d.len + 5) {
        return false;
    }
    struct pg_str head = pg_str_n(s->hostname.p, s->hostname.len - d.len);
    return pg_str_has_suffix(head, PG_STR(".svc."));
}

static unsigned preference(const struct looking *l, const peering_service *v)
{
    struct pg_str ns = v->rec->s.ns;
    if (pg_str_eq(ns, l->client_ns)) {
        return 3;
    }
    if (v->rec->s.canonical) {
        return 2;
    }
    return l->q->preferred_namespace.len != 0 && pg_str_eq(ns, str_in(l->q->preferred_namespace)) ? 1 : 0;
}

static const peering_service *by_host(const struct looking *l, struct pg_str host)
{
    const peering_service *best = NULL;
    uint32_t hash = rec_hash_str(host);
    SNAP_INDEX_FOREACH(&l->s->by_host, hash, at)
    {
        const peering_service *v = &l->s->services[l->s->by_host.entries[at - 1].ref];
        if (pg_str_eq(v->rec->s.hostname, host) && is_candidate(l, v) &&
            (best == NULL || preference(l, v) > preference(l, best))) {
            best = v;
        }
    }
    return best;
}

/* The exact name, then "*." over ever shorter tails. `name` must have room for one byte in front. */
static bool try_name(struct looking *l, struct pg_str name)
{
    char buf[NAME_BUF];
    if (name.len == 0 || name.len > NAME_MAX_BYTES) {
        return false;
    }
    l->found = by_host(l, name);
    l->by_wildcard = false;
    struct pg_str rest = name;
    struct pg_str label;
    while (l->found == NULL && pg_str_cut(&rest, '.', &label) && rest.len != 0) {
        buf[0] = '*';
        buf[1] = '.';
        memcpy(buf + 2, rest.p, rest.len);
        l->found = by_host(l, pg_str_n(buf, rest.len + 2));
        l->by_wildcard = l->found != NULL;
    }
    return l->found != NULL;
}

static bool try_joined(struct looking *l, const struct pg_str *parts, size_t n)
{
    char buf[NAME_BUF];
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        if (parts[i].len + 1 > sizeof(buf) - len) {
            return false;
        }
        if (i != 0) {
            buf[len++] = '.';
        }
        memcpy(buf + len, parts[i].p, parts[i].len);
        len += parts[i].len;
    }
    return try_name(l, pg_str_n(buf, len));
}

/* What Kubernetes would complete the name to. */
static bool try_expansions(struct looking *l, struct pg_str name)
{
    struct pg_str domain = str_in(l->q->cluster_domain);
    struct pg_str svc = PG_STR("svc");
    size_t dots = 0;
    for (size_t i = 0; i < name.len; i++) {
        dots += name.p[i] == '.';
    }
    bool ends_in_svc = pg_str_has_suffix(name, PG_STR(".svc"));
    const struct pg_str in_own_ns[] = {name, l->client_ns, svc, domain};
    const struct pg_str in_svc[] = {name, svc, domain};
    const struct pg_str in_domain[] = {name, domain};
    switch (dots) {
    case 0:
        return try_joined(l, in_own_ns, 4);
    case 1:
        return try_joined(l, in_svc, 3) || try_joined(l, in_own_ns, 4);
    case 2:
        return (ends_in_svc && try_joined(l, in_domain, 2)) || try_joined(l, in_svc, 3);
    case 3:
        return ends_in_svc && try_joined(l, in_domain, 2);
    default:
        return false;
    }
}

/* The name with this search domain taken off, or empty. */
static struct pg_str strip(struct pg_str name, struct pg_str domain)
{
    if (domain.len == 0 || name.len < domain.len + 2 || !pg_str_has_suffix(name, domain) ||
        name.p[name.len - domain.len - 1] != '.') {
        return PG_STR_NONE;
    }
    return pg_str_n(name.p, name.len - domain.len - 1);
}

static bool try_stripped(struct looking *l, struct pg_str name, struct pg_str domain, struct pg_str *stripped)
{
    *stripped = strip(name, domain);
    return stripped->len != 0 && (try_name(l, *stripped) || try_expansions(l, *stripped));
}

/* The search domains the kubelet gives: N.svc.D, svc.D, D. */
static bool try_default_search(struct looking *l, struct pg_str name, struct pg_str *stripped)
{
    char buf[3][NAME_BUF];
    struct pg_str d = str_in(l->q->cluster_domain);
    int len[3];
    len[0] = snprintf(buf[0], NAME_BUF, "%.*s.svc.%.*s", PG_STR_ARG(l->client_ns), PG_STR_ARG(d));
    len[1] = snprintf(buf[1], NAME_BUF, "svc.%.*s", PG_STR_ARG(d));
    len[2] = snprintf(buf[2], NAME_BUF, "%.*s", PG_STR_ARG(d));
    for (size_t i = 0; i < 3; i++) {
        if (len[i] > 0 && (size_t)len[i] < NAME_BUF &&
            try_stripped(l, name, pg_str_n(buf[i], (size_t)len[i]), stripped)) {
            return true;
        }
    }
    return false;
}

/* Finds the service; `stripped` is what was left of the name when a search domain had to go. */
static bool find(struct looking *l, struct pg_str name, struct pg_str *stripped)
{
    *stripped = PG_STR_NONE;
    if (try_name(l, name) || try_expansions(l, name)) {
        return true;
    }
    if (l->q->n_search == 0) {
        return try_default_search(l, name, stripped);
    }
    for (size_t i = 0; i < l->q->n_search && i < PEERING_DNS_SEARCH_MAX; i++) {
        char buf[NAME_BUF];
        struct pg_str domain = pg_str_lower(str_in(l->q->search[i]), buf, sizeof(buf));
        if (domain.len != 0 && domain.p[domain.len - 1] == '.') {
            domain.len--;
        }
        if (try_stripped(l, name, domain, stripped)) {
            return true;
        }
    }
    return false;
}

/* Keeps at most PEERING_DNS_ANSWERS_MAX of them, each as likely as the others, in random order. */
static void collect(peering_dns_answer *out, const peering_ip *ip, size_t *seen, struct pg_rng *rng)
{
    (*seen)++;
    size_t at = (size_t)pg_rng_below(rng, *seen);
    if (out->n < PEERING_DNS_ANSWERS_MAX) {
        out->ips[out->n] = at < out->n ? out->ips[at] : *ip;
        if (at < out->n) {
            out->ips[at] = *ip;
        }
        out->n++;
    } else if (at < PEERING_DNS_ANSWERS_MAX) {
        out->ips[at] = *ip;
    }
}

static bool counts_as_healthy(const peering_service *v, const peering_workload *w)
{
    return w->healthy || (v->rec->s.has_lb && v->rec->s.health_policy == XDS_ALLOW_ALL);
}

static void addresses(const struct looking *l, peering_dns_answer *out)
{
    const peering_service *v = l->found;
    struct pg_rng rng;
    size_t seen = 0;
    uint8_t len = l->q->want_v6 ? 16 : 4;
    pg_rng_seed(&rng, l->q->random);
    for (size_t i = 0; i < v->rec->s.n_addresses; i++) {
        const peering_vip *x = &v->rec->vips[i];
        if (x->ip.len == len && x->bits == len * 8 && pg_str_eq(str_in(x->network), str_in(l->q->network))) {
            collect(out, &x->ip, &seen, &rng);
        }
    }
    if (v->rec->s.n_addresses != 0) {
        return;
    }
    for (size_t i = 0; i < v->n_endpoints; i++) {
        const peering_workload *w = v->endpoints[i];
        for (size_t k = 0; counts_as_healthy(v, w) && k < w->n_ips; k++) {
            if (w->ips[k].len == len) {
                collect(out, &w->ips[k], &seen, &rng);
                break;
            }
        }
    }
}

void peering_dns_lookup(const peering_snapshot *s, const peering_dns_query *q, peering_dns_answer *out)
{
    char buf[NAME_BUF];
    struct looking l = {.s = s, .q = q};
    struct pg_str stripped;
    out->result = PEERING_DNS_FORWARD;
    out->cname = false;
    out->target[0] = '\0';
    out->n = 0;
    out->service = NULL;
    if (q->client != NULL) {
        l.client_ns = wl_shared(q->client)->ns;
    }
    if (q->name.len == 0 || q->name.len > NAME_MAX_BYTES) {
        return;
    }
    struct pg_str name = pg_str_lower(str_in(q->name), buf, sizeof(buf));
    if (!find(&l, name, &stripped)) {
        /* Nobody else can know such a name: the upstream would only learn of us, and keep the client waiting.
         */
        out->result =
            pg_str_has_suffix(name, PG_STR(".mesh.internal")) ? PEERING_DNS_ANSWER : PEERING_DNS_FORWARD;
        return;
    }
    out->result = PEERING_DNS_ANSWER;
    out->service = l.found;
    if (stripped.len != 0 && !l.by_wildcard) {
        out->cname = true;
        memcpy(out->target, stripped.p, stripped.len);
        out->target[stripped.len] = '\0';
    }
    enum xds_ip_families families = l.found->rec->s.ip_families;
    if (q->want_v6 ? !q->ipv6_enabled || families == XDS_IP_V4_ONLY : families == XDS_IP_V6_ONLY) {
        return;
    }
    addresses(&l, out);
}
