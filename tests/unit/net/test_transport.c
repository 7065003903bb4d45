/* SPDX-License-Identifier: Apache-2.0 */
/* The transport contract over memory pairs, chaos, Unix socket pairs and TCP, on the real loop. */
#include "testlib.h"
#include "transport_suite.h"

#include "net/sock.h"

#include <sys/socket.h>
#include <unistd.h>

static int make_mem(struct pg_loop *l, struct pg_transport **a, struct pg_transport **b, void *arg)
{
    return pg_mem_pair(l, *(size_t *)arg, a, b);
}

static int make_socketpair(struct pg_loop *l, struct pg_transport **a, struct pg_transport **b, void *arg)
{
    int fd[2];
    (void)arg;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fd) < 0) {
        return PG_E_IO;
    }
    int r = pg_fd_transport(l, fd[0], a);
    return r < 0 ? r : pg_fd_transport(l, fd[1], b);
}

static void on_accept(struct pg_transport *t, const struct pg_addr *from, void *arg)
{
    CU_ASSERT_NOT_EQUAL(from->port, 0);
    *(struct pg_transport **)arg = t;
}

static bool accepted(void *arg)
{
    return *(struct pg_transport **)arg != NULL;
}

static int make_tcp(struct pg_loop *l, struct pg_transport **a, struct pg_transport **b, void *arg)
{
    struct pg_addr at = {.port = 0};
    struct pg_listener *lis = NULL;
    struct pg_errtext err = {.text = ""};
    struct pg_sock_options o = {.keepalive = true, .keepalive_time_s = 30, .user_timeout_ms = 1000};
    (void)arg;
    if (pg_ip_parse(PG_STR("127.0.0.1"), &at.ip) < 0) {
        return PG_E_BUG;
    }
    *b = NULL;
    int r = pg_tcp_listen(l, &at, NULL, on_accept, b, &lis, &err);
    if (r < 0) {
        return r;
    }
    struct pg_addr real = pg_listener_addr(lis);
    CU_ASSERT_NOT_EQUAL(real.port, 0);
    r = pg_tcp_connect(l, &real, &o, a, &err);
    CU_ASSERT_EQUAL(r, 0);
    CU_ASSERT_TRUE(suite_turns(l, accepted, b));
    pg_listener_free(lis);
    return *b != NULL ? r : PG_E_IO;
}

static int make_chaos(struct pg_loop *l, struct pg_transport **a, struct pg_transport **b, void *arg)
{
    struct pg_chaos_options *o = arg;
    struct pg_transport *x;
    struct pg_transport *y;
    int r = pg_mem_pair(l, 4096, &x, &y);
    if (r < 0) {
        return r;
    }
    o->seed++;
    r = pg_chaos_new(l, x, o, a);
    return r < 0 ? r : pg_chaos_new(l, y, o, b);
}

static void run_over(int (*make)(struct pg_loop *, struct pg_transport **, struct pg_transport **, void *),
                     void *arg)
{
    struct pg_loop *l = NULL;
    size_t before = pg_mem_live_blocks();
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&l), 0);
    transport_suite_run(l, make, arg);
    pg_loop_free(l);
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), before);
}

static void over_mem(void)
{
    size_t caps[] = {97, 65536};
    for (size_t i = 0; i < PG_ARRAY_LEN(caps); i++) {
        run_over(make_mem, &caps[i]);
    }
}

static void over_socketpair(void)
{
    run_over(make_socketpair, NULL);
}

static void over_tcp(void)
{
    run_over(make_tcp, NULL);
}

static void over_chaos(void)
{
    struct pg_chaos_options rough = {.seed = 1,
                                     .split_pct = 60,
                                     .again_pct = 30,
                                     .max_piece = 700,
                                     .reset_at_read = UINT64_MAX,
                                     .reset_at_write = UINT64_MAX};
    struct pg_chaos_options bytes = {.seed = 9,
                                     .split_pct = 100,
                                     .again_pct = 0,
                                     .max_piece = 40,
                                     .reset_at_read = UINT64_MAX,
                                     .reset_at_write = UINT64_MAX};
    run_over(make_chaos, &rough);
    run_over(make_chaos, &bytes);
}

static bool settled(void *arg)
{
    return pg_transport_status(arg) != PG_E_AGAIN;
}

static void count_ready(struct pg_transport *t, unsigned rw, void *arg)
{
    (void)t;
    CU_ASSERT_EQUAL(rw, PG_READ | PG_WRITE);
    (*(int *)arg)++;
}

static void connect_refused(void)
{
    struct pg_loop *l = NULL;
    struct pg_addr at = {.port = 0};
    struct pg_listener *lis = NULL;
    struct pg_transport *t = NULL;
    struct pg_transport *none = NULL;
    struct pg_errtext err = {.text = ""};
    int calls = 0;
    char c;
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&l), 0);
    CU_ASSERT_EQUAL(pg_ip_parse(PG_STR("127.0.0.1"), &at.ip), 0);
    CU_ASSERT_EQUAL_FATAL(pg_tcp_listen(l, &at, NULL, on_accept, &none, &lis, &err), 0);
    struct pg_addr gone = pg_listener_addr(lis);
    pg_listener_free(lis);
    suite_idle(l, 2);
    int r = pg_tcp_connect(l, &gone, NULL, &t, &err);
    if (r == 0) {
        pg_transport_set_owner(t, count_ready, &calls);
        pg_transport_want(t, PG_READ);
        CU_ASSERT_TRUE(suite_turns(l, settled, t));
        CU_ASSERT_EQUAL(pg_transport_status(t), PG_E_REFUSED);
        pg_loop_turn(l, true);
        CU_ASSERT_EQUAL(pg_transport_read(t, &c, 1), PG_E_REFUSED);
        CU_ASSERT_EQUAL(pg_transport_write(t, "x", 1), PG_E_REFUSED);
        CU_ASSERT_STRING_EQUAL(pg_transport_error_text(t), "connection refused");
        pg_transport_close(t);
    } else {
        CU_ASSERT_EQUAL(r, PG_E_REFUSED);
        CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "127.0.0.1:"));
    }
    pg_loop_free(l);
}

static void addresses(void)
{
    struct pg_loop *l = NULL;
    struct pg_transport *a = NULL;
    struct pg_transport *b = NULL;
    struct pg_addr x;
    struct pg_addr y;
    size_t cap = 10;
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&l), 0);
    CU_ASSERT_EQUAL_FATAL(make_tcp(l, &a, &b, NULL), 0);
    CU_ASSERT_EQUAL(pg_tcp_local(a, &x), 0);
    CU_ASSERT_EQUAL(pg_tcp_remote(b, &y), 0);
    CU_ASSERT_TRUE(pg_addr_eq(&x, &y));
    CU_ASSERT_EQUAL(pg_tcp_original_dst(b, &x), 0); /* not redirected: the local address */
    CU_ASSERT_EQUAL(pg_tcp_local(b, &y), 0);
    CU_ASSERT_TRUE(pg_addr_eq(&x, &y));
    pg_transport_close(a);
    pg_transport_close(b);
    CU_ASSERT_EQUAL_FATAL(make_mem(l, &a, &b, &cap), 0);
    CU_ASSERT_EQUAL(pg_tcp_local(a, &x), PG_E_UNSUPPORTED);
    pg_transport_close(a);
    pg_transport_close(b);
    pg_loop_free(l);
}

static int pair_scenario(void *arg)
{
    struct pg_transport *a = NULL;
    struct pg_transport *b = NULL;
    struct pg_transport *c = NULL;
    struct pg_loop *l = arg;
    struct pg_chaos_options o = {.seed = 1, .reset_at_read = UINT64_MAX, .reset_at_write = UINT64_MAX};
    int r = pg_mem_pair(l, 100, &a, &b);
    if (r < 0) {
        return r;
    }
    r = pg_chaos_new(l, a, &o, &c);
    if (r < 0) {
        c = a;
        goto done;
    }
    ssize_t w = pg_transport_write(c, "hello", 5);
    r = w < 0 ? (int)w : 0;
done:
    pg_transport_close(c);
    pg_transport_close(b);
    suite_idle(l, 3);
    return r;
}

static int fd_scenario(void *arg)
{
    struct pg_loop *l = arg;
    struct pg_transport *t = NULL;
    int fd[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fd) < 0) {
        return PG_E_IO;
    }
    int r = pg_fd_transport(l, fd[0], &t);
    if (r == 0) {
        pg_transport_close(t);
    } else {
        close(fd[0]);
    }
    close(fd[1]);
    suite_idle(l, 3);
    return r;
}

static int listen_scenario(void *arg)
{
    struct pg_loop *l = arg;
    struct pg_listener *lis = NULL;
    struct pg_transport *none = NULL;
    struct pg_addr at = {.port = 0};
    struct pg_listen_options o = {.sock.congestion = "cubic"};
    if (pg_ip_parse(PG_STR("127.0.0.1"), &at.ip) < 0) {
        return PG_E_BUG;
    }
    int r = pg_tcp_listen(l, &at, &o, on_accept, &none, &lis, NULL);
    if (r == 0) {
        struct pg_transport *t = NULL;
        struct pg_addr real = pg_listener_addr(lis);
        r = pg_tcp_connect(l, &real, NULL, &t, NULL);
        pg_transport_close(t);
    }
    pg_listener_free(lis);
    suite_idle(l, 3);
    return r;
}

static void no_op(void *arg)
{
    (void)arg;
}

static void no_memory(void)
{
    struct pg_loop *l = NULL;
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&l), 0);
    pg_loop_turn(l, false);
    struct pg_timer *room =
        NULL; /* the timer table is the loop's: let it have its room before counting blocks */
    CU_ASSERT_EQUAL_FATAL(pg_timer_new(l, no_op, NULL, &room), 0);
    CU_ASSERT_TRUE(test_alloc_sweep(pair_scenario, l) >= 4);
    CU_ASSERT_TRUE(test_alloc_sweep(fd_scenario, l) >= 2);
    CU_ASSERT_TRUE(test_alloc_sweep(listen_scenario, l) >= 5);
    pg_timer_free(room);
    pg_loop_free(l);
}

static void chaos_resets_at_the_byte(void)
{
    struct pg_loop *l = NULL;
    char buf[100];
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&l), 0);
    for (uint64_t at = 0; at < 20; at++) {
        struct pg_transport *a;
        struct pg_transport *b;
        struct pg_transport *c;
        struct pg_chaos_options o = {
            .seed = at, .split_pct = 50, .max_piece = 5, .reset_at_read = UINT64_MAX, .reset_at_write = at};
        CU_ASSERT_EQUAL_FATAL(pg_mem_pair(l, 1000, &a, &b), 0);
        CU_ASSERT_EQUAL_FATAL(pg_chaos_new(l, a, &o, &c), 0);
        uint64_t sent = 0;
        ssize_t w = 1;
        while (w > 0) {
            w = pg_transport_write(c, "0123456789abcdefghijklmnop", 26);
            sent += w > 0 ? (uint64_t)w : 0;
        }
        CU_ASSERT_EQUAL(w, PG_E_RESET);
        CU_ASSERT_EQUAL(sent, at);
        CU_ASSERT_EQUAL(pg_transport_read(b, buf, sizeof(buf)), PG_E_RESET);
        pg_transport_close(c);
        pg_transport_close(b);
        pg_loop_turn(l, false);
    }
    pg_loop_free(l);
}

TEST_MAIN("transport", {"memory pair", over_mem}, {"socket pair", over_socketpair}, {"TCP", over_tcp},
          {"chaos over memory", over_chaos}, {"connect refused", connect_refused}, {"addresses", addresses},
          {"no memory", no_memory}, {"chaos resets at the byte", chaos_resets_at_the_byte})
