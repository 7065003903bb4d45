/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker's skeleton: worlds in, listeners, waiting, ejection, drain. Invariant: `local` always points into
 * the world in force; both change in one place, take_world. Worker thread, but for set_world and call.
 */
#include "hbone/worker.h"

#include "core/log.h"
#include "hbone/dns.h"
#include "hbone/pool.h"

#include <stdio.h>

#define HOUSEKEEPING_MS 60000u

/* A connection that a root no longer trusted let in takes no new streams. */
static void check_roots(struct hb_worker *w, const struct hb_world *old)
{
    const struct cert_creds *creds = w->world->creds;
    if (w->n_inbound > 0 && creds != NULL && old->creds != NULL && creds != old->creds &&
        !pg_str_eq(cert_creds_roots_pem(creds), cert_creds_roots_pem(old->creds))) {
        PG_LOG(PG_LOG_INFO, "worker", "trusted roots changed: clients are asked to connect again",
               PG_F_U64("connections", w->n_inbound));
        hb_inbound_drain(w);
    }
}

static void apply_world(struct hb_worker *w, struct hb_world *world)
{
    struct hb_world *old = w->world;
    struct hb_pod *p = &w->pod;
    const struct hb_pod_spec *s = p->spec;
    w->world = world;
    w->world_gen++;
    p->local = NULL;
    if (world->table != NULL) {
        peering_str node = hb_pstr(pg_str_c(w->cfg->node_name));
        p->local = peering_find_workload_by_name(world->table, hb_pstr(pg_str_c(s->ns)),
                                                 hb_pstr(pg_str_c(s->name)), hb_pstr(pg_str_c(s->sa)), node);
    }
    check_roots(w, old);
    hb_world_unref(old);
    struct pg_list waiters;
    pg_list_init(&waiters);
    struct pg_list *n;
    while ((n = pg_list_pop(&p->waiters)) != NULL) {
        pg_list_push_back(&waiters, n);
    }
    while ((n = pg_list_pop(&waiters)) != NULL) {
        struct hb_wait *wait = PG_CONTAINER_OF(n, struct hb_wait, node);
        wait->wake(wait);
    }
    hb_policy_recheck_start(w);
}

static void on_async(void *arg)
{
    struct hb_worker *w = arg;
    struct pg_snap *s = pg_slot_take(&w->slot);
    if (s != NULL) {
        apply_world(w, PG_CONTAINER_OF(s, struct hb_world, snap));
    }
    struct pg_list calls;
    pg_list_init(&calls);
    pg_mailbox_take(&w->calls, &calls);
    struct pg_list *n;
    while ((n = pg_list_pop(&calls)) != NULL) {
        struct hb_call *c = PG_CONTAINER_OF(n, struct hb_call, node);
        struct pg_mailbox *reply = c->reply;
        c->run(w, c);
        if (reply != NULL) {
            pg_mailbox_send(reply, n);
        }
    }
}

void hb_worker_set_world(struct hb_worker *w, struct hb_world *world)
{
    pg_slot_put(&w->slot, &world->snap);
    pg_async_send(w->async);
}

void hb_worker_call(struct hb_worker *w, struct hb_call *c)
{
    pg_mailbox_send(&w->calls, &c->node);
}

static void wake_self(void *arg)
{
    struct hb_worker *w = arg;
    pg_async_send(w->async);
}

static void on_housekeeping(void *arg)
{
    struct hb_worker *w = arg;
    hb_metrics_expire(&w->metrics, pg_loop_now_ms(w->loop));
    pg_timer_start(w->housekeeping, HOUSEKEEPING_MS);
}

static void on_recheck(void *arg)
{
    hb_policy_recheck(arg);
}

static void on_idle_check(struct pg_defer *d)
{
    struct hb_worker *w = PG_CONTAINER_OF(d, struct hb_worker, idle_check);
    if (w->draining && w->on_idle != NULL && pg_list_is_empty(&w->conns) && pg_list_is_empty(&w->inbound)) {
        void (*cb)(struct hb_worker *, void *) = w->on_idle;
        w->on_idle = NULL;
        cb(w, w->on_idle_arg);
    }
}

void hb_worker_conn_gone(struct hb_worker *w)
{
    if (w->draining) {
        pg_loop_defer(w->loop, &w->idle_check);
    }
}

static int make_parts(struct hb_worker *w)
{
    int r = hb_world_new(NULL, NULL, 0, false, "no certificate has been issued yet", &w->world);
    r = r < 0 ? r : pg_async_new(w->loop, on_async, w, &w->async);
    r = r < 0 ? r : pg_timer_new(w->loop, on_recheck, w, &w->recheck);
    r = r < 0 ? r : pg_timer_new(w->loop, on_housekeeping, w, &w->housekeeping);
    return r < 0 ? r : hb_pool_new(w, &w->pool);
}

int hb_worker_new(struct pg_loop *l, const struct hb_config *cfg, unsigned index, struct hb_worker **out,
                  struct pg_errtext *err)
{
    struct hb_worker *w = pg_calloc(1, sizeof(*w));
    if (w == NULL || pg_mailbox_init(&w->calls, wake_self, w) < 0) {
        pg_free(w);
        pg_err_set(err, "out of memory");
        return PG_E_NOMEM;
    }
    w->loop = l;
    w->cfg = cfg;
    w->index = index;
    w->pod.worker = w;
    w->pod.spec = &cfg->pod;
    w->idle_check.cb = on_idle_check;
    pg_list_init(&w->pod.waiters);
    pg_list_init(&w->conns);
    pg_list_init(&w->inbound);
    pg_rng_seed_random(&w->rng);
    hb_metrics_init(&w->metrics);
    int r = make_parts(w);
    if (r < 0) {
        hb_worker_free(w);
        pg_err_set(err, "worker %u: %s", index, pg_err_str(r));
        return r;
    }
    pg_timer_start(w->housekeeping, HOUSEKEEPING_MS);
    *out = w;
    return 0;
}

void hb_worker_sock_options(const struct hb_worker *w, struct pg_sock_options *out)
{
    const struct hb_config *c = w->cfg;
    *out = (struct pg_sock_options){.keepalive = c->keepalive,
                                    .keepalive_time_s = (uint32_t)(c->keepalive_time_ms / 1000),
                                    .keepalive_interval_s = (uint32_t)(c->keepalive_interval_ms / 1000),
                                    .keepalive_retries = c->keepalive_retries,
                                    .mark = c->packet_mark,
                                    .congestion = c->tcp_congestion[0] != '\0' ? c->tcp_congestion : NULL};
    if (c->user_timeout) {
        out->user_timeout_ms =
            (uint32_t)(c->keepalive_time_ms + c->keepalive_retries * c->keepalive_interval_ms);
    }
}

void hb_app_sock_options(const struct hb_worker *w, const struct pg_ip *client, const struct pg_ip *app,
                         struct pg_sock_options *out)
{
    hb_worker_sock_options(w, out);
    if (w->cfg->orig_src != HB_FALSE && !pg_ip_eq(client, app) && client->len == app->len) {
        out->source = *client;
        out->transparent = true;
    }
}

static int listen_one(struct hb_worker *w, uint16_t port, bool transparent,
                      void (*on_accept)(struct pg_transport *t, const struct pg_addr *from, void *arg),
                      struct pg_listener **out, struct pg_errtext *err)
{
    struct pg_listen_options o = {.reuse_port = true, .transparent = transparent};
    struct pg_addr at = {.port = port};
    hb_worker_sock_options(w, &o.sock);
    at.ip.len = w->cfg->ipv6 ? 16 : 4; /* the wildcard, both families when v6 is on */
    if (w->cfg->test.on) {
        at.ip = w->cfg->test.bind;
    }
    int r = pg_tcp_listen(w->loop, &at, &o, on_accept, &w->pod, out, err);
    if (r < 0 && at.ip.len == 16 && !w->cfg->test.on && w->cfg->ipv6) {
        at.ip = (struct pg_ip){.len = 4}; /* a machine without IPv6 */
        r = pg_tcp_listen(w->loop, &at, &o, on_accept, &w->pod, out, err);
    }
    return r;
}

int hb_worker_listen(struct hb_worker *w, struct pg_errtext *err)
{
    const struct hb_config *c = w->cfg;
    const struct hb_test_hooks *t = &c->test;
    struct hb_pod *p = &w->pod;
    bool transparent = c->orig_src != HB_FALSE;
    int r = 0;
    if (c->enable_proxy) {
        r = listen_one(w, t->on ? t->inbound : HB_PORT_INBOUND, transparent, hb_inbound_accept, &p->inbound,
                       err);
    }
    if (r == 0 && c->enable_proxy && c->mode == HB_MODE_DEDICATED) {
        r = listen_one(w, t->on ? t->outbound : HB_PORT_OUTBOUND, transparent, hb_outbound_accept,
                       &p->outbound, err);
        if (r == 0) {
            r = listen_one(w, t->on ? t->plain : HB_PORT_PLAIN, transparent, hb_plain_accept, &p->plain, err);
        }
    }
    if (r == 0 && c->mode == HB_MODE_GATEWAY && c->forward.port != 0) {
        r = listen_one(w, t->on ? t->forward : HB_PORT_XDS, false, hb_forward_accept, &p->forward, err);
    }
    if (r == 0 && c->dns && w->index == 0) {
        r = hb_dns_new(w, &w->dns, err);
    }
    return r;
}

static void close_listeners(struct hb_worker *w)
{
    struct hb_pod *p = &w->pod;
    pg_listener_free(p->outbound);
    pg_listener_free(p->plain);
    pg_listener_free(p->inbound);
    pg_listener_free(p->forward);
    p->outbound = p->plain = p->inbound = p->forward = NULL;
}

void hb_worker_drain(struct hb_worker *w, void (*on_idle)(struct hb_worker *w, void *arg), void *arg)
{
    close_listeners(w);
    w->draining = true;
    w->on_idle = on_idle;
    w->on_idle_arg = arg;
    hb_inbound_drain(w);
    pg_loop_defer(w->loop, &w->idle_check);
}

void hb_worker_cut_all(struct hb_worker *w, const char *text)
{
    PG_LIST_FOREACH(&w->conns, n)
    {
        hb_conn_cut(PG_CONTAINER_OF(n, struct hb_conn, node), PG_E_CANCELLED, HB_FLAG_CONNECT, text);
    }
    hb_inbound_cut(w);
}

void hb_worker_free(struct hb_worker *w)
{
    if (w == NULL) {
        return;
    }
    close_listeners(w);
    w->on_idle = NULL;
    /* Ends come through the loop: relays report in its deferred phase. */
    for (int i = 0; i < 100 && !(pg_list_is_empty(&w->conns) && pg_list_is_empty(&w->inbound)); i++) {
        hb_worker_cut_all(w, "connection closed due to connection drain");
        pg_loop_turn(w->loop, false);
    }
    hb_dns_free(w->dns);
    hb_pool_free(w->pool);
    pg_resolver_free(w->resolver);
    pg_timer_free(w->recheck);
    pg_timer_free(w->housekeeping);
    pg_defer_cancel(&w->idle_check);
    if (w->async != NULL) {
        pg_async_free(w->async);
    }
    struct pg_snap *s = pg_slot_take(&w->slot);
    pg_snap_unref(s);
    hb_world_unref(w->world);
    hb_metrics_fini(&w->metrics);
    struct pg_list left;
    pg_list_init(&left);
    pg_mailbox_take(&w->calls, &left);
    struct pg_list *n;
    while ((n = pg_list_pop(&left)) != NULL) {
        struct hb_call *c = PG_CONTAINER_OF(n, struct hb_call, node);
        if (c->reply != NULL) {
            pg_mailbox_send(c->reply, n);
        }
    }
    pg_mailbox_fini(&w->calls);
    pg_free(w);
}

void hb_worker_gauges(struct hb_worker *w, struct hb_gauges *out)
{
    uint64_t now = pg_loop_now_ms(w->loop);
    *out = (struct hb_gauges){.inbound_open = w->n_conns[HB_INBOUND],
                              .outbound_open = w->n_conns[HB_OUTBOUND],
                              .inbound_h2 = w->n_inbound,
                              .series = w->metrics.map.len};
    hb_pool_counts(w->pool, &out->pool_conns, &out->pool_inner);
    for (size_t i = 0; i < HB_EJECT_SLOTS; i++) {
        out->ejected += w->ejected[i].until_ms > now ? 1 : 0;
    }
}

struct pg_resolver *hb_worker_resolver(struct hb_worker *w)
{
    if (w->resolver == NULL) {
        struct pg_errtext err;
        if (pg_resolver_new(w->loop, NULL, &w->resolver, &err) < 0) {
            PG_LOG(PG_LOG_ERROR, "resolver", "cannot resolve names", PG_F_C("error", err.text));
        }
    }
    return w->resolver;
}

bool hb_worker_is_illegal_port(uint16_t port)
{
    return port == HB_PORT_OUTBOUND || port == HB_PORT_PLAIN || port == HB_PORT_INBOUND;
}

bool hb_worker_admits(struct hb_worker *w)
{
    if (w->n_conns[0] + w->n_conns[1] < HB_CONNS_MAX) {
        return true;
    }
    static _Thread_local struct pg_log_limit limit;
    uint32_t held;
    w->metrics.n.limit_refused++;
    if (pg_log_allowed(&limit, 1, 1, pg_loop_now_ms(w->loop), &held)) {
        PG_LOG(PG_LOG_WARN, "worker", "connection refused: HB_CONNS_MAX reached",
               PG_F_U64("limit", HB_CONNS_MAX), PG_F_U64("suppressed", held));
    }
    return false;
}

/* ---- endpoints set aside
 * ------------------------------------------------------------------------------------------ */

void hb_eject(struct hb_worker *w, peering_str uid)
{
    uint64_t hash = pg_hash(uid.ptr, uid.len);
    w->ejected[hash % HB_EJECT_SLOTS] = (struct hb_eject){hash, pg_loop_now_ms(w->loop) + HB_EJECT_MS};
    w->metrics.n.ejections++;
}

bool hb_is_ejected(const struct hb_worker *w, peering_str uid)
{
    uint64_t hash = pg_hash(uid.ptr, uid.len);
    const struct hb_eject *e = &w->ejected[hash % HB_EJECT_SLOTS];
    return e->hash == hash && e->until_ms > pg_loop_now_ms(w->loop);
}

/* ---- waiting
 * ------------------------------------------------------------------------------------------------------- */

void hb_wait_start(struct hb_pod *p, struct hb_wait *w, void (*wake)(struct hb_wait *w))
{
    w->wake = wake;
    pg_list_push_back(&p->waiters, &w->node);
}

void hb_wait_stop(struct hb_wait *w)
{
    pg_list_remove(&w->node);
}

void hb_unknown_local(const struct hb_pod *p, char *out, size_t cap)
{
    const struct hb_pod_spec *s = p->spec;
    (void)snprintf(out, cap, "failed to fetch information about local workload: %s.%s (%s)", s->sa, s->ns,
                   s->name);
}
