/* SPDX-License-Identifier: Apache-2.0 */
/* Workers share credentials: handshakes and data on several threads at once, while the credentials are
 * replaced. */
#include "corpus_ossl.h"
#include "testlib.h"

#include "certs/tls.h"
#include "core/mailbox.h"
#include "net/loop_sim.h"

#define THREADS 4
#define ROUNDS 15

static struct corpus_pair pair;
static struct pg_str roots;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct cert_creds *shared;

static struct cert_creds *make(void)
{
    struct cert_creds_options o = {.chain_pem = pair.chain, .key_pem = pair.key, .roots_pem = roots};
    struct cert_creds *c = NULL;
    PG_BUG_ON(cert_creds_new(&o, &c, NULL) < 0);
    return c;
}

static struct cert_creds *take(void)
{
    pthread_mutex_lock(&lock);
    struct cert_creds *c = cert_creds_ref(shared);
    pthread_mutex_unlock(&lock);
    return c;
}

static bool one_connection(struct pg_loop *l, size_t round)
{
    static const struct cert_expect mesh = {.kind = CERT_EXPECT_MESH};
    struct pg_transport *a = NULL;
    struct pg_transport *b = NULL;
    struct cert_creds *c = take();
    char data[40000];
    char got[40000];
    memset(data, (int)round, sizeof(data));
    bool ok = pg_mem_pair(l, 100000, &a, &b) == 0 && cert_tls_client(l, a, c, &mesh, &a) == 0 &&
              cert_tls_server(l, b, c, &mesh, &b) == 0;
    cert_creds_unref(c); /* the transports keep it alive */
    (void)pg_loop_sim_settle(l, 50);
    ok = ok && pg_transport_status(a) == 1 && pg_transport_status(b) == 1;
    ok = ok && pg_transport_write(a, data, sizeof(data)) == (ssize_t)sizeof(data);
    (void)pg_loop_sim_settle(l, 50);
    ok = ok && pg_transport_read(b, got, sizeof(got)) == (ssize_t)sizeof(got) &&
         memcmp(got, data, sizeof(got)) == 0;
    pg_transport_close(a);
    pg_transport_close(b);
    (void)pg_loop_sim_settle(l, 50);
    return ok;
}

static void *worker(void *arg)
{
    size_t *good = arg;
    struct pg_loop *l = NULL;
    if (pg_loop_new(&l) < 0) {
        return NULL;
    }
    for (size_t i = 0; i < ROUNDS; i++) {
        *good += one_connection(l, i);
    }
    pg_loop_free(l);
    return NULL;
}

static void test_threads(void)
{
    pthread_t id[THREADS];
    size_t good[THREADS] = {0};
    struct corpus_ca *root = corpus_root("root");
    corpus_clock(CORPUS_NOW);
    pair = corpus_issue(root, &(struct corpus_leaf){.uri = {"spiffe://td/ns/a/sa/b"}});
    roots = corpus_ca_pem(root);
    shared = make();
    for (size_t i = 0; i < THREADS; i++) {
        CU_ASSERT_EQUAL_FATAL(pthread_create(&id[i], NULL, worker, &good[i]), 0);
    }
    for (int i = 0; i < 20; i++) {
        struct cert_creds *fresh = make();
        pthread_mutex_lock(&lock);
        struct cert_creds *old = shared;
        shared = fresh;
        pthread_mutex_unlock(&lock);
        cert_creds_unref(old);
    }
    for (size_t i = 0; i < THREADS; i++) {
        CU_ASSERT_EQUAL(pthread_join(id[i], NULL), 0);
        CU_ASSERT_EQUAL(good[i], ROUNDS);
    }
    cert_creds_unref(shared);
    corpus_fini();
}

TEST_MAIN("tls threads", {"shared credentials", test_threads})
