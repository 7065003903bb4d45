/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.1 heads and chunked bodies as pure functions over bytes, shared by the small server and client.
 * Strict: CRLF line ends, no folding, no blanks before the colon, one body length and no doubt about it. Any
 * thread.
 */
#ifndef ISTHMUS_NET_HTTP1_PARSE_H
#define ISTHMUS_NET_HTTP1_PARSE_H

#include "core/str.h"

#define PG_HTTP1_FIELDS_MAX 100u

struct pg_http1_head {
    struct pg_str first[3]; /* method, target, version; or version, code, reason (may be empty) */
    struct pg_str accept;
    uint64_t length; /* Content-Length, when has_length */
    size_t size;     /* bytes of the head with its blank line */
    bool has_length;
    bool chunked;
    bool expect_continue;
};
/* Slices point into `in`. PG_E_AGAIN: incomplete; PG_E_PARSE. */
int pg_http1_request_head(struct pg_str in, struct pg_http1_head *out) PG_MUST_CHECK;
int pg_http1_response_head(struct pg_str in, struct pg_http1_head *out, int *status) PG_MUST_CHECK;

struct pg_http1_chunks {
    int state;      /* zero to begin */
    uint64_t left;  /* of the chunk */
    uint32_t extra; /* bytes of extensions and trailers so far */
    bool digits;
    bool done;
};
/* Adds the payload in `in` to `out`. Returns the bytes used (less than given only when done), PG_E_PARSE, or
 * the builder's error. */
ptrdiff_t pg_http1_chunks_feed(struct pg_http1_chunks *c, struct pg_str in, struct pg_sb *out) PG_MUST_CHECK;

#endif
