/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The references a tunnel is held against: forwards each connection to one address, as plain TCP, into TLS or
 * out of TLS, one TLS connection per connection, with the proxy's own TLS transport and copy loop but without
 * HTTP/2, routing, policy and logs. One thread.
 *
 *   tls_forward plain|wrap|unwrap LISTEN TARGET [CACERTS-DIR]
 */
#include "certs/ca.h"
#include "certs/tls.h"
#include "core/clock.h"
#include "net/sock.h"

#include <stdio.h>

#define IDENTITY "spiffe://cluster.local/ns/bench/sa/forward"
#define PEM_MAX 65536u
#define KEEP_MEMORY (4u * 1024 * 1024) /* as the proxy */

enum kind { PLAIN, WRAP, UNWRAP };
struct forward {
    struct pg_loop *loop;
    struct pg_addr target;
    struct cert_creds *creds;
    enum kind kind;
};

static const struct cert_expect mesh = {.kind = CERT_EXPECT_MESH};

static void on_done(const struct pg_relay_result *r, void *arg)
{
    (void)arg;
    if (r->err != 0 && r->err != PG_E_RESET) {
        (void)fprintf(stderr, "tls_forward: %s\n", r->text);
    }
}

/* TLS over `*t`, which it replaces; on failure `*t` is closed. */
static int add_tls(struct forward *f, bool server, struct pg_transport **t)
{
    int r = (server ? cert_tls_server : cert_tls_client)(f->loop, *t, f->creds, &mesh, t);
    if (r < 0) {
        pg_transport_abort(*t);
    }
    return r;
}

static void on_accept(struct pg_transport *in, const struct pg_addr *from, void *arg)
{
    struct forward *f = arg;
    struct pg_transport *out = NULL;
    struct pg_relay *relay = NULL;
    struct pg_errtext err = {.text = ""};
    (void)from;
    if (f->kind == UNWRAP && add_tls(f, true, &in) < 0) {
        return;
    }
    if (pg_tcp_connect(f->loop, &f->target, NULL, &out, &err) < 0) {
        (void)fprintf(stderr, "tls_forward: %s\n", err.text);
        pg_transport_abort(in);
        return;
    }
    if (f->kind == WRAP && add_tls(f, false, &out) < 0) {
        pg_transport_abort(in);
        return;
    }
    if (pg_relay_start(f->loop, in, out, on_done, NULL, &relay) < 0) {
        pg_transport_abort(in);
        pg_transport_abort(out);
    }
}

static int load_creds(const char *dir, struct cert_creds **out, struct pg_errtext *err)
{
    struct cert_ca *ca = NULL;
    struct pg_sb chain, key;
    pg_sb_init(&chain, PEM_MAX);
    pg_sb_init(&key, PEM_MAX);
    int r = cert_ca_load(dir, &ca, err);
    if (r == 0) {
        r = cert_ca_issue_server(ca, PG_STR(IDENTITY), NULL, 0, 0, pg_clock_wall_s(), &chain, &key, err);
    }
    if (r == 0) {
        struct cert_creds_options o = {
            .chain_pem = pg_sb_view(&chain), .key_pem = pg_sb_view(&key), .roots_pem = cert_ca_root_pem(ca)};
        r = cert_creds_new(&o, out, err);
    }
    cert_ca_free(ca);
    pg_sb_fini(&chain);
    pg_sb_fini(&key);
    return r;
}

static bool find_kind(const char *name, enum kind *out)
{
    static const char *const kinds[] = {"plain", "wrap", "unwrap"};
    for (unsigned i = 0; i < PG_ARRAY_LEN(kinds); i++) {
        if (strcmp(name, kinds[i]) == 0) {
            *out = (enum kind)i;
            return true;
        }
    }
    return false;
}

int main(int argc, char **argv)
{
    struct forward f = {0};
    struct pg_addr at = {0};
    struct pg_errtext err = {.text = "usage: tls_forward plain|wrap|unwrap LISTEN TARGET [CACERTS-DIR]"};
    struct pg_listener *listener = NULL;
    struct pg_listen_options o = {.backlog = 4096};
    if (argc < 4 || !find_kind(argv[1], &f.kind) || argc != (f.kind == PLAIN ? 4 : 5) ||
        pg_addr_parse(pg_str_c(argv[2]), &at) < 0 || pg_addr_parse(pg_str_c(argv[3]), &f.target) < 0) {
        goto failed;
    }
    pg_mem_keep(KEEP_MEMORY);
    (void)pg_raise_fd_limit();
    if ((f.kind != PLAIN && load_creds(argv[4], &f.creds, &err) < 0) || pg_loop_new(&f.loop) < 0 ||
        pg_tcp_listen(f.loop, &at, &o, on_accept, &f, &listener, &err) < 0) {
        goto failed;
    }
    pg_loop_run(f.loop);
    return 0;
failed:
    (void)fprintf(stderr, "tls_forward: %s\n", err.text);
    return 1;
}
