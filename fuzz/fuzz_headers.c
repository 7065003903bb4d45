/* SPDX-License-Identifier: Apache-2.0 */
/* Headers of a CONNECT request that describe the other side. What is found lies inside the header. One
 * thread. */
#include "fuzz.h"

#include "hbone/conn.h"

static void inside(struct pg_str part, struct pg_str whole)
{
    PG_BUG_ON(part.len > 0 && (part.p < whole.p || part.p + part.len > whole.p + whole.len));
}

static void one(struct pg_str in)
{
    struct hb_party p = {.pod = PG_STR_NONE};
    hb_baggage_parse(in, &p);
    inside(p.cluster, in);
    inside(p.ns, in);
    inside(p.workload, in);
    inside(p.canonical, in);
    inside(p.revision, in);
    inside(p.region, in);
    inside(p.zone, in);
    inside(hb_forwarded_host(in), in);
}
FUZZ_TARGET(one, fuzz_no_init)
