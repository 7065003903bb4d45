/* SPDX-License-Identifier: Apache-2.0 */
/* SPIFFE ids: what parses formats to the very same text, and holds nothing but the characters allowed. One
 * thread. */
#include "fuzz.h"

#include "certs/spiffe.h"

static bool is_clean(struct pg_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c <= ' ' || c >= 0x7f || c == '/' || c == '%' || c == ':' || c == '@') {
            return false;
        }
    }
    return s.len > 0 && !pg_str_eq_c(s, ".") && !pg_str_eq_c(s, "..");
}

static void one(struct pg_str in)
{
    struct cert_spiffe id;
    struct pg_errtext err = {{0}};
    int r = cert_spiffe_parse(in, &id, &err);
    PG_BUG_ON(r < 0 && err.text[0] == '\0');
    if (r == 0) {
        struct pg_sb sb;
        pg_sb_init(&sb, 4096);
        cert_spiffe_format(id.trust_domain, id.ns, id.sa, &sb);
        PG_BUG_ON(!pg_str_eq(pg_sb_view(&sb), in));
        PG_BUG_ON(!is_clean(id.ns) || !is_clean(id.sa));
        PG_BUG_ON(!cert_trust_domain_is_valid(id.trust_domain) || in.len > CERT_SPIFFE_MAX);
        pg_sb_fini(&sb);
    }
    (void)cert_trust_domain_is_valid(in);
}
FUZZ_TARGET(one, fuzz_no_init)
