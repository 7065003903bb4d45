/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The library's xDS ends as a program for the interoperability test: commands come line by line on standard
 * input, what happens goes line by line to standard output. Modes: server DIR                     set TYPE
 * NAME HEX [ALIAS...] | del TYPE NAME | commit | drain | quit client ADDRESS DIR TYPE...     reconnect | quit
 *   ca ADDRESS DIR TOKEN CSR ID    one certificate call
 * DIR holds server.pem, server.key, root.pem. One thread.
 */
#include "certs/tls.h"
#include "core/log.h"
#include "net/resolve.h"
#include "net/sock.h"
#include "xds/client.h"
#include "xds/server.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define WORDS_MAX 16
#define LINE_MAX_BYTES (64u * 1024 * 1024)

struct probe {
    struct pg_loop *loop;
    struct pg_resolver *resolver;
    struct cert_creds *creds;
    struct pg_sb input;
    struct pg_io *io;
    struct xds_view *view;
    struct xds_server *server;
    struct pg_listener *listener;
    struct xds_client *client;
    struct xds_ca_call *ca;
    const char *types[XDS_CLIENT_TYPES_MAX];
    size_t n_types;
};
static struct probe p;

static void die(const char *what)
{
    fprintf(stderr, "xds_probe: %s\n", what);
    exit(1);
}

static void need(int r, const struct pg_errtext *err, const char *what)
{
    if (r < 0) {
        fprintf(stderr, "xds_probe: %s: %s %s\n", what, pg_err_str(r), err != NULL ? err->text : "");
        exit(1);
    }
}

static void read_file(const char *dir, const char *name, struct pg_sb *out)
{
    char path[4096];
    char buf[65536];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        die(path);
    }
    size_t n = fread(buf, 1, sizeof(buf), f);
    pg_sb_init(out, sizeof(buf));
    pg_sb_add(out, buf, n);
    fclose(f);
}

static void load(const char *dir, bool own)
{
    struct pg_sb chain, key, roots;
    struct pg_errtext err = {""};
    read_file(dir, "server.pem", &chain);
    read_file(dir, "server.key", &key);
    read_file(dir, "root.pem", &roots);
    struct pg_str any = PG_STR("*");
    struct cert_creds_options o = {
        .roots_pem = pg_sb_view(&roots), .trust_domains = &any, .n_trust_domains = 1};
    if (own) {
        o.chain_pem = pg_sb_view(&chain);
        o.key_pem = pg_sb_view(&key);
    }
    need(cert_creds_new(&o, &p.creds, &err), &err, "credentials");
    pg_sb_fini(&chain);
    pg_sb_fini(&key);
    pg_sb_fini(&roots);
}

static int digit(char c)
{
    return c >= 'a' ? c - 'a' + 10 : c - '0';
}

static void unhex(struct pg_str in, struct pg_sb *out)
{
    for (size_t i = 0; i + 1 < in.len; i += 2) {
        pg_sb_ch(out, (char)(digit(in.p[i]) * 16 + digit(in.p[i + 1])));
    }
}

static void print_hex(struct pg_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        printf("%02x", (unsigned)(unsigned char)s.p[i]);
    }
}

/* --- server
 * ------------------------------------------------------------------------------------------------------ */

static int authenticate(void *arg, const struct pg_h2_head *md, struct pg_str peer_id, struct pg_sb *out,
                        struct pg_errtext *err)
{
    (void)arg;
    if (peer_id.len != 0) {
        pg_sb_str(out, peer_id);
    } else if (pg_str_eq_c(pg_h2_head_get(md, "authorization"), "Bearer good") &&
               pg_str_eq_c(pg_h2_head_get(md, "clusterid"), "c1")) {
        pg_sb_c(out, "spiffe://td/ns/a/sa/b");
    } else {
        pg_err_set(err, "no token");
        return PG_E_DENIED;
    }
    return out->err;
}

static struct xds_view *view_for(void *arg, struct xds_stream *s, const struct xds_node *node,
                                 struct pg_str id, int *grpc_code, struct pg_errtext *err)
{
    (void)arg;
    (void)s;
    if (pg_str_has_prefix(node->id, PG_STR("forbidden"))) {
        *grpc_code = GRPC_PERMISSION_DENIED;
        pg_err_set(err, "authorization failed: %.*s", PG_STR_ARG(id));
        return NULL;
    }
    printf("node %.*s", PG_STR_ARG(node->id));
    for (size_t i = 0; i < node->n_metadata; i++) {
        printf(" %.*s=%.*s", PG_STR_ARG(node->metadata[i].key), PG_STR_ARG(node->metadata[i].value));
    }
    printf("\n");
    return p.view;
}

static void on_stream(void *arg, struct xds_stream *s, bool opened)
{
    (void)arg;
    (void)s;
    printf("stream %s\n", opened ? "opened" : "closed");
}

static void on_nack(void *arg, struct xds_stream *s, struct pg_str type_url, struct pg_str error)
{
    (void)arg;
    (void)s;
    printf("nack %.*s %.*s\n", PG_STR_ARG(type_url), PG_STR_ARG(error));
}

static void on_csr(void *arg, const struct xds_csr_request *q, struct pg_str caller, struct grpc_stream *s)
{
    (void)arg;
    printf("csr %.*s %lld %.*s by %.*s\n", PG_STR_ARG(q->csr), (long long)q->validity_s,
           PG_STR_ARG(q->impersonated), PG_STR_ARG(caller));
    if (pg_str_eq_c(q->csr, "bad")) {
        xds_csr_reply(s, GRPC_INVALID_ARGUMENT, "CSR signing error (bad)", NULL, 0);
        return;
    }
    const struct pg_str chain[] = {PG_STR("leaf"), PG_STR("intermediate"), PG_STR("roots")};
    xds_csr_reply(s, GRPC_OK, "", chain, 3);
}

static void on_accept(struct pg_transport *t, const struct pg_addr *from, void *arg)
{
    struct cert_expect expect = {.kind = CERT_EXPECT_OPTIONAL};
    struct pg_transport *tls = NULL;
    (void)arg;
    if (cert_tls_server(p.loop, t, p.creds, &expect, &tls) < 0) {
        pg_transport_close(t);
    } else if (xds_server_accept(p.server, tls, from) < 0) {
        pg_transport_close(tls);
    }
}

static void start_server(void)
{
    static const struct xds_server_callbacks callbacks = {view_for, on_stream, on_nack, authenticate, on_csr};
    struct pg_listen_options o = {0};
    struct pg_addr at = {0};
    struct pg_errtext err = {""};
    need(pg_addr_parse(PG_STR("127.0.0.1:0"), &at), NULL, "address");
    need(xds_view_new(100000, &p.view), NULL, "view");
    need(xds_server_new(p.loop, &callbacks, NULL, &p.server), NULL, "server");
    need(pg_tcp_listen(p.loop, &at, &o, on_accept, NULL, &p.listener, &err), &err, "listen");
    printf("port %u\n", pg_listener_addr(p.listener).port);
}

/* --- client
 * ------------------------------------------------------------------------------------------------------ */

static struct cert_creds *get_creds(void *arg, struct pg_errtext *err)
{
    (void)arg;
    (void)err;
    return cert_creds_ref(p.creds);
}

static int get_token(void *arg, struct pg_sb *out, struct pg_errtext *err)
{
    (void)arg;
    (void)err;
    pg_sb_c(out, "good\n");
    return out->err;
}

static int on_resource(void *arg, size_t type, const struct xds_delta_resource *r, struct pg_errtext *why)
{
    (void)arg;
    if (r->bytes.len != 0 && r->bytes.p[0] == '!') {
        pg_err_set(why, "does not like it");
        return PG_E_PARSE;
    }
    printf("resource %s %.*s %.*s ", p.types[type], PG_STR_ARG(r->name), PG_STR_ARG(r->version));
    if (r->bytes.len > 4096) {
        printf("#%zu", r->bytes.len);
    } else {
        print_hex(r->bytes);
    }
    printf("\n");
    return 0;
}

static void on_removed(void *arg, size_t type, struct pg_str name)
{
    (void)arg;
    printf("removed %s %.*s\n", p.types[type], PG_STR_ARG(name));
}

static void on_batch(void *arg, const struct adsc_result *r)
{
    (void)arg;
    printf("batch %zu %zu %zu\n", r->accepted, r->rejected, r->removed);
}

static void on_state(void *arg, const struct xds_client_event *e)
{
    static const char *const names[] = {"connecting", "connected", "synced", "disconnected"};
    (void)arg;
    printf("state %s %s\n", names[e->state], e->text);
}

static void start_client(const char *address, char **types, int n)
{
    static const char *const server_names[] = {"istiod.istio-system.svc"};
    static const struct xds_client_callbacks callbacks = {on_resource, on_removed, on_batch, on_state};
    struct adsc_type t[XDS_CLIENT_TYPES_MAX];
    struct xds_kv md[] = {{PG_STR("NAMESPACE"), PG_STR("istio-system")},
                          {PG_STR("CLUSTER_ID"), PG_STR("c1")}};
    struct pg_errtext err = {""};
    for (int i = 0; i < n && i < (int)XDS_CLIENT_TYPES_MAX; i++) {
        p.types[p.n_types++] = types[i];
        t[i] = (struct adsc_type){.type_url = types[i]};
    }
    struct xds_client_options o = {
        .target = "peering-c2",
        .log_scope = "deltaadsc",
        .addresses = &address,
        .n_addresses = 1,
        .server_names = server_names,
        .n_server_names = 1,
        .creds = get_creds,
        .token = get_token,
        .cluster_id = "c1",
        .node = {PG_STR("ztunnel~1.1.1.1~probe.istio-system~istio-system.svc.cluster.local"), md, 2},
        .types = t,
        .n_types = p.n_types,
        .backoff = {.first_ms = 50, .max_ms = 200, .factor_pct = 150, .jitter_pct = 50, .stable_ms = 1000},
    };
    need(xds_client_new(p.loop, p.resolver, &o, &callbacks, NULL, &p.client, &err), &err, "client");
}

static void on_certificate(void *arg, int err, const struct pg_str *chain, size_t n, const char *text)
{
    (void)arg;
    p.ca = NULL;
    printf("ca %s %s", pg_err_name(err), text);
    for (size_t i = 0; i < n; i++) {
        printf(" [%.*s]", PG_STR_ARG(chain[i]));
    }
    printf("\n");
    pg_loop_stop(p.loop);
}

static void start_ca(const char *address, char **argv)
{
    static const char *const server_names[] = {"istiod.istio-system.svc"};
    struct pg_errtext err = {""};
    struct xds_ca_options o = {.address = address,
                               .server_names = server_names,
                               .n_server_names = 1,
                               .creds = p.creds,
                               .token = pg_str_c(argv[0]),
                               .cluster_id = "c1",
                               .request = {pg_str_c(argv[1]), 86400, pg_str_c(argv[2]), PG_STR_NONE}};
    need(xds_ca_call(p.loop, p.resolver, &o, on_certificate, NULL, &p.ca, &err), &err, "CA call");
}

/* --- commands
 * ---------------------------------------------------------------------------------------------------- */

static void command_set(const struct pg_str *w, size_t n)
{
    char type[256];
    struct pg_sb bytes;
    (void)snprintf(type, sizeof(type), "%.*s", PG_STR_ARG(w[1]));
    pg_sb_init(&bytes, LINE_MAX_BYTES);
    unhex(w[3], &bytes);
    need(xds_view_set(p.view, type, w[2], pg_sb_view(&bytes), w + 4, n - 4), NULL, "set");
    pg_sb_fini(&bytes);
}

static void command(struct pg_str line)
{
    struct pg_str w[WORDS_MAX];
    char type[256];
    size_t n = 0;
    while (n < WORDS_MAX && pg_str_cut(&line, ' ', &w[n])) {
        n++;
    }
    if (n >= 4 && pg_str_eq_c(w[0], "set")) {
        command_set(w, n);
    } else if (n == 3 && pg_str_eq_c(w[0], "del")) {
        (void)snprintf(type, sizeof(type), "%.*s", PG_STR_ARG(w[1]));
        (void)xds_view_del(p.view, type, w[2]);
    } else if (n == 1 && pg_str_eq_c(w[0], "commit")) {
        xds_view_commit(p.view);
        printf("committed %llu\n", (unsigned long long)xds_view_generation(p.view));
    } else if (n == 1 && pg_str_eq_c(w[0], "drain")) {
        xds_server_drain(p.server);
    } else if (n == 1 && pg_str_eq_c(w[0], "reconnect")) {
        xds_client_reconnect(p.client);
    } else {
        pg_loop_stop(p.loop);
    }
}

static void on_input(void *arg, unsigned rw)
{
    char buf[65536];
    (void)arg;
    (void)rw;
    ssize_t n = read(STDIN_FILENO, buf, sizeof(buf));
    if (n <= 0) {
        pg_loop_stop(p.loop);
        return;
    }
    pg_sb_add(&p.input, buf, (size_t)n);
    struct pg_str rest = pg_sb_view(&p.input);
    while (pg_str_chr(rest, '\n') >= 0) {
        struct pg_str line;
        (void)pg_str_cut(&rest, '\n', &line);
        command(line);
    }
    struct pg_sb left;
    pg_sb_init(&left, LINE_MAX_BYTES);
    pg_sb_str(&left, rest);
    pg_sb_fini(&p.input);
    p.input = left;
}

int main(int argc, char **argv)
{
    struct pg_errtext err = {""};
    if (argc < 3) {
        die("see the head of xds_probe.c");
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    pg_log_set_output(STDERR_FILENO, false);
    need(pg_loop_new(&p.loop), NULL, "loop");
    need(pg_resolver_new(p.loop, "127.0.0.1:1", &p.resolver, &err), &err, "resolver");
    pg_sb_init(&p.input, LINE_MAX_BYTES);
    need(pg_io_new(p.loop, STDIN_FILENO, on_input, NULL, &p.io), NULL, "input");
    pg_io_want(p.io, PG_READ);
    if (strcmp(argv[1], "server") == 0) {
        load(argv[2], true);
        start_server();
    } else if ((strcmp(argv[1], "client") == 0 || strcmp(argv[1], "mclient") == 0) && argc > 4) {
        load(argv[3], argv[1][0] == 'm');
        start_client(argv[2], argv + 4, argc - 4);
    } else if (strcmp(argv[1], "ca") == 0 && argc == 7) {
        load(argv[3], false);
        start_ca(argv[2], argv + 4);
    } else {
        die("unknown mode");
    }
    pg_loop_run(p.loop);
    pg_listener_free(p.listener);
    xds_server_free(p.server);
    xds_client_free(p.client);
    xds_ca_call_cancel(p.ca);
    pg_loop_turn(p.loop, false);
    xds_view_free(p.view);
    pg_resolver_free(p.resolver);
    cert_creds_unref(p.creds);
    pg_io_free(p.io);
    pg_sb_fini(&p.input);
    pg_loop_free(p.loop);
    return 0;
}
