/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole process in one test: control thread and two worker threads, admin, statistics and readiness over
 * HTTP, worlds crossing threads while connections run, then a drain. Also run under the thread sanitizer.
 */
#include "core/log.h"
#include "hbone/proxy.h"
#include "mesh.h"

#define CLIENTS 120
#define WORLDS 20u
#define CLIENT_BYTES 60000u
#define HOST "echo.demo.svc.cluster.local"

static struct hb_proxy *proxy;
static struct hb_config cfg;

static struct {
    int step;
    unsigned worlds;
    bool started;
    int bad;
    struct pg_timer *timer;
    char at[4][64]; /* admin, stats, ready, nothing */
} st;

static struct mesh_node shape; /* its table and certificate, no worker */
static struct mesh_echo *echo;
static struct mesh_client clients[CLIENTS];

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

static bool clients_done(void)
{
    for (size_t i = 0; i < CLIENTS; i++) {
        if (!mesh_client_done(&clients[i])) {
            return false;
        }
    }
    return st.started && st.worlds >= WORLDS;
}

/* Worlds go to the workers while they carry connections between each other and scrapes come back. */
static void on_timer(void *arg)
{
    (void)arg;
    struct hb_world *w;
    peering_snapshot *s;
    if (clients_done()) {
        next();
        return;
    }
    mesh_put_service(&shape, HOST, "", (st.worlds & 1) != 0 ? 1 : 2, 80, mesh_echo_port(echo), false);
    CU_ASSERT_EQUAL_FATAL(peering_table_snapshot(shape.table, &s), 0);
    CU_ASSERT_EQUAL_FATAL(hb_world_new(s, shape.creds, 1, true, "test", &w), 0);
    peering_snapshot_unref(s);
    for (unsigned i = 0; i < proxy->n_workers; i++) {
        hb_worker_set_world(proxy->workers[i], w);
    }
    hb_world_unref(w);
    st.worlds++;
    for (size_t i = 0; i < CLIENTS && !st.started; i++) {
        struct pg_addr to = pg_listener_addr(proxy->workers[i % 2]->pod.outbound);
        mesh_client_start(&clients[i], &to, CLIENT_BYTES + i, (uint32_t)i, false);
    }
    st.started = true;
    next();
}

static void next(void)
{
    if (st.step == 4 && !clients_done()) {
        st.step = 3; /* scrape again and again */
        pg_timer_start(st.timer, 1);
        return;
    }
    if ((size_t)st.step < PG_ARRAY_LEN(steps)) {
        int r = pg_http1_fetch(proxy->loop, st.at[steps[st.step].port], steps[st.step].method,
                               steps[st.step].path, PG_STR_NONE, 1u << 20, 5000, on_fetched, NULL);
        CU_ASSERT_EQUAL_FATAL(r, 0);
    }
}

/* One workload, client and server at once, so that its connections cross from worker to worker over HBONE. */
static void make_world(void)
{
    const struct mesh_workload me = {.ns = "demo",
                                     .name = "pod",
                                     .sa = "acct",
                                     .network = "",
                                     .last = 1,
                                     .hbone = true,
                                     .service = "demo/" HOST,
                                     .port = 80,
                                     .target = mesh_echo_port(echo)};
    CU_ASSERT_EQUAL_FATAL(peering_table_new(&shape.table), 0);
    mesh_put_workload(&shape, &me);
    mesh_creds(&shape, "demo", "acct");
    cfg.test.hbone_port = pg_listener_addr(proxy->workers[0]->pod.inbound).port;
    cfg.test.original_dst =
        (struct pg_addr){.ip = {.len = 4, .b = {127, 0, 0, 1}}, .port = mesh_echo_port(echo)};
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
    CU_ASSERT_EQUAL_FATAL(hb_config_load(&cfg, env, NULL, NULL, &err), 0);
    cfg.test = (struct hb_test_hooks){.on = true, .bind = {.len = 4, .b = {127, 0, 0, 1}}};
    /* Both workers must share ports, as in production: let the kernel pick them once. */
    CU_ASSERT_EQUAL_FATAL(hb_proxy_new(&cfg, &proxy, &err), 0);
    CU_ASSERT_EQUAL(proxy->n_workers, 2);
    address(st.at[0], sizeof(st.at[0]), proxy->admin);
    address(st.at[1], sizeof(st.at[1]), proxy->stats);
    address(st.at[2], sizeof(st.at[2]), proxy->ready_port);
    struct pg_loop *own = mesh_loop;
    mesh_loop = proxy->loop; /* the application and its clients live on the control thread */
    echo = mesh_echo_start(1, 0);
    make_world();
    CU_ASSERT_EQUAL_FATAL(pg_timer_new(proxy->loop, on_timer, NULL, &st.timer), 0);
    pg_timer_start(st.timer, 20);
    hb_proxy_run(proxy); /* ends by the last step */
    CU_ASSERT_EQUAL(st.bad, 0);
    CU_ASSERT_EQUAL(st.step, PG_ARRAY_LEN(steps));
    CU_ASSERT_FALSE(proxy->forced);
    size_t wrong = 0;
    for (size_t i = 0; i < CLIENTS; i++) {
        wrong += clients[i].err != 0 || clients[i].wrong || clients[i].got != CLIENT_BYTES + i ? 1 : 0;
        mesh_client_stop(&clients[i]);
    }
    CU_ASSERT_EQUAL(wrong, 0);
    CU_ASSERT_EQUAL(mesh_echo_accepted(echo), CLIENTS);
    for (unsigned i = 0; i < 2; i++) { /* the threads have ended */
        CU_ASSERT_TRUE(proxy->workers[i]->metrics.n.pool_dials >= 1);
    }
    CU_ASSERT_TRUE(st.worlds >= WORLDS);
    pg_timer_free(st.timer);
    mesh_echo_stop(echo);
    mesh_loop = own;
    hb_proxy_free(proxy);
    peering_table_free(shape.table);
    cert_creds_unref(shape.creds);
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

int main(void)
{
    static const struct test_case cases[] = {{"port taken", test_port_taken}, {"process", test_process}};
    if (mesh_setup() < 0) {
        return 2;
    }
    int r = test_main("hbone process", cases, PG_ARRAY_LEN(cases));
    mesh_teardown();
    return r;
}
