/* SPDX-License-Identifier: Apache-2.0 */
/* The choice itself. Least loaded first, so that one slow connection does not gather all streams; random
 * among equals. Pure. */
#include "hbone/pool_policy.h"

static size_t least_loaded(const struct hb_pool_conn_view *conns, size_t n, uint64_t random)
{
    size_t best = SIZE_MAX;
    for (size_t i = 0; i < n; i++) {
        size_t k = (i + (size_t)(random % n)) % n;
        if (conns[k].room > 0 && (best == SIZE_MAX || conns[k].streams < conns[best].streams)) {
            best = k;
        }
    }
    return best;
}

enum hb_pool_choice hb_pool_choose(const struct hb_pool_conn_view *conns, size_t n, size_t dialing,
                                   size_t waiting, const struct hb_pool_rule *rule, uint64_t random,
                                   size_t *index)
{
    bool may_dial = rule->may_dial && n + dialing < rule->max_conns;
    size_t best = n > 0 ? least_loaded(conns, n, random) : SIZE_MAX;
    bool spreading = may_dial && n + dialing < rule->spread;
    if (spreading && dialing < waiting) {
        return HB_POOL_DIAL;
    }
    if (best != SIZE_MAX && !spreading) {
        *index = best;
        return HB_POOL_USE;
    }
    if (best == SIZE_MAX && may_dial && dialing * rule->streams_per_conn < waiting) {
        return HB_POOL_DIAL;
    }
    return HB_POOL_WAIT;
}
