/* SPDX-License-Identifier: Apache-2.0 */
/* Times of answers as seconds, object names, and the state of connections. */
#include "state.h"
#include "testlib.h"

#include "core/clock.h"

static void test_seconds(void)
{
    static const int64_t some[] = {0,          951782399,  951782400,  951868800,
                                   1709164800, 1763000000, 4107542399, 253402300799};
    CU_ASSERT_EQUAL(state_seconds("1970-01-01T00:00:00Z"), 0);
    CU_ASSERT_EQUAL(state_seconds("2000-02-29T00:00:00.000000Z"), 951782400);
    CU_ASSERT_EQUAL(state_seconds("2038-01-19T03:14:07Z"), 2147483647);
    for (size_t i = 0; i < PG_ARRAY_LEN(some); i++) {
        char text[PG_RFC3339_LEN];
        pg_clock_rfc3339(some[i] * 1000000, text);
        CU_ASSERT_EQUAL(state_seconds(text), some[i]);
    }
}

static void test_no_time(void)
{
    static const char *const wrong[] = {"",
                                        "2026",
                                        "2026-11-20T14:39:29",
                                        "2026-11-20 14:39:29Z",
                                        "2026-13-20T14:39:29Z",
                                        "2026-00-20T14:39:29Z",
                                        "2026-11-00T14:39:29Z",
                                        "2026-11-20T24:39:29Z",
                                        "2026-11-2xT14:39:29Z",
                                        "1969-11-20T14:39:29Z",
                                        "-026-11-20T14:39:29Z"};
    for (size_t i = 0; i < PG_ARRAY_LEN(wrong); i++) {
        CU_ASSERT_EQUAL(state_seconds(wrong[i]), -1);
    }
}

static void test_names(void)
{
    CU_ASSERT_TRUE(state_is_object_name("istio-eastwest"));
    CU_ASSERT_TRUE(state_is_object_name("a.b-1"));
    CU_ASSERT_FALSE(state_is_object_name(""));
    CU_ASSERT_FALSE(state_is_object_name("A"));
    CU_ASSERT_FALSE(state_is_object_name("-a"));
    CU_ASSERT_FALSE(state_is_object_name("a-"));
    CU_ASSERT_FALSE(state_is_object_name("../a"));
    CU_ASSERT_FALSE(state_is_object_name("a/b"));
}

static bool synced(const char *json)
{
    struct json_node *d;
    struct pg_errtext err = {""};
    CU_ASSERT_EQUAL_FATAL(json_in_parse(pg_str_c(json), &d, &err), 0);
    bool r = state_all_synced(d);
    json_in_free(d);
    return r;
}

static void test_synced(void)
{
    CU_ASSERT_TRUE(synced("{\"types\":[{\"synced\":true},{\"synced\":true}]}"));
    CU_ASSERT_FALSE(synced("{\"types\":[{\"synced\":true},{\"synced\":false}]}"));
    CU_ASSERT_FALSE(synced("{\"types\":[]}"));
    CU_ASSERT_FALSE(synced("{}"));
}

static void test_gateway_of(void)
{
    struct json_node *status;
    struct json_node *connection;
    struct pg_errtext err = {""};
    CU_ASSERT_EQUAL_FATAL(json_in_parse(PG_STR("{\"gateways\":[{\"namespace\":\"a\",\"name\":\"g\"},"
                                               "{\"namespace\":\"b\",\"name\":\"g\"}]}"),
                                        &status, &err),
                          0);
    CU_ASSERT_EQUAL_FATAL(
        json_in_parse(PG_STR("{\"identity\":\"spiffe://td/ns/b/sa/g\"}"), &connection, &err), 0);
    CU_ASSERT_PTR_EQUAL(state_gateway_of(status, connection), json_in_at(json_in_get(status, "gateways"), 1));
    json_in_free(connection);
    CU_ASSERT_EQUAL_FATAL(
        json_in_parse(PG_STR("{\"identity\":\"spiffe://td/ns/b/sa/other\"}"), &connection, &err), 0);
    CU_ASSERT_PTR_NULL(state_gateway_of(status, connection));
    json_in_free(connection);
    CU_ASSERT_EQUAL_FATAL(json_in_parse(PG_STR("{\"identity\":\"\"}"), &connection, &err), 0);
    CU_ASSERT_PTR_NULL(state_gateway_of(status, connection));
    json_in_free(connection);
    json_in_free(status);
}

TEST_MAIN("peerctl state", {"seconds", test_seconds}, {"no time", test_no_time}, {"names", test_names},
          {"synced", test_synced}, {"gateway of a connection", test_gateway_of})
