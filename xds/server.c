/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gRPC driver of the delta ADS server and of the certificate call. Invariants: nothing is answered to a
 * caller that was not authenticated; the machine of a stream is asked for a response only when the last one
 * has left our queue, so a slow subscriber gets fewer and larger steps instead of memory; a stream is in the
 * list from on_open to on_closed. Control thread.
 */
#include "xds/server.h"
#include "certs/tls.h"
#include "core/clock.h"
#include "core/log.h"
#include "xds/view_int.h"

#define ADS_PATH "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
#define CA_PATH "/istio.v1.auth.IstioCertificateService/CreateCertificate"
#define CSR_MAX 65536u
#define IDENTITY_MAX 4096u

struct xds_server {
    struct pg_loop *loop;
    struct xds_server_callbacks cb;
    void *arg;
    struct pg_list conns;
    size_t n_conns;
    struct pg_list streams; /* ADS */
    struct pg_list calls;   /* certificates */
    size_t n_streams;       /* of both kinds */
    struct pg_timer *sweep;
};
struct conn {
    struct pg_list node;
    struct xds_server *server;
    struct pg_h2 *h;
    struct pg_addr from;
    bool idle; /* at the last sweep */
};
struct xds_stream {
    struct pg_list node;
    struct xds_server *server;
    struct grpc_stream *g;
    struct adss *machine;
    struct xds_view_watch watch;
    struct pg_defer push;
    struct pg_sb identity;
    char from[PG_ADDR_TEXT];
    uint64_t connected_at_ms;
    uint64_t last_message_ms;
    int64_t not_after_s; /* end of the client certificate; 0: there is none */
    bool opened;         /* has a view; told to the owner */
    bool waits;          /* asked for a view and has to wait for it */
};
struct csr_call {
    struct pg_list node;
    struct xds_server *server;
    struct grpc_stream *g;
    struct pg_sb caller;
    bool got;
};

/* --- callers
 * --------------------------------------------------------------------------------------------------- */

static struct pg_str tls_peer(struct pg_h2 *h)
{
    struct pg_transport *t = pg_h2_transport(h);
    bool is_tls = strcmp(t->ops->name, "tls") == 0;
    return is_tls && pg_transport_status(t) == 1 ? cert_tls_peer_id(t) : PG_STR_NONE;
}

/* End of the client certificate, 0 for a caller without one. */
static int64_t peer_not_after(struct pg_h2 *h)
{
    return tls_peer(h).len != 0 ? cert_tls_peer_not_after(pg_h2_transport(h)) : 0;
}

static int authenticate(const struct conn *c, const struct pg_h2_head *md, struct pg_sb *out)
{
    struct pg_errtext err = {""};
    pg_sb_init(out, IDENTITY_MAX);
    int64_t end = peer_not_after(c->h);
    if (end != 0 && pg_clock_wall_s() >= end) {
        return PG_E_DENIED; /* a connection outlives its certificate, but nothing new is granted on it */
    }
    int r = c->server->cb.authenticate(c->server->arg, md, tls_peer(c->h), out, &err);
    return r < 0 ? r : out->err;
}

/* --- ADS streams
 * ----------------------------------------------------------------------------------------------- */

static void stream_free(struct xds_stream *s)
{
    xds_view_watch_remove(&s->watch);
    pg_defer_cancel(&s->push);
    pg_list_remove(&s->node);
    s->server->n_streams--;
    adss_free(s->machine);
    pg_sb_fini(&s->identity);
    pg_free(s);
}

static void push(struct xds_stream *s)
{
    while (grpc_stream_queued(s->g) == 0) {
        struct pg_sb sb;
        pg_sb_init(&sb, XDS_RESPONSE_MAX);
        int r = adss_next_response(s->machine, &sb);
        bool due = r > 0;
        if (due) {
            r = grpc_stream_send(s->g, pg_sb_view(&sb));
        }
        pg_sb_fini(&sb);
        if (r < 0 && r != PG_E_CLOSED) {
            grpc_stream_finish(s->g, GRPC_RESOURCE_EXHAUSTED, "subscriber must start over");
        }
        if (r < 0 || !due) {
            return;
        }
    }
}

static void on_push(struct pg_defer *d)
{
    push(PG_CONTAINER_OF(d, struct xds_stream, push));
}

static void on_view_changed(struct xds_view_watch *w)
{
    struct xds_stream *s = PG_CONTAINER_OF(w, struct xds_stream, watch);
    pg_loop_defer(s->server->loop, &s->push);
}

static int ads_open(struct grpc_stream *g, const struct pg_h2_head *md, void *arg, struct pg_errtext *text)
{
    struct conn *c = arg;
    struct xds_server *srv = c->server;
    if (srv->n_streams >= XDS_SERVER_STREAMS_MAX) {
        pg_err_set(text, "limit of %u streams reached", XDS_SERVER_STREAMS_MAX);
        return GRPC_RESOURCE_EXHAUSTED;
    }
    struct xds_stream *s = pg_calloc(1, sizeof(*s));
    if (s == NULL || adss_new(NULL, &s->machine) < 0) {
        pg_free(s);
        pg_err_set(text, "out of memory");
        return GRPC_RESOURCE_EXHAUSTED;
    }
    s->server = srv;
    s->g = g;
    s->push.cb = on_push;
    s->watch.changed = on_view_changed;
    s->connected_at_ms = pg_loop_now_ms(srv->loop);
    (void)pg_addr_fmt(&c->from, s->from);
    pg_list_push_back(&srv->streams, &s->node);
    srv->n_streams++;
    if (authenticate(c, md, &s->identity) < 0) {
        stream_free(s);
        pg_err_set(text, "authentication failure");
        return GRPC_UNAUTHENTICATED;
    }
    s->not_after_s = peer_not_after(c->h);
    grpc_stream_set_arg(g, s);
    return GRPC_OK;
}

bool xds_stream_holds(const struct xds_stream *s)
{
    return adss_holds(s->machine);
}

/* The first request said who the node is: which view is it to see? False when it was refused. */
static bool choose_view(struct xds_stream *s)
{
    struct xds_server *srv = s->server;
    struct pg_errtext err = {""};
    int code = GRPC_PERMISSION_DENIED;
    struct xds_view *v =
        srv->cb.view_for(srv->arg, s, adss_node(s->machine), pg_sb_view(&s->identity), &code, &err);
    s->waits = v == NULL && code == GRPC_OK;
    if (v == NULL) {
        if (!s->waits) {
            grpc_stream_finish(s->g, code, err.text);
        }
        return false;
    }
    adss_set_view(s->machine, v);
    xds_view_watch_add(v, &s->watch);
    s->opened = true;
    if (srv->cb.on_stream != NULL) {
        srv->cb.on_stream(srv->arg, s, true);
    }
    return true;
}

static void ads_message(struct grpc_stream *g, struct pg_str msg, void *arg)
{
    struct xds_stream *s = arg;
    struct xds_server *srv = s->server;
    struct adss_event ev;
    struct pg_errtext err = {""};
    int code = GRPC_INTERNAL;
    s->last_message_ms = pg_loop_now_ms(srv->loop);
    if (adss_request(s->machine, msg, &ev, &code, &err) < 0) {
        grpc_stream_finish(g, code, err.text);
        return;
    }
    if (!s->opened && !choose_view(s)) {
        return;
    }
    if (ev.nacked && srv->cb.on_nack != NULL) {
        srv->cb.on_nack(srv->arg, s, ev.type_url, ev.error);
    }
    push(s);
}

static void ads_half_close(struct grpc_stream *g, void *arg)
{
    (void)arg;
    grpc_stream_finish(g, GRPC_OK, "");
}

static void ads_closed(struct grpc_stream *g, void *arg)
{
    struct xds_stream *s = arg;
    struct xds_server *srv = s->server;
    (void)g;
    if (s->opened && srv->cb.on_stream != NULL) {
        srv->cb.on_stream(srv->arg, s, false);
    }
    stream_free(s);
}

static void ads_writable(struct grpc_stream *g, void *arg)
{
    (void)g;
    push(arg);
}

/* --- certificates
 * ---------------------------------------------------------------------------------------------- */

static void csr_free(struct csr_call *k)
{
    pg_list_remove(&k->node);
    k->server->n_streams--;
    pg_sb_fini(&k->caller);
    pg_free(k);
}

static int csr_open(struct grpc_stream *g, const struct pg_h2_head *md, void *arg, struct pg_errtext *text)
{
    struct conn *c = arg;
    struct xds_server *srv = c->server;
    struct csr_call *k = srv->n_streams < XDS_SERVER_STREAMS_MAX ? pg_calloc(1, sizeof(*k)) : NULL;
    if (k == NULL) {
        pg_err_set(text, "out of memory, or limit of %u calls reached", XDS_SERVER_STREAMS_MAX);
        return GRPC_RESOURCE_EXHAUSTED;
    }
    k->server = srv;
    k->g = g;
    pg_list_push_back(&srv->calls, &k->node);
    srv->n_streams++;
    if (srv->cb.on_csr == NULL || authenticate(c, md, &k->caller) < 0 || k->caller.len == 0) {
        csr_free(k);
        pg_err_set(text, "request authenticate failure");
        return GRPC_UNAUTHENTICATED;
    }
    grpc_stream_set_arg(g, k);
    return GRPC_OK;
}

static void csr_message(struct grpc_stream *g, struct pg_str msg, void *arg)
{
    struct csr_call *k = arg;
    struct xds_csr_request req = {0};
    struct pg_errtext err = {""};
    struct pg_arena arena;
    if (k->got) {
        grpc_stream_finish(g, GRPC_INTERNAL, "more than one request in a unary call");
        return;
    }
    k->got = true;
    pg_arena_init(&arena, 4 * CSR_MAX);
    int r = xds_csr_request_decode(msg, &arena, &req, &err);
    if (r < 0) {
        grpc_stream_finish(g, r == PG_E_PARSE ? GRPC_INVALID_ARGUMENT : GRPC_RESOURCE_EXHAUSTED, err.text);
    } else {
        k->server->cb.on_csr(k->server->arg, &req, pg_sb_view(&k->caller), g);
    }
    pg_arena_fini(&arena);
}

static void csr_half_close(struct grpc_stream *g, void *arg)
{
    const struct csr_call *k = arg;
    if (!k->got) {
        grpc_stream_finish(g, GRPC_INTERNAL, "no request in a unary call");
    }
}

static void csr_closed(struct grpc_stream *g, void *arg)
{
    (void)g;
    csr_free(arg);
}

void xds_csr_reply(struct grpc_stream *s, int grpc_code, const char *text, const struct pg_str *chain,
                   size_t n)
{
    struct pg_sb sb;
    if (grpc_code != GRPC_OK) {
        grpc_stream_finish(s, grpc_code, text);
        return;
    }
    pg_sb_init(&sb, XDS_RESOURCE_MAX);
    int r = xds_csr_response_encode(chain, n, &sb);
    if (r == 0) {
        r = grpc_stream_send(s, pg_sb_view(&sb));
    }
    pg_sb_fini(&sb);
    grpc_stream_finish(s, r == 0 ? GRPC_OK : GRPC_INTERNAL, r == 0 ? "" : pg_err_str(r));
}

/* --- connections
 * ----------------------------------------------------------------------------------------------- */

static const struct grpc_handler handlers[] = {
    {.path = ADS_PATH,
     .max_message = XDS_MESSAGE_MAX_SERVER,
     .on_open = ads_open,
     .on_message = ads_message,
     .on_half_close = ads_half_close,
     .on_closed = ads_closed,
     .on_writable = ads_writable},
    {.path = CA_PATH,
     .max_message = CSR_MAX,
     .on_open = csr_open,
     .on_message = csr_message,
     .on_half_close = csr_half_close,
     .on_closed = csr_closed},
};

static void conn_free(struct conn *c)
{
    pg_list_remove(&c->node);
    c->server->n_conns--;
    pg_h2_free(c->h);
    pg_free(c);
}

static void on_request(struct pg_h2 *h, struct pg_h2_stream *s, const struct pg_h2_head *head, bool end,
                       void *arg)
{
    struct conn *c = arg;
    (void)h;
    grpc_server_request(c->server->loop, s, head, end, handlers, PG_ARRAY_LEN(handlers), c);
}

static void on_h2_closed(struct pg_h2 *h, int err, const char *text, void *arg)
{
    struct conn *c = arg;
    (void)h;
    if (err < 0) {
        PG_LOG(PG_LOG_DEBUG, "xds", "connection ended", PG_F_ADDR("from", &c->from), PG_F_C("error", text));
    }
    conn_free(c);
}

int xds_server_accept(struct xds_server *s, struct pg_transport *tls, const struct pg_addr *from)
{
    static const struct pg_h2_callbacks callbacks = {.on_request = on_request, .on_closed = on_h2_closed};
    struct pg_h2_options o;
    if (s->n_conns >= XDS_SERVER_CONNECTIONS_MAX) {
        return PG_E_LIMIT;
    }
    struct conn *c = pg_calloc(1, sizeof(*c));
    if (c == NULL) {
        return PG_E_NOMEM;
    }
    c->server = s;
    c->from = *from;
    pg_h2_options_grpc(&o, true);
    int r = pg_h2_server_new(s->loop, tls, &o, &callbacks, c, &c->h);
    if (r < 0) {
        pg_free(c);
        return r;
    }
    pg_list_push_back(&s->conns, &c->node);
    s->n_conns++;
    return 0;
}

/* Connections nobody uses and streams that never say who they are would fill the caps for everyone else. */
static void on_sweep(void *arg)
{
    struct xds_server *s = arg;
    uint64_t now = pg_loop_now_ms(s->loop);
    PG_LIST_FOREACH(&s->conns, n)
    {
        struct conn *c = PG_CONTAINER_OF(n, struct conn, node);
        bool idle = pg_h2_active(c->h) == 0;
        if (idle && c->idle) {
            pg_h2_drain(c->h);
        }
        c->idle = idle;
    }
    PG_LIST_FOREACH(&s->streams, m)
    {
        struct xds_stream *x = PG_CONTAINER_OF(m, struct xds_stream, node);
        if (!x->opened && !x->waits && now - x->connected_at_ms >= XDS_SERVER_IDLE_MS) {
            grpc_stream_finish(x->g, GRPC_DEADLINE_EXCEEDED, "no discovery request in time");
        } else if (x->not_after_s != 0 && pg_clock_wall_s() >= x->not_after_s) {
            grpc_stream_finish(x->g, GRPC_UNAUTHENTICATED, "client certificate has expired");
        }
    }
    pg_timer_start(s->sweep, XDS_SERVER_IDLE_MS);
}

/* --- interface
 * ------------------------------------------------------------------------------------------------- */

int xds_server_new(struct pg_loop *l, const struct xds_server_callbacks *cb, void *arg,
                   struct xds_server **out)
{
    if (cb->view_for == NULL || cb->authenticate == NULL) {
        return PG_E_CONFIG;
    }
    struct xds_server *s = pg_calloc(1, sizeof(*s));
    if (s == NULL) {
        return PG_E_NOMEM;
    }
    s->loop = l;
    s->cb = *cb;
    s->arg = arg;
    pg_list_init(&s->conns);
    pg_list_init(&s->streams);
    pg_list_init(&s->calls);
    int r = pg_timer_new(l, on_sweep, s, &s->sweep);
    if (r < 0) {
        pg_free(s);
        return r;
    }
    pg_timer_start(s->sweep, XDS_SERVER_IDLE_MS);
    *out = s;
    return 0;
}

void xds_server_free(struct xds_server *s)
{
    if (s == NULL) {
        return;
    }
    PG_LIST_FOREACH(&s->streams, n)
    {
        struct xds_stream *x = PG_CONTAINER_OF(n, struct xds_stream, node);
        grpc_stream_abort(x->g);
        stream_free(x);
    }
    PG_LIST_FOREACH(&s->calls, m)
    {
        struct csr_call *k = PG_CONTAINER_OF(m, struct csr_call, node);
        grpc_stream_abort(k->g);
        csr_free(k);
    }
    PG_LIST_FOREACH(&s->conns, c)
    {
        conn_free(PG_CONTAINER_OF(c, struct conn, node));
    }
    pg_timer_free(s->sweep);
    pg_free(s);
}

void xds_server_drain(struct xds_server *s)
{
    PG_LIST_FOREACH(&s->conns, n)
    {
        pg_h2_drain(PG_CONTAINER_OF(n, struct conn, node)->h);
    }
    PG_LIST_FOREACH(&s->streams, m)
    {
        grpc_stream_finish(PG_CONTAINER_OF(m, struct xds_stream, node)->g, GRPC_UNAVAILABLE,
                           "server is draining");
    }
}

void xds_server_kick(struct xds_server *s)
{
    PG_LIST_FOREACH(&s->streams, n)
    {
        struct xds_stream *x = PG_CONTAINER_OF(n, struct xds_stream, node);
        if (x->opened || (x->waits && choose_view(x))) {
            pg_loop_defer(s->loop, &x->push);
        }
    }
}

void xds_server_each(const struct xds_server *s, void (*fn)(void *arg, const struct xds_stream_info *i),
                     void *arg)
{
    PG_LIST_FOREACH(&s->streams, n)
    {
        const struct xds_stream *x = PG_CONTAINER_OF(n, struct xds_stream, node);
        const struct xds_node *node = adss_node(x->machine);
        if (!x->opened || node == NULL) {
            continue;
        }
        const struct xds_stream_info info = {.node_id = node->id,
                                             .identity = pg_sb_view(&x->identity),
                                             .from = pg_str_c(x->from),
                                             .node = node,
                                             .connected_at_ms = x->connected_at_ms,
                                             .last_message_ms = x->last_message_ms,
                                             .machine = x->machine};
        fn(arg, &info);
    }
}
