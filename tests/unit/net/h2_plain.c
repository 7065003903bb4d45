/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plain HTTP/2 listener for outside tools and conformance suites (h2load, nghttp, h2spec): answers 200 with
 * a short body to GET, echoes what POST and CONNECT send. Listens on 127.0.0.1; writes its port to standard
 * output; ends when standard input ends, or at SIGTERM after a drain. Argument: port, 0 or nothing picks one.
 */
#include "net/h2.h"

#include "core/buf.h"
#include "net/sock.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define MAX_SESSIONS 1024
#define ECHO_HOLD 65536

struct echo {
    struct pg_h2_stream *s;
    struct pg_buf held; /* read, not yet written on */
    bool ended;
};

static struct pg_loop *loop;
static struct pg_listener *listener;
static struct pg_h2 *sessions[MAX_SESSIONS];
static size_t n_sessions;
static bool leaving;

static bool echo_out(struct echo *e)
{
    while (e->held.len > 0) {
        struct iovec iov[4];
        int used = pg_buf_peek(&e->held, iov, 4);
        ssize_t n = pg_h2_writev(e->s, iov, used);
        if (n < 0) {
            return false;
        }
        pg_buf_drop(&e->held, (size_t)n);
        pg_h2_consumed(e->s, (size_t)n);
    }
    return true;
}

static void echo_run(struct pg_h2_stream *s, void *arg)
{
    static char buf[ECHO_HOLD];
    struct echo *e = arg;
    while (!e->ended && echo_out(e)) {
        ssize_t n = pg_h2_read(s, buf, sizeof(buf));
        if (n < 0) {
            return;
        }
        if (n == 0) {
            e->ended = true;
            (void)!pg_h2_end(s);
        } else if (pg_buf_add(&e->held, buf, (size_t)n) < 0) {
            return;
        }
    }
}

static void echo_closed(struct pg_h2_stream *s, uint32_t code, int err, void *arg)
{
    struct echo *e = arg;
    (void)err;
    pg_h2_stream_close(s, code);
    pg_buf_fini(&e->held);
    pg_free(e);
}

static void greet(struct pg_h2_stream *s)
{
    static const char body[] = "hello\n";
    struct iovec iov = {(void *)(uintptr_t)body, sizeof(body) - 1};
    if (pg_h2_writev(s, &iov, 1) > 0) {
        (void)!pg_h2_end(s);
    }
    pg_h2_stream_close(s, PG_H2_NO_ERROR);
}

static void on_request(struct pg_h2 *h, struct pg_h2_stream *s, const struct pg_h2_head *head, bool end,
                       void *arg)
{
    static const struct pg_h2_stream_callbacks cb = {
        .on_readable = echo_run, .on_writable = echo_run, .on_closed = echo_closed};
    const struct pg_h2_field status = {PG_STR(":status"), PG_STR("200"), false};
    const struct pg_h2_head reply = {&status, 1};
    (void)h;
    (void)arg;
    (void)head;
    if (pg_h2_respond(s, &reply, false) < 0) {
        pg_h2_stream_close(s, PG_H2_INTERNAL_ERROR);
        return;
    }
    struct echo *e = end ? NULL : pg_calloc(1, sizeof(*e));
    if (e == NULL) {
        greet(s);
        return;
    }
    e->s = s;
    pg_buf_init(&e->held, ECHO_HOLD);
    pg_h2_stream_set_owner(s, &cb, e);
}

static void stop_when_done(void)
{
    if (leaving && n_sessions == 0) {
        pg_loop_stop(loop);
    }
}

static void on_closed(struct pg_h2 *h, int err, const char *text, void *arg)
{
    (void)err;
    (void)text;
    (void)arg;
    for (size_t i = 0; i < n_sessions; i++) {
        if (sessions[i] == h) {
            sessions[i] = sessions[--n_sessions];
            break;
        }
    }
    pg_h2_free(h);
    stop_when_done();
}

static void on_accept(struct pg_transport *t, const struct pg_addr *from, void *arg)
{
    static const struct pg_h2_callbacks cb = {.on_request = on_request, .on_closed = on_closed};
    struct pg_h2_options o;
    (void)from;
    (void)arg;
    pg_h2_options_hbone(&o, true);
    if (n_sessions == MAX_SESSIONS || pg_h2_server_new(loop, t, &o, &cb, NULL, &sessions[n_sessions]) < 0) {
        pg_transport_close(t);
        return;
    }
    n_sessions++;
}

static void leave(void *arg)
{
    (void)arg;
    leaving = true;
    pg_listener_free(listener);
    listener = NULL;
    for (size_t i = 0; i < n_sessions; i++) {
        pg_h2_drain(sessions[i]);
    }
    stop_when_done();
}

static void on_stdin(void *arg, unsigned rw)
{
    char c;
    struct pg_io **io = arg;
    (void)rw;
    if (read(STDIN_FILENO, &c, 1) <= 0) {
        pg_io_free(*io);
        *io = NULL;
        leave(NULL);
    }
}

int main(int argc, char **argv)
{
    const struct pg_listen_options lo = {0};
    struct pg_addr at = {.ip = {.len = 4, .b = {127, 0, 0, 1}}};
    struct pg_errtext err = {""};
    struct pg_signal *term = NULL;
    struct pg_io *io = NULL;
    uint64_t port = 0;
    if (argc > 1 && pg_str_u64(pg_str_c(argv[1]), 65535, &port) < 0) {
        return 2;
    }
    at.port = (uint16_t)port;
    if (pg_loop_new(&loop) < 0 || pg_tcp_listen(loop, &at, &lo, on_accept, NULL, &listener, &err) < 0 ||
        pg_signal_new(loop, SIGTERM, leave, NULL, &term) < 0 ||
        pg_io_new(loop, STDIN_FILENO, on_stdin, &io, &io) < 0) {
        (void)fprintf(stderr, "h2_plain: %s\n", err.text);
        return 1;
    }
    pg_io_want(io, PG_READ);
    (void)dprintf(STDOUT_FILENO, "%u\n", (unsigned)pg_listener_addr(listener).port);
    pg_loop_run(loop);
    pg_io_free(io);
    pg_signal_free(term);
    pg_loop_free(loop);
    return pg_mem_live_blocks() == 0 ? 0 : 3;
}
