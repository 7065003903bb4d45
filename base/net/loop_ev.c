/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop on libev. libev runs the events of a turn in reverse order of arrival and by priority, so
 * the order asyncs -> timers -> I/O is asked for with watcher priorities, and the deferred phase follows when
 * ev_run came back: one ev_run is one turn. Watchers sit inside heap objects that are released in the
 * deferred phase only, because libev and the caller may still hold them in the turn that freed them. Loop
 * thread, except pg_async_send.
 */
#include "net/loop.h"

#include "core/clock.h"
#include "core/mem.h"
#include "net/timers.h"

#include <errno.h>
#include <ev.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { PRI_CLOCK = 2, PRI_ASYNC = 1, PRI_TIMERS = 0, PRI_IO = -1 };

struct pg_loop {
    struct ev_loop *ev;
    ev_check clock;  /* reads the clock before anything else of the turn */
    ev_check timers; /* runs what is due */
    ev_timer alarm;  /* only bounds the wait */
    uint64_t alarm_due;
    uint64_t now;
    struct pg_timers heap;
    struct pg_list deferred;
    bool in_turn;
    bool stop;
    bool io_changed; /* interest changed since libev last looked */
    int embed_fd;    /* epoll set of {backend, embed_timer, embed_wake}; -1 until asked for */
    int embed_timer;
    atomic_int embed_wake; /* eventfd in the set: libev wakes only a loop that is blocked in its own wait */
};
struct pg_io {
    ev_io w;
    struct pg_loop *loop;
    void (*cb)(void *arg, unsigned rw);
    void *arg;
    struct pg_defer dead;
};
struct pg_async {
    ev_async w;
    struct pg_loop *loop;
    void (*cb)(void *arg);
    void *arg;
    struct pg_defer dead;
};
struct pg_signal {
    ev_signal w;
    struct pg_loop *loop;
    void (*cb)(void *arg);
    void *arg;
    struct pg_defer dead;
};

struct pg_timers *pg_loop_timers(struct pg_loop *l)
{
    return &l->heap;
}

static void embed_arm(struct pg_loop *l, uint64_t due)
{
    struct itimerspec when = {0};
    if (due != UINT64_MAX) {
        uint64_t ms = due > l->now ? due - l->now : 0;
        when.it_value.tv_sec = (time_t)(ms / 1000);
        when.it_value.tv_nsec = ms == 0 ? 1 : (long)(ms % 1000) * 1000000;
    }
    (void)timerfd_settime(l->embed_timer, 0, &when, NULL);
}

/* Something was asked for from outside a turn: whoever embeds us must give us one. */
static void touched(struct pg_loop *l)
{
    if (!l->in_turn && l->embed_fd >= 0) {
        embed_arm(l, 0);
    }
}

uint64_t pg_loop_timer_base(struct pg_loop *l)
{
    if (!l->in_turn) {
        l->now = pg_clock_mono_ms();
        touched(l);
    }
    return l->now;
}

static void on_clock(struct ev_loop *ev, ev_check *w, int revents)
{
    struct pg_loop *l = w->data;
    (void)ev;
    (void)revents;
    l->now = pg_clock_mono_ms();
}

static void on_timers(struct ev_loop *ev, ev_check *w, int revents)
{
    struct pg_loop *l = w->data;
    (void)ev;
    (void)revents;
    pg_timers_run(&l->heap, l->now);
}

static void on_alarm(struct ev_loop *ev, ev_timer *w, int revents)
{
    (void)ev;
    (void)w;
    (void)revents;
}

int pg_loop_new(struct pg_loop **out)
{
    struct pg_loop *l = pg_calloc(1, sizeof(*l));
    if (l == NULL) {
        return PG_E_NOMEM;
    }
    l->ev = ev_loop_new(EVFLAG_AUTO | EVFLAG_NOENV);
    if (l->ev == NULL) {
        pg_free(l);
        return PG_E_NOMEM;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    pg_list_init(&l->deferred);
    pg_timers_init(&l->heap);
    l->embed_fd = -1;
    l->embed_timer = -1;
    atomic_init(&l->embed_wake, -1);
    l->now = pg_clock_mono_ms();
    l->alarm_due = UINT64_MAX;
    ev_check_init(&l->clock, on_clock);
    ev_set_priority(&l->clock, PRI_CLOCK);
    l->clock.data = l;
    ev_check_start(l->ev, &l->clock);
    ev_check_init(&l->timers, on_timers);
    ev_set_priority(&l->timers, PRI_TIMERS);
    l->timers.data = l;
    ev_check_start(l->ev, &l->timers);
    ev_timer_init(&l->alarm, on_alarm, 0., 0.);
    *out = l;
    return 0;
}

static void run_deferred(struct pg_loop *l)
{
    struct pg_list todo;
    if (pg_list_is_empty(&l->deferred)) {
        return;
    }
    /* What the calls schedule belongs to the next phase: splice the present ones off. */
    todo = l->deferred;
    todo.next->prev = &todo;
    todo.prev->next = &todo;
    pg_list_init(&l->deferred);
    for (struct pg_list *n = pg_list_pop(&todo); n != NULL; n = pg_list_pop(&todo)) {
        struct pg_defer *d = PG_CONTAINER_OF(n, struct pg_defer, node);
        d->cb(d);
    }
}

void pg_loop_free(struct pg_loop *l)
{
    if (l == NULL) {
        return;
    }
    while (!pg_list_is_empty(&l->deferred)) {
        run_deferred(l);
    }
    ev_timer_stop(l->ev, &l->alarm);
    ev_check_stop(l->ev, &l->clock);
    ev_check_stop(l->ev, &l->timers);
    ev_loop_destroy(l->ev);
    if (l->embed_fd >= 0) {
        close(l->embed_fd);
        close(l->embed_timer);
        close(atomic_load(&l->embed_wake));
    }
    pg_timers_fini(&l->heap);
    pg_free(l);
}

/* The alarm counts from libev's idea of now, which may be older than ours: it can fire early, and is set
 * again. */
static void set_alarm(struct pg_loop *l)
{
    uint64_t due = pg_timers_next(&l->heap);
    if (due == l->alarm_due && (due == UINT64_MAX || ev_is_active(&l->alarm))) {
        return;
    }
    l->alarm_due = due;
    ev_timer_stop(l->ev, &l->alarm);
    if (due != UINT64_MAX) {
        double after = due > l->now ? (double)(due - l->now) / 1000. : 0.;
        ev_timer_set(&l->alarm, after, 0.);
        ev_timer_start(l->ev, &l->alarm);
    }
}

void pg_loop_turn(struct pg_loop *l, bool wait)
{
    bool block = wait && pg_list_is_empty(&l->deferred);
    PG_BUG_ON(l->in_turn);
    set_alarm(l);
    l->in_turn = true;
    l->io_changed = false;
    if (l->embed_fd >= 0) {
        uint64_t n; /* before the asyncs run, so that none sent from here on is missed */
        (void)!read(atomic_load(&l->embed_wake), &n, sizeof(n));
    }
    ev_run(l->ev, block ? EVRUN_ONCE : EVRUN_NOWAIT);
    run_deferred(l);
    l->in_turn = false;
    if (l->embed_fd >= 0) {
        bool again = l->io_changed || !pg_list_is_empty(&l->deferred);
        embed_arm(l, again ? 0 : pg_timers_next(&l->heap));
    }
}

void pg_loop_run(struct pg_loop *l)
{
    while (!l->stop) {
        pg_loop_turn(l, true);
    }
    l->stop = false;
}

void pg_loop_stop(struct pg_loop *l)
{
    l->stop = true;
}

uint64_t pg_loop_now_ms(const struct pg_loop *l)
{
    return l->now;
}

static void on_embed(struct ev_loop *ev, ev_embed *w, int revents)
{
    (void)ev;
    (void)w;
    (void)revents;
}

/* libev tells its polling descriptor only to an embedding watcher: start one in a throw-away loop and look.
 */
static int backend_fd(struct ev_loop *ev)
{
    int fd = -1;
    if ((ev_backend(ev) & ev_embeddable_backends()) == 0) {
        return -1;
    }
    struct ev_loop *host = ev_loop_new(EVBACKEND_SELECT | EVFLAG_NOENV);
    if (host == NULL) {
        return -1;
    }
    ev_embed w;
    ev_embed_init(&w, on_embed, ev);
    ev_embed_start(host, &w);
    fd = w.io.fd;
    ev_embed_stop(host, &w);
    ev_loop_destroy(host);
    return fd;
}

int pg_loop_fd(struct pg_loop *l)
{
    if (l->embed_fd >= 0) {
        return l->embed_fd;
    }
    int backend = backend_fd(l->ev);
    if (backend < 0) {
        return PG_E_UNSUPPORTED;
    }
    int part[3] = {epoll_create1(EPOLL_CLOEXEC), timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
                   eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    struct epoll_event e = {.events = EPOLLIN};
    if (part[0] < 0 || part[1] < 0 || part[2] < 0 || epoll_ctl(part[0], EPOLL_CTL_ADD, backend, &e) < 0 ||
        epoll_ctl(part[0], EPOLL_CTL_ADD, part[1], &e) < 0 ||
        epoll_ctl(part[0], EPOLL_CTL_ADD, part[2], &e) < 0) {
        int r = pg_err_from_errno(errno);
        for (size_t i = 0; i < PG_ARRAY_LEN(part); i++) {
            if (part[i] >= 0) {
                close(part[i]);
            }
        }
        return r;
    }
    l->embed_fd = part[0];
    l->embed_timer = part[1];
    atomic_store(&l->embed_wake, part[2]);
    embed_arm(l, 0);
    return l->embed_fd;
}

static int to_ev(unsigned rw)
{
    return ((rw & PG_READ) ? EV_READ : 0) | ((rw & PG_WRITE) ? EV_WRITE : 0);
}

static void on_io(struct ev_loop *ev, ev_io *w, int revents)
{
    struct pg_io *io = w->data;
    (void)ev;
    unsigned rw = ((revents & EV_READ) ? PG_READ : 0) | ((revents & EV_WRITE) ? PG_WRITE : 0);
    if (revents & EV_ERROR) {
        rw = PG_READ | PG_WRITE; /* the next system call tells what is wrong */
    }
    io->cb(io->arg, rw);
}

static void io_release(struct pg_defer *d)
{
    pg_free(PG_CONTAINER_OF(d, struct pg_io, dead));
}

int pg_io_new(struct pg_loop *l, int fd, void (*cb)(void *arg, unsigned rw), void *arg, struct pg_io **out)
{
    struct pg_io *io = pg_calloc(1, sizeof(*io));
    if (io == NULL) {
        return PG_E_NOMEM;
    }
    io->loop = l;
    io->cb = cb;
    io->arg = arg;
    io->dead.cb = io_release;
    ev_io_init(&io->w, on_io, fd, 0);
    ev_set_priority(&io->w, PRI_IO);
    io->w.data = io;
    *out = io;
    return 0;
}

void pg_io_want(struct pg_io *io, unsigned rw)
{
    int events = to_ev(rw);
    if ((io->w.events & (EV_READ | EV_WRITE)) == events) {
        return;
    }
    ev_io_stop(io->loop->ev, &io->w);
    ev_io_modify(
        &io->w,
        events); /* unlike ev_io_set: no system call when it is back as it was by the end of the turn */
    if (events != 0) {
        ev_io_start(io->loop->ev, &io->w);
    }
    io->loop->io_changed = true;
    touched(io->loop);
}

void pg_io_free(struct pg_io *io)
{
    if (io == NULL) {
        return;
    }
    ev_io_stop(io->loop->ev, &io->w);
    io->loop->io_changed = true;
    pg_loop_defer(io->loop, &io->dead);
}

static void on_async(struct ev_loop *ev, ev_async *w, int revents)
{
    struct pg_async *a = w->data;
    (void)ev;
    (void)revents;
    a->cb(a->arg);
}

static void async_release(struct pg_defer *d)
{
    pg_free(PG_CONTAINER_OF(d, struct pg_async, dead));
}

int pg_async_new(struct pg_loop *l, void (*cb)(void *arg), void *arg, struct pg_async **out)
{
    struct pg_async *a = pg_calloc(1, sizeof(*a));
    if (a == NULL) {
        return PG_E_NOMEM;
    }
    a->loop = l;
    a->cb = cb;
    a->arg = arg;
    a->dead.cb = async_release;
    ev_async_init(&a->w, on_async);
    ev_set_priority(&a->w, PRI_ASYNC);
    a->w.data = a;
    ev_async_start(l->ev, &a->w);
    l->io_changed = true;
    touched(l);
    *out = a;
    return 0;
}

void pg_async_send(struct pg_async *a)
{
    ev_async_send(a->loop->ev, &a->w);
    int wake = atomic_load(&a->loop->embed_wake);
    if (wake >= 0) {
        uint64_t one = 1;
        (void)!write(wake, &one, sizeof(one)); /* full means that it is readable already */
    }
}

void pg_async_free(struct pg_async *a)
{
    if (a == NULL) {
        return;
    }
    ev_async_stop(a->loop->ev, &a->w);
    pg_loop_defer(a->loop, &a->dead);
}

static void on_signal(struct ev_loop *ev, ev_signal *w, int revents)
{
    struct pg_signal *s = w->data;
    (void)ev;
    (void)revents;
    s->cb(s->arg);
}

static void signal_release(struct pg_defer *d)
{
    pg_free(PG_CONTAINER_OF(d, struct pg_signal, dead));
}

int pg_signal_new(struct pg_loop *l, int signo, void (*cb)(void *arg), void *arg, struct pg_signal **out)
{
    struct pg_signal *s = pg_calloc(1, sizeof(*s));
    if (s == NULL) {
        return PG_E_NOMEM;
    }
    s->loop = l;
    s->cb = cb;
    s->arg = arg;
    s->dead.cb = signal_release;
    ev_signal_init(&s->w, on_signal, signo);
    ev_set_priority(&s->w, PRI_IO);
    s->w.data = s;
    ev_signal_start(l->ev, &s->w);
    l->io_changed = true;
    touched(l);
    *out = s;
    return 0;
}

void pg_signal_free(struct pg_signal *s)
{
    if (s == NULL) {
        return;
    }
    ev_signal_stop(s->loop->ev, &s->w);
    pg_loop_defer(s->loop, &s->dead);
}

void pg_loop_defer(struct pg_loop *l, struct pg_defer *d)
{
    if (!pg_list_is_linked(&d->node)) {
        pg_list_push_back(&l->deferred, &d->node);
        touched(l);
    }
}

void pg_defer_cancel(struct pg_defer *d)
{
    pg_list_remove(&d->node);
}
