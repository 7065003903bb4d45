/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens: what is accepted, and every way to fool a checker that we know. */
#include "corpus_ossl.h"
#include "testlib.h"
#include "tmpdir.h"

#include "certs/jwt.h"

#define NOW 1700000000LL
#define AUD "istio-ca"

static char dir[64];

static void b64(struct pg_str s, struct pg_sb *out)
{
    pg_base64_encode(s, true, out);
}

/* header.claims, base64url */
static void signing_input(const char *header, const char *claims, struct pg_sb *out)
{
    pg_sb_init(out, CERT_JWT_MAX * 2);
    b64(pg_str_c(header), out);
    pg_sb_ch(out, '.');
    b64(pg_str_c(claims), out);
}

static struct cert_jwks *load_jwks(void)
{
    struct pg_sb text;
    struct cert_jwks *j = NULL;
    struct pg_errtext err = {.text = ""};
    pg_sb_init(&text, 1u << 20);
    tmpdir_read(dir, "jwks.json", &text);
    CU_ASSERT_EQUAL_FATAL(cert_jwks_parse(pg_sb_view(&text), &j, &err), 0);
    pg_sb_fini(&text);
    return j;
}

static void begin(void)
{
    struct pg_errtext err = {.text = ""};
    tmpdir_make(dir);
    CU_ASSERT_EQUAL_FATAL(cert_issuer_make(dir, &err), 0);
}

static void end(void)
{
    tmpdir_remove(dir);
    corpus_fini();
}

static void make_token(struct pg_sb *t, const char *pod)
{
    struct pg_errtext err = {.text = ""};
    pg_sb_init(t, CERT_JWT_MAX);
    CU_ASSERT_EQUAL(cert_issuer_token(dir, "istio-system", "ztunnel", pod, AUD, NOW, 3600, t, &err), 0);
}

static void test_es256(void)
{
    struct pg_sb t;
    struct cert_jwt_claims c;
    struct pg_errtext err = {.text = ""};
    struct stat st;
    char path[128];
    begin();
    (void)snprintf(path, sizeof(path), "%s/issuer-key.pem", dir);
    CU_ASSERT_EQUAL_FATAL(stat(path, &st), 0);
    CU_ASSERT_EQUAL(st.st_mode & 0777, 0600);
    CU_ASSERT_EQUAL(cert_issuer_make(dir, &err), PG_E_EXISTS);
    struct cert_jwks *j = load_jwks();
    make_token(&t, "ztunnel-abc");
    CU_ASSERT_EQUAL(cert_jwt_verify(j, pg_sb_view(&t), PG_STR(AUD), NOW, &c, &err), 0);
    CU_ASSERT_STRING_EQUAL(c.ns, "istio-system");
    CU_ASSERT_STRING_EQUAL(c.sa, "ztunnel");
    CU_ASSERT_STRING_EQUAL(c.pod_name, "ztunnel-abc");
    CU_ASSERT_STRING_EQUAL(c.pod_uid, "");
    CU_ASSERT_EQUAL(c.expires_at, NOW + 3600);
    pg_sb_fini(&t);
    make_token(&t, NULL);
    CU_ASSERT_EQUAL(cert_jwt_verify(j, pg_sb_view(&t), PG_STR(AUD), NOW + 3599, &c, &err), 0);
    CU_ASSERT_STRING_EQUAL(c.pod_name, "");
    pg_sb_fini(&t);
    cert_jwks_free(j);
    end();
}

static void test_times_and_audience(void)
{
    struct pg_sb t;
    struct cert_jwt_claims c;
    struct pg_errtext err = {.text = ""};
    begin();
    struct cert_jwks *j = load_jwks();
    make_token(&t, NULL);
    struct pg_str tok = pg_sb_view(&t);
    CU_ASSERT_EQUAL(cert_jwt_verify(j, tok, PG_STR("other"), NOW, &c, &err), PG_E_DENIED);
    CU_ASSERT_STRING_EQUAL(err.text, "token: wrong audience");
    CU_ASSERT_EQUAL(cert_jwt_verify(j, tok, PG_STR_NONE, NOW, &c, &err), PG_E_DENIED);
    CU_ASSERT_EQUAL(cert_jwt_verify(j, tok, PG_STR("istio-c"), NOW, &c, &err), PG_E_DENIED);
    CU_ASSERT_EQUAL(cert_jwt_verify(j, tok, PG_STR(AUD), NOW + 3600, &c, &err), PG_E_DENIED);
    CU_ASSERT_STRING_EQUAL(err.text, "token: expired");
    CU_ASSERT_EQUAL(cert_jwt_verify(j, tok, PG_STR(AUD), NOW - 60, &c, &err), 0); /* clocks differ */
    CU_ASSERT_EQUAL(cert_jwt_verify(j, tok, PG_STR(AUD), NOW - 61, &c, &err), PG_E_DENIED);
    CU_ASSERT_STRING_EQUAL(err.text, "token: not valid yet");
    CU_ASSERT_PTR_NULL(strstr(err.text, "eyJ"));
    pg_sb_fini(&t);
    cert_jwks_free(j);
    end();
}

/* A JWKS with the RSA key of the corpus under kid "rsa", and tokens signed by it with any header and claims.
 */
static struct cert_jwks *rsa_jwks(const char *extra)
{
    unsigned char sig[256];
    unsigned char n[256];
    struct pg_sb text;
    struct cert_jwks *j = NULL;
    struct pg_errtext err = {.text = ""};
    corpus_rs256("", 0, sig, n);
    pg_sb_init(&text, 65536);
    pg_sb_c(&text, "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"},{\"kty\":\"RSA\",\"kid\":\"rsa\",\"e\":"
                   "\"AQAB\",\"n\":\"");
    b64(pg_str_n((char *)n, 256), &text);
    pg_sb_fmt(&text, "\"%s}]}", extra);
    CU_ASSERT_EQUAL_FATAL(cert_jwks_parse(pg_sb_view(&text), &j, &err), 0);
    pg_sb_fini(&text);
    return j;
}

static int verify_rs256(const struct cert_jwks *j, const char *header, const char *claims,
                        struct cert_jwt_claims *c, struct pg_errtext *err)
{
    unsigned char sig[256];
    unsigned char n[256];
    struct pg_sb t;
    signing_input(header, claims, &t);
    corpus_rs256(t.p, t.len, sig, n);
    pg_sb_ch(&t, '.');
    b64(pg_str_n((char *)sig, 256), &t);
    int r = cert_jwt_verify(j, pg_sb_view(&t), PG_STR(AUD), NOW, c, err);
    pg_sb_fini(&t);
    return r;
}

#define HEADER "{\"alg\":\"RS256\",\"kid\":\"rsa\"}"
#define CLAIMS(sub, rest) "{\"sub\":\"" sub "\",\"aud\":[\"x\",\"istio-ca\"],\"exp\":1700000100" rest "}"
#define SUB "system:serviceaccount:ns1:sa1"

static void test_rs256_claims(void)
{
    struct cert_jwt_claims c;
    struct pg_errtext err = {.text = ""};
    static const struct {
        const char *header, *claims;
        int err;
    } cases[] = {
        {HEADER, CLAIMS(SUB, ""), 0},
        {HEADER, "{\"sub\":\"" SUB "\",\"aud\":\"istio-ca\",\"exp\":1700000000.9}", PG_E_DENIED},
        {HEADER, "{\"sub\":\"" SUB "\",\"aud\":\"istio-ca\",\"exp\":1700000001.9}", 0},
        {"{\"alg\":\"RS256\"}", CLAIMS(SUB, ""), 0}, /* one key: no choice */
        {"{\"alg\":\"RS256\",\"kid\":\"other\"}", CLAIMS(SUB, ""), PG_E_DENIED},
        {"{\"alg\":\"RS256\",\"kid\":\"\"}", CLAIMS(SUB, ""), PG_E_DENIED},
        {"{\"alg\":\"RS256\",\"kid\":7}", CLAIMS(SUB, ""), PG_E_DENIED},
        {"{\"alg\":\"ES256\",\"kid\":\"rsa\"}", CLAIMS(SUB, ""), PG_E_DENIED},
        {"{\"alg\":\"RS512\",\"kid\":\"rsa\"}", CLAIMS(SUB, ""), PG_E_DENIED},
        {"{\"alg\":\"none\",\"kid\":\"rsa\"}", CLAIMS(SUB, ""), PG_E_DENIED},
        {"{\"kid\":\"rsa\"}", CLAIMS(SUB, ""), PG_E_DENIED},
        {"{\"alg\":\"RS256\",\"kid\":\"rsa\",\"crit\":[\"x\"]}", CLAIMS(SUB, ""), PG_E_DENIED},
        {"{\"alg\":\"RS256\",\"alg\":\"RS256\",\"kid\":\"rsa\"}", CLAIMS(SUB, ""), PG_E_DENIED},
        {"[]", CLAIMS(SUB, ""), PG_E_DENIED},
        {HEADER, "[]", PG_E_DENIED},
        {HEADER, "{", PG_E_DENIED},
        {HEADER, CLAIMS("system:serviceaccount:ns1", ""), PG_E_DENIED},
        {HEADER, CLAIMS("system:serviceaccount:ns1:", ""), PG_E_DENIED},
        {HEADER, CLAIMS("system:serviceaccount::sa", ""), PG_E_DENIED},
        {HEADER, CLAIMS("system:serviceaccount:ns1:sa1:x", ""), PG_E_DENIED},
        {HEADER, CLAIMS("system:serviceaccount:ns1:../x", ""), PG_E_DENIED},
        {HEADER, CLAIMS("system:serviceaccount:NS1:sa1", ""), PG_E_DENIED},
        {HEADER, CLAIMS("system:node:x", ""), PG_E_DENIED},
        {HEADER, CLAIMS(SUB, ",\"exp\":1800000000"), PG_E_DENIED}, /* twice */
        {HEADER, CLAIMS(SUB, ",\"nbf\":1700000000"), 0},
        {HEADER, CLAIMS(SUB, ",\"nbf\":1700000061"), PG_E_DENIED},
        {HEADER, CLAIMS(SUB, ",\"nbf\":\"soon\""), PG_E_DENIED},
        {HEADER, "{\"sub\":\"" SUB "\",\"aud\":[\"istio-ca\"]}", PG_E_DENIED}, /* no expiry */
        {HEADER, "{\"sub\":\"" SUB "\",\"aud\":[\"istio-ca\"],\"exp\":\"1800000000\"}", PG_E_DENIED},
        {HEADER, "{\"sub\":\"" SUB "\",\"aud\":[\"istio-ca\"],\"exp\":null}", PG_E_DENIED},
        {HEADER, "{\"sub\":\"" SUB "\",\"aud\":[\"istio-ca\"],\"exp\":-1}", PG_E_DENIED},
        {HEADER, "{\"sub\":\"" SUB "\",\"aud\":[[\"istio-ca\"]],\"exp\":1800000000}", PG_E_DENIED},
        {HEADER, "{\"sub\":\"" SUB "\",\"aud\":{\"a\":\"istio-ca\"},\"exp\":1800000000}", PG_E_DENIED},
        {HEADER, "{\"sub\":\"" SUB "\",\"exp\":1800000000}", PG_E_DENIED},
        {HEADER,
         CLAIMS(SUB, ",\"kubernetes.io\":{\"namespace\":\"ns1\",\"serviceaccount\":{\"name\":\"sa1\"}}"), 0},
        {HEADER,
         CLAIMS(SUB, ",\"kubernetes.io\":{\"namespace\":\"ns2\",\"serviceaccount\":{\"name\":\"sa1\"}}"),
         PG_E_DENIED},
        {HEADER,
         CLAIMS(SUB, ",\"kubernetes.io\":{\"namespace\":\"ns1\",\"serviceaccount\":{\"name\":\"sa2\"}}"),
         PG_E_DENIED},
        {HEADER,
         CLAIMS(SUB, ",\"kubernetes.io\":{\"namespace\":\"ns1\",\"pod\":{\"name\":\"p\",\"uid\":\"1f-2\"},"
                     "\"serviceaccount\":{\"name\":\"sa1\"}}"),
         0},
        {HEADER,
         CLAIMS(SUB, ",\"kubernetes.io\":{\"namespace\":\"ns1\",\"pod\":{\"name\":\"../p\"},"
                     "\"serviceaccount\":{\"name\":\"sa1\"}}"),
         PG_E_DENIED},
    };
    struct cert_jwks *j = rsa_jwks(",\"alg\":\"RS256\",\"use\":\"sig\"");
    for (size_t i = 0; i < PG_ARRAY_LEN(cases); i++) {
        memset(&c, 0, sizeof(c));
        int r = verify_rs256(j, cases[i].header, cases[i].claims, &c, &err);
        if (r != cases[i].err) {
            fprintf(stderr, "%s %s: %d %s\n", cases[i].header, cases[i].claims, r, err.text);
        }
        CU_ASSERT_EQUAL(r, cases[i].err);
        CU_ASSERT_EQUAL(c.ns[0] != '\0', r == 0);
    }
    cert_jwks_free(j);
    corpus_fini();
}

/* With several keys, a token must say which one. */
static void test_two_keys(void)
{
    struct cert_jwt_claims c;
    struct pg_errtext err = {.text = ""};
    struct cert_jwks *j = rsa_jwks("},{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"g\","
                                   "\"x\":\"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY\","
                                   "\"y\":\"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU\"");
    CU_ASSERT_EQUAL(verify_rs256(j, HEADER, CLAIMS(SUB, ""), &c, &err), 0);
    CU_ASSERT_EQUAL(verify_rs256(j, "{\"alg\":\"RS256\"}", CLAIMS(SUB, ""), &c, &err), PG_E_DENIED);
    CU_ASSERT_STRING_EQUAL(err.text, "token: unknown key id");
    CU_ASSERT_EQUAL(verify_rs256(j, "{\"alg\":\"RS256\",\"kid\":\"g\"}", CLAIMS(SUB, ""), &c, &err),
                    PG_E_DENIED);
    cert_jwks_free(j);
    corpus_fini();
}

/* The public key as an HMAC secret, in the shapes attackers try. */
static void test_hmac_confusion(void)
{
    struct cert_jwt_claims c;
    struct pg_errtext err = {.text = ""};
    unsigned char sig[256];
    unsigned char n[256];
    unsigned char mac[32];
    struct cert_jwks *j = rsa_jwks("");
    static const char *const headers[] = {"{\"alg\":\"HS256\",\"kid\":\"rsa\"}", HEADER};
    corpus_rs256("", 0, sig, n);
    for (size_t i = 0; i < 2; i++) {
        struct pg_sb t;
        signing_input(headers[i], CLAIMS(SUB, ""), &t);
        corpus_hmac(n, sizeof(n), t.p, t.len, mac);
        pg_sb_ch(&t, '.');
        b64(pg_str_n((char *)mac, 32), &t);
        CU_ASSERT_EQUAL(cert_jwt_verify(j, pg_sb_view(&t), PG_STR(AUD), NOW, &c, &err), PG_E_DENIED);
        pg_sb_fini(&t);
    }
    struct pg_sb t;
    signing_input("{\"alg\":\"none\"}", CLAIMS(SUB, ""), &t);
    CU_ASSERT_EQUAL(cert_jwt_verify(j, pg_sb_view(&t), PG_STR(AUD), NOW, &c, &err), PG_E_DENIED);
    pg_sb_ch(&t, '.');
    CU_ASSERT_EQUAL(cert_jwt_verify(j, pg_sb_view(&t), PG_STR(AUD), NOW, &c, &err), PG_E_DENIED);
    pg_sb_fini(&t);
    cert_jwks_free(j);
    corpus_fini();
}

/* Cut after every byte, and every byte changed. */
static void test_cut_and_tampered(void)
{
    struct pg_sb t;
    struct cert_jwt_claims c;
    struct pg_errtext err = {.text = ""};
    begin();
    struct cert_jwks *j = load_jwks();
    make_token(&t, "p");
    for (size_t i = 0; i < t.len; i++) {
        CU_ASSERT_EQUAL(cert_jwt_verify(j, pg_str_n(t.p, i), PG_STR(AUD), NOW, &c, &err), PG_E_DENIED);
    }
    for (size_t i = 0; i < t.len; i++) {
        static const char other[] = "AB.-=+/\n";
        char kept = t.p[i];
        for (size_t k = 0; k < sizeof(other); k++) { /* the NUL, too */
            if (other[k] == kept) {
                continue;
            }
            t.p[i] = other[k];
            CU_ASSERT_EQUAL(cert_jwt_verify(j, pg_sb_view(&t), PG_STR(AUD), NOW, &c, &err), PG_E_DENIED);
        }
        t.p[i] = kept;
    }
    CU_ASSERT_EQUAL(cert_jwt_verify(j, pg_sb_view(&t), PG_STR(AUD), NOW, &c, &err), 0);
    pg_sb_ch(&t, '=');
    CU_ASSERT_EQUAL(cert_jwt_verify(j, pg_sb_view(&t), PG_STR(AUD), NOW, &c, &err), PG_E_DENIED);
    pg_sb_fini(&t);
    cert_jwks_free(j);
    end();
}

/* Another issuer's token with the right kid, and the right issuer among several. */
static void test_other_issuer(void)
{
    struct pg_sb t;
    struct cert_jwt_claims c;
    struct pg_errtext err = {.text = ""};
    begin();
    make_token(&t, NULL);
    tmpdir_remove(dir);
    begin();
    struct cert_jwks *j = load_jwks();
    CU_ASSERT_EQUAL(cert_jwt_verify(j, pg_sb_view(&t), PG_STR(AUD), NOW, &c, &err), PG_E_DENIED);
    CU_ASSERT_STRING_EQUAL(err.text, "token: unknown key id");
    pg_sb_fini(&t);
    cert_jwks_free(j);
    end();
}

static void test_bad_jwks(void)
{
    struct cert_jwks *j = NULL;
    struct pg_errtext err = {.text = ""};
    static const char *const bad[] = {
        "",
        "{",
        "[]",
        "{}",
        "{\"keys\":{}}",
        "{\"keys\":[]}",
        "{\"keys\":[1,null,\"x\"]}",
        "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}",
        "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}", /* tiny */
        "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AAAA\",\"y\":\"AAAA\"}]}",
        /* not on the curve */
        ("{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE\","
         "\"y\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE\"}]}"),
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(bad); i++) {
        err.text[0] = '\0';
        CU_ASSERT_EQUAL(cert_jwks_parse(pg_str_c(bad[i]), &j, &err), PG_E_CONFIG);
        CU_ASSERT_TRUE(err.text[0] != '\0');
        CU_ASSERT_PTR_NULL(j);
    }
}

static int sweep_scenario(void *arg)
{
    struct pg_str *in = arg; /* JWKS text */
    struct cert_jwks *j = NULL;
    struct cert_jwt_claims c;
    struct pg_sb t;
    pg_sb_init(&t, CERT_JWT_MAX);
    int r = cert_jwks_parse(*in, &j, NULL);
    r = r == 0 ? cert_issuer_token(dir, "a", "b", "c", AUD, NOW, 60, &t, NULL) : r;
    r = r == 0 ? cert_jwt_verify(j, pg_sb_view(&t), PG_STR(AUD), NOW, &c, NULL) : r;
    pg_sb_fini(&t);
    cert_jwks_free(j);
    return r;
}

static void test_sweep(void)
{
    struct pg_sb text;
    begin();
    pg_sb_init(&text, 65536);
    tmpdir_read(dir, "jwks.json", &text);
    struct pg_str in = pg_sb_view(&text);
    CU_ASSERT_TRUE(test_alloc_sweep(sweep_scenario, &in) > 10);
    pg_sb_fini(&text);
    end();
}

static void test_issuer_refuses(void)
{
    struct pg_sb t;
    struct pg_errtext err = {.text = ""};
    begin();
    pg_sb_init(&t, CERT_JWT_MAX);
    CU_ASSERT_EQUAL(cert_issuer_token(dir, "a:b", "c", NULL, AUD, NOW, 60, &t, &err), PG_E_CONFIG);
    CU_ASSERT_EQUAL(cert_issuer_token(dir, "a", "", NULL, AUD, NOW, 60, &t, &err), PG_E_CONFIG);
    CU_ASSERT_EQUAL(cert_issuer_token(dir, "a", "b", "\"", AUD, NOW, 60, &t, &err), PG_E_CONFIG);
    CU_ASSERT_EQUAL(cert_issuer_token(dir, "a", "b", NULL, "", NOW, 60, &t, &err), PG_E_CONFIG);
    CU_ASSERT_EQUAL(cert_issuer_token(dir, "a", "b", NULL, AUD, NOW, 0, &t, &err), PG_E_CONFIG);
    CU_ASSERT_EQUAL(cert_issuer_token("/nonexistent", "a", "b", NULL, AUD, NOW, 60, &t, &err), PG_E_NOTFOUND);
    CU_ASSERT_EQUAL(t.len, 0);
    pg_sb_fini(&t);
    end();
}

TEST_MAIN("jwt", {"ES256", test_es256}, {"times and audience", test_times_and_audience},
          {"RS256 and claims", test_rs256_claims}, {"two keys", test_two_keys},
          {"HMAC confusion", test_hmac_confusion}, {"cut and tampered", test_cut_and_tampered},
          {"other issuer", test_other_issuer}, {"bad JWKS", test_bad_jwks},
          {"allocation failures", test_sweep}, {"issuer refuses", test_issuer_refuses})
