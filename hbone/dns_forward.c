/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One forwarded question: UDP to each nameserver in turn, TCP when the answer was cut. Invariants: an answer
 * counts only from the server asked, with our random id, to our random port, echoing the question exactly;
 * anything else is dropped and the wait goes on. Worker thread.
 */
#include "hbone/dns.h"

#include <stdio.h>

struct hb_dns_forward {
    struct hb_worker *w;
    struct hb_dns_question q;
    void (*cb)(void *arg, uint8_t *answer, size_t len, const char *text);
    void *arg;
    struct pg_udp *udp;
    struct pg_transport *tcp;
    struct pg_timer *timer;
    struct pg_addr server;
    unsigned tries;
    unsigned kind; /* for the counters */
    uint16_t id;
    uint8_t sent[2 + 512];
    size_t sent_len, sent_off;
    uint8_t *in; /* TCP answer with its length prefix */
    size_t in_len;
};

static void try_next(struct hb_dns_forward *f);

static void stop(struct hb_dns_forward *f)
{
    pg_udp_free(f->udp);
    if (f->tcp != NULL) {
        pg_transport_abort(f->tcp);
    }
    pg_free(f->in);
    f->udp = NULL;
    f->tcp = NULL;
    f->in = NULL;
    f->in_len = 0;
}

void hb_dns_forward_cancel(struct hb_dns_forward *f)
{
    if (f != NULL) {
        stop(f);
        pg_timer_free(f->timer);
        pg_free(f);
    }
}

static void finish(struct hb_dns_forward *f, uint8_t *answer, size_t len, const char *text)
{
    void (*cb)(void *, uint8_t *, size_t, const char *) = f->cb;
    void *arg = f->arg;
    f->w->metrics.dns[f->kind].failures += answer == NULL ? 1 : 0;
    cb(arg, answer, len, text);
    hb_dns_forward_cancel(f);
}

static uint16_t random_id(void)
{
    uint16_t id;
    pg_random_bytes(&id, sizeof(id));
    return id;
}

/* ---- TCP
 * -------------------------------------------------------------------------------------------------------------
 */

static void tcp_read(struct hb_dns_forward *f)
{
    for (;;) {
        size_t want = f->in_len < 2 ? 2 : 2u + (size_t)(f->in[0] << 8 | f->in[1]);
        if (f->in_len >= 2 && f->in_len == want) {
            if (hb_dns_check_answer(&f->q, f->id, f->in + 2, want - 2) < 0) {
                f->w->metrics.n.dns_dropped++;
                try_next(f);
            } else {
                finish(f, f->in + 2, want - 2, "");
            }
            return;
        }
        ssize_t n = pg_transport_read(f->tcp, f->in + f->in_len, want - f->in_len);
        if (n == PG_E_AGAIN) {
            return;
        }
        if (n <= 0) {
            try_next(f);
            return;
        }
        f->in_len += (size_t)n;
        pg_transport_consumed(f->tcp, (size_t)n);
    }
}

static void on_tcp(struct pg_transport *t, unsigned rw, void *arg)
{
    (void)rw;
    struct hb_dns_forward *f = arg;
    while (f->sent_off < f->sent_len) {
        ssize_t n = pg_transport_write(t, f->sent + f->sent_off, f->sent_len - f->sent_off);
        if (n == PG_E_AGAIN) {
            return;
        }
        if (n < 0) {
            try_next(f);
            return;
        }
        f->sent_off += (size_t)n;
    }
    pg_transport_want(t, PG_READ);
    tcp_read(f);
}

static void start_tcp(struct hb_dns_forward *f)
{
    struct pg_sock_options so;
    hb_worker_sock_options(f->w, &so);
    stop(f);
    f->id = random_id();
    size_t n = hb_dns_write_query(&f->q, f->id, f->sent + 2);
    f->sent[0] = (uint8_t)(n >> 8);
    f->sent[1] = (uint8_t)n;
    f->sent_len = n + 2;
    f->sent_off = 0;
    f->in = pg_malloc(2 + HB_DNS_MESSAGE_MAX);
    if (f->in == NULL || pg_tcp_connect(f->w->loop, &f->server, &so, &f->tcp, NULL) < 0) {
        try_next(f);
        return;
    }
    pg_transport_set_owner(f->tcp, on_tcp, f);
    pg_transport_want(f->tcp, PG_WRITE);
    pg_timer_start(f->timer, HB_DNS_TRY_MS);
}

/* ---- UDP
 * -------------------------------------------------------------------------------------------------------------
 */

static void on_packet(const void *p, size_t len, const struct pg_addr *from, void *arg)
{
    struct hb_dns_forward *f = arg;
    if (!pg_addr_eq(from, &f->server) || hb_dns_check_answer(&f->q, f->id, p, len) < 0) {
        f->w->metrics.n.dns_dropped++;
        return;
    }
    if (hb_dns_is_truncated(p, len)) {
        start_tcp(f);
        return;
    }
    uint8_t *copy = pg_memdup(p, len);
    finish(f, copy, len, copy == NULL ? "out of memory" : "");
    pg_free(copy);
}

/* Nobody listens there: asked elsewhere at once. */
static void on_unreachable(int err, void *arg)
{
    (void)err;
    try_next(arg);
}

static bool start_udp(struct hb_dns_forward *f)
{
    struct pg_sock_options so;
    struct pg_addr any = {.ip.len = f->server.ip.len};
    uint8_t packet[512];
    hb_worker_sock_options(f->w, &so);
    if (pg_udp_open(f->w->loop, &any, &so, on_packet, f, &f->udp, NULL) < 0 ||
        pg_udp_connect(f->udp, &f->server, on_unreachable) < 0) {
        return false;
    }
    f->id = random_id();
    size_t n = hb_dns_write_query(&f->q, f->id, packet);
    return pg_udp_send(f->udp, packet, n, &f->server) == 0;
}

static void try_next(struct hb_dns_forward *f)
{
    const struct hb_config *c = f->w->cfg;
    stop(f);
    while (c->n_dns_servers > 0 && f->tries < HB_DNS_TRIES_MAX) {
        f->server = (struct pg_addr){.ip = c->dns_servers[f->tries % c->n_dns_servers], .port = 53};
        if (c->test.on) {
            f->server.port = c->test.dns_upstream;
        }
        f->tries++;
        if (start_udp(f)) {
            pg_timer_start(f->timer, HB_DNS_TRY_MS);
            return;
        }
        stop(f);
    }
    finish(f, NULL, 0, c->n_dns_servers == 0 ? "resolv.conf names no server" : "no answer from any server");
}

static void on_timer(void *arg)
{
    try_next(arg);
}

int hb_dns_forward_start(struct hb_worker *w, const struct hb_dns_question *q, unsigned kind,
                         void (*cb)(void *arg, uint8_t *answer, size_t len, const char *text), void *arg,
                         struct hb_dns_forward **out)
{
    struct hb_dns_forward *f = pg_calloc(1, sizeof(*f));
    if (f == NULL || pg_timer_new(w->loop, on_timer, f, &f->timer) < 0) {
        pg_free(f);
        return PG_E_NOMEM;
    }
    f->w = w;
    f->q = *q;
    f->cb = cb;
    f->arg = arg;
    f->kind = kind;
    w->metrics.dns[kind].upstream++;
    *out = f;
    pg_timer_start(f->timer,
                   0); /* the first try runs from the loop, so that `cb` never runs inside this call */
    return 0;
}
