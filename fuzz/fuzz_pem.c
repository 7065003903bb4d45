/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates from outside: facts for dumps, bundles of roots, chains to verify. Byte 0: text or DER (see
 * pem_kit.h). Facts are always terminated and printable. One thread.
 */
#include "pem_kit.h"

#include "certs/tls.h"

#define NOW 1800000000

static void facts(struct pg_str pem)
{
    struct cert_facts f;
    for (size_t i = 0; i < CERT_ROOTS_MAX + 2u && cert_facts_of(pem, i, &f) == 0; i++) {
        const struct pg_str texts[] = {
            pg_str_n(f.subject, sizeof(f.subject)), pg_str_n(f.issuer, sizeof(f.issuer)),
            pg_str_n(f.serial, sizeof(f.serial)), pg_str_n(f.uri_san, sizeof(f.uri_san)),
            pg_str_n(f.sha256, sizeof(f.sha256))};
        for (size_t k = 0; k < PG_ARRAY_LEN(texts); k++) {
            PG_BUG_ON(memchr(texts[k].p, '\0', texts[k].len) == NULL);
            for (const char *c = texts[k].p; *c != '\0'; c++) {
                PG_BUG_ON((unsigned char)*c < 0x20 || *c == 0x7f);
            }
        }
        PG_BUG_ON(strlen(f.sha256) != 64);
    }
}

static void one(struct pg_str in)
{
    struct pg_sb sb;
    struct pg_errtext err = {{0}};
    struct cert_creds *creds = NULL;
    struct pg_str pem = pem_input(in, "CERTIFICATE", &sb);
    facts(pem);
    (void)cert_chain_verifies(pem, pem, pem, NOW, &err);
    const struct cert_creds_options o = {.roots_pem = pem};
    if (cert_creds_new(&o, &creds, &err) == 0) {
        PG_BUG_ON(cert_creds_identity(creds).len != 0 || cert_creds_roots_pem(creds).len == 0);
        cert_creds_unref(creds);
    } else {
        PG_BUG_ON(err.text[0] == '\0');
    }
    const struct cert_creds_options own = {.roots_pem = pem, .chain_pem = pem, .key_pem = pem};
    if (cert_creds_new(&own, &creds, &err) == 0) {
        (void)cert_creds_identity(creds);
        cert_creds_unref(creds);
    }
    pg_sb_fini(&sb);
}
FUZZ_TARGET(one, fuzz_no_init)
