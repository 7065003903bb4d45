/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The links to other control planes: one session per istio-remote Gateway object. A session owns one outgoing
 * delta xDS stream, what came over it, and the probe of the data path. When an object's address changes, the
 * old session keeps its data in force until the new one has synced: no gap, no wipe. Control thread.
 */
#ifndef ISTHMUS_PEERING_PEERS_H
#define ISTHMUS_PEERING_PEERS_H

#include "certs/tls.h"
#include "contrib.h"
#include "core/json.h"
#include "net/resolve.h"
#include "peer_state.h"

#define PEER_RESOURCES_MAX 200000u             /* of one type from one peer */
#define PEER_BYTES_MAX (1024ull * 1024 * 1024) /* of all resources of one peer */
#define PEER_CONDITIONS 5u

struct peers;
struct peers_options {
    struct pg_loop *loop;
    struct pg_resolver *resolver;
    struct pg_str cluster, system_ns; /* own; borrowed, live as long as the peers */
    const char *network;              /* own; its text may change */
    const char *version;
    bool flat_enabled;
    /* New reference to the credentials in force. */
    struct cert_creds *(*creds)(void *arg, struct pg_errtext *err);
    void (*on_change)(void *arg); /* a contribution or a condition changed */
    void *arg;
};
int peers_new(const struct peers_options *o, struct peers **out) PG_MUST_CHECK;
void peers_free(struct peers *p);
/* Brings sessions to the wanted set: starts, replaces, updates in place, stops. Takes the configs over (the
 * array stays the caller's); PG_E_NOMEM leaves the sessions that could not be made out; the next call tries
 * them again. */
int peers_apply(struct peers *p, struct peer_config *configs, size_t n) PG_MUST_CHECK;
/* The contributions in force; out[CONTRIB_PEERS_MAX]. Valid until the next turn of the loop. */
size_t peers_contributions(struct peers *p, struct contrib_peer *out);
/* Drop all connections and start over, without waiting for the back-off. */
void peers_reconnect(struct peers *p);
/* New streams with the credentials now in force beside those that are up; each old one ends when its
 * successor has synced, so nothing goes stale meanwhile. */
void peers_renew(struct peers *p);
/* Number of accepted peers not yet synced once; their names, comma-separated, into `names`. */
size_t peers_pending(const struct peers *p, struct pg_sb *names);
void peers_json(const struct peers *p,
                struct pg_json *j); /* an array, one object a peer; see docs/ADMIN.md */
/* Calls fn for each peer: for metrics. */
struct peers_fact {
    const char *cluster;
    bool connected, synced;
    enum peer_data data;
    uint64_t data_age_ms, last_message_age_ms;
    size_t services, workloads;
    uint64_t disconnects, probes_ok, probes_failed;
};
void peers_each(const struct peers *p, void (*fn)(void *arg, const struct peers_fact *f), void *arg);

#endif
