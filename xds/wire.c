/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cursor and writer of xds/wire.h. Invariants: nothing is read past the slice, a cursor that refused is of no
 * further use, and the writer emits each field once, in the order it is told. Any thread.
 */
#include "xds/wire.h"

#define VARINT_MAX 10
#define FIELD_MAX ((1u << 29) - 1)

static int varint(struct pg_str *in, uint64_t *out)
{
    uint64_t v = 0;
    for (size_t i = 0; i < VARINT_MAX && i < in->len; i++) {
        uint8_t b = (uint8_t)in->p[i];
        if (i == VARINT_MAX - 1 && b > 1) {
            return PG_E_PARSE;
        }
        v |= (uint64_t)(b & 0x7f) << (7 * i);
        if (b < 0x80) {
            *in = pg_str_sub(*in, i + 1);
            *out = v;
            return 0;
        }
    }
    return PG_E_PARSE;
}

static int fixed(struct pg_str *in, size_t n, uint64_t *out)
{
    if (in->len < n) {
        return PG_E_PARSE;
    }
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) {
        v |= (uint64_t)(uint8_t)in->p[i] << (8 * i);
    }
    *in = pg_str_sub(*in, n);
    *out = v;
    return 0;
}

int xds_wire_next(struct xds_cursor *c, struct xds_field *f)
{
    if (c->rest.len == 0) {
        return 0;
    }
    uint64_t tag;
    if (varint(&c->rest, &tag) < 0 || tag >> 3 == 0 || tag >> 3 > FIELD_MAX) {
        return PG_E_PARSE;
    }
    *f = (struct xds_field){.number = (uint32_t)(tag >> 3), .wire = (enum xds_wire)(tag & 7)};
    switch (f->wire) {
    case XDS_WIRE_VARINT:
        return varint(&c->rest, &f->value) < 0 ? PG_E_PARSE : 1;
    case XDS_WIRE_I64:
        return fixed(&c->rest, 8, &f->value) < 0 ? PG_E_PARSE : 1;
    case XDS_WIRE_I32:
        return fixed(&c->rest, 4, &f->value) < 0 ? PG_E_PARSE : 1;
    case XDS_WIRE_BYTES:
        if (varint(&c->rest, &f->value) < 0 || f->value > c->rest.len) {
            return PG_E_PARSE;
        }
        f->bytes = pg_str_n(c->rest.p, (size_t)f->value);
        c->rest = pg_str_sub(c->rest, (size_t)f->value);
        return 1;
    default:
        return PG_E_PARSE; /* groups and the two numbers that mean nothing */
    }
}

int xds_wire_count(struct pg_str msg, uint32_t number, size_t *out)
{
    struct xds_cursor c = {.rest = msg};
    struct xds_field f;
    size_t n = 0;
    int r;
    while ((r = xds_wire_next(&c, &f)) > 0) {
        n += f.number == number && f.wire == XDS_WIRE_BYTES;
    }
    if (r == 0) {
        *out = n;
    }
    return r;
}

size_t xds_varint_len(uint64_t v)
{
    size_t n = 1;
    while (v >= 0x80) {
        v >>= 7;
        n++;
    }
    return n;
}

static size_t varint_bytes(uint64_t v, uint8_t out[VARINT_MAX])
{
    size_t n = 0;
    while (v >= 0x80) {
        out[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    out[n++] = (uint8_t)v;
    return n;
}

void xds_put_varint(struct pg_sb *sb, uint64_t v)
{
    uint8_t b[VARINT_MAX];
    pg_sb_add(sb, b, varint_bytes(v, b));
}

static void tag(struct pg_sb *sb, uint32_t number, enum xds_wire wire)
{
    xds_put_varint(sb, (uint64_t)number << 3 | wire);
}

void xds_put_entry_uint(struct pg_sb *sb, uint32_t number, uint64_t v)
{
    tag(sb, number, XDS_WIRE_VARINT);
    xds_put_varint(sb, v);
}

void xds_put_uint(struct pg_sb *sb, uint32_t number, uint64_t v)
{
    if (v != 0) {
        xds_put_entry_uint(sb, number, v);
    }
}

void xds_put_entry(struct pg_sb *sb, uint32_t number, struct pg_str s)
{
    tag(sb, number, XDS_WIRE_BYTES);
    xds_put_varint(sb, s.len);
    pg_sb_str(sb, s);
}

void xds_put_bytes(struct pg_sb *sb, uint32_t number, struct pg_str s)
{
    if (s.len != 0) {
        xds_put_entry(sb, number, s);
    }
}

size_t xds_put_open(struct pg_sb *sb, uint32_t number)
{
    tag(sb, number, XDS_WIRE_BYTES);
    return sb->len;
}

void xds_put_close(struct pg_sb *sb, size_t at)
{
    /* The length goes in front of what is already there: room is made by moving the content up. */
    uint8_t b[VARINT_MAX];
    size_t len = sb->len - at;
    size_t n = varint_bytes(len, b);
    pg_sb_add(sb, b, n);
    if (sb->err == 0) {
        memmove(sb->p + at + n, sb->p + at, len);
        memcpy(sb->p + at, b, n);
    }
}
