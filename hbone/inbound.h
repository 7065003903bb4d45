/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of the inbound side shared by the workload's and the gateway's handling of a CONNECT. Worker thread.
 */
#ifndef ISTHMUS_HBONE_INBOUND_H
#define ISTHMUS_HBONE_INBOUND_H

#include "hbone/worker.h"

#include <peering/route.h>

struct hb_in_conn; /* one HBONE connection */

/* One CONNECT. */
struct hb_in {
    struct hb_conn c;
    struct pg_list node; /* in the connection's list, until the stream is handed to the copy */
    struct hb_in_conn *ic;
    struct pg_h2_stream *stream;
    struct hb_dial *dial;
    void (*dial_failed)(struct hb_in *s, const struct hb_fail *f);
    struct hb_wait wait;
    struct pg_timer *timer; /* made only when something is waited for */
    uint64_t wait_until;    /* 0: nothing was waited for yet */
    bool holding;           /* for a policy; else for the local workload */
    bool timed_out;
    void (*serve)(struct hb_in *s); /* what runs again when the wait ends */
    struct pg_hostport authority;   /* slices into `head` */
    struct pg_str forwarded_host, baggage;
    bool other_network;    /* x-forwarded-network says the source address means nothing here */
    char *head;            /* copies of the header values above */
    struct pg_addr target; /* what is dialled */
    unsigned attempts;
    uint64_t tried[HB_ATTEMPTS_MAX];
    uint64_t tried_uid; /* hash of the endpoint being tried */
    size_t remaining;
};
/* Answers with a status other than 200 and ends: early denial (not registered) or with an access log line. */
void hb_in_refuse_early(struct hb_in *s, int status, const char *why);
void hb_in_refuse(struct hb_in *s, int status, const struct hb_fail *f);
/* Dials s->target; answers 200 and copies, or calls `failed` (NULL: refuse with 503). */
void hb_in_dial(struct hb_in *s, const struct pg_sock_options *so, uint64_t limit_ms,
                void (*failed)(struct hb_in *s, const struct hb_fail *f));
struct pg_str hb_in_peer(const struct hb_in *s); /* SPIFFE id of the client */
/* Waits for the next world or until `limit_ms` after the first call of its kind (then timed_out is set), then
 * s->serve runs again. */
void hb_in_wait(struct hb_in *s, bool for_policy, uint64_t limit_ms);
/* Policy for the connection to `ip`:`port` at the pod's own workload; the record is described before. 1: go
 * on; 0: refused or waiting, the stream is dealt with. */
int hb_in_check_policy(struct hb_in *s, const struct pg_ip *ip, uint16_t port);
/* Names both sides; `dst` and `service` may be NULL. PG_E_NOMEM. */
int hb_in_describe(struct hb_in *s, const peering_workload *dst,
                   const peering_service *service) PG_MUST_CHECK;
/* Gateway: picks an endpoint of the own network for the authority and passes the bytes on. */
void hb_gateway_serve(struct hb_in *s);

#endif
