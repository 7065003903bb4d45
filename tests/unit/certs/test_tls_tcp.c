/* SPDX-License-Identifier: Apache-2.0 */
/* The transport contract over TLS over TCP and Unix sockets, on the real loop, where readiness comes from the
 * kernel. */
#include "corpus_ossl.h"
#include "testlib.h"
#include "transport_suite.h"

#include "certs/tls.h"
#include "net/sock.h"

#include <sys/socket.h>

static struct cert_creds *creds;
static const struct cert_expect mesh = {.kind = CERT_EXPECT_MESH};

static int wrap(struct pg_loop *l, struct pg_transport **a, struct pg_transport **b)
{
    int r = cert_tls_client(l, *a, creds, &mesh, a);
    return r < 0 ? r : cert_tls_server(l, *b, creds, &mesh, b);
}

static int make_socketpair(struct pg_loop *l, struct pg_transport **a, struct pg_transport **b, void *arg)
{
    int fd[2];
    (void)arg;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fd) < 0) {
        return PG_E_IO;
    }
    int r = pg_fd_transport(l, fd[0], a);
    r = r < 0 ? r : pg_fd_transport(l, fd[1], b);
    return r < 0 ? r : wrap(l, a, b);
}

static void on_accept(struct pg_transport *t, const struct pg_addr *from, void *arg)
{
    (void)from;
    *(struct pg_transport **)arg = t;
}

static bool accepted(void *arg)
{
    return *(struct pg_transport **)arg != NULL;
}

static int make_tcp(struct pg_loop *l, struct pg_transport **a, struct pg_transport **b, void *arg)
{
    struct pg_addr at = {.port = 0};
    struct pg_listener *lis = NULL;
    (void)arg;
    *b = NULL;
    int r = pg_ip_parse(PG_STR("127.0.0.1"), &at.ip);
    r = r < 0 ? r : pg_tcp_listen(l, &at, NULL, on_accept, b, &lis, NULL);
    if (r < 0) {
        return r;
    }
    at = pg_listener_addr(lis);
    r = pg_tcp_connect(l, &at, NULL, a, NULL);
    CU_ASSERT_EQUAL(r, 0);
    CU_ASSERT_TRUE(suite_turns(l, accepted, b));
    pg_listener_free(lis);
    return *b == NULL ? PG_E_IO : wrap(l, a, b);
}

static void suite(int (*make)(struct pg_loop *, struct pg_transport **, struct pg_transport **, void *))
{
    struct pg_loop *l = NULL;
    size_t before = pg_mem_live_blocks();
    struct corpus_ca *root = corpus_root("root");
    struct corpus_pair own = corpus_issue(root, &(struct corpus_leaf){.uri = {"spiffe://td/ns/a/sa/b"},
                                                                      .not_before = 946684800,
                                                                      .not_after = 2493072000});
    struct cert_creds_options o = {
        .chain_pem = own.chain, .key_pem = own.key, .roots_pem = corpus_ca_pem(root)};
    CU_ASSERT_EQUAL_FATAL(cert_creds_new(&o, &creds, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&l), 0);
    transport_suite_run(l, make, NULL);
    pg_loop_free(l);
    cert_creds_unref(creds);
    corpus_fini();
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), before);
}

static void test_tcp(void)
{
    suite(make_tcp);
}

static void test_socketpair(void)
{
    suite(make_socketpair);
}

TEST_MAIN("tls on sockets", {"over TCP", test_tcp}, {"over a Unix socket pair", test_socketpair})
