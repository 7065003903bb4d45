/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Delta ADS client: the pure machine (adsc_*) and a driver that keeps one stream alive (xds_client): resolve,
 * connect, TLS, HTTP/2, gRPC, node, subscriptions, ACK/NACK, back-off with jitter, GOAWAY, keepalive 30 s/10
 * s. Loop thread.
 */
#ifndef ISTHMUS_XDS_CLIENT_H
#define ISTHMUS_XDS_CLIENT_H

#include "certs/tls.h"
#include "core/backoff.h"
#include "net/resolve.h"
#include "xds/codec.h"

#define XDS_CLIENT_TYPES_MAX 8u
#define XDS_CLIENT_ADDRESSES_MAX 8u

/* --- pure machine
 * -------------------------------------------------------------------------------------------- */
struct adsc; /* remembers per type: name -> version of what was accepted, initial sync, nonce */
struct adsc_type {
    const char *type_url;
    /* Named subscriptions; 0: wildcard by empty lists (legacy wildcard, what ztunnel sends). */
    const struct pg_str *names;
    size_t n_names;
};
int adsc_new(const struct adsc_type *types, size_t n, size_t max_names, struct adsc **out) PG_MUST_CHECK;
void adsc_free(struct adsc *a);
/* A new stream began: appends the encoded initial requests, one per type, to `out` by calling `emit` for
 * each. The map of versions is sent unless it would exceed `versions_max_bytes` (then removals are computed
 * here on the first reply). */
int adsc_stream_open(struct adsc *a, const struct xds_node *node, size_t versions_max_bytes,
                     int (*emit)(void *arg, struct pg_str msg), void *arg) PG_MUST_CHECK;
/* Verdict of the owner on one resource. */
typedef int (*adsc_apply)(void *arg, size_t type, const struct xds_delta_resource *r, struct pg_errtext *why);
typedef void (*adsc_remove)(void *arg, size_t type, struct pg_str name);
struct adsc_result {
    size_t type; /* index, SIZE_MAX for an unknown type */
    size_t accepted, rejected, removed;
    bool first;  /* first reply of this type on this stream */
    bool synced; /* now every type has had one on this stream */
};
/* One DeltaDiscoveryResponse: applies each resource (rejected ones keep their old version), emits ACK, or
 * NACK with
 * "<name>: <reason>; ..." (at most 4 KiB). Unknown type: NACK. PG_E_PARSE
 * when the message itself is malformed; PG_E_NOMEM (also from `apply`): nothing was answered, the stream must
 * be given up and the next one brings what is missing. */
int adsc_response(struct adsc *a, struct pg_str bytes, adsc_apply apply, adsc_remove remove, void *apply_arg,
                  int (*emit)(void *arg, struct pg_str msg), void *emit_arg, struct adsc_result *out,
                  struct pg_errtext *err) PG_MUST_CHECK;
void adsc_stream_closed(struct adsc *a);
bool adsc_is_synced(const struct adsc *a);
size_t adsc_count(const struct adsc *a, size_t type); /* resources accepted */

/* --- driver
 * -------------------------------------------------------------------------------------------------- */
enum xds_client_state { XDS_CONNECTING, XDS_CONNECTED, XDS_SYNCED, XDS_DISCONNECTED };
struct xds_client_event {
    enum xds_client_state state;
    const char *text;    /* DISCONNECTED: the whole reason, in the words of deltaadsc's log */
    uint64_t retry_ms;   /* DISCONNECTED: time to the next attempt */
    const char *address; /* "ip:port" now in use, or "" */
};
struct xds_client_options {
    const char *target;           /* name for logs: "xds", "peering-cluster2" */
    const char *log_scope;        /* "xds" or "deltaadsc" */
    const char *const *addresses; /* "host:port" candidates, tried in turn */
    size_t n_addresses;
    const char *const *server_names; /* acceptable DNS SANs; the first is the SNI and :authority */
    size_t n_server_names;
    /* Called at each attempt: a new reference, or NULL with `err` (counts as a failed attempt). */
    struct cert_creds *(*creds)(void *arg, struct pg_errtext *err);
    /* Called at each attempt: bearer token into `out`, or leaves it empty for none; < 0 fails the attempt.
     * NULL: none. */
    int (*token)(void *arg, struct pg_sb *out, struct pg_errtext *err);
    const char *cluster_id; /* clusterid header when a token is sent */
    struct xds_node node;   /* copied */
    const struct adsc_type *types;
    size_t n_types;
    size_t max_message;
    struct pg_backoff backoff;   /* copied */
    uint64_t connect_timeout_ms; /* TCP + TLS + SETTINGS; 0: 5000 */
};
struct xds_client_callbacks {
    adsc_apply on_resource; /* a batch's resources and removals, then on_batch */
    adsc_remove on_removed;
    void (*on_batch)(void *arg, const struct adsc_result *r);
    void (*on_state)(void *arg, const struct xds_client_event *e);
};
struct xds_client;
int xds_client_new(struct pg_loop *l, struct pg_resolver *resolver, const struct xds_client_options *o,
                   const struct xds_client_callbacks *cb, void *arg, struct xds_client **out,
                   struct pg_errtext *err) PG_MUST_CHECK;
void xds_client_free(struct xds_client *c); /* no callback after; NULL is fine */
void xds_client_reconnect(
    struct xds_client *c); /* drop the connection and start over now (address or credentials changed) */

/* One unary CreateCertificate call on a connection of its own. `cb` exactly once from the loop: chain[] lives
 * for the call. */
struct xds_ca_call;
struct xds_ca_options {
    const char *address; /* "host:port" */
    const char *const *server_names;
    size_t n_server_names;
    struct cert_creds *creds; /* roots, and a client certificate if any */
    struct pg_str token;      /* or empty */
    const char *cluster_id;
    struct xds_csr_request request;
    uint64_t timeout_ms; /* whole call; 0: 10000 */
};
int xds_ca_call(struct pg_loop *l, struct pg_resolver *resolver, const struct xds_ca_options *o,
                void (*cb)(void *arg, int err, const struct pg_str *chain, size_t n, const char *text),
                void *arg, struct xds_ca_call **out, struct pg_errtext *err) PG_MUST_CHECK;
void xds_ca_call_cancel(struct xds_ca_call *c); /* no callback after; NULL is fine */

#endif
