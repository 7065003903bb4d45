/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Error names, classes and the fixed-size human text. Invariant: nothing here allocates, so an error
 * path cannot fail itself. Any thread.
 */
#include "core/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct err_info {
    const char *name;
    const char *text;
    enum pg_err_class class;
};

static const struct err_info infos[] = {{"PG_OK", "success", PG_CLASS_OK},
#define ERR_INFO(name, value, class, text) [-(value)] = {"PG_E_" #name, text, class},
                                        PG_ERR_MAP(ERR_INFO)
#undef ERR_INFO
};

static const struct err_info *find(int err)
{
    static const struct err_info unknown = {"PG_E_?", "unknown error", PG_CLASS_BUG};
    if (err >= 0) {
        return &infos[0];
    }
    if (err <= -(int)PG_ARRAY_LEN(infos)) {
        return &unknown;
    }
    return &infos[-err];
}

const char *pg_err_name(int err)
{
    return find(err)->name;
}

const char *pg_err_str(int err)
{
    return find(err)->text;
}

enum pg_err_class pg_err_class(int err)
{
    return find(err)->class;
}

int pg_err_from_errno(int sys_errno)
{
    static const struct {
        int sys;
        int err;
    } table[] = {
        {EAGAIN, PG_E_AGAIN},
        {EINTR, PG_E_AGAIN},
        {EINPROGRESS, PG_E_AGAIN},
        {EPIPE, PG_E_CLOSED},
        {ENOTCONN, PG_E_CLOSED},
        {ECONNRESET, PG_E_RESET},
        {ECONNABORTED, PG_E_RESET},
        {ETIMEDOUT, PG_E_TIMEDOUT},
        {ECONNREFUSED, PG_E_REFUSED},
        {EHOSTUNREACH, PG_E_UNREACHABLE},
        {ENETUNREACH, PG_E_UNREACHABLE},
        {ENETDOWN, PG_E_UNREACHABLE},
        {EHOSTDOWN, PG_E_UNREACHABLE},
        {ENOMEM, PG_E_NOMEM},
        {ENOBUFS, PG_E_NOMEM},
        {EMFILE, PG_E_LIMIT},
        {ENFILE, PG_E_LIMIT},
        {EACCES, PG_E_DENIED},
        {EPERM, PG_E_DENIED},
        {ENOENT, PG_E_NOTFOUND},
        {EEXIST, PG_E_EXISTS},
        {EADDRINUSE, PG_E_EXISTS},
        {ECANCELED, PG_E_CANCELLED},
        {EOPNOTSUPP, PG_E_UNSUPPORTED},
        {EAFNOSUPPORT, PG_E_UNSUPPORTED},
        {EPROTONOSUPPORT, PG_E_UNSUPPORTED},
        {ENOPROTOOPT, PG_E_UNSUPPORTED},
        {ENOSYS, PG_E_UNSUPPORTED},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(table); i++) {
        if (table[i].sys == sys_errno) {
            return table[i].err;
        }
    }
    return PG_E_IO;
}

void pg_err_set(struct pg_errtext *e, const char *fmt, ...)
{
    if (e == NULL) {
        return;
    }
    /* Through a copy, so that an argument may point into the old text. */
    struct pg_errtext fresh;
    va_list ap;
    va_start(ap, fmt);
    if (vsnprintf(fresh.text, sizeof(fresh.text), fmt, ap) < 0) {
        fresh.text[0] = '\0';
    }
    va_end(ap);
    *e = fresh;
}

/* Appends what fits of `s` at `at`; returns the new end. */
static size_t append_cut(struct pg_errtext *e, size_t at, const char *s)
{
    size_t n = strlen(s);
    size_t room = sizeof(e->text) - 1 - at;
    n = n < room ? n : room;
    memcpy(e->text + at, s, n);
    e->text[at + n] = '\0';
    return at + n;
}

void pg_err_wrap(struct pg_errtext *e, const char *fmt, ...)
{
    if (e == NULL) {
        return;
    }
    struct pg_errtext fresh;
    va_list ap;
    va_start(ap, fmt);
    if (vsnprintf(fresh.text, sizeof(fresh.text), fmt, ap) < 0) {
        fresh.text[0] = '\0';
    }
    va_end(ap);
    size_t at = append_cut(&fresh, strlen(fresh.text), ": ");
    append_cut(&fresh, at, e->text);
    *e = fresh;
}

_Noreturn void pg_bug(const char *what, const char *file, int line, const char *func)
{
    char text[512];
    int n = snprintf(text, sizeof(text), "BUG: %s at %s:%d (%s)\n", what, file, line, func);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1;
    if (write(STDERR_FILENO, text, len) < 0) {
        /* Nowhere left to complain to; the core dump says the rest. */
    }
    abort();
}
