/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.1 heads, chunked bodies and queries. A head that is complete is the same head with more behind it
 * and is "not yet" with less; a chunked body gives the same bytes in any pieces. One thread.
 */
#include "fuzz.h"

#include "net/http1.h"
#include "net/http1_parse.h"

static void head(struct pg_str in, bool response)
{
    struct pg_http1_head h, again;
    int status = 0, s2 = 0;
    int r = response ? pg_http1_response_head(in, &h, &status) : pg_http1_request_head(in, &h);
    if (r < 0) {
        return;
    }
    PG_BUG_ON(h.size > in.len || h.size < 4 || memcmp(in.p + h.size - 4, "\r\n\r\n", 4) != 0);
    PG_BUG_ON(response && (status < 100 || status > 999));
    PG_BUG_ON(h.chunked && h.has_length);
    struct pg_str exact = pg_str_n(in.p, h.size);
    r = response ? pg_http1_response_head(exact, &again, &s2) : pg_http1_request_head(exact, &again);
    PG_BUG_ON(r < 0 || again.size != h.size || again.length != h.length || s2 != status);
    for (size_t cut = 0; cut < h.size; cut += 1 + cut / 8) {
        exact.len = cut;
        r = response ? pg_http1_response_head(exact, &again, &s2) : pg_http1_request_head(exact, &again);
        PG_BUG_ON(r != PG_E_AGAIN);
    }
}

/* All of it in pieces of `step` bytes: 1 done, 0 more wanted, < 0 refused. */
static int chunks(struct pg_str in, size_t step, struct pg_sb *out)
{
    struct pg_http1_chunks c = {0};
    while (in.len > 0 && !c.done) {
        struct pg_str piece = pg_str_n(in.p, step < in.len ? step : in.len);
        ptrdiff_t n = pg_http1_chunks_feed(&c, piece, out);
        if (n < 0) {
            return (int)n;
        }
        PG_BUG_ON((size_t)n > piece.len || ((size_t)n < piece.len && !c.done));
        in = pg_str_sub(in, (size_t)n);
    }
    return c.done;
}

static void one(struct pg_str in)
{
    struct pg_sb whole, pieces;
    struct pg_str value;
    char buf[64];
    head(in, false);
    head(in, true);
    pg_sb_init(&whole, 1u << 20);
    pg_sb_init(&pieces, 1u << 20);
    int r = chunks(in, in.len, &whole);
    PG_BUG_ON(chunks(in, 1, &pieces) != r);
    PG_BUG_ON(r >= 0 && !pg_str_eq(pg_sb_view(&whole), pg_sb_view(&pieces)));
    pg_sb_fini(&whole);
    pg_sb_fini(&pieces);
    if (pg_http1_query(in, "level", buf, sizeof(buf), &value)) {
        PG_BUG_ON(value.len > sizeof(buf) || (value.len > 0 && value.p != buf));
    }
}
FUZZ_TARGET(one, fuzz_no_init)
