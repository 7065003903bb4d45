/* SPDX-License-Identifier: Apache-2.0 */
/* The part of the address pool that only merge uses; the rest is in merge.h. Control thread. */
#ifndef ISTHMUS_PEERING_VIP_H
#define ISTHMUS_PEERING_VIP_H

#include "core/str.h"

struct vip_pool;
/* Starts a merge: names asked for (or touched) from here on are in use, others may be evicted when the range
 * is full. */
void vip_pool_begin_round(struct vip_pool *p);
/* Says that a known name is in use, before new names are allocated. */
void vip_pool_touch(struct vip_pool *p, struct pg_str hostname);

#endif
