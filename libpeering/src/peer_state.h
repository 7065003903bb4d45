/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of what one peer sent: fresh while its stream is up and synced; stale when the stream is
 * lost, for as long as a probe of its gateway (TCP, TLS, HTTP/2 PING on the HBONE port) proves the data path
 * alive; unhealthy at once when the probe fails; withdrawn at the deadline. Pure: events and time in, actions
 * out.
 */
#ifndef ISTHMUS_PEERING_PEER_STATE_H
#define ISTHMUS_PEERING_PEER_STATE_H

#include "contrib.h"

#define PEER_PROBE_EVERY_MS 2000u
#define PEER_PROBE_TIMEOUT_MS 3000u

enum peer_event {
    PEER_EV_STREAM_UP,
    PEER_EV_SYNCED,
    PEER_EV_STREAM_LOST,
    PEER_EV_PROBE_OK,
    PEER_EV_PROBE_FAILED,
    PEER_EV_TICK,
};
#define PEER_DO_PROBE 1u  /* start one probe now; its end is an event */
#define PEER_DO_MERGE 2u  /* what the peer contributes changed */
#define PEER_DO_CLEAR 4u  /* withdraw everything: deadline */
#define PEER_DO_CANCEL 8u /* drop a probe under way */

struct peer_state {
    enum peer_data data;
    bool connected; /* stream up */
    bool synced;    /* first reply of every type on this stream */
    bool probing;
    uint64_t lost_at_ms; /* when data became stale; 0: it is not */
    uint64_t next_probe_ms;
    uint64_t deadline_ms; /* after lost_at_ms; 0: never */
    uint64_t probes_ok, probes_failed;
};
void peer_state_init(struct peer_state *s, uint64_t deadline_s);
unsigned peer_state_step(struct peer_state *s, enum peer_event ev, uint64_t now_ms);
/* Until step(TICK) has something to do; UINT64_MAX: only after another event. */
uint64_t peer_state_wait_ms(const struct peer_state *s, uint64_t now_ms);
const char *peer_data_name(enum peer_data d); /* "none", "fresh", "stale", "unhealthy" */

#endif
