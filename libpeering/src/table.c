/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mutable side of a table: resources by name, and the order that snapshots are built in. A put either
 * takes effect completely or not at all; the join of endpoints to services happens at the snapshot, so the
 * order in which resources arrive does not matter. One thread.
 */
#include "snapshot.h"

#include "core/map.h"
#include "xds/codec.h"

#include <stdlib.h>

#define TABLE_WORKLOADS_MAX 1000000u
#define TABLE_SERVICES_MAX 250000u
#define TABLE_POLICIES_MAX 50000u
#define TABLE_NAME_MAX 4096u

/* A named slot. A removed one stays in `order` or `fresh`, empty, until the next sweep. */
struct entry {
    struct rec_head *rec;
};
struct rec_set {
    struct pg_map by_key; /* key of the record -> struct entry */
    struct entry **order; /* sorted by key, with holes */
    size_t n_order;
    struct entry **fresh; /* came after the last sweep, any order */
    size_t n_fresh, cap_fresh;
    size_t dead;
};
struct peering_table {
    struct rec_set sets[3]; /* by enum rec_kind */
    struct pg_map shared;   /* key -> struct rec_shared; one reference each */
    size_t sweep_shared_at;
    struct pg_sb key_buf;
    uint64_t seq;
    uint64_t generation;
    peering_snapshot *last; /* NULL before the first */
    bool dirty;
};

/* --- sets --------------------------------------------------------------------------------------------- */

static int cmp_entries(const void *a, const void *b)
{
    const struct rec_head *x = (*(struct entry *const *)a)->rec;
    const struct rec_head *y = (*(struct entry *const *)b)->rec;
    return pg_str_cmp(x->key, y->key);
}

/* Sorts what is new into the order and frees the empty slots. Unchanged on failure. */
static int set_sweep(struct rec_set *s)
{
    if (s->n_fresh == 0 && s->dead == 0) {
        return 0;
    }
    struct entry **order = pg_calloc(s->by_key.len + 1, sizeof(struct entry *));
    if (order == NULL) {
        return PG_E_NOMEM;
    }
    size_t n_fresh = 0;
    for (size_t i = 0; i < s->n_fresh; i++) {
        if (s->fresh[i]->rec != NULL) {
            s->fresh[n_fresh++] = s->fresh[i];
        } else {
            pg_free(s->fresh[i]);
        }
    }
    if (n_fresh > 1) {
        qsort(s->fresh, n_fresh, sizeof(struct entry *), cmp_entries);
    }
    size_t n = 0;
    size_t f = 0;
    for (size_t i = 0; i < s->n_order; i++) {
        struct entry *e = s->order[i];
        if (e->rec == NULL) {
            pg_free(e);
            continue;
        }
        while (f < n_fresh && pg_str_cmp(s->fresh[f]->rec->key, e->rec->key) < 0) {
            order[n++] = s->fresh[f++];
        }
        order[n++] = e;
    }
    while (f < n_fresh) {
        order[n++] = s->fresh[f++];
    }
    PG_BUG_ON(n != s->by_key.len);
    pg_free(s->order);
    s->order = order;
    s->n_order = n;
    s->n_fresh = 0;
    s->dead = 0;
    return 0;
}

/* Takes the reference of `rec` over on success. */
static int set_put(struct rec_set *s, struct rec_head *rec)
{
    struct entry *e = pg_map_get(&s->by_key, rec->key);
    if (e != NULL) {
        /* Cannot fail: the key is there. The old key slice dies with the old record. */
        struct rec_head *old = e->rec;
        int r = pg_map_set(&s->by_key, rec->key, e, NULL);
        PG_BUG_ON(r < 0);
        e->rec = rec;
        rec_unref(old);
        return 0;
    }
    int r = pg_vec_grow(&s->fresh, &s->cap_fresh, s->n_fresh + 1, sizeof(struct entry *), SIZE_MAX / 64);
    if (r < 0) {
        return r;
    }
    e = pg_malloc(sizeof(*e));
    if (e == NULL) {
        return PG_E_NOMEM;
    }
    e->rec = rec;
    r = pg_map_set(&s->by_key, rec->key, e, NULL);
    if (r < 0) {
        pg_free(e);
        return r;
    }
    s->fresh[s->n_fresh++] = e;
    return 0;
}

static bool set_remove(struct rec_set *s, struct pg_str key)
{
    struct entry *e = pg_map_del(&s->by_key, key);
    if (e == NULL) {
        return false;
    }
    rec_unref(e->rec);
    e->rec = NULL;
    s->dead++;
    if (s->dead > s->by_key.len + 64) {
        /* Bounds what churn between two snapshots leaves behind. Without memory it is tried again later. */
        int r = set_sweep(s);
        (void)r;
    }
    return true;
}

static void set_fini(struct rec_set *s)
{
    struct entry **lists[2] = {s->order, s->fresh};
    size_t counts[2] = {s->n_order, s->n_fresh};
    for (size_t k = 0; k < 2; k++) {
        for (size_t i = 0; i < counts[k]; i++) {
            rec_unref(lists[k][i]->rec);
            pg_free(lists[k][i]);
        }
        pg_free(lists[k]);
    }
    pg_map_fini(&s->by_key);
}

/* --- replica sets ------------------------------------------------------------------------------------- */

/* Drops the sets only this table still knows. Only this thread hands references out, so none can appear
 * between the look and the drop. */
static void shared_sweep(peering_table *t)
{
    size_t it = 0;
    void *value;
    while (pg_map_next(&t->shared, &it, NULL, &value)) {
        struct rec_shared *s = value;
        if (atomic_load_explicit(&s->refs, memory_order_acquire) == 1) {
            pg_map_del(&t->shared, s->key);
            rec_shared_unref(s);
        }
    }
    t->sweep_shared_at = t->shared.len * 2 + 1024;
}

/* The replica set of `w`, with a reference of the table only. */
static int shared_get(peering_table *t, const struct xds_workload *w, struct rec_shared **out)
{
    int r = rec_shared_key(w, &t->key_buf);
    if (r < 0) {
        return r;
    }
    struct rec_shared *s = pg_map_get(&t->shared, pg_sb_view(&t->key_buf));
    if (s != NULL) {
        *out = s;
        return 0;
    }
    if (t->shared.len >= t->sweep_shared_at) {
        shared_sweep(t);
    }
    r = rec_shared_make(w, pg_sb_view(&t->key_buf), &s);
    if (r < 0) {
        return r;
    }
    r = pg_map_set(&t->shared, s->key, s, NULL);
    if (r < 0) {
        rec_shared_unref(s);
        return r;
    }
    *out = s;
    return 0;
}

/* --- table -------------------------------------------------------------------------------------------- */

int peering_table_new(peering_table **out)
{
    peering_table *t = pg_calloc(1, sizeof(*t));
    if (t == NULL) {
        return PG_E_NOMEM;
    }
    pg_map_init(&t->sets[REC_WORKLOAD].by_key, TABLE_WORKLOADS_MAX);
    pg_map_init(&t->sets[REC_SERVICE].by_key, TABLE_SERVICES_MAX);
    pg_map_init(&t->sets[REC_POLICY].by_key, TABLE_POLICIES_MAX);
    pg_map_init(&t->shared, SIZE_MAX / 64);
    pg_sb_init(&t->key_buf, 2 * XDS_RESOURCE_MAX);
    t->sweep_shared_at = 1024;
    t->dirty = true;
    *out = t;
    return 0;
}

void peering_table_free(peering_table *t)
{
    if (t == NULL) {
        return;
    }
    for (size_t i = 0; i < PG_ARRAY_LEN(t->sets); i++) {
        set_fini(&t->sets[i]);
    }
    size_t it = 0;
    void *value;
    while (pg_map_next(&t->shared, &it, NULL, &value)) {
        rec_shared_unref(value);
    }
    pg_map_fini(&t->shared);
    pg_sb_fini(&t->key_buf);
    peering_snapshot_unref(t->last);
    pg_free(t);
}

static int join_key(struct pg_str ns, struct pg_str name, struct pg_arena *arena, struct pg_str *out)
{
    size_t len = ns.len + 1 + name.len;
    char *p = pg_arena_alloc(arena, len);
    if (p == NULL) {
        return PG_E_NOMEM;
    }
    if (ns.len != 0) {
        memcpy(p, ns.p, ns.len);
    }
    p[ns.len] = '/';
    if (name.len != 0) {
        memcpy(p + ns.len + 1, name.p, name.len);
    }
    *out = pg_str_n(p, len);
    return 0;
}

/* A resource must be what its name says, or its removal would miss it. */
static int check_name(struct pg_str name, struct pg_str key, struct pg_errtext *why)
{
    if (key.len == 0 || key.len > TABLE_NAME_MAX) {
        pg_err_set(why, "name of %zu bytes", key.len);
        return PG_E_PARSE;
    }
    if (name.len != 0 && !pg_str_eq(name, key)) {
        pg_err_set(why, "the resource calls itself %.*s", PG_STR_ARG(key));
        return PG_E_PARSE;
    }
    return 0;
}

/* What the wire bytes were, to recognise a resource that is sent again unchanged. */
struct origin {
    uint64_t digest;
    size_t len;
};

static int set_store(peering_table *t, enum rec_kind kind, struct rec_head *rec, const struct origin *from)
{
    rec->digest = from->digest;
    rec->wire_len = (uint32_t)from->len;
    rec->seq = t->seq + 1;
    int r = set_put(&t->sets[kind], rec);
    if (r < 0) {
        rec_unref(rec);
        return r;
    }
    t->seq++;
    t->dirty = true;
    return 0;
}

static int put_workload(peering_table *t, const struct xds_workload *w, struct pg_str name,
                        const struct origin *from, struct pg_errtext *why)
{
    struct rec_shared *shared = NULL;
    peering_workload *rec = NULL;
    int r = check_name(name, w->uid, why);
    if (r == 0) {
        r = shared_get(t, w, &shared);
    }
    if (r == 0) {
        r = rec_workload_make(w, shared, &rec);
    }
    return r < 0 ? r : set_store(t, REC_WORKLOAD, &rec->head, from);
}

static int put_service(peering_table *t, const struct xds_service *s, struct pg_str name,
                       struct pg_arena *arena, const struct origin *from, struct pg_errtext *why)
{
    struct pg_str key;
    struct rec_service *rec = NULL;
    int r = join_key(s->ns, s->hostname, arena, &key);
    if (r == 0) {
        r = check_name(name, key, why);
    }
    if (r == 0) {
        r = rec_service_make(s, key, &rec);
    }
    return r < 0 ? r : set_store(t, REC_SERVICE, &rec->head, from);
}

static int put_address(peering_table *t, struct pg_str name, struct pg_str bytes, const struct origin *from,
                       struct pg_errtext *why)
{
    struct pg_arena arena;
    struct xds_address a;
    pg_arena_init(&arena, XDS_RESOURCE_BUDGET);
    int r = xds_address_decode(bytes, &arena, &a, why);
    if (r == 0) {
        r = a.kind == XDS_ADDRESS_WORKLOAD ? put_workload(t, &a.u.workload, name, from, why)
                                           : put_service(t, &a.u.service, name, &arena, from, why);
    }
    pg_arena_fini(&arena);
    return r;
}

/* A policy that was not understood is kept under the name it was sent with, to deny. */
static int put_policy(peering_table *t, struct pg_str name, struct pg_str bytes, const struct origin *from,
                      struct pg_errtext *why)
{
    struct pg_arena arena;
    struct xds_policy p = {.name = PG_STR_NONE};
    struct pg_str key;
    peering_policy *rec;
    pg_arena_init(&arena, XDS_RESOURCE_BUDGET);
    int bad = xds_policy_decode(bytes, &arena, &p, why);
    int r = bad == PG_E_PARSE || bad == PG_E_LIMIT ? 0 : bad;
    if (r == 0) {
        r = join_key(p.ns, p.name, &arena, &key);
    }
    if (r == 0 && bad == 0) {
        bad = check_name(name, key, why);
    }
    if (r < 0) {
        pg_arena_fini(&arena);
        return r;
    }
    if (bad < 0) {
        p.unparsable = true;
        if (name.len != 0 && name.len <= TABLE_NAME_MAX) {
            key = name;
        }
    }
    r = rec_policy_make(&arena, &p, key, &rec);
    if (r == 0) {
        r = set_store(t, REC_POLICY, &rec->head, from);
    }
    return r < 0 ? r : bad;
}

/* Same name, same bytes: nothing to do. */
static bool is_unchanged(const peering_table *t, enum peering_kind kind, struct pg_str name,
                         const struct origin *from)
{
    for (size_t i = 0; i < PG_ARRAY_LEN(t->sets); i++) {
        bool is_policy = i == REC_POLICY;
        const struct entry *e =
            is_policy == (kind == PEERING_KIND_AUTHORIZATION) ? pg_map_get(&t->sets[i].by_key, name) : NULL;
        if (e != NULL && e->rec->digest == from->digest && e->rec->wire_len == from->len) {
            return !is_policy || !((const peering_policy *)(const void *)e->rec)->p.unparsable;
        }
    }
    return false;
}

int peering_table_put(peering_table *t, enum peering_kind kind, peering_str name, const void *bytes,
                      size_t len, peering_text *why)
{
    struct pg_errtext *text = text_in(why);
    /* The decoder refuses too; a policy must get that far, to be kept as one that denies. */
    if (len > XDS_RESOURCE_MAX && kind == PEERING_KIND_ADDRESS) {
        pg_err_set(text, "%zu bytes exceed the limit of %u for one resource", len, XDS_RESOURCE_MAX);
        return PG_E_LIMIT;
    }
    const struct origin from = {.digest = pg_digest64(len != 0 ? bytes : "", len), .len = len};
    if (is_unchanged(t, kind, str_in(name), &from)) {
        return 0;
    }
    struct pg_str wire = pg_str_n(bytes, len);
    int r = kind == PEERING_KIND_AUTHORIZATION ? put_policy(t, str_in(name), wire, &from, text)
                                               : put_address(t, str_in(name), wire, &from, text);
    if (r == PG_E_NOMEM) {
        pg_err_set(text, "out of memory");
    } else if (r == PG_E_LIMIT && why != NULL && why->text[0] == '\0') {
        pg_err_set(text, "the table is full");
    }
    return r;
}

int peering_table_remove(peering_table *t, enum peering_kind kind, peering_str name)
{
    struct pg_str key = str_in(name);
    bool found = kind == PEERING_KIND_AUTHORIZATION
                     ? set_remove(&t->sets[REC_POLICY], key)
                     : set_remove(&t->sets[REC_WORKLOAD], key) || set_remove(&t->sets[REC_SERVICE], key);
    t->dirty = t->dirty || found;
    return found ? 0 : PG_E_NOTFOUND;
}

/* The records of a swept set, in order. */
static int set_records(struct rec_set *s, void ***out)
{
    int r = set_sweep(s);
    void **all = r == 0 ? pg_calloc(s->n_order + 1, sizeof(void *)) : NULL;
    if (all == NULL) {
        return PG_E_NOMEM;
    }
    for (size_t i = 0; i < s->n_order; i++) {
        all[i] = s->order[i]->rec;
    }
    *out = all;
    return 0;
}

static int build(peering_table *t, peering_snapshot **out)
{
    struct snapshot_input in = {.n = {0}};
    int r = 0;
    for (size_t i = 0; r == 0 && i < PG_ARRAY_LEN(t->sets); i++) {
        r = set_records(&t->sets[i], &in.records[i]);
        in.n[i] = t->sets[i].n_order;
    }
    if (r == 0) {
        t->generation++;
        r = snapshot_build(&in, t->generation, out);
    }
    for (size_t i = 0; i < PG_ARRAY_LEN(in.records); i++) {
        pg_free(in.records[i]);
    }
    return r;
}

int peering_table_snapshot(peering_table *t, peering_snapshot **out)
{
    if (t->dirty || t->last == NULL) {
        peering_snapshot *s = NULL;
        int r = build(t, &s);
        if (r < 0) {
            return r;
        }
        peering_snapshot_unref(t->last);
        t->last = s;
        t->dirty = false;
        shared_sweep(t);
    }
    *out = peering_snapshot_ref(t->last);
    return 0;
}
