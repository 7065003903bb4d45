/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tunnel's copy loop. Invariants: at most PG_RELAY_BUFFER bytes wait per direction, in memory that exists
 * only while they wait, or, for bulk between sockets, PG_RELAY_PIPE in a pipe that exists only while it
 * lasts; nothing is read while some wait, so back-pressure reaches the sender; credit goes back when the
 * other side took the bytes; an end of stream is passed on after the bytes before it, and an error on one
 * side resets the other, so a reset never looks like a clean end, and is noticed in time even on a side that
 * is not read from while the other is stalled. Loop thread.
 */
#include "net/transport.h"

#include "core/mem.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Bytes per callback and direction, so that one tunnel cannot starve others. */
#define TURN_BUDGET (256u * 1024u)
/* A read this short most likely emptied the source. */
#define SMALL_READ 8192u
#define LINGER_POLL_MS 10u
#define LINGER_MAX_MS 30000u /* without any progress */
/* A side of which nothing is wanted now (the other one is stalled, or it ended) tells of no reset: it is
 * asked. */
#define CHECK_MS 5000u

/* Bytes are read into one area per thread and written on at once; only what was not taken is kept by the
 * flow. */
static _Thread_local unsigned char scratch[PG_RELAY_BUFFER];

struct flow {
    unsigned char *rest; /* bytes the destination did not take yet */
    uint32_t start;
    uint32_t end;
    uint32_t piped; /* bytes waiting in the pipe; never together with `rest` */
    int pipe[2];    /* only while `splicing` */
    uint64_t moved;
    bool splicing;
    bool no_splice;
    bool eof;  /* source ended */
    bool done; /* and the destination was told */
};
enum relay_state { RELAY_RUNNING, RELAY_LINGERING, RELAY_FINISHING };
struct pg_relay {
    struct pg_loop *loop;
    struct pg_transport *side[2]; /* flow[i] runs from side[i] to side[!i] */
    struct flow flow[2];
    struct pg_defer finish;
    struct pg_timer *timer; /* made when first needed: lingering, or a side of which nothing is wanted */
    uint64_t linger_until;
    size_t linger_left;
    void (*on_done)(const struct pg_relay_result *r, void *arg);
    void *arg;
    char *text; /* of pg_relay_abort */
    int err;
    enum relay_state state;
    bool err_on_b;
    bool err_on_write;
    bool blind; /* nothing is wanted of a side */
    bool cut;   /* both sides get a reset */
};

static bool waits(const struct flow *f)
{
    return f->rest != NULL || f->piped > 0;
}

static void drop_rest(struct flow *f)
{
    pg_free(f->rest);
    f->rest = NULL;
    f->start = 0;
    f->end = 0;
}

/* Bulk is worth a pipe; without one (descriptors are scarce) copying goes on. */
static void splice_begin(struct pg_relay *r, int from)
{
    struct flow *f = &r->flow[from];
    if (f->splicing || f->no_splice || r->side[from]->ops->read_to_pipe == NULL ||
        r->side[!from]->ops->write_from_pipe == NULL) {
        return;
    }
    f->splicing = pipe2(f->pipe, O_CLOEXEC | O_NONBLOCK) == 0;
    f->no_splice = !f->splicing;
    if (f->splicing) {
        /* refused beyond the user's share of pipe memory: a pipe of the usual size still pays */
        (void)fcntl(f->pipe[0], F_SETPIPE_SZ, (int)PG_RELAY_PIPE);
    }
}

static void splice_end(struct flow *f)
{
    if (f->splicing) {
        close(f->pipe[0]);
        close(f->pipe[1]);
    }
    f->splicing = false;
    f->piped = 0;
}

static void finish(struct pg_relay *r)
{
    r->state = RELAY_FINISHING;
    for (int i = 0; i < 2; i++) {
        drop_rest(&r->flow[i]);
        splice_end(&r->flow[i]);
        pg_transport_want(r->side[i], 0);
    }
    pg_loop_defer(r->loop, &r->finish);
}

static void fail(struct pg_relay *r, int err, int side, bool on_write)
{
    r->err = err;
    r->err_on_b = side == 1;
    r->err_on_write = on_write;
    r->cut = true;
    finish(r);
}

static void on_finish(struct pg_defer *d)
{
    struct pg_relay *r = PG_CONTAINER_OF(d, struct pg_relay, finish);
    struct pg_errtext text = {.text = ""};
    struct pg_relay_result res = {.a_to_b = r->flow[0].moved,
                                  .b_to_a = r->flow[1].moved,
                                  .err = r->err,
                                  .err_on_b = r->err_on_b,
                                  .err_on_write = r->err_on_write};
    if (r->text != NULL) {
        pg_err_set(&text, "%s", r->text);
    } else if (r->err != 0) {
        pg_err_set(&text, "%s", pg_transport_error_text(r->side[r->err_on_b]));
    }
    res.text = text.text;
    for (int i = 0; i < 2; i++) {
        if (r->cut) {
            pg_transport_abort(r->side[i]);
        } else {
            pg_transport_close(r->side[i]);
        }
    }
    pg_timer_free(r->timer);
    r->on_done(&res, r->arg);
    pg_free(r->text);
    pg_free(r);
}

static size_t unsent(const struct pg_relay *r)
{
    return pg_transport_pending(r->side[0]) + pg_transport_pending(r->side[1]);
}

/* True while neither side is known to be broken. */
static bool both_live(struct pg_relay *r)
{
    for (int i = 0; i < 2; i++) {
        int status = pg_transport_status(r->side[i]);
        if (status < 0 && status != PG_E_AGAIN) {
            fail(r, status, i, r->state == RELAY_LINGERING);
            return false;
        }
    }
    return true;
}

static void on_linger(struct pg_relay *r)
{
    size_t left = unsent(r);
    uint64_t now = pg_loop_now_ms(r->loop);
    if (left < r->linger_left) {
        r->linger_left = left;
        r->linger_until = now + LINGER_MAX_MS; /* slow, but it goes on */
    }
    if (left == 0) {
        finish(r);
    } else if (now >= r->linger_until) {
        fail(r, PG_E_TIMEDOUT, pg_transport_pending(r->side[1]) > 0, true);
    } else {
        pg_timer_start(r->timer, LINGER_POLL_MS);
    }
}

static void on_timer(void *arg)
{
    struct pg_relay *r = arg;
    if (r->state == RELAY_FINISHING || !both_live(r)) {
        return;
    }
    if (r->state == RELAY_LINGERING) {
        on_linger(r);
    } else if (r->blind) {
        pg_timer_start(r->timer, CHECK_MS);
    }
}

static int need_timer(struct pg_relay *r)
{
    return r->timer != NULL ? 0 : pg_timer_new(r->loop, on_timer, r, &r->timer);
}

/* Left running when the reason goes: tunnels stall and move on all the time. */
static void start_check(struct pg_relay *r)
{
    if (need_timer(r) == 0 && !pg_timer_is_active(r->timer)) {
        pg_timer_start(r->timer, CHECK_MS);
    }
}

/* Both directions ended; what a layer below still holds must get out before the close. */
static void ended(struct pg_relay *r)
{
    r->linger_left = unsent(r);
    if (r->linger_left == 0) {
        finish(r);
        return;
    }
    int err = need_timer(r);
    if (err < 0) {
        fail(r, err, pg_transport_pending(r->side[1]) > 0, true);
        return;
    }
    r->state = RELAY_LINGERING;
    r->linger_until = pg_loop_now_ms(r->loop) + LINGER_MAX_MS;
    pg_transport_want(r->side[0], 0);
    pg_transport_want(r->side[1], 0);
    pg_timer_start(r->timer, LINGER_POLL_MS);
}

/* Offers `n` bytes to the destination; bytes taken (0: pushed back) or a final error. */
static ssize_t offer(struct pg_relay *r, int from, const void *p, size_t n)
{
    ssize_t w = pg_transport_write(r->side[!from], p, n);
    if (w == PG_E_AGAIN) {
        return 0;
    }
    if (w > 0) {
        r->flow[from].moved += (uint64_t)w;
        pg_transport_consumed(r->side[from], (size_t)w);
    }
    return w;
}

static bool flush_pipe(struct pg_relay *r, int from)
{
    struct flow *f = &r->flow[from];
    struct pg_transport *to = r->side[!from];
    while (f->piped > 0) {
        ssize_t w = to->ops->write_from_pipe(to, f->pipe[0], f->piped);
        if (w == PG_E_AGAIN) {
            return false;
        }
        if (w < 0) {
            fail(r, (int)w, !from, true);
            return false;
        }
        f->piped -= (uint32_t)w;
        f->moved += (uint64_t)w;
        pg_transport_consumed(r->side[from], (size_t)w);
    }
    return true;
}

/* Sends what waits. True when nothing waits any more; false when pushed back or failed. */
static bool flush_rest(struct pg_relay *r, int from)
{
    struct flow *f = &r->flow[from];
    if (f->piped > 0) {
        return flush_pipe(r, from);
    }
    ssize_t w = offer(r, from, f->rest + f->start, f->end - f->start);
    if (w < 0) {
        fail(r, (int)w, !from, true);
        return false;
    }
    f->start += (uint32_t)w;
    if (f->start < f->end) {
        return false;
    }
    drop_rest(f);
    return true;
}

static bool keep_rest(struct pg_relay *r, int from, const unsigned char *p, size_t n)
{
    struct flow *f = &r->flow[from];
    f->rest = pg_memdup(p, n);
    if (f->rest == NULL) {
        fail(r, PG_E_NOMEM, from, false);
        return false;
    }
    f->start = 0;
    f->end = (uint32_t)n;
    return true;
}

static void pass_end(struct pg_relay *r, int from)
{
    int err = pg_transport_shutdown(r->side[!from]);
    if (err < 0 && err != PG_E_AGAIN) {
        fail(r, err, !from, true);
        return;
    }
    r->flow[from].done = true;
}

/* What a read returned besides bytes: nothing now, an error, the end. True when there are bytes. */
static bool got_bytes(struct pg_relay *r, int from, ssize_t n)
{
    if (n == 0) {
        r->flow[from].eof = true;
        pass_end(r, from);
    } else if (n < 0 && n != PG_E_AGAIN) {
        fail(r, (int)n, from, false);
    }
    return n > 0;
}

/* Takes `n` off the budget; true while some is left. */
static bool spend(size_t *budget, ssize_t n)
{
    *budget -= (size_t)n < *budget ? (size_t)n : *budget;
    return *budget > 0;
}

static bool splice_piece(struct pg_relay *r, int from, size_t *budget)
{
    struct flow *f = &r->flow[from];
    struct pg_transport *src = r->side[from];
    ssize_t n = src->ops->read_to_pipe(src, f->pipe[1], PG_RELAY_PIPE);
    if (n == PG_E_UNSUPPORTED) {
        splice_end(f);
        f->no_splice = true;
        return true;
    }
    if (!got_bytes(r, from, n)) {
        return false;
    }
    f->piped = (uint32_t)n;
    return flush_pipe(r, from) && spend(budget, n);
}

/* Moves one piece; false when this direction has to wait, ended or failed. `*budget` sinks by what was moved.
 */
static bool copy_piece(struct pg_relay *r, int from, size_t *budget)
{
    ssize_t n = pg_transport_read(r->side[from], scratch, sizeof(scratch));
    if (!got_bytes(r, from, n)) {
        return false;
    }
    ssize_t w = offer(r, from, scratch, (size_t)n);
    if (w < 0) {
        fail(r, (int)w, !from, true);
        return false;
    }
    if (w < n) {
        (void)keep_rest(r, from, scratch + w, (size_t)(n - w));
        return false;
    }
    if ((size_t)n == sizeof(scratch)) {
        splice_begin(r, from);
    }
    return spend(budget, n) && (size_t)n >= SMALL_READ;
}

static void pump(struct pg_relay *r, int from)
{
    struct flow *f = &r->flow[from];
    size_t budget = TURN_BUDGET;
    if ((waits(f) && !flush_rest(r, from)) || f->eof) {
        return;
    }
    while ((f->splicing ? splice_piece : copy_piece)(r, from, &budget)) {
    }
    if (f->splicing && f->piped == 0 && TURN_BUDGET - budget < SMALL_READ) {
        splice_end(f); /* bulk is over */
    }
}

static void on_ready(struct pg_transport *t, unsigned rw, void *arg)
{
    struct pg_relay *r = arg;
    int side = t == r->side[1];
    if (r->state != RELAY_RUNNING) {
        return;
    }
    if ((rw & PG_READ) != 0 && !waits(&r->flow[side]) && !r->flow[side].eof) {
        pump(r, side);
    }
    if (r->state == RELAY_RUNNING && (rw & PG_WRITE) != 0 && waits(&r->flow[!side])) {
        pump(r, !side);
    }
    if (r->state != RELAY_RUNNING) {
        return;
    }
    if (r->flow[0].done && r->flow[1].done) {
        ended(r);
        return;
    }
    r->blind = false;
    for (int i = 0; i < 2; i++) {
        bool reading = !r->flow[i].eof && !waits(&r->flow[i]);
        bool writing = waits(&r->flow[!i]);
        r->blind = r->blind || !(reading || writing);
        pg_transport_want(r->side[i], (reading ? PG_READ : 0) | (writing ? PG_WRITE : 0));
    }
    if (r->blind) {
        start_check(r);
    }
}

int pg_relay_start(struct pg_loop *l, struct pg_transport *a, struct pg_transport *b,
                   void (*on_done)(const struct pg_relay_result *r, void *arg), void *arg,
                   struct pg_relay **out)
{
    struct pg_relay *r = pg_calloc(1, sizeof(*r));
    if (r == NULL) {
        return PG_E_NOMEM;
    }
    r->loop = l;
    r->side[0] = a;
    r->side[1] = b;
    r->on_done = on_done;
    r->arg = arg;
    r->finish.cb = on_finish;
    pg_transport_set_owner(a, on_ready, r);
    pg_transport_set_owner(b, on_ready, r);
    pg_transport_want(a, PG_READ);
    pg_transport_want(b, PG_READ);
    *out = r;
    return 0;
}

void pg_relay_abort(struct pg_relay *r, int err, const char *text)
{
    if (r->state == RELAY_FINISHING) {
        return;
    }
    r->text = text != NULL ? pg_strdup(text) : NULL; /* without memory the code has to speak for itself */
    fail(r, err, 0, false);
}

void pg_relay_counts(const struct pg_relay *r, uint64_t *a_to_b, uint64_t *b_to_a)
{
    *a_to_b = r->flow[0].moved;
    *b_to_a = r->flow[1].moved;
}
