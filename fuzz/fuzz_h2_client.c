/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes from a server to an HTTP/2 client session with requests open. Byte 0: size of the pieces (0: large);
 * byte 1: how (bit 0 SETTINGS are said first, bit 1 the rest describes frames, bit 2 the far end never reads,
 * bit 3 it resets at the end, bit 4 gRPC options); byte 2: mood of the owners; byte 3: how many requests. One
 * thread, virtual time.
 */
#include "h2_kit.h"

static void request(struct kit *k, bool connect)
{
    const struct pg_h2_field fields[] = {
        {PG_STR(":method"), connect ? PG_STR("CONNECT") : PG_STR("POST"), false},
        {PG_STR(":authority"), PG_STR("10.1.2.3:80"), false},
        {PG_STR(":scheme"), PG_STR("https"), false},
        {PG_STR(":path"), PG_STR("/x"), false},
    };
    const struct pg_h2_head head = {fields, connect ? 2 : 4};
    struct kit_stream *x = &k->streams[k->n];
    *x = (struct kit_stream){.kit = k};
    if (pg_h2_request(k->h2, &head, false, &kit_stream_cb, x, &x->s) == 0) {
        k->n++;
        struct iovec iov = {x->held, sizeof(x->held)};
        (void)!pg_h2_writev(x->s, &iov, 1);
    }
}

static void on_pong(int err, uint64_t rtt_us, void *arg)
{
    (void)err;
    (void)rtt_us;
    (void)arg;
}

static void one(struct pg_str in)
{
    struct kit k = {0};
    struct pg_h2_options o;
    struct pg_transport *t;
    size_t split = fuzz_u8(&in);
    uint8_t how = fuzz_u8(&in);
    bool deaf = how & 4;
    k.mood = fuzz_u8(&in) & ~KIT_FREE_IN_REQUEST & 0xff;
    uint8_t requests = fuzz_u8(&in) % 8;
    PG_BUG_ON(pg_loop_new(&k.loop) < 0 || pg_mem_pair(k.loop, 16384, &t, &k.raw) < 0);
    (how & 16 ? pg_h2_options_grpc : pg_h2_options_hbone)(&o, false);
    PG_BUG_ON(pg_h2_client_new(k.loop, t, &o, &kit_cb, &k, &k.h2) < 0);
    if (how & 1) {
        static const char settings[] = "\0\0\0\4\0\0\0\0\0\0\0\0\4\1\0\0\0";
        (void)kit_say(&k, pg_str_n(settings, sizeof(settings)), 0, deaf);
    }
    for (uint8_t i = 0; i < requests && k.h2 != NULL; i++) {
        request(&k, i % 2 == 0);
    }
    if (k.h2 != NULL) {
        (void)!pg_h2_ping(k.h2, on_pong, NULL);
    }
    if (how & 2) {
        kit_say_frames(&k, in, split, deaf);
    } else {
        (void)kit_say(&k, in, split, deaf);
    }
    (void)pg_loop_sim_settle(k.loop, 200);
    if (k.h2 != NULL) {
        request(&k, false);
    }
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
