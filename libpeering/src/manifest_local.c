/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects to the local contribution by istiod's rules: which Pods are workloads, what they are called, which
 * Services they serve and on which ports. Pure: same objects, same result. Control thread.
 */
#include "manifest_local.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define LOCAL_TEXT_MAX 1024u

struct local_service_ref {
    size_t service;
    struct local_service_ref *next;
};
struct local_slice_ref { /* a selectorless Service that reaches a Pod through an EndpointSlice */
    size_t service;
    const struct obj_slice *slice;
    struct local_slice_ref *next;
};

static void fail(struct local_builder *b, int code)
{
    b->code = b->code != 0 ? b->code : code;
}

void *local_array(struct local_builder *b, size_t count, size_t size)
{
    if (b->code != 0 || count == 0) {
        return NULL;
    }
    void *p = pg_arena_calloc(&b->out->arena, count, size);
    if (p == NULL) {
        fail(b, PG_E_NOMEM);
    }
    return p;
}

struct pg_str local_copy(struct local_builder *b, struct pg_str s)
{
    if (b->code != 0 || s.len == 0) {
        return PG_STR_NONE;
    }
    const char *p = pg_arena_strndup(&b->out->arena, s.p, s.len);
    if (p == NULL) {
        fail(b, PG_E_NOMEM);
        return PG_STR_NONE;
    }
    return pg_str_n(p, s.len);
}

struct pg_str local_fmt(struct local_builder *b, const char *fmt, ...)
{
    char text[LOCAL_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof(text)) {
        fail(b, PG_E_LIMIT);
        return PG_STR_NONE;
    }
    return local_copy(b, pg_str_n(text, (size_t)n));
}

/* Builds a lookup key in `buf`; empty when it does not fit (such a label matches nothing). */
static struct pg_str join(char *buf, size_t cap, struct pg_str a, struct pg_str k, struct pg_str v)
{
    int n = snprintf(buf, cap, "%.*s\n%.*s\n%.*s", PG_STR_ARG(a), PG_STR_ARG(k), PG_STR_ARG(v));
    return n < 0 || (size_t)n >= cap ? PG_STR_NONE : pg_str_n(buf, (size_t)n);
}

/* Chains `node` before what `map` has under `key`; the key is copied, because setting replaces the one in the
 * map too. `next` is where the old head goes. */
static void chain(struct local_builder *b, struct pg_map *map, struct pg_str key, void *node, void **next)
{
    *next = pg_map_get(map, key);
    const char *copy = pg_arena_strndup(&b->scratch, key.p, key.len);
    if (copy == NULL) {
        fail(b, PG_E_NOMEM);
        return;
    }
    key.p = copy;
    int r = pg_map_set(map, key, node, NULL);
    if (r < 0) {
        fail(b, r);
    }
}

/* --- Services --- */

static void set_lb(struct xds_service *v, const uint8_t *scopes, size_t n, enum xds_lb_mode mode)
{
    v->has_lb = true;
    v->lb_mode = mode;
    v->n_lb_scopes = n;
    memcpy(v->lb_scopes, scopes, n);
}

static enum obj_distribution distribution_of(const struct object *o, const struct object *ns)
{
    if (o->u.service.distribution != OBJ_DIST_NONE || ns == NULL) {
        return o->u.service.distribution;
    }
    return ns->u.namespace_.distribution;
}

static void service_lb(const struct object *o, const struct object *ns, struct contrib_service *s)
{
    static const uint8_t scopes[] = {XDS_SCOPE_NETWORK, XDS_SCOPE_REGION, XDS_SCOPE_ZONE, XDS_SCOPE_SUBZONE,
                                     XDS_SCOPE_NODE};
    static const uint8_t node[] = {XDS_SCOPE_NODE};
    enum obj_distribution d = distribution_of(o, ns);
    s->has_distribution = d != OBJ_DIST_NONE;
    if (o->u.service.node_local) {
        set_lb(&s->svc, node, 1, XDS_LB_STRICT);
    }
    size_t n = 0;
    switch (d) {
    case OBJ_DIST_NONE:
        break;
    case OBJ_DIST_CLOSE:
        s->distribution = XDS_DIST_CLOSE;
        n = 3;
        break;
    case OBJ_DIST_NODE:
        s->distribution = XDS_DIST_CLOSE;
        n = 5;
        break;
    case OBJ_DIST_NETWORK:
        s->distribution = XDS_DIST_NETWORK;
        n = 1;
        break;
    case OBJ_DIST_REGION:
        s->distribution = XDS_DIST_REGION;
        n = 2;
        break;
    case OBJ_DIST_ANY:
        s->distribution = XDS_DIST_ANY;
        break;
    }
    if (n > 0 && !s->svc.has_lb) {
        set_lb(&s->svc, scopes, n, XDS_LB_FAILOVER);
    }
    if (o->u.service.publish_not_ready) {
        s->svc.has_lb = true;
        s->svc.health_policy = XDS_ALLOW_ALL;
    }
}

static void service_ports(struct local_builder *b, const struct obj_service *s, struct xds_service *v)
{
    v->ports = local_array(b, s->n_ports, sizeof(*v->ports));
    for (size_t i = 0; v->ports != NULL && i < s->n_ports; i++) {
        v->ports[i] = (struct xds_port){s->ports[i].port, s->ports[i].target, s->ports[i].app_protocol};
        v->n_ports++;
    }
}

static void service_addresses(struct local_builder *b, const struct obj_service *s, struct xds_service *v)
{
    v->addresses = local_array(b, s->ips.n, sizeof(*v->addresses));
    for (size_t i = 0; v->addresses != NULL && i < s->ips.n; i++) {
        uint8_t bits = s->ips.ip[i].len == 4 ? 32 : 128;
        v->addresses[i] = (struct xds_net_addr){b->network, s->ips.ip[i], bits};
        v->n_addresses++;
    }
    if (s->n_families == 2) {
        v->ip_families = XDS_IP_DUAL;
    } else if (s->n_families == 1) {
        v->ip_families = s->first_family_is_v6 ? XDS_IP_V6_ONLY : XDS_IP_V4_ONLY;
    }
}

static void add_service(struct local_builder *b, const struct object *o)
{
    const struct object *ns = index_find(b->x, OBJ_NAMESPACE, PG_STR_NONE, o->ns);
    const struct obj_service *s = &o->u.service;
    struct contrib_service *cs = &b->out->services[b->out->n_services];
    struct xds_service *v = &cs->svc;
    v->name = local_copy(b, o->name);
    v->ns = local_copy(b, o->ns);
    v->hostname =
        local_fmt(b, "%.*s.%.*s.svc.%.*s", PG_STR_ARG(o->name), PG_STR_ARG(o->ns), PG_STR_ARG(b->c->domain));
    v->canonical = true;
    service_ports(b, s, v);
    service_addresses(b, s, v);
    service_lb(o, ns, cs);
    if (s->has_scope) {
        cs->scope = s->scope;
    } else if (ns != NULL && ns->u.namespace_.has_scope) {
        cs->scope = ns->u.namespace_.scope;
    }
    cs->takeover = pg_str_eq_c(kvs_get(&o->labels, LABEL_TAKEOVER), "true");
    b->service_objects[b->out->n_services] = o;
    b->keys[b->out->n_services] = local_fmt(b, "%.*s/%.*s", PG_STR_ARG(v->ns), PG_STR_ARG(v->hostname));
    b->out->n_services++;
}

/* What a Service and a ServiceEntry have in common: selector and ports. */
static const struct obj_service *spec_of(const struct object *o)
{
    return o->kind == OBJ_SERVICE ? &o->u.service : &o->u.service_entry.as_service;
}

static void index_selector(struct local_builder *b, size_t i)
{
    char buf[LOCAL_TEXT_MAX];
    const struct object *o = b->service_objects[i];
    if (spec_of(o)->selector.n == 0) {
        return;
    }
    const struct obj_kv *kv = &spec_of(o)->selector.kv[0];
    struct pg_str key = join(buf, sizeof(buf), o->ns, kv->key, kv->value);
    struct local_service_ref *ref = pg_arena_calloc(&b->scratch, 1, sizeof(*ref));
    if (ref == NULL) {
        fail(b, PG_E_NOMEM);
    } else if (key.len > 0) {
        void *next = NULL;
        ref->service = i;
        chain(b, &b->by_selector, key, ref, &next);
        ref->next = next;
    }
}

static void local_services(struct local_builder *b)
{
    size_t from, n = index_range(b->x, OBJ_SERVICE, NULL, &from);
    size_t all = n + local_entry_hosts(b);
    if (all > CONTRIB_SERVICES_MAX) {
        fail(b, PG_E_LIMIT);
    }
    b->out->services = local_array(b, all, sizeof(*b->out->services));
    b->service_objects = local_array(b, all, sizeof(*b->service_objects));
    b->keys = local_array(b, all, sizeof(*b->keys));
    for (size_t i = from; i < from + n && b->code == 0; i++) {
        if (!b->x->objects[i]->u.service.external_name) {
            add_service(b, b->x->objects[i]);
        }
    }
    b->n_kubernetes = b->out->n_services;
    local_entry_services(b);
    for (size_t i = 0; i < b->out->n_services && b->code == 0; i++) {
        index_selector(b, i);
    }
}

bool local_find_service(const struct local_builder *b, struct pg_str ns, struct pg_str name, size_t *out)
{
    size_t lo = 0, hi = b->n_kubernetes;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = object_key_cmp(OBJ_SERVICE, ns, name, b->service_objects[mid]);
        if (c == 0) {
            *out = mid;
            return true;
        }
        if (c > 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return false;
}

/* Slices say which Pods serve a Service only when it has no selector. */
static void index_slices(struct local_builder *b)
{
    size_t from, n = index_range(b->x, OBJ_ENDPOINT_SLICE, NULL, &from);
    for (size_t i = from; i < from + n && b->code == 0; i++) {
        const struct object *o = b->x->objects[i];
        size_t service;
        if (!local_find_service(b, o->ns, o->u.slice.service, &service) ||
            b->service_objects[service]->u.service.selector.n > 0) {
            continue;
        }
        for (size_t k = 0; k < o->u.slice.n_endpoints && b->code == 0; k++) {
            char buf[LOCAL_TEXT_MAX];
            struct pg_str pod = o->u.slice.endpoints[k].pod;
            struct pg_str key = pod.len > 0 ? join(buf, sizeof(buf), o->ns, PG_STR_NONE, pod) : PG_STR_NONE;
            struct local_slice_ref *ref = pg_arena_calloc(&b->scratch, 1, sizeof(*ref));
            if (ref == NULL) {
                fail(b, PG_E_NOMEM);
            } else if (key.len > 0) {
                void *next = NULL;
                ref->service = service;
                ref->slice = &o->u.slice;
                chain(b, &b->by_pod, key, ref, &next);
                ref->next = next;
            }
        }
    }
}

/* --- Pods --- */

static uint16_t container_port(const struct obj_pod *p, struct pg_str name)
{
    for (size_t i = 0; i < p->n_ports; i++) {
        if (pg_str_eq(p->ports[i].name, name)) {
            return p->ports[i].port;
        }
    }
    return 0;
}

/* What the ports of a Service are on one Pod; a name that the Pod does not know is left out. */
static void ports_on_pod(struct local_builder *b, const struct obj_service *s, const struct obj_pod *p,
                         struct xds_workload_service *out)
{
    out->ports = local_array(b, s->n_ports, sizeof(*out->ports));
    for (size_t i = 0; out->ports != NULL && i < s->n_ports; i++) {
        const struct obj_service_port *sp = &s->ports[i];
        uint16_t target = sp->target != 0 ? sp->target : container_port(p, sp->target_name);
        if (target != 0) {
            out->ports[out->n_ports++] = (struct xds_port){.service_port = sp->port, .target_port = target};
        }
    }
}

/* The same through a slice: by port name, or the only port. */
static void ports_on_slice(struct local_builder *b, const struct obj_service *s,
                           const struct obj_slice *slice, struct xds_workload_service *out)
{
    out->ports = local_array(b, s->n_ports, sizeof(*out->ports));
    for (size_t i = 0; out->ports != NULL && i < s->n_ports; i++) {
        for (size_t k = 0; k < slice->n_ports; k++) {
            if (pg_str_eq(slice->ports[k].name, s->ports[i].name)) {
                out->ports[out->n_ports++] =
                    (struct xds_port){.service_port = s->ports[i].port, .target_port = slice->ports[k].port};
                break;
            }
        }
    }
}

/* The same on a WorkloadEntry: its own word for a port of a ServiceEntry, or for a named target port of a
 * Service. */
static void ports_on_entry(struct local_builder *b, const struct object *so,
                           const struct obj_workload_entry *e, struct xds_workload_service *out)
{
    const struct obj_service *s = spec_of(so);
    out->ports = local_array(b, s->n_ports, sizeof(*out->ports));
    for (size_t i = 0; out->ports != NULL && i < s->n_ports; i++) {
        const struct obj_service_port *sp = &s->ports[i];
        struct pg_str name = so->kind == OBJ_SERVICE ? sp->target_name : sp->name;
        uint16_t target = sp->target;
        for (size_t k = 0; k < e->n_ports && name.len > 0; k++) {
            target = pg_str_eq(e->ports[k].name, name) ? e->ports[k].port : target;
        }
        if (target != 0) {
            out->ports[out->n_ports++] = (struct xds_port){.service_port = sp->port, .target_port = target};
        }
    }
}

void local_entry_service(struct local_builder *b, size_t service, const struct obj_workload_entry *e,
                         struct xds_workload *w)
{
    struct xds_workload_service *ws = &w->services[w->n_services++];
    ws->key = b->keys[service];
    ports_on_entry(b, b->service_objects[service], e, ws);
}

struct match { /* a Service that a Pod serves */
    size_t service;
    const struct obj_slice *slice; /* through it, or NULL */
};

static int by_service(const void *a, const void *b)
{
    const struct match *x = a, *y = b;
    return x->service == y->service ? 0 : x->service < y->service ? -1 : 1;
}

/* Vector of matches in the heap; the caller frees *out. */
static size_t find_matches(struct local_builder *b, const struct object *o, struct match **out)
{
    size_t n = 0, cap = 0;
    char buf[LOCAL_TEXT_MAX];
    for (size_t i = 0; i < o->labels.n && b->code == 0; i++) {
        struct pg_str key = join(buf, sizeof(buf), o->ns, o->labels.kv[i].key, o->labels.kv[i].value);
        const struct local_service_ref *ref = key.len > 0 ? pg_map_get(&b->by_selector, key) : NULL;
        for (; ref != NULL && b->code == 0; ref = ref->next) {
            if (!kvs_match(&spec_of(b->service_objects[ref->service])->selector, &o->labels)) {
                continue;
            }
            int r = pg_vec_grow(out, &cap, n + 1, sizeof(**out), CONTRIB_SERVICES_MAX);
            if (r < 0) {
                fail(b, r);
                break;
            }
            (*out)[n++] = (struct match){ref->service, NULL};
        }
    }
    const struct local_slice_ref *ref =
        pg_map_get(&b->by_pod, join(buf, sizeof(buf), o->ns, PG_STR_NONE, o->name));
    for (; ref != NULL && b->code == 0; ref = ref->next) {
        int r = pg_vec_grow(out, &cap, n + 1, sizeof(**out), CONTRIB_SERVICES_MAX);
        if (r < 0) {
            fail(b, r);
            break;
        }
        (*out)[n++] = (struct match){ref->service, ref->slice};
    }
    if (n > 1) {
        qsort(*out, n, sizeof(**out), by_service);
    }
    return n;
}

void local_join_services(struct local_builder *b, const struct object *o, struct xds_workload *w)
{
    struct match *matches = NULL;
    size_t n = find_matches(b, o, &matches);
    w->services = local_array(b, n, sizeof(*w->services));
    for (size_t i = 0; w->services != NULL && i < n; i++) {
        if (i > 0 && matches[i].service == matches[i - 1].service) {
            continue;
        }
        const struct object *so = b->service_objects[matches[i].service];
        if (o->kind == OBJ_WORKLOAD_ENTRY) {
            if (so->kind != OBJ_SERVICE || b->c->select_workload_entries) {
                local_entry_service(b, matches[i].service, &o->u.workload_entry, w);
            }
            continue;
        }
        struct xds_workload_service *ws = &w->services[w->n_services++];
        const struct obj_service *s = spec_of(so);
        ws->key = b->keys[matches[i].service];
        if (matches[i].slice != NULL) {
            ports_on_slice(b, s, matches[i].slice, ws);
        } else {
            ports_on_pod(b, s, &o->u.pod, ws);
        }
    }
    pg_free(matches);
}

static bool all_digits(struct pg_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] < '0' || s.p[i] > '9') {
            return false;
        }
    }
    return true;
}

/* Deployment from its ReplicaSet's name, CronJob from its Job's, else the owner itself, else the Pod. */
static struct pg_str workload_name(const struct object *o)
{
    const struct obj_pod *p = &o->u.pod;
    struct pg_str owner = p->owner_name;
    if (owner.len == 0) {
        return o->name;
    }
    ptrdiff_t dash = pg_str_rchr(owner, '-');
    struct pg_str suffix = dash > 0 ? pg_str_sub(owner, (size_t)dash + 1) : PG_STR_NONE;
    struct pg_str hash = kvs_get(&o->labels, "pod-template-hash");
    bool replica_set = pg_str_eq_c(p->owner_kind, "ReplicaSet") && suffix.len > 0 && pg_str_eq(suffix, hash);
    bool cron_job =
        pg_str_eq_c(p->owner_kind, "Job") && suffix.len >= 8 && suffix.len <= 10 && all_digits(suffix);
    if (replica_set || cron_job) {
        owner.len = (size_t)dash;
    }
    return owner;
}

static struct pg_str first_label(const struct obj_kvs *labels, const char *const *keys, size_t n,
                                 struct pg_str otherwise)
{
    for (size_t i = 0; i < n; i++) {
        struct pg_str v = kvs_get(labels, keys[i]);
        if (v.len > 0) {
            return v;
        }
    }
    return otherwise;
}

void local_names(struct local_builder *b, const struct obj_kvs *labels, struct pg_str workload,
                 struct xds_workload *w)
{
    static const char *const names[] = {"service.istio.io/canonical-name", "app.kubernetes.io/name", "app"};
    static const char *const revisions[] = {"service.istio.io/canonical-revision",
                                            "app.kubernetes.io/version", "version"};
    w->workload_name = local_copy(b, workload);
    w->canonical_name = local_copy(b, first_label(labels, names, PG_ARRAY_LEN(names), workload));
    w->canonical_revision =
        local_copy(b, first_label(labels, revisions, PG_ARRAY_LEN(revisions), PG_STR("latest")));
    w->type = XDS_POD;
}

/* Captured by the CNI agent, or by intent where there is none; a Pod on the host's network never is. */
void local_tunnel(const struct local_builder *b, const struct object *o, struct xds_workload *w)
{
    if (o->kind == OBJ_POD && o->u.pod.host_network) {
        return;
    }
    const struct object *ns = index_find(b->x, OBJ_NAMESPACE, PG_STR_NONE, o->ns);
    struct pg_str mode = kvs_get(&o->labels, LABEL_DATAPLANE);
    bool wanted = pg_str_eq_c(mode, "ambient") ||
                  (ns != NULL && pg_str_eq_c(kvs_get(&ns->labels, LABEL_DATAPLANE), "ambient") &&
                   !pg_str_eq_c(mode, "none"));
    w->native_tunnel = pg_str_eq_c(kvs_get(&o->labels, "networking.istio.io/tunnel"), "http");
    if (wanted || w->native_tunnel || pg_str_eq_c(kvs_get(&o->annotations, ANN_REDIRECTION), "enabled")) {
        w->tunnel = XDS_TUNNEL_HBONE;
    }
}

static void pod_locality(struct local_builder *b, struct pg_str node, struct xds_workload *w)
{
    const struct object *n = node.len > 0 ? index_find(b->x, OBJ_NODE, PG_STR_NONE, node) : NULL;
    if (n != NULL) {
        w->locality.region = local_copy(b, kvs_get(&n->labels, LABEL_REGION));
        w->locality.zone = local_copy(b, kvs_get(&n->labels, LABEL_ZONE));
        w->locality.subzone = local_copy(b, kvs_get(&n->labels, LABEL_SUBZONE));
    }
}

void local_set_ips(struct local_builder *b, const struct pg_ip *ips, size_t n, struct xds_workload *w)
{
    w->ips = local_array(b, n, sizeof(*w->ips));
    if (w->ips != NULL) {
        memcpy(w->ips, ips, n * sizeof(*ips));
        w->n_ips = n;
    }
}

static void add_pod(struct local_builder *b, const struct object *o)
{
    const struct obj_pod *p = &o->u.pod;
    struct xds_workload *w = &b->out->workloads[b->out->n_workloads++].w;
    w->uid =
        local_fmt(b, "%.*s//Pod/%.*s/%.*s", PG_STR_ARG(b->cluster), PG_STR_ARG(o->ns), PG_STR_ARG(o->name));
    w->name = local_copy(b, o->name);
    w->ns = local_copy(b, o->ns);
    w->network = b->network;
    w->trust_domain = b->trust_domain;
    w->cluster_id = b->cluster;
    w->service_account = local_copy(b, p->service_account);
    w->node = local_copy(b, p->node);
    w->health = p->ready && !p->deleting ? XDS_HEALTHY : XDS_UNHEALTHY;
    w->network_mode = p->host_network ? XDS_NETWORK_HOST : XDS_NETWORK_STANDARD;
    local_set_ips(b, p->ips.ip, p->ips.n, w);
    local_names(b, &o->labels, workload_name(o), w);
    local_tunnel(b, o, w);
    pod_locality(b, p->node, w);
    local_join_services(b, o, w);
    local_workload_policies(b, o->ns, &o->labels, w);
}

/* --- endpoints written by hand --- */

static void add_slice_endpoint(struct local_builder *b, const struct object *o, size_t service,
                               const struct obj_slice_endpoint *e, const struct pg_ip *ip)
{
    char text[PG_IP_TEXT];
    struct xds_workload *w = &b->out->workloads[b->out->n_workloads++].w;
    w->uid = local_fmt(b, "%.*s/discovery.k8s.io/EndpointSlice/%.*s/%.*s/%s", PG_STR_ARG(b->cluster),
                       PG_STR_ARG(o->ns), PG_STR_ARG(o->name), pg_ip_fmt(ip, text));
    w->name = local_copy(b, o->name);
    w->ns = local_copy(b, o->ns);
    w->network = b->network;
    w->trust_domain = b->trust_domain;
    w->cluster_id = b->cluster;
    w->service_account = PG_STR("default");
    w->workload_name = w->name;
    w->canonical_name = w->name;
    w->canonical_revision = PG_STR("latest");
    w->type = XDS_POD;
    w->network_mode = XDS_NETWORK_HOST;
    w->health = e->ready ? XDS_HEALTHY : XDS_UNHEALTHY;
    local_set_ips(b, ip, 1, w);
    w->services = local_array(b, 1, sizeof(*w->services));
    if (w->services != NULL) {
        w->n_services = 1;
        w->services[0].key = b->keys[service];
        ports_on_slice(b, &b->service_objects[service]->u.service, &o->u.slice, &w->services[0]);
    }
}

static void each_slice_endpoint(struct local_builder *b, bool add, size_t *count)
{
    size_t from, n = index_range(b->x, OBJ_ENDPOINT_SLICE, NULL, &from);
    for (size_t i = from; i < from + n && b->code == 0; i++) {
        const struct object *o = b->x->objects[i];
        size_t service;
        if (!local_find_service(b, o->ns, o->u.slice.service, &service)) {
            continue;
        }
        for (size_t k = 0; k < o->u.slice.n_endpoints; k++) {
            const struct obj_slice_endpoint *e = &o->u.slice.endpoints[k];
            for (size_t a = 0; a < e->ips.n && e->pod.len == 0 && b->code == 0; a++) {
                if (add) {
                    add_slice_endpoint(b, o, service, e, &e->ips.ip[a]);
                }
                (*count)++;
            }
        }
    }
}

static bool is_workload(const struct object *o)
{
    return !o->u.pod.finished && o->u.pod.ips.n > 0;
}

static void local_workloads(struct local_builder *b)
{
    size_t from, pods = index_range(b->x, OBJ_POD, NULL, &from), n = 0;
    for (size_t i = from; i < from + pods; i++) {
        n += is_workload(b->x->objects[i]) ? 1 : 0;
    }
    each_slice_endpoint(b, false, &n);
    n += local_entry_workloads_max(b);
    if (n > CONTRIB_WORKLOADS_MAX) {
        fail(b, PG_E_LIMIT);
    }
    b->out->workloads = local_array(b, n, sizeof(*b->out->workloads));
    for (size_t i = from; i < from + pods && b->code == 0; i++) {
        if (is_workload(b->x->objects[i])) {
            add_pod(b, b->x->objects[i]);
        }
    }
    if (b->code == 0) {
        each_slice_endpoint(b, true, &n);
        local_entry_workloads(b);
    }
}

/* --- all of it --- */

static void local_settings(struct local_builder *b)
{
    const struct object *system = index_find(b->x, OBJ_NAMESPACE, PG_STR_NONE, b->c->system_ns);
    struct pg_str network = system != NULL ? kvs_get(&system->labels, LABEL_NETWORK) : PG_STR_NONE;
    b->out->network = local_copy(b, network);
    b->out->segment = system != NULL ? local_copy(b, kvs_get(&system->labels, LABEL_SEGMENT)) : PG_STR_NONE;
    b->network = network.len > 0 ? b->out->network : local_copy(b, b->c->network);
    b->trust_domain = local_copy(b, b->c->trust_domain);
    b->cluster = local_copy(b, b->c->cluster);
}

static void local_segments(struct local_builder *b)
{
    size_t from, n = index_range(b->x, OBJ_SEGMENT, &b->c->system_ns, &from);
    b->out->segments = local_array(b, n, sizeof(*b->out->segments));
    for (size_t i = from; i < from + n && b->out->segments != NULL; i++) {
        b->out->segments[b->out->n_segments++] =
            (struct xds_segment){.name = local_copy(b, b->x->objects[i]->name),
                                 .domain = local_copy(b, b->x->objects[i]->u.segment.domain)};
    }
}

int manifest_local(const struct manifest *m, const struct manifest_config *c, struct contrib_local *out,
                   struct pg_errtext *err)
{
    struct contrib_local l = {0};
    struct local_builder b = {.c = c, .x = manifest_index(m), .out = &l};
    pg_arena_init(&l.arena, CONTRIB_ARENA_MAX);
    pg_arena_init(&b.scratch, CONTRIB_ARENA_MAX);
    pg_map_init(&b.by_selector, CONTRIB_SERVICES_MAX);
    pg_map_init(&b.by_pod, CONTRIB_WORKLOADS_MAX);
    local_settings(&b);
    local_services(&b);
    index_slices(&b);
    local_policies(&b);
    local_workloads(&b);
    local_segments(&b);
    pg_map_fini(&b.by_selector);
    pg_map_fini(&b.by_pod);
    pg_arena_fini(&b.scratch);
    if (b.code < 0) {
        if (b.code == PG_E_LIMIT) {
            pg_err_set(err, "more than %u services, %u workloads, or a name too long", CONTRIB_SERVICES_MAX,
                       CONTRIB_WORKLOADS_MAX);
        }
        contrib_local_fini(&l);
        return b.code;
    }
    *out = l;
    return 0;
}
