/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records as JSON: exact text for full and minimal records, hostile strings, long services piece by piece, a
 * writer that stops, and allocation failures.
 */
#include "kit.h"

static int append(void *arg, const char *p, size_t len)
{
    struct pg_sb *sb = arg;
    pg_sb_add(sb, p, len);
    return sb->err;
}

static void test_workload(void)
{
    peering_table *t = kit_table();
    struct pg_sb sb;
    pg_sb_init(&sb, 65536);
    WL(t, .name = "a", .ns = "shop", .sa = "cart", .network = "n1", .node = "node1", .cluster = "c1",
       .region = "r", .zone = "z", .hostname = "h.example", .ips = "10.0.0.1,2001:db8::1",
       .services = "shop/cart=80:8080,81:9000;shop/b=1:2", .gateway = "n2/1.2.3.4:15008",
       .waypoint = "infra/wp.example:15009", .policies = "shop/p", .workload_name = "cart-v1",
       .canonical_name = "cart", .revision = "v1", .native = true, .type = XDS_JOB, .tunnel_protocol = 1,
       .tunnel_port = 15088, .has_capacity = true, .capacity = 7, .unhealthy = true, .host_network = true);
    WL(t, .uid = "m", .name = "m", .ns = "", .cluster = "c1", .plain = true);
    peering_snapshot *s = kit_snapshot(t);
    CU_ASSERT_EQUAL(peering_workload_json(peering_find_workload(s, ps("c1//Pod/shop/a")), append, &sb), 0);
    CU_ASSERT_STRING_EQUAL(
        pg_sb_view(&sb).p,
        "{\"workloadIps\":[\"10.0.0.1\",\"2001:db8::1\"],"
        "\"waypoint\":{\"destination\":\"infra/wp.example\",\"hboneMtlsPort\":15009},"
        "\"networkGateway\":{\"destination\":\"n2/1.2.3.4\",\"hboneMtlsPort\":15008},"
        "\"protocol\":\"HBONE\",\"networkMode\":\"HostNetwork\",\"uid\":\"c1//Pod/shop/a\",\"name\":\"a\","
        "\"namespace\":\"shop\",\"trustDomain\":\"cluster.local\",\"serviceAccount\":\"cart\","
        "\"network\":\"n1\",\"workloadName\":\"cart-v1\",\"workloadType\":\"job\",\"canonicalName\":\"cart\","
        "\"canonicalRevision\":\"v1\",\"hostname\":\"h.example\",\"node\":\"node1\",\"nativeTunnel\":true,"
        "\"applicationTunnel\":{\"protocol\":\"PROXY\",\"port\":15088},\"authorizationPolicies\":[\"shop/"
        "p\"],"
        "\"status\":\"Unhealthy\",\"clusterId\":\"c1\",\"locality\":{\"region\":\"r\",\"zone\":\"z\"},"
        "\"capacity\":7,\"services\":{\"shop/b\":{\"1\":2},\"shop/cart\":{\"80\":8080,\"81\":9000}}}");
    pg_sb_reset(&sb);
    CU_ASSERT_EQUAL(peering_workload_json(peering_find_workload(s, ps("m")), append, &sb), 0);
    CU_ASSERT_STRING_EQUAL(
        pg_sb_view(&sb).p,
        "{\"workloadIps\":[],\"protocol\":\"TCP\",\"networkMode\":\"Standard\",\"uid\":\"m\",\"name\":\"m\","
        "\"namespace\":\"\",\"trustDomain\":\"cluster.local\",\"serviceAccount\":\"default\",\"network\":"
        "\"\","
        "\"workloadName\":\"\",\"workloadType\":\"deployment\",\"canonicalName\":\"\","
        "\"canonicalRevision\":\"\",\"authorizationPolicies\":[],\"status\":\"Healthy\",\"clusterId\":\"c1\","
        "\"locality\":{},\"capacity\":1,\"services\":{}}");
    pg_sb_fini(&sb);
    peering_snapshot_unref(s);
    peering_table_free(t);
}

static void test_service(void)
{
    peering_table *t = kit_table();
    struct pg_sb sb;
    pg_sb_init(&sb, 65536);
    SV(t, .name = "cart", .ns = "shop", .hostname = "cart.example", .vips = "n1/10.1.0.1,/10.2.0.0/16",
       .ports = "80:8080,443:0", .sans = "spiffe://a/ns/b/sa/c", .scopes = "NETWORK,REGION",
       .mode = XDS_LB_FAILOVER, .allow_all = true, .canonical = true, .private_ns = true,
       .families = XDS_IP_DUAL, .waypoint = "n1/10.0.0.5:15008", .weighted = "a/b.example:15008=3");
    WL(t, .name = "a", .ips = "10.0.0.1", .services = "shop/cart.example=443:8443");
    SV(t, .name = "m", .ns = "shop", .hostname = "m.example");
    peering_snapshot *s = kit_snapshot(t);
    CU_ASSERT_EQUAL(
        peering_service_json(peering_find_service(s, ps("shop"), ps("cart.example")), append, &sb), 0);
    CU_ASSERT_STRING_EQUAL(
        pg_sb_view(&sb).p,
        "{\"name\":\"cart\",\"namespace\":\"shop\",\"hostname\":\"cart.example\",\"vips\":[\"n1/10.1.0.1\"],"
        "\"cidrVips\":[{\"network\":\"\",\"cidr\":\"10.2.0.0/16\"}],\"ports\":{\"80\":8080,\"443\":0},"
        "\"endpoints\":{\"c1//Pod/ns1/a\":{\"workloadUid\":\"c1//Pod/ns1/a\",\"port\":{\"443\":8443},"
        "\"status\":\"Healthy\"}},\"subjectAltNames\":[\"spiffe://a/ns/b/sa/c\"],"
        "\"waypoint\":{\"destination\":\"n1/10.0.0.5\",\"hboneMtlsPort\":15008},"
        "\"weightedWaypoints\":[{\"destination\":{\"destination\":\"a/b.example\",\"hboneMtlsPort\":15008},"
        "\"weight\":3}],\"loadBalancer\":{\"routingPreferences\":[\"Network\",\"Region\"],\"mode\":"
        "\"Failover\","
        "\"healthPolicy\":\"AllowAll\"},\"ipFamilies\":\"Dual\",\"canonical\":true,"
        "\"visibility\":\"Namespace\"}");
    pg_sb_reset(&sb);
    CU_ASSERT_EQUAL(peering_service_json(peering_find_service(s, ps("shop"), ps("m.example")), append, &sb),
                    0);
    CU_ASSERT_STRING_EQUAL(pg_sb_view(&sb).p,
                           "{\"name\":\"m\",\"namespace\":\"shop\",\"hostname\":\"m.example\",\"vips\":[],"
                           "\"ports\":{},\"endpoints\":{},\"subjectAltNames\":[],\"canonical\":false,"
                           "\"visibility\":\"Public\"}");
    pg_sb_fini(&sb);
    peering_snapshot_unref(s);
    peering_table_free(t);
}

static void test_policy(void)
{
    peering_table *t = kit_table();
    struct pg_sb sb;
    struct xds_string_match strings[] = {{XDS_MATCH_EXACT, PG_STR("e")},
                                         {XDS_MATCH_PREFIX, PG_STR("p")},
                                         {XDS_MATCH_SUFFIX, PG_STR("s")},
                                         {XDS_MATCH_PRESENCE, PG_STR("")}};
    struct pg_prefix prefix = {.ip = {.len = 4, .b = {10}}, .bits = 8};
    uint16_t ports[] = {9999, 80};
    struct xds_sa_match account = {PG_STR("n"), PG_STR("a")};
    struct xds_match m = {.namespaces = {&strings[0], NULL},
                          .n_namespaces = {1, 0},
                          .principals = {strings, &strings[3]},
                          .n_principals = {4, 1},
                          .service_accounts = {NULL, &account},
                          .n_service_accounts = {0, 1},
                          .source_ips = {&prefix, NULL},
                          .n_source_ips = {1, 0},
                          .destination_ips = {NULL, &prefix},
                          .n_destination_ips = {0, 1},
                          .ports = {NULL, ports},
                          .n_ports = {0, 2}};
    struct xds_clause clause = {&m, 1};
    struct xds_rule rules[] = {{&clause, 1}, {NULL, 0}};
    struct xds_policy p = {.name = PG_STR("p"),
                           .ns = PG_STR("ns1"),
                           .scope = XDS_POLICY_SELECTOR,
                           .action = XDS_POLICY_DENY,
                           .dry_run = true,
                           .rules = rules,
                           .n_rules = 2};
    CU_ASSERT_EQUAL(kit_policy(t, &p), 0);
    CU_ASSERT_EQUAL(peering_table_put(t, PEERING_KIND_AUTHORIZATION, ps("ns1/bad"),
                                      "\x0a\x03"
                                      "bad\xff",
                                      6, NULL),
                    PEERING_ERR_PARSE);
    peering_snapshot *s = kit_snapshot(t);
    pg_sb_init(&sb, 65536);
    CU_ASSERT_EQUAL(peering_policy_json(peering_find_policy(s, ps("ns1/p")), append, &sb), 0);
    CU_ASSERT_STRING_EQUAL(
        pg_sb_view(&sb).p,
        "{\"name\":\"p\",\"namespace\":\"ns1\",\"scope\":\"WorkloadSelector\",\"action\":\"Deny\","
        "\"rules\":[[[{\"namespaces\":[{\"Exact\":\"e\"}],\"principals\":[{\"Exact\":\"e\"},{\"Prefix\":"
        "\"p\"},"
        "{\"Suffix\":\"s\"},\"Presence\"],\"notPrincipals\":[\"Presence\"],"
        "\"notServiceAccounts\":[{\"namespace\":\"n\",\"serviceAccount\":\"a\"}],\"sourceIps\":[\"10.0.0.0/"
        "8\"],"
        "\"notDestinationIps\":[\"10.0.0.0/8\"],\"notDestinationPorts\":[9999,80]}]],[]],\"dryRun\":true}");
    pg_sb_reset(&sb);
    CU_ASSERT_EQUAL(peering_policy_json(peering_find_policy(s, ps("ns1/bad")), append, &sb), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(pg_sb_view(&sb).p, "\"action\":\"Deny\""));
    CU_ASSERT_PTR_NOT_NULL(strstr(pg_sb_view(&sb).p, "\"notUnderstood\":true"));
    pg_sb_fini(&sb);
    peering_snapshot_unref(s);
    peering_table_free(t);
}

struct stopper {
    int calls, stop_at;
    struct pg_sb sb;
};

static int count_and_stop(void *arg, const char *p, size_t len)
{
    struct stopper *x = arg;
    x->calls++;
    pg_sb_add(&x->sb, p, len);
    return x->calls == x->stop_at ? -99 : 0;
}

/* --- a strict reader: is this JSON, and how many endpoints does it show? ------------------------- */

struct reader {
    const char *p;
    const char *end;
    size_t members; /* of the object named "endpoints" */
};

static bool eat(struct reader *r, char c)
{
    bool there = r->p < r->end && *r->p == c;
    r->p += there;
    return there;
}

static bool read_string(struct reader *r, char *out, size_t cap)
{
    size_t n = 0;
    if (!eat(r, '"')) {
        return false;
    }
    while (r->p < r->end && *r->p != '"') {
        if ((unsigned char)*r->p < 0x20) {
            return false;
        }
        if (*r->p == '\\') {
            r->p++;
            if (r->p == r->end || strchr("\"\\/bfnrtu", *r->p) == NULL) {
                return false;
            }
        }
        if (out != NULL && n + 1 < cap) {
            out[n++] = *r->p;
        }
        r->p++;
    }
    if (out != NULL) {
        out[n] = '\0';
    }
    return eat(r, '"');
}

static bool read_value(struct reader *r, int depth);

static bool read_members(struct reader *r, int depth, size_t *count)
{
    char key[32];
    *count = 0;
    if (!eat(r, '{')) {
        return false;
    }
    if (eat(r, '}')) {
        return true;
    }
    do {
        if (!read_string(r, key, sizeof(key)) || !eat(r, ':')) {
            return false;
        }
        bool ok = depth == 0 && strcmp(key, "endpoints") == 0 ? read_members(r, depth + 1, &r->members)
                                                              : read_value(r, depth + 1);
        if (!ok) {
            return false;
        }
        (*count)++;
    } while (eat(r, ','));
    return eat(r, '}');
}

static bool read_items(struct reader *r, int depth)
{
    if (!eat(r, '[')) {
        return false;
    }
    if (eat(r, ']')) {
        return true;
    }
    do {
        if (!read_value(r, depth + 1)) {
            return false;
        }
    } while (eat(r, ','));
    return eat(r, ']');
}

static bool read_value(struct reader *r, int depth)
{
    static const char *const words[] = {"true", "false", "null"};
    size_t count;
    if (r->p == r->end || depth > 20) {
        return false;
    }
    if (*r->p == '{') {
        return read_members(r, depth, &count);
    }
    if (*r->p == '[') {
        return read_items(r, depth);
    }
    if (*r->p == '"') {
        return read_string(r, NULL, 0);
    }
    for (size_t i = 0; i < PG_ARRAY_LEN(words); i++) {
        size_t n = strlen(words[i]);
        if ((size_t)(r->end - r->p) >= n && memcmp(r->p, words[i], n) == 0) {
            r->p += n;
            return true;
        }
    }
    const char *from = r->p;
    while (r->p < r->end && *r->p >= '0' && *r->p <= '9') {
        r->p++;
    }
    return r->p != from;
}

/* Names that would break out of a string, and a service with many endpoints, read back strictly. */
static void test_hostile_and_long(void)
{
    peering_table *t = kit_table();
    struct stopper x = {.stop_at = 0};
    SV(t, .name = "s\"\\\n\x01\xe2\x82\xac", .ns = "ns1", .hostname = "s.example");
    for (int i = 0; i < 2000; i++) {
        char uid[64], ip[32];
        snprintf(uid, sizeof(uid), "c\"%d", i);
        snprintf(ip, sizeof(ip), "10.0.%d.%d", i / 250, i % 250);
        WL(t, .uid = uid, .name = "n", .ips = ip, .services = "ns1/s.example=80:8080");
    }
    peering_snapshot *s = kit_snapshot(t);
    const peering_service *v = peering_find_service(s, ps("ns1"), ps("s.example"));
    pg_sb_init(&x.sb, 16u << 20);
    CU_ASSERT_EQUAL(peering_service_json(v, count_and_stop, &x), 0);
    CU_ASSERT(x.calls > 10);
    struct reader r = {.p = x.sb.p, .end = x.sb.p + x.sb.len};
    CU_ASSERT(read_value(&r, 0) && r.p == r.end);
    CU_ASSERT_EQUAL(r.members, 2000);
    CU_ASSERT_PTR_NOT_NULL(strstr(x.sb.p, "{\"name\":\"s\\\"\\\\\\n\\u0001\xe2\x82\xac\","));
    x.calls = 0;
    x.stop_at = 3;
    pg_sb_reset(&x.sb);
    CU_ASSERT_EQUAL(peering_service_json(v, count_and_stop, &x), -99);
    CU_ASSERT_EQUAL(x.calls, 3);
    pg_sb_fini(&x.sb);
    peering_snapshot_unref(s);
    peering_table_free(t);
}

static int write_nothing(void *arg, const char *p, size_t len)
{
    (void)arg;
    (void)p;
    (void)len;
    return 0;
}

static int dump_all(void *arg)
{
    peering_snapshot *s = arg;
    int r = peering_workload_json(peering_find_workload(s, ps("c1//Pod/ns1/a")), write_nothing, NULL);
    return r < 0 ? r
                 : peering_service_json(peering_find_service(s, ps("ns1"), ps("s.example")), write_nothing,
                                        NULL);
}

static void test_alloc(void)
{
    peering_table *t = kit_table();
    WL(t, .name = "a", .ips = "10.0.0.1", .services = "ns1/s.example=80:8080", .gateway = "n/1.2.3.4:1");
    SV(t, .name = "s", .hostname = "s.example", .vips = "/10.1.0.1", .ports = "80:8080");
    peering_snapshot *s = kit_snapshot(t);
    CU_ASSERT(test_alloc_sweep(dump_all, s) > 5);
    peering_snapshot_unref(s);
    peering_table_free(t);
}

TEST_MAIN("json", {"workload", test_workload}, {"service", test_service}, {"policy", test_policy},
          {"hostile and long", test_hostile_and_long}, {"allocation failures", test_alloc})
