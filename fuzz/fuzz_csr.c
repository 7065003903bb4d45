/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificate requests as a stranger sends them to the CA. Byte 0: text or DER (see pem_kit.h). What is
 * signed carries the identity we named, is no CA and verifies against our root. One thread.
 */
#include "pem_kit.h"

#define ID "spiffe://cluster.local/ns/demo/sa/app"

static struct cert_ca *ca;

static void init(void)
{
    char dir[64], own[128];
    pem_dir_make(dir);
    PG_BUG_ON(cert_make_root(dir, false, NULL) < 0 || cert_make_cacerts(dir, "east", false, NULL) < 0);
    (void)snprintf(own, sizeof(own), "%s/east", dir);
    PG_BUG_ON(cert_ca_load(own, &ca, NULL) < 0);
    pem_dir_remove(dir, 1);
}

static void one(struct pg_str in)
{
    struct pg_sb sb;
    struct pg_errtext err = {{0}};
    struct cert_issued issued;
    struct cert_facts f;
    int64_t now = cert_ca_not_after(ca) - 86400;
    struct pg_str pem = pem_input(in, "CERTIFICATE REQUEST", &sb);
    int r = cert_ca_sign_csr(ca, pem, PG_STR(ID), 3600, now, &issued, &err);
    PG_BUG_ON(r < 0 && err.text[0] == '\0');
    if (r == 0) {
        struct pg_str leaf = pg_str_c(issued.pem[0]);
        PG_BUG_ON(cert_facts_of(leaf, 0, &f) < 0 || strcmp(f.uri_san, ID) != 0 || f.is_ca ||
                  f.subject[0] != '\0');
        PG_BUG_ON(f.not_after != now + 3600);
        PG_BUG_ON(cert_chain_verifies(leaf, cert_ca_chain_pem(ca), cert_ca_root_pem(ca), now, &err) != 1);
        cert_issued_fini(&issued);
    }
    pg_sb_fini(&sb);
}
FUZZ_TARGET(one, init)
