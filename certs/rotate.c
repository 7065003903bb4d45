/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rotation machine. Two invariants: a certificate that is still valid is never dropped because a CA is
 * away, and one that ended is never kept for a fetch in flight. Pure: time is an argument, all in epoch
 * seconds. Any thread, one at a time.
 */
#include "certs/rotate.h"

#define BACKOFF_FIRST_MS 1000u
#define BACKOFF_MAX_MS 150000u
#define JITTER_DIVISOR 10          /* refresh up to a tenth of the waiting time early */
#define EPOCH_MAX_S 253402300799LL /* 9999-12-31T23:59:59Z, the end of X.509 time */

static int64_t clamp_epoch(int64_t s)
{
    return s < 0 ? 0 : s > EPOCH_MAX_S ? EPOCH_MAX_S : s;
}

void cert_rotate_init(struct cert_rotate *r)
{
    *r = (struct cert_rotate){
        .state = CERT_ROTATE_INIT,
        .backoff = {.first_ms = BACKOFF_FIRST_MS,
                    .max_ms = BACKOFF_MAX_MS,
                    .factor_pct = 200,
                    .jitter_pct = 20},
    };
}

enum cert_rotate_action cert_rotate_step(struct cert_rotate *r, int64_t now_s)
{
    if (r->state == CERT_ROTATE_VALID && now_s >= r->not_after) {
        r->state = CERT_ROTATE_UNAVAILABLE;
        return CERT_ROTATE_DROP;
    }
    if (!r->fetching && now_s >= r->next_at) {
        r->fetching = true;
        return CERT_ROTATE_FETCH;
    }
    return CERT_ROTATE_NOTHING;
}

/* When to renew a certificate with this validity; always later than now, so that a CA which hands out nearly
 * dead certificates is asked ever more often but never in a tight loop. */
static int64_t refresh_at(int64_t not_before, int64_t not_after, int64_t now_s, struct pg_rng *rng)
{
    int64_t half = (not_after - not_before) / 2;
    int64_t jitter = (int64_t)pg_rng_below(rng, (uint64_t)(half / JITTER_DIVISOR) + 1);
    int64_t at = not_before + half - jitter;
    if (at > now_s) {
        return at;
    }
    int64_t left = (not_after - now_s) / 2;
    return now_s + (left > 0 ? left : 1);
}

void cert_rotate_fetched(struct cert_rotate *r, int64_t not_before, int64_t not_after, int64_t now_s,
                         struct pg_rng *rng)
{
    not_before = clamp_epoch(not_before);
    not_after = clamp_epoch(not_after);
    if (not_before >= not_after || not_after <= now_s) {
        cert_rotate_failed(r, now_s, rng);
        return;
    }
    r->fetching = false;
    r->state = CERT_ROTATE_VALID;
    r->not_before = not_before;
    r->not_after = not_after;
    r->failures = 0;
    pg_backoff_reset(&r->backoff);
    r->next_at = refresh_at(not_before, not_after, now_s, rng);
}

void cert_rotate_failed(struct cert_rotate *r, int64_t now_s, struct pg_rng *rng)
{
    int64_t delay_s = ((int64_t)pg_backoff_next_ms(&r->backoff, rng) + 999) / 1000;
    r->fetching = false;
    r->next_at = now_s + (delay_s > 0 ? delay_s : 1);
    if (r->failures < UINT32_MAX) {
        r->failures++;
    }
    if (r->state == CERT_ROTATE_VALID && r->next_at > r->not_after) {
        /* one more try at the very moment the old one ends */
        r->next_at = r->not_after;
    } else if (r->state == CERT_ROTATE_INIT) {
        r->state = CERT_ROTATE_UNAVAILABLE;
    }
}

int64_t cert_rotate_wait_s(const struct cert_rotate *r, int64_t now_s)
{
    int64_t at = -1;
    if (r->state == CERT_ROTATE_VALID) {
        at = r->not_after;
    }
    if (!r->fetching && (at < 0 || r->next_at < at)) {
        at = r->next_at;
    }
    if (at < 0) {
        return -1;
    }
    return at > now_s ? at - now_s : 0;
}
