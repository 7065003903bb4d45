/* SPDX-License-Identifier: Apache-2.0 */
/* The bounded byte queue against a plain array as the model. */
#include "core/buf.h"
#include "core/rng.h"
#include "testlib.h"

#include <string.h>

static void basics(void)
{
    size_t before = pg_mem_live_blocks();
    struct pg_buf b;
    char out[16];
    pg_buf_init(&b, 10);
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), before);
    CU_ASSERT_EQUAL(pg_buf_room(&b), 10);
    CU_ASSERT_EQUAL(pg_buf_add(&b, "hello", 5), 0);
    CU_ASSERT_EQUAL(pg_buf_add(&b, "world!", 6), PG_E_LIMIT);
    CU_ASSERT_EQUAL(b.len, 5);
    CU_ASSERT_EQUAL(pg_buf_add(&b, NULL, 0), 0);
    CU_ASSERT_EQUAL(pg_buf_add(&b, "world", 5), 0);
    CU_ASSERT_EQUAL(pg_buf_room(&b), 0);
    CU_ASSERT(pg_buf_copy(&b, out, 10));
    CU_ASSERT_EQUAL(memcmp(out, "helloworld", 10), 0);
    CU_ASSERT_FALSE(pg_buf_copy(&b, out, 11));
    CU_ASSERT_EQUAL(pg_buf_take(&b, out, 4), 4);
    CU_ASSERT_EQUAL(memcmp(out, "hell", 4), 0);
    pg_buf_drop(&b, 1);
    CU_ASSERT_EQUAL(pg_buf_take(&b, out, sizeof(out)), 5);
    CU_ASSERT_EQUAL(memcmp(out, "world", 5), 0);
    CU_ASSERT_EQUAL(pg_buf_take(&b, out, sizeof(out)), 0);
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), before); /* drained: holds nothing */
    pg_buf_fini(&b);
}

static void peek_walks_chunks(void)
{
    struct pg_buf b;
    struct iovec iov[8];
    static char big[50000];
    for (size_t i = 0; i < sizeof(big); i++) {
        big[i] = (char)(i * 7);
    }
    pg_buf_init(&b, sizeof(big));
    CU_ASSERT_EQUAL(pg_buf_peek(&b, iov, 8), 0);
    CU_ASSERT_EQUAL(pg_buf_add(&b, big, sizeof(big)), 0);
    pg_buf_drop(&b, 100);
    int n = pg_buf_peek(&b, iov, 8);
    CU_ASSERT_EQUAL(n, 4);
    size_t at = 100;
    for (int i = 0; i < n; i++) {
        CU_ASSERT_EQUAL(memcmp(iov[i].iov_base, big + at, iov[i].iov_len), 0);
        at += iov[i].iov_len;
    }
    CU_ASSERT_EQUAL(at, sizeof(big));
    CU_ASSERT_EQUAL(pg_buf_peek(&b, iov, 2), 2);
    pg_buf_fini(&b);
}

static void against_model(void)
{
    enum { MAX = 100000 };
    static unsigned char model[MAX];
    static unsigned char chunk[MAX];
    static unsigned char out[MAX];
    size_t len = 0;
    unsigned char next = 0;
    struct pg_rng rng;
    struct pg_buf b;
    pg_rng_seed(&rng, 1);
    pg_buf_init(&b, MAX);
    for (int step = 0; step < 3000; step++) {
        size_t n = pg_rng_below(&rng, step % 3 == 0 ? 40000 : 300);
        if (pg_rng_below(&rng, 2) == 0) {
            for (size_t i = 0; i < n; i++) {
                chunk[i] = (unsigned char)(next + i);
            }
            int r = pg_buf_add(&b, chunk, n);
            CU_ASSERT_EQUAL(r, n > MAX - len ? PG_E_LIMIT : 0);
            if (r == 0) {
                memcpy(model + len, chunk, n);
                len += n;
                next = (unsigned char)(next + n);
            }
        } else {
            size_t want = n < len ? n : len;
            CU_ASSERT_EQUAL(pg_buf_take(&b, out, n), want);
            CU_ASSERT_EQUAL(memcmp(out, model, want), 0);
            memmove(model, model + want, len - want);
            len -= want;
        }
        CU_ASSERT_EQUAL(b.len, len);
    }
    pg_buf_fini(&b);
}

static int scenario(void *arg)
{
    struct pg_buf b;
    pg_buf_init(&b, 200000);
    int r = pg_buf_add(&b, arg, 10);
    for (int i = 0; i < 3 && r == 0; i++) {
        size_t before = b.len;
        r = pg_buf_add(&b, arg, 40000);
        CU_ASSERT_EQUAL(b.len, before + (r == 0 ? 40000 : 0));
    }
    pg_buf_fini(&b);
    return r;
}

static void sweep(void)
{
    static char data[40000];
    CU_ASSERT_EQUAL(test_alloc_sweep(scenario, data), 8);
}

TEST_MAIN("buf", {"basics", basics}, {"peek", peek_walks_chunks}, {"against a model", against_model},
          {"sweep", sweep})
