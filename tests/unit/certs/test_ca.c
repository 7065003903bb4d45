/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Root and intermediates as files, loading them, and the signing profile. The openssl program is the second
 * opinion on every extension; the expected text is what it prints for certificates of Istio's makefile.
 */
#include "corpus_ossl.h"
#include "testlib.h"
#include "tmpdir.h"

#include "certs/ca.h"
#include "core/clock.h"

static char dir[64];
static char east[96];
#define ID "spiffe://cluster.local/ns/demo/sa/echo"

/* RSA 4096 takes seconds: the files are made once and used by all cases. */
static void make_files(void)
{
    struct pg_errtext err = {.text = ""};
    if (dir[0] != '\0') {
        return;
    }
    tmpdir_make(dir);
    CU_ASSERT_EQUAL_FATAL(cert_make_root(dir, false, &err), 0);
    CU_ASSERT_EQUAL_FATAL(cert_make_cacerts(dir, "east", false, &err), 0);
    (void)snprintf(east, sizeof(east), "%s/east", dir);
}

static bool has(const struct pg_sb *text, const char *words)
{
    bool found = text->p != NULL && strstr(text->p, words) != NULL;
    if (!found) {
        fprintf(stderr, "missing \"%s\" in:\n%s\n", words, text->p);
    }
    return found;
}

/* `openssl x509 -noout <options>` of a file. */
static void x509(const char *path, const char *what, struct pg_sb *out)
{
    char *argv[] = {ARG("openssl"),
                    ARG("x509"),
                    ARG("-noout"),
                    ARG("-in"),
                    ARG(path),
                    ARG(what),
                    ARG("-nameopt"),
                    ARG("sep_comma_plus_space,sname"),
                    NULL};
    pg_sb_reset(out);
    CU_ASSERT_EQUAL(run_program(argv, out), 0);
}

static void check_mode(const char *d, const char *name, mode_t mode)
{
    char path[256];
    struct stat st;
    (void)snprintf(path, sizeof(path), "%s/%s", d, name);
    CU_ASSERT_EQUAL_FATAL(stat(path, &st), 0);
    CU_ASSERT_EQUAL(st.st_mode & 0777, mode);
}

static void test_root_text(void)
{
    char path[128];
    struct pg_sb out;
    make_files();
    pg_sb_init(&out, 1u << 20);
    (void)snprintf(path, sizeof(path), "%s/root-cert.pem", dir);
    x509(path, "-text", &out);
    CU_ASSERT_TRUE(has(&out, "Version: 3 (0x2)"));
    CU_ASSERT_TRUE(has(&out, "Signature Algorithm: sha256WithRSAEncryption"));
    CU_ASSERT_TRUE(has(&out, "Subject: O=Istio, CN=Root CA\n"));
    CU_ASSERT_TRUE(has(&out, "Issuer: O=Istio, CN=Root CA\n"));
    CU_ASSERT_TRUE(has(&out, "Public-Key: (4096 bit)"));
    CU_ASSERT_TRUE(has(&out, "X509v3 Basic Constraints: critical\n                CA:TRUE\n"));
    CU_ASSERT_TRUE(has(&out,
                       "X509v3 Key Usage: critical\n                Digital Signature, Non Repudiation, Key "
                       "Encipherment, Certificate Sign\n"));
    CU_ASSERT_TRUE(has(&out, "X509v3 Subject Key Identifier: \n"));
    CU_ASSERT_PTR_NULL(strstr(out.p, "Alternative Name"));
    CU_ASSERT_PTR_NULL(strstr(out.p, "pathlen"));
    check_mode(dir, "root-key.pem", 0600);
    check_mode(dir, "root-cert.pem", 0644);
    pg_sb_fini(&out);
}

static void test_intermediate_text(void)
{
    char path[128];
    struct pg_sb out;
    make_files();
    pg_sb_init(&out, 1u << 20);
    (void)snprintf(path, sizeof(path), "%s/ca-cert.pem", east);
    x509(path, "-text", &out);
    CU_ASSERT_TRUE(has(&out, "Subject: O=Istio, CN=Intermediate CA, L=east\n"));
    CU_ASSERT_TRUE(has(&out, "Issuer: O=Istio, CN=Root CA\n"));
    CU_ASSERT_TRUE(has(&out, "Public-Key: (4096 bit)"));
    CU_ASSERT_TRUE(has(&out, "X509v3 Basic Constraints: critical\n                CA:TRUE, pathlen:0\n"));
    CU_ASSERT_TRUE(has(&out,
                       "X509v3 Key Usage: critical\n                Digital Signature, Non Repudiation, Key "
                       "Encipherment, Certificate Sign\n"));
    CU_ASSERT_TRUE(
        has(&out, "X509v3 Subject Alternative Name: \n                DNS:istiod.istio-system.svc\n"));
    CU_ASSERT_TRUE(has(&out, "X509v3 Subject Key Identifier: \n"));
    check_mode(east, "ca-key.pem", 0600);
    struct cert_facts root;
    struct cert_facts ca;
    struct pg_sb chain;
    struct pg_sb rootpem;
    pg_sb_init(&chain, CERT_PEM_MAX);
    pg_sb_init(&rootpem, CERT_PEM_MAX);
    tmpdir_read(east, "cert-chain.pem", &chain);
    tmpdir_read(east, "root-cert.pem", &rootpem);
    CU_ASSERT_EQUAL(cert_facts_of(pg_sb_view(&chain), 0, &ca), 0);
    CU_ASSERT_EQUAL(cert_facts_of(pg_sb_view(&chain), 1, &root), 0);
    CU_ASSERT_EQUAL(cert_facts_of(pg_sb_view(&chain), 2, &root), PG_E_NOTFOUND);
    CU_ASSERT_STRING_EQUAL(ca.subject, "O=Istio, CN=Intermediate CA, L=east");
    CU_ASSERT_STRING_EQUAL(root.subject, "O=Istio, CN=Root CA");
    CU_ASSERT_TRUE(ca.is_ca && root.is_ca);
    CU_ASSERT_EQUAL(ca.not_after - ca.not_before, 3650LL * 86400);
    CU_ASSERT_TRUE(pg_str_has_suffix(pg_sb_view(&chain), pg_sb_view(&rootpem)));
    pg_sb_fini(&chain);
    pg_sb_fini(&rootpem);
    pg_sb_fini(&out);
}

/* Exactly the files of the makefile, no temporary one left. */
static void test_files(void)
{
    static const char *const names[] = {"ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"};
    char *argv[] = {ARG("ls"), ARG("-A"), east, NULL};
    struct pg_sb out;
    struct pg_sb want;
    make_files();
    pg_sb_init(&out, 65536);
    pg_sb_init(&want, 65536);
    CU_ASSERT_EQUAL(run_program(argv, &out), 0);
    for (size_t i = 0; i < PG_ARRAY_LEN(names); i++) {
        pg_sb_fmt(&want, "%s\n", names[i]);
    }
    CU_ASSERT_STRING_EQUAL(out.p, want.p);
    pg_sb_fini(&out);
    pg_sb_fini(&want);
}

static void test_exists_and_names(void)
{
    struct pg_errtext err = {.text = ""};
    static const char *const bad[] = {"", "..", ".x", "a/b", "-x", "a b", "a\nb"};
    make_files();
    CU_ASSERT_EQUAL(cert_make_root(dir, false, &err), PG_E_EXISTS);
    CU_ASSERT_EQUAL(cert_make_cacerts(dir, "east", false, &err), PG_E_EXISTS);
    for (size_t i = 0; i < PG_ARRAY_LEN(bad); i++) {
        CU_ASSERT_EQUAL(cert_make_cacerts(dir, bad[i], false, &err), PG_E_CONFIG);
    }
    char none[64];
    tmpdir_make(none);
    CU_ASSERT_EQUAL(cert_make_cacerts(none, "x", false, &err), PG_E_NOTFOUND);
    tmpdir_remove(none);
}

/* The openssl program signs and verifies with our files. */
static void test_openssl_verifies(void)
{
    char root[128];
    char ca[128];
    struct pg_sb out;
    make_files();
    pg_sb_init(&out, 1u << 20);
    (void)snprintf(root, sizeof(root), "%s/root-cert.pem", dir);
    (void)snprintf(ca, sizeof(ca), "%s/ca-cert.pem", east);
    char *argv[] = {ARG("openssl"), ARG("verify"), ARG("-CAfile"), root, ca, NULL};
    CU_ASSERT_EQUAL(run_program(argv, &out), 0);
    CU_ASSERT_TRUE(has(&out, ": OK"));
    pg_sb_fini(&out);
}

static struct cert_ca *load(void)
{
    struct cert_ca *ca = NULL;
    struct pg_errtext err = {.text = ""};
    make_files();
    int r = cert_ca_load(east, &ca, &err);
    if (r < 0) {
        fprintf(stderr, "%s\n", err.text);
    }
    CU_ASSERT_EQUAL_FATAL(r, 0);
    return ca;
}

static void make_csr(struct pg_sb *csr)
{
    struct cert_key *k = NULL;
    pg_sb_init(csr, CERT_PEM_MAX);
    CU_ASSERT_EQUAL_FATAL(cert_key_new_p256(&k, NULL), 0);
    CU_ASSERT_EQUAL(cert_csr_make(k, PG_STR(ID), csr, NULL), 0);
    cert_key_free(k);
}

static void test_csr_text(void)
{
    char path[128];
    struct pg_sb csr;
    struct pg_sb out;
    make_files();
    make_csr(&csr);
    pg_sb_init(&out, 1u << 20);
    tmpdir_write(dir, "test.csr", pg_sb_view(&csr));
    (void)snprintf(path, sizeof(path), "%s/test.csr", dir);
    char *argv[] = {ARG("openssl"), ARG("req"),   ARG("-noout"),  ARG("-in"),
                    path,           ARG("-text"), ARG("-verify"), NULL};
    CU_ASSERT_EQUAL(run_program(argv, &out), 0);
    CU_ASSERT_TRUE(has(&out, "verify OK"));
    CU_ASSERT_TRUE(has(&out, "Subject: \n"));
    CU_ASSERT_TRUE(has(&out, "NIST CURVE: P-256"));
    CU_ASSERT_TRUE(has(&out, "ecdsa-with-SHA256"));
    CU_ASSERT_TRUE(has(&out, "X509v3 Subject Alternative Name: critical\n                    URI:" ID "\n"));
    pg_sb_fini(&out);
    pg_sb_fini(&csr);
}

static void test_sign_profile(void)
{
    char path[128];
    struct pg_sb csr;
    struct pg_sb out;
    struct cert_issued got = {0};
    struct cert_facts f;
    struct pg_errtext err = {.text = ""};
    struct cert_ca *ca = load();
    int64_t now = pg_clock_wall_s();
    make_csr(&csr);
    pg_sb_init(&out, 1u << 20);
    CU_ASSERT_EQUAL_FATAL(cert_ca_sign_csr(ca, pg_sb_view(&csr), PG_STR(ID), 3600, now, &got, &err), 0);
    /* leaf, intermediate, root, whole root file */
    CU_ASSERT_EQUAL(got.n, 4);
    CU_ASSERT_EQUAL(got.not_before, now - 120);
    CU_ASSERT_EQUAL(got.not_after, now + 3600);
    CU_ASSERT_TRUE(pg_str_eq(pg_str_c(got.pem[3]), cert_ca_root_pem(ca)));
    CU_ASSERT_EQUAL(cert_facts_of(pg_str_c(got.pem[1]), 0, &f), 0);
    CU_ASSERT_STRING_EQUAL(f.subject, "O=Istio, CN=Intermediate CA, L=east");
    CU_ASSERT_EQUAL(cert_facts_of(pg_str_c(got.pem[1]), 1, &f), PG_E_NOTFOUND);
    CU_ASSERT_EQUAL(cert_facts_of(pg_str_c(got.pem[2]), 0, &f), 0);
    CU_ASSERT_STRING_EQUAL(f.subject, "O=Istio, CN=Root CA");

    CU_ASSERT_EQUAL(cert_facts_of(pg_str_c(got.pem[0]), 0, &f), 0);
    CU_ASSERT_STRING_EQUAL(f.subject, "");
    CU_ASSERT_STRING_EQUAL(f.uri_san, ID);
    CU_ASSERT_FALSE(f.is_ca);
    CU_ASSERT_EQUAL(f.not_before, now - 120);
    CU_ASSERT_EQUAL(f.not_after, now + 3600);
    CU_ASSERT_TRUE(strlen(f.serial) >= 36);

    tmpdir_write(dir, "leaf.pem", pg_str_c(got.pem[0]));
    (void)snprintf(path, sizeof(path), "%s/leaf.pem", dir);
    x509(path, "-text", &out);
    CU_ASSERT_TRUE(has(&out, "Subject: \n"));
    CU_ASSERT_TRUE(
        has(&out, "X509v3 Key Usage: critical\n                Digital Signature, Key Encipherment\n"));
    CU_ASSERT_TRUE(has(
        &out, "X509v3 Extended Key Usage: \n                TLS Web Server Authentication, TLS Web Client "
              "Authentication\n"));
    CU_ASSERT_TRUE(has(&out, "X509v3 Basic Constraints: critical\n                CA:FALSE\n"));
    CU_ASSERT_TRUE(has(&out, "X509v3 Subject Alternative Name: critical\n                URI:" ID "\n"));
    CU_ASSERT_TRUE(has(&out, "X509v3 Authority Key Identifier"));
    x509(path, "-fingerprint", &out); /* SHA-1 by default: only that it parses */
    CU_ASSERT_EQUAL(strlen(f.sha256), 64);
    CU_ASSERT_EQUAL(
        cert_chain_verifies(pg_str_c(got.pem[0]), pg_str_c(got.pem[1]), pg_str_c(got.pem[3]), now, &err), 1);
    CU_ASSERT_EQUAL(cert_chain_verifies(pg_str_c(got.pem[0]), PG_STR_NONE, pg_str_c(got.pem[3]), now, &err),
                    0);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "unknown authority"));
    CU_ASSERT_EQUAL(cert_chain_verifies(pg_str_c(got.pem[0]), pg_str_c(got.pem[1]), pg_str_c(got.pem[3]),
                                        now + 3601, &err),
                    0);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "expired"));
    cert_issued_fini(&got);
    pg_sb_fini(&out);
    pg_sb_fini(&csr);
    cert_ca_free(ca);
}

static void test_ttl(void)
{
    struct pg_sb csr;
    struct pg_errtext err = {.text = ""};
    struct cert_ca *ca = load();
    int64_t now = pg_clock_wall_s();
    int64_t end = cert_ca_not_after(ca);
    const struct {
        int64_t ttl, now;
        int err;
        int64_t not_after;
    } cases[] = {
        {0, now, 0, now + 86400},
        {-5, now, 0, now + 86400},
        {INT64_MIN, now, 0, now + 86400},
        {1, now, 0, now + 1},
        {CERT_TTL_MAX_S, now, 0, now + CERT_TTL_MAX_S},
        {CERT_TTL_MAX_S + 1, now, PG_E_CONFIG, 0},
        {INT64_MAX, now, PG_E_CONFIG, 0},
        {3600, end - 10, 0, end}, /* cut to the CA's own end */
        {3600, end, PG_E_UNTRUSTED, 0},
        {3600, end + 1000, PG_E_UNTRUSTED, 0},
    };
    make_csr(&csr);
    for (size_t i = 0; i < PG_ARRAY_LEN(cases); i++) {
        struct cert_issued got = {0};
        int r = cert_ca_sign_csr(ca, pg_sb_view(&csr), PG_STR(ID), cases[i].ttl, cases[i].now, &got, &err);
        CU_ASSERT_EQUAL(r, cases[i].err);
        CU_ASSERT_EQUAL(got.not_after, cases[i].not_after);
        cert_issued_fini(&got);
    }
    pg_sb_fini(&csr);
    cert_ca_free(ca);
}

static void test_bad_requests(void)
{
    struct pg_errtext err = {.text = ""};
    struct cert_issued got = {0};
    struct cert_facts f;
    struct cert_ca *ca = load();
    int64_t now = pg_clock_wall_s();
    struct pg_sb csr;
    make_csr(&csr);
    const struct pg_str bad[] = {PG_STR_NONE,
                                 PG_STR("x"),
                                 PG_STR("-----BEGIN CERTIFICATE REQUEST-----\n"),
                                 corpus_csr("RSA1024", false),
                                 corpus_csr("P-224", false),
                                 corpus_csr("EC", true),
                                 cert_ca_root_pem(ca)};
    for (size_t i = 0; i < PG_ARRAY_LEN(bad); i++) {
        err.text[0] = '\0';
        CU_ASSERT_EQUAL(cert_ca_sign_csr(ca, bad[i], PG_STR(ID), 60, now, &got, &err), PG_E_PARSE);
        CU_ASSERT_TRUE(err.text[0] != '\0');
        CU_ASSERT_EQUAL(got.n, 0);
    }
    for (size_t i = 0; i < csr.len - 1; i += 7) { /* truncated */
        CU_ASSERT_EQUAL(cert_ca_sign_csr(ca, pg_str_n(csr.p, i), PG_STR(ID), 60, now, &got, &err),
                        PG_E_PARSE);
    }
    CU_ASSERT_EQUAL(
        cert_ca_sign_csr(ca, pg_sb_view(&csr), PG_STR("spiffe://td/ns/a/sa/b,URI:x"), 60, now, &got, &err),
        PG_E_CONFIG);
    /* nothing of what a request asks for is taken but the key */
    CU_ASSERT_EQUAL(cert_ca_sign_csr(ca, corpus_csr("RSA2048", false), PG_STR(ID), 60, now, &got, &err), 0);
    CU_ASSERT_EQUAL(cert_facts_of(pg_str_c(got.pem[0]), 0, &f), 0);
    CU_ASSERT_STRING_EQUAL(f.uri_san, ID);
    CU_ASSERT_STRING_EQUAL(f.subject, "");
    CU_ASSERT_FALSE(f.is_ca);
    cert_issued_fini(&got);
    pg_sb_fini(&csr);
    cert_ca_free(ca);
    corpus_fini();
}

static void test_server_certificate(void)
{
    char path[128];
    struct pg_sb chain;
    struct pg_sb key;
    struct pg_sb out;
    struct pg_errtext err = {.text = ""};
    struct cert_ca *ca = load();
    int64_t now = pg_clock_wall_s();
    const struct pg_str dns[] = {PG_STR("istiod.istio-system.svc"), PG_STR("peeringd.istio-system.svc")};
    const struct pg_str evil = PG_STR("a,URI:spiffe://x\n");
    pg_sb_init(&chain, CERT_PEM_MAX);
    pg_sb_init(&key, CERT_PEM_MAX);
    pg_sb_init(&out, 1u << 20);
    CU_ASSERT_EQUAL_FATAL(
        cert_ca_issue_server(ca, PG_STR(ID), dns, 2, 10LL * 365 * 86400 * 10, now, &chain, &key, &err), 0);
    CU_ASSERT_TRUE(pg_str_has_suffix(pg_sb_view(&chain), cert_ca_chain_pem(ca)));
    tmpdir_write(dir, "server.pem", pg_sb_view(&chain));
    (void)snprintf(path, sizeof(path), "%s/server.pem", dir);
    x509(path, "-text", &out);
    CU_ASSERT_TRUE(has(&out, "URI:" ID ", DNS:istiod.istio-system.svc, DNS:peeringd.istio-system.svc\n"));
    struct cert_facts f;
    CU_ASSERT_EQUAL(cert_facts_of(pg_sb_view(&chain), 0, &f), 0);
    CU_ASSERT_EQUAL(f.not_after, cert_ca_not_after(ca)); /* ten decades are cut */
    CU_ASSERT_PTR_NOT_NULL(strstr(key.p, "BEGIN PRIVATE KEY"));
    pg_sb_reset(&chain);
    CU_ASSERT_EQUAL(cert_ca_issue_server(ca, PG_STR_NONE, &evil, 1, 60, now, &chain, &key, &err),
                    PG_E_CONFIG);
    CU_ASSERT_EQUAL(cert_ca_issue_server(ca, PG_STR_NONE, NULL, 0, 60, now, &chain, &key, &err), PG_E_CONFIG);
    pg_sb_fini(&chain);
    pg_sb_fini(&key);
    pg_sb_fini(&out);
    cert_ca_free(ca);
}

/* Every way to mix the four files up, the names of a TLS Secret, and a missing file. */
static void test_load_refuses(void)
{
    static const char *const names[] = {"ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"};
    struct pg_errtext err = {.text = ""};
    struct pg_sb good[4];
    struct pg_sb root_key;
    struct cert_ca *ca = NULL;
    char d[64];
    make_files();
    for (size_t i = 0; i < 4; i++) {
        pg_sb_init(&good[i], CERT_PEM_MAX);
        tmpdir_read(east, names[i], &good[i]);
    }
    pg_sb_init(&root_key, CERT_PEM_MAX);
    tmpdir_read(dir, "root-key.pem", &root_key);
    struct corpus_ca *foreign = corpus_root("foreign");
    const struct {
        size_t file;
        struct pg_str text;
        int err;
    } bad[] = {
        {1, pg_sb_view(&root_key), PG_E_CONFIG}, {3, corpus_ca_pem(foreign), PG_E_UNTRUSTED},
        {2, pg_sb_view(&good[3]), PG_E_CONFIG},  {0, pg_sb_view(&good[3]), PG_E_CONFIG},
        {0, PG_STR("rubbish"), PG_E_PARSE},      {1, PG_STR("rubbish"), PG_E_PARSE},
        {3, PG_STR("rubbish"), PG_E_UNTRUSTED},  {0, pg_str_n(good[0].p, good[0].len / 2), PG_E_PARSE},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(bad); i++) {
        tmpdir_make(d);
        for (size_t k = 0; k < 4; k++) {
            tmpdir_write(d, names[k], k == bad[i].file ? bad[i].text : pg_sb_view(&good[k]));
        }
        err.text[0] = '\0';
        CU_ASSERT_EQUAL(cert_ca_load(d, &ca, &err), bad[i].err);
        CU_ASSERT_PTR_NOT_NULL(strstr(err.text, d));
        tmpdir_remove(d);
    }
    for (size_t skip = 0; skip < 4; skip++) {
        tmpdir_make(d);
        for (size_t k = 0; k < 4; k++) {
            if (k != skip) {
                tmpdir_write(d, names[k], pg_sb_view(&good[k]));
            }
        }
        CU_ASSERT_EQUAL(cert_ca_load(d, &ca, &err), PG_E_NOTFOUND);
        CU_ASSERT_PTR_NOT_NULL(strstr(err.text, names[skip]));
        tmpdir_remove(d);
    }
    /* consistent files, but the certificate is no CA, or may not sign */
    const struct corpus_leaf no_ca[] = {{.dns = "x", .key_usage = "critical,keyCertSign"},
                                        {.dns = "x", .ca = true, .key_usage = "critical,digitalSignature"}};
    for (size_t i = 0; i < PG_ARRAY_LEN(no_ca); i++) {
        struct corpus_leaf leaf = no_ca[i];
        leaf.not_before = 946684800;
        leaf.not_after = 2493072000;
        struct corpus_pair p = corpus_issue(foreign, &leaf);
        const struct pg_str text[] = {p.chain, p.key, p.chain, corpus_ca_pem(foreign)};
        tmpdir_make(d);
        for (size_t k = 0; k < 4; k++) {
            tmpdir_write(d, names[k], text[k]);
        }
        CU_ASSERT_EQUAL(cert_ca_load(d, &ca, &err), PG_E_CONFIG);
        CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "may not sign certificates"));
        tmpdir_remove(d);
    }
    tmpdir_make(d);
    tmpdir_write(d, "tls.crt", pg_sb_view(&good[2]));
    tmpdir_write(d, "tls.key", pg_sb_view(&good[1]));
    tmpdir_write(d, "ca.crt", pg_sb_view(&good[3]));
    CU_ASSERT_EQUAL(cert_ca_load(d, &ca, &err), 0);
    cert_ca_free(ca);
    tmpdir_remove(d);
    for (size_t i = 0; i < 4; i++) {
        pg_sb_fini(&good[i]);
    }
    pg_sb_fini(&root_key);
    corpus_fini();
}

static int sweep_scenario(void *arg)
{
    struct pg_str csr = *(struct pg_str *)arg;
    struct cert_ca *ca = NULL;
    struct cert_issued got = {0};
    struct pg_sb chain;
    struct pg_sb key;
    const struct pg_str dns = PG_STR("istiod.istio-system.svc");
    pg_sb_init(&chain, CERT_PEM_MAX);
    pg_sb_init(&key, CERT_PEM_MAX);
    int r = cert_ca_load(east, &ca, NULL);
    r = r == 0 ? cert_ca_sign_csr(ca, csr, PG_STR(ID), 60, pg_clock_wall_s(), &got, NULL) : r;
    r = r == 0 ? cert_ca_issue_server(ca, PG_STR(ID), &dns, 1, 60, pg_clock_wall_s(), &chain, &key, NULL) : r;
    cert_issued_fini(&got);
    cert_ca_free(ca);
    pg_sb_fini(&chain);
    pg_sb_fini(&key);
    return r;
}

static void test_sweep(void)
{
    struct pg_sb csr;
    make_files();
    make_csr(&csr);
    struct pg_str view = pg_sb_view(&csr);
    CU_ASSERT_TRUE(test_alloc_sweep(sweep_scenario, &view) > 10);
    pg_sb_fini(&csr);
}

static void test_digest(void)
{
    char hex[65];
    cert_sha256_hex("abc", 3, hex);
    CU_ASSERT_STRING_EQUAL(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    cert_sha256_hex(NULL, 0, hex);
    CU_ASSERT_STRING_EQUAL(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

/* Last: new files over old ones, then clean up. */
static void test_force(void)
{
    struct pg_errtext err = {.text = ""};
    struct cert_ca *ca = load();
    cert_ca_free(ca);
    CU_ASSERT_EQUAL(cert_make_cacerts(dir, "east", true, &err), 0);
    ca = load();
    cert_ca_free(ca);
    tmpdir_remove(dir);
    dir[0] = '\0';
}

TEST_MAIN("ca", {"root certificate", test_root_text}, {"intermediate certificate", test_intermediate_text},
          {"files", test_files}, {"exists, bad names", test_exists_and_names},
          {"openssl verifies", test_openssl_verifies}, {"request", test_csr_text},
          {"signing profile", test_sign_profile}, {"lifetimes", test_ttl},
          {"bad requests", test_bad_requests}, {"serving certificate", test_server_certificate},
          {"loading refuses", test_load_refuses}, {"allocation failures", test_sweep},
          {"digest", test_digest}, {"force", test_force})
