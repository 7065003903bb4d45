/* SPDX-License-Identifier: Apache-2.0 */
/* Between inbound.c (connections) and inbound_stream.c (their streams). Worker thread. */
#ifndef ISTHMUS_HBONE_INBOUND_CONN_H
#define ISTHMUS_HBONE_INBOUND_CONN_H

#include "hbone/inbound.h"

struct hb_in_conn {
    struct pg_list node; /* in worker->inbound */
    struct hb_worker *w;
    struct hb_pod *pod;
    struct pg_addr src, dst;
    struct pg_transport *raw; /* while a certificate is waited for */
    struct pg_h2 *h2;
    struct pg_timer *timer; /* handshake, then end of the client's certificate */
    struct hb_wait wait;
    struct pg_list streams; /* struct hb_in that are not copying yet */
    bool ready;             /* SETTINGS arrived */
    char peer[CERT_SPIFFE_MAX + 1];
};
/* Takes the stream over. */
void hb_in_request(struct hb_in_conn *ic, struct pg_h2_stream *st, const struct pg_h2_head *head, bool end);
/* Ends a stream that is not copying. */
void hb_in_gone(struct hb_in *s, const char *why);

#endif
