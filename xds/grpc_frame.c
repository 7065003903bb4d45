/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What both sides of gRPC share: message framing in and out, codes, percent coding, grpc-timeout. Invariants:
 * memory for a message grows with the bytes that came, a message is queued whole or not at all, flow-control
 * credit goes back as bytes arrive so that a message may exceed the window. Loop thread; the deframer any
 * thread.
 */
#include "xds/grpc_int.h"

#define FRAME_HEAD 5
#define MSG_FIRST 4096u
#define MSG_KEEP 65536u /* memory kept between messages */
#define READ_PIECE 16384

const char *grpc_code_name(int code)
{
    static const char *const names[] = {
        "OK",       "Canceled",       "Unknown",          "InvalidArgument",   "DeadlineExceeded",
        "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
        "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
        "DataLoss", "Unauthenticated"};
    return code >= 0 && (size_t)code < PG_ARRAY_LEN(names) ? names[code] : "Unknown";
}

/* --- deframer
 * ------------------------------------------------------------------------------------------------- */

void grpc_deframer_init(struct grpc_deframer *d, size_t max)
{
    *d = (struct grpc_deframer){.max = max};
}

void grpc_deframer_fini(struct grpc_deframer *d)
{
    pg_free(d->msg);
    *d = (struct grpc_deframer){.max = d->max};
}

bool grpc_deframer_is_partial(const struct grpc_deframer *d)
{
    return d->have != 0;
}

/* The five bytes before a message. 1 when they are complete. */
static int take_head(struct grpc_deframer *d, struct pg_str *in)
{
    while (d->have < FRAME_HEAD && in->len != 0) {
        d->head[d->have++] = (uint8_t)in->p[0];
        *in = pg_str_sub(*in, 1);
    }
    if (d->have < FRAME_HEAD) {
        return 0;
    }
    if (d->head[0] != 0) {
        return PG_E_PROTO;
    }
    d->len = (uint32_t)d->head[1] << 24 | (uint32_t)d->head[2] << 16 | (uint32_t)d->head[3] << 8 | d->head[4];
    return d->len > d->max ? PG_E_LIMIT : 1;
}

static int make_room(struct grpc_deframer *d, size_t want)
{
    if (want <= d->cap) {
        return 0;
    }
    size_t cap = d->cap < MSG_FIRST ? MSG_FIRST : d->cap * 2;
    cap = cap < want ? want : cap > d->len ? d->len : cap;
    char *p = pg_realloc(d->msg, cap);
    if (p == NULL) {
        return PG_E_NOMEM;
    }
    d->msg = p;
    d->cap = cap;
    return 0;
}

int grpc_deframer_next(struct grpc_deframer *d, struct pg_str *in, struct pg_str *msg)
{
    if (d->have == 0 && d->cap > MSG_KEEP) {
        pg_free(d->msg);
        d->msg = NULL;
        d->cap = 0;
    }
    int r = take_head(d, in);
    if (r <= 0) {
        return r;
    }
    size_t got = d->have - FRAME_HEAD;
    if (got == 0 && in->len >= d->len) { /* whole in the input: no copy */
        *msg = pg_str_n(in->p != NULL ? in->p : "", d->len);
        *in = pg_str_sub(*in, d->len);
        d->have = 0;
        return 1;
    }
    size_t n = d->len - got < in->len ? d->len - got : in->len;
    if (n == 0) {
        return 0;
    }
    r = make_room(d, got + n);
    if (r < 0) {
        return r;
    }
    memcpy(d->msg + got, in->p, n);
    *in = pg_str_sub(*in, n);
    d->have += n;
    if (got + n < d->len) {
        return 0;
    }
    *msg = pg_str_n(d->msg, d->len);
    d->have = 0;
    return 1;
}

int grpc_recv(struct pg_h2_stream *s, struct grpc_deframer *d, bool (*deliver)(void *arg, struct pg_str msg),
              void *arg)
{
    char buf[READ_PIECE];
    for (;;) {
        ssize_t n = pg_h2_read(s, buf, sizeof(buf));
        if (n <= 0) {
            return n == 0 || n == PG_E_AGAIN ? (int)n : PG_E_RESET;
        }
        pg_h2_consumed(s, (size_t)n);
        struct pg_str in = pg_str_n(buf, (size_t)n);
        struct pg_str msg;
        int r;
        while ((r = grpc_deframer_next(d, &in, &msg)) > 0) {
            if (!deliver(arg, msg)) {
                return PG_E_CANCELLED;
            }
        }
        if (r < 0) {
            return r;
        }
    }
}

/* --- queue
 * ---------------------------------------------------------------------------------------------------- */

struct out_message {
    struct pg_list node;
    size_t len;
    size_t sent;
    char bytes[];
};

void grpc_out_init(struct grpc_out *q)
{
    pg_list_init(&q->messages);
    q->bytes = 0;
}

void grpc_out_fini(struct grpc_out *q)
{
    struct pg_list *n;
    while ((n = pg_list_pop(&q->messages)) != NULL) {
        pg_free(PG_CONTAINER_OF(n, struct out_message, node));
    }
    q->bytes = 0;
}

int grpc_out_push(struct grpc_out *q, struct pg_str msg)
{
    if (msg.len > UINT32_MAX) {
        return PG_E_LIMIT;
    }
    struct out_message *m = pg_malloc(sizeof(*m) + FRAME_HEAD + msg.len);
    if (m == NULL) {
        return PG_E_NOMEM;
    }
    *m = (struct out_message){.len = FRAME_HEAD + msg.len};
    m->bytes[0] = 0;
    for (int i = 0; i < 4; i++) {
        m->bytes[1 + i] = (char)(msg.len >> (24 - 8 * i));
    }
    if (msg.len != 0) {
        memcpy(m->bytes + FRAME_HEAD, msg.p, msg.len);
    }
    pg_list_push_back(&q->messages, &m->node);
    q->bytes += m->len;
    return 0;
}

int grpc_out_pump(struct grpc_out *q, struct pg_h2_stream *s)
{
    while (!pg_list_is_empty(&q->messages)) {
        struct out_message *m = PG_CONTAINER_OF(q->messages.next, struct out_message, node);
        struct iovec iov = {m->bytes + m->sent, m->len - m->sent};
        ssize_t n = pg_h2_writev(s, &iov, 1);
        if (n < 0) {
            return (int)n;
        }
        m->sent += (size_t)n;
        q->bytes -= (size_t)n;
        if (m->sent == m->len) {
            pg_list_remove(&m->node);
            pg_free(m);
        }
    }
    return 0;
}

/* --- texts
 * ---------------------------------------------------------------------------------------------------- */

void grpc_percent_encode(struct pg_str in, struct pg_sb *out)
{
    for (size_t i = 0; i < in.len; i++) {
        unsigned char c = (unsigned char)in.p[i];
        if (c >= 0x20 && c <= 0x7e && c != '%') {
            pg_sb_ch(out, (char)c);
        } else {
            pg_sb_fmt(out, "%%%02X", c);
        }
    }
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static void undo_percent(struct pg_str in, struct pg_sb *out)
{
    for (size_t i = 0; i < in.len; i++) {
        int hi = i + 2 < in.len && in.p[i] == '%' ? hex_value(in.p[i + 1]) : -1;
        int lo = hi >= 0 ? hex_value(in.p[i + 2]) : -1;
        if (lo >= 0) {
            pg_sb_ch(out, (char)(hi * 16 + lo));
            i += 2;
        } else {
            pg_sb_ch(out, in.p[i]);
        }
    }
}

void grpc_percent_decode(struct pg_str in, struct pg_sb *out)
{
    struct pg_sb raw;
    pg_sb_init(&raw, in.len + 1);
    undo_percent(in, &raw);
    struct pg_str rest = pg_sb_view(&raw);
    while (rest.len != 0) {
        uint32_t cp = 0;
        size_t n = pg_utf8_step(rest, &cp);
        if (n == 0 || cp == 0) {
            pg_sb_ch(out, '?');
            n = 1;
        } else {
            pg_sb_add(out, rest.p, n);
        }
        rest = pg_str_sub(rest, n);
    }
    if (raw.err != 0) {
        out->err = raw.err;
    }
    pg_sb_fini(&raw);
}

int grpc_timeout_parse(struct pg_str s, uint64_t *ms)
{
    uint64_t n = 0;
    if (s.len < 2 || s.len > 9 || pg_str_u64(pg_str_n(s.p, s.len - 1), 99999999, &n) < 0) {
        return PG_E_PARSE;
    }
    switch (s.p[s.len - 1]) {
    case 'H':
        *ms = n * 3600000;
        return 0;
    case 'M':
        *ms = n * 60000;
        return 0;
    case 'S':
        *ms = n * 1000;
        return 0;
    case 'm':
        *ms = n;
        return 0;
    case 'u':
        *ms = (n + 999) / 1000;
        return 0;
    case 'n':
        *ms = (n + 999999) / 1000000;
        return 0;
    default:
        return PG_E_PARSE;
    }
}
