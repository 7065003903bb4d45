/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Protobuf wire format by hand: a bounds-checked cursor whose slices point into the input, and a writer on
 * pg_sb. Neither recurses, so no nesting a peer invents can cost stack. Internal to xds. Any thread.
 */
#ifndef ISTHMUS_XDS_WIRE_H
#define ISTHMUS_XDS_WIRE_H

#include "core/str.h"

enum xds_wire { XDS_WIRE_VARINT = 0, XDS_WIRE_I64 = 1, XDS_WIRE_BYTES = 2, XDS_WIRE_I32 = 5 };
struct xds_cursor {
    struct pg_str rest;
};
struct xds_field {
    uint32_t number; /* 1..2^29-1 */
    enum xds_wire wire;
    uint64_t value;      /* of VARINT, I64, I32 */
    struct pg_str bytes; /* of BYTES; into the input */
};
/* 1 and *f, 0 at the end, PG_E_PARSE (truncated, over-long varint, number 0, group). */
int xds_wire_next(struct xds_cursor *c, struct xds_field *f) PG_MUST_CHECK;
/* Counts the BYTES fields of that number; PG_E_PARSE as above. */
int xds_wire_count(struct pg_str msg, uint32_t number, size_t *out) PG_MUST_CHECK;

/* Writers leave proto3 defaults out unless said otherwise; errors stick in `sb`. */
void xds_put_uint(struct pg_sb *sb, uint32_t number, uint64_t v);
void xds_put_bytes(struct pg_sb *sb, uint32_t number, struct pg_str s);
/* Also when empty: an entry of a repeated field, or a member of a oneof. */
void xds_put_entry(struct pg_sb *sb, uint32_t number, struct pg_str s);
void xds_put_entry_uint(struct pg_sb *sb, uint32_t number, uint64_t v);
/* A nested message: what is written between open and close is its content. */
size_t xds_put_open(struct pg_sb *sb, uint32_t number);
void xds_put_close(struct pg_sb *sb, size_t at);
size_t xds_varint_len(uint64_t v);
void xds_put_varint(struct pg_sb *sb, uint64_t v);

#endif
