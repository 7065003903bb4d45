/* SPDX-License-Identifier: Apache-2.0 */
/* Discovery envelope, certificate call, federation: fields by published number, slices, refusals, malformed
 * bytes, memory. */
#include "xds/codec.h"

#include "wirebytes.h"

static struct pg_arena arena;
static struct pg_errtext err;

static bool inside(struct pg_str s, struct pg_str of)
{
    return s.p >= of.p && s.p + s.len <= of.p + of.len;
}

/* Struct entry: key -> Value with the given arm. */
static void put_metadata(struct wb *md, const char *key, uint32_t arm, const char *value)
{
    struct wb e, v;
    wb_init(&e);
    wb_init(&v);
    wb_c(&e, 1, key);
    wb_c(&v, arm, value);
    wb_msg(&e, 2, &v);
    wb_msg(md, 1, &e);
    wb_fini(&e);
    wb_fini(&v);
}

static void request_fields(void)
{
    struct wb w, m, md;
    struct xds_delta_request q;
    wb_init(&w);
    wb_init(&m);
    wb_init(&md);
    pg_arena_init(&arena, 1u << 20);
    put_metadata(&md, "NAMESPACE", 3, "istio-system");
    put_metadata(&md, "LABELS", 5, ""); /* a nested struct is stepped over */
    put_metadata(&md, "EMPTY", 3, "");
    wb_c(&m, 1, "ztunnel~1.1.1.1~a.b~b.svc.cluster.local");
    wb_c(&m, 2, "cluster");
    wb_msg(&m, 3, &md);
    wb_c(&m, 5, "build");
    wb_msg(&w, 1, &m);
    wb_c(&w, 2, XDS_TYPE_ADDRESS);
    wb_c(&w, 3, "*");
    wb_c(&w, 3, "x");
    wb_c(&w, 4, "y");
    wb_c(&m, 1, "name");
    wb_c(&m, 2, "version");
    wb_msg(&w, 5, &m);
    wb_c(&w, 6, "nonce");
    wb_uint(&m, 1, 13);
    wb_c(&m, 2, "bad");
    wb_c(&m, 3, "");
    wb_msg(&w, 7, &m);
    struct pg_str bytes = wb_view(&w);
    CU_ASSERT_EQUAL_FATAL(xds_delta_request_decode(bytes, &arena, &q, &err), 0);
    CU_ASSERT(q.has_node);
    CU_ASSERT(pg_str_eq_c(q.node.id, "ztunnel~1.1.1.1~a.b~b.svc.cluster.local"));
    CU_ASSERT(inside(q.node.id, bytes)); /* nothing a peer sends is copied to be looked at */
    CU_ASSERT_EQUAL_FATAL(q.node.n_metadata, 2);
    CU_ASSERT(pg_str_eq_c(q.node.metadata[0].key, "NAMESPACE"));
    CU_ASSERT(pg_str_eq_c(q.node.metadata[0].value, "istio-system"));
    CU_ASSERT(pg_str_eq_c(q.node.metadata[1].key, "EMPTY"));
    CU_ASSERT(pg_str_eq_c(q.type_url, XDS_TYPE_ADDRESS));
    CU_ASSERT_EQUAL_FATAL(q.n_subscribe, 2);
    CU_ASSERT(pg_str_eq_c(q.subscribe[1], "x"));
    CU_ASSERT_EQUAL_FATAL(q.n_unsubscribe, 1);
    CU_ASSERT(pg_str_eq_c(q.unsubscribe[0], "y"));
    CU_ASSERT_EQUAL_FATAL(q.n_initial_versions, 1);
    CU_ASSERT(pg_str_eq_c(q.initial_versions[0].key, "name"));
    CU_ASSERT(pg_str_eq_c(q.initial_versions[0].value, "version"));
    CU_ASSERT(pg_str_eq_c(q.response_nonce, "nonce"));
    CU_ASSERT(q.has_error);
    CU_ASSERT_EQUAL(q.error_code, 13);
    CU_ASSERT(pg_str_eq_c(q.error_message, "bad"));
    pg_arena_fini(&arena);
    wb_fini(&w);
    wb_fini(&m);
    wb_fini(&md);
}

static void response_fields(void)
{
    struct wb w, m, any;
    struct xds_delta_response p;
    wb_init(&w);
    wb_init(&m);
    wb_init(&any);
    pg_arena_init(&arena, 1u << 20);
    wb_c(&w, 1, "sys");
    wb_c(&any, 1, XDS_TYPE_ADDRESS);
    wb_c(&any, 2, "payload");
    wb_c(&m, 1, "v1");
    wb_msg(&m, 2, &any);
    wb_c(&m, 3, "res");
    wb_c(&m, 4, "a1");
    wb_c(&m, 4, "a2");
    wb_c(&m, 6, "");
    wb_msg(&w, 2, &m);
    wb_c(&m, 3, "bare");
    wb_msg(&w, 2, &m);
    wb_c(&w, 4, XDS_TYPE_ADDRESS);
    wb_c(&w, 5, "n1");
    wb_c(&w, 6, "gone");
    wb_c(&w, 7, "");
    struct pg_str bytes = wb_view(&w);
    CU_ASSERT_EQUAL_FATAL(xds_delta_response_decode(bytes, &arena, &p, &err), 0);
    CU_ASSERT(pg_str_eq_c(p.system_version, "sys"));
    CU_ASSERT_EQUAL_FATAL(p.n_resources, 2);
    CU_ASSERT(pg_str_eq_c(p.resources[0].name, "res") && pg_str_eq_c(p.resources[0].version, "v1"));
    CU_ASSERT(p.resources[0].has_resource);
    CU_ASSERT(pg_str_eq_c(p.resources[0].type_url, XDS_TYPE_ADDRESS));
    CU_ASSERT(pg_str_eq_c(p.resources[0].bytes, "payload"));
    CU_ASSERT(inside(p.resources[0].bytes, bytes));
    CU_ASSERT_EQUAL_FATAL(p.resources[0].n_aliases, 2);
    CU_ASSERT(pg_str_eq_c(p.resources[0].aliases[1], "a2"));
    CU_ASSERT_FALSE(p.resources[1].has_resource);
    CU_ASSERT(pg_str_eq_c(p.type_url, XDS_TYPE_ADDRESS) && pg_str_eq_c(p.nonce, "n1"));
    CU_ASSERT_EQUAL_FATAL(p.n_removed, 1);
    CU_ASSERT(pg_str_eq_c(p.removed[0], "gone"));

    struct pg_sb sb;
    struct xds_delta_response again;
    pg_sb_init(&sb, 65536);
    CU_ASSERT_EQUAL_FATAL(xds_delta_response_encode(&p, &sb), 0);
    CU_ASSERT_EQUAL_FATAL(xds_delta_response_decode(pg_sb_view(&sb), &arena, &again, &err), 0);
    CU_ASSERT_EQUAL_FATAL(again.n_resources, 2);
    CU_ASSERT_EQUAL(again.resources[0].n_aliases, 2);
    CU_ASSERT(pg_str_eq_c(again.resources[0].bytes, "payload"));
    CU_ASSERT(pg_str_eq_c(again.resources[1].name, "bare"));
    CU_ASSERT_EQUAL(again.n_removed, 1);
    pg_sb_fini(&sb);
    pg_arena_fini(&arena);
    wb_fini(&w);
    wb_fini(&m);
    wb_fini(&any);
}

static int decode_request(struct pg_str bytes)
{
    struct pg_arena a;
    struct xds_delta_request q;
    pg_arena_init(&a, 1u << 20);
    int r = xds_delta_request_decode(bytes, &a, &q, &err);
    pg_arena_fini(&a);
    return r;
}

static int decode_response(struct pg_str bytes)
{
    struct pg_arena a;
    struct xds_delta_response p;
    pg_arena_init(&a, 1u << 20);
    int r = xds_delta_response_decode(bytes, &a, &p, &err);
    pg_arena_fini(&a);
    return r;
}

static struct xds_delta_request sample_request(void)
{
    static struct xds_kv md[] = {{{"B", 1}, {"2", 1}}, {{"A", 1}, {"", 0}}};
    static struct pg_str names[] = {{"x", 1}, {"y", 1}};
    static struct xds_kv versions[] = {{{"r2", 2}, {"v2", 2}}, {{"r1", 2}, {"", 0}}};
    return (struct xds_delta_request){.has_node = true,
                                      .node = {PG_STR("ztunnel~1.1.1.1~a.b~c"), md, 2},
                                      .type_url = PG_STR(XDS_TYPE_AUTHORIZATION),
                                      .subscribe = names,
                                      .n_subscribe = 2,
                                      .unsubscribe = names,
                                      .n_unsubscribe = 1,
                                      .initial_versions = versions,
                                      .n_initial_versions = 2,
                                      .response_nonce = PG_STR("n"),
                                      .has_error = true,
                                      .error_code = -1,
                                      .error_message = PG_STR("oh")};
}

static void request_round_trip(void)
{
    struct xds_delta_request in = sample_request();
    struct xds_delta_request out;
    struct pg_sb a, b;
    pg_sb_init(&a, 65536);
    pg_sb_init(&b, 65536);
    pg_arena_init(&arena, 1u << 20);
    CU_ASSERT_EQUAL_FATAL(xds_delta_request_encode(&in, &a), 0);
    CU_ASSERT_EQUAL_FATAL(xds_delta_request_decode(pg_sb_view(&a), &arena, &out, &err), 0);
    CU_ASSERT_EQUAL(out.error_code, -1);
    CU_ASSERT_EQUAL_FATAL(out.n_initial_versions, 2);
    CU_ASSERT(pg_str_eq_c(out.initial_versions[0].key, "r1")); /* maps in key order */
    CU_ASSERT_EQUAL_FATAL(out.node.n_metadata, 2);
    CU_ASSERT(pg_str_eq_c(out.node.metadata[0].key, "A"));
    CU_ASSERT_EQUAL_FATAL(xds_delta_request_encode(&out, &b), 0);
    CU_ASSERT(pg_str_eq(pg_sb_view(&a), pg_sb_view(&b)));
    wb_sweep(pg_sb_view(&a), decode_request);
    pg_sb_fini(&a);
    pg_sb_fini(&b);
    pg_arena_fini(&arena);
}

static void refusals(void)
{
    static const struct {
        struct pg_str bytes;
        bool response;
    } bad[] = {
        {{"\x18\x01", 2}, false},                                     /* a name as a number */
        {{"\x1a\x02\xff\xfe", 4}, false},                             /* not UTF-8 */
        {{"\x12\x01\0", 3}, false},                                   /* NUL */
        {{"\x08\x01", 2}, false},                                     /* node as a number */
        {{"\x10\x01", 2}, true},                                      /* resource as a number */
        {{"\x00\x01", 2}, true},                                      /* field 0 */
        {{"\x0b\x0c", 2}, true},                                      /* groups */
        {{"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11}, true}, /* length 2^64-1 */
        {{"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 11}, true}, /* varint over 64 bits */
        {{"\x12\x03\x12\x01\x08", 5}, true},                          /* torn Any */
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(bad); i++) {
        CU_ASSERT_EQUAL(bad[i].response ? decode_response(bad[i].bytes) : decode_request(bad[i].bytes),
                        PG_E_PARSE);
    }
    CU_ASSERT_EQUAL(decode_request(PG_STR("")), 0);
    CU_ASSERT_EQUAL(decode_response(PG_STR("")), 0);
}

static void bombs(void)
{
    /* Node.metadata nested a million deep, and as many empty resources as an arena of 1 MiB does not hold. */
    size_t depth = 1000000;
    struct wb w, m;
    wb_init(&w);
    wb_init(&m);
    char *deep = pg_malloc(depth);
    memset(deep, 0x0a, depth);
    wb_bytes(&m, 3, pg_str_n(deep, depth));
    wb_msg(&w, 1, &m);
    CU_ASSERT_EQUAL(decode_request(wb_view(&w)), PG_E_PARSE);
    for (size_t i = 0; i < depth; i += 2) {
        deep[i] = 0x12;
        deep[i + 1] = 0;
    }
    CU_ASSERT_EQUAL(decode_response(pg_str_n(deep, depth)), PG_E_NOMEM);
    pg_free(deep);
    wb_fini(&w);
    wb_fini(&m);
}

static void csr(void)
{
    struct wb w, md;
    struct xds_csr_request q;
    struct pg_str chain[XDS_CERT_CHAIN_MAX];
    size_t n = 0;
    wb_init(&w);
    wb_init(&md);
    pg_arena_init(&arena, 1u << 20);
    put_metadata(&md, "CertSigner", 3, "signer");
    put_metadata(&md, "ImpersonatedIdentity", 3, "spiffe://td/ns/a/sa/b");
    put_metadata(&md, "Other", 6, "");
    wb_c(&w, 1, "PEM");
    wb_uint(&w, 3, 86400);
    wb_msg(&w, 4, &md);
    CU_ASSERT_EQUAL_FATAL(xds_csr_request_decode(wb_view(&w), &arena, &q, &err), 0);
    CU_ASSERT(pg_str_eq_c(q.csr, "PEM"));
    CU_ASSERT_EQUAL(q.validity_s, 86400);
    CU_ASSERT(pg_str_eq_c(q.impersonated, "spiffe://td/ns/a/sa/b"));
    CU_ASSERT(pg_str_eq_c(q.cert_signer, "signer"));
    struct pg_sb sb;
    struct xds_csr_request again;
    pg_sb_init(&sb, 65536);
    q.validity_s = -5;
    CU_ASSERT_EQUAL_FATAL(xds_csr_request_encode(&q, &sb), 0);
    CU_ASSERT_EQUAL_FATAL(xds_csr_request_decode(pg_sb_view(&sb), &arena, &again, &err), 0);
    CU_ASSERT_EQUAL(again.validity_s, -5);
    CU_ASSERT(pg_str_eq(again.impersonated, q.impersonated));
    pg_sb_reset(&w.sb);
    wb_c(&w, 4, "\x0a\x01"); /* torn metadata */
    CU_ASSERT_EQUAL(xds_csr_request_decode(wb_view(&w), &arena, &q, &err), PG_E_PARSE);

    pg_sb_reset(&w.sb);
    wb_c(&w, 1, "leaf");
    wb_c(&w, 1, "root");
    CU_ASSERT_EQUAL_FATAL(xds_csr_response_decode(wb_view(&w), &arena, chain, &n, &err), 0);
    CU_ASSERT_EQUAL_FATAL(n, 2);
    CU_ASSERT(pg_str_eq_c(chain[1], "root"));
    pg_sb_reset(&sb);
    CU_ASSERT_EQUAL(xds_csr_response_encode(chain, n, &sb), 0);
    CU_ASSERT(pg_str_eq(pg_sb_view(&sb), wb_view(&w)));
    for (size_t i = 0; i < XDS_CERT_CHAIN_MAX; i++) {
        wb_c(&w, 1, "more");
    }
    CU_ASSERT_EQUAL(xds_csr_response_decode(wb_view(&w), &arena, chain, &n, &err), PG_E_LIMIT);
    CU_ASSERT_EQUAL(n, 2);
    pg_sb_fini(&sb);
    pg_arena_fini(&arena);
    wb_fini(&w);
    wb_fini(&md);
}

static struct xds_fed_service sample_service(void)
{
    static struct xds_port ports[] = {{80, 8080, XDS_APP_HTTP2}};
    static struct pg_str sans[] = {{"spiffe://a/ns/b/sa/c", 20}};
    static struct xds_fed_capacity capacity[] = {{{"net1", 4}, 2, 3}, {{"net2", 4}, 0, 1}};
    return (struct xds_fed_service){.name = PG_STR("s"),
                                    .ns = PG_STR("ns"),
                                    .hostname = PG_STR("s.ns.svc"),
                                    .scope = XDS_FED_SEGMENT,
                                    .segment = PG_STR("seg"),
                                    .distribution = XDS_DIST_ANY,
                                    .ports = ports,
                                    .n_ports = 1,
                                    .sans = sans,
                                    .n_sans = 1,
                                    .capacity = capacity,
                                    .n_capacity = 2};
}

static int decode_fed(struct pg_str bytes)
{
    struct pg_arena a;
    struct xds_fed_service s;
    pg_arena_init(&a, 1u << 20);
    int r = xds_fed_service_decode(bytes, &a, &s, &err);
    pg_arena_fini(&a);
    return r;
}

static void federation(void)
{
    struct xds_fed_service in = sample_service(), out;
    struct xds_segment seg = {PG_STR("seg"), PG_STR("seg.mesh.internal")}, seg_out;
    struct pg_sb a, b;
    struct wb w;
    wb_init(&w);
    pg_sb_init(&a, 65536);
    pg_sb_init(&b, 65536);
    pg_arena_init(&arena, 1u << 20);
    CU_ASSERT_EQUAL_FATAL(xds_fed_service_encode(&in, &a), 0);
    CU_ASSERT_EQUAL_FATAL(xds_fed_service_decode(pg_sb_view(&a), &arena, &out, &err), 0);
    CU_ASSERT_EQUAL_FATAL(xds_fed_service_encode(&out, &b), 0);
    CU_ASSERT(pg_str_eq(pg_sb_view(&a), pg_sb_view(&b)));
    CU_ASSERT_EQUAL(out.scope, XDS_FED_SEGMENT);
    CU_ASSERT_EQUAL(out.distribution, XDS_DIST_ANY);
    CU_ASSERT_EQUAL_FATAL(out.n_capacity, 2);
    CU_ASSERT_EQUAL(out.capacity[0].healthy, 2);
    CU_ASSERT_EQUAL(out.capacity[1].total, 1);
    CU_ASSERT_EQUAL(out.ports[0].target_port, 8080);
    wb_sweep(pg_sb_view(&a), decode_fed);
    static const uint32_t unknown[][2] = {{4, 4}, {6, 4}};
    for (size_t i = 0; i < 2; i++) {
        pg_sb_reset(&w.sb);
        wb_uint(&w, unknown[i][0], unknown[i][1]);
        CU_ASSERT_EQUAL(decode_fed(wb_view(&w)), PG_E_PARSE);
    }
    pg_sb_reset(&a);
    CU_ASSERT_EQUAL_FATAL(xds_segment_encode(&seg, &a), 0);
    CU_ASSERT_EQUAL_FATAL(xds_segment_decode(pg_sb_view(&a), &arena, &seg_out, &err), 0);
    CU_ASSERT(pg_str_eq(seg_out.domain, seg.domain) && pg_str_eq(seg_out.name, seg.name));
    pg_sb_fini(&a);
    pg_sb_fini(&b);
    pg_arena_fini(&arena);
    wb_fini(&w);
}

/* Encodes and decodes everything once. */
static int alloc_scenario(void *arg)
{
    (void)arg;
    struct xds_delta_request q = sample_request();
    struct xds_fed_service s = sample_service();
    struct xds_csr_request c = {.csr = PG_STR("x"), .impersonated = PG_STR("y"), .cert_signer = PG_STR("z")};
    struct pg_sb sb;
    struct pg_arena a;
    pg_sb_init(&sb, 65536);
    pg_arena_init(&a, 65536);
    int r = xds_delta_request_encode(&q, &sb);
    r = r < 0 ? r : xds_delta_request_decode(pg_sb_view(&sb), &a, &q, &err);
    pg_sb_fini(&sb);
    r = r < 0 ? r : xds_fed_service_encode(&s, &sb);
    r = r < 0 ? r : xds_fed_service_decode(pg_sb_view(&sb), &a, &s, &err);
    pg_sb_fini(&sb);
    r = r < 0 ? r : xds_csr_request_encode(&c, &sb);
    r = r < 0 ? r : xds_csr_request_decode(pg_sb_view(&sb), &a, &c, &err);
    CU_ASSERT(r == 0 || r == PG_E_NOMEM);
    pg_sb_fini(&sb);
    pg_arena_fini(&a);
    return r;
}

static void failing_memory(void)
{
    CU_ASSERT(test_alloc_sweep(alloc_scenario, NULL) > 8);
}

TEST_MAIN("codec_disc", {"request fields", request_fields}, {"response fields", response_fields},
          {"request round trip", request_round_trip}, {"refusals", refusals}, {"bombs", bombs}, {"csr", csr},
          {"federation", federation}, {"failing memory", failing_memory})
