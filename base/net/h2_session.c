/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of an HTTP/2 session: reads and feeds the library, puts the turn's output together and writes it
 * once, keeps the deadlines, tells owners what was recorded. Invariants: owners are called from here only,
 * with no library call on the stack; any of these calls may free the session, so `freed` is looked at after
 * each; output the transport did not take is kept and nothing more is made until it is gone. Loop thread.
 */
#include "net/h2_int.h"

#include "core/clock.h"
#include "core/log.h"

#include <stdio.h>

#define READ_PIECE (64u * 1024u)
#define READ_PER_TURN (256u * 1024u)
#define LINGER_BYTES (256u * 1024u) /* what a peer may still send while we hang up */
#define ENHANCE_YOUR_CALM 11u

/* Shared by all sessions of a thread; used between two calls only, never across one that can reach an owner.
 */
static _Thread_local unsigned char read_area[READ_PIECE];
static _Thread_local unsigned char batch_area[PG_H2_BATCH_MAX + PG_H2_BATCH_SLACK];

static void end_session(struct pg_h2 *h, int err, const char *text);

void pg_h2_touch(struct pg_h2 *h)
{
    if (!h->freed) {
        pg_loop_defer(h->loop, &h->work);
    }
}

void pg_h2_fail(struct pg_h2 *h, int err, const char *text)
{
    if (h->fail_err == 0) {
        h->fail_err = err;
        (void)snprintf(h->text, sizeof(h->text), "%s", text);
    }
    pg_h2_touch(h);
}

void pg_h2_guard_trip(struct pg_h2 *h, const char *name)
{
    static _Thread_local struct pg_log_limit limit;
    uint32_t held = 0;
    if (h->stats.guard != NULL) {
        return;
    }
    h->stats.guard = name;
    h->stats.guard_closed = 1;
    if (pg_log_allowed(&limit, 10, 1, pg_loop_now_ms(h->loop), &held)) {
        PG_LOG(PG_LOG_WARN, "h2", "connection closed by a limit", PG_F_C("limit", name),
               PG_F_U64("streams", h->active), PG_F_U64("suppressed", held));
    }
}

void pg_h2_stream_event(struct pg_h2_stream *s, unsigned ev)
{
    s->ev |= ev;
    if (!pg_list_is_linked(&s->event)) {
        pg_list_push_back(&s->h->events, &s->event);
    }
}

/* ---- telling owners ---- */

static void tell_pings(struct pg_h2 *h, int err)
{
    h->ping_event = false;
    for (size_t i = 0; i < PG_H2_PINGS_MAX && !h->freed; i++) {
        struct pg_h2_ping_slot p = h->pings[i];
        if (p.id == 0 || (err == 0 && !p.acked)) {
            continue;
        }
        h->pings[i].id = 0;
        if (!p.own) {
            p.cb(err, p.rtt_us, p.arg);
        } else if (p.id == h->drain_ping) {
            h->drain_ms = pg_loop_now_ms(h->loop);
        } else {
            h->ping_sent_ms = 0;
        }
    }
}

static void tell_head(struct pg_h2 *h, struct pg_h2_stream *s)
{
    struct pg_h2_block *b = s->head_in;
    struct pg_h2_head head = {b->fields, b->n};
    s->head_in = NULL;
    if (h->server) {
        s->told = true;
        s->detached = false;
        h->cb.on_request(h, s, &head, s->head_ended, h->arg);
    } else if (s->cb.on_response != NULL) {
        s->cb.on_response(s, &head, s->head_ended, s->arg);
    }
    pg_free(b);
}

static void tell_trailers(struct pg_h2_stream *s)
{
    struct pg_h2_block *b = s->trailers_in;
    struct pg_h2_head head = {b->fields, b->n};
    s->trailers_in = NULL;
    if (s->cb.on_trailers != NULL) {
        s->cb.on_trailers(s, &head, s->arg);
    }
    pg_free(b);
}

static void tell_one(struct pg_h2_stream *s, unsigned ev)
{
    switch (ev) {
    case PG_H2_EV_TRAILERS:
        tell_trailers(s);
        break;
    case PG_H2_EV_READABLE:
        if (s->cb.on_readable != NULL) {
            s->cb.on_readable(s, s->arg);
        }
        break;
    case PG_H2_EV_WRITABLE:
        if (s->cb.on_writable != NULL) {
            s->cb.on_writable(s, s->arg);
        }
        break;
    default:
        if (s->cb.on_closed != NULL) {
            s->cb.on_closed(s, s->code, s->err, s->arg);
        }
        break;
    }
}

static void tell_stream(struct pg_h2 *h, struct pg_h2_stream *s)
{
    static const unsigned order[] = {PG_H2_EV_TRAILERS, PG_H2_EV_READABLE, PG_H2_EV_WRITABLE,
                                     PG_H2_EV_CLOSED};
    if ((s->ev & PG_H2_EV_FAULT) != 0) {
        s->ev &= PG_H2_EV_HEAD | PG_H2_EV_CLOSED;
        int r = h->ng != NULL ? pg_h2_ng_reset(s, PG_H2_INTERNAL_ERROR) : 0;
        if (r < 0) {
            pg_h2_fail(h, r, "");
        }
        pg_h2_touch(h);
    }
    if ((s->ev & PG_H2_EV_HEAD) != 0 && (h->server || s->owned)) {
        s->ev &= ~(unsigned)PG_H2_EV_HEAD;
        tell_head(h, s);
    }
    for (size_t i = 0; i < PG_ARRAY_LEN(order); i++) {
        /* after the session's end a stream may be gone with its owner */
        if (h->freed || s->detached || !s->owned) {
            return;
        }
        if ((s->ev & order[i]) != 0) {
            s->ev &= ~order[i];
            tell_one(s, order[i]);
        }
    }
}

static void deliver(struct pg_h2 *h)
{
    struct pg_list *n;
    if (h->settings_event) {
        h->settings_event = false;
        if (h->cb.on_settings != NULL) {
            h->cb.on_settings(h, h->arg);
        }
    }
    if (!h->freed && h->goaway_event) {
        h->goaway_event = false;
        if (h->cb.on_goaway != NULL) {
            h->cb.on_goaway(h, h->goaway_code, h->arg);
        }
    }
    if (!h->freed && h->ping_event) {
        tell_pings(h, 0);
    }
    while (!h->freed && (n = pg_list_pop(&h->events)) != NULL) {
        tell_stream(h, PG_CONTAINER_OF(n, struct pg_h2_stream, event));
    }
}

/* ---- deadlines ---- */

static uint64_t max64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t min64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* When the keepalive must act next; UINT64_MAX never. */
static uint64_t ping_due(const struct pg_h2 *h)
{
    if (h->o.ping_interval_ms == 0 || !h->established) {
        return UINT64_MAX;
    }
    if (h->ping_sent_ms != 0) {
        return min64(max64(h->ping_sent_ms, h->last_rx_ms) + h->o.ping_timeout_ms,
                     h->ping_sent_ms + (uint64_t)h->o.ping_timeout_ms * PG_H2_PING_PATIENCE);
    }
    return max64(h->last_rx_ms, h->ping_base_ms) + h->o.ping_interval_ms;
}

static uint64_t handshake_due(const struct pg_h2 *h)
{
    bool waits = h->o.handshake_ms != 0 && !(h->established && h->settings_in);
    return waits ? h->born_ms + h->o.handshake_ms : UINT64_MAX;
}

static uint64_t settings_due(const struct pg_h2 *h)
{
    return h->established && !h->settings_acked ? h->opened_ms + PG_H2_SETTINGS_ACK_MS : UINT64_MAX;
}

void pg_h2_stream_leave(struct pg_h2_stream *s)
{
    s->leave_ms = pg_loop_now_ms(s->loop) + PG_H2_LEAVE_MS;
    s->leave_len = s->out.len;
    pg_list_push_back(&s->h->leaving, &s->leave);
}

static uint64_t leave_due(const struct pg_h2 *h)
{
    if (pg_list_is_empty(&h->leaving)) {
        return UINT64_MAX;
    }
    return PG_CONTAINER_OF(h->leaving.next, struct pg_h2_stream, leave)->leave_ms;
}

/* Cuts the streams without owner whose peer takes nothing; the others get more time. */
static void check_leaving(struct pg_h2 *h, uint64_t now)
{
    while (leave_due(h) <= now) {
        struct pg_h2_stream *s = PG_CONTAINER_OF(pg_list_pop(&h->leaving), struct pg_h2_stream, leave);
        if (s->out.len < s->leave_len) {
            pg_h2_stream_leave(s);
            continue;
        }
        if (h->promised != s) {
            pg_buf_fini(&s->out);
        }
        int r = pg_h2_ng_reset(s, PG_H2_CONNECT_ERROR); /* bytes are lost: must not read as an end */
        if (r < 0) {
            pg_h2_fail(h, r, "");
        }
        pg_h2_touch(h);
    }
}

static void retime(struct pg_h2 *h)
{
    uint64_t now = pg_loop_now_ms(h->loop);
    uint64_t due = UINT64_MAX;
    if (h->state == PG_H2_LINGER) {
        due = h->linger_ms;
    } else if (h->state == PG_H2_OPEN) {
        due = min64(handshake_due(h), settings_due(h));
        due = min64(due, ping_due(h));
        due = min64(due, leave_due(h));
        due = min64(due, h->drain_ms != 0 ? h->drain_ms : UINT64_MAX);
    }
    if (due == UINT64_MAX) {
        pg_timer_stop(h->timer);
    } else if (due != h->timer_due || !pg_timer_is_active(h->timer)) {
        h->timer_due = due;
        pg_timer_start(h->timer, due > now ? due - now : 0);
    }
}

static struct pg_h2_ping_slot *ping_slot(struct pg_h2 *h)
{
    for (size_t i = 0; i < PG_H2_PINGS_MAX; i++) {
        if (h->pings[i].id == 0) {
            return &h->pings[i];
        }
    }
    return NULL;
}

static int send_ping(struct pg_h2 *h, const struct pg_h2_ping_slot *proto, uint64_t *id)
{
    struct pg_h2_ping_slot *p = ping_slot(h);
    if (p == NULL) {
        return PG_E_LIMIT;
    }
    int r = pg_h2_ng_ping(h, h->ping_id + 1);
    if (r < 0) {
        return r;
    }
    *p = *proto;
    p->id = ++h->ping_id;
    p->sent_ns = pg_clock_mono_ns();
    *id = p->id;
    pg_h2_touch(h);
    return 0;
}

static void keepalive(struct pg_h2 *h, uint64_t now)
{
    static const struct pg_h2_ping_slot own = {.own = true};
    uint64_t id;
    h->ping_base_ms = now;
    if (h->active == 0 && !h->o.ping_without_streams) {
        return;
    }
    int r = send_ping(h, &own, &id);
    if (r == 0) {
        h->ping_sent_ms = now;
    } else if (r != PG_E_LIMIT) {
        pg_h2_fail(h, r, "");
    }
}

static void final_goaway(struct pg_h2 *h)
{
    h->drain_ms = 0;
    int r = pg_h2_ng_goaway(h, false);
    if (r < 0) {
        pg_h2_fail(h, r, "");
    }
    pg_h2_touch(h);
}

static void report(struct pg_h2 *h)
{
    h->state = PG_H2_OVER;
    pg_timer_stop(h->timer);
    pg_transport_want(h->t, 0);
    if (h->cb.on_closed != NULL) {
        h->cb.on_closed(h, h->end_err, h->text, h->arg);
    }
}

static void on_timer(void *arg)
{
    struct pg_h2 *h = arg;
    uint64_t now = pg_loop_now_ms(h->loop);
    if (h->state == PG_H2_LINGER) {
        report(h);
        return;
    }
    if (now >= handshake_due(h)) {
        pg_h2_guard_trip(h, "handshake");
        end_session(h, PG_E_TIMEDOUT, "HTTP/2 preface or SETTINGS did not arrive in time");
        return;
    }
    if (now >= settings_due(h)) {
        pg_h2_guard_trip(h, "settings-ack");
        end_session(h, PG_E_TIMEDOUT, "HTTP/2 SETTINGS were never acknowledged");
        return;
    }
    if (now >= ping_due(h)) {
        if (h->ping_sent_ms != 0) {
            end_session(h, PG_E_TIMEDOUT, "HTTP/2 PING timed out");
            return;
        }
        keepalive(h, now);
    }
    if (h->drain_ms != 0 && now >= h->drain_ms) {
        final_goaway(h);
    }
    check_leaving(h, now);
    retime(h);
}

/* ---- output ---- */

static void update_want(struct pg_h2 *h)
{
    bool write = !h->established || h->left.len > 0 || h->batch_full;
    pg_transport_want(h->t, PG_READ | (write ? PG_WRITE : 0u));
}

/* Writes what was left over. 0 (look at left.len), or the transport's error. */
static int write_left(struct pg_h2 *h)
{
    while (h->left.len > 0) {
        struct iovec iov[16];
        int used = pg_buf_peek(&h->left, iov, 16);
        ssize_t n = pg_transport_writev(h->t, iov, used);
        if (n == PG_E_AGAIN) {
            return 0;
        }
        if (n < 0) {
            return (int)n;
        }
        h->stats.bytes_out += (uint64_t)n;
        pg_buf_drop(&h->left, (size_t)n);
    }
    return 0;
}

/* Writes from `p`, keeps what the transport does not take. */
static int write_batch(struct pg_h2 *h, const unsigned char *p, size_t len)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = pg_transport_write(h->t, p + done, len - done);
        if (n == PG_E_AGAIN) {
            break;
        }
        if (n < 0) {
            return (int)n;
        }
        h->stats.bytes_out += (uint64_t)n;
        done += (size_t)n;
    }
    if (done == len) {
        h->batch_want = h->batch_full ? h->batch_want * 2 : h->batch_want;
        h->batch_want = h->batch_want < PG_H2_BATCH_MAX ? h->batch_want : PG_H2_BATCH_MAX;
        return 0;
    }
    h->batch_want /= 2;
    h->batch_want = h->batch_want > PG_H2_BATCH_MIN ? h->batch_want : PG_H2_BATCH_MIN;
    return pg_buf_add(&h->left, p + done, len - done);
}

static int make_output(struct pg_h2 *h)
{
    h->batch = batch_area;
    h->batch_used = 0;
    h->batch_goal = h->batch_want;
    int r = pg_h2_ng_fill(h);
    h->batch = NULL;
    return r;
}

static int flush(struct pg_h2 *h)
{
    size_t total = 0;
    size_t credit = h->conn_credit;
    h->conn_credit = 0;
    int r = pg_h2_ng_consume(h, 0, credit);
    if (r == 0) {
        r = write_left(h);
    }
    h->batch_full = false;
    do {
        if (r < 0 || h->left.len > 0 || !pg_h2_ng_wants_write(h)) {
            break;
        }
        r = make_output(h);
        if (r == 0) {
            r = write_batch(h, batch_area, h->batch_used);
        }
        total += h->batch_used;
    } while (h->batch_full && total < PG_H2_BATCH_MAX);
    return r;
}

/* ---- the end ---- */

static void goaway_frame(const struct pg_h2 *h, uint8_t f[17], uint32_t code)
{
    uint32_t last = pg_h2_ng_last_seen(h);
    memset(f, 0, 17);
    f[2] = 8;
    f[3] = 7;
    for (int i = 0; i < 4; i++) {
        f[9 + i] = (uint8_t)(last >> (24 - 8 * i));
        f[13 + i] = (uint8_t)(code >> (24 - 8 * i));
    }
}

/* Says why before the end. The library is past talking, so the frame is made by hand; the output so far ends
 * with a whole frame. Best effort: losing it to a lack of memory is fine. */
static void last_words(struct pg_h2 *h, int err)
{
    uint8_t f[17];
    uint32_t code = h->stats.guard != NULL    ? ENHANCE_YOUR_CALM
                    : h->guard.violation != 0 ? h->guard.violation
                    : err == PG_E_PROTO       ? PG_H2_PROTOCOL_ERROR
                    : err == PG_E_TIMEDOUT    ? PG_H2_NO_ERROR
                                              : PG_H2_INTERNAL_ERROR;
    goaway_frame(h, f, code);
    if (pg_buf_add(&h->left, f, sizeof(f)) < 0) {
        pg_buf_fini(&h->left);
    }
}

static void end_streams(struct pg_h2 *h, int err)
{
    PG_LIST_FOREACH(&h->streams, n)
    {
        pg_h2_stream_finish(PG_CONTAINER_OF(n, struct pg_h2_stream, node), PG_H2_CANCEL,
                            err != 0 ? err : PG_E_CLOSED);
    }
}

/* Waits until what we said is out and the peer has hung up too, so that a reset does not overtake our last
 * bytes. */
static void linger(struct pg_h2 *h)
{
    int r = write_left(h);
    if (r == 0 && h->left.len == 0 && !h->shut) {
        h->shut = true;
        r = pg_transport_shutdown(h->t);
    }
    while (r == 0) {
        ssize_t n = pg_transport_read(h->t, read_area, sizeof(read_area));
        if (n == PG_E_AGAIN) {
            break;
        }
        if (n <= 0) {
            r = PG_E_CLOSED;
            break;
        }
        pg_transport_consumed(h->t, (size_t)n);
        h->lingered += (size_t)n;
        r = h->lingered > LINGER_BYTES ? PG_E_LIMIT : 0;
    }
    if (r < 0) {
        report(h);
        return;
    }
    pg_transport_want(h->t, PG_READ | (h->left.len > 0 ? PG_WRITE : 0u));
}

/* Ends the session from the loop: streams first, then the connection. */
static void finish_session(struct pg_h2 *h, int err, const char *text, bool transport_dead, bool speak)
{
    if (h->state != PG_H2_OPEN) {
        return;
    }
    h->end_err = err;
    if (text != h->text) {
        (void)snprintf(h->text, sizeof(h->text), "%s", text);
    }
    if (speak) {
        last_words(h, err);
    }
    h->state = transport_dead || !h->established ? PG_H2_OVER : PG_H2_LINGER;
    pg_h2_ng_free(h);
    end_streams(h, err);
    deliver(h);
    if (!h->freed) {
        tell_pings(h, err != 0 ? err : PG_E_CLOSED);
    }
    if (h->freed) {
        return;
    }
    if (h->state == PG_H2_OVER) {
        report(h);
        return;
    }
    h->linger_ms = pg_loop_now_ms(h->loop) + PG_H2_LINGER_MS;
    retime(h);
    linger(h);
}

/* We end it and may still talk. */
static void end_session(struct pg_h2 *h, int err, const char *text)
{
    finish_session(h, err, text, false, true);
}

static void lost_transport(struct pg_h2 *h, int err)
{
    const char *text = pg_transport_error_text(h->t);
    finish_session(h, err, text[0] != '\0' ? text : pg_err_str(err), true, false);
}

/* Nothing is left to do on either side. */
static void ran_out(struct pg_h2 *h)
{
    char text[64];
    if (h->proto_err != 0) {
        finish_session(h, h->proto_err, "HTTP/2 protocol error", false, false);
    } else if (h->goaway_in && h->goaway_code != PG_H2_NO_ERROR) {
        (void)snprintf(text, sizeof(text), "peer ended the connection: GOAWAY code %u", h->goaway_code);
        finish_session(h, PG_E_CLOSED, text, false, false);
    } else {
        finish_session(h, 0, "", false, false);
    }
}

static void peer_hung_up(struct pg_h2 *h)
{
    if (h->active == 0 && h->settings_in) {
        ran_out(h);
    } else {
        finish_session(h, PG_E_CLOSED, "connection closed by peer", false, false);
    }
}

/* ---- the loop's calls ---- */

/* True when the session goes on. */
static bool still_open(struct pg_h2 *h, int r)
{
    if (h->freed || h->state != PG_H2_OPEN) {
        return false;
    }
    if (h->stats.guard != NULL) {
        char text[96];
        (void)snprintf(text, sizeof(text), "limit reached: %s", h->stats.guard);
        end_session(h, PG_E_PROTO, text);
        return false;
    }
    if (h->fail_err != 0) {
        end_session(h, h->fail_err, h->text[0] != '\0' ? h->text : pg_err_str(h->fail_err));
        return false;
    }
    if (r < 0) {
        end_session(h, r, pg_err_str(r));
        return false;
    }
    return true;
}

static void read_some(struct pg_h2 *h)
{
    for (size_t got = 0; got < READ_PER_TURN;) {
        ssize_t n = pg_transport_read(h->t, read_area, sizeof(read_area));
        if (n == PG_E_AGAIN) {
            return;
        }
        if (n == 0) {
            peer_hung_up(h);
            return;
        }
        if (n < 0) {
            lost_transport(h, (int)n);
            return;
        }
        got += (size_t)n;
        h->stats.bytes_in += (uint64_t)n;
        h->last_rx_ms = pg_loop_now_ms(h->loop);
        int r = pg_h2_ng_recv(h, read_area, (size_t)n);
        pg_transport_consumed(h->t, (size_t)n);
        if (!still_open(h, r)) {
            return;
        }
        deliver(h);
        if (!still_open(h, 0) || !pg_h2_ng_wants_read(h)) {
            return;
        }
    }
}

static bool establish(struct pg_h2 *h)
{
    int st = pg_transport_status(h->t);
    if (st == PG_E_AGAIN) {
        return false;
    }
    if (st < 0) {
        lost_transport(h, st);
        return false;
    }
    h->established = true;
    h->opened_ms = pg_loop_now_ms(h->loop);
    h->last_rx_ms = h->opened_ms;
    return true;
}

static void on_ready(struct pg_transport *t, unsigned rw, void *arg)
{
    struct pg_h2 *h = arg;
    (void)t;
    if (h->state == PG_H2_LINGER) {
        linger(h);
        return;
    }
    if (h->state != PG_H2_OPEN || (!h->established && !establish(h))) {
        return;
    }
    if ((rw & PG_READ) != 0) {
        read_some(h);
    }
    pg_h2_touch(h);
}

static void bury_graves(struct pg_h2 *h)
{
    struct pg_list *n;
    while ((n = pg_list_pop(&h->graves)) != NULL) {
        pg_h2_stream_destroy(PG_CONTAINER_OF(n, struct pg_h2_stream, node));
    }
}

/* End of a turn in which something happened. */
static void on_work(struct pg_defer *d)
{
    struct pg_h2 *h = PG_CONTAINER_OF(d, struct pg_h2, work);
    bury_graves(h);
    if (!still_open(h, 0)) {
        return;
    }
    deliver(h);
    if (!still_open(h, 0) || (!h->established && !establish(h))) {
        return;
    }
    int r = flush(h);
    if (r < 0 && pg_transport_status(h->t) < 0) {
        read_some(h); /* what the peer said before it went */
        if (!h->freed && h->state == PG_H2_OPEN) {
            lost_transport(h, r);
        }
        return;
    }
    if (!still_open(h, r)) {
        return;
    }
    deliver(h);
    if (!still_open(h, 0)) {
        return;
    }
    if (!pg_h2_ng_wants_read(h) && !pg_h2_ng_wants_write(h) && h->left.len == 0) {
        ran_out(h);
        return;
    }
    update_want(h);
    retime(h);
}

static void on_reap(struct pg_defer *d)
{
    struct pg_h2 *h = PG_CONTAINER_OF(d, struct pg_h2, reap);
    bury_graves(h);
    pg_free(h);
}

/* ---- interface ---- */

static int session_new(struct pg_loop *l, struct pg_transport *t, const struct pg_h2_options *o,
                       const struct pg_h2_callbacks *cb, void *arg, bool server, struct pg_h2 **out)
{
    if (o->stream_window < 65535 || o->stream_window > INT32_MAX || o->connection_window < 65535 ||
        o->connection_window > INT32_MAX || o->max_frame_size < 16384 || o->max_frame_size > 16777215 ||
        o->send_buffer == 0 || (server && cb->on_request == NULL)) {
        return PG_E_CONFIG;
    }
    struct pg_h2 *h = pg_calloc(1, sizeof(*h));
    if (h == NULL) {
        return PG_E_NOMEM;
    }
    h->loop = l;
    h->t = t;
    h->o = *o;
    h->cb = *cb;
    h->arg = arg;
    h->server = server;
    h->born_ms = pg_loop_now_ms(l);
    h->last_rx_ms = h->born_ms;
    h->batch_want = PG_H2_BATCH_MIN * 2;
    h->work.cb = on_work;
    h->reap.cb = on_reap;
    pg_list_init(&h->streams);
    pg_list_init(&h->events);
    pg_list_init(&h->hungry);
    pg_list_init(&h->trailers_due);
    pg_list_init(&h->reset_due);
    pg_list_init(&h->leaving);
    pg_list_init(&h->graves);
    pg_buf_init(&h->left, PG_H2_BATCH_MAX + PG_H2_BATCH_SLACK + 64);
    pg_h2_guard_init(&h->guard, server, o->resets_per_s, o->max_header_fields + 8, o->max_header_list * 2,
                     h->born_ms);
    int r = pg_timer_new(l, on_timer, h, &h->timer);
    if (r == 0) {
        r = pg_h2_ng_new(h);
    }
    if (r < 0) {
        pg_timer_free(h->timer);
        pg_free(h);
        return r;
    }
    pg_transport_set_owner(t, on_ready, h);
    pg_transport_want(t, PG_READ | PG_WRITE);
    retime(h);
    *out = h;
    return 0;
}

int pg_h2_client_new(struct pg_loop *l, struct pg_transport *t, const struct pg_h2_options *o,
                     const struct pg_h2_callbacks *cb, void *arg, struct pg_h2 **out)
{
    return session_new(l, t, o, cb, arg, false, out);
}

int pg_h2_server_new(struct pg_loop *l, struct pg_transport *t, const struct pg_h2_options *o,
                     const struct pg_h2_callbacks *cb, void *arg, struct pg_h2 **out)
{
    return session_new(l, t, o, cb, arg, true, out);
}

/* Streams whose owners still hold them live on without a session. */
static void orphan_streams(struct pg_h2 *h)
{
    struct pg_list *n;
    while ((n = pg_list_pop(&h->streams)) != NULL) {
        struct pg_h2_stream *s = PG_CONTAINER_OF(n, struct pg_h2_stream, node);
        pg_h2_stream_finish(s, PG_H2_CANCEL, PG_E_CLOSED);
        if (s->detached) {
            continue; /* in the graves now */
        }
        pg_list_remove(&s->event);
        s->unconsumed = 0;
        s->h = NULL;
        if (s->orphaned != NULL) {
            s->orphaned(s->orphaned_arg);
        }
    }
}

void pg_h2_free(struct pg_h2 *h)
{
    if (h == NULL || h->freed) {
        return;
    }
    bool cut = h->state == PG_H2_OPEN && h->active > 0;
    h->freed = true;
    h->state = PG_H2_OVER;
    if (h->ng != NULL) {
        pg_h2_ng_free(h);
    }
    orphan_streams(h);
    if (cut) {
        pg_transport_abort(h->t);
    } else {
        pg_transport_close(h->t);
    }
    pg_timer_free(h->timer);
    pg_buf_fini(&h->left);
    pg_defer_cancel(&h->work);
    pg_loop_defer(h->loop, &h->reap);
}

void pg_h2_drain(struct pg_h2 *h)
{
    static const struct pg_h2_ping_slot own = {.own = true};
    if (h->draining || h->state != PG_H2_OPEN || h->freed) {
        return;
    }
    h->draining = true;
    if (!h->server) {
        final_goaway(h);
        return;
    }
    /* Announce first; the last stream is named a round trip later, so that none on its way is lost. */
    int r = pg_h2_ng_goaway(h, true);
    if (r == 0) {
        r = send_ping(h, &own, &h->drain_ping);
        r = r == PG_E_LIMIT ? 0 : r;
    }
    if (r < 0) {
        pg_h2_fail(h, r, "");
    }
    h->drain_ms = pg_loop_now_ms(h->loop) + PG_H2_DRAIN_MS;
    pg_h2_touch(h);
}

struct pg_transport *pg_h2_transport(struct pg_h2 *h)
{
    return h->t;
}

void *pg_h2_arg(struct pg_h2 *h)
{
    return h->arg;
}

void pg_h2_set_arg(struct pg_h2 *h, void *arg)
{
    h->arg = arg;
}

uint32_t pg_h2_capacity(const struct pg_h2 *h)
{
    if (h->state != PG_H2_OPEN || h->freed || h->fail_err != 0 || h->server || h->draining || h->goaway_in ||
        pg_h2_ng_next_id(h) > (uint32_t)INT32_MAX - PG_H2_ID_RESERVE) {
        return 0;
    }
    uint32_t limit = pg_h2_ng_peer_limit(h);
    limit = limit < h->o.max_concurrent_streams ? limit : h->o.max_concurrent_streams;
    return h->active < limit ? limit - h->active : 0;
}

uint32_t pg_h2_active(const struct pg_h2 *h)
{
    return h->active;
}

int pg_h2_ping(struct pg_h2 *h, void (*cb)(int err, uint64_t rtt_us, void *arg), void *arg)
{
    const struct pg_h2_ping_slot proto = {.cb = cb, .arg = arg};
    uint64_t id;
    if (h->state != PG_H2_OPEN || h->freed || h->fail_err != 0) {
        return PG_E_CLOSED;
    }
    return send_ping(h, &proto, &id);
}

void pg_h2_get_stats(const struct pg_h2 *h, struct pg_h2_stats *out)
{
    *out = h->stats;
}
