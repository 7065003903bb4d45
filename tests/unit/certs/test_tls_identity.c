/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is accepted and what a refused side reads: the SVID corpus, expectations, trust domains, times, ALPN,
 * alerts, truncation. Two ends in one process over a memory pair, virtual time.
 */
#include "corpus_ossl.h"
#include "testlib.h"

#include "certs/tls.h"
#include "net/loop_sim.h"

#define CLIENT_ID "spiffe://td/ns/a/sa/client"
#define SERVER_ID "spiffe://td/ns/a/sa/server"

static struct corpus_ca *root;
static struct corpus_ca *foreign;

static void begin(void)
{
    corpus_clock(CORPUS_NOW);
    root = corpus_root("mesh root");
    foreign = corpus_root("foreign root");
}

static struct cert_creds *creds_of(const struct corpus_pair *own, struct pg_str roots, const char *domain)
{
    struct pg_str td = pg_str_c(domain);
    struct cert_creds_options o = {
        .roots_pem = roots, .trust_domains = &td, .n_trust_domains = domain != NULL};
    struct cert_creds *c = NULL;
    struct pg_errtext err = {.text = ""};
    if (own != NULL) {
        o.chain_pem = own->chain;
        o.key_pem = own->key;
    }
    int r = cert_creds_new(&o, &c, &err);
    if (r < 0) {
        fprintf(stderr, "creds: %s\n", err.text);
    }
    CU_ASSERT_EQUAL(r, 0);
    return c;
}

struct link {
    struct pg_loop *l;
    struct pg_transport *c, *s;
    unsigned c_calls, s_calls;
};

static void on_c(struct pg_transport *t, unsigned rw, void *arg)
{
    (void)t;
    (void)rw;
    ((struct link *)arg)->c_calls++;
}

static void on_s(struct pg_transport *t, unsigned rw, void *arg)
{
    (void)t;
    (void)rw;
    ((struct link *)arg)->s_calls++;
}

static void link_make(struct link *k, struct cert_creds *cc, const struct cert_expect *ce,
                      struct cert_creds *sc, const struct cert_expect *se)
{
    *k = (struct link){0};
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&k->l), 0);
    CU_ASSERT_EQUAL_FATAL(pg_mem_pair(k->l, 65536, &k->c, &k->s), 0);
    CU_ASSERT_EQUAL_FATAL(cert_tls_client(k->l, k->c, cc, ce, &k->c), 0);
    CU_ASSERT_EQUAL_FATAL(cert_tls_server(k->l, k->s, sc, se, &k->s), 0);
    pg_transport_set_owner(k->c, on_c, k);
    pg_transport_set_owner(k->s, on_s, k);
    pg_transport_want(k->c, PG_READ);
    pg_transport_want(k->s, PG_READ);
    (void)pg_loop_sim_settle(k->l, 100);
}

static void link_end(struct link *k)
{
    pg_transport_close(k->c);
    pg_transport_close(k->s);
    pg_loop_free(k->l);
}

static const struct cert_expect mesh = {.kind = CERT_EXPECT_MESH};
static const struct cert_expect optional = {.kind = CERT_EXPECT_OPTIONAL};

/* `own` as a client to a good server: the server's status, its text, and what the client reads. */
static int try_client(const struct corpus_pair *own, struct pg_errtext *server_text,
                      struct pg_errtext *client_text)
{
    struct corpus_pair good = corpus_issue(root, &(struct corpus_leaf){.uri = {SERVER_ID}});
    struct cert_creds *sc = creds_of(&good, corpus_ca_pem(root), NULL);
    struct corpus_peer *peer = corpus_peer_new(false, own, corpus_ca_pem(root), "\x02h2", 3, 0);
    struct pg_loop *l = NULL;
    struct pg_transport *near = NULL;
    struct pg_transport *far = NULL;
    struct pg_transport *s = NULL;
    struct pg_sb out;
    char buf[4096];
    pg_sb_init(&out, 1u << 20);
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&l), 0);
    CU_ASSERT_EQUAL_FATAL(pg_mem_pair(l, 65536, &near, &far), 0);
    CU_ASSERT_EQUAL_FATAL(cert_tls_server(l, far, sc, &mesh, &s), 0);
    int established = corpus_peer_step(peer, NULL, 0, &out);
    for (int i = 0; i < 10; i++) {
        if (out.len > 0) {
            CU_ASSERT_EQUAL(pg_transport_write(near, out.p, out.len), (ssize_t)out.len);
            pg_sb_reset(&out);
        }
        (void)pg_loop_sim_settle(l, 50);
        ssize_t n = pg_transport_read(near, buf, sizeof(buf));
        established = corpus_peer_step(peer, buf, n > 0 ? (size_t)n : 0, &out);
    }
    (void)established;
    int r = pg_transport_status(s);
    pg_err_set(server_text, "%s", pg_transport_error_text(s));
    pg_err_set(client_text, "%d", corpus_peer_alert(peer));
    if (r == 1) {
        CU_ASSERT_TRUE(cert_tls_peer_id(s).len > 0);
    } else {
        CU_ASSERT_EQUAL(cert_tls_peer_id(s).len, 0);
        CU_ASSERT_EQUAL(pg_transport_read(s, buf, sizeof(buf)), r);
        CU_ASSERT_EQUAL(pg_transport_write(s, "x", 1), r);
    }
    pg_transport_close(s);
    pg_transport_close(near);
    pg_loop_free(l);
    pg_sb_fini(&out);
    corpus_peer_free(peer);
    cert_creds_unref(sc);
    return r;
}

struct bad_svid {
    const char *name;
    struct corpus_leaf leaf;
    bool foreign;
    const char *words;
    const char *alert;
};

static void test_corpus(void)
{
    static const char nul_id[] = "spiffe://td/ns/a/sa/b\0.evil";
    static const char nul_td[] = "spiffe://td\0.evil/ns/a/sa/b";
    const struct bad_svid bad[] = {
        {"two URIs", {.uri = {CLIENT_ID, "spiffe://td/ns/b/sa/c"}}, false, "more than one URI SAN", "42"},
        {"the same URI twice", {.uri = {CLIENT_ID, CLIENT_ID}}, false, "more than one URI SAN", "42"},
        {"a second foreign URI", {.uri = {CLIENT_ID, "https://x/"}}, false, "more than one URI SAN", "42"},
        {"no URI", {.dns = "a.example"}, false, "no URI SAN", "42"},
        {"no SAN", {.ca = false}, false, "no usable SAN", "42"},
        {"two SAN extensions", {.uri = {CLIENT_ID}, .two_san_extensions = true}, false, "", "48"},
        {"NUL in the id", {.uri = {nul_id}, .uri_len = {sizeof(nul_id) - 1}}, false, "invalid path", "42"},
        {"NUL in the domain",
         {.uri = {nul_td}, .uri_len = {sizeof(nul_td) - 1}},
         false,
         "invalid trust domain",
         "42"},
        {"CA leaf", {.uri = {CLIENT_ID}, .ca = true}, false, "is a CA", "42"},
        {"keyCertSign",
         {.uri = {CLIENT_ID}, .key_usage = "critical,digitalSignature,keyCertSign"},
         false,
         "may sign certificates",
         "42"},
        {"cRLSign",
         {.uri = {CLIENT_ID}, .key_usage = "critical,digitalSignature,cRLSign"},
         false,
         "may sign certificates",
         "42"},
        {"wrong domain",
         {.uri = {"spiffe://other/ns/a/sa/b"}},
         false,
         "identity verification error: peer did not present the expected trustdomain (td), got "
         "spiffe://other/ns/a/sa/b",
         "42"},
        {"upper case", {.uri = {"spiffe://TD/ns/a/sa/b"}}, false, "invalid trust domain", "42"},
        {"upper case scheme", {.uri = {"SPIFFE://td/ns/a/sa/b"}}, false, "not a SPIFFE id", "42"},
        {"root path", {.uri = {"spiffe://td"}}, false, "not of the form", "42"},
        {"expired",
         {.uri = {CLIENT_ID}, .not_before = CORPUS_NOW - 100, .not_after = CORPUS_NOW - 1},
         false,
         "certificate has expired or is not yet valid",
         "45"},
        {"not yet valid",
         {.uri = {CLIENT_ID}, .not_before = CORPUS_NOW + 1},
         false,
         "certificate has expired or is not yet valid",
         "42"},
        {"foreign root", {.uri = {CLIENT_ID}}, true, "certificate signed by unknown authority", "48"},
        {"server only", {.uri = {CLIENT_ID}, .eku = "serverAuth"}, false, "incompatible key usage", "43"},
    };
    begin();
    for (size_t i = 0; i < PG_ARRAY_LEN(bad); i++) {
        struct pg_errtext why = {.text = ""};
        struct pg_errtext alert = {.text = ""};
        struct corpus_pair p = corpus_issue(bad[i].foreign ? foreign : root, &bad[i].leaf);
        int r = try_client(&p, &why, &alert);
        if (r != PG_E_UNTRUSTED || strstr(why.text, bad[i].words) == NULL ||
            strcmp(alert.text, bad[i].alert) != 0) {
            fprintf(stderr, "%s: %s, \"%s\", alert %s\n", bad[i].name, pg_err_name(r), why.text, alert.text);
        }
        CU_ASSERT_EQUAL(r, PG_E_UNTRUSTED);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, bad[i].words));
        CU_ASSERT_STRING_EQUAL(alert.text, bad[i].alert);
    }
    corpus_fini();
}

static void test_good_svids(void)
{
    const struct corpus_leaf good[] = {
        {.uri = {CLIENT_ID}},
        {.uri = {CLIENT_ID}, .rsa = true},
        {.uri = {CLIENT_ID}, .eku = "clientAuth"},
        {.uri = {CLIENT_ID}, .eku = ""},
        {.uri = {CLIENT_ID}, .dns = "also.example", .email = "a@b"},
        {.uri = {CLIENT_ID}, .not_before = CORPUS_NOW, .not_after = CORPUS_NOW + 1},
    };
    begin();
    for (size_t i = 0; i < PG_ARRAY_LEN(good); i++) {
        struct pg_errtext why = {.text = ""};
        struct pg_errtext alert = {.text = ""};
        struct corpus_pair p = corpus_issue(root, &good[i]);
        CU_ASSERT_EQUAL(try_client(&p, &why, &alert), 1);
        CU_ASSERT_STRING_EQUAL(why.text, "");
        CU_ASSERT_STRING_EQUAL(alert.text, "-1");
    }
    struct corpus_ca *mid = corpus_intermediate(root, "intermediate", NULL);
    struct pg_errtext why = {.text = ""};
    struct pg_errtext alert = {.text = ""};
    struct corpus_pair p = corpus_issue(mid, &good[0]);
    CU_ASSERT_EQUAL(try_client(&p, &why, &alert), 1);
    corpus_fini();
}

static void test_no_client_certificate(void)
{
    struct pg_errtext why = {.text = ""};
    struct pg_errtext alert = {.text = ""};
    begin();
    CU_ASSERT_EQUAL(try_client(NULL, &why, &alert), PG_E_UNTRUSTED);
    CU_ASSERT_STRING_EQUAL(why.text, "tls: client didn't provide a certificate");
    CU_ASSERT_STRING_EQUAL(alert.text, "116");
    corpus_fini();
}

/* Both ends ours: identities, and what a client reads when the server refuses it after its own handshake was
 * over. */
static void test_both_ours(void)
{
    struct link k;
    char c;
    begin();
    struct corpus_pair cp = corpus_issue(root, &(struct corpus_leaf){.uri = {CLIENT_ID}});
    struct corpus_pair sp =
        corpus_issue(root, &(struct corpus_leaf){.uri = {SERVER_ID}, .not_after = CORPUS_NOW + 777});
    struct corpus_pair fp = corpus_issue(foreign, &(struct corpus_leaf){.uri = {CLIENT_ID}});
    struct cert_creds *cc = creds_of(&cp, corpus_ca_pem(root), NULL);
    struct cert_creds *sc = creds_of(&sp, corpus_ca_pem(root), NULL);
    struct cert_creds *fc = creds_of(&fp, corpus_ca_pem(root), NULL);
    struct pg_str names[] = {PG_STR("spiffe://td/ns/z/sa/z"), PG_STR(SERVER_ID)};
    struct cert_expect want = {.kind = CERT_EXPECT_SPIFFE, .names = names, .n_names = 2};

    CU_ASSERT_TRUE(pg_str_eq_c(cert_creds_identity(cc), CLIENT_ID));
    CU_ASSERT_EQUAL(cert_creds_not_after(sc), CORPUS_NOW + 777);
    link_make(&k, cc, &want, sc, &mesh);
    CU_ASSERT_EQUAL(pg_transport_status(k.c), 1);
    CU_ASSERT_EQUAL(pg_transport_status(k.s), 1);
    CU_ASSERT_TRUE(pg_str_eq_c(cert_tls_peer_id(k.c), SERVER_ID));
    CU_ASSERT_TRUE(pg_str_eq_c(cert_tls_peer_id(k.s), CLIENT_ID));
    CU_ASSERT_EQUAL(cert_tls_peer_not_after(k.c), CORPUS_NOW + 777);
    CU_ASSERT_STRING_EQUAL(cert_tls_lower(k.c)->ops->name, "mem");
    link_end(&k);

    want.n_names = 1; /* only the wrong one */
    link_make(&k, cc, &want, sc, &mesh);
    CU_ASSERT_EQUAL(pg_transport_status(k.c), PG_E_UNTRUSTED);
    CU_ASSERT_STRING_EQUAL(
        pg_transport_error_text(k.c),
        "identity verification error: peer did not present the expected SAN (spiffe://td/ns/z/sa/z), got "
        "spiffe://td/ns/a/sa/server");
    CU_ASSERT_EQUAL(pg_transport_status(k.s), PG_E_TLS);
    CU_ASSERT_STRING_EQUAL(pg_transport_error_text(k.s), "remote error: tls: bad certificate");
    CU_ASSERT_TRUE(k.c_calls > 0 && k.s_calls > 0);
    link_end(&k);

    want.n_names = 0; /* an empty expectation accepts nobody */
    link_make(&k, cc, &want, sc, &mesh);
    CU_ASSERT_EQUAL(pg_transport_status(k.c), PG_E_UNTRUSTED);
    link_end(&k);

    link_make(&k, fc, &mesh, sc, &mesh); /* the client trusts the server, not the other way round */
    CU_ASSERT_EQUAL(pg_transport_status(k.s), PG_E_UNTRUSTED);
    CU_ASSERT_EQUAL(pg_transport_read(k.c, &c, 1), PG_E_TLS);
    CU_ASSERT_STRING_EQUAL(pg_transport_error_text(k.c), "remote error: tls: unknown certificate authority");
    CU_ASSERT_EQUAL(pg_transport_status(k.c), PG_E_TLS);
    link_end(&k);

    cert_creds_unref(cc);
    cert_creds_unref(sc);
    cert_creds_unref(fc);
    corpus_fini();
}

/* The refusing server closes at once; a client that was writing must learn the reason, not just a reset. */
static void test_alert_beats_reset(void)
{
    struct link k;
    begin();
    struct corpus_pair sp = corpus_issue(root, &(struct corpus_leaf){.uri = {SERVER_ID}});
    struct corpus_pair fp = corpus_issue(foreign, &(struct corpus_leaf){.uri = {CLIENT_ID}});
    struct cert_creds *sc = creds_of(&sp, corpus_ca_pem(root), NULL);
    struct cert_creds *fc = creds_of(&fp, corpus_ca_pem(root), NULL);
    link_make(&k, fc, &mesh, sc, &mesh);
    pg_transport_close(k.s);
    (void)pg_loop_sim_settle(k.l, 20);
    ssize_t n = 1;
    for (int i = 0; i < 5 && n > 0; i++) {
        n = pg_transport_write(k.c, "hello", 5);
        (void)pg_loop_sim_settle(k.l, 20);
    }
    CU_ASSERT_EQUAL(n, PG_E_TLS);
    CU_ASSERT_STRING_EQUAL(pg_transport_error_text(k.c), "remote error: tls: unknown certificate authority");
    pg_transport_close(k.c);
    pg_loop_free(k.l);
    cert_creds_unref(sc);
    cert_creds_unref(fc);
    corpus_fini();
}

static void test_dns(void)
{
    struct link k;
    begin();
    struct corpus_pair sp = corpus_issue(root, &(struct corpus_leaf){.dns = "istiod.istio-system.svc"});
    struct corpus_pair wp =
        corpus_issue(root, &(struct corpus_leaf){.dns = "*.mesh.example", .uri = {SERVER_ID}});
    struct cert_creds *cc = creds_of(NULL, corpus_ca_pem(root), NULL); /* no certificate of its own */
    struct cert_creds *sc = creds_of(&sp, corpus_ca_pem(root), "td");
    struct cert_creds *wc = creds_of(&wp, corpus_ca_pem(root), NULL);
    struct corpus_pair np =
        corpus_issue(root, &(struct corpus_leaf){.cn = "istiod.istio-system.svc", .uri = {SERVER_ID}});
    struct cert_creds *nc = creds_of(&np, corpus_ca_pem(root), NULL);
    struct pg_str only_cn = PG_STR("istiod.istio-system.svc");
    struct cert_expect want_cn = {.kind = CERT_EXPECT_DNS, .names = &only_cn, .n_names = 1};
    link_make(&k, cc, &want_cn, nc, &optional); /* a common name is no name */
    CU_ASSERT_EQUAL(pg_transport_status(k.c), PG_E_UNTRUSTED);
    link_end(&k);
    cert_creds_unref(nc);
    static const struct {
        const char *name;
        bool plain, wild;
    } cases[] = {
        {"istiod.istio-system.svc", true, false},
        {"ISTIOD.istio-system.svc", true, false},
        {"istiod.istio-system", false, false},
        {"a.mesh.example", false, true},
        {"a.b.mesh.example", false, false},
        {"mesh.example", false, false},
        {"10.0.0.1", false, false},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(cases); i++) {
        struct pg_str name = pg_str_c(cases[i].name);
        struct cert_expect want = {.kind = CERT_EXPECT_DNS, .names = &name, .n_names = 1};
        link_make(&k, cc, &want, sc, &optional);
        CU_ASSERT_EQUAL(pg_transport_status(k.c), cases[i].plain ? 1 : PG_E_UNTRUSTED);
        if (cases[i].plain) {
            CU_ASSERT_EQUAL(pg_transport_status(k.s), 1);
            CU_ASSERT_EQUAL(cert_tls_peer_id(k.s).len, 0); /* anonymous */
            CU_ASSERT_EQUAL(cert_tls_peer_id(k.c).len, 0);
        } else {
            CU_ASSERT_PTR_NOT_NULL(strstr(pg_transport_error_text(k.c), cases[i].name));
        }
        link_end(&k);
        link_make(&k, cc, &want, wc, &optional);
        CU_ASSERT_EQUAL(pg_transport_status(k.c), cases[i].wild ? 1 : PG_E_UNTRUSTED);
        link_end(&k);
    }
    cert_creds_unref(cc);
    cert_creds_unref(sc);
    cert_creds_unref(wc);
    corpus_fini();
}

static void test_optional(void)
{
    struct link k;
    begin();
    struct corpus_pair sp = corpus_issue(root, &(struct corpus_leaf){.uri = {SERVER_ID}});
    struct corpus_pair cp = corpus_issue(root, &(struct corpus_leaf){.uri = {CLIENT_ID}});
    struct corpus_pair fp = corpus_issue(foreign, &(struct corpus_leaf){.uri = {CLIENT_ID}});
    struct cert_creds *sc = creds_of(&sp, corpus_ca_pem(root), NULL);
    struct cert_creds *cc = creds_of(&cp, corpus_ca_pem(root), NULL);
    struct cert_creds *fc = creds_of(&fp, corpus_ca_pem(root), NULL);
    struct cert_creds *ac = creds_of(NULL, corpus_ca_pem(root), "td");
    link_make(&k, cc, &mesh, sc, &optional);
    CU_ASSERT_EQUAL(pg_transport_status(k.s), 1);
    CU_ASSERT_TRUE(pg_str_eq_c(cert_tls_peer_id(k.s), CLIENT_ID));
    link_end(&k);
    link_make(&k, ac, &mesh, sc, &optional);
    CU_ASSERT_EQUAL(pg_transport_status(k.s), 1);
    CU_ASSERT_EQUAL(cert_tls_peer_id(k.s).len, 0);
    link_end(&k);
    link_make(&k, fc, &mesh, sc, &optional); /* a bad certificate is no certificate for nobody */
    CU_ASSERT_EQUAL(pg_transport_status(k.s), PG_E_UNTRUSTED);
    link_end(&k);
    cert_creds_unref(sc);
    cert_creds_unref(cc);
    cert_creds_unref(fc);
    cert_creds_unref(ac);
    corpus_fini();
}

static void test_trust_domains(void)
{
    struct link k;
    begin();
    struct corpus_pair sp = corpus_issue(root, &(struct corpus_leaf){.uri = {SERVER_ID}});
    struct corpus_pair op = corpus_issue(root, &(struct corpus_leaf){.uri = {"spiffe://other/ns/a/sa/b"}});
    struct cert_creds *oc = creds_of(&op, corpus_ca_pem(root), "td");
    static const struct {
        const char *domain;
        int status;
    } cases[] = {
        {NULL, PG_E_UNTRUSTED}, {"td", PG_E_UNTRUSTED}, {"other", 1}, {"*", 1}, {"othe", PG_E_UNTRUSTED}};
    for (size_t i = 0; i < PG_ARRAY_LEN(cases); i++) {
        struct cert_creds *sc = creds_of(&sp, corpus_ca_pem(root), cases[i].domain);
        link_make(&k, oc, &mesh, sc, &mesh);
        CU_ASSERT_EQUAL(pg_transport_status(k.s), cases[i].status);
        link_end(&k);
        cert_creds_unref(sc);
    }
    /* no own identity and no list: no SPIFFE peer at all */
    struct cert_creds *none = creds_of(NULL, corpus_ca_pem(root), NULL);
    struct cert_creds *sc = creds_of(&sp, corpus_ca_pem(root), NULL);
    link_make(&k, none, &mesh, sc, &optional);
    CU_ASSERT_EQUAL(pg_transport_status(k.c), PG_E_UNTRUSTED);
    link_end(&k);
    cert_creds_unref(none);
    cert_creds_unref(sc);
    cert_creds_unref(oc);
    corpus_fini();
}

/* Roots of one name, as every makefile mesh has them: none is mistaken for another, in any order of the
 * bundle, and the errors stay the ones operators know. */
static void test_roots_of_one_name(void)
{
    struct corpus_ca *r[3];
    struct link k;
    struct pg_sb both;
    begin();
    for (size_t i = 0; i < 3; i++) {
        r[i] = corpus_root("Root CA");
    }
    struct cert_creds *own[3];
    for (size_t i = 0; i < 3; i++) { /* without key ids, as the makefile's intermediates */
        struct corpus_ca *mid = corpus_intermediate(r[i], "Intermediate CA", NULL);
        struct corpus_pair p = corpus_issue(mid, &(struct corpus_leaf){.uri = {CLIENT_ID}});
        own[i] = creds_of(&p, corpus_ca_pem(r[0]), NULL);
    }
    pg_sb_init(&both, 65536);
    pg_sb_str(&both, corpus_ca_pem(r[0]));
    pg_sb_str(&both, corpus_ca_pem(foreign));
    pg_sb_str(&both, corpus_ca_pem(r[1]));
    pg_sb_str(&both, corpus_ca_pem(r[0]));
    struct corpus_pair sp = corpus_issue(r[0], &(struct corpus_leaf){.uri = {SERVER_ID}});
    struct corpus_pair old =
        corpus_issue(r[1], &(struct corpus_leaf){.uri = {CLIENT_ID}, .not_after = CORPUS_NOW - 1});
    struct corpus_pair server_only =
        corpus_issue(r[1], &(struct corpus_leaf){.uri = {CLIENT_ID}, .eku = "serverAuth"});
    struct cert_creds *sc = creds_of(&sp, pg_sb_view(&both), NULL);
    for (size_t i = 0; i < 3; i++) {
        link_make(&k, own[i], &mesh, sc, &mesh);
        CU_ASSERT_EQUAL(pg_transport_status(k.s), i < 2 ? 1 : PG_E_UNTRUSTED);
        if (i == 2) {
            char c;
            CU_ASSERT_PTR_NOT_NULL(
                strstr(pg_transport_error_text(k.s), "certificate signed by unknown authority"));
            CU_ASSERT_EQUAL(pg_transport_read(k.c, &c, 1), PG_E_TLS);
            CU_ASSERT_STRING_EQUAL(pg_transport_error_text(k.c),
                                   "remote error: tls: unknown certificate authority");
        }
        link_end(&k);
        cert_creds_unref(own[i]);
    }
    const struct {
        const struct corpus_pair *pair;
        const char *words;
    } bad[] = {{&old, "expired"}, {&server_only, "incompatible key usage"}};
    for (size_t i = 0; i < 2; i++) { /* the other store's error is the one to tell */
        struct cert_creds *c = creds_of(bad[i].pair, corpus_ca_pem(r[0]), NULL);
        link_make(&k, c, &mesh, sc, &mesh);
        CU_ASSERT_EQUAL(pg_transport_status(k.s), PG_E_UNTRUSTED);
        CU_ASSERT_PTR_NOT_NULL(strstr(pg_transport_error_text(k.s), bad[i].words));
        link_end(&k);
        cert_creds_unref(c);
    }
    cert_creds_unref(sc);
    pg_sb_fini(&both);
    corpus_fini();
}

/* The clock of core/clock.h decides, not the kernel's. */
static void test_clock(void)
{
    struct link k;
    begin();
    struct corpus_pair p = corpus_issue(root, &(struct corpus_leaf){.uri = {SERVER_ID}});
    struct cert_creds *c = creds_of(&p, corpus_ca_pem(root), NULL);
    static const struct {
        int64_t at;
        int status;
    } cases[] = {{CORPUS_NOW - 3601, PG_E_UNTRUSTED},
                 {CORPUS_NOW - 3600, 1},
                 {CORPUS_NOW + 86399, 1},
                 {CORPUS_NOW + 86400, PG_E_UNTRUSTED}};
    for (size_t i = 0; i < PG_ARRAY_LEN(cases); i++) {
        corpus_clock(cases[i].at);
        link_make(&k, c, &mesh, c, &mesh);
        CU_ASSERT_EQUAL(pg_transport_status(k.c), cases[i].status);
        if (cases[i].status != 1) {
            CU_ASSERT_PTR_NOT_NULL(strstr(pg_transport_error_text(k.c), "current time 2023-11-1"));
            CU_ASSERT_PTR_NOT_NULL(strstr(pg_transport_error_text(k.c), SERVER_ID));
        }
        link_end(&k);
    }
    cert_creds_unref(c);
    corpus_fini();
}

static void test_truncation(void)
{
    struct link k;
    char buf[64];
    begin();
    struct corpus_pair p = corpus_issue(root, &(struct corpus_leaf){.uri = {SERVER_ID}});
    struct cert_creds *c = creds_of(&p, corpus_ca_pem(root), NULL);
    /* end of the stream below without close_notify */
    link_make(&k, c, &mesh, c, &mesh);
    CU_ASSERT_EQUAL(pg_transport_write(k.c, "hello", 5), 5);
    (void)pg_loop_sim_settle(k.l, 20);
    CU_ASSERT_EQUAL(pg_transport_shutdown(cert_tls_lower(k.c)), 0);
    (void)pg_loop_sim_settle(k.l, 20);
    CU_ASSERT_EQUAL(pg_transport_read(k.s, buf, sizeof(buf)), 5);
    CU_ASSERT_EQUAL(pg_transport_read(k.s, buf, sizeof(buf)), PG_E_RESET);
    CU_ASSERT_STRING_EQUAL(pg_transport_error_text(k.s), "unexpected EOF");
    link_end(&k);
    /* with it */
    link_make(&k, c, &mesh, c, &mesh);
    CU_ASSERT_EQUAL(pg_transport_write(k.c, "hello", 5), 5);
    CU_ASSERT_EQUAL(pg_transport_shutdown(k.c), 0);
    (void)pg_loop_sim_settle(k.l, 20);
    CU_ASSERT_EQUAL(pg_transport_read(k.s, buf, sizeof(buf)), 5);
    CU_ASSERT_EQUAL(pg_transport_read(k.s, buf, sizeof(buf)), 0);
    CU_ASSERT_EQUAL(pg_transport_read(k.s, buf, sizeof(buf)), 0);
    link_end(&k);
    /* an abort is neither */
    link_make(&k, c, &mesh, c, &mesh);
    pg_transport_abort(k.c);
    (void)pg_loop_sim_settle(k.l, 20);
    CU_ASSERT_EQUAL(pg_transport_read(k.s, buf, sizeof(buf)), PG_E_RESET);
    CU_ASSERT_STRING_EQUAL(pg_transport_error_text(k.s), "reset by peer");
    pg_transport_close(k.s);
    pg_loop_free(k.l);
    /* in the middle of the handshake */
    struct pg_loop *l = NULL;
    struct pg_transport *near = NULL;
    struct pg_transport *far = NULL;
    struct pg_transport *s = NULL;
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&l), 0);
    CU_ASSERT_EQUAL_FATAL(pg_mem_pair(l, 1000, &near, &far), 0);
    CU_ASSERT_EQUAL_FATAL(cert_tls_server(l, far, c, &mesh, &s), 0);
    pg_transport_close(near);
    (void)pg_loop_sim_settle(l, 20);
    CU_ASSERT_EQUAL(pg_transport_status(s), PG_E_RESET);
    CU_ASSERT_STRING_EQUAL(pg_transport_error_text(s), "unexpected EOF");
    pg_transport_close(s);
    pg_loop_free(l);
    cert_creds_unref(c);
    corpus_fini();
}

/* A bare libssl peer against one of our ends. */
struct bare {
    struct pg_loop *l;
    struct pg_transport *near, *ours;
    struct corpus_peer *peer;
    struct pg_sb out;
    int state;
};

static void bare_pump(struct bare *b)
{
    char buf[4096];
    for (int i = 0; i < 12; i++) {
        if (b->out.len > 0) {
            CU_ASSERT_EQUAL(pg_transport_write(b->near, b->out.p, b->out.len), (ssize_t)b->out.len);
            pg_sb_reset(&b->out);
        }
        (void)pg_loop_sim_settle(b->l, 50);
        ssize_t n = pg_transport_read(b->near, buf, sizeof(buf));
        b->state = corpus_peer_step(b->peer, buf, n > 0 ? (size_t)n : 0, &b->out);
    }
}

static void bare_make_for(struct bare *b, struct cert_creds *c, struct corpus_peer *peer, bool ours_is_server,
                          const struct cert_expect *expect)
{
    struct pg_transport *far = NULL;
    *b = (struct bare){.peer = peer};
    pg_sb_init(&b->out, 1u << 20);
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&b->l), 0);
    CU_ASSERT_EQUAL_FATAL(pg_mem_pair(b->l, 1u << 20, &b->near, &far), 0);
    CU_ASSERT_EQUAL_FATAL(ours_is_server ? cert_tls_server(b->l, far, c, expect, &b->ours)
                                         : cert_tls_client(b->l, far, c, expect, &b->ours),
                          0);
    bare_pump(b);
}

static void bare_make(struct bare *b, struct cert_creds *c, struct corpus_peer *peer, bool ours_is_server)
{
    bare_make_for(b, c, peer, ours_is_server, &mesh);
}

static void bare_end(struct bare *b)
{
    pg_transport_close(b->ours);
    pg_transport_close(b->near);
    pg_loop_free(b->l);
    pg_sb_fini(&b->out);
    corpus_peer_free(b->peer);
}

static void test_alpn_and_version(void)
{
    struct bare b;
    begin();
    struct corpus_pair p = corpus_issue(root, &(struct corpus_leaf){.uri = {SERVER_ID}});
    struct cert_creds *c = creds_of(&p, corpus_ca_pem(root), NULL);
    struct pg_str ca = corpus_ca_pem(root);

    bare_make(&b, c, corpus_peer_new(false, &p, ca, NULL, 0, 0), true);
    CU_ASSERT_EQUAL(pg_transport_status(b.ours), PG_E_UNTRUSTED);
    CU_ASSERT_STRING_EQUAL(pg_transport_error_text(b.ours),
                           "tls: client did not offer the application protocol h2");
    CU_ASSERT_EQUAL(corpus_peer_alert(b.peer), 120);
    bare_end(&b);

    bare_make(&b, c, corpus_peer_new(false, &p, ca, "\x08http/1.1", 9, 0), true);
    CU_ASSERT_EQUAL(pg_transport_status(b.ours), PG_E_UNTRUSTED);
    CU_ASSERT_EQUAL(corpus_peer_alert(b.peer), 120);
    bare_end(&b);

    bare_make(&b, c, corpus_peer_new(false, &p, ca, "\x08http/1.1\x02h2", 12, 0), true);
    CU_ASSERT_EQUAL(pg_transport_status(b.ours), 1);
    CU_ASSERT_EQUAL(b.state, 1);
    CU_ASSERT_STRING_EQUAL(corpus_peer_describe(b.peer), "TLSv1.3 TLS_AES_256_GCM_SHA384 once sni=none");
    bare_end(&b);

    bare_make(&b, c, corpus_peer_new(true, &p, ca, NULL, 0, 0), false);
    CU_ASSERT_EQUAL(pg_transport_status(b.ours), PG_E_UNTRUSTED);
    CU_ASSERT_STRING_EQUAL(pg_transport_error_text(b.ours),
                           "tls: peer did not agree on the application protocol h2");
    bare_end(&b);

    bare_make(&b, c, corpus_peer_new(true, &p, ca, "\x02h2", 3, 0), false);
    CU_ASSERT_EQUAL(pg_transport_status(b.ours), 1);
    bare_end(&b);

    bare_make(&b, c, corpus_peer_new(false, &p, ca, "\x02h2", 3, 0x0303 /* TLS 1.2 */), true);
    CU_ASSERT_TRUE(pg_transport_status(b.ours) < 0);
    CU_ASSERT_EQUAL(corpus_peer_alert(b.peer), 70);
    bare_end(&b);

    bare_make(&b, c, corpus_peer_new(true, &p, ca, "\x02h2", 3, 0x0303), false);
    CU_ASSERT_EQUAL(pg_transport_status(b.ours), PG_E_TLS);
    CU_ASSERT_STRING_EQUAL(pg_transport_error_text(b.ours),
                           "remote error: tls: protocol version not supported");
    bare_end(&b);

    cert_creds_unref(c);
    corpus_fini();
}

/* The first name goes out as SNI when names are DNS names; a SPIFFE peer learns nothing from it. */
static void test_sni(void)
{
    struct bare b;
    begin();
    struct corpus_pair p =
        corpus_issue(root, &(struct corpus_leaf){.uri = {SERVER_ID}, .dns = "istiod.istio-system.svc"});
    struct cert_creds *c = creds_of(&p, corpus_ca_pem(root), NULL);
    const struct pg_str dns[] = {PG_STR("istiod.istio-system.svc"), PG_STR("other")};
    const struct pg_str ip[] = {PG_STR("10.0.0.1"), PG_STR("istiod.istio-system.svc")};
    const struct pg_str id[] = {PG_STR(SERVER_ID)};
    const struct {
        struct cert_expect expect;
        const char *sni;
    } cases[] = {{{CERT_EXPECT_DNS, dns, 2}, " sni=istiod.istio-system.svc"},
                 {{CERT_EXPECT_DNS, ip, 2}, " sni=none"},
                 {{CERT_EXPECT_SPIFFE, id, 1}, " sni=none"},
                 {{CERT_EXPECT_MESH, NULL, 0}, " sni=none"}};
    for (size_t i = 0; i < PG_ARRAY_LEN(cases); i++) {
        struct corpus_peer *peer = corpus_peer_new(true, &p, corpus_ca_pem(root), "\x02h2", 3, 0);
        bare_make_for(&b, c, peer, false, &cases[i].expect);
        CU_ASSERT_EQUAL(pg_transport_status(b.ours), 1);
        CU_ASSERT_PTR_NOT_NULL(strstr(corpus_peer_describe(peer), cases[i].sni));
        bare_end(&b);
    }
    cert_creds_unref(c);
    corpus_fini();
}

/* KeyUpdate between data, whole and byte by byte: data arrives, our answers are under the new key. */
static void test_key_update(void)
{
    struct bare b;
    char buf[64];
    begin();
    struct corpus_pair p = corpus_issue(root, &(struct corpus_leaf){.uri = {SERVER_ID}});
    struct cert_creds *c = creds_of(&p, corpus_ca_pem(root), NULL);
    bare_make(&b, c, corpus_peer_new(false, &p, corpus_ca_pem(root), "\x02h2", 3, 0), true);
    CU_ASSERT_EQUAL(pg_transport_status(b.ours), 1);
    for (int round = 0; round < 3; round++) {
        CU_ASSERT_EQUAL(corpus_peer_key_update(b.peer, &b.out), 1);
        CU_ASSERT_EQUAL(corpus_peer_write(b.peer, "data", 4, &b.out), 4);
        size_t got = 0;
        for (size_t i = 0; i < b.out.len; i++) {
            CU_ASSERT_EQUAL(pg_transport_write(b.near, b.out.p + i, 1), 1);
            (void)pg_loop_sim_settle(b.l, 10);
            ssize_t n = pg_transport_read(b.ours, buf, sizeof(buf));
            CU_ASSERT_TRUE(n == PG_E_AGAIN || n > 0);
            got += n > 0 ? (size_t)n : 0;
            if (i == b.out.len / 3) { /* maybe in the middle of the message */
                n = pg_transport_write(b.ours, "a", 1);
                CU_ASSERT_TRUE(n == 1 || n == PG_E_AGAIN);
            }
        }
        pg_sb_reset(&b.out);
        CU_ASSERT_EQUAL(got, 4);
        CU_ASSERT_EQUAL(pg_transport_write(b.ours, "answer", 6), 6);
        bare_pump(&b);
        size_t n = corpus_peer_read(b.peer, buf, 1);
        n += corpus_peer_read(b.peer, buf + n, sizeof(buf) - n);
        CU_ASSERT_TRUE(n >= 1);
    }
    bare_end(&b);
    cert_creds_unref(c);
    corpus_fini();
}

/* A peer that only makes us change keys is cut off; one that sends data between is not. */
static void test_key_update_flood(void)
{
    struct bare b;
    char buf[64];
    begin();
    struct corpus_pair p = corpus_issue(root, &(struct corpus_leaf){.uri = {SERVER_ID}});
    struct cert_creds *c = creds_of(&p, corpus_ca_pem(root), NULL);
    bare_make(&b, c, corpus_peer_new(false, &p, corpus_ca_pem(root), "\x02h2", 3, 0), true);
    for (int i = 0; i < 100; i++) {
        CU_ASSERT_EQUAL(corpus_peer_key_update(b.peer, &b.out), 1);
        CU_ASSERT_EQUAL(corpus_peer_write(b.peer, "x", 1, &b.out), 1);
    }
    CU_ASSERT_EQUAL(pg_transport_write(b.near, b.out.p, b.out.len), (ssize_t)b.out.len);
    pg_sb_reset(&b.out);
    (void)pg_loop_sim_settle(b.l, 10);
    size_t got = 0;
    ssize_t n;
    while ((n = pg_transport_read(b.ours, buf, sizeof(buf))) > 0) {
        got += (size_t)n;
    }
    CU_ASSERT_EQUAL(got, 100);
    CU_ASSERT_EQUAL(n, PG_E_AGAIN);
    for (int i = 0; i < 40; i++) {
        CU_ASSERT_EQUAL(corpus_peer_key_update(b.peer, &b.out), 1);
    }
    CU_ASSERT_EQUAL(pg_transport_write(b.near, b.out.p, b.out.len), (ssize_t)b.out.len);
    pg_sb_reset(&b.out);
    (void)pg_loop_sim_settle(b.l, 10);
    CU_ASSERT_EQUAL(pg_transport_read(b.ours, buf, sizeof(buf)), PG_E_TLS);
    CU_ASSERT_STRING_EQUAL(pg_transport_error_text(b.ours), "tls: too many ignored records");
    bare_end(&b);
    cert_creds_unref(c);
    corpus_fini();
}

/* An intermediate confined to a trust domain by name constraints cannot speak for another. */
static void test_name_constraints(void)
{
    struct link k;
    static const struct {
        const char *id;
        int status;
    } cases[] = {{"spiffe://td.example/ns/a/sa/b", 1}, {"spiffe://other.example/ns/a/sa/b", PG_E_UNTRUSTED}};
    begin();
    struct corpus_ca *mid = corpus_intermediate(root, "confined", "td.example");
    struct corpus_pair sp = corpus_issue(root, &(struct corpus_leaf){.uri = {SERVER_ID}});
    struct cert_creds *sc = creds_of(&sp, corpus_ca_pem(root), "*");
    for (size_t i = 0; i < PG_ARRAY_LEN(cases); i++) {
        struct corpus_pair p = corpus_issue(mid, &(struct corpus_leaf){.uri = {cases[i].id}});
        struct cert_creds *c = creds_of(&p, corpus_ca_pem(root), "*");
        link_make(&k, c, &mesh, sc, &mesh);
        CU_ASSERT_EQUAL(pg_transport_status(k.s), cases[i].status);
        if (cases[i].status != 1) {
            CU_ASSERT_PTR_NOT_NULL(strstr(pg_transport_error_text(k.s), "permitted subtree violation"));
        }
        link_end(&k);
        cert_creds_unref(c);
    }
    cert_creds_unref(sc);
    corpus_fini();
}

/* Plain text, garbage, and every prefix of a real hello followed by the end. */
static void test_garbage(void)
{
    begin();
    struct corpus_pair p = corpus_issue(root, &(struct corpus_leaf){.uri = {SERVER_ID}});
    struct cert_creds *c = creds_of(&p, corpus_ca_pem(root), NULL);
    struct corpus_peer *peer = corpus_peer_new(false, &p, corpus_ca_pem(root), "\x02h2", 3, 0);
    struct pg_sb hello;
    struct pg_loop *l = NULL;
    pg_sb_init(&hello, 65536);
    (void)corpus_peer_step(peer, NULL, 0, &hello);
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&l), 0);
    for (size_t i = 0; i <= hello.len + 1; i++) {
        struct pg_transport *near = NULL;
        struct pg_transport *far = NULL;
        struct pg_transport *s = NULL;
        CU_ASSERT_EQUAL_FATAL(pg_mem_pair(l, 65536, &near, &far), 0);
        CU_ASSERT_EQUAL_FATAL(cert_tls_server(l, far, c, &mesh, &s), 0);
        if (i <= hello.len) {
            (void)pg_transport_write(near, hello.p, i);
        } else {
            (void)pg_transport_write(near, "GET / HTTP/1.1\r\n\r\n", 18);
        }
        CU_ASSERT_EQUAL(pg_transport_shutdown(near), 0);
        (void)pg_loop_sim_settle(l, 50);
        CU_ASSERT_EQUAL(pg_transport_status(s), i <= hello.len ? PG_E_RESET : PG_E_TLS);
        pg_transport_close(s);
        pg_transport_close(near);
        (void)pg_loop_sim_settle(l, 50);
    }
    pg_loop_free(l);
    pg_sb_fini(&hello);
    corpus_peer_free(peer);
    cert_creds_unref(c);
    corpus_fini();
}

static void test_creds_refuse(void)
{
    struct cert_creds *c = NULL;
    struct pg_errtext err = {.text = ""};
    begin();
    struct corpus_pair p = corpus_issue(root, &(struct corpus_leaf){.uri = {SERVER_ID}});
    struct corpus_pair q = corpus_issue(root, &(struct corpus_leaf){.uri = {SERVER_ID}});
    struct corpus_pair ca_leaf = corpus_issue(root, &(struct corpus_leaf){.uri = {SERVER_ID}, .ca = true});
    struct pg_str roots = corpus_ca_pem(root);
    struct pg_str bad_td = PG_STR("Not Valid");
    const struct {
        struct cert_creds_options o;
        int err;
    } cases[] = {
        {{.roots_pem = PG_STR_NONE}, PG_E_CONFIG},
        {{.roots_pem = PG_STR(" \n")}, PG_E_CONFIG},
        {{.roots_pem = PG_STR("rubbish")}, PG_E_PARSE},
        {{.roots_pem = roots, .chain_pem = PG_STR("rubbish"), .key_pem = p.key}, PG_E_PARSE},
        {{.roots_pem = roots, .chain_pem = p.chain, .key_pem = PG_STR("rubbish")}, PG_E_PARSE},
        {{.roots_pem = roots, .chain_pem = p.chain, .key_pem = PG_STR_NONE}, PG_E_PARSE},
        {{.roots_pem = roots, .chain_pem = p.chain, .key_pem = q.key}, PG_E_CONFIG},
        {{.roots_pem = roots, .chain_pem = ca_leaf.chain, .key_pem = ca_leaf.key}, PG_E_PARSE},
        {{.roots_pem = roots, .trust_domains = &bad_td, .n_trust_domains = 1}, PG_E_CONFIG},
        {{.roots_pem = pg_str_n(roots.p, roots.len - 40)}, PG_E_PARSE},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(cases); i++) {
        err.text[0] = '\0';
        CU_ASSERT_EQUAL(cert_creds_new(&cases[i].o, &c, &err), cases[i].err);
        CU_ASSERT_TRUE(err.text[0] != '\0');
        CU_ASSERT_PTR_NULL(c);
    }
    /* a server without a certificate cannot be */
    struct cert_creds *none = creds_of(NULL, roots, NULL);
    struct pg_transport *t = NULL;
    CU_ASSERT_EQUAL(cert_tls_server(NULL, NULL, none, &mesh, &t), PG_E_CONFIG);
    cert_creds_unref(none);
    corpus_fini();
}

/* Handshake, both directions of data, shutdown; with any allocation failing. */
static int sweep_scenario(void *arg)
{
    struct cert_creds_options *o = arg;
    struct cert_creds *c = NULL;
    struct pg_loop *l = NULL;
    struct pg_transport *x = NULL;
    struct pg_transport *y = NULL;
    struct pg_str names[] = {PG_STR(SERVER_ID)};
    struct cert_expect want = {.kind = CERT_EXPECT_SPIFFE, .names = names, .n_names = 1};
    char big[40000];
    char buf[64];
    memset(big, 'x', sizeof(big));
    int r = cert_creds_new(o, &c, NULL);
    r = r == 0 ? pg_loop_new(&l) : r;
    r = r == 0 ? pg_mem_pair(l, 65536, &x, &y) : r;
    r = r == 0 ? cert_tls_client(l, x, c, &want, &x) : r;
    r = r == 0 ? cert_tls_server(l, y, c, &mesh, &y) : r;
    if (r == 0) {
        (void)pg_loop_sim_settle(l, 100);
        r = pg_transport_status(x) < 0 ? pg_transport_status(x) : pg_transport_status(y);
        r = r == 1 ? 0 : r;
    }
    if (r == 0) {
        ssize_t n = pg_transport_write(x, big, sizeof(big));
        r = n < 0 ? (int)n : 0;
        (void)pg_loop_sim_settle(l, 20);
    }
    if (r == 0) {
        ssize_t n = pg_transport_read(y, buf, sizeof(buf)); /* the rest is carried */
        r = n < 0 ? (int)n : 0;
        n = r == 0 ? pg_transport_read(y, buf, sizeof(buf)) : 1;
        r = n < 0 ? (int)n : r;
    }
    if (r == 0) {
        r = pg_transport_shutdown(y);
    }
    pg_transport_close(x);
    pg_transport_close(y);
    pg_loop_free(l);
    cert_creds_unref(c);
    return r;
}

static void test_sweep(void)
{
    begin();
    struct corpus_pair p = corpus_issue(root, &(struct corpus_leaf){.uri = {SERVER_ID}});
    struct cert_creds_options o = {.chain_pem = p.chain, .key_pem = p.key, .roots_pem = corpus_ca_pem(root)};
    CU_ASSERT_TRUE(test_alloc_sweep(sweep_scenario, &o) > 15);
    corpus_fini();
}

TEST_MAIN("tls identity", {"SVID corpus", test_corpus}, {"good SVIDs", test_good_svids},
          {"no client certificate", test_no_client_certificate}, {"both ends ours", test_both_ours},
          {"alert beats reset", test_alert_beats_reset}, {"DNS names", test_dns}, {"optional", test_optional},
          {"trust domains", test_trust_domains}, {"roots of one name", test_roots_of_one_name},
          {"clock", test_clock}, {"truncation", test_truncation}, {"ALPN and version", test_alpn_and_version},
          {"SNI", test_sni}, {"key update", test_key_update}, {"key update flood", test_key_update_flood},
          {"name constraints", test_name_constraints}, {"garbage", test_garbage},
          {"credentials refused", test_creds_refuse}, {"allocation failures", test_sweep})
