/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots between threads: one writer changes and publishes, readers take, read and drop, the last
 * reference dies on any of them. Meant for ThreadSanitizer; under any build it checks that what a reader sees
 * is one consistent generation.
 */
#include "kit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sched.h>

#include <peering/dns.h>
#include <peering/policy.h>
#include <peering/route.h>

#define READERS 3
#define ROUNDS 400

struct shared {
    pthread_mutex_t lock;
    peering_snapshot *current;
    atomic_bool done;
    atomic_size_t reads;
    atomic_size_t bad;
};

static peering_snapshot *take(struct shared *x)
{
    pthread_mutex_lock(&x->lock);
    peering_snapshot *s = x->current != NULL ? peering_snapshot_ref(x->current) : NULL;
    pthread_mutex_unlock(&x->lock);
    return s;
}

static void publish(struct shared *x, peering_snapshot *s)
{
    pthread_mutex_lock(&x->lock);
    peering_snapshot *old = x->current;
    x->current = s;
    pthread_mutex_unlock(&x->lock);
    peering_snapshot_unref(old);
}

/* All pods of a generation carry its number as capacity. */
static bool is_consistent(const peering_snapshot *s)
{
    const peering_service *v = peering_find_service(s, ps("ns1"), ps("s.example"));
    const peering_workload *const *e;
    size_t n = v != NULL ? peering_service_endpoints(v, &e) : 0;
    for (size_t i = 0; i < n; i++) {
        if (peering_workload_capacity(e[i]) != peering_workload_capacity(e[0])) {
            return false;
        }
    }
    if (n == 0) {
        return true;
    }
    peering_route r;
    peering_route_query q = {.source = e[0],
                             .network = ps(""),
                             .client_ip = kit_ip("10.0.0.0"),
                             .dst_ip = kit_ip("10.1.0.1"),
                             .dst_port = 80};
    bool ok = peering_route_decide(s, &q, &r) == 0 && r.kind == PEERING_ROUTE_HBONE && r.candidates == n;
    peering_route_fini(&r);
    return ok;
}

static void *reader(void *arg)
{
    struct shared *x = arg;
    while (!atomic_load(&x->done)) {
        peering_snapshot *s = take(x);
        if (s != NULL) {
            atomic_fetch_add(&x->bad, is_consistent(s) ? 0 : 1);
            atomic_fetch_add(&x->reads, 1);
            peering_snapshot_unref(s);
        }
        sched_yield();
    }
    return NULL;
}

static int put_generation(peering_table *t, uint32_t generation)
{
    int r = 0;
    for (unsigned i = 0; r == 0 && i < 8; i++) {
        char name[8], ip[16];
        snprintf(name, sizeof(name), "p%u", i);
        snprintf(ip, sizeof(ip), "10.0.0.%u", i);
        r = kit_workload(t, &(struct kit_workload){.name = name,
                                                   .ips = ip,
                                                   .services = "ns1/s.example=80:8080",
                                                   .has_capacity = true,
                                                   .capacity = generation});
    }
    return r;
}

static void test_readers(void)
{
    struct shared x = {.current = NULL};
    pthread_t threads[READERS];
    peering_table *t = kit_table();
    pthread_mutex_init(&x.lock, NULL);
    SV(t, .name = "s", .hostname = "s.example", .vips = "/10.1.0.1", .ports = "80:8080");
    for (size_t i = 0; i < READERS; i++) {
        CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, reader, &x), 0);
    }
    uint32_t generation = 1;
    while (generation <= ROUNDS || atomic_load(&x.reads) < ROUNDS) {
        CU_ASSERT_EQUAL(put_generation(t, generation), 0);
        publish(&x, kit_snapshot(t));
        generation++;
    }
    peering_table_free(t); /* snapshots outlive it */
    size_t reads = atomic_load(&x.reads);
    while (atomic_load(&x.reads) < reads + 10) {
        sched_yield();
    }
    atomic_store(&x.done, true);
    for (size_t i = 0; i < READERS; i++) {
        CU_ASSERT_EQUAL(pthread_join(threads[i], NULL), 0);
    }
    publish(&x, NULL);
    pthread_mutex_destroy(&x.lock);
    CU_ASSERT_EQUAL(atomic_load(&x.bad), 0);
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), 0);
}

TEST_MAIN("snapshot threads", {"readers and a writer", test_readers})
