/* SPDX-License-Identifier: Apache-2.0 */
/* Test certificates and bare libssl peers; the only test file that sees OpenSSL. One thread. */
#include "corpus_ossl.h"

#include "core/clock.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#define KEPT_MAX 512

struct corpus_ca {
    X509 *cert;
    EVP_PKEY *key;
    struct corpus_ca *parent;
    struct pg_str pem;
};
static void *kept[KEPT_MAX];
static size_t n_kept;
static struct corpus_ca *cas[64];
static size_t n_cas;
static EVP_PKEY *rsa_key;
static int64_t wall_s = CORPUS_NOW;

static struct pg_str keep_bio(BIO *b)
{
    char *p = NULL;
    long n = BIO_get_mem_data(b, &p);
    PG_BUG_ON(n <= 0 || n_kept == KEPT_MAX);
    char *copy = pg_strndup(p, (size_t)n);
    PG_BUG_ON(copy == NULL);
    kept[n_kept++] = copy;
    BIO_free(b);
    return pg_str_n(copy, (size_t)n);
}

static void ext(X509 *c, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, c, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_nconf_nid(NULL, &ctx, nid, value);
    PG_BUG_ON(e == NULL || X509_add_ext(c, e, -1) != 1);
    X509_EXTENSION_free(e);
}

static X509 *blank(const char *cn, EVP_PKEY *key, int64_t nb, int64_t na)
{
    static long serial = 1000;
    X509 *c = X509_new();
    X509_set_version(c, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(c), ++serial);
    ASN1_TIME_set(X509_getm_notBefore(c), (time_t)nb);
    ASN1_TIME_set(X509_getm_notAfter(c), (time_t)na);
    if (cn != NULL) {
        X509_NAME_add_entry_by_txt(X509_get_subject_name(c), "CN", MBSTRING_ASC, (const unsigned char *)cn,
                                   -1, -1, 0);
    }
    PG_BUG_ON(X509_set_pubkey(c, key) != 1);
    return c;
}

static struct corpus_ca *make_ca(const char *cn, struct corpus_ca *parent, const char *permitted)
{
    struct corpus_ca *ca = pg_calloc(1, sizeof(*ca));
    PG_BUG_ON(ca == NULL || n_cas == PG_ARRAY_LEN(cas));
    cas[n_cas++] = ca;
    ca->key = EVP_EC_gen("P-256");
    ca->cert = blank(cn, ca->key, 946684800, 2493072000);
    ca->parent = parent;
    X509 *issuer = parent != NULL ? parent->cert : ca->cert;
    X509_set_issuer_name(ca->cert, X509_get_subject_name(issuer));
    ext(ca->cert, issuer, NID_subject_key_identifier, "hash");
    ext(ca->cert, issuer, NID_basic_constraints, "critical,CA:true");
    ext(ca->cert, issuer, NID_key_usage, "critical,keyCertSign,cRLSign");
    if (permitted != NULL) {
        char value[256];
        snprintf(value, sizeof(value), "critical,permitted;URI:%s", permitted);
        ext(ca->cert, issuer, NID_name_constraints, value);
    }
    PG_BUG_ON(X509_sign(ca->cert, parent != NULL ? parent->key : ca->key, EVP_sha256()) <= 0);
    BIO *b = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(b, ca->cert);
    ca->pem = keep_bio(b);
    return ca;
}

struct corpus_ca *corpus_root(const char *cn)
{
    return make_ca(cn, NULL, NULL);
}

struct corpus_ca *corpus_intermediate(struct corpus_ca *parent, const char *cn,
                                      const char *permitted_uri_domain)
{
    return make_ca(cn, parent, permitted_uri_domain);
}

struct pg_str corpus_ca_pem(const struct corpus_ca *ca)
{
    return ca->pem;
}

static void push(GENERAL_NAMES *names, int type, const char *p, size_t len)
{
    GENERAL_NAME *g = GENERAL_NAME_new();
    ASN1_IA5STRING *v = ASN1_IA5STRING_new();
    ASN1_STRING_set(v, p, (int)(len != 0 ? len : strlen(p)));
    GENERAL_NAME_set0_value(g, type, v);
    sk_GENERAL_NAME_push(names, g);
}

static void add_san(X509 *c, const struct corpus_leaf *l)
{
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    for (size_t i = 0; i < 2; i++) {
        if (l->uri[i] != NULL) {
            push(names, GEN_URI, l->uri[i], l->uri_len[i]);
        }
    }
    if (l->dns != NULL) {
        push(names, GEN_DNS, l->dns, 0);
    }
    if (l->email != NULL) {
        push(names, GEN_EMAIL, l->email, 0);
    }
    if (sk_GENERAL_NAME_num(names) > 0) {
        X509_add1_ext_i2d(c, NID_subject_alt_name, names, 1, X509V3_ADD_APPEND);
        if (l->two_san_extensions) {
            X509_add1_ext_i2d(c, NID_subject_alt_name, names, 1, X509V3_ADD_APPEND);
        }
    }
    GENERAL_NAMES_free(names);
}

static EVP_PKEY *the_rsa_key(void)
{
    if (rsa_key == NULL) {
        rsa_key = EVP_RSA_gen(2048);
    }
    EVP_PKEY_up_ref(rsa_key);
    return rsa_key;
}

struct corpus_pair corpus_issue(struct corpus_ca *ca, const struct corpus_leaf *l)
{
    struct corpus_pair pair;
    EVP_PKEY *key = l->rsa ? the_rsa_key() : EVP_EC_gen("P-256");
    X509 *c = blank(l->cn, key, l->not_before != 0 ? l->not_before : CORPUS_NOW - 3600,
                    l->not_after != 0 ? l->not_after : CORPUS_NOW + 86400);
    X509_set_issuer_name(c, X509_get_subject_name(ca->cert));
    ext(c, ca->cert, NID_key_usage,
        l->key_usage != NULL ? l->key_usage : "critical,digitalSignature,keyEncipherment");
    if (l->eku == NULL || l->eku[0] != '\0') {
        ext(c, ca->cert, NID_ext_key_usage, l->eku != NULL ? l->eku : "serverAuth,clientAuth");
    }
    ext(c, ca->cert, NID_basic_constraints, l->ca ? "critical,CA:true" : "critical,CA:false");
    add_san(c, l);
    PG_BUG_ON(X509_sign(c, ca->key, EVP_sha256()) <= 0);
    BIO *b = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(b, c);
    for (const struct corpus_ca *up = ca; up->parent != NULL; up = up->parent) {
        PEM_write_bio_X509(b, up->cert);
    }
    pair.chain = keep_bio(b);
    b = BIO_new(BIO_s_mem());
    PEM_write_bio_PKCS8PrivateKey(b, key, NULL, NULL, 0, NULL, NULL);
    pair.key = keep_bio(b);
    X509_free(c);
    EVP_PKEY_free(key);
    return pair;
}

static int64_t fixed_wall_us(void *arg)
{
    (void)arg;
    return wall_s * 1000000;
}

static uint64_t fixed_mono(void *arg)
{
    (void)arg;
    return 1000000000u;
}

void corpus_clock(int64_t s)
{
    wall_s = s;
    const struct pg_clock c = {.mono_ns = fixed_mono, .wall_us = fixed_wall_us};
    pg_clock_set(&c);
}

void corpus_fini(void)
{
    for (size_t i = 0; i < n_kept; i++) {
        pg_free(kept[i]);
    }
    n_kept = 0;
    for (size_t i = 0; i < n_cas; i++) {
        X509_free(cas[i]->cert);
        EVP_PKEY_free(cas[i]->key);
        pg_free(cas[i]);
    }
    n_cas = 0;
    EVP_PKEY_free(rsa_key);
    rsa_key = NULL;
    pg_clock_set(NULL);
}

/* ---- bare peers ---- */

struct corpus_peer {
    SSL_CTX *ctx;
    SSL *ssl;
    BIO *in, *out;
    int alert;
    char text[128];
};

static void on_info(const SSL *ssl, int where, int ret)
{
    struct corpus_peer *p = SSL_get_app_data(ssl);
    if ((where & SSL_CB_ALERT) != 0 && (where & SSL_CB_READ) != 0) {
        p->alert = ret & 0xff;
    }
}

static int pick_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
                     unsigned len, void *arg)
{
    (void)ssl;
    (void)in;
    (void)len;
    const char *mine = arg; /* whatever the client offers */
    *out = (const unsigned char *)mine + 1;
    *out_len = (unsigned char)mine[0];
    return SSL_TLSEXT_ERR_OK;
}

static void use_pair(SSL_CTX *ctx, const struct corpus_pair *own)
{
    BIO *b = BIO_new_mem_buf(own->chain.p, (int)own->chain.len);
    X509 *c = PEM_read_bio_X509(b, NULL, NULL, NULL);
    PG_BUG_ON(SSL_CTX_use_certificate(ctx, c) != 1);
    X509_free(c);
    while ((c = PEM_read_bio_X509(b, NULL, NULL, NULL)) != NULL) {
        SSL_CTX_add0_chain_cert(ctx, c);
    }
    BIO_free(b);
    b = BIO_new_mem_buf(own->key.p, (int)own->key.len);
    EVP_PKEY *k = PEM_read_bio_PrivateKey(b, NULL, NULL, NULL);
    PG_BUG_ON(SSL_CTX_use_PrivateKey(ctx, k) != 1);
    EVP_PKEY_free(k);
    BIO_free(b);
    ERR_clear_error();
}

struct corpus_peer *corpus_peer_new(bool server, const struct corpus_pair *own, struct pg_str roots,
                                    const char *alpn, size_t alpn_len, int max_version)
{
    struct corpus_peer *p = pg_calloc(1, sizeof(*p));
    p->alert = -1;
    p->ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    SSL_CTX_set_options(p->ctx, SSL_OP_ALLOW_UNSAFE_LEGACY_RENEGOTIATION);
    if (max_version != 0) {
        SSL_CTX_set_max_proto_version(p->ctx, max_version);
    }
    if (own != NULL) {
        use_pair(p->ctx, own);
    }
    if (roots.len > 0) {
        BIO *b = BIO_new_mem_buf(roots.p, (int)roots.len);
        X509 *c = PEM_read_bio_X509(b, NULL, NULL, NULL);
        X509_STORE_add_cert(SSL_CTX_get_cert_store(p->ctx), c);
        X509_free(c);
        BIO_free(b);
    }
    if (server) {
        SSL_CTX_set_verify(p->ctx, SSL_VERIFY_PEER, NULL);
        if (alpn != NULL) {
            SSL_CTX_set_alpn_select_cb(p->ctx, pick_alpn, (void *)(uintptr_t)alpn);
        }
    } else if (alpn != NULL) {
        SSL_CTX_set_alpn_protos(p->ctx, (const unsigned char *)alpn, (unsigned)alpn_len);
    }
    p->ssl = SSL_new(p->ctx);
    p->in = BIO_new(BIO_s_mem());
    p->out = BIO_new(BIO_s_mem());
    SSL_set_app_data(p->ssl, p);
    SSL_set_info_callback(p->ssl, on_info);
    SSL_set_bio(p->ssl, p->in, p->out);
    X509_VERIFY_PARAM_set_time(SSL_get0_param(p->ssl), (time_t)wall_s);
    if (server) {
        SSL_set_accept_state(p->ssl);
    } else {
        SSL_set_connect_state(p->ssl);
    }
    return p;
}

static void drain(struct corpus_peer *p, struct pg_sb *out)
{
    char buf[4096];
    int n;
    while ((n = BIO_read(p->out, buf, sizeof(buf))) > 0) {
        pg_sb_add(out, buf, (size_t)n);
    }
}

int corpus_peer_step(struct corpus_peer *p, const void *in, size_t len, struct pg_sb *out)
{
    if (len > 0) {
        BIO_write(p->in, in, (int)len);
    }
    ERR_clear_error();
    int r = SSL_is_init_finished(p->ssl) ? 1 : SSL_do_handshake(p->ssl);
    int failed = r != 1 && SSL_get_error(p->ssl, r) != SSL_ERROR_WANT_READ;
    if (r == 1) {
        char c;
        (void)SSL_peek(p->ssl, &c, 1); /* digest alerts and key updates */
    }
    drain(p, out);
    ERR_clear_error();
    return r == 1 ? 1 : failed ? -1 : 0;
}

int corpus_peer_alert(const struct corpus_peer *p)
{
    return p->alert;
}

int corpus_peer_write(struct corpus_peer *p, const void *data, size_t len, struct pg_sb *out)
{
    int r = SSL_write(p->ssl, data, (int)len);
    drain(p, out);
    ERR_clear_error();
    return r;
}

int corpus_peer_key_update(struct corpus_peer *p, struct pg_sb *out)
{
    int r = SSL_key_update(p->ssl, SSL_KEY_UPDATE_REQUESTED);
    r = r == 1 ? SSL_do_handshake(p->ssl) : r;
    drain(p, out);
    ERR_clear_error();
    return r;
}

size_t corpus_peer_read(struct corpus_peer *p, void *buf, size_t cap)
{
    int n = SSL_read(p->ssl, buf, (int)cap);
    ERR_clear_error();
    return n > 0 ? (size_t)n : 0;
}

const char *corpus_peer_describe(struct corpus_peer *p)
{
    SSL_SESSION *s = SSL_get0_session(p->ssl);
    const char *sni = SSL_get_servername(p->ssl, TLSEXT_NAMETYPE_host_name);
    snprintf(p->text, sizeof(p->text), "%s %s %s sni=%s", SSL_get_version(p->ssl),
             SSL_get_cipher_name(p->ssl), s != NULL && SSL_SESSION_is_resumable(s) ? "resumable" : "once",
             sni != NULL ? sni : "none");
    return p->text;
}

void corpus_peer_free(struct corpus_peer *p)
{
    if (p != NULL) {
        SSL_free(p->ssl);
        SSL_CTX_free(p->ctx);
        pg_free(p);
    }
}

/* ---- for tokens and requests ---- */

void corpus_rs256(const char *data, size_t len, unsigned char sig[256], unsigned char n[256])
{
    EVP_PKEY *k = the_rsa_key();
    BIGNUM *bn = NULL;
    size_t sig_len = 256;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    PG_BUG_ON(EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, k) != 1 ||
              EVP_DigestSign(ctx, sig, &sig_len, (const unsigned char *)data, len) != 1 || sig_len != 256);
    PG_BUG_ON(EVP_PKEY_get_bn_param(k, OSSL_PKEY_PARAM_RSA_N, &bn) != 1 || BN_bn2binpad(bn, n, 256) != 256);
    BN_free(bn);
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(k);
}

void corpus_hmac(const void *key, size_t key_len, const void *data, size_t len, unsigned char out[32])
{
    unsigned n = 32;
    PG_BUG_ON(HMAC(EVP_sha256(), key, (int)key_len, data, len, out, &n) == NULL);
}

struct pg_str corpus_csr(const char *kind, bool spoil_signature)
{
    EVP_PKEY *k = strcmp(kind, "RSA1024") == 0   ? EVP_RSA_gen(1024)
                  : strcmp(kind, "RSA2048") == 0 ? the_rsa_key()
                  : strcmp(kind, "P-224") == 0   ? EVP_EC_gen("P-224")
                                                 : EVP_EC_gen("P-256");
    X509_REQ *req = X509_REQ_new();
    STACK_OF(X509_EXTENSION) *exts = NULL;
    const struct {
        int nid;
        const char *value;
    } asked[] = {{NID_subject_alt_name, "URI:spiffe://evil/ns/x/sa/y"},
                 {NID_basic_constraints, "critical,CA:true"}};
    X509_REQ_set_pubkey(req, k);
    X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(req), "CN", MBSTRING_ASC,
                               (const unsigned char *)"evil", -1, -1, 0);
    for (size_t i = 0; i < PG_ARRAY_LEN(asked); i++) {
        X509_EXTENSION *e = X509V3_EXT_nconf_nid(NULL, NULL, asked[i].nid, asked[i].value);
        X509v3_add_ext(&exts, e, -1);
        X509_EXTENSION_free(e);
    }
    X509_REQ_add_extensions(req, exts);
    sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
    X509_REQ_sign(req, k, EVP_sha256());
    if (spoil_signature) { /* another key than the one that signed */
        EVP_PKEY *other = EVP_EC_gen("P-256");
        X509_REQ_set_pubkey(req, other);
        EVP_PKEY_free(other);
    }
    BIO *b = BIO_new(BIO_s_mem());
    PEM_write_bio_X509_REQ(b, req);
    X509_REQ_free(req);
    EVP_PKEY_free(k);
    return keep_bio(b);
}
