/* SPDX-License-Identifier: Apache-2.0 */
/* The hash table: model check, limits, iteration with deletion, failures. */
#include "core/map.h"
#include "core/rng.h"
#include "testlib.h"

enum { KEYS = 2000 };
static char names[KEYS][12];

static struct pg_str key(size_t i)
{
    (void)snprintf(names[i], sizeof(names[i]), "key-%zu", i);
    return pg_str_c(names[i]);
}

static void basics(void)
{
    struct pg_map m;
    int a = 0;
    int b = 0;
    void *old = &m;
    pg_map_init(&m, 10);
    CU_ASSERT_PTR_NULL(pg_map_get(&m, PG_STR("x")));
    CU_ASSERT_PTR_NULL(pg_map_del(&m, PG_STR("x")));
    CU_ASSERT_EQUAL(pg_map_set(&m, PG_STR("x"), &a, &old), 0);
    CU_ASSERT_PTR_NULL(old);
    char again[] = "x"; /* the newest key slice must be the one kept */
    CU_ASSERT_EQUAL(pg_map_set(&m, pg_str_n(again, 1), &b, &old), 0);
    CU_ASSERT_PTR_EQUAL(old, &a);
    CU_ASSERT_EQUAL(m.len, 1);
    CU_ASSERT_PTR_EQUAL(pg_map_get(&m, PG_STR("x")), &b);
    size_t it = 0;
    struct pg_str k;
    void *v;
    CU_ASSERT(pg_map_next(&m, &it, &k, &v));
    CU_ASSERT_PTR_EQUAL(k.p, again);
    CU_ASSERT_PTR_EQUAL(v, &b);
    CU_ASSERT_FALSE(pg_map_next(&m, &it, &k, &v));
    CU_ASSERT_EQUAL(pg_map_set(&m, PG_STR_NONE, &a, NULL), 0); /* the empty key is a key */
    CU_ASSERT_PTR_EQUAL(pg_map_get(&m, PG_STR("")), &a);
    CU_ASSERT_PTR_EQUAL(pg_map_del(&m, PG_STR("x")), &b);
    CU_ASSERT_PTR_NULL(pg_map_get(&m, PG_STR("x")));
    pg_map_fini(&m);
}

static void limit(void)
{
    struct pg_map m;
    int v = 0;
    pg_map_init(&m, 2);
    CU_ASSERT_EQUAL(pg_map_set(&m, PG_STR("a"), &v, NULL), 0);
    CU_ASSERT_EQUAL(pg_map_set(&m, PG_STR("b"), &v, NULL), 0);
    CU_ASSERT_EQUAL(pg_map_set(&m, PG_STR("c"), &v, NULL), PG_E_LIMIT);
    CU_ASSERT_EQUAL(pg_map_set(&m, PG_STR("b"), &m, NULL), 0); /* replacing is no growth */
    CU_ASSERT_EQUAL(m.len, 2);
    CU_ASSERT_PTR_EQUAL(pg_map_del(&m, PG_STR("a")), &v);
    CU_ASSERT_EQUAL(pg_map_set(&m, PG_STR("c"), &v, NULL), 0);
    pg_map_fini(&m);
}

/* The slots must say what the counters say. */
static void audit(const struct pg_map *m)
{
    size_t live = 0;
    size_t dead = 0;
    for (size_t i = 0; i < m->cap; i++) {
        live += m->slots[i].value != NULL;
        dead += m->slots[i].value == NULL && m->slots[i].hash != 0;
    }
    CU_ASSERT_EQUAL(live, m->len);
    CU_ASSERT_EQUAL(dead, m->dead);
}

static void against_model(void)
{
    static bool in[KEYS];
    struct pg_map m;
    struct pg_rng rng;
    size_t live = 0;
    pg_rng_seed(&rng, 7);
    pg_map_init(&m, KEYS);
    for (int step = 0; step < 60000; step++) {
        /* Phases of growth and of shrinking. */
        bool add = pg_rng_below(&rng, 10) < (step / 10000 % 2 == 0 ? 7u : 3u);
        size_t i = pg_rng_below(&rng, KEYS);
        if (add) {
            void *old = NULL;
            CU_ASSERT_EQUAL(pg_map_set(&m, key(i), names[i], &old), 0);
            CU_ASSERT_PTR_EQUAL(old, in[i] ? names[i] : NULL);
            live += in[i] ? 0 : 1;
            in[i] = true;
        } else {
            CU_ASSERT_PTR_EQUAL(pg_map_del(&m, key(i)), in[i] ? names[i] : NULL);
            live -= in[i] ? 1 : 0;
            in[i] = false;
        }
        CU_ASSERT_EQUAL(m.len, live);
        CU_ASSERT(m.len + m.dead <= m.cap / 4 * 3);
        if (step % 1000 == 0) {
            audit(&m);
        }
    }
    for (size_t i = 0; i < KEYS; i++) {
        CU_ASSERT_PTR_EQUAL(pg_map_get(&m, key(i)), in[i] ? names[i] : NULL);
    }
    pg_map_fini(&m);
}

static void delete_while_iterating(void)
{
    struct pg_map m;
    pg_map_init(&m, KEYS);
    for (size_t i = 0; i < KEYS; i++) {
        CU_ASSERT_EQUAL(pg_map_set(&m, key(i), names[i], NULL), 0);
    }
    size_t seen = 0;
    size_t it = 0;
    struct pg_str k;
    void *v;
    while (pg_map_next(&m, &it, &k, &v)) {
        CU_ASSERT_PTR_EQUAL(k.p, v);
        if (seen++ % 2 == 0) {
            CU_ASSERT_PTR_EQUAL(pg_map_del(&m, k), v);
        }
    }
    CU_ASSERT_EQUAL(seen, KEYS);
    CU_ASSERT_EQUAL(m.len, KEYS / 2);
    it = 0;
    for (seen = 0; pg_map_next(&m, &it, NULL, NULL); seen++) {
    }
    CU_ASSERT_EQUAL(seen, KEYS / 2);
    pg_map_fini(&m);
}

static void churn_does_not_grow(void)
{
    struct pg_map m;
    pg_map_init(&m, KEYS);
    for (size_t round = 0; round < 50; round++) {
        for (size_t i = 0; i < KEYS; i++) {
            CU_ASSERT_EQUAL(pg_map_set(&m, key(i), names[i], NULL), 0);
            CU_ASSERT_PTR_EQUAL(pg_map_del(&m, key(i)), names[i]);
        }
    }
    CU_ASSERT(m.cap <= 8);
    pg_map_fini(&m);
}

static int scenario(void *arg)
{
    (void)arg;
    struct pg_map m;
    int r = 0;
    size_t i = 0;
    pg_map_init(&m, KEYS);
    for (; i < 200 && r == 0; i++) {
        r = pg_map_set(&m, key(i), names[i], NULL);
    }
    size_t stored = r == 0 ? i : i - 1;
    CU_ASSERT_EQUAL(m.len, stored);
    for (size_t k = 0; k < stored; k++) {
        CU_ASSERT_PTR_EQUAL(pg_map_get(&m, key(k)), names[k]);
    }
    pg_map_fini(&m);
    return r;
}

static void sweep(void)
{
    CU_ASSERT(test_alloc_sweep(scenario, NULL) >= 5);
}

TEST_MAIN("map", {"basics", basics}, {"limit", limit}, {"against a model", against_model},
          {"delete while iterating", delete_while_iterating}, {"churn", churn_does_not_grow},
          {"sweep", sweep})
