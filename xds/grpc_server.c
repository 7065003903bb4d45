/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server side of gRPC calls on one HTTP/2 session. Invariants: on_closed is called exactly once for every
 * stream whose on_open accepted it, never from inside a grpc_stream_* call; a stream that was finished
 * neither receives nor sends anything more; what a client does not read is bounded by the queue cap and by a
 * time limit once we are done. Loop thread.
 */
#include "xds/grpc_int.h"

#include <stdio.h>

#define FINISH_MS 10000u /* for a client that does not read its last messages */

struct grpc_stream {
    struct pg_loop *loop;
    struct pg_h2_stream *s; /* NULL once closed */
    const struct grpc_handler *handler;
    void *arg;
    struct grpc_deframer in;
    struct grpc_out out;
    struct pg_timer *timer; /* the client's deadline, then FINISH_MS */
    struct pg_defer closing;
    struct pg_sb text;
    int code;
    bool responded;
    bool half_closed; /* told */
    bool finishing;   /* we are done; trailers follow the queue */
    bool opened;      /* on_open accepted: on_closed is due */
    bool dead;        /* closing is scheduled */
};

static void release(struct grpc_stream *g)
{
    pg_timer_free(g->timer);
    grpc_deframer_fini(&g->in);
    grpc_out_fini(&g->out);
    pg_sb_fini(&g->text);
    pg_free(g);
}

static void run_closing(struct pg_defer *d)
{
    struct grpc_stream *g = PG_CONTAINER_OF(d, struct grpc_stream, closing);
    if (g->opened) {
        g->handler->on_closed(g, g->arg);
    }
    release(g);
}

/* Ends our hold of the HTTP/2 stream; the owner hears of it from the loop. */
static void die(struct grpc_stream *g, uint32_t reset)
{
    if (g->dead) {
        return;
    }
    g->dead = true;
    pg_h2_stream_close(g->s, reset);
    g->s = NULL;
    pg_timer_stop(g->timer);
    grpc_out_fini(&g->out);
    pg_loop_defer(g->loop, &g->closing);
}

/* --- answers
 * --------------------------------------------------------------------------------------------------- */

static size_t status_fields(struct pg_h2_field *f, int code, struct pg_str text, char *digits, size_t cap)
{
    size_t n = 0;
    (void)snprintf(digits, cap, "%d", code);
    f[n++] = (struct pg_h2_field){PG_STR("grpc-status"), pg_str_c(digits), false};
    if (text.len != 0) {
        f[n++] = (struct pg_h2_field){PG_STR("grpc-message"), text, false};
    }
    return n;
}

static void encode_text(struct pg_sb *out, const char *text)
{
    size_t len = text != NULL ? strlen(text) : 0;
    pg_sb_init(out, 3 * GRPC_TEXT_MAX);
    grpc_percent_encode(pg_str_n(text, len < GRPC_TEXT_MAX ? len : GRPC_TEXT_MAX), out);
}

/* One header block that is the whole answer. */
static int trailers_only(struct pg_h2_stream *s, const char *http, int code, struct pg_str text)
{
    struct pg_h2_field f[4];
    char digits[12];
    f[0] = (struct pg_h2_field){PG_STR(":status"), pg_str_c(http), false};
    f[1] = (struct pg_h2_field){PG_STR("content-type"), PG_STR("application/grpc"), false};
    struct pg_h2_head head = {f, 2 + status_fields(f + 2, code, text, digits, sizeof(digits))};
    return pg_h2_respond(s, &head, true);
}

/* Answers and lets go of a stream that never becomes a grpc_stream. */
static void refuse(struct pg_h2_stream *s, const char *http, int code, const char *text)
{
    struct pg_sb encoded;
    encode_text(&encoded, text);
    int r = trailers_only(s, http, code, pg_sb_view(&encoded));
    pg_sb_fini(&encoded);
    pg_h2_stream_close(s, r < 0 ? PG_H2_INTERNAL_ERROR : PG_H2_NO_ERROR);
}

static void refuse_http(struct pg_h2_stream *s, const char *http)
{
    struct pg_h2_field f = {PG_STR(":status"), pg_str_c(http), false};
    struct pg_h2_head head = {&f, 1};
    int r = pg_h2_respond(s, &head, true);
    pg_h2_stream_close(s, r < 0 ? PG_H2_INTERNAL_ERROR : PG_H2_NO_ERROR);
}

static int respond_head(struct grpc_stream *g)
{
    static const struct pg_h2_field f[] = {{{":status", 7}, {"200", 3}, false},
                                           {{"content-type", 12}, {"application/grpc", 16}, false}};
    struct pg_h2_head head = {f, PG_ARRAY_LEN(f)};
    int r = g->responded ? 0 : pg_h2_respond(g->s, &head, false);
    if (r == 0) {
        g->responded = true;
    }
    return r;
}

static int send_trailers(struct grpc_stream *g)
{
    struct pg_h2_field f[2];
    char digits[12];
    if (!g->responded) {
        return trailers_only(g->s, "200", g->code, pg_sb_view(&g->text));
    }
    struct pg_h2_head head = {f, status_fields(f, g->code, pg_sb_view(&g->text), digits, sizeof(digits))};
    return pg_h2_trailers(g->s, &head);
}

/* Sends what can be sent; when we are done and all is out, the end. */
static void pump(struct grpc_stream *g)
{
    size_t before = g->out.bytes;
    int r = grpc_out_pump(&g->out, g->s);
    if (r == 0 && g->finishing) {
        r = send_trailers(g);
        die(g, r < 0 ? PG_H2_INTERNAL_ERROR : PG_H2_NO_ERROR);
        return;
    }
    if (r == PG_E_NOMEM) {
        die(g, PG_H2_INTERNAL_ERROR);
        return;
    }
    bool drained = before > GRPC_STREAM_QUEUE_MAX / 2 && g->out.bytes <= GRPC_STREAM_QUEUE_MAX / 2;
    bool emptied = before != 0 && g->out.bytes == 0;
    if ((drained || emptied) && g->opened && !g->finishing && g->handler->on_writable != NULL) {
        g->handler->on_writable(g, g->arg);
    }
}

/* --- stream callbacks
 * ------------------------------------------------------------------------------------------ */

static bool deliver(void *arg, struct pg_str msg)
{
    struct grpc_stream *g = arg;
    if (!g->finishing) {
        g->handler->on_message(g, msg, g->arg);
    }
    return !g->dead;
}

static void receive(struct grpc_stream *g)
{
    char text[96];
    int r = grpc_recv(g->s, &g->in, deliver, g);
    if (g->dead) {
        return;
    }
    if (r == 0 && grpc_deframer_is_partial(&g->in)) {
        grpc_stream_finish(g, GRPC_INTERNAL, "unexpected EOF");
    } else if (r == 0 && !g->half_closed) {
        g->half_closed = true;
        if (!g->finishing) {
            g->handler->on_half_close(g, g->arg);
        }
    } else if (r == PG_E_LIMIT) {
        (void)snprintf(text, sizeof(text), "grpc: received message larger than max (%u vs. %zu)", g->in.len,
                       g->in.max);
        grpc_stream_finish(g, GRPC_RESOURCE_EXHAUSTED, text);
    } else if (r == PG_E_PROTO) {
        grpc_stream_finish(g, GRPC_INTERNAL, "grpc: compressed flag set with identity or empty encoding");
    } else if (r == PG_E_NOMEM) {
        grpc_stream_finish(g, GRPC_RESOURCE_EXHAUSTED, "out of memory");
    }
}

static void on_readable(struct pg_h2_stream *s, void *arg)
{
    (void)s;
    receive(arg);
}

static void on_writable(struct pg_h2_stream *s, void *arg)
{
    (void)s;
    pump(arg);
}

static void on_closed(struct pg_h2_stream *s, uint32_t code, int err, void *arg)
{
    (void)s;
    (void)code;
    (void)err;
    die(arg, PG_H2_NO_ERROR);
}

static void on_timer(void *arg)
{
    struct grpc_stream *g = arg;
    if (g->finishing) {
        die(g, PG_H2_CANCEL);
    } else {
        grpc_stream_finish(g, GRPC_DEADLINE_EXCEEDED, "context deadline exceeded");
    }
}

/* --- opening
 * --------------------------------------------------------------------------------------------------- */

static const struct grpc_handler *find_handler(const struct grpc_handler *handlers, size_t n,
                                               struct pg_str path)
{
    for (size_t i = 0; i < n; i++) {
        if (pg_str_eq_c(path, handlers[i].path)) {
            return &handlers[i];
        }
    }
    return NULL;
}

static void refuse_unknown(struct pg_h2_stream *s, struct pg_str path)
{
    char text[200];
    ptrdiff_t slash = pg_str_rchr(path, '/');
    if (slash <= 0 || path.p[0] != '/') {
        (void)snprintf(text, sizeof(text), "malformed method name: \"%.*s\"",
                       path.len < 120 ? (int)path.len : 120, path.p != NULL ? path.p : "");
    } else {
        struct pg_str service = pg_str_n(path.p + 1, (size_t)slash - 1);
        (void)snprintf(text, sizeof(text), "unknown service %.*s", service.len < 120 ? (int)service.len : 120,
                       service.p);
    }
    refuse(s, "200", GRPC_UNIMPLEMENTED, text);
}

static struct grpc_stream *stream_new(struct pg_loop *l, struct pg_h2_stream *s,
                                      const struct grpc_handler *handler, void *arg)
{
    struct grpc_stream *g = pg_calloc(1, sizeof(*g));
    if (g == NULL) {
        return NULL;
    }
    g->loop = l;
    g->s = s;
    g->handler = handler;
    g->arg = arg;
    g->closing.cb = run_closing;
    grpc_deframer_init(&g->in, handler->max_message);
    grpc_out_init(&g->out);
    pg_sb_init(&g->text, 3 * GRPC_TEXT_MAX);
    if (pg_timer_new(l, on_timer, g, &g->timer) < 0) {
        pg_free(g);
        return NULL;
    }
    return g;
}

static void open_stream(struct pg_loop *l, struct pg_h2_stream *s, const struct pg_h2_head *head,
                        const struct grpc_handler *handler, uint64_t deadline_ms, void *arg)
{
    static const struct pg_h2_stream_callbacks callbacks = {
        .on_readable = on_readable,
        .on_writable = on_writable,
        .on_closed = on_closed,
    };
    struct grpc_stream *g = stream_new(l, s, handler, arg);
    if (g == NULL) {
        pg_h2_stream_close(s, PG_H2_REFUSED_STREAM);
        return;
    }
    pg_h2_stream_set_owner(s, &callbacks, g);
    if (deadline_ms != UINT64_MAX) {
        pg_timer_start(g->timer, deadline_ms);
    }
    struct pg_errtext text = {""};
    int code = handler->on_open(g, head, arg, &text);
    if (code != GRPC_OK) {
        grpc_stream_finish(g, code, text.text);
        return;
    }
    g->opened = true;
}

void grpc_server_request(struct pg_loop *l, struct pg_h2_stream *s, const struct pg_h2_head *head, bool end,
                         const struct grpc_handler *handlers, size_t n, void *arg)
{
    (void)end; /* an early end shows as a read of 0 */
    if (!pg_str_eq_c(pg_h2_head_get(head, ":method"), "POST")) {
        refuse_http(s, "405");
        return;
    }
    struct pg_str type = pg_h2_head_get(head, "content-type");
    struct pg_str rest = pg_str_sub(type, strlen("application/grpc"));
    if (!pg_str_has_prefix(type, PG_STR("application/grpc")) ||
        (rest.len != 0 && rest.p[0] != '+' && rest.p[0] != ';')) {
        refuse_http(s, "415");
        return;
    }
    struct pg_str path = pg_h2_head_get(head, ":path");
    const struct grpc_handler *handler = find_handler(handlers, n, path);
    if (handler == NULL) {
        refuse_unknown(s, path);
        return;
    }
    struct pg_str encoding = pg_h2_head_get(head, "grpc-encoding");
    if (encoding.len != 0 && !pg_str_eq_c(encoding, "identity")) {
        refuse(s, "200", GRPC_UNIMPLEMENTED,
               "grpc: no decompressor is installed for the grpc-encoding of the request");
        return;
    }
    uint64_t deadline_ms = UINT64_MAX;
    struct pg_str timeout = pg_h2_head_get(head, "grpc-timeout");
    if (timeout.p != NULL && grpc_timeout_parse(timeout, &deadline_ms) < 0) {
        refuse(s, "400", GRPC_INTERNAL, "malformed grpc-timeout");
        return;
    }
    open_stream(l, s, head, handler, deadline_ms, arg);
}

/* --- interface
 * ------------------------------------------------------------------------------------------------- */

void grpc_stream_set_arg(struct grpc_stream *s, void *arg)
{
    s->arg = arg;
}

struct pg_h2 *grpc_stream_session(struct grpc_stream *s)
{
    return s->s != NULL ? pg_h2_stream_session(s->s) : NULL;
}

size_t grpc_stream_queued(const struct grpc_stream *s)
{
    return s->out.bytes;
}

int grpc_stream_send(struct grpc_stream *s, struct pg_str msg)
{
    if (s->dead || s->finishing) {
        return PG_E_CLOSED;
    }
    if (s->out.bytes != 0 && s->out.bytes + msg.len > GRPC_STREAM_QUEUE_MAX) {
        return PG_E_AGAIN;
    }
    int r = respond_head(s);
    if (r == 0) {
        r = grpc_out_push(&s->out, msg);
    }
    if (r < 0) {
        return r == PG_E_AGAIN ? PG_E_CLOSED : r;
    }
    r = grpc_out_pump(&s->out, s->s);
    if (r == PG_E_NOMEM) {
        die(s, PG_H2_INTERNAL_ERROR); /* part of it may be out: there is no way back */
        return r;
    }
    return 0; /* a dead stream tells by on_closed */
}

void grpc_stream_abort(struct grpc_stream *s)
{
    s->opened = false;
    die(s, PG_H2_CANCEL);
}

void grpc_stream_finish(struct grpc_stream *s, int code, const char *text)
{
    if (s->dead || s->finishing) {
        return;
    }
    s->finishing = true;
    s->code = code;
    pg_sb_fini(&s->text);
    encode_text(&s->text, text);
    pg_timer_start(s->timer, FINISH_MS);
    pump(s);
}
