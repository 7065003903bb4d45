/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.1: parsers cut at every position, server limits over raw sockets, client against scripted answers.
 */
#include "testlib.h"
#include "transport_suite.h"

#include "core/clock.h"
#include "net/http1.h"
#include "net/http1_parse.h"

#include <string.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char request[] =
    "POST /logging?level=info&x=a%20b+c HTTP/1.1\r\nHost: x\r\nAccept:  text/plain \r\n"
    "Content-Length: 5\r\n\r\nhello";

static void head_at_every_cut(void)
{
    struct pg_http1_head h;
    size_t head = sizeof(request) - 1 - 5;
    for (size_t cut = 0; cut <= sizeof(request) - 1; cut++) {
        char *copy = pg_malloc(cut + 1); /* exact size: ASan sees a read past the end */
        CU_ASSERT_PTR_NOT_NULL_FATAL(copy);
        memcpy(copy, request, cut);
        int r = pg_http1_request_head(pg_str_n(copy, cut), &h);
        CU_ASSERT_EQUAL(r, cut < head ? PG_E_AGAIN : 0);
        if (r == 0) {
            CU_ASSERT_EQUAL(h.size, head);
            CU_ASSERT_TRUE(h.has_length && h.length == 5);
            CU_ASSERT_TRUE(pg_str_eq_c(h.first[0], "POST"));
            CU_ASSERT_TRUE(pg_str_eq_c(h.first[1], "/logging?level=info&x=a%20b+c"));
            CU_ASSERT_TRUE(pg_str_eq_c(h.accept, "text/plain"));
        }
        pg_free(copy);
    }
}

static void bad_heads(void)
{
    static const char *const bad[] = {
        "GET / HTTP/1.1\n\n",
        "GET / HTTP/1.1\r\nA: b\n\r\n",
        "GET / HTTP/1.1\r\n folded: b\r\n\r\n",
        "GET / HTTP/1.1\r\nA : b\r\n\r\n",
        "GET / HTTP/1.1\r\n: b\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\x01\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 1x\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
        "GET http://x/ HTTP/1.1\r\n\r\n",
        "GET /\r\n\r\n",
        "GET  / HTTP/1.1\r\n\r\n",
        "G\"T / HTTP/1.1\r\n\r\n",
        "\r\n\r\n",
        "GET / HTTP/1.1\r\r\n\r\n",
    };
    struct pg_http1_head h;
    for (size_t i = 0; i < PG_ARRAY_LEN(bad); i++) {
        CU_ASSERT_EQUAL(pg_http1_request_head(pg_str_c(bad[i]), &h), PG_E_PARSE);
    }
    int status;
    CU_ASSERT_EQUAL(pg_http1_response_head(PG_STR("HTTP/1.1 200 OK\r\n\r\n"), &h, &status), 0);
    CU_ASSERT_EQUAL(status, 200);
    CU_ASSERT_EQUAL(pg_http1_response_head(PG_STR("HTTP/1.1 404 Not Found\r\n\r\n"), &h, &status), 0);
    CU_ASSERT_EQUAL(status, 404);
    CU_ASSERT_EQUAL(pg_http1_response_head(PG_STR("HTTP/1.1 99 x\r\n\r\n"), &h, &status), PG_E_PARSE);
    CU_ASSERT_EQUAL(pg_http1_response_head(PG_STR("HTTP/1.1 2000 x\r\n\r\n"), &h, &status), PG_E_PARSE);
    CU_ASSERT_EQUAL(pg_http1_response_head(PG_STR("SSH-2.0 200 x\r\n\r\n"), &h, &status), PG_E_PARSE);
    struct pg_sb many;
    pg_sb_init(&many, 100000);
    pg_sb_c(&many, "GET / HTTP/1.1\r\n");
    for (unsigned i = 0; i <= PG_HTTP1_FIELDS_MAX; i++) {
        pg_sb_c(&many, "a: b\r\n");
    }
    pg_sb_c(&many, "\r\n");
    CU_ASSERT_EQUAL(pg_http1_request_head(pg_sb_view(&many), &h), PG_E_PARSE);
    pg_sb_fini(&many);
}

static const char chunked[] = "5;ext=1\r\nhello\r\n1 \r\n,\r\n00a\r\n 0123456\r\n\r\n0\r\nTrailer: x\r\n\r\n";

static void chunks_at_every_split(void)
{
    size_t len = sizeof(chunked) - 1;
    for (size_t a = 0; a <= len; a++) {
        for (size_t b = a; b <= len; b++) {
            struct pg_http1_chunks c = {.state = 0};
            struct pg_sb out;
            size_t cut[4] = {0, a, b, len};
            pg_sb_init(&out, 100);
            for (int i = 0; i < 3; i++) {
                ptrdiff_t n = pg_http1_chunks_feed(&c, pg_str_n(chunked + cut[i], cut[i + 1] - cut[i]), &out);
                CU_ASSERT_EQUAL(n, (ptrdiff_t)(cut[i + 1] - cut[i]));
            }
            CU_ASSERT_TRUE(c.done);
            CU_ASSERT_TRUE(pg_str_eq_c(pg_sb_view(&out), "hello, 0123456\r\n"));
            pg_sb_fini(&out);
        }
    }
}

static void bad_chunks(void)
{
    static const char *const bad[] = {
        "\r\n",    "g\r\n",    "5\nhello", "5\r\nhelloX", "5\r\nhello\rX", "5\rX", "fffffffffffffffff\r\n",
        "0\r\n\n", "0\r\n\rX", "0\r\na\n", ";x\r\n"};
    struct pg_sb out;
    pg_sb_init(&out, 100);
    for (size_t i = 0; i < PG_ARRAY_LEN(bad); i++) {
        struct pg_http1_chunks c = {.state = 0};
        CU_ASSERT_EQUAL(pg_http1_chunks_feed(&c, pg_str_c(bad[i]), &out), PG_E_PARSE);
        pg_sb_reset(&out);
    }
    struct pg_http1_chunks big = {.state = 0};
    static const char many[] = "65\r\n"
                               "12345678901234567890123456789012345678901234567890"
                               "12345678901234567890123456789012345678901234567890x";
    CU_ASSERT_EQUAL(pg_http1_chunks_feed(&big, pg_str_c(many), &out), PG_E_LIMIT);
    pg_sb_reset(&out);
    struct pg_http1_chunks ext = {.state = 0};
    CU_ASSERT_EQUAL(pg_http1_chunks_feed(&ext, PG_STR("1;"), &out), 2);
    ptrdiff_t r = 0;
    for (int i = 0; i < 10000 && r >= 0; i++) {
        r = pg_http1_chunks_feed(&ext, PG_STR("x"), &out);
    }
    CU_ASSERT_EQUAL(r, PG_E_PARSE);
    pg_sb_fini(&out);
}

static void query_values(void)
{
    char buf[8];
    struct pg_str v;
    struct pg_str q = PG_STR("a=1&level=a%2Cb+c&empty=&flag&bad=%4&long=123456789&level=2");
    CU_ASSERT_TRUE(pg_http1_query(q, "a", buf, sizeof(buf), &v) && pg_str_eq_c(v, "1"));
    CU_ASSERT_TRUE(pg_http1_query(q, "level", buf, sizeof(buf), &v) && pg_str_eq_c(v, "a,b c"));
    CU_ASSERT_TRUE(pg_http1_query(q, "empty", buf, sizeof(buf), &v) && v.len == 0);
    CU_ASSERT_TRUE(pg_http1_query(q, "flag", buf, sizeof(buf), &v) && v.len == 0);
    CU_ASSERT_FALSE(pg_http1_query(q, "bad", buf, sizeof(buf), &v));
    CU_ASSERT_FALSE(pg_http1_query(q, "long", buf, sizeof(buf), &v));
    CU_ASSERT_FALSE(pg_http1_query(q, "nope", buf, sizeof(buf), &v));
    CU_ASSERT_FALSE(pg_http1_query(PG_STR_NONE, "a", buf, sizeof(buf), &v));
}

/* ---- server and client over loopback ---- */

struct site {
    struct pg_loop *l;
    struct pg_http1_server *s;
    struct pg_http1_reply *later;
    char at[PG_ADDR_TEXT];
    int calls;
    /* of the last fetch */
    int fetched;
    int err;
    int status;
    char body[200];
    size_t body_len;
    char text[200];
};

static void handler(const struct pg_http1_request *req, struct pg_http1_reply *reply, void *arg)
{
    struct site *w = arg;
    struct pg_sb out;
    w->calls++;
    if (pg_str_eq_c(req->path, "/later")) {
        w->later = reply;
        return;
    }
    if (pg_str_eq_c(req->path, "/missing")) {
        pg_http1_reply_send(reply, 404, "text/plain", PG_STR("no such thing"));
        return;
    }
    pg_sb_init(&out, 1 << 22);
    if (pg_str_eq_c(req->path, "/big")) {
        for (int i = 0; i < 200000; i++) {
            pg_sb_c(&out, "0123456789");
        }
    } else {
        pg_sb_fmt(&out, "%.*s %.*s ?%.*s #%.*s", PG_STR_ARG(req->method), PG_STR_ARG(req->path),
                  PG_STR_ARG(req->query), PG_STR_ARG(req->body));
    }
    pg_http1_reply_send(reply, 200, "text/plain", pg_sb_view(&out));
    pg_sb_fini(&out);
}

static int site_init(struct site *w, const char *at)
{
    struct pg_errtext err = {.text = ""};
    memset(w, 0, sizeof(*w));
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&w->l), 0);
    int r = pg_http1_listen(w->l, at, handler, w, &w->s, &err);
    CU_ASSERT_EQUAL_FATAL(r, 0);
    struct pg_addr a = pg_http1_addr(w->s);
    pg_addr_fmt(&a, w->at);
    return r;
}

static void site_fini(struct site *w)
{
    pg_http1_free(w->s);
    suite_idle(w->l, 4);
    pg_loop_free(w->l);
}

static void on_fetched(int err, int status, struct pg_str body, const char *text, void *arg)
{
    struct site *w = arg;
    w->fetched++;
    w->err = err;
    w->status = status;
    w->body_len = body.len;
    (void)snprintf(w->body, sizeof(w->body), "%.*s", PG_STR_ARG(body));
    (void)snprintf(w->text, sizeof(w->text), "%s", text);
}

static bool is_fetched(void *arg)
{
    return ((struct site *)arg)->fetched > 0;
}

static void fetch(struct site *w, const char *at, const char *method, const char *path, struct pg_str body,
                  size_t max)
{
    w->fetched = 0;
    CU_ASSERT_EQUAL(pg_http1_fetch(w->l, at, method, path, body, max, 5000, on_fetched, w), 0);
    CU_ASSERT_EQUAL(w->fetched, 0); /* never from inside the call */
    CU_ASSERT_TRUE(suite_turns(w->l, is_fetched, w));
    CU_ASSERT_EQUAL(w->fetched, 1);
}

static void server_and_client(void)
{
    struct site w;
    size_t before = pg_mem_live_blocks();
    site_init(&w, "127.0.0.1:0");
    fetch(&w, w.at, "GET", "/a?b=c", PG_STR_NONE, 1000);
    CU_ASSERT_EQUAL(w.err, 0);
    CU_ASSERT_EQUAL(w.status, 200);
    CU_ASSERT_STRING_EQUAL(w.body, "GET /a ?b=c #");
    fetch(&w, w.at, "POST", "/logging", PG_STR("payload"), 1000);
    CU_ASSERT_STRING_EQUAL(w.body, "POST /logging ? #payload");
    fetch(&w, w.at, "GET", "/missing", PG_STR_NONE, 1000);
    CU_ASSERT_EQUAL(w.status, 404);
    CU_ASSERT_STRING_EQUAL(w.body, "no such thing");
    fetch(&w, w.at, "DELETE", "/a", PG_STR_NONE, 1000);
    CU_ASSERT_EQUAL(w.status, 405);
    fetch(&w, w.at, "GET", "/big", PG_STR_NONE, 4000000);
    CU_ASSERT_EQUAL(w.err, 0);
    CU_ASSERT_EQUAL(w.body_len, 2000000);
    fetch(&w, w.at, "GET", "/big", PG_STR_NONE, 1000);
    CU_ASSERT_EQUAL(w.err, PG_E_LIMIT);
    CU_ASSERT_PTR_NOT_NULL(strstr(w.text, w.at));
    char *body = pg_calloc(1, PG_HTTP1_BODY_MAX + 1);
    CU_ASSERT_PTR_NOT_NULL_FATAL(body);
    memset(body, 'x', PG_HTTP1_BODY_MAX + 1);
    fetch(&w, w.at, "POST", "/a", pg_str_n(body, PG_HTTP1_BODY_MAX + 1), 1000);
    CU_ASSERT_EQUAL(w.status, 413);
    fetch(&w, w.at, "POST", "/a", pg_str_n(body, PG_HTTP1_BODY_MAX), 100000);
    CU_ASSERT_EQUAL(w.status, 200);
    CU_ASSERT_EQUAL(w.body_len, PG_HTTP1_BODY_MAX + strlen("POST /a ? #"));
    pg_free(body);
    CU_ASSERT_EQUAL(pg_http1_fetch(w.l, "nonsense", "GET", "/", PG_STR_NONE, 1, 1, on_fetched, &w),
                    PG_E_CONFIG);
    CU_ASSERT_EQUAL(pg_http1_fetch(w.l, w.at, "GET", "/a\r\nX: y", PG_STR_NONE, 1, 1, on_fetched, &w),
                    PG_E_CONFIG);
    site_fini(&w);
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), before);
}

static void over_unix_socket(void)
{
    struct site w;
    char dir[] = "/tmp/pg-http1-XXXXXX";
    char at[64];
    struct stat st;
    struct pg_http1_server *second = NULL;
    struct pg_errtext err = {.text = ""};
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(dir));
    (void)snprintf(at, sizeof(at), "unix:%s/s", dir);
    site_init(&w, at);
    CU_ASSERT_EQUAL(stat(at + 5, &st), 0);
    CU_ASSERT_EQUAL(st.st_mode & 0777, 0600);
    fetch(&w, at, "GET", "/a", PG_STR_NONE, 1000);
    CU_ASSERT_EQUAL(w.status, 200);
    CU_ASSERT_EQUAL(pg_http1_listen(w.l, at, handler, &w, &second, &err), PG_E_EXISTS); /* in use */
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, at + 5));
    site_fini(&w);
    CU_ASSERT_NOT_EQUAL(stat(at + 5, &st), 0);
    site_init(&w, "127.0.0.1:0");
    fetch(&w, at, "GET", "/a", PG_STR_NONE, 1000);
    CU_ASSERT_TRUE(w.err < 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(w.text, at));
    site_fini(&w);
    CU_ASSERT_EQUAL(rmdir(dir), 0);
}

static bool has_later(void *arg)
{
    return ((struct site *)arg)->later != NULL;
}

static void late_answers(void)
{
    struct site w;
    site_init(&w, "127.0.0.1:0");
    CU_ASSERT_EQUAL(pg_http1_fetch(w.l, w.at, "GET", "/later", PG_STR_NONE, 10, 5000, on_fetched, &w), 0);
    CU_ASSERT_TRUE(suite_turns(w.l, has_later, &w));
    suite_idle(w.l, 3);
    pg_http1_reply_send(w.later, 200, "text/plain", PG_STR("done"));
    w.later = NULL;
    CU_ASSERT_TRUE(suite_turns(w.l, is_fetched, &w));
    CU_ASSERT_STRING_EQUAL(w.body, "done");
    /* the server goes first: the reply is inert, and still has to be sent */
    w.fetched = 0;
    CU_ASSERT_EQUAL(pg_http1_fetch(w.l, w.at, "GET", "/later", PG_STR_NONE, 10, 5000, on_fetched, &w), 0);
    CU_ASSERT_TRUE(suite_turns(w.l, has_later, &w));
    pg_http1_free(w.s);
    w.s = NULL;
    CU_ASSERT_TRUE(suite_turns(w.l, is_fetched, &w));
    CU_ASSERT_TRUE(w.err < 0);
    pg_http1_reply_send(w.later, 200, "text/plain", PG_STR("done"));
    site_fini(&w);
}

/* A raw client: sends `text` in pieces of `piece` bytes, one a turn, and collects the answer until the end.
 */
struct raw {
    struct pg_transport *t;
    char got[4096];
    size_t n;
    bool ended;
};

static void raw_ready(struct pg_transport *t, unsigned rw, void *arg)
{
    struct raw *r = arg;
    (void)rw;
    while (!r->ended) {
        ssize_t n = pg_transport_read(t, r->got + r->n, sizeof(r->got) - 1 - r->n);
        if (n == PG_E_AGAIN) {
            return;
        }
        r->ended = n <= 0;
        r->n += n > 0 ? (size_t)n : 0;
        r->got[r->n] = '\0';
    }
    pg_transport_want(t, 0);
}

static bool raw_ended(void *arg)
{
    return ((struct raw *)arg)->ended;
}

static bool raw_open(void *arg)
{
    return pg_transport_status(((struct raw *)arg)->t) == 1;
}

static void raw_start(struct site *w, struct raw *r)
{
    struct pg_addr to = pg_http1_addr(w->s);
    *r = (struct raw){.n = 0};
    CU_ASSERT_EQUAL_FATAL(pg_tcp_connect(w->l, &to, NULL, &r->t, NULL), 0);
    pg_transport_set_owner(r->t, raw_ready, r);
    pg_transport_want(r->t, PG_READ);
    CU_ASSERT_TRUE(suite_turns(w->l, raw_open, r));
    suite_idle(w->l, 3); /* until accepted */
}

static void raw_exchange(struct site *w, const char *text, size_t len, size_t piece, struct raw *r)
{
    raw_start(w, r);
    for (size_t i = 0; i < len && !r->ended; i += piece) {
        size_t n = len - i < piece ? len - i : piece;
        if (pg_transport_write(r->t, text + i, n) < 0) {
            break;
        }
        suite_idle(w->l, 1);
    }
    CU_ASSERT_TRUE(suite_turns(w->l, raw_ended, r));
    pg_transport_close(r->t);
}

static void requests_in_pieces(void)
{
    struct site w;
    struct raw r;
    size_t len = sizeof(request) - 1;
    site_init(&w, "127.0.0.1:0");
    for (size_t piece = 1; piece <= len; piece += piece < 20 ? 1 : 25) {
        raw_exchange(&w, request, len, piece, &r);
        CU_ASSERT_PTR_NOT_NULL(strstr(r.got, "HTTP/1.1 200 OK\r\n"));
        CU_ASSERT_PTR_NOT_NULL(strstr(r.got, "\r\n\r\nPOST /logging ?level=info&x=a%20b+c #hello"));
    }
    site_fini(&w);
}

static void refusals(void)
{
    struct site w;
    struct raw r;
    static char big[PG_HTTP1_HEADER_MAX + 100];
    site_init(&w, "127.0.0.1:0");
    raw_exchange(&w, "hello\r\n\r\n", 9, 9, &r);
    CU_ASSERT_NSTRING_EQUAL(r.got, "HTTP/1.1 400 ", 13);
    memset(big, 'a', sizeof(big));
    memcpy(big, "GET / HTTP/1.1\r\nX: ", 19);
    raw_exchange(&w, big, sizeof(big), 4000, &r);
    CU_ASSERT_NSTRING_EQUAL(r.got, "HTTP/1.1 431 ", 13);
    static const char chunk[] = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    raw_exchange(&w, chunk, sizeof(chunk) - 1, 4000, &r);
    CU_ASSERT_NSTRING_EQUAL(r.got, "HTTP/1.1 411 ", 13);
    static const char expect[] = "POST /x HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nok";
    raw_exchange(&w, expect, sizeof(expect) - 1, sizeof(expect) - 3, &r);
    CU_ASSERT_NSTRING_EQUAL(r.got, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ", 38);
    CU_ASSERT_EQUAL(w.calls, 1);
    site_fini(&w);
}

static void too_many_connections(void)
{
    struct site w;
    static struct raw r[PG_HTTP1_CONNS_MAX + 1];
    site_init(&w, "127.0.0.1:0");
    for (size_t i = 0; i < PG_ARRAY_LEN(r); i++) {
        raw_start(&w, &r[i]);
    }
    CU_ASSERT_TRUE(suite_turns(w.l, raw_ended, &r[PG_HTTP1_CONNS_MAX]));
    CU_ASSERT_FALSE(r[0].ended);
    CU_ASSERT_EQUAL(r[PG_HTTP1_CONNS_MAX].n, 0);
    for (size_t i = 0; i < PG_ARRAY_LEN(r); i++) {
        pg_transport_close(r[i].t);
    }
    suite_idle(w.l, 5);
    fetch(&w, w.at, "GET", "/a", PG_STR_NONE, 1000); /* there is room again */
    CU_ASSERT_EQUAL(w.status, 200);
    site_fini(&w);
}

static void raw_send(struct raw *r, const char *text)
{
    CU_ASSERT_EQUAL(pg_transport_write(r->t, text, strlen(text)), (ssize_t)strlen(text));
}

static uint64_t fake_ms = 5000000;

static uint64_t fake_mono(void *arg)
{
    (void)arg;
    return fake_ms * 1000000;
}

static int64_t fake_wall(void *arg)
{
    (void)arg;
    return 0;
}

/* Turns at a virtual time, long enough for loopback to deliver. */
static void at_time(struct site *w, uint64_t later_ms)
{
    fake_ms += later_ms;
    suite_idle(w->l, 6);
}

/* Each step of a connection has its time limit: head, body; a handler may think as long as it likes. */
static void slow_clients(void)
{
    struct pg_clock clock = {.mono_ns = fake_mono, .wall_us = fake_wall};
    struct site w;
    struct raw r;
    pg_clock_set(&clock);
    site_init(&w, "127.0.0.1:0");
    raw_start(&w, &r);
    raw_send(&r, "GET / HT");
    at_time(&w, 1999);
    CU_ASSERT_FALSE(r.ended);
    at_time(&w, 1);
    CU_ASSERT_TRUE(suite_turns(w.l, raw_ended, &r));
    CU_ASSERT_EQUAL(r.n, 0);
    pg_transport_close(r.t);
    raw_start(&w, &r);
    raw_send(&r, "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab");
    at_time(&w, 1);
    at_time(&w, 9998);
    CU_ASSERT_FALSE(r.ended);
    at_time(&w, 2);
    CU_ASSERT_TRUE(suite_turns(w.l, raw_ended, &r));
    CU_ASSERT_EQUAL(w.calls, 0);
    pg_transport_close(r.t);
    raw_start(&w, &r);
    raw_send(&r, "GET /later HTTP/1.1\r\n\r\n");
    CU_ASSERT_TRUE(suite_turns(w.l, has_later, &w));
    at_time(&w, 1000000);
    CU_ASSERT_FALSE(r.ended);
    pg_http1_reply_send(w.later, 200, NULL, PG_STR("x"));
    CU_ASSERT_TRUE(suite_turns(w.l, raw_ended, &r));
    CU_ASSERT_NSTRING_EQUAL(r.got, "HTTP/1.1 200 ", 13);
    pg_transport_close(r.t);
    /* the client's limit is on the whole */
    w.later = NULL;
    CU_ASSERT_EQUAL(pg_http1_fetch(w.l, w.at, "GET", "/later", PG_STR_NONE, 10, 5000, on_fetched, &w), 0);
    CU_ASSERT_TRUE(suite_turns(w.l, has_later, &w));
    at_time(&w, 4999);
    CU_ASSERT_EQUAL(w.fetched, 0);
    at_time(&w, 1);
    CU_ASSERT_EQUAL(w.fetched, 1);
    CU_ASSERT_EQUAL(w.err, PG_E_TIMEDOUT);
    CU_ASSERT_PTR_NOT_NULL(strstr(w.text, "no answer within 5000 ms"));
    pg_http1_reply_send(w.later, 200, NULL, PG_STR("x"));
    site_fini(&w);
    pg_clock_set(NULL);
}

/* ---- the client against scripted answers ---- */

struct script {
    struct site site;
    struct pg_listener *lis;
    struct pg_transport *t;
    const char *answer;
    size_t piece;
    size_t sent;
    bool hang_up;
};

static void script_ready(struct pg_transport *t, unsigned rw, void *arg)
{
    struct script *s = arg;
    char buf[1000];
    (void)rw;
    while (pg_transport_read(t, buf, sizeof(buf)) > 0) {
    }
    size_t left = strlen(s->answer) - s->sent;
    size_t n = left < s->piece ? left : s->piece;
    ssize_t w = n > 0 ? pg_transport_write(t, s->answer + s->sent, n) : 0;
    s->sent += w > 0 ? (size_t)w : 0;
    bool all = s->sent == strlen(s->answer);
    if (w < 0 || (all && s->hang_up)) {
        (void)pg_transport_shutdown(t);
        all = true;
    }
    pg_transport_want(t, all ? 0 : PG_WRITE);
}

static void script_accept(struct pg_transport *t, const struct pg_addr *from, void *arg)
{
    struct script *s = arg;
    (void)from;
    pg_transport_close(s->t);
    s->t = t;
    s->sent = 0;
    pg_transport_set_owner(t, script_ready, s);
    pg_transport_want(t, PG_READ);
}

static void play(struct script *s, const char *answer, size_t piece, bool hang_up)
{
    s->answer = answer;
    s->piece = piece;
    s->hang_up = hang_up;
    fetch(&s->site, s->site.at, "GET", "/", PG_STR_NONE, 100);
}

static void client_answers(void)
{
    struct script s;
    struct pg_addr at = {.port = 0};
    static const struct {
        const char *answer;
        const char *body;
        int status;
        bool hang_up;
    } good[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", 200, false},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "abc", 200, false},
        {"HTTP/1.0 503 x\r\n\r\nsorry", "sorry", 503, true},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", "", 204, false},
        {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", 200, false},
    };
    static const struct {
        const char *answer;
        int err;
    } bad[] = {
        {"", PG_E_CLOSED},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", PG_E_CLOSED},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", PG_E_CLOSED},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n", PG_E_PARSE},
        {"HELLO\r\n\r\n", PG_E_PROTO},
        {"HTTP/1.1 200 OK\r\n\r\n"
         "12345678901234567890123456789012345678901234567890"
         "12345678901234567890123456789012345678901234567890x",
         PG_E_LIMIT},
    };
    memset(&s, 0, sizeof(s));
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&s.site.l), 0);
    CU_ASSERT_EQUAL_FATAL(pg_ip_parse(PG_STR("127.0.0.1"), &at.ip), 0);
    CU_ASSERT_EQUAL_FATAL(pg_tcp_listen(s.site.l, &at, NULL, script_accept, &s, &s.lis, NULL), 0);
    at = pg_listener_addr(s.lis);
    pg_addr_fmt(&at, s.site.at);
    for (size_t i = 0; i < PG_ARRAY_LEN(good); i++) {
        for (size_t piece = 1; piece < 200; piece += 7) {
            play(&s, good[i].answer, piece, good[i].hang_up);
            CU_ASSERT_EQUAL(s.site.err, 0);
            CU_ASSERT_EQUAL(s.site.status, good[i].status);
            CU_ASSERT_STRING_EQUAL(s.site.body, good[i].body);
        }
    }
    for (size_t i = 0; i < PG_ARRAY_LEN(bad); i++) {
        play(&s, bad[i].answer, 11, true);
        CU_ASSERT_EQUAL(s.site.err, bad[i].err);
        CU_ASSERT_PTR_NOT_NULL(strstr(s.site.text, s.site.at));
    }
    pg_transport_close(s.t);
    pg_listener_free(s.lis);
    pg_loop_free(s.site.l);
}

/* Shared by the allocation sweep: a server, one request, one answer. */
static int whole_scenario(void *arg)
{
    struct site w;
    struct pg_addr a;
    struct pg_errtext err = {.text = ""};
    (void)arg;
    memset(&w, 0, sizeof(w));
    int r = pg_loop_new(&w.l);
    if (r < 0) {
        return r;
    }
    r = pg_http1_listen(w.l, "127.0.0.1:0", handler, &w, &w.s, &err);
    if (r < 0) {
        goto done;
    }
    a = pg_http1_addr(w.s);
    pg_addr_fmt(&a, w.at);
    r = pg_http1_fetch(w.l, w.at, "GET", "/a", PG_STR_NONE, 100, 1000, on_fetched, &w);
    if (r < 0) {
        goto done;
    }
    while (w.fetched == 0) {
        pg_loop_turn(w.l, true);
    }
    r = w.err < 0 ? w.err : w.status == 200 ? 0 : PG_E_IO;
done:
    pg_http1_free(w.s);
    pg_loop_free(w.l);
    return r;
}

static void no_memory(void)
{
    CU_ASSERT_TRUE(test_alloc_sweep(whole_scenario, NULL) >= 15);
}

TEST_MAIN("http1", {"head at every cut", head_at_every_cut}, {"bad heads", bad_heads},
          {"chunks at every split", chunks_at_every_split}, {"bad chunks", bad_chunks},
          {"query", query_values}, {"server and client", server_and_client},
          {"over a Unix socket", over_unix_socket}, {"late answers", late_answers},
          {"requests in pieces", requests_in_pieces}, {"refusals", refusals}, {"slow clients", slow_clients},
          {"too many connections", too_many_connections}, {"client answers", client_answers},
          {"no memory", no_memory})
