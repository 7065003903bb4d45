/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only file that calls malloc, realloc and free. Invariants: every failure leaves the inputs as
 * they were, the live-block count is exact, and an injected fault is indistinguishable from a real one.
 * Any thread; an arena belongs to one thread at a time.
 */
#include "core/mem.h"

#include <limits.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_ALIGN 16
#define ARENA_BLOCK_MIN 1024
#define ARENA_BLOCK_MAX 65536

static atomic_size_t live_blocks;
static _Thread_local struct pg_fault *fault;

void pg_mem_set_fault(struct pg_fault *f)
{
    fault = f;
}

size_t pg_mem_live_blocks(void)
{
    return atomic_load_explicit(&live_blocks, memory_order_relaxed);
}

void pg_mem_keep(size_t bytes)
{
#ifdef M_TRIM_THRESHOLD
    (void)mallopt(M_TRIM_THRESHOLD, bytes < INT_MAX ? (int)bytes : INT_MAX);
#else
    (void)bytes;
#endif
}

static bool must_fail(void)
{
    struct pg_fault *f = fault;
    if (__builtin_expect(f == NULL, 1)) {
        return false;
    }
    size_t n = f->seen++;
    if (!f->armed || n < f->countdown || n - f->countdown > f->repeat) {
        return false;
    }
    f->injected++;
    return true;
}

static void *counted(void *p)
{
    if (p != NULL) {
        atomic_fetch_add_explicit(&live_blocks, 1, memory_order_relaxed);
    }
    return p;
}

void *pg_malloc(size_t size)
{
    if (must_fail()) {
        return NULL;
    }
    /* Zero bytes still give a block, so that NULL always means failure. */
    return counted(malloc(size != 0 ? size : 1));
}

void *pg_calloc(size_t count, size_t size)
{
    size_t total;
    if (must_fail() || __builtin_mul_overflow(count, size, &total)) {
        return NULL;
    }
    return counted(calloc(1, total != 0 ? total : 1));
}

void *pg_realloc(void *p, size_t size)
{
    if (p == NULL) {
        return pg_malloc(size);
    }
    if (must_fail()) {
        return NULL;
    }
    return realloc(p, size != 0 ? size : 1);
}

void *pg_reallocarray(void *p, size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total)) {
        return NULL;
    }
    return pg_realloc(p, total);
}

void pg_free(void *p)
{
    if (p != NULL) {
        atomic_fetch_sub_explicit(&live_blocks, 1, memory_order_relaxed);
        free(p);
    }
}

char *pg_strdup(const char *s)
{
    return pg_strndup(s, strlen(s));
}

char *pg_strndup(const char *s, size_t len)
{
    if (len == SIZE_MAX) {
        return NULL;
    }
    char *copy = pg_malloc(len + 1);
    if (copy != NULL) {
        if (len != 0) {
            memcpy(copy, s, len);
        }
        copy[len] = '\0';
    }
    return copy;
}

void *pg_memdup(const void *p, size_t len)
{
    void *copy = pg_malloc(len);
    if (copy != NULL && len != 0) {
        memcpy(copy, p, len);
    }
    return copy;
}

void pg_wipe(void *p, size_t len)
{
    if (len != 0) {
        explicit_bzero(p, len);
    }
}

int pg_vec_grow(void *items, size_t *cap, size_t want, size_t size, size_t max)
{
    if (want > max) {
        return PG_E_LIMIT;
    }
    if (want <= *cap) {
        return 0;
    }
    size_t next = *cap < 8 ? 8 : *cap > max / 2 ? max : *cap * 2;
    next = next < want ? want : next;
    next = next > max ? max : next;
    /* `items` is the address of some T *; memcpy reads it whatever T is. */
    void *old;
    memcpy(&old, items, sizeof(old));
    void *grown = pg_reallocarray(old, next, size);
    if (grown == NULL) {
        return PG_E_NOMEM;
    }
    memcpy(items, &grown, sizeof(grown));
    *cap = next;
    return 0;
}

struct pg_arena_block {
    struct pg_arena_block *next;
    size_t size;
    size_t used;
    _Alignas(ARENA_ALIGN) unsigned char data[];
};

void pg_arena_init(struct pg_arena *a, size_t limit)
{
    *a = (struct pg_arena){.limit = limit};
}

void pg_arena_fini(struct pg_arena *a)
{
    struct pg_arena_block *b = a->head;
    while (b != NULL) {
        struct pg_arena_block *next = b->next;
        pg_free(b);
        b = next;
    }
    a->head = NULL;
    a->used = 0;
}

/* A block with room for `size`; it becomes the head unless it serves this one request only. */
static struct pg_arena_block *add_block(struct pg_arena *a, size_t size)
{
    size_t want = a->head == NULL ? ARENA_BLOCK_MIN : a->head->size * 2;
    want = want < ARENA_BLOCK_MIN ? ARENA_BLOCK_MIN : want > ARENA_BLOCK_MAX ? ARENA_BLOCK_MAX : want;
    bool alone = a->head != NULL && size >= want;
    if (want < size) {
        want = size;
    }
    if (want > SIZE_MAX - sizeof(struct pg_arena_block)) {
        return NULL;
    }
    struct pg_arena_block *b = pg_malloc(sizeof(*b) + want);
    if (b == NULL) {
        return NULL;
    }
    b->size = want;
    b->used = 0;
    struct pg_arena_block **at = alone ? &a->head->next : &a->head;
    b->next = *at;
    *at = b;
    return b;
}

void *pg_arena_alloc(struct pg_arena *a, size_t size)
{
    if (size > SIZE_MAX - ARENA_ALIGN || size > a->limit - a->used) {
        return NULL;
    }
    size_t room = size == 0 ? ARENA_ALIGN : (size + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    struct pg_arena_block *b = a->head;
    if (b == NULL || b->size - b->used < room) {
        b = add_block(a, room);
        if (b == NULL) {
            return NULL;
        }
    }
    void *p = b->data + b->used;
    b->used += room;
    a->used += size;
    return p;
}

void *pg_arena_calloc(struct pg_arena *a, size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total)) {
        return NULL;
    }
    void *p = pg_arena_alloc(a, total);
    if (p != NULL) {
        memset(p, 0, total);
    }
    return p;
}

char *pg_arena_strndup(struct pg_arena *a, const char *s, size_t len)
{
    if (len == SIZE_MAX) {
        return NULL;
    }
    char *copy = pg_arena_alloc(a, len + 1);
    if (copy != NULL) {
        if (len != 0) {
            memcpy(copy, s, len);
        }
        copy[len] = '\0';
    }
    return copy;
}

void *pg_arena_memdup(struct pg_arena *a, const void *p, size_t len)
{
    void *copy = pg_arena_alloc(a, len);
    if (copy != NULL && len != 0) {
        memcpy(copy, p, len);
    }
    return copy;
}
