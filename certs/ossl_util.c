/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the OpenSSL files share: draining its error queue into words, PEM in and out, times, the frame of a
 * certificate. Every reader is bounded by CERT_PEM_MAX and a count. Any thread.
 */
#include "certs/ossl_int.h"

#include "core/rng.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <time.h>

void cert_ossl_fail(struct pg_errtext *err, const char *fmt, ...)
{
    char what[160];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    unsigned long code = ERR_peek_last_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;
    if (reason != NULL) {
        pg_err_set(err, "%s: %s", what, reason);
    } else {
        pg_err_set(err, "%s", what);
    }
    ERR_clear_error();
}

int cert_ossl_time(const ASN1_TIME *t, int64_t *out)
{
    struct tm tm = {0};
    if (t == NULL || ASN1_TIME_to_tm(t, &tm) != 1) {
        ERR_clear_error();
        return PG_E_PARSE;
    }
    *out = (int64_t)timegm(&tm);
    return 0;
}

/* True when the queue only says that no further PEM block follows. */
static bool is_pem_end(void)
{
    unsigned long code = ERR_peek_last_error();
    return ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
}

static BIO *open_pem(struct pg_str pem, int *r, struct pg_errtext *err)
{
    if (pem.len == 0 || pem.len > CERT_PEM_MAX) {
        pg_err_set(err, pem.len == 0 ? "empty PEM" : "PEM text too large");
        *r = pem.len == 0 ? PG_E_PARSE : PG_E_LIMIT;
        return NULL;
    }
    ERR_clear_error();
    BIO *in = BIO_new_mem_buf(pem.p, (int)pem.len);
    if (in == NULL) {
        cert_ossl_fail(err, "out of memory");
        *r = PG_E_NOMEM;
    }
    return in;
}

int cert_ossl_certs(struct pg_str pem, size_t max, STACK_OF(X509) * *out, struct pg_errtext *err)
{
    int r = 0;
    BIO *in = open_pem(pem, &r, err);
    if (in == NULL) {
        return r;
    }
    STACK_OF(X509) *certs = sk_X509_new_null();
    if (certs == NULL) {
        r = PG_E_NOMEM;
    }
    while (r == 0) {
        X509 *c = PEM_read_bio_X509(in, NULL, NULL, NULL);
        if (c == NULL) {
            if (sk_X509_num(certs) == 0 || !is_pem_end()) {
                cert_ossl_fail(err, "bad certificate PEM");
                r = PG_E_PARSE;
            }
            break;
        }
        if ((size_t)sk_X509_num(certs) >= max) {
            pg_err_set(err, "more than %zu certificates", max);
            r = PG_E_LIMIT;
        } else if (sk_X509_push(certs, c) <= 0) {
            r = PG_E_NOMEM;
        }
        if (r < 0) {
            X509_free(c);
        }
    }
    ERR_clear_error();
    BIO_free(in);
    if (r < 0) {
        sk_X509_pop_free(certs, X509_free);
        return r;
    }
    *out = certs;
    return 0;
}

/* An encrypted key must fail, not ask the terminal. */
static int no_password(char *buf, int size, int rwflag, void *arg)
{
    (void)buf;
    (void)size;
    (void)rwflag;
    (void)arg;
    return -1;
}

int cert_ossl_private_key(struct pg_str pem, EVP_PKEY **out, struct pg_errtext *err)
{
    int r = 0;
    BIO *in = open_pem(pem, &r, err);
    if (in == NULL) {
        return r;
    }
    EVP_PKEY *k = PEM_read_bio_PrivateKey(in, NULL, no_password, NULL);
    BIO_free(in);
    if (k == NULL) {
        cert_ossl_fail(err, "bad private key PEM");
        return PG_E_PARSE;
    }
    ERR_clear_error();
    *out = k;
    return 0;
}

/* Moves what a memory BIO holds into `out` (in one piece, so that a builder does not leave copies of a key
 * behind). */
static int take_bio(BIO *b, bool written, struct pg_sb *out)
{
    char *p = NULL;
    long n = written ? BIO_get_mem_data(b, &p) : -1;
    if (n > 0) {
        pg_sb_add(out, p, (size_t)n);
    }
    BIO_free(b);
    ERR_clear_error();
    return n > 0 ? out->err : PG_E_NOMEM;
}

int cert_ossl_cert_pem(X509 *c, struct pg_sb *out)
{
    BIO *b = BIO_new(BIO_s_mem());
    if (b == NULL) {
        ERR_clear_error();
        return PG_E_NOMEM;
    }
    return take_bio(b, PEM_write_bio_X509(b, c) == 1, out);
}

int cert_ossl_key_pem(EVP_PKEY *k, struct pg_sb *out)
{
    BIO *b = BIO_new(BIO_s_secmem()); /* wiped when freed */
    if (b == NULL) {
        ERR_clear_error();
        return PG_E_NOMEM;
    }
    return take_bio(b, PEM_write_bio_PKCS8PrivateKey(b, k, NULL, NULL, 0, NULL, NULL) == 1, out);
}

int cert_ossl_add_ext(X509 *c, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, c, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_nconf_nid(NULL, &ctx, nid, value);
    if (e == NULL) {
        return PG_E_NOMEM;
    }
    int ok = X509_add_ext(c, e, -1);
    X509_EXTENSION_free(e);
    return ok == 1 ? 0 : PG_E_NOMEM;
}

static int push_name(GENERAL_NAMES *names, int type, struct pg_str s)
{
    GENERAL_NAME *g = GENERAL_NAME_new();
    ASN1_IA5STRING *v = ASN1_IA5STRING_new();
    if (g == NULL || v == NULL || ASN1_STRING_set(v, s.p, (int)s.len) != 1) {
        GENERAL_NAME_free(g);
        ASN1_IA5STRING_free(v);
        return PG_E_NOMEM;
    }
    GENERAL_NAME_set0_value(g, type, v);
    if (sk_GENERAL_NAME_push(names, g) <= 0) {
        GENERAL_NAME_free(g);
        return PG_E_NOMEM;
    }
    return 0;
}

int cert_ossl_make_san(struct pg_str uri, const struct pg_str *dns, size_t n_dns, GENERAL_NAMES **out)
{
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    int r = names == NULL ? PG_E_NOMEM : 0;
    if (r == 0 && uri.len > 0) {
        r = push_name(names, GEN_URI, uri);
    }
    for (size_t i = 0; r == 0 && i < n_dns; i++) {
        r = push_name(names, GEN_DNS, dns[i]);
    }
    if (r < 0) {
        GENERAL_NAMES_free(names);
        return r;
    }
    *out = names;
    return 0;
}

static bool set_serial(X509 *c)
{
    unsigned char raw[16];
    pg_random_bytes(raw, sizeof(raw));
    raw[0] |= 1; /* never zero, always a full 121 bits or more */
    BIGNUM *bn = BN_bin2bn(raw, sizeof(raw), NULL);
    bool ok = bn != NULL && BN_to_ASN1_INTEGER(bn, X509_get_serialNumber(c)) != NULL;
    BN_free(bn);
    return ok;
}

X509 *cert_ossl_blank(int64_t not_before, int64_t not_after, EVP_PKEY *pub)
{
    X509 *c = X509_new();
    if (c != NULL && X509_set_version(c, X509_VERSION_3) == 1 && set_serial(c) &&
        ASN1_TIME_set(X509_getm_notBefore(c), (time_t)not_before) != NULL &&
        ASN1_TIME_set(X509_getm_notAfter(c), (time_t)not_after) != NULL && X509_set_pubkey(c, pub) == 1) {
        return c;
    }
    X509_free(c);
    return NULL;
}

const EVP_MD *cert_ossl_md(const EVP_PKEY *signer)
{
    bool eddsa = EVP_PKEY_is_a(signer, "ED25519") == 1 || EVP_PKEY_is_a(signer, "ED448") == 1;
    return eddsa ? NULL : EVP_sha256();
}

int cert_ossl_ec_new(EVP_PKEY **out, struct pg_errtext *err)
{
    ERR_clear_error();
    EVP_PKEY *k = EVP_EC_gen("P-256");
    if (k == NULL) {
        cert_ossl_fail(err, "cannot make a P-256 key");
        return PG_E_NOMEM;
    }
    *out = k;
    return 0;
}

void cert_ossl_name(const X509_NAME *n, char *out, size_t cap)
{
    out[0] = '\0';
    BIO *b = BIO_new(BIO_s_mem());
    if (b == NULL) {
        ERR_clear_error();
        return;
    }
    char *p = NULL;
    if (X509_NAME_print_ex(b, n, 0, XN_FLAG_SEP_CPLUS_SPC | XN_FLAG_FN_SN | ASN1_STRFLGS_RFC2253) >= 0) {
        long len = BIO_get_mem_data(b, &p);
        size_t take = len < 0 ? 0 : (size_t)len < cap - 1 ? (size_t)len : cap - 1;
        if (take > 0) {
            memcpy(out, p, take);
        }
        out[take] = '\0';
    }
    BIO_free(b);
    ERR_clear_error();
}
