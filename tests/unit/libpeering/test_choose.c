/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Endpoint choice: who is usable, modes and ranks, weights, avoided endpoints, reasons given, and random
 * services against a slow and obvious model.
 */
#include "kit.h"

#include "core/rng.h"
#include "libpeering/src/choose.h"

struct world {
    peering_table *t;
    peering_snapshot *s;
    const peering_service *v;
    const peering_workload *source;
};

/* The service ns1/s and the source pod come from the table. */
static void world_open(struct world *w)
{
    w->s = kit_snapshot(w->t);
    w->v = peering_find_service(w->s, ps("ns1"), ps("s"));
    w->source = peering_find_workload(w->s, ps("c1//Pod/ns1/source"));
    PG_BUG_ON(w->v == NULL || w->source == NULL);
}
static void world_close(struct world *w)
{
    peering_snapshot_unref(w->s);
    peering_table_free(w->t);
}
static struct choose_result pick(const struct world *w, uint64_t random, peering_avoid avoid, void *arg)
{
    struct choose_result r;
    choose_endpoint(&(struct choose_query){.service = w->v,
                                           .port = 80,
                                           .source = w->source,
                                           .random = random,
                                           .avoid = avoid,
                                           .avoid_arg = arg},
                    &r);
    return r;
}
/* Letters of the pods that can come out, in order. */
static const char *reachable(const struct world *w, peering_avoid avoid, void *arg)
{
    static char out[64];
    bool seen[26] = {false};
    size_t n = 0;
    for (uint64_t i = 0; i < 400; i++) {
        struct choose_result r = pick(w, i, avoid, arg);
        if (r.workload != NULL) {
            seen[peering_workload_name(r.workload).ptr[0] - 'a'] = true;
        }
    }
    for (size_t i = 0; i < 26; i++) {
        if (seen[i]) {
            out[n++] = (char)('a' + i);
        }
    }
    out[n] = '\0';
    return out;
}

#define SOURCE(t)                                                                                            \
    WL((t), .name = "source", .network = "n1", .region = "r1", .zone = "z1", .subzone = "s1",                \
       .node = "node1", .cluster = "c1")
#define ON "ns1/s=80:8080"

/* Pods from near to far: a shares all, b misses the subzone, c the zone, d the region, e the network. */
static struct world localities(const char *scopes, enum xds_lb_mode mode)
{
    struct world w = {.t = kit_table()};
    SOURCE(w.t);
    SV(w.t, .name = "s", .hostname = "s", .ports = "80:8080", .scopes = scopes, .mode = mode);
    WL(w.t, .name = "a", .ips = "10.0.0.1", .network = "n1", .region = "r1", .zone = "z1", .subzone = "s1",
       .node = "node1", .cluster = "c1", .services = ON);
    WL(w.t, .name = "b", .ips = "10.0.0.2", .network = "n1", .region = "r1", .zone = "z1", .subzone = "s2",
       .node = "node2", .cluster = "c1", .services = ON);
    WL(w.t, .name = "c", .ips = "10.0.0.3", .network = "n1", .region = "r1", .zone = "z2", .subzone = "s1",
       .node = "node3", .cluster = "c1", .services = ON);
    WL(w.t, .name = "d", .ips = "10.0.0.4", .network = "n1", .region = "r2", .zone = "z1", .subzone = "s1",
       .node = "node4", .cluster = "c2", .services = ON);
    WL(w.t, .name = "e", .network = "n2", .region = "r1", .zone = "z1", .subzone = "s1", .node = "node1",
       .cluster = "c1", .services = ON, .gateway = "n2/1.2.3.4:15008");
    world_open(&w);
    return w;
}

static bool avoid_letters(void *arg, const peering_workload *w)
{
    return strchr(arg, peering_workload_name(w).ptr[0]) != NULL;
}

static void test_modes(void)
{
    static const struct {
        const char *scopes;
        enum xds_lb_mode mode;
        const char *avoid, *reach;
    } rows[] = {
        {NULL, XDS_LB_UNSPECIFIED, "", "abcde"},
        {"REGION", XDS_LB_UNSPECIFIED, "", "abcde"},
        {"REGION", XDS_LB_STRICT, "", "abce"},
        {"REGION,ZONE", XDS_LB_STRICT, "", "abe"},
        {"ZONE", XDS_LB_STRICT, "", "abde"},
        {"NETWORK", XDS_LB_STRICT, "", "abcd"},
        {"NODE", XDS_LB_STRICT, "", "ae"},
        {"NODE,NETWORK", XDS_LB_STRICT, "", "a"},
        {"CLUSTER", XDS_LB_STRICT, "", "abce"},
        {"REGION,ZONE,SUBZONE", XDS_LB_FAILOVER, "", "ae"},
        {"NETWORK,REGION,ZONE,SUBZONE", XDS_LB_FAILOVER, "", "a"},
        {"NETWORK,REGION,ZONE,SUBZONE", XDS_LB_FAILOVER, "a", "b"},
        {"NETWORK,REGION,ZONE,SUBZONE", XDS_LB_FAILOVER, "ab", "c"},
        /* any pod of the own network before the other network, whose locality matches better */
        {"NETWORK,REGION,ZONE,SUBZONE", XDS_LB_FAILOVER, "abc", "d"},
        {"NETWORK,REGION,ZONE,SUBZONE", XDS_LB_FAILOVER, "abcd", "e"},
        {"NETWORK,REGION,ZONE,SUBZONE", XDS_LB_FAILOVER, "abcde", "a"},
        {"REGION,NETWORK", XDS_LB_FAILOVER, "", "abc"},
        {"REGION,NETWORK", XDS_LB_FAILOVER, "abc", "e"},
        {"REGION,NETWORK", XDS_LB_FAILOVER, "abce", "d"},
        {"", XDS_LB_FAILOVER, "", "abcde"},
        {"REGION,ZONE", XDS_LB_PASSTHROUGH, "", "abe"},
        {"NETWORK", XDS_LB_STRICT, "ab", "cd"},
        {"NETWORK", XDS_LB_STRICT, "abcd", "abcd"},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(rows); i++) {
        char avoid[8];
        struct world w = localities(rows[i].scopes, rows[i].mode);
        snprintf(avoid, sizeof(avoid), "%s", rows[i].avoid);
        CU_ASSERT_STRING_EQUAL(reachable(&w, avoid_letters, avoid), rows[i].reach);
        world_close(&w);
    }
}

static void test_counts(void)
{
    struct world w = localities("NETWORK,REGION", XDS_LB_FAILOVER);
    char none[] = "", two[] = "ab", all[] = "abcde";
    struct choose_result r = pick(&w, 1, avoid_letters, none);
    CU_ASSERT_EQUAL(r.candidates, 5);
    CU_ASSERT_EQUAL(r.remaining, 4);
    r = pick(&w, 1, avoid_letters, two);
    CU_ASSERT_EQUAL(r.candidates, 5);
    CU_ASSERT_EQUAL(r.remaining, 2);
    r = pick(&w, 1, avoid_letters, all);
    CU_ASSERT_EQUAL(r.candidates, 5);
    CU_ASSERT_EQUAL(r.remaining, 0);
    CU_ASSERT_PTR_NOT_NULL(r.workload);
    world_close(&w);
}

/* Empty localities match each other, as in ztunnel. */
static void test_empty_locality(void)
{
    struct world w = {.t = kit_table()};
    WL(w.t, .name = "source", .network = "n1", .cluster = "c1");
    SV(w.t, .name = "s", .hostname = "s", .ports = "80:8080", .scopes = "REGION,ZONE",
       .mode = XDS_LB_FAILOVER);
    WL(w.t, .name = "a", .ips = "10.0.0.1", .network = "n1", .services = ON);
    WL(w.t, .name = "b", .ips = "10.0.0.2", .network = "n1", .region = "r", .services = ON);
    world_open(&w);
    CU_ASSERT_STRING_EQUAL(reachable(&w, NULL, NULL), "a");
    world_close(&w);
}

static void test_weights(void)
{
    struct world w = {.t = kit_table()};
    size_t count[3] = {0};
    SOURCE(w.t);
    SV(w.t, .name = "s", .hostname = "s", .ports = "80:8080");
    WL(w.t, .name = "a", .ips = "10.0.0.1", .network = "n1", .services = ON, .has_capacity = true,
       .capacity = 1);
    WL(w.t, .name = "b", .ips = "10.0.0.2", .network = "n1", .services = ON, .has_capacity = true,
       .capacity = 3);
    WL(w.t, .name = "c", .ips = "10.0.0.3", .network = "n1", .services = ON, .has_capacity = true,
       .capacity = 0);
    world_open(&w);
    for (uint64_t i = 0; i < 20000; i++) {
        struct choose_result r = pick(&w, i * 7919, NULL, NULL);
        CU_ASSERT_PTR_NOT_NULL_FATAL(r.workload);
        count[peering_workload_name(r.workload).ptr[0] - 'a']++;
        CU_ASSERT_EQUAL(r.candidates, 2);
    }
    CU_ASSERT(count[0] > 4600 && count[0] < 5400);
    CU_ASSERT_EQUAL(count[2], 0);
    peering_snapshot_unref(w.s);
    /* sums over 32 bits */
    WL(w.t, .name = "a", .ips = "10.0.0.1", .network = "n1", .services = ON, .has_capacity = true,
       .capacity = UINT32_MAX);
    WL(w.t, .name = "b", .ips = "10.0.0.2", .network = "n1", .services = ON, .has_capacity = true,
       .capacity = UINT32_MAX);
    world_open(&w);
    CU_ASSERT_STRING_EQUAL(reachable(&w, NULL, NULL), "ab");
    peering_snapshot_unref(w.s);
    /* all zero: none */
    WL(w.t, .name = "a", .network = "n1", .ips = "10.0.0.1", .services = ON, .has_capacity = true);
    WL(w.t, .name = "b", .network = "n1", .ips = "10.0.0.2", .services = ON, .has_capacity = true);
    world_open(&w);
    CU_ASSERT_STRING_EQUAL(reachable(&w, NULL, NULL), "");
    world_close(&w);
}

/* Health is judged at the choice: flips of the policy and of the pod take effect at once, both ways. */
static void test_health(void)
{
    struct world w = {.t = kit_table()};
    SOURCE(w.t);
    for (int round = 0; round < 3; round++) {
        static const char *const expect[2][4] = {{"", "a", "b", "ab"}, {"ab", "ab", "ab", "ab"}};
        for (int allow = 0; allow < 2; allow++) {
            for (unsigned healthy = 0; healthy < 4; healthy++) {
                SV(w.t, .name = "s", .hostname = "s", .ports = "80:8080", .allow_all = allow != 0);
                WL(w.t, .name = "a", .network = "n1", .ips = "10.0.0.1", .services = ON,
                   .unhealthy = (healthy & 1) == 0);
                WL(w.t, .name = "b", .network = "n1", .ips = "10.0.0.2", .services = ON,
                   .unhealthy = (healthy & 2) == 0);
                world_open(&w);
                CU_ASSERT_STRING_EQUAL(reachable(&w, NULL, NULL), expect[allow][healthy]);
                peering_snapshot_unref(w.s);
            }
        }
    }
    peering_table_free(w.t);
}

static void test_ports(void)
{
    static const struct {
        const char *service_ports, *endpoint_ports;
        uint16_t tunnel_port;
        enum choose_rule rule;
        uint16_t expect; /* 0: left out */
    } rows[] = {
        {"80:8080", "ns1/s=80:9090", 0, CHOOSE_STANDARD, 9090},
        {"80:8080", "ns1/s=81:9090", 0, CHOOSE_STANDARD, 8080},
        {"80:8080", "ns1/s=80:0", 0, CHOOSE_STANDARD, 8080},
        {"80:0", "ns1/s=80:9090", 0, CHOOSE_STANDARD, 9090},
        {"80:0", "ns1/s=81:9090", 0, CHOOSE_STANDARD, 0},
        {"81:8080", "ns1/s=80:9090", 0, CHOOSE_STANDARD, 0},
        {"81:8080", "ns1/s=80:9090", 15088, CHOOSE_STANDARD, 0},
        {"81:8080", "ns1/s=80:9090", 0, CHOOSE_WAYPOINT, 0},
        {"81:8080", "ns1/s=80:9090", 15088, CHOOSE_WAYPOINT, 9090},
        {"81:8080", "ns1/s=82:9090", 15088, CHOOSE_WAYPOINT, 80},
        {"80:8080", "ns1/s=82:9090", 15088, CHOOSE_WAYPOINT, 8080},
        {"", "ns1/s=", 0, CHOOSE_STANDARD, 0},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(rows); i++) {
        struct world w = {.t = kit_table()};
        struct choose_result r;
        SOURCE(w.t);
        SV(w.t, .name = "s", .hostname = "s", .ports = rows[i].service_ports);
        WL(w.t, .name = "a", .network = "n1", .ips = "10.0.0.1", .services = rows[i].endpoint_ports,
           .tunnel_port = rows[i].tunnel_port, .tunnel_protocol = rows[i].tunnel_port != 0);
        world_open(&w);
        choose_endpoint(
            &(struct choose_query){.service = w.v, .port = 80, .source = w.source, .rule = rows[i].rule}, &r);
        CU_ASSERT_EQUAL(r.workload != NULL, rows[i].expect != 0);
        CU_ASSERT_EQUAL(r.port, rows[i].expect);
        world_close(&w);
    }
}

static void test_reachability(void)
{
    struct world w = {.t = kit_table()};
    SOURCE(w.t);
    SV(w.t, .name = "s", .hostname = "s", .ports = "80:8080");
    WL(w.t, .name = "a", .network = "n1", .services = ON);                                /* nothing */
    WL(w.t, .name = "b", .network = "n1", .services = ON, .gateway = "n1/1.1.1.1:15008"); /* own network */
    WL(w.t, .name = "c", .network = "n2", .services = ON);                                /* no gateway */
    WL(w.t, .name = "d", .network = "n2", .services = ON, .gateway = "n2/1.1.1.1:15008");
    WL(w.t, .name = "e", .network = "n1", .services = ON, .hostname = "e.example");
    WL(w.t, .name = "f", .network = "n2", .services = ON, .ips = "10.0.0.9");
    world_open(&w);
    CU_ASSERT_STRING_EQUAL(reachable(&w, NULL, NULL), "def");
    world_close(&w);
}

struct lines {
    struct pg_sb sb;
};

static void collect(void *arg, const char *line)
{
    struct lines *l = arg;
    pg_sb_c(&l->sb, line);
    pg_sb_ch(&l->sb, '\n');
}

static void test_trace(void)
{
    struct world w = {.t = kit_table()};
    struct lines l;
    char avoid[] = "d";
    SOURCE(w.t);
    SV(w.t, .name = "s", .hostname = "s", .ports = "80:0", .scopes = "NETWORK", .mode = XDS_LB_FAILOVER);
    WL(w.t, .name = "a", .network = "n1", .ips = "10.0.0.1", .services = "ns1/s=80:1", .unhealthy = true);
    WL(w.t, .name = "b", .network = "n2", .services = "ns1/s=80:1");
    WL(w.t, .name = "c", .network = "n1", .ips = "10.0.0.3", .services = "ns1/s=81:1");
    WL(w.t, .name = "d", .network = "n1", .ips = "10.0.0.4", .services = "ns1/s=80:1");
    WL(w.t, .name = "e", .network = "n1", .ips = "10.0.0.5", .services = "ns1/s=80:1", .has_capacity = true);
    WL(w.t, .name = "f", .network = "n1", .ips = "10.0.0.6", .services = "ns1/s=80:1");
    WL(w.t, .name = "g", .network = "n2", .ips = "10.0.0.7", .services = "ns1/s=80:1");
    world_open(&w);
    pg_sb_init(&l.sb, 65536);
    struct choose_result r;
    choose_endpoint(&(struct choose_query){.service = w.v,
                                           .port = 80,
                                           .source = w.source,
                                           .avoid = avoid_letters,
                                           .avoid_arg = avoid,
                                           .trace = collect,
                                           .trace_arg = &l},
                    &r);
    CU_ASSERT_STRING_EQUAL(pg_sb_view(&l.sb).p,
                           "service ns1/s port 80: 7 endpoints, load balancing NETWORK FAILOVER\n"
                           "endpoint c1//Pod/ns1/a: left out, unhealthy\n"
                           "endpoint c1//Pod/ns1/b: left out, no address and no gateway\n"
                           "endpoint c1//Pod/ns1/c: left out, named port unknown at the endpoint\n"
                           "endpoint c1//Pod/ns1/d: rank 1, left out, failed lately\n"
                           "endpoint c1//Pod/ns1/e: left out, capacity 0\n"
                           "endpoint c1//Pod/ns1/f: rank 1, port 1, weight 1\n"
                           "endpoint c1//Pod/ns1/g: rank 0, left out, others rank 1\n"
                           "chosen: c1//Pod/ns1/f\n");
    pg_sb_fini(&l.sb);
    world_close(&w);
}

/* --- against a model ------------------------------------------------------------------------------------ */

struct facts {
    bool healthy, avoided, same[3]; /* network, region, zone */
    uint32_t capacity;
    bool port;
};

/* The rule as a person would say it: -1 unusable, else the rank. */
static int model_rank(const struct facts *f, bool allow_all, enum xds_lb_mode mode)
{
    if ((!f->healthy && !allow_all) || f->capacity == 0 || !f->port) {
        return -1;
    }
    if (mode == XDS_LB_UNSPECIFIED) {
        return 0;
    }
    if (mode == XDS_LB_STRICT) {
        return f->same[0] && f->same[1] && f->same[2] ? 0 : -1;
    }
    int leading = !f->same[1] ? 0 : !f->same[2] ? 1 : 2;
    return f->same[0] ? 100 + leading : leading;
}

static bool avoid_by_facts(void *arg, const peering_workload *w)
{
    const struct facts *f = arg;
    return f[peering_workload_name(w).ptr[0] - 'a'].avoided;
}

static void random_case(struct pg_rng *rng)
{
    static const enum xds_lb_mode modes[] = {XDS_LB_UNSPECIFIED, XDS_LB_STRICT, XDS_LB_FAILOVER};
    struct facts f[6];
    struct world w = {.t = kit_table()};
    enum xds_lb_mode mode = modes[pg_rng_below(rng, 3)];
    bool allow_all = pg_rng_below(rng, 4) == 0;
    int best[2] = {-1, -1}; /* not avoided, all */
    size_t usable = 0;
    SOURCE(w.t);
    SV(w.t, .name = "s", .hostname = "s", .ports = "80:0", .scopes = "NETWORK,REGION,ZONE", .mode = mode,
       .allow_all = allow_all);
    for (size_t i = 0; i < 6; i++) {
        char name[2] = {(char)('a' + i), '\0'};
        char ip[16];
        f[i] = (struct facts){.healthy = pg_rng_below(rng, 3) != 0,
                              .avoided = pg_rng_below(rng, 3) == 0,
                              .capacity = (uint32_t)pg_rng_below(rng, 4),
                              .port = pg_rng_below(rng, 5) != 0};
        for (size_t k = 0; k < 3; k++) {
            f[i].same[k] = pg_rng_below(rng, 2) == 0;
        }
        snprintf(ip, sizeof(ip), "10.0.0.%zu", i);
        WL(w.t, .name = name, .ips = ip, .unhealthy = !f[i].healthy, .has_capacity = true,
           .capacity = f[i].capacity, .network = f[i].same[0] ? "n1" : "n2",
           .region = f[i].same[1] ? "r1" : "r2", .zone = f[i].same[2] ? "z1" : "z2",
           .services = f[i].port ? "ns1/s=80:8080" : "ns1/s=81:8080");
        int rank = model_rank(&f[i], allow_all, mode);
        usable += rank >= 0;
        best[1] = rank > best[1] ? rank : best[1];
        best[0] = !f[i].avoided && rank > best[0] ? rank : best[0];
    }
    world_open(&w);
    char expect[8];
    size_t n = 0;
    bool avoiding = best[0] >= 0;
    for (size_t i = 0; i < 6; i++) {
        int rank = model_rank(&f[i], allow_all, mode);
        if (rank >= 0 && rank == (avoiding ? best[0] : best[1]) && !(avoiding && f[i].avoided)) {
            expect[n++] = (char)('a' + i);
        }
    }
    expect[n] = '\0';
    CU_ASSERT_STRING_EQUAL(reachable(&w, avoid_by_facts, f), expect);
    CU_ASSERT_EQUAL(pick(&w, 1, avoid_by_facts, f).candidates, usable);
    world_close(&w);
}

static void test_model(void)
{
    struct pg_rng rng;
    pg_rng_seed(&rng, 42);
    for (int i = 0; i < 400; i++) {
        random_case(&rng);
    }
}

TEST_MAIN("choose", {"modes and ranks", test_modes}, {"counts", test_counts},
          {"empty localities", test_empty_locality}, {"weights", test_weights}, {"health", test_health},
          {"ports", test_ports}, {"reachability", test_reachability}, {"trace", test_trace},
          {"random services", test_model})
