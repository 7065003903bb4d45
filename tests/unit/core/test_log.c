/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines against exact texts, filters, the rate limiter in virtual time, and a full pipe. */
#include "core/log.h"
#include "core/clock.h"
#include "testlib.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define WHEN 1787217243517204

static void expect_line(bool json, const char *want, enum pg_log_level level, const char *target,
                        const char *message, const struct pg_field *f, size_t n)
{
    struct pg_sb sb;
    pg_sb_init(&sb, 10000);
    pg_log_format(&sb, json, WHEN, level, target, message, f, n);
    CU_ASSERT_EQUAL(sb.err, 0);
    CU_ASSERT_STRING_EQUAL(sb.p, want);
    if (!pg_str_eq_c(pg_sb_view(&sb), want)) {
        (void)fprintf(stderr, "got:  %swant: %s", sb.p, want);
    }
    pg_sb_fini(&sb);
}

static struct pg_addr addr(const char *text)
{
    struct pg_addr a = {0};
    CU_ASSERT_EQUAL(pg_addr_parse(pg_str_c(text), &a), 0);
    return a;
}

static void access_line(void)
{
    struct pg_addr src = addr("10.244.1.7:41822");
    struct pg_addr dst = addr("[fd00::9]:15008");
    const struct pg_field f[] = {
        PG_F_ADDR("src.addr", &src),
        PG_F_C("src.workload", "cart-6c9f7-x2x1z"),
        PG_F_OPT_STR("src.identity", PG_STR_NONE),
        PG_F_ADDR("dst.addr", &dst),
        PG_F_RAW("dst.hbone_addr", PG_STR("10.244.2.9:8080")),
        PG_F_ADDR("unset", NULL),
        PG_F_U64("bytes_sent", 84),
        PG_F_I64("delta", -5),
        PG_F_BOOL("retried", true),
        PG_F_C("duration", "12ms"),
    };
    expect_line(false,
                "2026-08-20T09:14:03.517204Z\tinfo\taccess\tconnection complete\tsrc.addr=10.244.1.7:41822 "
                "src.workload=\"cart-6c9f7-x2x1z\" dst.addr=[fd00::9]:15008 dst.hbone_addr=10.244.2.9:8080 "
                "bytes_sent=84 delta=-5 retried=true duration=\"12ms\"\n",
                PG_LOG_INFO, "access", "connection complete", f, PG_ARRAY_LEN(f));
    expect_line(true,
                "{\"level\":\"info\",\"time\":\"2026-08-20T09:14:03.517204Z\",\"scope\":\"access\","
                "\"message\":\"connection complete\",\"src.addr\":\"10.244.1.7:41822\","
                "\"src.workload\":\"cart-6c9f7-x2x1z\",\"dst.addr\":\"[fd00::9]:15008\","
                "\"dst.hbone_addr\":\"10.244.2.9:8080\",\"bytes_sent\":84,\"delta\":-5,\"retried\":true,"
                "\"duration\":\"12ms\"}\n",
                PG_LOG_INFO, "access", "connection complete", f, PG_ARRAY_LEN(f));
}

static void no_fields_and_levels(void)
{
    expect_line(false, "2026-08-20T09:14:03.517204Z\terror\txds\tgone\n", PG_LOG_ERROR, "xds", "gone", NULL,
                0);
    expect_line(false, "2026-08-20T09:14:03.517204Z\twarn\txds\tgone\n", PG_LOG_WARN, "xds", "gone", NULL, 0);
    expect_line(false, "2026-08-20T09:14:03.517204Z\tdebug\txds\tgone\n", PG_LOG_DEBUG, "xds", "gone", NULL,
                0);
    expect_line(true,
                "{\"level\":\"trace\",\"time\":\"2026-08-20T09:14:03.517204Z\",\"scope\":\"xds\",\"message\":"
                "\"gone\"}\n",
                PG_LOG_TRACE, "xds", "gone", NULL, 0);
}

static void escaping(void)
{
    const struct pg_field f[] = {
        PG_F_STR("a", PG_STR("q\" b\\ n\n r\r t\t z\0 e\x1b d\x7f")),
        PG_F_STR("b", PG_STR("\xc3\xa9 bad\xff c1\xc2\x85 bidi\xe2\x80\xae")),
        PG_F_RAW("c", PG_STR("x y")),
        PG_F_RAW("d", PG_STR("forged=1 level=\"error\"")),
        PG_F_RAW("e", PG_STR("")),
        PG_F_RAW("f", PG_STR("a\nb")),
    };
    expect_line(false,
                "2026-08-20T09:14:03.517204Z\tinfo\tt\\nt\tm\\tm\t"
                "a=\"q\\\" b\\\\ n\\n r\\r t\\t z\\0 e\\u{1b} d\\u{7f}\" "
                "b=\"\xc3\xa9 bad\xef\xbf\xbd c1\\u{85} bidi\\u{202e}\" c=\"x y\" "
                "d=\"forged=1 level=\\\"error\\\"\" e=\"\" f=\"a\\nb\"\n",
                PG_LOG_INFO, "t\nt", "m\tm", f, PG_ARRAY_LEN(f));
    expect_line(true,
                "{\"level\":\"info\",\"time\":\"2026-08-20T09:14:03.517204Z\",\"scope\":\"t\\nt\","
                "\"message\":\"m\\tm\","
                "\"a\":\"q\\\" b\\\\ n\\n r\\r t\\t z\\u0000 e\\u001b d\\u007f\"}\n",
                PG_LOG_INFO, "t\nt", "m\tm", f, 1);
}

static void set(const char *filter, const char *want)
{
    char got[200];
    struct pg_errtext err = {""};
    CU_ASSERT_EQUAL(pg_log_set_filter(filter, &err), 0);
    pg_log_get_filter(got, sizeof(got));
    CU_ASSERT_STRING_EQUAL(got, want);
}

static void filters(void)
{
    set("info", "info");
    CU_ASSERT(pg_log_enabled(PG_LOG_INFO, "xds"));
    CU_ASSERT_FALSE(pg_log_enabled(PG_LOG_DEBUG, "xds"));
    CU_ASSERT_FALSE(pg_log_enabled(PG_LOG_OFF, "xds"));
    set("xds=debug,info", "xds=debug,info");
    CU_ASSERT(pg_log_enabled(PG_LOG_DEBUG, "xds"));
    CU_ASSERT(pg_log_enabled(PG_LOG_DEBUG, "xds::client"));
    CU_ASSERT(pg_log_enabled(PG_LOG_DEBUG, "xds:xds{id=1}"));
    CU_ASSERT_FALSE(pg_log_enabled(PG_LOG_DEBUG, "xdsx"));
    CU_ASSERT_FALSE(pg_log_enabled(PG_LOG_DEBUG, "access"));
    CU_ASSERT(pg_log_enabled(PG_LOG_INFO, "access"));
    CU_ASSERT_FALSE(pg_log_enabled(PG_LOG_TRACE, "xds"));
}

static void filters_more(void)
{
    set("access=off,warn", "access=off,warn");
    CU_ASSERT_FALSE(pg_log_enabled(PG_LOG_ERROR, "access"));
    CU_ASSERT(pg_log_enabled(PG_LOG_WARN, "xds"));
    set("a=debug,a::b=error", "a=debug,a::b=error,info"); /* the longest rule wins, wherever it stands */
    CU_ASSERT(pg_log_enabled(PG_LOG_DEBUG, "a::c"));
    CU_ASSERT_FALSE(pg_log_enabled(PG_LOG_WARN, "a::b"));
    CU_ASSERT(pg_log_enabled(PG_LOG_INFO, "other"));
    set("a::b=error,a=debug", "a::b=error,a=debug,info");
    CU_ASSERT_FALSE(pg_log_enabled(PG_LOG_WARN, "a::b"));
    set("a=debug,a=trace", "a=trace,info");
    set("ztunnel::access=debug", "access=debug,info");
    set("xds:debug", "xds=debug,info"); /* the spelling of ztunnel's help text */
    set("xds::client:debug", "xds::client=debug,info");
    set("nobody=trace", "nobody=trace,info"); /* an unknown target is no error */
    set("", "info");
    set(" Warn ,,", "warn");
    char small[8];
    set("access=off,warn", "access=off,warn");
    pg_log_get_filter(small, sizeof(small));
    CU_ASSERT_STRING_EQUAL(small, "access=");
    set("info", "info");
}

static void bad_filters(void)
{
    static const char *const bad[] = {
        "verbose", "xds=loud", "=debug", "xds=", "info,xds", "xds=debug=", ":info", "[span]=debug,5"};
    char got[100];
    set("xds=debug,warn", "xds=debug,warn");
    for (size_t i = 0; i < PG_ARRAY_LEN(bad); i++) {
        struct pg_errtext err = {""};
        CU_ASSERT_EQUAL(pg_log_set_filter(bad[i], &err), PG_E_PARSE);
        CU_ASSERT_EQUAL(strncmp(err.text, "invalid log filter \"", 20), 0);
        pg_log_get_filter(got, sizeof(got));
        CU_ASSERT_STRING_EQUAL(got, "xds=debug,warn");
    }
    struct pg_errtext err = {""};
    CU_ASSERT_EQUAL(pg_log_set_filter("info,xds=loud", &err), PG_E_PARSE);
    CU_ASSERT_STRING_EQUAL(err.text, "invalid log filter \"xds=loud\"");
    CU_ASSERT_EQUAL(pg_log_set_filter("loud", NULL), PG_E_PARSE);
    char many[1000] = "";
    for (size_t i = 0; i < 33; i++) {
        (void)snprintf(many + strlen(many), sizeof(many) - strlen(many), "t%zu=info,", i);
    }
    CU_ASSERT_EQUAL(pg_log_set_filter(many, &err), PG_E_PARSE);
    set("info", "info");
}

static int calls;

static const char *counted(void)
{
    calls++;
    return "x";
}

struct seen {
    int lines;
    enum pg_log_level level;
    size_t fields;
};

static void sink(void *arg, enum pg_log_level level, const char *target, const char *message,
                 const struct pg_field *fields, size_t n)
{
    struct seen *s = arg;
    s->lines++;
    s->level = level;
    s->fields = n;
    CU_ASSERT_STRING_EQUAL(target, "t");
    CU_ASSERT_STRING_EQUAL(message, "m");
    CU_ASSERT(n == 0 || pg_str_eq_c(fields[0].v.str, "x"));
    errno = EIO;
}

static void sink_and_laziness(void)
{
    struct seen s = {0};
    set("info", "info");
    pg_log_set_sink(sink, &s);
    calls = 0;
    errno = ENOENT;
    PG_LOG(PG_LOG_DEBUG, "t", "m", PG_F_C("k", counted()));
    CU_ASSERT_EQUAL(calls, 0);
    CU_ASSERT_EQUAL(s.lines, 0);
    PG_LOG(PG_LOG_WARN, "t", "m", PG_F_C("k", counted()), PG_F_U64("n", 1));
    CU_ASSERT_EQUAL(calls, 1);
    CU_ASSERT_EQUAL(s.lines, 1);
    CU_ASSERT_EQUAL(s.level, PG_LOG_WARN);
    CU_ASSERT_EQUAL(s.fields, 2);
    PG_LOG0(PG_LOG_INFO, "t", "m");
    CU_ASSERT_EQUAL(s.lines, 2);
    CU_ASSERT_EQUAL(errno, ENOENT);
    pg_log_set_sink(NULL, NULL);
}

static int64_t fixed_wall(void *arg)
{
    (void)arg;
    return WHEN;
}

struct out {
    int fds[2];
    struct pg_clock clock;
};

static void out_open(struct out *o, bool json)
{
    CU_ASSERT_FATAL(pipe(o->fds) == 0);
    o->clock = (struct pg_clock){.wall_us = fixed_wall};
    pg_clock_set(&o->clock);
    pg_log_set_output(o->fds[1], json);
}

static void out_close(struct out *o)
{
    pg_log_set_output(STDOUT_FILENO, false);
    pg_clock_set(NULL);
    close(o->fds[0]);
    close(o->fds[1]);
}

static void expect_out(struct out *o, const char *want)
{
    char got[8192];
    ssize_t n = read(o->fds[0], got, sizeof(got) - 1);
    CU_ASSERT_FATAL(n > 0);
    got[n] = '\0';
    CU_ASSERT_STRING_EQUAL(got, want);
}

static void default_output(void)
{
    struct out o;
    out_open(&o, false);
    PG_LOG(PG_LOG_INFO, "t", "m", PG_F_U64("n", 1));
    expect_out(&o, "2026-08-20T09:14:03.517204Z\tinfo\tt\tm\tn=1\n");
    pg_log_set_output(o.fds[1], true);
    PG_LOG0(PG_LOG_INFO, "t", "m");
    expect_out(
        &o,
        "{\"level\":\"info\",\"time\":\"2026-08-20T09:14:03.517204Z\",\"scope\":\"t\",\"message\":\"m\"}\n");
    out_close(&o);
}

static void long_line_still_tells(void)
{
    struct out o;
    static char big[5000];
    memset(big, 'x', sizeof(big));
    out_open(&o, false);
    PG_LOG(PG_LOG_INFO, "t", "m", PG_F_STR("n", pg_str_n(big, sizeof(big))));
    expect_out(&o, "2026-08-20T09:14:03.517204Z\tinfo\tt\tm\tfields_too_long=true\n");
    out_close(&o);
}

static void full_pipe_drops(void)
{
    struct out o;
    static char fill[4096];
    out_open(&o, false);
    int flags = fcntl(o.fds[1], F_GETFL);
    CU_ASSERT_FATAL(fcntl(o.fds[1], F_SETFL, flags | O_NONBLOCK) == 0);
    while (write(o.fds[1], fill, sizeof(fill)) > 0) {
    }
    CU_ASSERT_FATAL(fcntl(o.fds[1], F_SETFL, flags) == 0); /* blocking again: a plain write would hang */
    uint64_t before = pg_log_dropped();
    PG_LOG0(PG_LOG_INFO, "t", "m");
    PG_LOG0(PG_LOG_INFO, "t", "m");
    CU_ASSERT_EQUAL(pg_log_dropped(), before + 2);
    CU_ASSERT_EQUAL(read(o.fds[0], fill, sizeof(fill)), (ssize_t)sizeof(fill));
    PG_LOG0(PG_LOG_INFO, "t", "m");
    CU_ASSERT_EQUAL(pg_log_dropped(), before + 2);
    out_close(&o);
}

static void no_reader_no_memory(void)
{
    struct out o;
    out_open(&o, false);
    uint64_t before = pg_log_dropped();
    struct pg_fault f = {.armed = true, .repeat = SIZE_MAX};
    pg_mem_set_fault(&f);
    PG_LOG0(PG_LOG_INFO, "t", "m");
    pg_mem_set_fault(NULL);
    CU_ASSERT_EQUAL(pg_log_dropped(), before + 1);
    close(o.fds[0]);
    PG_LOG0(PG_LOG_INFO, "t", "m"); /* must not raise SIGPIPE either */
    CU_ASSERT_EQUAL(pg_log_dropped(), before + 2);
    o.fds[0] = dup(o.fds[1]);
    out_close(&o);
}

static void limiter(void)
{
    static struct pg_log_limit l;
    uint32_t held = 99;
    for (int i = 0; i < 5; i++) {
        CU_ASSERT(pg_log_allowed(&l, 5, 2, 1000, &held));
        CU_ASSERT_EQUAL(held, 0);
    }
    CU_ASSERT_FALSE(pg_log_allowed(&l, 5, 2, 1000, &held));
    CU_ASSERT_FALSE(pg_log_allowed(&l, 5, 2, 1499, &held));
    CU_ASSERT_FALSE(pg_log_allowed(&l, 5, 2, 900, &held)); /* a clock step back gives nothing */
    CU_ASSERT(pg_log_allowed(&l, 5, 2, 1500, &held));
    CU_ASSERT_EQUAL(held, 3);
    CU_ASSERT(pg_log_allowed(&l, 5, 2, 2000, &held));
    CU_ASSERT_EQUAL(held, 0);
    CU_ASSERT_FALSE(pg_log_allowed(&l, 5, 2, 2000, &held));
    int let = 0;
    for (uint64_t t = 2500; t < 12500; t++) {
        let += pg_log_allowed(&l, 5, 2, t, &held);
    }
    CU_ASSERT_EQUAL(let, 20);
    let = 0;
    for (int i = 0; i < 100; i++) {
        let += pg_log_allowed(&l, 5, 2, UINT64_MAX, NULL); /* a very long pause fills the burst, no more */
    }
    CU_ASSERT_EQUAL(let, 5);
}

TEST_MAIN("log", {"access line", access_line}, {"levels", no_fields_and_levels}, {"escaping", escaping},
          {"filters", filters}, {"more filters", filters_more}, {"bad filters", bad_filters},
          {"sink", sink_and_laziness}, {"output", default_output}, {"long line", long_line_still_tells},
          {"full pipe", full_pipe_drops}, {"no memory, no reader", no_reader_no_memory}, {"limiter", limiter})
