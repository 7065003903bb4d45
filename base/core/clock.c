/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only file that reads the system's clocks. Invariant: every other module sees time through here
 * or as an argument, so a test owns it. Any thread; replaced before threads start.
 */
#include "core/clock.h"

#include "core/err.h"

#include <stddef.h>
#include <string.h>
#include <time.h>

static struct pg_clock replaced;

void pg_clock_set(const struct pg_clock *clock)
{
    replaced = clock != NULL ? *clock : (struct pg_clock){0};
}

uint64_t pg_clock_mono_ns(void)
{
    if (replaced.mono_ns != NULL) {
        return replaced.mono_ns(replaced.arg);
    }
    struct timespec ts;
    PG_BUG_ON(clock_gettime(CLOCK_MONOTONIC, &ts) != 0);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t pg_clock_mono_ms(void)
{
    return pg_clock_mono_ns() / 1000000u;
}

int64_t pg_clock_wall_us(void)
{
    if (replaced.wall_us != NULL) {
        return replaced.wall_us(replaced.arg);
    }
    struct timespec ts;
    PG_BUG_ON(clock_gettime(CLOCK_REALTIME, &ts) != 0);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* Rounds towards the past, also before 1970. */
static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0 ? 1 : 0);
}

int64_t pg_clock_wall_s(void)
{
    return floor_div(pg_clock_wall_us(), 1000000);
}

static char *digits(char *at, uint32_t n, int width)
{
    for (int i = width - 1; i >= 0; i--) {
        at[i] = (char)('0' + n % 10);
        n /= 10;
    }
    return at + width;
}

void pg_clock_rfc3339(int64_t wall_us, char *out)
{
    /* Years 0000 to 9999: what the format can say. */
    const int64_t lowest = -62167219200000000;
    const int64_t highest = 253402300799999999;
    wall_us = wall_us < lowest ? lowest : wall_us > highest ? highest : wall_us;
    int64_t s = floor_div(wall_us, 1000000);
    time_t when = (time_t)s;
    struct tm tm;
    PG_BUG_ON(gmtime_r(&when, &tm) == NULL);
    char *at = digits(out, (uint32_t)(tm.tm_year + 1900), 4);
    *at++ = '-';
    at = digits(at, (uint32_t)tm.tm_mon + 1, 2);
    *at++ = '-';
    at = digits(at, (uint32_t)tm.tm_mday, 2);
    *at++ = 'T';
    at = digits(at, (uint32_t)tm.tm_hour, 2);
    *at++ = ':';
    at = digits(at, (uint32_t)tm.tm_min, 2);
    *at++ = ':';
    at = digits(at, (uint32_t)tm.tm_sec, 2);
    *at++ = '.';
    at = digits(at, (uint32_t)(wall_us - s * 1000000), 6);
    *at++ = 'Z';
    *at = '\0';
}
