/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS 1.3 as a transport over any transport. The handshake is OpenSSL's; what happens to the records is this
 * module's business (other back ends may come), so nobody outside sees an SSL object. ALPN h2 both ways, no
 * session resumption, no 0-RTT, no renegotiation. AES-256-GCM, then AES-128-GCM.
 *
 * Who is accepted is decided here, fail closed: the chain must verify, and for SPIFFE peers the leaf must
 * have exactly one URI SAN which parses strictly, no NUL, CA:false, no keyCertSign or cRLSign (X509-SVID
 * sections 2, 4, 5), and its trust domain must be one that is bound to the roots that verified it.
 */
#ifndef ISTHMUS_CERTS_TLS_H
#define ISTHMUS_CERTS_TLS_H

#include "certs/spiffe.h"
#include "net/transport.h"

/* Own certificate (maybe none) and trusted roots, parsed once; immutable, counted, any thread. */
struct cert_creds;
struct cert_creds_options {
    struct pg_str chain_pem; /* leaf first; empty: no own certificate (client only) */
    struct pg_str key_pem;
    struct pg_str roots_pem; /* one or more */
    /* Trust domains these roots may speak for (SPIFFE peers). Empty: only the own leaf's. "*": any, the
     * SKIP_VALIDATE_TRUST_DOMAIN reading. */
    const struct pg_str *trust_domains;
    size_t n_trust_domains;
};
/* PG_E_PARSE (what does not parse), PG_E_CONFIG (key does not match, no roots), PG_E_NOMEM. */
int cert_creds_new(const struct cert_creds_options *o, struct cert_creds **out,
                   struct pg_errtext *err) PG_MUST_CHECK;
struct cert_creds *cert_creds_ref(struct cert_creds *c);
void cert_creds_unref(struct cert_creds *c);                    /* NULL is fine */
struct pg_str cert_creds_identity(const struct cert_creds *c);  /* own SPIFFE id or empty */
struct pg_str cert_creds_chain_pem(const struct cert_creds *c); /* public parts only; for dumps */
struct pg_str cert_creds_roots_pem(const struct cert_creds *c);
int64_t cert_creds_not_before(const struct cert_creds *c); /* of the leaf, epoch seconds */
int64_t cert_creds_not_after(const struct cert_creds *c);

enum cert_expect_kind {
    CERT_EXPECT_SPIFFE,   /* leaf's SPIFFE id must be one of `names` (none: fail) */
    CERT_EXPECT_DNS,      /* a DNS SAN must match one of `names` (control plane; the first is sent as SNI) */
    CERT_EXPECT_MESH,     /* any SPIFFE id of an accepted trust domain; certificate mandatory */
    CERT_EXPECT_OPTIONAL, /* server: as MESH when a certificate is given, anonymous otherwise */
};
struct cert_expect {
    enum cert_expect_kind kind;
    const struct pg_str *names; /* copied by the constructors */
    size_t n_names;
};
#define CERT_EXPECT_NAMES_MAX 4096u

/* Both take `lower` over on success (also when it is not established yet) and hold a reference to `creds`.
 * status() is 1 when the handshake is done and the peer is accepted. Failure texts follow Go's and ztunnel's
 * words where operators know them, e.g. "remote error: tls: unknown certificate authority", "identity
 * verification error: peer did not present the expected SAN (a, b), got c", "identity verification error:
 * peer did not present the expected trustdomain (x), got y". The handshake has no time limit of its own: the
 * owner closes.
 * status(): PG_E_UNTRUSTED when we refused the peer; PG_E_TLS when it refused us (a TLS 1.3 server judges
 * last, so a client may learn it from a read after its own handshake) or broke the protocol; PG_E_RESET,
 * "unexpected EOF", for an end without close_notify. A close that is not an abort sends close_notify first.
 */
int cert_tls_client(struct pg_loop *l, struct pg_transport *lower, struct cert_creds *creds,
                    const struct cert_expect *expect, struct pg_transport **out) PG_MUST_CHECK;
int cert_tls_server(struct pg_loop *l, struct pg_transport *lower, struct cert_creds *creds,
                    const struct cert_expect *expect, struct pg_transport **out) PG_MUST_CHECK;
/* Of an established TLS transport made here: peer's SPIFFE id (empty: anonymous or DNS peer), and its leaf's
 * end. Lives as long as the transport. */
struct pg_str cert_tls_peer_id(struct pg_transport *tls);
int64_t cert_tls_peer_not_after(struct pg_transport *tls);
struct pg_transport *cert_tls_lower(struct pg_transport *tls); /* borrowed: to ask the socket's addresses */

#endif
