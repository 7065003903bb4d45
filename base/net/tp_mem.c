/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two connected transports in memory. Each end owns the bytes on their way to it, at most `cap`. A closed end
 * looks to the other like a closed socket: end of stream after the bytes in flight, reset for writes; an
 * aborted one like a reset, and the bytes in flight are gone. Loop thread.
 */
#include "net/transport.h"

#include "core/buf.h"

struct end {
    struct pg_transport t;
    struct pg_loop *loop;
    struct end *peer; /* NULL once that end was closed */
    struct pg_buf in;
    struct pg_defer ready;
    struct pg_defer dead;
    unsigned want;
    int err;  /* final */
    bool eof; /* nothing comes after what is in `in` */
    bool shut;
};

static struct end *end_of(struct pg_transport *t)
{
    return PG_CONTAINER_OF(t, struct end, t);
}

static unsigned condition(const struct end *e)
{
    unsigned rw = 0;
    if (e->err != 0) {
        return PG_READ | PG_WRITE;
    }
    if (e->in.len > 0 || e->eof) {
        rw |= PG_READ;
    }
    if (e->shut || e->peer == NULL || pg_buf_room(&e->peer->in) > 0) {
        rw |= PG_WRITE;
    }
    return rw;
}

/* Readiness is always told from the deferred phase. */
static void notify(struct end *e)
{
    if ((condition(e) & e->want) != 0) {
        pg_loop_defer(e->loop, &e->ready);
    }
}

static void on_ready(struct pg_defer *d)
{
    struct end *e = PG_CONTAINER_OF(d, struct end, ready);
    unsigned rw = condition(e) & e->want;
    if (rw == 0) {
        return;
    }
    notify(e); /* level-triggered: again in the next turn, unless close or want changes that */
    if (e->t.on_ready != NULL) {
        e->t.on_ready(&e->t, rw, e->t.arg);
    }
}

static ssize_t mem_read(struct pg_transport *t, void *buf, size_t cap)
{
    struct end *e = end_of(t);
    if (e->err != 0) {
        return e->err;
    }
    if (cap == 0) {
        return PG_E_AGAIN;
    }
    size_t n = pg_buf_take(&e->in, buf, cap);
    if (n > 0) {
        if (e->peer != NULL) {
            notify(e->peer);
        }
        return (ssize_t)n;
    }
    return e->eof ? 0 : PG_E_AGAIN;
}

static ssize_t mem_writev(struct pg_transport *t, const struct iovec *iov, int n)
{
    struct end *e = end_of(t);
    size_t taken = 0;
    if (e->err != 0) {
        return e->err;
    }
    if (e->shut) {
        return PG_E_CLOSED;
    }
    if (e->peer == NULL) {
        e->err = PG_E_RESET;
        return e->err;
    }
    for (int i = 0; i < n; i++) {
        size_t room = pg_buf_room(&e->peer->in);
        size_t len = iov[i].iov_len < room ? iov[i].iov_len : room;
        if (len == 0) {
            continue;
        }
        int r = pg_buf_add(&e->peer->in, iov[i].iov_base, len);
        if (r < 0) {
            if (taken == 0) {
                e->err = r;
                return r;
            }
            break;
        }
        taken += len;
        if (len < iov[i].iov_len) {
            break;
        }
    }
    notify(e->peer);
    return taken > 0 ? (ssize_t)taken : PG_E_AGAIN;
}

static int mem_shutdown(struct pg_transport *t)
{
    struct end *e = end_of(t);
    if (e->err != 0) {
        return e->err;
    }
    e->shut = true;
    if (e->peer != NULL) {
        e->peer->eof = true;
        notify(e->peer);
    }
    return 0;
}

static void mem_want(struct pg_transport *t, unsigned rw)
{
    struct end *e = end_of(t);
    e->want = rw;
    if (rw == 0) {
        pg_defer_cancel(&e->ready);
    } else {
        notify(e);
    }
}

static void mem_release(struct pg_defer *d)
{
    struct end *e = PG_CONTAINER_OF(d, struct end, dead);
    pg_buf_fini(&e->in);
    pg_free(e);
}

static void mem_close(struct pg_transport *t, bool abrupt)
{
    struct end *e = end_of(t);
    struct end *p = e->peer;
    e->want = 0;
    pg_defer_cancel(&e->ready);
    if (p != NULL) {
        p->peer = NULL;
        e->peer = NULL;
        p->eof = true;
        if (abrupt) {
            p->err = PG_E_RESET;
            pg_buf_drop(&p->in, p->in.len);
        }
        notify(p);
    }
    pg_loop_defer(e->loop, &e->dead);
}

static int mem_status(struct pg_transport *t)
{
    const struct end *e = end_of(t);
    return e->err != 0 ? e->err : 1;
}

static const char *mem_error_text(struct pg_transport *t)
{
    const struct end *e = end_of(t);
    return e->err != 0 ? pg_err_str(e->err) : "";
}

static const struct pg_transport_ops mem_ops = {
    .name = "mem",
    .read = mem_read,
    .writev = mem_writev,
    .shutdown = mem_shutdown,
    .want = mem_want,
    .close = mem_close,
    .status = mem_status,
    .error_text = mem_error_text,
};

static struct end *end_new(struct pg_loop *l, size_t cap)
{
    struct end *e = pg_calloc(1, sizeof(*e));
    if (e != NULL) {
        e->t.ops = &mem_ops;
        e->loop = l;
        e->ready.cb = on_ready;
        e->dead.cb = mem_release;
        pg_buf_init(&e->in, cap);
    }
    return e;
}

int pg_mem_pair(struct pg_loop *l, size_t cap, struct pg_transport **a, struct pg_transport **b)
{
    struct end *x = end_new(l, cap);
    struct end *y = end_new(l, cap);
    if (x == NULL || y == NULL) {
        pg_free(x);
        pg_free(y);
        return PG_E_NOMEM;
    }
    x->peer = y;
    y->peer = x;
    *a = &x->t;
    *b = &y->t;
    return 0;
}
