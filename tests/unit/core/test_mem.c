/* SPDX-License-Identifier: Apache-2.0 */
/* Allocation, the live count, fault injection, growing vectors and arenas. */
#include "testlib.h"

#include <pthread.h>
#include <string.h>

static void live_count(void)
{
    size_t before = pg_mem_live_blocks();
    void *a = pg_malloc(0);
    void *b = pg_calloc(3, 5);
    char *c = pg_strdup("text");
    char *d = pg_strndup("text", 2);
    char *e = pg_memdup("text", 4);
    CU_ASSERT_PTR_NOT_NULL(a);
    CU_ASSERT_EQUAL(memcmp(b, (char[15]){0}, 15), 0);
    CU_ASSERT_STRING_EQUAL(c, "text");
    CU_ASSERT_STRING_EQUAL(d, "te");
    CU_ASSERT_EQUAL(memcmp(e, "text", 4), 0);
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), before + 5);
    a = pg_realloc(a, 100);
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), before + 5);
    pg_free(a);
    pg_free(b);
    pg_free(c);
    pg_free(d);
    pg_free(e);
    pg_free(NULL);
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), before);
}

static void overflow(void)
{
    char *p = pg_malloc(4);
    volatile size_t huge = SIZE_MAX; /* volatile: the compiler would see through it and complain */
    CU_ASSERT_PTR_NULL(pg_calloc(huge / 2, 3));
    CU_ASSERT_PTR_NULL(pg_reallocarray(p, huge / 2, 3));
    CU_ASSERT_PTR_NULL(pg_strndup("x", huge));
    pg_free(p);
}

static void fault_counts(void)
{
    struct pg_fault f = {.armed = true, .countdown = 1, .repeat = 1};
    pg_mem_set_fault(&f);
    void *p[4];
    for (int i = 0; i < 4; i++) {
        p[i] = pg_malloc(1);
    }
    pg_mem_set_fault(NULL);
    CU_ASSERT_PTR_NOT_NULL(p[0]);
    CU_ASSERT_PTR_NULL(p[1]);
    CU_ASSERT_PTR_NULL(p[2]);
    CU_ASSERT_PTR_NOT_NULL(p[3]);
    CU_ASSERT_EQUAL(f.seen, 4);
    CU_ASSERT_EQUAL(f.injected, 2);
    pg_free(p[0]);
    pg_free(p[3]);
}

static void fault_all_kinds(void)
{
    char *kept = pg_strdup("kept");
    struct pg_fault f = {.armed = true, .repeat = SIZE_MAX};
    pg_mem_set_fault(&f);
    CU_ASSERT_PTR_NULL(pg_malloc(1));
    CU_ASSERT_PTR_NULL(pg_calloc(1, 1));
    CU_ASSERT_PTR_NULL(pg_realloc(NULL, 1));
    CU_ASSERT_PTR_NULL(pg_realloc(kept, 4096));
    CU_ASSERT_PTR_NULL(pg_reallocarray(kept, 2, 4096));
    CU_ASSERT_PTR_NULL(pg_strdup("x"));
    CU_ASSERT_PTR_NULL(pg_strndup("x", 1));
    CU_ASSERT_PTR_NULL(pg_memdup("x", 1));
    pg_mem_set_fault(NULL);
    CU_ASSERT_EQUAL(f.seen, 8);
    CU_ASSERT_EQUAL(f.injected, 8);
    CU_ASSERT_STRING_EQUAL(kept, "kept");
    pg_free(kept);
}

static void *other_thread(void *arg)
{
    void **out = arg;
    *out = pg_malloc(1);
    return NULL;
}

static void fault_is_per_thread(void)
{
    struct pg_fault f = {.armed = true, .repeat = SIZE_MAX};
    void *got = NULL;
    pthread_t t;
    pg_mem_set_fault(&f);
    CU_ASSERT_FATAL(pthread_create(&t, NULL, other_thread, &got) == 0);
    pthread_join(t, NULL);
    pg_mem_set_fault(NULL);
    CU_ASSERT_PTR_NOT_NULL(got);
    CU_ASSERT_EQUAL(f.seen, 0);
    pg_free(got);
}

static void vec(void)
{
    uint32_t *v = NULL;
    size_t cap = 0;
    for (uint32_t i = 0; i < 100; i++) {
        CU_ASSERT_EQUAL(pg_vec_grow(&v, &cap, i + 1, sizeof(*v), 100), 0);
        v[i] = i;
    }
    CU_ASSERT(cap >= 100 && cap <= 128);
    uint32_t *same = v;
    size_t same_cap = cap;
    CU_ASSERT_EQUAL(pg_vec_grow(&v, &cap, 101, sizeof(*v), 100), PG_E_LIMIT);
    struct pg_fault f = {.armed = true, .repeat = SIZE_MAX};
    pg_mem_set_fault(&f);
    CU_ASSERT_EQUAL(pg_vec_grow(&v, &cap, 1000, sizeof(*v), 1000), PG_E_NOMEM);
    pg_mem_set_fault(NULL);
    CU_ASSERT_EQUAL(pg_vec_grow(&v, &cap, SIZE_MAX / 2, sizeof(*v), SIZE_MAX), PG_E_NOMEM);
    CU_ASSERT_PTR_EQUAL(v, same);
    CU_ASSERT_EQUAL(cap, same_cap);
    CU_ASSERT_EQUAL(v[99], 99);
    pg_free(v);
    v = NULL;
    cap = 0;
    CU_ASSERT_EQUAL(pg_vec_grow(&v, &cap, 1, sizeof(*v), 3), 0);
    CU_ASSERT_EQUAL(cap, 3);
    pg_free(v);
}

static void arena_basics(void)
{
    size_t before = pg_mem_live_blocks();
    struct pg_arena a;
    pg_arena_init(&a, 1 << 20);
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), before);
    for (size_t i = 0; i < 2000; i++) {
        unsigned char *p = pg_arena_alloc(&a, i % 97);
        CU_ASSERT_FATAL(p != NULL);
        CU_ASSERT_EQUAL((uintptr_t)p % 16, 0);
        memset(p, 0xee, i % 97);
    }
    CU_ASSERT_STRING_EQUAL(pg_arena_strndup(&a, "hello", 4), "hell");
    CU_ASSERT_EQUAL(memcmp(pg_arena_memdup(&a, "abc", 3), "abc", 3), 0);
    unsigned char *z = pg_arena_calloc(&a, 100, 10);
    CU_ASSERT_EQUAL(memcmp(z, (char[1000]){0}, 1000), 0);
    CU_ASSERT_PTR_NULL(pg_arena_calloc(&a, SIZE_MAX / 2, 3));
    pg_arena_fini(&a);
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), before);
    CU_ASSERT_STRING_EQUAL(pg_arena_strndup(&a, "again", 5), "again");
    pg_arena_fini(&a);
}

static void arena_limit(void)
{
    struct pg_arena a;
    pg_arena_init(&a, 100);
    CU_ASSERT_PTR_NOT_NULL(pg_arena_alloc(&a, 60));
    CU_ASSERT_PTR_NULL(pg_arena_alloc(&a, 41));
    CU_ASSERT_PTR_NULL(pg_arena_alloc(&a, SIZE_MAX));
    CU_ASSERT_PTR_NOT_NULL(pg_arena_alloc(&a, 40));
    CU_ASSERT_EQUAL(a.used, 100);
    CU_ASSERT_PTR_NULL(pg_arena_alloc(&a, 1));
    pg_arena_fini(&a);
}

static void arena_large_keeps_the_open_block(void)
{
    struct pg_arena a;
    pg_arena_init(&a, 1 << 22);
    char *first = pg_arena_alloc(&a, 16);
    char *large = pg_arena_alloc(&a, 300000);
    CU_ASSERT_FATAL(large != NULL);
    memset(large, 1, 300000);
    char *second = pg_arena_alloc(&a, 16);
    CU_ASSERT_PTR_EQUAL(second, first + 16);
    pg_arena_fini(&a);
}

static int arena_scenario(void *arg)
{
    (void)arg;
    struct pg_arena a;
    int r = 0;
    pg_arena_init(&a, 1 << 20);
    for (int i = 0; i < 100 && r == 0; i++) {
        r = pg_arena_alloc(&a, 1000) != NULL ? 0 : PG_E_NOMEM;
    }
    pg_arena_fini(&a);
    return r;
}

static void arena_sweep(void)
{
    CU_ASSERT(test_alloc_sweep(arena_scenario, NULL) >= 3);
}

static void wipe(void)
{
    char secret[8] = "secret";
    pg_wipe(secret, sizeof(secret));
    CU_ASSERT_EQUAL(memcmp(secret, (char[8]){0}, 8), 0);
    pg_wipe(NULL, 0);
}

TEST_MAIN("mem", {"live count", live_count}, {"overflow", overflow}, {"fault counts", fault_counts},
          {"fault reaches every call", fault_all_kinds}, {"fault is per thread", fault_is_per_thread},
          {"vector", vec}, {"arena", arena_basics}, {"arena limit", arena_limit},
          {"arena large block", arena_large_keeps_the_open_block}, {"arena sweep", arena_sweep},
          {"wipe", wipe})
