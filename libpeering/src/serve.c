/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The xDS and CA port: who may connect, which view a stream gets, and what is signed. Fail closed: nobody
 * without an identity gets anything; only control planes get the export view. Control thread.
 */
#include <stdio.h>

#include "control_internal.h"
#include "core/clock.h"
#include "core/log.h"

#define HANDSHAKES_MAX 512u

/* --- accepting
 * ------------------------------------------------------------------------------------------------ */

struct handshake {       /* a TLS connection that the server does not have yet */
    struct pg_list node; /* control->handshakes, newest last */
    struct peering_control *control;
    struct pg_transport *tls;
    struct pg_timer *timer;
    struct pg_addr from;
    struct pg_defer free_later;
};

static void free_handshake(struct pg_defer *d)
{
    struct handshake *h = PG_CONTAINER_OF(d, struct handshake, free_later);
    pg_timer_free(h->timer);
    pg_free(h);
}

static void end_handshake(struct handshake *h)
{
    pg_timer_stop(h->timer);
    pg_list_remove(&h->node);
    h->control->n_handshakes--;
    h->free_later.cb = free_handshake;
    pg_loop_defer(h->control->loop, &h->free_later);
}

static void refuse(struct handshake *h, const char *reason)
{
    static struct pg_log_limit limit;
    uint32_t held = 0;
    if (pg_log_allowed(&limit, 20, 5, pg_loop_now_ms(h->control->loop), &held)) {
        PG_LOG(PG_LOG_WARN, "ads", "connection refused", PG_F_ADDR("from", &h->from), PG_F_C("error", reason),
               PG_F_U64("suppressed", held));
    }
    pg_transport_abort(h->tls);
    end_handshake(h);
}

static void on_tls(struct pg_transport *t, unsigned rw, void *arg)
{
    (void)rw;
    struct handshake *h = arg;
    int r = pg_transport_status(t);
    if (r == PG_E_AGAIN) {
        return;
    }
    if (r < 0) {
        const char *text = pg_transport_error_text(t);
        refuse(h, text[0] != '\0' ? text : pg_err_str(r));
        return;
    }
    r = xds_server_accept(h->control->server, t, &h->from);
    if (r != 0) {
        refuse(h, pg_err_str(r));
        return;
    }
    end_handshake(h);
}

static void on_handshake_timeout(void *arg)
{
    refuse(arg, "TLS handshake not finished in time");
}

static void on_accept(struct pg_transport *t, const struct pg_addr *from, void *arg)
{
    struct peering_control *c = arg;
    struct cert_expect expect = {.kind = CERT_EXPECT_OPTIONAL};
    if (c->n_handshakes >= HANDSHAKES_MAX) {
        /* Those who mean it are done in milliseconds: the oldest is the one that only holds a place. */
        refuse(PG_CONTAINER_OF(c->handshakes.next, struct handshake, node), "too many TLS handshakes");
    }
    struct handshake *h = pg_calloc(1, sizeof(*h));
    if (h == NULL || pg_timer_new(c->loop, on_handshake_timeout, h, &h->timer) != 0) {
        pg_free(h);
        pg_transport_abort(t);
        return;
    }
    h->control = c;
    h->from = *from;
    if (cert_tls_server(c->loop, t, c->keys.creds, &expect, &h->tls) != 0) {
        pg_timer_free(h->timer);
        pg_free(h);
        pg_transport_abort(t);
        return;
    }
    pg_list_push_back(&c->handshakes, &h->node);
    c->n_handshakes++;
    pg_timer_start(h->timer, CONTROL_TLS_HANDSHAKE_MS);
    pg_transport_set_owner(h->tls, on_tls, h);
    pg_transport_want(h->tls, PG_READ | PG_WRITE);
}

void serve_end_handshakes(struct peering_control *c)
{
    while (c->n_handshakes > 0) {
        struct handshake *h = PG_CONTAINER_OF(c->handshakes.next, struct handshake, node);
        pg_transport_abort(h->tls);
        end_handshake(h);
    }
}

/* --- who
 * ------------------------------------------------------------------------------------------------------ */

/* The caller as on_csr gets it: the SPIFFE id, and after a blank "pod=<name>" when a token bound to a pod
 * proved it. */
static int from_token(struct peering_control *c, struct pg_str header, struct pg_sb *out,
                      struct pg_errtext *err)
{
    if (!pg_str_has_prefix(header, PG_STR("Bearer "))) {
        pg_err_set(err, "authorization header is not a bearer token");
        return PG_E_DENIED;
    }
    if (c->keys.jwks == NULL) {
        pg_err_set(err, "a token was given but no --jwks is configured to check it");
        return PG_E_DENIED;
    }
    struct cert_jwt_claims claims;
    int r = cert_jwt_verify(c->keys.jwks, pg_str_sub(header, 7), option_str(c->options, OPT_TOKEN_AUDIENCE),
                            pg_clock_wall_s(), &claims, err);
    if (r != 0) {
        return PG_E_DENIED;
    }
    cert_spiffe_format(option_str(c->options, OPT_TRUST_DOMAIN), pg_str_c(claims.ns), pg_str_c(claims.sa),
                       out);
    if (claims.pod_name[0] != '\0') {
        pg_sb_c(out, " pod=");
        pg_sb_c(out, claims.pod_name);
    }
    return out->err;
}

static int authenticate(void *arg, const struct pg_h2_head *md, struct pg_str peer_id, struct pg_sb *out,
                        struct pg_errtext *err)
{
    struct peering_control *c = arg;
    int r;
    struct pg_str header = pg_h2_head_get(md, "authorization");
    if (peer_id.len > 0) {
        pg_sb_str(out, peer_id);
        r = out->err;
    } else if (header.p != NULL) {
        r = from_token(c, header, out, err);
    } else {
        pg_err_set(err, "neither a client certificate nor a token");
        r = PG_E_DENIED;
    }
    if (r != 0) {
        c->keys.refused++;
        static struct pg_log_limit limit;
        uint32_t held = 0;
        if (pg_log_allowed(&limit, 20, 5, pg_loop_now_ms(c->loop), &held)) {
            PG_LOG(PG_LOG_WARN, "ads", "authentication failure", PG_F_C("error", err->text),
                   PG_F_U64("suppressed", held));
        }
    }
    return r;
}

struct pg_str serve_caller_id(struct pg_str caller)
{
    struct pg_str id;
    (void)pg_str_cut(&caller, ' ', &id);
    return id;
}

/* Metadata NAMESPACE, else the first label of part 4 of the id. */
static struct pg_str node_namespace(const struct xds_node *node)
{
    struct pg_str ns = xds_node_metadata(node, "NAMESPACE");
    if (ns.len > 0) {
        return ns;
    }
    struct pg_str rest = node->id;
    struct pg_str part = PG_STR_NONE;
    for (int i = 0; i < 4; i++) {
        if (!pg_str_cut(&rest, '~', &part)) {
            return PG_STR_NONE;
        }
    }
    struct pg_str label = PG_STR_NONE;
    (void)pg_str_cut(&part, '.', &label);
    return label;
}

static struct xds_view *view_for(void *arg, struct xds_stream *s, const struct xds_node *node,
                                 struct pg_str caller, int *grpc_code, struct pg_errtext *err)
{
    struct peering_control *c = arg;
    struct cert_spiffe id;
    *grpc_code = GRPC_PERMISSION_DENIED;
    if (cert_spiffe_parse(serve_caller_id(caller), &id, err) != 0) {
        pg_err_wrap(err, "authorization failed");
        return NULL;
    }
    if (pg_str_eq_c(xds_node_metadata(node, "ISTHMUS_PEER"), "1")) {
        if (!pg_str_eq(id.ns, option_str(c->options, OPT_SYSTEM_NAMESPACE)) ||
            !pg_str_eq_c(id.sa, "istiod")) {
            pg_err_set(err, "authorization failed: %.*s is not a control plane",
                       PG_STR_ARG(serve_caller_id(caller)));
            return NULL;
        }
        if (pg_str_eq(xds_node_metadata(node, "CLUSTER_ID"), option_str(c->options, OPT_CLUSTER))) {
            pg_err_set(err, "authorization failed: a peer calls itself %.*s, which is our own cluster name",
                       PG_STR_ARG(xds_node_metadata(node, "CLUSTER_ID")));
            return NULL;
        }
        /* An empty view would make it drop what it knows of us. Not is_ready: peers would wait for each
         * other. */
        *grpc_code = GRPC_OK;
        return c->merges > 0 ? c->export_view : NULL;
    }
    if (!pg_str_eq(id.trust_domain, option_str(c->options, OPT_TRUST_DOMAIN))) {
        pg_err_set(err, "authorization failed: proxies of trust domain %.*s belong to another cluster",
                   PG_STR_ARG(id.trust_domain));
        return NULL;
    }
    struct pg_str ns = node_namespace(node);
    if (ns.len > 0 && !pg_str_eq(ns, id.ns)) {
        pg_err_set(err, "authorization failed: node is in namespace %.*s, its identity in %.*s",
                   PG_STR_ARG(ns), PG_STR_ARG(id.ns));
        return NULL;
    }
    /* After a restart proxies know more than we do until the peers have answered. Who knows nothing is
     * served: it may be the very gateway that peers come through. */
    *grpc_code = GRPC_OK;
    return c->merges > 0 && (c->is_ready || !xds_stream_holds(s)) ? c->node_view : NULL;
}

static void on_nack(void *arg, struct xds_stream *s, struct pg_str type_url, struct pg_str error)
{
    const struct peering_control *c = arg;
    static struct pg_log_limit limit;
    uint32_t held = 0;
    (void)s;
    if (pg_log_allowed(&limit, 20, 5, pg_loop_now_ms(c->loop), &held)) {
        PG_LOG(PG_LOG_WARN, "ads", "resources rejected by a client", PG_F_STR("type", type_url),
               PG_F_STR("error", error), PG_F_U64("suppressed", held));
    }
}

/* --- signing
 * -------------------------------------------------------------------------------------------------- */

static bool runs(const struct peering_control *c, struct pg_str ns, struct pg_str sa, struct pg_str name,
                 struct pg_str node, struct pg_str *node_out)
{
    for (size_t i = 0; i < c->local.n_workloads; i++) {
        const struct xds_workload *w = &c->local.workloads[i].w;
        if (pg_str_eq(w->ns, ns) && pg_str_eq(w->service_account, sa) &&
            (name.len == 0 || pg_str_eq(w->name, name)) && (node.len == 0 || pg_str_eq(w->node, node))) {
            if (node_out != NULL) {
                *node_out = w->node;
            }
            return true;
        }
    }
    return false;
}

static bool is_trusted_account(const struct peering_control *c, const struct cert_spiffe *id)
{
    char want[520];
    (void)snprintf(want, sizeof(want), "%.*s/%.*s", PG_STR_ARG(id->ns), PG_STR_ARG(id->sa));
    struct pg_str rest = option_str(c->options, OPT_TRUSTED_NODE_ACCOUNTS);
    struct pg_str one;
    while (pg_str_cut(&rest, ',', &one)) {
        if (pg_str_eq_c(pg_str_trim(one), want)) {
            return true;
        }
    }
    return false;
}

/* istiod's node authorizer: a trusted account, proven by a token bound to a pod, may ask for the identity of
 * a pod that runs on the same node, and for nothing else. */
static int may_impersonate(const struct peering_control *c, struct pg_str caller, struct pg_str wanted,
                           struct pg_errtext *err)
{
    struct cert_spiffe who;
    struct cert_spiffe whom;
    ptrdiff_t mark = pg_str_chr(caller, ' ');
    if (cert_spiffe_parse(serve_caller_id(caller), &who, err) != 0 ||
        cert_spiffe_parse(wanted, &whom, err) != 0) {
        return PG_E_DENIED;
    }
    if (!is_trusted_account(c, &who)) {
        pg_err_set(err, "%.*s/%.*s is not in CA_TRUSTED_NODE_ACCOUNTS", PG_STR_ARG(who.ns),
                   PG_STR_ARG(who.sa));
        return PG_E_DENIED;
    }
    if (mark < 0) {
        pg_err_set(err, "the caller did not use a token bound to a pod");
        return PG_E_DENIED;
    }
    struct pg_str pod = pg_str_sub(caller, (size_t)mark + 5);
    struct pg_str node = PG_STR_NONE;
    if (!runs(c, who.ns, who.sa, pod, PG_STR_NONE, &node)) {
        pg_err_set(err, "no pod %.*s/%.*s is known", PG_STR_ARG(who.ns), PG_STR_ARG(pod));
        return PG_E_DENIED;
    }
    if (!pg_str_eq(whom.trust_domain, option_str(c->options, OPT_TRUST_DOMAIN)) || node.len == 0 ||
        !runs(c, whom.ns, whom.sa, PG_STR_NONE, node, NULL)) {
        pg_err_set(err, "no pod of %.*s/%.*s runs on node %.*s", PG_STR_ARG(whom.ns), PG_STR_ARG(whom.sa),
                   PG_STR_ARG(node));
        return PG_E_DENIED;
    }
    return 0;
}

static int sign(struct peering_control *c, const struct xds_csr_request *req, struct pg_str id,
                struct grpc_stream *s)
{
    int64_t ttl =
        req->validity_s > 0 ? req->validity_s : (int64_t)(option_ms(c->options, OPT_CERT_TTL) / 1000);
    struct cert_issued issued;
    struct pg_errtext err = {""};
    int r = cert_ca_sign_csr(c->keys.ca, req->csr, id, ttl, pg_clock_wall_s(), &issued, &err);
    if (r != 0) {
        char text[320];
        (void)snprintf(text, sizeof(text), "CSR signing error (%s)", err.text);
        xds_csr_reply(s, r == PG_E_PARSE || r == PG_E_CONFIG ? GRPC_INVALID_ARGUMENT : GRPC_INTERNAL, text,
                      NULL, 0);
        return r;
    }
    struct pg_str chain[CERT_ISSUED_MAX];
    for (size_t i = 0; i < issued.n; i++) {
        chain[i] = pg_str_c(issued.pem[i]);
    }
    xds_csr_reply(s, GRPC_OK, "", chain, issued.n);
    cert_issued_fini(&issued);
    return 0;
}

static void on_csr(void *arg, const struct xds_csr_request *req, struct pg_str caller, struct grpc_stream *s)
{
    struct peering_control *c = arg;
    struct pg_str id = serve_caller_id(caller);
    struct pg_errtext err = {""};
    int r = 0;
    if (req->impersonated.len > 0) {
        r = may_impersonate(c, caller, req->impersonated, &err);
        id = req->impersonated;
    }
    struct cert_spiffe parsed;
    if (r == 0 && cert_spiffe_parse(id, &parsed, &err) != 0) {
        r = PG_E_DENIED;
    }
    /* A peer's control plane may talk to us, but this CA speaks for its own trust domain only. */
    if (r == 0 && !pg_str_eq(parsed.trust_domain, option_str(c->options, OPT_TRUST_DOMAIN))) {
        pg_err_set(&err, "identity of another trust domain");
        r = PG_E_DENIED;
    }
    if (r != 0) {
        c->keys.refused++;
        static struct pg_log_limit limit;
        uint32_t held = 0;
        if (pg_log_allowed(&limit, 20, 5, pg_loop_now_ms(c->loop), &held)) {
            PG_LOG(PG_LOG_WARN, "ca", "certificate refused", PG_F_STR("caller", serve_caller_id(caller)),
                   PG_F_STR("identity", id), PG_F_C("error", err.text), PG_F_U64("suppressed", held));
        }
        xds_csr_reply(s, GRPC_UNAUTHENTICATED,
                      req->impersonated.len > 0 ? "request impersonation authentication failure"
                                                : "request authenticate failure",
                      NULL, 0);
        return;
    }
    if (sign(c, req, id, s) == 0) {
        c->keys.issued++;
        PG_LOG(PG_LOG_INFO, "ca", "certificate issued", PG_F_STR("identity", id));
    }
}

int serve_start(struct peering_control *c, struct pg_errtext *err)
{
    static const struct xds_server_callbacks callbacks = {
        .view_for = view_for,
        .on_nack = on_nack,
        .authenticate = authenticate,
        .on_csr = on_csr,
    };
    struct pg_addr at;
    pg_list_init(&c->handshakes);
    int r = pg_addr_parse(option_str(c->options, OPT_LISTEN), &at);
    if (r != 0) {
        pg_err_set(err, "listen: the xDS address must not be empty");
        return r;
    }
    r = xds_server_new(c->loop, &callbacks, c, &c->server);
    struct pg_listen_options o = {.sock = {.keepalive = true,
                                           .keepalive_time_s = 30,
                                           .keepalive_interval_s = 10,
                                           .keepalive_retries = 3,
                                           .user_timeout_ms = 20000}};
    r = r == 0 ? pg_tcp_listen(c->loop, &at, &o, on_accept, c, &c->listener, err) : r;
    if (r == 0) {
        struct pg_addr bound = pg_listener_addr(c->listener);
        (void)pg_addr_fmt(&bound, c->address);
    }
    return r;
}
