/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Delta ADS server: resource views with content-hash versions, the pure per-stream machine (adss_*) and the
 * gRPC driver. A view is a set of encoded resources shared by all its subscribers; a stream keeps only what
 * version of each name it was sent. Control thread.
 */
#ifndef ISTHMUS_XDS_SERVER_H
#define ISTHMUS_XDS_SERVER_H

#include "xds/codec.h"
#include "xds/grpc.h"

/* A subscriber gets its next response when the last one has left our queue: at most one waits. */
#define XDS_RESPONSE_MAX XDS_MESSAGE_MAX_CLIENT
#define XDS_STREAM_NAMES_MAX 200000u /* named subscriptions and versions per stream and type */

/* --- views
 * ---------------------------------------------------------------------------------------------------- */
struct xds_view;
int xds_view_new(size_t max_resources, struct xds_view **out) PG_MUST_CHECK;
void xds_view_free(struct xds_view *v); /* no stream may use it */
/* Puts one resource under (type, name); bytes and aliases are copied. 1 changed, 0 same content as before. */
int xds_view_set(struct xds_view *v, const char *type_url, struct pg_str name, struct pg_str bytes,
                 const struct pg_str *aliases, size_t n_aliases) PG_MUST_CHECK;
int xds_view_del(struct xds_view *v, const char *type_url,
                 struct pg_str name); /* 1 removed, 0 was not there */
/* Ends a batch: bumps the generation when anything changed and tells the streams. */
void xds_view_commit(struct xds_view *v);
uint64_t xds_view_generation(const struct xds_view *v);
size_t xds_view_count(const struct xds_view *v, const char *type_url);
/* Digest over (type, name, version), independent of order: equal views, equal digest. */
uint64_t xds_view_digest(const struct xds_view *v);
/* Iterates all resources of a type in name order. 0, or PG_E_NOMEM when none was told. */
int xds_view_each(const struct xds_view *v, const char *type_url,
                  void (*fn)(void *arg, struct pg_str name, struct pg_str version, struct pg_str bytes),
                  void *arg);

/* --- pure machine of one stream
 * ------------------------------------------------------------------------------- */
struct adss;
/* `v` may be NULL until adss_set_view. The node of the first request is kept. A type the view has nothing of
 * gets an empty reply. */
int adss_new(struct xds_view *v, struct adss **out) PG_MUST_CHECK;
void adss_free(struct adss *a);
struct adss_event {
    bool nacked;
    bool acked;
    struct pg_str type_url; /* slices live until the next call */
    struct pg_str error;
};
/* One DeltaDiscoveryRequest. < 0 ends the stream with *grpc_code and `err`. */
int adss_request(struct adss *a, struct pg_str bytes, struct adss_event *ev, int *grpc_code,
                 struct pg_errtext *err) PG_MUST_CHECK;
/* 1 and an encoded response in `out` when one is due (view changed, or a request wants a reply), else 0. At
 * most one response per type is in flight (unanswered) at a time; Address before Workload before
 * Authorization. */
int adss_next_response(struct adss *a, struct pg_sb *out) PG_MUST_CHECK;
const struct xds_node *adss_node(const struct adss *a); /* NULL before the first request */
/* The client said, in what was not answered yet, that it holds resources from an earlier stream. */
bool adss_holds(const struct adss *a);
struct adss_type_status {
    const char *type_url;
    uint64_t sent, acked, nacked;
    struct pg_str last_error;
    uint64_t generation_acked; /* of the view */
    size_t resources;
};
size_t adss_status(const struct adss *a, struct adss_type_status *out, size_t cap); /* subscribed types */
void adss_set_view(struct adss *a,
                   struct xds_view *v); /* once, after the node is known; before any response */

/* --- driver
 * --------------------------------------------------------------------------------------------------- */
struct xds_server;
struct xds_stream; /* one connected client */
struct xds_server_callbacks {
    /* First request of a stream: which view? NULL refuses with *grpc_code and `err` (identity against node is
     * decided here). NULL with GRPC_OK: not yet; nothing is answered, xds_server_kick asks again. `peer_id`:
     * authenticated SPIFFE ids of the caller as found by the auth callback of the listener, or empty. */
    struct xds_view *(*view_for)(void *arg, struct xds_stream *s, const struct xds_node *node,
                                 struct pg_str peer_id, int *grpc_code, struct pg_errtext *err);
    /* Optional. */
    void (*on_stream)(void *arg, struct xds_stream *s, bool opened);
    void (*on_nack)(void *arg, struct xds_stream *s, struct pg_str type_url, struct pg_str error);
    /* Who is calling: fills `out` (SPIFFE id; empty = nobody). 0, or PG_E_DENIED to refuse with
     * Unauthenticated. `md` are the request headers (authorization, clusterid), `peer_id` the TLS peer's id.
     */
    int (*authenticate)(void *arg, const struct pg_h2_head *md, struct pg_str peer_id, struct pg_sb *out,
                        struct pg_errtext *err);
    /* CreateCertificate: must answer through xds_csr_reply before it returns. Caller already authenticated.
     */
    void (*on_csr)(void *arg, const struct xds_csr_request *req, struct pg_str caller, struct grpc_stream *s);
};
bool xds_stream_holds(const struct xds_stream *s); /* adss_holds; for view_for */
int xds_server_new(struct pg_loop *l, const struct xds_server_callbacks *cb, void *arg,
                   struct xds_server **out) PG_MUST_CHECK;
void xds_server_free(struct xds_server *s); /* ends all connections */
/* Takes an established or establishing TLS transport over; connections are capped at
 * `XDS_SERVER_CONNECTIONS_MAX`. `from` is text. */
#define XDS_SERVER_CONNECTIONS_MAX 4096u
#define XDS_SERVER_STREAMS_MAX 8192u /* open calls of all connections */
#define XDS_SERVER_IDLE_MS 60000u    /* a connection without call, or a stream without first request */
int xds_server_accept(struct xds_server *s, struct pg_transport *tls,
                      const struct pg_addr *from) PG_MUST_CHECK;
/* GOAWAY on all connections, and every ADS stream ends with Unavailable so that clients move on. */
void xds_server_drain(struct xds_server *s);
/* Call after xds_view_commit (views do it through the server's own hook when made known): pushes what is due,
 * and asks again for streams that were told to wait for their view. */
void xds_server_kick(struct xds_server *s);
void xds_csr_reply(struct grpc_stream *s, int grpc_code, const char *text, const struct pg_str *chain,
                   size_t n);
/* For proxy-status. */
struct xds_stream_info {
    struct pg_str node_id, identity, from; /* live with the stream */
    const struct xds_node *node;
    uint64_t connected_at_ms;
    uint64_t last_message_ms;
    const struct adss *machine;
};
void xds_server_each(const struct xds_server *s, void (*fn)(void *arg, const struct xds_stream_info *i),
                     void *arg);

#endif
