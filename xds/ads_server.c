/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One delta ADS stream as a pure machine: requests in, at most one unanswered response per type out.
 * Invariants: what a client was sent is known either by generation (wildcard) or by name and version (named),
 * never both; uncommitted changes of the view are not sent to wildcard clients; a NACK is counted and nothing
 * is sent again for it. An error is final for the stream. Control thread.
 */
#include "core/map.h"
#include "xds/view_int.h"

#include <stdio.h>

#define REQUEST_ARENA_MAX (64u * 1024 * 1024) /* decoded form of one request */
#define NODE_METADATA_MAX 256u
#define NODE_BYTES_MAX 65536u
#define TYPE_URL_MAX 256u
#define ERROR_MAX 4096u /* bytes of a NACK's text kept */

/* A name: subscribed to, asked for, sent, or held by the client at the start. */
struct known {
    struct pg_str name; /* follows the struct */
    uint64_t mark;
    char version[XDS_VERSION_LEN + 1]; /* as sent */
    struct pg_str held;                /* initial version, follows the name */
};
struct stype {
    char *url;
    unsigned rank; /* order of sending */
    bool wildcard;
    bool must_reply; /* the first request of a type, and names just asked for */
    bool in_flight;
    bool begun;            /* something was sent since the mode was last chosen */
    struct pg_map subs;    /* names */
    struct pg_map asked;   /* names subscribed to since the last response */
    struct pg_map initial; /* held by the client, until the first response */
    struct pg_map sent;    /* named mode: wire name -> known */
    uint64_t synced;       /* generation of the view the client was brought to */
    uint64_t synced_acked;
    uint64_t nonce;
    uint64_t n_sent, n_acked, n_nacked;
    struct pg_sb last_error;
};
struct adss {
    struct xds_view *view;
    struct pg_arena node_arena;
    struct xds_node node;
    bool has_node;
    struct stype types[XDS_VIEW_TYPES_MAX];
    size_t n_types;
    uint64_t epoch; /* for marks */
};

/* --- sets of names
 * --------------------------------------------------------------------------------------------- */

static void names_free(struct pg_map *m)
{
    size_t it = 0;
    void *value;
    while (pg_map_next(m, &it, NULL, &value)) {
        pg_free(value);
    }
    pg_map_fini(m);
}

static void names_del(struct pg_map *m, struct pg_str name)
{
    pg_free(pg_map_del(m, name));
}

/* The entry of that name, made when it is not there. */
static int names_put(struct pg_map *m, struct pg_str name, struct pg_str held, struct known **out)
{
    struct known *k = pg_map_get(m, name);
    if (k == NULL) {
        k = pg_calloc(1, sizeof(*k) + name.len + held.len);
        if (k == NULL) {
            return PG_E_NOMEM;
        }
        char *text = (char *)(k + 1);
        if (name.len != 0) {
            memcpy(text, name.p, name.len);
        }
        if (held.len != 0) {
            memcpy(text + name.len, held.p, held.len);
        }
        k->name = pg_str_n(text, name.len);
        k->held = pg_str_n(text + name.len, held.len);
        int r = pg_map_set(m, k->name, k, NULL);
        if (r < 0) {
            pg_free(k);
            return r;
        }
    }
    if (out != NULL) {
        *out = k;
    }
    return 0;
}

/* --- life
 * ------------------------------------------------------------------------------------------------------ */

int adss_new(struct xds_view *v, struct adss **out)
{
    struct adss *a = pg_calloc(1, sizeof(*a));
    if (a == NULL) {
        return PG_E_NOMEM;
    }
    a->view = v;
    pg_arena_init(&a->node_arena, NODE_BYTES_MAX);
    *out = a;
    return 0;
}

static void stype_free(struct stype *t)
{
    names_free(&t->subs);
    names_free(&t->asked);
    names_free(&t->initial);
    names_free(&t->sent);
    pg_sb_fini(&t->last_error);
    pg_free(t->url);
}

void adss_free(struct adss *a)
{
    if (a == NULL) {
        return;
    }
    for (size_t i = 0; i < a->n_types; i++) {
        stype_free(&a->types[i]);
    }
    pg_arena_fini(&a->node_arena);
    pg_free(a);
}

const struct xds_node *adss_node(const struct adss *a)
{
    return a->has_node ? &a->node : NULL;
}

bool adss_holds(const struct adss *a)
{
    for (size_t i = 0; i < a->n_types; i++) {
        if (a->types[i].initial.len > 0) {
            return true;
        }
    }
    return false;
}

void adss_set_view(struct adss *a, struct xds_view *v)
{
    a->view = v;
}

/* --- requests
 * -------------------------------------------------------------------------------------------------- */

static int keep_str(struct adss *a, struct pg_str in, struct pg_str *out)
{
    char *p = pg_arena_strndup(&a->node_arena, in.p, in.len);
    if (p == NULL) {
        return PG_E_LIMIT;
    }
    *out = pg_str_n(p, in.len);
    return 0;
}

static int keep_node(struct adss *a, const struct xds_node *n)
{
    struct xds_node kept = {0};
    size_t count = n->n_metadata < NODE_METADATA_MAX ? n->n_metadata : NODE_METADATA_MAX;
    int r = keep_str(a, n->id, &kept.id);
    kept.metadata = pg_arena_calloc(&a->node_arena, count, sizeof(*kept.metadata));
    if (r < 0 || kept.metadata == NULL) {
        return PG_E_LIMIT;
    }
    for (size_t i = 0; r == 0 && i < count; i++) {
        r = keep_str(a, n->metadata[i].key, &kept.metadata[i].key);
        if (r == 0) {
            r = keep_str(a, n->metadata[i].value, &kept.metadata[i].value);
        }
    }
    if (r == 0) {
        kept.n_metadata = count;
        a->node = kept;
        a->has_node = true;
    }
    return r;
}

static int fail(int code, const char *text, int *grpc_code, struct pg_errtext *err)
{
    *grpc_code = code;
    pg_err_set(err, "%s", text);
    return code == GRPC_RESOURCE_EXHAUSTED ? PG_E_LIMIT : PG_E_PARSE;
}

static struct stype *find_type(struct adss *a, struct pg_str url)
{
    for (size_t i = 0; i < a->n_types; i++) {
        if (pg_str_eq_c(url, a->types[i].url)) {
            return &a->types[i];
        }
    }
    return NULL;
}

static unsigned rank_of(struct pg_str url)
{
    static const char *const order[] = {XDS_TYPE_ADDRESS, XDS_TYPE_WORKLOAD, XDS_TYPE_AUTHORIZATION};
    unsigned i = 0;
    while (i < PG_ARRAY_LEN(order) && !pg_str_eq_c(url, order[i])) {
        i++;
    }
    return i;
}

static int add_type(struct adss *a, struct pg_str url, struct stype **out)
{
    if (a->n_types == XDS_VIEW_TYPES_MAX || url.len > TYPE_URL_MAX) {
        return PG_E_LIMIT;
    }
    char *copy = pg_strndup(url.p, url.len);
    if (copy == NULL) {
        return PG_E_NOMEM;
    }
    struct stype *t = &a->types[a->n_types++];
    *t = (struct stype){.url = copy, .rank = rank_of(url)};
    pg_map_init(&t->subs, XDS_STREAM_NAMES_MAX);
    pg_map_init(&t->asked, XDS_STREAM_NAMES_MAX);
    pg_map_init(&t->initial, XDS_STREAM_NAMES_MAX);
    pg_map_init(&t->sent, XDS_STREAM_NAMES_MAX);
    pg_sb_init(&t->last_error, ERROR_MAX);
    *out = t;
    return 0;
}

static bool is_star(struct pg_str s)
{
    return pg_str_eq_c(s, "*");
}

static void set_wildcard(struct stype *t, bool on)
{
    if (t->wildcard == on) {
        return;
    }
    t->wildcard = on;
    t->synced = 0;
    t->begun = false;
    names_free(&t->sent);
    t->must_reply = t->must_reply || on;
}

static int subscribe(struct stype *t, const struct xds_delta_request *q)
{
    for (size_t i = 0; i < q->n_subscribe; i++) {
        if (is_star(q->subscribe[i])) {
            set_wildcard(t, true);
            continue;
        }
        int r = names_put(&t->subs, q->subscribe[i], PG_STR_NONE, NULL);
        if (r == 0) {
            r = names_put(&t->asked, q->subscribe[i], PG_STR_NONE, NULL);
        }
        if (r < 0) {
            return r;
        }
        t->must_reply = true;
    }
    return 0;
}

static void forget_unsubscribed(struct adss *a, struct stype *t, const struct xds_delta_request *q);

static void unsubscribe(struct adss *a, struct stype *t, const struct xds_delta_request *q)
{
    bool any = false;
    for (size_t i = 0; i < q->n_unsubscribe; i++) {
        if (is_star(q->unsubscribe[i])) {
            set_wildcard(t, false);
        } else if (pg_map_get(&t->subs, q->unsubscribe[i]) != NULL) {
            names_del(&t->subs, q->unsubscribe[i]);
            names_del(&t->asked, q->unsubscribe[i]);
            any = true;
        }
    }
    if (any && !t->wildcard) {
        forget_unsubscribed(a, t, q);
    }
}

/* Unless it is a wildcard, what the client holds from before is subscribed to as well. */
static int keep_initial(struct stype *t, const struct xds_delta_request *q)
{
    for (size_t i = 0; i < q->n_initial_versions; i++) {
        struct pg_str name = q->initial_versions[i].key;
        int r = names_put(&t->initial, name, q->initial_versions[i].value, NULL);
        if (r == 0 && !t->wildcard) {
            r = names_put(&t->subs, name, PG_STR_NONE, NULL);
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static void answer(struct stype *t, const struct xds_delta_request *q, struct adss_event *ev)
{
    t->in_flight = false;
    if (q->has_error) {
        t->n_nacked++;
        pg_sb_reset(&t->last_error);
        size_t len = q->error_message.len < ERROR_MAX ? q->error_message.len : ERROR_MAX;
        pg_sb_add(&t->last_error, q->error_message.p, len);
        ev->nacked = true;
        ev->error = pg_sb_view(&t->last_error);
    } else {
        t->n_acked++;
        t->synced_acked = t->synced;
        ev->acked = true;
    }
}

static bool nonce_is(const struct stype *t, struct pg_str nonce)
{
    char want[24];
    (void)snprintf(want, sizeof(want), "%llx", (unsigned long long)t->nonce);
    return t->nonce != 0 && pg_str_eq_c(nonce, want);
}

static int take_request(struct adss *a, const struct xds_delta_request *q, struct adss_event *ev)
{
    struct stype *t = find_type(a, q->type_url);
    bool first = t == NULL;
    int r = 0;
    if (first) {
        r = add_type(a, q->type_url, &t);
        if (r < 0) {
            return r;
        }
        t->must_reply = true;
        set_wildcard(t, q->n_subscribe == 0);
    } else if (q->response_nonce.len != 0) {
        if (!nonce_is(t, q->response_nonce)) {
            return 0; /* stale: about a response that was superseded */
        }
        if (t->in_flight) { /* a second answer to the same response changes nothing */
            answer(t, q, ev);
        }
    }
    ev->type_url = pg_str_c(t->url);
    if (r == 0) {
        r = subscribe(t, q);
    }
    if (r == 0) {
        unsubscribe(a, t, q);
    }
    return r == 0 && first ? keep_initial(t, q) : r;
}

static int read_request(struct adss *a, struct pg_str bytes, struct pg_arena *arena, struct adss_event *ev,
                        int *grpc_code, struct pg_errtext *err)
{
    struct xds_delta_request q = {0};
    int r = xds_delta_request_decode(bytes, arena, &q, err);
    if (r == PG_E_PARSE) {
        *grpc_code = GRPC_INTERNAL;
        return r;
    }
    if (r == 0 && !a->has_node) {
        if (!q.has_node || q.node.id.len == 0) {
            return fail(GRPC_INVALID_ARGUMENT, "missing node information", grpc_code, err);
        }
        r = keep_node(a, &q.node);
    }
    if (r == 0 && q.type_url.len == 0) {
        return fail(GRPC_INVALID_ARGUMENT, "type URL is required for ADS", grpc_code, err);
    }
    if (r == 0) {
        r = take_request(a, &q, ev);
    }
    if (r < 0) {
        (void)fail(GRPC_RESOURCE_EXHAUSTED,
                   r == PG_E_NOMEM ? "out of memory" : "too many types or names on one stream", grpc_code,
                   err);
    }
    return r;
}

int adss_request(struct adss *a, struct pg_str bytes, struct adss_event *ev, int *grpc_code,
                 struct pg_errtext *err)
{
    struct pg_arena arena;
    *ev = (struct adss_event){0};
    pg_arena_init(&arena, REQUEST_ARENA_MAX);
    int r = read_request(a, bytes, &arena, ev, grpc_code, err);
    pg_arena_fini(&arena);
    return r;
}

/* --- responses
 * ------------------------------------------------------------------------------------------------- */

/* A response under construction: slices into the view and the machine, nothing copied. */
struct draft {
    struct xds_delta_resource *resources;
    size_t n_resources, cap_resources;
    struct pg_str *removed;
    size_t n_removed, cap_removed;
};

static void draft_fini(struct draft *d)
{
    pg_free(d->resources);
    pg_free(d->removed);
}

static int draft_add(struct draft *d, const struct stype *t, const struct xds_entry *e, struct pg_str name)
{
    int r = pg_vec_grow(&d->resources, &d->cap_resources, d->n_resources + 1, sizeof(*d->resources),
                        SIZE_MAX / sizeof(*d->resources));
    if (r == 0) {
        d->resources[d->n_resources++] =
            (struct xds_delta_resource){.name = name,
                                        .version = pg_str_n(e->version, XDS_VERSION_LEN),
                                        .has_resource = true,
                                        .type_url = pg_str_c(t->url),
                                        .bytes = e->bytes};
        if (!t->wildcard) {
            d->resources[d->n_resources - 1].aliases = e->aliases;
            d->resources[d->n_resources - 1].n_aliases = e->n_aliases;
        }
    }
    return r;
}

static int draft_remove(struct draft *d, struct pg_str name)
{
    int r = pg_vec_grow(&d->removed, &d->cap_removed, d->n_removed + 1, sizeof(*d->removed),
                        SIZE_MAX / sizeof(*d->removed));
    if (r == 0) {
        d->removed[d->n_removed++] = name;
    }
    return r;
}

static const struct xds_entry *live_entry(const struct xds_view_type *vt, struct pg_str name)
{
    const struct xds_entry *e = vt != NULL ? pg_map_get(&vt->entries, name) : NULL;
    return e != NULL && e->live ? e : NULL;
}

/* Does the client hold this very content from before the stream? */
static bool is_held(const struct stype *t, const struct xds_entry *e)
{
    const struct known *k = pg_map_get(&t->initial, e->name);
    return k != NULL && pg_str_eq_c(k->held, e->version);
}

/* What changed since the client's generation, newest first. */
static int draft_changes(struct draft *d, const struct stype *t, const struct xds_view_type *vt,
                         uint64_t newest)
{
    if (vt == NULL) {
        return 0;
    }
    for (struct pg_list *n = vt->changes.prev; n != &vt->changes; n = n->prev) {
        const struct xds_entry *e = PG_CONTAINER_OF(n, struct xds_entry, change);
        if (e->generation <= t->synced) {
            break;
        }
        int r = 0;
        if (e->generation > newest) {
            continue; /* not committed yet */
        }
        if (e->live && !is_held(t, e)) {
            r = draft_add(d, t, e, e->name);
        } else if (!e->live && t->begun) {
            r = draft_remove(d, e->name);
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* Names the client holds from before and that are gone. */
static int draft_gone(struct draft *d, const struct stype *t, const struct xds_view_type *vt)
{
    size_t it = 0;
    struct pg_str name;
    int r = 0;
    while (r == 0 && pg_map_next(&t->initial, &it, &name, NULL)) {
        if (live_entry(vt, name) == NULL) {
            r = draft_remove(d, name);
        }
    }
    return r;
}

/* Calls `fn` for each resource a subscribed key stands for, with the name it has on the wire. False from `fn`
 * ends it. */
typedef int (*expand_fn)(void *arg, const struct xds_entry *e, struct pg_str wire_name);

static int expand(const struct xds_view_type *vt, struct pg_str key, expand_fn fn, void *arg)
{
    const struct xds_entry *e = live_entry(vt, key);
    const struct xds_alias *alias = vt != NULL ? pg_map_get(&vt->aliases, key) : NULL;
    int r = e != NULL ? fn(arg, e, e->name) : 0;
    for (size_t i = 0; r == 0 && alias != NULL && i < alias->n; i++) {
        r = fn(arg, alias->entries[i], alias->entries[i]->name);
    }
    /* Who asked for an alias waits for exactly that name. */
    if (r == 0 && e == NULL && alias != NULL) {
        r = fn(arg, alias->entries[0], alias->key);
    }
    return r;
}

struct named {
    struct draft *draft;
    struct stype *t;
    uint64_t epoch;
    bool asked;  /* send also what was sent before */
    size_t seen; /* resources of the current key */
};

static int want(void *arg, const struct xds_entry *e, struct pg_str wire_name)
{
    struct named *n = arg;
    struct known *k = NULL;
    n->seen++;
    int r = names_put(&n->t->sent, wire_name, PG_STR_NONE, &k);
    if (r < 0) {
        return r;
    }
    bool already = k->mark == n->epoch;
    bool current = strcmp(k->version, e->version) == 0 && !n->asked;
    k->mark = n->epoch;
    if (already || current || (k->version[0] == '\0' && is_held(n->t, e))) {
        if (k->version[0] == '\0') {
            memcpy(k->version, e->version, sizeof(k->version));
        }
        return 0;
    }
    r = draft_add(n->draft, n->t, e, k->name);
    if (r == 0) {
        memcpy(k->version, e->version, sizeof(k->version));
    }
    return r;
}

static int draft_named(struct adss *a, struct draft *d, struct stype *t, const struct xds_view_type *vt)
{
    struct named n = {.draft = d, .t = t, .epoch = ++a->epoch};
    struct pg_str key;
    void *value;
    size_t it = 0;
    int r = 0;
    n.asked = true;
    while (r == 0 && pg_map_next(&t->asked, &it, &key, NULL)) {
        n.seen = 0;
        r = expand(vt, key, want, &n);
        if (r == 0 && n.seen == 0) {
            r = draft_remove(d, key);
        }
    }
    n.asked = false;
    it = 0;
    while (r == 0 && pg_map_next(&t->subs, &it, &key, NULL)) {
        r = expand(vt, key, want, &n);
    }
    it = 0;
    while (r == 0 && pg_map_next(&t->sent, &it, &key, &value)) {
        const struct known *k = value;
        if (k->mark != n.epoch && pg_map_get(&t->asked, k->name) == NULL) {
            r = draft_remove(d, k->name);
        }
    }
    it = 0;
    while (r == 0 && pg_map_next(&t->initial, &it, &key, NULL)) {
        if (pg_map_get(&t->sent, key) == NULL && pg_map_get(&t->asked, key) == NULL) {
            r = draft_remove(d, key);
        }
    }
    return r;
}

/* Wildcard: names asked for on top are sent whatever the client has. */
static int draft_asked(struct draft *d, const struct stype *t, const struct xds_view_type *vt)
{
    size_t it = 0;
    struct pg_str key;
    int r = 0;
    while (r == 0 && pg_map_next(&t->asked, &it, &key, NULL)) {
        const struct xds_entry *e = live_entry(vt, key);
        if (e == NULL) {
            r = draft_remove(d, key);
        } else if (e->generation <= t->synced || is_held(t, e)) {
            r = draft_add(d, t, e, e->name);
        }
    }
    return r;
}

static int mark_only(void *arg, const struct xds_entry *e, struct pg_str wire_name)
{
    const struct named *n = arg;
    struct known *k = pg_map_get(&n->t->sent, wire_name);
    (void)e;
    if (k != NULL) {
        k->mark = n->epoch;
    }
    return 0;
}

struct forget {
    struct stype *t;
    uint64_t epoch;
};

static int forget_unmarked(void *arg, const struct xds_entry *e, struct pg_str wire_name)
{
    const struct forget *f = arg;
    const struct known *k = pg_map_get(&f->t->sent, wire_name);
    (void)e;
    if (k != NULL && k->mark != f->epoch) {
        names_del(&f->t->sent, wire_name);
    }
    return 0;
}

/* What only the unsubscribed names brought is no longer followed; the client knows that it let go of it. */
static void forget_unsubscribed(struct adss *a, struct stype *t, const struct xds_delta_request *q)
{
    const struct xds_view_type *vt = a->view != NULL ? xds_view_find_type(a->view, q->type_url) : NULL;
    struct named n = {.t = t, .epoch = ++a->epoch};
    struct forget f = {t, n.epoch};
    struct pg_str key;
    size_t it = 0;
    while (pg_map_next(&t->subs, &it, &key, NULL)) {
        (void)expand(vt, key, mark_only, &n);
    }
    for (size_t i = 0; i < q->n_unsubscribe; i++) {
        (void)expand(vt, q->unsubscribe[i], forget_unmarked, &f);
        const struct known *k = pg_map_get(&t->sent, q->unsubscribe[i]);
        if (k != NULL && k->mark != n.epoch) {
            names_del(&t->sent, q->unsubscribe[i]);
        }
    }
}

static int make_draft(struct adss *a, struct draft *d, struct stype *t, const struct xds_view_type *vt)
{
    if (!t->wildcard) {
        return draft_named(a, d, t, vt);
    }
    int r = draft_changes(d, t, vt, a->view->generation);
    if (r == 0) {
        r = draft_gone(d, t, vt);
    }
    return r < 0 ? r : draft_asked(d, t, vt);
}

static int encode(const struct adss *a, const struct stype *t, const struct draft *d, struct pg_sb *out)
{
    char version[48];
    char nonce[24];
    (void)snprintf(version, sizeof(version), "%llu", (unsigned long long)a->view->generation);
    (void)snprintf(nonce, sizeof(nonce), "%llx", (unsigned long long)(t->nonce + 1));
    struct xds_delta_response p = {.system_version = pg_str_c(version),
                                   .type_url = pg_str_c(t->url),
                                   .nonce = pg_str_c(nonce),
                                   .resources = d->resources,
                                   .n_resources = d->n_resources,
                                   .removed = d->removed,
                                   .n_removed = d->n_removed};
    return xds_delta_response_encode(&p, out);
}

/* The response went out: from here on the client counts as current. */
static void settle(struct adss *a, struct stype *t, const struct draft *d)
{
    for (size_t i = 0; !t->wildcard && i < d->n_removed; i++) {
        names_del(&t->sent, d->removed[i]);
    }
    t->synced = a->view->generation;
    t->begun = true;
    t->must_reply = false;
    names_free(&t->asked);
    names_free(&t->initial);
}

/* 1 when a response for `t` was encoded, 0 when there is nothing to say. */
static int respond(struct adss *a, struct stype *t, struct pg_sb *out)
{
    const struct xds_view_type *vt = xds_view_find_type(a->view, pg_str_c(t->url));
    uint64_t newest = vt != NULL ? vt->generation : 0;
    if (t->in_flight || (!t->must_reply && newest <= t->synced)) {
        return 0;
    }
    if (t->begun && t->wildcard && t->synced < a->view->forgotten) {
        return PG_E_LIMIT; /* removals it never heard of are forgotten: it must start over */
    }
    struct draft d = {0};
    int r = make_draft(a, &d, t, vt);
    bool due = t->must_reply || d.n_resources != 0 || d.n_removed != 0;
    if (r == 0 && due) {
        r = encode(a, t, &d, out);
    }
    if (r == 0) {
        settle(a, t, &d);
        if (due) {
            t->in_flight = true;
            t->nonce++;
            t->n_sent++;
            r = 1;
        }
    }
    draft_fini(&d);
    return r;
}

int adss_next_response(struct adss *a, struct pg_sb *out)
{
    if (a->view == NULL) {
        return 0;
    }
    for (unsigned rank = 0; rank <= rank_of(PG_STR("")); rank++) {
        for (size_t i = 0; i < a->n_types; i++) {
            int r = a->types[i].rank == rank ? respond(a, &a->types[i], out) : 0;
            if (r != 0) {
                return r;
            }
        }
    }
    return 0;
}

size_t adss_status(const struct adss *a, struct adss_type_status *out, size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < a->n_types && n < cap; i++) {
        const struct stype *t = &a->types[i];
        const struct xds_view_type *vt =
            a->view != NULL ? xds_view_find_type(a->view, pg_str_c(t->url)) : NULL;
        out[n++] = (struct adss_type_status){.type_url = t->url,
                                             .sent = t->n_sent,
                                             .acked = t->n_acked,
                                             .nacked = t->n_nacked,
                                             .last_error = pg_sb_view(&t->last_error),
                                             .generation_acked = t->synced_acked,
                                             .resources = !t->wildcard ? t->sent.len
                                                          : vt != NULL ? vt->live
                                                                       : 0};
    }
    return n;
}
