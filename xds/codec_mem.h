/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the protobuf-c codecs share: the budget allocator and conversions from its types. Only codec_*.c may
 * include it. Everything protobuf-c allocates for one message comes from one scratch arena with an absolute
 * limit and dies with it; the declared types do not nest recursively (xds/proto/README.md), so unpacking
 * depth is bounded by the schema. Any thread.
 */
#ifndef ISTHMUS_XDS_CODEC_MEM_H
#define ISTHMUS_XDS_CODEC_MEM_H

#include "core/addr.h"
#include "xds/codec.h"

#include <protobuf-c/protobuf-c.h>

struct xds_scratch {
    struct pg_arena arena;
    ProtobufCAllocator pb;
    bool failed; /* an allocation was refused: the cause is ours, not the bytes' */
    bool over;   /* by the budget */
};
/* Unpacks `bytes` (at most XDS_RESOURCE_MAX); `s` must be released by xds_scratch_fini in every case. NULL
 * with *r set. */
void *xds_scratch_unpack(struct xds_scratch *s, const ProtobufCMessageDescriptor *d, struct pg_str bytes,
                         int *r, struct pg_errtext *err) PG_MUST_CHECK;
void xds_scratch_fini(struct xds_scratch *s);

/* Copies a string into `arena`. PG_E_PARSE when it is not UTF-8 or holds NUL; `what` names the field. */
int xds_copy_str(struct pg_arena *arena, const ProtobufCBinaryData *in, const char *what, struct pg_str *out,
                 struct pg_errtext *err) PG_MUST_CHECK;
int xds_copy_strs(struct pg_arena *arena, const ProtobufCBinaryData *in, size_t n, const char *what,
                  struct pg_str **out, size_t *n_out, struct pg_errtext *err) PG_MUST_CHECK;
/* String members of a message and of the struct they go to, by offset. */
struct xds_string_field {
    size_t from; /* a ProtobufCBinaryData */
    size_t to;   /* a struct pg_str */
    const char *what;
};
int xds_copy_table(struct pg_arena *arena, const struct xds_string_field *table, size_t n, const void *from,
                   void *to, struct pg_errtext *err) PG_MUST_CHECK;
/* Array of `n` zeroed elements; NULL only when out of memory (`n` 0 gives a valid pointer too). */
void *xds_copy_array(struct pg_arena *arena, size_t n, size_t size, struct pg_errtext *err) PG_MUST_CHECK;
/* An address of 4 or 16 bytes with a prefix length counted in the form it came in. */
int xds_copy_ip(const ProtobufCBinaryData *in, bool has_bits, uint32_t bits, struct pg_ip *ip,
                uint8_t *out_bits, struct pg_errtext *err) PG_MUST_CHECK;
int xds_copy_port(uint32_t in, const char *what, uint16_t *out, struct pg_errtext *err) PG_MUST_CHECK;

#endif
