/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A transport is an ordered byte stream with readiness: a TCP socket, TLS over any transport, an HTTP/2
 * stream, a pipe in memory, or a fault injector on top of one. They stack: HTTP/2 over TLS over (HTTP/2
 * stream over TLS over TCP) is double HBONE. One owner, one thread.
 *
 * Contract:
 *  - read: > 0 bytes, 0 end of stream, PG_E_AGAIN, or another error (final: the same error is returned
 * again).
 *  - writev: > 0 bytes taken (maybe fewer than offered), PG_E_AGAIN, or a final error. Never 0 for a
 * non-empty iov. PG_E_AGAIN also until the transport is established (connected, handshake done).
 *  - shutdown: everything written so far is delivered, then end of stream is signalled to the far side once.
 *    Reading goes on. Idempotent. Data not yet accepted by the layer below is kept and sent as it can.
 *  - want: which of PG_READ | PG_WRITE the owner wants to hear of. Level-triggered: while interest and
 * condition both hold, on_ready keeps being called (at most once a loop turn). A transport with buffered data
 * calls from the loop, never from inside read/writev/want.
 *  - An error or end of stream shows as readiness for reading AND writing, whatever of the two is wanted.
 *  - close: no callback after it; frees the object at the end of the loop turn. Data accepted by writev but
 * not yet sent may be lost unless shutdown was called and completed; close after an error or to reset is
 * abrupt (TCP: RST when `abort` was asked with pg_transport_abort).
 */
#ifndef ISTHMUS_NET_TRANSPORT_H
#define ISTHMUS_NET_TRANSPORT_H

#include "core/addr.h"
#include "core/err.h"
#include "net/loop.h"

#include <sys/types.h>
#include <sys/uio.h>

struct pg_transport;
struct pg_transport_ops {
    const char *name; /* "tcp", "tls", "h2", "mem", "chaos" */
    ssize_t (*read)(struct pg_transport *t, void *buf, size_t cap);
    ssize_t (*writev)(struct pg_transport *t, const struct iovec *iov, int n);
    int (*shutdown)(struct pg_transport *t);
    void (*want)(struct pg_transport *t, unsigned rw);
    void (*close)(struct pg_transport *t, bool abort);
    /* 1 established, PG_E_AGAIN still connecting or shaking hands, else the final error. */
    int (*status)(struct pg_transport *t);
    /* Optional: tells that `n` bytes got by read have left our memory, so that flow-control credit may go
     * back to the sender. NULL: reading returns credit by itself (sockets). */
    void (*consumed)(struct pg_transport *t, size_t n);
    /* Optional: why it failed, in words ("connection refused", "tls: unknown certificate authority"); lives
     * as long as the transport. NULL or "" when there is nothing to add. */
    const char *(*error_text)(struct pg_transport *t);
    /* Optional: bytes accepted by writev and not yet handed to the kernel or peer, all layers down. */
    size_t (*pending)(struct pg_transport *t);
    /* Optional pair, sockets only: like read and writev of up to `len` bytes, into or out of a pipe, inside
     * the kernel. PG_E_UNSUPPORTED: not with this one, nothing happened, use read and writev. */
    ssize_t (*read_to_pipe)(struct pg_transport *t, int pipe_fd, size_t len);
    ssize_t (*write_from_pipe)(struct pg_transport *t, int pipe_fd, size_t len);
};
struct pg_transport {
    const struct pg_transport_ops *ops;
    void (*on_ready)(struct pg_transport *t, unsigned rw, void *arg);
    void *arg;
};

/* Sets the owner's callback; the owner changes when a layer is stacked on top. */
void pg_transport_set_owner(struct pg_transport *t, void (*on_ready)(struct pg_transport *, unsigned, void *),
                            void *arg);
static inline ssize_t pg_transport_read(struct pg_transport *t, void *buf, size_t cap)
{
    return t->ops->read(t, buf, cap);
}
static inline ssize_t pg_transport_writev(struct pg_transport *t, const struct iovec *iov, int n)
{
    return t->ops->writev(t, iov, n);
}
ssize_t pg_transport_write(struct pg_transport *t, const void *p, size_t len);
static inline int pg_transport_shutdown(struct pg_transport *t)
{
    return t->ops->shutdown(t);
}
static inline void pg_transport_want(struct pg_transport *t, unsigned rw)
{
    t->ops->want(t, rw);
}
static inline int pg_transport_status(struct pg_transport *t)
{
    return t->ops->status(t);
}
void pg_transport_consumed(struct pg_transport *t, size_t n);
const char *pg_transport_error_text(struct pg_transport *t); /* "" when none */
size_t pg_transport_pending(struct pg_transport *t);
void pg_transport_close(struct pg_transport *t); /* NULL is fine */
void pg_transport_abort(struct pg_transport *t); /* like close, but the far side sees a reset, not an end */

/* Two connected in-memory ends for tests and for in-process peers; each direction holds at most `cap` bytes.
 */
int pg_mem_pair(struct pg_loop *l, size_t cap, struct pg_transport **a,
                struct pg_transport **b) PG_MUST_CHECK;

/* Fault injector on top of `lower` (taken over on success), driven by a seed: splits reads and writes,
 * returns would-block, and optionally resets at byte `reset_at_read` / `reset_at_write` (UINT64_MAX: never).
 */
struct pg_chaos_options {
    uint64_t seed;
    uint32_t split_pct; /* chance that a call is shortened */
    uint32_t again_pct; /* chance that a call pretends would-block */
    size_t max_piece;   /* upper bound of a shortened call; 1 = byte by byte */
    uint64_t reset_at_read;
    uint64_t reset_at_write;
};
int pg_chaos_new(struct pg_loop *l, struct pg_transport *lower, const struct pg_chaos_options *o,
                 struct pg_transport **out) PG_MUST_CHECK;

/* Copies both ways between two established transports until both directions ended, half-close by half-close,
 * with one bounded buffer a direction (allocated only while bytes are in flight): D4. Reads only when the
 * other side has room. Bulk between two sockets is spliced and never enters this process. Takes both
 * transports over and closes them. `on_done` is called once, from the loop; the relay frees itself after it
 * returns. */
struct pg_relay;
struct pg_relay_result {
    uint64_t a_to_b; /* bytes delivered to b's writev */
    uint64_t b_to_a;
    int err;       /* 0 when both sides ended cleanly */
    bool err_on_b; /* which side failed */
    bool err_on_write;
    const char *text; /* valid during the callback; "" when none */
};
#define PG_RELAY_BUFFER 65536u
#define PG_RELAY_PIPE 262144u /* kernel memory per direction while spliced */
int pg_relay_start(struct pg_loop *l, struct pg_transport *a, struct pg_transport *b,
                   void (*on_done)(const struct pg_relay_result *r, void *arg), void *arg,
                   struct pg_relay **out) PG_MUST_CHECK;
/* Cuts both sides abruptly; on_done is called from the loop with `err` and `text` (copied). */
void pg_relay_abort(struct pg_relay *r, int err, const char *text);
/* Bytes moved so far. */
void pg_relay_counts(const struct pg_relay *r, uint64_t *a_to_b, uint64_t *b_to_a);

#endif
