/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The certificate of the process's pod: asks the CA, installs, renews, drops what ended. Drives the pure
 * machine of certs/rotate.h. Control thread.
 */
#ifndef ISTHMUS_HBONE_IDENTITY_H
#define ISTHMUS_HBONE_IDENTITY_H

#include "certs/tls.h"
#include "hbone/config.h"

#include <peering/unstable/node.h>

struct hb_identity;
/* `on_change` whenever the certificate in force or the reason for having none changes. */
int hb_identity_new(struct pg_loop *l, const struct hb_config *cfg, peering_node *node,
                    void (*on_change)(void *arg), void *arg, struct hb_identity **out) PG_MUST_CHECK;
void hb_identity_free(struct hb_identity *i); /* NULL is fine */
/* Starts asking; again with another id starts over (the workload turned out to be in another trust domain).
 */
void hb_identity_want(struct hb_identity *i, struct pg_str spiffe);
struct cert_creds *hb_identity_creds(const struct hb_identity *i); /* borrowed; NULL: none */
uint64_t hb_identity_generation(const struct hb_identity *i);      /* counts certificates, from 1 */
const char *hb_identity_why(const struct hb_identity *i);  /* why there is none; "" when there is one */
const char *hb_identity_name(const struct hb_identity *i); /* the id asked for */
const char *
hb_identity_state(const struct hb_identity *i); /* "Available", "Initializing", "Unavailable: ..." */

#endif
