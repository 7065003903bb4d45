/* SPDX-License-Identifier: Apache-2.0 */
/* The transport contract over TLS: on memory pairs, through a fault injector, over TLS itself. Virtual time.
 */
#include "corpus_ossl.h"
#include "testlib.h"
#include "transport_suite.h"

#include "certs/tls.h"
#include "net/loop_sim.h"

static struct cert_creds *creds;

static void setup(void)
{
    struct corpus_ca *root = corpus_root("root");
    struct corpus_ca *ca = corpus_intermediate(root, "intermediate", NULL);
    struct corpus_pair own = corpus_issue(ca, &(struct corpus_leaf){.uri = {"spiffe://td/ns/a/sa/b"}});
    struct cert_creds_options o = {
        .chain_pem = own.chain, .key_pem = own.key, .roots_pem = corpus_ca_pem(root)};
    struct pg_errtext err = {.text = ""};
    corpus_clock(CORPUS_NOW);
    CU_ASSERT_EQUAL_FATAL(cert_creds_new(&o, &creds, &err), 0);
}

static void teardown(void)
{
    cert_creds_unref(creds);
    creds = NULL;
    corpus_fini();
}

struct recipe {
    size_t cap;
    const struct pg_chaos_options *chaos;
    bool twice;
    uint64_t seed;
};

static const struct cert_expect mesh = {.kind = CERT_EXPECT_MESH};

static int make_tls(struct pg_loop *l, struct pg_transport **a, struct pg_transport **b, void *arg)
{
    struct recipe *r = arg;
    int e = pg_mem_pair(l, r->cap, a, b);
    if (e == 0 && r->chaos != NULL) {
        struct pg_chaos_options o = *r->chaos;
        o.seed = ++r->seed;
        e = pg_chaos_new(l, *a, &o, a);
        if (e == 0) {
            e = pg_chaos_new(l, *b, &o, b);
        }
    }
    for (int i = 0; e == 0 && i < (r->twice ? 2 : 1); i++) {
        e = cert_tls_client(l, *a, creds, &mesh, a);
        if (e == 0) {
            e = cert_tls_server(l, *b, creds, &mesh, b);
        }
    }
    return e;
}

static void suite(struct recipe r)
{
    struct pg_loop *l = NULL;
    size_t before = pg_mem_live_blocks();
    setup();
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&l), 0);
    transport_suite_run(l, make_tls, &r);
    pg_loop_free(l);
    teardown();
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), before);
}

static void test_mem(void)
{
    suite((struct recipe){.cap = 65536});
}

static void test_mem_small(void)
{
    suite((struct recipe){.cap = 100});
}

static void test_chaos(void)
{
    static const struct pg_chaos_options o = {.split_pct = 50,
                                              .again_pct = 20,
                                              .max_piece = 700,
                                              .reset_at_read = UINT64_MAX,
                                              .reset_at_write = UINT64_MAX};
    suite((struct recipe){.cap = 4096, .chaos = &o});
}

static void test_byte_by_byte(void)
{
    static const struct pg_chaos_options o = {
        .split_pct = 100, .max_piece = 1, .reset_at_read = UINT64_MAX, .reset_at_write = UINT64_MAX};
    suite((struct recipe){.cap = 512, .chaos = &o});
}

static void test_tls_in_tls(void)
{
    suite((struct recipe){.cap = 20000, .twice = true});
}

TEST_MAIN("tls", {"over memory", test_mem}, {"over a narrow memory pair", test_mem_small},
          {"over chaos", test_chaos}, {"byte by byte", test_byte_by_byte}, {"TLS in TLS", test_tls_in_tls})
