/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wire bytes to model structs and back. protobuf-c and generated headers stay inside xds/codec_*.c, behind a
 * budget allocator (an absolute memory budget per message, because decoding amplifies up to 76 times). No
 * declared type is recursive, so unpacking depth is bounded by the schema; recursive types are kept as bytes
 * and read without recursion. Decoders copy what they keep into `arena`. Encoders are
 * deterministic: equal structs give equal bytes (map entries sorted by key), so that a digest is a version.
 * Errors: PG_E_PARSE with what and where in `err`, PG_E_NOMEM, PG_E_LIMIT. Any thread.
 */
#ifndef ISTHMUS_XDS_CODEC_H
#define ISTHMUS_XDS_CODEC_H

#include "xds/model.h"

#define XDS_MESSAGE_MAX_CLIENT (200u * 1024 * 1024) /* one gRPC message received from a control plane */
#define XDS_MESSAGE_MAX_SERVER (8u * 1024 * 1024)   /* one gRPC message received from a client */
#define XDS_RESOURCE_MAX (1u * 1024 * 1024)         /* one resource's bytes */
#define XDS_RESOURCE_BUDGET (64u * 1024 * 1024)     /* protobuf-c memory while decoding one resource */

/* WDS. ztunnel's reasons to reject a resource apply (spec: IP not 4/16 bytes, tunnel 2, gateway without
 * destination, service key without '/', bad enum, prefix length out of range, scope 0); ports over 65535 are
 * rejected too. Unknown WorkloadType and Visibility read as their defaults. Empty trust_domain,
 * service_account, cluster_id get ztunnel's defaults. */
int xds_address_decode(struct pg_str bytes, struct pg_arena *arena, struct xds_address *out,
                       struct pg_errtext *err) PG_MUST_CHECK;
int xds_workload_decode(struct pg_str bytes, struct pg_arena *arena, struct xds_workload *out,
                        struct pg_errtext *err) PG_MUST_CHECK;
int xds_address_encode(const struct xds_address *a, struct pg_sb *out) PG_MUST_CHECK;
int xds_workload_encode(const struct xds_workload *w, struct pg_sb *out) PG_MUST_CHECK; /* bare Workload */
/* WADS. An unparsable part sets out->unparsable and returns PG_E_PARSE with name/ns/scope filled as far as
 * known (the caller keeps it as a deny). */
int xds_policy_decode(struct pg_str bytes, struct pg_arena *arena, struct xds_policy *out,
                      struct pg_errtext *err) PG_MUST_CHECK;
int xds_policy_encode(const struct xds_policy *p, struct pg_sb *out) PG_MUST_CHECK;
/* Federation. */
int xds_fed_service_decode(struct pg_str bytes, struct pg_arena *arena, struct xds_fed_service *out,
                           struct pg_errtext *err) PG_MUST_CHECK;
int xds_fed_service_encode(const struct xds_fed_service *s, struct pg_sb *out) PG_MUST_CHECK;
int xds_segment_decode(struct pg_str bytes, struct pg_arena *arena, struct xds_segment *out,
                       struct pg_errtext *err) PG_MUST_CHECK;
int xds_segment_encode(const struct xds_segment *s, struct pg_sb *out) PG_MUST_CHECK;

/* Node identity in discovery requests. Metadata is flat: strings only are kept on decode (nested values are
 * skipped). */
struct xds_kv {
    struct pg_str key, value;
};
struct xds_node {
    struct pg_str id; /* "<type>~<ip>~<id>~<dns domain>" */
    struct xds_kv *metadata;
    size_t n_metadata;
};
/* The value of a metadata key, or an empty slice. `node` may be NULL. */
struct pg_str xds_node_metadata(const struct xds_node *node, const char *key);
struct xds_delta_request {
    bool has_node;
    struct xds_node node;
    struct pg_str type_url;
    struct pg_str *subscribe;
    size_t n_subscribe;
    struct pg_str *unsubscribe;
    size_t n_unsubscribe;
    struct xds_kv *initial_versions;
    size_t n_initial_versions;
    struct pg_str response_nonce;
    bool has_error;
    int32_t error_code;
    struct pg_str error_message;
};
struct xds_delta_resource {
    struct pg_str name, version;
    struct pg_str *aliases;
    size_t n_aliases;
    bool has_resource;
    struct pg_str type_url, bytes; /* of the Any */
};
struct xds_delta_response {
    struct pg_str system_version, type_url, nonce;
    struct xds_delta_resource *resources;
    size_t n_resources;
    struct pg_str *removed;
    size_t n_removed;
};
/* Slices point into `bytes` where they can (nothing a peer sends is copied to be looked at): `bytes` must
 * outlive `out`. */
int xds_delta_request_decode(struct pg_str bytes, struct pg_arena *arena, struct xds_delta_request *out,
                             struct pg_errtext *err) PG_MUST_CHECK;
int xds_delta_response_decode(struct pg_str bytes, struct pg_arena *arena, struct xds_delta_response *out,
                              struct pg_errtext *err) PG_MUST_CHECK;
int xds_delta_request_encode(const struct xds_delta_request *r, struct pg_sb *out) PG_MUST_CHECK;
int xds_delta_response_encode(const struct xds_delta_response *r, struct pg_sb *out) PG_MUST_CHECK;

/* istio.v1.auth.IstioCertificateService/CreateCertificate */
struct xds_csr_request {
    struct pg_str csr;
    int64_t validity_s;
    struct pg_str impersonated; /* metadata ImpersonatedIdentity, or empty */
    struct pg_str cert_signer;  /* metadata CertSigner, or empty */
};
int xds_csr_request_decode(struct pg_str bytes, struct pg_arena *arena, struct xds_csr_request *out,
                           struct pg_errtext *err) PG_MUST_CHECK;
int xds_csr_request_encode(const struct xds_csr_request *r, struct pg_sb *out) PG_MUST_CHECK;
#define XDS_CERT_CHAIN_MAX 32u
int xds_csr_response_decode(struct pg_str bytes, struct pg_arena *arena, struct pg_str *chain, size_t *n,
                            struct pg_errtext *err) PG_MUST_CHECK; /* chain[XDS_CERT_CHAIN_MAX] */
int xds_csr_response_encode(const struct pg_str *chain, size_t n, struct pg_sb *out) PG_MUST_CHECK;

#endif
