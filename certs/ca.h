/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys, certificate requests and the workload CA. Files and extensions are those of Istio's self-signed
 * makefile (root-ca, <name>-cacerts) so that either can be used with the other. OpenSSL stays in
 * certs/ossl_*.c. Control thread; nothing blocks but reading the named files.
 */
#ifndef ISTHMUS_CERTS_CA_H
#define ISTHMUS_CERTS_CA_H

#include "certs/spiffe.h"

#define CERT_PEM_MAX (256u * 1024u)     /* any PEM text read or received */
#define CERT_CHAIN_MAX 8u               /* certificates in one chain */
#define CERT_ROOTS_MAX 32u              /* roots in one bundle */
#define CERT_TTL_DEFAULT_S (24 * 3600)  /* DEFAULT_WORKLOAD_CERT_TTL */
#define CERT_TTL_MAX_S (90 * 24 * 3600) /* MAX_WORKLOAD_CERT_TTL */

/* `peerctl certs root`: root-key.pem and root-cert.pem in `dir` (created, 0700; keys 0600): RSA 4096, 3650
 * days, O=Istio, CN=Root CA. PG_E_EXISTS when root-cert.pem is there already and `force` is not set. */
int cert_make_root(const char *dir, bool force, struct pg_errtext *err) PG_MUST_CHECK;
/* `peerctl certs cacerts <cluster>`: <dir>/<cluster>/{ca-cert,ca-key,root-cert,cert-chain}.pem signed by the
 * root in `dir`: RSA 4096, O=Istio, CN=Intermediate CA, L=<cluster>, pathlen:0, SAN DNS
 * istiod.istio-system.svc. */
int cert_make_cacerts(const char *dir, const char *cluster, bool force, struct pg_errtext *err) PG_MUST_CHECK;

/* A private key. Never leaves the process but through cert_key_pem. */
struct cert_key;
int cert_key_new_p256(struct cert_key **out, struct pg_errtext *err) PG_MUST_CHECK;
void cert_key_free(struct cert_key *k); /* wipes; NULL is fine */
/* PKCS#8 PEM; the caller wipes it. */
int cert_key_pem(const struct cert_key *k, struct pg_sb *out) PG_MUST_CHECK;
/* PKCS#10 PEM: SHA-256, empty subject, one critical URI SAN `spiffe`. */
int cert_csr_make(const struct cert_key *k, struct pg_str spiffe, struct pg_sb *out_pem,
                  struct pg_errtext *err) PG_MUST_CHECK;

struct cert_ca;
/* Loads ca-cert.pem, ca-key.pem, cert-chain.pem, root-cert.pem from `dir` and proves that they belong
 * together: the key matches, the intermediate verifies against the root, it is a CA and not expired. Without
 * ca-cert.pem, the names of a kubernetes.io/tls Secret are read: tls.crt (the CA and its chain), tls.key,
 * ca.crt. */
int cert_ca_load(const char *dir, struct cert_ca **out, struct pg_errtext *err) PG_MUST_CHECK;
void cert_ca_free(struct cert_ca *ca);
struct pg_str cert_ca_root_pem(const struct cert_ca *ca);  /* whole of root-cert.pem; lives with the CA */
struct pg_str cert_ca_chain_pem(const struct cert_ca *ca); /* whole of cert-chain.pem */
struct pg_str cert_ca_intermediate_pem(const struct cert_ca *ca); /* ca-cert.pem */
int64_t cert_ca_not_after(const struct cert_ca *ca);              /* epoch seconds */

/* What IstioCertificateService/CreateCertificate signs (istiod's profile: empty subject, critical SAN,
 * digitalSignature + keyEncipherment, serverAuth + clientAuth, CA:false, 128-bit serial, notBefore two
 * minutes ago). Only the public key is taken from the CSR, whose self-signature must verify. `ttl_s` <= 0: 24
 * h; over 90 d: PG_E_CONFIG; cut to the CA's own end; PG_E_UNTRUSTED when the CA expired; PG_E_PARSE for a
 * bad CSR. */
#define CERT_ISSUED_MAX (CERT_CHAIN_MAX + 2u)
struct cert_issued {
    char *pem[CERT_ISSUED_MAX]; /* leaf; each certificate of cert-chain.pem; last: whole root-cert.pem */
    size_t n;
    int64_t not_before, not_after;
};
int cert_ca_sign_csr(const struct cert_ca *ca, struct pg_str csr_pem, struct pg_str spiffe, int64_t ttl_s,
                     int64_t now_s, struct cert_issued *out, struct pg_errtext *err) PG_MUST_CHECK;
void cert_issued_fini(struct cert_issued *i);
/* The control plane's own serving certificate: key made here, URI SAN `spiffe` (client role towards peers)
 * when not empty, and the DNS names. PEM of the chain (leaf, then cert-chain.pem) and of the key. */
int cert_ca_issue_server(const struct cert_ca *ca, struct pg_str spiffe, const struct pg_str *dns,
                         size_t n_dns, int64_t ttl_s, int64_t now_s, struct pg_sb *chain_pem,
                         struct pg_sb *key_pem, struct pg_errtext *err) PG_MUST_CHECK;

/* Facts about one PEM certificate, for config_dump, status and checks. Strings live in `sb`-style buffers of
 * the struct. */
struct cert_facts {
    char subject[256], issuer[256];
    char serial[80]; /* decimal, as ztunnel prints it */
    char uri_san[CERT_SPIFFE_MAX + 1];
    char sha256[65]; /* of the DER, hex */
    int64_t not_before, not_after;
    bool is_ca;
};
/* The n-th (from 0) certificate of a PEM text. PG_E_NOTFOUND past the end, PG_E_PARSE. */
int cert_facts_of(struct pg_str pem, size_t nth, struct cert_facts *out) PG_MUST_CHECK;
/* True (1) when `leaf_pem`'s first certificate verifies against any root in `roots_pem` with the rest of
 * `chain_pem` as intermediates at `now_s`, any purpose; 0 with the reason in `err` when not. */
int cert_chain_verifies(struct pg_str leaf_pem, struct pg_str chain_pem, struct pg_str roots_pem,
                        int64_t now_s, struct pg_errtext *err);
/* SHA-256 of any bytes as hex; e.g. the 12-digit suffix of autogenflat names. Empty when memory ran out. */
void cert_sha256_hex(const void *p, size_t len, char out[65]);

#endif
