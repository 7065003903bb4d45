/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Own certificate and trusted roots, parsed once into one SSL_CTX for each role; handshakes only reference
 * them. Immutable after construction and counted; any thread.
 */
#include "certs/ossl_int.h"

#include <openssl/err.h>

#define CIPHERS "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256"
#define GROUPS "X25519:P-256:P-384"
#define PEER_CHAIN_MAX_BYTES 65536 /* of a peer's Certificate message */
#define TRUST_DOMAINS_MAX 256u

struct own { /* parsed own certificate, or nothing */
    STACK_OF(X509) * chain;
    EVP_PKEY *key;
};

/* TLS 1.3, h2, and nothing that lets a connection skip the full proof: no tickets, no session cache, no early
 * data. */
static bool harden(SSL_CTX *ctx, X509_STORE *store)
{
    char groups[] = GROUPS; /* libssl's macro casts const away */
    SSL_CTX_set_security_level(ctx, CERT_SECURITY_LEVEL);
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_verify_depth(ctx, (int)CERT_CHAIN_MAX);
    SSL_CTX_set_max_cert_list(ctx, PEER_CHAIN_MAX_BYTES);
    SSL_CTX_set1_cert_store(ctx, store);
    return SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) == 1 &&
           SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) == 1 &&
           SSL_CTX_set_ciphersuites(ctx, CIPHERS) == 1 && SSL_CTX_set1_groups_list(ctx, groups) == 1 &&
           SSL_CTX_set_num_tickets(ctx, 0) == 1 && SSL_CTX_set_max_early_data(ctx, 0) == 1;
}

/* A root in the own chain is left out of the handshake: the peer has it or does not trust it, and parsing it
 * costs. */
static bool use_own(SSL_CTX *ctx, const struct own *own)
{
    if (SSL_CTX_use_certificate(ctx, sk_X509_value(own->chain, 0)) != 1 ||
        SSL_CTX_use_PrivateKey(ctx, own->key) != 1) {
        return false;
    }
    for (int i = 1; i < sk_X509_num(own->chain); i++) {
        X509 *c = sk_X509_value(own->chain, i);
        if ((X509_get_extension_flags(c) & EXFLAG_SS) == 0 && SSL_CTX_add1_chain_cert(ctx, c) != 1) {
            return false;
        }
    }
    return true;
}

static int make_contexts(struct cert_creds *c, const struct own *own, STACK_OF(X509) * roots,
                         struct pg_errtext *err)
{
    static const unsigned char alpn[] = {2, 'h', '2'};
    int r = PG_E_NOMEM;
    if (cert_ossl_roots(roots, &c->roots) < 0) {
        goto done;
    }
    X509_STORE *store = c->roots.store[0];
    c->client = SSL_CTX_new(TLS_client_method());
    if (c->client == NULL || !harden(c->client, store) ||
        SSL_CTX_set_alpn_protos(c->client, alpn, sizeof(alpn)) != 0) {
        goto done;
    }
    if (own->chain != NULL) {
        c->server = SSL_CTX_new(TLS_server_method());
        if (c->server == NULL || !harden(c->server, store) || !use_own(c->server, own) ||
            !use_own(c->client, own)) {
            goto done;
        }
    }
    cert_tls_setup(c->client, c->server);
    r = 0;
done:
    if (r < 0) {
        cert_ossl_fail(err, "cannot set up TLS");
    }
    return r;
}

static int parse_own(struct cert_creds *c, const struct cert_creds_options *o, struct own *own,
                     struct pg_errtext *err)
{
    if (o->chain_pem.len == 0) {
        return 0;
    }
    int r = cert_ossl_certs(o->chain_pem, CERT_CHAIN_MAX + 1, &own->chain, err);
    if (r < 0) {
        pg_err_wrap(err, "own certificate");
        return r == PG_E_LIMIT ? PG_E_PARSE : r;
    }
    r = cert_ossl_private_key(o->key_pem, &own->key, err);
    if (r < 0) {
        pg_err_wrap(err, "own key");
        return r == PG_E_LIMIT ? PG_E_PARSE : r;
    }
    X509 *leaf = sk_X509_value(own->chain, 0);
    if (X509_check_private_key(leaf, own->key) != 1) {
        cert_ossl_fail(err, "own key does not match the certificate");
        return PG_E_CONFIG;
    }
    if (cert_ossl_time(X509_get0_notBefore(leaf), &c->not_before) < 0 ||
        cert_ossl_time(X509_get0_notAfter(leaf), &c->not_after) < 0) {
        pg_err_set(err, "own certificate: bad validity");
        return PG_E_PARSE;
    }
    if (cert_ossl_has_uri(leaf) && cert_ossl_svid(leaf, c->identity, err) < 0) {
        pg_err_wrap(err, "own certificate");
        return PG_E_PARSE;
    }
    return 0;
}

/* Copies the accepted trust domains; without any, the own leaf's. */
static int set_domains(struct cert_creds *c, const struct cert_creds_options *o, struct pg_errtext *err)
{
    struct cert_spiffe own;
    struct pg_str one;
    const struct pg_str *list = o->trust_domains;
    size_t n = o->n_trust_domains;
    if (n == 0) {
        if (cert_spiffe_parse(pg_str_c(c->identity), &own, NULL) < 0) {
            return 0; /* no SPIFFE peer will be accepted */
        }
        one = own.trust_domain;
        list = &one;
        n = 1;
    }
    if (n > TRUST_DOMAINS_MAX) {
        pg_err_set(err, "more than %u trust domains", TRUST_DOMAINS_MAX);
        return PG_E_CONFIG;
    }
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        bool any = pg_str_eq_c(list[i], "*");
        if (!any && !cert_trust_domain_is_valid(list[i])) {
            pg_err_set(err, "invalid trust domain");
            return PG_E_CONFIG;
        }
        c->any_domain = c->any_domain || any;
        bytes += list[i].len;
    }
    c->domains = pg_malloc(bytes + 1);
    c->domain = pg_calloc(n, sizeof(*c->domain));
    if (c->domains == NULL || c->domain == NULL) {
        pg_err_set(err, "out of memory");
        return PG_E_NOMEM;
    }
    char *at = c->domains;
    for (size_t i = 0; i < n; i++) {
        memcpy(at, list[i].p, list[i].len);
        c->domain[c->n_domains++] = pg_str_n(at, list[i].len);
        at += list[i].len;
    }
    return 0;
}

static int fill(struct cert_creds *c, const struct cert_creds_options *o, struct own *own,
                struct pg_errtext *err)
{
    STACK_OF(X509) *roots = NULL;
    int r = 0;
    c->chain_pem = pg_strndup(o->chain_pem.len > 0 ? o->chain_pem.p : "", o->chain_pem.len);
    c->roots_pem = pg_strndup(o->roots_pem.len > 0 ? o->roots_pem.p : "", o->roots_pem.len);
    if (c->chain_pem == NULL || c->roots_pem == NULL) {
        pg_err_set(err, "out of memory");
        return PG_E_NOMEM;
    }
    if (pg_str_trim(o->roots_pem).len == 0) {
        pg_err_set(err, "no trusted roots");
        return PG_E_CONFIG;
    }
    r = parse_own(c, o, own, err);
    if (r == 0) {
        r = set_domains(c, o, err);
    }
    if (r == 0) {
        r = cert_ossl_certs(o->roots_pem, CERT_ROOTS_MAX, &roots, err);
        if (r < 0) {
            pg_err_wrap(err, "roots");
            r = r == PG_E_LIMIT ? PG_E_PARSE : r;
        }
    }
    if (r == 0) {
        r = make_contexts(c, own, roots, err);
    }
    sk_X509_pop_free(roots, X509_free);
    return r;
}

static void destroy(struct cert_creds *c)
{
    SSL_CTX_free(c->client);
    SSL_CTX_free(c->server);
    cert_ossl_roots_fini(&c->roots);
    pg_free(c->chain_pem);
    pg_free(c->roots_pem);
    pg_free(c->domains);
    pg_free(c->domain);
    pg_free(c);
}

int cert_creds_new(const struct cert_creds_options *o, struct cert_creds **out, struct pg_errtext *err)
{
    struct own own = {0};
    struct cert_creds *c = pg_calloc(1, sizeof(*c));
    if (c == NULL) {
        pg_err_set(err, "out of memory");
        return PG_E_NOMEM;
    }
    atomic_init(&c->refs, 1);
    int r = fill(c, o, &own, err);
    sk_X509_pop_free(own.chain, X509_free);
    EVP_PKEY_free(own.key);
    if (r < 0) {
        destroy(c);
        return r;
    }
    *out = c;
    return 0;
}

struct cert_creds *cert_creds_ref(struct cert_creds *c)
{
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    return c;
}

void cert_creds_unref(struct cert_creds *c)
{
    if (c != NULL && atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1) {
        destroy(c);
    }
}

struct pg_str cert_creds_identity(const struct cert_creds *c)
{
    return pg_str_c(c->identity);
}

struct pg_str cert_creds_chain_pem(const struct cert_creds *c)
{
    return pg_str_c(c->chain_pem);
}

struct pg_str cert_creds_roots_pem(const struct cert_creds *c)
{
    return pg_str_c(c->roots_pem);
}

int64_t cert_creds_not_before(const struct cert_creds *c)
{
    return c->not_before;
}

int64_t cert_creds_not_after(const struct cert_creds *c)
{
    return c->not_after;
}
