/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CONNECT, client side. Invariant: exactly one of the callback and cancel ends a request; the stream handle
 * is either handed on as a transport or closed here. Worker thread.
 */
#include "hbone/connect.h"

#include <stdio.h>

struct hb_connect {
    struct pg_h2_stream *stream;
    void (*cb)(void *arg, const struct hb_connect_answer *a);
    void *arg;
};

static const char *reason(int status)
{
    switch (status) {
    case 400:
        return " Bad Request";
    case 401:
        return " Unauthorized";
    case 403:
        return " Forbidden";
    case 404:
        return " Not Found";
    case 503:
        return " Service Unavailable";
    default:
        return "";
    }
}

static void finish(struct hb_connect *c, const struct hb_connect_answer *a)
{
    void (*cb)(void *, const struct hb_connect_answer *) = c->cb;
    void *arg = c->arg;
    if (c->stream != NULL) {
        pg_h2_stream_close(c->stream, PG_H2_CANCEL);
    }
    pg_free(c);
    cb(arg, a);
}

static void on_response(struct pg_h2_stream *s, const struct pg_h2_head *head, bool end, void *arg)
{
    struct hb_connect *c = arg;
    struct hb_connect_answer a = {.baggage = pg_h2_head_get(head, "baggage")};
    uint64_t status = 0;
    if (pg_str_u64(pg_h2_head_get(head, ":status"), 999, &status) < 0) {
        a.err = PG_E_PROTO;
        (void)snprintf(a.text, sizeof(a.text), "h2 failed: no status in the answer");
        finish(c, &a);
        return;
    }
    a.status = (int)status;
    if (status != 200 || end) {
        a.err = status == 200 ? PG_E_CLOSED : PG_E_DENIED;
        (void)snprintf(a.text, sizeof(a.text), "http status: %d%s", a.status, reason(a.status));
        finish(c, &a);
        return;
    }
    a.err = pg_h2_stream_transport(s, &a.stream);
    if (a.err == 0) {
        c->stream = NULL;
    } else {
        (void)snprintf(a.text, sizeof(a.text), "h2 failed: %s", pg_err_str(a.err));
    }
    finish(c, &a);
}

static void on_closed(struct pg_h2_stream *s, uint32_t code, int err, void *arg)
{
    (void)s;
    struct hb_connect *c = arg;
    struct hb_connect_answer a = {.err = err != 0 ? err : PG_E_RESET};
    if (code != PG_H2_NO_ERROR) {
        (void)snprintf(a.text, sizeof(a.text), "h2 failed: stream was reset before an answer, code %u", code);
    } else {
        (void)snprintf(a.text, sizeof(a.text), "h2 failed: %s before an answer", pg_err_str(a.err));
    }
    finish(c, &a);
}

static const struct pg_h2_stream_callbacks callbacks = {.on_response = on_response, .on_closed = on_closed};

int hb_connect_start(struct pg_h2 *h2, const struct hb_connect_head *head,
                     void (*cb)(void *arg, const struct hb_connect_answer *a), void *arg,
                     struct hb_connect **out)
{
    struct hb_connect *c = pg_calloc(1, sizeof(*c));
    if (c == NULL) {
        return PG_E_NOMEM;
    }
    struct pg_h2_field fields[6];
    size_t n = 0;
    fields[n++] = (struct pg_h2_field){.name = PG_STR(":method"), .value = PG_STR("CONNECT")};
    fields[n++] = (struct pg_h2_field){.name = PG_STR(":authority"), .value = head->authority};
    const struct pg_h2_field rest[] = {{.name = PG_STR("baggage"), .value = head->baggage},
                                       {.name = PG_STR("forwarded"), .value = head->forwarded},
                                       {.name = PG_STR("traceparent"), .value = head->traceparent},
                                       {.name = PG_STR("x-forwarded-network"), .value = head->network}};
    for (size_t i = 0; i < PG_ARRAY_LEN(rest); i++) {
        if (rest[i].value.len > 0) {
            fields[n++] = rest[i];
        }
    }
    c->cb = cb;
    c->arg = arg;
    struct pg_h2_head h = {fields, n};
    int r = pg_h2_request(h2, &h, false, &callbacks, c, &c->stream);
    if (r < 0) {
        pg_free(c);
        return r;
    }
    *out = c;
    return 0;
}

void hb_connect_cancel(struct hb_connect *c)
{
    if (c != NULL) {
        pg_h2_stream_close(c->stream, PG_H2_CANCEL);
        pg_free(c);
    }
}
