/* SPDX-License-Identifier: Apache-2.0 */
/* DNS messages: every truncation, seeded mutations, hostile shapes, sizes. One thread. */
#include "core/rng.h"
#include "hbone/dns_wire.h"
#include "testlib.h"

/* A for "www.Example.com", EDNS 4096 with DO. */
static const uint8_t query[] = {0x12, 0x34, 0x01, 0x00, 0,   1,   0,    0,   0,   0, 0,    1,   3,   'w', 'w',
                                'w',  7,    'E',  'x',  'a', 'm', 'p',  'l', 'e', 3, 'c',  'o', 'm', 0,   0,
                                1,    0,    1,    0,    0,   41,  0x10, 0,   0,   0, 0x80, 0,   0,   0};
#define QUESTION_END 33u

static void test_query(void)
{
    struct hb_dns_question q;
    CU_ASSERT_EQUAL(hb_dns_parse_query(query, sizeof(query), &q), 0);
    CU_ASSERT_STRING_EQUAL(q.name, "www.example.com");
    CU_ASSERT_EQUAL(q.id, 0x1234);
    CU_ASSERT_EQUAL(q.type, HB_DNS_A);
    CU_ASSERT_TRUE(q.rd && q.edns && q.edns_do && q.has_text);
    CU_ASSERT_EQUAL(q.edns_size, 4096);
    CU_ASSERT_EQUAL(hb_dns_udp_cap(&q), HB_DNS_UDP_MAX);
    CU_ASSERT_EQUAL(q.section_len, QUESTION_END - 12);
}

static void test_truncations(void)
{
    struct hb_dns_question q;
    for (size_t n = 0; n < sizeof(query); n++) {
        uint8_t *copy =
            pg_memdup(query, n + (n == 0)); /* exact size, so that the sanitizer sees over-reads */
        int r = hb_dns_parse_query(copy, n, &q);
        CU_ASSERT_EQUAL(r, n < 12 ? PG_E_PARSE : HB_DNS_FORMERR);
        pg_free(copy);
    }
    uint8_t longer[sizeof(query) + 1] = {0};
    memcpy(longer, query, sizeof(query));
    CU_ASSERT_EQUAL(hb_dns_parse_query(longer, sizeof(longer), &q), HB_DNS_FORMERR);
}

static void with(size_t at, uint8_t value, int want)
{
    struct hb_dns_question q;
    uint8_t m[sizeof(query)];
    memcpy(m, query, sizeof(query));
    m[at] = value;
    CU_ASSERT_EQUAL(hb_dns_parse_query(m, sizeof(m), &q), want);
}

static void test_hostile(void)
{
    with(2, 0x81, PG_E_PARSE);      /* an answer gets silence */
    with(2, 0x11, HB_DNS_NOTIMP);   /* opcode 2 */
    with(5, 2, HB_DNS_FORMERR);     /* two questions */
    with(5, 0, HB_DNS_FORMERR);     /* none */
    with(7, 1, HB_DNS_FORMERR);     /* answers in a question */
    with(12, 0xc0, HB_DNS_FORMERR); /* compression in a question */
    with(12, 64, HB_DNS_FORMERR);   /* label of 64 */
    with(11, 2, HB_DNS_FORMERR);    /* counts that lie */
    with(39, 1, HB_DNS_BADVERS);    /* EDNS version 1 */
    struct hb_dns_question q;
    uint8_t m[sizeof(query)];
    memcpy(m, query, sizeof(query));
    m[13] = 0xff; /* a byte that no host name has */
    CU_ASSERT_EQUAL(hb_dns_parse_query(m, sizeof(m), &q), 0);
    CU_ASSERT_FALSE(q.has_text);
    /* A name of 256 bytes on the wire. */
    uint8_t big[400] = {0};
    memcpy(big, query, 12);
    big[11] = 0;
    size_t at = 12;
    for (int i = 0; i < 4; i++) {
        big[at] = 63;
        memset(big + at + 1, 'a', 63);
        at += 64;
    }
    CU_ASSERT_EQUAL(hb_dns_parse_query(big, at + 5, &q), HB_DNS_FORMERR);
    big[12 + 192] = 61; /* 255 bytes are fine */
    big[12 + 192 + 62] = 0;
    CU_ASSERT_EQUAL(hb_dns_parse_query(big, 12 + 192 + 63 + 4, &q), 0);
    CU_ASSERT_EQUAL(strlen(q.name), 253);
}

static void test_reply(void)
{
    struct hb_dns_question q;
    static struct pg_ip ips[256];
    static uint8_t out[65535];
    CU_ASSERT_EQUAL_FATAL(hb_dns_parse_query(query, sizeof(query), &q), 0);
    for (size_t i = 0; i < 256; i++) {
        ips[i] = (struct pg_ip){.len = 4, .b = {10, 0, 0, (uint8_t)i}};
    }
    struct hb_dns_reply r = {.aa = true, .ips = ips, .n = 256, .ttl = 30};
    size_t n = hb_dns_write_reply(&q, &r, out, sizeof(out));
    CU_ASSERT_EQUAL(n, QUESTION_END + 256 * 16 + 11);
    CU_ASSERT_FALSE(hb_dns_is_truncated(out, n));
    CU_ASSERT_EQUAL(out[6] << 8 | out[7], 256);
    CU_ASSERT_EQUAL(hb_dns_check_answer(&q, q.id, out, n), 0);
    /* Over UDP without EDNS only what fits. */
    q.edns = false;
    n = hb_dns_write_reply(&q, &r, out, hb_dns_udp_cap(&q));
    CU_ASSERT_TRUE(n <= 512 && n > 480);
    CU_ASSERT_TRUE(hb_dns_is_truncated(out, n));
    CU_ASSERT_EQUAL(hb_dns_check_answer(&q, q.id, out, n), 0);
    /* CNAME first, then the addresses under its target. */
    r.n = 1;
    r.cname = "productpage.ns1";
    n = hb_dns_write_reply(&q, &r, out, 512);
    CU_ASSERT_EQUAL(out[7], 2);
    CU_ASSERT_EQUAL(out[QUESTION_END + 3], HB_DNS_CNAME);
    CU_ASSERT_EQUAL(hb_dns_check_answer(&q, q.id, out, n), 0);
    /* Errors echo the question. */
    struct hb_dns_reply e = {.rcode = HB_DNS_SERVFAIL};
    n = hb_dns_write_reply(&q, &e, out, 512);
    CU_ASSERT_EQUAL(n, QUESTION_END);
    CU_ASSERT_EQUAL(out[3] & 0x0f, HB_DNS_SERVFAIL);
    CU_ASSERT_EQUAL(out[2] & 0x04, 0); /* not authoritative */
}

static void test_answers(void)
{
    struct hb_dns_question q;
    static uint8_t out[4096];
    CU_ASSERT_EQUAL_FATAL(hb_dns_parse_query(query, sizeof(query), &q), 0);
    struct pg_ip ip = {.len = 4, .b = {1, 2, 3, 4}};
    struct hb_dns_reply r = {.aa = true, .ips = &ip, .n = 1, .ttl = 30};
    size_t n = hb_dns_write_reply(&q, &r, out, sizeof(out));
    CU_ASSERT_EQUAL(hb_dns_check_answer(&q, q.id, out, n), 0);
    CU_ASSERT_EQUAL(hb_dns_check_answer(&q, 0x9999, out, n), PG_E_PARSE); /* wrong id */
    out[14] ^= 0x20;                                                      /* other case: not our question */
    CU_ASSERT_EQUAL(hb_dns_check_answer(&q, q.id, out, n), PG_E_PARSE);
    out[14] ^= 0x20;
    out[7] = 2; /* a count that lies */
    CU_ASSERT_EQUAL(hb_dns_check_answer(&q, q.id, out, n), PG_E_PARSE);
    out[7] = 1;
    CU_ASSERT_EQUAL(hb_dns_check_answer(&q, q.id, out, n - 1), PG_E_PARSE);
    out[QUESTION_END + 1] = QUESTION_END; /* a name that points to itself */
    CU_ASSERT_EQUAL(hb_dns_check_answer(&q, q.id, out, n), PG_E_PARSE);
    out[QUESTION_END + 1] = 12;
    /* Relayed: client's id, no AA; too long becomes TC with the question alone. */
    q.id = 0x4321;
    CU_ASSERT_EQUAL(hb_dns_relay_answer(&q, out, n, 512), n);
    CU_ASSERT_EQUAL(out[0] << 8 | out[1], 0x4321);
    CU_ASSERT_EQUAL(out[2] & 0x04, 0);
    CU_ASSERT_EQUAL(hb_dns_relay_answer(&q, out, n, 40), QUESTION_END);
    CU_ASSERT_TRUE(hb_dns_is_truncated(out, QUESTION_END));
    /* What we send upstream is itself a question. */
    struct hb_dns_question again;
    n = hb_dns_write_query(&q, 7, out);
    CU_ASSERT_EQUAL(hb_dns_parse_query(out, n, &again), 0);
    CU_ASSERT_STRING_EQUAL(again.name, q.name);
}

/* Two hundred thousand mutations of both kinds of message: no crash, and what parses can be written back. */
static void test_mutations(void)
{
    struct pg_rng rng;
    struct hb_dns_question base;
    static uint8_t out[65535];
    size_t parsed = 0;
    pg_rng_seed(&rng, 20261120);
    CU_ASSERT_EQUAL_FATAL(hb_dns_parse_query(query, sizeof(query), &base), 0);
    for (int i = 0; i < 200000; i++) {
        uint8_t m[sizeof(query) + 8];
        size_t len = sizeof(query) - 8 + pg_rng_below(&rng, 16);
        memset(m, (int)pg_rng_below(&rng, 256), sizeof(m));
        memcpy(m, query, sizeof(query));
        for (uint64_t k = pg_rng_below(&rng, 4) + 1; k > 0; k--) {
            m[pg_rng_below(&rng, len)] = (uint8_t)pg_rng_next(&rng);
        }
        uint8_t *exact = pg_memdup(m, len);
        struct hb_dns_question q;
        int r = hb_dns_parse_query(exact, len, &q);
        if (r >= 0) {
            struct hb_dns_reply e = {.rcode = r};
            size_t n = hb_dns_write_reply(&q, &e, out, 512);
            parsed += r == 0 ? 1 : 0;
            if (r == 0 && hb_dns_check_answer(&q, q.id, out, n) < 0) {
                CU_FAIL("own reply is refused");
            }
        }
        (void)!hb_dns_check_answer(&base, base.id, exact, len);
        pg_free(exact);
    }
    CU_ASSERT_TRUE(parsed > 1000);
}

TEST_MAIN("dns wire", {"question", test_query}, {"every truncation", test_truncations},
          {"hostile", test_hostile}, {"replies", test_reply}, {"answers of upstreams", test_answers},
          {"mutations", test_mutations})
