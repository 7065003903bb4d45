/* SPDX-License-Identifier: Apache-2.0 */
/* Reading answers: fields of a wrong kind read as empty, and nothing malformed is taken. */
#include "json_in.h"
#include "testlib.h"

static const char sample[] =
    "{\"a\":\"x\",\"n\":5,\"neg\":-1,\"t\":true,\"l\":[\"p\",7,null],\"o\":{\"k\":\"v\"}}";

static void test_read(void)
{
    struct json_node *d = NULL;
    struct pg_errtext err = {""};
    CU_ASSERT_EQUAL_FATAL(json_in_parse(pg_str_c(sample), &d, &err), 0);
    CU_ASSERT_STRING_EQUAL(json_in_text(d, "a"), "x");
    CU_ASSERT_EQUAL(json_in_u64(d, "n"), 5);
    CU_ASSERT_EQUAL(json_in_u64(d, "neg"), 0);
    CU_ASSERT_TRUE(json_in_true(d, "t"));
    CU_ASSERT_EQUAL(json_in_len(json_in_get(d, "l")), 3);
    CU_ASSERT_STRING_EQUAL(json_in_string(json_in_at(json_in_get(d, "l"), 0)), "p");
    CU_ASSERT_STRING_EQUAL(json_in_text(json_in_get(d, "o"), "k"), "v");
    json_in_free(d);
}

static void test_wrong_kinds(void)
{
    struct json_node *d = NULL;
    struct pg_errtext err = {""};
    CU_ASSERT_EQUAL_FATAL(json_in_parse(pg_str_c(sample), &d, &err), 0);
    CU_ASSERT_STRING_EQUAL(json_in_text(d, "n"), "");
    CU_ASSERT_STRING_EQUAL(json_in_text(d, "absent"), "");
    CU_ASSERT_EQUAL(json_in_u64(d, "a"), 0);
    CU_ASSERT_FALSE(json_in_true(d, "a"));
    CU_ASSERT_EQUAL(json_in_len(d), 0);
    CU_ASSERT_PTR_NULL(json_in_get(json_in_get(d, "l"), "a"));
    CU_ASSERT_PTR_NULL(json_in_at(d, 0));
    CU_ASSERT_PTR_NULL(json_in_at(json_in_get(d, "l"), 3));
    json_in_free(d);
    CU_ASSERT_STRING_EQUAL(json_in_text(NULL, "a"), "");
    CU_ASSERT_PTR_NULL(json_in_get(NULL, "a"));
    CU_ASSERT_EQUAL(json_in_len(NULL), 0);
    CU_ASSERT_EQUAL(json_in_u64(NULL, "a"), 0);
    CU_ASSERT_FALSE(json_in_true(NULL, "a"));
    json_in_free(NULL);
}

static void test_malformed(void)
{
    struct json_node *d = NULL;
    struct pg_errtext err = {""};
    for (size_t n = 0; n < sizeof(sample) - 1; n++) {
        CU_ASSERT_EQUAL(json_in_parse(pg_str_n(sample, n), &d, &err), PG_E_PARSE);
    }
    CU_ASSERT_EQUAL(json_in_parse(PG_STR("{\"a\":1,\"a\":2}"), &d, &err), PG_E_PARSE);
    CU_ASSERT_EQUAL(json_in_parse(PG_STR("{} {}"), &d, &err), PG_E_PARSE);
    CU_ASSERT_EQUAL(json_in_parse(PG_STR("{\"a\":\"\\u0000\"}"), &d, &err), PG_E_PARSE);
    CU_ASSERT_EQUAL(json_in_parse(PG_STR("{\"a\":\"\xff\"}"), &d, &err), PG_E_PARSE);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "line 1 column"));
    CU_ASSERT_PTR_NULL(d);
}

static void test_depth(void)
{
    struct json_node *d = NULL;
    struct pg_errtext err = {""};
    char deep[20001];
    memset(deep, '[', sizeof(deep));
    CU_ASSERT_EQUAL(json_in_parse(pg_str_n(deep, sizeof(deep)), &d, &err), PG_E_PARSE);
}

static void test_dump(void)
{
    struct json_node *d = NULL;
    struct pg_errtext err = {""};
    struct pg_sb out;
    pg_sb_init(&out, 4096);
    CU_ASSERT_EQUAL_FATAL(json_in_parse(PG_STR("{ \"a\" : [1, \"x\"] }"), &d, &err), 0);
    json_in_dump(d, &out);
    CU_ASSERT_STRING_EQUAL(out.p, "{\"a\":[1,\"x\"]}");
    pg_sb_reset(&out);
    json_in_dump(json_in_at(json_in_get(d, "a"), 0), &out);
    json_in_dump(json_in_get(d, "absent"), &out);
    CU_ASSERT_STRING_EQUAL(out.p, "1null");
    json_in_free(d);
    pg_sb_fini(&out);
}

TEST_MAIN("peerctl JSON", {"read", test_read}, {"wrong kinds", test_wrong_kinds},
          {"malformed", test_malformed}, {"depth", test_depth}, {"dump", test_dump})
