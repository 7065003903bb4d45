/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Typed reading of a YAML tree with one sticky error: after the first failure every call is a no-op that
 * yields nothing, so an object is read straight down and checked once. Texts are copied into the reader's
 * arena. Control thread.
 */
#ifndef ISTHMUS_PEERING_MANIFEST_READ_H
#define ISTHMUS_PEERING_MANIFEST_READ_H

#include "core/addr.h"
#include "yaml_doc.h"

struct obj_kv {
    struct pg_str key, value;
};
struct obj_kvs {
    struct obj_kv *kv;
    size_t n;
};

struct reader {
    struct pg_arena *arena; /* receives what is kept */
    struct pg_errtext *err; /* why, for a human */
    unsigned line;          /* where */
    int code;               /* 0 or the first error: PG_E_PARSE, PG_E_LIMIT, PG_E_NOMEM */
};

/* Records a failure at `n` (NULL: the line stays); only the first counts. */
void rd_fail(struct reader *r, const struct yaml_node *n, const char *fmt, ...) PG_PRINTF(3, 4);
void rd_nomem(struct reader *r);
/* Zeroed array in the arena; NULL for count 0 and on failure. */
void *rd_array(struct reader *r, size_t count, size_t size);
struct pg_str rd_copy(struct reader *r, struct pg_str s);

/* In all of these, `in` names the place for the message ("spec.ports[]"); absent and null read as the
 * default. */
struct pg_str rd_str(struct reader *r, const struct yaml_node *map, const char *in, const char *key);
struct pg_str rd_scalar(struct reader *r, const struct yaml_node *n,
                        const char *in); /* the node itself must be a string */
bool rd_bool(struct reader *r, const struct yaml_node *map, const char *in, const char *key);
uint32_t rd_uint(struct reader *r, const struct yaml_node *map, const char *in, const char *key, uint32_t min,
                 uint32_t max, uint32_t absent);
struct pg_ip rd_ip(struct reader *r, const struct yaml_node *n, const char *in); /* the node itself */
const struct yaml_node *rd_map(struct reader *r, const struct yaml_node *map, const char *in,
                               const char *key);
const struct yaml_node *rd_seq(struct reader *r, const struct yaml_node *map, const char *in,
                               const char *key);
/* Each element must be a map; for loops: for (n = rd_first(..); n; n = n->next). */
bool rd_is_map(struct reader *r, const struct yaml_node *n, const char *in);
void rd_kvs(struct reader *r, const struct yaml_node *map, const char *in, const char *key,
            struct obj_kvs *out);

/* Value of a key, empty when absent. */
struct pg_str kvs_get(const struct obj_kvs *kvs, const char *key);
bool kvs_has(const struct obj_kvs *kvs, const char *key);
/* True when every pair of `selector` is in `labels` (an empty selector matches everything). */
bool kvs_match(const struct obj_kvs *selector, const struct obj_kvs *labels);

#endif
