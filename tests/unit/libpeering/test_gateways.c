/* SPDX-License-Identifier: Apache-2.0 */
/* Gateway objects: every field of a peer and its default, what is not accepted and why, the own east-west
 * gateway. */
#include "ctl_testlib.h"

#define GATEWAY(name, meta, spec)                                                                            \
    "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata:\n  name: " name                 \
    "\n  namespace: istio-eastwest\n" meta "spec:\n  gatewayClassName: istio-remote\n" spec

static const struct manifest_config config = {.cluster = {"c1", 2},
                                              .network = {"n1", 2},
                                              .trust_domain = {"own.local", 9},
                                              .domain = {"cluster.local", 13},
                                              .system_ns = {"istio-system", 12}};

struct loaded {
    struct test_dir dir;
    struct manifest *m;
    struct peer_config *peers;
    size_t n;
};
static void load(struct loaded *l, const char *text)
{
    test_dir_make(&l->dir);
    l->m = test_manifest(&l->dir, text);
    CU_ASSERT_EQUAL_FATAL(manifest_peers(l->m, &config, &l->peers, &l->n), 0);
}
static void unload(struct loaded *l)
{
    for (size_t i = 0; i < l->n; i++) {
        peer_config_fini(&l->peers[i]);
    }
    pg_free(l->peers);
    manifest_free(l->m);
    test_remove(&l->dir, "all.yaml");
    test_dir_remove(&l->dir);
}

static void test_all_fields(void)
{
    struct loaded l;
    load(&l, GATEWAY("istio-remote-peer-c2",
                     "  labels:\n    topology.istio.io/network: n2\n    topology.istio.io/cluster: c2x\n"
                     "    topology.kubernetes.io/region: eu\n    topology.kubernetes.io/zone: eu-1\n"
                     "  annotations:\n    gateway.istio.io/service-account: gw\n"
                     "    gateway.istio.io/trust-domain: two.local\n    isthmus.dev/stale-deadline: 90m\n",
                     "  addresses:\n  - {type: Hostname, value: gw.example.org}\n  - {type: IPAddress, "
                     "value: 192.0.2.2}\n"
                     "  - {value: '2001:db8::1'}\n"
                     "  listeners:\n  - {name: cross-network, port: 25008, protocol: HBONE, tls: {mode: "
                     "Passthrough}}\n"
                     "  - {name: other, port: 1, protocol: TLS}\n"
                     "  - {name: xds-tls, port: 25012, protocol: TLS, tls: {mode: Passthrough}}\n"));
    CU_ASSERT_EQUAL_FATAL(l.n, 1);
    const struct peer_config *p = &l.peers[0];
    CU_ASSERT_TRUE(p->accepted);
    CU_ASSERT_STRING_EQUAL(p->reason, "");
    CU_ASSERT_STRING_EQUAL(p->ns, "istio-eastwest");
    CU_ASSERT_STRING_EQUAL(p->name, "istio-remote-peer-c2");
    CU_ASSERT_STRING_EQUAL(p->cluster, "c2x");
    CU_ASSERT_STRING_EQUAL(p->network, "n2");
    CU_ASSERT_STRING_EQUAL(p->trust_domain, "two.local");
    CU_ASSERT_STRING_EQUAL(p->service_account, "gw");
    CU_ASSERT_STRING_EQUAL(p->region, "eu");
    CU_ASSERT_STRING_EQUAL(p->zone, "eu-1");
    CU_ASSERT_EQUAL_FATAL(p->n_addresses, 3);
    CU_ASSERT_STRING_EQUAL(p->addresses[0], "gw.example.org");
    CU_ASSERT_STRING_EQUAL(p->addresses[2], "2001:db8::1");
    CU_ASSERT_EQUAL(p->hbone_port, 25008);
    CU_ASSERT_EQUAL(p->xds_port, 25012);
    CU_ASSERT_EQUAL(p->stale_deadline_s, 5400);
    CU_ASSERT_STRING_EQUAL(p->file, "all.yaml:2");
    unload(&l);
}

static void test_defaults(void)
{
    struct loaded l;
    load(&l, GATEWAY("istio-remote-peer-c3", "  labels: {topology.istio.io/network: n3}\n",
                     "  addresses: [{value: 192.0.2.3}]\n"));
    CU_ASSERT_EQUAL_FATAL(l.n, 1);
    const struct peer_config *p = &l.peers[0];
    CU_ASSERT_TRUE(p->accepted);
    CU_ASSERT_STRING_EQUAL(p->cluster, "n3");
    CU_ASSERT_STRING_EQUAL(p->trust_domain, "own.local");
    CU_ASSERT_STRING_EQUAL(p->service_account, "istio-remote-peer-c3");
    CU_ASSERT_STRING_EQUAL(p->region, "");
    CU_ASSERT_EQUAL(p->xds_port, 15012);
    CU_ASSERT_EQUAL(p->hbone_port, 15008);
    CU_ASSERT_EQUAL(p->stale_deadline_s, 3600);
    unload(&l);
    load(
        &l,
        GATEWAY(
            "p",
            "  labels: {topology.istio.io/network: n3}\n  annotations: {isthmus.dev/stale-deadline: never}\n",
            "  addresses: [{value: 192.0.2.3}]\n  listeners: [{name: x, port: 99, protocol: TLS}]\n"));
    CU_ASSERT_EQUAL_FATAL(l.n, 1);
    CU_ASSERT_EQUAL(l.peers[0].stale_deadline_s, 0);
    CU_ASSERT_EQUAL(l.peers[0].xds_port, 99);
    unload(&l);
}

static void test_not_accepted(void)
{
    static const struct {
        const char *text, *word;
    } rows[] = {
        {GATEWAY("a", "  labels: {topology.istio.io/network: n2}\n", ""),
         "AddressNotAssigned: spec.addresses is empty"},
        {GATEWAY("a", "", "  addresses: [{value: 192.0.2.3}]\n"), "topology.istio.io/cluster is missing"},
        {GATEWAY("istio-remote-peer-c2", "", "  addresses: [{value: 192.0.2.3}]\n"),
         "topology.istio.io/network is missing"},
        {GATEWAY("a", "  labels: {topology.istio.io/network: n2, topology.istio.io/cluster: a/b}\n",
                 "  addresses: [{value: 192.0.2.3}]\n"),
         "not a cluster name"},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(rows); i++) {
        struct loaded l;
        load(&l, rows[i].text);
        CU_ASSERT_EQUAL_FATAL(l.n, 1);
        CU_ASSERT_FALSE(l.peers[0].accepted);
        CU_ASSERT_PTR_NOT_NULL(strstr(l.peers[0].reason, rows[i].word));
        unload(&l);
    }
}

/* Two objects for one cluster: the first by name is the peer. The own cluster is none. */
static void test_conflicts(void)
{
    struct loaded l;
    load(
        &l,
        GATEWAY("b", "  labels: {topology.istio.io/network: n2}\n", "  addresses: [{value: 192.0.2.3}]\n")
            GATEWAY("a", "  labels: {topology.istio.io/network: n2}\n", "  addresses: [{value: 192.0.2.4}]\n")
                GATEWAY("self", "  labels: {topology.istio.io/network: c1}\n",
                        "  addresses: [{value: 192.0.2.5}]\n")
                    GATEWAY("flat",
                            "  labels: {topology.istio.io/network: n2, topology.istio.io/cluster: c9}\n",
                            "  addresses: [{value: 192.0.2.6}]\n"));
    CU_ASSERT_EQUAL_FATAL(l.n, 3);
    CU_ASSERT_TRUE(l.peers[0].accepted);
    CU_ASSERT_FALSE(l.peers[1].accepted);
    CU_ASSERT_PTR_NOT_NULL(strstr(l.peers[1].reason, "istio-eastwest/a"));
    CU_ASSERT_STRING_EQUAL(l.peers[2].cluster, "c9");
    CU_ASSERT_TRUE(l.peers[2].accepted);
    unload(&l);
}

static void test_equality(void)
{
    struct loaded a, b;
    static const char one[] =
        GATEWAY("a", "  labels: {topology.istio.io/network: n2}\n", "  addresses: [{value: 192.0.2.3}]\n");
    load(&a, one);
    load(&b, "---\n# moved down\n" GATEWAY("a", "  labels: {topology.istio.io/network: n2}\n",
                                           "  addresses: [{value: 192.0.2.3}]\n"));
    CU_ASSERT_STRING_NOT_EQUAL(a.peers[0].file, b.peers[0].file);
    CU_ASSERT_TRUE(peer_config_eq(&a.peers[0], &b.peers[0]));
    unload(&b);
    static const char *const others[] = {
        GATEWAY("a", "  labels: {topology.istio.io/network: n2}\n", "  addresses: [{value: 192.0.2.4}]\n"),
        GATEWAY("a", "  labels: {topology.istio.io/network: n2}\n",
                "  addresses: [{value: 192.0.2.3}, {value: 192.0.2.4}]\n"),
        GATEWAY("a", "  labels: {topology.istio.io/network: n4}\n", "  addresses: [{value: 192.0.2.3}]\n"),
        GATEWAY("a", "  labels: {topology.istio.io/network: n2}\n",
                "  addresses: [{value: 192.0.2.3}]\n  listeners: [{name: h, port: 1, protocol: HBONE}]\n"),
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(others); i++) {
        load(&b, others[i]);
        CU_ASSERT_FALSE(peer_config_eq(&a.peers[0], &b.peers[0]));
        unload(&b);
    }
    unload(&a);
}

static void test_eastwest(void)
{
    struct loaded l;
    load(&l,
         "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata:\n  name: istio-eastwest\n  "
         "namespace: gw\n"
         "  labels: {istio.io/expose-istiod: \"15012\", topology.istio.io/network: n1, "
         "topology.kubernetes.io/zone: z}\n"
         "spec:\n  gatewayClassName: istio-eastwest\n"
         "  listeners: [{name: cross-network, port: 15008, protocol: HBONE}, {name: xds-tls, port: 15013, "
         "protocol: TLS}]\n"
         "status:\n  addresses: [{type: IPAddress, value: 192.0.2.9}]\n"
         "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: w, namespace: x}\n"
         "spec: {gatewayClassName: istio-waypoint}\n");
    struct eastwest_config *e = NULL;
    size_t n = 0;
    CU_ASSERT_EQUAL(l.n, 0);
    CU_ASSERT_EQUAL_FATAL(manifest_eastwest(l.m, &e, &n), 0);
    CU_ASSERT_EQUAL_FATAL(n, 1);
    CU_ASSERT_STRING_EQUAL(e[0].ns, "gw");
    CU_ASSERT_STRING_EQUAL(e[0].network, "n1");
    CU_ASSERT_STRING_EQUAL(e[0].zone, "z");
    CU_ASSERT_EQUAL(e[0].xds_port, 15013);
    CU_ASSERT_EQUAL_FATAL(e[0].n_addresses, 1);
    CU_ASSERT_STRING_EQUAL(e[0].addresses[0], "192.0.2.9");
    eastwest_config_fini(&e[0]);
    pg_free(e);
    unload(&l);
}

TEST_MAIN("gateways", {"all fields", test_all_fields}, {"defaults", test_defaults},
          {"not accepted", test_not_accepted}, {"conflicts", test_conflicts}, {"equality", test_equality},
          {"eastwest", test_eastwest})
