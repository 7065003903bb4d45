/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Service-account tokens. Byte 0 mod 3: 0 the rest is a token; 1 the rest edits a good token (position of two
 * bytes, new byte); 2 the rest is the claims, signed by the right key. What is accepted names a namespace and
 * an account and has not expired; an edited token says what the good one said or is refused. One thread.
 */
#include "pem_kit.h"

#include "certs/file.h"
#include "certs/jwt_int.h"

#define NOW 1800000000

static struct cert_jwks *jwks;
static struct cert_jws_key *key;
static struct pg_sb good;

static void init(void)
{
    char dir[64];
    struct pg_sb text;
    pem_dir_make(dir);
    pg_sb_init(&good, 65536);
    pg_sb_init(&text, 65536);
    PG_BUG_ON(cert_issuer_make(dir, NULL) < 0);
    PG_BUG_ON(cert_issuer_token(dir, "demo", "app", "app-1", "istio-ca", NOW - 10, 3600, &good, NULL) < 0);
    PG_BUG_ON(cert_file_read(dir, "jwks.json", 65536, &text, NULL) < 0);
    PG_BUG_ON(cert_jwks_parse(pg_sb_view(&text), &jwks, NULL) < 0);
    pg_sb_reset(&text);
    PG_BUG_ON(cert_file_read(dir, "issuer-key.pem", 65536, &text, NULL) < 0);
    PG_BUG_ON(cert_jws_load(pg_sb_view(&text), &key, NULL) < 0);
    pg_sb_fini(&text);
    pem_dir_remove(dir, 0);
}

static void sign(struct pg_str claims, struct pg_sb *out)
{
    uint8_t sig[64];
    struct pg_str head = pg_sb_view(&good);
    (void)pg_str_cut(&head, '.', &head);
    pg_sb_str(out, head);
    pg_sb_ch(out, '.');
    pg_base64_encode(claims, true, out);
    PG_BUG_ON(cert_jws_sign(key, pg_sb_view(out), sig) < 0);
    pg_sb_ch(out, '.');
    pg_base64_encode(pg_str_n((const char *)sig, sizeof(sig)), true, out);
}

static void edit(struct pg_str in, struct pg_sb *out)
{
    pg_sb_str(out, pg_sb_view(&good));
    while (in.len >= 3 && out->err == 0) {
        uint16_t at = fuzz_u16(&in);
        out->p[at % out->len] = (char)fuzz_u8(&in);
    }
}

static void one(struct pg_str in)
{
    struct cert_jwt_claims c;
    struct pg_errtext err = {{0}};
    struct pg_sb token;
    unsigned how = fuzz_u8(&in) % 3u;
    pg_sb_init(&token, 1u << 20);
    if (how == 0) {
        pg_sb_str(&token, in);
    } else if (how == 1) {
        edit(in, &token);
    } else {
        sign(in, &token);
    }
    int r = cert_jwt_verify(jwks, pg_sb_view(&token), PG_STR("istio-ca"), NOW, &c, &err);
    PG_BUG_ON(r < 0 && err.text[0] == '\0');
    if (r == 0) {
        PG_BUG_ON(c.ns[0] == '\0' || c.sa[0] == '\0' || c.expires_at < NOW - 300);
        PG_BUG_ON(memchr(c.pod_name, '\0', sizeof(c.pod_name)) == NULL);
        PG_BUG_ON(memchr(c.pod_uid, '\0', sizeof(c.pod_uid)) == NULL);
        PG_BUG_ON(how == 1 && (strcmp(c.ns, "demo") != 0 || strcmp(c.sa, "app") != 0));
        PG_BUG_ON(how == 1 && c.expires_at != NOW - 10 + 3600);
        PG_BUG_ON(how == 0 && !pg_str_eq(in, pg_sb_view(&good)));
    }
    pg_sb_fini(&token);
}
FUZZ_TARGET(one, init)
