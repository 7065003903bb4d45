/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Service-account tokens without a Kubernetes TokenReview: a JWT is checked against a static JWKS file
 * (RS256, ES256), and `peerctl certs token` makes such tokens. Audience, expiry and not-before are always
 * checked; "none" and HMAC are refused.
 */
#ifndef ISTHMUS_CERTS_JWT_H
#define ISTHMUS_CERTS_JWT_H

#include "core/str.h"

#define CERT_JWT_MAX 16384u
#define CERT_JWKS_KEYS_MAX 64u

struct cert_jwks;
/* {"keys":[{kty,kid,alg,n,e|crv,x,y}]}; keys of unknown kind are skipped, none usable is PG_E_CONFIG. */
int cert_jwks_parse(struct pg_str json, struct cert_jwks **out, struct pg_errtext *err) PG_MUST_CHECK;
void cert_jwks_free(struct cert_jwks *j);
struct cert_jwt_claims {
    char ns[254];
    char sa[254];
    char pod_name[254]; /* "" when the token is not bound to a pod */
    char pod_uid[64];
    int64_t expires_at; /* epoch seconds */
};
/* `sub` must be system:serviceaccount:<ns>:<sa>. PG_E_DENIED with the reason (never the token) otherwise. */
int cert_jwt_verify(const struct cert_jwks *j, struct pg_str token, struct pg_str audience, int64_t now_s,
                    struct cert_jwt_claims *out, struct pg_errtext *err) PG_MUST_CHECK;
/* Makes a signing key: <dir>/issuer-key.pem (0600) and <dir>/jwks.json. PG_E_EXISTS. */
int cert_issuer_make(const char *dir, struct pg_errtext *err) PG_MUST_CHECK;
/* Signs a token (ES256) with <dir>/issuer-key.pem for ns/sa, pod optional (NULL). */
int cert_issuer_token(const char *dir, const char *ns, const char *sa, const char *pod, const char *audience,
                      int64_t now_s, int64_t ttl_s, struct pg_sb *out, struct pg_errtext *err) PG_MUST_CHECK;

#endif
