/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signatures of tokens: RS256 and ES256. The algorithm is fixed by the kind of key, so a public key can never
 * be used as an HMAC secret. Control thread and tools.
 */
#include "certs/jwt_int.h"
#include "certs/ossl_int.h"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/param_build.h>

#define P256_BYTES 32

struct cert_jws_key {
    EVP_PKEY *pkey;
    enum cert_jws_alg alg;
};

static int wrap(EVP_PKEY *pkey, enum cert_jws_alg alg, struct cert_jws_key **out)
{
    struct cert_jws_key *k = pg_calloc(1, sizeof(*k));
    if (k == NULL) {
        EVP_PKEY_free(pkey);
        return PG_E_NOMEM;
    }
    k->pkey = pkey;
    k->alg = alg;
    *out = k;
    return 0;
}

static EVP_PKEY *from_params(const char *type, OSSL_PARAM *params)
{
    EVP_PKEY *pkey = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    if (ctx == NULL || params == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1) {
        pkey = NULL;
    }
    EVP_PKEY_CTX_free(ctx);
    ERR_clear_error();
    return pkey;
}

int cert_jws_rsa(struct pg_str n, struct pg_str e, struct cert_jws_key **out)
{
    EVP_PKEY *pkey = NULL;
    OSSL_PARAM *params = NULL;
    if (n.len > CERT_RSA_MAX_BITS / 8 + 1 || e.len > 8) {
        return PG_E_CONFIG;
    }
    BIGNUM *bn_n = BN_bin2bn((const unsigned char *)n.p, (int)n.len, NULL);
    BIGNUM *bn_e = BN_bin2bn((const unsigned char *)e.p, (int)e.len, NULL);
    OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
    bool sane = bn_n != NULL && bn_e != NULL && BN_num_bits(bn_n) >= CERT_RSA_MIN_BITS &&
                BN_num_bits(bn_n) <= CERT_RSA_MAX_BITS && BN_is_odd(bn_n) && BN_is_odd(bn_e) &&
                !BN_is_one(bn_e);
    if (sane && bld != NULL && OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_N, bn_n) == 1 &&
        OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_E, bn_e) == 1) {
        params = OSSL_PARAM_BLD_to_param(bld);
        pkey = from_params("RSA", params);
    }
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(bld);
    BN_free(bn_n);
    BN_free(bn_e);
    ERR_clear_error();
    return pkey != NULL ? wrap(pkey, CERT_JWS_RS256, out) : PG_E_CONFIG;
}

int cert_jws_p256(struct pg_str x, struct pg_str y, struct cert_jws_key **out)
{
    unsigned char point[1 + 2 * P256_BYTES] = {POINT_CONVERSION_UNCOMPRESSED};
    if (x.len != P256_BYTES || y.len != P256_BYTES) {
        return PG_E_CONFIG;
    }
    memcpy(point + 1, x.p, P256_BYTES);
    memcpy(point + 1 + P256_BYTES, y.p, P256_BYTES);
    char group[] = "prime256v1";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point)),
        OSSL_PARAM_construct_end(),
    };
    EVP_PKEY *pkey = from_params("EC", params);
    return pkey != NULL ? wrap(pkey, CERT_JWS_ES256, out) : PG_E_CONFIG;
}

void cert_jws_key_free(struct cert_jws_key *k)
{
    if (k != NULL) {
        EVP_PKEY_free(k->pkey);
        pg_free(k);
    }
}

/* JWS carries r and s bare; OpenSSL wants DER. Returns the length or 0; the caller frees `*der`. */
static size_t to_der(struct pg_str sig, unsigned char **der)
{
    const unsigned char *p = (const unsigned char *)sig.p;
    ECDSA_SIG *es = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(p, P256_BYTES, NULL);
    BIGNUM *s = BN_bin2bn(p + P256_BYTES, P256_BYTES, NULL);
    int len = 0;
    if (es != NULL && r != NULL && s != NULL && ECDSA_SIG_set0(es, r, s) == 1) {
        r = NULL;
        s = NULL;
        len = i2d_ECDSA_SIG(es, der);
    }
    BN_free(r);
    BN_free(s);
    ECDSA_SIG_free(es);
    return len > 0 ? (size_t)len : 0;
}

int cert_jws_verify(const struct cert_jws_key *k, enum cert_jws_alg alg, struct pg_str data,
                    struct pg_str sig)
{
    unsigned char *der = NULL;
    const unsigned char *p = (const unsigned char *)sig.p;
    size_t len = sig.len;
    if (alg == CERT_JWS_NONE || alg != k->alg || len == 0) {
        return 0;
    }
    if (alg == CERT_JWS_ES256) {
        len = len == (size_t)2 * P256_BYTES ? to_der(sig, &der) : 0;
        p = der;
    }
    int ok = 0;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (len > 0 && ctx != NULL && EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, k->pkey) == 1) {
        ok = EVP_DigestVerify(ctx, p, len, (const unsigned char *)data.p, data.len) == 1;
    }
    EVP_MD_CTX_free(ctx);
    OPENSSL_free(der);
    ERR_clear_error();
    return ok;
}

int cert_jws_new(struct cert_jws_key **out, struct pg_errtext *err)
{
    EVP_PKEY *pkey = NULL;
    int r = cert_ossl_ec_new(&pkey, err);
    return r < 0 ? r : wrap(pkey, CERT_JWS_ES256, out);
}

int cert_jws_load(struct pg_str pem, struct cert_jws_key **out, struct pg_errtext *err)
{
    EVP_PKEY *pkey = NULL;
    char group[64] = "";
    size_t len = 0;
    int r = cert_ossl_private_key(pem, &pkey, err);
    if (r < 0) {
        return r;
    }
    if (EVP_PKEY_is_a(pkey, "EC") != 1 || EVP_PKEY_get_group_name(pkey, group, sizeof(group), &len) != 1 ||
        strcmp(group, "prime256v1") != 0) {
        cert_ossl_fail(err, "the issuer key is not a P-256 key");
        EVP_PKEY_free(pkey);
        return PG_E_CONFIG;
    }
    return wrap(pkey, CERT_JWS_ES256, out);
}

int cert_jws_pem(const struct cert_jws_key *k, struct pg_sb *out)
{
    return cert_ossl_key_pem(k->pkey, out);
}

int cert_jws_point(const struct cert_jws_key *k, uint8_t x[32], uint8_t y[32])
{
    BIGNUM *bx = NULL;
    BIGNUM *by = NULL;
    bool ok = EVP_PKEY_get_bn_param(k->pkey, OSSL_PKEY_PARAM_EC_PUB_X, &bx) == 1 &&
              EVP_PKEY_get_bn_param(k->pkey, OSSL_PKEY_PARAM_EC_PUB_Y, &by) == 1 &&
              BN_bn2binpad(bx, x, P256_BYTES) == P256_BYTES && BN_bn2binpad(by, y, P256_BYTES) == P256_BYTES;
    BN_free(bx);
    BN_free(by);
    ERR_clear_error();
    return ok ? 0 : PG_E_NOMEM;
}

int cert_jws_sign(const struct cert_jws_key *k, struct pg_str data, uint8_t sig[64])
{
    unsigned char der[128];
    const unsigned char *p = der;
    size_t len = sizeof(der);
    ECDSA_SIG *es = NULL;
    bool ok = false;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (ctx != NULL && EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, k->pkey) == 1 &&
        EVP_DigestSign(ctx, der, &len, (const unsigned char *)data.p, data.len) == 1) {
        es = d2i_ECDSA_SIG(NULL, &p, (long)len);
    }
    if (es != NULL) {
        ok = BN_bn2binpad(ECDSA_SIG_get0_r(es), sig, P256_BYTES) == P256_BYTES &&
             BN_bn2binpad(ECDSA_SIG_get0_s(es), sig + P256_BYTES, P256_BYTES) == P256_BYTES;
    }
    ECDSA_SIG_free(es);
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return ok ? 0 : PG_E_NOMEM;
}
