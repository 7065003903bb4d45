/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a control plane, one accident a test: restarts with everybody watching, links that move, memory
 * that runs out while a change is taken over, keys that change, callers who hold on too long.
 */
#include "mesh_testlib.h"

#include "net/sock.h"
#include "xds/client.h"

/* Two linked clusters; c1 exports s0 with two ready pods. */
static bool has_remote(struct mesh *m, void *arg)
{
    (void)arg;
    return mesh_has_cluster(mesh_global(m, 0, 0), "c1") && mesh_peer(m, 0, 1).f.data == PEER_DATA_FRESH;
}

static void pair(struct mesh *m)
{
    mesh_make(m);
    mesh_start(m, 0);
    mesh_start(m, 1);
    mesh_service(m, 1, 0, true, 2, 2);
    mesh_link(m, 0, 1);
    CU_ASSERT_TRUE_FATAL(mesh_until(m, has_remote, NULL));
}

/* --- every order of starting --- */

static bool all_see_all(struct mesh *m, void *arg)
{
    (void)arg;
    for (size_t i = 0; i < 3; i++) {
        for (size_t k = 0; k < 3; k++) {
            if (!mesh_has_cluster(mesh_global(m, i, k), m->nodes[k].cluster) || !m->nodes[i].c->is_ready) {
                return false;
            }
        }
    }
    return true;
}

static void test_start_orders(void)
{
    static const size_t orders[][3] = {{0, 1, 2}, {2, 1, 0}, {1, 0, 2}, {1, 2, 0}};
    struct mesh m;
    mesh_make(&m);
    for (size_t i = 0; i < 3; i++) { /* ports are known after the first start */
        mesh_start(&m, i);
        mesh_stop(&m, i);
        mesh_service(&m, i, i, true, 1, 1);
    }
    for (size_t i = 0; i < 3; i++) {
        mesh_link(&m, i, (i + 1) % 3);
        mesh_link(&m, i, (i + 2) % 3);
    }
    for (size_t o = 0; o < PG_ARRAY_LEN(orders); o++) {
        for (size_t k = 0; k < 3; k++) {
            mesh_start(&m, orders[o][k]);
            for (int t = 0; t < 20; t++) {
                mesh_turn(&m);
            }
        }
        CU_ASSERT_TRUE(mesh_until(&m, all_see_all, NULL));
        for (size_t k = 0; k < 3; k++) {
            mesh_stop(&m, orders[o][k]);
        }
    }
    mesh_fini(&m);
}

/* --- a peer's restart takes nothing away --- */

static void keeps_remote(struct mesh *m, void *arg)
{
    bool *lost = arg;
    *lost = *lost || !mesh_has_cluster(mesh_global(m, 0, 0), "c1");
}

static bool reconnected(struct mesh *m, void *arg)
{
    uint64_t *before = arg;
    struct mesh_fact x = mesh_peer(m, 0, 1);
    return x.f.disconnects > *before && x.f.synced && x.f.data == PEER_DATA_FRESH;
}

static void test_restart_keeps_services(void)
{
    struct mesh m;
    bool lost = false;
    pair(&m);
    m.always = keeps_remote;
    m.arg = &lost;
    for (int round = 0; round < 3; round++) {
        uint64_t before = mesh_peer(&m, 0, 1).f.disconnects;
        mesh_stop(&m, 1);
        mesh_start(&m, 1);
        /* The worst case: the peer asks before the first merge. */
        pg_timer_start(m.nodes[1].c->merge_timer, 1500);
        CU_ASSERT_TRUE(mesh_until(&m, reconnected, &before));
        CU_ASSERT_FALSE(lost);
    }
    mesh_fini(&m);
}

/* --- a link that moves (I2) --- */

static bool wrong_address_tried(struct mesh *m, void *arg)
{
    uint64_t *generation = arg;
    struct mesh_fact x = mesh_peer(m, 0, 1);
    (void)generation;
    return x.f.disconnects > 0 && !x.f.connected;
}

static void test_address_moves(void)
{
    struct mesh m;
    bool lost = false;
    uint64_t zero = 0;
    pair(&m);
    m.always = keeps_remote;
    m.arg = &lost;
    mesh_link_to(&m, 0, 1, 1); /* nobody there */
    CU_ASSERT_TRUE(mesh_until(&m, wrong_address_tried, &zero));
    CU_ASSERT_FALSE(lost);
    /* What the old stream brings is still in force. */
    mesh_service(&m, 1, 1, true, 1, 1);
    struct peering_control *c = m.nodes[0].c;
    size_t n = peers_contributions(c->peers, c->contributions);
    CU_ASSERT_EQUAL_FATAL(n, 1);
    uint64_t old = c->contributions[0].generation;
    mesh_link(&m, 0, 1);
    CU_ASSERT_TRUE(mesh_until(&m, has_remote, NULL));
    for (uint64_t end = pg_clock_mono_ms() + MESH_WAIT_MS; pg_clock_mono_ms() < end;) {
        n = peers_contributions(c->peers, c->contributions);
        if (n == 1 && c->contributions[0].generation > old && mesh_global(&m, 0, 1) != NULL) {
            break;
        }
        mesh_turn(&m);
    }
    CU_ASSERT_TRUE(c->contributions[0].generation > old);
    CU_ASSERT_PTR_NOT_NULL(mesh_global(&m, 0, 1));
    CU_ASSERT_FALSE(lost);
    /* New credentials: a new stream takes over, with no moment without data or without freshness. */
    old = c->contributions[0].generation;
    c->keys.renew_at_s = 0;
    bool stale = false;
    for (uint64_t end = pg_clock_mono_ms() + MESH_WAIT_MS; pg_clock_mono_ms() < end;) {
        n = peers_contributions(c->peers, c->contributions);
        stale = stale || n != 1 || c->contributions[0].data != PEER_DATA_FRESH;
        if (n == 1 && c->contributions[0].generation > old) {
            break;
        }
        mesh_turn(&m);
    }
    CU_ASSERT_TRUE(c->contributions[0].generation > old);
    CU_ASSERT_FALSE(stale);
    CU_ASSERT_FALSE(lost);
    mesh_fini(&m);
}

/* --- memory runs out while a change is taken over --- */

static bool remote_gone(struct mesh *m, void *arg)
{
    (void)arg;
    return mesh_global(m, 0, 0) == NULL;
}

static void test_no_memory(void)
{
    struct mesh m;
    size_t injected = 0;
    pair(&m);
    struct peering_control *c = m.nodes[0].c;
    /* One scan links the peer; each time another of its allocations fails. The next ticks put it right. */
    for (size_t i = 0; i < 400; i += 3) {
        mesh_unlink_peer(&m, 0, 1);
        CU_ASSERT_TRUE_FATAL(mesh_until(&m, remote_gone, NULL));
        mesh_link(&m, 0, 1);
        struct pg_fault f = {.armed = true, .countdown = i};
        pg_mem_set_fault(&f);
        pg_timer_start(c->tick, 0);
        for (int t = 0; t < 3 && f.injected == 0; t++) {
            mesh_turn(&m);
        }
        pg_mem_set_fault(NULL);
        injected += f.injected;
        pg_timer_start(c->tick, 0);
        if (!mesh_until(&m, has_remote, NULL)) {
            (void)fprintf(stderr, "allocation %zu\n", i);
            CU_FAIL_FATAL("the link never came");
        }
    }
    CU_ASSERT_TRUE(injected > 20);
    mesh_fini(&m);
}

/* --- start that fails, end with callers at the door --- */

static int start_and_stop(const peering_options *o)
{
    peering_text why = {""};
    peering_control *c = NULL;
    int r = peering_control_new(o, &c, &why);
    if (r == 0) {
        for (int t = 0; t < 4; t++) {
            pg_timer_start(c->merge_timer, 0);
            pg_loop_turn(c->loop, false);
        }
        peering_control_free(c);
    } else {
        CU_ASSERT_TRUE(why.text[0] != '\0');
    }
    return r;
}

static void test_start_without_memory(void)
{
    struct mesh m;
    size_t failed = 0;
    mesh_make(&m);
    mesh_service(&m, 2, 0, true, 1, 1);
    mesh_link_to(&m, 2, 1, 1);
    peering_options *o = mesh_options(&m, 2);
    CU_ASSERT_EQUAL(start_and_stop(o), 0); /* makes the state directory */
    size_t before = pg_mem_live_blocks();
    struct pg_fault count = {.armed = false};
    pg_mem_set_fault(&count);
    CU_ASSERT_EQUAL(start_and_stop(o), 0);
    pg_mem_set_fault(NULL);
    CU_ASSERT_TRUE(count.seen > 100);
    for (size_t i = 0; i < count.seen; i += 1 + i / 24) {
        struct pg_fault f = {.armed = true, .countdown = i};
        pg_mem_set_fault(&f);
        failed += start_and_stop(o) != 0 ? 1 : 0;
        pg_mem_set_fault(NULL);
        if (pg_mem_live_blocks() != before) {
            (void)fprintf(stderr, "allocation %zu\n", i);
            CU_FAIL_FATAL("a leak");
        }
    }
    CU_ASSERT_TRUE(failed > 10);
    peering_options_free(o);
    mesh_fini(&m);
}

static void no_event(struct pg_transport *t, unsigned rw, void *arg)
{
    (void)t;
    (void)rw;
    (void)arg;
}

static bool three_waiting(struct mesh *m, void *arg)
{
    (void)arg;
    return m->nodes[0].c->n_handshakes == 3;
}

static void test_end_with_handshakes(void)
{
    struct mesh m;
    mesh_make(&m);
    size_t before = pg_mem_live_blocks();
    mesh_start(&m, 0);
    struct pg_loop *l = NULL;
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&l), 0);
    struct pg_transport *t[3];
    for (size_t i = 0; i < 3; i++) {
        struct pg_addr to;
        struct pg_sock_options so = {0};
        struct pg_errtext why = {""};
        CU_ASSERT_EQUAL_FATAL(pg_addr_parse(pg_str_c(m.nodes[0].address), &to), 0);
        CU_ASSERT_EQUAL_FATAL(pg_tcp_connect(l, &to, &so, &t[i], &why), 0);
        pg_transport_set_owner(t[i], no_event, NULL);
        pg_loop_turn(l, false);
    }
    CU_ASSERT_TRUE(mesh_until(&m, three_waiting, NULL));
    mesh_stop(&m, 0);
    for (size_t i = 0; i < 3; i++) {
        pg_transport_abort(t[i]);
    }
    pg_loop_turn(l, false);
    pg_loop_free(l);
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), before);
    mesh_fini(&m);
}

/* --- a proxy of our own, for what proxies are told --- */

struct proxy {
    struct mesh *m;
    struct peering_control *home; /* in whose loop it lives */
    struct xds_client *client;
    size_t batches, resources, removals, attempts;
    struct pg_sb token;
    struct pg_sb chain, key; /* of a client certificate, instead of the token */
    char last[256];          /* how the last stream ended */
    bool expired_seen;
};

static int proxy_resource(void *arg, size_t type, const struct xds_delta_resource *r, struct pg_errtext *why)
{
    struct proxy *p = arg;
    (void)type;
    (void)r;
    (void)why;
    p->resources++;
    return 0;
}
static void proxy_removed(void *arg, size_t type, struct pg_str name)
{
    struct proxy *p = arg;
    (void)type;
    (void)name;
    p->removals++;
}
static void proxy_batch(void *arg, const struct adsc_result *r)
{
    (void)r;
    ((struct proxy *)arg)->batches++;
}
static void proxy_state(void *arg, const struct xds_client_event *e)
{
    struct proxy *p = arg;
    p->attempts += e->state == XDS_CONNECTING ? 1 : 0;
    if (e->state == XDS_DISCONNECTED) {
        (void)snprintf(p->last, sizeof(p->last), "%s", e->text);
        p->expired_seen = p->expired_seen || strstr(e->text, "client certificate has expired") != NULL;
    }
}
static struct cert_creds *proxy_creds(void *arg, struct pg_errtext *err)
{
    struct proxy *p = arg;
    struct cert_creds *c = NULL;
    struct cert_creds_options o = {.chain_pem = pg_sb_view(&p->chain),
                                   .key_pem = pg_sb_view(&p->key),
                                   .roots_pem = cert_ca_root_pem(p->home->keys.ca)};
    return cert_creds_new(&o, &c, err) == 0 ? c : NULL;
}
static int proxy_token(void *arg, struct pg_sb *out, struct pg_errtext *err)
{
    const struct proxy *p = arg;
    (void)err;
    pg_sb_str(out, pg_sb_view(&p->token));
    return out->err;
}

static void make_token(const struct mesh *m, const char *ns, const char *sa, const char *pod,
                       struct pg_sb *out)
{
    char dir[128];
    struct pg_errtext err = {""};
    (void)snprintf(dir, sizeof(dir), "%s/issuer", m->dir);
    pg_sb_init(out, CERT_JWT_MAX);
    CU_ASSERT_EQUAL_FATAL(cert_issuer_token(dir, ns, sa, pod, "istio-ca", pg_clock_wall_s(), 3600, out, &err),
                          0);
}

static void proxy_begin(struct proxy *p, const struct mesh *m, size_t to)
{
    static const char *const names[] = {"istiod.istio-system.svc"};
    const char *addresses[] = {m->nodes[to].address};
    const struct adsc_type types[] = {{.type_url = XDS_TYPE_ADDRESS}};
    const struct xds_client_callbacks cb = {proxy_resource, proxy_removed, proxy_batch, proxy_state};
    struct xds_client_options o = {.target = "proxy",
                                   .addresses = addresses,
                                   .n_addresses = 1,
                                   .server_names = names,
                                   .n_server_names = 1,
                                   .creds = proxy_creds,
                                   .token = proxy_token,
                                   .node = {.id = PG_STR("ztunnel~10.0.0.1~a.demo~demo.svc.cluster.local")},
                                   .types = types,
                                   .n_types = 1,
                                   .backoff = {.first_ms = 20, .max_ms = 50, .factor_pct = 150}};
    struct pg_errtext err = {""};
    CU_ASSERT_EQUAL_FATAL(xds_client_new(p->home->loop, p->home->resolver, &o, &cb, p, &p->client, &err), 0);
}

static void proxy_start(struct proxy *p, struct mesh *m, size_t home, size_t to)
{
    *p = (struct proxy){.m = m, .home = m->nodes[home].c};
    make_token(m, "demo", "a", NULL, &p->token);
    proxy_begin(p, m, to);
}

static void proxy_stop(struct proxy *p)
{
    xds_client_free(p->client);
    pg_sb_fini(&p->token);
    pg_sb_fini(&p->chain);
    pg_sb_fini(&p->key);
}

static bool proxy_has_batch(struct mesh *m, void *arg)
{
    (void)m;
    return ((struct proxy *)arg)->batches > 0;
}

/* Its TLS is done; the answer, headers included, is what it has to wait for. */
static bool proxy_is_back(struct mesh *m, void *arg)
{
    const struct proxy *p = arg;
    return p->attempts > 1 && m->nodes[0].c->merges > 0 && m->nodes[0].c->n_handshakes == 0;
}

static bool ready_0(struct mesh *m, void *arg)
{
    (void)arg;
    return m->nodes[0].c->is_ready;
}

/* After a restart a proxy that knows the peers' services is answered when the peers have answered, and not
 * with a table without them. One that knows nothing is served at once. */
static void test_proxy_waits(void)
{
    struct mesh m;
    struct proxy p, fresh;
    pair(&m);
    mesh_start(&m, 2);
    proxy_start(&p, &m, 2, 0);
    CU_ASSERT_TRUE(mesh_until(&m, proxy_has_batch, &p));
    CU_ASSERT_TRUE(p.resources >= 2); /* the union service and the entry of c1 */
    mesh_stop(&m, 0);
    mesh_stop(&m, 1);
    mesh_service(&m, 0, 1, false, 1, 1); /* so that there is something to tell the other one */
    mesh_start(&m, 0);
    p.batches = 0;
    CU_ASSERT_TRUE(mesh_until(&m, proxy_is_back, &p));
    proxy_start(&fresh, &m, 2, 0);
    CU_ASSERT_TRUE(mesh_until(&m, proxy_has_batch, &fresh));
    for (int t = 0; t < 50; t++) {
        mesh_turn(&m);
    }
    CU_ASSERT_FALSE(m.nodes[0].c->is_ready);
    CU_ASSERT_EQUAL(p.batches, 0);
    mesh_start(&m, 1);
    CU_ASSERT_TRUE(mesh_until(&m, ready_0, NULL));
    CU_ASSERT_TRUE(mesh_until(&m, proxy_has_batch, &p));
    CU_ASSERT_EQUAL(p.removals, 0);
    proxy_stop(&p);
    proxy_stop(&fresh);
    mesh_fini(&m);
}

/* A peer that does not answer keeps nobody waiting longer than the start deadline. */
static void test_start_deadline(void)
{
    struct mesh m;
    mesh_make(&m);
    mesh_link_to(&m, 0, 1, 1);
    mesh_start(&m, 0);
    CU_ASSERT_EQUAL(peering_options_set(m.nodes[0].c->options, "start-deadline", "200ms", NULL), 0);
    CU_ASSERT_TRUE(mesh_until(&m, ready_0, NULL));
    CU_ASSERT_TRUE(pg_loop_now_ms(m.nodes[0].c->loop) - m.nodes[0].c->started_ms >= 200);
    mesh_fini(&m);
}

/* --- certificates end --- */

#define ID(ns, sa) "spiffe://cluster.local/ns/" ns "/sa/" sa

/* A clock that moves a little with each look at it, and as far as the test says. */
static struct {
    uint64_t mono_ns;
    int64_t wall_us;
} fake;
static uint64_t fake_mono_ns(void *arg)
{
    (void)arg;
    fake.mono_ns += 20000;
    fake.wall_us += 20;
    return fake.mono_ns;
}
static int64_t fake_wall_us(void *arg)
{
    (void)arg;
    return fake.wall_us;
}

static void pass_time(struct mesh *m, unsigned seconds)
{
    for (unsigned s = 0; s < seconds; s += 25) {
        fake.mono_ns += 25000000000u;
        fake.wall_us += 25000000;
        for (int t = 0; t < 4; t++) {
            mesh_turn(m);
        }
    }
}

static bool stream_expired(struct mesh *m, void *arg)
{
    const struct proxy *p = arg;
    (void)m;
    return p->expired_seen && strstr(p->last, "tls: expired certificate") != NULL;
}

/* A stream ends with the certificate that opened it, and that certificate opens no other. */
static void test_certificate_ends(void)
{
    static const struct pg_clock ahead = {.mono_ns = fake_mono_ns, .wall_us = fake_wall_us};
    struct mesh m;
    struct proxy p = {0};
    struct pg_errtext err = {""};
    mesh_make(&m);
    mesh_start(&m, 0);
    mesh_start(&m, 2);
    p.m = &m;
    p.home = m.nodes[2].c;
    pg_sb_init(&p.token, 1);
    pg_sb_init(&p.chain, CERT_PEM_MAX);
    pg_sb_init(&p.key, CERT_PEM_MAX);
    CU_ASSERT_EQUAL_FATAL(cert_ca_issue_server(m.nodes[0].c->keys.ca, PG_STR(ID("demo", "a")), NULL, 0, 600,
                                               pg_clock_wall_s(), &p.chain, &p.key, &err),
                          0);
    mesh_service(&m, 0, 0, false, 1, 1);
    proxy_begin(&p, &m, 0);
    CU_ASSERT_TRUE(mesh_until(&m, proxy_has_batch, &p));
    fake.mono_ns = pg_clock_mono_ns();
    fake.wall_us = pg_clock_wall_us();
    pg_clock_set(&ahead);
    pass_time(&m, 500);
    CU_ASSERT_FALSE(p.expired_seen);
    pass_time(&m, 200);
    CU_ASSERT_TRUE(mesh_until(&m, stream_expired, &p));
    pg_clock_set(NULL);
    proxy_stop(&p);
    mesh_fini(&m);
}

/* --- keys change --- */

struct call {
    bool done;
    int err;
    size_t n;
    char text[256];
    char id[CERT_SPIFFE_MAX + 1];
};
static void on_signed(void *arg, int err, const struct pg_str *chain, size_t n, const char *text)
{
    struct call *c = arg;
    struct cert_facts facts;
    c->done = true;
    c->err = err;
    c->n = n;
    (void)snprintf(c->text, sizeof(c->text), "%s", text == NULL ? "" : text);
    if (err == 0 && n > 0 && cert_facts_of(chain[0], 0, &facts) == 0) {
        (void)snprintf(c->id, sizeof(c->id), "%s", facts.uri_san);
    }
}
static bool call_done(struct mesh *m, void *arg)
{
    (void)m;
    return ((struct call *)arg)->done;
}

/* One CreateCertificate: identity asked for in the CSR, impersonation or "". */
static struct call sign_as(struct mesh *m, const char *csr_id, const char *impersonate, struct pg_str token)
{
    static const char *const names[] = {"istiod.istio-system.svc"};
    struct peering_control *c = m->nodes[0].c;
    struct call call = {0};
    struct cert_key *key = NULL;
    struct cert_creds *creds = NULL;
    struct pg_errtext err = {""};
    struct pg_sb csr;
    struct xds_ca_call *handle = NULL;
    pg_sb_init(&csr, CERT_PEM_MAX);
    CU_ASSERT_EQUAL_FATAL(cert_key_new_p256(&key, &err), 0);
    CU_ASSERT_EQUAL_FATAL(cert_csr_make(key, pg_str_c(csr_id), &csr, &err), 0);
    struct cert_creds_options co = {.roots_pem = cert_ca_root_pem(c->keys.ca)};
    CU_ASSERT_EQUAL_FATAL(cert_creds_new(&co, &creds, &err), 0);
    struct xds_ca_options o = {.address = m->nodes[0].address,
                               .server_names = names,
                               .n_server_names = 1,
                               .creds = creds,
                               .token = token,
                               .cluster_id = "c0",
                               .request = {.csr = pg_sb_view(&csr), .impersonated = pg_str_c(impersonate)}};
    CU_ASSERT_EQUAL_FATAL(xds_ca_call(c->loop, c->resolver, &o, on_signed, &call, &handle, &err), 0);
    CU_ASSERT_TRUE(mesh_until(m, call_done, &call));
    pg_sb_fini(&csr);
    cert_creds_unref(creds);
    cert_key_free(key);
    return call;
}

#define ZTUNNEL                                                                                              \
    "{apiVersion: v1, kind: Pod, metadata: {name: zt-%s, namespace: istio-system}, spec: {nodeName: %s, "    \
    "serviceAccountName: ztunnel}, status: {phase: Running, podIP: 10.9.0.%s}}\n"

static void test_who_gets_what(void)
{
    struct mesh m;
    char text[512];
    mesh_make(&m);
    mesh_service(&m, 0, 0, false, 2, 2); /* s0-0 on node0, s0-1 on node1, both sa s0 */
    mesh_service(&m, 0, 1, false, 1, 1); /* s1-0 on node0 */
    (void)snprintf(text, sizeof(text), ZTUNNEL, "0", "node0", "1");
    mesh_write(&m, "c0", "zt0.yaml", text);
    (void)snprintf(text, sizeof(text), ZTUNNEL, "1", "node1", "2");
    mesh_write(&m, "c0", "zt1.yaml", text);
    (void)snprintf(text, sizeof(text), ZTUNNEL, "x", "\"\"", "3");
    mesh_write(&m, "c0", "ztx.yaml", text);
    mesh_start(&m, 0);
    static const struct {
        const char *ns, *sa, *pod, *csr, *impersonate, *got; /* got NULL: refused */
    } rows[] = {
        {"demo", "s0", NULL, ID("demo", "s0"), "", ID("demo", "s0")},
        /* The CSR's own wish counts for nothing. */
        {"demo", "s0", NULL, ID("demo", "s1"), "", ID("demo", "s0")},
        {"demo", "s0", NULL, ID("istio-system", "istiod"), "", ID("demo", "s0")},
        /* Not a trusted account, even for itself. */
        {"demo", "s0", "s0-0", ID("demo", "s1"), ID("demo", "s1"), NULL},
        {"demo", "s0", "s0-0", ID("demo", "s0"), ID("demo", "s0"), NULL},
        /* The node's own proxy: pods of its node and no other. */
        {"istio-system", "ztunnel", "zt-0", ID("demo", "s1"), ID("demo", "s1"), ID("demo", "s1")},
        {"istio-system", "ztunnel", "zt-0", ID("demo", "s0"), ID("demo", "s0"), ID("demo", "s0")},
        {"istio-system", "ztunnel", "zt-1", ID("demo", "s0"), ID("demo", "s0"), ID("demo", "s0")},
        {"istio-system", "ztunnel", "zt-1", ID("demo", "s1"), ID("demo", "s1"), NULL},
        /* A token bound to no pod, to a pod nobody knows, to a pod without node, of another account. */
        {"istio-system", "ztunnel", NULL, ID("demo", "s1"), ID("demo", "s1"), NULL},
        {"istio-system", "ztunnel", "zt-9", ID("demo", "s1"), ID("demo", "s1"), NULL},
        {"istio-system", "ztunnel", "zt-x", ID("demo", "s1"), ID("demo", "s1"), NULL},
        {"istio-system", "ztunnel", "s1-0", ID("demo", "s1"), ID("demo", "s1"), NULL},
        {"demo", "ztunnel", "zt-0", ID("demo", "s1"), ID("demo", "s1"), NULL},
        {"istio-system", "ztunnel2", "zt-0", ID("demo", "s1"), ID("demo", "s1"), NULL},
        /* Nobody's identity, another trust domain's, the control plane's, text that is none. */
        {"istio-system", "ztunnel", "zt-0", ID("demo", "s2"), ID("demo", "s2"), NULL},
        {"istio-system", "ztunnel", "zt-0", ID("demo", "s1"), "spiffe://other/ns/demo/sa/s1", NULL},
        {"istio-system", "ztunnel", "zt-0", ID("demo", "s1"), ID("istio-system", "istiod"), NULL},
        {"istio-system", "ztunnel", "zt-0", ID("demo", "s1"), "spiffe://cluster.local/ns/demo/sa/s1/x", NULL},
        {"istio-system", "ztunnel", "zt-0", ID("demo", "s1"), ID("demo", "s1") " pod=zt-1", NULL},
        {"istio-system", "ztunnel", "zt-0", ID("demo", "s1"), "x", NULL},
        {"istio-system", "ztunnel", "zt-0", ID("demo", "s1"), "", ID("istio-system", "ztunnel")},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(rows); i++) {
        struct pg_sb token;
        make_token(&m, rows[i].ns, rows[i].sa, rows[i].pod, &token);
        struct call c = sign_as(&m, rows[i].csr, rows[i].impersonate, pg_sb_view(&token));
        pg_sb_fini(&token);
        if ((rows[i].got == NULL) != (c.err != 0) || strcmp(c.id, rows[i].got ? rows[i].got : "") != 0) {
            (void)fprintf(stderr, "row %zu: %d %s %s\n", i, c.err, c.text, c.id);
            CU_FAIL("wrong certificate");
        }
    }
    struct call none = sign_as(&m, ID("demo", "s0"), "", PG_STR(""));
    CU_ASSERT_NOT_EQUAL(none.err, 0);
    struct call junk = sign_as(&m, ID("demo", "s0"), "", PG_STR("a.b.c"));
    CU_ASSERT_NOT_EQUAL(junk.err, 0);
    mesh_fini(&m);
}

static bool tokens_work(struct mesh *m, void *arg)
{
    struct pg_sb token;
    (void)arg;
    make_token(m, "demo", "s0", NULL, &token);
    pg_timer_start(m->nodes[0].c->tick, 0);
    struct call c = sign_as(m, ID("demo", "s0"), "", pg_sb_view(&token));
    pg_sb_fini(&token);
    return c.err == 0;
}

/* The keys that sign tokens change under a running control plane; a broken file changes nothing. */
static void test_token_keys_change(void)
{
    struct mesh m;
    struct pg_errtext err = {""};
    char path[128], other[128], file[160];
    struct pg_sb old;
    mesh_make(&m);
    mesh_start(&m, 0);
    CU_ASSERT_TRUE(tokens_work(&m, NULL));
    make_token(&m, "demo", "s0", NULL, &old);
    (void)snprintf(file, sizeof(file), "%s/issuer/jwks.json", m.dir);
    int fd = open(file, O_WRONLY | O_TRUNC | O_CLOEXEC);
    CU_ASSERT_EQUAL(write(fd, "{", 1), 1);
    (void)close(fd);
    pg_timer_start(m.nodes[0].c->tick, 0);
    mesh_turn(&m);
    CU_ASSERT_TRUE(tokens_work(&m, NULL));
    (void)snprintf(path, sizeof(path), "%s/issuer", m.dir);
    (void)snprintf(other, sizeof(other), "%s/issuer-old", m.dir);
    CU_ASSERT_EQUAL(rename(path, other), 0);
    CU_ASSERT_EQUAL(cert_issuer_make(path, &err), 0);
    CU_ASSERT_TRUE(mesh_until(&m, tokens_work, NULL));
    struct call c = sign_as(&m, ID("demo", "s0"), "", pg_sb_view(&old));
    CU_ASSERT_NOT_EQUAL(c.err, 0);
    pg_sb_fini(&old);
    mesh_fini(&m);
}

/* --- what a peer is told of us --- */

struct seen_network {
    const char *want;
    bool found;
};
static void match_network(void *arg, const struct xds_stream_info *i)
{
    struct seen_network *s = arg;
    for (size_t k = 0; k < i->node->n_metadata; k++) {
        s->found = s->found || (pg_str_eq_c(i->node->metadata[k].key, "NETWORK") &&
                                pg_str_eq_c(i->node->metadata[k].value, s->want));
    }
}
static bool network_seen(struct mesh *m, void *arg)
{
    struct seen_network *s = arg;
    xds_server_each(m->nodes[1].c->server, match_network, s);
    return s->found;
}
static bool network_taken(struct mesh *m, void *arg)
{
    return strcmp(m->nodes[0].c->network, ((struct seen_network *)arg)->want) == 0;
}

static void test_network_changes(void)
{
    struct mesh m;
    struct seen_network s = {.want = "a-much-longer-network"};
    pair(&m);
    mesh_write(&m, "c0", "ns.yaml",
               "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system, labels: "
               "{topology.istio.io/network: a-much-longer-network}}}\n");
    CU_ASSERT_TRUE(mesh_until(&m, network_taken, &s));
    mesh_unlink_peer(&m, 0, 1);
    CU_ASSERT_TRUE(mesh_until(&m, remote_gone, NULL));
    mesh_link(&m, 0, 1);
    CU_ASSERT_TRUE(mesh_until(&m, network_seen, &s));
    mesh_fini(&m);
}

TEST_MAIN("control", {"start orders", test_start_orders},
          {"restart keeps services", test_restart_keeps_services}, {"address moves", test_address_moves},
          {"no memory", test_no_memory}, {"start without memory", test_start_without_memory},
          {"end with handshakes", test_end_with_handshakes}, {"proxy waits", test_proxy_waits},
          {"start deadline", test_start_deadline}, {"certificate ends", test_certificate_ends},
          {"who gets what", test_who_gets_what}, {"token keys change", test_token_keys_change},
          {"network changes", test_network_changes})
