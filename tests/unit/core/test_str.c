/* SPDX-License-Identifier: Apache-2.0 */
/* Slices, number and duration parsers, UTF-8. */
#include "core/str.h"
#include "testlib.h"

static void compare(void)
{
    CU_ASSERT(pg_str_eq(PG_STR_NONE, PG_STR("")));
    CU_ASSERT(pg_str_eq(PG_STR("a\0b"), pg_str_n("a\0b", 3)));
    CU_ASSERT(!pg_str_eq(PG_STR("a\0b"), PG_STR("a\0c")));
    CU_ASSERT(pg_str_eq_c(PG_STR_NONE, NULL));
    CU_ASSERT(pg_str_eq_nocase(PG_STR("Content-TYPE"), PG_STR("content-type")));
    CU_ASSERT(!pg_str_eq_nocase(PG_STR("["), PG_STR("{"))); /* differ by 0x20 only, but are no letters */
    CU_ASSERT(!pg_str_eq_nocase(PG_STR("ab"), PG_STR("a")));
    CU_ASSERT(pg_str_cmp(PG_STR("a"), PG_STR("b")) < 0);
    CU_ASSERT(pg_str_cmp(PG_STR("ab"), PG_STR("a")) > 0);
    CU_ASSERT(pg_str_cmp(PG_STR("\xff"), PG_STR("a")) > 0);
    CU_ASSERT_EQUAL(pg_str_cmp(PG_STR_NONE, PG_STR("")), 0);
    CU_ASSERT(pg_str_has_prefix(PG_STR("spiffe://x"), PG_STR("spiffe://")));
    CU_ASSERT(!pg_str_has_prefix(PG_STR("sp"), PG_STR("spiffe://")));
    CU_ASSERT(pg_str_has_suffix(PG_STR("a.mesh.internal"), PG_STR(".mesh.internal")));
    CU_ASSERT(pg_str_has_suffix(PG_STR("a"), PG_STR("")));
    CU_ASSERT(!pg_str_has_suffix(PG_STR("nal"), PG_STR("internal")));
}

static void cutting(void)
{
    struct pg_str s = PG_STR("a,,b");
    struct pg_str h;
    CU_ASSERT(pg_str_cut(&s, ',', &h) && pg_str_eq_c(h, "a"));
    CU_ASSERT(pg_str_cut(&s, ',', &h) && h.len == 0);
    CU_ASSERT(pg_str_cut(&s, ',', &h) && pg_str_eq_c(h, "b"));
    CU_ASSERT(!pg_str_cut(&s, ',', &h));
    CU_ASSERT(pg_str_eq_c(pg_str_trim(PG_STR(" \t\r\n a b \n")), "a b"));
    CU_ASSERT_EQUAL(pg_str_trim(PG_STR(" \t ")).len, 0);
    CU_ASSERT_EQUAL(pg_str_chr(PG_STR("abcb"), 'b'), 1);
    CU_ASSERT_EQUAL(pg_str_rchr(PG_STR("abcb"), 'b'), 3);
    CU_ASSERT_EQUAL(pg_str_chr(PG_STR_NONE, 'b'), -1);
    CU_ASSERT_EQUAL(pg_str_rchr(PG_STR("abc"), 'x'), -1);
    CU_ASSERT(pg_str_eq_c(pg_str_sub(PG_STR("abc"), 1), "bc"));
    CU_ASSERT_EQUAL(pg_str_sub(PG_STR("abc"), 3).len, 0);
    CU_ASSERT_EQUAL(pg_str_sub(PG_STR("abc"), 99).len, 0);
}

static void numbers(void)
{
    static const struct {
        const char *text;
        uint64_t max;
        uint64_t want; /* UINT64_MAX - 1: refused */
    } t[] = {
        {"0", 10, 0},
        {"007", 10, 7},
        {"10", 10, 10},
        {"11", 10, UINT64_MAX - 1},
        {"", 10, UINT64_MAX - 1},
        {"-1", 10, UINT64_MAX - 1},
        {"+1", 10, UINT64_MAX - 1},
        {" 1", 10, UINT64_MAX - 1},
        {"1 ", 10, UINT64_MAX - 1},
        {"0x1", 10, UINT64_MAX - 1},
        {"18446744073709551615", UINT64_MAX, UINT64_MAX},
        {"18446744073709551616", UINT64_MAX, UINT64_MAX - 1},
        {"99999999999999999999999", UINT64_MAX, UINT64_MAX - 1},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(t); i++) {
        uint64_t n = 4711;
        int r = pg_str_u64(pg_str_c(t[i].text), t[i].max, &n);
        if (t[i].want == UINT64_MAX - 1) {
            CU_ASSERT_EQUAL(r, PG_E_PARSE);
            CU_ASSERT_EQUAL(n, 4711);
        } else {
            CU_ASSERT_EQUAL(r, 0);
            CU_ASSERT_EQUAL(n, t[i].want);
        }
    }
}

static void durations(void)
{
    static const struct {
        const char *text;
        uint64_t want; /* UINT64_MAX: refused */
    } t[] = {
        {"10s", 10000},
        {"5m", 300000},
        {"1h30m", 5400000},
        {"250ms", 250},
        {"0", 0},
        {"0s", 0},
        {"1.5s", 1500},
        {"0.5h", 1800000},
        {"1h1m1s1ms", 3661001},
        {"2d", 172800000},
        {"1m1h", 3660000},
        {"9223372036854ms", 9223372036854},
        {"9223372036855ms", UINT64_MAX},
        {"106751d", 9223286400000},
        {"99999999999999999999s", UINT64_MAX},
        {"18446744073709551615h", UINT64_MAX},
        {"", UINT64_MAX},
        {"10", UINT64_MAX},
        {"s", UINT64_MAX},
        {"-1s", UINT64_MAX},
        {"1s ", UINT64_MAX},
        {"1 s", UINT64_MAX},
        {"1S", UINT64_MAX},
        {"1.s", UINT64_MAX},
        {".5s", UINT64_MAX},
        {"1.2.3s", UINT64_MAX},
        {"1s5", UINT64_MAX},
        {"1.0005s", UINT64_MAX},
        {"500us", UINT64_MAX},
        {"1.0000000001s", UINT64_MAX},
        {"1y", UINT64_MAX},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(t); i++) {
        uint64_t ms = 4711;
        int r = pg_str_duration_ms(pg_str_c(t[i].text), &ms);
        uint64_t want = t[i].want == UINT64_MAX ? 4711 : t[i].want;
        if (r != (t[i].want == UINT64_MAX ? PG_E_PARSE : 0) || ms != want) {
            CU_FAIL("duration");
            (void)fprintf(stderr, "duration \"%s\": %d, %lu\n", t[i].text, r, (unsigned long)ms);
        }
    }
}

static void utf8(void)
{
    CU_ASSERT(pg_str_is_utf8(PG_STR("")));
    CU_ASSERT(pg_str_is_utf8(PG_STR("plain \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80")));
    CU_ASSERT(pg_str_is_utf8(PG_STR("\xf4\x8f\xbf\xbf")));
    static const struct pg_str bad[] = {
        PG_STR("a\0b"),
        PG_STR("\x80"),
        PG_STR("\xc0\xaf"),
        PG_STR("\xc1\xbf"),
        PG_STR("\xc3"),
        PG_STR("\xe0\x9f\xbf"),
        PG_STR("\xed\xa0\x80"),
        PG_STR("\xe2\x82"),
        PG_STR("\xf4\x90\x80\x80"),
        PG_STR("\xf5\x80\x80\x80"),
        PG_STR("\xf0\x8f\xbf\xbf"),
        PG_STR("\xff"),
        PG_STR("\xc3\x28"),
        PG_STR("\xe2\x28\xa1"),
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(bad); i++) {
        CU_ASSERT_FALSE(pg_str_is_utf8(bad[i]));
    }
    uint32_t cp = 0;
    CU_ASSERT_EQUAL(pg_utf8_step(PG_STR("\xf0\x9f\x98\x80z"), &cp), 4);
    CU_ASSERT_EQUAL(cp, 0x1f600);
    CU_ASSERT_EQUAL(pg_utf8_step(PG_STR_NONE, &cp), 0);
}

static void lower_case(void)
{
    char buf[6];
    struct pg_str s = pg_str_lower(PG_STR("aBc-Z"), buf, sizeof(buf));
    CU_ASSERT(pg_str_eq_c(s, "abc-z"));
    CU_ASSERT_STRING_EQUAL(buf, "abc-z");
    CU_ASSERT_EQUAL(pg_str_lower(PG_STR("abcdef"), buf, sizeof(buf)).len, 0);
}

TEST_MAIN("str", {"compare", compare}, {"cut, trim, find", cutting}, {"numbers", numbers},
          {"durations", durations}, {"utf-8", utf8}, {"lower", lower_case})
