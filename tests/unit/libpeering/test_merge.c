/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Merge: the truth table of scopes in every order of events, the shape of imported entries, age of peers,
 * takeover, segments, what is exported, hostile peers, and that the order of arrival leaves no trace.
 */
#include "core/rng.h"
#include "merge_testlib.h"

#define HOST "web.demo.mesh.internal"
#define KEY "demo/web.demo.mesh.internal"
#define OWN_KEY "demo/web.demo.svc.cluster.local"
#define GW_ENTRY "b/networking.istio.io/WorkloadEntry/istio-system/autogen.b.demo.web"

/* --- the truth table --- */

enum presence { ABSENT, PLAIN, GLOBAL };
struct row {
    enum presence local, remote;
    bool host, local_endpoint, remote_endpoint;
};

static void set_state(struct cluster *c, enum presence p)
{
    t_drop_local(c);
    if (p != ABSENT) {
        struct contrib_service *s =
            t_service(c, "demo", "web", p == GLOBAL ? XDS_FED_GLOBAL : XDS_FED_CLUSTER);
        (void)t_pod(c, s, "web-1");
    }
}

/* Everything from nothing, for comparison. */
static uint64_t rebuilt(enum presence local, enum presence remote, uint64_t *exported)
{
    struct cluster a, b;
    t_cluster(&a, "a", "net-a");
    t_cluster(&b, "b", "net-b");
    set_state(&a, local);
    set_state(&b, remote);
    t_publish(&b);
    struct contrib_peer p = t_peer(&b, PEER_DATA_FRESH);
    t_merge(&a, &p, 1);
    uint64_t d = xds_view_digest(a.node);
    *exported = xds_view_digest(a.exported);
    t_fini(&a);
    t_fini(&b);
    return d;
}

static void check_row(const struct row *row, struct cluster *a)
{
    const struct xds_address *host = t_find(a, a->node, KEY);
    CU_ASSERT_EQUAL(host != NULL, row->host);
    CU_ASSERT_EQUAL(t_find(a, a->node, OWN_KEY) != NULL, row->local != ABSENT);
    const struct xds_address *pod = t_find(a, a->node, "a//Pod/demo/web-1");
    CU_ASSERT_EQUAL(pod != NULL, row->local != ABSENT);
    CU_ASSERT_EQUAL(t_key(pod, KEY) != NULL, row->local_endpoint);
    CU_ASSERT_EQUAL(t_key(pod, OWN_KEY) != NULL, row->local != ABSENT);
    const struct xds_address *entry = t_find(a, a->node, GW_ENTRY);
    CU_ASSERT_EQUAL(entry != NULL, row->remote_endpoint);
    CU_ASSERT_EQUAL(t_key(entry, KEY) != NULL, row->remote_endpoint);
    /* The original host keeps its local endpoints only. */
    CU_ASSERT_PTR_NULL(t_key(entry, OWN_KEY));
    CU_ASSERT_EQUAL(a->result.n_globals, row->host ? 1 : 0);
    if (row->host) {
        CU_ASSERT_EQUAL(a->result.globals[0].n_endpoints,
                        (row->local_endpoint ? 1u : 0u) + (row->remote_endpoint ? 1u : 0u));
        CU_ASSERT_EQUAL(t_has_san(host, "spiffe://td-a/ns/demo/sa/web-1"), row->local_endpoint);
        CU_ASSERT_EQUAL(t_has_san(host, "spiffe://td-b/ns/demo/sa/web-1"), row->remote_endpoint);
    }
}

/* The three things that happen (local object, remote object, link) in each of the six orders, merging after
 * each. */
static void run_row(const struct row *row)
{
    static const char *const orders[] = {"lrp", "lpr", "rlp", "rpl", "plr", "prl"};
    uint64_t exported, want = rebuilt(row->local, row->remote, &exported);
    for (size_t i = 0; i < PG_ARRAY_LEN(orders); i++) {
        struct cluster a, b;
        bool linked = false;
        t_cluster(&a, "a", "net-a");
        t_cluster(&b, "b", "net-b");
        for (const char *e = orders[i]; *e != '\0'; e++) {
            if (*e == 'l') {
                set_state(&a, row->local);
            } else if (*e == 'r') {
                set_state(&b, row->remote);
            } else {
                linked = true;
            }
            t_publish(&b);
            struct contrib_peer p = t_peer(&b, PEER_DATA_FRESH);
            t_merge(&a, &p, linked ? 1 : 0);
        }
        check_row(row, &a);
        CU_ASSERT_EQUAL(xds_view_digest(a.node), want);
        CU_ASSERT_EQUAL(xds_view_digest(a.exported), exported);
        /* The link goes: nothing of the peer is left. */
        t_merge(&a, NULL, 0);
        CU_ASSERT_PTR_NULL(t_find(&a, a.node, GW_ENTRY));
        CU_ASSERT_EQUAL(t_find(&a, a.node, KEY) != NULL, row->local == GLOBAL);
        t_fini(&a);
        t_fini(&b);
    }
}

static void test_row1(void)
{
    run_row(&(struct row){PLAIN, PLAIN, false, false, false});
}
static void test_row2(void)
{
    run_row(&(struct row){ABSENT, GLOBAL, true, false, true});
}
static void test_row3(void)
{
    run_row(&(struct row){PLAIN, GLOBAL, true, false, true});
}
static void test_row4(void)
{
    run_row(&(struct row){GLOBAL, GLOBAL, true, true, true});
}
static void test_row5(void)
{
    run_row(&(struct row){GLOBAL, ABSENT, true, true, false});
}
static void test_row6(void)
{
    run_row(&(struct row){GLOBAL, PLAIN, true, true, false});
}

/* --- what entries look like --- */

struct pair { /* b seen from a */
    struct cluster a, b;
};
static void pair_make(struct pair *p, const char *net_a, const char *net_b)
{
    t_cluster(&p->a, "a", net_a);
    t_cluster(&p->b, "b", net_b);
}
static void pair_merge(struct pair *p, enum peer_data data)
{
    t_publish(&p->b);
    struct contrib_peer peer = t_peer(&p->b, data);
    t_merge(&p->a, &peer, 1);
}
static void pair_fini(struct pair *p)
{
    t_fini(&p->a);
    t_fini(&p->b);
}

static void test_gateway_entry(void)
{
    struct pair p;
    pair_make(&p, "net-a", "net-b");
    struct contrib_service *s = t_service(&p.b, "demo", "web", XDS_FED_GLOBAL);
    (void)t_pod(&p.b, s, "web-1");
    t_pod(&p.b, s, "web-2")->health = XDS_UNHEALTHY;
    struct xds_workload *heavy = t_pod(&p.b, s, "web-3");
    heavy->has_capacity = true;
    heavy->capacity = 4;
    pair_merge(&p, PEER_DATA_FRESH);
    CU_ASSERT_EQUAL(p.a.problems, 0);

    const struct xds_address *e = t_find(&p.a, p.a.node, GW_ENTRY);
    CU_ASSERT_PTR_NOT_NULL_FATAL(e);
    const struct xds_workload *w = &e->u.workload;
    CU_ASSERT_TRUE(pg_str_eq_c(w->name, "autogen.b.demo.web"));
    CU_ASSERT_TRUE(pg_str_eq_c(w->ns, "demo"));
    CU_ASSERT_TRUE(pg_str_eq_c(w->network, "net-b"));
    CU_ASSERT_TRUE(pg_str_eq_c(w->cluster_id, "b"));
    CU_ASSERT_TRUE(pg_str_eq_c(w->trust_domain, "td-b"));
    CU_ASSERT_TRUE(pg_str_eq_c(w->locality.region, "r1") && pg_str_eq_c(w->locality.zone, "z1"));
    CU_ASSERT_EQUAL(w->n_ips, 0);
    CU_ASSERT_EQUAL(w->tunnel, XDS_TUNNEL_HBONE);
    CU_ASSERT_TRUE(w->has_capacity && w->capacity == 5);
    CU_ASSERT_EQUAL(w->health, XDS_HEALTHY);
    CU_ASSERT_EQUAL(w->network_gateway.kind, XDS_GATEWAY_ADDRESS);
    CU_ASSERT_TRUE(pg_str_eq_c(w->network_gateway.address.network, "net-b"));
    CU_ASSERT_EQUAL(w->network_gateway.hbone_port, 15008);
    const struct xds_workload_service *ws = t_key(e, KEY);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ws);
    CU_ASSERT_EQUAL_FATAL(ws->n_ports, 1);
    CU_ASSERT_TRUE(ws->ports[0].service_port == 5000 && ws->ports[0].target_port == 5000);

    const struct xds_address *gw = t_find(&p.a, p.a.node, "NetworkGateway/net-b/192.0.2.1/15008");
    CU_ASSERT_PTR_NOT_NULL_FATAL(gw);
    CU_ASSERT_TRUE(pg_str_eq_c(gw->u.workload.service_account, "istio-eastwest"));
    CU_ASSERT_TRUE(pg_str_eq_c(gw->u.workload.ns, "istio-eastwest"));
    CU_ASSERT_TRUE(pg_str_eq_c(gw->u.workload.trust_domain, "td-b"));
    CU_ASSERT_TRUE(pg_str_eq_c(gw->u.workload.cluster_id, "b"));
    CU_ASSERT_EQUAL(gw->u.workload.n_ips, 1);

    const struct xds_address *v = t_find(&p.a, p.a.node, KEY);
    CU_ASSERT_PTR_NOT_NULL_FATAL(v);
    const struct xds_service *svc = &v->u.service;
    CU_ASSERT_TRUE(pg_str_eq_c(svc->hostname, HOST));
    CU_ASSERT_EQUAL_FATAL(svc->n_addresses, 2);
    CU_ASSERT_TRUE(vip_is_auto(&svc->addresses[0].ip) && vip_is_auto(&svc->addresses[1].ip));
    CU_ASSERT_TRUE(pg_str_eq_c(svc->addresses[0].network, "net-a"));
    CU_ASSERT_EQUAL(svc->n_sans, 3);
    CU_ASSERT_TRUE(svc->has_lb && svc->lb_mode == XDS_LB_FAILOVER && svc->n_lb_scopes == 1);
    CU_ASSERT_EQUAL(svc->lb_scopes[0], XDS_SCOPE_NETWORK);
    CU_ASSERT_EQUAL_FATAL(svc->n_ports, 1);
    CU_ASSERT_EQUAL(svc->ports[0].service_port, 5000);

    /* All its pods gone or sick: the entry stays and is unhealthy. */
    t_drop_local(&p.b);
    s = t_service(&p.b, "demo", "web", XDS_FED_GLOBAL);
    t_pod(&p.b, s, "web-1")->health = XDS_UNHEALTHY;
    pair_merge(&p, PEER_DATA_FRESH);
    e = t_find(&p.a, p.a.node, GW_ENTRY);
    CU_ASSERT_PTR_NOT_NULL_FATAL(e);
    CU_ASSERT_EQUAL(e->u.workload.health, XDS_UNHEALTHY);
    pair_fini(&p);
}

static void test_gateway_by_name(void)
{
    struct pair p;
    static char host[] = "gw.example.org";
    pair_make(&p, "net-a", "net-b");
    (void)t_pod(&p.b, t_service(&p.b, "demo", "web", XDS_FED_GLOBAL), "web-1");
    p.b.config.addresses[0] = host;
    pair_merge(&p, PEER_DATA_FRESH);
    const struct xds_address *e = t_find(&p.a, p.a.node, GW_ENTRY);
    CU_ASSERT_PTR_NOT_NULL_FATAL(e);
    CU_ASSERT_EQUAL(e->u.workload.network_gateway.kind, XDS_GATEWAY_HOSTNAME);
    CU_ASSERT_TRUE(pg_str_eq_c(e->u.workload.network_gateway.hostname, host));
    const struct xds_address *gw = t_find(&p.a, p.a.node, "NetworkGateway/net-b/gw.example.org/15008");
    CU_ASSERT_PTR_NOT_NULL_FATAL(gw);
    CU_ASSERT_TRUE(pg_str_eq_c(gw->u.workload.hostname, host));
    pair_fini(&p);
}

static void check_flat(const char *ns, const char *name, const char *suffix)
{
    struct pair p;
    char uid[256];
    pair_make(&p, "flat", "flat");
    (void)t_pod(&p.b, t_service(&p.b, ns, name, XDS_FED_GLOBAL), "pod-1");
    pair_merge(&p, PEER_DATA_FRESH);
    (void)snprintf(uid, sizeof(uid),
                   "b/networking.istio.io/WorkloadEntry/istio-system/autogenflat.b.%s.pod-1.%s", ns, suffix);
    const struct xds_address *e = t_find(&p.a, p.a.node, uid);
    CU_ASSERT_PTR_NOT_NULL(e);
    if (e != NULL) {
        const struct xds_workload *w = &e->u.workload;
        char key[256];
        (void)snprintf(key, sizeof(key), "%s/%s.%s.mesh.internal", ns, name, ns);
        CU_ASSERT_EQUAL(w->n_ips, 1);
        CU_ASSERT_TRUE(pg_str_eq_c(w->network, "flat"));
        CU_ASSERT_TRUE(pg_str_eq_c(w->service_account, "pod-1"));
        CU_ASSERT_TRUE(pg_str_eq_c(w->trust_domain, "td-b"));
        CU_ASSERT_EQUAL(w->network_gateway.kind, XDS_GATEWAY_NONE);
        CU_ASSERT_EQUAL(w->n_services, 1);
        const struct xds_workload_service *ws = t_key(e, key);
        CU_ASSERT_PTR_NOT_NULL_FATAL(ws);
        CU_ASSERT_TRUE(ws->n_ports == 1 && ws->ports[0].target_port == 8080);
    }
    CU_ASSERT_EQUAL_FATAL(p.a.result.n_globals, 1);
    CU_ASSERT_EQUAL_FATAL(p.a.result.globals[0].n_endpoints, 1);
    CU_ASSERT_TRUE(p.a.result.globals[0].endpoints[0].address.len > 0);
    CU_ASSERT_PTR_NULL(t_find(&p.a, p.a.node, "NetworkGateway/flat/192.0.2.1/15008"));
    pair_fini(&p);
}

static void test_flat(void)
{
    check_flat("demo", "global-service", "eacd81ea03fd");
    check_flat("bookinfo", "productpage", "ee508601917c");
}

static void test_flat_off(void)
{
    struct pair p;
    pair_make(&p, "flat", "flat");
    p.a.flat = false;
    (void)t_pod(&p.b, t_service(&p.b, "demo", "web", XDS_FED_GLOBAL), "web-1");
    pair_merge(&p, PEER_DATA_FRESH);
    CU_ASSERT_EQUAL_FATAL(p.a.result.n_globals, 1);
    CU_ASSERT_EQUAL(p.a.result.globals[0].n_endpoints, 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(p.a.result.globals[0].warning.p, "flat networks are off: cluster b"));
    CU_ASSERT_EQUAL(xds_view_count(p.a.node, XDS_TYPE_ADDRESS), 1); /* the host alone */
    pair_fini(&p);
}

/* --- scopes and words --- */

static void check_takeover(enum xds_fed_scope scope, bool label, bool extended, bool contributes)
{
    struct pair p;
    pair_make(&p, "net-a", "net-b");
    struct contrib_service *s = t_service(&p.a, "demo", "web", scope);
    s->takeover = label;
    (void)t_pod(&p.a, s, "web-1");
    (void)t_pod(&p.b, t_service(&p.b, "demo", "web", XDS_FED_GLOBAL), "web-9");
    pair_merge(&p, PEER_DATA_FRESH);
    const struct xds_address *e = t_find(&p.a, p.a.node, GW_ENTRY);
    const struct xds_address *own = t_find(&p.a, p.a.node, OWN_KEY);
    CU_ASSERT_PTR_NOT_NULL_FATAL(e);
    CU_ASSERT_PTR_NOT_NULL_FATAL(own);
    CU_ASSERT_EQUAL(t_key(e, OWN_KEY) != NULL, extended);
    CU_ASSERT_EQUAL(t_has_san(own, "spiffe://td-b/ns/demo/sa/web-9"), extended);
    CU_ASSERT_EQUAL(own->u.service.has_lb, extended);
    CU_ASSERT_EQUAL(t_key(t_find(&p.a, p.a.node, "a//Pod/demo/web-1"), KEY) != NULL, contributes);
    pair_fini(&p);
}

static void test_takeover(void)
{
    check_takeover(XDS_FED_GLOBAL, false, false, true);
    check_takeover(XDS_FED_GLOBAL, true, true, true);
    check_takeover(XDS_FED_GLOBAL_ONLY, false, true, true);
    check_takeover(XDS_FED_CLUSTER, true, true, false);
    check_takeover(XDS_FED_CLUSTER, false, false, false);
}

static void test_segments(void)
{
    static const struct {
        const char *ours, *theirs;
        bool counts;
    } rows[] = {
        {"s1", "s1", true}, {"s1", "s2", false}, {"", "s1", false}, {"s1", "", false}, {"", "", true}};
    for (size_t i = 0; i < PG_ARRAY_LEN(rows); i++) {
        struct pair p;
        pair_make(&p, "net-a", "net-b");
        p.a.local.segment = pg_str_c(rows[i].ours);
        p.b.local.segment = pg_str_c(rows[i].theirs);
        (void)t_pod(&p.b, t_service(&p.b, "demo", "web", XDS_FED_SEGMENT), "web-1");
        (void)t_pod(&p.b, t_service(&p.b, "demo", "other", XDS_FED_GLOBAL), "other-1");
        pair_merge(&p, PEER_DATA_FRESH);
        CU_ASSERT_EQUAL(t_find(&p.a, p.a.node, GW_ENTRY) != NULL, rows[i].counts);
        CU_ASSERT_PTR_NOT_NULL(t_find(&p.a, p.a.node, "demo/other.demo.mesh.internal"));
        pair_fini(&p);
    }
}

static void test_distribution(void)
{
    static const struct {
        int local, remote; /* -1: no word; enum xds_fed_distribution */
        size_t scopes;
    } rows[] = {{-1, XDS_DIST_NETWORK, 1},
                {-1, XDS_DIST_CLOSE, 3},
                {-1, XDS_DIST_REGION, 2},
                {-1, XDS_DIST_ANY, 0},
                {XDS_DIST_ANY, XDS_DIST_CLOSE, 0},
                {XDS_DIST_REGION, XDS_DIST_ANY, 2},
                {XDS_DIST_NETWORK, XDS_DIST_CLOSE, 1}};
    for (size_t i = 0; i < PG_ARRAY_LEN(rows); i++) {
        struct pair p;
        pair_make(&p, "net-a", "net-b");
        struct contrib_service *s = t_service(&p.a, "demo", "web", XDS_FED_GLOBAL);
        s->has_distribution = rows[i].local >= 0;
        s->distribution = rows[i].local >= 0 ? (enum xds_fed_distribution)rows[i].local : XDS_DIST_NETWORK;
        t_service(&p.b, "demo", "web", XDS_FED_GLOBAL)->distribution =
            (enum xds_fed_distribution)rows[i].remote;
        pair_merge(&p, PEER_DATA_FRESH);
        const struct xds_address *v = t_find(&p.a, p.a.node, KEY);
        CU_ASSERT_PTR_NOT_NULL_FATAL(v);
        CU_ASSERT_EQUAL(v->u.service.n_lb_scopes, rows[i].scopes);
        CU_ASSERT_EQUAL(v->u.service.has_lb, rows[i].scopes > 0);
        pair_fini(&p);
    }
}

static void test_ports(void)
{
    struct pair p;
    pair_make(&p, "net-a", "net-b");
    (void)t_service(&p.a, "demo", "web", XDS_FED_GLOBAL);
    struct contrib_service *s = t_service(&p.b, "demo", "web", XDS_FED_GLOBAL);
    struct xds_port more[2] = {{9000, 9001, XDS_APP_TCP}, {5000, 1, XDS_APP_TCP}};
    s->svc.ports = more;
    s->svc.n_ports = 2;
    pair_merge(&p, PEER_DATA_FRESH);
    const struct xds_address *v = t_find(&p.a, p.a.node, KEY);
    CU_ASSERT_PTR_NOT_NULL_FATAL(v);
    CU_ASSERT_EQUAL_FATAL(v->u.service.n_ports, 2);
    CU_ASSERT_TRUE(v->u.service.ports[0].service_port == 5000 && v->u.service.ports[0].target_port == 8080);
    CU_ASSERT_TRUE(v->u.service.ports[1].service_port == 9000 && v->u.service.ports[1].target_port == 9000);
    CU_ASSERT_PTR_NOT_NULL(strstr(p.a.result.globals[0].warning.p, "ports differ: cluster b"));
    pair_fini(&p);
}

/* A host of a ServiceEntry without addresses gets one of the pool, and keeps it. */
static void test_auto_address(void)
{
    struct cluster a;
    t_cluster(&a, "a", "net-a");
    struct contrib_service *s = t_service(&a, "demo", "ext", XDS_FED_CLUSTER);
    s->svc.hostname = PG_STR("ext.example.org");
    s->auto_vip = true;
    (void)t_service(&a, "demo", "plain", XDS_FED_CLUSTER);
    t_merge(&a, NULL, 0);
    const struct xds_address *v = t_find(&a, a.node, "demo/ext.example.org");
    CU_ASSERT_PTR_NOT_NULL_FATAL(v);
    CU_ASSERT_EQUAL_FATAL(v->u.service.n_addresses, 2);
    CU_ASSERT_TRUE(vip_is_auto(&v->u.service.addresses[0].ip));
    uint64_t before = xds_view_generation(a.node);
    t_merge(&a, NULL, 0);
    CU_ASSERT_EQUAL(xds_view_generation(a.node), before);
    CU_ASSERT_EQUAL(t_find(&a, a.node, "demo/plain.demo.svc.cluster.local")->u.service.n_addresses, 0);
    t_fini(&a);
}

/* --- age --- */

static void test_age(void)
{
    struct cluster a, b, c;
    t_cluster(&a, "a", "net-a");
    t_cluster(&b, "b", "net-b");
    t_cluster(&c, "c", "net-c");
    (void)t_pod(&b, t_service(&b, "demo", "web", XDS_FED_GLOBAL), "web-1");
    (void)t_pod(&c, t_service(&c, "demo", "web", XDS_FED_GLOBAL), "web-1");
    t_publish(&b);
    t_publish(&c);
    static const char entry_c[] = "c/networking.istio.io/WorkloadEntry/istio-system/autogen.c.demo.web";
    struct contrib_peer p[2] = {t_peer(&b, PEER_DATA_FRESH), t_peer(&c, PEER_DATA_FRESH)};
    t_merge(&a, p, 2);
    CU_ASSERT_PTR_NOT_NULL(t_find(&a, a.node, GW_ENTRY));
    CU_ASSERT_PTR_NOT_NULL(t_find(&a, a.node, entry_c));
    /* Stale beside fresh: stands aside, but is listed. */
    p[0].data = PEER_DATA_STALE;
    t_merge(&a, p, 2);
    CU_ASSERT_PTR_NULL(t_find(&a, a.node, GW_ENTRY));
    CU_ASSERT_PTR_NOT_NULL(t_find(&a, a.node, entry_c));
    CU_ASSERT_EQUAL_FATAL(a.result.globals[0].n_endpoints, 2);
    CU_ASSERT_TRUE(a.result.globals[0].endpoints[0].stale && !a.result.globals[0].endpoints[1].stale);
    /* Both stale, or the fresh one without healthy endpoints, or unhealthy: needed again. */
    p[1].data = PEER_DATA_STALE;
    t_merge(&a, p, 2);
    CU_ASSERT_PTR_NOT_NULL(t_find(&a, a.node, GW_ENTRY));
    CU_ASSERT_PTR_NOT_NULL(t_find(&a, a.node, entry_c));
    p[1].data = PEER_DATA_UNHEALTHY;
    t_merge(&a, p, 2);
    CU_ASSERT_PTR_NOT_NULL(t_find(&a, a.node, GW_ENTRY));
    const struct xds_address *e = t_find(&a, a.node, entry_c);
    CU_ASSERT_PTR_NOT_NULL_FATAL(e);
    CU_ASSERT_EQUAL(e->u.workload.health, XDS_UNHEALTHY);
    c.pods[0].w.health = XDS_UNHEALTHY;
    t_publish(&c);
    p[1] = t_peer(&c, PEER_DATA_FRESH);
    t_merge(&a, p, 2);
    CU_ASSERT_PTR_NOT_NULL(t_find(&a, a.node, GW_ENTRY));
    /* Withdrawn: nothing. */
    p[0].data = PEER_DATA_NONE;
    p[1].data = PEER_DATA_NONE;
    t_merge(&a, p, 2);
    CU_ASSERT_EQUAL(xds_view_count(a.node, XDS_TYPE_ADDRESS), 0);
    CU_ASSERT_EQUAL(a.result.n_globals, 0);
    t_fini(&a);
    t_fini(&b);
    t_fini(&c);
}

/* --- the export view --- */

struct fed_found {
    struct pg_arena arena;
    struct xds_fed_service s;
    size_t n;
};
static void take_fed(void *arg, struct pg_str name, struct pg_str version, struct pg_str bytes)
{
    struct fed_found *f = arg;
    struct pg_errtext err;
    (void)version;
    CU_ASSERT_TRUE(pg_str_eq_c(name, "demo/web"));
    CU_ASSERT_EQUAL(xds_fed_service_decode(bytes, &f->arena, &f->s, &err), 0);
    f->n++;
}

static void test_export(void)
{
    struct pair p;
    pair_make(&p, "net-a", "net-b");
    struct contrib_service *s = t_service(&p.a, "demo", "web", XDS_FED_SEGMENT);
    struct contrib_service *secret = t_service(&p.a, "demo", "secret", XDS_FED_CLUSTER);
    p.a.local.segment = PG_STR("seg");
    struct xds_segment segment = {PG_STR("seg"), PG_STR("seg.internal")};
    p.a.local.segments = &segment;
    p.a.local.n_segments = 1;
    struct xds_workload *both = t_pod(&p.a, s, "web-1");
    t_pod(&p.a, s, "web-2")->health = XDS_UNHEALTHY;
    struct xds_workload *hidden = t_pod(&p.a, secret, "secret-1");
    both->services[1] = hidden->services[0];
    both->n_services = 2;
    struct pg_str policy = PG_STR("demo/deny");
    both->policies = &policy;
    both->n_policies = 1;
    /* What is imported from b must not be exported again. */
    (void)t_pod(&p.b, t_service(&p.b, "demo", "web", XDS_FED_GLOBAL), "web-1");
    (void)t_pod(&p.b, t_service(&p.b, "demo", "theirs", XDS_FED_GLOBAL), "theirs-1");
    pair_merge(&p, PEER_DATA_FRESH);
    CU_ASSERT_EQUAL(xds_view_count(p.a.exported, XDS_TYPE_ADDRESS), 2);
    CU_ASSERT_EQUAL(xds_view_count(p.a.exported, XDS_TYPE_SEGMENT), 1);
    const struct xds_address *w = t_find(&p.a, p.a.exported, "a//Pod/demo/web-1");
    CU_ASSERT_PTR_NOT_NULL_FATAL(w);
    CU_ASSERT_EQUAL(w->u.workload.n_services, 1);
    CU_ASSERT_EQUAL(w->u.workload.n_policies, 0);
    CU_ASSERT_PTR_NOT_NULL(t_key(w, OWN_KEY));
    struct fed_found f = {.n = 0};
    pg_arena_init(&f.arena, SIZE_MAX);
    CU_ASSERT_EQUAL(xds_view_each(p.a.exported, XDS_TYPE_FEDERATED_SERVICE, take_fed, &f), 0);
    CU_ASSERT_EQUAL_FATAL(f.n, 1);
    CU_ASSERT_EQUAL(f.s.scope, XDS_FED_SEGMENT);
    CU_ASSERT_TRUE(pg_str_eq_c(f.s.segment, "seg"));
    CU_ASSERT_TRUE(pg_str_eq_c(f.s.hostname, "web.demo.svc.cluster.local"));
    CU_ASSERT_EQUAL_FATAL(f.s.n_capacity, 1);
    CU_ASSERT_TRUE(pg_str_eq_c(f.s.capacity[0].network, "net-a"));
    CU_ASSERT_TRUE(f.s.capacity[0].healthy == 1 && f.s.capacity[0].total == 2);
    CU_ASSERT_EQUAL_FATAL(f.s.n_sans, 2);
    CU_ASSERT_TRUE(pg_str_eq_c(f.s.sans[0], "spiffe://td-a/ns/demo/sa/web-1"));
    pg_arena_fini(&f.arena);
    pair_fini(&p);
}

/* --- hostile and broken peers --- */

static void put_fed(struct cluster *c, const char *resource, const struct xds_fed_service *s)
{
    struct pg_sb sb;
    pg_sb_init(&sb, XDS_RESOURCE_MAX);
    CU_ASSERT_EQUAL(xds_fed_service_encode(s, &sb), 0);
    t_remember(&c->wire_services, &c->wire, pg_str_c(resource), pg_sb_view(&sb));
    pg_sb_fini(&sb);
}

static void put_pod(struct cluster *c, const char *uid, const char *name, const char *network,
                    const char *key)
{
    struct pg_sb sb;
    struct pg_ip ip = {.len = 4, .b = {10, 9, 9, 9}};
    struct xds_port port = {5000, 8080, 0};
    struct xds_workload_service ws = {pg_str_c(key), &port, 1};
    struct xds_address a = {.kind = XDS_ADDRESS_WORKLOAD};
    a.u.workload = (struct xds_workload){.uid = pg_str_c(uid),
                                         .name = pg_str_c(name),
                                         .ns = PG_STR("demo"),
                                         .network = pg_str_c(network),
                                         .ips = &ip,
                                         .n_ips = 1,
                                         .services = &ws,
                                         .n_services = 1};
    pg_sb_init(&sb, XDS_RESOURCE_MAX);
    CU_ASSERT_EQUAL(xds_address_encode(&a, &sb), 0);
    t_remember(&c->wire_workloads, &c->wire, pg_str_c(uid), pg_sb_view(&sb));
    pg_sb_fini(&sb);
}

static void test_hostile(void)
{
    struct pair p;
    char big[2000];
    memset(big, 'a', sizeof(big));
    pair_make(&p, "flat", "flat");
    (void)t_pod(&p.b, t_service(&p.b, "demo", "web", XDS_FED_GLOBAL), "web-1");
    t_publish(&p.b);
    struct xds_fed_service s = {.name = PG_STR("x"),
                                .ns = PG_STR("demo"),
                                .hostname = PG_STR("x.demo.svc.cluster.local"),
                                .scope = XDS_FED_GLOBAL};
    put_fed(&p.b, "demo/other-name", &s);
    s.name = PG_STR("x/../y");
    put_fed(&p.b, "demo/x/../y", &s);
    s.name = PG_STR("X");
    put_fed(&p.b, "demo/X", &s);
    s.name = pg_str_n(big, 64);
    put_fed(&p.b, "demo/long", &s);
    s.name = PG_STR("z");
    s.hostname = pg_str_n(big, sizeof(big));
    put_fed(&p.b, "demo/z", &s);
    t_remember(&p.b.wire_services, &p.b.wire, PG_STR("demo/garbage"), PG_STR("\xff\xff\xff\xff"));
    put_pod(&p.b, "a//Pod/demo/mine", "mine", "flat", OWN_KEY);
    put_pod(&p.b, "bb//Pod/demo/prefix", "prefix", "flat", OWN_KEY);
    put_pod(&p.b, "b/networking.istio.io/WorkloadEntry/istio-system/autogen.c.demo.web", "autogen.c.demo.web",
            "flat", OWN_KEY);
    put_pod(&p.b, "b//Pod/demo/far", "far", "elsewhere", OWN_KEY);
    put_pod(&p.b, "b//Pod/demo/unrelated", "unrelated", "flat", "demo/web.demo.mesh.internal");
    t_remember(&p.b.wire_workloads, &p.b.wire, PG_STR("b//Pod/demo/garbage"), PG_STR("\xff\xff"));
    struct contrib_peer peer = t_peer(&p.b, PEER_DATA_FRESH);
    t_merge(&p.a, &peer, 1);
    CU_ASSERT_EQUAL(p.a.problems, 6 + 5);
    CU_ASSERT_EQUAL(p.a.result.n_globals, 1);
    CU_ASSERT_EQUAL(p.a.result.globals[0].n_endpoints, 1);
    CU_ASSERT_EQUAL(xds_view_count(p.a.node, XDS_TYPE_ADDRESS), 2);
    /* A peer that bears our own name brings nothing. */
    (void)snprintf(p.b.name, sizeof(p.b.name), "a");
    t_merge(&p.a, &peer, 1);
    CU_ASSERT_EQUAL(xds_view_count(p.a.node, XDS_TYPE_ADDRESS), 0);
    pair_fini(&p);
}

/* What a peer can blow up stays its own trouble: the merge goes on without it. */
static void test_oversize(void)
{
    struct pair p;
    pair_make(&p, "flat", "flat");
    struct contrib_service *mine = t_service(&p.a, "demo", "web", XDS_FED_GLOBAL_ONLY);
    (void)t_pod(&p.a, mine, "web-0");
    (void)t_pod(&p.b, t_service(&p.b, "demo", "web", XDS_FED_GLOBAL), "web-1");
    t_publish(&p.b);
    /* A pod with as many ports as fit one resource; under two services here it does not fit any more. */
    size_t n = 130000;
    struct xds_port *ports = pg_calloc(n, sizeof(*ports));
    for (size_t i = 0; i < n; i++) {
        ports[i] = (struct xds_port){(uint16_t)(1 + i % 65535), 0, 0};
    }
    struct pg_sb sb;
    struct pg_ip ip = {.len = 4, .b = {10, 9, 9, 9}};
    struct xds_workload_service ws = {PG_STR(OWN_KEY), ports, n};
    struct xds_address a = {.kind = XDS_ADDRESS_WORKLOAD};
    a.u.workload = (struct xds_workload){.uid = PG_STR("b//Pod/demo/fat"),
                                         .name = PG_STR("fat"),
                                         .ns = PG_STR("demo"),
                                         .network = PG_STR("flat"),
                                         .ips = &ip,
                                         .n_ips = 1,
                                         .services = &ws,
                                         .n_services = 1};
    pg_sb_init(&sb, XDS_RESOURCE_MAX);
    CU_ASSERT_EQUAL_FATAL(xds_address_encode(&a, &sb), 0);
    CU_ASSERT_TRUE(sb.len > XDS_RESOURCE_MAX / 2);
    t_remember(&p.b.wire_workloads, &p.b.wire, a.u.workload.uid, pg_sb_view(&sb));
    pg_sb_fini(&sb);
    pg_free(ports);
    struct contrib_peer peer = t_peer(&p.b, PEER_DATA_FRESH);
    CU_ASSERT_EQUAL(t_try_merge(&p.a, &peer, 1), 0);
    CU_ASSERT_EQUAL(p.a.problems, 1);
    CU_ASSERT_EQUAL(p.a.result.n_globals, 1);
    CU_ASSERT_PTR_NOT_NULL(t_find(&p.a, p.a.node, KEY));
    pair_fini(&p);
}

/* A flat peer cannot take the address of a pod of ours. */
static void test_stolen_address(void)
{
    struct pair p;
    pair_make(&p, "flat", "flat");
    struct xds_workload *own = t_pod(&p.a, t_service(&p.a, "demo", "web", XDS_FED_GLOBAL), "web-0");
    own->ips[0] = (struct pg_ip){.len = 4, .b = {10, 9, 9, 9}};
    (void)t_pod(&p.b, t_service(&p.b, "demo", "web", XDS_FED_GLOBAL), "web-1");
    t_publish(&p.b);
    put_pod(&p.b, "b//Pod/demo/thief", "thief", "flat", OWN_KEY);
    struct contrib_peer peer = t_peer(&p.b, PEER_DATA_FRESH);
    t_merge(&p.a, &peer, 1);
    CU_ASSERT_EQUAL(p.a.problems, 1);
    CU_ASSERT_EQUAL(p.a.result.globals[0].n_endpoints, 2);
    pair_fini(&p);
}

static void test_vouching(void)
{
    struct pair p;
    pair_make(&p, "net-a", "net-b");
    (void)t_pod(&p.b, t_service(&p.b, "demo", "web", XDS_FED_GLOBAL), "web-1");
    struct contrib_service *s = &p.b.services[0];
    struct xds_workload *w = t_pod(&p.b, s, "thief");
    w->trust_domain = PG_STR("td-a");
    pair_merge(&p, PEER_DATA_FRESH);
    const struct xds_address *v = t_find(&p.a, p.a.node, KEY);
    CU_ASSERT_TRUE(t_has_san(v, "spiffe://td-b/ns/demo/sa/web-1"));
    CU_ASSERT_FALSE(t_has_san(v, "spiffe://td-a/ns/demo/sa/thief"));
    CU_ASSERT_PTR_NOT_NULL(strstr(p.a.result.globals[0].warning.p, "trust domain"));
    pair_fini(&p);
}

/* --- order leaves no trace --- */

#define N_PEERS 4

static void random_state(struct cluster *c, struct pg_rng *rng)
{
    static const char *const names[] = {"web", "api", "db"};
    t_drop_local(c);
    for (size_t i = 0; i < PG_ARRAY_LEN(names); i++) {
        uint64_t kind = pg_rng_below(rng, 5);
        if (kind == 0) {
            continue;
        }
        struct contrib_service *s = t_service(c, "demo", names[i], (enum xds_fed_scope)(kind - 1));
        s->takeover = pg_rng_below(rng, 4) == 0;
        s->has_distribution = pg_rng_below(rng, 2) == 0;
        s->distribution =
            s->has_distribution ? (enum xds_fed_distribution)pg_rng_below(rng, 4) : XDS_DIST_NETWORK;
        for (uint64_t k = pg_rng_below(rng, 3); k > 0; k--) {
            char name[32];
            (void)snprintf(name, sizeof(name), "%s-%u", names[i], (unsigned)k);
            t_pod(c, s, name)->health = pg_rng_below(rng, 3) == 0 ? XDS_UNHEALTHY : XDS_HEALTHY;
        }
    }
}

/* A random history on one set of views, each state compared with views made from nothing, with the peers in
 * another order. */
static void test_random(void)
{
    struct pg_rng rng;
    struct cluster a, peers[N_PEERS];
    enum peer_data data[N_PEERS] = {PEER_DATA_NONE, PEER_DATA_NONE, PEER_DATA_NONE, PEER_DATA_NONE};
    static const char *const names[N_PEERS] = {"b", "c", "d", "e"};
    static const char *const networks[N_PEERS] = {"net-b", "net-a", "net-b", "net-a"};
    pg_rng_seed(&rng, 20261120);
    t_cluster(&a, "a", "net-a");
    for (size_t i = 0; i < N_PEERS; i++) {
        t_cluster(&peers[i], names[i], networks[i]);
        t_publish(&peers[i]);
    }
    for (int step = 0; step < 300; step++) {
        size_t which = (size_t)pg_rng_below(&rng, N_PEERS + 1);
        if (which == N_PEERS) {
            random_state(&a, &rng);
        } else if (pg_rng_below(&rng, 2) == 0) {
            random_state(&peers[which], &rng);
            t_publish(&peers[which]);
        } else {
            data[which] = (enum peer_data)pg_rng_below(&rng, 4);
        }
        struct contrib_peer forward[N_PEERS], backward[N_PEERS];
        for (size_t i = 0; i < N_PEERS; i++) {
            forward[i] = t_peer(&peers[i], data[i]);
            backward[N_PEERS - 1 - i] = forward[i];
        }
        t_merge(&a, forward, N_PEERS);
        /* The twin has the same local state and fresh views. */
        struct cluster twin;
        t_cluster(&twin, "a", "net-a");
        twin.local.services = a.local.services;
        twin.local.workloads = a.local.workloads;
        twin.local.n_services = a.local.n_services;
        twin.local.n_workloads = a.local.n_workloads;
        t_merge(&twin, backward, N_PEERS);
        CU_ASSERT_EQUAL(xds_view_digest(a.node), xds_view_digest(twin.node));
        CU_ASSERT_EQUAL(xds_view_digest(a.exported), xds_view_digest(twin.exported));
        CU_ASSERT_EQUAL(a.result.n_globals, twin.result.n_globals);
        /* Again without a change: no new generation. */
        uint64_t before = xds_view_generation(a.node);
        t_merge(&a, backward, N_PEERS);
        CU_ASSERT_EQUAL(xds_view_generation(a.node), before);
        t_fini(&twin);
    }
    t_fini(&a);
    for (size_t i = 0; i < N_PEERS; i++) {
        t_fini(&peers[i]);
    }
}

/* --- size and memory --- */

#define MANY 10000

static void test_many(void)
{
    struct pair p;
    pair_make(&p, "net-a", "net-b");
    struct xds_fed_capacity capacity = {PG_STR("net-b"), 2, 2};
    struct xds_port port = {80, 80, 0};
    struct pg_str san = PG_STR("spiffe://td-b/ns/demo/sa/web");
    for (unsigned i = 0; i < MANY; i++) {
        char name[32], resource[64];
        (void)snprintf(name, sizeof(name), "s-%u", i);
        (void)snprintf(resource, sizeof(resource), "demo/s-%u", i);
        struct xds_fed_service s = {.name = pg_str_c(name),
                                    .ns = PG_STR("demo"),
                                    .hostname = pg_str_c(name),
                                    .scope = XDS_FED_GLOBAL,
                                    .ports = &port,
                                    .n_ports = 1,
                                    .sans = &san,
                                    .n_sans = 1,
                                    .capacity = &capacity,
                                    .n_capacity = 1};
        put_fed(&p.b, resource, &s);
    }
    struct contrib_peer peer = t_peer(&p.b, PEER_DATA_FRESH);
    t_merge(&p.a, &peer, 1);
    CU_ASSERT_EQUAL(p.a.problems, 0);
    CU_ASSERT_EQUAL(p.a.result.n_globals, MANY);
    CU_ASSERT_EQUAL(xds_view_count(p.a.node, XDS_TYPE_ADDRESS), 2 * MANY + 1);
    t_merge(&p.a, NULL, 0);
    CU_ASSERT_EQUAL(xds_view_count(p.a.node, XDS_TYPE_ADDRESS), 0);
    pair_fini(&p);
}

static int scenario(void *arg)
{
    struct pair *p = arg;
    struct contrib_peer peer = t_peer(&p->b, PEER_DATA_FRESH);
    struct merge_self self = t_self(&p->a);
    struct merge_result result = {0};
    struct pg_errtext err;
    struct vip_pool *vips = NULL;
    struct xds_view *node = NULL, *exported = NULL;
    size_t problems = 0;
    int r = vip_pool_new(&vips);
    r = r == 0 ? xds_view_new(1000, &node) : r;
    r = r == 0 ? xds_view_new(1000, &exported) : r;
    r = r == 0 ? merge_run(&self, &p->a.local, &peer, 1, vips, node, exported, &result, &problems, &err) : r;
    if (r == 0) {
        CU_ASSERT_EQUAL(result.n_globals, 1);
        CU_ASSERT_EQUAL(problems, 0);
        merge_result_fini(&result);
    } else {
        CU_ASSERT_EQUAL(r, PG_E_NOMEM);
    }
    xds_view_free(node);
    xds_view_free(exported);
    vip_pool_free(vips);
    return r;
}

static void test_nomem(void)
{
    struct pair p;
    pair_make(&p, "flat", "flat");
    (void)t_pod(&p.a, t_service(&p.a, "demo", "web", XDS_FED_GLOBAL), "web-1");
    (void)t_pod(&p.b, t_service(&p.b, "demo", "web", XDS_FED_GLOBAL), "web-1");
    t_publish(&p.b);
    CU_ASSERT_TRUE(test_alloc_sweep(scenario, &p) > 30);
    pair_fini(&p);
}

/* A run that failed in the middle is made good by the next one. */
static void test_after_failure(void)
{
    struct pair p;
    uint64_t exported, want = rebuilt(GLOBAL, GLOBAL, &exported);
    for (size_t i = 0; i < 60; i++) {
        pair_make(&p, "net-a", "net-b");
        set_state(&p.a, GLOBAL);
        set_state(&p.b, GLOBAL);
        t_publish(&p.b);
        struct contrib_peer peer = t_peer(&p.b, PEER_DATA_FRESH);
        struct pg_fault f = {.armed = true, .countdown = i};
        pg_mem_set_fault(&f);
        int r = t_try_merge(&p.a, &peer, 1);
        pg_mem_set_fault(NULL);
        CU_ASSERT_TRUE(r == 0 || r == PG_E_NOMEM);
        t_merge(&p.a, &peer, 1);
        CU_ASSERT_EQUAL(xds_view_digest(p.a.node), want);
        CU_ASSERT_EQUAL(xds_view_digest(p.a.exported), exported);
        pair_fini(&p);
    }
}

TEST_MAIN("merge", {"row 1", test_row1}, {"row 2", test_row2}, {"row 3", test_row3}, {"row 4", test_row4},
          {"row 5", test_row5}, {"row 6", test_row6}, {"gateway entry", test_gateway_entry},
          {"gateway by name", test_gateway_by_name}, {"flat", test_flat}, {"flat off", test_flat_off},
          {"takeover", test_takeover}, {"segments", test_segments}, {"distribution", test_distribution},
          {"ports", test_ports}, {"auto address", test_auto_address}, {"age", test_age},
          {"export", test_export}, {"hostile", test_hostile}, {"oversize", test_oversize},
          {"stolen address", test_stolen_address}, {"vouching", test_vouching}, {"random", test_random},
          {"many", test_many}, {"nomem", test_nomem}, {"after failure", test_after_failure})
