/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The budget allocator behind protobuf-c and the conversions every codec needs. Invariant: what protobuf-c
 * may take for one resource is bounded whatever the bytes say, and nothing it made outlives the scratch. Any
 * thread.
 */
#include "xds/codec_mem.h"

static void *scratch_alloc(void *data, size_t size)
{
    struct xds_scratch *s = data;
    void *p = pg_arena_alloc(&s->arena, size);
    if (p == NULL) {
        s->failed = true;
        s->over = size > s->arena.limit - s->arena.used;
    }
    return p;
}

static void scratch_free(void *data, void *p)
{
    /* The arena dies as a whole; the budget counts what was ever handed out. */
    (void)data;
    (void)p;
}

void *xds_scratch_unpack(struct xds_scratch *s, const ProtobufCMessageDescriptor *d, struct pg_str bytes,
                         int *r, struct pg_errtext *err)
{
    *s = (struct xds_scratch){.pb = {.alloc = scratch_alloc, .free = scratch_free, .allocator_data = s}};
    pg_arena_init(&s->arena, XDS_RESOURCE_BUDGET);
    if (bytes.len > XDS_RESOURCE_MAX) {
        pg_err_set(err, "%zu bytes exceed the limit of %u for one resource", bytes.len, XDS_RESOURCE_MAX);
        *r = PG_E_LIMIT;
        return NULL;
    }
    static const uint8_t none;
    void *m =
        protobuf_c_message_unpack(d, &s->pb, bytes.len, bytes.len != 0 ? (const uint8_t *)bytes.p : &none);
    if (m != NULL) {
        *r = 0;
        return m;
    }
    if (!s->failed) {
        pg_err_set(err, "malformed %s", d->name);
        *r = PG_E_PARSE;
    } else if (s->over) {
        pg_err_set(err, "decoding needs more than %u bytes of memory", XDS_RESOURCE_BUDGET);
        *r = PG_E_LIMIT;
    } else {
        pg_err_set(err, "out of memory");
        *r = PG_E_NOMEM;
    }
    return NULL;
}

void xds_scratch_fini(struct xds_scratch *s)
{
    pg_arena_fini(&s->arena);
}

int xds_copy_str(struct pg_arena *arena, const ProtobufCBinaryData *in, const char *what, struct pg_str *out,
                 struct pg_errtext *err)
{
    if (in->len == 0) {
        *out = PG_STR("");
        return 0;
    }
    struct pg_str s = pg_str_n((const char *)in->data, in->len);
    if (!pg_str_is_utf8(s)) {
        pg_err_set(err, "%s is not valid UTF-8", what);
        return PG_E_PARSE;
    }
    char *p = pg_arena_strndup(arena, s.p, s.len);
    if (p == NULL) {
        pg_err_set(err, "out of memory");
        return PG_E_NOMEM;
    }
    *out = pg_str_n(p, s.len);
    return 0;
}

int xds_copy_table(struct pg_arena *arena, const struct xds_string_field *table, size_t n, const void *from,
                   void *to, struct pg_errtext *err)
{
    for (size_t i = 0; i < n; i++) {
        const void *in = (const char *)from + table[i].from;
        void *out = (char *)to + table[i].to;
        int r = xds_copy_str(arena, in, table[i].what, out, err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

void *xds_copy_array(struct pg_arena *arena, size_t n, size_t size, struct pg_errtext *err)
{
    void *p = pg_arena_calloc(arena, n, size);
    if (p == NULL) {
        pg_err_set(err, "out of memory");
    }
    return p;
}

int xds_copy_strs(struct pg_arena *arena, const ProtobufCBinaryData *in, size_t n, const char *what,
                  struct pg_str **out, size_t *n_out, struct pg_errtext *err)
{
    if (n == 0) {
        return 0;
    }
    struct pg_str *all = xds_copy_array(arena, n, sizeof(*all), err);
    if (all == NULL) {
        return PG_E_NOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        int r = xds_copy_str(arena, &in[i], what, &all[i], err);
        if (r < 0) {
            return r;
        }
    }
    *out = all;
    *n_out = n;
    return 0;
}

int xds_copy_ip(const ProtobufCBinaryData *in, bool has_bits, uint32_t bits, struct pg_ip *ip,
                uint8_t *out_bits, struct pg_errtext *err)
{
    struct pg_ip got = {0};
    if (pg_ip_from_bytes(in->data, in->len, &got) < 0) {
        pg_err_set(err, "IP address of %zu bytes", in->len);
        return PG_E_PARSE;
    }
    uint32_t full = (uint32_t)in->len * 8;
    uint32_t skip = in->len == 16 && got.len == 4 ? 96 : 0; /* an IPv4-mapped address is IPv4 here */
    bits = has_bits ? bits : full;
    if (bits > full || bits < skip) {
        pg_err_set(err, "prefix length %u out of range", bits);
        return PG_E_PARSE;
    }
    *ip = got;
    if (out_bits != NULL) {
        *out_bits = (uint8_t)(bits - skip);
    }
    return 0;
}

int xds_copy_port(uint32_t in, const char *what, uint16_t *out, struct pg_errtext *err)
{
    if (in > UINT16_MAX) {
        pg_err_set(err, "%s %u out of range", what, in);
        return PG_E_PARSE;
    }
    *out = (uint16_t)in;
    return 0;
}
