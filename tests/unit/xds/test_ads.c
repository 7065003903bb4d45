/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two delta ADS machines joined back to back without any I/O: random changes, refusals, slow delivery and
 * reconnects against a model (seeded), and the rules of the protocol one by one.
 */
#include "core/map.h"
#include "core/rng.h"
#include "xds/client.h"
#include "xds/server.h"

#include "testlib.h"

static struct pg_errtext err;

/* --- a queue of messages
 * --------------------------------------------------------------------------------------- */

#define QUEUE 64
struct queue {
    struct pg_str m[QUEUE];
    size_t n;
    int fail; /* returned instead of queueing */
};

static int queue_put(void *arg, struct pg_str msg)
{
    struct queue *q = arg;
    CU_ASSERT_FATAL(q->n < QUEUE);
    char *copy = q->fail == 0 ? pg_memdup(msg.p, msg.len) : NULL;
    if (copy == NULL) {
        return q->fail != 0 ? q->fail : PG_E_NOMEM;
    }
    q->m[q->n++] = pg_str_n(copy, msg.len);
    return 0;
}

static struct pg_str queue_take(struct queue *q)
{
    struct pg_str s = q->m[0];
    q->n--;
    memmove(q->m, q->m + 1, q->n * sizeof(q->m[0]));
    return s;
}

static void queue_drop(struct queue *q)
{
    while (q->n != 0) {
        pg_free((void *)(uintptr_t)queue_take(q).p);
    }
}

/* --- a client with a store
 * ------------------------------------------------------------------------------------- */

#define NAMES 24
struct client {
    struct adsc *machine;
    struct queue out;
    char store[3][NAMES][16]; /* by type and number of the name; empty: absent */
    struct adsc_result last;
    size_t applied, removed;
};

static size_t number_of(struct pg_str name)
{
    uint64_t n = NAMES;
    CU_ASSERT_FATAL(pg_str_u64(pg_str_sub(name, 1), NAMES - 1, &n) == 0);
    return (size_t)n;
}

static int apply(void *arg, size_t type, const struct xds_delta_resource *r, struct pg_errtext *why)
{
    struct client *c = arg;
    if (r->bytes.len != 0 && r->bytes.p[0] == '!') {
        pg_err_set(why, "does not like it");
        return PG_E_PARSE;
    }
    CU_ASSERT_FATAL(r->bytes.len < 16);
    char *at = c->store[type][number_of(r->name)];
    memset(at, 0, 16);
    memcpy(at, r->bytes.p, r->bytes.len);
    c->applied++;
    return 0;
}

static void removed(void *arg, size_t type, struct pg_str name)
{
    struct client *c = arg;
    char *at = c->store[type][number_of(name)];
    CU_ASSERT(at[0] != '\0');
    at[0] = '\0';
    c->removed++;
}

static const char *const urls[3] = {XDS_TYPE_AUTHORIZATION, XDS_TYPE_ADDRESS, XDS_TYPE_WORKLOAD};
static const struct xds_node node = {.id = {"ztunnel~1.1.1.1~a.b~b.svc", 25}};

static void client_new(struct client *c)
{
    *c = (struct client){0};
    const struct adsc_type types[3] = {{urls[0], NULL, 0}, {urls[1], NULL, 0}, {urls[2], NULL, 0}};
    CU_ASSERT_EQUAL_FATAL(adsc_new(types, 3, 1000, &c->machine), 0);
}

static void client_free(struct client *c)
{
    adsc_free(c->machine);
    queue_drop(&c->out);
}

/* --- a server stream
 * -------------------------------------------------------------------------------------------- */

struct server {
    struct xds_view *view;
    struct adss *machine;
    struct queue out;
    size_t nacks;
};

static void server_open(struct server *s)
{
    adss_free(s->machine);
    queue_drop(&s->out);
    CU_ASSERT_EQUAL_FATAL(adss_new(s->view, &s->machine), 0);
}

static void server_push(struct server *s)
{
    int r = 1;
    while (r > 0) {
        struct pg_sb sb;
        pg_sb_init(&sb, 1u << 20);
        r = adss_next_response(s->machine, &sb);
        CU_ASSERT_FATAL(r >= 0);
        if (r > 0) {
            CU_ASSERT_EQUAL_FATAL(queue_put(&s->out, pg_sb_view(&sb)), 0);
        }
        pg_sb_fini(&sb);
    }
}

/* One message from the client's queue into the server. */
static void server_receive(struct server *s, struct queue *from)
{
    struct adss_event ev;
    int code = 0;
    struct pg_str msg = queue_take(from);
    CU_ASSERT_EQUAL_FATAL(adss_request(s->machine, msg, &ev, &code, &err), 0);
    s->nacks += ev.nacked;
    if (ev.nacked) {
        CU_ASSERT(memmem(ev.error.p, ev.error.len, "does not like it", 16) != NULL);
    }
    pg_free((void *)(uintptr_t)msg.p);
}

static void client_receive(struct client *c, struct queue *from)
{
    struct pg_str msg = queue_take(from);
    CU_ASSERT_EQUAL_FATAL(
        adsc_response(c->machine, msg, apply, removed, c, queue_put, &c->out, &c->last, &err), 0);
    pg_free((void *)(uintptr_t)msg.p);
}

static void settle(struct client *c, struct server *s)
{
    do {
        server_push(s);
        while (s->out.n != 0) {
            client_receive(c, &s->out);
        }
        while (c->out.n != 0) {
            server_receive(s, &c->out);
        }
        server_push(s);
    } while (s->out.n != 0 || c->out.n != 0);
}

/* --- the random trace
 * ------------------------------------------------------------------------------------------- */

struct model {
    char bytes[3][NAMES][16];
};

static void set_random(struct server *s, struct model *m, struct pg_rng *rng, bool refusals)
{
    size_t type = (size_t)pg_rng_below(rng, 3);
    size_t n = (size_t)pg_rng_below(rng, NAMES);
    char name[8];
    char *at = m->bytes[type][n];
    (void)snprintf(name, sizeof(name), "r%zu", n);
    if (pg_rng_below(rng, 3) == 0) {
        CU_ASSERT_EQUAL(xds_view_del(s->view, urls[type], pg_str_c(name)), at[0] != '\0');
        at[0] = '\0';
        return;
    }
    bool bad = refusals && pg_rng_below(rng, 6) == 0;
    (void)snprintf(at, 16, "%sv%u", bad ? "!" : "", (unsigned)pg_rng_below(rng, 50));
    CU_ASSERT(xds_view_set(s->view, urls[type], pg_str_c(name), pg_str_c(at), NULL, 0) >= 0);
}

static void check_equal(const struct client *c, const struct model *m, const struct server *s)
{
    for (size_t t = 0; t < 3; t++) {
        size_t live = 0;
        for (size_t i = 0; i < NAMES; i++) {
            const char *want = m->bytes[t][i];
            live += want[0] != '\0';
            if (want[0] == '!') {
                CU_ASSERT(c->store[t][i][0] != '!'); /* an old one or none */
            } else {
                CU_ASSERT_STRING_EQUAL(c->store[t][i], want);
            }
        }
        CU_ASSERT_EQUAL(xds_view_count(s->view, urls[t]), live);
    }
}

static void trace(uint64_t seed, bool refusals)
{
    struct pg_rng rng;
    struct client c;
    struct server s = {0};
    struct model m = {0};
    pg_rng_seed(&rng, seed);
    CU_ASSERT_EQUAL_FATAL(xds_view_new(1000, &s.view), 0);
    client_new(&c);
    server_open(&s);
    CU_ASSERT_EQUAL_FATAL(adsc_stream_open(c.machine, &node, 1 << 20, queue_put, &c.out), 0);
    for (int step = 0; step < 400; step++) {
        switch (pg_rng_below(&rng, 8)) {
        case 0:
        case 1:
        case 2:
            set_random(&s, &m, &rng, refusals);
            break;
        case 3:
            xds_view_commit(s.view);
            server_push(&s);
            break;
        case 4:
        case 5:
            if (c.out.n != 0) {
                server_receive(&s, &c.out);
                server_push(&s);
            }
            break;
        case 6:
            if (s.out.n != 0) {
                client_receive(&c, &s.out);
            }
            break;
        default:
            if (pg_rng_below(&rng, 6) == 0) { /* the connection breaks with whatever was under way */
                adsc_stream_closed(c.machine);
                queue_drop(&c.out);
                server_open(&s);
                size_t versions = pg_rng_below(&rng, 2) ? 1 << 20 : 0;
                CU_ASSERT_EQUAL_FATAL(adsc_stream_open(c.machine, &node, versions, queue_put, &c.out), 0);
                CU_ASSERT_FALSE(adsc_is_synced(c.machine));
            }
            break;
        }
        CU_ASSERT_FATAL(s.out.n <= 3); /* one in flight per type */
    }
    xds_view_commit(s.view);
    settle(&c, &s);
    CU_ASSERT(adsc_is_synced(c.machine));
    check_equal(&c, &m, &s);
    CU_ASSERT(refusals || s.nacks == 0);
    client_free(&c);
    adss_free(s.machine);
    queue_drop(&s.out);
    xds_view_free(s.view);
}

static void random_traces(void)
{
    size_t live = pg_mem_live_blocks();
    for (uint64_t seed = 1; seed <= 150; seed++) {
        trace(seed, seed % 2 == 0);
    }
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), live);
}

/* --- rules, one by one
 * ------------------------------------------------------------------------------------------ */

struct reply {
    struct pg_arena arena;
    struct pg_sb sb;
    struct xds_delta_response p;
};

static void reply_fini(struct reply *r)
{
    pg_arena_fini(&r->arena);
    pg_sb_fini(&r->sb);
}

/* 1 and the decoded response, else what the machine said. */
static int next(struct adss *a, struct reply *r)
{
    pg_arena_init(&r->arena, 1u << 20);
    pg_sb_init(&r->sb, 1u << 20);
    int e = adss_next_response(a, &r->sb);
    if (e == 1) {
        CU_ASSERT_EQUAL_FATAL(xds_delta_response_decode(pg_sb_view(&r->sb), &r->arena, &r->p, &err), 0);
    }
    return e;
}

static int request(struct adss *a, const struct xds_delta_request *q, struct adss_event *ev, int *code)
{
    struct pg_sb sb;
    struct adss_event unused;
    pg_sb_init(&sb, 1u << 20);
    CU_ASSERT_EQUAL_FATAL(xds_delta_request_encode(q, &sb), 0);
    int r = adss_request(a, pg_sb_view(&sb), ev != NULL ? ev : &unused, code, &err);
    pg_sb_fini(&sb);
    return r;
}

static struct xds_delta_request first(const char *url)
{
    return (struct xds_delta_request){.has_node = true, .node = node, .type_url = pg_str_c(url)};
}

static void set(struct xds_view *v, const char *url, const char *name, const char *bytes, const char *alias)
{
    struct pg_str a = pg_str_c(alias);
    CU_ASSERT(xds_view_set(v, url, pg_str_c(name), pg_str_c(bytes), &a, alias != NULL ? 1 : 0) >= 0);
}

static bool has_resource(const struct reply *r, const char *name, const char *bytes)
{
    for (size_t i = 0; i < r->p.n_resources; i++) {
        if (pg_str_eq_c(r->p.resources[i].name, name)) {
            return pg_str_eq_c(r->p.resources[i].bytes, bytes);
        }
    }
    return false;
}

static bool has_removed(const struct reply *r, const char *name)
{
    for (size_t i = 0; i < r->p.n_removed; i++) {
        if (pg_str_eq_c(r->p.removed[i], name)) {
            return true;
        }
    }
    return false;
}

static void ack(struct adss *a, const struct reply *r)
{
    struct xds_delta_request q = {.type_url = r->p.type_url, .response_nonce = r->p.nonce};
    int code = 0;
    CU_ASSERT_EQUAL(request(a, &q, NULL, &code), 0);
}

static void wildcard_rules(void)
{
    struct xds_view *v;
    struct adss *a;
    struct reply r;
    struct adss_event ev;
    int code = 0;
    CU_ASSERT_EQUAL_FATAL(xds_view_new(100, &v), 0);
    CU_ASSERT_EQUAL_FATAL(adss_new(NULL, &a), 0);
    struct xds_delta_request q = first(urls[0]);
    q.has_node = false;
    CU_ASSERT(request(a, &q, NULL, &code) < 0);
    CU_ASSERT_EQUAL(code, GRPC_INVALID_ARGUMENT);
    CU_ASSERT_STRING_EQUAL(err.text, "missing node information");
    CU_ASSERT_PTR_NULL(adss_node(a));
    q = first(urls[0]);
    CU_ASSERT_EQUAL_FATAL(request(a, &q, NULL, &code), 0);
    CU_ASSERT(pg_str_eq(adss_node(a)->id, node.id));
    CU_ASSERT_EQUAL(next(a, &r), 0); /* no view yet */
    reply_fini(&r);
    adss_set_view(a, v);

    /* The first request of a type is always answered, with nothing if need be; once. */
    CU_ASSERT_EQUAL_FATAL(next(a, &r), 1);
    CU_ASSERT_EQUAL(r.p.n_resources + r.p.n_removed, 0);
    CU_ASSERT(pg_str_eq_c(r.p.type_url, urls[0]) && r.p.nonce.len != 0);
    set(v, urls[0], "p", "v1", NULL);
    set(v, urls[1], "w", "v1", NULL);
    xds_view_commit(v);
    struct reply r2;
    CU_ASSERT_EQUAL(next(a, &r2), 0); /* one in flight; the other type was not asked for */
    reply_fini(&r2);

    /* A stale nonce is dropped without a trace. */
    struct xds_delta_request stale = {.type_url = pg_str_c(urls[0]), .response_nonce = PG_STR("77")};
    CU_ASSERT_EQUAL(request(a, &stale, &ev, &code), 0);
    CU_ASSERT_FALSE(ev.acked || ev.nacked);
    CU_ASSERT_EQUAL(next(a, &r2), 0);
    reply_fini(&r2);

    ack(a, &r);
    reply_fini(&r);
    q = first(urls[1]);
    CU_ASSERT_EQUAL_FATAL(request(a, &q, NULL, &code), 0);
    CU_ASSERT_EQUAL_FATAL(next(a, &r), 1); /* workloads go before the policies that name them */
    CU_ASSERT(pg_str_eq_c(r.p.type_url, XDS_TYPE_ADDRESS));
    CU_ASSERT(has_resource(&r, "w", "v1"));
    CU_ASSERT_EQUAL(r.p.resources[0].version.len, 16);
    CU_ASSERT_EQUAL_FATAL(next(a, &r2), 1);
    CU_ASSERT(has_resource(&r2, "p", "v1"));

    /* NACK: counted, remembered, not sent again; the next change goes out. */
    struct xds_delta_request nack = {.type_url = r2.p.type_url,
                                     .response_nonce = r2.p.nonce,
                                     .has_error = true,
                                     .error_message = PG_STR("p: bad")};
    CU_ASSERT_EQUAL(request(a, &nack, &ev, &code), 0);
    CU_ASSERT(ev.nacked && pg_str_eq_c(ev.error, "p: bad"));
    reply_fini(&r2);
    CU_ASSERT_EQUAL(next(a, &r2), 0);
    reply_fini(&r2);
    CU_ASSERT_EQUAL(xds_view_del(v, urls[0], PG_STR("p")), 1);
    set(v, urls[0], "q", "v2", NULL);
    xds_view_commit(v);
    CU_ASSERT_EQUAL_FATAL(next(a, &r2), 1);
    CU_ASSERT(has_removed(&r2, "p") && has_resource(&r2, "q", "v2"));
    CU_ASSERT_EQUAL(r2.p.n_resources, 1);

    struct adss_type_status st[4];
    CU_ASSERT_EQUAL_FATAL(adss_status(a, st, 4), 2);
    CU_ASSERT_EQUAL(st[0].sent, 3);
    CU_ASSERT_EQUAL(st[0].acked, 1);
    CU_ASSERT_EQUAL(st[0].nacked, 1);
    CU_ASSERT(pg_str_eq_c(st[0].last_error, "p: bad"));
    reply_fini(&r);
    reply_fini(&r2);
    adss_free(a);
    xds_view_free(v);
}

/* A batch shows as a whole or not at all. */
static void uncommitted(void)
{
    struct xds_view *v;
    struct adss *a;
    struct reply r;
    int code = 0;
    CU_ASSERT_EQUAL_FATAL(xds_view_new(100, &v), 0);
    CU_ASSERT_EQUAL_FATAL(adss_new(v, &a), 0);
    set(v, urls[1], "early", "v1", NULL);
    struct xds_delta_request q = first(urls[1]);
    CU_ASSERT_EQUAL_FATAL(request(a, &q, NULL, &code), 0);
    CU_ASSERT_EQUAL_FATAL(next(a, &r), 1);
    CU_ASSERT_EQUAL(r.p.n_resources, 0);
    ack(a, &r);
    reply_fini(&r);
    set(v, urls[1], "second", "v1", NULL);
    CU_ASSERT_EQUAL(next(a, &r), 0);
    reply_fini(&r);
    xds_view_commit(v);
    CU_ASSERT_EQUAL_FATAL(next(a, &r), 1);
    CU_ASSERT_EQUAL(r.p.n_resources, 2);
    reply_fini(&r);
    adss_free(a);
    xds_view_free(v);
}

static void reconnect_with_versions(void)
{
    struct xds_view *v;
    struct adss *a;
    struct reply r;
    int code = 0;
    CU_ASSERT_EQUAL_FATAL(xds_view_new(100, &v), 0);
    set(v, urls[1], "same", "v1", NULL);
    set(v, urls[1], "other", "v2", NULL);
    xds_view_commit(v);
    CU_ASSERT_EQUAL_FATAL(adss_new(v, &a), 0);
    char version[20];
    (void)snprintf(version, sizeof(version), "%016llx", (unsigned long long)pg_digest64("v1", 2));
    struct xds_kv held[] = {{PG_STR("same"), pg_str_c(version)},
                            {PG_STR("other"), PG_STR("0123456789abcdef")},
                            {PG_STR("gone"), PG_STR("")}};
    struct xds_delta_request q = first(urls[1]);
    q.initial_versions = held;
    q.n_initial_versions = 3;
    q.response_nonce = PG_STR("of the last stream");
    CU_ASSERT_EQUAL_FATAL(request(a, &q, NULL, &code), 0);
    CU_ASSERT_EQUAL_FATAL(next(a, &r), 1);
    CU_ASSERT_EQUAL(r.p.n_resources, 1);
    CU_ASSERT(has_resource(&r, "other", "v2"));
    CU_ASSERT_EQUAL(r.p.n_removed, 1);
    CU_ASSERT(has_removed(&r, "gone"));
    reply_fini(&r);
    adss_free(a);
    xds_view_free(v);
}

static void on_demand(void)
{
    struct xds_view *v;
    struct adss *a;
    struct reply r;
    int code = 0;
    struct pg_str star = PG_STR("*");
    CU_ASSERT_EQUAL_FATAL(xds_view_new(100, &v), 0);
    struct pg_str aliases[] = {PG_STR("net1/10.0.0.1"), PG_STR("ns/svc")};
    CU_ASSERT_EQUAL(xds_view_set(v, urls[1], PG_STR("c//Pod/ns/a"), PG_STR("pod a"), aliases, 2), 1);
    set(v, urls[1], "c//Pod/ns/b", "pod b", "ns/svc");
    set(v, urls[1], "ns/svc", "service", "net1/240.0.0.1");
    set(v, urls[1], "ns/other", "other", NULL);
    xds_view_commit(v);
    CU_ASSERT_EQUAL_FATAL(adss_new(v, &a), 0);
    struct xds_delta_request q = first(urls[1]);
    q.subscribe = &star;
    q.n_subscribe = 1;
    q.unsubscribe = &star;
    q.n_unsubscribe = 1;
    CU_ASSERT_EQUAL_FATAL(request(a, &q, NULL, &code), 0);
    CU_ASSERT_EQUAL_FATAL(next(a, &r), 1); /* watches nothing, and is told so */
    CU_ASSERT_EQUAL(r.p.n_resources + r.p.n_removed, 0);
    ack(a, &r);
    reply_fini(&r);

    /* By address: under its own name, with aliases, and under the name asked for. */
    struct pg_str names[] = {PG_STR("net1/10.0.0.1"), PG_STR("net1/9.9.9.9")};
    struct xds_delta_request more = {.type_url = pg_str_c(urls[1]), .subscribe = names, .n_subscribe = 2};
    CU_ASSERT_EQUAL(request(a, &more, NULL, &code), 0);
    CU_ASSERT_EQUAL_FATAL(next(a, &r), 1);
    CU_ASSERT_EQUAL(r.p.n_resources, 2);
    CU_ASSERT(has_resource(&r, "c//Pod/ns/a", "pod a") && has_resource(&r, "net1/10.0.0.1", "pod a"));
    CU_ASSERT_EQUAL(r.p.resources[0].n_aliases, 2);
    CU_ASSERT_EQUAL(r.p.n_removed, 1);
    CU_ASSERT(has_removed(&r, "net1/9.9.9.9")); /* does not exist: said once */
    ack(a, &r);
    reply_fini(&r);
    CU_ASSERT_EQUAL(next(a, &r), 0);
    reply_fini(&r);

    /* A service brings its workloads. */
    struct pg_str svc = PG_STR("ns/svc");
    more = (struct xds_delta_request){.type_url = pg_str_c(urls[1]), .subscribe = &svc, .n_subscribe = 1};
    CU_ASSERT_EQUAL(request(a, &more, NULL, &code), 0);
    CU_ASSERT_EQUAL_FATAL(next(a, &r), 1);
    CU_ASSERT_EQUAL(r.p.n_resources, 3);
    CU_ASSERT(has_resource(&r, "ns/svc", "service") && has_resource(&r, "c//Pod/ns/b", "pod b"));
    ack(a, &r);
    reply_fini(&r);

    /* What was learned that way is followed; what was missing is pushed when it appears; the rest is not
     * sent. */
    set(v, urls[1], "c//Pod/ns/b", "pod b2", "ns/svc");
    set(v, urls[1], "c//Pod/ns/z", "pod z", "net1/9.9.9.9");
    set(v, urls[1], "ns/other", "other 2", NULL);
    CU_ASSERT_EQUAL(xds_view_del(v, urls[1], PG_STR("c//Pod/ns/a")), 1);
    xds_view_commit(v);
    CU_ASSERT_EQUAL_FATAL(next(a, &r), 1);
    CU_ASSERT_EQUAL(r.p.n_resources, 3);
    CU_ASSERT(has_resource(&r, "c//Pod/ns/b", "pod b2") && has_resource(&r, "c//Pod/ns/z", "pod z"));
    CU_ASSERT(has_resource(&r, "net1/9.9.9.9", "pod z"));
    CU_ASSERT_EQUAL(r.p.n_removed, 2);
    CU_ASSERT(has_removed(&r, "c//Pod/ns/a") && has_removed(&r, "net1/10.0.0.1"));
    ack(a, &r);
    reply_fini(&r);

    /* Unsubscribed: nothing is said, nothing more is sent. */
    more = (struct xds_delta_request){.type_url = pg_str_c(urls[1]), .unsubscribe = &svc, .n_unsubscribe = 1};
    CU_ASSERT_EQUAL(request(a, &more, NULL, &code), 0);
    set(v, urls[1], "c//Pod/ns/b", "pod b3", "ns/svc");
    xds_view_commit(v);
    CU_ASSERT_EQUAL(next(a, &r), 0);
    reply_fini(&r);
    adss_free(a);

    /* Reconnect on demand: what is held is subscribed to, whether it was received or not. */
    CU_ASSERT_EQUAL_FATAL(adss_new(v, &a), 0);
    struct xds_kv held[] = {{PG_STR("c//Pod/ns/b"), PG_STR("")}, {PG_STR("nobody"), PG_STR("")}};
    q.initial_versions = held;
    q.n_initial_versions = 2;
    CU_ASSERT_EQUAL_FATAL(request(a, &q, NULL, &code), 0);
    CU_ASSERT_EQUAL_FATAL(next(a, &r), 1);
    CU_ASSERT_EQUAL(r.p.n_resources, 1);
    CU_ASSERT(has_resource(&r, "c//Pod/ns/b", "pod b3") && has_removed(&r, "nobody"));
    reply_fini(&r);
    adss_free(a);
    xds_view_free(v);
}

static void unknown_type(void)
{
    struct xds_view *v;
    struct adss *a;
    struct reply r;
    int code = 0;
    CU_ASSERT_EQUAL_FATAL(xds_view_new(100, &v), 0);
    CU_ASSERT_EQUAL_FATAL(adss_new(v, &a), 0);
    struct xds_delta_request q = first("type.googleapis.com/some.Thing");
    CU_ASSERT_EQUAL(request(a, &q, NULL, &code), 0);
    CU_ASSERT_EQUAL_FATAL(next(a, &r), 1);
    CU_ASSERT(pg_str_eq(r.p.type_url, q.type_url));
    CU_ASSERT_EQUAL(r.p.n_resources + r.p.n_removed, 0);
    reply_fini(&r);
    q.type_url = PG_STR_NONE;
    CU_ASSERT(request(a, &q, NULL, &code) < 0);
    CU_ASSERT_EQUAL(code, GRPC_INVALID_ARGUMENT);
    /* Types, like everything a client can make grow, are capped. */
    char url[32];
    int e = 0;
    for (int i = 0; e == 0 && i < 100; i++) {
        (void)snprintf(url, sizeof(url), "type%d", i);
        q = first(url);
        e = request(a, &q, NULL, &code);
    }
    CU_ASSERT_EQUAL(e, PG_E_LIMIT);
    CU_ASSERT_EQUAL(code, GRPC_RESOURCE_EXHAUSTED);
    CU_ASSERT(adss_request(a, PG_STR("\xff\xff"), &(struct adss_event){0}, &code, &err) < 0);
    adss_free(a);
    xds_view_free(v);
}

/* Removals beyond what the view remembers: who is that far behind must start over instead of keeping ghosts.
 */
static void forgotten_removals(void)
{
    struct xds_view *v;
    struct adss *a;
    struct reply r;
    int code = 0;
    char name[24];
    CU_ASSERT_EQUAL_FATAL(xds_view_new(100, &v), 0);
    set(v, urls[1], "x", "v", NULL);
    xds_view_commit(v);
    CU_ASSERT_EQUAL_FATAL(adss_new(v, &a), 0);
    struct xds_delta_request q = first(urls[1]);
    CU_ASSERT_EQUAL_FATAL(request(a, &q, NULL, &code), 0);
    CU_ASSERT_EQUAL_FATAL(next(a, &r), 1);
    ack(a, &r);
    reply_fini(&r);
    CU_ASSERT_EQUAL(xds_view_del(v, urls[1], PG_STR("x")), 1);
    xds_view_commit(v);
    for (int i = 0; i < 65537; i++) {
        (void)snprintf(name, sizeof(name), "t%d", i);
        set(v, urls[1], name, "v", NULL);
        CU_ASSERT_EQUAL_FATAL(xds_view_del(v, urls[1], pg_str_c(name)), 1);
    }
    xds_view_commit(v);
    CU_ASSERT(next(a, &r) < 0);
    reply_fini(&r);
    adss_free(a);
    xds_view_free(v);
}

/* --- views
 * ------------------------------------------------------------------------------------------------------ */

static void collect(void *arg, struct pg_str name, struct pg_str version, struct pg_str bytes)
{
    struct pg_sb *sb = arg;
    CU_ASSERT_EQUAL(version.len, 16);
    pg_sb_fmt(sb, "%.*s=%.*s;", PG_STR_ARG(name), PG_STR_ARG(bytes));
}

static void views(void)
{
    struct xds_view *a, *b;
    struct pg_sb sb;
    pg_sb_init(&sb, 4096);
    CU_ASSERT_EQUAL_FATAL(xds_view_new(3, &a), 0);
    CU_ASSERT_EQUAL_FATAL(xds_view_new(3, &b), 0);
    CU_ASSERT_EQUAL(xds_view_digest(a), xds_view_digest(b));
    set(a, urls[0], "x", "1", NULL);
    set(a, urls[0], "y", "2", "alias");
    set(b, urls[0], "y", "old", NULL);
    set(b, urls[0], "y", "2", NULL);
    CU_ASSERT_NOT_EQUAL(xds_view_digest(a), xds_view_digest(b));
    set(b, urls[0], "x", "1", NULL);
    CU_ASSERT_EQUAL(xds_view_digest(a), xds_view_digest(b));
    CU_ASSERT_EQUAL(xds_view_generation(a), 0);
    xds_view_commit(a);
    CU_ASSERT_EQUAL(xds_view_generation(a), 1);
    xds_view_commit(a);
    CU_ASSERT_EQUAL(xds_view_generation(a), 1); /* nothing changed */
    CU_ASSERT_EQUAL(xds_view_set(a, urls[0], PG_STR("x"), PG_STR("1"), NULL, 0), 0);
    CU_ASSERT_EQUAL(xds_view_set(a, urls[0], PG_STR("x"), PG_STR("1b"), NULL, 0), 1);
    CU_ASSERT_EQUAL(xds_view_set(a, urls[1], PG_STR("z"), PG_STR(""), NULL, 0), 1);
    CU_ASSERT_EQUAL(xds_view_set(a, urls[1], PG_STR("too many"), PG_STR(""), NULL, 0), PG_E_LIMIT);
    CU_ASSERT_EQUAL(xds_view_del(a, urls[0], PG_STR("none")), 0);
    CU_ASSERT_EQUAL(xds_view_del(a, "no type", PG_STR("none")), 0);
    CU_ASSERT_EQUAL(xds_view_each(a, urls[0], collect, &sb), 0);
    CU_ASSERT(pg_str_eq_c(pg_sb_view(&sb), "x=1b;y=2;"));
    uint64_t before = xds_view_digest(a);
    CU_ASSERT_EQUAL(xds_view_del(a, urls[1], PG_STR("z")), 1);
    set(a, urls[1], "z", "", NULL);
    CU_ASSERT_EQUAL(xds_view_digest(a), before);
    CU_ASSERT_EQUAL(xds_view_count(a, urls[1]), 1);
    xds_view_free(a);
    xds_view_free(b);
    pg_sb_fini(&sb);
}

/* --- client rules
 * ----------------------------------------------------------------------------------------------- */

static void decode_request(struct queue *q, struct pg_arena *arena, struct xds_delta_request *out)
{
    CU_ASSERT_FATAL(q->n != 0);
    struct pg_str msg = queue_take(q);
    const char *copy = pg_arena_strndup(arena, msg.p, msg.len);
    CU_ASSERT_EQUAL_FATAL(xds_delta_request_decode(pg_str_n(copy, msg.len), arena, out, &err), 0);
    pg_free((void *)(uintptr_t)msg.p);
}

static int respond(struct client *c, const struct xds_delta_response *p)
{
    struct pg_sb sb;
    pg_sb_init(&sb, 1u << 20);
    CU_ASSERT_EQUAL_FATAL(xds_delta_response_encode(p, &sb), 0);
    int r = adsc_response(c->machine, pg_sb_view(&sb), apply, removed, c, queue_put, &c->out, &c->last, &err);
    pg_sb_fini(&sb);
    return r;
}

static struct xds_delta_resource resource(const char *name, const char *version, const char *bytes)
{
    return (struct xds_delta_resource){.name = pg_str_c(name),
                                       .version = pg_str_c(version),
                                       .has_resource = bytes != NULL,
                                       .type_url = pg_str_c(urls[1]),
                                       .bytes = pg_str_c(bytes)};
}

static void client_rules(void)
{
    struct client c;
    struct pg_arena arena;
    struct xds_delta_request q;
    pg_arena_init(&arena, 1u << 20);
    client_new(&c);
    CU_ASSERT_EQUAL_FATAL(adsc_stream_open(c.machine, &node, 1000, queue_put, &c.out), 0);
    for (size_t i = 0; i < 3; i++) {
        decode_request(&c.out, &arena, &q);
        CU_ASSERT(q.has_node && pg_str_eq_c(q.type_url, urls[i]));
        CU_ASSERT_EQUAL(q.n_subscribe + q.n_unsubscribe + q.n_initial_versions, 0); /* legacy wildcard */
    }
    struct xds_delta_resource rs[] = {resource("r1", "v1", "one"), resource("r2", "v1", "!bad"),
                                      resource("r3", "v1", NULL), resource("", "v1", "x")};
    struct xds_delta_response p = {
        .type_url = pg_str_c(urls[1]), .nonce = PG_STR("n1"), .resources = rs, .n_resources = 4};
    CU_ASSERT_EQUAL(respond(&c, &p), 0);
    CU_ASSERT_EQUAL(c.last.type, 1);
    CU_ASSERT_EQUAL(c.last.accepted, 1);
    CU_ASSERT_EQUAL(c.last.rejected, 3);
    CU_ASSERT(c.last.first && !c.last.synced);
    decode_request(&c.out, &arena, &q);
    CU_ASSERT_FALSE(q.has_node);
    CU_ASSERT(pg_str_eq_c(q.response_nonce, "n1") && q.has_error);
    CU_ASSERT(pg_str_eq_c(q.error_message,
                          "r2: does not like it; r3: missing resource payload; : resource without name"));
    CU_ASSERT_EQUAL(adsc_count(c.machine, 1), 1);

    /* A refused update keeps the version that was accepted. */
    rs[0] = resource("r1", "v2", "!worse");
    p.n_resources = 1;
    p.nonce = PG_STR("n2");
    CU_ASSERT_EQUAL(respond(&c, &p), 0);
    CU_ASSERT_STRING_EQUAL(c.store[1][1], "one");
    decode_request(&c.out, &arena, &q);
    adsc_stream_closed(c.machine);
    CU_ASSERT_EQUAL_FATAL(adsc_stream_open(c.machine, &node, 1000, queue_put, &c.out), 0);
    decode_request(&c.out, &arena, &q);
    decode_request(&c.out, &arena, &q);
    CU_ASSERT_EQUAL_FATAL(q.n_initial_versions, 1);
    CU_ASSERT(pg_str_eq_c(q.initial_versions[0].key, "r1") && pg_str_eq_c(q.initial_versions[0].value, "v1"));
    queue_drop(&c.out);

    /* Removals: of names we have; of others they are ignored. */
    struct pg_str gone[] = {PG_STR("r1"), PG_STR("ns/unknown")};
    struct xds_delta_response rm = {
        .type_url = pg_str_c(urls[1]), .nonce = PG_STR("n3"), .removed = gone, .n_removed = 2};
    CU_ASSERT_EQUAL(respond(&c, &rm), 0);
    CU_ASSERT_EQUAL(c.last.removed, 1);
    CU_ASSERT_EQUAL(adsc_count(c.machine, 1), 0);
    decode_request(&c.out, &arena, &q);
    CU_ASSERT_FALSE(q.has_error);

    /* A type we never asked for. */
    p.type_url = PG_STR("type.googleapis.com/x");
    CU_ASSERT_EQUAL(respond(&c, &p), 0);
    CU_ASSERT_EQUAL(c.last.type, SIZE_MAX);
    decode_request(&c.out, &arena, &q);
    CU_ASSERT(q.has_error && pg_str_eq_c(q.error_message, "type.googleapis.com/x: unknown type"));
    struct adsc_result unused;
    CU_ASSERT_EQUAL(
        adsc_response(c.machine, PG_STR("\xff"), apply, removed, &c, queue_put, &c.out, &unused, &err),
        PG_E_PARSE);
    client_free(&c);
    pg_arena_fini(&arena);
}

static void client_caps(void)
{
    struct adsc *a;
    struct client c = {0};
    struct pg_arena arena;
    struct xds_delta_request q;
    const struct adsc_type type = {urls[1], NULL, 0};
    pg_arena_init(&arena, 1u << 20);
    CU_ASSERT_EQUAL_FATAL(adsc_new(&type, 1, 2, &a), 0);
    c.machine = a;
    struct xds_delta_resource rs[] = {resource("r1", "", "a"), resource("r2", "", "b"),
                                      resource("r3", "", "c"), resource("r1", "", "a2")};
    struct xds_delta_response p = {
        .type_url = pg_str_c(urls[1]), .nonce = PG_STR("n"), .resources = rs, .n_resources = 4};
    CU_ASSERT_EQUAL(respond(&c, &p), 0);
    CU_ASSERT_EQUAL(c.last.accepted, 3);
    CU_ASSERT_EQUAL(c.last.rejected, 1);
    CU_ASSERT(c.last.synced);
    decode_request(&c.out, &arena, &q);
    CU_ASSERT(pg_str_eq_c(q.error_message, "r3: limit of 2 resources reached"));

    /* A NACK of many long and broken names stays small and readable. */
    char longest[600];
    memset(longest, 'x', sizeof(longest));
    memcpy(longest + 510, "\xc3\xa9\xc3\xa9", 4); /* is cut in the middle */
    longest[599] = '\0';
    struct xds_delta_resource many[64];
    for (size_t i = 0; i < 64; i++) {
        many[i] = resource(longest, "", NULL);
    }
    p.resources = many;
    p.n_resources = 64;
    CU_ASSERT_EQUAL(respond(&c, &p), 0);
    decode_request(&c.out, &arena, &q);
    CU_ASSERT(q.has_error && q.error_message.len <= 4096 && q.error_message.len > 1000);
    client_free(&c);
    pg_arena_fini(&arena);
}

/* --- failing memory
 * --------------------------------------------------------------------------------------------- */

static int whole_story(void *arg)
{
    (void)arg;
    struct client c = {0};
    struct server s = {0};
    const struct adsc_type types[3] = {{urls[0], NULL, 0}, {urls[1], NULL, 0}, {urls[2], NULL, 0}};
    struct adss_event ev;
    struct adsc_result result;
    struct pg_sb sb;
    int code;
    pg_sb_init(&sb, 65536);
    struct pg_str alias = PG_STR("ns/a");
    int r = xds_view_new(10, &s.view);
    r = r < 0 ? r : xds_view_set(s.view, urls[1], PG_STR("r1"), PG_STR("x"), &alias, 1);
    r = r < 0 ? r : xds_view_set(s.view, urls[1], PG_STR("r2"), PG_STR("!"), NULL, 0);
    r = r < 0 ? r : adsc_new(types, 3, 10, &c.machine);
    r = r < 0 ? r : adss_new(s.view, &s.machine);
    r = r < 0 ? r : adsc_stream_open(c.machine, &node, 1000, queue_put, &c.out);
    if (r >= 0) {
        xds_view_commit(s.view);
    }
    while (r >= 0 && c.out.n != 0) {
        struct pg_str msg = queue_take(&c.out);
        r = adss_request(s.machine, msg, &ev, &code, &err);
        pg_free((void *)(uintptr_t)msg.p);
        int more = 1;
        while (r >= 0 && more > 0) {
            pg_sb_reset(&sb);
            more = adss_next_response(s.machine, &sb);
            r = more;
            if (more > 0) {
                r = adsc_response(c.machine, pg_sb_view(&sb), apply, removed, &c, queue_put, &c.out, &result,
                                  &err);
            }
        }
    }
    pg_sb_fini(&sb);
    adsc_free(c.machine);
    adss_free(s.machine);
    xds_view_free(s.view);
    queue_drop(&c.out);
    return r < 0 ? r : 0;
}

static void failing_memory(void)
{
    CU_ASSERT(test_alloc_sweep(whole_story, NULL) > 20);
}

TEST_MAIN("ads", {"views", views}, {"wildcard rules", wildcard_rules}, {"uncommitted", uncommitted},
          {"reconnect with versions", reconnect_with_versions}, {"on demand", on_demand},
          {"unknown type and caps", unknown_type}, {"forgotten removals", forgotten_removals},
          {"client rules", client_rules}, {"client caps", client_caps}, {"random traces", random_traces},
          {"failing memory", failing_memory})
