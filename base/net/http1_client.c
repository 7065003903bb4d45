/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One HTTP request, one answer, one callback. Everything after a successful start, a refused connect
 * included, is told from the deferred phase with a text that names the address. Loop thread.
 */
#include "net/http1.h"

#include "core/mem.h"
#include "net/http1_parse.h"

#include <inttypes.h>

#define READ_PIECE 16384u

struct fetch {
    struct pg_loop *loop;
    struct pg_transport *t;
    struct pg_timer *timer;
    struct pg_defer finish;
    void (*cb)(int err, int status, struct pg_str body, const char *text, void *arg);
    void *arg;
    struct pg_sb out;
    struct pg_sb head;
    struct pg_sb body;
    struct pg_http1_chunks chunks;
    struct pg_errtext text;
    char *at;
    size_t out_done;
    uint64_t left; /* of a body with Content-Length */
    uint64_t timeout_ms;
    int err;
    int status;
    bool has_head;
    bool chunked;
    bool until_end;
    bool finished;
};

static void fetch_free(struct fetch *f)
{
    pg_timer_free(f->timer);
    pg_transport_close(f->t);
    pg_sb_fini(&f->out);
    pg_sb_fini(&f->head);
    pg_sb_fini(&f->body);
    pg_free(f->at);
    pg_free(f);
}

static void on_finish(struct pg_defer *d)
{
    struct fetch *f = PG_CONTAINER_OF(d, struct fetch, finish);
    f->cb(f->err, f->err == 0 ? f->status : 0, f->err == 0 ? pg_sb_view(&f->body) : PG_STR_NONE, f->text.text,
          f->arg);
    fetch_free(f);
}

static void finish(struct fetch *f, int err, const char *why)
{
    if (f->finished) {
        return;
    }
    f->finished = true;
    f->err = err;
    if (err < 0) {
        pg_err_set(&f->text, "%s: %s", f->at, why != NULL && why[0] != '\0' ? why : pg_err_str(err));
    }
    pg_timer_stop(f->timer);
    if (f->t != NULL) {
        pg_transport_want(f->t, 0);
    }
    pg_loop_defer(f->loop, &f->finish);
}

static void on_timer(void *arg)
{
    struct fetch *f = arg;
    struct pg_errtext why;
    pg_err_set(&why, "no answer within %" PRIu64 " ms", f->timeout_ms);
    finish(f, PG_E_TIMEDOUT, why.text);
}

static void take_body(struct fetch *f, struct pg_str piece)
{
    if (f->chunked) {
        ptrdiff_t r = pg_http1_chunks_feed(&f->chunks, piece, &f->body);
        if (r < 0) {
            finish(f, (int)r, r == PG_E_LIMIT ? "answer too large" : "malformed answer");
        } else if (f->chunks.done) {
            finish(f, 0, NULL);
        }
        return;
    }
    if (!f->until_end && piece.len > f->left) {
        piece.len = (size_t)f->left;
    }
    pg_sb_str(&f->body, piece);
    f->left -= f->until_end ? 0 : piece.len;
    if (f->body.err < 0) {
        finish(f, f->body.err, f->body.err == PG_E_LIMIT ? "answer too large" : NULL);
    } else if (!f->until_end && f->left == 0) {
        finish(f, 0, NULL);
    }
}

/* Collects the head; interim (1xx) ones are dropped. */
static void take_head(struct fetch *f, struct pg_str piece)
{
    pg_sb_str(&f->head, piece);
    while (!f->finished && !f->has_head) {
        struct pg_http1_head h;
        struct pg_str all = pg_sb_view(&f->head);
        int r = pg_http1_response_head(all, &h, &f->status);
        if (r == PG_E_AGAIN && f->head.err == 0 && all.len < PG_HTTP1_HEADER_MAX + READ_PIECE) {
            return;
        }
        if (r < 0) {
            finish(f, f->head.err == PG_E_NOMEM ? PG_E_NOMEM : PG_E_PROTO, "malformed answer");
            return;
        }
        if (f->status < 200) {
            memmove(f->head.p, f->head.p + h.size, all.len - h.size);
            f->head.len = all.len - h.size;
            continue;
        }
        bool none = f->status == 204 || f->status == 304;
        f->has_head = true;
        f->chunked = h.chunked && !none;
        f->until_end = !h.chunked && !h.has_length && !none;
        f->left = none ? 0 : h.length;
        take_body(f, pg_str_sub(all, h.size));
    }
}

static void fetch_read(struct fetch *f)
{
    char buf[READ_PIECE];
    while (!f->finished) {
        ssize_t n = pg_transport_read(f->t, buf, sizeof(buf));
        if (n == PG_E_AGAIN) {
            return;
        }
        if (n < 0) {
            finish(f, (int)n, pg_transport_error_text(f->t));
        } else if (n == 0) {
            bool whole = f->has_head && f->until_end;
            finish(f, whole ? 0 : PG_E_CLOSED, "connection closed before the answer was complete");
        } else {
            pg_transport_consumed(f->t, (size_t)n);
            (f->has_head ? take_body : take_head)(f, pg_str_n(buf, (size_t)n));
        }
    }
}

static void fetch_write(struct fetch *f)
{
    while (f->out_done < f->out.len) {
        ssize_t w = pg_transport_write(f->t, f->out.p + f->out_done, f->out.len - f->out_done);
        if (w == PG_E_AGAIN) {
            return;
        }
        if (w < 0) {
            /* the server may have answered and closed without reading all of it */
            f->out_done = f->out.len;
            return;
        }
        f->out_done += (size_t)w;
    }
}

static void on_ready(struct pg_transport *t, unsigned rw, void *arg)
{
    struct fetch *f = arg;
    int status = pg_transport_status(t);
    (void)rw;
    if (f->finished || status == PG_E_AGAIN) {
        return;
    }
    if (status < 0) {
        finish(f, status, pg_transport_error_text(t));
        return;
    }
    fetch_write(f);
    fetch_read(f);
    if (!f->finished) {
        pg_transport_want(t, PG_READ | (f->out_done < f->out.len ? PG_WRITE : 0));
    }
}

static void build_request(struct pg_sb *out, const char *at, const char *method, const char *path,
                          struct pg_str body)
{
    bool is_unix = pg_str_has_prefix(pg_str_c(at), PG_STR("unix:"));
    pg_sb_fmt(out, "%s %s HTTP/1.1\r\nHost: %s\r\nAccept: */*\r\nConnection: close\r\n", method, path,
              is_unix ? "localhost" : at);
    if (body.len > 0 || pg_str_eq_c(pg_str_c(method), "POST")) {
        pg_sb_fmt(out, "Content-Length: %zu\r\n", body.len);
    }
    pg_sb_c(out, "\r\n");
    pg_sb_str(out, body);
}

static bool is_line_safe(const char *z)
{
    for (; *z != '\0'; z++) {
        if ((unsigned char)*z <= 0x20 || *z == 0x7f) {
            return false;
        }
    }
    return true;
}

static void start(struct fetch *f, bool is_unix, const struct pg_addr *addr)
{
    struct pg_errtext err = {.text = ""};
    int r = is_unix ? pg_unix_connect(f->loop, f->at + 5, &f->t, &err)
                    : pg_tcp_connect(f->loop, addr, NULL, &f->t, &err);
    if (r < 0) {
        finish(f, r, pg_err_str(r));
        return;
    }
    pg_transport_set_owner(f->t, on_ready, f);
    pg_transport_want(f->t, PG_READ | PG_WRITE);
    pg_timer_start(f->timer, f->timeout_ms);
}

int pg_http1_fetch(struct pg_loop *l, const char *at, const char *method, const char *path,
                   struct pg_str body, size_t max, uint64_t timeout_ms,
                   void (*cb)(int err, int status, struct pg_str body, const char *text, void *arg),
                   void *arg)
{
    struct pg_addr addr = {.port = 0};
    bool is_unix = pg_str_has_prefix(pg_str_c(at), PG_STR("unix:"));
    int r = 0;
    if (!is_unix && pg_addr_parse(pg_str_c(at), &addr) < 0) {
        return PG_E_CONFIG;
    }
    if (!is_line_safe(method) || !is_line_safe(path)) {
        return PG_E_CONFIG;
    }
    struct fetch *f = pg_calloc(1, sizeof(*f));
    if (f == NULL) {
        return PG_E_NOMEM;
    }
    f->loop = l;
    f->cb = cb;
    f->arg = arg;
    f->timeout_ms = timeout_ms;
    f->finish.cb = on_finish;
    pg_sb_init(&f->out, PG_HTTP1_HEADER_MAX + body.len);
    pg_sb_init(&f->head, PG_HTTP1_HEADER_MAX + READ_PIECE);
    pg_sb_init(&f->body, max);
    build_request(&f->out, at, method, path, body);
    f->at = pg_strdup(at);
    r = f->out.err;
    if (r == 0 && f->at == NULL) {
        r = PG_E_NOMEM;
    }
    if (r == 0) {
        r = pg_timer_new(l, on_timer, f, &f->timer);
    }
    if (r < 0) {
        fetch_free(f);
        return r;
    }
    start(f, is_unix, &addr);
    return 0;
}
