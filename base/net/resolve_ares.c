/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names to addresses through c-ares, the only file that sees it. c-ares may answer from inside any call and
 * cannot forget one query, so an answer is first kept in the query and given out from the deferred phase, and
 * a cancelled query lives on without callback until c-ares is done with it. Invariant: no callback of ours
 * runs inside c-ares. Loop thread.
 */
#include "net/resolve.h"

#include "net/sock.h"

#include "core/mem.h"

#include <ares.h>
#include <netdb.h>
#include <pthread.h>

#define TRY_MS 2000 /* of the first try; doubled for each further one */
#define TRIES 2
#define NAME_MAX_LEN 255u

struct pg_resolver {
    struct pg_loop *loop;
    struct pg_timer *timer;
    struct pg_list socks;
    struct pg_list queries;
    ares_channel channel;
};
struct sock {
    struct pg_list node;
    struct pg_resolver *r;
    struct pg_io *io;
    int fd;
};
struct pg_resolve_query {
    struct pg_list node;
    struct pg_resolver *r;
    void (*cb)(int err, const struct pg_ip *ips, size_t n, const char *text, void *arg); /* NULL: cancelled */
    void *arg;
    struct pg_defer answer;
    const char *text; /* static */
    int err;
    bool in_ares;
    uint8_t n;
    struct pg_ip ips[PG_RESOLVE_MAX];
};

static pthread_once_t library_once = PTHREAD_ONCE_INIT;
static int library_status;

static void library_init(void)
{
    library_status = ares_library_init_mem(ARES_LIB_INIT_ALL, pg_malloc, pg_free, pg_realloc);
}

/* c-ares has no timer of its own: it says how long it may be left alone. */
static void set_timer(struct pg_resolver *r)
{
    struct timeval tv;
    if (ares_timeout(r->channel, NULL, &tv) == NULL) {
        pg_timer_stop(r->timer);
        return;
    }
    pg_timer_start(r->timer, (uint64_t)tv.tv_sec * 1000 + (uint64_t)tv.tv_usec / 1000 + 1);
}

static void on_timer(void *arg)
{
    struct pg_resolver *r = arg;
    ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    set_timer(r);
}

static void on_io(void *arg, unsigned rw)
{
    struct sock *s = arg; /* may be gone after the call */
    struct pg_resolver *r = s->r;
    int fd = s->fd;
    ares_process_fd(r->channel, (rw & PG_READ) ? fd : ARES_SOCKET_BAD,
                    (rw & PG_WRITE) ? fd : ARES_SOCKET_BAD);
    set_timer(r);
}

static void sock_free(struct sock *s)
{
    pg_list_remove(&s->node);
    pg_io_free(s->io);
    pg_free(s);
}

/* c-ares tells which of its sockets it wants watched; nothing any more just before it closes one. Without
 * memory for the watcher the query runs into its time-out. */
static void on_sock_state(void *arg, ares_socket_t fd, int readable, int writable)
{
    struct pg_resolver *r = arg;
    struct sock *s = NULL;
    PG_LIST_FOREACH(&r->socks, n)
    {
        struct sock *known = PG_CONTAINER_OF(n, struct sock, node);
        if (known->fd == fd) {
            s = known;
        }
    }
    if (!readable && !writable) {
        if (s != NULL) {
            sock_free(s);
        }
        return;
    }
    if (s == NULL) {
        s = pg_calloc(1, sizeof(*s));
        if (s == NULL) {
            return;
        }
        if (pg_io_new(r->loop, fd, on_io, s, &s->io) < 0) {
            pg_free(s);
            return;
        }
        s->r = r;
        s->fd = fd;
        pg_list_push_back(&r->socks, &s->node);
    }
    pg_io_want(s->io, (readable ? PG_READ : 0) | (writable ? PG_WRITE : 0));
}

/* Queries must pass redirection like everything else of ours. */
static int on_socket(ares_socket_t fd, int type, void *arg)
{
    (void)type;
    (void)arg;
    return pg_sock_apply_default_mark(fd) == 0 ? 0 : -1;
}

int pg_resolver_new(struct pg_loop *l, const char *servers, struct pg_resolver **out, struct pg_errtext *err)
{
    struct ares_options o = {.timeout = TRY_MS, .tries = TRIES, .sock_state_cb = on_sock_state};
    int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB;
    int status = 0;
    (void)pthread_once(&library_once, library_init);
    struct pg_resolver *r = pg_calloc(1, sizeof(*r));
    if (library_status != ARES_SUCCESS || r == NULL || pg_timer_new(l, on_timer, r, &r->timer) < 0) {
        pg_free(r);
        pg_err_set(err, "cannot start the resolver: %s", pg_err_str(PG_E_NOMEM));
        return PG_E_NOMEM;
    }
    r->loop = l;
    pg_list_init(&r->socks);
    pg_list_init(&r->queries);
    o.sock_state_cb_data = r;
    status = ares_init_options(&r->channel, &o, mask);
    if (status == ARES_SUCCESS) {
        ares_set_socket_callback(r->channel, on_socket, NULL);
    }
    if (status == ARES_SUCCESS && servers != NULL) {
        status = ares_set_servers_ports_csv(r->channel, servers);
        if (status != ARES_SUCCESS) {
            ares_destroy(r->channel);
        }
    }
    if (status != ARES_SUCCESS) {
        pg_err_set(err, "cannot start the resolver%s%s: %s", servers != NULL ? " with servers " : "",
                   servers != NULL ? servers : "", ares_strerror(status));
        pg_timer_free(r->timer);
        pg_free(r);
        return status == ARES_ENOMEM ? PG_E_NOMEM : PG_E_CONFIG;
    }
    *out = r;
    return 0;
}

static void query_free(struct pg_resolve_query *q)
{
    pg_list_remove(&q->node);
    pg_defer_cancel(&q->answer);
    pg_free(q);
}

void pg_resolver_free(struct pg_resolver *r)
{
    if (r == NULL) {
        return;
    }
    PG_LIST_FOREACH(&r->queries, n)
    {
        pg_resolve_cancel(PG_CONTAINER_OF(n, struct pg_resolve_query, node));
    }
    ares_destroy(r->channel); /* ends the rest through on_answer, and its sockets through on_sock_state */
    PG_BUG_ON(!pg_list_is_empty(&r->queries));
    PG_LIST_FOREACH(&r->socks, n)
    {
        sock_free(PG_CONTAINER_OF(n, struct sock, node));
    }
    pg_timer_free(r->timer);
    pg_free(r);
}

static void give_answer(struct pg_defer *d)
{
    struct pg_resolve_query *q = PG_CONTAINER_OF(d, struct pg_resolve_query, answer);
    struct pg_resolve_query copy = *q;
    query_free(q); /* before the callback, which may free the resolver */
    copy.cb(copy.err, copy.ips, copy.n, copy.text, copy.arg);
}

static int translate(int status)
{
    switch (status) {
    case ARES_SUCCESS:
        return 0;
    case ARES_ENODATA:
    case ARES_ENOTFOUND:
    case ARES_ENONAME:
    case ARES_EBADNAME:
        return PG_E_NOTFOUND;
    case ARES_ETIMEOUT:
        return PG_E_TIMEDOUT;
    case ARES_ENOMEM:
        return PG_E_NOMEM;
    default:
        return PG_E_IO;
    }
}

static void collect(struct pg_resolve_query *q, const struct ares_addrinfo *res, int family)
{
    for (const struct ares_addrinfo_node *n = res->nodes; n != NULL && q->n < PG_RESOLVE_MAX;
         n = n->ai_next) {
        struct pg_addr a;
        if (n->ai_family == family && pg_addr_from_sockaddr(n->ai_addr, &a) == 0) {
            q->ips[q->n++] = a.ip;
        }
    }
}

static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *res)
{
    struct pg_resolve_query *q = arg;
    (void)timeouts;
    q->in_ares = false;
    q->err = translate(status);
    q->text = q->err == 0 ? "" : ares_strerror(status);
    if (res != NULL) {
        collect(q, res, AF_INET);
        collect(q, res, AF_INET6);
        ares_freeaddrinfo(res);
    }
    if (q->err == 0 && q->n == 0) {
        q->err = PG_E_NOTFOUND;
        q->text = ares_strerror(ARES_ENODATA);
    }
    if (q->cb == NULL) {
        query_free(q);
    } else {
        pg_loop_defer(q->r->loop, &q->answer);
    }
}

int pg_resolve(struct pg_resolver *r, struct pg_str name,
               void (*cb)(int err, const struct pg_ip *ips, size_t n, const char *text, void *arg), void *arg,
               struct pg_resolve_query **out)
{
    struct ares_addrinfo_hints hints = {
        .ai_flags = ARES_AI_NOSORT, .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    char z[NAME_MAX_LEN + 1];
    if (name.len == 0 || name.len > NAME_MAX_LEN || memchr(name.p, '\0', name.len) != NULL) {
        return PG_E_PARSE;
    }
    struct pg_resolve_query *q = pg_calloc(1, sizeof(*q));
    if (q == NULL) {
        return PG_E_NOMEM;
    }
    q->r = r;
    q->cb = cb;
    q->arg = arg;
    q->text = "";
    q->answer.cb = give_answer;
    pg_list_push_back(&r->queries, &q->node);
    *out = q;
    if (pg_ip_parse(name, &q->ips[0]) == 0) {
        q->n = 1;
        pg_loop_defer(r->loop, &q->answer);
        return 0;
    }
    memcpy(z, name.p, name.len);
    z[name.len] = '\0';
    q->in_ares = true;
    ares_getaddrinfo(r->channel, z, NULL, &hints, on_answer, q);
    set_timer(r);
    return 0;
}

void pg_resolve_cancel(struct pg_resolve_query *q)
{
    if (q == NULL) {
        return;
    }
    q->cb = NULL;
    if (!q->in_ares) {
        query_free(q);
    }
}
