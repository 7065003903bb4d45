/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slices and their parsers. Invariants: nothing reads past a slice, nothing needs a NUL in it, a parser
 * that refuses leaves its outputs alone. Any thread.
 */
#include "core/str.h"

bool pg_str_eq(struct pg_str a, struct pg_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

bool pg_str_eq_c(struct pg_str a, const char *z)
{
    return pg_str_eq(a, pg_str_c(z));
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool pg_str_eq_nocase(struct pg_str a, struct pg_str b)
{
    if (a.len != b.len) {
        return false;
    }
    for (size_t i = 0; i < a.len; i++) {
        if (lower(a.p[i]) != lower(b.p[i])) {
            return false;
        }
    }
    return true;
}

int pg_str_cmp(struct pg_str a, struct pg_str b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int r = n != 0 ? memcmp(a.p, b.p, n) : 0;
    if (r != 0) {
        return r;
    }
    return (a.len > b.len) - (a.len < b.len);
}

bool pg_str_has_prefix(struct pg_str s, struct pg_str prefix)
{
    return s.len >= prefix.len && pg_str_eq(pg_str_n(s.p, prefix.len), prefix);
}

bool pg_str_has_suffix(struct pg_str s, struct pg_str suffix)
{
    return s.len >= suffix.len && pg_str_eq(pg_str_sub(s, s.len - suffix.len), suffix);
}

struct pg_str pg_str_sub(struct pg_str s, size_t from)
{
    if (from >= s.len) {
        return PG_STR_NONE;
    }
    return pg_str_n(s.p + from, s.len - from);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct pg_str pg_str_trim(struct pg_str s)
{
    while (s.len != 0 && is_blank(s.p[0])) {
        s.p++;
        s.len--;
    }
    while (s.len != 0 && is_blank(s.p[s.len - 1])) {
        s.len--;
    }
    return s;
}

ptrdiff_t pg_str_chr(struct pg_str s, char c)
{
    const char *at = s.len != 0 ? memchr(s.p, c, s.len) : NULL;
    return at != NULL ? at - s.p : -1;
}

ptrdiff_t pg_str_rchr(struct pg_str s, char c)
{
    const char *at = s.len != 0 ? memrchr(s.p, c, s.len) : NULL;
    return at != NULL ? at - s.p : -1;
}

bool pg_str_cut(struct pg_str *s, char sep, struct pg_str *head)
{
    if (s->len == 0) {
        return false;
    }
    ptrdiff_t at = pg_str_chr(*s, sep);
    if (at < 0) {
        *head = *s;
        *s = PG_STR_NONE;
        return true;
    }
    *head = pg_str_n(s->p, (size_t)at);
    *s = pg_str_sub(*s, (size_t)at + 1);
    return true;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

int pg_str_u64(struct pg_str s, uint64_t max, uint64_t *out)
{
    uint64_t n = 0;
    if (s.len == 0) {
        return PG_E_PARSE;
    }
    for (size_t i = 0; i < s.len; i++) {
        if (!is_digit(s.p[i]) || __builtin_mul_overflow(n, 10u, &n) ||
            __builtin_add_overflow(n, (uint64_t)(s.p[i] - '0'), &n)) {
            return PG_E_PARSE;
        }
    }
    if (n > max) {
        return PG_E_PARSE;
    }
    *out = n;
    return 0;
}

/* Takes the digits off the front. */
static struct pg_str take_digits(struct pg_str *s)
{
    size_t n = 0;
    while (n < s->len && is_digit(s->p[n])) {
        n++;
    }
    struct pg_str head = pg_str_n(s->p, n);
    *s = pg_str_sub(*s, n);
    return head;
}

/* Takes a unit off the front; milliseconds in one of it, or 0. */
static uint64_t take_unit(struct pg_str *s)
{
    static const struct {
        const char *name;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    for (size_t i = 0; i < PG_ARRAY_LEN(units); i++) {
        struct pg_str name = pg_str_c(units[i].name);
        if (pg_str_has_prefix(*s, name)) {
            *s = pg_str_sub(*s, name.len);
            return units[i].ms;
        }
    }
    return 0;
}

/* ".5" of a unit of `unit_ms`: 0.xxx times the unit, whole milliseconds only. */
static int fraction_ms(struct pg_str frac, uint64_t unit_ms, uint64_t *out)
{
    uint64_t scale = 1;
    uint64_t n;
    if (frac.len > 9 || pg_str_u64(frac, UINT64_MAX, &n) < 0) {
        return PG_E_PARSE;
    }
    for (size_t i = 0; i < frac.len; i++) {
        scale *= 10;
    }
    if (n * unit_ms % scale != 0) {
        return PG_E_PARSE;
    }
    *out = n * unit_ms / scale;
    return 0;
}

/* One "<number><unit>" off the front, added to *total. */
static int take_part(struct pg_str *s, uint64_t *total)
{
    uint64_t n;
    uint64_t frac_ms = 0;
    if (pg_str_u64(take_digits(s), UINT64_MAX, &n) < 0) {
        return PG_E_PARSE;
    }
    struct pg_str frac = PG_STR_NONE;
    bool has_frac = s->len != 0 && s->p[0] == '.';
    if (has_frac) {
        *s = pg_str_sub(*s, 1);
        frac = take_digits(s);
    }
    uint64_t unit = take_unit(s);
    if (unit == 0 || (has_frac && fraction_ms(frac, unit, &frac_ms) < 0)) {
        return PG_E_PARSE;
    }
    if (__builtin_mul_overflow(n, unit, &n) || __builtin_add_overflow(n, frac_ms, &n) ||
        __builtin_add_overflow(*total, n, total)) {
        return PG_E_PARSE;
    }
    return 0;
}

int pg_str_duration_ms(struct pg_str s, uint64_t *out)
{
    /* So that the same span in nanoseconds still fits a signed 64-bit number. */
    const uint64_t most = INT64_MAX / 1000000;
    uint64_t total = 0;
    if (pg_str_eq(s, PG_STR("0"))) {
        *out = 0;
        return 0;
    }
    if (s.len == 0) {
        return PG_E_PARSE;
    }
    while (s.len != 0) {
        int r = take_part(&s, &total);
        if (r < 0) {
            return r;
        }
    }
    if (total > most) {
        return PG_E_PARSE;
    }
    *out = total;
    return 0;
}

size_t pg_utf8_step(struct pg_str s, uint32_t *cp)
{
    if (s.len == 0) {
        return 0;
    }
    const unsigned char *p = (const unsigned char *)s.p;
    if (p[0] < 0x80) {
        *cp = p[0];
        return 1;
    }
    size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || s.len < n) {
        return 0;
    }
    uint32_t c = p[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
        c = c << 6 | (p[i] & 0x3fu);
    }
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) {
        return 0;
    }
    *cp = c;
    return n;
}

bool pg_str_is_utf8(struct pg_str s)
{
    while (s.len != 0) {
        uint32_t cp;
        size_t n = pg_utf8_step(s, &cp);
        if (n == 0 || cp == 0) {
            return false;
        }
        s = pg_str_sub(s, n);
    }
    return true;
}

struct pg_str pg_str_lower(struct pg_str s, char *buf, size_t cap)
{
    if (s.len >= cap) {
        return PG_STR_NONE;
    }
    for (size_t i = 0; i < s.len; i++) {
        buf[i] = lower(s.p[i]);
    }
    buf[s.len] = '\0';
    return pg_str_n(buf, s.len);
}
