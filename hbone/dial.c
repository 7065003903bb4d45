/* SPDX-License-Identifier: Apache-2.0 */
/* A TCP connect with a time limit. One callback or one cancel ends it. Worker thread. */
#include "hbone/worker.h"

struct hb_dial {
    struct pg_transport *t;
    struct pg_timer *timer;
    void (*cb)(void *arg, struct pg_transport *t, int err, const char *text);
    void *arg;
};

static void finish(struct hb_dial *d, int err, const char *text)
{
    struct pg_transport *t = d->t;
    void (*cb)(void *, struct pg_transport *, int, const char *) = d->cb;
    void *arg = d->arg;
    pg_timer_free(d->timer);
    pg_free(d);
    pg_transport_want(t, 0);
    if (err < 0) {
        cb(arg, NULL, err, text);
        pg_transport_close(t);
    } else {
        cb(arg, t, 0, "");
    }
}

static void on_ready(struct pg_transport *t, unsigned rw, void *arg)
{
    (void)rw;
    int status = pg_transport_status(t);
    if (status == PG_E_AGAIN) {
        return;
    }
    const char *text = status < 0 ? pg_transport_error_text(t) : "";
    finish(arg, status < 0 ? status : 0, text[0] != '\0' || status >= 0 ? text : pg_err_str(status));
}

static void on_timeout(void *arg)
{
    finish(arg, PG_E_TIMEDOUT, "connection timed out");
}

int hb_dial_start(struct hb_worker *w, const struct pg_addr *to, const struct pg_sock_options *o,
                  uint64_t limit_ms, void (*cb)(void *arg, struct pg_transport *t, int err, const char *text),
                  void *arg, struct hb_dial **out)
{
    struct hb_dial *d = pg_calloc(1, sizeof(*d));
    if (d == NULL) {
        return PG_E_NOMEM;
    }
    d->cb = cb;
    d->arg = arg;
    int r = pg_timer_new(w->loop, on_timeout, d, &d->timer);
    if (r == 0) {
        r = pg_tcp_connect(w->loop, to, o, &d->t, NULL);
    }
    if (r < 0) {
        pg_timer_free(d->timer);
        pg_free(d);
        return r;
    }
    pg_transport_set_owner(d->t, on_ready, d);
    pg_transport_want(d->t, PG_WRITE);
    pg_timer_start(d->timer, limit_ms);
    *out = d;
    return 0;
}

void hb_dial_cancel(struct hb_dial *d)
{
    if (d != NULL) {
        pg_timer_free(d->timer);
        pg_transport_abort(d->t);
        pg_free(d);
    }
}
