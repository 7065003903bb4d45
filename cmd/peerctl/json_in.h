/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading JSON answers. A node is borrowed from its document. Every reader takes NULL and a node of another
 * kind and answers with the empty value, so that a missing field is never a crash. One thread.
 */
#ifndef ISTHMUS_PEERCTL_JSON_IN_H
#define ISTHMUS_PEERCTL_JSON_IN_H

#include "core/str.h"

struct json_node; /* opaque; const borrowed */

/* An object or array; duplicate keys are refused. PG_E_PARSE with the place, PG_E_NOMEM. */
int json_in_parse(struct pg_str text, struct json_node **out, struct pg_errtext *err) PG_MUST_CHECK;
void json_in_free(struct json_node *doc); /* the root only; NULL is fine */
const struct json_node *json_in_get(const struct json_node *o, const char *key);
size_t json_in_len(const struct json_node *a); /* of an array */
const struct json_node *json_in_at(const struct json_node *a, size_t i);
const char *json_in_text(const struct json_node *o, const char *key); /* "" when it is no string */
const char *json_in_string(const struct json_node *s);                /* the same for the node itself */
uint64_t json_in_u64(const struct json_node *o, const char *key);
bool json_in_true(const struct json_node *o, const char *key);
/* Appends the node as JSON text, one line. */
void json_in_dump(const struct json_node *n, struct pg_sb *out);

#endif
