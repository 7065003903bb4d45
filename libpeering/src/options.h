/* SPDX-License-Identifier: Apache-2.0 */
/* Options of a control plane: one table makes parsing, defaults, environment names and help. Any thread, one
 * at a time. */
#ifndef ISTHMUS_PEERING_OPTIONS_H
#define ISTHMUS_PEERING_OPTIONS_H

#include "core/str.h"
#include "peering/control.h"

enum option_id {
    OPT_CLUSTER,
    OPT_NETWORK,
    OPT_TRUST_DOMAIN,
    OPT_DOMAIN,
    OPT_SYSTEM_NAMESPACE,
    OPT_REGION,
    OPT_ZONE,
    OPT_MANIFESTS,
    OPT_CACERTS,
    OPT_STATE,
    OPT_LISTEN,
    OPT_ADMIN,
    OPT_ADMIN_SOCKET,
    OPT_JWKS,
    OPT_TOKEN_AUDIENCE,
    OPT_TRUSTED_NODE_ACCOUNTS,
    OPT_TRUST_DOMAINS,
    OPT_SKIP_VALIDATE_TRUST_DOMAIN,
    OPT_CUSTOM_HOST,
    OPT_PEERING,
    OPT_FLAT,
    OPT_SELECT_WORKLOAD_ENTRIES,
    OPT_CERT_TTL,
    OPT_START_DEADLINE,
    OPT_LOG_LEVEL,
    OPT_LOG_FORMAT,
    OPT_COUNT,
};
struct peering_options {
    char *value[OPT_COUNT]; /* heap copies, never NULL */
    bool is_set[OPT_COUNT]; /* said by the user */
};
const char *option_text(const peering_options *o, enum option_id id);
struct pg_str option_str(const peering_options *o, enum option_id id);
bool option_bool(const peering_options *o, enum option_id id);
uint64_t option_ms(const peering_options *o, enum option_id id); /* durations */
int options_copy(const peering_options *from, peering_options **out) PG_MUST_CHECK;

#endif
