/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An HTTP/2 stream as a transport, so that TLS or another HTTP/2 session can run inside a tunnel. Readiness
 * is a level computed from the stream; the stream's own callbacks only start the deferred call that tells it.
 * The transport owns the stream until close. Loop thread.
 */
#include "net/h2_int.h"

struct stream_tp {
    struct pg_transport t;
    struct pg_h2_stream *s;
    struct pg_loop *loop;
    struct pg_defer ready;
    struct pg_defer dead;
    unsigned want;
    int write_err; /* final, once met */
    int read_err;
    bool shut;
};

static struct stream_tp *tp_of(struct pg_transport *t)
{
    return PG_CONTAINER_OF(t, struct stream_tp, t);
}

static void notify(struct stream_tp *x)
{
    if (x->want != 0 && (pg_h2_stream_ready(x->s) & x->want) != 0) {
        pg_loop_defer(x->loop, &x->ready);
    }
}

static void tell(struct pg_defer *d)
{
    struct stream_tp *x = PG_CONTAINER_OF(d, struct stream_tp, ready);
    unsigned rw = pg_h2_stream_ready(x->s) & x->want;
    if (rw == 0) {
        return;
    }
    notify(x); /* level-triggered: again in the next turn, unless close or want changes that */
    if (x->t.on_ready != NULL) {
        x->t.on_ready(&x->t, rw, x->t.arg);
    }
}

static void on_event(struct pg_h2_stream *s, void *arg)
{
    (void)s;
    notify(arg);
}

static void on_closed(struct pg_h2_stream *s, uint32_t code, int err, void *arg)
{
    (void)s;
    (void)code;
    (void)err;
    notify(arg);
}

static void on_orphaned(void *arg)
{
    notify(arg);
}

static const struct pg_h2_stream_callbacks tp_callbacks = {
    .on_readable = on_event,
    .on_writable = on_event,
    .on_closed = on_closed,
};

static ssize_t tp_read(struct pg_transport *t, void *buf, size_t cap)
{
    struct stream_tp *x = tp_of(t);
    if (x->read_err != 0) {
        return x->read_err;
    }
    ssize_t n = pg_h2_read(x->s, buf, cap);
    if (n < 0 && n != PG_E_AGAIN) {
        x->read_err = (int)n;
    }
    notify(x);
    return n;
}

static ssize_t tp_writev(struct pg_transport *t, const struct iovec *iov, int n)
{
    struct stream_tp *x = tp_of(t);
    if (x->write_err != 0) {
        return x->write_err;
    }
    ssize_t r = pg_h2_writev(x->s, iov, n);
    if (r < 0 && r != PG_E_AGAIN) {
        x->write_err = (int)r;
    }
    notify(x);
    return r;
}

static int tp_shutdown(struct pg_transport *t)
{
    struct stream_tp *x = tp_of(t);
    int r = x->shut ? 0 : pg_h2_end(x->s);
    x->shut = x->shut || r == 0;
    return r;
}

static void tp_want(struct pg_transport *t, unsigned rw)
{
    struct stream_tp *x = tp_of(t);
    x->want = rw;
    if (rw == 0) {
        pg_defer_cancel(&x->ready);
    } else {
        notify(x);
    }
}

static void tp_release(struct pg_defer *d)
{
    pg_free(PG_CONTAINER_OF(d, struct stream_tp, dead));
}

static void tp_close(struct pg_transport *t, bool abort)
{
    struct stream_tp *x = tp_of(t);
    bool clean = x->shut && !abort;
    x->want = 0;
    pg_defer_cancel(&x->ready);
    /* RFC 9113 section 8.5 names CONNECT_ERROR for a broken tunnel; ztunnel reads CANCEL as a clean end. */
    pg_h2_stream_close(x->s, clean ? PG_H2_NO_ERROR : PG_H2_CONNECT_ERROR);
    x->s = NULL;
    pg_loop_defer(x->loop, &x->dead);
}

static int tp_status(struct pg_transport *t)
{
    struct stream_tp *x = tp_of(t);
    int err = x->s->err;
    if (err != 0 && !x->shut && pg_h2_stream_ended(x->s)) {
        return 1; /* all that the peer said came before the session went, and can still be read */
    }
    return err != 0 ? err : 1;
}

static void tp_consumed(struct pg_transport *t, size_t n)
{
    pg_h2_consumed(tp_of(t)->s, n);
}

static const char *tp_error_text(struct pg_transport *t)
{
    static const char *const names[] = {
        "stream reset: NO_ERROR",
        "stream reset: PROTOCOL_ERROR",
        "stream reset: INTERNAL_ERROR",
        "stream reset: FLOW_CONTROL_ERROR",
        "stream reset: SETTINGS_TIMEOUT",
        "stream reset: STREAM_CLOSED",
        "stream reset: FRAME_SIZE_ERROR",
        "stream reset: REFUSED_STREAM",
        "stream reset: CANCEL",
        "stream reset: COMPRESSION_ERROR",
        "stream reset: CONNECT_ERROR",
        "stream reset: ENHANCE_YOUR_CALM",
        "stream reset: INADEQUATE_SECURITY",
        "stream reset: HTTP_1_1_REQUIRED",
    };
    const struct pg_h2_stream *s = tp_of(t)->s;
    if (!s->over || s->err == 0) {
        return "";
    }
    if (s->err != PG_E_RESET) {
        return "HTTP/2 connection ended";
    }
    return s->code < PG_ARRAY_LEN(names) ? names[s->code] : "stream reset";
}

static size_t tp_pending(struct pg_transport *t)
{
    return tp_of(t)->s->out.len;
}

static const struct pg_transport_ops tp_ops = {
    .name = "h2",
    .read = tp_read,
    .writev = tp_writev,
    .shutdown = tp_shutdown,
    .want = tp_want,
    .close = tp_close,
    .status = tp_status,
    .consumed = tp_consumed,
    .error_text = tp_error_text,
    .pending = tp_pending,
};

int pg_h2_stream_transport(struct pg_h2_stream *s, struct pg_transport **out)
{
    struct stream_tp *x = pg_calloc(1, sizeof(*x));
    if (x == NULL) {
        return PG_E_NOMEM;
    }
    x->t.ops = &tp_ops;
    x->s = s;
    x->loop = s->loop;
    x->ready.cb = tell;
    x->dead.cb = tp_release;
    s->orphaned = on_orphaned;
    s->orphaned_arg = x;
    pg_h2_stream_set_owner(s, &tp_callbacks, x);
    *out = &x->t;
    return 0;
}
