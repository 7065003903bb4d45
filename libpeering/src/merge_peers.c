/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What peers sent, as parts of global services: decoded, checked, sorted. A resource that cannot be used is
 * left out, counted and logged by name; it never takes the rest of its peer with it. Control thread.
 */
#include "merge_int.h"

#include "core/clock.h"
#include "core/log.h"

#include <stdlib.h>

static void report(struct merge *m, const struct merge_peer *p, struct pg_str name, const char *why)
{
    static struct pg_log_limit limit;
    uint32_t held = 0;
    m->problems++;
    if (pg_log_allowed(&limit, 20, 1, pg_clock_mono_ms(), &held)) {
        PG_LOG(PG_LOG_WARN, "merge", "resource of a peer left out", PG_F_STR("peer", p->cluster),
               PG_F_STR("resource", name), PG_F_C("reason", why), PG_F_U64("suppressed", held));
    }
}

/* --- peers --- */

static int by_cluster(const void *a, const void *b)
{
    const struct merge_peer *x = a, *y = b;
    int c = pg_str_cmp(x->cluster, y->cluster);
    if (c == 0) {
        c = pg_str_cmp(pg_str_c(x->p->config->ns), pg_str_c(y->p->config->ns));
    }
    return c != 0 ? c : pg_str_cmp(pg_str_c(x->p->config->name), pg_str_c(y->p->config->name));
}

/* Peers that count: with data, and one per cluster; the own cluster's name would make its objects collide
 * with ours. */
void merge_take_peers(struct merge *m, const struct contrib_peer *peers, size_t n)
{
    m->peers = merge_scratch(m, n, sizeof(*m->peers));
    if (m->peers == NULL) {
        return;
    }
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        const struct peer_config *c = peers[i].config;
        if (peers[i].data == PEER_DATA_NONE || pg_str_eq(pg_str_c(c->cluster), m->self->cluster)) {
            continue;
        }
        bool same_network = pg_str_eq(pg_str_c(c->network), m->self->network);
        m->peers[count++] = (struct merge_peer){
            .p = &peers[i],
            .cluster = pg_str_c(c->cluster),
            .network = pg_str_c(c->network),
            .trust_domain = pg_str_c(c->trust_domain),
            .path = !same_network           ? PATH_GATEWAY
                    : m->self->flat_enabled ? PATH_FLAT
                                            : PATH_NONE,
        };
    }
    qsort(m->peers, count, sizeof(*m->peers), by_cluster);
    for (size_t i = 0; i < count; i++) {
        if (m->n_peers > 0 && pg_str_eq(m->peers[m->n_peers - 1].cluster, m->peers[i].cluster)) {
            continue;
        }
        m->peers[m->n_peers] = m->peers[i];
        pg_map_init(&m->peers[m->n_peers].by_key, SIZE_MAX / 64); /* as many as the peer may send */
        m->n_peers++;
    }
}

/* --- services --- */

static bool is_name(struct pg_str s)
{
    if (s.len == 0 || s.len > MERGE_NAME_MAX) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-')) {
            return false;
        }
    }
    return true;
}

static struct merge_part *add_part(struct merge *m)
{
    if (m->code != 0) {
        return NULL;
    }
    size_t max = (size_t)CONTRIB_SERVICES_MAX * (CONTRIB_PEERS_MAX + 1u);
    int r = pg_vec_grow(&m->parts, &m->cap_parts, m->n_parts + 1, sizeof(*m->parts), max);
    if (r < 0) {
        merge_fail(m, r);
        return NULL;
    }
    m->parts[m->n_parts] = (struct merge_part){0};
    return &m->parts[m->n_parts++];
}

static bool counts(const struct merge *m, const struct xds_fed_service *s)
{
    return s->scope != XDS_FED_CLUSTER &&
           (s->scope != XDS_FED_SEGMENT || pg_str_eq(s->segment, m->local->segment));
}

static void take_service(struct merge *m, struct merge_peer *p, size_t rank, const struct contrib_blob *blob)
{
    struct pg_errtext why = {{0}};
    struct xds_fed_service *s = merge_scratch(m, 1, sizeof(*s));
    if (s == NULL) {
        return;
    }
    int r = xds_fed_service_decode(blob->bytes, &m->scratch, s, &why);
    if (r == PG_E_NOMEM) {
        merge_fail(m, r);
        return;
    }
    if (r < 0) {
        report(m, p, blob->name, why.text);
        return;
    }
    if (s->hostname.len > MERGE_HOST_MAX) {
        report(m, p, blob->name, "the hostname is too long");
        return;
    }
    if (!is_name(s->name) || !is_name(s->ns) || !pg_str_eq(merge_key(m, s->ns, s->name), blob->name)) {
        if (m->code == 0) {
            report(m, p, blob->name, "the resource is not named <namespace>/<name>");
        }
        return;
    }
    struct merge_part *part = counts(m, s) ? add_part(m) : NULL;
    if (part != NULL) {
        part->ns = s->ns;
        part->name = s->name;
        part->rank = rank;
        part->peer = p;
        part->fed = s;
    }
}

static int by_service(const void *a, const void *b)
{
    const struct merge_part *x = a, *y = b;
    int c = pg_str_cmp(x->ns, y->ns);
    c = c != 0 ? c : pg_str_cmp(x->name, y->name);
    return c != 0 ? c : x->rank < y->rank ? -1 : x->rank > y->rank;
}

/* --- pods of flat peers --- */

static struct pg_str ip_key(const struct pg_ip *ip)
{
    return pg_str_n((const char *)ip->b, ip->len);
}

static void index_local_ips(struct merge *m)
{
    for (size_t i = 0; i < m->local->n_workloads && m->code == 0; i++) {
        struct xds_workload *w = &m->local->workloads[i].w;
        for (size_t k = 0; k < w->n_ips && w->network_mode != XDS_NETWORK_HOST; k++) {
            int r = pg_map_set(&m->local_ips, ip_key(&w->ips[k]), w, NULL);
            if (r < 0) {
                merge_fail(m, r);
            }
        }
    }
}

/* Its own pods only: never what it imported itself, or two peers would feed each other; and never an address
 * of ours, or a peer could stand in for our pods. */
static const char *refuse_pod(const struct merge *m, const struct merge_peer *p, const struct xds_workload *w)
{
    if (!pg_str_has_prefix(w->uid, p->cluster) ||
        !pg_str_has_prefix(pg_str_sub(w->uid, p->cluster.len), PG_STR("/"))) {
        return "the uid does not begin with the cluster of the peer";
    }
    if (w->name.len == 0 || w->name.len > MERGE_HOST_MAX || !is_name(w->ns)) {
        return "a name or namespace that no pod can have";
    }
    if (pg_str_has_prefix(w->name, PG_STR("autogen"))) {
        return "an object that the peer imported itself";
    }
    if (!pg_str_eq(w->network, p->network)) {
        return "a pod of another network";
    }
    if (w->n_ips == 0) {
        return "a pod without an address";
    }
    for (size_t i = 0; i < w->n_ips; i++) {
        if (pg_map_get(&m->local_ips, ip_key(&w->ips[i])) != NULL) {
            return "an address of a local pod";
        }
    }
    return NULL;
}

static int by_uid(const void *a, const void *b)
{
    const struct xds_address *x = *(struct xds_address *const *)a, *y = *(struct xds_address *const *)b;
    return pg_str_cmp(x->u.workload.uid, y->u.workload.uid);
}

static void decode_pod(struct merge *m, const struct merge_peer *p, const struct contrib_blob *blob,
                       struct xds_address **out, size_t *n)
{
    struct pg_errtext why = {{0}};
    struct xds_address *a = merge_scratch(m, 1, sizeof(*a));
    if (a == NULL) {
        return;
    }
    int r = xds_address_decode(blob->bytes, &m->scratch, a, &why);
    if (r == PG_E_NOMEM) {
        merge_fail(m, r);
    } else if (r < 0) {
        report(m, p, blob->name, why.text);
    } else if (a->kind == XDS_ADDRESS_WORKLOAD) {
        const char *refusal = refuse_pod(m, p, &a->u.workload);
        if (refusal != NULL) {
            report(m, p, blob->name, refusal);
        } else {
            out[(*n)++] = a;
        }
    }
}

/* Hangs a pod under each service of its peer that it serves. */
static void attach_pod(struct merge *m, struct merge_peer *p, const struct xds_workload *w)
{
    for (size_t i = 0; i < w->n_services && m->code == 0; i++) {
        struct merge_part *part = pg_map_get(&p->by_key, w->services[i].key);
        if (part == NULL || !pg_str_eq(part->ns, w->ns)) {
            continue;
        }
        struct merge_pod *pod = merge_scratch(m, 1, sizeof(*pod));
        if (pod != NULL) {
            *pod = (struct merge_pod){w, &w->services[i], part->pods};
            part->pods = pod;
        }
    }
}

static void take_pods(struct merge *m, struct merge_peer *p)
{
    struct xds_address **pods = merge_scratch(m, p->p->workloads->len, sizeof(*pods));
    size_t n = 0, it = 0;
    struct pg_str name;
    void *blob;
    while (pods != NULL && m->code == 0 && pg_map_next(p->p->workloads, &it, &name, &blob)) {
        decode_pod(m, p, blob, pods, &n);
    }
    if (n > 1) {
        qsort(pods, n, sizeof(*pods), by_uid);
    }
    /* Backwards, since attaching puts in front. */
    for (size_t i = n; i > 0 && m->code == 0; i--) {
        attach_pod(m, p, &pods[i - 1]->u.workload);
    }
}

static void index_flat(struct merge *m)
{
    for (size_t i = 0; i < m->n_parts && m->code == 0; i++) {
        struct merge_part *part = &m->parts[i];
        if (part->peer == NULL || part->peer->path != PATH_FLAT) {
            continue;
        }
        struct pg_str key = merge_key(m, part->ns, part->fed->hostname);
        int r = m->code == 0 ? pg_map_set(&part->peer->by_key, key, part, NULL) : 0;
        if (r < 0) {
            merge_fail(m, r);
        }
    }
    for (size_t i = 0; i < m->n_peers && m->code == 0; i++) {
        if (m->peers[i].path == PATH_FLAT && m->peers[i].p->workloads != NULL) {
            if (m->local_ips.len == 0) {
                index_local_ips(m);
            }
            take_pods(m, &m->peers[i]);
        }
    }
}

void merge_take_parts(struct merge *m)
{
    for (size_t i = 0; i < m->local->n_services && m->code == 0; i++) {
        const struct contrib_service *s = &m->local->services[i];
        struct merge_part *part = s->scope != XDS_FED_CLUSTER ? add_part(m) : NULL;
        if (part != NULL) {
            part->ns = s->svc.ns;
            part->name = s->svc.name;
            part->local = s;
            part->local_index = i;
        }
    }
    for (size_t i = 0; i < m->n_peers && m->code == 0; i++) {
        size_t it = 0;
        struct pg_str name;
        void *blob;
        const struct pg_map *services = m->peers[i].p->services;
        while (services != NULL && m->code == 0 && pg_map_next(services, &it, &name, &blob)) {
            take_service(m, &m->peers[i], i + 1, blob);
        }
    }
    if (m->n_parts > 1) {
        qsort(m->parts, m->n_parts, sizeof(*m->parts), by_service);
    }
    index_flat(m);
}

/* --- gateways --- */

static void add_gateway(struct merge *m, const struct merge_peer *p, const char *address)
{
    const struct peer_config *c = p->p->config;
    struct pg_ip ip;
    struct xds_workload w = {0};
    w.uid = merge_text(m, &m->scratch, "NetworkGateway/%s/%s/%u", c->network, address, c->hbone_port);
    w.name = w.uid;
    w.ns = pg_str_c(c->ns);
    w.network = p->network;
    w.trust_domain = p->trust_domain;
    w.cluster_id = p->cluster;
    w.service_account = pg_str_c(c->service_account);
    w.locality.region = pg_str_c(c->region);
    w.locality.zone = pg_str_c(c->zone);
    w.type = XDS_POD;
    if (pg_ip_parse(pg_str_c(address), &ip) == 0) {
        w.ips = &ip;
        w.n_ips = 1;
    } else {
        w.hostname = pg_str_c(address);
    }
    writer_workload(m, &m->node, &w);
}

void merge_gateways(struct merge *m)
{
    for (size_t i = 0; i < m->n_peers; i++) {
        const struct peer_config *c = m->peers[i].p->config;
        for (size_t k = 0; k < c->n_addresses && m->peers[i].path == PATH_GATEWAY; k++) {
            add_gateway(m, &m->peers[i], c->addresses[k]);
        }
    }
}
