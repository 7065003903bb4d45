/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One CONNECT from a peer: strict checks before anything is dialled, 200 only after the application accepted.
 * Invariants: early data stays in the stream's window until then; the work of a stream ends with the stream;
 * a policy that is missing holds for a second, then denies. Worker thread.
 */
#include "hbone/inbound_conn.h"

#include "core/log.h"

#include <peering/policy.h>
#include <stdio.h>

#define HEAD_COPY_MAX 4096u /* of forwarded and baggage together; longer ones are left out of logs */

static void serve(struct hb_in *s);

/* ---- ends
 * -----------------------------------------------------------------------------------------------------------
 */

static void in_free(struct hb_in *s)
{
    hb_dial_cancel(s->dial);
    hb_wait_stop(&s->wait);
    pg_timer_free(s->timer);
    pg_list_remove(&s->node);
    pg_h2_stream_close(s->stream, PG_H2_CANCEL);
    pg_free(s->head);
    pg_free(s);
}

static void answer(struct hb_in *s, int status)
{
    char text[16];
    (void)snprintf(text, sizeof(text), "%d", status);
    struct pg_h2_field f = {.name = PG_STR(":status"), .value = pg_str_c(text)};
    struct pg_h2_head head = {&f, 1};
    if (s->stream != NULL && pg_h2_respond(s->stream, &head, true) == 0) {
        pg_h2_stream_close(s->stream, PG_H2_NO_ERROR);
        s->stream = NULL;
    }
}

void hb_in_refuse_early(struct hb_in *s, int status, const char *why)
{
    answer(s, status);
    hb_conn_deny_early(&s->c, why);
    in_free(s);
}

void hb_in_refuse(struct hb_in *s, int status, const struct hb_fail *f)
{
    answer(s, status);
    hb_conn_open(&s->c);
    hb_conn_end(&s->c, f, 0, 0);
    in_free(s);
}

void hb_in_gone(struct hb_in *s, const char *why)
{
    hb_conn_deny_early(&s->c, why);
    in_free(s);
}

static void in_cut(struct hb_conn *c, const struct hb_fail *why)
{
    hb_in_gone(PG_CONTAINER_OF(c, struct hb_in, c), why->text);
}

static void on_stream_closed(struct pg_h2_stream *st, uint32_t code, int err, void *arg)
{
    (void)st;
    (void)code;
    (void)err;
    hb_in_gone(arg, "the client reset the stream before it was answered");
}

static const struct pg_h2_stream_callbacks stream_callbacks = {.on_closed = on_stream_closed};

static void on_done(struct hb_conn *c)
{
    in_free(PG_CONTAINER_OF(c, struct hb_in, c));
}

struct pg_str hb_in_peer(const struct hb_in *s)
{
    return pg_str_c(s->ic->peer);
}

/* ---- dialling and accepting
 * ------------------------------------------------------------------------------------------ */

static int accept_stream(struct hb_in *s, struct pg_transport **out)
{
    char baggage[1024];
    struct hb_worker *w = s->c.worker;
    struct pg_h2_field f[2] = {{.name = PG_STR(":status"), .value = PG_STR("200")},
                               {.name = PG_STR("baggage")}};
    struct pg_h2_head head = {f, 1};
    if (w->cfg->response_baggage && w->cfg->mode == HB_MODE_DEDICATED && s->c.pod->local != NULL) {
        f[1].value = pg_str_n(baggage, peering_baggage(s->c.pod->local, baggage, sizeof(baggage)));
        head.n = f[1].value.len > 0 ? 2 : 1;
    }
    int r = pg_h2_respond(s->stream, &head, false);
    if (r == 0) {
        r = pg_h2_stream_transport(s->stream, out);
    }
    if (r == 0) {
        s->stream = NULL;
    }
    return r;
}

static void connected(struct hb_in *s, struct pg_transport *up)
{
    struct pg_transport *down = NULL;
    int r = accept_stream(s, &down);
    hb_conn_open(&s->c);
    if (r == 0) {
        r = hb_conn_relay(&s->c, down, up, on_done);
    }
    if (r == 0) {
        pg_list_remove(&s->node);
        s->ic = NULL;
        return;
    }
    struct hb_fail f;
    hb_fail_set(&f, r, HB_FLAG_CONNECT, false, "connection failed: %s", pg_err_str(r));
    pg_transport_abort(up);
    if (down != NULL) {
        pg_transport_abort(down);
    }
    hb_conn_end(&s->c, &f, 0, 0);
    in_free(s);
}

static void default_failed(struct hb_in *s, const struct hb_fail *f)
{
    hb_in_refuse(s, 503, f);
}

static void on_dialled(void *arg, struct pg_transport *t, int err, const char *text)
{
    struct hb_in *s = arg;
    s->dial = NULL;
    if (err == 0) {
        connected(s, t);
        return;
    }
    struct hb_fail f;
    hb_fail_set(&f, err, HB_FLAG_CONNECT, true, "connection failed: %s",
                text[0] != '\0' ? text : pg_err_str(err));
    s->dial_failed(s, &f);
}

void hb_in_dial(struct hb_in *s, const struct pg_sock_options *so, uint64_t limit_ms,
                void (*failed)(struct hb_in *s, const struct hb_fail *f))
{
    s->dial_failed = failed != NULL ? failed : default_failed;
    int r = hb_dial_start(s->c.worker, &s->target, so, limit_ms, on_dialled, s, &s->dial);
    if (r < 0) {
        on_dialled(s, NULL, r, pg_err_str(r));
    }
}

/* ---- waiting
 * ----------------------------------------------------------------------------------------------------------
 */

static void resume(struct hb_in *s)
{
    hb_wait_stop(&s->wait);
    pg_timer_stop(s->timer);
    s->serve(s);
}

static void on_wake(struct hb_wait *w)
{
    resume(PG_CONTAINER_OF(w, struct hb_in, wait));
}

static void on_timer(void *arg)
{
    struct hb_in *s = arg;
    s->timed_out = true;
    resume(s);
}

void hb_in_wait(struct hb_in *s, bool for_policy, uint64_t limit_ms)
{
    uint64_t now = pg_loop_now_ms(s->c.worker->loop);
    if (s->timer == NULL && pg_timer_new(s->c.worker->loop, on_timer, s, &s->timer) < 0) {
        hb_in_refuse_early(s, 503, "out of memory");
        return;
    }
    if (s->wait_until == 0 || s->holding != for_policy) {
        s->wait_until = now + limit_ms;
        s->holding = for_policy;
    }
    hb_wait_start(s->c.pod, &s->wait, on_wake);
    pg_timer_start(s->timer, s->wait_until > now ? s->wait_until - now : 0);
}

/* ---- checks
 * ------------------------------------------------------------------------------------------------------------
 */

int hb_in_describe(struct hb_in *s, const peering_workload *dst, const peering_service *service)
{
    const struct hb_worker *w = s->c.worker;
    struct hb_conn_text t = {0};
    peering_ip ip = hb_pip(&s->c.src.ip);
    const peering_workload *src = NULL;
    if (!s->other_network && w->world->table != NULL) {
        src = peering_find_workload_by_ip(w->world->table, hb_pstr(pg_str_c(w->cfg->network)), &ip);
    }
    if (src != NULL) {
        hb_party_of(&t.src, src);
    } else {
        hb_baggage_parse(s->baggage, &t.src);
    }
    t.src.identity = hb_in_peer(s);
    hb_party_of(&t.dst, dst);
    hb_text_service(&t, service);
    t.authority = pg_str_c(s->head);
    return hb_conn_describe(&s->c, &t);
}

static void log_verdict(const struct hb_in *s, const char *what, const char *why)
{
    const char *info = s->c.worker->cfg->authz_info;
    enum pg_log_level level = info != NULL && strcmp(info, "true") == 0 ? PG_LOG_INFO : PG_LOG_DEBUG;
    PG_LOG(level, "rbac", what, PG_F_ADDR("src.addr", &s->c.src), PG_F_C("src.identity", s->ic->peer),
           PG_F_ADDR("dst.addr", &s->target), PG_F_C("reason", why));
}

int hb_in_check_policy(struct hb_in *s, const struct pg_ip *ip, uint16_t port)
{
    struct hb_worker *w = s->c.worker;
    struct hb_fail f;
    peering_text why = {.text = ""};
    s->c.policy.src_ip = hb_pip(&s->c.src.ip);
    s->c.policy.dst_ip = hb_pip(ip);
    s->c.policy.dst_port = port;
    enum peering_verdict v =
        peering_policy_check(w->world->table, s->c.pod->local, &s->c.policy, w->cfg->policy_lenient, &why);
    if (v == PEERING_ALLOW) {
        log_verdict(s, "allowed", why.text);
        s->c.checked = true;
        s->c.checked_gen = w->world_gen;
        return 1;
    }
    if (v == PEERING_POLICY_MISSING && !(s->timed_out && s->holding)) {
        w->metrics.n.policy_holds += s->holding ? 0 : 1;
        hb_in_wait(s, true, HB_POLICY_HOLD_MS);
        return 0;
    }
    log_verdict(s, "denied", why.text);
    hb_fail_set(&f, PG_E_DENIED, HB_FLAG_DENY, false, "connection closed due to policy rejection: %s",
                why.text);
    hb_in_refuse(s, 401, &f);
    return 0;
}

static void serve(struct hb_in *s)
{
    struct hb_worker *w = s->c.worker;
    const peering_workload *local = s->c.pod->local;
    char text[256];
    if (local == NULL || !w->world->open) {
        if (s->timed_out) {
            hb_unknown_local(s->c.pod, text, sizeof(text));
            hb_in_refuse_early(s, 503, text);
        } else {
            hb_in_wait(s, false, HB_WORKLOAD_WAIT_MS);
        }
        return;
    }
    peering_inbound_query q = {.local = local,
                               .network = hb_pstr(pg_str_c(w->cfg->network)),
                               .conn_ip = hb_pip(&s->c.dst.ip),
                               .authority_host = hb_pstr(s->authority.host),
                               .authority_ip = hb_pip(&s->authority.ip),
                               .authority_port = s->authority.port};
    peering_inbound in;
    peering_inbound_decide(w->world->table, &q, &in);
    if (in.status == 200 && hb_worker_is_illegal_port(in.port)) {
        hb_in_refuse_early(s, 503, "attempted recursive call to ourselves");
        return;
    }
    if (in.status != 200) {
        hb_in_refuse_early(s, in.status, in.error);
        return;
    }
    const peering_service *service =
        peering_inbound_service(w->world->table, local, hb_pstr(s->forwarded_host), in.port);
    s->target = (struct pg_addr){.ip = s->c.dst.ip, .port = in.port};
    if (hb_in_describe(s, local, in.service != NULL ? in.service : service) < 0) {
        hb_in_refuse_early(s, 503, "out of memory");
        return;
    }
    if (hb_in_check_policy(s, &s->target.ip, in.port) == 1) {
        struct pg_sock_options so;
        hb_app_sock_options(w, &s->c.src.ip, &s->target.ip, &so);
        hb_in_dial(s, &so, HB_TOTAL_MS, NULL);
    }
}

/* ---- the request
 * ---------------------------------------------------------------------------------------------------------
 */

/* One block: authority NUL host-of-forwarded baggage. Over-long descriptive headers are left out, not
 * refused. */
static int copy_head(struct hb_in *s, const struct pg_h2_head *head)
{
    struct pg_str authority = pg_h2_head_get(head, ":authority");
    struct pg_str host = hb_forwarded_host(pg_h2_head_get(head, "forwarded"));
    struct pg_str baggage = pg_h2_head_get(head, "baggage");
    struct pg_str network = pg_h2_head_get(head, "x-forwarded-network");
    if (host.len + baggage.len > HEAD_COPY_MAX || !pg_str_is_utf8(host) || !pg_str_is_utf8(baggage)) {
        host = PG_STR_NONE;
        baggage = PG_STR_NONE;
    }
    s->head = pg_calloc(1, authority.len + 1 + host.len + baggage.len);
    if (s->head == NULL) {
        return PG_E_NOMEM;
    }
    const struct pg_str parts[] = {authority, PG_STR("\0"), host, baggage};
    size_t at = 0;
    for (size_t i = 0; i < PG_ARRAY_LEN(parts); i++) {
        if (parts[i].len > 0) {
            memcpy(s->head + at, parts[i].p, parts[i].len);
        }
        at += parts[i].len;
    }
    s->forwarded_host = pg_str_n(s->head + authority.len + 1, host.len);
    s->baggage = pg_str_n(s->head + authority.len + 1 + host.len, baggage.len);
    s->other_network = network.len > 0 && !pg_str_eq_nocase(network, pg_str_c(s->c.worker->cfg->network));
    return pg_hostport_parse(pg_str_n(s->head, authority.len), &s->authority);
}

void hb_in_request(struct hb_in_conn *ic, struct pg_h2_stream *st, const struct pg_h2_head *head, bool end)
{
    struct hb_in *s = hb_worker_admits(ic->w) ? pg_calloc(1, sizeof(*s)) : NULL;
    char text[256];
    if (s == NULL) {
        pg_h2_stream_close(st, PG_H2_REFUSED_STREAM);
        return;
    }
    hb_conn_init(&s->c, ic->w, ic->pod, HB_INBOUND, &ic->src, &ic->dst);
    s->c.cut = in_cut;
    s->c.mtls = true;
    s->ic = ic;
    s->stream = st;
    s->serve = ic->w->cfg->mode == HB_MODE_GATEWAY ? hb_gateway_serve : serve;
    pg_list_push_back(&ic->streams, &s->node);
    pg_h2_stream_set_owner(st, &stream_callbacks, s);
    struct pg_str method = pg_h2_head_get(head, ":method");
    if (!pg_str_eq_c(method, "CONNECT")) {
        (void)snprintf(text, sizeof(text), "expected method CONNECT, got %.*s",
                       (int)(method.len > 32 ? 32 : method.len), method.p);
        hb_in_refuse_early(s, 400, text);
        return;
    }
    int r = copy_head(s, head);
    if (r == PG_E_PARSE || end) {
        struct pg_str a = pg_h2_head_get(head, ":authority");
        (void)snprintf(text, sizeof(text), "no valid authority pseudo header: %.*s",
                       (int)(a.len > 100 ? 100 : a.len), a.p != NULL ? a.p : "");
        hb_in_refuse_early(s, 400, end && r == 0 ? "CONNECT without a body" : text);
    } else if (r < 0) {
        hb_in_refuse_early(s, 503, pg_err_str(r));
    } else {
        s->serve(s);
    }
}
