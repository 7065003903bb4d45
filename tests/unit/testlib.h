/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the unit tests: a CUnit main, and the allocation-failure sweep. */
#ifndef ISTHMUS_TESTLIB_H
#define ISTHMUS_TESTLIB_H

#include "core/mem.h"

#include <CUnit/Basic.h>
#include <stdio.h>

struct test_case {
    const char *name;
    void (*run)(void);
};

/* Runs the cases as one suite; non-zero when any failed or none ran. */
static inline int test_main(const char *suite, const struct test_case *cases, size_t n)
{
    if (CU_initialize_registry() != CUE_SUCCESS) {
        return 2;
    }
    CU_pSuite s = CU_add_suite(suite, NULL, NULL);
    for (size_t i = 0; s != NULL && i < n; i++) {
        if (CU_add_test(s, cases[i].name, cases[i].run) == NULL) {
            return 2;
        }
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    unsigned ran = CU_get_number_of_tests_run();
    CU_cleanup_registry();
    return failed == 0 && ran == n && n > 0 ? 0 : 1;
}
#define TEST_MAIN(suite, ...)                                                                                \
    int main(void)                                                                                           \
    {                                                                                                        \
        const struct test_case cases_[] = {__VA_ARGS__};                                                     \
        return test_main(suite, cases_, PG_ARRAY_LEN(cases_));                                               \
    }

/* Runs `scenario` once to count its allocations, then again failing each in turn. The scenario returns 0 on
 * success and a negative error when an allocation failed, and must free what it made either way. Each failing
 * run must end without leak; the number of runs is returned. */
static inline size_t test_alloc_sweep(int (*scenario)(void *arg), void *arg)
{
    struct pg_fault count = {.armed = false};
    size_t before = pg_mem_live_blocks();
    pg_mem_set_fault(&count);
    int r = scenario(arg);
    pg_mem_set_fault(NULL);
    CU_ASSERT_EQUAL(r, 0);
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), before);
    for (size_t i = 0; i < count.seen; i++) {
        struct pg_fault f = {.armed = true, .countdown = i, .repeat = 0};
        pg_mem_set_fault(&f);
        (void)scenario(arg);
        pg_mem_set_fault(NULL);
        CU_ASSERT_EQUAL(pg_mem_live_blocks(), before);
        CU_ASSERT_EQUAL(f.injected, 1);
    }
    return count.seen;
}

#endif
