/* SPDX-License-Identifier: Apache-2.0 */
/* One CONNECT request on an HTTP/2 client session: headers out, answer in, then the stream as a transport.
 * Worker thread. */
#ifndef ISTHMUS_HBONE_CONNECT_H
#define ISTHMUS_HBONE_CONNECT_H

#include "net/h2.h"

struct hb_connect_head { /* copied by the session */
    struct pg_str authority;
    struct pg_str baggage; /* the rest may be empty */
    struct pg_str forwarded;
    struct pg_str traceparent;
    struct pg_str network; /* x-forwarded-network */
};
struct hb_connect_answer {
    int err;    /* 0: `stream` is the tunnel, owned by the callee */
    int status; /* HTTP status, 0 when none came */
    struct pg_transport *stream;
    struct pg_str baggage; /* of the answer; lives for the call */
    char text[160];        /* "http status: 503 Service Unavailable", or what ended the stream */
};
struct hb_connect;
/* `cb` once, from the loop. No time limit of its own. */
int hb_connect_start(struct pg_h2 *h2, const struct hb_connect_head *head,
                     void (*cb)(void *arg, const struct hb_connect_answer *a), void *arg,
                     struct hb_connect **out) PG_MUST_CHECK;
void hb_connect_cancel(struct hb_connect *c); /* resets the stream; no callback; NULL is fine */

#endif
