/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets as transports. Invariant: an error is remembered for good, because the kernel reports a reset once
 * and then shows end of stream, and a reset must never look like a clean end. Loop thread.
 */
#include "net/sock_types.h"

#include "core/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <unistd.h>

/* From linux/netfilter_ipv4.h and linux/netfilter_ipv6/ip6_tables.h, which clash with the C library's
 * headers. */
#define ORIGINAL_DST 80
#ifndef IPV6_TRANSPARENT
#define IPV6_TRANSPARENT 75
#endif

struct sock {
    struct pg_transport t;
    struct pg_loop *loop;
    struct pg_io *io;
    struct pg_defer dead;
    int fd;
    int err; /* final */
    unsigned want;
    bool connecting;
    bool shut;
};

static struct sock *sock_of(struct pg_transport *t)
{
    return PG_CONTAINER_OF(t, struct sock, t);
}

int pg_sock_set(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value)) == 0 ? 0 : pg_err_from_errno(errno);
}

void pg_sock_set_transparent(int fd, bool v6)
{
    if (v6) {
        (void)pg_sock_set(fd, SOL_IPV6, IPV6_TRANSPARENT, 1);
    }
    (void)pg_sock_set(fd, SOL_IP, IP_TRANSPARENT, 1);
    (void)pg_sock_set(fd, SOL_IP, IP_FREEBIND, 1);
}

static uint32_t default_mark;

void pg_sock_set_default_mark(uint32_t mark)
{
    default_mark = mark;
}

int pg_sock_apply_default_mark(int fd)
{
    return default_mark == 0 ? 0 : pg_sock_set(fd, SOL_SOCKET, SO_MARK, (int)default_mark);
}

static int apply_mark(int fd, const struct pg_sock_options *o, struct pg_errtext *err)
{
    uint32_t mark = o != NULL && o->mark != 0 ? o->mark : default_mark;
    int r = mark == 0 ? 0 : pg_sock_set(fd, SOL_SOCKET, SO_MARK, (int)mark);
    if (r < 0) {
        pg_err_set(err, "cannot set mark %u on a socket: %s", mark, pg_err_str(r));
    }
    return r;
}

int pg_sock_apply(int fd, const struct pg_sock_options *o, bool stream, struct pg_errtext *err)
{
    if (stream) {
        (void)pg_sock_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    }
    int marked = apply_mark(fd, o, err);
    if (marked < 0 || o == NULL) {
        return marked;
    }
    if (stream && o->keepalive) {
        (void)pg_sock_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
        if (o->keepalive_time_s > 0) {
            (void)pg_sock_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, (int)o->keepalive_time_s);
        }
        if (o->keepalive_interval_s > 0) {
            (void)pg_sock_set(fd, IPPROTO_TCP, TCP_KEEPINTVL, (int)o->keepalive_interval_s);
        }
        if (o->keepalive_retries > 0) {
            (void)pg_sock_set(fd, IPPROTO_TCP, TCP_KEEPCNT, (int)o->keepalive_retries);
        }
    }
    if (stream && o->user_timeout_ms > 0) {
        (void)pg_sock_set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)o->user_timeout_ms);
    }
    if (stream && o->congestion != NULL) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, o->congestion, (socklen_t)strlen(o->congestion));
    }
    return 0;
}

int pg_sock_open(int family, int type)
{
    return socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

/* Interest as the descriptor needs it: while connecting, the outcome shows as writable. */
static void watch(struct sock *s)
{
    unsigned rw = s->want;
    if (s->connecting && rw != 0) {
        rw = PG_WRITE;
    }
    pg_io_want(s->io, rw);
}

static int fail(struct sock *s, int err)
{
    if (s->err == 0) {
        s->err = err;
    }
    s->connecting = false;
    return s->err;
}

/* Asks the kernel how the connect went; 1, PG_E_AGAIN or the final error. */
static int finish_connect(struct sock *s)
{
    struct pollfd p = {.fd = s->fd, .events = POLLOUT};
    int sys = 0;
    socklen_t len = sizeof(sys);
    if (s->err != 0) {
        return s->err;
    }
    if (!s->connecting) {
        return 1;
    }
    if (poll(&p, 1, 0) <= 0) {
        return PG_E_AGAIN;
    }
    if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &sys, &len) < 0) {
        sys = errno;
    }
    if (sys != 0) {
        return fail(s, pg_err_from_errno(sys));
    }
    s->connecting = false;
    if (s->shut) {
        (void)shutdown(s->fd, SHUT_WR);
    }
    return 1;
}

static void on_io(void *arg, unsigned rw)
{
    struct sock *s = arg;
    if (s->connecting) {
        int r = finish_connect(s);
        if (r == PG_E_AGAIN) {
            return;
        }
        watch(s);
        rw = PG_WRITE & s->want;
    }
    if (s->err != 0) {
        rw = PG_READ | PG_WRITE;
    }
    if (rw != 0 && s->t.on_ready != NULL) {
        s->t.on_ready(&s->t, rw, s->t.arg);
    }
}

static ssize_t sock_read(struct pg_transport *t, void *buf, size_t cap)
{
    struct sock *s = sock_of(t);
    if (s->err != 0) {
        return s->err;
    }
    if (s->connecting || cap == 0) {
        return PG_E_AGAIN;
    }
    for (;;) {
        ssize_t n = read(s->fd, buf, cap);
        if (n >= 0) {
            return n;
        }
        if (errno == EINTR) {
            continue;
        }
        return errno == EAGAIN ? PG_E_AGAIN : fail(s, pg_err_from_errno(errno));
    }
}

static ssize_t sock_writev(struct pg_transport *t, const struct iovec *iov, int n)
{
    struct sock *s = sock_of(t);
    if (s->err != 0) {
        return s->err;
    }
    if (s->connecting) {
        return PG_E_AGAIN;
    }
    if (s->shut) {
        return PG_E_CLOSED;
    }
    for (;;) {
        ssize_t w = writev(s->fd, iov, n);
        if (w > 0) {
            return w;
        }
        if (w == 0 || errno == EAGAIN) {
            return PG_E_AGAIN;
        }
        if (errno != EINTR) {
            /* the far side is gone while we still had to say something: never an orderly end */
            return fail(s, errno == EPIPE ? PG_E_RESET : pg_err_from_errno(errno));
        }
    }
}

static ssize_t sock_read_to_pipe(struct pg_transport *t, int pipe_fd, size_t len)
{
    struct sock *s = sock_of(t);
    if (s->err != 0) {
        return s->err;
    }
    if (s->connecting) {
        return PG_E_AGAIN;
    }
    for (;;) {
        ssize_t n = splice(s->fd, NULL, pipe_fd, NULL, len, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (n >= 0) {
            return n;
        }
        if (errno == EINVAL) {
            return PG_E_UNSUPPORTED;
        }
        if (errno != EINTR) {
            return errno == EAGAIN ? PG_E_AGAIN : fail(s, pg_err_from_errno(errno));
        }
    }
}

static ssize_t sock_write_from_pipe(struct pg_transport *t, int pipe_fd, size_t len)
{
    struct sock *s = sock_of(t);
    if (s->err != 0) {
        return s->err;
    }
    if (s->connecting) {
        return PG_E_AGAIN;
    }
    if (s->shut) {
        return PG_E_CLOSED;
    }
    for (;;) {
        ssize_t w = splice(pipe_fd, NULL, s->fd, NULL, len, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (w > 0) {
            return w;
        }
        if (w == 0 || errno == EAGAIN) {
            return PG_E_AGAIN;
        }
        if (errno != EINTR) {
            return fail(s, errno == EPIPE ? PG_E_RESET : pg_err_from_errno(errno));
        }
    }
}

static int sock_shutdown(struct pg_transport *t)
{
    struct sock *s = sock_of(t);
    if (s->err != 0) {
        return s->err;
    }
    if (s->shut) {
        return 0;
    }
    s->shut = true;
    if (!s->connecting && shutdown(s->fd, SHUT_WR) < 0) {
        return fail(s, errno == ENOTCONN ? PG_E_RESET : pg_err_from_errno(errno));
    }
    return 0;
}

static void sock_want(struct pg_transport *t, unsigned rw)
{
    struct sock *s = sock_of(t);
    s->want = rw;
    watch(s);
}

static void sock_release(struct pg_defer *d)
{
    pg_free(PG_CONTAINER_OF(d, struct sock, dead));
}

static void sock_close(struct pg_transport *t, bool abrupt)
{
    struct sock *s = sock_of(t);
    pg_io_free(s->io);
    if (abrupt) {
        struct linger hard = {.l_onoff = 1, .l_linger = 0};
        (void)setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    }
    close(s->fd);
    pg_loop_defer(s->loop, &s->dead);
}

/* A reset that came while nobody was reading. POLLERR is looked at first, because SO_ERROR alone also tells
 * of what TCP itself recovers from. */
static int find_reset(struct sock *s)
{
    struct pollfd p = {.fd = s->fd, .events = 0};
    int sys = 0;
    socklen_t len = sizeof(sys);
    if (poll(&p, 1, 0) <= 0 || (p.revents & POLLERR) == 0 ||
        getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &sys, &len) < 0 || sys == 0) {
        return 1;
    }
    return fail(s, sys == EPIPE ? PG_E_RESET : pg_err_from_errno(sys));
}

static int sock_status(struct pg_transport *t)
{
    int r = finish_connect(sock_of(t));
    return r == 1 ? find_reset(sock_of(t)) : r;
}

static const char *sock_error_text(struct pg_transport *t)
{
    const struct sock *s = sock_of(t);
    return s->err != 0 ? pg_err_str(s->err) : "";
}

static const struct pg_transport_ops tcp_ops = {
    .name = "tcp",
    .read = sock_read,
    .writev = sock_writev,
    .shutdown = sock_shutdown,
    .want = sock_want,
    .close = sock_close,
    .status = sock_status,
    .error_text = sock_error_text,
    .read_to_pipe = sock_read_to_pipe,
    .write_from_pipe = sock_write_from_pipe,
};
static const struct pg_transport_ops unix_ops = {
    .name = "unix",
    .read = sock_read,
    .writev = sock_writev,
    .shutdown = sock_shutdown,
    .want = sock_want,
    .close = sock_close,
    .status = sock_status,
    .error_text = sock_error_text,
};

int pg_sock_wrap(struct pg_loop *l, int fd, bool is_unix, bool connecting, struct pg_transport **out)
{
    struct sock *s = pg_calloc(1, sizeof(*s));
    if (s == NULL) {
        return PG_E_NOMEM;
    }
    int r = pg_io_new(l, fd, on_io, s, &s->io);
    if (r < 0) {
        pg_free(s);
        return r;
    }
    s->t.ops = is_unix ? &unix_ops : &tcp_ops;
    s->loop = l;
    s->fd = fd;
    s->connecting = connecting;
    s->dead.cb = sock_release;
    *out = &s->t;
    return 0;
}

int pg_fd_transport(struct pg_loop *l, int fd, struct pg_transport **out)
{
    int domain = 0;
    socklen_t len = sizeof(domain);
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        return pg_err_from_errno(errno);
    }
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0) {
        return pg_err_from_errno(errno);
    }
    return pg_sock_wrap(l, fd, domain != AF_INET && domain != AF_INET6, false, out);
}

static void bind_source(int fd, const struct pg_sock_options *o)
{
    struct sockaddr_storage ss;
    struct pg_addr from = {.ip = o->source, .port = 0};
    if (o->transparent) {
        pg_sock_set_transparent(fd, o->source.len == 16);
    }
    /* The port is chosen by connect, so that the same one can serve several destinations. */
    (void)pg_sock_set(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    (void)bind(fd, (struct sockaddr *)&ss, pg_addr_to_sockaddr(&from, &ss));
}

int pg_tcp_connect(struct pg_loop *l, const struct pg_addr *to, const struct pg_sock_options *o,
                   struct pg_transport **out, struct pg_errtext *err)
{
    char text[PG_ADDR_TEXT];
    struct sockaddr_storage ss;
    socklen_t len = pg_addr_to_sockaddr(to, &ss);
    int r = 0;
    int fd = pg_sock_open(ss.ss_family, SOCK_STREAM);
    if (fd < 0) {
        r = pg_err_from_errno(errno);
        pg_err_set(err, "cannot make a socket for %s: %s", pg_addr_fmt(to, text), pg_err_str(r));
        return r;
    }
    r = pg_sock_apply(fd, o, true, err);
    if (r < 0) {
        goto failed;
    }
    if (o != NULL && o->source.len == to->ip.len) {
        bind_source(fd, o);
    }
    bool connecting = false;
    if (connect(fd, (struct sockaddr *)&ss, len) < 0) {
        if (errno != EINPROGRESS) {
            r = pg_err_from_errno(errno);
            pg_err_set(err, "cannot connect to %s: %s", pg_addr_fmt(to, text), pg_err_str(r));
            goto failed;
        }
        connecting = true;
    }
    r = pg_sock_wrap(l, fd, false, connecting, out);
    if (r == 0) {
        return 0;
    }
    pg_err_set(err, "cannot connect to %s: %s", pg_addr_fmt(to, text), pg_err_str(r));
failed:
    close(fd);
    return r;
}

int pg_sock_unix_addr(const char *path, struct sockaddr_un *out)
{
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof(out->sun_path)) {
        return PG_E_LIMIT;
    }
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(out->sun_path, path, len);
    return 0;
}

int pg_unix_connect(struct pg_loop *l, const char *path, struct pg_transport **out, struct pg_errtext *err)
{
    struct sockaddr_un sa;
    int fd = -1;
    int r = pg_sock_unix_addr(path, &sa);
    if (r < 0) {
        goto done;
    }
    fd = pg_sock_open(AF_UNIX, SOCK_STREAM);
    /* a Unix connect is never "in progress": EAGAIN means a full backlog */
    if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
        r = pg_err_from_errno(errno);
        goto done;
    }
    r = pg_sock_wrap(l, fd, true, false, out);
done:
    if (r < 0) {
        pg_err_set(err, "cannot connect to %s: %s", path, pg_err_str(r));
        if (fd >= 0) {
            close(fd);
        }
    }
    return r;
}

static int name_of(struct pg_transport *t, int (*ask)(int, struct sockaddr *, socklen_t *),
                   struct pg_addr *out)
{
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof(ss);
    if (t->ops != &tcp_ops) {
        return PG_E_UNSUPPORTED;
    }
    if (ask(sock_of(t)->fd, (struct sockaddr *)&ss, &len) < 0) {
        return pg_err_from_errno(errno);
    }
    return pg_addr_from_sockaddr((const struct sockaddr *)&ss, out);
}

int pg_tcp_local(struct pg_transport *t, struct pg_addr *out)
{
    return name_of(t, getsockname, out);
}

int pg_tcp_remote(struct pg_transport *t, struct pg_addr *out)
{
    return name_of(t, getpeername, out);
}

static int redirected_from(int fd, struct sockaddr *sa, socklen_t *len)
{
    socklen_t cap = *len;
    if (getsockopt(fd, SOL_IP, ORIGINAL_DST, sa, len) == 0) {
        return 0;
    }
    *len = cap;
    return getsockopt(fd, SOL_IPV6, ORIGINAL_DST, sa, len);
}

int pg_tcp_original_dst(struct pg_transport *t, struct pg_addr *out)
{
    return name_of(t, redirected_from, out) == 0 ? 0 : pg_tcp_local(t, out);
}

uint64_t pg_raise_fd_limit(void)
{
    struct rlimit lim;
    if (getrlimit(RLIMIT_NOFILE, &lim) < 0) {
        return 0;
    }
    rlim_t before = lim.rlim_cur;
    lim.rlim_cur = lim.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &lim) == 0 ? (uint64_t)lim.rlim_cur : (uint64_t)before;
}
