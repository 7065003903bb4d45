/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Against an independent implementation: h2_peer.py (python3-h2) at the other end of a socket pair, first as
 * client, then as server. Real loop. Arguments: the interpreter and the script. Exit 77 when python3-h2 is
 * missing.
 */
#include "net/h2.h"

#include "core/buf.h"
#include "net/sock.h"
#include "testlib.h"
#include "transport_suite.h"

#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define BIG (3u << 20)

extern char **environ;

static const char *python;
static const char *script;
static bool missing;
static struct pg_loop *loop;
static struct pg_h2 *session;
static bool session_over;
static int session_err;

/* ---- the server: greets, echoes ---- */

struct echo {
    struct pg_h2_stream *s;
    struct pg_buf held; /* read, not yet written */
    bool trailers;
    bool ended;
};
static unsigned echoes;

static void echo_done(struct echo *e, uint32_t code)
{
    pg_h2_stream_close(e->s, code);
    pg_buf_fini(&e->held);
    pg_free(e);
    echoes--;
}

/* Writes what is held; true when none is left. */
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
    static char buf[30000];
    struct echo *e = arg;
    const struct pg_h2_field status[] = {{PG_STR("grpc-status"), PG_STR("0"), false}};
    const struct pg_h2_head trailers = {status, 1};
    while (!e->ended && echo_out(e)) {
        ssize_t n = pg_h2_read(s, buf, sizeof(buf));
        if (n < 0) {
            return;
        }
        if (n == 0) {
            e->ended = true;
            CU_ASSERT_EQUAL(e->trailers ? pg_h2_trailers(s, &trailers) : pg_h2_end(s), 0);
            return;
        }
        CU_ASSERT_EQUAL(pg_buf_add(&e->held, buf, (size_t)n), 0);
    }
}

static void echo_closed(struct pg_h2_stream *s, uint32_t code, int err, void *arg)
{
    (void)s;
    (void)err;
    echo_done(arg, code);
}

static void on_request(struct pg_h2 *h, struct pg_h2_stream *s, const struct pg_h2_head *head, bool end,
                       void *arg)
{
    static const struct pg_h2_stream_callbacks cb = {
        .on_readable = echo_run, .on_writable = echo_run, .on_closed = echo_closed};
    const struct pg_h2_field ok[] = {{PG_STR(":status"), PG_STR("200"), false}};
    const struct pg_h2_head reply = {ok, 1};
    (void)arg;
    CU_ASSERT_EQUAL(pg_h2_respond(s, &reply, false), 0);
    if (end) {
        struct iovec hello = {(char[]){"hello\n"}, 6};
        CU_ASSERT_EQUAL(pg_h2_writev(s, &hello, 1), 6);
        CU_ASSERT_EQUAL(pg_h2_end(s), 0);
        if (pg_str_eq_c(pg_h2_head_get(head, ":path"), "/drain")) {
            pg_h2_drain(h);
        }
        pg_h2_stream_close(s, PG_H2_NO_ERROR);
        return;
    }
    struct echo *e = pg_calloc(1, sizeof(*e));
    PG_BUG_ON(e == NULL);
    e->s = s;
    e->trailers = pg_str_eq_c(pg_h2_head_get(head, ":method"), "POST");
    pg_buf_init(&e->held, 30000);
    echoes++;
    pg_h2_stream_set_owner(s, &cb, e);
}

static void on_session_closed(struct pg_h2 *h, int err, const char *text, void *arg)
{
    (void)arg;
    (void)text;
    session_over = true;
    session_err = err;
    pg_h2_free(h);
    session = NULL;
}

static const struct pg_h2_callbacks session_cb = {.on_request = on_request, .on_closed = on_session_closed};

/* ---- the other process ---- */

static pid_t start_peer(const char *role, int *fd)
{
    int pair[2];
    pid_t pid = -1;
    posix_spawn_file_actions_t fa;
    char *const argv[] = {(char *)(uintptr_t)python, (char *)(uintptr_t)script, (char *)(uintptr_t)role,
                          (char *)(uintptr_t) "3", NULL};
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    CU_ASSERT_EQUAL_FATAL(posix_spawn_file_actions_init(&fa), 0);
    CU_ASSERT_EQUAL_FATAL(posix_spawn_file_actions_adddup2(&fa, pair[1], 3), 0);
    CU_ASSERT_EQUAL_FATAL(posix_spawn(&pid, python, &fa, NULL, argv, environ), 0);
    (void)posix_spawn_file_actions_destroy(&fa);
    (void)close(pair[1]);
    *fd = pair[0];
    return pid;
}

static void check_peer(pid_t pid)
{
    int status = 0;
    CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        missing = true;
        return;
    }
    CU_ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static bool is_over(void *arg)
{
    (void)arg;
    return session_over;
}

static void test_python_client(void)
{
    struct pg_h2_options o;
    struct pg_transport *t = NULL;
    int fd = -1;
    session_over = false;
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&loop), 0);
    pid_t pid = start_peer("client", &fd);
    CU_ASSERT_EQUAL_FATAL(pg_fd_transport(loop, fd, &t), 0);
    pg_h2_options_hbone(&o, true);
    CU_ASSERT_EQUAL_FATAL(pg_h2_server_new(loop, t, &o, &session_cb, NULL, &session), 0);
    CU_ASSERT_TRUE(suite_turns(loop, is_over, NULL));
    pg_h2_free(session);
    session = NULL;
    pg_loop_turn(loop, false);
    check_peer(pid);
    if (!missing) {
        CU_ASSERT_EQUAL(session_err, 0);
        CU_ASSERT_EQUAL(echoes, 0);
    }
    pg_loop_free(loop);
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), 0);
}

/* ---- the client ---- */

struct call {
    const char *path; /* NULL: CONNECT */
    struct pg_h2_stream *s;
    uint64_t to_send;
    uint64_t sent;
    uint64_t got;
    bool wrong;
    bool headed;
    bool head_end;
    bool closed;
    int read_end;
    int err;
    uint32_t code;
    char grpc[8];
};

static void take_grpc(struct call *c, const struct pg_h2_head *head)
{
    struct pg_str v = pg_h2_head_get(head, "grpc-status");
    if (v.p != NULL && v.len < sizeof(c->grpc)) {
        memcpy(c->grpc, v.p, v.len);
    }
}

static void call_head(struct pg_h2_stream *s, const struct pg_h2_head *head, bool end, void *arg)
{
    struct call *c = arg;
    (void)s;
    CU_ASSERT_FALSE(c->headed);
    c->headed = true;
    c->head_end = end;
    take_grpc(c, head);
    CU_ASSERT_TRUE(pg_str_eq_c(pg_h2_head_get(head, ":status"), "200"));
}

static void call_trailers(struct pg_h2_stream *s, const struct pg_h2_head *head, void *arg)
{
    (void)s;
    take_grpc(arg, head);
}

static void call_read(struct pg_h2_stream *s, void *arg)
{
    static unsigned char buf[10000];
    struct call *c = arg;
    while (c->read_end == 0) {
        ssize_t n = pg_h2_read(s, buf, sizeof(buf));
        if (n == PG_E_AGAIN) {
            return;
        }
        if (n <= 0) {
            c->read_end = n == 0 ? 1 : (int)n;
            return;
        }
        for (ssize_t i = 0; i < n && c->path == NULL; i++) {
            c->wrong = c->wrong || buf[i] != suite_byte(3, c->got + (uint64_t)i);
        }
        c->got += (uint64_t)n;
        pg_h2_consumed(s, (size_t)n);
    }
}

static void call_write(struct pg_h2_stream *s, void *arg)
{
    struct call *c = arg;
    unsigned char buf[7000];
    while (c->sent < c->to_send) {
        size_t n = c->to_send - c->sent < sizeof(buf) ? (size_t)(c->to_send - c->sent) : sizeof(buf);
        for (size_t i = 0; i < n; i++) {
            buf[i] = suite_byte(3, c->sent + i);
        }
        struct iovec iov = {buf, n};
        ssize_t r = pg_h2_writev(s, &iov, 1);
        if (r < 0) {
            return;
        }
        c->sent += (uint64_t)r;
    }
    if (c->path == NULL) {
        CU_ASSERT_EQUAL(pg_h2_end(s), 0);
    }
}

static void call_closed(struct pg_h2_stream *s, uint32_t code, int err, void *arg)
{
    struct call *c = arg;
    c->closed = true;
    c->code = code;
    c->err = err;
    call_read(s, c);
    pg_h2_stream_close(s, PG_H2_NO_ERROR);
    c->s = NULL;
}

static void call_start(struct call *c)
{
    static const struct pg_h2_stream_callbacks cb = {call_head, call_read, call_write, call_trailers,
                                                     call_closed};
    const struct pg_h2_field fields[] = {
        {PG_STR(":method"), c->path != NULL ? PG_STR("POST") : PG_STR("CONNECT"), false},
        {PG_STR(":authority"), PG_STR("10.1.2.3:80"), false},
        {PG_STR(":scheme"), PG_STR("http"), false},
        {PG_STR(":path"), pg_str_c(c->path), false},
    };
    const struct pg_h2_head head = {fields, c->path != NULL ? 4 : 2};
    bool end = c->path != NULL && strcmp(c->path, "/leave") != 0;
    CU_ASSERT_EQUAL_FATAL(pg_h2_request(session, &head, end, &cb, c, &c->s), 0);
    if (!end) {
        call_write(c->s, c);
    }
}

static bool all_closed(void *arg)
{
    struct call *calls = arg;
    for (int i = 0; i < 6; i++) {
        if (!calls[i].closed && !session_over) {
            return false;
        }
    }
    return true;
}

static void test_python_server(void)
{
    struct call calls[6] = {{.path = NULL, .to_send = BIG},
                            {.path = NULL, .to_send = 5},
                            {.path = "/trailers-only"},
                            {.path = "/early"},
                            {.path = "/reset"},
                            {.path = "/leave"}};
    struct call bye = {.path = "/bye"};
    struct pg_h2_options o;
    struct pg_transport *t = NULL;
    int fd = -1;
    session_over = false;
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&loop), 0);
    pid_t pid = start_peer("server", &fd);
    CU_ASSERT_EQUAL_FATAL(pg_fd_transport(loop, fd, &t), 0);
    pg_h2_options_hbone(&o, false);
    CU_ASSERT_EQUAL_FATAL(pg_h2_client_new(loop, t, &o, &session_cb, NULL, &session), 0);
    for (int i = 0; i < 6; i++) {
        call_start(&calls[i]);
    }
    CU_ASSERT_TRUE(suite_turns(loop, all_closed, calls));
    if (!session_over) {
        call_start(&bye);
        CU_ASSERT_TRUE(suite_turns(loop, is_over, NULL));
    }
    pg_h2_free(session);
    session = NULL;
    pg_loop_turn(loop, false);
    check_peer(pid);
    if (!missing) {
        for (int i = 0; i < 2; i++) {
            CU_ASSERT_EQUAL(calls[i].got, calls[i].to_send);
            CU_ASSERT_FALSE(calls[i].wrong);
            CU_ASSERT_EQUAL(calls[i].read_end, 1);
            CU_ASSERT_EQUAL(calls[i].err, 0);
        }
        CU_ASSERT_TRUE(calls[2].head_end);
        CU_ASSERT_STRING_EQUAL(calls[2].grpc, "5");
        CU_ASSERT_EQUAL(calls[3].got, 6);
        CU_ASSERT_STRING_EQUAL(calls[3].grpc, "0");
        CU_ASSERT_EQUAL(calls[3].err, 0);
        CU_ASSERT_EQUAL(calls[4].err, PG_E_RESET);
        CU_ASSERT_EQUAL(calls[4].read_end, PG_E_RESET);
        CU_ASSERT_EQUAL(calls[4].code, PG_H2_INTERNAL_ERROR);
        CU_ASSERT_EQUAL(calls[5].got, 6);
        CU_ASSERT_EQUAL(calls[5].read_end, 1);
        CU_ASSERT_EQUAL(calls[5].err, 0);
        CU_ASSERT_TRUE(bye.closed);
        CU_ASSERT_EQUAL(bye.err, 0);
        CU_ASSERT_EQUAL(session_err, 0);
    }
    pg_loop_free(loop);
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), 0);
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {{"python3-h2 as client", test_python_client},
                                             {"python3-h2 as server", test_python_server}};
    if (argc != 3) {
        return 2;
    }
    python = argv[1];
    script = argv[2];
    int r = test_main("h2 against python3-h2", cases, PG_ARRAY_LEN(cases));
    return r == 0 && missing ? 77 : r;
}
