/* SPDX-License-Identifier: Apache-2.0 */
/* Intrusive doubly linked list with a sentinel. A zeroed node is "not linked". One thread. */
#ifndef ISTHMUS_CORE_LIST_H
#define ISTHMUS_CORE_LIST_H

#include "core/err.h"

struct pg_list {
    struct pg_list *next;
    struct pg_list *prev;
};
static inline void pg_list_init(struct pg_list *head)
{
    head->next = head;
    head->prev = head;
}
static inline bool pg_list_is_linked(const struct pg_list *n)
{
    return n->next != NULL && n->next != n;
}
static inline bool pg_list_is_empty(const struct pg_list *head)
{
    return head->next == head;
}
static inline void pg_list_insert_before(struct pg_list *pos, struct pg_list *n)
{
    PG_BUG_ON(pg_list_is_linked(n));
    n->next = pos;
    n->prev = pos->prev;
    pos->prev->next = n;
    pos->prev = n;
}
static inline void pg_list_push_back(struct pg_list *head, struct pg_list *n)
{
    pg_list_insert_before(head, n);
}
static inline void pg_list_push_front(struct pg_list *head, struct pg_list *n)
{
    pg_list_insert_before(head->next, n);
}
/* Fine on a node that is not linked. */
static inline void pg_list_remove(struct pg_list *n)
{
    if (n->next == NULL) {
        return;
    }
    n->prev->next = n->next;
    n->next->prev = n->prev;
    n->next = NULL;
    n->prev = NULL;
}
/* First node, unlinked, or NULL. */
static inline struct pg_list *pg_list_pop(struct pg_list *head)
{
    if (pg_list_is_empty(head)) {
        return NULL;
    }
    struct pg_list *n = head->next;
    pg_list_remove(n);
    return n;
}
/* `n` may be removed in the body. */
#define PG_LIST_FOREACH(head, n)                                                                             \
    for (struct pg_list *n = (head)->next, *n##_next = n->next; n != (head); n = n##_next, n##_next = n->next)

#endif
