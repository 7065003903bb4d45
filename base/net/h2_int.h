/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the HTTP/2 files of this folder only. h2_nghttp2.c turns library calls into records on streams
 * and sessions (pg_h2_ng_*) and never calls an owner; h2_session.c moves bytes, keeps time and delivers what
 * was recorded; h2_stream.c is the streams' interface. A session or stream is freed in the deferred phase
 * only. Loop thread.
 */
#ifndef ISTHMUS_NET_H2_INT_H
#define ISTHMUS_NET_H2_INT_H

#include "core/buf.h"
#include "core/list.h"
#include "net/h2.h"
#include "net/h2_guard.h"

/* Frame payload such that header and payload fill one TLS record. */
#define PG_H2_DATA_PAYLOAD 16375u
/* What one stream may send before the others get their turn. */
#define PG_H2_QUANTUM (4u * PG_H2_DATA_PAYLOAD)
/* Bytes put together for one write; the slack takes the last frames. */
#define PG_H2_BATCH_MAX (512u * 1024u)
#define PG_H2_BATCH_MIN (32u * 1024u)
#define PG_H2_BATCH_SLACK (64u * 1024u)
#define PG_H2_PINGS_MAX 8u        /* PINGs in flight */
#define PG_H2_OUT_QUEUE_MAX 5000u /* frames other than DATA waiting to be sent */
#define PG_H2_SEND_FIELDS_MAX 128u
#define PG_H2_SEND_HEADERS_MAX 60000u /* below the library's limit, which it meets without a word */
#define PG_H2_SETTINGS_ACK_MS 10000u
#define PG_H2_LINGER_MS 1000u
#define PG_H2_DRAIN_MS 1000u
/* A stream without owner whose output does not move for this long is cut. */
#define PG_H2_LEAVE_MS 60000u
/* A PING may stay unanswered this many time-outs while other bytes keep coming. */
#define PG_H2_PING_PATIENCE 3u
/* New streams stop this many ids before the last one. */
#define PG_H2_ID_RESERVE 2048u

struct nghttp2_session;

/* A header block of its own: fields and bytes in one allocation. */
struct pg_h2_block {
    size_t n;
    struct pg_h2_field fields[];
};
/* Copies `head`, lists included. NULL when out of memory. */
struct pg_h2_block *pg_h2_block_new(const struct pg_h2_head *head) PG_MUST_CHECK;

/* What waits to be told to a stream's owner; told in this order. */
enum {
    PG_H2_EV_FAULT = 1, /* we could not keep up with it: reset */
    PG_H2_EV_HEAD = 2,
    PG_H2_EV_TRAILERS = 4,
    PG_H2_EV_READABLE = 8,
    PG_H2_EV_WRITABLE = 16,
    PG_H2_EV_CLOSED = 32
};

struct pg_h2_stream {
    struct pg_list node;  /* in the session's streams or graves */
    struct pg_list event; /* in the session's events while `ev` may be told */
    struct pg_list leave; /* in the session's leaving, by time */
    struct pg_list due;   /* in hungry, trailers_due or reset_due, see struct pg_h2 */
    struct pg_h2 *h;      /* NULL: the session is gone */
    struct pg_loop *loop;
    int32_t id;
    unsigned ev;
    struct pg_h2_stream_callbacks cb;
    void *arg;
    void (*orphaned)(void *arg); /* the session was freed under it; may only defer */
    void *orphaned_arg;
    struct pg_buf in;
    struct pg_buf out;
    size_t unconsumed; /* received and not yet credited to the peer */
    size_t quota;      /* of the current round */
    uint64_t leave_ms; /* when the output of a stream without owner must have moved */
    size_t leave_len;  /* since it held this much */
    struct pg_h2_block *head_in;
    struct pg_h2_block *trailers_in;
    struct pg_h2_block *trailers_out;
    uint32_t code;
    int err;
    bool owned;         /* callbacks are set */
    bool told;          /* server: on_request was delivered */
    bool detached;      /* the owner closed its handle, or never had one */
    bool head_seen;     /* the final header block arrived */
    bool head_ended;    /* and carried END_STREAM */
    bool responded;     /* server */
    bool informed;      /* client: one 1xx was swallowed */
    bool broken;        /* received bytes could not be kept: no clean end any more */
    bool remote_end;    /* END_STREAM received */
    bool local_end;     /* END_STREAM asked for */
    bool end_sent;      /* END_STREAM went out */
    bool deferred;      /* the library waits for pg_h2_ng_resume */
    bool our_reset;     /* we asked for RST_STREAM */
    bool linger_reset;  /* reset with NO_ERROR once the output is out */
    bool over;          /* the library is done with it */
    bool read_armed;    /* tell about the next readable byte */
    bool write_blocked; /* a write was pushed back */
};

struct pg_h2_ping_slot {
    void (*cb)(int err, uint64_t rtt_us, void *arg);
    void *arg;
    uint64_t id; /* 0: free */
    uint64_t sent_ns;
    uint64_t rtt_us;
    bool acked;
    bool own; /* keepalive or drain */
};

enum pg_h2_state { PG_H2_OPEN, PG_H2_LINGER, PG_H2_OVER };

/* Header block being received. */
struct pg_h2_gather {
    struct pg_sb bytes;
    struct pg_h2_gather_field {
        uint32_t name_len;
        uint32_t value_len;
        bool secret;
    } * fields;
    size_t n;
    size_t cap;
    size_t decoded; /* name + value + 32 each */
    bool failed;
};

struct pg_h2 {
    struct pg_loop *loop;
    struct pg_transport *t;
    struct nghttp2_session *ng; /* NULL once over */
    struct pg_h2_options o;
    struct pg_h2_callbacks cb;
    void *arg;
    struct pg_list streams;
    struct pg_list events;
    struct pg_list hungry;       /* spent their quota */
    struct pg_list trailers_due; /* last data is with the library, trailers follow */
    struct pg_list reset_due;    /* output is out, RST_STREAM NO_ERROR follows */
    struct pg_list leaving;      /* no owner, output still going out */
    struct pg_list graves;
    struct pg_defer work;
    struct pg_defer reap;
    struct pg_timer *timer;
    struct pg_h2_guard guard;
    struct pg_h2_gather gather;
    struct pg_h2_stats stats;
    struct pg_h2_ping_slot pings[PG_H2_PINGS_MAX];
    uint64_t ping_id;
    uint64_t drain_ping;
    uint64_t born_ms;
    uint64_t opened_ms; /* transport established */
    uint64_t last_rx_ms;
    uint64_t ping_base_ms; /* last time the keepalive looked */
    uint64_t timer_due;
    uint64_t ping_sent_ms; /* keepalive in flight, 0 none */
    uint64_t drain_ms;     /* final GOAWAY due, 0 none */
    uint64_t linger_ms;
    size_t lingered;      /* bytes thrown away at the end */
    struct pg_buf left;   /* made, but not taken by the transport */
    unsigned char *batch; /* during a fill */
    size_t batch_used;
    size_t batch_want;  /* adapts to what the transport takes */
    size_t batch_goal;  /* of the current fill */
    size_t conn_credit; /* of data nobody will read */
    uint32_t active;
    uint32_t goaway_code;
    int fail_err;  /* found inside a call, told from the loop */
    int proto_err; /* the library ended the session for a violation */
    int end_err;
    char text[128];
    void *held[8]; /* see ng_mem_free */
    size_t n_held;
    bool ng_broken;
    bool ng_deleting;
    enum pg_h2_state state;
    bool server;
    bool freed;
    bool established;
    struct pg_h2_stream *promised; /* a DATA frame of it waits for room: its bytes must stay */
    bool batch_full;
    bool settings_in;
    bool settings_acked;
    bool settings_event;
    bool goaway_in;
    bool goaway_event;
    bool ping_event;
    bool draining;
    bool shut; /* transport shutdown asked for */
};

/* ---- h2_nghttp2.c: the library. Errors are pg_err; nothing here calls an owner. ---- */

int pg_h2_ng_new(struct pg_h2 *h) PG_MUST_CHECK;
void pg_h2_ng_free(struct pg_h2 *h);
/* Feeds bytes; records go to streams and to h->events. A guard's verdict is in h->stats.guard. */
int pg_h2_ng_recv(struct pg_h2 *h, const unsigned char *p, size_t n) PG_MUST_CHECK;
/* Appends whole frames to h->batch until nothing is left to send or the batch is full. */
int pg_h2_ng_fill(struct pg_h2 *h) PG_MUST_CHECK;
bool pg_h2_ng_wants_read(const struct pg_h2 *h);
bool pg_h2_ng_wants_write(const struct pg_h2 *h);
int pg_h2_ng_request(struct pg_h2 *h, struct pg_h2_stream *s, const struct pg_h2_head *head,
                     bool end) PG_MUST_CHECK;
int pg_h2_ng_respond(struct pg_h2_stream *s, const struct pg_h2_head *head, bool end) PG_MUST_CHECK;
/* 0, PG_E_LIMIT or PG_E_PARSE: may this be sent as trailers? */
int pg_h2_ng_check_head(const struct pg_h2_head *head) PG_MUST_CHECK;
int pg_h2_ng_resume(struct pg_h2_stream *s) PG_MUST_CHECK;
int pg_h2_ng_reset(struct pg_h2_stream *s, uint32_t code) PG_MUST_CHECK;
int pg_h2_ng_consume(struct pg_h2 *h, int32_t id, size_t n) PG_MUST_CHECK; /* id 0: connection only */
int pg_h2_ng_goaway(struct pg_h2 *h, bool notice) PG_MUST_CHECK;
int pg_h2_ng_ping(struct pg_h2 *h, uint64_t id) PG_MUST_CHECK;
uint32_t pg_h2_ng_peer_limit(const struct pg_h2 *h);
uint32_t pg_h2_ng_next_id(const struct pg_h2 *h);
/* For tests: as if all lower ids had been used. */
int pg_h2_ng_set_next_id(struct pg_h2 *h, uint32_t id) PG_MUST_CHECK;
uint32_t pg_h2_ng_last_seen(const struct pg_h2 *h);

/* ---- h2_session.c ---- */

/* Makes the session look after itself before the turn ends. */
void pg_h2_touch(struct pg_h2 *h);
/* A final error found inside a call; told from the loop. `text` is copied. */
void pg_h2_fail(struct pg_h2 *h, int err, const char *text);
/* Records the guard that was met; the first one counts. */
void pg_h2_guard_trip(struct pg_h2 *h, const char *name);
/* Starts the time a stream without owner has to get its output out. */
void pg_h2_stream_leave(struct pg_h2_stream *s);
/* Queues `ev` for the owner. */
void pg_h2_stream_event(struct pg_h2_stream *s, unsigned ev);

/* ---- h2_stream.c ---- */

struct pg_h2_stream *pg_h2_stream_new(struct pg_h2 *h) PG_MUST_CHECK;
/* Takes the stream out of every list and frees it. */
void pg_h2_stream_destroy(struct pg_h2_stream *s);
/* The stream is over in both directions: frees what can no longer move, returns its credit to h->conn_credit.
 */
void pg_h2_stream_finish(struct pg_h2_stream *s, uint32_t code, int err);
/* Readiness now, as a level: PG_READ | PG_WRITE. Arms the callbacks for what is not ready. */
unsigned pg_h2_stream_ready(struct pg_h2_stream *s);
/* END_STREAM came and nothing that was received is lost. */
bool pg_h2_stream_ended(const struct pg_h2_stream *s);

#endif
