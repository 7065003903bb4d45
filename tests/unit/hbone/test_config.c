/* SPDX-License-Identifier: Apache-2.0 */
/* Variables: defaults, grammar, refusals that name variable, value and cause, worker arithmetic. One thread.
 */
#include "hbone/config.h"
#include "testlib.h"

static char mode[] = "PROXY_MODE=dedicated";
static char info[] = "PROXY_WORKLOAD_INFO=ns1/pod-1/sa1";

static unsigned warnings;
static char last_warning[300];
static void on_warn(void *arg, const char *line)
{
    (void)arg;
    warnings++;
    (void)snprintf(last_warning, sizeof(last_warning), "%s", line);
}

static int load(struct hb_config *c, const char *extra, struct pg_errtext *err)
{
    char copy[256];
    (void)snprintf(copy, sizeof(copy), "%s", extra);
    char *env[] = {mode, info, copy, NULL};
    err->text[0] = '\0';
    warnings = 0;
    return hb_config_load(c, env, on_warn, NULL, err);
}

static void test_defaults(void)
{
    struct hb_config c;
    struct pg_errtext err;
    CU_ASSERT_EQUAL_FATAL(load(&c, "X=1", &err), 0);
    CU_ASSERT_EQUAL(c.mode, HB_MODE_DEDICATED);
    CU_ASSERT_STRING_EQUAL(c.pod.ns, "ns1");
    CU_ASSERT_STRING_EQUAL(c.pod.name, "pod-1");
    CU_ASSERT_STRING_EQUAL(c.pod.sa, "sa1");
    CU_ASSERT_EQUAL(c.pool_max_streams, 100);
    CU_ASSERT_EQUAL(c.pool_idle_ms, 300000);
    CU_ASSERT_EQUAL(c.stream_window, 4194304);
    CU_ASSERT_EQUAL(c.connection_window, 16777216);
    CU_ASSERT_EQUAL(c.frame_size, 1048576);
    CU_ASSERT_EQUAL(c.secret_ttl_ms, 24u * 3600 * 1000);
    CU_ASSERT_EQUAL(c.drain_ms, 5000);
    CU_ASSERT_EQUAL(c.orig_src, HB_UNSET);
    CU_ASSERT_TRUE(c.dns);
    CU_ASSERT_TRUE(c.response_baggage);
    CU_ASSERT_STRING_EQUAL(c.cluster_id, "Kubernetes");
    CU_ASSERT_STRING_EQUAL(c.xds_address, "https://localhost:15012");
    CU_ASSERT_EQUAL(c.packet_mark, 0);
    CU_ASSERT_EQUAL(c.n_trust_domains, 1);
    CU_ASSERT_FALSE(c.policy_lenient);
    CU_ASSERT_EQUAL(warnings, 0);
    hb_config_fini(&c);
}

static void test_errors(void)
{
    static const struct {
        const char *env;
        const char *parts[3];
    } rows[] = {
        {"PROXY_MODE=shared", {"PROXY_MODE", "shared", "in-pod"}},
        {"PROXY_MODE=other", {"PROXY_MODE", "other", "dedicated"}},
        {"PROXY_WORKLOAD_INFO=a/b", {"PROXY_WORKLOAD_INFO", "a/b", "namespace/name/service-account"}},
        {"PROXY_WORKLOAD_INFO=//", {"PROXY_WORKLOAD_INFO", "//", "namespace"}},
        {"KEEPALIVE_ENABLED=yes", {"KEEPALIVE_ENABLED", "yes", "true or false"}},
        {"KEEPALIVE_ENABLED=True", {"KEEPALIVE_ENABLED", "True", "true or false"}},
        {"ENABLE_ORIG_SRC=1", {"ENABLE_ORIG_SRC", "1", "true or false"}},
        {"SECRET_TTL=24", {"SECRET_TTL", "24", "duration"}},
        {"SECRET_TTL=", {"SECRET_TTL", "duration", ""}},
        {"POOL_MAX_STREAMS_PER_CONNECTION=65536", {"POOL_MAX_STREAMS_PER_CONNECTION", "65536", "65535"}},
        {"POOL_MAX_STREAMS_PER_CONNECTION=0", {"POOL_MAX_STREAMS_PER_CONNECTION", "0", "at least 1"}},
        {"POOL_MAX_STREAMS_PER_CONNECTION=-1", {"POOL_MAX_STREAMS_PER_CONNECTION", "-1", "number"}},
        {"HTTP2_FRAME_SIZE=100", {"HTTP2_FRAME_SIZE", "16384", ""}},
        {"HTTP2_STREAM_WINDOW_SIZE=4294967296", {"HTTP2_STREAM_WINDOW_SIZE", "4294967296", "number"}},
        {"XDS_ADDRESS=http://a:15012", {"XDS_ADDRESS", "http://a:15012", "https"}},
        {"XDS_ADDRESS=istiod", {"XDS_ADDRESS", "istiod", "host:port"}},
        {"CA_ADDRESS=a:0", {"CA_ADDRESS", "a:0", "host:port"}},
        {"CONTROL_PLANE_FORWARD=:80", {"CONTROL_PLANE_FORWARD", ":80", "host:port"}},
        {"POLICY_UNKNOWN=allow", {"POLICY_UNKNOWN", "allow", "ztunnel"}},
        {"LOG_FORMAT=xml", {"LOG_FORMAT", "xml", "json"}},
        {"TRUST_DOMAINS=*", {"TRUST_DOMAINS", "*", "SKIP_VALIDATE_TRUST_DOMAIN"}},
        {"CRL_PATH=/x", {"CRL_PATH", "/x", "not supported"}},
        {"XDS_ON_DEMAND=true", {"XDS_ON_DEMAND", "true", "not supported"}},
        {"ZTUNNEL_WORKER_THREADS=101%", {"ZTUNNEL_WORKER_THREADS", "101%", "1% to 100%"}},
        {"ZTUNNEL_RESOURCE_CPU_LIMIT=two", {"ZTUNNEL_RESOURCE_CPU_LIMIT", "two", "500m"}},
        {"TERMINATION_GRACE_PERIOD_SECONDS=soon", {"TERMINATION_GRACE_PERIOD_SECONDS", "soon", "seconds"}},
        {"ISTIO_META_DNS_PROXY_ADDR=nowhere", {"ISTIO_META_DNS_PROXY_ADDR", "nowhere", "localhost:PORT"}},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(rows); i++) {
        struct hb_config c;
        struct pg_errtext err = {.text = ""};
        char copy[256];
        size_t before = pg_mem_live_blocks();
        (void)snprintf(copy, sizeof(copy), "%s", rows[i].env);
        char *env[] = {copy, mode, info, NULL}; /* the first of a name wins */
        CU_ASSERT_EQUAL(hb_config_load(&c, env, NULL, NULL, &err), PG_E_CONFIG);
        for (size_t k = 0; k < 3; k++) {
            if (strstr(err.text, rows[i].parts[k]) == NULL) {
                (void)printf("\n%s: \"%s\" lacks \"%s\"", rows[i].env, err.text, rows[i].parts[k]);
                CU_FAIL("text");
            }
        }
        CU_ASSERT_EQUAL(pg_mem_live_blocks(), before);
    }
}

static void test_refused_only_when_asked(void)
{
    struct hb_config c;
    struct pg_errtext err;
    CU_ASSERT_EQUAL_FATAL(load(&c, "XDS_ON_DEMAND=false", &err), 0);
    hb_config_fini(&c);
    CU_ASSERT_EQUAL_FATAL(load(&c, "CRL_PATH=", &err), 0);
    hb_config_fini(&c);
}

static void test_drain(void)
{
    static const struct {
        const char *env;
        uint64_t ms;
    } rows[] = {
        {"CONNECTION_TERMINATION_DEADLINE=1m30s", 90000}, {"TERMINATION_GRACE_PERIOD_SECONDS=30", 25000},
        {"TERMINATION_GRACE_PERIOD_SECONDS=10", 9000},    {"TERMINATION_GRACE_PERIOD_SECONDS=11", 6000},
        {"TERMINATION_GRACE_PERIOD_SECONDS=1", 1000},     {"TERMINATION_GRACE_PERIOD_SECONDS=0", 1000}};
    for (size_t i = 0; i < PG_ARRAY_LEN(rows); i++) {
        struct hb_config c;
        struct pg_errtext err;
        CU_ASSERT_EQUAL_FATAL(load(&c, rows[i].env, &err), 0);
        CU_ASSERT_EQUAL(c.drain_ms, rows[i].ms);
        hb_config_fini(&c);
    }
}

static void test_misspelt(void)
{
    struct hb_config c;
    struct pg_errtext err;
    CU_ASSERT_EQUAL_FATAL(load(&c, "NETWROK=n", &err), 0);
    CU_ASSERT_EQUAL(warnings, 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(last_warning, "did you mean NETWORK"));
    hb_config_fini(&c);
    CU_ASSERT_EQUAL_FATAL(load(&c, "PREFERRED_SERVICE_NAMESPACE=n", &err), 0);
    CU_ASSERT_EQUAL(warnings, 1);
    hb_config_fini(&c);
    CU_ASSERT_EQUAL_FATAL(load(&c, "HOSTNAME=n", &err), 0);
    CU_ASSERT_EQUAL(warnings, 0);
    hb_config_fini(&c);
    CU_ASSERT_EQUAL_FATAL(load(&c, "XDS_HEADER_a=b", &err), 0);
    CU_ASSERT_EQUAL(warnings, 1);
    hb_config_fini(&c);
}

static void test_trust_and_meta(void)
{
    struct hb_config c;
    struct pg_errtext err;
    CU_ASSERT_EQUAL_FATAL(load(&c, "TRUST_DOMAINS=a.example, b.example,", &err), 0);
    CU_ASSERT_EQUAL_FATAL(c.n_trust_domains, 3);
    CU_ASSERT_TRUE(pg_str_eq_c(c.trust_domains[1], "a.example"));
    CU_ASSERT_TRUE(pg_str_eq_c(c.trust_domains[2], "b.example"));
    hb_config_fini(&c);
    CU_ASSERT_EQUAL_FATAL(load(&c, "SKIP_VALIDATE_TRUST_DOMAIN=true", &err), 0);
    CU_ASSERT_EQUAL_FATAL(c.n_trust_domains, 1);
    CU_ASSERT_TRUE(pg_str_eq_c(c.trust_domains[0], "*"));
    CU_ASSERT_EQUAL(warnings, 1);
    hb_config_fini(&c);
    CU_ASSERT_EQUAL_FATAL(load(&c, "ISTIO_META_CLUSTER_ID=c7", &err), 0);
    CU_ASSERT_STRING_EQUAL(c.cluster_id, "c7");
    hb_config_fini(&c);
    CU_ASSERT_EQUAL_FATAL(load(&c, "ISTIO_META_DNS_CAPTURE=FALSE", &err), 0);
    CU_ASSERT_FALSE(c.dns);
    hb_config_fini(&c);
    CU_ASSERT_EQUAL_FATAL(load(&c, "ISTIO_META_DNS_PROXY_ADDR=localhost:5353", &err), 0);
    CU_ASSERT_EQUAL(c.dns_addr.port, 5353);
    CU_ASSERT_EQUAL(c.dns_addr.ip.len, 0);
    hb_config_fini(&c);
}

static void test_workers(void)
{
    static const struct {
        const char *env;
        unsigned cpus, want;
    } rows[] = {{"ZTUNNEL_WORKER_THREADS=4", 8, 4},
                {"ZTUNNEL_WORKER_THREADS=50%", 8, 4},
                {"ZTUNNEL_WORKER_THREADS=30%", 16, 5},
                {"ZTUNNEL_WORKER_THREADS=10%", 4, 1},
                {"ZTUNNEL_WORKER_THREADS=0", 7, 7},
                {"ZTUNNEL_RESOURCE_CPU_LIMIT=16", 2, 16},
                {"ZTUNNEL_RESOURCE_CPU_LIMIT=500m", 8, 1},
                {"ZTUNNEL_RESOURCE_CPU_LIMIT=2500m", 8, 3},
                {"ZTUNNEL_RESOURCE_CPU_LIMIT=1.5", 8, 2},
                {"X=", 32, 8},
                {"X=", 1, 2},
                {"ZTUNNEL_CPU_LIMIT=32", 2, 8},
                {"ZTUNNEL_RESOURCE_CPU_REQUEST=3", 4, 3}};
    for (size_t i = 0; i < PG_ARRAY_LEN(rows); i++) {
        struct hb_config c;
        struct pg_errtext err;
        unsigned got = 0;
        CU_ASSERT_EQUAL_FATAL(load(&c, rows[i].env, &err), 0);
        CU_ASSERT_EQUAL(hb_config_workers(&c, rows[i].cpus, &got, &err), 0);
        CU_ASSERT_EQUAL(got, rows[i].want);
        hb_config_fini(&c);
    }
}

static void test_resolv_conf(void)
{
    struct hb_config c;
    struct pg_errtext err;
    CU_ASSERT_EQUAL_FATAL(load(&c, "X=", &err), 0);
    hb_config_resolv(&c, PG_STR("# comment\nnameserver 10.0.0.10\nnameserver\t bad\nnameserver\t::1\n"
                                "search a.svc.cluster.local svc.cluster.local\noptions ndots:5\n"));
    CU_ASSERT_EQUAL(c.n_dns_servers, 2);
    CU_ASSERT_EQUAL_FATAL(c.n_dns_search, 2);
    CU_ASSERT_STRING_EQUAL(c.dns_search[1], "svc.cluster.local");
    hb_config_fini(&c);
}

static void test_print_hides_secrets(void)
{
    struct hb_config c;
    struct pg_errtext err;
    struct pg_sb out;
    CU_ASSERT_EQUAL_FATAL(load(&c, "AUTH_TOKEN=eyJsecret", &err), 0);
    pg_sb_init(&out, 65536);
    hb_config_print(&c, &out);
    CU_ASSERT_PTR_NULL(strstr(out.p, "eyJsecret"));
    CU_ASSERT_PTR_NOT_NULL(strstr(out.p, "AUTH_TOKEN=<hidden>"));
    pg_sb_reset(&out);
    struct pg_json j;
    pg_json_init(&j, &out, false);
    hb_config_json(&c, &j);
    CU_ASSERT_PTR_NULL(strstr(out.p, "eyJsecret"));
    CU_ASSERT_PTR_NOT_NULL(strstr(out.p, "\"poolMaxStreamsPerConnection\":\"100\""));
    pg_sb_fini(&out);
    hb_config_fini(&c);
}

static int load_scenario(void *arg)
{
    (void)arg;
    struct hb_config c;
    struct pg_errtext err;
    int r = load(&c, "ISTIO_META_X=y", &err);
    if (r == 0) {
        hb_config_fini(&c);
    }
    return r;
}

static void test_alloc(void)
{
    CU_ASSERT_TRUE(test_alloc_sweep(load_scenario, NULL) > 20);
}

TEST_MAIN("hbone config", {"defaults", test_defaults}, {"errors name variable, value, cause", test_errors},
          {"features not built", test_refused_only_when_asked}, {"drain time", test_drain},
          {"misspelt", test_misspelt}, {"trust domains, metadata", test_trust_and_meta},
          {"workers", test_workers}, {"resolv.conf", test_resolv_conf},
          {"no secrets printed", test_print_hides_secrets}, {"allocation failures", test_alloc})
