/* SPDX-License-Identifier: Apache-2.0 */
/** @file Authorization at layer 4: may this connection reach this workload? Pure. */
#ifndef PEERING_POLICY_H
#define PEERING_POLICY_H

#include <peering/table.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct peering_connection {
    peering_str identity; /**< SPIFFE URI of the client, empty when none was authenticated */
    peering_ip src_ip;
    peering_ip dst_ip; /**< what will be dialled */
    uint16_t dst_port;
} peering_connection;

enum peering_verdict {
    PEERING_ALLOW,
    PEERING_DENY,
    PEERING_POLICY_MISSING, /**< a referenced policy has not arrived: hold a new connection for up to 1 s,
                               then deny it */
};
/** Order: matching DENY, then no ALLOW in force, then matching ALLOW, else deny. A policy that could not be
 * parsed denies. `why` (may be NULL) gets ztunnel's words: "explicitly denied by: ns/name", "allow policies
 * exist, but none allowed". With `lenient` (POLICY_UNKNOWN=ztunnel) a missing policy is skipped and an
 * unparsable one ignored. */
PEERING_API enum peering_verdict peering_policy_check(const peering_snapshot *s,
                                                      const peering_workload *local,
                                                      const peering_connection *c, bool lenient,
                                                      peering_text *why);

#ifdef __cplusplus
}
#endif
#endif
