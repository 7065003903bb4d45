/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See probe.h. Invariant: `done` is called at most once and always from the loop; every handle the probe took
 * is released in finish(). Control thread.
 */
#include "probe.h"

#include <stdio.h>

#include "core/mem.h"
#include "net/h2.h"
#include "net/sock.h"

struct probe {
    struct probe_options o;
    char *expect;
    void (*done)(void *arg, int err, const char *text);
    void *arg;
    struct pg_resolve_query *query;
    struct pg_transport *tls; /* ours until h2 has it */
    struct pg_h2 *h2;
    struct pg_timer *timer;
    struct pg_defer free_later;
    bool finished;
};

static void free_probe(struct pg_defer *d)
{
    struct probe *p = PG_CONTAINER_OF(d, struct probe, free_later);
    pg_timer_free(p->timer);
    cert_creds_unref(p->o.creds);
    pg_free(p->expect);
    pg_free(p);
}

static void release(struct probe *p)
{
    p->finished = true;
    pg_resolve_cancel(p->query);
    p->query = NULL;
    pg_h2_free(p->h2);
    p->h2 = NULL;
    pg_transport_abort(p->tls);
    p->tls = NULL;
    if (p->timer != NULL) {
        pg_timer_stop(p->timer);
    }
    p->free_later.cb = free_probe;
    pg_loop_defer(p->o.loop, &p->free_later);
}

static void finish(struct probe *p, int err, const char *text)
{
    if (p->finished) {
        return;
    }
    p->finished = true;
    p->done(p->arg, err, text);
    release(p);
}

void probe_cancel(struct probe *p)
{
    if (p != NULL && !p->finished) {
        release(p);
    }
}

static void on_timeout(void *arg)
{
    finish(arg, PG_E_TIMEDOUT, "no answer in time");
}

static void on_pong(int err, uint64_t rtt_us, void *arg)
{
    (void)rtt_us;
    if (err == 0) {
        finish(arg, 0, "");
    } /* else on_h2_closed tells, with a better text */
}

static void on_h2_closed(struct pg_h2 *h, int err, const char *text, void *arg)
{
    (void)h;
    finish(arg, err != 0 ? err : PG_E_CLOSED,
           text[0] != '\0' ? text : pg_err_str(err != 0 ? err : PG_E_CLOSED));
}

static void on_tls_ready(struct pg_transport *t, unsigned rw, void *arg)
{
    (void)rw;
    struct probe *p = arg;
    int r = pg_transport_status(t);
    if (r == PG_E_AGAIN) {
        return;
    }
    if (r < 0) {
        const char *text = pg_transport_error_text(t);
        finish(p, r, text[0] != '\0' ? text : pg_err_str(r));
        return;
    }
    struct pg_h2_options o;
    pg_h2_options_hbone(&o, false);
    static const struct pg_h2_callbacks callbacks = {.on_closed = on_h2_closed};
    r = pg_h2_client_new(p->o.loop, t, &o, &callbacks, p, &p->h2);
    if (r == 0) {
        p->tls = NULL;
        r = pg_h2_ping(p->h2, on_pong, p);
    }
    if (r != 0) {
        finish(p, r, pg_err_str(r));
    }
}

static void on_resolved(int err, const struct pg_ip *ips, size_t n, const char *text, void *arg)
{
    struct probe *p = arg;
    p->query = NULL;
    if (err != 0 || n == 0) {
        finish(p, err != 0 ? err : PG_E_NOTFOUND, text);
        return;
    }
    struct pg_addr to = {.ip = ips[0], .port = p->o.port};
    struct pg_transport *tcp;
    struct pg_errtext why = {""};
    struct pg_sock_options so = {0};
    int r = pg_tcp_connect(p->o.loop, &to, &so, &tcp, &why);
    if (r != 0) {
        finish(p, r, why.text);
        return;
    }
    struct pg_str name = pg_str_c(p->expect);
    struct cert_expect expect = {.kind = CERT_EXPECT_SPIFFE, .names = &name, .n_names = 1};
    r = cert_tls_client(p->o.loop, tcp, p->o.creds, &expect, &p->tls);
    if (r != 0) {
        pg_transport_abort(tcp);
        finish(p, r, pg_err_str(r));
        return;
    }
    pg_transport_set_owner(p->tls, on_tls_ready, p);
    pg_transport_want(p->tls, PG_READ | PG_WRITE);
}

int probe_start(const struct probe_options *o, void (*done)(void *arg, int err, const char *text), void *arg,
                struct probe **out)
{
    struct probe *p = pg_calloc(1, sizeof(*p));
    if (p == NULL) {
        return PG_E_NOMEM;
    }
    p->o = *o;
    p->done = done;
    p->arg = arg;
    p->o.creds = NULL;
    p->expect = pg_strndup(o->expect.p, o->expect.len);
    int r = p->expect == NULL ? PG_E_NOMEM : pg_timer_new(o->loop, on_timeout, p, &p->timer);
    if (r == 0) {
        r = pg_resolve(o->resolver, pg_str_c(o->host), on_resolved, p, &p->query);
    }
    if (r != 0) {
        pg_timer_free(p->timer);
        pg_free(p->expect);
        pg_free(p);
        return r;
    }
    p->o.creds = cert_creds_ref(o->creds);
    pg_timer_start(p->timer, o->timeout_ms);
    *out = p;
    return 0;
}
