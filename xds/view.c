/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Views: sets of encoded resources with content versions. Invariants: a failed call changes nothing; every
 * live entry is in its type's map, its change list and under each of its aliases; the digest is the sum over
 * live entries, so it does not depend on the order of calls. Control thread.
 */
#include "xds/view_int.h"

#include <stdio.h>
#include <stdlib.h>

int xds_view_new(size_t max_resources, struct xds_view **out)
{
    struct xds_view *v = pg_calloc(1, sizeof(*v));
    if (v == NULL) {
        return PG_E_NOMEM;
    }
    v->max = max_resources;
    pg_list_init(&v->tombstones);
    pg_list_init(&v->watches);
    *out = v;
    return 0;
}

static char *put_text(char *at, struct pg_str s)
{
    if (s.len != 0) {
        memcpy(at, s.p, s.len);
    }
    return at + s.len;
}

static void entry_free(struct xds_entry *e)
{
    pg_list_remove(&e->change);
    pg_list_remove(&e->grave);
    pg_free((void *)(uintptr_t)e->bytes.p);
    pg_free(e->aliases);
    pg_free(e);
}

static void alias_free(struct xds_alias *a)
{
    pg_free(a->entries);
    pg_free(a);
}

static void type_free(struct xds_view_type *t)
{
    size_t it = 0;
    void *value;
    while (pg_map_next(&t->aliases, &it, NULL, &value)) {
        alias_free(value);
    }
    it = 0;
    while (pg_map_next(&t->entries, &it, NULL, &value)) {
        entry_free(value);
    }
    pg_map_fini(&t->aliases);
    pg_map_fini(&t->entries);
    pg_free(t->url);
}

void xds_view_free(struct xds_view *v)
{
    if (v == NULL) {
        return;
    }
    for (size_t i = 0; i < v->n_types; i++) {
        type_free(&v->types[i]);
    }
    pg_free(v);
}

struct xds_view_type *xds_view_find_type(const struct xds_view *v, struct pg_str url)
{
    for (size_t i = 0; i < v->n_types; i++) {
        if (pg_str_eq_c(url, v->types[i].url)) {
            /* The view is the caller's; const says only that the lookup changes nothing. */
            return (struct xds_view_type *)(uintptr_t)&v->types[i];
        }
    }
    return NULL;
}

static int type_for(struct xds_view *v, const char *url, struct xds_view_type **out)
{
    struct xds_view_type *t = xds_view_find_type(v, pg_str_c(url));
    if (t != NULL) {
        *out = t;
        return 0;
    }
    if (v->n_types == XDS_VIEW_TYPES_MAX) {
        return PG_E_LIMIT;
    }
    t = &v->types[v->n_types];
    char *copy = pg_strdup(url);
    if (copy == NULL) {
        return PG_E_NOMEM;
    }
    *t = (struct xds_view_type){.url = copy};
    pg_map_init(&t->entries, v->max + XDS_VIEW_TOMBSTONES);
    pg_map_init(&t->aliases, SIZE_MAX / 2); /* bounded by the entries and XDS_ALIASES_MAX */
    pg_list_init(&t->changes);
    v->n_types++;
    *out = t;
    return 0;
}

/* --- aliases
 * --------------------------------------------------------------------------------------------------- */

static void alias_drop(struct xds_view_type *t, struct pg_str key, const struct xds_entry *e)
{
    struct xds_alias *a = pg_map_get(&t->aliases, key);
    for (size_t i = 0; a != NULL && i < a->n; i++) {
        if (a->entries[i] == e) {
            a->entries[i] = a->entries[--a->n];
            break;
        }
    }
    if (a != NULL && a->n == 0) {
        (void)pg_map_del(&t->aliases, a->key);
        alias_free(a);
    }
}

static void aliases_drop(struct xds_view_type *t, const struct xds_entry *e, const struct pg_str *aliases,
                         size_t n)
{
    for (size_t i = 0; i < n; i++) {
        alias_drop(t, aliases[i], e);
    }
}

static int alias_add(struct xds_view_type *t, struct pg_str key, struct xds_entry *e)
{
    struct xds_alias *a = pg_map_get(&t->aliases, key);
    int r = 0;
    if (a == NULL) {
        a = pg_calloc(1, sizeof(*a) + key.len);
        if (a == NULL) {
            return PG_E_NOMEM;
        }
        (void)put_text((char *)(a + 1), key);
        a->key = pg_str_n((const char *)(a + 1), key.len);
        r = pg_map_set(&t->aliases, a->key, a, NULL);
        if (r < 0) {
            alias_free(a);
            return r;
        }
    }
    r = pg_vec_grow(&a->entries, &a->cap, a->n + 1, sizeof(struct xds_entry *), SIZE_MAX / sizeof(void *));
    if (r == 0) {
        a->entries[a->n++] = e;
    } else if (a->n == 0) {
        (void)pg_map_del(&t->aliases, a->key);
        alias_free(a);
    }
    return r;
}

/* All or nothing. */
static int aliases_add(struct xds_view_type *t, struct xds_entry *e, const struct pg_str *aliases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int r = alias_add(t, aliases[i], e);
        if (r < 0) {
            aliases_drop(t, e, aliases, i);
            return r;
        }
    }
    return 0;
}

static bool same_aliases(const struct xds_entry *e, const struct pg_str *aliases, size_t n)
{
    if (e->n_aliases != n) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!pg_str_eq(e->aliases[i], aliases[i])) {
            return false;
        }
    }
    return true;
}

/* Array and texts in one block; *out NULL when there are none. */
static int aliases_copy(const struct pg_str *aliases, size_t n, struct pg_str **out)
{
    *out = NULL;
    if (n == 0) {
        return 0;
    }
    if (n > XDS_ALIASES_MAX) {
        return PG_E_LIMIT;
    }
    size_t size = n * sizeof(*aliases);
    for (size_t i = 0; i < n; i++) {
        size += aliases[i].len;
    }
    struct pg_str *copy = pg_malloc(size);
    if (copy == NULL) {
        return PG_E_NOMEM;
    }
    char *text = (char *)(copy + n);
    for (size_t i = 0; i < n; i++) {
        copy[i] = pg_str_n(text, aliases[i].len);
        text = put_text(text, aliases[i]);
    }
    *out = copy;
    return 0;
}

/* --- changes
 * --------------------------------------------------------------------------------------------------- */

static uint64_t digest_of(const struct xds_entry *e)
{
    struct {
        uint64_t type, name, version;
    } parts = {pg_digest64(e->type->url, strlen(e->type->url)), pg_digest64(e->name.p, e->name.len),
               pg_digest64(e->version, XDS_VERSION_LEN)};
    return pg_digest64(&parts, sizeof(parts));
}

static void touched(struct xds_view *v, struct xds_entry *e)
{
    struct xds_view_type *t = e->type;
    pg_list_remove(&e->change);
    pg_list_push_back(&t->changes, &e->change);
    e->generation = v->generation + 1;
    t->generation = e->generation;
    v->dirty = true;
}

static void raise(struct xds_view *v, struct xds_entry *e)
{
    if (e->live) {
        return;
    }
    e->live = true;
    e->type->live++;
    v->live++;
    if (pg_list_is_linked(&e->grave)) {
        pg_list_remove(&e->grave);
        v->n_tombstones--;
    }
}

static struct xds_entry *entry_new(struct xds_view_type *t, struct pg_str name)
{
    struct xds_entry *e = pg_calloc(1, sizeof(*e) + name.len);
    if (e == NULL) {
        return NULL;
    }
    (void)put_text((char *)(e + 1), name);
    e->name = pg_str_n((const char *)(e + 1), name.len);
    e->type = t;
    if (pg_map_set(&t->entries, e->name, e, NULL) < 0) {
        pg_free(e);
        return NULL;
    }
    return e;
}

/* Puts prepared content into the entry; cannot fail. */
static void fill(struct xds_view *v, struct xds_entry *e, struct pg_str bytes, struct pg_str *aliases,
                 size_t n)
{
    if (e->live) {
        v->digest -= e->digest;
        aliases_drop(e->type, e, e->aliases, e->n_aliases);
    }
    pg_free((void *)(uintptr_t)e->bytes.p);
    pg_free(e->aliases);
    e->bytes = bytes;
    e->aliases = aliases;
    e->n_aliases = n;
    (void)snprintf(e->version, sizeof(e->version), "%016llx",
                   (unsigned long long)pg_digest64(bytes.p, bytes.len));
    e->digest = digest_of(e);
    v->digest += e->digest;
    raise(v, e);
    touched(v, e);
}

int xds_view_set(struct xds_view *v, const char *type_url, struct pg_str name, struct pg_str bytes,
                 const struct pg_str *aliases, size_t n_aliases)
{
    struct xds_view_type *t = NULL;
    int r = type_for(v, type_url, &t);
    if (r < 0) {
        return r;
    }
    struct xds_entry *e = pg_map_get(&t->entries, name);
    bool live = e != NULL && e->live;
    if (live && pg_str_eq(e->bytes, bytes) && same_aliases(e, aliases, n_aliases)) {
        return 0;
    }
    if (!live && v->live >= v->max) {
        return PG_E_LIMIT;
    }
    struct pg_str *alias_copy = NULL;
    r = aliases_copy(aliases, n_aliases, &alias_copy);
    char *copy = r == 0 ? pg_memdup(bytes.p, bytes.len) : NULL;
    bool fresh = e == NULL;
    if (copy != NULL && fresh) {
        e = entry_new(t, name);
    }
    if (r == 0 && (copy == NULL || e == NULL)) {
        r = PG_E_NOMEM;
    }
    if (r == 0) {
        r = aliases_add(t, e, alias_copy, n_aliases);
    }
    if (r < 0) {
        if (fresh && e != NULL) {
            (void)pg_map_del(&t->entries, e->name);
            entry_free(e);
        }
        pg_free(copy);
        pg_free(alias_copy);
        return r;
    }
    fill(v, e, pg_str_n(copy, bytes.len), alias_copy, n_aliases);
    return 1;
}

static void forget_oldest(struct xds_view *v)
{
    struct xds_entry *e = PG_CONTAINER_OF(v->tombstones.next, struct xds_entry, grave);
    v->forgotten = e->generation;
    v->n_tombstones--;
    (void)pg_map_del(&e->type->entries, e->name);
    entry_free(e);
}

int xds_view_del(struct xds_view *v, const char *type_url, struct pg_str name)
{
    struct xds_view_type *t = xds_view_find_type(v, pg_str_c(type_url));
    struct xds_entry *e = t != NULL ? pg_map_get(&t->entries, name) : NULL;
    if (e == NULL || !e->live) {
        return 0;
    }
    v->digest -= e->digest;
    aliases_drop(t, e, e->aliases, e->n_aliases);
    pg_free((void *)(uintptr_t)e->bytes.p);
    pg_free(e->aliases);
    e->bytes = PG_STR_NONE;
    e->aliases = NULL;
    e->n_aliases = 0;
    e->live = false;
    t->live--;
    v->live--;
    touched(v, e);
    pg_list_push_back(&v->tombstones, &e->grave);
    v->n_tombstones++;
    if (v->n_tombstones > XDS_VIEW_TOMBSTONES) {
        forget_oldest(v);
    }
    return 1;
}

void xds_view_commit(struct xds_view *v)
{
    if (!v->dirty) {
        return;
    }
    v->dirty = false;
    v->generation++;
    PG_LIST_FOREACH(&v->watches, n)
    {
        struct xds_view_watch *w = PG_CONTAINER_OF(n, struct xds_view_watch, node);
        w->changed(w);
    }
}

uint64_t xds_view_generation(const struct xds_view *v)
{
    return v->generation;
}

size_t xds_view_count(const struct xds_view *v, const char *type_url)
{
    const struct xds_view_type *t = xds_view_find_type(v, pg_str_c(type_url));
    return t != NULL ? t->live : 0;
}

uint64_t xds_view_digest(const struct xds_view *v)
{
    return v->digest;
}

static int by_name(const void *a, const void *b)
{
    const struct xds_entry *x = *(const struct xds_entry *const *)a;
    const struct xds_entry *y = *(const struct xds_entry *const *)b;
    return pg_str_cmp(x->name, y->name);
}

int xds_view_each(const struct xds_view *v, const char *type_url,
                  void (*fn)(void *arg, struct pg_str name, struct pg_str version, struct pg_str bytes),
                  void *arg)
{
    const struct xds_view_type *t = xds_view_find_type(v, pg_str_c(type_url));
    if (t == NULL || t->live == 0) {
        return 0;
    }
    struct xds_entry **all = pg_calloc(t->live, sizeof(struct xds_entry *));
    if (all == NULL) {
        return PG_E_NOMEM;
    }
    size_t n = 0;
    size_t it = 0;
    void *value;
    while (pg_map_next(&t->entries, &it, NULL, &value)) {
        struct xds_entry *e = value;
        if (e->live) {
            all[n++] = e;
        }
    }
    qsort(all, n, sizeof(struct xds_entry *), by_name);
    for (size_t i = 0; i < n; i++) {
        fn(arg, all[i]->name, pg_str_n(all[i]->version, XDS_VERSION_LEN), all[i]->bytes);
    }
    pg_free(all);
    return 0;
}

void xds_view_watch_add(struct xds_view *v, struct xds_view_watch *w)
{
    pg_list_push_back(&v->watches, &w->node);
}

void xds_view_watch_remove(struct xds_view_watch *w)
{
    pg_list_remove(&w->node);
}
