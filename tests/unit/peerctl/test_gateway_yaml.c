/* SPDX-License-Identifier: Apache-2.0 */
/* The Gateways peerctl writes: byte for byte, and read back by the very parser of the control plane. */
#include "gateway_yaml.h"
#include "testlib.h"
#include "yaml_doc.h"

static const char *const addresses[] = {"172.18.0.11", "2001:db8::1", "gw.example.com"};

static const char eastwest_golden[] = "apiVersion: gateway.networking.k8s.io/v1\n"
                                      "kind: Gateway\n"
                                      "metadata:\n"
                                      "  labels:\n"
                                      "    istio.io/expose-istiod: \"15012\"\n"
                                      "    topology.istio.io/network: network1\n"
                                      "  name: istio-eastwest\n"
                                      "  namespace: istio-eastwest\n"
                                      "spec:\n"
                                      "  addresses:\n"
                                      "  - type: IPAddress\n"
                                      "    value: 172.18.0.11\n"
                                      "  - type: IPAddress\n"
                                      "    value: \"2001:db8::1\"\n"
                                      "  - type: Hostname\n"
                                      "    value: gw.example.com\n"
                                      "  gatewayClassName: istio-eastwest\n"
                                      "  listeners:\n"
                                      "  - name: cross-network\n"
                                      "    port: 15008\n"
                                      "    protocol: HBONE\n"
                                      "    tls:\n"
                                      "      mode: Passthrough\n"
                                      "  - name: xds-tls\n"
                                      "    port: 15012\n"
                                      "    protocol: TLS\n"
                                      "    tls:\n"
                                      "      mode: Passthrough\n";

static struct gateway_yaml eastwest(void)
{
    return (struct gateway_yaml){.name = "istio-eastwest",
                                 .ns = "istio-eastwest",
                                 .gateway_class = "istio-eastwest",
                                 .expose_istiod = "15012",
                                 .network = "network1",
                                 .region = "",
                                 .addresses = addresses,
                                 .n_addresses = PG_ARRAY_LEN(addresses),
                                 .hbone_port = 15008,
                                 .xds_port = 15012};
}

static void test_golden(void)
{
    struct gateway_yaml g = eastwest();
    struct pg_sb out;
    pg_sb_init(&out, 65536);
    gateway_yaml_write(&g, &out);
    CU_ASSERT_STRING_EQUAL(out.p, eastwest_golden);
    pg_sb_fini(&out);
}

static void test_no_address(void)
{
    struct gateway_yaml g = eastwest();
    struct pg_sb out;
    g.n_addresses = 0;
    pg_sb_init(&out, 65536);
    gateway_yaml_write(&g, &out);
    CU_ASSERT_PTR_NULL(strstr(out.p, "addresses"));
    pg_sb_fini(&out);
}

/* Whatever YAML could take for a number, a truth or syntax is quoted. */
static void test_odd_names(void)
{
    static const char *const odd[][2] = {
        {"15012", "\"15012\""},
        {"1e3", "\"1e3\""},
        {"0x10", "\"0x10\""},
        {"true", "\"true\""},
        {"No", "\"No\""},
        {"y", "\"y\""},
        {"null", "\"null\""},
        {"a: b", "\"a: b\""},
        {"a#b", "\"a#b\""},
        {"-a", "\"-a\""},
        {"a\"b", "\"a\\\"b\""},
        {"a\nb", "\"a\\nb\""},
        {"plain-1.x_y/z", "plain-1.x_y/z"},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(odd); i++) {
        struct gateway_yaml g = eastwest();
        struct pg_sb out;
        char line[64];
        g.cluster = odd[i][0];
        (void)snprintf(line, sizeof(line), "    topology.istio.io/cluster: %s\n", odd[i][1]);
        pg_sb_init(&out, 65536);
        gateway_yaml_write(&g, &out);
        CU_ASSERT_PTR_NOT_NULL(strstr(out.p, line));
        pg_sb_fini(&out);
    }
}

static int scenario(void *arg)
{
    struct gateway_yaml g = eastwest();
    struct pg_sb out;
    (void)arg;
    pg_sb_init(&out, 65536);
    gateway_yaml_write(&g, &out);
    int r = out.err;
    pg_sb_fini(&out);
    return r;
}

static void test_memory(void)
{
    CU_ASSERT_TRUE(test_alloc_sweep(scenario, NULL) > 0);
}

/* The parser of the control plane reads back the same strings. */
static void test_round_trip(void)
{
    static const char *const odd[] = {"15012",  "1e3",       "true",     "~",    "a: b",
                                      "a\"\\b", "tab\there", "\xc3\xa9", ".inf", "cluster1"};
    for (size_t i = 0; i < PG_ARRAY_LEN(odd); i++) {
        struct gateway_yaml g = eastwest();
        struct pg_sb out;
        struct pg_arena arena;
        struct pg_errtext err = {""};
        const struct yaml_node *doc = NULL;
        unsigned line = 0;
        g.cluster = odd[i];
        pg_sb_init(&out, 65536);
        pg_arena_init(&arena, 1u << 20);
        gateway_yaml_write(&g, &out);
        CU_ASSERT_EQUAL_FATAL(yaml_parse(pg_sb_view(&out), &arena, &doc, &line, &err), 0);
        const struct yaml_node *labels = yaml_get(yaml_get(doc, "metadata"), "labels");
        const struct yaml_node *cluster = yaml_get(labels, "topology.istio.io/cluster");
        CU_ASSERT_PTR_NOT_NULL_FATAL(cluster);
        CU_ASSERT_TRUE(yaml_is_string(cluster));
        CU_ASSERT_STRING_EQUAL(cluster->value.p, odd[i]);
        CU_ASSERT_TRUE(yaml_is_string(yaml_get(labels, "istio.io/expose-istiod")));
        CU_ASSERT_EQUAL(yaml_get(yaml_get(doc, "spec"), "addresses")->n, PG_ARRAY_LEN(addresses));
        pg_arena_fini(&arena);
        pg_sb_fini(&out);
    }
}

TEST_MAIN("peerctl YAML", {"golden", test_golden}, {"no address", test_no_address},
          {"odd names", test_odd_names}, {"round trip", test_round_trip}, {"out of memory", test_memory})
