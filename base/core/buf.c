/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bounded byte queue. Invariants: len never exceeds max; every chunk in the list holds at least one
 * byte; an add that fails changes nothing. One thread.
 */
#include "core/buf.h"

#include <string.h>

#define CHUNK_BYTES 16384

struct pg_buf_chunk {
    struct pg_buf_chunk *next;
    size_t start; /* first queued byte */
    size_t end;   /* one past the last */
    unsigned char data[CHUNK_BYTES];
};

void pg_buf_init(struct pg_buf *b, size_t max)
{
    *b = (struct pg_buf){.max = max};
}

static void free_chain(struct pg_buf_chunk *c)
{
    while (c != NULL) {
        struct pg_buf_chunk *next = c->next;
        pg_free(c);
        c = next;
    }
}

void pg_buf_fini(struct pg_buf *b)
{
    free_chain(b->head);
    b->head = NULL;
    b->tail = NULL;
    b->len = 0;
}

size_t pg_buf_room(const struct pg_buf *b)
{
    return b->max - b->len;
}

/* A chain of empty chunks for `len` bytes, or NULL. */
static struct pg_buf_chunk *make_chain(size_t len)
{
    struct pg_buf_chunk *chain = NULL;
    for (size_t done = 0; done < len; done += CHUNK_BYTES) {
        struct pg_buf_chunk *c = pg_malloc(sizeof(*c));
        if (c == NULL) {
            free_chain(chain);
            return NULL;
        }
        c->next = chain;
        c->start = 0;
        c->end = 0;
        chain = c;
    }
    return chain;
}

static size_t fill(struct pg_buf_chunk *c, const unsigned char *p, size_t len)
{
    size_t n = CHUNK_BYTES - c->end;
    n = n < len ? n : len;
    memcpy(c->data + c->end, p, n);
    c->end += n;
    return n;
}

int pg_buf_add(struct pg_buf *b, const void *p, size_t len)
{
    if (len > pg_buf_room(b)) {
        return PG_E_LIMIT;
    }
    if (len == 0) {
        return 0;
    }
    const unsigned char *from = p;
    size_t in_tail = b->tail != NULL ? CHUNK_BYTES - b->tail->end : 0;
    size_t left = len;
    struct pg_buf_chunk *chain = NULL;
    if (left > in_tail) {
        chain = make_chain(left - in_tail);
        if (chain == NULL) {
            return PG_E_NOMEM;
        }
    }
    if (in_tail != 0) {
        left -= fill(b->tail, from, left);
    }
    while (chain != NULL) {
        struct pg_buf_chunk *c = chain;
        chain = c->next;
        c->next = NULL;
        left -= fill(c, from + (len - left), left);
        if (b->tail != NULL) {
            b->tail->next = c;
        } else {
            b->head = c;
        }
        b->tail = c;
    }
    b->len += len;
    return 0;
}

size_t pg_buf_take(struct pg_buf *b, void *out, size_t cap)
{
    size_t n = cap < b->len ? cap : b->len;
    if (n != 0 && pg_buf_copy(b, out, n)) {
        pg_buf_drop(b, n);
    }
    return n;
}

int pg_buf_peek(const struct pg_buf *b, struct iovec *iov, int n)
{
    int used = 0;
    for (struct pg_buf_chunk *c = b->head; c != NULL && used < n; c = c->next) {
        iov[used].iov_base = c->data + c->start;
        iov[used].iov_len = c->end - c->start;
        used++;
    }
    return used;
}

bool pg_buf_copy(const struct pg_buf *b, void *out, size_t len)
{
    if (len > b->len) {
        return false;
    }
    unsigned char *to = out;
    for (const struct pg_buf_chunk *c = b->head; len != 0; c = c->next) {
        size_t n = c->end - c->start;
        n = n < len ? n : len;
        memcpy(to, c->data + c->start, n);
        to += n;
        len -= n;
    }
    return true;
}

void pg_buf_drop(struct pg_buf *b, size_t len)
{
    PG_BUG_ON(len > b->len);
    b->len -= len;
    while (len != 0) {
        struct pg_buf_chunk *c = b->head;
        size_t n = c->end - c->start;
        if (len < n) {
            c->start += len;
            return;
        }
        len -= n;
        b->head = c->next;
        if (b->head == NULL) {
            b->tail = NULL;
        }
        pg_free(c);
    }
}
