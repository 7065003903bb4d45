/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A manifest file all the way: text, objects, local contribution, merge, and into the table of a data path.
 * Any fault in the text is told with a reason; whatever is taken yields only resources that decode. One
 * thread.
 */
#include "fuzz.h"

#include "manifest.h"
#include "manifest_objects.h"
#include "merge.h"
#include "xds/codec.h"

#include <peering/table.h>

static const struct manifest_config config = {
    .cluster = {"c1", 2},
    .network = {"net1", 4},
    .trust_domain = {"cluster.local", 13},
    .domain = {"cluster.local", 13},
    .system_ns = {"istio-system", 12},
    .select_workload_entries = true,
};

static void put(void *arg, struct pg_str name, struct pg_str bytes, enum peering_kind kind)
{
    peering_text why = {{0}};
    int r = peering_table_put(arg, kind, (peering_str){name.p, name.len}, bytes.p, bytes.len, &why);
    PG_BUG_ON(r < 0);
}
static void put_address(void *arg, struct pg_str name, struct pg_str version, struct pg_str bytes)
{
    (void)version;
    put(arg, name, bytes, PEERING_KIND_ADDRESS);
}
static void put_policy(void *arg, struct pg_str name, struct pg_str version, struct pg_str bytes)
{
    (void)version;
    put(arg, name, bytes, PEERING_KIND_AUTHORIZATION);
}
static void check_fed(void *arg, struct pg_str name, struct pg_str version, struct pg_str bytes)
{
    struct pg_arena a;
    struct xds_fed_service s;
    (void)arg;
    (void)name;
    (void)version;
    pg_arena_init(&a, 1u << 24);
    PG_BUG_ON(xds_fed_service_decode(bytes, &a, &s, NULL) < 0);
    pg_arena_fini(&a);
}

static void merge(const struct contrib_local *local)
{
    const struct merge_self self = {.cluster = config.cluster,
                                    .network = config.network,
                                    .trust_domain = config.trust_domain,
                                    .domain = config.domain,
                                    .system_ns = config.system_ns,
                                    .flat_enabled = true};
    struct vip_pool *vips;
    struct xds_view *node, *exported;
    struct merge_result result = {.n_globals = 0};
    struct pg_errtext err = {{0}};
    size_t problems = 0;
    peering_table *t;
    peering_snapshot *s;
    PG_BUG_ON(vip_pool_new(&vips) < 0 || xds_view_new(100000, &node) < 0 ||
              xds_view_new(100000, &exported) < 0);
    PG_BUG_ON(merge_run(&self, local, NULL, 0, vips, node, exported, &result, &problems, &err) < 0);
    PG_BUG_ON(peering_table_new(&t) < 0);
    PG_BUG_ON(xds_view_each(node, XDS_TYPE_ADDRESS, put_address, t) < 0);
    PG_BUG_ON(xds_view_each(node, XDS_TYPE_AUTHORIZATION, put_policy, t) < 0);
    PG_BUG_ON(xds_view_each(exported, XDS_TYPE_FEDERATED_SERVICE, check_fed, NULL) < 0);
    PG_BUG_ON(peering_table_snapshot(t, &s) < 0);
    peering_snapshot_unref(s);
    peering_table_free(t);
    merge_result_fini(&result);
    vip_pool_free(vips);
    xds_view_free(node);
    xds_view_free(exported);
}

static void gateways(const struct manifest *m)
{
    struct peer_config *peers = NULL;
    struct eastwest_config *own = NULL;
    size_t n = 0;
    PG_BUG_ON(manifest_peers(m, &config, &peers, &n) < 0);
    for (size_t i = 0; i < n; i++) {
        PG_BUG_ON(!peers[i].accepted && peers[i].reason[0] == '\0');
        PG_BUG_ON(!peer_config_eq(&peers[i], &peers[i]));
        peer_config_fini(&peers[i]);
    }
    pg_free(peers);
    n = 0;
    PG_BUG_ON(manifest_eastwest(m, &own, &n) < 0);
    for (size_t i = 0; i < n; i++) {
        eastwest_config_fini(&own[i]);
    }
    pg_free(own);
}

static void one(struct pg_str in)
{
    struct manifest *m;
    struct contrib_local local;
    const struct manifest_problem *problems;
    struct pg_errtext err = {{0}};
    PG_BUG_ON(manifest_new("/nonexistent/isthmus-fuzz", &m, NULL) < 0);
    PG_BUG_ON(manifest_set_text(m, "fuzz.yaml", in, &err) < 0);
    size_t n = manifest_problems(m, &problems);
    for (size_t i = 0; i < n; i++) {
        PG_BUG_ON(problems[i].reason[0] == '\0');
    }
    PG_BUG_ON(n > 0 && manifest_index(m)->n > 0);
    if (manifest_local(m, &config, &local, &err) == 0) {
        merge(&local);
        contrib_local_fini(&local);
    } else {
        PG_BUG_ON(err.text[0] == '\0');
    }
    gateways(m);
    (void)manifest_has_service_account(m, PG_STR("demo"), PG_STR("app"));
    manifest_free(m);
}
FUZZ_TARGET(one, fuzz_no_init)
