/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table and its snapshots: joins in every order of arrival, conflicts, look-ups, visibility, prefixes,
 * random sequences against a table rebuilt from scratch, and every allocation failing in turn.
 */
#include "kit.h"

#include "core/rng.h"

static const peering_workload *find(const peering_snapshot *s, const char *uid)
{
    return peering_find_workload(s, ps(uid));
}

static size_t endpoints_of(const peering_snapshot *s, const char *ns, const char *host,
                           const peering_workload *const **out)
{
    const peering_service *v = peering_find_service(s, ps(ns), ps(host));
    return v == NULL ? SIZE_MAX : peering_service_endpoints(v, out);
}

static void test_empty(void)
{
    peering_table *t = kit_table();
    peering_snapshot *s = kit_snapshot(t);
    size_t it = 0;
    peering_ip ip = kit_ip("10.0.0.1");
    CU_ASSERT_PTR_NULL(find(s, "x"));
    CU_ASSERT_PTR_NULL(peering_find_service(s, ps("a"), ps("b")));
    CU_ASSERT_PTR_NULL(peering_find_policy(s, ps("a/b")));
    CU_ASSERT_PTR_NULL(peering_find_workload_by_ip(s, ps(""), &ip));
    CU_ASSERT_PTR_NULL(peering_find_service_by_vip(s, ps(""), &ip, ps("")));
    CU_ASSERT_PTR_NULL(peering_find_service_by_host(s, ps("x"), ps("")));
    CU_ASSERT_PTR_NULL(peering_find_workload_by_name(s, ps("a"), ps("b"), ps("c"), ps("")));
    CU_ASSERT_PTR_NULL(peering_next_workload(s, &it));
    CU_ASSERT_EQUAL(peering_table_remove(t, PEERING_KIND_ADDRESS, ps("x")), PEERING_ERR_NOTFOUND);
    peering_snapshot *again = kit_snapshot(t);
    CU_ASSERT_PTR_EQUAL(s, again);
    peering_snapshot_unref(again);
    peering_table_free(t);
    CU_ASSERT_PTR_NULL(find(s, "x")); /* outlives the table */
    peering_snapshot_unref(s);
    peering_table_free(NULL);
    peering_snapshot_unref(NULL);
}

static void test_workload_fields(void)
{
    peering_table *t = kit_table();
    WL(t, .name = "a", .ns = "shop", .sa = "cart", .network = "n1", .node = "node1", .cluster = "c1",
       .region = "r", .zone = "z", .subzone = "s", .hostname = "h.example", .ips = "10.0.0.1,2001:db8::1",
       .services = "shop/cart=80:8080,81:9000;shop/b=1:2", .gateway = "n2/1.2.3.4:15008",
       .waypoint = "infra/wp.example:15009", .policies = "shop/p,shop/q", .workload_name = "cart-v1",
       .canonical_name = "cart", .revision = "v1", .native = true, .type = XDS_JOB, .tunnel_protocol = 1,
       .tunnel_port = 15088);
    peering_snapshot *s = kit_snapshot(t);
    const peering_workload *w = find(s, "c1//Pod/shop/a");
    const peering_str *list;
    const peering_ip *ips;
    bool proxy;
    uint16_t port;
    CU_ASSERT_PTR_NOT_NULL_FATAL(w);
    CU_ASSERT(ps_is(peering_workload_uid(w), "c1//Pod/shop/a"));
    CU_ASSERT(ps_is(peering_workload_name(w), "a"));
    CU_ASSERT(ps_is(peering_workload_namespace(w), "shop"));
    CU_ASSERT(ps_is(peering_workload_service_account(w), "cart"));
    CU_ASSERT(ps_is(peering_workload_trust_domain(w), "cluster.local"));
    CU_ASSERT(ps_is(peering_workload_identity(w), "spiffe://cluster.local/ns/shop/sa/cart"));
    CU_ASSERT(ps_is(peering_workload_network(w), "n1"));
    CU_ASSERT(ps_is(peering_workload_node(w), "node1"));
    CU_ASSERT(ps_is(peering_workload_cluster(w), "c1"));
    CU_ASSERT(ps_is(peering_workload_hostname(w), "h.example"));
    CU_ASSERT(ps_is(peering_workload_canonical_name(w), "cart"));
    CU_ASSERT(ps_is(peering_workload_canonical_revision(w), "v1"));
    CU_ASSERT(ps_is(peering_workload_workload_name(w), "cart-v1"));
    CU_ASSERT(ps_is(peering_workload_type(w), "job"));
    CU_ASSERT(ps_is(peering_workload_region(w), "r"));
    CU_ASSERT(ps_is(peering_workload_zone(w), "z"));
    CU_ASSERT(ps_is(peering_workload_subzone(w), "s"));
    CU_ASSERT(ps_is(peering_workload_gateway(w), "n2/1.2.3.4:15008"));
    CU_ASSERT(ps_is(peering_workload_waypoint(w), "infra/wp.example:15009"));
    CU_ASSERT_EQUAL(peering_workload_protocol(w), PEERING_PROTOCOL_HBONE);
    CU_ASSERT(peering_workload_is_healthy(w));
    CU_ASSERT(peering_workload_is_native_tunnel(w));
    CU_ASSERT_FALSE(peering_workload_is_host_network(w));
    CU_ASSERT(peering_workload_app_tunnel(w, &proxy, &port) && proxy && port == 15088);
    CU_ASSERT_EQUAL(peering_workload_capacity(w), 1);
    CU_ASSERT_EQUAL(peering_workload_ips(w, &ips), 2);
    CU_ASSERT_EQUAL(ips[1].len, 16);
    CU_ASSERT_EQUAL(peering_workload_policies(w, &list), 2);
    CU_ASSERT(ps_is(list[1], "shop/q"));
    CU_ASSERT_EQUAL(peering_workload_services(w, &list), 2);
    CU_ASSERT(ps_is(list[0], "shop/b"));
    CU_ASSERT_EQUAL(peering_workload_target_port(w, ps("shop/cart"), 81), 9000);
    CU_ASSERT_EQUAL(peering_workload_target_port(w, ps("shop/cart"), 82), 0);
    CU_ASSERT_EQUAL(peering_workload_target_port(w, ps("shop/none"), 80), 0);
    CU_ASSERT_PTR_EQUAL(peering_find_workload_by_name(s, ps("shop"), ps("a"), ps("cart"), ps("")), w);
    CU_ASSERT_PTR_EQUAL(peering_find_workload_by_name(s, ps("shop"), ps("a"), ps("cart"), ps("node1")), w);
    CU_ASSERT_PTR_NULL(peering_find_workload_by_name(s, ps("shop"), ps("a"), ps("cart"), ps("node2")));
    CU_ASSERT_PTR_NULL(peering_find_workload_by_name(s, ps("shop"), ps("a"), ps("default"), ps("")));
    peering_snapshot_unref(s);
    peering_table_free(t);
}

static void test_service_fields(void)
{
    peering_table *t = kit_table();
    SV(t, .name = "cart", .ns = "shop", .vips = "n1/10.1.0.1,n1/10.2.0.0/16", .ports = "80:8080,443:0",
       .sans = "spiffe://a/ns/b/sa/c", .scopes = "NETWORK,REGION", .mode = XDS_LB_FAILOVER,
       .canonical = true);
    peering_snapshot *s = kit_snapshot(t);
    const peering_service *v = peering_find_service(s, ps("shop"), ps("cart.shop.svc.cluster.local"));
    const peering_vip *vips;
    const peering_port *ports;
    const peering_str *sans;
    CU_ASSERT_PTR_NOT_NULL_FATAL(v);
    CU_ASSERT(ps_is(peering_service_key(v), "shop/cart.shop.svc.cluster.local"));
    CU_ASSERT(ps_is(peering_service_name(v), "cart"));
    CU_ASSERT(ps_is(peering_service_namespace(v), "shop"));
    CU_ASSERT(ps_is(peering_service_hostname(v), "cart.shop.svc.cluster.local"));
    CU_ASSERT_EQUAL(peering_service_vips(v, &vips), 2);
    CU_ASSERT_EQUAL(vips[1].bits, 16);
    CU_ASSERT(ps_is(vips[1].network, "n1"));
    CU_ASSERT_EQUAL(peering_service_ports(v, &ports), 2);
    CU_ASSERT_EQUAL(ports[1].service_port, 443);
    CU_ASSERT_EQUAL(ports[0].target_port, 8080);
    CU_ASSERT_EQUAL(peering_service_sans(v, &sans), 1);
    CU_ASSERT(ps_is(sans[0], "spiffe://a/ns/b/sa/c"));
    CU_ASSERT(peering_service_is_canonical(v));
    CU_ASSERT_FALSE(peering_service_is_passthrough(v));
    CU_ASSERT(ps_is(peering_service_load_balancing(v), "NETWORK REGION FAILOVER"));
    peering_snapshot_unref(s);
    peering_table_free(t);
}

/* The result is the same whatever the order of arrival: three endpoints, two services, all 120 orders. */
static int put_piece(peering_table *t, size_t i)
{
    static const struct kit_workload w[] = {
        {.name = "a", .ips = "10.0.0.1", .services = "ns1/s.example=80:8080"},
        {.name = "b",
         .ips = "10.0.0.2",
         .unhealthy = true,
         .services = "ns1/s.example=80:1;ns1/r.example=1:2"},
        {.name = "c", .ips = "10.0.0.3", .services = "ns1/r.example=1:3"}};
    static const struct kit_service v[] = {{.name = "s", .hostname = "s.example", .ports = "80:0"},
                                           {.name = "r", .hostname = "r.example", .ports = "1:0"}};
    return i < 3 ? kit_workload(t, &w[i]) : kit_service(t, &v[i - 3]);
}

static void check_pieces(const peering_snapshot *s)
{
    const peering_workload *const *e;
    CU_ASSERT_EQUAL_FATAL(endpoints_of(s, "ns1", "s.example", &e), 2);
    CU_ASSERT_PTR_EQUAL(e[0], find(s, "c1//Pod/ns1/a"));
    CU_ASSERT_PTR_EQUAL(e[1], find(s, "c1//Pod/ns1/b"));
    CU_ASSERT_FALSE(peering_workload_is_healthy(e[1]));
    CU_ASSERT_EQUAL_FATAL(endpoints_of(s, "ns1", "r.example", &e), 2);
    CU_ASSERT_PTR_EQUAL(e[0], find(s, "c1//Pod/ns1/b"));
    CU_ASSERT_PTR_EQUAL(e[1], find(s, "c1//Pod/ns1/c"));
}

static void test_every_order(void)
{
    size_t orders = 0;
    for (size_t code = 0; code < 5 * 5 * 5 * 5 * 5; code++) {
        size_t order[5];
        unsigned seen = 0;
        for (size_t i = 0, c = code; i < 5; i++, c /= 5) {
            order[i] = c % 5;
            seen |= 1u << order[i];
        }
        if (seen != 31) {
            continue;
        }
        orders++;
        /* once with a snapshot at the end, once with one after every step */
        for (int stepwise = 0; stepwise < 2; stepwise++) {
            peering_table *t = kit_table();
            for (size_t i = 0; i < 5; i++) {
                CU_ASSERT_EQUAL_FATAL(put_piece(t, order[i]), 0);
                if (stepwise) {
                    peering_snapshot_unref(kit_snapshot(t));
                }
            }
            peering_snapshot *s = kit_snapshot(t);
            check_pieces(s);
            peering_snapshot_unref(s);
            peering_table_free(t);
        }
    }
    CU_ASSERT_EQUAL(orders, 120);
}

/* An endpoint goes when its workload goes or leaves the service; it waits when its service goes. */
static void test_staging(void)
{
    peering_table *t = kit_table();
    const peering_workload *const *e;
    for (size_t i = 0; i < 5; i++) {
        CU_ASSERT_EQUAL(put_piece(t, i), 0);
    }
    CU_ASSERT_EQUAL(peering_table_remove(t, PEERING_KIND_ADDRESS, ps("ns1/s.example")), 0);
    peering_snapshot *s = kit_snapshot(t);
    CU_ASSERT_EQUAL(endpoints_of(s, "ns1", "s.example", &e), SIZE_MAX);
    CU_ASSERT_EQUAL(endpoints_of(s, "ns1", "r.example", &e), 2);
    peering_snapshot_unref(s);
    CU_ASSERT_EQUAL(put_piece(t, 3), 0);
    s = kit_snapshot(t);
    check_pieces(s);
    peering_snapshot_unref(s);
    WL(t, .name = "b", .ips = "10.0.0.2", .services = "ns1/s.example=80:1");
    CU_ASSERT_EQUAL(peering_table_remove(t, PEERING_KIND_ADDRESS, ps("c1//Pod/ns1/a")), 0);
    s = kit_snapshot(t);
    CU_ASSERT_EQUAL(endpoints_of(s, "ns1", "r.example", &e), 1);
    CU_ASSERT_EQUAL_FATAL(endpoints_of(s, "ns1", "s.example", &e), 1);
    CU_ASSERT(peering_workload_is_healthy(e[0]));
    peering_snapshot_unref(s);
    peering_table_free(t);
}

static void test_unchanged(void)
{
    peering_table *t = kit_table();
    CU_ASSERT_EQUAL(put_piece(t, 0), 0);
    CU_ASSERT_EQUAL(put_piece(t, 3), 0);
    peering_snapshot *a = kit_snapshot(t);
    CU_ASSERT_EQUAL(put_piece(t, 0), 0);
    CU_ASSERT_EQUAL(put_piece(t, 3), 0);
    peering_snapshot *b = kit_snapshot(t);
    CU_ASSERT_PTR_EQUAL(a, b);
    CU_ASSERT_EQUAL(put_piece(t, 1), 0);
    peering_snapshot *c = kit_snapshot(t);
    CU_ASSERT(peering_snapshot_generation(c) > peering_snapshot_generation(a));
    /* unchanged records are shared between snapshots */
    CU_ASSERT_PTR_EQUAL(find(a, "c1//Pod/ns1/a"), find(c, "c1//Pod/ns1/a"));
    CU_ASSERT_PTR_NULL(find(a, "c1//Pod/ns1/b"));
    CU_ASSERT_PTR_NOT_NULL(find(c, "c1//Pod/ns1/b"));
    peering_snapshot_unref(a);
    peering_snapshot_unref(b);
    peering_snapshot_unref(c);
    peering_table_free(t);
}

static void test_refused(void)
{
    peering_table *t = kit_table();
    peering_text why = {""};
    struct pg_sb sb;
    char uid[100];
    CU_ASSERT_EQUAL(put_piece(t, 0), 0);
    CU_ASSERT_EQUAL(peering_table_put(t, PEERING_KIND_ADDRESS, ps("c1//Pod/ns1/a"), "\xff\xff", 2, &why),
                    PEERING_ERR_PARSE);
    CU_ASSERT(why.text[0] != '\0');
    static const char no_destination[] = "\x12\x0a\x0a\x01s\x1a\x01h\x6a\x02\x10\x01";
    CU_ASSERT_EQUAL(peering_table_put(t, PEERING_KIND_ADDRESS, ps("/h"), no_destination,
                                      sizeof(no_destination) - 1, &why),
                    PEERING_ERR_PARSE);
    CU_ASSERT_STRING_EQUAL(why.text, "weighted waypoint without destination");
    pg_sb_init(&sb, 4096);
    CU_ASSERT_EQUAL(
        kit_encode_workload(&(struct kit_workload){.name = "x", .ips = "1.2.3.4"}, &sb, uid, sizeof(uid)), 0);
    CU_ASSERT_EQUAL(kit_put_bytes(t, PEERING_KIND_ADDRESS, "another", &sb), PEERING_ERR_PARSE);
    pg_sb_fini(&sb);
    void *big = pg_calloc(1, XDS_RESOURCE_MAX + 1);
    CU_ASSERT_PTR_NOT_NULL_FATAL(big);
    CU_ASSERT_EQUAL(peering_table_put(t, PEERING_KIND_ADDRESS, ps("big"), big, XDS_RESOURCE_MAX + 1, &why),
                    PEERING_ERR_LIMIT);
    pg_free(big);
    peering_snapshot *s = kit_snapshot(t);
    CU_ASSERT_PTR_NOT_NULL(find(s, "c1//Pod/ns1/a")); /* the old value stays */
    CU_ASSERT_PTR_NULL(find(s, "c1//Pod/ns1/x"));
    peering_snapshot_unref(s);
    peering_table_free(t);
}

/* Same address: pods before others, HBONE before plain, then the later; the loser is not lost. */
static void test_address_conflict(void)
{
    static const struct kit_workload w[] = {
        {.uid = "c1/we/plain", .name = "plain", .ips = "10.0.0.1", .plain = true},
        {.uid = "c1/we/hbone", .name = "hbone", .ips = "10.0.0.1"},
        {.name = "pod", .ips = "10.0.0.1", .plain = true},
        {.name = "pod2", .ips = "10.0.0.1", .plain = true},
        {.name = "hpod", .ips = "10.0.0.1"}};
    static const char *const uid[] = {"c1/we/plain", "c1/we/hbone", "c1//Pod/ns1/pod", "c1//Pod/ns1/pod2",
                                      "c1//Pod/ns1/hpod"};
    peering_table *t = kit_table();
    peering_ip ip = kit_ip("10.0.0.1");
    for (size_t i = 0; i < 5; i++) {
        CU_ASSERT_EQUAL(kit_workload(t, &w[i]), 0);
        peering_snapshot *s = kit_snapshot(t);
        CU_ASSERT_PTR_EQUAL(peering_find_workload_by_ip(s, ps(""), &ip), find(s, uid[i]));
        CU_ASSERT_PTR_NULL(peering_find_workload_by_ip(s, ps("other"), &ip));
        peering_snapshot_unref(s);
    }
    for (size_t i = 5; i-- > 0;) {
        peering_snapshot *s = kit_snapshot(t);
        CU_ASSERT_PTR_EQUAL(peering_find_workload_by_ip(s, ps(""), &ip), find(s, uid[i]));
        peering_snapshot_unref(s);
        CU_ASSERT_EQUAL(peering_table_remove(t, PEERING_KIND_ADDRESS, ps(uid[i])), 0);
    }
    WL(t, .name = "host", .ips = "10.0.0.9", .host_network = true);
    peering_snapshot *s = kit_snapshot(t);
    ip = kit_ip("10.0.0.9");
    CU_ASSERT_PTR_NULL(peering_find_workload_by_ip(s, ps(""), &ip));
    peering_snapshot_unref(s);
    peering_table_free(t);
}

static const char *vip_owner(peering_table *t, const char *network, const char *ip, const char *ns)
{
    static char name[100];
    peering_snapshot *s = kit_snapshot(t);
    peering_ip address = kit_ip(ip);
    const peering_service *v = peering_find_service_by_vip(s, ps(network), &address, ps(ns));
    snprintf(name, sizeof(name), "%.*s", v != NULL ? (int)peering_service_hostname(v).len : 1,
             v != NULL ? peering_service_hostname(v).ptr : "-");
    peering_snapshot_unref(s);
    return name;
}

/* Two services of one namespace on one address: removing one leaves the other. */
static void test_vip_collision(void)
{
    peering_table *t = kit_table();
    SV(t, .name = "a", .hostname = "a", .vips = "/10.0.0.1", .ports = "80:80");
    SV(t, .name = "b", .hostname = "b", .vips = "/10.0.0.1", .ports = "80:80");
    CU_ASSERT_STRING_EQUAL(vip_owner(t, "", "10.0.0.1", "x"), "b");
    CU_ASSERT_EQUAL(peering_table_remove(t, PEERING_KIND_ADDRESS, ps("ns1/b")), 0);
    CU_ASSERT_STRING_EQUAL(vip_owner(t, "", "10.0.0.1", "x"), "a");
    SV(t, .name = "b", .hostname = "b", .vips = "/10.0.0.1", .ports = "80:80");
    CU_ASSERT_EQUAL(peering_table_remove(t, PEERING_KIND_ADDRESS, ps("ns1/a")), 0);
    CU_ASSERT_STRING_EQUAL(vip_owner(t, "", "10.0.0.1", "x"), "b");
    peering_table_free(t);
}

static void test_preference(void)
{
    peering_table *t = kit_table();
    SV(t, .name = "s", .ns = "aa", .hostname = "x", .vips = "/10.0.0.1");
    CU_ASSERT_STRING_EQUAL(vip_owner(t, "", "10.0.0.1", "zz"), "x");
    SV(t, .name = "s", .ns = "bb", .hostname = "x.bb", .vips = "/10.0.0.1");
    CU_ASSERT_STRING_EQUAL(vip_owner(t, "", "10.0.0.1", "zz"), "x");
    CU_ASSERT_STRING_EQUAL(vip_owner(t, "", "10.0.0.1", "bb"), "x.bb");
    SV(t, .name = "s", .ns = "cc", .hostname = "x.cc", .vips = "/10.0.0.1", .canonical = true);
    CU_ASSERT_STRING_EQUAL(vip_owner(t, "", "10.0.0.1", "zz"), "x.cc");
    CU_ASSERT_STRING_EQUAL(vip_owner(t, "", "10.0.0.1", "bb"), "x.bb");
    SV(t, .name = "s", .ns = "dd", .hostname = "x.dd", .vips = "/10.0.0.2", .private_ns = true);
    CU_ASSERT_STRING_EQUAL(vip_owner(t, "", "10.0.0.2", "dd"), "x.dd");
    CU_ASSERT_STRING_EQUAL(vip_owner(t, "", "10.0.0.2", "zz"), "-");
    /* not visible: falls through to a prefix */
    SV(t, .name = "p", .ns = "ee", .hostname = "p.ee", .vips = "/10.0.0.0/24");
    CU_ASSERT_STRING_EQUAL(vip_owner(t, "", "10.0.0.2", "zz"), "p.ee");
    CU_ASSERT_STRING_EQUAL(vip_owner(t, "", "10.0.0.1", "zz"), "x.cc");
    peering_snapshot *s = kit_snapshot(t);
    CU_ASSERT_PTR_NULL(peering_find_service_by_host(s, ps("x.dd"), ps("zz")));
    CU_ASSERT_PTR_NOT_NULL(peering_find_service_by_host(s, ps("x.dd"), ps("dd")));
    peering_snapshot_unref(s);
    SV(t, .name = "s", .ns = "ff", .hostname = "x", .canonical = true);
    SV(t, .name = "s", .ns = "gg", .hostname = "x");
    static const struct {
        const char *client, *owner;
    } rows[] = {{"zz", "ff"}, {"aa", "aa"}, {"gg", "gg"}, {"ff", "ff"}};
    s = kit_snapshot(t);
    for (size_t i = 0; i < PG_ARRAY_LEN(rows); i++) {
        const peering_service *v = peering_find_service_by_host(s, ps("x"), ps(rows[i].client));
        CU_ASSERT_PTR_NOT_NULL_FATAL(v);
        CU_ASSERT(ps_is(peering_service_namespace(v), rows[i].owner));
    }
    peering_snapshot_unref(s);
    peering_table_free(t);
}

static void test_prefixes(void)
{
    peering_table *t = kit_table();
    SV(t, .name = "w", .ns = "a", .hostname = "wide", .vips = "n/10.0.0.0/8,n/2001:db8::/32");
    SV(t, .name = "m", .ns = "b", .hostname = "mid", .vips = "n/10.1.0.0/16");
    SV(t, .name = "n", .ns = "c", .hostname = "narrow", .vips = "n/10.1.2.0/24,n/2001:db8:1::/48");
    SV(t, .name = "c", .ns = "d", .hostname = "canon", .vips = "n/10.1.2.0/24", .canonical = true);
    static const struct {
        const char *network, *ip, *ns, *owner;
    } rows[] = {{"n", "10.9.9.9", "x", "wide"},        {"n", "10.1.9.9", "x", "mid"},
                {"n", "10.1.2.3", "x", "canon"},       {"n", "10.1.2.3", "c", "narrow"},
                {"n", "10.1.2.3", "a", "wide"},        {"n", "10.1.2.3", "b", "mid"},
                {"n", "11.0.0.1", "x", "-"},           {"m", "10.1.2.3", "x", "-"},
                {"n", "2001:db8:1::5", "x", "narrow"}, {"n", "2001:db8:2::5", "x", "wide"},
                {"n", "2001:db9::5", "x", "-"}};
    for (size_t i = 0; i < PG_ARRAY_LEN(rows); i++) {
        CU_ASSERT_STRING_EQUAL(vip_owner(t, rows[i].network, rows[i].ip, rows[i].ns), rows[i].owner);
    }
    /* endpoints of a prefix follow */
    for (int i = 0; i < 20; i++) {
        peering_ip ip = kit_ip("10.9.9.9");
        const peering_workload *const *e;
        WL(t, .name = "e", .ips = "192.0.2.1", .services = "a/wide=80:80", .has_capacity = true,
           .capacity = (uint32_t)i + 1);
        peering_snapshot *s = kit_snapshot(t);
        const peering_service *v = peering_find_service_by_vip(s, ps("n"), &ip, ps("x"));
        CU_ASSERT_PTR_NOT_NULL_FATAL(v);
        CU_ASSERT_EQUAL_FATAL(peering_service_endpoints(v, &e), 1);
        CU_ASSERT_EQUAL(peering_workload_capacity(e[0]), (uint32_t)i + 1);
        peering_snapshot_unref(s);
    }
    CU_ASSERT_EQUAL(peering_table_remove(t, PEERING_KIND_ADDRESS, ps("b/mid")), 0);
    CU_ASSERT_STRING_EQUAL(vip_owner(t, "n", "10.1.9.9", "x"), "wide");
    peering_table_free(t);
}

static void test_policies(void)
{
    peering_table *t = kit_table();
    struct xds_policy p = {.name = PG_STR("p"), .ns = PG_STR("ns1"), .scope = XDS_POLICY_SELECTOR};
    peering_text why = {""};
    CU_ASSERT_EQUAL(kit_policy(t, &p), 0);
    /* an unparsable one is kept, and said so each time */
    for (int i = 0; i < 2; i++) {
        CU_ASSERT_EQUAL(peering_table_put(t, PEERING_KIND_AUTHORIZATION, ps("ns1/bad"), "\xff", 1, &why),
                        PEERING_ERR_PARSE);
    }
    peering_snapshot *s = kit_snapshot(t);
    size_t it = 0;
    const peering_policy *first = peering_next_policy(s, &it);
    const peering_policy *second = peering_next_policy(s, &it);
    CU_ASSERT_PTR_NOT_NULL_FATAL(second);
    CU_ASSERT(ps_is(peering_policy_key(first), "ns1/bad"));
    CU_ASSERT(ps_is(peering_policy_key(second), "ns1/p"));
    CU_ASSERT_PTR_NULL(peering_next_policy(s, &it));
    CU_ASSERT_PTR_EQUAL(peering_find_policy(s, ps("ns1/p")), second);
    peering_snapshot_unref(s);
    CU_ASSERT_EQUAL(peering_table_remove(t, PEERING_KIND_AUTHORIZATION, ps("ns1/bad")), 0);
    CU_ASSERT_EQUAL(peering_table_remove(t, PEERING_KIND_ADDRESS, ps("ns1/p")), PEERING_ERR_NOTFOUND);
    peering_table_free(t);
}

/* --- random sequences against a table made from scratch ------------------------------------------------ */

#define RANDOM_WORKLOADS 24
#define RANDOM_SERVICES 8

struct model {
    uint32_t workload[RANDOM_WORKLOADS]; /* 0 absent, else the variant */
    uint32_t service[RANDOM_SERVICES];
};

static void workload_name(size_t i, char *out, size_t cap)
{
    snprintf(out, cap, "c%zu//Pod/ns%zu/w%zu", i % 3, i % 2, i);
}

static int put_random_workload(peering_table *t, size_t i, uint32_t variant)
{
    char uid[64], name[16], ns[16], ips[64], services[128];
    workload_name(i, uid, sizeof(uid));
    snprintf(name, sizeof(name), "w%zu", i);
    snprintf(ns, sizeof(ns), "ns%zu", i % 2);
    snprintf(ips, sizeof(ips), "10.0.0.%u,2001:db8::%u", (unsigned)i, variant % 100);
    snprintf(services, sizeof(services), "ns0/s%u=80:%u;ns0/s%u=80:1", variant % RANDOM_SERVICES,
             variant % 1000 + 1, (variant / 7) % RANDOM_SERVICES);
    return kit_workload(t, &(struct kit_workload){.uid = uid,
                                                  .name = name,
                                                  .ns = ns,
                                                  .ips = ips,
                                                  .services = services,
                                                  .unhealthy = variant % 5 == 0,
                                                  .host_network = variant % 11 == 0});
}

static int put_random_service(peering_table *t, size_t i, uint32_t variant)
{
    char host[16], vips[64];
    snprintf(host, sizeof(host), "s%zu", i);
    snprintf(vips, sizeof(vips), "/10.1.0.%zu,/10.%u.0.0/16", i, variant % 50 + 2);
    return kit_service(t, &(struct kit_service){
                              .name = host, .ns = "ns0", .hostname = host, .vips = vips, .ports = "80:80"});
}

/* Everything that can be asked, as text. */
static char *describe(const peering_snapshot *s)
{
    struct pg_sb sb;
    pg_sb_init(&sb, SIZE_MAX / 4);
    size_t it = 0;
    const peering_workload *w;
    const peering_service *v;
    while ((w = peering_next_workload(s, &it)) != NULL) {
        const peering_ip *ips;
        size_t n = peering_workload_ips(w, &ips);
        pg_sb_fmt(&sb, "%.*s %d", (int)peering_workload_uid(w).len, peering_workload_uid(w).ptr,
                  peering_workload_is_healthy(w));
        CU_ASSERT_PTR_EQUAL(peering_find_workload(s, peering_workload_uid(w)), w);
        for (size_t i = 0; i < n; i++) {
            const peering_workload *owner = peering_find_workload_by_ip(s, ps(""), &ips[i]);
            pg_sb_fmt(&sb, " %d:%d", ips[i].bytes[3], owner != NULL);
        }
        pg_sb_ch(&sb, '\n');
    }
    it = 0;
    while ((v = peering_next_service(s, &it)) != NULL) {
        const peering_workload *const *e;
        const peering_vip *vips;
        size_t n = peering_service_endpoints(v, &e);
        size_t n_vips = peering_service_vips(v, &vips);
        pg_sb_fmt(&sb, "%.*s:", (int)peering_service_key(v).len, peering_service_key(v).ptr);
        for (size_t i = 0; i < n; i++) {
            pg_sb_fmt(&sb, " %.*s=%u", (int)peering_workload_uid(e[i]).len, peering_workload_uid(e[i]).ptr,
                      peering_workload_target_port(e[i], peering_service_key(v), 80));
        }
        CU_ASSERT_EQUAL_FATAL(n_vips, 2);
        CU_ASSERT_PTR_EQUAL(peering_find_service_by_vip(s, ps(""), &vips[0].ip, ps("x")), v);
        pg_sb_fmt(&sb, " %d\n", vips[1].ip.bytes[1]);
    }
    char *out = pg_sb_take(&sb);
    return out != NULL ? out : pg_strdup("");
}

static void compare(peering_table *t, const struct model *m)
{
    peering_table *fresh = kit_table();
    for (size_t i = 0; i < RANDOM_SERVICES; i++) {
        CU_ASSERT(m->service[i] == 0 || put_random_service(fresh, i, m->service[i]) == 0);
    }
    for (size_t i = RANDOM_WORKLOADS; i-- > 0;) {
        CU_ASSERT(m->workload[i] == 0 || put_random_workload(fresh, i, m->workload[i]) == 0);
    }
    peering_snapshot *a = kit_snapshot(t);
    peering_snapshot *b = kit_snapshot(fresh);
    char *x = describe(a);
    char *y = describe(b);
    CU_ASSERT_STRING_EQUAL_FATAL(x, y);
    pg_free(x);
    pg_free(y);
    peering_snapshot_unref(a);
    peering_snapshot_unref(b);
    peering_table_free(fresh);
}

static void random_step(peering_table *t, struct model *m, struct pg_rng *rng)
{
    bool is_service = pg_rng_below(rng, 4) == 0;
    size_t i = (size_t)pg_rng_below(rng, is_service ? RANDOM_SERVICES : RANDOM_WORKLOADS);
    uint32_t *slot = is_service ? &m->service[i] : &m->workload[i];
    uint32_t variant = (uint32_t)pg_rng_below(rng, 3) == 0 ? 0 : (uint32_t)pg_rng_below(rng, 500) + 1;
    if (variant == 0) {
        char name[64];
        if (is_service) {
            snprintf(name, sizeof(name), "ns0/s%zu", i);
        } else {
            workload_name(i, name, sizeof(name));
        }
        CU_ASSERT_EQUAL(peering_table_remove(t, PEERING_KIND_ADDRESS, ps(name)),
                        *slot != 0 ? 0 : PEERING_ERR_NOTFOUND);
    } else {
        CU_ASSERT_EQUAL(is_service ? put_random_service(t, i, variant) : put_random_workload(t, i, variant),
                        0);
    }
    *slot = variant;
}

static void test_random(void)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct pg_rng rng;
        struct model m = {{0}, {0}};
        peering_table *t = kit_table();
        pg_rng_seed(&rng, seed);
        for (int i = 0; i < 300; i++) {
            random_step(t, &m, &rng);
            if (pg_rng_below(&rng, 10) == 0) {
                compare(t, &m);
            }
        }
        compare(t, &m);
        peering_table_free(t);
    }
}

/* Churn without snapshots leaves nothing behind that grows. */
static void test_churn(void)
{
    peering_table *t = kit_table();
    CU_ASSERT_EQUAL(put_random_workload(t, 0, 1), 0);
    size_t before = 0;
    for (uint32_t i = 0; i < 20000; i++) {
        char name[64];
        workload_name(1, name, sizeof(name));
        CU_ASSERT_EQUAL_FATAL(put_random_workload(t, 1, i + 1), 0);
        CU_ASSERT_EQUAL_FATAL(peering_table_remove(t, PEERING_KIND_ADDRESS, ps(name)), 0);
        before = i == 5000 ? pg_mem_live_blocks() : before;
    }
    CU_ASSERT(pg_mem_live_blocks() <= before + 1500);
    peering_table_free(t);
}

/* Replica sets share what they have in common: few bytes per pod. */
static void test_sharing(void)
{
    peering_table *t = kit_table();
    SV(t, .name = "s", .hostname = "s.example", .vips = "/10.1.0.1", .ports = "80:8080");
    size_t before = pg_mem_live_blocks();
    for (unsigned i = 0; i < 1000; i++) {
        char name[16], ip[32];
        snprintf(name, sizeof(name), "p%u", i);
        snprintf(ip, sizeof(ip), "10.0.%u.%u", i / 250, i % 250);
        WL(t, .name = name, .ips = ip, .services = "ns1/s.example=80:8080", .node = "n1");
    }
    /* a record and a slot each; one set */
    CU_ASSERT(pg_mem_live_blocks() - before < 2000 + 10);
    peering_snapshot *s = kit_snapshot(t);
    const peering_workload *const *e;
    CU_ASSERT_EQUAL(endpoints_of(s, "ns1", "s.example", &e), 1000);
    peering_snapshot_unref(s);
    peering_table_free(t);
}

static int whole_life(void *arg)
{
    (void)arg;
    peering_table *t = NULL;
    peering_snapshot *s = NULL;
    struct xds_policy p = {.name = PG_STR("p"), .ns = PG_STR("ns1")};
    int r = peering_table_new(&t);
    for (size_t i = 0; r == 0 && i < 5; i++) {
        r = put_piece(t, i);
    }
    if (r == 0) {
        r = kit_policy(t, &p);
    }
    if (r == 0) {
        r = peering_table_snapshot(t, &s);
    }
    if (r == 0) {
        peering_snapshot_unref(s);
        r = peering_table_remove(t, PEERING_KIND_ADDRESS, ps("c1//Pod/ns1/a"));
    }
    if (r == 0) {
        r = put_random_workload(t, 3, 9);
    }
    if (r == 0) {
        r = peering_table_snapshot(t, &s);
    }
    if (r == 0) {
        peering_snapshot_unref(s);
    }
    peering_table_free(t);
    return r;
}

/* A failed put or snapshot changes nothing and can be repeated. */
static void test_retry_after_nomem(void)
{
    for (size_t at = 0; at < 200; at++) {
        peering_table *t = kit_table();
        for (size_t i = 0; i < 5; i++) {
            struct pg_fault f = {.armed = true, .countdown = at, .repeat = 0};
            pg_mem_set_fault(&f);
            int r = put_piece(t, i);
            pg_mem_set_fault(NULL);
            CU_ASSERT(r == 0 || r == PEERING_ERR_NOMEM);
            CU_ASSERT_EQUAL_FATAL(r == 0 ? 0 : put_piece(t, i), 0);
        }
        struct pg_fault f = {.armed = true, .countdown = at, .repeat = 0};
        peering_snapshot *s = NULL;
        pg_mem_set_fault(&f);
        int r = peering_table_snapshot(t, &s);
        pg_mem_set_fault(NULL);
        if (r < 0) {
            CU_ASSERT_EQUAL(r, PEERING_ERR_NOMEM);
            CU_ASSERT_PTR_NULL(s);
            s = kit_snapshot(t);
        }
        check_pieces(s);
        peering_snapshot_unref(s);
        peering_table_free(t);
        if (f.injected == 0) {
            CU_ASSERT(at > 10);
            break;
        }
    }
}

static void test_alloc(void)
{
    CU_ASSERT(test_alloc_sweep(whole_life, NULL) > 50);
}

TEST_MAIN("table", {"empty table", test_empty}, {"workload fields", test_workload_fields},
          {"service fields", test_service_fields}, {"every order of arrival", test_every_order},
          {"staged endpoints", test_staging}, {"unchanged resources", test_unchanged},
          {"refused resources", test_refused}, {"address conflicts", test_address_conflict},
          {"VIP collision", test_vip_collision}, {"preference and visibility", test_preference},
          {"prefixes", test_prefixes}, {"policies", test_policies}, {"random sequences", test_random},
          {"churn", test_churn}, {"sharing", test_sharing}, {"allocation failures", test_alloc},
          {"retry after a failure", test_retry_after_nomem})
