/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole process in one test: control thread and two worker threads, admin, statistics and readiness over
 * HTTP, worlds crossing threads while connections run, then a drain. Also run under the thread sanitizer.
 */
#include "core/log.h"
#include "hbone/proxy.h"
#include "testlib.h"

#define ROUNDS 40

static struct hb_proxy *proxy;
static struct hb_config cfg;

static struct {
    int step;
    int rounds;
    int bad;
    struct pg_timer *timer;
    char at[4][64]; /* admin, stats, ready, nothing */
} st;

static void next(void);

static void expect(int err, int status, int want, struct pg_str body, const char *part)
{
    bool found = err == 0 && status == want &&
                 (part == NULL || (body.len > 0 && memmem(body.p, body.len, part, strlen(part)) != NULL));
    if (!found) {
        st.bad++;
        (void)printf("\nstep %d: err %d status %d, expected %d with \"%s\"\n", st.step, err, status, want,
                     part != NULL ? part : "");
    }
}

static const struct {
    int port;
    const char *method, *path;
    int status;
    const char *part;
} steps[] = {
    {2, "GET", "/healthz/ready", 200, "ready\n"},
    {2, "POST", "/healthz/ready", 405, NULL},
    {2, "GET", "/other", 404, NULL},
    {1, "GET", "/metrics", 200, "istio_build{component=\"ztunnel\""},
    {1, "GET", "/stats/prometheus", 200, "# EOF\n"},
    {1, "GET", "/", 404, NULL},
    {0, "GET", "/config_dump", 200, "\"workloadState\":{\"demo/pod\":{\"state\":\"Up\""},
    {0, "GET", "/config_dump", 200, "\"identity\":\"spiffe://cluster.local/ns/demo/sa/acct\""},
    {0, "POST", "/logging", 200, "current log level is"},
    {0, "POST", "/logging?level=nonsense", 400, "nonsense"},
    {0, "POST", "/logging?level=access=debug,warn", 200, "current log level is"},
    {0, "POST", "/logging?reset", 200, "current log level is"},
    {0, "GET", "/logging", 405, "usage"},
    {0, "GET", "/quitquitquit", 405, NULL},
    {0, "GET", "/nothing", 404, NULL},
    {0, "POST", "/quitquitquit", 200, "shutdown now"},
};

static void on_fetched(int err, int status, struct pg_str body, const char *text, void *arg)
{
    (void)text;
    (void)arg;
    expect(err, status, steps[st.step].status, body, steps[st.step].part);
    st.step++;
    next();
}

static void on_timer(void *arg)
{
    (void)arg;
    /* Worlds go to the workers while scrapes come back. */
    struct hb_world *w;
    CU_ASSERT_EQUAL_FATAL(hb_world_new(proxy->table, NULL, 0, true, "test", &w), 0);
    for (unsigned i = 0; i < proxy->n_workers; i++) {
        hb_worker_set_world(proxy->workers[i], w);
    }
    hb_world_unref(w);
    st.rounds++;
    next();
}

static void next(void)
{
    if (st.rounds < ROUNDS && st.step == 4) {
        st.step = 3; /* scrape again and again */
        pg_timer_start(st.timer, 1);
        st.rounds++;
        return;
    }
    if ((size_t)st.step < PG_ARRAY_LEN(steps)) {
        int r = pg_http1_fetch(proxy->loop, st.at[steps[st.step].port], steps[st.step].method,
                               steps[st.step].path, PG_STR_NONE, 1u << 20, 5000, on_fetched, NULL);
        CU_ASSERT_EQUAL_FATAL(r, 0);
    }
}

static void address(char *out, size_t cap, const struct pg_http1_server *s)
{
    struct pg_addr a = pg_http1_addr(s);
    char text[PG_ADDR_TEXT];
    (void)snprintf(out, cap, "%s", pg_addr_fmt(&a, text));
}

static void test_process(void)
{
    char mode[] = "PROXY_MODE=dedicated";
    char info[] = "PROXY_WORKLOAD_INFO=demo/pod/acct";
    char xds[] = "XDS_ADDRESS=";
    char ca[] = "CA_ADDRESS=";
    char workers[] = "ZTUNNEL_WORKER_THREADS=2";
    char dns[] = "ISTIO_META_DNS_CAPTURE=false";
    char *env[] = {mode, info, xds, ca, workers, dns, NULL};
    struct pg_errtext err = {.text = ""};
    CU_ASSERT_EQUAL(pg_log_set_filter("off", &err), 0);
    CU_ASSERT_EQUAL_FATAL(hb_config_load(&cfg, env, NULL, NULL, &err), 0);
    cfg.test = (struct hb_test_hooks){.on = true, .bind = {.len = 4, .b = {127, 0, 0, 1}}};
    /* Both workers must share ports, as in production: let the kernel pick them once. */
    CU_ASSERT_EQUAL_FATAL(hb_proxy_new(&cfg, &proxy, &err), 0);
    CU_ASSERT_EQUAL(proxy->n_workers, 2);
    address(st.at[0], sizeof(st.at[0]), proxy->admin);
    address(st.at[1], sizeof(st.at[1]), proxy->stats);
    address(st.at[2], sizeof(st.at[2]), proxy->ready_port);
    CU_ASSERT_EQUAL_FATAL(pg_timer_new(proxy->loop, on_timer, NULL, &st.timer), 0);
    pg_timer_start(st.timer, 20);
    hb_proxy_run(proxy); /* ends by the last step */
    CU_ASSERT_EQUAL(st.bad, 0);
    CU_ASSERT_EQUAL(st.step, PG_ARRAY_LEN(steps));
    CU_ASSERT_FALSE(proxy->forced);
    pg_timer_free(st.timer);
    hb_proxy_free(proxy);
    hb_config_fini(&cfg);
}

/* A port that is taken stops the start with a text that names it. */
static void test_port_taken(void)
{
    char mode[] = "PROXY_MODE=gateway";
    char info[] = "PROXY_WORKLOAD_INFO=demo/gw/gw";
    char xds[] = "XDS_ADDRESS=";
    char ca[] = "CA_ADDRESS=";
    char *env[] = {mode, info, xds, ca, NULL};
    struct pg_errtext err = {.text = ""};
    struct pg_loop *l;
    struct pg_listener *taken;
    struct pg_listen_options o = {0};
    struct pg_addr at = {.ip = {.len = 4, .b = {127, 0, 0, 1}}};
    size_t before = pg_mem_live_blocks();
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&l), 0);
    CU_ASSERT_EQUAL_FATAL(pg_tcp_listen(l, &at, &o, NULL, NULL, &taken, &err), 0);
    CU_ASSERT_EQUAL_FATAL(hb_config_load(&cfg, env, NULL, NULL, &err), 0);
    cfg.test = (struct hb_test_hooks){.on = true, .bind = at.ip, .inbound = pg_listener_addr(taken).port};
    CU_ASSERT_TRUE(hb_proxy_new(&cfg, &proxy, &err) < 0);
    char port[16];
    (void)snprintf(port, sizeof(port), ":%u", pg_listener_addr(taken).port);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, port));
    hb_config_fini(&cfg);
    pg_listener_free(taken);
    pg_loop_free(l);
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), before);
}

TEST_MAIN("hbone process", {"port taken", test_port_taken}, {"process", test_process})
