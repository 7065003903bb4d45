/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a transport that are the same for every kind. Loop thread. */
#include "net/transport.h"

void pg_transport_set_owner(struct pg_transport *t, void (*on_ready)(struct pg_transport *, unsigned, void *),
                            void *arg)
{
    t->on_ready = on_ready;
    t->arg = arg;
}

ssize_t pg_transport_write(struct pg_transport *t, const void *p, size_t len)
{
    /* writev never writes through iov_base */
    struct iovec iov = {.iov_base = (void *)(uintptr_t)p, .iov_len = len};
    return len == 0 ? 0 : t->ops->writev(t, &iov, 1);
}

void pg_transport_consumed(struct pg_transport *t, size_t n)
{
    if (t->ops->consumed != NULL && n > 0) {
        t->ops->consumed(t, n);
    }
}

const char *pg_transport_error_text(struct pg_transport *t)
{
    const char *text = t->ops->error_text != NULL ? t->ops->error_text(t) : NULL;
    return text != NULL ? text : "";
}

size_t pg_transport_pending(struct pg_transport *t)
{
    return t->ops->pending != NULL ? t->ops->pending(t) : 0;
}

void pg_transport_close(struct pg_transport *t)
{
    if (t != NULL) {
        t->ops->close(t, false);
    }
}

void pg_transport_abort(struct pg_transport *t)
{
    if (t != NULL) {
        t->ops->close(t, true);
    }
}
