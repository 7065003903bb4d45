/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process: control thread (link to the control plane, certificate, admin, statistics, readiness, signals)
 * and workers. The caller's thread becomes the control thread.
 */
#ifndef ISTHMUS_HBONE_PROXY_H
#define ISTHMUS_HBONE_PROXY_H

#include "hbone/identity.h"
#include "hbone/worker.h"
#include "net/http1.h"

struct hb_fanout;
struct hb_proxy {
    struct pg_loop *loop;
    const struct hb_config *cfg;
    struct pg_resolver *resolver;
    peering_node *node;
    struct hb_identity *identity;
    struct pg_http1_server *admin, *stats, *ready_port;
    struct pg_signal *sigterm, *sigint;
    struct pg_timer *deadline;
    struct pg_mailbox replies; /* calls that came back from workers */
    struct pg_async *async;
    peering_snapshot *table;
    uint64_t worlds;
    bool open;  /* first answers of the control plane are in */
    bool bound; /* listeners are open */
    bool draining;
    bool forced;
    unsigned n_workers;
    struct hb_worker *workers[HB_WORKERS_MAX];
    struct pg_loop *loops[HB_WORKERS_MAX];
    unsigned sigints;
    struct hb_fanout *drain, *idle; /* until the drain begins */
};
/* Opens every port; nothing runs yet. `err` says which setting or port and why. */
int hb_proxy_new(const struct hb_config *cfg, struct hb_proxy **out, struct pg_errtext *err) PG_MUST_CHECK;
void hb_proxy_run(struct hb_proxy *p); /* until drained */
void hb_proxy_free(struct hb_proxy *p);
void hb_proxy_drain(struct hb_proxy *p, const char *why);

/* A question to all workers. `run` on each worker's thread with the same `arg` copy of its own; `done` on the
 * control thread when all have answered. */
struct hb_fanout_call {
    struct hb_call call;
    struct hb_fanout *fanout;
    unsigned worker;
    void *result; /* made by run, taken by done */
};
struct hb_fanout {
    struct hb_proxy *proxy;
    void (*done)(struct hb_fanout *f);
    void *arg;
    unsigned left;
    unsigned n;
    struct hb_fanout_call calls[HB_WORKERS_MAX];
};
int hb_fanout_start(struct hb_proxy *p, void (*run)(struct hb_worker *w, struct hb_call *c),
                    void (*done)(struct hb_fanout *f), void *arg) PG_MUST_CHECK;

/* Admin (15000), statistics (15020) and readiness (15021) handlers; `arg` is the proxy. */
void hb_admin_handle(const struct pg_http1_request *req, struct pg_http1_reply *reply, void *arg);
void hb_stats_handle(const struct pg_http1_request *req, struct pg_http1_reply *reply, void *arg);
void hb_ready_handle(const struct pg_http1_request *req, struct pg_http1_reply *reply, void *arg);

#endif
