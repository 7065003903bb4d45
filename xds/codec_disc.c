/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The delta xDS envelope, by hand. Invariants: slices point into the received bytes, arrays are counted
 * before they are allocated, every string is UTF-8 without NUL, nothing recurses; encoders write map entries
 * in key order. Any thread.
 */
#include "xds/codec_disc.h"
#include "xds/wire.h"

#include <stdlib.h>

static int malformed(struct pg_errtext *err, const char *what)
{
    pg_err_set(err, "malformed %s", what);
    return PG_E_PARSE;
}

/* A string field into *out. */
static int text(const struct xds_field *f, const char *what, struct pg_str *out, struct pg_errtext *err)
{
    if (f->wire != XDS_WIRE_BYTES) {
        return malformed(err, what);
    }
    if (!pg_str_is_utf8(f->bytes)) {
        pg_err_set(err, "%s is not valid UTF-8", what);
        return PG_E_PARSE;
    }
    *out = f->bytes;
    return 0;
}

/* Room for every field `number` of the message; PG_E_PARSE also when the message is malformed anywhere at
 * this level. */
static int reserve(struct pg_str msg, uint32_t number, size_t size, struct pg_arena *arena, void *items,
                   struct pg_errtext *err)
{
    size_t n = 0;
    if (xds_wire_count(msg, number, &n) < 0) {
        return malformed(err, "message");
    }
    if (n == 0) {
        return 0;
    }
    void *p = pg_arena_calloc(arena, n, size);
    if (p == NULL) {
        pg_err_set(err, "out of memory for %zu entries", n);
        return PG_E_NOMEM;
    }
    memcpy(items, &p, sizeof(p)); /* `items` is the address of some T * */
    return 0;
}

/* Fields 1 and 2 of a map entry with string values. */
static int pair(struct pg_str bytes, struct xds_kv *out, struct pg_errtext *err)
{
    struct xds_cursor c = {.rest = bytes};
    struct xds_field f;
    int r;
    while ((r = xds_wire_next(&c, &f)) > 0) {
        int t = f.number == 1   ? text(&f, "map key", &out->key, err)
                : f.number == 2 ? text(&f, "map value", &out->value, err)
                                : 0;
        if (t < 0) {
            return t;
        }
    }
    return r < 0 ? malformed(err, "map entry") : 0;
}

/* The string of a google.protobuf.Value; *is_string stays false for the other kinds. */
static int value_string(struct pg_str bytes, struct pg_str *out, bool *is_string, struct pg_errtext *err)
{
    struct xds_cursor c = {.rest = bytes};
    struct xds_field f;
    int r;
    while ((r = xds_wire_next(&c, &f)) > 0) {
        *is_string = f.number == 3;
        if (f.number == 3) {
            int t = text(&f, "metadata value", out, err);
            if (t < 0) {
                return t;
            }
        }
    }
    return r < 0 ? malformed(err, "metadata value") : 0;
}

/* One entry of Struct.fields; *kept when its value is a string. */
static int struct_entry(struct pg_str bytes, struct xds_kv *out, bool *kept, struct pg_errtext *err)
{
    struct xds_cursor c = {.rest = bytes};
    struct xds_field f;
    int r;
    while ((r = xds_wire_next(&c, &f)) > 0) {
        int t = 0;
        if (f.number == 1) {
            t = text(&f, "metadata key", &out->key, err);
        } else if (f.number == 2) {
            t = f.wire == XDS_WIRE_BYTES ? value_string(f.bytes, &out->value, kept, err)
                                         : malformed(err, "metadata");
        }
        if (t < 0) {
            return t;
        }
    }
    return r < 0 ? malformed(err, "metadata") : 0;
}

int xds_struct_decode(struct pg_str bytes, struct pg_arena *arena, struct xds_kv **out, size_t *n,
                      struct pg_errtext *err)
{
    struct xds_kv *kv = NULL;
    int r = reserve(bytes, 1, sizeof(*kv), arena, &kv, err);
    if (r < 0) {
        return r;
    }
    struct xds_cursor c = {.rest = bytes};
    struct xds_field f;
    size_t kept = 0;
    while (xds_wire_next(&c, &f) > 0) {
        if (f.number != 1) {
            continue;
        }
        bool is_string = false;
        struct xds_kv one = {.key = PG_STR(""), .value = PG_STR("")};
        r = f.wire == XDS_WIRE_BYTES ? struct_entry(f.bytes, &one, &is_string, err)
                                     : malformed(err, "metadata");
        if (r < 0) {
            return r;
        }
        if (is_string) {
            kv[kept++] = one;
        }
    }
    *out = kv;
    *n = kept;
    return 0;
}

static int node_decode(struct pg_str bytes, struct pg_arena *arena, struct xds_node *out,
                       struct pg_errtext *err)
{
    struct xds_cursor c = {.rest = bytes};
    struct xds_field f;
    int r;
    while ((r = xds_wire_next(&c, &f)) > 0) {
        int t = 0;
        if (f.number == 1) {
            t = text(&f, "node id", &out->id, err);
        } else if (f.number == 3) {
            t = f.wire == XDS_WIRE_BYTES
                    ? xds_struct_decode(f.bytes, arena, &out->metadata, &out->n_metadata, err)
                    : malformed(err, "node");
        }
        if (t < 0) {
            return t;
        }
    }
    return r < 0 ? malformed(err, "node") : 0;
}

static int status_decode(struct pg_str bytes, struct xds_delta_request *out, struct pg_errtext *err)
{
    struct xds_cursor c = {.rest = bytes};
    struct xds_field f;
    int r;
    while ((r = xds_wire_next(&c, &f)) > 0) {
        if (f.number == 1 && f.wire == XDS_WIRE_VARINT) {
            out->error_code = (int32_t)(uint32_t)f.value;
        } else if (f.number == 2) {
            int t = text(&f, "error message", &out->error_message, err);
            if (t < 0) {
                return t;
            }
        }
    }
    return r < 0 ? malformed(err, "error detail") : 0;
}

static int request_field(const struct xds_field *f, struct pg_arena *arena, struct xds_delta_request *q,
                         struct pg_errtext *err)
{
    bool bytes = f->wire == XDS_WIRE_BYTES;
    switch (f->number) {
    case 1:
        q->has_node = true;
        return bytes ? node_decode(f->bytes, arena, &q->node, err) : malformed(err, "node");
    case 2:
        return text(f, "type URL", &q->type_url, err);
    case 3:
        return text(f, "resource name", &q->subscribe[q->n_subscribe++], err);
    case 4:
        return text(f, "resource name", &q->unsubscribe[q->n_unsubscribe++], err);
    case 5:
        return bytes ? pair(f->bytes, &q->initial_versions[q->n_initial_versions++], err)
                     : malformed(err, "initial versions");
    case 6:
        return text(f, "nonce", &q->response_nonce, err);
    case 7:
        q->has_error = true;
        return bytes ? status_decode(f->bytes, q, err) : malformed(err, "error detail");
    default:
        return 0;
    }
}

/* An array was counted by BYTES fields only; anything else under that number must be refused before it is
 * indexed. */
static bool is_list(uint32_t number, uint32_t first, uint32_t last)
{
    return number >= first && number <= last;
}

int xds_delta_request_decode(struct pg_str bytes, struct pg_arena *arena, struct xds_delta_request *out,
                             struct pg_errtext *err)
{
    struct xds_delta_request q = {0};
    int r = reserve(bytes, 3, sizeof(*q.subscribe), arena, &q.subscribe, err);
    if (r == 0) {
        r = reserve(bytes, 4, sizeof(*q.unsubscribe), arena, &q.unsubscribe, err);
    }
    if (r == 0) {
        r = reserve(bytes, 5, sizeof(*q.initial_versions), arena, &q.initial_versions, err);
    }
    struct xds_cursor c = {.rest = bytes};
    struct xds_field f;
    while (r == 0 && xds_wire_next(&c, &f) > 0) {
        if (is_list(f.number, 3, 5) && f.wire != XDS_WIRE_BYTES) {
            return malformed(err, "discovery request");
        }
        r = request_field(&f, arena, &q, err);
    }
    if (r == 0) {
        *out = q;
    }
    return r;
}

static int any_decode(struct pg_str bytes, struct xds_delta_resource *out, struct pg_errtext *err)
{
    struct xds_cursor c = {.rest = bytes};
    struct xds_field f;
    int r;
    while ((r = xds_wire_next(&c, &f)) > 0) {
        if (f.number == 1) {
            int t = text(&f, "Any type URL", &out->type_url, err);
            if (t < 0) {
                return t;
            }
        } else if (f.number == 2) {
            if (f.wire != XDS_WIRE_BYTES) {
                return malformed(err, "Any");
            }
            out->bytes = f.bytes;
        }
    }
    return r < 0 ? malformed(err, "Any") : 0;
}

static int resource_decode(struct pg_str bytes, struct pg_arena *arena, struct xds_delta_resource *out,
                           struct pg_errtext *err)
{
    int r = reserve(bytes, 4, sizeof(*out->aliases), arena, &out->aliases, err);
    struct xds_cursor c = {.rest = bytes};
    struct xds_field f;
    while (r == 0 && xds_wire_next(&c, &f) > 0) {
        if (f.number <= 4 && f.wire != XDS_WIRE_BYTES) {
            return malformed(err, "resource");
        }
        switch (f.number) {
        case 1:
            r = text(&f, "resource version", &out->version, err);
            break;
        case 2:
            out->has_resource = true;
            r = any_decode(f.bytes, out, err);
            break;
        case 3:
            r = text(&f, "resource name", &out->name, err);
            break;
        case 4:
            r = text(&f, "resource alias", &out->aliases[out->n_aliases++], err);
            break;
        default:
            break;
        }
    }
    return r;
}

int xds_delta_response_decode(struct pg_str bytes, struct pg_arena *arena, struct xds_delta_response *out,
                              struct pg_errtext *err)
{
    struct xds_delta_response p = {0};
    int r = reserve(bytes, 2, sizeof(*p.resources), arena, &p.resources, err);
    if (r == 0) {
        r = reserve(bytes, 6, sizeof(*p.removed), arena, &p.removed, err);
    }
    struct xds_cursor c = {.rest = bytes};
    struct xds_field f;
    while (r == 0 && xds_wire_next(&c, &f) > 0) {
        if ((f.number == 2 || f.number == 6) && f.wire != XDS_WIRE_BYTES) {
            return malformed(err, "discovery response");
        }
        switch (f.number) {
        case 1:
            r = text(&f, "system version", &p.system_version, err);
            break;
        case 2:
            r = resource_decode(f.bytes, arena, &p.resources[p.n_resources++], err);
            break;
        case 4:
            r = text(&f, "type URL", &p.type_url, err);
            break;
        case 5:
            r = text(&f, "nonce", &p.nonce, err);
            break;
        case 6:
            r = text(&f, "removed name", &p.removed[p.n_removed++], err);
            break;
        default:
            break;
        }
    }
    if (r == 0) {
        *out = p;
    }
    return r;
}

/* --- encoding
 * ------------------------------------------------------------------------------------------------- */

static int by_key(const void *a, const void *b)
{
    const struct xds_kv *x = *(const struct xds_kv *const *)a;
    const struct xds_kv *y = *(const struct xds_kv *const *)b;
    return pg_str_cmp(x->key, y->key);
}

/* The pairs in key order; NULL with the builder's error set when there is no memory. Freed by pg_free. */
static const struct xds_kv **in_key_order(struct pg_sb *out, const struct xds_kv *kv, size_t n)
{
    const struct xds_kv **order = pg_calloc(n, sizeof(*order));
    if (order == NULL) {
        out->err = out->err != 0 ? out->err : PG_E_NOMEM;
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        order[i] = &kv[i];
    }
    qsort(order, n, sizeof(*order), by_key);
    return order;
}

void xds_struct_put(struct pg_sb *out, const struct xds_kv *kv, size_t n)
{
    if (n == 0) {
        return;
    }
    const struct xds_kv **order = in_key_order(out, kv, n);
    for (size_t i = 0; order != NULL && i < n; i++) {
        size_t at = xds_put_open(out, 1);
        xds_put_bytes(out, 1, order[i]->key);
        size_t value = xds_put_open(out, 2);
        xds_put_entry(out, 3, order[i]->value);
        xds_put_close(out, value);
        xds_put_close(out, at);
    }
    pg_free(order);
}

static void put_node(struct pg_sb *out, const struct xds_node *node)
{
    size_t at = xds_put_open(out, 1);
    xds_put_bytes(out, 1, node->id);
    if (node->n_metadata != 0) {
        size_t md = xds_put_open(out, 3);
        xds_struct_put(out, node->metadata, node->n_metadata);
        xds_put_close(out, md);
    }
    xds_put_close(out, at);
}

static void put_versions(struct pg_sb *out, const struct xds_kv *kv, size_t n)
{
    if (n == 0) {
        return;
    }
    const struct xds_kv **order = in_key_order(out, kv, n);
    for (size_t i = 0; order != NULL && i < n; i++) {
        size_t at = xds_put_open(out, 5);
        xds_put_bytes(out, 1, order[i]->key);
        xds_put_bytes(out, 2, order[i]->value);
        xds_put_close(out, at);
    }
    pg_free(order);
}

int xds_delta_request_encode(const struct xds_delta_request *r, struct pg_sb *out)
{
    if (r->has_node) {
        put_node(out, &r->node);
    }
    xds_put_bytes(out, 2, r->type_url);
    for (size_t i = 0; i < r->n_subscribe; i++) {
        xds_put_entry(out, 3, r->subscribe[i]);
    }
    for (size_t i = 0; i < r->n_unsubscribe; i++) {
        xds_put_entry(out, 4, r->unsubscribe[i]);
    }
    put_versions(out, r->initial_versions, r->n_initial_versions);
    xds_put_bytes(out, 6, r->response_nonce);
    if (r->has_error) {
        size_t at = xds_put_open(out, 7);
        xds_put_uint(out, 1, (uint64_t)(int64_t)r->error_code);
        xds_put_bytes(out, 2, r->error_message);
        xds_put_close(out, at);
    }
    return out->err;
}

static size_t bytes_field_len(struct pg_str s, bool always)
{
    return s.len != 0 || always ? 1 + xds_varint_len(s.len) + s.len : 0;
}

/* Lengths are computed here instead of moving content up: resources are most of a large response. */
static void put_resource(struct pg_sb *out, const struct xds_delta_resource *s)
{
    size_t any = bytes_field_len(s->type_url, false) + bytes_field_len(s->bytes, false);
    size_t len = bytes_field_len(s->version, false) + bytes_field_len(s->name, false);
    len += s->has_resource ? 1 + xds_varint_len(any) + any : 0;
    for (size_t i = 0; i < s->n_aliases; i++) {
        len += bytes_field_len(s->aliases[i], true);
    }
    xds_put_varint(out, 2 << 3 | XDS_WIRE_BYTES);
    xds_put_varint(out, len);
    xds_put_bytes(out, 1, s->version);
    if (s->has_resource) {
        xds_put_varint(out, 2 << 3 | XDS_WIRE_BYTES);
        xds_put_varint(out, any);
        xds_put_bytes(out, 1, s->type_url);
        xds_put_bytes(out, 2, s->bytes);
    }
    xds_put_bytes(out, 3, s->name);
    for (size_t i = 0; i < s->n_aliases; i++) {
        xds_put_entry(out, 4, s->aliases[i]);
    }
}

int xds_delta_response_encode(const struct xds_delta_response *r, struct pg_sb *out)
{
    xds_put_bytes(out, 1, r->system_version);
    for (size_t i = 0; i < r->n_resources; i++) {
        put_resource(out, &r->resources[i]);
    }
    xds_put_bytes(out, 4, r->type_url);
    xds_put_bytes(out, 5, r->nonce);
    for (size_t i = 0; i < r->n_removed; i++) {
        xds_put_entry(out, 6, r->removed[i]);
    }
    return out->err;
}

struct pg_str xds_node_metadata(const struct xds_node *node, const char *key)
{
    for (size_t i = 0; node != NULL && i < node->n_metadata; i++) {
        if (pg_str_eq_c(node->metadata[i].key, key)) {
            return node->metadata[i].value;
        }
    }
    return PG_STR_NONE;
}
