/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gRPC: the deframer over every split, and calls between our client and our server over real HTTP/2 sessions
 * joined in memory, in virtual time.
 */
#include "core/map.h"
#include "net/h2.h"
#include "net/loop.h"
#include "net/loop_sim.h"
#include "xds/grpc_int.h"

#include "testlib.h"

/* --- deframer
 * --------------------------------------------------------------------------------------------------- */

static void frame(struct pg_sb *sb, const char *msg, size_t len)
{
    char head[5] = {0, (char)(len >> 24), (char)(len >> 16), (char)(len >> 8), (char)len};
    pg_sb_add(sb, head, 5);
    pg_sb_add(sb, msg, len);
}

/* Feeds `in` cut at `a` and `b`; what came out is joined with commas. */
static int feed(struct pg_str in, size_t a, size_t b, struct pg_sb *out)
{
    struct grpc_deframer d;
    size_t cuts[] = {0, a, b, in.len};
    int r = 0;
    grpc_deframer_init(&d, 9000);
    for (size_t i = 0; i < 3 && r >= 0; i++) {
        char *copy = pg_memdup(in.p + cuts[i], cuts[i + 1] - cuts[i]); /* an exact block, for ASan */
        struct pg_str piece = pg_str_n(copy, cuts[i + 1] - cuts[i]);
        struct pg_str msg;
        while ((r = grpc_deframer_next(&d, &piece, &msg)) > 0) {
            pg_sb_str(out, msg);
            pg_sb_ch(out, ',');
        }
        CU_ASSERT(r < 0 || piece.len == 0);
        pg_free(copy);
    }
    CU_ASSERT(r < 0 || !grpc_deframer_is_partial(&d));
    grpc_deframer_fini(&d);
    return r;
}

static void deframer_splits(void)
{
    struct pg_sb in, out;
    pg_sb_init(&in, 65536);
    pg_sb_init(&out, 65536);
    frame(&in, "hello", 5);
    frame(&in, "", 0);
    frame(&in, "a longer message", 16);
    for (size_t a = 0; a <= in.len; a++) {
        for (size_t b = a; b <= in.len; b++) {
            pg_sb_reset(&out);
            CU_ASSERT_EQUAL(feed(pg_sb_view(&in), a, b, &out), 0);
            CU_ASSERT(pg_str_eq_c(pg_sb_view(&out), "hello,,a longer message,"));
        }
    }
    pg_sb_fini(&in);
    pg_sb_fini(&out);
}

static void deframer_refusals(void)
{
    struct pg_sb out;
    struct grpc_deframer d;
    struct pg_str msg;
    pg_sb_init(&out, 65536);
    CU_ASSERT_EQUAL(feed(PG_STR("\0\0\0\x23\x29"), 1, 3, &out), PG_E_LIMIT); /* 9001 */
    CU_ASSERT_EQUAL(feed(PG_STR("\x01\0\0\0\x01x"), 0, 5, &out), PG_E_PROTO);
    CU_ASSERT_EQUAL(feed(PG_STR("\xff\0\0\0\x01x"), 0, 5, &out), PG_E_PROTO);
    /* A gigabyte is announced, a few bytes come: memory follows the bytes. */
    grpc_deframer_init(&d, SIZE_MAX);
    struct pg_str in = PG_STR("\0\x40\0\0\0abcdef");
    CU_ASSERT_EQUAL(grpc_deframer_next(&d, &in, &msg), 0);
    CU_ASSERT(d.cap <= 4096);
    CU_ASSERT(grpc_deframer_is_partial(&d));
    grpc_deframer_fini(&d);
    pg_sb_fini(&out);
}

static void texts(void)
{
    static const struct {
        const char *in, *coded;
    } pairs[] = {{"plain text", "plain text"}, {"a%b", "a%25b"}, {"n\xc3\xa9\n", "n%C3%A9%0A"}};
    struct pg_sb sb;
    pg_sb_init(&sb, 4096);
    for (size_t i = 0; i < PG_ARRAY_LEN(pairs); i++) {
        pg_sb_reset(&sb);
        grpc_percent_encode(pg_str_c(pairs[i].in), &sb);
        CU_ASSERT(pg_str_eq_c(pg_sb_view(&sb), pairs[i].coded));
        pg_sb_reset(&sb);
        grpc_percent_decode(pg_str_c(pairs[i].coded), &sb);
        CU_ASSERT(pg_str_eq_c(pg_sb_view(&sb), pairs[i].in));
    }
    pg_sb_reset(&sb);
    grpc_percent_decode(PG_STR("%zz%4%ff%00%"), &sb);
    CU_ASSERT(pg_str_eq_c(pg_sb_view(&sb), "%zz%4??%"));
    pg_sb_fini(&sb);
    uint64_t ms = 0;
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {{"1H", 3600000}, {"2M", 120000}, {"3S", 3000},           {"4m", 4},
                {"5u", 1},       {"6n", 1},      {"99999999m", 99999999}};
    for (size_t i = 0; i < PG_ARRAY_LEN(good); i++) {
        CU_ASSERT_EQUAL(grpc_timeout_parse(pg_str_c(good[i].text), &ms), 0);
        CU_ASSERT_EQUAL(ms, good[i].ms);
    }
    static const char *const bad[] = {"", "m", "1", "1s", "-1m", "123456789m", "1 m"};
    for (size_t i = 0; i < PG_ARRAY_LEN(bad); i++) {
        CU_ASSERT_EQUAL(grpc_timeout_parse(pg_str_c(bad[i]), &ms), PG_E_PARSE);
    }
    CU_ASSERT_STRING_EQUAL(grpc_code_name(GRPC_UNAVAILABLE), "Unavailable");
    CU_ASSERT_STRING_EQUAL(grpc_code_name(GRPC_UNAUTHENTICATED), "Unauthenticated");
    CU_ASSERT_STRING_EQUAL(grpc_code_name(99), "Unknown");
}

/* --- two sessions joined in memory
 * ------------------------------------------------------------------------------ */

struct world {
    struct pg_loop *loop;
    struct pg_h2 *client, *server;
    struct grpc_call *call;
    /* what the server saw and does */
    struct grpc_stream *stream;
    size_t messages, half_closes, closes, writables;
    size_t last_len;
    bool echo, refuse, raw; /* raw: no gRPC on the server, `raw_request` answers */
    void (*raw_request)(struct world *w, struct pg_h2_stream *s);
    struct pg_h2_stream *raw_stream;
    /* what the client saw */
    size_t opens, replies, statuses;
    size_t reply_len;
    uint64_t reply_digest;
    int code;
    char text[256];
    bool client_over;
};

static int server_open(struct grpc_stream *s, const struct pg_h2_head *md, void *arg, struct pg_errtext *text)
{
    struct world *w = arg;
    CU_ASSERT(pg_str_eq_c(pg_h2_head_get(md, "x-test"), "yes"));
    CU_ASSERT(pg_str_eq_c(pg_h2_head_get(md, "te"), "trailers"));
    if (w->refuse) {
        pg_err_set(text, "go away: 100%%");
        return GRPC_UNAUTHENTICATED;
    }
    w->stream = s;
    CU_ASSERT_PTR_EQUAL(grpc_stream_session(s), w->server);
    return GRPC_OK;
}

static void server_message(struct grpc_stream *s, struct pg_str msg, void *arg)
{
    struct world *w = arg;
    w->messages++;
    w->last_len = msg.len;
    if (w->echo) {
        int r = grpc_stream_send(s, msg);
        CU_ASSERT(r == 0 || r == PG_E_NOMEM);
        if (r < 0) {
            grpc_stream_finish(s, GRPC_INTERNAL, "");
        }
    }
}

static void server_half_close(struct grpc_stream *s, void *arg)
{
    struct world *w = arg;
    w->half_closes++;
    grpc_stream_finish(s, GRPC_OK, "");
}

static void server_closed(struct grpc_stream *s, void *arg)
{
    struct world *w = arg;
    CU_ASSERT_PTR_EQUAL(s, w->stream);
    w->stream = NULL;
    w->closes++;
}

static void server_writable(struct grpc_stream *s, void *arg)
{
    (void)s;
    ((struct world *)arg)->writables++;
}

static const struct grpc_handler handlers[] = {{.path = "/pkg.Svc/Do",
                                                .max_message = 1u << 20,
                                                .on_open = server_open,
                                                .on_message = server_message,
                                                .on_half_close = server_half_close,
                                                .on_closed = server_closed,
                                                .on_writable = server_writable}};

static void on_request(struct pg_h2 *h, struct pg_h2_stream *s, const struct pg_h2_head *head, bool end,
                       void *arg)
{
    struct world *w = arg;
    (void)h;
    if (w->raw) {
        w->raw_request(w, s);
        return;
    }
    grpc_server_request(w->loop, s, head, end, handlers, 1, w);
}

static void on_session_closed(struct pg_h2 *h, int err, const char *text, void *arg)
{
    struct world *w = arg;
    (void)err;
    (void)text;
    if (h == w->client) {
        w->client = NULL;
        w->client_over = true;
    } else {
        w->server = NULL;
    }
    pg_h2_free(h);
}

static void client_open(struct grpc_call *c, void *arg)
{
    (void)c;
    ((struct world *)arg)->opens++;
}

static void client_message(struct grpc_call *c, struct pg_str msg, void *arg)
{
    struct world *w = arg;
    (void)c;
    w->replies++;
    w->reply_len = msg.len;
    w->reply_digest = pg_digest64(msg.p, msg.len);
}

static void client_status(struct grpc_call *c, int code, struct pg_str text, void *arg)
{
    struct world *w = arg;
    w->statuses++;
    w->code = code;
    (void)snprintf(w->text, sizeof(w->text), "%.*s", PG_STR_ARG(text));
    grpc_call_free(c);
    w->call = NULL;
}

static int world_open(struct world *w, size_t pipe)
{
    static const struct pg_h2_callbacks callbacks = {.on_request = on_request,
                                                     .on_closed = on_session_closed};
    struct pg_transport *a = NULL, *b = NULL;
    struct pg_h2_options o;
    *w = (struct world){.code = -1};
    int r = pg_loop_new(&w->loop);
    if (r < 0) {
        w->loop = NULL;
        return r;
    }
    r = pg_mem_pair(w->loop, pipe, &a, &b);
    if (r < 0) {
        return r;
    }
    pg_h2_options_grpc(&o, false);
    o.stream_window = 65535;
    o.connection_window = 65535;
    r = pg_h2_client_new(w->loop, a, &o, &callbacks, w, &w->client);
    if (r < 0) {
        pg_transport_close(a);
        pg_transport_close(b);
        return r;
    }
    pg_h2_options_grpc(&o, true);
    r = pg_h2_server_new(w->loop, b, &o, &callbacks, w, &w->server);
    if (r < 0) {
        pg_transport_close(b);
    }
    return r;
}

static void world_close(struct world *w)
{
    if (w->loop == NULL) {
        return;
    }
    grpc_call_free(w->call);
    if (w->stream != NULL) {
        grpc_stream_abort(w->stream);
        w->stream = NULL;
    }
    pg_h2_stream_close(w->raw_stream, PG_H2_CANCEL);
    pg_h2_free(w->client);
    pg_h2_free(w->server);
    pg_loop_free(w->loop);
}

static void run(struct world *w, int turns)
{
    for (int i = 0; i < turns; i++) {
        pg_loop_turn(w->loop, false);
    }
}

static int call(struct world *w, const char *path, uint64_t deadline_ms, size_t max)
{
    static const struct grpc_call_callbacks callbacks = {client_open, client_message, client_status};
    const struct grpc_metadata md = {"x-test", PG_STR("yes"), true};
    return grpc_call_new(w->loop, w->client, path, "host", &md, 1, deadline_ms, max, &callbacks, w, &w->call);
}

static void opened(struct world *w)
{
    CU_ASSERT_EQUAL_FATAL(world_open(w, 65536), 0);
    run(w, 10);
}

static void unary(void)
{
    struct world w;
    size_t live = pg_mem_live_blocks();
    opened(&w);
    w.echo = true;
    CU_ASSERT_EQUAL_FATAL(call(&w, "/pkg.Svc/Do", 0, 1000), 0);
    CU_ASSERT_EQUAL(grpc_call_send(w.call, PG_STR("ping")), 0);
    CU_ASSERT_EQUAL(grpc_call_half_close(w.call), 0);
    run(&w, 20);
    CU_ASSERT_EQUAL(w.messages, 1);
    CU_ASSERT_EQUAL(w.half_closes, 1);
    CU_ASSERT_EQUAL(w.closes, 1);
    CU_ASSERT_EQUAL(w.opens, 1);
    CU_ASSERT_EQUAL(w.replies, 1);
    CU_ASSERT_EQUAL(w.reply_len, 4);
    CU_ASSERT_EQUAL(w.statuses, 1);
    CU_ASSERT_EQUAL(w.code, GRPC_OK);
    CU_ASSERT_EQUAL(pg_h2_active(w.client), 0);
    CU_ASSERT_EQUAL(pg_h2_active(w.server), 0);
    world_close(&w);
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), live);
}

static void streaming_both_ways(void)
{
    struct world w;
    opened(&w);
    w.echo = true;
    CU_ASSERT_EQUAL_FATAL(call(&w, "/pkg.Svc/Do", 0, 1u << 20), 0);
    for (int i = 0; i < 50; i++) {
        char msg[3000];
        memset(msg, i, sizeof(msg));
        CU_ASSERT_EQUAL(grpc_call_send(w.call, pg_str_n(msg, (size_t)i * 60)), 0);
        run(&w, i % 3);
    }
    run(&w, 60);
    CU_ASSERT_EQUAL(w.messages, 50);
    CU_ASSERT_EQUAL(w.replies, 50);
    CU_ASSERT_EQUAL(w.reply_len, 49 * 60);
    CU_ASSERT_EQUAL(w.statuses, 0);
    grpc_stream_finish(w.stream, GRPC_FAILED_PRECONDITION, "enough \xc3\xa9");
    CU_ASSERT_EQUAL(grpc_stream_send(w.stream, PG_STR("late")), PG_E_CLOSED);
    run(&w, 20);
    CU_ASSERT_EQUAL(w.closes, 1);
    CU_ASSERT_EQUAL(w.code, GRPC_FAILED_PRECONDITION);
    CU_ASSERT_STRING_EQUAL(w.text, "enough \xc3\xa9");
    CU_ASSERT_EQUAL(pg_h2_active(w.client) + pg_h2_active(w.server), 0);
    world_close(&w);
}

/* A message far larger than every window on the way. */
static void big_message(void)
{
    struct world w;
    opened(&w);
    CU_ASSERT_EQUAL_FATAL(call(&w, "/pkg.Svc/Do", 0, 32u << 20), 0);
    CU_ASSERT_EQUAL(grpc_call_send(w.call, PG_STR("go")), 0);
    run(&w, 10);
    CU_ASSERT_PTR_NOT_NULL_FATAL(w.stream);
    size_t len = 20u << 20;
    char *big = pg_malloc(len);
    for (size_t i = 0; i < len; i++) {
        big[i] = (char)(i * 31 + (i >> 13));
    }
    CU_ASSERT_EQUAL(grpc_stream_send(w.stream, pg_str_n(big, len)), 0);
    CU_ASSERT(grpc_stream_queued(w.stream) > 19u << 20);
    for (int i = 0; i < 20000 && w.replies == 0; i++) {
        run(&w, 1);
    }
    CU_ASSERT_EQUAL(w.replies, 1);
    CU_ASSERT_EQUAL(w.reply_len, len);
    CU_ASSERT_EQUAL(w.reply_digest, pg_digest64(big, len));
    CU_ASSERT_EQUAL(grpc_stream_queued(w.stream), 0);
    CU_ASSERT_EQUAL(w.writables, 1);
    pg_free(big);
    world_close(&w);
}

static void queue_cap(void)
{
    struct world w;
    opened(&w);
    CU_ASSERT_EQUAL_FATAL(call(&w, "/pkg.Svc/Do", 0, 200u << 20), 0);
    CU_ASSERT_EQUAL(grpc_call_send(w.call, PG_STR("go")), 0);
    run(&w, 10);
    size_t len = 40u << 20;
    char *big = pg_calloc(1, len);
    CU_ASSERT_EQUAL(grpc_stream_send(w.stream, pg_str_n(big, len)), 0);
    size_t queued = grpc_stream_queued(w.stream);
    CU_ASSERT_EQUAL(grpc_stream_send(w.stream, pg_str_n(big, len)), PG_E_AGAIN);
    CU_ASSERT_EQUAL(grpc_stream_queued(w.stream), queued);
    CU_ASSERT_EQUAL(grpc_call_send(w.call, pg_str_n(big, GRPC_CALL_QUEUE_MAX + 1)), PG_E_LIMIT);
    /* A client that does not read cannot keep a finished stream for ever. */
    pg_h2_free(w.client);
    w.client = NULL;
    grpc_call_free(w.call);
    w.call = NULL;
    run(&w, 20);
    CU_ASSERT_EQUAL(w.closes, 1);
    pg_free(big);
    world_close(&w);
}

static void refusals(void)
{
    struct world w;
    opened(&w);
    w.refuse = true;
    CU_ASSERT_EQUAL_FATAL(call(&w, "/pkg.Svc/Do", 0, 1000), 0);
    run(&w, 20);
    CU_ASSERT_EQUAL(w.statuses, 1);
    CU_ASSERT_EQUAL(w.code, GRPC_UNAUTHENTICATED); /* trailers only */
    CU_ASSERT_STRING_EQUAL(w.text, "go away: 100%");
    CU_ASSERT_EQUAL(w.opens + w.closes, 0);
    w.refuse = false;
    CU_ASSERT_EQUAL_FATAL(call(&w, "/pkg.Other/Do", 0, 1000), 0);
    run(&w, 20);
    CU_ASSERT_EQUAL(w.code, GRPC_UNIMPLEMENTED);
    CU_ASSERT_STRING_EQUAL(w.text, "unknown service pkg.Other");
    /* Larger than the server takes. */
    CU_ASSERT_EQUAL_FATAL(call(&w, "/pkg.Svc/Do", 0, 1000), 0);
    char *big = pg_calloc(1, 2u << 20);
    CU_ASSERT_EQUAL(grpc_call_send(w.call, pg_str_n(big, 2u << 20)), 0);
    run(&w, 60);
    CU_ASSERT_EQUAL(w.code, GRPC_RESOURCE_EXHAUSTED);
    CU_ASSERT_STRING_EQUAL(w.text, "grpc: received message larger than max (2097152 vs. 1048576)");
    /* Larger than the client takes. */
    w.echo = true;
    CU_ASSERT_EQUAL_FATAL(call(&w, "/pkg.Svc/Do", 0, 10), 0);
    CU_ASSERT_EQUAL(grpc_call_send(w.call, pg_str_n(big, 11)), 0);
    run(&w, 60);
    CU_ASSERT_EQUAL(w.code, GRPC_RESOURCE_EXHAUSTED);
    CU_ASSERT_STRING_EQUAL(w.text, "grpc: received message larger than max (11 vs. 10)");
    CU_ASSERT_EQUAL(w.statuses, 4);
    CU_ASSERT_EQUAL(pg_h2_active(w.client) + pg_h2_active(w.server), 0);
    pg_free(big);
    world_close(&w);
}

static void deadlines(void)
{
    struct world w;
    opened(&w);
    CU_ASSERT_EQUAL_FATAL(call(&w, "/pkg.Svc/Do", 1500, 1000), 0);
    CU_ASSERT_EQUAL(grpc_call_send(w.call, PG_STR("x")), 0);
    uint64_t start = pg_loop_now_ms(w.loop);
    while (w.statuses == 0 && pg_loop_now_ms(w.loop) < start + 5000) {
        pg_loop_turn(w.loop, true);
    }
    CU_ASSERT_EQUAL(w.statuses, 1);
    CU_ASSERT_EQUAL(w.code, GRPC_DEADLINE_EXCEEDED);
    CU_ASSERT(pg_loop_now_ms(w.loop) - start <= 1510);
    run(&w, 20);
    CU_ASSERT_EQUAL(w.closes, 1); /* the server noticed too */
    CU_ASSERT_EQUAL(w.messages, 1);
    world_close(&w);
}

static void cancelled_by_owner(void)
{
    struct world w;
    opened(&w);
    CU_ASSERT_EQUAL_FATAL(call(&w, "/pkg.Svc/Do", 0, 1000), 0);
    CU_ASSERT_EQUAL(grpc_call_send(w.call, PG_STR("x")), 0);
    run(&w, 10);
    CU_ASSERT_EQUAL(w.messages, 1);
    grpc_call_free(w.call);
    w.call = NULL;
    run(&w, 20);
    CU_ASSERT_EQUAL(w.statuses, 0);
    CU_ASSERT_EQUAL(w.closes, 1);
    world_close(&w);
}

static void session_lost(void)
{
    struct world w;
    opened(&w);
    CU_ASSERT_EQUAL_FATAL(call(&w, "/pkg.Svc/Do", 0, 1000), 0);
    CU_ASSERT_EQUAL(grpc_call_send(w.call, PG_STR("x")), 0);
    run(&w, 10);
    struct grpc_stream *left = w.stream;
    w.stream = NULL;
    grpc_stream_abort(left);
    pg_h2_free(w.server);
    w.server = NULL;
    for (int i = 0; i < 200 && !w.client_over; i++) {
        pg_loop_turn(w.loop, true);
    }
    CU_ASSERT(w.client_over);
    CU_ASSERT_EQUAL(w.statuses, 1);
    CU_ASSERT(w.code == GRPC_UNAVAILABLE || w.code == GRPC_CANCELLED);
    CU_ASSERT_EQUAL(w.closes, 0); /* aborted: no callback */
    world_close(&w);
}

/* --- answers of servers that are not ours
 * ----------------------------------------------------------------------- */

static const char *answer_status, *answer_type, *answer_grpc;
static uint32_t answer_reset;
static struct pg_str answer_data;

static void answer_raw(struct world *w, struct pg_h2_stream *s)
{
    struct pg_h2_field f[3];
    size_t n = 0;
    w->raw_stream = s;
    if (answer_status == NULL) {
        w->raw_stream = NULL;
        pg_h2_stream_close(s, answer_reset);
        return;
    }
    f[n++] = (struct pg_h2_field){PG_STR(":status"), pg_str_c(answer_status), false};
    if (answer_type != NULL) {
        f[n++] = (struct pg_h2_field){PG_STR("content-type"), pg_str_c(answer_type), false};
    }
    struct pg_h2_head head = {f, n};
    CU_ASSERT_EQUAL(pg_h2_respond(s, &head, answer_data.p == NULL && answer_grpc == NULL), 0);
    if (answer_data.p != NULL) {
        struct iovec iov = {(void *)(uintptr_t)answer_data.p, answer_data.len};
        CU_ASSERT_EQUAL(pg_h2_writev(s, &iov, 1), (ssize_t)answer_data.len);
    }
    if (answer_grpc != NULL) {
        f[0] = (struct pg_h2_field){PG_STR("grpc-status"), pg_str_c(answer_grpc), false};
        head.n = 1;
        CU_ASSERT_EQUAL(pg_h2_trailers(s, &head), 0);
    } else if (answer_data.p != NULL) {
        CU_ASSERT_EQUAL(pg_h2_end(s), 0);
    }
}

static void raw_case(const char *status, const char *type, struct pg_str data, const char *grpc,
                     uint32_t reset, int code, const char *text)
{
    struct world w;
    opened(&w);
    w.raw = true;
    w.raw_request = answer_raw;
    answer_status = status;
    answer_type = type;
    answer_data = data;
    answer_grpc = grpc;
    answer_reset = reset;
    CU_ASSERT_EQUAL_FATAL(call(&w, "/pkg.Svc/Do", 0, 1000), 0);
    run(&w, 20);
    CU_ASSERT_EQUAL(w.statuses, 1);
    CU_ASSERT_EQUAL(w.code, code);
    CU_ASSERT(strstr(w.text, text) != NULL);
    world_close(&w);
}

static void foreign_servers(void)
{
    const struct pg_str none = PG_STR_NONE;
    raw_case("503", "text/plain", none, NULL, 0, GRPC_UNAVAILABLE,
             "unexpected HTTP status code received from server: 503");
    raw_case("404", NULL, none, NULL, 0, GRPC_UNIMPLEMENTED, "404");
    raw_case("401", NULL, none, NULL, 0, GRPC_UNAUTHENTICATED, "401");
    raw_case("403", NULL, none, NULL, 0, GRPC_PERMISSION_DENIED, "403");
    raw_case("400", NULL, none, NULL, 0, GRPC_INTERNAL, "400");
    raw_case("302", NULL, none, NULL, 0, GRPC_UNKNOWN, "302");
    raw_case("200", "text/html", none, NULL, 0, GRPC_UNKNOWN, "unexpected content-type \"text/html\"");
    raw_case("200", "application/grpc", none, NULL, 0, GRPC_INTERNAL, "without sending trailers");
    raw_case("200", "application/grpc",
             PG_STR("\0\0\0\0\x05"
                    "ab"),
             NULL, 0, GRPC_INTERNAL, "unexpected EOF");
    raw_case("200", "application/grpc", PG_STR("\x01\0\0\0\x01x"), "0", 0, GRPC_INTERNAL, "compressed");
    raw_case("200", "application/grpc", PG_STR("\0\0\0\0\x01x"), "7", 0, GRPC_PERMISSION_DENIED, "");
    raw_case("200", "application/grpc", PG_STR("\0\0\0\0\x01x"), "nonsense", 0, GRPC_UNKNOWN, "");
    raw_case(NULL, NULL, none, NULL, PG_H2_REFUSED_STREAM, GRPC_UNAVAILABLE, "error code: REFUSED_STREAM");
    raw_case(NULL, NULL, none, NULL, PG_H2_CANCEL, GRPC_CANCELLED, "error code: CANCEL");
    raw_case(NULL, NULL, none, NULL, PG_H2_ENHANCE_YOUR_CALM, GRPC_RESOURCE_EXHAUSTED,
             "error code: ENHANCE_YOUR_CALM");
    raw_case(NULL, NULL, none, NULL, 12, GRPC_PERMISSION_DENIED, "INADEQUATE_SECURITY");
    raw_case(NULL, NULL, none, NULL, PG_H2_INTERNAL_ERROR, GRPC_INTERNAL, "INTERNAL_ERROR");
}

/* --- requests of clients that are not ours
 * ----------------------------------------------------------------------- */

struct raw_call {
    char status[8], grpc[8];
    bool over;
};

static void raw_response(struct pg_h2_stream *s, const struct pg_h2_head *head, bool end, void *arg)
{
    struct raw_call *c = arg;
    (void)s;
    (void)end;
    (void)snprintf(c->status, sizeof(c->status), "%.*s", PG_STR_ARG(pg_h2_head_get(head, ":status")));
    (void)snprintf(c->grpc, sizeof(c->grpc), "%.*s", PG_STR_ARG(pg_h2_head_get(head, "grpc-status")));
}

static void raw_closed(struct pg_h2_stream *s, uint32_t code, int err, void *arg)
{
    (void)s;
    (void)code;
    (void)err;
    ((struct raw_call *)arg)->over = true;
}

static void foreign_client(const char *method, const char *path, const char *type, const char *extra,
                           const char *value, const char *status, const char *grpc)
{
    static const struct pg_h2_stream_callbacks callbacks = {.on_response = raw_response,
                                                            .on_closed = raw_closed};
    struct world w;
    struct raw_call c = {"", "", false};
    struct pg_h2_stream *s = NULL;
    opened(&w);
    struct pg_h2_field f[8] = {
        {PG_STR(":method"), pg_str_c(method), false}, {PG_STR(":scheme"), PG_STR("https"), false},
        {PG_STR(":path"), pg_str_c(path), false},     {PG_STR(":authority"), PG_STR("h"), false},
        {PG_STR("te"), PG_STR("trailers"), false},    {PG_STR("x-test"), PG_STR("yes"), false}};
    size_t n = 6;
    if (type != NULL) {
        f[n++] = (struct pg_h2_field){PG_STR("content-type"), pg_str_c(type), false};
    }
    if (extra != NULL) {
        f[n++] = (struct pg_h2_field){pg_str_c(extra), pg_str_c(value), false};
    }
    struct pg_h2_head head = {f, n};
    CU_ASSERT_EQUAL_FATAL(pg_h2_request(w.client, &head, true, &callbacks, &c, &s), 0);
    run(&w, 20);
    CU_ASSERT_STRING_EQUAL(c.status, status);
    CU_ASSERT_STRING_EQUAL(c.grpc, grpc);
    pg_h2_stream_close(s, PG_H2_CANCEL);
    world_close(&w);
}

static void foreign_clients(void)
{
    foreign_client("GET", "/pkg.Svc/Do", "application/grpc", NULL, NULL, "405", "");
    foreign_client("POST", "/pkg.Svc/Do", NULL, NULL, NULL, "415", "");
    foreign_client("POST", "/pkg.Svc/Do", "application/json", NULL, NULL, "415", "");
    foreign_client("POST", "/pkg.Svc/Do", "application/grpcx", NULL, NULL, "415", "");
    foreign_client("POST", "/pkg.Svc/Do", "application/grpc+proto", NULL, NULL, "200",
                   "0"); /* half-closed at once */
    foreign_client("POST", "/pkg.Svc/Nope", "application/grpc", NULL, NULL, "200", "12");
    foreign_client("POST", "/nope", "application/grpc", NULL, NULL, "200", "12");
    foreign_client("POST", "/pkg.Svc/Do", "application/grpc", "grpc-encoding", "gzip", "200", "12");
    foreign_client("POST", "/pkg.Svc/Do", "application/grpc", "grpc-timeout", "soon", "400", "13");
    foreign_client("POST", "/pkg.Svc/Do", "application/grpc", "grpc-encoding", "identity", "200", "0");
}

/* --- failing memory
 * ---------------------------------------------------------------------------------------------- */

static int one_call(void *arg)
{
    struct world w;
    (void)arg;
    int r = world_open(&w, 65536);
    if (r == 0) {
        run(&w, 10);
        w.echo = true;
        r = w.client != NULL ? call(&w, "/pkg.Svc/Do", 0, 100000) : PG_E_NOMEM;
    }
    if (r == 0) {
        r = grpc_call_send(w.call, PG_STR("some message"));
    }
    if (r == 0 && w.call != NULL) {
        r = grpc_call_half_close(w.call);
    }
    if (r == 0) {
        run(&w, 40);
        r = w.statuses == 1 && w.code == GRPC_OK ? 0 : PG_E_NOMEM;
    }
    world_close(&w);
    return r;
}

static int one_call_quietly(void *arg)
{
    (void)arg;
    return one_call(NULL);
}

static void failing_memory(void)
{
    CU_ASSERT(test_alloc_sweep(one_call_quietly, NULL) > 20);
}

TEST_MAIN("grpc", {"deframer splits", deframer_splits}, {"deframer refusals", deframer_refusals},
          {"texts", texts}, {"unary", unary}, {"streaming both ways", streaming_both_ways},
          {"big message", big_message}, {"queue cap", queue_cap}, {"refusals", refusals},
          {"deadlines", deadlines}, {"cancelled by owner", cancelled_by_owner},
          {"session lost", session_lost}, {"foreign servers", foreign_servers},
          {"foreign clients", foreign_clients}, {"failing memory", failing_memory})
