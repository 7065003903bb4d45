/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hostile peers: frames made by hand against a server and a client session. Each flood must end that
 * connection with GOAWAY ENHANCE_YOUR_CALM under the right limit's name, soon, and in bounded memory; each
 * malformed input must end the connection or the stream, never the process. Virtual time.
 */
#include "h2_pair.h"

#include "core/rng.h"
#include "net/h2_int.h"
#include "net/loop_sim.h"

#include <string.h>

enum {
    DATA,
    HEADERS,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    PUSH_PROMISE,
    PING,
    GOAWAY,
    WINDOW_UPDATE,
    CONTINUATION
};

static struct pg_loop *loop;
static struct pair p;

/* What the session said to us. */
static struct {
    uint8_t b[9 + 20000];
    size_t n;
    unsigned frames[16];
    uint32_t goaway;
    bool eof;
    bool deaf; /* do not read */
} heard;

static void parse_heard(void)
{
    for (;;) {
        size_t len = (size_t)heard.b[0] << 16 | (size_t)heard.b[1] << 8 | heard.b[2];
        if (heard.n < 9 || heard.n < 9 + len) {
            return;
        }
        heard.frames[heard.b[3] & 15]++;
        if (heard.b[3] == GOAWAY) {
            heard.goaway = heard.b[16];
        }
        heard.n -= 9 + len;
        memmove(heard.b, heard.b + 9 + len, heard.n);
    }
}

static void listen_some(void)
{
    while (!heard.deaf && !heard.eof) {
        ssize_t n = pg_transport_read(p.raw, heard.b + heard.n, sizeof(heard.b) - heard.n);
        if (n == PG_E_AGAIN) {
            return;
        }
        if (n <= 0) {
            heard.eof = true;
            return;
        }
        heard.n += (size_t)n;
        parse_heard();
    }
}

static void turns(void)
{
    for (int i = 0; i < 4; i++) {
        pg_loop_turn(loop, false);
        listen_some();
    }
}

/* False when the session takes no more. */
static bool say(const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    for (int tries = 0; len > 0 && tries < 100; tries++) {
        ssize_t n = pg_transport_write(p.raw, at, len);
        if (n < 0 && n != PG_E_AGAIN) {
            return false;
        }
        if (n > 0) {
            at += n;
            len -= (size_t)n;
        } else {
            turns();
        }
    }
    return len == 0;
}

static bool over(void)
{
    return p.server_closed || p.client_closed;
}

/* A limit was met, or it is over for another reason. */
static bool caught(void)
{
    struct pg_h2_stats st = {0};
    if (!over()) {
        pg_h2_get_stats(p.server != NULL ? p.server : p.client, &st);
    }
    return over() || st.guard_closed != 0 || heard.goaway != 0;
}

static size_t put_frame(uint8_t *out, uint8_t type, uint8_t flags, uint32_t id, const void *payload,
                        size_t len)
{
    uint8_t head[9] = {(uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len,       type,       flags,
                       (uint8_t)(id >> 24),  (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id};
    memcpy(out, head, 9);
    if (len > 0) {
        memcpy(out + 9, payload, len);
    }
    return 9 + len;
}

static bool say_frame(uint8_t type, uint8_t flags, uint32_t id, const void *payload, size_t len)
{
    static uint8_t b[9 + 70000];
    PG_BUG_ON(len > 70000);
    return say(b, put_frame(b, type, flags, id, payload, len));
}

static const uint8_t connect_block[] = {0x02, 7,   'C', 'O', 'N', 'N', 'E', 'C', 'T', 0x01, 11,
                                        '1',  '0', '.', '1', '.', '2', '.', '3', ':', '8',  '0'};

static bool say_connect(uint32_t id, bool end)
{
    return say_frame(HEADERS, end ? 5 : 4, id, connect_block, sizeof(connect_block));
}

static void start(bool server, size_t cap)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    memset(&p, 0, sizeof(p));
    memset(&heard, 0, sizeof(heard));
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&loop), 0);
    if (!server) {
        CU_ASSERT_EQUAL_FATAL(pair_raw_client(&p, loop, NULL, cap), 0);
        turns();
        heard.n = heard.n > 24 ? heard.n : 0; /* the preface was no frame */
        memset(&heard, 0, sizeof(heard));
    } else {
        CU_ASSERT_EQUAL_FATAL(pair_raw_server(&p, loop, NULL, cap), 0);
        CU_ASSERT_TRUE(say(preface, 24));
    }
    CU_ASSERT_TRUE(say_frame(SETTINGS, 0, 0, NULL, 0));
    CU_ASSERT_TRUE(say_frame(SETTINGS, 1, 0, NULL, 0));
    turns();
    CU_ASSERT_FALSE(over());
    if (server) {
        CU_ASSERT_EQUAL(heard.frames[SETTINGS], 2);
    }
}

static void stop(void)
{
    pair_free(&p);
    pg_loop_free(loop);
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), 0);
}

/* Ended by that limit, and said so. */
static void check_guard(const char *name)
{
    pg_loop_sim_advance(loop, 1500);
    listen_some();
    const struct pg_h2_stats *st = p.server_closed ? &p.server_stats : &p.client_stats;
    CU_ASSERT_TRUE(over());
    CU_ASSERT_EQUAL(st->guard_closed, 1);
    CU_ASSERT_PTR_NOT_NULL(st->guard);
    CU_ASSERT_TRUE(st->guard != NULL && strcmp(st->guard, name) == 0);
    CU_ASSERT_TRUE(p.server_closed ? p.server_err < 0 : p.client_err < 0);
    if (!heard.deaf) {
        CU_ASSERT_EQUAL(heard.goaway, PG_H2_ENHANCE_YOUR_CALM);
        CU_ASSERT_TRUE(heard.eof);
    }
}

/* Ended for a violation; no limit involved. */
static void check_violation(void)
{
    pg_loop_sim_advance(loop, 1500);
    listen_some();
    CU_ASSERT_TRUE(over());
    CU_ASSERT_EQUAL(p.server_closed ? p.server_err : p.client_err, PG_E_PROTO);
    CU_ASSERT_EQUAL(p.server_stats.guard_closed + p.client_stats.guard_closed, 0);
    CU_ASSERT_NOT_EQUAL(heard.goaway, 0);
}

static unsigned flood(uint8_t type, uint8_t flags, uint32_t id, const void *payload, size_t len, unsigned max)
{
    unsigned n = 0;
    while (n < max && !caught() && say_frame(type, flags, id, payload, len)) {
        if (++n % 50 == 0) {
            turns();
        }
    }
    turns();
    return n;
}

static const uint8_t zero[64] = {0};

static void test_ping_flood(void)
{
    start(true, 100000);
    CU_ASSERT_TRUE(flood(PING, 0, 0, zero, 8, 200000) < 6000);
    check_guard("ping");
    CU_ASSERT_TRUE(heard.frames[PING] >= 4000);
    stop();
    start(true, 100000);
    heard.deaf = true;
    size_t before = pg_mem_live_blocks();
    CU_ASSERT_TRUE(flood(PING, 0, 0, zero, 8, 200000) < 8000);
    CU_ASSERT_TRUE(pg_mem_live_blocks() < before + 3000);
    pg_loop_sim_advance(loop, 1500);
    CU_ASSERT_TRUE(p.server_closed);
    CU_ASSERT_EQUAL(p.server_stats.guard_closed, 1);
    stop();
}

static void test_settings_flood(void)
{
    static const uint8_t window[6] = {0, 4, 0, 1, 0, 0};
    start(true, 100000);
    CU_ASSERT_TRUE(flood(SETTINGS, 0, 0, window, 6, 200000) < 400);
    check_guard("settings");
    stop();
}

static void test_priority_flood(void)
{
    static const uint8_t prio[5] = {0, 0, 0, 0, 7};
    start(true, 100000);
    CU_ASSERT_TRUE(flood(PRIORITY, 0, 7, prio, 5, 200000) < 3000);
    check_guard("priority");
    stop();
}

static void test_empty_data_flood(void)
{
    start(true, 100000);
    CU_ASSERT_TRUE(say_connect(1, false));
    CU_ASSERT_TRUE(flood(DATA, 0, 1, NULL, 0, 200000) < 1000);
    check_guard("empty-data");
    CU_ASSERT_EQUAL(p.ns, 1);
    CU_ASSERT_TRUE(p.s[0].closed);
    CU_ASSERT_TRUE(p.s[0].err < 0);
    stop();
}

static void test_window_update_flood(void)
{
    static const uint8_t one[4] = {0, 0, 0, 1};
    start(true, 100000);
    CU_ASSERT_TRUE(flood(WINDOW_UPDATE, 0, 0, one, 4, 200000) < 22000);
    check_guard("window-update");
    stop();
}

static void test_unknown_flood(void)
{
    start(true, 100000);
    CU_ASSERT_TRUE(flood(0xbb, 0, 0, zero, 20, 200000) < 3000);
    check_guard("unknown-frame");
    stop();
}

static void test_rapid_reset(void)
{
    uint32_t id = 1;
    static const uint8_t cancel[4] = {0, 0, 0, 8};
    start(true, 100000);
    while (!caught() && id < 400000 && say_connect(id, false) && say_frame(RST_STREAM, 0, id, cancel, 4)) {
        id += 2;
        if (id % 32 == 1) {
            turns();
        }
    }
    check_guard("rapid-reset");
    CU_ASSERT_TRUE(id / 2 > 9000 && id / 2 < 12000);
    CU_ASSERT_TRUE(p.ns < 200); /* aborted before anyone was told */
    stop();
}

/* MadeYouReset, the variants that nghttp2 1.52 lets through. */
static unsigned made_resets(bool overflow)
{
    static const uint8_t big[4] = {0x7f, 0xff, 0xff, 0xff};
    uint8_t bad[sizeof(connect_block) + 9];
    uint32_t id = 1;
    memcpy(bad, connect_block, sizeof(connect_block));
    memcpy(bad + sizeof(connect_block), "\x00\x02te\x04gzip", 9);
    start(true, 100000);
    while (!caught() && id < 400000) {
        bool ok = overflow ? say_connect(id, false) && say_frame(WINDOW_UPDATE, 0, id, big, 4)
                           : say_frame(HEADERS, 4, id, bad, sizeof(bad));
        if (!ok) {
            break;
        }
        id += 2;
        turns();
    }
    check_guard("made-resets");
    stop();
    return id / 2;
}

static void test_made_you_reset(void)
{
    CU_ASSERT_TRUE(made_resets(true) < 300);
    CU_ASSERT_TRUE(made_resets(false) < 300);
}

/* SETTINGS of ours not acknowledged, streams over the limit, nothing read: row 5a. */
static void test_never_acknowledges(void)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    unsigned n = 0;
    size_t peak = 0;
    memset(&p, 0, sizeof(p));
    memset(&heard, 0, sizeof(heard));
    heard.deaf = true;
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&loop), 0);
    CU_ASSERT_EQUAL_FATAL(pair_raw_server(&p, loop, NULL, 65536), 0);
    CU_ASSERT_TRUE(say(preface, 24));
    CU_ASSERT_TRUE(say_frame(SETTINGS, 0, 0, NULL, 0));
    while (n < 200000 && !caught() && say_connect(2 * n + 1, false)) {
        n++;
        turns();
        peak = pg_mem_live_blocks() > peak ? pg_mem_live_blocks() : peak;
    }
    CU_ASSERT_TRUE(n < 8000);
    CU_ASSERT_TRUE(peak < 15000);
    pg_loop_sim_advance(loop, 1500);
    CU_ASSERT_TRUE(p.server_closed);
    CU_ASSERT_EQUAL(p.server_stats.guard_closed, 1);
    stop();
}

static void test_settings_ack_timeout(void)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    memset(&p, 0, sizeof(p));
    memset(&heard, 0, sizeof(heard));
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&loop), 0);
    CU_ASSERT_EQUAL_FATAL(pair_raw_server(&p, loop, NULL, 65536), 0);
    CU_ASSERT_TRUE(say(preface, 24));
    CU_ASSERT_TRUE(say_frame(SETTINGS, 0, 0, NULL, 0));
    pg_loop_sim_advance(loop, 9900);
    listen_some();
    CU_ASSERT_FALSE(heard.eof);
    pg_loop_sim_advance(loop, 200);
    check_guard("settings-ack");
    stop();
}

static void test_handshake_timeout(void)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    static const size_t sent[] = {0, 10, 24};
    for (size_t i = 0; i < PG_ARRAY_LEN(sent); i++) {
        memset(&p, 0, sizeof(p));
        memset(&heard, 0, sizeof(heard));
        CU_ASSERT_EQUAL_FATAL(pg_loop_new(&loop), 0);
        CU_ASSERT_EQUAL_FATAL(pair_raw_server(&p, loop, NULL, 65536), 0);
        CU_ASSERT_TRUE(sent[i] == 0 || say(preface, sent[i]));
        pg_loop_sim_advance(loop, 9900);
        CU_ASSERT_FALSE(over());
        pg_loop_sim_advance(loop, 200);
        check_guard("handshake");
        CU_ASSERT_EQUAL(p.server_err, PG_E_TIMEDOUT);
        stop();
    }
}

static void test_bad_preface(void)
{
    memset(&p, 0, sizeof(p));
    memset(&heard, 0, sizeof(heard));
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&loop), 0);
    CU_ASSERT_EQUAL_FATAL(pair_raw_server(&p, loop, NULL, 65536), 0);
    CU_ASSERT_TRUE(say("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 27));
    turns();
    check_violation();
    stop();
}

static void test_header_limits(void)
{
    static uint8_t bomb[66000];
    uint8_t entry[300];
    memset(entry, 'v', sizeof(entry));
    memcpy(entry, "\x40\x01x\x7f\x80\x01", 6); /* 255 bytes into the table */
    start(true, 200000);
    memcpy(bomb, connect_block, sizeof(connect_block));
    size_t n = sizeof(connect_block);
    memcpy(bomb + n, entry, 6 + 255);
    n += 6 + 255;
    memset(bomb + n, 0xbe, 10000);
    n += 10000;
    CU_ASSERT_TRUE(say_frame(HEADERS, 4, 1, bomb, n));
    turns();
    check_guard("header-fields");
    CU_ASSERT_EQUAL(p.ns, 0);
    stop();

    /* Few fields, many decoded bytes: references to the entry. */
    start(true, 200000);
    n = sizeof(connect_block) + 6 + 255;
    memset(bomb + n, 0xbe, 60);
    CU_ASSERT_TRUE(say_frame(HEADERS, 4, 1, bomb, n + 60));
    turns();
    check_guard("header-bytes");
    stop();

    /* The same spread over CONTINUATION. */
    start(true, 200000);
    CU_ASSERT_TRUE(say_frame(HEADERS, 0, 1, bomb, n));
    for (int i = 0; i < 6; i++) {
        CU_ASSERT_TRUE(say_frame(CONTINUATION, 0, 1, bomb + n, 10));
    }
    turns();
    check_guard("header-bytes");
    stop();

    /* One value longer than the limit. */
    start(true, 200000);
    uint8_t big[] = {0x40, 0x01, 'x', 0x7f, 0x81, 0xff, 0x01};
    memcpy(bomb, connect_block, sizeof(connect_block));
    memcpy(bomb + sizeof(connect_block), big, sizeof(big));
    memset(bomb + sizeof(connect_block) + sizeof(big), 'v', 50000);
    CU_ASSERT_TRUE(say_frame(HEADERS, 4, 1, bomb, sizeof(connect_block) + sizeof(big) + 32768));
    turns();
    check_guard("header-bytes");
    stop();

    /* A block the library throws away (stream over the limit) is bounded too. */
    start(true, 200000);
    for (uint32_t id = 1; id < 401; id += 2) {
        CU_ASSERT_TRUE(say_connect(id, false));
    }
    turns();
    CU_ASSERT_FALSE(over());
    CU_ASSERT_EQUAL(p.ns, 200);
    stop();
}

static void test_continuation_flood(void)
{
    start(true, 200000);
    CU_ASSERT_TRUE(say_frame(HEADERS, 0, 1, connect_block, sizeof(connect_block)));
    CU_ASSERT_TRUE(flood(CONTINUATION, 0, 1, NULL, 0, 1000) < 200);
    pg_loop_sim_advance(loop, 1500);
    CU_ASSERT_TRUE(over());
    CU_ASSERT_TRUE(p.server_err < 0);
    stop();
}

/* Each of these ends the connection at once. */
static void test_violations(void)
{
    static const struct {
        uint8_t type, flags;
        uint32_t id;
        const char *payload;
        size_t len;
    } bad[] = {
        {WINDOW_UPDATE, 0, 0, "\0\0\0\0", 4},         /* increment 0 */
        {WINDOW_UPDATE, 0, 0, "\x7f\xff\xff\xff", 4}, /* overflow of the connection window */
        {DATA, 0, 5, "x", 1},                         /* idle stream */
        {RST_STREAM, 0, 5, "\0\0\0\0", 4},            /* idle stream */
        {PING, 0, 1, "12345678", 8},                  /* on a stream */
        {PING, 0, 0, "1234567", 7},                   /* wrong size */
        {SETTINGS, 0, 0, "12345", 5},                 /* wrong size */
        {SETTINGS, 1, 0, "123456", 6},                /* ACK with payload */
        {SETTINGS, 0, 0, "\0\2\0\0\0\2", 6},          /* ENABLE_PUSH 2 */
        {SETTINGS, 0, 0, "\0\4\x80\0\0\0", 6},        /* window over 2^31-1 */
        {SETTINGS, 0, 0, "\0\5\0\0\0\1", 6},          /* frame size under 16384 */
        {CONTINUATION, 4, 1, "\x82", 1},              /* without HEADERS */
        {PUSH_PROMISE, 4, 1, "\0\0\0\2\x82", 5},      /* from a client */
        {HEADERS, 4, 2, "\x82", 1},                   /* even stream */
        {HEADERS, 4, 0, "\x82", 1},                   /* stream 0 */
        {HEADERS, 4, 1, "\xff\xff\xff\xff\xff", 5},   /* no such index */
        {GOAWAY, 0, 0, "1234", 4},                    /* too short */
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(bad); i++) {
        start(true, 100000);
        CU_ASSERT_TRUE(say_frame(bad[i].type, bad[i].flags, bad[i].id, bad[i].payload, bad[i].len));
        turns();
        check_violation();
        stop();
    }
}

/* A client may be refused streams above the limit but nothing else happens when it behaves. */
static void test_data_beyond_window(void)
{
    static uint8_t chunk[16384];
    unsigned n = 0;
    start(true, 100000);
    CU_ASSERT_TRUE(say_connect(1, false));
    while (n < 2000 && !over() && say_frame(DATA, 0, 1, chunk, sizeof(chunk))) {
        n++;
    }
    pg_loop_sim_advance(loop, 1500);
    listen_some();
    /* the stream's window is 4 MiB: at most that was kept */
    CU_ASSERT_TRUE(heard.frames[RST_STREAM] >= 1 || over());
    CU_ASSERT_TRUE(p.s[0].closed);
    CU_ASSERT_TRUE(p.s[0].err < 0);
    CU_ASSERT_TRUE(pg_mem_live_blocks() < 300);
    stop();
}

static void test_client_informational(void)
{
    static const uint8_t early[] = {0x08, 3, '1', '0', '3'};
    static const uint8_t ok[] = {0x88};
    struct side *c = NULL;
    start(false, 100000);
    CU_ASSERT_EQUAL_FATAL(pair_request(&p, "GET", true, &c), 0);
    turns();
    CU_ASSERT_TRUE(say_frame(HEADERS, 4, 1, early, sizeof(early)));
    turns();
    CU_ASSERT_FALSE(c->headed);
    CU_ASSERT_TRUE(say_frame(HEADERS, 5, 1, ok, 1));
    turns();
    CU_ASSERT_TRUE(c->headed);
    CU_ASSERT_TRUE(c->closed);
    CU_ASSERT_EQUAL(c->err, 0);
    CU_ASSERT_EQUAL_FATAL(pair_request(&p, "GET", true, &c), 0);
    turns();
    CU_ASSERT_TRUE(say_frame(HEADERS, 4, 3, early, sizeof(early)));
    CU_ASSERT_TRUE(say_frame(HEADERS, 4, 3, early, sizeof(early)));
    turns();
    CU_ASSERT_TRUE(c->closed);
    CU_ASSERT_TRUE(c->err < 0);
    check_guard("informational");
    stop();
}

static void test_client_push(void)
{
    struct side *c = NULL;
    start(false, 100000);
    CU_ASSERT_EQUAL_FATAL(pair_request(&p, "GET", true, &c), 0);
    turns();
    CU_ASSERT_TRUE(say_frame(PUSH_PROMISE, 4, 1,
                             "\0\0\0\2\x82\x87\x84\x01\x01"
                             "a",
                             10));
    turns();
    check_violation();
    CU_ASSERT_TRUE(c->closed);
    CU_ASSERT_TRUE(c->err < 0);
    stop();
}

/* CVE-2021-32780's order of frames, and a GOAWAY that disowns a stream. */
static void test_client_goaway(void)
{
    struct side *c = NULL;
    struct side *d = NULL;
    start(false, 100000);
    CU_ASSERT_EQUAL_FATAL(pair_request(&p, "CONNECT", false, &c), 0);
    CU_ASSERT_EQUAL_FATAL(pair_request(&p, "CONNECT", false, &d), 0);
    turns();
    CU_ASSERT_TRUE(say_frame(GOAWAY, 0, 0, "\0\0\0\1\0\0\0\0", 8));
    CU_ASSERT_TRUE(say_frame(SETTINGS, 0, 0, "\0\3\0\0\0\0", 6));
    turns();
    CU_ASSERT_EQUAL(p.client_goaways, 1);
    CU_ASSERT_TRUE(d->closed);
    CU_ASSERT_EQUAL(d->code, PG_H2_REFUSED_STREAM);
    CU_ASSERT_EQUAL(d->err, PG_E_RESET);
    CU_ASSERT_FALSE(c->closed);
    CU_ASSERT_EQUAL(pg_h2_capacity(p.client), 0);
    CU_ASSERT_EQUAL(pair_request(&p, "CONNECT", false, &d), PG_E_CLOSED);
    CU_ASSERT_TRUE(say_frame(HEADERS, 4, 1, "\x88", 1));
    CU_ASSERT_TRUE(say_frame(DATA, 1, 1, "last", 4));
    turns();
    side_read(c);
    CU_ASSERT_EQUAL(c->got, 4);
    CU_ASSERT_EQUAL(c->read_end, 1);
    CU_ASSERT_EQUAL(pg_h2_end(c->s), 0);
    turns();
    pg_loop_sim_advance(loop, 1500);
    CU_ASSERT_TRUE(p.client_closed);
    CU_ASSERT_EQUAL(p.client_err, 0);
    stop();
}

/* A peer that ends the connection for a reason is not an orderly end. */
static void test_client_goaway_error(void)
{
    start(false, 100000);
    CU_ASSERT_TRUE(say_frame(GOAWAY, 0, 0,
                             "\0\0\0\0\0\0\0\x0b"
                             "too_many_pings",
                             22));
    turns();
    pg_loop_sim_advance(loop, 1500);
    CU_ASSERT_TRUE(p.client_closed);
    CU_ASSERT_EQUAL(p.client_err, PG_E_CLOSED);
    CU_ASSERT_PTR_NOT_NULL(strstr(p.client_text, "GOAWAY code 11"));
    stop();
}

/* MAX_CONCURRENT_STREAMS taken away and given back. */
static void test_client_limit(void)
{
    struct side *c = NULL;
    start(false, 100000);
    CU_ASSERT_TRUE(say_frame(SETTINGS, 0, 0, "\0\3\0\0\0\0", 6));
    turns();
    CU_ASSERT_EQUAL(pg_h2_capacity(p.client), 0);
    CU_ASSERT_EQUAL(pair_request(&p, "CONNECT", false, &c), PG_E_AGAIN);
    CU_ASSERT_TRUE(say_frame(SETTINGS, 0, 0, "\0\3\0\0\0\5", 6));
    turns();
    CU_ASSERT_EQUAL(pg_h2_capacity(p.client), 5);
    CU_ASSERT_EQUAL(pair_request(&p, "CONNECT", false, &c), 0);
    stop();
}

/* Before the ids run out no stream is opened any more; what runs goes on. */
static void test_client_ids(void)
{
    struct side *c = NULL;
    unsigned opened = 0;
    start(false, 100000);
    CU_ASSERT_EQUAL_FATAL(pg_h2_ng_set_next_id(p.client, (uint32_t)INT32_MAX - PG_H2_ID_RESERVE - 20), 0);
    while (pg_h2_capacity(p.client) > 0 && opened < 1000) {
        CU_ASSERT_EQUAL_FATAL(pair_request(&p, "CONNECT", false, &c), 0);
        opened++;
    }
    CU_ASSERT_EQUAL(opened, 11);
    CU_ASSERT_TRUE(pair_request(&p, "CONNECT", false, &c) < 0);
    turns();
    CU_ASSERT_FALSE(c->closed);
    stop();
}

static void test_keepalive_timeout(void)
{
    struct side *c = NULL;
    start(false, 100000);
    CU_ASSERT_EQUAL_FATAL(pair_request(&p, "CONNECT", false, &c), 0);
    turns();
    unsigned before = heard.frames[PING];
    pg_loop_sim_advance(loop, 10100);
    listen_some();
    CU_ASSERT_EQUAL(heard.frames[PING], before + 1);
    pg_loop_sim_advance(loop, 19000);
    CU_ASSERT_FALSE(over());
    pg_loop_sim_advance(loop, 3000);
    CU_ASSERT_TRUE(p.client_closed);
    CU_ASSERT_EQUAL(p.client_err, PG_E_TIMEDOUT);
    CU_ASSERT_TRUE(c->closed);
    CU_ASSERT_EQUAL(c->err, PG_E_TIMEDOUT);
    CU_ASSERT_EQUAL(p.client_stats.guard_closed, 0);
    stop();
}

/* Talks all the time, answers no PING. */
static void test_keepalive_ignored(void)
{
    unsigned seconds = 0;
    start(true, 100000);
    CU_ASSERT_TRUE(say_connect(1, false));
    while (!over() && seconds < 200) {
        if (!say_frame(DATA, 0, 1, "x", 1)) {
            break;
        }
        pg_loop_sim_advance(loop, 1000);
        seconds++;
        if (seconds < 8) {
            listen_some();
            CU_ASSERT_EQUAL(heard.frames[PING], 0); /* bytes arrive, no need to ask */
        }
        if (seconds == 8) { /* a silence makes it ask */
            pg_loop_sim_advance(loop, 11000);
        }
    }
    listen_some();
    CU_ASSERT_EQUAL(heard.frames[PING], 1);
    CU_ASSERT_TRUE(p.server_closed);
    CU_ASSERT_EQUAL(p.server_err, PG_E_TIMEDOUT);
    CU_ASSERT_TRUE(seconds > 40 && seconds < 80);
    stop();
}

/* Random frames with plausible headers: whatever happens, nothing leaks and nothing crashes. */
static void test_random(void)
{
    struct pg_rng rng;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        pg_rng_seed(&rng, seed);
        start(seed % 2 == 0, 100000);
        p.auto_respond = true;
        if (seed % 2 != 0) {
            struct side *c = NULL;
            for (int i = 0; i < 3; i++) {
                CU_ASSERT_EQUAL(pair_request(&p, i == 0 ? "GET" : "CONNECT", i == 0, &c), 0);
            }
            turns();
        }
        for (int i = 0; i < 60 && !over(); i++) {
            uint8_t b[120];
            size_t len = (size_t)pg_rng_below(&rng, sizeof(b));
            uint32_t id = (uint32_t)pg_rng_below(&rng, 8);
            for (size_t k = 0; k < len; k++) {
                b[k] = (uint8_t)(pg_rng_below(&rng, 3) == 0 ? pg_rng_next(&rng) : 0x88);
            }
            if (pg_rng_below(&rng, 3) == 0) {
                if (!say_connect(id | 1, false)) {
                    break;
                }
            } else if (!say_frame((uint8_t)pg_rng_below(&rng, 11), (uint8_t)pg_rng_next(&rng) & 0x2d, id, b,
                                  len)) {
                break;
            }
            turns();
        }
        pg_loop_sim_advance(loop, pg_rng_below(&rng, 20000));
        stop();
    }
}

TEST_MAIN("h2 hostile peers", {"ping flood", test_ping_flood}, {"settings flood", test_settings_flood},
          {"priority flood", test_priority_flood}, {"empty data flood", test_empty_data_flood},
          {"window update flood", test_window_update_flood}, {"unknown frames", test_unknown_flood},
          {"rapid reset", test_rapid_reset}, {"made you reset", test_made_you_reset},
          {"never acknowledges, never reads", test_never_acknowledges},
          {"settings ack time-out", test_settings_ack_timeout},
          {"handshake time-out", test_handshake_timeout}, {"bad preface", test_bad_preface},
          {"header limits", test_header_limits}, {"continuation flood", test_continuation_flood},
          {"violations", test_violations}, {"data beyond the window", test_data_beyond_window},
          {"1xx flood", test_client_informational}, {"push", test_client_push},
          {"goaway", test_client_goaway}, {"goaway for a reason", test_client_goaway_error},
          {"stream limit", test_client_limit}, {"stream ids", test_client_ids},
          {"keepalive", test_keepalive_timeout}, {"keepalive ignored", test_keepalive_ignored},
          {"random frames", test_random})
