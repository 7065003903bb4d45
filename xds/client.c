/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps one delta ADS stream to a control plane alive. Invariants: at most one connection and one stream at a
 * time; every loss is logged once, with the delay to the next attempt, so the back-off bounds the log too;
 * what was accepted survives reconnects; after xds_client_free no callback comes. Loop thread.
 */
#include "xds/client.h"
#include "core/log.h"
#include "xds/conn_int.h"
#include "xds/grpc.h"

#include <stdio.h>

#define ADS_PATH "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
#define NAMES_MAX 1000000u                                  /* resources held per type */
#define VERSIONS_MAX_BYTES (3u * 1024 * 1024 + 512u * 1024) /* stock servers refuse requests above 4 MiB */
#define TOKEN_MAX 65536u
#define METADATA_MAX 256u
#define PING_FIRST_MS 30000u
#define PING_SLOWEST_MS (2u * 60 * 60 * 1000)

enum phase { PHASE_WAITING, PHASE_DIALING, PHASE_OPEN };

struct xds_client {
    struct pg_loop *loop;
    struct pg_resolver *resolver;
    struct xds_client_callbacks cb;
    void *arg;
    struct xds_client_options o; /* pointers into arena */
    struct pg_arena arena;
    struct adsc *machine;
    struct pg_backoff backoff;
    struct pg_rng rng;
    struct pg_timer *timer; /* next attempt */
    struct xds_conn *conn;
    struct grpc_call *call;
    struct pg_defer lost; /* a status is being turned into a loss */
    struct pg_defer reap;
    enum phase phase;
    size_t attempt;
    uint64_t opened_ms;
    size_t versions_max;
    uint32_t ping_ms;
    char text[640];
    bool connected; /* told to the owner */
    bool synced;    /* told to the owner */
    bool freed;
};

static void drop_connection(struct xds_client *c)
{
    pg_defer_cancel(&c->lost);
    grpc_call_free(c->call);
    c->call = NULL;
    xds_conn_free(c->conn);
    c->conn = NULL;
    adsc_stream_closed(c->machine);
}

static void tell(struct xds_client *c, enum xds_client_state state, const char *text, uint64_t retry_ms)
{
    const struct xds_client_event e = {.state = state,
                                       .text = text,
                                       .retry_ms = retry_ms,
                                       .address = c->conn != NULL ? xds_conn_remote(c->conn) : ""};
    if (c->cb.on_state != NULL) {
        c->cb.on_state(c->arg, &e);
    }
}

/* As Go prints a time.Duration: "735ms", "24.735s", "1m5.5s". */
static void duration_text(uint64_t ms, char *out, size_t cap)
{
    if (ms < 1000) {
        (void)snprintf(out, cap, "%llums", (unsigned long long)ms);
        return;
    }
    unsigned frac = (unsigned)(ms % 1000);
    unsigned long long s = ms / 1000;
    char tail[8] = "";
    if (frac != 0) {
        int n = snprintf(tail, sizeof(tail), ".%03u", frac);
        while (n > 0 && tail[n - 1] == '0') {
            tail[--n] = '\0';
        }
    }
    if (s < 60) {
        (void)snprintf(out, cap, "%llu%ss", s, tail);
    } else {
        (void)snprintf(out, cap, "%llum%llu%ss", s / 60, s % 60, tail);
    }
}

/* --- the end of an attempt
 * ------------------------------------------------------------------------------------- */

static void lose(struct xds_client *c, const char *text)
{
    char wait[32];
    char line[768];
    if (c->phase == PHASE_OPEN) {
        pg_backoff_ended(&c->backoff, pg_loop_now_ms(c->loop) - c->opened_ms);
    }
    uint32_t delay = pg_backoff_next_ms(&c->backoff, &c->rng);
    duration_text(delay, wait, sizeof(wait));
    (void)snprintf(line, sizeof(line), "disconnected, retrying in %s: delta stream: %s", wait, text);
    PG_LOG(PG_LOG_WARN, c->o.log_scope, line, PG_F_RAW("target", pg_str_c(c->o.target)));
    if (c->conn != NULL && xds_conn_told_to_calm(c->conn)) {
        c->ping_ms = c->ping_ms < PING_SLOWEST_MS / 2 ? c->ping_ms * 2 : PING_SLOWEST_MS;
    }
    drop_connection(c);
    c->phase = PHASE_WAITING;
    c->attempt++;
    c->connected = false;
    c->synced = false;
    pg_timer_start(c->timer, delay);
    tell(c, XDS_DISCONNECTED, text, delay);
}

static void attempt_failed(struct xds_client *c, const char *text)
{
    (void)snprintf(c->text, sizeof(c->text), "rpc error: code = Unavailable desc = %s", text);
    lose(c, c->text);
}

/* --- the stream
 * ------------------------------------------------------------------------------------------------ */

static int emit(void *arg, struct pg_str msg)
{
    struct xds_client *c = arg;
    return c->call != NULL ? grpc_call_send(c->call, msg)
                           : PG_E_CLOSED; /* the owner may have let go meanwhile */
}

static int apply(void *arg, size_t type, const struct xds_delta_resource *r, struct pg_errtext *why)
{
    struct xds_client *c = arg;
    return c->call != NULL ? c->cb.on_resource(c->arg, type, r, why) : PG_E_CANCELLED;
}

static void removed(void *arg, size_t type, struct pg_str name)
{
    struct xds_client *c = arg;
    if (!c->freed) {
        c->cb.on_removed(c->arg, type, name);
    }
}

static void on_open(struct grpc_call *call, void *arg)
{
    struct xds_client *c = arg;
    (void)call;
    if (!c->connected) {
        c->connected = true;
        tell(c, XDS_CONNECTED, "", 0);
    }
}

static void on_message(struct grpc_call *call, struct pg_str msg, void *arg)
{
    struct xds_client *c = arg;
    struct adsc_result result = {.type = SIZE_MAX};
    struct pg_errtext err = {""};
    (void)call;
    int r = adsc_response(c->machine, msg, apply, removed, c, emit, c, &result, &err);
    if (c->freed || c->call == NULL) {
        return;
    }
    if (r < 0) {
        (void)snprintf(c->text, sizeof(c->text), "rpc error: code = Internal desc = discovery response: %s",
                       err.text[0] != '\0' ? err.text : pg_err_str(r));
        lose(c, c->text);
        return;
    }
    if (c->cb.on_batch != NULL) {
        c->cb.on_batch(c->arg, &result);
    }
    if (!c->freed && c->call != NULL && result.synced && !c->synced) {
        c->synced = true;
        tell(c, XDS_SYNCED, "", 0);
    }
}

static void on_lost(struct pg_defer *d)
{
    struct xds_client *c = PG_CONTAINER_OF(d, struct xds_client, lost);
    lose(c, c->text);
}

static void on_status(struct grpc_call *call, int code, struct pg_str text, void *arg)
{
    struct xds_client *c = arg;
    (void)call;
    if (code == GRPC_OK) {
        (void)snprintf(c->text, sizeof(c->text), "EOF");
    } else if (code == GRPC_UNAVAILABLE && pg_str_eq_c(text, "transport is closing")) {
        (void)snprintf(c->text, sizeof(c->text),
                       "rpc error: code = Unavailable desc = error reading from server: EOF");
    } else {
        (void)snprintf(c->text, sizeof(c->text), "rpc error: code = %s desc = %.*s", grpc_code_name(code),
                       PG_STR_ARG(text));
    }
    if (code == GRPC_RESOURCE_EXHAUSTED && strstr(c->text, "larger than max") != NULL) {
        c->versions_max = 0; /* it was our map of versions: the next first request goes without */
    }
    /* When the whole connection ends, on_down follows with a better reason. */
    pg_loop_defer(c->loop, &c->lost);
}

static int open_stream(struct xds_client *c, struct pg_h2 *h, struct pg_errtext *err)
{
    static const struct grpc_call_callbacks callbacks = {on_open, on_message, on_status};
    struct grpc_metadata md[2];
    size_t n = 0;
    struct pg_sb token;
    struct pg_sb bearer;
    pg_sb_init(&token, TOKEN_MAX);
    pg_sb_init(&bearer, TOKEN_MAX + 16);
    int r = c->o.token != NULL ? c->o.token(c->arg, &token, err) : 0;
    if (r >= 0 && token.len != 0) {
        pg_sb_c(&bearer, "Bearer ");
        pg_sb_str(&bearer, pg_str_trim(pg_sb_view(&token)));
        md[n++] = (struct grpc_metadata){"authorization", pg_sb_view(&bearer), true};
        if (c->o.cluster_id != NULL) {
            md[n++] = (struct grpc_metadata){"clusterid", pg_str_c(c->o.cluster_id), false};
        }
    }
    r = r < 0 ? r : bearer.err;
    if (r == 0) {
        r = grpc_call_new(c->loop, h, ADS_PATH, c->o.server_names[0], md, n, 0, c->o.max_message, &callbacks,
                          c, &c->call);
    }
    if (r == 0) {
        r = adsc_stream_open(c->machine, &c->o.node, c->versions_max, emit, c);
    }
    if (token.p != NULL) {
        pg_wipe(token.p, token.len);
    }
    if (bearer.p != NULL) {
        pg_wipe(bearer.p, bearer.len);
    }
    pg_sb_fini(&token);
    pg_sb_fini(&bearer);
    if (r < 0 && err->text[0] == '\0') {
        pg_err_set(err, "%s", pg_err_str(r));
    }
    return r;
}

static void on_ready(struct xds_conn *conn, struct pg_h2 *h, void *arg)
{
    struct xds_client *c = arg;
    struct pg_errtext err = {""};
    (void)conn;
    c->phase = PHASE_OPEN;
    c->opened_ms = pg_loop_now_ms(c->loop);
    if (open_stream(c, h, &err) < 0) {
        attempt_failed(c, err.text);
    }
}

static void on_down(struct xds_conn *conn, const char *desc, void *arg)
{
    struct xds_client *c = arg;
    (void)conn;
    attempt_failed(c, desc);
}

/* --- attempts
 * -------------------------------------------------------------------------------------------------- */

static void attempt(void *arg)
{
    static const struct xds_conn_callbacks callbacks = {on_ready, on_down};
    struct xds_client *c = arg;
    struct pg_errtext err = {""};
    const size_t n = c->o.n_addresses;
    c->phase = PHASE_DIALING;
    tell(c, XDS_CONNECTING, "", 0);
    if (c->freed || c->phase != PHASE_DIALING || c->conn != NULL) {
        return;
    }
    struct cert_creds *creds = c->o.creds(c->arg, &err);
    if (creds == NULL) {
        attempt_failed(c, err.text[0] != '\0' ? err.text : "no credentials");
        return;
    }
    struct xds_conn_options o = {.address = c->o.addresses[c->attempt % n],
                                 .server_names = c->o.server_names,
                                 .n_server_names = c->o.n_server_names,
                                 .creds = creds,
                                 .timeout_ms = c->o.connect_timeout_ms,
                                 .ping_ms = c->ping_ms,
                                 .first_ip = c->attempt / n};
    int r = xds_conn_new(c->loop, c->resolver, &o, &callbacks, c, &c->conn, &err);
    cert_creds_unref(creds);
    if (r < 0) {
        attempt_failed(c, err.text);
    }
}

/* --- interface
 * ------------------------------------------------------------------------------------------------- */

static void reap(struct pg_defer *d)
{
    struct xds_client *c = PG_CONTAINER_OF(d, struct xds_client, reap);
    pg_timer_free(c->timer);
    adsc_free(c->machine);
    pg_arena_fini(&c->arena);
    pg_free(c);
}

static const char *copy_text(struct xds_client *c, const char *s, bool *failed)
{
    const char *p = s != NULL ? pg_arena_strndup(&c->arena, s, strlen(s)) : NULL;
    *failed = *failed || (s != NULL && p == NULL);
    return p;
}

static struct pg_str copy_str(struct xds_client *c, struct pg_str s, bool *failed)
{
    const char *p = pg_arena_strndup(&c->arena, s.p, s.len);
    *failed = *failed || p == NULL;
    return pg_str_n(p, p != NULL ? s.len : 0);
}

static const char *const *copy_texts(struct xds_client *c, const char *const *in, size_t n, bool *failed)
{
    const char **out = pg_arena_calloc(&c->arena, n, sizeof(*out));
    *failed = *failed || out == NULL;
    for (size_t i = 0; out != NULL && i < n; i++) {
        out[i] = copy_text(c, in[i], failed);
    }
    return out;
}

static void copy_node(struct xds_client *c, const struct xds_node *in, bool *failed)
{
    struct xds_kv *kv = pg_arena_calloc(&c->arena, in->n_metadata, sizeof(*kv));
    *failed = *failed || kv == NULL;
    for (size_t i = 0; kv != NULL && i < in->n_metadata; i++) {
        kv[i].key = copy_str(c, in->metadata[i].key, failed);
        kv[i].value = copy_str(c, in->metadata[i].value, failed);
    }
    c->o.node = (struct xds_node){copy_str(c, in->id, failed), kv, in->n_metadata};
}

static int check_options(const struct xds_client_options *o, struct pg_errtext *err)
{
    struct pg_hostport hp;
    if (o->n_addresses == 0 || o->n_addresses > XDS_CLIENT_ADDRESSES_MAX || o->n_server_names == 0 ||
        o->n_types == 0 || o->n_types > XDS_CLIENT_TYPES_MAX || o->node.n_metadata > METADATA_MAX ||
        o->creds == NULL) {
        pg_err_set(err, "%s: wrong number of addresses, server names, types or metadata entries", o->target);
        return PG_E_CONFIG;
    }
    for (size_t i = 0; i < o->n_addresses; i++) {
        if (pg_hostport_parse(pg_str_c(o->addresses[i]), &hp) < 0) {
            pg_err_set(err, "%s: address \"%s\" is not host:port", o->target, o->addresses[i]);
            return PG_E_CONFIG;
        }
    }
    return 0;
}

static int copy_options(struct xds_client *c, const struct xds_client_options *o)
{
    bool failed = false;
    c->o = *o;
    c->o.types = NULL; /* the machine has its own copy */
    c->o.target = copy_text(c, o->target, &failed);
    c->o.log_scope = copy_text(c, o->log_scope != NULL ? o->log_scope : "xds", &failed);
    c->o.cluster_id = copy_text(c, o->cluster_id, &failed);
    c->o.addresses = copy_texts(c, o->addresses, o->n_addresses, &failed);
    c->o.server_names = copy_texts(c, o->server_names, o->n_server_names, &failed);
    copy_node(c, &o->node, &failed);
    c->o.max_message = o->max_message != 0 ? o->max_message : XDS_MESSAGE_MAX_CLIENT;
    return failed ? PG_E_NOMEM : 0;
}

int xds_client_new(struct pg_loop *l, struct pg_resolver *resolver, const struct xds_client_options *o,
                   const struct xds_client_callbacks *cb, void *arg, struct xds_client **out,
                   struct pg_errtext *err)
{
    int r = check_options(o, err);
    if (r < 0) {
        return r;
    }
    struct xds_client *c = pg_calloc(1, sizeof(*c));
    if (c == NULL) {
        pg_err_set(err, "out of memory");
        return PG_E_NOMEM;
    }
    c->loop = l;
    c->resolver = resolver;
    c->cb = *cb;
    c->arg = arg;
    c->backoff = o->backoff;
    c->versions_max = VERSIONS_MAX_BYTES;
    c->ping_ms = PING_FIRST_MS;
    c->lost.cb = on_lost;
    c->reap.cb = reap;
    pg_rng_seed_random(&c->rng);
    pg_arena_init(&c->arena, 1u << 20);
    r = copy_options(c, o);
    if (r == 0) {
        r = adsc_new(o->types, o->n_types, NAMES_MAX, &c->machine);
    }
    if (r == 0) {
        r = pg_timer_new(l, attempt, c, &c->timer);
    }
    if (r < 0) {
        pg_err_set(err, "%s", pg_err_str(r));
        reap(&c->reap);
        return r;
    }
    pg_timer_start(c->timer, 0);
    *out = c;
    return 0;
}

void xds_client_free(struct xds_client *c)
{
    if (c == NULL || c->freed) {
        return;
    }
    c->freed = true;
    pg_timer_stop(c->timer);
    drop_connection(c);
    pg_loop_defer(c->loop, &c->reap);
}

void xds_client_reconnect(struct xds_client *c)
{
    bool was_connected = c->connected;
    if (c->freed) {
        return;
    }
    drop_connection(c);
    c->phase = PHASE_WAITING;
    c->connected = false;
    c->synced = false;
    pg_backoff_reset(&c->backoff);
    pg_timer_start(c->timer, 0);
    if (was_connected) {
        tell(c, XDS_DISCONNECTED, "reconnecting", 0);
    }
}
