/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams as their owners see them. Invariants: received bytes wait here and nowhere else, never more than
 * the stream's window; every received byte is credited to the peer exactly once, by the owner or when nobody
 * is left to read it; what did not end with END_STREAM is never read as an end. Loop thread.
 */
#include "net/h2_int.h"

struct pg_h2_stream *pg_h2_stream_new(struct pg_h2 *h)
{
    struct pg_h2_stream *s = pg_calloc(1, sizeof(*s));
    if (s == NULL) {
        return NULL;
    }
    s->h = h;
    s->loop = h->loop;
    s->quota = PG_H2_QUANTUM;
    s->read_armed = true;
    pg_buf_init(&s->in, h->o.stream_window);
    pg_buf_init(&s->out, h->o.send_buffer);
    pg_list_push_back(&h->streams, &s->node);
    h->active++;
    h->stats.streams_opened++;
    return s;
}

void pg_h2_stream_destroy(struct pg_h2_stream *s)
{
    pg_list_remove(&s->node);
    pg_list_remove(&s->event);
    pg_list_remove(&s->due);
    pg_list_remove(&s->leave);
    pg_buf_fini(&s->in);
    pg_buf_fini(&s->out);
    pg_free(s->head_in);
    pg_free(s->trailers_in);
    pg_free(s->trailers_out);
    pg_free(s);
}

static void bury(struct pg_h2_stream *s)
{
    pg_list_remove(&s->event);
    pg_list_remove(&s->node);
    pg_list_push_back(&s->h->graves, &s->node);
    pg_h2_touch(s->h);
}

/* Unread data goes, and with it everything the peer was still to be credited. */
static void drop_received(struct pg_h2_stream *s)
{
    pg_buf_fini(&s->in);
    s->h->conn_credit += s->unconsumed;
    s->unconsumed = 0;
}

bool pg_h2_stream_ended(const struct pg_h2_stream *s)
{
    return s->remote_end && !s->broken && (!s->over || s->code == PG_H2_NO_ERROR || s->code == PG_H2_CANCEL);
}

void pg_h2_stream_finish(struct pg_h2_stream *s, uint32_t code, int err)
{
    if (s->over) {
        return;
    }
    s->over = true;
    s->code = code;
    s->err = err == 0 && s->broken ? PG_E_NOMEM : err;
    s->h->active--;
    pg_list_remove(&s->due);
    pg_list_remove(&s->leave);
    pg_buf_fini(&s->out);
    if (s->h->promised == s) {
        s->h->promised = NULL;
    }
    if (s->detached || !pg_h2_stream_ended(s)) {
        drop_received(s);
    }
    if (s->detached) {
        bury(s);
    } else {
        pg_h2_stream_event(s, PG_H2_EV_CLOSED);
    }
}

unsigned pg_h2_stream_ready(struct pg_h2_stream *s)
{
    unsigned rw = s->over ? PG_READ | PG_WRITE : 0;
    if (s->in.len > 0 || s->remote_end || s->broken) {
        rw |= PG_READ;
    }
    if (s->local_end || pg_buf_room(&s->out) >= s->out.max / 2) {
        rw |= PG_WRITE;
    }
    if ((rw & PG_READ) == 0) {
        s->read_armed = true;
    }
    if ((rw & PG_WRITE) == 0) {
        s->write_blocked = true;
    }
    return rw;
}

int pg_h2_request(struct pg_h2 *h, const struct pg_h2_head *head, bool end,
                  const struct pg_h2_stream_callbacks *cb, void *arg, struct pg_h2_stream **out)
{
    if (h->state != PG_H2_OPEN || h->freed || h->fail_err != 0) {
        return PG_E_CLOSED;
    }
    if (pg_h2_capacity(h) == 0) {
        return h->draining || h->goaway_in ? PG_E_CLOSED : PG_E_AGAIN;
    }
    struct pg_h2_stream *s = pg_h2_stream_new(h);
    if (s == NULL) {
        return PG_E_NOMEM;
    }
    s->local_end = end;
    s->told = true;
    int r = pg_h2_ng_request(h, s, head, end);
    if (r < 0) {
        h->active--;
        h->stats.streams_opened--;
        pg_h2_stream_destroy(s);
        return r;
    }
    if (cb != NULL) {
        s->cb = *cb;
        s->arg = arg;
        s->owned = true;
    }
    pg_h2_touch(h);
    *out = s;
    return 0;
}

void pg_h2_stream_set_owner(struct pg_h2_stream *s, const struct pg_h2_stream_callbacks *cb, void *arg)
{
    s->cb = cb != NULL ? *cb : (struct pg_h2_stream_callbacks){NULL, NULL, NULL, NULL, NULL};
    s->arg = arg;
    s->owned = cb != NULL;
    if (!s->owned || s->h == NULL) {
        return;
    }
    if (s->in.len > 0 || s->remote_end) {
        s->read_armed = false;
        s->ev |= PG_H2_EV_READABLE;
    }
    if (s->ev != 0) {
        pg_h2_stream_event(s, s->ev);
        pg_h2_touch(s->h);
    }
}

/* Asks for what the call may have made sendable; errors are told from the loop. */
static void resume(struct pg_h2_stream *s)
{
    int r = pg_h2_ng_resume(s);
    if (r < 0) {
        pg_h2_fail(s->h, r, "");
    }
    pg_h2_touch(s->h);
}

static int may_write(const struct pg_h2_stream *s)
{
    if (s->over || s->our_reset) {
        return s->err != 0 ? s->err : PG_E_CLOSED;
    }
    return s->local_end ? PG_E_CLOSED : 0;
}

int pg_h2_respond(struct pg_h2_stream *s, const struct pg_h2_head *head, bool end)
{
    int r = may_write(s);
    if (r < 0) {
        return r;
    }
    if (s->responded || !s->h->server) {
        return PG_E_EXISTS;
    }
    r = pg_h2_ng_respond(s, head, end);
    if (r == 0) {
        s->responded = true;
        s->local_end = end;
        pg_h2_touch(s->h);
    }
    return r;
}

ssize_t pg_h2_read(struct pg_h2_stream *s, void *buf, size_t cap)
{
    if (s->in.len > 0 && cap > 0) {
        return (ssize_t)pg_buf_take(&s->in, buf, cap);
    }
    if (s->in.len == 0 && pg_h2_stream_ended(s)) {
        return 0;
    }
    if (s->over) {
        return s->err != 0 ? s->err : PG_E_RESET;
    }
    if (s->broken) {
        return PG_E_NOMEM; /* the reset is on its way; bytes are missing from here on */
    }
    s->read_armed = true;
    return PG_E_AGAIN;
}

void pg_h2_consumed(struct pg_h2_stream *s, size_t n)
{
    size_t outside = s->unconsumed > s->in.len ? s->unconsumed - s->in.len : 0;
    struct pg_h2 *h = s->h;
    n = n < outside ? n : outside;
    s->unconsumed -= n;
    if (h == NULL || h->ng == NULL || n == 0) {
        return;
    }
    int r = pg_h2_ng_consume(h, s->id, n);
    if (r < 0) {
        pg_h2_fail(h, r, "");
    }
    if (pg_h2_ng_wants_write(h)) {
        pg_h2_touch(h);
    }
}

ssize_t pg_h2_writev(struct pg_h2_stream *s, const struct iovec *iov, int n)
{
    int r = may_write(s);
    size_t taken = 0;
    if (r < 0) {
        return r;
    }
    for (int i = 0; i < n; i++) {
        size_t room = pg_buf_room(&s->out);
        size_t len = iov[i].iov_len < room ? iov[i].iov_len : room;
        r = pg_buf_add(&s->out, iov[i].iov_base, len);
        if (r < 0) {
            break;
        }
        taken += len;
        if (len < iov[i].iov_len) {
            break;
        }
    }
    if (taken == 0) {
        s->write_blocked = r == 0;
        return r < 0 ? r : PG_E_AGAIN;
    }
    resume(s);
    return (ssize_t)taken;
}

int pg_h2_end(struct pg_h2_stream *s)
{
    if (s->local_end) {
        return 0;
    }
    int r = may_write(s);
    if (r < 0) {
        return r;
    }
    s->local_end = true;
    resume(s);
    return 0;
}

int pg_h2_trailers(struct pg_h2_stream *s, const struct pg_h2_head *head)
{
    int r = may_write(s);
    if (r < 0) {
        return r;
    }
    r = pg_h2_ng_check_head(head);
    if (r < 0) {
        return r;
    }
    s->trailers_out = pg_h2_block_new(head);
    if (s->trailers_out == NULL) {
        return PG_E_NOMEM;
    }
    s->local_end = true;
    resume(s);
    return 0;
}

/* The owner is gone: let it finish, let it finish and then say so, or cut it. */
static void wind_up(struct pg_h2_stream *s, uint32_t code)
{
    struct pg_h2 *h = s->h;
    if (s->local_end && s->remote_end) {
        pg_h2_stream_leave(s);
        return;
    }
    if (s->local_end && code == PG_H2_NO_ERROR && !s->our_reset) {
        s->linger_reset = true;
        if (s->end_sent && !pg_list_is_linked(&s->due)) {
            pg_list_push_back(&h->reset_due, &s->due);
        }
        pg_h2_stream_leave(s);
        return;
    }
    if (h->promised != s) {
        pg_buf_fini(&s->out);
    }
    int r = pg_h2_ng_reset(s, code);
    if (r < 0) {
        pg_h2_fail(h, r, "");
    }
}

void pg_h2_stream_close(struct pg_h2_stream *s, uint32_t code)
{
    if (s == NULL) {
        return;
    }
    struct pg_h2 *h = s->h;
    if (h == NULL) {
        pg_h2_stream_destroy(s);
        return;
    }
    PG_BUG_ON(s->detached);
    s->detached = true;
    s->owned = false;
    s->orphaned = NULL;
    s->ev = 0;
    pg_list_remove(&s->event);
    drop_received(s);
    if (s->over || h->ng == NULL) {
        bury(s);
    } else {
        wind_up(s, code);
    }
    pg_h2_touch(h);
}

struct pg_h2 *pg_h2_stream_session(struct pg_h2_stream *s)
{
    return s->h;
}

uint32_t pg_h2_stream_id(const struct pg_h2_stream *s)
{
    return (uint32_t)s->id;
}
