/* SPDX-License-Identifier: Apache-2.0 */
/* Options of a control plane: defaults, checks, and what the messages name. */
#include "testlib.h"

#include "../../../libpeering/src/options.h"

static void defaults(void)
{
    peering_options *o = NULL;
    CU_ASSERT_EQUAL_FATAL(peering_options_new(&o), 0);
    CU_ASSERT_STRING_EQUAL(peering_options_get(o, "listen"), "0.0.0.0:15012");
    CU_ASSERT_STRING_EQUAL(peering_options_get(o, "cluster"), "Kubernetes");
    CU_ASSERT_EQUAL(option_ms(o, OPT_CERT_TTL), 24ull * 3600 * 1000);
    CU_ASSERT_FALSE(option_bool(o, OPT_SKIP_VALIDATE_TRUST_DOMAIN));
    CU_ASSERT_PTR_NULL(peering_options_get(o, "no-such"));
    peering_option_info info;
    size_t n = 0;
    while (peering_options_describe(n, &info)) {
        CU_ASSERT_TRUE(info.name[0] != '\0' && info.help[0] != '\0');
        CU_ASSERT_STRING_EQUAL(peering_options_get(o, info.name), info.fallback);
        n++;
    }
    CU_ASSERT_EQUAL(n, OPT_COUNT);
    peering_options_free(o);
}

static void refusals(void)
{
    static const struct {
        const char *name, *value;
        int err;
        const char *says;
    } rows[] = {
        {"trustdomain", "x", PG_E_NOTFOUND, "did you mean \"trust-domain\""},
        {"cluster", "", PG_E_CONFIG, "cluster"},
        {"cluster", "a b", PG_E_CONFIG, "\"a b\""},
        {"listen", "15012", PG_E_CONFIG, "ip:port"},
        {"flat-networks", "yes", PG_E_CONFIG, "true or false"},
        {"cert-ttl", "1 day", PG_E_CONFIG, "a duration"},
        {"log-format", "xml", PG_E_CONFIG, "plain or json"},
    };
    peering_options *o = NULL;
    CU_ASSERT_EQUAL_FATAL(peering_options_new(&o), 0);
    for (size_t i = 0; i < PG_ARRAY_LEN(rows); i++) {
        peering_text why = {""};
        CU_ASSERT_EQUAL(peering_options_set(o, rows[i].name, rows[i].value, &why), rows[i].err);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, rows[i].says));
    }
    CU_ASSERT_STRING_EQUAL(peering_options_get(o, "listen"), "0.0.0.0:15012");
    peering_options_free(o);
}

static int scenario(void *arg)
{
    (void)arg;
    peering_options *o = NULL;
    peering_options *copy = NULL;
    int r = peering_options_new(&o);
    r = r == 0 ? peering_options_set(o, "cluster", "cluster1", NULL) : r;
    r = r == 0 ? options_copy(o, &copy) : r;
    if (r == 0 && strcmp(peering_options_get(copy, "cluster"), "cluster1") != 0) {
        r = PG_E_BUG;
    }
    peering_options_free(copy);
    peering_options_free(o);
    return r;
}

static void allocations(void)
{
    CU_ASSERT_TRUE(test_alloc_sweep(scenario, NULL) > OPT_COUNT);
}

TEST_MAIN("options", {"defaults", defaults}, {"refusals", refusals}, {"allocation failures", allocations})
