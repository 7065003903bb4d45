/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only place that calls malloc, realloc and free. Every function returns NULL on failure and
 * leaves its inputs as they were; nothing aborts. Any thread.
 *
 * An arena serves things that die together (one message, one snapshot): allocate, never free singly.
 */
#ifndef ISTHMUS_CORE_MEM_H
#define ISTHMUS_CORE_MEM_H

#include "core/err.h"

#include <stdint.h>

void *pg_malloc(size_t size) PG_MUST_CHECK;
void *pg_calloc(size_t count, size_t size) PG_MUST_CHECK; /* zeroed, overflow-checked */
/* On failure returns NULL and `p` stays valid. */
void *pg_realloc(void *p, size_t size) PG_MUST_CHECK;
/* realloc of count * size, overflow-checked. */
void *pg_reallocarray(void *p, size_t count, size_t size) PG_MUST_CHECK;
void pg_free(void *p); /* NULL is fine */
char *pg_strdup(const char *s) PG_MUST_CHECK;
char *pg_strndup(const char *s, size_t len) PG_MUST_CHECK; /* adds the NUL */
void *pg_memdup(const void *p, size_t len) PG_MUST_CHECK;
/* Overwrites secrets in a way the compiler keeps. */
void pg_wipe(void *p, size_t len);

/* Grows a vector `*items` of element size `size` so that `want` elements fit; doubles. `*cap` counts
 * elements. 0, PG_E_NOMEM, or PG_E_LIMIT when `want` > `max`. The old vector is intact on failure. */
int pg_vec_grow(void *items, size_t *cap, size_t want, size_t size, size_t max) PG_MUST_CHECK;

/* Fault injection for tests: allocation number `countdown` (counting from 0) fails on this thread, then
 * `repeat` more (SIZE_MAX: all). Counts every allocation in `seen`. NULL turns it off. Also reaches
 * nghttp2, protobuf-c and c-ares, whose allocators are ours. Not OpenSSL's own. */
struct pg_fault {
    size_t countdown;
    size_t repeat;
    size_t seen;
    size_t injected;
    bool armed; /* false: count only */
};
void pg_mem_set_fault(struct pg_fault *fault);
/* Lets up to `bytes` of freed memory per heap stay with this process. With the C library's default of 128 KiB
 * a busy data path gives its buffers back to the kernel and faults them in again, page by page, for every
 * batch. Process-wide; before threads start. No-op where the C library has no such setting. */
void pg_mem_keep(size_t bytes);
/* Blocks now allocated by this process through pg_*; for leak checks in tests. */
size_t pg_mem_live_blocks(void);

struct pg_arena_block;
struct pg_arena {
    struct pg_arena_block *head;
    size_t used;  /* bytes handed out */
    size_t limit; /* bytes it may ever hand out */
};
/* `limit` in bytes; no allocation yet. */
void pg_arena_init(struct pg_arena *a, size_t limit);
/* Frees all; the arena can be used again. */
void pg_arena_fini(struct pg_arena *a);
/* 16-byte aligned, not zeroed. NULL: out of memory or over the limit. */
void *pg_arena_alloc(struct pg_arena *a, size_t size) PG_MUST_CHECK;
void *pg_arena_calloc(struct pg_arena *a, size_t count, size_t size) PG_MUST_CHECK;
/* Copies and NUL-terminates. */
char *pg_arena_strndup(struct pg_arena *a, const char *s, size_t len) PG_MUST_CHECK;
void *pg_arena_memdup(struct pg_arena *a, const void *p, size_t len) PG_MUST_CHECK;

#endif
