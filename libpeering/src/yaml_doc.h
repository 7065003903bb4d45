/* SPDX-License-Identifier: Apache-2.0 */
/*
 * YAML text as a small tree that remembers lines. What a manifest does not need is refused rather than
 * understood: anchors, aliases, explicit tags, keys that are not scalars, the same key twice. So the size of
 * the tree is bounded by the size of the text. Control thread.
 */
#ifndef ISTHMUS_PEERING_YAML_DOC_H
#define ISTHMUS_PEERING_YAML_DOC_H

#include "core/str.h"

#define YAML_DEPTH_MAX 32u         /* nesting of maps and lists */
#define YAML_NODES_MAX 4000000u    /* nodes in one text */
#define YAML_KEYS_MAX 1024u        /* keys in one map: looking for duplicates is quadratic */
#define YAML_SCALAR_MAX (1u << 20) /* bytes of one scalar */

enum yaml_kind { YAML_SCALAR, YAML_MAP, YAML_SEQ };
struct yaml_node {
    enum yaml_kind kind;
    bool quoted;                    /* scalar in quotes or a block: always a string */
    unsigned line;                  /* 1-based, where the value starts */
    struct pg_str key;              /* when inside a map */
    struct pg_str value;            /* scalar; NUL-terminated */
    struct yaml_node *first, *last; /* children of a map or list */
    struct yaml_node *next;         /* sibling, or the next document */
    size_t n;                       /* children */
};

/* Parses all documents of `text` (UTF-8) into `arena`; *out is the first root, the others follow by `next`
 * (empty documents are left out; NULL: none at all). PG_E_PARSE with the reason in `err` and its place in
 * *line; PG_E_LIMIT likewise; PG_E_NOMEM. */
int yaml_parse(struct pg_str text, struct pg_arena *arena, const struct yaml_node **out, unsigned *line,
               struct pg_errtext *err) PG_MUST_CHECK;
/* The value under `key`, NULL when absent or `map` is NULL or not a map. */
const struct yaml_node *yaml_get(const struct yaml_node *map, const char *key);
/* How an unquoted scalar reads (YAML 1.1 as Kubernetes reads it). */
bool yaml_is_null(const struct yaml_node *n);
bool yaml_is_bool(const struct yaml_node *n, bool *value); /* `value` may be NULL */
bool yaml_is_number(const struct yaml_node *n);
/* A scalar that is none of these. */
bool yaml_is_string(const struct yaml_node *n);

#endif
