/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Own private keys and certificate requests in ztunnel's shape: a fresh P-256 key per request, empty subject,
 * one critical URI SAN. The key stays an EVP object; PEM is made only on request. Control thread.
 */
#include "certs/ossl_int.h"

#include <openssl/err.h>
#include <openssl/pem.h>

int cert_key_new_p256(struct cert_key **out, struct pg_errtext *err)
{
    struct cert_key *k = pg_calloc(1, sizeof(*k));
    if (k == NULL) {
        pg_err_set(err, "out of memory");
        return PG_E_NOMEM;
    }
    int r = cert_ossl_ec_new(&k->pkey, err);
    if (r < 0) {
        pg_free(k);
        return r;
    }
    *out = k;
    return 0;
}

void cert_key_free(struct cert_key *k)
{
    if (k == NULL) {
        return;
    }
    EVP_PKEY_free(k->pkey); /* OpenSSL cleanses the scalar */
    pg_free(k);
}

int cert_key_pem(const struct cert_key *k, struct pg_sb *out)
{
    return cert_ossl_key_pem(k->pkey, out);
}

static int add_san_request(X509_REQ *req, struct pg_str spiffe)
{
    GENERAL_NAMES *names = NULL;
    STACK_OF(X509_EXTENSION) *exts = NULL;
    int r = cert_ossl_make_san(spiffe, NULL, 0, &names);
    if (r == 0 && (X509V3_add1_i2d(&exts, NID_subject_alt_name, names, 1, X509V3_ADD_DEFAULT) != 1 ||
                   X509_REQ_add_extensions(req, exts) != 1)) {
        r = PG_E_NOMEM;
    }
    sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
    GENERAL_NAMES_free(names);
    return r;
}

int cert_csr_make(const struct cert_key *k, struct pg_str spiffe, struct pg_sb *out_pem,
                  struct pg_errtext *err)
{
    struct cert_spiffe id;
    if (cert_spiffe_parse(spiffe, &id, err) < 0) {
        return PG_E_CONFIG;
    }
    int r = PG_E_NOMEM;
    BIO *b = BIO_new(BIO_s_mem());
    X509_REQ *req = X509_REQ_new();
    if (b == NULL || req == NULL || X509_REQ_set_version(req, X509_REQ_VERSION_1) != 1 ||
        X509_REQ_set_pubkey(req, k->pkey) != 1 || add_san_request(req, spiffe) < 0 ||
        X509_REQ_sign(req, k->pkey, EVP_sha256()) <= 0 || PEM_write_bio_X509_REQ(b, req) != 1) {
        cert_ossl_fail(err, "cannot make a certificate request");
        goto done;
    }
    char *p = NULL;
    long n = BIO_get_mem_data(b, &p);
    pg_sb_add(out_pem, p, (size_t)n);
    r = out_pem->err;
done:
    X509_REQ_free(req);
    BIO_free(b);
    return r;
}
