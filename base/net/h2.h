/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/2 sessions and streams over a transport, on nghttp2, with the guards nghttp2 lacks. Speaks of streams,
 * windows and GOAWAY because HBONE and gRPC are HTTP/2. Loop thread.
 *
 * Bytes of a stream: received data waits in the stream (bounded by the window, because credit goes back only
 * through pg_h2_consumed); data to send waits in the stream up to `send_buffer`. Output of a loop turn is
 * flushed once, at its end. Callbacks come from the loop or from pg_h2 reading its transport, never from
 * inside a pg_h2_* call.
 *
 * A stream cut before END_STREAM reads as an error at once; bytes still waiting in it are dropped. After
 * END_STREAM they stay readable, whatever becomes of the session.
 *
 * Guards (all count in struct pg_h2_stats and close the connection with GOAWAY ENHANCE_YOUR_CALM):
 * "header-fields" and "header-bytes" per block, "rapid-reset" (resets by the peer), "made-resets" (resets we
 * are made to send), "ping", "settings", "priority", "window-update", "unknown-frame" and "empty-data" per
 * second, "informational" (a second 1xx), "outbound-queue", "settings-ack" (never acknowledged), "handshake"
 * (preface time-out). Numbers: h2_guard.c and h2_int.h. spec: RFC 9113; classes in docs/LIMITS.md.
 */
#ifndef ISTHMUS_NET_H2_H
#define ISTHMUS_NET_H2_H

#include "core/str.h"
#include "net/transport.h"

struct pg_h2;
struct pg_h2_stream;

struct pg_h2_field {
    struct pg_str name; /* lower case */
    struct pg_str value;
    bool secret; /* never indexed */
};
struct pg_h2_head { /* pseudo fields included, in order */
    const struct pg_h2_field *fields;
    size_t n;
};
/* First field of that name, or an empty slice with p == NULL. */
struct pg_str pg_h2_head_get(const struct pg_h2_head *h, const char *name);

struct pg_h2_options {
    uint32_t stream_window;          /* bytes; 65535..2^31-1 */
    uint32_t connection_window;      /* bytes */
    uint32_t max_frame_size;         /* what we accept; 16384..16777215 */
    uint32_t max_concurrent_streams; /* server: offered; client: own ceiling */
    uint32_t max_header_list;        /* decoded bytes per block */
    uint32_t max_header_fields;
    uint32_t send_buffer;      /* bytes queued per stream before writes push back */
    uint32_t ping_interval_ms; /* own keepalive; 0 off */
    uint32_t ping_timeout_ms;
    bool ping_without_streams;   /* gRPC servers punish idle pings: false there */
    uint32_t handshake_ms;       /* preface and first SETTINGS must arrive in this time */
    uint32_t resets_per_s;       /* resets by the peer allowed, burst 10x */
    bool accept_unknown_methods; /* reserved for tests */
};
/* HBONE: 4 MiB / 16 MiB windows, 1 MiB frames accepted, 200 streams server, ping 10 s / 20 s. */
void pg_h2_options_hbone(struct pg_h2_options *o, bool server);
/* gRPC: 1 MiB / 4 MiB windows, ping 30 s / 10 s only with an open stream. */
void pg_h2_options_grpc(struct pg_h2_options *o, bool server);

enum {
    PG_H2_NO_ERROR = 0,
    PG_H2_PROTOCOL_ERROR = 1,
    PG_H2_INTERNAL_ERROR = 2,
    PG_H2_REFUSED_STREAM = 7,
    PG_H2_CANCEL = 8,
    PG_H2_CONNECT_ERROR = 10,
    PG_H2_ENHANCE_YOUR_CALM = 11
};

struct pg_h2_callbacks {
    /* Server: a request's header block is complete. Fields live for the call. `end`: no body follows. The
     * callee owns the stream handle and must call pg_h2_stream_close on it sometime. */
    void (*on_request)(struct pg_h2 *h, struct pg_h2_stream *s, const struct pg_h2_head *head, bool end,
                       void *arg);
    /* First GOAWAY from the peer: open no more streams here (existing ones run on). */
    void (*on_goaway)(struct pg_h2 *h, uint32_t code, void *arg);
    /* Session over: every stream got its on_closed before. `err` 0 after an orderly end. The session must now
     * be freed with pg_h2_free. `text` lives for the call ("" when none). */
    void (*on_closed)(struct pg_h2 *h, int err, const char *text, void *arg);
    /* The session may take streams: the peer's SETTINGS arrived (client: right moment to learn its stream
     * limit). */
    void (*on_settings)(struct pg_h2 *h, void *arg);
};
struct pg_h2_stream_callbacks {
    /* Client: response head (final status, 1xx are swallowed, at most one). */
    void (*on_response)(struct pg_h2_stream *s, const struct pg_h2_head *head, bool end, void *arg);
    /* Data, end of data or trailers may be read. Not repeated until pg_h2_read returned PG_E_AGAIN. */
    void (*on_readable)(struct pg_h2_stream *s, void *arg);
    void (*on_writable)(struct pg_h2_stream *s, void *arg); /* after a write that pushed back */
    /* Trailers (before on_readable shows the end). Fields live for the call. */
    void (*on_trailers)(struct pg_h2_stream *s, const struct pg_h2_head *head, void *arg);
    /* The stream is over in both directions. `code` is an HTTP/2 error code, PG_H2_NO_ERROR for a clean end;
     * `err` is a pg error (0, PG_E_RESET, or what ended the session). Data received before a clean end can
     * still be read. */
    void (*on_closed)(struct pg_h2_stream *s, uint32_t code, int err, void *arg);
};

/* Takes `t` over on success. Established or not: the session waits for the transport. */
int pg_h2_client_new(struct pg_loop *l, struct pg_transport *t, const struct pg_h2_options *o,
                     const struct pg_h2_callbacks *cb, void *arg, struct pg_h2 **out) PG_MUST_CHECK;
int pg_h2_server_new(struct pg_loop *l, struct pg_transport *t, const struct pg_h2_options *o,
                     const struct pg_h2_callbacks *cb, void *arg, struct pg_h2 **out) PG_MUST_CHECK;
/* Abrupt: closes the transport, no further callback (streams not yet closed by their owners become inert and
 * must still be closed by them). Safe inside callbacks. NULL is fine. */
void pg_h2_free(struct pg_h2 *h);
/* GOAWAY NO_ERROR: no new streams from the peer; on_closed(0) when the last one ended. A server announces
 * first and names the last stream a round trip (at most 1 s) later, so that requests already on their way are
 * served. */
void pg_h2_drain(struct pg_h2 *h);
struct pg_transport *pg_h2_transport(struct pg_h2 *h); /* borrowed, to ask for the TLS peer */
void *pg_h2_arg(struct pg_h2 *h);
void pg_h2_set_arg(struct pg_h2 *h, void *arg);
/* Client: streams that may be opened now (peer's limit, own ceiling, GOAWAY, ids). Streams open now. */
uint32_t pg_h2_capacity(const struct pg_h2 *h);
uint32_t pg_h2_active(const struct pg_h2 *h);
/* Sends a PING now; its ACK calls `cb` once (err 0) with the round trip in microseconds, or the session's end
 * does (err < 0; pg_h2_free does not). At most 8 are in flight, keepalives included: PG_E_LIMIT. */
int pg_h2_ping(struct pg_h2 *h, void (*cb)(int err, uint64_t rtt_us, void *arg), void *arg) PG_MUST_CHECK;

struct pg_h2_stats {
    uint64_t streams_opened;
    uint64_t resets_received;
    uint64_t resets_sent;
    uint64_t guard_closed; /* 1 when a guard ended the session */
    const char *guard;     /* its name, static, or NULL */
    uint64_t bytes_in, bytes_out;
};
void pg_h2_get_stats(const struct pg_h2 *h, struct pg_h2_stats *out);

/* Client: opens a stream. `end`: no body will follow. `head` and `cb` are copied. PG_E_AGAIN when the
 * capacity is 0, PG_E_CLOSED when it will stay so (draining, GOAWAY, session over), PG_E_NOMEM. Heads, here
 * and below: PG_E_LIMIT over 128 fields or 60,000 bytes, PG_E_PARSE for a name or value not fit for the wire.
 */
int pg_h2_request(struct pg_h2 *h, const struct pg_h2_head *head, bool end,
                  const struct pg_h2_stream_callbacks *cb, void *arg,
                  struct pg_h2_stream **out) PG_MUST_CHECK;
/* Server: sets the callbacks of a stream got by on_request; without it data waits. */
void pg_h2_stream_set_owner(struct pg_h2_stream *s, const struct pg_h2_stream_callbacks *cb, void *arg);
/* Server: response head; `end` finishes the stream. */
int pg_h2_respond(struct pg_h2_stream *s, const struct pg_h2_head *head, bool end) PG_MUST_CHECK;
/* > 0 bytes, 0 clean end of data, PG_E_AGAIN, PG_E_RESET or the session's error. */
ssize_t pg_h2_read(struct pg_h2_stream *s, void *buf, size_t cap);
/* Gives `n` bytes of credit back to the sender, for this stream and the connection. */
void pg_h2_consumed(struct pg_h2_stream *s, size_t n);
/* Bytes taken (> 0), PG_E_AGAIN when the send buffer is full, or a final error. */
ssize_t pg_h2_writev(struct pg_h2_stream *s, const struct iovec *iov, int n);
/* No more data: END_STREAM after what is queued, or trailers carrying it. */
int pg_h2_end(struct pg_h2_stream *s) PG_MUST_CHECK;
int pg_h2_trailers(struct pg_h2_stream *s, const struct pg_h2_head *head) PG_MUST_CHECK;
/* Releases the handle: resets the stream with `code` unless it is over in both directions; unread data is
 * dropped and its credit returned to the connection. A finished writer (pg_h2_end, trailers) still gets its
 * queued output sent when the peer ended too, or when `code` is NO_ERROR: then the reset follows the output.
 * No callback after. NULL is fine. */
void pg_h2_stream_close(struct pg_h2_stream *s, uint32_t code);
struct pg_h2 *pg_h2_stream_session(struct pg_h2_stream *s); /* NULL when the session is gone */
uint32_t pg_h2_stream_id(const struct pg_h2_stream *s);
/* Turns a stream (after its 200) into a transport that owns it: read/write/END_STREAM half-close, consumed =
 * credit, RST_STREAM NO_ERROR or CANCEL read as end of stream only after END_STREAM was seen, else
 * PG_E_RESET; abort = RST CONNECT_ERROR (RFC 9113 section 8.5). */
int pg_h2_stream_transport(struct pg_h2_stream *s, struct pg_transport **out) PG_MUST_CHECK;

#endif
