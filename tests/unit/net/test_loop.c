/* SPDX-License-Identifier: Apache-2.0 */
/* The real loop: order of a turn, freeing inside callbacks, wake-ups from other threads, embedding. */
#include "testlib.h"

#include "core/clock.h"
#include "net/loop.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct trace {
    char text[200];
    struct pg_loop *l;
    struct pg_defer d;
    struct pg_timer *t;
    struct pg_io *io;
    struct pg_async *a;
    int fd;
};

static void note(struct trace *t, const char *what)
{
    size_t len = strlen(t->text);
    size_t n = strlen(what);
    if (len + n + 1 < sizeof(t->text)) {
        memcpy(t->text + len, what, n + 1);
    }
}

static void on_async(void *arg)
{
    note(arg, "A");
}

static void on_timer(void *arg)
{
    struct trace *t = arg;
    note(t, "T");
    pg_loop_defer(t->l, &t->d);
}

static void on_io(void *arg, unsigned rw)
{
    struct trace *t = arg;
    uint64_t n;
    note(t, (rw & PG_READ) ? "I" : "?");
    CU_ASSERT_EQUAL(read(t->fd, &n, sizeof(n)), sizeof(n));
}

static void on_defer(struct pg_defer *d)
{
    note(PG_CONTAINER_OF(d, struct trace, d), "D");
}

static void trace_init(struct trace *t)
{
    memset(t, 0, sizeof(*t));
    t->d.cb = on_defer;
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&t->l), 0);
    t->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    CU_ASSERT_EQUAL_FATAL(pg_io_new(t->l, t->fd, on_io, t, &t->io), 0);
    CU_ASSERT_EQUAL_FATAL(pg_timer_new(t->l, on_timer, t, &t->t), 0);
    CU_ASSERT_EQUAL_FATAL(pg_async_new(t->l, on_async, t, &t->a), 0);
}

static void trace_fini(struct trace *t)
{
    pg_io_free(t->io);
    pg_timer_free(t->t);
    pg_async_free(t->a);
    close(t->fd);
    pg_loop_free(t->l);
}

static void trigger(struct trace *t)
{
    uint64_t one = 1;
    CU_ASSERT_EQUAL(write(t->fd, &one, sizeof(one)), sizeof(one));
    pg_timer_start(t->t, 0);
    pg_async_send(t->a);
    pg_async_send(t->a);
}

/* Whatever the order of arrival: asyncs, timers, I/O, deferred. */
static void order_of_a_turn(void)
{
    struct trace t;
    trace_init(&t);
    pg_io_want(t.io, PG_READ);
    for (int i = 0; i < 5; i++) {
        trigger(&t);
        pg_loop_turn(t.l, true);
        CU_ASSERT_STRING_EQUAL(t.text, "ATID");
        t.text[0] = '\0';
    }
    trace_fini(&t);
}

static struct {
    struct trace *t;
    char order[32];
    size_t n;
} seq;
static struct pg_timer *seq_timer[3];

static void seq_one(void *arg)
{
    seq.order[seq.n++] = *(const char *)arg;
}

/* Equal due times run in the order they were started; moving one puts it last. */
static void timers_in_order(void)
{
    struct pg_loop *l = NULL;
    static const char names[] = "abc";
    seq.n = 0;
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&l), 0);
    for (int i = 0; i < 3; i++) {
        CU_ASSERT_EQUAL_FATAL(pg_timer_new(l, seq_one, (void *)(uintptr_t)&names[i], &seq_timer[i]), 0);
    }
    pg_timer_start(seq_timer[0], 1);
    pg_timer_start(seq_timer[1], 1);
    pg_timer_start(seq_timer[2], 1);
    pg_timer_start(seq_timer[0], 3);
    CU_ASSERT_TRUE(pg_timer_is_active(seq_timer[0]));
    while (seq.n < 3) {
        pg_loop_turn(l, true);
    }
    CU_ASSERT_NSTRING_EQUAL(seq.order, "bca", 3);
    CU_ASSERT_FALSE(pg_timer_is_active(seq_timer[0]));
    pg_timer_start(seq_timer[0], 0);
    pg_timer_stop(seq_timer[0]);
    pg_loop_turn(l, false);
    CU_ASSERT_EQUAL(seq.n, 3);
    for (int i = 0; i < 3; i++) {
        pg_timer_free(seq_timer[i]);
    }
    pg_loop_free(l);
}

struct victim {
    struct pg_loop *l;
    struct pg_timer *t;
    struct pg_io *io[2];
    struct pg_async *a;
    int calls;
};

static void kill_all(struct victim *v)
{
    v->calls++;
    pg_timer_free(v->t);
    pg_io_free(v->io[0]);
    pg_io_free(v->io[1]);
    pg_async_free(v->a);
    *v = (struct victim){.calls = v->calls};
}

static void kill_cb(void *arg)
{
    kill_all(arg);
}

static void kill_io(void *arg, unsigned rw)
{
    (void)rw;
    kill_all(arg);
}

/* Whoever runs first frees itself and all others of the same turn, which then stay silent. */
static void free_inside_callbacks(void)
{
    for (int kind = 0; kind < 3; kind++) {
        struct pg_loop *l = NULL;
        struct victim v = {.calls = 0};
        CU_ASSERT_EQUAL_FATAL(pg_loop_new(&l), 0);
        int fd = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);
        CU_ASSERT_EQUAL_FATAL(pg_timer_new(l, kill_cb, &v, &v.t), 0);
        CU_ASSERT_EQUAL_FATAL(pg_io_new(l, fd, kill_io, &v, &v.io[0]), 0);
        CU_ASSERT_EQUAL_FATAL(pg_io_new(l, fd, kill_io, &v, &v.io[1]), 0);
        CU_ASSERT_EQUAL_FATAL(pg_async_new(l, kill_cb, &v, &v.a), 0);
        pg_io_want(v.io[0], PG_READ | PG_WRITE);
        pg_io_want(v.io[1], PG_READ);
        if (kind >= 1) {
            pg_timer_start(v.t, 0);
        }
        if (kind >= 2) {
            pg_async_send(v.a);
        }
        pg_loop_turn(l, true);
        pg_loop_turn(l, false);
        CU_ASSERT_EQUAL(v.calls, 1);
        close(fd);
        pg_loop_free(l);
    }
}

struct again {
    struct pg_loop *l;
    struct pg_defer d;
    struct pg_defer other;
    int calls;
    int other_calls;
};

static void defer_again(struct pg_defer *d)
{
    struct again *a = PG_CONTAINER_OF(d, struct again, d);
    a->calls++;
    pg_loop_defer(a->l, d);
    pg_defer_cancel(&a->other);
}

static void other_called(struct pg_defer *d)
{
    PG_CONTAINER_OF(d, struct again, other)->other_calls++;
}

/* Scheduled from the deferred phase: the next one, and the turn does not block. Cancelling works inside the
 * phase. */
static void deferred_calls(void)
{
    struct again a = {.d.cb = defer_again, .other.cb = other_called};
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&a.l), 0);
    pg_loop_defer(a.l, &a.d);
    pg_loop_defer(a.l, &a.d); /* no-op */
    pg_loop_defer(a.l, &a.other);
    for (int i = 1; i <= 3; i++) {
        pg_loop_turn(a.l, true);
        CU_ASSERT_EQUAL(a.calls, i);
    }
    CU_ASSERT_EQUAL(a.other_calls, 0);
    pg_defer_cancel(&a.d);
    pg_defer_cancel(&a.d); /* fine when not scheduled */
    pg_loop_turn(a.l, false);
    CU_ASSERT_EQUAL(a.calls, 3);
    pg_loop_free(a.l);
}

struct wakes {
    struct pg_loop *l;
    struct pg_async *a;
    int calls;
};

static void on_wake(void *arg)
{
    struct wakes *w = arg;
    w->calls++;
    pg_loop_stop(w->l);
}

static void *waker(void *arg)
{
    for (int i = 0; i < 1000; i++) {
        pg_async_send(arg);
    }
    return NULL;
}

static void wake_from_another_thread(void)
{
    struct wakes w = {.calls = 0};
    pthread_t th;
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&w.l), 0);
    CU_ASSERT_EQUAL_FATAL(pg_async_new(w.l, on_wake, &w, &w.a), 0);
    CU_ASSERT_EQUAL_FATAL(pthread_create(&th, NULL, waker, w.a), 0);
    pg_loop_run(w.l);
    pthread_join(th, NULL);
    CU_ASSERT_TRUE(w.calls >= 1);
    pg_async_free(w.a);
    pg_loop_free(w.l);
}

static void on_signal(void *arg)
{
    (*(int *)arg)++;
}

static void signals(void)
{
    struct pg_loop *l = NULL;
    struct pg_signal *s = NULL;
    int calls = 0;
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&l), 0);
    CU_ASSERT_EQUAL_FATAL(pg_signal_new(l, SIGUSR1, on_signal, &calls, &s), 0);
    CU_ASSERT_EQUAL(raise(SIGUSR1), 0);
    while (calls == 0) {
        pg_loop_turn(l, true);
    }
    CU_ASSERT_EQUAL(calls, 1);
    pg_signal_free(s);
    pg_loop_free(l);
}

static bool readable(int fd, int wait_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, wait_ms) == 1;
}

/* Another loop sees our descriptor readable whenever a turn has work, however it came about. */
static void embedding(void)
{
    struct trace t;
    trace_init(&t);
    int fd = pg_loop_fd(t.l);
    CU_ASSERT_TRUE_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(pg_loop_fd(t.l), fd);
    pg_io_want(t.io, PG_READ);
    while (readable(fd, 0)) {
        pg_loop_turn(t.l, false);
    }
    CU_ASSERT_STRING_EQUAL(t.text, "");
    uint64_t one = 1;
    CU_ASSERT_EQUAL(write(t.fd, &one, sizeof(one)), sizeof(one));
    CU_ASSERT_TRUE(readable(fd, 5000));
    pg_loop_turn(t.l, false);
    CU_ASSERT_STRING_EQUAL(t.text, "I");
    pg_timer_start(t.t, 5);
    for (int i = 0; i < 10 && strcmp(t.text, "ITD") != 0; i++) {
        CU_ASSERT_TRUE(readable(fd, 5000));
        pg_loop_turn(t.l, false);
    }
    CU_ASSERT_STRING_EQUAL(t.text, "ITD");
    pg_loop_defer(t.l, &t.d);
    CU_ASSERT_TRUE(readable(fd, 5000));
    pg_loop_turn(t.l, false);
    CU_ASSERT_STRING_EQUAL(t.text, "ITDD");
    pg_async_send(t.a);
    CU_ASSERT_TRUE(readable(fd, 5000));
    pg_loop_turn(t.l, false);
    CU_ASSERT_STRING_EQUAL(t.text, "ITDDA");
    while (readable(fd, 0)) {
        pg_loop_turn(t.l, false);
    }
    CU_ASSERT_FALSE(readable(fd, 20));
    trace_fini(&t);
}

static int loop_scenario(void *arg)
{
    struct trace t = {.fd = 0};
    struct pg_signal *s = NULL;
    (void)arg;
    int r = pg_loop_new(&t.l);
    if (r < 0) {
        return r;
    }
    r = pg_io_new(t.l, 0, on_io, &t, &t.io);
    r = r < 0 ? r : pg_timer_new(t.l, on_timer, &t, &t.t);
    r = r < 0 ? r : pg_async_new(t.l, on_async, &t, &t.a);
    r = r < 0 ? r : pg_signal_new(t.l, SIGUSR2, on_async, &t, &s);
    pg_io_free(t.io);
    pg_timer_free(t.t);
    pg_async_free(t.a);
    pg_signal_free(s);
    pg_loop_free(t.l);
    return r;
}

static void no_memory(void)
{
    CU_ASSERT_TRUE(test_alloc_sweep(loop_scenario, NULL) >= 6);
}

static void self_start(void *arg)
{
    struct trace *t = arg;
    note(t, "S");
    pg_timer_start(t->t, 0);
}

/* A timer which starts itself without delay does not hold up the turn. */
static void zero_delay(void)
{
    struct trace t;
    memset(&t, 0, sizeof(t));
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&t.l), 0);
    CU_ASSERT_EQUAL_FATAL(pg_timer_new(t.l, self_start, &t, &t.t), 0);
    pg_timer_start(t.t, 0);
    pg_loop_turn(t.l, true);
    CU_ASSERT_STRING_EQUAL(t.text, "S");
    pg_loop_turn(t.l, true);
    CU_ASSERT_STRING_EQUAL(t.text, "SS");
    uint64_t now = pg_loop_now_ms(t.l);
    CU_ASSERT_TRUE(pg_clock_mono_ms() - now < 5000);
    pg_timer_free(t.t);
    pg_loop_free(t.l);
}

TEST_MAIN("loop", {"order of a turn", order_of_a_turn}, {"timers in order", timers_in_order},
          {"free inside callbacks", free_inside_callbacks}, {"deferred calls", deferred_calls},
          {"wake from another thread", wake_from_another_thread}, {"signals", signals},
          {"embedding", embedding}, {"zero delay", zero_delay}, {"no memory", no_memory})
