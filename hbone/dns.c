/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions in, answers out. Invariants: every well-formed question gets exactly one answer or none when its
 * client is gone; the number of questions under way is bounded; packets that are answers themselves get
 * silence. Worker 0's thread.
 */
#include "hbone/dns.h"

#include "core/buf.h"
#include "core/log.h"

#include <peering/dns.h>
#include <stdio.h>

#define ADDRS_MAX 2u

struct tcp_conn;
struct request {
    struct pg_list node; /* in dns->requests */
    struct hb_dns *dns;
    struct tcp_conn *conn; /* NULL: UDP */
    struct pg_udp *udp;
    struct pg_addr from;
    struct hb_dns_question q;
    struct hb_dns_forward *forward;
    struct hb_wait wait;
    uint64_t since_ms;
};
struct tcp_conn {
    struct pg_list node;
    struct hb_dns *dns;
    struct pg_transport *t;
    struct pg_timer *idle;
    struct pg_addr from;
    unsigned pending;
    uint8_t in[2 + 1024]; /* questions are short */
    size_t in_len;
    struct pg_buf out;
};
struct hb_dns {
    struct hb_worker *w;
    struct pg_udp *udp[ADDRS_MAX];
    struct pg_listener *tcp[ADDRS_MAX];
    struct pg_list requests;
    size_t n_requests;
    struct pg_list conns;
    size_t n_conns;
    struct pg_timer *sweep; /* runs while questions wait for the local workload */
};

static void tcp_pump(struct tcp_conn *c);

static void request_free(struct request *r)
{
    hb_dns_forward_cancel(r->forward);
    hb_wait_stop(&r->wait);
    pg_list_remove(&r->node);
    r->dns->n_requests--;
    pg_free(r);
}

static void log_result(const struct request *r, const char *result, uint64_t endpoints)
{
    const struct hb_pod_spec *s = r->dns->w->pod.spec;
    PG_LOG(PG_LOG_DEBUG, "dns", "dns request", PG_F_C("src.workload", s->name),
           PG_F_C("src.namespace", s->ns), PG_F_U64("query", r->q.type),
           PG_F_C("domain", r->q.has_text ? r->q.name : "?"), PG_F_C("result", result),
           PG_F_U64("endpoints", endpoints));
}

/* ---- answers
 * ----------------------------------------------------------------------------------------------------------
 */

static unsigned kind_of(const struct request *r)
{
    unsigned type = r->q.type == HB_DNS_A ? 0 : r->q.type == HB_DNS_AAAA ? 1 : 2;
    return type * 2 + (r->conn != NULL ? 1 : 0);
}

static size_t reply_cap(const struct request *r)
{
    return r->conn != NULL ? HB_DNS_MESSAGE_MAX : hb_dns_udp_cap(&r->q);
}

/* Sends and ends the request. */
static void send_reply(struct request *r, const uint8_t *p, size_t len)
{
    struct tcp_conn *c = r->conn;
    if (c == NULL) {
        if (pg_udp_send(r->udp, p, len, &r->from) < 0) {
            r->dns->w->metrics.n.dns_dropped++;
        }
        request_free(r);
        return;
    }
    uint8_t head[2] = {(uint8_t)(len >> 8), (uint8_t)len};
    bool fits = pg_buf_room(&c->out) >= len + 2 && pg_buf_add(&c->out, head, 2) == 0 &&
                pg_buf_add(&c->out, p, len) == 0;
    c->pending--;
    request_free(r);
    if (fits) {
        pg_transport_want(c->t, PG_READ | PG_WRITE);
    } else {
        pg_timer_start(c->idle, 0);
    }
}

static void reply(struct request *r, const struct hb_dns_reply *reply)
{
    static _Thread_local uint8_t out[HB_DNS_MESSAGE_MAX];
    send_reply(r, out, hb_dns_write_reply(&r->q, reply, out, reply_cap(r)));
}

static void fail(struct request *r, int rcode, const char *why)
{
    struct hb_dns_reply re = {.rcode = rcode};
    log_result(r, why, 0);
    reply(r, &re);
}

static void on_forwarded(void *arg, uint8_t *answer, size_t len, const char *text)
{
    struct request *r = arg;
    r->forward = NULL;
    if (answer == NULL) {
        char line[160];
        (void)snprintf(line, sizeof(line), "forwarding failed (%s)", text);
        fail(r, HB_DNS_SERVFAIL, line);
        return;
    }
    log_result(r, "forwarded", 0);
    send_reply(r, answer, hb_dns_relay_answer(&r->q, answer, len, reply_cap(r)));
}

/* May this one stay for a while? Answers from the table take no place, so that they always come. */
static bool has_place(struct request *r)
{
    static _Thread_local struct pg_log_limit limit;
    uint32_t held;
    struct hb_worker *w = r->dns->w;
    if (r->dns->n_requests <= HB_DNS_OUTSTANDING_MAX) {
        return true;
    }
    w->metrics.n.dns_dropped++;
    if (pg_log_allowed(&limit, 1, 1, pg_loop_now_ms(w->loop), &held)) {
        PG_LOG(PG_LOG_WARN, "dns", "question refused: HB_DNS_OUTSTANDING_MAX reached",
               PG_F_U64("limit", HB_DNS_OUTSTANDING_MAX), PG_F_U64("suppressed", held));
    }
    fail(r, HB_DNS_SERVFAIL, "too many questions under way");
    return false;
}

static void forward(struct request *r)
{
    if (!has_place(r)) {
        return;
    }
    if (hb_dns_forward_start(r->dns->w, &r->q, kind_of(r), on_forwarded, r, &r->forward) < 0) {
        fail(r, HB_DNS_SERVFAIL, "forwarding failed (out of memory)");
    }
}

static size_t search_list(const struct hb_config *c, peering_str *out)
{
    for (size_t i = 0; i < c->n_dns_search && i < PEERING_DNS_SEARCH_MAX; i++) {
        out[i] = hb_pstr(pg_str_c(c->dns_search[i]));
    }
    return c->n_dns_search < PEERING_DNS_SEARCH_MAX ? c->n_dns_search : PEERING_DNS_SEARCH_MAX;
}

static void answer_from_table(struct request *r)
{
    struct hb_worker *w = r->dns->w;
    static _Thread_local peering_dns_answer a;
    static _Thread_local struct pg_ip ips[PEERING_DNS_ANSWERS_MAX];
    peering_str search[PEERING_DNS_SEARCH_MAX];
    size_t n_search = search_list(w->cfg, search);
    peering_dns_query q = {.client = w->pod.local,
                           .network = hb_pstr(pg_str_c(w->cfg->network)),
                           .cluster_domain = hb_pstr(pg_str_c(w->cfg->cluster_domain)),
                           .preferred_namespace = hb_pstr(pg_str_c(w->cfg->preferred_namespace)),
                           .search = search,
                           .n_search = n_search,
                           .name = hb_pstr(pg_str_c(r->q.name)),
                           .want_v6 = r->q.type == HB_DNS_AAAA,
                           .ipv6_enabled = w->cfg->ipv6,
                           .random = pg_rng_next(&w->rng)};
    peering_dns_lookup(w->world->table, &q, &a);
    if (a.result == PEERING_DNS_FORWARD) {
        forward(r);
        return;
    }
    for (size_t i = 0; i < a.n; i++) {
        ips[i] = hb_ip(&a.ips[i]);
    }
    struct hb_dns_reply re = {
        .aa = true, .cname = a.cname ? a.target : NULL, .ips = ips, .n = a.n, .ttl = HB_DNS_TTL_S};
    if (a.n == 0) {
        re.cname = NULL;
    }
    log_result(r, a.n > 0 ? "success" : "no records", a.n);
    reply(r, &re);
}

static void on_wake(struct hb_wait *wait);

static void serve(struct request *r)
{
    struct hb_worker *w = r->dns->w;
    bool mesh_type = (r->q.type == HB_DNS_A || r->q.type == HB_DNS_AAAA) && r->q.class == 1 && r->q.has_text;
    if (!mesh_type || r->q.name[0] == '\0') {
        forward(r);
    } else if (w->pod.local == NULL || !w->world->open) {
        if (!has_place(r)) {
            return;
        }
        hb_wait_start(&w->pod, &r->wait, on_wake);
        if (!pg_timer_is_active(r->dns->sweep)) {
            pg_timer_start(r->dns->sweep, HB_WORKLOAD_WAIT_MS);
        }
    } else {
        answer_from_table(r);
    }
}

static void on_wake(struct hb_wait *wait)
{
    serve(PG_CONTAINER_OF(wait, struct request, wait));
}

static void on_sweep(void *arg)
{
    struct hb_dns *d = arg;
    uint64_t now = pg_loop_now_ms(d->w->loop);
    bool left = false;
    PG_LIST_FOREACH(&d->requests, n)
    {
        struct request *r = PG_CONTAINER_OF(n, struct request, node);
        if (pg_list_is_linked(&r->wait.node) && now - r->since_ms >= HB_WORKLOAD_WAIT_MS) {
            fail(r, HB_DNS_SERVFAIL, "the local workload is not known");
        } else if (pg_list_is_linked(&r->wait.node)) {
            left = true;
        }
    }
    if (left) {
        pg_timer_start(d->sweep, HB_WORKLOAD_WAIT_MS / 4);
    }
}

/* ---- questions
 * ----------------------------------------------------------------------------------------------------------
 */

static void on_question(struct hb_dns *d, const uint8_t *p, size_t len, const struct pg_addr *from,
                        struct pg_udp *udp, struct tcp_conn *c)
{
    struct hb_dns_question q;
    int parsed = hb_dns_parse_query(p, len, &q);
    struct request *r = parsed >= 0 ? pg_calloc(1, sizeof(*r)) : NULL;
    if (r == NULL) {
        d->w->metrics.n.dns_dropped++;
        return;
    }
    *r = (struct request){
        .dns = d, .conn = c, .udp = udp, .from = *from, .q = q, .since_ms = pg_loop_now_ms(d->w->loop)};
    pg_list_push_back(&d->requests, &r->node);
    d->n_requests++;
    d->w->metrics.dns[kind_of(r)].requests++;
    if (c != NULL) {
        c->pending++;
    }
    if (parsed > 0) {
        fail(r, parsed, "malformed");
    } else {
        serve(r);
    }
}

/* The socket's object is the argument's place in the array. */
static void on_udp0(const void *p, size_t len, const struct pg_addr *from, void *arg)
{
    struct hb_dns *d = arg;
    on_question(d, p, len, from, d->udp[0], NULL);
}
static void on_udp1(const void *p, size_t len, const struct pg_addr *from, void *arg)
{
    struct hb_dns *d = arg;
    on_question(d, p, len, from, d->udp[1], NULL);
}

static void tcp_free(struct tcp_conn *c)
{
    PG_LIST_FOREACH(&c->dns->requests, n)
    {
        struct request *r = PG_CONTAINER_OF(n, struct request, node);
        if (r->conn == c) {
            request_free(r);
        }
    }
    pg_list_remove(&c->node);
    c->dns->n_conns--;
    pg_timer_free(c->idle);
    pg_transport_close(c->t);
    pg_buf_fini(&c->out);
    pg_free(c);
}

static bool tcp_write(struct tcp_conn *c)
{
    struct iovec iov[8];
    while (c->out.len > 0) {
        int n = pg_buf_peek(&c->out, iov, 8);
        ssize_t sent = pg_transport_writev(c->t, iov, n);
        if (sent == PG_E_AGAIN) {
            return true;
        }
        if (sent < 0) {
            return false;
        }
        pg_buf_drop(&c->out, (size_t)sent);
        pg_timer_start(c->idle, HB_DNS_TCP_IDLE_MS);
    }
    return true;
}

static void tcp_pump(struct tcp_conn *c)
{
    while (c->pending < HB_DNS_TCP_PIPELINE_MAX) {
        size_t want = c->in_len < 2 ? 2 : 2u + (size_t)(c->in[0] << 8 | c->in[1]);
        if (want > sizeof(c->in)) {
            tcp_free(c);
            return;
        }
        if (c->in_len >= 2 && c->in_len == want) {
            c->in_len = 0;
            on_question(c->dns, c->in + 2, want - 2, &c->from, NULL, c);
            continue;
        }
        ssize_t n = pg_transport_read(c->t, c->in + c->in_len, want - c->in_len);
        if (n == PG_E_AGAIN) {
            return;
        }
        if (n <= 0) {
            if (n < 0 || (c->pending == 0 && c->out.len == 0)) {
                tcp_free(c);
            } else {
                pg_transport_want(c->t, c->out.len > 0 ? PG_WRITE : 0);
            }
            return;
        }
        c->in_len += (size_t)n;
        pg_timer_start(c->idle, HB_DNS_TCP_IDLE_MS);
    }
    pg_transport_want(c->t, c->out.len > 0 ? PG_WRITE : 0);
}

static void on_tcp_ready(struct pg_transport *t, unsigned rw, void *arg)
{
    (void)rw;
    struct tcp_conn *c = arg;
    if (!tcp_write(c)) {
        tcp_free(c);
        return;
    }
    pg_transport_want(t, c->out.len > 0 ? PG_READ | PG_WRITE : PG_READ);
    tcp_pump(c);
}

static void on_tcp_idle(void *arg)
{
    tcp_free(arg);
}

static void on_tcp(struct pg_transport *t, const struct pg_addr *from, void *arg)
{
    struct hb_dns *d = arg;
    struct tcp_conn *c = d->n_conns < HB_DNS_TCP_CONNS_MAX ? pg_calloc(1, sizeof(*c)) : NULL;
    if (c == NULL || pg_timer_new(d->w->loop, on_tcp_idle, c, &c->idle) < 0) {
        d->w->metrics.n.limit_refused++;
        pg_free(c);
        pg_transport_abort(t);
        return;
    }
    c->dns = d;
    c->t = t;
    c->from = *from;
    pg_buf_init(&c->out, (size_t)HB_DNS_TCP_PIPELINE_MAX * (HB_DNS_MESSAGE_MAX + 2));
    pg_list_push_back(&d->conns, &c->node);
    d->n_conns++;
    pg_transport_set_owner(t, on_tcp_ready, c);
    pg_transport_want(t, PG_READ);
    pg_timer_start(c->idle, HB_DNS_TCP_IDLE_MS);
}

/* ---- lifetime
 * ---------------------------------------------------------------------------------------------------------
 */

static int open_one(struct hb_dns *d, size_t i, struct pg_addr at, struct pg_errtext *err)
{
    struct pg_listen_options lo = {0};
    hb_worker_sock_options(d->w, &lo.sock);
    int r = pg_udp_open(d->w->loop, &at, &lo.sock, i == 0 ? on_udp0 : on_udp1, d, &d->udp[i], err);
    if (r == 0) {
        at.port = pg_udp_addr(d->udp[i]).port;
        r = pg_tcp_listen(d->w->loop, &at, &lo, on_tcp, d, &d->tcp[i], err);
    }
    return r;
}

int hb_dns_new(struct hb_worker *w, struct hb_dns **out, struct pg_errtext *err)
{
    const struct hb_config *c = w->cfg;
    struct hb_dns *d = pg_calloc(1, sizeof(*d));
    if (d == NULL) {
        return PG_E_NOMEM;
    }
    d->w = w;
    pg_list_init(&d->requests);
    pg_list_init(&d->conns);
    struct pg_addr at = {.ip = {.len = 4, .b = {127, 0, 0, 1}}, .port = HB_PORT_DNS};
    bool both = c->dns_addr.ip.len == 0 && !c->test.on;
    at.port = c->dns_addr.port != 0 ? c->dns_addr.port : at.port;
    if (c->test.on) {
        at = (struct pg_addr){.ip = c->test.bind, .port = c->test.dns};
    } else if (c->dns_addr.ip.len != 0) {
        at.ip = c->dns_addr.ip;
    }
    int r = pg_timer_new(w->loop, on_sweep, d, &d->sweep);
    r = r < 0 ? r : open_one(d, 0, at, err);
    if (r == 0 && both && c->ipv6) {
        struct pg_errtext why;
        at.ip = (struct pg_ip){.len = 16, .b = {[15] = 1}};
        if (open_one(d, 1, at, &why) < 0) {
            PG_LOG(PG_LOG_DEBUG, "dns", "no DNS on ::1", PG_F_C("reason", why.text));
        }
    }
    if (r < 0) {
        hb_dns_free(d);
        return r;
    }
    *out = d;
    return 0;
}

void hb_dns_free(struct hb_dns *d)
{
    if (d == NULL) {
        return;
    }
    while (!pg_list_is_empty(&d->conns)) {
        tcp_free(PG_CONTAINER_OF(d->conns.next, struct tcp_conn, node));
    }
    while (!pg_list_is_empty(&d->requests)) {
        request_free(PG_CONTAINER_OF(d->requests.next, struct request, node));
    }
    pg_timer_free(d->sweep);
    for (size_t i = 0; i < ADDRS_MAX; i++) {
        pg_udp_free(d->udp[i]);
        pg_listener_free(d->tcp[i]);
    }
    pg_free(d);
}

struct pg_addr hb_dns_udp_addr(const struct hb_dns *d)
{
    return pg_udp_addr(d->udp[0]);
}

struct pg_addr hb_dns_tcp_addr(const struct hb_dns *d)
{
    return pg_listener_addr(d->tcp[0]);
}
