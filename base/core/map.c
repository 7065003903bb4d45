/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Open-addressing table with linear probing and tombstones. Invariants: live + dead slots stay under
 * three quarters, so every probe ends at a free slot; a failed insert changes nothing; deletion never
 * moves entries, so an iteration survives it. One thread at a time.
 */
#include "core/map.h"

#define MIN_SLOTS 8
#define HASH_FREE 0 /* in a slot without value: never used since the last rehash */
#define HASH_DEAD 1 /* in a slot without value: deleted */

void pg_map_init(struct pg_map *m, size_t max)
{
    *m = (struct pg_map){.max = max};
}

void pg_map_fini(struct pg_map *m)
{
    pg_free(m->slots);
    *m = (struct pg_map){.max = m->max};
}

static struct pg_map_entry *find(const struct pg_map *m, struct pg_str key, uint64_t hash)
{
    if (m->len == 0) {
        return NULL;
    }
    for (size_t i = hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        struct pg_map_entry *e = &m->slots[i];
        if (e->value == NULL) {
            if (e->hash == HASH_FREE) {
                return NULL;
            }
        } else if (e->hash == hash && pg_str_eq(e->key, key)) {
            return e;
        }
    }
}

void *pg_map_get(const struct pg_map *m, struct pg_str key)
{
    if (m->len == 0) {
        return NULL;
    }
    const struct pg_map_entry *e = find(m, key, pg_hash(key.p, key.len));
    return e != NULL ? e->value : NULL;
}

/* First slot without value on the probe path. */
static struct pg_map_entry *open_slot(struct pg_map_entry *slots, size_t cap, uint64_t hash)
{
    size_t i = hash & (cap - 1);
    while (slots[i].value != NULL) {
        i = (i + 1) & (cap - 1);
    }
    return &slots[i];
}

/* New slots, at most half full with one more entry: grows, shrinks or just clears tombstones. */
static int rehash(struct pg_map *m)
{
    size_t cap = MIN_SLOTS;
    while (cap / 2 < m->len + 1) {
        if (cap > SIZE_MAX / 2) {
            return PG_E_LIMIT;
        }
        cap *= 2;
    }
    struct pg_map_entry *slots = pg_calloc(cap, sizeof(*slots));
    if (slots == NULL) {
        return PG_E_NOMEM;
    }
    for (size_t i = 0; i < m->cap; i++) {
        if (m->slots[i].value != NULL) {
            *open_slot(slots, cap, m->slots[i].hash) = m->slots[i];
        }
    }
    pg_free(m->slots);
    m->slots = slots;
    m->cap = cap;
    m->dead = 0;
    return 0;
}

int pg_map_set(struct pg_map *m, struct pg_str key, void *value, void **old)
{
    PG_BUG_ON(value == NULL);
    uint64_t hash = pg_hash(key.p, key.len);
    struct pg_map_entry *e = find(m, key, hash);
    void *replaced = NULL;
    if (e != NULL) {
        replaced = e->value;
    } else {
        if (m->len >= m->max) {
            return PG_E_LIMIT;
        }
        if (m->len + m->dead + 1 > m->cap / 4 * 3) {
            int r = rehash(m);
            if (r < 0) {
                return r;
            }
        }
        e = open_slot(m->slots, m->cap, hash);
        if (e->hash == HASH_DEAD) {
            m->dead--;
        }
        m->len++;
    }
    /* The old key slice may die with the old value. */
    *e = (struct pg_map_entry){.key = key, .value = value, .hash = hash};
    if (old != NULL) {
        *old = replaced;
    }
    return 0;
}

void *pg_map_del(struct pg_map *m, struct pg_str key)
{
    if (m->len == 0) {
        return NULL;
    }
    struct pg_map_entry *e = find(m, key, pg_hash(key.p, key.len));
    if (e == NULL) {
        return NULL;
    }
    void *value = e->value;
    size_t next = ((size_t)(e - m->slots) + 1) & (m->cap - 1);
    /* Nothing can lie beyond a free slot, so no tombstone is needed before one. */
    bool end = m->slots[next].value == NULL && m->slots[next].hash == HASH_FREE;
    *e = (struct pg_map_entry){.hash = end ? HASH_FREE : HASH_DEAD};
    m->dead += end ? 0 : 1;
    m->len--;
    return value;
}

bool pg_map_next(const struct pg_map *m, size_t *it, struct pg_str *key, void **value)
{
    for (; *it < m->cap; (*it)++) {
        const struct pg_map_entry *e = &m->slots[*it];
        if (e->value != NULL) {
            if (key != NULL) {
                *key = e->key;
            }
            if (value != NULL) {
                *value = e->value;
            }
            (*it)++;
            return true;
        }
    }
    return false;
}
