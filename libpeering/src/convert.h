/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public value types and the internal ones have the same layout; values are converted here, arrays are
 * viewed, never copied. The asserts below are what makes that sound. Any thread.
 */
#ifndef ISTHMUS_PEERING_CONVERT_H
#define ISTHMUS_PEERING_CONVERT_H

#include <peering/table.h>

#include "xds/model.h"

_Static_assert(sizeof(peering_str) == sizeof(struct pg_str), "peering_str");
_Static_assert(offsetof(peering_str, ptr) == offsetof(struct pg_str, p), "peering_str.ptr");
_Static_assert(offsetof(peering_str, len) == offsetof(struct pg_str, len), "peering_str.len");
_Static_assert(sizeof(peering_ip) == sizeof(struct pg_ip), "peering_ip");
_Static_assert(offsetof(peering_ip, bytes) == offsetof(struct pg_ip, b), "peering_ip.bytes");
_Static_assert(sizeof(peering_text) == sizeof(struct pg_errtext), "peering_text");
_Static_assert((int)PEERING_ERR_NOMEM == (int)PG_E_NOMEM && (int)PEERING_ERR_LIMIT == (int)PG_E_LIMIT &&
                   (int)PEERING_ERR_DENIED == (int)PG_E_DENIED &&
                   (int)PEERING_ERR_CONFIG == (int)PG_E_CONFIG && (int)PEERING_ERR_PARSE == (int)PG_E_PARSE &&
                   (int)PEERING_ERR_NOTFOUND == (int)PG_E_NOTFOUND &&
                   (int)PEERING_ERR_UNSUPPORTED == (int)PG_E_UNSUPPORTED,
               "error codes");

static inline struct pg_str str_in(peering_str s)
{
    return pg_str_n(s.ptr, s.len);
}
static inline peering_str str_out(struct pg_str s)
{
    return (peering_str){s.p, s.len};
}
static inline struct pg_ip ip_in(const peering_ip *ip)
{
    struct pg_ip out = {.len = ip->len};
    memcpy(out.b, ip->bytes, sizeof(out.b));
    return out;
}
static inline peering_ip ip_out(const struct pg_ip *ip)
{
    peering_ip out = {.len = ip->len};
    memcpy(out.bytes, ip->b, sizeof(out.bytes));
    return out;
}
static inline struct pg_errtext *text_in(peering_text *t)
{
    return (struct pg_errtext *)(void *)t;
}
static inline bool ip_eq(const peering_ip *a, const peering_ip *b)
{
    return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

#endif
