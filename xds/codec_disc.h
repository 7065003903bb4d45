/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flat google.protobuf.Struct (string values only), shared by node metadata and certificate requests.
 * Nested values are stepped over by their length, never entered. Internal to xds. Any thread.
 */
#ifndef ISTHMUS_XDS_CODEC_DISC_H
#define ISTHMUS_XDS_CODEC_DISC_H

#include "xds/codec.h"

/* Array in `arena`, slices into `bytes`. */
int xds_struct_decode(struct pg_str bytes, struct pg_arena *arena, struct xds_kv **out, size_t *n,
                      struct pg_errtext *err) PG_MUST_CHECK;
/* Content of a Struct, in key order. */
void xds_struct_put(struct pg_sb *out, const struct xds_kv *kv, size_t n);

#endif
