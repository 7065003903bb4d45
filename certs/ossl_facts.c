/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Facts about certificates for dumps, status and checks. Everything shown may have been written by a
 * stranger: control bytes never reach the strings. Any thread.
 */
#include "certs/ossl_int.h"

#include <openssl/err.h>
#include <openssl/sha.h>

static void to_hex(const unsigned char *p, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[p[i] >> 4];
        out[2 * i + 1] = digits[p[i] & 15];
    }
    out[2 * n] = '\0';
}

void cert_sha256_hex(const void *p, size_t len, char out[65])
{
    unsigned char md[SHA256_DIGEST_LENGTH];
    if (EVP_Digest(p, len, md, NULL, EVP_sha256(), NULL) == 1) {
        to_hex(md, sizeof(md), out);
    } else {
        ERR_clear_error();
        out[0] = '\0'; /* out of memory: equals no digest */
    }
}

static void copy_uri(X509 *c, char *out, size_t cap)
{
    out[0] = '\0';
    GENERAL_NAMES *names = X509_get_ext_d2i(c, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        int type = 0;
        const ASN1_STRING *v = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type);
        if (type != GEN_URI) {
            continue;
        }
        const unsigned char *p = ASN1_STRING_get0_data(v);
        size_t len = (size_t)ASN1_STRING_length(v);
        len = len < cap - 1 ? len : cap - 1;
        for (size_t k = 0; k < len; k++) {
            out[k] = p[k] > ' ' && p[k] < 0x7f ? (char)p[k] : '?';
        }
        out[len] = '\0';
        break;
    }
    GENERAL_NAMES_free(names);
    ERR_clear_error();
}

static int copy_serial(const X509 *c, char *out, size_t cap)
{
    BIGNUM *bn = ASN1_INTEGER_to_BN(X509_get0_serialNumber(c), NULL);
    char *dec = bn != NULL ? BN_bn2dec(bn) : NULL;
    int r = PG_E_PARSE;
    if (dec != NULL && strlen(dec) < cap) {
        memcpy(out, dec, strlen(dec) + 1);
        r = 0;
    }
    OPENSSL_free(dec);
    BN_free(bn);
    ERR_clear_error();
    return r;
}

static int fill(X509 *c, struct cert_facts *f)
{
    unsigned char md[SHA256_DIGEST_LENGTH];
    if (X509_digest(c, EVP_sha256(), md, NULL) != 1) {
        ERR_clear_error();
        return PG_E_NOMEM;
    }
    to_hex(md, sizeof(md), f->sha256);
    cert_ossl_name(X509_get_subject_name(c), f->subject, sizeof(f->subject));
    cert_ossl_name(X509_get_issuer_name(c), f->issuer, sizeof(f->issuer));
    copy_uri(c, f->uri_san, sizeof(f->uri_san));
    f->is_ca = (X509_get_extension_flags(c) & EXFLAG_CA) != 0;
    int r = copy_serial(c, f->serial, sizeof(f->serial));
    if (r == 0) {
        r = cert_ossl_time(X509_get0_notBefore(c), &f->not_before);
    }
    if (r == 0) {
        r = cert_ossl_time(X509_get0_notAfter(c), &f->not_after);
    }
    return r;
}

int cert_facts_of(struct pg_str pem, size_t nth, struct cert_facts *out)
{
    STACK_OF(X509) *certs = NULL;
    struct cert_facts f = {0};
    int r = cert_ossl_certs(pem, CERT_ROOTS_MAX + CERT_CHAIN_MAX, &certs, NULL);
    if (r < 0) {
        return r;
    }
    if (nth >= (size_t)sk_X509_num(certs)) {
        r = PG_E_NOTFOUND;
    } else {
        r = fill(sk_X509_value(certs, (int)nth), &f);
    }
    sk_X509_pop_free(certs, X509_free);
    if (r == 0) {
        *out = f;
    }
    return r;
}

static int verify(X509 *leaf, STACK_OF(X509) * chain, STACK_OF(X509) * certs, int64_t now_s,
                  struct pg_errtext *err)
{
    int ok = 0;
    struct cert_roots roots = {.n = 0};
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    if (ctx == NULL || cert_ossl_roots(certs, &roots) < 0 ||
        X509_STORE_CTX_init(ctx, roots.store[0], leaf, chain) != 1) {
        cert_ossl_fail(err, "out of memory");
    } else {
        ok = cert_ossl_verify(ctx, &roots, NULL, now_s, err);
    }
    ERR_clear_error();
    X509_STORE_CTX_free(ctx);
    cert_ossl_roots_fini(&roots);
    return ok;
}

int cert_chain_verifies(struct pg_str leaf_pem, struct pg_str chain_pem, struct pg_str roots_pem,
                        int64_t now_s, struct pg_errtext *err)
{
    STACK_OF(X509) *leaf = NULL;
    STACK_OF(X509) *chain = NULL;
    STACK_OF(X509) *roots = NULL;
    int r = cert_ossl_certs(leaf_pem, CERT_CHAIN_MAX, &leaf, err);
    if (r < 0) {
        pg_err_wrap(err, "leaf");
    }
    if (r == 0 && chain_pem.len > 0) {
        r = cert_ossl_certs(chain_pem, CERT_CHAIN_MAX, &chain, err);
        if (r < 0) {
            pg_err_wrap(err, "chain");
        }
    }
    if (r == 0) {
        r = cert_ossl_certs(roots_pem, CERT_ROOTS_MAX, &roots, err);
        if (r < 0) {
            pg_err_wrap(err, "roots");
        }
    }
    int ok = r == 0 ? verify(sk_X509_value(leaf, 0), chain, roots, now_s, err) : 0;
    sk_X509_pop_free(leaf, X509_free);
    sk_X509_pop_free(chain, X509_free);
    sk_X509_pop_free(roots, X509_free);
    return ok;
}
