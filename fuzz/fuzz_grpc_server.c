/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes from a stranger to a gRPC server: as fuzz_h2_server, with handlers on top that echo, refuse, finish
 * early or go away by the mood of the input. Each accepted call is closed exactly once. One thread, virtual
 * time.
 */
#include "h2_kit.h"

#include "xds/grpc.h"

#define CALLS 32u
enum { REFUSE = 1, FINISH_EARLY = 2, ABORT = 4, SILENT = 8 };

struct call {
    struct grpc_stream *s; /* NULL: over */
    unsigned messages;
};
struct world {
    struct kit k;
    struct call calls[CALLS];
    size_t n;
    uint8_t mood;
};
static struct world world;

static int on_open(struct grpc_stream *s, const struct pg_h2_head *md, void *arg, struct pg_errtext *text)
{
    struct world *w = arg;
    PG_BUG_ON(pg_h2_head_get(md, ":path").len == 0 || grpc_stream_session(s) != w->k.h2);
    if (w->n == CALLS || (w->mood & REFUSE && w->n % 2 == 1)) {
        w->n += w->n < CALLS;
        pg_err_set(text, "no \xc3\xa9 %%\n");
        return GRPC_PERMISSION_DENIED;
    }
    struct call *c = &w->calls[w->n++];
    *c = (struct call){.s = s};
    grpc_stream_set_arg(s, c);
    return GRPC_OK;
}

static void on_message(struct grpc_stream *s, struct pg_str msg, void *arg)
{
    struct call *c = arg;
    PG_BUG_ON(c->s != s || msg.len > 4096);
    c->messages++;
    if (world.mood & ABORT && c->messages == 2) {
        c->s = NULL;
        grpc_stream_abort(s);
    } else if (world.mood & FINISH_EARLY && c->messages == 3) {
        grpc_stream_finish(s, GRPC_RESOURCE_EXHAUSTED, "enough");
    } else if (!(world.mood & SILENT)) {
        int r = grpc_stream_send(s, msg);
        PG_BUG_ON(r < 0 && r != PG_E_AGAIN && r != PG_E_CLOSED && r != PG_E_RESET);
    }
}
static void on_half_close(struct grpc_stream *s, void *arg)
{
    PG_BUG_ON(((struct call *)arg)->s != s);
    if (!(world.mood & SILENT)) {
        grpc_stream_finish(s, GRPC_OK, "");
    }
}
static void on_call_closed(struct grpc_stream *s, void *arg)
{
    struct call *c = arg;
    PG_BUG_ON(c->s != s);
    c->s = NULL;
}
static const struct grpc_handler handlers[] = {
    {"/t.S/Echo", 4096, on_open, on_message, on_half_close, on_call_closed, NULL},
    {"/t.S/Small", 16, on_open, on_message, on_half_close, on_call_closed, NULL},
};

static void on_request(struct pg_h2 *h, struct pg_h2_stream *s, const struct pg_h2_head *head, bool end,
                       void *arg)
{
    struct kit *k = arg;
    PG_BUG_ON(h != k->h2);
    grpc_server_request(k->loop, s, head, end, handlers, PG_ARRAY_LEN(handlers), &world);
}
static const struct pg_h2_callbacks session_cb = {on_request, kit_on_goaway, kit_on_closed, kit_on_settings};

static void one(struct pg_str in)
{
    struct world *w = &world;
    struct kit *k = &w->k;
    struct pg_h2_options o;
    struct pg_transport *t;
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0\0\0\0\4\1\0\0\0";
    *w = (struct world){0};
    size_t split = fuzz_u8(&in);
    uint8_t how = fuzz_u8(&in);
    w->mood = fuzz_u8(&in);
    PG_BUG_ON(pg_loop_new(&k->loop) < 0 || pg_mem_pair(k->loop, 16384, &k->raw, &t) < 0);
    pg_h2_options_grpc(&o, true);
    PG_BUG_ON(pg_h2_server_new(k->loop, t, &o, &session_cb, k, &k->h2) < 0);
    (void)kit_say(k, pg_str_n(preface, sizeof(preface)), 0, false);
    kit_say_frames(k, in, split, how & 4);
    (void)pg_loop_sim_settle(k->loop, 200);
    if (how & 8) {
        pg_transport_abort(k->raw);
        k->raw = NULL;
    } else if (how & 16) {
        (void)!pg_transport_shutdown(k->raw);
        kit_hear(k);
    }
    pg_loop_sim_advance(k->loop, how & 1 ? 40000 : 100);
    for (size_t i = 0; i < w->n; i++) {
        if (w->calls[i].s != NULL) {
            grpc_stream_abort(w->calls[i].s);
            w->calls[i].s = NULL;
        }
    }
    kit_fini(k);
}
FUZZ_TARGET(one, fuzz_no_init)
