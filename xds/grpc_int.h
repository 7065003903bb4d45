/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by grpc.c (client) and grpc_server.c: the queue of framed messages, status text coding. Internal.
 * Loop thread. */
#ifndef ISTHMUS_XDS_GRPC_INT_H
#define ISTHMUS_XDS_GRPC_INT_H

#include "core/list.h"
#include "xds/grpc.h"

#define GRPC_TEXT_MAX 1024u /* bytes of a status message kept or sent */
#define GRPC_FIELDS_MAX 32u /* header fields of a request */

/* Messages waiting for window, each framed in a block of its own: a message is queued whole or not at all. */
struct grpc_out {
    struct pg_list messages;
    size_t bytes; /* unsent, framing included */
};
void grpc_out_init(struct grpc_out *q);
void grpc_out_fini(struct grpc_out *q);
int grpc_out_push(struct grpc_out *q, struct pg_str msg) PG_MUST_CHECK;
/* Writes what the stream takes: 0 when the queue is empty, PG_E_AGAIN, or the stream's final error. */
int grpc_out_pump(struct grpc_out *q, struct pg_h2_stream *s) PG_MUST_CHECK;

/* Reads all that is there, gives its credit back and hands out each message until `deliver` returns false
 * (then PG_E_CANCELLED, and `s` may be gone). PG_E_AGAIN: wait; 0: clean end; else the stream's or the
 * deframer's error. */
int grpc_recv(struct pg_h2_stream *s, struct grpc_deframer *d, bool (*deliver)(void *arg, struct pg_str msg),
              void *arg) PG_MUST_CHECK;

void grpc_percent_encode(struct pg_str in, struct pg_sb *out);
void grpc_percent_decode(struct pg_str in, struct pg_sb *out); /* bytes that are not UTF-8 become '?' */
/* "100m" and the like, in milliseconds; PG_E_PARSE. */
int grpc_timeout_parse(struct pg_str s, uint64_t *ms) PG_MUST_CHECK;

#endif
