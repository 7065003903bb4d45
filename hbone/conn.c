/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lifetime of connection records. Invariants: a record is linked from init to end; opened and closed are
 * counted once each; strings are copied, so no record pins a snapshot. Worker thread.
 */
#include "hbone/conn.h"

#include "hbone/worker.h"

#include <stdio.h>

const char *hb_flag_name(enum hb_flag f)
{
    static const char *const names[] = {
        "-", "DENY", "CONNECT", "TLS_FAILURE", "H2_HANDSHAKE_FAILURE", "NETWORK_POLICY", "IDENTITY_ERROR"};
    return names[f];
}

void hb_fail_set(struct hb_fail *f, int err, enum hb_flag flag, bool retry, const char *fmt, ...)
{
    f->err = err;
    f->flag = flag;
    f->retry = retry;
    f->eject = false;
    f->stale_session = false;
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(f->text, sizeof(f->text), fmt, ap);
    va_end(ap);
}

void hb_conn_init(struct hb_conn *c, struct hb_worker *w, struct hb_pod *pod, enum hb_direction dir,
                  const struct pg_addr *src, const struct pg_addr *dst)
{
    c->worker = w;
    c->pod = pod;
    c->dir = dir;
    c->src = *src;
    c->dst = *dst;
    c->orig_dst = *dst;
    c->opened_ms = pg_loop_now_ms(w->loop);
    pg_list_push_back(&w->conns, &c->node);
    w->n_conns[dir]++;
}

void hb_party_of(struct hb_party *p, const peering_workload *w)
{
    *p = (struct hb_party){.known = w != NULL};
    if (w == NULL) {
        return;
    }
    p->pod = hb_str(peering_workload_name(w));
    p->ns = hb_str(peering_workload_namespace(w));
    p->identity = hb_str(peering_workload_identity(w));
    p->cluster = hb_str(peering_workload_cluster(w));
    p->workload = hb_str(peering_workload_workload_name(w));
    p->canonical = hb_str(peering_workload_canonical_name(w));
    p->revision = hb_str(peering_workload_canonical_revision(w));
    p->region = hb_str(peering_workload_region(w));
    p->zone = hb_str(peering_workload_zone(w));
}

void hb_text_service(struct hb_conn_text *t, const peering_service *v)
{
    if (v == NULL) {
        return;
    }
    t->service = hb_str(peering_service_hostname(v));
    t->service_ns = hb_str(peering_service_namespace(v));
    t->service_name = hb_str(peering_service_name(v));
}

static size_t text_slices(struct hb_conn_text *t, struct pg_str **out)
{
    struct hb_party *parties[2] = {&t->src, &t->dst};
    size_t n = 0;
    for (int i = 0; i < 2; i++) {
        struct hb_party *p = parties[i];
        struct pg_str *all[] = {&p->pod,       &p->ns,       &p->identity, &p->cluster, &p->workload,
                                &p->canonical, &p->revision, &p->region,   &p->zone};
        for (size_t k = 0; k < PG_ARRAY_LEN(all); k++) {
            out[n++] = all[k];
        }
    }
    out[n++] = &t->service;
    out[n++] = &t->service_ns;
    out[n++] = &t->service_name;
    out[n++] = &t->authority;
    PG_BUG_ON(n != HB_TEXT_SLICES);
    return n;
}

int hb_conn_describe(struct hb_conn *c, const struct hb_conn_text *t)
{
    struct hb_conn_text copy = *t;
    struct pg_str *slices[HB_TEXT_SLICES];
    size_t n = text_slices(&copy, slices);
    size_t total = 1;
    for (size_t i = 0; i < n; i++) {
        total += slices[i]->len;
    }
    char *block = pg_malloc(total);
    if (block == NULL) {
        return PG_E_NOMEM;
    }
    char *at = block;
    for (size_t i = 0; i < n; i++) {
        if (slices[i]->len > 0) {
            memcpy(at, slices[i]->p, slices[i]->len);
        }
        slices[i]->p = at;
        at += slices[i]->len;
    }
    pg_free(c->block);
    c->block = block;
    c->text = copy;
    c->policy.identity = hb_pstr(c->text.src.identity);
    return 0;
}

static void set_series(struct hb_conn *c)
{
    if (c->series == NULL) {
        c->series = hb_metrics_series(&c->worker->metrics, c, HB_FLAG_NONE);
        c->series->refs++;
    }
}

void hb_conn_open(struct hb_conn *c)
{
    set_series(c);
    c->opened = true;
    c->series->v[HB_M_OPENED]++;
    hb_access_log_open(c);
}

void hb_conn_flush(struct hb_conn *c)
{
    uint64_t a;
    uint64_t b;
    if (c->relay == NULL || c->series == NULL) {
        return;
    }
    pg_relay_counts(c->relay, &a, &b);
    c->series->v[HB_M_RECEIVED] += a - c->a_seen;
    c->series->v[HB_M_SENT] += b - c->b_seen;
    c->a_seen = a;
    c->b_seen = b;
}

static void relay_error(const struct hb_conn *c, const struct pg_relay_result *r, struct hb_fail *f)
{
    *f = c->cut_fail;
    if (f->err != 0 || r->err == 0) {
        return;
    }
    /* What ztunnel calls a clean end: the other side is gone. The far side got a reset all the same. */
    bool tunnel_side = r->err_on_b == (c->dir == HB_OUTBOUND);
    if (r->err == PG_E_CLOSED || (r->err == PG_E_RESET && !(tunnel_side && c->mtls))) {
        return;
    }
    hb_fail_set(f, r->err, HB_FLAG_CONNECT, false, "%s: %s", r->err_on_write ? "send" : "receive",
                r->text != NULL && r->text[0] != '\0' ? r->text : pg_err_str(r->err));
}

static void on_relay(const struct pg_relay_result *r, void *arg)
{
    struct hb_conn *c = arg;
    struct hb_fail f;
    relay_error(c, r, &f);
    c->relay = NULL;
    void (*done)(struct hb_conn *) = c->on_relay_done;
    hb_conn_end(c, &f, r->a_to_b, r->b_to_a);
    done(c);
}

int hb_conn_relay(struct hb_conn *c, struct pg_transport *client, struct pg_transport *server,
                  void (*done)(struct hb_conn *c))
{
    c->on_relay_done = done;
    c->cut_fail.err = 0;
    return pg_relay_start(c->worker->loop, client, server, on_relay, c, &c->relay);
}

void hb_conn_cut(struct hb_conn *c, int err, enum hb_flag flag, const char *text)
{
    struct hb_fail f;
    hb_fail_set(&f, err, flag, false, "%s", text);
    if (c->relay == NULL) {
        c->cut(c, &f);
    } else if (c->cut_fail.err == 0) {
        c->cut_fail = f;
        pg_relay_abort(c->relay, err, text);
    }
}

static void release(struct hb_conn *c)
{
    if (c->series != NULL) {
        c->series->refs--;
        c->series->idle_since_ms = pg_loop_now_ms(c->worker->loop);
        c->series = NULL;
    }
    if (pg_list_is_linked(&c->node)) {
        c->worker->n_conns[c->dir]--;
        pg_list_remove(&c->node);
    }
    pg_free(c->block);
    c->block = NULL;
    hb_worker_conn_gone(c->worker);
}

void hb_conn_end(struct hb_conn *c, const struct hb_fail *why, uint64_t client_to_server,
                 uint64_t server_to_client)
{
    uint64_t now = pg_loop_now_ms(c->worker->loop);
    enum hb_flag flag = why != NULL && why->err != 0 ? why->flag : HB_FLAG_NONE;
    set_series(c);
    c->series->v[HB_M_RECEIVED] += client_to_server - c->a_seen;
    c->series->v[HB_M_SENT] += server_to_client - c->b_seen;
    struct hb_series *end =
        flag == HB_FLAG_NONE ? c->series : hb_metrics_series(&c->worker->metrics, c, flag);
    if (c->opened) {
        end->v[HB_M_CLOSED]++;
    }
    if (flag != HB_FLAG_NONE) {
        end->v[HB_M_FAILED]++;
        end->idle_since_ms = now;
    }
    hb_access_log(c, why, client_to_server, server_to_client, now - c->opened_ms);
    release(c);
}

void hb_conn_deny_early(struct hb_conn *c, const char *why)
{
    c->worker->metrics.n.early_denied++;
    hb_access_log_early(c->dir, &c->src, &c->dst, why);
    release(c);
}

/* ---- headers that describe the other side
 * ----------------------------------------------------------------------- */

static void baggage_item(struct pg_str key, struct pg_str value, struct hb_party *out)
{
    static const char *const owners[] = {"deployment", "cronjob", "pod", "job"};
    if (pg_str_eq_c(key, "k8s.cluster.name")) {
        out->cluster = value;
    } else if (pg_str_eq_c(key, "k8s.namespace.name")) {
        out->ns = value;
    } else if (pg_str_eq_c(key, "service.name")) {
        out->canonical = value;
    } else if (pg_str_eq_c(key, "service.version")) {
        out->revision = value;
    } else if (pg_str_eq_c(key, "cloud.region")) {
        out->region = value;
    } else if (pg_str_eq_c(key, "cloud.availability_zone")) {
        out->zone = value;
    } else if (pg_str_has_prefix(key, PG_STR("k8s.")) && pg_str_has_suffix(key, PG_STR(".name"))) {
        struct pg_str kind = {key.p + 4, key.len - 9};
        for (size_t i = 0; i < PG_ARRAY_LEN(owners); i++) {
            if (pg_str_eq_c(kind, owners[i])) {
                out->workload = value;
            }
        }
    }
}

void hb_baggage_parse(struct pg_str header, struct hb_party *out)
{
    struct pg_str item;
    while (pg_str_cut(&header, ',', &item)) {
        struct pg_str key;
        item = pg_str_trim(item);
        if (pg_str_chr(item, '=') > 0 && pg_str_cut(&item, '=', &key)) {
            baggage_item(pg_str_trim(key), pg_str_trim(item), out);
        }
    }
    out->pod = out->workload;
}

struct pg_str hb_forwarded_host(struct pg_str header)
{
    struct pg_str item;
    while (pg_str_cut(&header, ';', &item)) {
        item = pg_str_trim(item);
        if (pg_str_has_prefix(item, PG_STR("host="))) {
            item = pg_str_sub(item, 5);
            if (item.len >= 2 && item.p[0] == '"' && item.p[item.len - 1] == '"') {
                item = (struct pg_str){item.p + 1, item.len - 2};
            }
            return item;
        }
    }
    return PG_STR_NONE;
}
