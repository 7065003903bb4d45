/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many proxies in one process, for the tests of whole programs: N delta xDS clients with one token, each with
 * its own connection. usage: herd ADDRESS ROOT.pem TOKEN N. A line "synced COUNT resources R losses L" on
 * standard output whenever that changes, at most ten a second, so that the test can wait for one. One thread.
 */
#include "certs/tls.h"
#include "core/log.h"
#include "net/resolve.h"
#include "net/sock.h"
#include "xds/client.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define HERD_MAX 4096u
#define FILE_MAX 262144u

struct herd;
struct proxy {
    struct herd *herd;
    struct xds_client *client;
    bool synced;
    size_t resources; /* held now */
};
struct herd {
    struct pg_loop *loop;
    struct pg_resolver *resolver;
    struct cert_creds *creds;
    struct pg_sb token;
    struct pg_timer *timer;
    struct proxy proxies[HERD_MAX];
    size_t n, synced, losses, removals;
    bool changed;
};
static struct herd herd;

static void die(const char *what, const char *text)
{
    fprintf(stderr, "herd: %s %s\n", what, text);
    exit(1);
}

static void read_file(const char *path, struct pg_sb *out)
{
    char buf[16384];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;
    pg_sb_init(out, FILE_MAX);
    if (fd < 0) {
        die("cannot read", path);
    }
    while ((n = read(fd, buf, sizeof(buf))) > 0) {
        pg_sb_add(out, buf, (size_t)n);
    }
    (void)close(fd);
}

static int on_resource(void *arg, size_t type, const struct xds_delta_resource *r, struct pg_errtext *why)
{
    struct proxy *p = arg;
    (void)type;
    (void)r;
    (void)why;
    p->resources++;
    return 0;
}

static void on_removed(void *arg, size_t type, struct pg_str name)
{
    struct proxy *p = arg;
    (void)type;
    (void)name;
    p->herd->removals++;
    p->herd->changed = true;
}

static void on_batch(void *arg, const struct adsc_result *r)
{
    struct proxy *p = arg;
    (void)r;
    p->herd->changed = true;
}

static void on_state(void *arg, const struct xds_client_event *e)
{
    struct proxy *p = arg;
    if (e->state == XDS_DISCONNECTED) {
        p->herd->losses++;
        p->herd->synced -= p->synced ? 1 : 0;
        p->synced = false;
        p->herd->changed = true;
    } else if (e->state == XDS_SYNCED) {
        p->herd->synced += p->synced ? 0 : 1;
        p->synced = true;
        p->herd->changed = true;
    }
}

static struct cert_creds *get_creds(void *arg, struct pg_errtext *err)
{
    const struct proxy *p = arg;
    (void)err;
    return cert_creds_ref(p->herd->creds);
}

static int get_token(void *arg, struct pg_sb *out, struct pg_errtext *err)
{
    const struct proxy *p = arg;
    (void)err;
    pg_sb_str(out, pg_str_trim(pg_sb_view(&p->herd->token)));
    return out->err;
}

static void on_timer(void *arg)
{
    struct herd *h = arg;
    size_t resources = 0;
    for (size_t i = 0; i < h->n; i++) {
        resources += h->proxies[i].resources;
    }
    if (h->changed) {
        printf("synced %zu resources %zu removals %zu losses %zu\n", h->synced, resources, h->removals,
               h->losses);
        (void)fflush(stdout);
    }
    h->changed = false;
    pg_timer_start(h->timer, 100);
}

static void start(struct proxy *p, const char *address)
{
    static const char *const names[] = {"istiod.istio-system.svc"};
    static const struct xds_client_callbacks callbacks = {on_resource, on_removed, on_batch, on_state};
    const struct adsc_type types[] = {{.type_url = XDS_TYPE_ADDRESS}, {.type_url = XDS_TYPE_AUTHORIZATION}};
    struct pg_errtext err = {""};
    struct xds_client_options o = {
        .target = "xds",
        .addresses = &address,
        .n_addresses = 1,
        .server_names = names,
        .n_server_names = 1,
        .creds = get_creds,
        .token = get_token,
        .cluster_id = "Kubernetes",
        .node = {.id = PG_STR("ztunnel~10.0.0.1~herd.demo~demo.svc.cluster.local")},
        .types = types,
        .n_types = PG_ARRAY_LEN(types),
        .backoff = {.first_ms = 100, .max_ms = 2000, .factor_pct = 200, .jitter_pct = 50, .stable_ms = 30000},
    };
    if (xds_client_new(herd.loop, herd.resolver, &o, &callbacks, p, &p->client, &err) < 0) {
        die("client", err.text);
    }
}

int main(int argc, char **argv)
{
    struct pg_sb roots;
    struct pg_errtext err = {""};
    if (argc != 5) {
        die("usage:", "herd ADDRESS ROOT.pem TOKEN N");
    }
    uint64_t n;
    if (pg_str_u64(pg_str_c(argv[4]), HERD_MAX, &n) < 0 || n == 0) {
        die("a number up to 4096 is wanted, not", argv[4]);
    }
    if (pg_log_set_filter("error", &err) < 0) {
        die("log", err.text);
    }
    pg_raise_fd_limit();
    read_file(argv[2], &roots);
    read_file(argv[3], &herd.token);
    struct cert_creds_options o = {.roots_pem = pg_sb_view(&roots)};
    if (pg_loop_new(&herd.loop) < 0 || pg_resolver_new(herd.loop, NULL, &herd.resolver, &err) < 0 ||
        cert_creds_new(&o, &herd.creds, &err) < 0 ||
        pg_timer_new(herd.loop, on_timer, &herd, &herd.timer) < 0) {
        die("start", err.text);
    }
    herd.n = (size_t)n;
    for (size_t i = 0; i < herd.n; i++) {
        herd.proxies[i].herd = &herd;
        start(&herd.proxies[i], argv[1]);
    }
    pg_timer_start(herd.timer, 100);
    pg_loop_run(herd.loop);
    return 0;
}
