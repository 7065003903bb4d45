/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The string builder declared in core/str.h, and base64 and hex on top of it. Invariants: len < cap
 * whenever there is memory, the text is NUL-terminated, and after the first error nothing changes any
 * more. One thread per builder.
 */
#include "core/str.h"

#include <stdio.h>

#define SB_FIRST 128

void pg_sb_init(struct pg_sb *sb, size_t max)
{
    *sb = (struct pg_sb){.max = max};
}

void pg_sb_fini(struct pg_sb *sb)
{
    pg_free(sb->p);
    *sb = (struct pg_sb){.max = sb->max};
}

void pg_sb_reset(struct pg_sb *sb)
{
    sb->len = 0;
    sb->err = 0;
    if (sb->p != NULL) {
        sb->p[0] = '\0';
    }
}

/* Makes room for `more` bytes and the NUL; false with the error set. */
static bool reserve(struct pg_sb *sb, size_t more)
{
    if (sb->err != 0) {
        return false;
    }
    if (more > sb->max - sb->len) {
        sb->err = PG_E_LIMIT;
        return false;
    }
    size_t need = sb->len + more;
    if (need < sb->cap) {
        return true;
    }
    if (need == SIZE_MAX) {
        sb->err = PG_E_NOMEM;
        return false;
    }
    size_t cap = sb->cap < SB_FIRST / 2 ? SB_FIRST : sb->cap > SIZE_MAX / 2 ? SIZE_MAX : sb->cap * 2;
    cap = cap <= need ? need + 1 : cap;
    char *p = pg_realloc(sb->p, cap);
    if (p == NULL) {
        sb->err = PG_E_NOMEM;
        return false;
    }
    sb->p = p;
    sb->cap = cap;
    return true;
}

void pg_sb_add(struct pg_sb *sb, const void *p, size_t len)
{
    if (len == 0 || !reserve(sb, len)) {
        return;
    }
    memcpy(sb->p + sb->len, p, len);
    sb->len += len;
    sb->p[sb->len] = '\0';
}

void pg_sb_str(struct pg_sb *sb, struct pg_str s)
{
    pg_sb_add(sb, s.p, s.len);
}

void pg_sb_c(struct pg_sb *sb, const char *z)
{
    pg_sb_str(sb, pg_str_c(z));
}

void pg_sb_ch(struct pg_sb *sb, char c)
{
    pg_sb_add(sb, &c, 1);
}

void pg_sb_fmt(struct pg_sb *sb, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    pg_sb_vfmt(sb, fmt, ap);
    va_end(ap);
}

void pg_sb_vfmt(struct pg_sb *sb, const char *fmt, va_list ap)
{
    va_list again;
    char small[256];
    va_copy(again, ap);
    int n = vsnprintf(small, sizeof(small), fmt, ap);
    if (n >= 0 && (size_t)n < sizeof(small)) {
        pg_sb_add(sb, small, (size_t)n);
    } else if (n >= 0 && reserve(sb, (size_t)n)) {
        /* reserve() counted the NUL that vsnprintf writes. */
        (void)vsnprintf(sb->p + sb->len, (size_t)n + 1, fmt, again);
        sb->len += (size_t)n;
    }
    va_end(again);
}

struct pg_str pg_sb_view(const struct pg_sb *sb)
{
    return pg_str_n(sb->p != NULL ? sb->p : "", sb->len);
}

char *pg_sb_take(struct pg_sb *sb)
{
    /* An empty text is a text too: the caller gets "" and not NULL. */
    char *p = NULL;
    if (reserve(sb, 0)) {
        p = sb->p;
        p[sb->len] = '\0';
        sb->p = NULL;
    }
    pg_sb_fini(sb);
    return p;
}

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    if (c == '+' || c == '-') {
        return 62;
    }
    return c == '/' || c == '_' ? 63 : -1;
}

int pg_base64_decode(struct pg_str in, struct pg_sb *out)
{
    size_t before = out->len;
    size_t whole = in.len;
    while (in.len != 0 && whole - in.len < 2 && in.p[in.len - 1] == '=') {
        in.len--;
    }
    if (out->err != 0) {
        return out->err;
    }
    bool padded = in.len != whole;
    if (in.len % 4 == 1 || (padded && whole % 4 != 0)) {
        return PG_E_PARSE;
    }
    uint32_t bits = 0;
    for (size_t i = 0; i < in.len; i++) {
        int v = base64_value(in.p[i]);
        if (v < 0) {
            goto bad;
        }
        bits = bits << 6 | (uint32_t)v;
        /* After 2, 3 and 4 characters of a group one more byte is complete. */
        if (i % 4 != 0) {
            pg_sb_ch(out, (char)(bits >> (6 - 2 * (i % 4))));
        }
    }
    /* Left-over bits must be zero, so that one value has one spelling. */
    if ((in.len % 4 == 2 && (bits & 0x0f) != 0) || (in.len % 4 == 3 && (bits & 0x03) != 0)) {
        goto bad;
    }
    return out->err;
bad:
    if (out->p != NULL) {
        out->len = before;
        out->p[before] = '\0';
    }
    return out->err != 0 ? out->err : PG_E_PARSE;
}

void pg_base64_encode(struct pg_str in, bool url, struct pg_sb *out)
{
    static const char std_set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static const char url_set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const char *set = url ? url_set : std_set;
    for (size_t i = 0; i < in.len; i += 3) {
        size_t n = in.len - i < 3 ? in.len - i : 3;
        uint32_t bits = 0;
        for (size_t k = 0; k < 3; k++) {
            bits = bits << 8 | (k < n ? (unsigned char)in.p[i + k] : 0);
        }
        char group[4] = {set[bits >> 18], set[bits >> 12 & 63], set[bits >> 6 & 63], set[bits & 63]};
        for (size_t k = n + 1; k < 4; k++) {
            group[k] = '=';
        }
        pg_sb_add(out, group, url ? n + 1 : 4);
    }
}

void pg_hex_encode(const void *p, size_t len, struct pg_sb *out)
{
    static const char set[] = "0123456789abcdef";
    const unsigned char *in = p;
    for (size_t i = 0; i < len; i++) {
        char pair[2] = {set[in[i] >> 4], set[in[i] & 15]};
        pg_sb_add(out, pair, 2);
    }
}
