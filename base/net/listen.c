/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listening sockets. Accepts a bounded batch a turn; when descriptors run out it waits instead of spinning on
 * a connection it cannot take. Loop thread.
 */
#include "net/sock_types.h"

#include "core/mem.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define ACCEPT_BATCH 64
#define BACKLOG 1024
#define NO_DESCRIPTORS_WAIT_MS 100u

struct pg_listener {
    struct pg_loop *loop;
    struct pg_io *io;
    struct pg_timer *again;
    struct pg_defer dead;
    void (*on_accept)(struct pg_transport *t, const struct pg_addr *from, void *arg);
    void *arg;
    char *path; /* Unix socket to remove */
    struct pg_addr addr;
    int fd;
    bool freed;
};

static void on_again(void *arg)
{
    struct pg_listener *l = arg;
    pg_io_want(l->io, PG_READ);
}

static void hand_over(struct pg_listener *l, int fd, const struct sockaddr_storage *ss)
{
    struct pg_addr from = {0};
    struct pg_transport *t = NULL;
    if (l->path == NULL && pg_addr_from_sockaddr((const struct sockaddr *)ss, &from) < 0) {
        close(fd);
        return;
    }
    if (pg_sock_wrap(l->loop, fd, l->path != NULL, false, &t) < 0) {
        close(fd);
        return;
    }
    l->on_accept(t, &from, l->arg);
}

static void on_io(void *arg, unsigned rw)
{
    struct pg_listener *l = arg;
    (void)rw;
    for (int i = 0; i < ACCEPT_BATCH && !l->freed; i++) {
        struct sockaddr_storage ss = {0};
        socklen_t len = sizeof(ss);
        int fd = accept4(l->fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            hand_over(l, fd, &ss);
            continue;
        }
        if (errno == EAGAIN) {
            return;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            pg_io_want(l->io, 0);
            pg_timer_start(l->again, NO_DESCRIPTORS_WAIT_MS);
            return;
        }
        /* anything else concerns one connection that died before we took it */
    }
}

static void release(struct pg_defer *d)
{
    struct pg_listener *l = PG_CONTAINER_OF(d, struct pg_listener, dead);
    pg_free(l->path);
    pg_free(l);
}

/* Takes `fd` over on success. */
static int listener_new(struct pg_loop *loop, int fd, const char *path, struct pg_listener **out)
{
    int r = PG_E_NOMEM;
    struct pg_listener *l = pg_calloc(1, sizeof(*l));
    if (l == NULL) {
        return r;
    }
    l->loop = loop;
    l->fd = fd;
    l->dead.cb = release;
    if (path != NULL) {
        l->path = pg_strdup(path);
        if (l->path == NULL) {
            goto failed;
        }
    }
    r = pg_timer_new(loop, on_again, l, &l->again);
    if (r < 0) {
        goto failed;
    }
    r = pg_io_new(loop, fd, on_io, l, &l->io);
    if (r < 0) {
        goto failed;
    }
    *out = l;
    return 0;
failed:
    pg_timer_free(l->again);
    release(&l->dead);
    return r;
}

static int tcp_socket(const struct pg_addr *at, const struct pg_listen_options *o, struct pg_errtext *err)
{
    struct sockaddr_storage ss;
    socklen_t len = pg_addr_to_sockaddr(at, &ss);
    bool v6 = ss.ss_family == AF_INET6;
    int fd = pg_sock_open(ss.ss_family, SOCK_STREAM);
    int r = 0;
    if (fd < 0) {
        r = pg_err_from_errno(errno);
        pg_err_set(err, "%s", pg_err_str(r));
        return r;
    }
    (void)pg_sock_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    /* accepted sockets inherit all of these, so a connection costs no further system call */
    r = pg_sock_apply(fd, o != NULL ? &o->sock : NULL, true, err);
    if (v6) {
        (void)pg_sock_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    }
    if (o != NULL && o->transparent) {
        pg_sock_set_transparent(fd, v6);
    }
    if (r == 0 && o != NULL && o->reuse_port) {
        r = pg_sock_set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
        pg_err_set(err, "%s", pg_err_str(r));
    }
    if (r == 0 && bind(fd, (struct sockaddr *)&ss, len) < 0) {
        r = errno == EADDRINUSE ? PG_E_EXISTS : pg_err_from_errno(errno);
        pg_err_set(err, "%s", strerrordesc_np(errno));
    }
    if (r == 0 && listen(fd, o != NULL && o->backlog > 0 ? o->backlog : BACKLOG) < 0) {
        r = errno == EADDRINUSE ? PG_E_EXISTS : pg_err_from_errno(errno);
        pg_err_set(err, "%s", strerrordesc_np(errno));
    }
    if (r < 0) {
        close(fd);
        return r;
    }
    return fd;
}

int pg_tcp_listen(struct pg_loop *l, const struct pg_addr *at, const struct pg_listen_options *o,
                  void (*on_accept)(struct pg_transport *t, const struct pg_addr *from, void *arg), void *arg,
                  struct pg_listener **out, struct pg_errtext *err)
{
    char text[PG_ADDR_TEXT];
    struct pg_listener *made = NULL;
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    struct pg_errtext why = {.text = "out of memory"};
    int fd = tcp_socket(at, o, &why);
    int r = fd;
    if (fd >= 0) {
        r = listener_new(l, fd, NULL, &made);
        if (r == 0 && (getsockname(fd, (struct sockaddr *)&ss, &len) < 0 ||
                       pg_addr_from_sockaddr((struct sockaddr *)&ss, &made->addr) < 0)) {
            made->addr = *at;
        }
    }
    if (r < 0) {
        pg_err_set(err, "cannot listen on %s: %s", pg_addr_fmt(at, text), why.text);
        if (fd >= 0) {
            close(fd);
        }
        return r;
    }
    made->on_accept = on_accept;
    made->arg = arg;
    pg_io_want(made->io, PG_READ);
    *out = made;
    return 0;
}

/* Removes a socket file nobody listens on any more; PG_E_EXISTS when somebody does, or when it is another
 * file. */
static int clear_stale(const struct sockaddr_un *sa)
{
    struct stat st;
    int r = PG_E_EXISTS;
    if (lstat(sa->sun_path, &st) < 0) {
        return errno == ENOENT ? 0 : pg_err_from_errno(errno);
    }
    if (!S_ISSOCK(st.st_mode)) {
        return PG_E_EXISTS;
    }
    int fd = pg_sock_open(AF_UNIX, SOCK_STREAM);
    if (fd < 0) {
        return pg_err_from_errno(errno);
    }
    if (connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) < 0 && errno == ECONNREFUSED) {
        r = unlink(sa->sun_path) == 0 ? 0 : pg_err_from_errno(errno);
    }
    close(fd);
    return r;
}

int pg_unix_listen(struct pg_loop *l, const char *path,
                   void (*on_accept)(struct pg_transport *t, const struct pg_addr *from, void *arg),
                   void *arg, struct pg_listener **out, struct pg_errtext *err)
{
    struct pg_listener *made = NULL;
    struct sockaddr_un sa;
    int fd = -1;
    bool bound = false;
    int r = pg_sock_unix_addr(path, &sa);
    if (r == 0) {
        r = clear_stale(&sa);
    }
    if (r < 0) {
        goto done;
    }
    fd = pg_sock_open(AF_UNIX, SOCK_STREAM);
    /* the mode must be right from the first moment: bind(2) takes it over from the descriptor */
    if (fd < 0 || fchmod(fd, S_IRUSR | S_IWUSR) < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
        r = errno == EADDRINUSE ? PG_E_EXISTS : pg_err_from_errno(errno);
        goto done;
    }
    bound = true;
    if (chmod(path, S_IRUSR | S_IWUSR) < 0 || listen(fd, BACKLOG) < 0) {
        r = pg_err_from_errno(errno);
        goto done;
    }
    r = listener_new(l, fd, path, &made);
done:
    if (r < 0) {
        pg_err_set(err, "cannot listen on %s: %s", path, r == PG_E_EXISTS ? "already in use" : pg_err_str(r));
        if (bound) {
            (void)unlink(path);
        }
        if (fd >= 0) {
            close(fd);
        }
        return r;
    }
    made->on_accept = on_accept;
    made->arg = arg;
    pg_io_want(made->io, PG_READ);
    *out = made;
    return 0;
}

struct pg_addr pg_listener_addr(const struct pg_listener *l)
{
    return l->addr;
}

void pg_listener_free(struct pg_listener *l)
{
    if (l == NULL || l->freed) {
        return;
    }
    l->freed = true;
    pg_io_free(l->io);
    pg_timer_free(l->again);
    close(l->fd);
    if (l->path != NULL) {
        (void)unlink(l->path);
    }
    pg_loop_defer(l->loop, &l->dead);
}
