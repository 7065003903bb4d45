/* SPDX-License-Identifier: Apache-2.0 */
/* See mesh.h. Failures of the fixture itself are fatal: they are not what is tested. One thread. */
#include "mesh.h"

#include "core/clock.h"
#include "core/log.h"

#include <dirent.h>
#include <stdlib.h>
#include <unistd.h>

#define CHUNK 16384u

struct pg_loop *mesh_loop;
static struct cert_ca *ca;
/* In the build directory and kept: RSA keys of 4096 bits take seconds, and several tests want a CA. */
static const char ca_dir[] = TEST_CA_DIR;

static void must(int r, const char *what)
{
    if (r < 0) {
        (void)fprintf(stderr, "fixture: %s: %s\n", what, pg_err_str(r));
        abort();
    }
}

static void remove_tree(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    while (d != NULL && (e = readdir(d)) != NULL) {
        char path[512];
        if (e->d_name[0] == '.') {
            continue;
        }
        (void)snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        if (unlink(path) != 0) {
            remove_tree(path);
        }
    }
    if (d != NULL) {
        (void)closedir(d);
    }
    (void)rmdir(dir);
}

static void make_ca(void)
{
    char tmp[] = TEST_CA_DIR ".XXXXXX";
    struct pg_errtext err = {.text = ""};
    if (mkdtemp(tmp) == NULL) {
        abort();
    }
    must(cert_make_root(tmp, true, &err), "root");
    must(cert_make_cacerts(tmp, "c1", true, &err), "intermediate");
    if (rename(tmp, ca_dir) != 0) { /* another test was faster */
        remove_tree(tmp);
    }
}

int mesh_setup(void)
{
    struct pg_errtext err = {.text = ""};
    char path[sizeof(ca_dir) + 8];
    must(pg_log_set_filter("off", &err), "log filter");
    must(pg_loop_new(&mesh_loop), "loop");
    (void)snprintf(path, sizeof(path), "%s/c1", ca_dir);
    if (access(path, F_OK) != 0) {
        make_ca();
    }
    if (cert_ca_load(path, &ca, &err) < 0) { /* of another year, perhaps */
        remove_tree(ca_dir);
        make_ca();
        must(cert_ca_load(path, &ca, &err), err.text);
    }
    return 0;
}

void mesh_teardown(void)
{
    cert_ca_free(ca);
    pg_loop_free(mesh_loop);
}

const struct cert_ca *mesh_ca(void)
{
    return ca;
}

void mesh_root_path(char *out, size_t cap)
{
    (void)snprintf(out, cap, "%s/root-cert.pem", ca_dir);
}

static struct pg_ip ip_of(unsigned last)
{
    return (struct pg_ip){.len = 4, .b = {127, 0, 0, (uint8_t)last}};
}

void mesh_node_start(struct mesh_node *n, const char *mode, const char *workload, const char *network,
                     unsigned last, uint16_t inbound_port)
{
    char a[64];
    char b[128];
    char c[64];
    struct pg_errtext err = {.text = ""};
    *n = (struct mesh_node){0};
    (void)snprintf(a, sizeof(a), "PROXY_MODE=%s", mode);
    (void)snprintf(b, sizeof(b), "PROXY_WORKLOAD_INFO=%s", workload);
    (void)snprintf(c, sizeof(c), "NETWORK=%s", network);
    char xds[] = "XDS_ADDRESS=";
    char ca_addr[] = "CA_ADDRESS=";
    char dns[] = "ISTIO_META_DNS_CAPTURE=false";
    char *env[] = {a, b, c, xds, ca_addr, dns, NULL};
    must(hb_config_load(&n->cfg, env, NULL, NULL, &err), err.text);
    n->cfg.test = (struct hb_test_hooks){.on = true, .bind = ip_of(last), .inbound = inbound_port};
    must(hb_worker_new(mesh_loop, &n->cfg, 0, &n->worker, &err), err.text);
    must(hb_worker_listen(n->worker, &err), err.text);
    must(peering_table_new(&n->table), "table");
}

void mesh_node_stop(struct mesh_node *n)
{
    hb_worker_free(n->worker);
    cert_creds_unref(n->creds);
    peering_table_free(n->table);
    hb_config_fini(&n->cfg);
    mesh_settle();
}

void mesh_creds(struct mesh_node *n, const char *ns, const char *sa)
{
    struct pg_errtext err = {.text = ""};
    struct cert_key *key;
    struct cert_issued issued;
    struct pg_sb id;
    struct pg_sb csr;
    struct pg_sb chain;
    struct pg_sb key_pem;
    pg_sb_init(&id, 512);
    pg_sb_init(&csr, CERT_PEM_MAX);
    pg_sb_init(&chain, CERT_PEM_MAX);
    pg_sb_init(&key_pem, CERT_PEM_MAX);
    cert_spiffe_format(PG_STR("cluster.local"), pg_str_c(ns), pg_str_c(sa), &id);
    must(cert_key_new_p256(&key, &err), err.text);
    must(cert_csr_make(key, pg_sb_view(&id), &csr, &err), err.text);
    must(cert_ca_sign_csr(ca, pg_sb_view(&csr), pg_sb_view(&id), 3600, pg_clock_wall_s(), &issued, &err),
         err.text);
    must(cert_key_pem(key, &key_pem), "key");
    for (size_t i = 0; i + 1 < issued.n; i++) {
        pg_sb_c(&chain, issued.pem[i]);
    }
    struct pg_str td = PG_STR("cluster.local");
    struct cert_creds_options o = {.chain_pem = pg_sb_view(&chain),
                                   .key_pem = pg_sb_view(&key_pem),
                                   .roots_pem = pg_str_c(issued.pem[issued.n - 1]),
                                   .trust_domains = &td,
                                   .n_trust_domains = 1};
    struct cert_creds *creds;
    must(cert_creds_new(&o, &creds, &err), err.text);
    cert_creds_unref(n->creds);
    n->creds = creds;
    n->creds_gen++;
    cert_key_free(key);
    cert_issued_fini(&issued);
    pg_sb_fini(&id);
    pg_sb_fini(&csr);
    pg_sb_fini(&chain);
    pg_sb_fini(&key_pem);
}

void mesh_node_cert(struct mesh_node *n, const char *ns, const char *sa)
{
    mesh_creds(n, ns, sa);
    mesh_node_publish(n);
}

void mesh_node_publish(struct mesh_node *n)
{
    peering_snapshot *s;
    struct hb_world *w;
    must(peering_table_snapshot(n->table, &s), "snapshot");
    must(hb_world_new(s, n->creds, n->creds_gen, true, "none", &w), "world");
    peering_snapshot_unref(s);
    uint64_t before = n->worker->world_gen;
    hb_worker_set_world(n->worker, w);
    hb_world_unref(w);
    while (n->worker->world_gen == before) {
        pg_loop_turn(mesh_loop, true);
    }
}

uint16_t mesh_inbound_port(const struct mesh_node *n)
{
    return pg_listener_addr(n->worker->pod.inbound).port;
}

struct pg_addr mesh_outbound(const struct mesh_node *n)
{
    return pg_listener_addr(n->worker->pod.outbound);
}

static void put(struct mesh_node *n, enum peering_kind kind, const char *name, struct pg_sb *bytes)
{
    peering_text why = {.text = ""};
    must(peering_table_put(n->table, kind, (peering_str){name, strlen(name)}, bytes->p, bytes->len, &why),
         why.text);
    pg_sb_fini(bytes);
}

void mesh_put_workload(struct mesh_node *n, const struct mesh_workload *w)
{
    char uid[128];
    struct pg_sb out;
    struct pg_ip ip = ip_of(w->last);
    struct xds_port port = {.service_port = w->port, .target_port = w->target};
    struct xds_workload_service svc = {.key = pg_str_c(w->service), .ports = &port, .n_ports = 1};
    struct pg_str policy = pg_str_c(w->policy);
    (void)snprintf(uid, sizeof(uid), "cluster1//Pod/%s/%s", w->ns, w->name);
    struct xds_address a = {.kind = XDS_ADDRESS_WORKLOAD};
    struct xds_workload *x = &a.u.workload;
    *x = (struct xds_workload){.uid = pg_str_c(uid),
                               .name = pg_str_c(w->name),
                               .ns = pg_str_c(w->ns),
                               .ips = &ip,
                               .n_ips = w->last != 0 ? 1 : 0,
                               .network = pg_str_c(w->network),
                               .trust_domain = PG_STR("cluster.local"),
                               .service_account = pg_str_c(w->sa),
                               .canonical_name = pg_str_c(w->name),
                               .canonical_revision = PG_STR("latest"),
                               .workload_name = pg_str_c(w->name),
                               .cluster_id = PG_STR("cluster1"),
                               .tunnel = w->hbone ? XDS_TUNNEL_HBONE : XDS_TUNNEL_NONE,
                               .services = &svc,
                               .n_services = w->service != NULL ? 1 : 0,
                               .policies = &policy,
                               .n_policies = w->policy != NULL ? 1 : 0,
                               .capacity = 1,
                               .has_capacity = true};
    if (w->gateway != 0) {
        x->network_gateway = (struct xds_gateway){
            .kind = XDS_GATEWAY_ADDRESS,
            .address = {.network = pg_str_c(w->network), .ip = ip_of(w->gateway), .bits = 32},
            .hbone_port = 15008};
    }
    pg_sb_init(&out, XDS_RESOURCE_MAX);
    must(xds_address_encode(&a, &out), "workload");
    put(n, PEERING_KIND_ADDRESS, uid, &out);
}

void mesh_remove_workload(struct mesh_node *n, const char *name)
{
    char uid[128];
    (void)snprintf(uid, sizeof(uid), "cluster1//Pod/demo/%s", name);
    must(peering_table_remove(n->table, PEERING_KIND_ADDRESS, (peering_str){uid, strlen(uid)}), "remove");
}

void mesh_put_service(struct mesh_node *n, const char *host, const char *network, unsigned vip, uint16_t port,
                      uint16_t target, bool with_sans)
{
    char key[300];
    struct pg_sb out;
    struct pg_str san = PG_STR("spiffe://cluster.local/ns/demo/sa/server");
    struct xds_port p = {.service_port = port, .target_port = target};
    struct xds_net_addr addr = {
        .network = pg_str_c(network), .ip = {.len = 4, .b = {10, 9, 9, (uint8_t)vip}}, .bits = 32};
    struct xds_address a = {.kind = XDS_ADDRESS_SERVICE};
    a.u.service = (struct xds_service){.name = PG_STR("echo"),
                                       .ns = PG_STR("demo"),
                                       .hostname = pg_str_c(host),
                                       .addresses = &addr,
                                       .n_addresses = 1,
                                       .ports = &p,
                                       .n_ports = 1,
                                       .sans = &san,
                                       .n_sans = with_sans ? 1 : 0};
    (void)snprintf(key, sizeof(key), "demo/%s", host);
    pg_sb_init(&out, XDS_RESOURCE_MAX);
    must(xds_address_encode(&a, &out), "service");
    put(n, PEERING_KIND_ADDRESS, key, &out);
}

void mesh_put_deny(struct mesh_node *n, uint16_t port)
{
    struct pg_sb out;
    struct xds_match m = {.ports = {&port, NULL}, .n_ports = {1, 0}};
    struct xds_clause c = {&m, 1};
    struct xds_rule r = {&c, 1};
    struct xds_policy p = {.name = PG_STR("deny"),
                           .ns = PG_STR("demo"),
                           .scope = XDS_POLICY_NAMESPACE,
                           .action = XDS_POLICY_DENY,
                           .rules = &r,
                           .n_rules = 1};
    pg_sb_init(&out, XDS_RESOURCE_MAX);
    must(xds_policy_encode(&p, &out), "policy");
    put(n, PEERING_KIND_AUTHORIZATION, "demo/deny", &out);
}

/* ---- echo
 * -------------------------------------------------------------------------------------------------------------
 */

struct mesh_echo {
    struct pg_listener *l;
    struct pg_list conns;
    unsigned accepted;
    bool stalled;
};
struct echo_conn {
    struct pg_list node;
    struct mesh_echo *e;
    struct pg_transport *t;
    size_t have, off;
    bool eof;
    unsigned char buf[CHUNK];
};

static void echo_close(struct echo_conn *c, bool abrupt)
{
    pg_list_remove(&c->node);
    if (abrupt) {
        pg_transport_abort(c->t);
    } else {
        pg_transport_close(c->t);
    }
    pg_free(c);
}

static void echo_want(const struct echo_conn *c)
{
    if (c->off < c->have) {
        pg_transport_want(c->t, PG_WRITE);
    } else {
        pg_transport_want(c->t, c->e->stalled ? 0 : PG_READ);
    }
}

static void on_echo(struct pg_transport *t, unsigned rw, void *arg)
{
    (void)rw;
    struct echo_conn *c = arg;
    for (int i = 0; i < 16; i++) {
        if (c->off < c->have) {
            ssize_t n = pg_transport_write(t, c->buf + c->off, c->have - c->off);
            if (n < 0 && n != PG_E_AGAIN) {
                echo_close(c, true);
                return;
            }
            if (n == PG_E_AGAIN) {
                break;
            }
            c->off += (size_t)n;
            continue;
        }
        if (c->e->stalled) {
            break;
        }
        ssize_t n = pg_transport_read(t, c->buf, sizeof(c->buf));
        if (n == PG_E_AGAIN) {
            break;
        }
        if (n <= 0) {
            if (n == 0) {
                must(pg_transport_shutdown(t), "shutdown");
            }
            echo_close(c, n < 0);
            return;
        }
        c->have = (size_t)n;
        c->off = 0;
    }
    echo_want(c);
}

static void on_echo_accept(struct pg_transport *t, const struct pg_addr *from, void *arg)
{
    (void)from;
    struct mesh_echo *e = arg;
    struct echo_conn *c = pg_calloc(1, sizeof(*c));
    if (c == NULL) { /* a test that makes allocations fail */
        pg_transport_abort(t);
        return;
    }
    e->accepted++;
    c->e = e;
    c->t = t;
    pg_list_push_back(&e->conns, &c->node);
    pg_transport_set_owner(t, on_echo, c);
    echo_want(c);
}

struct mesh_echo *mesh_echo_start(unsigned last, uint16_t port)
{
    struct pg_errtext err = {.text = ""};
    struct mesh_echo *e = pg_calloc(1, sizeof(*e));
    struct pg_addr at = {.ip = ip_of(last), .port = port};
    struct pg_listen_options o = {0};
    pg_list_init(&e->conns);
    must(pg_tcp_listen(mesh_loop, &at, &o, on_echo_accept, e, &e->l, &err), err.text);
    return e;
}

uint16_t mesh_echo_port(const struct mesh_echo *e)
{
    return pg_listener_addr(e->l).port;
}

unsigned mesh_echo_accepted(const struct mesh_echo *e)
{
    return e->accepted;
}

void mesh_echo_stall(struct mesh_echo *e, bool on)
{
    e->stalled = on;
    PG_LIST_FOREACH(&e->conns, n)
    {
        echo_want(PG_CONTAINER_OF(n, struct echo_conn, node));
    }
}

void mesh_echo_stop(struct mesh_echo *e)
{
    pg_listener_free(e->l);
    while (!pg_list_is_empty(&e->conns)) {
        echo_close(PG_CONTAINER_OF(e->conns.next, struct echo_conn, node), true);
    }
    pg_free(e);
    mesh_settle();
}

/* ---- clients
 * ------------------------------------------------------------------------------------------------------------
 */

static unsigned char pattern(uint32_t seed, uint64_t at)
{
    uint64_t x = (at + 1) * 0x9e3779b97f4a7c15u + seed;
    return (unsigned char)(x >> 32);
}

static void client_want(struct mesh_client *c)
{
    pg_transport_want(c->t, c->sent < c->total ? PG_READ | PG_WRITE : PG_READ);
}

static void client_fail(struct mesh_client *c, int err)
{
    c->err = err;
    pg_transport_want(c->t, 0);
}

static bool client_write(struct mesh_client *c)
{
    static unsigned char buf[CHUNK];
    for (int k = 0; k < 8 && c->sent < c->total; k++) {
        size_t n = c->total - c->sent < CHUNK ? (size_t)(c->total - c->sent) : CHUNK;
        for (size_t i = 0; i < n; i++) {
            buf[i] = pattern(c->seed, c->sent + i);
        }
        ssize_t w = pg_transport_write(c->t, buf, n);
        if (w == PG_E_AGAIN) {
            return true;
        }
        if (w < 0) {
            client_fail(c, (int)w);
            return false;
        }
        c->sent += (uint64_t)w;
    }
    if (c->sent == c->total && !c->keep_open && pg_transport_status(c->t) == 1 &&
        pg_transport_shutdown(c->t) < 0) {
        client_fail(c, PG_E_IO);
        return false;
    }
    return true;
}

static void on_client(struct pg_transport *t, unsigned rw, void *arg)
{
    (void)rw;
    static unsigned char buf[CHUNK];
    struct mesh_client *c = arg;
    if (!client_write(c)) {
        return;
    }
    for (int k = 0; k < 8; k++) {
        ssize_t n = pg_transport_read(t, buf, sizeof(buf));
        if (n == PG_E_AGAIN) {
            break;
        }
        if (n <= 0) {
            c->eof = n == 0;
            c->err = (int)n;
            pg_transport_want(t, 0);
            return;
        }
        for (ssize_t i = 0; i < n; i++) {
            c->wrong = c->wrong || buf[i] != pattern(c->seed, c->got + (uint64_t)i);
        }
        c->got += (uint64_t)n;
    }
    client_want(c);
}

void mesh_client_start(struct mesh_client *c, const struct pg_addr *to, uint64_t total, uint32_t seed,
                       bool keep_open)
{
    struct pg_sock_options o = {0};
    *c = (struct mesh_client){.total = total, .seed = seed, .keep_open = keep_open};
    must(pg_tcp_connect(mesh_loop, to, &o, &c->t, NULL), "client");
    pg_transport_set_owner(c->t, on_client, c);
    pg_transport_want(c->t, PG_READ | PG_WRITE);
}

void mesh_client_more(struct mesh_client *c, uint64_t bytes, bool keep_open)
{
    c->total += bytes;
    c->keep_open = keep_open;
    pg_transport_want(c->t, PG_READ | PG_WRITE);
}

void mesh_client_stop(struct mesh_client *c)
{
    if (c->t != NULL) {
        pg_transport_close(c->t);
        c->t = NULL;
    }
}

bool mesh_client_done(const struct mesh_client *c)
{
    return c->err < 0 || (c->got == c->total && (c->keep_open || c->eof));
}

/* ---- time
 * ---------------------------------------------------------------------------------------------------------------
 */

static void on_guard(void *arg)
{
    *(bool *)arg = true;
}

bool mesh_run_until(bool (*done)(void *arg), void *arg, uint64_t ms)
{
    return mesh_run_until_failing(done, arg, ms, NULL);
}

bool mesh_run_until_failing(bool (*done)(void *arg), void *arg, uint64_t ms, struct pg_fault *fault)
{
    struct pg_timer *t;
    bool late = false;
    must(pg_timer_new(mesh_loop, on_guard, &late, &t), "timer");
    pg_timer_start(t, ms);
    pg_mem_set_fault(fault);
    while (!late && !done(arg)) {
        pg_loop_turn(mesh_loop, true);
    }
    pg_mem_set_fault(NULL);
    pg_timer_free(t);
    return done(arg);
}

void mesh_settle(void)
{
    for (int i = 0; i < 20; i++) {
        pg_loop_turn(mesh_loop, false);
    }
}
