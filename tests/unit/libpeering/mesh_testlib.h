/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole control planes in one process, each with its own loop, turned by hand until something is true: real
 * sockets on loopback, real TLS, real files in a temporary directory. Nothing waits by time alone.
 */
#ifndef ISTHMUS_MESH_TESTLIB_H
#define ISTHMUS_MESH_TESTLIB_H

#include "libpeering/src/control_internal.h"
#include "testlib.h"

#include "core/clock.h"

#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MESH_NODES 4u
#define MESH_WAIT_MS 30000u

struct mesh_node {
    char cluster[16];
    char address[PG_ADDR_TEXT]; /* "127.0.0.1:port", kept over restarts */
    uint16_t port;
    struct peering_control *c; /* NULL: down */
};
struct mesh {
    char dir[64];
    struct mesh_node nodes[MESH_NODES];
    /* Called after every turn: for what must hold all the time. */
    void (*always)(struct mesh *m, void *arg);
    void *arg;
};

static inline void mesh_write(const struct mesh *m, const char *cluster, const char *name, const char *text)
{
    char path[256];
    char temp[256];
    (void)snprintf(path, sizeof(path), "%s/%s/%s", m->dir, cluster, name);
    (void)snprintf(temp, sizeof(temp), "%s/%s/.%s", m->dir, cluster, name);
    int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    (void)close(fd);
    CU_ASSERT_EQUAL(rename(temp, path), 0);
}

static inline void mesh_remove(const struct mesh *m, const char *cluster, const char *name)
{
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/%s/%s", m->dir, cluster, name);
    (void)unlink(path);
}

static inline int mesh_unlink(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

/* Making RSA keys takes a second or two: all meshes of a test share one root and intermediate. */
static char mesh_keys_dir[64];
static inline void mesh_drop_keys(void)
{
    (void)nftw(mesh_keys_dir, mesh_unlink, 16, FTW_DEPTH | FTW_PHYS);
}
static inline const char *mesh_keys(void)
{
    struct pg_errtext err = {""};
    if (mesh_keys_dir[0] == '\0') {
        (void)snprintf(mesh_keys_dir, sizeof(mesh_keys_dir), "/tmp/isthmus-keys-XXXXXX");
        CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(mesh_keys_dir));
        CU_ASSERT_EQUAL_FATAL(cert_make_root(mesh_keys_dir, false, &err), 0);
        CU_ASSERT_EQUAL_FATAL(cert_make_cacerts(mesh_keys_dir, "mesh", false, &err), 0);
        (void)atexit(mesh_drop_keys);
    }
    return mesh_keys_dir;
}

static inline void mesh_make(struct mesh *m)
{
    char path[256];
    struct pg_errtext err = {""};
    *m = (struct mesh){0};
    (void)mesh_keys();
    (void)snprintf(m->dir, sizeof(m->dir), "/tmp/isthmus-mesh-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(m->dir));
    (void)snprintf(path, sizeof(path), "%s/issuer", m->dir);
    CU_ASSERT_EQUAL_FATAL(cert_issuer_make(path, &err), 0);
    for (size_t i = 0; i < MESH_NODES; i++) {
        (void)snprintf(m->nodes[i].cluster, sizeof(m->nodes[i].cluster), "c%zu", i);
        (void)snprintf(path, sizeof(path), "%s/c%zu", m->dir, i);
        CU_ASSERT_EQUAL(mkdir(path, 0700), 0);
    }
}

static inline peering_options *mesh_options(const struct mesh *m, size_t i)
{
    const struct mesh_node *n = &m->nodes[i];
    peering_options *o = NULL;
    char manifests[128], cacerts[128], jwks[128], state[128], network[32];
    (void)snprintf(manifests, sizeof(manifests), "%s/%s", m->dir, n->cluster);
    (void)snprintf(cacerts, sizeof(cacerts), "%s/mesh", mesh_keys());
    (void)snprintf(jwks, sizeof(jwks), "%s/issuer/jwks.json", m->dir);
    (void)snprintf(state, sizeof(state), "%s/state-%s", m->dir, n->cluster);
    (void)snprintf(network, sizeof(network), "net-%s", n->cluster);
    const char *const values[][2] = {
        {"cluster", n->cluster},
        {"network", network},
        {"manifests", manifests},
        {"cacerts", cacerts},
        {"jwks", jwks},
        {"state", state},
        {"admin", ""},
        {"trusted-node-accounts", "istio-system/ztunnel"},
        {"listen", n->address[0] != '\0' ? n->address : "127.0.0.1:0"},
    };
    CU_ASSERT_EQUAL_FATAL(peering_options_new(&o), 0);
    for (size_t k = 0; k < PG_ARRAY_LEN(values); k++) {
        peering_text why = {""};
        if (peering_options_set(o, values[k][0], values[k][1], &why) != 0) {
            (void)fprintf(stderr, "%s\n", why.text);
            CU_FAIL_FATAL("option");
        }
    }
    return o;
}

static inline int mesh_try_start(struct mesh *m, size_t i, peering_text *why)
{
    struct mesh_node *n = &m->nodes[i];
    peering_options *o = mesh_options(m, i);
    int r = peering_control_new(o, &n->c, why);
    peering_options_free(o);
    if (r == 0 && n->address[0] == '\0') {
        struct pg_addr a = pg_listener_addr(n->c->listener);
        n->port = a.port;
        (void)snprintf(n->address, sizeof(n->address), "%s", n->c->address);
    }
    return r;
}

static inline void mesh_start(struct mesh *m, size_t i)
{
    peering_text why = {""};
    if (m->nodes[i].c == NULL && mesh_try_start(m, i, &why) != 0) {
        (void)fprintf(stderr, "%s: %s\n", m->nodes[i].cluster, why.text);
        CU_FAIL_FATAL("start");
    }
}

static inline void mesh_stop(struct mesh *m, size_t i)
{
    peering_control_free(m->nodes[i].c);
    m->nodes[i].c = NULL;
}

/* One turn of every loop, after waiting a moment for any of them to have work. */
static inline void mesh_turn(struct mesh *m)
{
    struct pollfd fds[MESH_NODES];
    nfds_t n = 0;
    for (size_t i = 0; i < MESH_NODES; i++) {
        if (m->nodes[i].c != NULL) {
            fds[n++] = (struct pollfd){.fd = pg_loop_fd(m->nodes[i].c->loop), .events = POLLIN};
        }
    }
    (void)poll(fds, n, 2);
    for (size_t i = 0; i < MESH_NODES; i++) {
        if (m->nodes[i].c != NULL) {
            pg_loop_turn(m->nodes[i].c->loop, false);
        }
    }
    if (m->always != NULL) {
        m->always(m, m->arg);
    }
}

/* False when the deadline passed. */
static inline bool mesh_until(struct mesh *m, bool (*cond)(struct mesh *m, void *arg), void *arg)
{
    uint64_t end = pg_clock_mono_ms() + MESH_WAIT_MS;
    while (!cond(m, arg)) {
        if (pg_clock_mono_ms() > end) {
            return false;
        }
        mesh_turn(m);
    }
    return true;
}

static inline void mesh_fini(struct mesh *m)
{
    for (size_t i = 0; i < MESH_NODES; i++) {
        mesh_stop(m, i);
    }
    (void)nftw(m->dir, mesh_unlink, 16, FTW_DEPTH | FTW_PHYS);
}

/* --- objects --- */

static inline void mesh_link_to(const struct mesh *m, size_t from, size_t to, uint16_t port)
{
    char text[1024];
    char name[32];
    (void)snprintf(text, sizeof(text),
                   "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata:\n"
                   "  name: istio-remote-peer-c%zu\n  namespace: istio-eastwest\n"
                   "  labels: {topology.istio.io/network: net-c%zu, topology.istio.io/cluster: c%zu}\n"
                   "spec:\n  gatewayClassName: istio-remote\n"
                   "  addresses: [{type: IPAddress, value: 127.0.0.1}]\n  listeners:\n"
                   "  - {name: cross-network, port: 15008, protocol: HBONE}\n"
                   "  - {name: xds-tls, port: %u, protocol: TLS}\n",
                   to, to, to, port);
    (void)snprintf(name, sizeof(name), "peer-c%zu.yaml", to);
    mesh_write(m, m->nodes[from].cluster, name, text);
}

static inline void mesh_link(const struct mesh *m, size_t from, size_t to)
{
    mesh_link_to(m, from, to, m->nodes[to].port);
}

static inline void mesh_unlink_peer(const struct mesh *m, size_t from, size_t to)
{
    char name[32];
    (void)snprintf(name, sizeof(name), "peer-c%zu.yaml", to);
    mesh_remove(m, m->nodes[from].cluster, name);
}

/* Service s<k> with pods of which `ready` are ready; a scope or none. */
static inline void mesh_service(const struct mesh *m, size_t i, size_t k, bool global, size_t pods,
                                size_t ready)
{
    char text[4096];
    char name[32];
    int at = snprintf(
        text, sizeof(text),
        "{apiVersion: v1, kind: Service, metadata: {name: s%zu, namespace: demo%s}, spec: {selector: "
        "{app: s%zu}, ports: [{name: tcp, port: 5000, targetPort: 5000}]}}\n",
        k, global ? ", labels: {solo.io/service-scope: global}" : "", k);
    for (size_t p = 0; p < pods; p++) {
        at += snprintf(text + at, sizeof(text) - (size_t)at,
                       "---\n{apiVersion: v1, kind: Pod, metadata: {name: s%zu-%zu, namespace: demo, labels: "
                       "{app: s%zu}}, spec: {nodeName: node%zu, serviceAccountName: s%zu}, status: {phase: "
                       "Running, podIP: 10.%zu.%zu.%zu, conditions: [{type: Ready, status: \"%s\"}]}}\n",
                       k, p, k, p, k, i, k, p + 1, p < ready ? "True" : "False");
    }
    (void)snprintf(name, sizeof(name), "s%zu.yaml", k);
    mesh_write(m, m->nodes[i].cluster, name, text);
}

/* --- questions --- */

static inline const struct merge_global *mesh_global(const struct mesh *m, size_t i, size_t k)
{
    char name[32];
    const struct peering_control *c = m->nodes[i].c;
    (void)snprintf(name, sizeof(name), "s%zu", k);
    for (size_t g = 0; c != NULL && g < c->merged.n_globals; g++) {
        if (pg_str_eq_c(c->merged.globals[g].name, name)) {
            return &c->merged.globals[g];
        }
    }
    return NULL;
}

static inline bool mesh_has_cluster(const struct merge_global *g, const char *cluster)
{
    for (size_t i = 0; g != NULL && i < g->n_clusters; i++) {
        if (pg_str_eq_c(g->clusters[i], cluster)) {
            return true;
        }
    }
    return false;
}

struct mesh_fact {
    const char *cluster;
    struct peers_fact f;
    bool found;
};
static inline void mesh_take_fact(void *arg, const struct peers_fact *f)
{
    struct mesh_fact *x = arg;
    if (strcmp(f->cluster, x->cluster) == 0) {
        x->f = *f;
        x->found = true;
    }
}
static inline struct mesh_fact mesh_peer(const struct mesh *m, size_t i, size_t peer)
{
    struct mesh_fact x = {.cluster = m->nodes[peer].cluster};
    if (m->nodes[i].c != NULL) {
        peers_each(m->nodes[i].c->peers, mesh_take_fact, &x);
    }
    return x;
}

#endif
