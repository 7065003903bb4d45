/* SPDX-License-Identifier: Apache-2.0 */
/* The strict SPIFFE id parser. */
#include "testlib.h"

#include "certs/spiffe.h"

static const char good[] = "spiffe://cluster.local/ns/default/sa/sleep";

static void test_good(void)
{
    struct cert_spiffe s;
    struct pg_sb sb;
    CU_ASSERT_EQUAL(cert_spiffe_parse(PG_STR("spiffe://cluster.local/ns/default/sa/sleep"), &s, NULL), 0);
    CU_ASSERT_TRUE(pg_str_eq_c(s.trust_domain, "cluster.local"));
    CU_ASSERT_TRUE(pg_str_eq_c(s.ns, "default"));
    CU_ASSERT_TRUE(pg_str_eq_c(s.sa, "sleep"));
    pg_sb_init(&sb, 1024);
    cert_spiffe_format(s.trust_domain, s.ns, s.sa, &sb);
    CU_ASSERT_TRUE(pg_str_eq_c(pg_sb_view(&sb), good));
    pg_sb_fini(&sb);
    CU_ASSERT_EQUAL(cert_spiffe_parse(PG_STR("spiffe://one/ns/n.s-1_/sa/Upper.and-low_"), &s, NULL), 0);
}

static void test_bad(void)
{
    static const char *const bad[] = {
        "",
        "spiffe://",
        "spiffe://td",
        "spiffe://td/",
        "spiffe://td/ns/a",
        "spiffe://td/ns/a/sa",
        "spiffe://td/ns/a/sa/",
        "spiffe://td/ns//sa/b",
        "spiffe:///ns/a/sa/b",
        "spiffe://td/ns/a/sa/b/",
        "spiffe://td/ns/a/sa/b/c",
        "spiffe://td//ns/a/sa/b",
        "spiffe://td/NS/a/sa/b",
        "spiffe://td/ns/a/Sa/b",
        "SPIFFE://td/ns/a/sa/b",
        "Spiffe://td/ns/a/sa/b",
        "spiffe://TD/ns/a/sa/b",
        "spiffe://cluster.Local/ns/a/sa/b",
        "spiffe://td:80/ns/a/sa/b",
        "spiffe://u@td/ns/a/sa/b",
        "spiffe://td/ns/a/sa/b?x",
        "spiffe://td/ns/a/sa/b#x",
        "spiffe://td/ns/a/sa/%62",
        "spiffe://td/ns/./sa/b",
        "spiffe://td/ns/../sa/b",
        "spiffe://td/ns/a/sa/..",
        "spiffe://td/ns/a/sa/b c",
        "spiffe://td/ns/a/sa/b\n",
        "spiffe://td/ns/a/sa/\xc3\xa9",
        "spiffe://t\xc3\xa9/ns/a/sa/b",
        "spiffe://td/ns/a/sa/b*",
        "https://td/ns/a/sa/b",
        "spiffe:/td/ns/a/sa/b",
        " spiffe://td/ns/a/sa/b",
        "spiffe://td /ns/a/sa/b",
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(bad); i++) {
        struct cert_spiffe s = {.ns = {good, 1}};
        struct pg_errtext err = {.text = ""};
        CU_ASSERT_EQUAL(cert_spiffe_parse(pg_str_c(bad[i]), &s, &err), PG_E_PARSE);
        CU_ASSERT_TRUE(err.text[0] != '\0');
        CU_ASSERT_TRUE(s.ns.p == good && s.ns.len == 1); /* untouched */
    }
}

/* Any NUL anywhere, and every truncation that is not itself an id. */
static void test_nul_and_cut(void)
{
    char buf[sizeof(good)];
    struct cert_spiffe s;
    for (size_t i = 0; i < sizeof(good) - 1; i++) {
        memcpy(buf, good, sizeof(good));
        buf[i] = '\0';
        CU_ASSERT_EQUAL(cert_spiffe_parse(pg_str_n(buf, sizeof(good) - 1), &s, NULL), PG_E_PARSE);
        int r = cert_spiffe_parse(pg_str_n(good, i), &s, NULL);
        CU_ASSERT_EQUAL(r == 0, i > sizeof(good) - 1 - 5); /* "s", "sl", ... are names, too */
    }
    CU_ASSERT_EQUAL(cert_spiffe_parse(pg_str_n(good, sizeof(good)), &s, NULL), PG_E_PARSE); /* trailing NUL */
}

static void test_length(void)
{
    char buf[CERT_SPIFFE_MAX + 2];
    struct cert_spiffe s;
    const char head[] = "spiffe://td/ns/a/sa/";
    memset(buf, 'x', sizeof(buf));
    memcpy(buf, head, sizeof(head) - 1);
    CU_ASSERT_EQUAL(cert_spiffe_parse(pg_str_n(buf, CERT_SPIFFE_MAX), &s, NULL), 0);
    CU_ASSERT_EQUAL(cert_spiffe_parse(pg_str_n(buf, CERT_SPIFFE_MAX + 1), &s, NULL), PG_E_PARSE);
}

static void test_trust_domain(void)
{
    CU_ASSERT_TRUE(cert_trust_domain_is_valid(PG_STR("cluster.local")));
    CU_ASSERT_TRUE(cert_trust_domain_is_valid(PG_STR("a_b-1")));
    CU_ASSERT_FALSE(cert_trust_domain_is_valid(PG_STR("")));
    CU_ASSERT_FALSE(cert_trust_domain_is_valid(PG_STR("*")));
    CU_ASSERT_FALSE(cert_trust_domain_is_valid(PG_STR("A")));
    CU_ASSERT_FALSE(cert_trust_domain_is_valid(PG_STR("a/b")));
}

TEST_MAIN("spiffe", {"good ids", test_good}, {"bad ids", test_bad}, {"NUL and truncation", test_nul_and_cut},
          {"length", test_length}, {"trust domains", test_trust_domain})
