/* SPDX-License-Identifier: Apache-2.0 */
/* Objects to workloads, services and policies by istiod's rules, one rule at a time. */
#include "ctl_testlib.h"

static const struct manifest_config config = {.cluster = {"c1", 2},
                                              .network = {"fallback", 8},
                                              .trust_domain = {"td.local", 8},
                                              .domain = {"cluster.local", 13},
                                              .system_ns = {"istio-system", 12}};

struct loaded {
    struct test_dir dir;
    struct manifest *m;
    struct contrib_local l;
};
static void load(struct loaded *x, const char *text)
{
    struct pg_errtext err;
    test_dir_make(&x->dir);
    x->m = test_manifest(&x->dir, text);
    CU_ASSERT_EQUAL_FATAL(manifest_local(x->m, &config, &x->l, &err), 0);
    /* What was built must not lean on the files. */
    manifest_free(x->m);
    test_remove(&x->dir, "all.yaml");
    test_dir_remove(&x->dir);
}
static void unload(struct loaded *x)
{
    contrib_local_fini(&x->l);
}

static const struct xds_workload *workload(const struct loaded *x, const char *name)
{
    for (size_t i = 0; i < x->l.n_workloads; i++) {
        if (pg_str_eq_c(x->l.workloads[i].w.name, name)) {
            return &x->l.workloads[i].w;
        }
    }
    return NULL;
}
static const struct contrib_service *service(const struct loaded *x, const char *name)
{
    for (size_t i = 0; i < x->l.n_services; i++) {
        if (pg_str_eq_c(x->l.services[i].svc.name, name)) {
            return &x->l.services[i];
        }
    }
    return NULL;
}
static const struct xds_policy *policy(const struct loaded *x, const char *name)
{
    for (size_t i = 0; i < x->l.n_policies; i++) {
        if (pg_str_eq_c(x->l.policies[i].name, name)) {
            return &x->l.policies[i];
        }
    }
    return NULL;
}
static bool lists(const struct xds_workload *w, const char *name)
{
    for (size_t i = 0; w != NULL && i < w->n_policies; i++) {
        if (pg_str_eq_c(w->policies[i], name)) {
            return true;
        }
    }
    return false;
}
static bool is(struct pg_str s, const char *z)
{
    return pg_str_eq_c(s, z);
}

#define NS(name, labels)                                                                                     \
    "---\n{apiVersion: v1, kind: Namespace, metadata: {name: " name ", labels: {" labels "}}}\n"
#define POD(name, meta, spec, status)                                                                        \
    "---\n{apiVersion: v1, kind: Pod, metadata: {name: " name ", namespace: demo" meta "}, spec: {" spec     \
    "}, status: {" status "}}\n"
#define SVC(name, meta, spec)                                                                                \
    "---\n{apiVersion: v1, kind: Service, metadata: {name: " name ", namespace: demo" meta "}, spec: {" spec \
    "}}\n"
#define READY "conditions: [{type: Ready, status: \"True\"}]"

static void test_pod(void)
{
    struct loaded x;
    load(&x,
         NS("istio-system", "topology.istio.io/network: net1, admin.solo.io/segment: seg") NS(
             "demo",
             "istio.io/dataplane-mode: ambient") "---\n{apiVersion: v1, kind: Node, metadata: {name: n1, "
                                                 "labels: {topology.kubernetes.io/region: r, "
                                                 "topology.kubernetes.io/zone: z, topology.istio.io/subzone: "
                                                 "s}}}\n"
                                                 "---\n{apiVersion: admin.solo.io/v1alpha1, kind: Segment, "
                                                 "metadata: {name: seg, namespace: istio-system}, "
                                                 "spec: {domain: seg.internal}}\n"
                                                 "---\n{apiVersion: v1, kind: Pod, metadata: {name: "
                                                 "web-5d-x, namespace: demo, labels: {app: web, version: v2, "
                                                 "pod-template-hash: 5d}, ownerReferences: [{kind: Other, "
                                                 "name: no}, {kind: ReplicaSet, name: web-5d, "
                                                 "controller: true}]}, spec: {nodeName: n1, "
                                                 "serviceAccountName: sa}, status: {phase: Running, podIP: "
                                                 "10.0.0.9, "
                                                 "podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}, {ip: "
                                                 "10.0.0.1}], " READY "}}\n");
    CU_ASSERT_TRUE(is(x.l.network, "net1") && is(x.l.segment, "seg"));
    CU_ASSERT_EQUAL_FATAL(x.l.n_segments, 1);
    CU_ASSERT_TRUE(is(x.l.segments[0].domain, "seg.internal"));
    CU_ASSERT_EQUAL_FATAL(x.l.n_workloads, 1);
    const struct xds_workload *w = &x.l.workloads[0].w;
    CU_ASSERT_TRUE(is(w->uid, "c1//Pod/demo/web-5d-x"));
    CU_ASSERT_TRUE(is(w->ns, "demo") && is(w->network, "net1") && is(w->cluster_id, "c1"));
    CU_ASSERT_TRUE(is(w->trust_domain, "td.local"));
    CU_ASSERT_TRUE(is(w->service_account, "sa") && is(w->node, "n1"));
    CU_ASSERT_TRUE(is(w->workload_name, "web") && is(w->canonical_name, "web") &&
                   is(w->canonical_revision, "v2"));
    CU_ASSERT_TRUE(is(w->locality.region, "r") && is(w->locality.zone, "z") && is(w->locality.subzone, "s"));
    CU_ASSERT_EQUAL(w->n_ips, 2);
    CU_ASSERT_EQUAL(w->health, XDS_HEALTHY);
    CU_ASSERT_EQUAL(w->tunnel, XDS_TUNNEL_HBONE);
    CU_ASSERT_EQUAL(w->type, XDS_POD);
    CU_ASSERT_FALSE(w->has_capacity);
    unload(&x);
}

static void test_which_pods(void)
{
    struct loaded x;
    load(&x,
         POD("gone", "", "", "phase: Succeeded, podIP: 10.0.0.1")
             POD("failed", "", "", "phase: Failed, podIP: 10.0.0.2") POD("no-ip", "", "", "phase: Pending")
                 POD("pending", "", "", "phase: Pending, podIP: 10.0.0.3")
                     POD("deleting", ", deletionTimestamp: '2026-01-01T00:00:00Z'", "",
                         "phase: Running, podIP: 10.0.0.4, " READY)
                         POD("not-ready", "", "",
                             "podIP: 10.0.0.5, conditions: [{type: Ready, status: \"False\"}]"));
    CU_ASSERT_EQUAL(x.l.n_workloads, 3);
    CU_ASSERT_PTR_NOT_NULL_FATAL(workload(&x, "pending"));
    CU_ASSERT_PTR_NOT_NULL_FATAL(workload(&x, "deleting"));
    CU_ASSERT_PTR_NOT_NULL_FATAL(workload(&x, "not-ready"));
    for (size_t i = 0; i < x.l.n_workloads; i++) {
        CU_ASSERT_EQUAL(x.l.workloads[i].w.health, XDS_UNHEALTHY);
    }
    const struct xds_workload *w = workload(&x, "pending");
    CU_ASSERT_TRUE(is(w->service_account, "default") && is(w->network, "fallback"));
    CU_ASSERT_TRUE(is(w->workload_name, "pending") && is(w->canonical_name, "pending") &&
                   is(w->canonical_revision, "latest"));
    CU_ASSERT_EQUAL(w->locality.region.len, 0);
    unload(&x);
}

static void test_tunnel(void)
{
    static const struct {
        const char *ns, *meta, *spec;
        enum xds_tunnel tunnel;
    } rows[] = {
        {"", "", "", XDS_TUNNEL_NONE},
        {"", ", annotations: {ambient.istio.io/redirection: enabled}", "", XDS_TUNNEL_HBONE},
        {"", ", annotations: {ambient.istio.io/redirection: disabled}", "", XDS_TUNNEL_NONE},
        {"", ", labels: {istio.io/dataplane-mode: ambient}", "", XDS_TUNNEL_HBONE},
        {"istio.io/dataplane-mode: ambient", "", "", XDS_TUNNEL_HBONE},
        {"istio.io/dataplane-mode: ambient", ", labels: {istio.io/dataplane-mode: none}", "",
         XDS_TUNNEL_NONE},
        {"istio.io/dataplane-mode: ambient", "", "hostNetwork: true", XDS_TUNNEL_NONE},
        {"", ", annotations: {ambient.istio.io/redirection: enabled}", "hostNetwork: true", XDS_TUNNEL_NONE},
        {"", ", labels: {networking.istio.io/tunnel: http}", "", XDS_TUNNEL_HBONE},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(rows); i++) {
        struct loaded x;
        char text[1024];
        (void)snprintf(text, sizeof(text),
                       "{apiVersion: v1, kind: Namespace, metadata: {name: demo, labels: {%s}}}\n---\n"
                       "{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: demo%s}, spec: {%s}, "
                       "status: {podIP: 10.0.0.1}}\n",
                       rows[i].ns, rows[i].meta, rows[i].spec);
        load(&x, text);
        CU_ASSERT_EQUAL_FATAL(x.l.n_workloads, 1);
        CU_ASSERT_EQUAL(x.l.workloads[0].w.tunnel, rows[i].tunnel);
        CU_ASSERT_EQUAL(x.l.workloads[0].w.network_mode == XDS_NETWORK_HOST, strlen(rows[i].spec) > 0);
        CU_ASSERT_EQUAL(x.l.workloads[0].w.native_tunnel, i == 8);
        unload(&x);
    }
}

static void test_names(void)
{
    static const struct {
        const char *meta, *workload, *canonical, *revision;
    } rows[] = {
        {", labels: {app: a, app.kubernetes.io/name: b, service.istio.io/canonical-name: c}", "p", "c",
         "latest"},
        {", labels: {app: a, app.kubernetes.io/name: b, version: v, app.kubernetes.io/version: w}", "p", "b",
         "w"},
        {", ownerReferences: [{kind: Job, name: job-28391720, controller: true}]", "job", "job", "latest"},
        {", ownerReferences: [{kind: Job, name: job-1, controller: true}]", "job-1", "job-1", "latest"},
        {", ownerReferences: [{kind: StatefulSet, name: db, controller: true}]", "db", "db", "latest"},
        {", ownerReferences: [{kind: ReplicaSet, name: web-zz, controller: true}], labels: "
         "{pod-template-hash: yy}",
         "web-zz", "web-zz", "latest"},
        {", ownerReferences: [{kind: StatefulSet, name: db, controller: false}]", "p", "p", "latest"},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(rows); i++) {
        struct loaded x;
        char text[1024];
        (void)snprintf(text, sizeof(text),
                       "{apiVersion: v1, kind: Pod, metadata: {name: p%s}, status: {podIP: 10.0.0.1}}\n",
                       rows[i].meta);
        load(&x, text);
        CU_ASSERT_EQUAL_FATAL(x.l.n_workloads, 1);
        CU_ASSERT_TRUE(is(x.l.workloads[0].w.workload_name, rows[i].workload));
        CU_ASSERT_TRUE(is(x.l.workloads[0].w.canonical_name, rows[i].canonical));
        CU_ASSERT_TRUE(is(x.l.workloads[0].w.canonical_revision, rows[i].revision));
        CU_ASSERT_TRUE(is(x.l.workloads[0].w.ns, "default"));
        unload(&x);
    }
}

static void test_services_of_pods(void)
{
    struct loaded x;
    load(&x,
         SVC("web", "",
             "selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}, {name: x, port: 81, "
             "targetPort: 9090}, {name: y, port: 82}, {name: gone, port: 83, targetPort: nowhere}]")
             SVC("bot"
                 "h",
                 "",
                 "sele"
                 "ctor"
                 ": "
                 "{app"
                 ": "
                 "web,"
                 " tie"
                 "r: "
                 "fron"
                 "t}, "
                 "port"
                 "s: "
                 "[{"
                 "port"
                 ": "
                 "1}]") SVC("other", "", "selector: {app: other}, ports: [{port: 1}]")
                 SVC("none", "", "ports: [{name: a, port: 7}]") SVC(
                     "ext", "",
                     "type: ExternalName, externalName: example.org, selector: "
                     "{app: web}") "---\n{apiVersion: v1, kind: Service, "
                                   "metadata: {name: web, namespace: "
                                   "elsewhere}, spec: {selector: {app: web}, "
                                   "ports: [{port: 1}]}}\n"
                                   "---\n{apiVersion: discovery.k8s.io/v1, "
                                   "kind: EndpointSlice, metadata: {name: "
                                   "none-1, namespace: demo, labels: "
                                   "{kubernetes.io/service-name: none}}, "
                                   "addressType: IPv4, ports: [{name: a, port: "
                                   "7007}], endpoints: [{addresses: "
                                   "[10.0.0.1], targetRef: {kind: Pod, name: "
                                   "p1}}, {addresses: [192.0.2.50], "
                                   "conditions: {ready: false}}]}\n"
                                   "---\n{apiVersion: discovery.k8s.io/v1, "
                                   "kind: EndpointSlice, metadata: {name: "
                                   "web-1, namespace: demo, labels: "
                                   "{kubernetes.io/service-name: web}}, "
                                   "addressType: IPv4, ports: [], endpoints: "
                                   "[{addresses: [10.0.0.2], targetRef: "
                                   "{kind: Pod, name: p2}}]}\n" POD("p1", ", labels: {app: web}",
                                                                    "containers: [{ports: [{name: http, "
                                                                    "containerPort: 8080, protocol: TCP}, "
                                                                    "{name: x, "
                                                                    "containerPort: 1, protocol: UDP}]}]",
                                                                    "podIP: 10.0.0.1")
                                       POD("p2", ", labels: {app: web, tier: front}",
                                           "containers: [{name: c}], "
                                           "initContainers: [{restartPolicy: "
                                           "Always, ports: [{name: http, "
                                           "containerPort: 8081}]}, "
                                           "{ports: [{name: nowhere, "
                                           "containerPort: 5}]}]",
                                           "podIP: 10.0.0.2"));
    const struct xds_workload *p1 = workload(&x, "p1"), *p2 = workload(&x, "p2"),
                              *manual = workload(&x, "none-1");
    CU_ASSERT_EQUAL(x.l.n_services, 5);
    CU_ASSERT_PTR_NULL(service(&x, "ext"));
    CU_ASSERT_PTR_NOT_NULL_FATAL(p1);
    CU_ASSERT_EQUAL_FATAL(p1->n_services, 2);
    CU_ASSERT_TRUE(is(p1->services[0].key, "demo/none.demo.svc.cluster.local"));
    CU_ASSERT_EQUAL_FATAL(p1->services[0].n_ports, 1);
    CU_ASSERT_EQUAL(p1->services[0].ports[0].target_port, 7007);
    CU_ASSERT_TRUE(is(p1->services[1].key, "demo/web.demo.svc.cluster.local"));
    CU_ASSERT_EQUAL_FATAL(p1->services[1].n_ports, 3);
    CU_ASSERT_EQUAL(p1->services[1].ports[0].target_port, 8080);
    CU_ASSERT_EQUAL(p1->services[1].ports[1].target_port, 9090);
    CU_ASSERT_EQUAL(p1->services[1].ports[2].target_port, 82);
    CU_ASSERT_PTR_NOT_NULL_FATAL(p2);
    CU_ASSERT_EQUAL_FATAL(p2->n_services, 2);
    CU_ASSERT_TRUE(is(p2->services[0].key, "demo/both.demo.svc.cluster.local"));
    CU_ASSERT_EQUAL(p2->services[1].ports[0].target_port, 8081);
    CU_ASSERT_EQUAL(p2->services[1].n_ports, 3);
    CU_ASSERT_PTR_NOT_NULL_FATAL(manual);
    CU_ASSERT_TRUE(is(manual->uid, "c1/discovery.k8s.io/EndpointSlice/demo/none-1/192.0.2.50"));
    CU_ASSERT_EQUAL(manual->network_mode, XDS_NETWORK_HOST);
    CU_ASSERT_EQUAL(manual->health, XDS_UNHEALTHY);
    CU_ASSERT_EQUAL(manual->tunnel, XDS_TUNNEL_NONE);
    unload(&x);
}

static void test_service(void)
{
    struct loaded x;
    load(&x, NS("istio-system", "topology.istio.io/network: net1")
                 SVC("a", "",
                     "clusterIP: 10.255.0.1, clusterIPs: [10.255.0.1, 'fd00::1'], ipFamilies: [IPv4, IPv6], "
                     "ports: [{name: "
                     "http-web, port: 80, targetPort: named}, {name: dns, port: 53, protocol: UDP}, {name: "
                     "tcp-dns, port: 53}, "
                     "{name: z, port: 9, appProtocol: kubernetes.io/h2c}, {name: https, port: 443}, {name: "
                     "grpc-x, port: 10}]") SVC("headless", "", "clusterIP: None, ipFamilies: [IPv6]"));
    const struct contrib_service *s = service(&x, "a");
    CU_ASSERT_PTR_NOT_NULL_FATAL(s);
    CU_ASSERT_TRUE(is(s->svc.hostname, "a.demo.svc.cluster.local"));
    CU_ASSERT_TRUE(s->svc.canonical);
    CU_ASSERT_EQUAL_FATAL(s->svc.n_addresses, 2);
    CU_ASSERT_TRUE(is(s->svc.addresses[0].network, "net1"));
    CU_ASSERT_TRUE(s->svc.addresses[0].bits == 32 && s->svc.addresses[1].bits == 128);
    CU_ASSERT_EQUAL(s->svc.ip_families, XDS_IP_DUAL);
    CU_ASSERT_EQUAL_FATAL(s->svc.n_ports, 5);
    CU_ASSERT_TRUE(s->svc.ports[0].service_port == 80 && s->svc.ports[0].target_port == 0);
    CU_ASSERT_EQUAL(s->svc.ports[0].app_protocol, XDS_APP_HTTP11);
    CU_ASSERT_TRUE(s->svc.ports[1].service_port == 53 && s->svc.ports[1].app_protocol == XDS_APP_TCP);
    CU_ASSERT_EQUAL(s->svc.ports[2].app_protocol, XDS_APP_HTTP2);
    CU_ASSERT_EQUAL(s->svc.ports[3].app_protocol, XDS_APP_TLS);
    CU_ASSERT_EQUAL(s->svc.ports[4].app_protocol, XDS_APP_GRPC);
    CU_ASSERT_FALSE(s->svc.has_lb);
    s = service(&x, "headless");
    CU_ASSERT_PTR_NOT_NULL_FATAL(s);
    CU_ASSERT_EQUAL(s->svc.n_addresses, 0);
    CU_ASSERT_EQUAL(s->svc.ip_families, XDS_IP_V6_ONLY);
    unload(&x);
}

static void test_scope(void)
{
    struct loaded x;
    load(
        &x,
        NS("demo", "solo.io/service-scope: global") SVC("inherits", "", "ports: []")
            SVC("own", ", labels: {solo.io/service-scope: cluster}", "ports: []") SVC(
                "seg", ", labels: {solo.io/service-scope: segment, solo.io/service-takeover: 'true'}",
                "ports: []")
                SVC("only", ", labels: {solo.io/service-scope: global-only}",
                    "ports: []") "---\n{apiVersion: v1, kind: Service, metadata: {name: plain}, spec: {}}\n");
    CU_ASSERT_EQUAL(service(&x, "inherits")->scope, XDS_FED_GLOBAL);
    CU_ASSERT_EQUAL(service(&x, "own")->scope, XDS_FED_CLUSTER);
    CU_ASSERT_EQUAL(service(&x, "seg")->scope, XDS_FED_SEGMENT);
    CU_ASSERT_TRUE(service(&x, "seg")->takeover);
    CU_ASSERT_FALSE(service(&x, "only")->takeover);
    CU_ASSERT_EQUAL(service(&x, "only")->scope, XDS_FED_GLOBAL_ONLY);
    CU_ASSERT_EQUAL(service(&x, "plain")->scope, XDS_FED_CLUSTER);
    unload(&x);
}

static void test_distribution(void)
{
    static const struct {
        const char *ns, *meta, *spec;
        bool has;
        enum xds_fed_distribution d;
        size_t scopes;
        enum xds_lb_mode mode;
    } rows[] = {
        {"", "", "", false, XDS_DIST_NETWORK, 0, XDS_LB_UNSPECIFIED},
        {"", "", "trafficDistribution: PreferClose", true, XDS_DIST_CLOSE, 3, XDS_LB_FAILOVER},
        {"", "", "trafficDistribution: PreferSameZone", true, XDS_DIST_CLOSE, 3, XDS_LB_FAILOVER},
        {"", "", "trafficDistribution: PreferSameNode", true, XDS_DIST_CLOSE, 5, XDS_LB_FAILOVER},
        {"", "prefernetwork", "", true, XDS_DIST_NETWORK, 1, XDS_LB_FAILOVER},
        {"", "PreferRegion", "", true, XDS_DIST_REGION, 2, XDS_LB_FAILOVER},
        {"", "ANY", "", true, XDS_DIST_ANY, 0, XDS_LB_UNSPECIFIED},
        {"", "Any", "trafficDistribution: PreferClose", true, XDS_DIST_CLOSE, 3, XDS_LB_FAILOVER},
        {"PreferRegion", "", "", true, XDS_DIST_REGION, 2, XDS_LB_FAILOVER},
        {"PreferRegion", "Any", "", true, XDS_DIST_ANY, 0, XDS_LB_UNSPECIFIED},
        {"", "", "internalTrafficPolicy: Local", false, XDS_DIST_NETWORK, 1, XDS_LB_STRICT},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(rows); i++) {
        struct loaded x;
        char text[1024];
        static const char ann[] = "networking.istio.io/traffic-distribution";
        (void)snprintf(
            text, sizeof(text),
            "{apiVersion: v1, kind: Namespace, metadata: {name: demo, annotations: {%s: '%s'}}}\n---\n"
            "{apiVersion: v1, kind: Service, metadata: {name: a, namespace: demo, annotations: {%s: '%s'}}, "
            "spec: "
            "{%s}}\n",
            ann, rows[i].ns, ann, rows[i].meta, rows[i].spec);
        load(&x, text);
        const struct contrib_service *s = service(&x, "a");
        CU_ASSERT_PTR_NOT_NULL_FATAL(s);
        CU_ASSERT_EQUAL(s->has_distribution, rows[i].has);
        CU_ASSERT_EQUAL(s->distribution, rows[i].d);
        CU_ASSERT_EQUAL(s->svc.n_lb_scopes, rows[i].scopes);
        CU_ASSERT_EQUAL(s->svc.lb_mode, rows[i].mode);
        unload(&x);
    }
}

/* --- policies --- */

#define AUTHZ(name, ns, spec)                                                                                \
    "---\n{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: " name              \
    ", namespace: " ns "}, spec: {" spec "}}\n"
#define PA(name, ns, spec)                                                                                   \
    "---\n{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: " name               \
    ", namespace: " ns "}, spec: {" spec "}}\n"
#define WEB POD("web", ", labels: {app: web}", "", "podIP: 10.0.0.1")

static void test_authorization(void)
{
    struct loaded x;
    load(&x,
         WEB AUTHZ("mesh", "istio-system", "action: DENY") AUTHZ("ns", "demo", "rules: [{}]") AUTHZ(
             "sel", "demo",
             "selector: {matchLabels: {app: web}}, rules: [{from: [{source: {principals: [td/ns/a/sa/b, "
             "'*', 'x*', '*y'], notNamespaces: [bad], ipBlocks: [10.0.0.0/8]}}, {source: "
             "{serviceAccounts: [sa1, other/sa2]}}], to: [{operation: {ports: ['80', '443'], notPorts: "
             "['81']}}], when: [{key: destination.port, values: ['80']}, {key: source.ip, notValues: "
             "[192.0.2.1]}]}]") AUTHZ("root-sel", "istio-system", "selector: {matchLabels: {app: web}}")
             AUTHZ("miss", "demo", "selector: {matchLabels: {app: other}}")
                 AUTHZ("waypoint", "demo", "targetRefs: [{kind: Service, name: a}]") AUTHZ(
                     "custom", "demo",
                     "action: CUSTOM") "---\n{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, "
                                       "metadata: {name: dry, namespace: demo, "
                                       "annotations: {istio.io/dry-run: 'true'}}, spec: {action: DENY}}\n");
    CU_ASSERT_EQUAL(x.l.n_policies, 5);
    CU_ASSERT_EQUAL(policy(&x, "mesh")->scope, XDS_POLICY_GLOBAL);
    CU_ASSERT_EQUAL(policy(&x, "mesh")->action, XDS_POLICY_DENY);
    CU_ASSERT_EQUAL(policy(&x, "mesh")->n_rules, 0);
    CU_ASSERT_EQUAL(policy(&x, "ns")->scope, XDS_POLICY_NAMESPACE);
    CU_ASSERT_EQUAL(policy(&x, "ns")->n_rules, 1);
    CU_ASSERT_EQUAL(policy(&x, "ns")->rules[0].n_clauses, 0);
    CU_ASSERT_EQUAL(policy(&x, "root-sel")->scope, XDS_POLICY_SELECTOR);
    const struct xds_policy *p = policy(&x, "sel");
    CU_ASSERT_PTR_NOT_NULL_FATAL(p);
    CU_ASSERT_EQUAL(p->scope, XDS_POLICY_SELECTOR);
    CU_ASSERT_EQUAL_FATAL(p->n_rules, 1);
    CU_ASSERT_EQUAL_FATAL(p->rules[0].n_clauses, 4);
    const struct xds_clause *from = &p->rules[0].clauses[0];
    CU_ASSERT_EQUAL_FATAL(from->n_matches, 2);
    CU_ASSERT_EQUAL_FATAL(from->matches[0].n_principals[0], 4);
    CU_ASSERT_EQUAL(from->matches[0].principals[0][0].kind, XDS_MATCH_EXACT);
    CU_ASSERT_EQUAL(from->matches[0].principals[0][1].kind, XDS_MATCH_PRESENCE);
    CU_ASSERT_EQUAL(from->matches[0].principals[0][2].kind, XDS_MATCH_PREFIX);
    CU_ASSERT_EQUAL(from->matches[0].principals[0][3].kind, XDS_MATCH_SUFFIX);
    CU_ASSERT_TRUE(is(from->matches[0].principals[0][3].value, "y"));
    CU_ASSERT_EQUAL(from->matches[0].n_namespaces[1], 1);
    CU_ASSERT_EQUAL(from->matches[0].source_ips[0][0].bits, 8);
    CU_ASSERT_TRUE(is(from->matches[1].service_accounts[0][0].ns, "demo"));
    CU_ASSERT_TRUE(is(from->matches[1].service_accounts[0][1].ns, "other"));
    CU_ASSERT_TRUE(is(from->matches[1].service_accounts[0][1].sa, "sa2"));
    CU_ASSERT_EQUAL(p->rules[0].clauses[1].matches[0].ports[0][1], 443);
    CU_ASSERT_EQUAL(p->rules[0].clauses[1].matches[0].ports[1][0], 81);
    CU_ASSERT_EQUAL(p->rules[0].clauses[3].matches[0].n_source_ips[1], 1);
    const struct xds_workload *w = workload(&x, "web");
    CU_ASSERT_EQUAL_FATAL(w->n_policies, 2);
    CU_ASSERT_TRUE(is(w->policies[0], "demo/sel") && is(w->policies[1], "istio-system/root-sel"));
    unload(&x);
}

/* Layer 7 in a rule: an ALLOW rule is void, a DENY rule is wider. */
static void test_authorization_l7(void)
{
    struct loaded x;
    load(&x,
         AUTHZ("a", "demo",
               "rules: [{to: [{operation: {methods: [GET]}}]}, {from: [{source: {namespaces: [x]}}]}, {from: "
               "[{source: {namespaces: [y], requestPrincipals: ['*']}}]}, {when: [{key: "
               "'request.headers[x]', values: [y]}]}]")
             AUTHZ("d", "demo",
                   "action: DENY, rules: [{from: [{source: {namespaces: [x]}}], to: [{operation: {ports: "
                   "['80'], "
                   "paths: [/x]}}, {operation: {methods: [GET]}}], when: [{key: request.auth.claims, values: "
                   "[y]}]}]"));
    const struct xds_policy *a = policy(&x, "a"), *d = policy(&x, "d");
    CU_ASSERT_PTR_NOT_NULL_FATAL(a);
    CU_ASSERT_EQUAL_FATAL(a->n_rules, 1);
    CU_ASSERT_TRUE(is(a->rules[0].clauses[0].matches[0].namespaces[0][0].value, "x"));
    CU_ASSERT_PTR_NOT_NULL_FATAL(d);
    CU_ASSERT_EQUAL_FATAL(d->n_rules, 1);
    CU_ASSERT_EQUAL(d->rules[0].n_clauses, 1); /* only who; any request of them is denied */
    unload(&x);
}

static void test_mtls(void)
{
    static const struct {
        const char *text;
        bool strict, converted;
    } rows[] = {
        {WEB, false, false},
        {WEB PA("m", "istio-system", "mtls: {mode: STRICT}"), true, false},
        {WEB PA("m", "istio-system", "mtls: {mode: STRICT}") PA("n", "demo", "mtls: {mode: PERMISSIVE}"),
         false, false},
        {WEB PA("m", "istio-system", "mtls: {mode: STRICT}") PA("n", "demo", "mtls: {mode: UNSET}"), true,
         false},
        {WEB PA("n", "demo", "mtls: {mode: STRICT}"), true, false},
        {WEB PA("n", "other", "mtls: {mode: STRICT}"), false, false},
        {WEB PA("n", "demo", "mtls: {mode: STRICT}") PA("w", "demo",
                                                        "selector: {matchLabels: {app: web}}, mtls: {mode: "
                                                        "DISABLE}"),
         false, false},
        {WEB PA("w", "demo", "selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}"), true, false},
        {WEB PA("w", "demo",
                "selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}, portLevelMtls: {80: {mode: "
                "DISABLE}}"),
         false, true},
        {WEB PA(
             "w", "demo",
             "selector: {matchLabels: {app: web}}, portLevelMtls: {80: {mode: STRICT}, 81: {mode: STRICT}}"),
         false, true},
        {WEB PA("w", "demo",
                "selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}, portLevelMtls: {80: {mode: "
                "STRICT}}"),
         true, false},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(rows); i++) {
        struct loaded x;
        load(&x, rows[i].text);
        const struct xds_workload *w = workload(&x, "web");
        CU_ASSERT_PTR_NOT_NULL_FATAL(w);
        CU_ASSERT_EQUAL(lists(w, "istio-system/istio_converted_static_strict"), rows[i].strict);
        CU_ASSERT_EQUAL(lists(w, "demo/converted_peer_authentication_w"), rows[i].converted);
        CU_ASSERT_EQUAL(policy(&x, "istio_converted_static_strict") != NULL, i > 0);
        CU_ASSERT_EQUAL(policy(&x, "converted_peer_authentication_w") != NULL, rows[i].converted);
        unload(&x);
    }
    struct loaded x;
    load(&x, rows[8].text);
    const struct xds_policy *p = policy(&x, "converted_peer_authentication_w");
    CU_ASSERT_EQUAL_FATAL(p->n_rules, 1);
    CU_ASSERT_EQUAL_FATAL(p->rules[0].n_clauses, 2);
    CU_ASSERT_EQUAL(p->action, XDS_POLICY_DENY);
    CU_ASSERT_EQUAL(p->rules[0].clauses[0].matches[0].principals[1][0].kind, XDS_MATCH_PRESENCE);
    CU_ASSERT_EQUAL(p->rules[0].clauses[1].matches[0].ports[1][0], 80);
    unload(&x);
    load(&x, rows[9].text);
    p = policy(&x, "converted_peer_authentication_w");
    CU_ASSERT_EQUAL_FATAL(p->n_rules, 2);
    CU_ASSERT_EQUAL(p->rules[1].clauses[1].matches[0].ports[0][0], 81);
    unload(&x);
}

/* --- Istio's own services --- */

#define SE(name, ns, meta, spec)                                                                             \
    "---\n{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: " name                   \
    ", namespace: " ns meta "}, spec: {" spec "}}\n"
#define WE(name, meta, spec)                                                                                 \
    "---\n{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: " name                  \
    ", namespace: demo" meta "}, spec: {" spec "}}\n"

static void test_service_entry(void)
{
    struct loaded x;
    load(&x, SE("st", "demo", "",
                "hosts: [db.example.org, db2.example.org], addresses: [10.9.0.0/24, 10.9.1.1], resolution: "
                "STATIC, "
                "subjectAltNames: ['spiffe://td/ns/x/sa/y'], ports: [{number: 5432, name: pg, protocol: "
                "TCP}, {number: 80, "
                "name: http, protocol: HTTP, targetPort: 8080}], endpoints: [{address: 192.0.2.1, ports: "
                "{pg: 6432}, weight: 7, "
                "locality: r/z/s, network: far}, {address: vm.example.org}]")
                 SE("none", "demo", "",
                    "hosts: ['*.example.net'], resolution: NONE, ports: [{number: 443, name: tls, protocol: "
                    "TLS}]") SE("dns", "demo", "",
                                "hosts: [api.example.com], resolution: DNS, ports: [{number: 443, name: "
                                "tls}]")
                     SE("no-auto", "demo", ", labels: {networking.istio.io/enable-autoallocate-ip: 'false'}",
                        "hosts: [off.example.com], resolution: DNS, ports: [{number: "
                        "443, name: tls}]") "---\n{apiVersion: "
                                            "gateway.networking.k8s.io/v1, kind: "
                                            "Gateway, metadata: {name: g, namespace: gw, "
                                            "labels: "
                                            "{topology.istio.io/network: far}}, spec: "
                                            "{gatewayClassName: istio-remote, addresses: "
                                            "[{value: 192.0.2.99}], "
                                            "listeners: [{name: h, port: 15999, "
                                            "protocol: HBONE}]}}\n");
    CU_ASSERT_EQUAL_FATAL(x.l.n_services, 5);
    const struct contrib_service *s = service(&x, "st");
    CU_ASSERT_TRUE(is(s->svc.hostname, "db.example.org"));
    CU_ASSERT_TRUE(s->svc.canonical && !s->auto_vip && s->scope == XDS_FED_CLUSTER);
    CU_ASSERT_EQUAL_FATAL(s->svc.n_addresses, 2);
    CU_ASSERT_TRUE(s->svc.addresses[0].bits == 24 && s->svc.addresses[1].bits == 32);
    CU_ASSERT_EQUAL_FATAL(s->svc.n_ports, 2);
    CU_ASSERT_TRUE(s->svc.ports[0].target_port == 5432 && s->svc.ports[0].app_protocol == XDS_APP_TCP);
    CU_ASSERT_TRUE(s->svc.ports[1].target_port == 8080 && s->svc.ports[1].app_protocol == XDS_APP_HTTP11);
    CU_ASSERT_EQUAL(s->svc.n_sans, 1);
    s = service(&x, "none");
    CU_ASSERT_EQUAL(s->svc.lb_mode, XDS_LB_PASSTHROUGH);
    CU_ASSERT_EQUAL(s->svc.health_policy, XDS_ALLOW_ALL);
    CU_ASSERT_FALSE(s->auto_vip);
    CU_ASSERT_TRUE(service(&x, "dns")->auto_vip);
    CU_ASSERT_FALSE(service(&x, "no-auto")->auto_vip);
    CU_ASSERT_EQUAL_FATAL(x.l.n_workloads, 4);
    const struct xds_workload *dns = workload(&x, "dns"), *w = workload(&x, "st");
    CU_ASSERT_TRUE(is(dns->uid, "c1/networking.istio.io/ServiceEntry/demo/dns/api.example.com"));
    CU_ASSERT_TRUE(is(dns->hostname, "api.example.com") && dns->n_services == 1 && dns->n_ips == 0);
    CU_ASSERT_TRUE(is(w->uid, "c1/networking.istio.io/ServiceEntry/demo/st/192.0.2.1"));
    CU_ASSERT_EQUAL_FATAL(w->n_services, 2);
    CU_ASSERT_TRUE(is(w->services[1].key, "demo/db2.example.org"));
    CU_ASSERT_TRUE(w->services[0].ports[0].target_port == 6432 &&
                   w->services[0].ports[1].target_port == 8080);
    CU_ASSERT_TRUE(w->has_capacity && w->capacity == 7 && w->health == XDS_HEALTHY);
    CU_ASSERT_TRUE(is(w->locality.region, "r") && is(w->locality.zone, "z") && is(w->locality.subzone, "s"));
    CU_ASSERT_TRUE(is(w->network, "far"));
    CU_ASSERT_EQUAL(w->network_gateway.kind, XDS_GATEWAY_ADDRESS);
    CU_ASSERT_EQUAL(w->network_gateway.hbone_port, 15999);
    unload(&x);
}

/* Who speaks for a host: the Kubernetes Service, else the oldest entry of the namespace. */
static void test_same_host(void)
{
    struct loaded x;
    load(&x,
         SVC("a", "", "ports: [{port: 1}]") SE(
             "k8s", "demo", "",
             "hosts: [a.demo.svc.cluster.local], resolution: DNS, ports: [{number: 1, name: x}]")
             SE("young", "demo", ", creationTimestamp: '2026-02-01T00:00:00Z'",
                "hosts: [h.example.org], resolution: DNS, ports: [{number: 1, name: x}]")
                 SE("zold", "demo", ", creationTimestamp: '2025-02-01T00:00:00Z'",
                    "hosts: [h.example.org, h.example.org], resolution: DNS, ports: [{number: 1, name: x}]")
                     SE("oldest", "other", ", creationTimestamp: '2024-02-01T00:00:00Z'",
                        "hosts: [h.example.org], resolution: DNS, ports: [{number: 1, name: x}]"));
    CU_ASSERT_EQUAL(x.l.n_services, 3);
    CU_ASSERT_PTR_NULL(service(&x, "k8s"));
    CU_ASSERT_PTR_NULL(service(&x, "young"));
    CU_ASSERT_PTR_NOT_NULL_FATAL(service(&x, "zold"));
    CU_ASSERT_FALSE(service(&x, "zold")->svc.canonical);
    CU_ASSERT_TRUE(service(&x, "oldest")->svc.canonical);
    CU_ASSERT_EQUAL(x.l.n_workloads, 2);
    unload(&x);
}

static void test_workload_entry(void)
{
    struct loaded x;
    load(&x, SE("vm", "demo", "",
                "hosts: [vm.example.org], resolution: STATIC, workloadSelector: {labels: {app: vm}}, ports: "
                "[{number: 80, name: http, targetPort: 81}]")
                 SVC("k8s", "", "selector: {app: vm}, ports: [{port: 80, targetPort: http}]")
                     WE("vm-1", ", labels: {app: other, tier: x}",
                        "address: 192.0.2.7, labels: {app: vm}, ports: {http: 8000}, "
                        "serviceAccount: sa") WE("vm-2", ", labels: {app: vm}", "network: far")
                         POD("pod", ", labels: {app: vm}", "", "podIP: 10.0.0.1"));
    const struct xds_workload *w = workload(&x, "vm-1");
    CU_ASSERT_PTR_NOT_NULL_FATAL(w);
    CU_ASSERT_TRUE(is(w->uid, "c1/networking.istio.io/WorkloadEntry/demo/vm-1"));
    CU_ASSERT_TRUE(is(w->canonical_name, "vm") && is(w->service_account, "sa"));
    /* The test's config does not select entries by Kubernetes Services. */
    CU_ASSERT_EQUAL_FATAL(w->n_services, 1);
    CU_ASSERT_TRUE(is(w->services[0].key, "demo/vm.example.org"));
    CU_ASSERT_EQUAL(w->services[0].ports[0].target_port, 8000);
    CU_ASSERT_EQUAL(workload(&x, "vm-2")->services[0].ports[0].target_port, 81);
    CU_ASSERT_TRUE(workload(&x, "vm-2")->n_ips == 0 && is(workload(&x, "vm-2")->network, "far"));
    CU_ASSERT_EQUAL(workload(&x, "pod")->n_services, 2);
    unload(&x);
}

/* The order of documents leaves no trace. */
static void test_order(void)
{
    static const char a[] = SVC("s1", "", "selector: {app: web}, ports: [{port: 1}]");
    static const char b[] = SVC("s2", "", "selector: {app: web}, ports: [{port: 1}]");
    struct loaded x, y;
    char text[2048];
    (void)snprintf(text, sizeof(text), "%s%s%s", a, b, WEB);
    load(&x, text);
    (void)snprintf(text, sizeof(text), "%s%s%s", WEB, b, a);
    load(&y, text);
    CU_ASSERT_EQUAL_FATAL(x.l.n_services, y.l.n_services);
    for (size_t i = 0; i < x.l.n_services; i++) {
        CU_ASSERT_TRUE(pg_str_eq(x.l.services[i].svc.hostname, y.l.services[i].svc.hostname));
    }
    CU_ASSERT_EQUAL_FATAL(workload(&x, "web")->n_services, 2);
    for (size_t i = 0; i < 2; i++) {
        CU_ASSERT_TRUE(pg_str_eq(workload(&x, "web")->services[i].key, workload(&y, "web")->services[i].key));
    }
    unload(&x);
    unload(&y);
}

TEST_MAIN("manifest_local", {"pod", test_pod}, {"which pods", test_which_pods}, {"tunnel", test_tunnel},
          {"names", test_names}, {"services of pods", test_services_of_pods}, {"service", test_service},
          {"scope", test_scope}, {"distribution", test_distribution}, {"authorization", test_authorization},
          {"authorization of layer 7", test_authorization_l7}, {"mtls", test_mtls},
          {"service entry", test_service_entry}, {"same host", test_same_host},
          {"workload entry", test_workload_entry}, {"order", test_order})
