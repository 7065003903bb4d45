/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets beyond the transport contract: listeners, Unix socket files, running out of descriptors, UDP. */
#include "testlib.h"
#include "transport_suite.h"

#include "net/sock.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct hall {
    struct pg_loop *l;
    struct pg_listener *lis;
    struct pg_transport *got[8];
    size_t n;
    bool close_listener;
};

static void on_accept(struct pg_transport *t, const struct pg_addr *from, void *arg)
{
    struct hall *h = arg;
    (void)from;
    h->got[h->n++] = t;
    if (h->close_listener) {
        pg_listener_free(h->lis);
        h->lis = NULL;
    }
}

static struct pg_addr loopback(const char *ip)
{
    struct pg_addr a = {.port = 0};
    CU_ASSERT_EQUAL(pg_ip_parse(pg_str_c(ip), &a.ip), 0);
    return a;
}

static void hall_init(struct hall *h, const char *ip, const struct pg_listen_options *o)
{
    struct pg_addr at = loopback(ip);
    struct pg_errtext err = {.text = ""};
    memset(h, 0, sizeof(*h));
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&h->l), 0);
    CU_ASSERT_EQUAL_FATAL(pg_tcp_listen(h->l, &at, o, on_accept, h, &h->lis, &err), 0);
}

static void hall_fini(struct hall *h)
{
    for (size_t i = 0; i < h->n; i++) {
        pg_transport_close(h->got[i]);
    }
    pg_listener_free(h->lis);
    pg_loop_free(h->l);
}

static bool one_accepted(void *arg)
{
    return ((struct hall *)arg)->n >= 1;
}

static void listener_options(void)
{
    struct hall h;
    struct pg_listener *second = NULL;
    struct pg_errtext err = {.text = ""};
    struct pg_listen_options shared = {.reuse_port = true, .backlog = 5};
    char text[PG_ADDR_TEXT];
    hall_init(&h, "127.0.0.1", NULL);
    struct pg_addr at = pg_listener_addr(h.lis);
    CU_ASSERT_EQUAL(pg_tcp_listen(h.l, &at, NULL, on_accept, &h, &second, &err), PG_E_EXISTS);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, pg_addr_fmt(&at, text)));
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "Address already in use"));
    hall_fini(&h);
    hall_init(&h, "127.0.0.1", &shared);
    at = pg_listener_addr(h.lis);
    CU_ASSERT_EQUAL(pg_tcp_listen(h.l, &at, &shared, on_accept, &h, &second, &err), 0);
    pg_listener_free(second);
    hall_fini(&h);
}

/* An IPv6 wildcard listener takes IPv4 too, and says so in plain IPv4. */
static void dual_stack(void)
{
    struct hall h;
    struct pg_transport *t = NULL;
    struct pg_addr seen;
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return; /* a host without IPv6 */
    }
    close(fd);
    hall_init(&h, "::", NULL);
    struct pg_addr to = loopback("127.0.0.1");
    to.port = pg_listener_addr(h.lis).port;
    CU_ASSERT_EQUAL_FATAL(pg_tcp_connect(h.l, &to, NULL, &t, NULL), 0);
    CU_ASSERT_TRUE(suite_turns(h.l, one_accepted, &h));
    CU_ASSERT_EQUAL(pg_tcp_local(h.got[0], &seen), 0);
    CU_ASSERT_TRUE(pg_addr_eq(&seen, &to));
    pg_transport_close(t);
    hall_fini(&h);
}

static void source_address(void)
{
    struct hall h;
    struct pg_transport *t = NULL;
    struct pg_addr seen;
    struct pg_sock_options o = {.source = loopback("127.0.0.77").ip, .transparent = true};
    hall_init(&h, "127.0.0.1", NULL);
    struct pg_addr to = pg_listener_addr(h.lis);
    CU_ASSERT_EQUAL_FATAL(pg_tcp_connect(h.l, &to, &o, &t, NULL), 0);
    CU_ASSERT_TRUE(suite_turns(h.l, one_accepted, &h));
    CU_ASSERT_EQUAL(pg_tcp_remote(h.got[0], &seen), 0);
    CU_ASSERT_TRUE(pg_ip_eq(&seen.ip, &o.source));
    CU_ASSERT_NOT_EQUAL(seen.port, 0);
    pg_transport_close(t);
    hall_fini(&h);
}

static void free_in_accept(void)
{
    struct hall h;
    struct pg_transport *t[3] = {NULL};
    hall_init(&h, "127.0.0.1", NULL);
    h.close_listener = true;
    struct pg_addr to = pg_listener_addr(h.lis);
    for (int i = 0; i < 3; i++) {
        CU_ASSERT_EQUAL_FATAL(pg_tcp_connect(h.l, &to, NULL, &t[i], NULL), 0);
    }
    CU_ASSERT_TRUE(suite_turns(h.l, one_accepted, &h));
    suite_idle(h.l, 5);
    CU_ASSERT_EQUAL(h.n, 1);
    for (int i = 0; i < 3; i++) {
        pg_transport_close(t[i]);
    }
    hall_fini(&h);
}

static void on_time(void *arg)
{
    *(bool *)arg = true;
}

/* Without descriptors the listener rests; turns do not spin; afterwards the connection is taken. */
static void out_of_descriptors(void)
{
    struct hall h;
    struct pg_transport *t = NULL;
    struct pg_timer *timer = NULL;
    struct rlimit old;
    bool due = false;
    int turns = 0;
    hall_init(&h, "127.0.0.1", NULL);
    struct pg_addr to = pg_listener_addr(h.lis);
    CU_ASSERT_EQUAL_FATAL(pg_tcp_connect(h.l, &to, NULL, &t, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(pg_timer_new(h.l, on_time, &due, &timer), 0);
    CU_ASSERT_EQUAL_FATAL(getrlimit(RLIMIT_NOFILE, &old), 0);
    int lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);
    struct rlimit tight = {.rlim_cur = (rlim_t)lowest, .rlim_max = old.rlim_max};
    close(lowest);
    CU_ASSERT_EQUAL_FATAL(setrlimit(RLIMIT_NOFILE, &tight), 0);
    pg_timer_start(timer, 50);
    while (!due) {
        pg_loop_turn(h.l, true);
        turns++;
    }
    CU_ASSERT_EQUAL(h.n, 0);
    CU_ASSERT_TRUE(turns < 10);
    CU_ASSERT_EQUAL(setrlimit(RLIMIT_NOFILE, &old), 0);
    CU_ASSERT_TRUE(suite_turns(h.l, one_accepted, &h));
    CU_ASSERT_TRUE(pg_raise_fd_limit() == old.rlim_max);
    pg_timer_free(timer);
    pg_transport_close(t);
    hall_fini(&h);
}

static void unix_files(void)
{
    struct pg_loop *l = NULL;
    struct pg_listener *lis = NULL;
    struct pg_transport *t = NULL;
    struct hall h = {.n = 0};
    char dir[] = "/tmp/pg-sock-XXXXXX";
    char path[64];
    char far[200];
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    struct pg_errtext err = {.text = ""};
    struct pg_addr none;
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s/s", dir);
    memcpy(sa.sun_path, path, strlen(path));
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&l), 0);
    CU_ASSERT_EQUAL(pg_unix_connect(l, path, &t, &err), PG_E_NOTFOUND);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, path));
    int stale = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0); /* left behind by a crash */
    CU_ASSERT_EQUAL(bind(stale, (struct sockaddr *)&sa, sizeof(sa)), 0);
    close(stale);
    CU_ASSERT_EQUAL(pg_unix_connect(l, path, &t, &err), PG_E_REFUSED);
    CU_ASSERT_EQUAL_FATAL(pg_unix_listen(l, path, on_accept, &h, &lis, &err), 0);
    CU_ASSERT_EQUAL_FATAL(pg_unix_connect(l, path, &t, &err), 0);
    CU_ASSERT_EQUAL(pg_transport_status(t), 1);
    CU_ASSERT_TRUE(suite_turns(l, one_accepted, &h));
    CU_ASSERT_EQUAL(pg_tcp_remote(h.got[0], &none), PG_E_UNSUPPORTED);
    pg_transport_close(t);
    pg_transport_close(h.got[0]);
    pg_listener_free(lis);
    suite_idle(l, 2);
    CU_ASSERT_NOT_EQUAL(access(path, F_OK), 0);
    int other = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600); /* never a file that is not a socket */
    close(other);
    CU_ASSERT_EQUAL(pg_unix_listen(l, path, on_accept, &h, &lis, &err), PG_E_EXISTS);
    CU_ASSERT_EQUAL(access(path, F_OK), 0);
    CU_ASSERT_EQUAL(unlink(path), 0);
    memset(far, 'a', sizeof(far) - 1);
    far[sizeof(far) - 1] = '\0';
    CU_ASSERT_EQUAL(pg_unix_listen(l, far, on_accept, &h, &lis, &err), PG_E_LIMIT);
    CU_ASSERT_EQUAL(rmdir(dir), 0);
    pg_loop_free(l);
}

struct post {
    struct pg_loop *l;
    struct pg_udp *u;
    struct pg_addr from;
    char last[64];
    size_t len;
    int n;
    bool free_inside;
};

static void on_packet(const void *p, size_t len, const struct pg_addr *from, void *arg)
{
    struct post *x = arg;
    x->n++;
    x->len = len;
    x->from = *from;
    memcpy(x->last, p, len < sizeof(x->last) ? len : sizeof(x->last));
    if (x->free_inside) {
        pg_udp_free(x->u);
        x->u = NULL;
    }
}

static bool two_packets(void *arg)
{
    return ((struct post *)arg)->n >= 2;
}

static bool one_packet(void *arg)
{
    return ((struct post *)arg)->n >= 1;
}

static void udp(void)
{
    struct pg_loop *l = NULL;
    struct post a = {.n = 0};
    struct post b = {.n = 0};
    struct pg_addr at = loopback("127.0.0.1");
    struct pg_addr any = loopback("::");
    struct pg_errtext err = {.text = ""};
    struct pg_udp *second = NULL;
    char *big = pg_calloc(1, 70000);
    CU_ASSERT_PTR_NOT_NULL_FATAL(big);
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&l), 0);
    CU_ASSERT_EQUAL_FATAL(pg_udp_open(l, &at, NULL, on_packet, &a, &a.u, &err), 0);
    if (pg_udp_open(l, &any, NULL, on_packet, &b, &b.u, &err) < 0) { /* a host without IPv6 */
        CU_ASSERT_EQUAL_FATAL(pg_udp_open(l, &at, NULL, on_packet, &b, &b.u, &err), 0);
    }
    struct pg_addr to_a = pg_udp_addr(a.u);
    struct pg_addr to_b = {.ip = at.ip, .port = pg_udp_addr(b.u).port};
    CU_ASSERT_EQUAL(pg_udp_open(l, &to_a, NULL, on_packet, &a, &second, &err), PG_E_EXISTS);
    CU_ASSERT_EQUAL(pg_udp_send(b.u, "ping", 4, &to_a), 0); /* IPv4 through a dual-stack socket */
    CU_ASSERT_TRUE(suite_turns(l, one_packet, &a));
    CU_ASSERT_EQUAL(a.len, 4);
    CU_ASSERT_NSTRING_EQUAL(a.last, "ping", 4);
    CU_ASSERT_TRUE(pg_addr_eq(&a.from, &to_b));
    CU_ASSERT_EQUAL(pg_udp_send(a.u, "", 0, &to_b), 0);
    CU_ASSERT_EQUAL(pg_udp_send(a.u, big, 60000, &to_b), 0);
    CU_ASSERT_TRUE(suite_turns(l, two_packets, &b));
    CU_ASSERT_EQUAL(b.len, 60000);
    CU_ASSERT_TRUE(pg_udp_send(a.u, big, 70000, &to_b) < 0);
    a.free_inside = true;
    a.n = 0;
    CU_ASSERT_EQUAL(pg_udp_send(b.u, "1", 1, &to_a), 0);
    CU_ASSERT_EQUAL(pg_udp_send(b.u, "2", 1, &to_a), 0);
    CU_ASSERT_TRUE(suite_turns(l, one_packet, &a));
    suite_idle(l, 3);
    CU_ASSERT_EQUAL(a.n, 1);
    CU_ASSERT_EQUAL(pg_udp_send(b.u, "3", 1, &to_a), 0); /* nobody there: an ICMP error, not ours to die of */
    suite_idle(l, 3);
    pg_udp_free(b.u);
    pg_free(big);
    pg_loop_free(l);
}

struct refusal {
    struct pg_udp *u;
    int err;
};

static void on_refused(int err, void *arg)
{
    struct refusal *r = arg;
    r->err = err;
    pg_udp_free(r->u);
    r->u = NULL;
}

static void never_packet(const void *p, size_t len, const struct pg_addr *from, void *arg)
{
    (void)p;
    (void)len;
    (void)from;
    (void)arg;
    CU_FAIL("a packet from elsewhere came in");
}

static bool refused(void *arg)
{
    return ((struct refusal *)arg)->err != 0;
}

static void udp_connected(void)
{
    struct pg_loop *l = NULL;
    struct refusal r = {.err = 0};
    struct pg_addr at = loopback("127.0.0.1");
    struct pg_udp *gone = NULL;
    struct post other = {.n = 0};
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&l), 0);
    CU_ASSERT_EQUAL_FATAL(pg_udp_open(l, &at, NULL, never_packet, &r, &gone, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(pg_udp_open(l, &at, NULL, never_packet, &r, &r.u, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(pg_udp_open(l, &at, NULL, on_packet, &other, &other.u, NULL), 0);
    struct pg_addr to = pg_udp_addr(gone);
    struct pg_addr us = pg_udp_addr(r.u);
    CU_ASSERT_EQUAL(pg_udp_connect(r.u, &to, on_refused), 0);
    pg_udp_free(gone);
    CU_ASSERT_EQUAL(pg_udp_send(other.u, "x", 1, &us), 0);
    suite_idle(l, 3);
    CU_ASSERT_EQUAL(r.err, 0);
    CU_ASSERT_EQUAL(pg_udp_send(r.u, "x", 1, &to), 0);
    CU_ASSERT_TRUE(suite_turns(l, refused, &r));
    CU_ASSERT_EQUAL(r.err, PG_E_REFUSED);
    pg_udp_free(other.u);
    suite_idle(l, 2);
    pg_loop_free(l);
}

/* A reset is known before anybody reads. */
static bool is_reset(void *arg)
{
    return pg_transport_status(arg) == PG_E_RESET;
}

static void reset_without_reading(void)
{
    struct hall h;
    struct pg_transport *t = NULL;
    hall_init(&h, "127.0.0.1", NULL);
    struct pg_addr at = pg_listener_addr(h.lis);
    CU_ASSERT_EQUAL_FATAL(pg_tcp_connect(h.l, &at, NULL, &t, NULL), 0);
    CU_ASSERT_TRUE(suite_turns(h.l, one_accepted, &h));
    CU_ASSERT_EQUAL(pg_transport_status(h.got[0]), 1);
    pg_transport_abort(t);
    CU_ASSERT_TRUE(suite_turns(h.l, is_reset, h.got[0]));
    CU_ASSERT_EQUAL(pg_transport_shutdown(h.got[0]), PG_E_RESET);
    hall_fini(&h);
}

static int udp_scenario(void *arg)
{
    struct post x = {.n = 0};
    struct pg_addr at = loopback("127.0.0.1");
    int r = pg_udp_open(arg, &at, NULL, on_packet, &x, &x.u, NULL);
    pg_udp_free(x.u);
    suite_idle(arg, 2);
    return r;
}

static void no_memory(void)
{
    struct pg_loop *l = NULL;
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&l), 0);
    CU_ASSERT_EQUAL(test_alloc_sweep(udp_scenario, l), 2);
    pg_loop_free(l);
}

TEST_MAIN("sock", {"listener options", listener_options}, {"dual stack", dual_stack},
          {"source address", source_address}, {"free in accept", free_in_accept},
          {"out of descriptors", out_of_descriptors}, {"Unix socket files", unix_files}, {"UDP", udp},
          {"UDP connected", udp_connected}, {"reset without reading", reset_without_reading},
          {"no memory", no_memory})
