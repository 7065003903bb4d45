/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Captured connections of the local workload (15001): wait for what must be known, decide, dial directly or
 * through one or two CONNECTs, copy. Invariants: no byte of the application is read before the far end
 * accepted, so an attempt may be repeated elsewhere without loss; a record is ended exactly once; a failure
 * resets the application's connection. Worker thread.
 */
#include "core/log.h"
#include "hbone/pool.h"

#include <peering/route.h>
#include <stdio.h>

#define BAGGAGE_MAX 1024u

/* What only attempts need; given back when bytes begin to flow, because tunnels live long. */
struct plan {
    peering_route route;
    char forwarded[128 + 256];
    char traceparent[56];
    char baggage[BAGGAGE_MAX];
};
struct out {
    struct hb_conn c;
    struct pg_transport *client;
    struct hb_wait wait;
    struct pg_timer *timer;
    struct hb_world *world; /* pins the route */
    struct plan *plan;      /* NULL once established */
    bool have_route;
    bool dialling; /* else: waiting for workload or certificate */
    unsigned attempts;
    uint64_t tried[HB_ATTEMPTS_MAX];
    uint64_t wait_until;
    uint64_t deadline; /* of all attempts; 0: none began */
    struct pg_addr hop;
    struct pg_resolve_query *query;
    struct hb_dial *dial;
    struct hb_ticket *ticket;
    struct hb_pool_conn *conn;
    struct hb_connect *connect;
};

static void attempt(struct out *o);
static void attempt_failed(struct out *o, const struct hb_fail *f);

static uint64_t now_ms(const struct out *o)
{
    return pg_loop_now_ms(o->c.worker->loop);
}

/* ---- ends
 * ----------------------------------------------------------------------------------------------------------
 */

static void stop_attempt(struct out *o)
{
    pg_resolve_cancel(o->query);
    hb_dial_cancel(o->dial);
    hb_ticket_cancel(o->ticket);
    hb_connect_cancel(o->connect);
    hb_pool_put(o->conn);
    o->query = NULL;
    o->dial = NULL;
    o->ticket = NULL;
    o->connect = NULL;
    o->conn = NULL;
}

static void unpin(struct out *o)
{
    if (o->have_route) {
        peering_route_fini(&o->plan->route);
        o->have_route = false;
    }
    hb_world_unref(o->world);
    o->world = NULL;
}

static void out_free(struct out *o)
{
    stop_attempt(o);
    unpin(o);
    pg_free(o->plan);
    hb_wait_stop(&o->wait);
    pg_timer_free(o->timer);
    if (o->client != NULL) {
        pg_transport_abort(o->client);
    }
    pg_free(o);
}

static void deny(struct out *o, const char *why)
{
    hb_conn_deny_early(&o->c, why);
    out_free(o);
}

/* Names both sides from the route; `baggage` non-empty: what the far end said of itself. */
static int describe(struct out *o, struct pg_str baggage, struct pg_str peer)
{
    const peering_route *r = &o->plan->route;
    struct hb_conn_text t = {0};
    hb_party_of(&t.src, o->world->table != NULL ? o->c.pod->local : NULL);
    if (o->have_route) {
        bool via = r->kind == PEERING_ROUTE_DOUBLE_HBONE && r->hop_workload != NULL;
        hb_party_of(&t.dst, via || r->workload == NULL ? r->hop_workload : r->workload);
        hb_text_service(&t, r->service);
        if (o->c.mtls) {
            t.authority = pg_str_c(r->authority);
        }
    }
    if (baggage.len > 0) {
        t.dst = (struct hb_party){0};
        hb_baggage_parse(baggage, &t.dst);
    }
    if (peer.len > 0) {
        t.dst.identity = peer;
    }
    return hb_conn_describe(&o->c, &t);
}

static void finish_failed(struct out *o, const struct hb_fail *f)
{
    if (!o->c.opened) {
        if (o->world == NULL) {
            o->world = hb_world_ref(o->c.worker->world);
        }
        if (describe(o, PG_STR_NONE, PG_STR_NONE) < 0) {
            PG_LOG0(PG_LOG_WARN, "outbound", "out of memory: a connection is logged without names");
        }
        hb_conn_open(&o->c);
    }
    hb_conn_end(&o->c, f, 0, 0);
    out_free(o);
}

static void out_cut(struct hb_conn *c, const struct hb_fail *why)
{
    finish_failed(PG_CONTAINER_OF(c, struct out, c), why);
}

static void on_client_ready(struct pg_transport *t, unsigned rw, void *arg)
{
    (void)rw;
    struct out *o = arg;
    int status = pg_transport_status(t);
    if (status < 0 && status != PG_E_AGAIN) {
        struct hb_fail f;
        hb_fail_set(&f, status, HB_FLAG_CONNECT, false, "receive: %s", pg_err_str(status));
        finish_failed(o, &f);
        return;
    }
    pg_transport_want(t, 0);
}

static void on_done(struct hb_conn *c)
{
    out_free(PG_CONTAINER_OF(c, struct out, c));
}

static void established(struct out *o, struct pg_transport *up, struct pg_str baggage, struct pg_str peer)
{
    int r = describe(o, baggage, peer);
    pg_timer_stop(o->timer);
    if (r == 0) {
        hb_conn_open(&o->c);
        r = hb_conn_relay(&o->c, o->client, up, on_done);
    }
    if (r < 0) {
        struct hb_fail f;
        pg_transport_abort(up);
        hb_fail_set(&f, r, HB_FLAG_CONNECT, false, "connection failed: %s", pg_err_str(r));
        finish_failed(o, &f);
        return;
    }
    o->client = NULL;
    unpin(o);
    pg_free(o->plan);
    pg_timer_free(o->timer);
    o->plan = NULL;
    o->timer = NULL;
}

/* ---- one attempt
 * ---------------------------------------------------------------------------------------------------- */

static void attempt_failed(struct out *o, const struct hb_fail *why)
{
    struct hb_fail f = *why;
    const peering_workload *w = o->have_route ? o->plan->route.workload : NULL;
    stop_attempt(o);
    if (w != NULL) {
        peering_str uid = peering_workload_uid(w);
        o->tried[o->attempts - 1] = pg_hash(uid.ptr, uid.len);
        if (f.eject) {
            hb_eject(o->c.worker, uid);
        }
    }
    bool again = f.retry && o->attempts < HB_ATTEMPTS_MAX && o->have_route &&
                 (o->plan->route.remaining > 0 || f.stale_session) && now_ms(o) < o->deadline &&
                 !o->c.worker->draining;
    if (!again) {
        finish_failed(o, &f);
        return;
    }
    PG_LOG(PG_LOG_DEBUG, "outbound", "trying another endpoint", PG_F_ADDR("src.addr", &o->c.src),
           PG_F_ADDR("dst.addr", &o->hop), PG_F_C("error", f.text));
    o->c.worker->metrics.n.retries++;
    unpin(o);
    attempt(o);
}

static bool avoid(void *arg, const peering_workload *w)
{
    const struct out *o = arg;
    peering_str uid = peering_workload_uid(w);
    uint64_t hash = pg_hash(uid.ptr, uid.len);
    for (unsigned i = 0; i + 1 < o->attempts; i++) {
        if (o->tried[i] == hash) {
            return true;
        }
    }
    return hb_is_ejected(o->c.worker, uid);
}

static void on_dialled(void *arg, struct pg_transport *t, int err, const char *text)
{
    struct out *o = arg;
    o->dial = NULL;
    if (err < 0) {
        struct hb_fail f;
        hb_fail_set(&f, err, HB_FLAG_CONNECT, true, "io error: %s", text);
        f.eject = true;
        attempt_failed(o, &f);
        return;
    }
    established(o, t, PG_STR_NONE, PG_STR_NONE);
}

static void dial_plain(struct out *o)
{
    struct pg_sock_options so;
    hb_worker_sock_options(o->c.worker, &so);
    int r = hb_dial_start(o->c.worker, &o->hop, &so, HB_TOTAL_MS * 2, on_dialled, o, &o->dial);
    if (r < 0) {
        struct hb_fail f;
        hb_fail_set(&f, r, HB_FLAG_CONNECT, true, "io error: %s", pg_err_str(r));
        attempt_failed(o, &f);
    }
}

static void on_answer(void *arg, const struct hb_connect_answer *a)
{
    struct out *o = arg;
    o->connect = NULL;
    if (a->err != 0) {
        struct hb_fail f;
        /* Nothing of the application was sent yet. A refusal on purpose (400, 401) would be the same
         * elsewhere. */
        hb_fail_set(&f, a->err, HB_FLAG_CONNECT, a->status == 0 || a->status >= 500, "%s", a->text);
        f.eject = a->status >= 500 && o->plan->route.kind == PEERING_ROUTE_HBONE;
        f.stale_session = a->status == 0;
        attempt_failed(o, &f);
        return;
    }
    bool far = o->plan->route.kind == PEERING_ROUTE_DOUBLE_HBONE;
    established(o, a->stream, far ? a->baggage : PG_STR_NONE, hb_pool_conn_peer(o->conn));
}

static void connect_on(struct out *o)
{
    struct hb_connect_head head = {.authority = pg_str_c(o->plan->route.authority),
                                   .baggage = pg_str_c(o->plan->baggage),
                                   .forwarded = pg_str_c(o->plan->forwarded),
                                   .traceparent = pg_str_c(o->plan->traceparent)};
    if (o->plan->route.kind == PEERING_ROUTE_DOUBLE_HBONE) {
        head.network = pg_str_c(o->c.worker->cfg->network);
    }
    struct pg_h2 *h2 = hb_pool_conn_h2(o->conn);
    int r = h2 == NULL ? PG_E_CLOSED : hb_connect_start(h2, &head, on_answer, o, &o->connect);
    if (r < 0) {
        struct hb_fail f;
        hb_fail_set(&f, r, HB_FLAG_CONNECT, true, "h2 failed: %s", pg_err_str(r));
        f.stale_session = true;
        attempt_failed(o, &f);
    }
}

static void on_pool(void *arg, struct hb_pool_conn *conn, const struct hb_fail *f)
{
    struct out *o = arg;
    o->ticket = NULL;
    o->conn = conn;
    if (conn == NULL) {
        attempt_failed(o, f);
    } else {
        connect_on(o);
    }
}

static void make_headers(struct out *o)
{
    char addr[PG_ADDR_TEXT];
    const peering_service *v = o->plan->route.service;
    peering_str host = v != NULL ? peering_service_hostname(v) : (peering_str){NULL, 0};
    int n = snprintf(o->plan->forwarded, sizeof(o->plan->forwarded), "for=\"%s\"%s%.*s",
                     pg_addr_fmt(&o->c.src, addr), host.len > 0 ? ";host=" : "", (int)host.len,
                     host.len > 0 ? host.ptr : "");
    if (n >= (int)sizeof(o->plan->forwarded)) {
        o->plan->forwarded[0] = '\0';
    }
    struct pg_rng *rng = &o->c.worker->rng;
    (void)snprintf(o->plan->traceparent, sizeof(o->plan->traceparent), "00-%016llx%016llx-%016llx-00",
                   (unsigned long long)pg_rng_next(rng), (unsigned long long)pg_rng_next(rng),
                   (unsigned long long)pg_rng_next(rng));
    size_t len = peering_baggage(o->c.pod->local, o->plan->baggage, sizeof(o->plan->baggage) - 1);
    o->plan->baggage[len] = '\0';
}

static void dial_tunnel(struct out *o)
{
    const peering_route *r = &o->plan->route;
    bool inner = r->kind == PEERING_ROUTE_DOUBLE_HBONE;
    make_headers(o);
    struct hb_hop hop = {.addr = o->hop,
                         .network = r->workload != NULL ? hb_str(peering_workload_network(r->workload))
                                                        : PG_STR_NONE,
                         .creds = o->world->creds,
                         .creds_gen = o->world->creds_gen,
                         .sans = r->outer_sans,
                         .n_sans = r->n_outer_sans,
                         .inner = inner};
    if (inner) {
        hop.inner_sans = r->inner_sans;
        hop.n_inner_sans = r->n_inner_sans;
        /* The tunnel will carry many clients: it names the workload, not one client's address. */
        hop.outer_head = (struct hb_connect_head){.authority = pg_str_c(r->authority),
                                                  .baggage = pg_str_c(o->plan->baggage)};
    }
    struct hb_fail f;
    int res = hb_pool_get(o->c.worker->pool, &hop, on_pool, o, &o->conn, &o->ticket, &f);
    if (res < 0) {
        attempt_failed(o, &f);
    } else if (o->conn != NULL) {
        connect_on(o);
    }
}

static bool is_allocated_vip(const struct pg_ip *ip)
{
    static const uint8_t v6[6] = {0x20, 0x01, 0x00, 0x02, 0x00, 0x00};
    return (ip->len == 4 && ip->b[0] == 240 && ip->b[1] == 240) ||
           (ip->len == 16 && memcmp(ip->b, v6, sizeof(v6)) == 0);
}

static void dial(struct out *o)
{
    char addr[PG_ADDR_TEXT];
    o->c.dst = o->hop;
    if (is_allocated_vip(&o->hop.ip)) {
        struct hb_fail f;
        hb_fail_set(
            &f, PG_E_UNREACHABLE, HB_FLAG_CONNECT, false,
            "connection failed: %s is an automatically allocated mesh address that no service owns here",
            pg_addr_fmt(&o->hop, addr));
        attempt_failed(o, &f);
    } else if (o->c.mtls) {
        dial_tunnel(o);
    } else {
        dial_plain(o);
    }
}

static void on_resolved(int err, const struct pg_ip *ips, size_t n, const char *text, void *arg)
{
    struct out *o = arg;
    o->query = NULL;
    if (err < 0 || n == 0) {
        struct hb_fail f;
        peering_str uid = o->plan->route.workload != NULL ? peering_workload_uid(o->plan->route.workload)
                                                          : o->plan->route.hop_host;
        hb_fail_set(&f, PG_E_NOTFOUND, HB_FLAG_CONNECT, true,
                    "no ip addresses were resolved for workload: %.*s%s%s", (int)uid.len, uid.ptr,
                    text[0] != '\0' ? ": " : "", text);
        attempt_failed(o, &f);
        return;
    }
    size_t same = 0;
    size_t pick = (size_t)pg_rng_below(&o->c.worker->rng, n);
    for (size_t i = 0; i < n; i++) {
        if (ips[i].len == o->c.orig_dst.ip.len && pg_rng_below(&o->c.worker->rng, ++same) == 0) {
            pick = i;
        }
    }
    o->hop.ip = ips[pick];
    dial(o);
}

static void resolve(struct out *o)
{
    struct pg_resolver *res = hb_worker_resolver(o->c.worker);
    o->c.worker->metrics.n.on_demand_dns++;
    int r = res == NULL ? PG_E_NOMEM
                        : pg_resolve(res, hb_str(o->plan->route.hop_host), on_resolved, o, &o->query);
    if (r < 0) {
        on_resolved(r, NULL, 0, pg_err_str(r), o);
    }
}

static uint16_t hop_port(const struct out *o)
{
    const struct hb_config *cfg = o->c.worker->cfg;
    bool mapped = cfg->test.on && cfg->test.hbone_port != 0 && o->plan->route.hop_port == HB_PORT_INBOUND;
    return mapped ? cfg->test.hbone_port : o->plan->route.hop_port;
}

static void on_wake(struct hb_wait *w);

static void wait_more(struct out *o)
{
    uint64_t now = now_ms(o);
    unpin(o);
    o->dialling = false;
    hb_wait_start(o->c.pod, &o->wait, on_wake);
    pg_timer_start(o->timer, o->wait_until > now ? o->wait_until - now : 0);
}

static void start_clock(struct out *o)
{
    uint64_t now = now_ms(o);
    if (o->deadline == 0) {
        o->deadline = now + HB_TOTAL_MS;
    }
    uint64_t left = o->deadline > now ? o->deadline - now : 0;
    /* Behind a gateway another tunnel may reach another endpoint. */
    bool elsewhere = o->plan->route.remaining > 0 || o->plan->route.kind == PEERING_ROUTE_DOUBLE_HBONE;
    bool others = elsewhere && o->attempts < HB_ATTEMPTS_MAX;
    o->dialling = true;
    pg_timer_start(o->timer, others && left > HB_ATTEMPT_MS ? HB_ATTEMPT_MS : left);
}

static void attempt(struct out *o)
{
    struct hb_worker *w = o->c.worker;
    o->attempts++;
    o->world = hb_world_ref(w->world);
    peering_route_query q = {.source = o->c.pod->local,
                             .network = hb_pstr(pg_str_c(w->cfg->network)),
                             .client_ip = hb_pip(&o->c.src.ip),
                             .dst_ip = hb_pip(&o->c.orig_dst.ip),
                             .dst_port = o->c.orig_dst.port,
                             .random = pg_rng_next(&w->rng),
                             .avoid = avoid,
                             .avoid_arg = o};
    int r =
        o->c.pod->local == NULL ? PG_E_NOTFOUND : peering_route_decide(w->world->table, &q, &o->plan->route);
    if (r < 0) {
        deny(o, r == PG_E_NOTFOUND ? "the local workload was removed" : pg_err_str(r));
        return;
    }
    o->have_route = true;
    const peering_route *route = &o->plan->route;
    if (route->kind == PEERING_ROUTE_NONE) {
        deny(o, route->error);
        return;
    }
    o->c.mtls = route->kind == PEERING_ROUTE_HBONE || route->kind == PEERING_ROUTE_DOUBLE_HBONE;
    if (o->c.mtls && o->world->creds == NULL) {
        o->attempts--;
        wait_more(o);
        return;
    }
    start_clock(o);
    o->hop = o->c.orig_dst;
    if (route->kind != PEERING_ROUTE_PASSTHROUGH) {
        o->hop = (struct pg_addr){.ip = hb_ip(&route->hop_ip), .port = hop_port(o)};
    }
    if (o->hop.ip.len == 0) {
        resolve(o);
    } else {
        dial(o);
    }
}

/* ---- beginning
 * ------------------------------------------------------------------------------------------------------ */

static void begin(struct out *o)
{
    const struct hb_worker *w = o->c.worker;
    if (!w->world->open || o->c.pod->local == NULL) {
        wait_more(o);
    } else {
        attempt(o);
    }
}

static void on_wake(struct hb_wait *w)
{
    struct out *o = PG_CONTAINER_OF(w, struct out, wait);
    pg_timer_stop(o->timer);
    begin(o);
}

static void on_timer(void *arg)
{
    struct out *o = arg;
    struct hb_fail f;
    char text[256];
    if (o->dialling && o->ticket != NULL && hb_ticket_is_connecting(o->ticket)) {
        hb_fail_set(
            &f, PG_E_TIMEDOUT, HB_FLAG_NETWORK_POLICY, true,
            "connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008: deadline has elapsed");
        f.eject = true;
        attempt_failed(o, &f);
    } else if (o->dialling) {
        hb_fail_set(&f, PG_E_TIMEDOUT, HB_FLAG_CONNECT, true, "%s: deadline has elapsed",
                    o->connect != NULL ? "h2 failed: no answer to CONNECT" : "connection failed");
        f.eject = o->dial != NULL;
        if (o->connect != NULL) {
            /* A session whose far end died silently: others must not be sent into it. */
            hb_pool_suspect(o->conn);
            f.stale_session = true;
        }
        attempt_failed(o, &f);
    } else if (o->c.pod->local == NULL || !o->c.worker->world->open) {
        hb_unknown_local(o->c.pod, text, sizeof(text));
        deny(o, text);
    } else {
        hb_fail_set(&f, PG_E_NOTFOUND, HB_FLAG_IDENTITY_ERROR, false, "identity error: %s",
                    o->c.worker->world->why_no_creds);
        finish_failed(o, &f);
    }
}

static bool is_recursive(const struct pg_transport *t, const struct pg_addr *dst)
{
    struct pg_addr local;
    if (!hb_worker_is_illegal_port(dst->port)) {
        return false;
    }
    /* Either our own port on loopback, or a connection that nobody redirected: dialling on would come back
     * here. */
    return pg_ip_is_loopback(&dst->ip) ||
           (pg_tcp_local((struct pg_transport *)(uintptr_t)t, &local) == 0 && pg_addr_eq(&local, dst));
}

void hb_outbound_accept(struct pg_transport *t, const struct pg_addr *from, void *arg)
{
    struct hb_pod *pod = arg;
    struct hb_worker *w = pod->worker;
    struct pg_addr dst;
    int r = w->cfg->test.on && w->cfg->test.original_dst.ip.len > 0 ? 1 : pg_tcp_original_dst(t, &dst);
    if (r == 1) {
        dst = w->cfg->test.original_dst;
    }
    struct out *o = r >= 0 && hb_worker_admits(w) ? pg_calloc(1, sizeof(*o)) : NULL;
    struct plan *plan = o != NULL ? pg_calloc(1, sizeof(*plan)) : NULL;
    if (plan == NULL || pg_timer_new(w->loop, on_timer, o, &o->timer) < 0) {
        pg_free(plan);
        pg_free(o);
        pg_transport_abort(t);
        return;
    }
    o->plan = plan;
    hb_conn_init(&o->c, w, pod, HB_OUTBOUND, from, &dst);
    o->c.cut = out_cut;
    o->client = t;
    o->wait_until = pg_loop_now_ms(w->loop) + HB_WORKLOAD_WAIT_MS;
    pg_transport_set_owner(t, on_client_ready, o);
    if (is_recursive(t, &dst)) {
        deny(o, "attempted recursive call to ourselves");
        return;
    }
    begin(o);
}
