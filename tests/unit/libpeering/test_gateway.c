/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The east-west gateway: unknown services, only endpoints of its own network that can be reached through
 * HBONE, never a third network, health, and endpoints to avoid.
 */
#include "kit.h"

#include <peering/route.h>

static bool avoid_by_name(void *arg, const peering_workload *w)
{
    return strchr(arg, peering_workload_name(w).ptr[0]) != NULL;
}

static peering_gateway_route decide(const peering_snapshot *s, const char *host, uint16_t port, char *avoid,
                                    uint64_t random)
{
    peering_gateway_route out;
    peering_gateway_decide(s,
                           &(peering_gateway_query){.network = ps("n1"),
                                                    .gateway_ns = ps("istio-system"),
                                                    .authority_host = ps(host),
                                                    .authority_port = port,
                                                    .random = random,
                                                    .avoid = avoid != NULL ? avoid_by_name : NULL,
                                                    .avoid_arg = avoid},
                           &out);
    return out;
}

#define ON "ns1/s.example=80:8080"

static peering_table *table(void)
{
    peering_table *t = kit_table();
    SV(t, .name = "s", .hostname = "s.example", .ports = "80:0", .scopes = "NODE", .mode = XDS_LB_STRICT);
    WL(t, .name = "a", .ips = "10.0.0.1,2001:db8::1", .network = "n1", .services = ON);
    WL(t, .name = "b", .ips = "10.0.0.2", .network = "n1", .services = ON);
    WL(t, .name = "c", .ips = "10.0.0.3", .network = "n2", .services = ON);
    WL(t, .name = "d", .network = "n2", .gateway = "n2/1.2.3.4:15008", .services = ON);
    WL(t, .name = "e", .network = "n1", .gateway = "n2/1.2.3.4:15008", .services = ON);
    WL(t, .name = "f", .ips = "10.0.0.6", .network = "n1", .plain = true, .services = ON);
    WL(t, .name = "g", .ips = "10.0.0.7", .network = "n1", .unhealthy = true, .services = ON);
    WL(t, .name = "h", .ips = "10.0.0.8", .network = "n1", .services = "ns1/s.example=81:1");
    WL(t, .name = "i", .hostname = "x.example", .network = "n1", .services = ON);
    return t;
}

static void test_candidates(void)
{
    peering_table *t = table();
    peering_snapshot *s = kit_snapshot(t);
    bool seen[26] = {false};
    for (uint64_t i = 0; i < 200; i++) {
        peering_gateway_route r = decide(s, "s.example", 80, NULL, i);
        CU_ASSERT_EQUAL_FATAL(r.status, 200);
        CU_ASSERT_EQUAL(r.port, 15008);
        CU_ASSERT_EQUAL(r.ip.len, 4);
        CU_ASSERT_EQUAL(r.remaining, 1);
        seen[peering_workload_name(r.workload).ptr[0] - 'a'] = true;
    }
    for (size_t i = 0; i < 26; i++) {
        CU_ASSERT_EQUAL(seen[i], i < 2);
    }
    char avoid[] = "a";
    peering_gateway_route r = decide(s, "s.example", 80, avoid, 1);
    CU_ASSERT(ps_is(peering_workload_name(r.workload), "b"));
    CU_ASSERT_EQUAL(r.remaining, 0);
    peering_snapshot_unref(s);
    peering_table_free(t);
}

static void test_refusals(void)
{
    peering_table *t = table();
    peering_snapshot *s = kit_snapshot(t);
    peering_gateway_route r = decide(s, "other.example", 80, NULL, 1);
    CU_ASSERT_EQUAL(r.status, 404);
    CU_ASSERT_STRING_EQUAL(r.error, "no service for hostname: other.example");
    CU_ASSERT_PTR_NULL(r.service);
    r = decide(s, "10.0.0.1", 80, NULL, 1);
    CU_ASSERT_EQUAL(r.status, 404);
    r = decide(s, "s.example", 90, NULL, 1);
    CU_ASSERT_EQUAL(r.status, 503);
    CU_ASSERT_PTR_NOT_NULL(r.service);
    CU_ASSERT_PTR_NULL(r.workload);
    peering_snapshot_unref(s);
    /* only the other network is left: not through a third */
    CU_ASSERT_EQUAL(peering_table_remove(t, PEERING_KIND_ADDRESS, ps("c1//Pod/ns1/a")), 0);
    CU_ASSERT_EQUAL(peering_table_remove(t, PEERING_KIND_ADDRESS, ps("c1//Pod/ns1/b")), 0);
    s = kit_snapshot(t);
    r = decide(s, "s.example", 80, NULL, 1);
    CU_ASSERT_EQUAL(r.status, 503);
    CU_ASSERT_STRING_EQUAL(r.error, "no healthy upstream: s.example:80 has no endpoint in this network");
    peering_snapshot_unref(s);
    /* an endpoint that was only allocated an address is none */
    WL(t, .name = "a", .ips = "240.240.0.1", .network = "n1", .services = ON);
    s = kit_snapshot(t);
    CU_ASSERT_EQUAL(decide(s, "s.example", 80, NULL, 1).status, 503);
    peering_snapshot_unref(s);
    peering_table_free(t);
}

static void test_namespaces(void)
{
    peering_table *t = table();
    SV(t, .name = "s", .ns = "istio-system", .hostname = "s.example", .ports = "80:80");
    SV(t, .name = "p", .ns = "ns2", .hostname = "private.example", .ports = "80:80", .private_ns = true);
    peering_snapshot *s = kit_snapshot(t);
    /* its own namespace first, as for any client; private services of others are not there */
    CU_ASSERT_EQUAL(decide(s, "s.example", 80, NULL, 1).status, 503);
    CU_ASSERT_EQUAL(decide(s, "private.example", 80, NULL, 1).status, 404);
    peering_snapshot_unref(s);
    peering_table_free(t);
}

TEST_MAIN("gateway", {"candidates", test_candidates}, {"refusals", test_refusals},
          {"namespaces", test_namespaces})
