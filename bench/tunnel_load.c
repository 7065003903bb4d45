/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Load for tunnels: a server (sink, checked sink, echo on three ports in a row) and clients for bulk,
 * ping-pong, short connections and idle ones. A client prints one line of JSON; what it did not see come back
 * is an error, never a figure. One thread; no library of a proxy under test takes part.
 */
#include "core/addr.h"
#include "core/clock.h"
#include "core/mem.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define BLOCK (256u * 1024u)
#define EVENTS 256
#define SAMPLES_MAX (4u * 1024u * 1024u)
#define MESSAGE_MAX (1024u * 1024u)
#define CONNS_MAX 20000u
#define STALL_MS 10000 /* nothing at all for this long: the tunnel is broken */
#define FNV_START 0xcbf29ce484222325u
#define FNV_PRIME 0x100000001b3u

enum role { LISTEN_SINK, LISTEN_CHECK, LISTEN_ECHO, SINK, CHECK, ECHO, BULK, PING };
struct conn {
    int fd;
    enum role role;
    bool connecting;
    bool shut;
    uint64_t count; /* received, or to send */
    uint64_t at;    /* sent, or received of this message */
    uint64_t sum;
    uint64_t started_ns;
    size_t start, end; /* echo: what waits in `rest` */
    unsigned char *rest;
};
struct reply {
    uint64_t count;
    uint64_t sum;
};

static unsigned char block[BLOCK];
static unsigned char pattern[BLOCK];
static int poller;

static _Noreturn void die(const char *what)
{
    (void)fprintf(stderr, "tunnel_load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t number(const char *text, uint64_t max)
{
    uint64_t n = 0;
    if (pg_str_u64(pg_str_c(text), max, &n) < 0) {
        errno = EINVAL;
        die(text);
    }
    return n;
}

static uint64_t fnv(uint64_t sum, const unsigned char *p, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        sum = (sum ^ p[i]) * FNV_PRIME;
    }
    return sum;
}

static void fill_pattern(void)
{
    uint64_t x = 88172645463325252u;
    for (size_t i = 0; i < BLOCK; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        pattern[i] = (unsigned char)x;
    }
}

static void watch(struct conn *c, int op, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, op, c->fd, &ev) < 0) {
        die("epoll_ctl");
    }
}

static struct conn *conn_new(int fd, enum role role)
{
    struct conn *c = pg_calloc(1, sizeof(*c));
    if (c == NULL || fd < 0) {
        die("socket");
    }
    c->fd = fd;
    c->role = role;
    c->sum = FNV_START;
    return c;
}

static void conn_free(struct conn *c)
{
    close(c->fd);
    pg_free(c->rest);
    pg_free(c);
}

static int open_socket(bool nonblocking)
{
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0), 0);
    if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0) {
        die("socket");
    }
    return fd;
}

/* ---- server ---- */

static void listen_on(uint16_t port, enum role role)
{
    int one = 1;
    struct sockaddr_storage ss;
    struct pg_addr any = {.ip = {.len = 4}, .port = port};
    struct conn *c = conn_new(open_socket(true), role);
    (void)setsockopt(c->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(c->fd, (struct sockaddr *)&ss, pg_addr_to_sockaddr(&any, &ss)) < 0 || listen(c->fd, 4096) < 0) {
        die("listen");
    }
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
}

static void accept_all(struct conn *l)
{
    for (;;) {
        int one = 1;
        int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            return;
        }
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        watch(conn_new(fd, l->role - LISTEN_SINK + SINK), EPOLL_CTL_ADD, EPOLLIN);
    }
}

/* Counts until the end of the stream, then answers what arrived. */
static void on_sink(struct conn *c)
{
    ssize_t n = read(c->fd, block, sizeof(block));
    if (n > 0) {
        c->count += (uint64_t)n;
        c->sum = c->role == CHECK ? fnv(c->sum, block, (size_t)n) : 0;
        return;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    struct reply r = {c->count, c->sum};
    if (n == 0 && write(c->fd, &r, sizeof(r)) != (ssize_t)sizeof(r)) {
        (void)fprintf(stderr, "tunnel_load: a reply was not taken\n");
    }
    conn_free(c);
}

static bool echo_rest(struct conn *c)
{
    while (c->start < c->end) {
        ssize_t w = write(c->fd, c->rest + c->start, c->end - c->start);
        if (w <= 0) {
            return errno == EAGAIN;
        }
        c->start += (size_t)w;
    }
    pg_free(c->rest);
    c->rest = NULL;
    watch(c, EPOLL_CTL_MOD, EPOLLIN);
    return true;
}

static bool echo(struct conn *c)
{
    if (c->rest != NULL) {
        return echo_rest(c);
    }
    ssize_t n = read(c->fd, block, sizeof(block));
    if (n <= 0) {
        return n < 0 && errno == EAGAIN;
    }
    ssize_t w = write(c->fd, block, (size_t)n);
    if (w < 0 && errno != EAGAIN) {
        return false;
    }
    w = w < 0 ? 0 : w;
    if (w < n) {
        c->rest = pg_memdup(block + w, (size_t)(n - w));
        if (c->rest == NULL) {
            return false;
        }
        c->start = 0;
        c->end = (size_t)(n - w);
        watch(c, EPOLL_CTL_MOD, EPOLLOUT);
    }
    return true;
}

static _Noreturn void serve(uint16_t port)
{
    struct epoll_event ev[EVENTS];
    listen_on(port, LISTEN_SINK);
    listen_on((uint16_t)(port + 1), LISTEN_CHECK);
    listen_on((uint16_t)(port + 2), LISTEN_ECHO);
    for (;;) {
        int n = epoll_wait(poller, ev, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            struct conn *c = ev[i].data.ptr;
            if (c->role <= LISTEN_ECHO) {
                accept_all(c);
            } else if (c->role != ECHO) {
                on_sink(c);
            } else if (!echo(c)) {
                conn_free(c);
            }
        }
    }
}

/* ---- clients ---- */

struct samples {
    uint32_t *ns;
    size_t n;
    uint64_t total;
};

static void sample(struct samples *s, uint64_t ns)
{
    s->total++;
    if (s->n < SAMPLES_MAX) {
        s->ns[s->n++] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
    }
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void report_samples(struct samples *s, uint64_t elapsed_ns)
{
    double seconds = (double)elapsed_ns / 1e9;
    if (s->n == 0) {
        errno = ETIMEDOUT;
        die("nothing came back");
    }
    qsort(s->ns, s->n, sizeof(*s->ns), by_value);
    printf("{\"ops\": %llu, \"seconds\": %.4f, \"per_second\": %.1f, \"p50_us\": %.2f, \"p99_us\": %.2f}\n",
           (unsigned long long)s->total, seconds, (double)s->total / seconds, s->ns[s->n / 2] / 1e3,
           s->ns[s->n * 99 / 100] / 1e3);
    pg_free(s->ns);
}

static struct samples samples_new(void)
{
    struct samples s = {.ns = pg_calloc(SAMPLES_MAX, sizeof(uint32_t))};
    if (s.ns == NULL) {
        die("samples");
    }
    return s;
}

static void connect_to(int fd, const struct pg_addr *to)
{
    struct sockaddr_storage ss;
    socklen_t len = pg_addr_to_sockaddr(to, &ss);
    if (connect(fd, (struct sockaddr *)&ss, len) < 0 && errno != EINPROGRESS) {
        die("connect");
    }
}

/* Sends its share; true when the server said it got every byte. */
static bool on_bulk(struct conn *c, uint32_t events, bool check)
{
    struct reply r = {0, 0};
    uint64_t sent = 0;
    if ((events & EPOLLOUT) != 0 && !c->shut) {
        while (c->at < c->count && sent < 4 * BLOCK) {
            size_t off = c->at % BLOCK;
            size_t len = BLOCK - off < c->count - c->at ? BLOCK - off : c->count - c->at;
            ssize_t w = write(c->fd, pattern + off, len);
            if (w < 0 && errno == EAGAIN) {
                return false;
            }
            if (w < 0) {
                die("write");
            }
            c->sum = check ? fnv(c->sum, pattern + off, (size_t)w) : 0;
            c->at += (uint64_t)w;
            sent += (uint64_t)w;
        }
        if (c->at == c->count) {
            c->shut = true;
            (void)shutdown(c->fd, SHUT_WR);
            watch(c, EPOLL_CTL_MOD, EPOLLIN);
        }
        return false;
    }
    ssize_t n = read(c->fd, &r, sizeof(r));
    if (n < 0 && errno == EAGAIN) {
        return false;
    }
    if (n != (ssize_t)sizeof(r) || r.count != c->count || r.sum != c->sum) {
        (void)fprintf(stderr, "tunnel_load: the server got %llu of %llu bytes%s\n",
                      (unsigned long long)r.count, (unsigned long long)c->count,
                      r.count == c->count ? ", and not the ones sent" : "");
        exit(1);
    }
    conn_free(c);
    return true;
}

static int bulk(const struct pg_addr *to, uint64_t bytes, size_t conns, bool check)
{
    struct epoll_event ev[EVENTS];
    fill_pattern();
    uint64_t begin = pg_clock_mono_ns();
    for (size_t i = 0; i < conns; i++) {
        struct conn *c = conn_new(open_socket(true), BULK);
        c->count = bytes / conns;
        connect_to(c->fd, to);
        watch(c, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
    }
    for (size_t left = conns; left > 0;) {
        int n = epoll_wait(poller, ev, EVENTS, STALL_MS);
        if (n == 0) {
            errno = ETIMEDOUT;
            die("bulk");
        }
        for (int i = 0; i < n; i++) {
            left -= on_bulk(ev[i].data.ptr, ev[i].events, check) ? 1 : 0;
        }
    }
    double seconds = (double)(pg_clock_mono_ns() - begin) / 1e9;
    double gigabytes = (double)(bytes / conns * conns) / 1e9;
    printf("{\"bytes\": %llu, \"seconds\": %.4f, \"gbit_s\": %.3f}\n",
           (unsigned long long)(bytes / conns * conns), seconds, gigabytes * 8 / seconds);
    return 0;
}

static void ping(struct conn *c, size_t size)
{
    c->at = 0;
    c->started_ns = pg_clock_mono_ns();
    /* one message always fits into the socket's buffer: the last one was echoed whole */
    if (write(c->fd, pattern, size) != (ssize_t)size) {
        die("write of a whole message");
    }
}

/* One event of a connection; true when a whole message has come back. */
static bool on_ping(struct conn *c, size_t size)
{
    if (c->connecting) {
        c->connecting = false;
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
        ping(c, size);
        return false;
    }
    ssize_t n = read(c->fd, block, sizeof(block));
    if (n < 0 && errno == EAGAIN) {
        return false;
    }
    if (n <= 0) {
        die("read of an echo");
    }
    c->at += (uint64_t)n;
    return c->at == size;
}

static int wait_events(struct epoll_event *ev)
{
    int n = epoll_wait(poller, ev, EVENTS, STALL_MS);
    if (n == 0) {
        errno = ETIMEDOUT;
        die("ping-pong");
    }
    return n;
}

/* Each connection is opened and has carried a message; then whoever measures beside us may begin. */
static void warm_up(const struct pg_addr *to, size_t size, struct conn **all, size_t conns)
{
    struct epoll_event ev[EVENTS];
    unsigned char byte;
    for (size_t i = 0; i < conns; i++) {
        all[i] = conn_new(open_socket(true), PING);
        all[i]->connecting = true;
        connect_to(all[i]->fd, to);
        watch(all[i], EPOLL_CTL_ADD, EPOLLOUT);
    }
    for (size_t left = conns; left > 0;) {
        int n = wait_events(ev);
        for (int i = 0; i < n; i++) {
            left -= on_ping(ev[i].data.ptr, size) ? 1 : 0;
        }
    }
    printf("{\"open\": %zu}\n", conns);
    (void)fflush(stdout);
    (void)!read(STDIN_FILENO, &byte, 1);
}

static int ping_pong(const struct pg_addr *to, size_t size, size_t conns, uint64_t ms)
{
    struct epoll_event ev[EVENTS];
    struct samples s = samples_new();
    struct conn **all = pg_calloc(conns, sizeof(struct conn *));
    if (all == NULL) {
        die("connections");
    }
    fill_pattern();
    warm_up(to, size, all, conns);
    uint64_t begin = pg_clock_mono_ns();
    uint64_t now = begin;
    for (size_t i = 0; i < conns; i++) {
        ping(all[i], size);
    }
    while (now - begin < ms * 1000000) {
        int n = wait_events(ev);
        for (int i = 0; i < n; i++) {
            struct conn *c = ev[i].data.ptr;
            if (on_ping(c, size)) {
                sample(&s, pg_clock_mono_ns() - c->started_ns);
                ping(c, size);
            }
        }
        now = pg_clock_mono_ns();
    }
    report_samples(&s, now - begin);
    for (size_t i = 0; i < conns; i++) {
        conn_free(all[i]);
    }
    pg_free(all);
    return 0;
}

/* A connection which has proven to work end to end. */
static int open_one(const struct pg_addr *to)
{
    unsigned char byte = 'x';
    struct timeval limit = {.tv_sec = STALL_MS / 1000};
    int fd = open_socket(false);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    connect_to(fd, to);
    if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1) {
        die("a byte there and back");
    }
    return fd;
}

static int short_ones(const struct pg_addr *to, uint64_t ms)
{
    struct samples s = samples_new();
    uint64_t begin = pg_clock_mono_ns();
    uint64_t now = begin;
    while (now - begin < ms * 1000000) {
        close(open_one(to));
        uint64_t end = pg_clock_mono_ns();
        sample(&s, end - now);
        now = end;
    }
    report_samples(&s, now - begin);
    return 0;
}

static int idle(const struct pg_addr *to, size_t conns)
{
    unsigned char byte;
    for (size_t i = 0; i < conns; i++) {
        (void)open_one(to); /* lives as long as this process */
    }
    printf("{\"open\": %zu}\n", conns);
    (void)fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
    return 0;
}

static int usage(void)
{
    (void)fputs("tunnel_load server PORT             PORT sink, +1 sink with checksum, +2 echo\n"
                "tunnel_load bulk IP:PORT BYTES CONNS [check]   to a sink\n"
                "tunnel_load rr IP:PORT SIZE CONNS MS           to an echo port: ping-pong; begins with a "
                "line on stdin\n"
                "tunnel_load crr IP:PORT MS                     connect, one byte there and back, close\n"
                "tunnel_load idle IP:PORT CONNS                 open until stdin ends\n",
                stderr);
    return 2;
}

int main(int argc, char **argv)
{
    struct rlimit files;
    struct pg_addr to = {0};
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (argc == 3 && strcmp(argv[1], "server") == 0) {
        serve((uint16_t)number(argv[2], 65533));
    }
    if (argc < 4 || pg_addr_parse(pg_str_c(argv[2]), &to) < 0) {
        return usage();
    }
    if (strcmp(argv[1], "bulk") == 0 && (argc == 5 || argc == 6)) {
        bool check = argc == 6 && strcmp(argv[5], "check") == 0;
        return bulk(&to, number(argv[3], UINT64_MAX), number(argv[4], CONNS_MAX), check);
    }
    if (strcmp(argv[1], "rr") == 0 && argc == 6) {
        return ping_pong(&to, number(argv[3], MESSAGE_MAX), number(argv[4], CONNS_MAX),
                         number(argv[5], 3600000));
    }
    if (strcmp(argv[1], "crr") == 0 && argc == 4) {
        return short_ones(&to, number(argv[3], 3600000));
    }
    if (strcmp(argv[1], "idle") == 0 && argc == 4) {
        return idle(&to, number(argv[3], CONNS_MAX));
    }
    return usage();
}
