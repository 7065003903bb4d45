/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes from a server to our gRPC client with calls open: as fuzz_h2_client. Every call gets exactly one
 * status, and nothing after it. One thread, virtual time.
 */
#include "h2_kit.h"

#include "xds/grpc.h"

#define CALLS 4u

struct call {
    struct grpc_call *c; /* NULL: over */
    bool opened;
};
struct world {
    struct kit k;
    struct call calls[CALLS];
    uint8_t mood;
};
static struct world world;

static void on_open(struct grpc_call *c, void *arg)
{
    struct call *x = arg;
    PG_BUG_ON(x->c != c || x->opened);
    x->opened = true;
}
static void on_message(struct grpc_call *c, struct pg_str msg, void *arg)
{
    struct call *x = arg;
    PG_BUG_ON(x->c != c || !x->opened || msg.len > 1024);
    if (world.mood & 1 && msg.len == 3) {
        x->c = NULL;
        grpc_call_free(c);
    } else if (world.mood & 2) {
        (void)!grpc_call_send(c, msg);
    } else if (world.mood & 4) {
        (void)!grpc_call_half_close(c);
    }
}
static void on_status(struct grpc_call *c, int code, struct pg_str text, void *arg)
{
    struct call *x = arg;
    PG_BUG_ON(x->c != c || code < 0 || !pg_str_is_utf8(text));
    (void)grpc_code_name(code);
    x->c = NULL;
    grpc_call_free(c);
}
static const struct grpc_call_callbacks call_cb = {on_open, on_message, on_status};

static void one(struct pg_str in)
{
    struct world *w = &world;
    struct kit *k = &w->k;
    struct pg_h2_options o;
    struct pg_transport *t;
    static const char settings[] = "\0\0\0\4\0\0\0\0\0\0\0\0\4\1\0\0\0";
    const struct grpc_metadata md[] = {{"clusterid", PG_STR("c1"), false},
                                       {"authorization", PG_STR("Bearer x"), true}};
    *w = (struct world){0};
    size_t split = fuzz_u8(&in);
    uint8_t how = fuzz_u8(&in);
    w->mood = fuzz_u8(&in);
    PG_BUG_ON(pg_loop_new(&k->loop) < 0 || pg_mem_pair(k->loop, 16384, &t, &k->raw) < 0);
    pg_h2_options_grpc(&o, false);
    PG_BUG_ON(pg_h2_client_new(k->loop, t, &o, &kit_cb, k, &k->h2) < 0);
    (void)kit_say(k, pg_str_n(settings, sizeof(settings)), 0, false);
    for (size_t i = 0; i < CALLS && k->h2 != NULL; i++) {
        struct call *x = &w->calls[i];
        if (grpc_call_new(k->loop, k->h2, "/t.S/Echo", "istiod.istio-system.svc:15012", md, PG_ARRAY_LEN(md),
                          i == 3 ? 5000 : 0, 1024, &call_cb, x, &x->c) == 0) {
            PG_BUG_ON(grpc_call_send(x->c, PG_STR("hello")) < 0);
        }
    }
    kit_say_frames(k, in, split, how & 4);
    (void)pg_loop_sim_settle(k->loop, 200);
    if (how & 8) {
        pg_transport_abort(k->raw);
        k->raw = NULL;
    } else if (how & 16) {
        (void)!pg_transport_shutdown(k->raw);
        kit_hear(k);
    }
    pg_loop_sim_advance(k->loop, how & 1 ? 40000 : 6000);
    for (size_t i = 0; i < CALLS; i++) {
        PG_BUG_ON(w->calls[i].c != NULL && (i == 3 || k->session_closed));
        grpc_call_free(w->calls[i].c);
    }
    kit_fini(k);
}
FUZZ_TARGET(one, fuzz_no_init)
