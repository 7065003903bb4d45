/* SPDX-License-Identifier: Apache-2.0 */
/* Conversions between the library's public value types and the base types; both have the same content. Pure,
 * any thread. */
#ifndef ISTHMUS_HBONE_GLUE_H
#define ISTHMUS_HBONE_GLUE_H

#include "core/addr.h"

#include <peering/peering.h>

static inline struct pg_str hb_str(peering_str s)
{
    return (struct pg_str){s.ptr, s.len};
}
static inline peering_str hb_pstr(struct pg_str s)
{
    return (peering_str){s.p, s.len};
}
static inline struct pg_ip hb_ip(const peering_ip *ip)
{
    struct pg_ip out = {.len = ip->len};
    memcpy(out.b, ip->bytes, sizeof(out.b));
    return out;
}
static inline peering_ip hb_pip(const struct pg_ip *ip)
{
    peering_ip out = {.len = ip->len};
    memcpy(out.bytes, ip->b, sizeof(out.bytes));
    return out;
}

#endif
