/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing the views: every resource of a run is set (the view itself knows what is the same as before) and
 * what was not set is deleted, so that a view never keeps what no contribution holds. Control thread.
 */
#include "merge_int.h"

#include "core/clock.h"
#include "core/log.h"

/* Notes that a resource belongs to the view; false when it cannot, or when the name was set in this run
 * already: two peers behind one gateway address, say. The first in order stays, or the view would flap
 * between the two with every run. */
static bool note(struct merge *m, struct view_writer *w, const char *type, struct pg_str name)
{
    size_t type_len = strlen(type);
    char *key = m->code == 0 ? pg_arena_alloc(&m->scratch, type_len + 1 + name.len) : NULL;
    if (key == NULL) {
        merge_fail(m, PG_E_NOMEM);
        return false;
    }
    memcpy(key, type, type_len);
    key[type_len] = '\n';
    if (name.len > 0) {
        memcpy(key + type_len + 1, name.p, name.len);
    }
    if (pg_map_get(&w->seen, pg_str_n(key, type_len + 1 + name.len)) != NULL) {
        return false;
    }
    int r = pg_map_set(&w->seen, pg_str_n(key, type_len + 1 + name.len), key, NULL);
    if (r < 0) {
        merge_fail(m, r);
    }
    return r == 0;
}

/* A resource that cannot be written (over the size of one, or over the number of all) is left out and
 * counted: it may be a peer's doing and must not stop the rest. False: not to be put. */
static bool encoded(struct merge *m, int r, struct pg_str name)
{
    static struct pg_log_limit limit;
    uint32_t held = 0;
    if (r == PG_E_NOMEM) {
        merge_fail(m, r);
    } else if (r < 0) {
        m->problems++;
        if (pg_log_allowed(&limit, 20, 1, pg_clock_mono_ms(), &held)) {
            PG_LOG(PG_LOG_ERROR, "merge", "resource left out", PG_F_STR("resource", name),
                   PG_F_ERR("error", r), PG_F_U64("suppressed", held));
        }
    }
    return r >= 0;
}

static void put(struct merge *m, struct view_writer *w, const char *type, struct pg_str name,
                const struct pg_sb *bytes, const struct pg_str *aliases, size_t n_aliases)
{
    if (m->code != 0 || !note(m, w, type, name)) {
        return;
    }
    int r = xds_view_set(w->view, type, name, pg_sb_view(bytes), aliases, n_aliases);
    if (r == PG_E_LIMIT && strcmp(type, XDS_TYPE_AUTHORIZATION) != 0) {
        (void)encoded(m, r, name);
        return;
    }
    if (r < 0) {
        pg_err_set(m->err, "%.*s: %s", (int)(name.len > 120 ? 120 : name.len), name.p ? name.p : "",
                   pg_err_str(r));
        merge_fail(m, r);
    }
}

/* "<network>/<ip>", by which a proxy may ask for one address. */
static struct pg_str alias_of(struct merge *m, struct pg_str network, const struct pg_ip *ip)
{
    char text[PG_IP_TEXT];
    return merge_text(m, &m->scratch, "%.*s/%s", PG_STR_ARG(network), pg_ip_fmt(ip, text));
}

void writer_address(struct merge *m, struct view_writer *w, const struct xds_address *a)
{
    struct pg_sb sb;
    struct pg_str *aliases;
    struct pg_str name;
    size_t n = 0;
    if (m->code != 0) {
        return;
    }
    if (a->kind == XDS_ADDRESS_WORKLOAD) {
        const struct xds_workload *wl = &a->u.workload;
        name = wl->uid;
        aliases = merge_scratch(m, wl->n_ips, sizeof(*aliases));
        for (size_t i = 0; aliases != NULL && i < wl->n_ips && wl->network_mode != XDS_NETWORK_HOST; i++) {
            aliases[n++] = alias_of(m, wl->network, &wl->ips[i]);
        }
    } else {
        const struct xds_service *s = &a->u.service;
        name = merge_key(m, s->ns, s->hostname);
        aliases = merge_scratch(m, s->n_addresses, sizeof(*aliases));
        for (size_t i = 0; aliases != NULL && i < s->n_addresses; i++) {
            aliases[n++] = alias_of(m, s->addresses[i].network, &s->addresses[i].ip);
        }
    }
    pg_sb_init(&sb, XDS_RESOURCE_MAX);
    if (encoded(m, xds_address_encode(a, &sb), name)) {
        put(m, w, XDS_TYPE_ADDRESS, name, &sb, aliases, n);
    }
    pg_sb_fini(&sb);
}

void writer_workload(struct merge *m, struct view_writer *w, const struct xds_workload *wl)
{
    writer_address(m, w, &(struct xds_address){.kind = XDS_ADDRESS_WORKLOAD, .u.workload = *wl});
}

void writer_service(struct merge *m, struct view_writer *w, const struct xds_service *s)
{
    writer_address(m, w, &(struct xds_address){.kind = XDS_ADDRESS_SERVICE, .u.service = *s});
}

/* --- what is gone --- */

struct sweep {
    struct merge *m;
    const struct view_writer *w;
    const char *type;
    struct pg_str *gone;
    size_t n, cap;
};

static void sweep_one(void *arg, struct pg_str name, struct pg_str version, struct pg_str bytes)
{
    struct sweep *s = arg;
    struct merge *m = s->m;
    (void)version;
    (void)bytes;
    struct pg_str key = merge_text(m, &m->scratch, "%s\n%.*s", s->type, PG_STR_ARG(name));
    if (m->code != 0 || pg_map_get(&s->w->seen, key) != NULL) {
        return;
    }
    int r = pg_vec_grow(&s->gone, &s->cap, s->n + 1, sizeof(*s->gone), SIZE_MAX / sizeof(*s->gone));
    if (r < 0) {
        merge_fail(m, r);
        return;
    }
    s->gone[s->n++] = pg_str_sub(key, strlen(s->type) + 1);
}

void writer_finish(struct merge *m, struct view_writer *w, const char *const *types, size_t n)
{
    for (size_t i = 0; i < n && m->code == 0; i++) {
        struct sweep s = {.m = m, .w = w, .type = types[i]};
        int r = xds_view_each(w->view, types[i], sweep_one, &s);
        if (r < 0) {
            merge_fail(m, r);
        }
        for (size_t k = 0; k < s.n && m->code == 0; k++) {
            (void)xds_view_del(w->view, types[i], s.gone[k]);
        }
        pg_free(s.gone);
    }
}

/* --- the node view: local things --- */

/* A host without addresses of its own: from the same pool as the global ones. Without one left it goes
 * without. */
static void auto_address(struct merge *m, struct xds_service *s)
{
    struct xds_net_addr *a = merge_scratch(m, 2, sizeof(*a));
    if (a == NULL) {
        return;
    }
    int r = vip_pool_get(m->vips, s->hostname, &a[0].ip, &a[1].ip);
    if (r == 0) {
        a[0].network = a[1].network = m->self->network;
        a[0].bits = 32;
        a[1].bits = 128;
        s->addresses = a;
        s->n_addresses = 2;
    } else if (r != PG_E_LIMIT) {
        merge_fail(m, r);
    }
}

static void put_own_service(struct merge *m, size_t i)
{
    struct xds_service s = m->local->services[i].svc;
    if (m->local->services[i].auto_vip) {
        auto_address(m, &s);
    }
    const struct merge_own *o = &m->own[i];
    if (o->is_extended) {
        s.sans = o->sans;
        s.n_sans = o->n_sans;
    }
    if (o->is_extended && s.n_lb_scopes == 0 && o->distribution != XDS_DIST_ANY) {
        static const uint8_t scopes[] = {XDS_SCOPE_NETWORK, XDS_SCOPE_REGION, XDS_SCOPE_ZONE};
        s.has_lb = true;
        s.lb_mode = XDS_LB_FAILOVER;
        s.n_lb_scopes = o->distribution == XDS_DIST_CLOSE ? 3 : o->distribution == XDS_DIST_REGION ? 2 : 1;
        memcpy(s.lb_scopes, scopes, s.n_lb_scopes);
    }
    writer_service(m, &m->node, &s);
}

/* A pod of a contributing service is an endpoint of the union host too, on the same ports. */
static void put_own_workload(struct merge *m, const struct xds_workload *local)
{
    struct xds_workload w = *local;
    w.services = merge_scratch(m, local->n_services * 2, sizeof(*w.services));
    w.n_services = 0;
    for (size_t i = 0; w.services != NULL && i < local->n_services; i++) {
        w.services[w.n_services++] = local->services[i];
        const struct contrib_service *s = pg_map_get(&m->local_keys, local->services[i].key);
        struct pg_str key = s != NULL ? m->own[s - m->local->services].union_key : PG_STR_NONE;
        if (key.len > 0) {
            w.services[w.n_services] = local->services[i];
            w.services[w.n_services++].key = key;
        }
    }
    writer_workload(m, &m->node, &w);
}

static void put_policy(struct merge *m, const struct xds_policy *p)
{
    struct pg_sb sb;
    struct pg_str name = merge_key(m, p->ns, p->name);
    if (m->code != 0) {
        return;
    }
    pg_sb_init(&sb, XDS_RESOURCE_MAX);
    int r = xds_policy_encode(p, &sb);
    if (r < 0) { /* also when too large: a policy left out would open a door */
        pg_err_set(m->err, "policy %.*s: cannot be encoded: %s", PG_STR_ARG(name), pg_err_str(r));
        merge_fail(m, r);
    }
    put(m, &m->node, XDS_TYPE_AUTHORIZATION, name, &sb, NULL, 0);
    pg_sb_fini(&sb);
}

void merge_local_view(struct merge *m)
{
    const struct contrib_local *l = m->local;
    for (size_t i = 0; i < l->n_services && m->code == 0; i++) {
        put_own_service(m, i);
    }
    for (size_t i = 0; i < l->n_workloads && m->code == 0; i++) {
        put_own_workload(m, &l->workloads[i].w);
    }
    for (size_t i = 0; i < l->n_policies && m->code == 0; i++) {
        put_policy(m, &l->policies[i]);
    }
}

/* --- the export view --- */

static bool is_exported(const struct contrib_service *s)
{
    return s->scope != XDS_FED_CLUSTER;
}

static uint32_t add_capped(uint32_t a, uint32_t b)
{
    return a > UINT32_MAX - b ? UINT32_MAX : a + b;
}

static void sum_endpoints(struct merge *m, size_t i, struct xds_fed_service *f)
{
    size_t from = m->endpoint_from[i], n = m->endpoint_from[i + 1] - from;
    f->sans = merge_scratch(m, n, sizeof(*f->sans));
    f->capacity = merge_scratch(m, 1, sizeof(*f->capacity));
    if (f->capacity == NULL) {
        return;
    }
    f->n_capacity = 1;
    f->capacity[0].network = m->self->network;
    for (size_t k = 0; f->sans != NULL && k < n; k++) {
        const struct xds_workload *w = &m->local->workloads[m->endpoint_ids[from + k]].w;
        f->sans[f->n_sans++] = m->identities[m->endpoint_ids[from + k]];
        f->capacity[0].total = add_capped(f->capacity[0].total, merge_capacity(w));
        if (w->health == XDS_HEALTHY) {
            f->capacity[0].healthy = add_capped(f->capacity[0].healthy, merge_capacity(w));
        }
    }
    (void)merge_sort_sans(f->sans, &f->n_sans);
}

static void export_service(struct merge *m, size_t i)
{
    const struct contrib_service *s = &m->local->services[i];
    struct xds_fed_service f = {.name = s->svc.name,
                                .ns = s->svc.ns,
                                .hostname = s->svc.hostname,
                                .scope = s->scope,
                                .segment = m->local->segment,
                                .distribution = s->distribution,
                                .ports = s->svc.ports,
                                .n_ports = s->svc.n_ports};
    sum_endpoints(m, i, &f);
    struct pg_str name = merge_key(m, f.ns, f.name);
    if (m->code != 0) {
        return;
    }
    struct pg_sb sb;
    pg_sb_init(&sb, XDS_RESOURCE_MAX);
    if (encoded(m, xds_fed_service_encode(&f, &sb), name)) {
        put(m, &m->exported, XDS_TYPE_FEDERATED_SERVICE, name, &sb, NULL, 0);
    }
    pg_sb_fini(&sb);
}

/* Pods of exported services, with nothing said about the others. */
static void export_workload(struct merge *m, const struct xds_workload *local)
{
    struct xds_workload w = *local;
    w.services = merge_scratch(m, local->n_services, sizeof(*w.services));
    w.n_services = 0;
    for (size_t i = 0; w.services != NULL && i < local->n_services; i++) {
        const struct contrib_service *s = pg_map_get(&m->local_keys, local->services[i].key);
        if (s != NULL && is_exported(s)) {
            w.services[w.n_services++] = local->services[i];
        }
    }
    if (w.n_services == 0) {
        return;
    }
    w.policies = NULL;
    w.n_policies = 0;
    w.node = PG_STR_NONE;
    writer_workload(m, &m->exported, &w);
}

static void export_segment(struct merge *m, const struct xds_segment *s)
{
    struct pg_sb sb;
    pg_sb_init(&sb, XDS_RESOURCE_MAX);
    if (encoded(m, xds_segment_encode(s, &sb), s->name)) {
        put(m, &m->exported, XDS_TYPE_SEGMENT, s->name, &sb, NULL, 0);
    }
    pg_sb_fini(&sb);
}

void merge_export_view(struct merge *m)
{
    const struct contrib_local *l = m->local;
    for (size_t i = 0; i < l->n_services && m->code == 0; i++) {
        if (is_exported(&l->services[i])) {
            export_service(m, i);
        }
    }
    for (size_t i = 0; i < l->n_workloads && m->code == 0; i++) {
        export_workload(m, &l->workloads[i].w);
    }
    for (size_t i = 0; i < l->n_segments && m->code == 0; i++) {
        export_segment(m, &l->segments[i]);
    }
}
