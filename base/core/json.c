/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The JSON writer. Invariant: whatever the caller's bytes are, the output is valid UTF-8 and valid JSON
 * as long as the builder has no error. One thread per writer.
 */
#include "core/json.h"

#include <inttypes.h>

#define DEPTH_MAX 60

void pg_json_init(struct pg_json *j, struct pg_sb *out, bool pretty)
{
    *j = (struct pg_json){.out = out, .pretty = pretty};
}

static void newline(struct pg_json *j)
{
    if (j->pretty) {
        pg_sb_ch(j->out, '\n');
        for (unsigned i = 0; i < j->depth; i++) {
            pg_sb_c(j->out, "  ");
        }
    }
}

static uint64_t depth_bit(const struct pg_json *j)
{
    return j->depth <= DEPTH_MAX ? (uint64_t)1 << j->depth : 0;
}

/* What stands before a key or an array element. */
static void separate(struct pg_json *j)
{
    if (j->after_key) {
        j->after_key = false;
        return;
    }
    if (j->has_item & depth_bit(j)) {
        pg_sb_ch(j->out, ',');
    }
    j->has_item |= depth_bit(j);
    if (j->depth != 0) {
        newline(j);
    }
}

static void begin(struct pg_json *j, char c)
{
    separate(j);
    pg_sb_ch(j->out, c);
    j->depth++;
    if (j->depth > DEPTH_MAX && j->out->err == 0) {
        j->out->err = PG_E_LIMIT;
    }
    j->has_item &= ~depth_bit(j);
}

static void end(struct pg_json *j, char c)
{
    PG_BUG_ON(j->depth == 0 || j->after_key);
    bool had = (j->has_item & depth_bit(j)) != 0;
    j->depth--;
    if (had) {
        newline(j);
    }
    pg_sb_ch(j->out, c);
}

void pg_json_obj(struct pg_json *j)
{
    begin(j, '{');
}

void pg_json_obj_end(struct pg_json *j)
{
    end(j, '}');
}

void pg_json_arr(struct pg_json *j)
{
    begin(j, '[');
}

void pg_json_arr_end(struct pg_json *j)
{
    end(j, ']');
}

void pg_json_key(struct pg_json *j, const char *key)
{
    PG_BUG_ON(j->after_key);
    pg_json_str(j, pg_str_c(key));
    pg_sb_c(j->out, j->pretty ? ": " : ":");
    j->after_key = true;
}

static void escape_char(struct pg_sb *out, uint32_t cp)
{
    switch (cp) {
    case '\n':
        pg_sb_c(out, "\\n");
        break;
    case '\r':
        pg_sb_c(out, "\\r");
        break;
    case '\t':
        pg_sb_c(out, "\\t");
        break;
    case '\b':
        pg_sb_c(out, "\\b");
        break;
    case '\f':
        pg_sb_c(out, "\\f");
        break;
    case '"':
    case '\\':
        pg_sb_ch(out, '\\');
        pg_sb_ch(out, (char)cp);
        break;
    default:
        pg_sb_fmt(out, "\\u%04" PRIx32, cp);
        break;
    }
}

void pg_json_escape(struct pg_sb *out, struct pg_str s)
{
    size_t plain = 0; /* bytes at the front of `s` that go out as they are */
    while (plain < s.len) {
        uint32_t cp;
        size_t n = pg_utf8_step(pg_str_sub(s, plain), &cp);
        if (n != 0 && cp >= 0x20 && cp != 0x7f && cp != '"' && cp != '\\') {
            plain += n;
            continue;
        }
        pg_sb_add(out, s.p, plain);
        if (n == 0) {
            pg_sb_c(out, "\xEF\xBF\xBD"); /* U+FFFD for each bad byte */
        } else {
            escape_char(out, cp);
        }
        s = pg_str_sub(s, plain + (n != 0 ? n : 1));
        plain = 0;
    }
    pg_sb_add(out, s.p, s.len);
}

void pg_json_str(struct pg_json *j, struct pg_str s)
{
    separate(j);
    pg_sb_ch(j->out, '"');
    pg_json_escape(j->out, s);
    pg_sb_ch(j->out, '"');
}

void pg_json_c(struct pg_json *j, const char *z)
{
    if (z == NULL) {
        pg_json_null(j);
    } else {
        pg_json_str(j, pg_str_c(z));
    }
}

void pg_json_u64(struct pg_json *j, uint64_t n)
{
    separate(j);
    pg_sb_fmt(j->out, "%" PRIu64, n);
}

void pg_json_i64(struct pg_json *j, int64_t n)
{
    separate(j);
    pg_sb_fmt(j->out, "%" PRId64, n);
}

void pg_json_bool(struct pg_json *j, bool b)
{
    separate(j);
    pg_sb_c(j->out, b ? "true" : "false");
}

void pg_json_null(struct pg_json *j)
{
    separate(j);
    pg_sb_c(j->out, "null");
}

void pg_json_kstr(struct pg_json *j, const char *key, struct pg_str s)
{
    pg_json_key(j, key);
    pg_json_str(j, s);
}

void pg_json_kc(struct pg_json *j, const char *key, const char *z)
{
    pg_json_key(j, key);
    pg_json_c(j, z);
}

void pg_json_ku64(struct pg_json *j, const char *key, uint64_t n)
{
    pg_json_key(j, key);
    pg_json_u64(j, n);
}

void pg_json_ki64(struct pg_json *j, const char *key, int64_t n)
{
    pg_json_key(j, key);
    pg_json_i64(j, n);
}

void pg_json_kbool(struct pg_json *j, const char *key, bool b)
{
    pg_json_key(j, key);
    pg_json_bool(j, b);
}
