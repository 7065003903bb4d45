/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only file that knows libnghttp2 (1.52). It owns HPACK, stream states, SETTINGS and flow control; we own
 * the payload: data goes from a stream's queue straight behind its frame header in the batch. Library
 * callbacks only record: nothing is submitted, freed or told to an owner before the library call has come
 * back. Loop thread.
 */
#include "net/h2_int.h"

#include "core/clock.h"

#include <nghttp2/nghttp2.h>

#define FIELD_OVERHEAD 32u          /* RFC 9113, 6.5.2: what a field counts besides its bytes */
#define GATHER_KEEP 4096u           /* header memory an idle session keeps */
#define CLIENT_ASSUMED_STREAMS 100u /* until the server's SETTINGS arrive */

/* ---- memory ---- */

static void *ng_malloc(size_t size, void *user)
{
    (void)user;
    return pg_malloc(size);
}

/*
 * The library grows its queue of streams with data by realloc. When that fails in 1.52, nghttp2_submit_data
 * frees an item the stream still points at, and nghttp2_session_del frees it again. The session is over then,
 * so what is freed on the way out is held back and freed once, after it.
 */
static void ng_mem_free(void *p, void *user)
{
    struct pg_h2 *h = user;
    if (p != NULL && h->ng_broken) {
        for (size_t i = 0; i < h->n_held; i++) {
            if (h->held[i] == p) {
                return;
            }
        }
        if (!h->ng_deleting) {
            if (h->n_held < PG_ARRAY_LEN(h->held)) {
                h->held[h->n_held++] = p;
            }
            return; /* more than fit are lost rather than freed twice */
        }
    }
    pg_free(p);
}

static void *ng_calloc(size_t n, size_t size, void *user)
{
    (void)user;
    return pg_calloc(n, size);
}

static void *ng_realloc(void *p, size_t size, void *user)
{
    struct pg_h2 *h = user;
    void *q = pg_realloc(p, size);
    h->ng_broken = h->ng_broken || (q == NULL && h->ng != NULL);
    return q;
}

static int from_ng(int rv)
{
    if (rv >= 0) {
        return 0;
    }
    return rv == NGHTTP2_ERR_NOMEM ? PG_E_NOMEM : PG_E_PROTO;
}

static struct pg_h2_stream *stream_of(nghttp2_session *ng, int32_t id)
{
    return nghttp2_session_get_stream_user_data(ng, id);
}

/* ---- receiving: header blocks ---- */

static void gather_start(struct pg_h2_gather *g)
{
    pg_sb_reset(&g->bytes);
    g->n = 0;
    g->decoded = 0;
    g->failed = false;
}

static void gather_trim(struct pg_h2_gather *g, size_t max)
{
    if (g->bytes.cap > GATHER_KEEP) {
        pg_sb_fini(&g->bytes);
        pg_sb_init(&g->bytes, max);
    }
}

static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *frame, void *user)
{
    struct pg_h2 *h = user;
    gather_start(&h->gather);
    if (!h->server || frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        return 0;
    }
    struct pg_h2_stream *s = pg_h2_stream_new(h);
    if (s == NULL) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    s->id = frame->hd.stream_id;
    s->detached = true; /* until on_request hands it out */
    (void)nghttp2_session_set_stream_user_data(ng, s->id, s);
    return 0;
}

static int on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len, uint8_t flags, void *user)
{
    struct pg_h2 *h = user;
    struct pg_h2_gather *g = &h->gather;
    (void)ng;
    (void)frame;
    g->decoded += name_len + value_len + FIELD_OVERHEAD;
    if (g->decoded > h->o.max_header_list) {
        pg_h2_guard_trip(h, "header-bytes");
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    if (g->n >= h->o.max_header_fields) {
        pg_h2_guard_trip(h, "header-fields");
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    if (pg_vec_grow(&g->fields, &g->cap, g->n + 1, sizeof(g->fields[0]), h->o.max_header_fields) < 0) {
        g->failed = true;
        return 0;
    }
    pg_sb_add(&g->bytes, name, name_len);
    pg_sb_add(&g->bytes, value, value_len);
    g->failed = g->failed || g->bytes.err != 0;
    g->fields[g->n].name_len = (uint32_t)name_len;
    g->fields[g->n].value_len = (uint32_t)value_len;
    g->fields[g->n].secret = (flags & NGHTTP2_NV_FLAG_NO_INDEX) != 0;
    g->n++;
    return 0;
}

/* What was gathered, as a block of its own; NULL when memory is short. */
static struct pg_h2_block *gather_block(struct pg_h2 *h)
{
    struct pg_h2_gather *g = &h->gather;
    struct pg_h2_block *b = NULL;
    size_t bytes = g->bytes.len;
    if (!g->failed) {
        b = pg_malloc(sizeof(*b) + g->n * sizeof(b->fields[0]) + bytes);
    }
    if (b != NULL) {
        char *at = (char *)(b->fields + g->n);
        if (bytes > 0) {
            memcpy(at, g->bytes.p, bytes);
        }
        b->n = g->n;
        for (size_t i = 0; i < g->n; i++) {
            b->fields[i].name = pg_str_n(at, g->fields[i].name_len);
            at += g->fields[i].name_len;
            b->fields[i].value = pg_str_n(at, g->fields[i].value_len);
            at += g->fields[i].value_len;
            b->fields[i].secret = g->fields[i].secret;
        }
    }
    gather_trim(g, h->o.max_header_list);
    return b;
}

/* Is the block just gathered a 1xx response? */
static bool is_informational(const struct pg_h2_gather *g)
{
    struct pg_str bytes = pg_sb_view(&g->bytes);
    return g->n > 0 && g->fields[0].name_len == 7 && g->fields[0].value_len == 3 && bytes.len >= 10 &&
           memcmp(bytes.p, ":status1", 8) == 0;
}

static int headers_received(struct pg_h2 *h, struct pg_h2_stream *s, bool end)
{
    if (!h->server && !s->head_seen && is_informational(&h->gather)) {
        if (s->informed) {
            pg_h2_guard_trip(h, "informational");
            return NGHTTP2_ERR_CALLBACK_FAILURE;
        }
        s->informed = true;
        return 0;
    }
    struct pg_h2_block *b = gather_block(h);
    if (b == NULL) {
        pg_h2_stream_event(s, PG_H2_EV_FAULT);
        return 0;
    }
    if (!s->head_seen) {
        s->head_seen = true;
        s->head_ended = end;
        s->head_in = b;
        pg_h2_stream_event(s, PG_H2_EV_HEAD);
    } else {
        pg_free(s->trailers_in);
        s->trailers_in = b;
        pg_h2_stream_event(s, PG_H2_EV_TRAILERS);
    }
    return 0;
}

static void ended(struct pg_h2_stream *s)
{
    s->remote_end = true;
    if (s->read_armed) {
        s->read_armed = false;
        pg_h2_stream_event(s, PG_H2_EV_READABLE);
    }
}

/* ---- receiving: everything else ---- */

static void ping_acked(struct pg_h2 *h, const uint8_t *opaque)
{
    uint64_t id = 0;
    for (int i = 0; i < 8; i++) {
        id = id << 8 | opaque[i];
    }
    for (size_t i = 0; i < PG_H2_PINGS_MAX; i++) {
        struct pg_h2_ping_slot *p = &h->pings[i];
        if (id != 0 && p->id == id && !p->acked) {
            p->acked = true;
            p->rtt_us = (pg_clock_mono_ns() - p->sent_ns) / 1000;
            h->ping_event = true;
        }
    }
}

static void settings_received(struct pg_h2 *h, bool ack)
{
    if (ack) {
        h->settings_acked = true;
    } else if (!h->settings_in) {
        h->settings_in = true;
        h->settings_event = true;
    }
}

static int on_frame_recv(nghttp2_session *ng, const nghttp2_frame *frame, void *user)
{
    struct pg_h2 *h = user;
    struct pg_h2_stream *s = frame->hd.stream_id != 0 ? stream_of(ng, frame->hd.stream_id) : NULL;
    bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    int rv = 0;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        if (s != NULL) {
            rv = headers_received(h, s, end);
        }
        if (s != NULL && end) {
            ended(s);
        }
        return rv;
    case NGHTTP2_DATA:
        if (s != NULL && end) {
            ended(s);
        }
        return 0;
    case NGHTTP2_SETTINGS:
        settings_received(h, (frame->hd.flags & NGHTTP2_FLAG_ACK) != 0);
        return 0;
    case NGHTTP2_PING:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) != 0) {
            ping_acked(h, frame->ping.opaque_data);
        }
        return 0;
    case NGHTTP2_RST_STREAM:
        h->stats.resets_received++;
        return 0;
    case NGHTTP2_GOAWAY:
        if (!h->goaway_in) {
            h->goaway_in = true;
            h->goaway_event = true;
            h->goaway_code = frame->goaway.error_code;
        }
        return 0;
    default:
        return 0;
    }
}

static int on_data(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *data, size_t len,
                   void *user)
{
    struct pg_h2 *h = user;
    struct pg_h2_stream *s = stream_of(ng, id);
    (void)flags;
    /* a request whose head is still to be told is not owned yet, but its data is wanted */
    bool wanted =
        s != NULL && (!s->detached || (h->server && !s->told)) && !s->broken && (s->ev & PG_H2_EV_FAULT) == 0;
    if (!wanted) {
        h->conn_credit += len;
        return 0;
    }
    if (pg_buf_add(&s->in, data, len) < 0) {
        h->conn_credit += len;
        s->broken = true;
        pg_h2_stream_event(s, PG_H2_EV_FAULT);
        return 0;
    }
    s->unconsumed += len;
    if (s->read_armed) {
        s->read_armed = false;
        pg_h2_stream_event(s, PG_H2_EV_READABLE);
    }
    return 0;
}

static int on_stream_close(nghttp2_session *ng, int32_t id, uint32_t code, void *user)
{
    struct pg_h2_stream *s = stream_of(ng, id);
    (void)user;
    if (s != NULL) {
        (void)nghttp2_session_set_stream_user_data(ng, id, NULL);
        pg_h2_stream_finish(s, code, code == NGHTTP2_NO_ERROR && s->remote_end ? 0 : PG_E_RESET);
    }
    return 0;
}

/* ---- sending ---- */

static int on_frame_send(nghttp2_session *ng, const nghttp2_frame *frame, void *user)
{
    struct pg_h2 *h = user;
    struct pg_h2_stream *s = frame->hd.stream_id != 0 ? stream_of(ng, frame->hd.stream_id) : NULL;
    uint8_t type = frame->hd.type;
    if (type == NGHTTP2_RST_STREAM) {
        h->stats.resets_sent++;
        if (s == NULL || !s->our_reset) {
            const char *bad = pg_h2_guard_take(&h->guard, PG_H2_B_PROVOKED, pg_loop_now_ms(h->loop));
            if (bad != NULL) {
                pg_h2_guard_trip(h, bad);
            }
        }
    } else if (type == NGHTTP2_GOAWAY && frame->goaway.error_code != NGHTTP2_NO_ERROR) {
        h->proto_err = PG_E_PROTO;
    } else if ((type == NGHTTP2_DATA || type == NGHTTP2_HEADERS) && s != NULL &&
               (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
        s->end_sent = true;
        if (s->linger_reset && !pg_list_is_linked(&s->due)) {
            pg_list_push_back(&h->reset_due, &s->due);
        }
    }
    return 0;
}

static ssize_t on_source(nghttp2_session *ng, int32_t id, uint8_t *buf, size_t len, uint32_t *flags,
                         nghttp2_data_source *source, void *user)
{
    struct pg_h2 *h = user;
    struct pg_h2_stream *s = source->ptr;
    size_t n = s->out.len;
    (void)ng;
    (void)id;
    (void)buf;
    n = n < len ? n : len;
    n = n < PG_H2_DATA_PAYLOAD ? n : PG_H2_DATA_PAYLOAD;
    if (n > s->quota) {
        n = s->quota;
        if (n == 0) {
            s->deferred = true;
            if (!pg_list_is_linked(&s->due)) {
                pg_list_push_back(&h->hungry, &s->due);
            }
            return NGHTTP2_ERR_DEFERRED;
        }
    }
    bool last = s->local_end && n == s->out.len;
    if (n == 0 && !last) {
        s->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (last) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (s->trailers_out != NULL) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            pg_list_remove(&s->due);
            pg_list_push_back(&h->trailers_due, &s->due);
        }
    }
    return (ssize_t)n;
}

static int on_send_data(nghttp2_session *ng, nghttp2_frame *frame, const uint8_t *head, size_t len,
                        nghttp2_data_source *source, void *user)
{
    struct pg_h2 *h = user;
    struct pg_h2_stream *s = source->ptr;
    (void)ng;
    (void)frame; /* never padded: no select_padding callback is set */
    if (h->batch_used + 9 + len > h->batch_goal) {
        h->batch_full = true;
        h->promised = s; /* the library comes back for exactly these bytes */
        return NGHTTP2_ERR_WOULDBLOCK;
    }
    h->promised = NULL;
    memcpy(h->batch + h->batch_used, head, 9);
    size_t got = pg_buf_take(&s->out, h->batch + h->batch_used + 9, len);
    PG_BUG_ON(got != len);
    h->batch_used += 9 + len;
    s->quota -= len < s->quota ? len : s->quota;
    pg_h2_guard_credit(&h->guard, PG_H2_B_WINDOW, 4 + (uint32_t)(len / 1024));
    if (s->write_blocked && s->out.len <= s->out.max / 2) {
        s->write_blocked = false;
        pg_h2_stream_event(s, PG_H2_EV_WRITABLE);
    }
    return 0;
}

/* Blanks around a value are no part of it, and peers refuse them. */
static struct pg_str without_blanks(struct pg_str v)
{
    while (v.len > 0 && (v.p[0] == ' ' || v.p[0] == '\t')) {
        v = pg_str_sub(v, 1);
    }
    while (v.len > 0 && (v.p[v.len - 1] == ' ' || v.p[v.len - 1] == '\t')) {
        v.len--;
    }
    return v;
}

/* Is this one fit for the wire? The library would send anything. */
static bool field_ok(struct pg_str name, struct pg_str value)
{
    return nghttp2_check_header_name((const uint8_t *)name.p, name.len) != 0 &&
           nghttp2_check_header_value_rfc9113((const uint8_t *)value.p, value.len) != 0;
}

static int make_nv(const struct pg_h2_head *head, nghttp2_nv *nv)
{
    size_t bytes = 0;
    if (head->n > PG_H2_SEND_FIELDS_MAX) {
        return PG_E_LIMIT;
    }
    for (size_t i = 0; i < head->n; i++) {
        const struct pg_h2_field *f = &head->fields[i];
        struct pg_str value = without_blanks(f->value);
        bytes += f->name.len + value.len + FIELD_OVERHEAD;
        if (!field_ok(f->name, value)) {
            return PG_E_PARSE;
        }
        if (bytes > PG_H2_SEND_HEADERS_MAX) {
            return PG_E_LIMIT;
        }
        nv[i] = (nghttp2_nv){
            /* the library copies; its struct only lacks the const */
            .name = (uint8_t *)(uintptr_t)f->name.p,
            .value = (uint8_t *)(uintptr_t)value.p,
            .namelen = f->name.len,
            .valuelen = value.len,
            .flags = f->secret ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE,
        };
    }
    return 0;
}

int pg_h2_ng_request(struct pg_h2 *h, struct pg_h2_stream *s, const struct pg_h2_head *head, bool end)
{
    nghttp2_nv nv[PG_H2_SEND_FIELDS_MAX];
    nghttp2_data_provider body = {.source.ptr = s, .read_callback = on_source};
    int r = make_nv(head, nv);
    if (r < 0) {
        return r;
    }
    int32_t id = nghttp2_submit_request(h->ng, NULL, nv, head->n, end ? NULL : &body, s);
    if (id < 0) {
        return id == NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE ? PG_E_AGAIN : from_ng(id);
    }
    s->id = id;
    pg_h2_guard_credit(&h->guard, PG_H2_B_WINDOW, 4);
    /* A server may reset what we opened, and does so with every refusal: that is no flood. */
    pg_h2_guard_credit(&h->guard, PG_H2_B_RESET, 1);
    return 0;
}

int pg_h2_ng_respond(struct pg_h2_stream *s, const struct pg_h2_head *head, bool end)
{
    nghttp2_nv nv[PG_H2_SEND_FIELDS_MAX];
    nghttp2_data_provider body = {.source.ptr = s, .read_callback = on_source};
    int r = make_nv(head, nv);
    if (r < 0) {
        return r;
    }
    return from_ng(nghttp2_submit_response(s->h->ng, s->id, nv, head->n, end ? NULL : &body));
}

int pg_h2_ng_resume(struct pg_h2_stream *s)
{
    if (!s->deferred || pg_list_is_linked(&s->due)) {
        return 0;
    }
    s->deferred = false;
    int rv = nghttp2_session_resume_data(s->h->ng, s->id);
    return rv == NGHTTP2_ERR_INVALID_ARGUMENT ? 0 : from_ng(rv); /* the stream may be going already */
}

int pg_h2_ng_reset(struct pg_h2_stream *s, uint32_t code)
{
    if (s->over || s->our_reset) {
        return 0;
    }
    s->our_reset = true;
    return from_ng(nghttp2_submit_rst_stream(s->h->ng, NGHTTP2_FLAG_NONE, s->id, code));
}

int pg_h2_ng_check_head(const struct pg_h2_head *head)
{
    nghttp2_nv nv[PG_H2_SEND_FIELDS_MAX];
    return make_nv(head, nv);
}

static int submit_trailers(struct pg_h2_stream *s)
{
    nghttp2_nv nv[PG_H2_SEND_FIELDS_MAX];
    struct pg_h2_head head = {s->trailers_out->fields, s->trailers_out->n};
    int r = make_nv(&head, nv);
    if (r == 0) {
        r = from_ng(nghttp2_submit_trailer(s->h->ng, s->id, nv, head.n));
    }
    pg_free(s->trailers_out);
    s->trailers_out = NULL;
    return r;
}

/* What had to wait until the library call came back. Sets *more when there may be more to send. */
static int after_send(struct pg_h2 *h, bool *more)
{
    int r = 0;
    struct pg_list *n;
    *more = false;
    while (r == 0 && (n = pg_list_pop(&h->trailers_due)) != NULL) {
        r = submit_trailers(PG_CONTAINER_OF(n, struct pg_h2_stream, due));
        *more = true;
    }
    while (r == 0 && (n = pg_list_pop(&h->reset_due)) != NULL) {
        r = pg_h2_ng_reset(PG_CONTAINER_OF(n, struct pg_h2_stream, due), PG_H2_NO_ERROR);
        *more = true;
    }
    while (r == 0 && (n = pg_list_pop(&h->hungry)) != NULL) {
        struct pg_h2_stream *s = PG_CONTAINER_OF(n, struct pg_h2_stream, due);
        s->quota = PG_H2_QUANTUM;
        r = pg_h2_ng_resume(s);
        *more = true;
    }
    return r;
}

int pg_h2_ng_fill(struct pg_h2 *h)
{
    bool more = true;
    h->batch_full = false;
    while (more && h->batch_used < h->batch_goal) {
        const uint8_t *p;
        ssize_t n = nghttp2_session_mem_send(h->ng, &p);
        if (n < 0) {
            return from_ng((int)n);
        }
        if (n > 0) {
            PG_BUG_ON((size_t)n > PG_H2_BATCH_MAX + PG_H2_BATCH_SLACK - h->batch_used);
            memcpy(h->batch + h->batch_used, p, (size_t)n);
            h->batch_used += (size_t)n;
            continue;
        }
        if (h->batch_full) {
            return 0;
        }
        int r = after_send(h, &more);
        if (r < 0) {
            return r;
        }
    }
    h->batch_full = h->batch_used >= h->batch_goal;
    return 0;
}

bool pg_h2_ng_wants_read(const struct pg_h2 *h)
{
    return nghttp2_session_want_read(h->ng) != 0;
}

bool pg_h2_ng_wants_write(const struct pg_h2 *h)
{
    return nghttp2_session_want_write(h->ng) != 0 || !pg_list_is_empty(&h->hungry) ||
           !pg_list_is_empty(&h->trailers_due) || !pg_list_is_empty(&h->reset_due);
}

int pg_h2_ng_consume(struct pg_h2 *h, int32_t id, size_t n)
{
    if (n == 0) {
        return 0;
    }
    return from_ng(id == 0 ? nghttp2_session_consume_connection(h->ng, n)
                           : nghttp2_session_consume(h->ng, id, n));
}

int pg_h2_ng_goaway(struct pg_h2 *h, bool notice)
{
    if (notice) {
        return from_ng(nghttp2_submit_shutdown_notice(h->ng));
    }
    return from_ng(nghttp2_submit_goaway(
        h->ng, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(h->ng), NGHTTP2_NO_ERROR, NULL, 0));
}

int pg_h2_ng_ping(struct pg_h2 *h, uint64_t id)
{
    uint8_t opaque[8];
    for (int i = 0; i < 8; i++) {
        opaque[i] = (uint8_t)(id >> (56 - 8 * i));
    }
    return from_ng(nghttp2_submit_ping(h->ng, NGHTTP2_FLAG_NONE, opaque));
}

uint32_t pg_h2_ng_peer_limit(const struct pg_h2 *h)
{
    return nghttp2_session_get_remote_settings(h->ng, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
}

uint32_t pg_h2_ng_next_id(const struct pg_h2 *h)
{
    return nghttp2_session_get_next_stream_id(h->ng);
}

int pg_h2_ng_set_next_id(struct pg_h2 *h, uint32_t id)
{
    return from_ng(nghttp2_session_set_next_stream_id(h->ng, (int32_t)id));
}

uint32_t pg_h2_ng_last_seen(const struct pg_h2 *h)
{
    return h->ng != NULL ? (uint32_t)nghttp2_session_get_last_proc_stream_id(h->ng) : 0;
}

/* ---- the session ---- */

int pg_h2_ng_recv(struct pg_h2 *h, const unsigned char *p, size_t n)
{
    const char *bad = pg_h2_guard_scan(&h->guard, p, n, pg_loop_now_ms(h->loop));
    if (bad != NULL) {
        if (h->guard.violation != 0) {
            pg_h2_fail(h, PG_E_PROTO, bad);
        } else {
            pg_h2_guard_trip(h, bad);
        }
        return PG_E_PROTO;
    }
    ssize_t rv = nghttp2_session_mem_recv(h->ng, p, n);
    if (rv == NGHTTP2_ERR_FLOODED) {
        pg_h2_guard_trip(h, "outbound-queue");
    }
    if (rv < 0) {
        return from_ng((int)rv);
    }
    if (nghttp2_session_get_outbound_queue_size(h->ng) > PG_H2_OUT_QUEUE_MAX) {
        pg_h2_guard_trip(h, "outbound-queue");
        return PG_E_PROTO;
    }
    size_t credit = h->conn_credit;
    h->conn_credit = 0;
    return pg_h2_ng_consume(h, 0, credit);
}

static int submit_settings(struct pg_h2 *h)
{
    nghttp2_settings_entry e[6];
    size_t n = 0;
    if (h->server) {
        e[n++] =
            (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, h->o.max_concurrent_streams};
    } else {
        e[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_ENABLE_PUSH, 0};
    }
    e[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, h->o.stream_window};
    e[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_FRAME_SIZE, h->o.max_frame_size};
    e[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, h->o.max_header_list};
    e[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1};
    int r = from_ng(nghttp2_submit_settings(h->ng, NGHTTP2_FLAG_NONE, e, n));
    if (r == 0) {
        r = from_ng(nghttp2_session_set_local_window_size(h->ng, NGHTTP2_FLAG_NONE, 0,
                                                          (int32_t)h->o.connection_window));
    }
    return r;
}

static void set_callbacks(nghttp2_session_callbacks *cb)
{
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_send);
    nghttp2_session_callbacks_set_send_data_callback(cb, on_send_data);
}

static void set_options(nghttp2_option *opt)
{
    nghttp2_option_set_no_auto_window_update(opt, 1);
    nghttp2_option_set_peer_max_concurrent_streams(opt, CLIENT_ASSUMED_STREAMS);
    nghttp2_option_set_max_reserved_remote_streams(opt, 0);
    /* Aborted tunnels are ordinary resets: our own budget counts them, the library's 33 per second must not.
     */
    nghttp2_option_set_stream_reset_rate_limit(opt, UINT32_MAX, UINT32_MAX);
}

int pg_h2_ng_new(struct pg_h2 *h)
{
    nghttp2_mem mem = {h, ng_malloc, ng_mem_free, ng_calloc, ng_realloc};
    nghttp2_session_callbacks *cb = NULL;
    nghttp2_option *opt = NULL;
    int r = PG_E_NOMEM;
    if (nghttp2_session_callbacks_new(&cb) != 0 || nghttp2_option_new(&opt) != 0) {
        goto done;
    }
    set_callbacks(cb);
    set_options(opt);
    r = from_ng(h->server ? nghttp2_session_server_new3(&h->ng, cb, h, opt, &mem)
                          : nghttp2_session_client_new3(&h->ng, cb, h, opt, &mem));
    if (r == 0) {
        r = submit_settings(h);
    }
    if (r == 0) {
        pg_sb_init(&h->gather.bytes, h->o.max_header_list);
    } else if (h->ng != NULL) {
        pg_h2_ng_free(h);
    }
done:
    nghttp2_option_del(opt);
    nghttp2_session_callbacks_del(cb);
    return r;
}

void pg_h2_ng_free(struct pg_h2 *h)
{
    h->ng_deleting = true;
    nghttp2_session_del(h->ng);
    h->ng = NULL;
    while (h->n_held > 0) {
        pg_free(h->held[--h->n_held]);
    }
    pg_sb_fini(&h->gather.bytes);
    pg_free(h->gather.fields);
    h->gather.fields = NULL;
    h->gather.cap = 0;
}
