/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one clock. Monotonic time is for timers, wall time only for certificates, tokens and log lines.
 * Tests replace both. Any thread; the replacement is process-wide and set before threads start.
 */
#ifndef ISTHMUS_CORE_CLOCK_H
#define ISTHMUS_CORE_CLOCK_H

#include <stdint.h>

uint64_t pg_clock_mono_ns(void);
uint64_t pg_clock_mono_ms(void);
/* Since 1970-01-01 UTC. */
int64_t pg_clock_wall_us(void);
int64_t pg_clock_wall_s(void);

struct pg_clock {
    uint64_t (*mono_ns)(void *arg);
    int64_t (*wall_us)(void *arg);
    void *arg;
};
/* NULL restores the real clock. The struct is copied. */
void pg_clock_set(const struct pg_clock *clock);
/* "2026-08-20T09:14:03.517204Z"; out needs PG_RFC3339_LEN bytes. */
#define PG_RFC3339_LEN 28
void pg_clock_rfc3339(int64_t wall_us, char *out);

#endif
