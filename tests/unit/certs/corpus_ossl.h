/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates good and bad, made by OpenSSL directly and not by the code under test. All strings and objects
 * are freed by corpus_fini; a failure to make one aborts the test.
 */
#ifndef ISTHMUS_TEST_CORPUS_H
#define ISTHMUS_TEST_CORPUS_H

#include "core/str.h"

#define CORPUS_NOW 1700000000LL /* the wall clock of these tests */

struct corpus_ca;
struct corpus_leaf {
    const char *uri[2]; /* NULL: not there */
    size_t uri_len[2];  /* 0: strlen */
    const char *cn;     /* of the subject; NULL: empty subject */
    const char *dns;
    const char *key_usage; /* OpenSSL syntax; NULL: critical,digitalSignature,keyEncipherment */
    const char *eku;       /* NULL: both; "": none */
    const char *email;     /* rfc822Name */
    bool ca;
    bool rsa;
    bool two_san_extensions;
    int64_t not_before, not_after; /* 0: around CORPUS_NOW */
};
struct corpus_pair {
    struct pg_str chain; /* PEM: leaf, intermediate when there is one */
    struct pg_str key;
};
/* Self-signed root, valid 2000..2049 unless given. */
struct corpus_ca *corpus_root(const char *cn);
struct corpus_ca *corpus_intermediate(struct corpus_ca *parent, const char *cn,
                                      const char *permitted_uri_domain);
struct pg_str corpus_ca_pem(const struct corpus_ca *ca);
struct corpus_pair corpus_issue(struct corpus_ca *ca, const struct corpus_leaf *leaf);
/* Fixes the wall clock. */
void corpus_clock(int64_t wall_s);
void corpus_fini(void);

/* TLS peers that misbehave in ways our own client cannot. Memory only: returns what the peer, a plain libssl
 * client or server with `alpn` (wire format, NULL: none), would do when fed through the two callbacks. */
struct corpus_peer;
struct corpus_peer *corpus_peer_new(bool server, const struct corpus_pair *own, struct pg_str roots,
                                    const char *alpn, size_t alpn_len, int max_version);
/* Runs one step; bytes for the other side are appended to `out`. 1 established, 0 going on, -1 failed. */
int corpus_peer_step(struct corpus_peer *p, const void *in, size_t len, struct pg_sb *out);
/* Last alert received, or -1. */
int corpus_peer_alert(const struct corpus_peer *p);
int corpus_peer_write(struct corpus_peer *p, const void *data, size_t len, struct pg_sb *out);
int corpus_peer_key_update(struct corpus_peer *p, struct pg_sb *out);
size_t corpus_peer_read(struct corpus_peer *p, void *buf, size_t cap);
const char *
corpus_peer_describe(struct corpus_peer *p); /* version, cipher, whether a session ticket came, SNI */
void corpus_peer_free(struct corpus_peer *p);

/* RS256 signature by a fresh RSA 2048 key; its public numbers. For tokens. */
void corpus_rs256(const char *data, size_t len, unsigned char sig[256], unsigned char n[256]);
/* HMAC-SHA256 */
void corpus_hmac(const void *key, size_t key_len, const void *data, size_t len, unsigned char out[32]);
/* A CSR of `kind` "EC", "RSA1024", "RSA2048", "P-224" with a foreign SAN and CA:true asked for. */
struct pg_str corpus_csr(const char *kind, bool spoil_signature);

#endif
