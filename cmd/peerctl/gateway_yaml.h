/* SPDX-License-Identifier: Apache-2.0 */
/* The two Gateway objects peerctl writes, as YAML text. Pure; one thread. */
#ifndef ISTHMUS_PEERCTL_GATEWAY_YAML_H
#define ISTHMUS_PEERCTL_GATEWAY_YAML_H

#include "core/str.h"

struct gateway_yaml { /* NULL or "": left out */
    const char *name, *ns, *gateway_class;
    const char *service_account, *trust_domain; /* annotations */
    const char *expose_istiod;                  /* label istio.io/expose-istiod */
    const char *cluster, *network, *region, *zone;
    const char *const *addresses;
    size_t n_addresses;
    unsigned hbone_port, xds_port;
};
/* Appends one document; the same input gives the same bytes. Errors are the builder's. */
void gateway_yaml_write(const struct gateway_yaml *g, struct pg_sb *out);

#endif
