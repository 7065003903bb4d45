/* SPDX-License-Identifier: Apache-2.0 */
/* Streaming JSON writer on a string builder. Commas and nesting are its business; errors are the builder's.
 */
#ifndef ISTHMUS_CORE_JSON_H
#define ISTHMUS_CORE_JSON_H

#include "core/str.h"

struct pg_json {
    struct pg_sb *out;
    uint64_t has_item; /* bit per depth */
    unsigned depth;    /* at most 60 */
    bool pretty;       /* two-space indent */
    bool after_key;
};
void pg_json_init(struct pg_json *j, struct pg_sb *out, bool pretty);
void pg_json_obj(struct pg_json *j); /* { */
void pg_json_obj_end(struct pg_json *j);
void pg_json_arr(struct pg_json *j); /* [ */
void pg_json_arr_end(struct pg_json *j);
void pg_json_key(struct pg_json *j, const char *key);
void pg_json_str(struct pg_json *j, struct pg_str s); /* bytes that are not UTF-8 become U+FFFD */
void pg_json_c(struct pg_json *j, const char *z);     /* NULL writes null */
void pg_json_u64(struct pg_json *j, uint64_t n);
void pg_json_i64(struct pg_json *j, int64_t n);
void pg_json_bool(struct pg_json *j, bool b);
void pg_json_null(struct pg_json *j);
/* key and value in one call */
void pg_json_kstr(struct pg_json *j, const char *key, struct pg_str s);
void pg_json_kc(struct pg_json *j, const char *key, const char *z);
void pg_json_ku64(struct pg_json *j, const char *key, uint64_t n);
void pg_json_ki64(struct pg_json *j, const char *key, int64_t n);
void pg_json_kbool(struct pg_json *j, const char *key, bool b);
/* Appends `s` escaped as inside a JSON string (no quotes). */
void pg_json_escape(struct pg_sb *out, struct pg_str s);

#endif
