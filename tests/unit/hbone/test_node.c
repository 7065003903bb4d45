/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The link to a control plane against our own xDS server over TLS on one loop: first answers, changes,
 * removals, a refused resource, an outage that must not empty the table, certificates by token. One thread.
 */
#include "mesh.h"

#include "core/clock.h"
#include "xds/server.h"

#include <peering/unstable/node.h>

#define TOKEN "secret-token"

static struct xds_view *view;
static struct {
    struct xds_server *xds;
    struct pg_listener *l;
    struct cert_creds *creds;
    uint16_t port;
    unsigned nacks, streams;
    char nack[512];
    char node_id[256];
    char clusterid[64];
} srv;
static struct {
    unsigned snapshots, ready;
    peering_snapshot *last;
    int sign_err;
    size_t chain;
    bool signed_done;
    char text[256];
} seen;

/* ---- server
 * ------------------------------------------------------------------------------------------------------------
 */

static struct xds_view *view_for(void *arg, struct xds_stream *s, const struct xds_node *node,
                                 struct pg_str peer_id, int *grpc_code, struct pg_errtext *err)
{
    (void)arg;
    (void)s;
    (void)peer_id;
    (void)grpc_code;
    (void)err;
    (void)snprintf(srv.node_id, sizeof(srv.node_id), "%.*s", PG_STR_ARG(node->id));
    srv.streams++;
    return view;
}
static void on_nack(void *arg, struct xds_stream *s, struct pg_str type_url, struct pg_str error)
{
    (void)arg;
    (void)s;
    (void)type_url;
    srv.nacks++;
    (void)snprintf(srv.nack, sizeof(srv.nack), "%.*s", PG_STR_ARG(error));
}
static int authenticate(void *arg, const struct pg_h2_head *md, struct pg_str peer_id, struct pg_sb *out,
                        struct pg_errtext *err)
{
    (void)arg;
    (void)peer_id;
    (void)snprintf(srv.clusterid, sizeof(srv.clusterid), "%.*s", PG_STR_ARG(pg_h2_head_get(md, "clusterid")));
    if (!pg_str_eq_c(pg_h2_head_get(md, "authorization"), "Bearer " TOKEN)) {
        pg_err_set(err, "bad token");
        return PG_E_DENIED;
    }
    pg_sb_c(out, "spiffe://cluster.local/ns/demo/sa/client");
    return 0;
}
static void on_csr(void *arg, const struct xds_csr_request *req, struct pg_str caller, struct grpc_stream *s)
{
    (void)arg;
    struct cert_issued issued;
    struct pg_errtext err = {.text = ""};
    int r = cert_ca_sign_csr(mesh_ca(), req->csr, caller, req->validity_s, pg_clock_wall_s(), &issued, &err);
    if (r < 0) {
        xds_csr_reply(s, GRPC_INVALID_ARGUMENT, err.text, NULL, 0);
        return;
    }
    struct pg_str chain[CERT_ISSUED_MAX];
    for (size_t i = 0; i < issued.n; i++) {
        chain[i] = pg_str_c(issued.pem[i]);
    }
    xds_csr_reply(s, GRPC_OK, "", chain, issued.n);
    cert_issued_fini(&issued);
}
static void on_stream(void *arg, struct xds_stream *s, bool opened)
{
    (void)arg;
    (void)s;
    (void)opened;
}

static void on_accept(struct pg_transport *t, const struct pg_addr *from, void *arg)
{
    (void)arg;
    struct pg_transport *tls;
    struct cert_expect e = {.kind = CERT_EXPECT_OPTIONAL};
    CU_ASSERT_EQUAL_FATAL(cert_tls_server(mesh_loop, t, srv.creds, &e, &tls), 0);
    CU_ASSERT_EQUAL_FATAL(xds_server_accept(srv.xds, tls, from), 0);
}

static void server_cert(void)
{
    struct pg_str dns = PG_STR("istiod.test");
    struct pg_str td = PG_STR("cluster.local");
    struct pg_sb chain;
    struct pg_sb key;
    struct pg_errtext err = {.text = ""};
    pg_sb_init(&chain, CERT_PEM_MAX);
    pg_sb_init(&key, CERT_PEM_MAX);
    CU_ASSERT_EQUAL_FATAL(
        cert_ca_issue_server(mesh_ca(), PG_STR_NONE, &dns, 1, 3600, pg_clock_wall_s(), &chain, &key, &err),
        0);
    struct cert_creds_options o = {.chain_pem = pg_sb_view(&chain),
                                   .key_pem = pg_sb_view(&key),
                                   .roots_pem = cert_ca_root_pem(mesh_ca()),
                                   .trust_domains = &td,
                                   .n_trust_domains = 1};
    CU_ASSERT_EQUAL_FATAL(cert_creds_new(&o, &srv.creds, &err), 0);
    pg_sb_fini(&chain);
    pg_sb_fini(&key);
}

static void server_start(void)
{
    static const struct xds_server_callbacks cb = {.view_for = view_for,
                                                   .on_stream = on_stream,
                                                   .on_nack = on_nack,
                                                   .authenticate = authenticate,
                                                   .on_csr = on_csr};
    struct pg_errtext err = {.text = ""};
    struct pg_addr at = {.ip = {.len = 4, .b = {127, 0, 0, 1}}, .port = srv.port};
    struct pg_listen_options o = {0};
    if (srv.creds == NULL) {
        server_cert();
    }
    CU_ASSERT_EQUAL_FATAL(xds_server_new(mesh_loop, &cb, NULL, &srv.xds), 0);
    CU_ASSERT_EQUAL_FATAL(pg_tcp_listen(mesh_loop, &at, &o, on_accept, NULL, &srv.l, &err), 0);
    srv.port = pg_listener_addr(srv.l).port;
}
static void server_stop(void)
{
    pg_listener_free(srv.l);
    xds_server_free(srv.xds);
    mesh_settle();
}

static void put_workload(const char *name, unsigned last)
{
    struct pg_sb out;
    char uid[64];
    struct pg_ip ip = {.len = 4, .b = {10, 0, 0, (uint8_t)last}};
    (void)snprintf(uid, sizeof(uid), "c//Pod/demo/%s", name);
    struct xds_address a = {.kind = XDS_ADDRESS_WORKLOAD};
    a.u.workload = (struct xds_workload){.uid = pg_str_c(uid),
                                         .name = pg_str_c(name),
                                         .ns = PG_STR("demo"),
                                         .ips = &ip,
                                         .n_ips = 1,
                                         .service_account = PG_STR("sa")};
    pg_sb_init(&out, XDS_RESOURCE_MAX);
    CU_ASSERT_EQUAL_FATAL(xds_address_encode(&a, &out), 0);
    CU_ASSERT_TRUE_FATAL(xds_view_set(view, XDS_TYPE_ADDRESS, pg_str_c(uid), pg_sb_view(&out), NULL, 0) >= 0);
    pg_sb_fini(&out);
}

static void push(void)
{
    xds_view_commit(view);
    xds_server_kick(srv.xds);
}

/* ---- node
 * -----------------------------------------------------------------------------------------------------------------
 */

static void on_snapshot(void *arg, peering_snapshot *s)
{
    (void)arg;
    seen.snapshots++;
    peering_snapshot_unref(seen.last);
    seen.last = peering_snapshot_ref(s);
}
static void on_ready(void *arg)
{
    (void)arg;
    seen.ready++;
}
static void on_signed(void *arg, int err, const peering_str *chain, size_t n, const char *text)
{
    (void)arg;
    (void)chain;
    seen.signed_done = true;
    seen.sign_err = err;
    seen.chain = n;
    (void)snprintf(seen.text, sizeof(seen.text), "%s", text);
}

static const peering_workload *find(const char *name)
{
    char uid[64];
    (void)snprintf(uid, sizeof(uid), "c//Pod/demo/%s", name);
    return seen.last != NULL ? peering_find_workload(seen.last, (peering_str){uid, strlen(uid)}) : NULL;
}
static bool is_ready(void *arg)
{
    (void)arg;
    return seen.ready > 0;
}
static bool has_workload(void *arg)
{
    return find(arg) != NULL;
}
static bool lacks_workload(void *arg)
{
    return find(arg) == NULL;
}
static bool has_nack(void *arg)
{
    (void)arg;
    return srv.nacks > 0;
}
static bool is_signed(void *arg)
{
    (void)arg;
    return seen.signed_done;
}
static bool is_connected(void *arg)
{
    peering_node_status s;
    peering_node_get_status(arg, &s);
    return s.connected;
}
static bool is_down(void *arg)
{
    return !is_connected(arg);
}

static peering_node *node_start(struct pg_resolver *r, const char *token)
{
    char address[64];
    char root[64];
    peering_node *n = NULL;
    peering_text why = {.text = ""};
    const peering_node_kv md = {"NAME", "client"};
    (void)snprintf(address, sizeof(address), "https://127.0.0.1:%u", srv.port);
    mesh_root_path(root, sizeof(root));
    peering_node_options o = {.xds_address = address,
                              .ca_address = address,
                              .xds_root_ca = root,
                              .ca_root_ca = root,
                              .alt_xds_hostname = "istiod.test",
                              .alt_ca_hostname = "istiod.test",
                              .token = token,
                              .cluster_id = "c7",
                              .node_id = "ztunnel~1.1.1.1~client.demo~demo.svc.cluster.local",
                              .metadata = &md,
                              .n_metadata = 1};
    const peering_node_callbacks cb = {.on_snapshot = on_snapshot, .on_ready = on_ready};
    memset(&seen, 0, sizeof(seen));
    CU_ASSERT_EQUAL_FATAL(peering_node_new(mesh_loop, r, &o, &cb, NULL, &n, &why), 0);
    return n;
}

static void test_table(void)
{
    struct pg_resolver *r;
    peering_node_status st;
    char one[] = "one";
    char two[] = "two";
    char three[] = "three";
    CU_ASSERT_EQUAL_FATAL(pg_resolver_new(mesh_loop, "127.0.0.1:1", &r, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(xds_view_new(1000, &view), 0);
    put_workload("one", 1);
    xds_view_commit(view);
    server_start();
    peering_node *n = node_start(r, TOKEN);
    CU_ASSERT_TRUE(mesh_run_until(is_ready, NULL, 5000));
    CU_ASSERT_PTR_NOT_NULL(find("one"));
    CU_ASSERT_STRING_EQUAL(srv.node_id, "ztunnel~1.1.1.1~client.demo~demo.svc.cluster.local");
    CU_ASSERT_STRING_EQUAL(srv.clusterid, "c7");
    put_workload("two", 2);
    push();
    CU_ASSERT_TRUE(mesh_run_until(has_workload, two, 5000));
    CU_ASSERT_EQUAL(xds_view_del(view, XDS_TYPE_ADDRESS, PG_STR("c//Pod/demo/one")), 1);
    push();
    CU_ASSERT_TRUE(mesh_run_until(lacks_workload, one, 5000));
    CU_ASSERT_PTR_NOT_NULL(find("two"));
    /* Rubbish is refused by name; what stands stays, and what came with it is applied. */
    put_workload("three", 3);
    CU_ASSERT_TRUE(xds_view_set(view, XDS_TYPE_ADDRESS, PG_STR("c//Pod/demo/two"), PG_STR("\xff\xff\xff"),
                                NULL, 0) >= 0);
    push();
    CU_ASSERT_TRUE(mesh_run_until(has_nack, NULL, 5000));
    CU_ASSERT_PTR_NOT_NULL(strstr(srv.nack, "c//Pod/demo/two"));
    CU_ASSERT_TRUE(mesh_run_until(has_workload, three, 5000));
    CU_ASSERT_PTR_NOT_NULL(find("two"));
    /* The control plane goes: the table stays, the state is visible; it comes back with changes: they arrive.
     */
    server_stop();
    CU_ASSERT_TRUE(mesh_run_until(is_down, n, 5000));
    peering_node_get_status(n, &st);
    CU_ASSERT_TRUE(st.synced);
    CU_ASSERT_TRUE(strlen(st.last_error) > 0);
    CU_ASSERT_PTR_NOT_NULL(find("three"));
    CU_ASSERT_EQUAL(xds_view_del(view, XDS_TYPE_ADDRESS, PG_STR("c//Pod/demo/three")), 1);
    put_workload("two", 22);
    put_workload("one", 1);
    xds_view_commit(view);
    server_start();
    CU_ASSERT_TRUE(mesh_run_until(has_workload, one, 15000));
    CU_ASSERT_TRUE(mesh_run_until(lacks_workload, three, 5000));
    CU_ASSERT_TRUE(is_connected(n));
    CU_ASSERT_EQUAL(seen.ready, 1);
    peering_node_get_status(n, &st);
    CU_ASSERT_TRUE(st.terminations[0] + st.terminations[1] + st.terminations[2] + st.terminations[3] >= 1);
    CU_ASSERT_TRUE(st.messages[0] >= 4);
    peering_node_free(n);
    peering_snapshot_unref(seen.last);
    server_stop();
    xds_view_free(view);
    pg_resolver_free(r);
    mesh_settle();
}

static void sign(peering_node *n)
{
    struct cert_key *key;
    struct pg_sb csr;
    peering_csr_call *call;
    peering_text why = {.text = ""};
    pg_sb_init(&csr, CERT_PEM_MAX);
    CU_ASSERT_EQUAL_FATAL(cert_key_new_p256(&key, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(cert_csr_make(key, PG_STR("spiffe://cluster.local/ns/demo/sa/client"), &csr, NULL),
                          0);
    seen.signed_done = false;
    CU_ASSERT_EQUAL_FATAL(peering_node_sign(n, (peering_str){csr.p, csr.len}, 3600, (peering_str){NULL, 0},
                                            on_signed, NULL, &call, &why),
                          0);
    CU_ASSERT_TRUE(mesh_run_until(is_signed, NULL, 12000));
    pg_sb_fini(&csr);
    cert_key_free(key);
}

static void test_sign(void)
{
    struct pg_resolver *r;
    CU_ASSERT_EQUAL_FATAL(pg_resolver_new(mesh_loop, "127.0.0.1:1", &r, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(xds_view_new(1000, &view), 0);
    server_start();
    peering_node *n = node_start(r, TOKEN);
    sign(n);
    CU_ASSERT_EQUAL(seen.sign_err, 0);
    CU_ASSERT_TRUE(seen.chain >= 2);
    peering_node_free(n);
    peering_snapshot_unref(seen.last);
    n = node_start(r, "wrong");
    sign(n);
    CU_ASSERT_TRUE(seen.sign_err < 0);
    CU_ASSERT_TRUE(strlen(seen.text) > 0);
    CU_ASSERT_PTR_NULL(strstr(seen.text, "wrong")); /* tokens are never repeated */
    CU_ASSERT_EQUAL(seen.ready, 0);
    peering_node_free(n);
    peering_snapshot_unref(seen.last);
    server_stop();
    xds_view_free(view);
    pg_resolver_free(r);
    mesh_settle();
}

static void test_without_control_plane(void)
{
    peering_node *n = NULL;
    peering_text why = {.text = ""};
    const peering_node_callbacks cb = {.on_snapshot = on_snapshot, .on_ready = on_ready};
    peering_node_options o = {.xds_address = ""};
    memset(&seen, 0, sizeof(seen));
    CU_ASSERT_EQUAL_FATAL(peering_node_new(mesh_loop, NULL, &o, &cb, NULL, &n, &why), 0);
    CU_ASSERT_TRUE(mesh_run_until(is_ready, NULL, 1000));
    peering_node_free(n);
    peering_snapshot_unref(seen.last);
    o.xds_address = "no port";
    CU_ASSERT_EQUAL(peering_node_new(mesh_loop, NULL, &o, &cb, NULL, &n, &why), PEERING_ERR_CONFIG);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "xds_address"));
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "no port"));
}

int main(void)
{
    static const struct test_case cases[] = {
        {"table over a stream", test_table},
        {"certificates", test_sign},
        {"no control plane", test_without_control_plane},
    };
    if (mesh_setup() < 0) {
        return 2;
    }
    int r = test_main("node link", cases, PG_ARRAY_LEN(cases));
    cert_creds_unref(srv.creds);
    mesh_teardown();
    return r;
}
