/* SPDX-License-Identifier: Apache-2.0 */
/* Access log lines as ztunnel writes them, label sets, the statistics text, descriptive headers. One thread.
 */
#include "core/log.h"
#include "hbone/metrics.h"
#include "testlib.h"

static struct pg_sb line;

static void sink(void *arg, enum pg_log_level level, const char *target, const char *message,
                 const struct pg_field *fields, size_t n)
{
    (void)arg;
    pg_sb_reset(&line);
    pg_log_format(&line, false, 1755681243517204, level, target, message, fields, n);
}

static struct pg_addr addr(const char *s)
{
    struct pg_addr a = {0};
    CU_ASSERT_EQUAL_FATAL(pg_addr_parse(pg_str_c(s), &a), 0);
    return a;
}

static struct hb_conn example(void)
{
    struct hb_conn c = {.dir = HB_OUTBOUND, .mtls = true};
    c.src = addr("10.244.1.7:41822");
    c.dst = addr("10.244.2.9:15008");
    c.text.src = (struct hb_party){.pod = PG_STR("cart-6c9f7-x2x1z"),
                                   .ns = PG_STR("shop"),
                                   .identity = PG_STR("spiffe://cluster.local/ns/shop/sa/cart"),
                                   .cluster = PG_STR("Kubernetes"),
                                   .workload = PG_STR("cart"),
                                   .canonical = PG_STR("cart"),
                                   .revision = PG_STR("v2"),
                                   .known = true};
    c.text.dst = (struct hb_party){.pod = PG_STR("catalog-84d5b-9kkqs"),
                                   .ns = PG_STR("shop"),
                                   .identity = PG_STR("spiffe://cluster.local/ns/shop/sa/catalog"),
                                   .cluster = PG_STR("Kubernetes"),
                                   .known = true};
    c.text.service = PG_STR("catalog.shop.svc.cluster.local");
    c.text.authority = PG_STR("10.244.2.9:8080");
    return c;
}

static void test_access_log(void)
{
    struct hb_conn c = example();
    pg_sb_init(&line, 8192);
    pg_log_set_sink(sink, NULL);
    hb_access_log(&c, NULL, 84, 512, 12);
    CU_ASSERT_STRING_EQUAL(
        line.p, "2025-08-20T09:14:03.517204Z\tinfo\taccess\tconnection complete\tsrc.addr=10.244.1.7:41822 "
                "src.workload=\"cart-6c9f7-x2x1z\" src.namespace=\"shop\" "
                "src.identity=\"spiffe://cluster.local/ns/shop/sa/cart\" src.cluster=\"Kubernetes\" "
                "dst.addr=10.244.2.9:15008 "
                "dst.hbone_addr=10.244.2.9:8080 dst.service=\"catalog.shop.svc.cluster.local\" "
                "dst.workload=\"catalog-84d5b-9kkqs\" dst.namespace=\"shop\" "
                "dst.identity=\"spiffe://cluster.local/ns/shop/sa/catalog\" dst.cluster=\"Kubernetes\" "
                "direction=\"outbound\" "
                "bytes_sent=84 bytes_recv=512 duration=\"12ms\"\n");
    struct hb_fail f;
    hb_fail_set(
        &f, PG_E_TIMEDOUT, HB_FLAG_NETWORK_POLICY, true,
        "connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008: deadline has elapsed");
    hb_access_log(&c, &f, 0, 0, 10001);
    CU_ASSERT_PTR_NOT_NULL(strstr(line.p, "\terror\taccess\tconnection complete\t"));
    CU_ASSERT_PTR_NOT_NULL(
        strstr(line.p, "bytes_sent=0 bytes_recv=0 duration=\"10001ms\" error=\"connection timed out, maybe a "
                       "NetworkPolicy is blocking HBONE port 15008: deadline has elapsed\"\n"));
    /* Inbound plaintext: bytes change sides, unauthenticated names stay out. */
    c.dir = HB_INBOUND;
    c.mtls = false;
    hb_access_log(&c, NULL, 84, 512, 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(line.p, "direction=\"inbound\" bytes_sent=512 bytes_recv=84"));
    CU_ASSERT_PTR_NULL(strstr(line.p, "identity"));
    hb_access_log_early(HB_INBOUND, &c.src, &c.dst, "ip mismatch: 10.0.0.1 != 10.0.0.2");
    CU_ASSERT_STRING_EQUAL(
        line.p,
        "2025-08-20T09:14:03.517204Z\twarn\taccess\tconnection failed\tsrc.addr=10.244.1.7:41822 "
        "dst.addr=10.244.2.9:15008 direction=\"inbound\" error=\"ip mismatch: 10.0.0.1 != 10.0.0.2\"\n");
    /* Bytes a peer chose cannot make a second line. */
    c.text.src.pod = PG_STR("x\"\n2026 info access forged");
    hb_access_log(&c, NULL, 0, 0, 1);
    CU_ASSERT_PTR_EQUAL(strchr(line.p, '\n'), line.p + line.len - 1);
    pg_log_set_sink(NULL, NULL);
    pg_sb_fini(&line);
}

static void test_labels(void)
{
    struct hb_conn c = example();
    struct pg_sb out;
    pg_sb_init(&out, HB_LABELS_MAX);
    c.text.service_ns = PG_STR("shop");
    c.text.service_name = PG_STR("cat\"alog");
    hb_metrics_labels(&c, HB_FLAG_NONE, &out);
    CU_ASSERT_STRING_EQUAL(
        out.p,
        "reporter=\"source\",source_workload=\"cart\",source_canonical_service=\"cart\",source_canonical_"
        "revision=\"v2\","
        "source_workload_namespace=\"shop\",source_principal=\"spiffe://cluster.local/ns/shop/sa/"
        "cart\",source_app=\"cart\","
        "source_version=\"v2\",source_cluster=\"Kubernetes\",destination_service=\"catalog.shop.svc.cluster."
        "local\","
        "destination_service_namespace=\"shop\",destination_service_name=\"cat\\\"alog\",destination_"
        "workload=\"unknown\","
        "destination_canonical_service=\"unknown\",destination_canonical_revision=\"unknown\","
        "destination_workload_namespace=\"shop\",destination_principal=\"spiffe://cluster.local/ns/shop/sa/"
        "catalog\","
        "destination_app=\"unknown\",destination_version=\"unknown\",destination_cluster=\"Kubernetes\","
        "request_protocol=\"tcp\",response_flags=\"-\",connection_security_policy=\"mutual_tls\",source_"
        "region=\"unknown\","
        "source_zone=\"unknown\",destination_region=\"unknown\",destination_zone=\"unknown\"");
    pg_sb_fini(&out);
}

static void test_statistics(void)
{
    struct hb_metrics a;
    struct hb_metrics b;
    struct hb_totals sum;
    struct hb_gauges g = {.inbound_open = 2, .outbound_open = 3};
    struct hb_process_facts facts = {.tag = "1.2.3"};
    struct hb_conn c = example();
    struct pg_sb out;
    hb_metrics_init(&a);
    hb_metrics_init(&b);
    hb_metrics_series(&a, &c, HB_FLAG_NONE)->v[HB_M_OPENED] = 4;
    hb_metrics_series(&b, &c, HB_FLAG_NONE)->v[HB_M_OPENED] = 5;
    hb_metrics_series(&b, &c, HB_FLAG_CONNECT)->v[HB_M_FAILED] = 1;
    CU_ASSERT_PTR_EQUAL(hb_metrics_series(&a, &c, HB_FLAG_NONE), hb_metrics_series(&a, &c, HB_FLAG_NONE));
    a.n.retries = 7;
    a.dns[3].requests = 2;
    facts.canonical = PG_STR("client");
    hb_totals_init(&sum);
    hb_totals_add(&sum, &a, &g);
    hb_totals_add(&sum, &b, &g);
    pg_sb_init(&out, HB_SCRAPE_MAX);
    hb_totals_text(&sum, &facts, &out);
    CU_ASSERT_EQUAL(out.err, 0);
    CU_ASSERT_PTR_NOT_NULL(
        strstr(out.p, "# TYPE istio_build gauge\nistio_build{component=\"ztunnel\",tag=\"1.2.3\"} 1\n"));
    const char *opened = strstr(out.p, "\nistio_tcp_connections_opened_total{");
    CU_ASSERT_PTR_NOT_NULL_FATAL(opened);
    CU_ASSERT_EQUAL(strncmp(strchr(opened, '}'), "} 9\n", 4), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out.p, "istio_tcp_sockets_open{reporter=\"source\"} 6\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(out.p, "\nisthmus_hbone_retries_total 7\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(out.p, "response_flags=\"CONNECT\""));
    CU_ASSERT_PTR_NOT_NULL(
        strstr(out.p, "istio_dns_requests_total{request_query_type=\"AAAA\",request_protocol=\"tcp\",source_"
                      "canonical_service=\"client\",source_canonical_revision=\"unknown\"} 2\n"));
    CU_ASSERT_PTR_NULL(strstr(out.p, "istio_tcp_sent_bytes")); /* families without a series are left out */
    CU_ASSERT_EQUAL(strcmp(out.p + out.len - 6, "# EOF\n"), 0);
    pg_sb_fini(&out);
    hb_totals_fini(&sum);
    /* Idle label sets go, those in use stay. */
    struct hb_series *s = hb_metrics_series(&b, &c, HB_FLAG_NONE);
    s->idle_since_ms = 1;
    hb_metrics_series(&b, &c, HB_FLAG_CONNECT)->refs = 1;
    hb_metrics_expire(&b, HB_SERIES_IDLE_MS + 2);
    CU_ASSERT_EQUAL(b.map.len, 1);
    hb_metrics_fini(&a);
    hb_metrics_fini(&b);
}

static void test_headers(void)
{
    struct hb_party p = {0};
    hb_baggage_parse(
        PG_STR("k8s.cluster.name=c,k8s.namespace.name=shop, k8s.deployment.name=cart-v2 ,service.name=cart,"
               "service.version=a=b,cloud.region=r,cloud.availability_zone=z,unknown=1,=x,novalue,,"),
        &p);
    CU_ASSERT_TRUE(pg_str_eq_c(p.cluster, "c"));
    CU_ASSERT_TRUE(pg_str_eq_c(p.ns, "shop"));
    CU_ASSERT_TRUE(pg_str_eq_c(p.workload, "cart-v2"));
    CU_ASSERT_TRUE(pg_str_eq_c(p.pod, "cart-v2")); /* what logs call the workload */
    CU_ASSERT_TRUE(pg_str_eq_c(p.canonical, "cart"));
    CU_ASSERT_TRUE(pg_str_eq_c(p.revision, "a=b"));
    CU_ASSERT_TRUE(pg_str_eq_c(p.zone, "z"));
    CU_ASSERT_FALSE(p.known);
    p = (struct hb_party){0};
    hb_baggage_parse(PG_STR("service.name=cart"), &p);
    CU_ASSERT_EQUAL(p.pod.len, 0);
    CU_ASSERT_TRUE(pg_str_eq_c(hb_forwarded_host(PG_STR("for=\"1.2.3.4:5\";host=a.b")), "a.b"));
    CU_ASSERT_TRUE(pg_str_eq_c(hb_forwarded_host(PG_STR("host=\"q.r\" ;for=x")), "q.r"));
    CU_ASSERT_EQUAL(hb_forwarded_host(PG_STR("for=x")).len, 0);
    CU_ASSERT_EQUAL(hb_forwarded_host(PG_STR("host=")).len, 0);
}

TEST_MAIN("hbone records", {"access log", test_access_log}, {"labels", test_labels},
          {"statistics", test_statistics}, {"headers", test_headers})
