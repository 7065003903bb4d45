/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Strict parser and writer of mesh SPIFFE ids. Works on lengths, never on NUL termination, so that an id with
 * an embedded NUL is refused instead of being read short. Pure; any thread.
 */
#include "certs/spiffe.h"

#define TRUST_DOMAIN_MAX 255u

static bool is_lower_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_segment(struct pg_str s)
{
    if (s.len == 0 || pg_str_eq_c(s, ".") || pg_str_eq_c(s, "..")) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];
        if (!is_lower_or_digit(c) && !(c >= 'A' && c <= 'Z') && c != '.' && c != '-' && c != '_') {
            return false;
        }
    }
    return true;
}

bool cert_trust_domain_is_valid(struct pg_str td)
{
    if (td.len == 0 || td.len > TRUST_DOMAIN_MAX) {
        return false;
    }
    for (size_t i = 0; i < td.len; i++) {
        char c = td.p[i];
        if (!is_lower_or_digit(c) && c != '.' && c != '-' && c != '_') {
            return false;
        }
    }
    return true;
}

/* Takes the next '/'-terminated (or last) part of `*rest`; false when nothing is left. An empty part is
 * returned as such. */
static bool next_part(struct pg_str *rest, bool *ended, struct pg_str *part)
{
    if (*ended) {
        return false;
    }
    ptrdiff_t slash = pg_str_chr(*rest, '/');
    if (slash < 0) {
        *part = *rest;
        *rest = pg_str_sub(*rest, rest->len);
        *ended = true;
    } else {
        *part = pg_str_n(rest->p, (size_t)slash);
        *rest = pg_str_sub(*rest, (size_t)slash + 1);
    }
    return true;
}

int cert_spiffe_parse(struct pg_str uri, struct cert_spiffe *out, struct pg_errtext *err)
{
    enum { TD, NS_WORD, NS, SA_WORD, SA, PARTS };
    struct pg_str part[PARTS];

    if (uri.len > CERT_SPIFFE_MAX) {
        pg_err_set(err, "SPIFFE id longer than %u bytes", CERT_SPIFFE_MAX);
        return PG_E_PARSE;
    }
    if (!pg_str_has_prefix(uri, PG_STR("spiffe://"))) {
        pg_err_set(err, "not a SPIFFE id");
        return PG_E_PARSE;
    }
    struct pg_str rest = pg_str_sub(uri, sizeof("spiffe://") - 1);
    bool ended = false;
    for (size_t i = 0; i < PARTS; i++) {
        if (!next_part(&rest, &ended, &part[i])) {
            pg_err_set(err, "SPIFFE id is not of the form spiffe://<td>/ns/<ns>/sa/<sa>");
            return PG_E_PARSE;
        }
    }
    if (!ended || !pg_str_eq_c(part[NS_WORD], "ns") || !pg_str_eq_c(part[SA_WORD], "sa")) {
        pg_err_set(err, "SPIFFE id is not of the form spiffe://<td>/ns/<ns>/sa/<sa>");
        return PG_E_PARSE;
    }
    if (!cert_trust_domain_is_valid(part[TD])) {
        pg_err_set(err, "SPIFFE id has an invalid trust domain");
        return PG_E_PARSE;
    }
    if (!is_segment(part[NS]) || !is_segment(part[SA])) {
        pg_err_set(err, "SPIFFE id has an invalid path segment");
        return PG_E_PARSE;
    }
    *out = (struct cert_spiffe){.trust_domain = part[TD], .ns = part[NS], .sa = part[SA]};
    return 0;
}

void cert_spiffe_format(struct pg_str td, struct pg_str ns, struct pg_str sa, struct pg_sb *out)
{
    pg_sb_c(out, "spiffe://");
    pg_sb_str(out, td);
    pg_sb_c(out, "/ns/");
    pg_sb_str(out, ns);
    pg_sb_c(out, "/sa/");
    pg_sb_str(out, sa);
}
