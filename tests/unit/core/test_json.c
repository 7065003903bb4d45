/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON writer, against exact texts. */
#include "core/json.h"
#include "testlib.h"

static void document(struct pg_json *j)
{
    pg_json_obj(j);
    pg_json_kc(j, "name", "a");
    pg_json_kc(j, "none", NULL);
    pg_json_ku64(j, "big", UINT64_MAX);
    pg_json_ki64(j, "small", INT64_MIN);
    pg_json_kbool(j, "yes", true);
    pg_json_key(j, "list");
    pg_json_arr(j);
    pg_json_u64(j, 1);
    pg_json_obj(j);
    pg_json_obj_end(j);
    pg_json_arr(j);
    pg_json_arr_end(j);
    pg_json_bool(j, false);
    pg_json_arr_end(j);
    pg_json_kstr(j, "end", PG_STR_NONE);
    pg_json_obj_end(j);
}

static void compact(void)
{
    struct pg_sb sb;
    struct pg_json j;
    pg_sb_init(&sb, 1000);
    pg_json_init(&j, &sb, false);
    document(&j);
    CU_ASSERT_STRING_EQUAL(
        sb.p, "{\"name\":\"a\",\"none\":null,\"big\":18446744073709551615,"
              "\"small\":-9223372036854775808,\"yes\":true,\"list\":[1,{},[],false],\"end\":\"\"}");
    pg_sb_fini(&sb);
}

static void pretty(void)
{
    struct pg_sb sb;
    struct pg_json j;
    pg_sb_init(&sb, 1000);
    pg_json_init(&j, &sb, true);
    document(&j);
    CU_ASSERT_STRING_EQUAL(sb.p,
                           "{\n  \"name\": \"a\",\n  \"none\": null,\n  \"big\": 18446744073709551615,\n"
                           "  \"small\": -9223372036854775808,\n  \"yes\": true,\n  \"list\": [\n    1,\n"
                           "    {},\n    [],\n    false\n  ],\n  \"end\": \"\"\n}");
    pg_sb_fini(&sb);
}

static void escapes(void)
{
    static const struct {
        struct pg_str in;
        const char *want;
    } t[] = {
        {PG_STR("plain"), "plain"},
        {PG_STR("q\" b\\ /"), "q\\\" b\\\\ /"},
        {PG_STR("\b\f\n\r\t"), "\\b\\f\\n\\r\\t"},
        {PG_STR("\0\x01\x1f\x7f"), "\\u0000\\u0001\\u001f\\u007f"},
        {PG_STR("\xc3\xa9\xf0\x9f\x98\x80"), "\xc3\xa9\xf0\x9f\x98\x80"},
        {PG_STR("a\xff"
                "b"),
         "a\xef\xbf\xbd"
         "b"},
        {PG_STR("\xe2\x82"), "\xef\xbf\xbd\xef\xbf\xbd"},
        {PG_STR("\xed\xa0\x80"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {PG_STR(""), ""},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(t); i++) {
        struct pg_sb sb;
        pg_sb_init(&sb, 1000);
        pg_json_escape(&sb, t[i].in);
        CU_ASSERT(pg_str_eq_c(pg_sb_view(&sb), t[i].want));
        pg_sb_fini(&sb);
    }
}

static void any_bytes_give_utf8(void)
{
    char all[256];
    struct pg_sb sb;
    for (int i = 0; i < 256; i++) {
        all[i] = (char)i;
    }
    pg_sb_init(&sb, 10000);
    pg_json_escape(&sb, pg_str_n(all, sizeof(all)));
    CU_ASSERT(pg_str_is_utf8(pg_sb_view(&sb)));
    for (size_t i = 0; i < sb.len; i++) {
        CU_ASSERT((unsigned char)sb.p[i] >= 0x20);
    }
    pg_sb_fini(&sb);
}

static void too_deep_is_an_error(void)
{
    struct pg_sb sb;
    struct pg_json j;
    pg_sb_init(&sb, 10000);
    pg_json_init(&j, &sb, false);
    for (int i = 0; i < 60; i++) {
        pg_json_arr(&j);
    }
    CU_ASSERT_EQUAL(sb.err, 0);
    for (int i = 0; i < 100; i++) {
        pg_json_arr(&j);
    }
    CU_ASSERT_EQUAL(sb.err, PG_E_LIMIT);
    for (int i = 0; i < 160; i++) {
        pg_json_arr_end(&j);
    }
    CU_ASSERT_EQUAL(j.depth, 0);
    pg_sb_fini(&sb);
}

static int scenario(void *arg)
{
    (void)arg;
    struct pg_sb sb;
    struct pg_json j;
    pg_sb_init(&sb, 100000);
    pg_json_init(&j, &sb, true);
    pg_json_arr(&j);
    for (int i = 0; i < 20; i++) {
        document(&j);
    }
    pg_json_arr_end(&j);
    int r = sb.err;
    pg_sb_fini(&sb);
    return r;
}

static void sweep(void)
{
    CU_ASSERT(test_alloc_sweep(scenario, NULL) >= 4);
}

TEST_MAIN("json", {"compact", compact}, {"pretty", pretty}, {"escapes", escapes},
          {"any bytes", any_bytes_give_utf8}, {"depth", too_deep_is_an_error}, {"sweep", sweep})
