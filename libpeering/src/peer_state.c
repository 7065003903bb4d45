/* SPDX-License-Identifier: Apache-2.0 */
/* See peer_state.h. Invariant: a probe runs only while data is stale or unhealthy, and at most one at a time.
 */
#include "peer_state.h"

void peer_state_init(struct peer_state *s, uint64_t deadline_s)
{
    *s = (struct peer_state){.data = PEER_DATA_NONE, .deadline_ms = deadline_s * 1000};
}

const char *peer_data_name(enum peer_data d)
{
    static const char *const names[] = {"none", "fresh", "stale", "unhealthy"};
    return names[d];
}

static unsigned set_data(struct peer_state *s, enum peer_data d)
{
    if (s->data == d) {
        return 0;
    }
    s->data = d;
    return PEER_DO_MERGE;
}

static unsigned start_probe(struct peer_state *s)
{
    if (s->probing) {
        return 0;
    }
    s->probing = true;
    return PEER_DO_PROBE;
}

static unsigned on_synced(struct peer_state *s)
{
    unsigned todo = s->probing ? PEER_DO_CANCEL : 0;
    s->synced = true;
    s->probing = false;
    s->lost_at_ms = 0;
    /* Even when it was fresh before: a resync may have changed the contents. */
    s->data = PEER_DATA_FRESH;
    return todo | PEER_DO_MERGE;
}

static unsigned on_lost(struct peer_state *s, uint64_t now_ms)
{
    s->connected = false;
    s->synced = false;
    if (s->data != PEER_DATA_FRESH) {
        return 0;
    }
    s->lost_at_ms = now_ms;
    return set_data(s, PEER_DATA_STALE) | start_probe(s);
}

static unsigned on_probe(struct peer_state *s, bool ok, uint64_t now_ms)
{
    if (!s->probing) {
        return 0;
    }
    s->probing = false;
    s->next_probe_ms = now_ms + PEER_PROBE_EVERY_MS;
    if (ok) {
        s->probes_ok++;
    } else {
        s->probes_failed++;
    }
    return set_data(s, ok ? PEER_DATA_STALE : PEER_DATA_UNHEALTHY);
}

static unsigned on_tick(struct peer_state *s, uint64_t now_ms)
{
    if (s->data != PEER_DATA_STALE && s->data != PEER_DATA_UNHEALTHY) {
        return 0;
    }
    if (s->deadline_ms != 0 && now_ms - s->lost_at_ms >= s->deadline_ms) {
        unsigned todo = s->probing ? PEER_DO_CANCEL : 0;
        s->probing = false;
        s->lost_at_ms = 0;
        return todo | set_data(s, PEER_DATA_NONE) | PEER_DO_CLEAR;
    }
    return now_ms >= s->next_probe_ms ? start_probe(s) : 0;
}

unsigned peer_state_step(struct peer_state *s, enum peer_event ev, uint64_t now_ms)
{
    switch (ev) {
    case PEER_EV_STREAM_UP:
        s->connected = true;
        return 0;
    case PEER_EV_SYNCED:
        return on_synced(s);
    case PEER_EV_STREAM_LOST:
        return on_lost(s, now_ms);
    case PEER_EV_PROBE_OK:
        return on_probe(s, true, now_ms);
    case PEER_EV_PROBE_FAILED:
        return on_probe(s, false, now_ms);
    case PEER_EV_TICK:
        return on_tick(s, now_ms);
    }
    return 0;
}

uint64_t peer_state_wait_ms(const struct peer_state *s, uint64_t now_ms)
{
    if (s->data != PEER_DATA_STALE && s->data != PEER_DATA_UNHEALTHY) {
        return UINT64_MAX;
    }
    uint64_t wait = UINT64_MAX;
    if (s->deadline_ms != 0) {
        uint64_t end = s->lost_at_ms + s->deadline_ms;
        wait = end > now_ms ? end - now_ms : 0;
    }
    if (!s->probing) {
        uint64_t probe = s->next_probe_ms > now_ms ? s->next_probe_ms - now_ms : 0;
        wait = probe < wait ? probe : wait;
    }
    return wait;
}
