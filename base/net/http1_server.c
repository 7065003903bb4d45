/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The small HTTP server of admin, metrics and readiness ports. Every connection has a limit for each step it
 * can be slow in: head, body, taking the answer, going away. A reply may outlive its connection; then it goes
 * nowhere. Loop thread.
 */
#include "net/http1.h"

#include "core/mem.h"
#include "net/http1_parse.h"

#define HEAD_MS 2000u
#define BODY_MS 10000u
#define STALL_MS 30000u /* an answer must move on within this time */
#define GOODBYE_MS 1000u
#define READS_A_TURN 64
#define ANSWER_MAX ((size_t)1 << 30)

enum conn_state { CONN_HEAD, CONN_BODY, CONN_HANDLER, CONN_ANSWER, CONN_GOODBYE };

struct pg_http1_server {
    struct pg_loop *loop;
    struct pg_listener *listener;
    pg_http1_handler handler;
    void *arg;
    struct pg_list conns;
    size_t n_conns;
    struct pg_defer dead;
};
struct conn {
    struct pg_list node;
    struct pg_http1_server *s;
    struct pg_transport *t;
    struct pg_timer *timer;
    struct pg_http1_reply *reply; /* while the handler owes an answer */
    struct pg_sb in;
    struct pg_sb out;
    size_t out_done;
    enum conn_state state;
};
struct pg_http1_reply {
    struct conn *conn; /* NULL: the connection is gone */
};

static void conn_free(struct conn *c)
{
    if (c->reply != NULL) {
        c->reply->conn = NULL;
    }
    pg_list_remove(&c->node);
    c->s->n_conns--;
    pg_timer_free(c->timer);
    pg_transport_close(c->t);
    pg_sb_fini(&c->in);
    pg_sb_fini(&c->out);
    pg_free(c);
}

static const char *reason(int status)
{
    static const struct {
        int status;
        const char *text;
    } known[] = {{200, "OK"},
                 {204, "No Content"},
                 {400, "Bad Request"},
                 {403, "Forbidden"},
                 {404, "Not Found"},
                 {405, "Method Not Allowed"},
                 {411, "Length Required"},
                 {413, "Content Too Large"},
                 {431, "Request Header Fields Too Large"},
                 {500, "Internal Server Error"},
                 {503, "Service Unavailable"}};
    for (size_t i = 0; i < PG_ARRAY_LEN(known); i++) {
        if (known[i].status == status) {
            return known[i].text;
        }
    }
    return "Status";
}

/* Sends what is left; then waits a moment for the client to go, lest closing first cut the answer short. */
static void conn_write(struct conn *c)
{
    while (c->out_done < c->out.len) {
        ssize_t w = pg_transport_write(c->t, c->out.p + c->out_done, c->out.len - c->out_done);
        if (w == PG_E_AGAIN) {
            pg_transport_want(c->t, PG_WRITE);
            return;
        }
        if (w < 0) {
            conn_free(c);
            return;
        }
        c->out_done += (size_t)w;
        pg_timer_start(c->timer, STALL_MS);
    }
    if (pg_transport_shutdown(c->t) < 0) {
        conn_free(c);
        return;
    }
    c->state = CONN_GOODBYE;
    pg_sb_fini(&c->out);
    pg_timer_start(c->timer, GOODBYE_MS);
    pg_transport_want(c->t, PG_READ);
}

/* `c` may be gone after this. */
static void conn_answer(struct conn *c, int status, const char *type, struct pg_str body)
{
    pg_sb_fini(&c->in);
    pg_sb_fmt(&c->out, "HTTP/1.1 %d %s\r\n", status, reason(status));
    if (status == 405) {
        pg_sb_c(&c->out, "Allow: GET, POST\r\n");
    }
    if (type != NULL && type[0] != '\0') {
        pg_sb_fmt(&c->out, "Content-Type: %s\r\n", type);
    }
    pg_sb_fmt(&c->out, "Content-Length: %zu\r\nConnection: close\r\n\r\n", body.len);
    pg_sb_str(&c->out, body);
    if (c->out.err < 0) {
        conn_free(c);
        return;
    }
    c->state = CONN_ANSWER;
    pg_timer_start(c->timer, STALL_MS);
    conn_write(c);
}

static void conn_refuse(struct conn *c, int status)
{
    conn_answer(c, status, "text/plain", pg_str_c(reason(status)));
}

void pg_http1_reply_send(struct pg_http1_reply *r, int status, const char *type, struct pg_str body)
{
    struct conn *c = r->conn;
    pg_free(r);
    if (c != NULL) {
        c->reply = NULL;
        conn_answer(c, status, type, body);
    }
}

static void conn_handle(struct conn *c, const struct pg_http1_head *h)
{
    struct pg_str target = h->first[1];
    struct pg_str path = target;
    struct pg_str query = target;
    struct pg_http1_reply *reply = pg_malloc(sizeof(*reply));
    if (reply == NULL) {
        conn_free(c);
        return;
    }
    (void)pg_str_cut(&query, '?', &path);
    struct pg_http1_request req = {.method = h->first[0],
                                   .path = path,
                                   .query = query,
                                   .accept = h->accept,
                                   .body = pg_str_n(c->in.p + h->size, (size_t)h->length)};
    reply->conn = c;
    c->reply = reply;
    c->state = CONN_HANDLER;
    pg_timer_stop(c->timer);
    pg_transport_want(c->t, 0);
    /* the handler may answer at once, which frees the bytes the request points into */
    struct pg_sb in = c->in;
    pg_sb_init(&c->in, 0);
    c->s->handler(&req, reply, c->s->arg);
    pg_sb_fini(&in);
}

/* 0 to read on; otherwise the connection was dealt with and may be gone. */
static int conn_advance(struct conn *c)
{
    struct pg_http1_head h;
    int r = pg_http1_request_head(pg_sb_view(&c->in), &h);
    int refuse = 0;
    if ((r == PG_E_AGAIN && c->in.len >= PG_HTTP1_HEADER_MAX) || (r == 0 && h.size > PG_HTTP1_HEADER_MAX)) {
        refuse = 431;
    } else if (r == PG_E_AGAIN) {
        return 0;
    } else if (r < 0) {
        refuse = 400;
    } else if (!pg_str_eq_c(h.first[0], "GET") && !pg_str_eq_c(h.first[0], "POST")) {
        refuse = 405;
    } else if (h.chunked) {
        refuse = 411;
    } else if (h.length > PG_HTTP1_BODY_MAX) {
        refuse = 413;
    }
    if (refuse != 0) {
        conn_refuse(c, refuse);
        return 1;
    }
    if (c->in.len - h.size < h.length) {
        if (c->state == CONN_HEAD) {
            c->state = CONN_BODY;
            pg_timer_start(c->timer, BODY_MS);
            if (h.expect_continue) {
                /* the first bytes on a fresh connection always fit; a failure shows again when reading */
                (void)pg_transport_write(c->t, "HTTP/1.1 100 Continue\r\n\r\n", 25);
            }
        }
        return 0;
    }
    conn_handle(c, &h);
    return 1;
}

static void conn_read(struct conn *c)
{
    char buf[4096];
    for (int i = 0; i < READS_A_TURN; i++) {
        ssize_t n = pg_transport_read(c->t, buf, sizeof(buf));
        if (n == PG_E_AGAIN) {
            return;
        }
        if (n <= 0) {
            conn_free(c);
            return;
        }
        pg_transport_consumed(c->t, (size_t)n);
        if (c->state == CONN_GOODBYE) {
            continue;
        }
        pg_sb_add(&c->in, buf, (size_t)n);
        if (c->in.err == PG_E_LIMIT) {
            conn_refuse(c, 413);
            return;
        }
        if (c->in.err < 0) {
            conn_free(c);
            return;
        }
        if (conn_advance(c) != 0) {
            return;
        }
    }
}

static void on_ready(struct pg_transport *t, unsigned rw, void *arg)
{
    struct conn *c = arg;
    (void)t;
    if (c->state == CONN_ANSWER) {
        conn_write(c);
    } else if (c->state != CONN_HANDLER && (rw & PG_READ) != 0) {
        conn_read(c);
    }
}

static void on_timer(void *arg)
{
    conn_free(arg);
}

static void on_accept(struct pg_transport *t, const struct pg_addr *from, void *arg)
{
    struct pg_http1_server *s = arg;
    struct conn *c = NULL;
    (void)from;
    if (s->n_conns < PG_HTTP1_CONNS_MAX) {
        c = pg_calloc(1, sizeof(*c));
    }
    if (c == NULL || pg_timer_new(s->loop, on_timer, c, &c->timer) < 0) {
        pg_free(c);
        pg_transport_abort(t);
        return;
    }
    c->s = s;
    c->t = t;
    pg_sb_init(&c->in, PG_HTTP1_HEADER_MAX + PG_HTTP1_BODY_MAX + 4096);
    pg_sb_init(&c->out, ANSWER_MAX);
    pg_list_push_back(&s->conns, &c->node);
    s->n_conns++;
    pg_timer_start(c->timer, HEAD_MS);
    pg_transport_set_owner(t, on_ready, c);
    pg_transport_want(t, PG_READ);
}

static void release(struct pg_defer *d)
{
    pg_free(PG_CONTAINER_OF(d, struct pg_http1_server, dead));
}

int pg_http1_listen(struct pg_loop *l, const char *at, pg_http1_handler handler, void *arg,
                    struct pg_http1_server **out, struct pg_errtext *err)
{
    struct pg_addr addr;
    int r;
    struct pg_http1_server *s = pg_calloc(1, sizeof(*s));
    if (s == NULL) {
        pg_err_set(err, "cannot listen on %s: %s", at, pg_err_str(PG_E_NOMEM));
        return PG_E_NOMEM;
    }
    s->loop = l;
    s->handler = handler;
    s->arg = arg;
    s->dead.cb = release;
    pg_list_init(&s->conns);
    if (pg_str_has_prefix(pg_str_c(at), PG_STR("unix:"))) {
        r = pg_unix_listen(l, at + 5, on_accept, s, &s->listener, err);
    } else {
        r = pg_addr_parse(pg_str_c(at), &addr);
        if (r < 0) {
            pg_err_set(err, "not an address to listen on: \"%s\"", at);
            r = PG_E_CONFIG;
        } else {
            r = pg_tcp_listen(l, &addr, NULL, on_accept, s, &s->listener, err);
        }
    }
    if (r < 0) {
        pg_free(s);
        return r;
    }
    *out = s;
    return 0;
}

struct pg_addr pg_http1_addr(const struct pg_http1_server *s)
{
    return pg_listener_addr(s->listener);
}

void pg_http1_free(struct pg_http1_server *s)
{
    if (s == NULL) {
        return;
    }
    pg_listener_free(s->listener);
    PG_LIST_FOREACH(&s->conns, n)
    {
        conn_free(PG_CONTAINER_OF(n, struct conn, node));
    }
    pg_loop_defer(s->loop, &s->dead);
}
