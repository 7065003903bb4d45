/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bounded queue of bytes in 16 KiB chunks. Its maximum is given at birth; full means "push back",
 * never growth. Chunks are taken on demand and returned when drained, so an idle queue holds nothing.
 * One thread.
 */
#ifndef ISTHMUS_CORE_BUF_H
#define ISTHMUS_CORE_BUF_H

#include "core/mem.h"

#include <sys/uio.h>

struct pg_buf_chunk;
struct pg_buf {
    struct pg_buf_chunk *head;
    struct pg_buf_chunk *tail;
    size_t len; /* bytes queued */
    size_t max; /* bytes it may hold */
};
void pg_buf_init(struct pg_buf *b, size_t max);
void pg_buf_fini(struct pg_buf *b);
/* Room left under the maximum. */
size_t pg_buf_room(const struct pg_buf *b);
/* Appends all of it or nothing: 0, PG_E_LIMIT (would exceed the maximum), PG_E_NOMEM. */
int pg_buf_add(struct pg_buf *b, const void *p, size_t len) PG_MUST_CHECK;
/* Copies out and removes up to `cap` bytes; returns how many (0 when empty). */
size_t pg_buf_take(struct pg_buf *b, void *out, size_t cap);
/* Points `iov` (at most `n` entries) at the front bytes without removing them; returns entries used. */
int pg_buf_peek(const struct pg_buf *b, struct iovec *iov, int n);
/* Copies the first `len` bytes without removing them; false when fewer are queued. */
bool pg_buf_copy(const struct pg_buf *b, void *out, size_t len);
/* Removes `len` bytes from the front (len <= b->len). */
void pg_buf_drop(struct pg_buf *b, size_t len);

#endif
