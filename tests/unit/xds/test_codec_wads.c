/* SPDX-License-Identifier: Apache-2.0 */
/* WADS codec: every field by its published number, everything that must end in "unparsable", malformed bytes,
 * failing memory. */
#include "xds/codec.h"

#include "wirebytes.h"

static struct pg_arena arena;
static struct pg_errtext err;

static int decode(struct pg_str bytes, struct xds_policy *out)
{
    err.text[0] = '\0';
    return xds_policy_decode(bytes, &arena, out, &err);
}

/* An Authorization "p" in "ns", WORKLOAD_SELECTOR, with one rule, one clause and the match built in `m`. */
static int decode_match(struct wb *m, struct xds_policy *out)
{
    struct wb a, b;
    wb_init(&a);
    wb_init(&b);
    wb_msg(&a, 2, m); /* Clause.matches */
    wb_msg(&b, 1, &a);
    wb_c(&a, 1, "p");
    wb_c(&a, 2, "ns");
    wb_uint(&a, 3, 2);
    wb_uint(&a, 4, 1);
    wb_msg(&a, 5, &b);
    wb_uint(&a, 6, 1);
    int r = decode(wb_view(&a), out);
    wb_fini(&a);
    wb_fini(&b);
    return r;
}

static void check_refused(struct wb *m, const char *why)
{
    struct xds_policy out;
    CU_ASSERT_EQUAL(decode_match(m, &out), PG_E_PARSE);
    CU_ASSERT(out.unparsable);
    CU_ASSERT(pg_str_eq_c(out.name, "p") && pg_str_eq_c(out.ns, "ns"));
    CU_ASSERT_EQUAL(out.scope, XDS_POLICY_SELECTOR);
    CU_ASSERT_EQUAL(out.n_rules, 0);
    CU_ASSERT(strstr(err.text, why) != NULL);
}

static void every_field(void)
{
    struct wb m, s;
    struct xds_policy out;
    wb_init(&m);
    wb_init(&s);
    pg_arena_init(&arena, 1u << 20);
    for (uint32_t i = 1; i <= 4; i++) {
        for (uint32_t kind = 1; kind <= 4; kind++) {
            wb_c(&s, kind, kind == 4 ? "" : "v");
            wb_msg(&m, i, &s);
        }
    }
    for (uint32_t i = 5; i <= 8; i++) {
        wb_bytes(&s, 1, PG_STR("\x0a\x01\x02\x03"));
        wb_uint(&s, 2, 10 + i);
        wb_msg(&m, i, &s);
    }
    wb_uint(&m, 9, 80);
    wb_bytes(&m, 9, PG_STR("\x51\xff\xff\x03")); /* packed: 81, 65535 */
    wb_uint(&m, 10, 9090);
    for (uint32_t i = 11; i <= 12; i++) {
        wb_c(&s, 1, "sa-ns");
        wb_c(&s, 2, "sa");
        wb_msg(&m, i, &s);
    }
    CU_ASSERT_EQUAL_FATAL(decode_match(&m, &out), 0);
    CU_ASSERT(pg_str_eq_c(out.name, "p") && pg_str_eq_c(out.ns, "ns"));
    CU_ASSERT_EQUAL(out.scope, XDS_POLICY_SELECTOR);
    CU_ASSERT_EQUAL(out.action, XDS_POLICY_DENY);
    CU_ASSERT(out.dry_run);
    CU_ASSERT_FALSE(out.unparsable);
    CU_ASSERT_EQUAL_FATAL(out.n_rules, 1);
    CU_ASSERT_EQUAL_FATAL(out.rules[0].n_clauses, 1);
    CU_ASSERT_EQUAL_FATAL(out.rules[0].clauses[0].n_matches, 1);
    const struct xds_match *x = &out.rules[0].clauses[0].matches[0];
    static const enum xds_match_kind kinds[] = {XDS_MATCH_EXACT, XDS_MATCH_PREFIX, XDS_MATCH_SUFFIX,
                                                XDS_MATCH_PRESENCE};
    for (size_t i = 0; i < 2; i++) {
        CU_ASSERT_EQUAL_FATAL(x->n_namespaces[i], 4);
        CU_ASSERT_EQUAL_FATAL(x->n_principals[i], 4);
        for (size_t k = 0; k < 4; k++) {
            CU_ASSERT_EQUAL(x->namespaces[i][k].kind, kinds[k]);
            CU_ASSERT_EQUAL(x->principals[i][k].kind, kinds[k]);
            CU_ASSERT(k == 3 || pg_str_eq_c(x->principals[i][k].value, "v"));
        }
        CU_ASSERT_EQUAL_FATAL(x->n_source_ips[i], 1);
        CU_ASSERT_EQUAL(x->source_ips[i][0].bits, 15 + i);
        CU_ASSERT_EQUAL_FATAL(x->n_destination_ips[i], 1);
        CU_ASSERT_EQUAL(x->destination_ips[i][0].bits, 17 + i);
        CU_ASSERT_EQUAL_FATAL(x->n_service_accounts[i], 1);
        CU_ASSERT(pg_str_eq_c(x->service_accounts[i][0].ns, "sa-ns"));
        CU_ASSERT(pg_str_eq_c(x->service_accounts[i][0].sa, "sa"));
    }
    CU_ASSERT_EQUAL_FATAL(x->n_ports[0], 3);
    CU_ASSERT_EQUAL(x->ports[0][2], 65535);
    CU_ASSERT_EQUAL_FATAL(x->n_ports[1], 1);
    CU_ASSERT_EQUAL(x->ports[1][0], 9090);

    struct pg_sb a, b;
    pg_sb_init(&a, 65536);
    pg_sb_init(&b, 65536);
    CU_ASSERT_EQUAL_FATAL(xds_policy_encode(&out, &a), 0);
    CU_ASSERT_EQUAL_FATAL(decode(pg_sb_view(&a), &out), 0);
    CU_ASSERT_EQUAL_FATAL(xds_policy_encode(&out, &b), 0);
    CU_ASSERT(pg_str_eq(pg_sb_view(&a), pg_sb_view(&b)));
    CU_ASSERT_EQUAL(out.rules[0].clauses[0].matches[0].n_ports[0], 3);
    pg_sb_fini(&a);
    pg_sb_fini(&b);
    pg_arena_fini(&arena);
    wb_fini(&m);
    wb_fini(&s);
}

static void fails_closed(void)
{
    struct wb m, s;
    wb_init(&m);
    wb_init(&s);
    pg_arena_init(&arena, 1u << 20);
    wb_msg(&m, 1, &s);
    check_refused(&m, "without a kind");
    wb_c(&s, 1, "ok");
    wb_c(&s, 9, "future");
    wb_msg(&m, 3, &s);
    check_refused(&m, "unknown field 9 of StringMatch");
    wb_bytes(&s, 1, PG_STR("a\0b"));
    wb_msg(&m, 3, &s);
    check_refused(&m, "UTF-8");
    wb_uint(&m, 9, 65616);
    check_refused(&m, "port 65616 out of range");
    wb_uint(&m, 14, 1);
    check_refused(&m, "unknown field 14 of Match");
    wb_c(&m, 13, "");
    check_refused(&m, "extension");
    wb_bytes(&s, 1, PG_STR("abc"));
    wb_msg(&m, 5, &s);
    check_refused(&m, "IP address of 3 bytes");
    wb_bytes(&s, 1, PG_STR("\x0a\0\0\0"));
    wb_uint(&s, 2, 33);
    wb_msg(&m, 8, &s);
    check_refused(&m, "prefix length 33");
    wb_c(&s, 3, "x");
    wb_msg(&m, 11, &s);
    check_refused(&m, "unknown field 3 of ServiceAccountMatch");
    pg_arena_fini(&arena);
    wb_fini(&m);
    wb_fini(&s);
}

static void enums_and_torn(void)
{
    struct wb w;
    struct xds_policy out;
    wb_init(&w);
    pg_arena_init(&arena, 1u << 20);
    wb_c(&w, 1, "p");
    wb_c(&w, 2, "ns");
    wb_uint(&w, 3, 1);
    size_t mark = w.sb.len;
    wb_uint(&w, 4, 2); /* an action we do not know */
    CU_ASSERT_EQUAL(decode(wb_view(&w), &out), PG_E_PARSE);
    CU_ASSERT(out.unparsable && out.scope == XDS_POLICY_NAMESPACE);
    w.sb.len = mark;
    wb_uint(&w, 3, 7); /* a scope we do not know */
    CU_ASSERT_EQUAL(decode(wb_view(&w), &out), PG_E_PARSE);
    CU_ASSERT(out.unparsable && pg_str_eq_c(out.ns, "ns"));
    w.sb.len = mark;
    wb_uint(&w, 8, 1); /* unknown at the top: let pass */
    wb_c(&w, 7, "");
    CU_ASSERT_EQUAL(decode(wb_view(&w), &out), 0);
    CU_ASSERT_FALSE(out.unparsable);
    w.sb.len = mark;
    pg_sb_add(&w.sb, "\x2a\x7f", 2); /* torn inside the rules: the head is still known */
    CU_ASSERT_EQUAL(decode(wb_view(&w), &out), PG_E_PARSE);
    CU_ASSERT(out.unparsable && pg_str_eq_c(out.name, "p"));
    pg_arena_fini(&arena);
    wb_fini(&w);
}

/* An empty match costs two bytes on the wire and over two hundred in memory. */
static void budget(void)
{
    struct wb a, b, w;
    struct xds_policy out;
    wb_init(&a);
    wb_init(&b);
    wb_init(&w);
    pg_arena_init(&arena, 256u << 20);
    while (a.sb.len < 1000000) {
        wb_bytes(&a, 2, PG_STR_NONE);
    }
    wb_msg(&b, 1, &a);
    wb_c(&w, 1, "p");
    wb_msg(&w, 5, &b);
    CU_ASSERT_EQUAL(decode(wb_view(&w), &out), PG_E_LIMIT);
    CU_ASSERT(out.unparsable && pg_str_eq_c(out.name, "p"));
    CU_ASSERT(strstr(err.text, "memory") != NULL);
    pg_arena_fini(&arena);
    wb_fini(&a);
    wb_fini(&b);
    wb_fini(&w);
}

static struct xds_policy sample(void)
{
    static struct xds_string_match names[] = {{XDS_MATCH_PREFIX, {"a", 1}}, {XDS_MATCH_PRESENCE, {NULL, 0}}};
    static struct pg_prefix ips[] = {{{4, {10}}, 8}};
    static uint16_t ports[] = {80, 65535};
    static struct xds_sa_match accounts[] = {{{"n", 1}, {"s", 1}}};
    static struct xds_match match = {.namespaces = {names, names},
                                     .n_namespaces = {2, 1},
                                     .source_ips = {ips, NULL},
                                     .n_source_ips = {1, 0},
                                     .ports = {ports, ports},
                                     .n_ports = {2, 1},
                                     .service_accounts = {accounts, NULL},
                                     .n_service_accounts = {1, 0}};
    static struct xds_clause clause = {&match, 1};
    static struct xds_rule rules[] = {{&clause, 1}, {NULL, 0}};
    return (struct xds_policy){
        .name = PG_STR("p"), .ns = PG_STR("ns"), .scope = XDS_POLICY_NAMESPACE, .rules = rules, .n_rules = 2};
}

static int decode_any(struct pg_str bytes)
{
    struct pg_arena a;
    struct xds_policy out = {0};
    pg_arena_init(&a, 1u << 20);
    int r = xds_policy_decode(bytes, &a, &out, &err);
    CU_ASSERT_EQUAL(out.unparsable, r < 0);
    pg_arena_fini(&a);
    return r;
}

static void malformed(void)
{
    struct xds_policy p = sample();
    struct pg_sb sb;
    pg_sb_init(&sb, 4096);
    CU_ASSERT_EQUAL_FATAL(xds_policy_encode(&p, &sb), 0);
    CU_ASSERT_EQUAL(decode_any(pg_sb_view(&sb)), 0);
    wb_sweep(pg_sb_view(&sb), decode_any);
    pg_sb_fini(&sb);
}

static int alloc_scenario(void *arg)
{
    return decode_any(pg_sb_view(arg));
}

static void failing_memory(void)
{
    struct xds_policy p = sample();
    struct pg_sb sb;
    pg_sb_init(&sb, 4096);
    CU_ASSERT_EQUAL_FATAL(xds_policy_encode(&p, &sb), 0);
    CU_ASSERT(test_alloc_sweep(alloc_scenario, &sb) >= 2);
    pg_sb_fini(&sb);
}

TEST_MAIN("codec_wads", {"every field", every_field}, {"fails closed", fails_closed},
          {"enums and torn bytes", enums_and_torn}, {"budget", budget}, {"malformed", malformed},
          {"failing memory", failing_memory})
