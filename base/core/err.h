/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Error codes of every module, lowest layer. A function returns 0 or a positive value on success and
 * one of these negative codes on failure. Callers branch on the class, logs carry the name.
 * Any thread. Nothing here allocates.
 */
#ifndef ISTHMUS_CORE_ERR_H
#define ISTHMUS_CORE_ERR_H

#include <stdbool.h>
#include <stddef.h>

#define PG_MUST_CHECK __attribute__((warn_unused_result))
#define PG_PRINTF(f, a) __attribute__((format(printf, f, a)))

/* What a caller can do about an error. */
enum pg_err_class {
    PG_CLASS_OK,
    PG_CLASS_AGAIN,  /* not now: wait for readiness */
    PG_CLASS_CLOSED, /* the connection or object is over; nothing is wrong with us */
    PG_CLASS_PEER,   /* the other side misbehaved */
    PG_CLASS_POLICY, /* refused on purpose */
    PG_CLASS_CONFIG, /* the user's input is wrong */
    PG_CLASS_NOMEM,  /* allocation failed or a cap was met */
    PG_CLASS_SYSTEM, /* the kernel or the network said no */
    PG_CLASS_BUG,    /* ours */
};

/* name, value, class, text */
#define PG_ERR_MAP(X)                                                                                        \
    X(AGAIN, -1, PG_CLASS_AGAIN, "would block")                                                              \
    X(CLOSED, -2, PG_CLASS_CLOSED, "closed")                                                                 \
    X(RESET, -3, PG_CLASS_CLOSED, "reset by peer")                                                           \
    X(TIMEDOUT, -4, PG_CLASS_SYSTEM, "timed out")                                                            \
    X(REFUSED, -5, PG_CLASS_SYSTEM, "connection refused")                                                    \
    X(UNREACHABLE, -6, PG_CLASS_SYSTEM, "unreachable")                                                       \
    X(IO, -7, PG_CLASS_SYSTEM, "input/output error")                                                         \
    X(NOMEM, -8, PG_CLASS_NOMEM, "out of memory")                                                            \
    X(LIMIT, -9, PG_CLASS_NOMEM, "limit reached")                                                            \
    X(PROTO, -10, PG_CLASS_PEER, "protocol error")                                                           \
    X(TLS, -11, PG_CLASS_PEER, "TLS error")                                                                  \
    X(UNTRUSTED, -12, PG_CLASS_POLICY, "peer identity not accepted")                                         \
    X(DENIED, -13, PG_CLASS_POLICY, "denied")                                                                \
    X(CONFIG, -14, PG_CLASS_CONFIG, "invalid configuration")                                                 \
    X(PARSE, -15, PG_CLASS_PEER, "malformed input")                                                          \
    X(NOTFOUND, -16, PG_CLASS_CONFIG, "not found")                                                           \
    X(EXISTS, -17, PG_CLASS_CONFIG, "already exists")                                                        \
    X(CANCELLED, -18, PG_CLASS_CLOSED, "cancelled")                                                          \
    X(UNSUPPORTED, -19, PG_CLASS_CONFIG, "not supported")                                                    \
    X(BUG, -20, PG_CLASS_BUG, "internal error")

enum pg_err {
    PG_OK = 0,
#define PG_ERR_ENUM(name, value, class, text) PG_E_##name = (value),
    PG_ERR_MAP(PG_ERR_ENUM)
#undef PG_ERR_ENUM
};

/* "PG_E_CLOSED"; "PG_OK" for >= 0; "PG_E_?" for an unknown code. Static storage. */
const char *pg_err_name(int err);
/* One short phrase in English. Static storage. */
const char *pg_err_str(int err);
enum pg_err_class pg_err_class(int err);
/* Translates an errno value (positive) into a pg_err. Unknown values become PG_E_IO. */
int pg_err_from_errno(int sys_errno);

/* Human context, filled by whoever found the error and prefixed on the way up. Fixed size: an error
 * path never allocates. Always NUL-terminated; too long a text is cut. */
struct pg_errtext {
    char text[256];
};
/* Replaces the text. `e` may be NULL (no-op). */
void pg_err_set(struct pg_errtext *e, const char *fmt, ...) PG_PRINTF(2, 3);
/* Puts "<formatted>: " before the text, so that it reads outside-in. `e` may be NULL. */
void pg_err_wrap(struct pg_errtext *e, const char *fmt, ...) PG_PRINTF(2, 3);

/* For our own bugs, never for input: prints the place and aborts, in every build. */
#define PG_BUG_ON(cond)                                                                                      \
    do {                                                                                                     \
        if (__builtin_expect(!!(cond), 0)) {                                                                 \
            pg_bug(#cond, __FILE__, __LINE__, __func__);                                                     \
        }                                                                                                    \
    } while (0)
_Noreturn void pg_bug(const char *what, const char *file, int line, const char *func);

#define PG_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define PG_CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#endif
