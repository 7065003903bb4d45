/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One certificate request to a mesh CA on a connection of its own. Invariants: the callback comes exactly
 * once, from the loop, within the time limit, unless the call was cancelled; nothing of the token stays in
 * memory after the request went out. Loop thread.
 */
#include "xds/client.h"
#include "xds/conn_int.h"
#include "xds/grpc.h"

#include <stdio.h>

#define CA_PATH "/istio.v1.auth.IstioCertificateService/CreateCertificate"
#define CA_TIMEOUT_MS 10000u
#define CA_REQUEST_MAX 65536u
#define CA_RESPONSE_MAX (4u * 1024 * 1024)

struct xds_ca_call {
    struct pg_loop *loop;
    void (*cb)(void *arg, int err, const struct pg_str *chain, size_t n, const char *text);
    void *arg;
    struct xds_conn *conn;
    struct grpc_call *call;
    struct pg_timer *timer;
    struct pg_defer reap;
    struct pg_arena arena; /* the answer */
    struct pg_sb request;  /* encoded */
    struct pg_sb bearer;
    char *authority;
    char *cluster_id; /* or NULL */
    struct pg_str chain[XDS_CERT_CHAIN_MAX];
    size_t n_chain;
    bool got; /* an answer was decoded */
    bool done;
};

static void reap(struct pg_defer *d)
{
    struct xds_ca_call *c = PG_CONTAINER_OF(d, struct xds_ca_call, reap);
    pg_timer_free(c->timer);
    pg_arena_fini(&c->arena);
    pg_sb_fini(&c->request);
    pg_sb_fini(&c->bearer);
    pg_free(c->authority);
    pg_free(c->cluster_id);
    pg_free(c);
}

static void forget_token(struct xds_ca_call *c)
{
    if (c->bearer.p != NULL) {
        pg_wipe(c->bearer.p, c->bearer.len);
    }
    pg_sb_reset(&c->bearer);
}

static void shut(struct xds_ca_call *c)
{
    c->done = true;
    forget_token(c);
    pg_timer_stop(c->timer);
    grpc_call_free(c->call);
    c->call = NULL;
    xds_conn_free(c->conn);
    c->conn = NULL;
    pg_loop_defer(c->loop, &c->reap);
}

static void finish(struct xds_ca_call *c, int err, const char *text)
{
    if (c->done) {
        return;
    }
    shut(c);
    c->cb(c->arg, err, err == 0 ? c->chain : NULL, err == 0 ? c->n_chain : 0, text);
}

static int err_of_code(int code)
{
    switch (code) {
    case GRPC_UNAUTHENTICATED:
    case GRPC_PERMISSION_DENIED:
        return PG_E_DENIED;
    case GRPC_DEADLINE_EXCEEDED:
        return PG_E_TIMEDOUT;
    case GRPC_INVALID_ARGUMENT:
        return PG_E_CONFIG;
    case GRPC_RESOURCE_EXHAUSTED:
        return PG_E_LIMIT;
    case GRPC_UNIMPLEMENTED:
        return PG_E_UNSUPPORTED;
    default:
        return PG_E_IO;
    }
}

static void on_message(struct grpc_call *call, struct pg_str msg, void *arg)
{
    struct xds_ca_call *c = arg;
    struct pg_errtext err = {""};
    (void)call;
    if (c->got) {
        finish(c, PG_E_PROTO, "rpc error: code = Internal desc = more than one response to a unary call");
        return;
    }
    int r = xds_csr_response_decode(msg, &c->arena, c->chain, &c->n_chain, &err);
    if (r < 0) {
        finish(c, r, err.text);
        return;
    }
    c->got = true;
}

static void on_status(struct grpc_call *call, int code, struct pg_str text, void *arg)
{
    struct xds_ca_call *c = arg;
    char line[640];
    (void)call;
    if (code != GRPC_OK) {
        (void)snprintf(line, sizeof(line), "rpc error: code = %s desc = %.*s", grpc_code_name(code),
                       PG_STR_ARG(text));
        finish(c, err_of_code(code), line);
    } else if (!c->got || c->n_chain == 0) {
        finish(c, PG_E_PARSE, "the CA answered without a certificate");
    } else if (c->n_chain == 1) {
        finish(c, PG_E_PARSE, "no root certificate present");
    } else {
        finish(c, 0, "");
    }
}

static void on_ready(struct xds_conn *conn, struct pg_h2 *h, void *arg)
{
    static const struct grpc_call_callbacks callbacks = {NULL, on_message, on_status};
    struct xds_ca_call *c = arg;
    struct grpc_metadata md[2];
    size_t n = 0;
    (void)conn;
    if (c->bearer.len != 0) {
        md[n++] = (struct grpc_metadata){"authorization", pg_sb_view(&c->bearer), true};
        if (c->cluster_id != NULL) {
            md[n++] = (struct grpc_metadata){"clusterid", pg_str_c(c->cluster_id), false};
        }
    }
    int r =
        grpc_call_new(c->loop, h, CA_PATH, c->authority, md, n, 0, CA_RESPONSE_MAX, &callbacks, c, &c->call);
    forget_token(c);
    if (r == 0) {
        r = grpc_call_send(c->call, pg_sb_view(&c->request));
    }
    if (r == 0) {
        r = grpc_call_half_close(c->call);
    }
    if (r < 0) {
        finish(c, r, pg_err_str(r));
    }
}

static void on_down(struct xds_conn *conn, const char *desc, void *arg)
{
    char line[640];
    (void)conn;
    (void)snprintf(line, sizeof(line), "rpc error: code = Unavailable desc = %s", desc);
    finish(arg, PG_E_IO, line);
}

static void on_timeout(void *arg)
{
    finish(arg, PG_E_TIMEDOUT, "rpc error: code = DeadlineExceeded desc = context deadline exceeded");
}

static int prepare(struct xds_ca_call *c, const struct xds_ca_options *o)
{
    pg_sb_init(&c->request, CA_REQUEST_MAX);
    pg_sb_init(&c->bearer, CA_REQUEST_MAX);
    pg_arena_init(&c->arena, 2 * CA_RESPONSE_MAX);
    if (o->token.len != 0) {
        pg_sb_c(&c->bearer, "Bearer ");
        pg_sb_str(&c->bearer, pg_str_trim(o->token));
    }
    c->authority = pg_strdup(o->n_server_names != 0 ? o->server_names[0] : "");
    c->cluster_id = o->cluster_id != NULL ? pg_strdup(o->cluster_id) : NULL;
    if (c->authority == NULL || (o->cluster_id != NULL && c->cluster_id == NULL)) {
        return PG_E_NOMEM;
    }
    int r = xds_csr_request_encode(&o->request, &c->request);
    return r < 0 ? r : c->bearer.err;
}

int xds_ca_call(struct pg_loop *l, struct pg_resolver *resolver, const struct xds_ca_options *o,
                void (*cb)(void *arg, int err, const struct pg_str *chain, size_t n, const char *text),
                void *arg, struct xds_ca_call **out, struct pg_errtext *err)
{
    static const struct xds_conn_callbacks callbacks = {on_ready, on_down};
    uint64_t timeout = o->timeout_ms != 0 ? o->timeout_ms : CA_TIMEOUT_MS;
    struct xds_ca_call *c = pg_calloc(1, sizeof(*c));
    if (c == NULL) {
        pg_err_set(err, "out of memory");
        return PG_E_NOMEM;
    }
    c->loop = l;
    c->cb = cb;
    c->arg = arg;
    c->reap.cb = reap;
    int r = prepare(c, o);
    if (r == 0) {
        r = pg_timer_new(l, on_timeout, c, &c->timer);
    }
    if (r < 0) {
        pg_err_set(err, "%s", pg_err_str(r));
    } else {
        struct xds_conn_options co = {.address = o->address,
                                      .server_names = o->server_names,
                                      .n_server_names = o->n_server_names,
                                      .creds = o->creds,
                                      .timeout_ms = timeout};
        r = xds_conn_new(l, resolver, &co, &callbacks, c, &c->conn, err);
    }
    if (r < 0) {
        forget_token(c);
        reap(&c->reap);
        return r;
    }
    pg_timer_start(c->timer, timeout);
    *out = c;
    return 0;
}

void xds_ca_call_cancel(struct xds_ca_call *c)
{
    if (c != NULL && !c->done) {
        shut(c);
    }
}
