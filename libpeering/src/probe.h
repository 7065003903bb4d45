/* SPDX-License-Identifier: Apache-2.0 */
/* Is a gateway's data path alive? One TCP connect, mutual TLS and HTTP/2 PING on the HBONE port, with a time
 * limit. Loop thread. */
#ifndef ISTHMUS_PEERING_PROBE_H
#define ISTHMUS_PEERING_PROBE_H

#include "certs/tls.h"
#include "net/resolve.h"

struct probe;
struct probe_options {
    struct pg_loop *loop;
    struct pg_resolver *resolver;
    const char *host; /* IP or name */
    uint16_t port;
    struct cert_creds *creds;
    struct pg_str expect; /* SPIFFE id of the gateway */
    uint64_t timeout_ms;
};
/* `done` once, from the loop: err 0 when the PING was answered, else why. The probe is gone after it. */
int probe_start(const struct probe_options *o, void (*done)(void *arg, int err, const char *text), void *arg,
                struct probe **out) PG_MUST_CHECK;
void probe_cancel(struct probe *p); /* no callback after; NULL is fine */

#endif
