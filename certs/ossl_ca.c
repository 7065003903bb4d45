/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The workload CA: loads a plugged-in intermediate and signs leaves with istiod's profile. Of a request only
 * the public key is taken; the identity is the caller's argument, already authenticated. Control thread;
 * reads its four files, nothing else blocks.
 */
#include "certs/file.h"
#include "certs/ossl_int.h"
#include "core/clock.h"

#include <openssl/err.h>
#include <openssl/pem.h>

#define BACKDATE_S 120 /* notBefore lies this far in the past, for peers whose clock is behind */
#define DNS_NAME_MAX 253u

struct cert_ca {
    X509 *cert;
    EVP_PKEY *key;
    char *root_pem;
    char *chain_pem;
    char *intermediate_pem;
    char *chain_each[CERT_CHAIN_MAX]; /* certificates of cert-chain.pem one by one */
    size_t n_chain;
    int64_t not_after;
};

struct ca_texts {
    struct pg_sb cert, key, chain, root;
};

/* The makefile's names, or the names of a kubernetes.io/tls Secret (cert-manager). */
static int read_texts(const char *dir, struct ca_texts *t, struct pg_errtext *err)
{
    bool tls_secret = !cert_file_exists(dir, "ca-cert.pem") && cert_file_exists(dir, "tls.crt");
    int r = cert_file_read(dir, tls_secret ? "tls.crt" : "ca-cert.pem", CERT_PEM_MAX, &t->cert, err);
    if (r == 0) {
        r = cert_file_read(dir, tls_secret ? "tls.key" : "ca-key.pem", CERT_PEM_MAX, &t->key, err);
    }
    if (r == 0) {
        r = cert_file_read(dir, tls_secret ? "tls.crt" : "cert-chain.pem", CERT_PEM_MAX, &t->chain, err);
    }
    if (r == 0) {
        r = cert_file_read(dir, tls_secret ? "ca.crt" : "root-cert.pem", CERT_PEM_MAX, &t->root, err);
    }
    return r;
}

static int one_pem(X509 *c, char **out)
{
    struct pg_sb sb;
    pg_sb_init(&sb, CERT_PEM_MAX);
    int r = cert_ossl_cert_pem(c, &sb);
    char *p = r == 0 ? pg_sb_take(&sb) : NULL;
    pg_sb_fini(&sb);
    if (p == NULL) {
        return r < 0 ? r : PG_E_NOMEM;
    }
    *out = p;
    return 0;
}

static int split_chain(struct cert_ca *ca, STACK_OF(X509) * chain)
{
    for (int i = 0; i < sk_X509_num(chain); i++) {
        int r = one_pem(sk_X509_value(chain, i), &ca->chain_each[ca->n_chain]);
        if (r < 0) {
            return r;
        }
        ca->n_chain++;
    }
    return 0;
}

/* Everything an operator can mix up when copying four files around. */
static int prove(const struct cert_ca *ca, STACK_OF(X509) * chain, struct pg_errtext *err)
{
    if (X509_check_private_key(ca->cert, ca->key) != 1) {
        cert_ossl_fail(err, "the CA key does not belong to the CA certificate");
        return PG_E_CONFIG;
    }
    if ((X509_get_extension_flags(ca->cert) & EXFLAG_CA) == 0 ||
        ((X509_get_extension_flags(ca->cert) & EXFLAG_KUSAGE) != 0 &&
         (X509_get_key_usage(ca->cert) & KU_KEY_CERT_SIGN) == 0)) {
        pg_err_set(err, "the CA certificate may not sign certificates");
        return PG_E_CONFIG;
    }
    if (X509_cmp(sk_X509_value(chain, 0), ca->cert) != 0) {
        pg_err_set(err, "the chain does not begin with the CA certificate");
        return PG_E_CONFIG;
    }
    int64_t now = pg_clock_wall_s();
    if (now >= ca->not_after) {
        pg_err_set(err, "the CA certificate has expired");
        return PG_E_UNTRUSTED;
    }
    struct pg_str chain_pem = pg_str_c(ca->chain_pem);
    if (cert_chain_verifies(pg_str_c(ca->intermediate_pem), chain_pem, pg_str_c(ca->root_pem), now, err) !=
        1) {
        pg_err_wrap(err, "the CA certificate does not verify against the root");
        return PG_E_UNTRUSTED;
    }
    return 0;
}

static int ca_parse(struct cert_ca *ca, const struct ca_texts *t, struct pg_errtext *err)
{
    STACK_OF(X509) *certs = NULL;
    STACK_OF(X509) *chain = NULL;
    int r = cert_ossl_certs(pg_sb_view(&t->cert), CERT_CHAIN_MAX, &certs, err);
    if (r == 0) {
        ca->cert = sk_X509_shift(certs);
        r = cert_ossl_private_key(pg_sb_view(&t->key), &ca->key, err);
    }
    if (r == 0) {
        r = cert_ossl_certs(pg_sb_view(&t->chain), CERT_CHAIN_MAX, &chain, err);
    }
    if (r == 0) {
        ca->root_pem = pg_strndup(t->root.p, t->root.len);
        ca->chain_pem = pg_strndup(t->chain.p, t->chain.len);
        ca->intermediate_pem = pg_strndup(t->cert.p, t->cert.len);
        r = ca->root_pem == NULL || ca->chain_pem == NULL || ca->intermediate_pem == NULL ? PG_E_NOMEM : 0;
    }
    if (r == 0) {
        r = split_chain(ca, chain);
    }
    if (r == PG_E_NOMEM) {
        pg_err_set(err, "out of memory");
    }
    if (r == 0 && cert_ossl_time(X509_get0_notAfter(ca->cert), &ca->not_after) < 0) {
        pg_err_set(err, "the CA certificate has no valid end");
        r = PG_E_PARSE;
    }
    if (r == 0) {
        r = prove(ca, chain, err);
    }
    sk_X509_pop_free(certs, X509_free);
    sk_X509_pop_free(chain, X509_free);
    return r;
}

int cert_ca_load(const char *dir, struct cert_ca **out, struct pg_errtext *err)
{
    struct ca_texts t;
    pg_sb_init(&t.cert, CERT_PEM_MAX);
    pg_sb_init(&t.key, CERT_PEM_MAX);
    pg_sb_init(&t.chain, CERT_PEM_MAX);
    pg_sb_init(&t.root, CERT_PEM_MAX);
    struct cert_ca *ca = pg_calloc(1, sizeof(*ca));
    int r = PG_E_NOMEM;
    if (ca == NULL) {
        pg_err_set(err, "out of memory");
    } else {
        r = read_texts(dir, &t, err);
    }
    if (r == 0) {
        r = ca_parse(ca, &t, err);
        if (r < 0) {
            pg_err_wrap(err, "%s", dir);
        }
    }
    if (t.key.p != NULL) {
        pg_wipe(t.key.p, t.key.cap);
    }
    pg_sb_fini(&t.cert);
    pg_sb_fini(&t.key);
    pg_sb_fini(&t.chain);
    pg_sb_fini(&t.root);
    if (r < 0) {
        cert_ca_free(ca);
        return r;
    }
    *out = ca;
    return 0;
}

void cert_ca_free(struct cert_ca *ca)
{
    if (ca == NULL) {
        return;
    }
    X509_free(ca->cert);
    EVP_PKEY_free(ca->key);
    pg_free(ca->root_pem);
    pg_free(ca->chain_pem);
    pg_free(ca->intermediate_pem);
    for (size_t i = 0; i < ca->n_chain; i++) {
        pg_free(ca->chain_each[i]);
    }
    pg_free(ca);
}

struct pg_str cert_ca_root_pem(const struct cert_ca *ca)
{
    return pg_str_c(ca->root_pem);
}

struct pg_str cert_ca_chain_pem(const struct cert_ca *ca)
{
    return pg_str_c(ca->chain_pem);
}

struct pg_str cert_ca_intermediate_pem(const struct cert_ca *ca)
{
    return pg_str_c(ca->intermediate_pem);
}

int64_t cert_ca_not_after(const struct cert_ca *ca)
{
    return ca->not_after;
}

/* A leaf of istiod's profile for `pub`, signed. */
static int sign_leaf(const struct cert_ca *ca, EVP_PKEY *pub, struct pg_str uri, const struct pg_str *dns,
                     size_t n_dns, int64_t not_before, int64_t not_after, X509 **out, struct pg_errtext *err)
{
    GENERAL_NAMES *names = NULL;
    int r = PG_E_NOMEM;
    ERR_clear_error();
    X509 *c = cert_ossl_blank(not_before, not_after, pub);
    if (c == NULL || X509_set_issuer_name(c, X509_get_subject_name(ca->cert)) != 1 ||
        cert_ossl_add_ext(c, ca->cert, NID_key_usage, "critical,digitalSignature,keyEncipherment") < 0 ||
        cert_ossl_add_ext(c, ca->cert, NID_ext_key_usage, "serverAuth,clientAuth") < 0 ||
        cert_ossl_add_ext(c, ca->cert, NID_basic_constraints, "critical,CA:false") < 0) {
        goto done;
    }
    if (X509_get0_subject_key_id(ca->cert) != NULL &&
        cert_ossl_add_ext(c, ca->cert, NID_authority_key_identifier, "keyid") < 0) {
        goto done;
    }
    if (cert_ossl_make_san(uri, dns, n_dns, &names) < 0 ||
        X509_add1_ext_i2d(c, NID_subject_alt_name, names, 1, X509V3_ADD_DEFAULT) != 1 ||
        X509_sign(c, ca->key, cert_ossl_md(ca->key)) <= 0) {
        goto done;
    }
    *out = c;
    c = NULL;
    r = 0;
done:
    if (r < 0) {
        cert_ossl_fail(err, "cannot sign the certificate");
    }
    GENERAL_NAMES_free(names);
    X509_free(c);
    return r;
}

/* Key kinds and sizes that TLS peers accept and that cost a bounded time to verify with. */
static bool is_usable_key(EVP_PKEY *k)
{
    if (EVP_PKEY_is_a(k, "RSA") == 1) {
        return EVP_PKEY_get_bits(k) >= CERT_RSA_MIN_BITS && EVP_PKEY_get_bits(k) <= CERT_RSA_MAX_BITS;
    }
    if (EVP_PKEY_is_a(k, "EC") == 1) {
        char group[64] = "";
        size_t len = 0;
        return EVP_PKEY_get_group_name(k, group, sizeof(group), &len) == 1 &&
               (strcmp(group, "prime256v1") == 0 || strcmp(group, "secp384r1") == 0 ||
                strcmp(group, "secp521r1") == 0);
    }
    return false;
}

/* The public key of a request which proves possession of the private one. */
static int csr_key(struct pg_str pem, EVP_PKEY **out, struct pg_errtext *err)
{
    if (pem.len == 0 || pem.len > CERT_PEM_MAX) {
        pg_err_set(err, "certificate request is empty or too large");
        return PG_E_PARSE;
    }
    ERR_clear_error();
    int r = PG_E_PARSE;
    EVP_PKEY *key = NULL;
    BIO *in = BIO_new_mem_buf(pem.p, (int)pem.len);
    X509_REQ *req = in != NULL ? PEM_read_bio_X509_REQ(in, NULL, NULL, NULL) : NULL;
    if (req == NULL) {
        cert_ossl_fail(err, "bad certificate request");
        goto done;
    }
    key = X509_REQ_get_pubkey(req);
    if (key == NULL || !is_usable_key(key)) {
        cert_ossl_fail(err, "certificate request has an unsupported key");
        goto done;
    }
    if (X509_REQ_verify(req, key) != 1) {
        cert_ossl_fail(err, "certificate request is not signed by its own key");
        goto done;
    }
    *out = key;
    key = NULL;
    r = 0;
done:
    ERR_clear_error();
    EVP_PKEY_free(key);
    X509_REQ_free(req);
    BIO_free(in);
    return r;
}

static int issued_fill(const struct cert_ca *ca, X509 *leaf, struct cert_issued *out)
{
    int r = one_pem(leaf, &out->pem[0]);
    out->n = r == 0 ? 1 : 0;
    for (size_t i = 0; r == 0 && i < ca->n_chain; i++) {
        out->pem[out->n] = pg_strdup(ca->chain_each[i]);
        r = out->pem[out->n] != NULL ? 0 : PG_E_NOMEM;
        out->n += r == 0;
    }
    if (r == 0) {
        out->pem[out->n] = pg_strdup(ca->root_pem);
        r = out->pem[out->n] != NULL ? 0 : PG_E_NOMEM;
        out->n += r == 0;
    }
    return r;
}

int cert_ca_sign_csr(const struct cert_ca *ca, struct pg_str csr_pem, struct pg_str spiffe, int64_t ttl_s,
                     int64_t now_s, struct cert_issued *out, struct pg_errtext *err)
{
    struct cert_spiffe id;
    struct cert_issued issued = {0};
    EVP_PKEY *key = NULL;
    X509 *leaf = NULL;

    if (cert_spiffe_parse(spiffe, &id, err) < 0) {
        return PG_E_CONFIG;
    }
    if (ttl_s > CERT_TTL_MAX_S) {
        pg_err_set(err, "requested TTL %lld s is greater than the maximum of %d s", (long long)ttl_s,
                   CERT_TTL_MAX_S);
        return PG_E_CONFIG;
    }
    if (now_s >= ca->not_after) {
        pg_err_set(err, "the CA certificate has expired");
        return PG_E_UNTRUSTED;
    }
    int r = csr_key(csr_pem, &key, err);
    if (r == 0) {
        int64_t end = now_s + (ttl_s > 0 ? ttl_s : CERT_TTL_DEFAULT_S);
        issued.not_before = now_s - BACKDATE_S;
        issued.not_after = end < ca->not_after ? end : ca->not_after;
        r = sign_leaf(ca, key, spiffe, NULL, 0, issued.not_before, issued.not_after, &leaf, err);
    }
    if (r == 0) {
        r = issued_fill(ca, leaf, &issued);
        if (r < 0) {
            pg_err_set(err, "%s", pg_err_str(r));
        }
    }
    EVP_PKEY_free(key);
    X509_free(leaf);
    if (r < 0) {
        cert_issued_fini(&issued);
        return r;
    }
    *out = issued;
    return 0;
}

void cert_issued_fini(struct cert_issued *i)
{
    for (size_t k = 0; k < i->n; k++) {
        pg_free(i->pem[k]);
    }
    *i = (struct cert_issued){0};
}

static int check_server_names(struct pg_str spiffe, const struct pg_str *dns, size_t n_dns,
                              struct pg_errtext *err)
{
    struct cert_spiffe id;
    if (spiffe.len > 0 && cert_spiffe_parse(spiffe, &id, err) < 0) {
        return PG_E_CONFIG;
    }
    if ((spiffe.len == 0 && n_dns == 0) || n_dns > CERT_SAN_MAX) {
        pg_err_set(err, "a serving certificate needs 1 to %u names", CERT_SAN_MAX);
        return PG_E_CONFIG;
    }
    for (size_t i = 0; i < n_dns; i++) {
        bool ok = dns[i].len > 0 && dns[i].len <= DNS_NAME_MAX;
        for (size_t k = 0; ok && k < dns[i].len; k++) {
            char c = dns[i].p[k];
            ok = c > ' ' && c < 0x7f && c != '/' && c != '\\';
        }
        if (!ok) {
            pg_err_set(err, "bad DNS name for the serving certificate");
            return PG_E_CONFIG;
        }
    }
    return 0;
}

int cert_ca_issue_server(const struct cert_ca *ca, struct pg_str spiffe, const struct pg_str *dns,
                         size_t n_dns, int64_t ttl_s, int64_t now_s, struct pg_sb *chain_pem,
                         struct pg_sb *key_pem, struct pg_errtext *err)
{
    EVP_PKEY *key = NULL;
    X509 *leaf = NULL;
    int r = check_server_names(spiffe, dns, n_dns, err);
    if (r < 0) {
        return r;
    }
    if (now_s >= ca->not_after) {
        pg_err_set(err, "the CA certificate has expired");
        return PG_E_UNTRUSTED;
    }
    int64_t ttl = ttl_s > 0 ? ttl_s : CERT_TTL_DEFAULT_S;
    int64_t end = ttl < ca->not_after - now_s ? now_s + ttl : ca->not_after;
    r = cert_ossl_ec_new(&key, err);
    if (r == 0) {
        r = sign_leaf(ca, key, spiffe, dns, n_dns, now_s - BACKDATE_S, end, &leaf, err);
    }
    if (r == 0) {
        r = cert_ossl_cert_pem(leaf, chain_pem);
        pg_sb_c(chain_pem, ca->chain_pem);
        if (r == 0) {
            r = chain_pem->err;
        }
        if (r == 0) {
            r = cert_ossl_key_pem(key, key_pem);
        }
        if (r < 0) {
            pg_err_set(err, "%s", pg_err_str(r));
        }
    }
    EVP_PKEY_free(key);
    X509_free(leaf);
    return r;
}
