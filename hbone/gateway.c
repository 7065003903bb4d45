/* SPDX-License-Identifier: Apache-2.0 */
/*
 * East-west gateway: an outer CONNECT for a service goes, as opaque bytes, to an endpoint of the gateway's
 * own network; what is inside is sealed end to end and never looked at. Nothing but services is reachable,
 * and no third network. The control plane's port is passed through the same way. Worker thread.
 */
#include "hbone/inbound.h"

#include "core/log.h"

#include <stdio.h>

static void again(struct hb_in *s);

static void dial_failed(struct hb_in *s, const struct hb_fail *f)
{
    s->tried[s->attempts - 1] = s->tried_uid;
    if (s->remaining == 0 || s->attempts >= HB_ATTEMPTS_MAX || s->c.worker->draining) {
        hb_in_refuse(s, 503, f);
        return;
    }
    s->c.worker->metrics.n.retries++;
    again(s);
}

static void eject_and_fail(struct hb_in *s, const struct hb_fail *f)
{
    struct hb_worker *w = s->c.worker;
    /* Only the hash is kept across the dial; the slot is set directly. */
    w->ejected[s->tried_uid % HB_EJECT_SLOTS] =
        (struct hb_eject){s->tried_uid, pg_loop_now_ms(w->loop) + HB_EJECT_MS};
    w->metrics.n.ejections++;
    dial_failed(s, f);
}

static bool avoid(void *arg, const peering_workload *wl)
{
    const struct hb_in *s = arg;
    peering_str uid = peering_workload_uid(wl);
    uint64_t hash = pg_hash(uid.ptr, uid.len);
    for (unsigned i = 0; i < s->attempts; i++) {
        if (s->tried[i] == hash) {
            return true;
        }
    }
    return hb_is_ejected(s->c.worker, uid);
}

static void again(struct hb_in *s)
{
    struct hb_worker *w = s->c.worker;
    struct pg_str me = pg_str_c(s->c.pod->spec->ns);
    peering_gateway_query q = {.network = hb_pstr(pg_str_c(w->cfg->network)),
                               .gateway_ns = hb_pstr(me),
                               .authority_host = hb_pstr(s->authority.host),
                               .authority_port = s->authority.port,
                               .random = pg_rng_next(&w->rng),
                               .avoid = avoid,
                               .avoid_arg = s};
    peering_gateway_route route;
    peering_gateway_decide(w->world->table, &q, &route);
    if (route.status != 200) {
        hb_in_refuse_early(s, route.status, route.error);
        return;
    }
    peering_str uid = route.workload != NULL ? peering_workload_uid(route.workload) : (peering_str){NULL, 0};
    s->tried_uid = pg_hash(uid.ptr, uid.len);
    s->remaining = route.remaining;
    s->attempts++;
    bool mapped = w->cfg->test.on && w->cfg->test.hbone_port != 0 && route.port == HB_PORT_INBOUND;
    s->target =
        (struct pg_addr){.ip = hb_ip(&route.ip), .port = mapped ? w->cfg->test.hbone_port : route.port};
    if (hb_in_describe(s, route.workload, route.service) < 0) {
        hb_in_refuse_early(s, 503, "out of memory");
        return;
    }
    struct pg_sock_options so;
    hb_worker_sock_options(w, &so);
    bool others = route.remaining > 0 && s->attempts < HB_ATTEMPTS_MAX;
    hb_in_dial(s, &so, others ? HB_ATTEMPT_MS : HB_TOTAL_MS, eject_and_fail);
}

void hb_gateway_serve(struct hb_in *s)
{
    struct hb_worker *w = s->c.worker;
    if (!w->world->open || w->world->table == NULL) {
        if (s->timed_out) {
            hb_in_refuse_early(s, 503, "the control plane has not answered yet");
        } else {
            hb_in_wait(s, false, HB_WORKLOAD_WAIT_MS);
        }
        return;
    }
    if (s->authority.ip.len > 0) {
        hb_in_refuse_early(s, 400, "a gateway routes by service name, not by address");
        return;
    }
    /* Policies attached to the gateway's own workload, when the control plane knows it. */
    if (s->c.pod->local != NULL) {
        if (hb_in_describe(s, NULL, NULL) < 0) {
            hb_in_refuse_early(s, 503, "out of memory");
            return;
        }
        if (hb_in_check_policy(s, &s->c.dst.ip, s->c.dst.port) != 1) {
            return;
        }
    }
    again(s);
}

/* ---- the control plane's port
 * -------------------------------------------------------------------------------------------- */

struct fwd {
    struct hb_conn c;
    struct pg_transport *client;
    struct pg_resolve_query *query;
    struct hb_dial *dial;
};

static void fwd_free(struct fwd *f)
{
    pg_resolve_cancel(f->query);
    hb_dial_cancel(f->dial);
    if (f->client != NULL) {
        pg_transport_abort(f->client);
    }
    pg_free(f);
}

static void fwd_cut(struct hb_conn *c, const struct hb_fail *why)
{
    hb_conn_deny_early(c, why->text);
    fwd_free(PG_CONTAINER_OF(c, struct fwd, c));
}

static void fwd_done(struct hb_conn *c)
{
    fwd_free(PG_CONTAINER_OF(c, struct fwd, c));
}

static void fwd_failed(struct fwd *f, int err, const char *text)
{
    struct hb_fail why;
    hb_fail_set(&why, err, HB_FLAG_CONNECT, false, "connection failed: control plane %s: %s",
                f->c.worker->cfg->control_plane_forward,
                text != NULL && text[0] != '\0' ? text : pg_err_str(err));
    hb_conn_open(&f->c);
    hb_conn_end(&f->c, &why, 0, 0);
    fwd_free(f);
}

static void fwd_connected(void *arg, struct pg_transport *t, int err, const char *text)
{
    struct fwd *f = arg;
    f->dial = NULL;
    if (err == 0) {
        hb_conn_open(&f->c);
        err = hb_conn_relay(&f->c, f->client, t, fwd_done);
        if (err == 0) {
            f->client = NULL;
            return;
        }
        pg_transport_abort(t);
    }
    fwd_failed(f, err, text);
}

static void fwd_dial(struct fwd *f, const struct pg_ip *ip)
{
    struct pg_sock_options so;
    hb_worker_sock_options(f->c.worker, &so);
    struct pg_addr to = {.ip = *ip, .port = f->c.worker->cfg->forward.port};
    /* A gateway beside its control plane on one host: each connection would make another, without end. */
    if (pg_addr_eq(&to, &f->c.dst)) {
        fwd_failed(f, PG_E_CONFIG,
                   "that is this gateway itself; give the control plane another port or address");
        return;
    }
    f->c.dst = to;
    int r = hb_dial_start(f->c.worker, &f->c.dst, &so, HB_TOTAL_MS, fwd_connected, f, &f->dial);
    if (r < 0) {
        fwd_failed(f, r, NULL);
    }
}

static void fwd_resolved(int err, const struct pg_ip *ips, size_t n, const char *text, void *arg)
{
    struct fwd *f = arg;
    f->query = NULL;
    if (err < 0 || n == 0) {
        fwd_failed(f, err < 0 ? err : PG_E_NOTFOUND, text);
    } else {
        fwd_dial(f, &ips[0]);
    }
}

void hb_forward_accept(struct pg_transport *t, const struct pg_addr *from, void *arg)
{
    struct hb_pod *pod = arg;
    struct hb_worker *w = pod->worker;
    struct pg_addr local;
    struct fwd *f = hb_worker_admits(w) && pg_tcp_local(t, &local) == 0 ? pg_calloc(1, sizeof(*f)) : NULL;
    if (f == NULL) {
        pg_transport_abort(t);
        return;
    }
    hb_conn_init(&f->c, w, pod, HB_INBOUND, from, &local);
    f->c.cut = fwd_cut;
    f->client = t;
    if (w->cfg->forward.ip.len > 0) {
        fwd_dial(f, &w->cfg->forward.ip);
        return;
    }
    struct pg_resolver *res = hb_worker_resolver(w);
    int r = res == NULL ? PG_E_NOMEM : pg_resolve(res, w->cfg->forward.host, fwd_resolved, f, &f->query);
    if (r < 0) {
        fwd_failed(f, r, NULL);
    }
}
