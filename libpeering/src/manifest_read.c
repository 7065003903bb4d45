/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Typed reading of YAML nodes. The messages are for the person who wrote the file: they name the field and
 * what it should be. Control thread.
 */
#include "manifest_read.h"

#include <stdio.h>

void rd_fail(struct reader *r, const struct yaml_node *n, const char *fmt, ...)
{
    if (r->code != 0) {
        return;
    }
    char text[sizeof(r->err->text)];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    pg_err_set(r->err, "%s", text);
    r->code = PG_E_PARSE;
    if (n != NULL) {
        r->line = n->line;
    }
}

void rd_nomem(struct reader *r)
{
    if (r->code == 0) {
        r->code = PG_E_NOMEM;
    }
}

void *rd_array(struct reader *r, size_t count, size_t size)
{
    if (r->code != 0 || count == 0) {
        return NULL;
    }
    void *p = pg_arena_calloc(r->arena, count, size);
    if (p == NULL) {
        rd_nomem(r);
    }
    return p;
}

struct pg_str rd_copy(struct reader *r, struct pg_str s)
{
    if (r->code != 0 || s.len == 0) {
        return PG_STR_NONE;
    }
    const char *p = pg_arena_strndup(r->arena, s.p, s.len);
    if (p == NULL) {
        rd_nomem(r);
        return PG_STR_NONE;
    }
    return pg_str_n(p, s.len);
}

/* The present, non-null value of a key, or NULL. */
static const struct yaml_node *present(struct reader *r, const struct yaml_node *map, const char *key)
{
    const struct yaml_node *n = r->code == 0 ? yaml_get(map, key) : NULL;
    return n != NULL && !yaml_is_null(n) ? n : NULL;
}

static const char *hint(const struct yaml_node *n)
{
    return n->kind == YAML_SCALAR ? ", put it in quotes" : "";
}

struct pg_str rd_scalar(struct reader *r, const struct yaml_node *n, const char *in)
{
    if (r->code != 0) {
        return PG_STR_NONE;
    }
    if (!yaml_is_string(n)) {
        rd_fail(r, n, "%s must be a string%s", in, hint(n));
        return PG_STR_NONE;
    }
    return rd_copy(r, n->value);
}

struct pg_str rd_str(struct reader *r, const struct yaml_node *map, const char *in, const char *key)
{
    const struct yaml_node *n = present(r, map, key);
    if (n == NULL) {
        return PG_STR_NONE;
    }
    if (!yaml_is_string(n)) {
        rd_fail(r, n, "%s.%s must be a string%s", in, key, hint(n));
        return PG_STR_NONE;
    }
    return rd_copy(r, n->value);
}

bool rd_bool(struct reader *r, const struct yaml_node *map, const char *in, const char *key)
{
    const struct yaml_node *n = present(r, map, key);
    bool v = false;
    if (n != NULL && !yaml_is_bool(n, &v)) {
        rd_fail(r, n, "%s.%s must be true or false", in, key);
    }
    return v;
}

uint32_t rd_uint(struct reader *r, const struct yaml_node *map, const char *in, const char *key, uint32_t min,
                 uint32_t max, uint32_t absent)
{
    const struct yaml_node *n = present(r, map, key);
    if (n == NULL) {
        return absent;
    }
    uint64_t v = 0;
    if (n->kind != YAML_SCALAR || n->quoted || pg_str_u64(n->value, max, &v) < 0 || v < min) {
        rd_fail(r, n, "%s.%s must be a number from %u to %u", in, key, min, max);
        return absent;
    }
    return (uint32_t)v;
}

struct pg_ip rd_ip(struct reader *r, const struct yaml_node *n, const char *in)
{
    struct pg_ip ip = {0};
    if (r->code != 0) {
        return ip;
    }
    if (n->kind != YAML_SCALAR || pg_ip_parse(n->value, &ip) < 0) {
        struct pg_str v = n->kind == YAML_SCALAR ? n->value : PG_STR("this");
        rd_fail(r, n, "%s: \"%.*s\" is not an IP address", in, (int)(v.len > 80 ? 80 : v.len), v.p);
    }
    return ip;
}

const struct yaml_node *rd_map(struct reader *r, const struct yaml_node *map, const char *in, const char *key)
{
    const struct yaml_node *n = present(r, map, key);
    if (n != NULL && n->kind != YAML_MAP) {
        rd_fail(r, n, "%s%s%s must be a map", in, *in ? "." : "", key);
        return NULL;
    }
    return n;
}

const struct yaml_node *rd_seq(struct reader *r, const struct yaml_node *map, const char *in, const char *key)
{
    const struct yaml_node *n = present(r, map, key);
    if (n != NULL && n->kind != YAML_SEQ) {
        rd_fail(r, n, "%s%s%s must be a list", in, *in ? "." : "", key);
        return NULL;
    }
    return n;
}

bool rd_is_map(struct reader *r, const struct yaml_node *n, const char *in)
{
    if (r->code == 0 && n->kind != YAML_MAP) {
        rd_fail(r, n, "%s must be a map", in);
    }
    return r->code == 0;
}

void rd_kvs(struct reader *r, const struct yaml_node *map, const char *in, const char *key,
            struct obj_kvs *out)
{
    const struct yaml_node *n = rd_map(r, map, in, key);
    struct obj_kv *kv = n != NULL ? rd_array(r, n->n, sizeof(*kv)) : NULL;
    if (kv == NULL) {
        return;
    }
    size_t i = 0;
    for (const struct yaml_node *c = n->first; c != NULL && r->code == 0; c = c->next, i++) {
        if (!yaml_is_string(c) && !yaml_is_null(c)) {
            rd_fail(r, c, "%s.%s: the value of \"%.80s\" must be a string%s", in, key, c->key.p, hint(c));
        }
        kv[i].key = rd_copy(r, c->key);
        kv[i].value = yaml_is_null(c) ? PG_STR_NONE : rd_copy(r, c->value);
    }
    out->kv = kv;
    out->n = i;
}

static const struct obj_kv *find(const struct obj_kvs *kvs, struct pg_str key)
{
    for (size_t i = 0; i < kvs->n; i++) {
        if (pg_str_eq(kvs->kv[i].key, key)) {
            return &kvs->kv[i];
        }
    }
    return NULL;
}

struct pg_str kvs_get(const struct obj_kvs *kvs, const char *key)
{
    const struct obj_kv *kv = find(kvs, pg_str_c(key));
    return kv != NULL ? kv->value : PG_STR_NONE;
}

bool kvs_has(const struct obj_kvs *kvs, const char *key)
{
    return find(kvs, pg_str_c(key)) != NULL;
}

bool kvs_match(const struct obj_kvs *selector, const struct obj_kvs *labels)
{
    for (size_t i = 0; i < selector->n; i++) {
        const struct obj_kv *kv = find(labels, selector->kv[i].key);
        if (kv == NULL || !pg_str_eq(kv->value, selector->kv[i].value)) {
            return false;
        }
    }
    return true;
}
