/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SPIFFE ids of the mesh: spiffe://<trust domain>/ns/<namespace>/sa/<service account>, nothing else.
 * Strict (SPIFFE-ID section 2, X509-SVID section 2): scheme and trust domain lower case, no NUL, control,
 * non-ASCII, percent, query, fragment, port or user info; every segment non-empty, [A-Za-z0-9._-], no "." or
 * "..".
 */
#ifndef ISTHMUS_CERTS_SPIFFE_H
#define ISTHMUS_CERTS_SPIFFE_H

#include "core/str.h"

#define CERT_SPIFFE_MAX 512u

struct cert_spiffe { /* slices into what was parsed */
    struct pg_str trust_domain;
    struct pg_str ns;
    struct pg_str sa;
};
/* 0 or PG_E_PARSE with the reason. */
int cert_spiffe_parse(struct pg_str uri, struct cert_spiffe *out, struct pg_errtext *err) PG_MUST_CHECK;
void cert_spiffe_format(struct pg_str td, struct pg_str ns, struct pg_str sa, struct pg_sb *out);
bool cert_trust_domain_is_valid(struct pg_str td);

#endif
