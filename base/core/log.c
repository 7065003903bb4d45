/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filter, sink and rate limit of the log; the line formats are in log_format.c. Invariants: a line is
 * one write(2) or nothing; no thread ever waits for the reader of the log; with a plain level filter
 * the question "is it on?" takes no lock. Any thread, except where the header says "before threads".
 */
#include "core/log.h"

#include "core/clock.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#define RULES_MAX 32
#define TARGET_MAX 64
/* A pipe takes this much in one piece or says that it is full. */
#define LINE_MAX_BYTES PIPE_BUF

struct rule {
    char target[TARGET_MAX];
    enum pg_log_level level;
};
struct filter {
    enum pg_log_level level; /* for targets without a rule */
    size_t n;
    struct rule rules[RULES_MAX];
};

static pthread_mutex_t filter_lock = PTHREAD_MUTEX_INITIALIZER;
static struct filter filter = {.level = PG_LOG_INFO};
/* Bounds over all rules: below the first every line is on, above the second every line is off. */
static atomic_int always_on = PG_LOG_INFO;
static atomic_int never_on = PG_LOG_INFO;

static pg_log_sink sink;
static void *sink_arg;

static pthread_mutex_t out_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_int out_fd = STDOUT_FILENO;
static atomic_bool out_json;
static atomic_uint_fast64_t dropped;

static const char *const level_names[] = {"off", "error", "warn", "info", "debug", "trace"};

static int parse_level(struct pg_str word, enum pg_log_level *out)
{
    for (size_t i = 0; i < PG_ARRAY_LEN(level_names); i++) {
        if (pg_str_eq_nocase(word, pg_str_c(level_names[i]))) {
            *out = (enum pg_log_level)i;
            return 0;
        }
    }
    return PG_E_PARSE;
}

static int add_rule(struct filter *f, struct pg_str target, enum pg_log_level level)
{
    /* Filters written for ztunnel name its crate; our targets do not carry it. */
    struct pg_str crate = PG_STR("ztunnel::");
    while (pg_str_has_prefix(target, crate)) {
        target = pg_str_sub(target, crate.len);
    }
    if (target.len == 0 || target.len >= TARGET_MAX) {
        return PG_E_PARSE;
    }
    for (size_t k = 0; k < target.len; k++) {
        if (target.p[k] <= ' ' || target.p[k] >= 0x7f) { /* would not read back, or spoil what shows it */
            return PG_E_PARSE;
        }
    }
    size_t i = 0;
    while (i < f->n && !pg_str_eq_c(target, f->rules[i].target)) {
        i++;
    }
    if (i == RULES_MAX) {
        return PG_E_PARSE;
    }
    memcpy(f->rules[i].target, target.p, target.len);
    f->rules[i].target[target.len] = '\0';
    f->rules[i].level = level;
    f->n = i == f->n ? i + 1 : f->n;
    return 0;
}

/* "level", "target=level" or, as ztunnel's help text has it, "target:level". */
static int parse_word(struct filter *f, struct pg_str word)
{
    enum pg_log_level level;
    if (parse_level(word, &level) == 0) {
        f->level = level;
        return 0;
    }
    ptrdiff_t at = pg_str_rchr(word, '=');
    at = at >= 0 ? at : pg_str_rchr(word, ':');
    if (at <= 0 || parse_level(pg_str_sub(word, (size_t)at + 1), &level) < 0) {
        return PG_E_PARSE;
    }
    return add_rule(f, pg_str_n(word.p, (size_t)at), level);
}

static void publish(const struct filter *f)
{
    int low = f->level;
    int high = f->level;
    for (size_t i = 0; i < f->n; i++) {
        int level = f->rules[i].level;
        low = level < low ? level : low;
        high = level > high ? level : high;
    }
    (void)pthread_mutex_lock(&filter_lock);
    filter = *f;
    atomic_store_explicit(&always_on, low, memory_order_relaxed);
    atomic_store_explicit(&never_on, high, memory_order_relaxed);
    (void)pthread_mutex_unlock(&filter_lock);
}

int pg_log_set_filter(const char *text, struct pg_errtext *err)
{
    struct filter f = {.level = PG_LOG_INFO};
    struct pg_str rest = pg_str_c(text);
    struct pg_str word;
    while (pg_str_cut(&rest, ',', &word)) {
        word = pg_str_trim(word);
        if (word.len != 0 && parse_word(&f, word) < 0) {
            pg_err_set(err, "invalid log filter \"%.*s\"", (int)(word.len < 100 ? word.len : 100), word.p);
            return PG_E_PARSE;
        }
    }
    publish(&f);
    return 0;
}

static size_t copy_cut(char *out, size_t cap, size_t at, const char *z)
{
    while (*z != '\0' && at + 1 < cap) {
        out[at++] = *z++;
    }
    out[at] = '\0';
    return at;
}

void pg_log_get_filter(char *out, size_t cap)
{
    if (cap == 0) {
        return;
    }
    size_t at = 0;
    (void)pthread_mutex_lock(&filter_lock);
    for (size_t i = 0; i < filter.n; i++) {
        at = copy_cut(out, cap, at, filter.rules[i].target);
        at = copy_cut(out, cap, at, "=");
        at = copy_cut(out, cap, at, level_names[filter.rules[i].level]);
        at = copy_cut(out, cap, at, ",");
    }
    copy_cut(out, cap, at, level_names[filter.level]);
    (void)pthread_mutex_unlock(&filter_lock);
}

/* "xds" covers "xds", "xds::client", "xds:xds{id=1}", but not "xdsx". */
static bool covers(const char *rule, const char *target, size_t *len)
{
    *len = strlen(rule);
    return strncmp(rule, target, *len) == 0 && (target[*len] == '\0' || target[*len] == ':');
}

bool pg_log_enabled(enum pg_log_level level, const char *target)
{
    if (level == PG_LOG_OFF || (int)level > atomic_load_explicit(&never_on, memory_order_relaxed)) {
        return false;
    }
    if ((int)level <= atomic_load_explicit(&always_on, memory_order_relaxed)) {
        return true;
    }
    size_t best = 0;
    (void)pthread_mutex_lock(&filter_lock);
    enum pg_log_level limit = filter.level;
    for (size_t i = 0; i < filter.n; i++) {
        size_t len;
        if (covers(filter.rules[i].target, target, &len) && len > best) {
            best = len;
            limit = filter.rules[i].level;
        }
    }
    (void)pthread_mutex_unlock(&filter_lock);
    return level <= limit;
}

void pg_log_set_sink(pg_log_sink s, void *arg)
{
    sink = s;
    sink_arg = arg;
}

void pg_log_set_output(int fd, bool json)
{
    atomic_store(&out_fd, fd);
    atomic_store(&out_json, json);
}

uint64_t pg_log_dropped(void)
{
    return atomic_load_explicit(&dropped, memory_order_relaxed);
}

/* The lock keeps our own threads from filling the pipe between the question and the write. */
static bool write_line(struct pg_str line)
{
    (void)pthread_mutex_lock(&out_lock);
    struct pollfd p = {.fd = atomic_load(&out_fd), .events = POLLOUT};
    ssize_t n = -1;
    if (poll(&p, 1, 0) == 1 && (p.revents & POLLOUT) != 0 && (p.revents & POLLERR) == 0) {
        do {
            n = write(p.fd, line.p, line.len);
        } while (n < 0 && errno == EINTR);
    }
    (void)pthread_mutex_unlock(&out_lock);
    return n == (ssize_t)line.len;
}

static void default_sink(enum pg_log_level level, const char *target, const char *message,
                         const struct pg_field *fields, size_t n)
{
    struct pg_sb line;
    int64_t now = pg_clock_wall_us();
    bool json = atomic_load(&out_json);
    pg_sb_init(&line, LINE_MAX_BYTES);
    pg_log_format(&line, json, now, level, target, message, fields, n);
    if (line.err == PG_E_LIMIT) {
        /* A peer must not be able to hide an event by making its fields long. */
        const struct pg_field cut = PG_F_BOOL("fields_too_long", true);
        pg_sb_reset(&line);
        pg_log_format(&line, json, now, level, target, message, &cut, 1);
    }
    if (line.err != 0 || !write_line(pg_sb_view(&line))) {
        atomic_fetch_add_explicit(&dropped, 1, memory_order_relaxed);
    }
    pg_sb_fini(&line);
}

void pg_log_emit(enum pg_log_level level, const char *target, const char *message,
                 const struct pg_field *fields, size_t n)
{
    /* Callers log between a failing call and their look at errno. */
    int saved = errno;
    if (sink != NULL) {
        sink(sink_arg, level, target, message, fields, n);
    } else {
        default_sink(level, target, message, fields, n);
    }
    errno = saved;
}

bool pg_log_allowed(struct pg_log_limit *l, uint32_t burst, uint32_t per_s, uint64_t now_ms,
                    uint32_t *suppressed)
{
    static pthread_mutex_t limit_lock = PTHREAD_MUTEX_INITIALIZER;
    uint64_t most = (uint64_t)burst * 1000 < UINT32_MAX ? (uint64_t)burst * 1000 : UINT32_MAX;
    (void)pthread_mutex_lock(&limit_lock);
    if (!l->primed) {
        l->primed = true;
        l->tokens_milli = (uint32_t)most;
        l->last_ms = now_ms;
    }
    if (now_ms > l->last_ms) {
        uint64_t earned;
        /* per_s tokens a second are per_s thousandths a millisecond. */
        if (__builtin_mul_overflow(now_ms - l->last_ms, (uint64_t)per_s, &earned) || earned > most) {
            earned = most;
        }
        uint64_t tokens = l->tokens_milli + earned;
        l->tokens_milli = (uint32_t)(tokens < most ? tokens : most);
        l->last_ms = now_ms;
    }
    bool allowed = l->tokens_milli >= 1000;
    if (allowed) {
        l->tokens_milli -= 1000;
        if (suppressed != NULL) {
            *suppressed = l->held;
        }
        l->held = 0;
    } else if (l->held != UINT32_MAX) {
        l->held++;
    }
    (void)pthread_mutex_unlock(&limit_lock);
    return allowed;
}
