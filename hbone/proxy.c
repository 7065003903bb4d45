/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Start, worlds, drain, end. Invariants: workers get worlds and calls, nothing else; the process ends only
 * after every worker is idle or the drain's deadline cut what was left, and says so. Control thread.
 */
#include "hbone/proxy.h"

#include "core/clock.h"
#include "core/log.h"
#include "hbone/dns.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

/* ---- worlds
 * -------------------------------------------------------------------------------------------------------------
 */

static void publish(struct hb_proxy *p)
{
    struct hb_world *world;
    if (hb_world_new(p->table, hb_identity_creds(p->identity), hb_identity_generation(p->identity), p->open,
                     hb_identity_why(p->identity), &world) < 0) {
        PG_LOG0(PG_LOG_ERROR, "proxy", "out of memory: workers keep the last table");
        return;
    }
    p->worlds++;
    for (unsigned i = 0; i < p->n_workers; i++) {
        hb_worker_set_world(p->workers[i], world);
    }
    hb_world_unref(world);
}

static void want_identity(struct hb_proxy *p)
{
    const struct hb_config *c = p->cfg;
    const struct hb_pod_spec *s = &c->pod;
    const peering_workload *w = NULL;
    if (p->table != NULL) {
        w = peering_find_workload_by_name(p->table, hb_pstr(pg_str_c(s->ns)), hb_pstr(pg_str_c(s->name)),
                                          hb_pstr(pg_str_c(s->sa)), hb_pstr(pg_str_c(c->node_name)));
    }
    if (w != NULL) {
        hb_identity_want(p->identity, hb_str(peering_workload_identity(w)));
    } else if (hb_identity_name(p->identity)[0] == '\0') {
        struct pg_sb id;
        pg_sb_init(&id, CERT_SPIFFE_MAX);
        cert_spiffe_format(pg_str_c(c->trust_domain), pg_str_c(s->ns), pg_str_c(s->sa), &id);
        hb_identity_want(p->identity, pg_sb_view(&id));
        pg_sb_fini(&id);
    }
}

static void on_snapshot(void *arg, peering_snapshot *s)
{
    struct hb_proxy *p = arg;
    peering_snapshot_unref(p->table);
    p->table = peering_snapshot_ref(s);
    if (p->identity != NULL) {
        want_identity(p);
        publish(p);
    }
}

static void on_ready(void *arg)
{
    struct hb_proxy *p = arg;
    p->open = true;
    PG_LOG(PG_LOG_INFO, "proxy", "the control plane has answered: serving",
           PG_F_U64("generation", p->table != NULL ? peering_snapshot_generation(p->table) : 0));
    if (p->table == NULL) {
        peering_table *empty;
        if (peering_table_new(&empty) == 0) {
            if (peering_table_snapshot(empty, &p->table) < 0) {
                PG_LOG0(PG_LOG_ERROR, "proxy", "out of memory");
            }
            peering_table_free(empty);
        }
    }
    want_identity(p);
    publish(p);
}

static void on_identity(void *arg)
{
    publish(arg);
}

/* ---- questions to all workers
 * --------------------------------------------------------------------------------------------- */

int hb_fanout_start(struct hb_proxy *p, void (*run)(struct hb_worker *w, struct hb_call *c),
                    void (*done)(struct hb_fanout *f), void *arg)
{
    struct hb_fanout *f = pg_calloc(1, sizeof(*f));
    if (f == NULL) {
        return PG_E_NOMEM;
    }
    f->proxy = p;
    f->done = done;
    f->arg = arg;
    f->left = p->n_workers;
    f->n = p->n_workers;
    for (unsigned i = 0; i < p->n_workers; i++) {
        struct hb_fanout_call *c = &f->calls[i];
        c->fanout = f;
        c->worker = i;
        c->call.run = run;
        c->call.reply = &p->replies;
        hb_worker_call(p->workers[i], &c->call);
    }
    return 0;
}

static void take_replies(struct hb_proxy *p)
{
    struct pg_list list;
    pg_list_init(&list);
    pg_mailbox_take(&p->replies, &list);
    struct pg_list *n;
    while ((n = pg_list_pop(&list)) != NULL) {
        struct hb_fanout_call *c =
            PG_CONTAINER_OF(PG_CONTAINER_OF(n, struct hb_call, node), struct hb_fanout_call, call);
        struct hb_fanout *f = c->fanout;
        if (--f->left == 0) {
            f->done(f);
            pg_free(f);
        }
    }
}

static void wake_control(void *arg)
{
    struct hb_proxy *p = arg;
    pg_async_send(p->async);
}

static void on_async(void *arg)
{
    take_replies(arg);
}

/* ---- drain
 * ------------------------------------------------------------------------------------------------------------------
 */

static void all_idle(struct hb_fanout *f)
{
    struct hb_proxy *p = f->proxy;
    PG_LOG(PG_LOG_INFO, "proxy", p->forced ? "drained, some connections were cut" : "drained",
           PG_F_U64("workers", p->n_workers));
    pg_loop_stop(p->loop);
}

static void on_worker_idle(struct hb_worker *w, void *arg)
{
    struct hb_fanout_call *note = arg;
    pg_mailbox_send(&note->fanout->proxy->replies, &note->call.node);
    pg_loop_stop(w->loop);
}

static void run_drain(struct hb_worker *w, struct hb_call *c)
{
    struct hb_fanout_call *fc = PG_CONTAINER_OF(c, struct hb_fanout_call, call);
    hb_worker_drain(w, on_worker_idle, fc->result);
}

static void run_cut(struct hb_worker *w, struct hb_call *c)
{
    (void)c;
    hb_worker_cut_all(w, "connection closed due to connection drain");
}

static void ignore_done(struct hb_fanout *f)
{
    (void)f;
}

static void on_deadline(void *arg)
{
    struct hb_proxy *p = arg;
    p->forced = true;
    PG_LOG(PG_LOG_WARN, "proxy", "drain deadline passed: cutting what is left",
           PG_F_U64("deadline_ms", p->cfg->drain_ms));
    if (hb_fanout_start(p, run_cut, ignore_done, NULL) < 0) {
        pg_timer_start(p->deadline, 100);
    }
}

/* What a drain needs is made at start: a shutdown must not fail for want of memory. */
static int prepare_drain(struct hb_proxy *p)
{
    p->drain = pg_calloc(1, sizeof(*p->drain));
    p->idle = pg_calloc(1, sizeof(*p->idle));
    if (p->drain == NULL || p->idle == NULL) {
        return PG_E_NOMEM;
    }
    p->drain->done = ignore_done;
    p->idle->done = all_idle;
    struct hb_fanout *both[] = {p->drain, p->idle};
    for (size_t k = 0; k < PG_ARRAY_LEN(both); k++) {
        struct hb_fanout *f = both[k];
        f->proxy = p;
        f->left = p->n_workers;
        f->n = p->n_workers;
        for (unsigned i = 0; i < p->n_workers; i++) {
            f->calls[i].fanout = f;
            f->calls[i].worker = i;
        }
    }
    return 0;
}

void hb_proxy_drain(struct hb_proxy *p, const char *why)
{
    if (p->draining) {
        return;
    }
    PG_LOG(PG_LOG_INFO, "proxy", "draining", PG_F_C("reason", why),
           PG_F_U64("deadline_ms", p->cfg->drain_ms));
    p->draining = true;
    for (unsigned i = 0; i < p->n_workers; i++) {
        struct hb_fanout_call *c = &p->drain->calls[i];
        c->result = &p->idle->calls[i];
        c->call.run = run_drain;
        c->call.reply = &p->replies;
        hb_worker_call(p->workers[i], &c->call);
    }
    p->drain = NULL; /* both free themselves when the last worker answered */
    p->idle = NULL;
    pg_timer_start(p->deadline, p->cfg->drain_ms);
}

static void on_sigterm(void *arg)
{
    hb_proxy_drain(arg, "SIGTERM");
}

static void on_sigint(void *arg)
{
    struct hb_proxy *p = arg;
    if (++p->sigints > 1) {
        _exit(0);
    }
    hb_proxy_drain(p, "SIGINT");
}

/* ---- start and end
 * ------------------------------------------------------------------------------------------------------------
 */

static void *worker_main(void *arg)
{
    struct hb_worker *w = arg;
    pg_loop_run(w->loop);
    return NULL;
}

static bool has_meta(const struct hb_config *c, const char *key)
{
    for (size_t i = 0; i < c->n_meta; i++) {
        if (strcmp(c->meta[i].key, key) == 0) {
            return true;
        }
    }
    return false;
}

static int make_node(struct hb_proxy *p, struct pg_errtext *err)
{
    const struct hb_config *c = p->cfg;
    char id[768];
    const char *ns = c->pod_namespace != NULL ? c->pod_namespace : c->pod.ns;
    const char *pod = c->pod_name != NULL ? c->pod_name : c->pod.name;
    const char *ip = c->instance_ip != NULL ? c->instance_ip : "1.1.1.1";
    (void)snprintf(id, sizeof(id), "ztunnel~%s~%s.%s~%s.svc.cluster.local", ip, pod, ns, ns);
    peering_node_kv md[HB_META_MAX + 7];
    size_t n = 0;
    md[n++] = (peering_node_kv){"NAME", pod};
    md[n++] = (peering_node_kv){"NAMESPACE", ns};
    md[n++] = (peering_node_kv){"INSTANCE_IPS", c->instance_ip != NULL ? c->instance_ip : ""};
    md[n++] = (peering_node_kv){"NODE_NAME", c->node_name != NULL ? c->node_name : ""};
    /* What proxy-status shows; the user's own ISTIO_META_ wins. */
    const peering_node_kv shown[] = {
        {"CLUSTER_ID", c->cluster_id}, {"NETWORK", c->network}, {"ISTIO_VERSION", ISTHMUS_VERSION}};
    for (size_t i = 0; i < PG_ARRAY_LEN(shown); i++) {
        if (!has_meta(c, shown[i].key) && shown[i].value != NULL) {
            md[n++] = shown[i];
        }
    }
    for (size_t i = 0; i < c->n_meta; i++) {
        md[n++] = (peering_node_kv){c->meta[i].key, c->meta[i].value};
    }
    peering_node_options o = {.xds_address = c->xds_address,
                              .ca_address = c->ca_address,
                              .xds_root_ca = c->xds_root_ca,
                              .ca_root_ca = c->ca_root_ca,
                              .alt_xds_hostname = c->alt_xds_hostname,
                              .alt_ca_hostname = c->alt_ca_hostname,
                              .token = c->auth_token,
                              .cluster_id = c->cluster_id,
                              .node_id = id,
                              .metadata = md,
                              .n_metadata = n};
    const peering_node_callbacks cb = {.on_snapshot = on_snapshot, .on_ready = on_ready};
    peering_text why = {.text = ""};
    int r = peering_node_new(p->loop, p->resolver, &o, &cb, p, &p->node, &why);
    if (r < 0) {
        pg_err_set(err, "%s", why.text);
        return r;
    }
    return hb_identity_new(p->loop, c, p->node, on_identity, p, &p->identity);
}

static int make_workers(struct hb_proxy *p, struct pg_errtext *err)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned n;
    int r = hb_config_workers(p->cfg, cpus > 0 ? (unsigned)cpus : 1, &n, err);
    for (unsigned i = 0; r == 0 && i < n; i++) {
        r = pg_loop_new(&p->loops[i]);
        r = r < 0 ? r : hb_worker_new(p->loops[i], p->cfg, i, &p->workers[i], err);
        if (r == 0) {
            p->n_workers++;
            r = hb_worker_listen(p->workers[i], err);
        }
    }
    p->bound = r == 0;
    return r;
}

static int open_http(struct hb_proxy *p, struct pg_errtext *err)
{
    const struct hb_test_hooks *t = &p->cfg->test;
    char at[64];
    char bind[PG_IP_TEXT] = "127.0.0.1";
    const char *any = t->on ? pg_ip_fmt(&t->bind, bind) : "0.0.0.0";
    (void)snprintf(at, sizeof(at), "%s:%u", bind, t->on ? t->admin : HB_PORT_ADMIN);
    int r = pg_http1_listen(p->loop, at, hb_admin_handle, p, &p->admin, err);
    if (r == 0) {
        (void)snprintf(at, sizeof(at), "%s:%u", any, t->on ? t->stats : HB_PORT_STATS);
        r = pg_http1_listen(p->loop, at, hb_stats_handle, p, &p->stats, err);
    }
    if (r == 0) {
        (void)snprintf(at, sizeof(at), "%s:%u", any, t->on ? t->ready : HB_PORT_READY);
        r = pg_http1_listen(p->loop, at, hb_ready_handle, p, &p->ready_port, err);
    }
    return r;
}

int hb_proxy_new(const struct hb_config *cfg, struct hb_proxy **out, struct pg_errtext *err)
{
    struct hb_proxy *p = pg_calloc(1, sizeof(*p));
    if (p == NULL) {
        pg_err_set(err, "out of memory");
        return PG_E_NOMEM;
    }
    p->cfg = cfg;
    int r = pg_mailbox_init(&p->replies, wake_control, p);
    if (r < 0) {
        pg_free(p);
        return r;
    }
    (void)pg_raise_fd_limit();
    r = pg_loop_new(&p->loop);
    r = r < 0 ? r : pg_async_new(p->loop, on_async, p, &p->async);
    r = r < 0 ? r : pg_timer_new(p->loop, on_deadline, p, &p->deadline);
    r = r < 0 ? r : pg_signal_new(p->loop, SIGTERM, on_sigterm, p, &p->sigterm);
    r = r < 0 ? r : pg_signal_new(p->loop, SIGINT, on_sigint, p, &p->sigint);
    r = r < 0 ? r : pg_resolver_new(p->loop, NULL, &p->resolver, err);
    r = r < 0 ? r : make_workers(p, err);
    r = r < 0 ? r : prepare_drain(p);
    r = r < 0 ? r : open_http(p, err);
    r = r < 0 ? r : make_node(p, err);
    if (r < 0) {
        if (err != NULL && err->text[0] == '\0') {
            pg_err_set(err, "%s", pg_err_str(r));
        }
        hb_proxy_free(p);
        return r;
    }
    *out = p;
    return 0;
}

void hb_proxy_run(struct hb_proxy *p)
{
    sigset_t all;
    sigset_t old;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, &old);
    for (unsigned i = 0; i < p->n_workers; i++) {
        PG_BUG_ON(pthread_create(&p->workers[i]->thread, NULL, worker_main, p->workers[i]) != 0);
    }
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    want_identity(p);
    pg_loop_run(p->loop);
    for (unsigned i = 0; i < p->n_workers; i++) {
        (void)pthread_join(p->workers[i]->thread, NULL);
    }
}

void hb_proxy_free(struct hb_proxy *p)
{
    if (p == NULL) {
        return;
    }
    pg_http1_free(p->admin);
    pg_http1_free(p->stats);
    pg_http1_free(p->ready_port);
    for (unsigned i = 0; i < p->n_workers; i++) {
        hb_worker_free(p->workers[i]);
    }
    if (p->async != NULL) {
        take_replies(p);
    }
    for (unsigned i = 0; i < HB_WORKERS_MAX; i++) {
        if (p->loops[i] != NULL) {
            pg_loop_free(p->loops[i]);
        }
    }
    pg_free(p->drain);
    pg_free(p->idle);
    hb_identity_free(p->identity);
    peering_node_free(p->node);
    peering_snapshot_unref(p->table);
    pg_resolver_free(p->resolver);
    pg_signal_free(p->sigterm);
    pg_signal_free(p->sigint);
    pg_timer_free(p->deadline);
    pg_mailbox_fini(&p->replies);
    if (p->async != NULL) {
        pg_async_free(p->async);
    }
    if (p->loop != NULL) {
        pg_loop_free(p->loop);
    }
    pg_free(p);
}
