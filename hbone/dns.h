/* SPDX-License-Identifier: Apache-2.0 */
/* The DNS proxy of a pod (15053, UDP and TCP on loopback): mesh names from the table, the rest forwarded.
 * Worker 0's thread. */
#ifndef ISTHMUS_HBONE_DNS_H
#define ISTHMUS_HBONE_DNS_H

#include "hbone/dns_wire.h"
#include "hbone/worker.h"

#define HB_DNS_OUTSTANDING_MAX 1024u /* questions being forwarded */
#define HB_DNS_TCP_CONNS_MAX 256u
#define HB_DNS_TCP_PIPELINE_MAX 16u /* unanswered questions on one TCP connection */
#define HB_DNS_TCP_IDLE_MS 5000u
#define HB_DNS_TRY_MS 2000u /* one upstream, one try */
#define HB_DNS_TRIES_MAX 3u
#define HB_DNS_TTL_S 30u

struct hb_dns;
int hb_dns_new(struct hb_worker *w, struct hb_dns **out, struct pg_errtext *err) PG_MUST_CHECK;
void hb_dns_free(struct hb_dns *d); /* NULL is fine */
struct pg_addr hb_dns_udp_addr(const struct hb_dns *d);
struct pg_addr hb_dns_tcp_addr(const struct hb_dns *d);

/* Forwarding. Each question has a socket, a source port and an id of its own. `cb` once from the loop:
 * `answer` is checked, mutable and lives for the call; on failure it is NULL and `text` says why. */
struct hb_dns_forward;
int hb_dns_forward_start(struct hb_worker *w, const struct hb_dns_question *q, unsigned kind,
                         void (*cb)(void *arg, uint8_t *answer, size_t len, const char *text), void *arg,
                         struct hb_dns_forward **out) PG_MUST_CHECK;
void hb_dns_forward_cancel(struct hb_dns_forward *f); /* NULL is fine */

#endif
