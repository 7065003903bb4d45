/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server driver over transports in memory, in virtual time: our gRPC client and ADS machine as
 * subscriber, subscribers that do not read, callers who are nobody, connections that do nothing, and failing
 * memory at every step.
 */
#include "net/h2.h"
#include "net/loop.h"
#include "net/loop_sim.h"
#include "xds/client.h"
#include "xds/grpc.h"
#include "xds/server.h"

#include "testlib.h"

#define ADS "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
#define CA "/istio.v1.auth.IstioCertificateService/CreateCertificate"

struct world {
    struct pg_loop *loop;
    struct xds_view *view;
    struct xds_server *server;
    int streams; /* open now */
    size_t nacks;
    struct pg_h2 *h;
    bool over;
    struct grpc_call *call;
    struct adsc *machine;
    size_t resources, removals;
    int code;
    char text[128];
    char reply[128];
    size_t each;
    struct adss_type_status status;
};

static int authenticate(void *arg, const struct pg_h2_head *md, struct pg_str peer_id, struct pg_sb *out,
                        struct pg_errtext *err)
{
    (void)arg;
    CU_ASSERT_EQUAL(peer_id.len, 0);
    if (!pg_str_eq_c(pg_h2_head_get(md, "authorization"), "Bearer good")) {
        pg_err_set(err, "no");
        return PG_E_DENIED;
    }
    pg_sb_c(out, "spiffe://td/ns/a/sa/b");
    return out->err;
}

static struct xds_view *view_for(void *arg, struct xds_stream *s, const struct xds_node *node,
                                 struct pg_str id, int *grpc_code, struct pg_errtext *err)
{
    struct world *w = arg;
    (void)s;
    CU_ASSERT(pg_str_eq_c(id, "spiffe://td/ns/a/sa/b"));
    if (pg_str_eq_c(node->id, "stranger")) {
        *grpc_code = GRPC_PERMISSION_DENIED;
        pg_err_set(err, "authorization failed: stranger");
        return NULL;
    }
    return w->view;
}

static void on_stream(void *arg, struct xds_stream *s, bool opened)
{
    struct world *w = arg;
    (void)s;
    w->streams += opened ? 1 : -1;
}

static void on_nack(void *arg, struct xds_stream *s, struct pg_str type_url, struct pg_str error)
{
    struct world *w = arg;
    (void)s;
    CU_ASSERT(pg_str_eq_c(type_url, XDS_TYPE_ADDRESS));
    CU_ASSERT(pg_str_eq_c(error, "bad: no thanks"));
    w->nacks++;
}

static void on_csr(void *arg, const struct xds_csr_request *q, struct pg_str caller, struct grpc_stream *s)
{
    (void)arg;
    CU_ASSERT(pg_str_eq_c(q->csr, "PEM"));
    CU_ASSERT(pg_str_eq_c(caller, "spiffe://td/ns/a/sa/b"));
    const struct pg_str chain[] = {PG_STR("leaf"), PG_STR("root")};
    xds_csr_reply(s, GRPC_OK, "", chain, 2);
}

static const struct xds_server_callbacks callbacks = {view_for, on_stream, on_nack, authenticate, on_csr};

/* --- the client
 * -------------------------------------------------------------------------------------------------- */

static void on_session_closed(struct pg_h2 *h, int err, const char *text, void *arg)
{
    struct world *w = arg;
    (void)err;
    (void)text;
    pg_h2_free(h);
    w->h = NULL;
    w->over = true;
}

static int apply(void *arg, size_t type, const struct xds_delta_resource *r, struct pg_errtext *why)
{
    struct world *w = arg;
    (void)type;
    if (pg_str_eq_c(r->name, "bad")) {
        pg_err_set(why, "no thanks");
        return PG_E_PARSE;
    }
    w->resources++;
    return 0;
}

static void removed(void *arg, size_t type, struct pg_str name)
{
    (void)type;
    (void)name;
    ((struct world *)arg)->removals++;
}

static int emit(void *arg, struct pg_str msg)
{
    struct world *w = arg;
    return w->call != NULL ? grpc_call_send(w->call, msg) : PG_E_CLOSED;
}

static void on_message(struct grpc_call *c, struct pg_str msg, void *arg)
{
    struct world *w = arg;
    struct adsc_result result;
    struct pg_errtext err = {""};
    (void)c;
    if (w->machine == NULL) {
        struct pg_arena arena;
        struct pg_str chain[XDS_CERT_CHAIN_MAX];
        size_t n = 0;
        pg_arena_init(&arena, 65536);
        if (xds_csr_response_decode(msg, &arena, chain, &n, &err) == 0) {
            (void)snprintf(w->reply, sizeof(w->reply), "%zu %.*s", n, PG_STR_ARG(chain[0]));
        }
        pg_arena_fini(&arena);
        return;
    }
    int r = adsc_response(w->machine, msg, apply, removed, w, emit, w, &result, &err);
    if (r < 0) {
        CU_ASSERT(r == PG_E_NOMEM || r == PG_E_CLOSED);
        grpc_call_free(w->call);
        w->call = NULL;
    }
}

static void on_status(struct grpc_call *c, int code, struct pg_str text, void *arg)
{
    struct world *w = arg;
    w->code = code;
    (void)snprintf(w->text, sizeof(w->text), "%.*s", PG_STR_ARG(text));
    grpc_call_free(c);
    w->call = NULL;
}

static int world_open(struct world *w)
{
    *w = (struct world){.code = -1};
    int r = pg_loop_new(&w->loop);
    r = r < 0 ? r : xds_view_new(1000, &w->view);
    return r < 0 ? r : xds_server_new(w->loop, &callbacks, w, &w->server);
}

static int connect_client(struct world *w)
{
    static const struct pg_h2_callbacks h2 = {.on_closed = on_session_closed};
    struct pg_transport *a = NULL, *b = NULL;
    struct pg_h2_options o;
    struct pg_addr from = {.port = 7};
    int r = pg_mem_pair(w->loop, 65536, &a, &b);
    if (r < 0) {
        return r;
    }
    r = xds_server_accept(w->server, b, &from);
    if (r < 0) {
        pg_transport_close(b);
        pg_transport_close(a);
        return r;
    }
    pg_h2_options_grpc(&o, false);
    r = pg_h2_client_new(w->loop, a, &o, &h2, w, &w->h);
    if (r < 0) {
        pg_transport_close(a);
        return r;
    }
    (void)pg_loop_sim_settle(w->loop, 50);
    return w->h != NULL ? 0 : PG_E_CLOSED;
}

static int open_call(struct world *w, const char *path, const char *token)
{
    static const struct grpc_call_callbacks cb = {NULL, on_message, on_status};
    struct grpc_metadata md = {"authorization", pg_str_c(token), true};
    return grpc_call_new(w->loop, w->h, path, "host", &md, 1, 0, 64u << 20, &cb, w, &w->call);
}

static int subscribe(struct world *w, const char *node_id)
{
    const struct adsc_type types[] = {{XDS_TYPE_ADDRESS, NULL, 0}, {XDS_TYPE_AUTHORIZATION, NULL, 0}};
    const struct xds_node node = {.id = pg_str_c(node_id)};
    int r = open_call(w, ADS, "Bearer good");
    r = r < 0 ? r : adsc_new(types, 2, 1000, &w->machine);
    return r < 0 ? r : adsc_stream_open(w->machine, &node, 1000, emit, w);
}

static void world_close(struct world *w)
{
    grpc_call_free(w->call);
    pg_h2_free(w->h);
    xds_server_free(w->server);
    if (w->loop != NULL) {
        (void)pg_loop_sim_settle(w->loop, 50);
    }
    xds_view_free(w->view);
    adsc_free(w->machine);
    if (w->loop != NULL) {
        pg_loop_free(w->loop);
    }
}

static void started(struct world *w)
{
    CU_ASSERT_EQUAL_FATAL(world_open(w), 0);
    CU_ASSERT_EQUAL_FATAL(connect_client(w), 0);
}

static void set(struct world *w, const char *name, const char *bytes)
{
    CU_ASSERT(xds_view_set(w->view, XDS_TYPE_ADDRESS, pg_str_c(name), pg_str_c(bytes), NULL, 0) >= 0);
}

static void settle(struct world *w)
{
    CU_ASSERT(pg_loop_sim_settle(w->loop, 5000));
}

/* --- tests
 * -------------------------------------------------------------------------------------------------------- */

static void look(void *arg, const struct xds_stream_info *i)
{
    struct world *w = arg;
    w->each++;
    CU_ASSERT(pg_str_eq_c(i->node_id, "ztunnel~1.1.1.1~a.b~c"));
    CU_ASSERT(pg_str_eq_c(i->identity, "spiffe://td/ns/a/sa/b"));
    CU_ASSERT(i->from.len != 0 && i->connected_at_ms != 0);
    struct adss_type_status st[4];
    CU_ASSERT(adss_status(i->machine, st, 4) > 0);
    w->status = st[0];
}

static void subscriber(void)
{
    struct world w;
    size_t live = pg_mem_live_blocks();
    started(&w);
    set(&w, "x", "1");
    set(&w, "bad", "2");
    xds_view_commit(w.view);
    CU_ASSERT_EQUAL_FATAL(subscribe(&w, "ztunnel~1.1.1.1~a.b~c"), 0);
    settle(&w);
    CU_ASSERT(adsc_is_synced(w.machine));
    CU_ASSERT_EQUAL(w.streams, 1);
    CU_ASSERT_EQUAL(w.resources, 1);
    CU_ASSERT_EQUAL(w.nacks, 1);
    set(&w, "y", "3");
    CU_ASSERT_EQUAL(xds_view_del(w.view, XDS_TYPE_ADDRESS, PG_STR("x")), 1);
    xds_view_commit(w.view); /* no kick: the view tells */
    settle(&w);
    CU_ASSERT_EQUAL(w.resources, 2);
    CU_ASSERT_EQUAL(w.removals, 1);
    xds_server_kick(w.server); /* nothing is due: nothing happens */
    settle(&w);
    xds_server_each(w.server, look, &w);
    CU_ASSERT_EQUAL(w.each, 1);
    CU_ASSERT_EQUAL(w.status.sent, 2);
    CU_ASSERT_EQUAL(w.status.acked, 1);
    CU_ASSERT_EQUAL(w.status.generation_acked, xds_view_generation(w.view));
    grpc_call_free(w.call);
    w.call = NULL;
    settle(&w);
    CU_ASSERT_EQUAL(w.streams, 0);
    set(&w, "z", "4");
    xds_view_commit(w.view); /* nobody is left to be told */
    settle(&w);
    world_close(&w);
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), live);
}

static void strangers(void)
{
    struct world w;
    started(&w);
    CU_ASSERT_EQUAL_FATAL(open_call(&w, ADS, "Bearer evil"), 0);
    settle(&w);
    CU_ASSERT_EQUAL(w.code, GRPC_UNAUTHENTICATED);
    CU_ASSERT_STRING_EQUAL(w.text, "authentication failure");
    CU_ASSERT_EQUAL_FATAL(open_call(&w, CA, "Bearer evil"), 0);
    settle(&w);
    CU_ASSERT_EQUAL(w.code, GRPC_UNAUTHENTICATED);
    CU_ASSERT_STRING_EQUAL(w.text, "request authenticate failure");
    CU_ASSERT_EQUAL_FATAL(subscribe(&w, "stranger"), 0);
    settle(&w);
    CU_ASSERT_EQUAL(w.code, GRPC_PERMISSION_DENIED);
    CU_ASSERT_STRING_EQUAL(w.text, "authorization failed: stranger");
    CU_ASSERT_EQUAL(w.streams, 0);
    CU_ASSERT_EQUAL_FATAL(open_call(&w, ADS, "Bearer good"), 0);
    CU_ASSERT_EQUAL(grpc_call_send(w.call, PG_STR("")), 0);
    settle(&w);
    CU_ASSERT_EQUAL(w.code, GRPC_INVALID_ARGUMENT);
    CU_ASSERT_STRING_EQUAL(w.text, "missing node information");
    xds_server_each(w.server, look, &w);
    CU_ASSERT_EQUAL(w.each, 0);
    world_close(&w);
    struct xds_server_callbacks open_house = callbacks;
    open_house.authenticate = NULL;
    struct xds_server *none = NULL;
    CU_ASSERT_EQUAL(xds_server_new(NULL, &open_house, NULL, &none), PG_E_CONFIG);
}

static void certificates(void)
{
    struct world w;
    struct pg_sb sb;
    const struct xds_csr_request q = {.csr = PG_STR("PEM"), .validity_s = 60};
    started(&w);
    pg_sb_init(&sb, 4096);
    CU_ASSERT_EQUAL_FATAL(xds_csr_request_encode(&q, &sb), 0);
    CU_ASSERT_EQUAL_FATAL(open_call(&w, CA, "Bearer good"), 0);
    CU_ASSERT_EQUAL(grpc_call_send(w.call, pg_sb_view(&sb)), 0);
    CU_ASSERT_EQUAL(grpc_call_half_close(w.call), 0);
    settle(&w);
    CU_ASSERT_EQUAL(w.code, GRPC_OK);
    CU_ASSERT_STRING_EQUAL(w.reply, "2 leaf");
    CU_ASSERT_EQUAL_FATAL(open_call(&w, CA, "Bearer good"), 0);
    CU_ASSERT_EQUAL(grpc_call_half_close(w.call), 0);
    settle(&w);
    CU_ASSERT_EQUAL(w.code, GRPC_INTERNAL);
    CU_ASSERT_EQUAL_FATAL(open_call(&w, CA, "Bearer good"), 0);
    CU_ASSERT_EQUAL(grpc_call_send(w.call, PG_STR("\xff")), 0);
    settle(&w);
    CU_ASSERT_EQUAL(w.code, GRPC_INVALID_ARGUMENT);
    pg_sb_fini(&sb);
    world_close(&w);
}

/* A subscriber that stops reading costs one response, however much happens meanwhile. */
static void slow_subscriber(void)
{
    struct world w;
    struct pg_h2_stream *s = NULL;
    static const struct pg_h2_stream_callbacks deaf = {NULL, NULL, NULL, NULL, NULL};
    struct pg_h2_field f[] = {{PG_STR(":method"), PG_STR("POST"), false},
                              {PG_STR(":scheme"), PG_STR("https"), false},
                              {PG_STR(":path"), PG_STR(ADS), false},
                              {PG_STR(":authority"), PG_STR("h"), false},
                              {PG_STR("content-type"), PG_STR("application/grpc"), false},
                              {PG_STR("authorization"), PG_STR("Bearer good"), true}};
    struct pg_h2_head head = {f, PG_ARRAY_LEN(f)};
    started(&w);
    size_t len = 4u << 20;
    char *big = pg_malloc(len);
    memset(big, 'x', len);
    CU_ASSERT_EQUAL_FATAL(pg_h2_request(w.h, &head, false, &deaf, NULL, &s), 0);
    const struct xds_delta_request q = {.has_node = true,
                                        .node = {.id = PG_STR("ztunnel~1.1.1.1~a.b~c")},
                                        .type_url = PG_STR(XDS_TYPE_ADDRESS)};
    const struct xds_delta_request q2 = {.type_url = PG_STR(XDS_TYPE_AUTHORIZATION)};
    const struct xds_delta_request *both[] = {&q, &q2};
    CU_ASSERT(xds_view_set(w.view, XDS_TYPE_ADDRESS, PG_STR("big"), pg_str_n(big, len), NULL, 0) > 0);
    xds_view_commit(w.view);
    for (size_t i = 0; i < 2; i++) {
        struct pg_sb sb;
        pg_sb_init(&sb, 4096);
        CU_ASSERT_EQUAL(xds_delta_request_encode(both[i], &sb), 0);
        char frame[5] = {0, 0, 0, 0, (char)sb.len};
        struct iovec iov[2] = {{frame, 5}, {sb.p, sb.len}};
        CU_ASSERT_EQUAL(pg_h2_writev(s, iov, 2), (ssize_t)(5 + sb.len));
        pg_sb_fini(&sb);
    }
    (void)pg_loop_sim_settle(w.loop, 200);
    CU_ASSERT_EQUAL(w.streams, 1);
    for (int i = 0; i < 50; i++) {
        big[0] = (char)i;
        CU_ASSERT(xds_view_set(w.view, XDS_TYPE_AUTHORIZATION, PG_STR("p"), pg_str_n(big, len), NULL, 0) > 0);
        xds_view_commit(w.view);
        (void)pg_loop_sim_settle(w.loop, 20);
    }
    struct adss_type_status st[4];
    xds_server_each(w.server, look, &w);
    CU_ASSERT_EQUAL(w.status.sent, 1);
    (void)st;
    pg_free(big);
    pg_h2_stream_close(s, PG_H2_CANCEL);
    (void)pg_loop_sim_settle(w.loop, 200);
    CU_ASSERT_EQUAL(w.streams, 0);
    world_close(&w);
}

static void idle_ones(void)
{
    struct world w;
    started(&w);
    pg_loop_sim_advance(w.loop, 3 * XDS_SERVER_IDLE_MS);
    CU_ASSERT(w.over); /* a connection without calls */
    CU_ASSERT_EQUAL_FATAL(connect_client(&w), 0);
    CU_ASSERT_EQUAL_FATAL(open_call(&w, ADS, "Bearer good"), 0);
    pg_loop_sim_advance(w.loop, 3 * XDS_SERVER_IDLE_MS);
    CU_ASSERT_EQUAL(w.code, GRPC_DEADLINE_EXCEEDED); /* a stream that never says who it is */
    world_close(&w);

    /* Who is subscribed stays, however quiet it is. */
    started(&w);
    CU_ASSERT_EQUAL_FATAL(subscribe(&w, "ztunnel~1.1.1.1~a.b~c"), 0);
    pg_loop_sim_advance(w.loop, 20 * XDS_SERVER_IDLE_MS);
    CU_ASSERT_EQUAL(w.streams, 1);
    CU_ASSERT_FALSE(w.over);
    xds_server_drain(w.server);
    pg_loop_sim_advance(w.loop, 5000);
    CU_ASSERT_EQUAL(w.code, GRPC_UNAVAILABLE);
    CU_ASSERT_EQUAL(w.streams, 0);
    CU_ASSERT(w.over);
    world_close(&w);
}

/* The server goes away under its subscribers, and the subscribers under the server. */
static void sudden_ends(void)
{
    struct world w;
    size_t live = pg_mem_live_blocks();
    started(&w);
    set(&w, "x", "1");
    xds_view_commit(w.view);
    CU_ASSERT_EQUAL_FATAL(subscribe(&w, "ztunnel~1.1.1.1~a.b~c"), 0);
    settle(&w);
    CU_ASSERT_EQUAL(w.streams, 1);
    xds_server_free(w.server);
    w.server = NULL;
    pg_loop_sim_advance(w.loop, 5000);
    CU_ASSERT(w.over);
    CU_ASSERT_EQUAL(w.streams, 1); /* no callback after free */
    world_close(&w);
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), live);

    started(&w);
    CU_ASSERT_EQUAL_FATAL(subscribe(&w, "ztunnel~1.1.1.1~a.b~c"), 0);
    settle(&w);
    grpc_call_free(w.call);
    w.call = NULL;
    pg_h2_free(w.h);
    w.h = NULL;
    pg_loop_sim_advance(w.loop, 5000);
    CU_ASSERT_EQUAL(w.streams, 0);
    world_close(&w);
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), live);
}

static int story(void *arg)
{
    struct world w;
    (void)arg;
    int r = world_open(&w);
    r = r < 0 ? r : xds_view_set(w.view, XDS_TYPE_ADDRESS, PG_STR("x"), PG_STR("1"), NULL, 0);
    r = r < 0 ? r : connect_client(&w);
    r = r < 0 ? r : subscribe(&w, "ztunnel~1.1.1.1~a.b~c");
    if (r >= 0) {
        xds_view_commit(w.view);
        (void)pg_loop_sim_settle(w.loop, 200);
        r = adsc_is_synced(w.machine) && w.resources == 1 && w.streams == 1 ? 0 : PG_E_NOMEM;
    }
    world_close(&w);
    return r;
}

static void failing_memory(void)
{
    CU_ASSERT(test_alloc_sweep(story, NULL) > 50);
}

TEST_MAIN("server", {"subscriber", subscriber}, {"strangers", strangers}, {"certificates", certificates},
          {"slow subscriber", slow_subscriber}, {"idle ones", idle_ones}, {"sudden ends", sudden_ends},
          {"failing memory", failing_memory})
