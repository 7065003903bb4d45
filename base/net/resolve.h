/* SPDX-License-Identifier: Apache-2.0 */
/* Host names to addresses through c-ares (peer and control-plane hosts only; the DNS proxy does not use it).
 */
#ifndef ISTHMUS_NET_RESOLVE_H
#define ISTHMUS_NET_RESOLVE_H

#include "core/addr.h"
#include "net/loop.h"

#define PG_RESOLVE_MAX 16u /* addresses kept per name */

struct pg_resolver;
struct pg_resolve_query;
/* Reads resolv.conf and hosts once; servers may be overridden with "ip[:port],..." (NULL: system). */
int pg_resolver_new(struct pg_loop *l, const char *servers, struct pg_resolver **out,
                    struct pg_errtext *err) PG_MUST_CHECK;
void pg_resolver_free(
    struct pg_resolver *r); /* outstanding queries are cancelled, their callbacks not called */
/* A and AAAA, IPv4 first. IP literals answer too. When the call fails the callback is not called; when it
 * succeeds it is called exactly once, from the loop, unless cancelled. `err`: 0, PG_E_NOTFOUND,
 * PG_E_TIMEDOUT, PG_E_NOMEM, PG_E_IO. `text` lives for the call. */
int pg_resolve(struct pg_resolver *r, struct pg_str name,
               void (*cb)(int err, const struct pg_ip *ips, size_t n, const char *text, void *arg), void *arg,
               struct pg_resolve_query **out) PG_MUST_CHECK;
void pg_resolve_cancel(struct pg_resolve_query *q); /* no callback after; NULL is fine */

#endif
