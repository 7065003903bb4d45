/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Structured log: level, target (module or scope), constant message, typed fields. The sink makes the
 * text; the default one writes ztunnel's line format to stdout, plain
 *   <RFC3339 UTC us> TAB <level> TAB <target> TAB <message> TAB k=v k="text" ...
 * or JSON ({"level","time","scope","message", fields...}). Any thread: one line is one write(2); when the
 * descriptor would block, the line is dropped and counted; a line over 4096 bytes loses its fields. Arguments
 * are not evaluated when the level is off.
 */
#ifndef ISTHMUS_CORE_LOG_H
#define ISTHMUS_CORE_LOG_H

#include "core/addr.h"
#include "core/str.h"

enum pg_log_level {
    PG_LOG_OFF,
    PG_LOG_ERROR,
    PG_LOG_WARN,
    PG_LOG_INFO,
    PG_LOG_DEBUG,
    PG_LOG_TRACE,
};
enum pg_field_kind {
    PG_FIELD_NONE, /* left out: lets a caller write an optional field in place */
    PG_FIELD_STR,  /* quoted and escaped */
    PG_FIELD_RAW,  /* unquoted text, e.g. an address */
    PG_FIELD_U64,
    PG_FIELD_I64,
    PG_FIELD_BOOL,
    PG_FIELD_ADDR, /* ip:port, unquoted */
};
struct pg_field {
    const char *key;
    enum pg_field_kind kind;
    union {
        struct pg_str str;
        uint64_t u64;
        int64_t i64;
        const struct pg_addr *addr;
    } v;
};
#define PG_F_STR(k, s) ((struct pg_field){.key = (k), .kind = PG_FIELD_STR, .v.str = (s)})
#define PG_F_C(k, z) ((struct pg_field){.key = (k), .kind = PG_FIELD_STR, .v.str = pg_str_c(z)})
#define PG_F_RAW(k, s) ((struct pg_field){.key = (k), .kind = PG_FIELD_RAW, .v.str = (s)})
#define PG_F_U64(k, n) ((struct pg_field){.key = (k), .kind = PG_FIELD_U64, .v.u64 = (n)})
#define PG_F_I64(k, n) ((struct pg_field){.key = (k), .kind = PG_FIELD_I64, .v.i64 = (n)})
#define PG_F_BOOL(k, b) ((struct pg_field){.key = (k), .kind = PG_FIELD_BOOL, .v.u64 = (b)})
#define PG_F_ADDR(k, a) ((struct pg_field){.key = (k), .kind = PG_FIELD_ADDR, .v.addr = (a)})
/* `name` of an error code plus its text. */
#define PG_F_ERR(k, e) PG_F_C(k, pg_err_str(e))
#define PG_F_OPT_STR(k, s)                                                                                   \
    ((struct pg_field){.key = (k), .kind = (s).len ? PG_FIELD_STR : PG_FIELD_NONE, .v.str = (s)})

typedef void (*pg_log_sink)(void *arg, enum pg_log_level level, const char *target, const char *message,
                            const struct pg_field *fields, size_t n);
/* NULL restores the default sink. Set before threads start. */
void pg_log_set_sink(pg_log_sink sink, void *arg);
/* Default sink: descriptor to write to (1) and JSON instead of text. */
void pg_log_set_output(int fd, bool json);
/* "info", "debug", "xds=debug,info": RUST_LOG's subset; without a bare level the rest is at
 * info. A rule covers its target and "target:..." below it, the longest rule wins; at most 32 rules of 63
 * bytes. "target:level" and a leading "ztunnel::" are taken too. 0, or PG_E_PARSE with `err` naming the word;
 * the old filter stays on failure. */
int pg_log_set_filter(const char *filter, struct pg_errtext *err) PG_MUST_CHECK;
/* The filter now in force, written into `out` (for GET/POST /logging). */
void pg_log_get_filter(char *out, size_t cap);
bool pg_log_enabled(enum pg_log_level level, const char *target);
void pg_log_emit(enum pg_log_level level, const char *target, const char *message,
                 const struct pg_field *fields, size_t n);
/* Formats one line (with the final newline) into `out`; the default sink's two formats. */
void pg_log_format(struct pg_sb *out, bool json, int64_t wall_us, enum pg_log_level level, const char *target,
                   const char *message, const struct pg_field *fields, size_t n);
uint64_t pg_log_dropped(void);

/* PG_LOG(PG_LOG_INFO, "xds", "stream opened", PG_F_STR("peer", name), ...) - at least one field. */
#define PG_LOG(level, target, message, ...)                                                                  \
    do {                                                                                                     \
        if (pg_log_enabled((level), (target))) {                                                             \
            const struct pg_field pg_fields_[] = {__VA_ARGS__};                                              \
            pg_log_emit((level), (target), (message), pg_fields_, PG_ARRAY_LEN(pg_fields_));                 \
        }                                                                                                    \
    } while (0)
#define PG_LOG0(level, target, message)                                                                      \
    do {                                                                                                     \
        if (pg_log_enabled((level), (target))) {                                                             \
            pg_log_emit((level), (target), (message), NULL, 0);                                              \
        }                                                                                                    \
    } while (0)

/* For lines a peer can cause at will: at most `burst` at once and `per_s` a second; true when this one may
 * be written. `*suppressed` gets how many were held back since the last true (untouched on
 * false, may be NULL). Static storage, zeroed. Any thread. */
struct pg_log_limit {
    uint64_t last_ms;
    uint32_t tokens_milli;
    uint32_t held;
    bool primed;
};
bool pg_log_allowed(struct pg_log_limit *l, uint32_t burst, uint32_t per_s, uint64_t now_ms,
                    uint32_t *suppressed);

#endif
