/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two line formats of the default sink, as ztunnel writes them. Invariant: whatever bytes a peer
 * sent, one event is one line and a field cannot be mistaken for another. Pure; any thread.
 */
#include "core/clock.h"
#include "core/json.h"
#include "core/log.h"

#include <inttypes.h>

static const char *level_name(enum pg_log_level level)
{
    static const char *const names[] = {"off", "error", "warn", "info", "debug", "trace"};
    return (size_t)level < PG_ARRAY_LEN(names) ? names[level] : "?";
}

static bool in_range(uint32_t cp, uint32_t first, uint32_t last)
{
    return cp >= first && cp <= last;
}

/* Controls, and the format characters that reorder or hide text on a terminal. */
static bool is_plain(uint32_t cp)
{
    return !(cp < 0x20 || in_range(cp, 0x7f, 0x9f) || in_range(cp, 0x200b, 0x200f) ||
             in_range(cp, 0x2028, 0x202e) || in_range(cp, 0x2060, 0x206f) || cp == 0xfeff);
}

static void escape_cp(struct pg_sb *out, uint32_t cp)
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
    case '\0':
        pg_sb_c(out, "\\0");
        break;
    case '"':
        pg_sb_c(out, "\\\"");
        break;
    case '\\':
        pg_sb_c(out, "\\\\");
        break;
    default:
        pg_sb_fmt(out, "\\u{%" PRIx32 "}", cp);
        break;
    }
}

/* Escapes as Rust's Debug does; `quoted` also takes care of quote and backslash. */
static void escape(struct pg_sb *out, struct pg_str s, bool quoted)
{
    size_t plain = 0;
    while (plain < s.len) {
        uint32_t cp;
        size_t n = pg_utf8_step(pg_str_sub(s, plain), &cp);
        if (n != 0 && is_plain(cp) && !(quoted && (cp == '"' || cp == '\\'))) {
            plain += n;
            continue;
        }
        pg_sb_add(out, s.p, plain);
        if (n == 0) {
            pg_sb_c(out, "\xEF\xBF\xBD"); /* U+FFFD for each bad byte */
        } else {
            escape_cp(out, cp);
        }
        s = pg_str_sub(s, plain + (n != 0 ? n : 1));
        plain = 0;
    }
    pg_sb_add(out, s.p, s.len);
}

static void quote(struct pg_sb *out, struct pg_str s)
{
    pg_sb_ch(out, '"');
    escape(out, s, true);
    pg_sb_ch(out, '"');
}

/* Raw text with blanks, quotes or anything but printable ASCII could forge a field: it gets quotes. */
static bool is_bare(struct pg_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];
        if (c <= ' ' || c > '~' || c == '"' || c == '\\') {
            return false;
        }
    }
    return s.len != 0;
}

static bool is_unset(const struct pg_field *f)
{
    return f->kind == PG_FIELD_NONE ||
           (f->kind == PG_FIELD_ADDR && (f->v.addr == NULL || f->v.addr->ip.len == 0));
}

static void text_field(struct pg_sb *out, const struct pg_field *f)
{
    char addr[PG_ADDR_TEXT];
    pg_sb_c(out, f->key);
    pg_sb_ch(out, '=');
    switch (f->kind) {
    case PG_FIELD_RAW:
        if (is_bare(f->v.str)) {
            pg_sb_str(out, f->v.str);
        } else {
            quote(out, f->v.str);
        }
        break;
    case PG_FIELD_STR:
        quote(out, f->v.str);
        break;
    case PG_FIELD_U64:
        pg_sb_fmt(out, "%" PRIu64, f->v.u64);
        break;
    case PG_FIELD_I64:
        pg_sb_fmt(out, "%" PRId64, f->v.i64);
        break;
    case PG_FIELD_BOOL:
        pg_sb_c(out, f->v.u64 != 0 ? "true" : "false");
        break;
    case PG_FIELD_ADDR:
        pg_sb_c(out, pg_addr_fmt(f->v.addr, addr));
        break;
    case PG_FIELD_NONE:
        break;
    }
}

static void json_field(struct pg_json *j, const struct pg_field *f)
{
    char addr[PG_ADDR_TEXT];
    switch (f->kind) {
    case PG_FIELD_RAW:
    case PG_FIELD_STR:
        pg_json_kstr(j, f->key, f->v.str);
        break;
    case PG_FIELD_U64:
        pg_json_ku64(j, f->key, f->v.u64);
        break;
    case PG_FIELD_I64:
        pg_json_ki64(j, f->key, f->v.i64);
        break;
    case PG_FIELD_BOOL:
        pg_json_kbool(j, f->key, f->v.u64 != 0);
        break;
    case PG_FIELD_ADDR:
        pg_json_kc(j, f->key, pg_addr_fmt(f->v.addr, addr));
        break;
    case PG_FIELD_NONE:
        break;
    }
}

static void format_json(struct pg_sb *out, const char *when, enum pg_log_level level, const char *target,
                        const char *message, const struct pg_field *fields, size_t n)
{
    struct pg_json j;
    pg_json_init(&j, out, false);
    pg_json_obj(&j);
    pg_json_kc(&j, "level", level_name(level));
    pg_json_kc(&j, "time", when);
    pg_json_kc(&j, "scope", target);
    pg_json_kc(&j, "message", message);
    for (size_t i = 0; i < n; i++) {
        if (!is_unset(&fields[i])) {
            json_field(&j, &fields[i]);
        }
    }
    pg_json_obj_end(&j);
    pg_sb_ch(out, '\n');
}

void pg_log_format(struct pg_sb *out, bool json, int64_t wall_us, enum pg_log_level level, const char *target,
                   const char *message, const struct pg_field *fields, size_t n)
{
    char when[PG_RFC3339_LEN];
    pg_clock_rfc3339(wall_us, when);
    if (json) {
        format_json(out, when, level, target, message, fields, n);
        return;
    }
    pg_sb_c(out, when);
    pg_sb_ch(out, '\t');
    pg_sb_c(out, level_name(level));
    pg_sb_ch(out, '\t');
    escape(out, pg_str_c(target), false);
    pg_sb_ch(out, '\t');
    escape(out, pg_str_c(message), false);
    char sep = '\t';
    for (size_t i = 0; i < n; i++) {
        if (!is_unset(&fields[i])) {
            pg_sb_ch(out, sep);
            text_field(out, &fields[i]);
            sep = ' ';
        }
    }
    pg_sb_ch(out, '\n');
}
