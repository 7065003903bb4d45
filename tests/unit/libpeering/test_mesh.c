/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control planes linked to each other against a model: whatever happened, once it stops happening every
 * control plane's global services are the union of what it and its linked peers export. Histories are random;
 * a failure prints the seed and the history. MESH_TEST_SEED repeats one.
 */
#include "mesh_testlib.h"

#include "core/rng.h"

#define NODES 3u
#define SERVICES 4u
#define HISTORY 8192u

struct model_service {
    bool exists, global;
    size_t pods, ready;
};
struct model_node {
    struct model_service on_disk[SERVICES];  /* what a good file would say */
    struct model_service in_force[SERVICES]; /* what the running process goes by */
    bool broken[SERVICES];                   /* the file cannot be read now */
    bool linked[NODES];
    bool up;
};
struct model {
    struct mesh mesh;
    struct model_node nodes[NODES];
    struct pg_rng rng;
    uint64_t seed;
    char history[HISTORY];
    size_t at;
};

static uint32_t pick(struct model *w, uint32_t n)
{
    return (uint32_t)pg_rng_below(&w->rng, n);
}

static void note(struct model *w, const char *what, size_t a, size_t b)
{
    if (w->at < sizeof(w->history)) {
        int n = snprintf(w->history + w->at, sizeof(w->history) - w->at, " %s(%zu,%zu)", what, a, b);
        w->at += n > 0 ? (size_t)n : 0;
    }
}

static void put_service(struct model *w, size_t i, size_t k)
{
    struct model_node *n = &w->nodes[i];
    char name[32];
    (void)snprintf(name, sizeof(name), "s%zu.yaml", k);
    n->broken[k] = false;
    if (!n->on_disk[k].exists) {
        mesh_remove(&w->mesh, w->mesh.nodes[i].cluster, name);
    } else {
        mesh_service(&w->mesh, i, k, n->on_disk[k].global, n->on_disk[k].pods, n->on_disk[k].ready);
    }
    if (n->up) {
        n->in_force[k] = n->on_disk[k];
    }
}

/* A broken file keeps its last good version, but only in the process that saw that. */
static void break_service(struct model *w, size_t i, size_t k)
{
    char name[32];
    (void)snprintf(name, sizeof(name), "s%zu.yaml", k);
    mesh_write(&w->mesh, w->mesh.nodes[i].cluster, name, "kind: [unclosed\n");
    w->nodes[i].broken[k] = true;
}

static void set_link(struct model *w, size_t i, size_t to, bool on)
{
    w->nodes[i].linked[to] = on;
    if (on) {
        mesh_link(&w->mesh, i, to);
    } else {
        mesh_unlink_peer(&w->mesh, i, to);
    }
}

static void start_node(struct model *w, size_t i)
{
    struct model_node *n = &w->nodes[i];
    mesh_start(&w->mesh, i);
    n->up = true;
    for (size_t k = 0; k < SERVICES; k++) {
        n->in_force[k] = n->broken[k] ? (struct model_service){0} : n->on_disk[k];
    }
}

static bool expected_part(const struct model *w, size_t i, size_t k, size_t from)
{
    const struct model_service *s = &w->nodes[from].in_force[k];
    return (i == from || w->nodes[i].linked[from]) && s->exists && s->global;
}

/* What control i shows of service k against the model; `why` names the first difference. */
static bool check_service(struct model *w, size_t i, size_t k, char *why, size_t cap)
{
    const struct merge_global *g = mesh_global(&w->mesh, i, k);
    for (size_t from = 0; from < NODES; from++) {
        bool want = expected_part(w, i, k, from);
        if (want != mesh_has_cluster(g, w->mesh.nodes[from].cluster)) {
            (void)snprintf(why, cap, "c%zu: s%zu of c%zu %s", i, k, from,
                           want ? "is missing" : "is too much");
            return false;
        }
        size_t healthy = 0;
        for (size_t e = 0; want && e < g->n_endpoints; e++) {
            const struct merge_endpoint *x = &g->endpoints[e];
            if (pg_str_eq_c(x->cluster, w->mesh.nodes[from].cluster) && x->healthy) {
                healthy += x->capacity;
            }
            if (x->stale && pg_str_eq_c(x->cluster, w->mesh.nodes[from].cluster)) {
                (void)snprintf(why, cap, "c%zu: s%zu of c%zu is stale", i, k, from);
                return false;
            }
        }
        if (want && healthy != w->nodes[from].in_force[k].ready) {
            (void)snprintf(why, cap, "c%zu: s%zu of c%zu has %zu healthy, wanted %zu", i, k, from, healthy,
                           w->nodes[from].in_force[k].ready);
            return false;
        }
    }
    return true;
}

static char difference[200];

static bool seen_disk(struct mesh *m, void *arg)
{
    struct model *w = arg;
    (void)m;
    for (size_t i = 0; i < NODES; i++) {
        for (size_t k = 0; k < SERVICES; k++) {
            if (!check_service(w, i, k, difference, sizeof(difference))) {
                return false;
            }
        }
    }
    return true;
}

/* All the time: nobody shows a cluster that it never linked. */
static void never_leaks(struct mesh *m, void *arg)
{
    struct model *w = arg;
    for (size_t i = 0; i < NODES; i++) {
        const struct peering_control *c = m->nodes[i].c;
        for (size_t g = 0; c != NULL && g < c->merged.n_globals; g++) {
            const struct merge_global *x = &c->merged.globals[g];
            for (size_t k = 0; k < x->n_clusters; k++) {
                if (x->clusters[k].len != 2 || x->clusters[k].p[0] != 'c' ||
                    (size_t)(x->clusters[k].p[1] - '0') >= NODES) {
                    CU_FAIL("a cluster nobody has");
                }
            }
        }
    }
    (void)w;
}

struct own_question {
    struct model *w;
    size_t i, k;
};

/* The process has read the file as it is on disk. */
static bool own_is_read(struct mesh *m, void *arg)
{
    const struct own_question *q = arg;
    const struct model_service *s = &q->w->nodes[q->i].on_disk[q->k];
    const struct peering_control *c = m->nodes[q->i].c;
    char name[32];
    size_t pods = 0, ready = 0;
    bool found = false;
    (void)snprintf(name, sizeof(name), "s%zu", q->k);
    for (size_t x = 0; x < c->local.n_services; x++) {
        const struct contrib_service *have = &c->local.services[x];
        if (pg_str_eq_c(have->svc.name, name)) {
            found = (have->scope != XDS_FED_CLUSTER) == s->global;
        }
    }
    for (size_t x = 0; x < c->local.n_workloads; x++) {
        if (pg_str_eq_c(c->local.workloads[x].w.service_account, name)) {
            pods++;
            ready += c->local.workloads[x].w.health == XDS_HEALTHY ? 1 : 0;
        }
    }
    return found && pods == s->pods && ready == s->ready;
}

static void one_event(struct model *w)
{
    size_t i = pick(w, NODES);
    size_t k = pick(w, SERVICES);
    size_t to = (i + 1 + pick(w, NODES - 1)) % NODES;
    struct model_service *s = &w->nodes[i].on_disk[k];
    switch (pick(w, 9)) {
    case 0:
        s->exists = !s->exists;
        *s = s->exists ? (struct model_service){true, pick(w, 2) != 0, 1 + pick(w, 3), 0} : *s;
        s->ready = s->exists ? pick(w, (uint32_t)s->pods + 1) : 0;
        note(w, "exists", i, k);
        put_service(w, i, k);
        break;
    case 1:
    case 2:
        s->global = !s->global;
        note(w, "label", i, k);
        put_service(w, i, k);
        break;
    case 3:
    case 4:
        s->ready = s->exists ? pick(w, (uint32_t)s->pods + 1) : 0;
        note(w, "ready", i, k);
        put_service(w, i, k);
        break;
    case 5:
        note(w, "break", i, k);
        if (w->nodes[i].up && s->exists) {
            /* Its good version must have been seen, or there is none to keep. */
            struct own_question q = {w, i, k};
            if (mesh_until(&w->mesh, own_is_read, &q)) {
                break_service(w, i, k);
            }
        }
        break;
    case 6:
        note(w, w->nodes[i].linked[to] ? "unlink" : "link", i, to);
        set_link(w, i, to, !w->nodes[i].linked[to]);
        break;
    case 7:
        note(w, w->nodes[i].up ? "stop" : "start", i, 0);
        if (w->nodes[i].up) {
            mesh_stop(&w->mesh, i);
            w->nodes[i].up = false;
        } else {
            start_node(w, i);
        }
        break;
    default: {
        uint32_t turns = pick(w, 60);
        note(w, "turns", turns, 0);
        for (uint32_t t = 0; t < turns; t++) {
            mesh_turn(&w->mesh);
        }
        break;
    }
    }
}

static bool settle(struct model *w)
{
    for (size_t i = 0; i < NODES; i++) {
        if (!w->nodes[i].up) {
            start_node(w, i);
        }
        peers_reconnect(w->mesh.nodes[i].c->peers); /* no waiting for back-off */
    }
    note(w, "settle", 0, 0);
    if (!mesh_until(&w->mesh, seen_disk, w)) {
        (void)fprintf(stderr, "MESH_TEST_SEED=%llu: %s\n%s\n", (unsigned long long)w->seed, difference,
                      w->history);
        CU_FAIL("the tables do not come to what the model says");
        return false;
    }
    return true;
}

static void run_history(uint64_t seed, size_t events, size_t rounds)
{
    struct model *w = pg_calloc(1, sizeof(*w));
    CU_ASSERT_PTR_NOT_NULL_FATAL(w);
    w->seed = seed;
    pg_rng_seed(&w->rng, seed);
    mesh_make(&w->mesh);
    w->mesh.always = never_leaks;
    w->mesh.arg = w;
    for (size_t i = 0; i < NODES; i++) {
        start_node(w, i); /* once, so that every port is known */
    }
    for (size_t i = 0; i < NODES; i++) {
        for (size_t j = 0; j < NODES; j++) {
            if (i != j) {
                set_link(w, i, j, true);
            }
        }
    }
    bool ok = true;
    for (size_t r = 0; ok && r < rounds; r++) {
        for (size_t e = 0; e < events; e++) {
            one_event(w);
        }
        ok = settle(w);
    }
    mesh_fini(&w->mesh);
    pg_free(w);
}

static void test_random_history(void)
{
    const char *given = getenv("MESH_TEST_SEED");
    size_t before = pg_mem_live_blocks();
    if (given != NULL) {
        uint64_t seed = 0;
        CU_ASSERT_EQUAL_FATAL(pg_str_u64(pg_str_c(given), UINT64_MAX, &seed), 0);
        run_history(seed, 40, 4);
        return;
    }
    for (uint64_t seed = 1; seed <= 2; seed++) {
        run_history(seed, 40, 4);
    }
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), before);
}

TEST_MAIN("mesh", {"random history", test_random_history})
