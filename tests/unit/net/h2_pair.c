/* SPDX-License-Identifier: Apache-2.0 */
/* Recording owners for HTTP/2 sessions, see h2_pair.h. Loop thread. */
#include "h2_pair.h"

#include "net/loop_sim.h"
#include "transport_suite.h"

#include <string.h>

static void put(char *out, size_t cap, struct pg_str s)
{
    size_t n = s.len < cap - 1 ? s.len : cap - 1;
    if (n > 0) {
        memcpy(out, s.p, n);
    }
    out[n] = '\0';
}

static uint64_t mix(uint64_t sum, unsigned char b)
{
    return (sum ^ b) * 1099511628211ull;
}

uint64_t pattern_sum(uint64_t seed, uint64_t total)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < total; i++) {
        sum = mix(sum, suite_byte(seed, i));
    }
    return sum;
}

void side_read(struct side *x)
{
    static unsigned char buf[20000];
    while (x->s != NULL && x->read_end == 0) {
        ssize_t n = pg_h2_read(x->s, buf, sizeof(buf));
        if (n == PG_E_AGAIN) {
            return;
        }
        if (n <= 0) {
            x->read_end = n == 0 ? 1 : (int)n;
            return;
        }
        for (ssize_t i = 0; i < n; i++) {
            x->sum = mix(x->sum, buf[i]);
        }
        x->got += (uint64_t)n;
        pg_h2_consumed(x->s, (size_t)n);
    }
}

static void on_readable(struct pg_h2_stream *s, void *arg)
{
    struct side *x = arg;
    (void)s;
    x->readable++;
    if (x->auto_read) {
        side_read(x);
    }
}

static void on_writable(struct pg_h2_stream *s, void *arg)
{
    struct side *x = arg;
    (void)s;
    x->writable++;
}

static void on_head(struct pg_h2_stream *s, const struct pg_h2_head *head, bool end, void *arg)
{
    struct side *x = arg;
    (void)s;
    x->headed = true;
    x->head_end = end;
    put(x->method, sizeof(x->method), pg_h2_head_get(head, ":method"));
    put(x->authority, sizeof(x->authority), pg_h2_head_get(head, ":authority"));
    put(x->status, sizeof(x->status), pg_h2_head_get(head, ":status"));
    put(x->trailer, sizeof(x->trailer), pg_h2_head_get(head, "grpc-status"));
}

static void on_trailers(struct pg_h2_stream *s, const struct pg_h2_head *head, void *arg)
{
    struct side *x = arg;
    (void)s;
    x->trailers = true;
    put(x->trailer, sizeof(x->trailer), pg_h2_head_get(head, "grpc-status"));
}

static void on_stream_closed(struct pg_h2_stream *s, uint32_t code, int err, void *arg)
{
    struct side *x = arg;
    (void)s;
    CU_ASSERT_FALSE(x->closed);
    x->closed = true;
    x->code = code;
    x->err = err;
    if (x->close_on_closed) {
        side_read(x);
        side_close(x, PG_H2_NO_ERROR);
    }
}

static const struct pg_h2_stream_callbacks stream_cb = {on_head, on_readable, on_writable, on_trailers,
                                                        on_stream_closed};

static void on_request(struct pg_h2 *h, struct pg_h2_stream *s, const struct pg_h2_head *head, bool end,
                       void *arg)
{
    struct pair *p = arg;
    if (p->free_in_request) {
        p->server = NULL;
        pg_h2_free(h);
        pg_h2_stream_close(s, PG_H2_CANCEL);
        return;
    }
    if (p->ns == PAIR_STREAMS) { /* only floods make that many */
        pg_h2_stream_close(s, PG_H2_REFUSED_STREAM);
        return;
    }
    struct side *x = &p->s[p->ns++];
    *x = (struct side){.pair = p, .s = s, .server = true};
    on_head(s, head, end, x);
    pg_h2_stream_set_owner(s, &stream_cb, x);
    if (p->auto_respond) {
        x->auto_read = true;
        (void)!side_respond(x, "200", false);
    }
}

static void on_goaway(struct pg_h2 *h, uint32_t code, void *arg)
{
    struct pair *p = arg;
    (void)code;
    p->client_goaways += h == p->client;
}

static void on_settings(struct pg_h2 *h, void *arg)
{
    struct pair *p = arg;
    (void)h;
    p->settings++;
}

static void on_closed(struct pg_h2 *h, int err, const char *text, void *arg)
{
    struct pair *p = arg;
    if (h == p->client) {
        p->client_closed = true;
        p->client_err = err;
        put(p->client_text, sizeof(p->client_text), pg_str_c(text));
        pg_h2_get_stats(h, &p->client_stats);
        p->client = NULL;
    } else {
        p->server_closed = true;
        p->server_err = err;
        put(p->server_text, sizeof(p->server_text), pg_str_c(text));
        pg_h2_get_stats(h, &p->server_stats);
        p->server = NULL;
    }
    pg_h2_free(h);
}

static const struct pg_h2_callbacks session_cb = {on_request, on_goaway, on_closed, on_settings};

int pair_start(struct pair *p, struct pg_loop *l, struct pg_transport *ct, struct pg_transport *st,
               const struct pg_h2_options *co, const struct pg_h2_options *so)
{
    struct pg_h2_options c;
    struct pg_h2_options s;
    int r = 0;
    pg_h2_options_hbone(&c, false);
    pg_h2_options_hbone(&s, true);
    p->loop = l;
    if (ct != NULL) {
        r = pg_h2_client_new(l, ct, co != NULL ? co : &c, &session_cb, p, &p->client);
        if (r < 0) {
            pg_transport_close(ct);
        }
    }
    if (st != NULL) {
        int q = pg_h2_server_new(l, st, so != NULL ? so : &s, &session_cb, p, &p->server);
        if (q < 0) {
            pg_transport_close(st);
            r = q;
        }
    }
    return r;
}

int pair_mem(struct pair *p, struct pg_loop *l, size_t cap)
{
    struct pg_transport *a;
    struct pg_transport *b;
    int r = pg_mem_pair(l, cap, &a, &b);
    return r < 0 ? r : pair_start(p, l, a, b, NULL, NULL);
}

int pair_raw_server(struct pair *p, struct pg_loop *l, const struct pg_h2_options *o, size_t cap)
{
    struct pg_transport *b;
    int r = pg_mem_pair(l, cap, &p->raw, &b);
    return r < 0 ? r : pair_start(p, l, NULL, b, NULL, o);
}

int pair_raw_client(struct pair *p, struct pg_loop *l, const struct pg_h2_options *o, size_t cap)
{
    struct pg_transport *a;
    int r = pg_mem_pair(l, cap, &a, &p->raw);
    return r < 0 ? r : pair_start(p, l, a, NULL, o, NULL);
}

void pair_free(struct pair *p)
{
    for (size_t i = 0; i < p->nc; i++) {
        side_close(&p->c[i], PG_H2_CANCEL);
    }
    pg_h2_free(p->client);
    pg_h2_free(p->server);
    for (size_t i = 0; i < p->ns; i++) {
        side_close(&p->s[i], PG_H2_CANCEL);
    }
    pg_transport_close(p->raw);
    p->client = NULL;
    p->server = NULL;
    p->raw = NULL;
}

void pair_settle(struct pair *p)
{
    (void)pg_loop_sim_settle(p->loop, 20000);
}

int pair_request(struct pair *p, const char *method, bool end, struct side **out)
{
    bool connect = strcmp(method, "CONNECT") == 0;
    const struct pg_h2_field fields[] = {
        {PG_STR(":method"), pg_str_c(method), false},
        {PG_STR(":authority"), PG_STR("10.1.2.3:80"), false},
        {PG_STR(":scheme"), PG_STR("https"), false},
        {PG_STR(":path"), PG_STR("/x"), false},
        {PG_STR("authorization"), PG_STR("Bearer secret"), true},
    };
    const struct pg_h2_head head = {fields, connect ? 2 : 5};
    if (p->nc == PAIR_STREAMS) {
        return PG_E_LIMIT;
    }
    struct side *x = &p->c[p->nc];
    *x = (struct side){.pair = p};
    int r = pg_h2_request(p->client, &head, end, &stream_cb, x, &x->s);
    if (r == 0) {
        p->nc++;
        *out = x;
    }
    return r;
}

int side_respond(struct side *x, const char *status, bool end)
{
    const struct pg_h2_field fields[] = {
        {PG_STR(":status"), pg_str_c(status), false},
        {PG_STR("grpc-status"), PG_STR("head"), false},
    };
    const struct pg_h2_head head = {fields, end ? 2 : 1};
    return pg_h2_respond(x->s, &head, end);
}

int side_trailers(struct side *x, const char *grpc_status)
{
    const struct pg_h2_field fields[] = {{PG_STR("grpc-status"), pg_str_c(grpc_status), false}};
    const struct pg_h2_head head = {fields, 1};
    return pg_h2_trailers(x->s, &head);
}

int side_write(struct side *x, uint64_t seed, uint64_t *at, uint64_t total)
{
    unsigned char buf[8000];
    while (*at < total) {
        size_t n = total - *at < sizeof(buf) ? (size_t)(total - *at) : sizeof(buf);
        for (size_t i = 0; i < n; i++) {
            buf[i] = suite_byte(seed, *at + i);
        }
        struct iovec iov[2] = {{buf, n / 3}, {buf + n / 3, n - n / 3}};
        ssize_t r = pg_h2_writev(x->s, iov, 2);
        if (r < 0) {
            return (int)r;
        }
        *at += (uint64_t)r;
    }
    return 0;
}

void side_close(struct side *x, uint32_t code)
{
    pg_h2_stream_close(x->s, code);
    x->s = NULL;
}
