/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by certs/ossl_*.c and certs/tls_ossl*.c, the only files that see OpenSSL. Rule at this border: every
 * function that touches OpenSSL leaves its error queue empty, and failures leave as pg errors with text.
 */
#ifndef ISTHMUS_CERTS_OSSL_INT_H
#define ISTHMUS_CERTS_OSSL_INT_H

#include "certs/ca.h"
#include "certs/tls.h"

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>

#define CERT_SECURITY_LEVEL 2
#define CERT_RSA_MIN_BITS 2048
#define CERT_RSA_MAX_BITS 8192
#define CERT_SAN_MAX 64u /* names of a serving certificate */

struct cert_key {
    EVP_PKEY *pkey;
};
/*
 * Trusted roots. All makefile meshes name their root "O=Istio, CN=Root CA" and their intermediates carry no
 * issuer key id, so that a bundle of two such roots is ordinary and libssl, which takes the first root of a
 * fitting name, would choose the wrong one. Hence stores of roots with distinct subjects: the k-th root of a
 * subject is in store k. Nearly always there is one store. A root need not be self-signed, as with Go and
 * webpki.
 */
struct cert_roots {
    X509_STORE *store[CERT_ROOTS_MAX];
    size_t n;
};
struct cert_creds {
    atomic_uint refs;
    struct cert_roots roots;
    SSL_CTX *client;
    SSL_CTX *server; /* NULL without an own certificate */
    char *chain_pem;
    char *roots_pem;
    char *domains; /* the bytes `domain` points to */
    struct pg_str *domain;
    size_t n_domains;
    bool any_domain;
    char identity[CERT_SPIFFE_MAX + 1];
    int64_t not_before, not_after;
};

/* Sets "<formatted>: <OpenSSL's reason>" (no reason when its queue is empty) and empties the queue. */
void cert_ossl_fail(struct pg_errtext *err, const char *fmt, ...) PG_PRINTF(2, 3);
/* Epoch seconds of an ASN.1 time; 0 or PG_E_PARSE. */
int cert_ossl_time(const ASN1_TIME *t, int64_t *out) PG_MUST_CHECK;
/* All certificates of a PEM text, at most `max`. PG_E_PARSE (also for none), PG_E_LIMIT, PG_E_NOMEM. */
int cert_ossl_certs(struct pg_str pem, size_t max, STACK_OF(X509) * *out,
                    struct pg_errtext *err) PG_MUST_CHECK;
int cert_ossl_private_key(struct pg_str pem, EVP_PKEY **out, struct pg_errtext *err) PG_MUST_CHECK;
/* Appends PEM. 0 or PG_E_NOMEM/PG_E_LIMIT. */
int cert_ossl_cert_pem(X509 *c, struct pg_sb *out) PG_MUST_CHECK;
int cert_ossl_key_pem(EVP_PKEY *k, struct pg_sb *out) PG_MUST_CHECK;
/* Appends an extension by OpenSSL's own value syntax; `value` must not come from outside. */
int cert_ossl_add_ext(X509 *c, X509 *issuer, int nid, const char *value) PG_MUST_CHECK;
/* Subject alternative names, built as data, not as text. `uri` may be empty. */
int cert_ossl_make_san(struct pg_str uri, const struct pg_str *dns, size_t n_dns,
                       GENERAL_NAMES **out) PG_MUST_CHECK;
/* Version 3, random 128-bit serial, validity, public key; no names or extensions. */
X509 *cert_ossl_blank(int64_t not_before, int64_t not_after, EVP_PKEY *pub) PG_MUST_CHECK;
/* The digest that goes with a signing key: NULL for EdDSA. */
const EVP_MD *cert_ossl_md(const EVP_PKEY *signer);
int cert_ossl_ec_new(EVP_PKEY **out, struct pg_errtext *err) PG_MUST_CHECK;
/* "O=Istio, CN=Root CA" cut to `cap`. */
void cert_ossl_name(const X509_NAME *n, char *out, size_t cap);

/* Identity rules for a verified leaf; shared by the handshake and the loading of own certificates.
 * The one SPIFFE id of a leaf, copied into `id`; PG_E_UNTRUSTED with the reason when the leaf breaks an
 * X509-SVID rule. */
int cert_ossl_svid(X509 *leaf, char id[CERT_SPIFFE_MAX + 1], struct pg_errtext *err) PG_MUST_CHECK;
bool cert_ossl_has_uri(X509 *leaf);
struct cert_expectation { /* owned copy of a struct cert_expect */
    enum cert_expect_kind kind;
    struct pg_str *names;
    size_t n_names;
    char *text;
};
/* 0 with `id` set ("" for a DNS peer), or PG_E_UNTRUSTED with the reason. */
int cert_ossl_accept(const struct cert_creds *creds, const struct cert_expectation *e, X509 *leaf,
                     char id[CERT_SPIFFE_MAX + 1], struct pg_errtext *err) PG_MUST_CHECK;
/* The words for a TLS alert number. */
const char *cert_ossl_alert_text(int alert);
/* Hangs the handshake's callbacks (verification, ALPN) into the contexts; tls_ossl.c. `server` may be NULL.
 */
void cert_tls_setup(SSL_CTX *client, SSL_CTX *server);
/* 0 or PG_E_NOMEM. */
int cert_ossl_roots(STACK_OF(X509) * certs, struct cert_roots *out) PG_MUST_CHECK;
void cert_ossl_roots_fini(struct cert_roots *r);
/* Verifies what `ctx` (initialised with roots->store[0]) holds at `now_s` against all stores; `purpose` is
 * one of libssl's parameter sets ("ssl_client", "ssl_server") or NULL for any. When false, `ctx` has the
 * error that tells most and `why` its words. */
bool cert_ossl_verify(X509_STORE_CTX *ctx, const struct cert_roots *roots, const char *purpose, int64_t now_s,
                      struct pg_errtext *why);

#endif
