/* SPDX-License-Identifier: Apache-2.0 */
/* RFC 3339 text, the replaced clock, and that the real one moves forward. */
#include "core/clock.h"
#include "testlib.h"

static void rfc3339(void)
{
    static const struct {
        int64_t us;
        const char *want;
    } t[] = {
        {0, "1970-01-01T00:00:00.000000Z"},
        {1, "1970-01-01T00:00:00.000001Z"},
        {-1, "1969-12-31T23:59:59.999999Z"},
        {-1000000, "1969-12-31T23:59:59.000000Z"},
        {1787217243517204, "2026-08-20T09:14:03.517204Z"},
        {951782400000000, "2000-02-29T00:00:00.000000Z"},
        {4107542399999999, "2100-02-28T23:59:59.999999Z"},
        {4107542400000000, "2100-03-01T00:00:00.000000Z"},
        {253402300799999999, "9999-12-31T23:59:59.999999Z"},
        {INT64_MAX, "9999-12-31T23:59:59.999999Z"},
        {INT64_MIN, "0000-01-01T00:00:00.000000Z"},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(t); i++) {
        char out[PG_RFC3339_LEN];
        pg_clock_rfc3339(t[i].us, out);
        CU_ASSERT_STRING_EQUAL(out, t[i].want);
    }
}

static uint64_t fake_mono(void *arg)
{
    return *(uint64_t *)arg;
}

static int64_t fake_wall(void *arg)
{
    (void)arg;
    return -1500000;
}

static void replaced(void)
{
    uint64_t now = 5999999;
    struct pg_clock c = {.mono_ns = fake_mono, .wall_us = fake_wall, .arg = &now};
    pg_clock_set(&c);
    CU_ASSERT_EQUAL(pg_clock_mono_ns(), 5999999);
    CU_ASSERT_EQUAL(pg_clock_mono_ms(), 5);
    CU_ASSERT_EQUAL(pg_clock_wall_us(), -1500000);
    CU_ASSERT_EQUAL(pg_clock_wall_s(), -2);
    pg_clock_set(NULL);
    CU_ASSERT(pg_clock_wall_s() > 1600000000);
}

static void real_never_goes_back(void)
{
    uint64_t last = pg_clock_mono_ns();
    for (int i = 0; i < 1000; i++) {
        uint64_t now = pg_clock_mono_ns();
        CU_ASSERT(now >= last);
        last = now;
    }
}

TEST_MAIN("clock", {"rfc 3339", rfc3339}, {"replaced", replaced}, {"real", real_never_goes_back})
