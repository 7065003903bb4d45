/* SPDX-License-Identifier: Apache-2.0 */
/* Which HBONE connection takes the next stream. Pure; state and randomness are arguments. */
#ifndef ISTHMUS_HBONE_POOL_POLICY_H
#define ISTHMUS_HBONE_POOL_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HB_POOL_CONNS_MAX 256u /* connections per key */
#define HB_POOL_SPREAD 4u      /* tunnels through one gateway to one service before any is shared */

struct hb_pool_conn_view {
    uint32_t streams; /* in use */
    uint32_t room;    /* more that fit */
};
struct hb_pool_rule {
    size_t max_conns;
    uint32_t streams_per_conn; /* expected of a new one */
    size_t spread;             /* so many are made before one is shared: each may reach another endpoint */
    bool may_dial;             /* false while a failed dial cools down */
};
enum hb_pool_choice { HB_POOL_USE, HB_POOL_DIAL, HB_POOL_WAIT };
/* `n` usable connections, `dialing` under way, `waiting` requests queued including this one. USE sets *index.
 */
enum hb_pool_choice hb_pool_choose(const struct hb_pool_conn_view *conns, size_t n, size_t dialing,
                                   size_t waiting, const struct hb_pool_rule *rule, uint64_t random,
                                   size_t *index);

#endif
