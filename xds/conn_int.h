/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One client connection to a control plane, from name to usable HTTP/2 session: resolve, TCP (each address in
 * turn), TLS, SETTINGS, all within one time limit. Failures are told in the words grpc-go uses, because
 * operators search for them. Internal to xds. Loop thread.
 */
#ifndef ISTHMUS_XDS_CONN_INT_H
#define ISTHMUS_XDS_CONN_INT_H

#include "certs/tls.h"
#include "net/h2.h"
#include "net/resolve.h"

#define XDS_CONN_TIMEOUT_MS 5000u

struct xds_conn;
struct xds_conn_options {
    const char *address; /* "host:port" */
    const char *const *server_names;
    size_t n_server_names;
    struct cert_creds *creds; /* a reference of its own is taken */
    uint64_t timeout_ms;      /* 0: XDS_CONN_TIMEOUT_MS */
    uint32_t ping_ms;         /* own keepalive; 0: the default of pg_h2_options_grpc */
    size_t first_ip;          /* which of the resolved addresses is tried first, modulo their number */
};
struct xds_conn_callbacks {
    void (*on_ready)(struct xds_conn *c, struct pg_h2 *h, void *arg);
    /* Exactly once unless freed first: the attempt failed or the session ended. `desc` is what grpc-go would
     * put behind "desc = ". Calls on the session got their status before. */
    void (*on_down)(struct xds_conn *c, const char *desc, void *arg);
};
/* Strings and options are copied. 0; PG_E_PARSE for the address; PG_E_NOMEM. Callbacks come from the loop. */
int xds_conn_new(struct pg_loop *l, struct pg_resolver *resolver, const struct xds_conn_options *o,
                 const struct xds_conn_callbacks *cb, void *arg, struct xds_conn **out,
                 struct pg_errtext *err) PG_MUST_CHECK;
void xds_conn_free(struct xds_conn *c); /* no callback after; close own calls before; NULL is fine */
/* True when the server complained about too many pings (GOAWAY ENHANCE_YOUR_CALM). */
bool xds_conn_told_to_calm(const struct xds_conn *c);
const char *xds_conn_remote(const struct xds_conn *c); /* "ip:port" in use, or "" */

#endif
