/* SPDX-License-Identifier: Apache-2.0 */
/* Is a text strict JSON (RFC 8259)? Written without the product's own code, so that it can find its faults.
 */
#ifndef ISTHMUS_FUZZ_JSON_CHECK_H
#define ISTHMUS_FUZZ_JSON_CHECK_H

#include "core/str.h"

static inline void jc_blank(struct pg_str *s)
{
    while (s->len > 0 && strchr(" \t\r\n", s->p[0]) != NULL && s->p[0] != '\0') {
        *s = pg_str_sub(*s, 1);
    }
}
static inline bool jc_lit(struct pg_str *s, const char *z)
{
    size_t n = strlen(z);
    if (s->len < n || memcmp(s->p, z, n) != 0) {
        return false;
    }
    *s = pg_str_sub(*s, n);
    return true;
}
/* The inside of a string up to the closing quote, or up to the end when `quoted` is false. */
static inline bool jc_chars(struct pg_str *s, bool quoted)
{
    while (s->len > 0 && !(quoted && s->p[0] == '"')) {
        unsigned char c = (unsigned char)s->p[0];
        size_t n = 1;
        uint32_t cp;
        if (c < 0x20 || c == '"') {
            return false;
        }
        if (c == '\\') {
            if (s->len < 2 || s->p[1] == '\0' || strchr("\"\\/bfnrtu", s->p[1]) == NULL) {
                return false;
            }
            n = s->p[1] == 'u' ? 6 : 2;
            for (size_t i = 2; i < n; i++) {
                if (s->len < n || s->p[i] == '\0' || strchr("0123456789abcdefABCDEF", s->p[i]) == NULL) {
                    return false;
                }
            }
        } else if (c >= 0x80) {
            n = pg_utf8_step(*s, &cp);
            if (n == 0) {
                return false;
            }
        }
        *s = pg_str_sub(*s, n);
    }
    return !quoted || jc_lit(s, "\"");
}
static inline bool jc_number(struct pg_str *s)
{
    size_t n = 0;
    (void)jc_lit(s, "-");
    while (n < s->len && s->p[n] >= '0' && s->p[n] <= '9') {
        n++;
    }
    bool ok = n > 0 && (n == 1 || s->p[0] != '0');
    *s = pg_str_sub(*s, n);
    return ok;
}
/* Whole numbers only: that is what we write. */
static inline bool jc_value(struct pg_str *s, unsigned depth)
{
    jc_blank(s);
    if (s->len == 0 || depth > 64) {
        return false;
    }
    char c = s->p[0];
    if (c == '"') {
        *s = pg_str_sub(*s, 1);
        return jc_chars(s, true);
    }
    if (c != '{' && c != '[') {
        return jc_lit(s, "true") || jc_lit(s, "false") || jc_lit(s, "null") || jc_number(s);
    }
    const char *end = c == '{' ? "}" : "]";
    *s = pg_str_sub(*s, 1);
    jc_blank(s);
    if (jc_lit(s, end)) {
        return true;
    }
    for (;;) {
        jc_blank(s);
        if (c == '{' && !(jc_lit(s, "\"") && jc_chars(s, true) && (jc_blank(s), jc_lit(s, ":")))) {
            return false;
        }
        if (!jc_value(s, depth + 1)) {
            return false;
        }
        jc_blank(s);
        if (jc_lit(s, end)) {
            return true;
        }
        if (!jc_lit(s, ",")) {
            return false;
        }
    }
}
static inline bool jc_document(struct pg_str s)
{
    bool ok = jc_value(&s, 0);
    jc_blank(&s);
    return ok && s.len == 0;
}

#endif
