/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See conn_int.h. Invariants: what was opened last is closed first, on_down comes at most once and from the
 * loop, the time limit covers everything up to the peer's SETTINGS. Loop thread.
 */
#include "xds/conn_int.h"

#include "net/sock.h"

#include <stdio.h>

#define NAMES_MAX 8u
#define USER_TIMEOUT_MS 20000u /* a vanished peer is noticed within 30 s, pings included */

enum phase { PHASE_RESOLVE, PHASE_TCP, PHASE_TLS, PHASE_READY, PHASE_DOWN };

struct xds_conn {
    struct pg_loop *loop;
    struct pg_resolver *resolver;
    struct xds_conn_callbacks cb;
    void *arg;
    enum phase phase;
    char *address;
    struct pg_hostport target; /* into address */
    char *names[NAMES_MAX];
    size_t n_names;
    struct cert_creds *creds;
    uint64_t timeout_ms;
    uint32_t ping_ms;
    struct pg_timer *timer;
    struct pg_resolve_query *query;
    struct pg_ip ips[PG_RESOLVE_MAX];
    size_t n_ips;
    size_t tried;
    size_t first_ip;
    struct pg_transport *tcp; /* until TLS has it */
    struct pg_h2 *h;
    struct pg_defer start;
    struct pg_defer reap;
    char remote[PG_ADDR_TEXT];
    char desc[512];
    bool told_to_calm;
    bool freed;
};

static void next_ip(struct xds_conn *c, const char *last_error);

/* Lets go of sockets and queries; callbacks may be on the stack. */
static void shut(struct xds_conn *c)
{
    pg_defer_cancel(&c->start);
    pg_timer_stop(c->timer);
    pg_resolve_cancel(c->query);
    c->query = NULL;
    pg_h2_free(c->h);
    c->h = NULL;
    pg_transport_close(c->tcp);
    c->tcp = NULL;
}

static void down(struct xds_conn *c)
{
    if (c->phase == PHASE_DOWN || c->freed) {
        return;
    }
    c->phase = PHASE_DOWN;
    shut(c);
    c->cb.on_down(c, c->desc, c->arg);
}

static void down_dial(struct xds_conn *c, const char *what)
{
    (void)snprintf(c->desc, sizeof(c->desc),
                   "connection error: desc = \"transport: Error while dialing: %s\"", what);
    down(c);
}

/* --- HTTP/2
 * ---------------------------------------------------------------------------------------------------- */

/* Go's word for the end of a stream of bytes. */
static const char *reason(int err, const char *text)
{
    switch (err) {
    case 0:
    case PG_E_CLOSED:
        return "EOF";
    case PG_E_RESET:
        return "connection reset by peer";
    default:
        return text[0] != '\0' ? text : pg_err_str(err);
    }
}

static void describe_end(struct xds_conn *c, int err, const char *text)
{
    bool from_peer = strncmp(text, "remote error:", strlen("remote error:")) == 0;
    bool handshake = c->phase == PHASE_TLS && !from_peer && (err == PG_E_TLS || err == PG_E_UNTRUSTED);
    const char *why = reason(err, text);
    if (c->phase == PHASE_READY) {
        (void)snprintf(c->desc, sizeof(c->desc), "error reading from server: %s", why);
    } else if (handshake) {
        (void)snprintf(c->desc, sizeof(c->desc),
                       "connection error: desc = \"transport: authentication handshake failed: %s\"", why);
    } else {
        (void)snprintf(c->desc, sizeof(c->desc),
                       "connection error: desc = \"error reading server preface: %s\"", why);
    }
}

static void on_settings(struct pg_h2 *h, void *arg)
{
    struct xds_conn *c = arg;
    if (c->phase != PHASE_TLS) {
        return;
    }
    c->phase = PHASE_READY;
    pg_timer_stop(c->timer);
    c->cb.on_ready(c, h, c->arg);
}

static void on_goaway(struct pg_h2 *h, uint32_t code, void *arg)
{
    /* The stream runs on until the server ends it; the owner reconnects then. */
    struct xds_conn *c = arg;
    (void)h;
    c->told_to_calm = c->told_to_calm || code == PG_H2_ENHANCE_YOUR_CALM;
}

static void on_h2_closed(struct pg_h2 *h, int err, const char *text, void *arg)
{
    struct xds_conn *c = arg;
    (void)h;
    describe_end(c, err, text);
    down(c);
}

static void start_tls(struct xds_conn *c)
{
    static const struct pg_h2_callbacks callbacks = {
        .on_settings = on_settings,
        .on_goaway = on_goaway,
        .on_closed = on_h2_closed,
    };
    struct pg_str names[NAMES_MAX];
    struct pg_h2_options o;
    struct pg_transport *tls = NULL;
    for (size_t i = 0; i < c->n_names; i++) {
        names[i] = pg_str_c(c->names[i]);
    }
    struct cert_expect expect = {.kind = CERT_EXPECT_DNS, .names = names, .n_names = c->n_names};
    pg_h2_options_grpc(&o, false);
    o.ping_interval_ms = c->ping_ms != 0 ? c->ping_ms : o.ping_interval_ms;
    c->phase = PHASE_TLS;
    int r = cert_tls_client(c->loop, c->tcp, c->creds, &expect, &tls);
    if (r == 0) {
        c->tcp = NULL;
        r = pg_h2_client_new(c->loop, tls, &o, &callbacks, c, &c->h);
    }
    if (r < 0) {
        pg_transport_close(tls);
        describe_end(c, PG_E_TLS, pg_err_str(r));
        down(c);
    }
}

/* --- TCP
 * ------------------------------------------------------------------------------------------------------- */

static void on_tcp(struct pg_transport *t, unsigned rw, void *arg)
{
    struct xds_conn *c = arg;
    (void)rw;
    int r = pg_transport_status(t);
    if (r == PG_E_AGAIN) {
        return;
    }
    pg_transport_want(t, 0);
    if (r > 0) {
        start_tls(c);
        return;
    }
    c->tcp = NULL;
    pg_transport_close(t);
    next_ip(c, pg_err_str(r));
}

/* One more address; when there is none left `last_error` is what the last one died of. */
static void next_ip(struct xds_conn *c, const char *last_error)
{
    static const struct pg_sock_options sock = {.keepalive = true,
                                                .keepalive_time_s = 300,
                                                .keepalive_interval_s = 75,
                                                .keepalive_retries = 9,
                                                .user_timeout_ms = USER_TIMEOUT_MS};
    char what[256];
    struct pg_errtext err = {""};
    while (c->tried < c->n_ips) {
        struct pg_addr to = {.ip = c->ips[(c->first_ip + c->tried++) % c->n_ips], .port = c->target.port};
        (void)pg_addr_fmt(&to, c->remote);
        int r = pg_tcp_connect(c->loop, &to, &sock, &c->tcp, &err);
        if (r == 0) {
            c->phase = PHASE_TCP;
            pg_transport_set_owner(c->tcp, on_tcp, c);
            pg_transport_want(c->tcp, PG_WRITE);
            return;
        }
        c->tcp = NULL;
        last_error = pg_err_str(r);
    }
    (void)snprintf(what, sizeof(what), "dial tcp %s: connect: %s", c->remote, last_error);
    down_dial(c, what);
}

/* --- names
 * ----------------------------------------------------------------------------------------------------- */

static void on_resolved(int err, const struct pg_ip *ips, size_t n, const char *text, void *arg)
{
    struct xds_conn *c = arg;
    char what[400];
    c->query = NULL;
    if (err == 0 && n != 0) {
        c->n_ips = n < PG_RESOLVE_MAX ? n : PG_RESOLVE_MAX;
        memcpy(c->ips, ips, c->n_ips * sizeof(c->ips[0]));
        next_ip(c, "");
        return;
    }
    (void)snprintf(what, sizeof(what), "dial tcp: lookup %.*s: %s", PG_STR_ARG(c->target.host),
                   err == PG_E_NOTFOUND || err == 0 ? "no such host"
                   : err == PG_E_TIMEDOUT           ? "i/o timeout"
                                                    : text);
    down_dial(c, what);
}

static void on_start(struct pg_defer *d)
{
    struct xds_conn *c = PG_CONTAINER_OF(d, struct xds_conn, start);
    if (c->target.ip.len != 0) {
        c->ips[0] = c->target.ip;
        c->n_ips = 1;
        next_ip(c, "");
        return;
    }
    int r = c->resolver != NULL ? pg_resolve(c->resolver, c->target.host, on_resolved, c, &c->query)
                                : PG_E_NOTFOUND;
    if (r < 0) {
        c->query = NULL;
        on_resolved(r, NULL, 0, pg_err_str(r), c);
    }
}

static void on_timeout(void *arg)
{
    struct xds_conn *c = arg;
    char what[400];
    switch (c->phase) {
    case PHASE_RESOLVE:
        (void)snprintf(what, sizeof(what), "dial tcp: lookup %.*s: i/o timeout", PG_STR_ARG(c->target.host));
        down_dial(c, what);
        break;
    case PHASE_TCP:
        (void)snprintf(what, sizeof(what), "dial tcp %s: i/o timeout", c->remote);
        down_dial(c, what);
        break;
    default:
        (void)snprintf(
            c->desc, sizeof(c->desc),
            "connection error: desc = \"transport: authentication handshake failed: context deadline "
            "exceeded\"");
        down(c);
        break;
    }
}

/* --- interface
 * ------------------------------------------------------------------------------------------------- */

static void reap(struct pg_defer *d)
{
    struct xds_conn *c = PG_CONTAINER_OF(d, struct xds_conn, reap);
    pg_timer_free(c->timer);
    cert_creds_unref(c->creds);
    for (size_t i = 0; i < c->n_names; i++) {
        pg_free(c->names[i]);
    }
    pg_free(c->address);
    pg_free(c);
}

static int copy_options(struct xds_conn *c, const struct xds_conn_options *o, struct pg_errtext *err)
{
    if (o->n_server_names == 0 || o->n_server_names > NAMES_MAX) {
        pg_err_set(err, "%zu server names, want 1 to %u", o->n_server_names, NAMES_MAX);
        return PG_E_LIMIT;
    }
    c->address = pg_strdup(o->address);
    for (size_t i = 0; c->address != NULL && i < o->n_server_names; i++) {
        c->names[i] = pg_strdup(o->server_names[i]);
        if (c->names[i] == NULL) {
            break;
        }
        c->n_names++;
    }
    if (c->n_names != o->n_server_names) {
        pg_err_set(err, "out of memory");
        return PG_E_NOMEM;
    }
    if (pg_hostport_parse(pg_str_c(c->address), &c->target) < 0) {
        pg_err_set(err, "\"%s\" is not host:port", o->address);
        return PG_E_PARSE;
    }
    return 0;
}

int xds_conn_new(struct pg_loop *l, struct pg_resolver *resolver, const struct xds_conn_options *o,
                 const struct xds_conn_callbacks *cb, void *arg, struct xds_conn **out,
                 struct pg_errtext *err)
{
    struct xds_conn *c = pg_calloc(1, sizeof(*c));
    if (c == NULL) {
        pg_err_set(err, "out of memory");
        return PG_E_NOMEM;
    }
    c->loop = l;
    c->resolver = resolver;
    c->cb = *cb;
    c->arg = arg;
    c->first_ip = o->first_ip;
    c->ping_ms = o->ping_ms;
    c->timeout_ms = o->timeout_ms != 0 ? o->timeout_ms : XDS_CONN_TIMEOUT_MS;
    c->start.cb = on_start;
    c->reap.cb = reap;
    int r = copy_options(c, o, err);
    if (r == 0) {
        r = pg_timer_new(l, on_timeout, c, &c->timer);
    }
    if (r < 0) {
        reap(&c->reap);
        return r;
    }
    c->creds = cert_creds_ref(o->creds);
    pg_timer_start(c->timer, c->timeout_ms);
    pg_loop_defer(l, &c->start);
    *out = c;
    return 0;
}

void xds_conn_free(struct xds_conn *c)
{
    if (c == NULL || c->freed) {
        return;
    }
    c->freed = true;
    shut(c);
    pg_loop_defer(c->loop, &c->reap);
}

bool xds_conn_told_to_calm(const struct xds_conn *c)
{
    return c->told_to_calm;
}

const char *xds_conn_remote(const struct xds_conn *c)
{
    return c->remote;
}
