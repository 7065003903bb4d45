/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only place of peerctl that sees jansson: answers of control planes are parsed here, strictly. One
 * thread.
 */
#include "json_in.h"

#include <jansson.h>

static const json_t *as_json(const struct json_node *n)
{
    return (const json_t *)(const void *)n;
}

static const struct json_node *as_node(const json_t *j)
{
    return (const struct json_node *)(const void *)j;
}

int json_in_parse(struct pg_str text, struct json_node **out, struct pg_errtext *err)
{
    json_error_t why;
    json_t *j = json_loadb(text.len > 0 ? text.p : "", text.len, JSON_REJECT_DUPLICATES, &why);
    if (j == NULL) {
        bool nomem = json_error_code(&why) == json_error_out_of_memory;
        pg_err_set(err, "line %d column %d: %s", why.line, why.column, why.text);
        return nomem ? PG_E_NOMEM : PG_E_PARSE;
    }
    *out = (struct json_node *)(void *)j;
    return 0;
}

void json_in_free(struct json_node *doc)
{
    json_decref((json_t *)(void *)doc);
}

const struct json_node *json_in_get(const struct json_node *o, const char *key)
{
    return as_node(json_object_get(as_json(o), key));
}

size_t json_in_len(const struct json_node *a)
{
    return json_array_size(as_json(a));
}

const struct json_node *json_in_at(const struct json_node *a, size_t i)
{
    return as_node(json_array_get(as_json(a), i));
}

const char *json_in_string(const struct json_node *s)
{
    const char *z = json_string_value(as_json(s));
    return z != NULL ? z : "";
}

const char *json_in_text(const struct json_node *o, const char *key)
{
    return json_in_string(json_in_get(o, key));
}

uint64_t json_in_u64(const struct json_node *o, const char *key)
{
    json_int_t n = json_integer_value(as_json(json_in_get(o, key)));
    return n > 0 ? (uint64_t)n : 0;
}

bool json_in_true(const struct json_node *o, const char *key)
{
    return json_is_true(as_json(json_in_get(o, key)));
}

static int append(const char *p, size_t len, void *arg)
{
    struct pg_sb *out = arg;
    pg_sb_add(out, p, len);
    return out->err == 0 ? 0 : -1;
}

void json_in_dump(const struct json_node *n, struct pg_sb *out)
{
    if (json_dump_callback(as_json(n), append, out, JSON_COMPACT | JSON_ENCODE_ANY) != 0 && out->err == 0) {
        pg_sb_c(out, "null");
    }
}
