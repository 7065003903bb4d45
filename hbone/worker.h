/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One worker: a loop, its listeners, its pool, its connections. A connection lives and dies on one worker;
 * nothing here is shared but the configuration and the world, both immutable. Everything belongs to the
 * worker's thread except what is marked.
 */
#ifndef ISTHMUS_HBONE_WORKER_H
#define ISTHMUS_HBONE_WORKER_H

#include "core/rng.h"
#include "hbone/config.h"
#include "hbone/conn.h"
#include "hbone/metrics.h"
#include "hbone/world.h"
#include "net/h2.h"
#include "net/resolve.h"
#include "net/sock.h"

#include <pthread.h>

#define HB_CONNS_MAX 200000u      /* connections carried by one worker */
#define HB_INBOUND_H2_MAX 50000u  /* inbound HBONE connections of one worker */
#define HB_HANDSHAKE_MS 10000u    /* TLS, SETTINGS and CONNECT answer together; also a TCP connect */
#define HB_WORKLOAD_WAIT_MS 5000u /* for the local workload or its certificate to arrive */
#define HB_POLICY_HOLD_MS 1000u   /* for a referenced policy to arrive */
#define HB_ATTEMPT_MS 3000u       /* one attempt while others remain */
#define HB_TOTAL_MS 10000u        /* all attempts of a connection */
#define HB_ATTEMPTS_MAX 3u
#define HB_EJECT_MS 10000u
#define HB_EJECT_SLOTS 1024u
#define HB_RECHECK_BATCH 256u /* connections re-checked per loop turn after a policy change */

struct hb_pool;
struct hb_dns;
struct hb_worker;

/* Something that waits for the next world (local workload, certificate, policy). */
struct hb_wait {
    struct pg_list node;
    void (*wake)(struct hb_wait *w);
};
/* A worker's share of one captured workload. */
struct hb_pod {
    struct hb_worker *worker;
    const struct hb_pod_spec *spec;
    const peering_workload *local; /* in worker->world, NULL while unknown */
    struct pg_listener *outbound, *plain, *inbound, *forward;
    struct pg_list waiters; /* struct hb_wait */
};
/* A message from the control thread, run on the worker, then handed back by `done` (any thread's business).
 */
struct hb_call {
    struct pg_list node;
    void (*run)(struct hb_worker *w, struct hb_call *c);
    struct pg_mailbox *reply; /* where the node goes afterwards */
};
struct hb_eject {
    uint64_t hash;
    uint64_t until_ms;
};
struct hb_worker {
    struct pg_loop *loop;
    const struct hb_config *cfg;
    unsigned index;
    struct hb_world *world; /* in force; never NULL after hb_worker_new */
    uint64_t world_gen;     /* counts worlds seen by this worker */
    struct hb_pod pod;      /* the modes that exist have one */
    struct hb_pool *pool;
    struct hb_dns *dns;           /* worker 0 only */
    struct pg_resolver *resolver; /* made at first use */
    struct hb_metrics metrics;
    struct hb_eject ejected[HB_EJECT_SLOTS];
    struct pg_rng rng;
    struct pg_list conns;   /* struct hb_conn */
    size_t n_conns[2];      /* by direction */
    struct pg_list inbound; /* struct hb_in_conn */
    size_t n_inbound;
    struct pg_timer *recheck;
    struct pg_timer *housekeeping;
    bool draining;
    void (*on_idle)(struct hb_worker *w, void *arg); /* once, when draining and nothing is left */
    void *on_idle_arg;
    struct pg_defer idle_check;
    /* Any thread. */
    struct pg_slot slot;
    struct pg_mailbox calls;
    struct pg_async *async;
    pthread_t thread;
};

/* On the loop's thread. No ports are opened yet. */
int hb_worker_new(struct pg_loop *l, const struct hb_config *cfg, unsigned index, struct hb_worker **out,
                  struct pg_errtext *err) PG_MUST_CHECK;
/* Opens the listeners of the mode. */
int hb_worker_listen(struct hb_worker *w, struct pg_errtext *err) PG_MUST_CHECK;
void hb_worker_free(struct hb_worker *w); /* cuts what is left */
/* Any thread. */
void hb_worker_set_world(struct hb_worker *w, struct hb_world *world);
void hb_worker_call(struct hb_worker *w, struct hb_call *c);
/* Closes the listeners, sends GOAWAY, lets connections finish; on_idle follows. */
void hb_worker_drain(struct hb_worker *w, void (*on_idle)(struct hb_worker *w, void *arg), void *arg);
/* Cuts every connection with `text`. */
void hb_worker_cut_all(struct hb_worker *w, const char *text);
void hb_worker_conn_gone(struct hb_worker *w);
void hb_worker_gauges(struct hb_worker *w, struct hb_gauges *out);
struct pg_resolver *hb_worker_resolver(struct hb_worker *w); /* NULL: could not be made */
void hb_worker_sock_options(const struct hb_worker *w, struct pg_sock_options *out);
bool hb_worker_is_illegal_port(uint16_t port);
/* A connection may be taken; false: over the cap, counted. */
bool hb_worker_admits(struct hb_worker *w);

/* Endpoints set aside after a failure, by uid. */
void hb_eject(struct hb_worker *w, peering_str uid);
bool hb_is_ejected(const struct hb_worker *w, peering_str uid);

/* Waits for the next world; the node is unlinked before `wake` is called, which may wait again. */
void hb_wait_start(struct hb_pod *p, struct hb_wait *w, void (*wake)(struct hb_wait *w));
void hb_wait_stop(struct hb_wait *w);

/* Entry points of the listeners. */
void hb_outbound_accept(struct pg_transport *t, const struct pg_addr *from, void *pod);
void hb_plain_accept(struct pg_transport *t, const struct pg_addr *from, void *pod);
void hb_inbound_accept(struct pg_transport *t, const struct pg_addr *from, void *pod);
void hb_forward_accept(struct pg_transport *t, const struct pg_addr *from, void *pod);
/* Inbound HTTP/2 connections: GOAWAY to all; abrupt end of all. */
void hb_inbound_drain(struct hb_worker *w);
void hb_inbound_cut(struct hb_worker *w);
/* Text of the errors of a local workload that is not known. */
void hb_unknown_local(const struct hb_pod *p, char *out, size_t cap);
/* Re-checks open connections against the world in force, in batches. */
void hb_policy_recheck_start(struct hb_worker *w);
void hb_policy_recheck(struct hb_worker *w);
/* Options for dialling the application: the client's address is kept when that is possible. */
void hb_app_sock_options(const struct hb_worker *w, const struct pg_ip *client, const struct pg_ip *app,
                         struct pg_sock_options *out);

/* A TCP connect with a time limit; `cb` once from the loop with an established transport or the failure.
 * Cancel: no callback. */
struct hb_dial;
int hb_dial_start(struct hb_worker *w, const struct pg_addr *to, const struct pg_sock_options *o,
                  uint64_t limit_ms, void (*cb)(void *arg, struct pg_transport *t, int err, const char *text),
                  void *arg, struct hb_dial **out) PG_MUST_CHECK;
void hb_dial_cancel(struct hb_dial *d); /* NULL is fine */

#endif
