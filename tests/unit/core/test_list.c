/* SPDX-License-Identifier: Apache-2.0 */
/* The intrusive list. */
#include "core/list.h"
#include "testlib.h"

struct item {
    int n;
    struct pg_list link;
};

static void expect(struct pg_list *head, const int *want, size_t n)
{
    size_t i = 0;
    PG_LIST_FOREACH(head, l)
    {
        CU_ASSERT_FATAL(i < n);
        CU_ASSERT_EQUAL(PG_CONTAINER_OF(l, struct item, link)->n, want[i]);
        i++;
    }
    CU_ASSERT_EQUAL(i, n);
}

static void order(void)
{
    struct pg_list head;
    struct item a = {.n = 1};
    struct item b = {.n = 2};
    struct item c = {.n = 3};
    pg_list_init(&head);
    CU_ASSERT(pg_list_is_empty(&head));
    CU_ASSERT_FALSE(pg_list_is_linked(&a.link));
    pg_list_push_back(&head, &b.link);
    pg_list_push_back(&head, &c.link);
    pg_list_push_front(&head, &a.link);
    CU_ASSERT(pg_list_is_linked(&a.link));
    expect(&head, (int[]){1, 2, 3}, 3);
    pg_list_remove(&b.link);
    pg_list_remove(&b.link);
    CU_ASSERT_FALSE(pg_list_is_linked(&b.link));
    expect(&head, (int[]){1, 3}, 2);
    pg_list_insert_before(&c.link, &b.link);
    expect(&head, (int[]){1, 2, 3}, 3);
    CU_ASSERT_PTR_EQUAL(pg_list_pop(&head), &a.link);
    CU_ASSERT_PTR_EQUAL(pg_list_pop(&head), &b.link);
    CU_ASSERT_PTR_EQUAL(pg_list_pop(&head), &c.link);
    CU_ASSERT_PTR_NULL(pg_list_pop(&head));
}

static void remove_in_loop(void)
{
    struct pg_list head;
    struct item items[5] = {{.n = 0}, {.n = 1}, {.n = 2}, {.n = 3}, {.n = 4}};
    pg_list_init(&head);
    for (int i = 0; i < 5; i++) {
        pg_list_push_back(&head, &items[i].link);
    }
    PG_LIST_FOREACH(&head, l)
    {
        if (PG_CONTAINER_OF(l, struct item, link)->n % 2 == 0) {
            pg_list_remove(l);
        }
    }
    expect(&head, (int[]){1, 3}, 2);
}

TEST_MAIN("list", {"order", order}, {"remove in loop", remove_in_loop})
