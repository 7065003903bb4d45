/* SPDX-License-Identifier: Apache-2.0 */
/* The string builder with its limit and sticky error; base64 and hex. */
#include "core/str.h"
#include "testlib.h"

static void building(void)
{
    struct pg_sb sb;
    pg_sb_init(&sb, 1000);
    CU_ASSERT(pg_str_eq_c(pg_sb_view(&sb), ""));
    pg_sb_c(&sb, "a");
    pg_sb_ch(&sb, 'b');
    pg_sb_str(&sb, PG_STR("cd"));
    pg_sb_fmt(&sb, "-%d-%s", 42, "x");
    pg_sb_str(&sb, PG_STR_NONE);
    CU_ASSERT(pg_str_eq_c(pg_sb_view(&sb), "abcd-42-x"));
    CU_ASSERT_STRING_EQUAL(sb.p, "abcd-42-x");
    pg_sb_reset(&sb);
    CU_ASSERT(pg_str_eq_c(pg_sb_view(&sb), ""));
    pg_sb_fmt(&sb, "%0500d", 7);
    CU_ASSERT_EQUAL(sb.len, 500);
    CU_ASSERT_EQUAL(sb.p[499], '7');
    CU_ASSERT_EQUAL(sb.p[500], '\0');
    pg_sb_fini(&sb);
}

static void limit_is_sticky(void)
{
    struct pg_sb sb;
    pg_sb_init(&sb, 4);
    pg_sb_c(&sb, "1234");
    CU_ASSERT_EQUAL(sb.err, 0);
    pg_sb_ch(&sb, '5');
    CU_ASSERT_EQUAL(sb.err, PG_E_LIMIT);
    CU_ASSERT(pg_str_eq_c(pg_sb_view(&sb), "1234"));
    CU_ASSERT_PTR_NULL(pg_sb_take(&sb));
    pg_sb_c(&sb, "ok");
    char *p = pg_sb_take(&sb);
    CU_ASSERT_STRING_EQUAL(p, "ok");
    pg_free(p);
    pg_sb_fmt(&sb, "%0300d", 1);
    CU_ASSERT_EQUAL(sb.err, PG_E_LIMIT);
    pg_sb_ch(&sb, 'x');
    CU_ASSERT_EQUAL(sb.len, 0);
    pg_sb_reset(&sb);
    CU_ASSERT_EQUAL(sb.err, 0);
    pg_sb_fini(&sb);
}

static void take_empty(void)
{
    struct pg_sb sb;
    pg_sb_init(&sb, 4);
    char *p = pg_sb_take(&sb);
    CU_ASSERT_STRING_EQUAL(p, "");
    pg_free(p);
}

static int build(void *arg)
{
    (void)arg;
    struct pg_sb sb;
    pg_sb_init(&sb, 1 << 20);
    for (int i = 0; i < 2000; i++) {
        pg_sb_fmt(&sb, "%d,", i);
    }
    pg_sb_fmt(&sb, "%05000d", 1);
    int r = sb.err;
    char *p = pg_sb_take(&sb);
    CU_ASSERT_EQUAL(p == NULL, r != 0);
    pg_free(p);
    return r;
}

static void sweep(void)
{
    CU_ASSERT(test_alloc_sweep(build, NULL) >= 6);
}

static const struct {
    struct pg_str plain;
    const char *std;
    const char *url;
} pairs[] = {
    {PG_STR(""), "", ""},
    {PG_STR("f"), "Zg==", "Zg"},
    {PG_STR("fo"), "Zm8=", "Zm8"},
    {PG_STR("foo"), "Zm9v", "Zm9v"},
    {PG_STR("foob"), "Zm9vYg==", "Zm9vYg"},
    {PG_STR("fooba"), "Zm9vYmE=", "Zm9vYmE"},
    {PG_STR("foobar"), "Zm9vYmFy", "Zm9vYmFy"},
    {PG_STR("\xfb\xff\xfe\0"), "+//+AA==", "-__-AA"},
};

static void base64_vectors(void)
{
    struct pg_sb sb;
    pg_sb_init(&sb, 100);
    for (size_t i = 0; i < PG_ARRAY_LEN(pairs); i++) {
        pg_sb_reset(&sb);
        pg_base64_encode(pairs[i].plain, false, &sb);
        CU_ASSERT(pg_str_eq_c(pg_sb_view(&sb), pairs[i].std));
        pg_sb_reset(&sb);
        pg_base64_encode(pairs[i].plain, true, &sb);
        CU_ASSERT(pg_str_eq_c(pg_sb_view(&sb), pairs[i].url));
        pg_sb_reset(&sb);
        CU_ASSERT_EQUAL(pg_base64_decode(pg_str_c(pairs[i].std), &sb), 0);
        CU_ASSERT_EQUAL(pg_base64_decode(pg_str_c(pairs[i].url), &sb), 0);
        CU_ASSERT_EQUAL(sb.len, 2 * pairs[i].plain.len);
        CU_ASSERT(pg_str_has_prefix(pg_sb_view(&sb), pairs[i].plain));
        CU_ASSERT(pg_str_has_suffix(pg_sb_view(&sb), pairs[i].plain));
    }
    pg_sb_fini(&sb);
}

static void base64_refuses(void)
{
    static const char *const bad[] = {"A",      "A===", "AA=",  "====", "=",     "AA==AA==", "AA A",
                                      "AAAA\n", "Zg=a", "Zh==", "Zm9=", "AAAAA", "AA=A",     "AAA=="};
    struct pg_sb sb;
    pg_sb_init(&sb, 100);
    pg_sb_c(&sb, "kept");
    for (size_t i = 0; i < PG_ARRAY_LEN(bad); i++) {
        CU_ASSERT_EQUAL(pg_base64_decode(pg_str_c(bad[i]), &sb), PG_E_PARSE);
        CU_ASSERT(pg_str_eq_c(pg_sb_view(&sb), "kept"));
    }
    pg_sb_fini(&sb);
    pg_sb_init(&sb, 2);
    CU_ASSERT_EQUAL(pg_base64_decode(PG_STR("Zm9v"), &sb), PG_E_LIMIT);
    pg_sb_fini(&sb);
}

static void hex(void)
{
    struct pg_sb sb;
    pg_sb_init(&sb, 100);
    pg_hex_encode("\x00\x7f\xff\xa5", 4, &sb);
    CU_ASSERT(pg_str_eq_c(pg_sb_view(&sb), "007fffa5"));
    pg_sb_fini(&sb);
}

TEST_MAIN("sb", {"building", building}, {"limit", limit_is_sticky}, {"take empty", take_empty},
          {"sweep", sweep}, {"base64 vectors", base64_vectors}, {"base64 refuses", base64_refuses},
          {"hex", hex})
