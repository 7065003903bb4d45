/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The names the mesh answers: the whole look-up table (client in namespace ns1, domain cluster.local), given
 * search domains, order and number of answers, and hostile names.
 */
#include "kit.h"

#include <peering/dns.h>

#include <stdlib.h>

static peering_table *table(void)
{
    peering_table *t = kit_table();
    WL(t, .name = "client", .ips = "10.0.0.1");
    SV(t, .name = "www.google.com", .hostname = "www.google.com", .vips = "/1.1.1.1");
    SV(t, .name = "productpage", .vips = "/9.9.9.9");
    SV(t, .name = "example", .ns = "ns2", .vips = "/10.10.10.10");
    SV(t, .name = "hidden", .ns = "ns2", .vips = "/10.10.10.20", .private_ns = true);
    SV(t, .name = "own", .vips = "/10.10.10.21", .private_ns = true);
    SV(t, .name = "details", .ns = "ns2", .hostname = "details.ns2.svc.cluster.remote",
       .vips = "/11.11.11.11,/12.12.12.12,/13.13.13.13,/14.14.14.14");
    SV(t, .name = "dual", .vips = "/10.10.10.22,/2001:db8::22");
    SV(t, .name = "v6only", .vips = "/2001:db8::23", .families = XDS_IP_V6_ONLY);
    SV(t, .name = "v4only", .vips = "/10.10.10.24,/2001:db8::24", .families = XDS_IP_V4_ONLY);
    SV(t, .name = "w1", .hostname = "*.wildcard", .vips = "/10.10.10.25");
    SV(t, .name = "w2", .hostname = "*.b.wildcard", .vips = "/10.10.10.26");
    SV(t, .name = "w3", .hostname = "*.svc.mesh.company.net", .vips = "/10.10.10.27");
    SV(t, .name = "far", .vips = "remote/10.10.10.28");
    SV(t, .name = "both", .vips = "/10.10.10.29,remote/10.10.10.30");
    SV(t, .name = "headless", .ports = "80:80");
    SV(t, .name = "headless6", .ports = "80:80");
    SV(t, .name = "ext", .hostname = "novip.example.com");
    SV(t, .name = "net", .vips = "/10.10.10.0/24,/10.10.10.31");
    SV(t, .name = "cname", .ns = "ns2", .hostname = "tie.example", .vips = "/10.0.2.2");
    SV(t, .name = "cname", .ns = "ns3", .hostname = "tie.example", .vips = "/10.0.2.3");
    SV(t, .name = "c2", .ns = "ns2", .hostname = "canon.example", .vips = "/10.0.3.2");
    SV(t, .name = "c2", .ns = "ns3", .hostname = "canon.example", .vips = "/10.0.3.3", .canonical = true);
    SV(t, .name = "c3", .ns = "ns1", .hostname = "ownns.example", .vips = "/10.0.4.1");
    SV(t, .name = "c3", .ns = "ns3", .hostname = "ownns.example", .vips = "/10.0.4.3", .canonical = true);
    WL(t, .name = "pod0", .ips = "10.20.0.1,10.20.0.101,2001:db8::1:1",
       .services = "ns1/headless.ns1.svc.cluster.local=80:80");
    WL(t, .name = "pod1", .ips = "10.20.0.2,2001:db8::1:2,2001:db8::1:102",
       .services = "ns1/headless.ns1.svc.cluster.local=80:80");
    WL(t, .name = "pod2", .ips = "10.20.0.3", .unhealthy = true,
       .services = "ns1/headless.ns1.svc.cluster.local=80:80");
    WL(t, .name = "pod6", .ips = "2001:db8::1:9", .services = "ns1/headless6.ns1.svc.cluster.local=80:80");
    return t;
}

static peering_dns_query query(const peering_snapshot *s, const char *name, bool v6)
{
    return (peering_dns_query){.client = peering_find_workload(s, ps("c1//Pod/ns1/client")),
                               .network = ps(""),
                               .cluster_domain = ps("cluster.local"),
                               .name = ps(name),
                               .want_v6 = v6,
                               .ipv6_enabled = true};
}

static int cmp_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* "-" forwarded; else "target:" when there is a CNAME, and the addresses in order of their text. */
static const char *answer_text(const peering_dns_answer *a)
{
    static char out[16384];
    char ips[PEERING_DNS_ANSWERS_MAX][PG_IP_TEXT];
    if (a->result == PEERING_DNS_FORWARD) {
        return "-";
    }
    for (size_t i = 0; i < a->n; i++) {
        struct pg_ip ip = {.len = a->ips[i].len};
        memcpy(ip.b, a->ips[i].bytes, sizeof(ip.b));
        pg_ip_fmt(&ip, ips[i]);
    }
    qsort(ips, a->n, sizeof(ips[0]), cmp_text);
    size_t at = (size_t)snprintf(out, sizeof(out), "%s%s", a->target, a->cname ? ":" : "");
    for (size_t i = 0; i < a->n && at < sizeof(out); i++) {
        at += (size_t)snprintf(out + at, sizeof(out) - at, "%s%s", i != 0 ? " " : "", ips[i]);
    }
    return out;
}

static void test_lookup_table(void)
{
    static const struct {
        const char *name;
        bool v6;
        const char *want;
    } rows[] = {
        {"www.google.com", false, "1.1.1.1"},
        {"WWW.Google.COM", false, "1.1.1.1"},
        {"www.google.com.ns1.svc.cluster.local", false, "www.google.com:1.1.1.1"},
        {"www.google.com.svc.cluster.local", false, "www.google.com:1.1.1.1"},
        {"www.google.com.cluster.local", false, "www.google.com:1.1.1.1"},
        {"www.bing.com", false, "-"},
        {"productpage.ns1.svc.cluster.local", false, "9.9.9.9"},
        {"productpage.ns1.svc", false, "9.9.9.9"},
        {"productpage.ns1", false, "9.9.9.9"},
        {"productpage", false, "9.9.9.9"},
        {"productpage.ns1.ns1.svc.cluster.local", false, "productpage.ns1:9.9.9.9"},
        {"productpage.ns1.ns1.svc.cluster.local", true, "productpage.ns1:"},
        {"productpage.ns1.svc.cluster.local", true, ""},
        {"example.ns2.svc.cluster.local", false, "10.10.10.10"},
        {"example.ns2.svc", false, "10.10.10.10"},
        {"example.ns2", false, "10.10.10.10"},
        {"example", false, "-"},
        {"hidden.ns2.svc.cluster.local", false, "-"},
        {"hidden.ns2", false, "-"},
        {"own", false, "10.10.10.21"},
        {"own.ns1", false, "10.10.10.21"},
        {"details.ns2.svc.cluster.remote", false, "11.11.11.11 12.12.12.12 13.13.13.13 14.14.14.14"},
        {"details.ns2", false, "-"},
        {"details.ns2.svc", false, "-"},
        {"dual", false, "10.10.10.22"},
        {"dual", true, "2001:db8::22"},
        {"v6only", false, ""},
        {"v6only", true, "2001:db8::23"},
        {"v4only", true, ""},
        {"v4only", false, "10.10.10.24"},
        {"foo.wildcard", false, "10.10.10.25"},
        {"wildcard", false, "-"},
        {"a.b.wildcard", false, "10.10.10.26"},
        {"x.y.b.wildcard", false, "10.10.10.26"},
        {"x.c.wildcard", false, "10.10.10.25"},
        {"foo.svc.mesh.company.net", false, "10.10.10.27"},
        {"foo.foons.svc.mesh.company.net", false, "10.10.10.27"},
        {"foo.svc.mesh.company.net.ns1.svc.cluster.local", false, "10.10.10.27"},
        {"far", false, ""},
        {"both", false, "10.10.10.29"},
        {"headless", false, "10.20.0.1 10.20.0.2"},
        {"headless.ns1.svc.cluster.local", true, "2001:db8::1:1 2001:db8::1:2"},
        {"headless6", false, ""},
        {"headless6", true, "2001:db8::1:9"},
        {"headless.pod0.ns1.svc.cluster.local", false, "-"},
        {"novip.example.com", false, "-"},
        {"net", false, "10.10.10.31"}, /* a prefix is no answer */
        {"tie.example", false, "10.0.2.2"},
        {"canon.example", false, "10.0.3.3"},
        {"ownns.example", false, "10.0.4.1"},
        {"nobody.shop.mesh.internal", false, ""}, /* answered: there is none */
        {"NOBODY.mesh.Internal", true, ""},
        {"mesh.internal", false, "-"},
        {"nobody.notmesh.internal", false, "-"},
        {"", false, "-"},
        {".", false, "-"},
        {"..", false, "-"},
    };
    peering_table *t = table();
    peering_snapshot *s = kit_snapshot(t);
    peering_dns_answer a;
    for (size_t i = 0; i < PG_ARRAY_LEN(rows); i++) {
        peering_dns_query q = query(s, rows[i].name, rows[i].v6);
        peering_dns_lookup(s, &q, &a);
        CU_ASSERT_STRING_EQUAL(answer_text(&a), rows[i].want);
        CU_ASSERT_EQUAL(a.service == NULL,
                        a.result == PEERING_DNS_FORWARD || strncasecmp(rows[i].name, "nobody", 6) == 0);
        if (strcmp(answer_text(&a), rows[i].want) != 0) {
            fprintf(stderr, "row %zu: %s: got %s, want %s\n", i, rows[i].name, answer_text(&a), rows[i].want);
        }
    }
    peering_snapshot_unref(s);
    peering_table_free(t);
}

static void test_options(void)
{
    peering_table *t = table();
    peering_snapshot *s = kit_snapshot(t);
    peering_dns_answer a;
    peering_dns_query q = query(s, "tie.example", false);
    q.preferred_namespace = ps("ns3");
    peering_dns_lookup(s, &q, &a);
    CU_ASSERT_STRING_EQUAL(answer_text(&a), "10.0.2.3");
    q.name = ps("canon.example"); /* canonical beats preferred, own beats both */
    q.preferred_namespace = ps("ns2");
    peering_dns_lookup(s, &q, &a);
    CU_ASSERT_STRING_EQUAL(answer_text(&a), "10.0.3.3");
    q.name = ps("ownns.example");
    q.preferred_namespace = ps("ns3");
    peering_dns_lookup(s, &q, &a);
    CU_ASSERT_STRING_EQUAL(answer_text(&a), "10.0.4.1");
    q = query(s, "dual", true);
    q.ipv6_enabled = false;
    peering_dns_lookup(s, &q, &a);
    CU_ASSERT_STRING_EQUAL(answer_text(&a), "");
    q = query(s, "both", false);
    q.network = ps("remote");
    peering_dns_lookup(s, &q, &a);
    CU_ASSERT_STRING_EQUAL(answer_text(&a), "10.10.10.30");
    /* given search domains replace the computed ones */
    const peering_str search[] = {ps("first.example"), ps("Corp.Example.")};
    q = query(s, "www.google.com.corp.example", false);
    q.search = search;
    q.n_search = 2;
    peering_dns_lookup(s, &q, &a);
    CU_ASSERT_STRING_EQUAL(answer_text(&a), "www.google.com:1.1.1.1");
    q.name = ps("www.google.com.ns1.svc.cluster.local");
    peering_dns_lookup(s, &q, &a);
    CU_ASSERT_STRING_EQUAL(answer_text(&a), "-");
    q.name = ps("www.google.comcorp.example"); /* not at a label's border */
    peering_dns_lookup(s, &q, &a);
    CU_ASSERT_STRING_EQUAL(answer_text(&a), "-");
    q.name = ps("corp.example");
    peering_dns_lookup(s, &q, &a);
    CU_ASSERT_STRING_EQUAL(answer_text(&a), "-");
    /* without a client: names as asked */
    q = query(s, "www.google.com", false);
    q.client = NULL;
    peering_dns_lookup(s, &q, &a);
    CU_ASSERT_STRING_EQUAL(answer_text(&a), "1.1.1.1");
    peering_snapshot_unref(s);
    peering_table_free(t);
}

static void test_health(void)
{
    peering_table *t = table();
    SV(t, .name = "headless", .ports = "80:80", .allow_all = true);
    peering_snapshot *s = kit_snapshot(t);
    peering_dns_answer a;
    peering_dns_query q = query(s, "headless", false);
    peering_dns_lookup(s, &q, &a);
    CU_ASSERT_STRING_EQUAL(answer_text(&a), "10.20.0.1 10.20.0.2 10.20.0.3");
    peering_snapshot_unref(s);
    peering_table_free(t);
}

/* 600 endpoints: 256 answers, all different, and over many questions every endpoint comes up. */
static void test_many(void)
{
    peering_table *t = kit_table();
    bool seen[600] = {false};
    size_t missing = 0;
    size_t firsts = 0;
    peering_dns_answer a;
    peering_ip first = {.len = 0};
    WL(t, .name = "client", .ips = "10.0.0.1");
    SV(t, .name = "big", .ports = "80:80");
    for (unsigned i = 0; i < 600; i++) {
        char name[16], ip[32];
        snprintf(name, sizeof(name), "p%u", i);
        snprintf(ip, sizeof(ip), "10.9.%u.%u", i / 200, i % 200);
        WL(t, .name = name, .ips = ip, .services = "ns1/big.ns1.svc.cluster.local=80:80");
    }
    peering_snapshot *s = kit_snapshot(t);
    for (uint64_t k = 0; k < 50; k++) {
        peering_dns_query q = query(s, "big", false);
        bool now[600] = {false};
        q.random = k;
        peering_dns_lookup(s, &q, &a);
        CU_ASSERT_EQUAL_FATAL(a.n, PEERING_DNS_ANSWERS_MAX);
        for (size_t i = 0; i < a.n; i++) {
            size_t at = a.ips[i].bytes[2] * 200u + a.ips[i].bytes[3];
            CU_ASSERT_FALSE(now[at]);
            now[at] = seen[at] = true;
        }
        firsts += memcmp(&first, &a.ips[0], sizeof(first)) != 0;
        first = a.ips[0];
    }
    for (size_t i = 0; i < 600; i++) {
        missing += !seen[i];
    }
    CU_ASSERT_EQUAL(missing, 0);
    CU_ASSERT(firsts > 30);
    peering_snapshot_unref(s);
    peering_table_free(t);
}

static void test_hostile(void)
{
    peering_table *t = table();
    peering_snapshot *s = kit_snapshot(t);
    peering_dns_answer a;
    char name[600];
    for (size_t len = 1; len < sizeof(name); len++) {
        for (size_t i = 0; i < len; i++) {
            name[i] = i % 2 == 0 ? 'a' : '.';
        }
        peering_dns_query q = query(s, "", false);
        q.name = (peering_str){name, len};
        peering_dns_lookup(s, &q, &a);
        CU_ASSERT_EQUAL(a.result, PEERING_DNS_FORWARD);
        memset(name, 'x', len);
        peering_dns_lookup(s, &q, &a);
        CU_ASSERT_EQUAL(a.result, PEERING_DNS_FORWARD);
    }
    /* the longest stripped name fits the target */
    memset(name, 'x', sizeof(name));
    memcpy(name + 253 - 23, ".ns1.svc.cluster.local", 22);
    peering_dns_query q = query(s, "", false);
    q.name = (peering_str){name, 252};
    peering_dns_lookup(s, &q, &a);
    CU_ASSERT_EQUAL(a.result, PEERING_DNS_FORWARD);
    peering_snapshot_unref(s);
    peering_table_free(t);
}

TEST_MAIN("dns", {"look-up table", test_lookup_table}, {"options", test_options}, {"health", test_health},
          {"many answers", test_many}, {"hostile names", test_hostile})
