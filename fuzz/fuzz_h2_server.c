/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes from a client to an HTTP/2 server session. Byte 0: size of the pieces (0: large); byte 1: how (bit 0
 * preface and SETTINGS are said first, bit 1 the rest describes frames, bit 2 the far end never reads, bit 3
 * it resets at the end, bit 4 gRPC options); byte 2: mood of the owners. One thread, virtual time.
 */
#include "h2_kit.h"

static void one(struct pg_str in)
{
    struct kit k = {0};
    struct pg_h2_options o;
    struct pg_transport *t;
    size_t split = fuzz_u8(&in);
    uint8_t how = fuzz_u8(&in);
    bool deaf = how & 4;
    k.mood = fuzz_u8(&in);
    PG_BUG_ON(pg_loop_new(&k.loop) < 0 || pg_mem_pair(k.loop, 16384, &k.raw, &t) < 0);
    (how & 16 ? pg_h2_options_grpc : pg_h2_options_hbone)(&o, true);
    PG_BUG_ON(pg_h2_server_new(k.loop, t, &o, &kit_cb, &k, &k.h2) < 0);
    if (how & 1) {
        static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0\0\0\0\4\1\0\0\0";
        (void)kit_say(&k, pg_str_n(preface, sizeof(preface)), 0, deaf);
    }
    if (how & 2) {
        kit_say_frames(&k, in, split, deaf);
    } else {
        (void)kit_say(&k, in, split, deaf);
    }
    (void)pg_loop_sim_settle(k.loop, 200);
    if (how & 8) {
        pg_transport_abort(k.raw);
        k.raw = NULL;
    } else {
        (void)!pg_transport_shutdown(k.raw);
        kit_hear(&k);
    }
    (void)pg_loop_sim_settle(k.loop, 200);
    pg_loop_sim_advance(k.loop, 40000);
    kit_fini(&k);
}
FUZZ_TARGET(one, fuzz_no_init)
