/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Open-addressing hash table from a byte-string key to a pointer, keyed with SipHash-2-4 under a random
 * process key because keys come from peers. The table does not copy keys: the key slice must live as
 * long as the entry (usually it points into the value). One thread at a time; lookups are read-only.
 */
#ifndef ISTHMUS_CORE_MAP_H
#define ISTHMUS_CORE_MAP_H

#include "core/str.h"

struct pg_map_entry {
    struct pg_str key;
    void *value; /* NULL: free or deleted slot */
    uint64_t hash;
};
struct pg_map {
    struct pg_map_entry *slots;
    size_t cap; /* power of two or 0 */
    size_t len; /* live entries */
    size_t dead;
    size_t max; /* live entries it may hold */
};
void pg_map_init(struct pg_map *m, size_t max);
void pg_map_fini(struct pg_map *m); /* frees the slots, not the values */
void *pg_map_get(const struct pg_map *m, struct pg_str key);
/* Inserts or replaces (value and key slice); `*old` (may be NULL) receives the replaced value or NULL.
 * `value` must not be NULL. 0, PG_E_NOMEM, PG_E_LIMIT; unchanged on failure. */
int pg_map_set(struct pg_map *m, struct pg_str key, void *value, void **old) PG_MUST_CHECK;
/* Removes and returns the value, or NULL. Never allocates. */
void *pg_map_del(struct pg_map *m, struct pg_str key);
/* Iteration: `*it` starts at 0; returns false at the end. Deleting the entry just returned is allowed;
 * inserting is not. Order is arbitrary. */
bool pg_map_next(const struct pg_map *m, size_t *it, struct pg_str *key, void **value);
/* SipHash-2-4 under the process key (random at first use). */
uint64_t pg_hash(const void *p, size_t len);
/* The same under a given key, for tests and published vectors. */
uint64_t pg_siphash(const uint8_t key[16], const void *p, size_t len);
/* 64-bit digest for versions: same input, same output in every process and release (xxHash64, seed 0). */
uint64_t pg_digest64(const void *p, size_t len);

#endif
