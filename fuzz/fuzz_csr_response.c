/* SPDX-License-Identifier: Apache-2.0 */
/* IstioCertificateResponse, from the CA: like codec_kit.h, for a chain instead of a struct. One thread. */
#include "fuzz.h"

#include "xds/codec.h"

static void one(struct pg_str in)
{
    struct pg_arena a;
    struct pg_str chain[XDS_CERT_CHAIN_MAX], again[XDS_CERT_CHAIN_MAX];
    struct pg_sb text;
    struct pg_errtext err = {{0}};
    size_t n = 0, m = 0;
    pg_arena_init(&a, XDS_RESOURCE_BUDGET);
    pg_sb_init(&text, 1u << 24);
    if (xds_csr_response_decode(in, &a, chain, &n, &err) == 0) {
        PG_BUG_ON(n > XDS_CERT_CHAIN_MAX);
        PG_BUG_ON(xds_csr_response_encode(chain, n, &text) < 0);
        PG_BUG_ON(xds_csr_response_decode(pg_sb_view(&text), &a, again, &m, &err) < 0 || m != n);
        for (size_t i = 0; i < n; i++) {
            PG_BUG_ON(!pg_str_eq(chain[i], again[i]));
        }
    }
    pg_sb_fini(&text);
    pg_arena_fini(&a);
}
FUZZ_TARGET(one, fuzz_no_init)
