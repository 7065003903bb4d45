/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The openssl program as an independent TLS peer over loopback TCP, on the real loop: s_client against our
 * server, s_server against our client. What it prints is checked as well as what we say. Real time:
 * certificates are valid for decades.
 */
#include "corpus_ossl.h"
#include "testlib.h"
#include "tmpdir.h"

#include "certs/tls.h"
#include "net/sock.h"

#include <signal.h>

#define ID "spiffe://td/ns/a/sa/b"
#define BIG (3u << 20)
#define GUARD_MS 20000u

static char dir[64];
static struct cert_creds *creds, *foreign_creds;
static const struct cert_expect mesh = {.kind = CERT_EXPECT_MESH};

struct child { /* a running openssl with its output collected by the loop */
    pid_t pid;
    int fd;
    struct pg_io *io;
    struct pg_sb out;
    bool eof;
};
struct scene {
    struct pg_loop *l;
    struct pg_transport *t;
    struct child child;
    struct pg_sb got;
    size_t expect;      /* bytes after which we answer and finish */
    const char *answer; /* what a server says then */
    int err;
    bool eof, over, established, sent;
    char text[256];
};

static void write_pair(const char *name, const struct corpus_pair *p)
{
    char file[64];
    (void)snprintf(file, sizeof(file), "%s.pem", name);
    tmpdir_write(dir, file, p->chain);
    (void)snprintf(file, sizeof(file), "%s-key.pem", name);
    tmpdir_write(dir, file, p->key);
}

static struct cert_creds *make_creds(const struct corpus_pair *p, struct pg_str roots)
{
    struct cert_creds_options o = {.chain_pem = p->chain, .key_pem = p->key, .roots_pem = roots};
    struct cert_creds *c = NULL;
    CU_ASSERT_EQUAL_FATAL(cert_creds_new(&o, &c, NULL), 0);
    return c;
}

static void begin(void)
{
    const struct corpus_leaf leaf = {.uri = {ID}, .not_before = 946684800, .not_after = 2493072000};
    tmpdir_make(dir);
    struct corpus_ca *root = corpus_root("root");
    struct corpus_ca *mid = corpus_intermediate(root, "mid", NULL);
    struct corpus_ca *foreign = corpus_root("foreign");
    struct corpus_pair ours = corpus_issue(mid, &leaf);
    struct corpus_pair theirs = corpus_issue(mid, &leaf);
    struct corpus_pair bad = corpus_issue(foreign, &leaf);
    creds = make_creds(&ours, corpus_ca_pem(root));
    foreign_creds = make_creds(&bad, corpus_ca_pem(root));
    tmpdir_write(dir, "root.pem", corpus_ca_pem(root));
    tmpdir_write(dir, "in.txt", PG_STR("hello\n"));
    write_pair("cli", &theirs);
    write_pair("bad", &bad);
}

static void end(void)
{
    cert_creds_unref(creds);
    cert_creds_unref(foreign_creds);
    tmpdir_remove(dir);
    corpus_fini();
}

static void on_child(void *arg, unsigned rw)
{
    struct child *c = arg;
    char buf[8192];
    (void)rw;
    ssize_t n = read(c->fd, buf, sizeof(buf));
    if (n > 0) {
        pg_sb_add(&c->out, buf, (size_t)n);
    } else if (n == 0) {
        c->eof = true;
        pg_io_want(c->io, 0);
    }
}

/* Starts `openssl args...` in `dir` with in.txt as its standard input. */
static void start(struct scene *s, char *const *args)
{
    int fd[2];
    char *argv[40] = {ARG("openssl")};
    char in[96];
    posix_spawn_file_actions_t fa;
    for (size_t i = 0; args[i] != NULL; i++) {
        argv[i + 1] = args[i];
    }
    CU_ASSERT_EQUAL_FATAL(pipe2(fd, O_CLOEXEC | O_NONBLOCK), 0);
    (void)snprintf(in, sizeof(in), "%s/in.txt", dir);
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_addopen(&fa, 0, in, O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&fa, fd[1], 1);
    posix_spawn_file_actions_adddup2(&fa, fd[1], 2);
    posix_spawn_file_actions_addchdir_np(&fa, dir);
    CU_ASSERT_EQUAL_FATAL(posix_spawnp(&s->child.pid, "openssl", &fa, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&fa);
    (void)close(fd[1]);
    s->child.fd = fd[0];
    pg_sb_init(&s->child.out, 16u << 20);
    CU_ASSERT_EQUAL_FATAL(pg_io_new(s->l, fd[0], on_child, &s->child, &s->child.io), 0);
    pg_io_want(s->child.io, PG_READ);
}

static void finish(struct scene *s, int err)
{
    s->over = true;
    s->err = err;
    (void)snprintf(s->text, sizeof(s->text), "%s", pg_transport_error_text(s->t));
    pg_transport_want(s->t, 0);
}

static void on_tls(struct pg_transport *t, unsigned rw, void *arg)
{
    struct scene *s = arg;
    char buf[30000];
    (void)rw;
    if (pg_transport_status(t) == PG_E_AGAIN) {
        return;
    }
    s->established |= pg_transport_status(t) == 1;
    if (!s->sent && s->answer == NULL) { /* client: speaks first */
        s->sent = true;
        ssize_t w = pg_transport_write(t, "hello\n", 6);
        CU_ASSERT_TRUE(w == 6 || w < 0);
    }
    for (;;) {
        ssize_t n = pg_transport_read(t, buf, sizeof(buf));
        if (n == PG_E_AGAIN) {
            break;
        }
        if (n <= 0) {
            s->eof = n == 0;
            finish(s, (int)n);
            return;
        }
        pg_sb_add(&s->got, buf, (size_t)n);
    }
    pg_transport_want(t, PG_READ);
    if (s->got.len >= s->expect && !s->sent) {
        s->sent = true;
        CU_ASSERT_EQUAL(pg_transport_write(t, s->answer, strlen(s->answer)), (ssize_t)strlen(s->answer));
        CU_ASSERT_EQUAL(pg_transport_shutdown(t), 0);
    } else if (s->got.len >= s->expect && s->answer == NULL) {
        CU_ASSERT_EQUAL(pg_transport_shutdown(t), 0);
        finish(s, 0);
    }
}

static void on_accept(struct pg_transport *lower, const struct pg_addr *from, void *arg)
{
    struct scene *s = arg;
    (void)from;
    CU_ASSERT_EQUAL_FATAL(cert_tls_server(s->l, lower, creds, &mesh, &s->t), 0);
    pg_transport_set_owner(s->t, on_tls, s);
    pg_transport_want(s->t, PG_READ);
}

static void on_guard(void *arg)
{
    *(bool *)arg = true;
}

static void scene_init(struct scene *s)
{
    *s = (struct scene){.expect = 6};
    pg_sb_init(&s->got, 16u << 20);
    CU_ASSERT_EQUAL_FATAL(pg_loop_new(&s->l), 0);
}

/* Until the transport and the program are both through. */
static int scene_run(struct scene *s, bool closes_when_over)
{
    struct pg_timer *guard = NULL;
    bool late = false;
    int status = 0;
    CU_ASSERT_EQUAL_FATAL(pg_timer_new(s->l, on_guard, &late, &guard), 0);
    pg_timer_start(guard, GUARD_MS);
    while (!late && !(s->child.eof && (s->over || s->t == NULL))) {
        if (s->over && closes_when_over && s->t != NULL && pg_transport_pending(s->t) == 0) {
            pg_transport_close(s->t);
            s->t = NULL;
        }
        pg_loop_turn(s->l, true);
    }
    CU_ASSERT_FALSE(late);
    pg_timer_free(guard);
    if (late) {
        (void)kill(s->child.pid, SIGKILL);
    }
    CU_ASSERT_EQUAL(waitpid(s->child.pid, &status, 0), s->child.pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void scene_end(struct scene *s)
{
    pg_transport_close(s->t);
    pg_io_free(s->child.io);
    pg_loop_turn(s->l, false);
    (void)close(s->child.fd);
    pg_loop_free(s->l);
    pg_sb_fini(&s->got);
    pg_sb_fini(&s->child.out);
}

static bool said(const struct scene *s, const char *words)
{
    return s->child.out.p != NULL && strstr(s->child.out.p, words) != NULL;
}

#define CHECK_SAID(s, words)                                                                                 \
    do {                                                                                                     \
        if (!said((s), (words))) {                                                                           \
            fprintf(stderr, "no \"%s\" in:\n%s\n", (words), (s)->child.out.p);                               \
        }                                                                                                    \
        CU_ASSERT_TRUE(said((s), (words)));                                                                  \
    } while (0)

/* s_client with these further arguments against our server. */
static int run_s_client(struct scene *s, char *const *more)
{
    struct pg_listener *lis = NULL;
    struct pg_addr at = {.port = 0};
    char text[PG_ADDR_TEXT];
    char *argv[32] = {ARG("s_client"), ARG("-CAfile"), ARG("root.pem"), ARG("-verify_return_error"),
                      ARG("-ign_eof"), ARG("-connect")};
    size_t n = 6;
    CU_ASSERT_EQUAL(pg_ip_parse(PG_STR("127.0.0.1"), &at.ip), 0);
    CU_ASSERT_EQUAL_FATAL(pg_tcp_listen(s->l, &at, NULL, on_accept, s, &lis, NULL), 0);
    at = pg_listener_addr(lis);
    argv[n++] = ARG(pg_addr_fmt(&at, text));
    for (size_t i = 0; more[i] != NULL; i++) {
        argv[n++] = more[i];
    }
    start(s, argv);
    int status = scene_run(s, true);
    pg_listener_free(lis);
    return status;
}

#define CLI_CERT                                                                                             \
    ARG("-cert"), ARG("cli.pem"), ARG("-cert_chain"), ARG("cli.pem"), ARG("-key"), ARG("cli-key.pem")
#define H2 ARG("-alpn"), ARG("h2")

static void test_s_client(void)
{
    struct scene s;
    begin();
    scene_init(&s);
    s.answer = "answer from the server\n";
    int status = run_s_client(&s, (char *[]){CLI_CERT, H2, NULL});
    CU_ASSERT_EQUAL(status, 0);
    CU_ASSERT_TRUE(s.established && s.eof);
    CU_ASSERT_TRUE(pg_str_eq_c(pg_sb_view(&s.got), "hello\n"));
    CHECK_SAID(&s, "answer from the server");
    CHECK_SAID(&s, "New, TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384");
    CHECK_SAID(&s, "ALPN protocol: h2");
    CHECK_SAID(&s, "Verify return code: 0 (ok)");
    CHECK_SAID(&s, "Server Temp Key: X25519");
    CU_ASSERT_FALSE(said(&s, "New Session Ticket"));
    scene_end(&s);
    end();
}

static void test_s_client_refused(void)
{
    static const struct {
        char *args[16];
        const char *words;
        const char *ours;
    } cases[] = {
        {{H2, NULL}, "alert number 116", "tls: client didn't provide a certificate"},
        {{ARG("-cert"), ARG("bad.pem"), ARG("-key"), ARG("bad-key.pem"), H2, NULL},
         "alert unknown ca",
         "tls: failed to verify certificate: x509: certificate signed by unknown authority (\"" ID "\")"},
        {{CLI_CERT, NULL},
         "no application protocol",
         "tls: client did not offer the application protocol h2"},
        {{CLI_CERT, ARG("-alpn"), ARG("http/1.1"), NULL},
         "no application protocol",
         "tls: client requested unsupported application protocols"},
        {{CLI_CERT, H2, ARG("-tls1_2"), NULL}, "alert protocol version", "tls: unsupported protocol"},
        {{CLI_CERT, H2, ARG("-ciphersuites"), ARG("TLS_CHACHA20_POLY1305_SHA256"), NULL},
         "alert handshake failure",
         "tls: no shared cipher"},
    };
    begin();
    for (size_t i = 0; i < PG_ARRAY_LEN(cases); i++) {
        struct scene s;
        scene_init(&s);
        s.answer = "never";
        (void)run_s_client(&s, cases[i].args);
        CU_ASSERT_FALSE(s.established);
        CU_ASSERT_EQUAL(s.got.len, 0);
        CU_ASSERT_TRUE(s.err < 0);
        CU_ASSERT_STRING_EQUAL(s.text, cases[i].ours);
        CHECK_SAID(&s, cases[i].words);
        scene_end(&s);
    }
    end();
}

/* Megabytes towards us, through real sockets. */
static void test_s_client_big(void)
{
    struct scene s;
    begin();
    char *big = pg_malloc(BIG);
    CU_ASSERT_PTR_NOT_NULL_FATAL(big);
    for (size_t i = 0; i < BIG; i++) {
        big[i] = (char)('a' + (i * 7 + i / 1000) % 26);
    }
    tmpdir_write(dir, "in.txt", pg_str_n(big, BIG));
    scene_init(&s);
    s.expect = BIG;
    s.answer = "got it all\n";
    CU_ASSERT_EQUAL(run_s_client(&s, (char *[]){CLI_CERT, H2, ARG("-quiet"), NULL}), 0);
    CU_ASSERT_EQUAL(s.got.len, BIG);
    CU_ASSERT_TRUE(s.got.len == BIG && memcmp(s.got.p, big, BIG) == 0);
    CHECK_SAID(&s, "got it all");
    pg_free(big);
    scene_end(&s);
    end();
}

/* Our client, once s_server said where it listens. */
static bool connect_to_child(struct scene *s, struct cert_creds *c)
{
    struct pg_addr to;
    struct pg_transport *lower = NULL;
    for (int i = 0; i < 5000 && !said(s, "ACCEPT 127.0.0.1:"); i++) {
        pg_loop_turn(s->l, true);
    }
    CU_ASSERT_TRUE(said(s, "ACCEPT 127.0.0.1:"));
    if (!said(s, "ACCEPT 127.0.0.1:")) {
        return false;
    }
    const char *p = strstr(s->child.out.p, "ACCEPT ") + 7;
    struct pg_str line = pg_str_n(p, strcspn(p, "\n"));
    CU_ASSERT_EQUAL_FATAL(pg_addr_parse(line, &to), 0);
    CU_ASSERT_EQUAL_FATAL(pg_tcp_connect(s->l, &to, NULL, &lower, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(cert_tls_client(s->l, lower, c, &mesh, &s->t), 0);
    pg_transport_set_owner(s->t, on_tls, s);
    pg_transport_want(s->t, PG_READ | PG_WRITE);
    return true;
}

static void run_s_server(struct scene *s, struct cert_creds *c, const char *cert, const char *key)
{
    char *argv[] = {ARG("s_server"),
                    ARG("-accept"),
                    ARG("127.0.0.1:0"),
                    ARG("-cert"),
                    ARG(cert),
                    ARG("-cert_chain"),
                    ARG(cert),
                    ARG("-key"),
                    ARG(key),
                    ARG("-CAfile"),
                    ARG("root.pem"),
                    ARG("-Verify"),
                    ARG("3"),
                    ARG("-verify_return_error"),
                    H2,
                    ARG("-rev"),
                    ARG("-naccept"),
                    ARG("1"),
                    NULL};
    scene_init(s);
    start(s, argv);
    if (connect_to_child(s, c)) {
        (void)scene_run(s, true);
    }
}

static void test_s_server(void)
{
    struct scene s;
    begin();
    run_s_server(&s, creds, "cli.pem", "cli-key.pem");
    CU_ASSERT_TRUE(s.established);
    CU_ASSERT_EQUAL(s.err, 0);
    CU_ASSERT_TRUE(pg_str_eq_c(pg_sb_view(&s.got), "olleh\n"));
    CHECK_SAID(&s, "ALPN protocols selected: h2");
    scene_end(&s);
    /* it refuses us, after our handshake was over */
    run_s_server(&s, foreign_creds, "cli.pem", "cli-key.pem");
    CU_ASSERT_EQUAL(s.err, PG_E_TLS);
    CU_ASSERT_STRING_EQUAL(s.text, "remote error: tls: unknown certificate authority");
    scene_end(&s);
    /* we refuse it */
    run_s_server(&s, creds, "bad.pem", "bad-key.pem");
    CU_ASSERT_FALSE(s.established);
    CU_ASSERT_EQUAL(s.err, PG_E_UNTRUSTED);
    CHECK_SAID(&s, "alert unknown ca");
    scene_end(&s);
    end();
}

TEST_MAIN("tls against the openssl program", {"s_client", test_s_client},
          {"s_client refused", test_s_client_refused}, {"s_client, megabytes", test_s_client_big},
          {"s_server", test_s_server})
