/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool. Invariants: a session is used by its key only; it is freed when it has neither users nor a
 * session under it; every ticket ends by exactly one of callback and cancel; entries die in the deferred
 * phase only. Worker thread.
 */
#include "hbone/pool.h"

#include "core/log.h"
#include "hbone/pool_policy.h"

#include <stdio.h>

#define ENTRY_ARENA_MAX (4u * 1024 * 1024)
#define CLOSE_GRACE_MS 5000u

struct entry {
    struct hb_pool *pool;
    struct pg_arena arena; /* owns key, names and head */
    struct pg_str key;
    struct pg_addr addr;
    struct pg_str network;
    peering_str *sans, *inner_sans;
    size_t n_sans, n_inner_sans;
    struct hb_connect_head head;
    bool inner;
    struct pg_list conns;   /* DIALING and READY */
    struct pg_list tickets; /* oldest first */
    size_t n_tickets;
    uint64_t cool_until;
    struct pg_defer run;
};
enum conn_state { CONN_DIALING, CONN_READY, CONN_RETIRED, CONN_DEAD };
struct hb_pool_conn {
    struct pg_list node; /* in entry->conns, while not retired */
    struct pg_list all;
    struct hb_pool *pool;
    struct entry *entry; /* NULL once retired */
    enum conn_state state;
    bool inner;
    bool used; /* ever */
    uint32_t users;
    uint64_t creds_gen;
    uint64_t born_ms;
    struct pg_h2 *h2;
    struct pg_timer *timer; /* dialling, idle or closing time */
    struct hb_ticket *outer_ticket;
    struct hb_connect *outer_connect;
    struct hb_pool_conn *outer;
    struct pg_defer destroy;
    char peer[CERT_SPIFFE_MAX + 1];
};
struct hb_ticket {
    struct pg_list node;
    struct entry *entry; /* NULL while its callback is being called */
    void (*cb)(void *arg, struct hb_pool_conn *c, const struct hb_fail *f);
    void *arg;
};
struct hb_pool {
    struct hb_worker *w;
    struct pg_map entries;
    struct pg_list all;
    size_t waiting;
    uint64_t n_outer, n_inner;
};

int hb_pool_new(struct hb_worker *w, struct hb_pool **out)
{
    struct hb_pool *p = pg_calloc(1, sizeof(*p));
    if (p == NULL) {
        return PG_E_NOMEM;
    }
    p->w = w;
    pg_map_init(&p->entries, HB_POOL_KEYS_MAX);
    pg_list_init(&p->all);
    *out = p;
    return 0;
}

void hb_pool_counts(const struct hb_pool *p, uint64_t *outer, uint64_t *inner)
{
    *outer = p->n_outer;
    *inner = p->n_inner;
}

/* ---- sessions
 * ------------------------------------------------------------------------------------------------------ */

static void entry_poke(struct entry *e)
{
    pg_loop_defer(e->pool->w->loop, &e->run);
}

static void conn_free(struct hb_pool_conn *c)
{
    pg_list_remove(&c->all);
    c->pool->n_inner -= c->inner ? 1 : 0;
    c->pool->n_outer -= c->inner ? 0 : 1;
    pg_timer_free(c->timer);
    pg_defer_cancel(&c->destroy);
    hb_ticket_cancel(c->outer_ticket);
    hb_connect_cancel(c->outer_connect);
    pg_h2_free(c->h2);
    hb_pool_put(c->outer);
    pg_free(c);
}

static void on_destroy(struct pg_defer *d)
{
    struct hb_pool_conn *c = PG_CONTAINER_OF(d, struct hb_pool_conn, destroy);
    if (c->users == 0) {
        conn_free(c);
    }
}

static void conn_dead(struct hb_pool_conn *c)
{
    pg_timer_stop(c->timer);
    c->state = CONN_DEAD;
    hb_ticket_cancel(c->outer_ticket);
    hb_connect_cancel(c->outer_connect);
    c->outer_ticket = NULL;
    c->outer_connect = NULL;
    pg_h2_free(c->h2);
    c->h2 = NULL;
    if (c->users == 0) {
        pg_loop_defer(c->pool->w->loop, &c->destroy);
    }
}

static void unlink_conn(struct hb_pool_conn *c)
{
    if (c->entry != NULL) {
        pg_list_remove(&c->node);
        entry_poke(c->entry);
        c->entry = NULL;
    }
}

/* No new streams; closes when the last one ends. */
static void retire(struct hb_pool_conn *c)
{
    unlink_conn(c);
    if (c->state == CONN_DEAD) {
        return;
    }
    c->state = CONN_RETIRED;
    if (c->users == 0) {
        pg_h2_drain(c->h2);
        pg_timer_start(c->timer, CLOSE_GRACE_MS);
    }
}

static void ticket_end(struct hb_ticket *t, struct hb_pool_conn *c, const struct hb_fail *f)
{
    void (*cb)(void *, struct hb_pool_conn *, const struct hb_fail *) = t->cb;
    void *arg = t->arg;
    t->entry->pool->waiting--;
    t->entry->n_tickets--;
    pg_list_remove(&t->node);
    pg_free(t);
    cb(arg, c, f);
}

static bool has_live_conn(const struct entry *e)
{
    return !pg_list_is_empty(&e->conns);
}

static void dial_failed(struct hb_pool_conn *c, const struct hb_fail *f)
{
    struct entry *e = c->entry;
    c->pool->w->metrics.n.pool_dial_failures++;
    conn_dead(c);
    if (e == NULL) {
        return;
    }
    unlink_conn(c);
    e->cool_until = pg_loop_now_ms(e->pool->w->loop) + HB_DIAL_COOL_MS;
    if (has_live_conn(e)) {
        return;
    }
    /* Whoever asks again from its callback gets in line behind the mark and a new dial. */
    e->cool_until = 0;
    size_t n = e->n_tickets;
    while (n-- > 0 && !pg_list_is_empty(&e->tickets)) {
        ticket_end(PG_CONTAINER_OF(e->tickets.next, struct hb_ticket, node), NULL, f);
    }
}

static void fail_of(struct hb_pool_conn *c, int err, const char *text, struct hb_fail *f)
{
    const char *words = text != NULL && text[0] != '\0' ? text : pg_err_str(err);
    bool ours = err == PG_E_NOMEM || err == PG_E_LIMIT;
    if (err == PG_E_TLS || err == PG_E_UNTRUSTED) {
        hb_fail_set(f, err, HB_FLAG_TLS_FAILURE, true, "tls error: %s", words);
    } else if (err == PG_E_PROTO) {
        hb_fail_set(f, err, HB_FLAG_H2_HANDSHAKE_FAILURE, true, "http2 handshake failed: %s", words);
    } else {
        hb_fail_set(f, err != 0 ? err : PG_E_CLOSED, HB_FLAG_CONNECT, true, "connection failed: %s",
                    err == 0 ? "closed before the handshake ended" : words);
    }
    f->eject = !ours && !c->inner;
}

static void on_settings(struct pg_h2 *h, void *arg)
{
    struct hb_pool_conn *c = arg;
    if (c->state != CONN_DIALING) {
        return;
    }
    if (pg_h2_capacity(h) == 0) {
        /* It says goodbye at once, or takes nothing: dialling again and again would not help. */
        struct hb_fail f;
        hb_fail_set(&f, PG_E_CLOSED, HB_FLAG_H2_HANDSHAKE_FAILURE, true,
                    "http2 handshake failed: the peer takes no streams");
        f.eject = !c->inner;
        dial_failed(c, &f);
        return;
    }
    struct pg_str id = cert_tls_peer_id(pg_h2_transport(h));
    (void)snprintf(c->peer, sizeof(c->peer), "%.*s", PG_STR_ARG(id));
    c->state = CONN_READY;
    pg_timer_stop(c->timer);
    if (c->users == 0) {
        pg_timer_start(c->timer, c->pool->w->cfg->pool_idle_ms);
    }
    if (c->entry != NULL) {
        entry_poke(c->entry);
    }
}

static void on_goaway(struct pg_h2 *h, uint32_t code, void *arg)
{
    (void)h;
    (void)code;
    struct hb_pool_conn *c = arg;
    if (c->state == CONN_READY && !c->used && c->entry != NULL && !pg_list_is_empty(&c->entry->tickets)) {
        struct hb_fail f;
        hb_fail_set(&f, PG_E_CLOSED, HB_FLAG_H2_HANDSHAKE_FAILURE, true,
                    "http2 handshake failed: GOAWAY before the first stream");
        f.eject = !c->inner;
        dial_failed(c, &f);
    } else if (c->state == CONN_READY) {
        retire(c);
    }
}

static void on_closed(struct pg_h2 *h, int err, const char *text, void *arg)
{
    struct hb_pool_conn *c = arg;
    struct pg_h2_stats stats;
    pg_h2_get_stats(h, &stats);
    c->pool->w->metrics.n.guard_closed += stats.guard_closed;
    if (c->state == CONN_DIALING) {
        struct hb_fail f;
        fail_of(c, err, text, &f);
        dial_failed(c, &f);
        return;
    }
    if (err < 0) {
        PG_LOG(PG_LOG_DEBUG, "pool", "HBONE connection ended", PG_F_C("peer", c->peer),
               PG_F_ERR("error", err), PG_F_C("text", text));
    }
    unlink_conn(c);
    conn_dead(c);
}

static const struct pg_h2_callbacks h2_callbacks = {
    .on_goaway = on_goaway, .on_closed = on_closed, .on_settings = on_settings};

static void on_timer(void *arg)
{
    struct hb_pool_conn *c = arg;
    struct hb_fail f;
    if (c->state == CONN_READY) {
        retire(c);
    } else if (c->state == CONN_RETIRED) {
        conn_dead(c);
    } else if (c->state == CONN_DIALING) {
        struct pg_transport *tls = c->h2 != NULL && !c->inner ? pg_h2_transport(c->h2) : NULL;
        if (tls != NULL && pg_transport_status(cert_tls_lower(tls)) == PG_E_AGAIN) {
            hb_fail_set(&f, PG_E_TIMEDOUT, HB_FLAG_NETWORK_POLICY, true,
                        "connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008: deadline "
                        "has elapsed");
        } else {
            hb_fail_set(&f, PG_E_TIMEDOUT, HB_FLAG_CONNECT, true,
                        "http2 handshake failed: deadline has elapsed");
        }
        f.eject = !c->inner;
        dial_failed(c, &f);
    }
}

/* ---- dialling
 * ------------------------------------------------------------------------------------------------------ */

/* Stacks TLS and HTTP/2 on `lower`, which is taken over in every case. */
static int stack(struct hb_pool_conn *c, struct pg_transport *lower, const peering_str *sans, size_t n_sans)
{
    struct hb_worker *w = c->pool->w;
    struct pg_transport *tls;
    struct pg_h2_options o;
    _Static_assert(sizeof(peering_str) == sizeof(struct pg_str), "slices have one form");
    struct pg_str *names = pg_reallocarray(NULL, n_sans + 1, sizeof(*names));
    if (names == NULL) {
        pg_transport_close(lower);
        return PG_E_NOMEM;
    }
    for (size_t i = 0; i < n_sans; i++) {
        names[i] = hb_str(sans[i]);
    }
    struct cert_expect expect = {.kind = CERT_EXPECT_SPIFFE, .names = names, .n_names = n_sans};
    int r = w->world->creds == NULL ? PG_E_NOTFOUND
                                    : cert_tls_client(w->loop, lower, w->world->creds, &expect, &tls);
    pg_free(names);
    if (r < 0) {
        pg_transport_close(lower);
        return r;
    }
    pg_h2_options_hbone(&o, false);
    o.stream_window = w->cfg->stream_window;
    o.connection_window = w->cfg->connection_window;
    o.max_frame_size = w->cfg->frame_size;
    o.max_concurrent_streams = w->cfg->pool_max_streams;
    o.handshake_ms = HB_HANDSHAKE_MS;
    r = pg_h2_client_new(w->loop, tls, &o, &h2_callbacks, c, &c->h2);
    if (r < 0) {
        pg_transport_close(tls);
    }
    return r;
}

static int dial_outer(struct hb_pool_conn *c, struct pg_errtext *err)
{
    struct entry *e = c->entry;
    struct pg_sock_options so;
    struct pg_transport *t;
    hb_worker_sock_options(c->pool->w, &so);
    int r = pg_tcp_connect(c->pool->w->loop, &e->addr, &so, &t, err);
    return r < 0 ? r : stack(c, t, e->sans, e->n_sans);
}

static void on_outer_answer(void *arg, const struct hb_connect_answer *a)
{
    struct hb_pool_conn *c = arg;
    struct hb_fail f;
    c->outer_connect = NULL;
    if (a->err != 0) {
        hb_fail_set(&f, a->err, HB_FLAG_CONNECT, a->status == 0 || a->status >= 500, "%s", a->text);
        dial_failed(c, &f);
        return;
    }
    struct entry *e = c->entry;
    int r = e != NULL ? stack(c, a->stream, e->inner_sans, e->n_inner_sans) : PG_E_CANCELLED;
    if (e == NULL) {
        pg_transport_abort(a->stream);
    }
    if (r < 0) {
        fail_of(c, r, NULL, &f);
        dial_failed(c, &f);
    }
}

static int outer_connect(struct hb_pool_conn *c)
{
    struct pg_h2 *h2 = hb_pool_conn_h2(c->outer);
    return h2 == NULL ? PG_E_CLOSED
                      : hb_connect_start(h2, &c->entry->head, on_outer_answer, c, &c->outer_connect);
}

static void on_outer(void *arg, struct hb_pool_conn *outer, const struct hb_fail *f)
{
    struct hb_pool_conn *c = arg;
    struct hb_fail own;
    c->outer_ticket = NULL;
    c->outer = outer;
    int r = 0;
    if (outer != NULL) {
        r = outer_connect(c);
        if (r == 0) {
            return;
        }
        fail_of(c, r, NULL, &own);
        f = &own;
    }
    dial_failed(c, f);
}

static int dial_inner(struct hb_pool_conn *c, struct hb_fail *f)
{
    struct entry *e = c->entry;
    struct hb_worker *w = c->pool->w;
    struct hb_hop hop = {.addr = e->addr,
                         .network = e->network,
                         .creds = w->world->creds,
                         .creds_gen = w->world->creds_gen,
                         .sans = e->sans,
                         .n_sans = e->n_sans};
    int r = hb_pool_get(c->pool, &hop, on_outer, c, &c->outer, &c->outer_ticket, f);
    if (r == 0 && c->outer != NULL) {
        r = outer_connect(c);
        if (r < 0) {
            fail_of(c, r, NULL, f);
        }
    }
    return r;
}

/* Starts a session for the entry. On failure it is gone again and `f` says why. */
static int dial(struct entry *e, struct hb_fail *f)
{
    struct hb_worker *w = e->pool->w;
    struct hb_pool_conn *c = pg_calloc(1, sizeof(*c));
    if (c == NULL || pg_timer_new(w->loop, on_timer, c, &c->timer) < 0) {
        pg_free(c);
        hb_fail_set(f, PG_E_NOMEM, HB_FLAG_CONNECT, false, "connection failed: out of memory");
        return PG_E_NOMEM;
    }
    c->pool = e->pool;
    c->entry = e;
    c->inner = e->inner;
    c->creds_gen = w->world->creds_gen;
    c->born_ms = pg_loop_now_ms(w->loop);
    c->destroy.cb = on_destroy;
    pg_list_push_back(&e->pool->all, &c->all);
    e->pool->n_inner += c->inner ? 1 : 0;
    e->pool->n_outer += c->inner ? 0 : 1;
    pg_list_push_back(&e->conns, &c->node);
    w->metrics.n.pool_dials++;
    struct pg_errtext err = {.text = ""};
    int r = e->inner ? dial_inner(c, f) : dial_outer(c, &err);
    if (r < 0) {
        if (!e->inner) {
            fail_of(c, r, err.text, f);
        }
        w->metrics.n.pool_dial_failures++;
        pg_list_remove(&c->node);
        c->entry = NULL;
        c->state = CONN_DEAD;
        pg_loop_defer(w->loop, &c->destroy);
        return r;
    }
    pg_timer_start(c->timer, HB_HANDSHAKE_MS);
    return 0;
}

/* ---- entries
 * ------------------------------------------------------------------------------------------------------- */

static bool is_usable(struct hb_pool_conn *c, uint64_t now)
{
    struct hb_worker *w = c->pool->w;
    if (c->state != CONN_READY) {
        return false;
    }
    bool old = c->creds_gen != w->world->creds_gen || (c->inner && now - c->born_ms > HB_INNER_AGE_MS);
    bool used_up = c->users == 0 && pg_h2_capacity(c->h2) == 0;
    if (old || used_up) {
        retire(c);
        return false;
    }
    return true;
}

static uint32_t room_of(const struct hb_pool_conn *c)
{
    uint32_t cap = pg_h2_capacity(c->h2);
    uint32_t own = c->pool->w->cfg->pool_max_streams;
    own = c->users < own ? own - c->users : 0;
    return cap < own ? cap : own;
}

static void hold(struct hb_pool_conn *c)
{
    c->users++;
    c->used = true;
    pg_timer_stop(c->timer);
}

/* Finds a session for one request among `waiting`; NULL with *dial_wanted when a new one is called for. */
static struct hb_pool_conn *choose(struct entry *e, size_t waiting, bool *dial_wanted)
{
    struct hb_pool_conn_view view[HB_POOL_CONNS_MAX];
    struct hb_pool_conn *conns[HB_POOL_CONNS_MAX];
    uint64_t now = pg_loop_now_ms(e->pool->w->loop);
    size_t n = 0;
    size_t dialing = 0;
    size_t index = 0;
    PG_LIST_FOREACH(&e->conns, node)
    {
        struct hb_pool_conn *c = PG_CONTAINER_OF(node, struct hb_pool_conn, node);
        if (c->state == CONN_DIALING) {
            dialing++;
        } else if (n < HB_POOL_CONNS_MAX && is_usable(c, now)) {
            view[n] = (struct hb_pool_conn_view){.streams = c->users, .room = room_of(c)};
            conns[n++] = c;
        }
    }
    struct hb_pool_rule rule = {.max_conns = HB_POOL_CONNS_MAX,
                                .streams_per_conn = e->pool->w->cfg->pool_max_streams,
                                .spread = e->inner ? HB_POOL_SPREAD : 0,
                                .may_dial = now >= e->cool_until};
    enum hb_pool_choice choice =
        hb_pool_choose(view, n, dialing, waiting, &rule, pg_rng_next(&e->pool->w->rng), &index);
    *dial_wanted = choice == HB_POOL_DIAL;
    return choice == HB_POOL_USE ? conns[index] : NULL;
}

static void fail_all(struct entry *e, const struct hb_fail *f)
{
    size_t n = e->n_tickets;
    while (n-- > 0 && !pg_list_is_empty(&e->tickets)) {
        ticket_end(PG_CONTAINER_OF(e->tickets.next, struct hb_ticket, node), NULL, f);
    }
}

static void entry_free(struct entry *e)
{
    pg_defer_cancel(&e->run);
    (void)pg_map_del(&e->pool->entries, e->key);
    struct pg_arena arena = e->arena;
    pg_free(e);
    pg_arena_fini(&arena);
}

/* Serves the queue: runs in the deferred phase, after anything that may have changed the answer. */
static void on_run(struct pg_defer *d)
{
    struct entry *e = PG_CONTAINER_OF(d, struct entry, run);
    struct hb_fail f;
    while (!pg_list_is_empty(&e->tickets)) {
        bool dial_wanted;
        struct hb_pool_conn *c = choose(e, e->n_tickets, &dial_wanted);
        if (c != NULL) {
            hold(c);
            ticket_end(PG_CONTAINER_OF(e->tickets.next, struct hb_ticket, node), c, NULL);
        } else if (!dial_wanted) {
            break;
        } else if (dial(e, &f) < 0) {
            fail_all(e, &f);
            break;
        }
    }
    if (pg_list_is_empty(&e->tickets) && pg_list_is_empty(&e->conns)) {
        entry_free(e);
    }
}

static int make_key(const struct hb_worker *w, const struct hb_hop *hop, struct pg_sb *key)
{
    char addr[PG_ADDR_TEXT];
    pg_sb_c(key, hop->inner ? "inner" : "outer");
    pg_sb_ch(key, '\n');
    pg_sb_str(key, cert_creds_identity(hop->creds));
    pg_sb_fmt(key, "\n%s\n%.*s\n", pg_addr_fmt(&hop->addr, addr), PG_STR_ARG(hop->network));
    for (size_t i = 0; i < hop->n_sans; i++) {
        pg_sb_str(key, hb_str(hop->sans[i]));
        pg_sb_ch(key, '\n');
    }
    if (hop->inner) {
        pg_sb_ch(key, '\t');
        pg_sb_str(key, hop->outer_head.authority);
        pg_sb_ch(key, '\n');
        for (size_t i = 0; i < hop->n_inner_sans; i++) {
            pg_sb_str(key, hb_str(hop->inner_sans[i]));
            pg_sb_ch(key, '\n');
        }
    }
    (void)w;
    return key->err;
}

static int copy_sans(struct pg_arena *a, const peering_str *from, size_t n, peering_str **out)
{
    peering_str *to = pg_arena_calloc(a, n + 1, sizeof(*to));
    for (size_t i = 0; to != NULL && i < n; i++) {
        to[i].ptr = pg_arena_strndup(a, from[i].ptr, from[i].len);
        to[i].len = from[i].len;
        if (to[i].ptr == NULL) {
            return PG_E_NOMEM;
        }
    }
    *out = to;
    return to == NULL ? PG_E_NOMEM : 0;
}

static int copy_str(struct pg_arena *a, struct pg_str from, struct pg_str *out)
{
    out->p = pg_arena_strndup(a, from.p, from.len);
    out->len = from.len;
    return out->p == NULL ? PG_E_NOMEM : 0;
}

static int fill_entry(struct entry *e, const struct hb_hop *hop, struct pg_str key)
{
    int r = copy_str(&e->arena, key, &e->key);
    r = r < 0 ? r : copy_str(&e->arena, hop->network, &e->network);
    r = r < 0 ? r : copy_sans(&e->arena, hop->sans, hop->n_sans, &e->sans);
    r = r < 0 ? r : copy_sans(&e->arena, hop->inner_sans, hop->n_inner_sans, &e->inner_sans);
    r = r < 0 ? r : copy_str(&e->arena, hop->outer_head.authority, &e->head.authority);
    r = r < 0 ? r : copy_str(&e->arena, hop->outer_head.baggage, &e->head.baggage);
    r = r < 0 ? r : copy_str(&e->arena, hop->outer_head.forwarded, &e->head.forwarded);
    r = r < 0 ? r : copy_str(&e->arena, hop->outer_head.traceparent, &e->head.traceparent);
    return r;
}

static int find_entry(struct hb_pool *p, const struct hb_hop *hop, struct entry **out)
{
    struct pg_sb key;
    pg_sb_init(&key, HB_POOL_KEY_MAX);
    int r = make_key(p->w, hop, &key);
    struct entry *e = r == 0 ? pg_map_get(&p->entries, pg_sb_view(&key)) : NULL;
    if (r == 0 && e == NULL) {
        e = pg_calloc(1, sizeof(*e));
        r = e == NULL ? PG_E_NOMEM : 0;
        if (r == 0) {
            *e = (struct entry){.pool = p,
                                .addr = hop->addr,
                                .inner = hop->inner,
                                .n_sans = hop->n_sans,
                                .n_inner_sans = hop->n_inner_sans,
                                .run.cb = on_run};
            pg_list_init(&e->conns);
            pg_list_init(&e->tickets);
            pg_arena_init(&e->arena, ENTRY_ARENA_MAX);
            r = fill_entry(e, hop, pg_sb_view(&key));
            r = r < 0 ? r : pg_map_set(&p->entries, e->key, e, NULL);
            if (r < 0) {
                pg_arena_fini(&e->arena);
                pg_free(e);
            }
        }
    }
    pg_sb_fini(&key);
    if (r == 0) {
        *out = e;
    }
    return r;
}

int hb_pool_get(struct hb_pool *p, const struct hb_hop *hop,
                void (*cb)(void *arg, struct hb_pool_conn *c, const struct hb_fail *f), void *arg,
                struct hb_pool_conn **conn, struct hb_ticket **ticket, struct hb_fail *why)
{
    struct entry *e = NULL;
    bool dial_wanted = false;
    if (hop->n_sans == 0 || (hop->inner && hop->n_inner_sans == 0)) {
        hb_fail_set(why, PG_E_UNTRUSTED, HB_FLAG_TLS_FAILURE, false,
                    "tls error: no identity is known for %.100s, so no server there can be accepted",
                    hop->inner ? hop->outer_head.authority.p : "the next hop");
        return PG_E_UNTRUSTED;
    }
    int r = p->waiting >= HB_POOL_WAITING_MAX ? PG_E_LIMIT : find_entry(p, hop, &e);
    struct hb_ticket *t = r == 0 ? pg_calloc(1, sizeof(*t)) : NULL;
    if (t == NULL) {
        r = r < 0 ? r : PG_E_NOMEM;
        hb_fail_set(why, r, HB_FLAG_CONNECT, false, "connection failed: %s", pg_err_str(r));
        if (e != NULL) {
            entry_poke(e);
        }
        return r;
    }
    struct hb_pool_conn *c = pg_list_is_empty(&e->tickets) ? choose(e, 1, &dial_wanted) : NULL;
    if (c != NULL) {
        pg_free(t);
        p->w->metrics.n.pool_reuses++;
        hold(c);
        *conn = c;
        return 0;
    }
    *t = (struct hb_ticket){.entry = e, .cb = cb, .arg = arg};
    pg_list_push_back(&e->tickets, &t->node);
    e->n_tickets++;
    p->waiting++;
    *ticket = t;
    entry_poke(e);
    return 0;
}

void hb_ticket_cancel(struct hb_ticket *t)
{
    if (t != NULL) {
        t->entry->pool->waiting--;
        t->entry->n_tickets--;
        pg_list_remove(&t->node);
        entry_poke(t->entry);
        pg_free(t);
    }
}

bool hb_ticket_is_connecting(const struct hb_ticket *t)
{
    bool any = false;
    PG_LIST_FOREACH(&t->entry->conns, node)
    {
        struct hb_pool_conn *c = PG_CONTAINER_OF(node, struct hb_pool_conn, node);
        struct pg_transport *tls =
            c->state == CONN_DIALING && c->h2 != NULL && !c->inner ? pg_h2_transport(c->h2) : NULL;
        if (c->inner && c->outer_ticket != NULL) {
            any = any || hb_ticket_is_connecting(c->outer_ticket);
        } else if (tls == NULL || pg_transport_status(cert_tls_lower(tls)) != PG_E_AGAIN) {
            return false;
        } else {
            any = true;
        }
    }
    return any;
}

struct pg_h2 *hb_pool_conn_h2(struct hb_pool_conn *c)
{
    return c->h2;
}

struct pg_str hb_pool_conn_peer(struct hb_pool_conn *c)
{
    return pg_str_c(c->peer);
}

void hb_pool_suspect(struct hb_pool_conn *c)
{
    if (c->state == CONN_READY) {
        retire(c);
    }
}

void hb_pool_put(struct hb_pool_conn *c)
{
    if (c == NULL) {
        return;
    }
    PG_BUG_ON(c->users == 0);
    c->users--;
    if (c->entry != NULL && !pg_list_is_empty(&c->entry->tickets)) {
        entry_poke(c->entry);
    }
    if (c->users > 0) {
        return;
    }
    if (c->state == CONN_READY) {
        pg_timer_start(c->timer, c->pool->w->cfg->pool_idle_ms);
    } else if (c->state == CONN_RETIRED) {
        pg_h2_drain(c->h2);
        pg_timer_start(c->timer, CLOSE_GRACE_MS);
    } else if (c->state == CONN_DEAD) {
        pg_loop_defer(c->pool->w->loop, &c->destroy);
    }
}

void hb_pool_free(struct hb_pool *p)
{
    if (p == NULL) {
        return;
    }
    /* Tunnels through gateways first: they hold the sessions under them. */
    for (int pass = 0; pass < 2; pass++) {
        PG_LIST_FOREACH(&p->all, node)
        {
            struct hb_pool_conn *c = PG_CONTAINER_OF(node, struct hb_pool_conn, all);
            if (c->inner == (pass == 0)) {
                pg_list_remove(&c->node);
                conn_free(c);
            }
        }
    }
    size_t it = 0;
    void *v;
    while (pg_map_next(&p->entries, &it, NULL, &v)) {
        struct entry *e = v;
        while (!pg_list_is_empty(&e->tickets)) {
            hb_ticket_cancel(PG_CONTAINER_OF(e->tickets.next, struct hb_ticket, node));
        }
        entry_free(e);
    }
    pg_map_fini(&p->entries);
    pg_free(p);
}
