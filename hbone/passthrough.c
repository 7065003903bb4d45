/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Captured plaintext for the local workload (15006): the same policies, without an identity, then the
 * application. Invariants as in outbound.c: nothing is read before the far end accepted, a refusal resets.
 * Worker thread.
 */
#include "hbone/worker.h"

#include "core/log.h"

#include <peering/policy.h>
#include <peering/route.h>

struct plain {
    struct hb_conn c;
    struct pg_transport *client;
    struct hb_wait wait;
    struct pg_timer *timer;
    struct hb_dial *dial;
    uint64_t wait_until;
    bool holding;
    bool timed_out;
};

static void plain_free(struct plain *p)
{
    hb_dial_cancel(p->dial);
    hb_wait_stop(&p->wait);
    pg_timer_free(p->timer);
    if (p->client != NULL) {
        pg_transport_abort(p->client);
    }
    pg_free(p);
}

static void deny(struct plain *p, const char *why)
{
    hb_conn_deny_early(&p->c, why);
    plain_free(p);
}

static void fail(struct plain *p, const struct hb_fail *f)
{
    hb_conn_open(&p->c);
    hb_conn_end(&p->c, f, 0, 0);
    plain_free(p);
}

static void plain_cut(struct hb_conn *c, const struct hb_fail *why)
{
    deny(PG_CONTAINER_OF(c, struct plain, c), why->text);
}

static void on_done(struct hb_conn *c)
{
    plain_free(PG_CONTAINER_OF(c, struct plain, c));
}

static void on_dialled(void *arg, struct pg_transport *t, int err, const char *text)
{
    struct plain *p = arg;
    struct hb_fail f;
    p->dial = NULL;
    if (err == 0) {
        hb_conn_open(&p->c);
        err = hb_conn_relay(&p->c, p->client, t, on_done);
        if (err == 0) {
            p->client = NULL;
            return;
        }
        pg_transport_abort(t);
        hb_fail_set(&f, err, HB_FLAG_CONNECT, false, "connection failed: %s", pg_err_str(err));
        hb_conn_end(&p->c, &f, 0, 0);
        plain_free(p);
        return;
    }
    hb_fail_set(&f, err, HB_FLAG_CONNECT, false, "connection failed: %s",
                text[0] != '\0' ? text : pg_err_str(err));
    fail(p, &f);
}

static int describe(struct plain *p)
{
    const struct hb_worker *w = p->c.worker;
    struct hb_conn_text t = {0};
    peering_ip ip = hb_pip(&p->c.src.ip);
    hb_party_of(&t.src,
                peering_find_workload_by_ip(w->world->table, hb_pstr(pg_str_c(w->cfg->network)), &ip));
    t.src.identity = PG_STR_NONE; /* nothing was authenticated */
    hb_party_of(&t.dst, p->c.pod->local);
    hb_text_service(
        &t, peering_inbound_service(w->world->table, p->c.pod->local, (peering_str){NULL, 0}, p->c.dst.port));
    return hb_conn_describe(&p->c, &t);
}

static void on_wake(struct hb_wait *w);

static void wait(struct plain *p, bool holding, uint64_t limit_ms)
{
    uint64_t now = pg_loop_now_ms(p->c.worker->loop);
    if (p->wait_until == 0 || p->holding != holding) {
        p->wait_until = now + limit_ms;
        p->holding = holding;
    }
    hb_wait_start(p->c.pod, &p->wait, on_wake);
    pg_timer_start(p->timer, p->wait_until > now ? p->wait_until - now : 0);
}

/* 1: go on; 0: dealt with. */
static int check_policy(struct plain *p)
{
    struct hb_worker *w = p->c.worker;
    peering_text why = {.text = ""};
    p->c.policy = (peering_connection){
        .src_ip = hb_pip(&p->c.src.ip), .dst_ip = hb_pip(&p->c.dst.ip), .dst_port = p->c.dst.port};
    enum peering_verdict v =
        peering_policy_check(w->world->table, p->c.pod->local, &p->c.policy, w->cfg->policy_lenient, &why);
    if (v == PEERING_ALLOW) {
        p->c.checked = true;
        p->c.checked_gen = w->world_gen;
        return 1;
    }
    if (v == PEERING_POLICY_MISSING && !(p->timed_out && p->holding)) {
        w->metrics.n.policy_holds += p->holding ? 0 : 1;
        wait(p, true, HB_POLICY_HOLD_MS);
        return 0;
    }
    struct hb_fail f;
    hb_fail_set(&f, PG_E_DENIED, HB_FLAG_DENY, false, "connection closed due to policy rejection: %s",
                why.text);
    fail(p, &f);
    return 0;
}

static void serve(struct plain *p)
{
    struct hb_worker *w = p->c.worker;
    char text[256];
    if (p->c.pod->local == NULL || !w->world->open) {
        if (p->timed_out) {
            hb_unknown_local(p->c.pod, text, sizeof(text));
            deny(p, text);
        } else {
            wait(p, false, HB_WORKLOAD_WAIT_MS);
        }
        return;
    }
    if (describe(p) < 0) {
        deny(p, "out of memory");
        return;
    }
    if (check_policy(p) == 1) {
        struct pg_sock_options so;
        hb_app_sock_options(w, &p->c.src.ip, &p->c.dst.ip, &so);
        int r = hb_dial_start(w, &p->c.dst, &so, HB_TOTAL_MS, on_dialled, p, &p->dial);
        if (r < 0) {
            on_dialled(p, NULL, r, pg_err_str(r));
        }
    }
}

static void resume(struct plain *p)
{
    hb_wait_stop(&p->wait);
    pg_timer_stop(p->timer);
    serve(p);
}

static void on_wake(struct hb_wait *w)
{
    resume(PG_CONTAINER_OF(w, struct plain, wait));
}

static void on_timer(void *arg)
{
    struct plain *p = arg;
    p->timed_out = true;
    resume(p);
}

static void on_client_ready(struct pg_transport *t, unsigned rw, void *arg)
{
    (void)rw;
    int status = pg_transport_status(t);
    if (status < 0 && status != PG_E_AGAIN) {
        deny(arg, "the client went away");
        return;
    }
    pg_transport_want(t, 0);
}

void hb_plain_accept(struct pg_transport *t, const struct pg_addr *from, void *arg)
{
    struct hb_pod *pod = arg;
    struct hb_worker *w = pod->worker;
    struct pg_addr dst;
    int r = pg_tcp_original_dst(t, &dst);
    if (w->cfg->test.on && w->cfg->test.original_dst.ip.len > 0) {
        dst = w->cfg->test.original_dst;
    }
    struct plain *p = r >= 0 && hb_worker_admits(w) ? pg_calloc(1, sizeof(*p)) : NULL;
    if (p == NULL || pg_timer_new(w->loop, on_timer, p, &p->timer) < 0) {
        pg_free(p);
        pg_transport_abort(t);
        return;
    }
    hb_conn_init(&p->c, w, pod, HB_INBOUND, from, &dst);
    p->c.cut = plain_cut;
    p->client = t;
    pg_transport_set_owner(t, on_client_ready, p);
    if (hb_worker_is_illegal_port(dst.port)) {
        deny(p, "attempted recursive call to ourselves");
        return;
    }
    serve(p);
}
