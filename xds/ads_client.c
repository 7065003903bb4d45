/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The delta ADS client as a pure machine. Invariants: per type it remembers the name and version of what the
 * owner accepted and nothing else, across streams; every response is answered exactly once, by ACK or NACK; a
 * refused resource keeps the version it had before, so that it is never claimed as held in its new form. Loop
 * thread of its owner.
 */
#include "core/map.h"
#include "xds/client.h"

#define RESPONSE_ARENA_MAX (256u * 1024 * 1024) /* decoded form of one response */
#define NACK_MAX 4096u
#define NAME_IN_NACK_MAX 512u
#define REQUEST_MAX (256u * 1024 * 1024)

struct held {
    struct pg_str name; /* follows the struct */
    struct pg_str version;
    char *version_mem;
    uint64_t seen; /* response that carried it last */
};
struct ctype {
    char *url;
    struct pg_str *names; /* array and texts, one block each */
    size_t n_names;
    struct pg_map held;
    bool answered;  /* one response on this stream */
    bool reconcile; /* the server was not told what is held: its first response is everything there is */
};
struct adsc {
    struct ctype types[XDS_CLIENT_TYPES_MAX];
    size_t n_types;
    size_t max_names;
    uint64_t responses;
};

static void held_free(struct held *h)
{
    pg_free(h->version_mem);
    pg_free(h);
}

static void ctype_free(struct ctype *t)
{
    size_t it = 0;
    void *value;
    while (pg_map_next(&t->held, &it, NULL, &value)) {
        held_free(value);
    }
    pg_map_fini(&t->held);
    for (size_t i = 0; i < t->n_names; i++) {
        pg_free((void *)(uintptr_t)t->names[i].p);
    }
    pg_free(t->names);
    pg_free(t->url);
}

static int ctype_init(struct ctype *t, const struct adsc_type *from, size_t max_names)
{
    *t = (struct ctype){0};
    pg_map_init(&t->held, max_names);
    t->url = pg_strdup(from->type_url);
    t->names = pg_calloc(from->n_names, sizeof(*t->names));
    if (t->url == NULL || t->names == NULL) {
        return PG_E_NOMEM;
    }
    for (size_t i = 0; i < from->n_names; i++) {
        char *copy = pg_strndup(from->names[i].p, from->names[i].len);
        if (copy == NULL) {
            return PG_E_NOMEM;
        }
        t->names[t->n_names++] = pg_str_n(copy, from->names[i].len);
    }
    return 0;
}

int adsc_new(const struct adsc_type *types, size_t n, size_t max_names, struct adsc **out)
{
    if (n > XDS_CLIENT_TYPES_MAX) {
        return PG_E_LIMIT;
    }
    struct adsc *a = pg_calloc(1, sizeof(*a));
    if (a == NULL) {
        return PG_E_NOMEM;
    }
    a->max_names = max_names;
    for (size_t i = 0; i < n; i++) {
        a->n_types++;
        int r = ctype_init(&a->types[i], &types[i], max_names);
        if (r < 0) {
            adsc_free(a);
            return r;
        }
    }
    *out = a;
    return 0;
}

void adsc_free(struct adsc *a)
{
    if (a == NULL) {
        return;
    }
    for (size_t i = 0; i < a->n_types; i++) {
        ctype_free(&a->types[i]);
    }
    pg_free(a);
}

/* --- requests
 * -------------------------------------------------------------------------------------------------- */

static int send_request(const struct xds_delta_request *q, int (*emit)(void *arg, struct pg_str msg),
                        void *arg)
{
    struct pg_sb sb;
    pg_sb_init(&sb, REQUEST_MAX);
    int r = xds_delta_request_encode(q, &sb);
    if (r == 0) {
        r = emit(arg, pg_sb_view(&sb));
    }
    pg_sb_fini(&sb);
    return r;
}

/* The versions held, as an array to free; NULL and *n 0 when they are too many bytes to send. */
static int collect_versions(struct ctype *t, size_t max_bytes, struct xds_kv **out, size_t *n)
{
    size_t bytes = 0;
    size_t it = 0;
    void *value;
    *out = NULL;
    *n = 0;
    t->reconcile = false;
    if (t->held.len == 0) {
        return 0;
    }
    struct xds_kv *kv = pg_calloc(t->held.len, sizeof(*kv));
    if (kv == NULL) {
        return PG_E_NOMEM;
    }
    while (pg_map_next(&t->held, &it, NULL, &value)) {
        const struct held *h = value;
        kv[(*n)++] = (struct xds_kv){h->name, h->version};
        bytes += h->name.len + h->version.len + 12; /* tags and lengths, at most */
    }
    if (bytes > max_bytes) {
        pg_free(kv);
        *n = 0;
        t->reconcile = true;
        return 0;
    }
    *out = kv;
    return 0;
}

int adsc_stream_open(struct adsc *a, const struct xds_node *node, size_t versions_max_bytes,
                     int (*emit)(void *arg, struct pg_str msg), void *arg)
{
    for (size_t i = 0; i < a->n_types; i++) {
        struct ctype *t = &a->types[i];
        struct xds_kv *kv = NULL;
        size_t n = 0;
        t->answered = false;
        int r = collect_versions(t, versions_max_bytes, &kv, &n);
        if (r == 0) {
            struct xds_delta_request q = {.has_node = true,
                                          .node = *node,
                                          .type_url = pg_str_c(t->url),
                                          .subscribe = t->names,
                                          .n_subscribe = t->n_names,
                                          .initial_versions = kv,
                                          .n_initial_versions = n};
            r = send_request(&q, emit, arg);
        }
        pg_free(kv);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* --- responses
 * ------------------------------------------------------------------------------------------------- */

static size_t find_type(const struct adsc *a, struct pg_str url)
{
    for (size_t i = 0; i < a->n_types; i++) {
        if (pg_str_eq_c(url, a->types[i].url)) {
            return i;
        }
    }
    return SIZE_MAX;
}

/* As UTF-8: what is cut or was never text must not make the whole request unreadable. */
static void add_clean(struct pg_sb *sb, struct pg_str s, size_t max)
{
    s.len = s.len < max ? s.len : max;
    while (s.len != 0) {
        uint32_t cp = 0;
        size_t n = pg_utf8_step(s, &cp);
        if (n == 0 || cp == 0) {
            pg_sb_ch(sb, '?');
            n = 1;
        } else {
            pg_sb_add(sb, s.p, n);
        }
        s = pg_str_sub(s, n);
    }
}

/* "<name>: <reason>; ..." as far as it fits; one complaint is whole or missing. */
static void complain(struct pg_sb *nack, struct pg_str name, const char *why)
{
    size_t mark = nack->len;
    pg_sb_c(nack, mark != 0 ? "; " : "");
    add_clean(nack, name, NAME_IN_NACK_MAX);
    pg_sb_c(nack, ": ");
    add_clean(nack, pg_str_c(why), NACK_MAX);
    if (nack->err != 0 && nack->p != NULL) {
        nack->len = mark;
        nack->p[mark] = '\0';
    }
}

static int held_new(struct ctype *t, struct pg_str name, struct held **out)
{
    struct held *h = pg_calloc(1, sizeof(*h) + name.len);
    if (h == NULL) {
        return PG_E_NOMEM;
    }
    memcpy(h + 1, name.p, name.len);
    h->name = pg_str_n((const char *)(h + 1), name.len);
    int r = pg_map_set(&t->held, h->name, h, NULL);
    if (r < 0) {
        pg_free(h);
        return r;
    }
    *out = h;
    return 0;
}

static void drop(struct ctype *t, struct pg_str name)
{
    struct held *h = pg_map_del(&t->held, name);
    if (h != NULL) {
        held_free(h);
    }
}

/* What one response is processed with. */
struct batch {
    struct adsc *a;
    struct ctype *t;
    size_t index;
    adsc_apply apply;
    adsc_remove remove;
    void *arg;
    struct adsc_result *result;
    struct pg_sb *nack;
};

/* 0 when the owner took it; all memory is had before it is asked, so that its yes can be kept. */
static int offer(struct batch *b, const struct xds_delta_resource *r, struct pg_errtext *why)
{
    if (r->name.len == 0) {
        pg_err_set(why, "resource without name");
        return PG_E_PARSE;
    }
    if (!r->has_resource) {
        pg_err_set(why, "missing resource payload");
        return PG_E_PARSE;
    }
    struct held *h = pg_map_get(&b->t->held, r->name);
    bool fresh = h == NULL;
    int e = fresh ? held_new(b->t, r->name, &h) : 0;
    char *version = e == 0 ? pg_strndup(r->version.p, r->version.len) : NULL;
    if (e == 0 && version == NULL) {
        e = PG_E_NOMEM;
    }
    if (e == PG_E_LIMIT) {
        pg_err_set(why, "limit of %zu resources reached", b->a->max_names);
    } else if (e < 0) {
        pg_err_set(why, "out of memory");
    } else {
        e = b->apply(b->arg, b->index, r, why);
    }
    if (e < 0) {
        pg_free(version);
        if (fresh && h != NULL) {
            drop(b->t, r->name);
        }
        return e;
    }
    pg_free(h->version_mem);
    h->version_mem = version;
    h->version = pg_str_n(version, r->version.len);
    return 0;
}

/* Want of memory is no verdict on a resource: it ends the stream, and the next one brings what is missing. */
static int take_resources(struct batch *b, const struct xds_delta_response *p)
{
    for (size_t i = 0; i < p->n_resources; i++) {
        const struct xds_delta_resource *r = &p->resources[i];
        struct pg_errtext why = {""};
        int e = offer(b, r, &why);
        if (e == PG_E_NOMEM) {
            return e;
        }
        if (e < 0) {
            b->result->rejected++;
            complain(b->nack, r->name, why.text[0] != '\0' ? why.text : pg_err_str(e));
        } else {
            b->result->accepted++;
        }
        struct held *h = pg_map_get(&b->t->held, r->name);
        if (h != NULL) {
            h->seen = b->a->responses;
        }
    }
    return 0;
}

static void remove_one(struct batch *b, struct pg_str name)
{
    if (pg_map_get(&b->t->held, name) == NULL) {
        return; /* never taken, or a name of another kind */
    }
    b->remove(b->arg, b->index, name);
    b->result->removed++;
    drop(b->t, name);
}

/* The server did not know what we held, and sent all it has: what it did not send is gone. */
static void reconcile(struct batch *b)
{
    size_t it = 0;
    void *value;
    while (pg_map_next(&b->t->held, &it, NULL, &value)) {
        const struct held *h = value;
        if (h->seen != b->a->responses) {
            remove_one(b, h->name);
        }
    }
}

static int answer(const struct xds_delta_response *p, bool refused, const struct pg_sb *nack,
                  int (*emit)(void *arg, struct pg_str msg), void *arg)
{
    struct xds_delta_request q = {.type_url = p->type_url, .response_nonce = p->nonce};
    if (refused) { /* even when there was no memory to say why */
        q.has_error = true;
        q.error_code = 3; /* invalid argument */
        q.error_message = pg_sb_view(nack);
    }
    return send_request(&q, emit, arg);
}

static int process(struct batch *b, const struct xds_delta_response *p)
{
    b->a->responses++;
    for (size_t i = 0; i < p->n_removed; i++) {
        remove_one(b, p->removed[i]);
    }
    int r = take_resources(b, p);
    if (r < 0) {
        return r;
    }
    if (b->t->reconcile && !b->t->answered) {
        reconcile(b);
    }
    b->result->first = !b->t->answered;
    b->t->answered = true;
    b->t->reconcile = false;
    b->result->synced = adsc_is_synced(b->a);
    return 0;
}

int adsc_response(struct adsc *a, struct pg_str bytes, adsc_apply apply, adsc_remove remove, void *apply_arg,
                  int (*emit)(void *arg, struct pg_str msg), void *emit_arg, struct adsc_result *out,
                  struct pg_errtext *err)
{
    struct pg_arena arena;
    struct xds_delta_response p;
    struct adsc_result result = {.type = SIZE_MAX};
    struct pg_sb nack;
    pg_arena_init(&arena, RESPONSE_ARENA_MAX);
    pg_sb_init(&nack, NACK_MAX);
    int r = xds_delta_response_decode(bytes, &arena, &p, err);
    if (r == 0) {
        result.type = find_type(a, p.type_url);
        if (result.type == SIZE_MAX) {
            complain(&nack, p.type_url, "unknown type");
        } else {
            struct batch b = {.a = a,
                              .t = &a->types[result.type],
                              .index = result.type,
                              .apply = apply,
                              .remove = remove,
                              .arg = apply_arg,
                              .result = &result,
                              .nack = &nack};
            r = process(&b, &p);
        }
    }
    if (r == 0) {
        r = answer(&p, result.type == SIZE_MAX || result.rejected != 0, &nack, emit, emit_arg);
    }
    if (r == 0) {
        *out = result;
    }
    pg_sb_fini(&nack);
    pg_arena_fini(&arena);
    return r;
}

void adsc_stream_closed(struct adsc *a)
{
    for (size_t i = 0; i < a->n_types; i++) {
        a->types[i].answered = false;
    }
}

bool adsc_is_synced(const struct adsc *a)
{
    for (size_t i = 0; i < a->n_types; i++) {
        if (!a->types[i].answered) {
            return false;
        }
    }
    return true;
}

size_t adsc_count(const struct adsc *a, size_t type)
{
    return type < a->n_types ? a->types[type].held.len : 0;
}
