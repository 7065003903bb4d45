/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small HTTP/1.1 server and client for admin, metrics and readiness ports: GET and POST, one request a
 * connection, header limit 8 KiB and 2 s, body in limit 64 KiB, `Connection: close`. Loop thread.
 */
#ifndef ISTHMUS_NET_HTTP1_H
#define ISTHMUS_NET_HTTP1_H

#include "net/sock.h"

#define PG_HTTP1_HEADER_MAX 8192u
#define PG_HTTP1_BODY_MAX 65536u
#define PG_HTTP1_CONNS_MAX 64u

struct pg_http1_request {
    struct pg_str method; /* "GET" */
    struct pg_str path;   /* "/config_dump", percent-decoded by nobody */
    struct pg_str query;  /* after '?', or empty */
    struct pg_str body;
    struct pg_str accept; /* Accept header, or empty */
};
/* Value of `name` in a query string, percent-decoded into `buf`; false when absent or too long. */
bool pg_http1_query(struct pg_str query, const char *name, char *buf, size_t cap, struct pg_str *out);

struct pg_http1_server;
struct pg_http1_reply; /* one answer in the making; may be completed later from the loop thread */
/* Must call pg_http1_reply_send exactly once, now or later. The request lives for the call. */
typedef void (*pg_http1_handler)(const struct pg_http1_request *req, struct pg_http1_reply *reply, void *arg);
/* Takes the listening address "ip:port" or "unix:/path". */
int pg_http1_listen(struct pg_loop *l, const char *at, pg_http1_handler handler, void *arg,
                    struct pg_http1_server **out, struct pg_errtext *err) PG_MUST_CHECK;
struct pg_addr pg_http1_addr(const struct pg_http1_server *s);
void pg_http1_free(struct pg_http1_server *s); /* open replies become inert but must still be sent */
/* Body is copied. `type` e.g. "application/json". */
void pg_http1_reply_send(struct pg_http1_reply *r, int status, const char *type, struct pg_str body);

/* One request; `at` as above. Response body limit `max` bytes, total time `timeout_ms`. `cb` once from the
 * loop: err 0 and status, or an error with text naming the address. */
int pg_http1_fetch(struct pg_loop *l, const char *at, const char *method, const char *path,
                   struct pg_str body, size_t max, uint64_t timeout_ms,
                   void (*cb)(int err, int status, struct pg_str body, const char *text, void *arg),
                   void *arg) PG_MUST_CHECK;

#endif
