/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptive headers that peers write: baggage and forwarded. Results must lie inside the input. One thread.
 */
#include "fuzz.h"

#include "hbone/conn.h"

static void inside(struct pg_str part, struct pg_str whole)
{
    PG_BUG_ON(part.len > 0 && (part.p < whole.p || part.p + part.len > whole.p + whole.len));
}

static void one(struct pg_str in)
{
    struct hb_party p = {0};
    hb_baggage_parse(in, &p);
    const struct pg_str all[] = {p.pod,       p.ns,       p.cluster, p.workload,
                                 p.canonical, p.revision, p.region,  p.zone};
    for (size_t i = 0; i < PG_ARRAY_LEN(all); i++) {
        inside(all[i], in);
    }
    inside(hb_forwarded_host(in), in);
}
FUZZ_TARGET(one, fuzz_no_init)
