/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fault injector: a transport on top of another one which shortens calls, pretends would-block and resets at
 * a given byte, all decided by a seed, so that a failing run can be repeated. It relies on the layer below
 * being level-triggered: after a pretended would-block, readiness comes again. Loop thread.
 */
#include "net/transport.h"

#include "core/mem.h"
#include "core/rng.h"

#define CHAOS_IOV 16

struct chaos {
    struct pg_transport t;
    struct pg_loop *loop;
    struct pg_transport *lower; /* NULL once the reset was played */
    struct pg_chaos_options o;
    struct pg_rng rng;
    struct pg_defer ready; /* speaks for a lower layer that is gone */
    struct pg_defer dead;
    uint64_t was_read;
    uint64_t was_written;
    unsigned want;
    int err;
};

static struct chaos *chaos_of(struct pg_transport *t)
{
    return PG_CONTAINER_OF(t, struct chaos, t);
}

static bool chance(struct chaos *c, uint32_t pct)
{
    return pct > 0 && pg_rng_below(&c->rng, 100) < pct;
}

static size_t shorten(struct chaos *c, size_t len)
{
    size_t max = c->o.max_piece > 0 ? c->o.max_piece : 1;
    if (len <= 1 || !chance(c, c->o.split_pct)) {
        return len;
    }
    if (max > len) {
        max = len;
    }
    return 1 + (size_t)pg_rng_below(&c->rng, max);
}

static void notify(struct chaos *c)
{
    if (c->want != 0) {
        pg_loop_defer(c->loop, &c->ready);
    }
}

static void on_own_ready(struct pg_defer *d)
{
    struct chaos *c = PG_CONTAINER_OF(d, struct chaos, ready);
    if (c->want == 0) {
        return;
    }
    notify(c);
    if (c->t.on_ready != NULL) {
        c->t.on_ready(&c->t, PG_READ | PG_WRITE, c->t.arg);
    }
}

static void on_lower_ready(struct pg_transport *lower, unsigned rw, void *arg)
{
    struct chaos *c = arg;
    (void)lower;
    if (c->t.on_ready != NULL) {
        c->t.on_ready(&c->t, rw, c->t.arg);
    }
}

static int play_reset(struct chaos *c)
{
    pg_transport_abort(c->lower);
    c->lower = NULL;
    c->err = PG_E_RESET;
    notify(c);
    return c->err;
}

/* A final error of the layer below stays what we return, also past pretended would-blocks. */
static ssize_t remember(struct chaos *c, ssize_t r)
{
    if (r < 0 && r != PG_E_AGAIN && r != PG_E_CLOSED) {
        c->err = (int)r;
    }
    return r;
}

static ssize_t chaos_read(struct pg_transport *t, void *buf, size_t cap)
{
    struct chaos *c = chaos_of(t);
    if (c->err != 0) {
        return c->err;
    }
    if (c->was_read >= c->o.reset_at_read) {
        return play_reset(c);
    }
    if (chance(c, c->o.again_pct)) {
        return PG_E_AGAIN;
    }
    cap = shorten(c, cap);
    if (cap > c->o.reset_at_read - c->was_read) {
        cap = (size_t)(c->o.reset_at_read - c->was_read);
    }
    ssize_t n = pg_transport_read(c->lower, buf, cap);
    if (n > 0) {
        c->was_read += (uint64_t)n;
    }
    return remember(c, n);
}

static ssize_t chaos_writev(struct pg_transport *t, const struct iovec *iov, int n)
{
    struct chaos *c = chaos_of(t);
    struct iovec part[CHAOS_IOV];
    size_t total = 0;
    int used = 0;
    if (c->err != 0) {
        return c->err;
    }
    if (c->was_written >= c->o.reset_at_write) {
        return play_reset(c);
    }
    if (chance(c, c->o.again_pct)) {
        return PG_E_AGAIN;
    }
    for (int i = 0; i < n; i++) {
        total += iov[i].iov_len;
    }
    size_t left = shorten(c, total);
    if (left > c->o.reset_at_write - c->was_written) {
        left = (size_t)(c->o.reset_at_write - c->was_written);
    }
    for (int i = 0; i < n && left > 0 && used < CHAOS_IOV; i++) {
        if (iov[i].iov_len == 0) {
            continue;
        }
        part[used] = iov[i];
        if (part[used].iov_len > left) {
            part[used].iov_len = left;
        }
        left -= part[used++].iov_len;
    }
    ssize_t w = pg_transport_writev(c->lower, part, used);
    if (w > 0) {
        c->was_written += (uint64_t)w;
    }
    return remember(c, w);
}

static int chaos_shutdown(struct pg_transport *t)
{
    struct chaos *c = chaos_of(t);
    return c->err != 0 ? c->err : pg_transport_shutdown(c->lower);
}

static void chaos_want(struct pg_transport *t, unsigned rw)
{
    struct chaos *c = chaos_of(t);
    c->want = rw;
    if (c->lower != NULL) {
        pg_transport_want(c->lower, rw);
    } else if (rw == 0) {
        pg_defer_cancel(&c->ready);
    } else {
        notify(c);
    }
}

static void chaos_release(struct pg_defer *d)
{
    pg_free(PG_CONTAINER_OF(d, struct chaos, dead));
}

static void chaos_close(struct pg_transport *t, bool abrupt)
{
    struct chaos *c = chaos_of(t);
    c->want = 0;
    pg_defer_cancel(&c->ready);
    if (c->lower != NULL) {
        c->lower->ops->close(c->lower, abrupt);
        c->lower = NULL;
    }
    pg_loop_defer(c->loop, &c->dead);
}

static int chaos_status(struct pg_transport *t)
{
    struct chaos *c = chaos_of(t);
    return c->err != 0 ? c->err : pg_transport_status(c->lower);
}

static void chaos_consumed(struct pg_transport *t, size_t n)
{
    struct chaos *c = chaos_of(t);
    if (c->lower != NULL) {
        pg_transport_consumed(c->lower, n);
    }
}

static const char *chaos_error_text(struct pg_transport *t)
{
    struct chaos *c = chaos_of(t);
    return c->lower == NULL ? "injected reset" : pg_transport_error_text(c->lower);
}

static size_t chaos_pending(struct pg_transport *t)
{
    struct chaos *c = chaos_of(t);
    return c->lower != NULL ? pg_transport_pending(c->lower) : 0;
}

static const struct pg_transport_ops chaos_ops = {
    .name = "chaos",
    .read = chaos_read,
    .writev = chaos_writev,
    .shutdown = chaos_shutdown,
    .want = chaos_want,
    .close = chaos_close,
    .status = chaos_status,
    .consumed = chaos_consumed,
    .error_text = chaos_error_text,
    .pending = chaos_pending,
};

int pg_chaos_new(struct pg_loop *l, struct pg_transport *lower, const struct pg_chaos_options *o,
                 struct pg_transport **out)
{
    struct chaos *c = pg_calloc(1, sizeof(*c));
    if (c == NULL) {
        return PG_E_NOMEM;
    }
    c->t.ops = &chaos_ops;
    c->loop = l;
    c->lower = lower;
    c->o = *o;
    c->ready.cb = on_own_ready;
    c->dead.cb = chaos_release;
    pg_rng_seed(&c->rng, o->seed);
    pg_transport_set_owner(lower, on_lower_ready, c);
    *out = &c->t;
    return 0;
}
