/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HBONE connections of one worker, kept for reuse and keyed by (own identity, accepted identities, address,
 * network), and for tunnels through a gateway also by the inner authority and inner identities. A connection
 * made with an older certificate takes no new streams. Worker thread.
 */
#ifndef ISTHMUS_HBONE_POOL_H
#define ISTHMUS_HBONE_POOL_H

#include "hbone/connect.h"
#include "hbone/conn.h"
#include "hbone/worker.h"

#define HB_POOL_KEYS_MAX 65536u
#define HB_POOL_KEY_MAX (1024u * 1024)
#define HB_POOL_WAITING_MAX 100000u /* requests queued for connections */
#define HB_INNER_AGE_MS                                                                                      \
    60000u /* a tunnel through a gateway takes new streams this long, so that load follows endpoints */
#define HB_DIAL_COOL_MS 1000u

struct hb_pool;
struct hb_pool_conn; /* one pooled session; a user holds it from get to put */
struct hb_ticket;

struct hb_hop { /* borrowed for the call */
    struct pg_addr addr;
    struct pg_str network; /* of the destination */
    struct cert_creds *creds;
    uint64_t creds_gen;
    const peering_str *sans; /* accepted at `addr` */
    size_t n_sans;
    /* Tunnel through a gateway: `addr` is the gateway, then these. */
    bool inner;
    const peering_str *inner_sans;
    size_t n_inner_sans;
    struct hb_connect_head outer_head;
};
int hb_pool_new(struct hb_worker *w, struct hb_pool **out) PG_MUST_CHECK;
void hb_pool_free(struct hb_pool *p); /* closes every session; users must be gone */
/* Either *conn is set (a session with room for one stream, held), or *ticket and `cb` follows once from the
 * loop: conn held, or NULL with the failure. The callee opens its stream before it returns, and calls put
 * when that has ended. */
int hb_pool_get(struct hb_pool *p, const struct hb_hop *hop,
                void (*cb)(void *arg, struct hb_pool_conn *c, const struct hb_fail *f), void *arg,
                struct hb_pool_conn **conn, struct hb_ticket **ticket, struct hb_fail *why) PG_MUST_CHECK;
void hb_ticket_cancel(struct hb_ticket *t);              /* NULL is fine; no callback after */
struct pg_h2 *hb_pool_conn_h2(struct hb_pool_conn *c);   /* NULL: it died meanwhile */
struct pg_str hb_pool_conn_peer(struct hb_pool_conn *c); /* SPIFFE id at the far end; lives with the hold */
/* It did not answer in time: takes no new streams; those it has run on. */
void hb_pool_suspect(struct hb_pool_conn *c);
void hb_pool_put(struct hb_pool_conn *c); /* NULL is fine */
void hb_pool_counts(const struct hb_pool *p, uint64_t *outer, uint64_t *inner);
/* True when the socket of the connect now under way for this ticket never got an answer. */
bool hb_ticket_is_connecting(const struct hb_ticket *t);

#endif
