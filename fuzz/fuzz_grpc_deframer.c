/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gRPC framing in pieces. Byte 0: size of the pieces; byte 1: largest message. Whole and in pieces give the
 * same messages and the same end. Also the text coding of statuses and timeouts. One thread.
 */
#include "fuzz.h"

#include "xds/grpc_int.h"

/* Hash over all messages; *last gets how it ended. */
static uint64_t feed(struct pg_str in, size_t step, size_t max, int *last)
{
    struct grpc_deframer d;
    uint64_t hash = 7;
    int r = 0;
    grpc_deframer_init(&d, max);
    while (in.len > 0 && r >= 0) {
        struct pg_str piece = fuzz_take(&in, step), msg;
        while ((r = grpc_deframer_next(&d, &piece, &msg)) == 1) {
            PG_BUG_ON(msg.len > max);
            hash = hash * 31 + msg.len;
            for (size_t i = 0; i < msg.len; i++) {
                hash = hash * 31 + (uint8_t)msg.p[i];
            }
        }
        PG_BUG_ON(r == 0 && piece.len != 0);
    }
    *last = r < 0 ? r : grpc_deframer_is_partial(&d);
    grpc_deframer_fini(&d);
    return hash;
}

static void texts(struct pg_str in)
{
    struct pg_sb a, b;
    uint64_t ms;
    pg_sb_init(&a, 1u << 20);
    pg_sb_init(&b, 1u << 20);
    grpc_percent_decode(in, &a);
    PG_BUG_ON(a.err != 0 || a.len > in.len);
    pg_sb_reset(&a);
    grpc_percent_encode(in, &a);
    for (size_t i = 0; i < a.len; i++) {
        PG_BUG_ON(a.p[i] < ' ' || a.p[i] > '~');
    }
    grpc_percent_decode(pg_sb_view(&a), &b);
    PG_BUG_ON(pg_str_is_utf8(in) && !pg_str_eq(pg_sb_view(&b), in));
    (void)!grpc_timeout_parse(in, &ms);
    pg_sb_fini(&a);
    pg_sb_fini(&b);
}

static void one(struct pg_str in)
{
    int whole, pieces;
    size_t step = 1u + fuzz_u8(&in);
    size_t max = fuzz_u8(&in) * 16u;
    texts(fuzz_take(&(struct pg_str){in.p, in.len}, 1000));
    uint64_t a = feed(in, in.len, max, &whole), b = feed(in, step, max, &pieces);
    PG_BUG_ON(a != b || whole != pieces);
}
FUZZ_TARGET(one, fuzz_no_init)
