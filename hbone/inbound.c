/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HBONE from peers (15008): TLS with a mandatory mesh certificate, HTTP/2, and one CONNECT per stream
 * (inbound_stream.c). Invariants: a connection that does not finish its handshake in time is closed; it takes
 * no new streams once the client's certificate ended. Worker thread.
 */
#include "hbone/inbound.h"

#include "core/clock.h"
#include "core/log.h"
#include "hbone/inbound_conn.h"

#include <stdio.h>

#define EXPIRY_TIMER_MAX_S (7 * 24 * 3600)

static void ic_free(struct hb_in_conn *ic)
{
    struct hb_worker *w = ic->w;
    while (!pg_list_is_empty(&ic->streams)) {
        struct hb_in *s = PG_CONTAINER_OF(ic->streams.next, struct hb_in, node);
        hb_in_gone(s, "the connection ended before the stream was answered");
    }
    hb_wait_stop(&ic->wait);
    pg_timer_free(ic->timer);
    if (ic->raw != NULL) {
        pg_transport_abort(ic->raw);
    }
    pg_h2_free(ic->h2);
    pg_list_remove(&ic->node);
    w->n_inbound--;
    pg_free(ic);
    hb_worker_conn_gone(w);
}

static void handshake_failed(struct hb_in_conn *ic, const char *why)
{
    static _Thread_local struct pg_log_limit limit;
    uint32_t held;
    ic->w->metrics.n.inbound_tls_failures++;
    if (pg_log_allowed(&limit, 20, 10, pg_loop_now_ms(ic->w->loop), &held)) {
        hb_access_log_early(HB_INBOUND, &ic->src, &ic->dst, why);
    }
}

static void on_settings(struct pg_h2 *h, void *arg)
{
    struct hb_in_conn *ic = arg;
    ic->ready = true;
    pg_timer_stop(ic->timer);
    int64_t left = cert_tls_peer_not_after(pg_h2_transport(h)) - pg_clock_wall_s();
    if (left > 0 && left < EXPIRY_TIMER_MAX_S) {
        pg_timer_start(ic->timer, (uint64_t)left * 1000);
    }
    if (ic->w->draining) {
        pg_h2_drain(h);
    }
}

static void on_closed(struct pg_h2 *h, int err, const char *text, void *arg)
{
    struct hb_in_conn *ic = arg;
    struct pg_h2_stats stats;
    pg_h2_get_stats(h, &stats);
    if (stats.guard_closed > 0) {
        static _Thread_local struct pg_log_limit limit;
        uint32_t held;
        ic->w->metrics.n.guard_closed++;
        if (pg_log_allowed(&limit, 20, 10, pg_loop_now_ms(ic->w->loop), &held)) {
            PG_LOG(PG_LOG_WARN, "inbound", "HTTP/2 connection closed by a guard",
                   PG_F_ADDR("src.addr", &ic->src), PG_F_C("guard", stats.guard != NULL ? stats.guard : "?"),
                   PG_F_U64("suppressed", held));
        }
    }
    if (!ic->ready && err < 0) {
        char line[256];
        const char *kind = err == PG_E_PROTO ? "http2 handshake failed" : "tls error";
        (void)snprintf(line, sizeof(line), "%s: %s", kind,
                       text != NULL && text[0] != '\0' ? text : pg_err_str(err));
        handshake_failed(ic, line);
    }
    ic_free(ic);
}

static void on_request(struct pg_h2 *h, struct pg_h2_stream *st, const struct pg_h2_head *head, bool end,
                       void *arg)
{
    struct hb_in_conn *ic = arg;
    if (ic->peer[0] == '\0') {
        (void)snprintf(ic->peer, sizeof(ic->peer), "%.*s", PG_STR_ARG(cert_tls_peer_id(pg_h2_transport(h))));
    }
    hb_in_request(ic, st, head, end);
}

static const struct pg_h2_callbacks h2_callbacks = {
    .on_request = on_request, .on_closed = on_closed, .on_settings = on_settings};

static int start_tls(struct hb_in_conn *ic)
{
    struct hb_worker *w = ic->w;
    struct cert_expect expect = {.kind = CERT_EXPECT_MESH};
    struct pg_transport *tls;
    struct pg_h2_options o;
    int r = cert_tls_server(w->loop, ic->raw, w->world->creds, &expect, &tls);
    if (r < 0) {
        return r;
    }
    ic->raw = NULL;
    pg_h2_options_hbone(&o, true);
    o.stream_window = w->cfg->stream_window;
    o.connection_window = w->cfg->connection_window;
    o.max_frame_size = w->cfg->frame_size;
    o.handshake_ms = HB_HANDSHAKE_MS;
    r = pg_h2_server_new(w->loop, tls, &o, &h2_callbacks, ic, &ic->h2);
    if (r < 0) {
        pg_transport_abort(tls);
        return r;
    }
    pg_timer_start(ic->timer, HB_HANDSHAKE_MS);
    return 0;
}

static void on_wake(struct hb_wait *wait);

static void begin(struct hb_in_conn *ic)
{
    if (ic->w->world->creds == NULL) {
        hb_wait_start(ic->pod, &ic->wait, on_wake);
        return;
    }
    int r = start_tls(ic);
    if (r < 0) {
        handshake_failed(ic, pg_err_str(r));
        ic_free(ic);
    }
}

static void on_wake(struct hb_wait *wait)
{
    begin(PG_CONTAINER_OF(wait, struct hb_in_conn, wait));
}

static void on_timer(void *arg)
{
    struct hb_in_conn *ic = arg;
    char line[256];
    if (ic->ready) {
        PG_LOG(PG_LOG_DEBUG, "inbound", "the client's certificate ended: no new streams",
               PG_F_ADDR("src.addr", &ic->src));
        pg_h2_drain(ic->h2);
        return;
    }
    (void)snprintf(line, sizeof(line), "%s%s",
                   ic->h2 == NULL ? "identity error: " : "tls handshake: deadline has elapsed",
                   ic->h2 == NULL ? ic->w->world->why_no_creds : "");
    handshake_failed(ic, line);
    ic_free(ic);
}

static void on_raw_ready(struct pg_transport *t, unsigned rw, void *arg)
{
    (void)rw;
    int status = pg_transport_status(t);
    if (status < 0 && status != PG_E_AGAIN) {
        ic_free(arg);
        return;
    }
    pg_transport_want(t, 0);
}

static bool has_place(struct hb_worker *w)
{
    static _Thread_local struct pg_log_limit limit;
    uint32_t held;
    if (w->n_inbound < HB_INBOUND_H2_MAX) {
        return hb_worker_admits(w);
    }
    if (pg_log_allowed(&limit, 1, 1, pg_loop_now_ms(w->loop), &held)) {
        PG_LOG(PG_LOG_WARN, "inbound", "connection refused: HB_INBOUND_H2_MAX reached",
               PG_F_U64("limit", HB_INBOUND_H2_MAX), PG_F_U64("suppressed", held));
    }
    return false;
}

void hb_inbound_accept(struct pg_transport *t, const struct pg_addr *from, void *arg)
{
    struct hb_pod *pod = arg;
    struct hb_worker *w = pod->worker;
    struct pg_addr local;
    bool fits = has_place(w) && pg_tcp_local(t, &local) == 0;
    struct hb_in_conn *ic = fits ? pg_calloc(1, sizeof(*ic)) : NULL;
    if (ic == NULL || pg_timer_new(w->loop, on_timer, ic, &ic->timer) < 0) {
        w->metrics.n.limit_refused++;
        pg_free(ic);
        pg_transport_abort(t);
        return;
    }
    ic->w = w;
    ic->pod = pod;
    ic->src = *from;
    ic->dst = local;
    ic->raw = t;
    pg_list_init(&ic->streams);
    pg_list_push_back(&w->inbound, &ic->node);
    w->n_inbound++;
    pg_transport_set_owner(t, on_raw_ready, ic);
    pg_timer_start(ic->timer, HB_WORKLOAD_WAIT_MS);
    begin(ic);
}

void hb_inbound_drain(struct hb_worker *w)
{
    PG_LIST_FOREACH(&w->inbound, n)
    {
        struct hb_in_conn *ic = PG_CONTAINER_OF(n, struct hb_in_conn, node);
        if (ic->ready) {
            pg_h2_drain(ic->h2);
        }
    }
}

void hb_inbound_cut(struct hb_worker *w)
{
    while (!pg_list_is_empty(&w->inbound)) {
        ic_free(PG_CONTAINER_OF(w->inbound.next, struct hb_in_conn, node));
    }
}
