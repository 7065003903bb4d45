/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making and freeing records. Each is one block: a first pass over the resource measures, a second fills, so
 * that a record costs one allocation and no slack. Immutable after the maker returns; dropped on any thread.
 */
#include "records.h"

#include "core/map.h"
#include "xds/codec.h"

#include <stdlib.h>

#define SHARED_KEY_MAX (2u * 1024 * 1024)
#define SPIFFE_MAX 8192u

/* --- packing ----------------------------------------------------------------------------------------- */

struct packer {
    char *base; /* NULL: measuring */
    size_t used;
};

/* Room for `n` elements; NULL while measuring. */
static void *pack(struct packer *p, size_t n, size_t size, size_t align)
{
    p->used = (p->used + align - 1) & ~(align - 1);
    void *at = p->base != NULL ? p->base + p->used : NULL;
    p->used += n * size;
    return at;
}

#define PACK_ARRAY(p, n, type) ((type *)pack((p), (n), sizeof(type), _Alignof(type)))

static struct pg_str pack_str(struct packer *p, struct pg_str s)
{
    char *at = pack(p, s.len, 1, 1);
    if (at != NULL && s.len != 0) {
        memcpy(at, s.p, s.len);
    }
    return pg_str_n(at, s.len);
}

static peering_str *pack_strs(struct packer *p, const struct pg_str *in, size_t n)
{
    peering_str *out = PACK_ARRAY(p, n, peering_str);
    for (size_t i = 0; i < n; i++) {
        struct pg_str s = pack_str(p, in[i]);
        if (out != NULL) {
            out[i] = str_out(s);
        }
    }
    return out;
}

static struct xds_gateway pack_gateway(struct packer *p, const struct xds_gateway *in)
{
    struct xds_gateway out = *in;
    out.ns = pack_str(p, in->ns);
    out.hostname = pack_str(p, in->hostname);
    out.address.network = pack_str(p, in->address.network);
    return out;
}

/* --- hashes ------------------------------------------------------------------------------------------ */

uint32_t rec_hash_str(struct pg_str s)
{
    return (uint32_t)pg_hash(s.p != NULL ? s.p : "", s.len);
}

uint32_t rec_hash_ip(uint32_t network_hash, const peering_ip *ip, unsigned bits)
{
    uint8_t key[22] = {0};
    memcpy(key, &network_hash, sizeof(network_hash));
    key[4] = ip->len;
    key[5] = (uint8_t)bits;
    memcpy(key + 6, ip->bytes, ip->len <= 16 ? ip->len : 16);
    return (uint32_t)pg_hash(key, sizeof(key));
}

uint32_t rec_hash_name(struct pg_str ns, struct pg_str name, struct pg_str sa)
{
    uint32_t parts[3] = {rec_hash_str(ns), rec_hash_str(name), rec_hash_str(sa)};
    return (uint32_t)pg_hash(parts, sizeof(parts));
}

/* --- what replicas share ------------------------------------------------------------------------------ */

static struct xds_workload shared_part(const struct xds_workload *w)
{
    struct xds_workload s = *w;
    s.uid = PG_STR_NONE;
    s.name = PG_STR_NONE;
    s.node = PG_STR_NONE;
    s.hostname = PG_STR_NONE;
    s.ips = NULL;
    s.n_ips = 0;
    s.health = XDS_HEALTHY;
    s.has_capacity = false;
    s.capacity = 0;
    return s;
}

int rec_shared_key(const struct xds_workload *w, struct pg_sb *out)
{
    struct xds_workload s = shared_part(w);
    pg_sb_reset(out);
    int r = xds_workload_encode(&s, out);
    return r < 0 ? r : out->err;
}

/* "net/ip:port" or "ns/host:port" */
static void gateway_text(const struct xds_gateway *g, struct pg_sb *out)
{
    if (g->kind == XDS_GATEWAY_HOSTNAME) {
        pg_sb_fmt(out, "%.*s/%.*s:%u", PG_STR_ARG(g->ns), PG_STR_ARG(g->hostname), g->hbone_port);
    } else if (g->kind == XDS_GATEWAY_ADDRESS) {
        char ip[PG_IP_TEXT];
        bool six = g->address.ip.len == 16;
        pg_sb_fmt(out, "%.*s/%s%s%s:%u", PG_STR_ARG(g->address.network), six ? "[" : "",
                  pg_ip_fmt(&g->address.ip, ip), six ? "]" : "", g->hbone_port);
    }
}

/* Texts that are derived, and the services in key order with the last of equal keys kept. */
struct derived {
    struct pg_sb identity, gateway, waypoint;
    const struct xds_workload_service **services;
    size_t n_services;
};

static int by_key_then_place(const void *a, const void *b)
{
    const struct xds_workload_service *x = *(const struct xds_workload_service *const *)a;
    const struct xds_workload_service *y = *(const struct xds_workload_service *const *)b;
    int r = pg_str_cmp(x->key, y->key);
    return r != 0 ? r : x < y ? -1 : x > y;
}

static int derive_services(const struct xds_workload *w, struct derived *d)
{
    if (w->n_services == 0) {
        return 0;
    }
    d->services = pg_malloc(w->n_services * sizeof(const struct xds_workload_service *));
    if (d->services == NULL) {
        return PG_E_NOMEM;
    }
    for (size_t i = 0; i < w->n_services; i++) {
        d->services[i] = &w->services[i];
    }
    qsort(d->services, w->n_services, sizeof(const struct xds_workload_service *), by_key_then_place);
    for (size_t i = 0; i < w->n_services; i++) {
        if (i + 1 == w->n_services || !pg_str_eq(d->services[i]->key, d->services[i + 1]->key)) {
            d->services[d->n_services++] = d->services[i];
        }
    }
    return 0;
}

static int derive(const struct xds_workload *w, struct derived *d)
{
    *d = (struct derived){0};
    pg_sb_init(&d->identity, SPIFFE_MAX);
    pg_sb_init(&d->gateway, SPIFFE_MAX);
    pg_sb_init(&d->waypoint, SPIFFE_MAX);
    pg_sb_fmt(&d->identity, "spiffe://%.*s/ns/%.*s/sa/%.*s", PG_STR_ARG(w->trust_domain), PG_STR_ARG(w->ns),
              PG_STR_ARG(w->service_account));
    gateway_text(&w->network_gateway, &d->gateway);
    gateway_text(&w->waypoint, &d->waypoint);
    int r = d->identity.err != 0 ? d->identity.err : d->gateway.err != 0 ? d->gateway.err : d->waypoint.err;
    return r < 0 ? r : derive_services(w, d);
}

static void derived_fini(struct derived *d)
{
    pg_sb_fini(&d->identity);
    pg_sb_fini(&d->gateway);
    pg_sb_fini(&d->waypoint);
    pg_free(d->services);
}

static void pack_services(struct packer *p, const struct derived *d, struct rec_shared *out)
{
    struct xds_workload_service *services = PACK_ARRAY(p, d->n_services, struct xds_workload_service);
    peering_str *keys = PACK_ARRAY(p, d->n_services, peering_str);
    for (size_t i = 0; i < d->n_services; i++) {
        const struct xds_workload_service *in = d->services[i];
        struct pg_str key = pack_str(p, in->key);
        struct xds_port *ports = PACK_ARRAY(p, in->n_ports, struct xds_port);
        if (ports != NULL && in->n_ports != 0) {
            memcpy(ports, in->ports, in->n_ports * sizeof(*ports));
        }
        if (services != NULL) {
            services[i] = (struct xds_workload_service){.key = key, .ports = ports, .n_ports = in->n_ports};
            keys[i] = str_out(key);
        }
    }
    out->w.services = services;
    out->w.n_services = d->n_services;
    out->service_keys = keys;
    out->build_refs = PACK_ARRAY(p, d->n_services, uint32_t);
}

static void pack_shared(struct packer *p, const struct xds_workload *in, const struct derived *d,
                        struct pg_str key, struct rec_shared *out)
{
    struct xds_workload *w = &out->w;
    *w = shared_part(in);
    w->ns = pack_str(p, in->ns);
    w->network = pack_str(p, in->network);
    w->trust_domain = pack_str(p, in->trust_domain);
    w->service_account = pack_str(p, in->service_account);
    w->canonical_name = pack_str(p, in->canonical_name);
    w->canonical_revision = pack_str(p, in->canonical_revision);
    w->workload_name = pack_str(p, in->workload_name);
    w->cluster_id = pack_str(p, in->cluster_id);
    w->locality.region = pack_str(p, in->locality.region);
    w->locality.zone = pack_str(p, in->locality.zone);
    w->locality.subzone = pack_str(p, in->locality.subzone);
    w->waypoint = pack_gateway(p, &in->waypoint);
    w->network_gateway = pack_gateway(p, &in->network_gateway);
    w->policies = NULL;
    out->policies = pack_strs(p, in->policies, in->n_policies);
    pack_services(p, d, out);
    out->identity = pack_str(p, pg_sb_view(&d->identity));
    out->gateway_text = pack_str(p, pg_sb_view(&d->gateway));
    out->waypoint_text = pack_str(p, pg_sb_view(&d->waypoint));
    out->key = pack_str(p, key);
}

int rec_shared_make(const struct xds_workload *w, struct pg_str key, struct rec_shared **out)
{
    struct derived d;
    struct packer p = {.used = sizeof(struct rec_shared)};
    int r = derive(w, &d);
    if (r < 0) {
        goto done;
    }
    struct rec_shared probe;
    pack_shared(&p, w, &d, key, &probe);
    struct rec_shared *s = pg_calloc(1, p.used);
    if (s == NULL) {
        r = PG_E_NOMEM;
        goto done;
    }
    p = (struct packer){.base = (char *)s, .used = sizeof(*s)};
    pack_shared(&p, w, &d, key, s);
    s->network_hash = rec_hash_str(s->w.network);
    atomic_init(&s->refs, 1);
    *out = s;
done:
    derived_fini(&d);
    return r;
}

void rec_shared_unref(struct rec_shared *s)
{
    if (s != NULL && atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1) {
        pg_free(s);
    }
}

/* --- workloads ---------------------------------------------------------------------------------------- */

/* Pods before others, HBONE before plain: 3, 2, 1, 0. */
static uint8_t address_rank(const struct xds_workload *w)
{
    static const char pod[] = "//Pod/";
    bool is_pod = w->uid.len != 0 && memmem(w->uid.p, w->uid.len, pod, sizeof(pod) - 1) != NULL;
    bool is_hbone = w->tunnel == XDS_TUNNEL_HBONE;
    return (uint8_t)((is_pod ? 2 : 0) + (is_hbone ? 1 : 0));
}

static void pack_workload(struct packer *p, const struct xds_workload *in, peering_workload *out)
{
    out->ips = PACK_ARRAY(p, in->n_ips, peering_ip);
    out->ip_hashes = PACK_ARRAY(p, in->n_ips, uint32_t);
    out->n_ips = (uint32_t)in->n_ips;
    for (size_t i = 0; out->ips != NULL && i < in->n_ips; i++) {
        out->ips[i] = ip_out(&in->ips[i]);
    }
    out->head.key = pack_str(p, in->uid);
    out->name = pack_str(p, in->name);
    out->node = pack_str(p, in->node);
    out->hostname = pack_str(p, in->hostname);
}

int rec_workload_make(const struct xds_workload *w, struct rec_shared *shared, peering_workload **out)
{
    struct packer p = {.used = sizeof(peering_workload)};
    peering_workload probe;
    pack_workload(&p, w, &probe);
    peering_workload *rec = pg_calloc(1, p.used);
    if (rec == NULL) {
        return PG_E_NOMEM;
    }
    p = (struct packer){.base = (char *)rec, .used = sizeof(*rec)};
    pack_workload(&p, w, rec);
    atomic_init(&rec->head.refs, 1);
    rec->head.kind = REC_WORKLOAD;
    rec->healthy = w->health == XDS_HEALTHY;
    rec->capacity = w->has_capacity ? w->capacity : 1;
    rec->address_rank = address_rank(w);
    rec->name_hash = rec_hash_name(w->ns, w->name, w->service_account);
    for (size_t i = 0; i < rec->n_ips; i++) {
        rec->ip_hashes[i] = rec_hash_ip(shared->network_hash, &rec->ips[i], 255);
    }
    atomic_fetch_add_explicit(&shared->refs, 1, memory_order_relaxed);
    rec->shared = shared;
    *out = rec;
    return 0;
}

const struct xds_workload_service *wl_service(const peering_workload *w, struct pg_str key)
{
    const struct xds_workload *s = &w->shared->w;
    size_t low = 0;
    size_t high = s->n_services;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int r = pg_str_cmp(s->services[mid].key, key);
        if (r == 0) {
            return &s->services[mid];
        }
        if (r < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return NULL;
}

bool wl_has_ip(const peering_workload *w, const peering_ip *ip)
{
    for (size_t i = 0; i < w->n_ips; i++) {
        if (ip_eq(&w->ips[i], ip)) {
            return true;
        }
    }
    return false;
}

/* --- services ----------------------------------------------------------------------------------------- */

static void load_balancing_text(const struct xds_service *s, struct pg_sb *out)
{
    static const char *const scopes[] = {"?", "REGION", "ZONE", "SUBZONE", "NODE", "CLUSTER", "NETWORK"};
    static const char *const modes[] = {"", "STRICT", "FAILOVER", "PASSTHROUGH"};
    if (!s->has_lb || (unsigned)s->lb_mode >= PG_ARRAY_LEN(modes) || s->lb_mode == XDS_LB_UNSPECIFIED) {
        return;
    }
    for (size_t i = 0; i < s->n_lb_scopes; i++) {
        unsigned scope = s->lb_scopes[i];
        pg_sb_c(out, scopes[scope < PG_ARRAY_LEN(scopes) ? scope : 0]);
        pg_sb_ch(out, ' ');
    }
    pg_sb_c(out, modes[s->lb_mode]);
}

static void pack_vips(struct packer *p, const struct xds_service *in, struct rec_service *out)
{
    out->vips = PACK_ARRAY(p, in->n_addresses, peering_vip);
    out->vip_hashes = PACK_ARRAY(p, in->n_addresses, uint32_t);
    for (size_t i = 0; i < in->n_addresses; i++) {
        const struct xds_net_addr *a = &in->addresses[i];
        struct pg_str network = pack_str(p, a->network);
        if (out->vips != NULL) {
            /* Host bits are cut off so that a prefix can be found by its masked address. */
            struct pg_prefix cut = {.ip = a->ip, .bits = a->bits};
            struct pg_ip ip = pg_prefix_make(&a->ip, a->bits, &cut) == 0 ? cut.ip : a->ip;
            out->vips[i] = (peering_vip){.network = str_out(network), .ip = ip_out(&ip), .bits = a->bits};
            out->vip_hashes[i] = rec_hash_ip(rec_hash_str(network), &out->vips[i].ip, a->bits);
        }
    }
}

static void pack_weighted(struct packer *p, const struct xds_service *in, struct xds_service *out)
{
    struct xds_weighted_waypoint *all = PACK_ARRAY(p, in->n_weighted_waypoints, struct xds_weighted_waypoint);
    for (size_t i = 0; i < in->n_weighted_waypoints; i++) {
        struct xds_gateway g = pack_gateway(p, &in->weighted_waypoints[i].destination);
        if (all != NULL) {
            all[i] = (struct xds_weighted_waypoint){g, in->weighted_waypoints[i].weight};
        }
    }
    out->weighted_waypoints = all;
}

static void pack_service(struct packer *p, const struct xds_service *in, struct pg_str key, struct pg_str lb,
                         struct pg_str waypoint, struct rec_service *out)
{
    out->s = *in;
    out->s.name = pack_str(p, in->name);
    out->s.ns = pack_str(p, in->ns);
    out->s.hostname = pack_str(p, in->hostname);
    out->s.waypoint = pack_gateway(p, &in->waypoint);
    pack_weighted(p, in, &out->s);
    out->s.addresses = NULL;
    out->s.ports = NULL;
    out->s.sans = NULL;
    pack_vips(p, in, out);
    out->ports = PACK_ARRAY(p, in->n_ports, peering_port);
    for (size_t i = 0; out->ports != NULL && i < in->n_ports; i++) {
        out->ports[i] = (peering_port){.service_port = in->ports[i].service_port,
                                       .target_port = in->ports[i].target_port,
                                       .app_protocol = in->ports[i].app_protocol};
    }
    out->sans = pack_strs(p, in->sans, in->n_sans);
    out->head.key = pack_str(p, key);
    out->lb_text = pack_str(p, lb);
    out->waypoint_text = pack_str(p, waypoint);
}

int rec_service_make(const struct xds_service *s, struct pg_str key, struct rec_service **out)
{
    struct pg_sb lb, waypoint;
    pg_sb_init(&lb, 256);
    pg_sb_init(&waypoint, SPIFFE_MAX);
    load_balancing_text(s, &lb);
    gateway_text(&s->waypoint, &waypoint);
    int r = lb.err != 0 ? lb.err : waypoint.err;
    if (r < 0) {
        goto done;
    }
    struct packer p = {.used = sizeof(struct rec_service)};
    struct rec_service probe;
    pack_service(&p, s, key, pg_sb_view(&lb), pg_sb_view(&waypoint), &probe);
    struct rec_service *rec = pg_calloc(1, p.used);
    if (rec == NULL) {
        r = PG_E_NOMEM;
        goto done;
    }
    p = (struct packer){.base = (char *)rec, .used = sizeof(*rec)};
    pack_service(&p, s, key, pg_sb_view(&lb), pg_sb_view(&waypoint), rec);
    atomic_init(&rec->head.refs, 1);
    rec->head.kind = REC_SERVICE;
    rec->host_hash = rec_hash_str(rec->s.hostname);
    *out = rec;
done:
    pg_sb_fini(&lb);
    pg_sb_fini(&waypoint);
    return r;
}

bool svc_port(const peering_service *v, uint16_t port, uint16_t *target)
{
    for (size_t i = 0; i < v->rec->s.n_ports; i++) {
        if (v->rec->ports[i].service_port == port) {
            *target = v->rec->ports[i].target_port;
            return true;
        }
    }
    return false;
}

/* --- policies ----------------------------------------------------------------------------------------- */

int rec_policy_make(struct pg_arena *arena, const struct xds_policy *p, struct pg_str key,
                    peering_policy **out)
{
    peering_policy *rec = pg_calloc(1, sizeof(*rec));
    char *copy = rec != NULL ? pg_arena_strndup(arena, key.p != NULL ? key.p : "", key.len) : NULL;
    if (copy == NULL) {
        pg_free(rec);
        pg_arena_fini(arena);
        return PG_E_NOMEM;
    }
    atomic_init(&rec->head.refs, 1);
    rec->head.kind = REC_POLICY;
    rec->head.key = pg_str_n(copy, key.len);
    rec->p = *p;
    rec->arena = *arena;
    pg_arena_init(arena, arena->limit);
    *out = rec;
    return 0;
}

/* --- references --------------------------------------------------------------------------------------- */

void *rec_ref(void *rec)
{
    struct rec_head *h = rec;
    atomic_fetch_add_explicit(&h->refs, 1, memory_order_relaxed);
    return rec;
}

void rec_unref(void *rec)
{
    struct rec_head *h = rec;
    if (h == NULL || atomic_fetch_sub_explicit(&h->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    if (h->kind == REC_WORKLOAD) {
        rec_shared_unref(((peering_workload *)rec)->shared);
    } else if (h->kind == REC_POLICY) {
        pg_arena_fini(&((peering_policy *)rec)->arena);
    }
    pg_free(rec);
}
