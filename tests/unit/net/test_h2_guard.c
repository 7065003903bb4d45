/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frame scanner and its budgets, alone: every verdict must be the same however the bytes are cut, honest
 * rates must pass for ever, floods must stop at their burst. No sessions, no clock.
 */
#include "net/h2_guard.h"

#include "core/err.h"
#include "core/rng.h"
#include "testlib.h"

#include <string.h>

struct wire {
    uint8_t b[70000];
    size_t n;
};

static void frame(struct wire *w, uint8_t type, uint8_t flags, const void *payload, size_t len)
{
    uint8_t head[9] = {(uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len, type, flags, 0, 0, 0, 1};
    PG_BUG_ON(w->n + 9 + len > sizeof(w->b));
    memcpy(w->b + w->n, head, 9);
    if (len > 0) {
        memcpy(w->b + w->n + 9, payload, len);
    }
    w->n += 9 + len;
}

static void fresh(struct pg_h2_guard *g)
{
    pg_h2_guard_init(g, false, 100, 20, 1000, 5000);
}

static const char *whole(const struct wire *w)
{
    struct pg_h2_guard g;
    fresh(&g);
    return pg_h2_guard_scan(&g, w->b, w->n, 5000);
}

/* The same verdict whole, at every split, byte by byte. */
static const char *verdict(const struct wire *w)
{
    const char *want = whole(w);
    struct pg_h2_guard g;
    for (size_t cut = 0; cut <= w->n && cut < 300; cut++) {
        fresh(&g);
        const char *got = pg_h2_guard_scan(&g, w->b, cut, 5000);
        got = got != NULL ? got : pg_h2_guard_scan(&g, w->b + cut, w->n - cut, 5000);
        CU_ASSERT_PTR_EQUAL(got, want);
    }
    const char *got = NULL;
    fresh(&g);
    for (size_t i = 0; i < w->n && got == NULL; i++) {
        got = pg_h2_guard_scan(&g, w->b + i, 1, 5000);
    }
    CU_ASSERT_PTR_EQUAL(got, want);
    return want;
}

static bool is(const char *got, const char *want)
{
    return got != NULL && strcmp(got, want) == 0;
}

static void test_preface(void)
{
    static const uint8_t preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    struct pg_h2_guard g;
    pg_h2_guard_init(&g, true, 100, 20, 1000, 0);
    CU_ASSERT_PTR_NULL(pg_h2_guard_scan(&g, preface, 10, 0));
    CU_ASSERT_PTR_NULL(pg_h2_guard_scan(&g, preface + 10, 14, 0));
    CU_ASSERT_EQUAL(g.skip, 0);
    CU_ASSERT_EQUAL(g.have, 0);
}

/* Fields of a header block as an encoder would write them. */
static void test_header_fields(void)
{
    struct wire w = {.n = 0};
    uint8_t block[400];
    size_t n = 0;
    /* indexed; literal with indexed name; literal with new name; never indexed; size update; long index */
    static const uint8_t some[] = {0x82, 0x41, 0x03, 'a', 'b',  'c',  0x40, 0x01, 'k',  0x02, 'v',  'w',
                                   0x1f, 0x08, 0x01, 'x', 0x3f, 0xe1, 0x1f, 0xff, 0x01, 0x10, 0x00, 0x00};
    memcpy(block, some, sizeof(some));
    n = sizeof(some);
    /* a literal whose value has a two-byte length, full of bytes that look like fields */
    block[n++] = 0x04;
    block[n++] = 0x7f;
    block[n++] = 0x21; /* 127 + 33 */
    memset(block + n, 0x82, 160);
    n += 160;
    frame(&w, 1, 4, block, n); /* 8 fields with the size update */
    CU_ASSERT_PTR_NULL(verdict(&w));
    struct pg_h2_guard g;
    fresh(&g);
    CU_ASSERT_PTR_NULL(pg_h2_guard_scan(&g, w.b, w.n, 5000));
    CU_ASSERT_EQUAL(g.fields, 8);
    CU_ASSERT_EQUAL(g.skim, SKIM_FIELD);

    uint8_t refs[21];
    memset(refs, 0xbe, sizeof(refs));
    w.n = 0;
    frame(&w, 1, 4, refs, 20);
    frame(&w, 1, 4, refs, 20); /* counted per block */
    CU_ASSERT_PTR_NULL(verdict(&w));
    w.n = 0;
    frame(&w, 1, 4, refs, 21);
    CU_ASSERT_TRUE(is(verdict(&w), "header-fields"));
    w.n = 0; /* spread over CONTINUATION */
    frame(&w, 1, 0, refs, 15);
    frame(&w, 9, 4, refs, 6);
    CU_ASSERT_TRUE(is(verdict(&w), "header-fields"));
}

static void test_padding_and_priority(void)
{
    struct wire w = {.n = 0};
    uint8_t p[60];
    memset(p, 0xbe, sizeof(p));
    p[0] = 30;                              /* pad length */
    frame(&w, 1, 0x2c, p, 1 + 5 + 20 + 30); /* 20 fields between priority and padding */
    CU_ASSERT_PTR_NULL(verdict(&w));
    w.n = 0;
    frame(&w, 1, 0x2c, p, 1 + 5 + 21 + 30);
    CU_ASSERT_TRUE(is(verdict(&w), "header-fields"));
    w.n = 0; /* more padding than payload: nothing to count, the library refuses it */
    p[0] = 200;
    frame(&w, 1, 0x0c, p, 40);
    CU_ASSERT_PTR_NULL(verdict(&w));
}

static void test_header_bytes(void)
{
    struct wire w = {.n = 0};
    uint8_t big[1100] = {0x40, 0x01, 'n', 0x7f, 0xff, 0x07}; /* value of 127 + 1023 bytes */
    frame(&w, 1, 0, big, 600);
    frame(&w, 9, 0, big + 600, 400);
    CU_ASSERT_PTR_NULL(verdict(&w));
    frame(&w, 9, 0, big, 1);
    CU_ASSERT_TRUE(is(verdict(&w), "header-bytes"));
}

/* Frames of one kind at one instant until the guard speaks. */
static unsigned burst(uint8_t type, uint8_t flags, const void *p, size_t len, const char *want)
{
    struct pg_h2_guard g;
    struct wire w = {.n = 0};
    unsigned n = 0;
    const char *bad = NULL;
    frame(&w, type, flags, p, len);
    fresh(&g);
    while (bad == NULL && n < 100000) {
        bad = pg_h2_guard_scan(&g, w.b, w.n, 5000);
        n++;
    }
    CU_ASSERT_TRUE(is(bad, want));
    return n;
}

static void test_bursts(void)
{
    static const uint8_t zero[40] = {0};
    static const uint8_t pad[4] = {3, 0, 0, 0};
    CU_ASSERT_EQUAL(burst(6, 0, zero, 8, "ping"), 5001);
    CU_ASSERT_EQUAL(burst(4, 0, zero, 6, "settings"), 201);
    CU_ASSERT_EQUAL(burst(7, 0, zero, 8, "settings"), 201);
    CU_ASSERT_EQUAL(burst(2, 0, zero, 5, "priority"), 2001);
    CU_ASSERT_EQUAL(burst(0x10, 0, zero, 5, "priority"), 2001);
    CU_ASSERT_EQUAL(burst(8, 0, zero, 4, "window-update"), 20001);
    CU_ASSERT_EQUAL(burst(0x77, 0, zero, 12, "unknown-frame"), 2001);
    CU_ASSERT_EQUAL(burst(0, 0, zero, 0, "empty-data"), 501);
    CU_ASSERT_EQUAL(burst(0, 8, pad, 4, "empty-data"), 501);
    CU_ASSERT_EQUAL(burst(3, 0, zero, 4, "rapid-reset"), 1001);
}

static void say_on(struct wire *w, uint32_t id, uint8_t type, uint8_t flags, const void *p, size_t len)
{
    size_t at = w->n;
    frame(w, type, flags, p, len);
    w->b[at + 7] = (uint8_t)(id >> 8);
    w->b[at + 8] = (uint8_t)id;
}

static void test_not_counted(void)
{
    struct pg_h2_guard g;
    struct wire w = {.n = 0};
    static const uint8_t zero[40] = {0};
    static const uint8_t pad[5] = {3, 'x', 0, 0, 0};
    frame(&w, 6, 1, zero, 8);  /* PING ACK */
    frame(&w, 4, 1, NULL, 0);  /* SETTINGS ACK */
    frame(&w, 0, 8, pad, 5);   /* one byte among padding */
    frame(&w, 0, 0, zero, 40); /* data */
    fresh(&g);
    for (int i = 0; i < 50000; i++) {
        CU_ASSERT_PTR_NULL_FATAL(pg_h2_guard_scan(&g, w.b, w.n, 5000));
    }
    for (uint32_t id = 3; id < 50003; id += 2) { /* an empty end is no empty frame */
        w.n = 0;
        say_on(&w, id, 0, 1, NULL, 0);
        CU_ASSERT_PTR_NULL_FATAL(pg_h2_guard_scan(&g, w.b, w.n, 5000));
    }
}

/* Frames that break a rule the library would let pass once it has forgotten the stream. */
static uint32_t broken(const struct wire *w, bool server)
{
    struct pg_h2_guard g;
    pg_h2_guard_init(&g, server, 100, 20, 1000, 5000);
    g.skip = 0;
    const char *bad = NULL;
    for (size_t i = 0; i < w->n && bad == NULL; i++) { /* byte by byte */
        bad = pg_h2_guard_scan(&g, w->b + i, 1, 5000);
    }
    CU_ASSERT_EQUAL(bad != NULL, g.violation != 0);
    return g.violation;
}

static void test_rules(void)
{
    struct wire w = {.n = 0};
    say_on(&w, 1, 1, 5, "\x82", 1);       /* HEADERS, END_STREAM */
    say_on(&w, 1, 3, 0, "\0\0\0\x08", 4); /* RST_STREAM of an ended stream is fine, WINDOW_UPDATE too */
    say_on(&w, 1, 8, 0, "\0\0\0\x01", 4);
    say_on(&w, 3, 1, 4, "\x82", 1);
    say_on(&w, 3, 0, 0, "x", 1);
    say_on(&w, 3, 0, 1, "x", 1);
    say_on(&w, 9, 1, 4, "\x82", 1); /* skips 5 and 7 */
    say_on(&w, 9, 1, 5, "\x82", 1); /* trailers */
    say_on(&w, 11, 2, 0, "\0\0\0\x01\0", 5);
    CU_ASSERT_EQUAL(broken(&w, true), 0);
    size_t n = w.n;
    say_on(&w, 1, 0, 0, "x", 1);
    CU_ASSERT_EQUAL(broken(&w, true), 5);
    w.n = n;
    say_on(&w, 3, 1, 4, "\x82", 1);
    CU_ASSERT_EQUAL(broken(&w, true), 5);
    w.n = n;
    say_on(&w, 5, 1, 4, "\x82", 1);
    CU_ASSERT_EQUAL(broken(&w, true), 1);
    w.n = n;
    say_on(&w, 7, 1, 4, "\x82", 1);
    CU_ASSERT_EQUAL(broken(&w, true), 1);
    CU_ASSERT_EQUAL(broken(&w, false), 0); /* a server answers in any order */
    w.n = n;
    say_on(&w, 13, 1, 4, "\x82", 1);
    say_on(&w, 13, 3, 0, "\0\0\0\x08", 4);
    CU_ASSERT_EQUAL(broken(&w, true), 0);
    say_on(&w, 13, 0, 0, "x", 1);
    CU_ASSERT_EQUAL(broken(&w, true), 5);
    w.n = n;
    say_on(&w, 0, 2, 0, "\0\0\0\x01\0", 5);
    CU_ASSERT_EQUAL(broken(&w, true), 1);
    w.n = n;
    say_on(&w, 11, 2, 0, "\x80\0\0\x0b\0", 5);
    CU_ASSERT_EQUAL(broken(&w, true), 1);
    w.n = n; /* long ago: forgotten, and left to the library */
    for (uint32_t id = 11; id < 11 + 2 * 20; id += 2) {
        say_on(&w, id, 1, 5, "\x82", 1);
    }
    say_on(&w, 1, 0, 0, "x", 1);
    CU_ASSERT_EQUAL(broken(&w, true), 0);
}

/* A bulk receiver: two WINDOW_UPDATEs for each DATA frame we send, a PING for each it sends, at 100,000/s. */
static void test_honest_rates(void)
{
    struct pg_h2_guard g;
    struct wire w = {.n = 0};
    static const uint8_t zero[40] = {0};
    frame(&w, 0, 0, zero, 40);
    frame(&w, 6, 0, zero, 8);
    frame(&w, 8, 0, zero, 4);
    frame(&w, 8, 0, zero, 4);
    fresh(&g);
    for (int i = 0; i < 500000; i++) {
        pg_h2_guard_credit(&g, PG_H2_B_WINDOW, 4 + 15);
        CU_ASSERT_PTR_NULL_FATAL(pg_h2_guard_scan(&g, w.b, w.n, 5000 + i / 100));
    }
    /* resets at the configured rate, for ten minutes */
    w.n = 0;
    frame(&w, 3, 0, zero, 4);
    fresh(&g);
    for (int i = 0; i < 60000; i++) {
        CU_ASSERT_PTR_NULL_FATAL(pg_h2_guard_scan(&g, w.b, w.n, 5000 + (uint64_t)i * 10));
    }
    /* and the clock going back does no harm */
    CU_ASSERT_PTR_NULL(pg_h2_guard_scan(&g, w.b, w.n, 1));
}

static void test_refill(void)
{
    struct pg_h2_guard g;
    fresh(&g);
    for (int i = 0; i < 200; i++) {
        CU_ASSERT_PTR_NULL(pg_h2_guard_take(&g, PG_H2_B_PROVOKED, 5000));
    }
    CU_ASSERT_TRUE(is(pg_h2_guard_take(&g, PG_H2_B_PROVOKED, 5000), "made-resets"));
    CU_ASSERT_PTR_NULL(pg_h2_guard_take(&g, PG_H2_B_PROVOKED, 5050)); /* 20 a second */
    CU_ASSERT_TRUE(is(pg_h2_guard_take(&g, PG_H2_B_PROVOKED, 5050), "made-resets"));
    CU_ASSERT_PTR_NULL(pg_h2_guard_take(&g, PG_H2_B_PROVOKED, UINT64_MAX));
}

/* Garbage: no crash, and the same verdict however it is cut. */
static void test_random(void)
{
    static struct wire w;
    struct pg_rng rng;
    pg_rng_seed(&rng, 42);
    for (int round = 0; round < 2000; round++) {
        uint8_t p[300];
        w.n = 0;
        for (int f = 0; f < 6; f++) {
            for (size_t i = 0; i < sizeof(p); i++) {
                p[i] = (uint8_t)pg_rng_next(&rng);
            }
            frame(&w, (uint8_t)pg_rng_below(&rng, 12), (uint8_t)pg_rng_next(&rng), p,
                  (size_t)pg_rng_below(&rng, sizeof(p)));
        }
        const char *want = whole(&w);
        struct pg_h2_guard g;
        const char *got = NULL;
        fresh(&g);
        for (size_t at = 0; at < w.n && got == NULL;) {
            size_t n = 1 + (size_t)pg_rng_below(&rng, 40);
            n = n < w.n - at ? n : w.n - at;
            got = pg_h2_guard_scan(&g, w.b + at, n, 5000);
            at += n;
        }
        CU_ASSERT_PTR_EQUAL(got, want);
    }
}

TEST_MAIN("h2 guard", {"preface", test_preface}, {"header fields", test_header_fields},
          {"padding and priority", test_padding_and_priority}, {"header bytes", test_header_bytes},
          {"bursts", test_bursts}, {"not counted", test_not_counted}, {"rules", test_rules},
          {"honest rates", test_honest_rates}, {"refill", test_refill}, {"random", test_random})
