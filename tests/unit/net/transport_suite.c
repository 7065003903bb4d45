/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The contract of net/transport.h as tests. An `actor` owns one end and does what its fields say when told it
 * is ready; it checks on the way that readiness never comes from inside a call and at most once a turn. Loop
 * thread.
 */
#include "transport_suite.h"

#include "core/rng.h"

#include <CUnit/Basic.h>
#include <string.h>

#define GUARD_MS 20000u
#define STALL_MAX (64u << 20)

struct actor {
    struct pg_loop *l;
    struct pg_transport *t;
    struct pg_rng rng;
    uint64_t seed;      /* of what it sends */
    uint64_t peer_seed; /* of what it gets */
    uint64_t to_send;
    uint64_t sent;
    uint64_t got;
    uint64_t got_wrong;
    bool reads;
    bool shut_when_sent;
    bool shut;
    bool eof;
    int read_err;
    int write_err;
    unsigned calls;
    unsigned calls_this_turn;
    unsigned max_calls_a_turn;
    unsigned last_rw;
    bool inside; /* one of our calls into the transport is running */
    bool reentered;
    bool stranger;      /* called for another transport */
    bool wrote_nothing; /* writev returned 0 */
    bool closed;
    bool called_after_close;
    bool passive;    /* only count */
    bool close_self; /* in the callback */
    struct actor *close_other;
};

unsigned char suite_byte(uint64_t seed, uint64_t i)
{
    uint64_t x = (i + 1) * 0x9e3779b97f4a7c15u ^ seed;
    return (unsigned char)((x ^ (x >> 29) ^ (x >> 47)) & 0xff);
}

static void on_guard(void *arg)
{
    *(bool *)arg = true;
}

bool suite_turns(struct pg_loop *l, bool (*done)(void *arg), void *arg)
{
    struct pg_timer *guard = NULL;
    bool late = false;
    if (pg_timer_new(l, on_guard, &late, &guard) < 0) {
        return false;
    }
    pg_timer_start(guard, GUARD_MS);
    while (!late && !done(arg)) {
        pg_loop_turn(l, true);
    }
    pg_timer_free(guard);
    return !late;
}

void suite_idle(struct pg_loop *l, int n)
{
    for (int i = 0; i < n; i++) {
        pg_loop_turn(l, false);
    }
}

static void actor_want(struct actor *a, unsigned rw)
{
    a->inside = true;
    pg_transport_want(a->t, rw);
    a->inside = false;
}

static void actor_close(struct actor *a)
{
    if (!a->closed) {
        a->closed = true;
        pg_transport_close(a->t);
    }
}

static void actor_read(struct actor *a)
{
    unsigned char buf[20000];
    while (a->reads && !a->eof && a->read_err == 0) {
        size_t cap = 1 + (size_t)pg_rng_below(&a->rng, sizeof(buf));
        a->inside = true;
        ssize_t n = pg_transport_read(a->t, buf, cap);
        a->inside = false;
        if (n == PG_E_AGAIN) {
            return;
        }
        if (n < 0) {
            a->read_err = (int)n;
        } else if (n == 0) {
            a->eof = true;
        }
        for (ssize_t i = 0; i < n; i++) {
            a->got_wrong += buf[i] != suite_byte(a->peer_seed, a->got + (uint64_t)i);
        }
        if (n > 0) {
            a->got += (uint64_t)n;
            a->inside = true;
            pg_transport_consumed(a->t, (size_t)n);
            a->inside = false;
        }
    }
}

static void actor_write(struct actor *a)
{
    unsigned char buf[20000];
    while (a->sent < a->to_send && a->write_err == 0) {
        size_t n = 1 + (size_t)pg_rng_below(&a->rng, sizeof(buf));
        if (n > a->to_send - a->sent) {
            n = (size_t)(a->to_send - a->sent);
        }
        for (size_t i = 0; i < n; i++) {
            buf[i] = suite_byte(a->seed, a->sent + i);
        }
        size_t cut = (size_t)pg_rng_below(&a->rng, n + 1);
        struct iovec iov[2] = {{buf, cut}, {buf + cut, n - cut}};
        a->inside = true;
        ssize_t w = pg_transport_writev(a->t, iov, 2);
        a->inside = false;
        a->wrote_nothing |= w == 0;
        if (w == PG_E_AGAIN) {
            return;
        }
        if (w < 0) {
            a->write_err = (int)w;
        } else {
            a->sent += (uint64_t)w;
        }
    }
    if (a->shut_when_sent && !a->shut && a->write_err == 0) {
        a->shut = true;
        CU_ASSERT_EQUAL(pg_transport_shutdown(a->t), 0);
        CU_ASSERT_EQUAL(pg_transport_shutdown(a->t), 0); /* idempotent */
    }
}

static void actor_interest(struct actor *a)
{
    unsigned rw = 0;
    if (a->reads && !a->eof && a->read_err == 0) {
        rw |= PG_READ;
    }
    if (a->sent < a->to_send && a->write_err == 0) {
        rw |= PG_WRITE;
    }
    actor_want(a, rw);
}

static void on_ready(struct pg_transport *t, unsigned rw, void *arg)
{
    struct actor *a = arg;
    a->stranger |= t != a->t;
    a->reentered |= a->inside;
    a->called_after_close |= a->closed;
    a->calls++;
    a->calls_this_turn++;
    if (a->calls_this_turn > a->max_calls_a_turn) {
        a->max_calls_a_turn = a->calls_this_turn;
    }
    a->last_rw = rw;
    if (a->close_other != NULL) {
        actor_close(a->close_other);
    }
    if (a->close_self) {
        actor_close(a);
    }
    if (a->closed || a->passive) {
        return;
    }
    actor_read(a);
    actor_write(a);
    actor_interest(a);
}

struct pair {
    struct pg_loop *l;
    struct actor a;
    struct actor b;
};

static bool established(void *arg)
{
    struct pair *p = arg;
    return pg_transport_status(p->a.t) != PG_E_AGAIN && pg_transport_status(p->b.t) != PG_E_AGAIN;
}

static void actor_init(struct actor *a, struct pg_loop *l, struct pg_transport *t, uint64_t seed,
                       uint64_t peer)
{
    *a = (struct actor){.l = l, .t = t, .seed = seed, .peer_seed = peer, .passive = true};
    pg_rng_seed(&a->rng, seed);
    pg_transport_set_owner(t, on_ready, a);
}

typedef int (*make_fn)(struct pg_loop *, struct pg_transport **, struct pg_transport **, void *);

static bool pair_make(struct pair *p, struct pg_loop *l, make_fn make, void *arg)
{
    struct pg_transport *a = NULL;
    struct pg_transport *b = NULL;
    int r = make(l, &a, &b, arg);
    CU_ASSERT_EQUAL(r, 0);
    if (r != 0) {
        return false;
    }
    p->l = l;
    actor_init(&p->a, l, a, 11, 22);
    actor_init(&p->b, l, b, 22, 11);
    actor_want(&p->a, PG_READ | PG_WRITE);
    actor_want(&p->b, PG_READ | PG_WRITE);
    CU_ASSERT_TRUE(suite_turns(l, established, p));
    CU_ASSERT_EQUAL(pg_transport_status(a), 1);
    CU_ASSERT_EQUAL(pg_transport_status(b), 1);
    actor_want(&p->a, 0);
    actor_want(&p->b, 0);
    suite_idle(l, 2);
    p->a.calls = 0;
    p->b.calls = 0;
    p->a.passive = false;
    p->b.passive = false;
    return true;
}

static void pair_end(struct pair *p)
{
    CU_ASSERT_FALSE(p->a.reentered);
    CU_ASSERT_FALSE(p->b.reentered);
    CU_ASSERT_FALSE(p->a.stranger || p->b.stranger);
    CU_ASSERT_FALSE(p->a.wrote_nothing || p->b.wrote_nothing);
    actor_close(&p->a);
    actor_close(&p->b);
    suite_idle(p->l, 4);
    CU_ASSERT_FALSE(p->a.called_after_close);
    CU_ASSERT_FALSE(p->b.called_after_close);
}

static bool both_ended(void *arg)
{
    struct pair *p = arg;
    return (p->a.eof || p->a.read_err != 0) && (p->b.eof || p->b.read_err != 0);
}

static void check_clean(const struct pair *p, uint64_t a_sent, uint64_t b_sent)
{
    CU_ASSERT_TRUE(p->a.eof && p->b.eof);
    CU_ASSERT_EQUAL(p->a.read_err, 0);
    CU_ASSERT_EQUAL(p->b.read_err, 0);
    CU_ASSERT_EQUAL(p->a.write_err, 0);
    CU_ASSERT_EQUAL(p->b.write_err, 0);
    CU_ASSERT_EQUAL(p->b.got, a_sent);
    CU_ASSERT_EQUAL(p->a.got, b_sent);
    CU_ASSERT_EQUAL(p->a.got_wrong, 0);
    CU_ASSERT_EQUAL(p->b.got_wrong, 0);
}

/* Both ways at once, random sizes, every byte checked. */
static void both_ways(struct pg_loop *l, make_fn make, void *arg)
{
    struct pair p;
    if (!pair_make(&p, l, make, arg)) {
        return;
    }
    p.a.to_send = 200000;
    p.b.to_send = 81234;
    p.a.reads = p.b.reads = true;
    p.a.shut_when_sent = p.b.shut_when_sent = true;
    actor_interest(&p.a);
    actor_interest(&p.b);
    CU_ASSERT_TRUE(suite_turns(l, both_ended, &p));
    check_clean(&p, 200000, 81234);
    pair_end(&p);
}

static bool second_ended(void *arg)
{
    struct actor *second = arg;
    return second->eof || second->read_err != 0;
}

/* One end finishes sending first; the other answers afterwards. */
static void half_close(struct pg_loop *l, make_fn make, void *arg, bool a_first)
{
    struct pair p;
    if (!pair_make(&p, l, make, arg)) {
        return;
    }
    struct actor *first = a_first ? &p.a : &p.b;
    struct actor *second = a_first ? &p.b : &p.a;
    first->to_send = 1000;
    first->shut_when_sent = true;
    first->reads = second->reads = true;
    actor_interest(first);
    actor_interest(second);
    CU_ASSERT_TRUE(suite_turns(l, second_ended, second));
    CU_ASSERT_TRUE(second->eof);
    CU_ASSERT_EQUAL(second->got, 1000);
    CU_ASSERT_FALSE(first->eof);
    CU_ASSERT_TRUE(pg_transport_write(first->t, "x", 1) < 0); /* after shutdown */
    second->to_send = 50000;
    second->shut_when_sent = true;
    actor_interest(second);
    CU_ASSERT_TRUE(suite_turns(l, both_ended, &p));
    check_clean(&p, a_first ? 1000 : 50000, a_first ? 50000 : 1000);
    pair_end(&p);
}

/* An end of stream with nothing before it. */
static void empty_end(struct pg_loop *l, make_fn make, void *arg)
{
    struct pair p;
    if (!pair_make(&p, l, make, arg)) {
        return;
    }
    p.a.reads = p.b.reads = true;
    actor_interest(&p.a);
    actor_interest(&p.b);
    CU_ASSERT_EQUAL(pg_transport_shutdown(p.a.t), 0);
    CU_ASSERT_TRUE(suite_turns(l, second_ended, &p.b));
    CU_ASSERT_TRUE(p.b.eof);
    CU_ASSERT_EQUAL(pg_transport_shutdown(p.b.t), 0);
    CU_ASSERT_TRUE(suite_turns(l, both_ended, &p));
    check_clean(&p, 0, 0);
    pair_end(&p);
}

/* A reader that does not read stops the writer after a bounded amount; nothing is lost when it starts again.
 */
static void back_pressure(struct pg_loop *l, make_fn make, void *arg)
{
    struct pair p;
    if (!pair_make(&p, l, make, arg)) {
        return;
    }
    p.a.to_send = STALL_MAX;
    unsigned quiet = 0;
    while (quiet < 30 && p.a.sent < STALL_MAX && p.a.write_err == 0) {
        uint64_t before = p.a.sent;
        actor_write(&p.a);
        suite_idle(l, 3);
        quiet = p.a.sent == before ? quiet + 1 : 0;
    }
    CU_ASSERT_TRUE(p.a.sent > 0);
    CU_ASSERT_TRUE(p.a.sent < STALL_MAX / 2);
    p.a.to_send = p.a.sent + 10000;
    p.a.shut_when_sent = true;
    p.b.reads = true;
    actor_interest(&p.a);
    actor_interest(&p.b);
    CU_ASSERT_TRUE(suite_turns(l, second_ended, &p.b));
    CU_ASSERT_TRUE(p.b.eof);
    CU_ASSERT_EQUAL(p.b.got, p.a.to_send);
    CU_ASSERT_EQUAL(p.b.got_wrong, 0);
    pair_end(&p);
}

/* An aborted end is an error to the other, the same one for ever, and shows whatever was wanted. */
static void reset(struct pg_loop *l, make_fn make, void *arg, unsigned want)
{
    struct pair p;
    char c;
    if (!pair_make(&p, l, make, arg)) {
        return;
    }
    if (strcmp(p.a.t->ops->name, "unix") == 0) {
        pair_end(&p);
        return;
    }
    p.a.to_send = 3000;
    actor_write(&p.a);
    suite_idle(l, 5);
    p.a.closed = true;
    pg_transport_abort(p.a.t);
    suite_idle(l, 2);
    /* Writing may be possible anyway: count only what comes until the error is seen. */
    p.b.reads = true;
    p.b.passive = false;
    actor_want(&p.b, want);
    CU_ASSERT_TRUE(suite_turns(l, second_ended, &p.b));
    CU_ASSERT_FALSE(p.b.eof);
    CU_ASSERT_TRUE(p.b.read_err < 0);
    CU_ASSERT_EQUAL(p.b.got_wrong, 0);
    CU_ASSERT_EQUAL(pg_transport_read(p.b.t, &c, 1), p.b.read_err);
    CU_ASSERT_TRUE(pg_transport_write(p.b.t, "x", 1) < 0);
    CU_ASSERT_NOT_EQUAL(pg_transport_write(p.b.t, "x", 1), PG_E_AGAIN);
    CU_ASSERT_EQUAL(pg_transport_read(p.b.t, &c, 1), p.b.read_err);
    CU_ASSERT_TRUE(pg_transport_status(p.b.t) < 0);
    pair_end(&p);
}

static bool b_called(void *arg)
{
    struct pair *p = arg;
    return p->b.calls > 0;
}

/* Readiness holds on until taken, at most once a turn, and only what is wanted. */
static void level(struct pg_loop *l, make_fn make, void *arg)
{
    struct pair p;
    if (!pair_make(&p, l, make, arg)) {
        return;
    }
    p.b.passive = true;
    actor_want(&p.b, PG_READ);
    suite_idle(l, 5);
    CU_ASSERT_EQUAL(p.b.calls, 0); /* nothing to read, writing not wanted */
    p.a.to_send = 10;
    actor_interest(&p.a);
    CU_ASSERT_TRUE(suite_turns(l, b_called, &p));
    CU_ASSERT_TRUE((p.b.last_rw & PG_READ) != 0);
    p.b.calls = 0;
    p.b.max_calls_a_turn = 0;
    for (int i = 0; i < 6; i++) {
        p.b.calls_this_turn = 0;
        pg_loop_turn(l, true);
    }
    CU_ASSERT_TRUE(p.b.calls >= 3);
    CU_ASSERT_EQUAL(p.b.max_calls_a_turn, 1);
    actor_want(&p.b, 0);
    p.b.calls = 0;
    suite_idle(l, 5);
    CU_ASSERT_EQUAL(p.b.calls, 0);
    actor_want(&p.b, PG_WRITE);
    CU_ASSERT_TRUE(suite_turns(l, b_called, &p));
    CU_ASSERT_TRUE((p.b.last_rw & PG_WRITE) != 0);
    p.b.calls = 0;
    actor_want(&p.b, PG_READ);
    CU_ASSERT_TRUE(suite_turns(l, b_called, &p));
    CU_ASSERT_TRUE((p.b.last_rw & PG_READ) != 0);
    pair_end(&p);
}

/* An owner may close its end, the other end, or both from inside a callback. */
static void close_inside(struct pg_loop *l, make_fn make, void *arg, bool self, bool other)
{
    struct pair p;
    if (!pair_make(&p, l, make, arg)) {
        return;
    }
    p.b.close_self = self;
    p.b.close_other = other ? &p.a : NULL;
    p.b.passive = true;
    p.a.passive = true;
    actor_want(&p.a, PG_READ | PG_WRITE);
    actor_want(&p.b, PG_READ | PG_WRITE);
    CU_ASSERT_TRUE(suite_turns(l, b_called, &p));
    suite_idle(l, 5);
    pair_end(&p);
}

void transport_suite_run(struct pg_loop *l, make_fn make, void *arg)
{
    both_ways(l, make, arg);
    half_close(l, make, arg, true);
    half_close(l, make, arg, false);
    empty_end(l, make, arg);
    back_pressure(l, make, arg);
    reset(l, make, arg, PG_READ);
    reset(l, make, arg, PG_WRITE);
    level(l, make, arg);
    close_inside(l, make, arg, true, false);
    close_inside(l, make, arg, false, true);
    close_inside(l, make, arg, true, true);
}
