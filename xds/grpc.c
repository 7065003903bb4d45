/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client side of a gRPC call. Invariants: on_status is called exactly once and last, unless the owner
 * freed the call first; a call freed inside its own callback dies at the end of the turn; the deadline is
 * enforced here whatever the server does. Loop thread.
 */
#include "xds/grpc_int.h"

#include <stdio.h>

struct grpc_call {
    struct pg_loop *loop;
    struct pg_h2_stream *s; /* NULL once closed */
    struct grpc_call_callbacks cb;
    void *arg;
    struct grpc_deframer in;
    struct grpc_out out;
    struct pg_timer *deadline;
    struct pg_defer reap;
    struct pg_sb text; /* of grpc-message */
    int status;        /* from the server; -1 none yet */
    bool half_closed;  /* asked for */
    bool done;         /* on_status was called, or never will be */
};

static void release_stream(struct grpc_call *c, uint32_t code)
{
    struct pg_h2_stream *s = c->s;
    c->s = NULL;
    pg_h2_stream_close(s, code);
    pg_timer_stop(c->deadline);
    grpc_out_fini(&c->out);
}

static void finish(struct grpc_call *c, uint32_t reset, int code, struct pg_str text)
{
    if (c->done) {
        return;
    }
    c->done = true;
    release_stream(c, reset);
    c->cb.on_status(c, code, text, c->arg);
}

static void finish_c(struct grpc_call *c, uint32_t reset, int code, const char *text)
{
    finish(c, reset, code, pg_str_c(text));
}

/* --- status
 * --------------------------------------------------------------------------------------------------- */

static int code_of_http(unsigned status)
{
    switch (status) {
    case 400:
        return GRPC_INTERNAL;
    case 401:
        return GRPC_UNAUTHENTICATED;
    case 403:
        return GRPC_PERMISSION_DENIED;
    case 404:
        return GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return GRPC_UNAVAILABLE;
    default:
        return GRPC_UNKNOWN;
    }
}

static const struct {
    const char *name;
    int code;
} reset_codes[] = {
    {"NO_ERROR", GRPC_INTERNAL},
    {"PROTOCOL_ERROR", GRPC_INTERNAL},
    {"INTERNAL_ERROR", GRPC_INTERNAL},
    {"FLOW_CONTROL_ERROR", GRPC_RESOURCE_EXHAUSTED},
    {"SETTINGS_TIMEOUT", GRPC_INTERNAL},
    {"STREAM_CLOSED", GRPC_INTERNAL},
    {"FRAME_SIZE_ERROR", GRPC_INTERNAL},
    {"REFUSED_STREAM", GRPC_UNAVAILABLE},
    {"CANCEL", GRPC_CANCELLED},
    {"COMPRESSION_ERROR", GRPC_INTERNAL},
    {"CONNECT_ERROR", GRPC_INTERNAL},
    {"ENHANCE_YOUR_CALM", GRPC_RESOURCE_EXHAUSTED},
    {"INADEQUATE_SECURITY", GRPC_PERMISSION_DENIED},
    {"HTTP_1_1_REQUIRED", GRPC_INTERNAL},
};

static void finish_reset(struct grpc_call *c, uint32_t code)
{
    char text[96];
    bool known = code < PG_ARRAY_LEN(reset_codes);
    (void)snprintf(text, sizeof(text), "stream terminated by RST_STREAM with error code: %s",
                   known ? reset_codes[code].name : "unknown");
    finish_c(c, PG_H2_CANCEL, known ? reset_codes[code].code : GRPC_UNKNOWN, text);
}

/* Remembers grpc-status and grpc-message of trailers or of a trailers-only head. */
static void note_status(struct grpc_call *c, const struct pg_h2_head *head)
{
    struct pg_str status = pg_h2_head_get(head, "grpc-status");
    uint64_t code = 0;
    if (status.p == NULL) {
        return;
    }
    c->status = pg_str_u64(status, INT32_MAX, &code) < 0 ? GRPC_UNKNOWN : (int)code;
    pg_sb_reset(&c->text);
    struct pg_str message = pg_h2_head_get(head, "grpc-message");
    grpc_percent_decode(pg_str_n(message.p, message.len < GRPC_TEXT_MAX ? message.len : GRPC_TEXT_MAX),
                        &c->text);
}

/* All data was read and the stream ended. */
static void finish_end(struct grpc_call *c)
{
    if (c->status >= 0) {
        finish(c, PG_H2_CANCEL, c->status, pg_sb_view(&c->text));
    } else if (grpc_deframer_is_partial(&c->in)) {
        finish_c(c, PG_H2_CANCEL, GRPC_INTERNAL, "unexpected EOF");
    } else {
        finish_c(c, PG_H2_CANCEL, GRPC_INTERNAL, "server closed the stream without sending trailers");
    }
}

/* --- stream callbacks
 * ------------------------------------------------------------------------------------------ */

static bool deliver(void *arg, struct pg_str msg)
{
    struct grpc_call *c = arg;
    c->cb.on_message(c, msg, c->arg);
    return !c->done;
}

static void receive(struct grpc_call *c)
{
    char text[96];
    int r = grpc_recv(c->s, &c->in, deliver, c);
    switch (r) {
    case PG_E_AGAIN:
    case PG_E_CANCELLED:
        break;
    case 0:
        finish_end(c);
        break;
    case PG_E_LIMIT:
        (void)snprintf(text, sizeof(text), "grpc: received message larger than max (%u vs. %zu)", c->in.len,
                       c->in.max);
        finish_c(c, PG_H2_CANCEL, GRPC_RESOURCE_EXHAUSTED, text);
        break;
    case PG_E_PROTO:
        finish_c(c, PG_H2_CANCEL, GRPC_INTERNAL, "grpc: compressed flag set with identity or empty encoding");
        break;
    case PG_E_NOMEM:
        finish_c(c, PG_H2_CANCEL, GRPC_RESOURCE_EXHAUSTED, "out of memory");
        break;
    default:
        break; /* the stream's own end: on_closed says how */
    }
}

/* What is told about a header of the peer must be text whatever the header was. */
static void make_ascii(char *z)
{
    for (; *z != '\0'; z++) {
        *z = *z < ' ' || *z > '~' ? '?' : *z;
    }
}

static void on_response(struct pg_h2_stream *s, const struct pg_h2_head *head, bool end, void *arg)
{
    struct grpc_call *c = arg;
    char text[160];
    uint64_t http = 0;
    (void)s;
    note_status(c, head);
    if (pg_str_u64(pg_h2_head_get(head, ":status"), 999, &http) < 0) {
        finish_c(c, PG_H2_CANCEL, GRPC_INTERNAL, "malformed header: missing HTTP status");
        return;
    }
    struct pg_str type = pg_h2_head_get(head, "content-type");
    if (end && c->status >= 0) {
        finish(c, PG_H2_CANCEL, c->status, pg_sb_view(&c->text));
    } else if (http != 200) {
        (void)snprintf(text, sizeof(text), "unexpected HTTP status code received from server: %u",
                       (unsigned)http);
        finish_c(c, PG_H2_CANCEL, code_of_http((unsigned)http), text);
    } else if (!pg_str_has_prefix(type, PG_STR("application/grpc"))) {
        (void)snprintf(text, sizeof(text), "unexpected content-type \"%.*s\"",
                       type.len < 64 ? (int)type.len : 64, type.p != NULL ? type.p : "");
        make_ascii(text);
        finish_c(c, PG_H2_CANCEL, GRPC_UNKNOWN, text);
    } else if (end) {
        finish_end(c);
    } else if (c->cb.on_open != NULL) {
        c->cb.on_open(c, c->arg);
    }
}

static void on_readable(struct pg_h2_stream *s, void *arg)
{
    (void)s;
    receive(arg);
}

static void on_trailers(struct pg_h2_stream *s, const struct pg_h2_head *head, void *arg)
{
    (void)s;
    note_status(arg, head);
}

static void pump(struct grpc_call *c)
{
    int r = grpc_out_pump(&c->out, c->s);
    if (r == 0 && c->half_closed) {
        r = pg_h2_end(c->s);
    }
    if (r == PG_E_NOMEM) {
        finish_c(c, PG_H2_CANCEL, GRPC_RESOURCE_EXHAUSTED, "out of memory");
    }
}

static void on_writable(struct pg_h2_stream *s, void *arg)
{
    (void)s;
    pump(arg);
}

static void on_closed(struct pg_h2_stream *s, uint32_t code, int err, void *arg)
{
    struct grpc_call *c = arg;
    (void)s;
    receive(c); /* what came before the end still counts */
    if (c->done) {
        return;
    }
    if (c->status >= 0) {
        finish(c, PG_H2_CANCEL, c->status, pg_sb_view(&c->text));
    } else if (err != 0 && err != PG_E_RESET) {
        finish_c(c, PG_H2_CANCEL, GRPC_UNAVAILABLE, "transport is closing");
    } else {
        finish_reset(c, code);
    }
}

static void on_deadline(void *arg)
{
    finish_c(arg, PG_H2_CANCEL, GRPC_DEADLINE_EXCEEDED, "context deadline exceeded");
}

/* --- interface
 * ------------------------------------------------------------------------------------------------- */

static void reap(struct pg_defer *d)
{
    struct grpc_call *c = PG_CONTAINER_OF(d, struct grpc_call, reap);
    pg_timer_free(c->deadline);
    grpc_deframer_fini(&c->in);
    grpc_out_fini(&c->out);
    pg_sb_fini(&c->text);
    pg_free(c);
}

static size_t request_fields(struct pg_h2_field *f, const char *path, const char *authority,
                             const struct grpc_metadata *md, size_t n_md, const char *timeout)
{
    size_t n = 0;
    f[n++] = (struct pg_h2_field){PG_STR(":method"), PG_STR("POST"), false};
    f[n++] = (struct pg_h2_field){PG_STR(":scheme"), PG_STR("https"), false};
    f[n++] = (struct pg_h2_field){PG_STR(":path"), pg_str_c(path), false};
    f[n++] = (struct pg_h2_field){PG_STR(":authority"), pg_str_c(authority), false};
    f[n++] = (struct pg_h2_field){PG_STR("content-type"), PG_STR("application/grpc"), false};
    f[n++] = (struct pg_h2_field){PG_STR("te"), PG_STR("trailers"), false};
    f[n++] = (struct pg_h2_field){PG_STR("grpc-accept-encoding"), PG_STR("identity"), false};
    f[n++] = (struct pg_h2_field){PG_STR("user-agent"), PG_STR("isthmus/" ISTHMUS_VERSION), false};
    if (timeout[0] != '\0') {
        f[n++] = (struct pg_h2_field){PG_STR("grpc-timeout"), pg_str_c(timeout), false};
    }
    for (size_t i = 0; i < n_md; i++) {
        f[n++] = (struct pg_h2_field){pg_str_c(md[i].key), md[i].value, md[i].secret};
    }
    return n;
}

/* Eight digits at most: beyond a day in milliseconds seconds are exact enough. */
static void timeout_text(uint64_t ms, char *out, size_t cap)
{
    out[0] = '\0';
    if (ms == 0) {
        return;
    }
    if (ms <= 99999999) {
        (void)snprintf(out, cap, "%um", (unsigned)ms);
    } else {
        (void)snprintf(out, cap, "%uS", (unsigned)(ms / 1000 <= 99999999 ? ms / 1000 : 99999999));
    }
}

static int open_stream(struct grpc_call *c, struct pg_h2 *h, const struct pg_h2_head *head)
{
    static const struct pg_h2_stream_callbacks callbacks = {
        .on_response = on_response,
        .on_readable = on_readable,
        .on_trailers = on_trailers,
        .on_writable = on_writable,
        .on_closed = on_closed,
    };
    return pg_h2_request(h, head, false, &callbacks, c, &c->s);
}

int grpc_call_new(struct pg_loop *l, struct pg_h2 *h, const char *path, const char *authority,
                  const struct grpc_metadata *md, size_t n_md, uint64_t deadline_ms, size_t max_message,
                  const struct grpc_call_callbacks *cb, void *arg, struct grpc_call **out)
{
    struct pg_h2_field fields[GRPC_FIELDS_MAX];
    char timeout[16];
    if (n_md > GRPC_FIELDS_MAX - 9) {
        return PG_E_LIMIT;
    }
    struct grpc_call *c = pg_calloc(1, sizeof(*c));
    if (c == NULL) {
        return PG_E_NOMEM;
    }
    c->loop = l;
    c->cb = *cb;
    c->arg = arg;
    c->status = -1;
    c->reap.cb = reap;
    grpc_deframer_init(&c->in, max_message);
    grpc_out_init(&c->out);
    pg_sb_init(&c->text, 4 * GRPC_TEXT_MAX);
    timeout_text(deadline_ms, timeout, sizeof(timeout));
    int r = pg_timer_new(l, on_deadline, c, &c->deadline);
    if (r == 0) {
        struct pg_h2_head head = {fields, request_fields(fields, path, authority, md, n_md, timeout)};
        r = open_stream(c, h, &head);
    }
    if (r < 0) {
        reap(&c->reap);
        return r;
    }
    if (deadline_ms != 0) {
        pg_timer_start(c->deadline, deadline_ms);
    }
    *out = c;
    return 0;
}

int grpc_call_send(struct grpc_call *c, struct pg_str msg)
{
    if (c->done || c->half_closed) {
        return PG_E_CLOSED;
    }
    if (c->out.bytes + msg.len > GRPC_CALL_QUEUE_MAX) {
        return PG_E_LIMIT;
    }
    int r = grpc_out_push(&c->out, msg);
    if (r < 0) {
        return r;
    }
    r = grpc_out_pump(&c->out, c->s);
    return r == PG_E_NOMEM ? r : 0; /* a dead stream tells by on_closed */
}

int grpc_call_half_close(struct grpc_call *c)
{
    if (c->done || c->half_closed) {
        return c->done ? PG_E_CLOSED : 0;
    }
    c->half_closed = true;
    int r = grpc_out_pump(&c->out, c->s);
    if (r == 0) {
        r = pg_h2_end(c->s);
    }
    return r == PG_E_NOMEM ? r : 0;
}

void grpc_call_free(struct grpc_call *c)
{
    if (c == NULL) {
        return;
    }
    if (!c->done) {
        c->done = true;
        release_stream(c, PG_H2_CANCEL);
    }
    /* Its own callbacks may be on the stack. */
    pg_loop_defer(c->loop, &c->reap);
}
