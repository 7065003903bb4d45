/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Authorization: each field against plaintext, the client and another client; how levels combine; the order
 * of DENY and ALLOW; what is missing, not understood or empty; and 10,000 random policies against a slow and
 * obvious model.
 */
#include "kit.h"

#include <peering/policy.h>

#include "core/rng.h"

#define CLIENT "spiffe://td1/ns/ns1/sa/sa1"
#define OTHER "spiffe://td2/ns/ns2/sa/sa2"

static struct xds_policy policy(const char *name, enum xds_policy_action action, struct xds_rule *rules,
                                size_t n)
{
    return (struct xds_policy){.name = pg_str_c(name),
                               .ns = PG_STR("ns1"),
                               .scope = XDS_POLICY_NAMESPACE,
                               .action = action,
                               .rules = rules,
                               .n_rules = n};
}

static peering_connection conn(const char *identity)
{
    return (peering_connection){.identity = ps(identity),
                                .src_ip = kit_ip("10.0.0.9"),
                                .dst_ip = kit_ip("10.0.0.1"),
                                .dst_port = 8080};
}

static enum peering_verdict ask(peering_table *t, const peering_connection *c, bool lenient,
                                peering_text *why)
{
    peering_snapshot *s = kit_snapshot(t);
    const peering_workload *w = peering_find_workload(s, ps("c1//Pod/ns1/server"));
    PG_BUG_ON(w == NULL);
    enum peering_verdict v = peering_policy_check(s, w, c, lenient, why);
    peering_snapshot_unref(s);
    return v;
}

static peering_table *table(const char *policies)
{
    peering_table *t = kit_table();
    WL(t, .name = "server", .ips = "10.0.0.1", .policies = policies);
    return t;
}

/* Does an ALLOW policy with this one match let the connection in? */
static bool allows(const struct xds_match *m, const char *identity)
{
    struct xds_match copy = *m;
    struct xds_clause clause = {.matches = &copy, .n_matches = 1};
    struct xds_rule rule = {.clauses = &clause, .n_clauses = 1};
    struct xds_policy p = policy("p", XDS_POLICY_ALLOW, &rule, 1);
    peering_table *t = table(NULL);
    peering_connection c = conn(identity);
    CU_ASSERT_EQUAL_FATAL(kit_policy(t, &p), 0);
    bool in = ask(t, &c, false, NULL) == PEERING_ALLOW;
    peering_table_free(t);
    return in;
}

struct field_row {
    struct xds_match m;
    bool plain, client, other;
};

static void test_strings(void)
{
    static const struct {
        enum xds_match_kind kind;
        const char *value;
        bool plain, client, other;
    } principals[] = {
        {XDS_MATCH_EXACT, "td1/ns/ns1/sa/sa1", false, true, false},
        {XDS_MATCH_EXACT, "spiffe://td1/ns/ns1/sa/sa1", false, false, false},
        {XDS_MATCH_EXACT, "TD1/ns/ns1/sa/sa1", false, false, false},
        {XDS_MATCH_PREFIX, "td1/", false, true, false},
        {XDS_MATCH_PREFIX, "td", false, true, true},
        {XDS_MATCH_PREFIX, "", false, true, true},
        {XDS_MATCH_SUFFIX, "/sa2", false, false, true},
        {XDS_MATCH_SUFFIX, "sa", false, false, false},
        {XDS_MATCH_SUFFIX, "", false, true, true},
        {XDS_MATCH_PRESENCE, "", false, true, true},
        {XDS_MATCH_PREFIX, "td1/ns/ns1/sa/sa1/longer", false, false, false},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(principals); i++) {
        struct xds_string_match s = {.kind = principals[i].kind, .value = pg_str_c(principals[i].value)};
        for (size_t negative = 0; negative < 2; negative++) {
            struct xds_match m = {.n_namespaces = {0}};
            m.principals[negative] = &s;
            m.n_principals[negative] = 1;
            CU_ASSERT_EQUAL(allows(&m, ""), principals[i].plain != (negative == 1));
            CU_ASSERT_EQUAL(allows(&m, CLIENT), principals[i].client != (negative == 1));
            CU_ASSERT_EQUAL(allows(&m, OTHER), principals[i].other != (negative == 1));
        }
    }
    /* not SPIFFE identities of a workload: as if there were none */
    static const char *const odd[] = {
        "td1/ns/ns1/sa/sa1",      "https://td1/ns/ns1/sa/sa1",    "spiffe://td1",
        "spiffe://td1/ns/ns1/sa", "spiffe://td1/ns/ns1/sa/sa1/x", "spiffe://td1/xx/ns1/sa/sa1"};
    struct xds_string_match any = {.kind = XDS_MATCH_PRESENCE};
    struct xds_match m = {.principals = {&any, NULL}, .n_principals = {1, 0}};
    for (size_t i = 0; i < PG_ARRAY_LEN(odd); i++) {
        CU_ASSERT_FALSE(allows(&m, odd[i]));
    }
}

static void check_field(struct field_row (*make)(size_t negative))
{
    for (size_t negative = 0; negative < 2; negative++) {
        struct field_row row = make(negative);
        bool flip = negative == 1;
        CU_ASSERT_EQUAL(allows(&row.m, ""), row.plain != flip);
        CU_ASSERT_EQUAL(allows(&row.m, CLIENT), row.client != flip);
        CU_ASSERT_EQUAL(allows(&row.m, OTHER), row.other != flip);
    }
}

static struct field_row by_namespace(size_t negative)
{
    static struct xds_string_match s = {.kind = XDS_MATCH_EXACT, .value = {"ns1", 3}};
    struct field_row r = {.client = true};
    r.m.namespaces[negative] = &s;
    r.m.n_namespaces[negative] = 1;
    return r;
}
static struct field_row by_account(size_t negative)
{
    static struct xds_sa_match s[2] = {{.ns = {"ns1", 3}, .sa = {"sa1", 3}},
                                       {.ns = {"nsX", 3}, .sa = {"sa2", 3}}};
    struct field_row r = {.client = true};
    r.m.service_accounts[negative] = s;
    r.m.n_service_accounts[negative] = 2;
    return r;
}
static struct field_row by_empty_account(size_t negative)
{
    static struct xds_sa_match s; /* no account is not the empty account */
    struct field_row r = {.plain = false};
    r.m.service_accounts[negative] = &s;
    r.m.n_service_accounts[negative] = 1;
    return r;
}
static struct field_row by_source(size_t negative)
{
    static struct pg_prefix p = {.ip = {.len = 4, .b = {10, 0, 0, 0}}, .bits = 24};
    struct field_row r = {.plain = true, .client = true, .other = true};
    r.m.source_ips[negative] = &p;
    r.m.n_source_ips[negative] = 1;
    return r;
}
static struct field_row by_other_source(size_t negative)
{
    static struct pg_prefix p[2] = {{.ip = {.len = 4, .b = {10, 0, 1, 0}}, .bits = 24},
                                    {.ip = {.len = 16, .b = {0x20}}, .bits = 0}};
    struct field_row r = {.plain = false};
    r.m.source_ips[negative] = p;
    r.m.n_source_ips[negative] = 2;
    return r;
}
static struct field_row by_destination(size_t negative)
{
    static struct pg_prefix p = {.ip = {.len = 4, .b = {10, 0, 0, 1}}, .bits = 32};
    struct field_row r = {.plain = true, .client = true, .other = true};
    r.m.destination_ips[negative] = &p;
    r.m.n_destination_ips[negative] = 1;
    return r;
}
static struct field_row by_port(size_t negative)
{
    static uint16_t ports[2] = {80, 8080};
    struct field_row r = {.plain = true, .client = true, .other = true};
    r.m.ports[negative] = ports;
    r.m.n_ports[negative] = 2;
    return r;
}
static struct field_row by_other_port(size_t negative)
{
    static uint16_t port = 80;
    struct field_row r = {.plain = false};
    r.m.ports[negative] = &port;
    r.m.n_ports[negative] = 1;
    return r;
}

static void test_fields(void)
{
    check_field(by_namespace);
    check_field(by_account);
    check_field(by_empty_account);
    check_field(by_source);
    check_field(by_other_source);
    check_field(by_destination);
    check_field(by_port);
    check_field(by_other_port);
}

/* Fields are ANDed, values ORed, matches ORed, clauses ANDed, rules ORed; what empty levels mean. */
static void test_levels(void)
{
    uint16_t yes_port = 8080, no_port = 1;
    struct xds_match yes = {.ports = {&yes_port, NULL}, .n_ports = {1, 0}};
    struct xds_match no = {.ports = {&no_port, NULL}, .n_ports = {1, 0}};
    struct xds_match empty = {.n_ports = {0}};
    struct xds_match y[] = {yes}, n[] = {no}, ny[] = {no, yes}, e[] = {empty}, ey[] = {empty, yes};
    struct xds_clause cy = {y, 1}, cn = {n, 1}, cny = {ny, 2}, ce = {e, 1}, cey = {ey, 2}, c0 = {NULL, 0};
    static const bool T = true, F = false;
    struct {
        struct xds_clause clauses[2][2];
        size_t n_clauses[2], n_rules;
        bool allow; /* an ALLOW lets in */
        bool deny;  /* a DENY keeps out */
        bool deny_lenient;
    } rows[] = {
        {{{cy}}, {1}, 1, T, T, T},
        {{{cn}}, {1}, 1, F, F, F},
        {{{cny}}, {1}, 1, T, T, T},
        {{{cy, cn}}, {2}, 1, F, F, F},
        {{{cy, cy}}, {2}, 1, T, T, T},
        {{{cn}, {cy}}, {1, 1}, 2, T, T, T},
        {{{cn}, {cn}}, {1, 1}, 2, F, F, F},
        {{{cy}}, {0}, 0, F, F, F},
        {{{c0}}, {1}, 1, T, T, T},
        {{{cy}}, {0}, 1, T, T, T},
        {{{cn}, {cn}}, {1, 0}, 2, T, T, T},
        {{{c0, cn}}, {2}, 1, F, F, F},
        /* an empty match: conditions of layer 7 were left out. Fail closed: a DENY applies, an ALLOW does not
         */
        {{{ce}}, {1}, 1, F, T, F},
        {{{cey}}, {1}, 1, T, T, T},
        {{{ce, cn}}, {2}, 1, F, F, F},
        {{{ce, cy}}, {2}, 1, F, T, F},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(rows); i++) {
        struct xds_rule rules[2] = {{rows[i].clauses[0], rows[i].n_clauses[0]},
                                    {rows[i].clauses[1], rows[i].n_clauses[1]}};
        for (int deny = 0; deny < 2; deny++) {
            struct xds_policy p =
                policy("p", deny ? XDS_POLICY_DENY : XDS_POLICY_ALLOW, rules, rows[i].n_rules);
            peering_table *t = table(NULL);
            peering_connection c = conn(CLIENT);
            CU_ASSERT_EQUAL_FATAL(kit_policy(t, &p), 0);
            bool in = ask(t, &c, false, NULL) == PEERING_ALLOW;
            bool in_lenient = ask(t, &c, true, NULL) == PEERING_ALLOW;
            CU_ASSERT_EQUAL(in, deny ? !rows[i].deny : rows[i].allow);
            CU_ASSERT_EQUAL(in_lenient, deny ? !rows[i].deny_lenient : rows[i].allow);
            peering_table_free(t);
        }
    }
}

static void put_simple(peering_table *t, const char *ns, const char *name, enum xds_policy_scope scope,
                       enum xds_policy_action action, bool matches, bool dry_run)
{
    uint16_t port = matches ? 8080 : 1;
    struct xds_match m = {.ports = {&port, NULL}, .n_ports = {1, 0}};
    struct xds_clause clause = {&m, 1};
    struct xds_rule rule = {&clause, 1};
    struct xds_policy p = policy(name, action, &rule, 1);
    p.ns = pg_str_c(ns);
    p.scope = scope;
    p.dry_run = dry_run;
    CU_ASSERT_EQUAL_FATAL(kit_policy(t, &p), 0);
}

static void test_order(void)
{
    peering_table *t = table("ns1/sel,other/sel");
    peering_connection c = conn(CLIENT);
    peering_text why = {""};
    put_simple(t, "ns1", "sel", XDS_POLICY_SELECTOR, XDS_POLICY_ALLOW, true, true);
    put_simple(t, "other", "sel", XDS_POLICY_SELECTOR, XDS_POLICY_ALLOW, false, true);
    CU_ASSERT_EQUAL(ask(t, &c, false, &why), PEERING_ALLOW); /* only dry runs: nothing in force */
    put_simple(t, "ns2", "x", XDS_POLICY_NAMESPACE, XDS_POLICY_DENY, true, false);
    put_simple(t, "ns1", "unlisted", XDS_POLICY_SELECTOR, XDS_POLICY_DENY, true, false);
    CU_ASSERT_EQUAL(ask(t, &c, false, &why), PEERING_ALLOW); /* of another namespace; not listed */
    put_simple(t, "other", "sel", XDS_POLICY_SELECTOR, XDS_POLICY_ALLOW, false, false);
    CU_ASSERT_EQUAL(ask(t, &c, false, &why), PEERING_DENY);
    CU_ASSERT_STRING_EQUAL(why.text, "allow policies exist, but none allowed");
    put_simple(t, "istio-system", "global", XDS_POLICY_GLOBAL, XDS_POLICY_ALLOW, true, false);
    CU_ASSERT_EQUAL(ask(t, &c, false, &why), PEERING_ALLOW);
    put_simple(t, "ns1", "dry", XDS_POLICY_NAMESPACE, XDS_POLICY_DENY, true, true);
    CU_ASSERT_EQUAL(ask(t, &c, false, &why), PEERING_ALLOW);
    put_simple(t, "ns1", "no", XDS_POLICY_NAMESPACE, XDS_POLICY_DENY, true, false);
    CU_ASSERT_EQUAL(ask(t, &c, false, &why), PEERING_DENY);
    CU_ASSERT_STRING_EQUAL(why.text, "explicitly denied by: ns1/no");
    /* a changed scope is re-indexed */
    put_simple(t, "ns1", "no", XDS_POLICY_SELECTOR, XDS_POLICY_DENY, true, false);
    CU_ASSERT_EQUAL(ask(t, &c, false, &why), PEERING_ALLOW);
    put_simple(t, "ns1", "no", XDS_POLICY_GLOBAL, XDS_POLICY_DENY, true, false);
    CU_ASSERT_EQUAL(ask(t, &c, false, NULL), PEERING_DENY);
    CU_ASSERT_EQUAL(peering_table_remove(t, PEERING_KIND_AUTHORIZATION, ps("ns1/no")), 0);
    CU_ASSERT_EQUAL(ask(t, &c, false, NULL), PEERING_ALLOW);
    peering_table_free(t);
}

static void test_missing(void)
{
    peering_table *t = table("ns1/late,ns1/later");
    peering_connection c = conn(CLIENT);
    peering_text why = {""};
    CU_ASSERT_EQUAL(ask(t, &c, false, &why), PEERING_POLICY_MISSING);
    CU_ASSERT_STRING_EQUAL(why.text, "policy has not arrived: ns1/late");
    CU_ASSERT_EQUAL(ask(t, &c, true, &why), PEERING_ALLOW);
    put_simple(t, "ns1", "late", XDS_POLICY_SELECTOR, XDS_POLICY_ALLOW, true, false);
    CU_ASSERT_EQUAL(ask(t, &c, false, &why), PEERING_POLICY_MISSING);
    /* what denies anyway need not be waited for */
    put_simple(t, "ns1", "deny", XDS_POLICY_NAMESPACE, XDS_POLICY_DENY, true, false);
    CU_ASSERT_EQUAL(ask(t, &c, false, &why), PEERING_DENY);
    put_simple(t, "ns1", "deny", XDS_POLICY_NAMESPACE, XDS_POLICY_DENY, false, false);
    put_simple(t, "ns1", "later", XDS_POLICY_SELECTOR, XDS_POLICY_DENY, false, false);
    CU_ASSERT_EQUAL(ask(t, &c, false, &why), PEERING_ALLOW);
    peering_table_free(t);
}

/* Not understood: denies where it applies; lenient: as if it were not there. */
static void test_unparsable(void)
{
    static const struct {
        const char *bytes; /* name, namespace "ns1" or "ns2", scope, then a rule that is garbage */
        size_t len;
        const char *name, *listed;
        bool denies;
    } rows[] = {
        {"\x0a\x01p\x12\x03ns1\x18\x01\x2a\x01\xff", 13, "ns1/p", NULL, true},
        {"\x0a\x01p\x12\x03ns2\x18\x01\x2a\x01\xff", 13, "ns2/p", NULL, false},
        {"\x0a\x01p\x12\x03ns1\x18\x02\x2a\x01\xff", 13, "ns1/p", NULL, false},
        {"\x0a\x01p\x12\x03ns1\x18\x02\x2a\x01\xff", 13, "ns1/p", "ns1/p", true},
        {"\x0a\x01p\x12\x03ns2\x2a\x01\xff", 11, "ns2/p", NULL, true}, /* global */
        {"\xff", 1, "ns2/p", NULL, true},                              /* nothing known: everywhere */
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(rows); i++) {
        peering_table *t = table(rows[i].listed);
        peering_connection c = conn(CLIENT);
        peering_text why = {""};
        char want[64];
        CU_ASSERT_EQUAL(peering_table_put(t, PEERING_KIND_AUTHORIZATION, ps(rows[i].name), rows[i].bytes,
                                          rows[i].len, &why),
                        PEERING_ERR_PARSE);
        CU_ASSERT_EQUAL(ask(t, &c, false, &why), rows[i].denies ? PEERING_DENY : PEERING_ALLOW);
        snprintf(want, sizeof(want), "explicitly denied by: %s (not understood)", rows[i].name);
        CU_ASSERT(!rows[i].denies || strcmp(why.text, want) == 0);
        CU_ASSERT_EQUAL(ask(t, &c, true, NULL), PEERING_ALLOW);
        CU_ASSERT_EQUAL(peering_table_remove(t, PEERING_KIND_AUTHORIZATION, ps(rows[i].name)), 0);
        peering_table_free(t);
    }
}

/* --- random policies against a model -------------------------------------------------------------------- */

/* The model draws conditions as yes-or-no answers first and only then finds values that give them. */
struct plan {
    int fields[6]
              [2]; /* per field and sign: 0 absent, 1 values that do not match, 2 values of which one does */
};

#define PLAN_MATCHES 3
#define PLAN_CLAUSES 3
#define PLAN_RULES 3

static struct plan random_plan(struct pg_rng *rng)
{
    struct plan p = {{{0}}};
    if (pg_rng_below(rng, 12) == 0) {
        return p; /* empty */
    }
    for (size_t f = 0; f < 6; f++) {
        for (size_t sign = 0; sign < 2; sign++) {
            int draw = (int)pg_rng_below(rng, 10);
            p.fields[f][sign] = sign == 0 ? (draw < 6   ? 0
                                             : draw < 7 ? 1
                                                        : 2)
                                          : (draw < 7   ? 0
                                             : draw < 9 ? 1
                                                        : 2);
        }
    }
    return p;
}

static bool plan_is_empty(const struct plan *p)
{
    int sum = 0;
    for (size_t f = 0; f < 6; f++) {
        sum += p->fields[f][0] + p->fields[f][1];
    }
    return sum == 0;
}

/* 0 no, 1 yes, 2 empty */
static int plan_answer(const struct plan *p)
{
    if (plan_is_empty(p)) {
        return 2;
    }
    for (size_t f = 0; f < 6; f++) {
        if (p->fields[f][0] == 1 || p->fields[f][1] == 2) {
            return 0;
        }
    }
    return 1;
}

struct storage {
    struct xds_match matches[PLAN_RULES][PLAN_CLAUSES][PLAN_MATCHES];
    struct xds_clause clauses[PLAN_RULES][PLAN_CLAUSES];
    struct xds_rule rules[PLAN_RULES];
};

static struct xds_string_match ns_values[2][2] = {
    {{XDS_MATCH_EXACT, {"nsX", 3}}, {XDS_MATCH_PREFIX, {"other", 5}}},
    {{XDS_MATCH_EXACT, {"nsX", 3}}, {XDS_MATCH_PREFIX, {"ns", 2}}}};
static struct xds_string_match principal_values[2][2] = {
    {{XDS_MATCH_SUFFIX, {"/saX", 4}}, {XDS_MATCH_EXACT, {"td1/ns/ns1/sa/sa", 16}}},
    {{XDS_MATCH_SUFFIX, {"/saX", 4}}, {XDS_MATCH_SUFFIX, {"/sa1", 4}}}};
static struct xds_sa_match account_values[2][2] = {{{{"ns1", 3}, {"saX", 3}}, {{"nsX", 3}, {"sa1", 3}}},
                                                   {{{"ns1", 3}, {"saX", 3}}, {{"ns1", 3}, {"sa1", 3}}}};
static struct pg_prefix source_values[2][2] = {{{{4, {10, 1, 0, 0}}, 16}, {{4, {10, 0, 0, 8}}, 32}},
                                               {{{4, {10, 1, 0, 0}}, 16}, {{4, {10, 0, 0, 8}}, 29}}};
static struct pg_prefix destination_values[2][2] = {{{{4, {10, 1, 0, 0}}, 16}, {{4, {10, 0, 0, 2}}, 32}},
                                                    {{{4, {10, 1, 0, 0}}, 16}, {{4, {10, 0, 0, 1}}, 32}}};
static uint16_t port_values[2][2] = {{80, 81}, {80, 8080}};

static void realise(const struct plan *p, struct xds_match *m)
{
    *m = (struct xds_match){.n_ports = {0}};
    for (size_t sign = 0; sign < 2; sign++) {
#define REALISE(index, member, count, values)                                                                \
    if (p->fields[index][sign] != 0) {                                                                       \
        m->member[sign] = (values)[p->fields[index][sign] - 1];                                              \
        m->count[sign] = 2;                                                                                  \
    }
        REALISE(0, namespaces, n_namespaces, ns_values)
        REALISE(1, principals, n_principals, principal_values)
        REALISE(2, service_accounts, n_service_accounts, account_values)
        REALISE(3, source_ips, n_source_ips, source_values)
        REALISE(4, destination_ips, n_destination_ips, destination_values)
        REALISE(5, ports, n_ports, port_values)
#undef REALISE
    }
}

/* Builds a random policy and says whether it matches: [0] strict, [1] lenient reading. */
static struct xds_policy random_policy(struct pg_rng *rng, struct storage *st, const char *name,
                                       bool expect[2])
{
    enum xds_policy_action action = pg_rng_below(rng, 2) == 0 ? XDS_POLICY_ALLOW : XDS_POLICY_DENY;
    size_t n_rules = (size_t)pg_rng_below(rng, PLAN_RULES + 1);
    expect[0] = expect[1] = false;
    for (size_t r = 0; r < n_rules; r++) {
        bool rule[2] = {true, true};
        st->rules[r] = (struct xds_rule){st->clauses[r], (size_t)pg_rng_below(rng, PLAN_CLAUSES + 1)};
        for (size_t c = 0; c < st->rules[r].n_clauses; c++) {
            size_t n = (size_t)pg_rng_below(rng, PLAN_MATCHES + 1);
            bool clause[2] = {n == 0, n == 0};
            st->clauses[r][c] = (struct xds_clause){st->matches[r][c], n};
            for (size_t m = 0; m < n; m++) {
                struct plan plan = random_plan(rng);
                int answer = plan_answer(&plan);
                realise(&plan, &st->matches[r][c][m]);
                clause[0] = clause[0] || answer == 1 || (answer == 2 && action == XDS_POLICY_DENY);
                clause[1] = clause[1] || answer == 1;
            }
            rule[0] = rule[0] && clause[0];
            rule[1] = rule[1] && clause[1];
        }
        expect[0] = expect[0] || rule[0];
        expect[1] = expect[1] || rule[1];
    }
    struct xds_policy p = policy(name, action, st->rules, n_rules);
    p.dry_run = pg_rng_below(rng, 8) == 0;
    return p;
}

static void random_round(struct pg_rng *rng, size_t verdicts[3])
{
    static struct storage st;
    static const char *const names[] = {"a", "b", "c", "d"};
    peering_table *t = table("ns1/c,ns1/d");
    peering_connection c = conn(CLIENT);
    size_t n = (size_t)pg_rng_below(rng, 5);
    bool denied[2] = {false, false}, has_allow = false, allowed[2] = {false, false};
    bool missing = n < 4;
    for (size_t i = 0; i < n; i++) {
        bool expect[2];
        struct xds_policy p = random_policy(rng, &st, names[i], expect);
        p.scope = i < 2 ? (i == 0 ? XDS_POLICY_GLOBAL : XDS_POLICY_NAMESPACE) : XDS_POLICY_SELECTOR;
        CU_ASSERT_EQUAL_FATAL(kit_policy(t, &p), 0);
        for (size_t k = 0; k < 2 && !p.dry_run; k++) {
            denied[k] = denied[k] || (p.action == XDS_POLICY_DENY && expect[k]);
            allowed[k] = allowed[k] || (p.action == XDS_POLICY_ALLOW && expect[k]);
        }
        has_allow = has_allow || (p.action == XDS_POLICY_ALLOW && !p.dry_run);
    }
    for (size_t k = 0; k < 2; k++) {
        enum peering_verdict want = denied[k]                  ? PEERING_DENY
                                    : missing && k == 0        ? PEERING_POLICY_MISSING
                                    : has_allow && !allowed[k] ? PEERING_DENY
                                                               : PEERING_ALLOW;
        enum peering_verdict got = ask(t, &c, k == 1, NULL);
        CU_ASSERT_EQUAL_FATAL(got, want);
        verdicts[got]++;
    }
    peering_table_free(t);
}

static void test_random(void)
{
    struct pg_rng rng;
    size_t verdicts[3] = {0};
    pg_rng_seed(&rng, 7);
    for (int i = 0; i < 5000; i++) { /* two policies on average */
        random_round(&rng, verdicts);
    }
    CU_ASSERT(verdicts[PEERING_ALLOW] > 500 && verdicts[PEERING_DENY] > 500 &&
              verdicts[PEERING_POLICY_MISSING] > 500);
}

TEST_MAIN("policy", {"string matches", test_strings}, {"fields", test_fields}, {"levels", test_levels},
          {"order of actions", test_order}, {"missing policies", test_missing},
          {"policies not understood", test_unparsable}, {"random policies", test_random})
