/* SPDX-License-Identifier: Apache-2.0 */
/* A file of token keys; whatever it holds, a token signed by none of its keys stays refused. One thread. */
#include "fuzz.h"

#include "certs/jwt.h"

/* RS256 and ES256 heads with a signature of zeros. */
static const char *const tokens[] = {
    ("eyJhbGciOiJFUzI1NiIsImtpZCI6ImEifQ.e30."
     "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
    "eyJhbGciOiJSUzI1NiJ9.e30.AAAA",
    "eyJhbGciOiJub25lIn0.e30.",
};

static void one(struct pg_str in)
{
    struct cert_jwks *j = NULL;
    struct cert_jwt_claims claims;
    struct pg_errtext err = {{0}};
    int r = cert_jwks_parse(in, &j, &err);
    PG_BUG_ON(r < 0 && err.text[0] == '\0');
    if (r == 0) {
        for (size_t i = 0; i < PG_ARRAY_LEN(tokens); i++) {
            PG_BUG_ON(
                cert_jwt_verify(j, pg_str_c(tokens[i]), PG_STR("istio-ca"), 1700000000, &claims, &err) == 0);
        }
        cert_jwks_free(j);
    }
}
FUZZ_TARGET(one, fuzz_no_init)
