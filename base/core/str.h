/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slices (a pointer and a length, owning nothing) and a bounded string builder with a sticky error.
 * Any thread; objects belong to one thread at a time.
 */
#ifndef ISTHMUS_CORE_STR_H
#define ISTHMUS_CORE_STR_H

#include "core/mem.h"

#include <stdarg.h>
#include <stdint.h>
#include <string.h>

/* Not NUL-terminated in general. An empty slice may have p == NULL. */
struct pg_str {
    const char *p;
    size_t len;
};
#define PG_STR(literal) ((struct pg_str){"" literal, sizeof(literal) - 1})
#define PG_STR_NONE ((struct pg_str){NULL, 0})
/* For printf: "%.*s", PG_STR_ARG(s) */
#define PG_STR_ARG(s) (int)(s).len, (s).p ? (s).p : ""

static inline struct pg_str pg_str_n(const char *p, size_t len)
{
    return (struct pg_str){p, len};
}
static inline struct pg_str pg_str_c(const char *z)
{
    return (struct pg_str){z, z ? strlen(z) : 0};
}
bool pg_str_eq(struct pg_str a, struct pg_str b);
bool pg_str_eq_c(struct pg_str a, const char *z);
bool pg_str_eq_nocase(struct pg_str a, struct pg_str b); /* ASCII only */
int pg_str_cmp(struct pg_str a, struct pg_str b);        /* bytewise, then length */
bool pg_str_has_prefix(struct pg_str s, struct pg_str prefix);
bool pg_str_has_suffix(struct pg_str s, struct pg_str suffix);
struct pg_str pg_str_sub(struct pg_str s, size_t from); /* from > len: empty */
struct pg_str pg_str_trim(struct pg_str s);             /* ASCII blanks, tabs, CR, LF at both ends */
/* Index of the first/last `c`, or -1. */
ptrdiff_t pg_str_chr(struct pg_str s, char c);
ptrdiff_t pg_str_rchr(struct pg_str s, char c);
/* Cuts at the first `sep`: *head gets what is before it, *s what is after. Without `sep`, *head gets all
 * and *s becomes empty. False when *s was already empty. */
bool pg_str_cut(struct pg_str *s, char sep, struct pg_str *head);
/* Whole slice must be a decimal number without sign, <= max. 0 or PG_E_PARSE. */
int pg_str_u64(struct pg_str s, uint64_t max, uint64_t *out) PG_MUST_CHECK;
/* Go/Rust-style durations: "10s", "5m", "1h30m", "250ms", "1.5s"; units d, h, m, s, ms. Result in
 * milliseconds, at most 2^63 ns; what is no whole millisecond is refused. 0 or PG_E_PARSE. */
int pg_str_duration_ms(struct pg_str s, uint64_t *out) PG_MUST_CHECK;
/* Bytes of the well-formed UTF-8 sequence at the front of `s`, its code point in *cp; 0 when it is malformed
 * or `s` is empty. */
size_t pg_utf8_step(struct pg_str s, uint32_t *cp);
/* True when the bytes are well-formed UTF-8 without NUL. */
bool pg_str_is_utf8(struct pg_str s);
/* Lower-case copy of at most cap-1 bytes plus NUL; returns the slice, or an empty one when it does not fit.
 */
struct pg_str pg_str_lower(struct pg_str s, char *buf, size_t cap);

/* String builder: grows up to `max` bytes, then every further call is a no-op and `err` stays set. */
struct pg_sb {
    char *p; /* NUL-terminated whenever not NULL */
    size_t len;
    size_t cap;
    size_t max;
    int err; /* 0, PG_E_NOMEM or PG_E_LIMIT; sticky */
};
void pg_sb_init(struct pg_sb *sb, size_t max); /* no allocation yet */
void pg_sb_fini(struct pg_sb *sb);
void pg_sb_reset(struct pg_sb *sb); /* keeps the memory, clears the error */
void pg_sb_add(struct pg_sb *sb, const void *p, size_t len);
void pg_sb_str(struct pg_sb *sb, struct pg_str s);
void pg_sb_c(struct pg_sb *sb, const char *z);
void pg_sb_ch(struct pg_sb *sb, char c);
void pg_sb_fmt(struct pg_sb *sb, const char *fmt, ...) PG_PRINTF(2, 3);
void pg_sb_vfmt(struct pg_sb *sb, const char *fmt, va_list ap);
/* What was built; valid until the next call on `sb`. Empty when nothing was added. */
struct pg_str pg_sb_view(const struct pg_sb *sb);
/* Hands the bytes to the caller (pg_free), who gets NULL when the builder failed; `sb` is empty after. */
char *pg_sb_take(struct pg_sb *sb) PG_MUST_CHECK;

/* base64 (standard and URL alphabets are both accepted on input; padding optional). */
int pg_base64_decode(struct pg_str in, struct pg_sb *out) PG_MUST_CHECK; /* 0, PG_E_PARSE, builder errors */
void pg_base64_encode(struct pg_str in, bool url, struct pg_sb *out);    /* url: no padding */
void pg_hex_encode(const void *p, size_t len, struct pg_sb *out);        /* lower case */

#endif
