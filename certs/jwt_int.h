/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seam inside token checking: jwt_json.c reads and writes JSON and decides, ossl_jws.c does the
 * mathematics. Neither sees the other's library. Internal to certs.
 */
#ifndef ISTHMUS_CERTS_JWT_INT_H
#define ISTHMUS_CERTS_JWT_INT_H

#include "certs/jwt.h"

enum cert_jws_alg {
    CERT_JWS_NONE, /* nothing we accept */
    CERT_JWS_RS256,
    CERT_JWS_ES256,
};
struct cert_jws_key; /* public or private */
/* Big-endian numbers. 2048..8192 bits, odd exponent. PG_E_CONFIG for a key that is no good. */
int cert_jws_rsa(struct pg_str n, struct pg_str e, struct cert_jws_key **out) PG_MUST_CHECK;
/* P-256; 32 bytes each; refuses points off the curve. */
int cert_jws_p256(struct pg_str x, struct pg_str y, struct cert_jws_key **out) PG_MUST_CHECK;
void cert_jws_key_free(struct cert_jws_key *k); /* NULL is fine */
/* 1 when `sig` is the key's signature of `data` by `alg`, 0 otherwise, whatever the reason. */
int cert_jws_verify(const struct cert_jws_key *k, enum cert_jws_alg alg, struct pg_str data,
                    struct pg_str sig);
/* Private P-256 keys of the issuer. */
int cert_jws_new(struct cert_jws_key **out, struct pg_errtext *err) PG_MUST_CHECK;
int cert_jws_load(struct pg_str pem, struct cert_jws_key **out, struct pg_errtext *err) PG_MUST_CHECK;
int cert_jws_pem(const struct cert_jws_key *k, struct pg_sb *out) PG_MUST_CHECK;
int cert_jws_point(const struct cert_jws_key *k, uint8_t x[32], uint8_t y[32]) PG_MUST_CHECK;
/* r and s, 32 bytes each. */
int cert_jws_sign(const struct cert_jws_key *k, struct pg_str data, uint8_t sig[64]) PG_MUST_CHECK;

#endif
