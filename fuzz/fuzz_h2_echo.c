/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client and an echoing server session over a transport that splits and stalls by a seed of the input; the
 * input says what the client does with its streams. What comes back is what was sent, byte for byte, and a
 * stream that was ended and left alone ends cleanly. One thread, virtual time.
 */
#include "h2_kit.h"

#define STREAMS 8u

struct end { /* one stream of the client */
    struct pg_h2_stream *s;
    uint64_t sent, got;
    bool ended, spoiled, closed, done;
    uint32_t code;
};
struct world {
    struct kit server;
    struct pg_h2 *client;
    struct end e[STREAMS];
    bool client_closed;
};

static char byte_at(const struct end *x, const struct world *w, uint64_t at)
{
    return (char)((uint64_t)(x - w->e) * 37 + at * 7 + at / 251);
}

static void read_end(struct world *w, struct end *x)
{
    char buf[3000];
    while (x->s != NULL && !x->done) {
        ssize_t n = pg_h2_read(x->s, buf, sizeof(buf));
        if (n == PG_E_AGAIN) {
            return;
        }
        if (n <= 0) {
            x->done = true;
            PG_BUG_ON(n == 0 && !x->ended);
            PG_BUG_ON(n < 0 && !x->spoiled);
            return;
        }
        for (ssize_t i = 0; i < n; i++) {
            PG_BUG_ON(buf[i] != byte_at(x, w, x->got));
            x->got++;
        }
        PG_BUG_ON(x->got > x->sent);
        pg_h2_consumed(x->s, (size_t)n);
    }
}

static struct world *world_now;

static void on_response(struct pg_h2_stream *s, const struct pg_h2_head *head, bool end, void *arg)
{
    PG_BUG_ON(((struct end *)arg)->s != s || end || !pg_str_eq_c(pg_h2_head_get(head, ":status"), "200"));
}
static void on_readable(struct pg_h2_stream *s, void *arg)
{
    PG_BUG_ON(((struct end *)arg)->s != s);
    read_end(world_now, arg);
}
static void on_closed(struct pg_h2_stream *s, uint32_t code, int err, void *arg)
{
    struct end *x = arg;
    PG_BUG_ON(x->s != s || x->closed);
    PG_BUG_ON(err != 0 && !x->spoiled);
    x->closed = true;
    x->code = code;
}
static const struct pg_h2_stream_callbacks client_cb = {on_response, on_readable, NULL, NULL, on_closed};

static void session_goaway(struct pg_h2 *h, uint32_t code, void *arg)
{
    (void)h;
    (void)code;
    (void)arg;
}
static void session_closed(struct pg_h2 *h, int err, const char *text, void *arg)
{
    struct world *w = arg;
    (void)err;
    (void)text;
    w->client_closed = true;
    w->client = NULL;
    pg_h2_free(h);
}
static const struct pg_h2_callbacks session_cb = {NULL, session_goaway, session_closed, NULL};

static void start(struct world *w, struct pg_str *in)
{
    struct pg_transport *a, *b;
    struct pg_h2_options co, so;
    struct pg_chaos_options chaos = {.reset_at_read = UINT64_MAX, .reset_at_write = UINT64_MAX};
    chaos.seed = fuzz_u8(in);
    chaos.split_pct = fuzz_u8(in) % 100;
    chaos.again_pct = fuzz_u8(in) % 60;
    chaos.max_piece = 1u + fuzz_u8(in) * 8u;
    PG_BUG_ON(pg_loop_new(&w->server.loop) < 0);
    struct pg_loop *l = w->server.loop;
    PG_BUG_ON(pg_mem_pair(l, 1024u + 64u * fuzz_u8(in), &a, &b) < 0);
    PG_BUG_ON(pg_chaos_new(l, a, &chaos, &a) < 0);
    pg_h2_options_hbone(&co, false);
    pg_h2_options_hbone(&so, true);
    co.stream_window = so.stream_window = 65535;
    co.send_buffer = so.send_buffer = 1024u + 64u * fuzz_u8(in);
    PG_BUG_ON(pg_h2_client_new(l, a, &co, &session_cb, w, &w->client) < 0);
    PG_BUG_ON(pg_h2_server_new(l, b, &so, &kit_cb, &w->server, &w->server.h2) < 0);
}

static void request(struct world *w, struct end *x)
{
    const struct pg_h2_field fields[] = {
        {PG_STR(":method"), PG_STR("CONNECT"), false},
        {PG_STR(":authority"), PG_STR("10.1.2.3:80"), false},
    };
    const struct pg_h2_head head = {fields, 2};
    *x = (struct end){0};
    PG_BUG_ON(pg_h2_request(w->client, &head, false, &client_cb, x, &x->s) < 0);
}

static void send_some(struct world *w, struct end *x, size_t want)
{
    char buf[2048];
    want = want < sizeof(buf) ? want : sizeof(buf);
    for (size_t i = 0; i < want; i++) {
        buf[i] = byte_at(x, w, x->sent + i);
    }
    struct iovec iov[2] = {{buf, want / 2}, {buf + want / 2, want - want / 2}};
    ssize_t n = want > 0 ? pg_h2_writev(x->s, iov, 2) : PG_E_AGAIN;
    PG_BUG_ON(n == 0 || (n < 0 && n != PG_E_AGAIN && !x->spoiled));
    x->sent += n > 0 ? (uint64_t)n : 0;
}

static void act(struct world *w, uint8_t op, struct pg_str *in)
{
    struct end *x = &w->e[op % STREAMS];
    unsigned what = op / STREAMS % 8;
    if (x->s == NULL) {
        if (what < 5) {
            request(w, x);
        }
        return;
    }
    switch (what) {
    case 0:
    case 1:
    case 2:
        if (!x->ended) {
            send_some(w, x, 1u + fuzz_u8(in) * 8u);
        }
        break;
    case 3:
        if (!x->ended) {
            x->ended = true;
            PG_BUG_ON(pg_h2_end(x->s) < 0);
        }
        break;
    case 4:
        pg_h2_stream_close(x->s, PG_H2_CANCEL);
        *x = (struct end){0};
        break;
    case 5:
        pg_loop_sim_advance(w->server.loop, fuzz_u8(in) * 10u);
        break;
    default:
        for (unsigned i = fuzz_u8(in) % 16; i > 0; i--) {
            pg_loop_turn(w->server.loop, false);
        }
    }
}

static void one(struct pg_str in)
{
    static struct world world;
    struct world *w = &world;
    *w = (struct world){0};
    world_now = w;
    start(w, &in);
    pg_loop_sim_advance(w->server.loop, 100);
    for (unsigned steps = 0; in.len > 0 && steps < 400 && w->server.n < KIT_STREAMS - STREAMS; steps++) {
        act(w, fuzz_u8(&in), &in);
    }
    for (size_t i = 0; i < STREAMS; i++) {
        struct end *x = &w->e[i];
        if (x->s != NULL && !x->ended) {
            x->ended = true;
            PG_BUG_ON(pg_h2_end(x->s) < 0);
        }
    }
    for (int i = 0; i < 3; i++) { /* pieces of a byte take many turns */
        PG_BUG_ON(!pg_loop_sim_settle(w->server.loop, 400000));
        pg_loop_sim_advance(w->server.loop, 1000);
    }
    PG_BUG_ON(w->client == NULL || w->server.h2 == NULL);
    for (size_t i = 0; i < STREAMS; i++) {
        struct end *x = &w->e[i];
        PG_BUG_ON(x->s != NULL && (!x->done || !x->closed || x->got != x->sent || x->code != PG_H2_NO_ERROR));
        pg_h2_stream_close(x->s, PG_H2_CANCEL);
    }
    pg_h2_free(w->client);
    kit_fini(&w->server);
}
FUZZ_TARGET(one, fuzz_no_init)
