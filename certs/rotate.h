/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When to ask for a certificate and what to serve meanwhile; one machine per identity. Pure: events and time
 * in, actions out. Refresh at half of the validity with up to 10 % jitter earlier; failures back off 1 s..150
 * s; a valid certificate is kept until it ends, never past it.
 */
#ifndef ISTHMUS_CERTS_ROTATE_H
#define ISTHMUS_CERTS_ROTATE_H

#include "core/backoff.h"

enum cert_rotate_state {
    CERT_ROTATE_INIT,        /* nothing yet */
    CERT_ROTATE_VALID,       /* have one */
    CERT_ROTATE_UNAVAILABLE, /* none, or the last one expired */
};
struct cert_rotate {
    enum cert_rotate_state state;
    bool fetching;
    int64_t not_before, not_after; /* of the certificate held, epoch seconds */
    int64_t next_at;               /* when to fetch next */
    struct pg_backoff backoff;
    uint32_t failures;
};
enum cert_rotate_action {
    CERT_ROTATE_NOTHING,
    CERT_ROTATE_FETCH, /* ask the CA now; fetching is set until _fetched or _failed */
    CERT_ROTATE_DROP,  /* the certificate just expired: stop using it */
};
void cert_rotate_init(struct cert_rotate *r);
/* Call when `now_s` >= next deadline or after any event until it says NOTHING. */
enum cert_rotate_action cert_rotate_step(struct cert_rotate *r, int64_t now_s);
void cert_rotate_fetched(struct cert_rotate *r, int64_t not_before, int64_t not_after, int64_t now_s,
                         struct pg_rng *rng);
void cert_rotate_failed(struct cert_rotate *r, int64_t now_s, struct pg_rng *rng);
/* Seconds until step wants to be called again; -1: only after an event. */
int64_t cert_rotate_wait_s(const struct cert_rotate *r, int64_t now_s);

#endif
