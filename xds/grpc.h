/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gRPC over HTTP/2 streams: framing, metadata, trailers and trailers-only answers, status mapping, deadlines,
 * message caps. No compression (a compressed message without negotiated encoding is an internal error). Loop
 * thread.
 */
#ifndef ISTHMUS_XDS_GRPC_H
#define ISTHMUS_XDS_GRPC_H

#include "net/h2.h"

enum grpc_code {
    GRPC_OK = 0,
    GRPC_CANCELLED = 1,
    GRPC_UNKNOWN = 2,
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_DEADLINE_EXCEEDED = 4,
    GRPC_NOT_FOUND = 5,
    GRPC_PERMISSION_DENIED = 7,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_FAILED_PRECONDITION = 9,
    GRPC_UNIMPLEMENTED = 12,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14,
    GRPC_UNAUTHENTICATED = 16,
};
const char *grpc_code_name(int code); /* "Unavailable", as Go prints it */

/* Pure reassembly of length-prefixed messages, fed in any pieces. */
struct grpc_deframer {
    uint8_t head[5];
    size_t have;
    char *msg;
    size_t cap; /* bytes at msg */
    uint32_t len;
    size_t max; /* largest message accepted */
};
void grpc_deframer_init(struct grpc_deframer *d, size_t max);
void grpc_deframer_fini(struct grpc_deframer *d);
/* Consumes from *in; 1 and *msg (valid until the next call, and while the bytes of *in are) when one message
 * is complete, 0 when more bytes are needed, PG_E_LIMIT (too large), PG_E_PROTO (compressed), PG_E_NOMEM.
 * Memory grows with what arrived, not with the announced length. */
int grpc_deframer_next(struct grpc_deframer *d, struct pg_str *in, struct pg_str *msg) PG_MUST_CHECK;
bool grpc_deframer_is_partial(const struct grpc_deframer *d);

struct grpc_metadata {
    const char *key;
    struct pg_str value;
    bool secret;
};
/* Client call, unary or streaming. */
struct grpc_call;
struct grpc_call_callbacks {
    void (*on_open)(struct grpc_call *c, void *arg); /* response headers arrived (optional) */
    /* `msg` lives for the call. Flow-control credit goes back as bytes arrive, so a message may exceed the
     * window. */
    void (*on_message)(struct grpc_call *c, struct pg_str msg, void *arg);
    /* Exactly once; the call must then be freed. `text` is the decoded grpc-message or our own words. */
    void (*on_status)(struct grpc_call *c, int code, struct pg_str text, void *arg);
};
/* `deadline_ms` from now, 0: none (sent as grpc-timeout and enforced here). */
int grpc_call_new(struct pg_loop *l, struct pg_h2 *h, const char *path, const char *authority,
                  const struct grpc_metadata *md, size_t n_md, uint64_t deadline_ms, size_t max_message,
                  const struct grpc_call_callbacks *cb, void *arg, struct grpc_call **out) PG_MUST_CHECK;
#define GRPC_CALL_QUEUE_MAX (16u * 1024 * 1024)
/* Queues one message (copied); the queue is bounded by GRPC_CALL_QUEUE_MAX, then PG_E_LIMIT. */
int grpc_call_send(struct grpc_call *c, struct pg_str msg) PG_MUST_CHECK;
int grpc_call_half_close(struct grpc_call *c) PG_MUST_CHECK;
void grpc_call_free(struct grpc_call *c); /* cancels when not finished; no callback after; NULL is fine */

/* Server side: a request already parsed by h2 becomes a grpc_stream. */
struct grpc_stream;
struct grpc_handler {
    const char *path; /* "/package.Service/Method" */
    size_t max_message;
    /* The callee sets its callbacks' argument by grpc_stream_set_arg. Non-OK return refuses with that grpc
     * code and *text. */
    int (*on_open)(struct grpc_stream *s, const struct pg_h2_head *md, void *arg, struct pg_errtext *text);
    void (*on_message)(struct grpc_stream *s, struct pg_str msg, void *arg);
    void (*on_half_close)(struct grpc_stream *s, void *arg);
    /* Exactly once, after which `s` is gone: finished by us, reset by the client, or the connection ended. */
    void (*on_closed)(struct grpc_stream *s, void *arg);
    void (*on_writable)(struct grpc_stream *s, void *arg); /* optional: the send queue drained below half */
};
/* Takes the h2 stream over: answers 415/405/UNIMPLEMENTED by itself as Go servers do. */
void grpc_server_request(struct pg_loop *l, struct pg_h2_stream *s, const struct pg_h2_head *head, bool end,
                         const struct grpc_handler *handlers, size_t n, void *arg);
void grpc_stream_set_arg(struct grpc_stream *s, void *arg);
struct pg_h2 *grpc_stream_session(struct grpc_stream *s);
/* PG_E_AGAIN: with this message more than GRPC_STREAM_QUEUE_MAX would be unsent (a slow subscriber); nothing
 * was queued. One message is always taken when the queue is empty. */
#define GRPC_STREAM_QUEUE_MAX (64u * 1024 * 1024)
int grpc_stream_send(struct grpc_stream *s, struct pg_str msg) PG_MUST_CHECK;
size_t grpc_stream_queued(const struct grpc_stream *s);
/* Resets the stream; no callback after. For owners that go away first. */
void grpc_stream_abort(struct grpc_stream *s);
/* Sends trailers (or trailers-only); on_closed follows from the loop. */
void grpc_stream_finish(struct grpc_stream *s, int code, const char *text);

#endif
