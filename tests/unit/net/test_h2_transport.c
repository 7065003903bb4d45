/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CONNECT streams as transports: the transport contract over plain sessions, over sessions on a fault
 * injector, and over a session inside a stream of another session (double HBONE without the TLS). Virtual
 * time.
 */
#include "h2_pair.h"

#include "net/loop_sim.h"
#include "transport_suite.h"

#include <string.h>

#define MAX_SESSIONS 512

static struct pg_loop *loop;
static struct pg_h2 *sessions[MAX_SESSIONS];
static size_t n_sessions;
static struct pg_transport *accepted; /* server's end of the last tunnel */
static struct pg_transport *dialled;
static unsigned sessions_lost;

static void on_session_closed(struct pg_h2 *h, int err, const char *text, void *arg)
{
    (void)err;
    (void)text;
    (void)arg;
    sessions_lost++;
    for (size_t i = 0; i < n_sessions; i++) {
        sessions[i] = sessions[i] == h ? NULL : sessions[i];
    }
    pg_h2_free(h);
}

static void on_request(struct pg_h2 *h, struct pg_h2_stream *s, const struct pg_h2_head *head, bool end,
                       void *arg)
{
    const struct pg_h2_field ok[] = {{PG_STR(":status"), PG_STR("200"), false}};
    const struct pg_h2_head reply = {ok, 1};
    (void)h;
    (void)head;
    (void)end;
    (void)arg;
    CU_ASSERT_EQUAL(pg_h2_respond(s, &reply, false), 0);
    CU_ASSERT_EQUAL(pg_h2_stream_transport(s, &accepted), 0);
}

static void on_response(struct pg_h2_stream *s, const struct pg_h2_head *head, bool end, void *arg)
{
    (void)arg;
    CU_ASSERT_FALSE(end);
    CU_ASSERT_TRUE(pg_str_eq_c(pg_h2_head_get(head, ":status"), "200"));
    CU_ASSERT_EQUAL(pg_h2_stream_transport(s, &dialled), 0);
}

/* Sessions over a and b, and one tunnel through them. */
static int tunnel(struct pg_loop *l, struct pg_transport **a, struct pg_transport **b)
{
    static const struct pg_h2_callbacks cb = {.on_request = on_request, .on_closed = on_session_closed};
    static const struct pg_h2_stream_callbacks scb = {.on_response = on_response};
    const struct pg_h2_field fields[] = {{PG_STR(":method"), PG_STR("CONNECT"), false},
                                         {PG_STR(":authority"), PG_STR("10.0.0.1:80"), false}};
    const struct pg_h2_head head = {fields, 2};
    struct pg_h2_options o;
    struct pg_h2_stream *s;
    PG_BUG_ON(n_sessions + 2 > MAX_SESSIONS);
    pg_h2_options_hbone(&o, false);
    o.stream_window = 256 << 10;
    CU_ASSERT_EQUAL_FATAL(pg_h2_client_new(l, *a, &o, &cb, NULL, &sessions[n_sessions++]), 0);
    CU_ASSERT_EQUAL_FATAL(pg_h2_server_new(l, *b, &o, &cb, NULL, &sessions[n_sessions++]), 0);
    CU_ASSERT_EQUAL_FATAL(pg_h2_request(sessions[n_sessions - 2], &head, false, &scb, NULL, &s), 0);
    accepted = NULL;
    dialled = NULL;
    for (int i = 0; i < 100000 && (accepted == NULL || dialled == NULL); i++) {
        pg_loop_turn(l, false);
    }
    CU_ASSERT_PTR_NOT_NULL_FATAL(accepted);
    CU_ASSERT_PTR_NOT_NULL_FATAL(dialled);
    *a = dialled;
    *b = accepted;
    return 0;
}

static int make_plain(struct pg_loop *l, struct pg_transport **a, struct pg_transport **b, void *arg)
{
    (void)arg;
    CU_ASSERT_EQUAL_FATAL(pg_mem_pair(l, 100000, a, b), 0);
    return tunnel(l, a, b);
}

static int make_small(struct pg_loop *l, struct pg_transport **a, struct pg_transport **b, void *arg)
{
    (void)arg;
    CU_ASSERT_EQUAL_FATAL(pg_mem_pair(l, 700, a, b), 0);
    return tunnel(l, a, b);
}

static int make_chaos(struct pg_loop *l, struct pg_transport **a, struct pg_transport **b, void *arg)
{
    struct pg_chaos_options o = {.split_pct = 40,
                                 .again_pct = 30,
                                 .max_piece = 3000,
                                 .reset_at_read = UINT64_MAX,
                                 .reset_at_write = UINT64_MAX};
    uint64_t *seed = arg;
    CU_ASSERT_EQUAL_FATAL(pg_mem_pair(l, 60000, a, b), 0);
    o.seed = ++*seed;
    CU_ASSERT_EQUAL_FATAL(pg_chaos_new(l, *a, &o, a), 0);
    o.seed = ++*seed;
    CU_ASSERT_EQUAL_FATAL(pg_chaos_new(l, *b, &o, b), 0);
    return tunnel(l, a, b);
}

static int make_nested(struct pg_loop *l, struct pg_transport **a, struct pg_transport **b, void *arg)
{
    int r = make_plain(l, a, b, arg);
    return r < 0 ? r : tunnel(l, a, b);
}

static void run_suite(int (*make)(struct pg_loop *, struct pg_transport **, struct pg_transport **, void *))
{
    uint64_t seed = 1;
    n_sessions = 0;
    sessions_lost = 0;
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&loop), 0);
    transport_suite_run(loop, make, &seed);
    suite_idle(loop, 10);
    for (size_t i = 0; i < n_sessions; i++) {
        if (make != make_nested && sessions[i] != NULL) { /* a nested session outlives the tunnel it ran in */
            CU_ASSERT_EQUAL(pg_h2_active(sessions[i]), 0);
        }
    }
    while (n_sessions > 0) {
        pg_h2_free(sessions[--n_sessions]);
    }
    pg_loop_free(loop);
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), 0);
}

static void test_plain(void)
{
    run_suite(make_plain);
    CU_ASSERT_EQUAL(sessions_lost, 0);
}

static void test_small(void)
{
    run_suite(make_small);
}

static void test_chaos(void)
{
    run_suite(make_chaos);
}

static void test_nested(void)
{
    run_suite(make_nested);
}

/* ---- application | relay | tunnel | relay | application ---- */

static unsigned relays_done;
static int relay_errs;

static void on_relay_done(const struct pg_relay_result *r, void *arg)
{
    (void)arg;
    relays_done++;
    relay_errs += r->err != 0;
}

static struct pg_transport *near_app;
static struct pg_transport *far_app;

static void start_chain(bool nested)
{
    struct pg_transport *a;
    struct pg_transport *b;
    struct pg_transport *in;
    struct pg_transport *out;
    struct pg_relay *r;
    n_sessions = 0;
    relays_done = 0;
    relay_errs = 0;
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&loop), 0);
    CU_ASSERT_EQUAL_FATAL(nested ? make_nested(loop, &a, &b, NULL) : make_plain(loop, &a, &b, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(pg_mem_pair(loop, 65536, &near_app, &in), 0);
    CU_ASSERT_EQUAL_FATAL(pg_mem_pair(loop, 65536, &out, &far_app), 0);
    CU_ASSERT_EQUAL_FATAL(pg_relay_start(loop, in, a, on_relay_done, NULL, &r), 0);
    CU_ASSERT_EQUAL_FATAL(pg_relay_start(loop, b, out, on_relay_done, NULL, &r), 0);
}

static void stop_chain(void)
{
    pg_loop_sim_advance(loop, 100); /* a relay waits for its last bytes to leave */
    while (n_sessions > 0) {
        pg_h2_free(sessions[--n_sessions]);
    }
    suite_idle(loop, 50);
    CU_ASSERT_EQUAL(relays_done, 2);
    pg_loop_free(loop);
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), 0);
}

/* Bytes that went in until nothing moves any more. */
static uint64_t push(struct pg_transport *t, uint64_t limit)
{
    static unsigned char buf[16384];
    uint64_t sent = 0;
    for (int quiet = 0; quiet < 50 && sent < limit;) {
        for (size_t i = 0; i < sizeof(buf); i++) {
            buf[i] = suite_byte(5, sent + i);
        }
        ssize_t n = pg_transport_write(t, buf, sizeof(buf));
        quiet = n > 0 ? 0 : quiet + 1;
        sent += n > 0 ? (uint64_t)n : 0;
        suite_idle(loop, 1);
    }
    return sent;
}

static uint64_t pull(struct pg_transport *t, uint64_t from, bool *eof)
{
    static unsigned char buf[16384];
    uint64_t at = from;
    for (int quiet = 0; quiet < 50 && !*eof;) {
        ssize_t n = pg_transport_read(t, buf, sizeof(buf));
        quiet = n > 0 ? 0 : quiet + 1;
        *eof = n == 0;
        for (ssize_t i = 0; i < n; i++) {
            if (buf[i] != suite_byte(5, at + (uint64_t)i)) {
                CU_FAIL("wrong byte");
                return at;
            }
        }
        at += n > 0 ? (uint64_t)n : 0;
        suite_idle(loop, 1);
    }
    return at;
}

static void chain(bool nested)
{
    bool eof = false;
    start_chain(nested);
    size_t before = pg_mem_live_blocks();
    uint64_t sent = push(near_app, 1u << 30);
    /* the far application reads nothing: two pipes, two relays, window and send buffer of each layer */
    CU_ASSERT_TRUE(sent > 256 << 10);
    CU_ASSERT_TRUE(sent < 2 << 20);
    CU_ASSERT_TRUE(pg_mem_live_blocks() < before + 200);
    CU_ASSERT_EQUAL(pg_transport_shutdown(near_app), 0);
    CU_ASSERT_EQUAL(pull(far_app, 0, &eof), sent);
    CU_ASSERT_TRUE(eof);
    /* the other way after the half-close */
    eof = false;
    uint64_t back = push(far_app, 3000000);
    CU_ASSERT_EQUAL(pg_transport_shutdown(far_app), 0);
    CU_ASSERT_EQUAL(pull(near_app, 0, &eof), back);
    CU_ASSERT_TRUE(eof);
    pg_loop_sim_advance(loop, 100);
    CU_ASSERT_EQUAL(relay_errs, 0);
    pg_transport_close(near_app);
    pg_transport_close(far_app);
    stop_chain();
}

static void test_relays(void)
{
    chain(false);
    chain(true);
}

/* The session dies or is freed under running relays: both relays end with an error, the applications see a
 * reset. */
static void test_session_gone(void)
{
    for (int i = 0; i < 4; i++) {
        char c;
        start_chain(i >= 2);
        (void)push(near_app, 100000);
        pg_h2_free(sessions[i % 2]); /* the outermost client, or server */
        sessions[i % 2] = NULL;
        suite_idle(loop, 100);
        CU_ASSERT_TRUE(pg_transport_read(near_app, &c, 1) < 0);
        while (pg_transport_read(far_app, &c, 1) > 0) {
            suite_idle(loop, 1); /* its relay looks at the tunnel again when what it holds is taken */
        }
        CU_ASSERT_TRUE(pg_transport_read(far_app, &c, 1) < 0);
        suite_idle(loop, 10);
        CU_ASSERT_EQUAL(relays_done, 2);
        CU_ASSERT_EQUAL(relay_errs, 2);
        pg_transport_close(near_app);
        pg_transport_close(far_app);
        stop_chain();
    }
}

TEST_MAIN("h2 stream as transport", {"over memory", test_plain}, {"over a 700-byte pipe", test_small},
          {"over chaos", test_chaos}, {"inside another session", test_nested}, {"relays", test_relays},
          {"session gone", test_session_gone})
