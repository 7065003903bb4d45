/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The JSON writer and the log line maker: whatever the strings hold, the output is valid JSON, one line of
 * log is one line, and the sizes a caller names are kept. First byte: which calls. One thread.
 */
#include "fuzz.h"
#include "json_check.h"

#include "core/json.h"
#include "core/log.h"

static void escape(struct pg_str in)
{
    struct pg_sb sb;
    pg_sb_init(&sb, 1u << 24);
    pg_json_escape(&sb, in);
    struct pg_str v = pg_sb_view(&sb);
    PG_BUG_ON(sb.err != 0 || !jc_chars(&v, false));
    pg_sb_fini(&sb);
}

/* A document whose shape the bytes choose. */
static void document(struct pg_str in, bool pretty)
{
    struct pg_sb sb;
    struct pg_json j;
    bool arr[32];
    unsigned depth = 1;
    pg_sb_init(&sb, 1u << 24);
    pg_json_init(&j, &sb, pretty);
    pg_json_obj(&j);
    arr[0] = false;
    for (unsigned steps = 0; in.len > 0 && steps < 2000; steps++) {
        uint8_t op = fuzz_u8(&in);
        if (op % 8 == 7) {
            if (depth > 1) {
                depth--;
                (arr[depth] ? pg_json_arr_end : pg_json_obj_end)(&j);
            }
            continue;
        }
        if (!arr[depth - 1]) {
            char *key = fuzz_z(fuzz_take(&in, op % 5u));
            pg_json_key(&j, key);
            pg_free(key);
        }
        switch (op % 8) {
        case 0:
        case 1:
            if (depth < PG_ARRAY_LEN(arr)) {
                arr[depth++] = op % 8 == 1;
                (op % 8 == 1 ? pg_json_arr : pg_json_obj)(&j);
                break;
            }
            pg_json_null(&j);
            break;
        case 2:
            pg_json_u64(&j, UINT64_MAX - op);
            break;
        case 3:
            pg_json_i64(&j, INT64_MIN + op);
            break;
        case 4:
            pg_json_bool(&j, op > 127);
            break;
        case 5:
            pg_json_null(&j);
            break;
        default:
            pg_json_str(&j, fuzz_text(&in));
        }
    }
    while (depth > 0) {
        depth--;
        (arr[depth] ? pg_json_arr_end : pg_json_obj_end)(&j);
    }
    PG_BUG_ON(sb.err != 0 || !jc_document(pg_sb_view(&sb)));
    pg_sb_fini(&sb);
}

static void log_line(struct pg_str in, bool json)
{
    struct pg_sb sb;
    struct pg_addr a = {.ip = {.len = 4}, .port = fuzz_u16(&in)};

    const struct pg_field fields[] = {
        PG_F_STR("key", fuzz_text(&in)),
        PG_F_OPT_STR("o", fuzz_text(&in)),
        PG_F_ADDR("a", &a),
        PG_F_I64("i", -(int64_t)in.len),
        PG_F_BOOL("b", json),
        PG_F_STR("rest", in),
    };
    pg_sb_init(&sb, 1u << 20);
    pg_log_format(&sb, json, 1700000000000000, PG_LOG_INFO, "fuzz", "message", fields, PG_ARRAY_LEN(fields));
    struct pg_str v = pg_sb_view(&sb);
    PG_BUG_ON(sb.err != 0 || v.len == 0 || pg_str_chr(v, '\n') != (ptrdiff_t)v.len - 1);
    PG_BUG_ON(json && !jc_document(v));
    pg_sb_fini(&sb);
}

static void one(struct pg_str in)
{
    uint8_t which = fuzz_u8(&in);
    escape(in);
    document(in, which & 1);
    log_line(in, which & 2);
}
FUZZ_TARGET(one, fuzz_no_init)
