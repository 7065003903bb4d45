/* SPDX-License-Identifier: Apache-2.0 */
/* Datagram sockets: a bounded batch of packets a turn, read into one area per thread. Loop thread. */
#include "net/sock_types.h"

#include "core/mem.h"

#include <errno.h>
#include <unistd.h>

#define PACKETS_A_TURN 64

static _Thread_local unsigned char packet[65536];

struct pg_udp {
    struct pg_loop *loop;
    struct pg_io *io;
    struct pg_defer dead;
    void (*on_packet)(const void *p, size_t len, const struct pg_addr *from, void *arg);
    void (*on_error)(int err, void *arg);
    void *arg;
    struct pg_addr addr;
    int fd;
    bool v6;
    bool freed;
};

static void on_io(void *arg, unsigned rw)
{
    struct pg_udp *u = arg;
    (void)rw;
    for (int i = 0; i < PACKETS_A_TURN && !u->freed; i++) {
        struct sockaddr_storage ss = {0};
        socklen_t len = sizeof(ss);
        struct pg_addr from;
        ssize_t n = recvfrom(u->fd, packet, sizeof(packet), 0, (struct sockaddr *)&ss, &len);
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        /* other errors belong to a packet sent earlier (ICMP), not to this socket */
        if (n < 0 && u->on_error != NULL && errno != EINTR) {
            u->on_error(pg_err_from_errno(errno), u->arg);
        }
        if (n >= 0 && pg_addr_from_sockaddr((struct sockaddr *)&ss, &from) == 0) {
            u->on_packet(packet, (size_t)n, &from, u->arg);
        }
    }
}

static void release(struct pg_defer *d)
{
    pg_free(PG_CONTAINER_OF(d, struct pg_udp, dead));
}

static int bound_socket(const struct pg_addr *at, const struct pg_sock_options *o, struct pg_errtext *err)
{
    struct sockaddr_storage ss;
    socklen_t len = pg_addr_to_sockaddr(at, &ss);
    bool v6 = ss.ss_family == AF_INET6;
    int fd = pg_sock_open(ss.ss_family, SOCK_DGRAM);
    if (fd < 0) {
        int r = pg_err_from_errno(errno);
        pg_err_set(err, "%s", pg_err_str(r));
        return r;
    }
    int r = pg_sock_apply(fd, o, false, err);
    if (r == 0 && v6) {
        (void)pg_sock_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    }
    if (r == 0 && o != NULL && o->transparent) {
        pg_sock_set_transparent(fd, v6);
    }
    if (r == 0 && bind(fd, (struct sockaddr *)&ss, len) < 0) {
        r = errno == EADDRINUSE ? PG_E_EXISTS : pg_err_from_errno(errno);
        pg_err_set(err, "%s", strerrordesc_np(errno));
    }
    if (r < 0) {
        close(fd);
        return r;
    }
    return fd;
}

int pg_udp_open(struct pg_loop *l, const struct pg_addr *bind_to, const struct pg_sock_options *o,
                void (*on_packet)(const void *p, size_t len, const struct pg_addr *from, void *arg),
                void *arg, struct pg_udp **out, struct pg_errtext *err)
{
    char text[PG_ADDR_TEXT];
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    struct pg_errtext why = {.text = "out of memory"};
    struct pg_udp *u = NULL;
    int fd = bound_socket(bind_to, o, &why);
    int r = fd;
    if (fd < 0) {
        goto failed;
    }
    r = PG_E_NOMEM;
    u = pg_calloc(1, sizeof(*u));
    if (u == NULL) {
        goto failed;
    }
    r = pg_io_new(l, fd, on_io, u, &u->io);
    if (r < 0) {
        goto failed;
    }
    u->loop = l;
    u->fd = fd;
    u->v6 = bind_to->ip.len == 16;
    u->on_packet = on_packet;
    u->arg = arg;
    u->dead.cb = release;
    if (getsockname(fd, (struct sockaddr *)&ss, &len) < 0 ||
        pg_addr_from_sockaddr((struct sockaddr *)&ss, &u->addr) < 0) {
        u->addr = *bind_to;
    }
    pg_io_want(u->io, PG_READ);
    *out = u;
    return 0;
failed:
    pg_err_set(err, "cannot open UDP %s: %s", pg_addr_fmt(bind_to, text), why.text);
    pg_free(u);
    if (fd >= 0) {
        close(fd);
    }
    return r;
}

/* An IPv6 socket takes IPv4 destinations in mapped form only. */
static socklen_t destination(const struct pg_udp *u, const struct pg_addr *to, struct sockaddr_storage *ss)
{
    if (!u->v6 || to->ip.len != 4) {
        return pg_addr_to_sockaddr(to, ss);
    }
    struct sockaddr_in6 sa = {.sin6_family = AF_INET6, .sin6_port = htons(to->port)};
    sa.sin6_addr.s6_addr[10] = 0xff;
    sa.sin6_addr.s6_addr[11] = 0xff;
    memcpy(&sa.sin6_addr.s6_addr[12], to->ip.b, 4);
    memcpy(ss, &sa, sizeof(sa));
    return sizeof(sa);
}

int pg_udp_connect(struct pg_udp *u, const struct pg_addr *to, void (*on_error)(int err, void *arg))
{
    struct sockaddr_storage ss;
    socklen_t len = destination(u, to, &ss);
    if (connect(u->fd, (struct sockaddr *)&ss, len) < 0) {
        return pg_err_from_errno(errno);
    }
    u->on_error = on_error;
    return 0;
}

int pg_udp_send(struct pg_udp *u, const void *p, size_t len, const struct pg_addr *to)
{
    struct sockaddr_storage ss;
    socklen_t slen = destination(u, to, &ss);
    ssize_t n = sendto(u->fd, p, len, 0, (struct sockaddr *)&ss, slen);
    if (n < 0) {
        return errno == EAGAIN ? PG_E_AGAIN : pg_err_from_errno(errno);
    }
    return 0;
}

struct pg_addr pg_udp_addr(const struct pg_udp *u)
{
    return u->addr;
}

void pg_udp_free(struct pg_udp *u)
{
    if (u == NULL || u->freed) {
        return;
    }
    u->freed = true;
    pg_io_free(u->io);
    close(u->fd);
    pg_loop_defer(u->loop, &u->dead);
}
